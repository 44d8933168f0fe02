"""`shiftscope triage`: the hypotheses assessed from a training curve and an AP50 or two, without images."""

from __future__ import annotations

import pandas as pd

from datasets.errors import InputError
from diagnostics.evidence import Evidence
from diagnostics.hypotheses import Verdict, diagnose
from diagnostics.learning import summarise_history
from diagnostics.wording import STATUS_WORDS
from reports.options import TriageOptions
from train.history import read_history


def triage(options: TriageOptions) -> Verdict:
    """Assess every hypothesis with AP50s (fractions) and a training history.

    Raises InputError where nothing is given, or no in-domain AP50 is known.
    """
    history = read_history(options.history) if options.history is not None else pd.DataFrame()
    in_domain = options.in_domain_ap50
    if in_domain is None and "ap50" in history:
        measured = history["ap50"].dropna()
        in_domain = float(measured.iloc[-1]) if len(measured) else None
    if in_domain is None:
        raise InputError(
            "no in-domain AP50: give --history with a column of validation mAP50, or --in-domain-ap50 NUMBER"
        )
    ap50 = {"in-domain": in_domain}
    if options.training_ap50 is not None:
        ap50["training"] = options.training_ap50
    if options.real_world_ap50 is not None:
        ap50["the real world"] = options.real_world_ap50
    return diagnose(
        Evidence(
            in_domain="in-domain",
            domain="the real world" if options.real_world_ap50 is not None else None,
            real_world="the real world" if options.real_world_ap50 is not None else None,
            ap50=ap50,
            max_recall={},
            loose={},
            intervals={},
            gap_interval=None,
            learning=summarise_history(history),
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


def lines(verdict: Verdict) -> list[str]:
    """The verdict as text: supported hypotheses first, then undecided ones, then those ruled out."""
    first = verdict.hypotheses[0].name
    text = [first if verdict.primary else f"Cause undecided from numbers alone; first candidate: {first}", ""]
    for hypothesis in verdict.hypotheses:
        text.append(f"{STATUS_WORDS[hypothesis.status]:<13} {hypothesis.name}: {hypothesis.statement}")
    if any(hypothesis.status == "untested" for hypothesis in verdict.hypotheses):
        text += ["", "What is not tested takes the images: shiftscope report --run DIR --real-world SOURCE"]
    return text
