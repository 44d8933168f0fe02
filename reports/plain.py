"""Findings as JSON values: fractions as they are, null for what could not be measured."""

from __future__ import annotations

import math
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
import pandas as pd

from diagnostics.hypotheses import Verdict


def plain(value: Any) -> Any:
    """Anything the diagnostics return as JSON values: NaN becomes null, frames become lists of records."""
    if isinstance(value, pd.DataFrame):
        return [plain(record) for record in value.to_dict("records")]
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """A verdict for JSON; evidence: one sentence each, with whether it favours the hypothesis."""
    hypotheses = []
    for hypothesis in verdict.hypotheses:
        entry: dict[str, Any] = plain(hypothesis)
        entry["evidence"] = entry.pop("observations")
        hypotheses.append(entry)
    return {
        "primary": verdict.primary,
        "grade": verdict.grade,
        "leading": verdict.leading,
        "rival": verdict.rival,
        "hypotheses": hypotheses,
    }
