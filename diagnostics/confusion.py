"""Which classes are predicted where which are annotated, in-domain and elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from diagnostics.domain import Domain
from diagnostics.matching import Annotations, Detections, Ints, match

BACKGROUND = "background"
# Ultralytics' threshold for its confusion matrix, so that both count the same.
CONFUSION_IOU = 0.45
# Ultralytics keeps as many detections of an image.
MAX_DETECTIONS = 300
COLUMNS = ("domain", "actual", "predicted", "count")


def confusion(domain: Domain, confidence: float) -> pd.DataFrame:
    """Which classes are predicted where which are annotated.

    In falling confidence, each detection takes the annotation with which it overlaps most, whatever its
    class, at IoU CONFUSION_IOU or above: equal to Ultralytics' confusion matrix (8.4.190).

    Parameters
    ----------
    domain : Domain
        With labels.
    confidence : float
        Lowest confidence of the detections.

    Returns
    -------
    DataFrame
        COLUMNS, one row a pair that occurs. actual is BACKGROUND where nothing is annotated, predicted
        where nothing is predicted.
    """
    annotations, detections = domain.annotation_arrays, domain.detection_arrays
    shown = np.flatnonzero(detections.confidence >= confidence)
    actual, predicted = _match_across_classes(
        annotations,
        detections.take(shown),
        len(domain.labelled_images),
    )
    names = np.array([*domain.classes, BACKGROUND], object)
    frame = pd.DataFrame({"actual": names[actual], "predicted": names[predicted]})
    counts = frame.value_counts().rename("count").reset_index()
    return counts.assign(domain=domain.name)[list(COLUMNS)]


def _match_across_classes(
    annotations: Annotations, detections: Detections, n_images: int
) -> tuple[Ints, Ints]:
    """Class of the annotation and of the detection of every pair, and of what is left of both with -1."""
    table = match(
        replace(annotations, label=np.zeros_like(annotations.label)),
        replace(detections, label=np.zeros_like(detections.label)),
        n_images=n_images,
        n_classes=1,
        ious=(CONFUSION_IOU,),
        max_detections=MAX_DETECTIONS,
    )
    true_positive, counted = table.flags(CONFUSION_IOU)
    partner = np.full(len(table.row), -1)
    partner[table.matched] = table.partner
    paired = np.flatnonzero(true_positive & (partner >= 0))
    alone = np.flatnonzero(counted & ~true_positive)
    missed = ~table.annotation_ignored[:, table.areas.index("all")]
    missed[partner[paired]] = False
    left = np.flatnonzero(missed)
    actual = np.concatenate(
        [annotations.label[partner[paired]], np.full(len(alone), -1), annotations.label[left]]
    )
    predicted = np.concatenate(
        [detections.label[table.row[paired]], detections.label[table.row[alone]], np.full(len(left), -1)]
    )
    return actual.astype(np.int64), predicted.astype(np.int64)


def _confusion_shares(table: pd.DataFrame) -> pd.DataFrame:
    """The wrong pairs of a confusion table with what they are a share of.

    Adds share: of the annotations of the actual class, or of the detections of the predicted class where
    nothing is annotated.
    """
    keys = ["domain", "actual"]
    actual = table.groupby(keys)["count"].transform("sum")
    predicted = table.groupby(["domain", "predicted"])["count"].transform("sum")
    share = table["count"] / np.where(table["actual"] == BACKGROUND, predicted, actual)
    wrong = table["actual"] != table["predicted"]
    return table.assign(share=share)[wrong].reset_index(drop=True)


def confusion_differences(table: pd.DataFrame, in_domain: str, domain: str) -> pd.DataFrame:
    """The confusions of a real-world domain beside the same in-domain, those that grew most first.

    Columns: actual, predicted, count, share, in_domain_count, in_domain_share, more (the difference of the
    shares). Misses (predicted BACKGROUND) are no confusion and are left out.
    """
    shares = _confusion_shares(table)
    shares = shares[shares["predicted"] != BACKGROUND]
    key = ["actual", "predicted"]
    here = shares[shares["domain"] == domain][[*key, "count", "share"]]
    there = shares[shares["domain"] == in_domain][[*key, "count", "share"]].rename(
        columns={"count": "in_domain_count", "share": "in_domain_share"}
    )
    both = here.merge(there, on=key, how="left").fillna({"in_domain_count": 0, "in_domain_share": 0.0})
    both = both.assign(more=both["share"] - both["in_domain_share"]).astype({"in_domain_count": "int64"})
    return both.sort_values(["more", "count"], ascending=False, ignore_index=True)
