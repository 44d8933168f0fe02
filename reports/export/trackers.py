"""Experiment trackers: one function each, under the names that Ultralytics' own callbacks use. None is
imported, and nothing leaves the machine, unless `shiftscope log` names it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets.errors import EnvironmentProblem, InputError


@dataclass(frozen=True)
class Entry:
    """What is logged of a report.

    name: of the run
    project: that it belongs to
    metrics: "domain/name" -> number
    parameters: what the numbers depend on
    verdicts: domain -> its verdict in a sentence
    page: report.html
    files: the other files that the report wrote, by their path in its folder
    """

    name: str
    project: str
    metrics: Mapping[str, float]
    parameters: Mapping[str, str]
    verdicts: Mapping[str, str]
    page: Path
    files: Mapping[str, Path]


def _to_mlflow(mlflow: Any, entry: Entry) -> str:
    """A run with metrics, parameters, the page and all files; MLFLOW_TRACKING_URI says where."""
    mlflow.set_experiment(entry.project)
    with mlflow.start_run(run_name=entry.name) as run:
        mlflow.log_params(entry.parameters)
        # MLflow's own alphabet for names of metrics.
        mlflow.log_metrics({re.sub(r"[^\w\-. /]", "_", key): value for key, value in entry.metrics.items()})
        mlflow.set_tags({f"verdict.{domain}": words for domain, words in entry.verdicts.items()})
        mlflow.log_artifact(str(entry.page))
        for place, path in entry.files.items():
            mlflow.log_artifact(str(path), str(Path(place).parent) if "/" in place else None)
    return f"MLflow, {mlflow.get_tracking_uri()}, run {run.info.run_id}"


def _to_tensorboard(writers: Any, entry: Entry) -> str:
    """Scalars and the verdicts as text, below runs/tensorboard."""
    from train.environment import runs_folder

    folder = runs_folder() / "tensorboard" / entry.project / entry.name
    with writers.SummaryWriter(log_dir=str(folder)) as writer:
        for name, value in entry.metrics.items():
            writer.add_scalar(name, value, 0)
        for domain, words in entry.verdicts.items():
            writer.add_text(f"{domain}/verdict", words, 0)
    return f"TensorBoard, {folder}"


def _to_wandb(wandb: Any, entry: Entry) -> str:
    """A run with metrics, the page as a panel, and an artifact of all files."""
    run = wandb.init(project=entry.project, name=entry.name, config=dict(entry.parameters), job_type="report")
    run.summary.update({**entry.metrics, **{f"{d}/verdict": words for d, words in entry.verdicts.items()}})
    run.log({**entry.metrics, "report": wandb.Html(entry.page.read_text(encoding="utf-8"), inject=False)})
    artifact = wandb.Artifact(f"report-{run.id}", type="shiftscope-report")
    artifact.add_file(str(entry.page))
    for place, path in entry.files.items():
        artifact.add_file(str(path), name=place)
    run.log_artifact(artifact)
    run.finish()
    return f"Weights & Biases, project {entry.project}, run {run.id}"


def _to_clearml(clearml: Any, entry: Entry) -> str:
    """A task with single values, and the files as artifacts."""
    task = clearml.Task.init(
        project_name=entry.project,
        task_name=entry.name,
        reuse_last_task_id=False,
        auto_connect_frameworks=False,
        output_uri=True,
    )
    task.connect(dict(entry.parameters), name="report")
    for name, value in entry.metrics.items():
        task.get_logger().report_single_value(name, value)
    task.set_comment("\n".join(f"{domain}: {words}" for domain, words in entry.verdicts.items()))
    for place, path in {entry.page.name: entry.page, **entry.files}.items():
        task.upload_artifact(place, artifact_object=str(path))
    task.close()
    return f"ClearML, project {entry.project}, task {task.id}"


def _to_comet(comet: Any, entry: Entry) -> str:
    """An experiment with metrics, the page as an asset, and the files."""
    experiment = comet.start(project_name=entry.project)
    experiment.set_name(entry.name)
    experiment.log_parameters(dict(entry.parameters))
    experiment.log_metrics(dict(entry.metrics))
    for domain, words in entry.verdicts.items():
        experiment.log_other(f"{domain}/verdict", words)
    for place, path in {entry.page.name: entry.page, **entry.files}.items():
        experiment.log_asset(str(path), file_name=place)
    experiment.end()
    return f"Comet, project {entry.project}, experiment {experiment.get_key()}"


@dataclass(frozen=True)
class Tracker:
    """A tracker that reports can go to.

    module: its library
    packages: what to install where the library is missing
    send: logs a report with the library, and says where it went
    """

    module: str
    packages: str
    send: Callable[[Any, Entry], str]


TRACKERS = {
    "mlflow": Tracker("mlflow", "mlflow", _to_mlflow),
    # Without the package tensorboard, this module cannot be imported.
    "tensorboard": Tracker("torch.utils.tensorboard", "torch tensorboard", _to_tensorboard),
    "wandb": Tracker("wandb", "wandb", _to_wandb),
    "clearml": Tracker("clearml", "clearml", _to_clearml),
    "comet": Tracker("comet_ml", "comet_ml", _to_comet),
}


def tracker_named(name: str) -> Callable[[Entry], str]:
    """What logs a report to a tracker. Raises InputError where there is none of this name, EnvironmentProblem
    where its library is not installed.
    """
    if name not in TRACKERS:
        raise InputError(f"--to {name}: no such tracker; there are: {', '.join(TRACKERS)}")
    tracker = TRACKERS[name]
    try:
        library = importlib.import_module(tracker.module)
    except ImportError:
        raise EnvironmentProblem(f"{name} is not installed: pip install {tracker.packages}") from None
    return partial(tracker.send, library)
