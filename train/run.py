"""A finished training run, as Ultralytics leaves it on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from datasets.containment import expanded
from datasets.data_yaml import parse_yaml, path_exists
from datasets.errors import InputError
from datasets.source import split_spec
from train.history import read_history
from train.predictions import Settings

# Written by `train.training` when a run is finished: its data, model and versions.
LINEAGE = "shiftscope.json"
# Written by `reports.watch` while a run trains: real-world results by epoch.
WATCHED = "real_world.csv"
# The domain name of the validation images in that file.
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
# Column names of the first version.
FORMER_NAMES = {"pictures": "images", "objects": "annotations", "speaking": "detection_rate"}


@dataclass(frozen=True)
class Run:
    """A training run, or a bare checkpoint.

    folder: the run folder, None for a bare checkpoint
    weights: the checkpoint
    sha256: of the checkpoint
    imgsz: training image size in pixels, None if unknown
    data: the data.yaml as args.yaml names it, None if unknown
    history: see `read_history`; empty without a results.csv
    arguments: content of args.yaml
    lineage: what `train.training` recorded; empty for runs of other programs
    watched: real-world results by epoch, see `reports.watch.COLUMNS`; empty if none were recorded
    function: "package.module:function" where a function of the user's own is the detector; None otherwise
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
    function: str | None = None

    @property
    def epochs(self) -> int:
        """Epochs in the history."""
        return len(self.history)

    @property
    def recorded_boxes(self) -> int | None:
        """Boxes in the images it was trained on, as the lineage records them; None where it does not."""
        boxes = self.lineage.get("boxes")
        count = boxes.get("train") if isinstance(boxes, dict) else None
        return count if isinstance(count, int) else None

    def settings(self, imgsz: int) -> Settings:
        """Inference settings as the run validated with, at a network input size in pixels."""
        iou, max_det = self.arguments.get("iou"), self.arguments.get("max_det")
        return Settings(
            imgsz,
            iou=float(iou) if isinstance(iou, (int, float)) and 0 < iou <= 1 else Settings.iou,
            max_det=max_det if isinstance(max_det, int) and max_det > 0 else Settings.max_det,
            classes=self.class_numbers,
            agnostic_nms=self.arguments.get("agnostic_nms") is True,
        )

    @property
    def class_numbers(self) -> tuple[int, ...]:
        """Numbers of the classes that the run was trained and validated on; () for all."""
        classes = self.arguments.get("classes")
        numbers = classes if isinstance(classes, list) else [classes]
        return tuple(number for number in numbers if isinstance(number, int) and not isinstance(number, bool))

    @property
    def is_single_class(self) -> bool:
        """Whether the run took all classes for one."""
        return self.arguments.get("single_cls") is True

    def trained_images(self, count: int) -> int:
        """How many of some training images the run was trained on: the first ones, see `fraction_limit`."""
        fraction = self.arguments.get("fraction", 1.0)
        share = fraction[0] if isinstance(fraction, list) and fraction else fraction
        return (
            min(count, fraction_limit(count, share))
            if isinstance(share, (int, float)) and share > 0
            else count
        )

    @property
    def remarks(self) -> list[str]:
        """What args.yaml says that makes this report differ from the run's own figures, one line each."""
        remarks = []
        conf, split = self.arguments.get("conf"), self.arguments.get("split")
        if isinstance(conf, (int, float)) and conf > Settings.conf:
            remarks.append(
                f"args.yaml has conf: {conf}; the run's own validation left weaker detections out, so its AP "
                "is lower than here"
            )
        if isinstance(split, str) and split not in ("val", ""):
            remarks.append(f"args.yaml has split: {split}; here in-domain scores come from val and test")
        if self.settings(0).max_det != Settings.max_det or self.settings(0).iou != Settings.iou:
            remarks.append(
                f"args.yaml has iou: {self.settings(0).iou:g} and max_det: {self.settings(0).max_det}; both "
                "are used here"
            )
        return remarks

    def data_source(self) -> str:
        """The data that the run was trained on, as `datasets.source.open_training` takes it.

        For runs of `train.training` the sources; else the run's data.yaml, searched as written, below the
        current folder and below the run. Raises InputError with the paths that were tried.
        """
        source = self.lineage.get("source")
        # args.yaml names a staged copy, which has the same images under other names.
        if isinstance(source, str) and all(
            Path(part).is_absolute() and path_exists(Path(part)) for part in split_spec(source)
        ):
            return source
        if not self.data:
            raise InputError(
                f"{self.folder or self.weights}: names no data.yaml (args.yaml has no 'data'); "
                "give --in-domain SOURCE"
            )
        data = expanded(self.data)
        bases = [Path.cwd(), *((self.folder, self.folder.parent) if self.folder else ())]
        candidates = [data] if data.is_absolute() else [base / data for base in bases]
        for candidate in candidates:
            if path_exists(candidate):
                return str(candidate.resolve())
        raise InputError(
            f"{self.folder}: its data {self.data} is not found; "
            f"tried {', '.join(map(str, candidates))}; give --in-domain SOURCE"
        )


def fraction_limit(count: int, share: float) -> int:
    """How many of some images Ultralytics uses with `fraction`: a whole number other than 1 counts images,
    anything else is a share of them.
    """
    return share if isinstance(share, int) and share > 1 else max(1, round(count * share))


def new_run_folder(parent: Path, name: str) -> Path:
    """The first of parent/name, parent/name-2, parent/name-3, ... that does not exist."""
    candidate, number = parent / name, 2
    while candidate.exists():
        candidate, number = parent / f"{name}-{number}", number + 1
    return candidate


def reserve_run_folder(parent: Path, name: str) -> Path:
    """Create a `new_run_folder`, so that two trainings that start at once get different folders."""
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


def best_checkpoint(folder: Path) -> Path:
    """The checkpoint of a run folder: weights/best.pt, else last.pt. Raises InputError without one."""
    if folder.is_file() and folder.suffix == ".pt":
        own = folder.parent.parent
        if folder.parent.name == "weights" and (own / "args.yaml").is_file():
            raise InputError(f"{folder}: is a checkpoint, not a run folder; give its run, {own}")
        raise InputError(f"{folder}: is a checkpoint, not a run folder; give it as --weights {folder}")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such run folder; give the folder that holds args.yaml and weights/")
    for name in ("best.pt", "last.pt"):
        if (folder / "weights" / name).is_file():
            return folder / "weights" / name
    raise InputError(
        f"{folder}: has no weights/best.pt or weights/last.pt; did the training finish? "
        "Give its run folder, or --weights FILE"
    )


def open_run(folder: Path) -> Run:
    """Read a run folder: args.yaml, results.csv and weights/best.pt (else last.pt).

    Parameters
    ----------
    folder
        A run folder of Ultralytics or of `train.training`.

    Returns
    -------
    Run
        The run.

    Raises
    ------
    InputError
        The folder or its checkpoint is missing, or results.csv is unreadable.
    """
    weights = best_checkpoint(folder)
    arguments = parse_yaml(folder / "args.yaml") if (folder / "args.yaml").is_file() else {}
    results = folder / "results.csv"
    history = read_history(results) if results.is_file() else pd.DataFrame()
    data = arguments.get("data")
    return Run(
        folder,
        weights,
        file_sha256(weights),
        _imgsz_of(arguments),
        str(data) if data else None,
        history,
        arguments,
        _read_lineage(folder / LINEAGE),
        read_watched(folder / WATCHED),
    )


def read_watched(path: Path) -> pd.DataFrame:
    """Read the real-world results of a run, one row per epoch and domain; empty if they are not readable."""
    try:
        table = pd.read_csv(path, dtype={"domain": "str"})
    except (OSError, ValueError):
        return pd.DataFrame()
    table = table.rename(columns={old: new for old, new in FORMER_NAMES.items() if new not in table})
    if not set(WATCHED_NUMBERS) < {*table.columns, "domain"} or "domain" not in table:
        return pd.DataFrame()
    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in WATCHED_NUMBERS}
    table = table.assign(**numbers).dropna(subset=["epoch", "domain"])
    return table.astype({"epoch": "int64"}).drop_duplicates(
        ["epoch", "domain"], keep="last", ignore_index=True
    )


def is_last_check(trainer: Any) -> bool:
    """Whether Ultralytics calls "on_fit_epoch_end" for the final validation of best.pt, not for an epoch.

    The validator of that call is not in training mode, since it runs on a checkpoint.
    """
    return not trainer.validator.training


def training_imgsz(checkpoint: Path | None) -> int | None:
    """Image size in pixels of the run that a checkpoint belongs to, None if unknown."""
    args_yaml = checkpoint.parent.parent / "args.yaml" if checkpoint is not None else None
    if args_yaml is None or not args_yaml.is_file():
        return None
    return _imgsz_of(parse_yaml(args_yaml))


def _imgsz_of(arguments: dict[str, Any]) -> int | None:
    """Image size in pixels that an args.yaml names; None where it names none, or a list."""
    imgsz = arguments.get("imgsz")
    return imgsz if isinstance(imgsz, int) else None


def _read_lineage(path: Path) -> dict[str, Any]:
    """Read what `train.training` recorded about a run; empty if the file is not readable."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def parent_of(run: Run) -> Run | None:
    """The run whose checkpoint this one started from, if that is still in place with the same weights."""
    path = run.lineage.get("parent")
    if not isinstance(path, str) or not Path(path).is_file():
        return None
    folder = Path(path).parent.parent
    parent = open_weights(Path(path), None)
    if parent.sha256 != run.lineage.get("model_sha256") or parent.sha256 == run.sha256:
        return None
    return open_run(folder) if (folder / "args.yaml").is_file() else parent


def open_weights(weights: Path, history: Path | None) -> Run:
    """Open a bare checkpoint.

    Parameters
    ----------
    weights
        A .pt checkpoint.
    history
        Its results.csv, None for none.

    Returns
    -------
    Run
        A run without a folder.

    Raises
    ------
    InputError
        The checkpoint does not exist, or the history is unreadable.
    """
    if weights.is_dir():
        raise InputError(
            f"{weights}: is a folder; give --run {weights}, or its checkpoint, such as "
            f"{weights / 'weights' / 'best.pt'}"
        )
    if not weights.is_file():
        raise InputError(f"{weights}: no such checkpoint; give a .pt file, or --run with the run folder")
    curve = read_history(history) if history else pd.DataFrame()
    args_yaml = weights.parent.parent / "args.yaml"
    # What a run says about itself holds for its checkpoint too: classes, iou, max_det and the like.
    is_of_run = weights.parent.name == "weights" and args_yaml.is_file()
    arguments = parse_yaml(args_yaml) if is_of_run else {}
    return Run(
        None,
        weights,
        file_sha256(weights),
        _imgsz_of(arguments),
        None,
        curve,
        arguments,
    )
