"""What AP50 would be with one difference: image size, object size, or the rule that boxes are drawn by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diagnostics.domain import SIZE_EDGES, Domain
from diagnostics.intervals import MIN_GROUPS, ApBootstrap, bootstrap_weights
from diagnostics.matching import Bools, Detections, Floats, match
from diagnostics.precision import accumulate, mean

# In-domain recall of a size bin is not measured from fewer annotations than this.
MIN_BIN = 10
# Share of real-world annotations in measured bins below which sizes cannot be matched.
MIN_SUPPORT = 0.5
# Shares of a smaller gap are mostly noise.
SMALLEST_GAP = 0.05
# Sizes within a quarter of each other count as the same. Inference on images enlarged four times takes
# sixteen times as long, so no factor goes beyond that.
SAME_SIZE = 1.25
MAX_FACTOR = 4.0
# Fewer pairs of a detection and an annotation give no typical ratio of their sides; each half of the clips
# needs MIN_HALF_PAIRS of them.
MIN_PAIRS = 20
MIN_HALF_PAIRS = 5


@dataclass(frozen=True)
class Recovery:
    """How much of the gap to in-domain AP50 one change recovers.

    name: name of the change
    before, after: AP50 without and with the change
    share: share of the gap that is recovered
    low, high: 95 % interval of the share by clip; None below MIN_GROUPS clips
    images: number of images it is measured on
    size_factor: how much larger the objects are in the network input
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
    """In-domain recall at the real-world distribution of sizes (direct standardisation over size bins).

    in_domain_recall: recall of all in-domain annotations
    matched_recall: in-domain recall at the real-world sizes
    real_world_recall: recall of the real-world annotations in the bins that are measured in-domain
    support: share of real-world annotations in those bins
    share: share of the recall gap that size alone explains; None below MIN_SUPPORT or SMALLEST_GAP
    """

    in_domain_recall: float
    matched_recall: float
    real_world_recall: float
    support: float
    share: float | None


@dataclass(frozen=True)
class Redrawn:
    """AP50 if every real-world detection is redrawn by the rule of its class, see `redraw`.

    The rules of each half of the clips are fitted on the other half.

    before, after: AP50 of the detections as they are and redrawn
    width, height: median ratio of annotation side to detection side, over the pairs
    pairs: number of detections that overlap an annotation
    """

    before: float
    after: float
    width: float
    height: float
    pairs: int


def ap50(domain: Domain) -> float:
    """AP at IoU 0.5 of a domain; NaN without annotations."""
    return mean(accumulate(domain.table)[0][:, domain.table.bit(0.5)])


# Six parameters: two states of the images, what they are compared with, and how the interval is drawn.
def recovery(
    name: str,
    before: Domain,
    after: Domain,
    in_domain_ap50: float,
    *,
    size_factor: float = 1.0,
    seed: int,
    level: float = 0.95,
) -> Recovery:
    """Measure the share of the gap to in-domain AP50 that a change of the same images recovers.

    Parameters
    ----------
    name
        Name of the change.
    before, after
        The images without and with the change; the same clips are drawn for both.
    in_domain_ap50
        AP50 in-domain.
    size_factor
        How much larger the objects are in the network input.
    seed
        Seed of the bootstrap.
    level
        Of the interval.

    Returns
    -------
    Recovery
    """
    first, second = (ApBootstrap(domain.table, domain.interval_units) for domain in (before, after))
    count = len(first.groups)
    ones = np.ones((1, count), np.int32)
    start, end = float(first(ones)[0]), float(second(ones)[0])
    # The gap on these images may be smaller than on all of the domain.
    gap = max(in_domain_ap50 - start, SMALLEST_GAP)
    low = high = None
    if count >= MIN_GROUPS:
        weights, tail = bootstrap_weights(np.random.default_rng(seed), count), (1 - level) / 2
        low, high = (
            float(q) / gap for q in np.nanquantile(second(weights) - first(weights), [tail, 1 - tail])
        )
    return Recovery(
        name, start, end, (end - start) / gap, low, high, len(before.labelled_images), size_factor
    )


def size_factors(in_domain: Domain, real_world: Domain) -> tuple[float, float]:
    """How much to enlarge and to shrink real-world images, so that one of the two has in-domain object sizes.

    That one brings the median object to its in-domain size, by at most MAX_FACTOR. The other, 2 or 1/2, is
    the control.
    """
    in_domain_side, real_world_side = (
        float(np.median(domain.network_sides)) if len(domain.network_sides) else 1.0
        for domain in (in_domain, real_world)
    )
    factor = float(np.clip(in_domain_side / max(real_world_side, 1e-9), 1 / MAX_FACTOR, MAX_FACTOR))
    larger = factor if factor > SAME_SIZE else 2.0
    smaller = factor if factor < 1 / SAME_SIZE else 0.5
    return larger, smaller


def _detected_annotations(domain: Domain, confidence: float) -> Bools:
    """Mask of the annotations that a detection at or above a confidence matches at IoU 0.5."""
    true_positives = domain.outcomes[
        (domain.outcomes["outcome"] == "true_positive") & (domain.outcomes["confidence"] >= confidence)
    ]
    detected = np.zeros(len(domain.annotation_arrays.image), bool)
    detected[true_positives["partner"].to_numpy()] = True
    return detected


def size_match(in_domain: Domain, real_world: Domain, confidence: float) -> SizeMatch:
    """Recall of each size in-domain, weighted by how often the size occurs in the real world.

    Parameters
    ----------
    in_domain, real_world
        The labelled domains.
    confidence
        Threshold of recall.

    Returns
    -------
    SizeMatch
    """
    edges = np.array(SIZE_EDGES[1:-1])
    in_domain_bin, real_world_bin = (
        np.searchsorted(edges, domain.network_sides) for domain in (in_domain, real_world)
    )
    in_domain_detected, real_world_detected = (
        _detected_annotations(domain, confidence) for domain in (in_domain, real_world)
    )
    in_domain_count = np.bincount(in_domain_bin, minlength=len(edges) + 1)
    detected_count = np.bincount(in_domain_bin, in_domain_detected, minlength=len(edges) + 1)
    recall = detected_count / np.maximum(in_domain_count, 1)
    measured = in_domain_count >= MIN_BIN
    weight = np.bincount(real_world_bin, minlength=len(edges) + 1).astype(float)
    support = float(weight[measured].sum() / max(weight.sum(), 1))
    in_domain_recall = float(in_domain_detected.mean()) if len(in_domain_detected) else float("nan")
    # The comparison is over the sizes that both domains have.
    comparable = measured[real_world_bin]
    real_world_recall = float(real_world_detected[comparable].mean()) if comparable.any() else float("nan")
    matched = (
        float((recall * weight * measured).sum() / max((weight * measured).sum(), 1))
        if support > 0
        else float("nan")
    )
    gap = in_domain_recall - real_world_recall
    share = (in_domain_recall - matched) / gap if support >= MIN_SUPPORT and gap >= SMALLEST_GAP else None
    return SizeMatch(in_domain_recall, matched, real_world_recall, support, share)


def stretch(boxes: Floats, width: float, height: float) -> Floats:
    """Boxes (n, 4), xywh, stretched about their centres."""
    centre = boxes[:, :2] + boxes[:, 2:] / 2
    sides = boxes[:, 2:] * [width, height]
    return np.column_stack([centre - sides / 2, sides])


def redraw(real_world: Domain, *, seed: int) -> Redrawn | None:
    """Redraw detections by the rule of the annotations, and match them again.

    A rule is, for each class, one factor per side and one offset of the middle in units of the sides: a red
    lamp is at the top of its housing, a green one at the bottom. If boxes are only drawn by another rule, it
    corrects them all; if the detector misplaces them, it does not.

    Parameters
    ----------
    real_world
        A labelled domain.
    seed
        Seed of the split into halves.

    Returns
    -------
    Redrawn or None
        None where fewer than MIN_PAIRS detections overlap an annotation, or fewer than MIN_HALF_PAIRS of a
        half.
    """
    pairs = real_world.outcomes[
        (real_world.outcomes["nearest_iou"] > 0.1)
        & (real_world.outcomes["partner"] >= 0)
        & real_world.outcomes["outcome"].isin(["true_positive", "location"])
    ]
    # One detection for each annotation, the most confident.
    pairs = pairs.sort_values("confidence", ascending=False, kind="stable").drop_duplicates("partner")
    # A rule for the sides of upright boxes says nothing about rotated ones.
    if len(pairs) < MIN_PAIRS or real_world.detection_arrays.rotated is not None:
        return None
    arrays = real_world.detection_arrays
    annotated = real_world.annotation_arrays.xywh[pairs["partner"].to_numpy()]
    detected = arrays.xywh[pairs["row"].to_numpy()]
    sides = np.maximum(detected[:, 2:], 1e-6)
    ratio = annotated[:, 2:] / sides
    offset = (annotated[:, :2] + annotated[:, 2:] / 2 - detected[:, :2] - detected[:, 2:] / 2) / sides
    rules, labels = np.column_stack([ratio, offset]), arrays.label[pairs["row"].to_numpy()]
    groups = np.unique(real_world.interval_units)
    # A single clip is split by image. That favours the hypothesis, so a rejection still holds.
    unit = real_world.interval_units if len(groups) > 1 else np.arange(len(real_world.labelled_images))
    first_half = np.isin(unit, np.random.default_rng(seed).permutation(np.unique(unit))[::2])
    redrawn = arrays.xywh.copy()
    for fold in (first_half, ~first_half):
        outside = ~fold[pairs["image"].to_numpy()]
        if outside.sum() < MIN_HALF_PAIRS:
            return None
        inside = fold[arrays.image]
        for label in np.unique(arrays.label[inside]):
            of_class = outside & (labels == label)
            # A class with few pairs is drawn as all classes together.
            enough = of_class if of_class.sum() >= MIN_HALF_PAIRS else outside
            width, height, right, down = np.median(rules[enough], axis=0)
            chosen = inside & (arrays.label == label)
            moved = arrays.xywh[chosen]
            moved[:, :2] += moved[:, 2:] * [right, down]
            redrawn[chosen] = stretch(moved, width, height)
    table = match(
        real_world.annotation_arrays,
        Detections(arrays.image, arrays.label, redrawn, arrays.confidence),
        n_images=len(real_world.labelled_images),
        n_classes=len(real_world.classes),
    )
    width, height = np.median(ratio, axis=0)
    after = mean(accumulate(table)[0][:, table.bit(0.5)])
    return Redrawn(ap50(real_world), after, float(width), float(height), len(pairs))


def loose_ap(domain: Domain, iou: float) -> float:
    """AP of a domain when a smaller overlap counts as a match, IoU 0.1 or 0.3."""
    table = domain.loose_table
    return mean(accumulate(table)[0][:, table.bit(iou)])
