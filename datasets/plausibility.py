"""Whether numbers can mean what their format says: pixels or fractions, sizes or corners, the first class id.

A file in the wrong unit is read without an error and scores an AP of 0. Each check here asks whether boxes as
they are written could lie on their images, and whether all of them would under another reading.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Layout = Literal["xywh", "xyxy", "centre"]
Floats = npt.NDArray[np.floating[Any]]

NAMES: dict[Layout, str] = {
    "xywh": "left, top, width, height",
    "xyxy": "left, top, right, bottom",
    "centre": "centre x, centre y, width, height",
}
# Corners read as sizes leave the image wherever the box's centre is in its right or lower half, three boxes
# in four. In an honest file hardly any does: detectors and tools clip. A fifth lies between, far from both.
OUTSIDE = 0.2
# Fewer boxes that cannot be are careless clipping, or corners exchanged by whoever drew from the other end.
FEW = 5
# Boxes that would all have to lie within the first 100 pixels for percent to be pixels: 20 boxes spread at
# random over an image twice as wide and high do so once in 4**20 files.
PERCENT, PERCENT_BOXES = 100.0, 20
# Share of the images without a detection from which a file of predictions is about some of them only: a
# detector finds something in nearly every image at the confidences from which AP is computed.
MOST_EMPTY = 0.2
# Share of detections that repeat another one from which they were written twice: ties of rounded coordinates
# are rarer.
MOST_REPEATED = 0.05
# AP is about all confidences. Validation keeps 0.001, `yolo predict` 0.25; from here up a file was cut off.
CUT_OFF = 0.1
# Detectors place boxes a little beyond the edge; within so many pixels of the first one there is no object.
SLACK = 0.5
# The most confident detections, which are compared with the annotations under every reading.
MOST_COMPARED = 2000
# Another reading is meant where it puts a tenth of the detections on annotations, at least FEW, and four
# times as many as theirs. By chance: the annotations of eight real sets, read in each wrong way, lie on
# annotations in at most 7 %.
FITTING, TIMES = 0.1, 4
# Networks are given square images of this side, in which programs sometimes leave their boxes.
INPUT_SIDE = 640
# Images below this side are refused, so that a box within the first pixel is never a whole object.
SMALLEST_SIDE = 10


def _from_padded_input(boxes: Floats, sizes: Floats) -> Floats:
    """Boxes (N, 4) in a square input whose image was shrunk and padded to the middle, in pixels of
    the image.
    """
    scale = INPUT_SIDE / sizes.max(1, keepdims=True)
    padding = (INPUT_SIDE - sizes * scale) / 2
    return np.column_stack([(boxes[:, :2] - padding) / scale, boxes[:, 2:] / scale])


# What four numbers may be in place of left, top, width and height in pixels -> those (N, 4), from the numbers
# and the sizes (N, 2) of the images.
READINGS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "top, left, height, width": lambda boxes, sizes: boxes[:, [1, 0, 3, 2]],
    NAMES["centre"]: lambda boxes, sizes: np.column_stack([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]]),
    NAMES["xyxy"]: lambda boxes, sizes: np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]),
    "pixels of images twice as large": lambda boxes, sizes: boxes / 2,
    "pixels of images half as large": lambda boxes, sizes: boxes * 2,
    f"pixels of the network's input, {INPUT_SIDE} a side and padded": _from_padded_input,
    f"pixels of the network's input, {INPUT_SIDE} a side and stretched": lambda boxes, sizes: (
        boxes * np.tile(sizes, 2) / INPUT_SIDE
    ),
}


def corners_of(boxes: Floats, layout: Layout) -> Floats:
    """Corners (N, 4) of boxes that are written in a layout."""
    first, second = boxes[:, :2], boxes[:, 2:]
    if layout == "xyxy":
        return boxes
    if layout == "xywh":
        return np.column_stack([first, first + second])
    return np.column_stack([first - second / 2, first + second / 2])


def written_as(corners: Floats, layout: Layout) -> Floats:
    """The four numbers (N, 4) that a file in a layout has for corners (N, 4): the reverse of `corners_of`."""
    first, second = corners[:, :2], corners[:, 2:]
    if layout == "xyxy":
        return corners
    if layout == "xywh":
        return np.column_stack([first, second - first])
    return np.column_stack([(first + second) / 2, second - first])


def _impossible(corners: Floats, sizes: Floats, tolerance: float) -> npt.NDArray[np.bool_]:
    """Whether each box ends outside its image or has no area."""
    outside = (corners[:, :2] < -tolerance) | (corners[:, 2:] > sizes + tolerance)
    return np.asarray((outside | (corners[:, 2:] <= corners[:, :2])).any(1))


def misread(boxes: Floats, sizes: Floats, layout: Layout) -> str:
    """What boxes seem to be, where they cannot be pixels in the layout that their format asks for.

    Parameters
    ----------
    boxes
        Four numbers a box (N, 4), as written.
    sizes
        Width and height of each box's image (N, 2) in pixels; boxes on images of unknown size (0) are not
        judged.
    layout
        How the format writes a box.

    Returns
    -------
    str
        In words, "" where the boxes are plausible.
    """
    known = np.isfinite(boxes).all(1) & (sizes >= SMALLEST_SIDE).all(1)
    boxes, sizes = boxes[known], sizes[known]
    if not len(boxes):
        return ""
    belongs = f"pixels ({NAMES[layout]}) belong"
    # Whole numbers are a stray click on the first pixel.
    if boxes.min() >= -SLACK and boxes.max() <= 1 + SLACK and (boxes % 1 != 0).any():
        return f"fractions of the image, where {belongs}"
    corners = corners_of(boxes, layout)
    if (
        len(boxes) >= PERCENT_BOXES
        and (sizes >= 2 * PERCENT).all()
        and boxes.min() >= 0
        and (corners[:, 2:] <= PERCENT).all()
        # They fill the range that percent have.
        and (corners[:, :2].min(0) < 0.2 * PERCENT).all()
        and (corners[:, 2:].max(0) > 0.8 * PERCENT).all()
    ):
        return f"percent of the image, where {belongs}"
    return _other_layout(boxes, sizes, layout, 1.0) or _larger_images(corners, sizes)


def _larger_images(corners: Floats, sizes: Floats) -> str:
    """Whether boxes (N, 4) were drawn on larger images: a fifth lies outside theirs altogether, which no tool
    writes.
    """
    outside = (corners[:, :2] >= sizes).any(1)
    if outside.sum() < FEW or outside.mean() < OUTSIDE:
        return ""
    return f"those of larger images: {int(outside.sum())} lie outside theirs"


def misread_extents(corners: Floats, sizes: Floats) -> str:
    """What polygons, or turned boxes, seem to be, where they cannot be pixels of their images; "" if
    plausible.

    corners: of the smallest box around each, (N, 4). sizes: width and height of its image, (N, 2) pixels.
    """
    known = np.isfinite(corners).all(1) & (sizes >= SMALLEST_SIDE).all(1)
    corners, sizes = corners[known], sizes[known]
    if not len(corners):
        return ""
    if corners.min() >= -SLACK and corners.max() <= 1 + SLACK and (corners % 1 != 0).any():
        return "fractions of the image, where pixels belong"
    return _larger_images(corners, sizes)


def misread_fractions(boxes: Floats, layout: Layout, unit: Literal["fractions", "percent"]) -> str:
    """What boxes seem to be, where they cannot be fractions or percent of the image in the layout of their
    format.

    Parameters
    ----------
    boxes
        Four numbers a box (N, 4), percent already divided by 100.
    layout
        How the format writes a box.
    unit
        What the format asks for.

    Returns
    -------
    str
        In words, "" where the boxes are plausible.
    """
    boxes = boxes[np.isfinite(boxes).all(1)]
    if not len(boxes):
        return ""
    belongs = f"where {unit} ({NAMES[layout]}) belong"
    if unit == "percent" and len(boxes) >= FEW and boxes.max() <= (1 + SLACK) / 100:
        return f"fractions of the image, {belongs}"
    # A box that begins beyond its image begins at 150 % of it only where the numbers are of another unit.
    beyond = (boxes > 1.5).any(1)
    if beyond.sum() >= FEW and beyond.mean() >= OUTSIDE:
        other = "pixels or percent" if unit == "fractions" else "pixels"
        return f"{other} of the image, {belongs}"
    return _other_layout(boxes, np.ones((len(boxes), 2)), layout, 1e-3)


def misread_rows(rows: Floats) -> str:
    """What YOLO rows seem to be, where they cannot be centre and size as fractions; "" if plausible.

    Parameters
    ----------
    rows
        The four numbers of each row (N, 4).
    """
    rows = rows[np.isfinite(rows).all(1)]
    return _other_layout(rows, np.ones((len(rows), 2)), "centre", 1e-3)


def _other_layout(boxes: Floats, sizes: Floats, layout: Layout, tolerance: float) -> str:
    """The other layout that fits nearly every box, where the one that belongs there does not fit a fifth."""
    impossible = _impossible(corners_of(boxes, layout), sizes, tolerance)
    if impossible.sum() < FEW or impossible.mean() < OUTSIDE:
        return ""
    for other, words in NAMES.items():
        if other != layout and _impossible(corners_of(boxes, other), sizes, tolerance).mean() < OUTSIDE / 2:
            return f"{words}, where {NAMES[layout]} belong"
    return ""


def reading_that_fits(
    boxes: Floats, images: npt.NDArray[Any], sizes: Floats, annotated: Mapping[Any, Floats]
) -> str:
    """What detections seem to be, where they lie on annotations under another reading only.

    Parameters
    ----------
    boxes
        Left, top, width and height in pixels (N, 4), as they were read.
    images
        The image of each (N,).
    sizes
        Width and height of that image (N, 2) in pixels; 0 or NaN where unknown.
    annotated
        Image -> corners (M, 4) of its annotations.

    Returns
    -------
    str
        In words with both shares, "" where they are what they should be or no reading fits.
    """
    own = share_on_annotations(boxes, images, annotated)
    if own >= 1 / TIMES:
        return ""
    best, words = 0.0, ""
    for name, read in READINGS.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            share = share_on_annotations(read(boxes, sizes), images, annotated)
        if share > best:
            best, words = share, name
    if best < FITTING or best * len(boxes) < FEW or own >= best / TIMES:
        return ""
    belongs = f"pixels of the original image ({NAMES['xywh']})"
    return (
        f"{words}, where {belongs} belong: read so, {best:.0%} of them lie on an annotation, and "
        f"{own:.0%} otherwise"
    )


def upright(boxes: Floats, sizes: Floats, turns: npt.NDArray[Any]) -> Floats:
    """Boxes (N, 4; left, top, width, height) that were found in images before EXIF's rotation, in the upright
    image.

    sizes: width and height of the upright image (N, 2). turns: EXIF's orientation of each (N,); 3, 6 and 8
        are turned.
    """
    (x, y, w, h), (width, height) = boxes.T, sizes.T
    turned = {
        3: (width - x - w, height - y - h, w, h),
        6: (width - y - h, x, h, w),
        8: (y, height - x - w, h, w),
    }
    result = boxes.copy()
    for turn, columns in turned.items():
        result[turns == turn] = np.column_stack(columns)[turns == turn]
    return result


def share_on_annotations(boxes: Floats, images: npt.NDArray[Any], annotated: Mapping[Any, Floats]) -> float:
    """Share of boxes (N, 4; left, top, width, height) with an IoU of 0.5 with an annotation of their image
    (N,).

    annotated: image -> corners (M, 4) of its annotations.
    """
    hits = 0
    # What has no area under a reading is no box under it.
    real = (boxes[:, 2:] > 0).all(1)
    for box, image in zip(corners_of(boxes, "xywh")[real], images[real].tolist(), strict=True):
        others = annotated.get(image)
        if others is None:
            continue
        sides = np.clip(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0, None)
        shared = sides.prod(1)
        union = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared
        hits += bool((shared >= 0.5 * union).any())
    return hits / max(len(boxes), 1)


def repeated_boxes(images: npt.NDArray[Any], labels: npt.NDArray[Any], boxes: Floats) -> int:
    """How many detections repeat another one: image number (N,), class (N,) and box (N, 4) are the same.

    Suppression leaves none: where many do, two files were joined, or one was written twice.
    """
    # Equal rows have equal products, and unequal ones practically never.
    factors = np.random.default_rng(0).uniform(1, 2, 6)
    return len(boxes) - len(np.unique(np.column_stack([images, labels, boxes]) @ factors))


def oddities(
    images: npt.NDArray[Any], labels: npt.NDArray[Any], boxes: Floats, confidences: Floats
) -> list[str]:
    """What is odd about detections that are read as they are, in words.

    Parameters
    ----------
    images, labels
        Number of the image and of the class of each (N,).
    boxes
        Left, top, width and height (N, 4).
    confidences
        (N,).
    """
    total, lines = len(boxes), []
    if not total:
        return []
    repeated = repeated_boxes(images, labels, boxes)
    if repeated > MOST_REPEATED * total:
        lines.append(
            f"{repeated} of {total} detections repeat the box of another one, and count as false positives: "
            "was a file written twice?"
        )
    flat = int((boxes[:, 2:] <= 0).any(1).sum())
    if flat:
        lines.append(
            f"{flat} of {total} detections have no area, and count as false positives: are some written from "
            "the right?"
        )
    lowest = float(confidences.min())
    if lowest > CUT_OFF and confidences.max() > lowest:
        lines.append(
            f"no detection has a confidence below {lowest:.2g}: AP counts what lies below as missed; predict "
            "with a confidence of 0.001, as validation does"
        )
    return lines


def ids_are_off(ids: Collection[Any], listed: Collection[Any]) -> int:
    """By how much ids differ from those that are listed, where some are not and all would be: 1 or -1; 0 for
    neither.

    Programs that number from 0 what a file numbers from 1 leave one id over, and give every other to its
    neighbour.
    """
    known = set(listed)
    if not ids or known.issuperset(ids) or not all(type(key) is int for key in ids):
        return 0
    return next((by for by in (1, -1) if known.issuperset(key + by for key in ids)), 0)


def count_from_one(ids: Collection[int], classes: int) -> bool:
    """Whether class ids that should count from 0 count from 1: the count itself occurs, and 0 never."""
    return classes > 0 and len(ids) > 0 and max(ids) == classes and min(ids) >= 1


def is_crowd(annotation: Any) -> bool:
    """Whether a COCO annotation is marked iscrowd; some programs write the mark as text."""
    mark = annotation.get("iscrowd", 0)
    return mark.strip().lower() in ("1", "true") if isinstance(mark, str) else bool(mark)


def are_all_crowd(annotations: Sequence[Any]) -> bool:
    """Whether every COCO annotation is marked iscrowd: an export of masks, where the mark says nothing."""
    return bool(annotations) and all(isinstance(a, dict) and is_crowd(a) for a in annotations)
