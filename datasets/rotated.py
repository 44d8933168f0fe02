"""Rotated boxes: centre, sides and angle, beside the upright extent that every table has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

# Columns of a table of boxes whose detector or labels are rotated: centre and sides in pixels, and the angle
# of the first side in radians. NaN where a box is upright.
ROTATED = ["cx", "cy", "along", "across", "angle"]

# Pixels that single precision, which OpenCV computes in, still tells apart.
FARTHEST = 2.0**24

Matrix = npt.NDArray[np.floating[Any]]


def rotated_of(corners: Matrix) -> Matrix:
    """The smallest rotated box around each quadrilateral (n, 4, 2), (n, 5); as Ultralytics reads its labels.

    NaN, as of an upright box, where a corner is no number, or farther away than pixels are.
    """
    # Diagnostics import this module, and measure tables without OpenCV.
    import cv2

    boxes = np.full((len(corners), 5), np.nan)
    for row, points in enumerate(corners):
        # Comparisons with NaN are false.
        if not (np.abs(points) < FARTHEST).all():
            continue
        (cx, cy), (along, across), angle = cv2.minAreaRect(points.astype(np.float32))
        boxes[row] = cx, cy, along, across, np.radians(angle)
    return boxes


def corners_of(boxes: Matrix) -> Matrix:
    """The corners (n, 4, 2) of rotated boxes (n, 5), in turn."""
    centre, sides, angle = boxes[:, None, :2], boxes[:, 2:4], boxes[:, 4]
    first = np.stack([np.cos(angle), np.sin(angle)], 1) * sides[:, :1] / 2
    second = np.stack([-np.sin(angle), np.cos(angle)], 1) * sides[:, 1:] / 2
    return np.asarray(centre + np.stack([first + second, first - second, -first - second, second - first], 1))


def extents_of(boxes: Matrix) -> Matrix:
    """The upright extent xyxy (n, 4) of rotated boxes (n, 5)."""
    corners = corners_of(boxes)
    return np.concatenate([corners.min(1), corners.max(1)], 1)


def rotated_boxes(table: pd.DataFrame) -> Matrix | None:
    """The rotated boxes (n, 5) of a table; upright ones at angle 0, None where the table has no such
    columns.
    """
    if "angle" not in table:
        return None
    boxes = table[ROTATED].to_numpy(float, copy=True)
    corners = table[["x1", "y1", "x2", "y2"]].to_numpy(float)
    upright = np.isnan(boxes).any(1)
    low, high = corners[upright, :2], corners[upright, 2:]
    boxes[upright] = np.column_stack([(low + high) / 2, high - low, np.zeros(int(upright.sum()))])
    return boxes


def probiou(first: Matrix, second: Matrix) -> Matrix:
    """Overlap of rotated boxes, pair by pair, (n, 5) each -> (n,).

    One less the Hellinger distance of the Gaussians with the boxes' moments (Llerena et al. 2021), which
    Ultralytics trains and validates with. 1 for equal boxes; a little under the share of areas for others.
    """
    tiny = 1e-7
    (a1, b1, c1), (a2, b2, c2) = _covariance(first), _covariance(second)
    dx, dy = first[:, 0] - second[:, 0], first[:, 1] - second[:, 1]
    a, b, c = a1 + a2, b1 + b2, c1 + c2
    determinant = a * b - c**2
    near = (a * dy**2 + b * dx**2) / (determinant + tiny) * 0.25 + c * -dx * dy / (determinant + tiny) * 0.5
    own = np.sqrt(np.clip(a1 * b1 - c1**2, 0, None) * np.clip(a2 * b2 - c2**2, 0, None))
    alike = np.log(determinant / (4 * own + tiny) + tiny) * 0.5
    return np.asarray(1 - np.sqrt(1 - np.exp(-np.clip(near + alike, tiny, 100)) + tiny))


def _covariance(boxes: Matrix) -> tuple[Matrix, Matrix, Matrix]:
    """Moments xx, yy and xy of rotated boxes (n, 5), (n,) each."""
    along, across = boxes[:, 2] ** 2 / 12, boxes[:, 3] ** 2 / 12
    cosine, sine = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    return (
        along * cosine**2 + across * sine**2,
        along * sine**2 + across * cosine**2,
        (along - across) * cosine * sine,
    )
