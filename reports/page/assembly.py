"""From findings to one dict of words, rows, figures and images that both templates read. Numbers become text here and nowhere else."""

from __future__ import annotations

from typing import Any

from reports.page import earlier_run, figures
from reports.page import interventions as experiments
from reports.page import label_free as unlabelled
from reports.page import slices as where
from reports.page.calibration import calibration_section
from reports.page.domains import domain_row
from reports.page.errors import error_figure, error_rows
from reports.page.gallery import gallery_section
from reports.page.glossary import GLOSSARY, LIMITS
from reports.page.headline import headline
from reports.page.hypotheses import hypothesis_row
from reports.page.methods import ledger_section, protocol_rows
from reports.page.next import next_rows
from reports.page.shift import shift_section
from reports.page.threshold import threshold_section
from reports.page.training import training_section
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
        "hypotheses": [
            hypothesis_row(h, h.code == findings.verdict.primary) for h in findings.verdict.hypotheses
        ],
        "domains": [domain_row(findings, d, palette) for d in findings.domains],
        "ledger": ledger_section(result),
        "slices": where.slice_rows(findings),
        "slice_figure": where.slice_figure(findings, palette),
        "worst": where.worst(findings),
        "combinations": where.combinations(findings),
        "earlier_run": earlier_run.rows(result.run_comparisons),
        "errors": error_rows(findings),
        "error_figure": error_figure(findings, palette),
        "sweep": threshold_section(findings, palette),
        "learned": training_section(result, palette),
        "shift": shift_section(findings, palette),
        "calibration": calibration_section(findings, palette),
        "label_free": unlabelled.label_free(findings),
        "few_labels": unlabelled.few_labels(findings),
        "videos": unlabelled.videos(findings),
        "contributions": experiments.decompositions(result),
        "not_run": experiments.not_run(result),
        "gallery": gallery_section(findings, app_urls),
        "next": next_rows(findings),
        "reserved": list(findings.reserved),
        "protocol": protocol_rows(result),
        "timings": [(stage, f"{seconds:.1f} s") for stage, seconds in timings.items()],
        "glossary": GLOSSARY,
        "limits": LIMITS,
    }
