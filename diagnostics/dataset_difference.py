"""What a dataset version is beside another: images, annotations, classes and sizes. Nothing here needs a
detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from datasets.tables import CORNERS
from diagnostics.leakage import NEAR_DUPLICATE_BITS, nearest_fingerprint, unpack
from diagnostics.matching import Floats, Ints, iou_table

# Boxes that overlap so much are one object: below MOVED it was drawn anew, at or above it was rounded.
SAME_OBJECT, MOVED = 0.5, 0.95
# COCO's ranges, but of the share of the image: versions may differ in resolution. The square root of the area
# over the square root of the image's; at 640 x 640 px, 0.05 is 32 px and 0.15 is 96 px.
SIZES = (("small", 0.0, 0.05), ("medium", 0.05, 0.15), ("large", 0.15, float("inf")))
PAIR_COLUMNS = ("image_now", "image_before", "how")
# How an image of both versions is the same: by content, by name and looks (other pixels), or by looks alone.
SAME, OTHER_PIXELS, NEAR_COPY = "same", "other pixels", "near-copy"


@dataclass(frozen=True)
class Version:
    """One version of a dataset.

    images: image, split, labelled, width, height, content (a hash of the file) and fingerprint (see
        `datasets.pixels.difference_hash`)
    annotations: image, label, x1, y1, x2, y2
    classes: class names by index
    """

    images: pd.DataFrame
    annotations: pd.DataFrame
    classes: tuple[str, ...]


@dataclass(frozen=True)
class DatasetDifference:
    """What changed from one version to another.

    pairs: PAIR_COLUMNS, one row an image that both have
    added, removed: images that only one has
    copies: added images that are near-copies of an image that both have, as (added image, image now)
    moved_split: images of another split than before, as (image now, split before, split now)
    labelled: images that were unlabelled before and are labelled now, as background where nothing is on them
    unlabelled: images that were labelled before and are not now
    labels: one row a paired image whose annotations differ: image_now, added, removed, redrawn, renamed
    classes: one row a class: class, before, now (annotations)
    sizes: one row a range of SIZES: size, before, now (annotations)
    """

    pairs: pd.DataFrame
    added: tuple[str, ...]
    removed: tuple[str, ...]
    copies: tuple[tuple[str, str], ...]
    moved_split: tuple[tuple[str, str, str], ...]
    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...]
    labels: pd.DataFrame
    classes: pd.DataFrame
    sizes: pd.DataFrame


def compare_versions(now: Version, before: Version) -> DatasetDifference:
    """Compare two versions of a dataset.

    Parameters
    ----------
    now, before : Version
        The versions. Classes belong to each other by name.

    Returns
    -------
    DatasetDifference
    """
    pairs = _pair_images(now.images, before.images)
    added = _others(now.images["image"], pairs["image_now"])
    removed = _others(before.images["image"], pairs["image_before"])
    return DatasetDifference(
        pairs,
        tuple(added),
        tuple(removed),
        _copies(now.images, added),
        _moved_split(pairs, now.images, before.images),
        *_changed_state(pairs, now.images, before.images),
        _label_changes(pairs, now, before),
        _class_counts(now, before),
        _size_counts(now, before),
    )


def _others(images: pd.Series, taken: pd.Series) -> list[str]:
    """Images that are not taken, in order."""
    return images[~images.isin(taken)].tolist()


def _pair_images(now: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Images of both versions: by content, then by name, then by looks; each once."""
    pairs: list[tuple[str, str, str]] = []
    left, right = now.copy(), before.copy()
    for column, how in (("content", SAME), ("image", OTHER_PIXELS)):
        # Of equal images, the first of one version belongs to the first of the other, preferably under its
        # own name.
        keyed = [
            table.assign(key=table[column], turn=table.groupby(column).cumcount()) for table in (left, right)
        ]
        if column == "content":
            both = keyed[0].merge(keyed[1], on=["key", "image"], suffixes=("_now", "_before"))
            pairs += [(image, image, how) for image in both["image"]]
            keyed = [table[~table["image"].isin(both["image"])] for table in keyed]
            keyed = [table.assign(turn=table.groupby("key").cumcount()) for table in keyed]
        found = keyed[0].merge(keyed[1], on=["key", "turn"], suffixes=("_now", "_before"))
        if column == "image" and len(found):
            # Frames of another recording often have the same names.
            bits = unpack(found["fingerprint_now"].tolist()) != unpack(found["fingerprint_before"].tolist())
            found = found[bits.sum(1) <= NEAR_DUPLICATE_BITS]
        pairs += [(a, b, how) for a, b in zip(found["image_now"], found["image_before"], strict=True)]
        left = left[~left["image"].isin([a for a, _, _ in pairs])]
        right = right[~right["image"].isin([b for _, b, _ in pairs])]
    pairs += _by_looks(left, right)
    return pd.DataFrame(pairs, columns=list(PAIR_COLUMNS))


def _by_looks(now: pd.DataFrame, before: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Near-copies among what is left, each image once, the closest first."""
    if now.empty or before.empty:
        return []
    nearest, bits = nearest_fingerprint(
        unpack(now["fingerprint"].tolist()), unpack(before["fingerprint"].tolist())
    )
    taken: set[int] = set()
    pairs = []
    for row in np.argsort(bits, kind="stable"):
        other = int(nearest[row])
        if bits[row] <= NEAR_DUPLICATE_BITS and other not in taken:
            taken.add(other)
            pairs.append((str(now["image"].iloc[int(row)]), str(before["image"].iloc[other]), NEAR_COPY))
    return pairs


def _copies(now: pd.DataFrame, added: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Added images that are near-copies of another image of the version, which is no new information."""
    is_added = now["image"].isin(added).to_numpy()
    fresh, rest = now[is_added], now[~is_added]
    if fresh.empty or rest.empty:
        return ()
    nearest, bits = nearest_fingerprint(
        unpack(fresh["fingerprint"].tolist()), unpack(rest["fingerprint"].tolist())
    )
    return tuple(
        (str(image), str(rest["image"].iloc[int(other)]))
        for image, other, distance in zip(fresh["image"], nearest, bits, strict=True)
        if distance <= NEAR_DUPLICATE_BITS
    )


def _moved_split(
    pairs: pd.DataFrame, now: pd.DataFrame, before: pd.DataFrame
) -> tuple[tuple[str, str, str], ...]:
    """Images of another split than before."""
    split_now, split_before = (dict(zip(t["image"], t["split"], strict=True)) for t in (now, before))
    return tuple(
        (a, split_before[b], split_now[a])
        for a, b in zip(pairs["image_now"], pairs["image_before"], strict=True)
        if split_now[a] and split_before[b] and split_now[a] != split_before[b]
    )


def _changed_state(
    pairs: pd.DataFrame, now: pd.DataFrame, before: pd.DataFrame
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Images of both versions that became labelled, and those that became unlabelled."""
    is_now, was = (dict(zip(t["image"], t["labelled"].astype(bool), strict=True)) for t in (now, before))
    both = list(zip(pairs["image_now"], pairs["image_before"], strict=True))
    return (
        tuple(a for a, b in both if is_now[a] and not was[b]),
        tuple(a for a, b in both if was[b] and not is_now[a]),
    )


def _label_changes(pairs: pd.DataFrame, now: Version, before: Version) -> pd.DataFrame:
    """Annotations that were added, removed, redrawn or renamed, one row an image with any."""
    boxes = [
        {str(image): part for image, part in version.annotations.groupby("image")}
        for version in (now, before)
    ]
    sizes = [
        version.images.set_index("image")[["width", "height"]].astype(float) for version in (now, before)
    ]
    records = []
    for first, second in zip(pairs["image_now"], pairs["image_before"], strict=True):
        mine, theirs = boxes[0].get(first), boxes[1].get(second)
        if mine is None and theirs is None:
            continue
        scale = (sizes[0].loc[first] / sizes[1].loc[second]).to_numpy()
        counts = _compare_boxes(
            *_corners_and_names(mine, now.classes, np.ones(2)),
            *_corners_and_names(theirs, before.classes, scale),
        )
        if any(counts.values()):
            records.append({"image_now": first, **counts})
    return pd.DataFrame(records, columns=["image_now", "added", "removed", "redrawn", "renamed"])


def _corners_and_names(
    boxes: pd.DataFrame | None, classes: tuple[str, ...], scale: Floats
) -> tuple[Floats, list[str]]:
    """Corners (n, 4) in pixels of the image now, and class names."""
    if boxes is None:
        return np.zeros((0, 4)), []
    names = [classes[k] if k < len(classes) else str(k) for k in boxes["label"].astype(int)]
    return boxes[CORNERS].to_numpy(float) * np.tile(scale, 2), names


def _compare_boxes(
    now: Floats, now_names: list[str], before: Floats, before_names: list[str]
) -> dict[str, int]:
    """Counts of added, removed, redrawn and renamed boxes; pairs overlap by SAME_OBJECT, those of one class
    first.
    """
    rows, columns, overlap = _matched(now, now_names, before, before_names)
    renamed = sum(now_names[a] != before_names[b] for a, b in zip(rows, columns, strict=True))
    return {
        "added": len(now) - len(rows),
        "removed": len(before) - len(rows),
        "redrawn": int((overlap < MOVED).sum()),
        "renamed": renamed,
    }


def _matched(
    now: Floats, now_names: list[str], before: Floats, before_names: list[str]
) -> tuple[Ints, Ints, Floats]:
    """Rows of one object in both, and how much they overlap: greedily, one class before two, the closest
    first.
    """
    if not len(now) or not len(before):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    iou = iou_table(now, before)
    alike = np.array(now_names, object)[:, None] == np.array(before_names, object)[None]
    candidates = np.argwhere(iou >= SAME_OBJECT)
    order = np.lexsort((-iou[tuple(candidates.T)], ~alike[tuple(candidates.T)]))
    rows: list[int] = []
    columns: list[int] = []
    for a, b in candidates[order]:
        if a not in rows and b not in columns:
            rows.append(int(a))
            columns.append(int(b))
    return np.array(rows, np.int64), np.array(columns, np.int64), iou[rows, columns] if rows else np.zeros(0)


def _class_counts(now: Version, before: Version) -> pd.DataFrame:
    """Annotations of each class in both versions, those that changed most first."""
    counts = [
        pd.Series(_corners_and_names(version.annotations, version.classes, np.ones(2))[1], dtype=str)
        .value_counts()
        .to_dict()
        for version in (before, now)
    ]
    names = dict.fromkeys((*now.classes, *before.classes, *counts[0], *counts[1]))
    table = pd.DataFrame(
        [(name, counts[0].get(name, 0), counts[1].get(name, 0)) for name in names],
        columns=["class", "before", "now"],
    )
    change = (table["now"] - table["before"]).abs()
    return table.iloc[change.sort_values(ascending=False, kind="stable").index].reset_index(drop=True)


def _size_counts(now: Version, before: Version) -> pd.DataFrame:
    """Annotations of each range of SIZES in both versions."""
    sides = []
    for version in (before, now):
        area = version.images.set_index("image")[["width", "height"]].astype(float).prod(axis=1)
        boxes = version.annotations
        own = (boxes["x2"] - boxes["x1"]) * (boxes["y2"] - boxes["y1"])
        sides.append(np.sqrt(np.maximum(own, 0) / boxes["image"].map(area)).to_numpy(float))
    return pd.DataFrame(
        [
            (name, *(int(((side >= low) & (side < high)).sum()) for side in sides))
            for name, low, high in SIZES
        ],
        columns=["size", "before", "now"],
    )
