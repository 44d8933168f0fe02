"""Transforms applied before prediction: interventions on real-world images and corruptions of in-domain ones.

Transforms that move pixels move the boxes too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from datasets.pixels import Pixels
from datasets.rotated import ROTATED, corners_of, rotated_boxes, rotated_of
from datasets.tables import CORNERS

Matrix = npt.NDArray[np.float64]

# The value beyond the border of a moved image: the grey that Ultralytics letterboxes with.
GREY = 114
SEVERITIES = (1, 2, 3)
# OpenCV's remapping addresses pixels with 16 bits.
MAX_SIDE = 32_766
# An object with a smaller share inside the image is ignored: neither missed nor a false positive.
VISIBLE = 0.5


class Transform(Protocol):
    """A change of an image before it is predicted.

    name: part of the settings, and so of the key of the store
    """

    @property
    def name(self) -> str:
        """The change and its strength."""

    def __call__(self, pixels: Pixels) -> Pixels:
        """Change an image (H, W, 3) uint8 BGR; images of one shape give images of one shape."""


@dataclass(frozen=True)
class Photometric:
    """A change of colours: the mean and standard deviation of each channel are set.

    mean, spread: of the channels BGR, in [0, 255]
    """

    mean: tuple[float, float, float]
    spread: tuple[float, float, float]

    @classmethod
    def of(cls, images: pd.DataFrame) -> Photometric:
        """The mean colours of a table of images with statistics."""
        mean, spread = (
            [float(images[f"{statistic}_{channel}"].mean()) for channel in "bgr"]
            for statistic in ("mean", "spread")
        )
        return cls((mean[0], mean[1], mean[2]), (spread[0], spread[1], spread[2]))

    @property
    def name(self) -> str:
        """The mean and spread."""
        return "match " + " ".join(f"{value:.2f}" for value in (*self.mean, *self.spread))

    def __call__(self, pixels: Pixels) -> Pixels:
        """Match the mean and spread of an image (H, W, 3) uint8."""
        values = pixels.astype(np.float32)
        own_mean, own_spread = values.mean((0, 1)), values.std((0, 1)) + 1e-3
        matched = (values - own_mean) / own_spread * np.array(self.spread, np.float32) + np.array(
            self.mean, np.float32
        )
        return np.asarray(np.clip(np.rint(matched), 0, 255), np.uint8)


@dataclass(frozen=True)
class Tile:
    """One of grid x grid overlapping parts of an image.

    x, y: column and row of the part
    grid: parts along each side
    side: width and height of a part, as a share of the image's
    """

    x: int
    y: int
    grid: int = 2
    side: float = 0.6

    @property
    def name(self) -> str:
        """The part and its size."""
        return f"tile {self.x} {self.y} of {self.grid} at {self.side}"

    def bounds(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the part in an image of this width and height, in pixels."""
        part_width, part_height = round(width * self.side), round(height * self.side)
        left = round(self.x * (width - part_width) / (self.grid - 1))
        top = round(self.y * (height - part_height) / (self.grid - 1))
        return left, top, left + part_width, top + part_height

    def __call__(self, pixels: Pixels) -> Pixels:
        """Cut the part out of an image (H, W, 3) uint8."""
        left, top, right, bottom = self.bounds(pixels.shape[1], pixels.shape[0])
        return np.ascontiguousarray(pixels[top:bottom, left:right])


@dataclass(frozen=True)
class Sequential:
    """Two transforms, one after the other."""

    first: Transform
    second: Transform

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.first.name}, then {self.second.name}"

    def __call__(self, pixels: Pixels) -> Pixels:
        """Apply both to an image (H, W, 3) uint8."""
        return self.second(self.first(pixels))


@dataclass(frozen=True)
class Corruption:
    """One kind of change at one severity; the sides of the images are at most MAX_SIDE.

    family: kind of change
    severity: 1 to 3, 0 for no change
    strength: the parameters at this severity, in words
    matrix: (width, height) -> homography (3, 3) in pixels, None if nothing moves
    tone: change of colours, None for none
    """

    family: str
    severity: int
    strength: str = ""
    matrix: Callable[[int, int], Matrix] | None = None
    tone: Callable[[Pixels], Pixels] | None = None

    @property
    def name(self) -> str:
        """Family and strength, so that results at another strength have another name."""
        return f"{self.family} at {self.strength}" if self.strength else self.family

    def __call__(self, pixels: Pixels) -> Pixels:
        """Change an image (H, W, 3) uint8, keeping its shape."""
        if self.matrix is not None:
            height, width = pixels.shape[:2]
            pixels = _warp(pixels, self.matrix(width, height))
        return self.tone(pixels) if self.tone is not None else pixels

    def boxes(self, boxes: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
        """Move boxes as the change moves the image.

        A box becomes the bounding box of its moved inscribed ellipse, which fits most objects better than its
        corners do. Boxes less than half visible are marked as crowd, which matching ignores; boxes outside
        the image are dropped.

        Parameters
        ----------
        boxes
            Columns image, x1, y1, x2, y2 and crowd.
        images
            Columns image, width and height.

        Returns
        -------
        DataFrame
            The moved boxes.
        """
        if self.matrix is None or not len(boxes):
            return boxes
        sizes = images.set_index("image").loc[boxes["image"], ["width", "height"]].to_numpy()
        corners = boxes[CORNERS].to_numpy(float)
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        centre, radius = (corners[:, :2] + corners[:, 2:]) / 2, (corners[:, 2:] - corners[:, :2]) / 2
        rim = centre[:, None] + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        moved = _bounding_boxes(rim, sizes, self.matrix)
        inside = np.clip(moved, 0, np.tile(sizes, 2))
        area = np.prod(moved[:, 2:] - moved[:, :2], 1)
        visible = np.prod(inside[:, 2:] - inside[:, :2], 1) / np.maximum(area, 1e-9)
        result = boxes.copy()
        result[CORNERS] = inside
        if (turned := rotated_boxes(boxes)) is not None:
            result[ROTATED] = rotated_of(_moved(np.asarray(corners_of(turned), float), sizes, self.matrix))
        result["crowd"] = result["crowd"].to_numpy(bool) | (visible < VISIBLE)
        return result[visible > 0].reset_index(drop=True)

    def undo(self, boxes: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
        """Move boxes of the changed image back to the original one; exact if the change keeps the axes."""
        matrix = self.matrix
        if matrix is None or not len(boxes):
            return boxes
        sizes = images.set_index("image").loc[boxes["image"], ["width", "height"]].to_numpy()
        corners = boxes[CORNERS].to_numpy(float).reshape(-1, 2, 2)

        def inverse(width: int, height: int) -> Matrix:
            return np.asarray(np.linalg.inv(matrix(width, height)), float)

        result = boxes.copy()
        result[CORNERS] = _bounding_boxes(corners, sizes, inverse)
        if (turned := rotated_boxes(boxes)) is not None:
            result[ROTATED] = rotated_of(_moved(np.asarray(corners_of(turned), float), sizes, inverse))
        return result


def _bounding_boxes(points: Matrix, sizes: Matrix, matrix: Callable[[int, int], Matrix]) -> Matrix:
    """Bounding boxes (n, 4) of points (n, k, 2) moved by the homographies of images of these sizes (n, 2)."""
    moved = _moved(points, sizes, matrix)
    return np.concatenate([moved.min(1), moved.max(1)], 1)


def _moved(points: Matrix, sizes: Matrix, matrix: Callable[[int, int], Matrix]) -> Matrix:
    """Points (n, k, 2) moved by the homographies of images of these sizes (n, 2)."""
    moved = np.empty(points.shape)
    for width, height in np.unique(sizes, axis=0):
        rows = (sizes == (width, height)).all(1)
        place = np.concatenate([points[rows], np.ones((*points[rows].shape[:2], 1))], 2)
        place = place @ matrix(int(width), int(height)).T
        moved[rows] = place[..., :2] / place[..., 2:]
    return moved


def _warp(pixels: Pixels, matrix: Matrix) -> Pixels:
    """Move an image (H, W, 3) uint8 by a homography (3, 3) into one of the same shape, without aliasing.

    warpPerspective interpolates four pixels however many fall on one, so an image is first averaged
    (INTER_AREA) by as much as the homography shrinks each axis in the middle of the image.
    """
    height, width = pixels.shape[:2]
    x, y, w = matrix @ (width / 2, height / 2, 1)
    across, down = np.hypot(*((matrix[:2, :2] - np.outer((x, y), matrix[2, :2]) / w) / w))
    size = max(1, round(width * min(1, across))), max(1, round(height * min(1, down)))
    if size != (width, height):
        matrix = matrix @ np.diag([width / size[0], height / size[1], 1.0])
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    # OpenCV's coordinates are 0 in the middle of the first pixel; those of boxes are 0 at its edge.
    middle = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    moved = cv2.warpPerspective(
        pixels, np.linalg.inv(middle) @ matrix @ middle, (width, height), borderValue=(GREY, GREY, GREY)
    )
    return np.asarray(moved, np.uint8)


def about_centre(x: float, y: float, *, turn: float = 0.0) -> Callable[[int, int], Matrix]:
    """Scale by x and y and rotate by `turn` degrees, about the middle of the image."""

    def matrix(width: int, height: int) -> Matrix:
        cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
        middle = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1.0]])
        return np.asarray(
            middle
            @ np.array([[x * cos, -y * sin, 0], [x * sin, y * cos, 0], [0, 0, 1]])
            @ np.linalg.inv(middle)
        )

    return matrix


def _shear(x: float) -> Callable[[int, int], Matrix]:
    """Shear about the middle of the image; x: pixels sideways for each pixel downwards."""
    return lambda width, height: np.array([[1, x, -x * height / 2], [0, 1, 0], [0, 0, 1]])


def _tilt(pinch: float) -> Callable[[int, int], Matrix]:
    """A camera that points further down (pinch < 0) or less far down (pinch > 0), on a flat ground.

    pinch: share of the width by which each end of the upper edge moves inwards; for pinch < 0, each end of
    the lower edge instead
    """

    def matrix(width: int, height: int) -> Matrix:
        inner, edge = abs(pinch) * width, width - abs(pinch) * width
        square = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        upper = np.array([[inner, 0], [edge, 0], [width, height], [0, height]], np.float32)
        lower = np.array([[0, 0], [width, 0], [edge, height], [inner, height]], np.float32)
        return np.asarray(cv2.getPerspectiveTransform(square, upper if pinch > 0 else lower), float)

    return matrix


def levels(gain: float, haze: float = 0.0) -> Callable[[Pixels], Pixels]:
    """Multiply every value by gain, then mix it with light grey by the share haze."""
    values = (1 - haze) * gain * np.arange(256) + haze * 191
    table = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return lambda pixels: np.asarray(cv2.LUT(pixels, table), np.uint8)


def blur(share: float) -> Callable[[Pixels], Pixels]:
    """Gaussian blur with a standard deviation that is a share of the longer side."""
    return lambda pixels: np.asarray(
        cv2.GaussianBlur(pixels, (0, 0), share * max(pixels.shape[:2])), np.uint8
    )


@lru_cache(maxsize=2)
def grain(height: int, width: int) -> npt.NDArray[np.float32]:
    """Standard normal noise (H, W, 3) with a fixed seed."""
    return np.random.default_rng(0).standard_normal((height, width, 3), np.float32)


def noise(deviation: float) -> Callable[[Pixels], Pixels]:
    """Noise of a standard deviation in [0, 255]; the same for every image of one size."""
    return lambda pixels: np.asarray(np.clip(pixels + deviation * grain(*pixels.shape[:2]), 0, 255), np.uint8)


def compress(quality: float) -> Callable[[Pixels], Pixels]:
    """JPEG compression at a low quality, as by cheap cameras and messengers."""

    def transform(pixels: Pixels) -> Pixels:
        _, coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)

    return transform


def _cast(strength: float) -> Callable[[Pixels], Pixels]:
    """Another ground and light: colours multiplied towards red earth."""
    gain = 1 + strength * np.array([-0.5, -0.1, 0.4], np.float32)
    return lambda pixels: np.asarray(np.clip(pixels * gain, 0, 255), np.uint8)


# Each family with its strength at severities 1 to 3. There are several that change shapes, so that the cost
# of a mismatched shape can be estimated from the others when one is left out.
MOVES: dict[str, tuple[Callable[[float], Callable[[int, int], Matrix]], tuple[float, float, float]]] = {
    "smaller": (lambda s: about_centre(s, s), (0.7, 0.45, 0.25)),
    "larger": (lambda s: about_centre(s, s), (1.5, 2.2, 3.2)),
    "flatter": (lambda s: about_centre(1, s), (0.7, 0.5, 0.35)),
    "narrower": (lambda s: about_centre(s, 1), (0.7, 0.5, 0.35)),
    "wider": (lambda s: about_centre(s, 1), (1.4, 2.0, 2.8)),
    "taller": (lambda s: about_centre(1, s), (1.4, 2.0, 2.8)),
    "slanted": (_shear, (0.4, 0.8, 1.4)),
    "turned": (lambda degrees: about_centre(1, 1, turn=degrees), (15, 40, 90)),
    "seen from higher": (lambda pinch: _tilt(-pinch), (0.15, 0.27, 0.37)),
    "seen from lower": (_tilt, (0.15, 0.27, 0.37)),
}
TONES: dict[str, tuple[Callable[[float], Callable[[Pixels], Pixels]], tuple[float, float, float]]] = {
    "darker": (levels, (0.55, 0.3, 0.14)),
    "brighter": (levels, (1.4, 1.9, 2.7)),
    "hazier": (lambda share: levels(1.0, share), (0.4, 0.65, 0.85)),
    "blurred": (blur, (0.003, 0.007, 0.014)),
    "noisy": (noise, (15, 35, 70)),
    "compressed": (compress, (25, 10, 4)),
    "coloured": (_cast, (0.35, 0.7, 1.0)),
}


# Small changes that a robust detector's boxes follow.
SQUEEZES = (
    Corruption("squeezed in width", 1, "0.7", matrix=about_centre(0.7, 1)),
    Corruption("squeezed in height", 1, "0.7", matrix=about_centre(1, 0.7)),
)


def corruptions(severities: Sequence[int], *, mixed: bool = False) -> tuple[Corruption, ...]:
    """The unchanged images, and every family at these severities; mixed: pairs of a move and a change of
    colours too.
    """

    def move(family: str, severity: int) -> Corruption:
        make, strengths = MOVES[family]
        strength = strengths[severity - 1]
        return Corruption(family, severity, f"{strength:g}", matrix=make(strength))

    def tone(family: str, severity: int) -> Corruption:
        make, strengths = TONES[family]
        strength = strengths[severity - 1]
        return Corruption(family, severity, f"{strength:g}", tone=make(strength))

    def pair(first: Corruption, second: Corruption) -> Corruption:
        return Corruption(
            f"{first.family} and {second.family}",
            first.severity,
            f"{first.strength} {second.strength}",
            first.matrix,
            second.tone,
        )

    single = [Corruption("as it is", 0)]
    single += [move(family, severity) for family in MOVES for severity in severities]
    single += [tone(family, severity) for family in TONES for severity in severities]
    if not mixed:
        return tuple(single)
    families = zip(MOVES, cycle(TONES), strict=False)
    return tuple(single + [pair(move(m, s), tone(t, s)) for m, t in families for s in (1, 2)])
