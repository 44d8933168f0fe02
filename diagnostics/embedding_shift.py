"""Shift between two domains, in each of the spaces it is measured in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import expit

from diagnostics import shift
from diagnostics.domain import Domain
from diagnostics.image_outcomes import image_outcomes
from diagnostics.label_free import SHOWN
from diagnostics.matching import Floats

# Detections below this confidence are too unsure for their embeddings to be compared.
MIN_CONFIDENCE = 0.05
# Fewer embeddings than this describe no distribution.
MIN_DETECTIONS = 30
# Classes whose number in an image is compared one by one, the most frequent.
MOST_CLASSES = 10
# Images of a domain on the map, at most.
MAX_ON_MAP = 400
MAP_COLUMNS = ("domain", "role", "image", "path", "group", "outcome", "class", "x", "y")


def detection_shift(in_domain: Domain, real_world: Domain, *, seed: int) -> shift.Shift:
    """Shift between the detections at or above MIN_CONFIDENCE."""
    if (
        in_domain.detection_embeddings.shape[1] != real_world.detection_embeddings.shape[1]
        or not in_domain.detection_embeddings.shape[1]
    ):
        return shift.Shift(0, 0, 0, 0, note="not measured: external detections have no embeddings")
    sides = []
    for domain in (in_domain, real_world):
        rows = np.flatnonzero(domain.detections["confidence"].to_numpy() >= MIN_CONFIDENCE)
        groups = domain.detections["image"].map(domain.images.set_index("image")["group"]).to_numpy(str)
        sides.append((domain.detection_embeddings[rows], groups[rows]))
    (first, first_groups), (second, second_groups) = sides
    if min(len(first), len(second)) < MIN_DETECTIONS:
        note = (
            f"not measured: {min(len(first), len(second))} detections in one of the domains, "
            f"{MIN_DETECTIONS} are needed"
        )
        return shift.Shift(
            len(first), len(second), len(np.unique(first_groups)), len(np.unique(second_groups)), note=note
        )
    return shift.measure_shift(first, second, first_groups, second_groups, seed=seed)


def embedding_map(domains: Sequence[Domain], confidence: float, seed: int) -> pd.DataFrame:
    """Two principal components of all image embeddings, of at most MAX_ON_MAP images a domain.

    Parameters
    ----------
    domains
        The domains, training included.
    confidence
        Detections at or above it count for the outcome of an image.
    seed
        Of the choice of images.

    Returns
    -------
    pandas.DataFrame
        MAP_COLUMNS, one row an image; outcome and class as in `image_outcomes`.
    """
    rng = np.random.default_rng(seed)
    samples = [
        (domain, shift.thin(rng, len(domain.images), MAX_ON_MAP))
        for domain in domains
        if domain.image_embeddings.shape[1]
    ]
    if not samples or sum(len(rows) for _, rows in samples) < 3:
        return pd.DataFrame(columns=list(MAP_COLUMNS))
    points, _ = shift.pooled_components(
        np.concatenate([domain.image_embeddings[rows] for domain, rows in samples]),
        np.zeros((0, samples[0][0].image_embeddings.shape[1])),
    )
    frame = pd.concat(
        [
            domain.images.iloc[rows][["image", "path", "group"]].assign(
                domain=domain.name,
                role=domain.role,
                **image_outcomes(domain, confidence).iloc[rows][["outcome", "class"]],
            )
            for domain, rows in samples
        ],
        ignore_index=True,
    )
    second = points[:, 1] if points.shape[1] > 1 else 0.0
    return frame.assign(x=points[:, 0], y=second)[list(MAP_COLUMNS)]


def image_shift(in_domain: Domain, real_world: Domain, *, seed: int) -> shift.Shift:
    """Shift between all images."""
    groups = in_domain.images["group"].to_numpy(str), real_world.images["group"].to_numpy(str)
    return shift.measure_shift(in_domain.image_embeddings, real_world.image_embeddings, *groups, seed=seed)


def descriptor_shift(in_domain: Domain, real_world: Domain, *, seed: int) -> shift.Shift:
    """Shift between all images by their light, colours and edges, without a model."""
    if in_domain.descriptors is None or real_world.descriptors is None:
        return shift.Shift(0, 0, 0, 0, note="not measured: no descriptors")
    groups = in_domain.images["group"].to_numpy(str), real_world.images["group"].to_numpy(str)
    return shift.measure_shift(in_domain.descriptors, real_world.descriptors, *groups, seed=seed)


def box_shift(in_domain: Domain, real_world: Domain, *, seed: int) -> shift.Shift:
    """Shift between what is detected in each image, without embeddings: how much of each class, how surely
    and how large. Only detections that people get to see count: files of detections end at any confidence.
    """
    groups = in_domain.images["group"].to_numpy(str), real_world.images["group"].to_numpy(str)
    sides = [_shown(domain) for domain in (in_domain, real_world)]
    counts = pd.concat([side["label"] for side in sides]).value_counts()
    if counts.empty:
        return shift.Shift(0, 0, 0, 0, note="not measured: nothing is detected in either domain")
    classes = counts.index[:MOST_CLASSES]
    both = pd.concat(
        [
            _boxes_by_image(domain, shown, classes)
            for domain, shown in zip((in_domain, real_world), sides, strict=True)
        ],
        ignore_index=True,
    )
    # An image without a detection has the size of the others: that it has none is told by the number.
    both["side"] = both["side"].fillna(both["side"].median())
    # By both sets together, which keeps the permutation test exact.
    scaled = ((both - both.mean()) / both.std(ddof=0).replace(0.0, 1.0)).to_numpy(float)
    size = len(in_domain.images)
    return shift.measure_shift(scaled[:size], scaled[size:], *groups, seed=seed)


def _shown(domain: Domain) -> pd.DataFrame:
    """The detections that people get to see, of the classes that are compared."""
    shown = domain.detections[domain.detections["confidence"] >= SHOWN]
    return shown if domain.compared is None else shown[shown["label"].isin(domain.compared)]


def _boxes_by_image(domain: Domain, shown: pd.DataFrame, classes: pd.Index) -> pd.DataFrame:
    """One row an image, in their order: logarithms of the number of detections of all classes, and of each of
    some; the sum of the confidences, as a logarithm; the highest one; and the mean log2 of the side of a
    detection in image diagonals (NaN without one).
    """
    images = domain.images.set_index("image")
    counts = pd.crosstab(shown["image"], shown["label"]).reindex(index=images.index, columns=classes)
    confidences = shown["confidence"].astype(float).groupby(shown["image"])
    area = ((shown["x2"] - shown["x1"]) * (shown["y2"] - shown["y1"])).astype(float).clip(lower=1.0)
    diagonal = shown["image"].map(np.hypot(images["width"], images["height"])).astype(float)
    sides = np.log2(np.sqrt(area) / diagonal).groupby(shown["image"])
    return np.log1p(counts.fillna(0.0).astype(float)).assign(
        number=np.log1p(shown["image"].value_counts().reindex(images.index, fill_value=0)),
        sum=np.log1p(confidences.sum().reindex(images.index, fill_value=0.0)),
        highest=confidences.max().reindex(images.index, fill_value=0.0),
        side=sides.mean().reindex(images.index),
    )


def novelties(in_domain: Domain, real_world: Sequence[Domain]) -> dict[str, Floats]:
    """Distance of each image from the in-domain range (see `shift.novelty`), by domain, in one
    common space.
    """
    if not real_world or len(in_domain.images) <= shift.NEIGHBOURS:
        return {domain.name: np.full(len(domain.images), np.nan) for domain in real_world}
    embeddings = np.concatenate([domain.image_embeddings for domain in real_world])
    own, others = shift.pooled_components(in_domain.image_embeddings, embeddings)
    values = shift.novelty(own, in_domain.images["group"].to_numpy(str), others)
    limits = np.cumsum([len(domain.images) for domain in real_world])[:-1]
    return {domain.name: part for domain, part in zip(real_world, np.split(values, limits), strict=True)}


def shift_scores(in_domain: Domain, real_world: Sequence[Domain]) -> dict[str, Floats]:
    """Probability of each image to be a real-world one, by domain, from a classifier not trained on its clip
    (see `shift.domain_scores`).

    In-domain images get the mean over the real-world domains: the high ones are the in-domain images most
    like them. NaN where
    no classifier could be trained.
    """
    of_in_domain: list[Floats] = []
    by_domain: dict[str, Floats] = {}
    for domain in real_world:
        groups = [shift.cross_fitting_groups(d.images["group"].to_numpy(str)) for d in (in_domain, domain)]
        scores = None
        if min(len(in_domain.images), len(domain.images)) >= shift.MIN_SAMPLES:
            scores = shift.domain_scores(
                *shift.pooled_components(in_domain.image_embeddings, domain.image_embeddings), *groups
            )
        if scores is None:
            by_domain[domain.name] = np.full(len(domain.images), np.nan)
            continue
        probabilities = [expit(part) for part in scores]
        of_in_domain.append(probabilities[0])
        by_domain[domain.name] = probabilities[1]
    mean = np.mean(of_in_domain, axis=0) if of_in_domain else np.full(len(in_domain.images), np.nan)
    return {in_domain.name: mean, **by_domain}
