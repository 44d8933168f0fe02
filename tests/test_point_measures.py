"""Measures by points: matching, the drawing of frames, unbiasedness and coverage of the intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.simulated import make_domain
from diagnostics.domain import Domain
from diagnostics.point_measures import (
    Answer,
    DomainReview,
    PointMeasures,
    answers_from_labels,
    draw_order,
    drop_by_points,
    inclusion,
    match_points,
    measure_labelled,
    measure_review,
    measure_sample,
    sampling_sizes,
    scored_classes,
)

ONE = frozenset({0})


def footage(**settings: object) -> Domain:
    return make_domain("flight", **{"role": "real_world", "clips": 20, "frames": 10, "seed": 7, **settings})


def answered(domain: Domain, count: int, seed: int) -> DomainReview:
    """What a person who sees everything says about the first images of the order."""
    sizes = sampling_sizes(domain)
    images = domain.images["image"].iloc[draw_order(sizes, seed)[:count]]
    told = answers_from_labels(domain)
    return DomainReview({image: told[image] for image in images}, sizes)


def boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, float).reshape(-1, 4)


def test_a_point_counts_once_for_the_most_confident_detection_of_its_class() -> None:
    two = boxes((0, 0, 10, 10), (1, 1, 11, 11), (0, 0, 10, 10))
    answer = Answer(np.array([[5.0, 5.0]]), np.array([0]), {})
    right, objects = match_points(two, np.array([0.4, 0.9, 0.95]), np.array([0, 0, 1]), answer)
    assert right.tolist() == [False, True, False]
    assert objects == 1


def test_a_large_box_takes_the_object_in_its_middle_and_leaves_the_others() -> None:
    crowd = boxes((0, 0, 100, 100), (5, 5, 25, 25))
    answer = Answer(np.array([[15.0, 15.0], [50.0, 50.0]]), np.array([0, 0]), {})
    right, _ = match_points(crowd, np.array([0.9, 0.8]), np.array([0, 0]), answer)
    assert right.all()


def test_what_was_said_of_a_detection_overrides_the_points() -> None:
    one = boxes((0, 0, 10, 10), (50, 50, 60, 60))
    point = Answer(np.array([[5.0, 5.0]]), np.array([0]), {0: False, 1: True})
    right, objects = match_points(one, np.array([0.9, 0.8]), np.array([0, 0]), point)
    assert right.tolist() == [False, True]
    assert objects == 2  # the clicked one, and the one that only the judgement shows


def test_every_beginning_of_the_order_has_the_probabilities_that_are_claimed() -> None:
    sizes = np.array([0.5, 1.0, 1.0, 1.5, 2.0, 0.75, 1.25, 1.0])
    drawn = np.zeros(len(sizes))
    for seed in range(4000):
        drawn[draw_order(sizes, seed)[:3]] += 1 / 4000
    claimed = inclusion(sizes, 3)
    assert claimed.sum() == pytest.approx(3)
    # Four standard errors of a share, and the error of Rosén's approximation with only eight images.
    assert np.abs(drawn - claimed).max() < 0.03 + 0.02
    assert (inclusion(sizes, 8) == 1).all()


def test_no_answer_weighs_more_than_twice_the_average() -> None:
    sizes = sampling_sizes(footage(recall=0.3))
    for count in (20, 60, 150):
        weights = 1 / inclusion(sizes, count)
        assert weights.max() < 2.1 * len(sizes) / count


def test_all_frames_answered_is_the_value_itself() -> None:
    domain = footage(recall=0.5)
    review = answered(domain, len(domain.images), 0)
    measured = measure_sample(domain, review.answers, review.sizes, 0.3, classes=ONE)
    by_labels = measure_labelled(domain, 0.3, classes=ONE)
    assert measured.ap[0] == pytest.approx(by_labels.ap[0], abs=1e-9)
    assert measured.ap[1] == pytest.approx(measured.ap[2])
    assert measured.recall[0] == pytest.approx(by_labels.recall[0], abs=1e-9)


@pytest.mark.parametrize(
    "recall", [0.2, pytest.param(0.6, marks=pytest.mark.slow), pytest.param(0.9, marks=pytest.mark.slow)]
)
def test_sixty_frames_are_unbiased_and_their_intervals_hold(recall: float) -> None:
    domain = footage(recall=recall, false_positive_rate=0.6)
    truth = measure_labelled(domain, 0.3, classes=ONE)
    values, covered = [], []
    for seed in range(40):
        review = answered(domain, 60, seed)
        measured = measure_sample(domain, review.answers, review.sizes, 0.3, classes=ONE)
        values.append(measured.ap[0])
        covered.append(measured.ap[1] <= truth.ap[0] <= measured.ap[2])
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - truth.ap[0]) < 3 * error + 0.005
    # 95 % of 40 is 38; fewer than 34 would happen in 1 of 100 such series.
    assert sum(covered) >= 34


@pytest.mark.parametrize(("recall", "count"), [(1.0, 20), (0.03, 30)])
def test_intervals_hold_where_nearly_all_is_right_or_nearly_nothing(recall: float, count: int) -> None:
    domain = footage(recall=recall, false_positive_rate=0.1)
    truth = measure_labelled(domain, 0.3, classes=ONE)
    held = []
    for seed in range(30):
        review = answered(domain, count, seed)
        measured = measure_sample(domain, review.answers, review.sizes, 0.3, classes=ONE)
        for name in ("ap", "precision", "recall"):
            value = getattr(measured, name)
            held.append(value is None or value[1] <= getattr(truth, name)[0] <= value[2])
    # 95 % of 90; fewer than 80 would happen in 1 of 100 such series.
    assert sum(held) >= 80


def test_annotations_of_classes_that_nobody_clicked_do_not_count() -> None:
    """A perfect detector of two classes, of which one was clicked in the footage."""
    held_out = make_domain(
        "in_domain", clips=12, seed=1, recall=1.0, false_positive_rate=0.0, classes=("a", "b")
    )
    labels = np.arange(len(held_out.annotations)) % 2
    named = labels[held_out.outcomes.sort_values("row")["partner"].to_numpy()]
    both = replace(
        held_out,
        annotations=held_out.annotations.assign(label=labels),
        detections=held_out.detections.assign(label=named),
    )
    measured = measure_labelled(both, 0.0, classes=ONE)
    assert measured.objects == (labels == 0).sum()
    # Two objects that overlap may have swapped their detections when those were named.
    assert min(measured.recall[0], measured.precision[0]) > 0.97
    # Every clip is as good as perfect, with or without another.
    assert measured.precision[1] > 0.9


def test_precision_of_no_detections_is_unknown() -> None:
    domain = footage(recall=0.5)
    bare = replace(
        domain, detections=domain.detections.head(0), detection_embeddings=domain.detection_embeddings[:0]
    )
    review = answered(domain, 60, 0)
    measured = measure_sample(bare, review.answers, np.ones(len(bare.images)), 0.3, classes=ONE)
    assert measured.precision is None
    assert measured.recall[0] == 0
    assert 0 < measured.recall[2] < 0.2


def test_a_detector_that_is_sure_and_wrong_is_found_out() -> None:
    """The model of the answers comes from the answers, not from what confidence means in-domain."""
    domain = footage(recall=0.1, false_positive_rate=3.0)
    sure = domain.detections.assign(confidence=0.9 + domain.detections["confidence"] / 20)
    domain = replace(domain, detections=sure)
    truth = measure_labelled(domain, 0.3, classes=ONE)
    review = answered(domain, 60, 1)
    measured = measure_sample(domain, review.answers, review.sizes, 0.3, classes=ONE)
    assert truth.ap[0] < 0.1
    assert measured.ap[1] <= truth.ap[0] <= measured.ap[2] < 0.2


def test_nothing_right_has_an_upper_end() -> None:
    domain = footage(recall=0.5)
    far = domain.detections.assign(x1=9000.0, x2=9010.0)
    domain = replace(domain, detections=far)
    review = answered(domain, 30, 2)
    measured = measure_sample(domain, review.answers, review.sizes, 0.3, classes=ONE)
    objects = measured.objects
    assert measured.ap[0] == 0
    # The exact binomial end: with this share, nothing right in so many happens once in forty times.
    assert (1 - measured.ap[2]) ** objects == pytest.approx(0.025)


def test_too_few_answers_say_so() -> None:
    domain = footage()
    review = answered(domain, 9, 3)
    measured = measure_sample(domain, review.answers, review.sizes, 0.3, classes=ONE)
    assert measured.ap is None
    assert "9 frames answered" in measured.note


def test_only_classes_that_somebody_spoke_of_are_scored() -> None:
    domain = footage(classes=("pothole", "crack"))
    labels = np.arange(len(domain.detections)) % 2
    domain = replace(domain, detections=domain.detections.assign(label=labels))
    review = answered(domain, 60, 4)
    assert scored_classes(domain, review.answers) == ONE
    image = domain.detections.groupby("image").size().idxmax()
    rows = domain.detections[domain.detections["image"] == image]["label"].to_numpy()
    judged = Answer(np.zeros((0, 2)), np.zeros(0, np.int64), {int(np.argmax(rows == 1)): False})
    assert scored_classes(domain, {**review.answers, image: judged}) == frozenset({0, 1})


def test_the_drop_is_beside_the_same_measure_in_domain() -> None:
    held_out = make_domain("in_domain", clips=12, seed=1, recall=0.9)
    reviewed = measure_review(held_out, footage(recall=0.2), answered(footage(recall=0.2), 60, 5), 0.3)
    assert reviewed.in_domain.ap[0] > 0.75
    low, high = reviewed.drop[1:]
    truth = reviewed.in_domain.ap[0] - measure_labelled(footage(recall=0.2), 0.3, classes=ONE).ap[0]
    assert 0.4 < low <= truth <= high


def test_the_interval_of_a_drop_has_both_errors() -> None:
    def of(*ap: float) -> PointMeasures:
        return PointMeasures("x", 60, 200, 100, 0.3, ap=ap)

    assert drop_by_points(of(0.8, 0.77, 0.84), of(0.3, 0.26, 0.33)) == pytest.approx(
        (0.5, 0.5 - np.hypot(0.03, 0.03), 0.5 + np.hypot(0.04, 0.04))
    )
    assert drop_by_points(of(0.8, 0.7, 0.9), PointMeasures("x", 3, 200, 1, 0.3, note="few")) is None
