"""Domain shift: the real-world images differ from the training images in viewpoint, appearance or context."""

from __future__ import annotations

from dataclasses import replace

from diagnostics.class_causes import ClassCause
from diagnostics.evidence import (
    HOLDS,
    REJECTED_SHARE,
    SUPPORTED_SHARE,
    Assessment,
    Evidence,
    NotTestable,
    Observation,
    Status,
    ask_for_labels,
    class_alone,
    clip,
    has_few_annotations,
    inconclusive,
    ruled_out,
    score_without_labels,
    status_from_bounds,
    status_from_share,
    without_a_drop,
)
from diagnostics.factors import NOTABLE_EFFECT
from diagnostics.hypotheses.label_protocol import explained_by_labels
from diagnostics.hypotheses.scale import (
    estimated_share,
    explained_by_size,
    is_likely_without_labels,
    is_unmeasured,
    was_measured,
)
from diagnostics.hypotheses.underfit import unlearned
from diagnostics.point_measures import Reviewed
from diagnostics.shift import Shift, is_alike, is_shifted
from diagnostics.wording import count, fraction, interval, joined, percent, points, points_interval

CODE, NAME = "domain_shift", "Domain shift"
MORE_IN_DOMAIN = (
    "add labelled in-domain images with the classes of the real-world set, and run the report again"
)
# The interventions that take one kind of difference away, and the factors that each makes alike.
INTERVENTION_KINDS = (("colours", "appearance"), ("foreshortening", "viewpoint"), ("surroundings", "context"))
EQUALISED = {
    "appearance": ("brightness", "contrast", "saturation"),
    "viewpoint": ("aspect",),
    # How many objects an image has stays as it is; what else is around them has no factor of its own.
    "context": (),
}
# A drop in recall beyond this, at any confidence, is a loss of detections and not of ranking.
NOTABLE_RECALL_DROP = 0.15


def assess(evidence: Evidence) -> Assessment:
    """Supported when images or detections differ beyond the reference, the drop is real, and other causes
    leave most unexplained.

    The score is the share that no other measured cause explains; where one is only bounded, the middle
    between the least and the most that this leaves.
    """
    domain = evidence.domain
    if domain is None:
        raise NotTestable(
            "There is no real-world domain to compare with.",
            missing="shiftscope report with --real-world SOURCE",
        )
    shifts = (evidence.shift_image.get(domain), evidence.shift_detections.get(domain))
    measured = [result for result in map(is_shifted, shifts) if result is not None]
    shifted = any(measured) if measured else None
    kind, factors = _kind(evidence, domain)
    observations = _shift_observations(evidence, domain) + factors
    if evidence.gap is None:
        raise _without_labels(evidence, domain, shifted, kind, observations)
    lead = (
        f"Images of {domain} as a whole differ no more than in-domain split halves do, but"
        if shifted is False
        else HOLDS
    )
    alone = class_alone(
        evidence,
        CODE,
        lead,
        "add images that show {names} as it looks here, train again, and run the report again",
    )
    # A class that looks otherwise, among others that do not, hardly changes an image.
    if alone is not None and (not evidence.gap_is_real or shifted is False):
        return replace(alone, observations=[*observations, *alone.observations], kind=kind)
    if evidence.gap_is_unresolved:
        return without_a_drop(evidence, "a difference between the images", observations, kind=kind)
    if not evidence.gap_is_real:
        scores = (
            f"AP50 is {fraction(evidence.real_world_ap50)}, in-domain {fraction(evidence.in_domain_ap50)}"
        )
        harmless = (
            f"{domain} differs, but harmlessly: {scores}." if shifted else f"No harmful difference: {scores}."
        )
        return ruled_out(harmless, observations, kind=kind)
    observations += _drop_observations(evidence, domain)
    if shifted is None:
        blind = not evidence.shift_image
        if blind and is_shifted(evidence.shift_descriptors.get(domain)) and not unlearned(evidence):
            raise _without_weights(evidence, domain, kind, observations)
        alike = blind and is_alike(evidence.shift_descriptors.get(domain))
        lacks = "no embeddings" if blind else "too few clips for a reference"
        why = (
            "light, colours and edges of the images are alike, and there are no embeddings to compare more"
            if alike
            else f"there are {lacks} to compare the images"
        )
        raise NotTestable(
            f"AP50 drops by {points(evidence.gap)}, but {why} with.",
            missing="give the weights" if blind else "add clips: at least 4 in-domain and 2 real-world ones",
            observations=observations,
            kind=kind,
        )
    if not shifted:
        return ruled_out(
            f"Neither images nor detections of {domain} differ more than in-domain split halves do.",
            observations,
            kind=kind,
        )
    return _by_elimination(evidence, domain, kind, observations)


def _by_elimination(
    evidence: Evidence, domain: str, kind: str, observations: list[Observation]
) -> Assessment:
    """The shift is there: how much of the drop do the other causes leave?"""
    least, most = left_by_others(evidence)
    status = status_from_bounds(least, most)
    if status == "rejected":
        statement = (
            f"{domain} differs from training, but other causes explain {percent(1 - most)} of the drop."
        )
        return ruled_out(statement, observations, score=least, kind=kind)
    if unlearned(evidence):
        return inconclusive(
            f"{domain} differs from training, but the detector has not learned its own domain, so the cost "
            f"of the "
            "difference cannot be separated.",
            observations,
            missing="train until the detector has learned its own domain, then compare again",
            kind=kind,
        )
    scores = f"{fraction(evidence.in_domain_ap50)} to {fraction(evidence.real_world_ap50)}"
    mainly = f", mainly in {kind}" if kind else ""
    # Labels that are only probably wrong rule nothing out, and keep a shift from being the larger part for
    # sure.
    doubt, causes = mislabelled_classes(evidence)
    if doubt > 1 - least:
        names = joined([cause.name for cause in causes])
        return Assessment(
            "inconclusive" if 1 - doubt < SUPPORTED_SHARE else status,
            clip(1 - doubt),
            f"AP50 drops from {scores} on {domain}, whose images differ from the training images{mainly}; "
            f"{percent(doubt)} of the drop is in {names}, whose labels are probably wrong.",
            observations,
            "run shiftscope review --labels",
            kind,
            by_class=True,
        )
    statement = (
        f"AP50 drops from {scores} on {domain}, whose images differ from the training images{mainly}; "
        f"{_others_explain(evidence)}."
    )
    missing = "" if status == "supported" else "label more clips, or add real-world images and train again"
    score = (least + most) / 2
    return Assessment(status, score, statement, observations, missing, kind, is_bound=least < most)


def _without_weights(
    evidence: Evidence, domain: str, kind: str, observations: list[Observation]
) -> NotTestable:
    """The drop is shown, and the images differ in light, colours and edges, which a detector may or may not
    mind: what no other cause explains is the shift's, without a proof.
    """
    least, most = left_by_others(evidence)
    size_unmeasured = is_unmeasured(evidence)
    others = (
        "the objects have another size, too, which may be all"
        if size_unmeasured
        else _others_explain(evidence)
    )
    return NotTestable(
        f"AP50 drops from {fraction(evidence.in_domain_ap50)} to {fraction(evidence.real_world_ap50)} on "
        f"{domain}, whose images differ from the training images{f', mainly in {kind}' if kind else ''}; "
        f"{others}. Without the weights, what the difference costs cannot be tried.",
        missing="give the weights, so that the difference can be taken away and AP50 measured again",
        observations=observations,
        kind=kind,
        score=None if size_unmeasured or least < REJECTED_SHARE else (least + most) / 2,
    )


def _without_labels(
    evidence: Evidence, domain: str, shifted: bool | None, kind: str, observations: list[Observation]
) -> NotTestable:
    """The cost of a shift cannot be measured: the reason, with the estimated AP50 where there is one."""
    differs = (
        "could not be compared with the training images (too few clips, or no weights)"
        if shifted is None
        else "differs from the training images"
        if shifted
        else "is not shown to differ from the training images"
    )
    mainly = f", mainly in {kind}" if kind and shifted else ""
    labelled = domain in evidence.ap50
    cost = (
        "its cost cannot be measured: the two sets have too few annotations of the same classes"
        if labelled
        else f"its cost cannot be measured with {count(evidence.annotations or 0, 'annotation')}"
        if has_few_annotations(evidence)
        else "its cost cannot be measured without labels"
    )
    estimate, reviewed = evidence.label_free.get(domain), evidence.reviewed.get(domain)
    if reviewed is not None and reviewed.drop is not None:
        cost = _reviewed_sentence(reviewed)
    elif labelled:
        cost += (
            f"; on its own classes AP50 is {fraction(evidence.ap50[domain])}, in-domain "
            f"{fraction(evidence.in_domain_ap50)} on others"
        )
    elif estimate is not None and estimate.ap50 is not None:
        cost += (
            f"; estimated AP50 (label-free) is {fraction(estimate.ap50)}, 90 % interval "
            f"{interval(estimate.low, estimate.high)}, in-domain {fraction(evidence.in_domain_ap50)}"
        )
    return NotTestable(
        f"{domain} {differs}{mainly}; {cost}.",
        missing=ask_for_labels(evidence),
        observations=observations,
        kind=kind,
        score=_score_without_labels(evidence, bool(shifted)),
    )


def _reviewed_sentence(reviewed: Reviewed) -> str:
    """What the clicks of a person show, as the end of a sentence."""
    measures, drop = reviewed.real_world, reviewed.drop
    if measures.ap is None or reviewed.in_domain.ap is None or drop is None:
        return f"the answers about {measures.frames} frames say nothing yet: {measures.note}"
    return (
        f"by clicks in {measures.frames} frames, AP by points is {fraction(measures.ap[0])} "
        f"({interval(measures.ap[1], measures.ap[2])}), in-domain {fraction(reviewed.in_domain.ap[0])}: a "
        f"drop of {points(drop[0])}, {points_interval(drop[1], drop[2], '')}"
    )


def _score_without_labels(evidence: Evidence, shifted: bool) -> float | None:
    """The score of a shift whose cost cannot be measured; None where nothing favours one, see
    `evidence.score_without_labels`. Where another image size makes up for half of the estimated drop, the
    rest is left for a shift.
    """
    score = score_without_labels(evidence)
    if not shifted or score is None or unlearned(evidence):
        return None
    return score * (1 - estimated_share(evidence)) if is_likely_without_labels(evidence) else score


def _describe(what: str, shift: Shift) -> str:
    """One sentence on a shift measurement, every number beside its in-domain reference."""
    parts = []
    if shift.auc is not None:
        reference = f" (in-domain reference {fraction(shift.auc_null)})" if shift.auc_null is not None else ""
        parts.append(f"a classifier separates the two sets with AUC {fraction(shift.auc)}{reference}")
    if shift.mmd_ratio is not None:
        p = f" (p {shift.p:.3f})" if shift.p is not None else ""
        parts.append(f"MMD is {shift.mmd_ratio:.1f} times its in-domain reference{p}")
    if shift.outside is not None:
        parts.append(
            f"{percent(shift.outside)} lie outside the in-domain range (reference "
            f"{percent(shift.outside_null)})"
        )
    note = f" {shift.note[0].upper()}{shift.note[1:]}." if shift.note else ""
    return f"{what}: {', '.join(parts)}.{note}"


def _shift_observations(evidence: Evidence, domain: str) -> list[Observation]:
    """Shift of images, of detections, and of light, colours and edges."""
    observations = [
        Observation(is_shifted(shift), _describe(what, shift))
        for what, shift in (
            ("Images", evidence.shift_image.get(domain)),
            ("Detections", evidence.shift_detections.get(domain)),
        )
        if shift is not None and shift.mmd is not None
    ]
    descriptors = evidence.shift_descriptors.get(domain)
    if descriptors is not None and descriptors.mmd is not None:
        # A descriptor without a model shows differences that harm no detector, so it decides nothing.
        observations.append(Observation(None, _describe("Light, colours and edges", descriptors)))
    return observations


def _kind(evidence: Evidence, domain: str) -> tuple[str, list[Observation]]:
    """The kind of shift that the readable factors show, and the factors that differ most."""
    table = evidence.factors.get(domain)
    if table is None or table.empty:
        return "", []
    observations = [
        Observation(
            None,
            f"{row.words[0].upper()}{row.words[1:]} is {row.effect:.1f} in-domain standard deviations "
            f"apart ({row.kind}).",
        )
        for row in table[table["effect"] >= NOTABLE_EFFECT].head(4).itertuples()
    ]
    shown = shown_kinds(evidence)
    if shown:
        return shown[0], observations
    tried = _kinds_tried(evidence)
    # Size has a hypothesis of its own; the other factors decide the kind, without those that were made alike
    # in an experiment and did not matter.
    harmless = {name for kind, status in tried.items() if status == "rejected" for name in EQUALISED[kind]}
    others = table[(table["kind"] != "scale") & ~table["name"].isin(harmless)]
    strength = others.groupby("kind")["effect"].max().sort_values(ascending=False)
    notable = [str(kind) for kind, effect in strength.items() if effect >= NOTABLE_EFFECT]
    # How many objects an image has is a matter of what was photographed and labelled, and shows no other
    # surroundings by itself: it names the kind only where nothing else differs.
    return next((kind for kind in notable if kind != "context"), next(iter(notable), "")), observations


def shown_kinds(evidence: Evidence) -> list[str]:
    """The kinds of a shift that an intervention shows, the most effective first."""
    return [kind for kind, status in _kinds_tried(evidence).items() if status == "supported"]


def _kinds_tried(evidence: Evidence) -> dict[str, Status]:
    """What taking a kind of difference away showed, by kind, the most effective first."""
    tried = {
        kind: evidence.recoveries[name] for name, kind in INTERVENTION_KINDS if name in evidence.recoveries
    }
    return {
        kind: status_from_share(recovery.share, recovery.low, recovery.high)
        for kind, recovery in sorted(tried.items(), key=lambda item: -item[1].share)
    }


# Classes whose loss is told among the evidence; the section on classes has all.
MOST_CLASSES = 3


def _drop_observations(evidence: Evidence, domain: str) -> list[Observation]:
    """What interventions recover, what recall loses at any confidence, and that the detector works
    in-domain.
    """
    observations = []
    for name, words in (
        ("colours", "Matching brightness and colours to the in-domain images"),
        ("foreshortening", "Squeezing the images to the in-domain object shapes"),
        ("surroundings", "Putting the objects into in-domain surroundings"),
    ):
        recovery = evidence.recoveries.get(name)
        if recovery is not None:
            text = (
                f"{words} takes AP50 on {recovery.images} images from {fraction(recovery.before)} to "
                f"{fraction(recovery.after)}."
            )
            observations.append(Observation(recovery.share >= SUPPORTED_SHARE, text))
    observations += [
        Observation(True, cause.statement) for cause in evidence.class_causes if cause.code == "domain_shift"
    ][:MOST_CLASSES]
    recall = evidence.max_recall.get(domain, float("nan"))
    in_domain_recall = evidence.max_recall.get(evidence.in_domain, float("nan"))
    if recall == recall and in_domain_recall == in_domain_recall:
        text = (
            f"Recall at the lowest confidence drops from {fraction(in_domain_recall)} to {fraction(recall)}: "
            f"{_lost_recall(recall, in_domain_recall)}."
        )
        observations.append(Observation(in_domain_recall - recall > NOTABLE_RECALL_DROP, text))
    if not unlearned(evidence):
        text = f"The detector works on held-out in-domain images (AP50 {fraction(evidence.in_domain_ap50)})."
        observations.append(Observation(True, text))
    return observations


def _lost_recall(recall: float, in_domain_recall: float) -> str:
    """What a recall at the lowest confidence means."""
    if recall > 0.8 * in_domain_recall:
        return "most objects are still detected at some confidence"
    lost = 1 - recall / max(in_domain_recall, 1e-9)
    return f"{percent(lost)} of the in-domain recall is lost at any threshold"


def left_by_others(evidence: Evidence) -> tuple[float, float]:
    """The least and the most of the drop that no other measured cause explains. These explain the largest of
    their shares, not the sum: the shares overlap.

    What more epochs would add in-domain is not among them: nothing shows that it would carry over.
    """
    shares = list(_shares_elsewhere(evidence).values())
    least, most = (clip(max(values)) for values in zip(*shares, strict=True)) if shares else (0.0, 0.0)
    return 1 - most, 1 - least


def _shares_elsewhere(evidence: Evidence) -> dict[str, tuple[float, float]]:
    """The least and the most of the drop that each other measured cause explains, by its name in a
    sentence.
    """
    shares = {}
    if was_measured(evidence):
        shares["object size"] = explained_by_size(evidence)
    if evidence.redrawn is not None:
        share = explained_by_labels(evidence)
        shares["labels drawn differently"] = (share, share)
    if evidence.leak is not None and evidence.leak.clean_ap50 is not None:
        share = (evidence.in_domain_ap50 - evidence.leak.clean_ap50) / (evidence.gap or 1e-9)
        shares["leakage"] = (share, share)
    return shares


def _others_explain(evidence: Evidence) -> str:
    """What the other causes of a lower AP50 explain of the drop, as the end of a sentence."""
    names, most = list(_shares_elsewhere(evidence)), percent(1 - left_by_others(evidence)[0])
    if not names:
        return "no other cause of a lower AP50 could be measured"
    verb = "explains" if len(names) == 1 else "explain"
    if most == percent(0):
        return f"{joined(names)} {verb} nothing of the drop in AP50"
    return f"{joined(names)} {verb} at most {most} of the drop in AP50"


def mislabelled_classes(evidence: Evidence) -> tuple[float, tuple[ClassCause, ...]]:
    """Share of the classes' losses for which labels are to blame, and why these classes lose."""
    causes = tuple(cause for cause in evidence.class_causes if cause.code == "label_error")
    return clip(sum(cause.drop_share for cause in causes)), causes
