"""What a report may cost: budgets, and interventions that are left where they recover nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated import make_domain
from datasets.errors import InputError
from diagnostics.counterfactuals import Recovery
from diagnostics.domain import Domain
from diagnostics.pairs import make_pairs
from reports.options import Effort, ReportOptions
from reports.page.interventions import left_early
from reports.pipeline import interventions
from reports.pipeline.effort import LEAST_PASSES, Budget
from reports.pipeline.interventions import (
    COLOURS,
    SIZE,
    DomainPredictor,
    run_interventions,
    takes_one_size,
)
from tests.conftest import MainJob
from train.predictions import Settings


class Silent:
    """A reporter that shows nothing."""

    @contextmanager
    def stage(self, key: str, title: str, total: int | None = None):
        yield lambda: None

    def say(self, line: str) -> None:
        pass


def in_domain_images() -> Domain:
    """Well detected, with the mean colours that `Photometric` matches."""
    domain = make_domain("in_domain", clips=30, frames=4, seed=1, recall=0.9)
    colours = {f"{statistic}_{channel}": 100.0 for statistic in ("mean", "spread") for channel in "bgr"}
    return replace(domain, images=domain.images.assign(**colours))


def small_objects(recall: float) -> Domain:
    """Real-world images of objects half the size, of which a share is found; always of the same objects."""
    return make_domain("street", role="real_world", clips=30, frames=4, seed=3, recall=recall, sides=(10, 30))


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """What was predicted: transform, input size and number of images. Larger images are predicted well."""
    calls: list[tuple[str, int, int]] = []
    well, badly = small_objects(0.9), small_objects(0.3)

    def predict(
        self: DomainPredictor,
        domain: Domain,
        transform: object,
        tick: Callable[[], None],
        *,
        imgsz: int | None = None,
        conf: float | None = None,
        embed_detections: bool = False,
    ) -> Domain:
        calls.append((getattr(transform, "name", "none"), imgsz or 0, len(domain.images)))
        better = (well if (imgsz or 0) > 640 else badly).subset(domain.images["image"])
        found = better.detections
        if imgsz not in (None, 640):
            # No network is as sure at another size.
            found = found.assign(confidence=found["confidence"] * 0.999)
        return replace(domain, detections=found, detection_embeddings=better.detection_embeddings)

    monkeypatch.setattr(DomainPredictor, "predict", predict)
    monkeypatch.setattr(interventions, "_try_surroundings", lambda trials, in_domain: None)
    return calls


def experiment(effort: Effort, passes: int = 5000) -> tuple[Budget, interventions.Interventions]:
    in_domain = in_domain_images()
    pair = make_pairs(in_domain, [small_objects(0.3)], None, None)["street"]
    predictor = DomainPredictor(None, None, Settings(640), Silent())  # type: ignore[arg-type]
    budget = Budget(effort, passes, 640)
    return budget, run_interventions(predictor, pair, budget, combine=True, seed=0)


def test_a_pass_at_twice_the_side_counts_as_four() -> None:
    budget = Budget(Effort.STANDARD, 2000, 640)
    assert budget.limit == 2000
    assert budget.take("larger", 100, 1280)
    assert budget.spent == 400
    assert not budget.take("all", 1601)
    assert budget.left_out == ["all"]
    assert budget.take("needed", 5000, needed=True)
    # Few images take as many passes as the least set of experiments.
    assert Budget(Effort.STANDARD, 10, 640).limit == LEAST_PASSES
    assert Budget(Effort.QUICK, 10_000, 640).limit == 5000
    assert Budget(Effort.THOROUGH, 10, 640).limit == float("inf")


def test_what_recovers_nothing_is_left_after_some_images(tried: list[tuple[str, int, int]]) -> None:
    budget, result = experiment(Effort.STANDARD)
    assert result.recoveries[COLOURS].images == budget.allowance.first
    assert abs(result.recoveries[COLOURS].share) < 0.1
    assert max(images for name, _, images in tried if name.startswith("match")) == budget.allowance.first
    larger = next(found for found in result.recoveries.values() if found.size_factor > 1)
    assert larger.share > 0.6
    assert larger.images > budget.allowance.first
    # Nothing is combined with what recovers nothing.
    assert result.corrections == (SIZE,)
    assert set(result.corrected_domains) == {frozenset(), frozenset({SIZE})}
    assert not budget.left_out
    # Every image was counted once, whether it was tried in one go or two.
    assert budget.spent == sum(
        budget.cost(recovery.images, round(640 * recovery.size_factor))
        for recovery in result.recoveries.values()
        if "tiles" not in recovery.name
    ) + 4 * sum(r.images for name, r in result.recoveries.items() if name == "tiles")


def test_a_thorough_report_tries_and_combines_all(tried: list[tuple[str, int, int]]) -> None:
    _, result = experiment(Effort.THOROUGH)
    assert result.recoveries[COLOURS].images > 60
    assert set(result.corrections) >= {COLOURS, SIZE}
    assert frozenset({COLOURS, SIZE}) in result.corrected_domains


@pytest.mark.parametrize("effort", [Effort.STANDARD, Effort.THOROUGH])
def test_a_detector_of_one_size_is_not_said_to_gain_nothing_from_another(
    effort: Effort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects of half the size, and a network that takes one size: tiles draw them larger."""
    well = small_objects(0.9)

    def predict(self: DomainPredictor, domain: Domain, transform: object, *_: object, **__: object) -> Domain:
        tiled = type(transform).__name__ == "Tile"
        found = well.subset(domain.images["image"]) if tiled else domain
        return replace(domain, detections=found.detections, detection_embeddings=found.detection_embeddings)

    monkeypatch.setattr(DomainPredictor, "predict", predict)
    monkeypatch.setattr(interventions, "_try_surroundings", lambda trials, in_domain: None)
    _, result = experiment(effort)
    assert not [name for name in result.recoveries if name.startswith("imgsz")]
    assert "tiles" in result.recoveries
    # Colours that change nothing were tried, and did.
    assert result.recoveries[COLOURS].share == 0
    assert SIZE not in result.corrections


def test_detections_are_compared_from_the_confidence_that_both_are_known_from() -> None:
    domain = small_objects(0.9)
    weak = domain.detections.head(5).assign(confidence=0.005)
    with_weak = replace(
        domain,
        detections=pd.concat([domain.detections, weak], ignore_index=True),
        detection_embeddings=np.zeros((len(domain.detections) + 5, 0), np.float32),
    )
    assert not takes_one_size(with_weak, domain)
    assert takes_one_size(with_weak, domain, 0.01)
    moved = replace(domain, detections=domain.detections.assign(x1=domain.detections["x1"] + 1e-3))
    assert not takes_one_size(domain, moved)
    # Where nothing is detected, nothing shows that the size does not matter to the detector.
    nothing = replace(
        domain,
        detections=domain.detections.head(0),
        detection_embeddings=np.zeros((0, 0), np.float32),
    )
    assert not takes_one_size(nothing, nothing)


def test_what_does_not_fit_is_named(tried: list[tuple[str, int, int]]) -> None:
    budget = Budget(Effort.QUICK, 0, 640)
    in_domain = in_domain_images()
    pair = make_pairs(in_domain, [small_objects(0.3)], None, None)["street"]
    budget.take("others", 740, needed=True)
    predictor = DomainPredictor(None, None, Settings(640), Silent())  # type: ignore[arg-type]
    run_interventions(predictor, pair, budget, combine=True, seed=0)
    assert any(name.endswith("on street") for name in budget.left_out)
    assert budget.spent <= budget.limit


def test_leaving_early_keeps_the_change_that_is_chosen_on_its_own_images(
    tried: list[tuple[str, int, int]],
) -> None:
    _, result = experiment(Effort.STANDARD)
    for changed in result.changes:
        assert len(changed.domain.images) == result.recoveries[changed.name].images


def test_an_effort_that_there_is_not_is_refused() -> None:
    assert ReportOptions(effort="quick").effort is Effort.QUICK
    assert ReportOptions(effort="thorough").as_record()["effort"] == "thorough"
    with pytest.raises(InputError, match="effort=much: expected quick, standard, thorough"):
        ReportOptions(effort="much")


def test_the_record_says_what_was_spent_and_left_out(job: MainJob) -> None:
    protocol = job.record["protocol"]
    assert 0 < protocol["experiment_passes"] <= LEAST_PASSES
    assert protocol["backend"] == ("OpenVINO" if job.trained else "PyTorch")
    missing = {entry["test"]: entry["missing"] for entry in job.record["not_run"]}
    assert all(missing[test] == "--effort thorough" for test in protocol["left_out"])


@pytest.mark.slow
def test_leaving_out_is_rarely_wrong() -> None:
    """An intervention that recovers half of the drop is left by a part of the images in fewer than one case
    in 50, one that recovers nothing in most.
    """
    in_domain = in_domain_images()
    left = {0.3: 0, 0.6: 0}
    for seed in range(60):
        worlds = {
            recall: make_domain(
                "street", role="real_world", clips=30, frames=1, seed=100 + seed, recall=recall
            )
            for recall in (0.3, 0.6)
        }
        again = make_domain("street", role="real_world", clips=30, frames=1, seed=900 + seed, recall=0.3)
        plan = interventions._plan(640, in_domain, worlds[0.3], 60)
        trials = interventions._Trials(
            None,
            "street",
            plan,
            Budget(Effort.STANDARD, 5000, 640),
            0.85,
            seed,  # type: ignore[arg-type]
        )
        part = worlds[0.3].subset(worlds[0.3].images["image"].head(20))
        for recall, after in ((0.3, again), (0.6, worlds[0.6])):
            same = replace(
                part,
                detections=after.subset(part.images["image"]).detections,
                detection_embeddings=np.zeros((0, 0), np.float32),
            )
            left[recall] += trials._is_futile(part, replace(same, annotations=part.annotations))
    assert left[0.6] <= 1
    assert left[0.3] >= 10


def test_the_page_says_what_was_left_early() -> None:
    whole = SimpleNamespace(images=100, contributions=(SimpleNamespace(name="imgsz 512"),))
    tried = {
        "colours": Recovery("colours", 0.47, 0.30, -0.4, -0.6, -0.1, 20),
        "imgsz 512": Recovery("imgsz 512", 0.42, 0.45, 0.1, 0.0, 0.2, 100, 2.0),
        # Fewer images by itself, not because it was left.
        "surroundings": Recovery("surroundings", 0.43, 0.10, -0.9, -1.1, -0.5, 60),
    }

    def words(recoveries: dict[str, Recovery]) -> str:
        evidence = SimpleNamespace(decompositions=(whole,), recoveries=recoveries)
        return left_early(SimpleNamespace(findings=SimpleNamespace(evidence=evidence)))  # type: ignore[arg-type]

    assert words(tried).endswith("and not combined: colours (-17 points on 20 images).")
    everything = "Every combination of the interventions in these tables was tried."
    assert words({"imgsz 512": tried["imgsz 512"]}) == everything
    # A larger input that recovers much where objects are not small is no cause, and is not kept quiet.
    larger = Recovery("imgsz 1024", 0.37, 0.56, 0.45, 0.3, 0.6, 100, 4.0)
    assert words({"imgsz 1024": larger}).endswith("is not combined: imgsz 1024 (+19 points).")
