"""The checkpoints that a run kept, compared on the same images."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from datasets.classes import check_classes
from datasets.groups import evenly
from datasets.tables import CORNERS
from diagnostics.comparison import Comparison, compare
from diagnostics.domain import Domain
from diagnostics.label_free import SHOWN
from diagnostics.matching import Bools, Floats
from diagnostics.training_curve import CheckpointResult, measure_checkpoint, most_changed_image
from reports.progress import Reporter
from train.predictions import Settings, Store, predict_folder
from train.run import Run, file_sha256

if TYPE_CHECKING:
    from train.remembered import AnyDetector

# Images of each domain that checkpoints are compared on.
IMAGES = 60


@dataclass(frozen=True)
class CheckpointFrame:
    """One image with the detections of every checkpoint.

    domain, image, path: which image
    labelled: whether it has labels
    truth: annotations, (m, 4)
    views: (epoch, shown detections (n, 4), which of them are true positives (n,)) for every checkpoint
    """

    domain: str
    image: str
    path: str
    labelled: bool
    truth: Floats
    views: tuple[tuple[int, Floats, Bools], ...]


@dataclass(frozen=True)
class Checkpoints:
    """The comparison; empty where the run kept fewer than two checkpoints.

    epochs: of the checkpoints that were compared, the last among them
    left: of those that were kept and not compared
    checkpoint_results: by domain and epoch
    frames: the image of each domain on which checkpoints differ most
    """

    epochs: tuple[int, ...] = ()
    left: tuple[int, ...] = ()
    checkpoint_results: tuple[CheckpointResult, ...] = ()
    frames: tuple[CheckpointFrame, ...] = ()


def kept_checkpoints(run: Run) -> dict[int, Path]:
    """Epoch (1 for the first) -> checkpoint: those that `save_period` kept, and the last one."""
    if run.folder is None:
        return {}
    files = {
        int(match[1]) + 1: path
        for path in (run.folder / "weights").glob("epoch*.pt")
        if (match := re.fullmatch(r"epoch(\d+)", path.stem))
    }
    last = run.folder / "weights" / "last.pt"
    if files and last.is_file() and run.epochs:
        files[max(run.epochs, max(files))] = last
    return dict(sorted(files.items()))


def compare_checkpoints(
    files: dict[int, Path],
    domains: Sequence[Domain],
    settings: Settings,
    load: Callable[[Path], AnyDetector],
    reporter: Reporter,
    *,
    most: int,
    seed: int,
) -> Checkpoints:
    """Run checkpoints on the same images of each domain. Seven parameters: what is compared, how, and how
    many.

    Parameters
    ----------
    files : dict
        Checkpoints by epoch, see `kept_checkpoints`.
    domains : sequence of Domain
        The domains to compare on.
    settings : Settings
        Of the inference.
    load : callable
        Checkpoint file -> detector.
    reporter : Reporter
        Shows progress.
    most : int
        Checkpoints to compare at most, the first and the last among them.
    seed : int
        Of the intervals.

    Raises
    ------
    InputError
        A checkpoint cannot be loaded, or has other classes.
    """
    if most < 2 or len(files) < 2:
        return Checkpoints()
    epochs = list(files)
    places = np.linspace(0, len(epochs) - 1, min(most, len(epochs))).round().astype(int)
    chosen = sorted({epochs[place] for place in places})
    samples = [domain.subset(evenly(domain.images, IMAGES)["image"]) for domain in domains]
    views: dict[int, list[Domain]] = {}
    title = f"Inference with the checkpoints of epochs {', '.join(map(str, chosen))}"
    total = len(chosen) * sum(len(sample.images) for sample in samples)
    with reporter.stage("checkpoints", title, total) as tick:
        for epoch in chosen:
            detector = load(files[epoch])
            check_classes(domains[0].classes, detector.classes, str(files[epoch]))
            store = Store(predict_folder(settings, file_sha256(files[epoch])))
            views[epoch] = [
                _with_detections(
                    sample,
                    detector.predict(
                        sample.images, settings, store, tick=tick, embed_detections=False
                    ).detections,
                )
                for sample in samples
            ]
    frames = [
        _most_changed_frame([(epoch, views[epoch][i]) for epoch in chosen]) for i in range(len(samples))
    ]
    return Checkpoints(
        tuple(chosen),
        tuple(epoch for epoch in epochs if epoch not in chosen),
        tuple(_measure(views, seed)),
        tuple(frame for frame in frames if frame is not None),
    )


def _measure(views: dict[int, list[Domain]], seed: int) -> list[CheckpointResult]:
    """Every checkpoint on every domain, all but the last compared with the last."""
    last = max(views)
    results = []
    for epoch, domains in views.items():
        for place, domain in enumerate(domains):
            result = measure_checkpoint(epoch, domain, seed=seed)
            if epoch != last:
                result = replace(result, against_last=_compare_with_last(domain, views[last][place], seed))
            results.append(result)
    return results


def _with_detections(domain: Domain, detections: pd.DataFrame) -> Domain:
    """The domain with another checkpoint's detections; their embeddings are not needed."""
    return replace(
        domain, detections=detections, detection_embeddings=np.zeros((len(detections), 0), np.float32)
    )


def _compare_with_last(domain: Domain, last: Domain, seed: int) -> Comparison | None:
    """The last checkpoint's AP50 against this one's; None without labels."""
    if not domain.labelled.any() or not len(domain.annotations):
        return None
    return compare(
        domain.annotation_arrays,
        last.detection_arrays,
        domain.detection_arrays,
        domain.group_numbers,
        n_classes=len(domain.classes),
        seed=seed,
    )


def _most_changed_frame(views: list[tuple[int, Domain]]) -> CheckpointFrame | None:
    """The image of a domain on which checkpoints differ most. views: (epoch, the domain under its
    checkpoint).
    """
    domain = views[0][1]
    image = most_changed_image([view for _, view in views], domain.images)
    if image is None:
        return None
    row = domain.images[domain.images["image"] == image].iloc[0]
    annotations = domain.annotations
    truth = annotations[(annotations["image"] == image) & ~annotations["crowd"].astype(bool)]
    return CheckpointFrame(
        domain.name,
        image,
        str(row["path"]),
        bool(row["labelled"]),
        truth[CORNERS].to_numpy(float),
        tuple((epoch, *_shown_in(view, image)) for epoch, view in views),
    )


def _shown_in(domain: Domain, image: str) -> tuple[Floats, Bools]:
    """Detections (n, 4) shown in one image, and which of them are true positives (n,); without labels none
    is.
    """
    detections = domain.detections
    shown = detections[(detections["image"] == image) & (detections["confidence"] >= SHOWN)]
    true_positives: set[int] = set()
    if domain.labelled.any():
        outcomes = domain.outcomes
        rows = outcomes.loc[outcomes["outcome"] == "true_positive", "row"].to_numpy(int)
        true_positives = set(domain.scored_detections.index[rows])
    return shown[CORNERS].to_numpy(float), np.array([row in true_positives for row in shown.index], bool)
