"""Why a class loses more than the others: labels left out, labels under another name, a confusion, or objects
missed.

Errors of the class are counted in four ways, beside how often each happens in-domain. What grew most names
what happens. Whether labels or the detector is to blame shows in the detector's own eyes: an unlabelled truck
that it sees as it sees every labelled truck of the same footage is a truck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from diagnostics.domain import Domain
from diagnostics.label_free import FLOOR
from diagnostics.matching import Floats, Ints
from diagnostics.wording import fraction, percent

# left_out: objects without a label. other_name: objects labelled as another class. confusion: the detector
# takes the class for another one. background: it takes background for the class. missed: it does not find
# them.
Cause = Literal["left_out", "other_name", "confusion", "background", "missed"]
CODES: dict[Cause, str] = {
    "left_out": "label_error",
    "other_name": "label_error",
    "confusion": "domain_shift",
    "background": "domain_shift",
    "missed": "domain_shift",
}
# Two groups of detections that a linear classifier tells apart no better than halfway between chance (0.5)
# and always (1) are more alike than different.
ALIKE = 0.75
# Detections of each group that the comparison needs: with 8 and 8, an AUC has a standard error of 0.15 where
# nothing differs (Hanley and McNeil 1982), so that ALIKE is passed by chance in one case of twenty.
MIN_DETECTIONS = 8
COMPONENTS = 10
FOLDS = 5


@dataclass(frozen=True)
class ClassCause:
    """Why one class loses.

    domain, name: the real-world domain and the class
    cause: what grew most
    other: the class that it is taken for, or labelled as; "" for none
    share, in_domain_share: how often it happens in the two domains
    of: what they are shares of
    drop_share: its drop as a share of the drops of all classes that lose
    hit: whether it loses more than the others, beyond chance
    alike: AUC with which these detections are told from true ones of the predicted class; None where they are
        too few, or nothing was predicted
    """

    domain: str
    name: str
    cause: Cause
    other: str
    share: float
    in_domain_share: float
    of: str
    alike: float | None
    drop_share: float = 0.0
    hit: bool = False

    @property
    def code(self) -> str:
        """The hypothesis that it is evidence for; "" where labels and detector cannot be told apart."""
        return "" if self.alike is None and self.cause in ("confusion", "background") else CODES[self.cause]

    @property
    def statement(self) -> str:
        """One sentence."""
        shares = f"{percent(self.share)} of {self.of} (in-domain {percent(self.in_domain_share)})"
        told = f" (told apart with AUC {fraction(self.alike)})" if self.alike is not None else ""
        if not self.code:
            what = (
                f"{self.name} is taken for {self.other} or the reverse"
                if self.cause == "confusion"
                else f"{self.name} is predicted where nothing is labelled"
            )
            return f"{what}, {shares}: too few to tell whether labels or detector are wrong."
        return {
            "left_out": (
                f"{self.name} is predicted where nothing is labelled, {shares}, and these look to the "
                f"detector as labelled ones do{told}: labels of {self.name} are probably left out."
            ),
            "other_name": (
                f"{self.name} and {self.other} are taken for each other, {shares}, and these look to the "
                f"detector as those that it gets right do{told}: the labels probably name some {self.name} "
                f"{self.other}, or the reverse."
            ),
            "confusion": f"{self.name} is taken for {self.other}, {shares}{told}: the detector "
            "confuses the two here.",
            "background": (
                f"{self.name} is predicted where nothing is labelled, {shares}, and these look unlike "
                f"labelled ones{told}: something here resembles {self.name}."
            ),
            "missed": f"{self.name} is not found, {shares}: no class is predicted there "
            "at the threshold in use.",
        }[self.cause]


@dataclass(frozen=True)
class _Errors:
    """Errors of one class at a threshold.

    annotations, detections: of the class
    missed: annotations on which nothing is detected
    taken: annotations on which another class is detected, by that class, (K,)
    given: detections that lie on annotations of another class, by that class, (K,)
    on_nothing: detections on no annotation
    rows: rows of the domain's detections: of another class on an annotation of this one; of this one on
        annotations of another; of this one on nothing
    """

    annotations: int
    detections: int
    missed: int
    taken: Ints
    given: Ints
    on_nothing: int
    rows: tuple[Ints, Ints, Ints]


def _errors(domain: Domain, label: int, confidence: float) -> _Errors:
    """Count the errors of one class."""
    outcomes = domain.outcomes[domain.outcomes["confidence"] >= confidence]
    counted = ~domain.table.annotation_ignored[:, domain.table.areas.index("all")]
    labels = domain.annotation_arrays.label
    own = np.flatnonzero(counted & (labels == label))
    index = domain.scored_detections.index.to_numpy()
    partner = outcomes["partner"].to_numpy(np.int64)
    predicted = outcomes["label"].to_numpy(np.int64)
    outcome = outcomes["outcome"].to_numpy(str)
    rows = index[outcomes["row"].to_numpy(np.int64)]
    on_own = np.isin(partner, own)
    right = on_own & (outcome == "true_positive")
    found = np.unique(partner[right])
    other = (outcome == "class") & on_own & ~np.isin(partner, found)
    _, first = np.unique(partner[other], return_index=True)
    taken_rows = np.flatnonzero(other)[first]
    loose = on_own & (predicted == label) & (outcome != "true_positive")
    touched = np.unique(np.concatenate([found, partner[other], partner[loose]]))
    mine = predicted == label
    given = mine & (outcome == "class")
    nothing = mine & (outcome == "background")
    count = len(domain.classes)
    return _Errors(
        len(own),
        int(mine.sum()),
        len(own) - len(touched),
        np.bincount(predicted[taken_rows], minlength=count),
        np.bincount(labels[partner[given]], minlength=count),
        int(nothing.sum()),
        (rows[taken_rows], rows[given], rows[nothing]),
    )


def explain_class(in_domain: Domain, real_world: Domain, label: int, confidence: float) -> ClassCause | None:
    """What grew most among the errors of a class.

    Parameters
    ----------
    in_domain, real_world : Domain
        With labels of the class.
    label : int
        The class.
    confidence : float
        The threshold in use.

    Returns
    -------
    ClassCause or None
        None where no kind of error became more frequent.
    """
    here, there = _errors(real_world, label, confidence), _errors(in_domain, label, confidence)
    if not here.annotations or not there.annotations:
        return None

    def growth(mine: float, of: int, theirs: float, of_theirs: int) -> tuple[float, float, float]:
        share, before = mine / max(of, 1), theirs / max(of_theirs, 1)
        return (share - before) * of, share, before

    pairs = here.taken + here.given
    pairs_before = there.taken + there.given
    other = int(np.argmax(pairs - pairs_before * (here.annotations / there.annotations)))
    together, together_before = here.annotations + here.detections, there.annotations + there.detections
    grown = {
        "missed": growth(here.missed, here.annotations, there.missed, there.annotations),
        "nothing": growth(here.on_nothing, here.detections, there.on_nothing, there.detections),
        "pair": growth(int(pairs[other]), together, int(pairs_before[other]), together_before),
    }
    kind = max(grown, key=lambda name: grown[name][0])
    if grown[kind][0] <= 0:
        return None
    return _cause(in_domain, real_world, label, other, kind, grown[kind][1:], here, confidence)


# Eight parameters: two sets, the class and its errors, and which of them grew.
def _cause(
    in_domain: Domain,
    domain: Domain,
    label: int,
    other: int,
    kind: str,
    shares: tuple[float, float],
    errors: _Errors,
    confidence: float,
) -> ClassCause:
    """The kind of error with who is to blame."""
    name, other_name = domain.classes[label], domain.classes[other]
    if kind == "missed":
        return ClassCause(domain.name, name, "missed", "", *shares, f"its {errors.annotations} objects", None)
    taken, given, nothing = errors.rows
    if kind == "nothing":
        told = _alike(in_domain, domain, nothing, label, confidence)
        cause: Cause = "left_out" if told is not None and told < ALIKE else "background"
        return ClassCause(domain.name, name, cause, "", *shares, f"its {errors.detections} detections", told)
    # Objects of the class seen as the other, and the reverse: each beside what is rightly seen so.
    labels = domain.detections["label"].to_numpy(np.int64)
    aucs = [
        _alike(in_domain, domain, rows, predicted, confidence)
        for rows, predicted in (
            (taken[labels[taken] == other], other),
            (_on(domain, given, other), label),
        )
    ]
    measured = [auc for auc in aucs if auc is not None]
    told = min(measured) if measured else None
    cause = "other_name" if told is not None and told < ALIKE else "confusion"
    of = f"the {errors.annotations} objects and {errors.detections} detections of {name}"
    return ClassCause(domain.name, name, cause, other_name, *shares, of, told)


def _on(domain: Domain, rows: Ints, label: int) -> Ints:
    """The rows of detections that lie on an annotation of a class."""
    index = domain.scored_detections.index.to_numpy()[domain.outcomes["row"].to_numpy(np.int64)]
    partner = domain.outcomes["partner"].to_numpy(np.int64)
    on = (partner >= 0) & (domain.annotation_arrays.label[np.maximum(partner, 0)] == label)
    return rows[np.isin(rows, index[on])]


def _right(domain: Domain, label: int, confidence: float) -> Ints:
    """Rows of the true positives of a class at or above a confidence."""
    outcomes = domain.outcomes
    chosen = outcomes[
        (outcomes["outcome"] == "true_positive")
        & (outcomes["label"] == label)
        & (outcomes["confidence"] >= confidence)
    ]
    return domain.scored_detections.index.to_numpy()[chosen["row"].to_numpy(np.int64)]


def _alike(in_domain: Domain, domain: Domain, rows: Ints, predicted: int, confidence: float) -> float | None:
    """AUC with which detections are told from true positives of the predicted class, see `_told_apart`.

    Where the domain has too few of these, in-domain ones stand in. Then a difference may be that of the two
    sets and says nothing: None.
    """
    right = _right(domain, predicted, confidence)
    if len(right) >= MIN_DETECTIONS:
        return _told_apart((domain, rows), (domain, right))
    told = _told_apart((domain, rows), (in_domain, _right(in_domain, predicted, confidence)))
    return told if told is not None and told < ALIKE else None


def _told_apart(first: tuple[Domain, Ints], second: tuple[Domain, Ints]) -> float | None:
    """AUC with which a linear classifier tells two groups of detections apart by their embeddings and
    confidence, as a two-sample test (Lopez-Paz and Oquab 2017).

    It is measured on detections of other images than it was fitted on. None where a group has fewer than
    MIN_DETECTIONS, or embeddings are missing. first, second: a domain, and rows of its detections.
    """
    groups = [
        # The embeddings of less sure detections are not kept.
        (domain, rows[domain.detections["confidence"].to_numpy(float)[rows] >= FLOOR])
        for domain, rows in (first, second)
    ]
    sizes = [len(rows) for _, rows in groups]
    widths = {domain.detection_embeddings.shape[1] for domain, _ in groups}
    if min(sizes) < MIN_DETECTIONS or len(widths) > 1 or not min(widths):
        return None
    truth = np.repeat([1, 0], sizes)
    points = np.concatenate([domain.detection_embeddings[rows] for domain, rows in groups]).astype(float)
    points = (points - points.mean(0)) / np.maximum(points.std(0), 1e-6)
    count = min(COMPONENTS, len(points) // 4, points.shape[1])
    reduced = PCA(count, random_state=0).fit_transform(points)
    confidence = np.concatenate([d.detections["confidence"].to_numpy(float)[rows] for d, rows in groups])
    logit = np.log(np.clip(confidence, 1e-4, 1 - 1e-4) / (1 - np.clip(confidence, 1e-4, 1 - 1e-4)))
    features = np.column_stack([reduced, logit])
    images = np.concatenate([d.name + "/" + d.detections["image"].to_numpy(str)[rows] for d, rows in groups])
    return _crossvalidated_auc(features, truth, images.tolist())


def _crossvalidated_auc(features: Floats, truth: Ints, images: Sequence[str]) -> float | None:
    """AUC of scores from classifiers fitted on the other images."""
    _, number = np.unique(images, return_inverse=True)
    order = np.random.default_rng(0).permutation(number.max() + 1)
    fold = order[number] % FOLDS
    scores = np.full(len(truth), np.nan)
    for part in range(FOLDS):
        held_out = fold == part
        if not held_out.any() or len(np.unique(truth[~held_out])) < 2:
            continue
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(
            features[~held_out], truth[~held_out]
        )
        scores[held_out] = model.decision_function(features[held_out])
    measured = np.isfinite(scores)
    if len(np.unique(truth[measured])) < 2:
        return None
    return float(roc_auc_score(truth[measured], scores[measured]))
