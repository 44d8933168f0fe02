"""How a detector is trained; what is known of a training without a network, and without importing one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from train.run import LINEAGE

# Trained from scratch where no checkpoint can be fetched; see the file.
ARCHITECTURE = Path(__file__).with_name("tiny.yaml")
# Of the demo: the network of tools/roads.yaml, trained on other rendered roads (`tools.pretrain`).
START = ARCHITECTURE.with_name("roads.pt")


@dataclass(frozen=True)
class Recipe:
    """How to train.

    model: checkpoint or architecture yaml, see `train.pretrained.resolve_model`
    epochs: number of epochs
    imgsz: network input size in pixels
    batch: images a batch
    device: as Ultralytics names it, None for the default of `train.forward.choose_device`
    seed: random seed
    extra: any further Ultralytics argument under its own name
    """

    model: Path
    epochs: int
    imgsz: int
    batch: int = 16
    device: str | None = None
    seed: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


def road_world_recipe(seed: int) -> Recipe:
    """The recipe of the demo: a small network that knows rendered roads, and an optimizer step after every
    batch.
    """
    return replace(
        scratch_recipe(seed),
        model=START,
        # What it starts from is nearly good enough, and a larger step would undo it.
        epochs=5,
        extra={
            **scratch_recipe(seed).extra,
            "lr0": 0.0005,
            "pretrained": True,
            # Three checkpoints, which the report compares: of the first epoch, the third and the last.
            "save_period": 2,
        },
    )


def scratch_recipe(seed: int) -> Recipe:
    """The recipe that learns the road world from nothing: a small network and cheap augmentations."""
    return Recipe(
        ARCHITECTURE,
        epochs=18,
        imgsz=256,
        batch=16,
        device="cpu",
        seed=seed,
        extra={
            # Neither gradient accumulation nor a warm-up, which would take a quarter of the few steps.
            "nbs": 16,
            "warmup_epochs": 0.0,
            "optimizer": "AdamW",
            "lr0": 0.003,
            "lrf": 0.02,
            "cos_lr": True,
            "mosaic": 0.0,
            "scale": 0.3,
            "erasing": 0.0,
            "auto_augment": None,
            "cache": "ram",
            "pretrained": False,
        },
    )


def is_finished(folder: Path) -> bool:
    """Whether `train` has trained a run to its last epoch."""
    return (folder / LINEAGE).is_file()
