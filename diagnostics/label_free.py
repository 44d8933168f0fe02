"""What can be said about footage nobody has labelled: how often the detector speaks, how surely, and why no AP is given."""

from __future__ import annotations

from dataclasses import dataclass

from diagnostics.domain import Domain
from diagnostics.wording import percent

# The confidence at which people look at a detector's output by default.
SHOWN = 0.25
# Home speaks on this share of pictures or more; an unlabelled domain far below it has either no objects or a detector gone silent.
SILENT_SHARE = 0.25


@dataclass(frozen=True)
class LabelFree:
    """ap50 stays None while abstained; reason says why. with_box, home_with_box: share of pictures with a detection at or above SHOWN.

    alarm: the detector is silent where at home it speaks ("nothing is a pothole" must never pass for healthy).
    """

    domain: str
    ap50: float | None
    low: float | None
    high: float | None
    abstained: bool
    reason: str
    with_box: float
    home_with_box: float
    boxes_per_image: float
    mean_confidence: float | None
    alarm: str


def speak(domain: Domain) -> tuple[float, float, float | None]:
    """Share of pictures with a shown detection, shown detections a picture, and their mean confidence."""
    shown = domain.detections[domain.detections["confidence"] >= SHOWN]
    count = max(len(domain.pictures), 1)
    mean = float(shown["confidence"].mean()) if len(shown) else None
    return shown["image"].nunique() / count, len(shown) / count, mean


def estimate(home: Domain, away: Domain) -> LabelFree:
    """Describe an unlabelled domain without inventing an AP.

    Score statistics estimate AP only when fitted on shifts like the one at hand; no such fit exists yet, so this abstains.
    """
    share, per_image, confidence = speak(away)
    home_share = speak(home)[0]
    alarm = ""
    if share < SILENT_SHARE * home_share:
        alarm = f"detections on {percent(share)} of the pictures against {percent(home_share)} at home: no objects there, or a detector gone silent; say yes or no for 20 pictures to tell which"
    reason = "no labels, and confidence alone does not estimate AP under a shift it was not fitted on; label 25 to 50 frames from at least 5 clips"
    return LabelFree(
        away.name, None, None, None, True, reason, share, home_share, per_image, confidence, alarm
    )
