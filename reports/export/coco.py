"""Detections and draft annotations as COCO JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from datasets.tables import CORNERS

if TYPE_CHECKING:
    pass


def as_results(shown: pd.DataFrame) -> list[dict[str, Any]]:
    """COCO results, as `shiftscope score` and `report --predictions` read them: image_id is the image's name, category_id counts from 1."""
    return [
        {
            "image_id": image,
            "category_id": int(label) + 1,
            "bbox": [round(float(v), 2) for v in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(float(sure), 5),
        }
        for image, label, x1, y1, x2, y2, sure in shown[
            ["image", "label", *CORNERS, "confidence"]
        ].itertuples(index=False, name=None)
    ]


def as_coco(images: pd.DataFrame, shown: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """A COCO dataset whose annotations carry their score: labels to begin with, for annotation tools."""
    ids = dict(zip(images["image"], range(1, len(images) + 1), strict=True))
    annotations = [
        {
            **{key: value for key, value in result.items() if key != "image_id"},
            "id": number,
            "image_id": ids[result["image_id"]],
            "area": round(result["bbox"][2] * result["bbox"][3], 2),
            "iscrowd": 0,
        }
        for number, result in enumerate(as_results(shown), 1)
    ]
    return {
        "images": [
            {"id": ids[image], "file_name": image, "width": int(width), "height": int(height)}
            for image, width, height in images[["image", "width", "height"]].itertuples(
                index=False, name=None
            )
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
    }
