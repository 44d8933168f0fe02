"""Interventions: inference on changed real-world images, to measure how much of the drop each change
recovers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import combinations
from math import log2
from typing import TYPE_CHECKING

import numpy as np

from datasets.groups import evenly
from datasets.tables import CORNERS
from diagnostics import factors
from diagnostics.counterfactuals import SAME_SIZE, Recovery, ap50, recovery, size_factors
from diagnostics.deployment import Change, Changed
from diagnostics.domain import Domain
from diagnostics.evidence import REJECTED_SHARE
from diagnostics.inputs import Interventions
from diagnostics.intervals import MIN_BOXES
from diagnostics.pairs import Pair
from reports.pipeline.effort import Budget
from reports.pipeline.surroundings import in_other_surroundings
from reports.progress import Reporter
from train.predictions import Settings, Store, predict_folder
from train.run import Run
from train.tiling import TILES, predict_tiled
from train.transforms import MAX_SIDE, Corruption, Photometric, Sequential, Transform, about_centre

if TYPE_CHECKING:
    from train.remembered import AnyDetector

# Images that an intervention is tried on at least, where the effort allows as many.
MIN_INTERVENTION_IMAGES = 60
STRIDE = 32
SIZE, COLOURS, SHAPE, SURROUNDINGS = "image size", "colours", "foreshortening", "surroundings"
# Gives the detections in the images of a domain under an intervention.
Predict = Callable[[Domain], Domain]
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

    detector: AnyDetector
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
        embed_detections: bool = False,
    ) -> Domain:
        """The domain with the detections on its transformed images, stored like all predictions; their
        embeddings, which are most of what is stored, where they are asked for.

        Images that cannot be decoded any more are left out.
        """
        settings = replace(
            self.settings,
            imgsz=imgsz or self.settings.imgsz,
            conf=conf or self.settings.conf,
            transform=transform.name if transform else "none",
        )
        store = Store(predict_folder(settings, self.run.sha256))
        predictions = self.detector.predict(
            domain.images,
            settings,
            store,
            transform=transform,
            tick=tick,
            embed_detections=embed_detections,
        )
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


def run_interventions(
    predictor: DomainPredictor, pair: Pair, budget: Budget, *, combine: bool, seed: int
) -> Interventions:
    """Try other image sizes, tiles, the in-domain colours and object shapes, alone and combined.

    Unless the effort is thorough, each is tried on a part of the images first and left where that shows that
    it recovers next to nothing; such a correction is not combined with others.

    Parameters
    ----------
    predictor : DomainPredictor
        The detector.
    pair : Pair
        The validation domain, and the labelled real-world domain that interventions are tried on.
    budget : Budget
        The forward passes that are left.
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
    plan = _plan(predictor.settings.imgsz, in_domain, focus, budget.allowance.images)
    if len(plan.images.annotations) < factors.MIN_ANNOTATIONS:
        # Hardly an annotation among these images: no recovery could be measured.
        return Interventions()
    trials = _Trials(predictor, focus.name, plan, budget, ap50(in_domain), seed)
    corrected: dict[frozenset[str], Domain] = {frozenset(): plan.images}
    for correction in plan.corrections:
        imgsz = plan.imgsz((correction,))
        name = f"imgsz {imgsz}" if correction == SIZE else correction
        after = trials.try_alone(
            name,
            trials.under((correction,)),
            imgsz,
            factor=imgsz / plan.base,
            change=plan.change((correction,)),
        )
        if after is not None:
            corrected[frozenset({correction})] = after
    _try_surroundings(trials, in_domain)
    # Where objects drawn larger recover nothing, tiles, which draw them larger, are not tried. A detector of one
    # size takes tiles as well.
    tried = frozenset({SIZE}) in corrected or trials.one_size or budget.allowance.first is None
    if plan.size == plan.larger and tried:
        trials.try_alone(
            "tiles",
            trials.in_tiles,
            plan.base,
            passes=len(TILES),
            factor=1 / TILES[0].side,
            change=Change(plan.base, tiles=True),
        )
    # What only controls for the above comes last.
    for imgsz in (plan.larger, plan.smaller):
        if imgsz != plan.size and not trials.one_size:
            name = f"imgsz {imgsz}"
            trials.try_alone(
                name, trials.at_size(name, imgsz), imgsz, factor=imgsz / plan.base, change=Change(imgsz)
            )
    changes = tuple(trials.changes)
    if not combine:
        return Interventions(trials.recoveries, plain=plan.images, changes=changes)
    kept = tuple(name for name in plan.corrections if frozenset({name}) in corrected)
    sets = [chosen for count in range(2, len(kept) + 1) for chosen in combinations(kept, count)]
    affordable = not sets or budget.take(
        f"combinations of corrections on {focus.name}",
        round(sum(budget.cost(len(plan.images.images), plan.imgsz(chosen)) for chosen in sets)),
    )
    if not affordable:
        # Which of several corrections to credit takes all their combinations.
        return Interventions(trials.recoveries, plain=plan.images, changes=changes)
    for chosen in sets:
        corrected[frozenset(chosen)] = trials.under(chosen)(plan.images)
    return Interventions(trials.recoveries, corrected, kept, plan.images, changes)


class _Trials:
    """Interventions on one domain, and what they recover.

    Parameters
    ----------
    predictor
        The detector.
    name
        Of the domain.
    plan
        What is tried.
    budget
        The forward passes that are left.
    in_domain_ap50
        AP50 that recoveries are measured against.
    seed
        Of the intervals.

    Attributes
    ----------
    recoveries : dict of str to Recovery
        By intervention.
    changes : list of Changed
        Those that a user can apply.
    one_size : bool
        Whether the detector was found to predict at one image size only.
    """

    # Six parameters: what is predicted, with what and how often, and what it is compared with.
    def __init__(
        self,
        predictor: DomainPredictor,
        name: str,
        plan: Plan,
        budget: Budget,
        in_domain_ap50: float,
        seed: int,
    ) -> None:
        self.predictor, self.name, self.plan, self.budget = predictor, name, plan, budget
        self.in_domain_ap50, self.seed = in_domain_ap50, seed
        self.recoveries: dict[str, Recovery] = {}
        self.changes: list[Changed] = []
        self.one_size = False

    def stage(self, name: str, images: int) -> AbstractContextManager[Callable[[], None]]:
        """Progress of an intervention."""
        return self.predictor.reporter.stage("interventions", f"Intervention on {self.name}: {name}", images)

    def under(self, corrections: tuple[str, ...]) -> Predict:
        """Prediction under a set of corrections."""
        imgsz = self.plan.imgsz(corrections)
        name = f"imgsz {imgsz}" if corrections == (SIZE,) else " and ".join(corrections)
        transform, shape = self.plan.transform(corrections), self.plan.shape

        def predict(images: Domain) -> Domain:
            with self.stage(name, len(images.images)) as tick:
                after = self.predictor.predict(images, transform, tick, imgsz=imgsz)
            if SHAPE in corrections and shape is not None:
                return replace(after, annotations=shape.boxes(after.annotations, after.images))
            return after

        return predict

    def at_size(self, name: str, imgsz: int) -> Predict:
        """Prediction at another network input size."""

        def predict(images: Domain) -> Domain:
            with self.stage(name, len(images.images)) as tick:
                return self.predictor.predict(images, None, tick, imgsz=imgsz)

        return predict

    def in_tiles(self, images: Domain) -> Domain:
        """The detections of overlapping tiles beside those of whole images."""
        with self.stage("tiles", len(TILES) * len(images.images)) as tick:
            merged = predict_tiled(
                images.detections,
                images.images,
                lambda tile: self.predictor.predict(images, tile, tick).detections,
                limit=self.predictor.settings.max_det,
            )
        no_embeddings = np.zeros((len(merged), 0), np.float32)
        return replace(images, detections=merged, detection_embeddings=no_embeddings)

    # Six parameters: what is tried, what it costs, and what it means.
    def try_alone(
        self,
        name: str,
        predict: Predict,
        imgsz: int,
        *,
        passes: int = 1,
        factor: float = 1.0,
        change: Change | None = None,
    ) -> Domain | None:
        """Try one intervention, on a part of the images first.

        Parameters
        ----------
        name
            Of the intervention.
        predict
            Gives the detections of images under it.
        imgsz
            Network input size.
        passes
            Forward passes an image.
        factor
            How much larger objects are in the network input.
        change
            What a user would do; None for what none can.

        Returns
        -------
        Domain or None
            The detections in all images; None where a part of them showed that it recovers next to nothing,
            or where the budget does not allow more.
        """
        images, first = self.plan.images, self.budget.allowance.first
        part = images if first is None else images.subset(evenly(images.images, first)["image"])
        for tried in (part, images) if len(part.images) < len(images.images) else (images,):
            already = 0 if tried is part else len(part.images)
            what = f"{name} on {self.name}" + (f" beyond {already} images" if already else "")
            if not self.budget.take(what, passes * (len(tried.images) - already), imgsz):
                return None
            after = predict(tried)
            # Images that cannot be decoded any more are left out on both sides.
            before = tried.subset(after.images["image"])
            if imgsz != self.plan.base and takes_one_size(before, after):
                self.one_size = True
                return None
            found = recovery(name, before, after, self.in_domain_ap50, size_factor=factor, seed=self.seed)
            self.recoveries[name] = found
            self.changes = [changed for changed in self.changes if changed.name != name]
            if change is not None:
                self.changes.append(Changed(name, change, after))
            if tried is not images and self._is_futile(before, after):
                return None
        return after

    def _is_futile(self, before: Domain, after: Domain) -> bool:
        """Whether a part of the images shows that an intervention recovers next to nothing.

        Leaving early can miss an effect and cannot make one up: of interventions that recover a quarter of
        the drop, the interval of 99 % lies below that for one in two hundred.
        """
        if len(before.annotations) < MIN_BOXES:
            return False
        found = recovery("", before, after, self.in_domain_ap50, seed=self.seed, level=0.99)
        return (
            found.low is not None
            and found.high is not None
            and found.low <= 0
            and found.high < REJECTED_SHARE
        )


def takes_one_size(before: Domain, after: Domain, confidence: float = 0.0) -> bool:
    """Whether a detector gave the same detections at another image size, box by box: then it has one size, as
    an ONNX file or a function of the user's may have, and nothing was tried. confidence: that both sides are
    known from.
    """
    tables = [
        side.detections.loc[side.detections["confidence"] >= confidence, ["image", "confidence", *CORNERS]]
        for side in (before, after)
    ]
    return len(tables[0]) > 0 and tables[0].reset_index(drop=True).equals(tables[1].reset_index(drop=True))


def _try_surroundings(trials: _Trials, in_domain: Domain) -> None:
    """Measure what in-domain surroundings recover. Pasting costs AP in any domain, so that the share is the
    least.
    """
    focus = trials.plan.images
    near = in_domain.labelled_images
    near = near[near[["width", "height"]].max(axis=1) <= MAX_SIDE]
    chosen = focus.subset(evenly(focus.images, MIN_INTERVENTION_IMAGES)["image"])
    if near.empty or len(chosen.annotations) < factors.MIN_ANNOTATIONS:
        return
    if not trials.budget.take(f"{SURROUNDINGS} on {trials.name}", len(chosen.images)):
        return
    with trials.stage(SURROUNDINGS, len(chosen.images)) as tick:
        after = in_other_surroundings(
            chosen,
            in_domain.subset(near["image"]),
            lambda composed: trials.predictor.predict(composed, None, tick),
            seed=trials.seed,
        )
    before = chosen.subset(after.images["image"])
    trials.recoveries[SURROUNDINGS] = recovery(
        SURROUNDINGS, before, after, trials.in_domain_ap50, seed=trials.seed
    )


def _plan(base: int, in_domain: Domain, focus: Domain, most: int) -> Plan:
    """Choose images, at most so many, and strengths."""
    larger, smaller = (
        max(STRIDE, round(base * factor / STRIDE) * STRIDE) for factor in size_factors(in_domain, focus)
    )
    # Four times the size costs sixteen times the time: fewer images, so that none costs more than twice the
    # side does.
    affordable = max(min(most, MIN_INTERVENTION_IMAGES), int(most * min(1.0, (2 * base / larger) ** 2)))
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
