"""Confidence threshold."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from diagnostics.findings import Findings
from reports.page import figures


def threshold_section(findings: Findings, palette: dict[str, str]) -> dict[str, Any] | None:
    """Curves, the slider's data, and what carrying a threshold costs."""
    if not findings.sweeps:
        return None
    frame = pd.concat(
        [points_.assign(domain=name) for name, points_ in findings.sweeps.items()], ignore_index=True
    )
    found = findings.evidence.threshold
    sentence = findings.verdict.named("threshold").statement
    data = {
        name: [
            [round(float(v), 4) if v == v else None for v in row]
            for row in points_[
                ["confidence", "precision", "recall", "f1", "false_positives_per_image"]
            ].to_numpy(float)
        ]
        for name, points_ in findings.sweeps.items()
    }
    return {
        "figure": Markup(
            figures.sweep(
                "F1, precision and recall against the confidence threshold, by domain", frame, palette
            )
        ),
        "data": data,
        "start": found.confidence if found is not None else 0.25,
        "sentence": sentence,
        "colours": palette,
    }
