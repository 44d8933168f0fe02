"""Boxes with their class and confidence drawn on an image of any size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datasets.pixels import Pixels
from diagnostics.matching import Floats
from diagnostics.wording import fraction

# Okabe and Ito's colours as BGR, one a class in turn; told apart by everybody.
COLOURS = (
    (0, 94, 213),
    (178, 114, 0),
    (115, 158, 0),
    (167, 121, 204),
    (0, 159, 230),
    (233, 180, 86),
    (66, 228, 240),
)
# Lines and letters grow with the image: these shares of its shorter side, and never less than can be seen.
LINE, LETTER = 1 / 300, 1 / 40
MIN_LINE, MIN_LETTER = 2, 11
# What is left of a blurred box: so many shades across its longer side, which tell no face from another and no number plate.
SHADES = 6


def draw(
    pixels: Pixels, boxes: Floats, classes: Sequence[str], blurred: frozenset[int] = frozenset()
) -> Pixels:
    """A copy of an image (H, W, 3) BGR with its boxes (N, 6: xyxy, confidence, class), the surest on top. blurred: classes that are made unrecognisable and not outlined."""
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
            part = canvas[y1:y2, x1:x2]
            few = (
                max(1, SHADES * part.shape[1] // max(part.shape[:2])),
                max(1, SHADES * part.shape[0] // max(part.shape[:2])),
            )
            small = cv2.resize(part, few, interpolation=cv2.INTER_AREA)
            canvas[y1:y2, x1:x2] = cv2.resize(small, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)
            continue
        colour = COLOURS[label % len(COLOURS)]
        cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), colour, line, cv2.LINE_AA)
        name = classes[label] if label < len(classes) else str(label)
        put(canvas, tag(f"{name} {fraction(round(float(box[4]), 2))}", letter, colour), x1, y1)
    return canvas


@lru_cache(maxsize=2048)
def tag(text: str, letter: int, colour: tuple[int, int, int]) -> Pixels:
    """A label as a small image, letters of so many pixels on its class's colour."""
    font = ImageFont.load_default(letter)
    left, _, right, _ = font.getbbox(text)
    space = letter // 4
    size = int(right - left) + 2 * space, letter + 2 * space
    # Dark letters on light colours, light ones on dark: by luminance (Rec. 601).
    light = 0.114 * colour[0] + 0.587 * colour[1] + 0.299 * colour[2] > 140
    image = Image.new("RGB", size, colour[::-1])
    drawing = ImageDraw.Draw(image)
    drawing.text((space - left, space), text, font=font, fill=(0, 0, 0) if light else (255, 255, 255))
    return np.ascontiguousarray(np.asarray(image, np.uint8)[..., ::-1])


def put(canvas: Pixels, label: Pixels, x: int, y: int) -> None:
    """A label above a box's upper left corner, or inside where there is no room; cut off at the image's edge."""
    height, width = canvas.shape[:2]
    top = y - label.shape[0] if y >= label.shape[0] else y
    left = max(0, min(x, width - label.shape[1]))
    part = label[: height - top, : width - left]
    canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
