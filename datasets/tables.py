"""The two tables and the ledger that every source is turned into; everything downstream reads these and nothing else.

images: one row an image. image (unique id within its domain), path (absolute), split, group, width, height (pixels, upright),
labelled, seconds (time within a video, NaN for images).
boxes: one row an annotated object. image, label (class index), x1, y1, x2, y2 (pixels, upright image), crowd.
ledger: one row a file found on disk. path, bucket ("used", "skipped", "failed"), reason.
rows: one row a label row that was not taken as written. path, line, action ("rejected", "repaired"), reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

IMAGE_COLUMNS = {
    "image": "str",
    "path": "str",
    "split": "str",
    "group": "str",
    "width": "int64",
    "height": "int64",
    "labelled": "bool",
    "seconds": "float64",
}
BOX_COLUMNS = {
    "image": "str",
    "label": "int64",
    "x1": "float64",
    "y1": "float64",
    "x2": "float64",
    "y2": "float64",
    "crowd": "bool",
}
# Runs of consecutive frames of a video: which burst of it, and which frame within the burst.
BURST_COLUMNS = {**IMAGE_COLUMNS, "burst": "int64", "frame": "int64"}
LEDGER_COLUMNS = {"path": "str", "bucket": "str", "reason": "str"}
ROW_COLUMNS = {"path": "str", "line": "int64", "action": "str", "reason": "str"}
# Columns of an images table that a person added (weather, road, camera ...) carry this before their name.
OWN = "own:"
CORNERS = ["x1", "y1", "x2", "y2"]


def frame(records: Iterable[Mapping[str, object]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Records -> a frame with exactly these columns and types, also when there are none."""
    return pd.DataFrame(list(records), columns=list(columns)).astype(dict(columns))


@dataclass(frozen=True)
class Source:
    """One opened source. classes is empty where nothing names them (a folder of images, a video).

    grouping says in words where the groups come from, origin where a download does. image_ids, category_ids: a COCO json's own ids -> image and class index. bursts: short runs of
    consecutive frames of videos, for telling whether detections last; they are no part of images.
    """

    spec: str
    kind: str
    classes: tuple[str, ...]
    images: pd.DataFrame
    annotations: pd.DataFrame
    ledger: pd.DataFrame
    rows: pd.DataFrame
    grouping: str = ""
    origin: str = ""
    image_ids: Mapping[Any, str] = field(default_factory=dict)
    category_ids: Mapping[Any, int] = field(default_factory=dict)
    bursts: pd.DataFrame = field(default_factory=lambda: frame([], BURST_COLUMNS))

    def keep(self, mask: pd.Series) -> Source:
        """The same source with only the images where mask (aligned with images) is true; the ledger stays whole."""
        images = self.images[mask].reset_index(drop=True)
        boxes = self.annotations[self.annotations["image"].isin(images["image"])].reset_index(drop=True)
        return replace(self, images=images, annotations=boxes)


def concatenate(frames: Iterable[pd.DataFrame], columns: Mapping[str, str]) -> pd.DataFrame:
    """Stack frames; no frames give an empty one with the right columns."""
    parts = [part for part in frames if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else frame([], columns)
