"""Which labels are most likely wrong, and what share of them is wrong.

Every annotation is a candidate, and so is every detection that lies on none: an object may have been left
out. What a wrong label looks like to this detector on these images is learnt from the images themselves:
errors are planted into a copy of the labels (boxes left out, moved, of another class, and boxes where nothing
is), and a random forest learns to tell them from the rest by how detections agree with them. Images are
judged by forests that were grown on others. It needs no knowledge of the detector's threshold or calibration.

A person then says of some candidates whether they are right. They are drawn with known probabilities, the
suspicious ones sooner, and a model of the answers is corrected by them (see `diagnostics.point_measures`,
which draws frames the same way), so that the estimated share is unbiased however wrong the suspicion is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import beta
from scipy.stats import t as student
from sklearn.ensemble import RandomForestClassifier

from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.intervals import LEVEL
from diagnostics.matching import Bools, Floats, Ints, iou_table
from diagnostics.point_measures import inclusion

# Detections below this support no annotation; those from CANDIDATE on may be objects that were left out.
LOWEST, CANDIDATE = 0.01, 0.05
# A detection belongs to an annotation from this overlap on, as in AP50.
SAME = 0.5
# Share of the labels that get each kind of error in a planted copy, and copies: enough errors to learn from
# in a set of a few hundred boxes. The rate only scales the suspicion; the order hardly depends on it.
PLANTED, COPIES = 0.06, 6
FOLDS, TREES, LEAF = 3, 200, 10
# With fewer planted errors of a kind nothing is learnt.
FEWEST_PLANTED = 3
# The least that any candidate weighs in drawing, as a share of the mean: no answer weighs more than its
# inverse.
FLOOR_SIZE = 0.3
# With fewer answers the share has no useful interval.
MIN_ANSWERS = 20
MISSING, ANNOTATION = "missing", "annotation"
COLUMNS = ["image", "kind", "row", "label", *CORNERS, "suspicion"]


@dataclass(frozen=True)
class LabelAudit:
    """What answers about candidates say about the labels of a domain.

    domain: its name
    annotations: number of annotations
    candidates: annotations and detections that lie on none
    answers: candidates that a person judged
    wrong: of these, labels that are wrong and objects that were left out
    share: wrong labels and left out objects for each annotation: value, low, high (95 %); None with too few
        answers
    missing: the part of the share that was left out
    classes: number of classes that are labelled
    note: why there is no share, else ""
    """

    domain: str
    annotations: int
    candidates: int
    answers: int
    wrong: int
    share: tuple[float, float, float] | None = None
    missing: float | None = None
    classes: int = 1
    note: str = ""


@dataclass(frozen=True)
class DomainAudit:
    """Answers about candidates of a domain.

    candidates: all candidates, see `find_candidates`, in the order in which they were asked about
    wrong: the answer about each of the first: whether the label is wrong, or an object was left out
    sizes: `sampling_sizes` at the time of drawing
    """

    candidates: pd.DataFrame
    wrong: Bools
    sizes: Floats


def find_candidates(domain: Domain, *, seed: int) -> pd.DataFrame:
    """Annotations, and detections that lie on none, with how suspicious each is.

    Parameters
    ----------
    domain : Domain
        Its labelled images are searched; crowds are left out.
    seed : int
        Of the planted errors.

    Returns
    -------
    DataFrame
        Every annotation, and as many detections that lie on none; the most suspicious first: image, kind
        ("annotation", or "missing" for a detection), row (of the domain's annotations or detections), label,
        corners, suspicion (0 to 1).
    """
    images = domain.labelled_images[["image", "width", "height"]].reset_index(drop=True)
    labels = _of_images(domain.annotations[~domain.annotations["crowd"].astype(bool)], images)
    detections = _of_images(domain.detections[domain.detections["confidence"] >= LOWEST], images)
    detections = detections[detections["label"].isin(labels["label"].unique())].reset_index(drop=True)
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(images)) % FOLDS
    planted = [_plant(labels, images, rng) for _ in range(COPIES if len(labels) else 0)]
    annotation_features, missing, missing_features = _describe(labels, detections, images)
    learnt: dict[str, list[tuple[Floats, Bools, Ints]]] = {ANNOTATION: [], MISSING: []}
    for copy, is_wrong, left_out in planted:
        features, rows, detection_features = _describe(copy, detections, images)
        learnt[ANNOTATION].append((features, is_wrong, fold[copy["place"].to_numpy()]))
        places = detections["place"].to_numpy()[rows]
        learnt[MISSING].append((detection_features, _lie_on(detections.iloc[rows], left_out), fold[places]))
    suspicion = _judge(learnt[ANNOTATION], annotation_features, fold[labels["place"].to_numpy()])
    of_missing = _judge(learnt[MISSING], missing_features, fold[detections["place"].to_numpy()[missing]])
    left_out = detections.iloc[missing].assign(kind=MISSING, suspicion=of_missing)
    # A weak detector has thousands that are nothing: as many as there are labels, the most suspicious.
    left_out = left_out.sort_values("suspicion", ascending=False, kind="stable").head(len(labels))
    found = pd.concat([labels.assign(kind=ANNOTATION, suspicion=suspicion), left_out], ignore_index=True)
    return found.sort_values("suspicion", ascending=False, kind="stable")[COLUMNS].reset_index(drop=True)


def _of_images(table: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Boxes of these images with the number of their image (place) and of their row in the table (row)."""
    places = dict(zip(images["image"], range(len(images)), strict=True))
    kept = table.assign(row=np.arange(len(table)) if table.empty else table.index.to_numpy())
    kept = kept[kept["image"].isin(images["image"])]
    return kept.assign(place=kept["image"].map(places).astype("int64")).reset_index(drop=True)


def _describe(
    labels: pd.DataFrame, detections: pd.DataFrame, images: pd.DataFrame
) -> tuple[Floats, Ints, Floats]:
    """How detections agree with each label, (n, F); and the detections that lie on none, with their
    features.
    """
    boxes, classes = labels[CORNERS].to_numpy(float), labels["label"].to_numpy()
    found, kinds = detections[CORNERS].to_numpy(float), detections["label"].to_numpy()
    confidence = detections["confidence"].to_numpy(float)
    of_labels, of_detections = (table.groupby("place").indices for table in (labels, detections))
    nothing: Ints = np.zeros(0, np.int64)
    features = np.zeros((len(labels), 9))
    rows: list[Ints] = []
    described: list[Floats] = []
    areas = images["width"].to_numpy(float) * images["height"].to_numpy(float)
    for place in range(len(images)):
        a, d = of_labels.get(place, nothing), of_detections.get(place, nothing)
        overlap = iou_table(boxes[a], found[d])
        same = classes[a][:, None] == kinds[d][None]
        size = np.log(np.sqrt(_area(boxes[a]) / areas[place]) + 1e-3)
        features[a] = _features_of_labels(overlap, same, confidence[d], size, boxes[a])
        alone = _lie_on_none(overlap, confidence[d], found[d])
        rows.append(d[alone])
        nearest = overlap.max(0, initial=0.0)[alone]
        nearest_same = np.where(same, overlap, 0.0).max(0, initial=0.0)[alone]
        own_size = np.log(np.sqrt(_area(found[d][alone]) / areas[place]) + 1e-3)
        crowdedness = np.full(len(alone), float(len(a)))
        described.append(
            np.column_stack([_logit(confidence[d][alone]), nearest, nearest_same, own_size, crowdedness])
        )
    if not rows:
        return features, nothing, np.zeros((0, 5))
    return features, np.concatenate(rows), np.concatenate(described)


def _features_of_labels(
    overlap: Floats, same: Bools, confidence: Floats, size: Floats, boxes: Floats
) -> Floats:
    """How the detections of an image agree with each of its labels, (n, 9)."""

    def strongest(which: Bools) -> Floats:
        """The highest confidence among some detections for each label."""
        return np.asarray(np.where(which, confidence[None], 0.0).max(1, initial=0.0))

    own, other = strongest(same & (overlap >= SAME)), strongest(~same & (overlap >= SAME))
    best = np.where(same, overlap * confidence[None], 0.0)
    fit = np.zeros(len(boxes))
    if overlap.shape[1]:
        at = best.argmax(1)
        fit = np.where(best.max(1) > 0, overlap[np.arange(len(boxes)), at], 0.0)
    twin = iou_table(boxes, boxes)
    np.fill_diagonal(twin, 0.0)
    return np.column_stack(
        [
            _logit(own),
            _logit(other),
            _logit(strongest(same & (overlap >= 0.1))),
            fit,
            _logit(strongest(same & (overlap >= 0.75))),
            _logit(strongest(overlap >= 0.3)),
            size,
            twin.max(1, initial=0.0),
            _logit(other) - _logit(own),
        ]
    )


def _lie_on_none(overlap: Floats, confidence: Floats, boxes: Floats) -> Ints:
    """Detections that lie on no label, the most confident of each place."""
    order = np.argsort(-confidence, kind="stable")
    order = order[(confidence[order] >= CANDIDATE) & (overlap.max(0, initial=0.0)[order] < SAME)]
    kept: list[int] = []
    for row in order:
        if not kept or iou_table(boxes[row][None], boxes[kept]).max() < SAME:
            kept.append(int(row))
    return np.array(kept, np.int64)


def _plant(
    labels: pd.DataFrame, images: pd.DataFrame, rng: np.random.Generator
) -> tuple[pd.DataFrame, Bools, pd.DataFrame]:
    """A copy of labels with errors of each kind; whether each label of it is wrong; and the labels
    left out.
    """
    count = max(1, min(max(2, round(PLANTED * len(labels))), len(labels) // 4))
    order = rng.permutation(len(labels))
    classes = np.unique(labels["label"])
    left_out, moved = order[:count], order[count : 2 * count]
    swapped = order[2 * count : 3 * count] if len(classes) > 1 else order[:0]
    copy, is_wrong = labels.copy(), np.zeros(len(labels), bool)
    sizes = images[["width", "height"]].to_numpy(float)
    before = labels[CORNERS].to_numpy(float)[moved]
    after = _move(before, np.tile(sizes[labels["place"].to_numpy()[moved]], 2), rng)
    is_elsewhere = (_paired_iou(before, after) < 0.7) & ((after[:, 2:] - after[:, :2]) > 2).all(1)
    copy.iloc[moved[is_elsewhere], [copy.columns.get_loc(c) for c in CORNERS]] = after[is_elsewhere]
    is_wrong[moved[is_elsewhere]] = True
    if len(swapped):
        others = [rng.choice(classes[classes != label]) for label in labels["label"].to_numpy()[swapped]]
        copy.iloc[swapped, copy.columns.get_loc("label")] = others
        is_wrong[swapped] = True
    kept = np.setdiff1d(np.arange(len(labels)), left_out)
    added = _boxes_of_others(labels, images, count, rng)
    whole = pd.concat([copy.iloc[kept], added], ignore_index=True)
    return whole, np.concatenate([is_wrong[kept], np.ones(len(added), bool)]), labels.iloc[left_out]


def _move(boxes: Floats, limits: Floats, rng: np.random.Generator) -> Floats:
    """Boxes moved by about a third of their size, and as much larger or smaller, within their images."""
    size = boxes[:, 2:] - boxes[:, :2]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 + rng.normal(0, 0.35, size.shape) * size
    half = size * np.exp(rng.normal(0, 0.3, size.shape)) / 2
    return np.asarray(np.clip(np.column_stack([middle - half, middle + half]), 0, limits))


def _boxes_of_others(
    labels: pd.DataFrame, images: pd.DataFrame, count: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Boxes of other images at the same place, where nothing is labelled: as frequent, as large, and
    empty.
    """
    drawn = labels.iloc[rng.integers(len(labels), size=count)].copy()
    drawn["place"] = rng.integers(len(images), size=count)
    drawn["image"] = images["image"].to_numpy()[drawn["place"]]
    limits = np.tile(images[["width", "height"]].to_numpy(float)[drawn["place"]], 2)
    drawn[CORNERS] = np.clip(drawn[CORNERS].to_numpy(float), 0, limits)
    corners = drawn[CORNERS].to_numpy(float)
    is_box = ((corners[:, 2:] - corners[:, :2]) > 2).all(1)
    return drawn[is_box & (_nearest(drawn, labels) < 0.2)]


def _lie_on(detections: pd.DataFrame, labels: pd.DataFrame) -> Bools:
    """Whether each detection lies on one of these labels."""
    return np.asarray(_nearest(detections, labels) >= SAME)


def _nearest(boxes: pd.DataFrame, labels: pd.DataFrame) -> Floats:
    """The largest overlap of each box with a label of its image, 0 without any."""
    of_labels = {place: rows[CORNERS].to_numpy(float) for place, rows in labels.groupby("place")}
    nothing = np.zeros((0, 4))
    return np.array(
        [
            iou_table(box[None], of_labels.get(place, nothing)).max(initial=0.0)
            for box, place in zip(boxes[CORNERS].to_numpy(float), boxes["place"], strict=True)
        ],
        float,
    )


def _paired_iou(first: Floats, second: Floats) -> Floats:
    """Overlap of each box with the one at the same row, (n,)."""
    return np.array([iou_table(a[None], b[None])[0, 0] for a, b in zip(first, second, strict=True)], float)


def _area(boxes: Floats) -> Floats:
    """Area of boxes, (n,)."""
    return np.asarray(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1))


def _logit(share: Floats) -> Floats:
    """Log odds."""
    inside = np.clip(share, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(inside / (1 - inside)))


def _judge(learnt: list[tuple[Floats, Bools, Ints]], features: Floats, fold: Ints) -> Floats:
    """Suspicion of each candidate, by forests grown on the images of other folds, (n,)."""
    suspicion = np.zeros(len(features))
    if not len(features) or not learnt:
        return suspicion
    known, wrong, folds = (np.concatenate(part) for part in zip(*learnt, strict=True))
    for part in range(FOLDS):
        mine, others = fold == part, folds != part
        if not mine.any():
            continue
        if min(wrong[others].sum(), (~wrong[others]).sum()) < FEWEST_PLANTED:
            suspicion[mine] = wrong.mean() if len(wrong) else 0.0
            continue
        forest = RandomForestClassifier(TREES, min_samples_leaf=LEAF, max_features=3, random_state=0)
        suspicion[mine] = forest.fit(known[others], wrong[others]).predict_proba(features[mine])[:, 1]
    return suspicion


def sampling_sizes(suspicion: Floats) -> Floats:
    """How soon each candidate is asked about, (n,), with mean 1.

    The square root of the suspicion is best for the total of a yes or no (Särndal et al. 1992, section 12.2);
    a part that is the same for all finds what looks right and is not.
    """
    spread = np.sqrt(suspicion)
    mean = spread.mean() if len(spread) else 0.0
    return np.ones(len(spread)) if mean <= 0 else FLOOR_SIZE + (1 - FLOOR_SIZE) * spread / mean


def measure_audit(domain: str, audit: DomainAudit) -> LabelAudit:
    """The share of wrong labels from answers about the first candidates of the drawn order.

    The difference estimator: what the suspicion lets expect for all, scaled to the answers, plus the weighted
    surprises. Its interval is that of a binomial share with as many answers as the variance is worth (Korn
    and Graubard 1998), which holds also where hardly any are wrong. What the detector did not find, or found
    only after as many detections as there are annotations, is no candidate: of objects left out, the share is
    the least.
    """
    candidates, count = audit.candidates, len(audit.wrong)
    annotations = int((candidates["kind"] == ANNOTATION).sum())
    wrong = int(audit.wrong.sum())
    names = (
        candidates.loc[candidates["kind"] == ANNOTATION, "label"].nunique() if "label" in candidates else 1
    )
    nothing = LabelAudit(domain, annotations, len(candidates), count, wrong, classes=names)
    if not annotations:
        return replace(nothing, note="there are no annotations")
    if count < min(MIN_ANSWERS, len(candidates)):
        return replace(nothing, note=f"{count} answers; at least {MIN_ANSWERS} are needed")
    weight = 1 / inclusion(audit.sizes, count)[:count]
    suspicion = candidates["suspicion"].to_numpy(float)
    # The suspicion is that of the planted rate; the answers say how many there are.
    scale = (weight * audit.wrong).sum() / max((weight * suspicion[:count]).sum(), 1e-9)
    expected = np.clip(scale * suspicion, 0.0, 1.0)
    if (weight * (audit.wrong - audit.wrong.mean()) * suspicion[:count]).sum() <= 0:
        # The suspicion says nothing, as of a detector that learnt the same mistakes: the answers alone do.
        expected = np.full(len(suspicion), float((weight * audit.wrong).sum() / weight.sum()))
    surprise = audit.wrong - expected[:count]
    total = float(expected.sum() + (weight * surprise).sum())
    # Candidates that are sure to be asked about add no error of sampling.
    spread = np.sqrt((weight * (weight - 1) * surprise**2).sum())
    share = float(np.clip(total / annotations, 0.0, len(candidates) / annotations))
    low, high = _interval(total / len(candidates), spread / len(candidates), count, count == len(candidates))
    factor = len(candidates) / annotations
    is_missing = (candidates["kind"] == MISSING).to_numpy()
    missing = expected[is_missing].sum() + (weight * surprise)[is_missing[:count]].sum()
    ends = (min(low * factor, share), max(high * factor, share))
    return replace(nothing, share=(share, *ends), missing=float(np.clip(missing / annotations, 0.0, share)))


def _interval(share: float, error: float, count: int, census: bool) -> tuple[float, float]:
    """Interval of a share of all candidates, as of a binomial one with as many draws as its error is
    worth.
    """
    if census:
        return share, share
    share = float(np.clip(share, 0.0, 1.0))
    binomial = share * (1 - share)
    worth = count if error <= 0 or binomial <= 0 else min(binomial / error**2, float(count) * 4)
    # As Korn and Graubard: fewer degrees of freedom, fewer draws.
    worth *= (student.ppf(0.5 + LEVEL / 2, 1e6) / student.ppf(0.5 + LEVEL / 2, max(count - 1, 1))) ** 2
    hits, tail = share * worth, (1 - LEVEL) / 2
    low = 0.0 if hits <= 0 else float(beta.ppf(tail, hits, worth - hits + 1))
    high = 1.0 if hits >= worth else float(beta.ppf(1 - tail, hits + 1, worth - hits))
    return low, high


def judged_rows(answers: Mapping[int, bool], order: Ints) -> Bools:
    """Answers about the first candidates of an order, up to the first without one."""
    given: list[bool] = []
    for place in order.tolist():
        if place not in answers:
            break
        given.append(answers[place])
    return np.array(given, bool)
