"""CreateML: a list of images, each with annotations by centre and size in pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets.formats.described import Box, Content, ImageLabels, unusable
from datasets.formats.text import json_of, listed, mapping


def recognises(path: Path, head: bytes) -> bool:
    """Whether a JSON is a list of images with coordinates."""
    return head.lstrip()[:1] == b"[" and b'"coordinates"' in head and b'"image' in head


def read(path: Path) -> Content:
    """Boxes by their centre."""
    images = []
    for number, entry in enumerate(listed(json_of(path))):
        entry = mapping(entry)
        name = entry.get("image") or entry.get("imagefilename")
        if not name:
            raise ValueError(f"entry {number} names no image")
        rows = listed(entry.get("annotations", entry.get("annotation")))
        images.append(ImageLabels(str(name), [_box(n, mapping(row)) for n, row in enumerate(rows, start=1)]))
    return Content(images)


def _box(number: int, row: dict[str, Any]) -> Box:
    """One annotation."""
    name, place = str(row.get("label") or "").strip(), mapping(row.get("coordinates"))
    try:
        x, y, width, height = (float(place[key]) for key in ("x", "y", "width", "height"))
    except (KeyError, TypeError, ValueError):
        return unusable(number, "annotation without usable coordinates")
    if not name:
        return unusable(number, "annotation without a label")
    return Box(name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2), number)
