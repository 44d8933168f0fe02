"""Corruptions: inference on in-domain images changed with a known severity, which the label-free estimate is
fitted on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.groups import evenly
from diagnostics.domain import Domain
from diagnostics.inputs import LABEL_FREE
from diagnostics.label_free import CORRUPTION_IMAGES, FLOOR, CorruptedDomain
from reports.pipeline.effort import Budget
from reports.pipeline.interventions import DomainPredictor
from train.transforms import MAX_SIDE, SEVERITIES, SQUEEZES, Sequential, Transform, corruptions

# Corrupted images that are squeezed as well: what they give is a mean over boxes, drawn to that of all sets.
SQUEEZED = 10

# Signals and true AP50 of corrupted sets of the development detectors, written by `python -m
# benchmarks.development_sets`: one row a set
# with detector, family, severity, signals and truth, see `diagnostics.label_free.Estimator`.
DEVELOPMENT = Path(__file__).with_name("label_free_sets.csv")
# Estimated and true AP50 of real photographs with labels, written by `python -m benchmarks.real_domains`: one
# row a domain, with detector, domain, images, in_domain, estimate and truth.
REAL_DOMAINS = Path(__file__).with_name("label_free_domains.csv")


def corrupt_in_domain(
    predictor: DomainPredictor, in_domain: Domain, budget: Budget, *, mixed: bool = False
) -> list[CorruptedDomain]:
    """In-domain images under every corruption. They depend on the detector only, so they are made once for
    each. mixed: see `train.transforms.corruptions`.

    One severity of each family, the strongest, spans what the regression has to span: on 14 real domains of
    two detectors the estimates are off by 0.14 (root mean square) with it, with the two higher ones, and with
    all. So they are with images squeezed by the tens in place of by the forties.
    """
    labelled = in_domain.labelled_images
    labelled = labelled[labelled[["width", "height"]].max(axis=1) <= MAX_SIDE]
    sample = in_domain.subset(evenly(labelled, CORRUPTION_IMAGES)["image"])
    severities = (
        SEVERITIES if mixed else SEVERITIES[1:] if budget.allowance.all_corruptions else SEVERITIES[-1:]
    )
    few = (
        sample
        if budget.allowance.all_corruptions
        else sample.subset(evenly(sample.images, SQUEEZED)["image"])
    )
    transforms, corrupted = corruptions(severities, mixed=mixed), []
    passes = len(transforms) * (len(sample.images) + len(few.images))
    budget.take(LABEL_FREE, passes, needed=True)
    title = f"Inference on {len(sample.images)} in-domain images under {len(transforms)} corruptions"
    with predictor.reporter.stage("corruptions", title, passes) as tick:
        for transform in transforms:
            domain = predictor.predict(sample, transform, tick, conf=FLOOR, embed_detections=True)
            domain = replace(domain, annotations=transform.boxes(domain.annotations, domain.images))
            squeezed = _predict_squeezed(predictor, few, transform, tick)
            domain = _without_emptied(sample, domain)
            corrupted.append(CorruptedDomain(transform.family, transform.severity, domain, squeezed))
    return corrupted


def development_sets() -> pd.DataFrame:
    """The corrupted sets of other detectors that come with this package, see `DEVELOPMENT`."""
    return pd.read_csv(DEVELOPMENT)


def real_domains() -> pd.DataFrame:
    """Estimates on real photographs and what the labels say, which come with this package; see
    `REAL_DOMAINS`.
    """
    return pd.read_csv(REAL_DOMAINS)


def predict_squeezed_domains(
    predictor: DomainPredictor, domains: Sequence[Domain], budget: Budget
) -> dict[str, Domain]:
    """Some images of each domain with the detections in the squeezed images, by domain."""
    squeezed = {}
    for domain in domains:
        images = domain.images[domain.images[["width", "height"]].max(axis=1) <= MAX_SIDE]
        sample = domain.subset(evenly(images, CORRUPTION_IMAGES)["image"])
        budget.take(LABEL_FREE, len(sample.images), needed=True)
        title = f"Inference on {domain.name}, squeezed"
        with predictor.reporter.stage("corruptions", title, len(sample.images)) as tick:
            squeezed[domain.name] = _predict_squeezed(predictor, sample, None, tick)
    return squeezed


def _predict_squeezed(
    predictor: DomainPredictor, domain: Domain, transform: Transform | None, tick: Callable[[], None]
) -> Domain:
    """The domain with detections in squeezed images, mapped back: every other image is squeezed in width, the
    rest in height.
    """
    parts = []
    for turn, squeeze in enumerate(SQUEEZES):
        part = domain.subset(domain.images["image"][turn :: len(SQUEEZES)])
        both = Sequential(transform, squeeze) if transform else squeeze
        squeezed = predictor.predict(part, both, tick, conf=FLOOR)
        parts.append(squeeze.undo(squeezed.detections, squeezed.images))
    detections = pd.concat(parts, ignore_index=True)
    no_embeddings = np.zeros((len(detections), 0), np.float32)
    return replace(domain, detections=detections, detection_embeddings=no_embeddings)


def _without_emptied(before: Domain, after: Domain) -> Domain:
    """Without the images that lost all their annotations: real-world images hold objects, and AP50 hardly
    depends on emptied images.
    """
    had, has = (
        set(d.annotations.loc[~d.annotations["crowd"].astype(bool), "image"]) for d in (before, after)
    )
    images = after.images["image"]
    return after.subset(images[~images.isin(had - has)])
