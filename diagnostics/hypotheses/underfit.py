"""The detector has not learned its own data yet; more epochs would help."""

from __future__ import annotations

from diagnostics.evidence import Clue, Evidence, Hypothesis, clip, judge
from diagnostics.learning import AHEAD, MIN_TAIL
from diagnostics.wording import count, fraction, percent, points

CODE, NAME = "underfit", "Undertrained"
# Below this AP50 on its own training pictures a detector has not learned them: half of the precision-recall area is missing.
LEARNED_AP50 = 0.5


def unlearned(evidence: Evidence) -> bool:
    """Whether AP50 on its own training pictures, or on held-out ones where those are not at hand, is below LEARNED_AP50."""
    train = evidence.ap50.get("training", float("nan"))
    level = train if train == train else evidence.home_ap50
    return level < LEARNED_AP50


def test(evidence: Evidence) -> Hypothesis:
    """Supported when it fails on what it was trained on, or when the rise still under way would close half of the gap."""
    learning, home = evidence.learning, evidence.home_ap50
    train = evidence.ap50.get("training", float("nan"))
    clues: list[Clue] = []
    if learning.slope is not None and learning.gain is not None:
        rising = learning.slope_low is not None and learning.slope_low > 0
        clues.append(
            Clue(
                rising,
                f"Validation AP50 {'still rises' if rising else 'has levelled off'}: {learning.slope:+.4f} an epoch at the end of {count(learning.epochs, 'epoch')}.",
            )
        )
    elif 0 < learning.epochs <= MIN_TAIL:
        clues.append(Clue(True, f"{count(learning.epochs, 'epoch')}: too few to call anything trained."))
    else:
        clues.append(Clue(None, "No learning curve with validation AP50 is available."))
    level = train if train == train else home
    if level == level:
        clues.append(
            Clue(
                level < LEARNED_AP50,
                f"AP50 on {'its own training pictures' if train == train else 'in-domain pictures'} is {fraction(level)}.",
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
            "Neither a learning curve nor labelled in-domain pictures are at hand.",
            tuple(clues),
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
            f"It has not learned its own data: AP50 {'on its training pictures ' if train == train else ''}is {fraction(level)}{few}.",
            tuple(clues),
        )
    if learning.gain is None:
        statement = f"It has learned its own data (AP50 {fraction(level)})."
        return Hypothesis(
            CODE,
            NAME,
            "rejected",
            0.0,
            statement,
            tuple(clues),
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
            tuple(clues),
        )
    # A straight line knows no end; AP50 does.
    gain = min(learning.gain, max(0.0, 1 - home))
    share, high = gain / evidence.gap, None
    statement = (
        f"In-domain AP50 is {fraction(home)}; {AHEAD} more epochs at the final slope would add about {points(gain)} at home, "
        f"against a fall of {points(evidence.gap)} to {evidence.away}."
    )
    if evidence.carried is not None:
        found = evidence.carried
        steepest = learning.slope_high if learning.slope_high is not None else learning.slope or 0.0
        most = min(AHEAD * max(0.0, steepest), max(0.0, 1 - home)) / evidence.gap
        share, high = share * max(0.0, found.share), most * max(0.0, found.high)
        clues.append(
            Clue(
                found.low > 0,
                f"From epoch {found.epochs[0]} to {found.epochs[1]} AP50 went from {fraction(found.home[0])} to {fraction(found.home[1])} at home and from {fraction(found.away[0])} to {fraction(found.away[1])} on {evidence.away}.",
            )
        )
        arrives = "nothing" if found.share <= 0 else percent(found.share)
        statement += f" Of what epochs {found.epochs[0]} to {found.epochs[1]} won at home, {arrives} arrived out there, at most {percent(max(0.0, found.high))}."
    return Hypothesis(
        CODE,
        NAME,
        judge(share, high=high),
        clip(share),
        statement,
        tuple(clues),
        missing="" if judge(share, high=high) != "untested" else "train longer and look again",
    )
