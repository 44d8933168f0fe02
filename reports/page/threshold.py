"""Section "Confidence threshold": the sweep of every domain and the slider's data."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from diagnostics.findings import Findings
from diagnostics.label_free import SHOWN
from reports.page import figures

COLUMNS = ["confidence", "precision", "recall", "f1", "false_positives_per_image"]


def threshold_section(findings: Findings, palette: dict[str, str]) -> dict[str, Any] | None:
    """Curves, the slider's data, and what carrying a threshold over costs; None without labels."""
    if not findings.sweeps:
        return None
    frame = pd.concat(
        [sweep.assign(domain=name) for name, sweep in findings.sweeps.items()], ignore_index=True
    )
    threshold = findings.evidence.threshold
    alt = "F1, precision and recall against the confidence threshold, by domain"
    return {
        "figure": Markup(figures.sweep(alt, frame, palette)),
        "data": {
            name: [
                [round(float(v), 4) if v == v else None for v in row]
                for row in sweep[COLUMNS].to_numpy(float)
            ]
            for name, sweep in findings.sweeps.items()
        },
        "start": threshold.confidence if threshold is not None else SHOWN,
        "sentence": findings.verdict.named("threshold").statement,
        "colours": palette,
    }
