"""Domain names, derived from the sources that the domains are read from."""

from __future__ import annotations

import os
import re
from pathlib import Path


def domain_name(spec: str) -> str:
    """A domain's name from its source: the folder or file name, or the folder above a generic one."""
    path = Path(os.path.abspath(spec))
    stem = path.stem if path.suffix and not path.is_dir() else path.name
    return path.parent.name if stem.lower() in {"images", "data", "dataset"} else stem


def unique_name(name: str, taken: set[str]) -> str:
    """The name itself, or name-2, name-3 ... if it is taken; adds the result to taken.

    Names that differ only in case and punctuation count as one, because they give the same field name.
    """
    candidate, number = name, 2
    while (plain := re.sub(r"\W+", "_", candidate).lower()) in taken:
        candidate, number = f"{name}-{number}", number + 1
    taken.add(plain)
    return candidate
