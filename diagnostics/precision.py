"""Average precision and recall as aggregations over a match table.

Equal to pycocotools' `COCOeval.accumulate` and `COCOeval.summarize`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from diagnostics.matching import Bools, Floats, Ints, MatchTable

# Weightings computed together: as many as keep the arrays of an average class (weightings x matched rows,
# 8 bytes) within a cache of 1 MB, but enough for numpy's loops to outweigh its calls.
CACHED_NUMBERS = 1 << 17
FEWEST_AT_ONCE, MOST_AT_ONCE = 8, 128
RECALL_POINTS: Floats = np.linspace(0.0, 1.0, 101)
# Points that, computed as k times 0.01, come out a rounding error above k / 100: a recall of exactly k / 100
# does not reach them. This can occur only where the number of annotations is a multiple of this (10).
_HIGH = np.flatnonzero(np.arange(101) / 100 < RECALL_POINTS)
ROUNDED_UP_DIVISOR = int(np.gcd.reduce(100 // np.gcd(_HIGH, 100)))
Int32s = npt.NDArray[np.int32]
COCO_METRICS = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar_1",
    "ar_10",
    "ar_100",
    "ar_small",
    "ar_medium",
    "ar_large",
)


def _interpolated_curve(
    true_positives: Bools, false_positives: Bools, positives: int
) -> tuple[Floats, Floats]:
    """Interpolated precision at the 101 recall points (T, 101) and final recall (T,), for each threshold.

    true_positives, false_positives: (n, T) flags of detections in falling confidence. positives: number of
    counted annotations, at least 1.
    """
    curve = np.zeros((true_positives.shape[1], len(RECALL_POINTS)))
    recall = np.zeros(true_positives.shape[1])
    for column in range(true_positives.shape[1]):
        counted = true_positives[:, column] | false_positives[:, column]
        true = np.cumsum(true_positives[counted, column], dtype=float)
        if not len(true):
            continue
        precision = true / (np.arange(1, len(true) + 1) + np.spacing(1))
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        reached = true / positives
        first = np.searchsorted(reached, RECALL_POINTS, side="left")
        within = first < len(envelope)
        curve[column, within] = envelope[first[within]]
        recall[column] = reached[-1]
    return curve, recall


def interpolated(true_positives: Bools, false_positives: Bools, positives: int) -> tuple[Floats, Floats]:
    """101-point average precision and final recall at each threshold, (T,) and (T,)."""
    curve, recall = _interpolated_curve(true_positives, false_positives, positives)
    return curve.mean(1), recall


def curves(table: MatchTable) -> tuple[Floats, Floats]:
    """Interpolated precision (T, K, 101) and final recall (T, K) over all images.

    As in pycocotools, a class without an annotation has -1.
    """
    precision = np.full((len(table.ious), table.n_classes, len(RECALL_POINTS)), -1.0)
    recall = np.full((len(table.ious), table.n_classes), -1.0)
    positives = np.bincount(
        table.annotation_label[~table.annotation_ignored[:, table.areas.index("all")]],
        minlength=table.n_classes,
    )
    flags = [table.flags(iou) for iou in table.ious]
    for label in np.flatnonzero(positives):
        rows = slice(*np.searchsorted(table.label, [label, label + 1]))
        true_positives = np.column_stack([true_positive[rows] for true_positive, _ in flags])
        false_positives = np.column_stack([counted[rows] for _, counted in flags]) & ~true_positives
        precision[:, label], recall[:, label] = _interpolated_curve(
            true_positives, false_positives, int(positives[label])
        )
    return precision, recall


class Averager:
    """Average precision and recall as a function of how much each image counts, for many weightings at once.

    A slice is a weighting by 0 and 1, a bootstrap replicate one by how often each group is drawn, a jackknife
    one by 0 for one group. Nothing is matched or sorted again: between two matched rows of a class only the
    number of false positives matters, so they are summed into one sparse matrix (matched rows x units), and
    each weighting is a product with it.

    Parameters
    ----------
    table
        A match table.
    area
        One of its area ranges.
    ious
        Thresholds to average at, None for all.
    unit
        Number of the unit, an image or a group of images, to which each image belongs, (n_images,); -1 leaves
        an image out. None makes each image its own unit.
    """

    def __init__(
        self,
        table: MatchTable,
        *,
        area: str = "all",
        ious: Sequence[float] | None = None,
        unit: Ints | None = None,
    ) -> None:
        a = table.areas.index(area)
        unit = np.arange(table.n_images) if unit is None else unit
        self.units = int(unit.max(initial=-1)) + 1
        self.classes = table.n_classes
        self.columns = [table.bit(iou) for iou in (table.ious if ious is None else ious)]
        in_range = (table.in_range >> a) & 1 == 1
        used = unit[table.image[table.matched]] >= 0
        matched = table.matched[used]
        self._unit = unit[table.image[matched]]
        self._true_positive, self._ignored = table.true_positive[used, a], table.ignored[used, a]
        self._in_range = in_range[matched]
        self._base = self._counted(self.columns[0])
        self._limits = np.searchsorted(table.label[matched], np.arange(table.n_classes + 1))
        unmatched = in_range & (unit[table.image] >= 0)
        unmatched[table.matched] = False
        false = np.flatnonzero(unmatched)
        following = np.searchsorted(matched, false)
        # False positives after the last matched row of their class change nothing.
        before = following < self._limits[table.label[false] + 1]
        # Matched rows that count are among the detections up to themselves.
        counted = np.flatnonzero(self._base)
        row = np.concatenate([following[before], counted])
        column = np.concatenate([unit[table.image[false[before]]], self._unit[counted]])
        self._between = csr_array(
            (np.ones(len(row), np.int32), (row, column)), shape=(len(matched), self.units)
        )
        self._between.sum_duplicates()
        self._steps_cache: dict[tuple[int, int], Steps] = {}
        annotations = np.flatnonzero(~table.annotation_ignored[:, a] & (unit[table.annotation_image] >= 0))
        self._positives = csr_array(
            (
                np.ones(len(annotations), np.int32),
                (table.annotation_label[annotations], unit[table.annotation_image[annotations]]),
            ),
            shape=(table.n_classes, self.units),
        )

    def _counted(self, column: int) -> Bools:
        """Matched rows that count at one IoU: true positives, and rows in range with no ignored match."""
        true_positive, ignored = ((bits >> column) & 1 == 1 for bits in (self._true_positive, self._ignored))
        return true_positive | (self._in_range & ~ignored)

    def __call__(self, weights: Ints | Bools, *, single: bool = False) -> tuple[Floats, Floats]:
        """Average precision and final recall of each weighting.

        Parameters
        ----------
        weights
            Whole numbers of 0 or more, (R, units).
        single
            Compute in single precision, which is faster and right to the width of a recall point (some 1e-4)
            instead of to 1e-12.

        Returns
        -------
        tuple
            Average precision and recall, (K, T, R) each; NaN for a class without an annotation.
        """
        shape = (self.classes, len(self.columns), len(weights))
        average, recall = np.full(shape, np.nan), np.full(shape, np.nan)
        rows = max(1, len(self._unit) // max(1, int((np.diff(self._limits) > 0).sum())))
        at_once = min(max(CACHED_NUMBERS // rows, FEWEST_AT_ONCE), MOST_AT_ONCE)
        for begin in range(0, len(weights), at_once):
            part = slice(begin, begin + at_once)
            self._fill(weights[part].astype(np.int32), average[..., part], recall[..., part], single)
        return average, recall

    def _fill(self, weights: Int32s, average: Floats, recall: Floats, single: bool) -> None:
        """Write the results of some weightings into average and recall."""
        columns = np.ascontiguousarray(weights.T)
        positives, between = self._positives @ columns, self._between @ columns
        for label in range(self.classes):
            present = positives[label] > 0
            if not present.any():
                continue
            rows = slice(*self._limits[label : label + 2])
            weight = _columns(weights, self._unit[rows])
            detected = np.cumsum(np.ascontiguousarray(between[rows].T), axis=1, dtype=np.int32)
            total = np.where(present, positives[label], 1)
            for t, column in enumerate(self.columns):
                steps = self._steps(label, column)
                average[label, t], recall[label, t] = _average(weight, detected, steps, total, single)
            average[label][:, ~present] = recall[label][:, ~present] = np.nan

    def _steps(self, label: int, column: int) -> Steps:
        """The true positives of a class at one IoU, computed for the first weighting that needs them."""
        if (label, column) not in self._steps_cache:
            of_class = slice(*self._limits[label : label + 2])
            rows = np.flatnonzero((self._true_positive[of_class] >> column) & 1)
            counted = self._counted(column)[of_class]
            changed = np.flatnonzero(counted != self._base[of_class])
            sign = np.where(counted[changed], 1, -1).astype(np.int32)
            self._steps_cache[label, column] = Steps(
                rows, changed, sign, np.searchsorted(changed, rows, "right")
            )
        return self._steps_cache[label, column]


@dataclass(frozen=True)
class Steps:
    """Matched rows of one class at one IoU.

    rows: the true positives
    changed: rows that count here but not at the first IoU, or the other way round
    sign: 1 for the former, -1 for the latter
    before: how many changed rows come at or before each true positive
    """

    rows: Ints
    changed: Ints
    sign: Int32s
    before: Ints


def _average(
    weight: Int32s, detected: Int32s, steps: Steps, total: Int32s, single: bool
) -> tuple[Floats, Floats]:
    """Average precision and final recall, (R,) each.

    weight: (R, c) of matched rows. detected: (R, c) weight of the detections up to each. total: (R,) weight
        of the annotations.
    """
    if not len(steps.rows):
        return np.zeros(len(weight)), np.zeros(len(weight))
    true = np.cumsum(_columns(weight, steps.rows), axis=1, dtype=np.int32)
    counted = _columns(detected, steps.rows)
    if len(steps.changed):
        change = np.zeros((len(weight), len(steps.changed) + 1), np.int32)
        np.cumsum(_columns(weight, steps.changed) * steps.sign, axis=1, out=change[:, 1:])
        counted += _columns(change, steps.before)
    np.maximum(counted, 1, out=counted)
    precision: Floats = np.divide(true, counted, dtype=np.float32) if single else true / counted
    np.maximum.accumulate(precision[:, ::-1], axis=1, out=precision[:, ::-1])
    reached = _points_reached_single(true, total) if single else points_reached(true, total)
    # Not vecdot: for long rows it starts a second BLAS thread that then spins.
    points = precision[:, 0] * reached[:, 0] + np.einsum(
        "rc,rc->r", precision[:, 1:], reached[:, 1:] - reached[:, :-1]
    )
    return points / len(RECALL_POINTS), true[:, -1] / total


def _columns(array: Int32s, columns: Ints) -> Int32s:
    """array[:, columns] with contiguous rows and no bounds check; indexing would return it transposed."""
    return np.take(array, columns, axis=1, mode="clip")


def points_reached(true: Int32s, total: Int32s) -> Floats:
    """How many of the 101 recall points lie at or below true / total, (R, c) and (R,).

    Equal to searchsorted(RECALL_POINTS, true / total, "right"), but several times faster. A recall of exactly
    k hundredths reaches its point k, with the exceptions of ROUNDED_UP_DIVISOR.
    """
    last = len(RECALL_POINTS) - 1
    # Unless total is over 10^8, a recall that is no whole number of hundredths is further than 1e-8 from one.
    reached = true * (last / total)[:, None]
    reached += 1 + 1e-9
    np.floor(reached, out=reached)
    exceptional = np.flatnonzero(total % ROUNDED_UP_DIVISOR == 0)
    if len(exceptional):
        some = reached[exceptional]
        reached[exceptional] = some - (
            RECALL_POINTS[some.astype(np.intp) - 1] > true[exceptional] / total[exceptional, None]
        )
    return reached


def _points_reached_single(true: Int32s, total: Int32s) -> Floats:
    """The same in single precision, right for totals up to 10^6; k hundredths always reach their point."""
    scale = ((len(RECALL_POINTS) - 1) / total).astype(np.float32)
    reached: Floats = np.multiply(true, scale[:, None], dtype=np.float32)
    reached += np.float32(1 + 2e-5)
    return np.floor(reached, out=reached)


def accumulate(table: MatchTable, *, area: str = "all", images: Bools | None = None) -> tuple[Floats, Floats]:
    """Average precision and recall per class and IoU.

    Parameters
    ----------
    table
        A match table.
    area
        One of its area ranges.
    images
        Mask of a slice, (n_images,); None takes all.

    Returns
    -------
    tuple
        Average precision and recall, (K, T) each; NaN rows for classes without a counted annotation.
    """
    weights = np.ones((1, table.n_images), bool) if images is None else images[None]
    average, recall = Averager(table, area=area)(weights)
    return average[..., 0], recall[..., 0]


def _recall_within(table: MatchTable, limit: int, weights: Ints | Bools) -> Floats:
    """Final recall (K, T, R) when only the first `limit` detections of each image and class count.

    weights: (R, n_images).
    """
    a, count = table.areas.index("all"), len(table.ious)
    early = table.rank[table.matched] < limit
    matched, column = np.nonzero(
        (table.true_positive[early, a, None] >> np.arange(count, dtype=np.uint16)) & 1
    )
    row = table.matched[early][matched]
    counted = ~table.annotation_ignored[:, a]

    def summed(key: Ints, image: Ints, keys: int) -> npt.NDArray[Any]:
        ones = np.ones(len(key), np.int32)
        return csr_array((ones, (key, image)), shape=(keys, table.n_images)) @ weights.T.astype(np.int32)

    key = table.label[row].astype(np.int64) * count + column
    true = summed(key, table.image[row], table.n_classes * count).reshape(
        table.n_classes, count, len(weights)
    )
    positives = summed(table.annotation_label[counted], table.annotation_image[counted], table.n_classes)
    recall = np.full(true.shape, np.nan)
    np.divide(true, positives[:, None], out=recall, where=positives[:, None] > 0)
    return recall


def mean(values: Floats) -> float:
    """Mean over what is measurable; NaN when nothing is (never 0, never -1)."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def mean_of_classes(values: Floats) -> Floats:
    """(K, T, R) -> (R,): mean over measurable classes and the thresholds; NaN where nothing is measurable."""
    flat = values.reshape(-1, values.shape[-1])
    present = np.isfinite(flat)
    total = np.where(present, flat, 0).sum(0)
    return np.divide(total, present.sum(0), out=np.full(len(total), np.nan), where=present.any(0))


def weighted_coco_metrics(table: MatchTable, weights: Ints | Bools) -> dict[str, Floats]:
    """COCO's twelve metrics of many weightings of the images.

    Parameters
    ----------
    table
        A match table with the ten COCO IoUs and all four area ranges.
    weights
        Whole numbers of 0 or more, (R, n_images).

    Returns
    -------
    dict
        COCO_METRICS -> values, (R,) each; NaN where not measurable.
    """
    average, recall = Averager(table)(weights)
    half, strict = table.bit(0.5), table.bit(0.75)
    result = {
        "ap": mean_of_classes(average),
        "ap50": mean_of_classes(average[:, half : half + 1]),
        "ap75": mean_of_classes(average[:, strict : strict + 1]),
        "ar_1": mean_of_classes(_recall_within(table, 1, weights)),
        "ar_10": mean_of_classes(_recall_within(table, 10, weights)),
        "ar_100": mean_of_classes(recall),
    }
    for area in ("small", "medium", "large"):
        average, recall = Averager(table, area=area)(weights)
        result[f"ap_{area}"], result[f"ar_{area}"] = mean_of_classes(average), mean_of_classes(recall)
    return {name: result[name] for name in COCO_METRICS}


def coco_metrics(table: MatchTable, images: Bools | None = None) -> dict[str, float]:
    """COCO's twelve metrics of a slice of images, NaN where not measurable."""
    weights = np.ones((1, table.n_images), bool) if images is None else images[None]
    return {name: float(values[0]) for name, values in weighted_coco_metrics(table, weights).items()}


def headline(table: MatchTable, images: Bools | None = None) -> dict[str, float]:
    """AP, AP50, AP75 and the recall that the lowest confidence reaches at IoU 0.5, for a slice of images."""
    average, recall = accumulate(table, images=images)
    half = table.bit(0.5)
    return {
        "ap": mean(average),
        "ap50": mean(average[:, half]),
        "ap75": mean(average[:, table.bit(0.75)]),
        "max_recall": mean(recall[:, half]),
    }
