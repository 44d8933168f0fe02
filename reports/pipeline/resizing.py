"""Inference on footage without labels at another image size, which the label-free estimate then judges."""

from __future__ import annotations

from collections.abc import Sequence

from datasets.groups import evenly
from diagnostics.domain import Domain
from diagnostics.label_free import CORRUPTION_IMAGES, FLOOR, MIN_IMAGES
from diagnostics.resized import Resized, size_to_try
from reports.pipeline.effort import Budget
from reports.pipeline.interventions import STRIDE, DomainPredictor, takes_one_size
from train.transforms import MAX_SIDE


def predict_resized(
    predictor: DomainPredictor, in_domain: Domain, domains: Sequence[Domain], budget: Budget
) -> dict[str, Resized]:
    """Some images of each domain whose detections are smaller or larger than in-domain ones, at the image
    size that makes up for it. By domain; without those of in-domain size, and those the budget does not
    allow.
    """
    resized = {}
    for domain in domains:
        factor = size_to_try(in_domain, domain)
        if factor is None:
            continue
        imgsz = max(STRIDE, round(domain.imgsz * factor / STRIDE) * STRIDE)
        images = domain.images[domain.images[["width", "height"]].max(axis=1) <= MAX_SIDE]
        # As many as the estimate needs at least, and twice that where they are affordable.
        all_affordable = budget.cost(min(CORRUPTION_IMAGES, len(images)), imgsz) <= budget.left
        sample = domain.subset(evenly(images, CORRUPTION_IMAGES if all_affordable else MIN_IMAGES)["image"])
        what = f"{imgsz} px on {domain.name}"
        if len(sample.images) < MIN_IMAGES or not budget.take(what, len(sample.images), imgsz):
            continue
        with predictor.reporter.stage(
            "interventions", f"Intervention on {domain.name}: imgsz {imgsz}", len(sample.images)
        ) as tick:
            after = predictor.predict(sample, None, tick, imgsz=imgsz, conf=FLOOR, embed_detections=True)
        # Images that cannot be decoded any more are left out on both sides.
        before = sample.subset(after.images["image"])
        if not takes_one_size(before, after, FLOOR):
            resized[domain.name] = Resized(imgsz, before, after)
    return resized
