"""The real-world labels are careless: objects left out, boxes misplaced, things boxed that are none."""

from __future__ import annotations

from diagnostics.evidence import NO_LABELS, Evidence, Hypothesis, Observation, clip, status_from_share
from diagnostics.factors import NOTABLE_EFFECT
from diagnostics.hypotheses.domain_shift import ALPHA, explained_elsewhere
from diagnostics.intervals import ENOUGH_GROUPS
from diagnostics.shift import Shift
from diagnostics.wording import count, fraction, percent, points

CODE, NAME = "label_error", "Wrong labels"
AUDIT = "look at 50 confident false positives and 50 misses in the App (views 'false positives' and 'misses'); 10 wrong labels or more would matter"


def _alike(shift: Shift | None) -> bool:
    """Whether two sets lie no further apart than halves of home do, with enough clips on both sides to have found a difference.

    The domain AUC has no say: what it reaches by chance depends on the clips, and only the permutation test and the halves know that.
    """
    if shift is None or shift.p is None or shift.mmd_ratio is None:
        return False
    enough = min(shift.groups_in_domain, shift.groups_real_world) >= ENOUGH_GROUPS
    return enough and shift.p > ALPHA and shift.mmd_ratio <= 1


def _same_images(evidence: Evidence) -> bool:
    """Whether images, objects and readable factors of the real world are those of home.

    Factors of annotated boxes other than their size do not count: wrong labels change those themselves.
    """
    real_world = evidence.real_world or ""
    factors = evidence.factors.get(real_world)
    if factors is None or not (
        _alike(evidence.shift_image.get(real_world)) and _alike(evidence.shift_detections.get(real_world))
    ):
        return False
    most_telling_image = factors[
        (factors["kind"] == "appearance") | factors["name"].isin(["top_light", "texture_gradient", "size_px"])
    ]
    return bool((most_telling_image["effect"] < NOTABLE_EFFECT).all())


def assess(evidence: Evidence) -> Hypothesis:
    """Supported by elimination: where the same images of the same objects score worse, what differs is what they are compared with.

    If P(image) is unchanged and the score is not, P(label | image) has changed: careless labels, or another idea of what counts as an
    object. Where images differ too, the detector that is on trial cannot tell, and an audit by eye decides.
    """
    if evidence.real_world is None or evidence.errors.empty:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "Real-world labels, which could be wrong, are not at hand.",
            missing=NO_LABELS,
        )
    if not evidence.gap_is_real or evidence.gap is None:
        return Hypothesis(
            CODE,
            NAME,
            "rejected",
            0.0,
            f"There is no gap for wrong labels to explain on {evidence.real_world}.",
        )
    mine = evidence.errors[evidence.errors["domain"] == evidence.real_world].set_index("type")["count"]
    background, missed = int(mine.get("background", 0)), int(mine.get("missed", 0))
    share = background / max(int(mine.sum()), 1)
    observations = [
        Observation(
            None,
            f"Of {count(int(mine.sum()), 'error')} in the real world, {background:,} ({percent(share)}) are detections on no labelled object and {missed:,} are missed objects.",
        )
    ]
    if not _same_images(evidence):
        statement = (
            "A detector cannot testify about its own judge: whether labels are wrong is for eyes to decide."
        )
        return Hypothesis(CODE, NAME, "untested", None, statement, tuple(observations), missing=AUDIT)
    image = evidence.shift_image[evidence.real_world]
    observations.append(
        Observation(
            True,
            f"The images are those of home as far as anything here can tell: MMD is {fraction(image.mmd_ratio)} times what halves of home reach (p {fraction(image.p)}), and light, sharpness, viewpoint and object size are alike.",
        )
    )
    left = 1 - explained_elsewhere(evidence)
    status = status_from_share(left)
    statement = (
        f"{evidence.real_world} shows the same kind of images as home and scores {points(evidence.gap)} less: "
        f"{percent(clip(left))} of that is left to its labels, or to another idea of what counts as an object."
    )
    return Hypothesis(
        CODE,
        NAME,
        status,
        clip(left) if status != "untested" else None,
        statement,
        tuple(observations),
        missing=AUDIT,
    )
