"""A trained detector as other software takes it: ONNX, OpenVINO, NCNN and whatever else Ultralytics writes. The only file that calls it to export."""

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
from train.arguments import pairs
from train.environment import frames_folder, runs_folder
from train.forward import chosen_device, load_checkpoint
from train.run import best_of, reserve_run_folder
from train.staging import stage

# What `shiftscope export` says in its own way.
OPTIONS = frozenset({"format", "imgsz", "device"})
# What goes with an argument that a format takes: Ultralytics' older names for a precision, and what its embedded suppression goes by.
WITH = {"quantize": ("half", "int8"), "nms": ("conf", "iou", "max_det", "agnostic_nms")}


def formats() -> dict[str, list[str]]:
    """Every format that Ultralytics exports to, and the arguments of its own that each takes."""
    table = exporter.export_formats()  # type: ignore[no-untyped-call]
    return dict(zip(table["Argument"][1:], table["Arguments"][1:], strict=True))


def export_arguments(target: str, texts: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE texts as Ultralytics' arguments for a format, with values of their types. Raises InputError for an unknown format, and naming the argument and what is expected."""
    known = formats()
    if target not in known:
        raise InputError(f"--format {target}: expected one of {', '.join(known)}")
    taken = [*known[target], *(more for name in known[target] for more in WITH.get(name, ()))]
    given: dict[str, Any] = {}
    for text, name, value in pairs(texts, "batch=4"):
        if name in OPTIONS:
            raise InputError(f"{text}: give --{name} {value} instead")
        if name not in taken:
            raise InputError(f"{text}: export to {target} takes no {name!r}; it takes {', '.join(taken)}")
        given[name] = smart_value(value)
    try:
        settings = get_cfg(overrides={"batch": 1, "data": None, "device": None, **given})
        exporter.validate_args(target, settings, known[target])  # type: ignore[no-untyped-call]
    except (AssertionError, TypeError, ValueError, SyntaxError) as error:
        raise InputError(_first_line(error)) from None
    if settings.quantize in (8, "w8a16") and "data" in taken and not settings.data:
        raise InputError(
            f"--format {target}: whole numbers need the range of every layer's values, measured on images; add data=SOURCE, the data of the training"
        )
    return {
        name: getattr(settings, name)
        for name in ("quantize" if name in WITH["quantize"] else name for name in given)
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
    """Write a detection checkpoint in another format into a new folder below runs/export, and return the file or folder written.

    weights: a checkpoint, or a run folder for its best one. target: a key of `formats`. name: of the new folder, None for the run's. imgsz: network input size in pixels,
    None for the training's. device: None for Ultralytics' choice. extra: see `export_arguments`; its data is any source. Nothing is installed, and nothing is written anywhere
    else. Raises InputError for what is no detection checkpoint and for arguments that do not go together, EnvironmentProblem where packages are missing or the conversion fails.
    """
    weights = (best_of(weights) if weights.is_dir() else weights).absolute()
    if weights.suffix != ".pt":
        raise InputError(f"{weights}: is no .pt checkpoint; give the best.pt of a training run")
    model = load_checkpoint(weights, "give the best.pt of a training run")
    if model.task != "detect":
        raise InputError(f"{weights}: is a '{model.task}' model; only detection models can be exported")
    stem = weights.stem.replace(".", "-")
    of_run = weights.parent.parent.name if weights.parent.name == "weights" else stem
    arguments = {"imgsz": imgsz, "device": device and chosen_device(device), **(extra or {})}
    place = runs_folder() / "export"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=place) as folder:
        draft = Path(folder)
        shutil.copyfile(weights, draft / f"{stem}.pt")
        if arguments.get("data"):
            # Ultralytics writes into a dataset that it reads.
            source = open_source(str(arguments["data"]), cache=frames_folder())
            arguments["data"] = str(stage(source, draft / "data", frames_folder()))
        written = _convert(
            draft,
            f"{stem}.pt",
            target,
            {key: value for key, value in arguments.items() if value is not None},
        )
        kept = reserve_run_folder(place, name or of_run) / written.name
        written.rename(kept)
    return kept


def _convert(draft: Path, checkpoint: str, target: str, arguments: Mapping[str, Any]) -> Path:
    """What Ultralytics makes of a checkpoint in the folder draft, within that folder; raises as `export` does."""
    # Ultralytics writes beside the checkpoint, and what it calls also into the current folder: both are the draft.
    with contextlib.chdir(draft), _missing_packages() as missing:
        model = load_checkpoint(Path(checkpoint), "give the best.pt of a training run")
        try:
            with _said_into(draft / "export.log"):
                written = draft / str(model.export(format=target, **arguments))
        except EnvironmentProblem:
            raise
        except (AssertionError, TypeError, ValueError) as error:
            # By these Ultralytics refuses arguments that do not go together.
            if not missing:
                raise InputError(f"--format {target}: {_first_line(error)}") from None
        except Exception as error:  # whatever the converters raise
            if not missing:
                log = (draft / "export.log").replace(draft.parent / f"{target}.log")
                raise EnvironmentProblem(
                    f"--format {target}: {_first_line(error)}; all that was said is in {log}"
                ) from None
    if missing:
        raise EnvironmentProblem(
            f"--format {target}: needs {' and '.join(missing)}, which this environment lacks; run {install_command(missing)}"
        )
    if draft not in written.parents or not written.exists():
        raise EnvironmentProblem(
            f"--format {target}: this version of ultralytics wrote {written}, not beside the checkpoint"
        )
    return written


def install_command(packages: Sequence[str]) -> str:
    """What puts packages into the environment that runs this: its pip, or uv where `make setup` made it, which gives it none."""
    if find_spec("pip"):
        return shlex.join([sys.executable, "-m", "pip", "install", *packages])
    # Where tools/setup.sh puts it on a machine without one.
    beside = Path(sys.prefix).parent / ".uv" / "bin" / "uv"
    uv = "uv" if shutil.which("uv") or not beside.is_file() else str(beside)
    return shlex.join([uv, "pip", "install", "--python", sys.executable, *packages])


@contextlib.contextmanager
def _missing_packages() -> Iterator[list[str]]:
    """What Ultralytics asks for within and does not find. Left alone it would install some of that, or go on without it; it has one function to ask for packages."""
    missing: list[str] = []
    askers: tuple[Any, ...] = (checks, exporter)
    ask, ask_system = askers[0].check_requirements, askers[0].check_apt_requirements

    def note(requirements: str | Sequence[str | tuple[str, ...]], **_: Any) -> bool:
        wanted = [requirements] if isinstance(requirements, str) else requirements
        absent = [one for one in wanted if not ask([one], install=False)]
        names = [one if isinstance(one, str) else one[0] for one in absent]
        missing.extend(name for name in names if name not in missing)
        return not absent

    def refuse(packages: Sequence[str]) -> None:
        raise EnvironmentProblem(
            f"the export needs {' and '.join(packages)} of this system; have them installed there"
        )

    for asker in askers:
        asker.check_requirements = note
    askers[0].check_apt_requirements = refuse
    # Importing OpenVINO tells its maker and keeps an id in the home folder; without this package of its own it does neither.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        yield missing
    finally:
        for asker in askers:
            asker.check_requirements = ask
        askers[0].check_apt_requirements = ask_system


@contextlib.contextmanager
def _said_into(log: Path) -> Iterator[None]:
    """What is printed within goes to a file, that of converters included, which are programs of their own and know nothing of `sys.stdout`."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    try:
        with log.open("wb") as handle:
            os.dup2(handle.fileno(), 1)
            os.dup2(handle.fileno(), 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, original in enumerate(kept, start=1):
            os.dup2(original, number)
            os.close(original)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().removeprefix("ERROR ❌️ ")
    return text.splitlines()[0][:300] if text else type(error).__name__
