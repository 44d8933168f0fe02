"""Label Studio's own JSON export: tasks with results in percent of the image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from datasets.formats.described import Box, Content, ImageLabels, extent, unusable
from datasets.formats.text import json_of, listed, mapping


def recognises(path: Path, head: bytes) -> bool:
    """Whether a JSON is a list of Label Studio's tasks."""
    return (
        head.lstrip()[:1] == b"[" and b'"data"' in head and b'"annotations"' in head and b'"result"' in head
    )


def read(path: Path) -> Content:
    """Rectangles (by the extent of turned ones), and polygons by their extent; a task without an annotation,
    or with a cancelled one only, is unlabelled.
    """
    images, several, sets = [], 0, 0
    for number, task in enumerate(listed(json_of(path))):
        task = mapping(task)
        name = _image_of(task)
        if not name:
            raise ValueError(f"task {number} names no image")
        finished = [a for a in map(mapping, listed(task.get("annotations"))) if not a.get("was_cancelled")]
        # Several people's annotations of one task are not added up: that which is marked as the ground truth
        # counts, else the newest, else the last.
        finished.sort(key=lambda a: (bool(a.get("ground_truth")), str(a.get("updated_at") or "")))
        several += len(finished) > 1
        results = listed(finished[-1].get("result")) if finished else []
        # Which of a task's images a result belongs to stands in the project's settings, which are not
        # exported.
        targets = {row.get("to_name") for row in map(mapping, results) if "original_width" in row}
        if len(targets) > 1:
            sets += 1
            finished, results = [], []
        boxes = [box for n, row in enumerate(results, start=1) for box in _boxes(n, mapping(row))]
        images.append(ImageLabels(name, boxes, fractions=True, labelled=bool(finished)))
    remarks = []
    if several:
        remarks.append(
            f"{several} tasks have several annotations: the one marked ground_truth is read, else the newest"
        )
    if sets:
        remarks.append(f"{sets} tasks annotate several images each: not read, give one task an image")
    return Content(images, remark="; ".join(remarks))


def _image_of(task: dict[str, Any]) -> str:
    """Path of a task's image, with its folders where it was not uploaded."""
    data = mapping(task.get("data"))
    for value in (data.get("image"), task.get("file_upload"), *data.values()):
        if isinstance(value, str) and "." in value:
            # Files of a local storage stand behind "?d=", and what else follows a "?" signs an address.
            address, _, local = value.partition("?d=")
            return unquote(local or address.partition("?")[0]).replace("\\", "/")
    return ""


def _boxes(number: int, row: dict[str, Any]) -> list[Box]:
    """The object of one result; relations, texts and ratings are none."""
    kind, value = str(row.get("type", "")), mapping(row.get("value"))
    # A template with <Rectangle> and <Labels> apart writes the names under "labels".
    kind = f"{kind}labels" if kind in ("rectangle", "polygon", "ellipse") else kind
    if kind == "labels" and "width" in value:
        kind = "rectanglelabels"
    labels = listed(value.get(kind)) or listed(value.get("labels"))
    if kind not in ("rectanglelabels", "polygonlabels", "ellipselabels"):
        return [unusable(number, f"{kind} have no box")] if kind.endswith("labels") else []
    try:
        if len(labels) > 1:
            return [unusable(number, f"{kind} with {len(labels)} labels: {', '.join(map(str, labels))[:60]}")]
        name = str(labels[0])
        if kind == "polygonlabels":
            corners = extent((x / 100, y / 100) for x, y in value["points"])
            return [Box(name, corners, number, repair="box taken from a polygon")]
        if kind == "ellipselabels":
            x, y, rx, ry = (float(value[key]) / 100 for key in ("x", "y", "radiusX", "radiusY"))
            return [Box(name, (x - rx, y - ry, x + rx, y + ry), number, repair="box taken from an ellipse")]
        return [_rectangle(number, name, row, value)]
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError):
        return [unusable(number, f"{kind} without a label and usable coordinates")]


def _rectangle(number: int, name: str, row: dict[str, Any], value: dict[str, Any]) -> Box:
    """A rectangle, turned about its left upper corner in pixels."""
    x, y, width, height = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
    angle = math.radians(float(value.get("rotation") or 0))
    if not angle:
        return Box(name, (x, y, x + width, y + height), number)
    aspect = float(row["original_width"]) / float(row["original_height"])
    points = []
    for along, across in ((0.0, 0.0), (width, 0.0), (0.0, height), (width, height)):
        # In units of the image's height, so that angles are true.
        dx, dy = along * aspect, across
        points.append(
            (
                x + (dx * math.cos(angle) - dy * math.sin(angle)) / aspect,
                y + dx * math.sin(angle) + dy * math.cos(angle),
            )
        )
    return Box(name, extent(points), number, repair="box taken from a rotated box")
