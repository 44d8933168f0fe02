"""Average precision and recall as aggregations over a match table.

Equal to pycocotools' `COCOeval.accumulate` and `COCOeval.summarize`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from diagnostics.averaging import RECALL_POINTS, Averager, sum_rows
from diagnostics.matching import Bools, Floats, Ints, MatchTable

COCO_METRICS = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar_1",
    "ar_10",
    "ar_100",
    "ar_small",
    "ar_medium",
    "ar_large",
)


def _interpolated_curve(
    true_positives: Bools, false_positives: Bools, positives: int
) -> tuple[Floats, Floats]:
    """Interpolated precision at the 101 recall points (T, 101) and final recall (T,), for each threshold.

    true_positives, false_positives: (n, T) flags of detections in falling confidence. positives: number of
    counted annotations, at least 1.
    """
    curve = np.zeros((true_positives.shape[1], len(RECALL_POINTS)))
    recall = np.zeros(true_positives.shape[1])
    for column in range(true_positives.shape[1]):
        counted = true_positives[:, column] | false_positives[:, column]
        true = np.cumsum(true_positives[counted, column], dtype=float)
        if not len(true):
            continue
        precision = true / (np.arange(1, len(true) + 1) + np.spacing(1))
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        reached = true / positives
        first = np.searchsorted(reached, RECALL_POINTS, side="left")
        within = first < len(envelope)
        curve[column, within] = envelope[first[within]]
        recall[column] = reached[-1]
    return curve, recall


def interpolated(true_positives: Bools, false_positives: Bools, positives: int) -> tuple[Floats, Floats]:
    """101-point average precision and final recall at each threshold, (T,) and (T,)."""
    curve, recall = _interpolated_curve(true_positives, false_positives, positives)
    return curve.mean(1), recall


def curves(table: MatchTable) -> tuple[Floats, Floats]:
    """Interpolated precision (T, K, 101) and final recall (T, K) over all images.

    As in pycocotools, a class without an annotation has -1.
    """
    precision = np.full((len(table.ious), table.n_classes, len(RECALL_POINTS)), -1.0)
    recall = np.full((len(table.ious), table.n_classes), -1.0)
    positives = np.bincount(
        table.annotation_label[~table.annotation_ignored[:, table.areas.index("all")]],
        minlength=table.n_classes,
    )
    flags = [table.flags(iou) for iou in table.ious]
    for label in np.flatnonzero(positives):
        rows = slice(*np.searchsorted(table.label, [label, label + 1]))
        true_positives = np.column_stack([true_positive[rows] for true_positive, _ in flags])
        false_positives = np.column_stack([counted[rows] for _, counted in flags]) & ~true_positives
        precision[:, label], recall[:, label] = _interpolated_curve(
            true_positives, false_positives, int(positives[label])
        )
    return precision, recall


def accumulate(table: MatchTable, *, area: str = "all", images: Bools | None = None) -> tuple[Floats, Floats]:
    """Average precision and recall per class and IoU.

    Parameters
    ----------
    table
        A match table.
    area
        One of its area ranges.
    images
        Mask of a slice, (n_images,); None takes all.

    Returns
    -------
    tuple
        Average precision and recall, (K, T) each; NaN rows for classes without a counted annotation.
    """
    weights = np.ones((1, table.n_images), bool) if images is None else images[None]
    average, recall = Averager(table, area=area)(weights)
    return average[..., 0], recall[..., 0]


def _recall_within(table: MatchTable, limit: int, weights: Ints | Bools) -> Floats:
    """Final recall (K, T, R) when only the first `limit` detections of each image and class count.

    weights: (R, n_images).
    """
    a, count = table.areas.index("all"), len(table.ious)
    early = table.rank[table.matched] < limit
    matched, column = np.nonzero(
        (table.true_positive[early, a, None] >> np.arange(count, dtype=np.uint16)) & 1
    )
    row = table.matched[early][matched]
    counted = ~table.annotation_ignored[:, a]

    def summed(key: Ints, image: Ints, keys: int) -> npt.NDArray[Any]:
        ones = np.ones(len(key), np.int32)
        return csr_array((ones, (key, image)), shape=(keys, table.n_images)) @ weights.T.astype(np.int32)

    key = table.label[row].astype(np.int64) * count + column
    true = summed(key, table.image[row], table.n_classes * count).reshape(
        table.n_classes, count, len(weights)
    )
    positives = summed(table.annotation_label[counted], table.annotation_image[counted], table.n_classes)
    recall = np.full(true.shape, np.nan)
    np.divide(true, positives[:, None], out=recall, where=positives[:, None] > 0)
    return recall


def mean(values: Floats) -> float:
    """Mean over what is measurable; NaN when nothing is (never 0, never -1)."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def mean_of_classes(values: Floats) -> Floats:
    """(K, T, R) -> (R,): mean over measurable classes and the thresholds; NaN where nothing is measurable."""
    flat = values.reshape(-1, values.shape[-1])
    present = np.isfinite(flat)
    total = sum_rows(np.where(present, flat, 0))
    return np.divide(total, present.sum(0), out=np.full(len(total), np.nan), where=present.any(0))


def weighted_coco_metrics(table: MatchTable, weights: Ints | Bools) -> dict[str, Floats]:
    """COCO's twelve metrics of many weightings of the images.

    Parameters
    ----------
    table
        A match table with the ten COCO IoUs and all four area ranges.
    weights
        Whole numbers of 0 or more, (R, n_images).

    Returns
    -------
    dict
        COCO_METRICS -> values, (R,) each; NaN where not measurable.
    """
    average, recall = Averager(table)(weights)
    half, strict = table.bit(0.5), table.bit(0.75)
    result = {
        "ap": mean_of_classes(average),
        "ap50": mean_of_classes(average[:, half : half + 1]),
        "ap75": mean_of_classes(average[:, strict : strict + 1]),
        "ar_1": mean_of_classes(_recall_within(table, 1, weights)),
        "ar_10": mean_of_classes(_recall_within(table, 10, weights)),
        "ar_100": mean_of_classes(recall),
    }
    for area in ("small", "medium", "large"):
        average, recall = Averager(table, area=area)(weights)
        result[f"ap_{area}"], result[f"ar_{area}"] = mean_of_classes(average), mean_of_classes(recall)
    return {name: result[name] for name in COCO_METRICS}


def coco_metrics(table: MatchTable, images: Bools | None = None) -> dict[str, float]:
    """COCO's twelve metrics of a slice of images, NaN where not measurable."""
    weights = np.ones((1, table.n_images), bool) if images is None else images[None]
    return {name: float(values[0]) for name, values in weighted_coco_metrics(table, weights).items()}


def headline(table: MatchTable, images: Bools | None = None) -> dict[str, float]:
    """AP, AP50, AP75 and the recall that the lowest confidence reaches at IoU 0.5, for a slice of images."""
    average, recall = accumulate(table, images=images)
    half = table.bit(0.5)
    return {
        "ap": mean(average),
        "ap50": mean(average[:, half]),
        "ap75": mean(average[:, table.bit(0.75)]),
        "max_recall": mean(recall[:, half]),
    }
