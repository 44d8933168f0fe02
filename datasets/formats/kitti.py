"""KITTI: label_2/NAME.txt with type, truncation, occlusion, angle, left, top, right, bottom, and a box in
space.
"""

from __future__ import annotations

import re
from pathlib import Path

from datasets.formats.described import Box, Content, ImageLabels, unusable
from datasets.formats.text import text_of

COLUMNS = (15, 16)
IGNORED = "DontCare"


def recognises(path: Path, head: bytes) -> bool:
    """Whether the first row is a word and fourteen numbers, or fifteen with a score."""
    fields = head.lstrip().splitlines()[0].split() if head.strip() else []
    try:
        return (
            len(fields) in COLUMNS
            and re.fullmatch(rb"[A-Za-z][\w-]*", fields[0]) is not None
            and [float(f) for f in fields[1:]] != []
        )
    except ValueError:
        return False


def read(path: Path) -> Content:
    """Boxes in the image; regions marked DontCare count for no class."""
    boxes, scored = [], 0
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            x1, y1, x2, y2 = (float(field) for field in fields[4:8])
        except ValueError:
            boxes.append(unusable(number, "expected a type and fourteen numbers"))
            continue
        scored += len(fields) == max(COLUMNS)
        is_ignored = fields[0] == IGNORED
        boxes.append(Box(fields[0], (x1, y1, x2, y2), number, is_ignored, every_class=is_ignored))
    remark = f"{scored} rows have a score, as a detector's results: read as labels" if scored else ""
    return Content([ImageLabels(path.stem, boxes)], remark=remark)
