"""The confidence threshold: what it buys in each domain, and what carrying one domain's best into the other costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from diagnostics.matching import Bools, Floats, Ints, MatchTable

# Even steps, plus the low end where a failing detector's true positives hide.
GRID: Floats = np.concatenate([[0.001, 0.002, 0.005], np.arange(1, 100) / 100])
FOLDS = 2
# Every second alarm right, four in five, nineteen in twenty: the recall that is left at each is what an operator chooses from.
PRECISIONS = (0.5, 0.8, 0.95)
# Columns of a curve by name: a dict of arrays or a frame.
Points = Mapping[str, Any]


def counts(table: MatchTable, *, iou: float = 0.5, images: Bools | None = None) -> tuple[Floats, Bools, int]:
    """Confidence and hit flag of every counted detection of a slice at one IoU, and the number of objects.

    Greedy matching runs in falling confidence, so dropping detections below a threshold changes no match above it: one table serves
    every threshold.
    """
    true_positive, counted = table.flags(iou)
    annotations = ~table.annotation_ignored[:, table.areas.index("all")]
    if images is not None:
        counted &= images[table.image]
        annotations &= images[table.annotation_image]
    return table.confidence[counted], true_positive[counted], int(annotations.sum())


def sweep(table: MatchTable, *, images: Bools | None = None) -> Points:
    """The curve of a slice at IoU 0.5, all classes pooled."""
    weights = np.ones((1, table.n_images), bool) if images is None else images[None]
    return one_of(sweeps(table, weights), 0, 0)


def sweeps(
    table: MatchTable, weights: Ints | Bools, *, iou: float = 0.5, by_class: bool = False, grid: Floats = GRID
) -> Points:
    """The curves of many slices at once, (R, C, B) each for weightings (R, n_images), C classes (1 where pooled) and B thresholds.

    Exactly those of re-evaluating the detections at or above each threshold. confidence: (B,).
    """
    true_positive, counted = table.flags(iou)
    step = np.searchsorted(grid, table.confidence, "right") - 1
    counted &= step >= 0
    counted_annotations = ~table.annotation_ignored[:, table.areas.index("all")]
    classes = table.n_classes if by_class else 1

    def above(lines: Bools) -> Floats:
        label = table.label[lines].astype(np.int64) if by_class else 0
        row = label * len(grid) + step[lines]
        total = sums(row, table.image[lines], classes * len(grid), weights).reshape(
            len(weights), classes, len(grid)
        )
        return np.cumsum(total[..., ::-1], axis=-1)[..., ::-1]

    true, shown = above(counted & true_positive), above(counted)
    label = (
        table.annotation_label[counted_annotations]
        if by_class
        else np.zeros(counted_annotations.sum(), np.int64)
    )
    annotations = sums(label, table.annotation_image[counted_annotations], classes, weights)[..., None]
    images = weights.sum(1)[:, None, None]
    return _curve(true, shown, annotations, images, grid)


def sums(row: Ints, image: Ints, rows: int, weights: Ints | Bools) -> Floats:
    """How often each row occurs in the weighted images: (R, rows)."""
    counts = csr_array((np.ones(len(row)), (row, image)), shape=(rows, weights.shape[1]))
    return (counts @ weights.T.astype(float)).T


def _curve(true: Floats, shown: Floats, annotations: Floats, images: Floats, grid: Floats) -> Points:
    """Precision without a detection, and recall without an object, are NaN; F1 counts them as no success."""
    labelled = annotations > 0
    nothing = np.full(true.shape, np.nan)
    return {
        "confidence": grid,
        "precision": np.divide(true, shown, out=nothing.copy(), where=shown > 0),
        "recall": np.divide(true, annotations, out=nothing.copy(), where=labelled),
        "f1": np.divide(2 * true, np.maximum(shown + annotations, 1), out=nothing, where=labelled),
        "false_positives_per_image": (shown - true) / np.maximum(images, 1),
    }


def one_of(curves: Points, weighting: int, label: int) -> dict[str, Floats]:
    """The curve of one weighting and class out of many."""
    return {name: values if values.ndim == 1 else values[weighting, label] for name, values in curves.items()}


def f_beta(points: Points, beta: float) -> Floats:
    """F-beta at each threshold (van Rijsbergen 1979): beta 2 weighs recall over precision, 0.5 precision over recall."""
    precision, recall = np.nan_to_num(points["precision"]), points["recall"]
    below = beta**2 * precision + recall
    return np.divide((1 + beta**2) * precision * recall, below, out=np.zeros_like(below), where=below > 0)


def best(points: Points, *, beta: float = 1.0) -> tuple[float | None, float | None]:
    """Best F-beta and its threshold; on a plateau the middle of it. (None, None) without labels."""
    scores = np.asarray(points["f1"]) if beta == 1 else f_beta(points, beta)
    if np.isnan(points["recall"]).all():
        return None, None
    top = float(np.nanmax(scores))
    level = np.asarray(points["confidence"])[scores >= top - 1e-12]
    return top, float(level[len(level) // 2])


def recall_at_precision(points: Points, precision: float) -> tuple[float | None, float | None]:
    """Highest recall of the thresholds that keep at least this precision, and the threshold; (None, None) where none does."""
    kept = np.asarray(points["precision"]) >= precision
    if not kept.any() or np.isnan(points["recall"]).all():
        return None, None
    # Recall falls with the threshold: the lowest that keeps the precision.
    lowest = int(np.argmax(kept))
    return float(np.asarray(points["recall"])[lowest]), float(np.asarray(points["confidence"])[lowest])


def f1_at(points: Points, confidence: float) -> float:
    """F1 at the grid point nearest to a threshold."""
    return float(np.asarray(points["f1"])[np.abs(np.asarray(points["confidence"]) - confidence).argmin()])


def crossfitted_best_f1(table: MatchTable, group: Ints, *, seed: int) -> float | None:
    """F1 that choosing the best threshold on one half of the groups earns on the other half, both ways pooled.

    Choosing and measuring on the same images is optimistic (by 0.02 to 0.05 F1 at 25 to 50 images). None with a single group.
    """
    groups = np.unique(group)
    if len(groups) < FOLDS:
        return None
    shuffled = np.random.default_rng(seed).permutation(groups)
    true = detected = annotations = 0.0
    for fold in range(FOLDS):
        held = np.isin(group, shuffled[fold::FOLDS])
        _, chosen = best(sweep(table, images=~held))
        if chosen is None:
            return None
        confidence, true_positive, count = counts(table, images=held)
        above = confidence >= chosen
        true, detected, annotations = (
            true + true_positive[above].sum(),
            detected + above.sum(),
            annotations + count,
        )
    return float(2 * true / max(detected + annotations, 1))


def summary(points: Points) -> dict[str, Any]:
    """What one reads off a curve: the best thresholds for F1, F.5 and F2, and the recall at fixed precisions with its threshold."""
    result: dict[str, Any] = {}
    for name, beta in (("f1", 1.0), ("f0.5", 0.5), ("f2", 2.0)):
        top, confidence = best(points, beta=beta)
        suffix = "" if name == "f1" else f"_{name}"
        # Where nothing is ever right, every threshold is as good.
        result[f"best_{name}"], result[f"best_confidence{suffix}"] = top, confidence if top else None
    result["recall_at_precision"] = []
    for precision in PRECISIONS:
        recall, confidence = recall_at_precision(points, precision)
        result["recall_at_precision"].append(
            {"precision": precision, "recall": recall, "confidence": confidence}
        )
    return result
