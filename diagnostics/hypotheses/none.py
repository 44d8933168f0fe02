"""Nothing is wrong: the detector does in the real world what it does in-domain."""

from __future__ import annotations

from diagnostics.evidence import HARMLESS_GAP, NO_LABELS, Evidence, Hypothesis, Observation
from diagnostics.hypotheses.underfit import LEARNED_AP50
from diagnostics.wording import fraction, interval, points

CODE, NAME = "none", "No failure"


def assess(evidence: Evidence) -> Hypothesis:
    """Supported when the whole interval of the gap is harmless and home itself is learned; rejected when the gap is real."""
    gap = evidence.gap
    if gap is None:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "Whether there is a failure cannot be measured without labels in the real world.",
            missing=NO_LABELS,
        )
    bounds = evidence.gap_interval
    where = f"AP50 is {fraction(evidence.in_domain_ap50)} in-domain and {fraction(evidence.real_world_ap50)} on {evidence.real_world}"
    observations = [
        Observation(
            None,
            f"Difference {points(gap)} ({interval(bounds.low, bounds.high, bounds.note)}, as fractions)."
            if bounds
            else f"Difference {points(gap)}.",
        )
    ]
    if evidence.gap_is_real:
        return Hypothesis(CODE, NAME, "rejected", 0.0, f"The failure is real: {where}.", tuple(observations))
    found = evidence.threshold
    if (
        found is not None
        and found.crossfitted is not None
        and found.crossfitted - found.carried > HARMLESS_GAP
    ):
        lost = f"at the threshold {fraction(found.confidence)} F1 is {fraction(found.carried)}, and could be {fraction(found.crossfitted)}"
        return Hypothesis(
            CODE,
            NAME,
            "rejected",
            0.0,
            f"It ranks as well in the real world, but {lost}.",
            tuple(observations),
        )
    if evidence.in_domain_ap50 < LEARNED_AP50:
        return Hypothesis(
            CODE, NAME, "rejected", 0.0, f"The detector fails in-domain too: {where}.", tuple(observations)
        )
    high = bounds.high if bounds and bounds.high is not None else None
    if high is not None and high <= HARMLESS_GAP:
        return Hypothesis(
            CODE,
            NAME,
            "supported",
            1.0,
            f"No failure: {where}, a difference that harms nobody.",
            tuple(observations),
        )
    if high is not None and gap <= HARMLESS_GAP:
        score = 1 - max(0.0, gap) / HARMLESS_GAP * 0.5
        return Hypothesis(
            CODE,
            NAME,
            "supported",
            score,
            f"No failure shown: {where}.",
            tuple(observations),
            missing="more labelled clips would narrow the interval",
        )
    return Hypothesis(
        CODE,
        NAME,
        "untested",
        None,
        f"The difference is not resolved: {where}.",
        tuple(observations),
        missing="label more clips, at least 5 in each domain",
    )
