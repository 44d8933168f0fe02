"""`shiftscope forecast`: how many labels an AP50 takes, from a table or from the reports of several runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.errors import InputError
from datasets.files import write_text
from datasets.sheets import read_sheet
from datasets.source import open_training
from datasets.tables import CORNERS
from diagnostics.forecast import Forecast, fit_curves, forecast
from diagnostics.matching import Floats
from diagnostics.wording import count, fraction
from reports.options import ForecastOptions
from reports.page import figures
from reports.page.reader import WrittenReport, read_report
from reports.page.writer import inert
from reports.progress import Reporter
from train.environment import frames_folder
from train.run import Run, file_sha256, open_run
from train.staging import count_boxes_by_split

COLUMNS = ("labels", "ap50")
REPORT = "report.json"
# Ends the errors about a table.
OR_REPORTS = "or give the folders of two or more reports"
FIGURE, TABLE = "forecast.svg", "forecast.csv"
# What sizes count where reports are given.
COUNTED = "boxes in the training images, from all sources"


@dataclass(frozen=True)
class LabelForecast:
    """A forecast and the points it is fitted to.

    forecast: the range, or the refusal
    points: one row a training: labels and ap50; from reports also report, domain, ap50_low and ap50_high
    """

    forecast: Forecast
    points: pd.DataFrame

    @property
    def from_reports(self) -> bool:
        """Whether sizes are boxes in training, counted from reports, instead of numbers from a table."""
        return "report" in self.points

    def as_record(self) -> dict[str, Any]:
        """The forecast as JSON values; from reports, with the points."""
        if not self.from_reports:
            return asdict(self.forecast)
        points = self.points.astype(object).where(self.points.notna(), None)
        return {**asdict(self.forecast), "counted": COUNTED, "points": points.to_dict("records")}


def _read_table(path: Path) -> pd.DataFrame:
    """A CSV with the columns labels and ap50, one row a training. Raises InputError with file and line."""
    try:
        table = read_sheet(path)
    except InputError as error:
        raise InputError(f"{error}; {OR_REPORTS}") from None
    table.columns = [column.lower() for column in table.columns]
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise InputError(
            f"{path}: lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"write one row a training, with its number of labels and its AP50, {OR_REPORTS}"
        )
    numbers = table[list(COLUMNS)].apply(pd.to_numeric, errors="coerce")
    invalid = (
        ~np.isfinite(numbers).all(axis=1) | (numbers["labels"] < 0) | ~numbers["ap50"].between(0, 1)
    ).to_numpy()
    if invalid.any():
        row = int(np.flatnonzero(invalid)[0])
        raise InputError(
            f"{path}:{row + 2}: labels {table['labels'].iloc[row]!r} and ap50 {table['ap50'].iloc[row]!r}; "
            "labels is a number from 0, ap50 a fraction from 0 to 1"
        )
    return numbers


@dataclass(frozen=True)
class Point:
    """One report as a point of the curve.

    name: path as given
    written: the report
    domain: name of the real-world domain
    labels: number of boxes in the training images
    ap50, low, high: AP50 on the domain and its 95 % interval
    images: fingerprint, width, height of each labelled image
    boxes: fingerprint of the image, label and corners of each annotation

    Both tables are sorted, so that equal tables mean equal content.
    """

    name: str
    written: WrittenReport
    domain: str
    labels: int
    ap50: float
    low: float | None
    high: float | None
    images: pd.DataFrame
    boxes: pd.DataFrame

    @property
    def file(self) -> Path:
        """The report.json."""
        return self.written.folder / REPORT


def _read_reports(paths: Sequence[Path], domain: str | None = None) -> pd.DataFrame:
    """Reports as a table, one row each: report, domain, labels, ap50, ap50_low, ap50_high.

    They must form one curve: the same labelled real-world images, the same classes and one image size, of
    different runs. Raises InputError with the file, or the two that do not belong together.
    """
    points: list[Point] = []
    for path in paths:
        point = _read_point(path, domain)
        for other in points:
            _check_alike(other, point)
        points.append(point)
    _check_lineage(points)
    return pd.DataFrame(
        {
            "report": [point.name for point in points],
            "domain": [point.domain for point in points],
            "labels": [point.labels for point in points],
            "ap50": [point.ap50 for point in points],
            "ap50_low": [point.low for point in points],
            "ap50_high": [point.high for point in points],
        }
    ).astype({"ap50": float, "ap50_low": float, "ap50_high": float})


def _read_point(path: Path, domain: str | None) -> Point:
    """One report. domain: the real-world domain to take; None where there is only one. Raises InputError."""
    if not path.is_dir() and path.name != REPORT:
        raise InputError(
            f"{path}: {'not a report' if path.exists() else 'no such report'}; "
            "give folders that 'shiftscope report' wrote, or a single CSV"
        )
    written = read_report(path if path.is_dir() else path.parent)
    file, record = written.folder / REPORT, written.record
    name = _real_world_domain(file, record, domain)
    entry = next(entry for entry in record["domains"] if entry["name"] == name)
    rows = [row for row in record["slices"] if row["slice"] == "all" and row["domain"] == name]
    row: dict[str, Any] = rows[0] if rows else {}
    if row.get("ap50") is None:
        raise InputError(
            f"{file}: AP50 on {name} was not measured: {entry['labelled_images']} of "
            f"{count(entry['images'], 'image')} are labelled; label more and write the report again"
        )
    if entry.get("trained_on"):
        raise InputError(
            f"{file}: {entry['trained_on']} of {count(entry['images'], 'image')} of {name} are from clips "
            "in the training data, so this AP50 does not hold for new clips; "
            "write the reports on images that none of the runs was trained on"
        )
    images, boxes = _labelled_content(written, name)
    return Point(
        str(path),
        written,
        name,
        _training_boxes(written),
        float(row["ap50"]),
        row.get("ap50_low"),
        row.get("ap50_high"),
        images,
        boxes,
    )


def _real_world_domain(file: Path, record: dict[str, Any], domain: str | None) -> str:
    """Name of the real-world domain to take: the given one, else the only one. Raises InputError."""
    names = [entry["name"] for entry in record["domains"] if entry["role"] == "real_world"]
    if not names:
        raise InputError(f"{file}: has no real-world domain; write it again with --real-world SOURCE")
    if domain is None and len(names) > 1:
        raise InputError(
            f"{file}: has {len(names)} real-world domains, {', '.join(names)}; "
            f"choose one with --domain {names[0]}"
        )
    if domain is not None and domain not in names:
        raise InputError(f"{file}: has no real-world domain {domain!r}; it has {', '.join(names)}")
    return domain or names[0]


def _labelled_content(written: WrittenReport, domain: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The labelled images of a domain and their annotations, by content; see `Point`. Raises InputError."""
    images, boxes = (written.table(name) for name in ("images", "annotations"))
    images = images[(images["domain"] == domain) & images["labelled"]]
    images = images.assign(fingerprint=[value.hex() for value in images["fingerprint"]])
    boxes = boxes[boxes["domain"] == domain].merge(images[["image", "fingerprint"]], on="image")
    boxes = boxes.assign(**{column: boxes[column].round(1) for column in CORNERS})
    tables = (images[["fingerprint", "width", "height"]], boxes[["fingerprint", "label", *CORNERS]])
    first, second = (table.sort_values([*table.columns], ignore_index=True) for table in tables)
    return first, second


def _check_alike(first: Point, second: Point) -> None:
    """Raise InputError where two reports are not two points of one curve."""
    files = f"{first.file} and {second.file}"
    runs = [point.written.record["run"] for point in (first, second)]
    if runs[0]["sha256"] == runs[1]["sha256"]:
        raise InputError(f"{files}: are about the same checkpoint; give one of them")
    if runs[0]["classes"] != runs[1]["classes"]:
        raise InputError(
            f"{files}: their detectors have different classes, {runs[0]['classes']} and "
            f"{runs[1]['classes']}; give reports of runs with the same classes"
        )
    if runs[0]["imgsz"] != runs[1]["imgsz"]:
        raise InputError(
            f"{files}: used different image sizes, {runs[0]['imgsz']} and {runs[1]['imgsz']} px; "
            "write one again with --imgsz, or train at one size"
        )
    if not first.images.equals(second.images):
        fingerprints, others = (Counter(point.images["fingerprint"]) for point in (first, second))
        raise InputError(
            f"{files}: are about different images: {len(first.images):,} and {len(second.images):,} labelled "
            f"real-world ones, {(fingerprints & others).total():,} of them the same; "
            "write both on the same footage with --real-world"
        )
    if not first.boxes.equals(second.boxes):
        raise InputError(
            f"{files}: the labels of their real-world images differ ({len(first.boxes):,} and "
            f"{len(second.boxes):,} boxes); write the older one again with 'shiftscope report'"
        )


def _check_lineage(points: Sequence[Point]) -> None:
    """Raise InputError where a run continued another one on fewer boxes.

    It has learned from both data sets, and neither count says how much that is.
    """
    by_weights = {point.written.record["run"]["sha256"]: point for point in points}
    for point in points:
        parent = by_weights.get(_parent_of(point.written))
        if parent is not None and point.labels < parent.labels:
            raise InputError(
                f"{point.file} and {parent.file}: the first run continued the second on other data alone "
                f"({point.labels:,} boxes after {parent.labels:,}), so its boxes do not count all it has "
                "learned from; train it on both (sources with commas between), or give a CSV"
            )


def _parent_of(written: WrittenReport) -> str | None:
    """Hex digest of the checkpoint that a report's run continued from; None where there is none."""
    digest = written.record["run"].get("parent_sha256")
    return digest if isinstance(digest, str) else None


def _training_boxes(written: WrittenReport) -> int:
    """Boxes in the training images of a report's run. Raises InputError.

    Reports of earlier versions lack the number; for those it is counted from the run folder.
    """
    run, file = written.record["run"], written.folder / REPORT
    if isinstance(run.get("training_boxes"), int):
        return int(run["training_boxes"])
    instead = f"give a CSV with the columns {', '.join(COLUMNS)} instead"
    if run["weights"] is None:
        raise InputError(f"{file}: was written from predictions, without a training run; {instead}")
    boxes, reason = None, "its run folder has moved"
    weights = Path(run["weights"])
    if weights.is_file():
        if file_sha256(weights) != run["sha256"]:
            reason = f"{weights} is another checkpoint now"
        else:
            try:
                boxes = _count_boxes(open_run(weights.parent.parent))
                reason = "its data has changed since training"
            except InputError as error:
                reason = str(error)
    if boxes is None:
        raise InputError(
            f"{file}: does not contain the number of boxes in training, which cannot be counted either: "
            f"{reason}; {instead}"
        )
    return boxes


def _count_boxes(run: Run) -> int | None:
    """Boxes in a run's training images, from its lineage, else from its data. Raises InputError.

    None where the data has another number of images now.
    """
    if run.recorded_boxes is not None:
        return run.recorded_boxes
    source = open_training(run.data_source(), cache=frames_folder())
    images_then, images_now = run.lineage.get("images"), source.images["split"].value_counts()
    if isinstance(images_then, dict) and images_then.get("train") != int(images_now.get("train", 0)):
        return None
    return count_boxes_by_split(source, run.arguments).get("train")


def _is_table(paths: Sequence[Path]) -> bool:
    """Whether the paths are one CSV instead of reports."""
    return len(paths) == 1 and not paths[0].is_dir() and paths[0].suffix.lower() != ".json"


def forecast_labels(paths: Sequence[Path], goal: float, domain: str | None = None) -> LabelForecast:
    """Forecast how many labels an AP50 takes.

    Parameters
    ----------
    paths
        One CSV with the columns labels and ap50, or reports (folders or their report.json).
    goal
        AP50 to reach, a fraction.
    domain
        Real-world domain to take from reports that have several.

    Returns
    -------
    LabelForecast

    Raises
    ------
    InputError
        A file cannot be read, or the reports do not form one curve.
    """
    if _is_table(paths):
        if domain is not None:
            raise InputError(f"--domain {domain}: applies to reports; {paths[0]} is a table of one curve")
        points = _read_table(paths[0])
    else:
        points = _read_reports(paths, domain)
    return LabelForecast(forecast(*_arrays(points), goal), points)


def run_command(options: ForecastOptions, reporter: Reporter) -> tuple[dict[str, Any], str]:
    """The forecast as JSON values and as a sentence; drawn where --out is given. Raises InputError."""
    outlook = forecast_labels(options.curve, options.goal, options.domain)
    if options.out is not None:
        reporter.say(f"Drawn: {_write_forecast(outlook, options.out)[0]}")
    return outlook.as_record(), sentence(outlook)


def _arrays(points: pd.DataFrame) -> tuple[Floats, Floats]:
    """Sizes and scores, (k,) each."""
    return points["labels"].to_numpy(float), points["ap50"].to_numpy(float)


def _answer(answer: Forecast, noun: str) -> str:
    """The forecast in one sentence. noun: what sizes count."""
    goal = f"AP50 {fraction(answer.goal)}"
    if answer.reached:
        return f"{goal} was reached with {answer.low:,} {noun}."
    if answer.low is not None:
        span = f"between {answer.low:,} and {answer.high:,} {noun}"
        return f"{goal} takes {span}, if the curve continues as fitted."
    return f"{goal}: {answer.note}."


def sentence(outlook: LabelForecast) -> str:
    """The forecast in words; from reports, with what was counted."""
    if not outlook.from_reports:
        return _answer(outlook.forecast, "labels")
    labels, answer = outlook.points["labels"], outlook.forecast
    most = int(labels.max())
    words = _answer(answer, "boxes in training")
    if answer.low is not None and answer.high is not None and not answer.reached:
        fewest, largest = (f"{max(0, size - most):,}" for size in (answer.low, answer.high))
        words += (
            f" That is {fewest} to {largest} more than in the largest run, "
            "of the kind that was added from run to run."
        )
    return (
        f"{words} Fitted to {count(len(labels), 'run')} with {int(labels.min()):,} to {most:,} boxes "
        "in their training images, from all sources."
    )


def _write_forecast(outlook: LabelForecast, folder: Path) -> tuple[Path, Path]:
    """Write the curve as a figure and its points as a table that `shiftscope forecast` reads again.

    Parameters
    ----------
    outlook
        The forecast.
    folder
        Where to write; created if missing.

    Returns
    -------
    tuple of Path
        The figure and the table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    axis = "boxes in training" if outlook.from_reports else "labels"
    points = outlook.points.reindex(columns=[*COLUMNS, "ap50_low", "ap50_high"])
    figure = figures.forecast(
        sentence(outlook),
        points[points["labels"] > 0],
        fit_curves(*_arrays(outlook.points)),
        outlook.forecast.goal,
        axis,
        outlook.forecast.low,
        outlook.forecast.high,
    )
    write_text(folder / FIGURE, figures.standalone(figure))
    write_text(folder / TABLE, outlook.points.map(inert).to_csv(index=False))
    return folder / FIGURE, folder / TABLE
