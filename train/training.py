"""Training with Ultralytics: absolute paths, a new run folder each time, a fixed seed, resumable. The only file that calls it to train."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from datasets.containment import expanded
from datasets.data_yaml import is_there
from datasets.errors import EnvironmentProblem, InputError
from datasets.source import parts_of
from datasets.tables import Source
from train.environment import frames_folder
from train.forward import chosen_device, load_checkpoint
from train.history import read_history
from train.passes import available_cores
from train.pretrained import ARCHITECTURE
from train.run import LINEAGE, file_sha256, is_last_check
from train.staging import boxes_shown, stage

# Our copy of last.pt. Ultralytics writes its own in place, and a kill in that moment leaves half a file.
CHECKPOINT = "resume.pt"
# Of a training of ours that has begun, with its recipe: what is left in any other folder stays as it is.
BEGUN = "shiftscope-begun.json"


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
    out, the batch is halved and the training goes on from its last whole epoch. Raises InputError for a source without train and val, for a model that cannot be loaded, and
    for a folder that holds something else, EnvironmentProblem where not even one image a batch fits.
    """
    if is_finished(folder):
        return folder
    last = folder / "weights" / CHECKPOINT
    resume = last.is_file()
    if not resume:
        _begin_anew(folder, recipe)
    if not (resume and _finished_epochs(folder) >= recipe.epochs):
        data_yaml = folder.parent / ".staged" / folder.name / "data.yaml"
        if not (resume and data_yaml.is_file()):
            data_yaml = stage(source, data_yaml.parent, frames_folder())
        recipe = replace(recipe, device=chosen_device(recipe.device))
        while True:
            try:
                batch = _run_ultralytics(
                    last if resume else recipe.model,
                    data_yaml,
                    folder,
                    recipe,
                    resume=resume,
                    on_start=on_start,
                    on_batch=on_batch,
                    on_epoch=on_epoch,
                    on_model=on_model,
                )
                recipe = replace(recipe, batch=batch)
                break
            except (NotImplementedError, TypeError, ValueError) as error:
                if _finished_epochs(folder):
                    raise
                # Values that Ultralytics finds wrong only when it builds what they name.
                line = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
                raise InputError(f"Ultralytics cannot train so: {type(error).__name__}: {line}") from error
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if recipe.batch <= 1:
                    raise EnvironmentProblem(
                        f"{folder}: out of memory even with one image a batch; give a smaller --imgsz or a smaller model, and add --resume {folder} if it has begun"
                    ) from None
                recipe = replace(recipe, batch=recipe.batch // 2)
                on_epoch(f"out of memory; going on with batch={recipe.batch}")
            # What the failed try holds goes first, or the next one has no more room than it had.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            resume = last.is_file()
    sources = [whole(part) for part in parts_of(source.spec)]
    lineage = {
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
        # What the curve of `shiftscope forecast` is over.
        "boxes": boxes_shown(source, recipe.extra),
        "versions": {package: version(package) for package in ("ultralytics", "torch")},
    }
    draft = folder / f"{LINEAGE}.partial"
    draft.write_text(json.dumps(lineage, indent=2), encoding="utf-8")
    draft.replace(folder / LINEAGE)
    for left in (last, folder / BEGUN):
        left.unlink(missing_ok=True)
    return folder


def whole(place: str) -> str:
    """A path that exists as an absolute one, anything else (a Kaggle handle) as it is."""
    path = expanded(place)
    return str(path.absolute()) if is_there(path) else place


def _begin_anew(folder: Path, recipe: Recipe) -> None:
    """Make a folder ready for a training from its first epoch: what one of ours left that was killed before its first epoch was whole is of no use. Raises InputError for anything else in it."""
    there = list(folder.iterdir()) if folder.is_dir() else []
    if there and not (folder / BEGUN).is_file():
        raise InputError(
            f"{folder}: holds {there[0].name}, and no training of Shiftscope's that could go on; give a new folder, or go on from its checkpoint with --model {folder}"
        )
    for left in there:
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**asdict(recipe), "model": str(recipe.model)})
    (folder / BEGUN).write_text(text, encoding="utf-8")


def interrupted(folder: Path) -> Recipe:
    """The recipe of a training that was interrupted after an epoch or more. Raises InputError when the folder holds none that could go on."""
    if is_finished(folder):
        raise InputError(f"{folder}: is already finished; go on from it with --model {folder}")
    try:
        content = json.loads((folder / BEGUN).read_text(encoding="utf-8"))
        recipe = Recipe(**{**content, "model": Path(content["model"])})
    except (OSError, ValueError, KeyError, TypeError):
        recipe = None
    if recipe is None or not (folder / "weights" / CHECKPOINT).is_file():
        raise InputError(
            f"{folder}: holds no epoch of a training of Shiftscope's that could go on; go on from its checkpoint, if it has one, with --model {folder}"
        )
    return recipe


def data_sha256(source: Source) -> str:
    """Hex digest over what a source teaches: every labelled image's name, split and size in bytes, and its boxes; wherever it lies."""
    digest = hashlib.sha256(json.dumps(source.classes).encode())
    images = source.images[source.images["labelled"]].sort_values("image")
    sizes = [Path(path).stat().st_size for path in images["path"]]
    for table in (
        images[["image", "split"]].assign(bytes=sizes),
        source.annotations.sort_values([*source.annotations]),
    ):
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _out_of_memory(error: BaseException) -> bool:
    """Whether this is a GPU's or the machine's memory giving out; PyTorch says so in words only."""
    return isinstance(error, MemoryError) or any(
        words in str(error).lower() for words in ("out of memory", "can't allocate memory", "alloc_failed")
    )


def _finished_epochs(folder: Path) -> int:
    """Complete epochs in a run's results.csv, 0 without one."""
    try:
        return len(read_history(folder / "results.csv"))
    except InputError:
        return 0


def _run_ultralytics(
    start: Path,
    data_yaml: Path,
    folder: Path,
    recipe: Recipe,
    *,
    resume: bool,
    on_start: Callable[[int], None],
    on_batch: Callable[[], None],
    on_epoch: Callable[[str], None],
    on_model: Callable[[Any], object],
) -> int:
    """One call of `YOLO.train`, with our callbacks; gives the batch that it ended with."""
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
        ap50 = trainer.metrics.get("metrics/mAP50(B)") if trainer.args.val else None
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
        # Everything else is as the run was started: what is given here, Ultralytics would put in its place.
        arguments = {"resume": True, "save_dir": str(folder)}
    arguments |= {
        "data": str(data_yaml),
        "batch": recipe.batch,
        "device": recipe.device,
        "workers": recipe.extra.get("workers", 0 if recipe.device == "cpu" else 4),
        "project": str(folder.parent),
        "name": folder.name,
        "exist_ok": True,
    }
    # Its own bars go to stdout whatever its settings say; ours have told already how far it is.
    with open(os.devnull, "w", encoding="utf-8") as silence, contextlib.redirect_stdout(silence):
        model.train(**arguments)
    return batch
