"""The console script. stdout is data, stderr is progress; errors are one line and an exit code, a traceback
only with --debug.

Each command is built from its class in `reports.options`, and its workflow is in `reports.commands`. Imports
stand inside the
commands: what one needs takes seconds to import, and the others do not wait for it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import inspect as introspection
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from datasets.errors import EnvironmentProblem, InputError
from reports.options import (
    AppOptions,
    CheckOptions,
    CompareOptions,
    ExportOptions,
    ForecastOptions,
    HistoryOptions,
    InspectOptions,
    LogOptions,
    NextOptions,
    Options,
    PredictOptions,
    PrepareOptions,
    ReportOptions,
    ReviewOptions,
    ScoreOptions,
    TrainOptions,
    TriageOptions,
    WorldOptions,
    command_line_type,
)
from reports.progress import Reporter
from train.environment import runs_folder

T = TypeVar("T", bound=Options)
OK, GATE_FAILED, BAD_INPUT, ENVIRONMENT, TOO_MANY_SKIPPED, INTERRUPTED = 0, 1, 2, 3, 4, 130

SOURCE_HELP = (
    "A SOURCE is a folder of images or a dataset, a data.yaml, a COCO file, a video, a Kaggle handle "
    "(kaggle:owner/name), a bucket (s3://bucket/folder) or a FiftyOne dataset (fiftyone:NAME); see "
    "docs/sources.md."
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain help fits 80 columns whole, and is there in half the time.
    rich_markup_mode=None,
    help="Why a detector that scores well in validation fails on real footage, and what to add next.",
)


def _show_version(asked: bool) -> None:
    if asked:
        _emit_lines([f"shiftscope {version('shiftscope')}"])
        raise typer.Exit


@app.callback()
def _shared(
    version: Annotated[  # an eager option: its callback answers
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[  # read in `main`, where it may stand after the command as well
        bool, typer.Option("--debug", help="Show the traceback of an error, and the time a command took.")
    ] = False,
) -> None:
    """Nothing of its own: the options are answered elsewhere."""


def command(kind: type[T]) -> Callable[[Callable[[T], None]], Callable[[T], None]]:
    """Register a command whose parameters are the fields of an options class; its help is the docstring."""

    def register(run: Callable[[T], None]) -> Callable[[T], None]:
        hints = get_type_hints(kind, include_extras=True)
        parameters = [
            introspection.Parameter(
                field.name,
                introspection.Parameter.KEYWORD_ONLY,
                default=_default(field.default),
                annotation=command_line_type(hints[field.name]),
            )
            for field in fields(kind)  # type: ignore[arg-type]  # every options class is a dataclass
        ]

        def call(**values: Any) -> None:
            run(kind(**values))

        call.__doc__ = " ".join((run.__doc__ or "").split())
        call.__signature__ = introspection.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        reads_source = any("SOURCE" in str(hint) for hint in hints.values())
        app.command(run.__name__.removesuffix("_"), epilog=SOURCE_HELP if reads_source else None)(call)
        return run

    return register


def _default(value: Any) -> Any:
    """A field's default as the command line has it: none for a required one, None for an empty tuple."""
    if value is MISSING:
        return introspection.Parameter.empty
    return None if value == () else value


def _exit_if_too_many(skipped: int, allowed: int | None, reporter: Reporter, more: str = "") -> None:
    """Leave with a code of its own when more files were not used than --max-skipped allows."""
    if allowed is not None and skipped > allowed:
        reporter.say(f"{skipped} files were not used, more than --max-skipped {allowed}{more}")
        raise typer.Exit(TOO_MANY_SKIPPED)


@contextlib.contextmanager
def _data_on_stdout_only() -> Iterator[None]:
    """Send what libraries print to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _emit(result: dict[str, Any]) -> None:
    """Print JSON on stdout."""
    sys.stdout.write(json.dumps(result, indent=1, allow_nan=False) + "\n")


def _emit_lines(lines: list[str]) -> None:
    """Print text on stdout."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


@command(ReportOptions)
def report(options: ReportOptions) -> None:
    """Diagnose a detector: why it fails on real-world images. Without arguments, train on the rendered road
    world and diagnose that.
    """
    reporter = Reporter()
    with _data_on_stdout_only():
        from reports.commands.report import run_command

        record, folder = run_command(options, reporter)
    if options.json:
        _emit(record)
    skipped = sum(record["ledger"]["files"].get(bucket, 0) for bucket in ("skipped", "failed"))
    _exit_if_too_many(skipped, options.max_skipped, reporter, f"; see {folder / 'ledger.csv'}")


@command(TrainOptions)
def train(options: TrainOptions) -> None:
    """Train a detector into a new run folder. The folder is printed on stdout."""
    from reports.commands.train import train_run

    with _data_on_stdout_only():
        folder = train_run(options, Reporter())
    _emit_lines([str(folder)])


@command(PredictOptions)
def predict(options: PredictOptions) -> None:
    """Run a detector on images, videos or a camera. Detections are drawn, and saved as tables; prints the
    folder.
    """
    reporter = Reporter()
    with _data_on_stdout_only():
        from reports.commands.predict import lines
        from reports.commands.predict import predict as run_prediction

        result = run_prediction(options, reporter)
    for line in lines(result):
        reporter.say(line)
    if options.json:
        _emit(result)
    else:
        _emit_lines([result["folder"]])
    _exit_if_too_many(result["files"]["skipped"] + result["files"]["failed"], options.max_skipped, reporter)


@command(NextOptions)
def next_(options: NextOptions) -> None:
    """Rank which images to label and add next. Datasets too; without arguments, for the last report."""
    reporter = Reporter()
    with _data_on_stdout_only():
        from reports.commands.next import lines, rank_next

        result, folder = rank_next(options, reporter)
    for line in lines(result, folder):
        reporter.say(line)
    if options.json:
        _emit(result)


@command(InspectOptions)
def inspect(options: InspectOptions) -> None:
    """Show what would be read from a source, and what not. Says why; no model is needed."""
    reporter = Reporter()
    with _data_on_stdout_only():
        from reports.commands.inspect import inspect_source, lines

        result = inspect_source(options, reporter)
    if options.json:
        _emit(result)
    else:
        _emit_lines(lines(result))
    _exit_if_too_many(result["files"]["skipped"] + result["files"]["failed"], options.max_skipped, reporter)


@command(PrepareOptions)
def prepare(options: PrepareOptions) -> None:
    """Write a cleaned copy of a dataset into a new folder. With augmented copies and draft labels if asked;
    its data.yaml is printed on stdout.
    """
    reporter = Reporter()
    with _data_on_stdout_only():
        from reports.commands.prepare import prepare_dataset

        result = prepare_dataset(options, reporter)
    if options.json:
        _emit(result)
    else:
        _emit_lines([result["data"]])
    ledger = f"; see {Path(result['data']).with_name('ledger.csv')}"
    _exit_if_too_many(result["left_out"], options.max_skipped, reporter, ledger)


@command(ForecastOptions)
def forecast(options: ForecastOptions) -> None:
    """Forecast how many labels an AP50 will take. From a few training set sizes; a range, or a refusal."""
    with _data_on_stdout_only():
        from reports.commands.forecast import run_command

        result, sentence = run_command(options, Reporter())
    if options.json:
        _emit(result)
    else:
        _emit_lines([sentence])


@command(ScoreOptions)
def score(options: ScoreOptions) -> None:
    """Score predictions: COCO JSON in, pycocotools' numbers out."""
    from datasets.files import write_text
    from reports.commands.score import score as compute

    result = compute(options)
    if result["ignored_detections"]:
        sys.stderr.write(
            f"shiftscope: {options.predictions}: {result['ignored_detections']} detections of categories "
            "that the ground truth does not list were ignored\n"
        )
    for note in result["notes"]:
        sys.stderr.write(f"shiftscope: {note}\n")
    if options.out is None:
        _emit(result)
    else:
        write_text(options.out, json.dumps(result, indent=1, allow_nan=False))


@command(CompareOptions)
def compare(options: CompareOptions) -> None:
    """Compare reports: what got better, what worse, beyond chance. On the images that they share."""
    reporter = Reporter()
    with _data_on_stdout_only():
        from reports.commands.compare import lines, run_compare

        record, page = run_compare(options, reporter)
    if options.json:
        _emit(record)
    else:
        _emit_lines(lines(record))
    reporter.say(f"Comparison: {page}")


@command(HistoryOptions)
def history(options: HistoryOptions) -> None:
    """Show all reports over time, with alarms. One rings where new footage leaves the range of what was
    measured before.
    """
    reporter = Reporter()
    with _data_on_stdout_only():
        from reports.commands.history import lines, run_history

        record, page = run_history(options, reporter)
    if options.json:
        _emit(record)
    else:
        _emit_lines(lines(record))
    reporter.say(f"History: {page}")


@command(LogOptions)
def log(options: LogOptions) -> None:
    """Log a report to experiment trackers. Numbers, verdicts, the page and all files."""
    reporter = Reporter()
    with _data_on_stdout_only():
        from reports.commands.log import log_report

        lines = log_report(options, reporter)
    _emit_lines(lines)


@command(CheckOptions)
def check(options: CheckOptions) -> None:
    """Check a report against rules; exit code 1 where one is broken. For pull requests and pipelines."""
    reporter = Reporter()
    with _data_on_stdout_only():
        from reports.commands.check import as_record, lines, run_check

        checks = run_check(options, reporter)
    if options.json:
        _emit(as_record(checks))
    else:
        _emit_lines(lines(checks))
    if any(found.state == "failed" for found in checks):
        raise typer.Exit(GATE_FAILED)


@command(TriageOptions)
def triage(options: TriageOptions) -> None:
    """Assess the hypotheses from numbers alone. A training curve and a score or two, without any images."""
    from reports.commands.triage import lines
    from reports.commands.triage import triage as assess
    from reports.plain import verdict_record

    verdict = assess(options)
    if options.json:
        _emit(verdict_record(verdict))
    else:
        _emit_lines(lines(verdict))


@command(AppOptions)
def app_(options: AppOptions) -> None:
    """Open the FiftyOne App on a report's dataset. At the real-world false positives, on 127.0.0.1."""
    if options.json and not options.pull:
        raise InputError("--json goes with --pull: the App has no result to print")
    from reports.workbench.app import open_app
    from reports.workbench.pull import lines, pull

    reporter = Reporter()
    with _data_on_stdout_only():
        from reports.commands.report import choose_dataset

        name = choose_dataset(options, reporter)
    if not options.pull:
        open_app(name, reporter, port=options.port, wait=True)
        return
    with _data_on_stdout_only():
        edits = pull(name)
    if options.json:
        _emit({"dataset": name, "images": edits.images, "annotations": edits.annotations, "tags": edits.tags})
    else:
        _emit_lines(lines(edits))


@command(ReviewOptions)
def review(options: ReviewOptions) -> None:
    """Measure footage without labelling it, by clicks on a page. Click each object in some dozen frames, at
    127.0.0.1; or, with --labels, judge the labels it has. The answers are kept, and the next report uses
    them.
    """
    reporter = Reporter()
    with _data_on_stdout_only():
        from reports.commands.review import lines, open_session, serve

        session = open_session(options)
        if not options.plan and options.answers is None:
            serve(session, options.port, reporter)
    if options.plan:
        _emit(session.plan())
        return
    result = session.result()
    if options.json:
        _emit(result)
    else:
        _emit_lines(lines(result))


@command(WorldOptions)
def world(options: WorldOptions) -> None:
    """Render the road world as a YOLO dataset with exact boxes."""
    from reports.commands.world import render_world

    render_world(options, Reporter())


@app.command()
def doctor() -> None:
    """Check the environment: one line each, with the remedy."""
    from reports.commands.doctor import check_environment, line

    checks = check_environment()
    _emit_lines([line(check) for check in checks])
    if not all(check.ok for check in checks):
        raise typer.Exit(ENVIRONMENT)


@command(ExportOptions)
def export(options: ExportOptions) -> None:
    """Write a detector in the format of other software. Into a new folder; the file or folder written is
    printed on stdout.
    """
    with _data_on_stdout_only():
        from reports.commands.export import export_detector

        written = export_detector(options, Reporter())
    _emit_lines([str(written)])


def main() -> None:
    """Entry point: run a command, turn what it raises into one line and an exit code."""
    atexit.register(_end_without_search)
    debug = "--debug" in sys.argv
    arguments = _with_address([argument for argument in sys.argv[1:] if argument != "--debug"])
    started = datetime.now(UTC)
    try:
        code = app(args=arguments, standalone_mode=False)
    except typer.Exit as stop:
        code = stop.exit_code
    except InputError as error:
        code = _complain(error, BAD_INPUT, debug=debug)
    except EnvironmentProblem as error:
        code = _complain(error, ENVIRONMENT, debug=debug)
    except (KeyboardInterrupt, typer.Abort):
        again = (
            "add --resume RUN to continue"
            if arguments[:1] == ["train"]
            else "run the same command again to continue"
        )
        code = _complain(f"interrupted; {again}", INTERRUPTED, debug=False)
    except (
        Exception
    ) as error:  # the last line of defence: usage errors of the command line, full disks, and our own bugs
        code = unexpected(error, debug=debug)
    if debug:
        sys.stderr.write(f"took {(datetime.now(UTC) - started).total_seconds():.1f} s\n")
    sys.exit(code or OK)


def _end_without_search() -> None:
    """Keep Python from searching all that is in memory for cycles before it ends: a second and a half after a
    report. Not where OpenVINO was loaded, whose objects complain when they are not collected.
    """
    if "openvino" not in sys.modules:
        gc.freeze()


def _with_address(arguments: list[str]) -> list[str]:
    """Give --ray an empty address where none follows it: typer has no option whose value may be left out."""
    following = [*arguments[1:], "-"]
    return [
        "--ray=" if argument == "--ray" and after.startswith("-") else argument
        for argument, after in zip(arguments, following, strict=False)
    ]


def unexpected(error: Exception, *, debug: bool) -> int:
    """Report a usage error (which has its own message and code), a full or read-only disk, or a bug
    of ours.
    """
    if debug:
        raise error
    if hasattr(error, "format_message"):
        commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
        known = [name for name in sys.argv[1:2] if name in commands]
        message = error.format_message().removesuffix(".")
        if "less than or equal to 1" in message:
            message += " (a fraction: 0.6 for 60 %)"
        see = " See" if message.endswith("?") else "; see"
        usage = f"{message}{see} '{' '.join(['shiftscope', *known])} --help'"
        return _complain(usage, BAD_INPUT, debug=debug)
    if isinstance(error, OSError):
        remedy = (
            f"; make room, or set SHIFTSCOPE_RUNS to a folder on another disk (now {runs_folder()})"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
            else ""
        )
        cause = f"{error.filename or 'operating system'}: {error.strerror or error}{remedy}"
        return _complain(cause, ENVIRONMENT, debug=debug)
    first_line = str(error).splitlines()[0] if str(error) else ""
    return _complain(
        f"internal error ({type(error).__name__}: {first_line}); run again with --debug and report it",
        ENVIRONMENT,
        debug=debug,
    )


def _complain(error: object, code: int, *, debug: bool) -> int:
    """Write one line on stderr; with debug, raise instead."""
    if debug and isinstance(error, BaseException):
        raise error
    sys.stderr.write(f"shiftscope: {error}\n")
    return code


if __name__ == "__main__":
    main()
