"""Two detectors on the same images: how much one gains, how sure that is, and whether chance would do as much."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diagnostics.intervals import MIN_GROUPS, REPLICATES, Interval, bca, draws, left_out, note_for, too_few
from diagnostics.matching import Annotations, Detections, Floats, Ints, match
from diagnostics.precision import Averager, mean_of_classes

# With g groups there are 2^g ways to swap, and no p can be below 2 / 2^g: five groups cannot reach .05.
MIN_GROUPS_TO_TEST = 6


@dataclass(frozen=True)
class Comparison:
    """AP of both, their difference (first - second) with a 95 % interval, and the p of the swap test; p is None with a reason in note."""

    first: float
    second: float
    difference: float
    interval: Interval
    p: float | None
    note: str = ""


def compare(
    annotations: Annotations,
    first: Detections,
    second: Detections,
    group: Ints,
    *,
    n_classes: int,
    seed: int,
    iou: float | None = 0.5,
    replicates: int | None = None,
) -> Comparison:
    """AP of first minus AP of second on the same images, whose groups are drawn together for both.

    group: (n_images,). The test swaps the two detectors' outputs in random groups: if they were alike, every assignment would be as likely
    as the true one (approximate randomisation, Noreen 1989; the sign-flip test, for a number that is no mean over groups). iou: None for
    the mean over all.
    """
    n_images, replicates = len(group), replicates or REPLICATES
    names, number = np.unique(group, return_inverse=True)
    count = len(names)
    doubled = Annotations(
        np.concatenate([annotations.image, annotations.image + n_images]),
        np.tile(annotations.label, 2),
        np.tile(annotations.xywh, (2, 1)),
        np.tile(annotations.area, 2),
        np.tile(annotations.crowd, 2),
    )
    both = Detections(
        np.concatenate([first.image, second.image + n_images]),
        np.concatenate([first.label, second.label]),
        np.concatenate([first.xywh, second.xywh]),
        np.concatenate([first.confidence, second.confidence]),
    )
    table = match(doubled, both, n_images=2 * n_images, n_classes=n_classes)
    averager = Averager(
        table, ious=None if iou is None else (iou,), unit=np.concatenate([number, number + count])
    )

    def ap(of_first: Ints, of_second: Ints) -> Floats:
        return mean_of_classes(averager(np.concatenate([of_first, of_second], axis=1))[0])

    def difference(weights: Ints) -> Floats:
        nothing = np.zeros_like(weights)
        return ap(weights, nothing) - ap(nothing, weights)

    ones = np.ones((1, count), np.int32)
    point = float(difference(ones)[0])
    values = float(ap(ones, 0 * ones)[0]), float(ap(0 * ones, ones)[0])
    if not np.isfinite(point):
        note = "no comparison: no labelled object"
        return Comparison(*values, point, Interval(None, None, count, note), None, note)
    if count < MIN_GROUPS:
        nothing = too_few(count)
        return Comparison(*values, point, nothing, None, nothing.note)
    rng = np.random.default_rng(seed)
    low, high = bca(
        difference(draws(rng, count, replicates)), point, difference(left_out(count, seed)), count
    )
    interval = Interval(low, high, count, note_for(count))
    if count < MIN_GROUPS_TO_TEST:
        note = f"no test: {count} clips, {MIN_GROUPS_TO_TEST} are needed"
        return Comparison(*values, point, interval, None, note)
    kept = rng.integers(0, 2, (replicates, count)).astype(np.int32)
    swapped = ap(kept, 1 - kept) - ap(1 - kept, kept)
    # The true assignment counts as one of them (Phipson and Smyth 2010); 1e-12 lets ties count.
    p = float((1 + (np.abs(swapped) >= abs(point) - 1e-12).sum()) / (replicates + 1))
    return Comparison(*values, point, interval, p)
