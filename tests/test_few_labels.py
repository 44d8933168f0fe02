"""A few labels and all images: intervals hold what all labels would say, and the detector's word helps or does no harm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.simulated import make_domain
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.few_labels import MIN_LABELLED, few_labels, more_units, regress, sampled
from diagnostics.sweep import f1_at, sweep


def part_of(domain: Domain, mask: np.ndarray) -> Domain:
    """The domain with labels on some images only."""
    images = domain.images.assign(labelled=mask)
    boxes = domain.annotations[domain.annotations["image"].isin(images["image"][mask])].reset_index(drop=True)
    return replace(domain, images=images, annotations=boxes)


def random_part(domain: Domain, count: int, seed: int) -> Domain:
    chosen = np.random.default_rng(seed).choice(len(domain.images), count, replace=False)
    return part_of(domain, np.isin(np.arange(len(domain.images)), chosen))


def test_intervals_hold_what_all_labels_say() -> None:
    covered, worth = {"AP50": [], "F1": []}, []
    for seed in range(60):
        whole = make_domain(clips=20, frames=10, seed=seed, hit_rate=0.6, false_rate=0.6, size_matters=True)
        truth = {"AP50": ap50(whole), "F1": f1_at(sweep(whole.table), 0.3)}
        found = few_labels(random_part(whole, 40, seed), 0.3)
        for measure in found.measures:
            if measure.name in truth:
                covered[measure.name].append(measure.low <= truth[measure.name] <= measure.high)
        worth.append(next(m.worth for m in found.measures if m.name == "AP50"))
    # 95 % of 60 is 57; fewer than 52 would happen in 1 of 100 such series.
    assert all(sum(true_positives) >= 52 for true_positives in covered.values()), {
        k: sum(v) for k, v in covered.items()
    }
    assert np.median(worth) > 1.5


def test_whole_clips_are_the_unit_where_they_were_labelled_whole() -> None:
    whole = make_domain(clips=20, frames=10, seed=1)
    first = part_of(whole, whole.images["group"].isin([f"c{k}" for k in range(8)]).to_numpy())
    assert sampled(first) == ("clip", True)
    found = few_labels(first, 0.3)
    assert (found.unit, found.units) == ("clip", 8)
    few = part_of(whole, whole.images["group"].isin(["c0", "c1", "c2"]).to_numpy())
    assert few_labels(few, 0.3).measures == ()
    assert "label a few images of every clip" in few_labels(few, 0.3).note


def test_images_are_the_unit_where_they_were_drawn_at_random() -> None:
    whole = make_domain(clips=20, frames=10, seed=1)
    assert sampled(random_part(whole, 30, 0))[0] == "image"
    beginnings = whole.images.groupby("group").cumcount() < 5
    some = beginnings & whole.images["group"].isin([f"c{k}" for k in range(6)])
    assert sampled(part_of(whole, some.to_numpy())) == ("clip", False)


def test_all_labels_or_none_say_nothing_here() -> None:
    whole = make_domain(clips=6, seed=1)
    assert few_labels(whole, 0.3) is None
    assert few_labels(part_of(whole, np.zeros(len(whole.images), bool)), 0.3) is None
    some = few_labels(random_part(whole, MIN_LABELLED - 1, 0), 0.3)
    assert some.measures == ()
    assert f"{MIN_LABELLED} are needed" in some.note


def test_a_predictor_that_knows_nothing_does_no_harm() -> None:
    rng = np.random.default_rng(0)
    slopes, residuals = regress(rng.normal(size=400), rng.normal(size=(400, 2)))
    assert np.abs(slopes).max() < 0.2
    assert residuals.std() == pytest.approx(1.0, abs=0.1)
    slopes, residuals = regress(np.arange(30.0), np.column_stack([np.arange(30.0), np.zeros(30)]))
    assert slopes == pytest.approx([1.0, 0.0])
    assert np.abs(residuals).max() < 1e-9


def test_how_many_more() -> None:
    # A standard error of 1 for one unit, so n units of endlessly many give 1 / sqrt(n): 5 points take 400.
    assert more_units(1.0, 100, 10**9) == 300
    assert more_units(1.0, 100, 500) == pytest.approx(400 * 500 / 900 - 100, abs=1)
    assert more_units(0.1, 100, 500) == 0


def test_few_or_no_objects_are_no_crash() -> None:
    whole = make_domain(clips=20, frames=10, seed=1)
    some = random_part(whole, 30, 0)
    none = few_labels(replace(some, annotations=some.annotations.head(0)), 0.3)
    assert none.measures == ()
    assert "0 labelled objects" in none.note
    # All objects in one image: without it there is no AP50, so nothing is said about how it scatters.
    first = some.images["image"][some.labelled].iloc[0]
    crowded = replace(some, annotations=some.annotations.assign(image=first))
    assert "AP50" not in {m.name for m in few_labels(crowded, 0.3).measures}


def test_a_detector_that_finds_nothing_is_not_known_well_enough() -> None:
    whole = make_domain(clips=20, frames=10, seed=1, hit_rate=0.0)
    found = few_labels(random_part(whole, 30, 0), 0.3)
    assert all(m.low < m.high for m in found.measures)


def test_clips_labelled_in_part_can_be_too_few() -> None:
    assert more_units(10.0, 5, 6, drawn_whole=False) is None
    assert more_units(0.1, 5, 600, drawn_whole=False) == 0
