"""A confidence threshold with a recall guarantee: conformal risk control of the share of missed objects.

The units are clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diagnostics.matching import Floats, Ints, MatchTable
from diagnostics.sweep import GRID
from diagnostics.wording import fraction, percent

# Shares of missed objects for which a threshold is computed.
RISKS = (0.1, 0.2, 0.3)


@dataclass(frozen=True)
class RiskControl:
    """The highest threshold at which at most `risk` of a new clip's objects are missed, on average.

    risk: largest accepted share of missed objects
    confidence: the threshold, None where no threshold meets the risk
    missed: mean share missed at that threshold, or at the lowest one where none meets the risk
    groups: number of clips with objects
    note: why there is no threshold, "" otherwise
    """

    risk: float
    confidence: float | None
    missed: float | None
    groups: int
    note: str


def control(table: MatchTable, group: Ints, risks: Sequence[float] = RISKS) -> list[RiskControl]:
    """Conformal risk control (Angelopoulos et al. 2022).

    The threshold is the largest t with n / (n + 1) * mean missed(t) + 1 / (n + 1) <= risk. The mean runs over
    n clips with objects; missed(t) is the share of a clip's objects without a true positive at or above t,
    which only grows with t. It guarantees mean missed <= risk for clips of the same kind; nothing carries
    over to another domain.

    Parameters
    ----------
    table
        A match table.
    group
        Group number of each image, (n_images,).
    risks
        Largest accepted shares of missed objects.

    Returns
    -------
    list
        One entry per risk.
    """
    missed = _missed_by_group(table, np.unique(group, return_inverse=True)[1])
    return [_highest_threshold(missed, risk) for risk in risks]


def _highest_threshold(missed: Floats, risk: float) -> RiskControl:
    """The threshold of one risk. missed: share missed in each clip at each threshold of GRID, (n, B)."""
    n = len(missed)
    if n < 1 / risk - 1 - 1e-9:
        needed = int(np.ceil(1 / risk - 1 - 1e-9))
        return RiskControl(
            risk, None, None, n, f"not attainable from {n} clips with objects: {needed} are needed"
        )
    bound = n / (n + 1) * missed.mean(0) + 1 / (n + 1)
    within = np.flatnonzero(bound <= risk + 1e-12)
    lowest = float(missed[:, 0].mean())
    if not len(within):
        floor = fraction(float(GRID[0]))
        note = f"infeasible: even at {floor} {percent(lowest)} of a clip's objects are missed"
        return RiskControl(risk, None, lowest, n, note)
    return RiskControl(risk, float(GRID[within[-1]]), float(missed[:, within[-1]].mean()), n, "")


def _missed_by_group(table: MatchTable, number: Ints) -> Floats:
    """Share of missed objects of each group with objects at each threshold of GRID, (n, B), rising."""
    true_positive, _ = table.flags(0.5)
    groups, steps = int(number.max(initial=-1)) + 1, len(GRID)
    step = np.searchsorted(GRID, table.confidence, "right") - 1
    rows = true_positive & (step >= 0)
    by_step = np.bincount(number[table.image[rows]] * steps + step[rows], minlength=groups * steps)
    above = np.cumsum(by_step.reshape(groups, steps)[:, ::-1], axis=1)[:, ::-1]
    counted = ~table.annotation_ignored[:, table.areas.index("all")]
    annotations = np.bincount(number[table.annotation_image[counted]], minlength=groups)
    return np.asarray(1 - above[annotations > 0] / annotations[annotations > 0, None])
