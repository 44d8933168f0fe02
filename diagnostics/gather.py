"""Gathering the evidence: every measurement that a hypothesis is assessed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from diagnostics import factors, label_free, sweep
from diagnostics.contributions import DropDecomposition, decompose_drop
from diagnostics.counterfactuals import loose_ap, redraw, size_match
from diagnostics.domain import Domain
from diagnostics.embedding_shift import descriptor_shift, detection_shift, image_shift
from diagnostics.error_types import decompose_errors
from diagnostics.evidence import Evidence, Threshold
from diagnostics.inputs import Inputs
from diagnostics.intervals import MIN_BOXES, ApBootstrap, Interval, ap_interval, difference_interval
from diagnostics.leakage import find_leaks
from diagnostics.learning import summarise_history
from diagnostics.precision import headline
from diagnostics.training_curve import measure_carry_over

# IoU at which a detection counts as near an annotation, however differently it is drawn.
LOOSE_IOU = 0.1


def gather(inputs: Inputs) -> Evidence:
    """Measure everything that the hypotheses are assessed on."""
    in_domain, focus, seed = inputs.in_domain, inputs.focus, inputs.seed
    # Below MIN_BOXES an AP is noise, and a domain without a usable AP has no drop.
    headlines = {
        domain.name: headline(domain.table)
        for domain in _with_training(inputs)
        if len(domain.annotations) >= MIN_BOXES
    }
    return Evidence(
        in_domain=in_domain.name,
        real_world=focus.name if focus is not None else None,
        unlabelled=tuple(domain.name for domain in inputs.real_world if not domain.labelled.any()),
        ap50={name: numbers["ap50"] for name, numbers in headlines.items()},
        max_recall={name: numbers["max_recall"] for name, numbers in headlines.items()},
        loose={domain.name: loose_ap(domain, LOOSE_IOU) for domain in inputs.labelled},
        intervals={
            domain.name: ap_interval(domain.table, domain.group_numbers, seed=seed)
            for domain in inputs.labelled
            if domain.name in headlines
        },
        gap_interval=gap_interval(in_domain, focus, seed=seed) if focus is not None else None,
        learning=summarise_history(inputs.history),
        threshold=_threshold(inputs, focus) if focus is not None else None,
        size=size_match(in_domain, focus, inputs.threshold)
        if focus is not None and inputs.threshold is not None
        else None,
        recoveries=inputs.experiments.recoveries,
        redrawn=redraw(inputs.labelled_focus, seed=seed) if inputs.labelled_focus is not None else None,
        leak=find_leaks(inputs.training, in_domain, inputs.training_total)
        if inputs.training is not None
        else None,
        shift_image={
            domain.name: image_shift(in_domain, domain, seed=seed)
            for domain in inputs.real_world
            if inputs.embedded
        },
        shift_detections={
            domain.name: detection_shift(in_domain, domain, seed=seed)
            for domain in inputs.real_world
            if inputs.embedded
        },
        factors=_factors(inputs),
        shift_descriptors={
            domain.name: descriptor_shift(in_domain, domain, seed=seed) for domain in inputs.real_world
        },
        decompositions=_decompositions(inputs, headlines) if focus is not None else (),
        label_free=_label_free(inputs),
        errors=_error_table(inputs.labelled, inputs.shown_from),
        carried=measure_carry_over(
            inputs.checkpoint_results, in_domain.name, focus.name if focus is not None else None
        ),
    )


def _with_training(inputs: Inputs) -> list[Domain]:
    """The labelled domains, and the training images where they have labels."""
    training = inputs.training
    return [*inputs.labelled, *([training] if training is not None and training.labelled.any() else [])]


def statistics_of(domain: Domain, imgsz: int) -> dict[str, pd.DataFrame]:
    """Readable factors of a domain; those of boxes are of annotations or, without labels, of the shown
    detections.
    """
    boxes = (
        domain.annotations
        if domain.labelled.any()
        else domain.detections[domain.detections["confidence"] >= label_free.SHOWN]
    )
    return factors.samples(domain.images, factors.box_factors(domain.images, boxes, imgsz))


def _factors(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Readable factors of each real-world domain compared with the in-domain ones."""
    imgsz = inputs.in_domain.imgsz
    reference = statistics_of(inputs.in_domain, imgsz)
    return {
        domain.name: factors.compare(reference, statistics_of(domain, imgsz)) for domain in inputs.real_world
    }


def _threshold(inputs: Inputs, real_world: Domain) -> Threshold | None:
    """What carrying the threshold in use over to a domain costs; None where a sweep has no best threshold."""
    in_domain_sweep, sweep_there = (
        inputs.sweeps[inputs.in_domain.name],
        inputs.sweeps[real_world.name],
    )
    _, in_domain_confidence = sweep.best_f_beta(in_domain_sweep)
    best_f1, best_confidence = sweep.best_f_beta(sweep_there)
    if in_domain_confidence is None or best_f1 is None or best_confidence is None:
        return None
    confidence = in_domain_confidence if inputs.conf is None else inputs.conf
    return Threshold(
        confidence=confidence,
        best_confidence=best_confidence,
        in_domain_f1=sweep.f1_at(in_domain_sweep, confidence),
        real_world_f1=sweep.f1_at(sweep_there, confidence),
        best_f1=best_f1,
        crossfitted_f1=sweep.crossfitted_best_f1(
            real_world.table, real_world.group_numbers, seed=inputs.seed
        ),
        given=inputs.conf is not None,
    )


def _decompositions(inputs: Inputs, headlines: dict[str, dict[str, float]]) -> tuple[DropDecomposition, ...]:
    """Contributions of the interventions to AP50 and F1; () without interventions."""
    name, confidence = inputs.in_domain.name, inputs.threshold
    if not inputs.experiments.corrected_domains or confidence is None or name not in headlines:
        return ()
    return decompose_drop(
        inputs.experiments.corrected_domains,
        inputs.experiments.corrections,
        in_domain_ap50=headlines[name]["ap50"],
        in_domain_f1=sweep.f1_at(inputs.sweeps[name], confidence),
        confidence=confidence,
        seed=inputs.seed,
    )


def _label_free(inputs: Inputs) -> dict[str, label_free.LabelFreeEstimate]:
    """AP50 estimated without labels: of every unlabelled domain and, where there is an estimator, of the
    labelled ones as a check.
    """
    experiments = inputs.experiments
    estimates = {
        domain.name: label_free.estimate_ap50(
            inputs.in_domain, domain, experiments.estimator, experiments.squeezed.get(domain.name)
        )
        for domain in inputs.real_world
        if experiments.estimator is not None or len(domain.annotations) < MIN_BOXES
    }
    if experiments.declined:
        reason = "turned off; run again with --label-free"
        return {name: replace(estimate, reason=reason) for name, estimate in estimates.items()}
    return estimates


def _error_table(labelled: Sequence[Domain], confidence: float) -> pd.DataFrame:
    """Error types of all labelled domains at one confidence: domain, type, count, per_image, delta_ap50."""
    parts = []
    for domain in labelled:
        part = decompose_errors(domain.table, domain.outcomes, confidence=confidence)
        part.insert(0, "domain", domain.name)
        part["per_image"] = part["count"] / max(len(domain.labelled_images), 1)
        parts.append(part)
    columns = ["domain", "type", "count", "delta_ap50", "per_image"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def gap_interval(in_domain: Domain, real_world: Domain, *, seed: int) -> Interval:
    """Interval of the drop in AP50, by clip."""
    return difference_interval(
        ApBootstrap(in_domain.table, in_domain.group_numbers),
        ApBootstrap(real_world.table, real_world.group_numbers),
        seed=seed,
    )
