"""Adjustment of p-values for many tests at once."""

from __future__ import annotations

import numpy as np

from diagnostics.matching import Floats


def holm(p: Floats) -> Floats:
    """Holm's adjusted p (Holm 1979): at most a share alpha of families has any false alarm.

    NaN stays NaN and does not count as a test.
    """
    adjusted = np.full(len(p), np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted


def benjamini_hochberg(p: Floats) -> Floats:
    """Q of Benjamini and Hochberg (1995): on average at most a share q of the results at or below q is false.

    NaN stays NaN and does not count as a test.
    """
    adjusted = np.full(len(p), np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(1, np.minimum.accumulate(steps[::-1])[::-1])
    return adjusted
