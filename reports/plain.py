"""Findings as JSON values: fractions as they are, null for what could not be measured."""

from __future__ import annotations

import math
from dataclasses import asdict, is_dataclass
from typing import Any

import numpy as np
import pandas as pd

from diagnostics.hypotheses import Verdict
from diagnostics.point_measures import PointMeasures, Reviewed


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
        "probability": verdict.probability,
        "hypotheses": hypotheses,
    }


def review_record(reviewed: Reviewed) -> dict[str, Any]:
    """What the answers about a domain say, for JSON. low and high: the 95 % interval of AP by points."""
    drop = reviewed.drop or (None, None, None)
    return {
        "domain": reviewed.real_world.domain,
        **_point_record(reviewed.real_world),
        "in_domain": {"domain": reviewed.in_domain.domain, **_point_record(reviewed.in_domain)},
        "drop": plain({"value": drop[0], "low": drop[1], "high": drop[2]}),
    }


def _point_record(measures: PointMeasures) -> dict[str, Any]:
    """Measures by points for JSON; null where nothing can be said, with a note."""
    ends = {
        name: value or (None, None, None)
        for name, value in (
            ("precision", measures.precision),
            ("recall", measures.recall),
            ("ap50_points", measures.ap),
        )
    }
    record: dict[str, Any] = {
        "frames": measures.images,
        "answers": measures.frames,
        "objects": measures.objects,
        "confidence": measures.confidence,
        **{name: value for name, (value, _, _) in ends.items()},
        "low": ends["ap50_points"][1],
        "high": ends["ap50_points"][2],
        "precision_interval": list(ends["precision"][1:]),
        "recall_interval": list(ends["recall"][1:]),
        "note": measures.note,
    }
    return record
