"""What to add next: pictures that cover most of what the real world shows and training has never seen."""

from __future__ import annotations

import numpy as np
import pandas as pd

from diagnostics.matching import Floats
from diagnostics.shift import Strings, pooled_components, thin

# Frozen first and never picked: this share of the clips, at least MIN_TEST_CLIPS where there are twice as many.
TEST_SHARE = 0.2
MIN_TEST_CLIPS = 5
# Training pictures the coverage starts from; more only refine what is already covered.
MAX_TRAINING = 2000
# Pictures that coverage is averaged over.
MAX_TARGET = 2000
COLUMNS = ("rank", "domain", "image", "path", "group", "score", "covered", "novelty", "shown", "reason")


def reserve(rng: np.random.Generator, groups: Strings) -> Strings:
    """Clips kept aside as the frozen test set; none where there are too few to spare any."""
    names = np.unique(groups)
    if len(names) < 2 * MIN_TEST_CLIPS:
        return names[:0]
    return np.sort(rng.choice(names, max(MIN_TEST_CLIPS, round(TEST_SHARE * len(names))), replace=False))


def similarity(points: Floats, others: Floats, bandwidth: float) -> Floats:
    """Gaussian similarity (n, m) of two sets of points."""
    squared = (points**2).sum(1)[:, None] + (others**2).sum(1)[None, :] - 2 * points @ others.T
    return np.exp(-np.maximum(squared, 0) / bandwidth)


def herd(target: Floats, have: Floats, pool: Floats, budget: int) -> list[tuple[int, float]]:
    """Greedy MaxHerding (Bae et al., ECCV 2024): each pick adds most to the mean, over the target, of the similarity to its nearest pick.

    target: (n, D), the real world. have: (m, D), training. pool: (k, D), what may be picked. Returns (index into pool, gain) in order.
    """
    sample = target[:300]
    squared = ((sample[:, None] - sample[None]) ** 2).sum(-1)
    bandwidth = float(np.median(squared[squared > 0])) if (squared > 0).any() else 1.0
    among = similarity(target, pool, bandwidth)
    covered = similarity(target, have, bandwidth).max(1) if len(have) else np.zeros(len(target))
    left = np.ones(len(pool), bool)
    picks: list[tuple[int, float]] = []
    while len(picks) < budget and left.any():
        gains = np.where(left, np.maximum(among - covered[:, None], 0).mean(0), -1)
        index = int(gains.argmax())
        picks.append((index, float(gains[index])))
        covered = np.maximum(covered, among[:, index])
        left[index] = False
    return picks


def rank(
    pictures: pd.DataFrame, embeddings: Floats, training: Floats, *, budget: int, seed: int
) -> tuple[pd.DataFrame, Strings]:
    """Rank real-world pictures for labelling, and name the clips reserved for testing.

    pictures: one row a picture with domain, image, path, group, novelty (above 1: outside what home covers) and shown (detections at
    .25 or above), aligned with embeddings (n, D). training: (m, D). Returns COLUMNS, best first, at most budget rows.
    """
    rng = np.random.default_rng(seed)
    kept = training[thin(rng, len(training), MAX_TRAINING)]
    have, target = pooled_components(kept, embeddings) if len(kept) else (kept, embeddings)
    groups = pictures["group"].to_numpy(str)
    frozen = reserve(rng, groups)
    candidates = np.flatnonzero(~np.isin(groups, frozen))
    # Coverage is measured on a sample of a large pool; what may be picked is all of it.
    sample = target[rng.permutation(len(target))[:MAX_TARGET]]
    picks = [(int(candidates[index]), gain) for index, gain in herd(sample, have, target[candidates], budget)]
    total = sum(gain for _, gain in picks) or 1.0
    rows = []
    running = 0.0
    for place, (index, gain) in enumerate(picks, start=1):
        running += gain
        row = pictures.iloc[index]
        rows.append(
            {
                "rank": place,
                "domain": row["domain"],
                "image": row["image"],
                "path": row["path"],
                "group": row["group"],
                "score": gain,
                "covered": running / total,
                "novelty": row["novelty"],
                "shown": int(row["shown"]),
                "reason": reason(float(row["novelty"]), int(row["shown"]), str(row["group"]), place),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)), frozen


def reason(novelty: float, shown: int, group: str, place: int) -> str:
    """Why a picture was picked, in words for somebody who never heard of embeddings."""
    if novelty != novelty:
        looks = "stands for many pictures out there"
    elif novelty > 2:
        looks = "looks like nothing in training, and like many pictures out there"
    elif novelty > 1:
        looks = "unlike what training shows, and like many pictures out there"
    else:
        looks = "resembles training, but stands for a part of the footage not picked yet"
    sees = (
        "the detector finds nothing in it"
        if shown == 0
        else f"the detector claims {shown} object{'s' if shown > 1 else ''} in it"
    )
    return f"{looks}; {sees}; clip {group}" if place > 1 else f"{looks}; {sees}; clip {group}: start here"
