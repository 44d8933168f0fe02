"""Training histories as a table with the same column names, whatever program wrote them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from datasets.errors import InputError
from datasets.sheets import read_sheet

# Column names in the results.csv of Ultralytics (YOLO and RT-DETR) and of YOLOv5, and in published results;
# upper and lower case are equal.
ALIASES = {
    "epoch": ("epoch",),
    "ap50": ("metrics/mAP50(B)", "metrics/mAP_0.5", "mAP50", "mAP_0.5", "ap50"),
    "ap": ("metrics/mAP50-95(B)", "metrics/mAP_0.5:0.95", "mAP50-95", "mAP_0.5:0.95", "ap"),
    "precision": ("metrics/precision(B)", "metrics/precision", "precision", "P"),
    "recall": ("metrics/recall(B)", "metrics/recall", "recall", "R"),
    # RT-DETR has a GIoU loss in place of YOLO's box loss.
    "train_box_loss": ("train/box_loss", "train/giou_loss", "box_loss"),
    "train_cls_loss": ("train/cls_loss", "cls_loss"),
    "val_box_loss": ("val/box_loss", "val/giou_loss"),
    "val_cls_loss": ("val/cls_loss",),
}

VAL_LOSSES = ("val_box_loss", "val_cls_loss")
# Columns that are shares.
SHARES = ("ap50", "ap", "precision", "recall")


def read_history(path: Path) -> pd.DataFrame:
    """Read a results.csv.

    Parameters
    ----------
    path
        A results.csv of Ultralytics or YOLOv5, or a CSV with other ALIASES of its columns.

    Returns
    -------
    DataFrame
        One row per epoch with the columns of ALIASES that the file has, as floats; a repeated epoch keeps its
        last row.

    Raises
    ------
    InputError
        The file is unreadable, has no epoch column or no complete row, gives percent, or has columns without
        a name.
    """
    return history_of(read_sheet(path), path)


def history_of(raw: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A training history from a table with ALIASES of its columns, as `read_history` gives it.

    path: where it was read from, for the messages. Raises InputError as `read_history` does.
    """
    raw.columns = [str(column).strip() for column in raw.columns]
    by_lower_case = {column.lower(): column for column in raw.columns}
    columns = {
        name: next(
            (by_lower_case[alias.lower()] for alias in aliases if alias.lower() in by_lower_case), None
        )
        for name, aliases in ALIASES.items()
    }
    if columns["epoch"] is None:
        raise InputError(
            f"{path}: has no column 'epoch'; expected Ultralytics' results.csv, "
            f"found {', '.join(raw.columns[:6])}"
        )
    if not any(column for name, column in columns.items() if name != "epoch"):
        raise InputError(
            f"{path}: has none of the columns that are read, such as metrics/mAP50(B), mAP50 or "
            f"train/box_loss; found {', '.join(raw.columns[:6])}"
        )
    table = pd.DataFrame(
        {
            name: pd.to_numeric(raw[column], errors="coerce")
            for name, column in columns.items()
            if column is not None
        }
    )
    # A process that is killed while writing leaves half a last line.
    table = table.dropna(subset=["epoch"])
    # A second training that was written behind a first one begins at the first epoch again: the last one
    # counts. One that is resumed repeats its last epoch only.
    begins = table.index[table["epoch"].diff() < 0]
    again = [row for row in begins if table.loc[row, "epoch"] <= table["epoch"].min()]
    table = table.loc[again[-1] :] if again else table
    table = table.drop_duplicates("epoch", keep="last").sort_values("epoch")
    # Without validation (val=False) Ultralytics writes zeros; a loss is never exactly 0.
    losses = [column for column in VAL_LOSSES if column in table]
    if losses:
        validated = [column for column in (*SHARES, *losses) if column in table]
        table.loc[(table[losses] == 0).all(axis=1), validated] = float("nan")
    measured = [column for column in table.columns if column != "epoch"]
    table = table[table[measured].notna().any(axis=1)].reset_index(drop=True)
    if table.empty:
        raise InputError(f"{path}: has no complete row")
    for name in ("precision", "recall"):
        if name in table:
            # No diagnosis goes by these: one that is no share is missing, and no reason to refuse the rest.
            table[name] = table[name].where(table[name].between(0, 1))
    for name in ("ap50", "ap"):
        if name in table and table[name].min() < 0:
            raise InputError(f"{path}: {columns[name]} is {table[name].min():g}; shares are from 0 to 1")
        if name in table and table[name].max() > 1:
            raise InputError(
                f"{path}: {columns[name]} reaches {table[name].max():g}; shares are from 0 to 1: divide "
                "percent by 100"
            )
    return table.astype(float)
