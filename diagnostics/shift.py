"""How far apart two sets of embeddings are, each number beside what two halves of the home domain give.

The unit is the group: group labels are permuted, folds never split a group, and home halves are halves of its groups. A single video
is one group, and one group is one observation however many frames it has.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from diagnostics.matching import Bools, Floats, Ints

Strings = npt.NDArray[np.str_]

COMPONENTS = 32
NEIGHBOURS = 5
PERMUTATIONS = 999
HALVES = 100
# Enough for any shift worth acting on; keeps the kernel matrix small.
MAX_SAMPLES = 1200
MIN_LABELLINGS = 20
FRECHET_HALVES, FRECHET_DRAWS = 40, 5
# A covariance of COMPONENTS dimensions from fewer samples than this is singular.
FRECHET_SAMPLES = 40
# Fewer than this on a side and no test here has power worth naming.
MIN_SAMPLES = 10
# Quantile of home distances beyond which a point counts as outside what home has seen.
OUTSIDE_QUANTILE = 0.95


@dataclass(frozen=True)
class Shift:
    """Shift between home and away. Every value is None where it cannot be measured, and note says why.

    mmd: unbiased squared MMD (Gretton et al. 2012). mmd_null: its 95 % quantile between halves of home. mmd_ratio: mmd / mmd_null.
    p: of the group permutation test. energy, energy_p: energy distance (Szekely and Rizzo 2013), which needs no bandwidth, tested alike.
    frechet: Frechet distance between Gaussians (Heusel et al. 2017) at a size of frechet_size on both sides; frechet_null: its 95 % quantile
    between halves of home at the same size, for it grows as samples shrink. auc: cross-fitted domain classifier. auc_null: the same between halves of home.
    outside: share of away beyond the 95 % quantile of the in-domain own neighbour distance, so 0.05 is its null. coverage: share of the in-domain points that have an away point
    within their 5th neighbour's distance (Naeem et al. 2020): how much of what home knows the footage visits; coverage_null: the same between halves of home.
    """

    n_in_domain: int
    n_real_world: int
    groups_in_domain: int
    groups_real_world: int
    mmd: float | None = None
    mmd_null: float | None = None
    mmd_ratio: float | None = None
    p: float | None = None
    energy: float | None = None
    energy_p: float | None = None
    frechet: float | None = None
    frechet_null: float | None = None
    frechet_size: int | None = None
    auc: float | None = None
    auc_null: float | None = None
    outside: float | None = None
    outside_null: float | None = None
    coverage: float | None = None
    coverage_null: float | None = None
    note: str = ""


def thin(rng: np.random.Generator, size: int, limit: int) -> Ints:
    """Sorted indices of at most limit out of size, drawn evenly."""
    return np.arange(size) if size <= limit else np.sort(rng.choice(size, limit, replace=False))


def pooled_components(in_domain: Floats, real_world: Floats) -> tuple[Floats, Floats]:
    """Principal components fitted on both sides together, which keeps the permutation test exact.

    Dimensions are not scaled one by one: that would shrink just the one along which the sides lie apart.
    """
    both = np.concatenate([in_domain, real_world]).astype(float)
    width = min(COMPONENTS, both.shape[1], len(both) - 1)
    # By the covariance, D by D: only leading components are kept, and a pool of 20,000 images would take a decomposition with as many rows.
    reduced = PCA(width, svd_solver="covariance_eigh").fit_transform(both)
    return reduced[: len(in_domain)], reduced[len(in_domain) :]


def squared_distances(points: Floats) -> Floats:
    """Squared Euclidean distance of every pair, (n, n), exactly 0 on the diagonal."""
    norms = (points**2).sum(1)
    squared = np.maximum(norms[:, None] + norms[None, :] - 2 * points @ points.T, 0)
    np.fill_diagonal(squared, 0)
    return np.asarray(squared)


def gaussian(squared: Floats) -> Floats:
    """Gaussian kernel with the median heuristic, (n, n)."""
    median = np.median(squared[np.triu_indices(len(squared), 1)])
    return np.exp(-squared / (median if median > 0 else 1.0))


class GroupSums:
    """Kernel sums by pair of groups: MMD of any labelling of the groups without touching the points again.

    matrix: (n, n) kernel of all pairs. The Gaussian one gives MMD; the negative distance gives the energy distance (Sejdinovic et al. 2013).
    """

    def __init__(self, matrix: Floats, groups: Strings) -> None:
        names, number = np.unique(groups, return_inverse=True)
        member = np.zeros((len(matrix), len(names)))
        member[np.arange(len(matrix)), number] = 1
        self.diagonal = float(matrix[0, 0])
        self.sums = member.T @ matrix @ member
        self.sizes = member.sum(0)

    def within(self, chosen: Bools) -> GroupSums:
        """The same sums, and so the same kernel, for some of the groups."""
        part = copy(self)
        part.sums, part.sizes = self.sums[np.ix_(chosen, chosen)], self.sizes[chosen]
        return part

    def mmd(self, real_world: Floats) -> Floats:
        """Unbiased squared MMD of each labelling, (R,); away: (R, G), 1 where a group is on the away side. NaN if a side has one point."""
        in_domain = 1 - real_world
        n, m = in_domain @ self.sizes, real_world @ self.sizes
        towards_real_world = real_world @ self.sums
        # Each point's similarity to itself is no pair: take it out of the within-side sums.
        within_in_domain = (in_domain @ self.sums * in_domain).sum(1) - self.diagonal * n
        within_real_world = (towards_real_world * real_world).sum(1) - self.diagonal * m
        across = (towards_real_world * in_domain).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = (
                within_in_domain / (n * (n - 1)) + within_real_world / (m * (m - 1)) - 2 * across / (n * m)
            )
        return np.where((n > 1) & (m > 1), value, np.nan)


def _labellings(rng: np.random.Generator, groups: int, real_world: int, count: int) -> Floats:
    """Random choices of which groups are away, (count, groups)."""
    ranks = rng.random((count, groups)).argsort(1).argsort(1)
    return (ranks < real_world).astype(float)


def _domain_auc(
    in_domain: Floats, real_world: Floats, in_domain_groups: Strings, real_world_groups: Strings
) -> float | None:
    """AUC of `domain_scores`. None when a side has one group."""
    scores = domain_scores(in_domain, real_world, in_domain_groups, real_world_groups)
    if scores is None:
        return None
    return float(roc_auc_score(np.repeat([0, 1], [len(in_domain), len(real_world)]), np.concatenate(scores)))


def domain_scores(
    in_domain: Floats, real_world: Floats, in_domain_groups: Strings, real_world_groups: Strings
) -> tuple[Floats, Floats] | None:
    """What a logistic classifier that tells away from home says of each point of either side, (n,) and (m,): log odds of being away.

    Cross-fitted, and folds never split a group: no point is judged by a classifier that has seen its clip. None when a side has one group.
    """
    groups = np.concatenate([in_domain_groups, real_world_groups])
    side = np.repeat([0, 1], [len(in_domain), len(real_world)])
    fewest = min(len(np.unique(in_domain_groups)), len(np.unique(real_world_groups)))
    if fewest < 2:
        return None
    points = np.concatenate([in_domain, real_world])
    scores = np.full(len(points), np.nan)
    # Folds are made within each side, so that each holds groups of both.
    fold = np.zeros(len(points), int)
    for label in (0, 1):
        mine = np.flatnonzero(side == label)
        for number, (_, test) in enumerate(
            GroupKFold(min(5, fewest)).split(points[mine], groups=groups[mine])
        ):
            fold[mine[test]] = number
    for number in np.unique(fold):
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500)
        )
        model.fit(points[fold != number], side[fold != number])
        scores[fold == number] = model.decision_function(points[fold == number])
    return scores[: len(in_domain)], scores[len(in_domain) :]


def as_groups(groups: Strings) -> Strings:
    """Groups for telling domains apart: a single clip is cut into five stretches, so that at least it can be cross-fitted."""
    if len(np.unique(groups)) > 1 or len(groups) < MIN_SAMPLES:
        return groups
    return np.array([f"part {i * 5 // len(groups)}" for i in range(len(groups))])


def neighbour_distance(
    reference: Floats, reference_groups: Strings, points: Floats, point_groups: Strings | None = None
) -> Floats:
    """Distance of each point to its 5th nearest reference, (n,); with point_groups, references of the point's own group do not count.

    NaN where fewer than 5 are left.
    """
    own = (
        max((np.count_nonzero(reference_groups == g) for g in np.unique(reference_groups)), default=0)
        if point_groups is not None
        else 0
    )
    wanted = min(NEIGHBOURS + own, len(reference))
    distance, index = NearestNeighbors(n_neighbors=wanted).fit(reference).kneighbors(points)
    if point_groups is None:
        return np.asarray(distance[:, min(NEIGHBOURS, wanted) - 1])
    foreign = reference_groups[index] != point_groups[:, None]
    place = np.argmax(np.cumsum(foreign, axis=1) >= NEIGHBOURS, axis=1)
    enough = foreign.sum(1) >= NEIGHBOURS
    return np.where(enough, distance[np.arange(len(points)), place], np.nan)


def outer_distance(in_domain: Floats, in_domain_groups: Strings) -> float:
    """The 95 % quantile of the in-domain distances to its own other groups; NaN where home has too few of them."""
    own = neighbour_distance(in_domain, in_domain_groups, in_domain, in_domain_groups)
    return float(np.nanquantile(own, OUTSIDE_QUANTILE)) if np.isfinite(own).any() else float("nan")


def novelty(in_domain: Floats, in_domain_groups: Strings, real_world: Floats) -> Floats:
    """How far outside home each away point lies: its neighbour distance over the in-domain 95 % quantile, (m,). Above 1 is outside."""
    if len(in_domain) <= NEIGHBOURS or not len(real_world):
        return np.full(len(real_world), np.nan)
    limit = outer_distance(in_domain, in_domain_groups)
    return np.asarray(neighbour_distance(in_domain, in_domain_groups, real_world) / max(float(limit), 1e-12))


def coverage(in_domain: Floats, in_domain_groups: Strings, real_world: Floats) -> float | None:
    """Share of the in-domain points with an away point no further than their 5th neighbour of another group; None where home has too few."""
    reach = neighbour_distance(in_domain, in_domain_groups, in_domain, in_domain_groups)
    known = np.isfinite(reach)
    if not known.any() or not len(real_world):
        return None
    nearest = NearestNeighbors(n_neighbors=1).fit(real_world).kneighbors(in_domain[known])[0][:, 0]
    return float((nearest <= reach[known]).mean())


def _half_coverage(rng: np.random.Generator, in_domain: Floats, groups: Strings, size: int) -> float | None:
    """Mean coverage between five random halves of the in-domain groups, the visiting half thinned to at most size points."""
    names = np.unique(groups)
    values = []
    for _ in range(5):
        chosen: Bools = np.isin(groups, rng.permutation(names)[: len(names) // 2])
        visiting = in_domain[~chosen]
        value = coverage(in_domain[chosen], groups[chosen], visiting[thin(rng, len(visiting), size)])
        values += [] if value is None else [value]
    return float(np.mean(values)) if values else None


def _share_outside(values: Floats) -> float | None:
    """Share of novelty values above 1; None where they could not be measured."""
    return float((values > 1).mean()) if len(values) and np.isfinite(values).all() else None


def measure(
    in_domain: Floats, real_world: Floats, in_domain_groups: Strings, real_world_groups: Strings, *, seed: int
) -> Shift:
    """All shift measures between two sets of embeddings (n, D) and (m, D)."""
    rng = np.random.default_rng(seed)
    keep_in_domain, keep_real_world = (
        thin(rng, len(in_domain), MAX_SAMPLES),
        thin(rng, len(real_world), MAX_SAMPLES),
    )
    in_domain, in_domain_groups = in_domain[keep_in_domain], in_domain_groups[keep_in_domain]
    real_world, real_world_groups = real_world[keep_real_world], real_world_groups[keep_real_world]
    n_in_domain, n_real_world = len(np.unique(in_domain_groups)), len(np.unique(real_world_groups))
    if min(len(in_domain), len(real_world)) < MIN_SAMPLES:
        return Shift(
            len(in_domain),
            len(real_world),
            n_in_domain,
            n_real_world,
            note=f"not measured: {min(len(in_domain), len(real_world))} samples on a side, {MIN_SAMPLES} are needed",
        )
    first, second = pooled_components(in_domain, real_world)
    # Prefixes keep equal group names of the two domains apart.
    tagged = np.concatenate(
        [np.char.add("h:", in_domain_groups.astype(str)), np.char.add("a:", real_world_groups.astype(str))]
    )
    squared = squared_distances(np.concatenate([first, second]))
    sums, energies = GroupSums(gaussian(squared), tagged), GroupSums(-np.sqrt(squared), tagged)
    names = np.unique(tagged)
    observed = np.char.startswith(names, "a:").astype(float)[None, :]
    value, energy = float(sums.mmd(observed)[0]), float(energies.mmd(observed)[0])
    # With fewer labellings than this no permutation test can reach 5 %; and groups are exchangeable only if there are several on each
    # side: a single clip can be far away without its likes being so.
    testable = min(n_in_domain, n_real_world) > 1 and comb(len(names), n_real_world) >= MIN_LABELLINGS
    drawn = _labellings(rng, len(names), n_real_world, PERMUTATIONS)
    p, energy_p = (_permutation_p(part, observed, drawn) if testable else None for part in (sums, energies))
    mmd_null = auc_null = None
    if n_in_domain >= 4:
        halves = sums.within(observed[0] == 0).mmd(_labellings(rng, n_in_domain, n_in_domain // 2, HALVES))
        mmd_null = float(np.nanquantile(halves, 0.95))
        auc_null = _half_auc(rng, first, in_domain_groups)
    distance, distance_null, size = _matched_frechet(rng, first, second, in_domain_groups)
    note = ""
    if n_real_world == 1:
        note = (
            "one clip is one sample: that this clip differs is measured, whether others like it would is not"
        )
    return Shift(
        len(in_domain),
        len(real_world),
        n_in_domain,
        n_real_world,
        mmd=value,
        mmd_null=mmd_null,
        mmd_ratio=value / mmd_null if mmd_null and mmd_null > 0 else None,
        p=p,
        energy=energy,
        energy_p=energy_p,
        frechet=distance,
        frechet_null=distance_null,
        frechet_size=size,
        auc=_domain_auc(first, second, as_groups(in_domain_groups), as_groups(real_world_groups)),
        auc_null=auc_null,
        outside=_share_outside(novelty(first, in_domain_groups, second)),
        outside_null=1 - OUTSIDE_QUANTILE,
        coverage=coverage(first, in_domain_groups, second),
        coverage_null=_half_coverage(rng, first, in_domain_groups, len(second)) if n_in_domain >= 4 else None,
        note=note,
    )


def told_apart(
    first: Floats, second: Floats, first_groups: Strings, second_groups: Strings, *, seed: int
) -> tuple[float, float] | None:
    """MMD and p of `measure` alone, for sets (n, D) and (m, D): how far apart, and how often groups dealt out at random lie as far. None where it cannot be tested."""
    rng = np.random.default_rng(seed)
    keep = [thin(rng, len(points), MAX_SAMPLES) for points in (first, second)]
    tagged = np.concatenate(
        [
            np.char.add(tag, groups[kept].astype(str))
            for tag, groups, kept in zip("12", (first_groups, second_groups), keep, strict=True)
        ]
    )
    names = np.unique(tagged)
    of_second = np.char.startswith(names, "2").astype(float)
    real_world = int(of_second.sum())
    if min(real_world, len(names) - real_world) < 2 or comb(len(names), real_world) < MIN_LABELLINGS:
        return None
    points = np.concatenate(pooled_components(first[keep[0]], second[keep[1]]))
    sums = GroupSums(gaussian(squared_distances(points)), tagged)
    observed = of_second[None, :]
    p = _permutation_p(sums, observed, _labellings(rng, len(names), real_world, PERMUTATIONS))
    return None if p is None else (float(sums.mmd(observed)[0]), p)


def _permutation_p(sums: GroupSums, observed: Floats, drawn: Floats) -> float | None:
    """P of the observed labelling among random ones; None where too many of them leave a side with one point."""
    value, permuted = float(sums.mmd(observed)[0]), sums.mmd(drawn)
    permuted = permuted[np.isfinite(permuted)]
    if len(permuted) <= len(drawn) / 2:
        return None
    return float((1 + np.count_nonzero(permuted >= value)) / (len(permuted) + 1))


def frechet(first: Floats, second: Floats) -> float:
    """Squared Frechet distance between the Gaussians of two samples (n, D) and (m, D)."""
    means = ((first.mean(0) - second.mean(0)) ** 2).sum()
    a, b = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    # The trace of sqrt(ab) is that of sqrt(sqrt(a) b sqrt(a)), which is symmetric: its eigenvalues are real.
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    crossed = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum()
    return float(means + np.trace(a) + np.trace(b) - 2 * crossed)


def _matched_frechet(
    rng: np.random.Generator, in_domain: Floats, real_world: Floats, in_domain_groups: Strings
) -> tuple[float | None, float | None, int | None]:
    """Frechet distance at one size on both sides, its null, and the size; None where home has fewer than four groups or a side is too small.

    The null is between halves of the in-domain groups. On the same two distributions it falls twelvefold from a thousand samples to fifty thousand, so
    a distance means something only beside another at the same size.
    """
    names = np.unique(in_domain_groups)
    if len(names) < 4:
        return None, None, None
    halves = []
    for _ in range(FRECHET_HALVES):
        chosen: Bools = np.isin(in_domain_groups, rng.permutation(names)[: len(names) // 2])
        halves.append((in_domain[chosen], in_domain[~chosen]))
    size = min(len(real_world), *(len(side) for pair in halves for side in pair))
    if size < FRECHET_SAMPLES:
        return None, None, None

    def some(points: Floats) -> Floats:
        return points[thin(rng, len(points), size)]

    null = [frechet(some(one), some(other)) for one, other in halves]
    values = [frechet(some(in_domain), some(real_world)) for _ in range(FRECHET_DRAWS)]
    return float(np.mean(values)), float(np.quantile(null, 0.95)), size


def _half_auc(rng: np.random.Generator, in_domain: Floats, groups: Strings) -> float | None:
    """Mean domain AUC between five random halves of the in-domain groups: what "no shift" looks like."""
    names = np.unique(groups)
    values = []
    for _ in range(5):
        chosen: Bools = np.isin(groups, rng.permutation(names)[: len(names) // 2])
        auc = _domain_auc(in_domain[~chosen], in_domain[chosen], groups[~chosen], groups[chosen])
        if auc is not None:
            values.append(auc)
    return float(np.mean(values)) if values else None
