"""What the gap would be if one thing were different: how much of it each suspect could explain, from tables alone or from a second pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diagnostics.domain import SIZE_EDGES, Domain
from diagnostics.intervals import MIN_GROUPS, ApBootstrap, draws
from diagnostics.matching import Bools, Detections, Floats, match
from diagnostics.precision import accumulate, mean

# A size bin with fewer home objects than this says nothing about how home does at that size.
MIN_BIN = 10
# Below this home support of the real world's sizes, sizes cannot be matched.
MIN_SUPPORT = 0.5
SMALLEST_GAP = 0.05
# Sizes within a quarter of each other are the same; pictures shown more than four times as large cost sixteen times as much to look at.
SAME_SIZE = 1.25
MAX_FACTOR = 4.0


@dataclass(frozen=True)
class Recovery:
    """AP50 of a domain before and after one change, and the share of the gap to home that the change closes.

    low, high: interval of the share by clip; None below MIN_GROUPS. images: pictures it was measured on. size_factor: how much larger
    the change shows the objects to the network.
    """

    name: str
    before: float
    after: float
    share: float
    low: float | None
    high: float | None
    images: int
    size_factor: float = 1.0


@dataclass(frozen=True)
class SizeMatch:
    """Recall at home if its objects had the real world's sizes (direct standardisation over size bins).

    share: of the recall gap that size alone explains; None where home has too few objects of those sizes. support: share of the real
    world's objects whose size home covers.
    """

    home_recall: float
    matched_recall: float
    away_recall: float
    support: float
    share: float | None


@dataclass(frozen=True)
class Redrawn:
    """AP50 if every detection in the real world were stretched by one factor per side, fitted on the other half of the clips.

    width, height: median object side over detection side among detections that overlap an object at all.
    """

    before: float
    after: float
    width: float
    height: float
    pairs: int


def ap50(domain: Domain) -> float:
    """AP at IoU .5 of a domain; NaN without objects."""
    return mean(accumulate(domain.table)[0][:, domain.table.bit(0.5)])


def recovery(
    name: str, before: Domain, after: Domain, home_ap50: float, *, size_factor: float = 1.0, seed: int
) -> Recovery:
    """Share of the gap that showing the same pictures differently closes; the same clips are drawn for both."""
    first, second = (
        ApBootstrap(before.table, before.group_numbers),
        ApBootstrap(after.table, after.group_numbers),
    )
    count = len(first.groups)
    whole = np.ones((1, count), np.int32)
    start, end = float(first(whole)[0]), float(second(whole)[0])
    # On the pictures looked at twice the gap may be smaller than on all; below this, shares of it mean nothing.
    gap = max(home_ap50 - start, SMALLEST_GAP)
    low = high = None
    if count >= MIN_GROUPS:
        weights = draws(np.random.default_rng(seed), count)
        low, high = (float(q) / gap for q in np.nanquantile(second(weights) - first(weights), [0.025, 0.975]))
    return Recovery(
        name, start, end, (end - start) / gap, low, high, len(before.labelled_pictures), size_factor
    )


def size_factors(home: Domain, away: Domain) -> tuple[float, float]:
    """How much larger and how much smaller to show the real world's pictures, so that one of the two looks has the sizes of home.

    The factor that brings the median object to home's, at most MAX_FACTOR, on its side; 2 or 1/2 on the other, as the control.
    """
    sides = [np.median(domain.network_sides) if len(domain.network_sides) else 1.0 for domain in (home, away)]
    wanted = float(np.clip(sides[0] / max(sides[1], 1e-9), 1 / MAX_FACTOR, MAX_FACTOR))
    larger = wanted if wanted > SAME_SIZE else 2.0
    smaller = wanted if wanted < 1 / SAME_SIZE else 0.5
    return larger, smaller


def found_objects(domain: Domain, confidence: float) -> Bools:
    """For each annotated object, whether a detection at or above a confidence hits it at IoU .5."""
    hits = domain.outcomes[
        (domain.outcomes["outcome"] == "hit") & (domain.outcomes["confidence"] >= confidence)
    ]
    found = np.zeros(len(domain.object_arrays.image), bool)
    found[hits["partner"].to_numpy()] = True
    return found


def size_match(home: Domain, away: Domain, confidence: float) -> SizeMatch:
    """Recall by size at home, weighted by how often each size occurs in the real world."""
    bins = np.array(SIZE_EDGES[1:-1])
    home_bin, away_bin = np.searchsorted(bins, home.network_sides), np.searchsorted(bins, away.network_sides)
    home_found, away_found = found_objects(home, confidence), found_objects(away, confidence)
    home_count = np.bincount(home_bin, minlength=len(bins) + 1)
    rate = np.bincount(home_bin, home_found, minlength=len(bins) + 1) / np.maximum(home_count, 1)
    usable = home_count >= MIN_BIN
    weight = np.bincount(away_bin, minlength=len(bins) + 1).astype(float)
    support = float(weight[usable].sum() / max(weight.sum(), 1))
    home_recall = float(home_found.mean()) if len(home_found) else float("nan")
    # The comparison is over the sizes both have.
    both = usable[away_bin]
    away_recall = float(away_found[both].mean()) if both.any() else float("nan")
    matched = (
        float((rate * weight * usable).sum() / max((weight * usable).sum(), 1))
        if support > 0
        else float("nan")
    )
    gap = home_recall - away_recall
    share = (home_recall - matched) / gap if support >= MIN_SUPPORT and gap >= SMALLEST_GAP else None
    return SizeMatch(home_recall, matched, away_recall, support, share)


def stretch(boxes: Floats, width: float, height: float) -> Floats:
    """Boxes (n, 4) xywh stretched about their centres."""
    centre = boxes[:, :2] + boxes[:, 2:] / 2
    sides = boxes[:, 2:] * [width, height]
    return np.column_stack([centre - sides / 2, sides])


def redraw(away: Domain, *, seed: int) -> Redrawn | None:
    """Stretch detections to the annotators' habit and match again. None where fewer than 20 detections overlap an object.

    If boxes are merely drawn by another rule, one factor per side mends them all; if the model misplaces them, it does not.
    """
    near = away.outcomes[
        (away.outcomes["nearest_iou"] > 0.1)
        & (away.outcomes["partner"] >= 0)
        & away.outcomes["outcome"].isin(["hit", "location"])
    ]
    # One detection an object, the most confident.
    near = near.sort_values("confidence", ascending=False, kind="stable").drop_duplicates("partner")
    if len(near) < 20:
        return None
    arrays = away.detection_arrays
    ratio = away.object_arrays.xywh[near["partner"].to_numpy(), 2:] / np.maximum(
        arrays.xywh[near["row"].to_numpy(), 2:], 1e-6
    )
    groups = np.unique(away.group_numbers)
    # A single clip is split by picture: optimistic for the suspect, so a rejection still holds.
    unit = away.group_numbers if len(groups) > 1 else np.arange(len(away.labelled_pictures))
    first_half = np.isin(unit, np.random.default_rng(seed).permutation(np.unique(unit))[::2])
    changed = arrays.xywh.copy()
    for fold in (first_half, ~first_half):
        others = ~fold[near["image"].to_numpy()]
        if others.sum() < 5:
            return None
        mine = fold[arrays.image]
        changed[mine] = stretch(arrays.xywh[mine], *np.median(ratio[others], axis=0))
    moved = Detections(arrays.image, arrays.label, changed, arrays.confidence)
    table = match(
        away.object_arrays, moved, n_images=len(away.labelled_pictures), n_classes=len(away.classes)
    )
    width, height = np.median(ratio, axis=0)
    return Redrawn(
        ap50(away), mean(accumulate(table)[0][:, table.bit(0.5)]), float(width), float(height), len(near)
    )


def loose_ap(domain: Domain, iou: float) -> float:
    """AP when a looser overlap counts as a match (.1 or .3)."""
    table = domain.loose_table
    return mean(accumulate(table)[0][:, table.bit(iou)])
