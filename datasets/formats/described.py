"""What a label file says about images, whatever tool wrote it, and the tables made from that."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.collector import Collector, Position
from datasets.containment import Bounds
from datasets.errors import InputError
from datasets.pairing import LABEL_FOLDERS, SPLITS, split_of
from datasets.pixels import SUFFIXES
from datasets.plausibility import misread
from datasets.tables import Source

# Class name of a region in which detections of no class count.
EVERY_CLASS = "*"
MANY_FILES = 8


class Box(NamedTuple):
    """One object of an image.

    name: class name, or EVERY_CLASS.
    corners: x1, y1, x2, y2 in pixels, or as fractions where `ImageLabels.fractions` says so.
    line: its line in the file, or its number in the image.
    crowd: whether detections of it count neither for nor against a detector.
    repair: how the box was derived, in words; empty for a box.
    reason: why it is unusable; empty if it is usable.
    """

    name: str
    corners: tuple[float, float, float, float]
    line: int
    crowd: bool = False
    repair: str = ""
    reason: str = ""


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
    """A label file: its images, and the class names it lists in order (empty if it lists none)."""

    images: list[ImageLabels]
    classes: tuple[str, ...] = ()


class Format(NamedTuple):
    """One kind of label file.

    name: the format as its users call it.
    suffixes: of its files.
    recognises: whether a file is of this kind, from its path and its first bytes.
    read: its content; raises ValueError with the reason where the file cannot be used.
    """

    name: str
    suffixes: frozenset[str]
    recognises: Callable[[Path, bytes], bool]
    read: Callable[[Path], Content]


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

    images: every image below the folder.
    """

    def __init__(self, images: Sequence[Path]) -> None:
        self.images = images
        self.by_name: dict[str, list[Path]] = defaultdict(list)
        self.by_stem: dict[str, list[Path]] = defaultdict(list)
        for image in images:
            self.by_name[image.name.lower()].append(image)
            self.by_stem[image.stem.lower()].append(image)

    def find(self, name: str, label_file: Path) -> Path | None:
        """The image of a name as written; None if there is none, or several that fit equally well."""
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if not parts:
            return None
        candidates = self.by_name.get(parts[-1].lower()) or self.by_stem.get(
            parts[-1].lower()
            if Path(parts[-1]).suffix.lower() not in SUFFIXES
            else Path(parts[-1]).stem.lower(),
            [],
        )
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        fits = [_fit(candidate, parts, label_file) for candidate in candidates]
        best = max(fits)
        return candidates[fits.index(best)] if fits.count(best) == 1 else None


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
    read = list(_read_all(files, collector))
    if not read:
        reasons = [f"{path}: {reason}" for path, (_, reason) in list(collector.ledger.items())[:1]]
        raise InputError(f"{spec}: no label file can be used ({'; '.join(reasons)})")
    collector.classes = _classes_of([content for _, _, content in read], classes)
    index = ImageIndex(images)
    rows: dict[Path, int] = {}
    for path, format_, content in read:
        placed = list(_place(collector, index, rows, path, content))
        _check_units(path, format_, placed, collector)
        for entry, row in placed:
            _add_boxes(collector, path, entry, row)
    for image in images:
        if collector.add_image(image, _split(image, folder, "")) is not None:
            collector.note(image, "used", "no label file mentions it: kept as unlabelled, not as background")
    leftovers(collector, folder)
    return collector.to_source(spec, "labels")


def _read_all(
    files: Sequence[tuple[Path, Format]], collector: Collector
) -> Iterator[tuple[Path, Format, Content]]:
    """The content of every label file that can be used; the ledger has the reason for the others."""
    for path, format_ in files:
        try:
            content = format_.read(path)
        except (OSError, ValueError, RecursionError) as reason:
            collector.note(path, "failed", f"{format_.name}: {str(reason)[:200]}")
            continue
        collector.note(path, "used", f"{format_.name} annotations" if len(files) <= MANY_FILES else "")
        yield path, format_, content


def _classes_of(contents: Sequence[Content], model: Sequence[str]) -> tuple[str, ...]:
    """Class names: the model's if they include all, else those that the files list, else all names, sorted."""
    named = {
        box.name
        for content in contents
        for entry in content.images
        for box in entry.boxes
        if box.name and box.name != EVERY_CLASS
    }
    listed = tuple(dict.fromkeys(name for content in contents for name in content.classes))
    if named <= set(model) and set(listed) <= set(model):
        return tuple(model)
    return listed if named <= set(listed) else tuple(sorted(named))


def _check_units(
    path: Path, format_: Format, placed: Sequence[tuple[ImageLabels, int]], collector: Collector
) -> None:
    """Raise InputError where the boxes of a file cannot be pixels on its images."""
    boxes = [
        (*box.corners, *collector.size(row))
        for entry, row in placed
        if not entry.fractions
        for box in entry.boxes
        if not box.reason
    ]
    table = np.array(boxes, float).reshape(-1, 6)
    problem = misread(table[:, :4], table[:, 4:], "xyxy")
    if problem:
        raise InputError(
            f"{path}: its {len(boxes)} boxes look like {problem} in {format_.name}; correct the file"
        )


def _split(image: Path, folder: Path, written: str) -> str:
    """The split that a file names, else that of the folders."""
    if written.lower() in SPLITS:
        return SPLITS[written.lower()]
    return split_of(image.parent.relative_to(folder).parts) if image.is_relative_to(folder) else ""


def _place(
    collector: Collector, index: ImageIndex, rows: dict[Path, int], path: Path, content: Content
) -> Iterator[tuple[ImageLabels, int]]:
    """What a file says about images that can be used, each with the image's row; the ledger names the others."""
    for entry in content.images:
        image = index.find(entry.image, path)
        if image is None and len(content.images) == 1:
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
        mismatch = "" if entry.fractions else collector.size_mismatch(row, entry.size)
        if mismatch:
            collector.note(image, "used", f"unlabelled: its boxes were {mismatch}")
            collector.mark_unusable(row)
        elif entry.labelled:
            collector.mark_labelled(row)
            yield entry, row


def _add_boxes(collector: Collector, path: Path, entry: ImageLabels, row: int) -> None:
    """Add the objects of one image, or record why they are rejected."""
    numbers = {name: number for number, name in enumerate(collector.classes)}
    for box in entry.boxes:
        corners = box.corners
        if entry.fractions:
            width, height = collector.size(row)
            corners = (corners[0] * width, corners[1] * height, corners[2] * width, corners[3] * height)
        if box.reason or not all(map(math.isfinite, corners)):
            collector.reject(path, box.line, box.reason or "coordinate is not finite", row)
            continue
        for label in numbers.values() if box.name == EVERY_CLASS else [numbers[box.name]]:
            collector.add_pixel_box(
                Position(path, box.line), row, label, corners, crowd=box.crowd, repair=box.repair
            )
