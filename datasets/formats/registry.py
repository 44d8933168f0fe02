"""Which format a label file has, judged by its suffix and its first bytes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from datasets.formats import (
    bdd,
    createml,
    cvat,
    dota,
    fiftyone,
    kitti,
    label_studio,
    labelme,
    ndjson,
    oidv4,
    tables,
    via,
    visdrone,
)
from datasets.formats.described import Format

JSON, TXT = frozenset({".json"}), frozenset({".txt"})
# The order matters only where one file could be two of them: VIA's shapes before LabelMe's.
FORMATS: tuple[Format, ...] = (
    Format(
        "Ultralytics NDJSON",
        frozenset({".ndjson", ".jsonl"}),
        ndjson.recognises,
        ndjson.read,
        layout="centre",
        unit="fractions",
    ),
    Format(
        "Hugging Face imagefolder",
        frozenset({".jsonl"}),
        tables.recognises_metadata,
        tables.read_metadata,
        layout="xywh",
    ),
    Format("CVAT XML", frozenset({".xml"}), cvat.recognises, cvat.read),
    Format("VIA", frozenset({".json", ".csv"}), via.recognises, via.read, layout="xywh"),
    Format("Label Studio", JSON, label_studio.recognises, label_studio.read, layout="xywh", unit="percent"),
    Format("LabelMe", JSON, labelme.recognises, labelme.read, is_per_image=True),
    Format("FiftyOne", JSON, fiftyone.recognises, fiftyone.read, layout="xywh", unit="fractions"),
    Format("CreateML", JSON, createml.recognises, createml.read, layout="centre"),
    Format("BDD100K", JSON, bdd.recognises, bdd.read),
    Format("TensorFlow CSV", frozenset({".csv"}), tables.recognises_csv, tables.read_csv),
    Format("VisDrone", TXT, visdrone.recognises, visdrone.read, is_per_image=True, layout="xywh"),
    Format("DOTA", TXT, dota.recognises, dota.read, is_per_image=True),
    Format("KITTI", TXT, kitti.recognises, kitti.read, is_per_image=True),
    Format("OIDv4", TXT, oidv4.recognises, oidv4.read, is_per_image=True),
)
SUFFIXES = frozenset(suffix for format_ in FORMATS for suffix in format_.suffixes)
# Bytes that decide what a file is.
SNIFFED = 1 << 16
DECIDING = 5
# Text files beside images that are no labels, whatever they contain.
NO_LABELS = re.compile(
    r"^(readme.*|classes|notes|license.*|train|val|valid|test|obj)\.(txt|json|csv)$", re.IGNORECASE
)
# Rows of trackers: frame, identity, left, top, width, height, confidence, then two to four numbers. MOT's
# ground truth has nine, detections seven or ten; a row of eight integers is VisDrone's.
TRACKER_ROW = re.compile(rb"^\s*\d+\s*,\s*-?\d+\s*(,\s*-?[\d.]+\s*){5,8}$")
TRACKER_FILES = frozenset({"gt.txt", "det.txt"})


def format_of(path: Path) -> Format | None:
    """The format of a label file; None for YOLO, COCO and Pascal VOC files, and for all others."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or NO_LABELS.match(path.name):
        return None
    head = head_of(path)
    try:
        return next((f for f in FORMATS if suffix in f.suffixes and head and f.recognises(path, head)), None)
    except (ValueError, ArithmeticError):
        # Numbers of thousands of digits.
        return None


def label_files(files: Sequence[Path]) -> list[tuple[Path, Format]]:
    """The files among these that are of one of the `FORMATS`, each with its format.

    Of the text files in one folder, the first DECIDING that are not empty decide for the rest, so that ten
    thousand YOLO files are not opened twice.
    """
    by_folder: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in files:
        if path.suffix.lower() in SUFFIXES and not NO_LABELS.match(path.name):
            by_folder[path.parent, path.suffix.lower()].append(path)
    found: list[tuple[Path, Format]] = []
    for (_, suffix), paths in by_folder.items():
        if suffix not in TXT:
            found += [(path, format_) for path in paths if (format_ := format_of(path)) is not None]
            continue
        filled = (path for path in paths if head_of(path).strip())
        formats = [format_of(path) for path in islice(filled, DECIDING)]
        known = next((format_ for format_ in formats if format_ is not None), None)
        if known is None:
            continue
        # An empty text file among label files marks an image without objects.
        found += [(path, known) for path in paths]
    return found


def is_tracker_file(path: Path) -> bool:
    """Whether a text file has rows of a tracker: boxes by frame number and identity, not by image."""
    if path.suffix.lower() != ".txt":
        return False
    first = head_of(path, 400).lstrip().splitlines()[:1]
    if not first or not TRACKER_ROW.match(first[0]):
        return False
    return path.name.lower() in TRACKER_FILES or first[0].count(b",") + 1 not in (8,)


def head_of(path: Path, size: int = SNIFFED) -> bytes:
    """The first bytes of a file without a byte order mark; empty if it cannot be read."""
    try:
        with path.open("rb") as handle:
            return handle.read(size).removeprefix(b"\xef\xbb\xbf")
    except OSError:
        return b""
