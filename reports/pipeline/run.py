"""The main job in order: open the sources, look at every picture once, find, write. Every stage can be killed and taken up again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pandas as pd

from datasets.errors import InputError
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.findings import Experiments, Findings, find, focus_of
from diagnostics.intervals import MIN_BOXES
from diagnostics.label_free import LEAST_AP50, fit
from reports.options import Request
from reports.pipeline.checkpoints import Checkpoints, compare_checkpoints
from reports.pipeline.corruptions import development_sets, footage_squeezed, graded_looks
from reports.pipeline.earlier_run import Change, changes, open_before
from reports.pipeline.inference import Seen, load_detector, look_at_everything, predict_folder, with_predicted
from reports.pipeline.interventions import Eyes, second_looks
from reports.pipeline.sources import (
    Opened,
    all_rows,
    full_ledger,
)
from reports.progress import Reporter
from train.predictions import Settings, Store
from train.run import Run, parent_of
from reports.pipeline.experiments import look_again

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Result:
    """What the writers need. ledger: every file of every source, with its domain. rows: label rows not taken as written.

    changes: what differs from the run before, by domain. checkpoints: those that the run kept, compared.
    """

    request: Request
    run: Run | None
    classes: tuple[str, ...]
    settings: Settings
    findings: Findings
    opened: tuple[Opened, ...]
    ledger: pd.DataFrame
    rows: pd.DataFrame
    changes: tuple[Change, ...] = ()
    checkpoints: Checkpoints = field(default_factory=Checkpoints)


def run_report(request: Request, reporter: Reporter) -> Result:
    """Everything up to the findings. Raises InputError."""
    request = with_predicted(request, reporter.say)
    seen = look_at_everything(request, reporter)
    home = next(d for d in seen.domains.values() if d.role == "in_domain")
    away = [d for d in seen.domains.values() if d.role == "real_world"]
    experiments = look_again(request, seen, home, away, reporter)
    compared = beside_each_other(request, seen, (home, *away), reporter)
    with reporter.stage("diagnose", "Measuring, and questioning the suspects"):
        history = seen.run.history if seen.run else pd.DataFrame()
        findings = find(
            home,
            away,
            seen.domains.get("training"),
            history,
            experiments,
            conf=request.conf,
            standings=compared.standings,
            training_total=next((len(o.source.images) for o in seen.opened if o.role == "training"), None),
            seed=request.seed,
        )
    return Result(
        request,
        seen.run,
        seen.classes,
        seen.settings,
        findings,
        seen.opened,
        full_ledger(seen.opened, seen.failures),
        all_rows(seen.opened),
        compare_with_before(request, seen, (home, *away), reporter),
        compared,
    )


def beside_each_other(
    request: Request, seen: Seen, domains: Sequence[Domain], reporter: Reporter
) -> Checkpoints:
    """The checkpoints that the run kept; nothing for domains whose detections come from elsewhere. A checkpoint that cannot be used costs the comparison only."""
    supplied = dict(request.predictions)
    own = [domain for domain in domains if domain.name not in supplied]
    if seen.run is None or not own:
        return Checkpoints()
    try:
        return compare_checkpoints(
            seen.run,
            own,
            request.checkpoints,
            seen.settings,
            lambda weights: load_detector(weights, request),
            reporter,
            seed=request.seed,
        )
    except InputError as problem:
        reporter.say(f"  checkpoints are not compared: {problem}")
        return Checkpoints()


def compare_with_before(
    request: Request, seen: Seen, domains: Sequence[Domain], reporter: Reporter
) -> tuple[Change, ...]:
    """What differs from the run before; nothing where there is none. Domains whose detections come from elsewhere are left out. Raises InputError."""
    if seen.run is None:
        return ()
    before = open_before(request.before) if request.before is not None else parent_of(seen.run)
    if before is None:
        return ()
    supplied = dict(request.predictions)
    own = [domain for domain in domains if domain.name not in supplied]
    try:
        return changes(
            before,
            seen.classes,
            own,
            seen.domains.get("training"),
            request.imgsz,
            lambda weights: load_detector(weights, request),
            reporter,
            training_total=sum(len(o.source.images) for o in seen.opened if o.role == "training"),
            seed=request.seed,
        )
    except InputError as problem:
        if request.before is not None:
            raise
        # What a run was trained on from is often a checkpoint of other classes: nothing to compare with, and nobody asked for it.
        reporter.say(f"  not compared with what it was trained on from: {problem}")
        return ()




