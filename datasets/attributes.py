"""Attributes of images from a CSV (weather, road, camera, lane ...), joined to an images table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.errors import InputError
from datasets.tables import OWN

MISSING = ["", "nan", "NaN", "NA", "N/A", "null"]
# Names of the column that identifies a row's image, in order of preference.
KEYS = ("image", "image_id", "path", "filepath", "filename", "file_name")


@dataclass(frozen=True)
class Attributes:
    """The attributes that a CSV gives.

    origin: the file, as messages name it.
    table: one row per image: key (id, path, file name or stem) and columns named OWN + attribute.
    """

    origin: str
    table: pd.DataFrame


def read_attributes(path: Path) -> Attributes:
    """Read a CSV in which one column identifies the image and every other column is an attribute.

    A file with only the columns `image_id,slice` may list an image any number of times, once per slice.

    Parameters
    ----------
    path
        The CSV.

    Returns
    -------
    attributes : Attributes
        One row per image.

    Raises
    ------
    InputError
        If the file is unreadable, no column identifies the image, or an image has two rows.
    """
    raw = _read_csv(path)
    key = next((name for name in KEYS if name in raw), None)
    others = [name for name in raw.columns if name != key]
    if key is None or not others:
        raise InputError(
            f"{path}: needs a column that names the image ({', '.join(KEYS[:3])}) and at least one "
            f"attribute; found {', '.join(raw.columns) or 'nothing'}"
        )
    if raw[key].isna().any():
        raise InputError(f"{path}:{int(raw[key].isna().to_numpy().argmax()) + 2}: the row names no image")
    if others == ["slice"]:
        raw = raw.dropna().assign(member="yes").drop_duplicates()
        raw = raw.pivot_table(index=key, columns="slice", values="member", aggfunc="first").reset_index()
        others = [name for name in raw.columns if name != key]
    repeated = raw[key].duplicated()
    if repeated.any():
        line = int(repeated.to_numpy().argmax()) + 2
        raise InputError(f"{path}:{line}: {raw[key][repeated].iloc[0]!r} has more than one row")
    table = pd.DataFrame({"key": raw[key]})
    for name in others:
        numbers = pd.to_numeric(raw[name], errors="coerce").replace([np.inf, -np.inf], np.nan)
        table[OWN + str(name)] = numbers if (numbers.notna() | raw[name].isna()).all() else raw[name]
    return Attributes(str(path), table)


def _read_csv(path: Path) -> pd.DataFrame:
    """A CSV as stripped text; raises InputError if it is unreadable."""
    try:
        raw = pd.read_csv(
            path,
            dtype="str",
            encoding="utf-8-sig",
            index_col=False,
            keep_default_na=False,
            na_values=MISSING,
            skipinitialspace=True,
            on_bad_lines="error",
        )
    except pd.errors.ParserWarning as error:
        raise InputError(f"{path}: a row has more fields than the header ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a CSV") from None
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path}: not a readable CSV ({error})") from None
    raw.columns = [str(name).strip() for name in raw.columns]
    return raw.apply(lambda column: column.str.strip())


def join(
    images: pd.DataFrame, attributes: Attributes, ids: Mapping[Any, str] | None = None
) -> tuple[pd.DataFrame, int]:
    """Join attributes to images.

    A row identifies an image by its id, path, file name or stem, tried in this order and only where a single
    image matches; or all rows do by the number in a COCO json, where that finds more images. An attribute
    that an earlier file set keeps its value where this file has none.

    Parameters
    ----------
    images
        An images table.
    attributes
        Attributes by image.
    ids
        A COCO json's image ids -> image.

    Returns
    -------
    tuple[pd.DataFrame, int]
        Images with the attributes' columns (missing where no row matches), and the number that match.

    Raises
    ------
    InputError
        Numbers find as many images as ids of a json as they do as names, and not the same.
    """
    names = (
        images["image"],
        images["path"],
        images["path"].map(lambda path: Path(path).name),
        images["path"].map(lambda path: Path(path).stem),
    )
    rows = pd.Series(range(len(attributes.table)), index=attributes.table["key"].to_numpy())
    by_name = pd.Series(float("nan"), index=images.index)
    for column in names:
        unique = ~column.duplicated(keep=False) & column.notna()
        by_name = by_name.fillna(column.where(unique).map(rows))
    by_id = images["image"].map({image: str(key) for key, image in (ids or {}).items()}).map(rows)
    # By the one or by the other, never by both: 7 may be the seventh image of a json, and 000007.jpg another.
    found_by_id, found_by_name = int(by_id.notna().sum()), int(by_name.notna().sum())
    if found_by_id == found_by_name > 0 and (by_id.fillna(-1) != by_name.fillna(-1)).any():
        raise InputError(
            f"{attributes.origin}: its numbers are ids of a json and also names of files, of other images; "
            "write file names"
        )
    row = by_id if found_by_id > found_by_name else by_name
    values = attributes.table.drop(columns="key").reindex(row.fillna(-1).astype(int)).set_index(images.index)
    merged = {
        str(name): values[name].combine_first(images[name]) if name in images else values[name]
        for name in values
    }
    return images.assign(**merged), int(row.notna().sum())
