"""Precision, recall and F1 by confidence threshold, and thresholds chosen from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from diagnostics.matching import Bools, Floats, Ints, MatchTable

# Even steps, plus the low confidences at which a failing detector's true positives lie.
GRID: Floats = np.concatenate([[0.001, 0.002, 0.005], np.arange(1, 100) / 100])
FOLDS = 2
# One in two, four in five, or nineteen in twenty detections right: an operator chooses by the recall that
# each leaves.
PRECISIONS = (0.5, 0.8, 0.95)
# Columns of a curve, or of many, by name: a dict of arrays or a frame.
Curve = Mapping[str, Any]


def _counted_detections(
    table: MatchTable, *, iou: float = 0.5, images: Bools | None = None
) -> tuple[Floats, Bools, int]:
    """Confidence and true-positive flag of every counted detection of a slice, and the number of annotations.

    Greedy matching runs in falling confidence, so dropping detections below a threshold changes no match
    above it: one table serves every threshold.
    """
    true_positive, counted = table.flags(iou)
    annotations = ~table.annotation_ignored[:, table.areas.index("all")]
    if images is not None:
        counted &= images[table.image]
        annotations &= images[table.annotation_image]
    return table.confidence[counted], true_positive[counted], int(annotations.sum())


def sweep(table: MatchTable, *, images: Bools | None = None) -> Curve:
    """Precision, recall, F1 and false positives per image at each threshold of GRID, at IoU 0.5.

    Parameters
    ----------
    table
        A match table; its classes are pooled.
    images
        Mask of a slice, (n_images,); None takes all.

    Returns
    -------
    Curve
        One array per column, (B,) each.
    """
    weights = np.ones((1, table.n_images), bool) if images is None else images[None]
    return select_curve(sweeps(table, weights), 0, 0)


def sweeps(
    table: MatchTable, weights: Ints | Bools, *, iou: float = 0.5, by_class: bool = False, grid: Floats = GRID
) -> Curve:
    """The curves of many slices at once, equal to evaluating again the detections at or above each threshold.

    Parameters
    ----------
    table
        A match table.
    weights
        How much each image counts in each slice, (R, n_images).
    iou
        IoU threshold.
    by_class
        One curve for each of C classes; otherwise classes are pooled and C is 1.
    grid
        B confidence thresholds, rising.

    Returns
    -------
    Curve
        `confidence`, (B,), and the other columns, (R, C, B) each.
    """
    true_positive, counted = table.flags(iou)
    step = np.searchsorted(grid, table.confidence, "right") - 1
    counted &= step >= 0
    counted_annotations = ~table.annotation_ignored[:, table.areas.index("all")]
    classes = table.n_classes if by_class else 1

    def above(rows: Bools) -> Floats:
        label = table.label[rows].astype(np.int64) if by_class else 0
        key = label * len(grid) + step[rows]
        total = _weighted_counts(key, table.image[rows], classes * len(grid), weights).reshape(
            len(weights), classes, len(grid)
        )
        return np.cumsum(total[..., ::-1], axis=-1)[..., ::-1]

    true, shown = above(counted & true_positive), above(counted)
    label = (
        table.annotation_label[counted_annotations]
        if by_class
        else np.zeros(counted_annotations.sum(), np.int64)
    )
    annotations = _weighted_counts(label, table.annotation_image[counted_annotations], classes, weights)
    images = weights.sum(1)[:, None, None]
    return _curve(true, shown, annotations[..., None], images, grid)


def _weighted_counts(key: Ints, image: Ints, keys: int, weights: Ints | Bools) -> Floats:
    """How often each key from 0 to keys - 1 occurs in the weighted images, (R, keys)."""
    counts = csr_array((np.ones(len(key)), (key, image)), shape=(keys, weights.shape[1]))
    return (counts @ weights.T.astype(float)).T


def _curve(true: Floats, shown: Floats, annotations: Floats, images: Floats, grid: Floats) -> Curve:
    """The columns of a curve; precision is NaN without detections, recall and F1 without annotations."""
    labelled = annotations > 0
    nothing = np.full(true.shape, np.nan)
    return {
        "confidence": grid,
        "precision": np.divide(true, shown, out=nothing.copy(), where=shown > 0),
        "recall": np.divide(true, annotations, out=nothing.copy(), where=labelled),
        "f1": np.divide(2 * true, np.maximum(shown + annotations, 1), out=nothing, where=labelled),
        "false_positives_per_image": (shown - true) / np.maximum(images, 1),
    }


def select_curve(curves: Curve, weighting: int, label: int) -> dict[str, Floats]:
    """The curve of one weighting and class out of many."""
    return {name: values if values.ndim == 1 else values[weighting, label] for name, values in curves.items()}


def f_beta(curve: Curve, beta: float) -> Floats:
    """F-beta at each threshold (van Rijsbergen 1979): beta 2 favours recall, 0.5 favours precision."""
    precision, recall = np.nan_to_num(curve["precision"]), curve["recall"]
    below = beta**2 * precision + recall
    return np.divide((1 + beta**2) * precision * recall, below, out=np.zeros_like(below), where=below > 0)


def best_f_beta(curve: Curve, *, beta: float = 1.0) -> tuple[float | None, float | None]:
    """Best F-beta and its threshold; on a plateau the middle of it. (None, None) without labels."""
    scores = np.asarray(curve["f1"]) if beta == 1 else f_beta(curve, beta)
    if np.isnan(curve["recall"]).all():
        return None, None
    top = float(np.nanmax(scores))
    plateau = np.asarray(curve["confidence"])[scores >= top - 1e-12]
    return top, float(plateau[len(plateau) // 2])


def recall_at_precision(curve: Curve, precision: float) -> tuple[float | None, float | None]:
    """Highest recall at this precision or above, and its threshold; (None, None) where none reaches it."""
    enough = np.asarray(curve["precision"]) >= precision
    if not enough.any() or np.isnan(curve["recall"]).all():
        return None, None
    # Recall falls with the threshold: the lowest one has the highest.
    lowest = int(np.argmax(enough))
    return float(np.asarray(curve["recall"])[lowest]), float(np.asarray(curve["confidence"])[lowest])


def f1_at(curve: Curve, confidence: float) -> float:
    """F1 at the grid point nearest to a threshold."""
    return float(np.asarray(curve["f1"])[np.abs(np.asarray(curve["confidence"]) - confidence).argmin()])


def crossfitted_best_f1(table: MatchTable, group: Ints, *, seed: int) -> float | None:
    """F1 on one half of the groups at the threshold chosen on the other half, both ways pooled.

    Choosing and measuring on the same images is optimistic, by 0.02 to 0.05 F1 at 25 to 50 images. None with
    a single group.
    """
    groups = np.unique(group)
    if len(groups) < FOLDS:
        return None
    shuffled = np.random.default_rng(seed).permutation(groups)
    true = detected = annotations = 0.0
    for fold in range(FOLDS):
        held_out = np.isin(group, shuffled[fold::FOLDS])
        _, chosen = best_f_beta(sweep(table, images=~held_out))
        if chosen is None:
            return None
        confidence, true_positive, count = _counted_detections(table, images=held_out)
        above = confidence >= chosen
        true, detected, annotations = (
            true + true_positive[above].sum(),
            detected + above.sum(),
            annotations + count,
        )
    return float(2 * true / max(detected + annotations, 1))


def summary(curve: Curve) -> dict[str, Any]:
    """The best thresholds for F1, F0.5 and F2, and the recall at fixed precisions with its threshold."""
    result: dict[str, Any] = {}
    for name, beta in (("f1", 1.0), ("f0.5", 0.5), ("f2", 2.0)):
        top, confidence = best_f_beta(curve, beta=beta)
        suffix = "" if name == "f1" else f"_{name}"
        # Where nothing is ever right, every threshold is as good as another.
        result[f"best_{name}"], result[f"best_confidence{suffix}"] = top, confidence if top else None
    result["recall_at_precision"] = []
    for precision in PRECISIONS:
        recall, confidence = recall_at_precision(curve, precision)
        result["recall_at_precision"].append(
            {"precision": precision, "recall": recall, "confidence": confidence}
        )
    return result
