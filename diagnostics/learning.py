"""How the run learned: is it still rising, and has the validation loss turned up?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import theilslopes

# The slope is read over the last 30 % of epochs, at least this many, so that it is of the end and not of the start.
TAIL_SHARE = 0.3
MIN_TAIL = 4
# How far ahead a projection is worth anything.
AHEAD = 10
# The lowest validation loss before this share of the epochs means the rest was overfitting.
EARLY = 0.7


@dataclass(frozen=True)
class Learning:
    """epochs: in the history. slope: of AP50 per epoch over the tail (Theil-Sen), with its interval. gain: projected by AHEAD more epochs
    at that slope, an upper bound because curves flatten. best_loss_epoch: of the lowest validation loss, as a share of all epochs.

    Fields are None where the history is too short or lacks the column.
    """

    epochs: int
    last_ap50: float | None
    slope: float | None = None
    slope_low: float | None = None
    slope_high: float | None = None
    best_loss_epoch: float | None = None
    loss_rise: float | None = None

    @property
    def gain(self) -> float | None:
        """AP50 that AHEAD more epochs would add if the tail went on as a straight line."""
        return None if self.slope is None else max(0.0, AHEAD * self.slope)


def read_curve(history: pd.DataFrame) -> Learning:
    """Summarise a history (see `train.history`); an empty one has 0 epochs."""
    epochs = len(history)
    if epochs == 0:
        return Learning(0, None)
    ap50 = history["ap50"].to_numpy(float) if "ap50" in history else np.full(epochs, np.nan)
    known = np.isfinite(ap50)
    last = float(ap50[known][-1]) if known.any() else None
    slope = low = high = None
    tail = max(MIN_TAIL, round(TAIL_SHARE * epochs))
    if known.sum() >= tail and epochs > MIN_TAIL:
        x, y = history["epoch"].to_numpy(float)[known][-tail:], ap50[known][-tail:]
        slope, _, low, high = (float(v) for v in theilslopes(y, x))
    best = rise = None
    losses = [name for name in ("val_box_loss", "val_cls_loss") if name in history]
    if losses and epochs > MIN_TAIL and history[losses].notna().all(axis=1).any():
        total = history[losses].sum(axis=1, min_count=len(losses)).to_numpy(float)
        # Smoothed over three epochs: one lucky epoch is not a turn.
        smooth = pd.Series(total).rolling(3, center=True, min_periods=1).median().to_numpy()
        best = float((int(np.nanargmin(smooth)) + 1) / epochs)
        rise = float(smooth[-1] / np.nanmin(smooth) - 1)
    return Learning(epochs, last, slope, low, high, best, rise)
