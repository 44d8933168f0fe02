"""Ultralytics NDJSON, as its platform exports datasets: one line about the dataset, then one an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets.formats.described import Box, Content, ImageLabels, extent, unusable
from datasets.formats.text import listed, mapping, objects_of, whole


def recognises(path: Path, head: bytes) -> bool:
    """Whether the first line describes a dataset."""
    first = head.lstrip().splitlines()[:1]
    return bool(first) and b'"type"' in first[0] and b'"dataset"' in first[0]


def read(path: Path) -> Content:
    """Boxes (class, centre and size as fractions), and segments and poses by their box.

    Raises ValueError without class names, or for another task than finding objects.
    """
    lines = objects_of(path)
    header = lines[0][1] if lines else {}
    names = mapping(header.get("class_names"))
    classes = tuple(str(names[key]) for key in sorted(names, key=whole))
    if sorted(map(whole, names)) != list(range(len(names))) or not names:
        raise ValueError("its first line has no class_names numbered from 0")
    if header.get("task") == "classify":
        raise ValueError("is a dataset for classification, which has no boxes")
    images = []
    for number, line in lines[1:]:
        if line.get("type") != "image":
            continue
        name = str(line.get("file") or "")
        if not name:
            raise ValueError(f"line {number} names no file")
        annotations = line.get("annotations")
        boxes = [
            box for kind, row in _rows(mapping(annotations)) for box in [_box(number, kind, row, classes)]
        ]
        images.append(
            ImageLabels(
                name,
                boxes,
                (0, 0),
                True,
                str(line.get("split") or ""),
                labelled=isinstance(annotations, dict),
            )
        )
    return Content(images, classes)


def _rows(annotations: dict[str, Any]) -> list[tuple[str, Any]]:
    """Every object of an image with its kind; one that has a box and a segment occurs once."""
    for kind in ("boxes", "detection", "segments", "pose", "obb"):
        rows = listed(annotations.get(kind))
        if rows:
            return [(kind, row) for row in rows]
    return []


def _box(line: int, kind: str, row: Any, classes: tuple[str, ...]) -> Box:
    """One row: the class, then numbers as in a YOLO label file."""
    try:
        label, *numbers = (float(value) for value in row)
        name = classes[int(label)] if label >= 0 else ""
        if kind in ("segments", "obb"):
            corners = extent(zip(numbers[::2], numbers[1::2], strict=True))
            return Box(name, corners, line, repair="box taken from a polygon")
        x, y, width, height = numbers[:4]
    except (TypeError, ValueError, IndexError, OverflowError):
        return unusable(line, "annotation without a known class and four numbers")
    if not name or max(numbers[:4]) > 2:
        return unusable(
            line, "class is unknown, or coordinates look like pixels; they are fractions of the image"
        )
    return Box(name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2), line)
