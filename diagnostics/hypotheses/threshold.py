"""The detector ranks well in the real world, and only the confidence threshold is wrong."""

from __future__ import annotations

from diagnostics.evidence import NO_LABELS, Evidence, Hypothesis, Observation, clip, status_from_share
from diagnostics.wording import fraction, percent

CODE, NAME = "threshold", "Wrong confidence threshold"
# Choosing and measuring on a few dozen images moves F1 by this much by itself.
HARMLESS_LOSS = 0.05


def assess(evidence: Evidence) -> Hypothesis:
    """Share of the F1 gap that the real world's own best threshold recovers, chosen and measured on different clips."""
    found = evidence.threshold
    if found is None and evidence.gap_is_real and evidence.real_world_ap50 < 0.5 * evidence.in_domain_ap50:
        statement = (
            f"AP50 does not depend on a threshold, and falls from {fraction(evidence.in_domain_ap50)} to {fraction(evidence.real_world_ap50)}: "
            "another threshold cannot bring back a ranking that is lost."
        )
        return Hypothesis(CODE, NAME, "rejected", 0.0, statement)
    if found is None:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "Which threshold fits the real world cannot be measured without labels.",
            missing=NO_LABELS,
        )
    lost = found.in_domain - found.carried
    whose = "your" if found.given else "the in-domain best"
    if lost <= HARMLESS_LOSS:
        return Hypothesis(
            CODE,
            NAME,
            "rejected",
            0.0,
            f"{whose[0].upper()}{whose[1:]} threshold {fraction(found.confidence)} serves {evidence.real_world} as well: F1 {fraction(found.carried)} against {fraction(found.in_domain)} in-domain.",
        )
    repaired = found.crossfitted if found.crossfitted is not None else found.real_world
    share = max(0.0, repaired - found.carried) / lost
    statement = (
        f"At {whose} threshold {fraction(found.confidence)}, F1 is {fraction(found.in_domain)} in-domain and {fraction(found.carried)} on {evidence.real_world}; "
        f"the best threshold in the real world ({fraction(found.real_world_confidence)}) lifts it to {fraction(found.real_world)}, {percent(clip(share))} of what is lost."
    )
    recall = evidence.max_recall.get(evidence.real_world or "", float("nan"))
    in_domain_recall = evidence.max_recall.get(evidence.in_domain, float("nan"))
    observations = []
    if found.crossfitted is not None:
        fitted = f"F1 with a threshold fitted on half of the clips and measured on the other half: {fraction(repaired)}."
        observations.append(Observation(share >= 0.5, fitted))
    if recall == recall:
        observations.append(
            Observation(
                None,
                f"With every box down to confidence 0.001, recall is {fraction(recall)} in the real world and {fraction(in_domain_recall)} in-domain; no threshold can find more.",
            )
        )
    if evidence.gap is not None and evidence.in_domain_ap50 > 0:
        observations.append(
            Observation(
                False if evidence.gap_is_real else None,
                f"AP50 does not depend on a threshold and is {fraction(evidence.real_world_ap50)} against {fraction(evidence.in_domain_ap50)}.",
            )
        )
    status = status_from_share(share)
    # A threshold changes no ranking. Where more than half of AP50 is gone, ranking is what failed, and recovering less than half of F1
    # does not make the threshold the cause; recovering more leaves it open beside the real one.
    if evidence.gap_is_real and evidence.real_world_ap50 < 0.5 * evidence.in_domain_ap50:
        status = "untested" if status == "supported" else "rejected"
    missing = (
        ""
        if status != "untested"
        else "set the threshold in the real world and judge the rest of the gap on new clips"
    )
    return Hypothesis(
        CODE,
        NAME,
        status,
        clip(share) if status != "untested" else None,
        statement,
        tuple(observations),
        missing,
    )
