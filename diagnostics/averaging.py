"""Average precision and recall of many weightings of the images at once.

Equal to pycocotools' `COCOeval.accumulate` on a copy of the images for each weighting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from diagnostics.matching import Bools, Floats, Ints, MatchTable

# Numbers in one array, which bound how many weightings are computed at once. Of whole columns: 64 MB of int32.
# Of the largest class: 8 MB, and most classes are smaller. Of single entries: 1 MB of float64, which a
# processor's cache holds. Of recall points, one for each annotation that a weighting counts: 16 MB.
NUMBERS_OF_COLUMNS, NUMBERS_OF_CLASS, NUMBERS_OF_ENTRIES, NUMBERS_OF_POINTS = (
    1 << 24,
    1 << 21,
    1 << 17,
    1 << 21,
)
# Weightings at once: with fewer, calling numpy costs more than the arithmetic; more gain nothing.
FEWEST_AT_ONCE, MOST_AT_ONCE = 8, 1024
# With fewer of the weights above 0, visiting only the images that have one is quicker than whole columns:
# measured on the workloads of `make bench`, where slices of a tenth take a third of the time, and replicates,
# of whose weights 0.63 are above 0, twice as much. Below the 0.32 of a paired comparison, which gives each group
# one of two sides at random, replicate by replicate.
FEW = 0.3
RECALL_POINTS: Floats = np.linspace(0.0, 1.0, 101)
# Points that, computed as k times 0.01, come out a rounding error above k / 100: a recall of exactly k / 100
# does not reach them. This can occur only where the number of annotations is a multiple of this (10).
_HIGH = np.flatnonzero(np.arange(101) / 100 < RECALL_POINTS)
ROUNDED_UP_DIVISOR = int(np.gcd.reduce(100 // np.gcd(_HIGH, 100)))
Int32s = npt.NDArray[np.int32]
Numbers = npt.NDArray[Any]


class Averager:
    """Average precision and recall as a function of how much each image counts, for many weightings at once.

    A slice is a weighting by 0 and 1, a bootstrap replicate one by how often each group is drawn, a jackknife
    one by 0 for one group. Nothing is matched or sorted again: between two matched rows of a class only the
    number of false positives matters, so they are counted in one sparse matrix (matched rows x units), and
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
        unit = np.asarray(np.arange(table.n_images) if unit is None else unit, np.int32)
        self.units = int(unit.max(initial=-1)) + 1
        self.classes = table.n_classes
        self.columns = [table.bit(iou) for iou in (table.ious if ious is None else ious)]
        in_range = (table.in_range >> a) & 1 == 1
        of_unit = unit[table.image]
        # Matched rows that count at one of the thresholds: true positives, and those in range whose match is
        # not ignored.
        chosen = np.uint16(sum(1 << column for column in set(self.columns)))
        true_positive = table.true_positive[:, a]
        counted = np.where(in_range[table.matched], ~table.ignored[:, a], np.uint16(0)) | true_positive
        used = (counted & chosen > 0) & (of_unit[table.matched] >= 0)
        matched = table.matched[used]
        self._unit = of_unit[matched]
        self._true_positive, self._counted = true_positive[used], counted[used]
        self._label = table.label[matched].astype(np.int32)
        self._limits = np.searchsorted(self._label, np.arange(table.n_classes + 1)).astype(np.int32)
        self._false = self._false_positives(table, in_range & (of_unit >= 0), of_unit, matched)
        self._steps_cache: dict[tuple[int, int], _Steps] = {}
        annotations = np.flatnonzero(~table.annotation_ignored[:, a] & (unit[table.annotation_image] >= 0))
        self._positives = csr_array(
            (
                np.ones(len(annotations), np.int32),
                (table.annotation_label[annotations], unit[table.annotation_image[annotations]]),
            ),
            shape=(table.n_classes, self.units),
        )

    def _false_positives(
        self, table: MatchTable, in_range: Bools, of_unit: Ints, matched: Int32s
    ) -> csr_array:
        """How many rows of each unit lie between each matched row and the one before, (matched, units).

        in_range: rows of the table that are in range and in a unit, (n,); those that match nothing are false
            positives.
        of_unit: of each row of the table. matched: rows that count.
        """
        is_false = in_range.copy()
        is_false[table.matched] = False
        false = np.flatnonzero(is_false)
        is_matched = np.zeros(len(table.row), np.int32)
        is_matched[matched] = 1
        following = np.cumsum(is_matched, dtype=np.int32)[false]
        # False positives after the last matched row of their class change nothing.
        before = following < self._limits[1:][table.label[false]]
        unit = of_unit[false[before]]
        limits = np.zeros(len(matched) + 1, np.int32)
        np.cumsum(np.bincount(following[before], minlength=len(matched)), out=limits[1:])
        counts = csr_array(
            (np.ones(len(unit), np.int32), unit, limits), shape=(len(matched), self.units), dtype=np.int32
        )
        if self.units < table.n_images:
            # A group has several between two matched rows, an image hardly ever.
            counts.sum_duplicates()
        return counts

    def __call__(self, weights: Ints | Bools, *, single: bool = False) -> tuple[Floats, Floats]:
        """Average precision and final recall of each weighting.

        Parameters
        ----------
        weights
            Whole numbers of 0 or more, (R, units).
        single
            Compute in single precision, which is faster and right to the width of a recall point (some 1e-4).
            Without effect where few weights are above 0, which is right to 3e-11; everything else is right to
            1e-12, and the same to the last bit whichever weightings are computed together.

        Returns
        -------
        tuple
            Average precision and recall, (K, T, R) each; NaN for a class without an annotation.
        """
        shape = (self.classes, len(self.columns), len(weights))
        average, recall = np.zeros(shape), np.zeros(shape)
        share = np.count_nonzero(weights) / max(weights.size, 1)
        longest = self.units
        if share >= FEW:
            at_once = NUMBERS_OF_CLASS // max(int(np.diff(self._limits).max(initial=0)), 1)
        else:
            at_once = int(NUMBERS_OF_ENTRIES / max(share * len(self._unit), 1))
            longest = max(self.units, len(self._unit))
        at_once = min(at_once, NUMBERS_OF_COLUMNS // max(longest, 1))
        at_once = min(max(at_once, FEWEST_AT_ONCE), MOST_AT_ONCE)
        for begin in range(0, len(weights), at_once):
            part = slice(begin, begin + at_once)
            columns = np.ascontiguousarray(weights[part].T, np.int32)
            positives = self._positives @ columns
            if share >= FEW or positives.sum(dtype=float) > NUMBERS_OF_POINTS:
                self._fill(columns, positives, average[..., part], recall[..., part], single)
            else:
                self._fill_few(columns, positives, average[..., part], recall[..., part])
            for results in (average, recall):
                results[..., part].transpose(0, 2, 1)[positives == 0] = np.nan
        return average, recall

    def _fill(
        self, weights: Int32s, positives: Int32s, average: Floats, recall: Floats, single: bool
    ) -> None:
        """Write the results of some weightings into average and recall, class by class.

        weights: (units, R). positives: weight of the annotations, (K, R).
        """
        # Whole numbers are exact in single precision up to 2^24, and are divided in it without a conversion.
        kind = np.float32 if single else np.int32
        drawn, false = weights.astype(kind), self._false.astype(kind)
        counts_first = ((self._counted >> self.columns[0]) & 1).astype(kind)[:, None]
        for label in np.flatnonzero(np.diff(self._limits)):
            rows = slice(*self._limits[label : label + 2])
            weight = np.take(drawn, self._unit[rows], axis=0)
            detected = false[rows] @ drawn
            detected += weight * counts_first[rows]
            _accumulate(np.add, detected)
            total = np.maximum(positives[label], 1)
            for t, column in enumerate(self.columns):
                steps = self._steps(int(label), column)
                if len(steps.rows):
                    average[label, t], recall[label, t] = _average(weight, detected, steps, total)

    def _steps(self, label: int, column: int) -> _Steps:
        """The true positives of a class at one IoU, computed for the first weighting that needs them."""
        if (label, column) not in self._steps_cache:
            of_class = slice(*self._limits[label : label + 2])
            rows = np.flatnonzero((self._true_positive[of_class] >> column) & 1)
            counted, first = ((self._counted[of_class] >> c) & 1 == 1 for c in (column, self.columns[0]))
            changed = np.flatnonzero(counted != first)
            sign = np.where(counted[changed], 1, -1).astype(np.int8)
            self._steps_cache[label, column] = _Steps(
                rows, changed, sign, np.searchsorted(changed, rows, "right")
            )
        return self._steps_cache[label, column]

    def _fill_few(self, weights: Int32s, positives: Int32s, average: Floats, recall: Floats) -> None:
        """The same as `_fill`, visiting only matched rows with a weight, of all classes together."""
        runs = self._runs(weights, positives)
        if runs is None:
            return
        # The recall points that 1, 2, ... true positives reach, one run's annotations after the other's.
        begin = np.cumsum(runs.total) - runs.total
        found = np.arange(1, runs.total.sum() + 1) - np.repeat(begin, runs.total)
        reached = points_reached(found, np.repeat(runs.total, runs.total))
        true_positive, counted = self._true_positive[runs.row], self._counted[runs.row]
        for t, column in enumerate(self.columns):
            bit = np.uint16(1 << column)
            some, points, share = _average_runs(
                runs, true_positive & bit > 0, counted & bit > 0, reached, begin
            )
            where = runs.label[some], t, runs.weighting[some]
            average[where], recall[where] = points, share

    def _runs(self, weights: Int32s, positives: Int32s) -> _Runs | None:
        """The matched rows with a weight, (weighting, row) by (weighting, row); None where there are none."""
        weight = np.ascontiguousarray(np.take(weights, self._unit, axis=0).T)
        flat = np.flatnonzero(weight != 0)
        if not len(flat):
            return None
        weighting, row = np.divmod(flat.astype(np.int32), np.int32(len(self._unit)))
        run = weighting * np.int32(self.classes) + self._label[row]
        first = np.flatnonzero(np.append(True, run[1:] != run[:-1]))
        weighting, label = weighting[first], self._label[row[first]]
        before = np.cumsum((self._false @ weights).T, axis=1, dtype=np.int32)
        begin = self._limits[label]
        of_other_classes = np.where(begin > 0, before[weighting, begin - 1], 0).astype(np.int32)
        return _Runs(
            row=row,
            weight=weight.reshape(-1)[flat],
            false=before.reshape(-1)[flat] - np.repeat(of_other_classes, np.diff(first, append=len(flat))),
            first=first,
            weighting=weighting,
            label=label,
            total=positives[label, weighting],
        )


@dataclass(frozen=True)
class _Runs:
    """Matched rows that have a weight; what a weighting has of a class is a run of them.

    row: matched row of each entry, (n,)
    weight: its weight, (n,)
    false: weight of the false positives of its class before it, (n,)
    first: index of each run's first entry, (s,)
    weighting: of each run, (s,)
    label: class of each run, (s,)
    total: weight of its annotations, (s,)
    """

    row: Int32s
    weight: Int32s
    false: Int32s
    first: Ints
    weighting: Int32s
    label: Int32s
    total: Int32s


def _average_runs(
    runs: _Runs, true_positive: Bools, counted: Bools, reached: Floats, begin: Ints
) -> tuple[Ints, Floats, Floats]:
    """The runs that have true positives at one IoU, (r,), and their average precision and recall, (r,) each.

    true_positive, counted: of each entry, (n,). reached: recall points that a number of true positives
    reaches, those of 1 in a run at its begin, (s,).
    """
    true = np.flatnonzero(true_positive)
    first = np.searchsorted(true, runs.first)
    length = np.diff(first, append=len(true))
    some = np.flatnonzero(length)
    if not len(some):
        return some, np.zeros(0), np.zeros(0)
    first, length = first[some], length[some]
    shown = np.cumsum(np.where(counted, runs.weight, 0), dtype=np.int32)
    start = runs.first[some]
    before = np.where(start > 0, shown[start - 1], 0).astype(np.int32)
    shown += runs.false
    detected = shown[true] - np.repeat(before, length)
    found = np.cumsum(runs.weight[true], dtype=np.int32)
    before = np.where(first > 0, found[first - 1], 0).astype(np.int32)
    found -= np.repeat(before, length)
    precision = found / detected
    # The envelope of all runs in one pass: each lies 2 above the next, which its own never reaches.
    lift = np.repeat(np.arange(2.0 * len(some), 0.0, -2.0), length)
    precision += lift
    np.maximum.accumulate(precision[::-1], out=precision[::-1])
    precision -= lift
    last = found[first + length - 1]
    points = reached[found + np.repeat((begin[some] - 1).astype(np.int32), length)]
    newly = np.diff(points, prepend=0.0)
    newly[first] = points[first]
    precision *= newly
    return some, np.add.reduceat(precision, first) / len(RECALL_POINTS), last / runs.total[some]


@dataclass(frozen=True)
class _Steps:
    """Matched rows of one class at one IoU.

    rows: the true positives
    changed: rows that count here but not at the first IoU, or the other way round
    sign: 1 for the former, -1 for the latter
    before: how many changed rows come at or before each true positive
    """

    rows: Ints
    changed: Ints
    sign: npt.NDArray[np.int8]
    before: Ints


def _average(weight: Numbers, detected: Numbers, steps: _Steps, total: Int32s) -> tuple[Floats, Floats]:
    """Average precision and final recall, (R,) each.

    weight: (c, R) of matched rows; in single precision where the result is to be. detected: (c, R) weight of
        the detections up to each. steps: with true positives. total: (R,) weight of the annotations.
    """
    true = np.take(weight, steps.rows, axis=0)
    _accumulate(np.add, true)
    counted = np.take(detected, steps.rows, axis=0)
    if len(steps.changed):
        change = np.zeros((len(steps.changed) + 1, weight.shape[1]), weight.dtype)
        np.multiply(np.take(weight, steps.changed, axis=0), steps.sign[:, None], out=change[1:])
        _accumulate(np.add, change[1:])
        counted += np.take(change, steps.before, axis=0)
    np.maximum(counted, 1, out=counted)
    is_single = counted.dtype == np.float32
    precision: Floats = np.divide(true, counted, out=counted if is_single else None)
    _accumulate(np.maximum, precision[::-1])
    recall = true[-1] / total
    reached = (_points_reached_single if is_single else points_reached)(true, total)
    newly = np.empty_like(reached)
    newly[0] = reached[0]
    np.subtract(reached[1:], reached[:-1], out=newly[1:])
    newly *= precision
    return sum_rows(newly) / len(RECALL_POINTS), recall


def sum_rows(array: Floats) -> Floats:
    """Sum of the rows of (c, R) in double precision, (R,), in the same order whatever R is.

    numpy adds a single column in pairs, and the last bit decides whether two replicates tie.
    """
    if array.shape[1] == 1 and len(array):
        return np.add.accumulate(array, axis=0, dtype=float)[-1]
    return array.sum(0, dtype=float)


def _accumulate(operation: np.ufunc, array: Numbers) -> None:
    """`operation.accumulate` along the first axis of (c, R), in place.

    numpy's own waits for each number to be written before it reads it again. Here whole rows are combined:
    within blocks of about the square root of c, all blocks at once, and then each block with the end of the
    one before.
    """
    count = len(array)
    size = max(int(count**0.5), 1)
    whole = count // size * size
    blocks = array[:whole].reshape(-1, size, array.shape[1])
    for row in range(1, size):
        operation(blocks[:, row - 1], blocks[:, row], out=blocks[:, row])
    for number in range(1, len(blocks)):
        operation(blocks[number - 1, -1], blocks[number], out=blocks[number])
    for row in range(whole, count):
        operation(array[row - 1], array[row], out=array[row])


def points_reached(true: Numbers, total: Int32s) -> Floats:
    """How many of the 101 recall points lie at or below true / total, (c, R) and (R,).

    Equal to searchsorted(RECALL_POINTS, true / total, "right"), but several times faster. A recall of exactly
    k hundredths reaches its point k, with the exceptions of ROUNDED_UP_DIVISOR.
    """
    last = len(RECALL_POINTS) - 1
    # Unless total is over 10^8, a recall that is no whole number of hundredths is further than 1e-8 from one.
    reached = true * (last / total)
    reached += 1 + 1e-9
    np.floor(reached, out=reached)
    exceptional = np.flatnonzero(total % ROUNDED_UP_DIVISOR == 0)
    if len(exceptional):
        some = reached[..., exceptional]
        point = RECALL_POINTS[some.astype(np.intp) - 1]
        reached[..., exceptional] = some - (point > true[..., exceptional] / total[exceptional])
    return reached


def _points_reached_single(true: Numbers, total: Int32s) -> Floats:
    """The same in single precision, right for totals up to 10^6; k hundredths always reach their point."""
    scale = ((len(RECALL_POINTS) - 1) / total).astype(np.float32)
    reached: Floats = np.multiply(true, scale, dtype=np.float32)
    reached += np.float32(1 + 2e-5)
    return np.floor(reached, out=reached)
