"""Methods: files, protocol, versions."""

from __future__ import annotations

from typing import Any

from datasets import structure
from reports.pipeline.run import Result
from reports.pipeline.sources import correction_lines


def ledger_section(result: Result) -> dict[str, Any]:
    """Files by bucket, reasons, and label rows repaired or rejected."""
    table, rows = result.ledger, result.rows
    return {
        "total": f"{len(table):,}",
        "buckets": [
            (bucket, f"{int((table['bucket'] == bucket).sum()):,}")
            for bucket in ("used", "skipped", "failed")
        ],
        "reasons": [
            (r["bucket"], r["reason"], f"{r['files']:,}", short_path(r["first"]))
            for r in structure.reasons(table).to_dict("records")
        ],
        "rows": [
            (r["action"], r["reason"], f"{r['rows']:,}", f"{short_path(r['first'])}:{r['line']}")
            for r in structure.repaired(rows).to_dict("records")
        ],
        "taken": _folder_rows(result),
        "origins": [(o.name, o.source.origin) for o in result.opened if o.source.origin],
        "grouping": [(o.name, o.source.grouping) for o in result.opened if o.role != "training"],
        "corrected": [(o.name, line) for o in result.opened for line in correction_lines(o.corrected)],
    }


def _folder_rows(result: Result) -> list[tuple[str, ...]]:
    """Which folders the images of each domain came from: domain, folder, split, images, labelled, objects. Long lists are cut."""
    rows: list[tuple[str, ...]] = []
    for o in result.opened:
        table = structure.folders(o.source)
        for row in table.head(structure.MAX_FOLDERS).to_dict("records"):
            numbers = (f"{row[key]:,}" for key in ("images", "labelled", "boxes"))
            rows.append((o.name, row["folder"], row["split"] or "–", *numbers))
        if len(table) > structure.MAX_FOLDERS:
            rest = table.iloc[structure.MAX_FOLDERS :]
            numbers = (f"{rest[key].sum():,}" for key in ("images", "labelled", "boxes"))
            rows.append((o.name, f"{len(rest)} more", "–", *numbers))
    return rows


def short_path(path: str) -> str:
    """Last two parts of a path: enough to find the file, without the machine's folders."""
    return "/".join(str(path).replace("\\", "/").rsplit("/", 2)[-2:])


def protocol_rows(result: Result) -> list[tuple[str, str]]:
    """How the numbers were made."""
    run = result.run
    facts = [
        (
            "Matching",
            "greedy COCO matching, IoU 0.5 to 0.95, 100 detections an image, 101-point interpolation (equal to pycocotools)",
        ),
        ("Confidence floor", f"{result.settings.conf}"),
        (
            "Image size",
            f"{result.settings.imgsz} px" + (f" (trained at {run.imgsz} px)" if run and run.imgsz else ""),
        ),
        ("Intervals", "95 %, cluster bootstrap over clips, 1,000 replicates, BCa"),
        ("Seed", str(result.options.seed)),
    ]
    if run is not None:
        facts.insert(0, ("Weights", f"{short_path(str(run.weights))}, sha256 {run.sha256[:12]}"))
    return facts
