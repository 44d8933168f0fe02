"""Domains with irrelevant image attributes and, if planted, a combination of two with a lower recall."""

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
    """One in twenty images has both attributes of PLANTED and loses detections with probability `loss`."""
    rng = np.random.default_rng(10_000 + seed)
    domain = make_domain(clips=clips, frames=frames, seed=seed, recall=0.75)
    n = len(domain.images)
    images = domain.images.assign(
        **{
            OWN + "weather": rng.choice(WEATHER, n),
            OWN + "road": rng.choice(ROAD, n),
            OWN + "lane": rng.choice(["left", "right"], n),
        }
    )
    keep = np.ones(len(domain.detections), bool)
    if planted:
        bad = images[(images[OWN + "weather"] == "fog") & (images[OWN + "road"] == "gravel")]["image"]
        keep = ~(domain.detections["image"].isin(bad).to_numpy() & (rng.random(len(keep)) < loss))
    detections = domain.detections[keep].reset_index(drop=True)
    return replace(
        domain, images=images, detections=detections, detection_embeddings=domain.detection_embeddings[keep]
    ), PLANTED
