"""How many labels: curves of known shape are continued rightly, and what cannot be known is refused."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from datasets.errors import InputError
from datasets.world import DASHCAM, DRONE, Plan, build_world
from diagnostics.forecast import FAMILIES, FURTHEST, curves, forecast
from reports.commands.forecast import answer, forecast_labels, line, sentence
from tests.conftest import complaint, run_script

SIZES = np.array([20, 40, 80, 160, 320.0])


@pytest.mark.parametrize(
    ("curve", "needed"),
    [
        (lambda n: 0.7 - 1.2 * n**-0.5, 576),
        (lambda n: 0.1 + 0.08 * np.log(n), 1000),
        (lambda n: 0.8 * 2 / np.pi * np.arctan(n / 200), 700),
    ],
)
def test_a_curve_without_noise_is_continued(curve, needed: int) -> None:
    found = forecast(SIZES, curve(SIZES), float(curve(np.array(float(needed)))))
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 1.02 * needed
    assert found.high >= 0.98 * needed
    assert found.middle <= 1.5 * needed


@pytest.mark.parametrize("seed", range(10))
def test_with_noise_and_three_seeds_the_middle_is_within_a_factor_of_two(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = np.repeat(SIZES, 3)
    scores = 0.75 - 1.5 * sizes**-0.5 + rng.normal(0, 0.01, len(sizes))
    found = forecast(sizes, scores, 0.75 - 1.5 * 600**-0.5)
    assert found.middle is None or 300 <= found.middle <= 1200


def test_a_goal_that_was_reached_needs_no_curve() -> None:
    found = forecast(SIZES, np.array([0.1, 0.2, 0.3, 0.4, 0.5]), 0.25)
    assert (found.low, found.high, found.reached) == (80, 80, True)


def test_too_few_sizes_and_too_far_a_goal_are_refused() -> None:
    assert "4 are needed" in forecast(SIZES[:3], np.array([0.1, 0.2, 0.3]), 0.5).note
    flat = forecast(SIZES, np.array([0.30, 0.301, 0.302, 0.3025, 0.303]), 0.9)
    assert flat.low is None
    assert "too far to tell" in flat.note
    assert "ask again" in flat.note


def test_a_curve_that_falls_or_wobbles_is_never_answered_below_what_was_tried() -> None:
    falling = forecast(np.array([10, 20, 40, 80.0]), np.array([0.5, 0.45, 0.4, 0.35]), 0.4)
    assert falling.reached or falling.low is None or falling.low >= 80
    wobbling = forecast(np.array([10, 20, 40, 80.0]), np.array([0.2, 0.3, 0.5, 0.48]), 0.49)
    assert wobbling.low is None or wobbling.low >= 80


def test_families_rise_and_stay_below_one_within_their_bounds() -> None:
    n = np.geomspace(0.01, 400, 200)
    for name, (curve, low, high) in FAMILIES.items():
        middle = [min(max((a + b) / 2, 0.1), 1.0) for a, b in zip(low, high, strict=True)]
        assert (np.diff(curve(n, *middle)) >= -1e-12).all(), name


def test_a_csv_is_answered_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    rows = [f"{n:.0f},{0.7 - 1.2 * n**-0.5:.4f}" for n in SIZES]
    path.write_text("\n".join(["labels,ap50", *rows]))
    # 0.7 - 1.2 / sqrt(40) is .51.
    assert line(answer(path, 0.5)) == "AP50 0.50 was reached with 40 labels."
    # 0.64 takes 400 by the true law.
    found = answer(path, 0.64)
    assert found.low is not None
    # The goal was written with four digits.
    assert 320 <= found.low <= 405
    assert found.high >= 395
    assert line(found).startswith("AP50 0.64")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels,score\n1,0.2", "lacks the column ap50"),
        ("labels,ap50\n10,0.2\n20,abc", ":3: labels"),
        ("labels,ap50\n10,20", ":2: labels"),
        ("", "cannot be read as CSV"),
        ("labels,ap50\ninf,0.2", ":2: labels"),
    ],
)
def test_a_wrong_csv_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"curve\.csv") as error:
        answer(path, 0.5)
    assert message in str(error.value)


def test_the_curves_that_are_drawn_are_those_that_are_asked() -> None:
    scores = 0.7 - 1.2 * SIZES**-0.5
    drawn = curves(SIZES, scores)
    assert set(drawn["family"]) <= set(FAMILIES)
    power = drawn[drawn["family"] == "power law"]
    assert power["labels"].iloc[[0, -1]].tolist() == pytest.approx([20, FURTHEST * 320])
    assert power["score"].to_numpy() == pytest.approx(
        0.7 - 1.2 * power["labels"].to_numpy() ** -0.5, abs=0.005
    )
    assert curves(SIZES[:3], scores[:3]).empty


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """A report of a run on rendered worlds, as `shiftscope report` writes it: first/."""
    folder = tmp_path_factory.mktemp("place")
    list(build_world(folder / "in_domain", Plan(DASHCAM, {"train": (2, 3), "val": (2, 3)}, seed=1)))
    list(build_world(folder / "real_world", Plan(DRONE, {"val": (3, 4)}, seed=2)))
    (folder / "run" / "weights").mkdir(parents=True)
    shutil.copyfile(weights, folder / "run" / "weights" / "best.pt")
    (folder / "run" / "args.yaml").write_text(f"imgsz: 128\ndata: {folder / 'in_domain' / 'data.yaml'}\n")
    outcome = run_script(
        *("report", "--run", "run", "--real-world", "real_world", "--no-fiftyone", "--no-label-free"),
        *("--out", "first"),
        cwd=folder,
    )
    assert outcome.code == 0, outcome.stderr
    return folder


def rows_of(folder: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in folder.iterdir())


def edited(written: Path, **run: Any) -> dict[str, Any]:
    """Change report.json's "run" and return all of it."""
    record = json.loads((written / "report.json").read_text())
    record["run"] |= run
    (written / "report.json").write_text(json.dumps(record))
    return dict(record)


def another(place: Path, folder: Path, labels: int, ap50: float) -> Path:
    """The report, as that of another run would be: same images, another checkpoint, more boxes."""
    shutil.copytree(place / "first", folder)
    record = edited(folder, sha256=f"{labels:064x}", training_boxes=labels)
    for row in record["slices"]:
        if row["slice"] == "all" and row["domain"] == "real_world":
            row["ap50"] = ap50
    (folder / "report.json").write_text(json.dumps(record))
    return folder


def test_a_report_says_how_many_boxes_its_run_was_shown(place: Path) -> None:
    record = json.loads((place / "first" / "report.json").read_text())
    assert record["run"]["training_boxes"] == rows_of(place / "in_domain" / "labels" / "train") > 0
    assert [d["trained_on"] for d in record["domains"]] == [None, 0]
    assert forecast_labels([place / "first"], 0.5).points["labels"].tolist() == [
        record["run"]["training_boxes"]
    ]


def test_reports_say_what_a_table_of_the_same_points_says(place: Path, tmp_path: Path) -> None:
    points = [(int(n), round(0.7 - 1.2 * n**-0.5, 4)) for n in SIZES]
    reports = [another(place, tmp_path / str(n), n, ap50) for n, ap50 in points]
    table = tmp_path / "curve.csv"
    table.write_text("labels,ap50\n" + "".join(f"{n},{ap50}\n" for n, ap50 in points))
    outcome = run_script(
        # A folder or its report.json, in any order.
        *("forecast", str(reports[3] / "report.json"), *map(str, reports[:3]), str(reports[4])),
        *("--goal", "0.64", "--out", "drawn", "--json"),
        cwd=tmp_path,
    )
    assert outcome.code == 0, outcome.stderr
    said = json.loads(outcome.stdout)
    alone = json.loads(run_script("forecast", "curve.csv", "--goal", "0.64", "--json", cwd=tmp_path).stdout)
    assert {key: said[key] for key in alone} == alone
    assert alone["low"] is not None
    assert sorted((point["labels"], point["ap50"]) for point in said["points"]) == points
    # Of three clips there is no interval.
    assert {point["ap50_low"] for point in said["points"]} == {None}
    # What it wrote is a table that it reads, and a figure of its own.
    again = answer(tmp_path / "drawn" / "forecast.csv", 0.64)
    assert (again.low, again.high) == (alone["low"], alone["high"])
    svg = (tmp_path / "drawn" / "forecast.svg").read_text()
    ET.fromstring(svg)
    assert "boxes in training" in svg
    assert "var(--" not in svg
    outlook = forecast_labels(reports, 0.64)
    assert f"{alone['low']:,} and {alone['high']:,} boxes in training" in sentence(outlook)
    assert f"{alone['high'] - 320:,} more than the largest run was shown" in sentence(outlook)
    assert "1 size, 4 are needed" in sentence(forecast_labels(reports[:1], 0.64))


def fewer_images(folder: Path) -> None:
    path = folder / "tables" / "images.parquet"
    table = pd.read_parquet(path)
    table.drop(index=table.index[table["domain"] == "real_world"][0]).to_parquet(path, index=False)


def moved_box(folder: Path) -> None:
    path = folder / "tables" / "boxes.parquet"
    table = pd.read_parquet(path)
    table.loc[table.index[table["domain"] == "real_world"][0], "x1"] -= 3
    table.to_parquet(path, index=False)


def in_domain_box(folder: Path) -> None:
    """Home is not what the curve is about."""
    path = folder / "tables" / "boxes.parquet"
    table = pd.read_parquet(path)
    table.loc[table.index[table["domain"] == "in-domain"][0], "x1"] -= 3
    table.to_parquet(path, index=False)


def with_run(**run: Any) -> Callable[[Path], object]:
    return lambda folder: edited(folder, **run)


def with_domain(**values: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        record = edited(folder)
        record["domains"][1] |= values
        (folder / "report.json").write_text(json.dumps(record))

    return edit


def unmeasured(folder: Path) -> None:
    record = edited(folder)
    for row in record["slices"]:
        row["ap50"] = None
    (folder / "report.json").write_text(json.dumps(record))


def second_domain(folder: Path) -> None:
    record = edited(folder)
    record["domains"].append({**record["domains"][1], "name": "harbour"})
    (folder / "report.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (fewer_images, r"a/report\.json and .*b/report\.json: are about different images: 12 and 11 .*11 of them the same.*--real-world"),
        (moved_box, r"a/report\.json and .*b/report\.json: the labels of their real-world images differ"),
        (with_run(classes=["crater"]), r"a/report\.json and .*b/report\.json: their detectors know other classes"),
        (with_run(imgsz=640), r"at other sizes, 128 and 640 px; write one again with --imgsz"),
        (with_run(sha256=f"{100:064x}"), r"are about the same checkpoint; give one of them"),
        (with_run(training_boxes=50, parent_sha256=f"{100:064x}"), r"b/report\.json and .*a/report\.json: the first run went on from the second"),
        (with_run(training_boxes=None, weights=None), r"b/report\.json: was written from predictions"),
        (with_run(training_boxes=None, weights="gone/weights/best.pt"), r"does not say how many boxes.*give a CSV"),
        (with_domain(trained_on=3), r"b/report\.json: 3 of 12 images of away are from clips that its training shows"),
        (with_domain(role="in_domain"), r"b/report\.json: has no real-world domain; write it again with --real-world"),
        (unmeasured, r"b/report\.json: no AP50 was measured on away"),
        (second_domain, r"b/report\.json: has 2 real-world domains, away, harbour; choose one with --domain away"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_what_is_no_curve_of_one_thing_is_refused(
    place: Path, tmp_path: Path, edit: Callable[[Path], object], words: str
) -> None:
    first, second = another(place, tmp_path / "a", 100, 0.4), another(place, tmp_path / "b", 200, 0.5)
    assert len(forecast_labels([first, second], 0.6).points) == 2
    edit(second)
    with pytest.raises(InputError, match=words):
        forecast_labels([first, second], 0.6)


def test_a_domain_is_chosen_and_seeds_and_in_domain_do_not_matter(place: Path, tmp_path: Path) -> None:
    first, second = another(place, tmp_path / "a", 100, 0.4), another(place, tmp_path / "b", 101, 0.5)
    # Two runs of one size, one of which went on from the other with as many boxes.
    edited(second, training_boxes=100, parent_sha256=f"{100:064x}")
    second_domain(second)
    in_domain_box(second)
    points = forecast_labels([first, second], 0.6, "real_world").points
    assert points["labels"].tolist() == [100, 100]
    with pytest.raises(
        InputError, match=r"a/report\.json: has no real-world domain 'harbour'; its own: away"
    ):
        forecast_labels([first, second], 0.6, "harbour")


def test_an_older_report_is_asked_by_way_of_its_run(place: Path, tmp_path: Path) -> None:
    """The run as it lies is read, unless it is another by now."""
    shutil.copytree(place / "first", tmp_path / "old")
    shutil.copytree(place / "run", tmp_path / "run")
    record = edited(tmp_path / "old", weights=str(tmp_path / "run" / "weights" / "best.pt"))
    known = record["run"].pop("training_boxes")
    (tmp_path / "old" / "report.json").write_text(json.dumps(record))

    def labels() -> list[int]:
        return forecast_labels([tmp_path / "old"], 0.5).points["labels"].tolist()

    # An Ultralytics run: its data.yaml.
    assert labels() == [known]
    # One of ours of before boxes were counted, whose data has grown since; and one that says it.
    lineage = tmp_path / "run" / "shiftscope.json"
    lineage.write_text(json.dumps({"images": {"train": 5, "val": 6}}))
    with pytest.raises(InputError, match="its data is not what it was trained on any more"):
        labels()
    lineage.write_text(json.dumps({"images": {"train": 5, "val": 6}, "boxes": {"train": 77}}))
    assert labels() == [77]
    with (tmp_path / "run" / "weights" / "best.pt").open("ab") as handle:
        handle.write(b"x")
    with pytest.raises(InputError, match=r"best\.pt is another checkpoint by now"):
        labels()


def test_reports_and_tables_are_not_mixed(place: Path) -> None:
    (place / "curve.csv").write_text("labels,ap50\n1,0.1\n")
    mixed = run_script("forecast", "first", "curve.csv", "--goal", "0.5", cwd=place)
    assert mixed.code == 2
    assert "curve.csv: is no report; give folders that 'shiftscope report' wrote, or one CSV" in complaint(
        mixed
    )
    with pytest.raises(InputError, match=r"home.report\.json: no report can be read there"):
        forecast_labels([place / "in_domain"], 0.5)
    with pytest.raises(InputError, match="--domain away: goes with reports"):
        forecast_labels([place / "curve.csv"], 0.5, "real_world")
