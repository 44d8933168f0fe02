"""`shiftscope score`: metrics of any detector's output, overall and by slice, from COCO files."""

from __future__ import annotations

import contextlib
import csv
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.errors import InputError, cause_of
from datasets.plausibility import (
    FITTING,
    MOST_COMPARED,
    MOST_EMPTY,
    are_all_crowd,
    corners_of,
    is_crowd,
    misread,
    oddities,
    reading_that_fits,
)
from datasets.results import Results, images_by_key, load_json, miscounted, plain_id, read_results
from diagnostics import sweep as sweeping
from diagnostics.class_ids import FEWEST_BOXES, ap50_of_other_classes, exchanged_classes
from diagnostics.comparison import compare
from diagnostics.intervals import Interval, ap_and_ap50_intervals
from diagnostics.matching import Annotations, Bools, Detections, Floats, Ints, MatchTable, match
from diagnostics.precision import weighted_coco_metrics
from reports.options import ScoreOptions

# With fewer replicates the 2.5 % tails consist of one or two values.
FEWEST_REPLICATES = 100
# Of an image and a category, as in pycocotools.
MAX_DETECTIONS = 100


@dataclass(frozen=True)
class Truth:
    """A COCO ground truth as arrays.

    annotations: its annotations, by image and category number
    images: image id -> number, in rising order of the ids as in pycocotools
    categories: category id -> number, in the same order
    names: category name -> number; empty unless all names differ
    files: file name -> image number
    sizes: (images, 2), width and height of each image in pixels, 0 where unknown
    notes: what is not as COCO's evaluation takes it, in words
    """

    annotations: Annotations
    images: dict[Any, int]
    categories: dict[Any, int]
    names: dict[str, int]
    files: dict[str, int]
    sizes: Floats
    notes: list[str]


@dataclass(frozen=True)
class Inputs:
    """Everything that one scoring reads.

    truth: the ground truth
    detections: the predictions to score
    ignored: number of detections in categories that the ground truth does not list
    notes: what was not read as written, in words
    baseline: predictions to compare with, None without a comparison
    slice_names: one name per slice, in the order of the file
    slice_masks: (slices, images), whether an image is in a slice
    group: (images,), group number of each image
    """

    truth: Truth
    detections: Detections
    ignored: int
    notes: list[str]
    baseline: Detections | None
    slice_names: list[str]
    slice_masks: Bools
    group: Ints

    def match(self) -> MatchTable:
        """Match the detections to the annotations."""
        images, categories = len(self.truth.images), len(self.truth.categories)
        return match(self.truth.annotations, self.detections, n_images=images, n_classes=categories)


def _read_truth(path: Path) -> Truth:
    """Read a COCO ground truth. Raises InputError that names what is missing."""
    content = load_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(k), list) for k in ("images", "annotations", "categories")
    ):
        raise InputError(f"{path}: a COCO ground truth has the lists images, annotations and categories")
    try:
        images = _numbers_of(content["images"])
        categories = _numbers_of(content["categories"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path}: every image and category needs an id, and all ids must be of one type "
            f"({cause_of(error)})"
        ) from None
    _check_ids(path, content)
    rows = []
    # Exports of masks mark every annotation; pycocotools would ignore them all.
    all_crowd = are_all_crowd(content["annotations"])
    for position, entry in enumerate(content["annotations"]):
        try:
            x, y, width, height = (float(v) for v in entry["bbox"])
            area = float(entry.get("area", width * height))
            image, category = plain_id(entry["image_id"]), plain_id(entry["category_id"])
            row = (images[image], categories[category], x, y, width, height, area)
            crowd = is_crowd(entry) and not all_crowd
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InputError(
                f"{path}: annotation {position} lacks a usable image_id, category_id or bbox "
                f"({cause_of(error)})"
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
    names = {str(c["name"]): categories[plain_id(c["id"])] for c in content["categories"] if c.get("name")}
    sizes = np.zeros((len(images), 2))
    for entry in content["images"]:
        size = entry.get("width"), entry.get("height")
        if all(isinstance(side, int) and 0 <= side < 1_000_000 for side in size):
            sizes[images[plain_id(entry["id"])]] = size
    files = {str(e["file_name"]): images[plain_id(e["id"])] for e in content["images"] if e.get("file_name")}
    problem = misread(annotations.xywh, sizes[annotations.image], "xywh")
    if problem:
        raise InputError(f"{path}: its {len(rows)} boxes look like {problem}; correct the file")
    names = names if len(names) == len(categories) else {}
    notes = [f"{path}: {line}" for line in _truth_notes(content, table, all_crowd=all_crowd)]
    return Truth(annotations, images, categories, names, files, sizes, notes)


def _truth_notes(content: Mapping[str, Any], table: Floats, *, all_crowd: bool) -> list[str]:
    """What of a ground truth is not as COCO's evaluation takes it, in words. table: a row an annotation."""
    notes = []
    if all_crowd:
        notes.append("every annotation is marked iscrowd, as CVAT marks masks: read as objects")
    copies = len(table) - len(np.unique(table, axis=0))
    if copies:
        notes.append(f"{copies} annotations are exact copies of others; as in COCO, each counts")
    flat = int((table[:, 4:6] <= 0).any(1).sum())
    if flat:
        notes.append(f"{flat} annotations have no area; as in COCO, each counts as missed")
    ignored = sum(bool(entry.get("ignore")) and not is_crowd(entry) for entry in content["annotations"])
    if ignored:
        notes.append(f"{ignored} annotations are marked ignore and not iscrowd; as in COCO, each counts")
    if any("not_exhaustive_category_ids" in entry for entry in content["images"]):
        notes.append(
            "LVIS's lists of categories that nobody looked for are not read: AP is COCO's, and lower than "
            "LVIS's"
        )
    return notes


def _check_ids(path: Path, content: Mapping[str, Any]) -> None:
    """Raise InputError for ids that repeat, and for annotations that count images or categories from another
    number.
    """
    for what in ("images", "categories"):
        listed = Counter(plain_id(entry["id"]) for entry in content[what])
        repeated = next((str(name)[:40] for name, number in listed.items() if number > 1), None)
        if repeated is not None:
            raise InputError(
                f"{path}: the id {repeated} occurs more than once in its {what}; repair the json"
            )
    problem = miscounted(content)
    if problem:
        raise InputError(f"{path}: {problem}; correct the json")


def _numbers_of(entries: Sequence[Mapping[str, Any]]) -> dict[Any, int]:
    """The number of each id, in rising order as in pycocotools."""
    return {key: number for number, key in enumerate(sorted({plain_id(entry["id"]) for entry in entries}))}


def _read_detections(path: Path, truth: Truth) -> tuple[Detections, int, str]:
    """Read COCO results; returns the detections, the number of those in unlisted categories, and a note.

    Detections in categories that the ground truth does not list are left out, as in pycocotools. Images may
    also be named by their file name or its stem, and categories by a category_name beside the id.

    Raises InputError for images that the ground truth does not list, for boxes that cannot be pixels, and for
    category ids that count from another number or are all unlisted.
    """
    results = read_results(path)
    by_file = images_by_key((number, name) for name, number in truth.files.items())
    files = results.file_names()
    image = _numbers(results.image_id, truth.images)
    if files is not None and all(name in by_file for name in files[0]):
        # A name says more than a number, which may be that of the file and not of the image.
        image = np.array([by_file[name] for name in files[0]], np.int64)[files[1]]
    elif len(image) and (image < 0).all():
        image = _numbers(results.image_id, by_file)
        if (image < 0).any() and results.image_id.dtype == object:
            # `predict` names an image by its folders too, of which a json may know nothing.
            names = np.array([*(Path(str(key)).name for key in results.image_id.tolist()), None], object)[:-1]
            image = np.where(image < 0, _numbers(names, by_file), image)
    if (image < 0).any():
        first = list(dict.fromkeys(results.image_id[image < 0].tolist()))[:5]
        raise InputError(
            f"{path}: {(image < 0).sum()} detections are for images that the ground truth does not list, "
            f"first ids {first}; use its ids, its file names or their stems as image_id"
        )
    problem = misread(results.xywh, truth.sizes[image], "xywh")
    if problem:
        raise InputError(f"{path}: its {len(image)} boxes look like {problem}; correct the file")
    label, note = _categories(path, results, truth)
    is_listed = label >= 0
    if is_listed.all():
        return Detections(image, label, results.xywh, results.score), 0, note
    if not is_listed.any():
        found, listed = sorted(set(results.category_id.tolist()))[:5], list(truth.categories)[:5]
        raise InputError(
            f"{path}: no detection has a category that the ground truth lists: its first ids are "
            f"{', '.join(map(str, found))}, those of the ground truth {', '.join(map(str, listed))}; write its "
            "ids, or each category's category_name beside the id"
        )
    kept = Detections(image[is_listed], label[is_listed], results.xywh[is_listed], results.score[is_listed])
    return kept, int((~is_listed).sum()), note


def _categories(path: Path, results: Results, truth: Truth) -> tuple[Ints, str]:
    """The category number of each detection, -1 for one that the ground truth does not list, and a note.

    A name beside the id decides where it is one of the ground truth's and the id means another category.
    Raises InputError where ids count from 0 and the ground truth's from 1, or the reverse.
    """
    label = _numbers(results.category_id, truth.categories)
    named = results.pairs("category_name")
    plain = {name.lower(): number for name, number in truth.names.items()}
    number_of = {
        name: number
        for names in named.values()
        for name in names
        # Names of two categories may differ in case only.
        if (
            number := truth.names.get(
                name, plain.get(name.lower()) if len(plain) == len(truth.names) else None
            )
        )
        is not None
    }
    contradicted = any(
        number_of[name] != truth.categories.get(key, -1)
        for key, names in named.items()
        for name in names
        if name in number_of
    )
    if contradicted:
        note = (
            f"{path}: category_id and category_name disagree about the ground truth's categories; the names "
            "are used"
        )
        return results.numbered("category_name", number_of), note
    found, listed = set(results.category_id.tolist()), set(truth.categories)
    count = len(listed)
    for there, here in ((0, 1), (1, 0)):
        numbers = set(range(there, there + count))
        if listed == numbers and found <= set(range(here, here + count)) and not found <= listed:
            if "file_name" in results.texts and not results.texts["file_name"].null_count:
                # Ultralytics writes it, and numbers all its classes one after the other, from 0 or from 1.
                note = (
                    f"{path}: category ids count from {here}, those of the ground truth from {there}; read so"
                )
                return _numbers(results.category_id - here + there, truth.categories), note
            raise InputError(
                f"{path}: category ids count from {here}, those of the ground truth from {there}; write its "
                "ids, or each category's category_name beside the id"
            )
    return label, ""


def _numbers(ids: np.ndarray[Any, Any], number_of: Mapping[Any, int]) -> Ints:
    """The number of each id, -1 for an unlisted one."""
    if ids.dtype == object:
        # A file that is named 0001 is found under its name, an id "1" under 1.
        found = (number_of.get(key, number_of.get(plain_id(key), -1)) for key in ids.tolist())
        return np.array(list(found), np.int64).reshape(-1)
    keys, index = np.unique(ids, return_inverse=True)
    return np.array([number_of.get(key, -1) for key in keys.tolist()], np.int64).reshape(-1)[index]


def _read_pairs(path: Path, column: str, images: dict[Any, int]) -> list[tuple[int, str]]:
    """Read (image number, value) pairs from a CSV with image_id and one more column. Raises InputError."""
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
                        f"{path}:{reader.line_num}: image_id {row[key] if len(row) > key else ''!r} "
                        "is not in the ground truth"
                    )
                if not row[value].strip():
                    raise InputError(f"{path}:{reader.line_num}: the {column} is empty")
                pairs.append((number, row[value].strip()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable CSV ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a CSV") from None
    return pairs


def _read_slices(path: Path | None, images: dict[Any, int]) -> tuple[list[str], Bools]:
    """Names of the slices in the order of the file, and a mask of their images (slices, images)."""
    pairs = _read_pairs(path, "slice", images) if path else []
    names = list(dict.fromkeys(name for _, name in pairs))
    row_of = {name: row for row, name in enumerate(names)}
    masks = np.zeros((len(names), len(images)), bool)
    masks[[row_of[name] for _, name in pairs], [number for number, _ in pairs]] = True
    return names, masks


def _read_groups(path: Path | None, images: dict[Any, int]) -> Ints:
    """The group number of each image; without a file each is its own. Raises InputError if one has none."""
    if path is None:
        return np.arange(len(images))
    group_of: dict[int, str] = {}
    id_of = {number: key for key, number in images.items()}
    for number, group in _read_pairs(path, "group", images):
        if group_of.setdefault(number, group) != group:
            raise InputError(
                f"{path}: image_id {id_of[number]} is in two groups, {group_of[number]!r} and {group!r}; "
                "give each image one group"
            )
    if len(group_of) < len(images):
        missing = next(key for key, number in images.items() if number not in group_of)
        raise InputError(
            f"{path}: {len(images) - len(group_of)} images have no group, first image_id {missing}"
        )
    return np.unique([group_of[i] for i in range(len(images))], return_inverse=True)[1].astype(np.int64)


def score(options: ScoreOptions) -> dict[str, Any]:
    """Score COCO results against a COCO ground truth.

    Parameters
    ----------
    options
        The files, and how many bootstrap replicates.

    Returns
    -------
    dict
        overall, slices, sweep, ignored_detections and timings in seconds, as JSON values; also bootstrap and
        baseline if they were requested.

    Raises
    ------
    InputError
        A file is unreadable or inconsistent, or there are too few replicates.
    """
    bootstrap = options.bootstrap
    if 0 < bootstrap < FEWEST_REPLICATES:
        raise InputError(
            f"--bootstrap {bootstrap}: needs at least {FEWEST_REPLICATES} replicates, or 0 for no interval"
        )
    timings: dict[str, float] = {}
    with _timed(timings, "read"):
        inputs = _read_inputs(options)
    with _timed(timings, "match"):
        table = inputs.match()
    with _timed(timings, "score"):
        result = _score_table(table, inputs)
        result["notes"] += _suspicions(options.predictions, table, inputs.truth, inputs.detections)
    with _timed(timings, "bootstrap"):
        if bootstrap:
            ap, ap50 = ap_and_ap50_intervals(table, inputs.group, seed=options.seed, replicates=bootstrap)
            result["bootstrap"] = {"ap": _interval_record(ap), "ap50": _interval_record(ap50)}
    with _timed(timings, "baseline"):
        if inputs.baseline is not None and options.baseline is not None:
            other = match(
                inputs.truth.annotations,
                inputs.baseline,
                n_images=table.n_images,
                n_classes=table.n_classes,
                ious=(0.5,),
            )
            lines = _suspicions(options.baseline, other, inputs.truth, inputs.baseline)
            result["notes"] += [f"{options.baseline}: {line}" for line in lines]
            result["baseline"] = _baseline_record(inputs, inputs.baseline, bootstrap, options.seed)
    return {**result, "timings": timings}


@contextlib.contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Store the seconds that a block takes."""
    begin = time.perf_counter()
    yield
    timings[stage] = time.perf_counter() - begin


def _read_inputs(options: ScoreOptions) -> Inputs:
    """Read all files. Raises InputError."""
    truth = _read_truth(options.ground_truth)
    detections, ignored, note = _read_detections(options.predictions, truth)
    baseline, _, baseline_note = (
        _read_detections(options.baseline, truth) if options.baseline else (None, 0, "")
    )
    dense = _dense_note(options.predictions, detections)
    notes = [*truth.notes, *(line for line in (note, baseline_note, dense) if line)]
    names, masks = _read_slices(options.slices, truth.images)
    group = _read_groups(options.groups, truth.images)
    return Inputs(truth, detections, ignored, notes, baseline, names, masks, group)


def _dense_note(path: Path, detections: Detections) -> str:
    """How many images have more detections of a category than COCO's AP counts; empty for none."""
    classes = int(detections.label.max(initial=0)) + 1
    pairs, counts = np.unique(detections.image * classes + detections.label, return_counts=True)
    dense = len(np.unique(pairs[counts > MAX_DETECTIONS] // classes))
    if not dense:
        return ""
    return (
        f"{path}: {dense} images have more than {MAX_DETECTIONS} detections of one category; COCO's AP "
        f"counts the {MAX_DETECTIONS} most confident"
    )


def _score_table(table: MatchTable, inputs: Inputs) -> dict[str, Any]:
    """Metrics of all images and of each slice, and the threshold sweep."""
    all_images = np.ones((1, len(inputs.truth.images)), bool)
    metrics = weighted_coco_metrics(table, np.concatenate([all_images, inputs.slice_masks]))
    slice_metrics = {name: values[1:] for name, values in metrics.items()}
    return {
        "overall": {name: _json_number(values[0]) for name, values in metrics.items()},
        "slices": _slice_records(table, inputs, slice_metrics),
        "sweep": _sweep_record(table, inputs.truth),
        # pycocotools ignores them without a message.
        "ignored_detections": inputs.ignored,
        "notes": inputs.notes,
    }


def _check_classes(path: Path, table: MatchTable, truth: Truth, detections: Detections) -> None:
    """Raise InputError where detections lie on annotations, but never on one of their own class.

    No detector confuses every class of every object; category ids that mean other classes do.
    """
    # AP50 is 0 exactly where nothing is found, and how much it is else does not matter here.
    found = (table.true_positive[:, table.areas.index("all")] > 0).any()
    without_classes = ap50_of_other_classes(
        truth.annotations, detections, n_images=table.n_images, n_classes=table.n_classes, ap50=float(found)
    )
    if without_classes is not None:
        raise InputError(
            f"{path}: no detection has the category of the annotation it lies on, although AP50 is "
            f"{without_classes:.2f} regardless of category: the category ids of the two files mean different "
            "classes; give each detection the ground truth's category_id, or its category_name beside the id"
        )


def _check_reading(path: Path, table: MatchTable, truth: Truth, detections: Detections) -> None:
    """Raise InputError where hardly an annotation is found, and the detections lie on them under another
    reading.
    """
    annotations = truth.annotations
    if (table.true_positive[:, table.areas.index("all")] > 0).sum() >= FITTING * len(annotations.image):
        return
    sure = np.argsort(-detections.confidence, kind="stable")[:MOST_COMPARED]
    images = detections.image[sure]
    corners = corners_of(annotations.xywh, "xywh")
    annotated = {image: corners[annotations.image == image] for image in np.unique(images).tolist()}
    problem = reading_that_fits(detections.xywh[sure], images, truth.sizes[images], annotated)
    if problem:
        raise InputError(f"{path}: its {len(detections.image)} boxes look like {problem}; correct the file")


def _suspicions(path: Path, table: MatchTable, truth: Truth, detections: Detections) -> list[str]:
    """Signs that detections do not belong to the ground truth, in words.

    Raises InputError where they mean other classes or are written in another way.
    """
    if not len(detections.image):
        return ["the predictions hold no detection"] if len(truth.annotations.image) else []
    _check_classes(path, table, truth, detections)
    _check_reading(path, table, truth, detections)
    lines = []
    pairs = exchanged_classes(
        truth.annotations, detections, n_images=table.n_images, n_classes=table.n_classes
    )
    if pairs:
        name_of = {number: key for key, number in truth.categories.items()}
        name_of |= {number: name for name, number in truth.names.items()}
        words = ", ".join(f"{name_of[label]} as {name_of[other]}" for label, other in pairs.items())
        lines.append(
            "the category ids of the two files seem to mean different classes: nearly all objects are "
            f"detected {words}"
        )
    matched = (table.true_positive[:, table.areas.index("all")] > 0).any()
    if len(truth.annotations.image) >= FEWEST_BOXES and not matched:
        lines.append(
            "no detection lies on an annotation (IoU 0.5): are boxes left, top, width and height in pixels "
            "of the original images, and are the files about the same images?"
        )
    lines += oddities(detections.image, detections.label, detections.xywh, detections.confidence)
    without = len(truth.images) - len(np.unique(detections.image))
    if without > MOST_EMPTY * len(truth.images):
        lines.append(
            f"{without} of {len(truth.images)} images have no detection; where they were not predicted, they "
            "count as missed"
        )
    return lines


def _json_number(value: float) -> float | None:
    """The value, or None for NaN and infinity, which JSON does not have."""
    return float(value) if math.isfinite(value) else None


def _slice_records(table: MatchTable, inputs: Inputs, metrics: dict[str, Floats]) -> list[dict[str, Any]]:
    """The metrics of each slice with its counts and its own best threshold."""
    names, masks, annotations = inputs.slice_names, inputs.slice_masks, inputs.truth.annotations
    if not names:
        return []
    boxes = (masks[:, annotations.image] & ~annotations.crowd).sum(1)
    curves = sweeping.sweeps(table, masks)
    records = []
    for row, name in enumerate(names):
        best_f1, best_confidence = sweeping.best_f_beta(sweeping.select_curve(curves, row, 0))
        records.append(
            {
                "slice": name,
                "images": int(masks[row].sum()),
                "boxes": int(boxes[row]),
                **{key: _json_number(values[row]) for key, values in metrics.items()},
                "best_f1": best_f1,
                "best_confidence": best_confidence,
            }
        )
    return records


def _sweep_record(table: MatchTable, truth: Truth) -> dict[str, Any]:
    """The threshold sweep over all classes, with the best thresholds overall and of each class."""
    everything = np.ones((1, table.n_images), bool)
    points = sweeping.sweep(table)
    if len(table.confidence) and not (table.confidence.min() >= 0 and table.confidence.max() <= 1):
        return {
            "points": [],
            "note": "scores are not between 0 and 1, so no threshold can be swept",
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
            {"category_id": key, **sweeping.summary(sweeping.select_curve(by_class, 0, number))}
            for key, number in truth.categories.items()
        ],
    }


def _interval_record(interval: Interval) -> dict[str, Any]:
    """The bounds, the number of groups (units), and a note if the interval is missing or uncertain."""
    record: dict[str, Any] = {"low": interval.low, "high": interval.high, "units": interval.groups}
    return {**record, "note": interval.note} if interval.note else record


def _baseline_record(inputs: Inputs, baseline: Detections, bootstrap: int, seed: int) -> dict[str, Any]:
    """The paired difference to the baseline."""
    comparison = compare(
        inputs.truth.annotations,
        inputs.detections,
        baseline,
        inputs.group,
        n_classes=len(inputs.truth.categories),
        seed=seed,
        replicates=bootstrap or None,
    )
    return {
        "ap50": _json_number(comparison.second),
        "difference": _json_number(comparison.difference),
        **_interval_record(comparison.interval),
        "p": comparison.p,
        **({"p_note": comparison.note} if comparison.note else {}),
    }
