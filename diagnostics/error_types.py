"""Why each detection is wrong, and what mending that kind of error would be worth (after TIDE, Bolya et al., ECCV 2020)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from diagnostics.matching import Bools, Detections, Floats, Ints, MatchTable, Objects, box_iou, pair_up
from diagnostics.precision import interpolated

# TIDE's bands: at least this IoU is a match, at most this is background.
FOREGROUND = 0.5
BACKGROUND = 0.1
TYPES = ("class", "location", "both", "duplicate", "background", "missed")
# Where AP50 is below this, oracle differences say nothing: read the counts and the maximum recall instead.
MIN_AP_FOR_DELTAS = 0.05


def outcomes(table: MatchTable, objects: Objects, detections: Detections) -> pd.DataFrame:
    """Every counted detection at IoU .5, in the table's order: row, image, label, confidence, outcome, partner.

    outcome: "hit" or one of TYPES but "missed". partner: row of the object it hits or comes nearest to, -1 for background.
    nearest_iou: IoU with that object.
    """
    hit, counted = table.flags(FOREGROUND)
    partners = np.full(len(table.row), -1)
    partners[table.claim] = table.partner
    rows, hit = table.row[counted].astype(np.int64), hit[counted]
    same, same_row, other, other_row = nearest(detections, objects, rows)
    outcome = np.where(np.maximum(same, other) > BACKGROUND, "both", "background").astype(object)
    outcome[same >= FOREGROUND] = "duplicate"
    outcome[(other >= FOREGROUND) & (same < FOREGROUND)] = "class"
    outcome[(same > BACKGROUND) & (same < FOREGROUND)] = "location"
    outcome[hit] = "hit"
    use_other = np.isin(outcome, ["class"]) | ((outcome == "both") & (other > same))
    partner = np.where(use_other, other_row, same_row)
    partner = np.where(outcome == "background", -1, partner)
    partner[hit] = partners[counted][hit]
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


def nearest(detections: Detections, objects: Objects, rows: Ints) -> tuple[Floats, Ints, Floats, Ints]:
    """For each detection: highest IoU with an object of its class, that object's row, and the same over other classes (0 and -1: none)."""
    order = np.argsort(objects.image, kind="stable")
    left, right = pair_up(detections.image[rows], objects.image[order])
    right = order[right]
    overlap = box_iou(detections.xywh[rows][left], objects.xywh[right], objects.crowd[right])
    agree = detections.label[rows][left] == objects.label[right]
    overlaps: list[Floats] = []
    nearest_rows: list[Ints] = []
    for wanted in (agree, ~agree):
        best = np.zeros(len(rows))
        np.maximum.at(best, left[wanted], overlap[wanted])
        at = np.full(len(rows), -1, np.int64)
        is_best = wanted & (overlap == best[left]) & (overlap > 0)
        at[left[is_best]] = right[is_best]
        overlaps.append(best)
        nearest_rows.append(at)
    return overlaps[0], nearest_rows[0], overlaps[1], nearest_rows[1]


def missed_objects(table: MatchTable, found: pd.DataFrame, *, confidence: float = 0.0) -> Ints:
    """Rows of counted objects that no detection at or above a confidence hits at IoU .5."""
    a = table.areas.index("all")
    hits = found[(found["outcome"] == "hit") & (found["confidence"] >= confidence)]
    missing = ~table.object_ignored[:, a]
    missing[hits["partner"].to_numpy()] = False
    return np.flatnonzero(missing).astype(np.int64)


def decompose(table: MatchTable, found: pd.DataFrame, *, confidence: float) -> pd.DataFrame:
    """Errors by type: count at or above a confidence, and what AP50 would gain if the whole type were mended (delta_ap50).

    Mending drops backgrounds and duplicates; turns a misplaced or misclassified detection into a hit if its object is still free, else
    drops it; and takes missed objects out of the count. delta_ap50 is NaN where AP50 is below MIN_AP_FOR_DELTAS.
    """
    a = table.areas.index("all")
    # Mending a class moves a detection to another class: rank all of them by confidence, not class by class.
    found = found.sort_values("confidence", ascending=False, kind="stable")
    counted = ~table.object_ignored[:, a]
    positives = np.bincount(table.object_label[counted], minlength=table.n_classes)
    hit = (found["outcome"] == "hit").to_numpy()
    labels, outcome, partner = (
        found["label"].to_numpy(),
        found["outcome"].to_numpy(),
        found["partner"].to_numpy(),
    )
    base = _ap50(hit, ~hit, labels, positives)
    taken = set(partner[hit].tolist())
    missed = missed_objects(table, found)
    # An object that a misplaced or misclassified detection would have found is that detection's error, not a miss.
    reachable = set(partner[np.isin(outcome, ["location", "class"])].tolist())
    never = np.array([row for row in missed if row not in reachable], np.int64)
    at_confidence = missed_objects(table, found, confidence=confidence)
    records = []
    for kind in TYPES:
        if kind == "missed":
            fewer = positives - np.bincount(table.object_label[never], minlength=table.n_classes)
            mended, count = _ap50(hit, ~hit, labels, fewer), len(at_confidence)
        else:
            of_kind = outcome == kind
            fixed = (
                first_of_each(of_kind, partner, taken)
                if kind in ("location", "class")
                else np.zeros(len(hit), bool)
            )
            new_labels = labels.copy()
            new_labels[fixed] = table.object_label[partner[fixed]]
            mended, count = (
                _ap50(hit | fixed, ~hit & ~of_kind, new_labels, positives),
                int((of_kind & (found["confidence"].to_numpy() >= confidence)).sum()),
            )
        delta = max(0.0, mended - base) if base >= MIN_AP_FOR_DELTAS else float("nan")
        records.append({"type": kind, "count": int(count), "delta_ap50": delta})
    return pd.DataFrame(records)


def first_of_each(of_kind: Bools, partner: Ints, taken: set[int]) -> Bools:
    """The most confident detection of a kind for each object that nothing has hit yet."""
    chosen = np.zeros(len(of_kind), bool)
    seen = set(taken)
    for index in np.flatnonzero(of_kind):
        if int(partner[index]) not in seen:
            seen.add(int(partner[index]))
            chosen[index] = True
    return chosen


def _ap50(hit: Bools, miss: Bools, labels: Ints, positives: Ints) -> float:
    values = []
    for label in np.flatnonzero(positives > 0):
        mine = labels == label
        values.append(interpolated(hit[mine, None], miss[mine, None], int(positives[label]))[0][0])
    return float(np.mean(values)) if values else float("nan")
