"""How many labels an AP50 takes: curves fitted to a few training sizes give a range, or no answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, pi

import numpy as np
import pandas as pd
from scipy.optimize import brentq, curve_fit

from diagnostics.matching import Floats
from diagnostics.wording import count

# Each family has up to three parameters, so any family fits fewer sizes.
MIN_SIZES = 4
# Beyond this many times the largest measured size, the families differ too much to be of use (Mahmood et al.
# 2022).
MAX_EXTRAPOLATION = 4.0
# Differences of Akaike's criterion beyond which a model has considerably less support (Burnham and Anderson
# 2002, section 2.6).
MAX_AIC_DIFFERENCE = 4.0
# AP50 is not measured more precisely than this, however well a curve fits.
PRECISION = 0.002
Curve = Callable[..., Floats]
# Name -> curve, lower and upper bounds of its parameters. n is in units of the largest measured size, so that
# the bounds mean the same for every data set.
FAMILIES: dict[str, tuple[Curve, tuple[float, ...], tuple[float, ...]]] = {
    "power law": (lambda n, a, b, c: a - b * n**-c, (0, 0, 0.05), (1, 2, 2)),
    "logarithm": (lambda n, a, b: a + b * np.log(n), (0, 0), (1, 0.5)),
    "arc tangent": (lambda n, a, b, c: c + a * 2 / pi * np.arctan(b * n), (0, 0.01, 0), (1, 100, 1)),
    "algebraic root": (lambda n, a, b, c: c + a * n / (1 + (b * n) ** 2) ** 0.5, (0, 0.01, 0), (100, 100, 1)),
}


@dataclass(frozen=True)
class Forecast:
    """How many labels a goal takes.

    goal: AP50 to reach, a fraction
    low, high: number of labels by the most and the least optimistic family; None where note gives the reason
    reached: whether a measured size reaches the goal already
    note: why there is no range; empty otherwise
    """

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
    """Estimate how many labels an AP50 takes, for more labels of the kind that the sizes already differ by.

    The families are those of Mahmood et al. 2022 ("How much more data do I need?"), fitted by least squares
    with bounds that keep them rising and below 1. There is no range unless every family that fits well
    reaches the goal within MAX_EXTRAPOLATION times the largest size.

    Parameters
    ----------
    sizes
        Number of labels of each training; a size may occur several times, (k,).
    scores
        AP50 of each training, a fraction, (k,).
    goal
        AP50 to reach, a fraction.

    Returns
    -------
    Forecast
    """
    sizes, scores = _positive(sizes, scores)
    distinct = np.unique(sizes)
    if len(distinct) < MIN_SIZES:
        return _refusal(goal, f"{count(len(distinct), 'size')}, {MIN_SIZES} are needed")
    largest = float(distinct[-1])
    by_size = np.array([scores[sizes == size].mean() for size in distinct])
    if by_size[-1] >= goal:
        needed = ceil(float(distinct[np.argmax(by_size >= goal)]))
        return Forecast(goal, needed, needed, reached=True)
    fits = [
        fit
        for family in FAMILIES
        if (fit := _size_at_goal(family, sizes / largest, scores, goal)) is not None
    ]
    if not fits:
        return _refusal(goal, "no curve can be fitted to these sizes")
    # Curves that fit much worse than the best are left out.
    lowest = min(criterion for _, criterion in fits)
    shares = [share for share, criterion in fits if criterion <= lowest + MAX_AIC_DIFFERENCE]
    within = [share for share in shares if share <= MAX_EXTRAPOLATION]
    advice = f"label up to {2 * ceil(largest):,} and forecast again"
    if not within:
        beyond = f"more than {int(MAX_EXTRAPOLATION * largest):,} by every curve"
        return _refusal(goal, f"{beyond}, which is too far from {ceil(largest):,} to estimate; {advice}")
    if len(within) < len(shares):
        return _refusal(
            goal, f"curves that fit equally well disagree on whether it is ever reached; {advice}"
        )
    return Forecast(goal, ceil(min(within) * largest), ceil(max(within) * largest))


def _refusal(goal: float, note: str) -> Forecast:
    """A forecast without a range."""
    return Forecast(goal, None, None, note=note)


def _positive(sizes: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """The trainings with any labels: no family is defined at size 0."""
    positive = sizes > 0
    return sizes[positive].astype(float), scores[positive].astype(float)


def fit_curves(sizes: Floats, scores: Floats) -> pd.DataFrame:
    """Fit the curves that `forecast` uses, as points to draw.

    Parameters
    ----------
    sizes, scores
        As of `forecast`, (k,).

    Returns
    -------
    DataFrame
        family, labels, score, from the smallest size to MAX_EXTRAPOLATION times the largest, of the families
        that fit well. Empty below MIN_SIZES sizes.
    """
    sizes, scores = _positive(sizes, scores)
    none = pd.DataFrame(columns=["family", "labels", "score"])
    if len(np.unique(sizes)) < MIN_SIZES:
        return none
    largest = float(sizes.max())
    fits = {family: fit for family in FAMILIES if (fit := _fit_family(family, sizes / largest, scores))}
    lowest = min((criterion for _, criterion in fits.values()), default=0.0)
    shares = np.geomspace(sizes.min() / largest, MAX_EXTRAPOLATION, 100)
    curves = [
        pd.DataFrame(
            {"family": family, "labels": shares * largest, "score": FAMILIES[family][0](shares, *parameters)}
        )
        for family, (parameters, criterion) in fits.items()
        if criterion <= lowest + MAX_AIC_DIFFERENCE
    ]
    return pd.concat(curves, ignore_index=True) if curves else none


def _fit_family(family: str, sizes: Floats, scores: Floats) -> tuple[Floats, float] | None:
    """A family's fitted parameters and its Akaike information criterion; None where it cannot be fitted.

    sizes: in units of the largest.
    """
    curve, low, high = FAMILIES[family]
    start = [min(max((a + b) / 2, 0.1), 1.0) for a, b in zip(low, high, strict=True)]
    try:
        parameters, _ = curve_fit(curve, sizes, scores, p0=start, bounds=(low, high), maxfev=5000)
    except RuntimeError:
        return None
    error = max(float(((curve(sizes, *parameters) - scores) ** 2).mean()), PRECISION**2)
    return np.asarray(parameters, float), len(sizes) * float(np.log(error)) + 2 * len(low)


def _size_at_goal(family: str, sizes: Floats, scores: Floats, goal: float) -> tuple[float, float] | None:
    """The size at which a fitted family reaches the goal, infinity where it never does, and its criterion.

    None where the family cannot be fitted. Sizes are in units of the largest.
    """
    fit = _fit_family(family, sizes, scores)
    if fit is None:
        return None
    (parameters, criterion), curve = fit, FAMILIES[family][0]
    # The largest measured size does not reach the goal, so the answer lies beyond it.
    smallest, furthest = 1.0, 100 * MAX_EXTRAPOLATION
    if curve(np.array(smallest), *parameters) >= goal:
        return smallest, criterion
    if curve(np.array(furthest), *parameters) < goal:
        return float("inf"), criterion
    return float(brentq(lambda n: curve(np.array(n), *parameters) - goal, smallest, furthest)), criterion
