"""What people did in the App, read back: tags, and labels drawn, moved, renamed or taken away.

Every image carries its labels and tags as they were written, so that what changed can be told from the database alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from filelock import FileLock

from datasets.corrections import Box, Correction, as_text, read_corrections, same_boxes
from datasets.errors import InputError
from diagnostics.wording import count
from reports.files import write_text
from reports.workbench.connection import database
from reports.workbench.documents import own_tags
from train.environment import corrections_path

# A box whose edges stay within this fraction of the image was not moved.
UNMOVED = 1e-6
PIXEL_DIGITS = 2


@dataclass(frozen=True)
class Edited:
    """An image in the App. written, drawn: its labels then and now, None where it has none. changed: whether they differ. added, removed: tags."""

    written: tuple[Box, ...] | None
    drawn: tuple[Box, ...] | None
    changed: bool = False
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()


@dataclass
class Pulled:
    """What was found in a dataset. images: with changed labels. objects: how many were "added", "taken away", "moved", "renamed". tags: images by tag.

    twice: images that stand in two domains and were corrected differently: the first counts.
    """

    images: int = 0
    annotations: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    twice: int = 0
    edits: dict[str, Edited] = field(default_factory=dict)


def pull(name: str) -> Pulled:
    """Read a dataset's tags and labels back into the file of corrections. Raises InputError when that is broken or the dataset is not ours, EnvironmentProblem without a database."""
    with database() as fo:
        return pull_from(fo.load_dataset(name))


def pull_from(dataset: Any) -> Pulled:
    """The same of an open dataset. Raises InputError."""
    found = _read_dataset(dataset)
    path = corrections_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        known = read_corrections(path)
        for image, edited in found.edits.items():
            merged = merge(known.get(image), edited, _origin_of(dataset))
            if merged is None:
                known.pop(image, None)
            else:
                known[image] = merged
        if known or path.exists():
            write_text(path, as_text(known))
    return found


def _origin_of(dataset: Any) -> str:
    """A dataset and its writing."""
    return f"{dataset.name} {dataset.info['created']}"


def merge(known: Correction | None, edited: Edited, origin: str) -> Correction | None:
    """What is known of an image after another look at it in the App; None where nothing is left to correct."""
    tags = tuple(sorted((set(known.tags if known else ()) | edited.added) - edited.removed))
    was, now, where = (known.was, known.now, known.origin) if known else (edited.written, None, origin)
    # The dataset was written with the known correction in place: only that one told what the source itself says.
    applied = known is not None and now is not None and same_boxes(edited.written or (), now)
    if edited.changed:
        was, now, where = (was if applied else edited.written), edited.drawn, origin
    elif where == origin and not applied:
        # Corrected here, read back, and put back as it was.
        now = None
    if now is not None and was is not None and same_boxes(now, was):
        now = None
    return Correction(was, now, tags, where) if now is not None or tags else None


def _read_dataset(dataset: Any) -> Pulled:
    """Every image's tags, and its labels, against those that were written. Raises InputError for a dataset that does not know them."""
    if "created" not in (dataset.info or {}) or not dataset.has_field("labels_written"):
        raise InputError(
            f"{dataset.name} was not written by this version of Shiftscope; write its report again"
        )
    result = Pulled()
    wanted = ("filepath", "tags", "tags_written", "labels_written", "metadata", "ground_truth.detections")
    for document in dataset._sample_collection.find({}, dict.fromkeys(wanted, 1)):
        if not document.get("metadata"):
            continue  # added by hand: an image that no report has seen
        tags, before = set(own_tags(document.get("tags") or ())), set(document.get("tags_written") or ())
        result.tags.update(tags)
        written = document.get("labels_written")
        drawn = (document.get("ground_truth") or {}).get("detections")
        if written is None and not drawn:
            drawn = None
        size = float(document["metadata"]["width"]), float(document["metadata"]["height"])
        old = None if written is None else [json.loads(text) for text in written]
        changes = _differences(old or [], drawn) if drawn is not None else Counter()
        edited = Edited(
            None if old is None else tuple(pixels(b[1], b[2:6], b[6], size) for b in old),
            None
            if drawn is None
            else tuple(pixels(b["label"], b["bounding_box"], b.get("iscrowd"), size) for b in drawn),
            bool(changes),
            frozenset(tags - before),
            frozenset(before - tags),
        )
        if changes:
            result.images += 1
            result.annotations.update(changes)
        other = result.edits.get(document["filepath"])
        result.edits[document["filepath"]] = edited if other is None else both(other, edited)
        result.twice += other is not None and other.changed and edited.changed and other.drawn != edited.drawn
    return result


def both(first: Edited, second: Edited) -> Edited:
    """One image that stands in two domains."""
    labels = second if second.changed and not first.changed else first
    added = first.added | second.added
    removed = (first.removed | second.removed) - added
    return Edited(labels.written, labels.drawn, labels.changed, added, removed)


def _differences(written: Sequence[Sequence[Any]], drawn: Sequence[dict[str, Any]]) -> Counter[str]:
    """What became of an image's objects. A box with a new id that lies where one of the same class lay is that one: tools that write labels anew give new ids."""
    changes: Counter[str] = Counter()
    before = {str(entry[0]): entry[1:] for entry in written}
    new = []
    for box in drawn:
        old = before.pop(str(box["_id"]), None)
        if old is None:
            new.append(box)
            continue
        changes["moved"] += not _lies_at(old[1:5], box)
        changes["renamed"] += old[0] != box["label"]
        changes["marked as crowd or not"] += bool(old[5]) != bool(box.get("iscrowd"))
    for box in new:
        same = next(
            (k for k, old in before.items() if old[0] == box["label"] and _lies_at(old[1:5], box)), None
        )
        if same is None:
            changes["added"] += 1
        else:
            del before[same]
    changes["taken away"] = len(before)
    return +changes


def _lies_at(place: Sequence[float], box: dict[str, Any]) -> bool:
    """Whether a box has these edges."""
    return all(abs(a - b) <= UNMOVED for a, b in zip(place, box["bounding_box"], strict=True))


def pixels(label: str, place: Sequence[float], crowd: object, size: tuple[float, float]) -> Box:
    """A box of FiftyOne in pixels."""
    left, top, wide, high = place
    width, height = size
    corners = (left * width, top * height, (left + wide) * width, (top + high) * height)
    x1, y1, x2, y2 = (round(v, PIXEL_DIGITS) for v in corners)
    return str(label), x1, y1, x2, y2, bool(crowd)


def lines(found: Pulled) -> list[str]:
    """What was read back, in sentences."""
    said = []
    if found.images:
        what = ", ".join(f"{number} {kind}" for kind, number in sorted(found.annotations.items()))
        said.append(f"Labels of {count(found.images, 'image')} changed; objects: {what}.")
    if found.twice:
        said.append(
            f"{count(found.twice, 'image')} stand in two domains with different corrections: the first ones are kept."
        )
    said += [f"{count(number, 'image')} tagged “{tag}”." for tag, number in sorted(found.tags.items())]
    if not said:
        return ["Nothing was changed in the App: no tags, and every label as it was written."]
    return [
        *said,
        f"Kept in {corrections_path()}; the next report, training and 'shiftscope prepare' use it, and the sources stay as they are.",
    ]
