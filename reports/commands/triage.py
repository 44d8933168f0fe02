"""What the numbers alone say, before anybody has the images: a learning curve and an AP50 or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from datasets.errors import InputError
from diagnostics.evidence import Evidence
from diagnostics.hypotheses import Verdict, diagnose
from diagnostics.learning import read_curve
from reports.page.hypotheses import STATUS_WORDS
from reports.page.record import hypothesis_record
from train.history import read_history


def triage(
    history: Path | None, in_domain: float | None, training: float | None, real_world: float | None
) -> Verdict:
    """Question every hypothesis with AP50s (fractions) and a results.csv. in_domain: None for the last epoch's.

    Raises InputError where nothing is given, or no in-domain AP50 is known.
    """
    table = read_history(history) if history is not None else pd.DataFrame()
    if in_domain is None and "ap50" in table:
        known = table["ap50"].dropna()
        in_domain = float(known.iloc[-1]) if len(known) else None
    if in_domain is None:
        raise InputError(
            "no in-domain AP50: give --history with a column of validation mAP50, or --in-domain-ap50 NUMBER"
        )
    ap50 = {"in-domain": in_domain}
    if training is not None:
        ap50["training"] = training
    if real_world is not None:
        ap50["the real world"] = real_world
    return diagnose(
        Evidence(
            in_domain="in-domain",
            real_world="the real world" if real_world is not None else None,
            unlabelled=(),
            ap50=ap50,
            max_recall={},
            loose={},
            intervals={},
            gap_interval=None,
            learning=read_curve(table),
            threshold=None,
            size=None,
            recoveries={},
            redrawn=None,
            leak=None,
            shift_image={},
            shift_detections={},
            factors={},
        )
    )


def record(verdict: Verdict) -> dict[str, Any]:
    """The verdict as in report.json."""
    return {
        "primary": verdict.primary,
        "hypotheses": [hypothesis_record(hypothesis) for hypothesis in verdict.hypotheses],
    }


def lines(verdict: Verdict) -> list[str]:
    """The line-up as plain text: supported first, then open, then ruled out."""
    first = verdict.hypotheses[0].name
    head = first if verdict.primary else f"Cannot tell from numbers alone; first in line: {first}"
    result = [head, ""]
    for hypothesis in verdict.hypotheses:
        result.append(f"{STATUS_WORDS[hypothesis.status]:<10} {hypothesis.name}: {hypothesis.statement}")
        if hypothesis.status == "untested" and hypothesis.missing:
            result.append(f"{'':<10} it would take: {hypothesis.missing}")
    return result
