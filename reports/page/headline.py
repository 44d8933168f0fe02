"""The first screen: the cause, how sure, two numbers, a pair of images, the next step."""

from __future__ import annotations

import shlex
from typing import Any

from diagnostics.domain import Domain
from diagnostics.evidence import (
    HARMLESS_GAP,
    REJECTED_SHARE,
    SUPPORTED_SHARE,
    Evidence,
    Hypothesis,
    has_few_annotations,
)
from diagnostics.findings import Findings
from diagnostics.hypotheses import Verdict, domain_shift
from diagnostics.hypotheses.leakage import REAL_WORLD, TOLERATED, copies_sentence
from diagnostics.hypotheses.probability import CASES
from diagnostics.intervals import MIN_BOXES
from diagnostics.wording import count, fraction, interval, joined, percent, points, points_interval
from reports.page import slices
from reports.page.classes import hit_sentence
from reports.page.domains import ROLE_WORDS
from reports.page.gallery import card_image
from reports.page.next import label_state

# What a ruled-out hypothesis saves the reader from trying.
NOT_WORTH_TRYING = {
    "underfit": "more epochs",
    "overfit": "fewer epochs",
    "threshold": "another confidence threshold",
    "scale": "another image size",
    "label_protocol": "redrawing the boxes",
}
REMEDY = {
    "none": "Nothing to fix. Keep this report as the baseline and run it again on new footage.",
    "underfit": "Train until validation AP50 levels off, then run the report again.",
    "overfit": (
        "Use an earlier checkpoint or fewer epochs, add varied training images, then run the report again."
    ),
    "threshold": (
        "Use the confidence threshold measured on the real-world images, and check it on other clips."
    ),
    "scale": "Predict at the image size that helped (or in tiles), and train at that size.",
    "label_protocol": "Agree on one labelling rule, redraw the smaller set by it, then run the report again.",
    "label_error": "Correct the labels in the App and run the report again.",
    "leakage": "Split by recording, train again, and then compare.",
}
BROKEN_REMEDY = (
    "Train again with a lower learning rate (lr0=0.001) or without half precision (amp=False), then run the "
    "report again."
)
SHIFT_REMEDY = {
    "viewpoint": "images from that viewpoint",
    "appearance": "images with that light and those colours",
    "context": "images of such scenes",
}
# What to do where an intervention recovers the larger part of the drop.
INTERVENTION_REMEDY = {
    "colours": (
        "Match brightness and colours to the training images before the detector, or train with stronger "
        "colour augmentation"
    ),
    "foreshortening": "Train with images squeezed to that angle (scale and perspective augmentation)",
}
UNDECIDED = "Cause undecided"
# Classes that a sentence names one by one.
MOST_NAMED = 6


def headline(findings: Findings, folder: str) -> dict[str, Any]:
    """Everything that the first screen shows, and the lines that stay on the terminal. There the numbers of
    all domains stand together; the page has a table of them. folder: the report's,
    as commands name it.
    """
    return {
        **domain_verdict(findings, findings.focus, folder),
        "numbers": [_ap50_number(findings, domain) for domain in _shown_domains(findings)],
        "other_numbers": [
            _ap50_number(findings, domain) for domain in findings.real_world if domain.name != findings.focus
        ],
        "pair": _image_pair(findings),
        "warnings": _warnings(findings),
        "others": [
            domain_verdict(findings, name, folder) for name in findings.verdicts if name != findings.focus
        ],
    }


def domain_verdict(findings: Findings, name: str, folder: str = "REPORT") -> dict[str, Any]:
    """The verdict about one real-world domain: cause, grade, why, how sure, and the next step with its
    command.
    """
    verdict, evidence = findings.verdicts[name], findings.evidences[name]
    leading = verdict.named(verdict.leading) if verdict.leading is not None else None
    cause = leading.name if leading is not None else UNDECIDED
    # A drop that is not resolved is what there is to say, before any cause of it.
    unresolved = verdict.named("none" if verdict.named("none").status == "inconclusive" else "domain_shift")
    return {
        "domain": name,
        "grade": verdict.grade,
        "cause": f"Likely: {cause[0].lower()}{cause[1:]}" if verdict.grade == "likely" else cause,
        "statement": (leading or unresolved).statement,
        "rival": _rival(verdict),
        "negation": _negation(verdict, evidence) if verdict.primary is not None else "",
        "sure": " ".join(
            filter(
                None,
                (
                    _compared_classes(evidence),
                    hit_sentence(findings, name),
                    _how_sure(evidence) if leading is not None else "",
                    _how_the_kind_is_known(evidence, leading),
                    _how_often_right(verdict),
                ),
            )
        ),
        "ap50": slices.number(findings.evidence.ap50.get(name)),
        "step": _next_step(findings, name, leading),
        "command": _command(findings, name, folder),
        "meanwhile": _meanwhile(findings, name, folder),
        "open": _undecided(verdict, evidence),
    }


def _warnings(findings: Findings) -> list[str]:
    """What a reader must know before any number: class ids that do not agree, images that training shows."""
    numbering = [
        f"On {name}, no detection has the class of the annotation it lies on, although AP50 is "
        f"{fraction(found)} regardless of class: its labels and the detections number their classes "
        "differently. Correct the class ids before reading on."
        for name, found in findings.ap50_of_other_classes.items()
    ]
    numbering += [
        f"On {name}, labels and detections seem to exchange classes: nearly every "
        + joined(
            [f"{label} is detected as {other}" for label, other in list(pairs.items())[:MOST_NAMED]],
            "and every",
        )
        + ". Correct the class ids before reading on."
        for name, pairs in findings.exchanged_classes.items()
        if pairs and name not in findings.ap50_of_other_classes
    ]
    size_of = {domain.name: len(domain.images) for domain in findings.real_world}
    shared = [
        f"{number:,} of {count(size_of[name], 'image')} of {name} are images of {findings.in_domain.name} "
        "too, or near-copies: on these, the two cannot differ."
        for name, number in findings.shared_images.items()
        if number > TOLERATED * size_of[name]
    ]
    return (
        numbering
        + shared
        + [
            copies_sentence(name, copies)
            for name, copies in findings.evidence.copies.items()
            if copies.share > TOLERATED
        ]
    )


def _compared_classes(evidence: Evidence) -> str:
    """The classes that are compared, where they are not all; empty where they are."""
    names = list(evidence.classes)
    if not names:
        return ""
    if len(names) == 1:
        return f"Compared on {names[0]}, the one class that both sets have."
    named = f": {joined(names)}" if len(names) <= MOST_NAMED else ""
    return f"Compared on the {len(names)} classes that both sets have{named}."


def _rival(verdict: Verdict) -> str:
    """The hypothesis that comes second, where the verdict is not established; empty without one."""
    if verdict.grade != "likely" or verdict.rival is None:
        return ""
    rival = verdict.named(verdict.rival)
    if verdict.leading is not None and rival.missing == verdict.named(verdict.leading).missing:
        # The next step says it.
        return f"Not ruled out: {rival.name[0].lower()}{rival.name[1:]}."
    end = "" if rival.missing.endswith("?") else "."
    decides = f" To decide between the two: {rival.missing}{end}" if rival.missing else ""
    return f"Not ruled out: {rival.name[0].lower()}{rival.name[1:]}.{decides}"


def _negation(verdict: Verdict, evidence: Evidence) -> str:
    """What the ruled-out hypotheses show would not help."""
    size_helped = any(
        recovery.size_factor != 1 and recovery.share >= REJECTED_SHARE
        for recovery in evidence.recoveries.values()
    )
    useless = [
        words
        for code, words in NOT_WORTH_TRYING.items()
        if verdict.named(code).status == "rejected"
        and not (code == "scale" and size_helped)
        # Nobody would try the opposite of the remedy.
        and (code, verdict.primary) not in (("overfit", "underfit"), ("underfit", "overfit"))
    ]
    if not useless or verdict.primary in (None, "none"):
        return ""
    words = joined(useless, "or")
    return f"{words[0].upper()}{words[1:]} would not fix it."


def _how_sure(evidence: Evidence) -> str:
    """The interval of the drop, or why there is none."""
    bounds, gap = evidence.gap_interval, evidence.gap
    if bounds is None:
        return ""
    if gap is None or bounds.low is None or bounds.high is None:
        return f"No interval: {bounds.note}."
    scope = ", for this recording (others may differ)" if evidence.is_one_recording else ""
    return f"The drop is {points(gap)}, {points_interval(bounds.low, bounds.high, bounds.note)}{scope}."


def _how_often_right(verdict: Verdict) -> str:
    """How often such a verdict was right where the cause was known; empty unless it is a likely one."""
    if verdict.grade != "likely" or verdict.probability is None:
        return ""
    return (
        f"By {CASES} cases of a known cause in photographs, such a verdict is right "
        f"{percent(verdict.probability)} of the time."
    )


def _next_step(findings: Findings, name: str, leading: Hypothesis | None) -> str:
    """What to do now about a domain."""
    verdict, evidence = findings.verdicts[name], findings.evidences[name]
    if leading is not None and leading.status == "supported":
        if leading.code == "leakage" and leading.kind == REAL_WORLD:
            return f"Take the training images out of {name}, or give other images, then run the report again."
        mislabelled = [cause.name for cause in evidence.class_causes if cause.code == "label_error"]
        if leading.code == "label_error" and mislabelled:
            return f"Correct the labels of {joined(mislabelled)} in the App and run the report again."
        if leading.code == "underfit" and evidence.learning.broken_epoch is not None:
            return BROKEN_REMEDY
        return REMEDY.get(leading.code) or _shift_remedy(findings, evidence, leading)
    decides = leading.missing if leading is not None else ""
    missing = decides or next((h.missing for h in verdict.hypotheses if _is_undecided(h) and h.missing), None)
    return (
        f"{missing[0].upper()}{missing[1:]}." if missing else "The evidence available supports no hypothesis."
    )


def _command(findings: Findings, name: str, folder: str) -> str:
    """The command of the next step; "" where a person has to do something else first."""
    verdict, evidence = findings.verdicts[name], findings.evidences[name]
    domain = next((domain for domain in findings.real_world if domain.name == name), None)
    if domain is None:
        return ""
    of_domain = f" --domain {shlex.quote(name)}"
    leading = verdict.leading
    if leading == "scale" and not domain.labelled.any() and name in evidence.resized:
        return f"shiftscope predict SOURCE --from-report {folder}{of_domain}"
    if has_few_annotations(evidence):
        return ""
    if not domain.labelled.any():
        return "" if evidence.reviewed_drop is not None else f"shiftscope review {folder}{of_domain}"
    rival = verdict.rival if verdict.grade == "likely" else None
    if "label_error" in (leading, rival) and name not in evidence.audits:
        return f"shiftscope review {folder}{of_domain} --labels"
    if leading in ("threshold", "scale") and name in findings.deployments:
        return f"shiftscope predict SOURCE --from-report {folder}{of_domain}"
    if leading == "domain_shift" and len(findings.next):
        return f"shiftscope next --from-report {folder}"
    return ""


def _meanwhile(findings: Findings, name: str, folder: str) -> str:
    """What helps without any training, where it is worth as much as a drop must be to count; "" where nothing
    does.
    """
    deployment, resized = findings.deployments.get(name), findings.evidence.resized.get(name)
    if deployment is not None and resized is not None and deployment.intervention == resized.name:
        if findings.verdicts[name].leading == "scale":
            # That is the next step already.
            return ""
        return (
            f"Until then: shiftscope predict SOURCE --from-report {folder} --domain {shlex.quote(name)} "
            f"uses {deployment.change.imgsz} px, where AP50 estimated without labels is "
            f"{fraction(resized.after)} in place of {fraction(resized.before)}."
        )
    if deployment is None or deployment.f1 is None or deployment.f1_before is None:
        return ""
    if deployment.f1 - deployment.f1_before < HARMLESS_GAP:
        return ""
    return (
        f"Until then: F1 {fraction(deployment.f1)} in place of {fraction(deployment.f1_before)} is expected "
        f"with shiftscope predict SOURCE --from-report {folder} --domain {shlex.quote(name)}, which uses the "
        f"image size and threshold that help (chosen on one half of {count(deployment.images, 'image')} from "
        f"{count(deployment.clips, 'clip')}, measured on the other)."
    )


def _how_the_kind_is_known(evidence: Evidence, leading: Hypothesis | None) -> str:
    """That the kind of a shift is only read from factors; "" where an intervention shows it."""
    if leading is None or leading.code != "domain_shift" or not leading.kind:
        return ""
    if leading.kind in domain_shift.shown_kinds(evidence):
        return ""
    return f"The kind ({leading.kind}) is read from the factors that differ; no experiment shows it."


def _is_undecided(hypothesis: Hypothesis) -> bool:
    return hypothesis.status in ("inconclusive", "untested")


def _undecided(verdict: Verdict, evidence: Evidence) -> str:
    """The hypotheses that were inconclusive, and those that were not tested."""
    sentences = []
    for status, words in (("inconclusive", "Inconclusive"), ("untested", "Not tested")):
        # The one that leads is the headline, and the rival has a line of its own.
        said = (verdict.leading, verdict.rival if verdict.grade == "likely" else None)
        names = [h.name for h in verdict.hypotheses if h.status == status and h.code not in said]
        protocol = verdict.named("label_protocol")
        if status == "untested" and evidence.gap_is_real and protocol.status == "rejected":
            names.append("whether both label sets count the same things as objects")
        if names:
            sentences.append(f"{words}: {', '.join(names).lower()}.")
    return " ".join(sentences)


def _shift_remedy(findings: Findings, evidence: Evidence, primary: Hypothesis) -> str:
    """What to add against a domain shift; where a change of the images alone recovers the larger part of the
    drop, that first.
    """
    images = SHIFT_REMEDY.get(primary.kind, "images of that kind")
    colours = evidence.recoveries.get("colours")
    if primary.kind == "appearance" and colours is not None and colours.share < REJECTED_SHARE:
        images = "images of that weather, sharpness and camera (matching light and colours does not help)"
    for name, remedy in INTERVENTION_REMEDY.items():
        recovery = evidence.recoveries.get(name)
        if recovery is not None and recovery.share >= SUPPORTED_SHARE:
            return (
                f"{remedy}: that alone takes AP50 from {fraction(recovery.before)} to "
                f"{fraction(recovery.after)}. Also add {images} to the training set."
            )
    picks = findings.next.to_dict("records")
    if not picks:
        return f"Add {images} to the training set."
    clips = findings.next["group"].nunique()
    to_label = sum(label_state(findings, pick["domain"], pick["image"]) == "to be labelled" for pick in picks)
    labels = f"{to_label} of them still to be labelled" if to_label else "all of them labelled already"
    return (
        f"Add {images} to the training set, beginning with the {count(len(picks), 'image')} from "
        f"{count(clips, 'clip')} under \u201cWhat to add next\u201d ({labels}). shiftscope next, with the "
        "same options, copies them and sets other clips aside for testing."
    )


def _shown_domains(findings: Findings) -> list[Domain]:
    """The in-domain domain and the real-world domain in focus (or the first)."""
    focus = next((d for d in findings.real_world if d.name == findings.focus), None)
    return [findings.in_domain, *([focus] if focus is not None else [])]


def _ap50_number(findings: Findings, domain: Domain) -> dict[str, str]:
    """AP50 of a domain with its interval, or why there is none."""
    bounds = findings.evidence.intervals.get(domain.name)
    value = findings.evidence.ap50.get(domain.name)
    missing = "–" if domain.labelled.any() else "no labels"
    return {
        "name": domain.name,
        "role": "" if domain.name == ROLE_WORDS[domain.role] else ROLE_WORDS[domain.role],
        "value": slices.number(value) if value is not None else missing,
        "note": interval(bounds.low, bounds.high, bounds.note) if bounds else _why_no_ap(domain),
        "size": _size_words(findings, domain),
    }


def _size_words(findings: Findings, domain: Domain) -> str:
    """The images and clips that AP50 is of: without those that training shows, where they are left out."""
    images = domain.images
    copies = findings.evidence.copies.get(domain.name)
    if copies is not None and copies.images and copies.ap50_without is not None:
        images = images[~copies.mask]
    return f"{count(len(images), 'image')}, {count(int(images['group'].nunique()), 'clip')}"


def _why_no_ap(domain: Domain) -> str:
    """Why a domain has no AP."""
    if not domain.labelled.any():
        return "AP needs labels"
    return f"only {count(len(domain.annotations), 'annotation')}, {MIN_BOXES} are needed"


def _image_pair(findings: Findings) -> list[dict[str, str | None]]:
    """A true positive in-domain and a missed object (or a false positive) on the real-world domain."""
    captions = {
        "true_positive": "true positive",
        "missed": "missed object",
        "false_positive": "false positive",
        "wrong_class": "wrong class",
        "detection": "detection",
    }
    domains = _shown_domains(findings)
    choices = [(domains[0].name, ["true_positive"])]
    if len(domains) > 1:
        choices.append((domains[1].name, ["missed", "wrong_class", "false_positive", "detection"]))
    pair = []
    for domain, kinds in choices:
        cards = findings.cards
        rows = cards[(cards["domain"] == domain) & cards["kind"].isin(kinds)]
        if len(rows):
            first = min(range(len(rows)), key=lambda i: kinds.index(rows["kind"].iloc[i]))
            card = rows.iloc[first]
            caption = f"{domain}: {captions[card['kind']]}"
            pair.append({"src": card_image(findings, card, side=280), "caption": caption})
    return pair
