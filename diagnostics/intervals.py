"""How sure a number is: cluster bootstrap over groups, because frames of one clip are one observation, not many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import stdtrit

from diagnostics.matching import Bools, Floats, Ints, MatchTable
from diagnostics.precision import Averager, mean_of_classes

REPLICATES = 1000
NORMAL = NormalDist()
LEVEL = 0.95
# Measured coverage of these 95 % intervals on 600 simulated worlds each, at two spreads between clips: 5 groups 0.91 and 0.94, 10 0.94, 20 0.95,
# 40 0.94 and 0.95 (without the expansion in `bca`: 0.84 to 0.87, 0.90, 0.92, 0.93 and 0.95). Three groups cannot be repaired.
MIN_GROUPS = 5
ENOUGH_GROUPS = 10
# The acceleration from 50 blocks has a standard error of sqrt(6 / 50) / (6 * sqrt(50)) = 0.008, which moves an interval's ends by 2 % of its half.
MAX_JACKKNIFE = 50
# Fewer objects than this and one more hit moves recall by over 3 points: no AP is reported.
MIN_BOXES = 30


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, or None and the reason in words."""

    low: float | None
    high: float | None
    groups: int
    note: str = ""


class ApBootstrap:
    """AP as a function of how often each group is drawn, prepared once for many draws.

    table: a match table. group: (n_images,) group number of each image. iou: one threshold, None for the mean over all. images: mask
    of the slice.
    """

    def __init__(
        self,
        table: MatchTable,
        group: Ints,
        *,
        iou: float | None = 0.5,
        area: str = "all",
        images: Bools | None = None,
    ) -> None:
        chosen = np.ones(table.n_images, bool) if images is None else images
        self.groups, number = np.unique(group[chosen], return_inverse=True)
        unit = np.full(table.n_images, -1)
        unit[chosen] = number
        self._averager = Averager(table, area=area, ious=None if iou is None else (iou,), unit=unit)

    def __call__(self, weights: Ints) -> Floats:
        """AP of each replicate, (R,), for group multiplicities (R, G); NaN where no class has an object."""
        return mean_of_classes(self.by_iou(weights))

    def by_iou(self, weights: Ints, *, single: bool = False) -> Floats:
        """AP of each class, IoU and replicate, (K, T, R); single: in single precision, see `precision.Averager`."""
        return self._averager(weights, single=single)[0]


def draws(rng: np.random.Generator, groups: int, replicates: int = REPLICATES) -> Ints:
    """Multiplicities (R, G) of groups drawn with replacement."""
    drawn = rng.integers(0, groups, (replicates, groups)) + groups * np.arange(replicates)[:, None]
    return np.bincount(drawn.reshape(-1), minlength=replicates * groups).reshape(replicates, groups)


def left_out(groups: int, seed: int) -> Ints:
    """Weights of the jackknife, (J, G): each row leaves out one group, or, beyond MAX_JACKKNIFE groups, one of as many random blocks.

    The acceleration of a mean is the same from blocks: their skewness falls as the square root of their size, as their number does.
    """
    blocks = min(groups, MAX_JACKKNIFE)
    member = (
        np.arange(groups) if blocks == groups else np.random.default_rng(seed).permutation(groups) % blocks
    )
    return (member[None, :] != np.arange(blocks)[:, None]).astype(np.int32)


def bca(
    replicates: Floats, point: float, jackknife: Floats, groups: int, level: float = LEVEL
) -> tuple[float, float]:
    """Bias-corrected and accelerated interval (Efron 1987), expanded for few groups (Hesterberg 2015).

    Bootstrapped AP is biased upwards, so plain percentiles are off; and any bootstrap is too narrow by sqrt((g - 1) / g) and as a normal
    distribution is beside Student's, so both are made up for by going further into the tails.
    """
    values = np.sort(replicates[np.isfinite(replicates)])
    if not len(values) or values[0] == values[-1]:
        return point, point
    # Ties count half, so that a discrete distribution is not called biased.
    below = float((values < point).mean() + 0.5 * (values == point).mean())
    z0 = NORMAL.inv_cdf(min(max(below, 0.5 / len(values)), 1 - 0.5 / len(values)))
    centred = np.nanmean(jackknife) - jackknife[np.isfinite(jackknife)]
    spread = (centred**2).sum()
    acceleration = 0.0 if spread == 0 else float((centred**3).sum() / (6 * spread**1.5))
    reach = float(stdtrit(groups - 1, (1 + level) / 2)) * (groups / (groups - 1)) ** 0.5
    shifted = [z0 - reach, z0 + reach]
    adjusted = [NORMAL.cdf(z0 + z / (1 - acceleration * z)) for z in shifted]
    low, high = np.quantile(values, adjusted)
    return float(low), float(high)


def ap_interval(
    table: MatchTable,
    group: Ints,
    *,
    seed: int,
    iou: float | None = 0.5,
    area: str = "all",
    images: Bools | None = None,
    replicates: int = REPLICATES,
) -> Interval:
    """Interval of AP (at one IoU, or over all where iou is None) by clip; None with a reason below MIN_GROUPS."""
    curve = ApBootstrap(table, group, iou=iou, area=area, images=images)
    return _intervals(curve, [slice(None)], seed=seed, replicates=replicates)[0]


def ap_and_ap50_intervals(
    table: MatchTable, group: Ints, *, seed: int, replicates: int = REPLICATES
) -> tuple[Interval, Interval]:
    """Intervals of AP and AP50 from the same draws, for little more than the price of the first."""
    half = table.bit(0.5)
    curve = ApBootstrap(table, group, iou=None)
    whole, at_half = _intervals(curve, [slice(None), slice(half, half + 1)], seed=seed, replicates=replicates)
    return whole, at_half


def _intervals(curve: ApBootstrap, ious: Sequence[slice], *, seed: int, replicates: int) -> list[Interval]:
    """The interval of the mean AP over each selection of the curve's IoUs."""
    count = len(curve.groups)
    if count < MIN_GROUPS:
        return [too_few(count)] * len(ious)
    point = curve.by_iou(np.ones((1, count), np.int32))
    drawn = curve.by_iou(draws(np.random.default_rng(seed), count, replicates), single=True)
    # Ties with the point decide the bias correction, so the point it is compared with is reckoned like the draws.
    alike = curve.by_iou(np.ones((1, count), np.int32), single=True)
    jackknife = curve.by_iou(left_out(count, seed))
    found = []
    for chosen in ious:
        value = float(mean_of_classes(point[:, chosen])[0])
        if not np.isfinite(value):
            found.append(Interval(None, None, count, "no interval: no labelled object"))
            continue
        reference = float(mean_of_classes(alike[:, chosen])[0])
        low, high = bca(
            mean_of_classes(drawn[:, chosen]), reference, mean_of_classes(jackknife[:, chosen]), count
        )
        found.append(Interval(low, high, count, note_for(count)))
    return found


def too_few(groups: int) -> Interval:
    """No interval, and why: fewer than MIN_GROUPS groups."""
    words = "clip" if groups == 1 else "clips"
    note = f"no interval: {groups} independent {words}, {MIN_GROUPS} are needed"
    return Interval(None, None, groups, note)


def note_for(groups: int) -> str:
    """What a reader must know about an interval from this many groups."""
    return "" if groups >= ENOUGH_GROUPS else f"interval from {groups} clips, likely too narrow"


def difference_interval(first: ApBootstrap, second: ApBootstrap, *, seed: int) -> Interval:
    """Interval of AP(first) - AP(second) for two independent domains, whose groups are drawn apart."""
    fewest = min(len(first.groups), len(second.groups))
    if fewest < MIN_GROUPS:
        return Interval(
            None,
            None,
            fewest,
            f"no interval: the smaller domain has {fewest} independent clips, {MIN_GROUPS} are needed",
        )
    rng = np.random.default_rng(seed)
    counts = len(first.groups), len(second.groups)
    points = [
        float(side(np.ones((1, n), np.int32))[0]) for side, n in zip((first, second), counts, strict=True)
    ]
    deltas = first(draws(rng, counts[0])) - second(draws(rng, counts[1]))
    # What leaving out one group does: a small side's groups weigh more, and so does their skewness.
    change = [
        side(left_out(n, seed)) - value
        for side, value, n in zip((first, second), points, counts, strict=True)
    ]
    difference = points[0] - points[1]
    low, high = bca(deltas, difference, np.concatenate([change[0], -change[1]]), fewest)
    return Interval(low, high, fewest, note_for(fewest))


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson interval of a proportion (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    z = NORMAL.inv_cdf((1 + LEVEL) / 2)
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
