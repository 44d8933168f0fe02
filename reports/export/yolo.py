"""Labels as YOLO text files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pandas as pd

from datasets.labels import label_text
from datasets.tables import CORNERS

if TYPE_CHECKING:
    pass


# What an annotated image is written as, whatever it was; others become JPEG.
WRITTEN = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


def unique_path(image: str, taken: set[str]) -> str:
    """A file name below our folder for an image's id, which may be a path of any kind; each is given once."""
    parts = [part for part in PurePosixPath(image.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    path = PurePosixPath(*parts) if parts else PurePosixPath("image")
    if path.suffix.lower() not in WRITTEN:
        path = path.with_name(path.name + ".jpg")
    place, number = path, 2
    while str(place.with_suffix("")).lower() in taken:
        place, number = path.with_name(f"{path.stem}-{number}{path.suffix}"), number + 1
    taken.add(str(place.with_suffix("")).lower())
    return str(place)


def write_labels(folder: Path, images: pd.DataFrame, shown: pd.DataFrame) -> None:
    """A text file for each image and each frame with a box, as Ultralytics writes them: class, centre and size as shares of the image, confidence."""
    parts = shown.groupby("image").indices
    taken: set[str] = set()
    for image in images.itertuples():
        name, mark, _ = str(image.image).rpartition("#")
        video = bool(mark) and image.seconds == image.seconds
        place = f"{PurePosixPath(name).with_suffix('')}_{image.frame:06d}.jpg" if video else str(image.image)
        path = (folder / unique_path(place, taken)).with_suffix(".txt")
        mine = shown.iloc[parts.get(image.image, [])]
        if video and mine.empty:
            continue
        text = label_text(
            mine["label"].tolist(),
            mine[CORNERS].to_numpy(float),
            image.width,
            image.height,
            mine["confidence"].tolist(),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
