"""The main job in order: open the sources, run inference, experiment, diagnose. Every stage can be
interrupted and resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from threadpoolctl import threadpool_limits

from datasets.errors import InputError
from diagnostics.domain import Domain
from diagnostics.findings import Findings, find
from diagnostics.inputs import Inputs
from diagnostics.object_shapes import ShapeScores
from reports.options import ReportOptions
from reports.pipeline.checkpoints import Checkpoints, compare_checkpoints, kept_checkpoints
from reports.pipeline.earlier_run import EarlierRun, RunComparison, compare_runs
from reports.pipeline.experiments import run_experiments
from reports.pipeline.inference import PredictedDomains, predict_domains, resolve_prediction_folders
from reports.pipeline.label_reviews import find_label_reviews
from reports.pipeline.reviews import find_reviews
from reports.pipeline.runs import load_detector, load_run, open_earlier_run
from reports.pipeline.sources import Opened, all_rows, full_ledger
from reports.progress import Reporter
from train.predictions import Settings
from train.run import Run, parent_of


@dataclass(frozen=True)
class Result:
    """What the writers need.

    options: what was asked for
    run: the run under diagnosis; None where only predictions were given
    classes: class names by index
    settings: the inference settings
    findings: the diagnosis
    opened: the domains before inference
    ledger: every file of every source
    rows: label rows that were repaired or rejected
    run_comparisons: the comparison with an earlier run, by domain
    checkpoints: the kept checkpoints, compared
    left_out: experiments that the effort had no forward passes left for
    passes: forward passes of the experiments, in passes at the plain input size
    backend: what computed the forward passes; "" where only predictions were given
    shapes: what was measured on masks or key points, by domain; {} for a model of boxes
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
    left_out: tuple[str, ...] = ()
    passes: int = 0
    backend: str = ""
    shapes: Mapping[str, ShapeScores] = field(default_factory=dict)


def run_report(options: ReportOptions, reporter: Reporter) -> Result:
    """Everything from the options to the findings.

    Parameters
    ----------
    options : ReportOptions
        What to diagnose.
    reporter : Reporter
        Shows progress.

    Raises
    ------
    InputError
        A source, the run or a file of predictions cannot be used.
    """
    run = load_run(options)
    options = resolve_prediction_folders(options, run, reporter.say)
    predicted = predict_domains(options, run, reporter)
    run = predicted.run
    supplied = dict(options.predictions)
    own = [d for d in (predicted.in_domain, *predicted.real_world) if d.name not in supplied]
    experiments = run_experiments(options, predicted, reporter)
    checkpoints = _compare_checkpoints(options, predicted, own, reporter)
    # Thousands of small matrices: a second thread waits for the first, spinning, and takes twice as long.
    with reporter.stage("diagnose", "Measuring, and assessing the hypotheses"), threadpool_limits(1):
        findings = find(
            Inputs(
                predicted.in_domain,
                predicted.real_world,
                predicted.training,
                run.history if run is not None else pd.DataFrame(),
                experiments,
                conf=options.conf,
                checkpoint_results=checkpoints.checkpoint_results,
                training_total=predicted.training_total,
                known_pairs=predicted.pairs,
                reviews=find_reviews(predicted.real_world, reporter.say) if options.corrections else {},
                audits=find_label_reviews(predicted.real_world, reporter.say) if options.corrections else {},
                seed=options.seed,
            )
        )
    return Result(
        options,
        run,
        predicted.classes,
        predicted.settings,
        findings,
        predicted.opened,
        full_ledger(predicted.opened, predicted.failures),
        all_rows(predicted.opened),
        _compare_with_earlier_run(options, predicted, own, reporter),
        checkpoints,
        experiments.left_out,
        experiments.passes,
        predicted.detector.backend if predicted.detector is not None else "",
        predicted.shapes,
    )


def _compare_checkpoints(
    options: ReportOptions, predicted: PredictedDomains, domains: Sequence[Domain], reporter: Reporter
) -> Checkpoints:
    """The kept checkpoints. One that cannot be used costs the comparison only."""
    if predicted.run is None or not domains:
        return Checkpoints()
    try:
        return compare_checkpoints(
            kept_checkpoints(predicted.run),
            domains,
            predicted.settings,
            lambda weights: load_detector(
                weights,
                device=options.device,
                batch=options.batch,
                trust=options.trust_checkpoint,
                ray=options.ray,
            ),
            reporter,
            most=options.checkpoints,
            seed=options.seed,
        )
    except InputError as problem:
        reporter.say(f"  checkpoints are not compared: {problem}")
        return Checkpoints()


def _compare_with_earlier_run(
    options: ReportOptions, predicted: PredictedDomains, domains: Sequence[Domain], reporter: Reporter
) -> tuple[RunComparison, ...]:
    """The comparison with --before, or with the run that this one was trained from; nothing without either.
    Raises InputError.
    """
    if predicted.run is None:
        return ()
    run = open_earlier_run(options.before) if options.before is not None else parent_of(predicted.run)
    if run is None:
        return ()
    try:
        detector = load_detector(
            run.weights,
            device=options.device,
            batch=options.batch,
            trust=options.trust_checkpoint,
            ray=options.ray,
        )
        if options.before is None and set(detector.classes) != set(predicted.classes):
            # As of most trainings: nobody asked for it.
            reporter.say("  not compared with the checkpoint it was trained from, which has other classes")
            return ()
        return compare_runs(
            EarlierRun(run, detector, options.imgsz),
            domains,
            predicted.training,
            reporter,
            training_total=predicted.training_total or 0,
            seed=options.seed,
        )
    except InputError as problem:
        if options.before is not None:
            raise
        reporter.say(f"  not compared with the checkpoint it was trained from: {problem}")
        return ()
