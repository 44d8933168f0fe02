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
from diagnostics.leakage import copied
from diagnostics.matching import Floats, Ints

BUDGET = 50


@dataclass(frozen=True)
class Advice:
    """picks: ranked pictures, `acquisition.COLUMNS` and nearest, the training picture most like each. aside: every picture of the clips set aside as a test: domain, image,
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


def next_pictures(
    away: Sequence[Domain],
    training: Domain,
    home: Domain,
    novelty: dict[str, Floats],
    *,
    target: Sequence[Domain] = (),
    seed: int,
    budget: int = BUDGET,
    boxes: int | None = None,
) -> Advice:
    """Rank the pictures of away for labelling by what they cover of target (or, without one, of each other), and set clips of it aside. budget, boxes: see `acquisition.rank`.

    A clip that shows a picture set aside, or one held out at home, is not chosen from, whatever file it lies in.
    """

    def gathered(domains: Sequence[Domain]) -> pd.DataFrame:
        columns = ["image", "path", "group", "fingerprint"]
        return pd.concat([d.pictures[columns].assign(domain=d.name) for d in domains], ignore_index=True)

    pictures = gathered(away)
    pictures["novelty"] = np.concatenate([novelty[domain.name] for domain in away])
    pictures["shown"] = np.concatenate([shown_boxes(domain) for domain in away])
    pictures["objects"] = np.concatenate([objects_to_label(domain) for domain in away])
    embeddings, clips = acquisition.footage(away)
    wanted = acquisition.footage(target) if target else (embeddings, clips)
    frozen = acquisition.reserve(wanted[1], seed=seed)
    aside = gathered(target or away)[np.isin(wanted[1], frozen)].reset_index(drop=True)
    held_out = [*home.pictures["fingerprint"], *aside["fingerprint"]]
    known = copied(pictures["fingerprint"].tolist(), held_out)
    picks = acquisition.rank(
        pictures,
        embeddings,
        training.image_embeddings,
        ~np.isin(clips, clips[known]),
        target=wanted if target else None,
        budget=budget,
        boxes=boxes,
        seed=seed,
    )
    nearest = gallery.Nearest(training)
    vectors = {
        (domain.name, image): vector
        for domain in away
        for image, vector in zip(domain.pictures["image"], domain.image_embeddings, strict=True)
    }
    picks["nearest"] = [
        next((str(n["image"]) for n in nearest.to_picture(vectors[row.domain, row.image], count=1)), "")
        for row in picks.itertuples()
    ]
    return Advice(picks, aside)


def objects_to_label(domain: Domain) -> Ints:
    """Boxes that labelling each picture takes, (n,): its objects where it has labels, else what the detector shows, which is the draft that somebody mends."""
    there = domain.annotations[~domain.annotations["crowd"].astype(bool)]["image"].value_counts()
    known = domain.pictures["image"].map(there).fillna(0).to_numpy(np.int64)
    return np.where(domain.labelled, known, shown_boxes(domain))


def shown_boxes(domain: Domain) -> Ints:
    """Detections at or above SHOWN in each picture, (n,)."""
    shown = domain.detections[domain.detections["confidence"] >= label_free.SHOWN]["image"].value_counts()
    return domain.pictures["image"].map(shown).fillna(0).to_numpy(np.int64)
