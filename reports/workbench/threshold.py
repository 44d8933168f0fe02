"""What a confidence threshold makes of the boxes in the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fiftyone import ViewField as F

# A box drawn in the App says nothing of crowds.
COUNTED = F("iscrowd") != True  # noqa: E712


@dataclass(frozen=True)
class ThresholdCounts:
    """Counts of a domain's detections at or above a threshold. missed: objects that none of them true positives."""

    domain: str
    true_positives: int
    false_positives: int
    missed: int

    @property
    def precision(self) -> float | None:
        """Share of the detections that hit; None without any."""
        shown = self.true_positives + self.false_positives
        return self.true_positives / shown if shown else None

    @property
    def recall(self) -> float | None:
        """Share of the objects that are hit; None without any."""
        annotations = self.true_positives + self.missed
        return self.true_positives / annotations if annotations else None


def count_at_threshold(dataset: Any, domain: str, confidence: float) -> ThresholdCounts:
    """Count anew at another threshold: greedy matching runs in falling confidence, so what is hit above it stays hit.

    Of what the database holds now: an object that somebody drew meanwhile is missed, one taken away is not.
    """
    view = dataset.match(F("domain") == domain)
    shown = view.filter_labels("predictions", F("confidence") >= confidence).count_values(
        "predictions.detections.outcome"
    )
    missed = view.filter_labels("ground_truth", COUNTED & ~(F("detected_at") >= confidence))
    true_positives = shown.get("true_positive", 0)
    wrong = sum(
        number for outcome, number in shown.items() if outcome not in ("true_positive", "ignored", None)
    )
    return ThresholdCounts(domain, true_positives, wrong, missed.count("ground_truth.detections"))


def at_threshold(dataset: Any, domains: list[str], confidence: float, errors: str) -> Any:
    """The images as they look at a threshold, outcomes told anew. errors: "false positives", "misses" or "all"."""
    found = (F("detected_at") >= confidence) | ~COUNTED
    view = dataset.match(F("domain").is_in(domains))
    told = view.set_field(
        "ground_truth.detections.outcome", found.if_else("detected", "missed")
    ).filter_labels("predictions", F("confidence") >= confidence, only_matches=False)
    if errors == "false positives":
        return told.filter_labels("predictions", ~F("outcome").is_in(["true_positive", "ignored"])).sort_by(
            F("predictions.detections").map(F("confidence")).max(), reverse=True
        )
    if errors == "missed":
        wrong = told.filter_labels("predictions", F("outcome") != "true_positive", only_matches=False)
        return wrong.filter_labels("ground_truth", F("outcome") == "missed").sort_by(
            F("ground_truth.detections").length(), reverse=True
        )
    return told
