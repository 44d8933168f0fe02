"""What a confidence means: share of right detections (D-ECE) and overlap (LaECE) against what the detector claims."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

# Kueppers et al. 2020 (D-ECE) use 20 bins over confidence alone; Kuzucu et al. 2024 (LaECE) use 25.
D_ECE_BINS = 20
LA_ECE_BINS = 25
# Detections below this are the tail kept for AP, not claims anybody reads.
LOWEST = 0.05
# A bin's hit rate from fewer detections has a standard error over .1 (sqrt(.25 / 25)) and is not drawn.
MIN_PER_BIN = 25


@dataclass(frozen=True)
class Calibration:
    """d_ece, la_ece: expected calibration errors in [0, 1], None without detections. curve: confidence, precision, count by tenth."""

    d_ece: float | None
    la_ece: float | None
    curve: pd.DataFrame


def expected_error(claimed: np.ndarray, true: np.ndarray, bins: int) -> float:
    """Mean absolute difference of claim and truth over equal-width bins, weighted by count; both arrays (n,) in [0, 1]."""
    place = np.minimum((claimed * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    difference = np.bincount(place, claimed - true, minlength=bins)
    return float(np.abs(difference[count > 0]).sum() / max(count.sum(), 1))


def calibrate(outcomes: pd.DataFrame) -> Calibration:
    """Calibration of detections at or above LOWEST (see `error_types.outcomes`); a hit is a match at IoU .5.

    LaECE compares confidence with IoU, counting 0 for a false positive.
    """
    shown = outcomes[outcomes["confidence"] >= LOWEST]
    columns = ["confidence", "precision", "count"]
    if shown.empty:
        return Calibration(None, None, pd.DataFrame(columns=columns))
    confidence = shown["confidence"].to_numpy(float)
    hit = (shown["outcome"] == "hit").to_numpy()
    overlap = np.where(hit, shown["nearest_iou"].to_numpy(float), 0.0)
    tenth = np.minimum((confidence * 10).astype(int), 9)
    frame = pd.DataFrame({"tenth": tenth, "confidence": confidence, "hit": hit.astype(float)})
    curve = (
        frame.groupby("tenth")
        .agg(confidence=("confidence", "mean"), precision=("hit", "mean"), count=("hit", "size"))
        .reset_index(drop=True)
    )
    return Calibration(
        expected_error(confidence, hit.astype(float), D_ECE_BINS),
        expected_error(confidence, overlap, LA_ECE_BINS),
        curve[curve["count"] >= MIN_PER_BIN].reset_index(drop=True),
    )
