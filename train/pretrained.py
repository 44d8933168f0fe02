"""The model that a training starts from: a local file, or a pretrained checkpoint that is fetched once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from ultralytics.nn.tasks import yaml_model_load
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

from datasets.errors import InputError
from train.environment import data_folder
from train.recipe import ARCHITECTURE
from train.run import best_checkpoint

# Small enough to train on a laptop, and pretrained, which matters with a few hundred images.
DEFAULT = "yolo11n.pt"


def is_local(model: Path | None) -> bool:
    """Whether `resolve_model` can resolve this model without fetching anything."""
    if model is None or (model.name in GITHUB_ASSETS_NAMES and not model.exists()):
        return (data_folder() / "weights" / (model.name if model else DEFAULT)).is_file()
    return True


def resolve_model(model: Path | None, say: Callable[[str], None]) -> Path:
    """Resolve the value of `--model`; pretrained checkpoints are fetched once, into data/weights.

    Parameters
    ----------
    model
        A checkpoint, a run folder (for its best.pt), an architecture yaml, here or of Ultralytics, or the
        name of a pretrained checkpoint. None for DEFAULT, or for ARCHITECTURE if DEFAULT cannot be fetched.
    say
        Called with each message.

    Returns
    -------
    Path
        A checkpoint or an architecture yaml.

    Raises
    ------
    InputError
        There is no such model, or it cannot be fetched.
    """
    if model is None:
        try:
            return _fetch(DEFAULT, say)
        except InputError as problem:
            say(f"  {problem}")
            say(
                "  training Shiftscope's small architecture from scratch instead; "
                "for a detector of practical use, give --model CHECKPOINT"
            )
            return ARCHITECTURE
    if model.is_dir():
        return best_checkpoint(model)
    if model.is_file():
        return model
    if model.suffix in {".yaml", ".yml"}:
        try:
            yaml_model_load(model)  # type: ignore[no-untyped-call]
        except FileNotFoundError:
            raise InputError(f"{model}: no such architecture, here or among Ultralytics' own") from None
        return model
    if model.name == str(model) and model.name in GITHUB_ASSETS_NAMES and model.suffix == ".pt":
        return _fetch(model.name, say)
    raise InputError(
        f"{model}: no such checkpoint; give a .pt file, a run folder, an architecture yaml, "
        f"or the name of a pretrained checkpoint such as {DEFAULT}"
    )


def _fetch(name: str, say: Callable[[str], None]) -> Path:
    """A pretrained checkpoint of Ultralytics in data/weights. Raises InputError if it cannot be fetched."""
    path = data_folder() / "weights" / name
    if not path.is_file():
        say(f"  fetching {name} into {path.parent}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # By its bare name: Ultralytics strips some characters, such as quotes, from a longer path.
            with contextlib.chdir(path.parent):
                attempt_download_asset(Path(name), retry=1, progress=False)
        except Exception as error:  # whatever the network, its client and the disk raise
            raise InputError(
                f"{name}: is not in {path.parent} and could not be fetched ({type(error).__name__}); "
                "copy it there, or give --model FILE"
            ) from None
    return path
