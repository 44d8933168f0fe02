"""Section "Confidence threshold": the sweep of every domain and the slider's data."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from diagnostics.deployment import Deployment
from diagnostics.findings import Findings
from diagnostics.label_free import SHOWN
from diagnostics.wording import count, fraction
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
        "deployments": [_deployment_words(d) for d in findings.deployments.values()],
        "several": len(findings.deployments) > 1,
    }


def _deployment_words(deployment: Deployment) -> dict[str, str]:
    """How to predict one domain, and what to expect."""
    change = deployment.change
    parts = [f"image size {change.imgsz}"]
    parts += ["in tiles"] * change.tiles + ["colours matched to the in-domain images"] * (
        change.colours is not None
    )
    values = sorted(set(deployment.thresholds.values()))
    if len(values) > 1:
        parts.append(f"a threshold for each class ({fraction(values[0])} to {fraction(values[-1])})")
    elif values:
        parts.append(f"threshold {fraction(values[0])}")
    words = f"{_joined(parts)}."
    if deployment.note:
        words += f" Thresholds are {deployment.note}."
    elif deployment.f1 is not None and deployment.f1_before is not None:
        words += (
            f" F1 {fraction(deployment.f1)} is expected on other such clips, {fraction(deployment.f1_before)} with "
            f"images and threshold {fraction(deployment.confidence)} as they are (chosen on one half of "
            f"{count(deployment.images, 'image')} from {count(deployment.clips, 'clip')}, measured on the other)."
        )
    return {"domain": deployment.domain, "words": words}


def _joined(parts: list[str]) -> str:
    """Parts as text: "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
