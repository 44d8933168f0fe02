"""A private copy of a source's structure for libraries that write where they read: links to the images, labels and yaml of our own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datasets.containment import vouch
from datasets.errors import InputError
from datasets.labels import label_text
from datasets.pairing import enclosing_roots
from datasets.tables import CORNERS, Source

SPLITS = ("train", "val", "test")


def splits_of(source: Source) -> list[str]:
    """The splits of a source that hold labelled images. Raises InputError without train or val."""
    labelled = source.images[source.images["labelled"]]
    splits = [split for split in SPLITS if (labelled["split"] == split).any()]
    if "train" not in splits or "val" not in splits:
        raise InputError(
            f"{source.spec}: training needs labelled images in both 'train' and 'val'; found {', '.join(splits) or 'none'}; add the missing split to the data.yaml"
        )
    return splits


def boxes_shown(source: Source, arguments: Mapping[str, Any]) -> dict[str, int]:
    """Boxes by split that a training on a source, as `stage` lays it out, is shown. arguments: Ultralytics' own, of which `fraction` takes the first images and `classes` some boxes."""
    labelled = source.images[source.images["labelled"]]
    classes = arguments.get("classes")
    boxes = (
        source.annotations
        if classes is None
        else source.annotations[source.annotations["label"].isin(np.ravel(classes))]
    )
    shares = arguments.get("fraction", 1.0)
    shares = list(shares) if isinstance(shares, (list, tuple)) else [shares]
    found = {}
    for place, split in enumerate(SPLITS):
        share = shares[place] if place < len(shares) else 1.0
        images = labelled.loc[labelled["split"] == split, "image"]
        # Ultralytics: a whole number other than 1 counts images, anything else is a share of them.
        few = share if isinstance(share, int) and share > 1 else max(1, round(len(images) * share))
        if len(images):
            found[split] = int(boxes["image"].isin(images.iloc[:few]).sum())
    return found


def stage(source: Source, folder: Path, cache: Path) -> Path:
    """Lay out a source as a YOLO dataset below folder and return its data.yaml.

    Each image is a link of its own inside a real folder: ultralytics mends JPEGs in place and drops caches beside labels, and must do
    neither in the user's data. Labels come from our tables, so a rejected row cannot cost the image. cache: as `datasets.source.open_source` takes it, which may follow these links
    then. Raises InputError without a
    labelled train or val split.
    """
    splits = splits_of(source)
    labelled = source.images[source.images["labelled"]]
    draft = folder.with_name(folder.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    rows = dict(iter(source.annotations.groupby("image")))
    for split in splits:
        for kind in ("images", "labels"):
            (draft / kind / split).mkdir(parents=True)
        for number, image in enumerate(labelled[labelled["split"] == split].itertuples()):
            original = Path(str(image.path))
            name = f"{number:06d}{original.suffix.lower()}"
            _link(original, draft / "images" / split / name)
            text = ""
            if image.image in rows:
                part = rows[image.image]
                corners = part[CORNERS].to_numpy(float)
                text = label_text(part["label"].tolist(), corners, image.width, image.height)
            (draft / "labels" / split / name).with_suffix(".txt").write_text(text, encoding="utf-8")
    data_yaml = {
        "path": str(folder),
        **{split: f"images/{split}" for split in splits},
        "names": dict(enumerate(source.classes)),
    }
    (draft / "data.yaml").write_text(yaml.safe_dump(data_yaml, sort_keys=False), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    images = sorted({Path(path).parent for path in labelled["path"]})
    vouch(folder / "data.yaml", enclosing_roots(images), cache)
    return folder / "data.yaml"


def _link(original: Path, place: Path) -> None:
    """A symbolic link, or a copy where the file system has none."""
    try:
        os.symlink(original, place)
    except OSError:
        shutil.copyfile(original, place)
