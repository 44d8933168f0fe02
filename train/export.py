"""A trained detector in the format of other software: ONNX, OpenVINO, NCNN and all others of Ultralytics.

The only file that calls Ultralytics to export.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ultralytics.cfg import get_cfg, smart_value
from ultralytics.engine import exporter
from ultralytics.utils import checks

from datasets.errors import EnvironmentProblem, InputError
from datasets.source import open_source
from train.arguments import split_pairs
from train.environment import frames_folder, runs_folder
from train.forward import choose_device, first_line, load_checkpoint
from train.run import best_checkpoint, reserve_run_folder
from train.staging import stage

# Arguments that `shiftscope export` has its own option for.
OPTIONS = frozenset({"format", "imgsz", "device"})
# Arguments that come with another one: Ultralytics' older names for a precision, and the settings of the
# non-maximum suppression in the exported network.
COMPANIONS = {"quantize": ("half", "int8"), "nms": ("conf", "iou", "max_det", "agnostic_nms")}


def formats() -> dict[str, list[str]]:
    """Every format that Ultralytics exports to, and the names of its arguments."""
    table = exporter.export_formats()  # type: ignore[no-untyped-call]
    return dict(zip(table["Argument"][1:], table["Arguments"][1:], strict=True))


def export_arguments(target: str, texts: Sequence[str]) -> dict[str, Any]:
    """Parse KEY=VALUE texts as export arguments of Ultralytics.

    Parameters
    ----------
    target
        A key of `formats`.
    texts
        For example "batch=4".

    Returns
    -------
    dict
        Argument to value, of the argument's type.

    Raises
    ------
    InputError
        The format is unknown, or an argument is unknown, has its own option, has a wrong value or is missing.
    """
    arguments_of = formats()
    if target not in arguments_of:
        raise InputError(f"--format {target}: expected one of {', '.join(arguments_of)}")
    own = arguments_of[target]
    accepted = [*own, *(companion for name in own for companion in COMPANIONS.get(name, ()))]
    arguments: dict[str, Any] = {}
    for text, name, value in split_pairs(texts, "batch=4"):
        if name in OPTIONS:
            raise InputError(f"{text}: give --{name} {value} instead")
        if name not in accepted:
            raise InputError(f"{text}: export to {target} takes no {name!r}; it takes {', '.join(accepted)}")
        arguments[name] = smart_value(value)
    try:
        settings = get_cfg(overrides={"batch": 1, "data": None, "device": None, **arguments})
        exporter.validate_args(target, settings, own)  # type: ignore[no-untyped-call]
    except (AssertionError, TypeError, ValueError, SyntaxError) as error:
        raise InputError(first_line(error)) from None
    if settings.quantize in (8, "w8a16") and "data" in accepted and not settings.data:
        raise InputError(
            f"--format {target}: quantization to integers measures the range of every layer on images; "
            "add data=SOURCE, the training data"
        )
    return {
        name: getattr(settings, name)
        for name in ("quantize" if name in COMPANIONS["quantize"] else name for name in arguments)
    }


def export(
    weights: Path,
    target: str,
    *,
    name: str | None = None,
    imgsz: int | None = None,
    device: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a detection checkpoint in another format into a new folder below runs/export.

    Nothing is installed, and nothing is written elsewhere.

    Parameters
    ----------
    weights
        A checkpoint, or a run folder for its best one.
    target
        A key of `formats`.
    name
        Name of the new folder, None for that of the run.
    imgsz
        Network input size in pixels, None for that of the training.
    device
        As Ultralytics names it, None for its choice.
    extra
        See `export_arguments`; its data is any source.

    Returns
    -------
    Path
        The written file or folder.

    Raises
    ------
    InputError
        The file is no detection checkpoint, or the arguments contradict each other.
    EnvironmentProblem
        A package is missing, or the conversion fails.
    """
    weights = (best_checkpoint(weights) if weights.is_dir() else weights).absolute()
    _check_detector(weights)
    stem = weights.stem.replace(".", "-")
    run_name = weights.parent.parent.name if weights.parent.name == "weights" else stem
    arguments = {"imgsz": imgsz, "device": device and choose_device(device), **(extra or {})}
    exports = runs_folder() / "export"
    exports.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=exports) as folder:
        draft = Path(folder)
        shutil.copyfile(weights, draft / f"{stem}.pt")
        if arguments.get("data"):
            # Staged, because Ultralytics writes into a dataset that it reads.
            source = open_source(str(arguments["data"]), cache=frames_folder())
            arguments["data"] = str(stage(source, draft / "data", frames_folder()))
        arguments = {key: value for key, value in arguments.items() if value is not None}
        written = _convert(draft, f"{stem}.pt", target, arguments)
        result = reserve_run_folder(exports, name or run_name) / written.name
        written.rename(result)
    return result


def _check_detector(weights: Path) -> None:
    """Raise InputError unless a file is a detection checkpoint."""
    if weights.suffix != ".pt":
        raise InputError(f"{weights}: is no .pt checkpoint; give the best.pt of a training run")
    model = load_checkpoint(weights, "give the best.pt of a training run")
    if model.task != "detect":
        raise InputError(f"{weights}: is a '{model.task}' model; only detection models can be exported")


def _convert(draft: Path, checkpoint: str, target: str, arguments: Mapping[str, Any]) -> Path:
    """Convert a checkpoint in the folder draft; gives the result, in that folder. Raises as `export` does."""
    # Ultralytics writes beside the checkpoint, and converters into the current folder: both are the draft.
    with contextlib.chdir(draft), _missing_packages() as missing:
        model = load_checkpoint(Path(checkpoint), "give the best.pt of a training run")
        try:
            with _redirected_output(draft / "export.log"):
                written = draft / str(model.export(format=target, **arguments))
        except EnvironmentProblem:
            raise
        except (AssertionError, TypeError, ValueError) as error:
            # Ultralytics raises these for arguments that contradict each other.
            if not missing:
                raise InputError(f"--format {target}: {first_line(error)}") from None
        except Exception as error:  # whatever the converters raise
            if not missing:
                log = (draft / "export.log").replace(draft.parent / f"{target}.log")
                raise EnvironmentProblem(
                    f"--format {target}: {first_line(error)}; the full output is in {log}"
                ) from None
    if missing:
        raise EnvironmentProblem(
            f"--format {target}: needs {' and '.join(missing)}, which this environment lacks; "
            f"run {install_command(missing)}"
        )
    if draft not in written.parents or not written.exists():
        raise EnvironmentProblem(
            f"--format {target}: this version of ultralytics wrote {written}, not beside the checkpoint"
        )
    return written


def install_command(packages: Sequence[str]) -> str:
    """The command that installs packages into this environment: with pip, or with uv in one that uv made."""
    if find_spec("pip"):
        return shlex.join([sys.executable, "-m", "pip", "install", *packages])
    # tools/setup.sh installs uv here on a machine without one.
    own_uv = Path(sys.prefix).parent / ".uv" / "bin" / "uv"
    uv = "uv" if shutil.which("uv") or not own_uv.is_file() else str(own_uv)
    return shlex.join([uv, "pip", "install", "--python", sys.executable, *packages])


@contextlib.contextmanager
def _missing_packages() -> Iterator[list[str]]:
    """Collect the packages that Ultralytics requires within the block and that are not installed.

    By default Ultralytics installs some of them and continues without others.
    """
    missing: list[str] = []
    modules: tuple[Any, ...] = (checks, exporter)
    check, check_system = modules[0].check_requirements, modules[0].check_apt_requirements

    def collect(requirements: str | Sequence[str | tuple[str, ...]], **_: Any) -> bool:
        required = [requirements] if isinstance(requirements, str) else requirements
        absent = [requirement for requirement in required if not check([requirement], install=False)]
        names = [requirement if isinstance(requirement, str) else requirement[0] for requirement in absent]
        missing.extend(name for name in names if name not in missing)
        return not absent

    def refuse(packages: Sequence[str]) -> None:
        raise EnvironmentProblem(
            f"the export needs the system packages {' and '.join(packages)}; install them"
        )

    for module in modules:
        module.check_requirements = collect
    modules[0].check_apt_requirements = refuse
    # Importing OpenVINO reports usage and keeps an id in the home folder, unless this import fails.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        yield missing
    finally:
        for module in modules:
            module.check_requirements = check
        modules[0].check_apt_requirements = check_system


@contextlib.contextmanager
def _redirected_output(log: Path) -> Iterator[None]:
    """Redirect stdout and stderr to a file, including those of converters, which are separate programs."""
    sys.stdout.flush()
    sys.stderr.flush()
    originals = os.dup(1), os.dup(2)
    try:
        with log.open("wb") as handle:
            os.dup2(handle.fileno(), 1)
            os.dup2(handle.fileno(), 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, original in enumerate(originals, start=1):
            os.dup2(original, number)
            os.close(original)
