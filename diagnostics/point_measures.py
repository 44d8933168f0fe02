"""Precision, recall and AP by points: from frames on which a person clicked every object.

A click takes a second and a box takes ten (Papadopoulos et al. 2017), and a few dozen frames, chosen to
inform most, do for the whole footage (active testing: Kossen et al. 2021). A detection is right where a
clicked object of its class lies inside its box; of several detections of one object, the most confident one.

The frames are a sample with known probabilities, so that the measures are unbiased whatever the detector
does (Särndal et al. 1992, Model Assisted Survey Sampling):

- Frames are drawn by successive sampling: each has a waiting time, exponential with its size as the rate, and
  the shortest come first. Every beginning of that order is a sample, so a person may stop at any frame. After
  n frames, a frame of size s is among them with probability 1 - exp(-s t), where t makes these sum to n
  (Rosén 1997).
- A model of what the person will say, fitted on the answers given, predicts every frame; the answers correct
  it, weighted by their probabilities (difference estimator). A useless model costs nothing but precision.

What it says holds for this footage. It says nothing about other footage like it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression, Ridge

from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.intervals import LEVEL
from diagnostics.label_free import FLOOR, SHOWN, angle
from diagnostics.matching import Bools, Floats, Ints

# With fewer answered frames the jackknife is too rough (as in `diagnostics.few_labels`), unless they are all
# there are; with fewer objects nothing can be said.
MIN_FRAMES, MIN_OBJECTS = 20, 5
# With fewer right or fewer wrong ones, chance alone spreads further than the jackknife sees.
RARE = 5
# Parts that the model is fitted without, in turn: as usual, and fast.
FOLDS = 5
# Units that are left out in turn for the in-domain interval; more are put together.
MOST_UNITS = 100


# A value with the ends of its interval.
Share = tuple[float, float, float]


@dataclass(frozen=True)
class Answer:
    """What a person said about one image.

    points: (n, 2), x and y of every object in pixels
    labels: (n,), the class of each by index
    judged: right or wrong, by the position of a detection among those of its image
    """

    points: Floats
    labels: Ints
    judged: Mapping[int, bool]


@dataclass(frozen=True)
class PointMeasures:
    """Precision, recall and AP by points of one domain, each with its 95 % interval.

    domain: its name
    frames: number of frames that it is measured on
    images: number of images that it stands for
    objects: objects clicked
    confidence: threshold of precision and recall
    precision, recall, ap: value, low, high; None where nothing can be said
    note: why not, else ""
    """

    domain: str
    frames: int
    images: int
    objects: int
    confidence: float
    precision: Share | None = None
    recall: Share | None = None
    ap: Share | None = None
    note: str = ""


def sampling_sizes(domain: Domain) -> Floats:
    """How much each image is expected to teach, (n,), with mean 1.

    It is the spread of its number of right detections if a confidence were a probability. Half of it is the
    same for all images, so that a detector which is sure and wrong is found out, and no answer weighs more
    than twice the average (defensive mixture: Hesterberg 1995).
    """
    detections = domain.detections[domain.detections["confidence"] >= FLOOR]
    confidence = detections["confidence"]
    variance = (confidence * (1 - confidence)).groupby(detections["image"]).sum()
    spread = np.sqrt(variance.reindex(domain.images["image"]).fillna(0.0).to_numpy(float))
    mean = spread.mean()
    return np.ones(len(spread)) if mean <= 0 else 0.5 + 0.5 * spread / mean


def draw_order(sizes: Floats, seed: int) -> Ints:
    """Positions of all images in the order in which they are asked for."""
    waiting = np.random.default_rng(seed).exponential(size=len(sizes)) / sizes
    return np.argsort(waiting, kind="stable")


def inclusion(sizes: Floats, count: int) -> Floats:
    """Probability of each image to be among the first count of `draw_order`, (n,)."""
    if count >= len(sizes):
        return np.ones(len(sizes))

    def excess(log_time: float) -> float:
        return float((1 - np.exp(-sizes * np.exp(log_time))).sum() - count)

    return np.asarray(1 - np.exp(-sizes * np.exp(brentq(excess, -30.0, 30.0))))


def match_points(boxes: Floats, confidence: Floats, labels: Ints, answer: Answer) -> tuple[Bools, int]:
    """Which detections of an image are right, (m,), and how many objects it has.

    boxes: (m, 4), x1, y1, x2, y2. A detection that was judged wrong takes no point; one that was judged right
    counts as an object where nobody clicked one.
    """
    right = np.zeros(len(boxes), bool)
    free = np.ones(len(answer.points), bool)
    objects = len(answer.points)
    for row in np.argsort(-confidence, kind="stable"):
        judged = answer.judged.get(int(row))
        if judged is False:
            continue
        x1, y1, x2, y2 = boxes[row]
        x, y = answer.points.T if len(answer.points) else np.zeros((2, 0))
        inside = free & (answer.labels == labels[row]) & (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
        if inside.any():
            # Of several objects inside, the one nearest to the middle, so that the others are left for
            # theirs.
            offset = np.hypot(
                (x - (x1 + x2) / 2) / max(x2 - x1, 1e-9), (y - (y1 + y2) / 2) / max(y2 - y1, 1e-9)
            )
            free[np.argmin(np.where(inside, offset, np.inf))] = False
            right[row] = True
        elif judged:
            right[row] = True
            objects += 1
    return right, objects


def answers_from_labels(domain: Domain) -> dict[str, Answer]:
    """What a person would click on the labelled images: the centres of the annotations, crowds left out."""
    annotations = domain.annotations[~domain.annotations["crowd"].astype(bool)]
    corners = annotations[CORNERS].to_numpy(float)
    centres = (corners[:, :2] + corners[:, 2:]) / 2
    rows = annotations.reset_index(drop=True).groupby("image").indices
    labels = annotations["label"].to_numpy(np.int64)
    nothing = np.zeros(0, np.int64)
    return {
        image: Answer(centres[rows.get(image, nothing)], labels[rows.get(image, nothing)], {})
        for image in domain.labelled_images["image"]
    }


def scored_classes(domain: Domain, answers: Mapping[str, Answer]) -> frozenset[int]:
    """Classes of clicked objects and of judged detections: of others nobody said whether they are there."""
    labels = {int(label) for answer in answers.values() for label in answer.labels}
    judged = {image: answer.judged for image, answer in answers.items() if answer.judged}
    for image, rows in domain.detections[domain.detections["image"].isin(judged)].groupby("image"):
        labels |= {int(rows["label"].iloc[row]) for row in judged[str(image)] if row < len(rows)}
    return frozenset(labels)


def measure_sample(
    domain: Domain,
    answers: Mapping[str, Answer],
    sizes: Floats,
    confidence: float,
    *,
    classes: frozenset[int],
) -> PointMeasures:
    """Measures of all images of a domain from the answers about some.

    Parameters
    ----------
    domain
        The domain; its labels are not used.
    answers
        Image -> answer, for the first images of `draw_order`.
    sizes
        `sampling_sizes` at the time of drawing, (n,).
    confidence
        Threshold of precision and recall.
    classes
        Classes that are scored, see `scored_classes`.

    Returns
    -------
    PointMeasures
        Without values, and with a note, where there are too few answers.
    """
    counted = _Counted.of(domain, answers, classes)
    objects = int(counted.objects[counted.answered].sum())
    frames = int(counted.answered.sum())
    nothing = PointMeasures(domain.name, frames, len(domain.images), objects, confidence)
    census = frames == len(domain.images)
    if (frames < MIN_FRAMES and not census) or objects < MIN_OBJECTS:
        short = (
            f"{frames} frames answered, {objects} objects; at least {MIN_FRAMES} and {MIN_OBJECTS} are needed"
        )
        return replace(nothing, note=short)
    drawn = inclusion(sizes, frames)
    expected = _expect(counted, drawn)
    estimate = _Estimate(counted, *expected, confidence, all_known=True)
    weights = np.where(counted.answered, 1 / drawn, 0.0)
    rows = np.flatnonzero(counted.answered)
    without = np.repeat(weights[None], frames, axis=0)
    without[np.arange(frames), rows] = 0.0
    values, left_out = estimate(weights[None])[0], estimate(without)
    # Frames that are sure to be asked for add no error of sampling.
    spread = _jackknife(left_out, 1 - drawn[rows])
    quantile = float(student.ppf((1 + LEVEL) / 2, frames - 1))
    precision, recall, ap = (
        _interval(value, quantile * error) for value, error in zip(values, spread, strict=True)
    )
    if not census:
        precision, recall, ap = _with_rare(precision, recall, ap, counted, objects, confidence)
    shown = bool((counted.confidence >= confidence).any())
    return replace(nothing, precision=precision if shown else None, recall=recall, ap=ap)


# Six parameters: three intervals and what they are of.
def _with_rare(
    precision: Share, recall: Share, ap: Share, counted: _Counted, objects: int, confidence: float
) -> tuple[Share, Share, Share]:
    """The intervals, wider where only a few answers are right or wrong: there the exact binomial one holds,
    as of independent draws (Clopper and Pearson 1934). AP is at most the recall down to the floor, and about
    recall times precision where nearly all is right.
    """
    answered = counted.answered[counted.image]
    shown = answered & (counted.confidence >= confidence)
    right, right_shown = int(counted.right[answered].sum()), int(counted.right[shown].sum())
    of_objects = _binomial(min(right, objects), objects)
    of_shown = _binomial(right_shown, int(shown.sum()))
    of_objects_shown = _binomial(min(right_shown, objects), objects)
    if min(right_shown, int(shown.sum()) - right_shown) < RARE:
        precision = (precision[0], min(precision[1], of_shown[0]), max(precision[2], of_shown[1]))
    if min(right_shown, objects - right_shown) < RARE:
        recall = (recall[0], min(recall[1], of_objects_shown[0]), max(recall[2], of_objects_shown[1]))
    if right == 0:
        ap = (0.0, 0.0, of_objects[1])
    elif right < RARE:
        ap = (ap[0], ap[1], max(ap[2], of_objects[1]))
    elif objects - right < RARE:
        ap = (ap[0], min(ap[1], of_objects[0] * of_shown[0]), ap[2])
    return precision, recall, ap


def _binomial(count: int, total: int) -> tuple[float, float]:
    """Exact interval of a share; 0 to 1 of nothing."""
    if total == 0:
        return 0.0, 1.0
    tail = (1 - LEVEL) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf(1 - tail, count + 1, total - count))
    return low, high


def measure_labelled(domain: Domain, confidence: float, *, classes: frozenset[int]) -> PointMeasures:
    """The same measures of the labelled images of a domain, from the centres of their annotations; the
    interval is by clip, for clips like these.
    """
    answers = answers_from_labels(domain)
    labelled = domain.subset(domain.labelled_images["image"])
    counted = _Counted.of(labelled, answers, classes)
    objects = int(counted.objects.sum())
    nothing = PointMeasures(domain.name, len(labelled.images), len(labelled.images), objects, confidence)
    units = _few_units(domain.interval_units)
    count = int(units.max()) + 1 if len(units) else 0
    if objects < MIN_OBJECTS or count < 2:
        return replace(nothing, note=f"{objects} annotations, {count} clips: too few")
    estimate = _Estimate(
        counted, np.zeros(len(counted.confidence)), np.zeros(len(units)), confidence, all_known=False
    )
    values = estimate(np.ones((1, len(units))))[0]
    left_out = estimate((units[None] != np.arange(count)[:, None]).astype(float))
    quantile = float(student.ppf((1 + LEVEL) / 2, count - 1))
    precision, recall, ap = (
        _interval(value, quantile * error)
        for value, error in zip(values, _jackknife(left_out, np.ones(count)), strict=True)
    )
    return replace(nothing, precision=precision, recall=recall, ap=ap)


@dataclass(frozen=True)
class _Counted:
    """Answers as arrays. Detections below FLOOR and of other classes are left out; the rest is sorted by
    falling confidence.

    answered: (n,), whether an image was answered
    objects: (n,), objects in it, 0 where not answered
    image: (m,), the image of each detection
    confidence: (m,)
    right: (m,), whether it is right, False where not answered
    """

    answered: Bools
    objects: Ints
    image: Ints
    confidence: Floats
    right: Bools

    @staticmethod
    def of(domain: Domain, answers: Mapping[str, Answer], classes: frozenset[int]) -> _Counted:
        """The answers about a domain; those about other images are left out."""
        names = domain.images["image"]
        number = {str(name): place for place, name in enumerate(names)}
        image = domain.detections["image"].map(number).to_numpy(np.int64)
        label = domain.detections["label"].to_numpy(np.int64)
        confidence = domain.detections["confidence"].to_numpy(float)
        boxes = domain.detections[CORNERS].to_numpy(float)
        answered, objects = np.zeros(len(names), bool), np.zeros(len(names), np.int64)
        right = np.zeros(len(image), bool)
        rows_of = domain.detections.reset_index(drop=True).groupby("image").indices
        for name, answer in answers.items():
            if name not in number:
                continue
            rows = rows_of.get(name, np.zeros(0, np.int64))
            place = number[name]
            answered[place] = True
            counted = np.isin(answer.labels, list(classes))
            answer = replace(answer, points=answer.points[counted], labels=answer.labels[counted])
            right[rows], objects[place] = match_points(boxes[rows], confidence[rows], label[rows], answer)
        kept = np.flatnonzero((confidence >= FLOOR) & np.isin(label, list(classes)))
        kept = kept[np.argsort(-confidence[kept], kind="stable")]
        return _Counted(answered, objects, image[kept], confidence[kept], right[kept])


def _expect(counted: _Counted, drawn: Floats) -> tuple[Floats, Floats]:
    """What the answers let expect: the probability of each detection to be right, (m,), and the objects in
    each image, (n,).

    What is expected of an answered image is learnt from the other ones, or the correction would be too small.
    """
    answered = np.flatnonzero(counted.answered)
    fold = np.full(len(counted.answered), -1)
    # By place in the order of the images: neighbours of a video in one fold.
    fold[answered] = np.arange(len(answered)) * FOLDS // len(answered)
    probability, objects = np.zeros(len(counted.image)), np.zeros(len(fold))
    weight = 1 / drawn
    for part in (-1, *range(FOLDS)):
        in_other_parts = counted.answered & (fold != part)
        known = in_other_parts[counted.image]
        learn = _fit_right(counted.confidence[known], counted.right[known], weight[counted.image[known]])
        of_all = learn(counted.confidence)
        in_part = fold[counted.image] == part
        probability[in_part] = of_all[in_part]
        expected = np.bincount(counted.image, of_all, len(fold))
        shown = np.bincount(counted.image, counted.confidence >= SHOWN, len(fold))
        features = np.column_stack([expected, shown])
        model = Ridge(1.0).fit(
            features[in_other_parts], counted.objects[in_other_parts], weight[in_other_parts]
        )
        objects[fold == part] = np.maximum(model.predict(features), 0.0)[fold == part]
    return probability, objects


def _fit_right(confidence: Floats, right: Bools, weight: Floats) -> Callable[[Floats], Floats]:
    """The probability of a detection to be right, as a logistic function of the logit of its confidence."""
    if right.all() or not right.any():
        share = (right.sum() + 0.5) / (len(right) + 1)
        return lambda values: np.full(len(values), share)
    model = LogisticRegression().fit(_logit(confidence), right, weight / weight.mean())
    return lambda values: np.asarray(model.predict_proba(_logit(values))[:, 1])


def _logit(share: Floats) -> Floats:
    """Log odds as a column, (n, 1)."""
    inside = np.clip(share, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(inside / (1 - inside))[:, None])


@dataclass(frozen=True)
class _Estimate:
    """Precision, recall and AP as a function of the weights of images.

    probability, objects: what is expected, see `_expect`
    all_known: whether the detections of images without weight count too: they are part of the footage, but
        not of clips that might have been others
    """

    counted: _Counted
    probability: Floats
    objects: Floats
    confidence: float
    all_known: bool

    def __call__(self, weights: Floats) -> Floats:
        """The measures, (k, 3), for weights of the images, (k, n), 0 for images without an answer."""
        counted = self.counted
        scaled = weights / weights.sum(1, keepdims=True) * len(self.objects)
        surprise = counted.right - self.probability
        increments = self.probability + scaled[:, counted.image] * surprise
        total = self.objects.sum() + scaled @ ((counted.objects - self.objects) * counted.answered)
        detections = len(counted.confidence)
        total = np.maximum(total, 1e-9)
        if not detections:
            return np.zeros((len(weights), 3))
        number = np.broadcast_to(np.arange(1.0, detections + 1), increments.shape)
        if not self.all_known:
            number = np.cumsum(scaled[:, counted.image], axis=1)
        # An estimate may fall from one detection to the next; the number of right ones cannot.
        right = np.maximum.accumulate(np.maximum(np.cumsum(increments, axis=1), 0.0), axis=1)
        right = np.minimum(right, np.minimum(number, total[:, None]))
        recall = right / total[:, None]
        precision = right / np.maximum(number, 1e-9)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        ap = (envelope * np.diff(recall, axis=1, prepend=0.0)).sum(1)
        shown = int((counted.confidence >= self.confidence).sum())
        if not shown:
            return np.column_stack([np.zeros(len(weights)), np.zeros(len(weights)), ap])
        return np.column_stack([precision[:, shown - 1], recall[:, shown - 1], ap])


def _jackknife(left_out: Floats, factor: Floats) -> Floats:
    """Standard error of each measure, as an angle, from its values without each unit, (k, 3).

    factor: share of the variance that each unit's sampling leaves, (k,)
    """
    angles = angle(left_out)
    count = len(angles)
    return np.asarray(
        np.sqrt((count - 1) / count * (factor[:, None] * (angles - angles.mean(0)) ** 2).sum(0))
    )


def _interval(value: float, half: float) -> Share:
    """A share with the ends of its interval, given as an angle."""
    middle = float(angle(value))
    low, high = np.sin(np.clip([middle - half, middle + half], 0.0, np.pi / 2)) ** 2
    return float(value), float(low), float(high)


def _few_units(units: Ints) -> Ints:
    """Units numbered from 0, neighbours put together where there are more than MOST_UNITS."""
    numbers = np.unique(units, return_inverse=True)[1]
    count = int(numbers.max()) + 1 if len(numbers) else 0
    return np.asarray(numbers if count <= MOST_UNITS else numbers * MOST_UNITS // count, np.int64)


@dataclass(frozen=True)
class DomainReview:
    """What a person said about some images of a domain.

    answers: by image
    sizes: `sampling_sizes` at the time of drawing, (n,)
    """

    answers: Mapping[str, Answer]
    sizes: Floats


@dataclass(frozen=True)
class Reviewed:
    """A reviewed domain beside the in-domain set, on the classes that were clicked.

    in_domain, real_world: the measures
    drop: of AP by points, with its 95 % interval; None where one of them is missing
    """

    in_domain: PointMeasures
    real_world: PointMeasures
    drop: Share | None


def measure_review(in_domain: Domain, domain: Domain, review: DomainReview, confidence: float) -> Reviewed:
    """Measure a reviewed domain and the in-domain set by points; confidence: see `measure_sample`."""
    classes = scored_classes(domain, review.answers)
    held_out = measure_labelled(in_domain, confidence, classes=classes)
    sample = measure_sample(domain, review.answers, review.sizes, confidence, classes=classes)
    return Reviewed(held_out, sample, drop_by_points(held_out, sample))


def drop_by_points(in_domain: PointMeasures, real_world: PointMeasures) -> Share | None:
    """Drop of AP by points, with its 95 % interval; None where one of them is missing.

    The ends lie as far from the drop as both errors together (Newcombe 1998).
    """
    if in_domain.ap is None or real_world.ap is None:
        return None
    (a, a_low, a_high), (b, b_low, b_high) = in_domain.ap, real_world.ap
    return (
        a - b,
        a - b - float(np.hypot(a - a_low, b_high - b)),
        a - b + float(np.hypot(a_high - a, b - b_low)),
    )
