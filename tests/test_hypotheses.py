"""Each hypothesis fires on its own planted cause, stays quiet on the others', and says when it
cannot tell.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated import make_domain
from diagnostics.comparison import Comparison
from diagnostics.counterfactuals import Recovery, Redrawn, SizeMatch
from diagnostics.domain import Domain
from diagnostics.embedding_shift import box_shift
from diagnostics.evidence import Assessment, Evidence, Threshold
from diagnostics.findings import find
from diagnostics.gather import gather
from diagnostics.hypotheses import HYPOTHESES, Verdict, assess, diagnose, scale, threshold
from diagnostics.inputs import Experiments, Inputs, Interventions
from diagnostics.intervals import Interval
from diagnostics.label_free import _describe
from diagnostics.matching import Detections
from diagnostics.point_measures import PointMeasures, Reviewed, drop_by_points
from diagnostics.shift import Shift, is_alike, is_shifted
from diagnostics.training_curve import CheckpointResult
from reports.page.headline import domain_verdict
from reports.page.hypotheses import hypothesis_row, hypothesis_rows

RISEN = pd.DataFrame(
    {
        "epoch": range(1, 21),
        "ap50": np.r_[
            np.linspace(0.05, 0.75, 10), [0.76, 0.75, 0.77, 0.76, 0.76, 0.77, 0.76, 0.77, 0.76, 0.77]
        ],
    }
)
RISING = pd.DataFrame({"epoch": range(1, 7), "ap50": [0.02, 0.05, 0.09, 0.13, 0.17, 0.21]})
TURNED = RISEN.assign(val_box_loss=np.r_[np.linspace(3, 1, 6), np.linspace(1.1, 2.5, 14)])
NO_HELP = {
    name: Recovery(name, 0.3, 0.3, 0.0, -0.05, 0.05, 60, factor)
    for name, factor in (("imgsz 1280", 2.0), ("imgsz 320", 0.5), ("colours", 1.0))
}


def experiments_with(recoveries: dict[str, Recovery], *names: str) -> Experiments:
    """What interventions on real-world domains gave; without names, on `real_world`."""
    return Experiments(interventions={name: Interventions(recoveries) for name in names or ("overhead",)})


def evidence_of(inputs: Inputs) -> Evidence:
    """The evidence about the only domain."""
    (evidence,) = gather(inputs).values()
    return evidence


def verdict_on(in_domain, real_world, *, training=None, history=RISEN, recoveries=None, seed=0) -> Verdict:
    experiments = experiments_with(recoveries or {}, *(domain.name for domain in real_world))
    return find(Inputs(in_domain, real_world, training, history, experiments, conf=None, seed=seed)).verdict


def training_like(**options):
    return make_domain("training", role="training", clips=12, clip_names="t", seed=77, **options)


def real_world(**options):
    return make_domain(
        "overhead", **{"role": "real_world", "clips": 12, "clip_names": "w", "seed": 5, **options}
    )


def in_domain(**options):
    return make_domain("in_domain", **{"clips": 12, "seed": 1, **options})


def status(verdict: Verdict) -> dict[str, str]:
    return {h.code: h.status for h in verdict.hypotheses}


@pytest.mark.parametrize("seed", range(3))
def test_nothing_wrong(seed: int) -> None:
    verdict = verdict_on(
        in_domain(clips=40, seed=seed), [real_world(clips=40, seed=50 + seed)], training=training_like()
    )
    assert status(verdict)["none"] != "rejected"
    assert verdict.primary in (None, "none")


@pytest.mark.parametrize("seed", range(3))
def test_domain_shift(seed: int) -> None:
    shifted = real_world(
        seed=10 + seed, recall=0.2, embedding_shift=6.0, statistics={"texture_gradient": -1.0}
    )
    verdict = verdict_on(in_domain(seed=seed), [shifted], training=training_like(), recoveries=NO_HELP)
    assert verdict.primary == "domain_shift"
    assert verdict.named("domain_shift").kind == "viewpoint"
    found = status(verdict)
    assert [code for code, s in found.items() if s == "supported"] == ["domain_shift"]
    for code in ("underfit", "overfit", "threshold", "scale", "leakage", "none"):
        assert found[code] == "rejected", code
    for code in ("underfit", "overfit", "threshold", "scale"):
        assert any(character.isdigit() for character in verdict.named(code).statement), (
            "a verdict without a number"
        )


def test_a_shift_without_a_drop_is_rejected() -> None:
    verdict = verdict_on(
        in_domain(clips=40),
        [real_world(clips=40, embedding_shift=6.0, statistics={"saturation": 0.9})],
        training=training_like(),
    )
    found = verdict.named("domain_shift")
    assert found.status == "rejected"
    assert "harmlessly" in found.statement


def test_threshold() -> None:
    """The same ranking at lower confidence: the threshold from home finds nothing in the real world, another
    finds it all.
    """
    low = real_world(recall=0.8)
    squeezed = low.detections.assign(confidence=low.detections["confidence"] ** 4 * 0.2)
    verdict = verdict_on(in_domain(), [replace(low, detections=squeezed)], training=training_like())
    assert verdict.primary == "threshold"


HELPED = NO_HELP | {"imgsz 1280": Recovery("imgsz 1280", 0.2, 0.65, 0.85, 0.7, 0.95, 60, 2.0)}


def test_scale_by_experiment() -> None:
    small = real_world(recall=0.2, sides=(7, 24))
    verdict = verdict_on(in_domain(), [small], training=training_like(), recoveries=HELPED)
    assert verdict.primary == "scale"
    assert status(verdict)["domain_shift"] != "supported"


def test_sizes_alone_are_no_proof_where_another_size_does_not_help() -> None:
    """Small objects are missed in-domain too, as object size explains; enlarged they are not found either."""
    matched = SizeMatch(
        in_domain_recall=0.6, matched_recall=0.3, real_world_recall=0.05, support=0.7, share=0.55
    )

    def judged(recoveries: dict[str, Recovery]) -> Assessment:
        gathered = evidence_of(
            Inputs(
                in_domain(),
                [real_world(recall=0.2, sides=(7, 24))],
                None,
                RISEN,
                experiments_with(recoveries),
                conf=None,
                seed=0,
            )
        )
        return scale.assess(replace(gathered, size=matched))

    # Re-weighted alone, it is what size explains at most: half of that is expected.
    bound = judged({})
    assert (bound.status, bound.score) == ("inconclusive", pytest.approx(0.275))
    assert "at most 55 %" in bound.statement
    assert "give the weights" in bound.missing
    assert judged(HELPED).status == "supported"
    # An experiment outranks a re-weighting: shown larger, the objects are not detected either.
    found = judged(NO_HELP)
    assert found.status == "rejected"
    assert "recover 0 %" in found.statement


@pytest.mark.slow
def test_more_epochs_are_rejected_where_in_domain_gains_did_not_carry_over() -> None:
    steep = RISEN.assign(ap50=np.linspace(0.1, 0.75, 20))
    shifted = real_world(recall=0.1, embedding_shift=6.0, statistics={"texture_gradient": -1.0})
    arguments = {"conf": None, "seed": 0}
    half = in_domain(recall=0.6)
    rising = find(Inputs(half, [shifted], training_like(), steep, experiments_with(NO_HELP), **arguments))
    assert status(rising.verdict)["underfit"] == "supported"

    def stand(
        epoch: int, domain: str, ap50: float, against: tuple[float, float, float] | None
    ) -> CheckpointResult:
        test = None
        if against is not None:
            last, low, high = against
            test = Comparison(last, ap50, last - ap50, Interval(low, high, 12), 0.001)
        return CheckpointResult(epoch, domain, "", 60, 100, ap50, None, None, 1.0, 1.0, None, test)

    for (low, high), expected in (
        ((-0.02, 0.02), "rejected"),
        ((0.2, 0.5), "supported"),
        ((-0.1, 0.4), "inconclusive"),
    ):
        gained = (low + high) / 2
        checkpoint_results = (
            stand(5, "in_domain", 0.3, (0.75, 0.4, 0.5)),
            stand(5, "overhead", 0.1, (0.1 + gained, low, high)),
            stand(20, "in_domain", 0.75, None),
            stand(20, "overhead", 0.1 + gained, None),
        )
        found = find(
            Inputs(
                half,
                [shifted],
                training_like(),
                steep,
                experiments_with(NO_HELP),
                checkpoint_results=checkpoint_results,
                **arguments,
            )
        )
        assert status(found.verdict)["underfit"] == expected, (low, high)
        assert found.evidence.carried is not None
        assert found.evidence.carried.share == pytest.approx(gained / 0.45)


def test_enlarging_what_is_not_small_is_no_evidence_for_size() -> None:
    alike = real_world(recall=0.2, sides=(20, 60), embedding_shift=6.0, statistics={"texture_gradient": -1.0})
    verdict = verdict_on(in_domain(), [alike], training=training_like(), recoveries=HELPED)
    assert verdict.primary == "domain_shift"
    scale = verdict.named("scale")
    assert scale.status == "rejected"
    assert any("further from the in-domain ones" in observation.text for observation in scale.observations)


def test_labels_drawn_by_another_rule() -> None:
    verdict = verdict_on(
        in_domain(), [real_world(label_margin=1.8)], training=training_like(), recoveries=NO_HELP
    )
    assert verdict.primary == "label_protocol"


def test_underfit_by_its_own_training_images() -> None:
    weak = {"recall": 0.2}
    verdict = verdict_on(
        in_domain(**weak), [real_world(**weak)], training=training_like(**weak), history=RISING
    )
    assert verdict.primary == "underfit"
    one = verdict_on(
        in_domain(**weak), [real_world(**weak)], training=training_like(**weak), history=RISING.head(1)
    )
    assert one.primary == "underfit"


def test_overfit() -> None:
    verdict = verdict_on(
        in_domain(recall=0.5),
        [real_world(recall=0.5)],
        training=training_like(recall=1.0),
        history=TURNED,
    )
    assert status(verdict)["overfit"] == "supported"


def test_leakage() -> None:
    training = training_like()
    inflated = in_domain()
    images = inflated.images.copy()
    copies = len(images) * 2 // 3
    images.loc[: copies - 1, "fingerprint"] = training.images["fingerprint"].iloc[:copies].to_numpy()
    # What was not copied is hardly found.
    rest = set(images["image"].iloc[copies:])
    rng = np.random.default_rng(0)
    keep = ~inflated.detections["image"].isin(rest) | (rng.random(len(inflated.detections)) < 0.15)
    leaky = replace(
        inflated,
        images=images,
        detections=inflated.detections[keep].reset_index(drop=True),
        detection_embeddings=inflated.detection_embeddings[keep.to_numpy()],
    )
    verdict = verdict_on(leaky, [real_world(recall=0.12)], training=training, recoveries=NO_HELP)
    assert status(verdict)["leakage"] == "supported"
    assert (
        status(verdict_on(in_domain(), [real_world(recall=0.2)], training=training))["leakage"] == "rejected"
    )


def test_without_labels_nothing_is_supported() -> None:
    verdict = verdict_on(
        in_domain(), [real_world(labelled=False, embedding_shift=6.0)], training=training_like()
    )
    assert verdict.primary is None
    shift = verdict.named("domain_shift")
    assert shift.status == "untested"
    assert "differs from the training images" in shift.statement
    assert "label 25 to 50 real-world frames" in shift.missing
    assert {h.code for h in verdict.hypotheses if h.status in ("untested", "inconclusive")} >= {
        "none",
        "threshold",
        "scale",
        "label_protocol",
    }


def test_too_few_annotations_are_not_called_none() -> None:
    domain = real_world(embedding_shift=6.0)
    few = replace(domain, annotations=domain.annotations.head(27).reset_index(drop=True))
    findings = find(Inputs(in_domain(), [few], training_like(), RISEN, Experiments(), conf=None, seed=0))
    (name,) = findings.verdicts
    verdict = findings.verdicts[name]
    assert "cannot be measured with 27 annotations" in verdict.named("domain_shift").statement
    assert f"{name} has 27 of the 30 annotations" in verdict.named("domain_shift").missing
    for code in ("threshold", "scale", "label_protocol", "label_error", "none"):
        hypothesis = verdict.named(code)
        assert "labels of the same classes" not in hypothesis.statement
    assert f"at least 30 annotations; {name} has 27." in verdict.named("threshold").statement
    # What all of them wait for is told once.
    rows = hypothesis_rows(verdict, leads=True)
    others = hypothesis_rows(verdict, leads=False)
    assert [row["word"] for row in others] == [row["word"] for row in rows]
    assert "likely, not tested" in [row["word"] for row in rows]
    assert not any(row["primary"] for row in others)
    asked = [row["missing"] for row in rows if row["missing"]]
    assert sum("annotations that AP50 needs" in words for words in asked) == 1
    assert sum(words.startswith("the same as for “") for words in asked) >= 4
    head = domain_verdict(findings, name)
    assert "Label more images" in head["step"]
    # Nothing to copy contradicts it.
    assert head["command"] == ""


def test_in_domain_labels_are_asked_for_where_they_are_missing() -> None:
    domain = in_domain()
    bare = replace(
        domain, annotations=domain.annotations.head(0), images=domain.images.assign(labelled=False)
    )
    findings = find(Inputs(bare, [real_world()], training_like(), RISEN, Experiments(), conf=None, seed=0))
    (name,) = findings.verdicts
    assert domain_verdict(findings, name)["step"].startswith(
        "Give in-domain images with labels (--in-domain;"
    )


def test_one_labelled_video_is_enough_for_a_verdict_about_that_video() -> None:
    findings = find(
        Inputs(
            in_domain(),
            [real_world(clips=1, frames=30, recall=0.2, embedding_shift=6.0)],
            training_like(),
            RISEN,
            Experiments(),
            conf=None,
            seed=0,
        )
    )
    bounds = findings.evidence.gap_interval
    assert bounds.low is not None
    assert 0 < bounds.low < findings.evidence.gap < bounds.high
    words = domain_verdict(findings, "overhead")
    assert "for this recording (others may differ)" in words["sure"]
    assert words["cause"].lower().removeprefix("likely: ").startswith("domain shift")


def test_one_unlabelled_video_is_not_asked_for_other_clips() -> None:
    video = real_world(clips=1, frames=30, recall=0.2, embedding_shift=6.0, labelled=False)
    findings = find(Inputs(in_domain(), [video], training_like(), RISEN, Experiments(), conf=None, seed=0))
    words = domain_verdict(findings, "overhead")
    assert "spread over this recording" in words["step"]
    assert "5 clips" not in " ".join(h.missing for h in findings.verdict.hypotheses)


def test_without_embeddings_shift_stays_open() -> None:
    def blind(domain):
        return replace(
            domain,
            image_embeddings=np.zeros((len(domain.images), 0)),
            detection_embeddings=np.zeros((len(domain.detections), 0)),
        )

    verdict = verdict_on(blind(in_domain()), [blind(real_world(recall=0.2))], history=pd.DataFrame())
    assert verdict.named("domain_shift").status == "untested"
    assert verdict.named("domain_shift").missing == "give the weights"


def test_too_few_clips_for_a_null_is_open_and_not_cleared() -> None:
    verdict = verdict_on(
        in_domain(clips=2, frames=20), [real_world(clips=1, frames=30, recall=0.2, embedding_shift=8.0)]
    )
    shift = verdict.named("domain_shift")
    assert shift.status == "untested"
    assert "too few clips" in shift.statement


def test_a_silent_detector_is_not_reported_as_missing_embeddings() -> None:
    silent = real_world(recall=0.0, false_positive_rate=0.0)
    assert (
        "not at hand"
        not in verdict_on(in_domain(), [silent], training=training_like()).named("domain_shift").statement
    )


def test_a_few_labels_are_few_labels() -> None:
    findings = find(
        Inputs(
            in_domain(),
            [real_world(clips=1, frames=6)],
            training_like(),
            RISEN,
            Experiments(),
            conf=None,
            seed=0,
        )
    )
    assert findings.evidence.real_world is None
    assert "overhead" not in findings.evidence.intervals
    assert "11 of the 30 annotations that AP50 needs" in findings.verdict.named("none").missing


def test_shared_file_names_alone_do_not_support_leakage() -> None:
    """pothole1.jpg in training and pothole2.jpg in validation share a name, which may be all they share."""
    training = training_like()
    assert (
        status(verdict_on(in_domain(clip_names="t"), [real_world(recall=0.2)], training=training))["leakage"]
        == "inconclusive"
    )


def test_copies_in_unsampled_training_images_are_estimated() -> None:
    training, mine = training_like(), in_domain()
    images = mine.images.copy()
    images.loc[:0, "fingerprint"] = training.images["fingerprint"].iloc[:1].to_numpy()
    one_copy = replace(mine, images=images)
    seen = find(Inputs(one_copy, [real_world()], training, RISEN, Experiments(), conf=None, seed=0)).verdict
    sampled = find(
        Inputs(
            one_copy, [real_world()], training, RISEN, Experiments(), conf=None, seed=0, training_total=3000
        )
    ).verdict
    assert seen.named("leakage").status == "rejected"
    assert sampled.named("leakage").status != "rejected"


def test_predictions_from_elsewhere_beside_a_run() -> None:
    """Images have embeddings, boxes of the other detector have none."""
    foreign = real_world(recall=0.2, embedding_shift=6.0)
    foreign = replace(foreign, detection_embeddings=np.zeros((len(foreign.detections), 0)))
    findings = find(
        Inputs(in_domain(), [foreign], training_like(), RISEN, experiments_with(NO_HELP), conf=None, seed=0)
    )
    assert findings.verdict.primary == "domain_shift"
    assert findings.evidence.shift_detections["overhead"].mmd is None


def test_partly_labelled_footage_is_not_half_empty() -> None:
    part = real_world(clips=10)
    labelled = part.images["group"].isin(["w0", "w1", "w2", "w3", "w4", "w5"])
    boxes = part.annotations[part.annotations["image"].isin(part.images.loc[labelled, "image"])].reset_index(
        drop=True
    )
    part = replace(part, images=part.images.assign(labelled=labelled), annotations=boxes)
    table = (
        find(Inputs(in_domain(), [part], None, RISEN, Experiments(), conf=None, seed=0))
        .evidence.factors["overhead"]
        .set_index("name")
    )
    assert table.loc["density", "effect"] < 0.5


def test_background_only_domain_still_makes_figures() -> None:
    from reports.page.figures import sweep as draw

    empty = real_world()
    empty = replace(empty, annotations=empty.annotations.head(0))
    findings = find(Inputs(in_domain(), [empty], None, RISEN, Experiments(), conf=None, seed=0))
    curves = pd.concat([t.assign(domain=name) for name, t in findings.sweeps.items()])
    assert draw("alt", curves, {"in_domain": "#000000", "overhead": "#ff0000"}, 0.5).startswith("<svg")


def published(**ap50: float) -> Evidence:
    """What a blog post gives: a learning curve and two numbers."""
    base = find(Inputs(in_domain(), [], None, RISEN, Experiments(), conf=None, seed=0)).evidence
    return replace(
        base,
        ap50=ap50,
        max_recall={},
        loose={},
        intervals={},
        in_domain="in_domain",
        real_world="overhead" if "overhead" in ap50 else None,
    )


def test_every_hypothesis_is_defined_on_bare_evidence() -> None:
    for evidence in (published(), published(in_domain=0.75), published(in_domain=0.75, overhead=0.036)):
        for hypothesis in HYPOTHESES:
            answer = assess(hypothesis, evidence)
            assert answer.statement.endswith(".")
            assert answer.status not in ("untested", "inconclusive") or answer.missing
            assert (answer.score is None) == (answer.status == "untested")


def test_codes_are_those_of_the_contract() -> None:
    assert {hypothesis.CODE for hypothesis in HYPOTHESES} == {
        "none",
        "underfit",
        "overfit",
        "threshold",
        "scale",
        "label_protocol",
        "label_error",
        "leakage",
        "domain_shift",
    }


def test_supported_hypotheses_come_first() -> None:
    order = [h.status for h in diagnose(published(in_domain=0.75, overhead=0.036)).hypotheses]
    assert order == sorted(order, key=["supported", "inconclusive", "untested", "rejected"].index)


def test_detections_beyond_the_limit_are_ignored_everywhere() -> None:
    crowded = make_domain(
        images=[
            (
                [[0, 0, 50, 50]],
                [([0, 0, 50, 50], 0.9)] + [([100, 100, 150, 150], 0.1 + i * 1e-4) for i in range(150)],
            )
        ]
    )
    assert isinstance(crowded.detection_arrays, Detections)
    assert len(crowded.outcomes) == 100


def test_an_experiment_that_failed_leaves_the_drop_to_the_shift() -> None:
    """Re-weighting by size claims half of the drop, showing the images larger recovers none of it."""
    matched = SizeMatch(
        in_domain_recall=0.6, matched_recall=0.3, real_world_recall=0.05, support=0.7, share=0.52
    )
    small = real_world(recall=0.2, sides=(7, 24), embedding_shift=6.0)
    inputs = Inputs(
        in_domain(), [small], training_like(), RISEN, experiments_with(NO_HELP), conf=None, seed=0
    )
    verdict = diagnose(replace(evidence_of(inputs), size=matched))
    assert status(verdict)["scale"] == "rejected"
    assert verdict.primary == "domain_shift"
    assert verdict.named("domain_shift").score > 0.9


def test_redrawing_that_recovers_much_is_no_evidence_against_other_labels() -> None:
    """Circles turned into boxes: no stretching mends them all, and yet it takes AP50 from .07 to .29."""
    inputs = Inputs(
        in_domain(), [real_world(recall=0.3, embedding_shift=6.0)], training_like(), RISEN,
        experiments_with(NO_HELP), conf=None, seed=0,
    )  # fmt: skip
    measured = evidence_of(inputs)
    circles = replace(
        measured,
        ap50=measured.ap50 | {"overhead": 0.07, "in_domain": 0.6},
        loose=measured.loose | {"overhead": 0.55, "in_domain": 0.62},
        redrawn=Redrawn(before=0.07, after=0.29, width=0.7, height=1.3, pairs=80),
    )
    verdict = diagnose(circles)
    protocol = verdict.named("label_protocol")
    assert protocol.status == "supported"
    assert not [o for o in protocol.observations if o.favours is False]
    assert verdict.primary == "label_protocol"
    # Sloppy boxes of an unfamiliar view: near the objects, and no single factor mends them.
    sloppy = replace(circles, redrawn=Redrawn(before=0.07, after=0.12, width=1.0, height=1.0, pairs=80))
    assert status(diagnose(sloppy))["label_protocol"] == "rejected"


@pytest.mark.parametrize(
    ("recovered", "kind"), [(0.8, "appearance"), (-0.1, "viewpoint")], ids=["colours help", "colours harm"]
)
def test_the_kind_of_a_shift_follows_what_interventions_recovered(recovered: float, kind: str) -> None:
    """Colours differ most, which says nothing where matching them does not help."""
    shifted = real_world(
        recall=0.1, embedding_shift=6.0, statistics={"brightness": -3.0, "texture_gradient": -1.0}
    )
    gain = Recovery("colours", 0.1, 0.1 + recovered * 0.5, recovered, recovered - 0.1, recovered + 0.1, 60)
    inputs = Inputs(
        in_domain(),
        [shifted],
        training_like(),
        RISEN,
        experiments_with(NO_HELP | {"colours": gain}),
        conf=None,
        seed=0,
    )
    findings = find(inputs)
    shift = findings.verdict.named("domain_shift")
    assert (shift.status, shift.kind) == ("supported", kind)
    # The advice begins with what recovered the drop, and does not name what recovered nothing.
    words = domain_verdict(findings, "overhead")
    # A kind that no experiment shows has a doubt of its own.
    assert ("no experiment shows it" in words["sure"]) == (recovered < 0)
    step = words["step"]
    assert step.startswith("Match brightness and colours") == (recovered > 0)
    assert ("those colours" in step) == (recovered > 0)


def test_every_domain_has_its_own_verdict() -> None:
    """One domain fails, one does not, and one has no labels."""
    fails = real_world(recall=0.1, embedding_shift=6.0, statistics={"texture_gradient": -1.0})
    works = replace(real_world(recall=0.8, seed=9, clip_names="h"), name="harmless")
    bare = real_world(recall=0.1, embedding_shift=6.0, seed=11, clip_names="b")
    bare = replace(
        bare,
        name="video",
        images=bare.images.assign(labelled=False),
        annotations=bare.annotations.head(0),
    )
    findings = find(
        Inputs(
            in_domain(clips=30), [works, bare, fails], training_like(), RISEN,
            experiments_with(NO_HELP, "overhead"), conf=None, seed=0,
        )
    )  # fmt: skip
    assert findings.focus == "overhead"
    assert list(findings.verdicts) == ["harmless", "video", "overhead"]
    assert findings.verdicts["overhead"].leading == "domain_shift"
    assert findings.verdicts["harmless"].leading != "domain_shift"
    video = findings.verdicts["video"]
    assert (video.primary, video.grade, video.leading) == (None, "likely", "domain_shift")
    words = {name: domain_verdict(findings, name) for name in findings.verdicts}
    assert words["video"]["cause"].startswith("Likely: domain shift")
    assert words["video"]["step"].startswith("Run shiftscope review --domain video")
    assert words["overhead"]["cause"].removeprefix("Likely: ").lower().startswith("domain shift")
    assert len({w["statement"] for w in words.values()}) == 3


def test_training_images_given_as_the_real_world_are_named_and_left_out() -> None:
    training = training_like()
    alike = real_world(recall=0.8, clip_names="r")
    prints = alike.images["fingerprint"].tolist()
    prints[: len(prints) * 3 // 4] = training.images["fingerprint"].tolist()[: len(prints) * 3 // 4]
    copied = replace(alike, images=alike.images.assign(fingerprint=prints))
    findings = find(Inputs(in_domain(), [copied], training, RISEN, Experiments(), conf=None, seed=0))
    copies = findings.evidence.copies["overhead"]
    assert copies.images == len(prints) * 3 // 4
    assert copies.ap50 is not None
    assert findings.verdict.primary == "leakage"
    statement = findings.verdict.named("leakage").statement
    assert f"{copies.images} of {len(prints)} images of overhead are training images" in statement
    # A few of them change no score, but are named beside what the validation images show.
    few = alike.images["fingerprint"].tolist()
    few[:5] = training.images["fingerprint"].tolist()[:5]
    some = replace(alike, images=alike.images.assign(fingerprint=few))
    other = find(Inputs(in_domain(), [some], training, RISEN, Experiments(), conf=None, seed=0)).verdict
    leakage = other.named("leakage")
    assert leakage.status == "rejected"
    assert leakage.observations[0].text.startswith(f"5 of {len(few)} images of overhead")
    # None of the copies is worth labelling again.
    known = set(copied.images["image"][copies.mask])
    assert len(findings.next)
    assert not known & set(findings.next["image"])


def test_a_hard_task_is_not_undertrained() -> None:
    """A finished COCO detector has AP50 near .47 on cars: without its training images nobody knows why."""
    inputs = Inputs(
        in_domain(recall=0.55), [real_world(recall=0.1, embedding_shift=6.0)], None, pd.DataFrame(),
        experiments_with(NO_HELP), conf=None, seed=0,
    )  # fmt: skip
    measured = evidence_of(inputs)

    def undertrained(in_domain_ap50: float) -> tuple[str, str | None]:
        at = replace(measured, ap50=measured.ap50 | {"in_domain": in_domain_ap50, "overhead": 0.01})
        verdict = diagnose(at)
        return status(verdict)["underfit"], verdict.leading

    assert undertrained(0.47) == ("inconclusive", "domain_shift")
    assert undertrained(0.1) == ("supported", "underfit")


def test_a_difference_that_is_not_resolved_says_so() -> None:
    """AP50 of .60 and .52, and an interval of the drop that holds 0: not "it differs, but harmlessly"."""
    inputs = Inputs(
        in_domain(), [real_world(recall=0.68, embedding_shift=6.0)], training_like(), RISEN, Experiments(),
        conf=None, seed=0,
    )  # fmt: skip
    findings = find(inputs)
    close = replace(
        findings.evidence,
        ap50={"in_domain": 0.60, "overhead": 0.52, "training": 0.62},
        gap_interval=Interval(-0.06, 0.2, 12),
        threshold=None,
    )
    verdict = diagnose(close)
    assert status(verdict)["none"] == "inconclusive"
    assert (verdict.grade, verdict.leading) == ("undecided", None)
    assert verdict.hypotheses[0].code == "none"
    for code in ("domain_shift", "scale", "label_protocol", "label_error"):
        assert verdict.named(code).status == "untested"
        assert "is not resolved: 8 points, 95 % interval [-6, 20]" in verdict.named(code).statement
    findings = replace(findings, evidences={"overhead": close}, verdicts={"overhead": verdict})
    words = domain_verdict(findings, "overhead")
    assert words["cause"] == "Cause undecided"
    assert words["statement"].startswith("The difference is not resolved")
    assert words["step"].startswith("Label more clips")


def copied_from(training: Domain, domain: Domain, number: int) -> Domain:
    """The domain with its first images near-copies of training images."""
    prints = domain.images["fingerprint"].tolist()
    prints[:number] = training.images["fingerprint"].tolist()[:number]
    return replace(domain, images=domain.images.assign(fingerprint=prints))


def test_a_few_copies_in_a_barely_labelled_domain_are_no_cause() -> None:
    training, full = training_like(), real_world(recall=0.2, embedding_shift=6.0)
    some = full.images["image"].isin(full.images["image"].head(8))
    bare = replace(
        full,
        images=full.images.assign(labelled=some),
        annotations=full.annotations[full.annotations["image"].isin(full.images["image"][some])],
    )
    inputs = Inputs(
        in_domain(), [copied_from(training, bare, 3)], training, RISEN, Experiments(), conf=None, seed=0
    )
    verdict = diagnose(evidence_of(inputs))
    assert status(verdict)["leakage"] == "rejected"
    assert verdict.leading == "domain_shift"


def test_one_recording_gives_an_interval_and_no_guarantee_for_new_clips() -> None:
    video = real_world(clips=1, frames=60, recall=0.6)
    assert set(video.group_numbers) == {0}
    assert len(set(video.interval_units)) == 10
    findings = find(Inputs(in_domain(), [video], None, RISEN, Experiments(), conf=None, seed=0))
    assert findings.evidence.intervals["overhead"].low is not None
    assert all(control.confidence is None for control in findings.risk["overhead"])
    whole = findings.slices[(findings.slices["domain"] == "overhead") & (findings.slices["slice"] == "all")]
    assert whole["groups"].tolist() == [1]


def test_no_failure_is_established_only_where_the_interval_is_harmless() -> None:
    works = real_world(recall=0.8, seed=9)
    findings = find(
        Inputs(in_domain(), [works], training_like(), RISEN, experiments_with(NO_HELP), conf=None, seed=0)
    )
    wide = replace(findings.evidence, gap_interval=Interval(-0.09, 0.17, 12))
    wide = replace(wide, ap50=wide.ap50 | {"in_domain": 0.81, "overhead": 0.79})
    verdict = diagnose(wide)
    assert (verdict.primary, verdict.grade) == ("none", "likely")
    narrow = diagnose(replace(wide, gap_interval=Interval(-0.02, 0.04, 12)))
    assert (narrow.primary, narrow.grade) == ("none", "established")


def test_the_remedy_is_that_of_the_leak_that_was_shown() -> None:
    """Half of the validation images are copies; three harmless copies in the real world are not what
    to mend.
    """
    training = training_like()
    leaky = copied_from(training, in_domain(recall=0.8), 60)
    few = copied_from(training, real_world(recall=0.1), 3)
    findings = find(Inputs(leaky, [few], training, RISEN, Experiments(), conf=None, seed=0))
    leakage = replace(findings.evidence.leak, clean_ap50=0.2)
    evidence = replace(findings.evidence, leak=leakage)
    verdict = diagnose(evidence)
    assert verdict.primary == "leakage"
    findings = replace(findings, evidences={"overhead": evidence}, verdicts={"overhead": verdict})
    assert domain_verdict(findings, "overhead")["step"].startswith("Split by recording")


@pytest.mark.parametrize(
    ("gap", "status_", "score"),
    [(0.0, "supported", 0.9), (0.19, "inconclusive", 0.5), (0.7, "rejected", 0.13)],
)
def test_a_threshold_explains_no_drop_of_ap50(gap: float, status_: str, score: float) -> None:
    """It recovers nine tenths of F1 each time; what is lost of AP50 it cannot have cost."""
    measured = evidence_of(
        Inputs(in_domain(), [real_world(recall=0.5, embedding_shift=6.0)], training_like(), RISEN, experiments_with(NO_HELP), conf=None, seed=0)
    )  # fmt: skip
    held = {0.0: 0.82, 0.19: 0.45, 0.7: 0.12}[gap]
    changed = replace(
        measured,
        ap50=measured.ap50 | {"in_domain": 0.82, "overhead": held},
        gap_interval=Interval(0.82 - held - 0.04, 0.82 - held + 0.04, 12),
        threshold=Threshold(0.4, 0.1, in_domain_f1=0.8, real_world_f1=0.3, best_f1=0.75, crossfitted_f1=0.75),
    )
    found = threshold.assess(changed)
    assert found.status == status_
    assert found.score == pytest.approx(score, abs=0.01)


def test_labels_of_other_classes_speak_against_a_failure_or_for_one() -> None:
    """Elephants and bears, of which the in-domain images hold none: AP50 there is 0.85, in-domain 0.47."""
    measured = evidence_of(
        Inputs(in_domain(), [real_world(recall=0.5, embedding_shift=6.0)], training_like(), RISEN, experiments_with(NO_HELP), conf=None, seed=0)
    )  # fmt: skip

    def leading(own: float) -> str | None:
        return diagnose(
            replace(
                measured,
                real_world=None,
                gap_interval=None,
                threshold=None,
                ap50={"in_domain": 0.6, "training": 0.9, "overhead": own},
                intervals=measured.intervals | {"overhead": Interval(own - 0.05, own + 0.05, 12)},
            )
        ).leading

    assert leading(0.85) == "none"
    assert leading(0.2) == "domain_shift"


@pytest.mark.parametrize(
    ("ap", "none_", "leading"), [(0.3, "rejected", "domain_shift"), (0.82, "untested", "none")]
)
def test_clicks_measure_a_drop_without_boxes(ap: float, none_: str, leading: str) -> None:
    bare = real_world(recall=0.3, embedding_shift=6.0)
    bare = replace(bare, images=bare.images.assign(labelled=False), annotations=bare.annotations.head(0))
    inputs = Inputs(in_domain(), [bare], training_like(), RISEN, Experiments(), conf=None, seed=0)
    measured = evidence_of(inputs)
    held_out = PointMeasures("in_domain", 96, 96, 200, 0.3, ap=(0.82, 0.8, 0.84))
    clicked = PointMeasures("overhead", 60, 96, 120, 0.3, ap=(ap, ap - 0.02, ap + 0.02))
    reviewed = Reviewed(held_out, clicked, drop_by_points(held_out, clicked))
    verdict = diagnose(replace(measured, reviewed={"overhead": reviewed}))
    assert verdict.named("none").status == none_
    assert verdict.leading == leading
    assert "By clicks, AP drops by" in verdict.named("none").statement
    assert "shiftscope review" not in verdict.named("domain_shift").missing
    assert "shiftscope review --domain overhead" in diagnose(measured).named("domain_shift").missing
    few = replace(reviewed, real_world=PointMeasures("overhead", 3, 96, 4, 0.3, note="few"), drop=None)
    unsure = diagnose(replace(measured, reviewed={"overhead": few}))
    assert unsure.named("none").status == "untested"
    assert "shiftscope review --domain overhead" in unsure.named("domain_shift").missing


@pytest.mark.parametrize(
    ("groups", "outside", "auc", "expected"),
    [
        (2, 1.0, 0.64, True),
        (2, 0.6, 0.64, False),
        (1, 1.0, 0.64, False),
        (1, 1.0, 0.95, True),
        (8, 0.95, 0.6, True),
    ],
)
def test_a_few_clips_that_all_lie_outside_differ(
    groups: int, outside: float, auc: float, expected: bool
) -> None:
    # Two drone videos of 50 frames against 164 photographs from a car: MMD 64 times its reference, p 0.035.
    shift = Shift(
        164, 100, 164, groups, mmd=0.5, mmd_null=0.007, mmd_ratio=64.0, p=0.035, auc=auc, outside=outside
    )
    assert is_shifted(shift) is expected


def test_footage_that_could_not_be_compared_is_not_called_alike() -> None:
    in_domain = make_domain(clips=10)
    alone = make_domain("footage", role="real_world", clips=1, frames=6, labelled=False, seed=3)
    findings = find(Inputs(in_domain, [alone], None, pd.DataFrame()))
    statement = findings.verdicts["footage"].named("domain_shift").statement
    assert "no difference" not in statement
    assert "could not be compared" in statement or "differ" in statement


def bare(domain: Domain) -> Domain:
    """What a file of predictions gives: no embeddings."""
    return replace(
        domain,
        image_embeddings=np.zeros((len(domain.images), 0), np.float32),
        detection_embeddings=np.zeros((len(domain.detections), 0), np.float32),
    )


def test_what_was_not_tested_is_as_good_as_a_quarter_of_an_explanation() -> None:
    """A drop by night: without weights nothing can compare the images, and a detector of AP50 0.4 is no
    culprit for that.
    """
    weak = {"recall": 0.55}
    shifted = real_world(recall=0.1, embedding_shift=6.0, statistics={"texture_gradient": -1.0})
    domains = [bare(in_domain(**weak)), bare(shifted)]
    verdict = find(
        Inputs(domains[0], domains[1:], None, pd.DataFrame(), Experiments(), conf=None, seed=0)
    ).verdict
    assert verdict.named("domain_shift").score is None
    assert verdict.primary is None
    assert (verdict.leading, verdict.grade) == (None, "undecided")
    # What is measured by itself is still named.
    tempered = replace(
        bare(real_world()),
        detections=real_world().detections.assign(confidence=lambda t: t["confidence"] ** 6),
    )
    found = find(
        Inputs(bare(in_domain()), [tempered], None, pd.DataFrame(), Experiments(), conf=None, seed=0)
    )
    assert found.verdict.leading == "threshold"


@pytest.mark.parametrize(
    ("p", "sides", "explained", "leading"),
    [
        # The images differ, and nothing else that can be tried explains the drop.
        (0.001, (20, 60), 0.1, "domain_shift"),
        # The images are alike.
        (0.4, (20, 60), 0.1, None),
        # The objects are smaller: that explains at most 60 %, and the images differ by something else, too.
        (0.001, (7, 24), 0.6, "domain_shift"),
        # It may explain nearly all, or nobody knows how much.
        (0.001, (7, 24), 0.8, None),
        (0.001, (7, 24), None, None),
        # It may explain nearly all, and nothing else differs.
        (0.4, (7, 24), 0.9, "scale"),
    ],
)
def test_without_weights_a_drop_on_images_that_differ_is_likely_the_shift(
    p: float, sides: tuple[float, float], explained: float | None, leading: str | None
) -> None:
    footage = bare(real_world(recall=0.2, sides=sides))
    evidence = evidence_of(
        Inputs(bare(in_domain()), [footage], None, pd.DataFrame(), Experiments(), conf=None, seed=0)
    )
    size = SizeMatch(
        in_domain_recall=0.8, matched_recall=0.5, real_world_recall=0.2, support=0.7, share=explained
    )
    assert evidence.gap_is_real
    seen = Shift(
        100, 100, 12, 12, mmd=0.3, p=p, mmd_ratio=9.0 if p < 0.05 else 0.8, auc=0.97 if p < 0.05 else 0.5
    )
    verdict = diagnose(replace(evidence, shift_descriptors={"overhead": seen}, size=size))
    # Nothing shows that the detector minds: likely at most, without a probability.
    assert (verdict.primary, verdict.leading, verdict.probability) == (None, leading, None)
    shift = verdict.named("domain_shift")
    assert shift.status == "untested"
    if leading == "domain_shift":
        assert "Without the weights, what the difference costs cannot be tried" in shift.statement
        assert shift.missing.startswith("give the weights")


@pytest.mark.parametrize(
    ("footage", "leading"),
    [
        # The same images, a third of their labels left out.
        ({"label_drop": 0.35}, "label_error"),
        # The detector is less sure as well: what is detected differs, and a threshold is measured.
        ({"label_drop": 0.35, "confidence_shift": -0.25}, "threshold"),
        # Detections that are missing, and not labels.
        ({"recall": 0.35}, None),
        # Other light: that may be all.
        ({"label_drop": 0.35, "statistics": {"brightness": -3.0}}, None),
    ],
)
def test_without_weights_a_drop_where_as_much_is_detected_is_likely_of_the_labels(
    footage: dict[str, object], leading: str | None
) -> None:
    """`real_world` has as many objects as `in_domain`; only what the case names differs."""
    domains = [bare(in_domain(clips=30)), bare(real_world(clips=30, seed=9, **footage))]
    (evidence,) = gather(
        Inputs(domains[0], domains[1:], None, pd.DataFrame(), Experiments(), conf=None, seed=0)
    ).values()
    alike = Shift(180, 180, 30, 30, mmd=0.001, p=0.4, mmd_ratio=0.3, auc=0.5)
    verdict = diagnose(replace(evidence, shift_descriptors={"overhead": alike}))
    assert evidence.gap_is_real
    assert verdict.leading == leading
    labels = verdict.named("label_error")
    assert (labels.score is not None) == (leading == "label_error")
    if leading == "label_error":
        assert (verdict.grade, labels.status, verdict.probability) == ("likely", "untested", None)
        assert labels.missing.startswith("run shiftscope review --labels")
        assert "Only a look at the labels decides" in labels.statement
        # The row of what the headline calls likely does not only say that it was not tested.
        assert hypothesis_row(labels, primary=True)["word"] == "likely, not tested"
        assert hypothesis_row(labels, primary=False)["word"] == "not tested"


def test_without_embeddings_of_detections_labels_are_at_most_likely_wrong() -> None:
    """A function as detector embeds images and no detections: nothing shows that these are of the same
    things.
    """
    domains = [
        replace(domain, detection_embeddings=np.zeros((len(domain.detections), 0), np.float32))
        for domain in (in_domain(clips=30), real_world(clips=30, seed=9, label_drop=0.35))
    ]
    (evidence,) = gather(
        Inputs(domains[0], domains[1:], None, RISEN, Experiments(), conf=None, seed=0)
    ).values()
    assert is_alike(evidence.shift_image["overhead"])
    verdict = diagnose(evidence)
    assert verdict.named("label_error").status == "untested"
    assert (verdict.primary, verdict.leading, verdict.probability) == (None, "label_error", None)


def test_classes_that_a_detector_swaps_are_not_blamed_on_labels() -> None:
    """As many detections, as sure and as large, but other classes: the labels are right."""
    classes = ("car", "truck")
    domains = [
        bare(in_domain(clips=30, classes=classes)),
        bare(real_world(clips=30, seed=9, classes=classes)),
    ]
    swapped = domains[1].detections
    chosen = np.random.default_rng(0).random(len(swapped)) < 0.4
    swapped = swapped.assign(label=np.where(chosen, 1 - swapped["label"], swapped["label"]))
    domains[1] = replace(domains[1], detections=swapped)
    (evidence,) = gather(
        Inputs(domains[0], domains[1:], None, pd.DataFrame(), Experiments(), conf=None, seed=0)
    ).values()
    assert evidence.gap_is_real
    assert is_shifted(evidence.shift_boxes["overhead"]) is True
    alike = Shift(180, 180, 30, 30, mmd=0.001, p=0.4, mmd_ratio=0.3, auc=0.5)
    assert diagnose(replace(evidence, shift_descriptors={"overhead": alike})).leading != "label_error"


def test_a_bound_decides_nothing_alone() -> None:
    """Re-weighted by size, 80 % of a drop may be size: that leaves a fifth for the shift, or all of it."""
    small = real_world(recall=0.2, sides=(7, 24), embedding_shift=6.0)
    evidence = evidence_of(
        Inputs(in_domain(), [small], training_like(), RISEN, Experiments(), conf=None, seed=0)
    )
    for share, least in ((0.4, 0.6), (0.8, 0.2)):
        size = SizeMatch(
            in_domain_recall=0.6, matched_recall=0.3, real_world_recall=0.05, support=0.7, share=share
        )
        verdict = diagnose(replace(evidence, size=size, redrawn=None, leak=None))
        shift, scale_ = verdict.named("domain_shift"), verdict.named("scale")
        assert shift.score == pytest.approx((least + 1) / 2)
        assert shift.status == ("supported" if least >= 0.5 else "inconclusive")
        assert (scale_.status, scale_.score) == ("inconclusive", pytest.approx(share / 2))
        assert f"at most {share:.0%}".replace("%", " %") in shift.statement
        # Neither score was calibrated.
        assert verdict.probability is None
        assert hypothesis_row(shift, primary=True)["share"] == ""


def test_what_is_detected_is_compared_without_labels_and_embeddings() -> None:
    known = bare(in_domain(clips=30))

    def measured(**options: object) -> Shift:
        footage = bare(real_world(clips=30, seed=9, **options))
        return box_shift(known, footage, seed=0)

    same = measured()
    assert is_alike(same)
    # Labels are not read.
    assert measured(label_drop=0.5) == same
    for change in ({"recall": 0.3}, {"confidence_shift": -0.25}, {"sides": (8, 20)}):
        assert is_shifted(measured(**change)) is True, change
    # Detections that nobody gets to see do not count: files end at any confidence.
    unseen = replace(known, detections=known.detections[known.detections["confidence"] >= 0.2])
    assert box_shift(unseen, bare(real_world(clips=30, seed=9)), seed=0) == same
    # Nothing detected at all is a difference, not an error.
    silent = bare(real_world(clips=30, seed=9, recall=0.0, false_positive_rate=0.0))
    assert is_shifted(box_shift(known, silent, seed=0)) is True
    assert "nothing is detected" in box_shift(silent, silent, seed=0).note


@pytest.mark.parametrize(
    ("estimated", "half", "leading"),
    [
        (None, 0.0, "domain_shift"),
        (0.2, 0.1, "domain_shift"),
        # As good as in-domain, give or take: footage that differs is no failure for that.
        (0.8, 0.35, None),
        (0.95, 0.1, "none"),
    ],
)
def test_footage_that_differs_is_no_failure_where_ap50_is_estimated_as_in_domain(
    estimated: float | None, half: float, leading: str | None
) -> None:
    unlabelled = real_world(labelled=False, embedding_shift=6.0, statistics={"texture_gradient": -1.0})
    (evidence,) = gather(
        Inputs(in_domain(), [unlabelled], training_like(), RISEN, Experiments(), conf=None, seed=0)
    ).values()
    estimates = {}
    if estimated is not None:
        estimates["overhead"] = replace(
            _describe(in_domain(), unlabelled),
            ap50=estimated,
            low=max(0.0, estimated - half),
            high=min(1.0, estimated + half),
            abstained=False,
        )
    assert diagnose(replace(evidence, label_free=estimates)).leading == leading
