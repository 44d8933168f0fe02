"""From findings to one dict of words, rows, figures and images that both templates read. Numbers become text
in this room only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reports.page import domains, earlier_run, errors, figures, interventions, label_free, slices
from reports.page.calibration import calibration_section
from reports.page.classes import classes_section
from reports.page.gallery import gallery_section
from reports.page.glossary import GLOSSARY, LIMITS
from reports.page.headline import headline
from reports.page.hypotheses import hypothesis_rows
from reports.page.methods import ledger_section, protocol_rows
from reports.page.next import next_rows, reserved_words
from reports.page.shift import shift_section
from reports.page.threshold import threshold_section
from reports.page.training import training_section
from reports.page.videos import videos
from reports.page.views import image_views
from reports.pipeline.run import Result


@dataclass(frozen=True)
class Place:
    """Where a report stands, for its links and commands.

    name: its name
    folder: its folder, as commands name it
    dataset: its FiftyOne dataset; None without one
    app_urls: links into the App by card number
    """

    name: str
    folder: str
    dataset: str | None
    app_urls: dict[int, str]


def build_context(result: Result, place: Place, timings: dict[str, float], created: str) -> dict[str, Any]:
    """Everything both templates need.

    Parameters
    ----------
    result : Result
        What the pipeline measured.
    place : Place
        Where the report stands.
    timings : dict
        Seconds by stage.
    created : str
        Date and time, as text.
    """
    findings = result.findings
    names = [domain.name for domain in findings.domains]
    roles = {domain.name: domain.role for domain in findings.domains} | {"training": "training"}
    drawn = domains.drawn_domains(findings)
    shown = [*names, *(["training"] if findings.training is not None else [])]
    palette = figures.colours(shown, roles, drawn)
    of_drawn = {name: colour for name, colour in palette.items() if name in drawn}
    verdict = findings.verdict
    views = image_views(findings)
    view_of = {key: number for number, key in enumerate(views)}
    return {
        "name": place.name,
        "created": created,
        "dataset": place.dataset,
        "headline": headline(findings, place.folder),
        "hypotheses": hypothesis_rows(verdict, leads=True),
        "other_hypotheses": [
            (name, hypothesis_rows(other, leads=False))
            for name, other in findings.verdicts.items()
            if name != findings.focus
        ],
        "contributions": interventions.contribution_sections(result),
        "left_early": interventions.left_early(result),
        "not_run": interventions.not_run(result),
        "domains": [domains.domain_row(findings, domain, palette) for domain in findings.domains],
        "drawn": f"Figures show {', '.join(drawn[:-1])} and {drawn[-1]}: the domain in focus and those with "
        "the lowest AP50."
        if len(drawn) < len(names)
        else "",
        "shapes": domains.shape_rows(result),
        "earlier_run": earlier_run.rows(result.run_comparisons),
        "reviewed": label_free.reviewed(findings),
        "audited": label_free.audited(findings),
        "label_free": label_free.label_free(findings),
        "few_labels": label_free.few_labels(findings),
        "classes": classes_section(findings),
        "slices": slices.slice_rows(findings),
        "slice_figure": slices.slice_figure(findings, of_drawn),
        "worst": slices.worst(findings),
        "weak_slices": slices.weak_slices(findings),
        "errors": errors.error_rows(findings),
        "error_figure": errors.error_figure(findings, of_drawn),
        "sweep": threshold_section(findings, palette, of_drawn),
        "calibration": calibration_section(findings, of_drawn),
        "training": training_section(result, palette),
        "shift": shift_section(findings, palette, of_drawn, view_of),
        "videos": videos(findings),
        "gallery": gallery_section(findings, place.app_urls, view_of),
        "views": list(views.values()),
        "next": next_rows(findings, view_of),
        "reserved": reserved_words(findings.reserved),
        "ledger": ledger_section(result),
        "protocol": protocol_rows(result),
        "timings": [(stage, f"{seconds:.1f} s") for stage, seconds in timings.items()],
        "glossary": GLOSSARY,
        "limits": LIMITS,
    }
