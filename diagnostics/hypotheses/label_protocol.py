"""The real-world labels follow another rule: boxes drawn tighter or looser, or other things counted as objects."""

from __future__ import annotations

from diagnostics.evidence import NO_LABELS, Evidence, Hypothesis, Observation, clip, status_from_share
from diagnostics.wording import fraction, percent

CODE, NAME = "label_protocol", "Labels drawn differently"


def assess(evidence: Evidence) -> Hypothesis:
    """Bounded from above by looser matching, and tested by redrawing every detection to the annotators' habit.

    Whether the *definition* of the object differs (are puddles potholes?) cannot be seen in boxes; that part stays with the audit.
    """
    if evidence.gap is None or evidence.real_world is None:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "How the real world is labelled cannot be compared without labels.",
            missing=NO_LABELS,
        )
    if not evidence.gap_is_real:
        return Hypothesis(
            CODE, NAME, "rejected", 0.0, f"There is no gap for labels to explain on {evidence.real_world}."
        )
    loose, loose_in_domain = (
        evidence.loose.get(evidence.real_world, float("nan")),
        evidence.loose.get(evidence.in_domain, float("nan")),
    )
    audit = "look at 20 misses and 20 false positives in the App: are they objects by this domain's rulebook?"
    if loose != loose or loose_in_domain != loose_in_domain:
        statement = "Without the boxes themselves, how they are drawn and what counts as an object stay open."
        return Hypothesis(
            CODE, NAME, "untested", None, statement, missing=f"give both sets of labels; then {audit}"
        )
    bound = (
        max(0.0, (loose - evidence.real_world_ap50) - max(0.0, loose_in_domain - evidence.in_domain_ap50))
        / evidence.gap
    )
    observations = [
        Observation(
            bound >= 0.5,
            f"With a match at IoU 0.1 instead of 0.5, AP is {fraction(loose)} on {evidence.real_world} and {fraction(loose_in_domain)} in-domain: other boxes around the same objects explain at most {percent(clip(bound))} of the gap.",
        )
    ]
    redrawn = evidence.redrawn
    if bound < 0.25:
        statement = (
            f"Boxes drawn by another rule could explain at most {percent(clip(bound))} of the fall to {evidence.real_world}. "
            "Whether the same things count as objects there is another question, which no box can answer."
        )
        return Hypothesis(
            CODE,
            NAME,
            "rejected",
            clip(bound),
            statement,
            tuple(observations),
            missing=f"what counts as an object is not tested: {audit}",
        )
    if redrawn is None:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "Too few detections overlap an object to compare how boxes are drawn.",
            tuple(observations),
            missing=audit,
        )
    share = (redrawn.after - redrawn.before) / evidence.gap
    observations.append(
        Observation(
            share >= 0.5,
            f"Objects are {redrawn.width:.2f} times as wide and {redrawn.height:.2f} times as high as the detections on them; stretching every detection so takes AP50 from {fraction(redrawn.before)} to {fraction(redrawn.after)}.",
        )
    )
    statement = f"Redrawing every box by one rule recovers {percent(clip(share))} of the fall to {evidence.real_world}."
    status = status_from_share(share)
    return Hypothesis(
        CODE,
        NAME,
        status,
        clip(share) if status != "untested" else None,
        statement,
        tuple(observations),
        missing=audit,
    )
