"""A folder that `shiftscope predict` wrote as a domain of a report: the images it looked at, with its boxes where the report has no weights of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from datasets.containment import vouched_for
from datasets.errors import InputError
from datasets.tables import CORNERS, Source
from train.environment import frames_folder

INFO = "predict.json"
BOXES, IMAGES = "boxes.parquet", "images.parquet"

NamedSource = tuple[str | None, str]


def read_prediction_info(folder: Path) -> dict[str, Any] | None:
    """What a folder of `predict` says of itself, None where it is none."""
    try:
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return info if isinstance(info, dict) and "sha256" in info else None


def resolve_domain(
    domain: NamedSource, sha256: str | None, say: Callable[[str], None]
) -> tuple[NamedSource, tuple[str, Path] | None]:
    """A domain's name and source, with a folder of `predict` replaced by what it looked at; and, without weights (sha256 None), the name and file of its boxes.

    A folder counts that was finished here; what others wrote there is a folder like any other.
    """
    name, spec = domain
    folder = Path(spec).expanduser()
    info = read_prediction_info(folder) if folder.is_dir() else None
    if info is None:
        return domain, None
    if not vouched_for(folder / INFO, frames_folder()):
        # Somebody else's file of that name: it may be a dataset's, and lead anywhere.
        return domain, None
    name = name or folder.name
    if sha256 is not None and sha256 != info["sha256"]:
        say(f"  {name}: was looked at with another checkpoint; it is looked at anew")
    source = str(info["source"])
    return (name, source), None if sha256 is not None else (name, folder / BOXES)


def read_boxes(path: Path, source: Source, classes: Sequence[str]) -> tuple[pd.DataFrame, set[str]]:
    """The boxes of `predict` as detections (image, label, x1, y1, x2, y2, confidence) of a source's images, and which images were looked at; frames of videos are told by file and time.

    Raises InputError when it is no such file, or its classes are not these.
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
    still = images["seconds"].isna()
    by_path = dict(zip(images.loc[still, "path"], images.loc[still, "image"], strict=True))
    named = set(images.loc[~still, "image"])
    theirs: dict[str, str] = {}
    for image, place in zip(source.images["image"], source.images["path"], strict=True):
        known = by_path.get(place) or (image if image in named else None)
        if known is not None:
            theirs[known] = str(image)
    if not theirs:
        raise InputError(f"{path}: none of its images is one of {source.spec}")
    found = boxes[boxes["image"].isin(list(theirs))]
    numbers = {name: number for number, name in enumerate(classes)}
    detections = pd.DataFrame(
        {
            "image": found["image"].map(theirs).astype("str"),
            "label": found["name"].map(numbers).astype("int64"),
            **{column: found[column].astype(float) for column in (*CORNERS, "confidence")},
        }
    ).reset_index(drop=True)
    return detections, set(theirs.values())
