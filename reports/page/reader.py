"""A written report read back: its numbers, and its domains without their embeddings."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.errors import InputError
from diagnostics.domain import Domain
from reports.page.schema import upgrade
from train.environment import runs_folder

# What stands in a report's folder beside its tables.
FILES = (
    "report.html",
    "report.md",
    "report.json",
    "metrics.json",
    "sweep.csv",
    "inference.yaml",
    "ledger.csv",
)
# Names of tables in reports of schema version 1.
FORMER_TABLES = {"images": "pictures", "annotations": "boxes"}


@dataclass(frozen=True)
class WrittenReport:
    """A report on disk.

    folder: the report's folder
    record: the content of its report.json, in the words of the current schema version
    """

    folder: Path
    record: dict[str, Any]

    @cached_property
    def domains(self) -> tuple[Domain, ...]:
        """The in-domain domain first, then the real-world ones, from the tables. Raises InputError."""
        tables = {name: self.table(name) for name in ("images", "annotations", "detections")}
        return tuple(self._domain(entry, tables) for entry in self.record["domains"])

    def _domain(self, entry: dict[str, Any], tables: dict[str, pd.DataFrame]) -> Domain:
        """One domain from the tables of all; without embeddings, which are not kept."""
        images, annotations, detections = (
            table[table["domain"] == entry["name"]].drop(columns="domain").reset_index(drop=True)
            for table in tables.values()
        )
        return Domain(
            name=entry["name"],
            role=entry["role"],
            images=images,
            annotations=annotations,
            detections=detections.drop(columns="outcome"),
            image_embeddings=np.zeros((len(images), 0), np.float32),
            detection_embeddings=np.zeros((len(detections), 0), np.float32),
            imgsz=self.record["run"]["imgsz"],
            classes=tuple(self.record["run"]["classes"]),
        )

    def table(self, name: str) -> pd.DataFrame:
        """One of the tables. Raises InputError."""
        path = self.folder / "tables" / f"{name}.parquet"
        if not path.exists() and name in FORMER_TABLES:
            path = path.with_stem(FORMER_TABLES[name])
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error}); write the report again") from None


def read_report(folder: Path) -> WrittenReport:
    """Read report.json of a report's folder. Raises InputError when it is not there or not one."""
    path = folder / "report.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["domains"], record["verdict"], record["run"]
        record = upgrade(record)
    except OSError as error:
        raise InputError(
            f"{path}: no report can be read there ({error.strerror}); write it with 'shiftscope report'"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: no report can be read there ({error}); write it with 'shiftscope report'"
        ) from None
    return WrittenReport(folder, record)


def report_files(folder: Path) -> dict[str, Path]:
    """The files of a written report by their path in its folder, and no others: --out may name a folder that
    holds something else as well.
    """
    there = [folder / name for name in FILES] + sorted((folder / "tables").glob("*.parquet"))
    return {path.relative_to(folder).as_posix(): path for path in there if path.is_file()}


def written_reports() -> list[Path]:
    """Folders of the reports in the runs folder, the one written last first."""
    paths = (runs_folder() / "report").glob("*/report.json")
    return [path.parent for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)]


def command_path(folder: Path) -> str:
    """A report's folder as commands name it: relative where it lies below the working folder, quoted."""
    absolute = folder.absolute()
    inside = absolute.is_relative_to(Path.cwd())
    return shlex.quote(str(absolute.relative_to(Path.cwd()) if inside else absolute))


def find_report(given: Path | None) -> Path:
    """The folder of the given report, or of the one written last. Raises InputError without any."""
    if given is not None:
        folder = given.resolve()
        if not folder.exists():
            there = sorted(folder.name for folder in written_reports())
            raise InputError(f"{given}: no such report; there are: {', '.join(there) or 'none yet'}")
        return folder if folder.is_dir() else folder.parent
    written = written_reports()
    if not written:
        raise InputError(f"no report in {runs_folder() / 'report'}; write one with 'shiftscope report'")
    return written[0]
