"""COCO json: ground truth with its pictures, and results files of any detector."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.collector import Collector
from datasets.containment import Bounds, leads_out
from datasets.errors import InputError
from datasets.pairing import LABEL_FOLDERS, SPLITS, split_of
from datasets.results import describe, load_json
from datasets.results import read_results as read_columns
from datasets.tables import CORNERS, Source


def open_coco(spec: str, path: Path, bounds: Bounds, *, split: str | None = None) -> Source:
    """Pictures and boxes of a COCO ground-truth file.

    Pictures are looked for beside it, in a folder "images", in one with the name of its split, and all that also around a folder "annotations". split: of its pictures; read off the
    file's name and folder where None. A box without bbox is taken from its polygons. Raises InputError when the file lacks images, annotations or categories.
    """
    content = load_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise InputError(
            f"{path}: a COCO ground truth has the lists images, annotations and categories; found {describe(content)}"
        )
    categories = categories_of(path, content["categories"])
    index = {identity: i for i, (identity, _) in enumerate(categories)}
    root = coco_root(path)
    if split is None:
        around = path.parent.name if path.parent.name.lower() in SPLITS else ""
        split = split_of((around, path.stem))
    collector = Collector(path.parent, [name for _, name in categories], bounds)
    collector.note(path, "used", "annotations")
    homes = picture_folders(path, root, split)
    rows: dict[Any, int] = {}
    by_file: dict[str, int] = {}
    for position, entry in enumerate(content["images"]):
        if not isinstance(entry, dict) or not {"id", "file_name"} <= set(entry) or not _hashable(entry["id"]):
            raise InputError(f"{path}: image {position} lacks an id or a file_name; repair the json")
        name = str(entry["file_name"]).replace("\\", "/").replace("\0", "")
        file = next((home / name for home in homes if (home / name).is_file()), None) or next(
            (home / Path(name).name for home in homes if (home / Path(name).name).is_file()), None
        )
        if file is None:
            collector.note(
                Path(os.path.normpath(homes[0] / name)), "failed", "listed in the json but not on disk"
            )
            continue
        file = Path(os.path.normpath(file))
        if not bounds.hold(file):
            collector.note(file, "skipped", leads_out(file))
            continue
        row = collector.picture(file, split)
        if row is not None:
            by_file[str(file)] = row
            if _turned(entry, collector.size(row)):
                collector.note(
                    file, "used", "unlabelled: the json's boxes were drawn on the unturned picture"
                )
                continue
            collector.labelled(row)
        # A picture listed twice keeps the annotations of both entries.
        if str(file) in by_file:
            rows[entry["id"]] = by_file[str(file)]
    for position, annotation in enumerate(content["annotations"]):
        take_annotation(collector, path, position, annotation, rows, index)
    for folder in {home for home in homes if home != root and home.is_dir()} | {path.parent}:
        for file in collector.walk(folder):
            if str(file) not in collector.ledger:
                collector.note(file, "skipped", "not listed in the json")
    images = collector.images["image"]
    names = {identity: str(images[row]) for identity, row in rows.items()}
    return replace(collector.source(spec, "coco"), image_ids=names, category_ids=index)


def categories_of(path: Path, entries: list[Any]) -> list[tuple[Any, str]]:
    """(id, name) by id. Raises InputError for one that lacks either, and for ids or names that repeat."""
    found: dict[Any, str] = {}
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int) or not entry.get("name"):
            raise InputError(
                f"{path}: category {position} lacks a whole number as id, or a name; repair the json"
            )
        if entry["id"] in found or str(entry["name"]) in found.values():
            raise InputError(
                f"{path}: category {position} repeats the id or name of another; repair the json"
            )
        found[entry["id"]] = str(entry["name"])
    return sorted(found.items())


def coco_root(path: Path) -> Path:
    """The dataset's folder: the json's own, or what lies around a folder "annotations"."""
    return path.parent.parent if path.parent.name.lower() in LABEL_FOLDERS else path.parent


def picture_folders(path: Path, root: Path, split: str) -> list[Path]:
    """Where a json's pictures may lie, the likeliest first."""
    homes = [path.parent, path.parent / "images"]
    if root != path.parent:
        homes += [root, root / "images"]
    # instances_val2017.json names pictures of val2017/.
    names = [name for name in (path.stem.rsplit("_", 1)[-1], path.stem, split) if name]
    homes += [base / name for base in (root, root / "images") for name in names]
    return list(dict.fromkeys(homes))


def _hashable(value: Any) -> bool:
    return isinstance(value, (int, str))


def _turned(entry: dict[str, Any], size: tuple[int, int]) -> bool:
    """Whether the json gives the size of the picture before its EXIF orientation was applied."""
    return size[0] != size[1] and (entry.get("width"), entry.get("height")) == size[::-1]


def take_annotation(
    collector: Collector,
    path: Path,
    position: int,
    annotation: Any,
    rows: dict[Any, int],
    index: dict[Any, int],
) -> None:
    """One annotation -> a box, or a note with its position in the list."""
    try:
        corners, repair = corners_of(annotation)
        row, label = rows.get(annotation["image_id"]), index.get(annotation["category_id"])
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError):
        collector.reject(path, position, "annotation without a usable bbox, image_id or category_id")
        return
    reason = ""
    if row is None:
        reason = "annotation of a picture that is not used"
    elif label is None:
        reason = f"category {str(annotation['category_id'])[:40]} is not in categories"
    elif not np.isfinite(corners).all() or corners[2] <= corners[0] or corners[3] <= corners[1]:
        reason = "width or height is not positive"
    else:
        width, height = collector.size(row)
        inside = tuple(
            min(max(v, 0.0), float(edge)) for v, edge in zip(corners, (width, height) * 2, strict=True)
        )
        if inside[2] <= inside[0] or inside[3] <= inside[1]:
            reason = "box lies outside the picture"
        # Annotation tools round to whole pixels.
        elif max(abs(a - b) for a, b in zip(corners, inside, strict=True)) > 1:
            repair = "; ".join(filter(None, [repair, "clipped at the edge"]))
    if reason or row is None or label is None:
        collector.reject(path, position, reason)
        return
    if repair:
        collector.repair(path, position, repair)
    collector.box(row, label, *inside, crowd=bool(annotation.get("iscrowd", 0)))


def corners_of(annotation: Any) -> tuple[tuple[float, float, float, float], str]:
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

    Ids are those of the source's own json where it is one, and detections of pictures that it lists but that are not on disk are passed
    over. Else, or if not among them, image_id is a picture's id here, its file name, its stem or the number its
    stem spells (where only one picture has it), and category_id counts from 0 or from 1: from 1 where the number of classes itself
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
            f"{path}: {unknown[places].sum()} detections are for pictures not in this domain, first ids {names[unknown].tolist()[:5]}; use file names or stems as image_id"
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
