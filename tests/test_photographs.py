"""Causes planted into photographs: labels follow the pixels, halves share no recording, and the page counts
right.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import seaborn

from benchmarks import diagnoses
from benchmarks.photographs import (
    CASES,
    LARGER_BOXES,
    flatten,
    halves,
    make_night,
    redraw,
    show_smaller,
    spoil_labels,
    write_dataset,
)
from benchmarks.prove_photographs import (
    COLUMNS,
    FIGURE,
    PAGE,
    beside_simulated,
    draw_reliability,
    fit,
    left_out,
    page,
    read_rows,
    reliability,
    scored,
)
from datasets.source import open_source
from datasets.tables import CORNERS
from datasets.world import DASHCAM, Plan, build_world
from diagnostics.hypotheses import probability
from shiftscope import open_report
from tests.conftest import MainJob


def scene() -> tuple[np.ndarray, pd.DataFrame]:
    """A white box on black, and its annotation."""
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[60:120, 100:180] = 255
    return pixels, pd.DataFrame([{"label": 0, "x1": 100.0, "y1": 60.0, "x2": 180.0, "y2": 120.0}])


@pytest.mark.parametrize("change", [show_smaller, flatten])
def test_annotations_follow_the_pixels(change) -> None:
    pixels, boxes = change(*scene(), np.random.default_rng(0))
    rows, columns = np.nonzero(pixels[..., 0] > 200)
    drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert boxes[CORNERS].iloc[0].to_numpy() == pytest.approx(drawn, abs=2)
    assert pixels.shape == (240, 320, 3)


def test_a_margin_is_drawn_around_the_middle_and_stays_in_the_image() -> None:
    pixels, boxes = scene()
    _, drawn = redraw(pixels, boxes, np.random.default_rng(0))
    x1, y1, x2, y2 = drawn[CORNERS].iloc[0]
    assert (x2 - x1, y2 - y1) == pytest.approx((80 * LARGER_BOXES, 60 * LARGER_BOXES))
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == pytest.approx((140, 90))
    _, clipped = redraw(pixels, boxes.assign(x1=0.0), np.random.default_rng(0))
    assert clipped["x1"].iloc[0] == 0


def test_labels_are_dropped_and_moved_and_the_pixels_stay() -> None:
    pixels, boxes = scene()
    many = pd.concat([boxes] * 400, ignore_index=True)
    same, spoilt = spoil_labels(pixels, many, np.random.default_rng(0))
    assert (same == pixels).all()
    # Four standard errors of a share of 400.
    assert len(spoilt) / 400 == pytest.approx(0.65, abs=4 * 0.024)
    assert (spoilt["x1"] != 100).mean() == pytest.approx(0.2, abs=4 * 0.025)


def test_a_night_is_dark() -> None:
    pixels, boxes = scene()
    dark, same = make_night(pixels, boxes, np.random.default_rng(0))
    assert dark[60:120, 100:180].mean() == pytest.approx(255 / 8 * np.mean([1.2, 1.0, 0.85]), abs=1)
    assert same is boxes


@pytest.mark.slow
def test_halves_share_no_recording_and_are_written_as_a_dataset(tmp_path: Path) -> None:
    list(build_world(tmp_path / "w", Plan(DASHCAM, {"train": (2, 2), "val": (12, 2)}, seed=1)))
    source = open_source(str(tmp_path / "w"), cache=tmp_path)
    known, footage = halves(source, 0)
    assert not set(known["group"]) & set(footage["group"])
    assert len(known) + len(footage) == 24
    written = open_source(str(write_dataset(tmp_path / "out", source, footage, CASES[0], 0)), cache=tmp_path)
    assert len(written.images) == len(footage)
    assert written.images["group"].nunique() == footage["group"].nunique()
    annotations = source.annotations[source.annotations["image"].isin(footage["image"])]
    assert np.sort(written.annotations["x1"]) == pytest.approx(np.sort(annotations["x1"]), abs=0.01)
    first = cv2.imread(written.images["path"].iloc[0])
    assert first.shape[:2] == (footage["height"].iloc[0], footage["width"].iloc[0])


def test_the_page_counts_what_the_rows_say() -> None:
    def row(**values: object) -> dict:
        return {**dict.fromkeys(COLUMNS, ""), "planted": True, "images": 80, **values}

    rows = pd.DataFrame(
        [
            row(case="a", cause="scale", leading="scale", grade="established"),
            row(case="b", cause="none", leading="none", grade="established"),
            row(case="c", cause="domain_shift", kind="appearance", leading="domain_shift", leading_kind="viewpoint", grade="likely"),
            row(case="d", cause="label_error", leading="", grade="undecided"),
            row(case="e", planted=False, cause="domain_shift", leading="scale", grade="established"),
        ]
    )  # fmt: skip
    text = page(rows)

    def counts(words: str) -> str:
        return next(line for line in text.splitlines() if words in line)

    assert "| 0.67 [" in counts("right cause first, planted")
    assert "of 3 |" in counts("right cause first, planted")
    assert "| 0.00 [" in counts("pairs as they are")
    assert "| 0.67 [" in counts("where the cause is established")
    assert "| 0.00 [" in counts("right kind of a shift")
    assert "| undecided | undecided |" in text


def test_the_published_page_is_that_of_the_rows() -> None:
    rows = read_rows()
    assert PAGE.read_text(encoding="utf-8") == page(rows)
    # The proof on simulated worlds shows them beside.
    assert PAGE.with_name("proof.md").read_text(encoding="utf-8").endswith(beside_simulated(rows))
    with plt.rc_context():
        # As another test may have left it: a grid has lines of its own.
        seaborn.set_theme(style="whitegrid")
        drawn = draw_reliability(left_out(rows))
    assert FIGURE.read_text(encoding="utf-8").count("<use") == drawn.count("<use")


def test_the_stated_probability_is_fitted_to_the_rows() -> None:
    assert fit(read_rows()) == (probability.INTERCEPT, probability.SLOPE)
    assert int(100 * scored(read_rows())["score"].min()) / 100 == probability.LOWEST
    assert len(scored(read_rows())) == probability.CASES
    assert probability.right_at(probability.LOWEST - 0.01) is None
    assert 0.4 < probability.right_at(0.6) < probability.right_at(1.0) == probability.HIGHEST


def test_reliability_finds_a_curve_that_is_off() -> None:
    """Ten verdicts stated at 0.75, of which five are right: off by 0.25."""
    stated = pd.DataFrame({"stated": [0.75] * 10, "right": [True, False] * 5})
    lines, error = reliability(stated)
    assert error == pytest.approx(0.25)
    assert "0.50 [" in lines[0]


def test_each_detector_is_judged_by_the_others() -> None:
    def rows(detector: str, right: bool) -> list[dict]:
        named = {"leading": "scale", "cause": "scale" if right else "none", "detector": detector}
        named["ap50_real_world"] = 0.4
        return [{**named, "score": score} for score in (0.3, 0.6, 0.9)]

    table = pd.DataFrame([*rows("a", True), *rows("b", True), *rows("b", False), *rows("c", False)])
    judged = left_out(table).groupby("detector")["stated"].mean()
    # Without a itself, most of the others are wrong; without c, most are right.
    assert judged["a"] < 0.5 < judged["c"]


def test_diagnoses_are_those_of_the_report(
    small_job: MainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = diagnoses.Case("A rendered road", "It is seen from a drone.", "Right.")
    monkeypatch.setattr(diagnoses, "CASES", {"drone": case})
    monkeypatch.setattr(diagnoses, "PAGE", tmp_path / "diagnoses.md")
    monkeypatch.setattr(diagnoses, "FIGURE", tmp_path / "diagnoses.svg")
    diagnoses.main([f"drone={small_job.folder}"])
    text = (tmp_path / "diagnoses.md").read_text()
    verdict = next(d["verdict"] for d in small_job.record["domains"] if d["name"] == "drone")
    for statement in [verdict["next_step"], *(h["statement"] for h in verdict["hypotheses"])]:
        assert statement in text
    drawn = (tmp_path / "diagnoses.svg").read_text()
    assert all(name in drawn for name in verdict["interventions"])
    with pytest.raises(SystemExit, match="no verdict about a domain"):
        diagnoses.verdict_of(open_report(small_job.folder), "elsewhere")
