"""The checkpoints that a run kept, beside each other: from "everything is one" to "nothing is one"."""

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
from diagnostics.training_curve import CheckpointResult, measure_checkpoint, most_telling_image
from reports.progress import Reporter
from train.predictions import Settings, Store, predict_folder
from train.run import Run, file_sha256

if TYPE_CHECKING:
    from train.forward import Detector

# Images of each domain that every checkpoint is shown.
IMAGES = 60


@dataclass(frozen=True)
class CheckpointFrame:
    """One image as each checkpoint sees it. views: (epoch, shown boxes (n, 4), which of them are true positives (n,)). truth: labelled boxes (m, 4)."""

    domain: str
    image: str
    path: str
    labelled: bool
    truth: Floats
    views: tuple[tuple[int, Floats, Bools], ...]


@dataclass(frozen=True)
class Checkpoints:
    """epochs: of the checkpoints that were compared, the last among them. left: of those kept but not looked at. standings: by domain and epoch."""

    epochs: tuple[int, ...] = ()
    left: tuple[int, ...] = ()
    checkpoint_results: tuple[CheckpointResult, ...] = ()
    frames: tuple[CheckpointFrame, ...] = ()


def _kept_checkpoints(run: Run) -> dict[int, Path]:
    """Epoch (1 for the first) -> checkpoint, of those that `save_period` kept and the last one."""
    if run.folder is None:
        return {}
    found = {
        int(match[1]) + 1: path
        for path in (run.folder / "weights").glob("epoch*.pt")
        if (match := re.fullmatch(r"epoch(\d+)", path.stem))
    }
    last = run.folder / "weights" / "last.pt"
    if found and last.is_file() and run.epochs:
        found[max(run.epochs, max(found))] = last
    return dict(sorted(found.items()))


def compare_checkpoints(
    run: Run,
    domains: Sequence[Domain],
    most: int,
    settings: Settings,
    load: Callable[[Path], Detector],
    reporter: Reporter,
    *,
    seed: int,
) -> Checkpoints:
    """Show the same images of each domain to at most so many checkpoints, the first and the last among them. Raises InputError when one cannot be loaded."""
    files = _kept_checkpoints(run)
    if most < 2 or len(files) < 2:
        return Checkpoints()
    epochs = list(files)
    chosen = sorted(
        {epochs[i] for i in np.linspace(0, len(epochs) - 1, min(most, len(epochs))).round().astype(int)}
    )
    parts = [domain.subset(evenly(domain.images, IMAGES)["image"]) for domain in domains]
    seen: dict[int, list[Domain]] = {}
    total = len(chosen) * sum(len(part.images) for part in parts)
    with reporter.stage(
        "checkpoints", f"Looking with the checkpoints of epochs {', '.join(map(str, chosen))}", total
    ) as tick:
        for epoch in chosen:
            detector = load(files[epoch])
            check_classes(domains[0].classes, detector.classes, str(files[epoch]))
            store = Store(predict_folder(settings, file_sha256(files[epoch])))
            seen[epoch] = [
                _with_detections(
                    part,
                    detector.predict(
                        part.images, settings, store, tick=tick, embed_detections=False
                    ).detections,
                )
                for part in parts
            ]
    checkpoint_results = [
        replace(
            measure_checkpoint(epoch, domain, seed=seed),
            against_last=_compare_with_last(domain, seen[chosen[-1]][place], seed),
        )
        if epoch != chosen[-1]
        else measure_checkpoint(epoch, domain, seed=seed)
        for epoch, views in seen.items()
        for place, domain in enumerate(views)
    ]
    frames = [_most_telling_frame(place, seen) for place in range(len(parts))]
    return Checkpoints(
        tuple(chosen),
        tuple(epoch for epoch in epochs if epoch not in chosen),
        tuple(checkpoint_results),
        tuple(frame for frame in frames if frame is not None),
    )


def _with_detections(domain: Domain, detections: pd.DataFrame) -> Domain:
    """The domain as another checkpoint sees it; embeddings are of no use here."""
    return replace(
        domain, detections=detections, detection_embeddings=np.zeros((len(detections), 0), np.float32)
    )


def _compare_with_last(domain: Domain, last: Domain, seed: int) -> Comparison | None:
    """The last checkpoint's AP50 against this one's, None without labels."""
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


def _most_telling_frame(place: int, seen: dict[int, list[Domain]]) -> CheckpointFrame | None:
    """The image of a domain on which checkpoints differ most, as each sees it."""
    first = next(iter(seen.values()))[place]
    image = most_telling_image([views[place] for views in seen.values()], first.images)
    if image is None:
        return None
    row = first.images[first.images["image"] == image].iloc[0]
    truth = first.annotations[
        (first.annotations["image"] == image) & ~first.annotations["crowd"].astype(bool)
    ]
    return CheckpointFrame(
        first.name,
        image,
        str(row["path"]),
        bool(row["labelled"]),
        truth[CORNERS].to_numpy(float),
        tuple((epoch, *_shown_in(views[place], image)) for epoch, views in seen.items()),
    )


def _shown_in(domain: Domain, image: str) -> tuple[Floats, Bools]:
    """Boxes (n, 4) that are shown in one image, and which of them are true positives; without labels none is."""
    mine = (domain.detections["image"] == image) & (domain.detections["confidence"] >= SHOWN)
    boxes = domain.detections[mine]
    true_positives: set[int] = set()
    if domain.labelled.any():
        outcomes = domain.outcomes
        rows = outcomes.loc[outcomes["outcome"] == "true_positive", "row"].to_numpy(int)
        true_positives = set(domain.scored_detections.index[rows])
    return boxes[CORNERS].to_numpy(float), np.array([row in true_positives for row in boxes.index], bool)
