"""The comparison with an earlier run on the same images: did the change help, and is it more than chance?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from datasets.classes import check_classes
from diagnostics.comparison import Comparison, compare
from diagnostics.domain import Domain, detections_of
from diagnostics.leakage import near_duplicates
from reports.progress import Reporter
from train.predictions import Settings, Store, predict_folder
from train.run import Run

if TYPE_CHECKING:
    from train.remembered import AnyDetector


@dataclass(frozen=True)
class EarlierRun:
    """An earlier run, loaded.

    run: the run
    detector: its detector
    imgsz: network input size to use; None for its own
    """

    run: Run
    detector: AnyDetector
    imgsz: int | None = None

    @property
    def name(self) -> str:
        """The run folder's name, or the checkpoint's."""
        return self.run.folder.name if self.run.folder else self.run.weights.name

    @property
    def settings(self) -> Settings:
        """Of its inference."""
        return self.run.settings(self.imgsz or self.run.imgsz or self.detector.imgsz)


@dataclass(frozen=True)
class RunComparison:
    """One domain under both runs.

    domain: the domain's name
    earlier_run: the earlier run's name
    image_count: number of images compared
    trained_on: images left out because their clip is in training by now
    unchecked: training images that were not checked for that
    comparison: AP50 now (first) and before (second)
    images: the images compared
    detections: the earlier run's detections in them
    """

    domain: str
    earlier_run: str
    image_count: int
    trained_on: int
    unchecked: int
    comparison: Comparison
    images: pd.Series
    detections: pd.DataFrame


def compare_runs(
    earlier: EarlierRun,
    domains: Sequence[Domain],
    training: Domain | None,
    reporter: Reporter,
    *,
    training_total: int,
    seed: int,
) -> tuple[RunComparison, ...]:
    """Run the earlier detector on every labelled domain and compare.

    Parameters
    ----------
    earlier : EarlierRun
        The earlier run.
    domains : sequence of Domain
        The domains under the current run.
    training : Domain or None
        Training images of the current run, or a sample of them.
    reporter : Reporter
        Shows progress.
    training_total : int
        Number of training images.
    seed : int
        Of the interval and the test.

    Raises
    ------
    InputError
        The earlier run has other classes.
    """
    for domain in domains[:1]:
        check_classes(domain.classes, earlier.detector.classes, str(earlier.run.weights))
    unchecked = training_total - len(training.images) if training is not None else 0
    comparisons = []
    for domain in domains:
        if not domain.labelled.any():
            continue
        part, trained_on = without_training_images(domain, training)
        if not len(part.annotations):
            continue
        images = part.labelled_images
        store = Store(predict_folder(earlier.settings, earlier.run.sha256))
        title = f"Inference on {domain.name} with {earlier.name}"
        with reporter.stage("earlier run", title, len(images)) as tick:
            detections = earlier.detector.predict(images, earlier.settings, store, tick=tick).detections
        result = compare(
            part.annotation_arrays,
            part.detection_arrays,
            detections_of(detections, images["image"]),
            part.group_numbers,
            n_classes=len(part.classes),
            seed=seed,
        )
        comparisons.append(
            RunComparison(
                domain.name,
                earlier.name,
                len(images),
                trained_on,
                unchecked,
                result,
                images["image"],
                detections,
            )
        )
    return tuple(comparisons)


def without_training_images(domain: Domain, training: Domain | None) -> tuple[Domain, int]:
    """The domain without the clips that are in training, and the number of images in these clips: their
    scores would be inflated.
    """
    if training is None or not len(training.images):
        return domain, 0
    copies = near_duplicates(*(d.images["fingerprint"].tolist() for d in (domain, training)))
    # Neighbours in the same clip are nearly copies too.
    clips = domain.images["group"]
    trained_on = clips.isin(clips[copies]).to_numpy()
    return domain.subset(domain.images["image"][~trained_on]), int(trained_on.sum())
