"""Crops for the gallery: decoded by us, re-encoded without metadata, as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from datasets.pixels import Pixels, UnreadableImage, decode, decode_thumbnail
from datasets.rotated import corners_of
from reports.page.outlines import Outline

SIDE = 208
SMALL_SIDE = 104
WIDE = 300
JPEG_QUALITY = 80
# A crop shows this many times the box, and at least this share of the image: the context explains half of all
# mistakes.
CONTEXT = 2.6
MIN_SHARE = 0.22
# BGR; kind -> outline.
OUTLINE = {
    "false_positive": (40, 40, 230),
    "wrong_class": (0, 110, 230),
    "missed": (0, 190, 255),
    "near_miss": (200, 80, 220),
    "true_positive": (80, 180, 60),
    "detection": (220, 150, 30),
    "": (200, 200, 200),
}

# Thumbnails of a sheet: large enough to tell a scene by, small enough for hundreds.
TILE = 72
SHEET_QUALITY = 68

Box = Sequence[float]


@dataclass(frozen=True)
class Shot:
    """A JPEG without anything drawn into it, and outlines to lay over it.

    src: JPEG data URI
    width, height: of the JPEG in pixels
    outlines: outlines of objects in these pixels, as SVG path data
    """

    src: str
    width: int
    height: int
    outlines: tuple[str, ...]


@lru_cache(maxsize=48)
def load(path: str) -> Pixels | None:
    """Upright pixels, or None for an image that cannot be read."""
    try:
        return decode(Path(path))
    except (UnreadableImage, OSError):
        return None


def window(box: Box, width: int, height: int) -> tuple[int, int, int]:
    """Left, top and side of a square around a box, inside the image where it fits."""
    side = max(CONTEXT * max(box[2] - box[0], box[3] - box[1]), MIN_SHARE * max(width, height))
    side = min(side, max(width, height))
    left, top = (box[0] + box[2] - side) / 2, (box[1] + box[3] - side) / 2
    left = min(max(left, 0.0), max(width - side, 0.0))
    top = min(max(top, 0.0), max(height - side, 0.0))
    return round(left), round(top), max(1, round(side))


def shot(
    path: str,
    box: Box | None,
    outlines: Sequence[Outline],
    *,
    side: int = SIDE,
    quality: int = JPEG_QUALITY,
) -> Shot | None:
    """A square crop around a box, or the whole image without one, and the outlines of objects in it.

    Parameters
    ----------
    path
        Of the image.
    box
        What the crop is around, in pixels of the image: upright (4 numbers), or rotated (5 more behind them).
    outlines
        What is drawn over it.
    side
        Longer side of the JPEG in pixels; a whole image is never enlarged.
    quality
        Of the JPEG, 0 to 100.

    Returns
    -------
    Shot or None
        None when the image cannot be read.
    """
    pixels = load(path)
    if pixels is None:
        return None
    tile, left, top, scale = _cut(pixels, box, side if box is not None else min(side, max(pixels.shape[:2])))
    paths = tuple(outline.path(left, top, scale, max(tile.shape[:2])) for outline in outlines)
    return Shot(_as_uri(tile, quality), tile.shape[1], tile.shape[0], paths)


def _cut(pixels: Pixels, box: Box | None, side: int) -> tuple[Pixels, int, int, float]:
    """The part of an image around a box at a size, its left and top in the image, and the scale."""
    height, width = pixels.shape[:2]
    left, top, extent = window(box, width, height) if box is not None else (0, 0, max(width, height))
    part = pixels[top : top + extent, left : left + extent]
    scale = side / max(part.shape[:2])
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    tile = np.ascontiguousarray(cv2.resize(part, size, interpolation=method), np.uint8)
    return tile, left, top, scale


def sheet(paths: Sequence[str], columns: int) -> str | None:
    """Thumbnails of TILE by TILE pixels side by side in rows of so many columns, as one JPEG data URI; None
    without any. An image that cannot be read leaves its place empty.
    """
    if not paths:
        return None
    rows = -(-len(paths) // columns)
    whole_sheet = np.full((rows * TILE, columns * TILE, 3), 128, np.uint8)

    def place(number: int) -> None:
        try:
            tile = decode_thumbnail(Path(paths[number]), TILE)
        except (UnreadableImage, OSError):
            return
        height, width = tile.shape[:2]
        top, left = (number // columns) * TILE, (number % columns) * TILE
        top, left = top + (TILE - height) // 2, left + (TILE - width) // 2
        whole_sheet[top : top + height, left : left + width] = tile

    with ThreadPoolExecutor() as pool:
        list(pool.map(place, range(len(paths))))
    return _as_uri(whole_sheet, SHEET_QUALITY)


def crop(path: str, box: Box | None, kind: str, *, truth: Sequence[Box] = (), side: int = SIDE) -> str | None:
    """A square crop around a box as a JPEG data URI; the box in its kind's colour, annotations (truth) in
    thin white.

    Without a box, the whole image. None when the image cannot be read.
    """
    pixels = load(path)
    if pixels is None:
        return None
    tile, left, top, scale = _cut(pixels, box, side)
    for other in truth:
        _outline(tile, other, left, top, scale, (255, 255, 255), 1)
    if box is not None:
        _outline(tile, box, left, top, scale, OUTLINE[kind], 2)
    return _as_uri(tile)


def whole(
    path: str, boxes: Sequence[Box], kinds: Sequence[str], *, truth: Sequence[Box] = (), side: int = WIDE
) -> str | None:
    """A whole image as a JPEG data URI with boxes in their kinds' colours and annotations (truth) in thin
    white.

    side: length of the longer side in pixels. None when the image cannot be read.
    """
    pixels = load(path)
    if pixels is None:
        return None
    tile, _, _, scale = _cut(pixels, None, side)
    for other in truth:
        _outline(tile, other, 0, 0, scale, (255, 255, 255), 1)
    for box, kind in zip(boxes, kinds, strict=True):
        _outline(tile, box, 0, 0, scale, OUTLINE[kind], 2)
    return _as_uri(tile)


def _as_uri(tile: Pixels, quality: int = JPEG_QUALITY) -> str:
    """An image as a JPEG data URI."""
    encoded = cv2.imencode(".jpg", tile, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _outline(
    tile: Pixels, box: Box, left: int, top: int, scale: float, colour: tuple[int, int, int], thickness: int
) -> None:
    """Draw a box given in image pixels into a crop, in place: upright (4 numbers), or rotated (5 more behind
    them).
    """
    if len(box) > 4:
        corners = corners_of(np.array([box[4:]], float))[0]
        points = np.round((corners - (left, top)) * scale).astype(np.int32)
        cv2.polylines(tile, [points], isClosed=True, color=colour, thickness=thickness, lineType=cv2.LINE_AA)
        return
    x1, y1, x2, y2 = (
        round((v - origin) * scale) for v, origin in zip(box, (left, top, left, top), strict=True)
    )
    cv2.rectangle(tile, (x1, y1), (x2, y2), colour, thickness, cv2.LINE_AA)
