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
from diagnostics.label_free import FLOOR, GRADED_PICTURES, Graded
from reports.pipeline.interventions import MAX_SECOND_LOOK, Eyes
from train.transforms import MAX_SIDE, SQUEEZES, Both, Change, graded

if TYPE_CHECKING:
    pass


# What the development detectors said about their own pictures after each change, written by `python -m benchmarks.development_sets`: one row a changed set with detector,
# family, severity, signals and truth, see `diagnostics.label_free.Estimator`.
DEVELOPMENT = Path(__file__).with_name("label_free_sets.csv")


def graded_looks(eyes: Eyes, home: Domain) -> list[Graded]:
    """In-domain pictures under graded changes, for reading AP50 without labels. Needs nothing of the footage, so it is done once for a detector."""
    there = home.labelled_pictures
    there = there[there[["width", "height"]].max(axis=1) <= MAX_SIDE]
    chosen = home.subset(evenly(there, GRADED_PICTURES)["image"])
    changes, found = graded(), []
    title = f"Showing the detector {len(chosen.pictures)} in-domain pictures changed in {len(changes)} ways"
    with eyes.reporter.stage("graded looks", title, 2 * len(changes) * len(chosen.pictures)) as tick:
        for change in changes:
            seen = eyes.look(chosen, change, tick, conf=FLOOR)
            seen = replace(seen, annotations=change.boxes(seen.annotations, seen.pictures))
            squeezed = squeezed_look(eyes, chosen, change, tick)
            found.append(Graded(change.family, change.severity, without_emptied(chosen, seen), squeezed))
    return found


def development_sets() -> pd.DataFrame:
    """The sets of other detectors that come with this package, see `DEVELOPMENT`."""
    return pd.read_csv(DEVELOPMENT)


def squeezed_look(eyes: Eyes, domain: Domain, change: Change | None, tick: Callable[[], None]) -> Domain:
    """The domain with the boxes found when every other picture is squeezed in width, and the rest in height, laid back into the picture as it was."""
    parts = []
    for turn, squeezing in enumerate(SQUEEZES):
        part = domain.subset(domain.pictures["image"][turn :: len(SQUEEZES)])
        seen = eyes.look(part, Both(change, squeezing) if change else squeezing, tick, conf=FLOOR)
        parts.append(squeezing.undo(seen.detections, seen.pictures))
    detections = pd.concat(parts, ignore_index=True)
    return replace(domain, detections=detections, detection_embeddings=np.zeros((len(detections), 0), np.float32))


def footage_squeezed(eyes: Eyes, domains: Sequence[Domain]) -> dict[str, Domain]:
    """Some pictures of each domain seen squeezed, by domain."""
    found = {}
    for domain in domains:
        there = domain.pictures[domain.pictures[["width", "height"]].max(axis=1) <= MAX_SIDE]
        part = domain.subset(evenly(there, MAX_SECOND_LOOK)["image"])
        with eyes.reporter.stage(
            "graded looks", f"Looking whether boxes in {domain.name} follow a squeeze", len(part.pictures)
        ) as tick:
            found[domain.name] = squeezed_look(eyes, part, None, tick)
    return found


def without_emptied(before: Domain, after: Domain) -> Domain:
    """Without the pictures that lost all their objects to a change: footage somebody asks about has objects as home has, and AP50 sees hardly anything of emptied pictures."""
    had, has = (set(d.annotations.loc[~d.annotations["crowd"].astype(bool), "image"]) for d in (before, after))
    images = after.pictures["image"]
    return after.subset(images[~images.isin(had - has)])
