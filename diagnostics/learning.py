"""The run's training history: whether AP50 still rises, and whether the validation loss has turned up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import theilslopes

# The slope is fitted to the last 30 % of epochs, at least this many, so that it describes the end of
# training.
TAIL_SHARE = 0.3
MIN_TAIL = 4
# Epochs ahead of the last one for which a projection is useful.
AHEAD = 10
# The lowest validation loss before this share of the epochs means the rest was overfitting.
EARLY = 0.7


@dataclass(frozen=True)
class Learning:
    """Summary of a training history; fields are None where it is too short or lacks the column.

    epochs: number of epochs in the history
    last_ap50: last validation AP50
    slope: AP50 per epoch at the end of training (Theil-Sen)
    slope_low: lower end of the 95 % interval of the slope
    slope_high: upper end of that interval
    best_loss_epoch: epoch of the lowest validation loss, as a share of all epochs
    loss_rise: how far the validation loss is above its lowest value at the end, as a share of it
    broken_epoch: epoch from which on the training loss is not a number, None where it is one at the end
    """

    epochs: int
    last_ap50: float | None
    slope: float | None = None
    slope_low: float | None = None
    slope_high: float | None = None
    best_loss_epoch: float | None = None
    loss_rise: float | None = None
    broken_epoch: int | None = None

    @property
    def gain(self) -> float | None:
        """AP50 that AHEAD more epochs would add at this slope: an upper bound, because curves flatten."""
        return None if self.slope is None else max(0.0, AHEAD * self.slope)


def summarise_history(history: pd.DataFrame) -> Learning:
    """Summarise a training history.

    Parameters
    ----------
    history
        One row per epoch (see `train.history`).

    Returns
    -------
    Learning
        With 0 epochs where the history is empty.
    """
    epochs = len(history)
    if epochs == 0:
        return Learning(0, None)
    ap50 = history["ap50"].to_numpy(float) if "ap50" in history else np.full(epochs, np.nan)
    measured = np.isfinite(ap50)
    last = float(ap50[measured][-1]) if measured.any() else None
    slope = low = high = None
    tail = max(MIN_TAIL, round(TAIL_SHARE * epochs))
    if measured.sum() >= tail and epochs > MIN_TAIL:
        x, y = history["epoch"].to_numpy(float)[measured][-tail:], ap50[measured][-tail:]
        slope, _, low, high = (float(v) for v in theilslopes(y, x))
    best = rise = None
    losses = [name for name in ("val_box_loss", "val_cls_loss") if name in history]
    if losses and history[losses].notna().all(axis=1).sum() > MIN_TAIL:
        total = history[losses].sum(axis=1, min_count=len(losses)).to_numpy(float)
        # Smoothed over three epochs: one lucky epoch is not a turn.
        smooth = pd.Series(total).rolling(3, center=True, min_periods=1).median().to_numpy()
        best = float((int(np.nanargmin(smooth)) + 1) / epochs)
        rise = float(smooth[-1] / np.nanmin(smooth) - 1)
    return Learning(epochs, last, slope, low, high, best, rise, _broken_epoch(history))


def _broken_epoch(history: pd.DataFrame) -> int | None:
    """The epoch from which on a training loss is not finite. A line that was cut short has no validation AP
    either, and says nothing.
    """
    losses = [name for name in ("train_box_loss", "train_cls_loss") if name in history]
    if not losses or "ap50" not in history:
        return None
    whole = history[history["ap50"].notna()]
    finite = np.isfinite(whole[losses].to_numpy(float)).all(axis=1)
    if not len(whole) or finite[-1]:
        return None
    first = int(np.flatnonzero(finite)[-1]) + 1 if finite.any() else 0
    return int(whole["epoch"].iloc[first])
