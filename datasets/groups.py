"""Groups of images that belong together: frames of one recording, copies of one original.

A group is the unit of every interval and test.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from datasets.errors import InputError
from datasets.naming import UPLOADED
from datasets.pairing import IMAGE_FOLDERS, split_of

# Exporters append a content hash to each augmented copy; `shiftscope prepare` appends the copy's number to
# the image's number. Copies of one original form one unit.
_COPY = re.compile(r"(_(jpg|jpeg|png|bmp|webp))*\.rf\.[0-9a-z]{8,}$|(?<=_\d{6})_aug\d+$", re.IGNORECASE)
# Tiles of one image overlap: SAHI appends left, top, right and bottom; DOTA's tools scale, left and top.
_TILE = re.compile(r"^(.+)_(\d{1,6})_(\d{1,6})_(\d{1,6})_(\d{1,6})$")
_DOTA_TILE = re.compile(r"__\d+(\.\d+)?__-?\d+___-?\d+$")
# Other cutters write row and column, or left and top: ortho_r1_c2, ortho_x640_y0.
_NAMED_TILE = re.compile(
    r"(?<=.)[-_](?:(?:r|row)[-_]?\d+[-_](?:c|col)[-_]?\d+|[xy][-_]?\d+[-_][xy][-_]?\d+)$",
    re.IGNORECASE,
)
# Cameras that look at one moment together: a stereo pair, colour and thermal (DJI_0001_T, DJI_0001_W), two
# spectra.
_CAMERA = re.compile(
    r"(?<=\d)[-_. ](?:left|right|rgb|ir|thermal|tir|nir|vis|visible|wide|zoom|[LRTWZV])$", re.IGNORECASE
)
# Where groups come from, in words.
GUESSED = "read from the file names"
INDEPENDENT = "each image counts as independent (give --group-by if frames belong together)"
# Words for weather, light and the like: a folder or a name made of these alone holds many recordings.
CONDITIONS = frozenset(
    [
        "rain",
        "rainy",
        "snow",
        "snowy",
        "fog",
        "foggy",
        "mist",
        "misty",
        "haze",
        "hazy",
        "sun",
        "sunny",
        "clear",
        "cloud",
        "cloudy",
        "overcast",
        "storm",
        "stormy",
        "dust",
        "night",
        "nighttime",
        "day",
        "daytime",
        "daylight",
        "dawn",
        "dusk",
        "evening",
        "morning",
        "dark",
        "bright",
        "low",
        "light",
        "wet",
        "dry",
        "summer",
        "winter",
        "autumn",
        "fall",
        "spring",
        "weather",
        "normal",
        "good",
        "bad",
        "positive",
        "negative",
        "background",
        "empty",
        "other",
        "unknown",
        "and",
    ]
)
# Folders that hold a recording's frames and say nothing about it (MOT: MOT17-02/img1).
_FRAMES = re.compile(rf"^({'|'.join(sorted(IMAGE_FOLDERS))}|frames?|data)\d*$", re.IGNORECASE)
# Share of the gaps between numbers that must be the same: frames are now and then dropped, and images of
# which three in four are here have a gap of one as often as three times in four.
EVEN_GAPS = 0.9
# A date, and a time of day that counts the images of that day: cam1_2023-05-01_12-00-30.
_TIME = re.compile(
    r"(\d{4}[-_.]?\d{2}[-_.]?\d{2})[-_. T]+\d{2}[-_.:h]\d{2}[-_.:m]\d{2}([-_.,]\d{1,6})?Z?$", re.IGNORECASE
)
# DJI's names since 2021 have date, time, a number that counts on, and the lens: DJI_20230501123001_0001_V.
# The day is what frames of one flight share for certain.
_DRONE = re.compile(r"^(DJI_\d{8})\d{6}_\d{4}(_[A-Z])?$")
# GoPro cuts a recording into chapters: GX010042 and GX020042 are one; what follows are frames.
_CHAPTER = re.compile(r"^(G[HXLP])\d{2}(\d{4})([-_. ].*)?$")
# A frame's number that stands before that of its clip: frame_12_clip_3.
_FRAME_FIRST = re.compile(
    r"^(.*?)(?:frame|img|image|f)[-_. ]*\d+[-_. ]+((?:clip|video|vid|seq|sequence|scene|cam|camera|drive|flight|session"
    r"|recording|track|run)[-_. ]*\d+)$",
    re.IGNORECASE,
)
# Seconds with a decimal point: flight_A_t1.5, 1680000000.500000.
_SECONDS = re.compile(r"[-_. ]*(t|s|sec)?\d+\.\d+$", re.IGNORECASE)
# A trailing counter, and the word that often precedes it.
_COUNTER = re.compile(r"[-_. ]*(frame|img|image|f)?[-_. ]*\(?\d+\)?$", re.IGNORECASE)


def _original(stem: str) -> str:
    """File stem without an exporter's copy suffix, Label Studio's prefix of uploads and the name of one of
    several cameras, and of a tile that of the image it was cut from.
    """
    for suffix in (_COPY, _DOTA_TILE, _NAMED_TILE, _CAMERA):
        stem = suffix.sub("", stem)
    return UPLOADED.sub("", stem)


def recording(stem: str) -> str:
    """File stem without its frame counter, which is what images of one recording share."""
    return _without_counter(stem) or _original(stem)


def _without_counter(stem: str) -> str:
    """File stem without its frame counter, or without the time of day beside a date; "" for a mere
    counter.
    """
    base = _original(stem)
    drone = _DRONE.match(base)
    if drone:
        return drone[1]
    chapter = _CHAPTER.match(base)
    if chapter:
        return f"{chapter[1]}{chapter[2]}"
    framed = _FRAME_FIRST.match(base)
    if framed:
        return f"{framed[1]}{framed[2]}"
    timed = _TIME.sub(r"\1", base)
    return timed if timed != base else _COUNTER.sub("", _SECONDS.sub("", base))


def assign(paths: pd.Series, pattern: str | None, classes: Sequence[str] = ()) -> tuple[pd.Series, str]:
    """Assign each image to a group.

    Without a pattern the group is the file name without its frame counter; where names are the same in
    several folders, or mere counters without gaps (000001.jpg), it is the folder too. That counts provided it
    gives at least two recordings of which one has several images; otherwise each original is a group of its
    own. A word for weather, light or a class is no recording.

    Parameters
    ----------
    paths
        Path of each image.
    pattern
        A regular expression with a named group "group", searched in each path; None to use file names.
    classes
        Class names, which name no recordings.

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
    recordings, by_folder = _recordings(paths, classes)
    if recordings.nunique() < 2:
        # Cards count on from folder to folder (100MEDIA/DJI_0999, 101MEDIA/DJI_1000): what follows a common
        # word is a mere counter then.
        recordings, by_folder = _recordings(paths, classes, counters=True)
    counts = recordings.value_counts()
    if len(counts) >= 2 and counts.max() >= 2:
        how = "folder, and name" if by_folder else "name"
        return recordings, f"{len(counts)} recordings, {GUESSED} ({how} without its counter)"
    single = originals(paths)
    copies = "; copies and tiles of one image count as one" if single.duplicated().any() else ""
    return single, f"no recordings in the file names: {INDEPENDENT}{copies}"


def _recordings(
    paths: pd.Series, classes: Sequence[str], *, counters: bool = False
) -> tuple[pd.Series, bool]:
    """The recording that each image seems to belong to, and whether folders say so; counters: names are no
    more than counters, whatever stands before the number.
    """
    stems, folders = _stems(paths), _folders(paths)
    bases = stems.map(lambda stem: "") if counters else stems.map(_without_counter)
    words = CONDITIONS | {word for name in classes for word in _words(name)}
    names_one = {name: bool(set(_words(name)) - words) for name in {*bases, *folders}}
    is_counter = bases == ""
    # Of names that occur in several folders the folder is a part. Copies of one original are elsewhere: in
    # folders of splits, which are no part of a name here.
    places = pd.DataFrame({"stem": stems, "folder": folders}).drop_duplicates()
    repeated = set(places.loc[places["stem"].duplicated(keep=False), "stem"])
    repeats = bases.groupby(bases).transform(lambda part: stems[part.index].isin(repeated).any())
    in_sequence = is_counter & folders.map(_in_sequence(stems[is_counter], folders[is_counter])).eq(True)
    in_folder = (folders != "") & folders.map(names_one) & (in_sequence | (repeats & ~is_counter))
    by_name = ~is_counter & bases.map(names_one)
    base = bases.where(by_name, "")
    key = (folders + "/" + base).str.rstrip("/").where(in_folder, base)
    return key.where(key != "", originals(paths)).astype("str"), bool(in_folder.any())


def _in_sequence(stems: pd.Series, folders: pd.Series) -> dict[str, bool]:
    """Folder -> whether its images are numbered as frames are: nearly all at one distance from the next.

    A random part of some numbered images, such as a split, has gaps of all lengths.
    """
    numbers = stems.map(lambda stem: int((re.findall(r"\d+", _original(stem)) or ["0"])[-1][-18:]))
    found = {}
    for folder, values in numbers.groupby(folders):
        gaps = pd.Series(sorted(set(values))).diff().dropna()
        found[str(folder)] = bool(len(gaps)) and float((gaps == gaps.mode()[0]).mean()) >= EVEN_GAPS
    return found


def _words(name: str) -> list[str]:
    """Words of a name in lower case; "" for one without letters and digits."""
    return re.findall(r"[a-z]+|\d+", name.lower()) or [""]


def _folders(paths: pd.Series) -> pd.Series:
    """What the folders of an image name below the folder that all share; nothing for splits and "images"."""
    parents = paths.str.replace("\\", "/").map(os.path.dirname)
    common = _common(parents)
    named = {
        parent: "/".join(
            part
            for part in os.path.relpath(parent, common).split("/")
            if part != "." and not split_of((part,)) and not _FRAMES.match(part)
        )
        for parent in parents.unique()
    }
    return parents.map(named)


def originals(paths: pd.Series) -> pd.Series:
    """Each image as a group of its own, with its copies: images of one name, unless that is a mere number."""
    stems = _stems(paths).map(_original)
    is_counter = stems.map(lambda stem: _COUNTER.sub("", stem)) == ""
    parents = paths.str.replace("\\", "/").map(os.path.dirname)
    common = _common(parents)
    inside = parents.map(lambda parent: os.path.relpath(parent, common)) + "/" + stems
    return stems.where(~is_counter, inside.str.removeprefix("./"))


def _common(parents: pd.Series) -> str:
    """The folder that all these share."""
    unique = parents.unique().tolist()
    return os.path.commonpath(unique) if unique else ""


def _stems(paths: pd.Series) -> pd.Series:
    """File names without their extension, and those of tiles without their place in the image."""
    stems = paths.str.replace("\\", "/").str.rsplit("/", n=1).str[-1].str.rsplit(".", n=1).str[0]
    return stems.map(_tiles(stems.unique())).fillna(stems)


def _tiles(stems: Iterable[str]) -> dict[str, str]:
    """Stem -> the image that it is a tile of. Tiles begin in the corner and have one size; times of day that
    look like four coordinates do not.
    """
    places: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for stem in stems:
        tile = _TILE.match(stem)
        if tile:
            places[tile[1]][stem] = tuple(map(int, tile.groups()[1:]))
    found: dict[str, str] = {}
    for image, tiles in places.items():
        sizes = Counter((x2 - x1, y2 - y1) for x1, y1, x2, y2 in tiles.values())
        whole = all(x2 > x1 and y2 > y1 for x1, y1, x2, y2 in tiles.values())
        if whole and max(sizes.values()) > 1 and any(place[:2] == (0, 0) for place in tiles.values()):
            found |= dict.fromkeys(tiles, image)
    return found


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
    groups = matches.map(lambda match: match.group("group") or "")
    if (groups == "").any():
        raise InputError(
            f"--group-by {pattern!r} gives {paths[groups == ''].iloc[0]} no group: its named group matches "
            "nothing there; every image needs a group (join patterns of several domains with |)"
        )
    return groups


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
