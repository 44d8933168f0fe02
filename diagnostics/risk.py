"""A confidence threshold with a promise: conformal risk control of the share of objects missed, with clips as units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diagnostics.matching import Floats, Ints, MatchTable
from diagnostics.sweep import GRID
from diagnostics.wording import fraction, percent

# Shares of missed objects that one may ask to stay below.
RISKS = (0.1, 0.2, 0.3)


@dataclass(frozen=True)
class RiskControl:
    """The highest threshold at which at most `risk` of a new clip's objects are missed, on average; None, and why, where there is none.

    missed: mean share missed at that threshold, or at the lowest one where none serves. groups: clips with objects.
    """

    risk: float
    confidence: float | None
    missed: float | None
    groups: int
    note: str


def control(table: MatchTable, group: Ints, risks: Sequence[float] = RISKS) -> list[RiskControl]:
    """Conformal risk control (Angelopoulos et al. 2022): the largest t with n / (n + 1) * mean missed(t) + 1 / (n + 1) <= risk.

    The mean runs over n clips with objects, missed(t) is a clip's share of objects without a hit at or above t, which only grows with t. It
    promises mean missed <= risk for clips of the same kind: nothing carries over to another domain. group: (n_images,).
    """
    missed = _missed_by_group(table, np.unique(group, return_inverse=True)[1])
    return [_promise(missed, risk) for risk in risks]


def _promise(missed: Floats, risk: float) -> RiskControl:
    """One threshold. missed: (n, B) share missed by each clip at each threshold of GRID."""
    n = len(missed)
    if n < 1 / risk - 1 - 1e-9:
        needed = int(np.ceil(1 / risk - 1 - 1e-9))
        return RiskControl(
            risk, None, None, n, f"not attainable from {n} clips with objects: {needed} are needed"
        )
    bound = n / (n + 1) * missed.mean(0) + 1 / (n + 1)
    fits = np.flatnonzero(bound <= risk + 1e-12)
    lowest = float(missed[:, 0].mean())
    if not len(fits):
        floor = fraction(float(GRID[0]))
        note = f"infeasible: even at {floor} {percent(lowest)} of a clip's objects are missed"
        return RiskControl(risk, None, lowest, n, note)
    return RiskControl(risk, float(GRID[fits[-1]]), float(missed[:, fits[-1]].mean()), n, "")


def _missed_by_group(table: MatchTable, number: Ints) -> Floats:
    """Share of missed objects of each group with objects at each threshold of GRID: (n, B), rising."""
    true_positive, _ = table.flags(0.5)
    groups, steps = int(number.max(initial=-1)) + 1, len(GRID)
    step = np.searchsorted(GRID, table.confidence, "right") - 1
    lines = true_positive & (step >= 0)
    found = np.bincount(number[table.image[lines]] * steps + step[lines], minlength=groups * steps)
    above = np.cumsum(found.reshape(groups, steps)[:, ::-1], axis=1)[:, ::-1]
    counted = ~table.annotation_ignored[:, table.areas.index("all")]
    annotations = np.bincount(number[table.annotation_image[counted]], minlength=groups)
    return np.asarray(1 - above[annotations > 0] / annotations[annotations > 0, None])
