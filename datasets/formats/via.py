"""VGG Image Annotator: a project, its JSON export or its CSV export."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from datasets.formats.described import Box, Content, ImageLabels, extent, unusable
from datasets.formats.text import json_of, listed, mapping, text_of

# Attributes that people name the class in, before any other.
CLASS_KEYS = ("class", "label", "name", "type", "category")


def recognises(path: Path, head: bytes) -> bool:
    """Whether a file has VIA's regions with shape attributes."""
    if path.suffix.lower() == ".csv":
        return b"region_shape_attributes" in head.splitlines()[0] if head else False
    return b'"regions"' in head and b'"shape_attributes"' in head


def read(path: Path) -> Content:
    """Rectangles, and other regions by their extent; the class is the region's attribute of that name."""
    if path.suffix.lower() == ".csv":
        return Content(_from_csv(path))
    content = mapping(json_of(path))
    entries = mapping(content.get("_via_img_metadata")) or content
    images = []
    for entry in entries.values():
        entry = mapping(entry)
        if not entry.get("filename"):
            continue
        regions = entry.get("regions")
        rows = list(regions.values()) if isinstance(regions, dict) else listed(regions)
        boxes = [_box(number, mapping(row)) for number, row in enumerate(rows, start=1)]
        images.append(ImageLabels(str(entry["filename"]), boxes))
    return Content(images)


def _from_csv(path: Path) -> list[ImageLabels]:
    """The CSV export: one row a region, and one without a region for an empty image."""
    boxes: dict[str, list[Box]] = defaultdict(list)
    reader = csv.DictReader(io.StringIO(text_of(path)))
    try:
        for row in reader:
            name = row.get("filename") or row.get("#filename") or ""
            try:
                shape, attributes = (
                    json.loads(row.get(key) or "{}")
                    for key in ("region_shape_attributes", "region_attributes")
                )
            except ValueError:
                boxes[name].append(unusable(reader.line_num, "attributes are not JSON"))
                continue
            found = boxes[name]
            if shape:
                found.append(
                    _box(reader.line_num, {"shape_attributes": shape, "region_attributes": attributes})
                )
    except csv.Error as error:
        raise ValueError(f"not a readable CSV ({error})") from None
    return [ImageLabels(name, found) for name, found in boxes.items() if name]


def _box(number: int, region: dict[str, Any]) -> Box:
    """One region."""
    shape, attributes = mapping(region.get("shape_attributes")), mapping(region.get("region_attributes"))
    name = _class_of(attributes)
    if not name:
        return unusable(number, "region without an attribute that names its class")
    kind = str(shape.get("name", ""))
    try:
        if kind == "rect":
            x, y = float(shape["x"]), float(shape["y"])
            return Box(name, (x, y, x + float(shape["width"]), y + float(shape["height"])), number)
        if kind in ("circle", "ellipse"):
            x, y = float(shape["cx"]), float(shape["cy"])
            rx = float(shape["r"] if kind == "circle" else shape["rx"])
            ry = float(shape["r"] if kind == "circle" else shape["ry"])
            return Box(name, (x - rx, y - ry, x + rx, y + ry), number, repair=f"box taken from a {kind}")
        if kind == "polygon":
            corners = extent(zip(shape["all_points_x"], shape["all_points_y"], strict=True))
            return Box(name, corners, number, repair="box taken from a polygon")
    except (KeyError, TypeError, ValueError):
        return unusable(number, f"{kind} without usable coordinates")
    return unusable(number, f"a {kind or 'region without a shape'} has no extent")


def _class_of(attributes: dict[str, Any]) -> str:
    """The class in a region's attributes; a checkbox holds it as a key."""
    by_lower_case = {str(key).lower(): value for key, value in attributes.items()}
    values = [by_lower_case[key] for key in CLASS_KEYS if key in by_lower_case] or list(attributes.values())
    for value in values:
        chosen = [str(key) for key, on in value.items() if on] if isinstance(value, dict) else [str(value)]
        if len(chosen) == 1 and chosen[0].strip():
            return chosen[0].strip()
    return ""
