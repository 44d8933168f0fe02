"""The earlier run on the same images: what did adding data change, and is it more than chance?"""

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
from reports.progress import Reporter
from train.predictions import Settings, Store, predict_folder
from train.run import Run, open_run, open_weights

if TYPE_CHECKING:
    from train.forward import Detector


@dataclass(frozen=True)
class RunComparison:
    """AP50 of a domain now (first) and before (second). trained_on: its images that are left out because training shows their
    clip by now. unchecked: training images that were not looked at for that. images: the images compared. detections: in them, by the earlier run.
    """

    domain: str
    earlier_run: str
    image_count: int
    trained_on: int
    unchecked: int
    comparison: Comparison
    images: pd.Series
    detections: pd.DataFrame


def open_earlier_run(place: Path) -> Run:
    """A run folder or a checkpoint. Raises InputError."""
    return open_weights(place, None) if place.is_file() else open_run(place)


def compare_runs(
    earlier_run: Run,
    detector_classes: Sequence[str],
    domains: Sequence[Domain],
    training: Domain | None,
    imgsz: int | None,
    load: Callable[[Path], Detector],
    reporter: Reporter,
    *,
    training_total: int,
    seed: int,
) -> tuple[RunComparison, ...]:
    """Look at every labelled domain with the earlier run, at imgsz or else its own image size, and compare. load: weights -> detector.

    Raises InputError when its classes differ.
    """
    detector = load(earlier_run.weights)
    check_classes(detector_classes, detector.classes, str(earlier_run.weights))
    own = Settings(imgsz=imgsz or earlier_run.imgsz or detector.imgsz)
    name = earlier_run.folder.name if earlier_run.folder else earlier_run.weights.name
    found = []
    for domain in domains:
        if not domain.labelled.any():
            continue
        part, left_out = without_training_images(domain, training)
        if not len(part.annotations):
            continue
        store = Store(predict_folder(own, earlier_run.sha256))
        title = f"Looking at {domain.name} with {name}"
        with reporter.stage("before", title, len(part.labelled_images)) as tick:
            then = detector.predict(part.labelled_images, own, store, tick=tick).detections
        result = compare(
            part.annotation_arrays,
            part.detection_arrays,
            detections_of(then, part.labelled_images["image"]),
            part.group_numbers,
            n_classes=len(part.classes),
            seed=seed,
        )
        unchecked = training_total - len(training.images) if training is not None else 0
        images = part.labelled_images["image"]
        found.append(RunComparison(domain.name, name, len(images), left_out, unchecked, result, images, then))
    return tuple(found)


def without_training_images(domain: Domain, training: Domain | None) -> tuple[Domain, int]:
    """The domain without the clips that training shows, and how many images those have: on them the new run would be asked what it was told."""
    if training is None or not len(training.images):
        return domain, 0
    trained_on = copied(*(d.images["fingerprint"].tolist() for d in (domain, training)))
    # Its neighbours of the same clip are told nearly as much.
    clips = domain.images["group"]
    trained_on = clips.isin(clips[trained_on]).to_numpy()
    return domain.subset(domain.images["image"][~trained_on]), int(trained_on.sum())
