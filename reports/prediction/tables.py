"""Detections and images of a prediction as Parquet tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from datasets.tables import CORNERS

if TYPE_CHECKING:
    pass


BOXES = pa.schema(
    [
        ("image", pa.string()),
        ("frame", pa.int64()),
        ("seconds", pa.float64()),
        ("label", pa.int64()),
        ("name", pa.string()),
        *((corner, pa.float64()) for corner in CORNERS),
        ("confidence", pa.float64()),
    ]
)


IMAGES = pa.schema(
    [
        ("image", pa.string()),
        ("path", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("frame", pa.int64()),
        ("seconds", pa.float64()),
    ]
)


@dataclass(frozen=True)
class PredictionTables:
    """Images or frames that were looked at, and their boxes: Parquet files in the columns of IMAGES and BOXES."""

    images: Path
    boxes: Path


def merged_parts(folder: Path, parts: Sequence[Path]) -> PredictionTables:
    """The tables of all segments as one of each; read and written part by part."""
    merged = PredictionTables(
        folder.with_name(folder.name + ".images.parquet"), folder.with_name(folder.name + ".boxes.parquet")
    )
    sides = (
        (merged.images, IMAGES, [p.with_name(p.name.replace(".boxes.", ".images.")) for p in parts]),
        (merged.boxes, BOXES, list(parts)),
    )
    for path, schema, files in sides:
        append(files, path, schema)
    return merged


def append(files: Sequence[Path], path: Path, schema: pa.Schema) -> None:
    """Parquet files of one schema as one, one file in memory at a time."""
    draft = path.with_name(path.name + ".partial")
    with pq.ParquetWriter(draft, schema) as writer:
        for file in files:
            writer.write_table(pq.read_table(file, schema=schema))
    draft.replace(path)
