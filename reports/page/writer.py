"""Writing the report folder: page, Markdown, JSON, tables and ledger, each whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from datasets.errors import EnvironmentProblem
from diagnostics.findings import Findings
from reports.files import write_text

PAGE = "report.html"
# A cell that starts so is a formula to a spreadsheet.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def environment(*, escape: bool) -> Environment:
    """Jinja2 for one kind of document. Autoescape is set outright: guessing by suffix does not recognise .html.j2."""
    made = Environment(
        loader=PackageLoader("reports.page", "templates"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    return made


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """A frame as Parquet, whole or not at all."""
    draft = path.with_name(path.name + ".partial")
    table.to_parquet(draft, index=False)
    draft.replace(path)


def inert(value: object) -> object:
    """Strings that a spreadsheet would run, made harmless."""
    return "'" + value if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def _write_tables(folder: Path, findings: Findings) -> None:
    """Every table of the findings, and each domain's own: images, boxes, detections with their outcome."""
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, pd.DataFrame] = {
        "slices": findings.slices,
        "slice_errors": findings.slice_errors,
        "discovered": findings.discovered,
        "errors": findings.errors,
        "next": findings.next,
        "embedding_map": findings.map,
        "gallery": findings.cards.assign(nearest=[json.dumps(n) for n in findings.cards["nearest"]]),
        "sweep": pd.concat([t.assign(domain=name) for name, t in findings.sweeps.items()], ignore_index=True)
        if findings.sweeps
        else pd.DataFrame(),
        "factors": pd.concat(
            [t.assign(domain=name) for name, t in findings.evidence.factors.items()], ignore_index=True
        )
        if findings.evidence.factors
        else pd.DataFrame(),
        "images": pd.concat([d.images.assign(domain=d.name) for d in findings.domains], ignore_index=True),
        "boxes": pd.concat(
            [d.annotations.assign(domain=d.name) for d in findings.domains], ignore_index=True
        ),
        "detections": pd.concat(
            [_detections_with_outcome(findings, d.name) for d in findings.domains], ignore_index=True
        ),
    }
    for name, table in tables.items():
        write_parquet(folder / f"{name}.parquet", table)


def _detections_with_outcome(findings: Findings, name: str) -> pd.DataFrame:
    """A domain's detections; outcome is null where the image has no labels."""
    domain = next(d for d in findings.domains if d.name == name)
    table = domain.detections.assign(domain=name, outcome=None)
    if domain.labelled.any():
        index = domain.scored_detections.index.to_numpy()[domain.outcomes["row"].to_numpy()]
        table.loc[index, "outcome"] = domain.outcomes["outcome"].to_numpy()
    return table.astype({"outcome": "str"}).assign(outcome=lambda t: t["outcome"].where(t["outcome"].notna()))


def write_report(
    folder: Path, findings: Findings, ledger: pd.DataFrame, record: dict[str, Any], context: dict[str, Any]
) -> Path:
    """Write everything into folder and return the path of report.html, which comes last.

    It is written into a folder of its own within first, and moved when all of it is there: a report before this one stays whole where the disk is full. Raises EnvironmentProblem then.
    """
    draft = folder / ".partial"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        _write_tables(draft / "tables", findings)
        write_text(draft / "ledger.csv", ledger.map(inert).to_csv(index=False))
        write_text(draft / "report.json", json.dumps(record, indent=1, allow_nan=False))
        write_text(
            draft / "report.md", environment(escape=False).get_template("report.md.j2").render(context)
        )
        write_text(draft / PAGE, environment(escape=True).get_template("report.html.j2").render(context))
        (folder / "tables").mkdir(parents=True, exist_ok=True)
        written = [path for path in draft.rglob("*") if path.is_file()]
        for path in sorted(written, key=lambda path: path.name == PAGE):
            path.replace(folder / path.relative_to(draft))
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder}: the report cannot be written ({error.strerror}); make room there, or give --out with another folder"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder / PAGE
