"""Folders, and environment variables that must be set before Ultralytics is imported.

Ultralytics reads these variables once, at import. By default it installs packages at run time, loads
checkpoints as plain pickles (which can run code), reports usage and writes settings into the user's home
folder.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

# Threads of a network that the user asked for, read before Ultralytics is imported: it sets 1 for everyone
# who asked for nothing.
STATED_THREADS = None if "ultralytics" in sys.modules else os.environ.get("OMP_NUM_THREADS")


def runs_folder() -> Path:
    """The absolute folder for everything that is written: SHIFTSCOPE_RUNS, or runs/ in the current folder."""
    return Path(os.environ.get("SHIFTSCOPE_RUNS", "runs")).absolute()


def data_folder() -> Path:
    """The absolute folder for downloads: data/ in the current folder."""
    return Path("data").absolute()


def frames_folder() -> Path:
    """The folder for video frames and for the roots that written datasets may refer to.

    It is the `cache` of `datasets.source.open_source`.
    """
    return runs_folder() / "frames"


def ultralytics_folder() -> Path:
    """The folder of Ultralytics' settings, unless the user chose one (YOLO_CONFIG_DIR)."""
    return runs_folder() / ".ultralytics"


def corrections_path() -> Path:
    """The file of labels and tags that were corrected by hand, for every report."""
    return runs_folder() / "corrections.json"


def reviews_folder() -> Path:
    """The folder of the answers given in `shiftscope review`, for every report."""
    return runs_folder() / "review"


def trust_checkpoints() -> None:
    """Load checkpoints as plain pickles, which can run code; call it before Ultralytics is imported."""
    os.environ["ULTRALYTICS_SAFE_LOAD"] = "0"
    os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD", None)


def harden() -> None:
    """Set safe defaults for variables that are not set yet."""
    if "ultralytics" in sys.modules:
        # A script that imported Ultralytics itself keeps loading checkpoints as it did; ours are still
        # restricted, see `train.forward.load_checkpoint`.
        return
    defaults = {
        "YOLO_AUTOINSTALL": "false",
        "YOLO_OFFLINE": "true",
        "YOLO_VERBOSE": "false",
        "ULTRALYTICS_SAFE_LOAD": "1",
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
        "YOLO_CONFIG_DIR": str(ultralytics_folder()),
        "MPLBACKEND": "agg",
        "FIFTYONE_DO_NOT_TRACK": "1",
    }
    if "OMP_WAIT_POLICY" not in os.environ:
        # A thread of the network that waits for the others keeps its core busy for about 15 ms by default,
        # and another job on that core keeps the others waiting. Half a millisecond is as fast alone; beside
        # two other networks on two cores a forward pass took 85 to 220 ms with it and 54 to 848 ms without
        # (four and five runs). PyTorch reads it when it is loaded.
        defaults["GOMP_SPINCOUNT"] = "10000"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # `doctor` and the first write report a folder that is read-only.
    with contextlib.suppress(OSError):
        Path(os.environ["YOLO_CONFIG_DIR"]).mkdir(parents=True, exist_ok=True)
