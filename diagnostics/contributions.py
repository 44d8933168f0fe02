"""How much of the drop each correction recovers without retraining, alone and together with others.

Every set of corrections is tried. In the best set, each correction is credited with what it adds on average
over all orders of applying them (Shapley 1953). Two corrections that repair the same errors therefore share
the credit, and the credits add up to what the set recovers. A correction outside the best set is credited
with nothing; its effect by itself is reported. The rest of the drop needs real-world data or labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np

from diagnostics import sweep
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_GROUPS, ApBootstrap, bootstrap_weights
from diagnostics.matching import Floats, Ints, MatchTable

# The correction that needs no intervention: another confidence threshold. It can change F1 and never AP.
CONFIDENCE = "confidence threshold"
# The number of sets to try doubles with each correction.
MAX_CORRECTIONS = 5

# Every set of corrections -> a measure under it.
Values = Mapping[frozenset[str], Floats]


@dataclass(frozen=True)
class Contribution:
    """How much of the drop one correction recovers.

    name: name of the correction
    recovered: credit within the best set, a fraction; 0 outside it
    alone: gain when it is applied by itself, a fraction
    applied: whether it is in the best set
    low, high: 95 % interval by clip, of recovered where it is applied, else of alone; None below MIN_GROUPS
        clips
    """

    name: str
    recovered: float
    alone: float
    applied: bool
    low: float | None
    high: float | None


@dataclass(frozen=True)
class DropDecomposition:
    """The drop of one measure, divided among the corrections.

    measure: "AP50" or "F1"
    in_domain: value in-domain
    start: value in the real world, without corrections
    end: value in the real world, with the best set of corrections
    contributions: one for each correction, best first
    images: number of images the corrections were tried on
    """

    measure: str
    in_domain: float
    start: float
    end: float
    contributions: tuple[Contribution, ...]
    images: int

    @property
    def left(self) -> float:
        """The part of the drop that no correction recovers."""
        return self.in_domain - self.end


def shapley(values: Values, players: Sequence[str]) -> dict[str, Floats]:
    """Each player's mean gain over all orders; values: of every set of players, arrays of one shape."""
    total = len(players)
    credit = {}
    for player in players:
        others = [p for p in players if p != player]
        credit[player] = sum(
            (
                factorial(size)
                * factorial(total - size - 1)
                / factorial(total)
                * (values[frozenset(rest) | {player}] - values[frozenset(rest)])
                for size in range(total)
                for rest in combinations(others, size)
            ),
            start=np.zeros_like(next(iter(values.values()))),
        )
    return credit


def _decompose_measure(
    measure: str, values: Values, corrections: Sequence[str], in_domain: float, images: int
) -> DropDecomposition:
    """Divide the drop of one measure.

    values: (1 + R,) for every set of corrections: the value itself, then R draws of clips (none if too few).
    """
    uncorrected = values[frozenset()]
    # Of two sets with the same value, the smaller.
    best = max(values, key=lambda applied: (float(values[applied][0]), -len(applied)))
    credit = shapley(
        {applied: v for applied, v in values.items() if applied <= best},
        [correction for correction in corrections if correction in best],
    )
    contributions = []
    for name in corrections:
        applied = name in best
        alone = values[frozenset({name})] - uncorrected
        gain = credit[name] if applied else alone
        low, high = (
            (float(q) for q in np.nanquantile(gain[1:], [0.025, 0.975]))
            if len(uncorrected) > 1
            else (None, None)
        )
        recovered = float(gain[0]) if applied else 0.0
        contributions.append(Contribution(name, recovered, float(alone[0]), applied, low, high))
    contributions.sort(
        key=lambda contribution: (not contribution.applied, -contribution.recovered, -contribution.alone)
    )
    return DropDecomposition(
        measure, in_domain, float(uncorrected[0]), float(values[best][0]), tuple(contributions), images
    )


def f1_counts(table: MatchTable, threshold: Floats) -> Floats:
    """Numerator and denominator of F1 for each image, (2, n), at a threshold for each image (n,).

    The numerator is twice the true positives, the denominator the detections plus the annotations. F1 of
    several images is the ratio of their sums.
    """
    is_true_positive, counted = table.flags(0.5)
    shown = counted & (table.confidence >= threshold[table.image])
    true_positives, detections, annotations = (
        np.bincount(images, minlength=table.n_images).astype(float)
        for images in (
            table.image[shown & is_true_positive],
            table.image[shown],
            table.annotation_image[~table.annotation_ignored[:, 0]],
        )
    )
    return np.stack([2 * true_positives, detections + annotations])


def _crossfitted_thresholds(domain: Domain, *, seed: int) -> Floats | None:
    """For each image the threshold with the best F1 on the other half of the clips, (n,).

    None with a single clip, or where no threshold has an F1.
    """
    groups = np.unique(domain.group_numbers)
    if len(groups) < sweep.FOLDS:
        return None
    first = np.isin(domain.group_numbers, np.random.default_rng(seed).permutation(groups)[::2])
    thresholds = np.zeros(len(first))
    for fold in (first, ~first):
        _, confidence = sweep.best_f_beta(sweep.sweep(domain.table, images=~fold))
        if confidence is None:
            return None
        thresholds[fold] = confidence
    return thresholds


def decompose_drop(
    corrected: Mapping[frozenset[str], Domain],
    corrections: Sequence[str],
    *,
    in_domain_ap50: float,
    in_domain_f1: float,
    confidence: float,
    seed: int,
) -> tuple[DropDecomposition, ...]:
    """Divide the drop of AP50, and that of F1 with the confidence threshold as one more correction.

    Parameters
    ----------
    corrected
        The same real-world images under every set of corrections, the empty set included.
    corrections
        Names of the corrections.
    in_domain_ap50, in_domain_f1
        Values in-domain.
    confidence
        Threshold in use.
    seed
        Seed of the draws of clips and of the halves on which thresholds are fitted.

    Returns
    -------
    tuple of DropDecomposition
        For AP50 (unless there are no corrections) and for F1 (unless there is a single clip); empty without
        annotations.

    Raises
    ------
    ValueError
        For more than MAX_CORRECTIONS corrections with the threshold among them, or where a set is missing.
    """
    sets = {frozenset(c) for size in range(len(corrections) + 1) for c in combinations(corrections, size)}
    if len(corrections) >= MAX_CORRECTIONS or set(corrected) != sets:
        raise ValueError(f"expected domains under all sets of at most {MAX_CORRECTIONS - 1} corrections")
    uncorrected = corrected[frozenset()]
    if not len(uncorrected.annotation_arrays.image):
        return ()
    images, count = len(uncorrected.labelled_images), len(np.unique(uncorrected.group_numbers))
    weights = np.ones((1, count), np.int32)
    if count >= MIN_GROUPS:
        weights = np.concatenate([weights, bootstrap_weights(np.random.default_rng(seed), count)])
    decompositions = []
    if corrections:
        ap50 = {s: ApBootstrap(d.table, d.group_numbers)(weights) for s, d in corrected.items()}
        decompositions.append(_decompose_measure("AP50", ap50, corrections, in_domain_ap50, images))
    f1 = _f1_of_sets(corrected, weights, confidence, seed=seed)
    if f1 is not None:
        decompositions.append(_decompose_measure("F1", f1, [*corrections, CONFIDENCE], in_domain_f1, images))
    return tuple(decompositions)


def _f1_of_sets(
    corrected: Mapping[frozenset[str], Domain], weights: Ints, confidence: float, *, seed: int
) -> Values | None:
    """F1 of every set of corrections, with and without a fitted threshold, for group multiplicities (R, G).

    None where a threshold cannot be fitted.
    """
    uncorrected = corrected[frozenset()]
    number = np.unique(uncorrected.group_numbers, return_inverse=True)[1]

    def f1(domain: Domain, threshold: Floats) -> Floats:
        counts = f1_counts(domain.table, threshold)
        by_group = np.stack([np.bincount(number, part, minlength=weights.shape[1]) for part in counts])
        numerator, denominator = weights @ by_group.T[:, 0], weights @ by_group.T[:, 1]
        return np.asarray(numerator / np.maximum(denominator, 1))

    scores = {}
    for applied, domain in corrected.items():
        scores[applied] = f1(domain, np.full(len(uncorrected.labelled_images), confidence))
        fitted = _crossfitted_thresholds(domain, seed=seed)
        if fitted is None:
            return None
        scores[applied | {CONFIDENCE}] = f1(domain, fitted)
    return scores
