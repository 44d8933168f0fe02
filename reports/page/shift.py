"""Section "Domain shift": the embedding map, shift metrics with their references, and readable factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from diagnostics.factors import FACTORS
from diagnostics.findings import Findings
from diagnostics.gather import statistics_of
from diagnostics.shift import Shift
from diagnostics.wording import percent
from reports.page import figures, slices
from reports.page.embedding_map import embedding_map

# Histograms are drawn of so many factors, those that differ most.
MAX_HISTOGRAMS = 6


def shift_section(
    findings: Findings,
    palette: dict[str, str],
    drawn: dict[str, str],
    view_of: Mapping[tuple[str, str], int],
) -> dict[str, Any]:
    """Map, metrics and factors; empty parts where nothing was measured.

    palette: colour of each domain; drawn: of those that the histograms show; view_of: number of the whole
    image by domain and image
    """
    evidence = findings.evidence
    measured = (
        ("images", evidence.shift_image),
        ("detections", evidence.shift_detections),
        ("light, colours, edges", evidence.shift_descriptors),
        ("number, classes, confidence and size of detections", evidence.shift_boxes),
    )
    return {
        "map": embedding_map(findings, palette, view_of),
        "rows": [
            _metric_row(domain, what, shift) for what, shifts in measured for domain, shift in shifts.items()
        ],
        "factors": [
            _factor_row(domain, row)
            for domain, table in evidence.factors.items()
            for row in table.to_dict("records")
        ],
        "histograms": _histograms(findings, drawn),
    }


def _metric_row(domain: str, what: str, shift: Shift) -> dict[str, Any]:
    """The shift metrics of one domain, each beside its in-domain reference."""
    frechet = shift.frechet / shift.frechet_null if shift.frechet is not None and shift.frechet_null else None
    outside = None
    if shift.outside is not None:
        outside = f"{percent(shift.outside)} ({percent(shift.outside_null)})"
    return {
        "domain": domain,
        "what": what,
        "n": f"{shift.n_in_domain:,} / {shift.n_real_world:,}",
        "groups": f"{shift.groups_in_domain} / {shift.groups_real_world}",
        "mmd": "–" if shift.mmd_ratio is None else f"{shift.mmd_ratio:.1f}",
        "p": "–" if shift.p is None else f"{shift.p:.3f}",
        "energy_p": "–" if shift.energy_p is None else f"{shift.energy_p:.3f}",
        "frechet": "–" if frechet is None else f"{frechet:.1f}",
        "auc": f"{slices.number(shift.auc)} ({slices.number(shift.auc_null)})",
        "outside": outside or "–",
        "note": shift.note,
    }


def _factor_row(domain: str, row: dict[Any, Any]) -> dict[str, str]:
    """One readable factor of one domain."""
    p = row["p"]
    return {
        "domain": domain,
        "words": row["words"],
        "kind": row["kind"],
        "in_domain": f"{row['in_domain']:.2f}",
        "real_world": f"{row['real_world']:.2f}",
        "effect": f"{row['effect']:.1f}",
        "p": "–" if p != p else "under 0.001" if p < 0.0005 else f"{p:.3f}",
    }


def _histograms(findings: Findings, palette: dict[str, str]) -> Markup | None:
    """Paired histograms of the factors that differ most; None where none were measured."""
    largest: dict[str, float] = {}
    for table in findings.evidence.factors.values():
        for row in table.to_dict("records"):
            largest[row["name"]] = max(largest.get(row["name"], 0.0), row["effect"])
    names = sorted(largest, key=lambda name: -largest[name])[:MAX_HISTOGRAMS]
    if not names:
        return None
    samples = {
        domain.name: statistics_of(domain, domain.imgsz)
        for domain in findings.domains
        if domain.name in palette
    }
    frames = {
        FACTORS[name][1]: pd.concat(
            [
                values[name][["value"]].assign(domain=domain)
                for domain, values in samples.items()
                if name in values and len(values[name])
            ],
            ignore_index=True,
        )
        for name in names
    }
    return Markup(
        figures.factors("Histograms of the factors that differ most between domains", frames, palette)
    )
