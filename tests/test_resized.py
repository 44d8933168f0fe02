"""Another image size on footage without labels: which is tried, what it recovers, and what that means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import diagnoses, resized
from benchmarks.real_domains import add_rows
from benchmarks.simulated import make_domain
from diagnostics.counterfactuals import Recovery, ap50
from diagnostics.domain import Domain
from diagnostics.evidence import Evidence
from diagnostics.findings import find
from diagnostics.gather import gather
from diagnostics.hypotheses import diagnose
from diagnostics.inputs import Experiments, Inputs
from diagnostics.label_free import FLOOR, Estimator, _describe, fit_estimator
from diagnostics.resized import MOST, Resized, estimate_recovery, is_worth_it, size_to_try
from reports.options import Effort
from reports.page.headline import _rival, domain_verdict
from reports.pipeline.effort import LEAST_PASSES, PASSES_A_DOMAIN, Budget
from reports.pipeline.interventions import DomainPredictor
from reports.pipeline.resizing import predict_resized
from tests.test_effort import Silent
from tests.test_label_free import FAMILIES, corrupted, make_set, unlabelled, unsteady
from train.predictions import Settings


@pytest.fixture(scope="module")
def in_domain() -> Domain:
    return make_domain("in_domain", clips=20, frames=5, seed=1, recall=0.9)


@pytest.fixture(scope="module")
def estimator(in_domain: Domain) -> Estimator:
    sets = [corrupted("as it is", 0, make_set(0.0, 100))]
    sets += [
        corrupted(family, severity, make_set(severity * (0.15 + 0.02 * k), 101 + 10 * k + severity))
        for k, family in enumerate(FAMILIES)
        for severity in (1, 2, 3)
    ]
    fitted = fit_estimator(in_domain, sets)
    assert fitted is not None
    return fitted


def footage(loss: float, **options: object) -> Domain:
    """Footage of which a share of the objects is lost; always the same images."""
    return replace(make_set(loss, 5000, clips=20, **options), name="footage", role="real_world")


@pytest.mark.parametrize(
    ("sides", "factor"),
    [
        ((20, 60), None),
        ((22, 66), None),
        ((10, 30), 2.0),
        ((2, 6), MOST),
        ((200, 600), 1 / MOST),
        ((13, 39), 1.54),
    ],
)
def test_the_size_that_makes_up_for_smaller_detections_is_tried(
    in_domain: Domain, sides: tuple[float, float], factor: float | None
) -> None:
    chosen = size_to_try(in_domain, make_domain("footage", clips=20, seed=7, sides=sides, labelled=False))
    assert chosen == (factor if factor is None else pytest.approx(factor, rel=0.1))


def test_where_nothing_is_detected_objects_may_be_too_small(in_domain: Domain) -> None:
    silent = make_domain("footage", clips=20, seed=7, recall=0.0, false_positive_rate=0.0, labelled=False)
    assert size_to_try(in_domain, silent) == MOST
    # Without detections to compare with there is no size to aim at.
    assert size_to_try(silent, silent) is None


def test_sides_are_compared_as_the_network_gets_them(in_domain: Domain) -> None:
    """Images of twice the width and height, shown to the network at the same size, show the same objects."""
    doubled = {name: in_domain.detections[name] * 2 for name in ("x1", "y1", "x2", "y2")}
    larger = replace(
        in_domain,
        images=in_domain.images.assign(
            width=in_domain.images["width"] * 2, height=in_domain.images["height"] * 2
        ),
        detections=in_domain.detections.assign(**doubled),
    )
    assert size_to_try(in_domain, larger) is None
    # Boxes of twice the sides in the same images are twice as large.
    assert size_to_try(in_domain, replace(larger, images=in_domain.images)) == pytest.approx(0.5)


def test_what_is_estimated_is_near_what_labels_say(estimator: Estimator) -> None:
    before, after = footage(0.6), footage(0.0)
    found = estimate_recovery(estimator, Resized(1280, unlabelled(before), unlabelled(after)))
    assert found is not None
    assert (found.name, found.size_factor, found.images) == ("imgsz 1280", 2.0, 100)
    assert found.before == pytest.approx(ap50(before), abs=0.15)
    assert found.after == pytest.approx(ap50(after), abs=0.15)
    assert found.share == pytest.approx(
        (found.after - found.before) / (estimator.reference.ap50 - found.before)
    )
    assert is_worth_it(found)
    same = estimate_recovery(estimator, Resized(1280, unlabelled(before), unlabelled(before)))
    assert same is not None
    assert same.share == 0
    assert not is_worth_it(same)


def test_a_recovery_within_what_is_harmless_changes_nothing() -> None:
    def recovery(before: float, after: float, share: float) -> Recovery:
        return Recovery("imgsz 1280", before, after, share, None, None, 40, 2.0)

    assert not is_worth_it(recovery(0.68, 0.71, 0.6))
    assert not is_worth_it(recovery(0.10, 0.20, 0.16))
    assert is_worth_it(recovery(0.40, 0.60, 0.66))


def test_detections_unlike_all_that_was_fitted_say_nothing(
    estimator: Estimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[pd.DataFrame] = []

    def extrapolates(self: Estimator, signals: pd.DataFrame) -> bool:
        asked.append(signals)
        return True

    monkeypatch.setattr(Estimator, "extrapolates", extrapolates)
    before, after = footage(0.6), footage(0.0)
    assert estimate_recovery(estimator, Resized(1280, before, after)) is None
    # It is the enlarged images that must be within what was fitted.
    expected = estimator.shrink(
        pd.DataFrame([estimator.reference.signals(after, after.subset(after.images["image"].head(0)))])
    )
    pd.testing.assert_frame_equal(asked[0], expected)


class Predictor(DomainPredictor):
    """Notes what was asked, and gives the same detections with other confidences."""

    def __init__(self, confidence: float = 0.9) -> None:
        object.__setattr__(self, "confidence", confidence)
        object.__setattr__(self, "settings", Settings(640))
        object.__setattr__(self, "reporter", Silent())
        object.__setattr__(self, "asked", [])

    def predict(
        self,
        domain: Domain,
        transform: object,
        tick: Callable[[], None],
        *,
        imgsz: int | None = None,
        conf: float | None = None,
        embed_detections: bool = False,
    ) -> Domain:
        assert transform is None
        assert conf == FLOOR
        assert embed_detections
        self.asked.append((domain.name, imgsz, len(domain.images)))  # type: ignore[attr-defined]
        rest = domain.subset(domain.images["image"].iloc[1:])
        sure = rest.detections["confidence"] * self.confidence  # type: ignore[attr-defined]
        return replace(rest, detections=rest.detections.assign(confidence=sure))


def test_only_footage_of_other_sizes_is_predicted_again(in_domain: Domain) -> None:
    small, alike, few = (
        replace(make_domain(clips=clips, frames=5, seed=7, sides=sides, labelled=False), name=name)
        for name, clips, sides in (("small", 20, (8, 24)), ("alike", 20, (20, 60)), ("few", 2, (8, 24)))
    )
    predictor, budget = Predictor(), Budget(Effort.STANDARD, 5000, 640)
    resized = predict_resized(predictor, in_domain, [small, alike, few], budget)
    assert predictor.asked == [("small", 1280, 40)]  # type: ignore[attr-defined]
    assert budget.spent == 160
    # An image that cannot be decoded any more is left out on both sides.
    assert list(resized) == ["small"]
    assert len(resized["small"].plain.images) == len(resized["small"].domain.images) == 39
    # A detector of one image size gives the same at any.
    assert not predict_resized(Predictor(1.0), in_domain, [small], Budget(Effort.STANDARD, 5000, 640))


@pytest.mark.parametrize(("left", "images", "left_out"), [(100, 20, []), (79, 0, ["1280 px on footage"])])
def test_fewer_images_where_less_is_left(
    in_domain: Domain, left: int, images: int, left_out: list[str]
) -> None:
    small = make_domain("footage", clips=20, frames=5, seed=7, sides=(8, 24), labelled=False)
    predictor, budget = Predictor(), Budget(Effort.STANDARD, 5000, 640)
    budget.take("others", 5000 - left)
    predict_resized(predictor, in_domain, [small], budget)
    assert [asked[2] for asked in predictor.asked] == ([images] if images else [])  # type: ignore[attr-defined]
    assert budget.left_out == left_out


def test_each_further_domain_has_passes_of_its_own() -> None:
    assert Budget(Effort.STANDARD, 10, 640, 3).limit == LEAST_PASSES + 3 * PASSES_A_DOMAIN
    # Where the footage itself takes more, as much again is enough for all.
    assert Budget(Effort.STANDARD, 9000, 640, 3).limit == 9000


def evidence_of(
    estimated: tuple[float, float, float] | None, resized: Recovery | None, **options: object
) -> Evidence:
    """Footage without labels that differs, unless options say otherwise, with an estimate and its interval."""
    in_domain = make_domain("in_domain", clips=12, seed=1)
    differs: dict[str, Any] = {"embedding_shift": 6.0, "statistics": {"texture_gradient": -1.0}, **options}
    clips = int(differs.pop("clips", 12))
    unseen = make_domain(
        "footage", role="real_world", clips=clips, clip_names="w", seed=5, labelled=False, **differs
    )
    training = make_domain("training", role="training", clips=12, clip_names="t", seed=77)
    (evidence,) = gather(Inputs(in_domain, [unseen], training, pd.DataFrame(), Experiments())).values()
    estimates = {}
    if estimated is not None:
        value, low, high = estimated
        estimates["footage"] = replace(
            _describe(in_domain, unseen), ap50=value, low=low, high=high, abstained=False
        )
    return replace(
        evidence, label_free=estimates, resized={"footage": resized} if resized is not None else {}
    )


def recovery(before: float, after: float, in_domain: float) -> Recovery:
    return Recovery("imgsz 1280", before, after, (after - before) / (in_domain - before), None, None, 40, 2.0)


@pytest.mark.parametrize(
    ("after", "leading", "score"),
    [(0.75, "scale", 0.5), (0.48, "scale", 0.5), (0.25, "domain_shift", 0.5), (0.15, "domain_shift", 0.5)],
)
def test_size_is_likely_where_it_recovers_half_of_the_estimated_drop(
    after: float, leading: str, score: float
) -> None:
    evidence = evidence_of((0.2, 0.1, 0.3), recovery(0.2, after, 0.7))
    evidence = replace(evidence, ap50={**evidence.ap50, "in_domain": 0.7})
    verdict = diagnose(evidence)
    assert (verdict.leading, verdict.grade) == (leading, "likely")
    assert verdict.named(leading).score == score
    # An estimate proves nothing and rules nothing out.
    assert verdict.named("scale").status == "untested"
    assert verdict.probability is None
    size = verdict.named("scale").statement
    assert size.startswith("At 1280 px, AP50 estimated without labels goes from 0.20 to ")
    assert ("too small for the image size in use" in size) == (leading == "scale")


def test_size_is_not_named_where_predict_would_not_use_it() -> None:
    """Two thirds of a drop of six points are less than what is harmless: the image size stays as it is."""
    found = recovery(0.64, 0.68, 0.7)
    assert found.share > 0.6
    assert not is_worth_it(found)
    evidence = evidence_of((0.64, 0.4, 0.9), found)
    verdict = diagnose(replace(evidence, ap50={**evidence.ap50, "in_domain": 0.7}))
    assert verdict.leading == "domain_shift"
    assert "too little to use it" in verdict.named("scale").statement
    assert "predict at" not in verdict.named("scale").missing


def test_size_is_not_named_where_no_drop_is_estimated() -> None:
    evidence = evidence_of((0.68, 0.4, 0.9), recovery(0.68, 0.85, 0.7))
    verdict = diagnose(replace(evidence, ap50={**evidence.ap50, "in_domain": 0.7}))
    assert verdict.leading is None
    assert "no drop is estimated that size could explain" in verdict.named("scale").statement


def test_size_is_not_named_of_a_detector_that_has_not_learned() -> None:
    evidence = evidence_of((0.05, 0.0, 0.1), recovery(0.05, 0.2, 0.2))
    unlearned = replace(evidence, ap50={"in_domain": 0.2, "training": 0.2})
    assert diagnose(unlearned).leading not in ("scale", "domain_shift", "none")


@pytest.mark.parametrize(
    ("estimated", "options", "leading"),
    [
        ((0.66, 0.3, 0.95), {"embedding_shift": 0.0, "statistics": None, "clips": 14}, "none"),
        # The estimate says that AP50 is lower, whatever the images look like.
        ((0.2, 0.1, 0.3), {"embedding_shift": 0.0, "statistics": None, "clips": 14}, None),
        # Images that differ may cost something.
        ((0.66, 0.3, 0.95), {}, None),
        # Three clips show no difference, even where there is one.
        ((0.66, 0.3, 0.95), {"embedding_shift": 0.0, "statistics": None, "clips": 3}, None),
    ],
)
def test_footage_like_the_in_domain_images_is_likely_no_failure(
    estimated: tuple[float, float, float], options: dict[str, object], leading: str | None
) -> None:
    evidence = evidence_of(estimated, None, **options)
    verdict = diagnose(replace(evidence, ap50={**evidence.ap50, "in_domain": 0.7}))
    assert verdict.leading == leading
    assert ("are like the in-domain ones" in verdict.named("none").statement) == (options.get("clips") == 14)


def test_the_size_that_helps_is_used_by_predict(in_domain: Domain, estimator: Estimator) -> None:
    """From the experiment to the next step and its command."""
    before, after = (unlabelled(footage(loss)) for loss in (0.7, 0.0))
    experiments = Experiments(
        estimator=estimator,
        squeezed={"footage": unsteady(before)},
        resized={"footage": Resized(1280, before, after)},
    )
    findings = find(Inputs(in_domain, [before], None, pd.DataFrame(), experiments))
    deployment = findings.deployments["footage"]
    assert (deployment.change.imgsz, deployment.intervention) == (1280, "imgsz 1280")
    assert "higher AP50 estimated without labels" in deployment.note
    assert findings.verdicts["footage"].leading == "scale"
    words = domain_verdict(findings, "footage", "runs/report/x")
    assert words["command"] == "shiftscope predict SOURCE --from-report runs/report/x --domain footage"
    assert words["step"].startswith(
        "Predict at 1280 px and look at the detections; to be sure, run shiftscope review"
    )
    assert words["meanwhile"] == ""
    assert words["cause"] == "Likely: object size"
    assert "object size" not in words["open"]
    # Where the larger images do not help, they are predicted as they are, and a person is asked.
    useless = replace(experiments, resized={"footage": Resized(1280, before, before)})
    findings = find(Inputs(in_domain, [before], None, pd.DataFrame(), useless))
    assert findings.deployments["footage"].change.imgsz == before.imgsz
    assert domain_verdict(findings, "footage", "r")["command"].startswith("shiftscope review r")
    assert np.isclose(findings.evidences["footage"].resized["footage"].share, 0)


def test_what_decides_is_said_once() -> None:
    """Size and shift wait for the same clicks: the next step names them, the line of the rival does not."""
    evidence = evidence_of((0.2, 0.1, 0.3), recovery(0.2, 0.4, 0.7))
    verdict = diagnose(replace(evidence, ap50={**evidence.ap50, "in_domain": 0.7}))
    assert (verdict.leading, verdict.rival) == ("domain_shift", "scale")
    assert verdict.named("scale").missing == verdict.named("domain_shift").missing
    assert _rival(verdict) == "Not ruled out: object size."
    # Where size leads, predicting at that size comes first, and the clicks decide against a shift.
    evidence = evidence_of((0.2, 0.1, 0.3), recovery(0.2, 0.5, 0.7))
    verdict = diagnose(replace(evidence, ap50={**evidence.ap50, "in_domain": 0.7}))
    assert (verdict.leading, verdict.rival) == ("scale", "domain_shift")
    assert "To decide between the two: run shiftscope review" in _rival(verdict)


def test_the_printed_figures_are_those_that_were_measured() -> None:
    """Measured on photographs that are not part of the project; nothing of it is typed in."""
    assert resized.PAGE.read_text(encoding="utf-8") == resized.page(resized.read_rows())
    assert diagnoses.CASES["football"].known in diagnoses.PAGE.read_text(encoding="utf-8")


def test_a_change_is_judged_by_labels() -> None:
    rows = pd.DataFrame(
        {
            "before": [0.1, 0.3, 0.5, 0.5],
            "after": [0.4, 0.2, 0.5, 0.5],
            # Right; wrong; too little to be used; refused.
            "estimate_before": [0.2, 0.3, 0.5, np.nan],
            "estimate_after": [0.4, 0.5, 0.52, np.nan],
            "tried": [1.5, 2.0, 2.0, np.nan],
            "advised": [True, True, False, False],
        }
    )
    assert resized.error(rows) == pytest.approx(np.sqrt((0.1**2 + 0.3**2 + 0.02**2) / 3))
    words = " ".join(resized.summary(rows).split())
    assert "On 3 sets" in words
    assert "the estimate rose by more than five points, AP50 by labels rose in 1 of 2" in words
    assert (
        "would draw 3 of the sets larger, and advise that size for 2; AP50 by labels rises in 1 of 2" in words
    )


def test_rows_of_a_detector_replace_its_earlier_ones(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    add_rows(table, "a", pd.DataFrame({"detector": ["a", "a"], "value": [1, 2]}))
    add_rows(table, "b", pd.DataFrame({"detector": ["b"], "value": [3]}))
    written = add_rows(table, "a", pd.DataFrame({"detector": ["a"], "value": [4]}))
    assert written.to_dict("list") == {"detector": ["b", "a"], "value": [3, 4]}
    assert pd.read_csv(table).equals(written)
