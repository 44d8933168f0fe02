"""A folder of `shiftscope predict` as a domain of a report: its images, and its boxes without weights."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from datasets.containment import is_registered
from datasets.errors import InputError
from datasets.tables import CORNERS, Source
from train.environment import frames_folder

INFO = "predict.json"
BOXES, IMAGES = "boxes.parquet", "images.parquet"

NamedSource = tuple[str | None, str]


def read_prediction_info(folder: Path) -> dict[str, Any] | None:
    """The record of a folder that `predict` wrote, None for any other folder."""
    try:
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return info if isinstance(info, dict) and "sha256" in info else None


def resolve_domain(
    domain: NamedSource, sha256: str | None, say: Callable[[str], None]
) -> tuple[NamedSource, tuple[str, Path] | None]:
    """Replace a folder of `predict` by the source that was predicted.

    Only folders that `predict` finished under this runs folder are replaced; any other folder is a source.

    Parameters
    ----------
    domain
        Name (or None) and source.
    sha256
        Of the report's weights, None without weights.
    say
        Called with each message.

    Returns
    -------
    tuple
        The domain's name and source; and, without weights, the name and the file of its boxes.
    """
    name, spec = domain
    folder = Path(spec).expanduser()
    info = read_prediction_info(folder) if folder.is_dir() else None
    if info is None:
        return domain, None
    if not is_registered(folder / INFO, frames_folder()):
        # A file of that name which `predict` did not write: it may come with a dataset and name any path.
        return domain, None
    name = name or folder.name
    if sha256 is not None and sha256 != info["sha256"]:
        say(f"  {name}: was predicted with another checkpoint; it is predicted again")
    source = str(info["source"])
    return (name, source), None if sha256 is not None else (name, folder / BOXES)


def newer_images(path: Path, source: Source) -> int:
    """How many images of a source changed after a file of boxes was written."""
    written = path.stat().st_mtime
    count = 0
    for image in dict.fromkeys(source.images["path"]):
        with suppress(OSError):
            count += os.stat(image).st_mtime > written
    return count


def _check_sizes(path: Path, predicted: pd.DataFrame, source: Source, names: Mapping[str, str]) -> None:
    """Raise InputError where an image has another size than when it was predicted; names: image there -> in
    the source.
    """
    sizes = ["width", "height"]
    before = predicted.set_index("image")[sizes].rename(index=names)
    now = source.images.set_index("image")[sizes].reindex(before.index)
    changed = (before != now).any(axis=1) & now.notna().all(axis=1)
    if changed.any():
        image = str(changed.index[changed.to_numpy().argmax()])
        was, is_ = ("x".join(str(int(v)) for v in table.loc[image]) for table in (before, now))
        raise InputError(
            f"{path}: {int(changed.sum())} images have another size than when they were predicted, such as "
            f"{image} ({is_}, before {was}); predict them again"
        )


def read_boxes(path: Path, source: Source, classes: Sequence[str]) -> tuple[pd.DataFrame, set[str]]:
    """Read the boxes of `predict` as detections of a source's images.

    Images are matched by path, frames of videos by file and time.

    Parameters
    ----------
    path
        The Parquet file of boxes.
    source
        The images.
    classes
        Class names, in the order of the labels.

    Returns
    -------
    tuple
        Detections (image, label, x1, y1, x2, y2, confidence), and the images that were predicted.

    Raises
    ------
    InputError
        The file is not readable, has other classes, none of the source's images, or images that changed their
        size.
    """
    try:
        boxes = pq.read_table(path).to_pandas()
        images = pq.read_table(path.with_name(IMAGES)).to_pandas()
        boxes = boxes[["image", "label", "name", *CORNERS, "confidence"]]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not boxes as 'shiftscope predict' writes them ({error})") from None
    foreign = sorted(set(boxes["name"]) - set(classes))
    if foreign:
        raise InputError(f"{path}: has the classes {foreign[:5]}, which are none of {list(classes)}")
    is_file = images["seconds"].isna()
    by_path = dict(zip(images.loc[is_file, "path"], images.loc[is_file, "image"], strict=True))
    frames = set(images.loc[~is_file, "image"])
    # The name of an image in the file of boxes to its name in the source.
    names: dict[str, str] = {}
    for image, image_path in zip(source.images["image"], source.images["path"], strict=True):
        predicted_name = by_path.get(image_path) or (image if image in frames else None)
        if predicted_name is not None:
            names[predicted_name] = str(image)
    if not names:
        example = next(iter(by_path), next(iter(frames), "nothing"))
        raise InputError(
            f"{path}: none of its images is one of {source.spec}; it knows them by their paths, such as "
            f"{example}: predict again, or give predictions.json beside it, which has file names"
        )
    _check_sizes(path, images, source, names)
    boxes = boxes[boxes["image"].isin(list(names))]
    numbers = {name: number for number, name in enumerate(classes)}
    detections = pd.DataFrame(
        {
            "image": boxes["image"].map(names).astype("str"),
            "label": boxes["name"].map(numbers).astype("int64"),
            **{column: boxes[column].astype(float) for column in (*CORNERS, "confidence")},
        }
    ).reset_index(drop=True)
    return detections, set(names.values())
