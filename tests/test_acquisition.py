"""What to add next: choosing equals the greedy rule written out, clips count alike, copies are passed over, datasets stand in the right order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated import make_domain
from diagnostics import acquisition
from diagnostics.advice import next_images
from diagnostics.candidates import compare, drawn
from diagnostics.domain import Domain
from reports.commands.next import test_images as images_to_test
from train.passes import SHARD
from train.predictions import ImagePrediction, Store


def test_picks_cover_every_cluster_first_and_never_touch_the_test_clips() -> None:
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
    frozen = acquisition.reserve(images["group"].to_numpy(str), seed=0)
    allowed = ~images["group"].isin(frozen).to_numpy()
    table = acquisition.rank(images, target, training, allowed, budget=12, seed=0)
    cluster = [int(name[1:]) // 30 for name in table["image"]]
    # Training covers the first cluster already: the first three picks are one of each other.
    assert sorted(cluster[:3]) == [1, 2, 3]
    assert len(frozen) == 5
    assert not set(table["group"]) & set(frozen)
    assert table["score"].is_monotonic_decreasing
    assert table["reason"].str.contains("looks like nothing in training").all()


@pytest.mark.parametrize("seed", range(5))
def test_lazy_choice_is_the_greedy_choice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    target, have, pool = (rng.normal(0, 1, (n, 5)) for n in (60, 7, 45))
    weights = rng.dirichlet(np.ones(60))
    picks = acquisition.herd(target, weights, have, pool, 12)
    squared = ((target[:, None] - target[None]) ** 2).sum(-1)
    bandwidth = np.median(squared[squared > 0])

    def near(points):
        return np.exp(-((target[:, None] - points[None]) ** 2).sum(-1) / bandwidth)

    covered, chosen = near(have).max(1), []
    for _ in range(12):
        gains = [
            -1 if k in chosen else weights @ np.maximum(near(pool[[k]])[:, 0] - covered, 0) for k in range(45)
        ]
        chosen.append(int(np.argmax(gains)))
        assert picks[len(chosen) - 1][1] == pytest.approx(max(gains))
        covered = np.maximum(covered, near(pool[[chosen[-1]]])[:, 0])
    assert [index for index, _ in picks] == chosen


def test_every_clip_weighs_alike() -> None:
    weights = acquisition.clip_weights(np.array(["a"] * 90 + ["b"] * 9 + ["c"]))
    assert [weights[:90].sum(), weights[90:99].sum(), weights[99]] == pytest.approx([1 / 3] * 3)


def table_of(groups: list[str], **more: object) -> pd.DataFrame:
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


def test_one_long_recording_does_not_take_everything() -> None:
    rng = np.random.default_rng(0)
    groups = ["long"] * 200 + [f"short{n}" for n in range(8) for _ in range(5)]
    centres = {name: rng.normal(0, 5, 6) for name in dict.fromkeys(groups)}
    points = np.array([centres[g] + rng.normal(0, 1, 6) for g in groups])
    table = acquisition.rank(
        table_of(groups), points, rng.normal(0, 1, (20, 6)), np.ones(240, bool), budget=9, seed=0
    )
    assert table["group"].nunique() == 9


def test_a_image_that_shows_the_same_is_passed_over() -> None:
    rng = np.random.default_rng(0)
    views = [rng.bytes(32) for _ in range(4)]
    # Each view three times in its clip, the noise of a sensor apart; and the first one in another clip.
    prints = [v[:-1] + bytes([v[-1] ^ bit]) for v in views for bit in (0, 1, 2)] + [views[0]]
    groups = [f"clip{n // 3 % 2}" for n in range(12)] + ["elsewhere"]
    table = acquisition.rank(
        table_of(groups, fingerprint=prints),
        rng.normal(0, 1, (13, 4)),
        np.zeros((0, 4)),
        np.ones(13, bool),
        budget=13,
        seed=0,
    )
    assert len(table) == 5
    assert len({int(name[1:]) // 3 for name in table["image"]}) == 5


def test_a_pool_is_chosen_from_for_what_the_footage_shows() -> None:
    rng = np.random.default_rng(0)
    # The pool is mostly what training knows; the footage is elsewhere, and the pool has a little of it.
    training, footage = rng.normal(0, 1, (50, 6)), rng.normal(0, 1, (60, 6)) + 8
    pool = np.concatenate([rng.normal(0, 1, (90, 6)), rng.normal(0, 1, (10, 6)) + 8])
    groups = [f"clip{n // 10}" for n in range(100)]
    table = acquisition.rank(
        table_of(groups),
        pool,
        training,
        np.ones(100, bool),
        target=(footage, np.array([f"f{n // 6}" for n in range(60)])),
        budget=8,
        seed=0,
    )
    assert {int(name[1:]) for name in table["image"]} <= set(range(90, 100))


def test_what_is_set_aside_of_the_footage_is_not_chosen_from_a_pool_that_holds_it() -> None:
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


def test_clips_of_one_name_in_two_domains_are_told_apart() -> None:
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


def test_what_is_held_out_at_in_domain_is_not_chosen() -> None:
    in_domain = make_domain("in_domain", clips=6, frames=5, seed=4)
    pool = replace(make_domain("pool", role="real_world", clips=6, frames=5, seed=5))
    prints = pool.images["fingerprint"].tolist()
    prints[0] = in_domain.images["fingerprint"].iloc[7]
    pool = replace(pool, images=pool.images.assign(fingerprint=prints))
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


def test_a_pool_with_nothing_of_the_footage_gives_nothing() -> None:
    rng = np.random.default_rng(0)
    table = acquisition.rank(
        table_of([f"clip{n // 5}" for n in range(40)]),
        rng.normal(0, 1, (40, 6)) - 60,
        rng.normal(0, 1, (50, 6)),
        np.ones(40, bool),
        target=(rng.normal(0, 1, (60, 6)) + 8, np.array([f"f{n // 6}" for n in range(60)])),
        budget=8,
        seed=0,
    )
    assert table.empty


def test_sets_without_labels_count_half(in_domain: Domain, training: Domain) -> None:
    footage = offered("footage", 3, embedding_shift=4.0, labelled=False)
    found = compare(
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
    assert [c.name for c in found] == ["labelled", "bare"]
    assert found[1].reason.endswith("; it has no labels")


def test_twenty_thousand_images_are_ranked_in_seconds() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(0, 1, (20_000, 256)).astype(np.float32)
    groups = [f"clip{n // 100}" for n in range(20_000)]
    started = time.process_time()
    table = acquisition.rank(
        table_of(groups, fingerprint=[rng.bytes(32) for _ in groups]),
        points,
        rng.normal(0, 1, (2_000, 256)).astype(np.float32),
        np.ones(20_000, bool),
        budget=50,
        seed=0,
    )
    assert len(table) == 50
    assert time.process_time() - started < 20


def test_four_times_the_pool_takes_four_times_the_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: where they grew with the square, it would be sixteen times."""
    rng = np.random.default_rng(0)
    known = rng.normal(0, 1, (500, 8))
    similarity, same_view = acquisition.similarity, acquisition.same_view
    compared = 0

    def counted(points: np.ndarray, others: np.ndarray, bandwidth: float) -> np.ndarray:
        nonlocal compared
        compared += len(points) * len(others)
        return similarity(points, others, bandwidth)

    def viewed(*given: Any) -> acquisition.Alike:
        alike = same_view(*given)

        def one(pick: int, index: int) -> bool:
            nonlocal compared
            compared += 1
            return alike(pick, index)

        return one

    monkeypatch.setattr(acquisition, "similarity", counted)
    monkeypatch.setattr(acquisition, "same_view", viewed)
    took = []
    for size in (2_000, 8_000):
        compared = 0
        groups = [f"clip{n // 50}" for n in range(size)]
        table = table_of(groups, fingerprint=[rng.bytes(32) for _ in groups])
        points = rng.normal(0, 1, (size, 8))
        acquisition.rank(table, points, known, np.ones(size, bool), budget=20, seed=0)
        took.append(compared)
    assert took[1] < 5 * took[0]


def seconds(job: Callable[[], object]) -> float:
    """CPU seconds, the least of three tries."""
    took = []
    for _ in range(3):
        started = time.process_time()
        job()
        took.append(time.process_time() - started)
    return min(took)


def test_four_times_the_images_take_about_four_times_as_long_to_read(tmp_path: Path) -> None:
    """When every shard was held against every image, it was nine times."""

    def stored(size: int) -> Callable[[], object]:
        store = Store(tmp_path / str(size))
        nothing = np.zeros((1, 6), np.float32), np.zeros((1, 1), np.float32)
        passes = [
            ImagePrediction(
                f"{n:032}", {"brightness": 0.5}, np.zeros(84, np.float32), b"", nothing[1][0], *nothing
            )
            for n in range(size)
        ]
        for start in range(0, size, SHARD):
            store.add(passes[start : start + SHARD])
        contents = {f"i{n}": f"{n:032}" for n in range(size)}
        return lambda: store.read(contents)

    assert seconds(stored(32_000)) < 6 * seconds(stored(8_000))


@pytest.fixture(scope="module")
def in_domain() -> Domain:
    return make_domain("in_domain", clips=12, frames=6, seed=1)


@pytest.fixture(scope="module")
def training() -> Domain:
    return make_domain("training", role="training", clips=20, frames=6, seed=2, clip_names="t")


def offered(name: str, seed: int, **look: object) -> Domain:
    options = {"clips": 10, "frames": 6, "clip_names": name, "role": "real_world", **look}
    return make_domain(name, seed=seed, **options)


def test_datasets_stand_by_what_they_cover_and_other_labels_count_half(
    in_domain: Domain, training: Domain
) -> None:
    footage = offered("footage", 3, embedding_shift=4.0, labelled=False)
    found = compare(
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
    assert [c.name for c in found] == ["same", "half-way", "other labels", "irrelevant"]
    assert [c.rank for c in found] == [1, 2, 3, 4]
    same, half, other, irrelevant = found
    assert same.covers > half.covers > other.covers / 2 > irrelevant.covers_high
    assert irrelevant.covers < 0.02
    assert other.drawn == pytest.approx(1.6, abs=0.1)
    assert "drawn 1.6 times as large as in-domain" in other.reason
    assert not same.other_hand
    # All are compared at one size, so the larger set does not win by it.
    assert {c.compared for c in found} == {60}


def test_images_that_are_held_out_already_are_counted(in_domain: Domain, training: Domain) -> None:
    mixed = offered("mixed", 8)
    prints = mixed.images["fingerprint"].tolist()
    prints[:7] = in_domain.images["fingerprint"].tolist()[:7]
    mixed = replace(mixed, images=mixed.images.assign(fingerprint=prints))
    found = compare([mixed], [offered("footage", 3, embedding_shift=1.0)], training, in_domain, seed=0)
    assert found[0].copies == 7
    assert "7 of its images are also among the held-out ones" in found[0].reason


def test_labels_of_an_unlabelled_set_are_not_judged(in_domain: Domain) -> None:
    rng = np.random.default_rng(0)
    assert drawn(in_domain, offered("bare", 9, labelled=False), rng) is None
    assert drawn(in_domain, offered("blind", 9, hit_rate=0.0, false_rate=0.0), rng) is None


def test_a_detector_that_is_lost_in_a_dataset_does_not_judge_its_labels(in_domain: Domain) -> None:
    # Boxes half as large as what it draws, and most of what it draws lies on nothing.
    lost = offered("lost", 9, hit_rate=0.2, false_rate=12.0, confidence_shift=0.2, label_margin=0.5)
    assert drawn(in_domain, lost, np.random.default_rng(0)) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_same_hand_is_rarely_taken_for_another(in_domain: Domain, seed: int) -> None:
    found = drawn(in_domain, offered("same", 100 + seed), np.random.default_rng(seed))
    assert found is not None
    assert 0.85 < found[0] < 1.15


def test_labels_are_compared_between_sets_that_look_the_same(in_domain: Domain, training: Domain) -> None:
    """Where the detector is all but lost, the in-domain hand is too far away to compare with; another set of the same view is not."""
    view = {"embedding_shift": 4.0, "hit_rate": 0.3, "false_rate": 3.0}
    found = compare(
        [
            offered("other labels", 5, label_margin=1.7, label_extra=0.4, **view),
            offered("same", 7, **view),
            offered("elsewhere", 6, embedding_shift=-4.0, hit_rate=0.9),
        ],
        [offered("footage", 3, labelled=False, **view)],
        training,
        in_domain,
        seed=0,
    )
    by_name = {c.name: c for c in found}
    assert found[0].name == "same"
    assert by_name["other labels"].twin == "same"
    assert not by_name["other labels"].usable_labels
    assert "same looks the same" in by_name["other labels"].reason
    # What shows something else is no standard, however well the detector does on it.
    assert by_name["same"].agrees < 0.5 * by_name["elsewhere"].agrees
    assert not by_name["same"].twin


OTHER_LABELS = {"label_margin": 1.7, "label_extra": 0.4}


def test_a_set_that_outdoes_what_looks_most_alike_is_cleared(in_domain: Domain, training: Domain) -> None:
    """A view a little further off, in which the detector does well, is told apart by few clips only now and then."""
    few = {"clips": 6, "frames": 6}
    here = {"embedding_shift": 4.0, "hit_rate": 0.3, "false_rate": 3.0, **few}
    footage = [offered("footage", 3, labelled=False, embedding_shift=4.0)]
    same, other = offered("same", 7, **here), offered("other", 8, **OTHER_LABELS, **here)
    easier = offered("easier", 6, embedding_shift=3.4, hit_rate=0.9, **few)
    alone = compare([same, easier], footage, training, in_domain, seed=0)
    assert {c.name: c.twin for c in alone} == {"same": "easier", "easier": ""}
    beside = compare([same, easier, other], footage, training, in_domain, seed=0)
    assert {c.name: c.twin for c in beside} == {"same": "", "easier": "", "other": "same"}


def test_two_sets_by_the_same_other_rule_do_not_speak_for_each_other(
    in_domain: Domain, training: Domain
) -> None:
    here = {"embedding_shift": 4.0, "hit_rate": 0.5}
    noticed = 0
    for seed in range(10):
        sets = [
            offered("good", 500 + 4 * seed, **here),
            offered("one", 501 + 4 * seed, **OTHER_LABELS, **here),
            offered("two", 502 + 4 * seed, **OTHER_LABELS, **here),
            # Too few clips to say how much is luck.
            offered("short", 503 + 4 * seed, **{**here, "clips": 3, "frames": 20}),
        ]
        found = compare(sets, [offered("footage", 3, labelled=False, **here)], training, in_domain, seed=seed)
        twins = {c.name: c.twin for c in found}
        assert (twins["good"], twins["short"]) == ("", "")
        noticed += (twins["one"] == "good") + (twins["two"] == "good")
    # Each is told apart from the good one by chance once in twenty times.
    assert noticed >= 17


def test_what_looks_alike_to_the_detector_alone_covers_nothing(in_domain: Domain, training: Domain) -> None:
    """Smeared images, in which it sees as little as in the footage."""

    def looking(domain: Domain, light: float, seed: int) -> Domain:
        look = np.random.default_rng(seed).normal(light, 1, (len(domain.images), 12))
        return replace(domain, images=domain.images.assign(descriptor=list(look)))

    footage = looking(offered("footage", 3, embedding_shift=4.0, labelled=False), 0, 1)
    smeared = looking(offered("smeared", 4, embedding_shift=4.0), -8, 2)
    same = looking(offered("same", 5, embedding_shift=4.0), 0, 3)
    known = looking(training, 4, 4)
    found = {c.name: c for c in compare([smeared, same], [footage], known, in_domain, seed=0)}
    assert found["smeared"].covers < 0.02
    assert found["same"].covers > 0.1
    # Where that is not known, the detector's say decides.
    blind = {c.name: c for c in compare([smeared, same], [footage], training, in_domain, seed=0)}
    assert blind["smeared"].covers == pytest.approx(blind["same"].covers, abs=0.1)


def test_the_order_by_size_stands_beside(in_domain: Domain, training: Domain) -> None:
    sets = [
        offered("small", 5, embedding_shift=4.0),
        offered("large", 4, clips=30),
        offered("also", 6, clips=20),
    ]
    found = compare(sets, [offered("footage", 3, embedding_shift=4.0)], training, in_domain, seed=0)
    assert found[0].name == "small"
    assert {c.name: c.by_size for c in found} == {"large": 1, "also": 2, "small": 3}


def test_what_the_view_does_to_boxes_is_no_other_hand(in_domain: Domain, training: Domain) -> None:
    sets = [
        offered("other labels", 5, embedding_shift=4.0, label_margin=2.0),
        offered("same", 7, embedding_shift=4.0, label_margin=1.35),
    ]
    footage = [offered("footage", 3, embedding_shift=4.0, labelled=False)]
    alone = compare(sets[1:], footage, training, in_domain, seed=0)[0]
    assert alone.other_hand
    same, other = compare(sets, footage, training, in_domain, seed=0)
    assert (same.name, same.by_view, same.other_hand) == ("same", True, False)
    assert other.twin == "same"


def test_sets_labelled_alike_are_rarely_told_apart_by_their_labels(
    in_domain: Domain, training: Domain
) -> None:
    seen = 0
    for seed in range(20):
        sets = [offered(f"set{n}", 1000 + 2 * seed + n, embedding_shift=4.0, hit_rate=0.5) for n in range(2)]
        seen += any(
            c.twin
            for c in compare(sets, [offered("footage", 3, labelled=False)], training, in_domain, seed=seed)
        )
    assert seen <= 1


def test_a_budget_of_boxes() -> None:
    rng = np.random.default_rng(0)
    images = table_of([f"clip{n // 5}" for n in range(100)]).assign(
        shown=2, annotations=rng.integers(0, 6, 100)
    )
    asked = {
        "allowed": np.ones(100, bool),
        "seed": 0,
    }
    points = rng.normal(0, 1, (100, 6)), rng.normal(0, 1, (20, 6))
    whole = acquisition.rank(images, *points, budget=60, **asked)
    some = acquisition.rank(images, *points, budget=60, boxes=40, **asked)
    counted = whole["annotations"].clip(lower=1).cumsum()
    # The same images in the same order, and none after the one with which so many boxes are reached.
    assert some["image"].tolist() == whole["image"].tolist()[: int((counted < 40).sum()) + 1]
    known = images.set_index("image")["annotations"]
    assert (some["annotations"].to_numpy() == known.loc[some["image"]].to_numpy()).all()
