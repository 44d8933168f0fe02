"""`shiftscope inspect A --against B`: what a dataset version is beside an earlier one."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from datasets.pixels import UnreadableImage, decode, difference_hash
from datasets.tables import Source
from diagnostics.dataset_difference import (
    NEAR_COPY,
    OTHER_PIXELS,
    SAME,
    DatasetDifference,
    Version,
    compare_versions,
)
from diagnostics.wording import count, percent
from reports.progress import Reporter

# Names listed on the terminal; JSON has all of them.
MOST_NAMED = 5
MOST_CLASSES = 12


def difference_record(now: Source, before: Source, reporter: Reporter) -> dict[str, Any]:
    """Read every image of both sources and compare them.

    Parameters
    ----------
    now, before : Source
        Two versions of a dataset.
    reporter : Reporter
        Shows progress.

    Returns
    -------
    dict
        Counts, and names of the images concerned, as JSON values.
    """
    with reporter.stage("difference", "Comparing images", len(now.images) + len(before.images)) as tick:
        versions, unreadable = [], []
        for source in (now, before):
            images, failed = _with_content(source.images, tick)
            unreadable += failed
            annotations = source.annotations
            kept = annotations["image"].isin(images["image"]) & ~annotations["crowd"]
            versions.append(Version(images, annotations[kept], source.classes))
        difference = compare_versions(*versions)
    return _record(difference, before.spec, unreadable)


def _with_content(images: pd.DataFrame, tick: Any) -> tuple[pd.DataFrame, list[str]]:
    """Images with a hash of their file and a fingerprint; and those that cannot be read."""

    def read(path: str) -> tuple[str, bytes] | None:
        try:
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            return content, difference_hash(decode(Path(path)))
        except (UnreadableImage, OSError):
            return None

    contents = []
    with ThreadPoolExecutor() as pool:
        for made in pool.map(read, images["path"]):
            contents.append(made)
            tick()
    readable = [made is not None for made in contents]
    kept = images[readable]
    values = [made for made in contents if made is not None]
    return (
        kept.assign(content=[content for content, _ in values], fingerprint=[bits for _, bits in values]),
        images["path"][[not is_readable for is_readable in readable]].tolist(),
    )


def _record(difference: DatasetDifference, before: str, unreadable: list[str]) -> dict[str, Any]:
    """The difference as JSON values."""
    pairs, labels = difference.pairs, difference.labels
    renamed = pairs[(pairs["how"] == SAME) & (pairs["image_now"] != pairs["image_before"])]
    return {
        "against": before,
        "unchanged": int((pairs["how"] == SAME).sum()),
        "renamed": renamed[["image_before", "image_now"]].values.tolist(),
        "other_pixels": pairs[pairs["how"] == OTHER_PIXELS]["image_now"].tolist(),
        "near_copies": pairs[pairs["how"] == NEAR_COPY][["image_before", "image_now"]].values.tolist(),
        "added": list(difference.added),
        "added_copies": [list(pair) for pair in difference.copies],
        "removed": list(difference.removed),
        "moved_split": [list(moved) for moved in difference.moved_split],
        "labelled": list(difference.labelled),
        "unlabelled": list(difference.unlabelled),
        "relabelled": labels.to_dict("records"),
        "boxes": {
            name: int(labels[name].sum()) if len(labels) else 0
            for name in ("added", "removed", "redrawn", "renamed")
        },
        "classes": difference.classes.to_dict("records"),
        "sizes": difference.sizes.to_dict("records"),
        "unreadable": unreadable,
    }


def difference_lines(record: dict[str, Any]) -> list[str]:
    """The difference as text."""
    boxes = record["boxes"]
    relabelled = record["relabelled"]
    lines = [
        f"against {record['against']}",
        f"  images: {record['unchanged']:,} unchanged ({len(record['renamed']):,} of them under another "
        f"name), {len(record['added']):,} added, {len(record['removed']):,} removed",
    ]
    lines += _named("with other pixels", record["other_pixels"])
    lines += _named("near-copies under another name", [now for _, now in record["near_copies"]])
    lines += _named(
        "added although a near-copy was there", [f"{new} of {old}" for new, old in record["added_copies"]]
    )
    lines += _named(
        "moved to another split", [f"{image} {old} to {new}" for image, old, new in record["moved_split"]]
    )
    lines += _named("labelled now and not before (without objects, as background)", record["labelled"])
    lines += _named("labelled before and not now", record["unlabelled"])
    lines += _named("added", record["added"])
    lines += _named("removed", record["removed"])
    lines += _named("could not be read and are left out", record["unreadable"])
    if relabelled:
        lines.append(
            f"  annotations changed on {count(len(relabelled), 'image')} of both: {boxes['added']:,} added, "
            f"{boxes['removed']:,} removed, {boxes['redrawn']:,} redrawn, {boxes['renamed']:,} of another "
            "class"
        )
        most = sorted(relabelled, key=lambda row: -sum(v for v in row.values() if isinstance(v, int)))
        lines += _named("most changed", [row["image_now"] for row in most])
    elif not (record["labelled"] or record["unlabelled"]):
        lines.append("  annotations of the images of both: unchanged")
    lines += _counts("annotations by class", record["classes"], "class")
    lines += _counts("annotations by size of the image", record["sizes"], "size")
    return lines


def _named(what: str, names: list[str]) -> list[str]:
    """A line with the first few names; none without any."""
    if not names:
        return []
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return [f"  {what} ({len(names):,}): {', '.join(names[:MOST_NAMED])}{more}"]


def _counts(what: str, rows: list[dict[str, Any]], key: str) -> list[str]:
    """Counts before and now with their shares, the rows that changed most first."""
    totals = [max(sum(row[side] for row in rows), 1) for side in ("before", "now")]
    parts = [
        f"{row[key]} {row['before']:,} to {row['now']:,} "
        f"({percent(row['before'] / totals[0])} to {percent(row['now'] / totals[1])})"
        for row in rows[:MOST_CLASSES]
    ]
    more = f", and {len(rows) - MOST_CLASSES:,} more" if len(rows) > MOST_CLASSES else ""
    return [f"  {what}: {', '.join(parts)}{more}"] if parts else []
