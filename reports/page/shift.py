"""Domain shift."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from diagnostics.factors import FACTORS
from diagnostics.findings import Findings, statistics_of
from diagnostics.wording import percent
from reports.page import figures
from reports.page import slices as where


def shift_section(findings: Findings, palette: dict[str, str]) -> dict[str, Any]:
    """Map, distances with their nulls, and readable factors."""
    rows = []
    for what, measured in (
        ("images", findings.evidence.shift_image),
        ("annotations", findings.evidence.shift_detections),
        ("light, colours, edges", findings.evidence.shift_descriptors),
    ):
        for name, s in measured.items():
            rows.append(
                {
                    "domain": name,
                    "what": what,
                    "n": f"{s.n_in_domain:,} / {s.n_real_world:,}",
                    "groups": f"{s.groups_in_domain} / {s.groups_real_world}",
                    "mmd": "–" if s.mmd_ratio is None else f"{s.mmd_ratio:.1f} times",
                    "p": "–" if s.p is None else f"{s.p:.3f}",
                    "energy_p": "–" if s.energy_p is None else f"{s.energy_p:.3f}",
                    "frechet": "–"
                    if s.frechet is None or not s.frechet_null
                    else f"{s.frechet / s.frechet_null:.1f} times",
                    "auc": f"{where.number(s.auc)} ({where.number(s.auc_null)})",
                    "outside": f"{percent(s.outside)} ({percent(s.outside_null)})"
                    if s.outside is not None
                    else "–",
                    "note": s.note,
                }
            )
    factor_rows = [
        {
            "domain": name,
            "words": r["words"],
            "kind": r["kind"],
            "in_domain": f"{r['in_domain']:.2f}",
            "real_world": f"{r['real_world']:.2f}",
            "effect": f"{r['effect']:.1f}",
            "p": "–" if r["p"] != r["p"] else "under 0.001" if r["p"] < 0.0005 else f"{r['p']:.3f}",
        }
        for name, table in findings.evidence.factors.items()
        for r in table.to_dict("records")
    ]
    return {
        "map": Markup(
            figures.embedding(
                "Embedding map: first two principal components of all images, coloured by domain; rings are the images to add next",
                findings.map.merge(
                    findings.next[["domain", "image", "rank"]], on=["domain", "image"], how="left"
                ),
                palette,
            )
        )
        if len(findings.map)
        else None,
        "rows": rows,
        "factors": factor_rows,
        "histograms": _histograms(findings, palette),
    }


def _histograms(findings: Findings, palette: dict[str, str]) -> Markup | None:
    """Paired histograms of the factors that differ most."""
    largest: dict[str, float] = {}
    for table in findings.evidence.factors.values():
        for row in table.to_dict("records"):
            largest[row["name"]] = max(largest.get(row["name"], 0.0), row["effect"])
    chosen = sorted(largest, key=lambda name: -largest[name])[:6]
    if not chosen:
        return None
    all_samples = {d.name: statistics_of(d, d.imgsz) for d in findings.domains}
    samples = {
        FACTORS[factor][1]: pd.concat(
            [
                s[factor][["value"]].assign(domain=name)
                for name, s in all_samples.items()
                if factor in s and len(s[factor])
            ],
            ignore_index=True,
        )
        for factor in chosen
    }
    return Markup(
        figures.factors("Histograms of the factors that differ most between domains", samples, palette)
    )
