"""The real world looks different from what the detector was trained on: another viewpoint, another look, another context."""

from __future__ import annotations

from diagnostics.evidence import NO_LABELS, Evidence, Hypothesis, Observation, clip, status_from_share
from diagnostics.factors import NOTABLE_EFFECT
from diagnostics.hypotheses.scale import towards_in_domain
from diagnostics.hypotheses.underfit import unlearned
from diagnostics.shift import Shift
from diagnostics.wording import fraction, percent, points

CODE, NAME = "domain_shift", "Domain shift"
ALPHA = 0.05
# A classifier that tells images apart this well, against about 0.5 between halves of home, sees two kinds of images.
CLEAR_AUC = 0.9


def _is_shifted(shift: Shift | None) -> bool | None:
    """Whether a difference is shown; None when it was not measured. With one clip no test can be significant: separability decides."""
    if shift is None or shift.mmd is None:
        return None
    if shift.p is not None and shift.p <= ALPHA:
        return True
    if shift.p is None and shift.mmd_ratio is None:
        # Too few clips on either side for any comparison with a null.
        return None
    beyond_null = shift.mmd_ratio is not None and shift.mmd_ratio > 1
    return bool(beyond_null and shift.auc is not None and shift.auc >= CLEAR_AUC)


def _describe(what: str, shift: Shift) -> str:
    """One sentence on a shift measurement, every number beside its null."""
    parts = []
    if shift.auc is not None:
        parts.append(
            f"a classifier tells them apart with AUC {fraction(shift.auc)}"
            + (f" (halves of home: {fraction(shift.auc_null)})" if shift.auc_null is not None else "")
        )
    if shift.mmd_ratio is not None:
        parts.append(
            f"MMD is {shift.mmd_ratio:.1f} times what halves of home reach"
            + (f" (p {shift.p:.3f})" if shift.p is not None else "")
        )
    if shift.outside is not None:
        parts.append(
            f"{percent(shift.outside)} lie outside what home covers (null {percent(shift.outside_null)})"
        )
    return f"{what}: {', '.join(parts)}." + (
        f" {shift.note[0].upper()}{shift.note[1:]}." if shift.note else ""
    )


def _kinds(evidence: Evidence, domain: str) -> tuple[str, list[Observation]]:
    """Which kind of shift the readable factors speak for, strongest first, with the sentences."""
    table = evidence.factors.get(domain)
    if table is None or table.empty:
        return "", []
    observations = [
        Observation(
            None,
            f"{row.words[0].upper()}{row.words[1:]} differs by {row.effect:.1f} home standard deviations ({row.kind}).",
        )
        for row in table[table["effect"] >= NOTABLE_EFFECT].head(4).itertuples()
    ]
    # Size has a hypothesis of its own; what is left decides the kind.
    strength = table[table["kind"] != "scale"].groupby("kind")["effect"].max().sort_values(ascending=False)
    kind = str(strength.index[0]) if len(strength) and strength.iloc[0] >= NOTABLE_EFFECT else ""
    return kind, observations


def assess(evidence: Evidence) -> Hypothesis:
    """Supported when images or objects differ beyond the null, the fall is real, and the other hypotheses leave most of it unexplained.

    The score is what the measured hypotheses together leave over.
    """
    domain = evidence.real_world or next(iter([*evidence.unlabelled, *evidence.factors]), None)
    if domain is None:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "There is no real-world domain to compare with.",
            missing="shiftscope report with --real-world SOURCE",
        )
    image, annotations = evidence.shift_image.get(domain), evidence.shift_detections.get(domain)
    kind, factor_clues = _kinds(evidence, domain)
    observations = [
        Observation(_is_shifted(shift), _describe(what, shift))
        for what, shift in (("Images", image), ("Objects", annotations))
        if shift is not None and shift.mmd is not None
    ]
    look = evidence.shift_descriptors.get(domain)
    if look is not None and look.mmd is not None:
        # A descriptor without a model sees differences that no detector minds, so it decides nothing.
        observations.append(Observation(None, _describe("Light, colours and edges", look)))
    observations += factor_clues
    measured = [found for found in map(_is_shifted, (image, annotations)) if found is not None]
    shown = any(measured) if measured else None
    name = f"{NAME} ({kind})" if kind else NAME
    if evidence.gap is None:
        seen = "differs from training" if shown else "could not be told from training"
        reading = evidence.label_free.get(domain)
        cost = "what that costs cannot be measured without labels"
        if reading is not None and reading.ap50 is not None:
            cost += (
                f"; read off what the detector says there, AP50 is about {fraction(reading.ap50)} (90 % interval {fraction(reading.low)} to "
                f"{fraction(reading.high)}), in-domain {fraction(evidence.in_domain_ap50)}"
            )
        statement = f"{domain} {seen}" + (f", mostly in {kind}" if kind and shown else "") + f"; {cost}."
        return Hypothesis(
            CODE, name, "untested", None, statement, tuple(observations), missing=NO_LABELS, kind=kind
        )
    if not evidence.gap_is_real:
        statement = (
            f"{domain} differs, but does no harm: AP50 is {fraction(evidence.real_world_ap50)} against {fraction(evidence.in_domain_ap50)}."
            if shown
            else f"{domain} shows no harmful difference."
        )
        return Hypothesis(CODE, name, "rejected", 0.0, statement, tuple(observations), kind=kind)
    for change, words in (
        ("colours", "Matching brightness and colours to home"),
        ("foreshortening", "Squeezing its objects to the in-domain shapes"),
    ):
        found = evidence.recoveries.get(change)
        if found is not None:
            observations.append(
                Observation(
                    found.share >= 0.5,
                    f"{words} takes AP50 on {found.images} images from {fraction(found.before)} to {fraction(found.after)}.",
                )
            )
    recall, in_domain_recall = (
        evidence.max_recall.get(domain, float("nan")),
        evidence.max_recall.get(evidence.in_domain, float("nan")),
    )
    if recall == recall and in_domain_recall == in_domain_recall:
        observations.append(
            Observation(
                in_domain_recall - recall > 0.15,
                f"Recall at the lowest confidence falls from {fraction(in_domain_recall)} to {fraction(recall)}: {_lost_words(recall, in_domain_recall)}.",
            )
        )
    if not unlearned(evidence):
        observations.append(
            Observation(
                True,
                f"It does well on held-out images of its own domain (AP50 {fraction(evidence.in_domain_ap50)}): the fall begins where the footage changes.",
            )
        )
    if shown is None:
        blind = not evidence.shift_image
        why = "embeddings are not at hand" if blind else "there are too few clips for a null"
        missing = "give the weights" if blind else "add clips: at least 4 in-domain and 2 in the real world"
        statement = f"AP50 falls by {points(evidence.gap)}, but {why} to compare the images with."
        return Hypothesis(
            CODE, name, "untested", None, statement, tuple(observations), missing=missing, kind=kind
        )
    if not shown:
        return Hypothesis(
            CODE,
            name,
            "rejected",
            0.0,
            f"Neither images nor objects of {domain} differ from home beyond what halves of home do.",
            tuple(observations),
            kind=kind,
        )
    left = 1 - explained_elsewhere(evidence)
    status = status_from_share(left)
    if status != "rejected" and unlearned(evidence):
        statement = f"{domain} differs from training, but a detector that has not learned its own data says little about what that costs."
        missing = "train until it has learned its own data, then compare again"
        return Hypothesis(
            CODE, name, "untested", None, statement, tuple(observations), missing=missing, kind=kind
        )
    if status == "rejected":
        statement = (
            f"{domain} differs from training, but other hypotheses explain {percent(1 - left)} of the fall."
        )
        return Hypothesis(CODE, name, status, clip(left), statement, tuple(observations), kind=kind)
    statement = (
        f"AP50 falls from {fraction(evidence.in_domain_ap50)} to {fraction(evidence.real_world_ap50)} on {domain}, whose images differ from training"
        + (f" above all in {kind}" if kind else "")
        + f"; {percent(clip(left))} of the fall is explained by no other hypothesis that could be measured."
    )
    return Hypothesis(
        CODE,
        name,
        status,
        clip(left),
        statement,
        tuple(observations),
        missing="" if status == "supported" else "label more clips, or add target images and train again",
        kind=kind,
    )


def _lost_words(recall: float, in_domain_recall: float) -> str:
    """What a recall at the lowest confidence means."""
    if recall > 0.8 * in_domain_recall:
        return "it still sees most of them"
    return f"{percent(1 - recall / max(in_domain_recall, 1e-9))} of what it would find in-domain it finds at no threshold"


def explained_elsewhere(evidence: Evidence) -> float:
    """Largest share of the gap that another measured hypothesis explains. The largest, not the sum: their shares overlap.

    What more epochs would add in-domain is not among them: nothing says that it would be added in the real world.
    """
    gap = evidence.gap or 1e-9
    shares = [0.0]
    if evidence.size is not None and evidence.size.share is not None:
        shares.append(evidence.size.share)
    shares += [
        found.share
        for found in evidence.recoveries.values()
        if found.size_factor != 1 and towards_in_domain(evidence, found)
    ]
    if evidence.redrawn is not None:
        shares.append((evidence.redrawn.after - evidence.redrawn.before) / gap)
    if evidence.leak is not None and evidence.leak.clean_ap50 is not None:
        shares.append((evidence.in_domain_ap50 - evidence.leak.clean_ap50) / gap)
    return clip(max(shares))
