"""Labels and tags corrected by hand.

They are kept in a file of their own and applied when a source is opened; the source on disk is never changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from datasets.errors import InputError, cause_of
from datasets.tables import BOX_COLUMNS, CORNERS, OWN, Source, concatenate, frame

# Corners that differ by at most this many pixels are equal: corrected boxes are stored with two digits.
SAME_CORNER = 0.02
# Format 1, of the first version, has the key "pictures" in place of "images".
FORMAT = 2
# Prefix of the columns of an images table that hold tags.
TAGGED = f"{OWN}tag "
# This tag states what to do with an image, not what it shows. Its column has no prefix, so it gives no slice.
LABEL_NEXT, PICKED = "label next", "picked"

# Class name, x1, y1, x2, y2 (pixels), crowd.
Box = tuple[str, float, float, float, float, bool]


@dataclass(frozen=True)
class Correction:
    """The correction of one image.

    was: its labels in the source when it was corrected, None if it was unlabelled.
    now: the corrected labels, None if they are unchanged.
    tags: tags set by hand.
    origin: the FiftyOne dataset, and its version, in which the labels were corrected.
    """

    was: tuple[Box, ...] | None
    now: tuple[Box, ...] | None
    tags: tuple[str, ...] = ()
    origin: str = ""


@dataclass(frozen=True)
class Applied:
    """What applying corrections to a source did.

    labels: images whose labels were replaced.
    stale: images left as they are because their labels changed in the source after the correction.
    foreign: images left unlabelled because all their corrected boxes have unknown classes.
    tagged: images with tags.
    unknown: classes of corrected boxes that the source does not have; such boxes are left out.
    """

    labels: int = 0
    stale: int = 0
    foreign: int = 0
    tagged: int = 0
    unknown: tuple[str, ...] = ()


def read_corrections(path: Path) -> dict[str, Correction]:
    """Read a file of corrections.

    Parameters
    ----------
    path
        The file, of format 1 or 2; it need not exist.

    Returns
    -------
    dict[str, Correction]
        Path of an image -> its correction; empty without a file.

    Raises
    ------
    InputError
        If it is not a file of corrections.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] not in (1, FORMAT):
            raise ValueError(f"format {content['format']}")
        entries = content["images" if content["format"] == FORMAT else "pictures"]
        return {
            name: Correction(
                _boxes_from(entry["was"]),
                _boxes_from(entry["now"]),
                tuple(map(str, entry["tags"])),
                str(entry["origin"]),
            )
            for name, entry in entries.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a file of corrections ({cause_of(error)}); "
            "move it elsewhere, or give --no-corrections"
        ) from None


def as_text(corrections: Mapping[str, Correction]) -> str:
    """Corrections as the text of a file that `read_corrections` reads."""
    images = {
        name: {"was": c.was, "now": c.now, "tags": list(c.tags), "origin": c.origin}
        for name, c in sorted(corrections.items())
    }
    return json.dumps({"format": FORMAT, "images": images}, indent=1)


def _boxes_from(rows: Sequence[Sequence[object]] | None) -> tuple[Box, ...] | None:
    """Boxes from the lists of a JSON file."""
    if rows is None:
        return None
    return tuple(
        (str(name), *(float(v) for v in corners), bool(crowd))  # type: ignore[arg-type,misc]
        for name, *corners, crowd in rows
    )


def same_boxes(first: Sequence[Box], second: Sequence[Box]) -> bool:
    """Whether two sets of labels are equal up to rounding and order."""
    unmatched = list(second)
    for name, *corners, crowd in first:
        for i, (other_name, *other_corners, other_crowd) in enumerate(unmatched):
            near = all(
                abs(float(a) - float(b)) <= SAME_CORNER for a, b in zip(corners, other_corners, strict=True)
            )
            if name == other_name and crowd == other_crowd and near:
                del unmatched[i]
                break
        else:
            return False
    return not unmatched


def _boxes_of(source: Source, image: str, classes: Sequence[str]) -> tuple[Box, ...]:
    """Labels of an image in a source."""
    annotations = source.annotations[source.annotations["image"] == image]
    return tuple(
        (classes[int(label)], *map(float, corners), bool(crowd))  # type: ignore[misc]
        for label, *corners, crowd in annotations[["label", *CORNERS, "crowd"]].itertuples(
            index=False, name=None
        )
    )


def apply(
    source: Source, corrections: Mapping[str, Correction], classes: Sequence[str]
) -> tuple[Source, Applied]:
    """Apply corrections to a source.

    Parameters
    ----------
    source
        The source as it was read.
    corrections
        Path of an image -> its correction; paths that the source does not have are ignored.
    classes
        The detector's class names, used if the source has none.

    Returns
    -------
    tuple[Source, Applied]
        The source with corrected labels and tags, and counts of what was done.
    """
    names = tuple(source.classes or classes)
    corrected = source.images[source.images["path"].isin(list(corrections))]
    if corrected.empty:
        return source, Applied()
    replaced: dict[str, tuple[Box, ...]] = {}
    stale = foreign = 0
    unknown: set[str] = set()
    for image, path, labelled in corrected[["image", "path", "labelled"]].itertuples(index=False, name=None):
        correction = corrections[path]
        if correction.now is None:
            continue
        current = _boxes_of(source, image, names) if labelled else None
        if current is not None and same_boxes(current, correction.now):
            continue
        if (current is None) != (correction.was is None) or (
            current is not None and not same_boxes(current, correction.was or ())
        ):
            stale += 1
            continue
        unknown |= {box[0] for box in correction.now} - set(names)
        if current is None and not any(box[0] in names for box in correction.now):
            # Without a single box it would count as a background image, which nobody confirmed.
            foreign += 1
            continue
        replaced[image] = correction.now
    images = source.images.assign(
        labelled=source.images["labelled"] | source.images["image"].isin(list(replaced)),
        unusable=source.images["unusable"] & ~source.images["image"].isin(list(replaced)),
        **{
            column: source.images["image"].map(values)
            for column, values in _tag_columns(corrected, corrections).items()
        },
    )
    tagged = sum(bool(corrections[path].tags) for path in corrected["path"])
    changed = replace(source, images=images, annotations=_replace_boxes(source, replaced, names))
    return changed, Applied(len(replaced), stale, foreign, tagged, tuple(sorted(unknown)))


def _tag_columns(images: pd.DataFrame, corrections: Mapping[str, Correction]) -> dict[str, dict[str, str]]:
    """Column of the images table -> image -> "yes", for each tag of these images."""
    columns: dict[str, dict[str, str]] = {}
    for image, path in images[["image", "path"]].itertuples(index=False, name=None):
        for tag in corrections[path].tags:
            columns.setdefault(PICKED if tag == LABEL_NEXT else f"{TAGGED}{tag}", {})[image] = "yes"
    return columns


def _replace_boxes(
    source: Source, replaced: Mapping[str, Sequence[Box]], names: Sequence[str]
) -> pd.DataFrame:
    """The annotations of a source with those of some images replaced; unknown classes are left out."""
    records = [
        {
            "image": image,
            "label": names.index(name),
            **dict(zip(CORNERS, corners, strict=True)),
            "crowd": crowd,
        }
        for image, boxes in replaced.items()
        for name, *corners, crowd in boxes
        if name in names
    ]
    unchanged = source.annotations[~source.annotations["image"].isin(list(replaced))]
    annotations = concatenate([unchanged, frame(records, BOX_COLUMNS)], BOX_COLUMNS)
    # Every reader returns annotations in the order of the images.
    order = pd.Series(range(len(source.images)), index=source.images["image"])
    return annotations.iloc[annotations["image"].map(order).argsort(kind="stable")].reset_index(drop=True)
