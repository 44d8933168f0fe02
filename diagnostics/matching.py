"""Greedy COCO matching, done once; slices, thresholds, classes and bootstrap replicates aggregate its table.

Equal to pycocotools' `COCOeval.evaluate` (crowds, ignored annotations, area ranges, ties, maximum detections)
without its loop over images: the k-th candidates of all (image, class) cells are matched together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from datasets.rotated import probiou

Ints = npt.NDArray[np.integer[Any]]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]

COCO_IOUS = tuple(float(t) for t in np.linspace(0.5, 0.95, 10))
# Square pixels of the image, as in COCO.
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MAX_DETECTIONS = 100
# Pairs of boxes whose overlap is computed together: about 30 MB of intermediate results.
PAIRS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Annotations:
    """Annotations as arrays.

    image: number of the image, (n,)
    label: number of the class, (n,)
    xywh: box in pixels, (n, 4)
    area: square pixels, COCO's own field where the source has one, (n,)
    crowd: whether the box is a crowd, (n,)
    rotated: rotated boxes, (n, 5), see `datasets.rotated`; None where boxes are upright
    """

    image: Ints
    label: Ints
    xywh: Floats
    area: Floats
    crowd: Bools
    rotated: Floats | None = None


@dataclass(frozen=True)
class Detections:
    """Detections as arrays.

    image: number of the image, (n,)
    label: number of the class, (n,)
    xywh: box in pixels, (n, 4)
    confidence: in [0, 1], (n,)
    rotated: as of `Annotations`
    """

    image: Ints
    label: Ints
    xywh: Floats
    confidence: Floats
    rotated: Floats | None = None

    @property
    def area(self) -> Floats:
        """Square pixels, (n,)."""
        sides = self.xywh[:, 2:] if self.rotated is None else self.rotated[:, 2:4]
        return np.asarray(sides[:, 0] * sides[:, 1])

    def take(self, rows: Ints) -> Detections:
        """Some of them."""
        return Detections(
            self.image[rows],
            self.label[rows],
            self.xywh[rows],
            self.confidence[rows],
            None if self.rotated is None else self.rotated[rows],
        )


@dataclass(frozen=True)
class MatchTable:
    """The result of matching; at most 24 bytes a detection if at most one in eight matches (COCO: one in 15).

    Rows are detections by class, then by falling confidence, ties by image. A row either matches an
    annotation at some IoU or is a false positive in every area range that contains it.

    ious: IoU thresholds, (T,)
    areas: names of the area ranges, (A,)
    n_images: number of images
    n_classes: number of classes
    row: index of each row's detection in the input, (n,)
    image: image of the detection, (n,)
    label: class of the detection, (n,)
    confidence: confidence of the detection, (n,)
    rank: position by falling confidence within the image and class, (n,)
    in_range: bit a is set where the detection's own area lies in areas[a], (n,)
    matched: rows that match an annotation at some IoU, rising, (c,)
    true_positive: bit t is set where the row matches a counted annotation at ious[t], (c, A)
    ignored: bit t is set where it matches one that is not counted (a crowd, or outside the range), (c, A)
    partner: annotation matched at ious[0] in the range "all", -1 for none, (c,)
    annotation_image: image of each annotation, (m,)
    annotation_label: class of each annotation, (m,)
    annotation_ignored: whether an annotation is not counted in an area range, (m, A)
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
    matched: npt.NDArray[np.int32]
    true_positive: npt.NDArray[np.uint16]
    ignored: npt.NDArray[np.uint16]
    partner: npt.NDArray[np.int32]
    annotation_image: npt.NDArray[np.int32]
    annotation_label: npt.NDArray[np.int16]
    annotation_ignored: Bools

    def bit(self, iou: float) -> int:
        """Index of an IoU threshold. Raises ValueError when the table was not matched at it."""
        index = np.flatnonzero(np.isclose(self.ious, iou))
        if not len(index):
            raise ValueError(f"IoU {iou} was not matched; the table has {self.ious}")
        return int(index[0])

    def flags(self, iou: float, area: str = "all") -> tuple[Bools, Bools]:
        """For every row at one IoU: whether it is a true positive, and whether it is counted; (n,) each."""
        a, bit = self.areas.index(area), np.uint16(1 << self.bit(iou))
        true_positive = np.zeros(len(self.row), bool)
        counted = (self.in_range >> a) & 1 == 1
        true_positive[self.matched] = self.true_positive[:, a] & bit > 0
        counted[self.matched] &= self.ignored[:, a] & bit == 0
        return true_positive, counted | true_positive

    @property
    def bytes_per_detection(self) -> float:
        """Memory of all arrays about detections, per detection."""
        arrays = (self.row, self.image, self.label, self.confidence, self.rank, self.in_range)
        matches = (self.matched, self.true_positive, self.ignored, self.partner)
        return sum(array.nbytes for array in (*arrays, *matches)) / max(len(self.row), 1)


@dataclass(frozen=True)
class _Pairs:
    """Pairs of a detection and an annotation of its image and class that overlap enough to match.

    rows: rows of the match table that are in a pair, ordered by (image, class) cell, (d,)
    cell: number of each row's cell, from 0, (d,)
    detection: index into rows of each pair, (p,)
    annotation: annotation of each pair, (p,)
    overlap: IoU of each pair, (p,)
    turn: round of each pair: 0 for the most confident detection of a cell, then 1, and so on, (p,)
    """

    rows: Ints
    cell: Ints
    detection: Ints
    annotation: Ints
    overlap: Floats
    turn: Ints

    def take(self, chosen: Ints | Bools) -> _Pairs:
        """Some of the pairs, of the same rows."""
        columns = self.detection[chosen], self.annotation[chosen], self.overlap[chosen], self.turn[chosen]
        return _Pairs(self.rows, self.cell, *columns)


@dataclass(frozen=True)
class _Matches:
    """What the rows in pairs match, as in `MatchTable`."""

    matched: Ints
    true_positive: npt.NDArray[np.uint16]
    ignored: npt.NDArray[np.uint16]
    partner: npt.NDArray[np.int32]
    annotation_ignored: Bools


def iou_table(first: Floats, second: Floats) -> Floats:
    """IoU of every pair of boxes xyxy, (n, m)."""
    sides = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(
        first[:, None, :2], second[None, :, :2]
    )
    shared = np.clip(sides, 0, None).prod(2)
    area = [np.prod(boxes[:, 2:] - boxes[:, :2], 1) for boxes in (first, second)]
    return np.asarray(shared / np.maximum(area[0][:, None] + area[1][None] - shared, 1e-9))


def box_iou(a: Floats, b: Floats, crowd: Bools) -> Floats:
    """IoU of boxes a and b, pair by pair, (n, 4) xywh each -> (n,).

    Where b is a crowd, the overlap is divided by a's own area, as in COCO.
    """
    width = np.minimum(a[:, 0] + a[:, 2], b[:, 0] + b[:, 2]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 1] + a[:, 3], b[:, 1] + b[:, 3]) - np.maximum(a[:, 1], b[:, 1])
    shared = np.where((width > 0) & (height > 0), width * height, 0.0)
    own = a[:, 2] * a[:, 3]
    union = np.where(crowd, own, own + b[:, 2] * b[:, 3] - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def overlap_of(detections: Detections, rows: Ints, annotations: Annotations, others: Ints) -> Floats:
    """Overlap of detections and annotations, pair by pair, (n,): IoU, or `probiou` where both are rotated."""
    if detections.rotated is None or annotations.rotated is None:
        return box_iou(detections.xywh[rows], annotations.xywh[others], annotations.crowd[others])
    overlap = probiou(detections.rotated[rows], annotations.rotated[others])
    crowd = annotations.crowd[others]
    if crowd.any():
        within = rows[crowd], others[crowd]
        overlap[crowd] = box_iou(detections.xywh[within[0]], annotations.xywh[within[1]], crowd[crowd])
    return overlap


def pair_up(left: Ints, right: Ints) -> tuple[Ints, Ints]:
    """All pairs with equal keys of two arrays, right sorted: indices into left (grouped) and into right."""
    first, last = np.searchsorted(right, left, "left"), np.searchsorted(right, left, "right")
    count = last - first
    a = np.repeat(np.arange(len(left)), count)
    b = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    return a, b


# Eight parameters: boxes, their extents, and COCO's settings, which callers change one at a time.
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
    overlap: Callable[[Ints, Ints], Floats] | None = None,
) -> MatchTable:
    """Match detections to annotations, in as many rounds as the fullest (image, class) cell has candidates.

    Parameters
    ----------
    annotations, detections, n_images, n_classes
        Boxes, with images and classes numbered from 0.
    ious
        1 to 16 IoU thresholds, rising.
    areas
        Name -> lowest and highest area that counts, in the unit of `Annotations.area`; one is named "all".
    detection_area
        Area of each detection in that unit, (n,); by default square pixels of the image.
    max_detections
        Detections kept of each image and class, the most confident ones.
    overlap
        Overlap in [0, 1] of detections and annotations, given by number, pair by pair, (n,) each -> (n,); by
        default that of boxes, see `overlap_of`.

    Raises
    ------
    ValueError
        If `ious`, `areas` or `n_classes` are out of bounds.
    """
    _check(ious, areas, n_classes)
    row, rank, by_cell = _ordered(detections, n_images, max_detections)
    measure = overlap or _box_overlap(annotations, detections)
    pairs = _candidates(annotations, detections, row, by_cell, n_images, ious[0], measure)
    matches = _match_ranges(pairs, annotations, ious, areas)
    if detection_area is None:
        detection_area = detections.area
    return MatchTable(
        ious=tuple(ious),
        areas=tuple(areas),
        n_images=n_images,
        n_classes=n_classes,
        row=row.astype(np.int32),
        image=detections.image[row].astype(np.int32),
        label=detections.label[row].astype(np.int16),
        confidence=detections.confidence[row],
        rank=rank,
        in_range=_ranges_of(detection_area[row], areas),
        matched=matches.matched.astype(np.int32),
        true_positive=matches.true_positive,
        ignored=matches.ignored,
        partner=matches.partner,
        annotation_image=annotations.image.astype(np.int32),
        annotation_label=annotations.label.astype(np.int16),
        annotation_ignored=matches.annotation_ignored,
    )


def _check(ious: tuple[float, ...], areas: Mapping[str, tuple[float, float]], n_classes: int) -> None:
    """Raises ValueError when a setting of `match` is out of bounds: flags are bits of 16, ranges of 8."""
    if not 0 < len(ious) <= 16 or list(ious) != sorted(ious):
        raise ValueError(f"expected 1 to 16 rising IoU thresholds, got {ious}")
    if not 0 < len(areas) <= 8 or "all" not in areas:
        raise ValueError(f"expected 1 to 8 area ranges, one of them 'all', got {list(areas)}")
    if n_classes > np.iinfo(np.int16).max:
        raise ValueError(f"expected at most {np.iinfo(np.int16).max} classes, got {n_classes}")


def _cells(boxes: Annotations | Detections, n_images: int) -> Ints:
    """One number for each image and class, (n,)."""
    return boxes.label.astype(np.int64) * n_images + boxes.image.astype(np.int64)


def _order(*keys: Ints) -> Ints:
    """Numbers of the rows in the order of several keys, the first one first; ties as they come.

    Keys are whole numbers from 0, (n,) each. They and the number of the row are sorted as one number of 63
    bits where they fit, which takes a fifth of the time of a stable argsort a key.
    """
    count = len(keys[0])
    widths = [int(key.max(initial=0)).bit_length() for key in keys]
    width = max(count - 1, 0).bit_length()
    if sum(widths) + width > 63:
        return np.lexsort(keys[::-1])
    packed = np.zeros(count, np.int64)
    for key, bits in zip((*keys, np.arange(count)), (*widths, width), strict=True):
        packed = packed << bits | key.astype(np.int64)
    packed.sort()
    return packed & ((1 << width) - 1)


def _places(confidence: Floats) -> Ints:
    """Place of each confidence from the highest on, equal ones at the same place, (n,)."""
    order = np.argsort(-confidence)
    falling = confidence[order]
    place = np.zeros(len(confidence), np.int64)
    place[order[1:]] = np.cumsum(falling[1:] != falling[:-1])
    return place


def _since_change(sorted_keys: Ints) -> Ints:
    """How many rows before each have the same key, (n,)."""
    position = np.arange(len(sorted_keys))
    first = np.zeros(len(sorted_keys), np.int64)
    is_first = sorted_keys[1:] != sorted_keys[:-1]
    first[1:][is_first] = position[1:][is_first]
    return position - np.maximum.accumulate(first)


def _ordered(
    detections: Detections, n_images: int, max_detections: int
) -> tuple[Ints, npt.NDArray[np.unsignedinteger[Any]], Ints]:
    """Rows of the table and their order by cell.

    Returns the detections by class, falling confidence and image, up to the limit in each (image, class)
    cell; the rank of each in its cell; and the numbers of these rows by cell and rank.
    """
    row = _order(detections.label, _places(detections.confidence), detections.image)
    cell = _cells(detections, n_images)[row]
    by_cell = _order(cell)
    rank = np.empty(len(cell), np.int64)
    rank[by_cell] = _since_change(cell[by_cell])
    keep = rank < max_detections
    if not keep.all():
        by_cell = (np.cumsum(keep) - 1)[by_cell[keep[by_cell]]]
        row, rank = row[keep], rank[keep]
    return row, rank.astype(np.min_scalar_type(max(max_detections - 1, 0))), by_cell


# Seven parameters: boxes, their order, and what is measured.
def _candidates(
    annotations: Annotations,
    detections: Detections,
    row: Ints,
    by_cell: Ints,
    n_images: int,
    iou: float,
    measure: Callable[[Ints, Ints], Floats],
) -> _Pairs:
    """All pairs that can match at the lowest IoU. by_cell: numbers of the rows by cell and rank."""
    row_by_cell = row[by_cell]
    cell, annotation_cell = _cells(detections, n_images)[row_by_cell], _cells(annotations, n_images)
    # Annotations are the fewer ones to look up. By cell, because `overlap` may read an image's masks for its
    # pairs.
    annotations_by_cell = _order(annotation_cell)
    annotation, place = pair_up(annotation_cell[annotations_by_cell], cell)
    annotation, place, overlap = _overlapping(
        row_by_cell, annotations_by_cell[annotation], place, iou, measure
    )
    is_paired = np.zeros(len(row), bool)
    is_paired[place] = True
    number = np.cumsum(is_paired) - 1
    paired_cell = cell[is_paired]
    turn = _since_change(paired_cell)
    left = number[place]
    return _Pairs(by_cell[is_paired], np.cumsum(turn == 0) - 1, left, annotation, overlap, turn[left])


def _box_overlap(annotations: Annotations, detections: Detections) -> Callable[[Ints, Ints], Floats]:
    """`overlap_of` for detections and annotations by number, (n,) each -> (n,)."""
    if detections.rotated is not None and annotations.rotated is not None:
        return lambda rows, others: overlap_of(detections, rows, annotations, others)
    left, other_left = (np.ascontiguousarray(boxes.xywh[:, 0]) for boxes in (detections, annotations))
    right, other_right = left + detections.xywh[:, 2], other_left + annotations.xywh[:, 2]

    def overlap(rows: Ints, others: Ints) -> Floats:
        # Most boxes of an image lie beside each other.
        near = np.flatnonzero(
            np.minimum(right[rows], other_right[others]) > np.maximum(left[rows], other_left[others])
        )
        shared = np.zeros(len(rows))
        shared[near] = overlap_of(detections, rows[near], annotations, others[near])
        return shared

    return overlap


def _overlapping(
    row: Ints, annotation: Ints, place: Ints, iou: float, measure: Callable[[Ints, Ints], Floats]
) -> tuple[Ints, Ints, Floats]:
    """The pairs (annotation, place in row) that overlap by at least iou, and their overlaps.

    Computed in parts to bound memory.
    """
    parts = []
    for begin in range(0, len(place), PAIRS_AT_ONCE):
        a, b = annotation[begin : begin + PAIRS_AT_ONCE], place[begin : begin + PAIRS_AT_ONCE]
        overlap = measure(row[b], a)
        enough = overlap >= min(iou, 1 - 1e-10)
        parts.append((a[enough], b[enough], overlap[enough]))
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def _ranges_of(area: Floats, areas: Mapping[str, tuple[float, float]]) -> npt.NDArray[np.uint8]:
    """Bit a is set where an area lies in the a-th range, (n,)."""
    in_range = np.zeros(len(area), np.uint8)
    for index, (low, high) in enumerate(areas.values()):
        in_range |= (((area >= low) & (area <= high)) << index).astype(np.uint8)
    return in_range


def _match_ranges(
    pairs: _Pairs,
    annotations: Annotations,
    ious: tuple[float, ...],
    areas: Mapping[str, tuple[float, float]],
) -> _Matches:
    """Match the pairs in every area range; only rows that match at some IoU are returned."""
    count = len(pairs.rows)
    bits = (1 << np.arange(len(ious))).astype(np.uint16)
    true_positive = np.zeros((count, len(areas)), np.uint16)
    ignored = np.zeros((count, len(areas)), np.uint16)
    annotation_ignored = np.zeros((len(annotations.image), len(areas)), bool)
    partner = np.full(count, -1, np.int32)
    # pycocotools caps each threshold just below 1, so that perfect overlap counts at IoU 1.
    thresholds = np.minimum(np.array(ious), 1 - 1e-10)
    # By turn, detection, rising overlap and annotation.
    pairs = pairs.take(np.lexsort((pairs.annotation, pairs.overlap, pairs.detection, pairs.turn)))
    chosen = np.full((count, len(ious)), -1, np.int64)
    # The cells in which only some annotations are skipped in the range matched last: all at first.
    last_mixed = np.ones(count, bool)
    for index, (name, (low, high)) in enumerate(areas.items()):
        skip = annotations.crowd | (annotations.area < low) | (annotations.area > high)
        annotation_ignored[:, index] = skip
        if not count:
            continue
        # Where all annotations are skipped, or none, the choices are those of any other such range.
        mixed = _mixed_cells(pairs, skip)
        again = (mixed | last_mixed)[pairs.cell[pairs.detection]]
        _greedy(pairs.take(again), skip, annotations.crowd, thresholds, chosen)
        last_mixed = mixed
        matched = chosen >= 0
        on_ignored = matched & skip[np.maximum(chosen, 0)]
        true_positive[:, index], ignored[:, index] = (matched & ~on_ignored) @ bits, on_ignored @ bits
        if name == "all":
            partner = chosen[:, 0].astype(np.int32)
    order = np.argsort(pairs.rows)
    order = order[(true_positive[order] | ignored[order]).any(axis=1)]
    return _Matches(
        pairs.rows[order], true_positive[order], ignored[order], partner[order], annotation_ignored
    )


def _mixed_cells(pairs: _Pairs, skip: Bools) -> Bools:
    """Whether some annotations in the pairs of each cell are skipped and others not, (d,), by its number."""
    cell = pairs.cell[pairs.detection]
    of_skipped = np.bincount(cell[skip[pairs.annotation]], minlength=len(pairs.rows))
    return (of_skipped > 0) & (of_skipped < np.bincount(cell, minlength=len(pairs.rows)))


def _greedy(pairs: _Pairs, skip: Bools, crowd: Bools, thresholds: Floats, chosen: Ints) -> None:
    """Write the annotation that each detection in pairs chooses at each threshold into chosen, (d, T), -1 for
    none.

    Each detection takes, of the annotations still free, the one of highest IoU; counted annotations before
    ignored ones, the later one on ties. pairs: of whole cells, by turn, detection, rising overlap and
    annotation.
    """
    if not len(pairs.detection):
        return
    is_first = np.append(True, pairs.detection[1:] != pairs.detection[:-1])
    order = _order(np.cumsum(is_first) - 1, 1 - skip[pairs.annotation])
    candidates, overlap = pairs.annotation[order], pairs.overlap[order]
    taken = np.zeros((len(skip), len(thresholds)), bool)
    starts = np.flatnonzero(is_first)
    # The pairs of a turn, and its detections.
    limits = np.searchsorted(pairs.turn, np.arange(pairs.turn[-1] + 2))
    detection_limits = np.searchsorted(starts, limits)
    for (begin, end), (first, last) in zip(pairwise(limits), pairwise(detection_limits), strict=True):
        annotations = candidates[begin:end]
        free = (overlap[begin:end, None] >= thresholds) & (~taken[annotations] | crowd[annotations, None])
        position = np.where(free, np.arange(end - begin)[:, None], -1)
        best = np.maximum.reduceat(position, starts[first:last] - begin, axis=0)
        picked = np.where(best >= 0, annotations[np.maximum(best, 0)], -1)
        chosen[pairs.detection[starts[first:last]]] = picked
        row, column = np.nonzero(picked >= 0)
        taken[picked[row, column], column] = True
