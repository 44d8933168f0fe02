"""Tasks and labelling interface for Label Studio."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd


def label_studio_tasks(
    images: pd.DataFrame, boxes: pd.DataFrame, classes: Sequence[str]
) -> list[dict[str, Any]]:
    """Write images as Label Studio tasks with their boxes as predictions.

    Label Studio reads the images from a local storage whose root is the folder that image paths start from.

    Parameters
    ----------
    images
        Columns image (a path below the storage root), width and height in pixels.
    boxes
        Columns image, label, x1, y1, x2, y2 (pixels) and confidence, which is NaN for an annotation.
    classes
        Class names in the order of the labels.

    Returns
    -------
    list of dict
        One task per image; an annotation gets score 1.
    """
    boxes_of = dict(iter(boxes.groupby("image")))
    tasks = []
    for image in images.itertuples():
        image_boxes = boxes_of.get(image.image, boxes.iloc[:0])
        result = [
            {
                "id": f"box{number}",
                "type": "rectanglelabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": image.width,
                "original_height": image.height,
                "image_rotation": 0,
                "score": 1.0 if np.isnan(box.confidence) else box.confidence,
                "value": {
                    "x": 100 * box.x1 / image.width,
                    "y": 100 * box.y1 / image.height,
                    "width": 100 * (box.x2 - box.x1) / image.width,
                    "height": 100 * (box.y2 - box.y1) / image.height,
                    "rotation": 0,
                    "rectanglelabels": [classes[int(box.label)]],
                },
            }
            for number, box in enumerate(image_boxes.itertuples())
        ]
        data = {"image": f"/data/local-files/?d={image.image}"}
        tasks.append({"data": data, "predictions": [{"model_version": "shiftscope", "result": result}]})
    return tasks


def label_studio_config(classes: Sequence[str]) -> str:
    """The labelling interface (XML) that the tasks refer to."""
    view = ET.Element("View")
    ET.SubElement(view, "Image", name="image", value="$image")
    labels = ET.SubElement(view, "RectangleLabels", name="label", toName="image")
    for name in classes:
        ET.SubElement(labels, "Label", value=name)
    return ET.tostring(view, encoding="unicode")
