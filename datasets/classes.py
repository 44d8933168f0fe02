"""Class names: whether a source and a model have the same classes, and renumbering a source to match."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from datasets.errors import InputError
from datasets.tables import ROW_COLUMNS, Source, concatenate

# Kinds of source whose classes are matched by name: either the reader numbered the classes itself, or
# (folders, lists, single images) a classes.txt explains the numbers.
BY_NAME = frozenset({"coco", "voc", "labels", "folder", "image", "list", "several"})
LEFT_OUT = -1


def check_classes(model: Sequence[str], source: Sequence[str], spec: str) -> None:
    """Raise InputError listing both when a source's class names or their order differ from the model's."""
    if model and source and tuple(source) != tuple(model):
        model_list, source_list = (
            ", ".join(f"{i}: {name}" for i, name in enumerate(names)) for names in (model, source)
        )
        raise InputError(
            f"{spec}: class names do not match the model; model has {{{model_list}}}, "
            f"source has {{{source_list}}}; map the names with --class-map NAME=CLASS "
            f"(--class-map SOURCE= leaves a class out), or correct 'names' in the data.yaml"
        )


def same_but_spelling(source: Source, model: Sequence[str]) -> dict[str, str]:
    """Class names of a source that are a model's but for case, punctuation or a plural: name -> model's name.

    Only where no other name of either would do; names of a source that differ in case only are one.
    """
    plain_model, plain_source = (_by_plain_name(names) for names in (model, source.classes))
    return {
        name: plain_model[plain][0]
        for plain, names in plain_source.items()
        if len({name.lower() for name in names}) == 1 and len(plain_model.get(plain, ())) == 1
        for name in names
        if name != plain_model[plain][0]
    }


def lists_some_of(source: Source, model: Sequence[str]) -> bool:
    """Whether a data.yaml names some of the model's classes, and no other: a set of its own, whose numbers
    are its own, as of three classes of COCO's eighty. One that names them all in another order stays a
    contradiction.
    """
    return source.kind == "yolo" and set(source.classes) < set(model)


def _by_plain_name(names: Sequence[str]) -> dict[str, list[str]]:
    """Names in lower case, without spaces, dashes, underscores and a plural's s."""
    plain: dict[str, list[str]] = defaultdict(list)
    for name in names:
        letters = re.sub(r"[\s_-]+", "", name).lower()
        # "-10" and "10" are two classes.
        letters = letters if letters.strip("0123456789") else name
        plain[letters[:-1] if len(letters) > 3 and letters.endswith("s") else letters].append(name)
    return plain


def with_classes(source: Source, model: Sequence[str], mapping: Mapping[str, str]) -> Source:
    """Return a source renumbered to the model's classes.

    Sources of `BY_NAME` are matched by name even without a mapping, provided the model has every class
    that is annotated; so are those that `lists_some_of` the model's. Names that differ only in spelling are
    the same, see `same_but_spelling`. Annotations left out are counted as rejected label rows.

    Parameters
    ----------
    source
        The source as it was read.
    model
        The model's class names, in order.
    mapping
        Source class name -> model class name, or "" to leave the class out. With any mapping, names that
        are not in it keep their name.

    Returns
    -------
    Source
        The source with the model's class numbers.

    Raises
    ------
    InputError
        If the names differ and no mapping is given, or an annotated class has no class in the model.
    """
    spelling = same_but_spelling(source, model)
    if spelling:
        source = replace(source, classes=tuple(spelling.get(name, name) for name in source.classes))
        mapping = {spelling.get(name, name): target for name, target in mapping.items()}
    counting = source.annotations.loc[~source.annotations["crowd"], "label"].unique()
    annotated = {source.classes[label] for label in counting if label < len(source.classes)}
    by_name = (source.kind in BY_NAME and annotated <= set(model)) or lists_some_of(source, model)
    if not (mapping or by_name) or not source.classes or not model:
        check_classes(model, source.classes, source.spec)
        return source
    numbers: list[int] = []
    for name in source.classes:
        target = mapping.get(name, name)
        if target and target not in model and name in annotated:
            raise InputError(
                f"{source.spec}: class {name!r} is not one of the model's classes, {list(model)}; "
                f"add --class-map {name}=MODEL_CLASS, or --class-map {name}= to leave it out"
            )
        numbers.append(list(model).index(target) if target in model else LEFT_OUT)
    return renumbered(source, tuple(model), numbers)


def renumbered(source: Source, names: tuple[str, ...], numbers: Sequence[int]) -> Source:
    """A source with other class numbers: numbers[old] is the new one, or LEFT_OUT.

    Annotations left out are counted as rejected label rows.
    """
    labels = source.annotations["label"].map(dict(enumerate(numbers))).astype("int64")
    dropped = source.annotations[(labels == LEFT_OUT) & ~source.annotations["crowd"]]
    paths = dict(zip(source.images["image"], source.images["path"], strict=True))
    dropped_names = dropped["label"].map(dict(enumerate(source.classes))).astype("str")
    notes = pd.DataFrame(
        {
            "path": dropped["image"].map(paths),
            "line": 0,
            "action": "rejected",
            "reason": "class " + dropped_names + " left out by --class-map",
        }
    )
    return replace(
        source,
        classes=names,
        annotations=source.annotations.assign(label=labels)[labels != LEFT_OUT].reset_index(drop=True),
        rows=concatenate([source.rows, notes], ROW_COLUMNS).astype(ROW_COLUMNS),
        category_ids={
            key: numbers[old] for key, old in source.category_ids.items() if numbers[old] != LEFT_OUT
        },
    )
