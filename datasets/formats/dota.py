"""DOTA: labelTxt/NAME.txt with the four corners of a rotated box, its class and whether it is difficult."""

from __future__ import annotations

from pathlib import Path

from datasets.formats.described import Box, Content, ImageLabels, extent, unusable
from datasets.formats.text import text_of

HEADERS = ("imagesource:", "gsd:")


def recognises(path: Path, head: bytes) -> bool:
    """Whether the first rows are DOTA's header, or eight numbers, a word and perhaps a number."""
    for raw in head.lstrip().splitlines()[:3]:
        line = raw.decode("utf-8", "replace").strip()
        if line.lower().startswith("imagesource:"):
            return True
        if not line.lower().startswith(HEADERS):
            fields = line.split()
            return len(fields) in (9, 10) and _numbers(fields[:8]) and not _numbers(fields[8:9])
    return False


def _numbers(fields: list[str]) -> bool:
    """Whether every field is a number."""
    try:
        return [float(field) for field in fields] != []
    except ValueError:
        return False


def read(path: Path) -> Content:
    """The extent of every rotated box; difficult ones count neither for nor against a detector."""
    boxes = []
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        fields = line.split()
        if not fields or line.strip().lower().startswith(HEADERS):
            continue
        if len(fields) not in (9, 10) or not _numbers(fields[:8]):
            boxes.append(unusable(number, "expected eight coordinates, a class and whether it is difficult"))
            continue
        corners = extent(zip(fields[:8:2], fields[1:8:2], strict=True))
        outline = tuple(map(float, fields[:8]))
        repair = "box taken from a rotated box"
        boxes.append(Box(fields[8], corners, number, fields[9:] == ["1"], repair, outline=outline))
    return Content([ImageLabels(path.stem, boxes)])
