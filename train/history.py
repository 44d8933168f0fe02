"""Learning curves as a table with our own column names, whatever wrote them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from datasets.errors import InputError

# Names used by Ultralytics' results.csv, and by people who publish their numbers, in any case.
ALIASES = {
    "epoch": ("epoch",),
    "ap50": ("metrics/mAP50(B)", "mAP50", "map50", "ap50"),
    "ap": ("metrics/mAP50-95(B)", "mAP50-95", "map50-95", "ap"),
    "precision": ("metrics/precision(B)", "precision", "P"),
    "recall": ("metrics/recall(B)", "recall", "R"),
    "train_box_loss": ("train/box_loss", "box_loss"),
    "train_cls_loss": ("train/cls_loss", "cls_loss"),
    "val_box_loss": ("val/box_loss",),
    "val_cls_loss": ("val/cls_loss",),
}


def read_history(path: Path) -> pd.DataFrame:
    """A results.csv -> one row an epoch with the columns of ALIASES that it has, floats; a repeated epoch keeps its last row.

    Raises InputError when the file has no epoch column or no complete row.
    """
    try:
        raw = pd.read_csv(path, skipinitialspace=True, on_bad_lines="skip")
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable results.csv ({error})") from None
    raw.columns = [str(column).strip() for column in raw.columns]
    spelled = {column.lower(): column for column in raw.columns}
    found = {
        name: next((spelled[alias.lower()] for alias in aliases if alias.lower() in spelled), None)
        for name, aliases in ALIASES.items()
    }
    if found["epoch"] is None:
        raise InputError(
            f"{path}: has no column 'epoch'; expected Ultralytics' results.csv, found {', '.join(raw.columns[:6])}"
        )
    table = pd.DataFrame(
        {
            name: pd.to_numeric(raw[alias], errors="coerce")
            for name, alias in found.items()
            if alias is not None
        }
    )
    # A process killed while writing leaves half a last line.
    table = table.dropna(subset=["epoch"]).drop_duplicates("epoch", keep="last").sort_values("epoch")
    measured = [column for column in table.columns if column != "epoch"]
    table = table[table[measured].notna().any(axis=1)].reset_index(drop=True)
    if table.empty:
        raise InputError(f"{path}: has no complete row")
    return table.astype(float)
