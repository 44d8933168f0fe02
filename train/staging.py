"""A private copy of a source for libraries that write where they read: image links, own labels, own yaml."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datasets.containment import register_roots
from datasets.errors import InputError
from datasets.files import draft_folder
from datasets.labels import label_text
from datasets.pairing import enclosing_roots
from datasets.tables import CORNERS, Source
from train.run import fraction_limit

SPLITS = ("train", "val", "test")


def labelled_splits(source: Source) -> list[str]:
    """The splits of a source that hold labelled images. Raises InputError without train or val."""
    labelled = source.images[source.images["labelled"]]
    splits = [split for split in SPLITS if (labelled["split"] == split).any()]
    if "train" not in splits or "val" not in splits:
        raise InputError(
            f"{source.spec}: training needs labelled images in both 'train' and 'val'; "
            f"found {', '.join(splits) or 'none'}; add the missing split to the data.yaml"
        )
    return splits


def count_boxes_by_split(source: Source, arguments: Mapping[str, Any]) -> dict[str, int]:
    """Count the boxes of each split that a training on a source uses.

    Parameters
    ----------
    source
        The training data, as `stage` writes it.
    arguments
        Ultralytics' arguments, of which `fraction` takes the first images and `classes` selects boxes.

    Returns
    -------
    dict of str to int
        Boxes by split, for splits with labelled images.
    """
    labelled = source.images[source.images["labelled"]]
    classes = arguments.get("classes")
    boxes = (
        source.annotations
        if classes is None
        else source.annotations[source.annotations["label"].isin(np.ravel(classes))]
    )
    shares = arguments.get("fraction", 1.0)
    shares = list(shares) if isinstance(shares, (list, tuple)) else [shares]
    counts = {}
    for index, split in enumerate(SPLITS):
        share = shares[index] if index < len(shares) else 1.0
        images = labelled.loc[labelled["split"] == split, "image"]
        if len(images):
            used = images.iloc[: fraction_limit(len(images), share)]
            counts[split] = int(boxes["image"].isin(used).sum())
    return counts


def stage(source: Source, folder: Path, cache: Path) -> Path:
    """Write a source as a YOLO dataset whose images are links.

    Each image is a link of its own in a real folder, because Ultralytics repairs JPEGs in place and writes
    caches beside labels, which must not happen in the user's data. Labels come from the source's tables, so
    one rejected row does not cost the image.

    Parameters
    ----------
    source
        Data with labelled images in train and val.
    folder
        Where to write; an existing folder is replaced.
    cache
        As `datasets.source.open_source` takes it; that function may then follow the links.

    Returns
    -------
    Path
        The data.yaml.

    Raises
    ------
    InputError
        The source has no labelled train or val split.
    """
    splits = labelled_splits(source)
    labelled = source.images[source.images["labelled"]]
    data_yaml = {
        "path": str(folder),
        **{split: f"images/{split}" for split in splits},
        "names": dict(enumerate(source.classes)),
    }
    with draft_folder(folder, overwrite=True) as draft:
        annotations = dict(iter(source.annotations.groupby("image")))
        for split in splits:
            for kind in ("images", "labels"):
                (draft / kind / split).mkdir(parents=True)
            for number, image in enumerate(labelled[labelled["split"] == split].itertuples()):
                original = Path(str(image.path))
                name = f"{number:06d}{original.suffix.lower()}"
                _link(original, draft / "images" / split / name)
                text = ""
                if image.image in annotations:
                    boxes = annotations[image.image]
                    corners = boxes[CORNERS].to_numpy(float)
                    text = label_text(boxes["label"].tolist(), corners, image.width, image.height)
                (draft / "labels" / split / name).with_suffix(".txt").write_text(text, encoding="utf-8")
        (draft / "data.yaml").write_text(yaml.safe_dump(data_yaml, sort_keys=False), encoding="utf-8")
    image_folders = sorted({Path(path).parent for path in labelled["path"]})
    register_roots(folder / "data.yaml", enclosing_roots(image_folders), cache)
    return folder / "data.yaml"


def _link(original: Path, target: Path) -> None:
    """Link to a file, or copy it where the file system has no symbolic links."""
    try:
        os.symlink(original, target)
    except OSError:
        shutil.copyfile(original, target)
