"""`shiftscope train`: check the request, open the sources, train, and watch real-world footage meanwhile."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.classes import with_classes
from datasets.errors import InputError
from datasets.naming import domain_name, unique_name
from datasets.source import locate, merge_training_parts, open_source, open_training_parts, split_spec
from datasets.tables import Source
from reports.options import TrainOptions
from reports.pipeline.sources import Opened, with_corrections
from reports.progress import Reporter
from train.environment import frames_folder, runs_folder, trust_checkpoints
from train.run import IN_DOMAIN, WATCHED, reserve_run_folder, training_imgsz
from train.staging import labelled_splits

if TYPE_CHECKING:
    from train.recipe import Recipe

IMGSZ = 640
# Checkpoints that are kept by default when the real world is watched.
KEPT = 4


def train_run(options: TrainOptions, reporter: Reporter) -> Path:
    """Train a detector, and watch real-world footage if any is given.

    Every option is checked before a source is opened, and sources are opened before a checkpoint is fetched.

    Parameters
    ----------
    options
        The request.
    reporter
        Progress and messages.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    InputError
        An option, source or checkpoint cannot be used; no run folder is left behind.
    EnvironmentProblem
        The machine cannot train.
    """
    if options.trust_checkpoint:
        trust_checkpoints()
    from reports.watch import attach
    from train.pretrained import is_local, resolve_model
    from train.training import CHECKPOINT, TrainingCallbacks, train

    extra, device = _check_options(options)
    recipe = None if options.resume is None else _resumed_recipe(options, extra, device, reporter)
    for spec in (options.data, *(spec for _, spec in options.real_world)):
        for part in split_spec(spec):
            if not part.startswith("kaggle:"):
                locate(part, reporter.say)
    model = resolve_model(options.model, reporter.say) if recipe is None and is_local(options.model) else None
    source, footage = open_training_sources(options, reporter)
    if recipe is None:
        recipe = _new_recipe(options, model or resolve_model(options.model, reporter.say), extra, device)
    folder = (
        options.resume.absolute()
        if options.resume
        else reserve_run_folder(runs_folder() / "train", options.name)
    )

    def watch(yolo: Any) -> None:
        if footage:
            class_map = dict(options.class_map)
            attach(yolo, footage, every=options.watch_every, class_map=class_map, say=reporter.say)

    try:
        with reporter.training(f"Training on {options.data}") as progress:
            return train(source, folder, recipe, TrainingCallbacks(*progress, on_model=watch))
    except InputError:
        if options.resume is None and not (folder / "weights" / CHECKPOINT).is_file():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _check_options(options: TrainOptions) -> tuple[dict[str, Any], str]:
    """Ultralytics' further arguments and the device. Raises InputError."""
    from train.arguments import parse_training_arguments
    from train.forward import choose_device

    second = next((text for text in options.arguments if "=" not in text and Path(text).exists()), None)
    if second is not None:
        raise InputError(
            f"{second}: only one source is taken; join several with commas: "
            f"shiftscope train {options.data},{second}"
        )
    extra = parse_training_arguments(options.arguments)
    if options.real_world and options.resume is None:
        # The report compares these checkpoints on the same images.
        extra = {"save_period": max(1, options.epochs // KEPT), **extra}
    device = choose_device(options.device)
    if "," in device:
        raise InputError(
            f"--device {device}: trains on one GPU; give one of them, "
            "or train with Ultralytics and watch with reports.watch.attach"
        )
    if "/" in options.name or options.name in ("", ".", ".."):
        raise InputError(
            f"--name {options.name}: expected a name, not a path; runs are in {runs_folder() / 'train'}"
        )
    return extra, device


def _resumed_recipe(options: TrainOptions, extra: dict[str, Any], device: str, reporter: Reporter) -> Recipe:
    """The recipe of the run to resume, on a device. Raises InputError."""
    from train.training import read_interrupted_recipe

    assert options.resume is not None
    recipe = replace(read_interrupted_recipe(options.resume), device=device)
    if not options.real_world and (options.resume / WATCHED).is_file():
        reporter.say("  the real world is no longer watched: repeat --real-world to continue")
    if extra:
        raise InputError(
            f"{', '.join(extra)}: a resumed run keeps the arguments it was started with; omit these, "
            f"or start a new run with --model {options.resume}"
        )
    return recipe


def _new_recipe(options: TrainOptions, model: Path, extra: dict[str, Any], device: str) -> Recipe:
    """The recipe of a new run. Raises InputError if the model is no detector."""
    from train.forward import load_checkpoint
    from train.recipe import Recipe

    task = load_checkpoint(model, "give a .pt checkpoint or an architecture yaml").task
    if task != "detect":
        raise InputError(f"{model}: is a '{task}' model; only detection models can be trained")
    imgsz = options.imgsz or training_imgsz(model) or IMGSZ
    return Recipe(model, options.epochs, imgsz, options.batch, device, options.seed, extra)


def open_training_sources(
    options: TrainOptions, reporter: Reporter
) -> tuple[Source, dict[str, str | Source]]:
    """Open the data to train on and the footage to watch.

    Parameters
    ----------
    options
        The request.
    reporter
        Progress and messages.

    Returns
    -------
    tuple
        The training data, with labels as corrected in the App, and the footage by domain name, in its
        classes.

    Raises
    ------
    InputError
        A source cannot be used.
    """
    common: dict[str, Any] = {"cache": frames_folder(), "allow": options.allow_root, "say": reporter.say}
    parts = open_training_parts(options.data, classes=options.names, **common)
    source = merge_training_parts(options.data, parts)
    if not source.classes:
        raise InputError(f"{options.data}: names no classes; give --names pothole,crack or a data.yaml")
    if options.corrections:
        opened = with_corrections([Opened("training", "training", source)], source.classes, reporter)
        source = opened[0].source
    used = source.images[source.images["labelled"] & source.images["split"].isin(["train", "val"])]
    for part in parts if len(parts) > 1 else ():
        if not part.images["path"].isin(used["path"]).any():
            raise InputError(
                f"{part.spec}: has no labelled image in 'train' or 'val'; leave it out, "
                f"or run 'shiftscope inspect {part.spec}' to see what was read"
            )
    labelled_splits(source)
    footage: dict[str, str | Source] = {}
    taken = {IN_DOMAIN}
    for name, spec in options.real_world:
        real_world = open_source(spec, classes=source.classes, **common)
        footage[unique_name(name or domain_name(spec), taken)] = with_classes(
            real_world, source.classes, dict(options.class_map)
        )
    return source, footage
