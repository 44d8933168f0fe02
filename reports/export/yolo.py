"""YOLO label files and data.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import yaml

from datasets.files import write_text
from datasets.labels import label_text
from datasets.tables import CORNERS

# Formats in which OpenCV writes an image under its own name; other images become JPEG.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


def unique_path(image: str, taken: set[str]) -> str:
    """An unused relative file path for an image id, which may be any kind of path; its stem joins `taken`."""
    parts = [part for part in PurePosixPath(image.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    path = PurePosixPath(*parts) if parts else PurePosixPath("image")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        path = path.with_name(path.name + ".jpg")
    unused, number = path, 2
    while str(unused.with_suffix("")).lower() in taken:
        unused, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    taken.add(str(unused.with_suffix("")).lower())
    return str(unused)


def write_label_file(
    path: Path, boxes: pd.DataFrame, width: int, height: int, *, with_confidence: bool = False
) -> None:
    """Write one image's boxes (label, x1, y1, x2, y2 in pixels) as a YOLO label file."""
    text = label_text(
        boxes["label"].tolist(),
        boxes[CORNERS].to_numpy(float),
        width,
        height,
        boxes["confidence"].tolist() if with_confidence else None,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_labels(folder: Path, images: pd.DataFrame, detections: pd.DataFrame) -> None:
    """Write detections as Ultralytics does: class, centre and size as fractions of the image, confidence.

    Parameters
    ----------
    folder
        Folder of the label files.
    images
        Columns image, width, height, frame, and seconds, which is NaN unless the image is a video frame.
        Every image gets a file, a video frame only if it has a detection.
    detections
        Columns image, label, x1, y1, x2, y2 (pixels) and confidence.
    """
    rows_of = detections.groupby("image").indices
    taken: set[str] = set()
    for image in images.itertuples():
        name, mark, _ = str(image.image).rpartition("#")
        is_frame = bool(mark) and image.seconds == image.seconds
        file = (
            f"{PurePosixPath(name).with_suffix('')}_{image.frame:06d}.jpg" if is_frame else str(image.image)
        )
        path = (folder / unique_path(file, taken)).with_suffix(".txt")
        image_detections = detections.iloc[rows_of.get(image.image, [])]
        if is_frame and image_detections.empty:
            continue
        write_label_file(path, image_detections, image.width, image.height, with_confidence=True)


def write_data_yaml(
    folder: Path, root: Path, classes: Sequence[str], training_images: pd.DataFrame | None
) -> None:
    """Write a data.yaml that trains on images/ and on earlier training images, validated as they were.

    Parameters
    ----------
    folder
        Folder to write data.yaml into, with train.txt and val.txt, which list the earlier images.
    root
        Folder that the dataset will have, which data.yaml names as its path.
    classes
        Class names in the order of the labels.
    training_images
        Columns path and split of the earlier images, None without any.
    """
    content: dict[str, Any] = {"path": str(root.absolute()), "train": ["images"]}
    for split in ("train", "val"):
        is_split = None if training_images is None else training_images["split"] == split
        paths = [] if training_images is None else training_images.loc[is_split, "path"].tolist()
        if paths:
            write_text(folder / f"{split}.txt", "".join(f"{path}\n" for path in paths))
            content[split] = [*content.get(split, []), f"{split}.txt"]
    content["names"] = dict(enumerate(classes))
    write_text(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False))
