"""Images and their boxes in the XML format "CVAT for images 1.1"."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd

from datasets.tables import CORNERS


def cvat_xml(images: pd.DataFrame, boxes: pd.DataFrame, classes: Sequence[str]) -> str:
    """Write images and their boxes for CVAT, which finds images by file name.

    Parameters
    ----------
    images
        Columns image (a path with forward slashes), width and height in pixels.
    boxes
        Columns image, label, x1, y1, x2, y2 (pixels) and confidence, which is NaN for an annotation.
    classes
        Class names in the order of the labels.

    Returns
    -------
    str
        The XML document.
    """
    boxes_of = dict(iter(boxes.groupby("image")))
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    for number, image in enumerate(images.itertuples()):
        attributes = {
            "id": str(number),
            "name": PurePosixPath(str(image.image)).name,
            "width": str(image.width),
            "height": str(image.height),
        }
        element = ET.SubElement(root, "image", attributes)
        for box in boxes_of.get(image.image, boxes.iloc[:0]).itertuples():
            corners = zip(("xtl", "ytl", "xbr", "ybr"), CORNERS, strict=True)
            attributes = {
                "label": classes[int(box.label)],
                "source": "manual" if np.isnan(box.confidence) else "auto",
                "occluded": "0",
                **{key: f"{getattr(box, corner):.2f}" for key, corner in corners},
            }
            ET.SubElement(element, "box", attributes)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode")
