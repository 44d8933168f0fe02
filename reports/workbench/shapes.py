"""Masks and key points as FiftyOne stores them."""

from __future__ import annotations

import io
import zlib
from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
from bson import Binary

from datasets.shapes import SHAPE, Bools, Mask, Shape, annotated_points, mask_of, unpack
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.matching import Floats

# An annotated mask is drawn in an image of at most this side: the App scales masks, and a larger one shows no
# more.
MAX_SIDE = 640


def mask_fields(domain: Domain, boxes: pd.DataFrame) -> list[dict[str, Any]]:
    """For each annotation or detection: its mask as the field of a FiftyOne detection; {} where it
    has none.
    """
    if SHAPE not in boxes:
        return [{} for _ in range(len(boxes))]
    sizes = domain.images.set_index("image")[["width", "height"]].loc[boxes["image"]].to_numpy(float)
    relative = boxes[CORNERS].to_numpy(float) / np.tile(sizes, 2)
    fields = []
    for shape, corners, size in zip(boxes[SHAPE], relative, sizes, strict=True):
        mask = _mask(shape, corners, size)
        fields.append({} if mask is None else {"mask": _stored(_inside(mask, corners))})
    return fields


def _mask(shape: object, corners: Floats, size: Floats) -> Mask | None:
    """The mask of a box; None where it has key points or nothing. corners: in fractions; size: width and
    height.
    """
    if isinstance(shape, bytes) and shape:
        found = unpack(shape)
        return found if isinstance(found, Mask) else None
    if not isinstance(shape, Shape) or shape.kind == "points":
        return None
    width, height = np.maximum(1, np.round(size * min(1.0, MAX_SIDE / size.max()))).astype(int).tolist()
    return mask_of(shape, corners.tolist(), (height, width))


def _inside(mask: Mask, corners: Floats) -> Bools:
    """The part of a mask that its box covers, (h, w). corners: of the box, in fractions of the image."""
    height, width = mask.size
    left, top = (int(np.floor(corners[0] * width)), int(np.floor(corners[1] * height)))
    right, bottom = (int(np.ceil(corners[2] * width)), int(np.ceil(corners[3] * height)))
    whole = np.zeros((height, width), bool)
    rows, columns = mask.part.shape
    whole[mask.top : mask.top + rows, mask.left : mask.left + columns] = mask.part
    return whole[max(top, 0) : max(bottom, top + 1), max(left, 0) : max(right, left + 1)]


def _stored(array: Bools) -> Binary:
    """An array as FiftyOne stores it: NumPy's own format, compressed
    (fiftyone.core.utils.serialize_numpy_array).
    """
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return Binary(zlib.compress(buffer.getvalue()))


def has_points(boxes: pd.DataFrame) -> bool:
    """Whether some of the boxes have key points."""
    return SHAPE in boxes and any(_points(shape, np.ones(2)) is not None for shape in boxes[SHAPE])


def points_by_image(domain: Domain, boxes: pd.DataFrame) -> dict[str, list[tuple[int, Floats]]]:
    """Class and key points, in fractions of the image, of the annotations or detections of each image that
    have some.
    """
    points: dict[str, list[tuple[int, Floats]]] = defaultdict(list)
    if SHAPE not in boxes:
        return points
    sizes = domain.images.set_index("image")[["width", "height"]].loc[boxes["image"]].to_numpy(float)
    for image, label, shape, size in zip(boxes["image"], boxes["label"], boxes[SHAPE], sizes, strict=True):
        found = _points(shape, size)
        if found is not None:
            points[image].append((int(label), found))
    return points


def _points(shape: object, size: Floats) -> Floats | None:
    """Key points in fractions of an image of width and height; None where there are none."""
    if isinstance(shape, bytes) and shape[:1] == b"p":
        found = unpack(shape)
        return None if isinstance(found, Mask) else np.asarray(found, float) / size
    if isinstance(shape, Shape) and shape.kind == "points":
        return annotated_points(shape)
    return None
