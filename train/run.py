"""A finished training run, as Ultralytics leaves it on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from datasets.containment import expanded
from datasets.data_yaml import is_there, parse_yaml
from datasets.errors import InputError
from datasets.source import parts_of
from train.history import read_history

# What our own training writes beside Ultralytics' files: where a run came from.
LINEAGE = "shiftscope.json"
# What watching the real world left there, see `reports.watch`.
WATCHED = "real_world.csv"
# The name under which validation stands in it.
IN_DOMAIN = "validation"
WATCHED_NUMBERS = (
    "epoch",
    "images",
    "labelled",
    "annotations",
    "ap50",
    "ap",
    "detection_rate",
    "shown",
    "confidence",
    "expected_ap50",
    "distance",
    "outside",
    "seconds",
)


@dataclass(frozen=True)
class Run:
    """weights: checkpoint. sha256: of the checkpoint. imgsz: training size in pixels, None if unknown. data: the run's data.yaml as written.

    history: see `read_history`; empty when the run has none. lineage: what `train.training` wrote about it; empty for other runs. watched: what was seen of the
    real world while it learned, see `reports.watch.COLUMNS`; empty where nobody watched.
    """

    folder: Path | None
    weights: Path
    sha256: str
    imgsz: int | None
    data: str | None
    history: pd.DataFrame
    arguments: dict[str, Any]
    lineage: dict[str, Any] = field(default_factory=dict)
    watched: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def epochs(self) -> int:
        """Epochs in the history, 0 without one."""
        return len(self.history)

    def data_source(self) -> str:
        """The data that the run was trained on, as `datasets.source.open_training` takes it: for our own runs the sources themselves, else the run's data.yaml, looked for as
        given, below the current folder and below the run.

        Raises InputError listing the places tried.
        """
        source = self.lineage.get("source")
        # The staged copy that ultralytics was given has the same images under other names.
        if isinstance(source, str) and all(
            Path(part).is_absolute() and is_there(Path(part)) for part in parts_of(source)
        ):
            return source
        if not self.data:
            raise InputError(
                f"{self.folder or self.weights}: names no data.yaml (args.yaml has no 'data'); say --in-domain SOURCE"
            )
        given = expanded(self.data)
        tried = (
            [given]
            if given.is_absolute()
            else [
                Path.cwd() / given,
                *((self.folder / given, self.folder.parent / given) if self.folder else ()),
            ]
        )
        for candidate in tried:
            if is_there(candidate):
                return str(candidate.resolve())
        raise InputError(
            f"{self.folder}: its data {self.data} is not found; tried {', '.join(map(str, tried))}; say --in-domain SOURCE"
        )


def new_run_folder(parent: Path, name: str) -> Path:
    """parent/name, or parent/name-2, -3, ...: a run never overwrites another."""
    candidate, number = parent / name, 2
    while candidate.exists():
        candidate, number = parent / f"{name}-{number}", number + 1
    return candidate


def reserve_run_folder(parent: Path, name: str) -> Path:
    """A `new_run_folder` that is there, empty: of two trainings that start at once, each has its own."""
    parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = new_run_folder(parent, name)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def best_of(folder: Path) -> Path:
    """The checkpoint of a run folder: weights/best.pt, else last.pt. Raises InputError saying what is missing."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run folder; give the folder that holds args.yaml and weights/")
    for name in ("best.pt", "last.pt"):
        if (folder / "weights" / name).is_file():
            return folder / "weights" / name
    raise InputError(
        f"{folder}: has no weights/best.pt or weights/last.pt; did the training finish? Give its run folder, or --weights FILE"
    )


def open_run(folder: Path) -> Run:
    """Read a run folder: args.yaml, results.csv, weights/best.pt (else last.pt).

    Raises InputError saying what is missing and where to point instead.
    """
    weights = best_of(folder)
    arguments = parse_yaml(folder / "args.yaml") if (folder / "args.yaml").is_file() else {}
    results = folder / "results.csv"
    history = read_history(results) if results.is_file() else pd.DataFrame()
    imgsz = arguments.get("imgsz")
    data = arguments.get("data")
    return Run(
        folder,
        weights,
        file_sha256(weights),
        imgsz if isinstance(imgsz, int) else None,
        str(data) if data else None,
        history,
        arguments,
        _read_lineage(folder / LINEAGE),
        read_watched(folder / WATCHED),
    )


def read_watched(path: Path) -> pd.DataFrame:
    """A table of looks, one row an epoch and domain; empty where there is none that can be read."""
    try:
        table = pd.read_csv(path, dtype={"domain": "str"})
    except (OSError, ValueError):
        return pd.DataFrame()
    if not set(WATCHED_NUMBERS) < {*table.columns, "domain"} or "domain" not in table:
        return pd.DataFrame()
    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in WATCHED_NUMBERS}
    table = table.assign(**numbers).dropna(subset=["epoch", "domain"])
    return table.astype({"epoch": "int64"}).drop_duplicates(
        ["epoch", "domain"], keep="last", ignore_index=True
    )


def is_last_check(trainer: Any) -> bool:
    """Whether Ultralytics calls "on_fit_epoch_end" for the check of best.pt after the last epoch, and not for an epoch: its validator was given a checkpoint then."""
    return not trainer.validator.training


def trained_at(model: Path | None) -> int | None:
    """Image size of the run that a checkpoint lies in, None where that is not known."""
    data_yaml = model.parent.parent / "args.yaml" if model is not None else None
    if data_yaml is None or not data_yaml.is_file():
        return None
    imgsz = parse_yaml(data_yaml).get("imgsz")
    return imgsz if isinstance(imgsz, int) else None


def _read_lineage(path: Path) -> dict[str, Any]:
    """What a run says of where it came from; empty where it says nothing that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def parent_of(run: Run) -> Run | None:
    """The run that this one went on from, if it still lies where it was and holds the same weights."""
    place = run.lineage.get("parent")
    if not isinstance(place, str) or not Path(place).is_file():
        return None
    folder = Path(place).parent.parent
    parent = open_weights(Path(place), None)
    if parent.sha256 != run.lineage.get("model_sha256") or parent.sha256 == run.sha256:
        return None
    return open_run(folder) if (folder / "args.yaml").is_file() else parent


def open_weights(weights: Path, history: Path | None) -> Run:
    """A bare checkpoint, with a learning curve if one is given. Raises InputError when it does not exist."""
    if not weights.is_file():
        raise InputError(f"{weights}: no such checkpoint; give a .pt file, or --run with the run folder")
    curve = read_history(history) if history else pd.DataFrame()
    return Run(None, weights, file_sha256(weights), None, None, curve, {})
