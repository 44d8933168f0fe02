"""Outlines, masks and key points of objects, beside the boxes that every table has.

An annotation's shape is in fractions of its image. A detection's shape is packed into bytes, since most of
what a segmentation model gives is masks: `pack_mask` and `pack_points` write them, `unpack` reads both.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from datasets.masks import decode_runs

# Column of a table of boxes with the shapes; missing where a box has none.
SHAPE = "shape"
# Of a packed mask: size of the whole image in the mask's pixels, and the place and size of what is packed.
_HEADER = struct.Struct("<6H")

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating[Any]]


class Shape(NamedTuple):
    """The shape of an annotated object.

    kind: "polygons", "runs" (a COCO mask of runs), or "points" (key points)
    numbers: of polygons, one sequence each with x and y in turn; COCO's mask; of points, x, y and visibility
        in turn, or x and y. Coordinates are fractions of the image.
    """

    kind: Literal["polygons", "runs", "points"]
    numbers: Any


@dataclass(frozen=True)
class Mask:
    """A mask in an image of some size.

    size: height and width of the image in the mask's pixels
    top, left: of the part that is kept
    part: the part, (h, w); nothing else is in the mask
    """

    size: tuple[int, int]
    top: int
    left: int
    part: Bools

    @property
    def area(self) -> int:
        """Pixels in the mask."""
        return int(self.part.sum())

    def shared(self, other: Mask) -> int:
        """Pixels that are in both masks of one image."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom = min(self.top + self.part.shape[0], other.top + other.part.shape[0])
        right = min(self.left + self.part.shape[1], other.left + other.part.shape[1])
        if bottom <= top or right <= left:
            return 0
        mine, theirs = (
            mask.part[top - mask.top : bottom - mask.top, left - mask.left : right - mask.left]
            for mask in (self, other)
        )
        return int(np.count_nonzero(mine & theirs))


def cut(whole: Bools) -> Mask:
    """A mask (h, w) without the empty rows and columns around it."""
    rows, columns = np.flatnonzero(whole.any(1)), np.flatnonzero(whole.any(0))
    size = whole.shape[0], whole.shape[1]
    if not len(rows):
        return Mask(size, 0, 0, np.zeros((0, 0), bool))
    part = whole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Mask(size, int(rows[0]), int(columns[0]), part)


def pack_mask(whole: Bools) -> bytes:
    """A mask (h, w) as bytes, some 200 for an object of a photograph."""
    mask = cut(whole)
    head = _HEADER.pack(*mask.size, mask.top, mask.left, *mask.part.shape)
    return b"m" + head + zlib.compress(np.packbits(mask.part).tobytes(), 1)


def pack_points(points: Floats) -> bytes:
    """Key points (k, 2) or (k, 3) in pixels of the image as bytes; their confidences are not kept."""
    return b"p" + np.asarray(points[:, :2], np.float32).tobytes()


def unpack(packed: bytes) -> Mask | Floats:
    """A mask, or key points (k, 2) in pixels of the image."""
    if packed[:1] == b"p":
        return np.frombuffer(packed[1:], np.float32).reshape(-1, 2)
    height, width, top, left, rows, columns = _HEADER.unpack(packed[1 : 1 + _HEADER.size])
    bits = np.frombuffer(zlib.decompress(packed[1 + _HEADER.size :]), np.uint8)
    part = np.unpackbits(bits, count=rows * columns).astype(bool).reshape(rows, columns)
    return Mask((height, width), top, left, part)


def mask_of(shape: Shape | None, corners: Sequence[float], size: tuple[int, int]) -> Mask:
    """The mask of an annotation in an image scaled to a size.

    shape: polygons or runs; None for the box itself. corners: of the box, in fractions of the image. size:
    height and width of the scaled image.
    """
    # Diagnostics import this module, and measure boxes without OpenCV.
    import cv2

    height, width = size
    if shape is not None and shape.kind == "runs":
        whole = cv2.resize(decode_runs(shape.numbers), (width, height), interpolation=cv2.INTER_AREA)
        return cut(np.asarray(whole, np.float32) >= 0.5)
    x1, y1, x2, y2 = corners
    outlines = [[x1, y1, x2, y1, x2, y2, x1, y2]] if shape is None else shape.numbers
    canvas = np.zeros((height, width), np.uint8)
    for numbers in outlines:
        points = np.asarray(numbers, float).reshape(-1, 2) * (width, height)
        cv2.fillPoly(canvas, [np.asarray(points, np.int32)], 1)
    return cut(canvas.astype(bool))


def points_of(shape: Shape, count: int, width: float, height: float) -> Floats:
    """Annotated key points as x and y in pixels and whether they count, (k, 3), of a shape with so many
    points.

    Raises ValueError where the numbers are not so many points.
    """
    numbers = np.asarray(shape.numbers, float)
    if len(numbers) not in (2 * count, 3 * count):
        raise ValueError(f"{len(numbers)} numbers are not {count} key points")
    points = numbers.reshape(count, -1)
    counts = points[:, 2] > 0 if points.shape[1] == 3 else (points > 0).any(1)
    return np.column_stack([points[:, 0] * width, points[:, 1] * height, counts])


def annotated(shape: Shape) -> tuple[Floats, Bools]:
    """The key points of an annotation in fractions of the image, (k, 2) or with their visibility (k, 3); and
    which of them somebody annotated, (k,).
    """
    numbers = np.array(shape.numbers, float)
    # Three numbers a point have a visibility of 0, 1 or 2 in the third place.
    with_visibility = len(numbers) % 3 == 0 and set(numbers[2::3].tolist()) <= {0.0, 1.0, 2.0}
    points: Floats = numbers.reshape(-1, 3 if with_visibility else 2)
    return points, np.asarray(points[:, 2] > 0 if with_visibility else (points > 0).any(1))


def annotated_points(shape: Shape) -> Floats:
    """The key points of an annotation that somebody annotated, in fractions of the image, (k, 2)."""
    points, counts = annotated(shape)
    return points[counts, :2]
