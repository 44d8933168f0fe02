"""`shiftscope score`: the numbers of any detector's output, whole and by slice, from COCO json."""

from __future__ import annotations

import csv
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.errors import InputError
from datasets.results import load_json, read_results
from diagnostics import sweep as sweeping
from diagnostics.comparison import Comparison, compare
from diagnostics.intervals import Interval, ap_and_ap50_intervals
from diagnostics.matching import Annotations, Bools, Detections, Floats, Ints, MatchTable, match
from diagnostics.precision import twelve_of

# The 2.5 % tails of fewer replicates are one or two numbers.
FEWEST_REPLICATES = 100


@dataclass(frozen=True)
class Truth:
    """Ground truth as arrays. images, categories: id -> number, in rising order of the ids, as pycocotools sorts them."""

    annotations: Annotations
    images: dict[Any, int]
    categories: dict[Any, int]


def _read_truth(path: Path) -> Truth:
    """A COCO ground truth. Raises InputError naming what is missing."""
    content = load_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(k), list) for k in ("images", "annotations", "categories")
    ):
        raise InputError(f"{path}: a COCO ground truth has the lists images, annotations and categories")
    try:
        images = {key: i for i, key in enumerate(sorted({entry["id"] for entry in content["images"]}))}
        categories = {
            key: i for i, key in enumerate(sorted({entry["id"] for entry in content["categories"]}))
        }
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path}: every image and category needs an id, and all of one kind ({type(error).__name__}: {error})"
        ) from None
    rows = []
    for position, entry in enumerate(content["annotations"]):
        try:
            x, y, width, height = (float(v) for v in entry["bbox"])
            area = float(entry.get("area", width * height))
            row = (images[entry["image_id"]], categories[entry["category_id"]], x, y, width, height, area)
            crowd = bool(entry.get("iscrowd", 0))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path}: annotation {position} lacks a usable image_id, category_id or bbox ({type(error).__name__}: {error})"
            ) from None
        if not all(map(math.isfinite, row)):
            raise InputError(f"{path}: annotation {position} has a coordinate or area that is not finite")
        rows.append((*row, crowd))
    table = np.array(rows, float).reshape(-1, 8)
    annotations = Annotations(
        table[:, 0].astype(np.int64),
        table[:, 1].astype(np.int64),
        table[:, 2:6],
        table[:, 6],
        table[:, 7] > 0,
    )
    return Truth(annotations, images, categories)


def _read_detections(path: Path, truth: Truth) -> tuple[Detections, int]:
    """COCO results -> detections, and how many are of categories that the ground truth does not know and pycocotools therefore ignores.

    Raises InputError naming the first images that the ground truth does not know.
    """
    results = read_results(path)
    image = _numbers(results.image_id, truth.images)
    if (image < 0).any():
        raise InputError(
            f"{path}: {(image < 0).sum()} detections are for images that the ground truth does not list, first ids {results.image_id[image < 0][:5].tolist()}"
        )
    label = _numbers(results.category_id, truth.categories)
    known = label >= 0
    if known.all():
        return Detections(image, label, results.xywh, results.score), 0
    kept = Detections(image[known], label[known], results.xywh[known], results.score[known])
    return kept, int((~known).sum())


def _numbers(ids: np.ndarray[Any, Any], known: dict[Any, int]) -> Ints:
    """Number of each id, -1 where unknown."""
    if ids.dtype == object:
        return np.array([known.get(key, -1) for key in ids.tolist()], np.int64).reshape(-1)
    names, places = np.unique(ids, return_inverse=True)
    return np.array([known.get(key, -1) for key in names.tolist()], np.int64).reshape(-1)[places]


def _read_pairs(path: Path, column: str, images: dict[Any, int]) -> list[tuple[int, str]]:
    """A CSV with image_id and one more column -> (image number, value)."""
    by_text = {str(key): number for key, number in images.items()}
    pairs = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle)
            header = [name.strip() for name in next(reader, [])]
            if not {"image_id", column} <= set(header):
                raise InputError(
                    f"{path}: needs the columns image_id and {column}; found {', '.join(header)}"
                )
            key, value = header.index("image_id"), header.index(column)
            for row in reader:
                if not row:
                    continue
                number = by_text.get(row[key].strip()) if len(row) > max(key, value) else None
                if number is None:
                    raise InputError(
                        f"{path}:{reader.line_num}: image_id {row[key] if len(row) > key else ''!r} is not in the ground truth"
                    )
                if not row[value].strip():
                    raise InputError(f"{path}:{reader.line_num}: the {column} has no name")
                pairs.append((number, row[value].strip()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable CSV ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a CSV") from None
    return pairs


def _read_slices(path: Path | None, images: dict[Any, int]) -> tuple[list[str], Bools]:
    """Names of slices in the order of the file, and their images (S, n_images)."""
    pairs = _read_pairs(path, "slice", images) if path else []
    names = list(dict.fromkeys(name for _, name in pairs))
    place = {name: i for i, name in enumerate(names)}
    masks = np.zeros((len(names), len(images)), bool)
    masks[[place[name] for _, name in pairs], [number for number, _ in pairs]] = True
    return names, masks


def _read_groups(path: Path | None, images: dict[Any, int]) -> Ints:
    """Group number of each image; each its own without a file. Raises InputError when an image has no group."""
    if path is None:
        return np.arange(len(images))
    named: dict[int, str] = {}
    by_number = {number: key for key, number in images.items()}
    for number, group in _read_pairs(path, "group", images):
        if named.setdefault(number, group) != group:
            raise InputError(
                f"{path}: image_id {by_number[number]} is in two groups, {named[number]!r} and {group!r}; an image has one"
            )
    if len(named) < len(images):
        missing = next(key for key, number in images.items() if number not in named)
        raise InputError(f"{path}: {len(images) - len(named)} images have no group, first image_id {missing}")
    return np.unique([named[i] for i in range(len(images))], return_inverse=True)[1].astype(np.int64)


def score(
    ground_truth: Path,
    predictions: Path,
    *,
    slices: Path | None = None,
    groups: Path | None = None,
    baseline: Path | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """The contract's result: overall, slices, sweep, bootstrap, timings; and baseline where other predictions are given. Raises InputError."""
    if 0 < bootstrap < FEWEST_REPLICATES:
        raise InputError(
            f"--bootstrap {bootstrap}: at least {FEWEST_REPLICATES} replicates, or 0 for no interval"
        )
    begin = time.perf_counter()
    truth = _read_truth(ground_truth)
    detections, ignored = _read_detections(predictions, truth)
    other = _read_detections(baseline, truth)[0] if baseline else None
    names, masks = _read_slices(slices, truth.images)
    group = _read_groups(groups, truth.images)
    read = time.perf_counter()
    table = match(truth.annotations, detections, n_images=len(truth.images), n_classes=len(truth.categories))
    matched = time.perf_counter()
    numbers_of = twelve_of(table, np.concatenate([np.ones((1, len(truth.images)), bool), masks]))
    result: dict[str, Any] = {
        "overall": {name: _json_number(values[0]) for name, values in numbers_of.items()},
        "slices": _slice_records(table, truth, names, masks, {k: v[1:] for k, v in numbers_of.items()}),
        "sweep": _sweep_record(table, truth),
        # pycocotools passes over them without a word.
        "ignored_detections": ignored,
    }
    scored = time.perf_counter()
    if bootstrap:
        whole, half = ap_and_ap50_intervals(table, group, seed=seed, replicates=bootstrap)
        result["bootstrap"] = {"ap": _interval_record(whole), "ap50": _interval_record(half)}
    drawn = time.perf_counter()
    if other is not None:
        result["baseline"] = _comparison_record(
            compare(
                truth.annotations,
                detections,
                other,
                group,
                n_classes=len(truth.categories),
                seed=seed,
                replicates=bootstrap or None,
            )
        )
    end = time.perf_counter()
    result["timings"] = {
        "read": read - begin,
        "match": matched - read,
        "score": scored - matched,
        "bootstrap": drawn - scored,
        "baseline": end - drawn,
    }
    return result


def _json_number(value: float) -> float | None:
    """NaN has no place in JSON."""
    return float(value) if math.isfinite(value) else None


def _slice_records(
    table: MatchTable, truth: Truth, names: list[str], masks: Bools, values: dict[str, Floats]
) -> list[dict[str, Any]]:
    """The twelve numbers of each slice, its counts and its own best threshold."""
    if not names:
        return []
    boxes = (masks[:, truth.annotations.image] & ~truth.annotations.crowd).sum(1)
    curves = sweeping.sweeps(table, masks)
    records = []
    for i, name in enumerate(names):
        top, confidence = sweeping.best(sweeping.one_of(curves, i, 0))
        records.append(
            {
                "slice": name,
                "images": int(masks[i].sum()),
                "boxes": int(boxes[i]),
                **{key: _json_number(column[i]) for key, column in values.items()},
                "best_f1": top,
                "best_confidence": confidence,
            }
        )
    return records


def _sweep_record(table: MatchTable, truth: Truth) -> dict[str, Any]:
    """The pooled curve with its best thresholds, and those of every class."""
    everything = np.ones((1, table.n_images), bool)
    points = sweeping.sweep(table)
    if len(table.confidence) and not (table.confidence.min() >= 0 and table.confidence.max() <= 1):
        return {
            "points": [],
            "note": "scores are not between 0 and 1, so that no threshold can be swept",
            "classes": [],
        }
    by_class = sweeping.sweeps(table, everything, by_class=True)
    rows = zip(*(values.tolist() for values in points.values()), strict=True)
    return {
        "points": [
            {name: _json_number(value) for name, value in zip(points, row, strict=True)} for row in rows
        ],
        **sweeping.summary(points),
        "classes": [
            {"category_id": key, **sweeping.summary(sweeping.one_of(by_class, 0, number))}
            for key, number in truth.categories.items()
        ],
    }


def _interval_record(interval: Interval) -> dict[str, Any]:
    """low, high, units, and a note where there is something to know."""
    record: dict[str, Any] = {"low": interval.low, "high": interval.high, "units": interval.groups}
    return {**record, "note": interval.note} if interval.note else record


def _comparison_record(found: Comparison) -> dict[str, Any]:
    """The paired difference to the baseline."""
    return {
        "ap50": _json_number(found.second),
        "difference": _json_number(found.difference),
        **_interval_record(found.interval),
        "p": found.p,
        **({"p_note": found.note} if found.note else {}),
    }
