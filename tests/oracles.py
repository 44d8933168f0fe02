"""Independent implementations to compare with, and random problems to compare on."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import hotcoco
import numpy as np
import tidecv
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from diagnostics.matching import Annotations, Detections, MatchTable, match

# Classes, images, annotations (image, class, xywh, area, crowd) and detections (image, class, xywh,
# confidence).
Problem = tuple[int, int, list, list]


def random_problem(rng: np.random.Generator, *, crowds: float = 0.1, decimals: int = 1) -> Problem:
    """Boxes with crowds, unusual areas, tied confidences, empty images and duplicates."""
    classes, images = int(rng.integers(1, 6)), int(rng.integers(1, 13))
    annotations, detections = [], []
    for image in range(images):
        for _ in range(int(rng.integers(0, 7))):
            side = np.round(rng.choice([8, 20, 60, 150]) * rng.uniform(0.5, 1.5, 2))
            corner = np.round(rng.uniform(0, 300, 2))
            area = float(side.prod() * rng.choice([1, 0.7]))
            annotations.append(
                (image, int(rng.integers(classes)), [*corner, *side], area, bool(rng.random() < crowds))
            )
    for image, label, box, _, _ in annotations:
        for _ in range(int(rng.integers(0, 4))):
            moved = np.array(box) + np.round(rng.normal(0, 0.12, 4) * box[2])
            moved[2:] = np.maximum(moved[2:], 1)
            other = label if rng.random() < 0.8 else int(rng.integers(classes))
            detections.append((image, other, moved.tolist(), round(float(rng.random()), decimals)))
    for _ in range(int(rng.integers(0, 20))):
        box = np.round(rng.uniform(5, 80, 4)).tolist()
        detections.append(
            (int(rng.integers(images)), int(rng.integers(classes)), box, round(float(rng.random()), decimals))
        )
    return classes, images, annotations, detections


def coco_json(problem: Problem) -> tuple[dict, list]:
    """The problem as COCO ground truth and COCO results."""
    classes, images, annotations, detections = problem
    truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(images)],
        "categories": [{"id": k, "name": str(k)} for k in range(classes)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": k, "bbox": b, "area": a, "iscrowd": int(c)}
            for n, (i, k, b, a, c) in enumerate(annotations, 1)
        ],
    }
    return truth, [{"image_id": i, "category_id": k, "bbox": b, "score": s} for i, k, b, s in detections]


def pycocotools_metrics(problem: Problem, only: list[int] | None = None) -> np.ndarray:
    """COCO's metrics by pycocotools, -1 where it has none."""
    truth_json, results = coco_json(problem)
    with contextlib.redirect_stdout(io.StringIO()):
        truth, predicted = COCO(), COCO()
        truth.dataset = truth_json
        predicted.dataset = truth_json | {
            "annotations": [
                {"id": n, **entry, "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
                for n, entry in enumerate(results, 1)
            ]
        }
        truth.createIndex()
        predicted.createIndex()
        evaluation = COCOeval(truth, predicted, "bbox")
        if only is not None:
            evaluation.params.imgIds = only
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def arrays_of(problem: Problem) -> tuple[Annotations, Detections]:
    _, _, annotations, detections = problem
    return Annotations(
        np.array([o[0] for o in annotations], int),
        np.array([o[1] for o in annotations], int),
        np.array([o[2] for o in annotations], float).reshape(-1, 4),
        np.array([o[3] for o in annotations], float),
        np.array([o[4] for o in annotations], bool),
    ), Detections(
        np.array([d[0] for d in detections], int),
        np.array([d[1] for d in detections], int),
        np.array([d[2] for d in detections], float).reshape(-1, 4),
        np.array([d[3] for d in detections], float),
    )


def table_of(problem: Problem, **options) -> MatchTable:
    return match(*arrays_of(problem), n_images=problem[1], n_classes=problem[0], **options)


def hotcoco_metrics(truth: Path, results: Path, only: list[int]) -> np.ndarray:
    """COCO's metrics of some images by hotcoco, a second evaluator, written in Rust."""
    images = hotcoco.COCO(str(truth))
    evaluation = hotcoco.COCOeval(images, images.load_res(str(results)), "bbox")
    evaluation.params.img_ids = only
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return np.array(evaluation.stats)


def tide(problem: Problem) -> tuple[dict[str, int], dict[str, float]]:
    """Count and delta AP50 of each error type by tidecv, which needs every image on both sides."""
    _, images, annotations, detections = problem
    truth, predicted = tidecv.Data("truth"), tidecv.Data("predicted")
    for data in (truth, predicted):
        for image in range(images):
            data.add_image(image, str(image))
    for image, label, box, _, _ in annotations:
        truth.add_ground_truth(image, label, box)
    for image, label, box, score in detections:
        predicted.add_detection(image, label, score, box)
    run = tidecv.TIDE().evaluate(truth, predicted, mode=tidecv.TIDE.BOX, pos_threshold=0.5)
    names = {"Cls": "class", "Loc": "location", "Both": "both", "Dupe": "duplicate", "Bkg": "background"}
    names["Miss"] = "missed"
    counts = {names[kind.short_name]: count for kind, count in run.count_errors().items()}
    deltas = {names[kind.short_name]: gain / 100 for kind, gain in run.fix_main_errors().items()}
    return counts, deltas
