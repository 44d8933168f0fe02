"""Cluster bootstrap: exact where it can be checked exactly, and covering what it claims on simulated clips."""

from __future__ import annotations

import numpy as np
import pytest

from diagnostics import intervals
from diagnostics.intervals import ApBootstrap, ap_interval, bca, difference_interval, draws, left_out, wilson
from diagnostics.matching import Annotations, Detections, match
from diagnostics.precision import accumulate, mean


def simulated(
    rng: np.random.Generator, clips: int, frames: int = 6, spread: float = 0.15, false_rate: float = 0.7
):
    """A one-class detector whose hit rate varies from clip to clip; returns its match table and the clip of each frame."""
    annotations, found, group = [], [], []
    for clip in range(clips):
        rate = np.clip(0.6 + rng.normal(0, spread), 0.05, 0.95)
        for _ in range(frames):
            image = len(group)
            group.append(clip)
            for k in range(3):
                box = [100.0 * k, 10.0, 50.0, 50.0]
                annotations.append((image, box))
                if rng.random() < rate:
                    found.append((image, box, rng.beta(4, 2)))
            if rng.random() < false_rate:
                found.append((image, [500.0, 500.0, 50.0, 50.0], rng.beta(2, 4)))
    table = match(
        Annotations(
            np.array([o[0] for o in annotations]),
            np.zeros(len(annotations), int),
            np.array([o[1] for o in annotations]),
            np.full(len(annotations), 2500.0),
            np.zeros(len(annotations), bool),
        ),
        Detections(
            np.array([d[0] for d in found]),
            np.zeros(len(found), int),
            np.array([d[1] for d in found]),
            np.array([d[2] for d in found]),
        ),
        n_images=len(group),
        n_classes=1,
    )
    return table, np.array(group)


def ap50(table, images=None) -> float:
    return mean(accumulate(table, images=images)[0][:, table.bit(0.5)])


def test_weights_of_one_give_the_plain_ap() -> None:
    table, group = simulated(np.random.default_rng(0), 8)
    assert ApBootstrap(table, group)(np.ones((1, 8), int))[0] == pytest.approx(ap50(table), abs=1e-12)


def test_all_thresholds_together_give_ap() -> None:
    table, group = simulated(np.random.default_rng(0), 8)
    assert ApBootstrap(table, group, iou=None)(np.ones((1, 8), int))[0] == pytest.approx(
        mean(accumulate(table)[0]), abs=1e-12
    )


def test_leaving_a_clip_out_equals_scoring_the_rest() -> None:
    table, group = simulated(np.random.default_rng(1), 7)
    curve = ApBootstrap(table, group)
    found = curve(left_out(7, 0))
    expected = [ap50(table, images=group != g) for g in range(7)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_few_clips_have_no_interval_and_say_so() -> None:
    table, group = simulated(np.random.default_rng(2), 1)
    found = ap_interval(table, group, seed=0)
    assert found.low is None
    assert found.note == "no interval: 1 independent clip, 5 are needed"
    table, group = simulated(np.random.default_rng(2), 7)
    assert "likely too narrow" in ap_interval(table, group, seed=0).note
    table, group = simulated(np.random.default_rng(2), 12)
    assert ap_interval(table, group, seed=0).note == ""


def test_intervals_cover_the_truth_as_often_as_they_claim() -> None:
    table, _ = simulated(np.random.default_rng(99), 3000, frames=6)
    truth = ap50(table)
    covered = 0
    for seed in range(200):
        table, group = simulated(np.random.default_rng(1000 + seed), 20)
        found = ap_interval(table, group, seed=seed, replicates=400)
        covered += found.low <= truth <= found.high
    # 95 % of 200 is 190; three binomial standard deviations are 9.
    assert 181 <= covered <= 199


def test_difference_of_a_domain_to_itself_includes_zero() -> None:
    table, group = simulated(np.random.default_rng(5), 15)
    found = difference_interval(ApBootstrap(table, group), ApBootstrap(table, group), seed=0)
    assert found.low < 0 < found.high


def test_bca_of_a_constant_is_the_constant() -> None:
    assert bca(np.full(50, 0.4), 0.4, np.full(5, 0.4), 5) == (0.4, 0.4)


def test_draws_keep_the_number_of_groups() -> None:
    assert (draws(np.random.default_rng(0), 9, 50).sum(1) == 9).all()


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(10, 20)
    assert low == pytest.approx(0.299, abs=0.001)
    assert high == pytest.approx(0.701, abs=0.001)


def test_acceleration_of_a_difference_follows_the_smaller_side() -> None:
    """The exact third moment of a difference of means of 200 and 8 skewed groups, against what leaving one out gives."""
    rng = np.random.default_rng(0)
    large, small = rng.exponential(1.0, 200), np.array([0.1] * 7 + [6.0])

    class Mean:
        def __init__(self, values: np.ndarray) -> None:
            self.values, self.groups = values, np.arange(len(values))

        def __call__(self, weights: np.ndarray) -> np.ndarray:
            return weights @ self.values / weights.sum(1)

    seen = {}

    def spy(values, point, jackknife, groups, level=0.95):
        centred = np.mean(jackknife) - jackknife
        seen["acceleration"] = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
        return point, point

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "bca", spy)
        difference_interval(Mean(large), Mean(small), seed=0)
    first, second = (large - large.mean()) / 200, (small.mean() - small) / 8
    both = np.concatenate([first, second])
    exact = (both**3).sum() / (6 * (both**2).sum() ** 1.5)
    assert seen["acceleration"] == pytest.approx(exact, abs=0.01)
    assert exact < -0.01


def test_a_detector_without_false_positives_is_covered_too() -> None:
    """AP50 then takes few values: ties with the point must count half, whatever precision the draws are reckoned in."""
    table, _ = simulated(np.random.default_rng(7), 2000, spread=0.1, false_rate=0.0)
    truth, covered = ap50(table), 0
    for seed in range(60):
        table, group = simulated(np.random.default_rng(3000 + seed), 40, spread=0.1, false_rate=0.0)
        found = ap_interval(table, group, seed=seed, replicates=400)
        covered += found.low <= truth <= found.high
    # 95 % of 60 is 57; 50 or fewer would be a one-in-300 accident.
    assert covered >= 51
