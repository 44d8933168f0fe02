"""Average precision and recall as aggregations over a match table, equal to pycocotools' `COCOeval.accumulate` and `summarize`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from diagnostics.matching import MAX_DETECTIONS, Bools, Floats, MatchTable

RECALL_POINTS: Floats = np.linspace(0.0, 1.0, 101)
TWELVE = (
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


def bits_of(column: npt.NDArray[np.uint16], count: int) -> Bools:
    """Packed thresholds (n,) -> (n, count) booleans."""
    return (column[:, None] >> np.arange(count, dtype=np.uint16)) & 1 == 1


def interpolated_curve(hits: Bools, misses: Bools, positives: int) -> tuple[Floats, Floats]:
    """Interpolated precision at the 101 recall points and final recall, for each threshold: (T, 101) and (T,).

    hits, misses: (n, T) flags of detections in falling confidence; positives: number of counted objects, at least 1.
    """
    curve = np.zeros((hits.shape[1], len(RECALL_POINTS)))
    recall = np.zeros(hits.shape[1])
    for column in range(hits.shape[1]):
        counted = hits[:, column] | misses[:, column]
        true = np.cumsum(hits[counted, column], dtype=float)
        if not len(true):
            continue
        precision = true / (np.arange(1, len(true) + 1) + np.spacing(1))
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        reached = true / positives
        place = np.searchsorted(reached, RECALL_POINTS, side="left")
        within = place < len(envelope)
        curve[column, within] = envelope[place[within]]
        recall[column] = reached[-1]
    return curve, recall


def interpolated(hits: Bools, misses: Bools, positives: int) -> tuple[Floats, Floats]:
    """101-point average precision and final recall at each threshold, (T,) and (T,)."""
    curve, recall = interpolated_curve(hits, misses, positives)
    return curve.mean(1), recall


def curves(table: MatchTable) -> tuple[Floats, Floats]:
    """Interpolated precision (T, K, 101) and final recall (T, K) over all pictures; -1 for classes without an object, as pycocotools has it."""
    a = table.areas.index("all")
    precision = np.full((len(table.ious), table.n_classes, len(RECALL_POINTS)), -1.0)
    recall = np.full((len(table.ious), table.n_classes), -1.0)
    positives = np.bincount(table.object_label[~table.object_ignored[:, a]], minlength=table.n_classes)
    for label in np.flatnonzero(positives):
        mine = table.label == label
        hit, ignored = (
            bits_of(table.hit[mine, a], len(table.ious)),
            bits_of(table.ignored[mine, a], len(table.ious)),
        )
        precision[:, label], recall[:, label] = interpolated_curve(
            hit & ~ignored, ~hit & ~ignored, int(positives[label])
        )
    return precision, recall


def accumulate(
    table: MatchTable, *, area: str = "all", images: Bools | None = None, max_detections: int = MAX_DETECTIONS
) -> tuple[Floats, Floats]:
    """Average precision and recall per class and IoU, (K, T) each; NaN rows for classes without a counted object.

    images: (n_images,) mask of a slice; None takes all.
    """
    a = table.areas.index(area)
    average = np.full((table.n_classes, len(table.ious)), np.nan)
    recall = average.copy()
    keep = table.rank < max_detections
    counted = ~table.object_ignored[:, a]
    if images is not None:
        keep &= images[table.image]
        counted = counted & images[table.object_image]
    positives = np.bincount(table.object_label[counted], minlength=table.n_classes)
    for label in np.flatnonzero(positives):
        mine = keep & (table.label == label)
        hit, ignored = (
            bits_of(table.hit[mine, a], len(table.ious)),
            bits_of(table.ignored[mine, a], len(table.ious)),
        )
        average[label], recall[label] = interpolated(hit & ~ignored, ~hit & ~ignored, int(positives[label]))
    return average, recall


def mean(values: Floats) -> float:
    """Mean over what is measurable; NaN when nothing is (never 0, never -1)."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def twelve(table: MatchTable, images: Bools | None = None) -> dict[str, float]:
    """COCO's twelve numbers for a slice of pictures, NaN where not measurable. Needs the ten COCO IoUs and all four area ranges."""
    whole, recall = accumulate(table, images=images)
    result = {
        "ap": mean(whole),
        "ap50": mean(whole[:, table.bit(0.5)]),
        "ap75": mean(whole[:, table.bit(0.75)]),
    }
    by_area = {area: accumulate(table, area=area, images=images) for area in ("small", "medium", "large")}
    result.update({f"ap_{area}": mean(values[0]) for area, values in by_area.items()})
    result.update(
        {f"ar_{limit}": mean(accumulate(table, images=images, max_detections=limit)[1]) for limit in (1, 10)}
    )
    result["ar_100"] = mean(recall)
    result.update({f"ar_{area}": mean(values[1]) for area, values in by_area.items()})
    return result


def headline(table: MatchTable, images: Bools | None = None) -> dict[str, float]:
    """AP, AP50, AP75 and the recall that the lowest confidence reaches at IoU .5, for a slice of pictures."""
    whole, recall = accumulate(table, images=images)
    half = table.bit(0.5)
    return {
        "ap": mean(whole),
        "ap50": mean(whole[:, half]),
        "ap75": mean(whole[:, table.bit(0.75)]),
        "max_recall": mean(recall[:, half]),
    }
