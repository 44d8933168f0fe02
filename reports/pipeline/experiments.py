"""Every experiment that takes further inference: interventions, corruptions, bursts of video frames."""

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

if TYPE_CHECKING:
    pass


def look_again(
    request: Request, seen: Seen, home: Domain, away: Sequence[Domain], reporter: Reporter
) -> Experiments:
    """Everything that takes further passes; nothing without weights, or for domains whose detections come from elsewhere."""
    if seen.detector is None or seen.run is None:
        return Experiments()
    eyes = Eyes(seen.detector, seen.run, seen.settings, reporter)
    supplied, focus = dict(request.predictions), focus_of(away)
    scored = home.labelled.any() and len(home.annotations) > 0 and home.name not in supplied
    found = Experiments(
        bursts=looks_at_bursts(eyes, [o for o in seen.opened if o.name not in supplied]),
        declined=request.label_free is False,
    )
    if scored and focus is not None and focus.name not in supplied:
        second = second_looks(eyes, home, focus, seed=request.seed)
        found = replace(
            found, recoveries=second.recoveries, looks=second.looks, corrections=second.corrections
        )
    wanted = request.label_free
    if wanted is None:
        wanted = any(len(domain.annotations) < MIN_BOXES for domain in away)
    # Without enough objects, or hits among them, at home there is nothing to learn from: spare the passes.
    if scored and wanted and len(home.annotations) >= MIN_BOXES and ap50(home) >= LEAST_AP50:
        looked_at = [domain for domain in away if domain.name not in supplied]
        found = replace(
            found,
            estimator=fit(home, graded_looks(eyes, home), development_sets()),
            squeezed=footage_squeezed(eyes, looked_at),
        )
    return found


def looks_at_bursts(eyes: Eyes, opened: Sequence[Opened]) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """The bursts of every video, and the detections in them."""
    found = {}
    for o in opened:
        frames = o.source.bursts
        if len(frames):
            title = f"Looking at neighbouring frames of {o.name}"
            with eyes.reporter.stage("predict", title, len(frames)) as tick:
                store = Store(predict_folder(eyes.settings, eyes.run.sha256))
                found[o.name] = (
                    frames,
                    eyes.detector.predict(frames, eyes.settings, store, tick=tick).detections,
                )
    return found
