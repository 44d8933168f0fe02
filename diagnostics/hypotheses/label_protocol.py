"""Labels drawn differently: the real-world labels follow another rule, with tighter or looser boxes or other
objects.
"""

from __future__ import annotations

from diagnostics.evidence import (
    REJECTED_SHARE,
    SUPPORTED_SHARE,
    Assessment,
    Evidence,
    NotTestable,
    Observation,
    ask_for_labels,
    clip,
    inconclusive,
    ruled_out,
    status_from_share,
    takes_labels,
    without_a_drop,
)
from diagnostics.wording import at_most, fraction, percent

CODE, NAME = "label_protocol", "Labels drawn differently"
AUDIT = (
    "review 20 missed objects and 20 false positives in the App: are they objects by the labelling rules of "
    "this domain?"
)


def assess(evidence: Evidence) -> Assessment:
    """Bounded from above by looser matching, and tested by redrawing every detection to the annotators'
    habit.

    Whether the *definition* of the object differs (are puddles potholes?) cannot be measured from boxes; the
    audit covers it.
    """
    if evidence.gap is None or evidence.real_world is None:
        raise NotTestable(
            takes_labels("Comparing labelling rules", evidence),
            missing=ask_for_labels(evidence),
        )
    if not evidence.gap_is_real:
        return without_a_drop(evidence, "labels")
    loose = evidence.loose.get(evidence.real_world, float("nan"))
    loose_in_domain = evidence.loose.get(evidence.in_domain, float("nan"))
    if loose != loose or loose_in_domain != loose_in_domain:
        raise NotTestable(
            "Without the boxes themselves, labelling rules cannot be compared.",
            missing=f"give both sets of labels; then {AUDIT}",
        )
    bound = _bound(evidence)
    observations = [
        Observation(
            bound >= SUPPORTED_SHARE,
            f"With matches at IoU 0.1 instead of 0.5, AP is {fraction(loose)} on {evidence.real_world} and "
            f"{fraction(loose_in_domain)} in-domain: other boxes around the same objects explain at most "
            f"{percent(clip(bound))} of the drop.",
        )
    ]
    if bound < REJECTED_SHARE:
        return ruled_out(
            f"Boxes drawn by another rule explain {at_most(clip(bound))} of the drop to "
            f"{evidence.real_world}. "
            "Whether both label sets count the same things as objects was not tested.",
            observations,
            score=clip(bound),
            missing=f"what counts as an object is not tested: {AUDIT}",
        )
    return _redrawn(evidence, observations)


def _redrawn(evidence: Evidence, observations: list[Observation]) -> Assessment:
    """The share of the drop that redrawing the detections recovers."""
    redrawn = evidence.redrawn
    if redrawn is None or evidence.gap is None:
        return inconclusive(
            "Too few detections overlap an annotation to compare how boxes are drawn.",
            observations,
            missing=AUDIT,
        )
    share = (redrawn.after - redrawn.before) / evidence.gap
    text = (
        f"Annotations are {redrawn.width:.2f} times as wide and {redrawn.height:.2f} times as high as the "
        f"detections "
        "on them; redrawing every detection by the rule of its class takes AP50 from "
        f"{fraction(redrawn.before)} to {fraction(redrawn.after)}."
    )
    favours = None if REJECTED_SHARE <= share < SUPPORTED_SHARE else share >= SUPPORTED_SHARE
    observations = [*observations, Observation(favours, text)]
    most = clip(_bound(evidence))
    statement = (
        f"Redrawing every box by one rule recovers {percent(clip(share))} of the drop to "
        f"{evidence.real_world}, and boxes drawn in any other way explain at most {percent(most)}."
    )
    if share < REJECTED_SHARE:
        return ruled_out(statement, observations, score=clip(share), missing=AUDIT)
    score = explained_by_labels(evidence)
    status = status_from_share(score)
    return Assessment(status, score, statement, observations, missing=AUDIT)


def _bound(evidence: Evidence) -> float:
    """Share of the drop that matching at IoU 0.1 instead of 0.5 takes away: the most that other boxes around
    the same objects explain. NaN without the boxes.
    """
    loose = evidence.loose.get(evidence.real_world or "", float("nan"))
    loose_in_domain = evidence.loose.get(evidence.in_domain, float("nan"))
    own = max(0.0, loose_in_domain - evidence.in_domain_ap50)
    return max(0.0, (loose - evidence.real_world_ap50) - own) / (evidence.gap or 1e-9)


def explained_by_labels(evidence: Evidence) -> float:
    """Share of the drop that another drawing rule explains.

    One factor per side recovers part of it for certain, as no failure to detect could; what no stretching
    of detections mends (circles turned into boxes, turned boxes) lies between that and the bound. Halfway
    between the two, where the certain part is worth naming at all.
    """
    if evidence.redrawn is None or evidence.gap is None:
        return 0.0
    certain = (evidence.redrawn.after - evidence.redrawn.before) / evidence.gap
    most = _bound(evidence)
    if certain < REJECTED_SHARE or most != most:
        return clip(certain)
    return clip((certain + max(certain, most)) / 2)
