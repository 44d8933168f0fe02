"""Domains with attributes of images that mean nothing, and, where asked for, one combination of two in which more is missed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.simulated import make_domain
from datasets.tables import OWN
from diagnostics.domain import Domain

WEATHER = ("sun", "rain", "fog", "dusk")
ROAD = ("asphalt", "gravel", "concrete", "paving", "tracks")
PLANTED = {(OWN + "weather", "fog"), (OWN + "road", "gravel")}


def planted_world(
    seed: int, *, planted: bool, clips: int = 40, frames: int = 30, loss: float = 0.3
) -> tuple[Domain, set[tuple[str, str]]]:
    """One in twenty images has both attributes of PLANTED; there a hit is lost with the probability `loss`."""
    rng = np.random.default_rng(10_000 + seed)
    domain = make_domain(clips=clips, frames=frames, seed=seed, hit_rate=0.75)
    n = len(domain.images)
    images = domain.images.assign(
        **{
            OWN + "weather": rng.choice(WEATHER, n),
            OWN + "road": rng.choice(ROAD, n),
            OWN + "lane": rng.choice(["left", "right"], n),
        }
    )
    detections = domain.detections
    kept = np.ones(len(domain.detections), bool)
    if planted:
        bad = images[(images[OWN + "weather"] == "fog") & (images[OWN + "road"] == "gravel")]["image"]
        kept = ~(domain.detections["image"].isin(bad).to_numpy() & (rng.random(len(kept)) < loss))
    detections = domain.detections[kept].reset_index(drop=True)
    return replace(
        domain, images=images, detections=detections, detection_embeddings=domain.detection_embeddings[kept]
    ), PLANTED
