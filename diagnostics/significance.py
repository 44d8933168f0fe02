"""Many questions at once: which of them may be believed."""

from __future__ import annotations

import numpy as np

from diagnostics.matching import Floats


def holm(p: Floats) -> Floats:
    """Holm's adjusted p (Holm 1979): at most a share alpha of families has any false alarm. NaN stays and does not count."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return adjusted


def benjamini_hochberg(p: Floats) -> Floats:
    """Q of Benjamini and Hochberg (1995): of the results at or below q, on average at most a share q is false. NaN stays and does not count."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * len(order) / np.arange(1, len(order) + 1)
    adjusted[order] = np.minimum(1, np.minimum.accumulate(steps[::-1])[::-1])
    return adjusted
