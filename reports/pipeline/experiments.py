"""Every experiment that takes further inference: interventions, corruptions, bursts of video frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.inputs import LABEL_FREE, Experiments, focus_of
from diagnostics.intervals import MIN_BOXES
from diagnostics.label_free import LEAST_AP50, fit_estimator
from reports.options import ReportOptions
from reports.pipeline.corruptions import (
    corrupt_in_domain,
    development_sets,
    predict_squeezed_domains,
    real_domains,
)
from reports.pipeline.effort import Budget
from reports.pipeline.inference import PredictedDomains
from reports.pipeline.interventions import DomainPredictor, run_interventions
from reports.pipeline.resizing import predict_resized
from reports.pipeline.sources import Opened
from reports.progress import Reporter
from train.predictions import Store, predict_folder


def run_experiments(options: ReportOptions, predicted: PredictedDomains, reporter: Reporter) -> Experiments:
    """Run every experiment that the domains allow.

    Parameters
    ----------
    options : ReportOptions
        Whether the label-free estimate is wanted, and the seed.
    predicted : PredictedDomains
        The domains after plain inference. Those with detections from elsewhere take no part.
    reporter : Reporter
        Shows progress.

    Returns
    -------
    Experiments
        Empty without weights.
    """
    if predicted.detector is None or predicted.run is None:
        return Experiments()
    predictor = DomainPredictor(predicted.detector, predicted.run, predicted.settings, reporter)
    in_domain, supplied = predicted.in_domain, dict(options.predictions)
    passes = sum(len(domain.images) for domain in predicted.domains.values() if domain.name not in supplied)
    own = [domain for domain in predicted.real_world if domain.name not in supplied]
    estimated = own if _estimate_wanted(options, predicted.real_world) else []
    unlabelled = [domain for domain in estimated if len(domain.annotations) < MIN_BOXES]
    # The first domain is in the least that an effort allows.
    further = len(unlabelled) - (len(unlabelled) == len(own))
    budget = Budget(options.effort, passes, predicted.settings.imgsz, max(0, further))
    _say_cost(budget, passes, reporter)
    scored = in_domain.labelled.any() and len(in_domain.annotations) > 0 and in_domain.name not in supplied
    experiments = Experiments(
        bursts=_predict_bursts(predictor, [o for o in predicted.opened if o.name not in supplied]),
        declined=options.label_free is False,
    )
    if scored and estimated and _can_be_fitted(in_domain):
        experiments = replace(experiments, **_label_free(predictor, in_domain, estimated, budget))
    if scored:
        focus = focus_of(predicted.pairs)
        # The domain that the first screen is about comes first: combinations cost several times as much as
        # one intervention, and are for that one.
        usable = sorted(
            (name for name, pair in predicted.pairs.items() if pair.usable and name not in supplied),
            key=lambda name: name != focus,
        )
        interventions = {
            name: run_interventions(
                predictor, predicted.pairs[name], budget, combine=name == focus, seed=options.seed
            )
            for name in usable
        }
        experiments = replace(experiments, interventions=interventions)
    if experiments.estimator is not None:
        # Last, so that what is measured with labels goes before what is estimated without.
        resized = predict_resized(predictor, in_domain, unlabelled, budget)
        experiments = replace(experiments, resized=resized)
    if budget.left_out:
        reporter.say(
            f"  left out, because --effort {options.effort} allows {budget.limit:.0f} forward passes beyond "
            f"the first {passes}: {'; '.join(budget.left_out)}"
        )
    return replace(experiments, left_out=tuple(budget.left_out), passes=round(budget.spent))


def _say_cost(budget: Budget, passes: int, reporter: Reporter) -> None:
    """Say beforehand what the experiments may cost, by the time that the first passes took."""
    if budget.limit == float("inf"):
        reporter.say(f"Experiments: all of them, several times the {passes} forward passes so far")
        return
    seconds = budget.limit * reporter.timings.get("predict", 0.0) / max(passes, 1)
    reporter.say(
        f"Experiments: at most {budget.limit:.0f} forward passes beyond the {passes} so far, about "
        f"{seconds:.0f} s where none is stored (--effort {budget.effort})"
    )


def _label_free(
    predictor: DomainPredictor, in_domain: Domain, real_world: Sequence[Domain], budget: Budget
) -> dict[str, Any]:
    """What the label-free estimate needs, as fields of `Experiments`; nothing where the effort has no room
    for it.
    """
    if not budget.allowance.label_free:
        budget.left_out.append(LABEL_FREE)
        return {}
    corrupted = corrupt_in_domain(predictor, in_domain, budget)
    return {
        "estimator": fit_estimator(in_domain, corrupted, development_sets(), real_domains()),
        "squeezed": predict_squeezed_domains(predictor, real_world, budget),
    }


def _estimate_wanted(options: ReportOptions, real_world: Sequence[Domain]) -> bool:
    """Whether AP50 is to be estimated without labels: as asked for, else where a domain has hardly any."""
    if options.label_free is not None:
        return options.label_free
    return any(len(domain.annotations) < MIN_BOXES for domain in real_world)


def _can_be_fitted(in_domain: Domain) -> bool:
    """Whether there are enough annotations, and true positives among them, to fit an estimator on."""
    return len(in_domain.annotations) >= MIN_BOXES and ap50(in_domain) >= LEAST_AP50


def _predict_bursts(
    predictor: DomainPredictor, opened: Sequence[Opened]
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """The bursts of every video, and the detections in them."""
    bursts = {}
    for domain in opened:
        frames = domain.source.bursts
        if len(frames):
            title = f"Inference on neighbouring frames of {domain.name}"
            with predictor.reporter.stage("predict", title, len(frames)) as tick:
                store = Store(predict_folder(predictor.settings, predictor.run.sha256))
                predictions = predictor.detector.predict(frames, predictor.settings, store, tick=tick)
            bursts[domain.name] = (frames, predictions.detections)
    return bursts
