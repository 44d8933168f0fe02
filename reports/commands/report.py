"""From a request to a written report: findings, the FiftyOne dataset, the page and its twins."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets.errors import EnvironmentProblem, InputError
from diagnostics.domain import Domain
from reports.files import one_writer
from reports.options import ReportOptions
from reports.page.assembly import build_context
from reports.page.reader import read_report
from reports.page.record import build_record
from reports.page.writer import write_report
from reports.pipeline.run import Result, run_report
from reports.progress import Reporter
from reports.workbench.dataset import dataset_name
from reports.workbench.dataset import publish as publish_dataset
from reports.workbench.models import as_detected_by
from train.environment import runs_folder


@dataclass(frozen=True)
class Published:
    """What came of the FiftyOne dataset. dataset is None, and note says why, where there is none."""

    dataset: str | None
    app_urls: dict[int, str]
    note: str = ""


def make_report(
    options: ReportOptions, folder: Path, reporter: Reporter, *, fiftyone: bool
) -> dict[str, Any]:
    """Diagnose and write into folder; returns report.json's content. Raises InputError, EnvironmentProblem."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with one_writer(folder):
        result = run_report(options, reporter)
        with reporter.stage("fiftyone", "FiftyOne dataset") if fiftyone else contextlib.nullcontext():
            published = (
                publish(result, folder, reporter) if fiftyone else Published(None, {}, "not asked for")
            )
        with reporter.stage("write", "Writing the report"):
            record = build_record(result, reporter.timings, published.app_urls)
            record["fiftyone"] = {"dataset": published.dataset, "note": published.note}
            created = datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC")
            context = build_context(
                result, folder.name, published.app_urls, published.dataset, reporter.timings, created
            )
            page = write_report(folder, result.findings, result.ledger, record, context)
    _say_result(record, context, page, reporter)
    return record


def rebuild(dataset: str | None, reporter: Reporter) -> str:
    """Write a report's FiftyOne dataset anew by asking for the report again, from what earlier looks at its images left; returns the dataset's name.

    dataset: its name; None for the report written last. Raises InputError when there is no such report here.
    """
    folders = [path.parent for path in (runs_folder() / "report").glob("*/report.json")]
    if dataset is not None:
        folders = [folder for folder in folders if dataset_name(folder) == dataset]
    if not folders:
        raise InputError(
            f"no report in {runs_folder() / 'report'}{' has the dataset ' + dataset if dataset else ''}; write one with 'shiftscope report'"
        )
    folder = max(folders, key=lambda folder: (folder / "report.json").stat().st_mtime)
    options = ReportOptions.from_record(read_report(folder).record.get("request", {}))
    record = make_report(options, folder, reporter, fiftyone=True)
    name = record["fiftyone"]["dataset"]
    if name is None:
        raise EnvironmentProblem(record["fiftyone"]["note"])
    return str(name)


def publish(result: Result, folder: Path, reporter: Reporter) -> Published:
    """Write the FiftyOne dataset; without a database the report is written all the same, and says so."""
    info = {
        "report": folder.name,
        "weights": str(result.run.weights) if result.run else None,
        "weights_sha256": result.run.sha256 if result.run else None,
        "imgsz": result.settings.imgsz,
        "sources": {o.name: o.source.spec for o in result.opened},
        "seed": result.options.seed,
        "primary": result.findings.verdict.primary,
        "shiftscope": version("shiftscope"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    domains = {domain.name: domain for domain in result.findings.domains}
    others: dict[str, list[Domain]] = {}
    for comparison_ in result.run_comparisons:
        seen = as_detected_by(domains[comparison_.domain], comparison_.images, comparison_.detections)
        others.setdefault(comparison_.earlier_run, []).append(seen)
    try:
        made = publish_dataset(result.findings, folder, info, reporter, others)
    except EnvironmentProblem as problem:
        reporter.say(f"  no FiftyOne dataset: {problem}")
        return Published(None, {}, str(problem))
    except Exception as error:  # whatever FiftyOne raises: the diagnosis is done, and is written
        note = f"internal error ({type(error).__name__}: {error}); the dataset before, if any, is as it was"
        reporter.say(f"  no FiftyOne dataset: {note}")
        return Published(None, {}, note)
    return Published(made.dataset, made.app_urls)


def _say_result(record: dict[str, Any], context: dict[str, Any], page: Path, reporter: Reporter) -> None:
    """The verdict in a few lines, for people who stay on the terminal."""
    head = context["headline"]
    reporter.say("")
    for number in head["numbers"]:
        reporter.say(f"  AP50 {number['name']}: {number['value']} ({number['note']}; {number['size']})")
    reporter.say(f"{head['cause']}. {head['statement']} {head['negation']}".rstrip())
    reporter.say(f"Next step. {head['step']}")
    reporter.say(f"Report: {page}")
    if record["fiftyone"]["dataset"]:
        reporter.say("Browse the failures: make app")
