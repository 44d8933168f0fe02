"""COCO json: ground truth with its images, and results files of any detector."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pandas as pd

from datasets.collector import Collector, Position
from datasets.containment import Bounds
from datasets.data_yaml import FROM_ROOT, path_exists
from datasets.errors import InputError
from datasets.masks import extent_of
from datasets.orthophotos import whole_image_of
from datasets.pairing import LABEL_FOLDERS, SPLITS, outside_reason, same_name, split_of
from datasets.pixels import SUFFIXES, orientation
from datasets.plausibility import (
    FITTING,
    MOST_COMPARED,
    TIMES,
    are_all_crowd,
    count_from_one,
    is_crowd,
    misread,
    misread_extents,
    reading_that_fits,
    share_on_annotations,
    upright,
)
from datasets.results import Results, describe, images_by_key, load_json, miscounted, plain_id
from datasets.results import read_results as read_columns
from datasets.shapes import Shape
from datasets.tables import CORNERS, Source


class NoGroundTruth(InputError):
    """A json without COCO's three lists, such as the captions and image infos of COCO's own downloads."""


ALL_CROWD = "marked iscrowd like every other, as CVAT marks masks: read as an object"


def open_coco(spec: str, path: Path, bounds: Bounds, *, root: Path | None = None) -> Source:
    """Open the images and annotations of a COCO ground-truth file.

    Images are searched beside the file, in folders "images", "data" and one named after the split, and in the
    same places around a folder "annotations". The split comes from the name of the file or its folder. An
    annotation without bbox gets its box from its polygons.

    Parameters
    ----------
    spec
        The source's specification.
    path
        The json.
    bounds
        Folders that may be read.
    root
        The folder that image ids are relative to; None for the dataset's folder.

    Returns
    -------
    Source
        The source, with the json's own ids of images and categories.

    Raises
    ------
    InputError
        If the json lacks images, annotations or categories, or ids repeat.
    """
    content = load_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise NoGroundTruth(
            f"{path}: a COCO ground truth has the lists images, annotations and categories; "
            f"found {describe(content)}"
        )
    names, index = _categories_of(path, content["categories"])
    around = path.parent.name if path.parent.name.lower() in SPLITS else ""
    split = split_of((around, path.stem))
    collector = Collector(root or coco_root(path), names, bounds)
    scored = sum(isinstance(a, dict) and "score" in a for a in content["annotations"])
    remark = (
        f"annotations; {scored} have a score, as a detector's results: read as labels"
        if scored
        else "annotations"
    )
    collector.note(path, "used", remark)
    folders = _image_folders(path, split)
    rows = _add_images(collector, folders, split, _image_entries(path, content["images"]))
    _check_ids(path, content)
    _check_units(path, content["annotations"], rows, collector)
    all_crowd = are_all_crowd(content["annotations"])
    seen: set[tuple[float, ...]] = set()
    for number, annotation in enumerate(content["annotations"]):
        _add_annotation(
            collector, Position(path, number), annotation, rows, index, all_crowd=all_crowd, seen=seen
        )
    for folder in folders:
        if folder.is_dir() and folder != coco_root(path):
            for file in collector.walk(folder):
                if not collector.is_accounted(file):
                    collector.note(file, "skipped", "not listed in the json")
    images = collector.images["image"]
    image_ids = {image_id: str(images[row]) for image_id, row in rows.items()}
    return replace(collector.to_source(spec, "coco"), image_ids=image_ids, category_ids=index)


def _check_ids(path: Path, content: dict[str, Any]) -> None:
    """Raise InputError where no annotation belongs to any of the listed images, or where ids count from
    another number than those of the lists.
    """
    listed = {plain_id(entry["id"]) for entry in content["images"]}
    named = [a.get("image_id") for a in content["annotations"] if isinstance(a, dict)]
    problem = miscounted(content)
    if problem:
        raise InputError(f"{path}: {problem}; correct the json")
    if named and not any(isinstance(key, (int, float, str)) and plain_id(key) in listed for key in named):
        raise InputError(
            f"{path}: no annotation has the image_id of one of its images: annotations name "
            f"{str(named[0])[:40]!r}, images {str(next(iter(listed), 'nothing'))[:40]!r}; repair the json"
        )


def _check_units(
    path: Path, annotations: Sequence[Any], rows: Mapping[Any, int], collector: Collector
) -> None:
    """Raise InputError where the boxes of a json cannot be left, top, width and height in pixels, or polygons
    where there are no boxes cannot be pixels.
    """
    boxes: list[list[float]] = []
    extents: list[list[float]] = []
    for annotation in annotations:
        try:
            row = rows.get(plain_id(annotation["image_id"]))
            if row is None:
                continue
            corners, repair = _corners_of(annotation)
            numbers = corners if repair else [float(value) for value in annotation["bbox"]]
            (extents if repair else boxes).append([*numbers, *collector.size(row)])
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError):
            # The row is rejected with its reason later.
            continue
    table = np.array([row for row in boxes if len(row) == 6], float).reshape(-1, 6)
    polygons = np.array(extents, float).reshape(-1, 6)
    problem = misread(table[:, :4], table[:, 4:], "xywh")
    if problem:
        raise InputError(f"{path}: its {len(boxes)} boxes look like {problem}; correct the json")
    problem = misread_extents(polygons[:, :4], polygons[:, 4:])
    if problem:
        raise InputError(f"{path}: its {len(extents)} polygons look like {problem}; correct the json")


def _image_entries(path: Path, entries: list[Any]) -> Iterator[dict[str, Any]]:
    """Entries of the list of images; raises InputError without id or file_name, or for a repeated id."""
    listed: set[Any] = set()
    for number, entry in enumerate(entries):
        if isinstance(entry, dict) and "file_name" not in entry and isinstance(entry.get("coco_url"), str):
            # LVIS names COCO's images by their addresses.
            entry = {**entry, "file_name": entry["coco_url"].rsplit("/", 1)[-1]}
        if not isinstance(entry, dict) or not {"id", "file_name"} <= set(entry) or not _is_id(entry["id"]):
            raise InputError(f"{path}: image {number} lacks an id or a file_name; repair the json")
        key = plain_id(entry["id"])
        if key in listed:
            raise InputError(
                f"{path}: image {number} repeats the id {str(entry['id'])[:40]}; repair the json"
            )
        listed.add(key)
        yield {**entry, "id": key}


def _add_images(
    collector: Collector, folders: Sequence[Path], split: str, entries: Iterator[dict[str, Any]]
) -> dict[Any, int]:
    """Add the listed images that exist within the bounds; returns image id -> row of labelled images."""
    rows: dict[Any, int] = {}
    by_file: dict[str, int] = {}
    # The name under which each file was first listed, and the files that are listed under different ones.
    names: dict[str, str] = {}
    shared: set[str] = set()
    listings, anywhere = Listings(), Anywhere(collector)
    for entry in entries:
        name = str(entry["file_name"]).replace("\\", "/").replace("\0", "")
        candidates = [
            Path(os.path.normpath(folder / part)) for part in _spellings(name) for folder in folders
        ]
        existing = [candidate for candidate in candidates if path_exists(candidate)]
        if not existing:
            existing = [found for candidate in candidates if (found := listings.find(candidate)) is not None]
        if not existing:
            existing = anywhere.find(name)
        file = next((candidate for candidate in existing if collector.bounds.contain(candidate)), None)
        if file is None:
            reason = outside_reason(existing[0]) if existing else "listed in the json but not on disk"
            collector.note((existing or candidates)[0], "skipped" if existing else "failed", reason)
            continue
        if names.setdefault(str(file), name) != name:
            shared.add(str(file))
        elif str(file) in by_file:
            collector.note(file, "used", "listed more than once; the annotations of all entries count")
        row = collector.add_image(file, split)
        if row is not None:
            mismatch = collector.size_mismatch(row, _size(entry))
            if mismatch:
                collector.note(file, "used", f"unlabelled: its boxes were {mismatch}")
                collector.mark_unusable(row)
                continue
            by_file[str(file)] = row
            collector.mark_labelled(row)
        # An image listed twice keeps the annotations of both entries.
        if str(file) in by_file:
            rows[entry["id"]] = by_file[str(file)]
    for path in shared & by_file.keys():
        # camA/1.jpg and camB/1.jpg, of which only one 1.jpg is there: nobody knows whose it is.
        collector.note(Path(path), "used", "unlabelled: the json lists it under several names")
        collector.unlabel(by_file[path])
    return rows


def _spellings(name: str) -> list[str]:
    """What a file name may be on disk: as written, without folders, and both as an address is decoded."""
    decoded = unquote(name.partition("?")[0])
    return list(dict.fromkeys([name, Path(name).name, decoded, Path(decoded).name]))


class Listings:
    """Files by their names as `same_name` writes them, for names that differ in case or in how accents are
    written.

    folders: folder -> such a name -> path.
    """

    def __init__(self) -> None:
        self.folders: dict[Path, dict[str, Path]] = {}

    def find(self, path: Path) -> Path | None:
        """The file in a path's folder whose name is the path's but for spelling."""
        names = self.folders.get(path.parent)
        if names is None:
            try:
                names = {same_name(name): path.parent / name for name in sorted(os.listdir(path.parent))}
            except (OSError, ValueError):
                names = {}
            self.folders[path.parent] = names
        return names.get(same_name(path.name))


class Anywhere:
    """Images below the dataset's folder by their names: a json may leave the folders out, begin with the
    dataset's own, or name those of another machine. They are listed once, when the first image is in none of
    the usual places.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for file in self._collector.walk(self._collector.root):
            if file.suffix.lower() in SUFFIXES:
                found.setdefault(same_name(file.name), []).append(file)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for files in self._by_name.values():
            for file in files:
                found.setdefault(same_name(file.stem), []).append(file)
        return found

    def find(self, name: str) -> list[Path]:
        """The only image of this name, or else of this stem; nothing where there are several.

        Folders that are written have to be there: of a relative path all, of one of another machine as many
        as tell the images of one name apart.
        """
        *folders, own = same_name(name).strip("/").split("/")
        candidates = self._by_name.get(own) or self._by_stem.get(same_name(Path(name).stem), [])
        if not folders:
            return candidates if len(candidates) == 1 else []
        agreeing = [_shared_end(folders, same_name(file.parent.as_posix()).split("/")) for file in candidates]
        if not FROM_ROOT.match(name):
            candidates = [f for f, depth in zip(candidates, agreeing, strict=True) if depth == len(folders)]
            return candidates if len(candidates) == 1 else []
        best = max(agreeing, default=0)
        return [candidates[agreeing.index(best)]] if agreeing.count(best) == 1 else []


def _shared_end(written: Sequence[str], folders: Sequence[str]) -> int:
    """How many of the last folders of two paths agree."""
    depth = 0
    for a, b in zip(reversed(written), reversed(folders), strict=False):
        if a != b:
            break
        depth += 1
    return depth


def _categories_of(path: Path, entries: list[Any]) -> tuple[list[str], dict[int, int]]:
    """Class names in the order of their ids, and id -> class index.

    Ids with the same name are one class, as in exports with supercategories. Raises InputError for a category
    without id or name, and for a repeated id.
    """
    categories: dict[int, str] = {}
    for number, entry in enumerate(entries):
        key = plain_id(entry.get("id")) if isinstance(entry, dict) else None
        if not isinstance(key, int) or isinstance(key, bool) or not entry.get("name"):
            raise InputError(f"{path}: category {number} lacks an integer id or a name; repair the json")
        if key in categories:
            raise InputError(f"{path}: category {number} repeats the id of another; repair the json")
        categories[key] = str(entry["name"])
    names = list(dict.fromkeys(name for _, name in sorted(categories.items())))
    numbers = {name: number for number, name in enumerate(names)}
    return names, {category_id: numbers[name] for category_id, name in categories.items()}


def coco_root(path: Path) -> Path:
    """The dataset's folder: the json's own, or the parent of a folder "annotations"."""
    return path.parent.parent if path.parent.name.lower() in LABEL_FOLDERS else path.parent


def _image_folders(path: Path, split: str) -> list[Path]:
    """Folders that may hold a json's images, the most likely first."""
    root = coco_root(path)
    # instances_val2017.json lists the images of val2017/.
    names = [name for name in (path.stem.rsplit("_", 1)[-1], path.stem, split) if name]
    folders = [base / part for base in (path.parent, root) for part in (".", "images", "data")]
    folders += [base / name for base in (root, root / "images") for name in names]
    return list(dict.fromkeys(Path(os.path.normpath(folder)) for folder in folders))


def _is_id(value: Any) -> bool:
    """Whether a value can be the id of an image; pandas writes 1.0 for 1."""
    return isinstance(plain_id(value), (int, str))


def _size(entry: dict[str, Any]) -> tuple[int, int]:
    """Width and height that an entry gives, (0, 0) if it gives none."""
    width, height = entry.get("width"), entry.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)


def _add_annotation(
    collector: Collector,
    position: Position,
    annotation: Any,
    rows: dict[Any, int],
    index: dict[Any, int],
    *,
    all_crowd: bool,
    seen: set[tuple[float, ...]],
) -> None:
    """Add one annotation, or record why it is rejected.

    all_crowd: every annotation of the file is marked iscrowd, which therefore says nothing. seen: image,
    class and corners of the annotations before it.
    """
    row: int | None = None
    try:
        row = rows.get(plain_id(annotation["image_id"]))
        label = index.get(plain_id(annotation["category_id"]))
    except (AttributeError, KeyError, TypeError):
        collector.reject(*position, "annotation without a usable image_id or category_id", row)
        return
    try:
        corners, repair = _corners_of(annotation)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError):
        collector.reject(*position, "annotation without a usable bbox or segmentation", row)
        return
    mask = annotation.get("segmentation")
    if row is None:
        collector.reject(*position, "annotation of an image that is not used")
    elif repair and isinstance(mask, dict) and list(mask["size"]) != [*collector.size(row)[::-1]]:
        height, width = mask["size"]
        reason = "its mask is of {}x{} pixels, the image of {}x{}".format(width, height, *collector.size(row))
        collector.reject(*position, reason, row)
    elif (row, label, *corners) in seen:
        collector.repair(*position, "duplicate annotation dropped")
    elif label is None:
        collector.reject(
            *position, f"category {str(annotation['category_id'])[:40]} is not in categories", row
        )
    else:
        seen.add((row, label, *corners))
        repair = "; ".join(filter(None, [repair, ALL_CROWD if all_crowd else ""]))
        crowd = is_crowd(annotation) and not all_crowd
        collector.add_pixel_box(
            position,
            row,
            label,
            corners,
            crowd=crowd,
            repair=repair,
            shape=_shape_of(annotation, collector.kept_shapes, *collector.size(row)),
        )


def _corners_of(annotation: Any) -> tuple[tuple[float, float, float, float], str]:
    """Corners in pixels of an annotation's bbox, else of its mask, and the repair; raises without."""
    box, mask = annotation.get("bbox"), annotation.get("segmentation")
    if box:
        x, y, width, height = (float(v) for v in box)
        if (width > 0 and height > 0) or not mask:
            return (x, y, x + width, y + height), ""
    if isinstance(mask, dict):
        return extent_of(mask), "box taken from a mask"
    points = [float(v) for polygon in mask for v in polygon]
    xs, ys = points[::2], points[1::2]
    return (min(xs), min(ys), max(xs), max(ys)), "box taken from a polygon"


def _shape_of(annotation: Any, wanted: str, width: int, height: int) -> Shape | None:
    """Key points or mask of an annotation, whichever is wanted, in fractions of an image of this size; None
    where it has none that can be used. A file of persons has both.
    """
    try:
        if wanted == "key points":
            points = annotation.get("keypoints") or ()
            scale = (1 / width, 1 / height, 1) * (len(points) // 3)
            numbers = tuple(float(v) * s for v, s in zip(points, scale, strict=True))
            return Shape("points", numbers) if numbers else None
        mask = annotation.get("segmentation") if wanted == "masks" else None
        if isinstance(mask, dict):
            extent_of(mask)
            return Shape("runs", mask)
        polygons = tuple(
            tuple(float(v) / (width, height)[at % 2] for at, v in enumerate(polygon))
            for polygon in mask or ()
        )
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None
    usable = tuple(polygon for polygon in polygons if len(polygon) >= 6 and len(polygon) % 2 == 0)
    return Shape("polygons", usable) if usable else None


def read_results(path: Path, source: Source, classes: Sequence[str]) -> pd.DataFrame:
    """Read a COCO results file as detections.

    Ids are those of the source's own json if it is one that has them all. Otherwise image_id is an image's
    id, file name, stem or the number that its stem spells (if only one image has it), and category_id counts
    from 0, or from 1 if the number of classes itself occurs as an id. Where each detection has a
    category_name that is one of the classes, the name decides.

    Parameters
    ----------
    path
        The json.
    source
        The source that the detections belong to.
    classes
        The model's class names.

    Returns
    -------
    pd.DataFrame
        One row per detection: image, label, x1, y1, x2, y2 (pixels), confidence.

    Raises
    ------
    InputError
        If the file is unusable, an image or category id is unknown, ids could be two images each, boxes
        cannot be pixels, or confidences are no fractions.
    """
    results = read_columns(path)
    if len(results.score) and results.score.max() > 1 + 1e-6:
        what = "percent" if results.score.max() <= 100 else "no confidences"
        raise InputError(
            f"{path}: its scores go up to {results.score.max():.4g}, which are {what}; write confidences "
            "from 0 to 1"
        )
    by_name = images_by_key(zip(source.images["image"], source.images["image"], strict=True))
    labels = _labels_of(path, results, source, classes)
    positions, keys = pd.factorize(
        np.array([*map(plain_id, results.image_id.tolist()), None], object)[:-1]
        if results.image_id.dtype == object
        else results.image_id
    )
    files = results.file_names()
    if files is not None and all(name in by_name for name in files[0]):
        # A name says more than a number, which may be that of the file and not of the image.
        keys, positions = np.array([*files[0], None], object)[:-1], files[1]
    named = {plain_id(key): image for key, image in by_name.items()} | by_name
    own = {plain_id(key): image for key, image in source.image_ids.items()} | dict(source.image_ids)
    # By the one or by the other, never by both: 7 may be the seventh image of a json, and 000007.jpg another.
    has_all_own, has_all_named = (
        bool(known) and all(key in known for key in keys.tolist()) for known in (own, named)
    )
    images = own if has_all_own or (own and not has_all_named) else named
    if images is own and "" in {own.get(key) for key in keys.tolist()}:
        raise InputError(
            f"{path}: its image_id are those of different images in the files of {source.spec}; write file "
            "names as image_id, or give the one file that was predicted as the source"
        )
    unknown = np.array([key not in images for key in keys.tolist()], bool)
    if unknown.any():
        raise _images_not_here(path, source, keys[unknown].tolist(), int(unknown[positions].sum()))
    corners = np.column_stack([results.xywh[:, :2], results.xywh[:, :2] + results.xywh[:, 2:]])
    image = pd.Series([images[key] for key in keys.tolist()], dtype="str").reindex(positions).to_numpy()
    if images is own and has_all_named and any(own[key] != named[key] for key in keys.tolist()):
        other = pd.Series([named[key] for key in keys.tolist()], dtype="str").reindex(positions).to_numpy()
        _check_numbers(path, results, source, (image, other))
    sizes = source.images.set_index("image")[["width", "height"]].reindex(image).to_numpy(float)
    sure = np.argsort(-results.score, kind="stable")[:MOST_COMPARED]
    annotated = annotations_by_image(source)
    _check_turned(path, results.xywh[sure], image[sure], sizes[sure], source, annotated)
    problem = misread(results.xywh, sizes, "xywh") or reading_that_fits(
        results.xywh[sure], image[sure], sizes[sure], annotated
    )
    if problem:
        raise InputError(f"{path}: its {len(corners)} boxes look like {problem}; correct the file")
    detections = pd.DataFrame(corners, columns=CORNERS)
    detections.insert(0, "image", image)
    detections.insert(1, "label", labels)
    detections["confidence"] = results.score
    return detections


def _images_not_here(path: Path, source: Source, unknown: list[Any], detections: int) -> InputError:
    """What to say of detections whose image_id are no images of the source."""
    first = list(dict.fromkeys(unknown))[:5]
    cut = {Path(whole) for image in source.images["image"] if (whole := whole_image_of(image))}
    if {str(key) for key in first} & {form for whole in cut for form in (str(whole), whole.name, whole.stem)}:
        remedy = (
            "the large image was cut into tiles; give detections of those, by names such as "
            f"{source.images['image'].iloc[0]}"
        )
    else:
        remedy = "use file names or stems as image_id"
    return InputError(
        f"{path}: {detections} detections are for images not in this domain, first ids {first}; {remedy}"
    )


def _check_turned(
    path: Path,
    boxes: npt.NDArray[np.float64],
    images: npt.NDArray[Any],
    sizes: npt.NDArray[np.float64],
    source: Source,
    annotated: Mapping[str, npt.NDArray[np.float64]],
) -> None:
    """Raise InputError where detections were made in images before EXIF's rotation, as by a program that
    ignores it.

    boxes: left, top, width and height (N, 4) in pixels. images, sizes: of each (N,) and (N, 2), upright.
    annotated: image -> corners (M, 4) of its annotations.
    """
    files = source.images.set_index("image")["path"]
    turns = {image: orientation(Path(files[image])) for image in dict.fromkeys(images.tolist())}
    turn = np.array([turns[image] for image in images.tolist()], int)
    rows = np.isin(turn, (3, 6, 8))
    if not rows.any():
        return
    own = share_on_annotations(boxes[rows], images[rows], annotated)
    before = share_on_annotations(upright(boxes[rows], sizes[rows], turn[rows]), images[rows], annotated)
    if before >= FITTING and own < before / TIMES:
        raise InputError(
            f"{path}: in {len(set(images[rows].tolist()))} images that EXIF turns, its boxes seem to be "
            f"those of the image before it is turned: read so, {before:.0%} of them lie on an annotation, "
            f"and {own:.0%} otherwise; predict upright images (PIL: ImageOps.exif_transpose)"
        )


def _check_numbers(
    path: Path, results: Results, source: Source, readings: tuple[npt.NDArray[Any], npt.NDArray[Any]]
) -> None:
    """Raise InputError where numbers are ids of the source's json and also numbers of its file names, and the
    boxes lie on annotations by the second reading only.

    readings: image of each detection by ids and by file names, (N,) each.
    """
    sure = np.argsort(-results.score, kind="stable")[:MOST_COMPARED]
    annotated = annotations_by_image(source)
    by_ids, by_names = (
        share_on_annotations(results.xywh[sure], images[sure], annotated) for images in readings
    )
    if by_names >= FITTING and by_ids < by_names / TIMES:
        raise InputError(
            f"{path}: its image_id seem to be the numbers of the file names, not the ids of {source.spec}: "
            f"by those {by_ids:.0%} of its boxes lie on an annotation, by file names {by_names:.0%}; write "
            "file names as image_id, or a file_name beside it"
        )


def annotations_by_image(source: Source) -> dict[str, npt.NDArray[np.float64]]:
    """Image -> corners (N, 4) of its annotations."""
    corners = source.annotations[CORNERS].to_numpy(float)
    rows = source.annotations.groupby("image").indices
    return {str(image): corners[positions] for image, positions in rows.items()}


def _labels_of(path: Path, results: Results, source: Source, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Class index of each detection, by the names beside it or by its category id. Raises InputError."""
    named = results.pairs("category_name")
    number_of = {name.lower(): number for number, name in enumerate(classes)}
    if named and len(number_of) == len(classes):
        spelled = {name: number_of.get(name.lower(), -1) for names in named.values() for name in names}
        if min(spelled.values()) >= 0:
            return results.numbered("category_name", spelled)
    if source.category_ids:
        foreign = sorted(set(results.category_id.tolist()) - set(source.category_ids))
        if foreign:
            raise InputError(
                f"{path}: category ids {foreign[:5]} are not among the json's own "
                f"{sorted(source.category_ids)[:10]}; use the category_id of the ground truth"
            )
    label = pd.Series(results.category_id).map(lambda c: source.category_ids.get(c, c)).astype("int64")
    if not source.category_ids and count_from_one(set(label), len(classes)):
        label -= 1
    if len(label) and not label.between(0, len(classes) - 1).all():
        raise InputError(
            f"{path}: category ids {sorted(set(label))[:5]} do not fit the {len(classes)} classes "
            f"{list(classes)}"
        )
    return label.to_numpy()
