"""How sure a number is: cluster bootstrap over groups, because frames of one clip are one observation, not many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from diagnostics.matching import Bools, Floats, Ints, MatchTable
from diagnostics.precision import RECALL_POINTS, bits_of

REPLICATES = 1000
LEVEL = 0.95
# Below five groups a bootstrap interval covers about three times in four what it claims to; from five to nine it is still too narrow
# (coverage of 95 % intervals by simulation: 3 groups .72, 5 .77, 10 .90, 20 .93).
MIN_GROUPS = 5
ENOUGH_GROUPS = 10
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

    table: a match table. group: (n_images,) group number of each picture. iou: one threshold, None for the mean over all. images: mask
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
        a = table.areas.index(area)
        columns = range(len(table.ious)) if iou is None else [table.bit(iou)]
        chosen = np.ones(table.n_images, bool) if images is None else images
        self.groups, number = np.unique(group[chosen], return_inverse=True)
        of_image = np.full(table.n_images, -1)
        of_image[chosen] = number
        self._parts: list[tuple[Ints, Floats, Floats]] = []
        counted = ~table.object_ignored[:, a] & chosen[table.object_image]
        for label in np.unique(table.object_label[counted]):
            mine = counted & (table.object_label == label)
            positives = np.bincount(of_image[table.object_image[mine]], minlength=len(self.groups)).astype(
                float
            )
            lines = chosen[table.image] & (table.label == label)
            hits, skipped = (
                bits_of(table.hit[lines, a], len(table.ious)),
                bits_of(table.ignored[lines, a], len(table.ious)),
            )
            owners = of_image[table.image[lines]]
            self._parts += [(*self._prepare(hits[:, c], ~skipped[:, c], owners), positives) for c in columns]

    def _prepare(self, hit: Bools, kept: Bools, owner: Ints) -> tuple[Ints, Floats]:
        """Group of each true positive, and how many false ones of each group (G, T) come between it and the one before."""
        hit, owner = hit[kept], owner[kept]
        segment: Ints = np.cumsum(hit) - hit
        trues = int(hit.sum())
        between = np.zeros((len(self.groups), trues + 1))
        np.add.at(between, (owner[~hit], segment[~hit]), 1.0)
        return owner[hit].astype(np.int64), between[:, :trues]

    def __call__(self, weights: Floats) -> Floats:
        """AP of each replicate, (R,), for group multiplicities (R, G); NaN where no class has an object."""
        averages = [self._average(weights, *part) for part in self._parts]
        if not averages:
            return np.full(len(weights), np.nan)
        stacked = np.stack(averages)
        present = np.isfinite(stacked)
        total = np.where(present, stacked, 0).sum(0)
        return np.divide(total, present.sum(0), out=np.full(len(weights), np.nan), where=present.any(0))

    @staticmethod
    def _average(weights: Floats, owner: Ints, between: Floats, positives: Floats) -> Floats:
        total = weights @ positives
        if not len(owner):
            return np.where(total > 0, 0.0, np.nan)
        true = np.cumsum(weights[:, owner], axis=1)
        false = np.cumsum(weights @ between, axis=1)
        precision = np.divide(true, true + false, out=np.zeros_like(true), where=true + false > 0)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        result = np.full(len(weights), np.nan)
        for r in np.flatnonzero(total > 0):
            place = np.searchsorted(true[r] / total[r], RECALL_POINTS, side="left")
            result[r] = envelope[r, place[place < envelope.shape[1]]].sum() / len(RECALL_POINTS)
        return result


def draws(rng: np.random.Generator, groups: int, replicates: int = REPLICATES) -> Floats:
    """Multiplicities (R, G) of groups drawn with replacement."""
    return rng.multinomial(groups, np.full(groups, 1 / groups), size=replicates).astype(float)


def bca(replicates: Floats, point: float, jackknife: Floats, level: float = LEVEL) -> tuple[float, float]:
    """Bias-corrected and accelerated interval (Efron 1987). Bootstrapped AP is biased upwards, so plain percentiles are off."""
    values = np.sort(replicates[np.isfinite(replicates)])
    if not len(values) or values[0] == values[-1]:
        return point, point
    # Ties count half, so that a discrete distribution is not called biased.
    below = (values < point).mean() + 0.5 * (values == point).mean()
    z0 = norm.ppf(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values)))
    centred = np.nanmean(jackknife) - jackknife[np.isfinite(jackknife)]
    spread = (centred**2).sum()
    acceleration = 0.0 if spread == 0 else float((centred**3).sum() / (6 * spread**1.5))
    tails = norm.ppf([(1 - level) / 2, (1 + level) / 2])
    adjusted = norm.cdf(z0 + (z0 + tails) / (1 - acceleration * (z0 + tails)))
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
    count = len(curve.groups)
    if count < MIN_GROUPS:
        return Interval(
            None,
            None,
            count,
            f"no interval: {count} independent {'clip' if count == 1 else 'clips'}, {MIN_GROUPS} are needed",
        )
    point = float(curve(np.ones((1, count)))[0])
    if not np.isfinite(point):
        return Interval(None, None, count, "no interval: no labelled object")
    low, high = bca(
        curve(draws(np.random.default_rng(seed), count, replicates)), point, curve(1 - np.eye(count))
    )
    return Interval(low, high, count, note_for(count))


def note_for(groups: int) -> str:
    """What a reader must know about an interval from this many groups."""
    return "" if groups >= ENOUGH_GROUPS else f"interval from {groups} clips, likely too narrow"


def difference_interval(first: ApBootstrap, second: ApBootstrap, *, seed: int) -> Interval:
    """Interval of AP(first) - AP(second) for two independent domains: basic bootstrap, 2 * point - quantiles."""
    fewest = min(len(first.groups), len(second.groups))
    if fewest < MIN_GROUPS:
        return Interval(
            None,
            None,
            fewest,
            f"no interval: the smaller domain has {fewest} independent clips, {MIN_GROUPS} are needed",
        )
    rng = np.random.default_rng(seed)
    point = float(first(np.ones((1, len(first.groups))))[0] - second(np.ones((1, len(second.groups))))[0])
    deltas = first(draws(rng, len(first.groups))) - second(draws(rng, len(second.groups)))
    low, high = np.nanquantile(deltas, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(2 * point - float(high), 2 * point - float(low), fewest, note_for(fewest))


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson interval of a proportion (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    z = float(norm.ppf((1 + LEVEL) / 2))
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
