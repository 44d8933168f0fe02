"""The comparison with an earlier run, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from diagnostics.wording import count, fraction, points
from reports.pipeline.earlier_run import RunComparison

if TYPE_CHECKING:
    pass


# By how far AP50 must differ to be called a change: what people act on.
WORTH_IT = 0.02


def sentence(comparison_: RunComparison) -> str:
    """What came of it, in one sentence."""
    c = comparison_.comparison
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
        f" {count(comparison_.trained_on, 'image')} of clips that training shows by now {'is' if comparison_.trained_on == 1 else 'are'} left out."
        if comparison_.trained_on
        else ""
    )
    if comparison_.unchecked:
        left += f" {count(comparison_.unchecked, 'training image')} {'was' if comparison_.unchecked == 1 else 'were'} not looked at for that."
    return f"{moved}; {verdict}.{left}"


def rows(found: Sequence[RunComparison]) -> list[dict[str, Any]]:
    """For the page: domain and sentence."""
    return [
        {"domain": comparison_.domain, "earlier_run": comparison_.earlier_run, "words": sentence(comparison_)}
        for comparison_ in found
    ]


def values(comparison_: RunComparison) -> dict[str, Any]:
    """For report.json."""
    c = comparison_.comparison
    return {
        "domain": comparison_.domain,
        "earlier_run": comparison_.earlier_run,
        "images": comparison_.image_count,
        "trained_on": comparison_.trained_on,
        "unchecked": comparison_.unchecked,
        "ap50": c.first,
        "ap50_earlier_run": c.second,
        "difference": c.difference if np.isfinite(c.difference) else None,
        "interval": [c.interval.low, c.interval.high],
        "p": c.p,
        "note": c.note or c.interval.note,
    }
