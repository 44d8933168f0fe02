"""COCO json: ground truth with its images, and results files of any detector."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.collector import Collector
from datasets.containment import Bounds
from datasets.data_yaml import is_there
from datasets.errors import InputError
from datasets.pairing import LABEL_FOLDERS, SPLITS, leads_out, split_of
from datasets.results import describe, load_json
from datasets.results import read_results as read_columns
from datasets.tables import CORNERS, Source


def open_coco(spec: str, path: Path, bounds: Bounds, *, root: Path | None = None) -> Source:
    """Images and boxes of a COCO ground-truth file.

    Images are looked for beside it, in folders "images", "data" and one with the name of its split, and all that also around a folder "annotations". Their split is read off the
    file's name or folder. root: the folder that ids of images are paths below; that of the dataset where None. A box without bbox is taken from its polygons.
    Raises InputError when the file lacks images, annotations or categories, or when ids repeat.
    """
    content = load_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise InputError(
            f"{path}: a COCO ground truth has the lists images, annotations and categories; found {describe(content)}"
        )
    names, index = _categories_of(path, content["categories"])
    around = path.parent.name if path.parent.name.lower() in SPLITS else ""
    split = split_of((around, path.stem))
    collector = Collector(root or coco_root(path), names, bounds)
    collector.note(path, "used", "annotations")
    folders = _image_folders(path, split)
    rows: dict[Any, int] = {}
    by_file: dict[str, int] = {}
    listed: set[Any] = set()
    for position, entry in enumerate(content["images"]):
        if not isinstance(entry, dict) or not {"id", "file_name"} <= set(entry) or not _hashable(entry["id"]):
            raise InputError(f"{path}: image {position} lacks an id or a file_name; repair the json")
        if entry["id"] in listed:
            raise InputError(
                f"{path}: image {position} repeats the id {str(entry['id'])[:40]}; repair the json"
            )
        listed.add(entry["id"])
        name = str(entry["file_name"]).replace("\\", "/").replace("\0", "")
        places = [
            Path(os.path.normpath(folder / part)) for part in (name, Path(name).name) for folder in folders
        ]
        there = [place for place in places if is_there(place)]
        file = next((place for place in there if bounds.hold(place)), None)
        if file is None:
            reason = leads_out(there[0]) if there else "listed in the json but not on disk"
            collector.note((there or places)[0], "skipped" if there else "failed", reason)
            continue
        row = collector.image(file, split)
        if row is not None:
            by_file[str(file)] = row
            elsewhere = collector.drawn_elsewhere(row, _size(entry))
            if elsewhere:
                collector.note(file, "used", f"unlabelled: its boxes were {elsewhere}")
                del by_file[str(file)]
                continue
            collector.labelled(row)
        # An image listed twice keeps the annotations of both entries.
        if str(file) in by_file:
            rows[entry["id"]] = by_file[str(file)]
    for position, annotation in enumerate(content["annotations"]):
        _take_annotation(collector, path, position, annotation, rows, index)
    for folder in folders:
        if folder.is_dir() and folder != coco_root(path):
            for file in collector.walk(folder):
                if not collector.accounted(file):
                    collector.note(file, "skipped", "not listed in the json")
    images = collector.images["image"]
    identities = {identity: str(images[row]) for identity, row in rows.items()}
    return replace(collector.source(spec, "coco"), image_ids=identities, category_ids=index)


def _categories_of(path: Path, entries: list[Any]) -> tuple[list[str], dict[int, int]]:
    """Class names in the order of their ids, and id -> class; ids of one name are one class, as exports with supercategories have them.

    Raises InputError for a category that lacks either, and for ids that repeat.
    """
    found: dict[int, str] = {}
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int) or not entry.get("name"):
            raise InputError(
                f"{path}: category {position} lacks a whole number as id, or a name; repair the json"
            )
        if entry["id"] in found:
            raise InputError(f"{path}: category {position} repeats the id of another; repair the json")
        found[entry["id"]] = str(entry["name"])
    names = list(dict.fromkeys(name for _, name in sorted(found.items())))
    return names, {identity: names.index(name) for identity, name in found.items()}


def coco_root(path: Path) -> Path:
    """The dataset's folder: the json's own, or what lies around a folder "annotations"."""
    return path.parent.parent if path.parent.name.lower() in LABEL_FOLDERS else path.parent


def _image_folders(path: Path, split: str) -> list[Path]:
    """Where a json's images may lie, the likeliest first."""
    root = coco_root(path)
    # instances_val2017.json names images of val2017/.
    names = [name for name in (path.stem.rsplit("_", 1)[-1], path.stem, split) if name]
    folders = [base / part for base in (path.parent, root) for part in (".", "images", "data")]
    folders += [base / name for base in (root, root / "images") for name in names]
    return list(dict.fromkeys(Path(os.path.normpath(folder)) for folder in folders))


def _hashable(value: Any) -> bool:
    return isinstance(value, (int, str))


def _size(entry: dict[str, Any]) -> tuple[int, int]:
    width, height = entry.get("width"), entry.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)


def _take_annotation(
    collector: Collector,
    path: Path,
    position: int,
    annotation: Any,
    rows: dict[Any, int],
    index: dict[Any, int],
) -> None:
    """One annotation -> a box, or a note with its position in the list."""
    try:
        corners, repair = _corners_of(annotation)
        row, label = rows.get(annotation["image_id"]), index.get(annotation["category_id"])
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError):
        collector.reject(path, position, "annotation without a usable bbox, image_id or category_id")
        return
    if row is None:
        collector.reject(path, position, "annotation of an image that is not used")
    elif label is None:
        collector.reject(
            path, position, f"category {str(annotation['category_id'])[:40]} is not in categories"
        )
    else:
        crowd = bool(annotation.get("iscrowd", 0))
        collector.pixel_box(path, position, row, label, corners, crowd=crowd, repair=repair)


def _corners_of(annotation: Any) -> tuple[tuple[float, float, float, float], str]:
    """Corners in pixels of an annotation's bbox, or of its polygons where it has none; and what was repaired. Raises whatever its parts raise."""
    box = annotation.get("bbox")
    if box:
        x, y, width, height = (float(v) for v in box)
        return (x, y, x + width, y + height), ""
    points = [float(v) for polygon in annotation["segmentation"] for v in polygon]
    xs, ys = points[::2], points[1::2]
    return (min(xs), min(ys), max(xs), max(ys)), "box taken from a polygon"


def read_results(path: Path, source: Source, classes: Sequence[str]) -> pd.DataFrame:
    """A COCO results file -> detections: image, label, x1, y1, x2, y2, confidence.

    Ids are those of the source's own json where it is one, and detections of images that it lists but that are not on disk are passed
    over. Else, or if not among them, image_id is an image's id here, its file name, its stem or the number its
    stem spells (where only one image has it), and category_id counts from 0 or from 1: from 1 where the number of classes itself
    occurs. Raises InputError naming what does not fit.
    """
    results = read_columns(path)
    known: dict[Any, str] = {}
    shared: set[Any] = set()
    for image in source.images["image"]:
        stem = Path(image).stem
        for key in {image, Path(image).name, stem, *([int(stem)] if stem.isdigit() else [])}:
            if known.setdefault(key, image) != image:
                shared.add(key)
    known = {key: image for key, image in known.items() if key not in shared} | dict(source.image_ids)
    if source.category_ids:
        foreign = sorted(set(results.category_id.tolist()) - set(source.category_ids))
        if foreign:
            raise InputError(
                f"{path}: category ids {foreign[:5]} are not among the json's own {sorted(source.category_ids)[:10]}; write category_id as the ground truth has it"
            )
    places, names = pd.factorize(results.image_id)
    unknown = np.array([name not in known for name in names.tolist()], bool)
    if unknown.any():
        raise InputError(
            f"{path}: {unknown[places].sum()} detections are for images not in this domain, first ids {names[unknown].tolist()[:5]}; use file names or stems as image_id"
        )
    corners = np.column_stack([results.xywh[:, :2], results.xywh[:, :2] + results.xywh[:, 2:]])
    found = pd.DataFrame(corners, columns=CORNERS)
    found.insert(
        0,
        "image",
        pd.Series([known[name] for name in names.tolist()], dtype="str").reindex(places).to_numpy(),
    )
    found.insert(
        1,
        "label",
        pd.Series(results.category_id).map(lambda c: source.category_ids.get(c, c)).astype("int64"),
    )
    found["confidence"] = results.score
    if (
        not source.category_ids
        and len(found)
        and found["label"].max() == len(classes)
        and found["label"].min() >= 1
    ):
        found["label"] -= 1
    if len(found) and not found["label"].between(0, len(classes) - 1).all():
        raise InputError(
            f"{path}: category ids {sorted(set(found['label']))[:5]} do not fit the {len(classes)} classes {list(classes)}"
        )
    return found
