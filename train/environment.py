"""What must be true of the process before any third-party package is imported.

ultralytics reads these once, at import: it would otherwise install packages at run time, load checkpoints as plain pickles (which
can run code), report usage and write settings into the user's home.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def runs_folder() -> Path:
    """Where everything we write goes: SHIFTSCOPE_RUNS, or runs/ in the current folder. Absolute."""
    return Path(os.environ.get("SHIFTSCOPE_RUNS", "runs")).absolute()


def data_folder() -> Path:
    """Where what is fetched goes: data/ in the current folder. Absolute."""
    return Path("data").absolute()


def frames_folder() -> Path:
    """What sources need of us: frames of videos, and which of our own datasets may lead where (`datasets.source.open_source` calls it cache)."""
    return runs_folder() / "frames"


def corrections_path() -> Path:
    """Where labels and tags that people corrected by hand are kept, for every report."""
    return runs_folder() / "corrections.json"


def trust_checkpoints() -> None:
    """Load checkpoints as plain pickles, with whatever code is in them. To be called before ultralytics is imported."""
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "0"
    os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD", None)


def harden() -> None:
    """Set safe defaults; what the user has set already is left alone."""
    if "ultralytics" in sys.modules:
        # Somebody's own script, which has made its choice: how it loads checkpoints must not change under its feet (see `train.forward.load_checkpoint` for ours).
        return
    defaults = {
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",
        "YOLO_VERBOSE": "false",
        "ULTRALYTICS_SAFE_LOAD": "1",
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
        "YOLO_CONFIG_DIR": str(runs_folder() / ".ultralytics"),
        "MPLBACKEND": "agg",
        "FIFTYONE_DO_NOT_TRACK": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # A read-only place is for `doctor` and for the first write to complain about.
    with contextlib.suppress(OSError):
        Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)
