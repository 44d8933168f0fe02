"""Whether images whose names share a word and a counter are frames of one recording, or only
numbered alike.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from diagnostics.domain import time_order
from diagnostics.leakage import unpack
from diagnostics.matching import Floats, Ints

ALPHA = 0.05
PERMUTATIONS = 999
# Fewer images than this in groups of three or more decide nothing: names are believed.
MIN_IMAGES = 20
# More than this add time and no certainty.
MOST_IMAGES = 500
# Unrelated images of one road rarely differ in fewer of the 256 gradient bits, see
# `diagnostics.leakage.NEAR_DUPLICATE_BITS`; frames of a fixed camera do, in whatever order.
RELATED_BITS = 60


def are_recordings(images: pd.DataFrame, vectors: Floats, *, seed: int) -> bool:
    """Whether neighbours by name are frames of one recording.

    They are where most neighbours show the same scene, or where neighbours are more alike than two images of
    the same group in any order (the von Neumann ratio, tested by permutation within groups). Web images that
    share a name ("foggy-001", "foggy-002") are neither.

    Parameters
    ----------
    images : DataFrame
        With image, group, seconds and fingerprint.
    vectors : (n, D)
        Of the images: embeddings, or descriptors.
    seed : int
        Of the permutations.

    Returns
    -------
    bool
        True also where fewer than MIN_IMAGES are in groups of three or more.
    """
    # Two images have no order that a permutation could break.
    groups = [rows for rows in images.groupby("group", sort=False).indices.values() if len(rows) > 2]
    if sum(map(len, groups)) < MIN_IMAGES:
        return True
    groups = _some(groups, np.random.default_rng(seed))
    order = [rows[time_order(images.iloc[rows])] for rows in groups]
    bits = unpack(images["fingerprint"].tolist())
    neighbours = np.concatenate([np.abs(np.diff(bits[rows], axis=0)).sum(1) for rows in order])
    if np.median(neighbours) < RELATED_BITS:
        return True
    rng = np.random.default_rng(seed)
    scaled = (vectors - vectors.mean(0)) / np.maximum(vectors.std(0), 1e-9)
    # Squared distances between all images of a group, so that a permutation only adds some of them.
    distances = [cdist(scaled[rows], scaled[rows], "sqeuclidean") for rows in order]
    observed = _roughness(distances, [np.arange(len(rows)) for rows in order])
    shuffled = [
        _roughness(distances, [rng.permutation(len(rows)) for rows in order]) for _ in range(PERMUTATIONS)
    ]
    p = (1 + sum(value <= observed for value in shuffled)) / (1 + PERMUTATIONS)
    return p <= ALPHA


def _some(groups: list[Ints], rng: np.random.Generator) -> list[Ints]:
    """Whole groups with about MOST_IMAGES images, drawn at random."""
    chosen, total = [], 0
    for place in rng.permutation(len(groups)):
        if total >= MOST_IMAGES:
            break
        chosen.append(groups[place])
        total += len(groups[place])
    return chosen


def _roughness(distances: list[Floats], order: list[Ints]) -> float:
    """Sum of squared distances between neighbours, of all groups. order: of the images of each group."""
    return sum(
        float(square[rows[:-1], rows[1:]].sum()) for square, rows in zip(distances, order, strict=True)
    )
