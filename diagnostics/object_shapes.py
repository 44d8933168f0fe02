"""Average precision of masks by their IoU, and of key points by object keypoint similarity (OKS).

Everything else is measured on boxes; these numbers stand beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from datasets.shapes import SHAPE, Mask, Shape, mask_of, points_of, unpack
from diagnostics.domain import Domain
from diagnostics.intervals import Interval, ap_and_ap50_intervals
from diagnostics.matching import Annotations, Floats, Ints, box_iou, match
from diagnostics.precision import accumulate, mean

Kind = Literal["masks", "key points"]
# What models of a task give beside boxes.
KINDS: dict[str, Kind] = {"segment": "masks", "pose": "key points"}
# How far people's own annotations of one key point scatter, as a share of the object's size, for COCO's 17
# points of a person (pycocotools, cocoeval.py); for other sets of points Ultralytics takes one value, one
# over their number.
PERSON_SCATTER = (
    np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89], float) / 1000
)
# An object's area over that of its box, as Ultralytics' validation has it; areas that a file gives are not
# read.
AREA_OF_BOX = 0.53


@dataclass(frozen=True)
class ShapeScores:
    """What is measured on the shapes of a domain's objects.

    kind: "masks" or "key points"
    ap: mean over classes and the thresholds 0.50 to 0.95 of mask IoU or OKS
    ap50: at 0.5
    ap_interval, ap50_interval: their 95 % intervals by clip, or why there are none
    annotations: annotated shapes
    without: annotations without a shape; detections of them count neither way
    """

    kind: Kind
    ap: float
    ap50: float
    ap_interval: Interval
    ap50_interval: Interval
    annotations: int
    without: int


def score_shapes(domain: Domain, kind: Kind, *, seed: int) -> ShapeScores | None:
    """AP of a domain's masks or key points; None where its annotations or detections have none that can be
    used. seed: of the bootstrap's draws.
    """
    if SHAPE not in domain.annotations or SHAPE not in domain.detections:
        return None
    annotations, detections = domain.annotation_arrays, domain.detection_arrays
    packed = domain.scored_detections[SHAPE].to_list()
    first = next((unpack(shape) for shape in packed if shape), None)
    points = len(first) if isinstance(first, np.ndarray) else 0
    given = [_usable(shape, kind, points) for shape in domain.annotations[SHAPE]]
    missing = np.array([shape is None for shape in given], bool)
    usable = ~missing & ~annotations.crowd
    if not usable.any():
        return None
    sizes = domain.labelled_images[["width", "height"]].to_numpy(float)
    # As crowds, annotations without a shape count neither way.
    annotations = Annotations(
        annotations.image,
        annotations.label,
        annotations.xywh,
        annotations.area,
        annotations.crowd | missing,
    )
    measure = (
        _MaskOverlap(domain, given, packed, annotations)
        if kind == "masks"
        else _PointOverlap(domain, given, packed, annotations)
    )
    table = match(
        annotations,
        detections,
        n_images=len(sizes),
        n_classes=len(domain.classes),
        overlap=measure,
    )
    average, _ = accumulate(table)
    ap50 = mean(average[:, table.bit(0.5)])
    intervals = ap_and_ap50_intervals(table, domain.interval_units, seed=seed)
    return ShapeScores(kind, mean(average), ap50, *intervals, int(usable.sum()), int(missing.sum()))


def _usable(shape: object, kind: Kind, points: int) -> Shape | None:
    """An annotation's shape, unless it is of another kind, has another number of key points than the model's,
    or none that counts: pycocotools, too, ignores a person of whom no point is annotated.
    """
    if not isinstance(shape, Shape):
        return None
    if kind == "masks":
        return shape if shape.kind in ("polygons", "runs") else None
    if shape.kind != "points" or not points or len(shape.numbers) not in (2 * points, 3 * points):
        return None
    return shape if points_of(shape, points, 1, 1)[:, 2].any() else None


class _MaskOverlap:
    """IoU of masks, pair by pair; the share of the detection that lies in it, where the annotation is a
    crowd.
    """

    def __init__(
        self,
        domain: Domain,
        given: Sequence[Shape | None],
        packed: Sequence[bytes],
        annotations: Annotations,
    ) -> None:
        self._given, self._packed, self._annotations = given, packed, annotations
        self._detections = domain.detection_arrays.xywh
        sizes = domain.labelled_images[["width", "height"]].to_numpy(float)[annotations.image]
        boxes = annotations.xywh
        self._corners = np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]]) / np.tile(sizes, (1, 2))
        # Pairs come by image and class, so that few are needed at a time.
        self._detected = lru_cache(1024)(self._detected_mask)
        self._annotated = lru_cache(256)(self._annotated_mask)

    def _detected_mask(self, row: int) -> Mask:
        mask = unpack(self._packed[row])
        assert isinstance(mask, Mask)
        return mask

    def _annotated_mask(self, number: int, size: tuple[int, int]) -> Mask:
        return mask_of(self._given[number], self._corners[number].tolist(), size)

    def __call__(self, rows: Ints, others: Ints) -> Floats:
        crowd = self._annotations.crowd[others]
        result = np.zeros(len(rows))
        # Masks lie in their boxes, or next to them by the rounding of a pixel.
        near = box_iou(_grown(self._detections[rows]), _grown(self._annotations.xywh[others]), crowd) > 0
        for at in np.flatnonzero(near).tolist():
            if not self._packed[rows[at]]:
                continue
            detected = self._detected(int(rows[at]))
            annotated = self._annotated(int(others[at]), detected.size)
            shared = detected.shared(annotated)
            whole = detected.area if crowd[at] else detected.area + annotated.area - shared
            result[at] = shared / whole if whole else 0.0
        return result


def _grown(boxes: Floats) -> Floats:
    """Boxes xywh that are larger by a tenth and two pixels on every side."""
    margin = 2 + 0.1 * boxes[:, 2:]
    return np.column_stack([boxes[:, :2] - margin, boxes[:, 2:] + 2 * margin])


class _PointOverlap:
    """OKS, pair by pair; the share of the detection's box that lies in it, where the annotation is a
    crowd.
    """

    def __init__(
        self,
        domain: Domain,
        given: Sequence[Shape | None],
        packed: Sequence[bytes],
        annotations: Annotations,
    ) -> None:
        self._annotations, self._boxes = annotations, domain.detection_arrays.xywh
        sizes = domain.labelled_images[["width", "height"]].to_numpy(float)
        detected = [unpack(points) if points else None for points in packed]
        self.count = next((len(points) for points in detected if isinstance(points, np.ndarray)), 0)
        self._detected = np.full((len(packed), self.count, 2), np.inf)
        for row, points in enumerate(detected):
            if isinstance(points, np.ndarray):
                self._detected[row] = points
        self._annotated = np.zeros((len(given), self.count, 3))
        for number, shape in enumerate(given):
            if shape is not None and self.count:
                self._annotated[number] = points_of(shape, self.count, *sizes[annotations.image[number]])
        self._area = annotations.xywh[:, 2:].prod(1) * AREA_OF_BOX
        self._scatter = (
            PERSON_SCATTER
            if self.count == len(PERSON_SCATTER)
            else np.full(self.count, 1 / max(self.count, 1))
        )

    def __call__(self, rows: Ints, others: Ints) -> Floats:
        annotated = self._annotated[others]
        apart = ((self._detected[rows] - annotated[..., :2]) ** 2).sum(-1)
        spread = 2 * (2 * self._scatter) ** 2 * np.maximum(self._area[others], 1e-9)[:, None]
        counted = annotated[..., 2]
        similar = (np.exp(-apart / spread) * counted).sum(-1)
        crowd = self._annotations.crowd[others]
        inside = box_iou(self._boxes[rows], self._annotations.xywh[others], crowd)
        return np.where(crowd, inside, similar / np.maximum(counted.sum(-1), 1e-9))
