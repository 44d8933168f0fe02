"""Training with Ultralytics: absolute paths, a new run folder each time, a fixed seed, resumable. The only file that calls it to train."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from datasets.errors import EnvironmentProblem, InputError
from datasets.tables import Source
from train.environment import frames_folder
from train.forward import chosen_device, load_checkpoint
from train.history import read_history
from train.passes import available_cores
from train.pretrained import ARCHITECTURE
from train.run import LINEAGE, file_sha256, is_last_check
from train.staging import stage

# Our copy of last.pt. Ultralytics writes its own in place, and a kill in that moment leaves half a file.
CHECKPOINT = "resume.pt"


@dataclass(frozen=True)
class Recipe:
    """How to train. model: see `train.pretrained.starting_point`. device: None for `train.forward.chosen_device`. extra: any further Ultralytics argument under its own name."""

    model: Path
    epochs: int
    imgsz: int
    batch: int = 16
    device: str | None = None
    seed: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


def road_world_recipe(seed: int) -> Recipe:
    """The demo's recipe: a small network, every step counted (no accumulation, no warm-up, which would take a quarter of them), cheap augmentations."""
    return Recipe(
        ARCHITECTURE,
        epochs=18,
        imgsz=256,
        batch=16,
        device="cpu",
        seed=seed,
        extra={
            "nbs": 16,
            "optimizer": "AdamW",
            "lr0": 0.003,
            "lrf": 0.02,
            "cos_lr": True,
            "warmup_epochs": 0.0,
            "mosaic": 0.0,
            "scale": 0.3,
            "erasing": 0.0,
            "auto_augment": None,
            "cache": "ram",
            "pretrained": False,
            # Three checkpoints, which the report compares: of the first epoch, the eleventh and the last.
            "save_period": 10,
        },
    )


def is_finished(folder: Path) -> bool:
    """Whether a run has been trained to its end by `train`."""
    return (folder / LINEAGE).is_file()


def train(
    source: Source,
    folder: Path,
    recipe: Recipe,
    *,
    on_start: Callable[[int], None],
    on_batch: Callable[[], None],
    on_epoch: Callable[[str], None],
    on_model: Callable[[Any], object] = lambda model: None,
) -> Path:
    """Train into folder and return it; continues where a killed run of the same folder stopped.

    on_start gets the number of batches still to come, on_epoch one line about each finished epoch, on_model the `ultralytics.YOLO` before it is trained. Where memory runs
    out, the batch is halved and the training goes on from its last whole epoch. Raises InputError for a source without train and val, and for a model that cannot be loaded,
    EnvironmentProblem where not even one picture a batch fits.
    """
    if is_finished(folder):
        return folder
    last = folder / "weights" / CHECKPOINT
    resume = last.is_file()
    if not resume:
        # Nothing whole to continue from: what a run killed in its first epoch left behind is of no use. The folder itself is this run's claim to its name.
        for left in folder.iterdir() if folder.is_dir() else ():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    if not (resume and finished_epochs(folder) >= recipe.epochs):
        card = folder.parent / ".staged" / folder.name / "data.yaml"
        if not (resume and card.is_file()):
            card = stage(source, card.parent, frames_folder())
        recipe = replace(recipe, device=chosen_device(recipe.device))
        while True:
            try:
                run_ultralytics(
                    last if resume else recipe.model,
                    card,
                    folder,
                    recipe,
                    resume=resume,
                    on_start=on_start,
                    on_batch=on_batch,
                    on_epoch=on_epoch,
                    on_model=on_model,
                )
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if recipe.batch <= 1:
                    raise EnvironmentProblem(
                        f"{folder}: out of memory even with one picture a batch; give a smaller --imgsz or a smaller model, and add --resume {folder} if it has begun"
                    ) from None
                recipe = replace(recipe, batch=recipe.batch // 2)
                on_epoch(f"out of memory; going on with batch={recipe.batch}")
            resume = last.is_file()
    (folder / "weights" / CHECKPOINT).unlink(missing_ok=True)
    lineage = {
        "source": str(Path(source.spec).absolute()) if Path(source.spec).exists() else source.spec,
        "model": recipe.model.name,
        # A checkpoint is the run before: reports compare with it.
        "parent": str(recipe.model.absolute()) if recipe.model.suffix == ".pt" else None,
        "model_sha256": file_sha256(recipe.model) if recipe.model.is_file() else None,
        "data_sha256": data_sha256(source),
        "seed": recipe.seed,
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "images": {str(split): int(count) for split, count in source.images["split"].value_counts().items()},
        "versions": {package: version(package) for package in ("ultralytics", "torch")},
    }
    (folder / LINEAGE).write_text(json.dumps(lineage, indent=2), encoding="utf-8")
    return folder


def data_sha256(source: Source) -> str:
    """Hex digest over what a source teaches: every labelled picture's name, split and size in bytes, and its boxes; wherever it lies."""
    digest = hashlib.sha256(json.dumps(source.classes).encode())
    images = source.images[source.images["labelled"]].sort_values("image")
    sizes = [Path(path).stat().st_size for path in images["path"]]
    for table in (images[["image", "split"]].assign(bytes=sizes), source.boxes.sort_values([*source.boxes])):
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def out_of_memory(error: BaseException) -> bool:
    """Whether this is a GPU's or the machine's memory giving out; PyTorch says so in words only."""
    return isinstance(error, MemoryError) or any(
        words in str(error).lower() for words in ("out of memory", "can't allocate memory", "alloc_failed")
    )


def finished_epochs(folder: Path) -> int:
    """Complete epochs in a run's results.csv, 0 without one."""
    try:
        return len(read_history(folder / "results.csv"))
    except InputError:
        return 0


def run_ultralytics(
    start: Path,
    card: Path,
    folder: Path,
    recipe: Recipe,
    *,
    resume: bool,
    on_start: Callable[[int], None],
    on_batch: Callable[[], None],
    on_epoch: Callable[[str], None],
    on_model: Callable[[Any], object],
) -> None:
    """One call of `YOLO.train`, with our callbacks."""
    model = load_checkpoint(start, "give a .pt checkpoint or an architecture yaml")
    batch = recipe.batch

    def started(trainer: Any) -> None:
        # ultralytics leaves a core idle on a CPU.
        torch.set_num_threads(available_cores())
        on_start((trainer.epochs - trainer.start_epoch) * len(trainer.train_loader))

    def epoch_done(trainer: Any) -> None:
        nonlocal batch
        if is_last_check(trainer):
            return
        if 0 < trainer.batch_size < batch:
            # Within the first epoch, Ultralytics halves it by itself, without a word that anybody would see.
            batch = trainer.batch_size
            on_epoch(f"out of memory; going on with batch={batch}")
        ap50 = trainer.metrics.get("metrics/mAP50(B)")
        on_epoch(
            f"epoch {trainer.epoch + 1} of {trainer.epochs}"
            + (f": validation AP50 {ap50:.3f}" if ap50 is not None else "")
        )

    def keep_whole(trainer: Any) -> None:
        if is_last_check(trainer):
            return
        draft = trainer.last.with_name(CHECKPOINT + ".partial")
        shutil.copyfile(trainer.last, draft)
        draft.replace(trainer.last.with_name(CHECKPOINT))

    model.add_callback("on_train_start", started)
    model.add_callback("on_train_batch_end", lambda trainer: on_batch())
    model.add_callback("on_fit_epoch_end", epoch_done)
    on_model(model)
    # After everything else that is done about an epoch: what a killed run goes on from is an epoch that was looked at in full.
    model.add_callback("on_fit_epoch_end", keep_whole)
    arguments: dict[str, Any] = {
        "data": str(card),
        "epochs": recipe.epochs,
        "imgsz": recipe.imgsz,
        "batch": recipe.batch,
        "device": recipe.device,
        "seed": recipe.seed,
        "deterministic": True,
        "workers": 0 if recipe.device == "cpu" else 4,
        "plots": False,
        "verbose": False,
        "patience": 0,
        "amp": recipe.device != "cpu",
        **recipe.extra,
        "project": str(folder.parent),
        "name": folder.name,
        "exist_ok": True,
    }
    if resume:
        arguments["resume"] = True
    # Its own bars go to stdout whatever its settings say; ours have told already how far it is.
    with open(os.devnull, "w", encoding="utf-8") as silence, contextlib.redirect_stdout(silence):
        model.train(**arguments)
