"""What a training starts from: a checkpoint or an architecture at hand, or one of Ultralytics' own, fetched once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from ultralytics.nn.tasks import yaml_model_load
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

from datasets.errors import InputError
from train.environment import data_folder
from train.run import best_of

# Small enough to train on one laptop, and pretrained: a few hundred images teach far more to a network that has seen others.
DEFAULT = "yolo11n.pt"
# What is trained from scratch where nothing can be fetched; see the file.
ARCHITECTURE = Path(__file__).with_name("tiny.yaml")


def at_hand(given: Path | None) -> bool:
    """Whether what `--model` means is known without fetching anything."""
    if given is None or (given.name in GITHUB_ASSETS_NAMES and not given.exists()):
        return (data_folder() / "weights" / (given.name if given else DEFAULT)).is_file()
    return True


def starting_point(given: Path | None, say: Callable[[str], None]) -> Path:
    """The checkpoint or architecture yaml that `--model` means: a file, a run folder (its best.pt), one of Ultralytics' yamls or one of its pretrained checkpoints by name.

    Pretrained ones are fetched once, into data/weights. given: None for DEFAULT, and for our small ARCHITECTURE where that cannot be fetched, which is said.
    Raises InputError when there is no such model.
    """
    if given is None:
        try:
            return _fetched(DEFAULT, say)
        except InputError as problem:
            say(f"  {problem}")
            say(
                "  training Shiftscope's small architecture from scratch instead; for a detector to use, give --model CHECKPOINT"
            )
            return ARCHITECTURE
    if given.is_dir():
        return best_of(given)
    if given.is_file():
        return given
    if given.suffix in {".yaml", ".yml"}:
        try:
            yaml_model_load(given)  # type: ignore[no-untyped-call]
        except FileNotFoundError:
            raise InputError(f"{given}: no such architecture, here or among Ultralytics' own") from None
        return given
    if given.name == str(given) and given.name in GITHUB_ASSETS_NAMES and given.suffix == ".pt":
        return _fetched(given.name, say)
    raise InputError(
        f"{given}: no such checkpoint; give a .pt file, a run folder, an architecture yaml, or the name of a pretrained one such as {DEFAULT}"
    )


def _fetched(name: str, say: Callable[[str], None]) -> Path:
    """One of Ultralytics' pretrained checkpoints in data/weights. It is loaded as any checkpoint is: known layers and weights only. Raises InputError when it cannot be had."""
    place = data_folder() / "weights" / name
    if not place.is_file():
        say(f"  fetching {name} into {place.parent}")
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            # By its bare name: of a whole path, Ultralytics takes away marks that it may hold.
            with contextlib.chdir(place.parent):
                attempt_download_asset(Path(name), retry=1, progress=False)
        except Exception as error:  # whatever the network, its client and the disk raise
            raise InputError(
                f"{name}: is not in {place.parent} and could not be fetched ({type(error).__name__}); copy it there, or give --model FILE"
            ) from None
    return place
