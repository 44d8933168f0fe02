"""Read back what users did in the App: tags, and labels drawn, moved, renamed or deleted.

Every image stores its labels and tags as they were written, so that changes show in the database alone.
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
from datasets.files import write_text
from diagnostics.wording import count
from reports.workbench.connection import database
from reports.workbench.documents import own_tags
from train.environment import corrections_path

# A box whose edges stay within this fraction of the image was not moved.
UNMOVED = 1e-6
PIXEL_DIGITS = 2
# Fields of a sample that hold tags and labels, as written and as they are now.
FIELDS = ("filepath", "tags", "tags_written", "labels_written", "metadata", "ground_truth.detections")


@dataclass(frozen=True)
class ImageEdits:
    """What a user changed in an image.

    written: its labels as they were written, None where it had none
    current: its labels now, None where it has none
    changed: whether the labels differ
    added: tags added by the user
    removed: tags removed by the user
    """

    written: tuple[Box, ...] | None
    current: tuple[Box, ...] | None
    changed: bool = False
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()


@dataclass
class PullResult:
    """What was read back from a dataset.

    images: number of images with changed labels
    annotations: number of annotations by change: "added", "deleted", "moved", "renamed" ...
    tags: number of images by tag
    conflicts: number of images that two domains share and that were corrected differently in each
    edits: path of an image -> its edits
    """

    images: int = 0
    annotations: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    conflicts: int = 0
    edits: dict[str, ImageEdits] = field(default_factory=dict)


def pull(name: str) -> PullResult:
    """Read a dataset's tags and labels back into the file of corrections.

    Parameters
    ----------
    name : str
        Name of a dataset of a report or a review.

    Returns
    -------
    PullResult
        What changed.

    Raises
    ------
    InputError
        The file of corrections is malformed, or the dataset was not written by Shiftscope.
    EnvironmentProblem
        The database does not answer.
    """
    with database() as fo:
        return pull_from(fo.load_dataset(name))


def pull_from(dataset: Any) -> PullResult:
    """Read an open dataset's tags and labels back, as `pull` does. Raises InputError."""
    result = _read_dataset(dataset)
    path = corrections_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        corrections = read_corrections(path)
        for image, edits in result.edits.items():
            merged = merge(corrections.get(image), edits, _origin_of(dataset))
            if merged is None:
                corrections.pop(image, None)
            else:
                corrections[image] = merged
        if corrections or path.exists():
            write_text(path, as_text(corrections))
    return result


def _origin_of(dataset: Any) -> str:
    """A dataset's name and the time at which it was written."""
    return f"{dataset.name} {dataset.info['created']}"


def merge(known: Correction | None, edits: ImageEdits, origin: str) -> Correction | None:
    """Merge an image's edits with its earlier correction; None where nothing is left to correct.

    Parameters
    ----------
    known : Correction, optional
        The correction on file.
    edits : ImageEdits
        What the user changed.
    origin : str
        The dataset in which it was changed, and when that was written.

    Returns
    -------
    Correction or None
        The correction to keep.
    """
    tags = tuple(sorted((set(known.tags if known else ()) | edits.added) - edits.removed))
    if known:
        source, corrected, corrected_in = known.was, known.now, known.origin
    else:
        source, corrected, corrected_in = edits.written, None, origin
    # A dataset written with the known correction in place does not show the labels of the source itself.
    applied = corrected is not None and same_boxes(edits.written or (), corrected)
    if edits.changed:
        source, corrected = (source if applied else edits.written), edits.current
        corrected_in = origin
    elif corrected_in == origin and not applied:
        # Corrected in this dataset, read back, and then restored.
        corrected = None
    if corrected is not None and source is not None and same_boxes(corrected, source):
        corrected = None
    return Correction(source, corrected, tags, corrected_in) if corrected is not None or tags else None


def _read_dataset(dataset: Any) -> PullResult:
    """Compare every image's tags and labels with those that were written. Raises InputError."""
    if "created" not in (dataset.info or {}) or not dataset.has_field("labels_written"):
        raise InputError(
            f"{dataset.name} was not written by this version of Shiftscope; write its report again"
        )
    result = PullResult()
    for document in dataset._sample_collection.find({}, dict.fromkeys(FIELDS, 1)):
        # An image that a user added by hand has no metadata.
        if not document.get("metadata"):
            continue
        edits, changes = _image_edits(document)
        result.tags.update(own_tags(document.get("tags") or ()))
        if changes:
            result.images += 1
            result.annotations.update(changes)
        path = document["filepath"]
        other = result.edits.get(path)
        result.edits[path] = edits if other is None else combine(other, edits)
        if other is not None and other.changed and edits.changed:
            result.conflicts += other.current != edits.current
    return result


def _image_edits(document: dict[str, Any]) -> tuple[ImageEdits, Counter[str]]:
    """A sample's edits, and the number of annotations by change."""
    tags, tags_written = set(own_tags(document.get("tags") or ())), set(document.get("tags_written") or ())
    labels = document.get("labels_written")
    written = None if labels is None else [json.loads(text) for text in labels]
    current = (document.get("ground_truth") or {}).get("detections")
    if written is None and not current:
        current = None
    changes = _changes(written or [], current) if current is not None else Counter()
    size = float(document["metadata"]["width"]), float(document["metadata"]["height"])
    edits = ImageEdits(
        written=None if written is None else tuple(_pixel_box(b[1], b[2:6], b[6], size) for b in written),
        current=None
        if current is None
        else tuple(_pixel_box(b["label"], b["bounding_box"], b.get("iscrowd"), size) for b in current),
        changed=bool(changes),
        added=frozenset(tags - tags_written),
        removed=frozenset(tags_written - tags),
    )
    return edits, changes


def combine(first: ImageEdits, second: ImageEdits) -> ImageEdits:
    """Combine the edits of one image that two domains share; the first changed labels count."""
    labels = second if second.changed and not first.changed else first
    added = first.added | second.added
    removed = (first.removed | second.removed) - added
    return ImageEdits(labels.written, labels.current, labels.changed, added, removed)


def _changes(written: Sequence[Sequence[Any]], current: Sequence[dict[str, Any]]) -> Counter[str]:
    """Number of an image's annotations by change.

    A box with a new id and the class and place of a written one is that one: annotation tools give new ids.
    """
    changes: Counter[str] = Counter()
    unmatched = {str(entry[0]): entry[1:] for entry in written}
    new = []
    for box in current:
        before = unmatched.pop(str(box["_id"]), None)
        if before is None:
            new.append(box)
            continue
        changes["moved"] += not _same_edges(before[1:5], box)
        changes["renamed"] += before[0] != box["label"]
        changes["marked as crowd or not"] += bool(before[5]) != bool(box.get("iscrowd"))
    for box in new:
        same = next(
            (
                key
                for key, before in unmatched.items()
                if before[0] == box["label"] and _same_edges(before[1:5], box)
            ),
            None,
        )
        if same is None:
            changes["added"] += 1
        else:
            del unmatched[same]
    changes["deleted"] = len(unmatched)
    return +changes


def _same_edges(edges: Sequence[float], box: dict[str, Any]) -> bool:
    """Whether a box has these edges."""
    return all(abs(a - b) <= UNMOVED for a, b in zip(edges, box["bounding_box"], strict=True))


def _pixel_box(label: str, box: Sequence[float], crowd: object, size: tuple[float, float]) -> Box:
    """FiftyOne's box (left, top, width, height in [0, 1]) in pixels of an image of a size."""
    left, top, box_width, box_height = box
    width, height = size
    corners = (left * width, top * height, (left + box_width) * width, (top + box_height) * height)
    x1, y1, x2, y2 = (round(v, PIXEL_DIGITS) for v in corners)
    return str(label), x1, y1, x2, y2, bool(crowd)


def lines(result: PullResult) -> list[str]:
    """What was read back, in sentences."""
    sentences = []
    if result.images:
        changes = ", ".join(f"{number} {kind}" for kind, number in sorted(result.annotations.items()))
        sentences.append(f"Labels of {count(result.images, 'image')} changed; annotations: {changes}.")
    if result.conflicts:
        sentences.append(
            f"{count(result.conflicts, 'image')} shared by two domains with different corrections: "
            "those of the first domain are kept."
        )
    sentences += [f"{count(number, 'image')} tagged “{tag}”." for tag, number in sorted(result.tags.items())]
    if not sentences:
        return ["Nothing was changed in the App: there are no tags, and every label is as it was written."]
    return [
        *sentences,
        f"Saved in {corrections_path()}; the next report, training and 'shiftscope prepare' use it. "
        "The sources stay as they are.",
    ]
