"""Real-world footage predicted while a detector trains; the results are written beside results.csv.

It takes one line in any script, before `model.train()`:

    from reports.watch import attach
    attach(model, real_world="flight.mp4")

Import ultralytics first to keep the script's settings; otherwise the stricter ones of `train.environment`
hold.
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
from datasets.files import write_text
from datasets.groups import evenly
from datasets.naming import domain_name, unique_name
from datasets.source import open_source
from datasets.tables import BOX_COLUMNS, CORNERS, Source, frame
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_BOXES
from diagnostics.label_free import FLOOR, SHOWN, expected_ap50, fit_calibration, summarise_detections
from diagnostics.matching import Bools, Floats
from diagnostics.precision import accumulate, mean
from diagnostics.shift import Strings, novelty
from diagnostics.wording import fraction, percent
from train.environment import frames_folder
from train.forward import EpochPredictor, is_transformer
from train.predictions import Settings
from train.run import IN_DOMAIN, WATCHED, WATCHED_NUMBERS, is_last_check, read_watched

# Images predicted per domain: enough for a curve, and fast compared with an epoch.
IMAGES = 100
# Validation images whose embeddings are kept for comparison.
VALIDATION_IMAGES = 1000
# Columns of real_world.csv:
# - ap50, ap: from labels
# - detection_rate: share of images with a detection at or above 0.25; shown: such detections per image
# - confidence: their mean confidence
# - expected_ap50: a rough estimate, for confidences that are calibrated as in validation and objects that are
#   equally frequent
# - distance: of the median image's embedding to those of validation, divided by the distance that 5 % of the
#   validation images exceed; outside: share of images with a distance above 1
# - seconds: duration of the prediction
COLUMNS = ("epoch", "domain", *WATCHED_NUMBERS[1:])


def _print_line(line: str) -> None:
    """Print a line on stderr."""
    sys.stderr.write(line + "\n")


# Seven parameters: all after the second are options of a call that is one line in a script.
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
    """Predict real-world footage while an `ultralytics.YOLO` trains.

    Nothing is raised while the model trains: a failure is reported once, and the training continues without a
    watch.

    Parameters
    ----------
    model
        The `ultralytics.YOLO`, before `train` is called.
    real_world
        A source, several, or a mapping of domain names to sources; see `datasets.source.open_source`.
    every
        Epochs between two predictions.
    images
        Most images per domain, spread over its clips.
    class_map
        A source's class name to the model's.
    allow
        Folders outside a source that the source may refer to.
    say
        Called with one line per domain and epoch.

    Returns
    -------
    Watch
        Its `table` has the results.

    Raises
    ------
    InputError
        A source cannot be opened, or a number is below 1.
    """
    if every < 1 or images < 1:
        raise InputError(f"every={every}, images={images}: both must be at least 1")
    sources = _open_footage(real_world, allow, say)
    watch = Watch(sources, every, images, dict(class_map or {}), say)
    for event in ("on_train_start", "on_val_start", "on_val_batch_end", "on_val_end", "on_fit_epoch_end"):
        model.add_callback(event, GuardedCallback(watch, event))
    return watch


def _open_footage(
    real_world: str | Sequence[str] | Mapping[str, str | Source],
    allow: Sequence[Path],
    say: Callable[[str], None],
) -> dict[str, Source]:
    """Open the sources that `attach` is given, by domain name. Raises InputError."""
    by_name: Mapping[str, str | Source]
    if isinstance(real_world, Mapping):
        by_name = real_world
    else:
        specs = [real_world] if isinstance(real_world, str) else list(real_world)
        taken: set[str] = set()
        by_name = {unique_name(domain_name(spec), taken): spec for spec in specs}
    if IN_DOMAIN in by_name:
        raise InputError(
            f"{IN_DOMAIN}: is the name of the images that the training validates on; "
            "give this footage another name, in a mapping from names to sources"
        )
    return {
        name: source
        if isinstance(source, Source)
        else open_source(source, cache=frames_folder(), allow=allow, say=say)
        for name, source in by_name.items()
    }


@dataclass(frozen=True)
class GuardedCallback:
    """A callback of which an exception ends the watch but not the training.

    It can be pickled, which Ultralytics does with callbacks when it trains on several GPUs.

    watch: the watch
    event: name of the watch's method
    """

    watch: Watch
    event: str

    def __call__(self, trainer: Any) -> None:
        """Call the watch with Ultralytics' trainer, or with its validator for the events of validation."""
        # Of several processes that train together, the first one watches.
        if self.watch.failed or int(os.environ.get("RANK", -1)) > 0:
            return
        try:
            getattr(self.watch, self.event)(trainer)
        except Exception as error:  # images, networks and disks raise anything
            self.watch.failed = f"{type(error).__name__}: {error}"
            self.watch.reset()
            self.watch.say(
                f"  the real world is no longer watched ({self.watch.failed}); the training continues"
            )


@dataclass(frozen=True)
class ValidationResult:
    """The validation of one epoch.

    embeddings: of its images, (n, D)
    groups: of its images, (n,)
    confidence: of its detections at or above FLOOR, (m,)
    true_positive: whether each of them matches an annotation at IoU 0.5, (m,)
    images, annotations: how many
    detection_rate: share of images with a detection at or above SHOWN
    shown: such detections per image
    stated: their mean confidence, None without any
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
    """Predicts real-world footage during one training.

    sources: by domain name
    every: epochs between two predictions
    images: most images per domain
    class_map: a source's class name to the model's
    say: called with one line per domain and epoch
    table: one row per epoch and domain, see `COLUMNS`
    failed: why the watch ended, "" while it watches
    """

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
        """Drop everything that belongs to the current training, and remove the hook from its network."""
        if hook := getattr(self, "_hook", None):
            hook.remove()
        self._hook: Any = None
        self._predictors: dict[str, tuple[EpochPredictor, Source]] = {}
        self._pooled: list[Floats] = []
        self._validation: ValidationResult | None = None
        self._trainer: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """The settings and results, without hooks and networks, which cannot be pickled."""
        names = {"sources", "every", "images", "class_map", "say", "table", "failed"}
        return {name: value for name, value in self.__dict__.items() if name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled watch."""
        self.__dict__.update(state)
        self.reset()

    def on_train_start(self, trainer: Any) -> None:
        """Prepare the images in the training's classes, and read the results of an interrupted training."""
        self.reset()
        self._trainer = trainer
        names = trainer.data["names"]
        classes = tuple(str(names[i]) for i in sorted(names))
        for name, source in self.sources.items():
            try:
                mapped = with_classes(source, classes, self.class_map)
            except InputError as problem:
                self.say(f"  {name} is watched without its labels: {problem}")
                mapped = _without_labels(source)
            images = evenly(mapped.images, self.images)
            predictor = EpochPredictor(
                images["path"].tolist(), int(trainer.args.imgsz), stretched=is_transformer(trainer.ema.ema)
            )
            if not predictor.decoded:
                raise InputError(f"{mapped.spec}: none of its images can be decoded")
            images = images.iloc[predictor.decoded].reset_index(drop=True)
            self._predictors[name] = predictor, mapped.keep(mapped.images["image"].isin(images["image"]))
        earlier = read_watched(Path(trainer.save_dir) / WATCHED) if trainer.start_epoch else pd.DataFrame()
        self.table = earlier[earlier["epoch"] <= trainer.start_epoch] if len(earlier) else earlier

    def due(self, trainer: Any) -> bool:
        """Whether to predict after this epoch: the first, every n-th and the last planned one."""
        epoch = trainer.epoch + 1
        return bool(epoch == 1 or epoch % self.every == 0 or epoch == trainer.epochs)

    def on_val_start(self, validator: Any) -> None:
        """Hook the network, so that the embeddings of the validation images cost no forward pass."""
        self._validation = None
        if validator.training and self.due(self._trainer):
            pooled: list[Floats] = []
            self._pooled = pooled
            # Removed when the validation ends, because a hook would be saved with the network.
            self._hook = self._trainer.ema.ema.model[-2].register_forward_hook(
                lambda module, inputs, output: pooled.append(output.float().mean((2, 3)).cpu().numpy())
            )

    def on_val_batch_end(self, validator: Any) -> None:
        """Read the validation's detections, before it clears them."""
        if self._hook is None or validator.batch_i < len(validator.dataloader) - 1:
            return
        stats = validator.metrics.stats
        per_image = [np.asarray(values, float) for values in stats["conf"]]
        # Column 0 is the match at IoU 0.5.
        true_positive = [np.asarray(values, bool).reshape(-1, 10)[:, 0] for values in stats["tp"]]
        annotations = sum(len(labels) for labels in stats["target_cls"])
        confidence = np.concatenate(per_image)
        shown = confidence >= SHOWN
        above_floor = confidence >= FLOOR
        self._validation = ValidationResult(
            np.zeros((0, 0), np.float32),
            np.zeros(0, str),
            confidence[above_floor],
            np.concatenate(true_positive)[above_floor],
            len(per_image),
            annotations,
            float(np.mean([bool((values >= SHOWN).any()) for values in per_image])),
            float(shown.sum() / len(per_image)),
            float(confidence[shown].mean()) if shown.any() else None,
        )

    def on_val_end(self, validator: Any) -> None:
        """Remove the hook, and keep the embeddings."""
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
        """Predict every domain, and write the results."""
        if is_last_check(trainer) or not self.due(trainer):
            return
        epoch, validation = trainer.epoch + 1, self._validation
        rows = []
        if validation is not None:
            metrics = trainer.metrics or {}
            rows.append(
                {
                    "epoch": epoch,
                    "domain": IN_DOMAIN,
                    "images": validation.images,
                    "labelled": validation.images,
                    "annotations": validation.annotations,
                    "ap50": metrics.get("metrics/mAP50(B)"),
                    "ap": metrics.get("metrics/mAP50-95(B)"),
                    "detection_rate": validation.detection_rate,
                    "shown": validation.shown,
                    "confidence": validation.stated,
                }
            )
        for name, (predictor, source) in self._predictors.items():
            begin = time.perf_counter()
            domain = _predict_domain(name, predictor, source, trainer)
            row = {"epoch": epoch, **_row_of(domain, validation), "seconds": time.perf_counter() - begin}
            rows.append(row)
        self.table = pd.concat([self.table, pd.DataFrame(rows, columns=list(COLUMNS))], ignore_index=True)
        write_text(Path(trainer.save_dir) / WATCHED, self.table.to_csv(index=False, float_format="%.6g"))
        for row in rows:
            if row["domain"] != IN_DOMAIN:
                self.say(f"  epoch {epoch}, {_line_of(row)}")


def _without_labels(source: Source) -> Source:
    """The same images without their labels."""
    return replace(source, images=source.images.assign(labelled=False), annotations=frame([], BOX_COLUMNS))


def _predict_domain(name: str, predictor: EpochPredictor, source: Source, trainer: Any) -> Domain:
    """A domain with the detections of the network's averaged weights, which are those that are saved."""
    classes = tuple(str(value) for _, value in sorted(trainer.data["names"].items()))
    arguments = trainer.args
    settings = Settings(int(arguments.imgsz), iou=float(arguments.iou), max_det=int(arguments.max_det))
    agnostic = bool(arguments.single_cls or arguments.agnostic_nms)
    boxes, embeddings = predictor.predict(
        trainer.ema.ema, settings, half=bool(trainer.amp), agnostic=agnostic
    )
    images = np.repeat(source.images["image"].to_numpy(object), [len(rows) for rows in boxes])
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


def _row_of(domain: Domain, validation: ValidationResult | None) -> dict[str, Any]:
    """The results of a domain as a row, see `COLUMNS`."""
    detection_rate, shown, stated = summarise_detections(domain)
    annotations = int((~domain.annotations["crowd"].to_numpy(bool)).sum())
    row: dict[str, Any] = {
        "domain": domain.name,
        "images": len(domain.images),
        "labelled": int(domain.labelled.sum()),
        "annotations": annotations,
        "detection_rate": detection_rate,
        "shown": shown,
        "confidence": stated,
    }
    if annotations:
        average = accumulate(domain.table)[0]
        row |= {"ap50": mean(average[:, domain.table.bit(0.5)]), "ap": mean(average)}
    if validation is not None and validation.annotations >= MIN_BOXES and len(validation.confidence):
        confidence = domain.detections["confidence"].to_numpy(float)
        expected = validation.annotations / validation.images * len(domain.images)
        row["expected_ap50"] = expected_ap50(
            fit_calibration(validation.confidence, validation.true_positive),
            confidence[confidence >= FLOOR],
            expected,
        )
    if validation is not None and len(validation.embeddings):
        centre, spread = validation.embeddings.mean(0), validation.embeddings.std(0) + 1e-3
        distances = novelty(
            (validation.embeddings - centre) / spread,
            validation.groups,
            (domain.image_embeddings - centre) / spread,
        )
        if np.isfinite(distances).any():
            row |= {"distance": float(np.nanmedian(distances)), "outside": float(np.nanmean(distances > 1))}
    return row


def _line_of(row: Mapping[str, Any]) -> str:
    """A row in words."""
    words = f"{row['domain']}: "
    if row.get("ap50") is not None:
        words += f"AP50 {fraction(row['ap50'])}, "
    elif row.get("expected_ap50") is not None:
        words += f"AP50 {fraction(row['expected_ap50'])} expected, if calibrated as in validation, "
    words += f"detections on {percent(row['detection_rate'])} of the images"
    if row.get("outside") is not None:
        words += f"; {percent(row['outside'])} of all images unlike those of validation"
    return words
