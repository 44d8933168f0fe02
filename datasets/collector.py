"""Building the tables of a source while its files are read; every file enters the ledger once."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from datasets.containment import Bounds
from datasets.labels import read_labels
from datasets.pairing import LABEL_FOLDERS, Pairing, outside_reason
from datasets.pixels import SUFFIXES, UnreadableImage, probe
from datasets.rotated import ROTATED, rotated_of
from datasets.shapes import SHAPE, Shape
from datasets.tables import BOX_COLUMNS, CORNERS, IMAGE_COLUMNS, LEDGER_COLUMNS, ROW_COLUMNS, Source

VIDEO = "a video; give it as a source of its own"
# Folders of segmentation masks, which would otherwise be read as images.
MASK_FOLDERS = frozenset({"segmentationclass", "segmentationobject", "masks", "mask"})
# Files that mark a folder of a training, a prediction or a report, and folders within runs/.
OUTPUTS = ("args.yaml", "opt.yaml", "predict.json", "report.json")
RUNS = ("detect", "train", "val", "exp", "frames", "predictions", "predict", "report", "review")
MASK_ENDS = ("_mask", "-mask", ".mask", "_seg")
UNUSABLE = "unlabelled: none of its annotations can be used"
UNLABELLED = "no label file: kept as unlabelled, not as background"


class Position(NamedTuple):
    """A label row: its file and its line, or its number in the file."""

    path: Path
    line: int


# Which shapes of objects are kept, "masks" or "key points", "" for none: only reports on models of these ask
# for them, and polygons take more memory than everything else of an annotation. Set by
# `datasets.source.open_source`, around every reader.
KEEP_SHAPES: ContextVar[str] = ContextVar("KEEP_SHAPES", default="")


class Collector:
    """The growing tables of one source, kept as columns so that memory stays close to that of the tables.

    root: the folder that image ids are relative to.
    classes: class names in order; empty if unknown.
    bounds: folders that may be read.
    pose: count of keypoint values in each label row.
    images: columns of the images table.
    kept_shapes: which shapes of objects are kept, see KEEP_SHAPES.
    outlines, shapes: corners of rotated boxes and shapes of objects, by the number of the annotation.
    owners, labels, corners, crowds: per annotation its image row, class, four corners in pixels, crowd flag.
    ledger: path -> bucket and reason.
    reached: real paths of files reached through a link to a folder.
    rows: label rows not taken as written: path, line, action, reason.
    with_rejected: rows of images of which an annotation was rejected.
    withdrawn: rows of images whose annotations do not count.
    """

    def __init__(self, root: Path, classes: Sequence[str], bounds: Bounds, pose: int = 0) -> None:
        self.root = root
        self.pose = pose
        self.classes = tuple(classes)
        self.bounds = bounds
        self.images: dict[str, list[Any]] = {
            name: [] for name in ("image", "path", "split", "width", "height", "labelled", "unusable")
        }
        self.owners, self.labels = array("q"), array("q")
        self.corners = array("d")
        self.crowds = bytearray()
        self.outlines: dict[int, Sequence[float]] = {}
        self.kept_shapes = KEEP_SHAPES.get()
        self.shapes: dict[int, Shape] = {}
        self.ledger: dict[str, tuple[str, str]] = {}
        self.reached: set[str] = set()
        self.rows: list[tuple[str, int, str, str]] = []
        self.with_rejected: set[int] = set()
        self.withdrawn: set[int] = set()

    def note(self, path: Path, bucket: str, reason: str = "") -> None:
        """Enter a file into the ledger."""
        self.ledger[str(path)] = (bucket, reason)

    def reject(self, path: Path, line: int, reason: str, image: int | None = None) -> None:
        """Record a label row that was rejected, and the row of its image where that is known."""
        self.rows.append((str(path), line, "rejected", reason))
        if image is not None:
            self.with_rejected.add(image)

    def repair(self, path: Path, line: int, reason: str) -> None:
        """Record a label row that was repaired."""
        self.rows.append((str(path), line, "repaired", reason))

    def is_accounted(self, path: Path) -> bool:
        """Whether a file is in the ledger, under its own path or that of a link to it."""
        return (
            str(path) in self.ledger
            or _printable(path) in self.ledger
            or (bool(self.reached) and os.path.realpath(path) in self.reached)
        )

    def identify(self, path: Path) -> str:
        """Id of an image: its path relative to the root, with forward slashes."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.as_posix()

    def add_image(self, path: Path, split: str) -> int | None:
        """Add an image as unlabelled; returns its row, or None if it is unusable or already in the ledger."""
        if str(path) in self.ledger:
            return None
        if _printable(path) != str(path):
            self.note(path, "failed", "file name is not valid UTF-8; rename it")
            return None
        try:
            width, height, remark = probe(path)
        except UnreadableImage as reason:
            self.note(path, "failed", str(reason))
            return None
        self.note(path, "used", remark)
        values = (self.identify(path), str(path), split, width, height, False, False)
        for column, value in zip(self.images.values(), values, strict=True):
            column.append(value)
        return len(self.images["image"]) - 1

    def size(self, row: int) -> tuple[int, int]:
        """Width and height of an added image, in pixels."""
        return self.images["width"][row], self.images["height"][row]

    def mark_labelled(self, row: int) -> None:
        """Mark an image as labelled, even if it has no annotations."""
        self.images["labelled"][row] = True

    def mark_unusable(self, row: int) -> None:
        """Mark an image as one whose labels cannot be used; it stays unlabelled."""
        self.images["unusable"][row] = True

    def unlabel(self, row: int) -> None:
        """Take an image's label back: its annotations cannot be told apart from those of another image."""
        self.images["labelled"][row] = False
        self.withdrawn.add(row)
        self.mark_unusable(row)

    def add_box(
        self,
        row: int,
        label: int,
        corners: Sequence[float],
        *,
        crowd: bool = False,
        outline: Sequence[float] = (),
        shape: Shape | None = None,
    ) -> None:
        """Add an annotation to an image; corners (x1, y1, x2, y2), and those of a rotated box (8),
        in pixels.
        """
        if shape is not None and self.kept_shapes:
            self.shapes[len(self.labels)] = shape
        if outline:
            self.outlines[len(self.labels)] = outline
        self.owners.append(row)
        self.labels.append(label)
        self.corners.extend(corners)
        self.crowds.append(crowd)

    def add_images(
        self,
        files: Iterable[Path],
        pairing: Pairing,
        split: Callable[[Path], str],
        *,
        expects_labels: bool,
    ) -> Iterator[tuple[int, Path]]:
        """Add the images among some files, and yield those that have a readable label file.

        Parameters
        ----------
        files
            Files of any kind.
        pairing
            Finds the label file of an image.
        split
            Returns the split of an image.
        expects_labels
            Whether the ledger remarks on images without a label file even if no image has one.

        Yields
        ------
        tuple[int, Path]
            Row of the image and its label file.
        """
        unlabelled: list[Path] = []
        image_files = [file for file in files if file.suffix.lower() in SUFFIXES]
        masked = masks_of(image_files, self.root)
        for file in image_files:
            if file in masked:
                self.note(file, "skipped", masked[file])
                continue
            row = self.add_image(file, split(file))
            if row is None:
                continue
            label = pairing.find(file)
            if label is None:
                unlabelled.append(file)
                continue
            expects_labels = True
            owner = pairing.reserve(file, label)
            if owner is not None:
                reason = f"unlabelled: {label.name} is also the label file of {owner.name}; rename one image"
                self.note(file, "used", reason)
            elif self._may_read(label):
                yield row, label
        for file in unlabelled if expects_labels else ():
            self.note(file, "used", "; ".join(filter(None, [UNLABELLED, self.ledger[str(file)][1]])))
        for folder in pairing.refused:
            self.note(folder, "skipped", outside_reason(folder))

    def _may_read(self, label: Path) -> bool:
        """Whether a label file is a regular file within the bounds; otherwise the ledger states why not."""
        try:
            if label.is_symlink() and not self.bounds.contain(label):
                self.note(label, "skipped", outside_reason(label))
                return False
            if not S_ISREG(os.stat(label).st_mode):
                self.note(label, "skipped", "not a regular file")
                return False
        except OSError as error:
            self.note(label, "failed", f"cannot be read ({error.strerror})")
            return False
        return True

    def add_pixel_box(
        self,
        position: Position,
        row: int,
        label: int,
        corners: Sequence[float],
        *,
        crowd: bool = False,
        repair: str = "",
        outline: Sequence[float] = (),
        shape: Shape | None = None,
    ) -> None:
        """Add an annotation whose corners are written in pixels, clipped to its image.

        Clipping by more than one pixel is recorded: VOC counts pixels from 1 and annotation tools round, so
        a box may end one pixel beyond the edge.

        Parameters
        ----------
        position
            The label row, for the record of rejected and repaired rows.
        row
            Row of the image.
        label
            Class index.
        corners
            x1, y1, x2, y2 in pixels.
        crowd
            Whether detections of it count neither for nor against a detector.
        repair
            A repair made before, in words.
        outline
            The four corners of a rotated box, (8,) pixels.
        shape
            Of the object; None for a box.
        """
        width, height = self.size(row)
        x1, y1, x2, y2 = (
            min(max(value, 0.0), float(edge))
            for value, edge in zip(corners, (width, height) * 2, strict=True)
        )
        if not np.isfinite(corners).all() or corners[2] <= corners[0] or corners[3] <= corners[1]:
            self.reject(*position, "width or height is not positive", row)
            return
        if x2 <= x1 or y2 <= y1:
            self.reject(*position, "box lies outside the image", row)
            return
        if max(abs(a - b) for a, b in zip(corners, (x1, y1, x2, y2), strict=True)) > 1:
            repair = "; ".join(filter(None, [repair, "clipped at the edge"]))
        if repair:
            self.repair(*position, repair)
        self.add_box(row, label, (x1, y1, x2, y2), crowd=crowd, outline=outline, shape=shape)

    def size_mismatch(self, row: int, written: tuple[int, int]) -> str:
        """Why boxes drawn on an image of the written size do not fit; empty if they do, or without a size."""
        real = self.size(row)
        # Tools that halve an image round its size by one pixel.
        if 0 in written or max(abs(a - b) for a, b in zip(written, real, strict=True)) <= 1:
            return ""
        turned = " (before its EXIF rotation, or with its sides exchanged)" if written == real[::-1] else ""
        return f"drawn on an image of {written[0]}x{written[1]}{turned}; this one is {real[0]}x{real[1]}"

    def add_label_file(self, path: Path, row: int) -> None:
        """Add the annotations of a YOLO label file to an image.

        An image whose label file is unreadable, or has only unusable rows, stays unlabelled.
        """
        try:
            rows, notes = read_labels(path, self.classes, self.pose)
        except (OSError, ValueError) as reason:
            self.note(path, "failed", str(reason))
            self.mark_unusable(row)
            return
        if not rows and any(note.action == "rejected" for note in notes):
            self.note(path, "failed", "none of its rows can be used; its image is kept as unlabelled")
            self.mark_unusable(row)
        else:
            self.note(path, "used")
            self.mark_labelled(row)
        width, height = self.size(row)
        for label, x1, y1, x2, y2, outline, shape in rows:
            points = [value * side for value, side in zip(outline, (width, height) * 4, strict=False)]
            corners = x1 * width, y1 * height, x2 * width, y2 * height
            self.add_box(row, label, corners, outline=points, shape=shape)
        self.rows += [(str(path), note.line, note.action, note.reason) for note in notes]

    def to_source(self, spec: str, kind: str) -> Source:
        """The finished tables. An image whose annotations were all rejected is unlabelled, not background."""
        for row in self.with_rejected - set(self.owners):
            if self.images["labelled"][row]:
                self.images["labelled"][row] = False
                self.mark_unusable(row)
                path = self.images["path"][row]
                self.note(Path(path), "used", "; ".join(filter(None, [UNUSABLE, self.ledger[path][1]])))
        count = len(self.images["image"])
        images = pd.DataFrame(self.images).assign(group="", seconds=float("nan"))
        names = images["image"].astype("str")
        annotations = pd.DataFrame(
            {
                "image": names.take(self.owners).array if count else [],
                "label": self.labels,
                **dict(zip(CORNERS, np.asarray(self.corners).reshape(-1, 4).T, strict=True)),
                "crowd": np.frombuffer(self.crowds, bool),
            }
        )
        if self.outlines:
            turned = np.full((len(annotations), len(ROTATED)), np.nan)
            corners = np.array(list(self.outlines.values()), float).reshape(-1, 4, 2)
            turned[list(self.outlines)] = rotated_of(corners)
            annotations[ROTATED] = turned
        if self.shapes:
            shapes = np.full(len(annotations), None, object)
            for at, shape in self.shapes.items():
                shapes[at] = shape
            annotations[SHAPE] = pd.Series(shapes, dtype=object)
        ledger = [(_escaped(path), *outcome) for path, outcome in self.ledger.items()]
        annotations = (
            annotations[~np.isin(self.owners, list(self.withdrawn))] if self.withdrawn else annotations
        )
        return Source(
            spec=spec,
            kind=kind,
            classes=self.classes,
            images=images[list(IMAGE_COLUMNS)].astype(IMAGE_COLUMNS),
            annotations=annotations.astype(BOX_COLUMNS).reset_index(drop=True),
            ledger=pd.DataFrame(ledger, columns=list(LEDGER_COLUMNS)).astype(LEDGER_COLUMNS),
            rows=pd.DataFrame(self.rows, columns=list(ROW_COLUMNS)).astype(ROW_COLUMNS),
        )

    def walk(self, folder: Path) -> Iterator[Path]:
        """Yield the regular files below a folder in a fixed order.

        Links are followed within the bounds, hidden names are left out, and skipped entries enter the ledger.
        """
        # Each folder is read once, however many links lead to it: links can form cycles and mazes.
        top = os.path.realpath(folder)
        visited = {top}
        waiting = [(folder, top, folder.is_symlink())]
        while waiting:
            current, real_current, linked = waiting.pop()
            try:
                entries = sorted(os.scandir(current), key=lambda entry: entry.name)
            except OSError as error:
                self.note(current, "failed", f"folder cannot be read ({error.strerror})")
                continue
            below: list[tuple[Path, str, bool]] = []
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = Path(entry.path)
                reason = self._refused(path, visited) if entry.is_symlink() else ""
                if reason:
                    self.note(path, "skipped", reason)
                elif entry.is_dir() and is_output(path):
                    self.note(path, "skipped", "written by a training or a report: not data")
                elif entry.is_dir():
                    link = entry.is_symlink()
                    real = os.path.realpath(path) if link else os.path.join(real_current, entry.name)
                    if real not in visited:
                        visited.add(real)
                        below.append((path, real, linked or link))
                elif not entry.is_file():
                    self.note(path, "skipped", "not a regular file")
                else:
                    if linked:
                        self.reached.add(os.path.realpath(path))
                    yield path
            waiting += reversed(below)

    def _refused(self, link: Path, visited: set[str]) -> str:
        """Why a symbolic link is not followed; empty if it is."""
        try:
            os.stat(link)
        except OSError as error:
            return f"link to nowhere ({error.strerror})"
        if not self.bounds.contain(link):
            return outside_reason(link)
        return "link to a folder that was already read" if os.path.realpath(link) in visited else ""


def masks_of(image_files: Sequence[Path], root: Path) -> dict[Path, str]:
    """Images that are masks of others, going by their folder or name, each with the reason."""
    outside = {p.stem.lower() for p in image_files if not _is_in(p, root, LABEL_FOLDERS)}
    places = {(p.parent, p.stem.lower()) for p in image_files}
    elsewhere = Counter(stem for _, stem in places)
    masks = {}
    for file in image_files:
        stem = file.stem.lower()
        in_masks = file.parent.name.lower() in MASK_FOLDERS and file.parent != root
        # Faces with masks may lie in a folder of that name.
        if in_masks and elsewhere[stem] > 1:
            masks[file] = "a mask, going by its folder"
        elif file.suffix.lower() == ".png" and _is_in(file, root, LABEL_FOLDERS) and stem in outside:
            masks[file] = "a mask, going by its folder of labels"
        elif any(stem.endswith(end) and (file.parent, stem.removesuffix(end)) in places for end in MASK_ENDS):
            masks[file] = "a mask, going by its name"
    return masks


def _is_in(path: Path, root: Path, names: frozenset[str]) -> bool:
    """Whether a folder between root and a file has one of these names."""
    inside = path.parent.relative_to(root).parts if path.is_relative_to(root) else ()
    return any(part.lower() in names for part in inside)


def is_output(folder: Path) -> bool:
    """Whether a folder below a source was written by a training, a prediction or a report."""
    if folder.name == "runs":
        return any((folder / name).is_dir() for name in RUNS)
    return any((folder / name).is_file() for name in OUTPUTS)


def _printable(path: Path) -> str:
    """A path as text that is valid UTF-8; undecodable bytes become escapes."""
    return _escaped(str(path))


def _escaped(path: str) -> str:
    """A file name with undecodable bytes as escapes."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        # A name from a json, which no file can have.
        return path.encode("utf-8", "backslashreplace").decode("utf-8")
