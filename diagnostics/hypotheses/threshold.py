"""Wrong confidence threshold: the detector ranks well on the real-world images, and only the threshold is
off.
"""

from __future__ import annotations

from diagnostics.evidence import (
    SUPPORTED_SHARE,
    Assessment,
    Evidence,
    NotTestable,
    Observation,
    Threshold,
    ask_for_labels,
    clip,
    inconclusive,
    ruled_out,
    status_from_share,
    takes_labels,
)
from diagnostics.wording import fraction, percent

CODE, NAME = "threshold", "Wrong confidence threshold"
# Choosing and measuring on a few dozen images moves F1 by this much by itself.
HARMLESS_LOSS = 0.05


def assess(evidence: Evidence) -> Assessment:
    """Share of the drop in F1 that the best real-world threshold recovers, chosen and measured on different
    clips; where AP50 drops too, times the share of AP50 that is left.
    """
    threshold = evidence.threshold
    # A threshold changes no ranking: where more than half of AP50 is gone, the ranking is what failed.
    ranking_lost = evidence.gap_is_real and evidence.real_world_ap50 < 0.5 * evidence.in_domain_ap50
    if threshold is None and ranking_lost:
        return ruled_out(
            "AP50 does not depend on a threshold, and drops from "
            f"{fraction(evidence.in_domain_ap50)} to {fraction(evidence.real_world_ap50)}: "
            "no threshold restores a lost ranking."
        )
    if threshold is None:
        raise NotTestable(
            takes_labels("Comparing thresholds", evidence),
            missing=ask_for_labels(evidence),
        )
    lost = threshold.in_domain_f1 - threshold.real_world_f1
    whose = "your" if threshold.given else "the in-domain best"
    if lost <= HARMLESS_LOSS:
        return ruled_out(
            f"{whose[0].upper()}{whose[1:]} threshold {fraction(threshold.confidence)} works as well on "
            f"{evidence.real_world}: F1 {fraction(threshold.real_world_f1)}, in-domain "
            f"{fraction(threshold.in_domain_f1)}."
        )
    fitted = threshold.crossfitted_f1 if threshold.crossfitted_f1 is not None else threshold.best_f1
    share = max(0.0, fitted - threshold.real_world_f1) / lost
    statement = (
        f"At {whose} threshold {fraction(threshold.confidence)}, F1 is {fraction(threshold.in_domain_f1)} "
        f"in-domain and "
        f"{fraction(threshold.real_world_f1)} on {evidence.real_world}; the best threshold there "
        f"({fraction(threshold.best_confidence)}) gives {fraction(threshold.best_f1)} and recovers "
        f"{percent(clip(share))} of the drop in F1; AP50 does not depend on a threshold."
    )
    observations = _observations(evidence, threshold, share)
    # No threshold changes AP50: it explains its share of the loss only as far as the ranking holds.
    score = clip(share) * _kept_ranking(evidence)
    status = status_from_share(score)
    if status == "inconclusive":
        missing = "set the real-world threshold and judge the rest of the drop on new clips"
        return inconclusive(statement, observations, score=score, missing=missing)
    return Assessment(status, score, statement, observations)


def _kept_ranking(evidence: Evidence) -> float:
    """Share of the in-domain AP50 that is left on the real world; 1 where no drop is shown."""
    if not evidence.gap_is_real:
        return 1.0
    return clip(evidence.real_world_ap50 / max(evidence.in_domain_ap50, 1e-9))


def _observations(evidence: Evidence, threshold: Threshold, share: float) -> list[Observation]:
    """Cross-fitted F1, recall at the confidence floor, and AP50, which no threshold changes."""
    observations = []
    if threshold.crossfitted_f1 is not None:
        text = (
            "F1 with a threshold chosen on half of the clips and measured on the other half: "
            f"{fraction(threshold.crossfitted_f1)}."
        )
        observations.append(Observation(share >= SUPPORTED_SHARE, text))
    recall = evidence.max_recall.get(evidence.real_world or "", float("nan"))
    in_domain_recall = evidence.max_recall.get(evidence.in_domain, float("nan"))
    if recall == recall:
        text = (
            f"With every detection down to confidence 0.001, recall is {fraction(recall)} on "
            f"{evidence.real_world} and "
            f"{fraction(in_domain_recall)} in-domain; no threshold can give more."
        )
        observations.append(Observation(None, text))
    if evidence.gap is not None and evidence.in_domain_ap50 > 0:
        text = (
            f"AP50 does not depend on a threshold: {fraction(evidence.real_world_ap50)} on "
            f"{evidence.real_world}, "
            f"{fraction(evidence.in_domain_ap50)} in-domain."
        )
        observations.append(Observation(False if evidence.gap_is_real else None, text))
    return observations
