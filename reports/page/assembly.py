"""From findings to one dict of words, rows, figures and pictures that both templates read. Numbers become text here and nowhere else."""

from __future__ import annotations

from typing import Any

from reports.page import figures
from reports.page import interventions as experiments
from reports.page import label_free as unlabelled
from reports.page import slices as where
from reports.page.calibration import calibration
from reports.page.domains import domain_row
from reports.page.errors import error_figure, error_rows
from reports.page.gallery import gallery
from reports.page.glossary import GLOSSARY, LIMITS
from reports.page.headline import headline
from reports.page.hypotheses import suspect
from reports.page.methods import ledger, protocol
from reports.page.next import next_rows
from reports.page.shift import shift
from reports.page.threshold import sweep
from reports.page.training import learned
from reports.pipeline import earlier_run as before
from reports.pipeline.run import Result


def build_context(
    result: Result,
    name: str,
    app_urls: dict[int, str],
    dataset: str | None,
    timings: dict[str, float],
    created: str,
) -> dict[str, Any]:
    """Everything both templates need."""
    findings = result.findings
    names = [d.name for d in findings.domains] + (["training"] if findings.training is not None else [])
    roles = {d.name: d.role for d in findings.domains} | {"training": "training"}
    palette = figures.colours(names, roles)
    return {
        "name": name,
        "created": created,
        "dataset": dataset,
        "headline": headline(findings),
        "suspects": [suspect(h, h.code == findings.verdict.primary) for h in findings.verdict.hypotheses],
        "domains": [domain_row(findings, d, palette) for d in findings.domains],
        "ledger": ledger(result),
        "slices": where.slice_rows(findings),
        "slice_figure": where.slice_figure(findings, palette),
        "worst": where.worst(findings),
        "combinations": where.combinations(findings),
        "before": before.rows(result.changes),
        "errors": error_rows(findings),
        "error_figure": error_figure(findings, palette),
        "sweep": sweep(findings, palette),
        "learned": learned(result, palette),
        "shift": shift(findings, palette),
        "calibration": calibration(findings, palette),
        "label_free": unlabelled.label_free(findings),
        "few_labels": unlabelled.few_labels(findings),
        "videos": unlabelled.videos(findings),
        "ladders": experiments.ladders(result),
        "not_run": experiments.not_run(result),
        "gallery": gallery(findings, app_urls),
        "next": next_rows(findings),
        "reserved": list(findings.reserved),
        "protocol": protocol(result),
        "timings": [(stage, f"{seconds:.1f} s") for stage, seconds in timings.items()],
        "glossary": GLOSSARY,
        "limits": LIMITS,
    }
