"""Candidate datasets tried out: the detector goes on learning for a few steps from a few images of each, and is judged on footage that is labelled.

What looks like the footage need not help with it: labels may mean something else, or teach what the detector knows. A short training tells, at the price of a minute or
a few for each dataset. All start from the same weights and seed, take as many steps, and see as many images beside the same old ones.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datasets.errors import InputError
from datasets.groups import evenly
from datasets.tables import BOX_COLUMNS, IMAGE_COLUMNS, Source, concatenate
from diagnostics.candidates import Candidate, placed
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_BOXES, ap_interval
from reports.pipeline.inference import PredictedDomains, build_domain
from reports.pipeline.sources import Opened
from reports.progress import Reporter
from train.environment import runs_folder
from train.forward import Detector
from train.predictions import Settings, Store, predict_folder
from train.run import file_sha256
from train.training import Recipe, data_sha256, is_finished, road_world_recipe, train

# Training images that stay in the mix, so that what was learned is not forgotten.
REPLAY = 48
# Whole epochs until a detector has taken so many steps at least. In `make prove-next` most of what a few dozen images can teach was learned by then.
STEPS, BATCH = 60, 16
# A third of what the demo's training begins with: weights that are trained already must not be thrown about.
LEARNING_RATE = 0.001


def mixture(replay: Source, picked: Source, status_from_share: Source, name: str) -> Source:
    """What a short training sees: old images that stay, and picked ones. One image of what judges is there because Ultralytics asks for validation; nothing learns from it."""
    few = status_from_share.keep(
        status_from_share.images["image"].isin(status_from_share.images["image"].head(1))
    )
    parts = [(replay, "home:", "train"), (picked, "pool:", "train"), (few, "test:", "val")]
    images = [
        s.images.assign(image=prefix + s.images["image"], split=split, labelled=True)
        for s, prefix, split in parts
    ]
    boxes = [s.annotations.assign(image=prefix + s.annotations["image"]) for s, prefix, _ in parts]
    return replace(
        replay,
        spec=name,
        images=concatenate(images, IMAGE_COLUMNS)[list(IMAGE_COLUMNS)],
        annotations=concatenate(boxes, BOX_COLUMNS),
    )


def short_training(weights: Path, images: int, imgsz: int, device: str, seed: int) -> Recipe:
    """STEPS steps at least from a checkpoint, on so many images."""
    usual = {k: v for k, v in road_world_recipe(0).extra.items() if k not in ("pretrained", "save_period")}
    return Recipe(
        weights,
        epochs=max(1, math.ceil(STEPS * BATCH / images)),
        imgsz=imgsz,
        batch=BATCH,
        device=device,
        seed=seed,
        extra={**usual, "lr0": LEARNING_RATE, "val": False},
    )


def probe(
    candidates: Sequence[Candidate],
    predicted: PredictedDomains,
    footage: Sequence[Domain],
    seed: int,
    reporter: Reporter,
) -> list[Candidate]:
    """Candidates ranked anew by AP50 on the footage's labelled images after a short training with as many images of each; those without labels cannot be tried and stand last.

    seen: everything, with the detector. footage: its domains. Trainings are kept, and those that were killed go on. Raises
    InputError where the footage has fewer than MIN_BOXES labelled objects.
    """
    assert predicted.run is not None
    assert predicted.detector is not None
    sources = {o.name: o.source for o in predicted.opened}
    status_from_share = _labelled_footage([sources[domain.name] for domain in footage])
    annotations = int((~status_from_share.annotations["crowd"].astype(bool)).sum())
    if annotations < MIN_BOXES:
        names = ", ".join(domain.name for domain in footage)
        raise InputError(
            f"--probe judges by labels, and {names} has {annotations} labelled objects, {MIN_BOXES} are needed; label the images of test.csv first (written without --probe), or leave --probe out"
        )
    replay = _old_images([o.source for o in predicted.opened if o.role == "training"], status_from_share)
    found = []
    device, imgsz = predicted.detector.device, predicted.settings.imgsz
    for candidate in candidates:
        if not candidate.labelled:
            found.append(candidate)
            continue
        source = sources[candidate.name]
        labelled = source.images[source.images["labelled"]]
        some = evenly(labelled, candidate.compared)["image"]
        mixed = mixture(
            replay, source.keep(source.images["image"].isin(some)), status_from_share, candidate.name
        )
        images = int((mixed.images["split"] == "train").sum())
        recipe = short_training(predicted.run.weights, images, imgsz, device, seed)
        folder = runs_folder() / "probes" / _key_of(recipe, predicted.run.sha256, mixed)
        title = f"Trying {candidate.name}: a short training with {len(some)} of its images"
        if not is_finished(folder):
            with reporter.training(title) as (on_start, on_batch, on_epoch):
                train(mixed, folder, recipe, on_start=on_start, on_batch=on_batch, on_epoch=on_epoch)
        after = _judged(folder / "weights" / "last.pt", status_from_share, predicted, title, reporter)
        interval = ap_interval(after.table, after.group_numbers, seed=seed)
        found.append(
            replace(
                candidate,
                probed=ap50(after),
                probed_low=interval.low,
                probed_high=interval.high,
                probed_on=len(after.images),
            )
        )
    return placed(found)


def _labelled_footage(sources: Sequence[Source]) -> Source:
    """The labelled images of several sources as one."""
    parts = [(f"{number}:", s.keep(s.images["labelled"].astype(bool))) for number, s in enumerate(sources)]
    images = [
        s.images.assign(image=prefix + s.images["image"], group=prefix + s.images["group"])
        for prefix, s in parts
    ]
    boxes = [s.annotations.assign(image=prefix + s.annotations["image"]) for prefix, s in parts]
    return replace(
        sources[0],
        images=concatenate(images, IMAGE_COLUMNS)[list(IMAGE_COLUMNS)],
        annotations=concatenate(boxes, BOX_COLUMNS),
    )


def _old_images(training: Sequence[Source], status_from_share: Source) -> Source:
    """REPLAY images of what the detector was trained with; none where that is not known."""
    if not training:
        return status_from_share.keep(status_from_share.images["image"].isin([]))
    images = training[0].images
    images = images[images["labelled"].astype(bool)]
    return training[0].keep(training[0].images["image"].isin(evenly(images, REPLAY)["image"]))


def _key_of(recipe: Recipe, weights_sha256: str, mixed: Source) -> str:
    """Twelve hex digits over all that a short training depends on: weights, settings, images and labels."""
    told = [
        weights_sha256,
        data_sha256(mixed),
        recipe.epochs,
        recipe.imgsz,
        recipe.batch,
        recipe.seed,
        recipe.extra,
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def _judged(
    weights: Path, status_from_share: Source, predicted: PredictedDomains, title: str, reporter: Reporter
) -> Domain:
    """The labelled footage as the detector sees it after its short training."""
    assert predicted.detector is not None
    settings = Settings(imgsz=predicted.settings.imgsz)
    detector = Detector(weights, device=predicted.detector.device)
    store = Store(predict_folder(settings, file_sha256(weights)))
    with reporter.stage("predict", title, len(status_from_share.images)) as tick:
        after = detector.predict(status_from_share.images, settings, store, tick=tick, embed_detections=False)
    return build_domain(
        Opened("footage", "real_world", status_from_share),
        status_from_share.images,
        after,
        settings.imgsz,
        predicted.classes,
    )
