"""Reports of the first version (schema 1) are read wherever a command reads reports."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest

from datasets.errors import InputError
from reports.commands.forecast import forecast_labels
from reports.options import ReportOptions
from reports.page.reader import read_report
from reports.page.schema import upgrade
from tests.conftest import MainJob, run_script

# Written by hand from a report of version 0.1.0, cut down to one entry of each kind.
FIRST_VERSION = {
    "schema_version": 1,
    "request": {
        "run": "runs/train/mine",
        "weights": None,
        "in_domain": [None, "mine/data.yaml"],
        "real_world": [["drone", "flight.mp4"]],
        "predictions": [],
        "slices": [],
        "class_map": [["pot_hole", "pothole"]],
        "allow": ["elsewhere"],
        "trust": True,
        "corrections": True,
        "seed": 3,
    },
    "run": {
        "watched": [{"epoch": 1, "domain": "drone", "pictures": 60, "objects": 12, "speaking": 0.5}],
        "checkpoints": [{"epoch": 3, "domain": "drone", "pictures": 60, "objects": 12, "speaking": 0.25}],
    },
    "domains": [{"name": "drone", "role": "real_world"}],
    "verdict": {"primary": None, "hypotheses": [{"code": "scale", "status": "untested"}]},
    "shift": {
        "image": {"drone": {"n_home": 98, "n_away": 40, "groups_home": 9, "groups_away": 4, "mmd": 0.1}},
        "object": {},
        "look": {"drone": {"n_home": 98, "n_away": 40, "groups_home": 9, "groups_away": 4, "mmd": 0.2}},
        "factors": [{"domain": "drone", "name": "size_px", "home": 40.0, "away": 9.0}],
    },
    "evidence": {
        "threshold": {
            "confidence": 0.3,
            "away_confidence": 0.1,
            "home": 0.8,
            "away": 0.4,
            "carried": 0.2,
            "crossfitted": 0.35,
            "given": False,
        },
        "size_match": {"home_recall": 0.9, "matched_recall": 0.7, "away_recall": 0.3},
        "second_looks": {"tiles": {"before": 0.1, "after": 0.2}},
        "carried": {"epochs": [1, 9], "home": [0.1, 0.7], "away": [0.1, 0.2]},
    },
    "ladders": [{"measure": "AP50", "home": 0.8, "rungs": [{"name": "colours", "won": 0.1, "alone": 0.1}]}],
    "before": [{"domain": "drone", "before": "older", "pictures": 30, "ap50": 0.4, "ap50_before": 0.3}],
    "label_free": [{"domain": "drone", "with_box": 0.4, "home_with_box": 0.9, "boxes_per_image": 1.5}],
    "label_free_check": [{"family": "darker", "reading": 0.5, "truth": 0.6}],
    "few_labels": [{"domain": "drone", "pictures": 100}],
    "next": [{"rank": 1, "objects": 2}],
    "gallery": [{"kind": "hit", "look": 2}, {"kind": "missed", "look": 0}],
}


def test_every_renamed_key_is_found_under_its_new_name() -> None:
    new = upgrade(copy.deepcopy(FIRST_VERSION))
    assert new["schema_version"] == 2
    assert new["options"]["allow_root"] == ["elsewhere"]
    assert new["options"]["trust_checkpoint"] is True
    for entry in (*new["run"]["watched"], *new["run"]["checkpoints"]):
        assert (entry["images"], entry["annotations"]) == (60, 12)
        assert "detection_rate" in entry
    for space in ("image", "descriptors"):
        metrics = new["shift"][space]["drone"]
        assert (metrics["n_in_domain"], metrics["n_real_world"]) == (98, 40)
        assert (metrics["groups_in_domain"], metrics["groups_real_world"]) == (9, 4)
    assert new["shift"]["factors"][0]["in_domain"] == 40.0
    threshold = new["evidence"]["threshold"]
    assert (threshold["in_domain_f1"], threshold["real_world_f1"]) == (0.8, 0.2)
    assert (threshold["best_f1"], threshold["best_confidence"], threshold["crossfitted_f1"]) == (
        0.4,
        0.1,
        0.35,
    )
    assert new["evidence"]["size_match"]["in_domain_recall"] == 0.9
    assert new["evidence"]["interventions"]["tiles"]["before"] == 0.1
    assert new["evidence"]["carried_over"]["real_world"] == [0.1, 0.2]
    assert new["contributions"][0]["contributions"][0]["recovered"] == 0.1
    assert new["contributions"][0]["in_domain"] == 0.8
    assert new["earlier_run"][0]["earlier_run"] == "older"
    assert new["earlier_run"][0]["ap50_earlier_run"] == 0.3
    assert new["label_free"][0]["in_domain_detection_rate"] == 0.9
    assert new["label_free_check"][0]["estimate"] == 0.5
    assert new["gallery"] == [{"kind": "true_positive", "cluster": 2}, {"kind": "missed", "cluster": 0}]
    text = json.dumps(new)
    for word in ("home", "away", "pictures", "objects", "speaking", "rungs", "look", "reading"):
        assert f'"{word}' not in text, word


def test_the_options_of_an_old_report_can_be_used_again() -> None:
    options = ReportOptions.from_record(upgrade(copy.deepcopy(FIRST_VERSION))["options"])
    assert options.run == Path("runs/train/mine")
    assert options.real_world == (("drone", "flight.mp4"),)
    assert options.class_map == (("pot_hole", "pothole"),)
    assert options.allow_root == (Path("elsewhere"),)
    assert options.seed == 3


def test_the_current_version_stays_as_it_is() -> None:
    record = {"schema_version": 2, "domains": [], "home": "a key of the future"}
    assert upgrade(record) is record


def test_a_broken_old_report_is_an_input_error(tmp_path: Path) -> None:
    record = {**FIRST_VERSION, "ladders": 3}
    (tmp_path / "report.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="no report can be read there"):
        read_report(tmp_path)


@pytest.fixture(scope="module")
def first_version_report(small_job: MainJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small report as the first version would have left it: its names of tables, options and versions."""
    folder = tmp_path_factory.mktemp("old") / "report"
    shutil.copytree(small_job.folder, folder)
    for new, old in (("images", "pictures"), ("annotations", "boxes")):
        (folder / "tables" / f"{new}.parquet").rename(folder / "tables" / f"{old}.parquet")
    record = json.loads((folder / "report.json").read_text())
    record["schema_version"] = 1
    request = record.pop("options")
    request["allow"], request["trust"] = request.pop("allow_root"), request.pop("trust_checkpoint")
    record["request"] = request
    for name, former in (("contributions", "ladders"), ("earlier_run", "before")):
        record[former] = record.pop(name)
    (folder / "report.json").write_text(json.dumps(record))
    return folder


def test_domains_and_forecasts_are_read_from_an_old_report(
    first_version_report: Path, small_job: MainJob
) -> None:
    old, new = read_report(first_version_report), read_report(small_job.folder)
    for before, after in zip(old.domains, new.domains, strict=True):
        assert before.images.drop(columns="descriptor").equals(after.images.drop(columns="descriptor"))
        assert before.annotations.equals(after.annotations)
    labels = forecast_labels([first_version_report], 0.5).points["labels"].tolist()
    files = (small_job.cwd / "dashcam" / "labels" / "train").iterdir()
    assert labels == [sum(len(file.read_text().splitlines()) for file in files)]


@pytest.mark.slow
def test_an_old_report_is_rebuilt(first_version_report: Path, small_job: MainJob, tmp_path: Path) -> None:
    target = tmp_path / "runs" / "report" / "old"
    shutil.copytree(first_version_report, target)
    outcome = run_script(
        "app", "--rebuild", "--pull", "--json", cwd=small_job.cwd, SHIFTSCOPE_RUNS=str(tmp_path / "runs")
    )
    assert outcome.code == 0, outcome.stderr
    record = json.loads((target / "report.json").read_text())
    assert record["schema_version"] == 2
    assert record["slices"] == small_job.record["slices"]
