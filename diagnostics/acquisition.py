"""What to add next: images that cover most of what the real world shows and training has never seen.

How sure the detector is plays no part: letting footage count the more, the less sure it is there, and taking the images it is least sure of, gave nothing in a first round of
labelling and in a second one (docs/next.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from diagnostics.domain import Domain
from diagnostics.leakage import NEAR_DUPLICATE_BITS
from diagnostics.matching import Bools, Floats
from diagnostics.shift import Strings, pooled_components, thin

# (index, index) -> whether two images of the pool show the same.
Alike = Callable[[int, int], bool]

# Frozen first and never picked: this share of the clips, at least MIN_TEST_CLIPS where there are twice as many.
TEST_SHARE = 0.2
MIN_TEST_CLIPS = 5
# Training images the coverage starts from; more only refine what is already covered.
MAX_TRAINING = 2000
# Images that coverage is averaged over.
MAX_TARGET = 2000
# Pool images compared with the target at a time, so that memory does not grow with the pool.
BLOCK = 2000
# An image that adds less than this to the mean similarity shows nothing that the footage shows and is not covered: the rest of the pool shows no more.
NOTHING = 1e-4
COLUMNS = (
    "rank",
    "domain",
    "image",
    "path",
    "group",
    "score",
    "covered",
    "novelty",
    "shown",
    "annotations",
    "reason",
)


def reserve(groups: Strings, *, seed: int) -> Strings:
    """Clips kept aside as the frozen test set; none where there are too few to spare any."""
    rng, names = np.random.default_rng(seed), np.unique(groups)
    if len(names) < 2 * MIN_TEST_CLIPS:
        return names[:0]
    return np.sort(rng.choice(names, max(MIN_TEST_CLIPS, round(TEST_SHARE * len(names))), replace=False))


def similarity(points: Floats, others: Floats, bandwidth: float) -> Floats:
    """Gaussian similarity (n, m) of two sets of points."""
    squared = (points**2).sum(1)[:, None] + (others**2).sum(1)[None, :] - 2 * points @ others.T
    return np.exp(-np.maximum(squared, 0) / bandwidth)


def typical_distance(points: Floats) -> float:
    """Median squared distance between different points (n, D), of 300 at most: the median heuristic. 1 where all are the same."""
    some = points[:300]
    squared = ((some[:, None] - some[None]) ** 2).sum(-1)
    return float(np.median(squared[squared > 0])) if (squared > 0).any() else 1.0


def footage(domains: Sequence[Domain]) -> tuple[Floats, Strings]:
    """Embeddings of all images, (n, D), and the clip of each, (n,); clips of different domains are different clips."""
    groups = [f"{domain.name}/{group}" for domain in domains for group in domain.images["group"]]
    return np.concatenate([domain.image_embeddings for domain in domains]), np.array(groups, str)


def clip_weights(groups: Strings) -> Floats:
    """A weight for each image, (n,), summing to 1, with which every clip counts alike.

    The next recording is one more clip, however long the ones at hand are: weighting by images would let one long clip decide what footage looks like.
    """
    _, number, size = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / (len(size) * size[number]))


def herd(
    target: Floats,
    weights: Floats,
    have: Floats,
    pool: Floats,
    budget: int,
    *,
    alike: Alike | None = None,
    costs: Floats | None = None,
    limit: float = np.inf,
) -> list[tuple[int, float]]:
    """Greedy MaxHerding (Bae et al., ECCV 2024): each pick adds most to the mean, over the target, of the similarity to its nearest pick.

    target: (n, D), the real world, with weights (n,). have: (m, D), training. pool: (k, D), what may be picked. alike: (pick, index) -> whether the image
    at index shows the same as a pick, so that it is passed over. costs: (k,), of each that may be picked; nothing is picked once limit is spent. Returns (index into pool, gain) in order. Gains only fall as more is picked
    (submodularity), so a candidate is looked at again only when its last known gain leads (Minoux 1978).
    """
    bandwidth = typical_distance(target)
    covered = np.zeros(len(target))
    for start in range(0, len(have), BLOCK):
        covered = np.maximum(
            covered, similarity(target, have[start : start + BLOCK], bandwidth).max(1, initial=0)
        )

    def gains(rows: slice | list[int]) -> Floats:
        return np.asarray(
            weights @ np.maximum(similarity(target, pool[rows], bandwidth) - covered[:, None], 0)
        )

    first = [gains(slice(start, start + BLOCK)) for start in range(0, len(pool), BLOCK)]
    known = np.concatenate(first) if first else np.zeros(0)
    # How many picks a gain takes into account.
    fresh, picks = np.zeros(len(pool), int), list[tuple[int, float]]()
    left = np.ones(len(pool), bool)
    spent = 0.0
    while len(picks) < budget and spent < limit and left.any():
        index = int(np.where(left, known, -1.0).argmax())
        if fresh[index] < len(picks):
            known[index], fresh[index] = float(gains([index])[0]), len(picks)
            continue
        left[index] = False
        if alike is not None and any(alike(pick, index) for pick, _ in picks):
            continue
        if known[index] < NOTHING:
            break
        picks.append((index, float(known[index])))
        spent += 0.0 if costs is None else float(costs[index])
        covered = np.maximum(covered, similarity(target, pool[[index]], bandwidth)[:, 0])
    return picks


def same_view(fingerprints: Sequence[bytes], groups: Strings) -> Alike:
    """Whether two images of one clip show the same: fingerprints at most NEAR_DUPLICATE_BITS apart."""
    bits = np.array([list(f) for f in fingerprints], np.uint8)

    def alike(first: int, second: int) -> bool:
        return bool(
            groups[first] == groups[second]
            and int(np.bitwise_count(bits[first] ^ bits[second]).sum()) <= NEAR_DUPLICATE_BITS
        )

    return alike


def rank(
    images: pd.DataFrame,
    embeddings: Floats,
    training: Floats,
    allowed: Bools,
    *,
    target: tuple[Floats, Strings] | None = None,
    budget: int,
    boxes: int | None = None,
    seed: int,
) -> pd.DataFrame:
    """Rank images for labelling, among those allowed (n,).

    target: embeddings (t, D) and groups (t,) of the footage that the detector is for; None where the images are that footage.

    images: one row an image with domain, image, path, group, novelty (above 1: outside what home covers), shown (detections at
    0.25 or above) and, if known, fingerprint and objects (boxes it takes to label it; shown where they are not known), aligned with embeddings (n, D). training: (m, D).
    Returns COLUMNS, best first, at most budget rows; boxes: no more rows either once so many objects are in them.
    """
    rng = np.random.default_rng(seed)
    kept = training[thin(rng, len(training), MAX_TRAINING)]
    groups = images["group"].to_numpy(str)
    wanted, wanted_groups = (embeddings, groups) if target is None else target
    # Coverage is measured on a sample of a large target; what may be picked is all of the pool.
    sample = rng.permutation(len(wanted))[:MAX_TARGET]
    have, points = pooled_components(
        np.concatenate([kept, wanted[sample]]) if len(kept) else wanted[sample], embeddings
    )
    have, goal = have[: len(kept)], have[len(kept) :]
    candidates = np.flatnonzero(allowed)
    alike = None
    if "fingerprint" in images:
        alike = same_view(images["fingerprint"].iloc[candidates].tolist(), groups[candidates])
    weights = clip_weights(wanted_groups[sample])
    annotations = images["annotations" if "annotations" in images else "shown"].to_numpy(float)
    chosen = herd(
        goal,
        weights,
        have,
        points[candidates],
        budget,
        alike=alike,
        # An image without a box has to be looked through all the same.
        costs=np.maximum(annotations[candidates], 1.0),
        limit=np.inf if boxes is None else boxes,
    )
    picks = [(int(candidates[index]), gain) for index, gain in chosen]
    total = sum(gain for _, gain in picks) or 1.0
    rows = []
    running = 0.0
    for place, (index, gain) in enumerate(picks, start=1):
        running += gain
        row = images.iloc[index]
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
                "annotations": int(annotations[index]),
                "reason": reason(float(row["novelty"]), int(row["shown"]), str(row["group"]), place),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def reason(novelty: float, shown: int, group: str, place: int) -> str:
    """Why an image was picked, in words for somebody who never heard of embeddings."""
    if novelty != novelty:
        looks = "stands for many images in the real world"
    elif novelty > 2:
        looks = "looks like nothing in training, and like images in the real world"
    elif novelty > 1:
        looks = "unlike what training shows, and like images in the real world"
    else:
        looks = "resembles training, but stands for a part of the footage not picked yet"
    sees = (
        "the detector finds nothing in it"
        if shown == 0
        else f"the detector claims {shown} object{'s' if shown > 1 else ''} in it"
    )
    return f"{looks}; {sees}; clip {group}" if place > 1 else f"{looks}; {sees}; clip {group}: start here"
