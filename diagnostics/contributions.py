"""What each correction that needs no retraining recovers, alone and together: a fall taken apart by experiment.

Every set of corrections is tried. In the best set each is credited with what it adds on average over all orders of applying them (Shapley 1953), so that two
corrections that mend the same thing share the credit and the credits add up to what the set wins. A correction outside the best set helps nobody, and is credited
with nothing: its effect by itself is told. What no set recovers needs data or labels from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import factorial

import numpy as np

from diagnostics import sweep
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_GROUPS, ApBootstrap, draws
from diagnostics.matching import Floats, MatchTable

# The correction that costs no intervention: another confidence threshold. It can move F1 and never AP.
CONFIDENCE = "confidence threshold"
MAX_PLAYERS = 5


@dataclass(frozen=True)
class Contribution:
    """What one correction recovers, in points of the measure as a fraction. alone: applied by itself. applied: in the best set.

    low, high: by clip, of won where it is applied, else of alone; None below MIN_GROUPS.
    """

    name: str
    recovered: float
    alone: float
    applied: bool
    low: float | None
    high: float | None


@dataclass(frozen=True)
class DropDecomposition:
    """measure: "AP50" or "F1". start: in the real world as it is; end: with the best set of corrections; home: in-domain. images: images it was tried on.

    left: home - end, what no correction recovers.
    """

    measure: str
    in_domain: float
    start: float
    end: float
    contributions: tuple[Contribution, ...]
    images: int

    @property
    def left(self) -> float:
        """Home minus end."""
        return self.in_domain - self.end


def shapley(values: Mapping[frozenset[str], Floats], players: Sequence[str]) -> dict[str, Floats]:
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
    measure: str,
    values: Mapping[frozenset[str], Floats],
    players: Sequence[str],
    in_domain: float,
    images: int,
) -> DropDecomposition:
    """values: of every set of players, (1 + R,): first the value itself, then R draws of clips (none where clips are too few)."""
    nothing = values[frozenset()]
    # Of two sets that do as well, the smaller.
    best = max(values, key=lambda chosen: (float(values[chosen][0]), -len(chosen)))
    applied = [player for player in players if player in best]
    credit = shapley({chosen: v for chosen, v in values.items() if chosen <= best}, applied)
    contributions = []
    for player in players:
        gain = credit[player] if player in best else values[frozenset({player})] - nothing
        low, high = (
            (float(q) for q in np.nanquantile(gain[1:], [0.025, 0.975])) if len(nothing) > 1 else (None, None)
        )
        recovered = float(gain[0]) if player in best else 0.0
        alone = float(values[frozenset({player})][0] - nothing[0])
        contributions.append(Contribution(player, recovered, alone, player in best, low, high))
    contributions.sort(
        key=lambda contribution: (not contribution.applied, -contribution.recovered, -contribution.alone)
    )
    return DropDecomposition(
        measure, in_domain, float(nothing[0]), float(values[best][0]), tuple(contributions), images
    )


def f1_counts(table: MatchTable, threshold: Floats) -> Floats:
    """Per image twice its true positives, and its detections plus objects, (2, n), at a threshold for each image (n,): F1 is the ratio of their sums."""
    true_positive, counted = table.flags(0.5)
    shown = counted & (table.confidence >= threshold[table.image])
    annotations = table.annotation_image[~table.annotation_ignored[:, 0]]
    count = table.n_images
    true_positives, found, there = (
        np.bincount(rows, minlength=count).astype(float)
        for rows in (table.image[shown & true_positive], table.image[shown], annotations)
    )
    return np.stack([2 * true_positives, found + there])


def _own_thresholds(domain: Domain, *, seed: int) -> Floats | None:
    """For each image the threshold that is best on the other half of the clips, (n,); None with a single clip."""
    groups = np.unique(domain.group_numbers)
    if len(groups) < sweep.FOLDS:
        return None
    first = np.isin(domain.group_numbers, np.random.default_rng(seed).permutation(groups)[::2])
    chosen = np.zeros(len(first))
    for fold in (first, ~first):
        _, confidence = sweep.best(sweep.sweep(domain.table, images=~fold))
        if confidence is None:
            return None
        chosen[fold] = confidence
    return chosen


def decompositions(
    looks: Mapping[frozenset[str], Domain],
    players: Sequence[str],
    *,
    in_domain_ap50: float,
    in_domain_f1: float,
    confidence: float,
    seed: int,
) -> tuple[DropDecomposition, ...]:
    """The ladder of AP50, and that of F1 with the confidence threshold as one more correction.

    looks: the same images under every set of corrections, the empty one included. confidence: the threshold in use. Raises ValueError
    for more than MAX_PLAYERS corrections with the threshold among them, or a missing set.
    """
    wanted = {frozenset(c) for size in range(len(players) + 1) for c in combinations(players, size)}
    if len(players) >= MAX_PLAYERS or set(looks) != wanted:
        raise ValueError(f"expected looks under all sets of at most {MAX_PLAYERS - 1} corrections")
    base = looks[frozenset()]
    if not len(base.annotation_arrays.image):
        return ()
    groups, number = np.unique(base.group_numbers, return_inverse=True)
    count, images = len(groups), len(base.labelled_images)
    weights = np.ones((1, count), np.int32)
    if count >= MIN_GROUPS:
        weights = np.concatenate([weights, draws(np.random.default_rng(seed), count)])
    found = []
    if players:
        values = {s: ApBootstrap(d.table, d.group_numbers)(weights) for s, d in looks.items()}
        found.append(_decompose_measure("AP50", values, players, in_domain_ap50, images))

    def f1(domain: Domain, threshold: Floats) -> Floats:
        clips = np.stack(
            [np.bincount(number, part, minlength=count) for part in f1_counts(domain.table, threshold)]
        )
        top, bottom = weights @ clips.T[:, 0], weights @ clips.T[:, 1]
        return np.asarray(top / np.maximum(bottom, 1))

    scores = {}
    for chosen, domain in looks.items():
        scores[chosen] = f1(domain, np.full(images, confidence))
        own = _own_thresholds(domain, seed=seed)
        if own is None:
            return tuple(found)
        scores[chosen | {CONFIDENCE}] = f1(domain, own)
    found.append(_decompose_measure("F1", scores, [*players, CONFIDENCE], in_domain_f1, images))
    return tuple(found)
