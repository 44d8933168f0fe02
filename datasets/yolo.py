"""YOLO datasets: a data.yaml with its splits, and plain folders of pictures with or without labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datasets.errors import InputError
from datasets.labels import read_labels
from datasets.pixels import SUFFIXES, UnreadablePicture, probe
from datasets.tables import BOX_COLUMNS, IMAGE_COLUMNS, LEDGER_COLUMNS, ROW_COLUMNS, Source, frame

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
MAX_YAML_BYTES = 1_000_000


@dataclass(frozen=True)
class Card:
    """What a data.yaml says. splits: split name -> folders or list files, resolved."""

    path: Path
    classes: tuple[str, ...]
    splits: dict[str, list[Path]]


class Collector:
    """Gathers the rows of the tables while files are visited; every file ends in the ledger once."""

    def __init__(self, root: Path, classes: Sequence[str]) -> None:
        self.root = root
        self.classes = tuple(classes)
        self.images: list[dict[str, object]] = []
        self.boxes: list[dict[str, object]] = []
        self.ledger: dict[str, dict[str, object]] = {}
        self.rows: list[dict[str, object]] = []

    def note(self, path: Path, bucket: str, reason: str = "") -> None:
        """Put a file into its bucket."""
        self.ledger[str(path)] = {"path": printable(path), "bucket": bucket, "reason": reason}

    def identify(self, path: Path) -> str:
        """Id of a picture: its path below the root, with forward slashes."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return path.as_posix()

    def picture(self, path: Path, split: str, label: Path | None, *, expects_labels: bool) -> None:
        """Take one picture with its label file, if it has one."""
        if str(path) in self.ledger:
            return
        try:
            width, height = probe(path)
        except UnreadablePicture as reason:
            self.note(path, "failed", str(reason))
            return
        if printable(path) != str(path):
            self.note(path, "failed", "file name is not valid UTF-8; rename it")
            return
        image = self.identify(path)
        labelled = False
        if label is not None:
            labelled = self.labels(label, image, width, height)
        self.note(
            path,
            "used",
            "" if labelled or not expects_labels else "no label file: kept as unlabelled, not as background",
        )
        self.images.append(
            {
                "image": image,
                "path": str(path),
                "split": split,
                "group": "",
                "width": width,
                "height": height,
                "labelled": labelled,
                "seconds": float("nan"),
            }
        )

    def labels(self, path: Path, image: str, width: int, height: int) -> bool:
        """Take one label file; returns whether it could be read."""
        try:
            rows, notes = read_labels(path, self.classes)
        except (OSError, ValueError) as reason:
            self.note(path, "failed", str(reason))
            return False
        self.note(path, "used")
        self.rows += [
            {"path": str(path), "line": note.line, "action": note.action, "reason": note.reason}
            for note in notes
        ]
        self.boxes += [
            {
                "image": image,
                "label": r.label,
                "x1": r.x1 * width,
                "y1": r.y1 * height,
                "x2": r.x2 * width,
                "y2": r.y2 * height,
                "crowd": False,
            }
            for r in rows
        ]
        return True

    def source(self, spec: str, kind: str) -> Source:
        """The finished tables."""
        return Source(
            spec=spec,
            kind=kind,
            classes=self.classes,
            images=frame(self.images, IMAGE_COLUMNS),
            boxes=frame(self.boxes, BOX_COLUMNS),
            ledger=frame(self.ledger.values(), LEDGER_COLUMNS),
            rows=frame(self.rows, ROW_COLUMNS),
        )


def printable(path: Path) -> str:
    """A path as text that can be written anywhere; undecodable bytes become escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def walk(folder: Path) -> Iterator[Path]:
    """All files below a folder in a fixed order; hidden ones and links to folders are left out."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(parent) / name


def label_path(image: Path) -> Path:
    """Where a picture's labels are expected: the last folder "images" of its path replaced by "labels", else beside it."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index].lower() == "images":
            parts[index] = {"images": "labels", "Images": "Labels", "IMAGES": "LABELS"}.get(
                parts[index], "labels"
            )
            return Path(*parts).with_suffix(".txt")
    beside = image.with_suffix(".txt")
    sibling = image.parent.parent / "labels" / beside.name
    return beside if beside.exists() or not sibling.exists() else sibling


def read_card(path: Path) -> Card:
    """Parse a data.yaml as data: no tags, no `download:`, paths resolved and checked.

    Raises InputError naming the file and what to mend.
    """
    content = parse_yaml(path)
    classes = class_names(path, content)
    root = path.parent
    if isinstance(content.get("path"), str):
        given = Path(content["path"]).expanduser()
        candidates = [given] if given.is_absolute() else [path.parent / given, Path.cwd() / given]
        # A stale `path:` is common (the dataset was moved): the yaml's own folder is tried last.
        root = next(
            (c for c in [*candidates, path.parent] if any(_split_exists(c, content.get(k)) for k in SPLITS)),
            candidates[0],
        )
    splits: dict[str, list[Path]] = {}
    for key, split in SPLITS.items():
        entries = content.get(key)
        if not entries:
            continue
        for entry in entries if isinstance(entries, list) else [entries]:
            splits.setdefault(split, []).append(resolve(path, root, key, entry))
    if not splits:
        raise InputError(f"{path}: no split (train, val or test) is named; add for example 'val: images/val'")
    return Card(path, classes, splits)


def _split_exists(root: Path, entry: Any) -> bool:
    entries = entry if isinstance(entry, list) else [entry]
    return any(isinstance(e, str) and e and (root / e).exists() for e in entries)


def parse_yaml(path: Path) -> dict[str, Any]:
    """A yaml file as a dict of plain values. Raises InputError with line and column."""
    if path.stat().st_size > MAX_YAML_BYTES:
        raise InputError(f"{path}: larger than 1 MB, which no data.yaml is")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InputError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys such as 'val:' and 'names:', found {type(content).__name__}")
    return content


def class_names(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
    """`names` as a tuple, from a list or a mapping 0..n-1. Raises InputError."""
    names = content.get("names")
    if isinstance(names, dict):
        keys = sorted(names, key=lambda key: int(key) if str(key).isdigit() else -1)
        if [str(key) for key in keys] != [str(i) for i in range(len(keys))]:
            raise InputError(
                f"{path}: names must be numbered 0 to {len(keys) - 1} without gaps, found {keys}"
            )
        names = [names[key] for key in keys]
    if not isinstance(names, list) or not names:
        raise InputError(f"{path}: no class names; add for example 'names: {{0: pothole}}'")
    if len(set(map(str, names))) != len(names):
        raise InputError(f"{path}: class names repeat: {names}")
    count = content.get("nc")
    if count is not None and count != len(names):
        raise InputError(f"{path}: nc is {count} but {len(names)} names are given; make them agree")
    return tuple(map(str, names))


def resolve(card: Path, root: Path, key: str, entry: Any) -> Path:
    """One split entry as an existing folder or list file. Raises InputError listing every path tried."""
    if not isinstance(entry, str):
        raise InputError(f"{card}: '{key}:' must be a folder or a list of folders, found {entry!r}")
    entry = entry.replace("\\", "/")
    tried = [root / entry]
    if entry.startswith("../"):
        # Exports write ../train for a folder that lies beside the yaml.
        tried.append(root / entry[3:])
    for candidate in tried:
        if candidate.exists():
            return candidate.resolve()
    raise InputError(
        f"{card}: '{key}: {entry}' does not exist; tried {', '.join(str(c) for c in tried)}; correct the path in the yaml"
    )


def open_yaml(spec: str, path: Path) -> Source:
    """All splits of a data.yaml. A picture named by two splits stays in the first (train before val before test)."""
    card = read_card(path)
    collector = Collector(path.parent.resolve(), card.classes)
    collector.note(path, "used", "dataset description")
    for split in ("train", "val", "test"):
        for entry in card.splits.get(split, []):
            for file in split_files(card, entry, collector):
                take(collector, file, split, expects_labels=True)
    leftovers(collector, [entry for entries in card.splits.values() for entry in entries if entry.is_dir()])
    return collector.source(spec, "yolo")


def split_files(card: Card, entry: Path, collector: Collector) -> Iterator[Path]:
    """Files of one split: a folder, or a text file listing pictures."""
    if entry.is_dir():
        yield from walk(entry)
        return
    collector.note(entry, "used", "list of pictures")
    for number, line in enumerate(entry.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            file = (
                (entry.parent / line.strip()) if not Path(line.strip()).is_absolute() else Path(line.strip())
            )
            if not file.exists():
                raise InputError(f"{entry}:{number}: {line.strip()} does not exist; correct the list")
            yield file.resolve()


def take(collector: Collector, file: Path, split: str, *, expects_labels: bool) -> None:
    """Take one file of a folder: a picture with its labels, or a ledger line saying why not."""
    suffix = file.suffix.lower()
    if suffix in SUFFIXES:
        label = label_path(file)
        collector.picture(file, split, label if label.is_file() else None, expects_labels=expects_labels)
    elif suffix not in {".txt"}:
        collector.note(file, "skipped", "not a picture or label file")


def leftovers(collector: Collector, folders: list[Path]) -> None:
    """Account for label files that belong to no picture, in the label folders of the given picture folders."""
    homes = {label_path(folder / "x.jpg").parent for folder in folders} | set(folders)
    for home in sorted(homes):
        for file in walk(home) if home.is_dir() else ():
            if str(file) not in collector.ledger:
                reason = (
                    "label without a picture"
                    if file.suffix.lower() == ".txt"
                    else "not a picture or label file"
                )
                collector.note(file, "skipped", reason)


def open_folder(spec: str, folder: Path, classes: Sequence[str]) -> Source:
    """Every picture below a folder; labelled where a YOLO file lies in the parallel "labels" folder or beside the picture.

    classes: the model's, because a folder names none. With no label file anywhere, the domain is unlabelled.
    """
    collector = Collector(folder.resolve(), classes)
    files = list(walk(folder.resolve()))
    labelled = any(file.suffix.lower() in SUFFIXES and label_path(file).is_file() for file in files)
    for file in files:
        take(collector, file, "", expects_labels=labelled)
    leftovers(collector, [folder.resolve()])
    return collector.source(spec, "folder")
