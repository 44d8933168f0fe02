"""Everything the diagnostics say about a set of domains, as frames; computed once and read by every writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from diagnostics import (
    acquisition,
    calibration,
    discovery,
    factors,
    gallery,
    label_free,
    risk,
    slices,
    timeline,
)
from diagnostics import sweep as sweeping
from diagnostics.advice import Advice, next_images
from diagnostics.contributions import DropDecomposition, decompositions
from diagnostics.counterfactuals import Recovery, ap50, loose_ap, redraw, size_match
from diagnostics.domain import Domain
from diagnostics.embedding_shift import (
    descriptor_shift,
    detection_shift,
    embedding_map,
    image_shift,
    novelties,
    shift_scores,
)
from diagnostics.error_types import decompose
from diagnostics.evidence import Evidence, Threshold
from diagnostics.few_labels import FewLabels, few_labels
from diagnostics.hypotheses import Verdict, diagnose
from diagnostics.intervals import MIN_BOXES, ApBootstrap, Interval, ap_interval, difference_interval
from diagnostics.leakage import find_leaks
from diagnostics.learning import read_curve
from diagnostics.matching import Floats
from diagnostics.precision import headline
from diagnostics.training_curve import CheckpointResult, carried


@dataclass(frozen=True)
class Experiments:
    """What was seen by looking again; empty without weights.

    recoveries: what single changes recover of the real world's AP50. looks, corrections: see `diagnostics.contributions`. estimator: fitted on changed in-domain
    images, and squeezed: by domain, some images seen squeezed, see `diagnostics.label_free`. bursts: by domain, the frames and the detections in them, see `diagnostics.timeline`.
    declined: reading AP50 without labels was not wanted.
    """

    recoveries: dict[str, Recovery] = field(default_factory=dict)
    corrected_domains: dict[frozenset[str], Domain] = field(default_factory=dict)
    corrections: tuple[str, ...] = ()
    estimator: label_free.Estimator | None = None
    squeezed: dict[str, Domain] = field(default_factory=dict)
    bursts: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = field(default_factory=dict)
    declined: bool = False


@dataclass(frozen=True)
class Findings:
    """home is the in-domain validation domain, away the real-world ones; training may be missing.

    slices, discovered, errors, slice_errors: one table over all domains each. risk: thresholds with a promise. sweeps, calibration, embedding_maps: by domain. next: ranked images. reserved: clips set
    aside for testing. few_labels: of partly labelled domains. timeline, steadiness: of videos. novelty, shift_scores: of images, by domain; see `novelties` and `shift_scores`.
    """

    in_domain: Domain
    real_world: tuple[Domain, ...]
    training: Domain | None
    evidence: Evidence
    verdict: Verdict
    slices: pd.DataFrame
    discovered: pd.DataFrame
    sweeps: dict[str, pd.DataFrame]
    class_sweeps: dict[str, dict[str, dict[str, Any]]]
    risk: dict[str, list[risk.RiskControl]]
    errors: pd.DataFrame
    slice_errors: pd.DataFrame
    calibration: dict[str, calibration.Calibration]
    estimator: label_free.Estimator | None
    few_labels: tuple[FewLabels, ...]
    timeline: pd.DataFrame
    steadiness: tuple[timeline.Steadiness, ...]
    novelty: dict[str, Floats]
    shift_scores: dict[str, Floats]
    map: pd.DataFrame
    cards: pd.DataFrame
    next: pd.DataFrame
    reserved: tuple[str, ...]

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Home first, then the real world."""
        return (self.in_domain, *self.real_world)


def focus_of(real_world: Sequence[Domain]) -> Domain | None:
    """The labelled real-world domain the verdict is about: the one with the lowest AP50 among those with enough objects."""
    scored = [
        domain for domain in real_world if domain.labelled.any() and len(domain.annotations) >= MIN_BOXES
    ]
    return min(scored, key=ap50) if scored else None


def statistics_of(domain: Domain, imgsz: int) -> dict[str, pd.DataFrame]:
    """Readable factors; objects are the annotated ones, or, without labels, the shown detections."""
    boxes = (
        domain.annotations
        if domain.labelled.any()
        else domain.detections[domain.detections["confidence"] >= label_free.SHOWN]
    )
    return factors.samples(domain.images, factors.box_factors(domain.images, boxes, imgsz))


def _threshold_of(
    in_domain: Domain, real_world: Domain, sweeps: dict[str, pd.DataFrame], conf: float | None, *, seed: int
) -> Threshold | None:
    """What carrying a threshold (the given one, or the in-domain best) out into the real world costs; None without labels on both sides."""
    best_in_domain, confidence = sweeping.best(sweeps[in_domain.name])
    best_real_world, real_world_confidence = sweeping.best(sweeps[real_world.name])
    if (
        best_in_domain is None
        or confidence is None
        or best_real_world is None
        or real_world_confidence is None
    ):
        return None
    carried = confidence if conf is None else conf
    return Threshold(
        confidence=carried,
        real_world_confidence=real_world_confidence,
        in_domain=sweeping.f1_at(sweeps[in_domain.name], carried),
        real_world=best_real_world,
        carried=sweeping.f1_at(sweeps[real_world.name], carried),
        crossfitted=sweeping.crossfitted_best_f1(real_world.table, real_world.group_numbers, seed=seed),
        given=conf is not None,
    )


def gather(
    in_domain: Domain,
    real_world: Sequence[Domain],
    training: Domain | None,
    history: pd.DataFrame,
    experiments: Experiments,
    *,
    conf: float | None,
    checkpoint_results: Sequence[CheckpointResult] = (),
    training_total: int | None = None,
    seed: int,
) -> Evidence:
    """Everything the hypotheses are questioned with. conf: the threshold in use, None for the one that is best in-domain. standings: of checkpoints, see `diagnostics.training_curve`."""
    focus = focus_of(real_world)
    scored = [domain for domain in (in_domain, *real_world) if domain.labelled.any()]
    labelled_in_domain = len(in_domain.annotations) >= MIN_BOXES
    judged = focus if labelled_in_domain else None
    sweeps = {domain.name: pd.DataFrame(sweeping.sweep(domain.table)) for domain in scored}
    in_use = _threshold_in_use(in_domain, sweeps, conf)
    embedded = in_domain.image_embeddings.shape[1] > 0
    own = statistics_of(in_domain, in_domain.imgsz)
    everyone = [*scored, *([training] if training is not None and training.labelled.any() else [])]
    # Below MIN_BOXES an AP is noise, and a domain without a usable AP has no gap.
    headlines = {
        domain.name: headline(domain.table) for domain in everyone if len(domain.annotations) >= MIN_BOXES
    }
    return Evidence(
        in_domain=in_domain.name,
        real_world=judged.name if judged is not None else None,
        unlabelled=tuple(domain.name for domain in real_world if not domain.labelled.any()),
        ap50={name: numbers["ap50"] for name, numbers in headlines.items()},
        max_recall={name: numbers["max_recall"] for name, numbers in headlines.items()},
        loose={domain.name: loose_ap(domain, 0.1) for domain in scored},
        intervals={
            domain.name: ap_interval(domain.table, domain.group_numbers, seed=seed)
            for domain in scored
            if domain.name in headlines
        },
        gap_interval=gap_interval(in_domain, judged, seed=seed) if judged is not None else None,
        learning=read_curve(history),
        threshold=_threshold_of(in_domain, judged, sweeps, conf, seed=seed) if judged is not None else None,
        size=size_match(in_domain, judged, in_use) if judged is not None and in_use is not None else None,
        recoveries=experiments.recoveries,
        redrawn=redraw(focus, seed=seed) if focus is not None else None,
        leak=find_leaks(training, in_domain, training_total) if training is not None else None,
        shift_image={
            domain.name: image_shift(in_domain, domain, seed=seed) for domain in real_world if embedded
        },
        shift_detections={
            domain.name: detection_shift(in_domain, domain, seed=seed) for domain in real_world if embedded
        },
        factors={
            domain.name: factors.compare(own, statistics_of(domain, in_domain.imgsz)) for domain in real_world
        },
        shift_descriptors={
            domain.name: descriptor_shift(in_domain, domain, seed=seed) for domain in real_world
        },
        decompositions=_drop_decompositions(experiments, headlines, sweeps, in_domain, in_use, seed=seed)
        if judged is not None
        else (),
        label_free=_estimate_without_labels(in_domain, real_world, experiments),
        errors=_error_table(scored, in_use if in_use is not None else label_free.SHOWN),
        carried=carried(checkpoint_results, in_domain.name, judged.name if judged is not None else None),
    )


def _drop_decompositions(
    experiments: Experiments,
    headlines: dict[str, dict[str, float]],
    sweeps: dict[str, pd.DataFrame],
    in_domain: Domain,
    in_use: float | None,
    *,
    seed: int,
) -> tuple[DropDecomposition, ...]:
    """What corrections recover; () where nothing was looked at again."""
    if not experiments.corrected_domains or in_use is None or in_domain.name not in headlines:
        return ()
    return decompositions(
        experiments.corrected_domains,
        experiments.corrections,
        in_domain_ap50=headlines[in_domain.name]["ap50"],
        in_domain_f1=sweeping.f1_at(sweeps[in_domain.name], in_use),
        confidence=in_use,
        seed=seed,
    )


def _estimate_without_labels(
    in_domain: Domain, real_world: Sequence[Domain], experiments: Experiments
) -> dict[str, label_free.LabelFree]:
    """Every unlabelled domain, and, once there is an estimator, the labelled ones too: there the reading can be held against the truth."""
    found = {
        domain.name: label_free.estimate(
            in_domain, domain, experiments.estimator, experiments.squeezed.get(domain.name)
        )
        for domain in real_world
        if experiments.estimator is not None or len(domain.annotations) < MIN_BOXES
    }
    if experiments.declined:
        why = "turned off; run again with --label-free"
        return {name: replace(entry, reason=why) for name, entry in found.items()}
    return found


def _threshold_in_use(in_domain: Domain, sweeps: dict[str, pd.DataFrame], conf: float | None) -> float | None:
    """The given threshold, or the in-domain best; None where neither is known."""
    if conf is not None or in_domain.name not in sweeps:
        return conf
    return sweeping.best(sweeps[in_domain.name])[1]


def find(
    in_domain: Domain,
    real_world: Sequence[Domain],
    training: Domain | None,
    history: pd.DataFrame,
    experiments: Experiments,
    *,
    conf: float | None,
    checkpoint_results: Sequence[CheckpointResult] = (),
    training_total: int | None = None,
    seed: int,
) -> Findings:
    """Run every measurement and question every hypothesis. conf: the threshold in use, None for the one that is best in-domain. standings: of checkpoints."""
    evidence = gather(
        in_domain,
        real_world,
        training,
        history,
        experiments,
        conf=conf,
        checkpoint_results=checkpoint_results,
        training_total=training_total,
        seed=seed,
    )
    scored = [domain for domain in (in_domain, *real_world) if domain.labelled.any()]
    cuts = slices.edges((in_domain, *real_world))
    sweeps = {domain.name: pd.DataFrame(sweeping.sweep(domain.table)) for domain in scored}
    in_use = _threshold_in_use(in_domain, sweeps, conf)
    embedded = in_domain.image_embeddings.shape[1] > 0
    novelty = novelties(in_domain, real_world) if embedded else {}
    nearest = gallery.Nearest(training if training is not None and embedded else None)
    advice = (
        next_images(real_world, training or in_domain, in_domain, novelty, seed=seed)
        if embedded and real_world
        else Advice(
            pd.DataFrame(columns=[*acquisition.COLUMNS, "nearest"]), pd.DataFrame(columns=["domain", "group"])
        )
    )
    return Findings(
        in_domain=in_domain,
        real_world=tuple(real_world),
        training=training,
        evidence=evidence,
        verdict=diagnose(evidence),
        slices=pd.concat(
            [slices.score(domain, cuts, seed=seed) for domain in (in_domain, *real_world)], ignore_index=True
        ),
        discovered=discovered(scored, cuts, sweeps, seed=seed),
        sweeps=sweeps,
        class_sweeps={domain.name: class_sweeps(domain) for domain in scored},
        risk={domain.name: risk.control(domain.table, domain.group_numbers) for domain in scored},
        errors=evidence.errors,
        slice_errors=slice_errors(scored, cuts, in_use if in_use is not None else label_free.SHOWN),
        calibration={
            domain.name: calibration.calibrate(domain.outcomes, domain.group_numbers) for domain in scored
        },
        estimator=experiments.estimator,
        few_labels=tuple(
            found
            for domain in real_world
            if (found := few_labels(domain, in_use if in_use is not None else label_free.SHOWN)) is not None
        ),
        timeline=pd.concat(
            [timeline.timeline(d, novelty.get(d.name)).assign(domain=d.name) for d in real_world]
        )
        if real_world
        else pd.DataFrame(columns=[*timeline.COLUMNS, "domain"]),
        steadiness=tuple(
            timeline.steadiness(name, frames, detections)
            for name, (frames, detections) in experiments.bursts.items()
        ),
        novelty=novelty,
        shift_scores=shift_scores(in_domain, real_world) if embedded else {},
        map=embedding_map([d for d in (training, in_domain, *real_world) if d is not None], seed),
        cards=pd.concat(
            [gallery.choose(domain, nearest, seed=seed) for domain in (*real_world, in_domain)],
            ignore_index=True,
        ),
        next=advice.picks,
        reserved=advice.clips,
    )


def _error_table(scored: Sequence[Domain], confidence: float) -> pd.DataFrame:
    """Error types of all labelled domains at one confidence: domain, type, count, per_image, delta_ap50."""
    parts = []
    for domain in scored:
        part = decompose(domain.table, domain.outcomes, confidence=confidence)
        part.insert(0, "domain", domain.name)
        part["per_image"] = part["count"] / max(len(domain.labelled_images), 1)
        parts.append(part)
    return (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame(columns=["domain", "type", "count", "delta_ap50", "per_image"])
    )


def discovered(
    scored: Sequence[Domain], cuts: dict[str, Floats], sweeps: dict[str, pd.DataFrame], *, seed: int
) -> pd.DataFrame:
    """Combinations of attributes that fail most, at each domain's own best threshold: where it fails, not whether the threshold is off."""
    parts = []
    for domain in scored:
        _, confidence = sweeping.best(sweeps[domain.name])
        if confidence is not None:
            parts.append(discovery.discover(domain, cuts, confidence, seed=seed))
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(discovery.COLUMNS))


def class_sweeps(domain: Domain) -> dict[str, dict[str, Any]]:
    """What is read off the threshold curve of each class."""
    curves = sweeping.sweeps(domain.table, np.ones((1, domain.table.n_images), bool), by_class=True)
    return {name: sweeping.summary(sweeping.one_of(curves, 0, k)) for k, name in enumerate(domain.classes)}


def slice_errors(scored: Sequence[Domain], cuts: dict[str, Floats], confidence: float) -> pd.DataFrame:
    """Error types of every slice of whole images that has enough objects: domain, attribute, slice, type, count, per_image, delta_ap50."""
    parts = []
    for domain in scored:
        counted = domain.table.annotation_image[~domain.table.annotation_ignored[:, 0]]
        for attribute, name, mask in slices.masks(domain, cuts):
            if attribute != "all" and mask[counted].sum() >= MIN_BOXES:
                part = decompose(domain.table, domain.outcomes, confidence=confidence, images=mask)
                part["per_image"] = part["count"] / max(int(mask.sum()), 1)
                parts.append(part.assign(domain=domain.name, attribute=attribute, slice=name))
    columns = ["domain", "attribute", "slice", "type", "count", "per_image", "delta_ap50"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def gap_interval(in_domain: Domain, real_world: Domain, *, seed: int) -> Interval:
    """Interval of AP50(home) - AP50(away)."""
    return difference_interval(
        ApBootstrap(in_domain.table, in_domain.group_numbers),
        ApBootstrap(real_world.table, real_world.group_numbers),
        seed=seed,
    )
