"""Measures of all images of some footage from a few labelled ones and the detections in the unlabelled ones.

The regression estimator of survey sampling (Cochran 1977, chapter 7), which is the linear case of
prediction-powered inference (Angelopoulos et al. 2023, tuned as in PPI++, 2024). Each measure is written as a
mean over images of its jackknife or linearised values. These values are regressed on the detections of each
image, which are known for all images, and the mean is moved along the regression from the labelled images to
all images. If the detections predict nothing, the estimate is that of the labels alone. It holds for this
footage, not for other footage like it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from scipy.special import stdtrit

from diagnostics.domain import Domain
from diagnostics.intervals import LEVEL, MIN_GROUPS, ApBootstrap
from diagnostics.matching import Floats, Ints

# With fewer labelled images, a regression on two predictors and a normal approximation of AP are too rough.
MIN_LABELLED = 20
# With more, the labels alone are enough, and the cost of the jackknife grows with their square.
MAX_LABELLED = 500
# The jackknife of AP50 is not meaningful with fewer annotations.
MIN_ANNOTATIONS = 10
# Half-width of an interval that counts as precise enough: five points, the drop that counts as harmless.
TARGET_HALF_WIDTH = 0.05
# Detections below this are the tail kept for AP.
LOWEST = 0.05


@dataclass(frozen=True)
class Measure:
    """One measure over all images of a domain.

    name: name of the measure
    plain: estimate from the labelled images alone
    plain_low, plain_high: its 95 % interval
    value: estimate that uses the unlabelled images too
    low, high: its 95 % interval
    worth: how many times as many labels give the same interval without the unlabelled images
    more: units to label until the half-width is TARGET_HALF_WIDTH; None where even all of them are too few
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
    """The measures of one partly labelled domain.

    domain: name of the domain
    labelled, images: number of labelled images and of all images
    unit: what was sampled for labelling as far as the images show, "image" or "clip"
    units: number of labelled units
    measures: the measures; empty where note gives the reason
    note: what the measures assume, or why there are none
    """

    domain: str
    labelled: int
    images: int
    unit: str
    units: int
    measures: tuple[Measure, ...]
    note: str


@dataclass(frozen=True)
class _Sample:
    """Which part of a domain is labelled.

    unit: "image" or "clip"
    number: number of each labelled image's unit
    units, all_units: number of labelled units and of all units
    finite: whether the labelled units are labelled completely, so that labelling all of them would leave no
        error
    """

    unit: str
    number: Ints
    units: int
    all_units: int
    finite: bool


def _predictors(domain: Domain) -> Floats:
    """Summed and highest confidence of the detections in every image, labelled or not, (n, 2)."""
    detections = domain.detections[domain.detections["confidence"] >= LOWEST]
    by_image = detections.groupby("image")["confidence"].agg(["sum", "max"])
    return by_image.reindex(domain.images["image"]).fillna(0.0).to_numpy(float)


def _values_of_images(domain: Domain, confidence: float) -> dict[str, tuple[float, Floats]]:
    """Measure -> its value on the labelled images, and one value an image, (n,), with (about) that mean."""
    table, count = domain.table, len(domain.labelled_images)
    is_true_positive, counted = table.flags(0.5)
    shown = (table.confidence >= confidence) & counted
    true_positives = np.bincount(table.image[shown & is_true_positive], minlength=count).astype(float)
    detections = np.bincount(table.image[shown], minlength=count).astype(float)
    rows = table.annotation_image[~table.annotation_ignored[:, 0]]
    annotations = np.bincount(rows, minlength=count).astype(float)
    ap50 = ApBootstrap(table, np.arange(count))
    of_all = float(ap50(np.ones((1, count), np.int32))[0])
    without_one = ap50(1 - np.eye(count, dtype=np.int32))
    result = {"AP50": (of_all, of_all + (count - 1) * (of_all - without_one))}
    for name, numerator, denominator in (
        ("recall", true_positives, annotations),
        ("precision", true_positives, detections),
        ("F1", 2 * true_positives, annotations + detections),
    ):
        if denominator.sum() > 0:
            ratio = numerator.sum() / denominator.sum()
            result[name] = (ratio, ratio + (numerator - ratio * denominator) / denominator.mean())
    return result


def regress(values: Floats, predictors: Floats) -> tuple[Floats, Floats]:
    """Slopes (k,) of values (n,) on predictors (n, k), and leave-one-out residuals (n,).

    Ordinary residuals would understate the spread, because the regression is fitted to them.
    """
    centred = predictors - predictors.mean(0)
    scale = centred.std(0)
    usable = scale > 1e-9
    slopes = np.zeros(predictors.shape[1])
    design = np.column_stack([np.ones(len(values)), centred[:, usable] / scale[usable]])
    inverse = np.linalg.pinv(design.T @ design)
    fitted = inverse @ design.T @ values
    slopes[usable] = fitted[1:] / scale[usable]
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    return slopes, (values - design @ fitted) / np.maximum(1 - leverage, 1e-3)


def _standard_error(residuals: Floats, unit: Ints) -> float:
    """Standard error of the mean of residuals (n,) if units were sampled from an infinite population."""
    sums = np.bincount(unit, residuals - residuals.mean())
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(residuals))


def sampling_unit(domain: Domain) -> tuple[str, bool]:
    """What was sampled for labelling, "image" or "clip", and whether the labelled clips are complete.

    Images sampled at random fall into sum(1 - (1 - n_c / N) ** n) clips on average. Labelling clip by clip,
    or the start of a video, reaches far fewer.
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


def estimate_from_few_labels(domain: Domain, confidence: float) -> FewLabels | None:
    """Estimate measures of all images of a domain of which some are labelled.

    Parameters
    ----------
    domain
        A domain with labelled and unlabelled images.
    confidence
        Threshold of recall, precision and F1.

    Returns
    -------
    FewLabels or None
        None where all images are labelled or none is; images whose labels cannot be used are left out.
    """
    if "unusable" in domain.images and domain.images["unusable"].any():
        # Their labels were there: they are no part of what a sample for labelling was drawn from.
        domain = domain.subset(domain.images.loc[~domain.images["unusable"], "image"])
    count, total = int(domain.labelled.sum()), len(domain.labelled)
    if count in (0, total):
        return None
    unit, complete = sampling_unit(domain)
    number = np.arange(count) if unit == "image" else domain.group_numbers
    all_units = total if unit == "image" else domain.images["group"].nunique()
    sample = _Sample(unit, number, len(np.unique(number)), all_units, unit == "image" or complete)
    note = _why_not(domain, sample)
    if note:
        return FewLabels(domain.name, count, total, unit, sample.units, (), note)
    predictors, labelled = _predictors(domain), domain.labelled
    shift = predictors.mean(0) - predictors[labelled].mean(0)
    measures = [
        measure
        for name, (plain, values) in _values_of_images(domain, confidence).items()
        if (measure := _measure(name, plain, values, predictors[labelled], shift, sample)) is not None
    ]
    note = f"taken as {count} images sampled at random from this footage"
    if unit == "clip":
        note = f"taken as {sample.units} clips sampled at random from the {all_units} of this footage"
    return FewLabels(domain.name, count, total, unit, sample.units, tuple(measures), note)


def _why_not(domain: Domain, sample: _Sample) -> str:
    """Why there are no measures; empty where there are."""
    count = int(domain.labelled.sum())
    if count < MIN_LABELLED:
        return f"{count} labelled images: {MIN_LABELLED} are needed"
    if len(domain.annotations) < MIN_ANNOTATIONS:
        return f"{len(domain.annotations)} annotations: {MIN_ANNOTATIONS} are needed"
    if count > MAX_LABELLED:
        return f"{count:,} labelled images are enough: use the interval by clip"
    if sample.unit == "clip" and sample.units < MIN_GROUPS:
        return (
            f"whole clips are labelled, {sample.units} of {sample.all_units}: "
            f"label a few images of every clip, or {MIN_GROUPS} clips"
        )
    return ""


def _measure(
    name: str, plain: float, values: Floats, predictors: Floats, shift: Floats, sample: _Sample
) -> Measure | None:
    """One measure from its value and the values (n,) and predictors (n, k) of the labelled images.

    shift: mean of the predictors over all images less that over the labelled ones, (k,). None where the
        values do not
    tell how the measure varies.
    """
    slopes, residuals = regress(values, predictors)
    moved = plain + float(slopes @ shift)
    error, plain_error = _standard_error(residuals, sample.number), _standard_error(values, sample.number)
    if not np.isfinite(values).all() or plain_error == 0:
        # All annotations are in one image, or all labelled images are alike.
        return None
    if error >= plain_error:
        # The detections predict nothing here: the estimate is that of the labels alone.
        moved, error = plain, plain_error
    quantile = float(stdtrit(sample.units - 1, (1 + LEVEL) / 2))
    # Clips that are labelled in part vary within as well: some images of all clips still leave an error.
    left = 1 - sample.units / sample.all_units if sample.finite else 1.0
    half, plain_half = quantile * error * np.sqrt(left), quantile * plain_error * np.sqrt(left)
    spread = quantile * error * np.sqrt(sample.units)
    return Measure(
        name,
        plain,
        *_clipped(plain, plain_half),
        min(1.0, max(0.0, moved)),
        *_clipped(moved, half),
        worth=float((plain_error / max(error, 1e-9)) ** 2),
        more=more_units(spread, sample.units, sample.all_units, finite=left < 1),
    )


def _clipped(value: float, half: float) -> tuple[float, float]:
    """An interval of a half-width around a value, within [0, 1]."""
    return min(1.0, max(0.0, value - half)), min(1.0, max(0.0, value + half))


def more_units(spread: float, units: int, all_units: int, *, finite: bool = True) -> int | None:
    """More units to label until the half-width is TARGET_HALF_WIDTH; None if all of them are too few.

    The half-width of n units is spread * sqrt((1 - n / N) / n). finite: whether N is all_units; without it,
    for units that are labelled in part, N is infinite.
    """
    total = all_units if finite else np.inf
    needed = ceil(spread**2 / (TARGET_HALF_WIDTH**2 + spread**2 / total))
    return max(0, needed - units) if needed <= all_units else None
