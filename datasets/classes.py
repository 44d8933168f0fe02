"""Whether a source and a model speak of the same classes, and making them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from datasets.errors import InputError
from datasets.tables import ROW_COLUMNS, Source, concatenate

# Kinds of source whose class numbers we gave ourselves, in the order of names or ids; and folders, whose numbers a classes.txt explains.
BY_NAME = frozenset({"coco", "voc", "folder", "image", "list", "several"})
LEFT_OUT = -1


def check_classes(model: Sequence[str], source: Sequence[str], spec: str) -> None:
    """Raise InputError with both lists when a source's class names are not the model's, in the model's order."""
    if model and source and tuple(source) != tuple(model):
        ours = ", ".join(f"{i}: {name}" for i, name in enumerate(model))
        theirs = ", ".join(f"{i}: {name}" for i, name in enumerate(source))
        raise InputError(
            f"{spec}: class names do not match the model; model has {{{ours}}}, source has {{{theirs}}}; say which is which with --class-map THEIRS=OURS (THEIRS= leaves a class out), or mend 'names' in the data.yaml"
        )


def with_classes(source: Source, model: Sequence[str], mapping: Mapping[str, str]) -> Source:
    """A source in the model's classes. mapping: a source's class name -> the model's, or "" to leave its boxes out; with any mapping, other names stand for themselves.

    Sources of `BY_NAME` are matched by name without one, wherever the model has all classes of which there are boxes. Boxes left out are counted as rejected label
    rows. Raises InputError when names do not match and no mapping is given, or when one fits no class.
    """
    drawn = {
        source.classes[label] for label in source.annotations["label"].unique() if label < len(source.classes)
    }
    by_name = source.kind in BY_NAME and drawn <= set(model)
    if not (mapping or by_name) or not source.classes or not model:
        check_classes(model, source.classes, source.spec)
        return source
    places: list[int] = []
    for name in source.classes:
        ours = mapping.get(name, name)
        if ours and ours not in model and name in drawn:
            raise InputError(
                f"{source.spec}: class {name!r} is none of the model's, {list(model)}; add --class-map {name}=ONE_OF_THEM, or --class-map {name}= to leave it out"
            )
        places.append(list(model).index(ours) if ours in model else LEFT_OUT)
    return renumbered(source, tuple(model), places)


def renumbered(source: Source, names: tuple[str, ...], places: Sequence[int]) -> Source:
    """A source with other class numbers: places[old] is the new one, or LEFT_OUT. Boxes left out are counted as rejected label rows."""
    labels = source.annotations["label"].map(dict(enumerate(places))).astype("int64")
    gone = source.annotations[labels == LEFT_OUT]
    paths = dict(zip(source.images["image"], source.images["path"], strict=True))
    left = gone["label"].map(dict(enumerate(source.classes))).astype("str")
    notes = pd.DataFrame(
        {
            "path": gone["image"].map(paths),
            "line": 0,
            "action": "rejected",
            "reason": "class " + left + " left out by --class-map",
        }
    )
    return replace(
        source,
        classes=names,
        annotations=source.annotations.assign(label=labels)[labels != LEFT_OUT].reset_index(drop=True),
        rows=concatenate([source.rows, notes], ROW_COLUMNS).astype(ROW_COLUMNS),
        category_ids={
            key: places[place] for key, place in source.category_ids.items() if places[place] != LEFT_OUT
        },
    )
