"""Boxes in tables: Hugging Face's imagefolder (metadata.jsonl) and the CSV of TensorFlow's tutorials."""

from __future__ import annotations

import codecs
import csv
import io
from collections import defaultdict
from pathlib import Path
from typing import Any

from datasets.formats.described import Box, Content, ImageLabels, unusable
from datasets.formats.text import listed, mapping, objects_of, text_of, whole

CSV_COLUMNS = frozenset({"filename", "class", "xmin", "ymin", "xmax", "ymax"})


def recognises_metadata(path: Path, head: bytes) -> bool:
    """Whether a metadata.jsonl names files with objects."""
    return path.name == "metadata.jsonl" and b'"file_name"' in head and b'"bbox"' in head


def read_metadata(path: Path) -> Content:
    """Boxes of the column objects, in COCO's form (left, top, width, height in pixels)."""
    images = []
    for line, row in objects_of(path):
        if not row.get("file_name"):
            raise ValueError(f"line {line} has no file_name")
        objects = mapping(row.get("objects"))
        names = objects.get("categories", objects.get("category", objects.get("label")))
        boxes = [
            _metadata_box(line, box, name)
            for box, name in zip(listed(objects.get("bbox")), listed(names), strict=False)
        ]
        missing = len(listed(objects.get("bbox"))) - len(boxes)
        boxes += [unusable(line, "box without a category")] * missing
        images.append(ImageLabels(str(row["file_name"]), boxes, labelled="objects" in row))
    return Content(images)


def _metadata_box(line: int, box: Any, name: Any) -> Box:
    """One object."""
    try:
        x, y, width, height = (float(value) for value in box)
    except (TypeError, ValueError):
        return unusable(line, "bbox is not four numbers")
    return Box("" if name is None else str(name), (x, y, x + width, y + height), line)


def recognises_csv(path: Path, head: bytes) -> bool:
    """Whether the first line of a CSV has the columns of TensorFlow's object detection tutorials."""
    encoding = "utf-16" if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    first = head[: len(head) // 2 * 2].decode(encoding, "replace").splitlines()[:1]
    if not first:
        return False
    columns = next(csv.reader(first, delimiter=_delimiter(first[0])), [])
    return {name.strip().lower() for name in columns} >= CSV_COLUMNS


def _delimiter(line: str) -> str:
    """What separates the columns of a first line: Excel writes semicolons where the comma is the decimal
    mark.
    """
    return max(",;\t", key=line.count)


def read_csv(path: Path) -> Content:
    """One row a box; images without a row are not listed, and so unlabelled."""
    text = text_of(path)
    reader = csv.DictReader(io.StringIO(text), delimiter=_delimiter(text.partition("\n")[0]))
    boxes: dict[str, list[Box]] = defaultdict(list)
    sizes: dict[str, tuple[int, int]] = {}
    try:
        for raw in reader:
            row = {
                str(key).strip().lower(): (value or "")
                for key, value in raw.items()
                if isinstance(value, str)
            }
            name = row.get("filename", "").strip()
            sizes[name] = (whole(row.get("width")), whole(row.get("height")))
            try:
                x1, y1, x2, y2 = (float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax"))
                boxes[name].append(Box(row["class"].strip(), (x1, y1, x2, y2), reader.line_num))
            except (KeyError, ValueError):
                boxes[name].append(unusable(reader.line_num, "row without a class and four numbers"))
    except csv.Error as error:
        raise ValueError(f"not a readable CSV ({error})") from None
    return Content([ImageLabels(name, found, sizes[name]) for name, found in boxes.items() if name])
