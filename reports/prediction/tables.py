"""Images and detections of a prediction as Parquet tables, written part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datasets.files import draft_file
from datasets.tables import CORNERS
from diagnostics.matching import Floats

# seconds: time within a video, NaN for an image.
IMAGE_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("path", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("frame", pa.int64()),
        ("seconds", pa.float64()),
    ]
)
BOX_SCHEMA = pa.schema(
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
# How the name of a boxes table ends; the images table beside it ends in .images.parquet.
BOXES_SUFFIX = ".boxes.parquet"


@dataclass(frozen=True)
class PredictionTables:
    """Two Parquet files of predicted images or frames.

    images: columns of IMAGE_SCHEMA, one row per image
    boxes: columns of BOX_SCHEMA, one row per detection
    """

    images: Path
    boxes: Path

    @classmethod
    def at(cls, stem: Path) -> PredictionTables:
        """The tables whose names begin with a stem."""
        return cls(stem.with_name(stem.name + ".images.parquet"), stem.with_name(stem.name + BOXES_SUFFIX))


def write_part(
    stem: Path, rows: Sequence[tuple[Any, ...]], boxes: Sequence[Floats], classes: Sequence[str]
) -> PredictionTables:
    """Write one part of a prediction; the boxes come last, so that their file marks a complete part.

    Parameters
    ----------
    stem
        Path that the file names begin with.
    rows
        One tuple per image, in the column order of IMAGE_SCHEMA.
    boxes
        One array (N, 6) per image: x1, y1, x2, y2 in pixels, confidence, label.
    classes
        Class names in the order of the labels.

    Returns
    -------
    PredictionTables
        The two files.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    columns = [[row[index] for row in rows] for index in range(len(IMAGE_SCHEMA))]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, IMAGE_SCHEMA, strict=True)]
    images = pa.table(arrays, schema=IMAGE_SCHEMA)
    numbers = np.concatenate(boxes) if boxes else np.zeros((0, 6), np.float32)
    row_of_box = np.repeat(np.arange(len(rows)), [len(image_boxes) for image_boxes in boxes])
    labels = numbers[:, 5].astype(np.int64)
    names = np.array(classes, object)
    detections = pa.table(
        [
            images["image"].take(row_of_box),
            images["frame"].take(row_of_box),
            images["seconds"].take(row_of_box),
            pa.array(labels),
            pa.array(names[labels].tolist(), pa.string()),
            *(pa.array(numbers[:, i].astype(float)) for i in range(4)),
            pa.array(numbers[:, 4].astype(float)),
        ],
        schema=BOX_SCHEMA,
    )
    tables = PredictionTables.at(stem)
    for table, path in ((images, tables.images), (detections, tables.boxes)):
        with draft_file(path) as draft:
            pq.write_table(table, draft)
    return tables


def merge_parts(tables: Sequence[PredictionTables], merged: PredictionTables) -> PredictionTables:
    """Concatenate the tables of several parts in order; returns the merged ones."""
    _concatenate([part.images for part in tables], merged.images, IMAGE_SCHEMA)
    _concatenate([part.boxes for part in tables], merged.boxes, BOX_SCHEMA)
    return merged


def _concatenate(files: Sequence[Path], path: Path, schema: pa.Schema) -> None:
    """Concatenate Parquet files of one schema with one file in memory at a time."""
    with draft_file(path) as draft, pq.ParquetWriter(draft, schema) as writer:
        for file in files:
            writer.write_table(pq.read_table(file, schema=schema))
