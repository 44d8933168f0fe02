"""`shiftscope forecast`: how many labels a score will take, from what a few sizes gave: a table of them, or the reports of one's own runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.errors import InputError
from datasets.source import open_training
from datasets.tables import CORNERS
from diagnostics.forecast import Forecast, curves, forecast
from diagnostics.matching import Floats
from diagnostics.wording import count, fraction
from reports.files import write_text
from reports.page import figures
from reports.page.reader import WrittenReport, read_report
from reports.page.writer import inert
from train.environment import frames_folder
from train.run import Run, file_sha256, open_run
from train.staging import boxes_shown

COLUMNS = ("labels", "ap50")
REPORT = "report.json"
# Said where a table was expected and none is there.
OR_REPORTS = "or give the folders of two reports or more"
FIGURE, TABLE = "forecast.svg", "forecast.csv"
# What is counted where reports are given.
COUNTED = "boxes that training was shown, wherever they come from"


@dataclass(frozen=True)
class LabelForecast:
    """A forecast and what it rests on. points: one row a training, with labels and ap50; from reports also report, domain and the interval, ap50_low and ap50_high."""

    found: Forecast
    points: pd.DataFrame

    @property
    def from_reports(self) -> bool:
        """Whether sizes are boxes in training, counted by us, and not what somebody typed."""
        return "report" in self.points

    def as_record(self) -> dict[str, Any]:
        """As JSON values; from a table, the forecast alone."""
        if not self.from_reports:
            return asdict(self.found)
        points = self.points.astype(object).where(self.points.notna(), None)
        return {**asdict(self.found), "counted": COUNTED, "points": points.to_dict("records")}


def _read_sizes(path: Path) -> pd.DataFrame:
    """A CSV with the columns labels and ap50, one row a training. Raises InputError naming the file and the line."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as CSV ({str(error).splitlines()[0]}); {OR_REPORTS}"
        ) from None
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise InputError(
            f"{path}: lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; one row a training: labels it was given, and the AP50 it reached; {OR_REPORTS}"
        )
    numbers = table[list(COLUMNS)].apply(pd.to_numeric, errors="coerce")
    wrong = (
        ~np.isfinite(numbers).all(axis=1) | (numbers["labels"] < 0) | ~numbers["ap50"].between(0, 1)
    ).to_numpy()
    if wrong.any():
        line = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"{path}:{line + 2}: labels {table['labels'].iloc[line]!r} and ap50 {table['ap50'].iloc[line]!r}; labels is a number from 0, ap50 a fraction from 0 to 1"
        )
    return numbers


@dataclass(frozen=True)
class Point:
    """One report as a point of the curve. name: as it was given. domain: the real-world one. labels: boxes that training was shown.

    images: fingerprint, width, height of each labelled image; boxes: fingerprint, label and corners of each object; both sorted, so that equal tables are equal content.
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


def _read_reports(paths: Sequence[Path], domain: str | None = None) -> pd.DataFrame:
    """Reports as a table, one row each: report, domain, labels, ap50, ap50_low, ap50_high. labels: boxes that training was shown.

    They must be one curve: about the same labelled real-world images, with the same classes, at one image size, of different runs. Raises InputError naming the file, or the
    two that do not go together.
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
    """One report. domain: the real-world domain to take, None where there is one. Raises InputError."""
    if not path.is_dir() and path.name != REPORT:
        raise InputError(
            f"{path}: {'is no report' if path.exists() else 'no such report'}; give folders that 'shiftscope report' wrote, or one CSV alone"
        )
    written = read_report(path if path.is_dir() else path.parent)
    file = written.folder / REPORT
    record = written.record
    real_world = [entry["name"] for entry in record["domains"] if entry["role"] == "real_world"]
    if not real_world:
        raise InputError(f"{file}: has no real-world domain; write it again with --real-world SOURCE")
    if domain is None and len(real_world) > 1:
        raise InputError(
            f"{file}: has {len(real_world)} real-world domains, {', '.join(real_world)}; choose one with --domain {real_world[0]}"
        )
    if domain is not None and domain not in real_world:
        raise InputError(f"{file}: has no real-world domain {domain!r}; its own: {', '.join(real_world)}")
    name = domain or real_world[0]
    entry = next(entry for entry in record["domains"] if entry["name"] == name)
    whole = [row for row in record["slices"] if row["slice"] == "all" and row["domain"] == name]
    row: dict[str, Any] = whole[0] if whole else {}
    if row.get("ap50") is None:
        why = f"it has labels on {entry['labelled_images']} of {count(entry['images'], 'image')}"
        raise InputError(f"{file}: no AP50 was measured on {name}: {why}; label some, and write it again")
    if entry.get("trained_on"):
        raise InputError(
            f"{file}: {entry['trained_on']} of {count(entry['images'], 'image')} of {name} are from clips that its training shows, and AP50 there says nothing of others; write the reports on images that none of the runs was trained on"
        )
    images, boxes = content(written, name)
    return Point(
        str(path),
        written,
        name,
        _labels_of(written),
        float(row["ap50"]),
        row.get("ap50_low"),
        row.get("ap50_high"),
        images,
        boxes,
    )


def content(written: WrittenReport, domain: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a domain's AP50 was measured on, told by content; see `Point`. Raises InputError."""
    images, boxes = (written.table(name) for name in ("images", "boxes"))
    images = images[(images["domain"] == domain) & images["labelled"]]
    images = images.assign(fingerprint=[value.hex() for value in images["fingerprint"]])
    boxes = boxes[boxes["domain"] == domain].merge(images[["image", "fingerprint"]], on="image")
    boxes = boxes.assign(**{column: boxes[column].round(1) for column in CORNERS})
    tables = (images[["fingerprint", "width", "height"]], boxes[["fingerprint", "label", *CORNERS]])
    first, second = (table.sort_values([*table.columns], ignore_index=True) for table in tables)
    return first, second


def _check_alike(first: Point, second: Point) -> None:
    """Raise InputError where two reports are no two points of one curve."""
    files = f"{first.written.folder / REPORT} and {second.written.folder / REPORT}"
    runs = [point.written.record["run"] for point in (first, second)]
    if runs[0]["sha256"] == runs[1]["sha256"]:
        raise InputError(f"{files}: are about the same checkpoint; give one of them")
    if runs[0]["classes"] != runs[1]["classes"]:
        raise InputError(
            f"{files}: their detectors know other classes, {runs[0]['classes']} and {runs[1]['classes']}; give reports of runs with the same"
        )
    if runs[0]["imgsz"] != runs[1]["imgsz"]:
        raise InputError(
            f"{files}: looked at images at other sizes, {runs[0]['imgsz']} and {runs[1]['imgsz']} px; write one again with --imgsz, or train at one size"
        )
    if not first.images.equals(second.images):
        known, others = (Counter(point.images["fingerprint"]) for point in (first, second))
        raise InputError(
            f"{files}: are about different images: {len(first.images):,} and {len(second.images):,} labelled real-world ones, {(known & others).total():,} of them the same; write both on the same footage with --real-world"
        )
    if not first.boxes.equals(second.boxes):
        raise InputError(
            f"{files}: the labels of their real-world images differ ({len(first.boxes):,} and {len(second.boxes):,} boxes); write the older one again with 'shiftscope report'"
        )


def _check_lineage(points: Sequence[Point]) -> None:
    """Raise InputError where a run that went on from another of them was shown less than that: what it knows is from both, and neither count says how much that was."""
    by_weights = {point.written.record["run"]["sha256"]: point for point in points}
    for point in points:
        before = by_weights.get(_parent_of(point.written))
        if before is not None and point.labels < before.labels:
            raise InputError(
                f"{point.written.folder / REPORT} and {before.written.folder / REPORT}: the first run went on from the second with other data alone ({point.labels:,} boxes after {before.labels:,}), so that its boxes do not say what it was taught; train it on both (sources with commas between), or give a CSV"
            )


def _parent_of(written: WrittenReport) -> str | None:
    """Hex digest of the checkpoint that a report's run went on from, None where it says none."""
    digest = written.record["run"].get("parent_sha256")
    return digest if isinstance(digest, str) else None


def _labels_of(written: WrittenReport) -> int:
    """Boxes that the training of a report's run was shown; for reports that do not say so, from the run as it lies. Raises InputError."""
    run, file = written.record["run"], written.folder / REPORT
    if isinstance(run.get("training_boxes"), int):
        return int(run["training_boxes"])
    if run["weights"] is None:
        raise InputError(
            f"{file}: was written from predictions, and says nothing of a training; give a CSV with the columns {', '.join(COLUMNS)} instead"
        )
    found, why = None, "its run folder is not where it was"
    weights = Path(run["weights"])
    if weights.is_file():
        if file_sha256(weights) != run["sha256"]:
            why = f"{weights} is another checkpoint by now"
        else:
            try:
                found = _counted(open_run(weights.parent.parent))
                why = "its data is not what it was trained on any more"
            except InputError as error:
                why = str(error)
    if found is None:
        raise InputError(
            f"{file}: does not say how many boxes its run was trained with, and the run does not either: {why}; give a CSV with the columns {', '.join(COLUMNS)} instead"
        )
    return found


def _counted(run: Run) -> int | None:
    """Boxes that a run's training was shown, from its lineage, else from its data; None where that has other images by now. Raises InputError."""
    boxes = run.lineage.get("boxes")
    if isinstance(boxes, dict) and isinstance(boxes.get("train"), int):
        return int(boxes["train"])
    source = open_training(run.data_source(), cache=frames_folder())
    then, now = run.lineage.get("images"), source.images["split"].value_counts()
    if isinstance(then, dict) and then.get("train") != int(now.get("train", 0)):
        return None
    return boxes_shown(source, run.arguments).get("train")


def _is_table(paths: Sequence[Path]) -> bool:
    """Whether a CSV was given, and not reports."""
    return len(paths) == 1 and not paths[0].is_dir() and paths[0].suffix.lower() != ".json"


def forecast_labels(paths: Sequence[Path], goal: float, domain: str | None = None) -> LabelForecast:
    """The forecast for a goal, from one CSV or from reports. domain: of reports, the real-world one to take. Raises InputError."""
    if _is_table(paths):
        if domain is not None:
            raise InputError(f"--domain {domain}: goes with reports; {paths[0]} is a table of one curve")
        points = _read_sizes(paths[0])
    else:
        points = _read_reports(paths, domain)
    return LabelForecast(forecast(*_arrays(points), goal), points)


def _arrays(points: pd.DataFrame) -> tuple[Floats, Floats]:
    """Sizes and scores, (k,) each."""
    return points["labels"].to_numpy(float), points["ap50"].to_numpy(float)


def answer(path: Path, goal: float) -> Forecast:
    """The forecast for a goal from a CSV. Raises InputError."""
    return forecast_labels([path], goal).found


def line(found: Forecast, noun: str = "labels") -> str:
    """The answer in one sentence. noun: what is counted."""
    goal = f"AP50 {fraction(found.goal)}"
    if found.reached:
        return f"{goal} was reached with {found.low:,} {noun}."
    if found.low is not None:
        return f"{goal} will take between {found.low:,} and {found.high:,} {noun}, if the curve goes on as it began."
    return f"{goal}: {found.note}."


def sentence(outlook: LabelForecast) -> str:
    """The answer, and from reports how it was counted."""
    if not outlook.from_reports:
        return line(outlook.found)
    labels = outlook.points["labels"]
    said = line(outlook.found, "boxes in training")
    found, most = outlook.found, int(labels.max())
    if found.low is not None and found.high is not None and not found.reached:
        more = [f"{max(0, size - most):,}" for size in (found.low, found.high)]
        said += f" That is {more[0]} to {more[1]} more than the largest run was shown, of the kind that was added from run to run."
    return f"{said} From {count(len(labels), 'run')} with {int(labels.min()):,} to {most:,} boxes: all that training was shown, wherever they come from."


def write_forecast(outlook: LabelForecast, folder: Path) -> tuple[Path, Path]:
    """The curve as a figure and as a table that `shiftscope forecast` reads again; returns both files."""
    folder.mkdir(parents=True, exist_ok=True)
    words = "boxes in training" if outlook.from_reports else "labels"
    drawn = outlook.points.reindex(columns=[*COLUMNS, "ap50_low", "ap50_high"])
    figure = figures.forecast(
        sentence(outlook),
        drawn[drawn["labels"] > 0],
        curves(*_arrays(outlook.points)),
        outlook.found.goal,
        words,
        outlook.found.low,
        outlook.found.high,
    )
    write_text(folder / FIGURE, figures.standalone(figure))
    write_text(folder / TABLE, outlook.points.map(inert).to_csv(index=False))
    return folder / FIGURE, folder / TABLE
