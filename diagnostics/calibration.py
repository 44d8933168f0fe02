"""Calibration: confidence against the share of true positives (D-ECE) and against overlap (LaECE)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from diagnostics.intervals import LEVEL, MIN_GROUPS
from diagnostics.matching import Bools, Floats, Ints

# Kueppers et al. 2020 (D-ECE) use 20 bins over confidence alone; Kuzucu et al. 2024 (LaECE) use 25.
D_ECE_BINS = 20
LA_ECE_BINS = 25
# Detections below this are the tail kept for AP; nobody uses them.
LOWEST = 0.05
# The precision of fewer detections in a bin has a standard error over 0.1 (sqrt(0.25 / 25)) and is not drawn.
MIN_PER_BIN = 25
# Confidences within 0.1 of 0.5, the example that the page explains calibration with.
HALF_RANGE = (0.4, 0.6)


@dataclass(frozen=True)
class PrecisionAtHalf:
    """Precision of the detections with a confidence around 0.5.

    count: number of these detections
    precision: share of true positives among them
    low, high: 95 % interval of the precision by clip; None below MIN_GROUPS clips
    """

    count: int
    precision: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Calibration:
    """How well confidence predicts correctness in one domain.

    d_ece: expected calibration error against precision, in [0, 1]; None without detections
    la_ece: expected calibration error against IoU, in [0, 1]; None without detections
    at_half: precision around a confidence of 0.5; None below MIN_PER_BIN detections
    curve: one row a tenth of confidence: mean confidence, precision, count
    """

    d_ece: float | None
    la_ece: float | None
    at_half: PrecisionAtHalf | None
    curve: pd.DataFrame


def _expected_error(confidence: Floats, quality: Floats, bins: int) -> float:
    """Mean absolute difference of confidence and quality (n,) over equal-width bins, weighted by count."""
    number = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, "right")
    count = np.bincount(number, minlength=bins)
    difference = np.bincount(number, confidence - quality, minlength=bins)
    return float(np.abs(difference[count > 0]).sum() / max(count.sum(), 1))


def measure_calibration(outcomes: pd.DataFrame, group: Ints) -> Calibration:
    """Measure the calibration of detections at or above LOWEST; a true positive is a match at IoU 0.5.

    Parameters
    ----------
    outcomes
        Detections with their outcomes, as `error_types.classify_outcomes` returns them.
    group
        Group number of each image that outcomes refers to, (n_images,).

    Returns
    -------
    Calibration
        D-ECE pools the classes. LaECE compares confidence with IoU (0 for a false positive) class by class
        and averages over the classes.
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
        _precision_at_half(confidence, true_positive, group[shown["image"].to_numpy(np.int64)]),
        curve[curve["count"] >= MIN_PER_BIN].reset_index(drop=True),
    )


def _precision_at_half(confidence: Floats, true_positive: Bools, group: Ints) -> PrecisionAtHalf | None:
    """Precision around a confidence of 0.5; None below MIN_PER_BIN detections. group: of each detection.

    The interval is that of a ratio over groups (linearised, Student's t), because detections of one clip are
    not independent.
    """
    around = (confidence >= HALF_RANGE[0]) & (confidence <= HALF_RANGE[1])
    count = int(around.sum())
    if count < MIN_PER_BIN:
        return None
    correct, groups = true_positive[around], len(np.unique(group[around]))
    precision = float(correct.mean())
    if groups < MIN_GROUPS:
        return PrecisionAtHalf(count, precision, None, None)
    by_group = np.bincount(group[around], correct - precision) / count
    quantile = stdtrit(groups - 1, (1 + LEVEL) / 2)
    half_width = float(quantile * np.sqrt((by_group**2).sum() * groups / (groups - 1)))
    return PrecisionAtHalf(
        count, precision, max(0.0, precision - half_width), min(1.0, precision + half_width)
    )
