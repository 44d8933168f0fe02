"""Several sources as one: images that two of them have, ids that two images have, and one list of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from datasets.classes import BY_NAME, LEFT_OUT, renumbered
from datasets.errors import InputError
from datasets.tables import (
    BOX_COLUMNS,
    BURST_COLUMNS,
    CORNERS,
    IMAGE_COLUMNS,
    LEDGER_COLUMNS,
    ROW_COLUMNS,
    Source,
    concatenate,
)

# Kinds of source whose images have YOLO label files.
WITH_LABEL_FILES = frozenset({"yolo", "folder", "list"})


def merge(spec: str, parts: Sequence[Source]) -> Source:
    """Merge sources into one.

    An image in two sources counts once, with the annotations of both where they are COCO files. Ids that two
    images share get the number of their source as a prefix. Classes are brought into one order by their
    names.

    Parameters
    ----------
    spec
        The specification of the whole.
    parts
        The sources, at least one.

    Returns
    -------
    Source
        An id of `Source.image_ids` that means another image in another file is "" there.

    Raises
    ------
    InputError
        The class names differ, or COCO files annotate the same images differently.
    """
    orders = {part.classes for part in parts if part.classes}
    parts = _with_common_classes(parts)
    parts, joined_ids = _joined(parts)
    first = parts[0]
    names = pd.concat([part.images["image"] for part in parts])
    groups_of_all = pd.concat([part.images["group"].drop_duplicates() for part in parts])
    # Groups of the same name in two sources are different groups.
    shared_groups = set(groups_of_all[groups_of_all.duplicated()])
    tables: dict[str, list[pd.DataFrame]] = {"images": [], "annotations": [], "bursts": []}
    image_ids: dict[Any, str] = {}
    repeated = names[names.duplicated()]
    prefixes = [
        f"{n}/" if part.images["image"].isin(repeated).any() else "" for n, part in enumerate(parts, start=1)
    ]
    for number, (part, prefix) in enumerate(zip(parts, prefixes, strict=True), start=1):
        for kind, collected in tables.items():
            table = getattr(part, kind)
            if prefix:
                table = table.assign(image=(prefix + table["image"]).astype("str"))
            if "group" in table and shared_groups:
                renamed = table["group"].where(
                    ~table["group"].isin(shared_groups), f"{number}/" + table["group"]
                )
                table = table.assign(group=renamed.astype("str"))
            collected.append(table)
        for key, name in part.image_ids.items():
            owner, name = joined_ids.get((number, key), (number - 1, name))
            name = prefixes[owner] + name
            image_ids[key] = name if image_ids.get(key, name) == name else ""
    ledger = pd.concat([part.ledger for part in parts], ignore_index=True)
    # A file that one source uses and another skips is used.
    order = ledger["bucket"].map({"used": 0, "failed": 1, "skipped": 2})
    ledger = ledger.loc[order.sort_values(kind="stable").index].drop_duplicates("path").sort_index()
    kinds = {part.kind for part in parts}
    return replace(
        first,
        spec=spec,
        # Label files on disk do not have the numbers of renumbered sources.
        kind=kinds.pop()
        if len(kinds) == 1 and (len(orders) < 2 or not kinds & WITH_LABEL_FILES)
        else "several",
        classes=next((part.classes for part in parts if part.classes), ()),
        images=concatenate(tables["images"], IMAGE_COLUMNS),
        annotations=concatenate(tables["annotations"], BOX_COLUMNS),
        bursts=concatenate(tables["bursts"], BURST_COLUMNS),
        ledger=ledger.reset_index(drop=True),
        rows=concatenate([part.rows for part in parts], ROW_COLUMNS),
        grouping="; ".join(dict.fromkeys(part.grouping for part in parts if part.grouping)),
        origin="; ".join(dict.fromkeys(part.origin for part in parts if part.origin)),
        image_ids=image_ids,
        category_ids=_common_category_ids([part.category_ids for part in parts]),
    )


# The corners of an annotation to a tenth of a pixel, by which it is the same in two files.
_Box = tuple[float, ...]


def _joined(parts: Sequence[Source]) -> tuple[list[Source], dict[tuple[int, Any], tuple[int, str]]]:
    """Sources without the images of those before them, whose annotations they give to these where both are
    COCO files.

    Also (number of a source from 1, image id) -> (place of the source that has it, image), for images that
    went to a source before. Files by class, and
    instances beside key points, are joined so; where two files annotate a class of an image differently, as
    versions do, nobody knows which is right: the image becomes unlabelled. Raises InputError where that is
    half of a file's images.
    """
    owners: dict[str, tuple[int, str]] = {}
    done: list[Source] = []
    ids: dict[tuple[int, Any], tuple[int, str]] = {}
    for number, part in enumerate(parts, start=1):
        shared = part.images["path"].isin(owners)
        target = {
            image: owners[path]
            for image, path in part.images.loc[shared, ["image", "path"]].itertuples(index=False)
        }
        if part.kind == "coco":
            for owner in sorted({index for index, _ in target.values()}):
                if done[owner].kind == "coco":
                    names = {image: name for image, (index, name) in target.items() if index == owner}
                    done[owner] = _with_annotations(done[owner], part, names)
        ids |= {(number, key): target[name] for key, name in part.image_ids.items() if name in target}
        part = part.keep(~shared) if shared.any() else part
        owners |= {
            path: (len(done), image) for image, path in part.images[["image", "path"]].itertuples(index=False)
        }
        done.append(part)
    return done, ids


def _with_annotations(first: Source, other: Source, names: Mapping[str, str]) -> Source:
    """A source with the annotations that another one has of the same images; names: image of the other -> its
    own.
    """
    labelled = other.images.loc[other.images["labelled"] & other.images["image"].isin(names), "image"]
    rows = other.annotations[other.annotations["image"].isin(labelled)]
    rows = rows.assign(image=rows["image"].map(names).astype("str"))
    theirs, ours = _boxes_by_class(rows), _boxes_by_class(first.annotations)
    in_conflict = {
        image
        for (image, label), boxes in theirs.items()
        if not (boxes <= ours.get((image, label), boxes) or boxes >= ours.get((image, label), boxes))
    }
    if in_conflict and len(in_conflict) >= other.images["labelled"].sum() / 2:
        raise InputError(
            f"{other.spec}: annotates {len(in_conflict)} images of {first.spec} differently, such as "
            f"{sorted(in_conflict)[0]}; give the file that is right alone"
        )
    known = [box in ours.get((image, label), set()) for (image, label), box in zip(*_keys(rows), strict=True)]
    more = rows[~np.array(known, bool) & ~rows["image"].isin(in_conflict).to_numpy()]
    own = first.annotations[~first.annotations["image"].isin(in_conflict)]
    images = first.images
    is_labelled = images["labelled"] | images["image"].isin([names[image] for image in labelled])
    notes = images.loc[images["image"].isin(in_conflict), ["path"]].assign(
        bucket="used", reason="unlabelled: two files annotate it differently"
    )
    ledger = first.ledger[~first.ledger["path"].isin(notes["path"])]
    return replace(
        first,
        images=images.assign(labelled=is_labelled & ~images["image"].isin(in_conflict)),
        annotations=concatenate([own, more], BOX_COLUMNS),
        ledger=concatenate([ledger, notes], LEDGER_COLUMNS),
    )


def _keys(annotations: pd.DataFrame) -> tuple[list[tuple[str, int]], list[_Box]]:
    """(image, class) and rounded corners of each annotation."""
    owners = list(annotations[["image", "label"]].itertuples(index=False, name=None))
    return owners, list(map(tuple, annotations[CORNERS].to_numpy(float).round(1).tolist()))


def _boxes_by_class(annotations: pd.DataFrame) -> dict[tuple[str, int], set[_Box]]:
    """(image, class) -> its boxes."""
    found: dict[tuple[str, int], set[_Box]] = {}
    for key, box in zip(*_keys(annotations), strict=True):
        found.setdefault(key, set()).add(box)
    return found


def class_leader(parts: Sequence[Source]) -> Source | None:
    """The source whose class numbers apply to all: the first with a data.yaml, else the first with names."""
    named = [part for part in parts if part.classes]
    return next((part for part in named if part.kind not in BY_NAME), named[0] if named else None)


def _with_common_classes(parts: Sequence[Source]) -> list[Source]:
    """Sources with one list of classes, matched by name: that of a data.yaml, else all their classes.

    Raises InputError if a source has other classes. On images where a class was never annotated, its objects
    would otherwise count as background, in training and in evaluation.
    """
    names: tuple[str, ...]
    leader = class_leader(parts)
    if leader is None:
        return list(parts)
    if leader.kind in BY_NAME:
        names = tuple(dict.fromkeys(name for part in parts for name in part.classes))
    else:
        names = leader.classes
    numbers = {name: number for number, name in enumerate(names)}
    matched = []
    for part in parts:
        annotated = {
            part.classes[label] for label in part.annotations["label"].unique() if label < len(part.classes)
        }
        # Unused names may differ for VOC, COCO and folders: they list their content, or a tool's vocabulary.
        if (
            part.classes
            and set(part.classes) != set(names)
            and not (part.kind in BY_NAME and annotated <= set(names))
        ):
            raise InputError(
                f"{part.spec}: its classes {list(part.classes)} are not those of {leader.spec}, "
                f"{list(names)}; sources merged into one need the same names, in any order: correct 'names' "
                "in one data.yaml, or give the sources one by one"
            )
        if part.classes and part.classes != names:
            part = renumbered(part, names, [numbers.get(name, LEFT_OUT) for name in part.classes])
        matched.append(part)
    return matched


def _common_category_ids(tables: Sequence[Mapping[Any, int]]) -> dict[Any, int]:
    """Category ids of several COCO files -> class index; empty if two files disagree."""
    common: dict[Any, int] = {}
    for table in tables:
        for key, value in table.items():
            if common.setdefault(key, value) != value:
                return {}
    return common
