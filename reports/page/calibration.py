"""Section "Confidence threshold": calibration and thresholds with a recall guarantee."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from diagnostics.calibration import PrecisionAtHalf
from diagnostics.findings import Findings
from diagnostics.wording import percent
from reports.page import figures, slices


def calibration_section(findings: Findings, palette: dict[str, str]) -> dict[str, Any] | None:
    """Reliability curves, calibration errors and guarantees; None without labels."""
    if not findings.calibration:
        return None
    curves = [result.curve.assign(domain=name) for name, result in findings.calibration.items()]
    frame = pd.concat([curve for curve in curves if len(curve)] or curves, ignore_index=True)
    frame = figures.of_drawn(frame, palette)
    alt = "Precision against confidence, by domain"
    return {
        "rows": [
            {
                "domain": name,
                "d_ece": slices.number(result.d_ece),
                "la_ece": slices.number(result.la_ece),
                "half": _precision_words(result.at_half),
            }
            for name, result in findings.calibration.items()
        ],
        "figure": Markup(figures.reliability(alt, frame, palette)) if len(frame) else None,
        "guarantees": [
            {
                "domain": name,
                "risk": percent(control.risk),
                "confidence": slices.number(control.confidence),
                "missed": "–" if control.missed is None else percent(control.missed),
                "groups": control.groups,
                "note": control.note,
            }
            for name, controls in findings.risk.items()
            for control in controls
        ],
    }


def _precision_words(result: PrecisionAtHalf | None) -> str:
    """Precision of the detections at a confidence around 0.5, with its interval and their number."""
    if result is None:
        return "too few detections"
    width = "" if result.low is None else f" [{percent(result.low)}, {percent(result.high)}]"
    return f"{percent(result.precision)}{width} of {result.count:,}"
