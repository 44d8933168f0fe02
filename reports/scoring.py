"""`shiftscope score`: the numbers of any detector's output, whole and by slice, from COCO json."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from datasets import InputError
from datasets.coco import load_json
from diagnostics.intervals import ap_interval
from diagnostics.matching import Bools, Detections, Ints, Objects, match
from diagnostics.precision import twelve
from diagnostics.sweep import sweep
from reports.record import plain

SWEEP_COLUMNS = ["confidence", "precision", "recall", "f1", "false_positives_per_image"]


def read_truth(path: Path) -> tuple[Objects, dict[Any, int], dict[Any, int]]:
    """COCO ground truth -> objects, image id -> number, category id -> number. Ids are numbered in rising order, as pycocotools sorts them."""
    content = load_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(k), list) for k in ("images", "annotations", "categories")
    ):
        raise InputError(f"{path}: a COCO ground truth has the lists images, annotations and categories")
    images = {image_id: i for i, image_id in enumerate(sorted({entry["id"] for entry in content["images"]}))}
    categories = {
        category_id: i
        for i, category_id in enumerate(sorted({entry["id"] for entry in content["categories"]}))
    }
    rows = []
    for position, entry in enumerate(content["annotations"]):
        try:
            box = [float(v) for v in entry["bbox"]]
            crowd = bool(entry.get("iscrowd", 0))
            rows.append(
                (
                    images[entry["image_id"]],
                    categories[entry["category_id"]],
                    box,
                    float(entry.get("area", box[2] * box[3])),
                    crowd,
                )
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"{path}: annotation {position} lacks a usable image_id, category_id or bbox ({error})"
            ) from None
    image, label, boxes, area, crowd_flags = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    objects = Objects(
        np.array(image, np.int64),
        np.array(label, np.int64),
        np.array(boxes, float).reshape(-1, 4),
        np.array(area, float),
        np.array(crowd_flags, bool),
    )
    return objects, images, categories


def read_detections(path: Path, images: dict[Any, int], categories: dict[Any, int]) -> Detections:
    """COCO results -> detections. Raises InputError naming the first ids that the ground truth does not know."""
    content = load_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: a COCO results file is a list of detections")
    unknown = [
        entry.get("image_id")
        for entry in content
        if isinstance(entry, dict) and entry.get("image_id") not in images
    ]
    if unknown:
        raise InputError(
            f"{path}: {len(unknown)} detections are for images that the ground truth does not list, first ids {unknown[:5]}"
        )
    try:
        # pycocotools ignores categories it does not know.
        known = [entry for entry in content if entry["category_id"] in categories]
        boxes = np.array([entry["bbox"] for entry in known], float).reshape(-1, 4)
        confidence = np.array([entry["score"] for entry in known], float)
        image = np.array([images[entry["image_id"]] for entry in known], np.int64)
        label = np.array([categories[entry["category_id"]] for entry in known], np.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: a detection lacks a usable category_id, bbox or score ({error})") from None
    finite = np.isfinite(boxes).all(1) & np.isfinite(confidence)
    return Detections(image[finite], label[finite], boxes[finite], confidence[finite])


def read_pairs(path: Path, column: str, images: dict[Any, int]) -> list[tuple[int, str]]:
    """A CSV with image_id and one more column -> (image number, value)."""
    by_text = {str(key): number for key, number in images.items()}
    pairs = []
    with path.open(newline="", encoding="utf-8-sig") as handle:
        reader = csv.DictReader(handle)
        if not {"image_id", column} <= set(reader.fieldnames or ()):
            raise InputError(
                f"{path}: needs the columns image_id and {column}; found {', '.join(reader.fieldnames or ())}"
            )
        for row in reader:
            number = by_text.get((row["image_id"] or "").strip())
            if number is None:
                raise InputError(
                    f"{path}:{reader.line_num}: image_id {row['image_id']!r} is not in the ground truth"
                )
            pairs.append((number, str(row[column])))
    return pairs


def counts(objects: Objects, mask: Bools) -> dict[str, int]:
    """Pictures and counted objects of a slice."""
    return {"images": int(mask.sum()), "boxes": int((mask[objects.image] & ~objects.crowd).sum())}


def score(
    ground_truth: Path,
    predictions: Path,
    *,
    slices: Path | None,
    groups: Path | None,
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """The contract's result: overall, slices, sweep, bootstrap, timings. Raises InputError."""
    begin = time.perf_counter()
    objects, images, categories = read_truth(ground_truth)
    detections = read_detections(predictions, images, categories)
    named = read_pairs(slices, "slice", images) if slices else []
    read = time.perf_counter()
    table = match(objects, detections, n_images=len(images), n_classes=len(categories))
    matched = time.perf_counter()
    masks: dict[str, Bools] = {}
    for number, name in named:
        masks.setdefault(name, np.zeros(len(images), bool))[number] = True
    result: dict[str, Any] = {
        "overall": plain(twelve(table)),
        "slices": [
            {"slice": name, **counts(objects, mask), **plain(twelve(table, mask))}
            for name, mask in masks.items()
        ],
        "sweep": {"points": plain(sweep(table)[SWEEP_COLUMNS])},
    }
    scored = time.perf_counter()
    if bootstrap:
        result["bootstrap"] = resample(table, read_groups(groups, images), bootstrap, seed)
    end = time.perf_counter()
    result["timings"] = {
        "read": read - begin,
        "match": matched - read,
        "score": scored - matched,
        "bootstrap": end - scored,
    }
    return result


def read_groups(path: Path | None, images: dict[Any, int]) -> Ints:
    """Group number of each picture; each its own without a file. Raises InputError when a picture has no group."""
    if path is None:
        return np.arange(len(images))
    named = dict(read_pairs(path, "group", images))
    if len(named) < len(images):
        missing = next(key for key, number in images.items() if number not in named)
        raise InputError(
            f"{path}: {len(images) - len(named)} pictures have no group, first image_id {missing}"
        )
    return np.unique([named[i] for i in range(len(images))], return_inverse=True)[1].astype(np.int64)


def resample(table: Any, group: Ints, replicates: int, seed: int) -> dict[str, Any]:
    """Intervals of AP50 and AP by group."""
    half = ap_interval(table, group, seed=seed, replicates=replicates)
    whole = ap_interval(table, group, seed=seed, iou=None, replicates=replicates)
    return {
        name: {"low": i.low, "high": i.high, "units": i.groups, **({"note": i.note} if i.note else {})}
        for name, i in (("ap", whole), ("ap50", half))
        if i.low is None or not math.isnan(i.low)
    }
