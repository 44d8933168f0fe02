"""`python -m benchmarks.development_sets`: label-free signals and AP50 of detectors on corrupted images.

`diagnostics.label_free` shrinks its regression towards these development detectors. They are those of
`benchmarks.rendered`, from seeds that no published label-free estimate uses: from each seed three that were
trained as usual and one that was trained for far too long on a handful of images. Trainings and predictions
are stored, so an interrupted call continues.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from benchmarks.rendered import DEVELOPMENT as FIRST
from benchmarks.rendered import detector
from diagnostics.label_free import fit_estimator
from reports.options import Effort, ReportOptions
from reports.pipeline.corruptions import DEVELOPMENT, corrupt_in_domain
from reports.pipeline.effort import Budget
from reports.pipeline.inference import predict_domains
from reports.pipeline.interventions import DomainPredictor
from reports.pipeline.runs import load_run
from reports.progress import Reporter

# The seed the rules were written with, and three seeds of tables that are no longer published.
SEEDS = (FIRST, 90210, 161803, 271828)
DETECTORS = ("good", "second", "third", "late")
# Rounding keeps the file small; it is far below the scatter of a signal.
DECIMALS = 4


def corrupted_sets(name: str, seed: int, reporter: Reporter) -> pd.DataFrame | None:
    """Detector, family, severity, signals and truth of its corrupted sets; None without an estimator."""
    run, in_domain = detector(name, seed, reporter)
    options = ReportOptions(run=run, in_domain=("in_domain", str(in_domain)), label_free=True, seed=0)
    predicted = predict_domains(options, load_run(options), reporter)
    assert predicted.detector is not None
    assert predicted.run is not None
    predictor = DomainPredictor(predicted.detector, predicted.run, predicted.settings, reporter)
    budget = Budget(Effort.THOROUGH, 0, predicted.settings.imgsz)
    corrupted = corrupt_in_domain(predictor, predicted.in_domain, budget, mixed=True)
    estimator = fit_estimator(predicted.in_domain, corrupted)
    if estimator is None:
        reporter.say(f"detector '{name}' of seed {seed} has no label-free estimator")
        return None
    table = estimator.signals.assign(truth=estimator.truth).round(DECIMALS)
    table.insert(0, "detector", f"{name}-{seed}")
    table.insert(1, "family", estimator.families)
    table.insert(2, "severity", estimator.severities)
    return table


def main(
    out: Annotated[Path, typer.Option(help="File to write the table to.")] = DEVELOPMENT,
) -> None:
    """Train, predict and write the table."""
    reporter = Reporter()
    parts = [corrupted_sets(name, seed, reporter) for seed in SEEDS for name in DETECTORS]
    pd.concat([part for part in parts if part is not None], ignore_index=True).to_csv(out, index=False)


if __name__ == "__main__":
    typer.run(main)
