"""OIDv4 ToolKit: Label/NAME.txt with a class name, of one or more words, and left, top, right, bottom in
pixels.
"""

from __future__ import annotations

from pathlib import Path

from datasets.formats.described import Box, Content, ImageLabels, unusable
from datasets.formats.text import text_of


def recognises(path: Path, head: bytes) -> bool:
    """Whether the first row is words and four numbers, of which one is no fraction."""
    fields = head.lstrip().splitlines()[0].decode("utf-8", "replace").split() if head.strip() else []
    if len(fields) < 5 or not fields[0][:1].isalpha():
        return False
    try:
        numbers = [float(field) for field in fields[-4:]]
    except ValueError:
        return False
    return max(numbers) > 1 and not any(field.replace(".", "").isdecimal() for field in fields[:-4])


def read(path: Path) -> Content:
    """Boxes by their corners."""
    boxes = []
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        try:
            x1, y1, x2, y2 = (float(field) for field in fields[-4:])
            boxes.append(Box(" ".join(fields[:-4]), (x1, y1, x2, y2), number))
        except ValueError:
            boxes.append(unusable(number, "expected a class name and four numbers"))
    return Content([ImageLabels(path.stem, boxes)])
