"""AP against pycocotools on random problems, whole and per slice, and properties that need no oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.workload import make_problem, write_problem
from diagnostics import averaging
from diagnostics.averaging import FEW, RECALL_POINTS, Averager, points_reached
from diagnostics.matching import AREAS, MatchTable, _order, match
from diagnostics.precision import (
    COCO_METRICS,
    coco_metrics,
    curves,
    mean,
    mean_of_classes,
    weighted_coco_metrics,
)
from tests.oracles import Problem, hotcoco_metrics, pycocotools_metrics, random_problem, table_of


def ours(problem: Problem, mask: np.ndarray | None = None) -> np.ndarray:
    return np.nan_to_num(
        np.array([coco_metrics(table_of(problem), mask)[name] for name in COCO_METRICS]), nan=-1
    )


@pytest.mark.parametrize("seed", range(150))
def test_coco_metrics_equal_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng)
    np.testing.assert_allclose(ours(problem), pycocotools_metrics(problem), atol=1e-9)
    mask = rng.random(problem[1]) < (0.5, 0.15)[seed % 2]
    if mask.any():
        np.testing.assert_allclose(
            ours(problem, mask), pycocotools_metrics(problem, np.flatnonzero(mask).tolist()), atol=1e-9
        )


def test_more_than_a_hundred_detections_in_an_image() -> None:
    rng = np.random.default_rng(7)
    annotations = [(0, 0, [20.0 * i, 10.0, 15.0, 15.0], 225.0, False) for i in range(30)]
    detections = [
        (0, 0, [20.0 * i + rng.normal(0, 3), 10.0, 15.0, 15.0], float(rng.random()))
        for i in range(30)
        for _ in range(6)
    ]
    problem = (1, 1, annotations, detections)
    np.testing.assert_allclose(ours(problem), pycocotools_metrics(problem), atol=1e-9)


@pytest.mark.parametrize("missing", ["annotations", "detections", "both"])
def test_nothing_to_measure_is_missing_not_zero(missing: str) -> None:
    box = [10.0, 10.0, 40.0, 40.0]
    annotations = [] if missing in ("annotations", "both") else [(0, 0, box, 1600.0, False)]
    detections = [] if missing in ("detections", "both") else [(0, 0, box, 0.9)]
    numbers = coco_metrics(table_of((1, 1, annotations, detections)))
    if missing == "detections":
        assert numbers["ap"] == 0
    else:
        assert np.isnan(numbers["ap"])
        assert np.isnan(numbers["ar_100"])


def test_order_of_images_and_rows_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    classes, images, annotations, detections = random_problem(rng)
    # Ties between images are broken by image order, so scores are made distinct first.
    detections = [(*d[:3], d[3] + 1e-6 * n) for n, d in enumerate(detections)]
    turn = rng.permutation(images)
    turned = (
        classes,
        images,
        [(int(turn[o[0]]), *o[1:]) for o in annotations],
        [(int(turn[d[0]]), *d[1:]) for d in rng.permutation(np.array(detections, object))],
    )
    np.testing.assert_allclose(ours((classes, images, annotations, detections)), ours(turned), atol=1e-12)


def test_doubling_every_image_changes_nothing() -> None:
    rng = np.random.default_rng(11)
    classes, images, annotations, detections = random_problem(rng)
    detections = [(*d[:3], d[3] + 1e-6 * n) for n, d in enumerate(detections)]
    twice = (
        classes,
        2 * images,
        annotations + [(o[0] + images, *o[1:]) for o in annotations],
        detections + [(d[0] + images, *d[1:]) for d in detections],
    )
    first, second = (
        coco_metrics(table_of((classes, images, annotations, detections))),
        coco_metrics(table_of(twice)),
    )
    assert first["ap50"] == pytest.approx(second["ap50"], abs=0.02)
    assert first["ar_100"] == pytest.approx(second["ar_100"], abs=1e-12)


def test_precision_curves_average_to_ap() -> None:
    table = table_of(random_problem(np.random.default_rng(5)))
    precision, _ = curves(table)
    assert mean(np.where(precision < 0, np.nan, precision)) == pytest.approx(
        coco_metrics(table)["ap"], abs=1e-12
    )


def test_thresholds_must_rise() -> None:
    with pytest.raises(ValueError, match="rising IoU thresholds"):
        table_of(random_problem(np.random.default_rng(1)), ious=(0.5, 0.3))


def test_area_ranges_may_be_given_in_another_unit() -> None:
    box = [10.0, 10.0, 40.0, 40.0]
    problem = (1, 1, [(0, 0, box, 4.0, False)], [(0, 0, box, 0.9)])
    table = table_of(problem, areas={"all": AREAS["all"], "tiny": (0.0, 9.0)}, detection_area=np.array([4.0]))
    assert not table.annotation_ignored[0, 1]
    assert table.true_positive[0, 1] == 2**10 - 1
    assert not table.ignored.any()


@pytest.mark.parametrize("seed", range(12))
def test_many_weightings_equal_one_at_a_time_and_doubled_images(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    classes, images, annotations, detections = random_problem(rng, decimals=6)
    table = table_of((classes, images, annotations, detections))
    masks = rng.random((140, images)) < 0.5
    together = weighted_coco_metrics(table, masks)
    for row in (0, 70, 139):
        np.testing.assert_allclose(
            [together[name][row] for name in COCO_METRICS],
            list(coco_metrics(table, masks[row]).values()),
            atol=1e-12,
        )
    # A weight of two is the same image twice, up to the order of the tied scores within the pair.
    weights = rng.integers(0, 3, (1, images))
    copies = [(i, copy) for i in range(images) for copy in range(weights[0, i])]
    number = {pair: n for n, pair in enumerate(copies)}
    again = (
        classes,
        len(copies),
        [(number[i, c], *o[1:]) for o in annotations for i, c in copies if o[0] == i],
        [(number[i, c], *d[1:3], d[3] - 1e-9 * c) for d in detections for i, c in copies if d[0] == i],
    )
    if copies:
        weighted, weighted_recall = Averager(table)(weights)
        doubled, doubled_recall = Averager(table_of(again))(np.ones((1, len(copies)), bool))
        np.testing.assert_allclose(weighted_recall, doubled_recall, atol=1e-12)
        np.testing.assert_allclose(weighted, doubled, atol=0.06)


def with_overlapping_annotations(problem: Problem, rng: np.random.Generator) -> Problem:
    """The problem with objects that overlap those there are and have another area: a range decides."""
    classes, images, annotations, detections = problem
    more = [
        (image, label, [box[0] + 1, *box[1:]], area * float(rng.choice([0.3, 1, 4])), crowd)
        for image, label, box, area, crowd in annotations
        if rng.random() < 0.7
    ]
    return classes, images, annotations + more, detections


@pytest.mark.parametrize("seed", range(30))
def test_a_detection_on_objects_of_several_ranges_equals_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(4000 + seed)
    problem = with_overlapping_annotations(random_problem(rng), rng)
    np.testing.assert_allclose(ours(problem), pycocotools_metrics(problem), atol=1e-9)
    # The order of the ranges does not matter.
    names = [str(name) for name in rng.permutation(list(AREAS))]
    table, other = table_of(problem), table_of(problem, areas={name: AREAS[name] for name in names})
    rows = [set(zip(t.matched.tolist(), map(tuple, by_name(t)), strict=True)) for t in (table, other)]
    assert rows[0] == rows[1]


def by_name(table: MatchTable) -> list[list[int]]:
    """Flags of the matched rows, range by range in the order of AREAS."""
    columns = [table.areas.index(name) for name in AREAS]
    return np.column_stack([table.true_positive[:, columns], table.ignored[:, columns]]).tolist()


def test_a_range_counts_the_object_that_lies_in_it() -> None:
    medium, small = (
        (0, 0, [10.0, 10.0, 40.0, 40.0], 1600.0, False),
        (0, 0, [10.0, 10.0, 40.0, 36.0], 1000.0, False),
    )
    problem = (1, 1, [medium, small], [(0, 0, [10.0, 10.0, 40.0, 40.0], 0.9)])
    np.testing.assert_allclose(ours(problem), pycocotools_metrics(problem), atol=1e-9)
    assert coco_metrics(table_of(problem))["ap_small"] == pytest.approx(0.9)


@pytest.mark.parametrize("seed", range(10))
def test_only_the_most_confident_detections_of_a_cell_are_matched(seed: int) -> None:
    rng = np.random.default_rng(5000 + seed)
    classes, images, annotations, detections = random_problem(rng, decimals=6)
    cells: dict[tuple[int, int], list[float]] = {}
    for image, label, _, confidence in detections:
        cells.setdefault((image, label), []).append(confidence)
    kept = [d for d in detections if d[3] in sorted(cells[d[:2]])[-3:]]
    assert len(kept) < len(detections)
    limited = table_of((classes, images, annotations, detections), max_detections=3)
    dropped = table_of((classes, images, annotations, kept))
    for name in ("image", "label", "confidence", "rank", "matched", "true_positive", "ignored", "partner"):
        np.testing.assert_array_equal(getattr(limited, name), getattr(dropped, name), err_msg=name)


@pytest.mark.parametrize("share", [0.15, 0.6])
def test_weightings_are_the_same_in_batches(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    problem = random_problem(rng, decimals=6)
    table = table_of(problem)
    weights = rng.integers(1, 4, (31, problem[1])) * (rng.random((31, problem[1])) < share)
    together = Averager(table)(weights)
    monkeypatch.setattr(averaging, "MOST_AT_ONCE", 6)
    for whole, batches in zip(together, Averager(table)(weights), strict=True):
        np.testing.assert_allclose(batches, whole, rtol=0, atol=0 if share >= FEW else 1e-12)


def test_a_weighting_alone_ties_with_itself_among_others() -> None:
    workload = make_problem("pothole")
    table = match(workload.annotations, workload.detections, n_images=workload.n_images, n_classes=1)
    averager = Averager(table, unit=np.arange(workload.n_images) % 40)
    weights = np.random.default_rng(0).integers(0, 3, (7, 40))
    for single in (False, True):
        among, _ = averager(weights, single=single)
        for row in range(len(weights)):
            alone, _ = averager(weights[row : row + 1], single=single)
            np.testing.assert_array_equal(alone[..., 0], among[..., row])
            # Also as the mean over thresholds, which is what replicates are compared by.
            assert mean_of_classes(alone)[0] == mean_of_classes(among)[row]


def test_many_annotations_and_few_matches_take_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = random_problem(np.random.default_rng(8), decimals=6)
    averager = Averager(table_of(problem))
    weights = np.zeros((3, problem[1]), int)
    weights[[0, 1, 2], [0, 1, 2]] = 1
    expected = averager(weights)
    monkeypatch.setattr(averaging, "NUMBERS_OF_POINTS", 0)
    monkeypatch.setattr(Averager, "_fill_few", None)
    for few, columns in zip(expected, averager(weights), strict=True):
        np.testing.assert_allclose(few, columns, atol=1e-12)


def test_a_threshold_may_be_asked_for_twice() -> None:
    # They overlap by 0.525, and the detection's own area is not in the range.
    problem = (1, 1, [(0, 0, [0.0, 0.0, 40.0, 40.0], 1600.0, False)], [(0, 0, [0.0, 0.0, 40.0, 21.0], 0.9)])
    average, _ = Averager(table_of(problem), area="medium", ious=(0.5, 0.5))(np.ones((1, 1), bool))
    np.testing.assert_array_equal(average[0, :, 0], [1, 1])


@pytest.mark.parametrize("seed", range(12))
def test_few_weights_equal_what_is_computed_without_the_other_images(seed: int) -> None:
    rng = np.random.default_rng(2000 + seed)
    problem = random_problem(rng, decimals=6)
    table, images = table_of(problem), problem[1]
    weights = rng.integers(1, 4, (30, images)) * (rng.random((30, images)) < 0.2)
    assert np.count_nonzero(weights) < FEW * weights.size
    together = Averager(table)(weights)
    for row in range(0, 30, 7):
        chosen = np.flatnonzero(weights[row])
        unit = np.full(images, -1)
        unit[chosen] = np.arange(len(chosen))
        alone = Averager(table, unit=unit)(weights[row : row + 1, chosen])
        for several, one in zip(together, alone, strict=True):
            np.testing.assert_allclose(several[..., row], one[..., 0], atol=1e-12)


def test_rows_are_in_the_same_order_where_their_keys_do_not_fit_into_one_number() -> None:
    rng = np.random.default_rng(0)
    keys = [rng.integers(0, high, 2000) for high in (3, 40, 5)]
    expected = np.array(sorted(range(2000), key=lambda row: [int(key[row]) for key in keys]))
    np.testing.assert_array_equal(_order(*keys), expected)
    # 2, 6 and 3 bits, and 11 of the number of the row.
    for spare in (12, 13, 14, 20):
        np.testing.assert_array_equal(_order(*(key << spare for key in keys)), expected)
    # Arrays without a row have numpy's own type.
    assert not len(_order(np.array([]), np.array([])))


def test_points_reached_equal_the_search_pycocotools_does() -> None:
    rng = np.random.default_rng(0)
    total = np.concatenate([np.arange(1, 1201), rng.integers(1200, 10**6, 200)]).astype(np.int32)
    true = (rng.random((len(total), 300)) * (total[:, None] + 1)).astype(np.int32)
    expected = np.searchsorted(RECALL_POINTS, true / total[:, None], "right")
    np.testing.assert_array_equal(points_reached(true.T, total).T, expected)


def test_single_precision_is_right_to_a_recall_point() -> None:
    rng, close = np.random.default_rng(4), []
    for _ in range(20):
        problem = random_problem(rng, decimals=6)
        averager, weights = Averager(table_of(problem)), rng.integers(0, 4, (30, problem[1]))
        double, single = averager(weights)[0], averager(weights, single=True)[0]
        # By their places, so that a difference names the class, the IoU and the weighting it is in.
        np.testing.assert_array_equal(np.argwhere(np.isnan(single)), np.argwhere(np.isnan(double)))
        np.testing.assert_allclose(single, double, atol=0.02)
        close += (np.abs(single - double) < 1e-6)[np.isfinite(double)].tolist()
    # The two differ only where a recall equals one of the ten points that are rounded up.
    assert np.mean(close) > 0.9


def test_a_detection_costs_at_most_24_bytes() -> None:
    workload = make_problem("coco", times=1)
    table = match(workload.annotations, workload.detections, n_images=workload.n_images, n_classes=80)
    assert len(table.row) > 400_000
    assert table.bytes_per_detection <= 24


def test_hotcoco_agrees_on_a_whole_workload_and_its_slices(tmp_path: Path) -> None:
    workload = make_problem("pothole")
    truth, results, _ = write_problem(workload, tmp_path)
    table = match(workload.annotations, workload.detections, n_images=workload.n_images, n_classes=1)
    masks = np.concatenate([np.ones((1, workload.n_images), bool), workload.slices[:10]])
    metrics = weighted_coco_metrics(table, masks)
    for row, mask in enumerate(masks):
        oracle = hotcoco_metrics(truth, results, np.flatnonzero(mask).tolist())
        np.testing.assert_allclose([metrics[name][row] for name in COCO_METRICS], oracle, atol=1e-9)
