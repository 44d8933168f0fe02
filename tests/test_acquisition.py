"""What to add next: picks equal the greedy rule, clips count equally, and datasets are ranked by coverage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated import make_domain
from diagnostics import acquisition
from diagnostics.advice import next_images
from diagnostics.candidates import compare_box_sizes, compare_datasets
from diagnostics.domain import Domain
from reports.commands.next import test_images as images_to_test


def test_picks_cover_every_cluster_first_and_avoid_the_test_clips() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 20, (4, 8))
    target = np.concatenate([c + rng.normal(0, 0.5, (30, 8)) for c in centres])
    images = pd.DataFrame(
        {
            "domain": "d",
            "image": [f"i{n}" for n in range(120)],
            "path": "p",
            "group": [f"clip{n % 12}" for n in range(120)],
            "novelty": 3.0,
            "shown": 0,
        }
    )
    training = centres[0] + rng.normal(0, 0.5, (50, 8))
    reserved = acquisition.reserve_test_clips(images["group"].to_numpy(str), seed=0)
    pool = acquisition.Pool(images, target, ~images["group"].isin(reserved).to_numpy())
    table = acquisition.rank_images(pool, training, budget=12, seed=0)
    cluster = [int(name[1:]) // 30 for name in table["image"]]
    # Training covers the first cluster already: the first three picks are one of each other cluster.
    assert sorted(cluster[:3]) == [1, 2, 3]
    assert len(reserved) == 5
    assert not set(table["group"]) & set(reserved)
    assert table["score"].is_monotonic_decreasing
    assert table["reason"].str.contains("unlike any training image").all()


@pytest.mark.parametrize("seed", range(5))
def test_lazy_picks_equal_greedy_picks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, training, pool = (rng.normal(0, 1, (n, 5)) for n in (60, 7, 45))
    weights = rng.dirichlet(np.ones(60))
    coverage = acquisition.Coverage(target, weights, training)
    picks = acquisition.select_by_coverage(coverage, pool, 12)
    squared = ((target[:, None] - target[None]) ** 2).sum(-1)
    bandwidth = np.median(squared[squared > 0])

    def near(points):
        return np.exp(-((target[:, None] - points[None]) ** 2).sum(-1) / bandwidth)

    covered, chosen = near(training).max(1), []
    for _ in range(12):
        gains = [
            -1 if k in chosen else weights @ np.maximum(near(pool[[k]])[:, 0] - covered, 0) for k in range(45)
        ]
        chosen.append(int(np.argmax(gains)))
        assert picks[len(chosen) - 1][1] == pytest.approx(max(gains))
        covered = np.maximum(covered, near(pool[[chosen[-1]]])[:, 0])
    assert [index for index, _ in picks] == chosen


def test_every_clip_has_the_same_weight() -> None:
    weights = acquisition.clip_weights(np.array(["a"] * 90 + ["b"] * 9 + ["c"]))
    assert [weights[:90].sum(), weights[90:99].sum(), weights[99]] == pytest.approx([1 / 3] * 3)


def images_of(groups: list[str], **more: object) -> pd.DataFrame:
    """A pool of novel images without detections."""
    return pd.DataFrame(
        {
            "domain": "d",
            "image": [f"i{n}" for n in range(len(groups))],
            "path": "p",
            "group": groups,
            "novelty": 3.0,
            "shown": 0,
            **more,
        }
    )


def test_one_long_recording_does_not_take_all_picks() -> None:
    rng = np.random.default_rng(0)
    groups = ["long"] * 200 + [f"short{n}" for n in range(8) for _ in range(5)]
    centres = {name: rng.normal(0, 5, 6) for name in dict.fromkeys(groups)}
    points = np.array([centres[g] + rng.normal(0, 1, 6) for g in groups])
    pool = acquisition.Pool(images_of(groups), points, np.ones(240, bool))
    table = acquisition.rank_images(pool, rng.normal(0, 1, (20, 6)), budget=9, seed=0)
    assert table["group"].nunique() == 9


def test_a_near_duplicate_in_the_same_clip_is_skipped() -> None:
    rng = np.random.default_rng(0)
    views = [rng.bytes(32) for _ in range(4)]
    # Each view is three times in its clip, with sensor noise; the first one is also in another clip.
    fingerprints = [v[:-1] + bytes([v[-1] ^ bit]) for v in views for bit in (0, 1, 2)] + [views[0]]
    groups = [f"clip{n // 3 % 2}" for n in range(12)] + ["elsewhere"]
    pool = acquisition.Pool(
        images_of(groups, fingerprint=fingerprints), rng.normal(0, 1, (13, 4)), np.ones(13, bool)
    )
    table = acquisition.rank_images(pool, np.zeros((0, 4)), budget=13, seed=0)
    assert len(table) == 5
    assert len({int(name[1:]) // 3 for name in table["image"]}) == 5


def test_picks_from_a_pool_resemble_the_footage() -> None:
    rng = np.random.default_rng(0)
    # Most of the pool resembles training; the footage is far away, and a tenth of the pool resembles it.
    training, footage = rng.normal(0, 1, (50, 6)), rng.normal(0, 1, (60, 6)) + 8
    pool = np.concatenate([rng.normal(0, 1, (90, 6)), rng.normal(0, 1, (10, 6)) + 8])
    groups = [f"clip{n // 10}" for n in range(100)]
    table = acquisition.rank_images(
        acquisition.Pool(images_of(groups), pool, np.ones(100, bool)),
        training,
        target=(footage, np.array([f"f{n // 6}" for n in range(60)])),
        budget=8,
        seed=0,
    )
    assert {int(name[1:]) for name in table["image"]} <= set(range(90, 100))


def test_images_of_a_failing_class_weigh_at_least_its_share_of_the_drop() -> None:
    weights, shows = np.full(10, 0.1), np.arange(10) < 2
    weighed = acquisition.weigh_failing(weights, shows, 0.6)
    assert weighed.sum() == pytest.approx(1)
    np.testing.assert_allclose(weighed[shows], 0.3)
    np.testing.assert_array_equal(acquisition.weigh_failing(weights, shows, 0.1), weights)
    np.testing.assert_array_equal(acquisition.weigh_failing(weights, np.zeros(10, bool), 0.6), weights)


def test_picks_go_to_what_shows_the_failing_class() -> None:
    pool = make_domain("pool", role="real_world", clips=12, frames=5, seed=1, classes=("car", "truck"))
    rare = np.arange(60) % 12 == 0
    rng = np.random.default_rng(0)
    # Cars everywhere alike; each image with a truck is another place.
    embeddings = rng.normal(0, 1, (60, 24)) + 6 * rng.normal(0, 1, (1, 24))
    embeddings[rare] = rng.normal(0, 6, (int(rare.sum()), 24))
    trucks = pool.annotations["image"].isin(pool.images["image"][rare])
    pool = replace(
        pool,
        image_embeddings=embeddings,
        annotations=pool.annotations.assign(label=trucks.astype(int)),
    )
    # Labelled images without an annotation show none.
    rare &= pool.images["image"].isin(pool.annotations["image"]).to_numpy()

    def picked(failing: dict[str, dict[str, float]]) -> pd.DataFrame:
        training = make_domain("t", role="training", seed=6)
        return next_images(
            [pool],
            replace(training, image_embeddings=rng.normal(0, 1, (len(training.images), 24)) + 40),
            make_domain("h", seed=7, clip_names="h"),
            {"pool": np.full(60, np.nan)},
            failing=failing,
            seed=0,
            budget=4,
        ).picks

    trucks_of = set(pool.images["image"][rare])
    plain, weighed = picked({}), picked({"pool": {"truck": 0.9}})
    assert len(trucks_of & set(weighed["image"])) > len(trucks_of & set(plain["image"]))
    assert weighed["image"].iloc[0] in trucks_of
    assert "shows truck, where the drop is" in weighed["reason"].iloc[0]
    assert not plain["reason"].str.contains("truck").any()


def test_footage_set_aside_is_not_picked_from_a_pool_that_contains_it() -> None:
    footage = make_domain("footage", role="real_world", clips=12, frames=5, seed=1, clip_names="f")
    pool = replace(footage, name="pool")
    advice = next_images(
        [pool],
        make_domain("training", role="training", seed=2),
        make_domain("in_domain", seed=3, clip_names="h"),
        {"pool": np.full(60, np.nan)},
        target=[footage],
        seed=0,
        budget=60,
    )
    assert len(advice.clips) == 5
    assert not set(advice.clips) & set(advice.picks["group"])
    assert len(advice.picks) > 20


def test_clips_of_one_name_in_two_domains_are_different_clips() -> None:
    domains = [
        make_domain(name, role="real_world", clips=12, frames=5, seed=seed, clip_names="c")
        for name, seed in (("north", 1), ("south", 2))
    ]
    advice = next_images(
        domains,
        make_domain("training", role="training", seed=3, clip_names="t"),
        make_domain("in_domain", seed=4, clip_names="h"),
        {d.name: np.full(60, np.nan) for d in domains},
        seed=0,
        budget=120,
    )
    aside = set(advice.aside[["domain", "image"]].itertuples(index=False, name=None))
    picked = set(advice.picks[["domain", "image"]].itertuples(index=False, name=None))
    assert len(aside) == 25
    assert not aside & picked
    test = images_to_test(advice)
    assert set(test[["domain", "image"]].itertuples(index=False, name=None)) == aside
    assert all(name.startswith(("north: c", "south: c")) for name in advice.clips)


def test_held_out_in_domain_images_are_not_picked() -> None:
    in_domain = make_domain("in_domain", clips=6, frames=5, seed=4)
    pool = replace(make_domain("pool", role="real_world", clips=6, frames=5, seed=5))
    fingerprints = pool.images["fingerprint"].tolist()
    fingerprints[0] = in_domain.images["fingerprint"].iloc[7]
    pool = replace(pool, images=pool.images.assign(fingerprint=fingerprints))
    advice = next_images(
        [pool],
        make_domain("t", role="training", seed=6),
        in_domain,
        {"pool": np.full(30, np.nan)},
        seed=0,
        budget=30,
    )
    assert pool.images["group"].iloc[0] not in set(advice.picks["group"])
    assert advice.picks["group"].nunique() == 5


def test_a_pool_unlike_the_footage_gives_no_picks() -> None:
    rng = np.random.default_rng(0)
    images = images_of([f"clip{n // 5}" for n in range(40)])
    table = acquisition.rank_images(
        acquisition.Pool(images, rng.normal(0, 1, (40, 6)) - 60, np.ones(40, bool)),
        rng.normal(0, 1, (50, 6)),
        target=(rng.normal(0, 1, (60, 6)) + 8, np.array([f"f{n // 6}" for n in range(60)])),
        budget=8,
        seed=0,
    )
    assert table.empty


def test_datasets_without_labels_count_half(in_domain: Domain, training: Domain) -> None:
    footage = offered("footage", 3, embedding_shift=4.0, labelled=False)
    ranked = compare_datasets(
        [
            offered("bare", 5, embedding_shift=4.0, labelled=False),
            offered("labelled", 7, embedding_shift=4.0),
        ],
        [footage],
        training,
        in_domain,
        set_aside=footage.images["fingerprint"].tolist()[:3],
        seed=0,
    )
    assert [c.name for c in ranked] == ["labelled", "bare"]
    assert ranked[1].reason.endswith("; it has no labels")


def test_four_times_the_pool_takes_four_times_the_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons are counted instead of timed; quadratic growth would take sixteen times as many."""
    rng = np.random.default_rng(0)
    training = rng.normal(0, 1, (500, 8))
    similarity, same_view = acquisition.similarity, acquisition.same_view
    compared = 0

    def counted_similarity(points: np.ndarray, others: np.ndarray, bandwidth: float) -> np.ndarray:
        nonlocal compared
        compared += len(points) * len(others)
        return similarity(points, others, bandwidth)

    def counted_same_view(*arguments: Any) -> acquisition.SameView:
        is_same_view = same_view(*arguments)

        def counted(pick: int, index: int) -> bool:
            nonlocal compared
            compared += 1
            return is_same_view(pick, index)

        return counted

    monkeypatch.setattr(acquisition, "similarity", counted_similarity)
    monkeypatch.setattr(acquisition, "same_view", counted_same_view)
    counts = []
    for size in (2_000, 8_000):
        compared = 0
        groups = [f"clip{n // 50}" for n in range(size)]
        images = images_of(groups, fingerprint=[rng.bytes(32) for _ in groups])
        pool = acquisition.Pool(images, rng.normal(0, 1, (size, 8)), np.ones(size, bool))
        acquisition.rank_images(pool, training, budget=20, seed=0)
        counts.append(compared)
    assert counts[1] < 5 * counts[0]


@pytest.fixture(scope="module")
def in_domain() -> Domain:
    return make_domain("in_domain", clips=12, frames=6, seed=1)


@pytest.fixture(scope="module")
def training() -> Domain:
    return make_domain("training", role="training", clips=20, frames=6, seed=2, clip_names="t")


def offered(name: str, seed: int, **settings: object) -> Domain:
    options = {"clips": 10, "frames": 6, "clip_names": name, "role": "real_world", **settings}
    return make_domain(name, seed=seed, **options)


def test_datasets_are_ranked_by_coverage_and_other_labels_count_half(
    in_domain: Domain, training: Domain
) -> None:
    footage = offered("footage", 3, embedding_shift=4.0, labelled=False)
    ranked = compare_datasets(
        [
            offered("irrelevant", 4, embedding_shift=-30.0),
            offered("other labels", 5, embedding_shift=4.0, label_margin=1.6),
            offered("half-way", 6, embedding_shift=2.0, clips=40),
            offered("same", 7, embedding_shift=4.0),
        ],
        [footage],
        training,
        in_domain,
        seed=0,
    )
    assert [c.name for c in ranked] == ["same", "half-way", "other labels", "irrelevant"]
    assert [c.rank for c in ranked] == [1, 2, 3, 4]
    same, half, other, irrelevant = ranked
    assert same.covers > half.covers > other.covers / 2 > irrelevant.covers_high
    assert irrelevant.covers < 0.02
    assert other.drawn == pytest.approx(1.6, abs=0.1)
    assert "drawn 1.6 times as large as in-domain" in other.reason
    assert not same.other_box_rule
    # All are compared at one size, which a larger dataset does not profit from.
    assert {c.compared for c in ranked} == {60}


def test_images_that_are_held_out_are_counted(in_domain: Domain, training: Domain) -> None:
    mixed = offered("mixed", 8)
    fingerprints = mixed.images["fingerprint"].tolist()
    fingerprints[:7] = in_domain.images["fingerprint"].tolist()[:7]
    mixed = replace(mixed, images=mixed.images.assign(fingerprint=fingerprints))
    (candidate,) = compare_datasets(
        [mixed], [offered("footage", 3, embedding_shift=1.0)], training, in_domain, seed=0
    )
    assert candidate.copies == 7
    assert "7 of its images are also among the held-out ones" in candidate.reason


def test_boxes_of_a_dataset_without_labels_or_detections_are_not_compared(in_domain: Domain) -> None:
    rng = np.random.default_rng(0)
    assert compare_box_sizes(in_domain, offered("bare", 9, labelled=False), rng) is None
    assert compare_box_sizes(in_domain, offered("blind", 9, recall=0.0, false_positive_rate=0.0), rng) is None


def test_boxes_of_a_dataset_the_detector_fails_on_are_not_compared(in_domain: Domain) -> None:
    # Annotations are half as large as the detections, most of which lie on no annotation.
    failed = offered(
        "failed", 9, recall=0.2, false_positive_rate=12.0, confidence_shift=0.2, label_margin=0.5
    )
    assert compare_box_sizes(in_domain, failed, np.random.default_rng(0)) is None


@pytest.mark.parametrize("seed", range(20))
def test_boxes_drawn_by_one_rule_have_a_ratio_near_one(in_domain: Domain, seed: int) -> None:
    size = compare_box_sizes(in_domain, offered("same", 100 + seed), np.random.default_rng(seed))
    assert size is not None
    assert 0.85 < size[0] < 1.15


def test_labels_are_compared_between_datasets_of_the_same_view(in_domain: Domain, training: Domain) -> None:
    """Where the detector mostly fails, in-domain labels are no reference, but those of the same view are."""
    view = {"embedding_shift": 4.0, "recall": 0.3, "false_positive_rate": 3.0}
    ranked = compare_datasets(
        [
            offered("other labels", 5, label_margin=1.7, label_extra=0.4, **view),
            offered("same", 7, **view),
            offered("elsewhere", 6, embedding_shift=-4.0, recall=0.9),
        ],
        [offered("footage", 3, labelled=False, **view)],
        training,
        in_domain,
        seed=0,
    )
    by_name = {c.name: c for c in ranked}
    assert ranked[0].name == "same"
    assert by_name["other labels"].twin == "same"
    assert not by_name["other labels"].usable_labels
    assert "same shows the same view" in by_name["other labels"].reason
    # A dataset of another view is no reference, however well the detector does on it.
    assert by_name["same"].agrees < 0.5 * by_name["elsewhere"].agrees
    assert not by_name["same"].twin


OTHER_LABELS = {"label_margin": 1.7, "label_extra": 0.4}


def test_a_dataset_clearly_better_than_the_nearest_one_has_no_twin(
    in_domain: Domain, training: Domain
) -> None:
    """With few clips, an easier view that differs only a little is seldom recognised as another view."""
    few = {"clips": 6, "frames": 6}
    here = {"embedding_shift": 4.0, "recall": 0.3, "false_positive_rate": 3.0, **few}
    footage = [offered("footage", 3, labelled=False, embedding_shift=4.0)]
    same, other = offered("same", 7, **here), offered("other", 8, **OTHER_LABELS, **here)
    easier = offered("easier", 6, embedding_shift=3.4, recall=0.9, **few)
    alone = compare_datasets([same, easier], footage, training, in_domain, seed=0)
    assert {c.name: c.twin for c in alone} == {"same": "easier", "easier": ""}
    beside = compare_datasets([same, easier, other], footage, training, in_domain, seed=0)
    assert {c.name: c.twin for c in beside} == {"same": "", "easier": "", "other": "same"}


def test_two_datasets_by_the_same_other_rule_do_not_vouch_for_each_other(
    in_domain: Domain, training: Domain
) -> None:
    here = {"embedding_shift": 4.0, "recall": 0.5}
    noticed = 0
    for seed in range(10):
        sets = [
            offered("good", 500 + 4 * seed, **here),
            offered("one", 501 + 4 * seed, **OTHER_LABELS, **here),
            offered("two", 502 + 4 * seed, **OTHER_LABELS, **here),
            # Too few clips to measure chance.
            offered("short", 503 + 4 * seed, **{**here, "clips": 3, "frames": 20}),
        ]
        ranked = compare_datasets(
            sets, [offered("footage", 3, labelled=False, **here)], training, in_domain, seed=seed
        )
        twins = {c.name: c.twin for c in ranked}
        assert (twins["good"], twins["short"]) == ("", "")
        noticed += (twins["one"] == "good") + (twins["two"] == "good")
    # By chance, each is taken for another view than the good one once in twenty times.
    assert noticed >= 17


def test_images_similar_by_embeddings_alone_cover_nothing(in_domain: Domain, training: Domain) -> None:
    """Blurred images, in which the detector finds as little as in the footage."""

    def with_descriptors(domain: Domain, mean: float, seed: int) -> Domain:
        descriptors = np.random.default_rng(seed).normal(mean, 1, (len(domain.images), 12))
        return replace(domain, images=domain.images.assign(descriptor=list(descriptors)))

    footage = with_descriptors(offered("footage", 3, embedding_shift=4.0, labelled=False), 0, 1)
    blurred = with_descriptors(offered("blurred", 4, embedding_shift=4.0), -8, 2)
    same = with_descriptors(offered("same", 5, embedding_shift=4.0), 0, 3)
    described = with_descriptors(training, 4, 4)
    ranked = {c.name: c for c in compare_datasets([blurred, same], [footage], described, in_domain, seed=0)}
    assert ranked["blurred"].covers < 0.02
    assert ranked["same"].covers > 0.1
    # Without the descriptors of training, embeddings alone decide.
    without = {c.name: c for c in compare_datasets([blurred, same], [footage], training, in_domain, seed=0)}
    assert without["blurred"].covers == pytest.approx(without["same"].covers, abs=0.1)


def test_the_rank_by_size_is_reported_too(in_domain: Domain, training: Domain) -> None:
    sets = [
        offered("small", 5, embedding_shift=4.0),
        offered("large", 4, clips=30),
        offered("also", 6, clips=20),
    ]
    ranked = compare_datasets(sets, [offered("footage", 3, embedding_shift=4.0)], training, in_domain, seed=0)
    assert ranked[0].name == "small"
    assert {c.name: c.by_size for c in ranked} == {"large": 1, "also": 2, "small": 3}


def test_an_effect_of_the_view_on_boxes_is_no_other_rule(in_domain: Domain, training: Domain) -> None:
    sets = [
        offered("other labels", 5, embedding_shift=4.0, label_margin=2.0),
        offered("same", 7, embedding_shift=4.0, label_margin=1.35),
    ]
    footage = [offered("footage", 3, embedding_shift=4.0, labelled=False)]
    alone = compare_datasets(sets[1:], footage, training, in_domain, seed=0)[0]
    assert alone.other_box_rule
    same, other = compare_datasets(sets, footage, training, in_domain, seed=0)
    assert (same.name, same.by_view, same.other_box_rule) == ("same", True, False)
    assert other.twin == "same"


def test_datasets_labelled_by_one_rule_rarely_have_a_twin(in_domain: Domain, training: Domain) -> None:
    with_twin = 0
    for seed in range(20):
        sets = [offered(f"set{n}", 1000 + 2 * seed + n, embedding_shift=4.0, recall=0.5) for n in range(2)]
        with_twin += any(
            c.twin
            for c in compare_datasets(
                sets, [offered("footage", 3, labelled=False)], training, in_domain, seed=seed
            )
        )
    assert with_twin <= 1


def test_picking_stops_at_a_budget_of_boxes() -> None:
    rng = np.random.default_rng(0)
    images = images_of([f"clip{n // 5}" for n in range(100)]).assign(
        shown=2, annotations=rng.integers(0, 6, 100)
    )
    pool = acquisition.Pool(images, rng.normal(0, 1, (100, 6)), np.ones(100, bool))
    training = rng.normal(0, 1, (20, 6))
    unlimited = acquisition.rank_images(pool, training, budget=60, seed=0)
    limited = acquisition.rank_images(pool, training, budget=60, boxes=40, seed=0)
    boxes = unlimited["annotations"].clip(lower=1).cumsum()
    # The same images in the same order, up to the one with which 40 boxes are reached.
    assert limited["image"].tolist() == unlimited["image"].tolist()[: int((boxes < 40).sum()) + 1]
    annotations = images.set_index("image")["annotations"]
    assert (limited["annotations"].to_numpy() == annotations.loc[limited["image"]].to_numpy()).all()
