"""Average precision and recall as aggregations over a match table, equal to pycocotools' `COCOeval.accumulate` and `summarize`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from diagnostics.matching import Bools, Floats, Ints, MatchTable

# Weightings computed together: as many as keep the arrays of an average class (weightings x claims, 8 bytes) within a cache of 1 MB, but
# enough for numpy's loops to be long beside the calls.
CACHED_NUMBERS = 1 << 17
FEWEST_AT_ONCE, MOST_AT_ONCE = 8, 128
RECALL_POINTS: Floats = np.linspace(0.0, 1.0, 101)
# Points that, computed as k times 0.01, came out a rounding error above k / 100: a recall of exactly k / 100 does not reach them. It can
# occur only where the number of objects is a multiple of this (10).
_HIGH = np.flatnonzero(np.arange(101) / 100 < RECALL_POINTS)
MISSED_DIVISOR = int(np.gcd.reduce(100 // np.gcd(_HIGH, 100)))
Whole = npt.NDArray[np.int32]
TWELVE = (
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


def _interpolated_curve(true_positives: Bools, missed: Bools, positives: int) -> tuple[Floats, Floats]:
    """Interpolated precision at the 101 recall points and final recall, for each threshold: (T, 101) and (T,).

    true positives, misses: (n, T) flags of detections in falling confidence; positives: number of counted objects, at least 1.
    """
    curve = np.zeros((true_positives.shape[1], len(RECALL_POINTS)))
    recall = np.zeros(true_positives.shape[1])
    for column in range(true_positives.shape[1]):
        counted = true_positives[:, column] | missed[:, column]
        true = np.cumsum(true_positives[counted, column], dtype=float)
        if not len(true):
            continue
        precision = true / (np.arange(1, len(true) + 1) + np.spacing(1))
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        reached = true / positives
        place = np.searchsorted(reached, RECALL_POINTS, side="left")
        within = place < len(envelope)
        curve[column, within] = envelope[place[within]]
        recall[column] = reached[-1]
    return curve, recall


def interpolated(true_positives: Bools, missed: Bools, positives: int) -> tuple[Floats, Floats]:
    """101-point average precision and final recall at each threshold, (T,) and (T,)."""
    curve, recall = _interpolated_curve(true_positives, missed, positives)
    return curve.mean(1), recall


def curves(table: MatchTable) -> tuple[Floats, Floats]:
    """Interpolated precision (T, K, 101) and final recall (T, K) over all images; -1 for classes without an object, as pycocotools has it."""
    precision = np.full((len(table.ious), table.n_classes, len(RECALL_POINTS)), -1.0)
    recall = np.full((len(table.ious), table.n_classes), -1.0)
    positives = np.bincount(
        table.annotation_label[~table.annotation_ignored[:, table.areas.index("all")]],
        minlength=table.n_classes,
    )
    flags = [table.flags(iou) for iou in table.ious]
    for label in np.flatnonzero(positives):
        mine = slice(*np.searchsorted(table.label, [label, label + 1]))
        true_positives = np.column_stack([true_positive[mine] for true_positive, _ in flags])
        missed = np.column_stack([counted[mine] for _, counted in flags]) & ~true_positives
        precision[:, label], recall[:, label] = _interpolated_curve(
            true_positives, missed, int(positives[label])
        )
    return precision, recall


class Averager:
    """Average precision and recall as a function of how much each image counts, for many such weightings at once.

    A slice is a weighting by 0 and 1, a bootstrap replicate one by how often each group was drawn, a jackknife one by 0 for one group.
    Nothing is matched or sorted again: between two true positives of a class only the number of false positives matters, so they are summed
    into one sparse matrix (true positives x units), and each weighting is a product with it.

    table: a match table. area: one of its ranges. ious: thresholds wanted, None for all. unit: (n_images,) number of the unit, an image
    or a group of them, to which each image belongs, -1 for images left out; None takes each image as its own.
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
        used = unit[table.image[table.claim]] >= 0
        claim = table.claim[used]
        self._owner = unit[table.image[claim]]
        self._true_positive, self._void = table.true_positive[used, a], table.void[used, a]
        self._in_range = in_range[claim]
        self._base = self._counted(self.columns[0])
        self._limits = np.searchsorted(table.label[claim], np.arange(table.n_classes + 1))
        plain = in_range & (unit[table.image] >= 0)
        plain[table.claim] = False
        false = np.flatnonzero(plain)
        following = np.searchsorted(claim, false)
        # False positives after the last claim of their class change nothing.
        before = following < self._limits[table.label[false] + 1]
        # Claims that count are among the detections up to themselves.
        counted = np.flatnonzero(self._base)
        row = np.concatenate([following[before], counted])
        column = np.concatenate([unit[table.image[false[before]]], self._owner[counted]])
        self._between = csr_array(
            (np.ones(len(row), np.int32), (row, column)), shape=(len(claim), self.units)
        )
        self._between.sum_duplicates()
        self._known: dict[tuple[int, int], Steps] = {}
        annotations = np.flatnonzero(~table.annotation_ignored[:, a] & (unit[table.annotation_image] >= 0))
        self._positives = csr_array(
            (
                np.ones(len(annotations), np.int32),
                (table.annotation_label[annotations], unit[table.annotation_image[annotations]]),
            ),
            shape=(table.n_classes, self.units),
        )

    def _counted(self, column: int) -> Bools:
        """Claims that count at one IoU: true positives, and those within the range that match no ignored object."""
        true_positive, void = ((bits >> column) & 1 == 1 for bits in (self._true_positive, self._void))
        return true_positive | (self._in_range & ~void)

    def __call__(self, weights: Ints | Bools, *, single: bool = False) -> tuple[Floats, Floats]:
        """Average precision and final recall, (K, T, R) each, for whole, not negative weights (R, units); NaN for a class without an object.

        single: reckon in single precision, which is faster and right to the width of a recall point (some 1e-4) instead of to 1e-12.
        """
        shape = (self.classes, len(self.columns), len(weights))
        average, recall = np.full(shape, np.nan), np.full(shape, np.nan)
        claims = max(1, len(self._owner) // max(1, int((np.diff(self._limits) > 0).sum())))
        at_once = min(max(CACHED_NUMBERS // claims, FEWEST_AT_ONCE), MOST_AT_ONCE)
        for begin in range(0, len(weights), at_once):
            part = slice(begin, begin + at_once)
            self._fill(weights[part].astype(np.int32), average[..., part], recall[..., part], single)
        return average, recall

    def _fill(self, weights: Whole, average: Floats, recall: Floats, single: bool) -> None:
        columns = np.ascontiguousarray(weights.T)
        positives, between = self._positives @ columns, self._between @ columns
        for label in range(self.classes):
            present = positives[label] > 0
            if not present.any():
                continue
            mine = slice(*self._limits[label : label + 2])
            own = _columns(weights, self._owner[mine])
            seen = np.cumsum(np.ascontiguousarray(between[mine].T), axis=1, dtype=np.int32)
            total = np.where(present, positives[label], 1)
            for t, column in enumerate(self.columns):
                steps = self._steps(label, column)
                average[label, t], recall[label, t] = _average(own, seen, steps, total, single)
            average[label][:, ~present] = recall[label][:, ~present] = np.nan

    def _steps(self, label: int, column: int) -> Steps:
        """The true positives of a class at one IoU, worked out at the first weighting that asks."""
        if (label, column) not in self._known:
            mine = slice(*self._limits[label : label + 2])
            rows = np.flatnonzero((self._true_positive[mine] >> column) & 1)
            counted = self._counted(column)[mine]
            changed = np.flatnonzero(counted != self._base[mine])
            sign = np.where(counted[changed], 1, -1).astype(np.int32)
            self._known[label, column] = Steps(rows, changed, sign, np.searchsorted(changed, rows, "right"))
        return self._known[label, column]


@dataclass(frozen=True)
class Steps:
    """Claims of one class at one IoU. rows: the true positives. changed, sign: claims that count here (1) but not at the first IoU, or the other way
    round (-1). before: how many of these come at or before each hit.
    """

    rows: Ints
    changed: Ints
    sign: Whole
    before: Ints


def _average(own: Whole, seen: Whole, steps: Steps, total: Whole, single: bool) -> tuple[Floats, Floats]:
    """Average precision and final recall, (R,) each. own: (R, c) weights of claims. seen: (R, c) weight of the detections up to each."""
    if not len(steps.rows):
        return np.zeros(len(own)), np.zeros(len(own))
    true = np.cumsum(_columns(own, steps.rows), axis=1, dtype=np.int32)
    counted = _columns(seen, steps.rows)
    if len(steps.changed):
        change = np.zeros((len(own), len(steps.changed) + 1), np.int32)
        np.cumsum(_columns(own, steps.changed) * steps.sign, axis=1, out=change[:, 1:])
        counted += _columns(change, steps.before)
    np.maximum(counted, 1, out=counted)
    precision: Floats = np.divide(true, counted, dtype=np.float32) if single else true / counted
    np.maximum.accumulate(precision[:, ::-1], axis=1, out=precision[:, ::-1])
    reached = _points_reached_single(true, total) if single else points_reached(true, total)
    # Not vecdot: for long rows it wakes a second BLAS thread that then spins.
    points = precision[:, 0] * reached[:, 0] + np.einsum(
        "rc,rc->r", precision[:, 1:], reached[:, 1:] - reached[:, :-1]
    )
    return points / len(RECALL_POINTS), true[:, -1] / total


def _columns(array: Whole, columns: Ints) -> Whole:
    """array[:, columns] in rows that are contiguous: indexing would return them transposed in memory. Without a check of the bounds."""
    return np.take(array, columns, axis=1, mode="clip")


def points_reached(true: Whole, total: Whole) -> Floats:
    """How many of the 101 recall points lie at or below true / total, (R, c) and (R,): equal to searchsorted(RECALL_POINTS, true / total,
    "right"), but several times faster.

    A recall of exactly k hundredths reaches its point k, with the exceptions of MISSED_DIVISOR.
    """
    last = len(RECALL_POINTS) - 1
    # Unless total is over 10^8, a recall that is no whole number of hundredths is further than 1e-8 from one.
    reached = true * (last / total)[:, None]
    reached += 1 + 1e-9
    np.floor(reached, out=reached)
    touchy = np.flatnonzero(total % MISSED_DIVISOR == 0)
    if len(touchy):
        some = reached[touchy]
        reached[touchy] = some - (
            RECALL_POINTS[some.astype(np.intp) - 1] > true[touchy] / total[touchy, None]
        )
    return reached


def _points_reached_single(true: Whole, total: Whole) -> Floats:
    """The same in single precision, where a recall of exactly k hundredths always reaches its point. Right for totals up to 10^6."""
    scale = ((len(RECALL_POINTS) - 1) / total).astype(np.float32)
    reached: Floats = np.multiply(true, scale[:, None], dtype=np.float32)
    reached += np.float32(1 + 2e-5)
    return np.floor(reached, out=reached)


def accumulate(table: MatchTable, *, area: str = "all", images: Bools | None = None) -> tuple[Floats, Floats]:
    """Average precision and recall per class and IoU, (K, T) each; NaN rows for classes without a counted object.

    images: (n_images,) mask of a slice; None takes all.
    """
    weights = np.ones((1, table.n_images), bool) if images is None else images[None]
    average, recall = Averager(table, area=area)(weights)
    return average[..., 0], recall[..., 0]


def _recall_within(table: MatchTable, limit: int, weights: Ints | Bools) -> Floats:
    """Final recall (K, T, R) when only the first `limit` detections of each image and class count. weights: (R, n_images)."""
    a, count = table.areas.index("all"), len(table.ious)
    early = table.rank[table.claim] < limit
    place, column = np.nonzero((table.true_positive[early, a, None] >> np.arange(count, dtype=np.uint16)) & 1)
    line = table.claim[early][place]
    counted = ~table.annotation_ignored[:, a]

    def summed(row: Ints, image: Ints, rows: int) -> npt.NDArray[Any]:
        ones = np.ones(len(row), np.int32)
        return csr_array((ones, (row, image)), shape=(rows, table.n_images)) @ weights.T.astype(np.int32)

    rows = table.label[line].astype(np.int64) * count + column
    found = summed(rows, table.image[line], table.n_classes * count).reshape(
        table.n_classes, count, len(weights)
    )
    positives = summed(table.annotation_label[counted], table.annotation_image[counted], table.n_classes)
    recall = np.full(found.shape, np.nan)
    np.divide(found, positives[:, None], out=recall, where=positives[:, None] > 0)
    return recall


def mean(values: Floats) -> float:
    """Mean over what is measurable; NaN when nothing is (never 0, never -1)."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def mean_of_classes(values: Floats) -> Floats:
    """(K, T, R) -> (R,): mean over measurable classes and the thresholds; NaN where nothing is."""
    flat = values.reshape(-1, values.shape[-1])
    present = np.isfinite(flat)
    total = np.where(present, flat, 0).sum(0)
    return np.divide(total, present.sum(0), out=np.full(len(total), np.nan), where=present.any(0))


def twelve_of(table: MatchTable, weights: Ints | Bools) -> dict[str, Floats]:
    """COCO's twelve numbers, (R,) each, for weightings (R, n_images); NaN where not measurable.

    Needs the ten COCO IoUs and all four area ranges.
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
    return {name: result[name] for name in TWELVE}


def twelve(table: MatchTable, images: Bools | None = None) -> dict[str, float]:
    """COCO's twelve numbers for a slice of images, NaN where not measurable."""
    weights = np.ones((1, table.n_images), bool) if images is None else images[None]
    return {name: float(values[0]) for name, values in twelve_of(table, weights).items()}


def headline(table: MatchTable, images: Bools | None = None) -> dict[str, float]:
    """AP, AP50, AP75 and the recall that the lowest confidence reaches at IoU 0.5, for a slice of images."""
    whole, recall = accumulate(table, images=images)
    half = table.bit(0.5)
    return {
        "ap": mean(whole),
        "ap50": mean(whole[:, half]),
        "ap75": mean(whole[:, table.bit(0.75)]),
        "max_recall": mean(recall[:, half]),
    }
