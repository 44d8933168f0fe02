"""Wrong labels: real-world objects left out, boxes misplaced, or things labelled that are no objects."""

from __future__ import annotations

from diagnostics.evidence import (
    HOLDS,
    REJECTED_SHARE,
    Assessment,
    Evidence,
    NotTestable,
    Observation,
    ask_for_labels,
    class_alone,
    clip,
    status_from_bounds,
    status_from_share,
    takes_labels,
    without_a_drop,
)
from diagnostics.factors import NOTABLE_EFFECT
from diagnostics.hypotheses.domain_shift import left_by_others, mislabelled_classes
from diagnostics.label_audit import LabelAudit
from diagnostics.point_measures import Share
from diagnostics.shift import is_alike
from diagnostics.wording import count, fraction, joined, percent, points

CODE, NAME = "label_error", "Wrong labels"
AUDIT = "run shiftscope review --labels: 60 labels, the most suspicious first (about 5 minutes)"


def _same_images(evidence: Evidence) -> bool:
    """Whether images, detections and readable factors of the real world are those of the in-domain set.

    Without embeddings, images are compared by light, colours and edges, and detections by how many, how sure
    and how large they are. Factors of annotations other than their size do not count: wrong labels change
    those themselves.
    """
    real_world = evidence.real_world or ""
    factors = evidence.factors.get(real_world)
    images = evidence.shift_image.get(real_world, evidence.shift_descriptors.get(real_world))
    detections = evidence.shift_boxes.get(real_world, evidence.shift_detections.get(real_world))
    if factors is None or not (is_alike(images) and is_alike(detections)):
        return False
    independent = factors[
        (factors["kind"] == "appearance") | factors["name"].isin(["top_light", "texture_gradient", "size_px"])
    ]
    return bool((independent["effect"] < NOTABLE_EFFECT).all())


def _assess_audit(audit: LabelAudit, share: Share, gap: float, observations: list[Observation]) -> Assessment:
    """By the answers of a person. A wrong label costs AP50 what one object is worth: as one that is missed,
    and once more as a false positive where a detection is right and its label is not. Shares of all classes
    together do not bound a mean over classes, in which all labels of a rare one may be wrong: there nothing
    is ruled out.
    """
    value, low, high = share
    text = (
        f"{audit.answers} labels of {audit.domain} were judged, {audit.wrong} of them wrong or left out: "
        f"{percent(value)} of all, 95 % interval {percent(low)} to {percent(high)}."
    )
    explained, least, most = clip(value / gap), clip(low / gap), clip(2 * high / gap)
    status = status_from_share(explained, least, most)
    if status == "rejected" and audit.classes > 1:
        status = "inconclusive"
    observations = [*observations, Observation(status == "supported", text)]
    statement = (
        f"{percent(value)} of the labels of {audit.domain} are wrong or left out, by {audit.answers} judged "
        f"ones; that explains about {percent(explained)} of the drop of {points(gap)}, and at most "
        f"{percent(most)}."
    )
    return Assessment(status, explained, statement, observations)


def assess(evidence: Evidence) -> Assessment:
    """Supported by elimination: where the same images of the same objects score lower, the labels differ.

    If P(image) is unchanged and the score is not, P(label | image) has changed: wrong labels, or another
    definition of the
    object. Where images differ too, only a review of the labels decides.
    """
    if evidence.real_world is None or evidence.errors.empty:
        raise NotTestable(takes_labels("Judging labels", evidence), missing=ask_for_labels(evidence))
    if not evidence.gap_is_real or evidence.gap is None:
        alone = class_alone(evidence, CODE, HOLDS, AUDIT)
        if alone is not None:
            return alone
        return without_a_drop(evidence, "wrong labels")
    errors = evidence.errors[evidence.errors["domain"] == evidence.real_world].set_index("type")["count"]
    background, missed = int(errors.get("background", 0)), int(errors.get("missed", 0))
    share = background / max(int(errors.sum()), 1)
    text = (
        f"Of {count(int(errors.sum()), 'error')} on {evidence.real_world}, {background:,} "
        f"({percent(share)}) are "
        f"detections on no annotation and {missed:,} are missed objects."
    )
    observations = [Observation(None, text)]
    audit = evidence.audits.get(evidence.real_world)
    if audit is not None and audit.share is not None:
        return _assess_audit(audit, audit.share, evidence.gap, observations)
    share, causes = mislabelled_classes(evidence)
    observations += [Observation(True, cause.statement) for cause in causes]
    if causes and not _same_images(evidence):
        # What the detector sees alike may still be another thing: only a person decides, so never supported.
        names = joined([cause.name for cause in causes])
        statement = (
            f"Labels of {names} are probably wrong, and these classes make up {percent(share)} of the drop "
            f"of {points(evidence.gap)}. Only a look at the labels decides."
        )
        return Assessment("inconclusive", share, statement, observations, missing=AUDIT, by_class=True)
    if not _same_images(evidence):
        raise NotTestable("Label quality was not tested.", missing=AUDIT, observations=observations)
    least, most = left_by_others(evidence)
    if evidence.real_world not in evidence.shift_image or evidence.real_world in evidence.shift_boxes:
        raise _without_embeddings(
            evidence, observations, (least + most) / 2 if least >= REJECTED_SHARE else None
        )
    image = evidence.shift_image[evidence.real_world]
    text = (
        f"No measured difference between the images: MMD is {fraction(image.mmd_ratio)} times its "
        f"in-domain reference "
        f"(p {fraction(image.p)}), and light, sharpness, viewpoint and object size are alike."
    )
    observations.append(Observation(True, text))
    status = status_from_bounds(least, most)
    due = percent(least) if least == most else f"{percent(least)} or more"
    statement = (
        f"{evidence.real_world} shows the same kind of images as the in-domain set and scores "
        f"{points(evidence.gap)} "
        f"lower: {due} of that is due to its labels or to another definition of the object."
    )
    score = {"supported": (least + most) / 2, "rejected": least}.get(status)
    return Assessment(status, score, statement, observations, AUDIT, is_bound=least < most)


def _without_embeddings(
    evidence: Evidence, observations: list[Observation], score: float | None
) -> NotTestable:
    """Images and detections are those of the in-domain set as far as can be compared without embeddings of
    detections: the labels are what remains, without a proof.
    """
    real_world = evidence.real_world or ""
    images = "The images" if real_world in evidence.shift_image else "Light, colours and edges of the images"
    p = evidence.shift_boxes[real_world].p
    text = (
        f"{images} are alike; so are number, classes, confidence and size of the detections: no more apart "
        f"than in-domain split halves (p {fraction(p)})."
    )
    return NotTestable(
        f"{real_world} looks like the in-domain set, and its detections are as many, as sure and as "
        f"large, yet AP50 is {points(evidence.gap or 0.0)} lower: that points to its labels. Only a look at "
        "the labels decides.",
        missing=AUDIT,
        observations=[*observations, Observation(True, text)],
        score=score,
    )
