"""CVAT for images 1.1."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from reports.export.drafts import Drafted


def as_cvat(drafted_images: Sequence[Drafted], classes: Sequence[str]) -> str:
    """CVAT for images 1.1."""
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    for number, drafted in enumerate(drafted_images):
        image = ET.SubElement(
            root,
            "image",
            id=str(number),
            name=drafted.file,
            width=str(drafted.width),
            height=str(drafted.height),
        )
        for label, x1, y1, x2, y2, _ in drafted.boxes:
            corners = {
                key: f"{value:.2f}"
                for key, value in zip(("xtl", "ytl", "xbr", "ybr"), (x1, y1, x2, y2), strict=True)
            }
            source = "manual" if drafted.labelled else "auto"
            ET.SubElement(
                image, "box", {"label": classes[label], "source": source, "occluded": "0", **corners}
            )
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode")
