"""`shiftscope inspect`: what would be read of a source, before any model is asked."""

from __future__ import annotations

from typing import Any

from datasets.structure import MAX_FOLDERS, folders, reasons, repaired
from datasets.tables import Source
from diagnostics.wording import count


def inspection(source: Source) -> dict[str, Any]:
    """Counts, folders, ledger and label rows of a source, as JSON values."""
    images, boxes = source.images, source.annotations
    labelled = images["labelled"]
    names = source.classes
    return {
        "source": source.spec,
        "kind": source.kind,
        "origin": source.origin or None,
        "classes": list(names),
        "images": len(images),
        "labelled_images": int(labelled.sum()),
        "background_images": int((labelled & ~images["image"].isin(boxes["image"])).sum()),
        "boxes": len(boxes),
        "boxes_by_class": {
            names[label] if label < len(names) else str(label): int(number)
            for label, number in boxes["label"].value_counts().sort_index().items()
        },
        "groups": int(images["group"].nunique()),
        "grouping": source.grouping,
        "folders": folders(source).to_dict("records"),
        "files": {
            bucket: int((source.ledger["bucket"] == bucket).sum()) for bucket in ("used", "skipped", "failed")
        },
        "reasons": reasons(source.ledger).to_dict("records"),
        "label_rows": repaired(source.rows).to_dict("records"),
        "notes": [
            {"path": row["path"], "reason": row["reason"]}
            for row in source.ledger.to_dict("records")
            if row["bucket"] == "used" and row["reason"]
        ],
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The same in words."""
    said = [f"{found['source']}: {found['kind']}"]
    if found["origin"]:
        said.append(f"  {found['origin']}")
    said.append(f"  classes: {', '.join(found['classes']) or 'named by nobody; the model decides'}")
    said.append(
        f"  {count(found['images'], 'image')}: {found['labelled_images']:,} labelled ({found['background_images']:,} of them background), "
        f"{found['images'] - found['labelled_images']:,} unlabelled; {count(found['boxes'], 'object')}"
    )
    said.append(f"  {count(found['groups'], 'clip')}: {found['grouping']}")
    said.append("taken")
    for row in found["folders"][:MAX_FOLDERS]:
        said.append(
            f"  {row['folder']}: {count(row['images'], 'image')}{' as ' + row['split'] if row['split'] else ''}, {row['labelled']:,} labelled, {count(row['boxes'], 'object')}"
        )
    if len(found["folders"]) > MAX_FOLDERS:
        said.append(f"  and {len(found['folders']) - MAX_FOLDERS} more")
    files = found["files"]
    said.append(
        f"passed over: {files['skipped'] + files['failed']:,} of {sum(files.values()):,} files ({files['skipped']:,} skipped, {files['failed']:,} failed)"
    )
    said += [f"  {r['bucket']} {r['files']:,}: {r['reason']}, first: {r['first']}" for r in found["reasons"]]
    if found["label_rows"]:
        said.append("label rows not taken as written")
        said += [
            f"  {r['action']} {r['rows']:,}: {r['reason']}, first: {r['first']}:{r['line']}"
            for r in found["label_rows"]
        ]
    grouped: dict[str, list[str]] = {}
    for note in found["notes"]:
        grouped.setdefault(note["reason"], []).append(note["path"])
    if grouped:
        said.append("worth knowing")
        said += [
            f"  {count(len(paths), 'file')}: {reason}, first: {paths[0]}" for reason, paths in grouped.items()
        ]
    return said
