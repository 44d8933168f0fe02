"""Section "Confidence threshold": the sweep of every domain and the slider's data."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from diagnostics.deployment import Deployment
from diagnostics.findings import Findings
from diagnostics.label_free import SHOWN
from diagnostics.wording import count, fraction, joined
from reports.page import figures

# Classes that the slider can be set to: those of COCO.
MAX_CLASSES = 80
COLUMNS = ["confidence", "precision", "recall", "f1", "false_positives_per_image"]


def threshold_section(
    findings: Findings, palette: dict[str, str], drawn: dict[str, str]
) -> dict[str, Any] | None:
    """Curves, the slider's data, and what carrying a threshold over costs; None without labels.

    palette: colour of each domain; drawn: of those that the figure shows
    """
    if not findings.sweeps:
        return None
    frame = pd.concat(
        [sweep.assign(domain=name) for name, sweep in findings.sweeps.items()], ignore_index=True
    )
    threshold = findings.evidence.threshold
    start = threshold.confidence if threshold is not None else SHOWN
    alt = "F1, precision and recall against the confidence threshold, by domain"
    in_figure = figures.of_drawn(frame, drawn)
    return {
        "figure": Markup(figures.sweep(alt, in_figure, drawn, start)),
        "in_figure": list(dict.fromkeys(in_figure["domain"])),
        "top": figures.SWEEP_TOP,
        "data": {
            name: [
                [round(float(v), 4) if v == v else None for v in row]
                for row in sweep[COLUMNS].to_numpy(float)
            ]
            for name, sweep in findings.sweeps.items()
        },
        "start": start,
        "classes": _class_curves(findings),
        "sentence": findings.verdict.named("threshold").statement,
        "colours": palette,
        "deployments": [_deployment_words(d) for d in findings.deployments.values()],
        "several": len(findings.deployments) > 1,
    }


def _class_curves(findings: Findings) -> dict[str, Any] | None:
    """The slider's data by class, for classes that are annotated somewhere: names, thresholds, and by domain
    the precision, recall and false positives per image of each; None where the model has one class.
    """
    names = findings.in_domain.classes
    if len(names) < 2 or not findings.class_curves:
        return None
    table = findings.classes.table
    annotated = set(table[table["annotations"] > 0]["class"])
    chosen = [k for k, name in enumerate(names) if name in annotated][:MAX_CLASSES]
    curves = findings.class_curves
    grid = next(iter(curves.values()))["confidence"]
    columns = ("precision", "recall", "false_positives_per_image")
    return {
        "names": [names[k] for k in chosen],
        "at": [round(float(value), 3) for value in grid],
        "curves": {
            domain: [
                [[round(float(v), 3) if v == v else None for v in curve[column][k]] for column in columns]
                for k in chosen
            ]
            for domain, curve in curves.items()
        },
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
    words = f"{joined(parts)}."
    if deployment.note:
        words += f" Thresholds are {deployment.note}."
    elif deployment.f1 is not None and deployment.f1_before is not None:
        words += (
            f" F1 {fraction(deployment.f1)} is expected on other such clips, "
            f"{fraction(deployment.f1_before)} with images and threshold {fraction(deployment.confidence)} "
            f"as they are (chosen on one half of {count(deployment.images, 'image')} from "
            f"{count(deployment.clips, 'clip')}, measured on the other)."
        )
    return {"domain": deployment.domain, "words": words}
