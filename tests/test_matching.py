"""AP against pycocotools on random problems, whole and per slice, and properties that need no oracle."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from diagnostics.matching import AREAS, Detections, Objects, match
from diagnostics.precision import TWELVE, curves, mean, twelve

Problem = tuple[int, int, list, list]


def random_problem(rng: np.random.Generator) -> Problem:
    """Classes, pictures, objects and detections with crowds, odd areas, tied scores, empty pictures and duplicated hits."""
    classes, images = int(rng.integers(1, 6)), int(rng.integers(1, 13))
    objects, detections = [], []
    for image in range(images):
        for _ in range(int(rng.integers(0, 7))):
            side = np.round(rng.choice([8, 20, 60, 150]) * rng.uniform(0.5, 1.5, 2))
            corner = np.round(rng.uniform(0, 300, 2))
            area = float(side.prod() * rng.choice([1, 0.7]))
            objects.append(
                (image, int(rng.integers(classes)), [*corner, *side], area, bool(rng.random() < 0.1))
            )
    for image, label, box, _, _ in objects:
        for _ in range(int(rng.integers(0, 4))):
            moved = np.array(box) + np.round(rng.normal(0, 0.12, 4) * box[2])
            moved[2:] = np.maximum(moved[2:], 1)
            other = label if rng.random() < 0.8 else int(rng.integers(classes))
            detections.append((image, other, moved.tolist(), round(float(rng.random()), 1)))
    for _ in range(int(rng.integers(0, 20))):
        box = np.round(rng.uniform(5, 80, 4)).tolist()
        detections.append(
            (int(rng.integers(images)), int(rng.integers(classes)), box, round(float(rng.random()), 1))
        )
    return classes, images, objects, detections


def oracle(problem: Problem, only: list[int] | None = None) -> np.ndarray:
    classes, images, objects, detections = problem
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        frame = {
            "images": [{"id": i} for i in range(images)],
            "categories": [{"id": k, "name": str(k)} for k in range(classes)],
        }
        truth.dataset = frame | {
            "annotations": [
                {"id": n, "image_id": i, "category_id": k, "bbox": b, "area": a, "iscrowd": int(c)}
                for n, (i, k, b, a, c) in enumerate(objects, 1)
            ]
        }
        found.dataset = frame | {
            "annotations": [
                {
                    "id": n,
                    "image_id": i,
                    "category_id": k,
                    "bbox": b,
                    "area": b[2] * b[3],
                    "score": s,
                    "iscrowd": 0,
                }
                for n, (i, k, b, s) in enumerate(detections, 1)
            ]
        }
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        if only is not None:
            evaluation.params.imgIds = only
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def table_of(problem: Problem, **options):
    classes, images, objects, detections = problem
    return match(
        Objects(
            np.array([o[0] for o in objects], int),
            np.array([o[1] for o in objects], int),
            np.array([o[2] for o in objects], float).reshape(-1, 4),
            np.array([o[3] for o in objects], float),
            np.array([o[4] for o in objects], bool),
        ),
        Detections(
            np.array([d[0] for d in detections], int),
            np.array([d[1] for d in detections], int),
            np.array([d[2] for d in detections], float).reshape(-1, 4),
            np.array([d[3] for d in detections], float),
        ),
        n_images=images,
        n_classes=classes,
        **options,
    )


def ours(problem: Problem, mask: np.ndarray | None = None) -> np.ndarray:
    return np.nan_to_num(np.array([twelve(table_of(problem), mask)[name] for name in TWELVE]), nan=-1)


@pytest.mark.parametrize("seed", range(150))
def test_twelve_numbers_equal_pycocotools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = random_problem(rng)
    np.testing.assert_allclose(ours(problem), oracle(problem), atol=1e-9)
    mask = rng.random(problem[1]) < 0.5
    if mask.any():
        np.testing.assert_allclose(
            ours(problem, mask), oracle(problem, np.flatnonzero(mask).tolist()), atol=1e-9
        )


def test_more_than_a_hundred_detections_in_a_picture() -> None:
    rng = np.random.default_rng(7)
    objects = [(0, 0, [20.0 * i, 10.0, 15.0, 15.0], 225.0, False) for i in range(30)]
    detections = [
        (0, 0, [20.0 * i + rng.normal(0, 3), 10.0, 15.0, 15.0], float(rng.random()))
        for i in range(30)
        for _ in range(6)
    ]
    problem = (1, 1, objects, detections)
    np.testing.assert_allclose(ours(problem), oracle(problem), atol=1e-9)


@pytest.mark.parametrize("missing", ["objects", "detections", "both"])
def test_nothing_to_measure_is_missing_not_zero(missing: str) -> None:
    box = [10.0, 10.0, 40.0, 40.0]
    objects = [] if missing in ("objects", "both") else [(0, 0, box, 1600.0, False)]
    detections = [] if missing in ("detections", "both") else [(0, 0, box, 0.9)]
    numbers = twelve(table_of((1, 1, objects, detections)))
    if missing == "detections":
        assert numbers["ap"] == 0
    else:
        assert np.isnan(numbers["ap"])
        assert np.isnan(numbers["ar_100"])


def test_order_of_pictures_and_rows_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    classes, images, objects, detections = random_problem(rng)
    # Ties between pictures are broken by picture order, so scores are made distinct first.
    detections = [(*d[:3], d[3] + 1e-6 * n) for n, d in enumerate(detections)]
    turn = rng.permutation(images)
    turned = (
        classes,
        images,
        [(int(turn[o[0]]), *o[1:]) for o in objects],
        [(int(turn[d[0]]), *d[1:]) for d in rng.permutation(np.array(detections, object))],
    )
    np.testing.assert_allclose(ours((classes, images, objects, detections)), ours(turned), atol=1e-12)


def test_doubling_every_picture_changes_nothing() -> None:
    rng = np.random.default_rng(11)
    classes, images, objects, detections = random_problem(rng)
    detections = [(*d[:3], d[3] + 1e-6 * n) for n, d in enumerate(detections)]
    twice = (
        classes,
        2 * images,
        objects + [(o[0] + images, *o[1:]) for o in objects],
        detections + [(d[0] + images, *d[1:]) for d in detections],
    )
    first, second = twelve(table_of((classes, images, objects, detections))), twelve(table_of(twice))
    assert first["ap50"] == pytest.approx(second["ap50"], abs=0.02)
    assert first["ar_100"] == pytest.approx(second["ar_100"], abs=1e-12)


def test_precision_curves_average_to_ap() -> None:
    table = table_of(random_problem(np.random.default_rng(5)))
    precision, _ = curves(table)
    assert mean(np.where(precision < 0, np.nan, precision)) == pytest.approx(twelve(table)["ap"], abs=1e-12)


def test_thresholds_must_rise() -> None:
    with pytest.raises(ValueError, match="rising IoU thresholds"):
        table_of(random_problem(np.random.default_rng(1)), ious=(0.5, 0.3))


def test_area_ranges_may_be_given_in_another_unit() -> None:
    box = [10.0, 10.0, 40.0, 40.0]
    problem = (1, 1, [(0, 0, box, 4.0, False)], [(0, 0, box, 0.9)])
    table = table_of(problem, areas={"all": AREAS["all"], "tiny": (0.0, 9.0)}, detection_area=np.array([4.0]))
    assert not table.object_ignored[0, 1]
    assert table.hit[0, 1] == 2**10 - 1
    assert not table.void.any()
