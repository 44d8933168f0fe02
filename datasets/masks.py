"""COCO's run-length encoded masks: their extent, without decoding them to pixels, and their pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def extent_of(mask: dict[str, Any]) -> tuple[float, float, float, float]:
    """Corners of the box around a mask, as pycocotools' `toBbox` gives them.

    Parameters
    ----------
    mask
        `size` (height, width) and `counts`: lengths of runs of 0 and 1 in turn down the columns, as a list or
        in COCO's compressed form.

    Returns
    -------
    tuple[float, float, float, float]
        x1, y1, x2, y2 in pixels.

    Raises
    ------
    ValueError
        If the mask is empty or inconsistent (also KeyError, TypeError and OverflowError for missing and odd
        values).
    """
    runs, height, _ = _runs_of(mask)
    ends = np.cumsum(runs)
    first, last = (ends - runs)[1::2], ends[1::2] - 1
    first, last = first[last >= first], last[last >= first]
    if not len(first):
        raise ValueError("mask is empty")
    # A run that goes on in the next column covers the height.
    is_within = first // height == last // height
    top = np.where(is_within, first % height, 0).min()
    bottom = np.where(is_within, last % height, height - 1).max()
    return float(first.min() // height), float(top), float(last.max() // height + 1), float(bottom + 1)


def _decompressed(text: bytes) -> list[int]:
    """Run lengths of COCO's compressed form: five bits a character, each from the third on as a difference.

    Source: rleFrString in pycocotools' maskApi.c.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        five = character - 48
        if not 0 <= five < 64 or shift > 60:
            raise ValueError("counts are not COCO's compressed form")
        value |= (five & 0x1F) << shift
        shift += 5
        if not five & 0x20:
            if five & 0x10:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("counts end within a number")
    return counts


def decode_runs(mask: dict[str, Any]) -> npt.NDArray[np.float32]:
    """The pixels of a mask, 1 inside and 0 outside, (height, width). mask: see `extent_of`, which raises the
    same.
    """
    runs, height, width = _runs_of(mask)
    flat = np.zeros(height * width, np.float32)
    inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    flat[: len(inside)] = inside
    return flat.reshape(width, height).T


def _runs_of(mask: dict[str, Any]) -> tuple[Ints, int, int]:
    """Run lengths, height and width; raises as `extent_of`."""
    height, width = (int(value) for value in mask["size"])
    counts = mask["counts"]
    if isinstance(counts, str):
        # Python's own way to print bytes, where a program wrote str(counts).
        if counts[:2] in ("b'", 'b"') and counts[-1:] == counts[1:2]:
            counts = counts[2:-1].replace("\\\\", "\\")
        counts = counts.encode("ascii")
    if isinstance(counts, bytes):
        counts = _decompressed(counts)
    runs: Ints = np.asarray(counts, np.int64)
    if (
        runs.ndim != 1
        or height < 1
        or ((runs < 0) | (runs > height * width)).any()
        or runs.sum() > height * width
    ):
        raise ValueError("run lengths do not fit the size")
    return runs, height, width
