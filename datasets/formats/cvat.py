"""CVAT for images: one annotations.xml with every image and its shapes."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from datasets.formats.described import Box, Content, ImageLabels, extent, unusable
from datasets.formats.text import text_of, whole

SHAPES = frozenset({"box", "polygon", "polyline", "points", "mask", "ellipse", "cuboid", "skeleton"})
CUBOID = re.compile(r"^[xy][tb][lr][12]$")


def recognises(path: Path, head: bytes) -> bool:
    """Whether an XML has CVAT's root and version."""
    return b"<annotations" in head and (b"<version>" in head or b"<image " in head or b"<track " in head)


def read(path: Path) -> Content:
    """Boxes, and other shapes by their extent. Raises ValueError for a video's tracks, which name no
    files.
    """
    text = text_of(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("XML with a document type is not read")
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError) as error:
        raise ValueError(f"not valid XML ({error})") from None
    if root.tag != "annotations":
        raise ValueError(f"its root is <{root.tag[:40]}>, not <annotations>")
    images = [_image(node) for node in root.iter("image")]
    if not images and root.find("track") is not None:
        raise ValueError(
            "'CVAT for video' lists tracks, not images; export the task as 'CVAT for images 1.1' with its "
            "images"
        )
    labels = [name.strip() for node in root.iter("label") if (name := node.findtext("name"))]
    return Content(images, tuple(dict.fromkeys(labels)))


def _image(node: ET.Element) -> ImageLabels:
    """One <image>."""
    size = (whole(node.get("width")), whole(node.get("height")))
    return ImageLabels(node.get("name", ""), list(_boxes(node)), size, split=node.get("subset", ""))


def _boxes(image: ET.Element) -> Iterator[Box]:
    """The shapes of an <image>; tags and unknown elements are no shapes."""
    number = 0
    for node in image:
        if node.tag not in SHAPES:
            continue
        number += 1
        name = node.get("label", "").strip()
        if not name:
            yield unusable(number, f"{node.tag} without a label")
            continue
        try:
            corners = _corners(node)
        except ValueError as reason:
            yield unusable(number, str(reason))
            continue
        kind = "rotated box" if node.tag == "box" and _number_or(node, "rotation") else node.tag
        yield Box(name, corners, number, repair="" if kind == "box" else f"box taken from a {kind}")


def _corners(node: ET.Element) -> tuple[float, float, float, float]:
    """Extent of a shape; raises ValueError with the reason if it has none."""

    def number(key: str) -> float:
        try:
            return float(node.get(key, ""))
        except ValueError:
            raise ValueError(f"{node.tag} without a usable {key}") from None

    angle = math.radians(_number_or(node, "rotation"))
    if node.tag == "box":
        x1, y1, x2, y2 = number("xtl"), number("ytl"), number("xbr"), number("ybr")
        if not angle:
            return x1, y1, x2, y2
        # CVAT turns a box about its middle.
        half_w, half_h = (x2 - x1) / 2, (y2 - y1) / 2
        wide = abs(half_w * math.cos(angle)) + abs(half_h * math.sin(angle))
        high = abs(half_w * math.sin(angle)) + abs(half_h * math.cos(angle))
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        return x - wide, y - high, x + wide, y + high
    if node.tag == "mask":
        left, top = number("left"), number("top")
        return left, top, left + number("width"), top + number("height")
    if node.tag == "ellipse":
        x, y, rx, ry = number("cx"), number("cy"), number("rx"), number("ry")
        wide, high = (
            math.hypot(rx * math.cos(angle), ry * math.sin(angle)),
            math.hypot(rx * math.sin(angle), ry * math.cos(angle)),
        )
        return x - wide, y - high, x + wide, y + high
    if node.tag == "cuboid":
        keys = [key for key in node.attrib if CUBOID.match(key)]
        xs, ys = ([number(key) for key in keys if key[0] == axis] for axis in "xy")
        return extent(zip(xs, ys, strict=False))
    if node.tag in ("points", "polyline", "skeleton"):
        raise ValueError(f"a {node.tag} has no extent")
    try:
        return extent(pair.split(",") for pair in node.get("points", "").split(";") if pair)
    except ValueError:
        raise ValueError(f"{node.tag} without usable points") from None


def _number_or(node: ET.Element, key: str) -> float:
    """A number of a shape, 0 if it has none."""
    try:
        return float(node.get(key, "0"))
    except ValueError:
        return 0.0
