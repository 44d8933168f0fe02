"""FiftyOneImageDetectionDataset: labels.json with boxes as fractions, beside a folder data/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets.formats.described import Box, Content, ImageLabels, unusable
from datasets.formats.text import json_of, listed, mapping


def recognises(path: Path, head: bytes) -> bool:
    """Whether a JSON has labels with FiftyOne's bounding boxes."""
    return head.lstrip()[:1] == b"{" and b'"labels"' in head and b'"bounding_box"' in head


def read(path: Path) -> Content:
    """Boxes by their left upper corner and size as fractions; an image whose labels are null is
    unlabelled.
    """
    content = mapping(json_of(path))
    classes = tuple(map(str, listed(content.get("classes"))))
    images = [
        ImageLabels(
            str(name),
            [_box(number, row, classes) for number, row in enumerate(listed(rows), start=1)],
            fractions=True,
            labelled=isinstance(rows, list),
        )
        for name, rows in mapping(content.get("labels")).items()
    ]
    return Content(images, classes)


def _box(number: int, row: Any, classes: tuple[str, ...]) -> Box:
    """One detection; its label is a number of `classes` or a name."""
    row = mapping(row)
    label = row.get("label")
    try:
        x, y, width, height = (float(value) for value in listed(row.get("bounding_box")))
        name = classes[label] if isinstance(label, int) and label >= 0 else str(label or "")
    except (TypeError, ValueError, IndexError):
        return unusable(number, "detection without a usable bounding_box and label")
    return (
        Box(name, (x, y, x + width, y + height), number)
        if name
        else unusable(number, "detection without a label")
    )
