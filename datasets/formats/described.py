"""What a label file says about images, whatever tool wrote it, and the tables made from that."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

import numpy as np

from datasets.collector import Collector, Position, masks_of
from datasets.containment import Bounds, expanded
from datasets.errors import InputError
from datasets.naming import UPLOADED
from datasets.pairing import IMAGE_FOLDERS, LABEL_FOLDERS, SPLITS, split_of
from datasets.pixels import SUFFIXES
from datasets.plausibility import Layout, misread, misread_extents, misread_fractions, written_as
from datasets.tables import Source

MANY_FILES = 8
# More images of one name are narrowed down by their folder's name first.
MANY_CANDIDATES, DEPTH = 16, 3


class Box(NamedTuple):
    """One object of an image.

    name: class name; of no meaning for a region of every class.
    corners: x1, y1, x2, y2 in pixels, or as fractions where `ImageLabels.fractions` says so.
    line: its line in the file, or its number in the image.
    crowd: whether detections of it count neither for nor against a detector.
    repair: how the box was derived, in words; empty for a box.
    reason: why it is unusable; empty if it is usable.
    every_class: whether it is a region in which detections of no class count.
    outline: the four corners of a rotated box, in the unit of corners; () for others.
    """

    name: str
    corners: tuple[float, float, float, float]
    line: int
    crowd: bool = False
    repair: str = ""
    reason: str = ""
    every_class: bool = False
    outline: tuple[float, ...] = ()


@dataclass(frozen=True)
class ImageLabels:
    """What one file says about one image.

    image: the image's file name as written, or its stem.
    boxes: its objects, in order.
    size: width and height in pixels that the boxes were drawn on, (0, 0) if unknown.
    fractions: whether corners are fractions of the image.
    split: the split that the file names; empty if it names none.
    labelled: False if the file says that nobody has looked at the image yet.
    """

    image: str
    boxes: Sequence[Box]
    size: tuple[int, int] = (0, 0)
    fractions: bool = False
    split: str = ""
    labelled: bool = True


class Content(NamedTuple):
    """A label file.

    images: its images.
    classes: the class names it lists, in order; empty if it lists none.
    remark: how it was read where that is not plain.
    """

    images: list[ImageLabels]
    classes: tuple[str, ...] = ()
    remark: str = ""


class Format(NamedTuple):
    """One kind of label file.

    name: the format as its users call it.
    suffixes: of its files.
    recognises: whether a file is of this kind, from its path and its first bytes.
    read: its content; raises ValueError with the reason where the file cannot be used.
    is_per_image: whether each file is about one image.
    layout: how it writes a box.
    unit: what its numbers are.
    """

    name: str
    suffixes: frozenset[str]
    recognises: Callable[[Path, bytes], bool]
    read: Callable[[Path], Content]
    is_per_image: bool = False
    layout: Layout = "xyxy"
    unit: Literal["pixels", "fractions", "percent"] = "pixels"


def extent(points: Iterable[Any]) -> tuple[float, float, float, float]:
    """Corners of the smallest box around points (x, y); raises ValueError without any."""
    pairs = [(float(x), float(y)) for x, y in points]
    if not pairs:
        raise ValueError("no points")
    xs, ys = zip(*pairs, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def unusable(line: int, reason: str) -> Box:
    """An object that cannot be used, for a reason."""
    return Box("", (0.0, 0.0, 0.0, 0.0), line, reason=reason)


class ImageIndex:
    """Finds the image that a label file names, among the images below a folder.

    by_name, by_stem: images by file name and by stem, in lower case.
    by_tail: images by the last folders that say something and their own name, in lower case.
    """

    def __init__(self, images: Sequence[Path]) -> None:
        self.by_name: dict[str, list[Path]] = defaultdict(list)
        self.by_stem: dict[str, list[Path]] = defaultdict(list)
        self.by_tail: dict[tuple[str, ...], list[Path]] = defaultdict(list)
        for image in images:
            self.by_name[image.name.lower()].append(image)
            self.by_stem[image.stem.lower()].append(image)
            folders = _telling(image.parent.parts)
            for key in (image.name.lower(), image.stem.lower()):
                for depth in range(1, min(DEPTH, len(folders)) + 1):
                    self.by_tail[*folders[-depth:], key].append(image)

    def find(self, name: str, label_file: Path) -> Path | None:
        """The image of a name as written; None if there is none, or several that fit equally well."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if not parts:
            return None
        for last in dict.fromkeys((parts[-1], unquote(parts[-1]), UPLOADED.sub("", parts[-1]))):
            key = last.lower()
            candidates = self.by_name.get(key)
            if not candidates:
                suffix = Path(key).suffix
                key = key.removesuffix(suffix) if suffix in SUFFIXES else key
                candidates = self.by_stem.get(key)
            if candidates:
                return self._best(candidates, key, parts, label_file)
        return None

    def _best(self, candidates: list[Path], key: str, parts: Sequence[str], label_file: Path) -> Path | None:
        """The one of several images of a name that fits the folders best; None where two fit alike."""
        if len(candidates) == 1:
            return candidates[0]
        # A thousand recordings have a 000001.jpg each: the folders leave few.
        for folders in (_telling(parts[:-1]), _telling(label_file.parent.parts)):
            for depth in range(min(DEPTH, len(folders)), 0, -1):
                near = self.by_tail.get((*folders[-depth:], key))
                if near and len(near) < len(candidates):
                    candidates = near
                    break
            if len(candidates) < MANY_CANDIDATES:
                break
        fits = [_fit(candidate, parts, label_file) for candidate in candidates]
        best = max(fits)
        return candidates[fits.index(best)] if fits.count(best) == 1 else None


def _telling(folders: Sequence[str]) -> tuple[str, ...]:
    """Folders in lower case, without those that every dataset has."""
    lower = (folder.lower() for folder in folders)
    return tuple(folder for folder in lower if folder not in IMAGE_FOLDERS and folder not in LABEL_FOLDERS)


def _fit(image: Path, parts: Sequence[str], label_file: Path) -> tuple[int, int]:
    """How well an image fits a written path: folders that agree with it, then with the label file's folders.

    Folders of labels and images are no difference: annotations/a/1.txt belongs to images/a/1.jpg.
    """
    written = 0
    for a, b in zip(reversed(image.parent.parts), reversed(parts[:-1]), strict=False):
        if a.lower() != b.lower():
            break
        written += 1
    beside = 0
    for a, b in zip(image.parent.parts, label_file.parent.parts, strict=False):
        if a != b and b.lower() not in LABEL_FOLDERS:
            break
        beside += 1
    # Below the folder of labels the same folders follow.
    beside += sum(
        a == b for a, b in zip(image.parent.parts[beside:], label_file.parent.parts[beside:], strict=False)
    )
    return written, beside


def open_described(
    spec: str,
    folder: Path,
    files: Sequence[tuple[Path, Format]],
    bounds: Bounds,
    classes: Sequence[str],
    leftovers: Callable[[Collector, Path], None],
) -> Source:
    """Open a folder whose label files are of `Format`s.

    Parameters
    ----------
    spec
        The source's specification.
    folder
        The folder that holds images and label files.
    files
        The label files with their formats.
    bounds
        Folders that may be read.
    classes
        The model's class names, used if they include every name in the files.
    leftovers
        Enters the other files of a folder into the ledger.

    Returns
    -------
    Source
        Images that no file mentions are unlabelled. Kind "labels".

    Raises
    ------
    InputError
        No label file can be used, or their boxes cannot be pixels.
    """
    collector = Collector(folder, (), bounds)
    images = [path for path in collector.walk(folder) if path.suffix.lower() in SUFFIXES]
    masked = masks_of(images, folder)
    for mask, reason in masked.items():
        collector.note(mask, "skipped", reason)
    images = [image for image in images if image not in masked]
    read = list(_read_all(files, collector))
    if not read:
        reasons = [f"{path}: {reason}" for path, (_, reason) in list(collector.ledger.items())[:1]]
        raise InputError(f"{spec}: no label file can be used ({'; '.join(reasons)})")
    collector.classes = _classes_of([content for _, _, content in read], classes)
    # Hugging Face's datasets number the classes and keep the names elsewhere.
    numbered = bool(classes) and all(
        name.isdigit() and int(name) < len(classes) for name in collector.classes
    )
    if numbered:
        collector.classes = tuple(map(str, range(len(classes))))
    index = ImageIndex(images)
    rows: dict[Path, int] = {}
    names: dict[int, str] = {}
    placed = [
        (path, format_, entry, row)
        for path, format_, content in read
        for entry, row in _place(collector, index, rows, names, path, content)
    ]
    _check_units(spec, placed, collector)
    contradicted = _contradicted(spec, placed)
    for row in contradicted:
        collector.note(
            Path(collector.images["path"][row]), "used", "unlabelled: two files annotate it differently"
        )
        collector.unlabel(row)
    seen: set[tuple[float, ...]] = set()
    for path, _, entry, row in placed:
        if row not in contradicted:
            _add_boxes(collector, path, entry, row, seen)
    for image in images:
        if collector.add_image(image, _split(image, folder, "")) is not None:
            collector.note(image, "used", "no label file mentions it: kept as unlabelled, not as background")
    leftovers(collector, folder)
    source = collector.to_source(spec, "labels")
    return replace(source, classes=tuple(classes)) if numbered else source


def _read_all(
    files: Sequence[tuple[Path, Format]], collector: Collector
) -> Iterator[tuple[Path, Format, Content]]:
    """The content of every label file that can be used; the ledger has the reason for the others."""
    for path, format_ in files:
        try:
            content = format_.read(path)
        except (OSError, ValueError, ArithmeticError, RecursionError) as reason:
            collector.note(path, "failed", f"{format_.name}: {str(reason)[:200]}")
            continue
        remark = "; ".join(filter(None, (f"{format_.name} annotations", content.remark)))
        collector.note(path, "used", remark if content.remark or len(files) <= MANY_FILES else "")
        yield path, format_, content


def _classes_of(contents: Sequence[Content], model: Sequence[str]) -> tuple[str, ...]:
    """Class names: the model's if they include all, else those that the files list, else all names,
    sorted.
    """
    named = {
        box.name
        for content in contents
        for entry in content.images
        for box in entry.boxes
        if box.name and not box.every_class
    }
    listed = tuple(dict.fromkeys(name for content in contents for name in content.classes))
    if named <= set(model) and set(listed) <= set(model):
        return tuple(model)
    return listed if named <= set(listed) else tuple(sorted(named))


def _check_units(
    spec: str, placed: Sequence[tuple[Path, Format, ImageLabels, int]], collector: Collector
) -> None:
    """Raise InputError where the boxes of all files of a format cannot be what the format writes."""
    # What was derived from a polygon or a turned box is in no layout, and judged apart.
    by_format: dict[tuple[Format, bool], list[tuple[float, ...]]] = defaultdict(list)
    first: dict[Format, Path] = {}
    for path, format_, entry, row in placed:
        for box in entry.boxes:
            if not box.reason:
                by_format[format_, bool(box.repair)].append((*box.corners, *collector.size(row)))
        first.setdefault(format_, path)
    for (format_, derived), boxes in by_format.items():
        table = np.array(boxes, float).reshape(-1, 6)
        layout: Layout = "xyxy" if derived else format_.layout
        written = written_as(table[:, :4], layout)
        if format_.unit != "pixels":
            problem = misread_fractions(written, layout, format_.unit)
        elif derived:
            problem = misread_extents(written, table[:, 4:])
        else:
            problem = misread(written, table[:, 4:], layout)
        if problem:
            raise InputError(
                f"{spec}: its {len(boxes)} {'outlines' if derived else 'boxes'} of {format_.name} "
                f"({first[format_].name}) look like {problem}; correct them"
            )


def _contradicted(spec: str, placed: Sequence[tuple[Path, Format, ImageLabels, int]]) -> set[int]:
    """Rows of images of which two files annotate a class differently, as two versions of an export do.

    Raises InputError where these are half of all: nobody knows which file counts. Files of different classes,
    and one that repeats what is in another, contradict nothing.
    """
    by_image: dict[int, dict[Path, dict[str, set[tuple[float, ...]]]]] = defaultdict(dict)
    for path, _, entry, row in placed:
        classes = by_image[row].setdefault(path, defaultdict(set))
        for box in entry.boxes:
            if not box.reason:
                classes[box.name].add(
                    tuple(round(value, 3 if entry.fractions else 1) for value in box.corners)
                )
    several = {row: files for row, files in by_image.items() if len(files) > 1}
    found: dict[int, tuple[Path, Path]] = {}
    for row, files in several.items():
        for a, b in combinations(files, 2):
            common = files[a].keys() & files[b].keys()
            if any(not (files[a][c] <= files[b][c] or files[a][c] >= files[b][c]) for c in common):
                found.setdefault(row, (a, b))
    if found and len(found) >= len(by_image) / 2:
        one, other = (os.path.relpath(path, expanded(spec)) for path in next(iter(found.values())))
        raise InputError(
            f"{spec}: {one} and {other} annotate {len(found)} images differently; keep the one that is right "
            "in the folder"
        )
    return set(found)


def _split(image: Path, folder: Path, written: str) -> str:
    """The split that a file names, else that of the folders."""
    if written.lower() in SPLITS:
        return SPLITS[written.lower()]
    return split_of(image.parent.relative_to(folder).parts) if image.is_relative_to(folder) else ""


# Six parameters: what is read, and the tables that grow.
def _place(
    collector: Collector,
    index: ImageIndex,
    rows: dict[Path, int],
    names: dict[int, str],
    path: Path,
    content: Content,
) -> Iterator[tuple[ImageLabels, int]]:
    """What a file says about images that can be used, each with the image's row; the ledger names the others.

    names: under which name each image was found. One that two names lead to is not labelled: nobody knows
    which of the two it is.
    """
    single = len(content.images) == 1
    seen: set[int] = set()
    # Two splits may each have a frame_000001.png.
    found = [index.find(f"{e.split}/{e.image}" if e.split else e.image, path) for e in content.images]
    # cam1/1.jpg is that of cam1; cam2/1.jpg, of which only the name is there, is not.
    agreeing = [
        _fit(image, e.image.replace("\\", "/").split("/"), path)[0] if image else 0
        for image, e in zip(found, content.images, strict=True)
    ]
    most: dict[Path | None, int] = {}
    for image, depth in zip(found, agreeing, strict=True):
        most[image] = max(depth, most.get(image, 0))
    for entry, image, depth in zip(content.images, found, agreeing, strict=True):
        if depth < most[image]:
            image = None
        if image is None and single:
            # A tool that renames its images keeps the name of the label file.
            image = index.find(path.stem, path)
        if image is None:
            missing = Path(os.path.normpath(path.parent / entry.image.replace("\\", "/").replace("\0", "")))
            if not collector.is_accounted(missing):
                collector.note(missing, "failed", f"listed in {path.name}, but not on disk")
            continue
        row = rows.get(image)
        if row is None:
            row = collector.add_image(image, _split(image, collector.root, entry.split))
            if row is None:
                continue
            rows[image] = row
        name = str(path.with_suffix("")) if single else entry.image.replace("\\", "/").lower()
        mismatch = "" if entry.fractions else collector.size_mismatch(row, entry.size)
        if names.setdefault(row, name) != name:
            collector.note(image, "used", "unlabelled: label files name it in more than one way")
            collector.unlabel(row)
        elif mismatch:
            collector.note(image, "used", f"unlabelled: its boxes were {mismatch}")
            collector.mark_unusable(row)
        elif entry.labelled:
            if row in seen:
                collector.note(image, "used", "listed more than once; the boxes of all entries count")
            seen.add(row)
            collector.mark_labelled(row)
            yield entry, row


def _add_boxes(
    collector: Collector, path: Path, entry: ImageLabels, row: int, seen: set[tuple[float, ...]]
) -> None:
    """Add the objects of one image, or record why they are rejected; one that was seen before counts once."""
    numbers = {name: number for number, name in enumerate(collector.classes)}
    for box in entry.boxes:
        corners = box.corners
        if entry.fractions:
            width, height = collector.size(row)
            corners = (corners[0] * width, corners[1] * height, corners[2] * width, corners[3] * height)
        reason = box.reason or ("" if all(map(math.isfinite, corners)) else "coordinate is not finite")
        if not reason and not box.every_class and box.name not in numbers:
            reason = "object without a class"
        if reason:
            collector.reject(path, box.line, reason, row)
            continue
        labels = list(numbers.values()) if box.every_class else [numbers[box.name]]
        key = (row, -1 if box.every_class else labels[0], *(round(value, 3) for value in corners))
        if key in seen:
            collector.repair(path, box.line, "duplicate annotation dropped")
            continue
        seen.add(key)
        for label in labels:
            collector.add_pixel_box(
                Position(path, box.line),
                row,
                label,
                corners,
                crowd=box.crowd,
                repair=box.repair,
                # Only DOTA's are read, which are pixels.
                outline=() if entry.fractions else box.outline,
            )
