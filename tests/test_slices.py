"""Slices and their differences, own attributes, and the search for weak slices, on worlds of known truth."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import false_discovery_control

from benchmarks.simulated import make_domain
from datasets.attributes import join, read_attributes
from datasets.errors import InputError
from datasets.tables import OWN
from diagnostics import discovery, slices
from diagnostics.comparison import compare
from diagnostics.domain import Domain
from diagnostics.matching import Detections
from diagnostics.precision import accumulate, mean
from diagnostics.risk import control
from diagnostics.significance import benjamini_hochberg
from tests.slice_worlds import PLANTED, planted_world


def own_attributes(weak_slices: pd.DataFrame) -> list[set[tuple[str, str]]]:
    """The own attributes of each confirmed weak slice."""
    confirmed = weak_slices[weak_slices["confirmed"].astype(bool)] if len(weak_slices) else weak_slices
    return [
        {pair for pair in zip(row["attributes"], row["slice"], strict=True) if pair[0].startswith(OWN)}
        for row in confirmed.to_dict("records")
    ]


def search(seed: int, *, planted: bool) -> list[set[tuple[str, str]]]:
    domain, _ = planted_world(seed, planted=planted)
    return own_attributes(discovery.find_weak_slices(domain, slices.edges([domain]), 0.05, seed=seed))


@pytest.mark.slow
def test_no_weak_slice_is_confirmed_where_none_was_planted() -> None:
    worlds = [any(search(seed, planted=False)) for seed in range(200, 220)]
    # None is expected in 90 % of such worlds. Five or more of 20 has a probability of 1 in 23.
    assert sum(worlds) <= 4


@pytest.mark.slow
def test_a_planted_combination_is_confirmed_and_little_else() -> None:
    results = [search(seed, planted=True) for seed in range(200, 216)]
    exact = sum(PLANTED in weak_slices for weak_slices in results)
    named = [part for weak_slices in results for part in weak_slices if part]
    wrong = sum(not part <= PLANTED for part in named)
    assert exact >= 8
    assert wrong <= 0.15 * len(named)


def test_harm_of_one_attribute_is_not_attributed_to_a_pair() -> None:
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(30), 40)
    harmful, idle = rng.random(1200) < 0.5, rng.random(1200) < 0.5
    wrong = rng.random(1200) < np.where(harmful, 0.6, 0.2)
    assert discovery.confirm([harmful], wrong, owner)["p"] < 1e-6
    assert discovery.confirm([harmful, idle], wrong, owner)["p"] > 0.01


def test_a_pair_needs_both_comparisons_to_be_confirmed() -> None:
    """The second attribute lies within the first: no image has the second without the first."""
    rng = np.random.default_rng(1)
    owner = np.repeat(np.arange(30), 40)
    outer = rng.random(1200) < 0.6
    inner = outer & (rng.random(1200) < 0.5)
    wrong = rng.random(1200) < np.where(inner, 0.7, 0.2)
    for parts in ([outer, inner], [inner, outer]):
        assert np.isnan(discovery.confirm(parts, wrong, owner)["p"])


def test_density_slices_have_no_p_value() -> None:
    table = slices.score(make_domain(clips=30, frames=8, seed=2, false_positive_rate=0.9), {}, seed=0)
    assert table.loc[table["attribute"] == "density", ["p", "q"]].isna().all(axis=None)


def test_an_attribute_of_the_real_world_alone_is_cut_into_thirds() -> None:
    in_domain, real_world = make_domain(clips=4), make_domain("real_world", clips=4, seed=1)
    heights = np.linspace(5, 90, len(real_world.images))
    real_world = replace(real_world, images=real_world.images.assign(**{OWN + "altitude": heights}))
    cuts = slices.edges([in_domain, real_world])
    names = [name for attribute, name, _ in slices.masks(real_world, cuts) if attribute == OWN + "altitude"]
    assert names == ["up to 33.3", "33.3 to 61.7", "above 61.7"]
    lanes = np.where(np.arange(len(in_domain.images)) % 5 == 0, np.nan, 2.0)
    partly = replace(in_domain, images=in_domain.images.assign(**{OWN + "lane": lanes}))
    assert {n for a, n, _ in slices.masks(partly, slices.edges([partly])) if a == OWN + "lane"} == {"2"}


def test_risk_control_of_many_single_images_stays_small() -> None:
    domain = make_domain(clips=300, frames=1, seed=3)
    tracemalloc.start()
    control(domain.table, np.arange(300))
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()


def test_too_few_clips_are_not_searched() -> None:
    domain = make_domain(clips=9, frames=20)
    assert discovery.find_weak_slices(domain, slices.edges([domain]), 0.25, seed=0).empty


@pytest.mark.slow
def test_slices_without_a_difference_are_seldom_significant() -> None:
    false, planted = 0, 0
    for seed in range(12):
        domain = make_domain(clips=20, frames=10, seed=seed, recall=0.7)
        rng = np.random.default_rng(seed)
        coin = rng.choice(["heads", "tails", "edge"], len(domain.images))
        worse = rng.choice(["open", "tunnel"], len(domain.images), p=[0.75, 0.25])
        dark = set(domain.images["image"][worse == "tunnel"])
        keep = ~(
            domain.detections["image"].isin(dark).to_numpy() & (rng.random(len(domain.detections)) < 0.6)
        )
        domain = replace(
            domain,
            images=domain.images.assign(**{OWN + "coin": coin, OWN + "light": worse}),
            detections=domain.detections[keep].reset_index(drop=True),
            detection_embeddings=domain.detection_embeddings[keep],
        )
        table = slices.score(domain, slices.edges([domain]), seed=seed)
        significant = table["q"] <= 0.1
        false += bool((significant & (table["attribute"] == OWN + "coin")).any())
        tunnel = table[table["slice"] == "tunnel"].iloc[0]
        planted += bool(tunnel["q"] <= 0.1 and tunnel["difference"] < 0)
        assert tunnel["recoverable"] == table["recoverable"].loc[table["attribute"] == OWN + "light"].max()
    assert false <= 2
    assert planted >= 11


def test_slice_numbers_equal_scoring_the_slice_alone() -> None:
    domain = make_domain(clips=12, frames=10, seed=3)
    cuts = slices.edges([domain])
    table = slices.score(domain, cuts, seed=0)
    for attribute, name, mask in slices.masks(domain, cuts):
        row = table[(table["attribute"] == attribute) & (table["slice"] == name)].iloc[0]
        alone = domain.subset(domain.labelled_images["image"][mask])
        if row["boxes"] >= 30:
            assert row["ap50"] == pytest.approx(mean(accumulate(alone.table)[0][:, 0]), abs=1e-12)
        else:
            assert np.isnan(row["ap50"])


def test_benjamini_hochberg_equals_scipy() -> None:
    p = np.random.default_rng(0).random(40) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p), atol=1e-12)
    with_gap = np.insert(p, 3, np.nan)
    q = benjamini_hochberg(with_gap)
    assert np.isnan(q[3])
    np.testing.assert_allclose(np.delete(q, 3), false_discovery_control(p), atol=1e-12)


def two_detectors(seed: int, *, better: float) -> tuple[Domain, Detections, Detections]:
    """A domain, a detector, and another of the same kind with a recall higher by `better`."""
    domain = make_domain(clips=20, frames=6, seed=seed, recall=0.7)
    rng = np.random.default_rng(seed + 500)
    annotations = domain.annotation_arrays

    def detector(rate: float) -> Detections:
        detected = rng.random(len(annotations.image)) < rate
        return Detections(
            annotations.image[detected],
            annotations.label[detected],
            annotations.xywh[detected] + rng.normal(0, 1, (detected.sum(), 4)),
            rng.beta(5, 2, detected.sum()),
        )

    return domain, detector(0.7), detector(0.7 + better)


@pytest.mark.slow
def test_equal_detectors_seldom_differ_significantly_and_a_better_one_does() -> None:
    false, true, covered = 0, 0, 0
    for seed in range(60):
        domain, alike, same = two_detectors(seed, better=0.0)
        result = compare(
            domain.annotation_arrays,
            alike,
            same,
            domain.group_numbers,
            n_classes=1,
            seed=seed,
            replicates=300,
        )
        false += result.p <= 0.05
        covered += result.interval.low <= 0 <= result.interval.high
    for seed in range(8):
        domain, alike, better = two_detectors(seed, better=0.2)
        result = compare(
            domain.annotation_arrays,
            better,
            alike,
            domain.group_numbers,
            n_classes=1,
            seed=seed,
            replicates=300,
        )
        true += result.p <= 0.05 and result.difference > 0
        assert result.difference == pytest.approx(result.first - result.second)
    # 5 % of 60 is 3; 9 or more has a probability of 1 in 300.
    assert false <= 8
    assert covered >= 51
    assert true >= 7


def test_a_detector_compared_with_itself_differs_by_nothing() -> None:
    domain = make_domain(clips=8, seed=1)
    same = domain.detection_arrays
    result = compare(domain.annotation_arrays, same, same, domain.group_numbers, n_classes=1, seed=0)
    assert result.difference == pytest.approx(0, abs=1e-12)
    assert result.p == 1


def test_few_clips_are_not_compared() -> None:
    domain = make_domain(clips=3, seed=1)
    same = domain.detection_arrays
    result = compare(domain.annotation_arrays, same, same, domain.group_numbers, n_classes=1, seed=0)
    assert result.p is None
    assert "3 independent clips" in result.note


@pytest.mark.slow
def test_a_guaranteed_threshold_keeps_its_risk_on_new_clips() -> None:
    risk, missed = 0.3, []
    for seed in range(100):
        domain = make_domain(clips=25, frames=4, seed=seed, recall=0.85)
        threshold = control(domain.table, domain.group_numbers, [risk])[0].confidence
        assert threshold is not None
        fresh = make_domain(clips=10, frames=4, seed=seed + 10_000, recall=0.85)
        true_positive, _ = fresh.table.flags(0.5)
        kept = true_positive & (fresh.table.confidence >= threshold)
        by_clip = np.bincount(fresh.group_numbers[fresh.table.image[kept]], minlength=10)
        annotations = np.bincount(fresh.group_numbers[fresh.table.annotation_image], minlength=10)
        missed.append(float(np.mean(1 - by_clip / annotations)))
    assert np.mean(missed) <= risk + 0.01
    # The guarantee is not trivial: a threshold of 0 would miss far less.
    assert np.mean(missed) >= risk - 0.1


def test_an_unattainable_risk_has_no_threshold() -> None:
    low_recall = make_domain(clips=25, recall=0.5)
    result = control(low_recall.table, low_recall.group_numbers)[0]
    assert result.confidence is None
    assert result.note.startswith("infeasible: even at 0.001")
    few = make_domain(clips=6, recall=0.95)
    assert (
        control(few.table, few.group_numbers)[0].note
        == "not attainable from 6 clips with objects: 9 are needed"
    )


def images_table(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"image": names, "path": [f"/data/{name}" for name in names]})


def test_attributes_are_joined_by_id_path_name_or_stem(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("weather,image,speed\nrain,a/1.jpg,30\nsun,/data/b/2.jpg,\nfog,3,70\nsnow,nobody,1\n")
    images, count = join(images_table(["a/1.jpg", "b/2.jpg", "c/3.png", "d/1.jpg"]), read_attributes(file))
    assert count == 3
    assert images[OWN + "weather"].tolist()[:3] == ["rain", "sun", "fog"]
    assert images[OWN + "speed"].tolist()[0] == 30
    assert images[OWN + "weather"].isna().tolist() == [False, False, False, True]


def test_an_image_may_be_in_many_slices(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    file.write_text("image_id,slice\n1.jpg,night\n1.jpg,rain\n2.jpg,rain\n")
    images, count = join(images_table(["1.jpg", "2.jpg"]), read_attributes(file))
    assert count == 2
    assert images[OWN + "rain"].tolist() == ["yes", "yes"]
    assert images[OWN + "night"].isna().tolist() == [False, True]


def test_rows_may_use_the_numbers_of_a_coco_json_and_files_add_up(tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("image_id,weather\n139, rain\n")
    second.write_text("image_id,weather\n285,sun\n")
    images = images_table(["x/1.jpg", "x/2.jpg"])
    ids = {139: "x/1.jpg", 285: "x/2.jpg"}
    for file in (first, second):
        images, count = join(images, read_attributes(file), ids)
        assert count == 1
    assert images[OWN + "weather"].tolist() == ["rain", "sun"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("weather\nrain\n", "needs a column that names the image"),
        ("image\na.jpg\n", "at least one attribute"),
        ("image,weather\na.jpg,rain\na.jpg,sun\n", "s.csv:3: 'a.jpg' has more than one row"),
        ("image,weather\na.jpg,rain\n,sun\n", "s.csv:3: the row names no image"),
        ("", "not a readable CSV"),
        ("image,weather\na.jpg,rain\n a.jpg,sun\n", "has more than one row"),
        ("image,weather\na.jpg,rain,7\n", "not a readable CSV|more fields than the header"),
    ],
)
def test_errors_name_the_bad_attribute_file(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "s.csv"
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        read_attributes(file)
