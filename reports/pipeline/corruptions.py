"""In-domain images with a corruption of known severity: what the label-free estimate is fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from datasets.groups import evenly
from diagnostics.domain import Domain
from diagnostics.label_free import CORRUPTION_IMAGES, FLOOR, CorruptedDomain
from reports.pipeline.interventions import MAX_INTERVENTION_IMAGES, DomainPredictor
from train.transforms import MAX_SIDE, SQUEEZES, Sequential, Transform, corruptions

if TYPE_CHECKING:
    pass


# What the development detectors said about their own images after each change, written by `python -m benchmarks.development_sets`: one row a changed set with detector,
# family, severity, signals and truth, see `diagnostics.label_free.Estimator`.
DEVELOPMENT = Path(__file__).with_name("label_free_sets.csv")


def corrupt_in_domain(predictor: DomainPredictor, in_domain: Domain) -> list[CorruptedDomain]:
    """In-domain images under corruptions, for reading AP50 without labels. Needs nothing of the footage, so it is done once for a detector."""
    there = in_domain.labelled_images
    there = there[there[["width", "height"]].max(axis=1) <= MAX_SIDE]
    chosen = in_domain.subset(evenly(there, CORRUPTION_IMAGES)["image"])
    transforms, found = corruptions(), []
    title = f"Showing the detector {len(chosen.images)} in-domain images changed in {len(transforms)} ways"
    with predictor.reporter.stage("corruptions", title, 2 * len(transforms) * len(chosen.images)) as tick:
        for transform in transforms:
            seen = predictor.predict(chosen, transform, tick, conf=FLOOR)
            seen = replace(seen, annotations=transform.boxes(seen.annotations, seen.images))
            squeezed = _predict_squeezed(predictor, chosen, transform, tick)
            found.append(
                CorruptedDomain(
                    transform.family, transform.severity, _without_emptied(chosen, seen), squeezed
                )
            )
    return found


def development_sets() -> pd.DataFrame:
    """The sets of other detectors that come with this package, see `DEVELOPMENT`."""
    return pd.read_csv(DEVELOPMENT)


def _predict_squeezed(
    predictor: DomainPredictor, domain: Domain, transform: Transform | None, tick: Callable[[], None]
) -> Domain:
    """The domain with the boxes found when every other image is squeezed in width, and the rest in height, laid back into the image as it was."""
    parts = []
    for turn, squeezing in enumerate(SQUEEZES):
        part = domain.subset(domain.images["image"][turn :: len(SQUEEZES)])
        seen = predictor.predict(
            part, Sequential(transform, squeezing) if transform else squeezing, tick, conf=FLOOR
        )
        parts.append(squeezing.undo(seen.detections, seen.images))
    detections = pd.concat(parts, ignore_index=True)
    return replace(
        domain, detections=detections, detection_embeddings=np.zeros((len(detections), 0), np.float32)
    )


def predict_squeezed_domains(predictor: DomainPredictor, domains: Sequence[Domain]) -> dict[str, Domain]:
    """Some images of each domain seen squeezed, by domain."""
    found = {}
    for domain in domains:
        there = domain.images[domain.images[["width", "height"]].max(axis=1) <= MAX_SIDE]
        part = domain.subset(evenly(there, MAX_INTERVENTION_IMAGES)["image"])
        with predictor.reporter.stage(
            "corruptions", f"Looking whether boxes in {domain.name} follow a squeeze", len(part.images)
        ) as tick:
            found[domain.name] = _predict_squeezed(predictor, part, None, tick)
    return found


def _without_emptied(before: Domain, after: Domain) -> Domain:
    """Without the images that lost all their objects to a change: footage somebody asks about has objects as home has, and AP50 sees hardly anything of emptied images."""
    had, has = (
        set(d.annotations.loc[~d.annotations["crowd"].astype(bool), "image"]) for d in (before, after)
    )
    images = after.images["image"]
    return after.subset(images[~images.isin(had - has)])
