"""Which images to label next: those that cover most of what the real-world images show and training lacks.

The detector's confidence plays no part. Neither weighting images by it nor picking the least confident ones
helped in a first or a second round of labelling (docs/next.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from diagnostics.domain import Domain
from diagnostics.leakage import NEAR_DUPLICATE_BITS
from diagnostics.matching import Bools, Floats
from diagnostics.shift import Strings, pooled_components, thin
from diagnostics.wording import count

# (index, index) -> whether two images of the pool show the same view.
SameView = Callable[[int, int], bool]

# This share of the clips is set aside as a test set before anything is picked: at least MIN_TEST_CLIPS, and
# none where there are fewer than twice as many.
TEST_SHARE = 0.2
MIN_TEST_CLIPS = 5
# Training images that coverage starts from: more of them hardly change what is covered.
MAX_TRAINING = 2000
# Target images that coverage is averaged over.
MAX_TARGET = 2000
# Images compared with the target at a time, so that memory does not grow with the pool.
BLOCK = 2000
# Picking stops at an image that adds less than this to the mean similarity: none that is left adds more.
MIN_GAIN = 1e-4
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


@dataclass(frozen=True)
class Pool:
    """Images to pick from.

    images: one row an image: domain, image, path, group, novelty (above 1: outside the in-domain images),
        shown (detections at 0.25 or above) and, where known, fingerprint and annotations (boxes it takes to
        label the image; shown stands in for them otherwise)
    embeddings: image embeddings, (n, D)
    allowed: mask of the images that may be picked, (n,)
    """

    images: pd.DataFrame
    embeddings: Floats
    allowed: Bools


def reserve_test_clips(groups: Strings, *, seed: int) -> Strings:
    """Clips to set aside as a test set; empty where there are too few clips to spare any."""
    rng, names = np.random.default_rng(seed), np.unique(groups)
    if len(names) < 2 * MIN_TEST_CLIPS:
        return names[:0]
    return np.sort(rng.choice(names, max(MIN_TEST_CLIPS, round(TEST_SHARE * len(names))), replace=False))


def similarity(points: Floats, others: Floats, bandwidth: float) -> Floats:
    """Gaussian similarity (n, m) of two sets of points."""
    squared = (points**2).sum(1)[:, None] + (others**2).sum(1)[None, :] - 2 * points @ others.T
    return np.exp(-np.maximum(squared, 0) / bandwidth)


def typical_distance(points: Floats) -> float:
    """Median squared distance between different points, of the first 300 of (n, D); 1 where all are equal.

    Used as the bandwidth of `similarity` (the median heuristic).
    """
    first = points[:300]
    squared = ((first[:, None] - first[None]) ** 2).sum(-1)
    return float(np.median(squared[squared > 0])) if (squared > 0).any() else 1.0


def embeddings_and_clips(domains: Sequence[Domain]) -> tuple[Floats, Strings]:
    """Embeddings of all images, (n, D), and the clip of each, (n,), prefixed with its domain's name."""
    groups = [f"{domain.name}/{group}" for domain in domains for group in domain.images["group"]]
    return np.concatenate([domain.image_embeddings for domain in domains]), np.array(groups, str)


def clip_weights(groups: Strings) -> Floats:
    """A weight for each image, (n,), summing to 1, that gives every clip the same total.

    The next recording is one more clip, whatever the length of those at hand. Equal weights for images would
    let one long clip decide what counts as typical.
    """
    _, number, size = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1.0 / (len(size) * size[number]))


def weigh_failing(weights: Floats, shows: Bools, share: float) -> Floats:
    """Weights, (n,), of which images that show a failing class hold at least its share of the drop.

    weights: (n,), summing to 1. shows: whether an image shows the class, (n,).
    """
    held = float(weights[shows].sum())
    if not 0 < held < share:
        return weights
    return np.where(shows, weights * share / held, weights * (1 - share) / (1 - held))


class Coverage:
    """How well training and the images picked so far cover the target.

    An image of the target is covered by its similarity to the nearest of them; `gains` are weighted means
    over the target, with points (n, D) and weights (n,).
    """

    def __init__(self, target: Floats, weights: Floats, training: Floats) -> None:
        self._target, self._weights = target, weights
        self._bandwidth = typical_distance(target)
        self._covered = np.zeros(len(target))
        for start in range(0, len(training), BLOCK):
            near = similarity(target, training[start : start + BLOCK], self._bandwidth)
            self._covered = np.maximum(self._covered, near.max(1, initial=0))

    def gains(self, points: Floats) -> Floats:
        """How much each of the points (k, D) adds to the mean coverage, (k,)."""
        near = similarity(self._target, points, self._bandwidth)
        return np.asarray(self._weights @ np.maximum(near - self._covered[:, None], 0))

    def add(self, point: Floats) -> None:
        """Count a point (1, D) as picked."""
        near = similarity(self._target, point, self._bandwidth)[:, 0]
        self._covered = np.maximum(self._covered, near)


def select_by_coverage(
    coverage: Coverage,
    pool: Floats,
    budget: int,
    *,
    is_same_view: SameView | None = None,
    costs: Floats | None = None,
    limit: float = np.inf,
) -> list[tuple[int, float]]:
    """Pick points greedily, each the one that adds most to the coverage (MaxHerding, Bae et al., ECCV 2024).

    Gains only fall as more is picked (submodularity), so a candidate's gain is computed again only when its
    last known gain leads (Minoux 1978).

    Parameters
    ----------
    coverage
        What is covered at the start; changed by every pick.
    pool
        Points to pick from, (k, D).
    budget
        Number of picks, at most.
    is_same_view
        (pick, index) -> whether the image at index shows the same view as the pick, so that it is passed
        over.
    costs
        Cost of picking each point, (k,).
    limit
        Picking stops once the picks cost this much.

    Returns
    -------
    list of (int, float)
        Index into the pool and gain of each pick, in the order of picking.
    """
    blocks = [coverage.gains(pool[start : start + BLOCK]) for start in range(0, len(pool), BLOCK)]
    gains = np.concatenate(blocks) if blocks else np.zeros(0)
    # How many picks each gain takes into account.
    picks_counted, picks = np.zeros(len(pool), int), list[tuple[int, float]]()
    available = np.ones(len(pool), bool)
    spent = 0.0
    while len(picks) < budget and spent < limit and available.any():
        index = int(np.where(available, gains, -1.0).argmax())
        if picks_counted[index] < len(picks):
            gains[index], picks_counted[index] = float(coverage.gains(pool[[index]])[0]), len(picks)
            continue
        available[index] = False
        if is_same_view is not None and any(is_same_view(pick, index) for pick, _ in picks):
            continue
        if gains[index] < MIN_GAIN:
            break
        picks.append((index, float(gains[index])))
        spent += 0.0 if costs is None else float(costs[index])
        coverage.add(pool[[index]])
    return picks


def same_view(fingerprints: Sequence[bytes], groups: Strings) -> SameView:
    """A test of whether two images of one clip are near-duplicates, from the fingerprint and clip of each."""
    bits = np.array([list(f) for f in fingerprints], np.uint8)

    def is_same_view(first: int, second: int) -> bool:
        return bool(
            groups[first] == groups[second]
            and int(np.bitwise_count(bits[first] ^ bits[second]).sum()) <= NEAR_DUPLICATE_BITS
        )

    return is_same_view


def rank_images(
    pool: Pool,
    training: Floats,
    *,
    target: tuple[Floats, Strings] | None = None,
    failing: Sequence[tuple[Bools, float]] = (),
    budget: int,
    boxes: int | None = None,
    seed: int,
) -> pd.DataFrame:
    """Rank the images of a pool for labelling.

    Parameters
    ----------
    pool
        Images to pick from.
    training
        Embeddings of the training images, (m, D).
    target
        Embeddings (t, D) and clips (t,) of the footage that the detector is for; the pool itself by default.
    failing
        For each class that a drop hits: the target's images that show it, (t,), and its share of the drop.
        They weigh at least that much.
    budget
        Number of images to pick, at most.
    boxes
        Picking stops once the picked images take this many boxes to label.
    seed
        Seed of the samples of training and target.

    Returns
    -------
    DataFrame
        COLUMNS, one row a pick, best first. covered: share of all gains up to this row.
    """
    rng = np.random.default_rng(seed)
    training = training[thin(rng, len(training), MAX_TRAINING)]
    images, groups = pool.images, pool.images["group"].to_numpy(str)
    target_points, target_groups = (pool.embeddings, groups) if target is None else target
    # Coverage is measured on a sample of a large target; every allowed image of the pool may be picked.
    sample = rng.permutation(len(target_points))[:MAX_TARGET]
    sampled = target_points[sample]
    others, points = pooled_components(
        np.concatenate([training, sampled]) if len(training) else sampled, pool.embeddings
    )
    weights = clip_weights(target_groups[sample])
    for shows, share in failing:
        weights = weigh_failing(weights, shows[sample], share)
    candidates = np.flatnonzero(pool.allowed)
    is_same_view = None
    if "fingerprint" in images:
        is_same_view = same_view(images["fingerprint"].iloc[candidates].tolist(), groups[candidates])
    annotations = images["annotations" if "annotations" in images else "shown"].to_numpy(float)
    picks = select_by_coverage(
        Coverage(others[len(training) :], weights, others[: len(training)]),
        points[candidates],
        budget,
        is_same_view=is_same_view,
        # An image without boxes has to be inspected all the same.
        costs=np.maximum(annotations[candidates], 1.0),
        limit=np.inf if boxes is None else boxes,
    )
    return _ranking(images, annotations, [(int(candidates[index]), gain) for index, gain in picks])


def _ranking(images: pd.DataFrame, annotations: Floats, picks: Sequence[tuple[int, float]]) -> pd.DataFrame:
    """The picks, (row of images, gain) each, as a table with COLUMNS."""
    total = sum(gain for _, gain in picks) or 1.0
    rows = []
    running = 0.0
    for rank, (index, gain) in enumerate(picks, start=1):
        running += gain
        row = images.iloc[index]
        rows.append(
            {
                "rank": rank,
                "domain": row["domain"],
                "image": row["image"],
                "path": row["path"],
                "group": row["group"],
                "score": gain,
                "covered": running / total,
                "novelty": row["novelty"],
                "shown": int(row["shown"]),
                "annotations": int(annotations[index]),
                "reason": _reason(float(row["novelty"]), int(row["shown"]), str(row["group"]), rank),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _reason(novelty: float, detections: int, group: str, rank: int) -> str:
    """Why an image is picked, without the word "embedding"."""
    if novelty != novelty:
        likeness = "typical of many real-world images"
    elif novelty > 2:
        likeness = "unlike any training image, typical of the real-world images"
    elif novelty > 1:
        likeness = "unlike the training images, typical of the real-world images"
    else:
        likeness = "close to training images, typical of real-world images that no earlier pick covers"
    reason = f"{likeness}; {count(detections, 'detection') if detections else 'no detections'}; clip {group}"
    return f"{reason}: start here" if rank == 1 else reason
