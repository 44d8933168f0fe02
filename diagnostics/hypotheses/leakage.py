"""The in-domain score is inflated: validation pictures, or their recordings, also stand in training."""

from __future__ import annotations

from diagnostics.evidence import SUPPORTED_SHARE, Clue, Evidence, Hypothesis, Status, clip, judge
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
        Clue(shared > TOLERATED, f"{leak.shared_groups} share a recording with training.")
        if leak.clips_known
        else Clue(
            None,
            "Nothing says which pictures are of one recording (give --group-by), so shared recordings could not be looked for.",
        ),
    ]
    recordings = f" and {leak.shared_groups} pictures of shared recordings" if leak.clips_known else ""
    found = f"{leak.duplicates} near-copies{recordings} among {count(leak.val, 'validation picture')}"
    compared = count(leak.train, "training picture")
    if leak.train < leak.train_total:
        compared = f"{leak.train:,} of {count(leak.train_total, 'training picture')}"
    if max(copies, shared) <= TOLERATED:
        # Copies of training pictures that were not compared go unseen: scale up before calling the score honest.
        if copies * leak.train_total / leak.train > TOLERATED:
            statement = f"Copies are few among the pictures compared, but not all were: {found}, compared with {compared}."
            missing = "look for copies of the validation pictures in all of the training pictures"
            return Hypothesis(CODE, NAME, "untested", None, statement, tuple(clues), missing=missing)
        honest = "is honest" if leak.clips_known else "is honest as far as copies go"
        statement = f"The in-domain score {honest}: {found}, compared with {compared}."
        return Hypothesis(CODE, NAME, "rejected", 0.0, statement, tuple(clues))
    if leak.clean_ap50 is None:
        missing = "split by recording (--group-by) and train again: too few clean validation pictures are left to tell the honest score"
        # Recordings are guessed from file names unless --group-by says otherwise: a guess alone convicts nobody.
        status: Status = "supported" if copies >= SUPPORTED_SHARE else "untested"
        score = copies if status == "supported" else None
        statement = f"The in-domain score may be inflated: {found}, compared with {compared}."
        return Hypothesis(CODE, NAME, status, score, statement, tuple(clues), missing=missing)
    inflation = evidence.home_ap50 - leak.clean_ap50
    clues.append(
        Clue(
            inflation > 0.05,
            f"Without them, in-domain AP50 is {fraction(leak.clean_ap50)} instead of {fraction(evidence.home_ap50)}.",
        )
    )
    share = inflation / evidence.gap if evidence.gap_is_real and evidence.gap else inflation
    explains = f", which explains {percent(clip(share))} of the gap" if evidence.gap_is_real else ""
    statement = f"{found[0].upper()}{found[1:]}; without them in-domain AP50 is {fraction(leak.clean_ap50)}{explains}."
    status = judge(share)
    score = None if status == "untested" else clip(share)
    missing = "split by recording and train again" if status == "untested" else ""
    return Hypothesis(CODE, NAME, status, score, statement, tuple(clues), missing=missing)
