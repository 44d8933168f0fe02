"""What a confidence means: share of right detections (D-ECE) and overlap (LaECE) against what the detector claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from diagnostics.intervals import LEVEL, MIN_GROUPS
from diagnostics.matching import Floats, Ints

# Kueppers et al. 2020 (D-ECE) use 20 bins over confidence alone; Kuzucu et al. 2024 (LaECE) use 25.
D_ECE_BINS = 20
LA_ECE_BINS = 25
# Detections below this are the tail kept for AP, not claims anybody reads.
LOWEST = 0.05
# A bin's hit rate from fewer detections has a standard error over 0.1 (sqrt(0.25 / 25)) and is not drawn.
MIN_PER_BIN = 25
# "What does 0.5 mean here": detections that claim within 0.1 of it.
HALF = (0.4, 0.6)


@dataclass(frozen=True)
class AtHalf:
    """Of `count` detections with a confidence around 0.5, the share that is right, with its 95 % interval by clip (None below MIN_GROUPS)."""

    count: int
    precision: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Calibration:
    """d_ece, la_ece: expected calibration errors in [0, 1], None without detections. at_half: None below MIN_PER_BIN detections.

    curve: confidence, precision, count by tenth.
    """

    d_ece: float | None
    la_ece: float | None
    at_half: AtHalf | None
    curve: pd.DataFrame


def _expected_error(claimed: Floats, true: Floats, bins: int) -> float:
    """Mean absolute difference of claim and truth over equal-width bins, weighted by count; both arrays (n,) in [0, 1]."""
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], claimed, "right")
    count = np.bincount(place, minlength=bins)
    difference = np.bincount(place, claimed - true, minlength=bins)
    return float(np.abs(difference[count > 0]).sum() / max(count.sum(), 1))


def calibrate(outcomes: pd.DataFrame, group: Ints) -> Calibration:
    """Calibration of detections at or above LOWEST (see `error_types.outcomes`); a hit is a match at IoU .5.

    group: (n_images,) of the images that outcomes counts. D-ECE pools the classes. LaECE compares confidence with IoU, 0 for a false positive, class by class, and averages.
    """
    shown = outcomes[outcomes["confidence"] >= LOWEST]
    columns = ["confidence", "precision", "count"]
    if shown.empty:
        return Calibration(None, None, None, pd.DataFrame(columns=columns))
    confidence = shown["confidence"].to_numpy(float)
    true_positive = (shown["outcome"] == "true_positive").to_numpy()
    overlap = np.where(true_positive, shown["nearest_iou"].to_numpy(float), 0.0)
    label = shown["label"].to_numpy()
    tenth = np.minimum((confidence * 10).astype(int), 9)
    frame = pd.DataFrame(
        {"tenth": tenth, "confidence": confidence, "true_positive": true_positive.astype(float)}
    )
    curve = (
        frame.groupby("tenth")
        .agg(
            confidence=("confidence", "mean"),
            precision=("true_positive", "mean"),
            count=("true_positive", "size"),
        )
        .reset_index(drop=True)
    )
    by_class = [
        _expected_error(confidence[label == k], overlap[label == k], LA_ECE_BINS) for k in np.unique(label)
    ]
    return Calibration(
        _expected_error(confidence, true_positive.astype(float), D_ECE_BINS),
        float(np.mean(by_class)),
        at_half(confidence, true_positive, group[shown["image"].to_numpy(np.int64)]),
        curve[curve["count"] >= MIN_PER_BIN].reset_index(drop=True),
    )


def at_half(confidence: Floats, true_positive: np.ndarray[Any, Any], owner: Ints) -> AtHalf | None:
    """What a confidence of 0.5 stands for; None from fewer than MIN_PER_BIN detections. owner: group of each.

    The interval is that of a ratio over groups (linearised, Student's t): detections of one clip are right or wrong together.
    """
    around = (confidence >= HALF[0]) & (confidence <= HALF[1])
    count = int(around.sum())
    if count < MIN_PER_BIN:
        return None
    right, groups = true_positive[around], len(np.unique(owner[around]))
    share = float(right.mean())
    if groups < MIN_GROUPS:
        return AtHalf(count, share, None, None)
    pull = np.bincount(owner[around], right - share) / count
    reach = float(stdtrit(groups - 1, (1 + LEVEL) / 2) * np.sqrt((pull**2).sum() * groups / (groups - 1)))
    return AtHalf(count, share, max(0.0, share - reach), min(1.0, share + reach))
