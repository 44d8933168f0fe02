"""The real world watched while a detector learns: after an epoch it is shown footage too, and what it says there stands beside results.csv.

One line in a script of one's own, before `model.train()`:

    from reports.watch import attach
    attach(model, real_world="flight.mp4")

Import ultralytics first: it keeps the script's settings then. Otherwise Shiftscope's stricter ones hold (`train.environment`).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets import groups
from datasets.classes import with_classes
from datasets.errors import InputError
from datasets.groups import evenly
from datasets.naming import name_of, unique
from datasets.source import open_source
from datasets.tables import BOX_COLUMNS, CORNERS, Source, frame
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_BOXES
from diagnostics.label_free import FLOOR, SHOWN, expected_ap50, meaning_of, summarise_detections
from diagnostics.matching import Bools, Floats
from diagnostics.precision import accumulate, mean
from diagnostics.shift import Strings, novelty
from diagnostics.wording import fraction, percent
from reports.files import write_text
from train.environment import frames_folder
from train.forward import EpochPredictor
from train.predictions import Settings
from train.run import IN_DOMAIN, WATCHED, WATCHED_NUMBERS, is_last_check, read_watched

# Images of each domain that are looked at: enough for a curve, little beside an epoch.
IMAGES = 100
# Validation images whose embeddings are kept to hold footage against.
VALIDATION_IMAGES = 1000
# Of real_world.csv. ap50, ap: by labels. speaking: share of images with a detection at or above 0.25; shown: such detections an image; confidence: their mean.
# expected_ap50: if confidences meant what they mean in validation and objects were as many, a hint. distance: of the median image to validation's, over the distance that one in
# twenty of validation's own exceeds; outside: share of images beyond it. seconds: what the look took.
COLUMNS = ("epoch", "domain", *WATCHED_NUMBERS[1:])


def _print_line(line: str) -> None:
    """A line on stderr."""
    sys.stderr.write(line + "\n")


def attach(
    model: Any,
    real_world: str | Sequence[str] | Mapping[str, str | Source],
    *,
    every: int = 1,
    images: int = IMAGES,
    class_map: Mapping[str, str] | None = None,
    allow: Sequence[Path] = (),
    say: Callable[[str], None] = _print_line,
) -> Watch:
    """Watch footage while an `ultralytics.YOLO` is trained; returns the watch, whose `table` holds what was seen.

    real_world: a source, several, or domain names and their sources (see `datasets.source.open_source`). every: epochs between two looks. images: at most so many of each
    domain, spread over its clips. class_map: a source's class name -> the model's. say: told one line a look. Raises InputError for a source that cannot be opened;
    while training nothing is raised: a look that fails is told once, and the training goes on as if nobody watched.
    """
    if every < 1 or images < 1:
        raise InputError(f"every={every}, images={images}: both are at least 1")
    given: Mapping[str, str | Source]
    if isinstance(real_world, Mapping):
        given = real_world
    else:
        specs = [real_world] if isinstance(real_world, str) else list(real_world)
        taken: set[str] = set()
        given = {unique(name_of(spec), taken): spec for spec in specs}
    if IN_DOMAIN in given:
        raise InputError(
            f"{IN_DOMAIN}: is what the training validates on; give this footage another name, in a mapping from names to sources"
        )
    sources = {
        name: source
        if isinstance(source, Source)
        else open_source(source, cache=frames_folder(), allow=allow, say=say)
        for name, source in given.items()
    }
    watch = Watch(sources, every, images, dict(class_map or {}), say)
    for event in ("on_train_start", "on_val_start", "on_val_batch_end", "on_val_end", "on_fit_epoch_end"):
        model.add_callback(event, GuardedCallback(watch, event))
    return watch


@dataclass(frozen=True)
class GuardedCallback:
    """One callback: what its watch raises ends the watching, never the training. Can be pickled, as Ultralytics does with callbacks when it trains on several GPUs."""

    watch: Watch
    event: str

    def __call__(self, trainer: Any) -> None:
        """trainer: Ultralytics' trainer, or its validator for the events of validation."""
        # Of several processes that train together, the first speaks.
        if self.watch.failed or int(os.environ.get("RANK", -1)) > 0:
            return
        try:
            getattr(self.watch, self.event)(trainer)
        except Exception as error:  # whatever images, networks and disks raise
            self.watch.failed = f"{type(error).__name__}: {error}"
            self.watch.reset()
            self.watch.say(
                f"  the real world is no longer watched ({self.watch.failed}); the training goes on"
            )


@dataclass(frozen=True)
class ValidationResult:
    """What the validation of one epoch says by the way. embeddings (n, D), groups (n,): of its images. confidence, hit (m,): of its detections from FLOOR up.

    images, objects: how many. speaking: share of images with a shown detection; shown: shown detections an image; stated: their mean confidence.
    """

    embeddings: Floats
    groups: Strings
    confidence: Floats
    true_positive: Bools
    images: int
    annotations: int
    detection_rate: float
    shown: float
    stated: float | None


class Watch:
    """The looks of one training. table: one row an epoch and domain, see `COLUMNS`. failed: why it no longer watches, "" while it does."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        every: int,
        images: int,
        class_map: dict[str, str],
        say: Callable[[str], None],
    ) -> None:
        self.sources, self.every, self.images = dict(sources), every, images
        self.class_map, self.say = class_map, say
        self.table = pd.DataFrame()
        self.failed = ""
        self.reset()

    def reset(self) -> None:
        """Forget what belongs to a training that is under way, and take the hook off its network."""
        if hook := getattr(self, "_hook", None):
            hook.remove()
        self._hook: Any = None
        self._predictors: dict[str, tuple[EpochPredictor, Source]] = {}
        self._pooled: list[Floats] = []
        self._validation: ValidationResult | None = None
        self._trainer: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """What was asked for, without what only lives in this process."""
        kept = {"sources", "every", "images", "class_map", "say", "table", "failed"}
        return {name: value for name, value in self.__dict__.items() if name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.reset()

    def on_train_start(self, trainer: Any) -> None:
        """Prepare the images, in the classes that are trained; and take up what an interrupted training has seen."""
        self.reset()
        self._trainer = trainer
        names = trainer.data["names"]
        classes = tuple(str(names[i]) for i in sorted(names))
        for name, source in self.sources.items():
            try:
                mapped = with_classes(source, classes, self.class_map)
            except InputError as problem:
                self.say(f"  {name} is watched without its labels: {problem}")
                mapped = unlabelled(source)
            images = evenly(mapped.images, self.images)
            predictor = EpochPredictor(images["path"].tolist(), int(trainer.args.imgsz))
            if not predictor.kept:
                raise InputError(f"{mapped.spec}: none of its images can be decoded")
            images = images.iloc[predictor.kept].reset_index(drop=True)
            kept = mapped.keep(mapped.images["image"].isin(images["image"]))
            self._predictors[name] = predictor, kept
        earlier = read_watched(Path(trainer.save_dir) / WATCHED) if trainer.start_epoch else pd.DataFrame()
        self.table = earlier[earlier["epoch"] <= trainer.start_epoch] if len(earlier) else earlier

    def due(self, trainer: Any) -> bool:
        """Whether this epoch is one to look at: the first, every n-th, and the last that is planned."""
        epoch = trainer.epoch + 1
        return bool(epoch == 1 or epoch % self.every == 0 or epoch == trainer.epochs)

    def on_val_start(self, validator: Any) -> None:
        """Listen where the validation's images go through the network: what they look like to it costs nothing then."""
        self._validation = None
        if validator.training and self.due(self._trainer):
            pooled: list[Floats] = []
            self._pooled = pooled
            # Only until the validation ends: what hangs on the network when it is saved would be saved with it.
            self._hook = self._trainer.ema.ema.model[-2].register_forward_hook(
                lambda module, inputs, output: pooled.append(output.float().mean((2, 3)).cpu().numpy())
            )

    def on_val_batch_end(self, validator: Any) -> None:
        """Take the validation's own detections, before it clears them."""
        if self._hook is None or validator.batch_i < len(validator.dataloader) - 1:
            return
        stats = validator.metrics.stats
        sure = [np.asarray(values, float) for values in stats["conf"]]
        # Column 0 is the match at IoU .5.
        true_positive = [np.asarray(values, bool).reshape(-1, 10)[:, 0] for values in stats["tp"]]
        annotations = sum(len(labels) for labels in stats["target_cls"])
        confidence = np.concatenate(sure)
        shown = confidence >= SHOWN
        kept = confidence >= FLOOR
        self._validation = ValidationResult(
            np.zeros((0, 0), np.float32),
            np.zeros(0, str),
            confidence[kept],
            np.concatenate(true_positive)[kept],
            len(sure),
            annotations,
            float(np.mean([bool((values >= SHOWN).any()) for values in sure])),
            float(shown.sum() / len(sure)),
            float(confidence[shown].mean()) if shown.any() else None,
        )

    def on_val_end(self, validator: Any) -> None:
        """Stop listening."""
        if self._hook is None:
            return
        self._hook.remove()
        self._hook = None
        embeddings = np.concatenate(self._pooled)
        paths = pd.Series([os.path.realpath(path) for path in validator.dataloader.dataset.im_files])
        if self._validation is not None and len(embeddings) == len(paths):
            chosen = np.unique(
                np.linspace(0, len(paths) - 1, min(len(paths), VALIDATION_IMAGES)).round().astype(int)
            )
            clips = groups.assign(paths, None)[0].to_numpy(str)
            self._validation = replace(self._validation, embeddings=embeddings[chosen], groups=clips[chosen])

    def on_fit_epoch_end(self, trainer: Any) -> None:
        """Look at every domain, and write what was seen."""
        if is_last_check(trainer) or not self.due(trainer):
            return
        epoch, validation = trainer.epoch + 1, self._validation
        rows = []
        if validation is not None:
            known = trainer.metrics or {}
            rows.append(
                {
                    "epoch": epoch,
                    "domain": IN_DOMAIN,
                    "images": validation.images,
                    "labelled": validation.images,
                    "annotations": validation.annotations,
                    "ap50": known.get("metrics/mAP50(B)"),
                    "ap": known.get("metrics/mAP50-95(B)"),
                    "detection_rate": validation.detection_rate,
                    "shown": validation.shown,
                    "confidence": validation.stated,
                }
            )
        for name, (predictor, source) in self._predictors.items():
            begin = time.perf_counter()
            seen = _predict_domain(name, predictor, source, trainer)
            rows.append({"epoch": epoch, **_row_of(seen, validation), "seconds": time.perf_counter() - begin})
        self.table = pd.concat([self.table, pd.DataFrame(rows, columns=list(COLUMNS))], ignore_index=True)
        write_text(Path(trainer.save_dir) / WATCHED, self.table.to_csv(index=False, float_format="%.6g"))
        for row in rows:
            if row["domain"] != IN_DOMAIN:
                self.say(f"  epoch {epoch}, {_line_of(row)}")


def unlabelled(source: Source) -> Source:
    """The same images without their labels."""
    return replace(source, images=source.images.assign(labelled=False), annotations=frame([], BOX_COLUMNS))


def _predict_domain(name: str, predictor: EpochPredictor, source: Source, trainer: Any) -> Domain:
    """A domain as the network sees it now: its averaged weights, which are what is saved."""
    classes = tuple(str(value) for _, value in sorted(trainer.data["names"].items()))
    asked = trainer.args
    settings = Settings(int(asked.imgsz), iou=float(asked.iou), max_det=int(asked.max_det))
    agnostic = bool(asked.single_cls or asked.agnostic_nms)
    boxes, embeddings = predictor.predict(
        trainer.ema.ema, settings, half=bool(trainer.amp), agnostic=agnostic
    )
    images = np.repeat(source.images["image"].to_numpy(object), [len(found) for found in boxes])
    stacked = np.concatenate(boxes) if boxes else np.zeros((0, 6), np.float32)
    detections = pd.DataFrame(stacked[:, :4].astype(float), columns=CORNERS).assign(
        image=images, label=stacked[:, 5].astype(np.int64), confidence=stacked[:, 4].astype(float)
    )
    return Domain(
        name,
        "real_world",
        source.images,
        source.annotations,
        detections,
        embeddings,
        np.zeros((len(detections), 0), np.float32),
        int(trainer.args.imgsz),
        classes,
    )


def _row_of(seen: Domain, validation: ValidationResult | None) -> dict[str, Any]:
    """One look as a row: see `COLUMNS`."""
    detection_rate, shown, stated = summarise_detections(seen)
    annotations = int((~seen.annotations["crowd"].to_numpy(bool)).sum())
    row: dict[str, Any] = {
        "domain": seen.name,
        "images": len(seen.images),
        "labelled": int(seen.labelled.sum()),
        "annotations": annotations,
        "detection_rate": detection_rate,
        "shown": shown,
        "confidence": stated,
    }
    if annotations:
        average = accumulate(seen.table)[0]
        row |= {"ap50": mean(average[:, seen.table.bit(0.5)]), "ap": mean(average)}
    if validation is not None and validation.annotations >= MIN_BOXES and len(validation.confidence):
        sure = seen.detections["confidence"].to_numpy(float)
        expected = validation.annotations / validation.images * len(seen.images)
        row["expected_ap50"] = expected_ap50(
            meaning_of(validation.confidence, validation.true_positive), sure[sure >= FLOOR], expected
        )
    if validation is not None and len(validation.embeddings):
        centre, spread = validation.embeddings.mean(0), validation.embeddings.std(0) + 1e-3
        far = novelty(
            (validation.embeddings - centre) / spread,
            validation.groups,
            (seen.image_embeddings - centre) / spread,
        )
        if np.isfinite(far).any():
            row |= {"distance": float(np.nanmedian(far)), "outside": float(np.nanmean(far > 1))}
    return row


def _line_of(row: Mapping[str, Any]) -> str:
    """One look in words."""
    words = f"{row['domain']}: "
    if row.get("ap50") is not None:
        words += f"AP50 {fraction(row['ap50'])}, "
    elif row.get("expected_ap50") is not None:
        words += f"AP50 {fraction(row['expected_ap50'])} if confidences meant what they mean in validation, "
    words += f"detections on {percent(row['detection_rate'])} of the images"
    if row.get("outside") is not None:
        words += f"; {percent(row['outside'])} of all images outside what validation covers"
    return words
