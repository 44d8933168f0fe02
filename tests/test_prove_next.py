"""The figures of `make prove-next` count what they say, and every rule chooses each image once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer

from benchmarks.next_page import (
    curves_figure,
    efficiency,
    expected_share,
    forecasts,
    of_cases,
    page,
    summary,
    tried,
    verdict,
)
from benchmarks.next_worlds import LENGTHS, RULES, TEST_CLIPS, TEST_FRAMES, Case, footage, where_unsure
from benchmarks.prove_next import Job, kept, kept_or_found, key_of
from benchmarks.simulated import make_domain
from datasets.tables import Source, frame


def results_of(curves: dict[str, list[float]], cases: int = 3, kind: str = "footage") -> pd.DataFrame:
    """Every rule with 10, 20, 40, 80 boxes in 2, 4, 8, 16 images."""
    rows = []
    for case in range(cases):
        rows.append(("start", 0, 0, 0.1, f"{kind}-{case}"))
        for rule, scores in curves.items():
            rows += [(rule, 2 * 2**k, 10 * 2**k, score, f"{kind}-{case}") for k, score in enumerate(scores)]
    return pd.DataFrame(rows, columns=["rule", "images", "boxes", "ap50", "case"])


FLAT = [0.2, 0.3, 0.4, 0.5]


def test_a_rule_that_is_one_doubling_ahead_is_worth_twice_the_labels() -> None:
    results = results_of({"random": FLAT, "ahead": [0.3, 0.4, 0.5, 0.6], "behind": [0.1, 0.2, 0.3, 0.4]})
    # log2(1 + n) and not log2(n): 81 / 41.
    assert efficiency(results, "footage-0", "ahead") == pytest.approx(81 / 41, rel=0.01)
    assert efficiency(results, "footage-0", "behind") == pytest.approx(41 / 81, rel=0.05)
    assert efficiency(results, "footage-0", "random") == pytest.approx(1.0)
    found = summary(results, ["random", "ahead", "behind"]).set_index("rule")
    assert found.loc["ahead", "wins"] == 3
    assert found.loc["behind", "wins"] == 0
    assert found.loc["ahead", "gained"] == pytest.approx(0.1, abs=0.01)
    assert found.loc["random", "gained"] == 0
    assert found.loc["ahead", "times_low"] > 1
    assert "worth **2.0 times the labels" in verdict(results.replace({"rule": {"ahead": "ours"}}))
    assert "**harm**" in verdict(results.replace({"rule": {"behind": "ours"}}))
    same = results[results["rule"] == "random"].assign(rule="ours")
    assert "no better than random" in verdict(pd.concat([results, same]))
    assert tried(results, ["ahead", "behind"]) == (
        "Tried: ahead, behind. With an interval above 1: ahead; not so: behind."
    )


def test_a_few_cases_have_wide_intervals() -> None:
    # Student's t with two degrees of freedom: 4.303 standard errors of 0.01 / sqrt(3).
    assert of_cases(pd.Series([0.19, 0.2, 0.21])) == "0.200 (0.175 to 0.225)"
    assert of_cases(pd.Series([0.1, 0.2, 0.3])) == "0.200 (0.000 to 0.448)"
    assert of_cases(pd.Series([0.2])) == "0.200"


def test_sets_of_one_size_stand_in_any_order() -> None:
    offers = pd.DataFrame(
        {"world": [0] * 4 + [1] * 4, "name": list("abcd") * 2, "by_size": [1, 1, 1, 4, 1, 2, 2, 2]}
    )
    # One of three in the one, certainly in the other.
    assert expected_share(offers, "a", 1) == "0.67"
    # Two of three, and one place for three.
    assert expected_share(offers, "b", 2) == "0.50"
    assert expected_share(offers, "d", 1) == "0.00"


def test_of_what_none_is_asked_for_the_kept_stands(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1]})
    with pytest.raises(typer.BadParameter, match="no earlier call"):
        kept_or_found(tmp_path / "prove" / "x.parquet", None)
    assert kept_or_found(tmp_path / "prove" / "x.parquet", lambda: table).equals(table)
    assert kept_or_found(tmp_path / "prove" / "x.parquet", None).equals(table)


def test_a_rule_that_never_gets_there_is_bounded() -> None:
    results = results_of({"random": FLAT, "flat": [0.2, 0.2, 0.2, 0.2]})
    assert efficiency(results, "footage-0", "flat") == 0.25


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_chooses_each_image_once(rule: str) -> None:
    pool = make_domain("pool", role="real_world", clips=7, frames=4, seed=1)
    training = make_domain("training", role="training", clips=5, frames=4, seed=2)
    order = RULES[rule](pool, training, None, 3)
    assert sorted(order) == list(range(28))
    assert (RULES[rule](pool, training, None, 3) == order).all()


def test_where_the_detector_is_unsure_counts_more() -> None:
    pool = make_domain("pool", role="real_world", clips=7, frames=4, seed=1)
    training = make_domain("training", role="training", clips=5, frames=4, seed=2)
    # Sure of the boxes in the first four clips, of none in the others.
    sure = pool.detections["image"].isin(pool.images["image"].iloc[:16])
    pool = replace(pool, detections=pool.detections.assign(confidence=np.where(sure, 0.999, 0.5)))
    order = where_unsure(pool, training, None, 3)
    assert sorted(order) == list(range(28))
    assert (order[:6] >= 16).sum() > (RULES["ours"](pool, training, None, 3)[:6] >= 16).sum()
    # Nothing seen anywhere: no image counts more than another. (Later on, two images that stand for each other only are worth the same.)
    blind = replace(
        pool, detections=pool.detections.head(0), detection_embeddings=pool.detection_embeddings[:0]
    )
    assert (where_unsure(blind, training, None, 3)[:8] == RULES["ours"](blind, training, None, 3)[:8]).all()


def test_taking_clips_in_turn_takes_each_once_first() -> None:
    pool = make_domain("pool", role="real_world", clips=7, frames=4, seed=1)
    order = RULES["random by clip"](pool, pool, None, 3)
    assert pool.images["group"].iloc[order[:7]].nunique() == 7


def test_recordings_are_as_long_as_they_say() -> None:
    plan = footage(5, mixed=False)
    assert [clip.frames for split, _, clip in plan.clips() if split == "train"] == list(LENGTHS)
    assert [clip.frames for split, _, clip in plan.clips() if split == "val"] == [TEST_FRAMES] * TEST_CLIPS
    assert len({name for _, name, _ in plan.clips()}) == len(plan.recordings)
    mixed = footage(5, mixed=True)
    from_car = [clip.dials.pitch == 0 for split, _, clip in mixed.clips() if split == "train"]
    assert 0 < sum(from_car) < len(LENGTHS)
    assert all(clip.dials.pitch > 0 for split, _, clip in mixed.clips() if split != "train")


def test_forecasts_are_asked_for_the_last_size_only_where_it_is_the_best() -> None:
    rising = results_of({"random": [0.2, 0.3, 0.38, 0.44, 0.49]}, cases=1)
    found = forecasts(rising, ["random"])
    assert found["needed"].tolist() == [160]
    assert forecasts(results_of({"random": [0.5, 0.4, 0.4, 0.4, 0.3]}, cases=1), ["random"]).empty


def test_the_page_says_all_of_it() -> None:
    curves = {rule: [0.2, 0.3, 0.38, 0.44, 0.49] for rule in RULES}
    results = pd.concat([results_of(curves), results_of(curves, kind="mixed")], ignore_index=True)
    names = ["same footage", "half-way", "irrelevant", "more of the same", "same footage, other labels"]
    offers = pd.DataFrame(
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
    later = pd.DataFrame(
        {
            "case": ["footage-0", "footage-1"] * 3,
            "round": [1, 1, 2, 2, 2, 2],
            "rule": ["ours", "ours", "ours", "ours", "entropy", "entropy"],
            "boxes": [10, 12, 11, 11, 20, 21],
            "ap50": [0.3, 0.3, 0.4, 0.5, 0.41, 0.52],
        }
    )
    drawn = curves_figure("curves", results)
    assert all(words in drawn for words in ("the pool is the footage", "random by clip", "none chosen"))
    assert "photographs" not in drawn
    text = page(results, offers, later)
    said = " ".join(text.split())
    # Paired: differences of one and of two points, t with one degree of freedom 12.7 times .5.
    assert "| 2 | entropy | 20 | 0.465 (0.000 to 1.000) | +1.5 (-4.9 to +7.9) |" in said
    assert "| 1 | ours | 11 | 0.300 (0.300 to 0.300) | |" in said
    assert "Tried: ours, random by clip, k-center, entropy. None of them is worth more" in said
    assert "| ours | 0.100 (0.100 to 0.100) | 0.200 (0.200 to 0.200), 10 boxes | " in said
    assert "Places are those without a training. The same footage stands first in **2 of 2" in said
    assert (
        "the same footage stands first in **2 of 2 (0.34 to 1.00)** and the smeared images among the first two in **0**"
        in said
    )
    assert "among the first two in **0** of 2" in said
    assert (
        "would stand first in a share of 0.50 and the smeared images among the first two in 0.50; in an order drawn at random, in 0.20 and 0.40"
        in said
    )
    assert "Other labels are noticed in 2 of 2" in said
    assert "seen where there are none in 0 of 8" in said


def test_a_result_of_other_images_is_not_taken_for_this_one(tmp_path: Path) -> None:
    weights = tmp_path / "best.pt"
    weights.write_bytes(b"weights")
    images = frame([{"image": name} for name in ("a", "b", "c")], {"image": "str"})
    source = Source("s", "yolo", ("pothole",), images, *(pd.DataFrame() for _ in range(3)))
    case = Case("footage-1", weights, 256, source, source, source, None, 1)
    job = Job(case, "ours", ("a",), 3, tmp_path / "ours-1")
    assert kept(job) is None
    job.folder.mkdir()
    (job.folder / "result.json").write_text(json.dumps({"ap50": 0.5, "key": key_of(job)}))
    assert kept(job) == 0.5
    assert kept(replace(job, chosen=("b",))) is None
    weights.write_bytes(b"others")
    assert kept(job) is None
