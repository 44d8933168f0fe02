"""Ways to show an image differently: with the in-domain colours, in tiles, and the corruptions by which footage usually differs, with what becomes of the boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import cycle
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from datasets.pixels import Pixels
from datasets.tables import CORNERS

Matrix = npt.NDArray[np.float64]

# What is beyond the border of a moved image: the grey that Ultralytics letterboxes with.
GREY = 114
SEVERITIES = (1, 2, 3)
# OpenCV's remapping addresses pixels with 16 bits.
MAX_SIDE = 32_766
# An object of which less than this is left inside the image is no longer one to find; finding it is no error either.
VISIBLE = 0.5


class Transform(Protocol):
    """What is done to an image before the detector sees it; the name stands in the settings, and so in the key of the store."""

    @property
    def name(self) -> str:
        """Names the change and its strength."""

    def __call__(self, pixels: Pixels) -> Pixels:
        """(H, W, 3) uint8 BGR -> the changed image; images of one shape must stay of one shape."""


@dataclass(frozen=True)
class Photometric:
    """A change of colours only: each channel moved to a mean and spread (3,), BGR in [0, 255]."""

    mean: tuple[float, float, float]
    spread: tuple[float, float, float]

    @classmethod
    def of(cls, images: pd.DataFrame) -> Photometric:
        """The mean tone of a table of images with statistics."""
        mean, spread = (
            [float(images[f"{what}_{channel}"].mean()) for channel in "bgr"] for what in ("mean", "spread")
        )
        return cls((mean[0], mean[1], mean[2]), (spread[0], spread[1], spread[2]))

    @property
    def name(self) -> str:
        """Names the tone."""
        return "match " + " ".join(f"{value:.2f}" for value in (*self.mean, *self.spread))

    def __call__(self, pixels: Pixels) -> Pixels:
        """(H, W, 3) uint8 -> the same with the channels' mean and spread matched."""
        values = pixels.astype(np.float32)
        own_mean, own_spread = values.mean((0, 1)), values.std((0, 1)) + 1e-3
        matched = (values - own_mean) / own_spread * np.array(self.spread, np.float32) + np.array(
            self.mean, np.float32
        )
        return np.asarray(np.clip(np.rint(matched), 0, 255), np.uint8)


@dataclass(frozen=True)
class Tile:
    """A part of each image: side (share of width and height) of it, at column x and row y of a grid of `grid` by `grid` overlapping parts."""

    x: int
    y: int
    grid: int = 2
    side: float = 0.6

    @property
    def name(self) -> str:
        """Names the part."""
        return f"tile {self.x} {self.y} of {self.grid} at {self.side}"

    def corner(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels of an image."""
        w, h = round(width * self.side), round(height * self.side)
        left, top = (
            round(place * (total - part) / (self.grid - 1))
            for place, total, part in ((self.x, width, w), (self.y, height, h))
        )
        return left, top, left + w, top + h

    def __call__(self, pixels: Pixels) -> Pixels:
        """(H, W, 3) uint8 -> the part."""
        left, top, right, bottom = self.corner(pixels.shape[1], pixels.shape[0])
        return np.ascontiguousarray(pixels[top:bottom, left:right])


@dataclass(frozen=True)
class Sequential:
    """Two changes, one after the other."""

    first: Transform
    second: Transform

    @property
    def name(self) -> str:
        """Names both."""
        return f"{self.first.name}, then {self.second.name}"

    def __call__(self, pixels: Pixels) -> Pixels:
        """(H, W, 3) uint8 -> changed twice."""
        return self.second(self.first(pixels))


@dataclass(frozen=True)
class Distortion:
    """One family at one severity, and how strong that is. matrix: (width, height) -> homography (3, 3) in pixels, None if nothing moves; tone: a change of colours.

    Sides of the images are at most MAX_SIDE.
    """

    family: str
    severity: int
    strength: str = ""
    matrix: Callable[[int, int], Matrix] | None = None
    tone: Callable[[Pixels], Pixels] | None = None

    @property
    def name(self) -> str:
        """Names family and strength, so that results at another strength are not taken for these."""
        return f"{self.family} at {self.strength}" if self.strength else self.family

    def __call__(self, pixels: Pixels) -> Pixels:
        """(H, W, 3) uint8 -> the same shape."""
        if self.matrix is not None:
            height, width = pixels.shape[:2]
            pixels = _warp(pixels, self.matrix(width, height))
        return self.tone(pixels) if self.tone is not None else pixels

    def boxes(self, boxes: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
        """The boxes table as it is after the change; images gives their width and height.

        A box becomes the bounding box of its inscribed ellipse after the change, since that is nearer to what fills it than its corners are.
        Objects less than half visible are marked as crowd, which matching ignores; objects out of the image are gone.
        """
        if self.matrix is None or not len(boxes):
            return boxes
        sizes = images.set_index("image").loc[boxes["image"], ["width", "height"]].to_numpy()
        corners = boxes[CORNERS].to_numpy(float)
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        centre, radius = (corners[:, :2] + corners[:, 2:]) / 2, (corners[:, 2:] - corners[:, :2]) / 2
        rim = centre[:, None] + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        moved = _around(rim, sizes, self.matrix)
        inside = np.clip(moved, 0, np.tile(sizes, 2))
        area = np.prod(moved[:, 2:] - moved[:, :2], 1)
        visible = np.prod(inside[:, 2:] - inside[:, :2], 1) / np.maximum(area, 1e-9)
        result = boxes.copy()
        result[CORNERS] = inside
        result["crowd"] = result["crowd"].to_numpy(bool) | (visible < VISIBLE)
        return result[visible > 0].reset_index(drop=True)

    def undo(self, boxes: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
        """Boxes found after the change, as they lie in the image before it; exact where the change keeps the axes."""
        matrix = self.matrix
        if matrix is None or not len(boxes):
            return boxes
        sizes = images.set_index("image").loc[boxes["image"], ["width", "height"]].to_numpy()
        corners = boxes[CORNERS].to_numpy(float).reshape(-1, 2, 2)
        back = _around(
            corners, sizes, lambda width, height: np.asarray(np.linalg.inv(matrix(width, height)), float)
        )
        return boxes.assign(**dict(zip(CORNERS, back.T, strict=True)))


def _around(points: Matrix, sizes: Matrix, matrix: Callable[[int, int], Matrix]) -> Matrix:
    """Bounding boxes (n, 4) of points (n, k, 2) moved by the homographies of images of these sizes (n, 2)."""
    boxes = np.empty((len(points), 4))
    for width, height in np.unique(sizes, axis=0):
        mine = (sizes == (width, height)).all(1)
        moved = np.concatenate([points[mine], np.ones((*points[mine].shape[:2], 1))], 2)
        moved = moved @ matrix(int(width), int(height)).T
        moved = moved[..., :2] / moved[..., 2:]
        boxes[mine] = np.concatenate([moved.min(1), moved.max(1)], 1)
    return boxes


def _warp(pixels: Pixels, matrix: Matrix) -> Pixels:
    """(H, W, 3) uint8 moved by a homography (3, 3) into an image of the same shape, without aliasing where it shrinks.

    warpPerspective looks at four pixels however many fall on one, so what it would shrink is first averaged (INTER_AREA) by as much as the
    homography shrinks each axis in the middle of the image.
    """
    height, width = pixels.shape[:2]
    x, y, w = matrix @ (width / 2, height / 2, 1)
    across, down = np.hypot(*((matrix[:2, :2] - np.outer((x, y), matrix[2, :2]) / w) / w))
    size = max(1, round(width * min(1, across))), max(1, round(height * min(1, down)))
    if size != (width, height):
        matrix = matrix @ np.diag([width / size[0], height / size[1], 1.0])
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    # OpenCV's coordinates are 0 in the middle of the first pixel; ours, as those of boxes, at its edge.
    middle = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    moved = cv2.warpPerspective(
        pixels, np.linalg.inv(middle) @ matrix @ middle, (width, height), borderValue=(GREY, GREY, GREY)
    )
    return np.asarray(moved, np.uint8)


def about_centre(x: float, y: float, *, turn: float = 0.0) -> Callable[[int, int], Matrix]:
    """Scale by x and y and turn by degrees about the middle of the image."""

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
    """Everything slanted about the middle of the image: x is how far a point moves sideways for each pixel it lies lower."""
    return lambda width, height: np.array([[1, x, -x * height / 2], [0, 1, 0], [0, 0, 1]])


def _tilt(pinch: float) -> Callable[[int, int], Matrix]:
    """A camera that looks further down (pinch < 0: the far edge widens) or less far down (pinch > 0), on a flat ground.

    pinch: share of the width by which each end of the upper edge moves inwards (the lower edge, outwards, for pinch < 0).
    """

    def matrix(width: int, height: int) -> Matrix:
        inner, edge = abs(pinch) * width, width - abs(pinch) * width
        square = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        upper = np.array([[inner, 0], [edge, 0], [width, height], [0, height]], np.float32)
        lower = np.array([[0, 0], [width, 0], [edge, height], [inner, height]], np.float32)
        return np.asarray(cv2.getPerspectiveTransform(square, upper if pinch > 0 else lower), float)

    return matrix


def levels(gain: float, haze: float = 0.0) -> Callable[[Pixels], Pixels]:
    """Every value multiplied, then mixed with a light grey by the share haze; as a table of 256."""
    values = (1 - haze) * gain * np.arange(256) + haze * 191
    table = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return lambda pixels: np.asarray(cv2.LUT(pixels, table), np.uint8)


def blur(share: float) -> Callable[[Pixels], Pixels]:
    """Gaussian blur whose standard deviation is a share of the longer side, so that every image size loses alike."""
    return lambda pixels: np.asarray(
        cv2.GaussianBlur(pixels, (0, 0), share * max(pixels.shape[:2])), np.uint8
    )


@lru_cache(maxsize=2)
def grain(height: int, width: int) -> npt.NDArray[np.float32]:
    """Standard normal noise (H, W, 3), always the same."""
    return np.random.default_rng(0).standard_normal((height, width, 3), np.float32)


def noise(deviation: float) -> Callable[[Pixels], Pixels]:
    """Sensor noise of a standard deviation in [0, 255]; the same for every image of one size."""
    return lambda pixels: np.asarray(np.clip(pixels + deviation * grain(*pixels.shape[:2]), 0, 255), np.uint8)


def compress(quality: float) -> Callable[[Pixels], Pixels]:
    """JPEG at a low quality, as cheap cameras and messengers do."""

    def transform(pixels: Pixels) -> Pixels:
        _, coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)

    return transform


def _cast(strength: float) -> Callable[[Pixels], Pixels]:
    """Another ground and light: colours multiplied towards red earth, BGR."""
    gain = 1 + strength * np.array([-0.5, -0.1, 0.4], np.float32)
    return lambda pixels: np.asarray(np.clip(pixels * gain, 0, 255), np.uint8)


# What each family does at its three strengths. Moves are of the camera or the image; those that change shapes come in more than one way, so that
# what a misfit of shape costs can be learned from the others when one is left out.
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


# What a steady detector follows: the image squeezed a little, one way or the other.
SQUEEZES = (
    Distortion("squeezed in width", 1, "0.7", matrix=about_centre(0.7, 1)),
    Distortion("squeezed in height", 1, "0.7", matrix=about_centre(1, 0.7)),
)


def corruptions() -> tuple[Distortion, ...]:
    """The images as they are, every family at every severity, and mixtures of a move and a change of colours, as real footage differs in more than one way."""

    def move(family: str, severity: int) -> Distortion:
        make, strengths = MOVES[family]
        strength = strengths[severity - 1]
        return Distortion(family, severity, f"{strength:g}", matrix=make(strength))

    def tone(family: str, severity: int) -> Distortion:
        make, strengths = TONES[family]
        strength = strengths[severity - 1]
        return Distortion(family, severity, f"{strength:g}", tone=make(strength))

    def mixture(first: Distortion, second: Distortion) -> Distortion:
        return Distortion(
            f"{first.family} and {second.family}",
            first.severity,
            f"{first.strength} {second.strength}",
            first.matrix,
            second.tone,
        )

    plain = [Distortion("as it is", 0)]
    plain += [move(family, severity) for family in MOVES for severity in SEVERITIES]
    plain += [tone(family, severity) for family in TONES for severity in SEVERITIES]
    pairs = zip(MOVES, cycle(TONES), strict=False)
    return tuple(plain + [mixture(move(m, s), tone(t, s)) for m, t in pairs for s in (1, 2)])
