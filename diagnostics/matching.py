"""Greedy COCO matching, done once: every slice, threshold, class and bootstrap replicate is an aggregation over its table.

Equal to pycocotools' `COCOeval.evaluate` (crowds, ignores, area ranges, ties, maximum detections), but without a loop over images:
detections of all images are matched in rounds, the k-th candidate of every (image, class) cell at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]

COCO_IOUS = tuple(float(t) for t in np.linspace(0.5, 0.95, 10))
# Square pixels of the image, as in COCO.
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MAX_DETECTIONS = 100
# Pairs of boxes whose overlap is computed together: some 30 MB of intermediate results.
PAIRS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Annotations:
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
    """The result of matching, at most 24 bytes a detection where one in eight or fewer matches an object (a full COCO run: one in 15).

    Detections stand in lines ordered by class, then falling confidence, ties by image. A line either matches an object at some IoU, then it
    is a claim, or it is a false positive in every area range that holds it.

    ious: thresholds (T,). areas: names of area ranges (A,). n_images, n_classes: extents.
    row: (n,) which detection of the input a line is. image, label, confidence: (n,) of that detection. rank: (n,) its place within its
    image and class. in_range: (n,) bit a set where the detection's own area lies in areas[a].
    claim: (c,) lines of the claims, rising. hit: (c, A), bit t set where the claim matches a counted object at ious[t]. void: (c, A), bit t
    set where it matches one that is not counted (a crowd, or out of the range). partner: (c,) object matched at the lowest IoU over all
    areas, -1 where none.
    object_image, object_label: (m,). object_ignored: (m, A), objects not counted in an area range.
    """

    ious: tuple[float, ...]
    areas: tuple[str, ...]
    n_images: int
    n_classes: int
    row: npt.NDArray[np.int32]
    image: npt.NDArray[np.int32]
    label: npt.NDArray[np.int16]
    confidence: Floats
    rank: npt.NDArray[np.unsignedinteger[Any]]
    in_range: npt.NDArray[np.uint8]
    claim: npt.NDArray[np.int32]
    true_positive: npt.NDArray[np.uint16]
    void: npt.NDArray[np.uint16]
    partner: npt.NDArray[np.int32]
    annotation_image: npt.NDArray[np.int32]
    annotation_label: npt.NDArray[np.int16]
    annotation_ignored: Bools

    def bit(self, iou: float) -> int:
        """Index of an IoU threshold. Raises ValueError when it was not matched."""
        near = np.flatnonzero(np.isclose(self.ious, iou))
        if not len(near):
            raise ValueError(f"IoU {iou} was not matched; the table has {self.ious}")
        return int(near[0])

    def flags(self, iou: float, area: str = "all") -> tuple[Bools, Bools]:
        """For every line at one IoU: is it a hit, and is it counted at all; (n,) each."""
        a, bit = self.areas.index(area), np.uint16(1 << self.bit(iou))
        true_positive = np.zeros(len(self.row), bool)
        counted = (self.in_range >> a) & 1 == 1
        true_positive[self.claim] = self.true_positive[:, a] & bit > 0
        counted[self.claim] &= self.void[:, a] & bit == 0
        return true_positive, counted | true_positive

    @property
    def bytes_per_detection(self) -> float:
        """Memory of everything about detections, a detection."""
        arrays = (self.row, self.image, self.label, self.confidence, self.rank, self.in_range)
        claims = (self.claim, self.true_positive, self.void, self.partner)
        return sum(array.nbytes for array in (*arrays, *claims)) / max(len(self.row), 1)


def iou_table(first: Floats, second: Floats) -> Floats:
    """IoU of every pair of boxes xyxy, (n, m)."""
    sides = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(
        first[:, None, :2], second[None, :, :2]
    )
    shared = np.clip(sides, 0, None).prod(2)
    area = [np.prod(boxes[:, 2:] - boxes[:, :2], 1) for boxes in (first, second)]
    return np.asarray(shared / np.maximum(area[0][:, None] + area[1][None] - shared, 1e-9))


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
    annotations: Annotations,
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
    unit, square pixels of the image if not given. At most 16 IoU thresholds, in rising order. Raises ValueError otherwise.
    """
    if not 0 < len(ious) <= 16 or list(ious) != sorted(ious):
        raise ValueError(f"expected 1 to 16 rising IoU thresholds, got {ious}")
    if not 0 < len(areas) <= 8 or "all" not in areas:
        raise ValueError(f"expected 1 to 8 area ranges, one of them 'all', got {list(areas)}")
    if n_classes > np.iinfo(np.int16).max:
        raise ValueError(f"expected at most {np.iinfo(np.int16).max} classes, got {n_classes}")
    line, cell, rank = _lines(detections, n_images, max_detections)
    by_cell = np.argsort(cell, kind="stable")
    annotations_by_cell = np.argsort(annotations.label * n_images + annotations.image, kind="stable")
    annotation_cell = (annotations.label * n_images + annotations.image)[annotations_by_cell]
    left, right = pair_up(cell[by_cell], annotation_cell)
    left, right, overlap = _near(
        detections.xywh,
        annotations.xywh,
        annotations.crowd,
        line[by_cell],
        left,
        annotations_by_cell[right],
        ious[0],
    )
    # From here on only detections with an object near enough, numbered from 0 in the order of their cells.
    bearing, left = np.unique(left, return_inverse=True)
    turn = _rounds_of(left, cell[by_cell][bearing])
    own_area = (
        detections.xywh[line, 2] * detections.xywh[line, 3]
        if detection_area is None
        else detection_area[line]
    )
    in_range = np.zeros(len(line), np.uint8)
    bits = (1 << np.arange(len(ious))).astype(np.uint16)
    true_positive = np.zeros((len(bearing), len(areas)), np.uint16)
    void = np.zeros((len(bearing), len(areas)), np.uint16)
    annotation_ignored = np.zeros((len(annotations.image), len(areas)), bool)
    partner = np.full(len(bearing), -1, np.int32)
    # pycocotools caps each threshold just below 1, so that perfect overlap counts at IoU 1.
    thresholds = np.minimum(np.array(ious), 1 - 1e-10)
    for index, (name, (low, high)) in enumerate(areas.items()):
        in_range |= (((own_area >= low) & (own_area <= high)) << index).astype(np.uint8)
        skip = annotations.crowd | (annotations.area < low) | (annotations.area > high)
        annotation_ignored[:, index] = skip
        if not len(bearing):
            continue
        chosen = _greedy(left, right, overlap, turn, skip, annotations.crowd, thresholds, len(bearing))
        matched = chosen >= 0
        ignored = matched & skip[np.maximum(chosen, 0)]
        true_positive[:, index], void[:, index] = (matched & ~ignored) @ bits, ignored @ bits
        if name == "all":
            partner = chosen[:, 0].astype(np.int32)

    place = by_cell[bearing]
    kept = np.argsort(place)
    kept = kept[(true_positive[kept] | void[kept]).any(axis=1)]
    return MatchTable(
        ious=tuple(ious),
        areas=tuple(areas),
        n_images=n_images,
        n_classes=n_classes,
        row=line.astype(np.int32),
        image=detections.image[line].astype(np.int32),
        label=detections.label[line].astype(np.int16),
        confidence=detections.confidence[line],
        rank=rank,
        in_range=in_range,
        claim=place[kept].astype(np.int32),
        true_positive=true_positive[kept],
        void=void[kept],
        partner=partner[kept],
        annotation_image=annotations.image.astype(np.int32),
        annotation_label=annotations.label.astype(np.int16),
        annotation_ignored=annotation_ignored,
    )


def _lines(
    detections: Detections, n_images: int, max_detections: int
) -> tuple[Ints, Ints, npt.NDArray[np.unsignedinteger[Any]]]:
    """Detections by class, falling confidence and image, without those beyond the limit of their (image, class) cell: row, cell and rank."""
    cell = detections.label * n_images + detections.image
    line = np.argsort(cell, kind="stable")
    line = line[np.argsort(-detections.confidence[line], kind="stable")]
    line = line[np.argsort(detections.label[line].astype(np.int16), kind="stable")]
    cell = cell[line]
    by_cell = np.argsort(cell, kind="stable")
    in_order = cell[by_cell]
    rank = np.empty(len(cell), np.int64)
    rank[by_cell] = np.arange(len(cell)) - np.searchsorted(in_order, in_order, "left")
    keep = rank < max_detections
    return line[keep], cell[keep], rank[keep].astype(np.min_scalar_type(max(max_detections - 1, 0)))


def _near(
    boxes: Floats, annotations: Floats, crowd: Bools, line: Ints, left: Ints, right: Ints, iou: float
) -> tuple[Ints, Ints, Floats]:
    """The pairs (index into line, object) that overlap by at least iou, and their overlaps; looked at in parts to bound memory."""
    parts = []
    for begin in range(0, len(left), PAIRS_AT_ONCE):
        a, b = left[begin : begin + PAIRS_AT_ONCE], right[begin : begin + PAIRS_AT_ONCE]
        overlap = box_iou(boxes[line[a]], annotations[b], crowd[b])
        near = overlap >= min(iou, 1 - 1e-10)
        parts.append((a[near], b[near], overlap[near]))
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def _rounds_of(left: Ints, cell: Ints) -> Ints:
    """For each candidate pair, which candidate-bearing detection of its cell it belongs to: 0 for the most confident, and so on.

    left: bearing detection of each pair. cell: of each bearing detection, sorted.
    """
    turn = np.arange(len(cell)) - np.searchsorted(cell, cell, "left")
    return np.asarray(turn[left], dtype=np.int64)


def _greedy(
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
        annotations = right[begin:end]
        free = (overlap[begin:end, None] >= thresholds) & (~taken[annotations] | crowd[annotations, None])
        place = np.where(free, np.arange(end - begin)[:, None], -1)
        detections, starts = np.unique(left[begin:end], return_index=True)
        best = np.maximum.reduceat(place, starts, axis=0)
        picked = np.where(best >= 0, annotations[np.maximum(best, 0)], -1)
        chosen[detections] = picked
        got, column = np.nonzero(picked >= 0)
        taken[picked[got, column], column] = True
    return chosen
