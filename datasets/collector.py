"""Gathering the tables while files are visited: every file that is met ends in the ledger once."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from stat import S_ISREG
from typing import Any

import numpy as np
import pandas as pd

from datasets.containment import Bounds
from datasets.labels import read_labels
from datasets.pairing import Pairing, leads_out
from datasets.pixels import SUFFIXES, UnreadableImage, probe
from datasets.tables import BOX_COLUMNS, CORNERS, IMAGE_COLUMNS, LEDGER_COLUMNS, ROW_COLUMNS, Source

VIDEO = "a video; give it as a source of its own"
# Files beside images that would be taken for images: outlines of objects, pixel by pixel.
MASK_FOLDERS = frozenset({"segmentationclass", "segmentationobject", "masks", "mask"})
UNLABELLED = "no label file: kept as unlabelled, not as background"


class Collector:
    """The growing tables of one source, column by column: a dataset of 50,000 images must not need more memory than its tables."""

    def __init__(self, root: Path, classes: Sequence[str], bounds: Bounds, pose: int = 0) -> None:
        self.root = root
        self.pose = pose
        self.classes = tuple(classes)
        self.bounds = bounds
        self.images: dict[str, list[Any]] = {
            name: [] for name in ("image", "path", "split", "width", "height", "labelled")
        }
        # Which image, which class; the four corners; crowd.
        self.owners, self.labels = array("q"), array("q")
        self.corners = array("d")
        self.crowds = bytearray()
        self.ledger: dict[str, tuple[str, str]] = {}
        # Where files really lie that were reached by way of a link to a folder.
        self.reached: set[str] = set()
        self.rows: list[tuple[str, int, str, str]] = []

    def note(self, path: Path, bucket: str, reason: str = "") -> None:
        """Put a file into its bucket."""
        self.ledger[str(path)] = (bucket, reason)

    def reject(self, path: Path, line: int, reason: str) -> None:
        """Note a label row that was not taken."""
        self.rows.append((str(path), line, "rejected", reason))

    def repair(self, path: Path, line: int, reason: str) -> None:
        """Note a label row that was repaired."""
        self.rows.append((str(path), line, "repaired", reason))

    def accounted(self, path: Path) -> bool:
        """Whether a file stands in the ledger, if need be under the link by which it was reached."""
        return (
            str(path) in self.ledger
            or _printable(path) in self.ledger
            or (bool(self.reached) and os.path.realpath(path) in self.reached)
        )

    def identify(self, path: Path) -> str:
        """Id of an image: its path below the root, with forward slashes."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.as_posix()

    def image(self, path: Path, split: str) -> int | None:
        """Take an image, unlabelled as yet; returns its row, or None when the ledger says why not, or has it already."""
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
        values = (self.identify(path), str(path), split, width, height, False)
        for column, value in zip(self.images.values(), values, strict=True):
            column.append(value)
        return len(self.images["image"]) - 1

    def size(self, row: int) -> tuple[int, int]:
        """Width and height of an image taken, in pixels."""
        return self.images["width"][row], self.images["height"][row]

    def labelled(self, row: int) -> None:
        """Say that an image's labels are known, also where there are none in it."""
        self.images["labelled"][row] = True

    def box(
        self, row: int, label: int, x1: float, y1: float, x2: float, y2: float, *, crowd: bool = False
    ) -> None:
        """Take one object of an image; corners in pixels."""
        self.owners.append(row)
        self.labels.append(label)
        self.corners.extend((x1, y1, x2, y2))
        self.crowds.append(crowd)

    def paired(
        self,
        files: Iterable[Path],
        pairing: Pairing,
        split: Callable[[Path], str],
        *,
        expects_labels: bool,
    ) -> Iterator[tuple[int, Path]]:
        """Take the images among files, and give those that have a label file which may be read: row and label file. What the others lack stands in the ledger.

        split: of an image. expects_labels: whether an image without a label file is worth a remark even where none has one.
        """
        unlabelled: list[Path] = []
        for file in files:
            if file.suffix.lower() not in SUFFIXES:
                continue
            if file.parent.name.lower() in MASK_FOLDERS and file.parent != self.root:
                self.note(file, "skipped", "a mask, going by its folder")
                continue
            row = self.image(file, split(file))
            if row is None:
                continue
            label = pairing.find(file)
            if label is None:
                unlabelled.append(file)
                continue
            expects_labels = True
            owner = pairing.claim(file, label)
            if owner is not None:
                reason = f"unlabelled: {label.name} is the label file of {owner.name} too; rename one image"
                self.note(file, "used", reason)
            elif self._may_read(label):
                yield row, label
        for file in unlabelled if expects_labels else ():
            self.note(file, "used", "; ".join(filter(None, [UNLABELLED, self.ledger[str(file)][1]])))
        for place in pairing.refused:
            self.note(place, "skipped", leads_out(place))

    def _may_read(self, label: Path) -> bool:
        """Whether a label file is a regular file within the bounds, at the end of its links; the ledger says why not."""
        try:
            if label.is_symlink() and not self.bounds.hold(label):
                self.note(label, "skipped", leads_out(label))
                return False
            if not S_ISREG(os.stat(label).st_mode):
                self.note(label, "skipped", "not a regular file")
                return False
        except OSError as error:
            self.note(label, "failed", f"cannot be read ({error.strerror})")
            return False
        return True

    def pixel_box(
        self,
        path: Path,
        line: int,
        row: int,
        label: int,
        corners: Sequence[float],
        *,
        crowd: bool = False,
        repair: str = "",
    ) -> None:
        """Take an object whose corners (x1, y1, x2, y2) are written in pixels, clipped to its image; the place in its file is noted where that is more than rounding.

        VOC counts pixels from 1 and annotation tools round, so that a box may end one pixel beyond.
        """
        width, height = self.size(row)
        x1, y1, x2, y2 = (
            min(max(value, 0.0), float(edge))
            for value, edge in zip(corners, (width, height) * 2, strict=True)
        )
        if not np.isfinite(corners).all() or corners[2] <= corners[0] or corners[3] <= corners[1]:
            self.reject(path, line, "width or height is not positive")
            return
        if x2 <= x1 or y2 <= y1:
            self.reject(path, line, "box lies outside the image")
            return
        if max(abs(a - b) for a, b in zip(corners, (x1, y1, x2, y2), strict=True)) > 1:
            repair = "; ".join(filter(None, [repair, "clipped at the edge"]))
        if repair:
            self.repair(path, line, repair)
        self.box(row, label, x1, y1, x2, y2, crowd=crowd)

    def drawn_elsewhere(self, row: int, written: tuple[int, int]) -> str:
        """Why boxes drawn on an image of this size do not fit the one that was taken; nothing where they do, or where no size is given."""
        real = self.size(row)
        # A pixel is what tools round away when they halve an image.
        if 0 in written or max(abs(a - b) for a, b in zip(written, real, strict=True)) <= 1:
            return ""
        turned = " (the unturned image)" if written == real[::-1] else ""
        return f"drawn on an image of {written[0]}x{written[1]}{turned}, this one is {real[0]}x{real[1]}"

    def yolo(self, path: Path, row: int) -> None:
        """Take a YOLO label file for an image that was taken. A file that cannot be read, or of which no row can be used, leaves it unlabelled, and says so."""
        try:
            rows, notes = read_labels(path, self.classes, self.pose)
        except (OSError, ValueError) as reason:
            self.note(path, "failed", str(reason))
            return
        if not rows and any(note.action == "rejected" for note in notes):
            self.note(path, "failed", "none of its rows could be used; its image is kept as unlabelled")
        else:
            self.note(path, "used")
            self.labelled(row)
        width, height = self.size(row)
        for label, x1, y1, x2, y2 in rows:
            self.box(row, label, x1 * width, y1 * height, x2 * width, y2 * height)
        self.rows += [(str(path), note.line, note.action, note.reason) for note in notes]

    def source(self, spec: str, kind: str) -> Source:
        """The finished tables."""
        count = len(self.images["image"])
        images = pd.DataFrame(self.images).assign(group="", seconds=float("nan"))
        names = images["image"].astype("str")
        boxes = pd.DataFrame(
            {
                "image": names.take(self.owners).array if count else [],
                "label": self.labels,
                **dict(zip(CORNERS, np.asarray(self.corners).reshape(-1, 4).T, strict=True)),
                "crowd": np.frombuffer(self.crowds, bool),
            }
        )
        ledger = [(_escaped(path), *verdict) for path, verdict in self.ledger.items()]
        return Source(
            spec=spec,
            kind=kind,
            classes=self.classes,
            images=images[list(IMAGE_COLUMNS)].astype(IMAGE_COLUMNS),
            annotations=boxes.astype(BOX_COLUMNS),
            ledger=pd.DataFrame(ledger, columns=list(LEDGER_COLUMNS)).astype(LEDGER_COLUMNS),
            rows=pd.DataFrame(self.rows, columns=list(ROW_COLUMNS)).astype(ROW_COLUMNS),
        )

    def walk(self, folder: Path) -> Iterator[Path]:
        """Regular files below a folder in a fixed order, links followed within the bounds; what is passed over stands in the ledger. Hidden names are left out."""
        # A folder is read once, by whatever links it is reached: links can make a maze of it.
        top = os.path.realpath(folder)
        seen = {top}
        waiting = [(folder, top, folder.is_symlink())]
        while waiting:
            place, real_place, linked = waiting.pop()
            try:
                entries = sorted(os.scandir(place), key=lambda entry: entry.name)
            except OSError as error:
                self.note(place, "failed", f"folder cannot be read ({error.strerror})")
                continue
            below: list[tuple[Path, str, bool]] = []
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = Path(entry.path)
                reason = self._refused(path, seen) if entry.is_symlink() else ""
                if reason:
                    self.note(path, "skipped", reason)
                elif entry.is_dir():
                    link = entry.is_symlink()
                    real = os.path.realpath(path) if link else os.path.join(real_place, entry.name)
                    if real not in seen:
                        seen.add(real)
                        below.append((path, real, linked or link))
                elif not entry.is_file():
                    self.note(path, "skipped", "not a regular file")
                else:
                    if linked:
                        self.reached.add(os.path.realpath(path))
                    yield path
            waiting += reversed(below)

    def _refused(self, link: Path, seen: set[str]) -> str:
        """Why a symbolic link is not followed, or nothing."""
        try:
            os.stat(link)
        except OSError as error:
            return f"link to nowhere ({error.strerror})"
        if not self.bounds.hold(link):
            return leads_out(link)
        return "link to a folder that is read already" if os.path.realpath(link) in seen else ""


def _printable(path: Path) -> str:
    """A path as text that can be written anywhere; undecodable bytes become escapes."""
    return _escaped(str(path))


def _escaped(path: str) -> str:
    """A file name as the system gave it, with undecodable bytes as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
