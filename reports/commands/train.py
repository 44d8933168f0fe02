"""`shiftscope train`: what was asked for is checked before anything is opened or fetched; then a run of its own, watched if asked."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets.classes import with_classes
from datasets.errors import InputError
from datasets.naming import name_of, unique
from datasets.source import locate, one_dataset, open_source, parts_of, training_parts
from datasets.tables import Source
from reports.pipeline.sources import Opened, with_corrections
from reports.progress import Reporter
from train.environment import frames_folder, runs_folder, trust_checkpoints
from train.run import IN_DOMAIN, WATCHED, reserve_run_folder, trained_at
from train.staging import splits_of

IMGSZ = 640
# Checkpoints that are kept where the real world is watched and nothing else is asked for.
KEPT = 4


@dataclass(frozen=True)
class TrainOptions:
    """What `shiftscope train` was asked for. model, device: see `train.training.Recipe`; imgsz: None for that of the model's run. real_world: (name or None, source), watched
    every so many epochs. resume: an unfinished run folder. arguments: KEY=VALUE of Ultralytics.
    """

    data: str
    model: Path | None
    epochs: int
    imgsz: int | None
    batch: int
    device: str | None
    name: str
    resume: Path | None
    classes: tuple[str, ...]
    arguments: tuple[str, ...]
    real_world: tuple[tuple[str | None, str], ...]
    every: int
    class_map: tuple[tuple[str, str], ...]
    allow: tuple[Path, ...]
    trust: bool
    corrections: bool
    seed: int


def train_run(options: TrainOptions, reporter: Reporter) -> Path:
    """Train and return the run folder. Raises InputError, EnvironmentProblem."""
    if options.trust:
        trust_checkpoints()
    from reports.watch import attach
    from train.arguments import training_arguments
    from train.forward import chosen_device, load_checkpoint
    from train.pretrained import at_hand, starting_point
    from train.training import CHECKPOINT, Recipe, interrupted, train

    beside = next((text for text in options.arguments if "=" not in text and Path(text).exists()), None)
    if beside is not None:
        raise InputError(
            f"{beside}: only one source is taken; several are one with commas between: shiftscope train {options.data},{beside}"
        )
    extra = training_arguments(options.arguments)
    if options.real_world and options.resume is None:
        # Kept so that the report can show the same images to each of them.
        extra = {"save_period": max(1, options.epochs // KEPT), **extra}
    device = chosen_device(options.device)
    if "," in device:
        raise InputError(
            f"--device {device}: trains on one GPU; give one of them, or train with Ultralytics and watch with reports.watch.attach"
        )
    if "/" in options.name or options.name in ("", ".", ".."):
        raise InputError(
            f"--name {options.name}: expected a name, not a path; runs lie in {runs_folder() / 'train'}"
        )
    recipe = None
    if options.resume is not None:
        recipe = replace(interrupted(options.resume), device=device)
        if not options.real_world and (options.resume / WATCHED).is_file():
            reporter.say("  the real world is not watched any more: repeat --real-world to watch on")
        if extra:
            raise InputError(
                f"{', '.join(extra)}: a resumed run goes on with the arguments it was started with; leave these away, or start a new one with --model {options.resume}"
            )
    for _, spec in ((None, options.data), *options.real_world):
        for part in parts_of(spec):
            if not part.startswith("kaggle:"):
                locate(part, reporter.say)
    # What costs nothing to check comes first, a download last.
    model = starting_point(options.model, reporter.say) if recipe is None and at_hand(options.model) else None
    source, footage = _open_sources(options, reporter)
    if recipe is None:
        model = model or starting_point(options.model, reporter.say)
        task = load_checkpoint(model, "give a .pt checkpoint or an architecture yaml").task
        if task != "detect":
            raise InputError(f"{model}: is a '{task}' model; only detection models are trained here")
        imgsz = options.imgsz or trained_at(model) or IMGSZ
        recipe = Recipe(model, options.epochs, imgsz, options.batch, device, options.seed, extra)
    folder = (
        options.resume.absolute()
        if options.resume
        else reserve_run_folder(runs_folder() / "train", options.name)
    )

    def watched(yolo: Any) -> None:
        if footage:
            attach(
                yolo,
                footage,
                every=options.every,
                class_map=dict(options.class_map),
                say=reporter.say,
            )

    try:
        with reporter.training(f"Training on {options.data}") as (on_start, on_batch, on_epoch):
            return train(
                source,
                folder,
                recipe,
                on_start=on_start,
                on_batch=on_batch,
                on_epoch=on_epoch,
                on_model=watched,
            )
    except InputError:
        # What cannot be trained from leaves no run behind.
        if options.resume is None and not (folder / "weights" / CHECKPOINT).is_file():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _open_sources(options: TrainOptions, reporter: Reporter) -> tuple[Source, dict[str, str | Source]]:
    """The source to train on, with labels as corrected in the App, and the footage to watch in its classes. Raises InputError."""
    given: dict[str, Any] = {"cache": frames_folder(), "allow": options.allow, "say": reporter.say}
    parts = training_parts(options.data, classes=options.classes, **given)
    source = one_dataset(options.data, parts)
    if not source.classes:
        raise InputError(f"{options.data}: names no classes; give --names pothole,crack or a data.yaml")
    if options.corrections:
        opened = with_corrections([Opened("training", "training", source)], source.classes, reporter)
        source = opened[0].source
    taught = source.images[source.images["labelled"] & source.images["split"].isin(["train", "val"])]
    for part in parts if len(parts) > 1 else ():
        if not part.images["path"].isin(taught["path"]).any():
            raise InputError(
                f"{part.spec}: has no labelled image in 'train' or 'val'; leave it out, or see with 'shiftscope inspect {part.spec}' what was read"
            )
    splits_of(source)
    footage: dict[str, str | Source] = {}
    taken = {IN_DOMAIN}
    for name, spec in options.real_world:
        real_world = open_source(spec, classes=source.classes, **given)
        footage[unique(name or name_of(spec), taken)] = with_classes(
            real_world, source.classes, dict(options.class_map)
        )
    return source, footage
