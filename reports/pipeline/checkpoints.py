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
from diagnostics.training_curve import Standing, standing, telling
from diagnostics.domain import Domain
from diagnostics.label_free import SHOWN
from diagnostics.matching import Bools, Floats
from reports.pipeline.inference import predict_folder
from reports.progress import Reporter
from train.predictions import Settings, Store
from train.run import Run, file_sha256

if TYPE_CHECKING:
    from train.forward import Detector

# Pictures of each domain that every checkpoint is shown.
PICTURES = 60
MOST = 4


@dataclass(frozen=True)
class Frame:
    """One picture as each checkpoint sees it. views: (epoch, shown boxes (n, 4), which of them are hits (n,)). truth: labelled boxes (m, 4)."""

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
    standings: tuple[Standing, ...] = ()
    frames: tuple[Frame, ...] = ()


def kept(run: Run) -> dict[int, Path]:
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
    """Show the same pictures of each domain to at most so many checkpoints, the first and the last among them. Raises InputError when one cannot be loaded."""
    files = kept(run)
    if most < 2 or len(files) < 2:
        return Checkpoints()
    epochs = list(files)
    chosen = sorted(
        {epochs[i] for i in np.linspace(0, len(epochs) - 1, min(most, len(epochs))).round().astype(int)}
    )
    parts = [domain.subset(evenly(domain.pictures, PICTURES)["image"]) for domain in domains]
    seen: dict[int, list[Domain]] = {}
    total = len(chosen) * sum(len(part.pictures) for part in parts)
    with reporter.stage(
        "checkpoints", f"Looking with the checkpoints of epochs {', '.join(map(str, chosen))}", total
    ) as tick:
        for epoch in chosen:
            detector = load(files[epoch])
            check_classes(domains[0].classes, detector.classes, str(files[epoch]))
            store = Store(predict_folder(settings, file_sha256(files[epoch])))
            seen[epoch] = [
                replaced(
                    part,
                    detector.predict(part.pictures, settings, store, tick=tick, embed_detections=False).detections,
                )
                for part in parts
            ]
    standings = [
        replace(
            standing(epoch, domain, seed=seed), against_last=against(domain, seen[chosen[-1]][place], seed)
        )
        if epoch != chosen[-1]
        else standing(epoch, domain, seed=seed)
        for epoch, views in seen.items()
        for place, domain in enumerate(views)
    ]
    frames = [framed(place, seen) for place in range(len(parts))]
    return Checkpoints(
        tuple(chosen),
        tuple(epoch for epoch in epochs if epoch not in chosen),
        tuple(standings),
        tuple(frame for frame in frames if frame is not None),
    )


def replaced(domain: Domain, detections: pd.DataFrame) -> Domain:
    """The domain as another checkpoint sees it; embeddings are of no use here."""
    return replace(domain, detections=detections, detection_embeddings=np.zeros((len(detections), 0), np.float32))


def against(domain: Domain, last: Domain, seed: int) -> Comparison | None:
    """The last checkpoint's AP50 against this one's, None without labels."""
    if not domain.labelled.any() or not len(domain.annotations):
        return None
    return compare(
        domain.object_arrays,
        last.detection_arrays,
        domain.detection_arrays,
        domain.group_numbers,
        n_classes=len(domain.classes),
        seed=seed,
    )


def framed(place: int, seen: dict[int, list[Domain]]) -> Frame | None:
    """The picture of a domain on which checkpoints differ most, as each sees it."""
    first = next(iter(seen.values()))[place]
    image = telling([views[place] for views in seen.values()], first.pictures)
    if image is None:
        return None
    picture = first.pictures[first.pictures["image"] == image].iloc[0]
    truth = first.annotations[(first.annotations["image"] == image) & ~first.annotations["crowd"].astype(bool)]
    return Frame(
        first.name,
        image,
        str(picture["path"]),
        bool(picture["labelled"]),
        truth[CORNERS].to_numpy(float),
        tuple((epoch, *shown_in(views[place], image)) for epoch, views in seen.items()),
    )


def shown_in(domain: Domain, image: str) -> tuple[Floats, Bools]:
    """Boxes (n, 4) that are shown in one picture, and which of them are hits; without labels none is."""
    mine = (domain.detections["image"] == image) & (domain.detections["confidence"] >= SHOWN)
    boxes = domain.detections[mine]
    hits: set[int] = set()
    if domain.labelled.any():
        outcomes = domain.outcomes
        rows = outcomes.loc[outcomes["outcome"] == "hit", "row"].to_numpy(int)
        hits = set(domain.scored_detections.index[rows])
    return boxes[CORNERS].to_numpy(float), np.array([row in hits for row in boxes.index], bool)
