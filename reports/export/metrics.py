"""The numbers of a report under short names, for trackers and for `dvc metrics diff`."""

from __future__ import annotations

from typing import Any

import pandas as pd

# In the report's folder, as `dvc metrics` reads it.
METRICS = "metrics.json"
# Curves beside it, as `dvc plots` reads them.
SWEEP = "sweep.csv"
OF_SLICE = ("ap", "ap50", "ap75", "ap50_low", "ap50_high", "max_recall")


def metrics_of(record: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What is measured of each domain.

    Parameters
    ----------
    record : dict
        The content of report.json.

    Returns
    -------
    dict
        Domain -> name -> number: AP and its like of the whole domain; precision, recall and f1 at the
        threshold in use; estimated_ap50 where it was estimated without labels; shift, times its reference;
        probability of the verdict. What was not measured is left out.
    """
    whole = {s["domain"]: s for s in record["slices"] if s["slice"] == "all"}
    sweeps = {entry["domain"]: entry["points"] for entry in record.get("sweep", [])}
    estimates = {entry["domain"]: entry for entry in record.get("label_free", [])}
    shifts = (record.get("shift") or {}).get("image") or {}
    threshold = (record.get("transfer") or {}).get("confidence")
    metrics: dict[str, dict[str, float]] = {}
    for domain in record["domains"]:
        name = domain["name"]
        numbers = {key: whole.get(name, {}).get(key) for key in OF_SLICE}
        if threshold is not None and sweeps.get(name):
            point = min(sweeps[name], key=lambda p: abs(p["confidence"] - threshold))
            numbers |= {key: point[key] for key in ("precision", "recall", "f1", "false_positives_per_image")}
        estimate = estimates.get(name, {})
        if not estimate.get("abstained", True):
            numbers["estimated_ap50"] = estimate["ap50"]
        numbers["shift"] = (shifts.get(name) or {}).get("mmd_ratio")
        numbers["probability"] = (domain.get("verdict") or {}).get("probability")
        metrics[name] = {key: float(value) for key, value in numbers.items() if value is not None}
    return metrics


def sweep_table(record: dict[str, Any]) -> str:
    """Precision, recall and F1 of every domain by confidence threshold, as CSV with a column each."""
    columns: dict[str, list[Any]] = {}
    for entry in record.get("sweep", []):
        columns["confidence"] = [point["confidence"] for point in entry["points"]]
        for name in ("precision", "recall", "f1"):
            columns[f"{entry['domain']} {name}"] = [point[name] for point in entry["points"]]
    return str(pd.DataFrame(columns).to_csv(index=False))
