"""`shiftscope inspect`: what Shiftscope reads from a source; no model is needed."""

from __future__ import annotations

from typing import Any

import pandas as pd

from datasets.capture import NAMES, with_capture
from datasets.source import open_source
from datasets.structure import MAX_FOLDERS, changed_rows, folders, unused_files
from datasets.tables import CORNERS, OWN, Source, objects_in
from diagnostics.wording import count
from reports.commands.dataset_difference import difference_lines, difference_record
from reports.options import InspectOptions
from reports.progress import Reporter
from train.environment import frames_folder


def inspect_source(options: InspectOptions, reporter: Reporter) -> dict[str, Any]:
    """Open a source and summarize it, see `inspection`; with `against`, also what changed since. Raises
    InputError.
    """
    source, *before = (
        open_source(
            spec,
            cache=frames_folder(),
            classes=options.names,
            group_by=options.group_by,
            allow=options.allow_root,
            say=reporter.say,
        )
        for spec in (options.source, options.against)
        if spec is not None
    )
    result = inspection(source)
    if before:
        result["difference"] = difference_record(source, before[0], reporter)
    return result


def inspection(source: Source) -> dict[str, Any]:
    """Summarize an opened source.

    Parameters
    ----------
    source
        The opened source.

    Returns
    -------
    dict
        Counts of images and annotations, folders, unused files and label rows, as JSON values.
    """
    source = with_capture(source)
    images, annotations, classes = source.images, source.annotations, source.classes
    labelled = images["labelled"]
    background = labelled & ~images["image"].isin(annotations["image"])
    return {
        "source": source.spec,
        "kind": source.kind,
        "origin": source.origin or None,
        "classes": list(classes),
        "images": len(images),
        "labelled_images": int(labelled.sum()),
        "background_images": int(background.sum()),
        "boxes": objects_in(annotations),
        "ignored_regions": len(annotations[annotations["crowd"]].drop_duplicates(["image", *CORNERS])),
        "boxes_by_class": {
            classes[label] if label < len(classes) else str(label): int(number)
            for label, number in annotations.loc[~annotations["crowd"], "label"]
            .value_counts()
            .sort_index()
            .items()
        },
        "groups": int(images["group"].nunique()),
        "grouping": source.grouping,
        "capture": _capture_record(images),
        "folders": folders(source).to_dict("records"),
        "files": {
            bucket: int((source.ledger["bucket"] == bucket).sum()) for bucket in ("used", "skipped", "failed")
        },
        "reasons": unused_files(source.ledger).to_dict("records"),
        "label_rows": changed_rows(source.rows).to_dict("records"),
        "notes": [
            {"path": row["path"], "reason": row["reason"]}
            for row in source.ledger.to_dict("records")
            if row["bucket"] == "used" and row["reason"]
        ],
    }


def _capture_record(images: pd.DataFrame) -> dict[str, Any]:
    """What image files say about how they were taken: name -> images that have it, lowest, highest
    or values.
    """
    record: dict[str, Any] = {}
    for name in images.columns.intersection(list(NAMES)):
        values = images[name].dropna()
        if pd.api.types.is_numeric_dtype(values):
            content: dict[str, Any] = {"low": float(values.min()), "high": float(values.max())}
        else:
            content = {"values": sorted(values.unique())[:MAX_FOLDERS]}
        record[name.removeprefix(OWN)] = {"images": len(values), **content}
    return record


def lines(result: dict[str, Any]) -> list[str]:
    """The result of `inspection` as lines of text."""
    return [
        *(difference_lines(result["difference"]) if "difference" in result else ()),
        *_content_lines(result),
        *_folder_lines(result["folders"]),
        *_unused_lines(result["files"], result["reasons"]),
        *_label_row_lines(result["label_rows"]),
        *_note_lines(result["notes"]),
    ]


def _content_lines(result: dict[str, Any]) -> list[str]:
    """Kind, classes and counts."""
    unlabelled = result["images"] - result["labelled_images"]
    return [
        f"{result['source']}: {result['kind']}",
        *([f"  {result['origin']}"] if result["origin"] else []),
        f"  classes: {', '.join(result['classes']) or 'not named; the model decides'}",
        f"  {count(result['images'], 'image')}: {result['labelled_images']:,} labelled "
        f"({result['background_images']:,} of them background), {unlabelled:,} unlabelled; "
        f"{count(result['boxes'], 'annotation')}"
        + (f", {count(result['ignored_regions'], 'region')} to ignore" if result["ignored_regions"] else ""),
        f"  {count(result['groups'], 'clip')}: {result['grouping']}",
        *(
            f"  {name}: {', '.join(entry['values']) if 'values' in entry else _range(entry)} "
            f"({count(entry['images'], 'image')})"
            for name, entry in result["capture"].items()
        ),
    ]


def _range(entry: dict[str, Any]) -> str:
    """The range of a number."""
    return f"{entry['low']:g} to {entry['high']:g}" if entry["low"] != entry["high"] else f"{entry['low']:g}"


def _folder_lines(folders: list[dict[str, Any]]) -> list[str]:
    """Images and annotations by folder."""
    output = ["used"]
    for row in folders[:MAX_FOLDERS]:
        split = f" as {row['split']}" if row["split"] else ""
        output.append(
            f"  {row['folder']}: {count(row['images'], 'image')}{split}, {row['labelled']:,} labelled, "
            f"{count(row['boxes'], 'annotation')}"
        )
    if len(folders) > MAX_FOLDERS:
        output.append(f"  and {len(folders) - MAX_FOLDERS} more")
    return output


def _unused_lines(files: dict[str, int], reasons: list[dict[str, Any]]) -> list[str]:
    """Files that are not used, by reason."""
    unused = files["skipped"] + files["failed"]
    return [
        f"not used: {unused:,} of {sum(files.values()):,} files "
        f"({files['skipped']:,} skipped, {files['failed']:,} failed)",
        *(f"  {r['bucket']} {r['files']:,}: {r['reason']}, first: {r['first']}" for r in reasons),
    ]


def _label_row_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Label rows that are rejected or repaired, by reason."""
    if not rows:
        return []
    return [
        "label rows rejected or repaired",
        *(f"  {r['action']} {r['rows']:,}: {r['reason']}, first: {r['first']}:{r['line']}" for r in rows),
    ]


def _note_lines(notes: list[dict[str, str]]) -> list[str]:
    """Remarks on files that are used, by reason."""
    paths_of: dict[str, list[str]] = {}
    for note in notes:
        paths_of.setdefault(note["reason"], []).append(note["path"])
    if not paths_of:
        return []
    return [
        "notes",
        *(
            f"  {count(len(paths), 'file')}: {reason}, first: {paths[0]}"
            for reason, paths in paths_of.items()
        ),
    ]
