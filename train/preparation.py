"""A cleaned copy of a source as a new YOLO dataset, with augmented copies of training images on request.

The source itself is only read. Two tables are written beside the data.yaml:

ledger.csv has one row per file of the source, frame of a video and augmented copy: path, file (relative to
the dataset, empty if none was written), split, action, reason, boxes, confidence (of a draft's least
confident box). The action is "kept", "augmented", "draft", "left out", or "read" for label files,
descriptions and videos, whose content is in the labels or frames.

rows.csv is the source's `rows`, and one row per removed box, with line 0, action "removed" and the path of
the image.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import yaml

from datasets.collector import UNLABELLED
from datasets.errors import InputError
from datasets.groups import recording
from datasets.labels import label_text
from datasets.pairing import dataset_root
from datasets.pixels import Pixels, UnreadableImage, decode
from datasets.tables import CORNERS, ROW_COLUMNS, Source, concatenate, frame

if TYPE_CHECKING:
    from train.augmentation import Copy, Recipe

LEDGER, ROWS = "ledger.csv", "rows.csv"
COLUMNS = {
    "path": "str",
    "file": "str",
    "split": "str",
    "action": "str",
    "reason": "str",
    "boxes": "Int64",
    "confidence": "Float64",
}
KEPT, AUGMENTED, DRAFT, LEFT_OUT, READ = "kept", "augmented", "draft", "left out", "read"
TRAIN, SPLITS = "train", ("train", "val", "test")
# Ultralytics does not know every suffix of a JPEG.
SUFFIXES = {".jfif": ".jpg"}
EMPTIED = "all of its boxes were removed, and an empty label file would mark it as background"
# JPEG quality of a copy of a JPEG; a copy of any other image is a PNG, which is lossless.
QUALITY = 95


class Entry(NamedTuple):
    """A row of the ledger, in the order of COLUMNS."""

    path: str
    file: str
    split: str
    action: str
    reason: str
    boxes: int | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class PreparationSettings:
    """What is changed in a prepared dataset.

    copies: augmented copies of each training image that people labelled
    recipe: of the copies, None without copies
    min_side: boxes with a shorter side, in pixels, are removed
    max_share: boxes over this share of their image's area are removed
    seed: of the copies
    """

    copies: int = 0
    recipe: Recipe | None = None
    min_side: float = 1.0
    max_share: float = 1.0
    seed: int = 0


DEFAULT_SETTINGS = PreparationSettings()


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset.

    data_yaml: its description
    ledger, rows: the tables beside it
    """

    data_yaml: Path
    ledger: pd.DataFrame
    rows: pd.DataFrame


def prepare(
    source: Source,
    folder: Path,
    settings: PreparationSettings = DEFAULT_SETTINGS,
    *,
    drafts: pd.DataFrame | None = None,
    reviewed: frozenset[str] = frozenset(),
    tick: Callable[[], None] = lambda: None,
) -> Prepared:
    """Write a source as a YOLO dataset into a new folder, which appears only when complete.

    Images are copied byte for byte. Images that cannot be decoded or have no labels are left out, and so are
    images whose boxes are all removed, because an empty label file marks a background image.

    Parameters
    ----------
    source
        The data.
    folder
        A new folder.
    settings
        What is changed; crowds are always removed.
    drafts
        Boxes with a column confidence that label images of `draftable`; None without a detector.
    reviewed
        Images whose drafts somebody reviewed, so that their labels are no longer drafts.
    tick
        Called once per image.

    Returns
    -------
    Prepared
        What was written.

    Raises
    ------
    InputError
        The folder exists, the source names no classes or holds augmented copies, or no image is left.
    """
    if folder.exists():
        raise InputError(f"{folder}: exists already; give a new folder with --out")
    if not source.classes:
        raise InputError(f"{source.spec}: names no classes; give --names pothole,crack or a data.yaml")
    recorded = _read_ledgers(source)
    _refuse_copies(source, recorded)
    boxes = _with_drafts(source.annotations, drafts)
    kept, removed = remove_boxes(boxes, source, settings.min_side, settings.max_share)
    rows = concatenate([source.rows, removed], ROW_COLUMNS)
    labels = _Labels(source, kept, set(boxes["image"]), drafts, reviewed, recorded)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A random name, because a folder beside this one may belong to somebody else.
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        writer = Writer(draft, settings)
        ledger = _write_images(source, labels, writer, tick)
        writer.finish(folder, source, ledger, rows)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return Prepared(folder / "data.yaml", ledger, rows)


def _with_drafts(annotations: pd.DataFrame, drafts: pd.DataFrame | None) -> pd.DataFrame:
    """Annotations and drafts as one table with a column confidence, NaN for annotations."""
    boxes = annotations.assign(confidence=np.nan)
    if drafts is None or not len(drafts):
        return boxes
    return pd.concat([boxes, drafts.assign(crowd=False)[boxes.columns]], ignore_index=True)


class _Labels:
    """The labels that each image gets, and why an image gets none.

    source: the data
    kept: boxes that stay, with a column confidence
    labelled: images with boxes before any were removed
    drafts: see `prepare`
    reviewed: see `prepare`
    recorded: see `_read_ledgers`
    """

    def __init__(
        self,
        source: Source,
        kept: pd.DataFrame,
        labelled: set[str],
        drafts: pd.DataFrame | None,
        reviewed: frozenset[str],
        recorded: dict[str, dict[str, Any]],
    ) -> None:
        self.has_detector = drafts is not None
        self.drafted = set(drafts["image"]) if drafts is not None else set()
        self.emptied = labelled - set(kept["image"])
        self.reviewed, self.recorded = reviewed, recorded
        self._boxes = dict(iter(kept.groupby("image")))
        self._no_boxes = kept.iloc[:0]
        self._remarks = dict(zip(source.ledger["path"], source.ledger["reason"], strict=True))

    def boxes(self, image: Any) -> pd.DataFrame:
        """The boxes of an image."""
        return self._boxes.get(image.image, self._no_boxes)

    def remark(self, image: Any) -> str:
        """What the source's ledger notes about an image that is labelled by now."""
        return self._remarks.get(str(image.path), "").removeprefix(UNLABELLED).removeprefix("; ")

    def rejection(self, image: Any, split: str) -> str:
        """Why an image gets no labels, "" if it gets some."""
        if image.image in self.emptied:
            return EMPTIED
        if image.labelled or image.image in self.drafted:
            return ""
        if not self.has_detector:
            return "unlabelled"
        if split != TRAIN:
            return f"unlabelled, of split {split}: drafts are for training only"
        return "unlabelled, and the detector is not sure enough of any box"

    def draft_confidence(self, image: Any) -> tuple[bool, float | None]:
        """Whether an image's labels are unreviewed drafts, and the lowest confidence of their boxes."""
        if image.image in self.drafted:
            return True, self.boxes(image)["confidence"].min()
        entry = self.recorded.get(str(image.path), {})
        if entry.get("action") == DRAFT and image.image not in self.reviewed:
            return True, entry.get("confidence")
        return False, None


def _write_images(source: Source, labels: _Labels, writer: Writer, tick: Callable[[], None]) -> pd.DataFrame:
    """Write every image and its copies; gives the ledger. Raises InputError if no image is left."""
    entries: dict[str, list[Entry]] = {}
    for image, stem, split in zip(
        source.images.itertuples(), _stems(source.images), _target_splits(source.images), strict=True
    ):
        tick()
        entries[str(image.path)] = _write_image(image, stem, split, labels, writer)
    ledger = _complete_ledger(source, entries)
    if not ledger["file"].astype(bool).any():
        first = next(entry for image_entries in entries.values() for entry in image_entries)
        raise InputError(f"{source.spec}: no image is left to write; first: {first.path} ({first.reason})")
    return ledger


def _write_image(image: Any, stem: str, split: str, labels: _Labels, writer: Writer) -> list[Entry]:
    """Write an image of the images table and its copies; gives their rows of the ledger."""
    path = Path(str(image.path))
    try:
        pixels = decode(path)
        rejection = labels.rejection(image, split)
    except UnreadableImage as error:
        rejection = str(error)
    if rejection:
        return [Entry(str(path), "", split, LEFT_OUT, _joined(labels.remark(image), rejection))]
    is_draft, confidence = labels.draft_confidence(image)
    boxes = labels.boxes(image)
    reason = _joined(labels.remark(image), "" if image.split else f"in no split: {split}")
    action = DRAFT if is_draft else KEPT
    entry = Entry(str(path), "", split, action, reason, len(boxes), confidence)
    return list(writer.write(entry, stem, pixels, boxes))


def _joined(*parts: str) -> str:
    """Reasons as one text."""
    return "; ".join(filter(None, parts))


def _target_splits(images: pd.DataFrame) -> list[str]:
    """The split of each image: its own, else that of its group, else train, on which nothing is measured."""
    named = images[images["split"] != ""].drop_duplicates("group").set_index("group")["split"]
    of_group = images["group"].map(named).fillna(TRAIN)
    return images["split"].where(images["split"] != "", of_group).tolist()


def draftable(source: Source) -> pd.DataFrame:
    """Images that may get a detector's boxes as draft labels.

    They are unlabelled and for training: drafts are no ground truth to measure with.
    """
    for_training = np.array(_target_splits(source.images)) == TRAIN
    return source.images[~source.images["labelled"] & for_training].reset_index(drop=True)


def _stems(images: pd.DataFrame) -> list[str]:
    """File names without suffix: clip and number, from which `datasets.groups` reads the clip again."""
    clips: dict[str, str] = {}
    taken: set[str] = set()
    for group in images["group"].unique():
        # Not "image": readers strip that word as part of the number.
        base = re.sub(r"[^A-Za-z0-9-]+", "-", group).strip("-")[-80:] or "clip"
        clip, number = base, 2
        # Compared as they are read: "road-img_000001" is read as clip "road".
        while (read := recording(f"{clip}_000000").lower()) in taken:
            clip, number = f"{base}-{number}", number + 1
        taken.add(read)
        clips[group] = clip
    return [f"{clips[group]}_{number:06d}" for number, group in enumerate(images["group"])]


def remove_boxes(
    boxes: pd.DataFrame, source: Source, min_side: float, max_share: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Remove boxes that are crowds, too small or too large.

    Parameters
    ----------
    boxes
        Boxes of the source's images.
    source
        The data.
    min_side
        Shortest side in pixels.
    max_share
        Largest share of the image's area.

    Returns
    -------
    tuple of DataFrame
        The boxes that stay, and a table like `Source.rows` of the others.
    """
    images = source.images.set_index("image")[["path", "width", "height"]]
    # A region in which no class counts has a row for each class.
    regions = boxes[boxes["crowd"]]
    place = ["image", *CORNERS]
    again = regions.duplicated(place) & ~regions.duplicated([*place, "label"])
    boxes = boxes.drop(index=regions.index[again]).reset_index(drop=True)
    reasons = []
    for box in boxes.merge(images, left_on="image", right_index=True, how="left").itertuples():
        width, height = box.x2 - box.x1, box.y2 - box.y1
        share = width * height / (box.width * box.height)
        reason = ""
        if box.crowd:
            reason = "a crowd or marked difficult, which YOLO labels cannot express"
        elif min(width, height) < min_side or min(width, height) <= 0:
            reason = f"{width:.4g}x{height:.4g} px, a side below {min_side:g}"
        elif share > max_share:
            reason = f"covers {share:.3f} of its image, over {max_share:g}"
        reasons.append(f"{source.classes[box.label]}: {reason}" if reason else "")
    is_removed = np.array([bool(reason) for reason in reasons], bool)
    rows = [
        {"path": path, "line": 0, "action": "removed", "reason": reason}
        for path, reason in zip(boxes["image"].map(images["path"]), reasons, strict=True)
        if reason
    ]
    return boxes[~is_removed].reset_index(drop=True), frame(rows, ROW_COLUMNS)


def _read_ledgers(source: Source) -> dict[str, dict[str, Any]]:
    """Action and confidence of images, by path, from ledgers of `prepare` beside a source's images."""
    recorded: dict[str, dict[str, Any]] = {}
    for root in sorted({dataset_root(Path(path).parent) for path in source.images["path"]}):
        ledger = root / LEDGER
        if not ledger.is_file() or ledger.is_symlink():
            continue
        try:
            table = pd.read_csv(ledger, dtype={"file": "str", "action": "str", "confidence": "Float64"})
            written = table.loc[table["file"].notna(), ["file", "action", "confidence"]]
        except (OSError, ValueError, KeyError):
            # A file of that name which `prepare` did not write.
            continue
        for row in written.to_dict("records"):
            recorded[str(root / row["file"])] = row
    return recorded


def _refuse_copies(source: Source, recorded: dict[str, dict[str, Any]]) -> None:
    """Raise InputError for a source with augmented copies, which would be augmented again."""
    copies = [path for path in source.images["path"] if recorded.get(path, {}).get("action") == AUGMENTED]
    if copies:
        raise InputError(
            f"{source.spec}: {len(copies)} of its images are augmented copies "
            f"that 'shiftscope prepare' made, first: {copies[0]}; "
            "prepare the dataset that they were made from, "
            f"which {LEDGER} beside them names"
        )


def _complete_ledger(source: Source, entries: dict[str, list[Entry]]) -> pd.DataFrame:
    """Entries of images and other files, in the order of the source's ledger, then of video frames."""
    ordered: list[Entry] = []
    remaining = dict(entries)
    for file in source.ledger.to_dict("records"):
        action = READ if file["bucket"] == "used" else LEFT_OUT
        ordered += remaining.pop(file["path"], [Entry(file["path"], "", "", action, file["reason"])])
    ordered += [entry for image_entries in remaining.values() for entry in image_entries]
    return frame([entry._asdict() for entry in ordered], COLUMNS)


class Writer:
    """Writes images and labels into a draft folder.

    draft: the folder
    settings: see `prepare`
    """

    def __init__(self, draft: Path, settings: PreparationSettings) -> None:
        self.draft, self.settings = draft, settings

    def write(self, entry: Entry, stem: str, pixels: Pixels, boxes: pd.DataFrame) -> Iterator[Entry]:
        """Write an image and its augmented copies; gives their rows of the ledger."""
        raw = Path(entry.path).read_bytes()
        suffix = Path(entry.path).suffix.lower()
        suffix = SUFFIXES.get(suffix, suffix)
        height, width = pixels.shape[:2]
        corners = boxes[CORNERS].to_numpy(float)
        labels = label_text(boxes["label"].tolist(), corners, width, height)
        entry = entry._replace(file=self._write_files(entry.split, stem + suffix, raw, labels))
        yield entry
        recipe = self.settings.recipe
        if recipe is not None and entry.split == TRAIN and entry.action == KEPT:
            for number in range(1, self.settings.copies + 1):
                # Seeded by the image's content, so that a copy does not depend on the other images.
                digest = hashlib.sha256(f"{self.settings.seed} {number} ".encode() + raw).digest()
                rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
                yield self._write_copy(entry, number, recipe.copy(pixels, corners, rng), boxes)

    def _write_copy(self, original: Entry, number: int, copy: Copy, boxes: pd.DataFrame) -> Entry:
        """Write an augmented copy of an image with these boxes, unless the copy shows none of the objects."""
        lost = int((~copy.visible).sum())
        changes = copy.changes + (f"; {lost} of {len(boxes)} objects less than half inside" if lost else "")
        if lost and lost == len(boxes):
            reason = f"copy {number} would show no object: {changes}"
            return Entry(original.path, "", original.split, LEFT_OUT, reason)
        file = Path(original.file)
        kind = ".jpg" if file.suffix in {".jpg", ".jpeg"} else ".png"
        encoded = cv2.imencode(kind, copy.pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        visible = boxes[copy.visible]
        height, width = copy.pixels.shape[:2]
        labels = label_text(visible["label"].tolist(), copy.corners[copy.visible], width, height)
        name = self._write_files(original.split, f"{file.stem}_aug{number}{kind}", encoded, labels)
        return Entry(original.path, name, original.split, AUGMENTED, changes, len(visible))

    def _write_files(self, split: str, name: str, image: bytes, labels: str) -> str:
        """Write one image and its label file; gives the image's path in the dataset."""
        image_path = Path("images") / split / name
        label_path = Path("labels") / split / Path(name).with_suffix(".txt")
        for path, content in ((image_path, image), (label_path, labels.encode())):
            (self.draft / path).parent.mkdir(parents=True, exist_ok=True)
            (self.draft / path).write_bytes(content)
        return image_path.as_posix()

    def finish(self, folder: Path, source: Source, ledger: pd.DataFrame, rows: pd.DataFrame) -> None:
        """Write the data.yaml and the tables, and rename the draft to the final folder."""
        splits = set(ledger.loc[ledger["file"] != "", "split"])
        # Without a path the dataset can be moved: its splits are relative to the data.yaml.
        data_yaml = {
            **{split: f"images/{split}" for split in SPLITS if split in splits},
            "names": dict(enumerate(source.classes)),
        }
        (self.draft / "data.yaml").write_text(
            yaml.safe_dump(data_yaml, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
        for table, name in ((ledger, LEDGER), (rows, ROWS)):
            table.to_csv(self.draft / name, index=False, encoding="utf-8", errors="backslashreplace")
        # Only the owner can read a temporary folder.
        self.draft.chmod(0o755)
        self.draft.rename(folder)
