"""LabelMe: one JSON beside each image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from datasets.formats.described import Box, Content, ImageLabels, extent, unusable
from datasets.formats.text import json_of, listed, mapping, whole
from datasets.pixels import SUFFIXES

# Shapes without an extent.
FLAT = frozenset({"point", "points", "line", "linestrip"})


def recognises(path: Path, head: bytes) -> bool:
    """Whether a JSON has LabelMe's list of shapes."""
    return head.lstrip()[:1] == b"{" and b'"shapes"' in head


def read(path: Path) -> Content:
    """Rectangles as they are, by any two corners; circles, polygons and masks by their extent."""
    content = mapping(json_of(path))
    if not isinstance(content.get("shapes"), list):
        raise ValueError("has no list of shapes")
    size = (whole(content.get("imageWidth")), whole(content.get("imageHeight")))
    # An image beside its JSON is renamed with it, and imagePath is not; it may name a folder of another
    # machine.
    beside = next((path.stem + s for s in SUFFIXES if path.with_suffix(s).is_file()), "")
    name = beside or str(content.get("imagePath") or path.name).replace("\\", "/").rsplit("/", 1)[-1]
    boxes = [_box(number, shape) for number, shape in enumerate(content["shapes"], start=1)]
    groups = [g for shape in content["shapes"] if (g := mapping(shape).get("group_id")) is not None]
    parts = len(groups) - len(set(map(str, groups)))
    remark = f"{parts} shapes share a group_id with another one: each counts as an object" if parts else ""
    return Content([ImageLabels(name, boxes, size)], remark=remark)


def _box(number: int, shape: Any) -> Box:
    """One shape."""
    shape = mapping(shape)
    name, kind = str(shape.get("label") or "").strip(), str(shape.get("shape_type") or "polygon")
    points = listed(shape.get("points"))
    if not name:
        return unusable(number, "shape without a label")
    if kind in FLAT:
        return unusable(number, f"a {kind} has no extent")
    try:
        if kind == "circle":
            (x, y), (edge_x, edge_y) = points
            radius = math.hypot(edge_x - x, edge_y - y)
            return Box(
                name,
                (x - radius, y - radius, x + radius, y + radius),
                number,
                repair="box taken from a circle",
            )
        repair = "" if kind == "rectangle" else f"box taken from a {kind}"
        return Box(name, extent(points), number, repair=repair)
    except (TypeError, ValueError):
        return unusable(number, "shape without usable points")
