"""Tasks and labelling interface for Label Studio."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

from reports.export.drafts import Drafted


def as_label_studio(drafted_images: Sequence[Drafted], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Label Studio tasks with predictions; images are served from local storage whose root is the hand-off folder."""
    tasks = []
    for drafted in drafted_images:
        result = [
            {
                "id": f"box{number}",
                "type": "rectanglelabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": drafted.width,
                "original_height": drafted.height,
                "image_rotation": 0,
                "score": round(sure, 4),
                "value": {
                    "x": 100 * x1 / drafted.width,
                    "y": 100 * y1 / drafted.height,
                    "width": 100 * (x2 - x1) / drafted.width,
                    "height": 100 * (y2 - y1) / drafted.height,
                    "rotation": 0,
                    "rectanglelabels": [classes[label]],
                },
            }
            for number, (label, x1, y1, x2, y2, sure) in enumerate(drafted.boxes)
        ]
        tasks.append(
            {
                "data": {"image": f"/data/local-files/?d=images/{drafted.file}"},
                "predictions": [{"model_version": "shiftscope", "result": result}],
            }
        )
    return tasks


def label_studio_view(classes: Sequence[str]) -> str:
    """The labelling interface that the tasks are written for."""
    view = ET.Element("View")
    ET.SubElement(view, "Image", name="image", value="$image")
    labels = ET.SubElement(view, "RectangleLabels", name="label", toName="image")
    for name in classes:
        ET.SubElement(labels, "Label", value=name)
    return ET.tostring(view, encoding="unicode")
