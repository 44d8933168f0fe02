"""Calibration."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from diagnostics.calibration import AtHalf
from diagnostics.findings import Findings
from diagnostics.wording import percent
from reports.page import figures
from reports.page import slices as where


def _half_words(found: AtHalf | None) -> str:
    """How many of the detections that claim about 0.5 are right."""
    if found is None:
        return "too few detections"
    between = "" if found.low is None else f" ({percent(found.low)} to {percent(found.high)})"
    return f"{percent(found.precision)}{between} of {found.count:,}"


def calibration_section(findings: Findings, palette: dict[str, str]) -> dict[str, Any] | None:
    """Reliability curves and errors."""
    curves = [c.curve.assign(domain=name) for name, c in findings.calibration.items() if len(c.curve)]
    rows = [
        {
            "domain": name,
            "d_ece": where.number(c.d_ece),
            "la_ece": where.number(c.la_ece),
            "half": _half_words(c.at_half),
        }
        for name, c in findings.calibration.items()
    ]
    if not rows:
        return None
    figure = (
        Markup(
            figures.reliability(
                "Share of right detections against stated confidence, by domain",
                pd.concat(curves, ignore_index=True),
                palette,
            )
        )
        if curves
        else None
    )
    promises = [
        {
            "domain": name,
            "risk": percent(found.risk),
            "confidence": where.number(found.confidence),
            "missed": "–" if found.missed is None else percent(found.missed),
            "groups": found.groups,
            "note": found.note,
        }
        for name, controls in findings.risk.items()
        for found in controls
    ]
    return {"rows": rows, "figure": figure, "promises": promises}
