"""What a few labelled images say about all images of the same footage, helped by what the detector says on the unlabelled ones.

The regression estimator of survey sampling (Cochran 1977, chapter 7), which is the linear case of prediction-powered inference (Angelopoulos et
al. 2023, tuned as in PPI++, 2024): each measure is written as a mean over images (its jackknife or linearised values), these values are regressed on
what is known of every image, and the mean is moved by the regression to where all images lie. What is predicted may be wrong: then nothing is won and
nothing lost. The statement is about this footage, not about other footage like it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy.special import stdtrit

from diagnostics.domain import Domain
from diagnostics.intervals import LEVEL, MIN_GROUPS, ApBootstrap
from diagnostics.matching import Bools, Floats, Ints

# With fewer labelled images a regression on two predictors and a normal approximation of AP are both too rough.
MIN_LABELLED = 20
# With more, labels speak for themselves; the jackknife's cost grows with their square.
MAX_LABELLED = 500
# AP50 of fewer labelled objects than this has no shape to take a jackknife of.
MIN_ANNOTATIONS = 10
# What "to know it" means: five points either way, which is also what counts as harmless.
WANTED = 0.05
# Boxes below this are the tail kept for AP.
LOWEST = 0.05


@dataclass(frozen=True)
class Measure:
    """One number about all images of a domain. plain: from the labelled ones alone; value: with the unlabelled ones. Both with 95 % intervals.

    worth: how many times as many labels would have told as much without the unlabelled images. more: units to label so that the interval is
    WANTED either way, None where all there are would not do.
    """

    name: str
    plain: float
    plain_low: float
    plain_high: float
    value: float
    low: float
    high: float
    worth: float
    more: int | None


@dataclass(frozen=True)
class FewLabels:
    """unit: what was drawn for labelling as far as the table shows, "image" or "clip". note: why there are no measures, or what they rest on."""

    domain: str
    labelled: int
    images: int
    unit: str
    units: int
    measures: tuple[Measure, ...]
    note: str


def _known_of_images(domain: Domain) -> Floats:
    """What the detector says about every image, labelled or not, (n, 2): summed confidence and highest confidence of its boxes."""
    shown = domain.detections[domain.detections["confidence"] >= LOWEST]
    by_image = shown.groupby("image")["confidence"].agg(["sum", "max"])
    return by_image.reindex(domain.images["image"]).fillna(0.0).to_numpy(float)


def _values_of_images(domain: Domain, confidence: float) -> dict[str, tuple[float, Floats]]:
    """Measure -> (its value on the labelled images, one value an image whose mean differs from it only as images differ)."""
    table, count = domain.table, len(domain.labelled_images)
    true_positive, scored = table.flags(0.5)
    shown = (table.confidence >= confidence) & scored
    true_positives = np.bincount(table.image[shown & true_positive], minlength=count).astype(float)
    found = np.bincount(table.image[shown], minlength=count).astype(float)
    counted = table.annotation_image[~table.annotation_ignored[:, 0]]
    annotations = np.bincount(counted, minlength=count).astype(float)
    curve = ApBootstrap(table, np.arange(count))
    whole = float(curve(np.ones((1, count), np.int32))[0])
    without = curve(1 - np.eye(count, dtype=np.int32))
    result = {"AP50": (whole, whole + (count - 1) * (whole - without))}
    for name, top, bottom in (
        ("recall", true_positives, annotations),
        ("precision", true_positives, found),
        ("F1", 2 * true_positives, annotations + found),
    ):
        if bottom.sum() > 0:
            ratio = top.sum() / bottom.sum()
            result[name] = (ratio, ratio + (top - ratio * bottom) / bottom.mean())
    return result


def regress(values: Floats, known: Floats) -> tuple[Floats, Floats]:
    """Slopes (k,) of values (n,) on known (n, k), and leave-one-out residuals (n,), whose spread does not flatter the fit."""
    centred = known - known.mean(0)
    scale = centred.std(0)
    usable = scale > 1e-9
    slopes = np.zeros(known.shape[1])
    design = np.column_stack([np.ones(len(values)), centred[:, usable] / scale[usable]])
    inverse = np.linalg.pinv(design.T @ design)
    fitted = inverse @ design.T @ values
    slopes[usable] = fitted[1:] / scale[usable]
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    return slopes, (values - design @ fitted) / np.maximum(1 - leverage, 1e-3)


def _spread_of_mean(residuals: Floats, unit: Ints) -> float:
    """Standard deviation that the mean of residuals (n,) would have if units were drawn from endlessly many."""
    sums = np.bincount(unit, residuals - residuals.mean())
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(residuals))


def sampled(domain: Domain) -> tuple[str, bool]:
    """What was drawn for labelling, "image" or "clip", and whether clips were labelled whole.

    Random images fall into sum(1 - (1 - n_c / N) ** n) clips on average; people who label clip by clip, or the start of a video, reach far fewer.
    """
    by_clip = domain.images.groupby("group")["labelled"].agg(["sum", "size"]).to_numpy(float)
    labelled, size = by_clip.T
    if len(by_clip) == len(domain.images):
        return "image", False
    reached = labelled > 0
    if not reached.all() and labelled[reached].sum() >= 0.9 * size[reached].sum():
        return "clip", True
    expected = (1 - (1 - size / size.sum()) ** labelled.sum()).sum()
    return "image" if reached.sum() >= 0.8 * expected else "clip", False


def few_labels(domain: Domain, confidence: float) -> FewLabels | None:
    """Measures of a domain of which some images are labelled; None where all or none are. confidence: threshold of recall, precision and F1."""
    mask: Bools = domain.labelled
    count, total = int(mask.sum()), len(mask)
    if count in (0, total):
        return None
    unit, whole = sampled(domain)
    groups = domain.images["group"].to_numpy(str)
    number = np.arange(count) if unit == "image" else domain.group_numbers
    units, all_units = len(np.unique(number)), total if unit == "image" else len(np.unique(groups))

    def nothing(note: str) -> FewLabels:
        return FewLabels(domain.name, count, total, unit, units, (), note)

    if count < MIN_LABELLED:
        return nothing(f"{count} labelled images: {MIN_LABELLED} are needed")
    if len(domain.annotations) < MIN_ANNOTATIONS:
        return nothing(f"{len(domain.annotations)} labelled objects: {MIN_ANNOTATIONS} are needed")
    if count > MAX_LABELLED:
        return nothing(f"{count:,} labelled images are enough: the interval by clip stands")
    if unit == "clip" and units < MIN_GROUPS:
        return nothing(
            f"whole clips were labelled, {units} of {all_units}: label a few images of every clip, or {MIN_GROUPS} clips"
        )
    known = _known_of_images(domain)
    # Clips of which only a part is labelled vary within as well, which drawing all of them would not end.
    left = 1 - units / all_units if unit == "image" or whole else 1.0
    measures = []
    for name, (plain, values) in _values_of_images(domain, confidence).items():
        slopes, residuals = regress(values, known[mask])
        moved = plain + float(slopes @ (known.mean(0) - known[mask].mean(0)))
        before, after = _spread_of_mean(values, number), _spread_of_mean(residuals, number)
        if not np.isfinite(values).all() or before == 0:
            # All in one image, or every labelled image alike: how they scatter cannot be told from these.
            continue
        if after >= before:
            # The detector's word helps nothing here: the labels alone are the estimate.
            moved, after = plain, before
        reach = float(stdtrit(units - 1, (1 + LEVEL) / 2))
        half, half_before = reach * after * np.sqrt(left), reach * before * np.sqrt(left)
        measures.append(
            Measure(
                name,
                plain,
                *_clipped(plain, half_before),
                min(1.0, max(0.0, moved)),
                *_clipped(moved, half),
                worth=float((before / max(after, 1e-9)) ** 2),
                more=more_units(reach * after * np.sqrt(units), units, all_units, drawn_whole=left < 1),
            )
        )
    note = f"taken as {count} images drawn at random from this footage" if unit == "image" else ""
    if unit == "clip":
        note = f"taken as {units} clips drawn at random from the {all_units} of this footage"
    return FewLabels(domain.name, count, total, unit, units, tuple(measures), note)


def _clipped(value: float, half: float) -> tuple[float, float]:
    """An interval within [0, 1]."""
    return min(1.0, max(0.0, value - half)), min(1.0, max(0.0, value + half))


def more_units(spread: float, units: int, all_units: int, *, drawn_whole: bool = True) -> int | None:
    """Units to label beyond those there are until the half-width, spread * sqrt((1 - n / N) / n), is WANTED; without the finite N where units are
    labelled in part only. None where there are too few units.
    """
    total = all_units if drawn_whole else np.inf
    needed = ceil(spread**2 / (WANTED**2 + spread**2 / total))
    return max(0, needed - units) if needed <= all_units else None
