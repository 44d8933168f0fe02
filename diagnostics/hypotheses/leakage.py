"""Leakage: a score is inflated because validation or real-world images, or their recordings, are also in
training.
"""

from __future__ import annotations

from dataclasses import replace

from diagnostics.evidence import (
    HARMLESS_GAP,
    REJECTED_SHARE,
    SUPPORTED_SHARE,
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
from diagnostics.leakage import Copies, Leak
from diagnostics.wording import count, fraction, percent

CODE, NAME = "leakage", "Leakage of training images"
# A few accidental copies move AP by less than its interval; this share and more is a faulty split.
TOLERATED = 0.02
# The kind of leakage that is about the real-world images; the other is about the validation images.
REAL_WORLD = "real-world images"
# Pairs of an image and its copy that are named one by one.
MOST_PAIRS = 5


def assess(evidence: Evidence) -> Assessment:
    """Counts copies and shared recordings, and scores the validation images that have neither.

    Real-world images that training shows come first: no score on them is one of the real world.
    """
    trained_on = evidence.copies.get(evidence.domain or "")
    if trained_on is None or trained_on.share <= TOLERATED:
        return _assess_validation(evidence)
    real_world = _assess_real_world(evidence, trained_on)
    if real_world.status == "supported":
        return real_world
    # Too few of them to matter: they are named beside what the validation images show.
    validation = _assess_validation(evidence)
    observations = [Observation(True, real_world.statement), *validation.observations]
    return replace(validation, observations=observations)


def _assess_validation(evidence: Evidence) -> Assessment:
    """Validation images that training shows, or whose recordings it shows."""
    leak = evidence.leak
    if leak is None or leak.train == 0 or leak.val == 0:
        raise NotTestable(
            "The training images are not available to compare with.",
            missing="give the run's data.yaml, which names the training images",
        )
    copies, shared = leak.duplicates / leak.val, leak.shared_groups / leak.val
    observations = _observations(leak)
    recordings = f" and {leak.shared_groups} images of shared recordings" if leak.clips_known else ""
    counts = f"{leak.duplicates} near-copies{recordings} among {count(leak.val, 'validation image')}"
    compared = count(leak.train, "training image")
    if leak.train < leak.train_total:
        compared = f"{leak.train:,} of {count(leak.train_total, 'training image')}"
    if max(copies, shared) <= TOLERATED:
        # Copies of training images that were not compared are missed: scale up before calling the score
        # sound.
        if copies * leak.train_total / leak.train > TOLERATED:
            return inconclusive(
                f"Few copies, but not all training images were compared: {counts}, compared with {compared}.",
                observations,
                missing="search all training images for copies of the validation images",
            )
        sound = "is sound" if leak.clips_known else "is sound as far as copies go"
        return ruled_out(f"The in-domain score {sound}: {counts}, compared with {compared}.", observations)
    if leak.clean_ap50 is None:
        return _without_clean_images(copies, f"{counts}, compared with {compared}", observations)
    return _inflation(evidence, leak.clean_ap50, counts, observations)


def copies_sentence(domain: str, copies: Copies) -> str:
    """How many real-world images training shows, with AP50 on all images and on the others."""
    number = f"{copies.images:,} of {count(len(copies.mask), 'image')} of {domain}"
    are = (
        "is a training image or a near-copy of one"
        if copies.images == 1
        else "are training images or near-copies"
    )
    text = f"{number} {are}"
    if copies.ap50 is not None and copies.ap50_without is not None:
        text += (
            f": AP50 is {fraction(copies.ap50)} on all of them and "
            f"{fraction(copies.ap50_without)} on the others"
        )
    if copies.compared < copies.total:
        text += f" ({copies.compared:,} of {count(copies.total, 'training image')} were compared)"
    return f"{text}."


def _assess_real_world(evidence: Evidence, copies: Copies) -> Assessment:
    """Real-world images that training shows. Where the others show the drop, the copies hide some of it and
    cause none.
    """
    domain = evidence.domain or ""
    statement = copies_sentence(domain, copies)
    left = len(copies.mask) - copies.images
    scored = evidence.ap50.get(domain) is not None
    hidden = 0.0
    if scored and copies.ap50_without is None:
        # AP50 of all images is there, that of new ones is not.
        hidden = 1.0
        statement += (
            f" The other {left:,} have too few annotations to be scored alone, so the score of {domain} says "
            "nothing about new images."
            if left
            else f" The score of {domain} says nothing about new images."
        )
    elif left:
        statement += (
            f" Only the other {left:,} {'are' if left > 1 else 'is'} compared with the in-domain images."
        )
        hidden = (copies.ap50 or 0.0) - (copies.ap50_without or 0.0) if scored else 0.0
    observations = [
        Observation(True, f"{image} is a near-copy of {training}.")
        for image, training in copies.pairs[:MOST_PAIRS]
    ]
    if copies.share < SUPPORTED_SHARE and hidden <= HARMLESS_GAP:
        return ruled_out(statement, observations)
    score = REJECTED_SHARE if copies.ap50_without is not None and evidence.gap_is_real else copies.share
    missing = "give images that training has not seen"
    return Assessment("supported", score, statement, observations, missing, REAL_WORLD)


def _observations(leak: Leak) -> list[Observation]:
    """The counts, each beside what is tolerated."""
    copies = Observation(
        leak.duplicates / leak.val > TOLERATED,
        f"{leak.duplicates} of {count(leak.val, 'validation image')} are near-copies of a training image.",
    )
    if not leak.clips_known:
        unknown = "Recordings are unknown (give --group-by), so shared recordings were not counted."
        return [copies, Observation(None, unknown)]
    text = f"{leak.shared_groups} share a recording with training."
    return [copies, Observation(leak.shared_groups / leak.val > TOLERATED, text)]


def _without_clean_images(copies: float, counts: str, observations: list[Observation]) -> Assessment:
    """Too few validation images are free of copies to score them."""
    statement = f"The in-domain score may be inflated: {counts}."
    missing = (
        "split by recording (--group-by) and train again: too few clean validation images remain "
        "to measure the true score"
    )
    # Recordings are guessed from file names unless --group-by says otherwise: a guess alone supports nothing.
    if copies >= SUPPORTED_SHARE:
        return supported(copies, statement, observations, missing=missing)
    return inconclusive(statement, observations, missing=missing)


def _inflation(
    evidence: Evidence, clean_ap50: float, counts: str, observations: list[Observation]
) -> Assessment:
    """The share of the drop that goes away when copies do."""
    inflation = evidence.in_domain_ap50 - clean_ap50
    text = (
        f"Without them, in-domain AP50 is {fraction(clean_ap50)} instead of "
        f"{fraction(evidence.in_domain_ap50)}."
    )
    observations = [*observations, Observation(inflation > 0.05, text)]
    share = inflation / evidence.gap if evidence.gap_is_real and evidence.gap else inflation
    explains = f", which explains {percent(clip(share))} of the drop" if evidence.gap_is_real else ""
    statement = (
        f"{counts[0].upper()}{counts[1:]}; without them in-domain AP50 is {fraction(clean_ap50)}{explains}."
    )
    status = status_from_share(share)
    if status == "inconclusive":
        return inconclusive(statement, observations, missing="split by recording and train again")
    return Assessment(status, clip(share), statement, observations)
