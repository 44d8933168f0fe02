"""`python -m tools.pretrain` makes train/roads.pt, the checkpoint that the demo's training starts from.

It has learned four classes on the dashcam images of other rendered roads, for ten to twenty minutes. The demo
then takes one minute in place of four, as people's own trainings start from a checkpoint too. Run it again
after a change of tools/roads.yaml or of the rendered roads.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from datasets.source import open_source
from datasets.world import CLASSES, DASHCAM, Plan
from reports.commands.demo import render
from reports.progress import Reporter
from train.environment import frames_folder, runs_folder
from train.recipe import START, scratch_recipe
from train.training import TrainingCallbacks, train

# Far from the seeds of the demo, of the tests and of `make prove`.
SEED = 900_001
CLIPS = {"train": (60, 12), "val": (8, 8)}
EPOCHS = 30
ARCHITECTURE = Path(__file__).with_name("roads.yaml")


def main() -> None:
    """Render, train and copy the checkpoint."""
    reporter = Reporter()
    plan = Plan(DASHCAM, CLIPS, seed=SEED, prefix="other", classes=CLASSES)
    source = open_source(str(render("pretraining", plan, reporter)), cache=frames_folder())
    recipe = replace(scratch_recipe(SEED), model=ARCHITECTURE, epochs=EPOCHS)
    run = runs_folder() / "train" / "pretraining"
    with reporter.training("Training the checkpoint that the demo starts from") as progress:
        train(source, run, recipe, TrainingCallbacks(*progress))
    write_start(run / "weights" / "last.pt", START)
    reporter.say(f"{START}: {START.stat().st_size / 1e6:.1f} MB")


def write_start(weights: Path, path: Path) -> None:
    """A trained checkpoint in half precision, without its optimizer, and without the folders of this
    machine.
    """
    from ultralytics.nn.tasks import torch_safe_load

    content, _ = torch_safe_load(str(weights))
    model = (content["ema"] or content["model"]).half()
    model.args = {"imgsz": content["train_args"]["imgsz"], "task": "detect"}
    model.yaml["yaml_file"] = ARCHITECTURE.name
    for name in ("criterion", "pt_path"):
        model.__dict__.pop(name, None)
    model.requires_grad_(False)
    torch.save(
        {"model": model, "ema": None, "epoch": -1, "train_args": model.args, "version": content["version"]},
        path,
    )


if __name__ == "__main__":
    main()
