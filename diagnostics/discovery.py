"""Combinations of two attributes in which a detector fails most: searched for on one half of the clips, believed only on the other.

The search is SliceLine's (Sagadeeva and Boehm, SIGMOD 2021) for at most two attributes, where all pairs can be counted outright.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr

from diagnostics import slices
from diagnostics.domain import OBJECT_ATTRIBUTES, Domain
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
# SliceLine's weight of error against size, and its smallest slice.
ERROR_WEIGHT = 0.95
MIN_SIZE = 32
MIN_SHARE = 0.01
# Candidates taken into the confirming half: each costs some of its power.
CANDIDATES = 5
# Two candidates that share this much (intersection over union) of their rows are one finding.
SAME = 0.8
# False discovery rate that is accepted, and the smallest difference worth a person's time: every tenth object.
RATE = 0.1
MIN_EFFECT = 0.1


def discover(domain: Domain, cuts: dict[str, Floats], confidence: float, *, seed: int) -> pd.DataFrame:
    """Slices by one or two attributes with more objects missed, or more false positives, than the rest of the domain: COLUMNS.

    An object is missed when nothing at or above the confidence hits it; a detection at or above it that hits nothing is false. count, groups,
    rate (in the slice), rest (outside it) and p are of the confirming half alone. confirmed: q at most RATE and MIN_EFFECT more errors.
    Empty below 2 * MIN_GROUPS clips: each half needs MIN_GROUPS.
    """
    if not domain.labelled.any() or int(domain.group_numbers.max(initial=-1)) + 1 < 2 * MIN_GROUPS:
        return pd.DataFrame(columns=list(COLUMNS))
    pictures = slices.attributes(domain, cuts).drop(columns=["image", "clip"])
    count = int(domain.group_numbers.max()) + 1
    searched = np.random.default_rng(seed).permutation(count) < count // 2
    hit, counted = domain.table.flags(0.5)
    claims = domain.table.claim
    found = claims[hit[claims] & (domain.table.confidence[claims] >= confidence)]
    partners = np.full(len(domain.table.row), -1)
    partners[claims] = domain.table.partner
    missed = np.ones(len(domain.object_arrays.image), bool)
    missed[partners[found]] = False
    objects = np.flatnonzero(~domain.table.object_ignored[:, 0])
    shown = np.flatnonzero(counted & (domain.table.confidence >= confidence))
    object_parts = {name: domain.parts(name, domain.object_arrays)[objects] for name in OBJECT_ATTRIBUTES}
    box_parts = {
        name: domain.parts(name, domain.detection_arrays)[domain.table.row[shown]]
        for name in OBJECT_ATTRIBUTES
    }
    parts = [
        search(
            "missed",
            pictures,
            object_parts,
            domain.table.object_image[objects],
            missed[objects],
            domain.group_numbers,
            searched,
        ),
        search(
            "false positive",
            pictures,
            box_parts,
            domain.table.image[shown],
            ~hit[shown],
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
    pictures: pd.DataFrame,
    parts: dict[str, np.ndarray],
    image: Ints,
    wrong: Bools,
    group: Ints,
    searched: Bools,
) -> pd.DataFrame:
    """Candidates from the searched groups, tested on the others. pictures, parts: the attributes of pictures and of rows; image: of rows."""
    values = {name: pictures[name].to_numpy(str)[image] for name in pictures} | parts
    names = [(a, v) for a, column in values.items() for v in np.unique(column) if v]
    members: Any = np.array([values[a] == v for a, v in names], bool).reshape(len(names), len(image))
    owner = group[image]
    chosen = candidates(names, members[:, searched[owner]], wrong[searched[owner]])
    later = ~searched[owner]
    records = []
    for which in chosen:
        inside = members[list(which)].all(axis=0)
        records.append(
            {
                "kind": kind,
                "slice": [names[i][1] for i in which],
                "attributes": [names[i][0] for i in which],
                **tested(inside[later], wrong[later], owner[later]),
            }
        )
    return pd.DataFrame(records, columns=["kind", "slice", "attributes", *COLUMNS[4:10]])


def candidates(names: list[tuple[str, str]], members: Any, wrong: Bools) -> list[tuple[int, ...]]:
    """The best slices of the searched half: predicates by index, one or two of different attributes. members: (predicates, rows)."""
    rows = len(wrong)
    if not rows or not wrong.any() or wrong.all():
        return []
    ones = members.astype(np.float32)
    size, errors = ones @ ones.T, (ones * wrong) @ ones.T
    average = wrong.mean()
    with np.errstate(divide="ignore", invalid="ignore"):
        score = ERROR_WEIGHT * (errors / size / average - 1) - (1 - ERROR_WEIGHT) * (rows / size - 1)
    score[size < max(MIN_SIZE, MIN_SHARE * rows)] = -np.inf
    alone = np.diag(score)
    ranked: list[tuple[float, tuple[int, ...]]] = [(float(s), (i,)) for i, s in enumerate(alone) if s > 0]
    for i, j in combinations(range(len(names)), 2):
        # A pair must say more than each of its two attributes alone.
        if names[i][0] != names[j][0] and score[i, j] > max(alone[i], alone[j], 0):
            ranked.append((float(score[i, j]), (i, j)))
    kept: list[tuple[int, ...]] = []
    for _, which in sorted(ranked, reverse=True):
        inside = members[list(which)].all(axis=0)
        if all(_alike(inside, members[list(other)].all(axis=0)) < SAME for other in kept):
            kept.append(which)
        if len(kept) == CANDIDATES:
            break
    return kept


def _alike(first: Bools, second: Bools) -> float:
    return float((first & second).sum() / max((first | second).sum(), 1))


def tested(inside: Bools, wrong: Bools, owner: Ints) -> dict[str, object]:
    """Is the error rate inside higher than outside? One-sided, with groups as units (linearised difference of ratios, Student's t)."""
    groups = np.unique(owner[inside])
    count = int(inside.sum())
    rate, rest = _mean(wrong[inside]), _mean(wrong[~inside])
    result: dict[str, object] = {"count": count, "groups": len(groups), "rate": rate, "rest": rest}
    result["share_of_errors"] = max(0.0, (rate - rest) * count / max(int(wrong.sum()), 1)) if count else 0.0
    if len(groups) < MIN_GROUPS or count < MIN_SIZE or count == len(inside):
        return result | {"p": float("nan")}
    pull = np.where(inside, (wrong - rate) / count, -(wrong - rest) / (len(inside) - count))
    by_group = np.bincount(owner, pull)
    total = len(np.unique(owner))
    spread = float(np.sqrt((by_group**2).sum() * total / (total - 1)))
    p = float(stdtr(len(groups) - 1, -(rate - rest) / spread)) if spread > 0 else float(rate <= rest)
    return result | {"p": p}


def _mean(values: Bools) -> float:
    return float(values.mean()) if len(values) else float("nan")
