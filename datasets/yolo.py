"""YOLO labels: datasets with a data.yaml, folders in any layout without one, and lists of images."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets import video
from datasets.collector import VIDEO, Collector
from datasets.containment import Bounds, registered_roots
from datasets.data_yaml import FROM_ROOT, MANIFEST, NAMES, DataYaml, path_exists, read_data_yaml
from datasets.errors import InputError
from datasets.formats.registry import format_of, head_of, is_tracker_file
from datasets.labels import POLYGON, are_poses, has_label_row, row_numbers
from datasets.pairing import IMAGE_FOLDERS, SPLITS, Pairing, dataset_root, outside_reason, split_of
from datasets.pixels import SUFFIXES
from datasets.plausibility import FEW, OUTSIDE, count_from_one, misread_rows
from datasets.tables import Source

# Files that libraries load beside images and labels, and that can run code when they are loaded.
DANGEROUS = frozenset({".cache", ".npy", ".npz", ".pt", ".pth", ".pkl", ".pickle", ".joblib"})
OTHER = {
    ".odgt": "CrowdHuman's labels: not read; convert them to COCO",
    ".json": "not read: neither COCO nor a known labelling tool's (docs/sources.md)",
    ".xml": "not read: Pascal VOC and CVAT files are, in a folder without YOLO labels",
    **dict.fromkeys((".heic", ".heif"), "HEIC image: convert it to JPEG"),
    **dict.fromkeys((".gif", ".svg"), "not a photograph"),
    **dict.fromkeys(
        (".ndjson", ".jsonl", ".csv"), "not read: not of a known labelling tool (docs/sources.md)"
    ),
    **dict.fromkeys(
        (".h264", ".264", ".h265", ".265", ".hevc"), "a video stream without times: put it into an .mp4 first"
    ),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".rar", ".7z"), "archive: unpack it first"),
    **dict.fromkeys(DANGEROUS, "never read: loading it could run code"),
}
# About a million lines of one path each.
MAX_LIST_BYTES = 256_000_000
# Folders of a dataset that has its class names beside them, CVAT's last.
PARTS = IMAGE_FOLDERS | SPLITS.keys() | {"obj_train_data", "obj_valid_data", "obj_test_data"}
CLASS_FILES = ("classes.txt", "labels.txt", "_darknet.labels")
# Files of other tools that hold the labels of all images and are not read.
LISTS = {
    "_annotations.txt": "YOLOv4's list of boxes: not read; export YOLO or COCO labels",
    "_classes.txt": "class names of YOLOv4's list of boxes: not read",
    "wider_face_train_bbx_gt.txt": "WIDER FACE's list of boxes: not read; convert it to COCO",
    "wider_face_val_bbx_gt.txt": "WIDER FACE's list of boxes: not read; convert it to COCO",
}
# Reasons of rows that left their image.
CLIPPED = frozenset(
    {"clipped at the edge", "coordinate outside the image", "box has no area inside the image"}
)
# Label files with such rows that are read again to see what their numbers are.
MOST_FILES = 200


def open_yaml(spec: str, path: Path, bounds: Bounds, cache: Path) -> Source:
    """Open all splits of a data.yaml; an image in two splits stays in the first of train, val, test.

    Raises InputError if the yaml or its labels are unusable.
    """
    bounds = bounds.wider(*registered_roots(path, cache))
    data_yaml = read_data_yaml(path, bounds)
    collector = Collector(path.parent, data_yaml.classes, bounds, data_yaml.pose)
    collector.note(path, "used")
    pairing = Pairing(path.parent, ".txt", bounds)
    remarks = [data_yaml.remark]
    splits: dict[str, str] = {}
    trained_on = False
    for split in ("train", "val", "test"):
        files = list(
            dict.fromkeys(
                file
                for entry in data_yaml.splits.get(split, [])
                for file in _entries(data_yaml, entry, collector)
            )
        )
        _add_files(collector, pairing, files, split)
        images = [str(file) for file in files if file.suffix.lower() in SUFFIXES]
        shared = Counter(splits[file] for file in images if file in splits)
        trained_on |= bool(images) and split == "val" and shared["train"] == len(images)
        for other, number in shared.items():
            noun = "image" if number == 1 else "images"
            remarks.append(f"{number} {noun} of '{split}' also in '{other}', counted there")
        splits |= {file: split for file in images if file not in splits}
    collector.note(path, "used", "; ".join(filter(None, ["dataset description", *remarks])))
    leftovers(collector, pairing, _scope(data_yaml))
    _check_rows(collector)
    # Where val is train but test is not, test is held out.
    trained_on = trained_on and "test" not in collector.images["split"]
    return replace(collector.to_source(spec, "yolo"), trained_on=trained_on)


def _entries(data_yaml: DataYaml, entry: Path, collector: Collector) -> Iterator[Path]:
    """Files of one entry of a split: a folder, or a text file that lists images."""
    return collector.walk(entry) if entry.is_dir() else _listed(entry, data_yaml.root, collector)


def _scope(data_yaml: DataYaml) -> list[Path]:
    """Folders whose every file enters the ledger: the yaml's own if it holds all splits, else theirs."""
    folders = [
        entry if entry.is_dir() else entry.parent
        for entries in data_yaml.splits.values()
        for entry in entries
    ]
    around = [dataset_root(folder) for folder in folders]
    common = Path(os.path.commonpath(around))
    # If train/ and valid/ each hold images/, their common folder is one level up.
    return [common] if common.is_relative_to(data_yaml.root) else sorted(set(around))


def open_folder(spec: str, folder: Path, classes: Sequence[str], bounds: Bounds) -> Source:
    """Open every image below a folder, in any layout.

    Folder names give the split, and `Pairing` finds the label files; without any the domain is unlabelled.

    Parameters
    ----------
    spec
        The source's specification.
    folder
        The folder.
    classes
        The model's class names, used unless a classes.txt in the folder names the classes.
    bounds
        Folders that may be read.

    Returns
    -------
    Source
        The source.

    Raises
    ------
    InputError
        If two files of class names differ.
    """
    root = dataset_root(folder)
    collector = Collector(folder, classes, bounds)
    files = list(collector.walk(folder))
    extra = _unusual_label_folder(files, Pairing(root, ".txt", bounds))
    named = _class_list(spec, files, collector) or _names_around(folder, collector)
    collector.classes = named or collector.classes
    pairing = Pairing(root, ".txt", bounds, extra)
    _add_files(collector, pairing, files, None)
    if extra is not None:
        collector.note(
            extra, "used", "label files, going by their names: the folder has none of the usual ones"
        )
    leftovers(collector, pairing, [folder])
    _check_rows(collector)
    return replace(collector.to_source(spec, "folder"), unnamed=not named)


def _unusual_label_folder(files: Sequence[Path], pairing: Pairing) -> Path | None:
    """The one folder whose label files have the names of the images, where none is found in the
    usual places.
    """
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    stems = [image.stem for image in images]
    if not images or len(set(stems)) < len(stems) or any(pairing.find(image) for image in images):
        return None
    named = set(stems)
    folders = Counter(
        file.parent
        for file in files
        if file.suffix.lower() == ".txt" and file.stem in named and has_label_row(file)
    )
    return next(iter(folders)) if len(folders) == 1 else None


def open_list(spec: str, path: Path, classes: Sequence[str], bounds: Bounds, cache: Path) -> Source:
    """Open the images that a text file lists, one per line, as absolute paths or relative to the file.

    A list that Shiftscope wrote may lead to where its images lie, see `containment.register_roots`.
    """
    bounds = bounds.wider(*registered_roots(path, cache))
    collector = Collector(path.parent, classes, bounds)
    files = list(_listed(path, path.parent, collector))
    # A list may lie anywhere; the names are those of the dataset that its images are part of.
    folders = list(dict.fromkeys(file.parent for file in files))[:MOST_FILES]
    around = {names for folder in (path.parent, *folders) if (names := _names_around(folder, collector))}
    named = next(iter(around)) if len(around) == 1 else ()
    collector.classes = named or collector.classes
    pairing = Pairing(path.parent, ".txt", bounds)
    _add_files(collector, pairing, files, None)
    _check_rows(collector)
    return replace(collector.to_source(spec, "list"), unnamed=not named)


def open_image(spec: str, path: Path, classes: Sequence[str], bounds: Bounds) -> Source:
    """Open one image, with its label file if it has one."""
    collector = Collector(path.parent, classes, bounds)
    _add_files(collector, Pairing(dataset_root(path.parent), ".txt", bounds), [path], None)
    return replace(collector.to_source(spec, "image"), unnamed=True)


def _check_rows(collector: Collector) -> None:
    """Raise InputError where the label rows of a source cannot be YOLO's: other coordinates, ids from 1.

    Only rows that left the image, or had an unknown class, give a reason to look.
    """
    total = len(collector.owners)
    rejected = [(Path(path), reason) for path, _, action, reason in collector.rows if action == "rejected"]
    count = len(collector.classes)
    beyond = [path for path, reason in rejected if reason.startswith(f"class {count} is not in ")]
    if beyond and total + len(beyond) >= FEW and count_from_one([*collector.labels, count], count):
        raise InputError(
            f"{beyond[0]}: class ids seem to count from 1: class {count} occurs and 0 never does, with "
            f"{count} names; YOLO's ids count from 0"
        )
    polygons = [Path(path) for path, _, _, reason in collector.rows if reason == POLYGON]
    if total and len(collector.outlines) == total:
        # Four corners a row, which may be a box and two points: no row of a rotated box is noted.
        polygons = [
            Path(p) for p, (bucket, _) in collector.ledger.items() if bucket == "used" and p.endswith(".txt")
        ]
    if polygons and (len(polygons) == total or collector.outlines):
        files = list(dict.fromkeys(polygons))[:MOST_FILES]
        poses = are_poses([numbers for file in files for numbers in row_numbers(file)])
        if poses:
            raise InputError(
                f"{files[0]}: each row has {poses} columns and looks like a box and its key points, not like "
                "a polygon; give 'kpt_shape' in a data.yaml"
            )
    clipped = [Path(path) for path, _, _, reason in collector.rows if reason in CLIPPED]
    if len(clipped) < OUTSIDE * total:
        return
    files = list(dict.fromkeys(clipped))[:MOST_FILES]
    rows = np.array(
        [numbers for file in files for numbers in row_numbers(file) if len(numbers) == 4], float
    ).reshape(-1, 4)
    problem = misread_rows(rows)
    if problem:
        raise InputError(f"{files[0]}: label rows look like {problem}; correct the label files")


def _class_list(spec: str, files: Iterable[Path], collector: Collector) -> tuple[str, ...]:
    """Class names from a classes.txt among the files; empty if there is none, InputError if two differ."""
    lists: dict[tuple[str, ...], Path] = {}
    for file in files:
        if _is_class_file(file) and file.stat().st_size < 1_000_000:
            try:
                text, encoding = _decoded(file.read_bytes())
            except (OSError, UnicodeDecodeError):
                collector.note(file, "failed", "class names are not text (UTF-8)")
                continue
            lines = [line.strip() for line in text.rstrip().splitlines()]
            # A blank line is a class without a name: leaving it out would move the ids of all that follow.
            names = [line or f"class {number} (blank line)" for number, line in enumerate(lines)]
            if names and len(set(names)) == len(names):
                collector.note(file, "used", "class names" + (f", read as {encoding}" if encoding else ""))
                lists.setdefault(tuple(names), file)
            elif names:
                repeated = next(name for name in names if names.count(name) > 1)
                collector.note(file, "failed", f"class names repeat: {repeated[:40]}")
    if len(lists) > 1:
        raise InputError(
            f"{spec}: {' and '.join(map(str, list(lists.values())[:2]))} name the classes differently; "
            "give one folder at a time"
        )
    return next(iter(lists), ())


def _names_around(folder: Path, collector: Collector) -> tuple[str, ...]:
    """Class names of the dataset that a folder is part of: from a data.yaml in it or up to two levels above,
    one of whose splits lies in the folder or around it, or from the one class file there; empty without
    either. Links out of these folders are not followed.
    """
    for parent in (folder, *list(folder.parents)[:2]):
        within = Bounds.of([parent])
        for file in (parent / name for name in NAMES):
            try:
                data_yaml = read_data_yaml(file, within) if file.is_file() and within.contain(file) else None
            except InputError:
                continue
            if data_yaml is not None and any(
                entry == folder or entry.is_relative_to(folder) or folder.is_relative_to(entry)
                for entries in data_yaml.splits.values()
                for entry in entries
            ):
                collector.note(file, "used", "class names of the dataset that this is part of")
                return data_yaml.classes
        with suppress(OSError):
            lists = [
                file
                for file in sorted(parent.iterdir())
                if _is_class_file(file) and file.is_file() and within.contain(file)
            ]
            # A class file further up names the classes of its folders of images, not of whatever lies beside
            # them.
            is_near = parent == folder or folder.name.lower() in PARTS or folder.parent.name.lower() in PARTS
            if len(lists) == 1 and is_near:
                return _class_list(str(folder), lists, collector)
    return ()


def _is_class_file(file: Path) -> bool:
    """Whether a file lists class names, one a line, going by its name."""
    return file.name.lower() in CLASS_FILES or file.suffix.lower() == ".names"


def _decoded(content: bytes) -> tuple[str, str]:
    """Text, and its encoding where that is not UTF-8. Raises UnicodeDecodeError for neither of the two in
    use.
    """
    try:
        return content.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        return content.decode("cp1252"), "Windows-1252"


def _add_files(collector: Collector, pairing: Pairing, files: Iterable[Path], split: str | None) -> None:
    """Add images and their labels; split is the split of all of them, None to take it from folder names."""

    def split_by_folder(file: Path) -> str:
        inside = file.is_relative_to(collector.root)
        return split_of(file.parent.relative_to(collector.root).parts) if inside else ""

    splits = split_by_folder if split is None else lambda file: split
    for row, label in collector.add_images(files, pairing, splits, expects_labels=split is not None):
        collector.add_label_file(label, row)


def _listed(path: Path, root: Path, collector: Collector) -> Iterator[Path]:
    """Images that a text file lists, relative to it or to root.

    Paths that do not exist or lead out of the source enter the ledger. Raises InputError if the file is not
    readable text.
    """
    collector.note(path, "used", "list of images")
    try:
        if not path.is_file() or path.stat().st_size > MAX_LIST_BYTES:
            raise InputError(
                f"{path}: a list of images is a regular file of at most {MAX_LIST_BYTES // 1_000_000} MB"
            )
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; a list of images has one path per line") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, start=1):
        # Windows' "copy as path" puts quotes around a path.
        name = line.strip().strip("\"'").replace("\\", "/").replace("\0", "")
        if not name:
            continue
        candidates = [
            Path(os.path.normpath(base / rest)) for rest in _shortened(name) for base in (path.parent, root)
        ]
        existing = [candidate for candidate in candidates if path_exists(candidate)]
        inside = [candidate for candidate in existing if collector.bounds.contain(candidate)]
        if inside:
            yield inside[0]
        elif existing:
            collector.note(existing[0], "skipped", outside_reason(existing[0]))
        elif str(candidates[0]) not in collector.ledger:
            collector.note(candidates[0], "failed", f"listed in {path.name}:{number}, but not on disk")


def _shortened(name: str) -> list[str]:
    """A listed name, also without its first one or two folders, and a path of another machine without any
    number of them.

    Darknet's lists are relative to the folder that training ran in.
    """
    parts = name.split("/")
    skips = range(1, len(parts) - 1) if FROM_ROOT.match(name) else (1, 2)
    return [name, *("/".join(parts[skip:]) for skip in skips if len(parts) > skip + 1)]


def leftovers(collector: Collector, pairing: Pairing, folders: Iterable[Path]) -> None:
    """Enter every other file of these folders, and unused label files, into the ledger."""
    for file in pairing.label_files():
        if not collector.is_accounted(file) and not _is_class_file(file):
            collector.note(file, "skipped", LISTS.get(file.name.lower(), "label without an image"))
    for folder in folders:
        account_files(collector, folder)


def account_files(collector: Collector, folder: Path) -> None:
    """Enter every file of a folder that is not in the ledger yet as skipped."""
    for file in collector.walk(folder):
        if not collector.is_accounted(file):
            if file.name == MANIFEST:
                collector.note(file, "used", "dataset description: how it was rendered")
            else:
                collector.note(file, "skipped", _skip_reason(file, collector.classes))


def _skip_reason(file: Path, classes: Sequence[str]) -> str:
    """Why a file is not used; classes: the names in use."""
    suffix = file.suffix.lower()
    if suffix in SUFFIXES:
        return "image in none of the splits"
    if suffix in video.SUFFIXES:
        return VIDEO
    if _is_class_file(file):
        try:
            named = [line.strip() for line in _decoded(file.read_bytes())[0].splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError):
            named = []
        if named != list(classes) and set(named) & set(classes):
            return f"names other classes, or in another order, than are in use: {', '.join(named)[:80]}"
        return "class names, which are not needed here"
    if is_tracker_file(file):
        return "rows of a tracker, by frame number (MOT): give labels by image, such as a COCO json"
    if file.name.lower() in LISTS:
        return LISTS[file.name.lower()]
    described = format_of(file)
    if described is not None or (suffix == ".json" and b'"annotations"' in head_of(file)):
        what = described.name if described is not None else "COCO"
        return f"{what} annotations: not read, since other labels here are"
    if suffix == ".txt" and has_label_row(file):
        return "YOLO labels of no image: their folder and name are those of none"
    return OTHER.get(suffix, "not an image or label file")
