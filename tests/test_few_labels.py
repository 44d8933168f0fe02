"""Estimates from a few labels: intervals cover the value from all labels; detections help or do no harm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.simulated import make_domain
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.few_labels import MIN_LABELLED, estimate_from_few_labels, more_units, regress, sampling_unit
from diagnostics.sweep import f1_at, sweep


def labelled_part(domain: Domain, mask: np.ndarray) -> Domain:
    """The domain with labels on some images only."""
    images = domain.images.assign(labelled=mask)
    labelled = domain.annotations["image"].isin(images["image"][mask])
    return replace(domain, images=images, annotations=domain.annotations[labelled].reset_index(drop=True))


def randomly_labelled(domain: Domain, count: int, seed: int) -> Domain:
    """The domain with labels on randomly chosen images."""
    chosen = np.random.default_rng(seed).choice(len(domain.images), count, replace=False)
    return labelled_part(domain, np.isin(np.arange(len(domain.images)), chosen))


@pytest.mark.slow
def test_intervals_cover_the_value_from_all_labels() -> None:
    covered, worth = {"AP50": [], "F1": []}, []
    for seed in range(60):
        domain = make_domain(
            clips=20, frames=10, seed=seed, recall=0.6, false_positive_rate=0.6, size_matters=True
        )
        truth = {"AP50": ap50(domain), "F1": f1_at(sweep(domain.table), 0.3)}
        estimate = estimate_from_few_labels(randomly_labelled(domain, 40, seed), 0.3)
        for measure in estimate.measures:
            if measure.name in truth:
                covered[measure.name].append(measure.low <= truth[measure.name] <= measure.high)
        worth.append(next(m.worth for m in estimate.measures if m.name == "AP50"))
    # 95 % of 60 is 57; fewer than 52 would happen in 1 of 100 such series.
    assert all(sum(of_measure) >= 52 for of_measure in covered.values()), {
        k: sum(v) for k, v in covered.items()
    }
    assert np.median(worth) > 1.5


def test_clips_are_the_unit_if_they_are_labelled_completely() -> None:
    domain = make_domain(clips=20, frames=10, seed=1)
    first = labelled_part(domain, domain.images["group"].isin([f"c{k}" for k in range(8)]).to_numpy())
    assert sampling_unit(first) == ("clip", True)
    estimate = estimate_from_few_labels(first, 0.3)
    assert (estimate.unit, estimate.units) == ("clip", 8)
    few = labelled_part(domain, domain.images["group"].isin(["c0", "c1", "c2"]).to_numpy())
    assert estimate_from_few_labels(few, 0.3).measures == ()
    assert "label a few images of every clip" in estimate_from_few_labels(few, 0.3).note


def test_images_are_the_unit_if_they_are_sampled_at_random() -> None:
    domain = make_domain(clips=20, frames=10, seed=1)
    assert sampling_unit(randomly_labelled(domain, 30, 0))[0] == "image"
    beginnings = domain.images.groupby("group").cumcount() < 5
    some = beginnings & domain.images["group"].isin([f"c{k}" for k in range(6)])
    assert sampling_unit(labelled_part(domain, some.to_numpy())) == ("clip", False)


def test_all_labels_or_too_few_give_no_estimate() -> None:
    domain = make_domain(clips=6, seed=1)
    assert estimate_from_few_labels(domain, 0.3) is None
    assert estimate_from_few_labels(labelled_part(domain, np.zeros(len(domain.images), bool)), 0.3) is None
    some = estimate_from_few_labels(randomly_labelled(domain, MIN_LABELLED - 1, 0), 0.3)
    assert some.measures == ()
    assert f"{MIN_LABELLED} are needed" in some.note


def test_an_uninformative_predictor_does_no_harm() -> None:
    rng = np.random.default_rng(0)
    slopes, residuals = regress(rng.normal(size=400), rng.normal(size=(400, 2)))
    assert np.abs(slopes).max() < 0.2
    assert residuals.std() == pytest.approx(1.0, abs=0.1)
    slopes, residuals = regress(np.arange(30.0), np.column_stack([np.arange(30.0), np.zeros(30)]))
    assert slopes == pytest.approx([1.0, 0.0])
    assert np.abs(residuals).max() < 1e-9


def test_the_number_of_further_labels_follows_from_the_spread() -> None:
    # A half-width of 1 from one unit is 1 / sqrt(n) from n of an infinite number: 5 points take 400 units.
    assert more_units(1.0, 100, 10**9) == 300
    assert more_units(1.0, 100, 500) == pytest.approx(400 * 500 / 900 - 100, abs=1)
    assert more_units(0.1, 100, 500) == 0


def test_no_annotations_or_all_in_one_image_give_no_ap50() -> None:
    domain = make_domain(clips=20, frames=10, seed=1)
    some = randomly_labelled(domain, 30, 0)
    none = estimate_from_few_labels(replace(some, annotations=some.annotations.head(0)), 0.3)
    assert none.measures == ()
    assert "0 annotations" in none.note
    # All annotations are in one image: without it there is no AP50, so its spread cannot be estimated.
    first = some.images["image"][some.labelled].iloc[0]
    crowded = replace(some, annotations=some.annotations.assign(image=first))
    assert "AP50" not in {m.name for m in estimate_from_few_labels(crowded, 0.3).measures}


def test_a_detector_without_true_positives_has_an_interval() -> None:
    domain = make_domain(clips=20, frames=10, seed=1, recall=0.0)
    estimate = estimate_from_few_labels(randomly_labelled(domain, 30, 0), 0.3)
    assert all(m.low < m.high for m in estimate.measures)


def test_all_clips_labelled_in_part_can_be_too_few() -> None:
    assert more_units(10.0, 5, 6, finite=False) is None
    assert more_units(0.1, 5, 600, finite=False) == 0


def test_images_whose_labels_cannot_be_used_are_no_random_sample() -> None:
    """Labels of classes that the detector lacks: somebody labelled these images, so nothing was drawn."""
    domain = make_domain(clips=20, frames=10, seed=1)
    mask = np.arange(len(domain.images)) % 3 > 0
    part = labelled_part(domain, mask)
    assert estimate_from_few_labels(part, 0.3) is not None
    unusable = replace(part, images=part.images.assign(unusable=~mask))
    assert estimate_from_few_labels(unusable, 0.3) is None
