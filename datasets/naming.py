"""Names of domains, from the sources they are read from."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def name_of(spec: str) -> str:
    """A domain's name from its source: the folder or file, without generic endings."""
    path = Path(os.path.abspath(spec))
    stem = path.stem if path.suffix and not path.is_dir() else path.name
    return path.parent.name if stem.lower() in {"images", "data", "dataset"} else stem


def unique(name: str, taken: set[str]) -> str:
    """name, or name-2, -3 ... if taken; and takes it. Names that differ only in marks and case count as one: they would be one in the names of fields."""
    candidate, number = name, 2
    while (plain := re.sub(r"\W+", "_", candidate).lower()) in taken:
        candidate, number = f"{name}-{number}", number + 1
    taken.add(plain)
    return candidate
