"""Combinations of two attributes in which a detector fails most: searched for on one half of the clips, believed only on the other.

The search is in the manner of SliceLine (Sagadeeva and Boehm, SIGMOD 2021), for at most two attributes, where all pairs can be counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr

from diagnostics import slices
from diagnostics.domain import BOX_ATTRIBUTES, Domain
from diagnostics.intervals import MIN_GROUPS
from diagnostics.matching import Bools, Floats, Ints
from diagnostics.significance import benjamini_hochberg

COLUMNS = (
    "domain",
    "kind",
    "slice",
    "attributes",
    "count",
    "groups",
    "rate",
    "rest",
    "share_of_errors",
    "p",
    "q",
    "confirmed",
)
# SliceLine's smallest slice.
MIN_SIZE = 32
MIN_SHARE = 0.01
# Candidates taken into the confirming half: each costs some of its power.
CANDIDATES = 5
# z below which a candidate is not worth the power that testing it takes from the others.
PROMISING = 1.5
# Two candidates that share this much (intersection over union) of their rows are one finding.
SAME = 0.8
# False discovery rate that is accepted, and the smallest difference worth a person's time: every tenth object.
RATE = 0.1
MIN_EFFECT = 0.1


def discover(domain: Domain, cuts: dict[str, Floats], confidence: float, *, seed: int) -> pd.DataFrame:
    """Slices by one or two attributes with more objects missed, or more false positives, than the rest of the domain: COLUMNS.

    An object is missed when nothing at or above the confidence true positives it; a detection at or above it that true positives nothing is false. count, groups,
    rate (in the slice), rest (outside it; for two attributes, in the worse of them without the other) and p are of the confirming half alone. confirmed: q at most RATE and MIN_EFFECT more errors.
    Empty below 2 * MIN_GROUPS clips: each half needs MIN_GROUPS.
    """
    if not domain.labelled.any() or int(domain.group_numbers.max(initial=-1)) + 1 < 2 * MIN_GROUPS:
        return pd.DataFrame(columns=list(COLUMNS))
    images = slices.attributes(domain, cuts).drop(columns=["image", "clip"])
    count = int(domain.group_numbers.max()) + 1
    searched = np.random.default_rng(seed).permutation(count) < count // 2
    true_positive, counted = domain.table.flags(0.5)
    claims = domain.table.claim
    found = claims[true_positive[claims] & (domain.table.confidence[claims] >= confidence)]
    partners = np.full(len(domain.table.row), -1)
    partners[claims] = domain.table.partner
    missed = np.ones(len(domain.annotation_arrays.image), bool)
    missed[partners[found]] = False
    annotations = np.flatnonzero(~domain.table.annotation_ignored[:, 0])
    shown = np.flatnonzero(counted & (domain.table.confidence >= confidence))
    annotation_parts = {
        name: domain.parts(name, domain.annotation_arrays)[annotations] for name in BOX_ATTRIBUTES
    }
    detection_parts = {
        name: domain.parts(name, domain.detection_arrays)[domain.table.row[shown]] for name in BOX_ATTRIBUTES
    }
    # Where there is less to find, more of what is found is false: the number of objects explains nothing.
    false_images = images.drop(columns="density")
    parts = [
        search(
            "missed",
            images,
            annotation_parts,
            domain.table.annotation_image[annotations],
            missed[annotations],
            domain.group_numbers,
            searched,
        ),
        search(
            "false positive",
            false_images,
            detection_parts,
            domain.table.image[shown],
            ~true_positive[shown],
            domain.group_numbers,
            searched,
        ),
    ]
    table = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    table.insert(0, "domain", domain.name)
    table["q"] = benjamini_hochberg(table["p"].to_numpy(float))
    table["confirmed"] = (table["q"] <= RATE) & (table["rate"] - table["rest"] >= MIN_EFFECT)
    return table.sort_values(["confirmed", "share_of_errors"], ascending=False, ignore_index=True)[
        list(COLUMNS)
    ]


def search(
    kind: str,
    images: pd.DataFrame,
    parts: dict[str, np.ndarray],
    image: Ints,
    wrong: Bools,
    group: Ints,
    searched: Bools,
) -> pd.DataFrame:
    """Candidates from the searched groups, tested on the others. images, parts: the attributes of images and of rows; image: of rows."""
    values = {name: images[name].to_numpy(str)[image] for name in images} | parts
    names = [(a, v) for a, column in values.items() for v in np.unique(column) if v]
    members: Any = np.array([values[a] == v for a, v in names], bool).reshape(len(names), len(image))
    owner = group[image]
    chosen = candidates(names, members[:, searched[owner]], wrong[searched[owner]])
    later = ~searched[owner]
    records = []
    for which in chosen:
        records.append(
            {
                "kind": kind,
                "slice": [names[i][1] for i in which],
                "attributes": [names[i][0] for i in which],
                **confirm([members[i, later] for i in which], wrong[later], owner[later]),
            }
        )
    return pd.DataFrame(records, columns=["kind", "slice", "attributes", *COLUMNS[4:10]])


def candidates(names: list[tuple[str, str]], members: Any, wrong: Bools) -> list[tuple[int, ...]]:
    """The most promising slices of the searched half: predicates by index, one or two of different attributes. members: (predicates, rows).

    All singles and pairs are counted by one product of matrices. They are ranked by the z of their error rate against the rest (for a pair,
    against each of its attributes without the other, the weaker counting), because that is what the other half will test. SliceLine's
    own score, relative error minus 5 % of relative smallness, turns down a slice of 5 % in which twice as much is missed.
    """
    rows = len(wrong)
    if not rows or not wrong.any() or wrong.all():
        return []
    ones = members.astype(np.float64)
    size, errors = ones @ ones.T, (ones * wrong) @ ones.T
    alone_size, alone_errors = np.diag(size), np.diag(errors)
    alone = _z(alone_size, alone_errors, rows - alone_size, wrong.sum() - alone_errors)
    first = _z(size, errors, alone_size[:, None] - size, alone_errors[:, None] - errors)
    together = np.minimum(first, first.T)
    smallest = max(MIN_SIZE, MIN_SHARE * rows)
    ranked: list[tuple[float, tuple[int, ...]]] = [
        (float(alone[i]), (i,)) for i in range(len(names)) if alone_size[i] >= smallest
    ]
    ranked += [
        (float(together[i, j]), (i, j))
        for i, j in combinations(range(len(names)), 2)
        if names[i][0] != names[j][0] and size[i, j] >= smallest
    ]
    kept: list[tuple[int, ...]] = []
    for z, which in sorted(ranked, reverse=True):
        inside = members[list(which)].all(axis=0)
        if z > PROMISING and all(_alike(inside, members[list(other)].all(axis=0)) < SAME for other in kept):
            kept.append(which)
        if len(kept) == CANDIDATES:
            break
    return kept


def _z(size: Floats, errors: Floats, other_size: Floats, other_errors: Floats) -> Floats:
    """Z of the difference of two error rates, as if rows were independent; -inf where a side is empty."""
    total = np.maximum(size + other_size, 1)
    pooled = (errors + other_errors) / total
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(pooled * (1 - pooled) * (1 / size + 1 / other_size))
        z = (errors / size - other_errors / other_size) / spread
    return np.where((size > 0) & (other_size > 0) & (spread > 0), z, -np.inf)


def _alike(first: Bools, second: Bools) -> float:
    return float((first & second).sum() / max((first | second).sum(), 1))


def confirm(parts: Sequence[Bools], wrong: Bools, owner: Ints) -> dict[str, object]:
    """Test a slice, given by the rows of its one or two attributes, against what is left of the domain, or, for two, of each of them alone.

    Two attributes that each do harm make a bad pair without any interaction: it counts as found only where it is worse than either.
    """
    inside = np.logical_and.reduce(parts)
    against = [~inside] if len(parts) == 1 else [part & ~inside for part in parts]
    results = [_harm(inside, other, wrong, owner) for other in against]
    # The weaker of two comparisons decides, and one that could not be made (NaN) leaves the pair unconfirmed.
    rest, p = (float(value) for value in np.max(np.array(results, float), axis=0))
    count, rate = int(inside.sum()), _mean(wrong[inside])
    return {
        "count": count,
        "groups": len(np.unique(owner[inside])),
        "rate": rate,
        "rest": rest,
        "share_of_errors": max(0.0, (rate - rest) * count / max(int(wrong.sum()), 1)) if count else 0.0,
        "p": p,
    }


def _harm(inside: Bools, other: Bools, wrong: Bools, owner: Ints) -> tuple[float, float]:
    """Error rate of the others, and p that the rate inside is no higher: one-sided, groups as units (linearised difference of ratios, t).

    p is NaN, which is no finding, below MIN_GROUPS groups or MIN_SIZE rows on a side.
    """
    rate, rest = _mean(wrong[inside]), _mean(wrong[other])
    sides = [(len(np.unique(owner[side])), int(side.sum())) for side in (inside, other)]
    if any(groups < MIN_GROUPS or rows < MIN_SIZE for groups, rows in sides):
        return rest, float("nan")
    pull = np.where(inside, (wrong - rate) / sides[0][1], 0.0) - np.where(
        other, (wrong - rest) / sides[1][1], 0.0
    )
    total = len(np.unique(owner[inside | other]))
    spread = float(np.sqrt((np.bincount(owner, pull) ** 2).sum() * total / (total - 1)))
    freedom = min(groups for groups, _ in sides) - 1
    return rest, float(stdtr(freedom, -(rate - rest) / spread)) if spread > 0 else float(rate <= rest)


def _mean(values: Bools) -> float:
    return float(values.mean()) if len(values) else float("nan")
