"""The error type of each wrong detection, and what AP50 gains if a type is repaired (TIDE, ECCV 2020)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from diagnostics.matching import Annotations, Bools, Detections, Floats, Ints, MatchTable, overlap_of, pair_up
from diagnostics.precision import interpolated

# TIDE's limits: at least this IoU is a match, at most this is background.
FOREGROUND = 0.5
BACKGROUND = 0.1
TYPES = ("class", "location", "both", "duplicate", "background", "missed")
# Where AP50 is below this, repairing one type changes little: the counts and the maximum recall tell more.
MIN_AP_FOR_DELTAS = 0.05


def classify_outcomes(table: MatchTable, annotations: Annotations, detections: Detections) -> pd.DataFrame:
    """Classify every counted detection at IoU 0.5.

    Parameters
    ----------
    table
        The matching of the detections with the annotations.
    annotations, detections
        What was matched.

    Returns
    -------
    DataFrame
        One row a detection, in the table's order: row, image, label, confidence, outcome ("true_positive", or
        one of TYPES but "missed"), partner (row of the annotation that it matches or comes nearest to, -1 for
        background), nearest_iou (the highest IoU with an annotation).
    """
    true_positive, counted = table.flags(FOREGROUND)
    partners = np.full(len(table.row), -1)
    partners[table.matched] = table.partner
    rows, true_positive = table.row[counted].astype(np.int64), true_positive[counted]
    same, same_row, other, other_row = _nearest(detections, annotations, rows)
    # TIDE's order: location, class, duplicate, background; each assignment overrides the ones above it.
    outcome = np.where(np.maximum(same, other) > BACKGROUND, "both", "background").astype(object)
    outcome[same >= FOREGROUND] = "duplicate"
    outcome[other >= FOREGROUND] = "class"
    outcome[(same >= BACKGROUND) & (same <= FOREGROUND)] = "location"
    outcome[true_positive] = "true_positive"
    use_other = (outcome == "class") | ((outcome == "both") & (other > same))
    partner = np.where(use_other, other_row, same_row)
    partner = np.where(outcome == "background", -1, partner)
    partner[true_positive] = partners[counted][true_positive]
    return pd.DataFrame(
        {
            "row": rows.astype(np.int64),
            "image": table.image[counted].astype(np.int64),
            "label": table.label[counted].astype(np.int64),
            "confidence": table.confidence[counted],
            "outcome": outcome.astype(str),
            "partner": partner.astype(np.int64),
            "nearest_iou": np.maximum(same, other),
        }
    )


def _nearest(
    detections: Detections, annotations: Annotations, rows: Ints
) -> tuple[Floats, Ints, Floats, Ints]:
    """For each detection, the highest IoU with an annotation of its class and that annotation's row.

    Then the same over the other classes. IoU 0 and row -1: no annotation overlaps.
    """
    order = np.argsort(annotations.image, kind="stable")
    order = order[~annotations.crowd[order]]
    left, right = pair_up(detections.image[rows], annotations.image[order])
    right = order[right]
    overlap = overlap_of(detections, rows[left], annotations, right)
    same_class = detections.label[rows][left] == annotations.label[right]
    overlaps: list[Floats] = []
    nearest_rows: list[Ints] = []
    for pairs in (same_class, ~same_class):
        best = np.zeros(len(rows))
        np.maximum.at(best, left[pairs], overlap[pairs])
        nearest = np.full(len(rows), -1, np.int64)
        is_best = pairs & (overlap == best[left]) & (overlap > 0)
        # Assigned backwards, so that the first of several equal ones stays.
        nearest[left[is_best][::-1]] = right[is_best][::-1]
        overlaps.append(best)
        nearest_rows.append(nearest)
    return overlaps[0], nearest_rows[0], overlaps[1], nearest_rows[1]


def missed_annotations(table: MatchTable, outcomes: pd.DataFrame, *, confidence: float = 0.0) -> Ints:
    """Rows of counted annotations that no detection at or above a confidence matches at IoU 0.5."""
    is_match = (outcomes["outcome"] == "true_positive") & (outcomes["confidence"] >= confidence)
    counted = ~table.annotation_ignored[:, table.areas.index("all")]
    missed = _without_partner(counted, outcomes["partner"][is_match].to_numpy())
    return np.flatnonzero(missed).astype(np.int64)


def _without_partner(annotations: Bools, partners: Ints) -> Bools:
    """The mask of annotations less those in the rows of partners."""
    left = annotations.copy()
    left[partners] = False
    return left


def decompose_errors(
    table: MatchTable, outcomes: pd.DataFrame, *, confidence: float, images: Bools | None = None
) -> pd.DataFrame:
    """Count the errors of each type, and measure what AP50 would gain if all of them were repaired.

    The repair drops detections of type background, duplicate and both. Of the detections with a wrong class
    or location it turns the most confident one on each annotation into a true positive and drops the others.
    Missed annotations that no detection comes near are not counted. This equals tidecv
    (`TIDERun.fix_main_errors`) with
    two exceptions: detections within crowds are no errors here, and classes without an annotation have no AP,
        as
    in COCO.

    Parameters
    ----------
    table, outcomes
        The matching of a domain, and its detections as `classify_outcomes` returns them.
    confidence
        Lowest confidence of the errors that are counted; AP50 uses every detection.
    images
        Mask of a slice, (n_images,).

    Returns
    -------
    DataFrame
        One row a type: type, count (for "missed": annotations without a true positive and without a detection
            of
        the wrong class or location), delta_ap50 (NaN where AP50 is below MIN_AP_FOR_DELTAS).
    """
    counted, outcomes = _slice(table, outcomes, images)
    positives = np.bincount(table.annotation_label[counted], minlength=table.n_classes)
    labels, outcome, partner = (outcomes[name].to_numpy() for name in ("label", "outcome", "partner"))
    true_positive = outcome == "true_positive"
    base = _ap50(true_positive, ~true_positive, labels, positives, positives > 0)
    free = _without_partner(counted, partner[true_positive])
    nearly = np.isin(outcome, ["location", "class"])
    # One detection repairs an annotation, whichever way it errs, as in TIDE.
    fixable = _first_of_each(nearly & np.append(free, False)[partner], partner)
    never_near = _without_partner(free, partner[nearly])
    shown = outcomes["confidence"].to_numpy() >= confidence
    missed = _without_partner(counted, partner[(true_positive | nearly) & shown])
    records = []
    for kind in TYPES:
        if kind == "missed":
            left = positives - np.bincount(table.annotation_label[never_near], minlength=table.n_classes)
            repaired = _ap50(true_positive, ~true_positive, labels, left, positives > 0)
            count = int(missed.sum())
        else:
            of_kind = outcome == kind
            fixed = fixable & of_kind
            fixed_labels = labels.copy()
            fixed_labels[fixed] = table.annotation_label[partner[fixed]]
            repaired = _ap50(
                true_positive | fixed, ~true_positive & ~of_kind, fixed_labels, positives, positives > 0
            )
            count = int((of_kind & shown).sum())
        delta = max(0.0, repaired - base) if base >= MIN_AP_FOR_DELTAS else float("nan")
        records.append({"type": kind, "count": count, "delta_ap50": delta})
    return pd.DataFrame(records)


def _slice(table: MatchTable, outcomes: pd.DataFrame, images: Bools | None) -> tuple[Bools, pd.DataFrame]:
    """Mask of the counted annotations, and the outcomes by falling confidence, on some images or on all."""
    counted = ~table.annotation_ignored[:, table.areas.index("all")]
    if images is not None:
        outcomes = outcomes[images[outcomes["image"].to_numpy(np.int64)]]
        counted = counted & images[table.annotation_image]
    # The repair of a class moves a detection to another class, so the order goes across classes.
    return counted, outcomes.sort_values("confidence", ascending=False, kind="stable")


def _first_of_each(eligible: Bools, partner: Ints) -> Bools:
    """The first eligible detection of each annotation, as a mask."""
    rows = np.flatnonzero(eligible)
    _, first = np.unique(partner[rows], return_index=True)
    chosen = np.zeros(len(eligible), bool)
    chosen[rows[first]] = True
    return chosen


def _ap50(
    true_positive: Bools, false_positive: Bools, labels: Ints, positives: Ints, classes: Bools
) -> float:
    """Mean over the classes; one without any annotation left counts 0 if it has detections."""
    values = []
    for label in np.flatnonzero(classes):
        rows = labels == label
        if positives[label] > 0:
            curve = interpolated(true_positive[rows, None], false_positive[rows, None], int(positives[label]))
            values.append(curve[0][0])
        elif (true_positive | false_positive)[rows].any():
            values.append(0.0)
    return float(np.mean(values)) if values else float("nan")
