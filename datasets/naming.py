"""Domain names, derived from the sources that the domains are read from."""

from __future__ import annotations

import os
import re
from pathlib import Path

from datasets.pairing import IMAGE_FOLDERS, LABEL_FOLDERS, SPLITS

# Label Studio puts a hash before the name of an uploaded file.
UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")
# Names that every dataset has.
GENERIC = IMAGE_FOLDERS | LABEL_FOLDERS | SPLITS.keys() | {"data", "dataset"}


def domain_name(spec: str) -> str:
    """A domain's name from its source: the folder or file name, or that of the first folder above that says
    more than "images", "val" or "annotations".
    """
    if "://" in spec:
        # The settings of an address, and who asks, are no name.
        spec = re.sub(r"://[^/?]*@", "://", spec.partition("?")[0])
    path = Path(os.path.abspath(spec))
    stem = path.stem if path.suffix and not path.is_dir() else path.name
    for name in (stem, *(parent.name for parent in path.parents)):
        if name and name.lower() not in GENERIC:
            return name
    return stem


def unique_name(name: str, taken: set[str]) -> str:
    """The name itself, or name-2, name-3 ... if it is taken; adds the result to taken.

    Names that differ only in case and punctuation count as one, because they give the same field name.
    """
    candidate, number = name, 2
    while (plain := re.sub(r"\W+", "_", candidate).lower()) in taken:
        candidate, number = f"{name}-{number}", number + 1
    taken.add(plain)
    return candidate
