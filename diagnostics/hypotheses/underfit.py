"""The detector has not learned its own data yet; more epochs would help."""

from __future__ import annotations

from diagnostics.evidence import Evidence, Hypothesis, Observation, clip, status_from_share
from diagnostics.learning import AHEAD, MIN_TAIL
from diagnostics.wording import count, fraction, percent, points

CODE, NAME = "underfit", "Undertrained"
# Below this AP50 on its own training images a detector has not learned them: half of the precision-recall area is missing.
LEARNED_AP50 = 0.5


def unlearned(evidence: Evidence) -> bool:
    """Whether AP50 on its own training images, or on held-out ones where those are not at hand, is below LEARNED_AP50."""
    train = evidence.ap50.get("training", float("nan"))
    level = train if train == train else evidence.in_domain_ap50
    return level < LEARNED_AP50


def assess(evidence: Evidence) -> Hypothesis:
    """Supported when it fails on what it was trained on, or when the rise still under way would close half of the gap."""
    learning, in_domain = evidence.learning, evidence.in_domain_ap50
    train = evidence.ap50.get("training", float("nan"))
    observations: list[Observation] = []
    if learning.slope is not None and learning.gain is not None:
        rising = learning.slope_low is not None and learning.slope_low > 0
        observations.append(
            Observation(
                rising,
                f"Validation AP50 {'still rises' if rising else 'has levelled off'}: {learning.slope:+.4f} an epoch at the end of {count(learning.epochs, 'epoch')}.",
            )
        )
    elif 0 < learning.epochs <= MIN_TAIL:
        observations.append(
            Observation(True, f"{count(learning.epochs, 'epoch')}: too few to call anything trained.")
        )
    else:
        observations.append(Observation(None, "No learning curve with validation AP50 is available."))
    level = train if train == train else in_domain
    if level == level:
        observations.append(
            Observation(
                level < LEARNED_AP50,
                f"AP50 on {'its own training images' if train == train else 'in-domain images'} is {fraction(level)}.",
            )
        )
    if level != level and learning.last_ap50 is not None:
        level = learning.last_ap50
    if level != level:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "Neither a learning curve nor labelled in-domain images are at hand.",
            tuple(observations),
            missing="give --history results.csv, or labels",
        )
    if level < LEARNED_AP50:
        few = (
            ""
            if learning.epochs > MIN_TAIL
            else f" after {count(learning.epochs, 'epoch')}"
            if learning.epochs
            else ""
        )
        return Hypothesis(
            CODE,
            NAME,
            "supported",
            clip(1 - level / LEARNED_AP50 * 0.5),
            f"It has not learned its own data: AP50 {'on its training images ' if train == train else ''}is {fraction(level)}{few}.",
            tuple(observations),
        )
    if learning.gain is None:
        statement = f"It has learned its own data (AP50 {fraction(level)})."
        return Hypothesis(
            CODE,
            NAME,
            "rejected",
            0.0,
            statement,
            tuple(observations),
            missing=""
            if learning.epochs
            else "give --history results.csv to see whether it was still rising",
        )
    if not evidence.gap_is_real or evidence.gap is None:
        return Hypothesis(
            CODE,
            NAME,
            "rejected",
            0.0,
            f"It has learned its own data (AP50 {fraction(level)}) and there is no gap for more epochs to close.",
            tuple(observations),
        )
    # A straight line knows no end; AP50 does.
    gain = min(learning.gain, max(0.0, 1 - in_domain))
    share, high = gain / evidence.gap, None
    statement = (
        f"In-domain AP50 is {fraction(in_domain)}; {AHEAD} more epochs at the final slope would add about {points(gain)} in-domain, "
        f"against a fall of {points(evidence.gap)} to {evidence.real_world}."
    )
    if evidence.carried is not None:
        found = evidence.carried
        steepest = learning.slope_high if learning.slope_high is not None else learning.slope or 0.0
        most = min(AHEAD * max(0.0, steepest), max(0.0, 1 - in_domain)) / evidence.gap
        share, high = share * max(0.0, found.share), most * max(0.0, found.high)
        observations.append(
            Observation(
                found.low > 0,
                f"From epoch {found.epochs[0]} to {found.epochs[1]} AP50 went from {fraction(found.in_domain[0])} to {fraction(found.in_domain[1])} in-domain and from {fraction(found.real_world[0])} to {fraction(found.real_world[1])} on {evidence.real_world}.",
            )
        )
        arrives = "nothing" if found.share <= 0 else percent(found.share)
        statement += f" Of what epochs {found.epochs[0]} to {found.epochs[1]} won in-domain, {arrives} arrived in the real world, at most {percent(max(0.0, found.high))}."
    return Hypothesis(
        CODE,
        NAME,
        status_from_share(share, high=high),
        clip(share),
        statement,
        tuple(observations),
        missing="" if status_from_share(share, high=high) != "untested" else "train longer and look again",
    )
