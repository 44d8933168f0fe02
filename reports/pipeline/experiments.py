"""Every experiment that takes further inference: interventions, corruptions, bursts of video frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.findings import Experiments, focus_of
from diagnostics.intervals import MIN_BOXES
from diagnostics.label_free import LEAST_AP50, fit
from reports.options import ReportOptions
from reports.pipeline.corruptions import corrupt_in_domain, development_sets, predict_squeezed_domains
from reports.pipeline.inference import PredictedDomains
from reports.pipeline.interventions import DomainPredictor, run_interventions
from reports.pipeline.sources import (
    Opened,
)
from reports.progress import Reporter
from train.predictions import Store, predict_folder

if TYPE_CHECKING:
    pass


def run_experiments(
    options: ReportOptions,
    predicted: PredictedDomains,
    in_domain: Domain,
    real_world: Sequence[Domain],
    reporter: Reporter,
) -> Experiments:
    """Everything that takes further passes; nothing without weights, or for domains whose detections come from elsewhere."""
    if predicted.detector is None or predicted.run is None:
        return Experiments()
    predictor = DomainPredictor(predicted.detector, predicted.run, predicted.settings, reporter)
    supplied, focus = dict(options.predictions), focus_of(real_world)
    scored = in_domain.labelled.any() and len(in_domain.annotations) > 0 and in_domain.name not in supplied
    found = Experiments(
        bursts=_predict_bursts(predictor, [o for o in predicted.opened if o.name not in supplied]),
        declined=options.label_free is False,
    )
    if scored and focus is not None and focus.name not in supplied:
        second = run_interventions(predictor, in_domain, focus, seed=options.seed)
        found = replace(
            found,
            recoveries=second.recoveries,
            corrected_domains=second.corrected_domains,
            corrections=second.corrections,
        )
    wanted = options.label_free
    if wanted is None:
        wanted = any(len(domain.annotations) < MIN_BOXES for domain in real_world)
    # Without enough objects, or true positives among them, in-domain there is nothing to learn from: spare the passes.
    if scored and wanted and len(in_domain.annotations) >= MIN_BOXES and ap50(in_domain) >= LEAST_AP50:
        looked_at = [domain for domain in real_world if domain.name not in supplied]
        found = replace(
            found,
            estimator=fit(in_domain, corrupt_in_domain(predictor, in_domain), development_sets()),
            squeezed=predict_squeezed_domains(predictor, looked_at),
        )
    return found


def _predict_bursts(
    predictor: DomainPredictor, opened: Sequence[Opened]
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """The bursts of every video, and the detections in them."""
    found = {}
    for o in opened:
        frames = o.source.bursts
        if len(frames):
            title = f"Looking at neighbouring frames of {o.name}"
            with predictor.reporter.stage("predict", title, len(frames)) as tick:
                store = Store(predict_folder(predictor.settings, predictor.run.sha256))
                found[o.name] = (
                    frames,
                    predictor.detector.predict(frames, predictor.settings, store, tick=tick).detections,
                )
    return found
