"""How many labels a score will take: curve families fitted to what a few sizes gave, answered as a range, refused where that would be a guess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, pi

import numpy as np
import pandas as pd
from scipy.optimize import brentq, curve_fit

from diagnostics.matching import Floats
from diagnostics.wording import count

# Each family has up to three parameters, so fewer sizes fit anything.
MIN_SIZES = 4
# Beyond this many times the largest size seen, families part so far that their range says nothing (Mahmood et al. 2022).
FURTHEST = 4.0
# Differences of Akaike's criterion beyond which a model has considerably less support (Burnham and Anderson 2002, section 2.6).
RIVAL = 4.0
# AP50 is not known better than this, however well a curve fits.
PRECISION = 0.002
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
    """How many labels a score of goal will take. sizes, scores: (k,) of trainings, several a size if there were; sizes are labels, scores fractions.

    Sizes count whatever the caller counts, and so does the answer: it holds for labels of the kind that made the sizes grow.

    Families are those of Mahmood et al. 2022 ("How much more data do I need?"), fitted by least squares with bounds that keep them rising and below 1. Nothing
    is promised unless every family reaches the goal within FURTHEST times the largest size.
    """
    keep = sizes > 0
    sizes, scores = sizes[keep].astype(float), scores[keep].astype(float)
    distinct = np.unique(sizes)
    if len(distinct) < MIN_SIZES:
        return Forecast(goal, None, None, note=f"{count(len(distinct), 'size')}, {MIN_SIZES} are needed")
    largest = float(distinct[-1])
    by_size = np.array([scores[sizes == size].mean() for size in distinct])
    if by_size[-1] >= goal:
        needed = ceil(float(distinct[np.argmax(by_size >= goal)]))
        return Forecast(goal, needed, needed, reached=True)
    fits = [
        fitted
        for family in FAMILIES
        if (fitted := _needed_by(family, sizes / largest, scores, goal)) is not None
    ]
    if not fits:
        return Forecast(goal, None, None, note="no curve could be fitted to these sizes")
    # Curves that fit much worse than the best are no rivals of it.
    found = [share for share, cost in fits if cost <= min(cost for _, cost in fits) + RIVAL]
    within = [share for share in found if share <= FURTHEST]
    further = int(FURTHEST * largest)
    if not within:
        return Forecast(
            goal,
            None,
            None,
            note=f"more than {further:,} by every curve: too far to tell from {ceil(largest):,}; label up to {2 * ceil(largest):,}, and ask again",
        )
    if len(within) < len(found):
        return Forecast(
            goal,
            None,
            None,
            note=f"curves that fit alike do not agree whether it is ever reached; label up to {2 * ceil(largest):,}, and ask again",
        )
    return Forecast(goal, ceil(min(within) * largest), ceil(max(within) * largest))


def curves(sizes: Floats, scores: Floats) -> pd.DataFrame:
    """The curves that `forecast` asks, to be drawn: family, labels, score, from the smallest size to FURTHEST times the largest; of those that fit alike. Empty below MIN_SIZES."""
    keep = sizes > 0
    sizes, scores = sizes[keep].astype(float), scores[keep].astype(float)
    if len(np.unique(sizes)) < MIN_SIZES:
        return pd.DataFrame(columns=["family", "labels", "score"])
    largest = float(sizes.max())
    fits = {family: found for family in FAMILIES if (found := fit(family, sizes / largest, scores))}
    lowest = min((cost for _, cost in fits.values()), default=0.0)
    shares = np.geomspace(sizes.min() / largest, FURTHEST, 100)
    drawn = [
        pd.DataFrame(
            {"family": family, "labels": shares * largest, "score": FAMILIES[family][0](shares, *parameters)}
        )
        for family, (parameters, cost) in fits.items()
        if cost <= lowest + RIVAL
    ]
    return pd.concat(drawn, ignore_index=True) if drawn else curves(sizes[:0], scores[:0])


def fit(family: str, sizes: Floats, scores: Floats) -> tuple[Floats, float] | None:
    """A family's parameters fitted to sizes (in units of the largest) and scores, and its Akaike information criterion; None where it cannot be fitted."""
    curve, low, high = FAMILIES[family]
    start = [min(max((a + b) / 2, 0.1), 1.0) for a, b in zip(low, high, strict=True)]
    try:
        parameters, _ = curve_fit(curve, sizes, scores, p0=start, bounds=(low, high), maxfev=5000)
    except RuntimeError:
        return None
    off = max(float(((curve(sizes, *parameters) - scores) ** 2).mean()), PRECISION**2)
    return np.asarray(parameters, float), len(sizes) * float(np.log(off)) + 2 * len(low)


def _needed_by(family: str, sizes: Floats, scores: Floats, goal: float) -> tuple[float, float] | None:
    """Where a family fitted to sizes (in units of the largest) and scores reaches the goal, infinity where it never does, and its Akaike information
    criterion; None where it cannot be fitted.
    """
    fitted = fit(family, sizes, scores)
    if fitted is None:
        return None
    (parameters, cost), curve = fitted, FAMILIES[family][0]
    # More than was tried, or no forecast was needed.
    start_at, end = 1.0, 100 * FURTHEST
    if curve(np.array(start_at), *parameters) >= goal:
        return start_at, cost
    if curve(np.array(end), *parameters) < goal:
        return float("inf"), cost
    return float(brentq(lambda n: curve(np.array(n), *parameters) - goal, start_at, end)), cost
