"""Ultralytics' training arguments under their own names, checked before anything is opened or downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from ultralytics.cfg import get_cfg, smart_value
from ultralytics.utils import DEFAULT_CFG_DICT

from datasets.errors import InputError

# Arguments that `shiftscope train` has its own option for.
OPTIONS = {"data": "SOURCE", "resume": "--resume RUN"} | {
    name: f"--{name}" for name in ("model", "epochs", "imgsz", "batch", "device", "seed", "name")
}
# Arguments that `shiftscope train` sets: every run trains a detector in a new folder with its checkpoints.
FIXED = frozenset({"task", "mode", "project", "exist_ok", "save", "cfg"})


def split_pairs(texts: Sequence[str], example: str) -> list[tuple[str, str, str]]:
    """KEY=VALUE texts as (text, key, value). Raises InputError for any other text."""
    parts = [(text, *text.partition("=")) for text in texts]
    for text, name, separator, _ in parts:
        if not separator or not name:
            raise InputError(
                f"{text!r}: expected an argument of Ultralytics as KEY=VALUE, for example {example}"
            )
    return [(text, name, value) for text, name, _, value in parts]


def parse_training_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Parse KEY=VALUE texts as training arguments of Ultralytics.

    Parameters
    ----------
    texts
        For example "lr0=0.01".

    Returns
    -------
    dict
        Argument to value, of the argument's type.

    Raises
    ------
    InputError
        An argument is unknown, has its own option, cannot be chosen, has a wrong value or has no effect.
    """
    arguments: dict[str, Any] = {}
    for text, name, value in split_pairs(texts, "lr0=0.01"):
        if name in OPTIONS:
            raise InputError(f"{text}: give {OPTIONS[name]} instead")
        if name in FIXED:
            raise InputError(
                f"{text}: cannot be chosen; every run has its own folder and keeps its checkpoints"
            )
        if name not in DEFAULT_CFG_DICT:
            near = get_close_matches(name, DEFAULT_CFG_DICT)
            raise InputError(
                f"{text}: Ultralytics has no argument {name!r}"
                + (f"; did you mean {' or '.join(near)}?" if near else "; see 'yolo cfg' for all of them")
            )
        arguments[name] = smart_value(value)
    ignored = [name for name in ("lr0", "momentum") if name in arguments]
    if ignored and arguments.get("optimizer", "auto") == "auto":
        raise InputError(
            f"{ignored[0]}={arguments[ignored[0]]}: is ignored by Ultralytics unless an optimizer is named; "
            "add optimizer=AdamW or optimizer=SGD"
        )
    try:
        get_cfg(overrides=dict(arguments))
    except (TypeError, ValueError, SyntaxError) as error:
        raise InputError(f"{str(error).strip().splitlines()[0]}") from None
    return arguments
