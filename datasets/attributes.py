"""What people know about their images beyond the images: weather, road, camera, lane ... from a CSV, joined to an images table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.errors import InputError
from datasets.tables import OWN

# Names of the column that says which image a row is about.
MISSING = ["", "nan", "NaN", "NA", "N/A", "null"]
KEYS = ("image", "image_id", "path", "filepath", "filename", "file_name")


@dataclass(frozen=True)
class Attributes:
    """One row an image: key (id, path, file name or stem), and columns named OWN + attribute. origin names the file in messages."""

    origin: str
    table: pd.DataFrame


def read_attributes(path: Path) -> Attributes:
    """A CSV: one column that names the image, every other one an attribute; or two, `image_id,slice`, an image in as many as it likes.

    Raises InputError naming what is wrong.
    """
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
    raw = raw.apply(lambda column: column.str.strip())
    key = next((name for name in KEYS if name in raw), None)
    others = [name for name in raw.columns if name != key]
    if key is None or not others:
        raise InputError(
            f"{path}: needs a column that names the image ({', '.join(KEYS[:3])}) and at least one attribute; found {', '.join(raw.columns) or 'nothing'}"
        )
    if raw[key].isna().any():
        raise InputError(f"{path}:{int(raw[key].isna().to_numpy().argmax()) + 2}: the row names no image")
    if others == ["slice"]:
        raw = raw.dropna().assign(member="yes").drop_duplicates()
        raw = raw.pivot_table(index=key, columns="slice", values="member", aggfunc="first").reset_index()
        others = [name for name in raw.columns if name != key]
    twice = raw[key].duplicated()
    if twice.any():
        raise InputError(
            f"{path}:{int(twice.to_numpy().argmax()) + 2}: {raw[key][twice].iloc[0]!r} has more than one row"
        )
    table = pd.DataFrame({"key": raw[key]})
    for name in others:
        numbers = pd.to_numeric(raw[name], errors="coerce").replace([np.inf, -np.inf], np.nan)
        table[OWN + str(name)] = numbers if (numbers.notna() | raw[name].isna()).all() else raw[name]
    return Attributes(str(path), table)


def join(
    images: pd.DataFrame, attributes: Attributes, ids: Mapping[Any, str] | None = None
) -> tuple[pd.DataFrame, int]:
    """Images with the attributes' columns, missing where no row names the image, and the number of images that have any.

    A row names an image by its id, its path, its file name or its stem, or by the number it has in a COCO json (ids), tried in this order,
    where only one image has it. An image that an earlier file gave the same attribute keeps it where this one is silent.
    """
    number = {image: str(key) for key, image in (ids or {}).items()}
    names = (
        images["image"],
        images["path"],
        images["path"].map(lambda path: Path(path).name),
        images["path"].map(lambda path: Path(path).stem),
        images["image"].map(number),
    )
    rows = pd.Series(range(len(attributes.table)), index=attributes.table["key"].to_numpy())
    place = pd.Series(float("nan"), index=images.index)
    for column in names:
        unique = ~column.duplicated(keep=False) & column.notna()
        place = place.fillna(column.where(unique).map(rows))
    found = place.notna()
    values = (
        attributes.table.drop(columns="key").reindex(place.fillna(-1).astype(int)).set_index(images.index)
    )
    merged = {
        str(name): values[name].combine_first(images[name]) if name in images else values[name]
        for name in values
    }
    return images.assign(**merged), int(found.sum())
