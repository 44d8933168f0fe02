"""Which images belong together: frames of one clip, one session, one original. A group is the unit of every interval and test."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from datasets.errors import InputError

if TYPE_CHECKING:
    pass

# Exporters append a content hash to each augmented copy, `shiftscope prepare` the copy's number after the image's; copies of one original are one unit.
_COPY = re.compile(r"(_(jpg|jpeg|png))?\.rf\.[0-9A-Za-z]{8,}$|(?<=_\d{6})_aug\d+$")
# A trailing counter, with the word people put before it.
_COUNTER = re.compile(r"[-_. ]*(frame|img|image|f)?[-_. ]*\(?\d+\)?$", re.IGNORECASE)


def _original(stem: str) -> str:
    """File stem without an exporter's copy suffix."""
    return _COPY.sub("", stem)


def recording(stem: str) -> str:
    """File stem without its frame counter: what images of one recording share."""
    base = _original(stem)
    return _COUNTER.sub("", base) or base


def assign(paths: pd.Series, pattern: str | None) -> tuple[pd.Series, str]:
    """Group of each image, and a sentence about where it comes from.

    With a pattern (a regular expression with a named group "group", searched in the path) that decides. Otherwise the name without
    its frame counter, where that gives at least two recordings of which one has several images; else each original is a group of its own.
    Raises InputError when the pattern is no regular expression, has no such group, or does not match a path.
    """
    if pattern is not None:
        return _by_pattern(paths, pattern), f"groups from --group-by {pattern!r}"
    stems = paths.str.replace("\\", "/").str.rsplit("/", n=1).str[-1].str.rsplit(".", n=1).str[0]
    recordings = stems.map(recording)
    counts = recordings.value_counts()
    if len(counts) >= 2 and counts.max() >= 2:
        return recordings, f"{len(counts)} recordings, read from the file names (name without its counter)"
    originals = stems.map(_original)
    return (
        originals,
        "no recording in the file names: each image counts as independent (give --group-by if frames belong together)",
    )


def _by_pattern(paths: pd.Series, pattern: str) -> pd.Series:
    """Named group "group" of a regular expression in each path."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--group-by {pattern!r} is not a regular expression ({error})") from None
    if "group" not in compiled.groupindex:
        raise InputError(
            f"--group-by {pattern!r} has no named group; write for example '(?P<group>clip\\d+)'"
        )
    found = paths.map(compiled.search)
    if found.isna().any():
        raise InputError(
            f"--group-by {pattern!r} does not match {paths[found.isna()].iloc[0]}; every image needs a group"
        )
    return found.map(lambda match: match.group("group"))


def evenly(images: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most limit images, the groups sharing alike and each giving images spread over its length."""
    if len(images) <= limit:
        return images
    turn = images.groupby("group").cumcount().to_numpy()
    shares = images["group"].iloc[np.argsort(turn, kind="stable")[:limit]].value_counts()
    chosen: list[int] = []
    for group, rows in images.groupby("group", sort=False).indices.items():
        share = int(shares.get(group, 0))
        chosen += rows[((np.arange(share) + 0.5) * len(rows) / max(share, 1)).astype(int)].tolist()
    return images.iloc[sorted(chosen)].reset_index(drop=True)
