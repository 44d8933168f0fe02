"""Interventions: inference on changed real-world images, to measure how much of the drop each change
recovers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from math import log2
from typing import TYPE_CHECKING

import numpy as np

from datasets.groups import evenly
from diagnostics import factors
from diagnostics.counterfactuals import SAME_SIZE, Recovery, ap50, recovery, size_factors
from diagnostics.deployment import Change, Changed
from diagnostics.domain import Domain
from diagnostics.inputs import Interventions
from diagnostics.pairs import Pair
from reports.pipeline.surroundings import in_other_surroundings
from reports.progress import Reporter
from train.predictions import Settings, Store, predict_folder
from train.run import Run
from train.tiling import TILES, predict_tiled
from train.transforms import MAX_SIDE, Corruption, Photometric, Sequential, Transform, about_centre

if TYPE_CHECKING:
    from train.forward import Detector
    from train.other_detectors import BoxDetector

# Images each intervention is tried on.
MAX_INTERVENTION_IMAGES = 100
MIN_INTERVENTION_IMAGES = 60
STRIDE = 32
SIZE, COLOURS, SHAPE, SURROUNDINGS = "image size", "colours", "foreshortening", "surroundings"
# A flat ground squeezed further than this shows nothing that a detector could use.
MIN_SQUEEZE = 0.35


@dataclass(frozen=True)
class DomainPredictor:
    """The detector with everything that inference on a changed domain takes.

    detector: the detector
    run: the run it comes from
    settings: the settings of plain inference
    reporter: shows progress
    """

    detector: Detector | BoxDetector
    run: Run
    settings: Settings
    reporter: Reporter

    def predict(
        self,
        domain: Domain,
        transform: Transform | None,
        tick: Callable[[], None],
        *,
        imgsz: int | None = None,
        conf: float | None = None,
    ) -> Domain:
        """The domain with the detections on its transformed images, stored like all predictions.

        Images that cannot be decoded any more are left out.
        """
        settings = replace(
            self.settings,
            imgsz=imgsz or self.settings.imgsz,
            conf=conf or self.settings.conf,
            transform=transform.name if transform else "none",
        )
        store = Store(predict_folder(settings, self.run.sha256))
        predictions = self.detector.predict(domain.images, settings, store, transform=transform, tick=tick)
        return replace(
            domain.subset(predictions.images["image"]),
            detections=predictions.detections,
            image_embeddings=predictions.image_embeddings,
            detection_embeddings=predictions.detection_embeddings,
        )


@dataclass(frozen=True)
class Plan:
    """What is tried on one domain.

    images: the domain with the images that interventions are tried on
    base: network input size of plain inference, in pixels
    larger, smaller: other network input sizes
    size: the one of them that brings object sizes closer to the in-domain ones; None where sizes are alike
    tone: matches the in-domain colours
    shape: matches the in-domain object shapes; None where shapes are alike
    """

    images: Domain
    base: int
    larger: int
    smaller: int
    size: int | None
    tone: Photometric
    shape: Corruption | None

    @property
    def corrections(self) -> tuple[str, ...]:
        """Names of the corrections that are combined."""
        return (
            COLOURS,
            *([SIZE] if self.size is not None else []),
            *([SHAPE] if self.shape is not None else []),
        )

    def transform(self, corrections: tuple[str, ...]) -> Transform | None:
        """The change of pixels that a set of corrections makes."""
        tone = self.tone if COLOURS in corrections else None
        if SHAPE not in corrections or self.shape is None:
            return tone
        return Sequential(tone, self.shape) if tone is not None else self.shape

    def change(self, corrections: tuple[str, ...]) -> Change | None:
        """What predicting so takes; None for what would move the boxes."""
        if SHAPE in corrections:
            return None
        tone = (self.tone.mean, self.tone.spread) if COLOURS in corrections else None
        return Change(self.imgsz(corrections), colours=tone)

    def imgsz(self, corrections: tuple[str, ...]) -> int:
        """The network input size under a set of corrections."""
        return self.size if SIZE in corrections and self.size is not None else self.base


def run_interventions(predictor: DomainPredictor, pair: Pair, *, combine: bool, seed: int) -> Interventions:
    """Try other image sizes, tiles, the in-domain colours and object shapes, alone and in every combination.

    Parameters
    ----------
    predictor : DomainPredictor
        The detector.
    pair : Pair
        The validation domain, and the labelled real-world domain that interventions are tried on.
    combine : bool
        Also try every combination, which divides the drop among the interventions.
    seed : int
        Of the intervals.

    Returns
    -------
    Interventions
        Empty where the images that can be processed hold too few annotations.
    """
    in_domain, focus = pair.in_domain, pair.real_world
    plan = _plan(predictor.settings.imgsz, in_domain, focus)
    if len(plan.images.annotations) < factors.MIN_ANNOTATIONS:
        # Hardly an annotation among these images: no recovery could be measured.
        return Interventions()
    in_domain_ap50 = ap50(in_domain)
    recoveries: dict[str, Recovery] = {}
    changes: list[Changed] = []
    corrected: dict[frozenset[str], Domain] = {frozenset(): plan.images}

    def predict(name: str, transform: Transform | None, imgsz: int) -> Domain:
        title = f"Intervention on {focus.name}: {name}"
        with predictor.reporter.stage("interventions", title, len(plan.images.images)) as tick:
            return predictor.predict(plan.images, transform, tick, imgsz=imgsz)

    def record(name: str, after: Domain, factor: float = 1.0, change: Change | None = None) -> None:
        recoveries[name] = recovery(name, plan.images, after, in_domain_ap50, size_factor=factor, seed=seed)
        if change is not None:
            changes.append(Changed(name, change, after))

    for count in range(1, (len(plan.corrections) if combine else 1) + 1):
        for chosen in combinations(plan.corrections, count):
            imgsz = plan.imgsz(chosen)
            name = f"imgsz {imgsz}" if chosen == (SIZE,) else " and ".join(chosen)
            after = predict(name, plan.transform(chosen), imgsz)
            if SHAPE in chosen and plan.shape is not None:
                after = replace(after, annotations=plan.shape.boxes(after.annotations, after.images))
            corrected[frozenset(chosen)] = after
            if count == 1:
                record(name, after, imgsz / plan.base, plan.change(chosen))
    for imgsz in (plan.larger, plan.smaller):
        if imgsz != plan.size:
            after = predict(f"imgsz {imgsz}", None, imgsz)
            record(f"imgsz {imgsz}", after, imgsz / plan.base, Change(imgsz))
    _record_surroundings(predictor, plan.images, in_domain, recoveries, in_domain_ap50, seed)
    if plan.size == plan.larger:
        after = _predict_tiles(predictor, plan.images)
        record("tiles", after, 1 / TILES[0].side, Change(plan.base, tiles=True))
    if not combine:
        return Interventions(recoveries, plain=plan.images, changes=tuple(changes))
    return Interventions(recoveries, corrected, plan.corrections, plan.images, tuple(changes))


# Six parameters: what is predicted, with what, and where the result goes.
def _record_surroundings(
    predictor: DomainPredictor,
    focus: Domain,
    in_domain: Domain,
    recoveries: dict[str, Recovery],
    in_domain_ap50: float,
    seed: int,
) -> None:
    """Measure what in-domain surroundings recover. Pasting costs AP in any domain, so that the share is the least."""
    near = in_domain.labelled_images
    near = near[near[["width", "height"]].max(axis=1) <= MAX_SIDE]
    chosen = focus.subset(evenly(focus.labelled_images, MIN_INTERVENTION_IMAGES)["image"])
    if near.empty or len(chosen.annotations) < factors.MIN_ANNOTATIONS:
        return
    title = f"Intervention on {focus.name}: surroundings"
    with predictor.reporter.stage("interventions", title, len(chosen.images)) as tick:
        after = in_other_surroundings(
            chosen,
            in_domain.subset(near["image"]),
            lambda composed: predictor.predict(composed, None, tick),
            seed=seed,
        )
    before = chosen.subset(after.images["image"])
    recoveries[SURROUNDINGS] = recovery(SURROUNDINGS, before, after, in_domain_ap50, seed=seed)


def _plan(base: int, in_domain: Domain, focus: Domain) -> Plan:
    """Choose images and strengths."""
    larger, smaller = (
        max(STRIDE, round(base * factor / STRIDE) * STRIDE) for factor in size_factors(in_domain, focus)
    )
    # Four times the size costs sixteen times the time: fewer images, so that none costs more than twice the
    # side does.
    affordable = max(
        MIN_INTERVENTION_IMAGES, int(MAX_INTERVENTION_IMAGES * min(1.0, (2 * base / larger) ** 2))
    )
    labelled = focus.labelled_images
    labelled = labelled[labelled[["width", "height"]].max(axis=1) <= MAX_SIDE]
    images = focus.subset(evenly(labelled, affordable)["image"])
    size = shape = None
    if len(images.annotations) >= factors.MIN_ANNOTATIONS:
        ratio = float(np.median(in_domain.network_sides) / max(float(np.median(focus.network_sides)), 1e-9))
        size = larger if ratio > SAME_SIZE else smaller if ratio < 1 / SAME_SIZE else None
        shape = _squeeze(in_domain, focus)
    return Plan(images, base, larger, smaller, size, Photometric.of(in_domain.images), shape)


def _squeeze(in_domain: Domain, real_world: Domain) -> Corruption | None:
    """The change of width or height that gives real-world objects the typical in-domain shape; None where
    shapes hardly differ.

    From a flatter angle, everything on the ground is foreshortened in height by the same factor (weak
    perspective, Hartley and
    Zisserman 2004, section 6.3), so a view from above squeezed in height is the nearest that a still image
    comes to a view
    from a car.
    """
    medians = []
    for domain in (in_domain, real_world):
        shapes = factors.box_factors(domain.images, domain.annotations, domain.imgsz)["aspect"]
        if len(shapes) < factors.MIN_ANNOTATIONS:
            return None
        medians.append(float(shapes.median()))
    wider = medians[0] - medians[1]
    if abs(wider) < log2(SAME_SIZE):
        return None
    share = round(max(MIN_SQUEEZE, 2 ** -abs(wider)), 2)
    family = f"squeezed in {'height' if wider > 0 else 'width'} to {share}"
    return Corruption(family, 1, matrix=about_centre(1, share) if wider > 0 else about_centre(share, 1))


def _predict_tiles(predictor: DomainPredictor, domain: Domain) -> Domain:
    """The domain with the detections of overlapping tiles beside those of whole images."""
    title = f"Intervention on {domain.name}: tiles"
    with predictor.reporter.stage("interventions", title, len(TILES) * len(domain.images)) as tick:
        merged = predict_tiled(
            domain.detections,
            domain.images,
            lambda tile: predictor.predict(domain, tile, tick).detections,
            limit=predictor.settings.max_det,
        )
    return replace(domain, detections=merged, detection_embeddings=np.zeros((len(merged), 0), np.float32))
