"""`shiftscope world`: render the road world."""

from __future__ import annotations

from dataclasses import asdict, fields

from datasets.errors import InputError
from datasets.world import DASHCAM, DRONE, Dials, Plan, build_world
from reports.options import WorldOptions
from reports.progress import Reporter

VIEWS = {"dashcam": DASHCAM, "drone": DRONE}


def render_world(options: WorldOptions, reporter: Reporter) -> None:
    """Render a YOLO dataset into a new folder. Raises InputError for an existing folder or an
    unknown dial.
    """
    if options.view not in VIEWS:
        raise InputError(f"--view {options.view}: expected dashcam or drone")
    if options.out.exists():
        raise InputError(f"{options.out}: exists already; give a new folder")
    splits = {
        split: (clips, options.frames)
        for split, clips in (("train", options.train_clips), ("val", options.val_clips))
        if clips
    }
    if not splits:
        raise InputError("nothing to render: give --train-clips or --val-clips")
    folder = options.out.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    plan = Plan(_dials(options), splits, seed=options.seed)
    with reporter.stage("render", f"Rendering into {options.out}", len(plan.clips())) as tick:
        for _ in build_world(folder, plan):
            tick()


def _dials(options: WorldOptions) -> Dials:
    """The dials of the view, changed as asked for. Raises InputError."""
    settings = asdict(VIEWS[options.view])
    names = {field.name for field in fields(Dials)}
    for text in options.dial:
        name, _, severity = text.partition("=")
        if name not in names or not severity.isdigit():
            raise InputError(
                f"--dial {text}: expected NAME=0..5, where NAME is one of "
                f"{', '.join(field.name for field in fields(Dials))}"
            )
        settings[name] = int(severity)
    try:
        return Dials(**settings)
    except ValueError as error:
        raise InputError(str(error)) from None
