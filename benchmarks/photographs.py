"""Causes planted into real photographs: what a diagnosis should name, on images nobody rendered."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from datasets.pixels import Pixels, decode
from datasets.tables import CORNERS, Source

# Share of the images that are the in-domain set; the others are the real world, with a cause planted.
IN_DOMAIN_SHARE = 0.5
MIN_RECORDINGS = 10
# Severities that leave a detector something: objects at two fifths of their size; boxes half as large again
# on each side of the middle; a third of the labels dropped and a fifth moved; a night three stops darker; a
# view flattened to half; confidences to the fourth power.
SMALLER, LARGER_BOXES, DROPPED, MOVED, STOPS, FLATTENED, POWER = 0.4, 1.6, 0.35, 0.2, 3.0, 0.5, 4.0

Changed = tuple[Pixels, pd.DataFrame]


@dataclass(frozen=True)
class PhotographCase:
    """A cause that is planted into photographs.

    name: what was done
    cause: code of the hypothesis that is right
    kind: kind of a domain shift; "" for other causes
    change: from the pixels and annotations of an image, and a generator, to the changed ones
    """

    name: str
    cause: str
    kind: str
    change: Callable[[Pixels, pd.DataFrame, np.random.Generator], Changed]


def leave(pixels: Pixels, boxes: pd.DataFrame, rng: np.random.Generator) -> Changed:
    """Nothing."""
    return pixels, boxes


def show_smaller(pixels: Pixels, boxes: pd.DataFrame, rng: np.random.Generator) -> Changed:
    """The image small in the middle of a blurred copy of itself, in which nothing can be detected."""
    height, width = pixels.shape[:2]
    backdrop = cv2.GaussianBlur(pixels, (0, 0), max(height, width) / 12)
    small = cv2.resize(pixels, None, fx=SMALLER, fy=SMALLER, interpolation=cv2.INTER_AREA)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    backdrop[top : top + small.shape[0], left : left + small.shape[1]] = small
    moved = boxes.copy()
    moved[CORNERS] = boxes[CORNERS] * SMALLER + [left, top, left, top]
    return backdrop, moved


def redraw(pixels: Pixels, boxes: pd.DataFrame, rng: np.random.Generator) -> Changed:
    """Boxes drawn with a margin, as another team would."""
    height, width = pixels.shape[:2]
    corners = boxes[CORNERS].to_numpy(float)
    middle = (corners[:, :2] + corners[:, 2:]) / 2
    half = (corners[:, 2:] - corners[:, :2]) / 2 * LARGER_BOXES
    drawn = np.column_stack([middle - half, middle + half]).clip(0, [width, height, width, height])
    return pixels, boxes.assign(**dict(zip(CORNERS, drawn.T, strict=True)))


def spoil_labels(pixels: Pixels, boxes: pd.DataFrame, rng: np.random.Generator) -> Changed:
    """Labels left out, and others moved by their own width."""
    kept = boxes[rng.random(len(boxes)) >= DROPPED].copy()
    moved = rng.random(len(kept)) < MOVED
    width = (kept["x2"] - kept["x1"]).to_numpy(float) * moved * rng.choice([-1, 1], len(kept))
    limit = pixels.shape[1]
    kept["x1"], kept["x2"] = (kept["x1"] + width).clip(0, limit - 2), (kept["x2"] + width).clip(2, limit)
    return pixels, kept


def make_night(pixels: Pixels, boxes: pd.DataFrame, rng: np.random.Generator) -> Changed:
    """Darker, bluer and grainy."""
    light = pixels.astype(float) / 2**STOPS * [1.2, 1.0, 0.85]
    grain = rng.normal(0, 6, pixels.shape)
    return (light + grain).clip(0, 255).astype(np.uint8), boxes


def flatten(pixels: Pixels, boxes: pd.DataFrame, rng: np.random.Generator) -> Changed:
    """Squeezed in height, as flat things look from a lower camera; the rest is grey, as letterboxed."""
    height, width = pixels.shape[:2]
    flat = cv2.resize(pixels, (width, max(1, round(height * FLATTENED))), interpolation=cv2.INTER_AREA)
    canvas = np.full_like(pixels, 114)
    top = (height - flat.shape[0]) // 2
    canvas[top : top + flat.shape[0]] = flat
    moved = boxes.copy()
    moved[["y1", "y2"]] = boxes[["y1", "y2"]] * FLATTENED + top
    return canvas, moved


CASES = (
    PhotographCase("as they are", "none", "", leave),
    PhotographCase("objects at two fifths of their size", "scale", "", show_smaller),
    PhotographCase("boxes drawn with a margin", "label_protocol", "", redraw),
    PhotographCase("labels dropped and moved", "label_error", "", spoil_labels),
    PhotographCase("night", "domain_shift", "appearance", make_night),
    PhotographCase("flattened", "domain_shift", "viewpoint", flatten),
)
# A monotone change of the confidences: AP50 stays, the threshold is off.
TEMPERED = PhotographCase("confidence to the fourth power", "threshold", "", leave)


def recipe_key(spec: str, seed: int) -> str:
    """Eight hex digits over everything that the changed images depend on, but the images themselves."""
    recipe = (
        spec,
        seed,
        SMALLER,
        LARGER_BOXES,
        DROPPED,
        MOVED,
        STOPS,
        FLATTENED,
        [case.name for case in CASES],
    )
    return f"{zlib.crc32(repr(recipe).encode()):08x}"


def halves(source: Source, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The labelled images that are not for training, in two halves by recording; with few recordings, or
    names that only look like some, by image: halves would differ in their classes.
    """
    images = source.images[source.images["labelled"] & (source.images["split"] != "train")]
    units = images["group"] if images["group"].nunique() >= MIN_RECORDINGS else images["image"]
    names = units.unique()
    chosen = np.random.default_rng(seed).permutation(names)[: round(len(names) * IN_DOMAIN_SHARE)]
    inside = units.isin(chosen)
    return images[inside].reset_index(drop=True), images[~inside].reset_index(drop=True)


def write_dataset(
    folder: Path, source: Source, images: pd.DataFrame, case: PhotographCase, seed: int
) -> Path:
    """Write changed images and labels as a YOLO dataset; returns its folder. One that is there is left."""
    if (folder / "data.yaml").exists():
        return folder
    rng = np.random.default_rng(seed)
    for part in ("images", "labels"):
        (folder / part / "val").mkdir(parents=True, exist_ok=True)
    by_image = {str(image): rows for image, rows in source.annotations.groupby("image")}
    for number, row in enumerate(images.itertuples()):
        boxes = by_image.get(str(row.image), source.annotations.head(0))
        pixels, boxes = case.change(decode(Path(str(row.path))), boxes, rng)
        # The recording stays in the name, or frames of one video would count as independent.
        stem = f"{zlib.crc32(str(row.group).encode()):08x}_{number:04d}"
        cv2.imwrite(str(folder / "images" / "val" / f"{stem}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
        (folder / "labels" / "val" / f"{stem}.txt").write_text(
            yolo_rows(boxes, pixels.shape[1], pixels.shape[0]), encoding="utf-8"
        )
    (folder / "data.yaml").write_text(
        f"path: {folder}\nval: images/val\nnames: {json.dumps(list(source.classes))}\n",
        encoding="utf-8",
    )
    return folder


def yolo_rows(boxes: pd.DataFrame, width: int, height: int) -> str:
    """Annotations as YOLO writes them."""
    lines = []
    for label, x1, y1, x2, y2 in boxes[["label", *CORNERS]].itertuples(index=False, name=None):
        values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(f"{int(label)} " + " ".join(f"{value:.6f}" for value in values))
    return "\n".join(lines) + ("\n" if lines else "")
