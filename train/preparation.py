"""A cleaned copy of a source as a new YOLO dataset, with changed copies of its training images where asked for. The source itself is only read.

ledger.csv: every file of the source once, every frame of a video, and every changed copy. path, file (relative to the dataset, empty where none was written), split, action
("kept", "augmented", "draft", "left out", and "read" for label files, descriptions and videos, whose content went into the labels or frames), reason, boxes, confidence (of a draft's least sure box).
rows.csv: as `rows` of a source, and each box that was taken out, with line 0 and action "removed"; its path is that of the image.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from train.augmentation import Recipe

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
# Ultralytics does not know every name of a JPEG.
SUFFIXES = {".jfif": ".jpg"}
EMPTIED = "all of its boxes were taken out, and an empty label file would say that nothing is there"
# Of a changed copy of a JPEG; that of any other image is a PNG, which loses nothing.
QUALITY = 95


@dataclass(frozen=True)
class Prepared:
    """What was written. card: the data.yaml. ledger, rows: as they stand beside it."""

    data_yaml: Path
    ledger: pd.DataFrame
    rows: pd.DataFrame


def prepare(
    source: Source,
    folder: Path,
    *,
    drafts: pd.DataFrame | None = None,
    reviewed: frozenset[str] = frozenset(),
    copies: int = 0,
    recipe: Recipe | None = None,
    min_side: float = 1.0,
    max_share: float = 1.0,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> Prepared:
    """Write a source as a YOLO dataset into a new folder, which appears whole.

    Images are copied byte for byte; those that cannot be decoded, and those without labels, are left out. drafts: boxes table with a column confidence, which become the labels of
    images of `draftable`; None where no detector was asked. reviewed: images whose drafts somebody looked through: their labels are no drafts any more. copies: changed copies by recipe of each training image that people labelled. min_side: boxes with a shorter side, in pixels
    of the image, are taken out; max_share: also those over this share of its area; and crowds. An image that loses all of its boxes so is left out, since an empty label file would say that nothing is
    there. tick is called once an image. Raises InputError where the folder is there, no class is named, the source holds copies made here, or no image is left.
    """
    if folder.exists():
        raise InputError(f"{folder}: exists already; give a new folder with --out")
    if not source.classes:
        raise InputError(f"{source.spec}: names no classes; give --names pothole,crack or a data.yaml")
    before = _recorded(source)
    _refuse_copies(source, before)
    boxes = source.annotations.assign(confidence=np.nan)
    if drafts is not None and len(drafts):
        boxes = pd.concat([boxes, drafts.assign(crowd=False)[boxes.columns]], ignore_index=True)
    stays, removed = cleaned(boxes, source, min_side, max_share)
    emptied = set(boxes["image"]) - set(stays["image"])
    drafted = set(drafts["image"]) if drafts is not None else set()
    boxes_of = dict(iter(stays.groupby("image")))
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Of a name that nobody else has: what lies beside belongs to somebody.
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    writer = Writer(draft, copies, recipe, seed)
    remarks = dict(zip(source.ledger["path"], source.ledger["reason"], strict=True))
    records: dict[str, list[dict[str, Any]]] = {}
    for image, stem, split in zip(
        source.images.itertuples(), _stems(source.images), _target_splits(source.images), strict=True
    ):
        tick()
        place = Path(str(image.path))
        remark = remarks.get(str(place), "").removeprefix(UNLABELLED).removeprefix("; ")
        whither = "" if image.split else f"in no split: {split}"
        earlier = before.get(str(place), {})
        still = earlier.get("action") == DRAFT and image.image not in reviewed
        action = DRAFT if image.image in drafted or still else KEPT
        labelled = image.labelled or image.image in drafted
        try:
            pixels = decode(place)
            against = "" if labelled else _without_labels(split, asked=drafts is not None)
            against = EMPTIED if image.image in emptied else against
        except UnreadableImage as broken:
            against = str(broken)
        if against:
            reason = "; ".join(filter(None, [remark, against]))
            records[str(place)] = [_entry(str(place), "", split, LEFT_OUT, reason)]
            continue
        mine = boxes_of.get(image.image, stays.iloc[:0])
        sure = (
            mine["confidence"].min()
            if image.image in drafted
            else earlier.get("confidence")
            if still
            else None
        )
        reason = "; ".join(filter(None, [remark, whither]))
        records[str(place)] = list(writer.write(place, stem, split, pixels, mine, action, reason, sure))
    ledger = _whole_ledger(source, records)
    rows = concatenate([source.rows, removed], ROW_COLUMNS)
    if not ledger["file"].astype(bool).any():
        first = next(record for listed in records.values() for record in listed)
        shutil.rmtree(draft, ignore_errors=True)
        raise InputError(
            f"{source.spec}: no image is left to write; first: {first['path']} ({first['reason']})"
        )
    writer.finish(folder, source, ledger, rows)
    return Prepared(folder / "data.yaml", ledger, rows)


def _target_splits(images: pd.DataFrame) -> list[str]:
    """Split that each image goes to: its own; where it has none, that of its group; else train, the one split that nothing is measured on."""
    named = images[images["split"] != ""].drop_duplicates("group").set_index("group")["split"]
    of_group = images["group"].map(named).fillna(TRAIN)
    return images["split"].where(images["split"] != "", of_group).tolist()


def draftable(source: Source) -> pd.DataFrame:
    """Images that may get a detector's boxes as draft labels: without labels, and for training. A draft is no truth to measure with."""
    for_training = np.array(_target_splits(source.images)) == TRAIN
    return source.images[~source.images["labelled"] & for_training].reset_index(drop=True)


def _without_labels(split: str, *, asked: bool) -> str:
    """Why an unlabelled image is left out. asked: whether a detector was."""
    if not asked:
        return "unlabelled"
    if split != TRAIN:
        return f"unlabelled, of split {split}: drafts are for training only"
    return "unlabelled, and the detector is not sure enough of any box"


def _stems(images: pd.DataFrame) -> list[str]:
    """File names without suffix: the clip first and a number last, which is how clips are told from names; clips stay apart."""
    clips: dict[str, str] = {}
    taken: set[str] = set()
    for group in images["group"].unique():
        base = re.sub(r"[^A-Za-z0-9-]+", "-", group).strip("-")[-80:] or "image"
        clip, number = base, 2
        # What the reader will take for the clip: "road-img_000001" is of "road" to it.
        while (read := recording(f"{clip}_000000").lower()) in taken:
            clip, number = f"{base}-{number}", number + 1
        taken.add(read)
        clips[group] = clip
    return [f"{clips[group]}_{number:06d}" for number, group in enumerate(images["group"])]


def cleaned(
    boxes: pd.DataFrame, source: Source, min_side: float, max_share: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The boxes that stay, and a table like `rows` of the others."""
    images = source.images.set_index("image")[["path", "width", "height"]]
    reasons = []
    for box in boxes.merge(images, left_on="image", right_index=True, how="left").itertuples():
        width, height = box.x2 - box.x1, box.y2 - box.y1
        share = width * height / (box.width * box.height)
        reason = ""
        if box.crowd:
            reason = "a crowd or marked difficult, which YOLO labels cannot say"
        elif min(width, height) < min_side or min(width, height) <= 0:
            reason = f"{width:.4g}x{height:.4g} px, a side below {min_side:g}"
        elif share > max_share:
            reason = f"covers {share:.3f} of its image, over {max_share:g}"
        reasons.append(f"{source.classes[box.label]}: {reason}" if reason else "")
    gone = np.array([bool(reason) for reason in reasons], bool)
    notes = [
        {"path": path, "line": 0, "action": "removed", "reason": reason}
        for path, reason in zip(boxes["image"].map(images["path"]), reasons, strict=True)
        if reason
    ]
    return boxes[~gone].reset_index(drop=True), frame(notes, ROW_COLUMNS)


def _recorded(source: Source) -> dict[str, dict[str, Any]]:
    """What ledgers of ours beside a source's images say of them, by path: action and confidence. Nothing for everybody else's datasets."""
    found: dict[str, dict[str, Any]] = {}
    for root in sorted({dataset_root(Path(path).parent) for path in source.images["path"]}):
        ledger = root / LEDGER
        if not ledger.is_file() or ledger.is_symlink():
            continue
        try:
            table = pd.read_csv(ledger, dtype={"file": "str", "action": "str", "confidence": "Float64"})
            written = table.loc[table["file"].notna(), ["file", "action", "confidence"]]
        except (OSError, ValueError, KeyError):
            # Somebody else's file of that name.
            continue
        for row in written.to_dict("records"):
            found[str(root / row["file"])] = row
    return found


def _refuse_copies(source: Source, before: dict[str, dict[str, Any]]) -> None:
    """Raise InputError for a source that holds changed copies: changed again, they would be further from any camera with each round."""
    copies = [path for path in source.images["path"] if before.get(path, {}).get("action") == AUGMENTED]
    if copies:
        raise InputError(
            f"{source.spec}: {len(copies)} of its images are augmented copies that 'shiftscope prepare' made, first: {copies[0]}; prepare the dataset that they were made from, which {LEDGER} beside them names"
        )


def _entry(
    path: str,
    file: str,
    split: str,
    action: str,
    reason: str,
    boxes: int | None = None,
    confidence: float | None = None,
) -> dict[str, Any]:
    """One row of the ledger."""
    values = (path, file, split, action, reason, boxes, confidence)
    return dict(zip(COLUMNS, values, strict=True))


def _whole_ledger(source: Source, records: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """Records of images by path, in the order of the source's ledger and with its other files among them; frames of videos behind."""
    listed: list[dict[str, Any]] = []
    waiting = dict(records)
    for file in source.ledger.to_dict("records"):
        action = READ if file["bucket"] == "used" else LEFT_OUT
        listed += waiting.pop(file["path"], [_entry(file["path"], "", "", action, file["reason"])])
    listed += [record for rest in waiting.values() for record in rest]
    return frame(listed, COLUMNS)


class Writer:
    """Writes images and labels into a folder beside the final one. copies, recipe, seed: see `prepare`."""

    def __init__(self, draft: Path, copies: int, recipe: Recipe | None, seed: int) -> None:
        self.draft, self.copies, self.recipe, self.seed = draft, copies, recipe, seed

    def write(
        self,
        original: Path,
        stem: str,
        split: str,
        pixels: Pixels,
        boxes: pd.DataFrame,
        action: str,
        reason: str,
        confidence: float | None,
    ) -> Iterator[dict[str, Any]]:
        """Write an image and its changed copies; gives their rows of the ledger."""
        raw = original.read_bytes()
        suffix = SUFFIXES.get(original.suffix.lower(), original.suffix.lower())
        height, width = pixels.shape[:2]
        corners = boxes[CORNERS].to_numpy(float)
        file = self.place(
            split, stem + suffix, raw, label_text(boxes["label"].tolist(), corners, width, height)
        )
        yield _entry(str(original), file, split, action, reason, len(boxes), confidence)
        if self.recipe is None or split != TRAIN or action != KEPT:
            return
        kind = ".jpg" if suffix in {".jpg", ".jpeg"} else ".png"
        for number in range(1, self.copies + 1):
            # By the image's content, so that other images coming or going change nothing.
            drawn = hashlib.sha256(f"{self.seed} {number} ".encode() + raw).digest()
            copy = self.recipe.copy(pixels, corners, np.random.default_rng(int.from_bytes(drawn[:16], "big")))
            there, lost = boxes[copy.visible], int((~copy.visible).sum())
            done = copy.changes + (f"; {lost} of {len(boxes)} objects less than half inside" if lost else "")
            if lost == len(boxes) and lost:
                reason = f"copy {number} would show no object: {done}"
                yield _entry(str(original), "", split, LEFT_OUT, reason)
                continue
            encoded = cv2.imencode(kind, copy.pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
            text = label_text(there["label"].tolist(), copy.corners[copy.visible], width, height)
            file = self.place(split, f"{stem}_aug{number}{kind}", encoded, text)
            yield _entry(str(original), file, split, AUGMENTED, done, len(there))

    def place(self, split: str, name: str, image: bytes, labels: str) -> str:
        """Write one image and its label file; gives the image's place in the dataset."""
        file = Path("images") / split / name
        text = Path("labels") / split / Path(name).with_suffix(".txt")
        for path, content in ((file, image), (text, labels.encode())):
            (self.draft / path).parent.mkdir(parents=True, exist_ok=True)
            (self.draft / path).write_bytes(content)
        return file.as_posix()

    def finish(self, folder: Path, source: Source, ledger: pd.DataFrame, rows: pd.DataFrame) -> None:
        """Write what describes the dataset, and put it where it belongs."""
        there = set(ledger.loc[ledger["file"] != "", "split"])
        # Without a path it may be moved: its splits lie beside it.
        data_yaml = {
            **{split: f"images/{split}" for split in SPLITS if split in there},
            "names": dict(enumerate(source.classes)),
        }
        (self.draft / "data.yaml").write_text(
            yaml.safe_dump(data_yaml, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
        for table, name in ((ledger, LEDGER), (rows, ROWS)):
            table.to_csv(self.draft / name, index=False, encoding="utf-8", errors="backslashreplace")
        # A temporary folder is nobody else's to read.
        self.draft.chmod(0o755)
        self.draft.rename(folder)
