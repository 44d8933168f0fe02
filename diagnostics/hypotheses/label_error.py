"""The real-world labels are careless: objects left out, boxes misplaced, things boxed that are none."""

from __future__ import annotations

from diagnostics.evidence import NO_LABELS, Clue, Evidence, Hypothesis
from diagnostics.wording import count, percent

CODE, NAME = "label_error", "Wrong labels"


def test(evidence: Evidence) -> Hypothesis:
    """Cannot be settled by the detector that is on trial: an audit by eye decides. Says how many errors there are to look at."""
    if evidence.away is None or evidence.errors.empty:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "There are no real-world labels that could be wrong.",
            missing=NO_LABELS,
        )
    if not evidence.gap_is_real:
        return Hypothesis(
            CODE, NAME, "rejected", 0.0, f"There is no gap for wrong labels to explain on {evidence.away}."
        )
    mine = evidence.errors[evidence.errors["domain"] == evidence.away].set_index("type")["count"]
    background, missed = int(mine.get("background", 0)), int(mine.get("missed", 0))
    share = background / max(int(mine.sum()), 1)
    clue = Clue(
        None,
        f"Of the errors out there, {count(background, 'detection')} lie on no labelled object ({percent(share)}) and {count(missed, 'object')} are missed.",
    )
    return Hypothesis(
        CODE,
        NAME,
        "untested",
        None,
        "A detector cannot testify about its own judge: whether labels are wrong is for eyes to decide.",
        (clue,),
        missing="look at 50 confident false positives and 50 misses in the App (views 'false positives' and 'misses'); 10 wrong labels or more would matter",
    )
