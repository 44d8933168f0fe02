"""Section "Methods": the file ledger, and how the numbers were made."""

from __future__ import annotations

from typing import Any

from datasets import structure
from reports.pipeline.run import Result
from reports.pipeline.sources import correction_lines


def ledger_section(result: Result) -> dict[str, Any]:
    """Files by bucket, reasons, and label rows that were repaired or rejected."""
    table, rows = result.ledger, result.rows
    return {
        "total": f"{len(table):,}",
        "buckets": [
            (bucket, f"{int((table['bucket'] == bucket).sum()):,}")
            for bucket in ("used", "skipped", "failed")
        ],
        "reasons": [
            (r["bucket"], r["reason"], f"{r['files']:,}", short_path(r["first"]))
            for r in structure.unused_files(table).to_dict("records")
        ],
        "rows": [
            (r["action"], r["reason"], f"{r['rows']:,}", f"{short_path(r['first'])}:{r['line']}")
            for r in structure.changed_rows(rows).to_dict("records")
        ],
        "folders": _folder_rows(result),
        "origins": [(o.name, o.source.origin) for o in result.opened if o.source.origin],
        "grouping": [(o.name, o.source.grouping) for o in result.opened if o.role != "training"],
        "corrected": [(o.name, line) for o in result.opened for line in correction_lines(o.corrected)],
    }


def _folder_rows(result: Result) -> list[tuple[str, ...]]:
    """Domain, folder, split, images, labelled images and annotations; long lists are cut."""
    rows: list[tuple[str, ...]] = []
    for opened in result.opened:
        table = structure.folders(opened.source)
        for row in table.head(structure.MAX_FOLDERS).to_dict("records"):
            numbers = (f"{row[key]:,}" for key in ("images", "labelled", "boxes"))
            rows.append((opened.name, row["folder"], row["split"] or "–", *numbers))
        if len(table) > structure.MAX_FOLDERS:
            rest = table.iloc[structure.MAX_FOLDERS :]
            numbers = (f"{rest[key].sum():,}" for key in ("images", "labelled", "boxes"))
            rows.append((opened.name, f"{len(rest)} more", "–", *numbers))
    return rows


def short_path(path: str) -> str:
    """Last two parts of a path: enough to find the file, without the machine's folders."""
    return "/".join(str(path).replace("\\", "/").rsplit("/", 2)[-2:])


def protocol_rows(result: Result) -> list[tuple[str, str]]:
    """How the numbers were made."""
    run = result.run
    trained = f" (trained at {run.imgsz} px)" if run is not None and run.imgsz else ""
    rows = [
        (
            "Matching",
            "greedy COCO matching, IoU 0.5 to 0.95, 100 detections per image, 101-point interpolation "
            "(equal to pycocotools)",
        ),
        ("Confidence floor", f"{result.settings.conf}"),
        ("Image size", f"{result.settings.imgsz} px{trained}"),
        ("Intervals", "95 %, cluster bootstrap over clips, 1,000 replicates, BCa"),
        ("Seed", str(result.options.seed)),
    ]
    if result.backend:
        rows.append(
            ("Forward passes", f"{result.backend}; experiments took {result.passes:,} beyond the first")
        )
    if run is not None:
        rows.insert(0, ("Weights", f"{short_path(str(run.weights))}, sha256 {run.sha256[:12]}"))
    return rows
