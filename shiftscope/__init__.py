"""Shiftscope in Python: the commands' work with the commands' options, as objects whose tables are pandas
frames.

Every keyword is an option of the command of the same name (`reports.options`), with the same default;
`--class-map`
is `class_map`, `--no-fiftyone` is `fiftyone=False`. Errors are `InputError` (something given is wrong) and
`EnvironmentProblem` (something on this machine is).

Examples
--------
>>> import shiftscope
>>> report = shiftscope.report(run="runs/detect/train", real_world={"drone": "flight.mp4"})
>>> report.verdict
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from datasets.errors import EnvironmentProblem, InputError
from shiftscope.results import History, Prediction, Ranking, Report, ReportComparison, Score

__all__ = [
    "EnvironmentProblem",
    "History",
    "InputError",
    "Prediction",
    "Ranking",
    "Report",
    "ReportComparison",
    "Score",
    "check",
    "compare",
    "history",
    "open_report",
    "predict",
    "rank",
    "report",
    "score",
    "train",
]


def report(**options: Any) -> Report:
    """Diagnose a detector, as `shiftscope report` does; without anything to diagnose, the demo.

    Parameters
    ----------
    **options
        Fields of `reports.options.ReportOptions`: run, weights, in_domain, real_world, predictions, conf, out
        ...

    Returns
    -------
    Report
        The written report.

    Raises
    ------
    InputError, EnvironmentProblem
    """
    from reports.commands.report import run_command
    from reports.options import ReportOptions
    from reports.progress import Reporter

    record, folder = run_command(_made(ReportOptions, options), Reporter())
    return Report(folder, record)


def open_report(path: str | Path) -> Report:
    """Open a written report: its folder, or a file in it. Raises InputError when there is none."""
    from reports.page.reader import read_report

    folder = Path(path)
    written = read_report(folder.parent if folder.is_file() else folder)
    return Report(written.folder.absolute(), written.record)


def score(**options: Any) -> Score:
    """Score COCO results against a COCO ground truth, as `shiftscope score` does.

    Parameters
    ----------
    **options
        Fields of `reports.options.ScoreOptions`: ground_truth, predictions, slices, groups, bootstrap ...

    Returns
    -------
    Score
        The numbers, equal to pycocotools.

    Raises
    ------
    InputError
    """
    from reports.commands.score import score as compute
    from reports.options import ScoreOptions

    return Score(compute(_made(ScoreOptions, options)))


def predict(**options: Any) -> Prediction:
    """Run a detector on images, videos or a camera, as `shiftscope predict` does.

    Parameters
    ----------
    **options
        Fields of `reports.options.PredictOptions`: source, weights, conf, imgsz, out ...

    Returns
    -------
    Prediction
        The written folder, with its tables.

    Raises
    ------
    InputError, EnvironmentProblem
    """
    from reports.commands.predict import predict as compute
    from reports.options import PredictOptions
    from reports.progress import Reporter

    record = compute(_made(PredictOptions, options), Reporter())
    return Prediction(Path(record["folder"]), record)


def rank(**options: Any) -> Ranking:
    """Rank what to label and add next, as `shiftscope next` does.

    Parameters
    ----------
    **options
        Fields of `reports.options.NextOptions`: run, real_world, pool, candidate, budget, out ...

    Returns
    -------
    Ranking
        The ranked images, the test images and the candidate datasets.

    Raises
    ------
    InputError, EnvironmentProblem
    """
    from reports.commands.next import rank_next
    from reports.options import NextOptions
    from reports.progress import Reporter

    record, folder = rank_next(_made(NextOptions, options), Reporter())
    return Ranking(folder, record)


def compare(**options: Any) -> ReportComparison:
    """Compare reports on the images that they share, as `shiftscope compare` does.

    Parameters
    ----------
    **options
        Fields of `reports.options.CompareOptions`: reports=["before", "now"], out ...

    Returns
    -------
    ReportComparison
        Paired differences by domain, class and slice, and the page.

    Raises
    ------
    InputError
    """
    from reports.commands.compare import run_compare
    from reports.options import CompareOptions
    from reports.progress import Reporter

    record, page = run_compare(_made(CompareOptions, options), Reporter())
    return ReportComparison(page, record)


def check(**options: Any) -> pd.DataFrame:
    """Check a report against rules, as `shiftscope check` does.

    Parameters
    ----------
    **options
        Fields of `reports.options.CheckOptions`: report, require=["real-world ap50 >= 0.5"], baseline,
        no_regression ...

    Returns
    -------
    DataFrame
        One row a rule and domain; `state` is "passed", "failed" or "not tested".

    Raises
    ------
    InputError
    """
    from reports.commands.check import as_record, run_check
    from reports.options import CheckOptions
    from reports.progress import Reporter

    return pd.DataFrame(as_record(run_check(_made(CheckOptions, options), Reporter()))["checks"])


def history(**options: Any) -> History:
    """Show all reports over time, as `shiftscope history` does.

    Parameters
    ----------
    **options
        Fields of `reports.options.HistoryOptions`: runs, out.

    Returns
    -------
    History
        One row a domain of a report, the alarms, and the page.

    Raises
    ------
    InputError
    """
    from reports.commands.history import run_history
    from reports.options import HistoryOptions
    from reports.progress import Reporter

    record, page = run_history(_made(HistoryOptions, options), Reporter())
    return History(page, record)


def train(**options: Any) -> Path:
    """Train a detector, as `shiftscope train` does.

    Parameters
    ----------
    **options
        Fields of `reports.options.TrainOptions`: data, model, epochs, real_world, arguments=["lr0=0.001"] ...

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    InputError, EnvironmentProblem
    """
    from reports.commands.train import train_run
    from reports.options import TrainOptions
    from reports.progress import Reporter

    return train_run(_made(TrainOptions, options), Reporter())


def _made(kind: Any, options: dict[str, Any]) -> Any:
    """The options of a command. Raises InputError for one it does not have, or one that is missing."""
    try:
        return kind(**options)
    except TypeError as error:
        names = ", ".join(kind.__dataclass_fields__)
        raise InputError(
            f"{str(error).removeprefix(f'{kind.__name__}.__init__() ')}; options are {names}"
        ) from None
