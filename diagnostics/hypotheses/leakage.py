"""The in-domain score is inflated: validation images, or their recordings, also stand in training."""

from __future__ import annotations

from diagnostics.evidence import (
    SUPPORTED_SHARE,
    Evidence,
    Hypothesis,
    Observation,
    Status,
    clip,
    status_from_share,
)
from diagnostics.wording import count, fraction, percent

CODE, NAME = "leakage", "Leakage between training and validation"
# A few accidental copies move AP by less than its interval; this share and more is a faulty split.
TOLERATED = 0.02


def assess(evidence: Evidence) -> Hypothesis:
    """Counts copies and shared recordings, and scores the validation images that have neither."""
    leak = evidence.leak
    if leak is None or leak.train == 0 or leak.val == 0:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "Training images are not at hand to compare with.",
            missing="give the run's data.yaml, which names the training images",
        )
    copies, shared = leak.duplicates / leak.val, leak.shared_groups / leak.val
    observations = [
        Observation(
            copies > TOLERATED,
            f"{leak.duplicates} of {count(leak.val, 'validation image')} are near-copies of a training image.",
        ),
        Observation(shared > TOLERATED, f"{leak.shared_groups} share a recording with training.")
        if leak.clips_known
        else Observation(
            None,
            "Nothing says which images are of one recording (give --group-by), so shared recordings could not be looked for.",
        ),
    ]
    recordings = f" and {leak.shared_groups} images of shared recordings" if leak.clips_known else ""
    found = f"{leak.duplicates} near-copies{recordings} among {count(leak.val, 'validation image')}"
    compared = count(leak.train, "training image")
    if leak.train < leak.train_total:
        compared = f"{leak.train:,} of {count(leak.train_total, 'training image')}"
    if max(copies, shared) <= TOLERATED:
        # Copies of training images that were not compared go unseen: scale up before calling the score honest.
        if copies * leak.train_total / leak.train > TOLERATED:
            statement = f"Copies are few among the images compared, but not all were: {found}, compared with {compared}."
            missing = "look for copies of the validation images in all of the training images"
            return Hypothesis(CODE, NAME, "untested", None, statement, tuple(observations), missing=missing)
        honest = "is honest" if leak.clips_known else "is honest as far as copies go"
        statement = f"The in-domain score {honest}: {found}, compared with {compared}."
        return Hypothesis(CODE, NAME, "rejected", 0.0, statement, tuple(observations))
    if leak.clean_ap50 is None:
        missing = "split by recording (--group-by) and train again: too few clean validation images are left to tell the honest score"
        # Recordings are guessed from file names unless --group-by says otherwise: a guess alone convicts nobody.
        status: Status = "supported" if copies >= SUPPORTED_SHARE else "untested"
        score = copies if status == "supported" else None
        statement = f"The in-domain score may be inflated: {found}, compared with {compared}."
        return Hypothesis(CODE, NAME, status, score, statement, tuple(observations), missing=missing)
    inflation = evidence.in_domain_ap50 - leak.clean_ap50
    observations.append(
        Observation(
            inflation > 0.05,
            f"Without them, in-domain AP50 is {fraction(leak.clean_ap50)} instead of {fraction(evidence.in_domain_ap50)}.",
        )
    )
    share = inflation / evidence.gap if evidence.gap_is_real and evidence.gap else inflation
    explains = f", which explains {percent(clip(share))} of the gap" if evidence.gap_is_real else ""
    statement = f"{found[0].upper()}{found[1:]}; without them in-domain AP50 is {fraction(leak.clean_ap50)}{explains}."
    status = status_from_share(share)
    score = None if status == "untested" else clip(share)
    missing = "split by recording and train again" if status == "untested" else ""
    return Hypothesis(CODE, NAME, status, score, statement, tuple(observations), missing=missing)
