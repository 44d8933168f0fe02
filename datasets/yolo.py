"""YOLO labels: datasets with a data.yaml, folders in any layout without one, and lists of images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from datasets import video
from datasets.collector import VIDEO, Collector
from datasets.containment import Bounds, vouched
from datasets.data_yaml import DataYaml, is_there, read_data_yaml
from datasets.errors import InputError
from datasets.pairing import Pairing, dataset_root, leads_out, split_of
from datasets.pixels import SUFFIXES
from datasets.tables import Source

# Files that libraries load beside images and labels, and that can run code when they are loaded.
DANGEROUS = frozenset({".cache", ".npy", ".npz", ".pt", ".pth", ".pkl", ".pickle", ".joblib"})
OTHER = {
    ".json": "not read; if it is a COCO file, give it as the source",
    ".xml": "not read; Pascal VOC files are, in a folder without YOLO labels",
    **dict.fromkeys((".heic", ".heif"), "HEIC image: convert it to JPEG"),
    **dict.fromkeys((".gif", ".svg"), "not a photograph"),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".rar", ".7z"), "archive: unpack it first"),
    **dict.fromkeys(DANGEROUS, "never read: loading it could run code"),
}
# One path a line: a million of them.
MAX_LIST_BYTES = 256_000_000
CLASS_FILES = ("classes.txt", "obj.names", "labels.names")


def open_yaml(spec: str, path: Path, bounds: Bounds, cache: Path) -> Source:
    """All splits of a data.yaml. An image named by two splits stays in the first (train before val before test). Raises InputError."""
    bounds = bounds.wider(*vouched(path, cache))
    data_yaml = read_data_yaml(path, bounds)
    collector = Collector(path.parent, data_yaml.classes, bounds, data_yaml.pose)
    collector.note(path, "used")
    pairing = Pairing(path.parent, ".txt", bounds)
    remarks = [data_yaml.remark]
    split_of: dict[str, str] = {}
    for split in ("train", "val", "test"):
        files = list(
            dict.fromkeys(
                file
                for entry in data_yaml.splits.get(split, [])
                for file in _entries(data_yaml, entry, collector)
            )
        )
        take(collector, pairing, files, split)
        images = [str(file) for file in files if file.suffix.lower() in SUFFIXES]
        shared = Counter(split_of[file] for file in images if file in split_of)
        if images and shared["train"] == len(images):
            raise InputError(
                f"{path}: every image of '{split}' is one of 'train' too; scores on it would be scores on training data"
            )
        for other, number in shared.items():
            remarks.append(f"{number} images of '{split}' are some of '{other}' too, and were left there")
        split_of |= {file: split for file in images if file not in split_of}
    collector.note(path, "used", "; ".join(filter(None, ["dataset description", *remarks])))
    leftovers(collector, pairing, _scope(data_yaml))
    return collector.source(spec, "yolo")


def _entries(data_yaml: DataYaml, entry: Path, collector: Collector) -> Iterator[Path]:
    """Files of one entry of a split: a folder, or a text file that lists images."""
    return collector.walk(entry) if entry.is_dir() else _listed(entry, data_yaml.root, collector)


def _scope(data_yaml: DataYaml) -> list[Path]:
    """Folders whose every file a data.yaml answers for: its own, where all its splits lie below it; else each split's."""
    folders = [
        entry if entry.is_dir() else entry.parent
        for entries in data_yaml.splits.values()
        for entry in entries
    ]
    around = [dataset_root(split_of) for split_of in folders]
    common = Path(os.path.commonpath(around))
    # Where train/ and valid/ hold images/ each, what they share is one level up.
    return [common] if common.is_relative_to(data_yaml.root) else sorted(set(around))


def open_folder(spec: str, folder: Path, classes: Sequence[str], bounds: Bounds) -> Source:
    """Every image below a folder, whatever its layout; split by its folders' names, labelled where `Pairing` finds a YOLO file.

    classes: the model's, because a folder names none; a classes.txt in it does, and then says what its labels mean. With no label file anywhere the domain is unlabelled.
    Raises InputError when files of class names contradict each other.
    """
    root = dataset_root(folder)
    collector = Collector(folder, classes, bounds)
    files = list(collector.walk(folder))
    collector.classes = _class_list(spec, files, collector) or collector.classes
    pairing = Pairing(root, ".txt", bounds)
    take(collector, pairing, files, None)
    leftovers(collector, pairing, [folder])
    return collector.source(spec, "folder")


def open_list(spec: str, path: Path, classes: Sequence[str], bounds: Bounds) -> Source:
    """The images that a text file lists, one a line, relative to it or absolute; labelled where `Pairing` finds a YOLO file."""
    collector = Collector(path.parent, classes, bounds)
    take(collector, Pairing(path.parent, ".txt", bounds), _listed(path, path.parent, collector), None)
    return collector.source(spec, "list")


def open_image(spec: str, path: Path, classes: Sequence[str], bounds: Bounds) -> Source:
    """One image, with its labels where it has any."""
    collector = Collector(path.parent, classes, bounds)
    take(collector, Pairing(dataset_root(path.parent), ".txt", bounds), [path], None)
    return collector.source(spec, "image")


def _class_list(spec: str, files: Iterable[Path], collector: Collector) -> tuple[str, ...]:
    """Class names from a classes.txt among the files, one a line; none where there is none. Raises InputError when two of them differ."""
    found: dict[tuple[str, ...], Path] = {}
    for file in files:
        if file.name.lower() in CLASS_FILES and file.stat().st_size < 1_000_000:
            try:
                names = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
            except (OSError, UnicodeDecodeError):
                continue
            names = [name for name in names if name]
            if names and len(set(names)) == len(names):
                collector.note(file, "used", "class names")
                found.setdefault(tuple(names), file)
    if len(found) > 1:
        raise InputError(
            f"{spec}: {' and '.join(map(str, list(found.values())[:2]))} name the classes differently; give one folder at a time"
        )
    return next(iter(found), ())


def take(collector: Collector, pairing: Pairing, files: Iterable[Path], split: str | None) -> None:
    """Take images and their labels. split: what they all belong to, None to read it off their folders."""

    def named(file: Path) -> str:
        inside = file.is_relative_to(collector.root)
        return split_of(file.parent.relative_to(collector.root).parts) if inside else ""

    splits = named if split is None else lambda file: split
    for row, label in collector.paired(files, pairing, splits, expects_labels=split is not None):
        collector.yolo(label, row)


def _listed(path: Path, root: Path, collector: Collector) -> Iterator[Path]:
    """Images that a text file lists, relative to it or to root. Those that are missing or lead out stand in the ledger.

    Raises InputError when the file is no text, or names nothing that exists.
    """
    collector.note(path, "used", "list of images")
    try:
        if not path.is_file() or path.stat().st_size > MAX_LIST_BYTES:
            raise InputError(
                f"{path}: not a regular file of at most {MAX_LIST_BYTES // 1_000_000} MB, as a list of images is"
            )
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; a list of images has one path a line") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, start=1):
        name = line.strip().replace("\\", "/").replace("\0", "")
        if not name:
            continue
        places = [
            Path(os.path.normpath(base / rest)) for rest in _shortened(name) for base in (path.parent, root)
        ]
        there = [place for place in places if is_there(place)]
        inside = [place for place in there if collector.bounds.hold(place)]
        if inside:
            yield inside[0]
        elif there:
            collector.note(there[0], "skipped", leads_out(there[0]))
        elif str(places[0]) not in collector.ledger:
            collector.note(places[0], "failed", f"listed in {path.name}:{number}, but not on disk")


def _shortened(name: str) -> list[str]:
    """A name in a list, and the same without its first folder or two: Darknet's lists name images from the folder that training ran in."""
    parts = name.split("/")
    return [name, *("/".join(parts[skip:]) for skip in (1, 2) if len(parts) > skip + 1)]


def leftovers(collector: Collector, pairing: Pairing, folders: Iterable[Path]) -> None:
    """Account for every other file of these folders, and for label files in the folders that labels were looked for in."""
    for file in pairing.candidates():
        if not collector.accounted(file) and file.name.lower() not in CLASS_FILES:
            collector.note(file, "skipped", "label without an image")
    for folder in folders:
        account(collector, folder)


def account(collector: Collector, folder: Path) -> None:
    """Put every file of a folder that stands nowhere yet into the ledger."""
    for file in collector.walk(folder):
        if not collector.accounted(file):
            collector.note(file, "skipped", _passed_over(file))


def _passed_over(file: Path) -> str:
    """Why a file was not used."""
    suffix = file.suffix.lower()
    if suffix in SUFFIXES:
        return "image in none of the splits"
    if suffix in video.SUFFIXES:
        return VIDEO
    if file.name.lower() in CLASS_FILES:
        return "class names, which the data.yaml gives already"
    return OTHER.get(suffix, "not an image or label file")
