"""Sweep, errors, calibration, shift, factors, leakage and learning, each against an independent result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from benchmarks.simulated import make_domain
from diagnostics import (
    calibration,
    factors,
    label_free,
    leakage,
    precision,
    shift,
    significance,
    slices,
    sweep,
)
from diagnostics.counterfactuals import loose_ap, redraw, size_match, stretch
from diagnostics.error_types import classify_outcomes, decompose_errors, missed_annotations
from diagnostics.learning import summarise_history
from diagnostics.matching import Detections, match
from diagnostics.wording import count, fraction, interval, percent, points
from tests.oracles import arrays_of, random_problem, table_of, tide


def test_sweep_equals_scoring_filtered_detections() -> None:
    domain = make_domain(clips=6, seed=1)
    arrays = domain.detection_arrays
    table = pd.DataFrame(sweep.sweep(domain.table))
    for confidence in (0.05, 0.3, 0.62, 0.9):
        keep = arrays.confidence >= confidence
        filtered = Detections(
            arrays.image[keep], arrays.label[keep], arrays.xywh[keep], arrays.confidence[keep]
        )
        again = match(domain.annotation_arrays, filtered, n_images=len(domain.images), n_classes=1)
        true_positives = int(again.flags(0.5)[0].sum())
        row = table.iloc[(table["confidence"] - confidence).abs().argmin()]
        assert row["precision"] == pytest.approx(true_positives / keep.sum())
        assert row["recall"] == pytest.approx(true_positives / len(domain.annotations))
        assert row["f1"] == pytest.approx(2 * true_positives / (keep.sum() + len(domain.annotations)))
        assert row["false_positives_per_image"] == pytest.approx(
            (keep.sum() - true_positives) / len(domain.images)
        )


def test_sweep_by_hand() -> None:
    box, miss = [10.0, 10.0, 40.0, 40.0], [300.0, 300.0, 40.0, 40.0]
    annotations = [(0, 0, box, 1600.0, False), (1, 0, box, 1600.0, False), (1, 0, miss, 1600.0, False)]
    detections = [
        (0, 0, box, 0.9),
        (0, 0, miss, 0.8),
        (1, 0, box, 0.7),
        (1, 0, [200.0, 0.0, 40.0, 40.0], 0.6),
    ]
    table = table_of((1, 2, annotations, detections))
    grid = np.array([0.65, 0.75, 0.95])
    points_ = sweep.sweeps(table, np.ones((1, 2), bool), grid=grid)
    np.testing.assert_allclose(points_["precision"][0, 0], [2 / 3, 1 / 2, np.nan])
    np.testing.assert_allclose(points_["recall"][0, 0], [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(points_["f1"][0, 0], [2 / 3, 2 / 5, 0])
    np.testing.assert_allclose(points_["false_positives_per_image"][0, 0], [0.5, 0.5, 0])
    curve = {name: values if name == "confidence" else values[0, 0] for name, values in points_.items()}
    assert sweep.recall_at_precision(curve, 0.6) == pytest.approx((2 / 3, 0.65))
    assert sweep.recall_at_precision(curve, 0.9) == (None, None)
    np.testing.assert_allclose(sweep.f_beta(curve, 2), [2 / 3, 5 / 14, 0])


@pytest.mark.parametrize("seed", range(6))
def test_sweeps_of_every_class_and_slice_equal_matching_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng, decimals=3)
    annotations, detections = arrays_of(problem)
    masks = rng.random((5, problem[1])) < 0.6
    grid = np.array([0.1, 0.25, 0.5, 0.8])
    by_class = sweep.sweeps(table_of(problem), masks, by_class=True, grid=grid)
    for g, confidence in enumerate(grid):
        keep = detections.confidence >= confidence
        filtered = Detections(
            detections.image[keep], detections.label[keep], detections.xywh[keep], detections.confidence[keep]
        )
        again = match(annotations, filtered, n_images=problem[1], n_classes=problem[0])
        true_positive, counted = again.flags(0.5)
        for m, mask in enumerate(masks):
            for label in range(problem[0]):
                rows = mask[again.image] & (again.label == label)
                true, shown = (rows & true_positive).sum(), (rows & counted).sum()
                positives = (
                    mask[annotations.image] & (annotations.label == label) & ~annotations.crowd
                ).sum()
                expected = 2 * true / max(shown + positives, 1) if positives else np.nan
                np.testing.assert_equal(by_class["f1"][m, label, g], expected)
                expected = (shown - true) / max(mask.sum(), 1)
                assert by_class["false_positives_per_image"][m, label, g] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(40))
def test_error_types_equal_tidecv_whole_and_per_slice(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # tidecv takes the recall points as k / 100, COCO as k times 0.01; they differ in the last bit, which
    # decides ties.
    monkeypatch.setattr(precision, "RECALL_POINTS", np.arange(101) / 100)
    rng = np.random.default_rng(seed)
    classes, images, annotations, detections = random_problem(rng, crowds=0, decimals=6)
    labels = {o[1] for o in annotations}
    problem = classes, images, annotations, [d for d in detections if d[1] in labels]
    table = table_of(problem)
    outcomes = classify_outcomes(table, *arrays_of(problem))
    for mask in (np.ones(images, bool), rng.random(images) < 0.6):
        ours = decompose_errors(table, outcomes, confidence=0.0, images=mask).set_index("type")
        annotations_in_slice = [o for o in problem[2] if mask[o[0]]]
        present = {o[1] for o in annotations_in_slice}
        shown = [d for d in problem[3] if mask[d[0]]]
        # A class without an annotation has no AP in COCO and an AP of 0 in tidecv, which fails without
        # detections.
        if not annotations_in_slice or not shown or any(d[1] not in present for d in shown):
            continue
        counts, deltas = tide((classes, images, annotations_in_slice, shown))
        assert ours["count"].to_dict() == counts
        if np.isfinite(ours["delta_ap50"]).all():
            for kind, delta in deltas.items():
                assert ours["delta_ap50"][kind] == pytest.approx(delta, abs=1e-9), kind


def test_choosing_on_the_test_clips_is_optimistic() -> None:
    gaps = []
    for seed in range(12):
        domain = make_domain(clips=6, frames=2, seed=seed)
        gaps.append(
            sweep.best_f_beta(sweep.sweep(domain.table))[0]
            - sweep.crossfitted_best_f1(domain.table, domain.group_numbers, seed=seed)
        )
    assert np.mean(gaps) > 0


def test_error_types_of_an_image_drawn_by_hand() -> None:
    """One detection of each outcome, and two missed objects, of which one has the misplaced box."""
    truth = [[0, 0, 100, 100], [200, 0, 300, 100], [400, 0, 500, 100]]
    detections = [
        ([0, 0, 100, 100], 0.9),
        ([2, 2, 100, 100], 0.8),
        ([230, 40, 330, 140], 0.7),
        ([600, 300, 650, 350], 0.6),
    ]
    domain = make_domain(images=[(truth, detections)])
    outcomes = domain.outcomes
    assert outcomes["outcome"].tolist() == ["true_positive", "duplicate", "location", "background"]
    assert missed_annotations(domain.table, outcomes).tolist() == [1, 2]
    table = decompose_errors(domain.table, outcomes, confidence=0.0).set_index("type")
    assert table["count"].to_dict() == {
        "class": 0,
        "location": 1,
        "both": 0,
        "duplicate": 1,
        "background": 1,
        # The other object without a true positive has the misplaced box.
        "missed": 1,
    }
    # AP50: one true positive of three objects, 34 of 101 recall points at precision 1. Correcting the
    # misplaced box (third in rank, after a duplicate) adds 33 points at precision 2/3; not counting the
    # object without any box makes the true positive 51 of 101.
    assert table.loc["location", "delta_ap50"] == pytest.approx(33 / 101 * 2 / 3)
    assert table.loc["missed", "delta_ap50"] == pytest.approx((51 - 34) / 101)
    assert table.loc["background", "delta_ap50"] == 0


def test_correcting_a_class_ranks_by_confidence() -> None:
    """A confident detection with a wrong class ranks first among the detections of its corrected class."""
    truth = [[0, 0, 100, 100], [200, 0, 300, 100]]
    detections = [([0, 0, 100, 100], 0.95, 1), ([400, 200, 450, 250], 0.9, 0), ([200, 0, 300, 100], 0.5, 0)]
    domain = make_domain(images=[(truth, detections)], classes=("pothole", "crack"))
    table = decompose_errors(domain.table, domain.outcomes, confidence=0).set_index("type")
    # Before: one true positive of 2 behind a false positive: 51 points at 1/2. After: 51 points at 1, 50 at
    # 2/3.
    assert table.loc["class", "delta_ap50"] == pytest.approx((51 + 50 * 2 / 3 - 51 / 2) / 101)


def test_wrong_class_is_a_class_error() -> None:
    domain = make_domain(
        images=[([[0, 0, 100, 100]], [([0, 0, 100, 100], 0.9, 1)])], classes=("pothole", "crack")
    )
    assert domain.outcomes["outcome"].tolist() == ["class"]
    assert (
        decompose_errors(domain.table, domain.outcomes, confidence=0).set_index("type").loc["class", "count"]
        == 1
    )


def test_where_ap_is_near_zero_deltas_are_missing() -> None:
    domain = make_domain(images=[([[0, 0, 100, 100]] * 1, [([300, 300, 350, 350], 0.9)])])
    assert decompose_errors(domain.table, domain.outcomes, confidence=0)["delta_ap50"].isna().all()


def test_calibration_of_a_perfectly_calibrated_and_an_overconfident_detector() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.05, 1, 20_000)

    def outcomes(rate: np.ndarray) -> pd.DataFrame:
        true_positive = rng.random(len(rate)) < rate
        return pd.DataFrame(
            {
                "confidence": confidence,
                "image": 0,
                "label": 0,
                "outcome": np.where(true_positive, "true_positive", "background"),
                "nearest_iou": np.where(true_positive, 0.8, 0.0),
            }
        )

    assert calibration.measure_calibration(outcomes(confidence), np.zeros(1, int)).d_ece < 0.015
    assert calibration.measure_calibration(
        outcomes(np.maximum(confidence - 0.2, 0)), np.zeros(1, int)
    ).d_ece == pytest.approx(0.19, abs=0.02)
    assert calibration.measure_calibration(outcomes(confidence).head(0), np.zeros(1, int)).d_ece is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("decimals", [2, 6])
@pytest.mark.slow
def test_calibration_errors_equal_netcal_and_the_written_out_sum(decimals: int) -> None:
    from netcal.metrics import ECE

    rng = np.random.default_rng(decimals)
    confidence = np.round(rng.uniform(0.05, 1, 3000), decimals)
    true_positive = rng.random(3000) < confidence**1.5
    label, overlap = rng.integers(0, 4, 3000), np.where(true_positive, rng.uniform(0.5, 1, 3000), 0.3)
    measured = calibration.measure_calibration(
        pd.DataFrame(
            {
                "image": np.arange(3000) % 30,
                "confidence": confidence,
                "label": label,
                "outcome": np.where(true_positive, "true_positive", "location"),
                "nearest_iou": overlap,
            }
        ),
        np.arange(30),
    )
    assert measured.d_ece == pytest.approx(
        ECE(bins=20, detection=True).measure(confidence, true_positive.astype(int)), abs=1e-4
    )
    by_class = []
    for k in range(4):
        total = 0.0
        for b in range(25):
            inside = (label == k) & (confidence >= b / 25) & (confidence < (b + 1) / 25 if b < 24 else True)
            if inside.any():
                stated, true = confidence[inside].mean(), np.where(true_positive, overlap, 0)[inside].mean()
                total += inside.sum() / (label == k).sum() * abs(stated - true)
        by_class.append(total)
    assert measured.la_ece == pytest.approx(np.mean(by_class), abs=2e-3)
    around = (confidence >= 0.4) & (confidence <= 0.6)
    assert measured.at_half.count == around.sum()
    assert measured.at_half.low < true_positive[around].mean() < measured.at_half.high


def naive_mmd(x: np.ndarray, y: np.ndarray, bandwidth: float) -> float:
    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / bandwidth))

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


def test_mmd_equals_its_definition() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), rng.normal(0.5, 1, size=(9, 3))
    both = np.concatenate([x, y])
    squared = ((both[:, None] - both[None]) ** 2).sum(-1)
    groups = np.array([f"h{i // 3}" for i in range(12)] + [f"a{i // 3}" for i in range(9)])
    sums = shift.GroupSums(shift.gaussian(shift.squared_distances(both)), groups)
    real_world = np.array([[name.startswith("a") for name in np.unique(groups)]], float)
    assert sums.mmd(real_world)[0] == pytest.approx(
        naive_mmd(x, y, float(np.median(squared[np.triu_indices(21, 1)]))), abs=1e-12
    )


def test_energy_distance_equals_its_definition() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(12, 3)), rng.normal(0.5, 1, size=(9, 3))
    groups = np.array([f"h{i // 3}" for i in range(12)] + [f"a{i // 3}" for i in range(9)])
    matrix = -np.sqrt(shift.squared_distances(np.concatenate([x, y])))
    real_world = np.array([[name.startswith("a") for name in np.unique(groups)]], float)
    across = np.mean([np.linalg.norm(a - b) for a in x for b in y])
    within = [
        np.mean([np.linalg.norm(a - b) for i, a in enumerate(side) for j, b in enumerate(side) if i != j])
        for side in (x, y)
    ]
    assert shift.GroupSums(matrix, groups).mmd(real_world)[0] == pytest.approx(
        2 * across - sum(within), abs=1e-9
    )


def test_frechet_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(2)
    first = rng.normal(0, 1, (60_000, 3))
    second = rng.normal([1, 0, 0], [1, 2, 1], (60_000, 3))
    # Means lie 1 apart; one standard deviation differs by 1.
    assert shift.frechet(first, second) == pytest.approx(2.0, abs=0.05)
    from scipy.linalg import sqrtm

    a, b = np.cov(first[:50], rowvar=False), np.cov(second[:70], rowvar=False)
    plain = ((first[:50].mean(0) - second[:70].mean(0)) ** 2).sum() + np.trace(
        a + b - 2 * np.real(sqrtm(a @ b))
    )
    assert shift.frechet(first[:50], second[:70]) == pytest.approx(plain, abs=1e-9)


@pytest.mark.slow
def test_frechet_null_is_between_in_domain_halves_of_the_same_size() -> None:
    rng = np.random.default_rng(3)
    beyond = 0
    for seed in range(12):
        in_domain, in_domain_groups = clips(rng, 24, 10)
        real_world, real_world_groups = clips(rng, 12, 10)
        same = shift.measure_shift(in_domain, real_world, in_domain_groups, real_world_groups, seed=seed)
        assert same.frechet_size == 120
        beyond += same.frechet > same.frechet_null
    assert beyond <= 4
    moved, moved_groups = clips(rng, 12, 10, offset=3.0)
    far = shift.measure_shift(in_domain, moved, in_domain_groups, moved_groups, seed=0)
    assert far.frechet > 3 * far.frechet_null
    assert far.energy_p == pytest.approx(0.001)
    assert far.energy > 5 * abs(same.energy)


def clips(
    rng: np.random.Generator, count: int, frames: int, offset: float = 0.0, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of clips that share half of their variance within a clip."""
    centres = rng.normal(0, 0.7 * scale, (count, 1, 12))
    points_ = centres + rng.normal(0, 0.7 * scale, (count, frames, 12))
    points_[..., 0] += offset
    return points_.reshape(-1, 12), np.repeat([f"g{i}" for i in range(count)], frames)


@pytest.mark.slow
def test_no_shift_is_seldom_significant() -> None:
    """Grouped nulls: permuting frames instead of clips would reject nearly always here."""
    rejected = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        (x, gx), (y, gy) = clips(rng, 10, 6), clips(rng, 8, 6)
        rejected += shift.measure_shift(x, y, gx, gy, seed=seed).p <= 0.05
    # Three at 5 %; more than 8 has probability below 1 %.
    assert rejected <= 8


def test_shift_grows_with_the_offset_and_is_significant() -> None:
    offsets = [0.0, 1.0, 2.0, 4.0, 8.0]
    values = []
    for offset in offsets:
        rng = np.random.default_rng(3)
        (x, gx), (y, gy) = clips(rng, 10, 6), clips(rng, 10, 6, offset)
        values.append(shift.measure_shift(x, y, gx, gy, seed=0))
    assert spearmanr(offsets, [v.mmd for v in values]).statistic > 0.9
    assert values[-1].p == pytest.approx(0.001)
    assert values[-1].mmd_ratio > 1 > values[0].mmd_ratio
    assert values[-1].auc > 0.95
    assert values[-1].outside > 0.9
    assert values[-1].coverage < 0.05
    assert values[0].coverage == pytest.approx(values[0].coverage_null, abs=0.2)


def test_coverage_equals_its_definition() -> None:
    """In-domain points on a line, each its own group, and one real-world point."""
    in_domain, groups = np.arange(20.0)[:, None], np.array([f"g{i}" for i in range(20)])
    # From the inside two neighbours lie one step away, two lie two, and the fifth lies three steps away; the
    # ends reach further.
    reach = np.array([5, 4, 3] + [3] * 14 + [3, 4, 5])
    expected = (np.abs(np.arange(20) - 3) <= reach).mean()
    assert shift.coverage(in_domain, groups, np.array([[3.0]])) == pytest.approx(expected)
    assert shift.coverage(in_domain[:4], groups[:4], np.array([[3.0]])) is None


def test_one_clip_is_one_sample() -> None:
    rng = np.random.default_rng(0)
    (x, gx), (y, _) = clips(rng, 10, 6), clips(rng, 1, 30, 5.0)
    measured = shift.measure_shift(x, y, gx, np.array(["v"] * 30), seed=0)
    assert measured.p is None
    assert measured.auc > 0.9
    assert measured.note.startswith("one clip is one sample")


def test_too_few_samples_are_not_measured() -> None:
    measured = shift.measure_shift(
        np.zeros((4, 3)), np.zeros((40, 3)), np.array(list("abcd")), np.array(["x"] * 40), seed=0
    )
    assert measured.mmd is None
    assert "4 samples in a domain, 10 are needed" in measured.note


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(
        significance.holm(np.array([0.01, 0.04, 0.03, np.nan])), [0.03, 0.06, 0.06, np.nan]
    )


def test_the_changed_factor_comes_first() -> None:
    in_domain, dark = (
        make_domain(clips=8, seed=0),
        make_domain(clips=8, seed=1, statistics={"brightness": 0.2}),
    )
    table = factors.compare(
        *(
            factors.samples(d.images, factors.box_factors(d.images, d.annotations, 320))
            for d in (in_domain, dark)
        )
    )
    assert table["name"].iloc[0] == "brightness"
    assert table["p"].iloc[0] < 0.05
    assert (table["effect"].iloc[1:] < table["effect"].iloc[0] / 3).all()


def test_stretching_corrects_boxes_drawn_by_another_rule() -> None:
    np.testing.assert_allclose(stretch(np.array([[10.0, 10, 20, 40]]), 2, 0.5), [[0, 20, 40, 20]])
    drawn_large = make_domain(clips=8, seed=2, label_margin=1.7)
    redrawn = redraw(drawn_large, seed=0)
    assert redrawn.width == pytest.approx(1.7, abs=0.1)
    assert redrawn.after > redrawn.before + 0.3
    assert loose_ap(drawn_large, 0.1) > redrawn.before + 0.3


def test_a_rule_of_its_own_for_each_class_is_found() -> None:
    """A red lamp is drawn at the top of its housing, a green one at the bottom: the same stretch
    misses both.
    """
    domain = make_domain(clips=12, seed=2, recall=0.9, classes=("red", "green"))
    labels = np.arange(len(domain.annotations)) % 2
    # The detector knows which is which.
    named, pairs = domain.detections["label"].to_numpy().copy(), domain.outcomes
    pairs = pairs[pairs["partner"] >= 0]
    named[pairs["row"].to_numpy()] = labels[pairs["partner"].to_numpy()]
    domain = replace(
        domain,
        annotations=domain.annotations.assign(label=labels),
        detections=domain.detections.assign(label=named),
    )
    annotations = domain.annotations.copy()
    height = annotations["y2"] - annotations["y1"]
    annotations["y1"] += height * np.where(labels == 1, 0.6, 0.0)
    annotations["y2"] -= height * np.where(labels == 0, 0.6, 0.0)
    lamps = replace(domain, annotations=annotations)
    found = redraw(lamps, seed=0)
    assert found.before < 0.2
    assert found.after > found.before + 0.3


def test_size_explains_only_a_gap_caused_by_size() -> None:
    in_domain = make_domain(clips=40, seed=0, sides=(10, 60), size_matters=True)
    small = make_domain(clips=10, seed=1, sides=(10, 18), size_matters=True)
    assert size_match(in_domain, small, 0.1).share == pytest.approx(1.0, abs=0.25)
    worse = make_domain(clips=10, seed=2, sides=(10, 60), recall=0.3)
    assert size_match(in_domain, worse, 0.1).share < 0.25
    giant = make_domain(clips=10, seed=3, sides=(150, 200), recall=0.3)
    assert size_match(in_domain, giant, 0.1).share is None


def test_slices_below_thirty_objects_have_no_ap() -> None:
    domain = make_domain(clips=8, seed=4)
    table = slices.score(domain, slices.edges([domain]), seed=0)
    few = table["boxes"] < 30
    assert few.any()
    assert table.loc[few, "ap50"].isna().all()
    assert table.loc[few, "note"].str.contains("30 are needed").all()
    assert table.loc[~few, "ap50"].between(0, 1).all()


def test_slices_of_one_attribute_sum_to_the_domain() -> None:
    domain = make_domain(clips=8, seed=4)
    table = slices.score(domain, slices.edges([domain]), seed=0)
    for attribute in ("brightness", "density", "size"):
        assert table.loc[table["attribute"] == attribute, "boxes"].sum() == len(domain.annotations)


def test_an_unlabelled_domain_has_no_ap() -> None:
    domain = make_domain(clips=2, seed=0, labelled=False)
    table = slices.score(domain, {}, seed=0)
    assert table[["ap", "ap50", "max_recall"]].isna().all(axis=None)
    assert table["note"].tolist() == ["no labels: AP cannot be measured"]


def test_a_detector_without_detections_raises_the_alarm_and_gets_no_ap() -> None:
    in_domain, silent = (
        make_domain(clips=4, seed=0),
        make_domain(clips=2, seed=1, labelled=False, recall=0.0, false_positive_rate=0.0),
    )
    estimate = label_free.estimate_ap50(in_domain, silent, None)
    assert estimate.ap50 is None
    assert estimate.abstained
    assert "the detector misses them" in estimate.alarm
    assert label_free.estimate_ap50(in_domain, make_domain(clips=2, seed=2, labelled=False), None).alarm == ""


def test_only_planted_copies_are_reported_as_duplicates() -> None:
    training, in_domain = make_domain(clips=10, seed=0), make_domain(clips=4, seed=1, clip_names="v")
    clean = leakage.find_leaks(training, in_domain)
    assert (clean.duplicates, clean.shared_groups) == (0, 0)
    copied = in_domain.images.copy()
    copied.loc[:4, "fingerprint"] = training.images["fingerprint"].iloc[:5].to_numpy()
    leaky = leakage.find_leaks(training, make_domain(clips=4, seed=1, clip_names="v", images_table=copied))
    assert leaky.duplicates == 5
    assert [pair[1] for pair in leaky.pairs] == training.images["image"].head(5).tolist()
    assert leaky.clean_ap50 is not None


@pytest.mark.parametrize(
    ("ap50", "rising", "epochs"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], True, 8),
        ([0.1, 0.4, 0.6, 0.7, 0.71, 0.70, 0.71, 0.70], False, 8),
    ],
)
def test_the_slope_describes_the_end_of_training(ap50: list[float], rising: bool, epochs: int) -> None:
    curve = summarise_history(pd.DataFrame({"epoch": range(1, epochs + 1), "ap50": ap50}))
    assert (curve.gain > 0.5) == rising


def test_a_short_history_has_no_slope_and_a_turned_loss_is_reported() -> None:
    assert summarise_history(pd.DataFrame({"epoch": [1.0], "ap50": [0.1]})).slope is None
    assert summarise_history(pd.DataFrame()).epochs == 0
    turned = summarise_history(
        pd.DataFrame({"epoch": range(10), "val_box_loss": [5, 4, 3, 2, 2.5, 3, 3.5, 4, 4.5, 5.0]})
    )
    assert turned.best_loss_epoch == pytest.approx(0.4)
    assert turned.loss_rise > 0.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (fraction(0.734), "0.73"),
        (fraction(0.0361), "0.036"),
        (fraction(1.0), "1.00"),
        (fraction(0.0), "0.00"),
        (fraction(float("nan")), "not measurable"),
        (points(0.183), "18 points"),
        (points(-0.0004), "0.0 points"),
        (percent(0.412), "41 %"),
        (count(1, "clip"), "1 clip"),
        (count(1200, "image"), "1,200 images"),
        (interval(0.1, 0.2), "[0.10, 0.20]"),
        (interval(None, None, "why"), "why"),
    ],
)
def test_wording(text: str, expected: str) -> None:
    assert text == expected
