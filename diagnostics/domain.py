"""One domain as diagnostics sees it: images, objects, detections and embeddings that belong together, matched once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from datasets.tables import CORNERS
from diagnostics.error_types import outcomes
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
PLACE_EDGES = (0.0, 1 / 3, 2 / 3, 1.0)
PLACE_NAMES = ("upper third", "middle third", "lower third")
# Attributes of single objects: edges, and the names of the ranges between them.
BOX_ATTRIBUTES = {
    "size": (SIZE_EDGES, SIZE_NAMES),
    "shape": (SHAPE_EDGES, SHAPE_NAMES),
    "place": (PLACE_EDGES, PLACE_NAMES),
}
# The loose thresholds tell "sees it but draws another box" from "does not see it".
LOOSE_IOUS = (0.1, 0.3, 0.5)


@dataclass(frozen=True)
class Domain:
    """A named set of images. role: "in_domain", "real_world" or "training".

    images: images table joined with image statistics, in the order of embeddings (n, D). boxes, detections: tables of that domain.
    detection_embeddings: (m, E), aligned with detections. imgsz: network input size in pixels. classes: names by index.
    """

    name: str
    role: str
    images: pd.DataFrame
    annotations: pd.DataFrame
    detections: pd.DataFrame
    image_embeddings: Floats
    detection_embeddings: Floats
    imgsz: int
    classes: tuple[str, ...]

    @cached_property
    def labelled(self) -> Bools:
        """Mask of images with annotations (a background image is annotated: it has none)."""
        return self.images["labelled"].to_numpy(bool)

    @cached_property
    def descriptors(self) -> Floats | None:
        """What the images look like without any model (`datasets.pixels.descriptor`), (n, 84); None where that was not measured."""
        if "descriptor" not in self.images:
            return None
        return np.stack(list(self.images["descriptor"])).astype(float)

    @cached_property
    def labelled_images(self) -> pd.DataFrame:
        """The images that can be scored, renumbered."""
        return self.images[self.labelled].reset_index(drop=True)

    @cached_property
    def group_numbers(self) -> Ints:
        """Group of each labelled image as a number."""
        return np.unique(self.labelled_images["group"].to_numpy(str), return_inverse=True)[1].astype(np.int64)

    @cached_property
    def scored_detections(self) -> pd.DataFrame:
        """Detections in labelled images; the index is that of detections."""
        return self.detections[self.detections["image"].isin(self.labelled_images["image"])]

    @cached_property
    def annotation_arrays(self) -> Annotations:
        """Annotations as arrays, images numbered as in labelled_pictures."""
        return annotations_of(self.annotations, self.labelled_images["image"])

    @cached_property
    def detection_arrays(self) -> Detections:
        """Detections of labelled images as arrays."""
        return detections_of(self.scored_detections, self.labelled_images["image"])

    @cached_property
    def table(self) -> MatchTable:
        """COCO matching of this domain."""
        return match(
            self.annotation_arrays,
            self.detection_arrays,
            n_images=len(self.labelled_images),
            n_classes=len(self.classes),
        )

    @cached_property
    def loose_table(self) -> MatchTable:
        """Matching at IoU 0.1, 0.3 and .5."""
        return match(
            self.annotation_arrays,
            self.detection_arrays,
            n_images=len(self.labelled_images),
            n_classes=len(self.classes),
            ious=LOOSE_IOUS,
            areas={"all": AREAS["all"]},
        )

    @cached_property
    def gain(self) -> Floats:
        """Network pixels per image pixel, for each labelled image."""
        return np.asarray(self.imgsz / self.labelled_images[["width", "height"]].max(axis=1).to_numpy(float))

    @cached_property
    def network_sides(self) -> Floats:
        """Square root of each annotated object's area in network pixels."""
        return self.measure("size", self.annotation_arrays)

    def measure(self, attribute: str, boxes: Annotations | Detections) -> Floats:
        """One of OBJECT_ATTRIBUTES for each box: side in network pixels, width to height, or height of its centre within the image."""
        _, y, width, height = boxes.xywh.T
        if attribute == "size":
            area = boxes.area if isinstance(boxes, Annotations) else width * height
            return np.asarray(np.sqrt(np.maximum(area, 0)) * self.gain[boxes.image])
        if attribute == "shape":
            return np.asarray(width / np.maximum(height, 1e-9))
        return np.asarray((y + height / 2) / self.labelled_images["height"].to_numpy(float)[boxes.image])

    def parts(self, attribute: str, boxes: Annotations | Detections) -> npt.NDArray[np.str_]:
        """The name of each box's range of an attribute."""
        edges, names = BOX_ATTRIBUTES[attribute]
        return np.array(names)[np.searchsorted(edges[1:-1], self.measure(attribute, boxes), "right")]

    def attribute_table(self, attribute: str) -> MatchTable:
        """Matching with the ranges of an attribute in the place of COCO's areas."""
        if attribute not in self._attribute_tables:
            edges, names = BOX_ATTRIBUTES[attribute]
            annotations, found = self.annotation_arrays, self.detection_arrays
            measured = Annotations(
                annotations.image,
                annotations.label,
                annotations.xywh,
                self.measure(attribute, annotations),
                annotations.crowd,
            )
            self._attribute_tables[attribute] = match(
                measured,
                found,
                n_images=len(self.labelled_images),
                n_classes=len(self.classes),
                areas={
                    "all": AREAS["all"],
                    **dict(zip(names, pairwise(edges), strict=True)),
                },
                detection_area=self.measure(attribute, found),
            )
        return self._attribute_tables[attribute]

    @cached_property
    def _attribute_tables(self) -> dict[str, MatchTable]:
        return {}

    @cached_property
    def outcomes(self) -> pd.DataFrame:
        """What became of each detection in a labelled image: see `error_types.outcomes`."""
        return outcomes(self.table, self.annotation_arrays, self.detection_arrays)

    def subset(self, images: pd.Series) -> Domain:
        """The same domain with only the named images."""
        keep = self.images["image"].isin(images).to_numpy()
        mine = self.detections["image"].isin(images).to_numpy()
        return Domain(
            self.name,
            self.role,
            self.images[keep].reset_index(drop=True),
            self.annotations[self.annotations["image"].isin(images)].reset_index(drop=True),
            self.detections[mine].reset_index(drop=True),
            self.image_embeddings[keep],
            self.detection_embeddings[mine],
            self.imgsz,
            self.classes,
        )


def annotations_of(boxes: pd.DataFrame, images: pd.Series) -> Annotations:
    """A boxes table as arrays; images are numbered as in images."""
    corners = boxes[CORNERS].to_numpy(float)
    xywh = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    return Annotations(
        _numbers(boxes["image"], images),
        boxes["label"].to_numpy(np.int64),
        xywh,
        xywh[:, 2] * xywh[:, 3],
        boxes["crowd"].to_numpy(bool),
    )


def detections_of(detections: pd.DataFrame, images: pd.Series) -> Detections:
    """A detections table as arrays; images are numbered as in images."""
    corners = detections[CORNERS].to_numpy(float)
    xywh = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    return Detections(
        _numbers(detections["image"], images),
        detections["label"].to_numpy(np.int64),
        xywh,
        detections["confidence"].to_numpy(float),
    )


def _numbers(names: pd.Series, images: pd.Series) -> Ints:
    index = pd.Series(np.arange(len(images)), index=images.to_numpy())
    found = index.reindex(names.to_numpy())
    if found.isna().any():
        raise ValueError(
            f"boxes of an image that is not in the images table: {names.to_numpy()[found.isna().to_numpy()][0]}"
        )
    return found.to_numpy(np.int64)
