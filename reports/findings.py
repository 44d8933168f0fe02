"""Everything the diagnostics say about a set of domains, as frames; computed once and read by every writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from diagnostics import (
    acquisition,
    calibration,
    discovery,
    factors,
    gallery,
    label_free,
    risk,
    shift,
    slices,
    timeline,
)
from diagnostics import sweep as sweeping
from diagnostics.counterfactuals import Recovery, ap50, loose_ap, redraw, size_match
from diagnostics.course import Standing, carried
from diagnostics.domain import Domain
from diagnostics.error_types import decompose
from diagnostics.evidence import Evidence, Threshold
from diagnostics.few_labels import FewLabels, few_labels
from diagnostics.hypotheses import Verdict, question
from diagnostics.intervals import MIN_BOXES, ApBootstrap, Interval, ap_interval, difference_interval
from diagnostics.ladder import Ladder, ladders
from diagnostics.leakage import copied, find_leaks
from diagnostics.learning import read_curve
from diagnostics.matching import Floats, Ints
from diagnostics.precision import headline

# Detections below this are not objects to compare embeddings of.
OBJECT_CONFIDENCE = 0.05
# Fewer object embeddings than this say nothing about objects.
MIN_OBJECTS = 30
BUDGET = 50


@dataclass(frozen=True)
class Experiments:
    """What was seen by looking again; empty without weights.

    recoveries: what single changes win back of the real world's AP50. looks, corrections: see `diagnostics.ladder`. estimator: fitted on changed in-domain
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
    scored = [domain for domain in away if domain.labelled.any() and len(domain.boxes) >= MIN_BOXES]
    return min(scored, key=ap50) if scored else None


def statistics_of(domain: Domain, imgsz: int) -> dict[str, pd.DataFrame]:
    """Readable factors; objects are the annotated ones, or, without labels, the shown detections."""
    boxes = (
        domain.boxes
        if domain.labelled.any()
        else domain.detections[domain.detections["confidence"] >= label_free.SHOWN]
    )
    return factors.samples(domain.pictures, factors.object_factors(domain.pictures, boxes, imgsz))


def object_shift(home: Domain, away: Domain, *, seed: int) -> shift.Shift:
    """Shift between detections at or above OBJECT_CONFIDENCE."""
    if home.objects.shape[1] != away.objects.shape[1] or not home.objects.shape[1]:
        return shift.Shift(0, 0, 0, 0, note="not measured: detections from elsewhere have no embeddings")
    sides = []
    for domain in (home, away):
        rows = np.flatnonzero(domain.detections["confidence"].to_numpy() >= OBJECT_CONFIDENCE)
        groups = domain.detections["image"].map(domain.pictures.set_index("image")["group"]).to_numpy(str)
        sides.append((domain.objects[rows], groups[rows]))
    (first, first_groups), (second, second_groups) = sides
    if min(len(first), len(second)) < MIN_OBJECTS:
        note = f"not measured: {min(len(first), len(second))} detections on a side, {MIN_OBJECTS} are needed"
        return shift.Shift(
            len(first), len(second), len(np.unique(first_groups)), len(np.unique(second_groups)), note=note
        )
    return shift.measure(first, second, first_groups, second_groups, seed=seed)


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


def embedding_map(domains: Sequence[Domain], seed: int) -> pd.DataFrame:
    """Two principal components of all picture embeddings: domain, image, path, x, y; at most 400 pictures a domain."""
    rng = np.random.default_rng(seed)
    kept = [
        (domain, shift.thin(rng, len(domain.pictures), 400))
        for domain in domains
        if domain.embeddings.shape[1]
    ]
    if not kept or sum(len(rows) for _, rows in kept) < 3:
        return pd.DataFrame(columns=["domain", "role", "image", "path", "x", "y"])
    points, _ = shift.pooled_components(
        np.concatenate([domain.embeddings[rows] for domain, rows in kept]),
        np.zeros((0, kept[0][0].embeddings.shape[1])),
    )
    frame = pd.concat(
        [
            domain.pictures.iloc[rows][["image", "path"]].assign(domain=domain.name, role=domain.role)
            for domain, rows in kept
        ],
        ignore_index=True,
    )
    return frame.assign(x=points[:, 0], y=points[:, 1] if points.shape[1] > 1 else 0.0)


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
    """Everything the suspects are questioned with. conf: the threshold in use, None for the one that is best at home. standings: of checkpoints, see `diagnostics.course`."""
    focus = focus_of(away)
    scored = [domain for domain in (home, *away) if domain.labelled.any()]
    labelled_home = len(home.boxes) >= MIN_BOXES
    judged = focus if labelled_home else None
    sweeps = {domain.name: pd.DataFrame(sweeping.sweep(domain.table)) for domain in scored}
    in_use = threshold_in_use(home, sweeps, conf)
    embedded = home.embeddings.shape[1] > 0
    own = statistics_of(home, home.imgsz)
    everyone = [*scored, *([training] if training is not None and training.labelled.any() else [])]
    # Below MIN_BOXES an AP is noise, and a domain without a usable AP has no gap.
    headlines = {domain.name: headline(domain.table) for domain in everyone if len(domain.boxes) >= MIN_BOXES}
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
        if experiments.estimator is not None or len(domain.boxes) < MIN_BOXES
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


def picture_shift(home: Domain, away: Domain, *, seed: int) -> shift.Shift:
    """Shift between all pictures."""
    groups = home.pictures["group"].to_numpy(str), away.pictures["group"].to_numpy(str)
    return shift.measure(home.embeddings, away.embeddings, *groups, seed=seed)


def look_shift(home: Domain, away: Domain, *, seed: int) -> shift.Shift:
    """Shift between all pictures by their light, colours and edges, without a model."""
    if home.descriptors is None or away.descriptors is None:
        return shift.Shift(0, 0, 0, 0, note="not measured: no descriptors")
    groups = home.pictures["group"].to_numpy(str), away.pictures["group"].to_numpy(str)
    return shift.measure(home.descriptors, away.descriptors, *groups, seed=seed)


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
    embedded = home.embeddings.shape[1] > 0
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


def novelties(home: Domain, away: Sequence[Domain]) -> dict[str, Floats]:
    """How far outside home each picture lies (see `shift.novelty`), by domain, in one common space."""
    if not away or len(home.pictures) <= shift.NEIGHBOURS:
        return {domain.name: np.full(len(domain.pictures), np.nan) for domain in away}
    everyone = np.concatenate([domain.embeddings for domain in away])
    own, others = shift.pooled_components(home.embeddings, everyone)
    values = shift.novelty(own, home.pictures["group"].to_numpy(str), others)
    limits = np.cumsum([len(domain.pictures) for domain in away])[:-1]
    return {domain.name: part for domain, part in zip(away, np.split(values, limits), strict=True)}


def shift_scores(home: Domain, away: Sequence[Domain]) -> dict[str, Floats]:
    """By domain, the chance of each picture to be of the real world, from a classifier that has not seen its clip (see `shift.domain_scores`).

    Home's pictures get the mean over the real-world domains: the high ones are what home has of them already. NaN where it could not be learnt.
    """
    of_home, found = [], {}
    for domain in away:
        groups = [shift.as_groups(d.pictures["group"].to_numpy(str)) for d in (home, domain)]
        scores = None
        if min(len(home.pictures), len(domain.pictures)) >= shift.MIN_SAMPLES:
            scores = shift.domain_scores(
                *shift.pooled_components(home.embeddings, domain.embeddings), *groups
            )
        if scores is None:
            found[domain.name] = np.full(len(domain.pictures), np.nan)
            continue
        chances = [expit(part) for part in scores]
        of_home.append(chances[0])
        found[domain.name] = chances[1]
    mean = np.mean(of_home, axis=0) if of_home else np.full(len(home.pictures), np.nan)
    return {home.name: mean, **found}


@dataclass(frozen=True)
class Advice:
    """picks: ranked pictures, `acquisition.COLUMNS` and nearest, the training picture most like each. aside: every picture of the clips set aside as a test: domain, image,
    path, group, fingerprint.
    """

    picks: pd.DataFrame
    aside: pd.DataFrame

    @property
    def clips(self) -> tuple[str, ...]:
        """Names of the clips set aside; with their domain where more than one has any."""
        several = len(set(self.aside["domain"])) > 1
        pairs = self.aside[["domain", "group"]].drop_duplicates().itertuples(index=False)
        return tuple(sorted(f"{pair.domain}: {pair.group}" if several else str(pair.group) for pair in pairs))


def next_pictures(
    away: Sequence[Domain],
    training: Domain,
    home: Domain,
    novelty: dict[str, Floats],
    *,
    target: Sequence[Domain] = (),
    seed: int,
    budget: int = BUDGET,
    boxes: int | None = None,
) -> Advice:
    """Rank the pictures of away for labelling by what they cover of target (or, without one, of each other), and set clips of it aside. budget, boxes: see `acquisition.rank`.

    A clip that shows a picture set aside, or one held out at home, is not chosen from, whatever file it lies in.
    """

    def gathered(domains: Sequence[Domain]) -> pd.DataFrame:
        columns = ["image", "path", "group", "fingerprint"]
        return pd.concat([d.pictures[columns].assign(domain=d.name) for d in domains], ignore_index=True)

    pictures = gathered(away)
    pictures["novelty"] = np.concatenate([novelty[domain.name] for domain in away])
    pictures["shown"] = np.concatenate([shown_boxes(domain) for domain in away])
    pictures["objects"] = np.concatenate([objects_to_label(domain) for domain in away])
    embeddings, clips = acquisition.footage(away)
    wanted = acquisition.footage(target) if target else (embeddings, clips)
    frozen = acquisition.reserve(wanted[1], seed=seed)
    aside = gathered(target or away)[np.isin(wanted[1], frozen)].reset_index(drop=True)
    held_out = [*home.pictures["fingerprint"], *aside["fingerprint"]]
    known = copied(pictures["fingerprint"].tolist(), held_out)
    picks = acquisition.rank(
        pictures,
        embeddings,
        training.embeddings,
        ~np.isin(clips, clips[known]),
        target=wanted if target else None,
        budget=budget,
        boxes=boxes,
        seed=seed,
    )
    nearest = gallery.Nearest(training)
    vectors = {
        (domain.name, image): vector
        for domain in away
        for image, vector in zip(domain.pictures["image"], domain.embeddings, strict=True)
    }
    picks["nearest"] = [
        next((str(n["image"]) for n in nearest.to_picture(vectors[row.domain, row.image], count=1)), "")
        for row in picks.itertuples()
    ]
    return Advice(picks, aside)


def objects_to_label(domain: Domain) -> Ints:
    """Boxes that labelling each picture takes, (n,): its objects where it has labels, else what the detector shows, which is the draft that somebody mends."""
    there = domain.boxes[~domain.boxes["crowd"].astype(bool)]["image"].value_counts()
    known = domain.pictures["image"].map(there).fillna(0).to_numpy(np.int64)
    return np.where(domain.labelled, known, shown_boxes(domain))


def shown_boxes(domain: Domain) -> Ints:
    """Detections at or above SHOWN in each picture, (n,)."""
    shown = domain.detections[domain.detections["confidence"] >= label_free.SHOWN]["image"].value_counts()
    return domain.pictures["image"].map(shown).fillna(0).to_numpy(np.int64)
