"""Gathering the evidence: every measurement that a hypothesis is assessed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from diagnostics import factors, label_free, sweep
from diagnostics.class_causes import ClassCause
from diagnostics.contributions import DropDecomposition, decompose_drop
from diagnostics.counterfactuals import Recovery, loose_ap, redraw, size_match
from diagnostics.domain import Domain
from diagnostics.embedding_shift import box_shift, descriptor_shift, detection_shift, image_shift
from diagnostics.evidence import Evidence, Threshold
from diagnostics.inputs import LABEL_FREE, Inputs, Interventions, error_table
from diagnostics.intervals import MIN_BOXES, ApBootstrap, Interval, ap_interval, difference_interval
from diagnostics.label_audit import measure_audit
from diagnostics.leakage import find_leaks
from diagnostics.learning import summarise_history
from diagnostics.pairs import Pair
from diagnostics.point_measures import measure_review
from diagnostics.precision import headline
from diagnostics.resized import estimate_recovery
from diagnostics.training_curve import measure_carry_over

# IoU at which a detection counts as near an annotation, however differently it is drawn.
LOOSE_IOU = 0.1


def gather(
    inputs: Inputs, class_causes: Mapping[str, tuple[ClassCause, ...]] | None = None
) -> dict[str, Evidence]:
    """Measure everything that the hypotheses are assessed on.

    Parameters
    ----------
    inputs : Inputs
        Domains, training history, and what the experiments gave.
    class_causes : mapping, optional
        Why classes lose, by domain, see `ClassFindings.causes_of_drop`.

    Returns
    -------
    dict
        The evidence about each real-world domain, by its name; of the in-domain set alone, under its own
        name, where there is no other.
    """
    alone = _alone(inputs)
    if not inputs.pairs:
        return {inputs.in_domain.name: alone}
    causes = class_causes or {}
    return {
        name: replace(_compared(inputs, pair, alone), class_causes=causes.get(name, ()))
        for name, pair in inputs.pairs.items()
    }


def _alone(inputs: Inputs) -> Evidence:
    """What is measured of each domain alone, and of its images and detections beside the in-domain ones."""
    in_domain, seed = inputs.in_domain, inputs.seed
    headlines = _headlines([*inputs.labelled, *_labelled(inputs.training)])
    real_world = {name: pair.real_world for name, pair in inputs.pairs.items()}
    return Evidence(
        in_domain=in_domain.name,
        domain=None,
        real_world=None,
        ap50={name: numbers["ap50"] for name, numbers in headlines.items()},
        max_recall={name: numbers["max_recall"] for name, numbers in headlines.items()},
        loose={domain.name: loose_ap(domain, LOOSE_IOU) for domain in inputs.labelled},
        intervals={
            domain.name: ap_interval(domain.table, domain.interval_units, seed=seed)
            for domain in inputs.labelled
            if domain.name in headlines
        },
        gap_interval=None,
        learning=summarise_history(inputs.history),
        threshold=None,
        size=None,
        recoveries={},
        redrawn=None,
        leak=find_leaks(inputs.training, in_domain, inputs.training_total)
        if inputs.training is not None
        else None,
        shift_image={
            n: image_shift(in_domain, d, seed=seed) for n, d in real_world.items() if inputs.embedded
        },
        shift_detections={
            n: detection_shift(in_domain, d, seed=seed) for n, d in real_world.items() if inputs.embedded
        },
        factors=_factors(inputs),
        shift_descriptors={n: descriptor_shift(in_domain, d, seed=seed) for n, d in real_world.items()},
        label_free=_label_free(inputs),
        resized=_resized(inputs),
        errors=inputs.errors,
        copies={name: pair.copies for name, pair in inputs.pairs.items() if pair.copies is not None},
        reviewed={
            domain.name: measure_review(in_domain, domain, inputs.reviews[domain.name], inputs.shown_from)
            for domain in inputs.real_world
            if domain.name in inputs.reviews
        },
        audits={name: measure_audit(name, audit) for name, audit in inputs.audits.items()},
    )


def _compared(inputs: Inputs, pair: Pair, alone: Evidence) -> Evidence:
    """The evidence about one real-world domain: with labels, also what it costs and what recovers it."""
    name, seed = pair.real_world.name, inputs.seed
    one = pair.real_world.is_one_recording
    annotations = len(pair.real_world.annotations) if pair.real_world.labelled.any() else None
    evidence = replace(
        alone, domain=name, classes=pair.classes, is_one_recording=one, annotations=annotations
    )
    if not pair.usable:
        return replace(evidence, classes=())
    in_domain, real_world = pair.in_domain, pair.real_world
    sides = [in_domain, real_world]
    # Only of what differs from the whole domain is anything measured again.
    whole = {id(domain) for domain in (*inputs.domains, inputs.training)}
    training = [domain for domain in _labelled(pair.training) if len(domain.annotations) >= MIN_BOXES]
    changed = [domain for domain in (*sides, *training) if id(domain) not in whole]
    headlines = {domain.name: headline(domain.table) for domain in changed}
    # Too few training annotations of the compared classes: AP50 over other classes is no substitute.
    if pair.classes and not training:
        alone = replace(alone, ap50={n: v for n, v in alone.ap50.items() if n != "training"})
    in_domain_ap50 = (alone.ap50 | {d: numbers["ap50"] for d, numbers in headlines.items()})[in_domain.name]
    interventions = inputs.experiments.interventions.get(name, Interventions())
    sweeps = _sweeps(inputs, sides)
    confidence = inputs.conf if inputs.conf is not None else sweep.best_f_beta(sweeps[in_domain.name])[1]
    return replace(
        evidence,
        real_world=name,
        ap50=alone.ap50 | {d: numbers["ap50"] for d, numbers in headlines.items()},
        max_recall=alone.max_recall | {d: numbers["max_recall"] for d, numbers in headlines.items()},
        loose=alone.loose | {domain.name: loose_ap(domain, LOOSE_IOU) for domain in changed},
        intervals=alone.intervals
        | {domain.name: ap_interval(domain.table, domain.interval_units, seed=seed) for domain in changed},
        gap_interval=gap_interval(in_domain, real_world, seed=seed),
        threshold=_threshold(inputs, sides, sweeps),
        size=size_match(in_domain, real_world, confidence) if confidence is not None else None,
        recoveries=interventions.recoveries,
        redrawn=redraw(real_world, seed=seed),
        shift_boxes={}
        if all(side.detection_embeddings.shape[1] for side in sides)
        else {name: box_shift(in_domain, real_world, seed=seed)},
        leak=alone.leak
        if inputs.training is None or not pair.classes
        else find_leaks(inputs.training, in_domain, inputs.training_total),
        errors=error_table(sides, inputs.shown_from) if changed else alone.errors,
        decompositions=_decompositions(
            interventions, in_domain_ap50, sweeps[in_domain.name], confidence, seed
        ),
        carried=measure_carry_over(inputs.checkpoint_results, in_domain.name, name),
    )


def _headlines(domains: Sequence[Domain]) -> dict[str, dict[str, float]]:
    """AP and recall of each domain. Below MIN_BOXES an AP is noise, and a domain without a usable AP has no
    drop.
    """
    return {domain.name: headline(domain.table) for domain in domains if len(domain.annotations) >= MIN_BOXES}


def _labelled(training: Domain | None) -> list[Domain]:
    """The training images where they have labels."""
    return [training] if training is not None and training.labelled.any() else []


def _sweeps(inputs: Inputs, sides: Sequence[Domain]) -> dict[str, pd.DataFrame]:
    """The confidence sweeps of two compared sets; those of whole domains are there already."""
    whole = {id(domain) for domain in inputs.domains}
    return {
        domain.name: inputs.sweeps[domain.name]
        if id(domain) in whole
        else pd.DataFrame(sweep.sweep(domain.table))
        for domain in sides
    }


def statistics_of(domain: Domain, imgsz: int) -> dict[str, pd.DataFrame]:
    """Readable factors of a domain; those of boxes are of annotations or, without labels, of the shown
    detections.
    """
    boxes = (
        domain.annotations
        if domain.labelled.any()
        else domain.detections[domain.detections["confidence"] >= label_free.SHOWN]
    )
    measured = factors.box_factors(domain.images, boxes, imgsz)
    return factors.samples(domain.images, measured, empty=domain.compared is None)


def _factors(inputs: Inputs) -> dict[str, pd.DataFrame]:
    """Readable factors of each real-world domain compared with the in-domain ones."""
    imgsz = inputs.in_domain.imgsz
    whole = statistics_of(inputs.in_domain, imgsz)
    return {
        name: factors.compare(
            whole if pair.in_domain is inputs.in_domain else statistics_of(pair.in_domain, imgsz),
            statistics_of(pair.real_world, imgsz),
        )
        for name, pair in inputs.pairs.items()
    }


def _threshold(
    inputs: Inputs, sides: Sequence[Domain], sweeps: Mapping[str, pd.DataFrame]
) -> Threshold | None:
    """What carrying the threshold in use over to a domain costs; None where a sweep has no best threshold.

    sides: the in-domain set and the real-world one.
    """
    in_domain_sweep, real_world_sweep = (sweeps[domain.name] for domain in sides)
    _, in_domain_confidence = sweep.best_f_beta(in_domain_sweep)
    best_f1, best_confidence = sweep.best_f_beta(real_world_sweep)
    if in_domain_confidence is None or best_f1 is None or best_confidence is None:
        return None
    confidence = in_domain_confidence if inputs.conf is None else inputs.conf
    return Threshold(
        confidence=confidence,
        best_confidence=best_confidence,
        in_domain_f1=sweep.f1_at(in_domain_sweep, confidence),
        real_world_f1=sweep.f1_at(real_world_sweep, confidence),
        best_f1=best_f1,
        crossfitted_f1=sweep.crossfitted_best_f1(sides[1].table, sides[1].interval_units, seed=inputs.seed),
        given=inputs.conf is not None,
    )


def _decompositions(
    interventions: Interventions,
    in_domain_ap50: float,
    in_domain_sweep: pd.DataFrame,
    confidence: float | None,
    seed: int,
) -> tuple[DropDecomposition, ...]:
    """Contributions of the interventions to AP50 and F1; () without interventions."""
    if not interventions.corrected_domains or confidence is None:
        return ()
    return decompose_drop(
        interventions.corrected_domains,
        interventions.corrections,
        in_domain_ap50=in_domain_ap50,
        in_domain_f1=sweep.f1_at(in_domain_sweep, confidence),
        confidence=confidence,
        seed=seed,
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
    if LABEL_FREE in experiments.left_out:
        reason = "left out at this effort; run again with --effort standard"
        return {name: replace(estimate, reason=reason) for name, estimate in estimates.items()}
    return estimates


def _resized(inputs: Inputs) -> dict[str, Recovery]:
    """What another image size recovers by the label-free estimate, by domain."""
    estimator = inputs.experiments.estimator
    if estimator is None:
        return {}
    found = {
        name: estimate_recovery(estimator, resized) for name, resized in inputs.experiments.resized.items()
    }
    return {name: recovery for name, recovery in found.items() if recovery is not None}


def gap_interval(in_domain: Domain, real_world: Domain, *, seed: int) -> Interval:
    """Interval of the drop in AP50, by clip."""
    return difference_interval(
        ApBootstrap(in_domain.table, in_domain.interval_units),
        ApBootstrap(real_world.table, real_world.interval_units),
        seed=seed,
    )
