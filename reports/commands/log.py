"""`shiftscope log`: a written report to experiment trackers; nothing else in Shiftscope sends anything
anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets.errors import EnvironmentProblem, InputError
from reports.export.metrics import metrics_of
from reports.export.trackers import Entry, tracker_named
from reports.options import LogOptions
from reports.page.reader import find_report, read_report, report_files
from reports.page.writer import PAGE
from reports.progress import Reporter


def log_report(options: LogOptions, reporter: Reporter) -> list[str]:
    """Log a report to every tracker that is named.

    Parameters
    ----------
    options : LogOptions
        The report, and where it goes.
    reporter : Reporter
        Says what is sent before it is.

    Returns
    -------
    list of str
        Where it went, one line a tracker.

    Raises
    ------
    InputError
        There is no such report or tracker, or no tracker is named.
    EnvironmentProblem
        The tracker's library is not installed, or refuses.
    """
    if not options.to:
        raise InputError("give --to mlflow, tensorboard, wandb, clearml or comet; repeat it for several")
    folder = find_report(options.report)
    trackers = [(name, tracker_named(name)) for name in options.to]
    entry = entry_of(folder, read_report(folder).record, options)
    size = sum(path.stat().st_size for path in (entry.page, *entry.files.values())) / 1e6
    lines = []
    for name, send in trackers:
        reporter.say(
            f"{folder.name} to {name}: {len(entry.metrics)} metrics, {1 + len(entry.files)} files "
            f"({size:.1f} MB)"
        )
        try:
            lines.append(send(entry))
        except EnvironmentProblem:
            raise
        except Exception as error:  # whatever a tracker's library raises: no connection, no key, no space
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise EnvironmentProblem(f"{name} refused the report: {reason[0]}") from error
    return lines


def entry_of(folder: Path, record: dict[str, Any], options: LogOptions) -> Entry:
    """What is logged of a report. Raises InputError where its page is missing."""
    files = report_files(folder)
    page = files.pop(PAGE, None)
    if page is None:
        raise InputError(f"{folder / PAGE}: no such file; write the report again")
    run, protocol = record["run"], record.get("protocol") or {}
    parameters = {
        "weights": run.get("weights"),
        "sha256": run.get("sha256"),
        "imgsz": protocol.get("imgsz"),
        "epochs": run.get("epochs"),
        "training_boxes": run.get("training_boxes"),
        "seed": record.get("seed"),
        "shiftscope": (record.get("versions") or {}).get("shiftscope"),
    }
    return Entry(
        name=options.name or folder.name,
        project=options.project,
        metrics={
            f"{domain}/{name}": value
            for domain, numbers in metrics_of(record).items()
            for name, value in numbers.items()
        },
        parameters={name: str(value) for name, value in parameters.items() if value is not None},
        verdicts={
            domain["name"]: f"{domain['verdict']['cause']} ({domain['verdict']['grade']})"
            for domain in record["domains"]
            if domain.get("verdict")
        },
        page=page,
        files=files,
    )
