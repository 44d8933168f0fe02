"""`shiftscope report`: from the options to a written report: findings, the FiftyOne dataset, the page and its
twins.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets.errors import EnvironmentProblem, InputError
from diagnostics.domain import Domain
from reports.export.inference import FILE, inference_text
from reports.export.metrics import METRICS, SWEEP, metrics_of, sweep_table
from reports.files import one_writer
from reports.options import AppOptions, ReportOptions
from reports.page.assembly import Place, build_context
from reports.page.reader import command_path, read_report, written_reports
from reports.page.record import build_record
from reports.page.writer import write_report
from reports.pipeline.run import Result, run_report
from reports.pipeline.runs import report_name
from reports.progress import Reporter
from reports.workbench.dataset import dataset_name, exists, newest_dataset
from reports.workbench.dataset import publish as publish_dataset
from reports.workbench.early_start import database_started_early
from reports.workbench.models import with_detections
from train.environment import runs_folder


@dataclass(frozen=True)
class Published:
    """The FiftyOne dataset of a report.

    dataset: its name; None where there is none
    app_urls: links into the App by card number
    note: why there is no dataset
    """

    dataset: str | None
    app_urls: dict[int, str]
    note: str = ""


def run_command(options: ReportOptions, reporter: Reporter) -> tuple[dict[str, Any], Path]:
    """Diagnose and write the report; without anything to diagnose, the demo's.

    Parameters
    ----------
    options : ReportOptions
        What to diagnose, and where to write.
    reporter : Reporter
        Shows progress.

    Returns
    -------
    dict
        The content of report.json.
    Path
        The report's folder.

    Raises
    ------
    InputError, EnvironmentProblem
    """
    if options.is_demo:
        from reports.commands.demo import prepare_demo

        demo = prepare_demo(options.seed, reporter)
        options = replace(options, run=demo.run, in_domain=demo.in_domain, real_world=demo.real_world)
    folder = (options.out or runs_folder() / "report" / report_name(options)).absolute()
    return _make_report(options, folder, reporter), folder


def _make_report(options: ReportOptions, folder: Path, reporter: Reporter) -> dict[str, Any]:
    """Diagnose and write into folder; returns the content of report.json. Raises InputError,
    EnvironmentProblem.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with one_writer(folder), database_started_early() if options.fiftyone else nullcontext():
        result = run_report(options, reporter)
        published = Published(None, {}, "not asked for")
        if options.fiftyone:
            with reporter.stage("fiftyone", "FiftyOne dataset"):
                published = _publish(result, folder, reporter)
        with reporter.stage("write", "Writing the report"):
            record = build_record(result, reporter.timings, published.app_urls)
            record["fiftyone"] = {"dataset": published.dataset, "note": published.note}
            created = datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC")
            place = Place(folder.name, command_path(folder), published.dataset, published.app_urls)
            context = build_context(result, place, reporter.timings, created)
            texts = {
                METRICS: json.dumps(metrics_of(record), indent=1),
                SWEEP: sweep_table(record),
                **_inference(result, folder, record),
            }
            page = write_report(folder, result.findings, result.ledger, record, context, texts)
    _say_result(record, context, page, reporter)
    return record


def _inference(result: Result, folder: Path, record: dict[str, Any]) -> dict[str, str]:
    """inference.yaml, where there is a real-world domain and a detector."""
    deployments = result.findings.deployments
    run = record["run"]
    if result.run is None or not deployments:
        return {}
    weights = None if run["detector"] else run["weights"]
    return {FILE: inference_text(folder, weights, run["detector"], deployments.values())}


def choose_dataset(options: AppOptions, reporter: Reporter) -> str:
    """The FiftyOne dataset to open: the given one or the last one, written anew with --rebuild. Raises
    InputError when there is none.
    """
    dataset = options.dataset
    if options.rebuild:
        dataset = rebuild(dataset, reporter)
    name = dataset
    if name is None:
        own = [runs_folder().absolute(), Path.cwd()]
        name, report = newest_dataset(own)
        if name is not None and not any(Path(report).is_relative_to(folder) for folder in own):
            reporter.say(f"No report of this folder has a dataset; this is that of {report}")
    if name is None:
        raise InputError(
            "FiftyOne holds no report; run 'make report', or 'shiftscope app --rebuild' where one was "
            "written before"
        )
    if not exists(name):
        raise InputError(
            f"FiftyOne has no dataset {name!r}; run 'make report', or add --rebuild where its report was "
            f"written before"
        )
    return name


def rebuild(dataset: str | None, reporter: Reporter) -> str:
    """Write a report and its FiftyOne dataset anew from stored predictions; returns the dataset's name.

    dataset: its name; None for the report written last. Raises InputError when there is no such report.
    """
    folders = written_reports()
    if dataset is not None:
        folders = [folder for folder in folders if dataset_name(folder) == dataset]
    if not folders:
        whose = f" has the dataset {dataset}" if dataset else ""
        raise InputError(
            f"no report in {runs_folder() / 'report'}{whose}; write one with 'shiftscope report'"
        )
    folder = folders[0]
    options = ReportOptions.from_record(read_report(folder).record.get("options", {}))
    record = _make_report(options, folder, reporter)
    name = record["fiftyone"]["dataset"]
    if name is None:
        raise EnvironmentProblem(record["fiftyone"]["note"])
    return str(name)


def _publish(result: Result, folder: Path, reporter: Reporter) -> Published:
    """Write the FiftyOne dataset; without a database the report is written all the same, and says so."""
    info = {
        "report": folder.name,
        "weights": str(result.run.weights) if result.run else None,
        "weights_sha256": result.run.sha256 if result.run else None,
        "imgsz": result.settings.imgsz,
        "sources": {opened.name: opened.source.spec for opened in result.opened},
        "seed": result.options.seed,
        "primary": result.findings.verdict.primary,
        "shiftscope": version("shiftscope"),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    domains = {domain.name: domain for domain in result.findings.domains}
    earlier_runs: dict[str, list[Domain]] = {}
    for run in result.run_comparisons:
        domain = with_detections(domains[run.domain], run.images, run.detections)
        earlier_runs.setdefault(run.earlier_run, []).append(domain)
    try:
        written = publish_dataset(result.findings, folder, info, reporter, earlier_runs)
    except EnvironmentProblem as problem:
        reporter.say(f"  no FiftyOne dataset: {problem}")
        return Published(None, {}, str(problem))
    except Exception as error:  # whatever FiftyOne raises: the diagnosis is done, and is written
        note = f"internal error ({type(error).__name__}: {error}); the former dataset, if any, is unchanged"
        reporter.say(f"  no FiftyOne dataset: {note}")
        return Published(None, {}, note)
    return Published(written.dataset, written.app_urls)


def _say_result(record: dict[str, Any], context: dict[str, Any], page: Path, reporter: Reporter) -> None:
    """The verdict in a few lines, for people who stay on the terminal."""
    head = context["headline"]
    reporter.say("")
    for number in (*head["numbers"], *head["other_numbers"]):
        reporter.say(f"  AP50 {number['name']}: {number['value']} ({number['note']}; {number['size']})")
    for warning in head["warnings"]:
        reporter.say(f"Note. {warning}")
    for verdict in (head, *head["others"]):
        domain = verdict["domain"] if head["others"] else ""
        words = (verdict["statement"], verdict["negation"], verdict["sure"], verdict["rival"])
        reporter.say(f"{f'{domain}: ' if domain else ''}{verdict['cause']}. {' '.join(filter(None, words))}")
        reporter.say(f"Next step{f' for {domain}' if domain else ''}. {verdict['step']}")
        if verdict["command"]:
            reporter.say(f"  {verdict['command']}")
    reporter.say(f"Report: {page}")
    if record["fiftyone"]["dataset"]:
        reporter.say("Browse the failures: make app")
