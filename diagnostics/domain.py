"""One domain: images, annotations, detections and embeddings that belong together, matched once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from datasets.rotated import ROTATED, rotated_boxes
from datasets.tables import CORNERS, SparseRows
from diagnostics.error_types import classify_outcomes
from diagnostics.matching import (
    AREAS,
    Annotations,
    Bools,
    Detections,
    Floats,
    Ints,
    MatchTable,
    match,
)

# Sides of square objects in network pixels: a stride-8 head has one cell below 8, and AP falls fast below 16.
SIZE_EDGES = (0.0, 8.0, 16.0, 32.0, 96.0, 1e5)
SIZE_NAMES = ("under 8 px", "8 to 16 px", "16 to 32 px", "32 to 96 px", "over 96 px")
# TIDE's bands of width to height.
SHAPE_EDGES = (0.0, 0.75, 4 / 3, 1e5)
SHAPE_NAMES = ("tall", "about square", "wide")
# Height of the centre within the image.
PLACE_EDGES = (0.0, 1 / 3, 2 / 3, 1.0)
PLACE_NAMES = ("upper third", "middle third", "lower third")
# Attributes of single boxes: edges, and the names of the ranges between them.
BOX_ATTRIBUTES = {
    "size": (SIZE_EDGES, SIZE_NAMES),
    "shape": (SHAPE_EDGES, SHAPE_NAMES),
    "place": (PLACE_EDGES, PLACE_NAMES),
}
# The loose thresholds separate objects found with a badly placed box from objects not found at all.
LOOSE_IOUS = (0.1, 0.3, 0.5)
# Blocks that a single recording is cut into, enough for an interval that is not called too narrow, and the
# images that each needs: neighbouring images of one block are alike, those of two blocks less so.
BLOCKS, MIN_BLOCK = 10, 2
_UPRIGHT = dict.fromkeys(ROTATED, float("nan"))


@dataclass(frozen=True)
class Domain:
    """A named set of images with everything known about them.

    name: name of the domain
    role: "in_domain", "real_world" or "training"
    images: one row an image, joined with image statistics
    annotations: one row a labelled box
    detections: one row a detection
    image_embeddings: (n, D), aligned with images
    detection_embeddings: (m, E), aligned with detections; those of unsure ones may be missing
    imgsz: network input size in pixels
    classes: class names by index
    compared: indices of the classes that are scored; None for all
    """

    name: str
    role: str
    images: pd.DataFrame
    annotations: pd.DataFrame
    detections: pd.DataFrame
    image_embeddings: Floats
    detection_embeddings: Floats | SparseRows
    imgsz: int
    classes: tuple[str, ...]
    compared: frozenset[int] | None = None

    @cached_property
    def labelled(self) -> Bools:
        """Mask of labelled images; a labelled background image has no annotation."""
        return self.images["labelled"].to_numpy(bool)

    @cached_property
    def descriptors(self) -> Floats | None:
        """Descriptors of the images, (n, 84), see `datasets.pixels.descriptor`; None if not measured."""
        if "descriptor" not in self.images:
            return None
        return np.stack(list(self.images["descriptor"])).astype(float)

    @cached_property
    def labelled_images(self) -> pd.DataFrame:
        """The images that can be scored, renumbered."""
        return self.images[self.labelled].reset_index(drop=True)

    @cached_property
    def group_numbers(self) -> Ints:
        """Group number of each labelled image."""
        return np.unique(self.labelled_images["group"].to_numpy(str), return_inverse=True)[1].astype(np.int64)

    @cached_property
    def interval_units(self) -> Ints:
        """Number of the unit that each labelled image is resampled with: its group. A single recording is cut
        into BLOCKS blocks of time, so that its AP50 has an interval, for this recording (block bootstrap:
        Kunsch 1989). Nothing that is said about new clips may use them.
        """
        count = len(self.labelled_images)
        if not self.is_one_recording or count < BLOCKS * MIN_BLOCK:
            return self.group_numbers
        order = time_order(self.labelled_images)
        units = np.empty(count, np.int64)
        units[order] = np.arange(count) * BLOCKS // count
        return units

    @property
    def is_one_recording(self) -> bool:
        """Whether all images are of one clip: what is measured holds for it, and says little about others."""
        group = self.images["group"]
        return len(group) > 1 and bool((group == group.iloc[0]).all())

    @cached_property
    def scored_detections(self) -> pd.DataFrame:
        """Detections in labelled images, of the compared classes; the index is that of detections."""
        scored = self.detections["image"].isin(self.labelled_images["image"])
        if self.compared is not None:
            scored &= self.detections["label"].isin(self.compared)
        return self.detections[scored]

    @cached_property
    def annotation_arrays(self) -> Annotations:
        """Annotations as arrays, images numbered as in labelled_images."""
        return _annotations_of(
            self.annotations, self.labelled_images["image"], rotated="angle" in self.detections
        )

    @cached_property
    def detection_arrays(self) -> Detections:
        """Detections of labelled images as arrays."""
        return detections_of(self.scored_detections, self.labelled_images["image"])

    @cached_property
    def table(self) -> MatchTable:
        """COCO matching of the detections with the annotations."""
        return match(
            self.annotation_arrays,
            self.detection_arrays,
            n_images=len(self.labelled_images),
            n_classes=len(self.classes),
        )

    @cached_property
    def loose_table(self) -> MatchTable:
        """Matching at IoU 0.1, 0.3 and 0.5."""
        return match(
            self.annotation_arrays,
            self.detection_arrays,
            n_images=len(self.labelled_images),
            n_classes=len(self.classes),
            ious=LOOSE_IOUS,
            areas={"all": AREAS["all"]},
        )

    @cached_property
    def network_scale(self) -> Floats:
        """Network pixels per image pixel, for each labelled image."""
        return np.asarray(self.imgsz / self.labelled_images[["width", "height"]].max(axis=1).to_numpy(float))

    @cached_property
    def network_sides(self) -> Floats:
        """Square root of each annotation's area in network pixels."""
        return self.measure_attribute("size", self.annotation_arrays)

    def measure_attribute(self, attribute: str, boxes: Annotations | Detections) -> Floats:
        """One of BOX_ATTRIBUTES for each box.

        size: side in network pixels; shape: width to height; place: height of the centre within the image, 0
            to 1.
        """
        _, y, width, height = boxes.xywh.T
        if attribute == "size":
            return np.asarray(np.sqrt(np.maximum(boxes.area, 0)) * self.network_scale[boxes.image])
        if attribute == "shape":
            return np.asarray(width / np.maximum(height, 1e-9))
        return np.asarray((y + height / 2) / self.labelled_images["height"].to_numpy(float)[boxes.image])

    def attribute_ranges(self, attribute: str, boxes: Annotations | Detections) -> npt.NDArray[np.str_]:
        """The name of the range of an attribute that each box is in."""
        edges, names = BOX_ATTRIBUTES[attribute]
        values = self.measure_attribute(attribute, boxes)
        return np.array(names)[np.searchsorted(edges[1:-1], values, "right")]

    def attribute_table(self, attribute: str) -> MatchTable:
        """Matching with the ranges of an attribute in the place of COCO's areas."""
        if attribute not in self._attribute_tables:
            edges, names = BOX_ATTRIBUTES[attribute]
            annotations, detections = self.annotation_arrays, self.detection_arrays
            measured = replace(annotations, area=self.measure_attribute(attribute, annotations))
            self._attribute_tables[attribute] = match(
                measured,
                detections,
                n_images=len(self.labelled_images),
                n_classes=len(self.classes),
                areas={
                    "all": AREAS["all"],
                    **dict(zip(names, pairwise(edges), strict=True)),
                },
                detection_area=self.measure_attribute(attribute, detections),
            )
        return self._attribute_tables[attribute]

    @cached_property
    def _attribute_tables(self) -> dict[str, MatchTable]:
        return {}

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """The outcome of each detection in a labelled image, see `error_types.classify_outcomes`."""
        return classify_outcomes(self.table, self.annotation_arrays, self.detection_arrays)

    def subset(self, images: pd.Series) -> Domain:
        """The same domain with only the named images."""
        in_images = self.images["image"].isin(images).to_numpy()
        in_detections = self.detections["image"].isin(images).to_numpy()
        return Domain(
            self.name,
            self.role,
            self.images[in_images].reset_index(drop=True),
            self.annotations[self.annotations["image"].isin(images)].reset_index(drop=True),
            self.detections[in_detections].reset_index(drop=True),
            self.image_embeddings[in_images],
            self.detection_embeddings[in_detections],
            self.imgsz,
            self.classes,
            self.compared,
        )

    def only(self, labels: Iterable[int]) -> Domain:
        """The same images with only the annotations of some classes; detections of others are not scored."""
        compared = frozenset(labels)
        kept = self.annotations["label"].isin(compared)
        return replace(self, annotations=self.annotations[kept].reset_index(drop=True), compared=compared)


def time_order(images: pd.DataFrame) -> Ints:
    """Positions of the images of one recording in the order of time: by seconds, else by the numbers in their
    names, so that frame_2 comes before frame_10.
    """
    keys = [
        (
            0.0 if seconds != seconds else seconds,
            [(int(part), "") if part.isdigit() else (-1, part) for part in parts],
        )
        for seconds, parts in zip(
            images["seconds"], images["image"].map(lambda name: re.split(r"(\d+)", str(name))), strict=True
        )
    ]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def _annotations_of(annotations: pd.DataFrame, images: pd.Series, *, rotated: bool) -> Annotations:
    """A table of annotations as arrays; images are numbered as in images. rotated: for a detector of rotated
    boxes.
    """
    corners = annotations[CORNERS].to_numpy(float)
    xywh = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    turned = None
    if rotated:
        turned = rotated_boxes(annotations if "angle" in annotations else annotations.assign(**_UPRIGHT))
    return Annotations(
        _numbers(annotations["image"], images),
        annotations["label"].to_numpy(np.int64),
        xywh,
        xywh[:, 2] * xywh[:, 3] if turned is None else turned[:, 2] * turned[:, 3],
        annotations["crowd"].to_numpy(bool),
        turned,
    )


def detections_of(detections: pd.DataFrame, images: pd.Series) -> Detections:
    """A table of detections as arrays; images are numbered as in images."""
    corners = detections[CORNERS].to_numpy(float)
    xywh = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    return Detections(
        _numbers(detections["image"], images),
        detections["label"].to_numpy(np.int64),
        xywh,
        detections["confidence"].to_numpy(float),
        rotated_boxes(detections),
    )


def _numbers(names: pd.Series, images: pd.Series) -> Ints:
    """The position of each name within images. Raises ValueError for a name that is not among them."""
    positions = pd.Series(np.arange(len(images)), index=images.to_numpy()).reindex(names.to_numpy())
    unknown = positions.isna().to_numpy()
    if unknown.any():
        raise ValueError(f"boxes of an image that is not in the images table: {names.to_numpy()[unknown][0]}")
    return positions.to_numpy(np.int64)
