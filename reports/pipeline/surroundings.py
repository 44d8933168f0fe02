"""Objects of real-world images in in-domain surroundings: whether what is around the objects costs the AP."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pandas as pd

from datasets.pixels import Pixels, UnreadableImage, decode
from datasets.rotated import ROTATED
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.matching import Floats
from train.passes import available_cores

# What is cut out around an object, as a share of its sides: its shadow and its edge, which detectors need.
MARGIN = 0.15
# Images that are composed beside each other.
AT_ONCE = 4
# The cut fades over this share of the margin's width, so that no hard edge is there to be detected.
FADE = 0.5


def in_other_surroundings(
    objects: Domain, surroundings: Domain, predict: Callable[[Domain], Domain], *, seed: int
) -> Domain:
    """Images with their annotated objects as they are, and all else taken from images of another domain.

    Objects of the surroundings are crowds in the result: a detection of one counts neither way.

    Parameters
    ----------
    objects
        The images whose objects stay where they are.
    surroundings
        Labelled images that everything else is taken from, each in turn in random order, cropped to the
        shape.
    predict
        Predicts a domain from the files that its images name.
    seed
        Of the order.

    Returns
    -------
    Domain
        The same images, with the detections in the composed ones; those that cannot be decoded are left out.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(surroundings.labelled_images))
    by_image = {str(image): rows for image, rows in surroundings.annotations.groupby("image")}
    with TemporaryDirectory() as folder:

        def write(number: int) -> tuple[dict[str, str], pd.DataFrame] | None:
            """The path of a composed image, and the objects of its surroundings; None where one is
            unreadable.
            """
            image, own = (str(objects.images[column].iloc[number]) for column in ("image", "path"))
            behind = surroundings.labelled_images.iloc[order[number % len(order)]]
            mine = objects.annotations.loc[objects.annotations["image"] == image, CORNERS].to_numpy(float)
            try:
                front, back = decode(Path(own)), decode(Path(str(behind["path"])))
            except (UnreadableImage, OSError):
                return None
            back, scale, offset = cover(back, front.shape[1], front.shape[0])
            # Uncompressed: it is read once.
            path = Path(folder) / f"{number:05d}.bmp"
            if not cv2.imwrite(str(path), compose(front, back, mine)):
                raise OSError(f"{path}: cannot be written")
            theirs = by_image.get(str(behind["image"]), surroundings.annotations.iloc[:0])
            moved = theirs[CORNERS].to_numpy(float) * scale - np.tile(offset, 2)
            return {"image": image, "path": str(path)}, _crowds(theirs, moved, image, front.shape)

        # A composition of 12 megapixels takes half a gigabyte while it is made.
        with ThreadPoolExecutor(min(available_cores(), AT_ONCE)) as pool:
            written = [part for part in pool.map(write, range(len(objects.images))) if part is not None]
        kept, crowds = [paths for paths, _ in written], [rows for _, rows in written]
        paths = pd.DataFrame(kept, columns=["image", "path"]).set_index("image")["path"]
        chosen = objects.subset(objects.images.loc[objects.images["image"].isin(paths.index), "image"])
        composed = replace(chosen, images=chosen.images.assign(path=chosen.images["image"].map(paths)))
        predicted = predict(composed)
    annotations = pd.concat([predicted.annotations, *crowds], ignore_index=True)
    originals = chosen.subset(predicted.images["image"])
    return replace(
        originals,
        annotations=annotations[annotations["image"].isin(originals.images["image"])],
        detections=predicted.detections,
        detection_embeddings=predicted.detection_embeddings,
    )


def cover(image: Pixels, width: int, height: int) -> tuple[Pixels, float, Floats]:
    """An image scaled and cropped about its middle to a size; the scale, and the offset (x, y) of
    the crop.
    """
    scale = max(width / image.shape[1], height / image.shape[0])
    size = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
    larger = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    cropped = np.asarray(larger[top : top + height, left : left + width], np.uint8)
    return cropped, scale, np.array([left, top], float)


def compose(front: Pixels, back: Pixels, boxes: Floats) -> Pixels:
    """The front inside boxes (n, 4) with a margin, the back elsewhere, both in one size."""
    height, width = front.shape[:2]
    alpha = np.zeros((height, width), np.float32)
    for x1, y1, x2, y2 in boxes:
        margin = MARGIN * max(x2 - x1, y2 - y1)
        left, top = max(0, int(x1 - margin)), max(0, int(y1 - margin))
        right, bottom = min(width, int(np.ceil(x2 + margin))), min(height, int(np.ceil(y2 + margin)))
        patch = np.ones((bottom - top, right - left), np.float32)
        fade = max(1, round(FADE * margin))
        # Beyond the image there is nothing to fade into.
        for axis, ends in enumerate(((top > 0, bottom < height), (left > 0, right < width))):
            ramp = np.ones(patch.shape[axis], np.float32)
            steps = np.linspace(0, 1, fade + 1, dtype=np.float32)[1:][: len(ramp)]
            if ends[0]:
                ramp[: len(steps)] = np.minimum(ramp[: len(steps)], steps)
            if ends[1]:
                ramp[len(ramp) - len(steps) :] = np.minimum(ramp[len(ramp) - len(steps) :], steps[::-1])
            patch *= ramp[:, None] if axis == 0 else ramp[None]
        alpha[top:bottom, left:right] = np.maximum(alpha[top:bottom, left:right], patch)
    mixed = front * alpha[..., None] + back * (1 - alpha[..., None])
    return np.asarray(np.rint(mixed), np.uint8)


def _crowds(annotations: pd.DataFrame, corners: Floats, image: str, shape: tuple[int, ...]) -> pd.DataFrame:
    """Annotations of the surroundings as crowds of another image, without those that are cropped away."""
    limit = (shape[1], shape[0], shape[1], shape[0])
    corners = np.clip(corners, 0, limit)
    moved = annotations.assign(image=image, crowd=True, **dict(zip(CORNERS, corners.T, strict=True)))
    # A region that does not count is upright, whatever lies in it.
    moved = moved.assign(**{name: np.nan for name in ROTATED if name in moved})
    return moved[((corners[:, 2:] - corners[:, :2]) > 1).all(1)]
