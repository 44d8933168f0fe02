"""Section "Performance": error types."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from diagnostics.findings import Findings
from reports.page import figures, slices


def error_rows(findings: Findings) -> list[dict[str, Any]]:
    """Errors by type, all domains side by side."""
    return [
        {
            "domain": row["domain"],
            "type": row["type"],
            "count": f"{row['count']:,}",
            "per_image": f"{row['per_image']:.2f}",
            "delta": "–"
            if row["delta_ap50"] != row["delta_ap50"]
            else f"+{slices.number(row['delta_ap50'])}",
        }
        for row in findings.errors.to_dict("records")
    ]


def error_figure(findings: Findings, palette: dict[str, str]) -> Markup | None:
    """Errors per image by type and domain; None without errors."""
    if findings.errors.empty:
        return None
    table = figures.of_drawn(findings.errors, palette)
    shown = table[table.groupby("type")["count"].transform("sum") > 0]
    alt = "Errors per image by type and domain"
    return Markup(figures.errors(alt, shown, palette)) if len(shown) else None
