"""Summaries of a source: images per folder and split, unused files, and rejected or repaired label rows."""

from __future__ import annotations

import os

import pandas as pd

from datasets.tables import Source

# Longer lists of folders are cut after this many rows.
MAX_FOLDERS = 12


def folders(source: Source) -> pd.DataFrame:
    """One row per folder (or video) and split, in the order of the images.

    Columns: folder (relative to the folder that all share), split, images, labelled, boxes.
    """
    images = source.images
    from_video = images["seconds"].notna()
    parents = images["path"].map(os.path.dirname)
    image_folders = parents[~from_video].unique().tolist()
    common = os.path.dirname(os.path.commonpath(image_folders)) if image_folders else ""
    # A single folder is named by its last two parts: "images" alone does not identify it.
    common = os.path.dirname(common) if len(image_folders) == 1 else common
    names = parents.map(lambda path: os.path.relpath(path, common) if common else path)
    boxes = (
        images["image"]
        .map(source.annotations.loc[~source.annotations["crowd"], "image"].value_counts())
        .fillna(0)
    )
    table = pd.DataFrame(
        {
            "folder": names.where(~from_video, images["group"]).astype("str"),
            "split": images["split"],
            "labelled": images["labelled"].astype(int),
            "boxes": boxes.astype(int),
        }
    )
    grouped = table.groupby(["folder", "split"], sort=False)
    counts = grouped.agg(images=("folder", "size"), labelled=("labelled", "sum"), boxes=("boxes", "sum"))
    return counts.reset_index()[["folder", "split", "images", "labelled", "boxes"]]


def unused_files(ledger: pd.DataFrame) -> pd.DataFrame:
    """Files that were not used, one row per bucket and reason: bucket, reason, files, first (a path)."""
    unused = ledger[ledger["bucket"] != "used"]
    counts = unused.groupby(["bucket", "reason"]).agg(files=("path", "size"), first=("path", "first"))
    return counts.reset_index()


def changed_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Label rows not taken as written, one row per action and reason.

    Columns: action, reason, rows, first (a path), line.
    """
    counts = rows.groupby(["action", "reason"]).agg(
        rows=("path", "size"), first=("path", "first"), line=("line", "first")
    )
    return counts.reset_index()
