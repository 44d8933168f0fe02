"""The run before on the same pictures: what did adding data change, and is it more than chance?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from datasets.classes import check_classes
from diagnostics.comparison import Comparison, compare
from diagnostics.domain import Domain, detections_of
from diagnostics.leakage import copied
from reports.pipeline.inference import predict_folder
from reports.progress import Reporter
from train.predictions import Settings, Store
from train.run import Run, open_run, open_weights

if TYPE_CHECKING:
    from train.forward import Detector


@dataclass(frozen=True)
class Change:
    """AP50 of a domain now (first) and before (second). trained_on: its pictures that are left out because training shows their
    clip by now. unchecked: training pictures that were not looked at for that. images: the pictures compared. detections: in them, by the run before.
    """

    domain: str
    before: str
    image_count: int
    trained_on: int
    unchecked: int
    comparison: Comparison
    images: pd.Series
    detections: pd.DataFrame


def open_before(place: Path) -> Run:
    """A run folder or a checkpoint. Raises InputError."""
    return open_weights(place, None) if place.is_file() else open_run(place)


def changes(
    before: Run,
    detector_classes: Sequence[str],
    domains: Sequence[Domain],
    training: Domain | None,
    imgsz: int | None,
    load: Callable[[Path], Detector],
    reporter: Reporter,
    *,
    training_total: int,
    seed: int,
) -> tuple[Change, ...]:
    """Look at every labelled domain with the run before, at imgsz or else its own image size, and compare. load: weights -> detector.

    Raises InputError when its classes differ.
    """
    earlier = load(before.weights)
    check_classes(detector_classes, earlier.classes, str(before.weights))
    own = Settings(imgsz=imgsz or before.imgsz or earlier.imgsz)
    name = before.folder.name if before.folder else before.weights.name
    found = []
    for domain in domains:
        if not domain.labelled.any():
            continue
        part, left_out = unseen(domain, training)
        if not len(part.annotations):
            continue
        store = Store(predict_folder(own, before.sha256))
        title = f"Looking at {domain.name} with {name}"
        with reporter.stage("before", title, len(part.labelled_pictures)) as tick:
            then = earlier.predict(part.labelled_pictures, own, store, tick=tick).detections
        result = compare(
            part.object_arrays,
            part.detection_arrays,
            detections_of(then, part.labelled_pictures["image"]),
            part.group_numbers,
            n_classes=len(part.classes),
            seed=seed,
        )
        unchecked = training_total - len(training.pictures) if training is not None else 0
        pictures = part.labelled_pictures["image"]
        found.append(Change(domain.name, name, len(pictures), left_out, unchecked, result, pictures, then))
    return tuple(found)


def unseen(domain: Domain, training: Domain | None) -> tuple[Domain, int]:
    """The domain without the clips that training shows, and how many pictures those have: on them the new run would be asked what it was told."""
    if training is None or not len(training.pictures):
        return domain, 0
    told = copied(*(d.pictures["fingerprint"].tolist() for d in (domain, training)))
    # Its neighbours of the same clip are told nearly as much.
    clips = domain.pictures["group"]
    told = clips.isin(clips[told]).to_numpy()
    return domain.subset(domain.pictures["image"][~told]), int(told.sum())
