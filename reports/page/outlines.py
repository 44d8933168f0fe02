"""Outlines of boxes, masks and key points, drawn as SVG over an image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd

from datasets.masks import decode_runs
from datasets.rotated import corners_of, rotated_boxes
from datasets.shapes import SHAPE, Mask, Shape, annotated_points, cut, unpack
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.matching import Floats

# A ring of a mask may be off by this share of its extent, or by half a pixel: nobody sees it, and it has some
# twenty points in place of hundreds.
TOLERANCE = 0.01
# Radius of a key point, as a share of the image that it is drawn over.
POINT_RADIUS = 1 / 160


@dataclass(frozen=True)
class Outline:
    """What is drawn of an object.

    rings: the box, and the rings of its mask, in pixels of the image, (n, 2) each
    points: its key points in pixels, (k, 2)
    """

    rings: tuple[Floats, ...]
    points: Floats

    def path(self, left: float, top: float, scale: float, side: float) -> str:
        """SVG path data in a crop that begins at left and top of the image and is `side` long after
        scaling.
        """
        parts = []
        for ring in self.rings:
            moved = (ring - (left, top)) * scale
            parts.append("M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in moved.tolist()) + "Z")
        radius = side * POINT_RADIUS
        for x, y in ((self.points - (left, top)) * scale).tolist():
            around = f"a{radius:.1f},{radius:.1f} 0 1 0"
            parts.append(f"M{x - radius:.1f},{y:.1f}{around} {2 * radius:.1f},0{around} {-2 * radius:.1f},0")
        return "".join(parts)


def outlines_of(domain: Domain, boxes: pd.DataFrame) -> list[Outline]:
    """What is drawn of annotations or detections of a domain: the box, as it lies where it is rotated, and
    its mask or key points where there are some.
    """
    turned = rotated_boxes(boxes)
    corners = boxes[CORNERS].to_numpy(float)
    quads = (
        corners_of(turned) if turned is not None else corners[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    )
    nothing = np.zeros((0, 2))
    if SHAPE not in boxes:
        return [Outline((quad,), nothing) for quad in quads]
    sizes = domain.images.set_index("image")[["width", "height"]].loc[boxes["image"]].to_numpy(float)
    outlines = []
    for quad, size, shape in zip(quads, sizes, boxes[SHAPE], strict=True):
        rings, points = _drawn(shape, size)
        outlines.append(Outline((quad, *rings), points))
    return outlines


def _drawn(shape: object, size: Floats) -> tuple[Iterable[Floats], Floats]:
    """Rings and key points of an annotation's or a detection's shape, in pixels of an image of width and
    height.
    """
    nothing = np.zeros((0, 2))
    if isinstance(shape, bytes) and shape:
        found = unpack(shape)
        return (_rings(found, size), nothing) if isinstance(found, Mask) else ((), np.asarray(found, float))
    if not isinstance(shape, Shape):
        return (), nothing
    if shape.kind == "points":
        return (), annotated_points(shape) * size
    if shape.kind == "runs":
        return _rings(cut(decode_runs(shape.numbers).astype(bool)), size), nothing
    polygons = (np.asarray(numbers, float).reshape(-1, 2) * size for numbers in shape.numbers)
    return [_simplified(ring) for ring in polygons if len(ring) > 2], nothing


def _rings(mask: Mask, size: Floats) -> list[Floats]:
    """Outer and inner rings of a mask in pixels of an image of width and height."""
    if not mask.part.size:
        return []
    scale = size / (mask.size[1], mask.size[0])
    # OpenCV's contours run through the centres of pixels.
    contours, _ = cv2.findContours(mask.part.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    rings = (contour.reshape(-1, 2) + (mask.left + 0.5, mask.top + 0.5) for contour in contours)
    return [_simplified(ring * scale) for ring in rings if len(ring) > 2]


def _simplified(ring: Floats) -> Floats:
    """A ring with the points that shape it."""
    tolerance = max(0.5, TOLERANCE * float(np.ptp(ring, axis=0).max()))
    return np.asarray(cv2.approxPolyDP(ring.astype(np.float32), tolerance, closed=True).reshape(-1, 2), float)
