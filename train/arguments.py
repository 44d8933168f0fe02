"""Ultralytics' own training arguments under their own names, checked before anything is opened or downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from ultralytics.cfg import get_cfg, smart_value
from ultralytics.utils import DEFAULT_CFG_DICT

from datasets.errors import InputError

# What `shiftscope train` says in its own way, and how.
OPTIONS = {"data": "SOURCE", "resume": "--resume RUN"} | {
    name: f"--{name}" for name in ("model", "epochs", "imgsz", "batch", "device", "seed", "name")
}
# What a run of ours rests on: a folder of its own, with its checkpoints, of a detector.
FIXED = frozenset({"task", "mode", "project", "exist_ok", "save", "cfg"})


def pairs(texts: Sequence[str], example: str) -> list[tuple[str, str, str]]:
    """KEY=VALUE texts as (text, key, value). Raises InputError for anything else."""
    split = [(text, *text.partition("=")) for text in texts]
    wrong = next((text for text, name, mark, _ in split if not mark or not name), None)
    if wrong is not None:
        raise InputError(
            f"{wrong!r}: expected an argument of Ultralytics as KEY=VALUE, for example {example}"
        )
    return [(text, name, value) for text, name, _, value in split]


def training_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE texts as Ultralytics' arguments, with values of their types. Raises InputError naming the argument and what is expected."""
    given: dict[str, Any] = {}
    for text, name, value in pairs(texts, "lr0=0.01"):
        if name in OPTIONS:
            raise InputError(f"{text}: give {OPTIONS[name]} instead")
        if name in FIXED:
            raise InputError(
                f"{text}: cannot be chosen; every run has a folder of its own and keeps its checkpoints"
            )
        if name not in DEFAULT_CFG_DICT:
            near = get_close_matches(name, DEFAULT_CFG_DICT)
            raise InputError(
                f"{text}: Ultralytics has no argument {name!r}"
                + (f"; did you mean {' or '.join(near)}?" if near else "; see 'yolo cfg' for all of them")
            )
        given[name] = smart_value(value)
    unheard = [name for name in ("lr0", "momentum") if name in given]
    if unheard and given.get("optimizer", "auto") == "auto":
        raise InputError(
            f"{unheard[0]}={given[unheard[0]]}: is ignored by Ultralytics unless an optimizer is named; add optimizer=AdamW or optimizer=SGD"
        )
    try:
        get_cfg(overrides=dict(given))
    except (TypeError, ValueError, SyntaxError) as error:
        raise InputError(f"{str(error).strip().splitlines()[0]}") from None
    return given
