"""The comparison with an earlier run, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diagnostics.wording import count, fraction, points
from reports.pipeline.earlier_run import Change

if TYPE_CHECKING:
    pass


# By how far AP50 must differ to be called a change: what people act on.
WORTH_IT = 0.02


def sentence(change: Change) -> str:
    """What came of it, in one sentence."""
    c = change.comparison
    moved = f"AP50 {fraction(c.second)} before, {fraction(c.first)} now, {points(abs(c.difference))} {'more' if c.difference >= 0 else 'less'}"
    low, high = c.interval.low, c.interval.high
    if low is not None and high is not None:
        moved += f" (95 % interval {100 * low:+.0f} to {100 * high:+.0f} points)"
    if c.p is None or low is None or high is None:
        verdict = f"whether that is chance cannot be told: {c.note or c.interval.note}"
    elif c.p <= 0.05 and c.difference >= WORTH_IT:
        verdict = "what was changed helped here"
    elif c.p <= 0.05 and c.difference <= -WORTH_IT:
        verdict = "what was changed did harm here"
    elif high < WORTH_IT and low > -WORTH_IT:
        verdict = "what was changed made no difference here"
    else:
        verdict = "chance would do as much: label more clips of it to tell"
    left = (
        f" {count(change.trained_on, 'picture')} of clips that training shows by now {'is' if change.trained_on == 1 else 'are'} left out."
        if change.trained_on
        else ""
    )
    if change.unchecked:
        left += f" {count(change.unchecked, 'training picture')} {'was' if change.unchecked == 1 else 'were'} not looked at for that."
    return f"{moved}; {verdict}.{left}"


def rows(found: Sequence[Change]) -> list[dict[str, Any]]:
    """For the page: domain and sentence."""
    return [{"domain": change.domain, "before": change.before, "words": sentence(change)} for change in found]


def values(change: Change) -> dict[str, Any]:
    """For report.json."""
    c = change.comparison
    return {
        "domain": change.domain,
        "before": change.before,
        "pictures": change.image_count,
        "trained_on": change.trained_on,
        "unchecked": change.unchecked,
        "ap50": c.first,
        "ap50_before": c.second,
        "difference": c.difference if np.isfinite(c.difference) else None,
        "interval": [c.interval.low, c.interval.high],
        "p": c.p,
        "note": c.note or c.interval.note,
    }
