"""COCO json: ground truth with its pictures, and results files of any detector."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.errors import InputError
from datasets.results import describe, load_json
from datasets.results import read_results as read_columns
from datasets.tables import CORNERS, Source
from datasets.yolo import Collector


def open_coco(spec: str, path: Path) -> Source:
    """Pictures and boxes of a COCO ground-truth file; pictures are looked for beside it and in its folder "images".

    Raises InputError when the file lacks images, annotations or categories.
    """
    content = load_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise InputError(
            f"{path}: a COCO ground truth has the lists images, annotations and categories; found {describe(content)}"
        )
    categories = sorted(content["categories"], key=lambda category: category["id"])
    index = {category["id"]: i for i, category in enumerate(categories)}
    collector = Collector(path.parent.resolve(), [str(category["name"]) for category in categories])
    collector.note(path, "used", "annotations")
    names: dict[Any, str] = {}
    for position, entry in enumerate(content["images"]):
        if not isinstance(entry, dict) or not {"id", "file_name"} <= set(entry):
            raise InputError(f"{path}: image {position} lacks an id or a file_name; repair the json")
        file = find_picture(path.parent.resolve(), str(entry["file_name"]))
        if file is None:
            collector.note(
                path.parent.resolve() / str(entry["file_name"]),
                "failed",
                "listed in the json but not on disk",
            )
            continue
        before = len(collector.images)
        collector.picture(file, "", None, expects_labels=False)
        if len(collector.images) > before:
            collector.images[-1]["labelled"] = True
            names[entry["id"]] = str(collector.images[-1]["image"])
    for position, annotation in enumerate(content["annotations"]):
        take_annotation(collector, path, position, annotation, names, index)
    return replace(collector.source(spec, "coco"), image_ids=names, category_ids=index)


def find_picture(folder: Path, name: str) -> Path | None:
    """A picture named by a json, below the json's folder only: a name that leads out of it is not followed."""
    for candidate in (
        folder / name,
        folder / "images" / name,
        folder / Path(name).name,
        folder / "images" / Path(name).name,
    ):
        inside = Path(os.path.normpath(candidate)).is_relative_to(folder)
        if inside and candidate.is_file():
            return candidate
    return None


def take_annotation(
    collector: Collector,
    path: Path,
    position: int,
    annotation: Any,
    names: dict[Any, str],
    index: dict[Any, int],
) -> None:
    """One annotation -> a box, or a note with its position in the list."""
    try:
        x, y, width, height = (float(v) for v in annotation["bbox"])
        image, label = names.get(annotation["image_id"]), index.get(annotation["category_id"])
    except (KeyError, TypeError, ValueError):
        collector.rows.append(
            {
                "path": str(path),
                "line": position,
                "action": "rejected",
                "reason": "annotation without a usable bbox, image_id or category_id",
            }
        )
        return
    reason = ""
    if image is None:
        reason = "annotation of a picture that is not used"
    elif label is None:
        reason = f"category {annotation['category_id']} is not in categories"
    elif not np.isfinite([x, y, width, height]).all() or width <= 0 or height <= 0:
        reason = "width or height is not positive"
    if reason:
        collector.rows.append({"path": str(path), "line": position, "action": "rejected", "reason": reason})
        return
    collector.boxes.append(
        {
            "image": image,
            "label": label,
            "x1": x,
            "y1": y,
            "x2": x + width,
            "y2": y + height,
            "crowd": bool(annotation.get("iscrowd", 0)),
        }
    )


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
