"""Writing the report folder: page, Markdown, JSON, tables and ledger, each whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from datasets.errors import EnvironmentProblem
from datasets.files import draft_file, write_text
from datasets.shapes import SHAPE
from diagnostics.findings import Findings

PAGE = "report.html"
# A cell that starts so is a formula to a spreadsheet.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def environment(*, escape: bool) -> Environment:
    """Jinja2 for one kind of document. Autoescape is set outright: guessing by suffix does not recognise
    .html.j2.
    """
    made = Environment(
        loader=PackageLoader("reports.page", "templates"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    made.filters["middle"] = middle
    return made


def separate_blocks(markdown: str) -> str:
    """Markdown with an empty line between blocks: a table or paragraph right behind a list belongs to its last
    item. Only rows of one table and items of one list follow each other.
    """
    lines: list[str] = []
    for line in (line.rstrip() for line in markdown.splitlines()):
        before = lines[-1] if lines else ""
        together = any(before.startswith(mark) and line.startswith(mark) for mark in ("|", "- "))
        if line and before and not together:
            lines.append("")
        if line or before:
            lines.append(line)
    return "\n".join(lines).rstrip("\n") + "\n"


def middle(name: str, length: int) -> str:
    """A long name cut in its middle: its end tells frames apart."""
    if len(name) <= length:
        return name
    end = 2 * length // 3
    return f"{name[: length - end - 1]}\u2026{name[-end:]}"


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """A frame as Parquet, whole or not at all."""
    with draft_file(path) as draft:
        table.to_parquet(draft, index=False)


def inert(value: object) -> object:
    """Strings that a spreadsheet would run, made harmless."""
    return "'" + value if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def _write_tables(folder: Path, findings: Findings) -> None:
    """Every table of the findings, and the images, annotations and detections of each domain."""
    folder.mkdir(parents=True, exist_ok=True)
    domains = findings.domains
    tables: dict[str, pd.DataFrame] = {
        "slices": findings.slices,
        "slice_errors": findings.slice_errors,
        "discovered": findings.discovered,
        "classes": findings.classes.table,
        "class_drops": findings.classes.drops,
        "confusion": findings.classes.confusion,
        "errors": findings.errors,
        "next": findings.next,
        "embedding_map": findings.map,
        "gallery": findings.cards.assign(nearest=[json.dumps(n) for n in findings.cards["nearest"]]),
        "sweep": _by_domain(findings.sweeps),
        "factors": _by_domain(findings.evidence.factors),
        "images": _by_domain({domain.name: domain.images for domain in domains}),
        "annotations": _by_domain({domain.name: domain.annotations for domain in domains}),
        "detections": pd.concat(
            [_detections_with_outcome(findings, domain.name) for domain in domains], ignore_index=True
        ),
    }
    for name, table in tables.items():
        # Tables hold boxes; the shapes of the objects are drawn only.
        write_parquet(folder / f"{name}.parquet", table.drop(columns=SHAPE, errors="ignore"))


def _by_domain(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Tables of several domains as one, with a column domain; empty without any."""
    parts = [table.assign(domain=name) for name, table in tables.items()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _detections_with_outcome(findings: Findings, name: str) -> pd.DataFrame:
    """A domain's detections; outcome is null where the image has no labels."""
    domain = next(d for d in findings.domains if d.name == name)
    table = domain.detections.assign(domain=name, outcome=None)
    if domain.labelled.any():
        index = domain.scored_detections.index.to_numpy()[domain.outcomes["row"].to_numpy()]
        table.loc[index, "outcome"] = domain.outcomes["outcome"].to_numpy()
    return table.astype({"outcome": "str"}).assign(outcome=lambda t: t["outcome"].where(t["outcome"].notna()))


# Six parameters: the folder, and what each kind of file in it holds.
def write_report(
    folder: Path,
    findings: Findings,
    ledger: pd.DataFrame,
    record: dict[str, Any],
    context: dict[str, Any],
    texts: Mapping[str, str],
) -> Path:
    """Write the report folder.

    Everything is written into a draft folder first and moved when it is complete: an earlier report stays
        whole where the
    disk is full.

    Parameters
    ----------
    folder : Path
        The report's folder.
    findings, ledger, record, context
        What the tables, ledger.csv, report.json and the two templates hold.
    texts : mapping
        Other files of the folder: name to content.

    Returns
    -------
    Path
        report.html, which is moved last.

    Raises
    ------
    EnvironmentProblem
        The disk is full or read-only.
    """
    draft = folder / ".partial"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        _write_tables(draft / "tables", findings)
        write_text(draft / "ledger.csv", ledger.map(inert).to_csv(index=False))
        write_text(draft / "report.json", json.dumps(record, indent=1, allow_nan=False))
        markdown = environment(escape=False).get_template("report.md.j2").render(context)
        write_text(draft / "report.md", separate_blocks(markdown))
        write_text(draft / PAGE, environment(escape=True).get_template("report.html.j2").render(context))
        for name, text in texts.items():
            write_text(draft / name, text)
        (folder / "tables").mkdir(parents=True, exist_ok=True)
        written = [path for path in draft.rglob("*") if path.is_file()]
        for path in sorted(written, key=lambda path: path.name == PAGE):
            path.replace(folder / path.relative_to(draft))
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder}: the report cannot be written ({error.strerror}); make room there, "
            "or give --out with another folder"
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder / PAGE
