"""Random detection problems of a known shape, as arrays and COCO files, for timing the measuring core.

Confidences rise with overlap, as with a working detector; the numbers of boxes, classes, crowds and sizes are
those of COCO val 2017 ("coco") and of a road-damage set ("pothole").
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diagnostics.matching import Annotations, Detections


@dataclass(frozen=True)
class Shape:
    """Size of a workload.

    images: number of images.
    annotations: annotations per image, mean.
    detections: detections per image, mean.
    classes: number of classes.
    crowd: share of annotations that are crowds.
    """

    images: int
    annotations: float
    detections: float
    classes: int
    crowd: float


SHAPES = {
    "coco": Shape(5000, 7.5, 100.0, 80, 0.01),
    "pothole": Shape(2700, 3.05, 30.0, 1, 0.0),
}
WIDTH, HEIGHT = 640.0, 480.0
SLICES = 100


@dataclass(frozen=True)
class Problem:
    """One workload as arrays.

    shape: what it was drawn from.
    n_images: number of images, a multiple of shape.images.
    annotations: ground truth.
    detections: predictions.
    slices: (SLICES, n_images) masks, ten attributes of ten values each.
    """

    shape: Shape
    n_images: int
    annotations: Annotations
    detections: Detections
    slices: np.ndarray


def make_problem(name: str, *, times: int = 1, seed: int = 0) -> Problem:
    """Draw a workload.

    Parameters
    ----------
    name
        A key of SHAPES.
    times
        Factor on the number of images.
    seed
        Seed of everything random.

    Returns
    -------
    Problem
    """
    shape = SHAPES[name]
    rng = np.random.default_rng(seed)
    n = shape.images * times
    image = np.repeat(np.arange(n), rng.poisson(shape.annotations, n))
    # As in COCO, images have one or two main classes, and some classes are far more common than others.
    weight = 1 / np.arange(1, shape.classes + 1) ** 0.7
    theme = rng.choice(shape.classes, size=(n, 2), p=weight / weight.sum())
    label = np.where(
        rng.random(len(image)) < 0.7,
        theme[image, rng.integers(0, 2, len(image))],
        rng.choice(shape.classes, size=len(image), p=weight / weight.sum()),
    )
    side = np.exp(rng.normal(3.9, 0.95, len(image)))[:, None] * np.exp(rng.normal(0, 0.3, (len(image), 2)))
    side = np.clip(side, 4, [WIDTH, HEIGHT])
    corner = rng.random((len(image), 2)) * ([WIDTH, HEIGHT] - side)
    crowd = rng.random(len(image)) < shape.crowd
    xywh = np.round(np.column_stack([corner, side]), 2)
    area = xywh[:, 2] * xywh[:, 3] * rng.choice([1.0, 0.6], len(image))
    annotations = Annotations(image, label, xywh, area, crowd)

    detections = draw_detections(rng, shape, annotations, theme)
    values = rng.integers(0, 10, (SLICES // 10, n))
    slices = (values[:, None, :] == np.arange(10)[None, :, None]).reshape(SLICES, n)
    return Problem(shape, n, annotations, detections, slices)


def draw_detections(
    rng: np.random.Generator, shape: Shape, annotations: Annotations, theme: np.ndarray
) -> Detections:
    """Draw detections around annotations and false positives; theme: (n, 2) main classes of each image."""
    n, image, label, xywh = len(theme), annotations.image, annotations.label, annotations.xywh
    # Detected objects have two detections on average; the rest of each image is filled with false positives.
    copies = np.where(rng.random(len(image)) < 0.9, rng.poisson(1.6, len(image)), 0)
    owner = np.repeat(np.arange(len(image)), copies)
    jitter = np.abs(rng.normal(0, 0.14, len(owner)))[:, None]
    moved = xywh[owner] + rng.normal(0, 1, (len(owner), 4)) * jitter * xywh[owner][:, [2, 3, 2, 3]]
    moved[:, 2:] = np.maximum(moved[:, 2:], 2)
    true_label = np.where(
        rng.random(len(owner)) < 0.9, label[owner], rng.integers(0, shape.classes, len(owner))
    )
    true_score = np.clip(rng.beta(4, 2, len(owner)) - 1.2 * jitter[:, 0], 0.001, 1)
    n_false = max(0, int(n * shape.detections) - len(owner))
    false_image = rng.integers(0, n, n_false)
    false_side = np.clip(np.exp(rng.normal(3.9, 0.95, (n_false, 2))), 4, [WIDTH, HEIGHT])
    false_box = np.column_stack([rng.random((n_false, 2)) * ([WIDTH, HEIGHT] - false_side), false_side])
    false_label = theme[false_image, rng.integers(0, 2, n_false)]
    false_label = np.where(rng.random(n_false) < 0.4, false_label, rng.integers(0, shape.classes, n_false))
    order = rng.permutation(len(owner) + n_false)
    return Detections(
        np.concatenate([image[owner], false_image])[order],
        np.concatenate([true_label, false_label])[order],
        np.round(np.concatenate([moved, false_box])[order], 2),
        np.round(np.concatenate([true_score, rng.beta(1, 8, n_false)])[order], 5),
    )


def write_problem(problem: Problem, folder: Path) -> tuple[Path, Path, Path]:
    """Write COCO ground truth, COCO results and a slices csv into folder; return the three paths."""
    folder.mkdir(parents=True, exist_ok=True)
    truth, results, slices = folder / "truth.json", folder / "results.json", folder / "slices.csv"
    annotations, detections = problem.annotations, problem.detections
    coco_annotations = [
        {"id": n + 1, "image_id": i, "category_id": k + 1, "bbox": b, "area": a, "iscrowd": int(c)}
        for n, (i, k, b, a, c) in enumerate(
            zip(
                annotations.image.tolist(),
                annotations.label.tolist(),
                annotations.xywh.tolist(),
                annotations.area.tolist(),
                annotations.crowd.tolist(),
                strict=True,
            )
        )
    ]
    images = [
        {"id": i, "file_name": f"{i:012}.jpg", "width": int(WIDTH), "height": int(HEIGHT)}
        for i in range(problem.n_images)
    ]
    categories = [{"id": k + 1, "name": f"class {k}"} for k in range(problem.shape.classes)]
    truth.write_text(
        json.dumps({"images": images, "annotations": coco_annotations, "categories": categories})
    )
    results.write_text(
        json.dumps(
            [
                {"image_id": i, "category_id": k + 1, "bbox": b, "score": s}
                for i, k, b, s in zip(
                    detections.image.tolist(),
                    detections.label.tolist(),
                    detections.xywh.tolist(),
                    detections.confidence.tolist(),
                    strict=True,
                )
            ]
        )
    )
    with slices.open("w", encoding="utf-8") as handle:
        handle.write("image_id,slice\n")
        for number, mask in enumerate(problem.slices):
            handle.writelines(f"{i},slice {number:02}\n" for i in np.flatnonzero(mask))
    return truth, results, slices
