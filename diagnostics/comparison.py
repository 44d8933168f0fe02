"""Two detectors on the same images: the difference of AP50, its interval and a significance test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diagnostics.averaging import Averager
from diagnostics.intervals import (
    MIN_GROUPS,
    REPLICATES,
    Interval,
    bca,
    bootstrap_weights,
    interval_note,
    jackknife_weights,
    no_interval,
)
from diagnostics.matching import Annotations, Detections, Floats, Ints, match
from diagnostics.precision import mean_of_classes

# With g groups there are 2^g ways to swap, and no p is below 2 / 2^g: five groups cannot reach 0.05.
MIN_GROUPS_TO_TEST = 6

# (multiplicities (R, G) of the groups for the first detector, the same for the second) -> AP50, (R,).
PairedAp = Callable[[Ints, Ints], Floats]


@dataclass(frozen=True)
class Comparison:
    """AP50 of two detectors on the same images.

    first, second: AP50 of each
    difference: first - second
    interval: 95 % interval of the difference
    p: p-value of the swap test; None where note gives the reason
    note: why there is no test; empty otherwise
    """

    first: float
    second: float
    difference: float
    interval: Interval
    p: float | None
    note: str = ""


# Seven parameters: truth, two detectors, the clips, and what the arrays do not say.
def compare(
    annotations: Annotations,
    first: Detections,
    second: Detections,
    group: Ints,
    *,
    n_classes: int,
    seed: int,
    replicates: int | None = None,
) -> Comparison:
    """Compare two detectors on the same images, whose groups are drawn together for both.

    Parameters
    ----------
    annotations
        Ground truth of the images.
    first, second
        Output of each detector.
    group
        Group of each image, (n_images,).
    n_classes
        Number of classes.
    seed
        Seed of the bootstrap and of the swaps.
    replicates
        Number of draws and of swaps; `intervals.REPLICATES` by default.

    Returns
    -------
    Comparison
        Without an interval below MIN_GROUPS groups, and without a test below MIN_GROUPS_TO_TEST.
    """
    replicates = replicates or REPLICATES
    names, number = np.unique(group, return_inverse=True)
    count = len(names)
    ap = _paired_ap(annotations, first, second, number, n_classes)

    def difference(weights: Ints) -> Floats:
        zeros = np.zeros_like(weights)
        return ap(weights, zeros) - ap(zeros, weights)

    ones = np.ones((1, count), np.int32)
    point = float(difference(ones)[0])
    values = float(ap(ones, 0 * ones)[0]), float(ap(0 * ones, ones)[0])
    if not np.isfinite(point):
        note = "no comparison: there are no annotations"
        return Comparison(*values, point, Interval(None, None, count, note), None, note)
    if count < MIN_GROUPS:
        interval = no_interval(count)
        return Comparison(*values, point, interval, None, interval.note)
    rng = np.random.default_rng(seed)
    drawn = difference(bootstrap_weights(rng, count, replicates))
    low, high = bca(drawn, point, difference(jackknife_weights(count, seed)), count)
    interval = Interval(low, high, count, interval_note(count))
    if count < MIN_GROUPS_TO_TEST:
        note = f"no test: {count} clips, {MIN_GROUPS_TO_TEST} are needed"
        return Comparison(*values, point, interval, None, note)
    return Comparison(*values, point, interval, _swap_test(ap, point, rng, (replicates, count)))


def _swap_test(ap: PairedAp, point: float, rng: np.random.Generator, shape: tuple[int, int]) -> float:
    """The p-value of a difference among those after random swaps; shape: number of swaps and of groups.

    If the detectors were equal, every assignment of their outputs to the groups would be as likely as the
    true one (approximate randomisation, Noreen 1989; the sign-flip test, for a number that is no mean over
    groups).
    """
    unswapped = rng.integers(0, 2, shape).astype(np.int32)
    swapped = ap(unswapped, 1 - unswapped) - ap(1 - unswapped, unswapped)
    # The true assignment counts as one of them (Phipson and Smyth 2010); 1e-12 lets ties count.
    return float((1 + (np.abs(swapped) >= abs(point) - 1e-12).sum()) / (shape[0] + 1))


def _paired_ap(
    annotations: Annotations, first: Detections, second: Detections, group: Ints, n_classes: int
) -> PairedAp:
    """AP50 as a function of which groups of each detector are drawn, matched once for both.

    Every image stands twice in the table, with the detections of the first and of the second detector. group:
    number of each image's group, from 0.
    """
    n_images, count = len(group), int(group.max(initial=-1)) + 1
    doubled = Annotations(
        np.concatenate([annotations.image, annotations.image + n_images]),
        np.tile(annotations.label, 2),
        np.tile(annotations.xywh, (2, 1)),
        np.tile(annotations.area, 2),
        np.tile(annotations.crowd, 2),
        None if annotations.rotated is None else np.tile(annotations.rotated, (2, 1)),
    )
    both = Detections(
        np.concatenate([first.image, second.image + n_images]),
        np.concatenate([first.label, second.label]),
        np.concatenate([first.xywh, second.xywh]),
        np.concatenate([first.confidence, second.confidence]),
        None
        if first.rotated is None or second.rotated is None
        else np.concatenate([first.rotated, second.rotated]),
    )
    table = match(doubled, both, n_images=2 * n_images, n_classes=n_classes)
    averager = Averager(table, ious=(0.5,), unit=np.concatenate([group, group + count]))

    def ap(of_first: Ints, of_second: Ints) -> Floats:
        return mean_of_classes(averager(np.concatenate([of_first, of_second], axis=1))[0])

    return ap
