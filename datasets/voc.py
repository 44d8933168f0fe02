"""Pascal VOC: one XML file per image, in Annotations/ beside JPEGImages/ or beside the image itself."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datasets.collector import Collector, Position
from datasets.containment import Bounds
from datasets.errors import InputError
from datasets.formats.registry import head_of
from datasets.labels import MAX_BYTES
from datasets.pairing import Pairing, dataset_root, same_name, split_of
from datasets.pixels import SUFFIXES
from datasets.plausibility import misread
from datasets.tables import Source
from datasets.yolo import leftovers


class VocBox(NamedTuple):
    """One <object> of an XML file.

    name: class name.
    corners: x1, y1, x2, y2 in pixels, as written.
    difficult: whether it is marked difficult.
    reason: why it is unusable; empty if it is usable.
    """

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool
    reason: str


@dataclass(frozen=True)
class VocFile:
    """One XML file.

    size: width and height in pixels, (0, 0) if it gives none.
    boxes: its boxes, in order.
    image: file name of the image that it names, without folders; empty if it names none.
    """

    size: tuple[int, int]
    boxes: list[VocBox]
    image: str = ""


def open_voc(spec: str, folder: Path, classes: Sequence[str], bounds: Bounds) -> Source:
    """Open every image below a folder with the boxes of its XML file.

    Splits come from ImageSets/Main/train.txt and the like, otherwise from folder names. Corners are taken as
    written (VOC counts pixels from 1, most tools from 0; the difference is one pixel). Boxes marked difficult
    count neither for nor against a detector, as in VOC's own evaluation.

    Parameters
    ----------
    spec
        The source's specification.
    folder
        The folder.
    classes
        The model's class names, used if they include every name in the files; otherwise the classes are
        those names, sorted.
    bounds
        Folders that may be read.

    Returns
    -------
    Source
        The source.

    Raises
    ------
    InputError
        If the boxes cannot be pixels.
    """
    collector = Collector(folder, classes, bounds)
    pairing = Pairing(dataset_root(folder), ".xml", bounds)
    files = list(collector.walk(folder))
    sets = _image_sets(files, collector)
    read: list[tuple[int, Path, VocFile]] = []

    def split(file: Path) -> str:
        return sets.get(file.stem) or split_of(file.parent.relative_to(folder).parts)

    for row, label in collector.add_images(files, pairing, split, expects_labels=False):
        content = _read(collector, label)
        if content is not None and _fits(collector, row, label, content):
            read.append((row, label, content))
    read += _by_image_name(collector, [file for file in files if file.suffix.lower() == ".xml"], read)
    read.sort(key=lambda entry: entry[0])
    names = {box.name for _, _, content in read for box in content.boxes if box.name}
    if not names <= set(classes):
        # `classes.with_classes` decides whether these are the model's classes under other names.
        collector.classes = tuple(sorted(names))
    _check_units(folder, read, collector)
    for row, label, content in read:
        _add_boxes(collector, row, label, content)
    leftovers(collector, pairing, [folder])
    return collector.to_source(spec, "voc")


def _read(collector: Collector, label: Path) -> VocFile | None:
    """The content of one XML file; None, with a note of the reason, where it cannot be used."""
    try:
        return read_xml(label)
    except (OSError, ValueError) as reason:
        collector.note(label, "failed", str(reason))
        return None


def _fits(collector: Collector, row: int, label: Path, content: VocFile) -> bool:
    """Whether an XML file was drawn on an image of this size; notes where it was not."""
    mismatch = collector.size_mismatch(row, content.size)
    if mismatch:
        collector.note(label, "failed", mismatch)
    return not mismatch


def _by_image_name(
    collector: Collector, files: Sequence[Path], read: Sequence[tuple[int, Path, VocFile]]
) -> list[tuple[int, Path, VocFile]]:
    """Images without an XML file of their name, with the one that names them in its <filename>, which is
    written whatever the file itself was renamed to.
    """
    labelled = {row for row, _, _ in read}
    waiting: dict[str, list[int]] = {}
    for row, path in enumerate(collector.images["path"]):
        if row not in labelled:
            for name in {same_name(Path(path).name), same_name(Path(path).stem)}:
                waiting.setdefault(name, []).append(row)
    found = []
    for file in files if waiting else ():
        if collector.is_accounted(file):
            continue
        try:
            content = read_xml(file)
        except (OSError, ValueError):
            # It stays in the ledger as a label without an image.
            continue
        rows = waiting.pop(same_name(content.image), [])
        if len(rows) == 1 and rows[0] not in labelled and _fits(collector, rows[0], file, content):
            labelled.add(rows[0])
            collector.note(
                Path(collector.images["path"][rows[0]]), "used", f"labelled by {file.name}, which names it"
            )
            found.append((rows[0], file, content))
    return found


def _check_units(folder: Path, read: Sequence[tuple[int, Path, VocFile]], collector: Collector) -> None:
    """Raise InputError where the boxes of all files cannot be corners in pixels."""
    boxes = [
        (*box.corners, *collector.size(row))
        for row, _, content in read
        for box in content.boxes
        if not box.reason
    ]
    table = np.array(boxes, float).reshape(-1, 6)
    problem = misread(table[:, :4], table[:, 4:], "xyxy")
    if problem:
        raise InputError(
            f"{folder}: the {len(boxes)} boxes of its XML files look like {problem}; correct them"
        )


def _image_sets(files: Sequence[Path], collector: Collector) -> dict[str, str]:
    """Image stem -> split, from the lists in ImageSets/Main except one-class lists (aeroplane_train.txt)."""
    splits: dict[str, str] = {}
    for file in files:
        if (
            file.suffix == ".txt"
            and file.parent.name == "Main"
            and split_of((file.stem,))
            and "_" not in file.stem
        ):
            try:
                if file.stat().st_size > MAX_BYTES:
                    raise ValueError("too large")
                lines = file.read_text(encoding="utf-8-sig").splitlines()
            except (OSError, ValueError) as error:
                collector.note(file, "failed", f"list of images cannot be read ({type(error).__name__})")
                continue
            collector.note(file, "used", "list of images")
            for line in lines:
                if line.split():
                    name = line.split()[0]
                    stem = Path(name).stem if Path(name).suffix.lower() in SUFFIXES else name
                    splits.setdefault(stem, split_of((file.stem,)))
    return splits


def is_annotation(path: Path) -> bool:
    """Whether a file's name and its beginning are those of a VOC annotation."""
    return path.suffix.lower() == ".xml" and re.search(rb"<annotation[\s>]", head_of(path)) is not None


def read_xml(path: Path) -> VocFile:
    """Parse one XML file; raises ValueError with the reason if it is not a Pascal VOC annotation.

    Document types are refused, because entities can expand to gigabytes or name other files.
    """
    if os.stat(path).st_size > MAX_BYTES:
        raise ValueError(f"label file over {MAX_BYTES // 1_000_000} MB")
    raw = path.read_bytes()
    # Old tools write, and declare, Western European encodings.
    western = re.match(
        rb"<\?xml[^>]*encoding=[\"'](iso-8859-1|latin-?1|windows-1252|cp1252)[\"']", raw, re.IGNORECASE
    )
    try:
        text = raw.decode("cp1252" if western else "utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("label file is not text (UTF-8)") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("XML with a document type is not read")
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError) as error:
        raise ValueError(f"not valid XML ({error})") from None
    if root.tag != "annotation":
        raise ValueError(f"not a Pascal VOC annotation (its root is <{root.tag[:40]}>)")
    size = root.find("size")
    # Windows' folders too.
    image = re.split(r"[\\/]", (root.findtext("filename") or "").strip())[-1]
    return VocFile(
        (_integer(size, "width"), _integer(size, "height")), [_box(o) for o in root.iter("object")], image
    )


def _integer(node: ET.Element | None, tag: str) -> int:
    """Integer in a child element, 0 if there is none."""
    text = node.findtext(tag, "0") if node is not None else "0"
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return 0


def _box(node: ET.Element) -> VocBox:
    """One <object>."""
    name = (node.findtext("name") or "").strip()
    box = node.find("bndbox")
    try:
        x1, y1, x2, y2 = (
            float((box.findtext(tag) or "") if box is not None else "")
            for tag in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError:
        return VocBox(name, (0.0, 0.0, 0.0, 0.0), False, "no usable bndbox")
    difficult = (node.findtext("difficult") or "0").strip() == "1"
    return VocBox(name, (x1, y1, x2, y2), difficult, "")


def _add_boxes(collector: Collector, row: int, label: Path, content: VocFile) -> None:
    """Add the boxes of one XML file to an image; records of rejected boxes number them from 1."""
    index = {name: i for i, name in enumerate(collector.classes)}
    collector.note(label, "used")
    collector.mark_labelled(row)
    for number, (name, corners, difficult, reason) in enumerate(content.boxes, start=1):
        if not reason and name not in index:
            reason = f"class {name[:40]!r} is not one of the names"
        if reason:
            collector.reject(label, number, reason, row)
        else:
            x1, y1, x2, y2 = corners
            ordered = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
            repair = "" if ordered == corners else "corners exchanged: put in order"
            collector.add_pixel_box(
                Position(label, number), row, index[name], ordered, crowd=difficult, repair=repair
            )
