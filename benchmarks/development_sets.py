"""`python -m benchmarks.development_sets`: what development detectors say about their own images after each change, for `diagnostics.label_free` to lean on.

The detectors of `benchmarks.rendered` from seeds that no reported reading without labels uses: three that were trained as they should be and one for far too long on a handful of
images, from each. Trainings and looks are kept, so a killed call continues.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from benchmarks.rendered import DEVELOPMENT as FIRST
from benchmarks.rendered import detector
from reports.options import ReportOptions
from reports.pipeline.corruptions import DEVELOPMENT
from reports.pipeline.run import run_report
from reports.progress import Reporter

# Where the rules were written, and three seeds that were once reported.
SEEDS = (FIRST, 90210, 161803, 271828)
DETECTORS = ("good", "second", "third", "late")
# Rounding keeps the file small and is far below what a signal scatters by.
DECIMALS = 4


def sets_of(name: str, seed: int, reporter: Reporter) -> pd.DataFrame | None:
    """detector, family, severity, signals and truth of one detector's changed sets; None where it cannot be read without labels."""
    run, in_domain = detector(name, seed, reporter)
    options = ReportOptions(run=run, in_domain=("in_domain", str(in_domain)), label_free=True, seed=0)
    found = run_report(options, reporter).findings.estimator
    if found is None:
        reporter.say(f"detector '{name}' of seed {seed} cannot be read without labels")
        return None
    table = found.signals.assign(truth=found.truth).round(DECIMALS)
    table.insert(0, "detector", f"{name}-{seed}")
    table.insert(1, "family", found.families)
    table.insert(2, "severity", found.severities)
    return table


def main(
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = DEVELOPMENT,
) -> None:
    """Train, look, and write the table."""
    reporter = Reporter()
    parts = [sets_of(name, seed, reporter) for seed in SEEDS for name in DETECTORS]
    pd.concat([part for part in parts if part is not None], ignore_index=True).to_csv(out, index=False)


if __name__ == "__main__":
    typer.run(main)
