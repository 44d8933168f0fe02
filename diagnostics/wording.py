"""Numbers as a reader sees them. Frames and JSON hold fractions; only sentences use these."""

from __future__ import annotations

import math
from collections.abc import Sequence

# The states of a hypothesis, as a reader meets them.
STATUS_WORDS = {
    "supported": "supported",
    "rejected": "ruled out",
    "inconclusive": "inconclusive",
    "untested": "not tested",
}


def fraction(value: float | None) -> str:
    """0.734 -> "0.73"; below 0.095 three decimals, so that 0.004 and 0.036 stay apart; a missing value is
    "not measurable".
    """
    if value is None or not math.isfinite(value):
        return "not measurable"
    digits = 2 if abs(value) >= 0.095 or value == 0 else 3
    return f"{value:.{digits}f}"


def points(value: float) -> str:
    """0.183 -> "18 points"; never "-0"."""
    digits = 0 if abs(value) >= 0.0095 or value == 0 else 1
    return f"{round(100 * value, digits) + 0.0:.{digits}f} points"


def signed_points(value: float, digits: int = 0) -> str:
    """0.183 -> "+18"; never "-0"."""
    return f"{round(100 * value, digits) + 0.0:+.{digits}f}"


def points_interval(low: float | None, high: float | None, note: str = "") -> str:
    """A 95 % interval of a difference in points, such as "95 % interval [63, 75]", or the note that says why
    there is none.
    """
    if low is None or high is None:
        return note or "no interval"
    low, high = (round(100 * value) + 0 for value in (low, high))
    return f"95 % interval [{low}, {high}]" + (f" ({note})" if note else "")


def percent(value: float | None) -> str:
    """0.412 -> "41 %"."""
    return "not measurable" if value is None or not math.isfinite(value) else f"{100 * value:.0f} %"


def at_most(share: float) -> str:
    """0.412 -> "at most 41 %", 0.002 -> "0 %"."""
    return percent(0) if percent(share) == percent(0) else f"at most {percent(share)}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """1, "image" -> "1 image"; 1200 -> "1,200 images"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def interval(low: float | None, high: float | None, note: str = "") -> str:
    """A 95 % interval in brackets, such as "[0.33, 0.49]", or the note that says why there is none."""
    if low is None or high is None:
        return note or "no interval"
    return f"[{fraction(low)}, {fraction(high)}]" + (f" ({note})" if note else "")


def joined(items: Sequence[str], conjunction: str = "and") -> str:
    """Items as text: "a or b", "a, b or c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {conjunction} {items[-1]}"
