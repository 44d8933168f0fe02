"""Weak slices: combinations of two attributes with many errors, searched on half of the clips.

The other half confirms them. The search follows SliceLine (Sagadeeva and Boehm, SIGMOD 2021), for at most two
attributes, where all pairs can be counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
# Attribute of single boxes: the annotated class of a missed object, the predicted one of a false positive.
CLASS = "class"
# SliceLine's smallest slice.
MIN_SIZE = 32
MIN_SHARE = 0.01
# Candidates tested on the confirming half, for each kind of error: every test costs the others power.
CANDIDATES = 5
# z below which a candidate is not tested at all.
PROMISING = 1.5
# Two candidates that share this much of their rows (intersection over union) are one finding.
SAME = 0.8
# Accepted false discovery rate, and the smallest difference of error rates that is reported.
RATE = 0.1
MIN_EFFECT = 0.1


@dataclass(frozen=True)
class _Boxes:
    """The annotations or detections in which slices are searched.

    attributes: attribute of single boxes -> the range of each box, (n,)
    image: number of each box's image, (n,)
    wrong: whether each box is an error, (n,)
    """

    attributes: dict[str, np.ndarray]
    image: Ints
    wrong: Bools


def find_weak_slices(
    domain: Domain, cuts: dict[str, Floats], confidence: float, *, seed: int
) -> pd.DataFrame:
    """Find slices by one or two attributes with more missed annotations or false positives than the rest.

    Parameters
    ----------
    domain
        The domain to search.
    cuts
        Edges of the ranges of image attributes, see `slices.attributes`.
    confidence
        An annotation is missed if no detection at or above it matches the annotation; a detection at or above
        it that matches nothing is a false positive.
    seed
        Seed of the split of the clips into halves.

    Returns
    -------
    DataFrame
        COLUMNS. count, groups, rate (of errors in the slice), rest (outside it; for two attributes, the
        higher rate of either one without the other) and p are of the confirming half alone. confirmed: q is
        at most RATE, and rate exceeds rest by MIN_EFFECT. Empty below 2 * MIN_GROUPS clips, because each half
        needs MIN_GROUPS.
    """
    count = int(domain.group_numbers.max(initial=-1)) + 1
    if not domain.labelled.any() or count < 2 * MIN_GROUPS:
        return pd.DataFrame(columns=list(COLUMNS))
    images = slices.attributes(domain, cuts).drop(columns=["image", "clip"])
    searched = np.random.default_rng(seed).permutation(count) < count // 2
    missed, false_positives = _missed(domain, confidence), _false_positives(domain, confidence)
    parts = [
        _search("missed", images, missed, domain.group_numbers, searched),
        # Where there are fewer objects, a larger share of the detections is false, whatever the detector.
        _search(
            "false positive",
            images.drop(columns="density"),
            false_positives,
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


def _missed(domain: Domain, confidence: float) -> _Boxes:
    """The counted annotations; wrong: missed at a confidence."""
    table = domain.table
    true_positive, _ = table.flags(0.5)
    matched = table.matched
    detected = table.partner[true_positive[matched] & (table.confidence[matched] >= confidence)]
    missed = np.ones(len(domain.annotation_arrays.image), bool)
    missed[detected] = False
    rows = np.flatnonzero(~table.annotation_ignored[:, 0])
    attributes = {
        name: domain.attribute_ranges(name, domain.annotation_arrays)[rows] for name in BOX_ATTRIBUTES
    } | _classes(domain, domain.annotation_arrays.label[rows])
    return _Boxes(attributes, table.annotation_image[rows], missed[rows])


def _false_positives(domain: Domain, confidence: float) -> _Boxes:
    """The counted detections at or above a confidence; wrong: false positive."""
    table = domain.table
    true_positive, counted = table.flags(0.5)
    lines = np.flatnonzero(counted & (table.confidence >= confidence))
    rows = table.row[lines]
    attributes = {
        name: domain.attribute_ranges(name, domain.detection_arrays)[rows] for name in BOX_ATTRIBUTES
    } | _classes(domain, domain.detection_arrays.label[rows])
    return _Boxes(attributes, table.image[lines], ~true_positive[lines])


def _classes(domain: Domain, labels: Ints) -> dict[str, np.ndarray]:
    """The class of each box, where there are several."""
    return {CLASS: np.array(domain.classes)[labels]} if len(domain.classes) > 1 else {}


def _search(kind: str, images: pd.DataFrame, boxes: _Boxes, group: Ints, searched: Bools) -> pd.DataFrame:
    """Candidates from the searched groups, tested on the others.

    images: attributes of each image. group: group of each image. searched: mask of groups.
    """
    values = {name: images[name].to_numpy(str)[boxes.image] for name in images} | boxes.attributes
    names = [(a, v) for a, column in values.items() for v in np.unique(column) if v]
    members: Any = np.array([values[a] == v for a, v in names], bool).reshape(len(names), len(boxes.image))
    owner = group[boxes.image]
    in_search = searched[owner]
    chosen = _promising(names, members[:, in_search], boxes.wrong[in_search])
    later = ~in_search
    records = []
    for predicates in chosen:
        records.append(
            {
                "kind": kind,
                "slice": [names[i][1] for i in predicates],
                "attributes": [names[i][0] for i in predicates],
                **confirm([members[i, later] for i in predicates], boxes.wrong[later], owner[later]),
            }
        )
    return pd.DataFrame(records, columns=["kind", "slice", "attributes", *COLUMNS[4:10]])


def _promising(names: list[tuple[str, str]], members: Any, wrong: Bools) -> list[tuple[int, ...]]:
    """The most promising slices of the searched half, each as indices of one or two predicates.

    Two predicates are of different attributes; members is (predicates, rows). One matrix product counts all
    singles and pairs. They are ranked by the z of their error rate against the rest (for a pair, the smaller
    z against either attribute without the other), because that is what the other half tests. SliceLine's own
    score, relative error minus 5 % of relative smallness, rejects a slice of 5 % of the rows with twice the
    error rate.
    """
    rows = len(wrong)
    if not rows or not wrong.any() or wrong.all():
        return []
    ones = members.astype(np.float64)
    size, errors = ones @ ones.T, (ones * wrong) @ ones.T
    single_size, single_errors = np.diag(size), np.diag(errors)
    of_single = _z(single_size, single_errors, rows - single_size, wrong.sum() - single_errors)
    against_first = _z(size, errors, single_size[:, None] - size, single_errors[:, None] - errors)
    of_pair = np.minimum(against_first, against_first.T)
    smallest = max(MIN_SIZE, MIN_SHARE * rows)
    ranked: list[tuple[float, tuple[int, ...]]] = [
        (float(of_single[i]), (i,)) for i in range(len(names)) if single_size[i] >= smallest
    ]
    ranked += [
        (float(of_pair[i, j]), (i, j))
        for i, j in combinations(range(len(names)), 2)
        if names[i][0] != names[j][0] and size[i, j] >= smallest
    ]
    chosen: list[tuple[int, ...]] = []
    for z, predicates in sorted(ranked, reverse=True):
        inside = members[list(predicates)].all(axis=0)
        if z > PROMISING and all(
            _overlap(inside, members[list(other)].all(axis=0)) < SAME for other in chosen
        ):
            chosen.append(predicates)
        if len(chosen) == CANDIDATES:
            break
    return chosen


def _z(size: Floats, errors: Floats, other_size: Floats, other_errors: Floats) -> Floats:
    """Z of the difference of two error rates as if rows were independent; -inf where a side is empty."""
    total = np.maximum(size + other_size, 1)
    pooled = (errors + other_errors) / total
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(pooled * (1 - pooled) * (1 / size + 1 / other_size))
        z = (errors / size - other_errors / other_size) / spread
    return np.where((size > 0) & (other_size > 0) & (spread > 0), z, -np.inf)


def _overlap(first: Bools, second: Bools) -> float:
    """Intersection over union of two masks."""
    return float((first & second).sum() / max((first | second).sum(), 1))


def confirm(parts: Sequence[Bools], wrong: Bools, owner: Ints) -> dict[str, object]:
    """Test a slice against the rest of the domain, or, for two attributes, against each without the other.

    Two attributes that each raise the error rate make a weak pair without any interaction, so a pair is
    confirmed only if it is worse than either.

    Parameters
    ----------
    parts
        Mask of each of the slice's one or two attributes, (n,).
    wrong
        Whether each row is an error, (n,).
    owner
        Group number of each row, (n,).

    Returns
    -------
    dict
        count, groups, rate, rest, share_of_errors and p, see `find_weak_slices`.
    """
    inside = np.logical_and.reduce(parts)
    against = [~inside] if len(parts) == 1 else [part & ~inside for part in parts]
    results = [_compare_rates(inside, other, wrong, owner) for other in against]
    # The weaker of two comparisons decides; one that cannot be made (NaN) leaves the pair unconfirmed.
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


def _compare_rates(inside: Bools, other: Bools, wrong: Bools, owner: Ints) -> tuple[float, float]:
    """Error rate of the others, and the one-sided p that the rate inside is no higher.

    Groups are the units (linearised difference of ratios, Student's t). p is NaN, which is no finding, below
    MIN_GROUPS groups or MIN_SIZE rows on a side.
    """
    rate, rest = _mean(wrong[inside]), _mean(wrong[other])
    sides = [(len(np.unique(owner[side])), int(side.sum())) for side in (inside, other)]
    if any(groups < MIN_GROUPS or rows < MIN_SIZE for groups, rows in sides):
        return rest, float("nan")
    influence = np.where(inside, (wrong - rate) / sides[0][1], 0.0) - np.where(
        other, (wrong - rest) / sides[1][1], 0.0
    )
    total = len(np.unique(owner[inside | other]))
    spread = float(np.sqrt((np.bincount(owner, influence) ** 2).sum() * total / (total - 1)))
    freedom = min(groups for groups, _ in sides) - 1
    return rest, float(stdtr(freedom, -(rate - rest) / spread)) if spread > 0 else float(rate <= rest)


def _mean(values: Bools) -> float:
    """Share of True; NaN without values."""
    return float(values.mean()) if len(values) else float("nan")
