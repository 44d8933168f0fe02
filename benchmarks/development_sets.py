"""`python -m benchmarks.development_sets`: what development detectors say about their own pictures after each change, for `diagnostics.label_free` to lean on.

Sixteen tiny YOLOs on roads of their own, which no reported measurement uses: most trained as they should be, some too briefly, some for far too long on a handful of
pictures; a few of them on earth roads or from slightly higher up. Takes hours on two cores; what is finished is kept, so a killed call continues.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from datasets.source import open_source
from datasets.world import DASHCAM, Dials, Plan
from diagnostics.label_free import Estimator
from reports.demo import render
from reports.looks import DEVELOPMENT
from reports.pipeline import Request, run_report
from reports.progress import Reporter
from train.environment import frames_folder, runs_folder
from train.training import Recipe, is_finished, road_world_recipe, train

FIRST_SEED, DETECTORS = 21000, 16
# They take turns, at lengths that have no common factor, so that every training meets every view.
TRAININGS = ("good", "late", "good", "short", "good")
VIEWS = (
    DASHCAM,
    DASHCAM,
    DASHCAM,
    replace(DASHCAM, soil=2),
    DASHCAM,
    Dials(pitch=2, height=1),
    DASHCAM,
)
# Rounding keeps the file small and is far below what a signal scatters by.
DECIMALS = 4


def recipe(training: str, seed: int) -> Recipe:
    """How one of them is trained, as in `benchmarks.rendered`."""
    usual = road_world_recipe(seed)
    usual = replace(usual, extra={**usual.extra, "save_period": -1})
    if training == "late":
        return replace(usual, epochs=80, batch=4, extra={**usual.extra, "nbs": 4})
    return replace(usual, epochs=7) if training == "short" else usual


def estimator(seed: int, reporter: Reporter) -> Estimator | None:
    """One detector, trained if it is not there yet, and what it says about its own pictures."""
    training, view = TRAININGS[seed % len(TRAININGS)], VIEWS[seed % len(VIEWS)]
    clips = (3, 6) if training == "late" else (28, 12)
    plan = Plan(view, {"train": clips, "val": (12, 8)}, seed=seed, prefix="drive")
    home = render("development", plan, reporter)
    run = runs_folder() / "train" / f"development-{seed}"
    if not is_finished(run):
        source = open_source(str(home), cache=frames_folder())
        with reporter.training(f"Training detector {seed}, {training}") as (on_start, on_batch, on_epoch):
            train(
                source,
                run,
                recipe(training, seed),
                on_start=on_start,
                on_batch=on_batch,
                on_epoch=on_epoch,
            )
    request = Request(run=run, in_domain=("home", str(home)), label_free=True, seed=0)
    return run_report(request, reporter).findings.estimator


def main(
    detectors: Annotated[int, typer.Option(help="How many detectors.")] = DETECTORS,
    out: Annotated[Path, typer.Option(help="Where the table goes.")] = DEVELOPMENT,
) -> None:
    """Train, look, and write the table."""
    reporter, parts = Reporter(), []
    for seed in range(FIRST_SEED, FIRST_SEED + detectors):
        found = estimator(seed, reporter)
        if found is None:
            reporter.say(f"detector {seed} cannot be read without labels")
            continue
        table = found.signals.assign(truth=found.truth).round(DECIMALS)
        table.insert(0, "detector", seed)
        table.insert(1, "family", found.families)
        table.insert(2, "severity", found.severities)
        parts.append(table)
    pd.concat(parts, ignore_index=True).to_csv(out, index=False)


if __name__ == "__main__":
    typer.run(main)
