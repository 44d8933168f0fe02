"""Detections and annotations as COCO JSON: results for scoring, datasets for annotation tools."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from datasets.tables import CORNERS


def coco_results(detections: pd.DataFrame, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Write detections as COCO results, which `shiftscope score` and `report --predictions` read.

    Parameters
    ----------
    detections
        Columns image, label, x1, y1, x2, y2 (pixels) and confidence.
    classes
        Class names in the order of the labels.

    Returns
    -------
    list of dict
        One entry per detection: image_id is the image's name, category_id counts from 1, and category_name
        names the class whatever numbers a ground truth gives it.
    """
    columns = ["image", "label", *CORNERS, "confidence"]
    return [
        {
            "image_id": image,
            "category_id": int(label) + 1,
            "category_name": classes[int(label)],
            "bbox": [round(float(v), 2) for v in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(float(confidence), 5),
        }
        for image, label, x1, y1, x2, y2, confidence in detections[columns].itertuples(index=False, name=None)
    ]


def coco_dataset(images: pd.DataFrame, boxes: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Write images and their boxes as a COCO dataset, which annotation tools import.

    Parameters
    ----------
    images
        Columns image (the file_name), width and height in pixels.
    boxes
        Columns image, label, x1, y1, x2, y2 (pixels) and confidence, which is NaN for an annotation.
        area (square pixels) is optional; without it the area is that of the rounded bbox.
    classes
        Class names in the order of the labels.

    Returns
    -------
    dict
        Lists of images, annotations and categories; ids count from 1, and a detection carries its score.
    """
    results = coco_results(boxes, classes)
    areas = boxes["area"] if "area" in boxes else [r["bbox"][2] * r["bbox"][3] for r in results]
    ids = dict(zip(images["image"], range(1, len(images) + 1), strict=True))
    sizes = images[["image", "width", "height"]].itertuples(index=False, name=None)
    return {
        "images": [
            {"id": ids[image], "file_name": image, "width": int(width), "height": int(height)}
            for image, width, height in sizes
        ],
        "annotations": [
            {
                "id": number,
                "image_id": ids[result["image_id"]],
                "category_id": result["category_id"],
                "bbox": result["bbox"],
                "area": round(float(area), 2),
                "iscrowd": 0,
                **({"score": result["score"]} if math.isfinite(result["score"]) else {}),
            }
            for number, (result, area) in enumerate(zip(results, areas, strict=True), 1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
    }
