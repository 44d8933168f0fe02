"""Section "Performance": what clicks and judged labels say, AP50 estimated without labels, and what a few
labels say about all images.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from diagnostics.few_labels import FewLabels, Measure
from diagnostics.findings import Findings
from diagnostics.label_free import LabelFreeEstimate
from diagnostics.resized import is_worth_it
from diagnostics.wording import count, fraction, interval, percent, points
from reports.page import figures, slices


def reviewed(findings: Findings) -> list[dict[str, str]]:
    """What the answers given in `shiftscope review` say, each domain beside the in-domain set."""
    rows = []
    for review in findings.evidence.reviewed.values():
        for measures in (review.real_world, review.in_domain):
            ap, precision, recall = (
                f"{fraction(value[0])} {interval(*value[1:])}" if value is not None else "\u2013"
                for value in (measures.ap, measures.precision, measures.recall)
            )
            rows.append(
                {
                    "domain": measures.domain,
                    "frames": f"{measures.frames:,} of {measures.images:,}",
                    "objects": f"{measures.objects:,}",
                    "ap": ap,
                    "precision": precision,
                    "recall": recall,
                    "confidence": fraction(measures.confidence),
                    "note": measures.note,
                }
            )
    return rows


def audited(findings: Findings) -> list[str]:
    """What the answers given in `shiftscope review --labels` say, one sentence a domain."""
    sentences = []
    for audit in findings.evidence.audits.values():
        judged = f"{audit.domain}: {count(audit.answers, 'label')} judged, {audit.wrong} wrong or left out"
        if audit.share is None:
            sentences.append(f"{judged}; no share yet ({audit.note}).")
            continue
        value, low, high = audit.share
        sentences.append(
            f"{judged}. Of {count(audit.annotations, 'annotation')}, {percent(value)} are wrong or left out "
            f"(95 % interval {percent(low)} to {percent(high)}); {percent(audit.missing or 0.0)} were left "
            "out."
        )
    return sentences


def label_free(findings: Findings) -> dict[str, Any] | None:
    """The estimates and their measured error; None where nothing was estimated."""
    estimates = list(findings.evidence.label_free.values())
    if not estimates:
        return None
    check = findings.estimator.errors if findings.estimator is not None else pd.DataFrame()
    alt = "Estimated AP50 against true AP50 of corrupted in-domain images"
    contradicted = next(filter(_contradicted, estimates), None)
    return {
        "rows": [_estimate_row(estimate, contradicted) for estimate in estimates],
        "resized": [
            f"{name}: at {recovery.name.removeprefix('imgsz ')} px the estimate goes from "
            f"{fraction(recovery.before)} to {fraction(recovery.after)} on "
            f"{count(recovery.images, 'image')}, "
            + ("so predict at that size" if is_worth_it(recovery) else "too little to predict at that size")
            for name, recovery in findings.evidence.resized.items()
        ],
        "error": _error_words(estimates),
        "figure": Markup(figures.estimates(alt, check)) if len(check) else None,
    }


def _contradicted(estimate: LabelFreeEstimate) -> bool:
    """Whether labels show that the interval of an estimate is wrong; labels of some of its images do not
    count.
    """
    if estimate.unlabelled or estimate.truth is None or estimate.low is None or estimate.high is None:
        return False
    return not estimate.low <= estimate.truth <= estimate.high


def _estimate_row(estimate: LabelFreeEstimate, contradicted: LabelFreeEstimate | None) -> dict[str, Any]:
    """What is known about a domain without its labels. contradicted: an estimate of this report that labels
    show to be wrong.
    """
    words = f"not estimated: {estimate.reason}"
    if estimate.ap50 is not None and estimate.low is not None and estimate.high is not None:
        words = f"{fraction(estimate.ap50)} {interval(estimate.low, estimate.high)}"
        if contradicted is not None and estimate.truth is None:
            words += _hint_only(contradicted)
    in_domain = percent(estimate.in_domain_detection_rate)
    return {
        "domain": estimate.domain,
        "estimate": words,
        "truth": _truth_words(estimate),
        "detection_rate": f"{percent(estimate.detection_rate)} (in-domain {in_domain})",
        "per_image": f"{estimate.detections_per_image:.2f}",
        "confidence": slices.number(estimate.mean_confidence),
        "naive": ", ".join(f"{name} {fraction(value)}" for name, value in estimate.naive.items()),
        "alarm": estimate.alarm,
    }


def _hint_only(contradicted: LabelFreeEstimate) -> str:
    """A warning that the same estimator is wrong on a labelled domain."""
    if contradicted.ap50 is None or contradicted.truth is None:
        return ""
    error = contradicted.ap50 - contradicted.truth
    return (
        f"; a hint only: on {contradicted.domain}, which has labels, the estimate is "
        f"{points(abs(error))} too {'high' if error > 0 else 'low'}"
    )


def _truth_words(estimate: LabelFreeEstimate) -> str:
    """AP50 by labels beside the estimate, where there are some."""
    if estimate.truth is None:
        return ""
    if estimate.unlabelled:
        return (
            f"measured {fraction(estimate.truth)}, without the "
            f"{count(estimate.unlabelled, 'unlabelled image')}"
        )
    words = f"measured {fraction(estimate.truth)}"
    if _contradicted(estimate) and estimate.ap50 is not None:
        words += f": the estimate is too {'high' if estimate.truth < estimate.ap50 else 'low'} here"
    return words


def _error_words(estimates: list[LabelFreeEstimate]) -> str:
    """The measured error of such estimates, and what they assume."""
    for estimate in estimates:
        if estimate.error is not None and estimate.naive_error is not None:
            return (
                f"Root mean square error of the estimate: {points(estimate.error)} on in-domain images "
                f"with corruptions it was "
                f"not fitted on, against {points(estimate.naive_error)} for assuming the in-domain AP50. "
                f"It assumes that there "
                "are objects to detect and that both domains count the same things as objects. The "
                "interval is wide enough for nine of ten real sets of photographs on which it was measured."
            )
    return ""


def few_labels(findings: Findings) -> list[dict[str, Any]]:
    """What the labels of partly labelled domains say about all of their images."""
    return [
        {
            "domain": estimate.domain,
            "intro": _few_labels_intro(estimate),
            "rows": [_measure_row(measure, estimate.unit) for measure in estimate.measures],
        }
        for estimate in findings.few_labels
    ]


def _few_labels_intro(estimate: FewLabels) -> str:
    """What was sampled, or why nothing is estimated."""
    labelled = f"{estimate.labelled:,} of {count(estimate.images, 'image')} are labelled"
    if not estimate.measures:
        return f"{labelled}: no estimate for all of them ({estimate.note})."
    return (
        f"{labelled}, {estimate.note}. The estimates hold for all of these images and for no other footage."
    )


def _measure_row(measure: Measure, unit: str) -> dict[str, str]:
    """One measure with and without the unlabelled images."""
    more = "even all of them are too few"
    if measure.more == 0:
        more = "precise enough"
    elif measure.more is not None:
        more = f"{count(measure.more, unit)} more"
    return {
        "name": measure.name,
        "plain": f"{fraction(measure.plain)} {interval(measure.plain_low, measure.plain_high)}",
        "value": f"{fraction(measure.value)} {interval(measure.low, measure.high)}",
        "worth": f"{measure.worth:.1f} times",
        "more": more,
    }
