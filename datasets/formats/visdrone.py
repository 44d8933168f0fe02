"""VisDrone detection: annotations/NAME.txt with left, top, width, height, score, category, truncation,
occlusion.
"""

from __future__ import annotations

import re
from pathlib import Path

from datasets.formats.described import Box, Content, ImageLabels, unusable
from datasets.formats.text import text_of

CLASSES = (
    "pedestrian",
    "people",
    "bicycle",
    "car",
    "van",
    "truck",
    "tricycle",
    "awning-tricycle",
    "bus",
    "motor",
)
# Eight integers, some files with a comma at the end.
ROW = re.compile(rb"^\s*-?\d{1,9}(,\s*-?\d{1,9}){7},?\s*$")


def recognises(path: Path, head: bytes) -> bool:
    """Whether the first row has eight integers between commas, with a category that VisDrone has."""
    first = head.lstrip().splitlines()[:1]
    if not first or not ROW.match(first[0]):
        return False
    fields = first[0].decode("ascii").rstrip().rstrip(",").split(",")
    return int(fields[4]) in (0, 1) and 0 <= int(fields[5]) <= len(CLASSES) + 1


def read(path: Path) -> Content:
    """Boxes of the ten categories; ignored regions (category 0, score 0, others) count for no class.

    VisDrone's own evaluation leaves detections in ignored regions out.
    """
    boxes = []
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        fields = [field.strip() for field in line.strip().rstrip(",").split(",")]
        if fields == [""]:
            continue
        try:
            x, y, width, height, score, category = (int(field) for field in fields[:6])
            corners = (float(x), float(y), float(x + width), float(y + height))
        except (ValueError, OverflowError):
            boxes.append(unusable(number, "expected eight integers separated by commas"))
            continue
        if not 0 <= category <= len(CLASSES) + 1:
            boxes.append(unusable(number, f"category {category} is not one of VisDrone's"))
        elif score == 0 or category in (0, len(CLASSES) + 1):
            boxes.append(Box("", corners, number, crowd=True, every_class=True))
        else:
            boxes.append(Box(CLASSES[category - 1], corners, number))
    return Content([ImageLabels(path.stem, boxes)], CLASSES)
