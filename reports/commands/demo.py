"""`shiftscope report` without arguments: train on the rendered road world and diagnose it against overhead footage of the same road."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout

from datasets.source import open_source
from datasets.world import DASHCAM, DRONE, Clip, Plan, build_world, write_flight
from reports.options import ReportOptions
from reports.progress import Reporter
from train.environment import frames_folder, runs_folder
from train.training import is_finished, road_world_recipe, train

# Clips by frames. Enough validation and overhead clips for intervals that are not called too narrow (ten), enough training images for
# AP50 over 0.7 in about two minutes of training on two cores.
DASHCAM_SPLITS = {"train": (28, 12), "val": (12, 8)}
DRONE_SPLITS = {"val": (14, 10)}
FLIGHT_FRAMES = 120
# Looks at the footage while it is trained: seven, which take some seconds of the two minutes.
WATCH_EVERY, WATCHED_IMAGES = 3, 60


def _demo_plans(seed: int) -> dict[str, Plan]:
    """In-domain dashcam images, and the same world from a drone: only the camera differs."""
    return {
        "dashcam": Plan(DASHCAM, DASHCAM_SPLITS, seed=2 * seed + 1, prefix="drive"),
        "drone": Plan(DRONE, DRONE_SPLITS, seed=2 * seed + 2, prefix="flight"),
    }


def _key_of(plan: Plan) -> str:
    """Eight hex digits over a plan and the version that renders it."""
    return hashlib.sha256(
        json.dumps([asdict(plan), version("shiftscope")], sort_keys=True).encode()
    ).hexdigest()[:8]


def render(name: str, plan: Plan, reporter: Reporter) -> Path:
    """The plan's folder, rendered if it is not there yet."""
    folder = runs_folder() / "demo" / f"{name}-{_key_of(plan)}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with reporter.stage("render", f"Rendering {name} images", len(plan.clips())) as tick:
            for _ in build_world(folder, plan):
                tick()
    return folder


def _render_flight(plan: Plan, reporter: Reporter) -> Path:
    """An unlabelled overhead video of a road of its own."""
    path = runs_folder() / "demo" / f"overhead-flight-{FLIGHT_FRAMES}-{_key_of(plan)}.mp4"
    if not path.exists():
        clip = Clip(
            (plan.seed, 10_000), DRONE, FLIGHT_FRAMES, metres_between_frames=0.5, seconds_between_frames=0.1
        )
        draft = path.with_name(path.stem + ".partial.mp4")
        with reporter.stage("render", "Rendering an unlabelled overhead flight"):
            write_flight(draft, clip)
        draft.replace(path)
    return path


def prepare_demo(seed: int, reporter: Reporter) -> ReportOptions:
    """Render and train what is missing, and ask for the report on it. Of several that start at once, one makes it and the others wait."""
    demo_folder = runs_folder() / "demo"
    demo_folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(demo_folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        reporter.say("Another run is making the demo: waiting for it")
        lock.acquire()
    try:
        return _build_demo(seed, reporter)
    finally:
        lock.release()


def _build_demo(seed: int, reporter: Reporter) -> ReportOptions:
    """The demo's request, once everything is there."""
    plans = _demo_plans(seed)
    folders = {name: render(name, plan, reporter) for name, plan in plans.items()}
    flight = _render_flight(plans["drone"], reporter)
    run = runs_folder() / "train" / f"demo-{folders['dashcam'].name.rsplit('-', 1)[1]}"
    if not is_finished(run):
        footage = {"drone": str(folders["drone"]), "flight": str(flight)}
        _train_run(str(folders["dashcam"]), run, seed, footage, reporter)
    return ReportOptions(
        run=run,
        in_domain=("dashcam", str(folders["dashcam"])),
        real_world=(("drone", str(folders["drone"])), ("flight", str(flight))),
        seed=seed,
    )


def _train_run(spec: str, run: Path, seed: int, footage: Mapping[str, str], reporter: Reporter) -> None:
    """Train the demo's detector with progress, and watch the footage; continues a run that was killed."""
    from reports.watch import attach

    source = open_source(spec, cache=frames_folder())
    recipe = road_world_recipe(seed)
    with reporter.training("Training a small YOLO on the dashcam images") as (on_start, on_batch, on_epoch):
        train(
            source,
            run,
            recipe,
            on_start=on_start,
            on_batch=on_batch,
            on_epoch=on_epoch,
            on_model=lambda model: attach(
                model, footage, every=WATCH_EVERY, images=WATCHED_IMAGES, say=reporter.say
            ),
        )
