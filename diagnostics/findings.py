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
from diagnostics.advice import Advice, next_pictures
from diagnostics.counterfactuals import Recovery, ap50, loose_ap, redraw, size_match
from diagnostics.training_curve import Standing, carried
from diagnostics.domain import Domain
from diagnostics.embedding_shift import (
    embedding_map,
    look_shift,
    novelties,
    object_shift,
    picture_shift,
    shift_scores,
)
from diagnostics.error_types import decompose
from diagnostics.evidence import Evidence, Threshold
from diagnostics.few_labels import FewLabels, few_labels
from diagnostics.hypotheses import Verdict, question
from diagnostics.intervals import MIN_BOXES, ApBootstrap, Interval, ap_interval, difference_interval
from diagnostics.contributions import Ladder, ladders
from diagnostics.leakage import find_leaks
from diagnostics.learning import read_curve
from diagnostics.matching import Floats
from diagnostics.precision import headline


@dataclass(frozen=True)
class Experiments:
    """What was seen by looking again; empty without weights.

    recoveries: what single changes win back of the real world's AP50. looks, corrections: see `diagnostics.contributions`. estimator: fitted on changed in-domain
    pictures, and squeezed: by domain, some pictures seen squeezed, see `diagnostics.label_free`. bursts: by domain, the frames and the detections in them, see `diagnostics.timeline`.
    declined: reading AP50 without labels was not wanted.
    """

    recoveries: dict[str, Recovery] = field(default_factory=dict)
    looks: dict[frozenset[str], Domain] = field(default_factory=dict)
    corrections: tuple[str, ...] = ()
    estimator: label_free.Estimator | None = None
    squeezed: dict[str, Domain] = field(default_factory=dict)
    bursts: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = field(default_factory=dict)
    declined: bool = False


@dataclass(frozen=True)
class Findings:
    """home is the in-domain validation domain, away the real-world ones; training may be missing.

    slices, discovered, errors, slice_errors: one table over all domains each. risk: thresholds with a promise. sweeps, calibration, embedding_maps: by domain. next: ranked pictures. reserved: clips set
    aside for testing. few_labels: of partly labelled domains. timeline, steadiness: of videos. novelty, shift_scores: of pictures, by domain; see `novelties` and `shift_scores`.
    """

    home: Domain
    away: tuple[Domain, ...]
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
        return (self.home, *self.away)


def focus_of(away: Sequence[Domain]) -> Domain | None:
    """The labelled real-world domain the verdict is about: the one with the lowest AP50 among those with enough objects."""
    scored = [domain for domain in away if domain.labelled.any() and len(domain.annotations) >= MIN_BOXES]
    return min(scored, key=ap50) if scored else None


def statistics_of(domain: Domain, imgsz: int) -> dict[str, pd.DataFrame]:
    """Readable factors; objects are the annotated ones, or, without labels, the shown detections."""
    boxes = (
        domain.annotations
        if domain.labelled.any()
        else domain.detections[domain.detections["confidence"] >= label_free.SHOWN]
    )
    return factors.samples(domain.pictures, factors.object_factors(domain.pictures, boxes, imgsz))


def threshold_of(
    home: Domain, away: Domain, sweeps: dict[str, pd.DataFrame], conf: float | None, *, seed: int
) -> Threshold | None:
    """What carrying a threshold (the given one, or home's best) out into the real world costs; None without labels on both sides."""
    best_home, confidence = sweeping.best(sweeps[home.name])
    best_away, away_confidence = sweeping.best(sweeps[away.name])
    if best_home is None or confidence is None or best_away is None or away_confidence is None:
        return None
    carried = confidence if conf is None else conf
    return Threshold(
        confidence=carried,
        away_confidence=away_confidence,
        home=sweeping.f1_at(sweeps[home.name], carried),
        away=best_away,
        carried=sweeping.f1_at(sweeps[away.name], carried),
        crossfitted=sweeping.crossfitted_best_f1(away.table, away.group_numbers, seed=seed),
        given=conf is not None,
    )


def gather(
    home: Domain,
    away: Sequence[Domain],
    training: Domain | None,
    history: pd.DataFrame,
    experiments: Experiments,
    *,
    conf: float | None,
    standings: Sequence[Standing] = (),
    training_total: int | None = None,
    seed: int,
) -> Evidence:
    """Everything the suspects are questioned with. conf: the threshold in use, None for the one that is best at home. standings: of checkpoints, see `diagnostics.training_curve`."""
    focus = focus_of(away)
    scored = [domain for domain in (home, *away) if domain.labelled.any()]
    labelled_home = len(home.annotations) >= MIN_BOXES
    judged = focus if labelled_home else None
    sweeps = {domain.name: pd.DataFrame(sweeping.sweep(domain.table)) for domain in scored}
    in_use = threshold_in_use(home, sweeps, conf)
    embedded = home.image_embeddings.shape[1] > 0
    own = statistics_of(home, home.imgsz)
    everyone = [*scored, *([training] if training is not None and training.labelled.any() else [])]
    # Below MIN_BOXES an AP is noise, and a domain without a usable AP has no gap.
    headlines = {domain.name: headline(domain.table) for domain in everyone if len(domain.annotations) >= MIN_BOXES}
    return Evidence(
        home=home.name,
        away=judged.name if judged is not None else None,
        unlabelled=tuple(domain.name for domain in away if not domain.labelled.any()),
        ap50={name: numbers["ap50"] for name, numbers in headlines.items()},
        max_recall={name: numbers["max_recall"] for name, numbers in headlines.items()},
        loose={domain.name: loose_ap(domain, 0.1) for domain in scored},
        intervals={
            domain.name: ap_interval(domain.table, domain.group_numbers, seed=seed)
            for domain in scored
            if domain.name in headlines
        },
        gap_interval=gap_interval(home, judged, seed=seed) if judged is not None else None,
        learning=read_curve(history),
        threshold=threshold_of(home, judged, sweeps, conf, seed=seed) if judged is not None else None,
        size=size_match(home, judged, in_use) if judged is not None and in_use is not None else None,
        recoveries=experiments.recoveries,
        redrawn=redraw(focus, seed=seed) if focus is not None else None,
        leak=find_leaks(training, home, training_total) if training is not None else None,
        shift_image={domain.name: picture_shift(home, domain, seed=seed) for domain in away if embedded},
        shift_object={domain.name: object_shift(home, domain, seed=seed) for domain in away if embedded},
        factors={domain.name: factors.compare(own, statistics_of(domain, home.imgsz)) for domain in away},
        shift_look={domain.name: look_shift(home, domain, seed=seed) for domain in away},
        ladders=gap_ladders(experiments, headlines, sweeps, home, in_use, seed=seed)
        if judged is not None
        else (),
        label_free=read_without_labels(home, away, experiments),
        errors=error_table(scored, in_use if in_use is not None else label_free.SHOWN),
        carried=carried(standings, home.name, judged.name if judged is not None else None),
    )


def gap_ladders(
    experiments: Experiments,
    headlines: dict[str, dict[str, float]],
    sweeps: dict[str, pd.DataFrame],
    home: Domain,
    in_use: float | None,
    *,
    seed: int,
) -> tuple[Ladder, ...]:
    """What corrections win back; () where nothing was looked at again."""
    if not experiments.looks or in_use is None or home.name not in headlines:
        return ()
    return ladders(
        experiments.looks,
        experiments.corrections,
        home_ap50=headlines[home.name]["ap50"],
        home_f1=sweeping.f1_at(sweeps[home.name], in_use),
        confidence=in_use,
        seed=seed,
    )


def read_without_labels(
    home: Domain, away: Sequence[Domain], experiments: Experiments
) -> dict[str, label_free.LabelFree]:
    """Every unlabelled domain, and, once there is an estimator, the labelled ones too: there the reading can be held against the truth."""
    found = {
        domain.name: label_free.estimate(
            home, domain, experiments.estimator, experiments.squeezed.get(domain.name)
        )
        for domain in away
        if experiments.estimator is not None or len(domain.annotations) < MIN_BOXES
    }
    if experiments.declined:
        why = "turned off; run again with --label-free"
        return {name: replace(entry, reason=why) for name, entry in found.items()}
    return found


def threshold_in_use(home: Domain, sweeps: dict[str, pd.DataFrame], conf: float | None) -> float | None:
    """The given threshold, or home's best; None where neither is known."""
    if conf is not None or home.name not in sweeps:
        return conf
    return sweeping.best(sweeps[home.name])[1]


def find(
    home: Domain,
    away: Sequence[Domain],
    training: Domain | None,
    history: pd.DataFrame,
    experiments: Experiments,
    *,
    conf: float | None,
    standings: Sequence[Standing] = (),
    training_total: int | None = None,
    seed: int,
) -> Findings:
    """Run every measurement and question every suspect. conf: the threshold in use, None for the one that is best at home. standings: of checkpoints."""
    evidence = gather(
        home,
        away,
        training,
        history,
        experiments,
        conf=conf,
        standings=standings,
        training_total=training_total,
        seed=seed,
    )
    scored = [domain for domain in (home, *away) if domain.labelled.any()]
    cuts = slices.edges((home, *away))
    sweeps = {domain.name: pd.DataFrame(sweeping.sweep(domain.table)) for domain in scored}
    in_use = threshold_in_use(home, sweeps, conf)
    embedded = home.image_embeddings.shape[1] > 0
    novelty = novelties(home, away) if embedded else {}
    nearest = gallery.Nearest(training if training is not None and embedded else None)
    advice = (
        next_pictures(away, training or home, home, novelty, seed=seed)
        if embedded and away
        else Advice(
            pd.DataFrame(columns=[*acquisition.COLUMNS, "nearest"]), pd.DataFrame(columns=["domain", "group"])
        )
    )
    return Findings(
        home=home,
        away=tuple(away),
        training=training,
        evidence=evidence,
        verdict=question(evidence),
        slices=pd.concat(
            [slices.score(domain, cuts, seed=seed) for domain in (home, *away)], ignore_index=True
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
            for domain in away
            if (found := few_labels(domain, in_use if in_use is not None else label_free.SHOWN)) is not None
        ),
        timeline=pd.concat([timeline.timeline(d, novelty.get(d.name)).assign(domain=d.name) for d in away])
        if away
        else pd.DataFrame(columns=[*timeline.COLUMNS, "domain"]),
        steadiness=tuple(
            timeline.steadiness(name, frames, detections)
            for name, (frames, detections) in experiments.bursts.items()
        ),
        novelty=novelty,
        shift_scores=shift_scores(home, away) if embedded else {},
        map=embedding_map([d for d in (training, home, *away) if d is not None], seed),
        cards=pd.concat(
            [gallery.choose(domain, nearest, seed=seed) for domain in (*away, home)], ignore_index=True
        ),
        next=advice.picks,
        reserved=advice.clips,
    )


def error_table(scored: Sequence[Domain], confidence: float) -> pd.DataFrame:
    """Error types of all labelled domains at one confidence: domain, type, count, per_image, delta_ap50."""
    parts = []
    for domain in scored:
        part = decompose(domain.table, domain.outcomes, confidence=confidence)
        part.insert(0, "domain", domain.name)
        part["per_image"] = part["count"] / max(len(domain.labelled_pictures), 1)
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
    """Error types of every slice of whole pictures that has enough objects: domain, attribute, slice, type, count, per_image, delta_ap50."""
    parts = []
    for domain in scored:
        counted = domain.table.object_image[~domain.table.object_ignored[:, 0]]
        for attribute, name, mask in slices.masks(domain, cuts):
            if attribute != "all" and mask[counted].sum() >= MIN_BOXES:
                part = decompose(domain.table, domain.outcomes, confidence=confidence, images=mask)
                part["per_image"] = part["count"] / max(int(mask.sum()), 1)
                parts.append(part.assign(domain=domain.name, attribute=attribute, slice=name))
    columns = ["domain", "attribute", "slice", "type", "count", "per_image", "delta_ap50"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def gap_interval(home: Domain, away: Domain, *, seed: int) -> Interval:
    """Interval of AP50(home) - AP50(away)."""
    return difference_interval(
        ApBootstrap(home.table, home.group_numbers), ApBootstrap(away.table, away.group_numbers), seed=seed
    )
