"""Which images to label next, from the domains at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from diagnostics import acquisition, gallery, label_free
from diagnostics.domain import Domain
from diagnostics.leakage import near_duplicates
from diagnostics.matching import Bools, Floats, Ints

BUDGET = 50


@dataclass(frozen=True)
class Advice:
    """What to label.

    picks: ranked images, `acquisition.COLUMNS` and nearest, the nearest training image of each
    aside: every image of the clips set aside as a test set: domain, image, path, group, fingerprint
    """

    picks: pd.DataFrame
    aside: pd.DataFrame

    @property
    def clips(self) -> tuple[str, ...]:
        """Names of the clips set aside; with their domain where more than one has any."""
        several = len(set(self.aside["domain"])) > 1
        pairs = self.aside[["domain", "group"]].drop_duplicates().itertuples(index=False)
        return tuple(sorted(f"{pair.domain}: {pair.group}" if several else str(pair.group) for pair in pairs))


# Nine parameters: three sets of images, what is known of them, and how much to pick.
def next_images(
    pool: Sequence[Domain],
    training: Domain,
    in_domain: Domain,
    novelty: dict[str, Floats],
    *,
    target: Sequence[Domain] = (),
    failing: Mapping[str, Mapping[str, float]] | None = None,
    seed: int,
    budget: int = BUDGET,
    boxes: int | None = None,
) -> Advice:
    """Rank the images of a pool for labelling, and set clips aside as a test set.

    A clip that shows a held-out in-domain image, or one set aside, is not picked from, whatever file it is
    in; nor is an image that training shows already.

    Parameters
    ----------
    pool : sequence of Domain
        The images to pick from.
    training : Domain
        What training covers already.
    in_domain : Domain
        The held-out in-domain images.
    novelty : dict
        Distance of each pool image from the in-domain images, by domain, see `embedding_shift.novelties`.
    target : sequence of Domain
        The footage to cover; the pool itself where there is none.
    failing : mapping, optional
        Classes that a drop hits and their share of it, by domain of the footage, see `ClassFindings.failing`.
    seed : int
        Of the clips set aside.
    budget, boxes : int
        Images to pick, and boxes in them, at most; see `acquisition.rank_images`.
    """
    images = _images(pool)
    images["novelty"] = np.concatenate([novelty[domain.name] for domain in pool])
    images["shown"] = np.concatenate([_shown_detections(domain) for domain in pool])
    images["annotations"] = np.concatenate([_boxes_to_label(domain) for domain in pool])
    embeddings, clips = acquisition.embeddings_and_clips(pool)
    footage = acquisition.embeddings_and_clips(target) if target else (embeddings, clips)
    test_clips = acquisition.reserve_test_clips(footage[1], seed=seed)
    aside = _images(target or pool)[np.isin(footage[1], test_clips)].reset_index(drop=True)
    held_out = [*in_domain.images["fingerprint"], *aside["fingerprint"]]
    copies = near_duplicates(images["fingerprint"].tolist(), held_out)
    known = near_duplicates(images["fingerprint"].tolist(), training.images["fingerprint"].tolist())
    picks = acquisition.rank_images(
        acquisition.Pool(images, embeddings, ~np.isin(clips, clips[copies]) & ~known),
        training.image_embeddings,
        target=footage if target else None,
        failing=_failing(target or pool, failing or {}),
        budget=budget,
        boxes=boxes,
        seed=seed,
    )
    picks["reason"] += _shown_classes(picks, pool, failing or {})
    picks["nearest"] = _nearest_training_images(picks, pool, training)
    return Advice(picks, aside)


def _failing(
    footage: Sequence[Domain], failing: Mapping[str, Mapping[str, float]]
) -> list[tuple[Bools, float]]:
    """For each failing class of a domain: the images of the footage that show it, (t,), and its share of the
    drop.
    """
    found = []
    for number, domain in enumerate(footage):
        for name, share in failing.get(domain.name, {}).items():
            parts = [
                _shows(other, name) if number == i else np.zeros(len(other.images), bool)
                for i, other in enumerate(footage)
            ]
            # Each domain counts with the weight that it has among all.
            found.append((np.concatenate(parts), share / len(footage)))
    return found


def _shows(domain: Domain, name: str) -> Bools:
    """Images on which a class is annotated, or without labels detected at or above SHOWN, (n,)."""
    label = domain.classes.index(name)
    annotated = domain.annotations[domain.annotations["label"] == label]["image"]
    shown = domain.detections[
        (domain.detections["label"] == label) & (domain.detections["confidence"] >= label_free.SHOWN)
    ]["image"]
    images = domain.images["image"]
    return np.where(domain.labelled, images.isin(annotated), images.isin(shown))


def _shown_classes(
    picks: pd.DataFrame, pool: Sequence[Domain], failing: Mapping[str, Mapping[str, float]]
) -> list[str]:
    """For each pick, the failing classes that it shows, as the end of its reason."""
    names = sorted({name for shares in failing.values() for name in shares})
    showing: dict[tuple[str, str], list[str]] = {}
    for domain in pool:
        for name in names:
            for image in domain.images["image"][_shows(domain, name)]:
                showing.setdefault((domain.name, image), []).append(name)
    ends = {key: f"; shows {' and '.join(shown)}, where the drop is" for key, shown in showing.items()}
    return [ends.get((row.domain, row.image), "") for row in picks.itertuples()]


def _images(domains: Sequence[Domain]) -> pd.DataFrame:
    """Image, path, group, fingerprint and domain of all images."""
    columns = ["image", "path", "group", "fingerprint"]
    return pd.concat([d.images[columns].assign(domain=d.name) for d in domains], ignore_index=True)


def _nearest_training_images(picks: pd.DataFrame, pool: Sequence[Domain], training: Domain) -> list[str]:
    """The nearest training image of each pick; "" where there is none."""
    nearest = gallery.Nearest(training)
    vectors = {
        (domain.name, image): vector
        for domain in pool
        for image, vector in zip(domain.images["image"], domain.image_embeddings, strict=True)
    }
    return [
        next((str(n["image"]) for n in nearest.to_image(vectors[row.domain, row.image], count=1)), "")
        for row in picks.itertuples()
    ]


def _boxes_to_label(domain: Domain) -> Ints:
    """Boxes that labelling each image takes, (n,): its annotations, or without labels the shown detections,
    which are its draft.
    """
    annotations = domain.annotations[~domain.annotations["crowd"].astype(bool)]["image"].value_counts()
    labelled = domain.images["image"].map(annotations).fillna(0).to_numpy(np.int64)
    return np.where(domain.labelled, labelled, _shown_detections(domain))


def _shown_detections(domain: Domain) -> Ints:
    """Detections at or above SHOWN in each image, (n,)."""
    shown = domain.detections[domain.detections["confidence"] >= label_free.SHOWN]["image"].value_counts()
    return domain.images["image"].map(shown).fillna(0).to_numpy(np.int64)
