"""Each class by itself: its AP, its threshold, and which class a drop hits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from diagnostics.class_causes import ClassCause, explain_class
from diagnostics.confusion import COLUMNS as CONFUSION_COLUMNS
from diagnostics.confusion import confusion
from diagnostics.domain import Domain
from diagnostics.evidence import HARMLESS_GAP, SUPPORTED_SHARE
from diagnostics.intervals import (
    MIN_BOXES,
    MIN_GROUPS,
    ApBootstrap,
    bca,
    bootstrap_weights,
    interval_note,
    jackknife_weights,
)
from diagnostics.matching import Floats, Ints
from diagnostics.pairs import Pair
from diagnostics.precision import accumulate, mean
from diagnostics.significance import benjamini_hochberg, holm
from diagnostics.sweep import GRID, sweeps

# Accepted chance that a report names any class as hit more than the others although none is.
FALSE_ALARM = 0.05
# Share of the classes said to lose that lose by chance; as of the slices said to be worse.
FALSE_SHARE = 0.1
# A class with few annotations takes part of its threshold from all classes together: this many annotations of
# theirs count beside its own. Below as many, no AP is reported either.
PRIOR_ANNOTATIONS = MIN_BOXES

COLUMNS = (
    "domain",
    "class",
    "images",
    "annotations",
    "detections",
    "ap",
    "ap50",
    "ap50_low",
    "ap50_high",
    "precision",
    "recall",
    "f1",
    "best_confidence",
    "best_f1",
    "note",
)
DROP_COLUMNS = (
    "domain",
    "class",
    "in_domain_ap50",
    "real_world_ap50",
    "drop",
    "low",
    "high",
    "shrunk",
    "cost",
    "excess",
    "excess_low",
    "excess_high",
    "p",
    "hit",
    "sure",
)


@dataclass(frozen=True)
class ClassAp:
    """AP50 of each class of one domain and of its bootstrap replicates.

    point: AP50, (K,), NaN without annotations
    annotations: counted annotations, (K,)
    replicates: AP50 in each bootstrap replicate, (K, R); (K, 0) below MIN_GROUPS clips
    jackknife: AP50 with each clip left out, (K, J); (K, 0) below MIN_GROUPS clips
    groups: number of clips
    """

    point: Floats
    annotations: Ints
    replicates: Floats
    jackknife: Floats
    groups: int

    def interval(self, label: int) -> tuple[float, float]:
        """95 % interval of one class; NaN below MIN_GROUPS clips."""
        if not self.replicates.shape[1]:
            return float("nan"), float("nan")
        return bca(self.replicates[label], float(self.point[label]), self.jackknife[label], self.groups)

    @property
    def variance(self) -> Floats:
        """Variance of each class's AP50, (K,).

        At least that of a share of as many objects, one success and one failure added (Agresti and Coull
        1998): the bootstrap of one object that is always detected varies not at all.
        """
        count = self.annotations
        share = (np.nan_to_num(self.point) * count + 1) / (count + 2)
        least = share * (1 - share) / (count + 2)
        if not self.replicates.shape[1]:
            return np.asarray(least)
        return np.maximum(least, np.nan_to_num(_nan_variance(self.replicates)))


def _nan_variance(values: Floats) -> Floats:
    """Variance of each row over what is finite, (K,); 0 where nothing is."""
    finite = np.isfinite(values)
    count = np.maximum(finite.sum(1), 1)
    centre = np.where(finite, values, 0).sum(1) / count
    return np.asarray(np.where(finite, (values - centre[:, None]) ** 2, 0).sum(1) / count)


def bootstrap_classes(domain: Domain, *, seed: int) -> ClassAp:
    """AP50 of each class with the spread that other clips of the domain would give."""
    table, units = domain.table, domain.interval_units
    bootstrap = ApBootstrap(table, units)
    count = len(bootstrap.groups)
    counted = ~table.annotation_ignored[:, table.areas.index("all")]
    annotations = np.bincount(table.annotation_label[counted], minlength=table.n_classes)
    point = bootstrap.by_iou(np.ones((1, count), np.int32))[:, 0, 0]
    nothing = np.zeros((table.n_classes, 0))
    if count < MIN_GROUPS:
        return ClassAp(point, annotations, nothing, nothing, count)
    drawn = bootstrap.by_iou(bootstrap_weights(np.random.default_rng(seed), count), single=True)[:, 0]
    jackknife = bootstrap.by_iou(jackknife_weights(count, seed))[:, 0]
    return ClassAp(point, annotations, drawn, jackknife, count)


def class_table(domain: Domain, ap: ClassAp, confidence: float) -> pd.DataFrame:
    """What is measured of each class of a labelled domain.

    Parameters
    ----------
    domain : Domain
        With labels.
    ap : ClassAp
        Its AP50 by class.
    confidence : float
        Threshold of detections, precision, recall and F1.

    Returns
    -------
    DataFrame
        COLUMNS, one row a class that is annotated or predicted at the threshold. AP and recall are NaN
        without annotations, the interval below MIN_BOXES annotations, precision without detections. AP equals
        pycocotools' of that class. best_confidence: see `class_thresholds`.
    """
    table = domain.table
    true_positive, counted = table.flags(0.5)
    shown = counted & (table.confidence >= confidence)
    count = table.n_classes
    detections = np.bincount(table.label[shown], minlength=count)
    right = np.bincount(table.label[shown & true_positive], minlength=count)
    average, _ = accumulate(table)
    is_counted = ~table.annotation_ignored[:, table.areas.index("all")]
    pairs = np.unique(
        np.column_stack([table.annotation_label[is_counted], table.annotation_image[is_counted]]), axis=0
    )
    images = np.bincount(pairs[:, 0], minlength=count) if len(pairs) else np.zeros(count, int)
    thresholds = class_thresholds(domain)
    records = []
    for label in np.flatnonzero((ap.annotations > 0) | (detections > 0)):
        boxes, found = int(ap.annotations[label]), int(right[label])
        few = boxes < MIN_BOXES
        low, high = (float("nan"), float("nan")) if few else ap.interval(int(label))
        records.append(
            {
                "domain": domain.name,
                "class": domain.classes[label],
                "images": int(images[label]),
                "annotations": boxes,
                "detections": int(detections[label]),
                "ap": mean(average[label]) if boxes else float("nan"),
                "ap50": float(ap.point[label]),
                "ap50_low": low,
                "ap50_high": high,
                "precision": found / detections[label] if detections[label] else float("nan"),
                "recall": found / boxes if boxes else float("nan"),
                "f1": 2 * found / (detections[label] + boxes) if boxes else float("nan"),
                "best_confidence": thresholds.confidence[label],
                "best_f1": thresholds.f1[label],
                "note": _note(boxes, ap.groups),
            }
        )
    return pd.DataFrame(records, columns=list(COLUMNS))


def _note(boxes: int, groups: int) -> str:
    """What keeps the numbers of a class from being sure; "" where nothing does."""
    if not boxes:
        return "predicted, and not annotated"
    if boxes < MIN_BOXES:
        return f"only {boxes} annotations, {MIN_BOXES} are needed for an interval"
    if groups < MIN_GROUPS:
        return f"no interval: {groups} clips, {MIN_GROUPS} are needed"
    return interval_note(groups)


@dataclass(frozen=True)
class Thresholds:
    """The threshold of each class.

    confidence: the threshold, (K,); NaN without annotations of any class
    f1: F1 of the class at it, (K,); NaN without annotations of the class
    """

    confidence: Floats
    f1: Floats


def class_thresholds(domain: Domain) -> Thresholds:
    """The threshold with the best F1 for each class, those of rare classes drawn to that of all together.

    F1 = 2 TP / (detections + annotations) is a ratio of counts. PRIOR_ANNOTATIONS annotations of all classes,
    with their detections and true positives, are added to the counts of each class before its best threshold
    is chosen, so that a class of three objects takes the common one and a class of a thousand its own.
    """
    table = domain.table
    everything = np.ones((1, table.n_images), bool)
    curves = sweeps(table, everything, by_class=True)
    counted = ~table.annotation_ignored[:, table.areas.index("all")]
    annotations = np.bincount(table.annotation_label[counted], minlength=table.n_classes).astype(float)
    true = np.nan_to_num(curves["recall"][0]) * annotations[:, None]
    false = curves["false_positives_per_image"][0] * table.n_images
    total = annotations.sum()
    if not total:
        nothing = np.full(table.n_classes, np.nan)
        return Thresholds(nothing, nothing)
    share = PRIOR_ANNOTATIONS / total
    blended_true = true + share * true.sum(0)
    blended_false = false + share * false.sum(0)
    below = blended_true + blended_false + (annotations + PRIOR_ANNOTATIONS)[:, None]
    score = 2 * blended_true / below
    chosen = [_middle_of_best(row) for row in score]
    own = curves["f1"][0]
    return Thresholds(
        np.array([GRID[i] for i in chosen]), np.array([own[k, i] for k, i in enumerate(chosen)])
    )


def _middle_of_best(score: Floats) -> int:
    """Index of the middle of the highest plateau."""
    plateau = np.flatnonzero(score >= score.max() - 1e-12)
    return int(plateau[len(plateau) // 2])


def compare_classes(
    in_domain: ClassAp, real_world: ClassAp, *, compared: Iterable[int] | None = None, seed: int
) -> pd.DataFrame:
    """The drop in AP50 of each class that both sets have, and whether it is hit more than the others.

    Parameters
    ----------
    in_domain, real_world : ClassAp
        Of the same classes.
    compared : iterable of int
        Labels to compare; None for all that both sets have.
    seed : int
        Pairs the replicates of both sets.

    Returns
    -------
    DataFrame
        DROP_COLUMNS without domain and class, indexed by label, the costliest first. shrunk: the drop drawn
        to the mean drop as far as it is uncertain (random effects, DerSimonian and Laird 1986). cost: what
        the class takes from the mean AP50, by the shrunk drop. excess: the drop less the mean drop of the
        other classes, with its 95 % interval. p: one-sided, of no excess, adjusted for all classes (Holm).
        hit: p is at most FALSE_ALARM and the excess over HARMLESS_GAP. sure: the drop is over HARMLESS_GAP
        and beyond chance, of which FALSE_SHARE is expected to be wrong (Benjamini and Hochberg 1995).
    """
    measured = np.isfinite(in_domain.point) & np.isfinite(real_world.point)
    if compared is not None:
        measured &= np.isin(np.arange(len(measured)), list(compared))
    labels = np.flatnonzero(measured)
    drop = (in_domain.point - real_world.point)[labels]
    variance = (in_domain.variance + real_world.variance)[labels]
    shrunk = shrink(drop, variance)
    frame = pd.DataFrame(
        {
            "in_domain_ap50": in_domain.point[labels],
            "real_world_ap50": real_world.point[labels],
            "drop": drop,
            "low": np.nan,
            "high": np.nan,
            "shrunk": shrunk,
            "cost": shrunk / max(len(labels), 1),
            "excess": np.nan,
            "excess_low": np.nan,
            "excess_high": np.nan,
            "p": np.nan,
            "hit": False,
            "sure": False,
        },
        index=labels,
    )
    if in_domain.replicates.shape[1] and real_world.replicates.shape[1] and len(labels):
        groups = min(in_domain.groups, real_world.groups)
        order = np.random.default_rng(seed).permutation(real_world.replicates.shape[1])
        drawn = in_domain.replicates[labels] - real_world.replicates[labels][:, order]
        effects = np.hstack(
            [
                in_domain.jackknife[labels] - in_domain.point[labels][:, None],
                real_world.point[labels][:, None] - real_world.jackknife[labels],
            ]
        )
        for row, label in enumerate(labels):
            if min(in_domain.annotations[label], real_world.annotations[label]) >= MIN_BOXES:
                frame.loc[label, ["low", "high"]] = bca(
                    drawn[row], float(drop[row]), drop[row] + effects[row], groups
                )
        p = _p_of(drop, np.sqrt(np.maximum(variance, _nan_variance(drawn))), groups)
        frame["sure"] = (benjamini_hochberg(p) <= FALSE_SHARE) & (drop > HARMLESS_GAP)
        if len(labels) > 1:
            _measure_excess(frame, labels, drawn, variance, groups)
    return frame.sort_values("cost", ascending=False, kind="stable")


def _measure_excess(frame: pd.DataFrame, labels: Ints, drawn: Floats, variance: Floats, groups: int) -> None:
    """Fill in excess, its interval, p and hit. drawn: drop of each class in each replicate, (k, R). variance:
    of each drop, (k,), which is more than that of the replicates where annotations are few.
    """
    drop, count = frame["drop"].to_numpy(float), len(labels)
    filled = np.where(np.isfinite(drawn), drawn, drop[:, None])
    excess = drop - (drop.sum() - drop) / (count - 1)
    replicates = filled - (filled.sum(0) - filled) / (count - 1)
    # What the classes share (a dark clip is dark for all) cancels in the replicates; what few annotations add
    # to the variance of one class does not.
    added = np.maximum(variance - _nan_variance(filled), 0)
    spread = np.sqrt(_nan_variance(replicates) + added + (added.sum() - added) / (count - 1) ** 2)
    freedom = groups - 1
    reach = float(stdtrit(freedom, 0.975)) * spread
    p = _p_of(excess, spread, groups)
    frame["excess"], frame["excess_low"], frame["excess_high"] = excess, excess - reach, excess + reach
    frame["p"] = holm(p)
    frame["hit"] = (frame["p"] <= FALSE_ALARM) & (frame["excess"] > HARMLESS_GAP)


def _p_of(values: Floats, spread: Floats, groups: int) -> Floats:
    """One-sided p-values, (k,), of values with a standard error, by Student's t with as many clips."""
    t = -values / np.maximum(spread, 1e-12)
    return np.asarray(np.where(spread > 0, stdtr(groups - 1, t), (values <= 0).astype(float)))


def shrink(values: Floats, variance: Floats) -> Floats:
    """Estimates drawn to their common mean as far as each is uncertain (random effects).

    The variance between classes is DerSimonian and Laird's (1986); where the values differ by no more than
    chance it is 0, and all become their weighted mean.
    """
    if len(values) < 2:
        return np.asarray(values)
    weight = 1 / np.maximum(variance, 1e-9)
    centre = (weight * values).sum() / weight.sum()
    heterogeneity = (weight * (values - centre) ** 2).sum() - (len(values) - 1)
    between = max(0.0, heterogeneity / (weight.sum() - (weight**2).sum() / weight.sum()))
    if not between:
        return np.full(len(values), centre)
    total = 1 / (variance + between)
    centre = (total * values).sum() / total.sum()
    keep = between / (between + variance)
    return np.asarray(keep * values + (1 - keep) * centre)


def classes_hit(drops: pd.DataFrame) -> list[str]:
    """The classes of one domain that a drop hits, where they are fewer than half of the classes and make up
    the larger part of it; [] where the drop is common to the classes, or nobody can tell.
    """
    hit = drops[drops["hit"]]
    losses = drops["drop"].clip(lower=0)
    if (
        not len(hit)
        or 2 * len(hit) > len(drops)
        or losses.loc[hit.index].sum() < SUPPORTED_SHARE * losses.sum()
    ):
        return []
    return [str(name) for name in hit["class"]]


def _missing_classes(domains: Mapping[str, Domain], in_domain: str) -> dict[str, tuple[list[str], list[str]]]:
    """Classes annotated in-domain and not in each other labelled domain, and the reverse."""

    def annotated(domain: Domain) -> set[str]:
        counted = domain.annotations.loc[~domain.annotations["crowd"].astype(bool), "label"].unique()
        return {domain.classes[label] for label in counted}

    reference = domains.get(in_domain)
    if reference is None:
        return {}
    here = annotated(reference)
    return {
        name: (sorted(here - annotated(domain)), sorted(annotated(domain) - here))
        for name, domain in domains.items()
        if name != in_domain
    }


@dataclass(frozen=True)
class ClassFindings:
    """What is known of the classes of all labelled domains.

    table: `class_table` of every labelled domain
    drops: `compare_classes` of every real-world domain that can be compared, with domain and class
    confusion: `confusion` of every labelled domain
    missing: classes that only one of the in-domain set and a real-world domain annotates, by domain, see
        `_missing_classes`
    causes: why classes lose, by domain, the costliest first: those whose drop is beyond chance
    """

    table: pd.DataFrame
    drops: pd.DataFrame
    confusion: pd.DataFrame
    missing: dict[str, tuple[list[str], list[str]]]
    causes: dict[str, tuple[ClassCause, ...]] = field(default_factory=dict)

    def hit(self, domain: str) -> list[str]:
        """See `classes_hit`."""
        return classes_hit(self.drops[self.drops["domain"] == domain])

    def failing(self, domain: str) -> dict[str, float]:
        """Share of the drop in each class that it hits more than the others, by name."""
        drops = self.drops[self.drops["domain"] == domain].set_index("class")["drop"].clip(lower=0)
        return {name: float(drops[name] / drops.sum()) for name in self.hit(domain)}

    def causes_of_drop(self, domain: str) -> tuple[ClassCause, ...]:
        """Why the classes lose that a drop hits more than the others; where it is common to them, why each
        loses.
        """
        hit, causes = self.hit(domain), self.causes.get(domain, ())
        return tuple(cause for cause in causes if cause.name in hit) or causes


def find_classes(
    labelled: Sequence[Domain], in_domain: Domain, pairs: Mapping[str, Pair], confidence: float, *, seed: int
) -> ClassFindings:
    """Measure the classes of all labelled domains.

    Parameters
    ----------
    labelled : sequence of Domain
        The in-domain set and real-world domains, where they have labels.
    in_domain : Domain
        The validation domain.
    pairs : mapping
        Each real-world domain beside the in-domain set.
    confidence : float
        The threshold in use.
    seed : int
        Of the bootstrap.
    """
    aps = {domain.name: bootstrap_classes(domain, seed=seed) for domain in labelled}
    tables = [class_table(domain, aps[domain.name], confidence) for domain in labelled]
    drops, causes = [], {}
    for name, pair in pairs.items():
        if not pair.usable or in_domain.name not in aps or len(in_domain.classes) < 2:
            continue
        # Copies of training images are left out of the comparison.
        whole = name in aps and len(pair.real_world.images) == len(
            next(d for d in labelled if d.name == name).images
        )
        compared = compare_classes(
            aps[in_domain.name],
            aps[name] if whole else bootstrap_classes(pair.real_world, seed=seed),
            compared=pair.real_world.compared,
            seed=seed,
        )
        named = [in_domain.classes[int(label)] for label in compared.index]
        drops.append(compared.assign(domain=name, **{"class": named})[list(DROP_COLUMNS)])
        causes[name] = _causes(in_domain, pair.real_world, compared, confidence)
    confused = [confusion(domain, confidence) for domain in labelled]
    return ClassFindings(
        _together(tables, COLUMNS),
        _together(drops, DROP_COLUMNS),
        _together(confused, CONFUSION_COLUMNS),
        _missing_classes({domain.name: domain for domain in labelled}, in_domain.name),
        causes,
    )


def _causes(
    in_domain: Domain, real_world: Domain, compared: pd.DataFrame, confidence: float
) -> tuple[ClassCause, ...]:
    """Why each class loses whose drop is beyond chance. compared: see `compare_classes`."""
    lost = compared["drop"].clip(lower=0)
    causes = []
    for label in compared.index[(compared["hit"] | compared["sure"]).to_numpy(bool)]:
        cause = explain_class(in_domain, real_world, int(label), confidence)
        if cause is not None:
            share = float(lost[label] / lost.sum())
            causes.append(replace(cause, drop_share=share, hit=bool(compared.loc[label, "hit"])))
    return tuple(causes)


def _together(parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Frames as one; empty with the columns without any row."""
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(columns))
