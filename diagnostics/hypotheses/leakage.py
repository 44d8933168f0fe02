"""The in-domain score is inflated: validation pictures, or their recordings, also stand in training."""

from __future__ import annotations

from diagnostics.evidence import Clue, Evidence, Hypothesis, Status, clip, judge
from diagnostics.wording import count, fraction, percent

CODE, NAME = "leakage", "Leakage between training and validation"
# A few accidental copies move AP by less than its interval; this share and more is a faulty split.
TOLERATED = 0.02


def test(evidence: Evidence) -> Hypothesis:
    """Counts copies and shared recordings, and scores the validation pictures that have neither."""
    leak = evidence.leak
    if leak is None or leak.train == 0 or leak.val == 0:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "Training pictures are not at hand to compare with.",
            missing="give the run's data.yaml, which names the training pictures",
        )
    copies, shared = leak.duplicates / leak.val, leak.shared_groups / leak.val
    clues = [
        Clue(
            copies > TOLERATED,
            f"{leak.duplicates} of {count(leak.val, 'validation picture')} are near-copies of a training picture.",
        ),
        Clue(shared > TOLERATED, f"{leak.shared_groups} share a recording with training."),
    ]
    found = f"{leak.duplicates} near-copies and {leak.shared_groups} pictures of shared recordings among {count(leak.val, 'validation picture')}"
    if max(copies, shared) <= TOLERATED:
        return Hypothesis(
            CODE,
            NAME,
            "rejected",
            0.0,
            f"The in-domain score is honest: {found}, compared with {count(leak.train, 'training picture')}.",
            tuple(clues),
        )
    if leak.clean_ap50 is None:
        missing = "split by recording (--group-by) and train again: too few clean validation pictures are left to tell the honest score"
        status: Status = "supported" if max(copies, shared) >= 0.5 else "untested"
        score = max(copies, shared) if status == "supported" else None
        return Hypothesis(
            CODE,
            NAME,
            status,
            score,
            f"The in-domain score cannot be trusted: {found}.",
            tuple(clues),
            missing=missing,
        )
    inflation = evidence.home_ap50 - leak.clean_ap50
    clues.append(
        Clue(
            inflation > 0.05,
            f"Without them, in-domain AP50 is {fraction(leak.clean_ap50)} instead of {fraction(evidence.home_ap50)}.",
        )
    )
    share = inflation / evidence.gap if evidence.gap_is_real and evidence.gap else inflation
    statement = f"{found[0].upper()}{found[1:]}; without them in-domain AP50 is {fraction(leak.clean_ap50)}, which explains {percent(clip(share))} of the gap."
    return Hypothesis(
        CODE,
        NAME,
        judge(share),
        clip(share),
        statement,
        tuple(clues),
        missing="" if judge(share) != "untested" else "split by recording and train again",
    )
