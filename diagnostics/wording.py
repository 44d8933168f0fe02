"""Numbers as a reader sees them. Frames and JSON hold fractions; only sentences use these."""

from __future__ import annotations

import math


def fraction(value: float | None) -> str:
    """0.734 -> ".73"; below .095 three decimals, so that .004 and .036 stay apart; a missing value is "not measurable"."""
    if value is None or not math.isfinite(value):
        return "not measurable"
    digits = 2 if abs(value) >= 0.095 or value == 0 else 3
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def points(value: float) -> str:
    """0.183 -> "18 points"."""
    return f"{100 * value:.0f} points" if abs(value) >= 0.0095 or value == 0 else f"{100 * value:.1f} points"


def percent(value: float | None) -> str:
    """0.412 -> "41 %"."""
    return "not measurable" if value is None or not math.isfinite(value) else f"{100 * value:.0f} %"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """1, "image" -> "1 image"; 1200 -> "1,200 images"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def interval(low: float | None, high: float | None, note: str = "") -> str:
    """Words such as "95 % interval .01 to .05", or the note why there is none."""
    if low is None or high is None:
        return note or "no interval"
    return f"95 % interval {fraction(low)} to {fraction(high)}" + (f", {note}" if note else "")
