"""Training with Ultralytics: a new run folder each time, a fixed seed, resumable.

The only file that calls it to train.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ultralytics.utils import SETTINGS

from datasets.containment import expanded
from datasets.data_yaml import path_exists
from datasets.errors import EnvironmentProblem, InputError
from datasets.files import draft_file, write_text
from datasets.source import split_spec
from datasets.tables import Source
from train.environment import frames_folder, ultralytics_folder
from train.forward import choose_device, first_line, load_checkpoint
from train.history import read_history
from train.passes import network_threads
from train.recipe import Recipe, is_finished
from train.run import LINEAGE, file_sha256, is_last_check
from train.staging import count_boxes_by_split, stage

# Our copy of last.pt. Ultralytics writes its own in place, and a kill in that moment leaves half a file.
CHECKPOINT = "resume.pt"
# What Ultralytics calls in a training where it is installed.
TRACKERS = ("clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
# Marks the folder of a training that `train` began, and holds its recipe: any other folder is left as it is.
BEGUN = "shiftscope-begun.json"


def _do_nothing(*_: Any) -> None:
    """Ignore a callback."""


@dataclass(frozen=True)
class TrainingCallbacks:
    """What `train` calls; each does nothing by default.

    on_start: called once with the number of batches still to come
    on_batch: called after each batch
    on_epoch: called with one line of text about each finished epoch
    on_model: called with the `ultralytics.YOLO` before it is trained
    """

    on_start: Callable[[int], None] = _do_nothing
    on_batch: Callable[[], None] = _do_nothing
    on_epoch: Callable[[str], None] = _do_nothing
    on_model: Callable[[Any], object] = _do_nothing


NO_CALLBACKS = TrainingCallbacks()


def train(source: Source, folder: Path, recipe: Recipe, callbacks: TrainingCallbacks = NO_CALLBACKS) -> Path:
    """Train a detector; an interrupted training in the same folder continues after its last complete epoch.

    When memory runs out, the batch is halved and the training continues from its last complete epoch.

    Parameters
    ----------
    source
        Data with labelled images in the splits train and val.
    folder
        The run folder: new, or that of an interrupted training. A finished run is returned as it is.
    recipe
        How to train.
    callbacks
        Functions to call while training.

    Returns
    -------
    Path
        The run folder.

    Raises
    ------
    InputError
        The source lacks a split, the model cannot be loaded, Ultralytics refuses an argument, or the folder
        holds something else.
    EnvironmentProblem
        Not even one image a batch fits into memory.
    """
    if is_finished(folder):
        return folder
    checkpoint = folder / "weights" / CHECKPOINT
    if not checkpoint.is_file():
        _clear_run_folder(folder, recipe)
    if not (checkpoint.is_file() and _count_epochs(folder) >= recipe.epochs):
        recipe = _train_within_memory(source, folder, recipe, callbacks)
    write_text(folder / LINEAGE, json.dumps(_lineage_of(source, recipe), indent=2))
    for leftover in (checkpoint, folder / BEGUN):
        leftover.unlink(missing_ok=True)
    return folder


def read_interrupted_recipe(folder: Path) -> Recipe:
    """The recipe of a training that was interrupted after at least one epoch.

    Parameters
    ----------
    folder
        The run folder.

    Returns
    -------
    Recipe
        The recipe that the training was started with.

    Raises
    ------
    InputError
        The folder holds no training that can be resumed.
    """
    if is_finished(folder):
        raise InputError(f"{folder}: is already finished; start from its checkpoint with --model {folder}")
    try:
        content = json.loads((folder / BEGUN).read_text(encoding="utf-8"))
        recipe = Recipe(**{**content, "model": Path(content["model"])})
    except (OSError, ValueError, KeyError, TypeError):
        recipe = None
    if recipe is None or not (folder / "weights" / CHECKPOINT).is_file():
        raise InputError(
            f"{folder}: holds no complete epoch of a Shiftscope training that can be resumed; "
            f"if it has a checkpoint, start from it with --model {folder}"
        )
    return recipe


def data_sha256(source: Source) -> str:
    """Hex digest of the training data: name, split and bytes of every labelled image, and its boxes.

    It does not depend on the folder.
    """
    digest = hashlib.sha256(json.dumps(source.classes).encode())
    images = source.images[source.images["labelled"]].sort_values("image")
    sizes = [Path(path).stat().st_size for path in images["path"]]
    for table in (
        images[["image", "split"]].assign(bytes=sizes),
        source.annotations.sort_values([*source.annotations]),
    ):
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _train_within_memory(
    source: Source, folder: Path, recipe: Recipe, callbacks: TrainingCallbacks
) -> Recipe:
    """Train to the last epoch, halving the batch when memory runs out; gives the recipe with that batch."""
    checkpoint = folder / "weights" / CHECKPOINT
    data_yaml = folder.parent / ".staged" / folder.name / "data.yaml"
    if not (checkpoint.is_file() and data_yaml.is_file()):
        data_yaml = stage(source, data_yaml.parent, frames_folder())
    recipe = replace(recipe, device=choose_device(recipe.device))
    while True:
        try:
            return replace(recipe, batch=_run_ultralytics(data_yaml, folder, recipe, callbacks))
        except (NotImplementedError, TypeError, ValueError) as error:
            if _count_epochs(folder):
                raise
            # Ultralytics rejects some values only when it builds what they name.
            raise InputError(
                f"Ultralytics rejects these arguments: {type(error).__name__}: {first_line(error)}"
            ) from error
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if recipe.batch <= 1:
                raise EnvironmentProblem(
                    f"{folder}: out of memory even with one image a batch; give a smaller --imgsz or a "
                    f"smaller model, and add --resume {folder} if an epoch is complete"
                ) from None
            recipe = replace(recipe, batch=recipe.batch // 2)
            callbacks.on_epoch(f"out of memory; continuing with batch={recipe.batch}")
        # The memory of the failed attempt is freed first, or the next one has no more room.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _lineage_of(source: Source, recipe: Recipe) -> dict[str, Any]:
    """What a finished run records about its origin, as JSON values."""
    sources = [_absolute_if_exists(part) for part in split_spec(source.spec)]
    return {
        "source": ",".join(sources),
        "sources": sources,
        "model": recipe.model.name,
        # A checkpoint is the earlier run: reports compare with it.
        "parent": str(recipe.model.absolute()) if recipe.model.suffix == ".pt" else None,
        "model_sha256": file_sha256(recipe.model) if recipe.model.is_file() else None,
        "data_sha256": data_sha256(source),
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "images": {str(split): int(count) for split, count in source.images["split"].value_counts().items()},
        # The horizontal axis of `shiftscope forecast`.
        "boxes": count_boxes_by_split(source, recipe.extra),
        "versions": {package: version(package) for package in ("ultralytics", "torch")},
    }


def _absolute_if_exists(spec: str) -> str:
    """A path that exists as an absolute one, anything else (a Kaggle handle) unchanged."""
    path = expanded(spec)
    return str(path.absolute()) if path_exists(path) else spec


def _clear_run_folder(folder: Path, recipe: Recipe) -> None:
    """Empty a folder for a training from its first epoch, and record the recipe in it.

    Only remains of an earlier `train` that was killed within its first epoch are deleted; raises InputError
    for any other content.
    """
    entries = list(folder.iterdir()) if folder.is_dir() else []
    if entries and not (folder / BEGUN).is_file():
        raise InputError(
            f"{folder}: holds {entries[0].name} but no Shiftscope training that can be resumed; "
            f"give a new folder, or start from its checkpoint with --model {folder}"
        )
    for entry in entries:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**asdict(recipe), "model": str(recipe.model)})
    (folder / BEGUN).write_text(text, encoding="utf-8")


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU or the machine ran out of memory, which PyTorch reports in the message only."""
    return isinstance(error, MemoryError) or any(
        words in str(error).lower() for words in ("out of memory", "can't allocate memory", "alloc_failed")
    )


def _count_epochs(folder: Path) -> int:
    """Complete epochs in a run's results.csv, 0 without one."""
    try:
        return len(read_history(folder / "results.csv"))
    except InputError:
        return 0


class _UltralyticsCallbacks:
    """Ultralytics' callbacks during one call of `YOLO.train`.

    batch: images a batch, lowered when Ultralytics halves it
    """

    def __init__(self, callbacks: TrainingCallbacks, batch: int) -> None:
        self.callbacks, self.batch = callbacks, batch

    def on_train_start(self, trainer: Any) -> None:
        """Use every core, and report the number of batches."""
        # Ultralytics leaves a core idle on a CPU.
        torch.set_num_threads(network_threads())
        self.callbacks.on_start((trainer.epochs - trainer.start_epoch) * len(trainer.train_loader))

    def on_train_batch_end(self, trainer: Any) -> None:
        """Report a batch."""
        self.callbacks.on_batch()

    def on_fit_epoch_end(self, trainer: Any) -> None:
        """Report a finished epoch."""
        if is_last_check(trainer):
            return
        if 0 < trainer.batch_size < self.batch:
            # Within the first epoch, Ultralytics halves the batch by itself and reports nothing.
            self.batch = trainer.batch_size
            self.callbacks.on_epoch(f"out of memory; continuing with batch={self.batch}")
        ap50 = trainer.metrics.get("metrics/mAP50(B)") if trainer.args.val else None
        self.callbacks.on_epoch(
            f"epoch {trainer.epoch + 1} of {trainer.epochs}"
            + (f": validation AP50 {ap50:.3f}" if ap50 is not None else "")
        )


def call_no_trackers() -> None:
    """Keep Ultralytics from calling the experiment trackers it finds installed.

    Its own settings call MLflow, Comet, ClearML and others as soon as they can be imported: that is a second
    record beside the run folder, seconds of imports, and with some of them a server somewhere else. Settings
    in a folder that the user chose (YOLO_CONFIG_DIR) are the user's.
    """
    # By its name: the folder of this process may be that of the one that started it.
    if SETTINGS.file.parent.parent.name == ultralytics_folder().name:
        SETTINGS.update(dict.fromkeys(TRACKERS, False))  # type: ignore[no-untyped-call]


def _copy_checkpoint(trainer: Any) -> None:
    """Keep a copy of last.pt that is never half written."""
    if not is_last_check(trainer):
        with draft_file(trainer.last.with_name(CHECKPOINT)) as draft:
            shutil.copyfile(trainer.last, draft)


def _run_ultralytics(data_yaml: Path, folder: Path, recipe: Recipe, callbacks: TrainingCallbacks) -> int:
    """Call `YOLO.train` once, resuming from a copied checkpoint if there is one; gives the final batch."""
    checkpoint = folder / "weights" / CHECKPOINT
    resume = checkpoint.is_file()
    model = load_checkpoint(
        checkpoint if resume else recipe.model, "give a .pt checkpoint or an architecture yaml"
    )
    progress = _UltralyticsCallbacks(callbacks, recipe.batch)
    for event in ("on_train_start", "on_train_batch_end", "on_fit_epoch_end"):
        model.add_callback(event, getattr(progress, event))
    callbacks.on_model(model)
    # Added last: the copied checkpoint marks an epoch whose other callbacks have all run.
    model.add_callback("on_fit_epoch_end", _copy_checkpoint)
    call_no_trackers()
    # Ultralytics prints its own bars to stdout whatever its settings; progress is reported by the callbacks.
    with open(os.devnull, "w", encoding="utf-8") as silence, contextlib.redirect_stdout(silence):
        model.train(**_ultralytics_arguments(data_yaml, folder, recipe, resume=resume))
    return progress.batch


def _ultralytics_arguments(data_yaml: Path, folder: Path, recipe: Recipe, *, resume: bool) -> dict[str, Any]:
    """Keyword arguments of `YOLO.train`."""
    arguments: dict[str, Any] = {
        "epochs": recipe.epochs,
        "imgsz": recipe.imgsz,
        "seed": recipe.seed,
        "deterministic": True,
        "plots": False,
        "verbose": False,
        "patience": 0,
        "amp": recipe.device != "cpu",
        **recipe.extra,
    }
    if resume:
        # Ultralytics restores the arguments of the first start, unless they are given again.
        arguments = {"resume": True, "save_dir": str(folder)}
    return arguments | {
        "data": str(data_yaml),
        "batch": recipe.batch,
        "device": recipe.device,
        "workers": recipe.extra.get("workers", 0 if recipe.device == "cpu" else 4),
        "project": str(folder.parent),
        "name": folder.name,
        "exist_ok": True,
    }
