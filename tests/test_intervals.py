"""Cluster bootstrap: exact where it can be checked exactly, and of the stated coverage on simulated clips."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.simulated import make_domain
from diagnostics import intervals
from diagnostics.domain import BLOCKS
from diagnostics.intervals import (
    ApBootstrap,
    ap_interval,
    bca,
    bootstrap_weights,
    difference_interval,
    jackknife_weights,
    wilson,
)
from diagnostics.matching import Annotations, Detections, match
from diagnostics.precision import accumulate, mean


def simulated(
    rng: np.random.Generator, clips: int, frames: int = 6, spread: float = 0.15, false_rate: float = 0.7
):
    """The match table of a one-class detector whose recall varies by clip, and the clip of each frame."""
    annotations, detections, group = [], [], []
    for clip in range(clips):
        rate = np.clip(0.6 + rng.normal(0, spread), 0.05, 0.95)
        for _ in range(frames):
            image = len(group)
            group.append(clip)
            for k in range(3):
                box = [100.0 * k, 10.0, 50.0, 50.0]
                annotations.append((image, box))
                if rng.random() < rate:
                    detections.append((image, box, rng.beta(4, 2)))
            if rng.random() < false_rate:
                detections.append((image, [500.0, 500.0, 50.0, 50.0], rng.beta(2, 4)))
    table = match(
        Annotations(
            np.array([o[0] for o in annotations]),
            np.zeros(len(annotations), int),
            np.array([o[1] for o in annotations]),
            np.full(len(annotations), 2500.0),
            np.zeros(len(annotations), bool),
        ),
        Detections(
            np.array([d[0] for d in detections]),
            np.zeros(len(detections), int),
            np.array([d[1] for d in detections]),
            np.array([d[2] for d in detections]),
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


def test_jackknife_weights_equal_scoring_the_remaining_clips() -> None:
    table, group = simulated(np.random.default_rng(1), 7)
    ap50_without = ApBootstrap(table, group)(jackknife_weights(7, 0))
    expected = [ap50(table, images=group != g) for g in range(7)]
    np.testing.assert_allclose(ap50_without, expected, atol=1e-12)


def test_few_clips_have_no_interval_and_a_note() -> None:
    table, group = simulated(np.random.default_rng(2), 1)
    interval = ap_interval(table, group, seed=0)
    assert interval.low is None
    assert interval.note == "no interval: 1 independent clip, 5 are needed"
    table, group = simulated(np.random.default_rng(2), 7)
    assert "likely too narrow" in ap_interval(table, group, seed=0).note
    table, group = simulated(np.random.default_rng(2), 12)
    assert ap_interval(table, group, seed=0).note == ""


def test_intervals_cover_the_truth_at_their_level() -> None:
    table, _ = simulated(np.random.default_rng(99), 3000, frames=6)
    truth = ap50(table)
    covered = 0
    for seed in range(200):
        table, group = simulated(np.random.default_rng(1000 + seed), 20)
        interval = ap_interval(table, group, seed=seed, replicates=400)
        covered += interval.low <= truth <= interval.high
    # 95 % of 200 is 190; three binomial standard deviations are 9.
    assert 181 <= covered <= 199


def test_difference_of_a_domain_to_itself_includes_zero() -> None:
    table, group = simulated(np.random.default_rng(5), 15)
    interval = difference_interval(ApBootstrap(table, group), ApBootstrap(table, group), seed=0)
    assert interval.low < 0 < interval.high


def test_bca_of_a_constant_is_the_constant() -> None:
    assert bca(np.full(50, 0.4), 0.4, np.full(5, 0.4), 5) == (0.4, 0.4)


def test_draws_keep_the_number_of_groups() -> None:
    assert (bootstrap_weights(np.random.default_rng(0), 9, 50).sum(1) == 9).all()


def test_wilson_of_nothing_is_everything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(10, 20)
    assert low == pytest.approx(0.299, abs=0.001)
    assert high == pytest.approx(0.701, abs=0.001)


def test_acceleration_of_a_difference_follows_the_smaller_domain() -> None:
    """The exact third moment of a difference of means of 200 and 8 skewed groups equals the jackknife's."""
    rng = np.random.default_rng(0)
    large, small = rng.exponential(1.0, 200), np.array([0.1] * 7 + [6.0])

    class Mean:
        def __init__(self, values: np.ndarray) -> None:
            self.values, self.groups = values, np.arange(len(values))

        def __call__(self, weights: np.ndarray) -> np.ndarray:
            return weights @ self.values / weights.sum(1)

    accelerations = []

    def record_acceleration(values, point, jackknife, groups, level=0.95):
        centred = np.mean(jackknife) - jackknife
        accelerations.append((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))
        return point, point

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "bca", record_acceleration)
        difference_interval(Mean(large), Mean(small), seed=0)
    first, second = (large - large.mean()) / 200, (small.mean() - small) / 8
    both = np.concatenate([first, second])
    exact = (both**3).sum() / (6 * (both**2).sum() ** 1.5)
    assert accelerations == pytest.approx([exact], abs=0.01)
    assert exact < -0.01


def test_intervals_cover_a_detector_without_false_positives() -> None:
    """AP50 then takes few values: ties with the point must count half in either precision of the draws."""
    table, _ = simulated(np.random.default_rng(7), 2000, spread=0.1, false_rate=0.0)
    truth, covered = ap50(table), 0
    for seed in range(60):
        table, group = simulated(np.random.default_rng(3000 + seed), 40, spread=0.1, false_rate=0.0)
        interval = ap_interval(table, group, seed=seed, replicates=400)
        covered += interval.low <= truth <= interval.high
    # 95 % of 60 is 57; 50 or fewer has a probability of 1 in 300.
    assert covered >= 51


@pytest.mark.slow
def test_blocks_of_one_recording_cover_what_holds_for_it() -> None:
    """The AP50 of 800 frames of one recording, from the labels of 40 of them."""
    held = 0
    for seed in range(30):
        whole = make_domain(clips=1, frames=800, seed=seed, recall=0.6)
        some = whole.subset(whole.images["image"].iloc[seed % 20 :: 20])
        assert len(set(some.interval_units)) == BLOCKS
        bounds = ap_interval(some.table, some.interval_units, seed=seed)
        held += bounds.low <= ap50(whole.table) <= bounds.high
    # 95 % of 30 is 28; fewer than 25 would happen in 1 of 200 such series.
    assert held >= 25
