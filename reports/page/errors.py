"""Error types."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from diagnostics.findings import Findings
from reports.page import figures
from reports.page import slices as where


def error_rows(findings: Findings) -> list[dict[str, Any]]:
    """Errors by type, all domains side by side."""
    return [
        {
            "domain": r["domain"],
            "type": r["type"],
            "count": f"{r['count']:,}",
            "per_image": f"{r['per_image']:.2f}",
            "delta": "–" if r["delta_ap50"] != r["delta_ap50"] else f"+{where.number(r['delta_ap50'])}",
        }
        for r in findings.errors.to_dict("records")
    ]


def error_figure(findings: Findings, palette: dict[str, str]) -> Markup | None:
    """Errors per image in-domain and in the real world."""
    if findings.errors.empty:
        return None
    shown = findings.errors[findings.errors.groupby("type")["count"].transform("sum") > 0]
    return (
        Markup(figures.errors("Errors per image by type and domain", shown, palette)) if len(shown) else None
    )
