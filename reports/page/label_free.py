"""Words and rows about footage with few labels or none, and about videos as they run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from diagnostics.few_labels import FewLabels, Measure
from diagnostics.findings import Findings
from diagnostics.label_free import LabelFree
from diagnostics.timeline import CUT_BITS, MIN_SHOWN, Steadiness
from diagnostics.wording import count, fraction, percent, points
from reports.page import figures
from reports.page import slices as where

# Clips drawn and described; the table in tables/ has all.
MAX_CLIPS = 3
# The most unlike seconds named of a clip, at least this far apart.
MOMENTS, APART = 3, 2.0


def missed(entry: LabelFree) -> bool:
    """Whether labels show a reading's interval to be wrong; those of some of its images do not."""
    if entry.unlabelled or entry.truth is None or entry.low is None or entry.high is None:
        return False
    return not entry.low <= entry.truth <= entry.high


def _label_free_row(entry: LabelFree, failed: LabelFree | None) -> dict[str, Any]:
    """What is known about a domain without its labels. failed: a domain in the same report whose labels show its reading to be wrong."""
    reading = "not estimated: " + entry.reason
    if entry.ap50 is not None and entry.low is not None and entry.high is not None:
        reading = (
            f"about {fraction(entry.ap50)} (90 % interval {fraction(entry.low)} to {fraction(entry.high)})"
        )
        if (
            failed is not None
            and entry.truth is None
            and failed.ap50 is not None
            and failed.truth is not None
        ):
            off = failed.ap50 - failed.truth
            reading += (
                f"; take it as a hint only: on {failed.domain}, whose labels tell, the same reading is "
                f"{points(abs(off))} too {'high' if off > 0 else 'low'}"
            )
    return {
        "domain": entry.domain,
        "estimate": reading,
        "truth": truth_words(entry),
        "with_box": f"{percent(entry.with_box)} (in-domain {percent(entry.in_domain_with_box)})",
        "per_image": f"{entry.boxes_per_image:.2f}",
        "confidence": where.number(entry.mean_confidence),
        "naive": ", ".join(f"{name} {fraction(value)}" for name, value in entry.naive.items()),
        "alarm": entry.alarm,
    }


def truth_words(entry: LabelFree) -> str:
    """What labels say beside the reading, where there are some."""
    if entry.truth is None:
        return ""
    if entry.unlabelled:
        return f"the labels there are say {fraction(entry.truth)}, without a word about {count(entry.unlabelled, 'image')}"
    words = f"by its labels {fraction(entry.truth)}"
    if missed(entry) and entry.ap50 is not None:
        high = entry.truth < entry.ap50
        words += f", so the reading is too {'high' if high else 'low'} here"
    return words


def label_free(findings: Findings) -> dict[str, Any] | None:
    """Readings without labels, with how far off they are."""
    entries = list(findings.evidence.label_free.values())
    if not entries:
        return None
    measured = next((e for e in entries if e.error is not None and e.naive_error is not None), None)
    error = ""
    if measured is not None and measured.error is not None and measured.naive_error is not None:
        error = (
            f"How far off such a reading is: {points(measured.error)} (root mean square) on in-domain images changed in ways the reading was not "
            f"fitted on, against {points(measured.naive_error)} for assuming the in-domain AP50. It supposes that there are objects to find, and that out "
            "there the same things count as objects."
        )
    check = findings.estimator.errors if findings.estimator is not None else pd.DataFrame()
    return {
        "rows": [_label_free_row(entry, next(filter(missed, entries), None)) for entry in entries],
        "error": error,
        "figure": Markup(
            figures.estimates(
                "AP50 read without labels against the true AP50 of changed in-domain images", check
            )
        )
        if len(check)
        else None,
    }


def few_labels(findings: Findings) -> list[dict[str, Any]]:
    """What the labels of partly labelled domains say about all of their images."""
    return [
        {
            "domain": found.domain,
            "intro": _few_labels_intro(found),
            "rows": [_measure_row(m, found.unit) for m in found.measures],
        }
        for found in findings.few_labels
    ]


def _few_labels_intro(found: FewLabels) -> str:
    """What was sampled, or why nothing is said."""
    known = f"{found.labelled:,} of {count(found.images, 'image')} are labelled"
    if not found.measures:
        return f"{known}: no statement about all of them ({found.note})."
    return f"{known}, {found.note}. What holds for all of them, and for no other footage:"


def _measure_row(measure: Measure, unit: str) -> dict[str, str]:
    """One measure with and without the unlabelled images."""
    more = "all of them would not do"
    if measure.more == 0:
        more = "known well enough"
    elif measure.more is not None:
        more = f"{count(measure.more, unit)} more"
    return {
        "name": measure.name,
        "plain": f"{fraction(measure.plain)} ({fraction(measure.plain_low)} to {fraction(measure.plain_high)})",
        "value": f"{fraction(measure.value)} ({fraction(measure.low)} to {fraction(measure.high)})",
        "worth": f"{measure.worth:.1f} times",
        "more": more,
    }


def _moments(clip: pd.DataFrame) -> list[float]:
    """The seconds most unlike training, APART from each other."""
    chosen: list[float] = []
    for row in clip.sort_values("novelty", ascending=False, kind="stable").itertuples():
        if np.isfinite(row.novelty) and all(abs(row.seconds - s) >= APART for s in chosen):
            chosen.append(float(row.seconds))
        if len(chosen) == MOMENTS:
            break
    return chosen


def clip_words(clip: pd.DataFrame) -> str:
    """One sentence about a clip."""
    cuts = clip.loc[clip["cut"], "seconds"]
    if clip["change"].median() > CUT_BITS / 2:
        words = "the camera moves too far between two samples for scene cuts to stand out"
    else:
        words = "no scene cut" if cuts.empty else f"{count(len(cuts), 'scene cut')} ({seconds(cuts)})"
    unlike = _moments(clip)
    if unlike:
        words += f"; most unlike training at {seconds(pd.Series(unlike))}"
        outside = float((clip["novelty"] > 1).mean())
        words += f"; {percent(outside)} of its frames lie outside what the in-domain images cover"
    return words + "."


def seconds(values: pd.Series) -> str:
    """Such as "3.5, 8.0 and 11.5 s"; at most six of them."""
    texts = [f"{value:.1f}" for value in values.head(6)]
    joined = texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
    return f"{joined} s" + (" ..." if len(values) > len(texts) else "")


def _steady_words(found: Steadiness) -> str:
    """One sentence on whether detections last."""
    if found.gone is None or found.blinked is None or found.fragments is None:
        return f"{count(found.shown, 'detection')} at 0.25 in neighbouring frames: whether they last takes {MIN_SHOWN}."
    return (
        f"Of {count(found.shown, 'detection')} at 0.25, {percent(found.gone)} are gone in the next frame and {percent(found.blinked)} are back soon after; "
        f"what it follows breaks into {found.fragments:.1f} pieces on average."
    )


def videos(findings: Findings) -> list[dict[str, Any]]:
    """Every domain with a time axis: a sentence for each of its first clips, whether detections last, and a drawing."""
    steady = {found.domain: found for found in findings.steadiness}
    result = []
    for domain, frames in findings.timeline.groupby("domain", sort=False):
        clips = [(str(name), part) for name, part in frames.groupby("group", sort=False) if len(part) > 2]
        if not clips:
            continue
        shown = dict(clips[:MAX_CLIPS])
        result.append(
            {
                "domain": domain,
                "clips": [(name, clip_words(part)) for name, part in shown.items()],
                "steady": _steady_words(steady[domain]) if domain in steady else "",
                "figure": Markup(
                    figures.timeline(
                        f"How unlike training each second of {domain} is, and the highest confidence in it",
                        shown,
                    )
                ),
            }
        )
    return result
