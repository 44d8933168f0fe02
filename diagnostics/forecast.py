"""How many labels a score will take: curve families fitted to what a few sizes gave, answered as a range, refused where that would be a guess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, pi

import numpy as np
from scipy.optimize import brentq, curve_fit

from diagnostics.matching import Floats

# Each family has up to three parameters, so fewer sizes fit anything.
MIN_SIZES = 4
# Beyond this many times the largest size seen, families part so far that their range says nothing (Mahmood et al. 2022).
FURTHEST = 4.0
# name -> (curve, lower bounds, upper bounds); n is in units of the largest size seen, so bounds mean the same everywhere.
Curve = Callable[..., Floats]
FAMILIES: dict[str, tuple[Curve, tuple[float, ...], tuple[float, ...]]] = {
    "power law": (lambda n, a, b, c: a - b * n**-c, (0, 0, 0.05), (1, 2, 2)),
    "logarithm": (lambda n, a, b: a + b * np.log(n), (0, 0), (1, 0.5)),
    "arc tangent": (lambda n, a, b, c: c + a * 2 / pi * np.arctan(b * n), (0, 0.01, 0), (1, 100, 1)),
    "algebraic root": (lambda n, a, b, c: c + a * n / (1 + (b * n) ** 2) ** 0.5, (0, 0.01, 0), (100, 100, 1)),
}


@dataclass(frozen=True)
class Forecast:
    """low, high: labels that a goal takes by the most and least hopeful family; None with a reason in note. reached: the goal stands in the curve already."""

    goal: float
    low: int | None
    high: int | None
    reached: bool = False
    note: str = ""

    @property
    def middle(self) -> float | None:
        """Geometric mean of the range."""
        return None if self.low is None or self.high is None else float(np.sqrt(self.low * self.high))


def forecast(sizes: Floats, scores: Floats, goal: float) -> Forecast:
    """How many labels a score of goal will take. sizes, scores: (k,) of trainings, several a size if there were; scores are fractions.

    Families are those of Mahmood et al. 2022 ("How much more data do I need?"), fitted by least squares with bounds that keep them rising and below 1. Only
    the families that reach the goal within FURTHEST times the largest size count; where one of them does not, the range is open and nothing is promised.
    """
    keep = sizes > 0
    sizes, scores = sizes[keep].astype(float), scores[keep].astype(float)
    distinct = np.unique(sizes)
    if len(distinct) < MIN_SIZES:
        return Forecast(goal, None, None, note=f"{len(distinct)} sizes, {MIN_SIZES} are needed")
    largest = float(distinct[-1])
    by_size = np.array([scores[sizes == size].mean() for size in distinct])
    if by_size[-1] >= goal:
        needed = ceil(float(distinct[np.argmax(by_size >= goal)]))
        return Forecast(goal, needed, needed, reached=True)
    found = [needed_by(family, sizes / largest, scores, goal) for family in FAMILIES]
    if all(share is None for share in found):
        return Forecast(goal, None, None, note="no curve could be fitted to these sizes")
    within = [share for share in found if share is not None and share <= FURTHEST]
    further = int(FURTHEST * largest)
    if not within:
        return Forecast(
            goal,
            None,
            None,
            note=f"more than {further:,} by every curve: too far to tell from {ceil(largest):,}; label up to {2 * ceil(largest):,}, and ask again",
        )
    low = ceil(min(within) * largest)
    if len(within) < sum(share is not None for share in found) or None in found:
        return Forecast(
            goal,
            low,
            None,
            note=f"at least {low:,}; some curves level off before, so no upper end: label up to {2 * ceil(largest):,}, and ask again",
        )
    return Forecast(goal, low, ceil(max(within) * largest))


def needed_by(family: str, sizes: Floats, scores: Floats, goal: float) -> float | None:
    """Where a family fitted to sizes (in units of the largest) and scores reaches the goal; infinity where it never does, None where it cannot be fitted."""
    curve, low, high = FAMILIES[family]
    start = [min(max((a + b) / 2, 0.1), 1.0) for a, b in zip(low, high, strict=True)]
    try:
        parameters, _ = curve_fit(curve, sizes, scores, p0=start, bounds=(low, high), maxfev=5000)
    except RuntimeError:
        return None
    # More than was tried, or no forecast was needed.
    start_at, end = 1.0, 100 * FURTHEST
    if curve(np.array(start_at), *parameters) >= goal:
        return start_at
    if curve(np.array(end), *parameters) < goal:
        return float("inf")
    return float(brentq(lambda n: curve(np.array(n), *parameters) - goal, start_at, end))
