"""Greedy COCO matching, done once: every slice, threshold, class and bootstrap replicate is an aggregation over its table.

Equal to pycocotools' `COCOeval.evaluate` (crowds, ignores, area ranges, ties, maximum detections), but without a loop over pictures:
detections of all pictures are matched in rounds, the k-th candidate of every (picture, class) cell at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from datasets.tables import CORNERS

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]

COCO_IOUS = tuple(float(t) for t in np.linspace(0.5, 0.95, 10))
# Square pixels of the picture, as in COCO.
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MAX_DETECTIONS = 100


@dataclass(frozen=True)
class Objects:
    """Annotations as arrays of length n. xywh: (n, 4) pixels. area: square pixels (COCO's own field where there is one)."""

    image: Ints
    label: Ints
    xywh: Floats
    area: Floats
    crowd: Bools


@dataclass(frozen=True)
class Detections:
    """Detections as arrays of length n. xywh: (n, 4) pixels."""

    image: Ints
    label: Ints
    xywh: Floats
    confidence: Floats


@dataclass(frozen=True)
class MatchTable:
    """The result of matching. Detections are ordered by class, then falling confidence, ties by picture.

    ious: thresholds (T,). areas: names of area ranges (A,). n_images, n_classes: extents.
    row: which detection (or object) of the input a line is. rank: place of a detection within its picture and class.
    hit, ignored: (n, A) uint16, bit t set where the detection is matched / not counted at ious[t].
    partner: (n,) row of the object matched at the lowest IoU over all areas, -1 where none.
    object_ignored: (m, A), objects not counted in an area range. object_found: (m, A) uint16, bit t set where matched at ious[t].
    """

    ious: tuple[float, ...]
    areas: tuple[str, ...]
    n_images: int
    n_classes: int
    row: Ints
    image: npt.NDArray[np.int32]
    label: npt.NDArray[np.int16]
    confidence: Floats
    rank: npt.NDArray[np.int16]
    hit: npt.NDArray[np.uint16]
    ignored: npt.NDArray[np.uint16]
    partner: npt.NDArray[np.int32]
    object_image: npt.NDArray[np.int32]
    object_label: npt.NDArray[np.int16]
    object_ignored: Bools
    object_found: npt.NDArray[np.uint16]

    def bit(self, iou: float) -> int:
        """Index of an IoU threshold. Raises ValueError when it was not matched."""
        near = np.flatnonzero(np.isclose(self.ious, iou))
        if not len(near):
            raise ValueError(f"IoU {iou} was not matched; the table has {self.ious}")
        return int(near[0])


def objects_of(boxes: pd.DataFrame, images: pd.Series) -> Objects:
    """A boxes table as arrays; pictures are numbered as in images."""
    corners = boxes[CORNERS].to_numpy(float)
    xywh = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    return Objects(
        _numbers(boxes["image"], images),
        boxes["label"].to_numpy(np.int64),
        xywh,
        xywh[:, 2] * xywh[:, 3],
        boxes["crowd"].to_numpy(bool),
    )


def detections_of(detections: pd.DataFrame, images: pd.Series) -> Detections:
    """A detections table as arrays; pictures are numbered as in images."""
    corners = detections[CORNERS].to_numpy(float)
    xywh = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    return Detections(
        _numbers(detections["image"], images),
        detections["label"].to_numpy(np.int64),
        xywh,
        detections["confidence"].to_numpy(float),
    )


def _numbers(names: pd.Series, images: pd.Series) -> Ints:
    index = pd.Series(np.arange(len(images)), index=images.to_numpy())
    found = index.reindex(names.to_numpy())
    if found.isna().any():
        raise ValueError(
            f"boxes of a picture that is not in the images table: {names.to_numpy()[found.isna().to_numpy()][0]}"
        )
    return found.to_numpy(np.int64)


def box_iou(a: Floats, b: Floats, crowd: Bools) -> Floats:
    """IoU of boxes a and b, pair by pair, both (n, 4) xywh -> (n,); over a's own area where b is a crowd, as in COCO."""
    width = np.minimum(a[:, 0] + a[:, 2], b[:, 0] + b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 1] + a[:, 3], b[:, 1] + b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    shared = np.where((width > 0) & (height > 0), width * height, 0.0)
    own = a[:, 2] * a[:, 3]
    union = np.where(crowd, own, own + b[:, 2] * b[:, 3] - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def pair_up(left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """All pairs with equal keys of two key arrays, right sorted: indices into left (grouped) and into right."""
    first, last = np.searchsorted(right, left, "left"), np.searchsorted(right, left, "right")
    count = last - first
    a = np.repeat(np.arange(len(left)), count)
    b = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    return a, b


def match(
    objects: Objects,
    detections: Detections,
    *,
    n_images: int,
    n_classes: int,
    ious: tuple[float, ...] = COCO_IOUS,
    areas: Mapping[str, tuple[float, float]] = AREAS,
    detection_area: Floats | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> MatchTable:
    """Match detections to objects. The k-th best detections of all cells are matched together, so there are as many rounds as the
    fullest cell has candidates.

    areas: name -> lowest and highest area that counts, in the unit of Objects.area; must hold "all". detection_area: (n,) in the same
    unit, square pixels of the picture if not given. At most 16 IoU thresholds, in rising order. Raises ValueError otherwise.
    """
    if not 0 < len(ious) <= 16 or list(ious) != sorted(ious):
        raise ValueError(f"expected 1 to 16 rising IoU thresholds, got {ious}")
    cell = detections.label * n_images + detections.image
    order = np.lexsort((-detections.confidence, cell))
    cell = cell[order]
    rank = np.arange(len(cell)) - np.searchsorted(cell, cell, "left")
    order, cell, rank = (values[rank < max_detections] for values in (order, cell, rank))
    object_cell = objects.label * n_images + objects.image
    object_order = np.argsort(object_cell, kind="stable")
    crowd = objects.crowd[object_order]
    object_area = objects.area[object_order]
    boxes = detections.xywh[order]
    own_area = boxes[:, 2] * boxes[:, 3] if detection_area is None else detection_area[order]

    left, right = pair_up(cell, object_cell[object_order])
    overlap = box_iou(boxes[left], objects.xywh[object_order][right], crowd[right])
    # pycocotools lowers each threshold by nothing but caps it below 1, so that perfect overlap counts at IoU 1.
    thresholds = np.minimum(np.array(ious), 1 - 1e-10)
    near = overlap >= thresholds[0]
    left, right, overlap = left[near], right[near], overlap[near]
    turn = rounds_of(left, cell)

    bits = (1 << np.arange(len(ious))).astype(np.uint16)
    hit = np.zeros((len(order), len(areas)), np.uint16)
    ignored = np.zeros((len(order), len(areas)), np.uint16)
    found = np.zeros((len(object_order), len(areas)), np.uint16)
    object_ignored = np.zeros((len(object_order), len(areas)), bool)
    partner = np.full(len(order), -1, np.int64)
    for index, (name, (low, high)) in enumerate(areas.items()):
        skip = crowd | (object_area < low) | (object_area > high)
        object_ignored[:, index] = skip
        chosen = greedy(left, right, overlap, turn, skip, crowd, thresholds, len(order))
        matched = chosen >= 0
        hit[:, index] = matched @ bits
        counted_out = np.where(
            matched,
            skip[np.maximum(chosen, 0)] if len(skip) else False,
            ((own_area < low) | (own_area > high))[:, None],
        )
        ignored[:, index] = counted_out @ bits
        if len(found):
            np.bitwise_or.at(found[:, index], chosen[matched], np.broadcast_to(bits, chosen.shape)[matched])
        if name == "all":
            partner = np.where(
                chosen[:, 0] >= 0, object_order[np.maximum(chosen[:, 0], 0)] if len(object_order) else -1, -1
            )

    line = np.lexsort((-detections.confidence[order], detections.label[order]))
    restore = np.argsort(object_order)
    return MatchTable(
        ious=tuple(ious),
        areas=tuple(areas),
        n_images=n_images,
        n_classes=n_classes,
        row=order[line].astype(np.int64),
        image=detections.image[order][line].astype(np.int32),
        label=detections.label[order][line].astype(np.int16),
        confidence=detections.confidence[order][line],
        rank=rank[line].astype(np.int16),
        hit=hit[line],
        ignored=ignored[line],
        partner=partner[line].astype(np.int32),
        object_image=objects.image.astype(np.int32),
        object_label=objects.label.astype(np.int16),
        object_ignored=object_ignored[restore],
        object_found=found[restore],
    )


def rounds_of(left: Ints, cell: Ints) -> Ints:
    """For each candidate pair, which candidate-bearing detection of its cell it belongs to: 0 for the most confident, and so on."""
    bearing = np.unique(left)
    cells = cell[bearing]
    turn = np.arange(len(bearing)) - np.searchsorted(cells, cells, "left")
    return np.asarray(turn[np.searchsorted(bearing, left)], dtype=np.int64)


def greedy(
    left: Ints,
    right: Ints,
    overlap: Floats,
    turn: Ints,
    skip: Bools,
    crowd: Bools,
    thresholds: Floats,
    count: int,
) -> Ints:
    """Object chosen by each detection at each threshold, (count, T), -1 where none.

    Each detection takes, among objects still free, the one of highest IoU; counted objects before ignored ones, the later one on ties.
    """
    chosen = np.full((count, len(thresholds)), -1, np.int64)
    order = np.lexsort((right, overlap, ~skip[right], left, turn))
    left, right, overlap, turn = left[order], right[order], overlap[order], turn[order]
    taken = np.zeros((len(skip), len(thresholds)), bool)
    limits = np.searchsorted(turn, np.arange(turn[-1] + 2)) if len(turn) else np.zeros(1, int)
    for begin, end in pairwise(limits):
        objects = right[begin:end]
        free = (overlap[begin:end, None] >= thresholds) & (~taken[objects] | crowd[objects, None])
        place = np.where(free, np.arange(end - begin)[:, None], -1)
        detections, starts = np.unique(left[begin:end], return_index=True)
        best = np.maximum.reduceat(place, starts, axis=0)
        picked = np.where(best >= 0, objects[np.maximum(best, 0)], -1)
        chosen[detections] = picked
        got, column = np.nonzero(picked >= 0)
        taken[picked[got, column], column] = True
    return chosen
