"""The tables that every source is turned into; the rest of Shiftscope reads nothing else.

images: one row per image. image (unique id within its domain), path (absolute), split, group, width, height
(pixels, upright), labelled, unusable (it has labels, of which no row can be used: unlabelled, but not by
chance), seconds (time within a video, NaN for images).
annotations: one row per labelled box. image, label (class index), x1, y1, x2, y2 (pixels, upright image),
crowd.
ledger: one row per file on disk. path, bucket ("used", "skipped", "failed"), reason.
rows: one row per label row not taken as written. path, line, action ("rejected", "repaired"), reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

IMAGE_COLUMNS = {
    "image": "str",
    "path": "str",
    "split": "str",
    "group": "str",
    "width": "int64",
    "height": "int64",
    "labelled": "bool",
    "unusable": "bool",
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
# Runs of consecutive frames of a video: number of the burst, and of the frame within it.
BURST_COLUMNS = {**IMAGE_COLUMNS, "burst": "int64", "frame": "int64"}
LEDGER_COLUMNS = {"path": "str", "bucket": "str", "reason": "str"}
ROW_COLUMNS = {"path": "str", "line": "int64", "action": "str", "reason": "str"}
# Prefix of the columns of an images table that the user added (weather, road, camera ...).
OWN = "own:"
CORNERS = ["x1", "y1", "x2", "y2"]


class SparseRows:
    """A matrix of which only some rows are kept: the embeddings of detections that are confident enough to be
    looked at.

    Most detections of a detector are so unsure that nothing is ever asked of their embeddings, which would be
    most of what is stored and read.

    Parameters
    ----------
    values
        The rows that are kept, (k, width), in half precision.
    place
        Of each row of the matrix, the row of values, -1 where it is not kept, (m,).
    """

    def __init__(self, values: npt.NDArray[np.float16], place: npt.NDArray[np.int64]) -> None:
        self.values, self.place = values, place

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the whole matrix."""
        return len(self.place), self.values.shape[1]

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, rows: Any) -> Any:
        """Rows in single precision, given by a number or an array of numbers; by a mask or a slice, a matrix
        like this.

        Raises ValueError for a row that is not kept.
        """
        if isinstance(rows, slice) or np.asarray(rows).dtype == bool:
            return SparseRows(self.values, self.place[rows])
        place = self.place[rows]
        if np.any(place < 0):
            raise ValueError("the embeddings of detections of so low a confidence are not kept")
        return self.values[place].astype(np.float32)

    def __array__(self, *_: Any, **__: Any) -> npt.NDArray[np.float32]:
        """Raises TypeError: a matrix with missing rows is no array."""
        raise TypeError("take the rows that are needed, by their numbers")


def frame(records: Iterable[Mapping[str, object]], columns: Mapping[str, str]) -> pd.DataFrame:
    """Records -> a frame with exactly these columns and types, even without records."""
    return pd.DataFrame(list(records), columns=list(columns)).astype(dict(columns))


@dataclass(frozen=True)
class Source:
    """One opened source.

    spec: the specification it was opened by.
    kind: its reader, such as "yolo", "coco" or "video".
    classes: class names in order; empty if nothing names them (a folder of images, a video).
    images, annotations, ledger, rows: see the module.
    grouping: a sentence that states where the groups come from.
    origin: a sentence that states where a download comes from.
    image_ids: a COCO json's image ids -> image.
    category_ids: a COCO json's category ids -> class index.
    unnamed: whether its class ids are taken as the model's, because nothing in it names classes.
    trained_on: whether the source names its training images as its validation images too; they are then of
        split "train".
    bursts: runs of consecutive frames of videos, which show whether detections persist; not part of images.
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
    unnamed: bool = False
    trained_on: bool = False
    bursts: pd.DataFrame = field(default_factory=lambda: frame([], BURST_COLUMNS))

    def keep(self, mask: pd.Series) -> Source:
        """The source with only the images where mask (aligned with images) is true, and its whole ledger."""
        images = self.images[mask].reset_index(drop=True)
        annotations = self.annotations[self.annotations["image"].isin(images["image"])].reset_index(drop=True)
        return replace(self, images=images, annotations=annotations)


def objects_in(annotations: pd.DataFrame) -> int:
    """Number of annotations that are no crowds; a region in which no class counts has a row for each
    class.
    """
    return int((~annotations["crowd"].to_numpy(bool)).sum())


def concatenate(frames: Iterable[pd.DataFrame], columns: Mapping[str, str]) -> pd.DataFrame:
    """Stack frames; without any, an empty frame with these columns."""
    parts = [part for part in frames if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else frame([], columns)
