"""The first screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diagnostics.domain import Domain
from diagnostics.evidence import REJECTED_SHARE, Hypothesis
from diagnostics.findings import Findings
from diagnostics.intervals import MIN_BOXES
from diagnostics.wording import count, interval, points
from reports.page import slices as where
from reports.page.domains import ROLE_WORDS
from reports.page.gallery import card_image
from reports.page.next import labels_words

# What a ruled out hypothesis saves the reader from trying.
NOT_WORTH_TRYING = {
    "underfit": "more epochs",
    "overfit": "fewer epochs",
    "threshold": "another confidence threshold",
    "scale": "another image size",
    "label_protocol": "redrawing the boxes",
}


REMEDY = {
    "none": "Nothing to mend. Keep this report as the baseline and run it again on new footage.",
    "underfit": "Train longer, until validation AP50 levels off, then run the report again.",
    "overfit": "Take an earlier checkpoint or fewer epochs, add varied training images, then run the report again.",
    "threshold": "Set the confidence threshold found for this footage and check it on clips it was not chosen on.",
    "scale": "Predict at the image size that helped (or in tiles), and train at that size.",
    "label_protocol": "Agree on one rule for boxes, redraw the smaller set by it, then run the report again.",
    "label_error": "Correct the labels in the App and run the report again.",
    "leakage": "Split by recording, train again, and only then compare.",
}


def headline(findings: Findings) -> dict[str, Any]:
    """The first screen: the cause, how sure, two numbers, a pair of images, the next step."""
    evidence, verdict = findings.evidence, findings.verdict
    helped = any(
        found.size_factor != 1 and found.share >= REJECTED_SHARE for found in evidence.recoveries.values()
    )
    not_worth_trying = [
        words
        for code, words in NOT_WORTH_TRYING.items()
        if verdict.named(code).status == "rejected"
        and not (code == "scale" and helped)
        # Nobody would try the opposite of the cure.
        and (code, verdict.primary) not in (("overfit", "underfit"), ("underfit", "overfit"))
    ]
    undecided = [h.name for h in verdict.hypotheses if h.status == "untested"]
    if evidence.gap_is_real and verdict.named("label_protocol").status == "rejected":
        undecided.append("whether the same things count as objects")
    if verdict.primary is None:
        tested = next((h for h in verdict.hypotheses if h.status == "untested" and h.missing), None)
        cause, statement = "Cannot tell yet", verdict.named("domain_shift").statement
        step = (
            f"Missing: {tested.missing}." if tested else "No hypothesis is supported by the evidence at hand."
        )
        sure = ""
    else:
        primary = verdict.named(verdict.primary)
        cause, statement = primary.name, primary.statement
        step = REMEDY.get(primary.code) or _shift_remedy(findings, primary)
        gap = evidence.gap_interval
        sure = (
            f"The fall of {points(evidence.gap)} has a 95 % interval of {100 * gap.low:.0f} to {points(gap.high)}{', ' + gap.note if gap.note else ''}."
            if gap is not None and evidence.gap is not None and gap.low is not None and gap.high is not None
            else (f"How sure: {gap.note}." if gap is not None else "")
        )
    negation = (
        f"{not_worth_trying[0][0].upper()}{not_worth_trying[0][1:]}{join(not_worth_trying[1:], 'or')} would not fix it."
        if not_worth_trying and verdict.primary not in (None, "none")
        else ""
    )
    return {
        "cause": cause,
        "statement": statement,
        "negation": negation,
        "sure": sure,
        "step": step,
        "open": f"Still open: {', '.join(undecided).lower()}." if undecided else "",
        "numbers": [_big_number(findings, d) for d in _shown_first(findings)],
        "pair": _pair(findings),
    }


def join(rest: Sequence[str], conjunction: str) -> str:
    """What follows a first word in a list: ", a or b"."""
    if not rest:
        return ""
    return (
        f" {conjunction} {rest[-1]}"
        if len(rest) == 1
        else f", {', '.join(rest[:-1])} {conjunction} {rest[-1]}"
    )


def _shift_remedy(findings: Findings, primary: Hypothesis) -> str:
    """What to add against a domain shift."""
    what = {
        "viewpoint": "images from that viewpoint",
        "appearance": "images with that light and those colours",
        "context": "images of such scenes",
    }.get(primary.kind, "images of that kind")
    picks = len(findings.next)
    clips = findings.next["group"].nunique()
    to_label = sum(
        labels_words(findings, r["domain"], r["image"]) == "to be labelled"
        for r in findings.next.to_dict("records")
    )
    labels = f", {to_label} of them still to be labelled," if to_label else ", all labelled already,"
    return (
        f"Add {what} to training: start with the {count(picks, 'image')} from {count(clips, 'clip')}{labels} listed under \u201cWhat to add next\u201d."
        if picks
        else f"Add {what} to training."
    )


def _shown_first(findings: Findings) -> list[Domain]:
    """Home and the real-world domain in focus (or the first)."""
    focus = next((d for d in findings.real_world if d.name == findings.evidence.real_world), None) or (
        findings.real_world[0] if findings.real_world else None
    )
    return [findings.in_domain, *([focus] if focus is not None else [])]


def _big_number(findings: Findings, domain: Domain) -> dict[str, str]:
    """AP50 of a domain with its interval, or why there is none."""
    bounds = findings.evidence.intervals.get(domain.name)
    value = findings.evidence.ap50.get(domain.name)
    return {
        "name": domain.name,
        "role": "" if domain.name == ROLE_WORDS[domain.role] else ROLE_WORDS[domain.role],
        "value": where.number(value)
        if value is not None
        else ("–" if domain.labelled.any() else "no labels"),
        "note": interval(bounds.low, bounds.high, bounds.note) if bounds else _few_annotations(domain),
        "size": f"{count(len(domain.images), 'image')}, {count(int(domain.images['group'].nunique()), 'clip')}",
    }


def _few_annotations(domain: Domain) -> str:
    """Why a domain has no AP."""
    return (
        f"only {count(len(domain.annotations), 'labelled object')}, {MIN_BOXES} are needed"
        if domain.labelled.any()
        else "AP cannot be measured"
    )


def _pair(findings: Findings) -> list[dict[str, str | None]]:
    """A hit in-domain and a miss (or the worst claim) in the real world."""
    cards = findings.cards
    wanted = [(findings.in_domain.name, ["true_positive"], "a hit in-domain")]
    if len(_shown_first(findings)) > 1:
        wanted.append(
            (_shown_first(findings)[1].name, ["missed", "false_positive", "detection"], "in the real world")
        )
    result = []
    for domain, kinds, words in wanted:
        rows = cards[(cards["domain"] == domain) & cards["kind"].isin(kinds)]
        if len(rows):
            first = min(range(len(rows)), key=lambda i: kinds.index(rows["kind"].iloc[i]))
            card = rows.iloc[first]
            caption = {
                "missed": "a miss in the real world",
                "false_positive": "a false positive in the real world",
                "detection": "a claim in the real world",
            }.get(card["kind"], words)
            result.append({"src": card_image(findings, card, side=280), "caption": f"{caption} ({domain})"})
    return result
