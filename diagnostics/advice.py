"""Which images to label next, from the domains at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from diagnostics import (
    acquisition,
    gallery,
    label_free,
)
from diagnostics.domain import Domain
from diagnostics.leakage import near_duplicates
from diagnostics.matching import Floats, Ints

BUDGET = 50


@dataclass(frozen=True)
class Advice:
    """picks: ranked images, `acquisition.COLUMNS` and nearest, the training image most like each. aside: every image of the clips set aside as a test: domain, image,
    path, group, fingerprint.
    """

    picks: pd.DataFrame
    aside: pd.DataFrame

    @property
    def clips(self) -> tuple[str, ...]:
        """Names of the clips set aside; with their domain where more than one has any."""
        several = len(set(self.aside["domain"])) > 1
        pairs = self.aside[["domain", "group"]].drop_duplicates().itertuples(index=False)
        return tuple(sorted(f"{pair.domain}: {pair.group}" if several else str(pair.group) for pair in pairs))


def next_images(
    real_world: Sequence[Domain],
    training: Domain,
    in_domain: Domain,
    novelty: dict[str, Floats],
    *,
    target: Sequence[Domain] = (),
    seed: int,
    budget: int = BUDGET,
    boxes: int | None = None,
) -> Advice:
    """Rank the images of away for labelling by what they cover of target (or, without one, of each other), and set clips of it aside. budget, boxes: see `acquisition.rank_images`.

    A clip that shows an image set aside, or one held out in-domain, is not chosen from, whatever file it lies in.
    """

    def gathered(domains: Sequence[Domain]) -> pd.DataFrame:
        columns = ["image", "path", "group", "fingerprint"]
        return pd.concat([d.images[columns].assign(domain=d.name) for d in domains], ignore_index=True)

    images = gathered(real_world)
    images["novelty"] = np.concatenate([novelty[domain.name] for domain in real_world])
    images["shown"] = np.concatenate([_shown_boxes(domain) for domain in real_world])
    images["annotations"] = np.concatenate([_boxes_to_label(domain) for domain in real_world])
    embeddings, clips = acquisition.embeddings_and_clips(real_world)
    wanted = acquisition.embeddings_and_clips(target) if target else (embeddings, clips)
    frozen = acquisition.reserve_test_clips(wanted[1], seed=seed)
    aside = gathered(target or real_world)[np.isin(wanted[1], frozen)].reset_index(drop=True)
    held_out = [*in_domain.images["fingerprint"], *aside["fingerprint"]]
    known = near_duplicates(images["fingerprint"].tolist(), held_out)
    picks = acquisition.rank_images(
        acquisition.Pool(images, embeddings, ~np.isin(clips, clips[known])),
        training.image_embeddings,
        target=wanted if target else None,
        budget=budget,
        boxes=boxes,
        seed=seed,
    )
    nearest = gallery.Nearest(training)
    vectors = {
        (domain.name, image): vector
        for domain in real_world
        for image, vector in zip(domain.images["image"], domain.image_embeddings, strict=True)
    }
    picks["nearest"] = [
        next((str(n["image"]) for n in nearest.to_image(vectors[row.domain, row.image], count=1)), "")
        for row in picks.itertuples()
    ]
    return Advice(picks, aside)


def _boxes_to_label(domain: Domain) -> Ints:
    """Boxes that labelling each image takes, (n,): its objects where it has labels, else what the detector shows, which is the draft that somebody mends."""
    there = domain.annotations[~domain.annotations["crowd"].astype(bool)]["image"].value_counts()
    known = domain.images["image"].map(there).fillna(0).to_numpy(np.int64)
    return np.where(domain.labelled, known, _shown_boxes(domain))


def _shown_boxes(domain: Domain) -> Ints:
    """Detections at or above SHOWN in each image, (n,)."""
    shown = domain.detections[domain.detections["confidence"] >= label_free.SHOWN]["image"].value_counts()
    return domain.images["image"].map(shown).fillna(0).to_numpy(np.int64)
