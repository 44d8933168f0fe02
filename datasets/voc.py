"""Pascal VOC: one XML file an image, in Annotations/ beside JPEGImages/ or beside the image itself."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets.collector import Collector
from datasets.containment import Bounds
from datasets.labels import MAX_BYTES
from datasets.pairing import Pairing, dataset_root, split_of
from datasets.tables import Source
from datasets.yolo import leftovers


@dataclass(frozen=True)
class Annotation:
    """One XML file. size: width and height in pixels, (0, 0) where it says none. objects: class name, corners as written, whether difficult, reason against it."""

    size: tuple[int, int]
    annotations: list[tuple[str, tuple[float, float, float, float], bool, str]] = field(default_factory=list)


def open_voc(spec: str, folder: Path, classes: Sequence[str], bounds: Bounds) -> Source:
    """Every image below a folder with the boxes of its XML file.

    classes: the model's, taken where they include every name found; else those, sorted. Splits are read off folder names, or from ImageSets/Main/train.txt and the like. Corners are taken as
    written, in pixels (VOC itself counts from 1, most tools from 0; the difference is a pixel). Objects marked difficult are neither asked for nor counted against a detector, as in
    VOC's own evaluation.
    """
    collector = Collector(folder, classes, bounds)
    pairing = Pairing(dataset_root(folder), ".xml", bounds)
    files = list(collector.walk(folder))
    sets = _image_sets(files, collector)
    read: list[tuple[int, Path, Annotation]] = []

    def split(file: Path) -> str:
        return sets.get(file.stem) or split_of(file.parent.relative_to(folder).parts)

    for row, label in collector.paired(files, pairing, split, expects_labels=False):
        try:
            annotation = read_annotation(label)
        except (OSError, ValueError) as reason:
            collector.note(label, "failed", str(reason))
            continue
        elsewhere = collector.drawn_elsewhere(row, annotation.size)
        if elsewhere:
            collector.note(label, "failed", elsewhere)
            continue
        read.append((row, label, annotation))
    names = {name for _, _, found in read for name, *_ in found.annotations if name}
    if not names <= set(classes):
        # Whether these are the model's under other names is for `classes.with_classes` to say.
        collector.classes = tuple(sorted(names))
    for row, label, annotation in read:
        take(collector, row, label, annotation)
    leftovers(collector, pairing, [folder])
    return collector.source(spec, "voc")


def _image_sets(files: Sequence[Path], collector: Collector) -> dict[str, str]:
    """Image stem -> split, from the lists in ImageSets/Main; lists of a single class (aeroplane_train.txt) are left out."""
    found: dict[str, str] = {}
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
                    found.setdefault(line.split()[0], split_of((file.stem,)))
    return found


def read_annotation(path: Path) -> Annotation:
    """Parse one XML file. Raises ValueError with the reason when it is no Pascal VOC annotation.

    Document types are refused: entities can unfold into gigabytes or name other files.
    """
    if os.stat(path).st_size > MAX_BYTES:
        raise ValueError(f"label file over {MAX_BYTES // 1_000_000} MB")
    raw = path.read_bytes()
    # Old tools write, and declare, the alphabets of Western Europe.
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
    return Annotation(
        (_whole(size, "width"), _whole(size, "height")), [_object(node) for node in root.iter("object")]
    )


def _whole(node: ET.Element | None, tag: str) -> int:
    text = node.findtext(tag, "0") if node is not None else "0"
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return 0


def _object(node: ET.Element) -> tuple[str, tuple[float, float, float, float], bool, str]:
    name = (node.findtext("name") or "").strip()
    box = node.find("bndbox")
    try:
        x1, y1, x2, y2 = (
            float((box.findtext(tag) or "") if box is not None else "")
            for tag in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError:
        return name, (0.0, 0.0, 0.0, 0.0), False, "no usable bndbox"
    difficult = (node.findtext("difficult") or "0").strip() == "1"
    return name, (x1, y1, x2, y2), difficult, ""


def take(collector: Collector, row: int, label: Path, annotation: Annotation) -> None:
    """Boxes of one XML file; notes count objects from 1."""
    index = {name: i for i, name in enumerate(collector.classes)}
    collector.note(label, "used")
    collector.labelled(row)
    for number, (name, corners, difficult, reason) in enumerate(annotation.annotations, start=1):
        if not reason and name not in index:
            reason = f"class {name[:40]!r} is not one of the names"
        if reason:
            collector.reject(label, number, reason)
        else:
            collector.pixel_box(label, number, row, index[name], corners, crowd=difficult)
