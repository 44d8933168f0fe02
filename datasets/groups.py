"""Groups of images that belong together: frames of one recording, copies of one original.

A group is the unit of every interval and test.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pandas as pd

from datasets.errors import InputError

# Exporters append a content hash to each augmented copy; `shiftscope prepare` appends the copy's number to
# the image's number. Copies of one original form one unit.
_COPY = re.compile(r"(_(jpg|jpeg|png))?\.rf\.[0-9A-Za-z]{8,}$|(?<=_\d{6})_aug\d+$")
# Where groups come from, in words.
GUESSED = "read from the file names"
INDEPENDENT = "each image counts as independent (give --group-by if frames belong together)"
# A trailing counter, and the word that often precedes it.
_COUNTER = re.compile(r"[-_. ]*(frame|img|image|f)?[-_. ]*\(?\d+\)?$", re.IGNORECASE)


def _original(stem: str) -> str:
    """File stem without an exporter's copy suffix."""
    return _COPY.sub("", stem)


def recording(stem: str) -> str:
    """File stem without its frame counter, which is what images of one recording share."""
    base = _original(stem)
    return _COUNTER.sub("", base) or base


def assign(paths: pd.Series, pattern: str | None) -> tuple[pd.Series, str]:
    """Assign each image to a group.

    Without a pattern the group is the file name without its frame counter, provided that gives at least
    two recordings of which one has several images; otherwise each original is a group of its own.

    Parameters
    ----------
    paths
        Path of each image.
    pattern
        A regular expression with a named group "group", searched in each path; None to use file names.

    Returns
    -------
    tuple[pd.Series, str]
        The group of each image, and a sentence that states where the groups come from.

    Raises
    ------
    InputError
        If the pattern is not a regular expression, has no group "group", or does not match every path.
    """
    if pattern is not None:
        return _by_pattern(paths, pattern), f"groups from --group-by {pattern!r}"
    recordings = _stems(paths).map(recording)
    counts = recordings.value_counts()
    if len(counts) >= 2 and counts.max() >= 2:
        return recordings, f"{len(counts)} recordings, {GUESSED} (name without its counter)"
    return originals(paths), f"no recordings in the file names: {INDEPENDENT}"


def originals(paths: pd.Series) -> pd.Series:
    """Each image as a group of its own, with its copies."""
    return _stems(paths).map(_original)


def _stems(paths: pd.Series) -> pd.Series:
    """File names without their extension."""
    return paths.str.replace("\\", "/").str.rsplit("/", n=1).str[-1].str.rsplit(".", n=1).str[0]


def _by_pattern(paths: pd.Series, pattern: str) -> pd.Series:
    """The part of each path that the named group "group" of a regular expression matches."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--group-by {pattern!r} is not a regular expression ({error})") from None
    if "group" not in compiled.groupindex:
        raise InputError(
            f"--group-by {pattern!r} has no named group; write for example '(?P<group>clip\\d+)'"
        )
    matches = paths.map(compiled.search)
    if matches.isna().any():
        raise InputError(
            f"--group-by {pattern!r} does not match {paths[matches.isna()].iloc[0]}; "
            "every image needs a group"
        )
    return matches.map(lambda match: match.group("group"))


def spread(count: int, total: int) -> npt.NDArray[np.int64]:
    """Positions of count of total things in a row, at equal distances, (count,)."""
    return ((np.arange(count) + 0.5) * total / max(count, 1)).astype(np.int64)


def evenly(images: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most limit images: equal shares of the groups, and within a group spread over its length."""
    if len(images) <= limit:
        return images
    position = images.groupby("group").cumcount().to_numpy()
    order = np.argsort(position, kind="stable")
    # Shares differ by at most one image; the groups with one more are spread over all, whatever their names.
    whole = int(np.searchsorted(position[order], position[order[limit]]))
    last = order[whole : int(np.searchsorted(position[order], position[order[limit]], "right"))]
    more = last[spread(limit - whole, len(last))]
    shares = images["group"].iloc[np.concatenate([order[:whole], more])].value_counts()
    chosen: list[int] = []
    for group, rows in images.groupby("group", sort=False).indices.items():
        share = int(shares.get(group, 0))
        chosen += rows[spread(share, len(rows))].tolist()
    return images.iloc[sorted(chosen)].reset_index(drop=True)
