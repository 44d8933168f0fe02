"""The shift between two sets of embeddings, with its value between halves of the in-domain set as null.

The unit is the group: group labels are permuted, folds never split a group, and halves are halves of the
groups. A single video is one group, and one group is one observation however many frames it has.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
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

from diagnostics.intervals import ENOUGH_GROUPS
from diagnostics.matching import Bools, Floats, Ints

Strings = npt.NDArray[np.str_]

COMPONENTS = 32
NEIGHBOURS = 5
PERMUTATIONS = 999
HALVES = 100
# Halves of fewer groups are too small for a null.
MIN_GROUPS_FOR_HALVES = 4
# Enough to detect any shift that matters; keeps the kernel matrix small.
MAX_SAMPLES = 1200
# With fewer labellings of the groups, no permutation test can reach p = 0.05.
MIN_LABELLINGS = 20
FRECHET_HALVES, FRECHET_DRAWS = 40, 5
# A covariance of COMPONENTS dimensions from fewer samples than this is singular.
FRECHET_SAMPLES = 40
# With fewer samples in a domain, no test here has useful power.
MIN_SAMPLES = 10
# Quantile of the in-domain neighbour distances beyond which a point counts as outside the in-domain set.
OUTSIDE_QUANTILE = 0.95
# Images and detections are tested, each at half of 5 %: sets of the same images are then called different in
# at most one report in twenty (Bonferroni).
ALPHA = 0.05 / 2
# A classifier that separates images this well, against about 0.5 between in-domain split halves, separates
# two kinds of images.
CLEAR_AUC = 0.9
# One in-domain image in twenty lies outside the in-domain range. Where nine in ten of two clips or more do,
# each clip does, which two in-domain clips would do once in four hundred times.
ALL_OUTSIDE, FEWEST_OUTSIDE = 0.9, 2


@dataclass(frozen=True)
class Shift:
    """Shift between an in-domain and a real-world set; a value is None where it cannot be measured.

    n_in_domain: number of in-domain samples
    n_real_world: number of real-world samples
    groups_in_domain: number of in-domain groups
    groups_real_world: number of real-world groups
    mmd: unbiased squared MMD (Gretton et al. 2012)
    mmd_null: 95 % quantile of the MMD between in-domain halves
    mmd_ratio: mmd / mmd_null
    p: p-value of the MMD by permutation of groups
    energy: energy distance (Szekely and Rizzo 2013), which needs no bandwidth
    energy_p: its p-value by permutation of groups
    frechet: Frechet distance between Gaussians (Heusel et al. 2017) at frechet_size samples of each set
    frechet_null: 95 % quantile between in-domain halves at the same size, since it grows as samples shrink
    frechet_size: number of samples of each set
    auc: AUC of a cross-fitted domain classifier
    auc_null: the same between in-domain halves
    outside: share of real-world points beyond the 95 % quantile of the in-domain neighbour distance
    outside_null: the share expected of in-domain points, 0.05
    coverage: share of in-domain points with a real-world point within the distance of their 5th in-domain
        neighbour (Naeem et al. 2020): how much of the in-domain set the real-world set covers
    coverage_null: the same between in-domain halves
    note: why something is not measured
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


def is_shifted(shift: Shift | None) -> bool | None:
    """Whether a difference is shown; None when it was not measured. With one or two clips no test has power:
    separability decides, or that every clip lies outside the in-domain range.
    """
    if shift is None or shift.mmd is None:
        return None
    if shift.p is not None and shift.p <= ALPHA:
        return True
    if shift.p is None and shift.mmd_ratio is None:
        # Too few clips on either side for any comparison with a reference.
        return None
    if shift.mmd_ratio is None or shift.mmd_ratio <= 1:
        return False
    if (
        shift.groups_real_world >= FEWEST_OUTSIDE
        and shift.outside is not None
        and shift.outside >= ALL_OUTSIDE
    ):
        return True
    return bool(shift.auc is not None and shift.auc >= CLEAR_AUC)


def is_alike(shift: Shift | None) -> bool:
    """Whether two sets differ no more than in-domain split halves do, with enough clips on both sides to show
    a difference.

    The domain AUC does not count: what it reaches by chance depends on the clips, and only the permutation
    test and the split halves account for that.
    """
    if shift is None or shift.p is None or shift.mmd_ratio is None:
        return False
    enough = min(shift.groups_in_domain, shift.groups_real_world) >= ENOUGH_GROUPS
    return enough and shift.p > ALPHA and shift.mmd_ratio <= 1


def thin(rng: np.random.Generator, size: int, limit: int) -> Ints:
    """Sorted indices of at most limit out of size, drawn evenly."""
    return np.arange(size) if size <= limit else np.sort(rng.choice(size, limit, replace=False))


def pooled_components(in_domain: Floats, real_world: Floats) -> tuple[Floats, Floats]:
    """Principal components fitted to both sets together, which keeps the permutation test exact.

    Dimensions are not scaled one by one: that would shrink the one along which the sets differ.
    """
    both = np.concatenate([in_domain, real_world]).astype(float)
    width = min(COMPONENTS, both.shape[1], len(both) - 1)
    # By the D x D covariance: only leading components are kept, and a full decomposition of a pool of 20,000
    # images would have as many rows.
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
    """Kernel sums by pair of groups, which give the MMD of any labelling of the groups.

    Parameters
    ----------
    matrix
        Kernel of all pairs of points, (n, n). The Gaussian kernel gives MMD, the negative distance gives the
        energy distance (Sejdinovic et al. 2013).
    groups
        Group of each point, (n,).
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
        """Unbiased squared MMD of each labelling, (R,); NaN if a side has one point.

        real_world: 1 where a group is on the real-world side, (R, G).
        """
        in_domain = 1 - real_world
        n, m = in_domain @ self.sizes, real_world @ self.sizes
        towards_real_world = real_world @ self.sums
        # The similarity of a point to itself is no pair and is taken out of the sums within a side.
        within_in_domain = (in_domain @ self.sums * in_domain).sum(1) - self.diagonal * n
        within_real_world = (towards_real_world * real_world).sum(1) - self.diagonal * m
        across = (towards_real_world * in_domain).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = (
                within_in_domain / (n * (n - 1)) + within_real_world / (m * (m - 1)) - 2 * across / (n * m)
            )
        return np.where((n > 1) & (m > 1), value, np.nan)


def _labellings(rng: np.random.Generator, groups: int, real_world: int, count: int) -> Floats:
    """Random choices of the groups on the real-world side, (count, groups)."""
    ranks = rng.random((count, groups)).argsort(1).argsort(1)
    return (ranks < real_world).astype(float)


def _domain_auc(
    in_domain: Floats, real_world: Floats, in_domain_groups: Strings, real_world_groups: Strings
) -> float | None:
    """AUC of `domain_scores`; None when a set has one group."""
    scores = domain_scores(in_domain, real_world, in_domain_groups, real_world_groups)
    if scores is None:
        return None
    return float(roc_auc_score(np.repeat([0, 1], [len(in_domain), len(real_world)]), np.concatenate(scores)))


def domain_scores(
    in_domain: Floats, real_world: Floats, in_domain_groups: Strings, real_world_groups: Strings
) -> tuple[Floats, Floats] | None:
    """Log odds of each point to be real-world, by a cross-fitted logistic classifier, (n,) and (m,).

    Folds never split a group: no point is scored by a classifier that was fitted to its clip. None when a set
    has one group.
    """
    groups = np.concatenate([in_domain_groups, real_world_groups])
    side = np.repeat([0, 1], [len(in_domain), len(real_world)])
    fewest = min(len(np.unique(in_domain_groups)), len(np.unique(real_world_groups)))
    if fewest < 2:
        return None
    points = np.concatenate([in_domain, real_world])
    scores = np.full(len(points), np.nan)
    # Folds are made within each set, so that each holds groups of both.
    fold = np.zeros(len(points), int)
    for label in (0, 1):
        of_side = np.flatnonzero(side == label)
        for number, (_, test) in enumerate(
            GroupKFold(min(5, fewest)).split(points[of_side], groups=groups[of_side])
        ):
            fold[of_side[test]] = number
    for number in np.unique(fold):
        model = make_pipeline(
            StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500)
        )
        model.fit(points[fold != number], side[fold != number])
        scores[fold == number] = model.decision_function(points[fold == number])
    return scores[: len(in_domain)], scores[len(in_domain) :]


def cross_fitting_groups(groups: Strings) -> Strings:
    """Groups for the domain classifier: a single clip is cut into five parts, to allow cross-fitting."""
    if len(np.unique(groups)) > 1 or len(groups) < MIN_SAMPLES:
        return groups
    return np.array([f"part {i * 5 // len(groups)}" for i in range(len(groups))])


def neighbour_distance(
    reference: Floats, reference_groups: Strings, points: Floats, point_groups: Strings | None = None
) -> Floats:
    """Distance of each point to its 5th nearest reference, (n,); NaN where fewer than 5 count.

    With point_groups, references of the point's own group do not count.
    """
    own = (
        max((np.count_nonzero(reference_groups == g) for g in np.unique(reference_groups)), default=0)
        if point_groups is not None
        else 0
    )
    neighbours = min(NEIGHBOURS + own, len(reference))
    distance, index = NearestNeighbors(n_neighbors=neighbours).fit(reference).kneighbors(points)
    if point_groups is None:
        return np.asarray(distance[:, min(NEIGHBOURS, neighbours) - 1])
    foreign = reference_groups[index] != point_groups[:, None]
    fifth = np.argmax(np.cumsum(foreign, axis=1) >= NEIGHBOURS, axis=1)
    enough = foreign.sum(1) >= NEIGHBOURS
    return np.where(enough, distance[np.arange(len(points)), fifth], np.nan)


def outer_distance(in_domain: Floats, in_domain_groups: Strings) -> float:
    """95 % quantile of the neighbour distance between in-domain groups; NaN where there are too few."""
    distance = neighbour_distance(in_domain, in_domain_groups, in_domain, in_domain_groups)
    return float(np.nanquantile(distance, OUTSIDE_QUANTILE)) if np.isfinite(distance).any() else float("nan")


def novelty(in_domain: Floats, in_domain_groups: Strings, real_world: Floats) -> Floats:
    """Neighbour distance of each real-world point over the in-domain 95 % quantile, (m,); 1 is its limit."""
    if len(in_domain) <= NEIGHBOURS or not len(real_world):
        return np.full(len(real_world), np.nan)
    limit = outer_distance(in_domain, in_domain_groups)
    return np.asarray(neighbour_distance(in_domain, in_domain_groups, real_world) / max(float(limit), 1e-12))


def coverage(in_domain: Floats, in_domain_groups: Strings, real_world: Floats) -> float | None:
    """Share of in-domain points with a real-world point no further than their 5th neighbour of another group.

    None where there are too few in-domain groups.
    """
    reach = neighbour_distance(in_domain, in_domain_groups, in_domain, in_domain_groups)
    measured = np.isfinite(reach)
    if not measured.any() or not len(real_world):
        return None
    nearest = NearestNeighbors(n_neighbors=1).fit(real_world).kneighbors(in_domain[measured])[0][:, 0]
    return float((nearest <= reach[measured]).mean())


def _half_coverage(rng: np.random.Generator, in_domain: Floats, groups: Strings, size: int) -> float | None:
    """Mean coverage of five random halves of the in-domain groups by the other half, at most size points."""
    names = np.unique(groups)
    values = []
    for _ in range(5):
        chosen: Bools = np.isin(groups, rng.permutation(names)[: len(names) // 2])
        other = in_domain[~chosen]
        value = coverage(in_domain[chosen], groups[chosen], other[thin(rng, len(other), size)])
        values += [] if value is None else [value]
    return float(np.mean(values)) if values else None


def _share_outside(values: Floats) -> float | None:
    """Share of novelty values above 1; None where novelty is not measured."""
    return float((values > 1).mean()) if len(values) and np.isfinite(values).all() else None


def measure_shift(
    in_domain: Floats, real_world: Floats, in_domain_groups: Strings, real_world_groups: Strings, *, seed: int
) -> Shift:
    """All shift measures between two sets of embeddings.

    Parameters
    ----------
    in_domain, real_world
        Embeddings, (n, D) and (m, D).
    in_domain_groups, real_world_groups
        Group of each embedding, (n,) and (m,).
    seed
        Seed of samples, permutations and halves.

    Returns
    -------
    Shift
        Without values, and with a note, where a set has fewer than MIN_SAMPLES samples.
    """
    rng = np.random.default_rng(seed)
    rows, real_world_rows = (thin(rng, len(points), MAX_SAMPLES) for points in (in_domain, real_world))
    in_domain, in_domain_groups = in_domain[rows], in_domain_groups[rows]
    real_world, real_world_groups = real_world[real_world_rows], real_world_groups[real_world_rows]
    n_groups, n_real_world_groups = (len(np.unique(g)) for g in (in_domain_groups, real_world_groups))
    shift = Shift(len(in_domain), len(real_world), n_groups, n_real_world_groups)
    fewest = min(len(in_domain), len(real_world))
    if fewest < MIN_SAMPLES:
        note = f"not measured: {fewest} samples in a domain, {MIN_SAMPLES} are needed"
        return replace(shift, note=note)
    if n_real_world_groups == 1:
        note = "one clip is one sample: this clip differs, but whether others like it do was not measured"
        shift = replace(shift, note=note)
    first, second = pooled_components(in_domain, real_world)
    shift = _with_kernel_tests(shift, rng, first, second, in_domain_groups, real_world_groups)
    if n_groups >= MIN_GROUPS_FOR_HALVES:
        shift = replace(shift, auc_null=_half_auc(rng, first, in_domain_groups))
    distance, distance_null, size = _matched_frechet(rng, first, second, in_domain_groups)
    return replace(
        shift,
        frechet=distance,
        frechet_null=distance_null,
        frechet_size=size,
        auc=_domain_auc(
            first, second, cross_fitting_groups(in_domain_groups), cross_fitting_groups(real_world_groups)
        ),
        outside=_share_outside(novelty(first, in_domain_groups, second)),
        outside_null=1 - OUTSIDE_QUANTILE,
        coverage=coverage(first, in_domain_groups, second),
        coverage_null=_half_coverage(rng, first, in_domain_groups, len(second))
        if n_groups >= MIN_GROUPS_FOR_HALVES
        else None,
    )


def _with_kernel_tests(
    shift: Shift,
    rng: np.random.Generator,
    in_domain: Floats,
    real_world: Floats,
    in_domain_groups: Strings,
    real_world_groups: Strings,
) -> Shift:
    """The shift with MMD and energy distance, their p-values, and the null of the MMD."""
    # Prefixes keep equal group names of the two domains distinct.
    tagged = np.concatenate(
        [np.char.add("1:", in_domain_groups.astype(str)), np.char.add("0:", real_world_groups.astype(str))]
    )
    squared = squared_distances(np.concatenate([in_domain, real_world]))
    sums, energies = GroupSums(gaussian(squared), tagged), GroupSums(-np.sqrt(squared), tagged)
    names = np.unique(tagged)
    observed = np.char.startswith(names, "0:").astype(float)[None, :]
    mmd, energy = float(sums.mmd(observed)[0]), float(energies.mmd(observed)[0])
    n_in_domain, n_real_world = shift.groups_in_domain, shift.groups_real_world
    # Groups are exchangeable only if there are several in each domain: a single clip can be far from the
    # others without other clips of its domain being so.
    testable = min(n_in_domain, n_real_world) > 1 and comb(len(names), n_real_world) >= MIN_LABELLINGS
    drawn = _labellings(rng, len(names), n_real_world, PERMUTATIONS)
    p, energy_p = (_permutation_p(part, observed, drawn) if testable else None for part in (sums, energies))
    null = None
    if n_in_domain >= MIN_GROUPS_FOR_HALVES:
        halves = sums.within(observed[0] == 0).mmd(_labellings(rng, n_in_domain, n_in_domain // 2, HALVES))
        null = float(np.nanquantile(halves, 0.95))
    return replace(
        shift,
        mmd=mmd,
        mmd_null=null,
        mmd_ratio=mmd / null if null and null > 0 else None,
        p=p,
        energy=energy,
        energy_p=energy_p,
    )


def permutation_test(
    first: Floats, second: Floats, first_groups: Strings, second_groups: Strings, *, seed: int
) -> tuple[float, float] | None:
    """MMD and its p-value alone, by permutation of groups.

    Parameters
    ----------
    first, second
        Embeddings, (n, D) and (m, D).
    first_groups, second_groups
        Group of each embedding, (n,) and (m,).
    seed
        Seed of samples and permutations.

    Returns
    -------
    tuple or None
        MMD and p-value; None where there are too few groups to test.
    """
    rng = np.random.default_rng(seed)
    rows = [thin(rng, len(points), MAX_SAMPLES) for points in (first, second)]
    tagged = np.concatenate(
        [
            np.char.add(tag, groups[chosen].astype(str))
            for tag, groups, chosen in zip("12", (first_groups, second_groups), rows, strict=True)
        ]
    )
    names = np.unique(tagged)
    of_second = np.char.startswith(names, "2").astype(float)
    n_second = int(of_second.sum())
    if min(n_second, len(names) - n_second) < 2 or comb(len(names), n_second) < MIN_LABELLINGS:
        return None
    points = np.concatenate(pooled_components(first[rows[0]], second[rows[1]]))
    sums = GroupSums(gaussian(squared_distances(points)), tagged)
    observed = of_second[None, :]
    p = _permutation_p(sums, observed, _labellings(rng, len(names), n_second, PERMUTATIONS))
    return None if p is None else (float(sums.mmd(observed)[0]), p)


def _permutation_p(sums: GroupSums, observed: Floats, drawn: Floats) -> float | None:
    """P-value of the observed labelling among random ones; None where half leave a side with one point."""
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
    """Frechet distance at one size of both sets, its null, and the size.

    None where there are fewer than four in-domain groups or a set is too small. The null is between halves of
    the in-domain groups. On the same two distributions the distance falls twelvefold from a thousand samples
    to fifty thousand, so a distance can only be compared with another at the same size.
    """
    names = np.unique(in_domain_groups)
    if len(names) < MIN_GROUPS_FOR_HALVES:
        return None, None, None
    halves = []
    for _ in range(FRECHET_HALVES):
        chosen: Bools = np.isin(in_domain_groups, rng.permutation(names)[: len(names) // 2])
        halves.append((in_domain[chosen], in_domain[~chosen]))
    size = min(len(real_world), *(len(side) for pair in halves for side in pair))
    if size < FRECHET_SAMPLES:
        return None, None, None

    def sample(points: Floats) -> Floats:
        return points[thin(rng, len(points), size)]

    null = [frechet(sample(one), sample(other)) for one, other in halves]
    values = [frechet(sample(in_domain), sample(real_world)) for _ in range(FRECHET_DRAWS)]
    return float(np.mean(values)), float(np.quantile(null, 0.95)), size


def _half_auc(rng: np.random.Generator, in_domain: Floats, groups: Strings) -> float | None:
    """Mean domain AUC between five random halves of the in-domain groups: its value without a shift."""
    names = np.unique(groups)
    values = []
    for _ in range(5):
        chosen: Bools = np.isin(groups, rng.permutation(names)[: len(names) // 2])
        auc = _domain_auc(in_domain[~chosen], in_domain[chosen], groups[~chosen], groups[chosen])
        if auc is not None:
            values.append(auc)
    return float(np.mean(values)) if values else None
