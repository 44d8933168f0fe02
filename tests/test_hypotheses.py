"""Each suspect fires on its own planted cause, stays quiet on the others', and says when it cannot tell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated import make_domain
from diagnostics.comparison import Comparison
from diagnostics.counterfactuals import Recovery, SizeMatch
from diagnostics.training_curve import Standing
from diagnostics.evidence import Evidence, Hypothesis
from diagnostics.findings import Experiments, find, gather
from diagnostics.hypotheses import SUSPECTS, Verdict, question, scale
from diagnostics.intervals import Interval
from diagnostics.matching import Detections

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


def verdict_on(home, away, *, training=None, history=RISEN, recoveries=None, seed=0) -> Verdict:
    experiments = Experiments(recoveries=recoveries or {})
    return find(home, away, training, history, experiments, conf=None, seed=seed).verdict


def training_like(**options):
    return make_domain("training", role="training", clips=12, clip_names="t", seed=77, **options)


def away(**options):
    return make_domain(
        "overhead", **{"role": "real_world", "clips": 12, "clip_names": "w", "seed": 5, **options}
    )


def home(**options):
    return make_domain("home", **{"clips": 12, "seed": 1, **options})


def status(verdict: Verdict) -> dict[str, str]:
    return {h.code: h.status for h in verdict.hypotheses}


@pytest.mark.parametrize("seed", range(3))
def test_nothing_wrong(seed: int) -> None:
    verdict = verdict_on(home(clips=40, seed=seed), [away(clips=40, seed=50 + seed)], training=training_like())
    assert status(verdict)["none"] != "rejected"
    assert verdict.primary in (None, "none")


@pytest.mark.parametrize("seed", range(3))
def test_domain_shift(seed: int) -> None:
    shifted = away(seed=10 + seed, hit_rate=0.2, embedding_shift=6.0, statistics={"texture_gradient": -1.0})
    verdict = verdict_on(home(seed=seed), [shifted], training=training_like(), recoveries=NO_HELP)
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


def test_a_shift_that_does_no_harm_is_said_to_do_none() -> None:
    verdict = verdict_on(
        home(clips=40),
        [away(clips=40, embedding_shift=6.0, statistics={"saturation": 0.9})],
        training=training_like(),
    )
    found = verdict.named("domain_shift")
    assert found.status == "rejected"
    assert "does no harm" in found.statement


def test_threshold() -> None:
    """The same ranking at lower confidence: the threshold from home finds nothing out there, another finds it all."""
    low = away(hit_rate=0.8)
    squeezed = low.detections.assign(confidence=low.detections["confidence"] ** 4 * 0.2)
    verdict = verdict_on(home(), [replace(low, detections=squeezed)], training=training_like())
    assert verdict.primary == "threshold"


HELPED = NO_HELP | {"imgsz 1280": Recovery("imgsz 1280", 0.2, 0.65, 0.85, 0.7, 0.95, 60, 2.0)}


def test_scale_by_experiment() -> None:
    small = away(hit_rate=0.2, sides=(7, 24))
    verdict = verdict_on(home(), [small], training=training_like(), recoveries=HELPED)
    assert verdict.primary == "scale"
    assert status(verdict)["domain_shift"] != "supported"


def test_sizes_alone_are_no_proof_where_another_size_does_not_help() -> None:
    """Small objects are missed at home too, which speaks for size; but enlarged they are not found either."""
    matched = SizeMatch(home_recall=0.6, matched_recall=0.3, away_recall=0.05, support=0.7, share=0.55)

    def judged(recoveries: dict[str, Recovery]) -> Hypothesis:
        gathered = gather(
            home(),
            [away(hit_rate=0.2, sides=(7, 24))],
            None,
            RISEN,
            Experiments(recoveries=recoveries),
            conf=None,
            seed=0,
        )
        return scale.test(replace(gathered, size=matched))

    assert judged({}).status == "supported"
    assert judged(HELPED).status == "supported"
    found = judged(NO_HELP)
    assert found.status == "untested"
    assert "only 0 % of it comes back" in found.statement


def test_more_epochs_are_cleared_where_what_they_won_at_home_did_not_arrive() -> None:
    steep = RISEN.assign(ap50=np.linspace(0.1, 0.75, 20))
    shifted = away(hit_rate=0.1, embedding_shift=6.0, statistics={"texture_gradient": -1.0})
    arguments = {"conf": None, "seed": 0}
    half = home(hit_rate=0.6)
    rising = find(half, [shifted], training_like(), steep, Experiments(recoveries=NO_HELP), **arguments)
    assert status(rising.verdict)["underfit"] == "supported"

    def stand(epoch: int, domain: str, ap50: float, against: tuple[float, float, float] | None) -> Standing:
        test = None
        if against is not None:
            last, low, high = against
            test = Comparison(last, ap50, last - ap50, Interval(low, high, 12), 0.001)
        return Standing(epoch, domain, "", 60, 100, ap50, None, None, 1.0, 1.0, None, test)

    for (low, high), expected in (
        ((-0.02, 0.02), "rejected"),
        ((0.2, 0.5), "supported"),
        ((-0.1, 0.4), "untested"),
    ):
        gained = (low + high) / 2
        standings = (
            stand(5, "home", 0.3, (0.75, 0.4, 0.5)),
            stand(5, "overhead", 0.1, (0.1 + gained, low, high)),
            stand(20, "home", 0.75, None),
            stand(20, "overhead", 0.1 + gained, None),
        )
        found = find(
            half,
            [shifted],
            training_like(),
            steep,
            Experiments(recoveries=NO_HELP),
            standings=standings,
            **arguments,
        )
        assert status(found.verdict)["underfit"] == expected, (low, high)
        assert found.evidence.carried is not None
        assert found.evidence.carried.share == pytest.approx(gained / 0.45)


def test_enlarging_what_is_not_small_is_no_evidence_for_size() -> None:
    alike = away(hit_rate=0.2, sides=(20, 60), embedding_shift=6.0, statistics={"texture_gradient": -1.0})
    verdict = verdict_on(home(), [alike], training=training_like(), recoveries=HELPED)
    assert verdict.primary == "domain_shift"
    scale = verdict.named("scale")
    assert scale.status == "rejected"
    assert any("further from the sizes at home" in clue.text for clue in scale.clues)


def test_labels_drawn_by_another_rule() -> None:
    verdict = verdict_on(home(), [away(label_margin=1.8)], training=training_like(), recoveries=NO_HELP)
    assert verdict.primary == "label_protocol"


def test_underfit_by_its_own_training_pictures() -> None:
    weak = {"hit_rate": 0.2}
    verdict = verdict_on(home(**weak), [away(**weak)], training=training_like(**weak), history=RISING)
    assert verdict.primary == "underfit"
    one = verdict_on(home(**weak), [away(**weak)], training=training_like(**weak), history=RISING.head(1))
    assert one.primary == "underfit"


def test_overfit() -> None:
    verdict = verdict_on(
        home(hit_rate=0.5), [away(hit_rate=0.5)], training=training_like(hit_rate=1.0), history=TURNED
    )
    assert status(verdict)["overfit"] == "supported"


def test_leakage() -> None:
    training = training_like()
    inflated = home()
    pictures = inflated.pictures.copy()
    copies = len(pictures) * 2 // 3
    pictures.loc[: copies - 1, "fingerprint"] = training.pictures["fingerprint"].iloc[:copies].to_numpy()
    # What was not copied is hardly found.
    rest = set(pictures["image"].iloc[copies:])
    rng = np.random.default_rng(0)
    keep = ~inflated.detections["image"].isin(rest) | (rng.random(len(inflated.detections)) < 0.15)
    leaky = replace(
        inflated,
        pictures=pictures,
        detections=inflated.detections[keep].reset_index(drop=True),
        detection_embeddings=inflated.detection_embeddings[keep.to_numpy()],
    )
    verdict = verdict_on(leaky, [away(hit_rate=0.12)], training=training, recoveries=NO_HELP)
    assert status(verdict)["leakage"] == "supported"
    assert status(verdict_on(home(), [away(hit_rate=0.2)], training=training))["leakage"] == "rejected"


def test_without_labels_nothing_is_supported() -> None:
    verdict = verdict_on(home(), [away(labelled=False, embedding_shift=6.0)], training=training_like())
    assert verdict.primary is None
    shift = verdict.named("domain_shift")
    assert shift.status == "untested"
    assert "differs from training" in shift.statement
    assert "label 25 to 50 frames" in shift.missing
    assert {h.code for h in verdict.hypotheses if h.status == "untested"} >= {
        "none",
        "threshold",
        "scale",
        "label_protocol",
    }


def test_one_labelled_video_gives_no_interval_and_says_so() -> None:
    findings = find(
        home(),
        [away(clips=1, frames=30, hit_rate=0.2, embedding_shift=6.0)],
        training_like(),
        RISEN,
        Experiments(),
        conf=None,
        seed=0,
    )
    assert findings.evidence.gap_interval.low is None
    assert "1 independent clip" in findings.evidence.gap_interval.note


def test_without_embeddings_shift_stays_open() -> None:
    def blind(domain):
        return replace(
            domain,
            image_embeddings=np.zeros((len(domain.pictures), 0)),
            detection_embeddings=np.zeros((len(domain.detections), 0)),
        )

    verdict = verdict_on(blind(home()), [blind(away(hit_rate=0.2))], history=pd.DataFrame())
    assert verdict.named("domain_shift").status == "untested"
    assert verdict.named("domain_shift").missing == "give the weights"


def test_too_few_clips_for_a_null_is_open_and_not_cleared() -> None:
    verdict = verdict_on(
        home(clips=2, frames=20), [away(clips=1, frames=30, hit_rate=0.2, embedding_shift=8.0)]
    )
    shift = verdict.named("domain_shift")
    assert shift.status == "untested"
    assert "too few clips" in shift.statement


def test_a_silent_detector_does_not_hide_that_embeddings_are_at_hand() -> None:
    silent = away(hit_rate=0.0, false_rate=0.0)
    assert (
        "not at hand"
        not in verdict_on(home(), [silent], training=training_like()).named("domain_shift").statement
    )


def test_a_few_labels_are_few_labels() -> None:
    findings = find(
        home(), [away(clips=1, frames=6)], training_like(), RISEN, Experiments(), conf=None, seed=0
    )
    assert findings.evidence.away is None
    assert "overhead" not in findings.evidence.intervals
    assert "fewer than 30 labelled objects" in findings.verdict.named("none").missing


def test_names_alone_convict_nobody_of_leakage() -> None:
    """pothole1.jpg in training and pothole2.jpg in validation share a name, which may be all they share."""
    training = training_like()
    assert (
        status(verdict_on(home(clip_names="t"), [away(hit_rate=0.2)], training=training))["leakage"]
        == "untested"
    )


def test_copies_of_training_pictures_not_looked_at_are_counted_in() -> None:
    training, mine = training_like(), home()
    pictures = mine.pictures.copy()
    pictures.loc[:0, "fingerprint"] = training.pictures["fingerprint"].iloc[:1].to_numpy()
    one_copy = replace(mine, pictures=pictures)
    seen = find(one_copy, [away()], training, RISEN, Experiments(), conf=None, seed=0).verdict
    sampled = find(
        one_copy, [away()], training, RISEN, Experiments(), conf=None, seed=0, training_total=3000
    ).verdict
    assert seen.named("leakage").status == "rejected"
    assert sampled.named("leakage").status != "rejected"


def test_predictions_from_elsewhere_beside_a_run() -> None:
    """Pictures have embeddings, boxes of the other detector have none."""
    foreign = away(hit_rate=0.2, embedding_shift=6.0)
    foreign = replace(foreign, detection_embeddings=np.zeros((len(foreign.detections), 0)))
    findings = find(
        home(), [foreign], training_like(), RISEN, Experiments(recoveries=NO_HELP), conf=None, seed=0
    )
    assert findings.verdict.primary == "domain_shift"
    assert findings.evidence.shift_object["overhead"].mmd is None


def test_partly_labelled_footage_is_not_half_empty() -> None:
    part = away(clips=10)
    labelled = part.pictures["group"].isin(["w0", "w1", "w2", "w3", "w4", "w5"])
    boxes = part.annotations[part.annotations["image"].isin(part.pictures.loc[labelled, "image"])].reset_index(drop=True)
    part = replace(part, pictures=part.pictures.assign(labelled=labelled), annotations=boxes)
    table = (
        find(home(), [part], None, RISEN, Experiments(), conf=None, seed=0)
        .evidence.factors["overhead"]
        .set_index("name")
    )
    assert table.loc["density", "effect"] < 0.5


def test_background_only_domain_still_makes_figures() -> None:
    from reports.page.figures import sweep as draw

    empty = away()
    empty = replace(empty, annotations=empty.annotations.head(0))
    findings = find(home(), [empty], None, RISEN, Experiments(), conf=None, seed=0)
    curves = pd.concat([t.assign(domain=name) for name, t in findings.sweeps.items()])
    assert draw("alt", curves, {"home": "#000000", "overhead": "#ff0000"}).startswith("<svg")


def published(**ap50: float) -> Evidence:
    """What a blog post gives: a learning curve and two numbers."""
    base = find(home(), [], None, RISEN, Experiments(), conf=None, seed=0).evidence
    return replace(
        base,
        ap50=ap50,
        max_recall={},
        loose={},
        intervals={},
        home="home",
        away="overhead" if "overhead" in ap50 else None,
    )


def test_every_suspect_answers_bare_evidence() -> None:
    for evidence in (published(), published(home=0.75), published(home=0.75, overhead=0.036)):
        for suspect in SUSPECTS:
            answer = suspect.test(evidence)
            assert answer.statement.endswith(".")
            assert answer.status != "untested" or answer.missing
            assert (answer.score is None) == (answer.status == "untested")


def test_codes_are_those_of_the_contract() -> None:
    assert {suspect.CODE for suspect in SUSPECTS} == {
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


def test_supported_suspects_come_first() -> None:
    order = [h.status for h in question(published(home=0.75, overhead=0.036)).hypotheses]
    assert order == sorted(order, key=["supported", "untested", "rejected"].index)


def test_detections_beyond_the_limit_are_ignored_everywhere() -> None:
    crowded = make_domain(
        pictures=[
            (
                [[0, 0, 50, 50]],
                [([0, 0, 50, 50], 0.9)] + [([100, 100, 150, 150], 0.1 + i * 1e-4) for i in range(150)],
            )
        ]
    )
    assert isinstance(crowded.detection_arrays, Detections)
    assert len(crowded.outcomes) == 100
