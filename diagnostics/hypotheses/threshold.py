"""The detector ranks well out there, and only the confidence threshold is wrong."""

from __future__ import annotations

from diagnostics.evidence import NO_LABELS, Clue, Evidence, Hypothesis, clip, judge
from diagnostics.wording import fraction, percent

CODE, NAME = "threshold", "Wrong confidence threshold"
# Choosing and measuring on a few dozen pictures moves F1 by this much by itself.
HARMLESS_LOSS = 0.05


def test(evidence: Evidence) -> Hypothesis:
    """Share of the F1 gap that the real world's own best threshold wins back, chosen and measured on different clips."""
    found = evidence.threshold
    if found is None and evidence.gap_is_real and evidence.away_ap50 < 0.5 * evidence.home_ap50:
        statement = (
            f"AP50 does not depend on a threshold, and falls from {fraction(evidence.home_ap50)} to {fraction(evidence.away_ap50)}: "
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
    lost = found.home - found.carried
    whose = "your" if found.given else "the in-domain best"
    if lost <= HARMLESS_LOSS:
        return Hypothesis(
            CODE,
            NAME,
            "rejected",
            0.0,
            f"{whose[0].upper()}{whose[1:]} threshold {fraction(found.confidence)} serves {evidence.away} as well: F1 {fraction(found.carried)} against {fraction(found.home)} at home.",
        )
    mended = found.crossfitted if found.crossfitted is not None else found.away
    share = max(0.0, mended - found.carried) / lost
    statement = (
        f"At {whose} threshold {fraction(found.confidence)}, F1 is {fraction(found.home)} at home and {fraction(found.carried)} on {evidence.away}; "
        f"the best threshold out there ({fraction(found.away_confidence)}) lifts it to {fraction(found.away)}, {percent(clip(share))} of what is lost."
    )
    recall = evidence.max_recall.get(evidence.away or "", float("nan"))
    home_recall = evidence.max_recall.get(evidence.home, float("nan"))
    clues = []
    if found.crossfitted is not None:
        fitted = f"F1 with a threshold fitted on half of the clips and measured on the other half: {fraction(mended)}."
        clues.append(Clue(share >= 0.5, fitted))
    if recall == recall:
        clues.append(
            Clue(
                None,
                f"With every box down to confidence .001, recall is {fraction(recall)} out there and {fraction(home_recall)} at home; no threshold can find more.",
            )
        )
    if evidence.gap is not None and evidence.home_ap50 > 0:
        clues.append(
            Clue(
                False if evidence.gap_is_real else None,
                f"AP50 does not depend on a threshold and is {fraction(evidence.away_ap50)} against {fraction(evidence.home_ap50)}.",
            )
        )
    status = judge(share)
    # A threshold changes no ranking. Where more than half of AP50 is gone, ranking is what failed, and winning back less than half of F1
    # does not make the threshold the cause; winning back more leaves it open beside the real one.
    if evidence.gap_is_real and evidence.away_ap50 < 0.5 * evidence.home_ap50:
        status = "untested" if status == "supported" else "rejected"
    missing = (
        ""
        if status != "untested"
        else "set the threshold out there and judge the rest of the gap on new clips"
    )
    return Hypothesis(
        CODE, NAME, status, clip(share) if status != "untested" else None, statement, tuple(clues), missing
    )
