"""A written report read back: its numbers, and its domains without their embeddings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.errors import InputError
from diagnostics.domain import Domain


@dataclass(frozen=True)
class WrittenReport:
    """A report's folder and the content of its report.json."""

    folder: Path
    record: dict[str, Any]

    @cached_property
    def domains(self) -> tuple[Domain, ...]:
        """Home first, then the real world, from the tables. Raises InputError."""
        tables = {name: self.table(name) for name in ("images", "boxes", "detections")}
        found = []
        for entry in self.record["domains"]:
            images, boxes, detections = (
                table[table["domain"] == entry["name"]].drop(columns="domain").reset_index(drop=True)
                for table in tables.values()
            )
            found.append(
                Domain(
                    name=entry["name"],
                    role=entry["role"],
                    images=images,
                    annotations=boxes,
                    detections=detections.drop(columns="outcome"),
                    image_embeddings=np.zeros((len(images), 0), np.float32),
                    detection_embeddings=np.zeros((len(detections), 0), np.float32),
                    imgsz=self.record["run"]["imgsz"],
                    classes=tuple(self.record["run"]["classes"]),
                )
            )
        return tuple(found)

    def table(self, name: str) -> pd.DataFrame:
        """One of the tables. Raises InputError."""
        path = self.folder / "tables" / f"{name}.parquet"
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
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no report can be read there ({error}); write it with 'shiftscope report'"
        ) from None
    return WrittenReport(folder, record)
