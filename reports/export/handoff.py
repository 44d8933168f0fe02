"""Export of chosen images for labelling, with draft labels in the formats that annotation tools read.

The exported folder is a YOLO dataset. Its data.yaml also lists the earlier training images, so that training
continues with both once the labels are corrected.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from datasets.containment import register_roots
from datasets.files import draft_folder, write_text
from datasets.pairing import enclosing_roots
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from reports.export.coco import coco_dataset
from reports.export.cvat import cvat_xml
from reports.export.label_studio import label_studio_config, label_studio_tasks
from reports.export.yolo import write_data_yaml, write_label_file
from train.environment import frames_folder

IMAGE_COLUMNS = ["image", "width", "height"]
# confidence: NaN for an annotation. area: square pixels, before the corners are rounded.
BOX_COLUMNS = ["image", "label", *CORNERS, "confidence", "area"]


def write_handoff(
    folder: Path,
    chosen: pd.DataFrame,
    domains: Sequence[Domain],
    *,
    classes: Sequence[str],
    confidence: float,
    training_images: pd.DataFrame | None,
) -> Path:
    """Copy chosen images into a new folder and write their labels as YOLO, COCO, CVAT and Label Studio files.

    An annotated image keeps its annotations; any other gets its detections as draft labels.

    Parameters
    ----------
    folder
        Folder to create.
    chosen
        Columns rank, domain, group, image and path.
    domains
        The domains that the chosen images come from.
    classes
        Class names in the order of the labels.
    confidence
        Lowest confidence of a draft label.
    training_images
        Images table of the YOLO dataset that training continues from, None if it is unknown.
        data.yaml lists these images, and the frames folder records that it may.

    Returns
    -------
    Path
        The data.yaml.

    Raises
    ------
    FileExistsError
        The folder exists: it may hold corrected labels.
    """
    if folder.exists():
        raise FileExistsError(folder)
    by_name = {domain.name: domain for domain in domains}
    image_rows: list[dict[str, Any]] = []
    box_rows: list[dict[str, Any]] = []
    with draft_folder(folder) as draft:
        for kind in ("images", "labels"):
            (draft / kind).mkdir()
        for row in chosen.to_dict("records"):
            image, image_boxes = _export_image(draft, row, by_name[row["domain"]], confidence)
            image_rows.append(image)
            box_rows += image_boxes
        images = pd.DataFrame(image_rows, columns=IMAGE_COLUMNS)
        boxes = pd.DataFrame(box_rows, columns=BOX_COLUMNS)
        _write_formats(draft, images, boxes, classes)
        write_data_yaml(draft, folder, classes, training_images)
    if training_images is not None:
        folders = sorted({Path(path).parent for path in training_images["path"]})
        register_roots(folder / "data.yaml", enclosing_roots(folders), frames_folder())
    return folder / "data.yaml"


def _write_formats(folder: Path, images: pd.DataFrame, boxes: pd.DataFrame, classes: Sequence[str]) -> None:
    """Write the files that COCO readers, CVAT and Label Studio import."""
    write_text(folder / "coco.json", json.dumps(coco_dataset(images, boxes, classes), indent=1))
    tasks = label_studio_tasks(images, boxes, classes)
    write_text(folder / "label-studio.json", json.dumps(tasks, indent=1))
    write_text(folder / "label-studio.xml", label_studio_config(classes))
    write_text(folder / "cvat.xml", cvat_xml(images, boxes, classes))


def _export_image(
    folder: Path, row: dict[str, Any], domain: Domain, confidence: float
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Copy one chosen image and write its YOLO labels; returns its row and those of its boxes."""
    image = domain.images[domain.images["image"] == row["image"]].iloc[0]
    original = Path(row["path"])
    # The clip first and a number last: readers derive the clip from the name, and strip the word "image".
    clip = re.sub(r"[^A-Za-z0-9-]+", "-", f"{row['domain']}-{row['group']}").strip("-")[-80:] or "clip"
    file = f"{clip}_{row['rank']:04d}{original.suffix.lower()}"
    shutil.copyfile(original, folder / "images" / file)
    width, height = int(image["width"]), int(image["height"])
    if image["labelled"]:
        # A crowd annotation is left out: YOLO labels would turn it into a single object.
        boxes = domain.annotations[~domain.annotations["crowd"].astype(bool)].assign(confidence=float("nan"))
    else:
        boxes = domain.detections[domain.detections["confidence"] >= confidence]
    boxes = boxes[boxes["image"] == row["image"]]
    write_label_file((folder / "labels" / file).with_suffix(".txt"), boxes, width, height)
    image_row = {"image": f"images/{file}", "width": width, "height": height}
    return image_row, [_box_row(f"images/{file}", box) for box in boxes.to_dict("records")]


def _box_row(image: str, box: dict[str, Any]) -> dict[str, Any]:
    """One box as the writers of COCO, CVAT and Label Studio read it."""
    x1, y1, x2, y2 = (float(box[corner]) for corner in CORNERS)
    return {
        "image": image,
        "label": int(box["label"]),
        **dict(zip(CORNERS, (x1, y1, x2, y2), strict=True)),
        "confidence": round(float(box["confidence"]), 4),
        "area": (x2 - x1) * (y2 - y1),
    }
