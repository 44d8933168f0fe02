"""`make prove-next`: statistics against worked examples, and every rule chooses each image once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer

from benchmarks.next_page import (
    conclusion,
    curves_figure,
    expected_share,
    forecast_last_sizes,
    label_efficiency,
    page,
    rules_above_one,
    score_with_interval,
    summarise,
)
from benchmarks.next_worlds import (
    LENGTHS,
    RULES,
    TEST_CLIPS,
    TEST_FRAMES,
    Case,
    choose_next_by_uncertainty,
    plan_footage,
)
from benchmarks.prove_next import Job, key_of, load_or_measure, stored_ap50
from benchmarks.simulated import make_domain
from datasets.tables import Source, frame


def results_of(curves: dict[str, list[float]], cases: int = 3, kind: str = "footage") -> pd.DataFrame:
    """Results of every rule at 10, 20, 40, 80 boxes in 2, 4, 8, 16 images."""
    rows = []
    for case in range(cases):
        rows.append(("start", 0, 0, 0.1, f"{kind}-{case}"))
        for rule, scores in curves.items():
            rows += [(rule, 2 * 2**k, 10 * 2**k, score, f"{kind}-{case}") for k, score in enumerate(scores)]
    return pd.DataFrame(rows, columns=["rule", "images", "boxes", "ap50", "case"])


FLAT = [0.2, 0.3, 0.4, 0.5]


def test_a_rule_one_doubling_ahead_is_worth_twice_the_labels() -> None:
    results = results_of({"random": FLAT, "ahead": [0.3, 0.4, 0.5, 0.6], "behind": [0.1, 0.2, 0.3, 0.4]})
    # log2(1 + n) and not log2(n): 81 / 41.
    assert label_efficiency(results, "footage-0", "ahead") == pytest.approx(81 / 41, rel=0.01)
    assert label_efficiency(results, "footage-0", "behind") == pytest.approx(41 / 81, rel=0.05)
    assert label_efficiency(results, "footage-0", "random") == pytest.approx(1.0)
    table = summarise(results, ["random", "ahead", "behind"]).set_index("rule")
    assert table.loc["ahead", "better"] == 3
    assert table.loc["behind", "better"] == 0
    assert table.loc["ahead", "gain"] == pytest.approx(0.1, abs=0.01)
    assert table.loc["random", "gain"] == 0
    assert table.loc["ahead", "efficiency_low"] > 1
    assert "worth **2.0 times the labels" in conclusion(results.replace({"rule": {"ahead": "ours"}}))
    assert "**worse than random**" in conclusion(results.replace({"rule": {"behind": "ours"}}))
    same = results[results["rule"] == "random"].assign(rule="ours")
    assert "**no better than random**" in conclusion(pd.concat([results, same]))
    assert rules_above_one(results, ["ahead", "behind"]) == (
        "Rules tried: ahead, behind. Interval above 1: ahead; not above 1: behind."
    )


def test_a_few_cases_have_wide_intervals() -> None:
    # Student's t with two degrees of freedom: 4.303 standard errors of 0.01 / sqrt(3).
    assert score_with_interval(pd.Series([0.19, 0.2, 0.21])) == "0.200 [0.175, 0.225]"
    assert score_with_interval(pd.Series([0.1, 0.2, 0.3])) == "0.200 [0.000, 0.448]"
    assert score_with_interval(pd.Series([0.2])) == "0.200"


def test_datasets_of_one_size_are_ranked_in_random_order() -> None:
    candidates = pd.DataFrame(
        {"world": [0] * 4 + [1] * 4, "name": list("abcd") * 2, "by_size": [1, 1, 1, 4, 1, 2, 2, 2]}
    )
    # One of three in the first world, certain in the second.
    assert expected_share(candidates, "a", 1) == "0.67"
    # Two of three in the first world, one of three in the second.
    assert expected_share(candidates, "b", 2) == "0.50"
    assert expected_share(candidates, "d", 1) == "0.00"


def test_a_stored_table_is_loaded_when_nothing_is_measured(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1]})
    with pytest.raises(typer.BadParameter, match="no earlier call"):
        load_or_measure(tmp_path / "prove" / "x.parquet", None)
    assert load_or_measure(tmp_path / "prove" / "x.parquet", lambda: table).equals(table)
    assert load_or_measure(tmp_path / "prove" / "x.parquet", None).equals(table)


def test_the_efficiency_of_a_flat_rule_is_bounded() -> None:
    results = results_of({"random": FLAT, "flat": [0.2, 0.2, 0.2, 0.2]})
    assert label_efficiency(results, "footage-0", "flat") == 0.25


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_chooses_each_image_once(rule: str) -> None:
    pool = make_domain("pool", role="real_world", clips=7, frames=4, seed=1)
    training = make_domain("training", role="training", clips=5, frames=4, seed=2)
    order = RULES[rule](pool, training, None, 3)
    assert sorted(order) == list(range(28))
    assert (RULES[rule](pool, training, None, 3) == order).all()


def test_uncertain_footage_is_chosen_earlier() -> None:
    pool = make_domain("pool", role="real_world", clips=7, frames=4, seed=1)
    training = make_domain("training", role="training", clips=5, frames=4, seed=2)
    # Certain of the boxes in the first four clips only.
    certain = pool.detections["image"].isin(pool.images["image"].iloc[:16])
    pool = replace(pool, detections=pool.detections.assign(confidence=np.where(certain, 0.999, 0.5)))
    order = choose_next_by_uncertainty(pool, training, None, 3)
    assert sorted(order) == list(range(28))
    assert (order[:6] >= 16).sum() > (RULES["ours"](pool, training, None, 3)[:6] >= 16).sum()
    # Without detections all images have the same weight. Later ones may tie: the first eight are compared.
    without_detections = replace(
        pool, detections=pool.detections.head(0), detection_embeddings=pool.detection_embeddings[:0]
    )
    assert (
        choose_next_by_uncertainty(without_detections, training, None, 3)[:8]
        == RULES["ours"](without_detections, training, None, 3)[:8]
    ).all()


def test_random_by_clip_chooses_from_each_clip_once_first() -> None:
    pool = make_domain("pool", role="real_world", clips=7, frames=4, seed=1)
    order = RULES["random by clip"](pool, pool, None, 3)
    assert pool.images["group"].iloc[order[:7]].nunique() == 7


def test_recordings_have_the_planned_lengths() -> None:
    plan = plan_footage(5, mixed=False)
    assert [clip.frames for split, _, clip in plan.clips() if split == "train"] == list(LENGTHS)
    assert [clip.frames for split, _, clip in plan.clips() if split == "val"] == [TEST_FRAMES] * TEST_CLIPS
    assert len({name for _, name, _ in plan.clips()}) == len(plan.recordings)
    mixed = plan_footage(5, mixed=True)
    from_car = [clip.dials.pitch == 0 for split, _, clip in mixed.clips() if split == "train"]
    assert 0 < sum(from_car) < len(LENGTHS)
    assert all(clip.dials.pitch > 0 for split, _, clip in mixed.clips() if split != "train")


def test_the_last_size_is_forecast_only_if_it_is_the_best() -> None:
    rising = results_of({"random": [0.2, 0.3, 0.38, 0.44, 0.49]}, cases=1)
    table = forecast_last_sizes(rising, ["random"])
    assert table["needed"].tolist() == [160]
    falling = results_of({"random": [0.5, 0.4, 0.4, 0.4, 0.3]}, cases=1)
    assert forecast_last_sizes(falling, ["random"]).empty


def test_the_page_holds_every_result() -> None:
    curves = {rule: [0.2, 0.3, 0.38, 0.44, 0.49] for rule in RULES}
    results = pd.concat([results_of(curves), results_of(curves, kind="mixed")], ignore_index=True)
    names = ["same footage", "half-way", "irrelevant", "more of the same", "same footage, other labels"]
    candidates = pd.DataFrame(
        {
            "world": np.repeat([0, 1], 5),
            "rank": [1, 2, 3, 4, 5] * 2,
            "by_size": [1, 2, 3, 4, 5, 5, 4, 2, 3, 1],
            "name": names * 2,
            "covers": 0.5,
            "drawn": 1.0,
            "agrees": 0.4,
            "noticed": [n.endswith("labels") for n in names] * 2,
            "probed": 0.5,
            "probed_rank": [1, 2, 3, 4, 5] * 2,
        }
    )
    rounds = pd.DataFrame(
        {
            "case": ["footage-0", "footage-1"] * 3,
            "round": [1, 1, 2, 2, 2, 2],
            "rule": ["ours", "ours", "ours", "ours", "entropy", "entropy"],
            "boxes": [10, 12, 11, 11, 20, 21],
            "ap50": [0.3, 0.3, 0.4, 0.5, 0.41, 0.52],
        }
    )
    figure = curves_figure("curves", results)
    assert all(words in figure for words in ("pool of the footage", "random by clip", "none chosen"))
    assert "real images" not in figure
    text = " ".join(page(results, candidates, rounds).split())
    # Paired: differences of one and of two points, t with one degree of freedom 12.7 times 0.5.
    assert "| 2 | entropy | 20 | 0.465 [0.000, 1.000] | +1.5 [-4.9, +7.9] |" in text
    assert "| 1 | shiftscope next | 11 | 0.300 [0.300, 0.300] | |" in text
    assert "Rules tried: shiftscope next, random by clip, k-center, entropy. None is worth more" in text
    assert "| shiftscope next | 0.100 [0.100, 0.100] | 0.200 [0.200, 0.200], 10 boxes | " in text
    assert (
        "Ranks are those without a short training. The same kind of footage ranks first in **2 of 2" in text
    )
    assert (
        "footage ranks first in **2 of 2 [0.34, 1.00]** and the blurred images among the first two in **0**"
        in text
    )
    assert "among the first two in **0** of 2" in text
    assert "would rank first in a share of 0.50 and the blurred images among the first two in 0.50" in text
    assert "in a random order, in 0.20 and 0.40" in text
    assert "Other labels are reported in 2 of 2" in text
    assert "reported wrongly for 0 of 8" in text


def test_a_stored_result_of_other_images_or_weights_is_not_used(tmp_path: Path) -> None:
    weights = tmp_path / "best.pt"
    weights.write_bytes(b"weights")
    images = frame([{"image": name} for name in ("a", "b", "c")], {"image": "str"})
    source = Source("s", "yolo", ("pothole",), images, *(pd.DataFrame() for _ in range(3)))
    case = Case("footage-1", weights, 256, source, source, source, None, 1)
    job = Job(case, "ours", ("a",), 3, tmp_path / "ours-1")
    assert stored_ap50(job) is None
    job.folder.mkdir()
    (job.folder / "result.json").write_text(json.dumps({"ap50": 0.5, "key": key_of(job)}))
    assert stored_ap50(job) == 0.5
    assert stored_ap50(replace(job, chosen=("b",))) is None
    weights.write_bytes(b"others")
    assert stored_ap50(job) is None
