"""`shiftscope report` without arguments: a detector of a rendered road, and overhead footage of that road."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datasets.files import draft_file
from datasets.source import open_source
from datasets.world import DASHCAM, DRONE, Clip, Plan, build_world, write_flight
from reports.options import ReportOptions
from reports.progress import Reporter
from train.environment import frames_folder, runs_folder
from train.recipe import Recipe, is_finished, road_world_recipe
from train.run import file_sha256

# (clips, frames) by split. Ten validation and overhead clips or more, so that intervals are not reported as
# too narrow; enough training images for an AP50 above 0.7 in about a minute of training on two cores.
DASHCAM_SPLITS = {"train": (28, 12), "val": (12, 8)}
DRONE_SPLITS = {"val": (14, 10)}
FLIGHT_FRAMES = 120
# The footage is predicted after the first epoch, every second and the last, which takes a few seconds.
WATCH_EVERY, WATCHED_IMAGES = 2, 60


def _demo_plans(seed: int) -> dict[str, Plan]:
    """In-domain dashcam images, and the same world seen from a drone: only the camera differs."""
    return {
        "dashcam": Plan(DASHCAM, DASHCAM_SPLITS, seed=2 * seed + 1, prefix="drive"),
        "drone": Plan(DRONE, DRONE_SPLITS, seed=2 * seed + 2, prefix="flight"),
    }


def _key_of(*parts: object) -> str:
    """Eight hex digits over JSON values and the version of Shiftscope."""
    text = json.dumps([*parts, version("shiftscope")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _run_key(plans: Mapping[str, Plan], recipe: Recipe) -> str:
    """The key of everything that the demo's run depends on: data, training recipe and watched footage."""
    training = {**asdict(recipe), "model": file_sha256(recipe.model)}
    watch = {"every": WATCH_EVERY, "images": WATCHED_IMAGES, "flight": FLIGHT_FRAMES}
    return _key_of({name: plan.record() for name, plan in plans.items()}, training, watch)


def render(name: str, plan: Plan, reporter: Reporter) -> Path:
    """Render a plan, unless it is rendered already.

    Parameters
    ----------
    name
        Start of the folder's name.
    plan
        What to render.
    reporter
        Progress.

    Returns
    -------
    Path
        The folder of the dataset.
    """
    folder = runs_folder() / "demo" / f"{name}-{_key_of(plan.record())}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with reporter.stage("render", f"Rendering {name} images", len(plan.clips())) as tick:
            for _ in build_world(folder, plan):
                tick()
    return folder


def _render_flight(plan: Plan, reporter: Reporter) -> Path:
    """An unlabelled overhead video of another road."""
    path = runs_folder() / "demo" / f"overhead-flight-{FLIGHT_FRAMES}-{_key_of(plan.record())}.mp4"
    if not path.exists():
        clip = Clip(
            (plan.seed, 10_000), DRONE, FLIGHT_FRAMES, metres_between_frames=0.5, seconds_between_frames=0.1
        )
        with (
            reporter.stage("render", "Rendering an unlabelled overhead flight"),
            draft_file(path) as draft,
        ):
            write_flight(draft, clip)
    return path


def prepare_demo(seed: int, reporter: Reporter) -> ReportOptions:
    """Render and train what is missing; of several processes that start together, the others wait for one.

    Parameters
    ----------
    seed
        Of the roads and of the training.
    reporter
        Progress and messages.

    Returns
    -------
    ReportOptions
        The request for the demo's report.
    """
    demo_folder = runs_folder() / "demo"
    demo_folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(demo_folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reporter.say("Another process is building the demo; waiting for it")
        lock.acquire()
    try:
        return _build_demo(seed, reporter)
    finally:
        lock.release()


def _build_demo(seed: int, reporter: Reporter) -> ReportOptions:
    """Render and train what is missing; gives the request for the report."""
    plans = _demo_plans(seed)
    folders = {name: render(name, plan, reporter) for name, plan in plans.items()}
    flight = _render_flight(plans["drone"], reporter)
    recipe = road_world_recipe(seed)
    run = runs_folder() / "train" / f"demo-{_run_key(plans, recipe)}"
    if not is_finished(run):
        footage = {"drone": str(folders["drone"]), "flight": str(flight)}
        _train_run(str(folders["dashcam"]), run, recipe, footage, reporter)
    return ReportOptions(
        run=run,
        in_domain=("dashcam", str(folders["dashcam"])),
        real_world=(("drone", str(folders["drone"])), ("flight", str(flight))),
        seed=seed,
    )


def _train_run(spec: str, run: Path, recipe: Recipe, footage: Mapping[str, str], reporter: Reporter) -> None:
    """Train the demo's detector and watch the footage, or resume a run that was killed."""
    from reports.watch import attach
    from train.training import TrainingCallbacks, train

    def watch(model: Any) -> None:
        attach(model, footage, every=WATCH_EVERY, images=WATCHED_IMAGES, say=reporter.say)

    source = open_source(spec, cache=frames_folder())
    with reporter.training("Training a small YOLO on the dashcam images") as progress:
        train(source, run, recipe, TrainingCallbacks(*progress, on_model=watch))
