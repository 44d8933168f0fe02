"""Section "Performance": the comparison with an earlier run on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diagnostics.wording import count, fraction, points, signed_points
from reports.pipeline.earlier_run import RunComparison

# By how much AP50 must differ to be called a change: what people act on.
WORTH_IT = 0.02
ALPHA = 0.05


def sentence(run: RunComparison) -> str:
    """The result of the comparison on one domain."""
    result = run.comparison
    low, high = result.interval.low, result.interval.high
    more = "more" if result.difference >= 0 else "less"
    change = (
        f"AP50 {fraction(result.second)} before, {fraction(result.first)} now, "
        f"{points(abs(result.difference))} {more}"
    )
    if low is not None and high is not None:
        change += f", 95 % interval [{signed_points(low)}, {signed_points(high)}]"
    if result.p is None or low is None or high is None:
        meaning = f"chance cannot be excluded: {result.note or result.interval.note}"
    elif result.p <= ALPHA and result.difference >= WORTH_IT:
        meaning = "the change helped here"
    elif result.p <= ALPHA and result.difference <= -WORTH_IT:
        meaning = "the change did harm here"
    elif high < WORTH_IT and low > -WORTH_IT:
        meaning = "the change made no difference here"
    else:
        meaning = "this may be chance: label more clips to decide"
    return f"{change}; {meaning}.{_left_out(run)}"


def _left_out(run: RunComparison) -> str:
    """Images that were not compared, and training images that were not checked."""
    text = ""
    if run.trained_on:
        verb = "is" if run.trained_on == 1 else "are"
        text += f" {count(run.trained_on, 'image')} of clips that are in training by now {verb} left out."
    if run.unchecked:
        verb = "was" if run.unchecked == 1 else "were"
        text += f" {count(run.unchecked, 'training image')} {verb} not checked for that."
    return text


def rows(runs: Sequence[RunComparison]) -> list[dict[str, Any]]:
    """For the page: domain, earlier run and sentence."""
    return [{"domain": run.domain, "earlier_run": run.earlier_run, "words": sentence(run)} for run in runs]


def values(run: RunComparison) -> dict[str, Any]:
    """For report.json."""
    result = run.comparison
    return {
        "domain": run.domain,
        "earlier_run": run.earlier_run,
        "images": run.image_count,
        "trained_on": run.trained_on,
        "unchecked": run.unchecked,
        "ap50": result.first,
        "ap50_earlier_run": result.second,
        "difference": result.difference if np.isfinite(result.difference) else None,
        "interval": [result.interval.low, result.interval.high],
        "p": result.p,
        "note": result.note or result.interval.note,
    }
