"""What each command can be asked for: one class a command, one field an option.

The fields are the command line (`reports.cli` builds each command from its class) and the keyword arguments
of the Python package
(`shiftscope`); the values of a report are kept in report.json and read back from there.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, get_args, get_origin, get_type_hints

import typer

from datasets.errors import InputError, cause_of


class Effort(StrEnum):
    """What a report may cost beyond one forward pass over the images, see `reports.pipeline.effort`."""

    QUICK = "quick"
    STANDARD = "standard"
    THOROUGH = "thorough"


# A domain as it is asked for: its name, None for one made from the source, and its source.
NamedSource = tuple[str | None, str]
# Kept checkpoints that are compared, unless --checkpoints says otherwise.
CHECKPOINTS = 4


def _parse_source(value: Any) -> NamedSource | None:
    """Read "SOURCE" or "NAME=SOURCE", or a pair of both. A path that exists is a source even with "=" in it.

    Raises InputError where a part is missing.
    """
    if value is None or (isinstance(value, (tuple, list)) and len(value) == 2):
        return None if value is None else (value[0], str(value[1]))
    text = str(value)
    name, mark, source = text.partition("=")
    if not mark or Path(text).exists() or "/" in name:
        return None, text
    if not name or not source:
        raise InputError(f"{text!r}: expected SOURCE or NAME=SOURCE")
    return name, source


def _parse_sources(value: Any) -> tuple[NamedSource, ...]:
    """Read one source or several, repeated or with commas between, or a mapping from names; those of one name
    are one domain.
    """
    domains: list[NamedSource] = []
    for item in _split(value):
        name, source = _parse_source(item) or (None, "")
        same = next((i for i, (other, _) in enumerate(domains) if name is not None and other == name), None)
        if same is None:
            domains.append((name, source))
        else:
            domains[same] = (name, f"{domains[same][1]},{source}")
    return tuple(domains)


def _split(value: Any) -> Iterable[Any]:
    """The items of an option of several sources."""
    for item in value.items() if isinstance(value, Mapping) else _listed(value):
        if isinstance(item, (tuple, list)):
            yield item
            continue
        _, source = _parse_source(item) or (None, "")
        yield from [item] if Path(source).exists() else [part for part in str(item).split(",") if part]


def _parse_class_map(value: Any) -> tuple[tuple[str, str], ...]:
    """Read NAME=CLASS pairs of class names, or a mapping. Raises InputError where one is not a pair."""
    pairs = []
    for item in value.items() if isinstance(value, Mapping) else _listed(value):
        if isinstance(item, (tuple, list)):
            pairs.append((str(item[0]), str(item[1])))
            continue
        theirs, mark, ours = str(item).partition("=")
        if not mark or not theirs:
            raise InputError(f"--class-map {item!r}: expected NAME=CLASS, or NAME= to leave a class out")
        pairs.append((theirs, ours))
    return tuple(pairs)


def _parse_predictions(value: Any) -> tuple[tuple[str, Path], ...]:
    """Read NAME=FILE pairs, or a mapping. Raises InputError where one is not a pair."""
    pairs = []
    for item in value.items() if isinstance(value, Mapping) else _listed(value):
        if isinstance(item, (tuple, list)):
            pairs.append((str(item[0]), Path(item[1])))
            continue
        name, mark, file = str(item).partition("=")
        if not mark or not name or not file:
            raise InputError(f"--predictions {item!r}: expected NAME=FILE, where NAME is a domain")
        pairs.append((name, Path(file)))
    return tuple(pairs)


def _parse_names(value: Any) -> tuple[str, ...]:
    """Read names with commas between."""
    names = value.split(",") if isinstance(value, str) else _listed(value)
    return tuple(name.strip() for name in names if name.strip())


def _listed(value: Any) -> list[Any]:
    """Nothing, one thing or several as a list."""
    if value is None:
        return []
    return [value] if isinstance(value, (str, Path)) else list(value)


def absolute(path: Path | str | None) -> str | None:
    """A path that exists as an absolute one, also within a list with commas; anything else (a Kaggle handle,
    an address, a FiftyOne dataset) as it is.
    """
    if path is None:
        return None
    from datasets.source import split_spec  # imports pandas, which numbers-only commands do without

    parts = [(part, Path(part).expanduser()) for part in split_spec(str(path))]
    # Not the path of what is no path: it would lose a slash of an address.
    return ",".join(str(place.absolute()) if place.exists() else part for part, place in parts)


@dataclass(frozen=True)
class Parsed:
    """How an option is read where its type alone does not say it.

    parse: from what the command line, Python or JSON gives
    many: the option may be repeated
    record: its value as JSON
    """

    parse: Callable[[Any], Any]
    many: bool = False
    record: Callable[[Any], Any] = list


def _pair_records(pairs: Iterable[tuple[str | None, Path | str]]) -> list[list[str | None]]:
    return [[name, absolute(source)] for name, source in pairs]


# Options that several commands share.
Run = Annotated[
    Path | None,
    typer.Option("--run", help="Run folder of a finished training (args.yaml, results.csv, weights/)."),
]
Weights = Annotated[Path | None, typer.Option(help="A checkpoint, instead of --run.")]
Function = Annotated[
    str | None,
    typer.Option(
        "--detector",
        help="package.module:function of your own that gives boxes, instead of a checkpoint; its code is run.",
    ),
]
InDomain = Annotated[
    NamedSource | None,
    typer.Option("--in-domain", help="SOURCE or NAME=SOURCE; default: the run's own data.yaml."),
    Parsed(_parse_source, record=lambda pair: pair and _pair_records([pair])[0]),
]
RealWorld = Annotated[
    tuple[NamedSource, ...],
    typer.Option("--real-world", help="SOURCE or NAME=SOURCE; repeat it, or separate several by commas."),
    Parsed(_parse_sources, many=True, record=_pair_records),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        help="Regular expression with a named group 'group', matched on each path: what belongs together.",
    ),
]
Imgsz = Annotated[int | None, typer.Option(help="Network input size in pixels; default: the training's.")]
Device = Annotated[str | None, typer.Option(help="cpu, 0, cuda:1, mps; default: a GPU if there is one.")]
Batch = Annotated[int | None, typer.Option(help="Images per forward call; default: 1 on a CPU, 8 on a GPU.")]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="[ADDRESS]",
        help="Predict on a Ray cluster whose machines see the same folders: its address, or none for the one "
        "that runs "
        "here; local starts one on this machine.",
    ),
]
Conf = Annotated[float, typer.Option(min=0.0, max=1.0, help="Confidence from which detections are drawn.")]
Names = Annotated[
    tuple[str, ...],
    typer.Option(help="Class names with commas between, for sources that name none."),
    Parsed(_parse_names),
]
Out = Annotated[Path | None, typer.Option(help="Folder to write into.")]
Corrections = Annotated[
    bool,
    typer.Option(
        "--corrections/--no-corrections",
        help="Use labels and tags read back by 'shiftscope app --pull', and answers of 'shiftscope review'.",
    ),
]
Fiftyone = Annotated[bool, typer.Option("--fiftyone/--no-fiftyone", help="Write the FiftyOne dataset.")]
ClassMap = Annotated[
    tuple[tuple[str, str], ...],
    typer.Option(
        "--class-map",
        help="NAME=CLASS: a source's class name and the model's; NAME= leaves a class out. Repeatable.",
    ),
    Parsed(_parse_class_map, many=True, record=lambda pairs: [list(pair) for pair in pairs]),
]
AllowRoot = Annotated[
    tuple[Path, ...],
    typer.Option("--allow-root", help="A folder outside of a source that it may lead to. Repeatable."),
]
TrustCheckpoint = Annotated[
    bool,
    typer.Option(
        "--trust-checkpoint",
        help="Load a checkpoint of your own that the restricted loader refuses: runs code in it.",
    ),
]
MaxSkipped = Annotated[
    int | None, typer.Option(min=0, help="Exit with code 4 if more files than this were not used.")
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Fraction = Annotated[float | None, typer.Option(min=0.0, max=1.0, help="As a fraction, such as 0.036.")]


class Options:
    """Values are read by their type: text as paths, one value as a tuple of one; out-of-range numbers raise
    InputError.
    """

    # How a result is delivered, which is no part of what it is.
    DELIVERY: ClassVar[frozenset[str]] = frozenset({"out", "json", "max_skipped", "fiftyone"})

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            if get_origin(hint) is Annotated:
                object.__setattr__(self, name, _read(name, hint, getattr(self, name)))

    def as_record(self) -> dict[str, Any]:
        """As JSON values, with absolute paths, so that the same can be asked again from anywhere."""
        record = {}
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            if get_origin(hint) is Annotated and name not in self.DELIVERY:
                record[name] = _as_json(hint, getattr(self, name))
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The options that `as_record` gave. Raises InputError when it is not such a record."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]  # every subclass is a dataclass
        try:
            if not {"run", "weights", "in_domain", "real_world"} <= set(record):
                raise KeyError("run, weights, in_domain and real_world are needed")
            return cls(**{name: value for name, value in record.items() if name in known})
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise InputError(
                f"the report does not say with which options it was made ({cause_of(error)}); "
                "write it again with 'shiftscope report'"
            ) from None


def _read(name: str, hint: Any, value: Any) -> Any:
    """The value of an option by its type. Raises InputError where a number is out of its range."""
    base, *extras = get_args(hint)
    parsed = next((extra for extra in extras if isinstance(extra, Parsed)), None)
    if parsed is not None:
        return parsed.parse(value)
    if get_origin(base) is tuple:
        kind = get_args(base)[0]
        return tuple(kind(item) for item in _listed(value))
    if isinstance(base, type) and issubclass(base, StrEnum):
        if value not in list(base):
            raise InputError(f"{name}={value}: expected {', '.join(base)}")
        return base(value)
    if isinstance(value, str) and Path in (base, *get_args(base)):
        return Path(value)
    if isinstance(value, (int, float)):
        for extra in extras:
            low, high = getattr(extra, "min", None), getattr(extra, "max", None)
            if (low is not None and value < low) or (high is not None and value > high):
                allowed = f"at least {low}" if high is None else f"{low} to {high}"
                raise InputError(f"{name}={value}: expected {allowed}")
    return value


def _as_json(hint: Any, value: Any) -> Any:
    """An option's value as JSON."""
    parsed = next((extra for extra in get_args(hint)[1:] if isinstance(extra, Parsed)), None)
    if parsed is not None:
        return parsed.record(value) if value is not None else None
    if isinstance(value, tuple):
        return [absolute(item) if isinstance(item, Path) else item for item in value]
    if isinstance(value, StrEnum):
        return value.value
    return absolute(value) if isinstance(value, Path) else value


def command_line_type(hint: Any) -> Any:
    """The type under which an option is read from the command line, with its typer declaration."""
    base, *extras = get_args(hint)
    declaration = next(extra for extra in extras if not isinstance(extra, Parsed))
    parsed = next((extra for extra in extras if isinstance(extra, Parsed)), None)
    if parsed is not None:
        return Annotated[list[str] | None if parsed.many else str | None, declaration]
    if get_origin(base) is tuple:
        return Annotated[list[get_args(base)[0]] | None, declaration]  # type: ignore[misc]  # a type made at run time
    return Annotated[base, declaration]


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Options):
    """`shiftscope report`. The help of each option says what it means; see docs/command-line.md."""

    run: Run = None
    weights: Weights = None
    detector: Function = None
    in_domain: InDomain = None
    real_world: RealWorld = ()
    predictions: Annotated[
        tuple[tuple[str, Path], ...],
        typer.Option(
            help="NAME=FILE: COCO results of a domain, instead of inference on its images. Repeatable."
        ),
        Parsed(_parse_predictions, many=True, record=_pair_records),
    ] = ()
    slices: Annotated[
        tuple[str, ...],
        typer.Option(
            help="Attributes to slice by: a CSV (a column 'image', every other one an attribute; or "
            "image_id,slice), "
            "or fiftyone:DATASET for its tags and fields. Repeatable."
        ),
        Parsed(
            lambda value: tuple(map(str, _listed(value))), many=True, record=lambda v: list(map(absolute, v))
        ),
    ] = ()
    history: Annotated[
        Path | None,
        typer.Option(help="A results.csv; default: the run's, or the curve that the checkpoint keeps."),
    ] = None
    group_by: GroupBy = None
    conf: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Confidence threshold in use; default: the best in-domain."),
    ] = None
    label_free: Annotated[
        bool | None,
        typer.Option(
            "--label-free/--no-label-free",
            help="Estimate AP50 without labels, by inference on corrupted in-domain images; "
            "default: where real-world images have no labels.",
        ),
    ] = None
    effort: Annotated[
        Effort,
        typer.Option(
            help="Forward passes beyond the first over the images: standard at most as many again, quick half "
            "as many "
            "and no estimate without labels, thorough as many as all experiments take."
        ),
    ] = Effort.STANDARD
    before: Annotated[
        Path | None,
        typer.Option(
            help="An earlier run folder or checkpoint to compare with; default: the one this run was "
            "trained from."
        ),
    ] = None
    checkpoints: Annotated[
        int,
        typer.Option(
            min=0, help="Checkpoints that the run kept (save_period) to compare, at most; 0 for none."
        ),
    ] = CHECKPOINTS
    corrections: Corrections = True
    class_map: ClassMap = ()
    allow_root: AllowRoot = ()
    trust_checkpoint: TrustCheckpoint = False
    imgsz: Imgsz = None
    device: Device = None
    batch: Batch = None
    ray: Ray = None
    out: Out = None
    fiftyone: Fiftyone = True
    max_skipped: MaxSkipped = None
    seed: Seed = 0
    json: Json = False

    @property
    def is_demo(self) -> bool:
        """Whether nothing to diagnose is named: then the demo is."""
        return not any(
            (self.run, self.weights, self.detector, self.in_domain, self.real_world, self.predictions)
        )


# What names the detector (one replaces the report's, however it is named); what a ranking does not take over
# from a report.
DETECTORS = frozenset({"run", "weights", "detector"})
NOT_TAKEN = frozenset({"out", "json", "seed", "ray"})


@dataclass(frozen=True, kw_only=True)
class NextOptions(Options):
    """`shiftscope next`."""

    from_report: Annotated[
        Path | None,
        typer.Option(
            "--from-report",
            help="A report's folder: takes its run and sources; default: the last report, where nothing else "
            "is named.",
        ),
    ] = None
    run: Run = None
    weights: Weights = None
    detector: Function = None
    in_domain: InDomain = None
    real_world: RealWorld = ()
    pool: Annotated[
        tuple[NamedSource, ...],
        typer.Option(help="SOURCE to pick from; default: the real-world domains. Repeatable."),
        Parsed(_parse_sources, many=True, record=_pair_records),
    ] = ()
    candidate: Annotated[
        tuple[NamedSource, ...],
        typer.Option(
            help="A dataset you could add, SOURCE or NAME=SOURCE; ranked by what it covers of the real "
            "world. Repeatable."
        ),
        Parsed(_parse_sources, many=True, record=_pair_records),
    ] = ()
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Try every candidate with a short training, and rank by AP50 on the labelled real-world "
            "images; takes minutes.",
        ),
    ] = False
    budget: Annotated[
        int | None, typer.Option(min=1, help="Images to pick; 50, unless --boxes is given.")
    ] = None
    boxes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Boxes to label: images are picked until they hold so many (annotations, or detections "
            "where there are none).",
        ),
    ] = None
    group_by: GroupBy = None
    corrections: Corrections = True
    class_map: ClassMap = ()
    allow_root: AllowRoot = ()
    trust_checkpoint: TrustCheckpoint = False
    imgsz: Imgsz = None
    device: Device = None
    batch: Batch = None
    ray: Ray = None
    out: Out = None
    seed: Seed = 0
    json: Json = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing to rank is named: then the last report is taken."""
        return not any(
            (
                self.run,
                self.weights,
                self.detector,
                self.in_domain,
                self.real_world,
                self.pool,
                self.candidate,
            )
        )

    def filled_from(self, report: ReportOptions) -> Self:
        """These options, with those of a report where nothing else was asked for."""
        shared = {field.name for field in fields(report)} - NOT_TAKEN
        if any(getattr(self, name) is not None for name in DETECTORS):
            shared -= DETECTORS
        unset = {field.name for field in fields(self) if getattr(self, field.name) == field.default}
        return replace(self, **{name: getattr(report, name) for name in shared & unset})

    def as_report(self) -> ReportOptions:
        """The options of a report on the same detector and domains."""
        shared = {field.name for field in fields(ReportOptions)} & {field.name for field in fields(self)}
        return ReportOptions(**{name: getattr(self, name) for name in shared})


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """`shiftscope train`."""

    data: Annotated[
        str, typer.Argument(help="SOURCE with a train and a val split; several with commas between are one.")
    ]
    arguments: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="KEY=VALUE",
            help="Any training argument of Ultralytics under its own name, such as optimizer=AdamW "
            "lr0=0.001 save_period=5.",
        ),
    ] = ()
    model: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint, run folder, architecture yaml, or the name of a pretrained checkpoint; "
            "default: yolo11n.pt, fetched once, or a small architecture from scratch."
        ),
    ] = None
    epochs: Annotated[int, typer.Option(min=1)] = 60
    imgsz: Annotated[
        int | None,
        typer.Option(min=32, help="Network input size; default: that of the checkpoint's run, else 640."),
    ] = None
    batch: Annotated[int, typer.Option(min=1, help="Images per step; halved where memory runs out.")] = 16
    device: Device = None
    name: Annotated[str, typer.Option(help="Name of the run; a taken name gets a number.")] = "train"
    resume: Annotated[Path | None, typer.Option(help="Continue this unfinished run folder.")] = None
    names: Names = ()
    real_world: Annotated[
        tuple[NamedSource, ...],
        typer.Option(
            "--real-world",
            help="SOURCE or NAME=SOURCE to evaluate after epochs, labelled or not; repeat it, or separate "
            "several by commas.",
        ),
        Parsed(_parse_sources, many=True, record=_pair_records),
    ] = ()
    watch_every: Annotated[
        int, typer.Option(min=1, help="Epochs between two evaluations on --real-world.")
    ] = 1
    class_map: ClassMap = ()
    allow_root: AllowRoot = ()
    trust_checkpoint: TrustCheckpoint = False
    corrections: Corrections = True
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class PredictOptions(Options):
    """`shiftscope predict`."""

    source: Annotated[str, typer.Argument(help="SOURCE: images, folders, videos; or webcam, webcam:1 ...")]
    weights: Annotated[
        Path | None, typer.Option(help="A detection checkpoint; default: that of --from-report.")
    ] = None
    detector: Function = None
    from_report: Annotated[
        Path | None,
        typer.Option(
            "--from-report",
            help="A report's folder: takes image size, tiles, colours and a threshold a class from it.",
        ),
    ] = None
    domain: Annotated[
        str | None, typer.Option(help="Whose settings of --from-report; needed where it has several domains.")
    ] = None
    conf: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Confidence from which detections are drawn; default: 0.25, or those of --from-report.",
        ),
    ] = None
    iou: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Overlap from which two boxes of a class count as one.")
    ] = 0.7
    imgsz: Imgsz = None
    device: Device = None
    ray: Ray = None
    stride: Annotated[int, typer.Option(min=1, help="Of a video, use every so many frames.")] = 1
    blur: Annotated[
        tuple[str, ...],
        typer.Option(help="Classes to make unrecognisable instead of outlining them, with commas between."),
        Parsed(_parse_names),
    ] = ()
    show: Annotated[bool, typer.Option("--show", help="Show the result in a browser too, as it happens.")] = (
        False
    )
    out: Out = None
    allow_root: AllowRoot = ()
    trust_checkpoint: TrustCheckpoint = False
    max_skipped: MaxSkipped = None
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(Options):
    """`shiftscope prepare`."""

    source: Annotated[str, typer.Argument(help="SOURCE to read; nothing is written to it.")]
    out: Out = None
    copies: Annotated[
        int, typer.Option(min=0, max=100, help="Augmented copies of each labelled training image.")
    ] = 0
    recipe: Annotated[
        Path | None,
        typer.Option(help="How copies are augmented: a yaml like train/augment.yaml, the default."),
    ] = None
    min_side: Annotated[
        float, typer.Option(min=0.0, help="Remove boxes of which a side is shorter, in pixels.")
    ] = 1.0
    max_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Remove boxes that cover more of their image's area.")
    ] = 1.0
    weights: Annotated[
        Path | None,
        typer.Option(help="A checkpoint whose detections become draft labels of unlabelled images."),
    ] = None
    conf: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Confidence from which a detection is a draft.")
    ] = 0.25
    imgsz: Imgsz = None
    device: Device = None
    names: Names = ()
    group_by: GroupBy = None
    allow_root: AllowRoot = ()
    trust_checkpoint: TrustCheckpoint = False
    corrections: Corrections = True
    fiftyone: Fiftyone = True
    max_skipped: MaxSkipped = None
    seed: Seed = 0
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class InspectOptions(Options):
    """`shiftscope inspect`."""

    source: Annotated[str, typer.Argument(help="SOURCE to read; nothing is written.")]
    against: Annotated[
        str | None,
        typer.Option(
            help="SOURCE, an earlier version of the dataset: what was added, removed and changed, by content."
        ),
    ] = None
    group_by: GroupBy = None
    names: Names = ()
    allow_root: AllowRoot = ()
    max_skipped: MaxSkipped = None
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class ForecastOptions(Options):
    """`shiftscope forecast`."""

    curve: Annotated[
        tuple[Path, ...],
        typer.Argument(
            metavar="REPORT... | CSV",
            help="Reports of runs that were trained with more and more labels, each a folder or its "
            "report.json; "
            "or one CSV with the columns labels and ap50, one row a training.",
        ),
    ]
    goal: Annotated[float, typer.Option(min=0.0, max=1.0, help="AP50 to reach, as a fraction such as 0.6.")]
    domain: Annotated[
        str | None, typer.Option(help="The real-world domain to forecast, where the reports have several.")
    ] = None
    out: Annotated[
        Path | None, typer.Option(help="Folder to draw the curve into, and to write its points into.")
    ] = None
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Options):
    """`shiftscope score`."""

    ground_truth: Annotated[Path, typer.Option(help="COCO ground truth.")]
    predictions: Annotated[Path, typer.Option(help="COCO results of any detector.")]
    slices: Annotated[Path | None, typer.Option(help="CSV with image_id,slice; an image may be in many.")] = (
        None
    )
    groups: Annotated[
        Path | None, typer.Option(help="CSV with image_id,group: the units of the bootstrap.")
    ] = None
    baseline: Annotated[
        Path | None,
        typer.Option(help="COCO results of another detector on the same images, to compare with."),
    ] = None
    bootstrap: Annotated[int, typer.Option(min=0, help="Replicates; 0 for no interval.")] = 0
    out: Annotated[Path | None, typer.Option(help="File to write; default: stdout.")] = None
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class CompareOptions(Options):
    """`shiftscope compare`."""

    reports: Annotated[
        tuple[Path, ...], typer.Argument(help="Folders of two reports or more; the first is the one before.")
    ]
    out: Out = None
    seed: Seed = 0
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class HistoryOptions(Options):
    """`shiftscope history`."""

    runs: Annotated[
        Path | None, typer.Argument(help="A folder that holds reports, at any depth; default: runs.")
    ] = None
    out: Out = None
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class LogOptions(Options):
    """`shiftscope log`."""

    report: Annotated[
        Path | None, typer.Argument(help="A report's folder; default: the one written last.")
    ] = None
    to: Annotated[
        tuple[str, ...],
        typer.Option(
            help="Where the report goes: mlflow, tensorboard, wandb, clearml or comet. Repeatable; nothing is "
            "sent anywhere "
            "else."
        ),
    ] = ()
    project: Annotated[str, typer.Option(help="Project or experiment there.")] = "shiftscope"
    name: Annotated[str | None, typer.Option(help="Name of the run there; default: the report's.")] = None


@dataclass(frozen=True, kw_only=True)
class CheckOptions(Options):
    """`shiftscope check`."""

    report: Annotated[Path, typer.Argument(help="A report's folder.")]
    baseline: Annotated[
        Path | None, typer.Option(help="The folder of an earlier report, for --no-regression.")
    ] = None
    require: Annotated[
        tuple[str, ...],
        typer.Option(
            help="A rule such as 'real-world ap50 >= 0.5': a domain's name, real-world or in-domain; ap50, "
            "ap, recall, "
            "precision, f1 or false_positives (an image); >=, >, <= or <; a number. Repeatable."
        ),
    ] = ()
    no_regression: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=100.0,
            help="Points of AP50 that no domain may lose against --baseline, beyond chance.",
        ),
    ] = None
    junit: Annotated[Path | None, typer.Option(help="Write the rules as JUnit XML.")] = None
    summary: Annotated[Path | None, typer.Option(help="Append a summary in Markdown to this file.")] = None
    seed: Seed = 0
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class TriageOptions(Options):
    """`shiftscope triage`."""

    history: Annotated[
        Path | None, typer.Option(help="A results.csv, or a table of epochs as people publish it.")
    ] = None
    in_domain_ap50: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Default: that of the history's last epoch.")
    ] = None
    training_ap50: Fraction = None
    real_world_ap50: Fraction = None
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class AppOptions(Options):
    """`shiftscope app`."""

    dataset: Annotated[str | None, typer.Argument(help="Dataset of a report; default: the last one.")] = None
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5151
    pull: Annotated[
        bool,
        typer.Option(
            "--pull",
            help="Do not open the App: read back the tags and corrected labels made in it, for the next "
            "report.",
        ),
    ] = False
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="First write the report in runs/report/ and its dataset anew, when FiftyOne's database has "
            "lost it.",
        ),
    ] = False
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class ReviewOptions(Options):
    """`shiftscope review`."""

    report: Annotated[
        Path | None, typer.Argument(help="Folder of a report; default: the one written last.")
    ] = None
    domain: Annotated[
        str | None,
        typer.Option(
            help="Real-world domain; default: the first without labels (with --labels: with labels), else "
            "that of the verdict."
        ),
    ] = None
    labels: Annotated[
        bool,
        typer.Option("--labels", help="Judge the domain's labels one by one, the most suspicious first."),
    ] = False
    budget: Annotated[int, typer.Option(min=1, help="Frames, or labels, to ask for.")] = 60
    plan: Annotated[
        bool, typer.Option("--plan", help="Only print what would be asked for, in order, as JSON.")
    ] = False
    answers: Annotated[
        Path | None, typer.Option(help="JSON with answers made elsewhere, in place of the page.")
    ] = None
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5152
    seed: Annotated[int, typer.Option(help="Of the order in which frames or labels are asked for.")] = 0
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class WorldOptions(Options):
    """`shiftscope world`."""

    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")]
    view: Annotated[str, typer.Option(help="dashcam or drone: where the dials start.")] = "dashcam"
    dial: Annotated[
        tuple[str, ...],
        typer.Option(help="NAME=SEVERITY (0 to 5), for example pitch=3. Repeatable."),
    ] = ()
    train_clips: Annotated[int, typer.Option(min=0)] = 0
    val_clips: Annotated[int, typer.Option(min=0)] = 10
    frames: Annotated[int, typer.Option(min=1, help="Images per clip.")] = 10
    seed: Seed = 0


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Options):
    """`shiftscope export`."""

    weights: Annotated[
        Path, typer.Argument(help="Checkpoint of a detector, or a run folder for its best.pt.")
    ]
    arguments: Annotated[
        tuple[str, ...],
        typer.Argument(
            metavar="KEY=VALUE",
            help="What Ultralytics' export to this format takes, under its own name, such as dynamic=True "
            "or quantize=16; "
            "data= is a SOURCE.",
        ),
    ] = ()
    format: Annotated[
        str, typer.Option(help="onnx, ncnn, openvino, torchscript ...; an unknown one lists them all.")
    ] = "onnx"
    imgsz: Imgsz = None
    device: Device = None
    name: Annotated[
        str | None, typer.Option(help="Name of the export; a taken name gets a number; default: the run's.")
    ] = None
    trust_checkpoint: TrustCheckpoint = False
