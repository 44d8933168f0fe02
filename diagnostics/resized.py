"""What another image size would do for footage without labels, by the AP50 estimated without them.

Objects that are too small for the network are found where the images are drawn larger. With labels that is
measured; without them, the label-free regression of `diagnostics.label_free` estimates AP50 both ways, on the
same images. How far off that is on real photographs is in docs/image-size.md. Matching colours was tried the
same way: by the estimate, it recovered half of a drop in none of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from datasets.tables import CORNERS
from diagnostics import factors
from diagnostics.counterfactuals import SAME_SIZE, SMALLEST_GAP, Recovery
from diagnostics.domain import Domain
from diagnostics.evidence import HARMLESS_GAP, SUPPORTED_SHARE
from diagnostics.label_free import SHOWN, Estimator
from diagnostics.matching import Floats

# Twice the side costs four passes an image. Where objects are smaller than half, twice as large shows already
# whether size matters.
MOST = 2.0


@dataclass(frozen=True)
class Resized:
    """Images of one domain, predicted at another network input size.

    imgsz: that size in pixels
    plain: the images with their detections as they are
    domain: the same images with the detections at that size
    """

    imgsz: int
    plain: Domain
    domain: Domain

    @property
    def factor(self) -> float:
        """How much larger objects are drawn."""
        return self.imgsz / self.plain.imgsz


def size_to_try(in_domain: Domain, real_world: Domain) -> float | None:
    """How much larger images must be drawn for detections to have their in-domain size; None where they have.

    At most MOST, at least 1 / MOST. MOST where hardly anything is detected, which is what objects that are
    far too small look like.
    """
    sides = [_detected_sides(domain) for domain in (in_domain, real_world)]
    if len(sides[0]) < factors.MIN_ANNOTATIONS:
        return None
    if len(sides[1]) < factors.MIN_ANNOTATIONS:
        return MOST
    ratio = float(np.median(sides[0]) / max(float(np.median(sides[1])), 1e-9))
    return None if 1 / SAME_SIZE <= ratio <= SAME_SIZE else float(np.clip(ratio, 1 / MOST, MOST))


def _detected_sides(domain: Domain) -> Floats:
    """Square root of the area of each detection that people get to see, in network pixels, (n,)."""
    shown = domain.detections[domain.detections["confidence"] >= SHOWN]
    longest = domain.images.set_index("image")[["width", "height"]].max(axis=1)
    x1, y1, x2, y2 = shown[list(CORNERS)].to_numpy(float).T
    scale = domain.imgsz / shown["image"].map(longest).to_numpy(float)
    return np.asarray(np.sqrt(np.maximum((x2 - x1) * (y2 - y1), 0.0)) * scale)


def estimate_recovery(estimator: Estimator, resized: Resized) -> Recovery | None:
    """The share of the estimated drop in AP50 that another image size recovers, by estimates only.

    Parameters
    ----------
    estimator : Estimator
        The fitted regression.
    resized : Resized
        Images of a domain at two sizes.

    Returns
    -------
    Recovery or None
        None where the detections at the other size are unlike any that the regression was fitted on.
    """
    # Without squeezed images the signal "steady" is that of an average set, on both sides.
    nothing = resized.plain.subset(resized.plain.images["image"].head(0))
    signals = [
        estimator.shrink(pd.DataFrame([estimator.reference.signals(domain, nothing)]))
        for domain in (resized.plain, resized.domain)
    ]
    if estimator.extrapolates(signals[1]):
        return None
    before, after = (float(estimator.estimate(table)[0]) for table in signals)
    gap = max(estimator.reference.ap50 - before, SMALLEST_GAP)
    return Recovery(
        f"imgsz {resized.imgsz}",
        before,
        after,
        (after - before) / gap,
        None,
        None,
        len(resized.plain.images),
        resized.factor,
    )


def is_worth_it(recovery: Recovery) -> bool:
    """Whether an image size is to be used by the estimate: it recovers half of a drop, and more than is
    harmless.
    """
    return recovery.share >= SUPPORTED_SHARE and recovery.after - recovery.before > HARMLESS_GAP
