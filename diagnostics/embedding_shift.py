"""Shift between two domains, in each of the spaces it is measured in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import expit

from diagnostics import (
    shift,
)
from diagnostics.domain import Domain
from diagnostics.matching import Floats

# Detections below this are not objects to compare embeddings of.
OBJECT_CONFIDENCE = 0.05


# Fewer object embeddings than this say nothing about objects.
MIN_OBJECTS = 30


def object_shift(home: Domain, away: Domain, *, seed: int) -> shift.Shift:
    """Shift between detections at or above OBJECT_CONFIDENCE."""
    if home.detection_embeddings.shape[1] != away.detection_embeddings.shape[1] or not home.detection_embeddings.shape[1]:
        return shift.Shift(0, 0, 0, 0, note="not measured: detections from elsewhere have no embeddings")
    sides = []
    for domain in (home, away):
        rows = np.flatnonzero(domain.detections["confidence"].to_numpy() >= OBJECT_CONFIDENCE)
        groups = domain.detections["image"].map(domain.pictures.set_index("image")["group"]).to_numpy(str)
        sides.append((domain.detection_embeddings[rows], groups[rows]))
    (first, first_groups), (second, second_groups) = sides
    if min(len(first), len(second)) < MIN_OBJECTS:
        note = f"not measured: {min(len(first), len(second))} detections on a side, {MIN_OBJECTS} are needed"
        return shift.Shift(
            len(first), len(second), len(np.unique(first_groups)), len(np.unique(second_groups)), note=note
        )
    return shift.measure(first, second, first_groups, second_groups, seed=seed)


def embedding_map(domains: Sequence[Domain], seed: int) -> pd.DataFrame:
    """Two principal components of all picture embeddings: domain, image, path, x, y; at most 400 pictures a domain."""
    rng = np.random.default_rng(seed)
    kept = [
        (domain, shift.thin(rng, len(domain.pictures), 400))
        for domain in domains
        if domain.image_embeddings.shape[1]
    ]
    if not kept or sum(len(rows) for _, rows in kept) < 3:
        return pd.DataFrame(columns=["domain", "role", "image", "path", "x", "y"])
    points, _ = shift.pooled_components(
        np.concatenate([domain.image_embeddings[rows] for domain, rows in kept]),
        np.zeros((0, kept[0][0].image_embeddings.shape[1])),
    )
    frame = pd.concat(
        [
            domain.pictures.iloc[rows][["image", "path"]].assign(domain=domain.name, role=domain.role)
            for domain, rows in kept
        ],
        ignore_index=True,
    )
    return frame.assign(x=points[:, 0], y=points[:, 1] if points.shape[1] > 1 else 0.0)


def picture_shift(home: Domain, away: Domain, *, seed: int) -> shift.Shift:
    """Shift between all pictures."""
    groups = home.pictures["group"].to_numpy(str), away.pictures["group"].to_numpy(str)
    return shift.measure(home.image_embeddings, away.image_embeddings, *groups, seed=seed)


def look_shift(home: Domain, away: Domain, *, seed: int) -> shift.Shift:
    """Shift between all pictures by their light, colours and edges, without a model."""
    if home.descriptors is None or away.descriptors is None:
        return shift.Shift(0, 0, 0, 0, note="not measured: no descriptors")
    groups = home.pictures["group"].to_numpy(str), away.pictures["group"].to_numpy(str)
    return shift.measure(home.descriptors, away.descriptors, *groups, seed=seed)


def novelties(home: Domain, away: Sequence[Domain]) -> dict[str, Floats]:
    """How far outside home each picture lies (see `shift.novelty`), by domain, in one common space."""
    if not away or len(home.pictures) <= shift.NEIGHBOURS:
        return {domain.name: np.full(len(domain.pictures), np.nan) for domain in away}
    everyone = np.concatenate([domain.image_embeddings for domain in away])
    own, others = shift.pooled_components(home.image_embeddings, everyone)
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
                *shift.pooled_components(home.image_embeddings, domain.image_embeddings), *groups
            )
        if scores is None:
            found[domain.name] = np.full(len(domain.pictures), np.nan)
            continue
        chances = [expit(part) for part in scores]
        of_home.append(chances[0])
        found[domain.name] = chances[1]
    mean = np.mean(of_home, axis=0) if of_home else np.full(len(home.pictures), np.nan)
    return {home.name: mean, **found}
