"""Count true positives, false positives and missed objects in the database at a confidence threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fiftyone import ViewField as F

# An annotation drawn in the App has no value of iscrowd.
NOT_CROWD = F("iscrowd") != True  # noqa: E712


@dataclass(frozen=True)
class ThresholdCounts:
    """Counts of a domain's detections at or above a threshold.

    domain: name of the domain
    true_positives: detections that match an annotation
    false_positives: detections that match none
    missed: annotations without a true positive
    """

    domain: str
    true_positives: int
    false_positives: int
    missed: int

    @property
    def precision(self) -> float | None:
        """Share of the detections that are true positives; None without detections."""
        detections = self.true_positives + self.false_positives
        return self.true_positives / detections if detections else None

    @property
    def recall(self) -> float | None:
        """Share of the annotations that are detected; None without annotations."""
        annotations = self.true_positives + self.missed
        return self.true_positives / annotations if annotations else None


def count_at_threshold(dataset: Any, domain: str, confidence: float) -> ThresholdCounts:
    """Count a domain's outcomes at a confidence threshold.

    The stored matching stays valid: greedy matching goes by falling confidence, so a lower threshold changes
    no match above it. Annotations count as they are in the database now: one that a user drew is missed, one
    that a user deleted is not.
    """
    view = dataset.match(F("domain") == domain)
    outcomes = view.filter_labels("predictions", F("confidence") >= confidence).count_values(
        "predictions.detections.outcome"
    )
    missed = view.filter_labels("ground_truth", NOT_CROWD & ~(F("detected_at") >= confidence))
    false_positives = sum(
        number for outcome, number in outcomes.items() if outcome not in ("true_positive", "ignored", None)
    )
    return ThresholdCounts(
        domain, outcomes.get("true_positive", 0), false_positives, missed.count("ground_truth.detections")
    )


def view_at_threshold(dataset: Any, domains: list[str], confidence: float, errors: str) -> Any:
    """A view of the detections at or above a threshold, with the outcomes of annotations at it.

    Parameters
    ----------
    dataset : Dataset
        A report's dataset.
    domains : list of str
        Names of the domains to show.
    confidence : float
        The threshold.
    errors : str
        "false positives" or "missed" for images with such errors only; "all" for every image.

    Returns
    -------
    DatasetView
        Images with the highest confidence, or the most missed objects, first.
    """
    detected = (F("detected_at") >= confidence) | ~NOT_CROWD
    view = (
        dataset.match(F("domain").is_in(domains))
        .set_field("ground_truth.detections.outcome", detected.if_else("detected", "missed"))
        .filter_labels("predictions", F("confidence") >= confidence, only_matches=False)
    )
    if errors == "false positives":
        return view.filter_labels("predictions", ~F("outcome").is_in(["true_positive", "ignored"])).sort_by(
            F("predictions.detections").map(F("confidence")).max(), reverse=True
        )
    if errors == "missed":
        view = view.filter_labels("predictions", F("outcome") != "true_positive", only_matches=False)
        return view.filter_labels("ground_truth", F("outcome") == "missed").sort_by(
            F("ground_truth.detections").length(), reverse=True
        )
    return view
