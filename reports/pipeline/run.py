"""The main job in order: open the sources, look at every image once, find, write. Every stage can be killed and taken up again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from datasets.errors import InputError
from diagnostics.domain import Domain
from diagnostics.findings import Findings, find
from reports.options import ReportOptions
from reports.pipeline.checkpoints import Checkpoints, compare_checkpoints
from reports.pipeline.earlier_run import RunComparison, compare_runs, open_earlier_run
from reports.pipeline.experiments import run_experiments
from reports.pipeline.inference import (
    PredictedDomains,
    load_detector,
    predict_domains,
    resolve_prediction_folders,
)
from reports.pipeline.sources import (
    Opened,
    all_rows,
    full_ledger,
)
from reports.progress import Reporter
from train.predictions import Settings
from train.run import Run, parent_of

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Result:
    """What the writers need. ledger: every file of every source, with its domain. rows: label rows not taken as written.

    changes: what differs from the earlier run, by domain. checkpoints: those that the run kept, compared.
    """

    options: ReportOptions
    run: Run | None
    classes: tuple[str, ...]
    settings: Settings
    findings: Findings
    opened: tuple[Opened, ...]
    ledger: pd.DataFrame
    rows: pd.DataFrame
    run_comparisons: tuple[RunComparison, ...] = ()
    checkpoints: Checkpoints = field(default_factory=Checkpoints)


def run_report(options: ReportOptions, reporter: Reporter) -> Result:
    """Everything up to the findings. Raises InputError."""
    options = resolve_prediction_folders(options, reporter.say)
    predicted = predict_domains(options, reporter)
    in_domain = next(d for d in predicted.domains.values() if d.role == "in_domain")
    real_world = [d for d in predicted.domains.values() if d.role == "real_world"]
    experiments = run_experiments(options, predicted, in_domain, real_world, reporter)
    compared = _compare_kept_checkpoints(options, predicted, (in_domain, *real_world), reporter)
    with reporter.stage("diagnose", "Measuring, and questioning the hypotheses"):
        history = predicted.run.history if predicted.run else pd.DataFrame()
        findings = find(
            in_domain,
            real_world,
            predicted.domains.get("training"),
            history,
            experiments,
            conf=options.conf,
            checkpoint_results=compared.checkpoint_results,
            training_total=next(
                (len(o.source.images) for o in predicted.opened if o.role == "training"), None
            ),
            seed=options.seed,
        )
    return Result(
        options,
        predicted.run,
        predicted.classes,
        predicted.settings,
        findings,
        predicted.opened,
        full_ledger(predicted.opened, predicted.failures),
        all_rows(predicted.opened),
        _compare_with_earlier_run(options, predicted, (in_domain, *real_world), reporter),
        compared,
    )


def _compare_kept_checkpoints(
    options: ReportOptions, predicted: PredictedDomains, domains: Sequence[Domain], reporter: Reporter
) -> Checkpoints:
    """The checkpoints that the run kept; nothing for domains whose detections come from elsewhere. A checkpoint that cannot be used costs the comparison only."""
    supplied = dict(options.predictions)
    own = [domain for domain in domains if domain.name not in supplied]
    if predicted.run is None or not own:
        return Checkpoints()
    try:
        return compare_checkpoints(
            predicted.run,
            own,
            options.checkpoints,
            predicted.settings,
            lambda weights: load_detector(weights, options),
            reporter,
            seed=options.seed,
        )
    except InputError as problem:
        reporter.say(f"  checkpoints are not compared: {problem}")
        return Checkpoints()


def _compare_with_earlier_run(
    options: ReportOptions, predicted: PredictedDomains, domains: Sequence[Domain], reporter: Reporter
) -> tuple[RunComparison, ...]:
    """What differs from the earlier run; nothing where there is none. Domains whose detections come from elsewhere are left out. Raises InputError."""
    if predicted.run is None:
        return ()
    earlier_run = open_earlier_run(options.before) if options.before is not None else parent_of(predicted.run)
    if earlier_run is None:
        return ()
    supplied = dict(options.predictions)
    own = [domain for domain in domains if domain.name not in supplied]
    try:
        return compare_runs(
            earlier_run,
            predicted.classes,
            own,
            predicted.domains.get("training"),
            options.imgsz,
            lambda weights: load_detector(weights, options),
            reporter,
            training_total=sum(len(o.source.images) for o in predicted.opened if o.role == "training"),
            seed=options.seed,
        )
    except InputError as problem:
        if options.before is not None:
            raise
        # What a run was trained on from is often a checkpoint of other classes: nothing to compare with, and nobody asked for it.
        reporter.say(f"  not compared with what it was trained on from: {problem}")
        return ()
