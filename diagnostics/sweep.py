"""The confidence threshold: what it buys in each domain, and what carrying one domain's best into the other costs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from diagnostics.matching import Bools, Floats, Ints, MatchTable
from diagnostics.precision import bits_of

# Even steps, plus the low end where a failing detector's hits hide.
GRID: Floats = np.concatenate([[0.001, 0.002, 0.005], np.arange(1, 100) / 100])
FOLDS = 2


def counts(table: MatchTable, *, iou: float = 0.5, images: Bools | None = None) -> tuple[Floats, Bools, int]:
    """Confidence and hit flag of every counted detection of a slice at one IoU, and the number of objects.

    Greedy matching runs in falling confidence, so dropping detections below a threshold changes no match above it: one table serves
    every threshold.
    """
    a, bit = table.areas.index("all"), table.bit(iou)
    keep = np.ones(len(table.row), bool) if images is None else images[table.image]
    ignored = bits_of(table.ignored[:, a], len(table.ious))[:, bit]
    keep &= ~ignored
    objects = ~table.object_ignored[:, a]
    if images is not None:
        objects &= images[table.object_image]
    return table.confidence[keep], bits_of(table.hit[:, a], len(table.ious))[keep, bit], int(objects.sum())


def curve(confidence: Floats, hit: Bools, objects: int, n_images: int, grid: Floats = GRID) -> pd.DataFrame:
    """Precision, recall, F1 and false positives per picture at each threshold of the grid.

    Precision without a detection, and recall without an object, are NaN; F1 counts them as no success.
    """
    order = np.argsort(confidence)
    above = len(confidence) - np.searchsorted(confidence[order], grid, "left")
    hits_above = np.concatenate([np.cumsum(hit[order][::-1])[::-1], [0]])
    true = hits_above[len(confidence) - above].astype(float)
    false = above - true
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(above > 0, true / above, np.nan)
        recall = np.where(objects > 0, true / max(objects, 1), np.nan)
    f1 = 2 * true / np.maximum(above + objects, 1) if objects else np.full(len(grid), np.nan)
    return pd.DataFrame(
        {
            "confidence": grid,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "false_positives_per_image": false / max(n_images, 1),
        }
    )


def sweep(table: MatchTable, *, images: Bools | None = None) -> pd.DataFrame:
    """The curve of a slice at IoU .5."""
    n_images = table.n_images if images is None else int(images.sum())
    return curve(*counts(table, images=images), n_images)


def best(points: pd.DataFrame) -> tuple[float | None, float | None]:
    """Best F1 and its threshold; on a plateau the middle of it. (None, None) without labels."""
    if points["f1"].isna().all():
        return None, None
    top = float(points["f1"].max())
    level = points.loc[points["f1"] >= top - 1e-12, "confidence"]
    return top, float(level.iloc[len(level) // 2])


def f1_at(points: pd.DataFrame, confidence: float) -> float:
    """F1 at the grid point nearest to a threshold."""
    return float(points["f1"].iloc[int((points["confidence"] - confidence).abs().argmin())])


def crossfitted_best_f1(table: MatchTable, group: Ints, *, seed: int) -> float | None:
    """F1 that choosing the best threshold on one half of the groups earns on the other half, both ways pooled.

    Choosing and measuring on the same pictures is optimistic (by .02 to .05 F1 at 25 to 50 pictures). None with a single group.
    """
    groups = np.unique(group)
    if len(groups) < FOLDS:
        return None
    shuffled = np.random.default_rng(seed).permutation(groups)
    true = detected = objects = 0.0
    for fold in range(FOLDS):
        held = np.isin(group, shuffled[fold::FOLDS])
        _, chosen = best(sweep(table, images=~held))
        if chosen is None:
            return None
        confidence, hit, count = counts(table, images=held)
        above = confidence >= chosen
        true, detected, objects = true + hit[above].sum(), detected + above.sum(), objects + count
    return float(2 * true / max(detected + objects, 1))
