"""What was found where: the folders that images came from, as which split, and what was passed over."""

from __future__ import annotations

import os

import pandas as pd

from datasets.tables import Source

# Folders listed one by one; a source of more is told by its largest.
MAX_FOLDERS = 12


def folders(source: Source) -> pd.DataFrame:
    """One row a folder (or video) and split: folder, split, images, labelled, boxes; in the order of the images. folder is relative to what all have in common."""
    images = source.images
    videos = images["seconds"].notna()
    parents = images["path"].map(os.path.dirname)
    plain = parents[~videos].unique().tolist()
    common = os.path.dirname(os.path.commonpath(plain)) if plain else ""
    # Of a single folder the last two parts: "images" alone says little.
    common = os.path.dirname(common) if len(plain) == 1 else common
    names = parents.map(lambda path: os.path.relpath(path, common) if common else path)
    boxes = images["image"].map(source.annotations["image"].value_counts()).fillna(0)
    table = pd.DataFrame(
        {
            "folder": names.where(~videos, images["group"]).astype("str"),
            "split": images["split"],
            "labelled": images["labelled"].astype(int),
            "boxes": boxes.astype(int),
        }
    )
    grouped = table.groupby(["folder", "split"], sort=False)
    found = grouped.agg(images=("folder", "size"), labelled=("labelled", "sum"), boxes=("boxes", "sum"))
    return found.reset_index()[["folder", "split", "images", "labelled", "boxes"]]


def reasons(ledger: pd.DataFrame) -> pd.DataFrame:
    """Why files were not used, one row a bucket and reason: bucket, reason, files, first (a path)."""
    unused = ledger[ledger["bucket"] != "used"]
    found = unused.groupby(["bucket", "reason"]).agg(files=("path", "size"), first=("path", "first"))
    return found.reset_index()


def repaired(rows: pd.DataFrame) -> pd.DataFrame:
    """Label rows not taken as written, one row an action and reason: action, reason, rows, first (a path), line."""
    found = rows.groupby(["action", "reason"]).agg(
        rows=("path", "size"), first=("path", "first"), line=("line", "first")
    )
    return found.reset_index()
