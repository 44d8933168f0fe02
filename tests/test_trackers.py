"""Reports in experiment trackers: MLflow and TensorBoard read back with their own libraries, the others by
what they are told.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reports.commands.log import entry_of, log_report
from reports.options import LogOptions
from reports.progress import Reporter
from tests.conftest import MainJob, run_script


def expected_metrics(job: MainJob) -> dict[str, float]:
    """AP50 of each domain, from report.json by hand."""
    return {
        f"{row['domain']}/ap50": row["ap50"]
        for row in job.record["slices"]
        if row["slice"] == "all" and row["ap50"] is not None
    }


@pytest.mark.slow
def test_mlflow_gives_back_what_was_logged(small_job: MainJob, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    store = {"MLFLOW_TRACKING_URI": (tmp_path / "mlruns").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    outcome = run_script(
        "log", str(small_job.folder), "--to", "mlflow", "--project", "roads", "--name", "first", cwd=tmp_path, **store
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.items():
            patch.setenv(name, value)
        client = MlflowClient(store["MLFLOW_TRACKING_URI"])
        experiment = client.get_experiment_by_name("roads")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.run_name == "first"
        assert run.info.run_id in outcome.stdout
        for name, value in expected_metrics(small_job).items():
            assert run.data.metrics[name] == pytest.approx(value)
        assert run.data.params["sha256"] == small_job.record["run"]["sha256"]
        assert "verdict.drone" in run.data.tags
        kept = Path(client.download_artifacts(run.info.run_id, ""))
    assert (kept / "report.html").read_bytes() == (small_job.folder / "report.html").read_bytes()
    tables = {path.name for path in (small_job.folder / "tables").iterdir()}
    assert {path.name for path in (kept / "tables").iterdir()} == tables


@pytest.mark.slow
def test_tensorboard_gives_back_what_was_logged(small_job: MainJob, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outcome = run_script("log", str(small_job.folder), "--to", "tensorboard", cwd=tmp_path)
    assert outcome.code == 0, outcome.stderr
    folder = tmp_path / "runs" / "tensorboard" / "shiftscope" / small_job.folder.name
    events = EventAccumulator(str(folder)).Reload()
    for name, value in expected_metrics(small_job).items():
        assert events.Scalars(name)[0].value == pytest.approx(value, rel=1e-6)


class Recorder:
    """Takes any call and any attribute, and keeps the calls as (path, arguments)."""

    def __init__(self, calls: list[tuple[str, tuple, dict]], path: str = "") -> None:
        self.calls, self.path = calls, path

    def __getattr__(self, name: str) -> Recorder:
        return Recorder(self.calls, f"{self.path}.{name}".lstrip("."))

    def __call__(self, *arguments: Any, **named: Any) -> Recorder:
        self.calls.append((self.path, arguments, named))
        return Recorder(self.calls, self.path)


@pytest.mark.parametrize(
    ("tracker", "module", "metric", "last"),
    [
        ("wandb", "wandb", "init.log", "init.finish"),
        ("clearml", "clearml", "Task.init.get_logger.report_single_value", "Task.init.close"),
        ("comet", "comet_ml", "start.log_metrics", "start.end"),
    ],
)
def test_other_trackers_are_told_every_number(
    small_job: MainJob, monkeypatch: pytest.MonkeyPatch, tracker: str, module: str, metric: str, last: str
) -> None:
    calls: list[tuple[str, tuple, dict]] = []
    monkeypatch.setitem(sys.modules, module, Recorder(calls))  # type: ignore[arg-type]
    (line,) = log_report(LogOptions(report=small_job.folder, to=(tracker,)), Reporter())
    assert line
    told: dict[str, float] = {}
    for path, arguments, _ in calls:
        if path == metric:
            told |= {arguments[0]: arguments[1]} if len(arguments) == 2 else arguments[0]
    assert expected_metrics(small_job).items() <= told.items()
    assert any(path == last for path, *_ in calls)
    named = json.dumps(
        [[repr(a) for a in arguments] + [repr(n) for n in named.values()] for _, arguments, named in calls]
    )
    for file in ("report.html", "report.json", "ledger.csv"):
        assert file in named, "every file is handed over"


def test_only_what_the_report_wrote_is_handed_over(small_job: MainJob, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(small_job.folder, folder)
    for name in ("secrets.env", "tables/notes.txt", "images/private.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine", encoding="utf-8")
    record = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    entry = entry_of(folder, record, LogOptions(report=folder, to=("mlflow",)))
    written = {
        path.relative_to(small_job.folder).as_posix()
        for path in small_job.folder.rglob("*")
        if path.is_file()
    }
    assert {*entry.files, entry.page.name} == {name for name in written if not name.startswith(".")}


@pytest.mark.slow
def test_what_goes_wrong_is_one_line(
    small_job: MainJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report = str(small_job.folder)
    outcome = run_script("log", report, cwd=tmp_path)
    assert (outcome.code, "give --to mlflow" in outcome.stderr) == (2, True)
    outcome = run_script("log", report, "--to", "neptune", cwd=tmp_path)
    assert (outcome.code, "there are: mlflow, tensorboard, wandb, clearml, comet" in outcome.stderr) == (
        2,
        True,
    )
    outcome = run_script("log", report, "--to", "wandb", cwd=tmp_path)
    assert (outcome.code, "pip install wandb" in outcome.stderr) == (3, True)
    assert "metrics" not in outcome.stdout + outcome.stderr, "nothing is announced that cannot be sent"

    def refuse(**_: object) -> None:
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=refuse))  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"wandb refused the report: no route to host$"):
        log_report(LogOptions(report=small_job.folder, to=("wandb",)), Reporter())


def test_metrics_for_dvc_stand_beside_the_report(small_job: MainJob) -> None:
    metrics = json.loads((small_job.folder / "metrics.json").read_text(encoding="utf-8"))
    for name, value in expected_metrics(small_job).items():
        domain, _, key = name.partition("/")
        assert metrics[domain][key] == pytest.approx(value)
    assert all(isinstance(value, float) for found in metrics.values() for value in found.values())
    with (small_job.folder / "sweep.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = next(entry["points"] for entry in small_job.record["sweep"] if entry["domain"] == "drone")
    assert [float(row["confidence"]) for row in rows] == [point["confidence"] for point in points]
    assert [float(row["drone recall"] or "nan") for row in rows] == pytest.approx(
        [float("nan") if point["recall"] is None else point["recall"] for point in points], nan_ok=True
    )


def test_fiftyone_starts_beside_mlflow() -> None:
    # importlib-metadata, which MLflow brings, answers for the standard library once it is imported; from its
    # version 8 on, FiftyOne's eta stops at a name that its own metadata lacks.
    subprocess.run([sys.executable, "-c", "import importlib_metadata, eta.constants"], check=True)
