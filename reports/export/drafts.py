"""A chosen image with the boxes that annotators start from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Drafted:
    """A chosen image: its file in the hand-off, size in pixels, whether people labelled it already, and boxes (label, x1, y1, x2, y2, confidence)."""

    file: str
    width: int
    height: int
    labelled: bool
    boxes: tuple[tuple[int, float, float, float, float, float], ...]
