"""Matching label files to images, in every folder layout in common use."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from datasets.containment import OPTION, Bounds

IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "jpegimages", "image_2"})
LABEL_FOLDERS = frozenset({"labels", "label", "annotations", "annotation", "xmls", "labeltxt", "label_2"})
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# COCO appends the year; other exports prepend a word, or append a number or the kind of file (train_images).
_SPLIT = re.compile(
    r"(?:^|[-_. ])(train|training|val|valid|validation|test|testing)([-_. ]?\d*|[-_. ](images|imgs|labels))$",
    re.IGNORECASE,
)
_IMAGES = re.compile(r"(?<![a-z])(images|imgs)(?![a-z])", re.IGNORECASE)


def split_of(names: tuple[str, ...]) -> str:
    """The split that folder names contain, the innermost first; empty if none does."""
    for name in reversed(names):
        match = _SPLIT.search(name)
        if match:
            return SPLITS[match.group(1).lower()]
    return ""


def outside_reason(path: Path) -> str:
    """Ledger reason for a path outside the source.

    The folder it suggests to allow is that of the whole dataset, so that the labels are included.
    """
    real = Path(os.path.realpath(path))
    names = IMAGE_FOLDERS | LABEL_FOLDERS
    root = next((parent.parent for parent in real.parents if parent.name.lower() in names), real.parent)
    return f"leads out of the source, to {real.parent}; if it is yours, add {OPTION} {root}"


def enclosing_roots(folders: Iterable[Path]) -> list[Path]:
    """Folders of images and the existing folders that may hold their labels."""
    roots: dict[Path, None] = {}
    for folder in folders:
        root = dataset_root(folder)
        pairing = Pairing(root, ".txt", Bounds.of([root]))
        for candidate in (folder, *pairing.label_folders_of(folder)):
            if candidate.is_dir():
                roots.setdefault(candidate)
    return list(roots)


def dataset_root(folder: Path) -> Path:
    """The folder that holds both images and labels.

    This is the parent of a folder named "images", since labels lie beside it; otherwise the folder itself.
    """
    for candidate in (folder, *folder.parents):
        if candidate.name.lower() in IMAGE_FOLDERS:
            return candidate.parent
    return folder


def same_name(name: str) -> str:
    """A name as it compares across computers: macOS writes accents apart, and Windows does not tell case."""
    return unicodedata.normalize("NFC", name).casefold()


class Pairing:
    """Finds the label file of an image.

    Folders are searched in this order: the folder of labels beside the image's folder "images" (also image,
    imgs or JPEGImages, in any case), the image's own folder, and a folder of labels beside or above it, with
    and without the split's name. Ultralytics replaces the last "/images/" of a path literally, and treats
    every other layout as a dataset without labels.

    root: the dataset's folder.
    suffix: suffix of label files, ".txt" or ".xml".
    bounds: folders that may be read.
    extra: a folder of labels that is searched last, for all images.
    refused: folders of labels outside the bounds, reached through a link.
    searched: image folder -> folders that may hold its labels, in order.
    listings: folder -> stem -> name of the label files in it.
    alike: the same by stems as `same_name` writes them.
    stems: image folder -> stems of all files in it.
    owners: label file -> the image that it belongs to.
    """

    def __init__(self, root: Path, suffix: str, bounds: Bounds, extra: Path | None = None) -> None:
        self.root = root
        self.suffix = suffix
        self.bounds = bounds
        self.extra = extra
        self.refused: list[Path] = []
        self.searched: dict[Path, list[Path]] = {}
        self.listings: dict[Path, dict[str, str]] = {}
        self.alike: dict[Path, dict[str, str]] = {}
        self.stems: dict[Path, set[str]] = {}
        self.owners: dict[Path, Path] = {}

    def find(self, image: Path) -> Path | None:
        """The label file of an image, None if it has none."""
        for folder in self.label_folders_of(image.parent):
            name = self._listing(folder).get(image.stem)
            if name is not None:
                return folder / name
        wanted = same_name(image.stem)
        for folder in self.label_folders_of(image.parent):
            name = self._alike(folder).get(wanted)
            # Where a file system tells case, a.txt belongs to a.jpg and not to A.jpg beside it.
            if name is not None and name[: -len(self.suffix)] not in self._stems(image.parent):
                return folder / name
        return None

    def _alike(self, folder: Path) -> dict[str, str]:
        """Stem as `same_name` writes it -> name of the label files in a folder."""
        if folder not in self.alike:
            self.alike[folder] = {same_name(stem): name for stem, name in self._listing(folder).items()}
        return self.alike[folder]

    def _stems(self, folder: Path) -> set[str]:
        """Stems of the files in a folder of images, label files apart."""
        if folder not in self.stems:
            with suppress(OSError):
                self.stems[folder] = {
                    Path(name).stem for name in os.listdir(folder) if not name.lower().endswith(self.suffix)
                }
        return self.stems.get(folder, set())

    def label_folders_of(self, folder: Path) -> list[Path]:
        """Folders that may hold the labels of a folder's images, in search order; not all need exist."""
        candidates = self.searched.get(folder)
        if candidates is None:
            candidates = self.searched[folder] = list(dict.fromkeys(self._candidate_folders(folder)))
        return candidates

    def reserve(self, image: Path, label: Path) -> Path | None:
        """Assign a label file to an image; returns the image that has it already, else None."""
        # a.jpg and a.png share a.txt.
        owner = self.owners.setdefault(label, image)
        return None if owner == image else owner

    def label_files(self) -> Iterator[Path]:
        """Every label file in the folders searched so far."""
        for folder in sorted(self.listings):
            for name in sorted(self.listings[folder].values()):
                yield folder / name

    def _candidate_folders(self, folder: Path) -> Iterator[Path]:
        """Folders that may hold the labels of a folder's images, possibly repeated."""
        inside = folder.is_relative_to(self.root)
        # For images that a list names elsewhere, the folder around their own folder is the dataset.
        root = self.root if inside else dataset_root(folder)
        root = folder.parent if root == folder and not inside else root
        parts = folder.relative_to(root).parts
        for depth in range(len(parts), 0, -1):
            if parts[depth - 1].lower() in IMAGE_FOLDERS:
                for labels in label_folders(root.joinpath(*parts[: depth - 1])):
                    yield labels.joinpath(*parts[depth:])
                    if depth < len(parts):
                        # images/train and labels/train_labels.
                        yield labels.joinpath(*parts[depth:-1], f"{parts[-1]}_labels")
                break
            if _IMAGES.search(parts[depth - 1]):
                # train_images and train_labels.
                other = _IMAGES.sub("labels", parts[depth - 1])
                yield root.joinpath(*parts[: depth - 1], other, *parts[depth:])
        yield folder
        for depth in range(len(parts), -1, -1):
            rest = parts[depth:]
            for labels in label_folders(root.joinpath(*parts[:depth])):
                yield labels.joinpath(*rest)
                if len(rest) == 1:
                    yield labels
        if self.extra is not None:
            yield self.extra

    def _listing(self, folder: Path) -> dict[str, str]:
        """Stem -> name of the label files in a folder."""
        listing = self.listings.get(folder)
        if listing is None:
            names: list[str] = []
            if folder.is_dir():
                if self.bounds.contain(folder):
                    with suppress(OSError):
                        names = sorted(os.listdir(folder))
                else:
                    self.refused.append(folder)
            listing = {
                name[: -len(self.suffix)]: name
                for name in reversed(names)
                if name.lower().endswith(self.suffix) and not name.startswith(".")
            }
            self.listings[folder] = listing
        return listing


def label_folders(folder: Path) -> list[Path]:
    """Folders of labels in a folder, going by their names, and annotations/xmls within them."""
    try:
        folders = sorted(folder / name for name in os.listdir(folder) if name.lower() in LABEL_FOLDERS)
    except OSError:
        return []
    return [*folders, *(labels / "xmls" for labels in folders if (labels / "xmls").is_dir())]
