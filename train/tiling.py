"""Prediction in overlapping tiles beside the whole image: small objects appear larger at the same input size.

As SAHI does (Akyon et al., ICIP 2022), with tiles that are a share of the image and therefore few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

from datasets.pixels import Pixels
from datasets.rotated import ROTATED, probiou
from datasets.tables import CORNERS
from train.passes import ImageOutput
from train.predictions import Floats, Settings
from train.transforms import Tile

if TYPE_CHECKING:
    from train.remembered import AnyDetector

# Two by two tiles that overlap by a third of their side: an object smaller than that lies whole in one of
# them.
TILES = tuple(Tile(x, y) for y in (0, 1) for x in (0, 1))
# Boxes of two tiles that overlap as much show one object.
SAME_BOX_IOU = 0.5
# A box within this many pixels of a tile's inner edge is cut off there.
EDGE = 2
ROW = [*CORNERS, "confidence", "label"]


def predict_tiled(
    whole: pd.DataFrame,
    images: pd.DataFrame,
    predict: Callable[[Tile], pd.DataFrame],
    *,
    limit: int,
) -> pd.DataFrame:
    """Detections of the tiles beside those of whole images.

    Parameters
    ----------
    whole
        Detections of the whole images: image, label, x1, y1, x2, y2, confidence.
    images
        Columns image, width and height.
    predict
        The detections in one tile of every image, in pixels of the tile.
    limit
        Most detections of an image.

    Returns
    -------
    DataFrame
        The columns of whole, in pixels of the images.
    """
    sizes = {
        name: (int(width), int(height))
        for name, width, height in zip(images["image"], images["width"], images["height"], strict=True)
    }
    columns = [*ROW, *(name for name in ROTATED if name in whole)]
    parts = [whole]
    for tile in TILES:
        found = predict(tile)
        numbers = found[columns].to_numpy(float)
        placed = {
            image: place_boxes(numbers[rows], tile, *sizes[str(image)])
            for image, rows in found.groupby("image", sort=False).indices.items()
        }
        if placed:
            names = np.repeat(np.array(list(placed), object), [len(boxes) for boxes in placed.values()])
            moved = pd.DataFrame(np.concatenate(list(placed.values())), columns=columns)
            parts.append(moved.assign(image=pd.array(names, dtype="str")))
    together = pd.concat([part[["image", *columns]] for part in parts], ignore_index=True)
    boxes = together[columns].to_numpy(float)
    kept = [
        rows[merge_boxes(boxes[rows], limit)]
        for rows in together.groupby("image", sort=False).indices.values()
    ]
    chosen = np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
    return together.iloc[chosen].astype({"label": "int64"})[list(whole.columns)].reset_index(drop=True)


def place_boxes(boxes: Floats, tile: Tile, width: int, height: int) -> Floats:
    """Boxes (n, 6) of a tile in pixels of the image, without those that its inner edges cut off, (k, 6).

    With rotated boxes behind them, (n, 11), as `train.forward.Detector` gives them, these are moved too.
    """
    left, top, right, bottom = tile.bounds(width, height)
    cut = (
        ((boxes[:, 0] < EDGE) & (left > 0))
        | ((boxes[:, 1] < EDGE) & (top > 0))
        | ((boxes[:, 2] > right - left - EDGE) & (right < width))
        | ((boxes[:, 3] > bottom - top - EDGE) & (bottom < height))
    )
    placed = boxes[~cut].copy()
    placed[:, :4] += (left, top, left, top)
    placed[:, 6:8] += (left, top)[: placed.shape[1] - 6]
    return placed


def merge_boxes(boxes: Floats, limit: int) -> np.ndarray:
    """Rows that non-maximum suppression by class keeps of boxes (n, 6) of one image, the most confident
    first.

    Rotated ones (n, 11) by their overlap as rotated boxes.
    """
    if not len(boxes):
        return np.zeros(0, np.int64)
    if boxes.shape[1] > 6:
        return _merge_rotated(boxes, limit)
    sides = boxes[:, :4].copy()
    sides[:, 2:] -= sides[:, :2]
    chosen = cv2.dnn.NMSBoxesBatched(
        sides.tolist(), boxes[:, 4].tolist(), boxes[:, 5].astype(int).tolist(), 0.0, SAME_BOX_IOU
    )
    return np.asarray(chosen, np.int64).reshape(-1)[:limit]


def _merge_rotated(boxes: Floats, limit: int) -> np.ndarray:
    """See `merge_boxes`."""
    left, kept = np.argsort(-boxes[:, 4], kind="stable"), list[int]()
    turned = boxes[:, 6:].astype(float)
    while len(left) and len(kept) < limit:
        first, left = left[0], left[1:]
        kept.append(int(first))
        overlap = probiou(np.repeat(turned[[first]], len(left), 0), turned[left])
        left = left[(overlap <= SAME_BOX_IOU) | (boxes[left, 5] != boxes[first, 5])]
    return np.array(kept, np.int64)


def predict_pixels_tiled(detector: AnyDetector, images: Sequence[Pixels], settings: Settings) -> list[Floats]:
    """Boxes (N, 6) of images of one shape: of the whole images and of their tiles."""
    height, width = images[0].shape[:2]
    parts: list[list[Floats]] = [[output.boxes] for output in detector.predict_pixels(images, settings)]
    for tile in TILES:
        outputs: list[ImageOutput] = detector.predict_pixels([tile(pixels) for pixels in images], settings)
        for part, output in zip(parts, outputs, strict=True):
            part.append(place_boxes(output.boxes, tile, width, height))
    merged = [np.concatenate(part) for part in parts]
    return [boxes[merge_boxes(boxes, settings.max_det)].astype(np.float32) for boxes in merged]
