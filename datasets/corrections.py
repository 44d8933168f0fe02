"""What people corrected in images by hand: labels and tags kept beside the sources, which stay as they are, and put in their place when a source is opened."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from datasets.errors import InputError
from datasets.tables import BOX_COLUMNS, CORNERS, OWN, Source, concatenate, frame

# Pixels: corrected boxes are kept with two digits, and read again from the same file they are the same numbers.
SAME_CORNER = 0.02
# Format 1, of the first version, says "pictures" where format 2 says "images".
FORMAT = 2
# Columns of an images table that hold tags; and the tag that says what to do with an image, not what it shows: its column is nothing to slice by.
TAGGED = f"{OWN}tag "
LABEL_NEXT, PICKED = "label next", "picked"

Box = tuple[str, float, float, float, float, bool]


@dataclass(frozen=True)
class Correction:
    """One image. was: its labels (class, x1, y1, x2, y2 in pixels, crowd) in the source at that time, None where it had none. now: the corrected
    labels, None where labels are as they were. tags: set by hand. origin: the dataset, and its writing, in which the labels were corrected.
    """

    was: tuple[Box, ...] | None
    now: tuple[Box, ...] | None
    tags: tuple[str, ...] = ()
    origin: str = ""


@dataclass(frozen=True)
class Applied:
    """Images of a source whose labels were replaced, whose labels have changed in the source since and were left, that would have been labelled with
    nothing but unknown classes and were left, and that carry tags.

    unknown: classes of corrected boxes that the source does not have; such boxes are left out.
    """

    labels: int = 0
    stale: int = 0
    foreign: int = 0
    tagged: int = 0
    unknown: tuple[str, ...] = ()


def read_corrections(path: Path) -> dict[str, Correction]:
    """Corrections by the path of their image; none where there is no file. Raises InputError when it is not one of ours."""
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
            f"{path}: not a file of corrections ({type(error).__name__}: {error}); move it away, or give --no-corrections"
        ) from None


def as_text(corrections: Mapping[str, Correction]) -> str:
    """The file's content, for `read_corrections`."""
    images = {
        name: {"was": c.was, "now": c.now, "tags": list(c.tags), "origin": c.origin}
        for name, c in sorted(corrections.items())
    }
    return json.dumps({"format": FORMAT, "images": images}, indent=1)


def _boxes_from(rows: Sequence[Sequence[object]] | None) -> tuple[Box, ...] | None:
    """Boxes from JSON's lists."""
    if rows is None:
        return None
    return tuple(
        (str(name), *(float(v) for v in corners), bool(crowd))  # type: ignore[arg-type,misc]
        for name, *corners, crowd in rows
    )


def same_boxes(first: Sequence[Box], second: Sequence[Box]) -> bool:
    """Whether two images' labels are the same up to rounding, whatever their order."""
    left = list(second)
    for name, *corners, crowd in first:
        for place, (other, *theirs, other_crowd) in enumerate(left):
            near = all(abs(float(a) - float(b)) <= SAME_CORNER for a, b in zip(corners, theirs, strict=True))
            if name == other and crowd == other_crowd and near:
                del left[place]
                break
        else:
            return False
    return not left


def _boxes_of(source: Source, image: str, classes: Sequence[str]) -> tuple[Box, ...]:
    """An image's labels as they stand in a source."""
    mine = source.annotations[source.annotations["image"] == image]
    return tuple(
        (classes[int(label)], *map(float, corners), bool(crowd))  # type: ignore[misc]
        for label, *corners, crowd in mine[["label", *CORNERS, "crowd"]].itertuples(index=False, name=None)
    )


def apply(
    source: Source, corrections: Mapping[str, Correction], classes: Sequence[str]
) -> tuple[Source, Applied]:
    """The source with corrected labels and tags, and what was done. classes: the detector's, where the source names none."""
    names = tuple(source.classes or classes)
    mine = source.images[source.images["path"].isin(list(corrections))]
    if mine.empty:
        return source, Applied()
    replaced: dict[str, tuple[Box, ...]] = {}
    stale = tagged = foreign = 0
    unknown: set[str] = set()
    tags: dict[str, dict[str, str]] = {}
    for image, path, labelled in mine[["image", "path", "labelled"]].itertuples(index=False, name=None):
        found = corrections[path]
        for tag in found.tags:
            tags.setdefault(PICKED if tag == LABEL_NEXT else f"{TAGGED}{tag}", {})[image] = "yes"
        tagged += bool(found.tags)
        if found.now is None:
            continue
        current = _boxes_of(source, image, names) if labelled else None
        if current is not None and same_boxes(current, found.now):
            continue
        if (current is None) != (found.was is None) or (
            current is not None and not same_boxes(current, found.was or ())
        ):
            stale += 1
            continue
        unknown |= {box[0] for box in found.now} - set(names)
        if current is None and not any(box[0] in names for box in found.now):
            # With no box left it would count as an image without objects, which nobody said.
            foreign += 1
            continue
        replaced[image] = found.now
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
    kept = source.annotations[~source.annotations["image"].isin(list(replaced))]
    images = source.images.assign(
        labelled=source.images["labelled"] | source.images["image"].isin(list(replaced)),
        **{column: source.images["image"].map(values) for column, values in tags.items()},
    )
    boxes = concatenate([kept, frame(records, BOX_COLUMNS)], BOX_COLUMNS)
    # In the order of images, as every reader has it.
    order = pd.Series(range(len(images)), index=images["image"])
    boxes = boxes.iloc[boxes["image"].map(order).argsort(kind="stable")].reset_index(drop=True)
    done = Applied(len(replaced), stale, foreign, tagged, tuple(sorted(unknown)))
    return replace(source, images=images, annotations=boxes, classes=source.classes), done
