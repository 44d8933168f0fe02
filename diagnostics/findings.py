"""Everything the diagnostics measure on a set of domains, as frames; computed once and read by every
writer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from diagnostics import (
    acquisition,
    calibration,
    classes,
    deployment,
    discovery,
    gallery,
    label_free,
    risk,
    slices,
    sweep,
    timeline,
)
from diagnostics.advice import Advice, next_images
from diagnostics.class_ids import ap50_of_other_classes, exchanged_classes
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.embedding_shift import embedding_map, novelties, shift_scores
from diagnostics.error_types import decompose_errors
from diagnostics.evidence import Evidence
from diagnostics.few_labels import FewLabels, estimate_from_few_labels
from diagnostics.gather import gather
from diagnostics.hypotheses import Verdict, diagnose
from diagnostics.inputs import Inputs, Interventions
from diagnostics.intervals import MIN_BOXES
from diagnostics.leakage import find_copies
from diagnostics.matching import Floats
from diagnostics.resized import is_worth_it
from diagnostics.wording import fraction


@dataclass(frozen=True)
class Findings:
    """The result of a diagnosis.

    in_domain: the validation domain
    real_world: the real-world domains
    training: training images, or a sample of them; None where they are not available
    focus: name of the real-world domain with the largest drop, which the first screen is about; without one,
        the in-domain set's
    shown_from: the confidence threshold in use, see `Inputs.shown_from`
    evidences: what the hypotheses were assessed on, by real-world domain
    verdicts: the hypotheses, assessed, by real-world domain
    slices: AP and thresholds of every slice of every domain
    discovered: weak slices, found by search and confirmed on other clips
    sweeps: the confidence sweep of each labelled domain
    class_sweeps: what each class's sweep gives, by domain and class
    class_curves: the sweep of each class by domain, its columns (C, B) but the thresholds, (B,)
    classes: each class by itself, see `diagnostics.classes`
    deployments: how to predict each real-world domain, by its name
    risk: thresholds with a recall guarantee, by domain
    errors: error types of the labelled domains
    slice_errors: error types of every slice of whole images
    calibration: reliability of the confidence, by domain
    estimator: of AP50 without labels; None where it was not fitted
    few_labels: estimates for partly labelled domains
    timeline: frames of videos in order, over all domains
    steadiness: whether detections last from frame to frame, by video domain
    novelty: distance of each image from the in-domain images, by domain, see `diagnostics.embedding_shift`
    shift_scores: probability of each image to be a real-world one, by domain
    map: first two principal components of the image embeddings, with what the detector made of each image
    cards: the failure gallery, one row a card
    next: images to label next, ranked
    reserved: clips set aside for testing
    ap50_of_other_classes: AP50 regardless of class of domains where no detection has the class of the
        annotation it lies on, see `diagnostics.class_ids`
    exchanged_classes: annotated -> detected class by domain, where both seem to number them in another order
    shared_images: number of images of each real-world domain that are in-domain images, or near-copies
    """

    in_domain: Domain
    real_world: tuple[Domain, ...]
    training: Domain | None
    focus: str
    shown_from: float
    evidences: dict[str, Evidence]
    verdicts: dict[str, Verdict]
    slices: pd.DataFrame
    discovered: pd.DataFrame
    sweeps: dict[str, pd.DataFrame]
    class_sweeps: dict[str, dict[str, dict[str, Any]]]
    class_curves: dict[str, sweep.Curve]
    classes: classes.ClassFindings
    deployments: dict[str, deployment.Deployment]
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
    ap50_of_other_classes: dict[str, float]
    exchanged_classes: dict[str, dict[str, str]]
    shared_images: dict[str, int]

    @property
    def evidence(self) -> Evidence:
        """The evidence about the domain in focus."""
        return self.evidences[self.focus]

    @property
    def verdict(self) -> Verdict:
        """The verdict about the domain in focus."""
        return self.verdicts[self.focus]

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The in-domain domain first, then the real-world ones."""
        return (self.in_domain, *self.real_world)


def find(inputs: Inputs) -> Findings:
    """Run every measurement and assess every hypothesis.

    Parameters
    ----------
    inputs : Inputs
        Domains, training history, and what the experiments gave.

    Returns
    -------
    Findings
        Frames and the verdict; what could not be measured is empty or None.
    """
    by_class = classes.find_classes(
        inputs.labelled, inputs.in_domain, inputs.pairs, inputs.shown_from, seed=inputs.seed
    )
    evidences = gather(inputs, {name: by_class.causes_of_drop(name) for name in inputs.pairs})
    focus = inputs.focus or inputs.in_domain.name
    cuts = slices.edges(inputs.domains)
    class_curves = {domain.name: _class_curves(domain) for domain in inputs.labelled}
    novelty = novelties(inputs.in_domain, inputs.real_world) if inputs.embedded else {}
    advice = _advice(inputs, novelty, by_class)
    everything = (inputs.training, *inputs.domains)
    return Findings(
        in_domain=inputs.in_domain,
        real_world=tuple(inputs.real_world),
        training=inputs.training,
        focus=focus,
        shown_from=inputs.shown_from,
        evidences=evidences,
        verdicts={name: diagnose(evidence) for name, evidence in evidences.items()},
        slices=pd.concat(
            [slices.score(domain, cuts, seed=inputs.seed) for domain in inputs.domains], ignore_index=True
        ),
        discovered=_discovered(inputs, cuts),
        sweeps=inputs.sweeps,
        class_sweeps={
            domain.name: _class_sweeps(domain, class_curves[domain.name]) for domain in inputs.labelled
        },
        class_curves=class_curves,
        classes=by_class,
        deployments={
            name: _deployment(inputs, evidence)
            for name, evidence in evidences.items()
            if name in inputs.pairs
        },
        risk={domain.name: risk.control(domain.table, domain.group_numbers) for domain in inputs.labelled},
        errors=inputs.errors,
        slice_errors=_slice_errors(inputs.labelled, cuts, inputs.shown_from),
        calibration={
            domain.name: calibration.measure_calibration(domain.outcomes, domain.group_numbers)
            for domain in inputs.labelled
        },
        estimator=inputs.experiments.estimator,
        few_labels=tuple(
            estimate
            for domain in inputs.real_world
            if (estimate := estimate_from_few_labels(domain, inputs.shown_from)) is not None
        ),
        timeline=_timeline(inputs.real_world, novelty),
        steadiness=tuple(
            timeline.measure_steadiness(name, frames, detections)
            for name, (frames, detections) in inputs.experiments.bursts.items()
        ),
        novelty=novelty,
        shift_scores=shift_scores(inputs.in_domain, inputs.real_world) if inputs.embedded else {},
        map=embedding_map(
            [domain for domain in everything if domain is not None], inputs.shown_from, inputs.seed
        ),
        cards=_cards(inputs),
        next=advice.picks,
        reserved=advice.clips,
        ap50_of_other_classes={
            domain.name: found
            for domain in inputs.labelled
            if (
                found := ap50_of_other_classes(
                    domain.annotation_arrays,
                    domain.detection_arrays,
                    n_images=domain.table.n_images,
                    n_classes=domain.table.n_classes,
                    ap50=ap50(domain),
                )
            )
            is not None
        },
        exchanged_classes={domain.name: _exchanged(domain) for domain in inputs.labelled},
        shared_images={
            domain.name: find_copies(inputs.in_domain, domain).images for domain in inputs.real_world
        },
    )


def _exchanged(domain: Domain) -> dict[str, str]:
    """Names of the classes that labels and detections seem to exchange; empty for none."""
    pairs = exchanged_classes(
        domain.annotation_arrays,
        domain.detection_arrays,
        n_images=domain.table.n_images,
        n_classes=domain.table.n_classes,
    )
    return {domain.classes[label]: domain.classes[other] for label, other in pairs.items()}


def _advice(inputs: Inputs, novelty: dict[str, Floats], by_class: classes.ClassFindings) -> Advice:
    """Images to label next; none without embeddings or real-world images."""
    if inputs.embedded and inputs.real_world:
        training = inputs.training or inputs.in_domain
        failing = {domain.name: by_class.failing(domain.name) for domain in inputs.real_world}
        return next_images(
            inputs.real_world, training, inputs.in_domain, novelty, failing=failing, seed=inputs.seed
        )
    return Advice(
        pd.DataFrame(columns=[*acquisition.COLUMNS, "nearest"]), pd.DataFrame(columns=["domain", "group"])
    )


def _deployment(inputs: Inputs, evidence: Evidence) -> deployment.Deployment:
    """How to predict one real-world domain; without labels, at the image size that helps by the estimate."""
    name = evidence.domain or ""
    pair = inputs.pairs[name]
    tried = inputs.experiments.interventions.get(name, Interventions())
    chosen = deployment.choose_deployment(
        pair.real_world,
        inputs.in_domain,
        tried.plain,
        tried.changes,
        tried.recoveries,
        inputs.shown_from,
        seed=inputs.seed,
    )
    found = evidence.resized.get(name)
    if found is None or not is_worth_it(found):
        return chosen
    return replace(
        chosen,
        change=deployment.Change(inputs.experiments.resized[name].imgsz),
        intervention=found.name,
        note=f"{chosen.note}; the image size is that of the higher AP50 estimated without labels "
        f"({fraction(found.after)} in place of {fraction(found.before)})",
    )


def _cards(inputs: Inputs) -> pd.DataFrame:
    """The failure gallery, real-world domains first."""
    nearest = gallery.Nearest(inputs.training if inputs.training is not None and inputs.embedded else None)
    domains = (*inputs.real_world, inputs.in_domain)
    per_kind = gallery.cards_per_kind(len(domains))
    return pd.concat(
        [gallery.choose_cards(domain, nearest, per_kind=per_kind, seed=inputs.seed) for domain in domains],
        ignore_index=True,
    )


def _timeline(real_world: Sequence[Domain], novelty: dict[str, Floats]) -> pd.DataFrame:
    """Frames of the real-world videos in order."""
    if not real_world:
        return pd.DataFrame(columns=[*timeline.COLUMNS, "domain"])
    return pd.concat(
        [
            timeline.build_timeline(domain, novelty.get(domain.name)).assign(domain=domain.name)
            for domain in real_world
        ]
    )


def _discovered(inputs: Inputs, cuts: dict[str, Floats]) -> pd.DataFrame:
    """Weak slices, at each domain's own best threshold: a threshold that is off makes no slice weak."""
    parts = []
    for domain in inputs.labelled:
        _, confidence = sweep.best_f_beta(inputs.sweeps[domain.name])
        if confidence is not None:
            parts.append(discovery.find_weak_slices(domain, cuts, confidence, seed=inputs.seed))
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(discovery.COLUMNS))


def _class_curves(domain: Domain) -> sweep.Curve:
    """The confidence sweep of each class, (C, B)."""
    curves = sweep.sweeps(domain.table, np.ones((1, domain.table.n_images), bool), by_class=True)
    return {name: values if name == "confidence" else values[0] for name, values in curves.items()}


def _class_sweeps(domain: Domain, curves: sweep.Curve) -> dict[str, dict[str, Any]]:
    """The summary of each class's confidence sweep."""
    return {
        label: sweep.summary(
            {name: values if name == "confidence" else values[k] for name, values in curves.items()}
        )
        for k, label in enumerate(domain.classes)
    }


def _slice_errors(labelled: Sequence[Domain], cuts: dict[str, Floats], confidence: float) -> pd.DataFrame:
    """Error types of every slice of whole images with enough annotations.

    Columns: domain, attribute, slice, type, count, per_image, delta_ap50.
    """
    parts = []
    for domain in labelled:
        counted = domain.table.annotation_image[~domain.table.annotation_ignored[:, 0]]
        for attribute, name, mask in slices.masks(domain, cuts):
            if attribute != "all" and mask[counted].sum() >= MIN_BOXES:
                part = decompose_errors(domain.table, domain.outcomes, confidence=confidence, images=mask)
                part["per_image"] = part["count"] / max(int(mask.sum()), 1)
                parts.append(part.assign(domain=domain.name, attribute=attribute, slice=name))
    columns = ["domain", "attribute", "slice", "type", "count", "per_image", "delta_ap50"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
