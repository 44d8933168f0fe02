"""Short trainings with each candidate dataset, scored on labelled images of the footage.

A dataset that resembles the footage need not help: its labels may follow another rule, or the detector may
know its content already. A short training shows that, at the price of one to a few minutes for each dataset.
All trainings start from the same weights and seed, take as many steps, and use as many images beside the same
training images.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets.errors import InputError
from datasets.groups import evenly
from datasets.tables import BOX_COLUMNS, IMAGE_COLUMNS, Source, concatenate
from diagnostics.candidates import Candidate, order_candidates
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_BOXES, ap_interval
from reports.pipeline.inference import PredictedDomains, build_domain
from reports.pipeline.sources import Opened
from reports.progress import Reporter
from train.environment import runs_folder
from train.forward import Detector
from train.predictions import Settings, Store, predict_folder
from train.recipe import Recipe, is_finished, scratch_recipe
from train.remembered import RememberedDetector
from train.run import Run, file_sha256
from train.training import TrainingCallbacks, data_sha256, train

# Training images in the mixture, so that the detector does not forget them.
REPLAY = 48
# Fewest steps of a training, in whole epochs. In `make prove-next` most of what a few dozen images can teach
# was learned by then.
STEPS, BATCH = 60, 16
# A third of the initial rate of the demo's training: a higher one would undo what the weights have learned.
LEARNING_RATE = 0.001


def mixture(replay: Source, picked: Source, test: Source, name: str) -> Source:
    """The data of a short training: earlier training images and picked ones.

    One test image is in val, because Ultralytics requires a validation split; nothing is learned from it.

    Parameters
    ----------
    replay
        Earlier training images.
    picked
        Images of the candidate.
    test
        Labelled images of the footage.
    name
        Name of the mixture.

    Returns
    -------
    Source
        The labelled images of both in train, one test image in val.
    """
    one = test.keep(test.images["image"].isin(test.images["image"].head(1)))
    parts = [(replay, "training:", "train"), (picked, "pool:", "train"), (one, "test:", "val")]
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
    """The recipe of a training from a checkpoint, of at least STEPS steps on so many images."""
    usual = {k: v for k, v in scratch_recipe(0).extra.items() if k not in ("pretrained", "save_period")}
    return Recipe(
        weights,
        epochs=max(1, math.ceil(STEPS * BATCH / images)),
        imgsz=imgsz,
        batch=BATCH,
        device=device,
        seed=seed,
        extra={**usual, "lr0": LEARNING_RATE, "val": False},
    )


@dataclass(frozen=True)
class _Probe:
    """What all short trainings have in common.

    predicted: every domain, with the run and the detector
    run: the run of the detector
    detector: the detector that training starts from
    test: labelled images of the footage
    replay: earlier training images
    seed: seed of the trainings and of the intervals
    reporter: where progress is shown
    """

    predicted: PredictedDomains
    run: Run
    detector: Detector
    test: Source
    replay: Source
    seed: int
    reporter: Reporter

    def measure(self, candidate: Candidate, source: Source) -> Candidate:
        """The candidate with probed, its interval and probed_on, after a short training that is kept."""
        labelled = source.images[source.images["labelled"]]
        picked = evenly(labelled, candidate.compared)["image"]
        mixed = mixture(
            self.replay, source.keep(source.images["image"].isin(picked)), self.test, candidate.name
        )
        images, imgsz = int((mixed.images["split"] == "train").sum()), self.predicted.settings.imgsz
        recipe = short_training(self.run.weights, images, imgsz, self.detector.device, self.seed)
        folder = runs_folder() / "probes" / _key_of(recipe, self.run.sha256, mixed)
        title = f"Probing {candidate.name}: a short training with {len(picked)} of its images"
        if not is_finished(folder):
            with self.reporter.training(title) as callbacks:
                train(mixed, folder, recipe, TrainingCallbacks(*callbacks))
        after = self.predict_test(folder / "weights" / "last.pt", title)
        interval = ap_interval(after.table, after.group_numbers, seed=self.seed)
        return replace(
            candidate,
            probed=ap50(after),
            probed_low=interval.low,
            probed_high=interval.high,
            probed_on=len(after.images),
        )

    def predict_test(self, weights: Path, title: str) -> Domain:
        """The test images with the detections of trained weights."""
        settings = Settings(imgsz=self.predicted.settings.imgsz)
        detector = Detector(weights, device=self.detector.device)
        store = Store(predict_folder(settings, file_sha256(weights)))
        with self.reporter.stage("predict", title, len(self.test.images)) as tick:
            after = detector.predict(self.test.images, settings, store, tick=tick, embed_detections=False)
        return build_domain(
            Opened("footage", "real_world", self.test),
            self.test.images,
            after,
            settings.imgsz,
            self.predicted.classes,
        )


def probe(
    candidates: Sequence[Candidate],
    predicted: PredictedDomains,
    footage: Sequence[Domain],
    seed: int,
    reporter: Reporter,
) -> list[Candidate]:
    """Rank candidates by AP50 on labelled footage after a short training with as many images of each.

    Candidates without labels cannot be probed and rank last. Trainings are kept, and interrupted ones
    continue.

    Parameters
    ----------
    candidates
        Candidates that `diagnostics.candidates` has compared.
    predicted
        Every domain, with the run and the detector.
    footage
        The domains that the detector is for.
    seed
        Seed of the trainings and of the intervals.
    reporter
        Where progress is shown.

    Returns
    -------
    list of Candidate
        Best first.

    Raises
    ------
    InputError
        The footage has fewer than MIN_BOXES annotations.
    """
    assert predicted.run is not None
    detector = predicted.detector
    if isinstance(detector, RememberedDetector):
        detector = detector.loaded
    if not isinstance(detector, Detector):
        raise InputError(
            "--probe trains from the detector's checkpoint: give --run, or --weights with a .pt file"
        )
    sources = {o.name: o.source for o in predicted.opened}
    test = _labelled_footage([sources[domain.name] for domain in footage])
    annotations = int((~test.annotations["crowd"].astype(bool)).sum())
    if annotations < MIN_BOXES:
        names = ", ".join(domain.name for domain in footage)
        raise InputError(
            f"--probe needs labelled footage: {names} has {annotations} annotations, {MIN_BOXES} are needed; "
            "label the images of test.csv first (written without --probe), or leave out --probe"
        )
    replay = _replayed([o.source for o in predicted.opened if o.role == "training"], test)
    shared = _Probe(predicted, predicted.run, detector, test, replay, seed, reporter)
    return order_candidates(
        [
            shared.measure(candidate, sources[candidate.name]) if candidate.labelled else candidate
            for candidate in candidates
        ]
    )


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


def _replayed(training: Sequence[Source], test: Source) -> Source:
    """REPLAY images of the detector's training data; none where that is not known."""
    if not training:
        return test.keep(test.images["image"].isin([]))
    images = training[0].images
    images = images[images["labelled"].astype(bool)]
    return training[0].keep(training[0].images["image"].isin(evenly(images, REPLAY)["image"]))


def _key_of(recipe: Recipe, weights_sha256: str, mixed: Source) -> str:
    """Twelve hex digits over all that a short training depends on: weights, settings, images and labels."""
    inputs = [
        weights_sha256,
        data_sha256(mixed),
        recipe.epochs,
        recipe.imgsz,
        recipe.batch,
        recipe.seed,
        recipe.extra,
    ]
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
