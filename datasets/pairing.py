"""Which label file belongs to which image, in every folder layout that people use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from datasets.containment import OPTION, Bounds

IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "jpegimages"})
LABEL_FOLDERS = frozenset({"labels", "label", "annotations", "annotation", "xmls"})
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# COCO writes the year behind it, others a word before, a number, or what is in it (train_images).
_SPLIT = re.compile(
    r"(?:^|[-_. ])(train|training|val|valid|validation|test|testing)([-_. ]?\d*|[-_. ](images|imgs|labels))$",
    re.IGNORECASE,
)
_IMAGES = re.compile(r"(?<![a-z])(images|imgs)(?![a-z])", re.IGNORECASE)


def split_of(names: tuple[str, ...]) -> str:
    """Split that folder names spell, the innermost first; empty where none does."""
    for name in reversed(names):
        found = _SPLIT.search(name)
        if found:
            return SPLITS[found.group(1).lower()]
    return ""


def leads_out(path: Path) -> str:
    """The reason of a ledger line for something that is not followed. The folder to allow is the whole dataset's, so that labels come along."""
    real = Path(os.path.realpath(path))
    known = IMAGE_FOLDERS | LABEL_FOLDERS
    around = next((place.parent for place in real.parents if place.name.lower() in known), real.parent)
    return f"leads out of the source, to {real.parent}; if it is yours: {OPTION} {around}"


def enclosing_roots(folders: Iterable[Path]) -> list[Path]:
    """Folders of images, and those that their labels are looked for in, as far as they are there."""
    found: dict[Path, None] = {}
    for folder in folders:
        root = dataset_root(folder)
        pairing = Pairing(root, ".txt", Bounds.of([root]))
        for place in (folder, *pairing.places_for(folder)):
            if place.is_dir():
                found.setdefault(place)
    return list(found)


def dataset_root(folder: Path) -> Path:
    """The folder that holds images and labels: what lies around a folder "images", since labels lie beside that; else the folder itself."""
    for place in (folder, *folder.parents):
        if place.name.lower() in IMAGE_FOLDERS:
            return place.parent
    return folder


class Pairing:
    """Finds the label file of an image. root: the dataset's folder. suffix: of label files, ".txt" or ".xml".

    Looked for, in this order: in the folder of labels beside the image's folder "images" (also one called image, imgs or JPEGImages, in any case), in that
    image's own folder, and in a folder of labels beside or around it, with and without the split's name. Ultralytics replaces the last "/images/"
    of a path literally, and takes every other layout for a dataset without labels.
    """

    def __init__(self, root: Path, suffix: str, bounds: Bounds) -> None:
        self.root = root
        self.suffix = suffix
        self.bounds = bounds
        # Folders of labels that lie out of the bounds, by way of a link.
        self.refused: list[Path] = []
        self.places: dict[Path, list[Path]] = {}
        self.listings: dict[Path, dict[str, str]] = {}
        self.owners: dict[Path, Path] = {}

    def find(self, image: Path) -> Path | None:
        """The label file of an image, None where there is none."""
        for place in self.places_for(image.parent):
            name = self._listing(place).get(image.stem)
            if name is not None:
                return place / name
        return None

    def places_for(self, folder: Path) -> list[Path]:
        """Folders in which the labels of a folder's images are looked for, in this order; not all need exist."""
        places = self.places.get(folder)
        if places is None:
            places = self.places[folder] = list(dict.fromkeys(self._places(folder)))
        return places

    def claim(self, image: Path, label: Path) -> Path | None:
        """Take a label file for an image; returns the image that has it already (a.jpg and a.png would share a.txt), else None."""
        owner = self.owners.setdefault(label, image)
        return None if owner == image else owner

    def candidates(self) -> Iterator[Path]:
        """Every label file in the folders that were looked into."""
        for place in sorted(self.listings):
            for name in sorted(self.listings[place].values()):
                yield place / name

    def _places(self, folder: Path) -> Iterator[Path]:
        inside = folder.is_relative_to(self.root)
        # Images that a list names elsewhere: what lies around their own folder is their dataset.
        root = self.root if inside else dataset_root(folder)
        root = folder.parent if root == folder and not inside else root
        parts = folder.relative_to(root).parts
        for depth in range(len(parts), 0, -1):
            if parts[depth - 1].lower() in IMAGE_FOLDERS:
                for place in label_folders(root.joinpath(*parts[: depth - 1])):
                    yield place.joinpath(*parts[depth:])
                break
            if _IMAGES.search(parts[depth - 1]):
                # train_images and train_labels.
                other = _IMAGES.sub("labels", parts[depth - 1])
                yield root.joinpath(*parts[: depth - 1], other, *parts[depth:])
        yield folder
        for depth in range(len(parts), -1, -1):
            rest = parts[depth:]
            for place in label_folders(root.joinpath(*parts[:depth])):
                yield place.joinpath(*rest)
                if len(rest) == 1:
                    yield place

    def _listing(self, folder: Path) -> dict[str, str]:
        """Stem -> name of the label files in a folder."""
        found = self.listings.get(folder)
        if found is None:
            names: list[str] = []
            if folder.is_dir():
                if self.bounds.hold(folder):
                    with suppress(OSError):
                        names = sorted(os.listdir(folder))
                else:
                    self.refused.append(folder)
            found = {
                name[: -len(self.suffix)]: name
                for name in reversed(names)
                if name.lower().endswith(self.suffix) and not name.startswith(".")
            }
            self.listings[folder] = found
        return found


def label_folders(folder: Path) -> list[Path]:
    """Folders of labels in a folder, by name, and those within them (annotations/xmls)."""
    try:
        found = sorted(folder / name for name in os.listdir(folder) if name.lower() in LABEL_FOLDERS)
    except OSError:
        return []
    return [*found, *(place / "xmls" for place in found if (place / "xmls").is_dir())]
