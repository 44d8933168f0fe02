"""How to predict a real-world domain with the detector as it is: image size, tiles, colours, and a threshold
a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from diagnostics.classes import class_thresholds
from diagnostics.counterfactuals import Recovery
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_BOXES
from diagnostics.matching import Bools, Floats
from diagnostics.sweep import FOLDS


@dataclass(frozen=True)
class Change:
    """How the images are predicted.

    imgsz: network input size in pixels
    tiles: in overlapping tiles beside the whole image, see `train.tiling`
    colours: mean and standard deviation of the channels BGR that images are matched to; None for none
    """

    imgsz: int
    tiles: bool = False
    colours: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None


@dataclass(frozen=True)
class Changed:
    """What one change gave on some images.

    name: of the intervention
    change: what it takes
    domain: the images with the detections under it
    """

    name: str
    change: Change
    domain: Domain


@dataclass(frozen=True)
class Deployment:
    """How to predict one domain.

    domain: its name
    change: the change that is worth its price; image size as it is where none is
    intervention: its name; "" for none
    thresholds: confidence threshold by class name
    confidence: threshold in use before, the same for all classes
    f1_before: F1 of all classes together at that threshold, with images as they are
    f1: F1 expected on other clips: chosen on one half of the clips and measured on the other, both ways; None
        with one clip
    images, clips: what it was chosen on
    note: why nothing was chosen on this domain; "" where it was
    """

    domain: str
    change: Change
    intervention: str
    thresholds: dict[str, float]
    confidence: float
    f1_before: float | None = None
    f1: float | None = None
    images: int = 0
    clips: int = 0
    note: str = ""


# Six parameters: a domain, what was tried on it, and what is used so far.
def choose_deployment(
    domain: Domain,
    in_domain: Domain,
    plain: Domain | None,
    changes: Sequence[Changed],
    recoveries: Mapping[str, Recovery],
    confidence: float,
    *,
    seed: int,
) -> Deployment:
    """Choose how to predict a real-world domain.

    A change is taken only where it recovers something beyond chance (its 95 % interval lies above 0): then
    the one of highest AP50. Thresholds are those of `class_thresholds` under that change.

    Parameters
    ----------
    domain, in_domain : Domain
        The real-world domain and the validation one.
    plain : Domain or None
        The images that changes were tried on, with their detections as they are; None where none were.
    changes, recoveries
        What was tried, and what each recovered by name.
    confidence : float
        The threshold in use.
    seed : int
        Of the halves.
    """
    as_is = Change(domain.imgsz)
    if len(domain.annotations) < MIN_BOXES or not domain.labelled.any():
        return Deployment(
            domain.name,
            as_is,
            "",
            _named(in_domain, in_domain) if in_domain.labelled.any() else {},
            confidence,
            note="chosen on the in-domain images: this domain has too few labels",
        )
    helpful = [
        changed
        for changed in changes
        if (found := recoveries.get(changed.name)) is not None and found.low is not None and found.low > 0
    ]
    best = max(helpful, key=lambda changed: recoveries[changed.name].after, default=None)
    # A change that was left early was tried on some of the images.
    before = plain.subset(best.domain.images["image"]) if best is not None and plain is not None else domain
    after = domain if best is None else _scored(best.domain, before)
    return Deployment(
        domain.name,
        as_is if best is None else best.change,
        "" if best is None else best.name,
        _named(after, in_domain),
        confidence,
        f1_at(before, np.full(len(domain.classes), confidence), np.ones(before.table.n_images, bool)),
        crossfitted_f1(after, seed=seed),
        len(after.labelled_images),
        int(after.labelled_images["group"].nunique()),
    )


def _scored(changed: Domain, plain: Domain) -> Domain:
    """A changed domain with the classes that the plain one is scored on."""
    return changed if changed.compared == plain.compared else replace(changed, compared=plain.compared)


def _named(domain: Domain, in_domain: Domain) -> dict[str, float]:
    """The threshold of each class: of this domain where it annotates the class, else of the
    in-domain images.
    """
    own, reference = class_thresholds(domain).confidence, class_thresholds(in_domain).confidence
    annotated = np.isin(np.arange(len(domain.classes)), domain.annotations["label"].unique())
    chosen = np.where(annotated | np.isnan(reference), own, reference)
    return {
        name: round(float(value), 3)
        for name, value in zip(domain.classes, chosen, strict=True)
        if value == value
    }


def f1_at(domain: Domain, thresholds: Floats, images: Bools) -> float | None:
    """F1 at IoU 0.5 of all classes together on some images, (n_images,), each class at its
    threshold, (K,).
    """
    true, detected, annotations = _counts(domain, thresholds, images)
    return 2 * true / (detected + annotations) if annotations else None


def _counts(domain: Domain, thresholds: Floats, images: Bools) -> tuple[int, int, int]:
    """True positives, detections and annotations."""
    table = domain.table
    true_positive, counted = table.flags(0.5)
    shown = counted & images[table.image] & (table.confidence >= thresholds[table.label])
    annotations = ~table.annotation_ignored[:, table.areas.index("all")] & images[table.annotation_image]
    return int((shown & true_positive).sum()), int(shown.sum()), int(annotations.sum())


def crossfitted_f1(domain: Domain, *, seed: int) -> float | None:
    """F1 on one half of the clips at the thresholds chosen on the other half, both ways pooled; None with one
    clip.
    """
    group = domain.interval_units
    groups = np.unique(group)
    if len(groups) < FOLDS:
        return None
    shuffled = np.random.default_rng(seed).permutation(groups)
    total = np.zeros(3)
    for fold in range(FOLDS):
        held_out = np.isin(group, shuffled[fold::FOLDS])
        names = domain.labelled_images["image"]
        chosen = class_thresholds(domain.subset(names[~held_out])).confidence
        if np.isnan(chosen).all():
            return None
        total += _counts(domain, np.nan_to_num(chosen, nan=2.0), held_out)
    return float(2 * total[0] / (total[1] + total[2])) if total[2] else None
