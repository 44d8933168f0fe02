"""Forecasts of labels: curves of known shape are continued correctly, and guesses are refused."""

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
from diagnostics.forecast import FAMILIES, MAX_EXTRAPOLATION, Forecast, fit_curves, forecast
from reports.commands.forecast import forecast_labels, sentence
from tests.conftest import complaint, run_in_process, run_script

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
    answer = forecast(SIZES, curve(SIZES), float(curve(np.array(float(needed)))))
    assert answer.low is not None
    assert answer.high is not None
    assert answer.low <= 1.02 * needed
    assert answer.high >= 0.98 * needed
    assert answer.middle <= 1.5 * needed


@pytest.mark.parametrize("seed", range(10))
def test_with_noise_and_three_seeds_the_middle_is_within_a_factor_of_two(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = np.repeat(SIZES, 3)
    scores = 0.75 - 1.5 * sizes**-0.5 + rng.normal(0, 0.01, len(sizes))
    answer = forecast(sizes, scores, 0.75 - 1.5 * 600**-0.5)
    assert answer.middle is None or 300 <= answer.middle <= 1200


def test_a_goal_that_is_reached_needs_no_curve() -> None:
    answer = forecast(SIZES, np.array([0.1, 0.2, 0.3, 0.4, 0.5]), 0.25)
    assert (answer.low, answer.high, answer.reached) == (80, 80, True)


def test_too_few_sizes_and_too_high_a_goal_are_refused() -> None:
    assert "4 are needed" in forecast(SIZES[:3], np.array([0.1, 0.2, 0.3]), 0.5).note
    flat = forecast(SIZES, np.array([0.30, 0.301, 0.302, 0.3025, 0.303]), 0.9)
    assert flat.low is None
    assert "too far from 320 to estimate" in flat.note
    assert "forecast again" in flat.note


def test_a_falling_or_wobbling_curve_gives_no_answer_below_the_largest_size() -> None:
    falling = forecast(np.array([10, 20, 40, 80.0]), np.array([0.5, 0.45, 0.4, 0.35]), 0.4)
    assert falling.reached or falling.low is None or falling.low >= 80
    wobbling = forecast(np.array([10, 20, 40, 80.0]), np.array([0.2, 0.3, 0.5, 0.48]), 0.49)
    assert wobbling.low is None or wobbling.low >= 80


def test_families_rise_and_stay_below_one_within_their_bounds() -> None:
    n = np.geomspace(0.01, 400, 200)
    for name, (curve, low, high) in FAMILIES.items():
        middle = [min(max((a + b) / 2, 0.1), 1.0) for a, b in zip(low, high, strict=True)]
        assert (np.diff(curve(n, *middle)) >= -1e-12).all(), name


def forecast_csv(path: Path, goal: float) -> Forecast:
    return forecast_labels([path], goal).forecast


def test_a_csv_is_answered_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    rows = [f"{n:.0f},{0.7 - 1.2 * n**-0.5:.4f}" for n in SIZES]
    path.write_text("\n".join(["labels,ap50", *rows]))
    # 0.7 - 1.2 / sqrt(40) is 0.51.
    assert sentence(forecast_labels([path], 0.5)) == "AP50 0.50 was reached with 40 labels."
    # 0.64 takes 400 labels by the true law.
    answer = forecast_csv(path, 0.64)
    assert answer.low is not None
    # The scores are written with four digits.
    assert 320 <= answer.low <= 405
    assert answer.high >= 395
    assert sentence(forecast_labels([path], 0.64)).startswith("AP50 0.64")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels,score\n1,0.2", "lacks the column ap50"),
        ("labels,ap50\n10,0.2\n20,abc", ":3: labels"),
        ("labels,ap50\n10,20", ":2: labels"),
        ("", "is empty"),
        ("labels,ap50\ninf,0.2", ":2: labels"),
    ],
)
def test_an_invalid_csv_is_reported_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"curve\.csv") as error:
        forecast_csv(path, 0.5)
    assert message in str(error.value)


def test_the_drawn_curves_are_those_of_the_forecast() -> None:
    scores = 0.7 - 1.2 * SIZES**-0.5
    curves = fit_curves(SIZES, scores)
    assert set(curves["family"]) <= set(FAMILIES)
    power = curves[curves["family"] == "power law"]
    assert power["labels"].iloc[[0, -1]].tolist() == pytest.approx([20, MAX_EXTRAPOLATION * 320])
    assert power["score"].to_numpy() == pytest.approx(
        0.7 - 1.2 * power["labels"].to_numpy() ** -0.5, abs=0.005
    )
    assert fit_curves(SIZES[:3], scores[:3]).empty


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """A folder with a run, rendered domains, and a report on them in first/."""
    folder = tmp_path_factory.mktemp("forecast")
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


def count_lines(labels: Path) -> int:
    """Lines of all files in a folder of labels."""
    return sum(len(file.read_text().splitlines()) for file in labels.iterdir())


def edit_run(report: Path, **run: Any) -> dict[str, Any]:
    """Change "run" in report.json and return the whole record."""
    record = json.loads((report / "report.json").read_text())
    record["run"] |= run
    (report / "report.json").write_text(json.dumps(record))
    return dict(record)


def copy_report(folder: Path, report: Path, labels: int, ap50: float) -> Path:
    """Copy the first report as that of another run: same images, another checkpoint, more boxes."""
    shutil.copytree(folder / "first", report)
    record = edit_run(report, sha256=f"{labels:064x}", training_boxes=labels)
    for row in record["slices"]:
        if row["slice"] == "all" and row["domain"] == "real_world":
            row["ap50"] = ap50
    (report / "report.json").write_text(json.dumps(record))
    return report


@pytest.mark.slow
def test_a_report_contains_the_number_of_training_boxes(folder: Path) -> None:
    record = json.loads((folder / "first" / "report.json").read_text())
    assert record["run"]["training_boxes"] == count_lines(folder / "in_domain" / "labels" / "train") > 0
    assert [d["trained_on"] for d in record["domains"]] == [None, 0]
    assert forecast_labels([folder / "first"], 0.5).points["labels"].tolist() == [
        record["run"]["training_boxes"]
    ]


@pytest.mark.slow
def test_reports_give_the_forecast_of_a_table_of_the_same_points(folder: Path, tmp_path: Path) -> None:
    points = [(int(n), round(0.7 - 1.2 * n**-0.5, 4)) for n in SIZES]
    reports = [copy_report(folder, tmp_path / str(n), n, ap50) for n, ap50 in points]
    table = tmp_path / "curve.csv"
    table.write_text("labels,ap50\n" + "".join(f"{n},{ap50}\n" for n, ap50 in points))
    outcome = run_in_process(
        # A folder or its report.json, in any order.
        *("forecast", str(reports[3] / "report.json"), *map(str, reports[:3]), str(reports[4])),
        *("--goal", "0.64", "--out", "drawn", "--json"),
        cwd=tmp_path,
    )
    assert outcome.code == 0, outcome.stderr
    result = json.loads(outcome.stdout)
    alone = json.loads(
        run_in_process("forecast", "curve.csv", "--goal", "0.64", "--json", cwd=tmp_path).stdout
    )
    assert {key: result[key] for key in alone} == alone
    assert alone["low"] is not None
    assert sorted((point["labels"], point["ap50"]) for point in result["points"]) == points
    # Three clips give no interval.
    assert {point["ap50_low"] for point in result["points"]} == {None}
    # It wrote a table that it reads again, and a figure that stands alone.
    again = forecast_csv(tmp_path / "drawn" / "forecast.csv", 0.64)
    assert (again.low, again.high) == (alone["low"], alone["high"])
    svg = (tmp_path / "drawn" / "forecast.svg").read_text()
    ET.fromstring(svg)
    assert "boxes in training" in svg
    assert "var(--" not in svg
    outlook = forecast_labels(reports, 0.64)
    assert f"{alone['low']:,} and {alone['high']:,} boxes in training" in sentence(outlook)
    assert f"{alone['high'] - 320:,} more than in the largest run" in sentence(outlook)
    assert "1 size, 4 are needed" in sentence(forecast_labels(reports[:1], 0.64))


def remove_image(report: Path) -> None:
    path = report / "tables" / "images.parquet"
    table = pd.read_parquet(path)
    table.drop(index=table.index[table["domain"] == "real_world"][0]).to_parquet(path, index=False)


def move_box(report: Path) -> None:
    path = report / "tables" / "annotations.parquet"
    table = pd.read_parquet(path)
    table.loc[table.index[table["domain"] == "real_world"][0], "x1"] -= 3
    table.to_parquet(path, index=False)


def move_in_domain_box(report: Path) -> None:
    """In-domain images do not enter the curve."""
    path = report / "tables" / "annotations.parquet"
    table = pd.read_parquet(path)
    table.loc[table.index[table["domain"] == "in-domain"][0], "x1"] -= 3
    table.to_parquet(path, index=False)


def with_run(**run: Any) -> Callable[[Path], object]:
    return lambda report: edit_run(report, **run)


def with_domain(**values: Any) -> Callable[[Path], None]:
    def edit(report: Path) -> None:
        record = edit_run(report)
        record["domains"][1] |= values
        (report / "report.json").write_text(json.dumps(record))

    return edit


def remove_ap50(report: Path) -> None:
    record = edit_run(report)
    for row in record["slices"]:
        row["ap50"] = None
    (report / "report.json").write_text(json.dumps(record))


def add_domain(report: Path) -> None:
    record = edit_run(report)
    record["domains"].append({**record["domains"][1], "name": "harbour"})
    (report / "report.json").write_text(json.dumps(record))


REFUSED = [
    (
        remove_image,
        r"a/report\.json and .*b/report\.json: are about different images: 12 and 11 .*11 of them the same"
        r".*--real-world",
    ),
    (
        move_box,
        r"a/report\.json and .*b/report\.json: the labels of their real-world images differ",
    ),
    (
        with_run(classes=["crater"]),
        r"a/report\.json and .*b/report\.json: their detectors have different classes",
    ),
    (with_run(imgsz=640), r"used different image sizes, 128 and 640 px; write one again with --imgsz"),
    (with_run(sha256=f"{100:064x}"), r"are about the same checkpoint; give one of them"),
    (
        with_run(training_boxes=50, parent_sha256=f"{100:064x}"),
        r"b/report\.json and .*a/report\.json: the first run continued the second",
    ),
    (with_run(training_boxes=None, weights=None), r"b/report\.json: was written from predictions"),
    (
        with_run(training_boxes=None, weights="gone/weights/best.pt"),
        r"does not contain the number of boxes in training.*give a CSV",
    ),
    (
        with_domain(trained_on=3),
        r"b/report\.json: 3 of 12 images of real_world are from clips in the training data",
    ),
    (
        with_domain(role="in_domain"),
        r"b/report\.json: has no real-world domain; write it again with --real-world",
    ),
    (remove_ap50, r"b/report\.json: AP50 on real_world was not measured"),
    (
        add_domain,
        r"b/report\.json: has 2 real-world domains, real_world, harbour; "
        r"choose one with --domain real_world",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("edit", "words"), REFUSED, ids=lambda value: getattr(value, "__name__", None))
def test_reports_that_do_not_form_one_curve_are_refused(
    folder: Path, tmp_path: Path, edit: Callable[[Path], object], words: str
) -> None:
    first = copy_report(folder, tmp_path / "a", 100, 0.4)
    second = copy_report(folder, tmp_path / "b", 200, 0.5)
    assert len(forecast_labels([first, second], 0.6).points) == 2
    edit(second)
    with pytest.raises(InputError, match=words):
        forecast_labels([first, second], 0.6)


@pytest.mark.slow
def test_a_domain_is_chosen_and_seeds_and_in_domain_do_not_matter(folder: Path, tmp_path: Path) -> None:
    first = copy_report(folder, tmp_path / "a", 100, 0.4)
    second = copy_report(folder, tmp_path / "b", 101, 0.5)
    # Two runs of one size, one of which continued the other with as many boxes.
    edit_run(second, training_boxes=100, parent_sha256=f"{100:064x}")
    add_domain(second)
    move_in_domain_box(second)
    points = forecast_labels([first, second], 0.6, "real_world").points
    assert points["labels"].tolist() == [100, 100]
    with pytest.raises(
        InputError, match=r"a/report\.json: has no real-world domain 'harbour'; it has real_world"
    ):
        forecast_labels([first, second], 0.6, "harbour")


@pytest.mark.slow
def test_boxes_of_an_older_report_are_counted_from_its_run(folder: Path, tmp_path: Path) -> None:
    """The run folder is read unless it holds another run by now."""
    report, run = tmp_path / "old", tmp_path / "run"
    shutil.copytree(folder / "first", report)
    shutil.copytree(folder / "run", run)
    record = edit_run(report, weights=str(run / "weights" / "best.pt"))
    boxes = record["run"].pop("training_boxes")
    (report / "report.json").write_text(json.dumps(record))

    def labels() -> list[int]:
        return forecast_labels([report], 0.5).points["labels"].tolist()

    # An Ultralytics run: boxes are counted from its data.yaml.
    assert labels() == [boxes]
    # One of our runs that lacks the number and whose data has grown since; then one that has it.
    lineage = run / "shiftscope.json"
    lineage.write_text(json.dumps({"images": {"train": 5, "val": 6}}))
    with pytest.raises(InputError, match="its data has changed since training"):
        labels()
    lineage.write_text(json.dumps({"images": {"train": 5, "val": 6}, "boxes": {"train": 77}}))
    assert labels() == [77]
    with (run / "weights" / "best.pt").open("ab") as handle:
        handle.write(b"x")
    with pytest.raises(InputError, match=r"best\.pt is another checkpoint now"):
        labels()


@pytest.mark.slow
def test_reports_and_tables_are_not_mixed(folder: Path) -> None:
    (folder / "curve.csv").write_text("labels,ap50\n1,0.1\n")
    mixed = run_in_process("forecast", "first", "curve.csv", "--goal", "0.5", cwd=folder)
    assert mixed.code == 2
    expected = "curve.csv: not a report; give folders that 'shiftscope report' wrote, or a single CSV"
    assert expected in complaint(mixed)
    with pytest.raises(InputError, match=r"in_domain.report\.json: no report can be read"):
        forecast_labels([folder / "in_domain"], 0.5)
    with pytest.raises(InputError, match="--domain real_world: applies to reports"):
        forecast_labels([folder / "curve.csv"], 0.5, "real_world")
