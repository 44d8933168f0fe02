"""Why each detection is wrong, and what mending that kind of error would be worth (after TIDE, Bolya et al., ECCV 2020)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from diagnostics.matching import Annotations, Bools, Detections, Floats, Ints, MatchTable, box_iou, pair_up
from diagnostics.precision import interpolated

# TIDE's bands: at least this IoU is a match, at most this is background.
FOREGROUND = 0.5
BACKGROUND = 0.1
TYPES = ("class", "location", "both", "duplicate", "background", "missed")
# Where AP50 is below this, oracle differences say nothing: read the counts and the maximum recall instead.
MIN_AP_FOR_DELTAS = 0.05


def outcomes(table: MatchTable, annotations: Annotations, detections: Detections) -> pd.DataFrame:
    """Every counted detection at IoU 0.5, in the table's order: row, image, label, confidence, outcome, partner.

    outcome: "hit" or one of TYPES but "missed". partner: row of the object it true positives or comes nearest to, -1 for background.
    nearest_iou: IoU with that object.
    """
    true_positive, counted = table.flags(FOREGROUND)
    partners = np.full(len(table.row), -1)
    partners[table.claim] = table.partner
    rows, true_positive = table.row[counted].astype(np.int64), true_positive[counted]
    same, same_row, other, other_row = _nearest(detections, annotations, rows)
    # In TIDE's order: a box that would do if it lay better, then the class, then a second box on a taken object, then nothing at all.
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
    """For each detection: highest IoU with an object of its class, that object's row, and the same over other classes (0 and -1: none)."""
    order = np.argsort(annotations.image, kind="stable")
    order = order[~annotations.crowd[order]]
    left, right = pair_up(detections.image[rows], annotations.image[order])
    right = order[right]
    overlap = box_iou(detections.xywh[rows][left], annotations.xywh[right], annotations.crowd[right])
    agree = detections.label[rows][left] == annotations.label[right]
    overlaps: list[Floats] = []
    nearest_rows: list[Ints] = []
    for wanted in (agree, ~agree):
        best = np.zeros(len(rows))
        np.maximum.at(best, left[wanted], overlap[wanted])
        at = np.full(len(rows), -1, np.int64)
        is_best = wanted & (overlap == best[left]) & (overlap > 0)
        # Assigned backwards, so that the first of several equal ones stays.
        at[left[is_best][::-1]] = right[is_best][::-1]
        overlaps.append(best)
        nearest_rows.append(at)
    return overlaps[0], nearest_rows[0], overlaps[1], nearest_rows[1]


def missed_annotations(table: MatchTable, found: pd.DataFrame, *, confidence: float = 0.0) -> Ints:
    """Rows of counted objects that no detection at or above a confidence true positives at IoU .5."""
    a = table.areas.index("all")
    true_positives = found[(found["outcome"] == "true_positive") & (found["confidence"] >= confidence)]
    missing = ~table.annotation_ignored[:, a]
    missing[true_positives["partner"].to_numpy()] = False
    return np.flatnonzero(missing).astype(np.int64)


def decompose(
    table: MatchTable, found: pd.DataFrame, *, confidence: float, images: Bools | None = None
) -> pd.DataFrame:
    """Errors by type: count at or above a confidence (missed: objects with neither a hit nor a near thing), and what AP50 would gain if the whole type were repaired (delta_ap50).

    Mending drops backgrounds, duplicates and what is wrong in both ways; turns the most confident of the detections that only miss an
    object's place or class into its hit and drops the others; and takes objects that no detection came near out of the count. Equal to
    tidecv (`TIDERun.fix_main_errors`) but for two things: detections within crowds are no errors here, and classes without an object
    have no AP, as in COCO. delta_ap50 is NaN where AP50 is below MIN_AP_FOR_DELTAS. images: mask of a slice.
    """
    counted = ~table.annotation_ignored[:, table.areas.index("all")]
    if images is not None:
        found = found[images[found["image"].to_numpy(np.int64)]]
        counted = counted & images[table.annotation_image]
    # Mending a class moves a detection to another class: rank all of them by confidence, not class by class.
    found = found.sort_values("confidence", ascending=False, kind="stable")
    positives = np.bincount(table.annotation_label[counted], minlength=table.n_classes)
    labels, outcome, partner = (found[name].to_numpy() for name in ("label", "outcome", "partner"))
    true_positive = outcome == "true_positive"
    base = _ap50(true_positive, ~true_positive, labels, positives, positives > 0)
    enough = base >= MIN_AP_FOR_DELTAS
    free = counted.copy()
    free[partner[true_positive]] = False
    nearly = np.isin(outcome, ["location", "class"])
    # One detection mends an object, whichever way it errs, as in TIDE.
    fixable = _first_of_each(nearly & np.append(free, False)[partner], partner)
    never = free.copy()
    never[partner[nearly]] = False
    shown = found["confidence"].to_numpy() >= confidence
    unseen = counted.copy()
    unseen[partner[(true_positive | nearly) & shown]] = False
    records = []
    for kind in TYPES:
        if kind == "missed":
            left = positives - np.bincount(table.annotation_label[never], minlength=table.n_classes)
            repaired, count = (
                _ap50(true_positive, ~true_positive, labels, left, positives > 0),
                int(unseen.sum()),
            )
        else:
            of_kind = outcome == kind
            fixed = fixable & of_kind
            new_labels = labels.copy()
            new_labels[fixed] = table.annotation_label[partner[fixed]]
            repaired = _ap50(
                true_positive | fixed, ~true_positive & ~of_kind, new_labels, positives, positives > 0
            )
            count = int((of_kind & shown).sum())
        delta = max(0.0, repaired - base) if enough else float("nan")
        records.append({"type": kind, "count": count, "delta_ap50": delta})
    return pd.DataFrame(records)


def _first_of_each(wanted: Bools, partner: Ints) -> Bools:
    """The first wanted detection for each object it came near to."""
    rows = np.flatnonzero(wanted)
    _, first = np.unique(partner[rows], return_index=True)
    chosen = np.zeros(len(wanted), bool)
    chosen[rows[first]] = True
    return chosen


def _ap50(true_positive: Bools, miss: Bools, labels: Ints, positives: Ints, classes: Bools) -> float:
    """Mean over the classes; one whose objects were all taken out counts 0 as long as it has detections."""
    values = []
    for label in np.flatnonzero(classes):
        mine = labels == label
        if positives[label] > 0:
            values.append(
                interpolated(true_positive[mine, None], miss[mine, None], int(positives[label]))[0][0]
            )
        elif (true_positive | miss)[mine].any():
            values.append(0.0)
    return float(np.mean(values)) if values else float("nan")
