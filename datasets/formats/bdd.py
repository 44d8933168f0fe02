"""BDD100K and Scalabel: lists of frames with labels, or one JSON an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets.formats.described import Box, Content, ImageLabels, extent, unusable
from datasets.formats.text import json_of, listed, mapping


def recognises(path: Path, head: bytes) -> bool:
    """Whether a JSON has labels with a category in BDD100K's form."""
    return b'"name"' in head and (b'"box2d"' in head or (b'"labels"' in head and b'"timestamp"' in head))


def read(path: Path) -> Content:
    """Boxes (box2d); polygons (poly2d) by their extent, except lanes and drivable areas, which are no
    objects.
    """
    content = json_of(path)
    if isinstance(content, dict):
        # Scalabel wraps the list; BDD100K's first release has one file an image, with its objects in frames.
        frames = listed(content.get("frames"))
        if any("objects" in mapping(frame) for frame in frames):
            objects = [item for frame in frames for item in listed(mapping(frame).get("objects"))]
            return Content([ImageLabels(str(content.get("name") or path.stem), list(_boxes(objects)))])
        content = frames
    if not isinstance(content, list):
        raise ValueError("has no list of frames")
    images = []
    for number, frame in enumerate(content):
        if not isinstance(frame, dict) or not frame.get("name"):
            raise ValueError(f"frame {number} has no name")
        # Scalabel names a frame within its video. Test images are listed without labels.
        video = str(frame.get("videoName") or "")
        images.append(
            ImageLabels(
                f"{video}/{frame['name']}" if video else str(frame["name"]),
                list(_boxes(listed(frame.get("labels")))),
                labelled="labels" in frame,
            )
        )
    return Content(images)


def _boxes(labels: list[Any]) -> Iterator[Box]:
    """The objects of one image."""
    for number, label in enumerate(labels, start=1):
        label = mapping(label)
        name, box, polygons = str(label.get("category") or ""), label.get("box2d"), label.get("poly2d")
        # BDD100K's own converter ignores these.
        crowd = mapping(label.get("attributes")).get("crowd") is True
        if box is None and (name.startswith(("lane", "area", "drivable")) or polygons is None):
            continue
        try:
            if not name:
                raise ValueError
            if box is not None:
                corners = (float(box["x1"]), float(box["y1"]), float(box["x2"]), float(box["y2"]))
                yield Box(name, corners, number, crowd)
                continue
            points = [
                point[:2]
                for polygon in listed(polygons)
                for point in (polygon["vertices"] if isinstance(polygon, dict) else [polygon])
            ]
            yield Box(name, extent(points), number, crowd, repair="box taken from a polygon")
        except (KeyError, TypeError, ValueError):
            yield unusable(number, "label without a usable category or box2d")
