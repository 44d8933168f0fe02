"""Undertrained: the detector has not learned its own domain yet; more epochs would help."""

from __future__ import annotations

from diagnostics.evidence import (
    Assessment,
    Evidence,
    NotTestable,
    Observation,
    clip,
    inconclusive,
    ruled_out,
    status_from_share,
    supported,
)
from diagnostics.learning import AHEAD, MIN_TAIL, Learning
from diagnostics.wording import count, fraction, joined, percent, points

CODE, NAME = "underfit", "Undertrained"
# Below this AP50 on its own training images a detector has not learned them: half of the precision-recall
# area is missing.
LEARNED_AP50 = 0.5
# Held-out images are harder: a small detector trained to its end has AP50 0.36 on the 80 classes of COCO
# (yolo-v3-tiny at 416 px, OpenVINO's Open Model Zoo 2021.2). Below two thirds of that it has not learned;
# from there to LEARNED_AP50 a hard task and too little training give the same number.
LEARNED_HELD_OUT_AP50 = 0.25


def unlearned(evidence: Evidence) -> bool:
    """Whether AP50 on its own training images is below LEARNED_AP50 or, where those are not available, that
    on held-out ones below LEARNED_HELD_OUT_AP50.
    """
    train = evidence.ap50.get("training", float("nan"))
    return train < LEARNED_AP50 or (train != train and evidence.in_domain_ap50 < LEARNED_HELD_OUT_AP50)


def assess(evidence: Evidence) -> Assessment:
    """Supported when it fails on its own training images, or when the rise still under way would close half
    of the drop.
    """
    learning = evidence.learning
    train = evidence.ap50.get("training", float("nan"))
    level = train if train == train else evidence.in_domain_ap50
    limit = LEARNED_AP50 if train == train else LEARNED_HELD_OUT_AP50
    observations = [_curve(learning)]
    if learning.broken_epoch is not None:
        observations.append(
            Observation(True, f"The training loss is not a number from epoch {learning.broken_epoch} on.")
        )
    if level == level:
        whose = "its own training images" if train == train else "in-domain images"
        favours = level < limit or (None if level < LEARNED_AP50 else False)
        observations.append(Observation(favours, f"AP50 on {whose} is {fraction(level)}."))
    elif learning.last_ap50 is not None:
        level = learning.last_ap50
    if level != level:
        raise NotTestable(
            "Neither a training curve nor labelled in-domain images are available.",
            missing="give --history results.csv, or labels",
            observations=observations,
        )
    if learning.gain is None and limit <= level < LEARNED_AP50:
        return inconclusive(
            f"AP50 on held-out in-domain images is {fraction(level)}: a hard task explains that as well as "
            "too little training.",
            observations,
            score=1 - level / LEARNED_AP50,
            missing="give the training images (the run's data.yaml), or --history results.csv",
        )
    if level < limit and learning.broken_epoch is not None:
        return supported(
            clip(1 - level / LEARNED_AP50 * 0.5),
            f"The training broke down in epoch {learning.broken_epoch}, from which on its loss is not a "
            f"number; more epochs of it change nothing. AP50 is {fraction(level)}.",
            observations,
        )
    if level < limit:
        few = f" after {count(learning.epochs, 'epoch')}" if 0 < learning.epochs <= MIN_TAIL else ""
        where = "on its training images " if train == train else ""
        return supported(
            clip(1 - level / LEARNED_AP50 * 0.5),
            f"It has not learned its own domain: AP50 {where}is {fraction(level)}{few}.",
            observations,
        )
    learned = f"It has learned its own domain (AP50 {fraction(level)})"
    if learning.gain is None:
        missing = (
            "" if learning.epochs else "give --history results.csv to show whether AP50 was still rising"
        )
        return ruled_out(f"{learned}.", observations, missing=missing)
    if evidence.gap is None:
        return ruled_out(f"{learned}.", observations)
    if not evidence.gap_is_real:
        return ruled_out(f"{learned}, and there is no drop for more epochs to close.", observations)
    return _still_rising(evidence, learning.gain, evidence.gap, observations)


def _curve(learning: Learning) -> Observation:
    """What the training curve shows."""
    if learning.slope is not None and learning.gain is not None:
        rising = learning.slope_low is not None and learning.slope_low > 0
        state = "is still rising" if rising else "has levelled off"
        text = (
            f"Validation AP50 {state}: {learning.slope:+.4f} per epoch at the end of "
            f"{count(learning.epochs, 'epoch')}."
        )
        return Observation(rising, text)
    if 0 < learning.epochs <= MIN_TAIL:
        return Observation(True, f"{count(learning.epochs, 'epoch')}: too few to call anything trained.")
    return Observation(None, "There is no training curve with validation AP50.")


def _still_rising(
    evidence: Evidence, expected: float, gap: float, observations: list[Observation]
) -> Assessment:
    """The share of the drop that the rise still under way would close; expected: AP50 at the final slope over
    AHEAD epochs.
    """
    in_domain, learning, carried = evidence.in_domain_ap50, evidence.learning, evidence.carried
    # A straight line has no end; AP50 ends at 1.
    gain = min(expected, max(0.0, 1 - in_domain))
    share, high = gain / gap, None
    statement = (
        f"In-domain AP50 is {fraction(in_domain)}; {AHEAD} more epochs at the final slope would add about "
        f"{points(gain)} "
        f"in-domain, against a drop of {points(gap)} to {evidence.real_world}."
    )
    if carried is not None:
        steepest = learning.slope_high if learning.slope_high is not None else learning.slope or 0.0
        most = min(AHEAD * max(0.0, steepest), max(0.0, 1 - in_domain)) / gap
        share, high = share * max(0.0, carried.share), most * max(0.0, carried.high)
        first, last = carried.epochs
        text = (
            f"From epoch {first} to {last} AP50 went from {fraction(carried.in_domain[0])} to "
            f"{fraction(carried.in_domain[1])} in-domain and from {fraction(carried.real_world[0])} to "
            f"{fraction(carried.real_world[1])} on {evidence.real_world}."
        )
        observations = [*observations, Observation(carried.low > 0, text)]
        part = "None" if carried.share <= 0 else percent(carried.share)
        statement += (
            f" {part} of the AP50 gained in epochs {first} to {last} carried over to {evidence.real_world} "
            f"(at most {percent(max(0.0, carried.high))})."
        )
    status = status_from_share(share, high=high)
    alone = [cause.name for cause in evidence.class_causes if cause.hit]
    if alone:
        # What rises is the mean over classes: it cannot account for a drop that the others do not share.
        text = f"The drop is in {joined(alone)}, more than in the other classes."
        observations = [*observations, Observation(False, text)]
        status = "inconclusive" if status == "supported" else status
    missing = "train longer and measure again" if status == "inconclusive" else ""
    return Assessment(status, clip(share), statement, observations, missing)
