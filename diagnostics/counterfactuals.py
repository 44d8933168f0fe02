"""What the gap would be if one thing were different: how much of it each hypothesis could explain, from tables alone or from a second pass."""

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
# Sizes within a quarter of each other are the same; images shown more than four times as large cost sixteen times as much to look at.
SAME_SIZE = 1.25
MAX_FACTOR = 4.0


@dataclass(frozen=True)
class Recovery:
    """AP50 of a domain before and after one change, and the share of the gap to home that the change closes.

    low, high: interval of the share by clip; None below MIN_GROUPS. images: images it was measured on. size_factor: how much larger
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
    """Recall in-domain if its objects had the real world's sizes (direct standardisation over size bins).

    share: of the recall gap that size alone explains; None where home has too few objects of those sizes. support: share of the real
    world's objects whose size home covers.
    """

    in_domain_recall: float
    matched_recall: float
    real_world_recall: float
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
    """AP at IoU 0.5 of a domain; NaN without objects."""
    return mean(accumulate(domain.table)[0][:, domain.table.bit(0.5)])


def recovery(
    name: str, before: Domain, after: Domain, in_domain_ap50: float, *, size_factor: float = 1.0, seed: int
) -> Recovery:
    """Share of the gap that showing the same images differently closes; the same clips are drawn for both."""
    first, second = (
        ApBootstrap(before.table, before.group_numbers),
        ApBootstrap(after.table, after.group_numbers),
    )
    count = len(first.groups)
    whole = np.ones((1, count), np.int32)
    start, end = float(first(whole)[0]), float(second(whole)[0])
    # On the images looked at twice the gap may be smaller than on all; below this, shares of it mean nothing.
    gap = max(in_domain_ap50 - start, SMALLEST_GAP)
    low = high = None
    if count >= MIN_GROUPS:
        weights = draws(np.random.default_rng(seed), count)
        low, high = (float(q) / gap for q in np.nanquantile(second(weights) - first(weights), [0.025, 0.975]))
    return Recovery(
        name, start, end, (end - start) / gap, low, high, len(before.labelled_images), size_factor
    )


def size_factors(in_domain: Domain, real_world: Domain) -> tuple[float, float]:
    """How much larger and how much smaller to show the real world's images, so that one of the two looks has the sizes of home.

    The factor that brings the median object to the in-domain, at most MAX_FACTOR, on its side; 2 or 1/2 on the other, as the control.
    """
    sides = [
        np.median(domain.network_sides) if len(domain.network_sides) else 1.0
        for domain in (in_domain, real_world)
    ]
    wanted = float(np.clip(sides[0] / max(sides[1], 1e-9), 1 / MAX_FACTOR, MAX_FACTOR))
    larger = wanted if wanted > SAME_SIZE else 2.0
    smaller = wanted if wanted < 1 / SAME_SIZE else 0.5
    return larger, smaller


def _detected_annotations(domain: Domain, confidence: float) -> Bools:
    """For each annotated object, whether a detection at or above a confidence true positives it at IoU .5."""
    true_positives = domain.outcomes[
        (domain.outcomes["outcome"] == "true_positive") & (domain.outcomes["confidence"] >= confidence)
    ]
    found = np.zeros(len(domain.annotation_arrays.image), bool)
    found[true_positives["partner"].to_numpy()] = True
    return found


def size_match(in_domain: Domain, real_world: Domain, confidence: float) -> SizeMatch:
    """Recall by size in-domain, weighted by how often each size occurs in the real world."""
    bins = np.array(SIZE_EDGES[1:-1])
    in_domain_bin, real_world_bin = (
        np.searchsorted(bins, in_domain.network_sides),
        np.searchsorted(bins, real_world.network_sides),
    )
    in_domain_found, real_world_found = (
        _detected_annotations(in_domain, confidence),
        _detected_annotations(real_world, confidence),
    )
    in_domain_count = np.bincount(in_domain_bin, minlength=len(bins) + 1)
    rate = np.bincount(in_domain_bin, in_domain_found, minlength=len(bins) + 1) / np.maximum(
        in_domain_count, 1
    )
    usable = in_domain_count >= MIN_BIN
    weight = np.bincount(real_world_bin, minlength=len(bins) + 1).astype(float)
    support = float(weight[usable].sum() / max(weight.sum(), 1))
    in_domain_recall = float(in_domain_found.mean()) if len(in_domain_found) else float("nan")
    # The comparison is over the sizes both have.
    both = usable[real_world_bin]
    real_world_recall = float(real_world_found[both].mean()) if both.any() else float("nan")
    matched = (
        float((rate * weight * usable).sum() / max((weight * usable).sum(), 1))
        if support > 0
        else float("nan")
    )
    gap = in_domain_recall - real_world_recall
    share = (in_domain_recall - matched) / gap if support >= MIN_SUPPORT and gap >= SMALLEST_GAP else None
    return SizeMatch(in_domain_recall, matched, real_world_recall, support, share)


def stretch(boxes: Floats, width: float, height: float) -> Floats:
    """Boxes (n, 4) xywh stretched about their centres."""
    centre = boxes[:, :2] + boxes[:, 2:] / 2
    sides = boxes[:, 2:] * [width, height]
    return np.column_stack([centre - sides / 2, sides])


def redraw(real_world: Domain, *, seed: int) -> Redrawn | None:
    """Stretch detections to the annotators' habit and match again. None where fewer than 20 detections overlap an object.

    If boxes are merely drawn by another rule, one factor per side mends them all; if the model misplaces them, it does not.
    """
    near = real_world.outcomes[
        (real_world.outcomes["nearest_iou"] > 0.1)
        & (real_world.outcomes["partner"] >= 0)
        & real_world.outcomes["outcome"].isin(["true_positive", "location"])
    ]
    # One detection an object, the most confident.
    near = near.sort_values("confidence", ascending=False, kind="stable").drop_duplicates("partner")
    if len(near) < 20:
        return None
    arrays = real_world.detection_arrays
    ratio = real_world.annotation_arrays.xywh[near["partner"].to_numpy(), 2:] / np.maximum(
        arrays.xywh[near["row"].to_numpy(), 2:], 1e-6
    )
    groups = np.unique(real_world.group_numbers)
    # A single clip is split by image: optimistic for the hypothesis, so a rejection still holds.
    unit = real_world.group_numbers if len(groups) > 1 else np.arange(len(real_world.labelled_images))
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
        real_world.annotation_arrays,
        moved,
        n_images=len(real_world.labelled_images),
        n_classes=len(real_world.classes),
    )
    width, height = np.median(ratio, axis=0)
    return Redrawn(
        ap50(real_world),
        mean(accumulate(table)[0][:, table.bit(0.5)]),
        float(width),
        float(height),
        len(near),
    )


def loose_ap(domain: Domain, iou: float) -> float:
    """AP when a looser overlap counts as a match (0.1 or 0.3)."""
    table = domain.loose_table
    return mean(accumulate(table)[0][:, table.bit(iou)])
