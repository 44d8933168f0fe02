"""Boxes with their class and confidence, drawn on an image of any size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datasets.pixels import Pixels
from datasets.rotated import corners_of
from diagnostics.matching import Floats
from diagnostics.wording import fraction

# Okabe and Ito's palette as BGR, one colour per class in turn; distinguishable with colour vision deficiency.
COLOURS = (
    (0, 94, 213),
    (178, 114, 0),
    (115, 158, 0),
    (167, 121, 204),
    (0, 159, 230),
    (233, 180, 86),
    (66, 228, 240),
)
# Line width and letter height as fractions of the image's shorter side, and their minimum in pixels.
LINE, LETTER = 1 / 300, 1 / 40
MIN_LINE, MIN_LETTER = 2, 11
# Pixels that a blurred box keeps along its longer side: too few to identify a face or a number plate.
BLURRED_SIDE = 6


def draw(
    pixels: Pixels, boxes: Floats, classes: Sequence[str], blurred: frozenset[int] = frozenset()
) -> Pixels:
    """Draw boxes on a copy of an image, the most confident on top.

    Parameters
    ----------
    pixels
        The image (H, W, 3) BGR.
    boxes
        (N, 6): x1, y1, x2, y2 in pixels, confidence, label; (N, 11) with rotated boxes behind them.
    classes
        Class names in the order of the labels.
    blurred
        Labels of the classes that are blurred instead of outlined.

    Returns
    -------
    Pixels
        The copy.
    """
    canvas = pixels.copy()
    height, width = canvas.shape[:2]
    line = max(MIN_LINE, round(min(height, width) * LINE))
    letter = max(MIN_LETTER, round(min(height, width) * LETTER))
    for box in boxes[np.argsort(boxes[:, 4], kind="stable")]:
        x1, y1 = (max(0, int(np.floor(v))) for v in box[:2])
        x2, y2 = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
        label = int(box[5])
        if x2 <= x1 or y2 <= y1:
            continue
        if label in blurred:
            _blur(canvas[y1:y2, x1:x2])
            continue
        colour = COLOURS[label % len(COLOURS)]
        if len(box) > 6:
            corners = np.round(corners_of(box[None, 6:].astype(float))[0]).astype(np.int32)
            cv2.polylines(
                canvas, [corners], isClosed=True, color=colour, thickness=line, lineType=cv2.LINE_AA
            )
        else:
            cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), colour, line, cv2.LINE_AA)
        name = classes[label] if label < len(classes) else str(label)
        text = f"{name} {fraction(round(float(box[4]), 2))}"
        _paste_tag(canvas, _render_tag(text, letter, colour), x1, y1)
    return canvas


def _blur(region: Pixels) -> None:
    """Blur a region of an image in place."""
    height, width = region.shape[:2]
    longer = max(height, width)
    reduced = max(1, BLURRED_SIDE * width // longer), max(1, BLURRED_SIDE * height // longer)
    small = cv2.resize(region, reduced, interpolation=cv2.INTER_AREA)
    region[:] = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=2048)
def _render_tag(text: str, letter: int, colour: tuple[int, int, int]) -> Pixels:
    """Render text as a small image, with letters of a height in pixels on the class's colour."""
    font = ImageFont.load_default(letter)
    left, _, right, _ = font.getbbox(text)
    space = letter // 4
    size = int(right - left) + 2 * space, letter + 2 * space
    # Dark letters on light colours and light ones on dark, by luminance (Rec. 601).
    is_light = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > 140
    image = Image.new("RGB", size, colour[::-1])
    drawing = ImageDraw.Draw(image)
    drawing.text((space - left, space), text, font=font, fill=(0, 0, 0) if is_light else (255, 255, 255))
    return np.ascontiguousarray(np.asarray(image, np.uint8)[..., ::-1])


def _paste_tag(canvas: Pixels, tag: Pixels, x: int, y: int) -> None:
    """Paste a tag above a box's upper left corner, or inside the box at the image's top edge; clipped."""
    height, width = canvas.shape[:2]
    top = y - tag.shape[0] if y >= tag.shape[0] else y
    left = max(0, min(x, width - tag.shape[1]))
    part = tag[: height - top, : width - left]
    canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
