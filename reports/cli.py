"""The console script. stdout is data, stderr is progress; errors are one line and an exit code, a traceback only with --debug."""

from __future__ import annotations

import contextlib
import errno
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datasets.errors import EnvironmentProblem, InputError
from reports.progress import Reporter
from train.environment import frames_folder, runs_folder

if TYPE_CHECKING:
    from reports.options import ReportOptions

OK, GATE_FAILED, BAD_INPUT, ENVIRONMENT, TOO_MANY_SKIPPED, INTERRUPTED = 0, 1, 2, 3, 4, 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Why a detector that scores well in validation fails on real footage, and what to add next.",
)

RunOption = Annotated[
    Path | None,
    typer.Option("--run", help="Run folder of a finished training (args.yaml, results.csv, weights/)."),
]
WeightsOption = Annotated[Path | None, typer.Option(help="A checkpoint, instead of --run.")]
InDomainOption = Annotated[
    str | None, typer.Option("--in-domain", help="SOURCE or NAME=SOURCE; default: the run's own data.yaml.")
]
RealWorldOption = Annotated[
    list[str] | None,
    typer.Option("--real-world", help="SOURCE or NAME=SOURCE; repeat it, or separate several by commas."),
]
GroupByOption = Annotated[
    str | None,
    typer.Option(
        "--group-by",
        help="Regular expression with a named group 'group', matched on each path: what belongs together.",
    ),
]
ImgszOption = Annotated[
    int | None, typer.Option(help="Network input size in pixels; default: the training's.")
]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu, 0, cuda:1, mps; default: a GPU if there is one.")
]
BatchOption = Annotated[
    int | None, typer.Option(help="Images a forward call; default: 1 on a CPU, 8 on a GPU.")
]
OutOption = Annotated[Path | None, typer.Option(help="Folder to write into.")]
CorrectionsOption = Annotated[
    bool,
    typer.Option("--no-corrections", help="Leave out labels and tags read back by 'shiftscope app --pull'."),
]
NoFiftyoneOption = Annotated[bool, typer.Option("--no-fiftyone", help="Do not write the FiftyOne dataset.")]
ClassMapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--class-map",
        help="THEIRS=OURS: a source's class name and the model's; THEIRS= leaves a class out. Repeatable.",
    ),
]
AllowRootOption = Annotated[
    list[Path] | None,
    typer.Option("--allow-root", help="A folder outside of a source that it may lead to. Repeatable."),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-checkpoint",
        help="Load a checkpoint of your own that the restricted loader refuses: runs code in it.",
    ),
]
MaxSkippedOption = Annotated[
    int | None, typer.Option(min=0, help="Exit with code 4 if more files than this were not used.")
]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def named(text: str) -> tuple[str | None, str]:
    """Split "NAME=SOURCE" or "SOURCE" into (name or None, source). A path that exists as it is, is a source even with "=" in it."""
    name, mark, source = text.partition("=")
    if not mark or Path(text).exists() or "/" in name:
        return None, text
    if not name or not source:
        raise InputError(f"{text!r}: expected SOURCE or NAME=SOURCE")
    return name, source


def several(texts: Sequence[str] | None) -> tuple[tuple[str | None, str], ...]:
    """Repeated and comma-separated sources in order; those of one NAME are one domain."""
    parts: list[str] = []
    for text in texts or ():
        parts += [text] if Path(named(text)[1]).exists() else [part for part in text.split(",") if part]
    found: list[tuple[str | None, str]] = []
    for name, source in map(named, parts):
        same = next((i for i, (other, _) in enumerate(found) if name is not None and other == name), None)
        if same is None:
            found.append((name, source))
        else:
            found[same] = (name, f"{found[same][1]},{source}")
    return tuple(found)


def pairs_of(texts: Sequence[str] | None) -> tuple[tuple[str, str], ...]:
    """THEIRS=OURS pairs of class names."""
    pairs = []
    for text in texts or ():
        theirs, mark, ours = text.partition("=")
        if not mark or not theirs:
            raise InputError(f"--class-map {text!r}: expected THEIRS=OURS, or THEIRS= to leave a class out")
        pairs.append((theirs, ours))
    return tuple(pairs)


def predictions_of(texts: Sequence[str] | None) -> tuple[tuple[str, Path], ...]:
    """NAME=FILE pairs."""
    pairs = []
    for text in texts or ():
        name, mark, file = text.partition("=")
        if not mark or not name or not file:
            raise InputError(f"--predictions {text!r}: expected NAME=FILE, where NAME is a domain")
        pairs.append((name, Path(file)))
    return tuple(pairs)


def listed(text: str | None) -> tuple[str, ...]:
    """Names with commas between."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def too_many(skipped: int, allowed: int | None, reporter: Reporter, more: str = "") -> None:
    """Leave with a code of its own when more files were not used than --max-skipped allows."""
    if allowed is not None and skipped > allowed:
        reporter.say(f"{skipped} files were not used, more than --max-skipped {allowed}{more}")
        raise typer.Exit(TOO_MANY_SKIPPED)


@contextlib.contextmanager
def data_on_stdout_only() -> Iterator[None]:
    """Libraries print; what they print goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def emit(result: dict[str, Any]) -> None:
    """JSON to stdout."""
    sys.stdout.write(json.dumps(result, indent=1, allow_nan=False) + "\n")


@app.command()
def report(
    run: RunOption = None,
    weights: WeightsOption = None,
    in_domain: InDomainOption = None,
    real_world: RealWorldOption = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FILE: COCO results of a domain, instead of looking at its images. Repeatable."
        ),
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option(
            help="Attributes to slice by: a CSV (a column 'image', every other one an attribute; or image_id,slice), or fiftyone:DATASET for its tags and fields. Repeatable."
        ),
    ] = None,
    history: Annotated[Path | None, typer.Option(help="A results.csv; default: the run's.")] = None,
    group_by: GroupByOption = None,
    conf: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Confidence threshold in use; default: the best in-domain."),
    ] = None,
    label_free: Annotated[
        bool | None,
        typer.Option(
            "--label-free/--no-label-free",
            help="Show the detector changed in-domain images, to read AP50 without labels; default: where footage has none.",
        ),
    ] = None,
    before: Annotated[
        Path | None,
        typer.Option(
            help="An earlier run folder or checkpoint to compare with; default: the one this run was trained on from."
        ),
    ] = None,
    checkpoints: Annotated[
        int,
        typer.Option(
            min=0, help="Checkpoints that the run kept (save_period) to compare, at most; 0 for none."
        ),
    ] = 4,
    no_corrections: CorrectionsOption = False,
    class_map: ClassMapOption = None,
    allow_root: AllowRootOption = None,
    trust_checkpoint: TrustOption = False,
    imgsz: ImgszOption = None,
    device: DeviceOption = None,
    batch: BatchOption = None,
    out: OutOption = None,
    no_fiftyone: NoFiftyoneOption = False,
    max_skipped: MaxSkippedOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Diagnose a detector: a report of why it fails in the real world. Without arguments, train on the rendered road world and diagnose that."""
    reporter = Reporter()
    given = any((run, weights, in_domain, real_world, predictions))
    with data_on_stdout_only():
        from reports.commands.report import make_report
        from reports.options import ReportOptions

        if given:
            request = ReportOptions(
                run=run,
                weights=weights,
                in_domain=named(in_domain) if in_domain else None,
                real_world=several(real_world),
                predictions=predictions_of(predictions),
                slices=tuple(slices or ()),
                history=history,
                group_by=group_by,
                imgsz=imgsz,
                device=device,
                batch=batch,
                conf=conf,
                label_free=label_free,
                before=before,
                corrections=not no_corrections,
                class_map=pairs_of(class_map),
                allow=tuple(allow_root or ()),
                trust=trust_checkpoint,
                checkpoints=checkpoints,
                seed=seed,
            )
        else:
            from reports.commands.demo import prepare_demo

            request = replace(
                prepare_demo(seed, reporter), corrections=not no_corrections, checkpoints=checkpoints
            )
        folder = out or runs_folder() / "report" / report_name(request)
        record = make_report(request, folder.absolute(), reporter, fiftyone=not no_fiftyone)
    if as_json:
        emit(record)
    skipped = sum(record["ledger"]["files"].get(bucket, 0) for bucket in ("skipped", "failed"))
    too_many(skipped, max_skipped, reporter, f"; see {folder / 'ledger.csv'}")


def report_name(request: ReportOptions) -> str:
    """Name of a report's folder: the run and what it was shown."""
    from datasets.naming import name_of

    subject = request.run.name if request.run else request.weights.stem if request.weights else "predictions"
    shown = [name or name_of(source) for name, source in request.real_world]
    return "-".join([subject, *(["vs", *shown] if shown else [])])[:120]


@app.command()
def train(
    data: Annotated[
        str, typer.Argument(help="SOURCE with a train and a val split; several with commas between are one.")
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Any training argument of Ultralytics under its own name, such as optimizer=AdamW lr0=0.001 save_period=5.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint, run folder, architecture yaml, or the name of a pretrained checkpoint; default: yolo11n.pt, fetched once, or a small architecture from scratch."
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 60,
    imgsz: Annotated[
        int | None,
        typer.Option(min=32, help="Network input size; default: that of the checkpoint's run, else 640."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images a step; halved where memory runs out.")] = 16,
    device: DeviceOption = None,
    name: Annotated[str, typer.Option(help="Name of the run; a taken name gets a number.")] = "train",
    resume: Annotated[Path | None, typer.Option(help="Continue this unfinished run folder.")] = None,
    names: Annotated[
        str | None, typer.Option(help="Class names with commas between, for sources that name none.")
    ] = None,
    real_world: Annotated[
        list[str] | None,
        typer.Option(
            "--real-world",
            help="SOURCE or NAME=SOURCE to watch while it learns, labelled or not; repeat it, or separate several by commas.",
        ),
    ] = None,
    watch_every: Annotated[int, typer.Option(min=1, help="Epochs between two looks at the real world.")] = 1,
    class_map: ClassMapOption = None,
    allow_root: AllowRootOption = None,
    trust_checkpoint: TrustOption = False,
    no_corrections: CorrectionsOption = False,
    seed: SeedOption = 0,
) -> None:
    """Train a detector into a new run folder, which is printed on stdout."""
    from reports.commands.train import TrainOptions, train_run

    with data_on_stdout_only():
        folder = train_run(
            TrainOptions(
                data=data,
                model=model,
                epochs=epochs,
                imgsz=imgsz,
                batch=batch,
                device=device,
                name=name,
                resume=resume,
                classes=listed(names),
                arguments=tuple(arguments or ()),
                real_world=several(real_world),
                every=watch_every,
                class_map=pairs_of(class_map),
                allow=tuple(allow_root or ()),
                trust=trust_checkpoint,
                corrections=not no_corrections,
                seed=seed,
            ),
            Reporter(),
        )
    sys.stdout.write(f"{folder}\n")


@app.command()
def predict(
    source: Annotated[
        str,
        typer.Argument(help="SOURCE: images, folders, videos; or webcam, webcam:1 ..."),
    ],
    weights: Annotated[Path, typer.Option(help="A detection checkpoint.")],
    conf: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Confidence from which boxes are drawn.")
    ] = 0.25,
    iou: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Overlap from which two boxes of a class count as one.")
    ] = 0.7,
    imgsz: ImgszOption = None,
    device: DeviceOption = None,
    stride: Annotated[int, typer.Option(min=1, help="Of a video, look at every so many frames.")] = 1,
    blur: Annotated[
        str | None,
        typer.Option(help="Classes to make unrecognisable instead of outlining them, with commas between."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show it in a browser too, as it happens.")] = False,
    out: OutOption = None,
    allow_root: AllowRootOption = None,
    trust_checkpoint: TrustOption = False,
    max_skipped: MaxSkippedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at images, videos or a camera: boxes drawn, and saved as tables. Prints the folder."""
    reporter = Reporter()
    with data_on_stdout_only():
        from reports.commands.predict import PredictOptions, lines
        from reports.commands.predict import predict as look

        found = look(
            PredictOptions(
                source,
                weights,
                conf,
                iou,
                imgsz,
                device,
                stride,
                listed(blur),
                show,
                out,
                tuple(allow_root or ()),
                trust_checkpoint,
            ),
            reporter,
        )
    for line in lines(found):
        reporter.say(line)
    if as_json:
        emit(found)
    else:
        sys.stdout.write(f"{found['folder']}\n")
    too_many(found["files"]["skipped"] + found["files"]["failed"], max_skipped, reporter)


@app.command("next")
def next_(
    run: RunOption = None,
    weights: WeightsOption = None,
    in_domain: InDomainOption = None,
    real_world: RealWorldOption = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(help="SOURCE to pick from; default: the real-world domains. Repeatable."),
    ] = None,
    candidate: Annotated[
        list[str] | None,
        typer.Option(
            help="A dataset you could add, SOURCE or NAME=SOURCE; ranked by what it covers of the real world. Repeatable."
        ),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            help="Try every candidate with a short training, and rank by AP50 on the real-world images that have labels; takes minutes."
        ),
    ] = False,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Images to pick; 50, unless --boxes is given.")
    ] = None,
    boxes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Objects to label: images are picked until so many are in them (by labels, or what the detector shows).",
        ),
    ] = None,
    group_by: GroupByOption = None,
    no_corrections: CorrectionsOption = False,
    class_map: ClassMapOption = None,
    allow_root: AllowRootOption = None,
    trust_checkpoint: TrustOption = False,
    imgsz: ImgszOption = None,
    device: DeviceOption = None,
    batch: BatchOption = None,
    out: OutOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Rank which images to label and add next, and which datasets."""
    reporter = Reporter()
    with data_on_stdout_only():
        from reports.commands.next import lines, rank_next
        from reports.options import ReportOptions

        if any((run, weights, in_domain, real_world, pool, candidate)):
            request = ReportOptions(
                run=run,
                weights=weights,
                in_domain=named(in_domain) if in_domain else None,
                real_world=several(real_world),
                group_by=group_by,
                imgsz=imgsz,
                device=device,
                batch=batch,
                corrections=not no_corrections,
                class_map=pairs_of(class_map),
                allow=tuple(allow_root or ()),
                trust=trust_checkpoint,
                seed=seed,
            )
        else:
            from reports.commands.demo import prepare_demo

            request = replace(prepare_demo(seed, reporter), corrections=not no_corrections)
        folder = (out or runs_folder() / "next" / report_name(request)).absolute()
        result = rank_next(
            request, several(pool), several(candidate), budget, boxes, folder, reporter, probe=probe
        )
    for line in lines(result, folder):
        reporter.say(line)
    if as_json:
        emit(result)


@app.command()
def inspect(
    source: Annotated[str, typer.Argument(help="SOURCE.")],
    group_by: GroupByOption = None,
    names: Annotated[
        str | None, typer.Option(help="Class names with commas between, for sources that name none.")
    ] = None,
    allow_root: AllowRootOption = None,
    max_skipped: MaxSkippedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what would be read of a source and what would be passed over, and why; no model is needed."""
    reporter = Reporter()
    with data_on_stdout_only():
        from datasets.source import open_source
        from reports.commands.inspect import inspection, lines

        opened = open_source(
            source,
            cache=frames_folder(),
            classes=listed(names),
            group_by=group_by,
            allow=allow_root or (),
            say=reporter.say,
        )
        found = inspection(opened)
    if as_json:
        emit(found)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines(found)))
    too_many(found["files"]["skipped"] + found["files"]["failed"], max_skipped, reporter)


@app.command()
def prepare(
    source: Annotated[str, typer.Argument(help="SOURCE; it is only read.")],
    out: OutOption = None,
    copies: Annotated[
        int, typer.Option(min=0, max=100, help="Changed copies of each labelled training image.")
    ] = 0,
    recipe: Annotated[
        Path | None, typer.Option(help="How copies are changed: a yaml like train/augment.yaml, the default.")
    ] = None,
    min_side: Annotated[
        float, typer.Option(min=0.0, help="Take boxes out of which a side is shorter, in pixels.")
    ] = 1.0,
    max_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Take boxes out that cover more of their image's area.")
    ] = 1.0,
    weights: Annotated[
        Path | None, typer.Option(help="A checkpoint whose boxes become draft labels of unlabelled images.")
    ] = None,
    conf: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Confidence from which a box is a draft.")
    ] = 0.25,
    imgsz: ImgszOption = None,
    device: DeviceOption = None,
    names: Annotated[
        str | None, typer.Option(help="Class names with commas between, for sources that name none.")
    ] = None,
    group_by: GroupByOption = None,
    allow_root: AllowRootOption = None,
    trust_checkpoint: TrustOption = False,
    no_corrections: CorrectionsOption = False,
    no_fiftyone: NoFiftyoneOption = False,
    max_skipped: MaxSkippedOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Write a cleaned copy of a dataset into a new folder, with changed copies and draft labels if asked; its data.yaml is printed on stdout."""
    reporter = Reporter()
    with data_on_stdout_only():
        from datasets.naming import name_of
        from reports.commands.prepare import PrepareOptions, prepare_dataset

        result = prepare_dataset(
            PrepareOptions(
                source=source,
                folder=(out or runs_folder() / "prepare" / name_of(source)[:80]).absolute(),
                copies=copies,
                recipe=recipe,
                min_side=min_side,
                max_share=max_share,
                weights=weights,
                conf=conf,
                imgsz=imgsz,
                device=device,
                classes=listed(names),
                group_by=group_by,
                allow=tuple(allow_root or ()),
                trust=trust_checkpoint,
                corrections=not no_corrections,
                fiftyone=not no_fiftyone,
                seed=seed,
            ),
            reporter,
        )
    if as_json:
        emit(result)
    else:
        sys.stdout.write(f"{result['data']}\n")
    too_many(
        result["left_out"], max_skipped, reporter, f"; see {Path(result['data']).with_name('ledger.csv')}"
    )


@app.command("forecast")
def forecast_(
    curve: Annotated[
        list[Path],
        typer.Argument(
            metavar="REPORT... | CSV",
            help="Reports of runs that were trained with more and more labels, each a folder or its report.json; or one CSV with the columns labels and ap50, one row a training.",
        ),
    ],
    goal: Annotated[float, typer.Option(min=0.0, max=1.0, help="AP50 to reach, as a fraction such as 0.6.")],
    domain: Annotated[
        str | None,
        typer.Option(help="The real-world domain to forecast, where the reports have several."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to draw the curve into, and to write its points into.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How many labels an AP50 will take, from what a few sizes gave; a range, or a refusal."""
    from reports.commands.forecast import forecast_labels, sentence, write_forecast

    with data_on_stdout_only():
        outlook = forecast_labels(curve, goal, domain)
        if out is not None:
            Reporter().say(f"Drawn: {write_forecast(outlook, out)[0]}")
    if as_json:
        emit(outlook.as_record())
    else:
        sys.stdout.write(sentence(outlook) + "\n")


@app.command()
def score(
    ground_truth: Annotated[Path, typer.Option(help="COCO ground truth.")],
    predictions: Annotated[Path, typer.Option(help="COCO results of any detector.")],
    slices: Annotated[
        Path | None, typer.Option(help="CSV with image_id,slice; an image may be in many.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="CSV with image_id,group: the units of the bootstrap.")
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="COCO results of another detector on the same images, to compare with."),
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Replicates; 0 for no interval.")] = 0,
    out: Annotated[Path | None, typer.Option(help="File to write; default: stdout.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Score predictions: COCO json in, numbers out (equal to pycocotools)."""
    from reports.commands.score import score as compute
    from reports.files import write_text

    result = compute(
        ground_truth,
        predictions,
        slices=slices,
        groups=groups,
        baseline=baseline,
        bootstrap=bootstrap,
        seed=seed,
    )
    if result["ignored_detections"]:
        sys.stderr.write(
            f"shiftscope: {predictions}: {result['ignored_detections']} detections of categories that the ground truth does not list were ignored\n"
        )
    if out is None:
        emit(result)
    else:
        write_text(out, json.dumps(result, indent=1, allow_nan=False))


Fraction = Annotated[float | None, typer.Option(min=0.0, max=1.0, help="As a fraction, such as 0.036.")]


@app.command()
def triage(
    history: Annotated[
        Path | None, typer.Option(help="A results.csv, or a table of epochs as people publish it.")
    ] = None,
    in_domain_ap50: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Default: that of the history's last epoch.")
    ] = None,
    training_ap50: Fraction = None,
    real_world_ap50: Fraction = None,
    as_json: JsonOption = False,
) -> None:
    """What the numbers alone say: the line-up of hypotheses from a learning curve and a score or two, without any images."""
    from reports.commands.triage import lines, record
    from reports.commands.triage import triage as ask

    verdict = ask(history, in_domain_ap50, training_ap50, real_world_ap50)
    if as_json:
        emit(record(verdict))
    else:
        sys.stdout.write("\n".join(lines(verdict)) + "\n")


@app.command("app")
def app_(
    dataset: Annotated[str | None, typer.Argument(help="Dataset of a report; default: the last one.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5151,
    pull: Annotated[
        bool,
        typer.Option(
            "--pull",
            help="Do not open the App: read tags and corrected labels made in it back, for the next report.",
        ),
    ] = False,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="First write the report in runs/report/ and its dataset anew, when FiftyOne's database has lost it.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Open the FiftyOne App on a report's dataset, at the real-world false positives, on 127.0.0.1."""
    from reports.workbench.app import open_app
    from reports.workbench.dataset import exists, newest_dataset
    from reports.workbench.pull import lines
    from reports.workbench.pull import pull as read_back

    if as_json and not pull:
        raise InputError("--json goes with --pull: the App has no result to print")
    if rebuild:
        from reports.commands.report import rebuild as write_anew

        with data_on_stdout_only():
            dataset = write_anew(dataset, Reporter())
    name = dataset or newest_dataset()
    if name is None or not exists(name):
        raise InputError(
            "FiftyOne holds no report; run 'make report', or 'shiftscope app --rebuild' where one was written before"
            if dataset is None
            else f"FiftyOne has no dataset {dataset!r}; run 'make report', or add --rebuild where its report was written before"
        )
    if not pull:
        open_app(name, Reporter(), port=port, wait=True)
        return
    with data_on_stdout_only():
        found = read_back(name)
    if as_json:
        emit({"dataset": name, "images": found.images, "annotations": found.annotations, "tags": found.tags})
    else:
        sys.stdout.write("\n".join(lines(found)) + "\n")


@app.command()
def world(
    out: Annotated[Path, typer.Argument(help="Folder to write; must not exist.")],
    view: Annotated[str, typer.Option(help="dashcam or drone: where the dials start.")] = "dashcam",
    dial: Annotated[
        list[str] | None, typer.Option(help="NAME=SEVERITY (0 to 5), for example pitch=3. Repeatable.")
    ] = None,
    train_clips: Annotated[int, typer.Option(min=0)] = 0,
    val_clips: Annotated[int, typer.Option(min=0)] = 10,
    frames: Annotated[int, typer.Option(min=1, help="Images a clip.")] = 10,
    seed: SeedOption = 0,
) -> None:
    """Render the road world as a YOLO dataset with exact boxes."""
    from datasets.world import DASHCAM, DRONE, Dials, Plan, build_world

    if view not in ("dashcam", "drone"):
        raise InputError(f"--view {view}: expected dashcam or drone")
    if out.exists():
        raise InputError(f"{out}: exists already; give a new folder")
    if train_clips + val_clips == 0:
        raise InputError("nothing to render: give --train-clips or --val-clips")
    settings = asdict(DASHCAM if view == "dashcam" else DRONE)
    for text in dial or ():
        key, _, value = text.partition("=")
        if key not in {f.name for f in fields(Dials)} or not value.isdigit():
            raise InputError(
                f"--dial {text}: expected NAME=0..5, where NAME is one of {', '.join(f.name for f in fields(Dials))}"
            )
        settings[key] = int(value)
    try:
        dials = Dials(**settings)
    except ValueError as error:
        raise InputError(str(error)) from None
    splits = {
        split: (clips, frames) for split, clips in (("train", train_clips), ("val", val_clips)) if clips
    }
    reporter = Reporter()
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    plan = Plan(dials, splits, seed=seed)
    with reporter.stage("render", f"Rendering into {out}", len(plan.clips())) as tick:
        for _ in build_world(out.absolute(), plan):
            tick()


@app.command()
def doctor() -> None:
    """Check the environment: one line each, with the cure."""
    from reports.commands.doctor import check_environment

    found = check_environment()
    for check in found:
        sys.stdout.write(
            f"{'ok   ' if check.ok else 'WRONG'} {check.name}: {check.line}{'; ' + check.cure if check.cure else ''}\n"
        )
    if not all(check.ok for check in found):
        raise typer.Exit(ENVIRONMENT)


@app.command()
def export(
    weights: Annotated[
        Path, typer.Argument(help="Checkpoint of a detector, or a run folder for its best.pt.")
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="What Ultralytics' export to this format takes, under its own name, such as dynamic=True or quantize=16; data= is a SOURCE.",
        ),
    ] = None,
    format_: Annotated[
        str,
        typer.Option(
            "--format", help="onnx, ncnn, openvino, torchscript ...; an unknown one lists them all."
        ),
    ] = "onnx",
    imgsz: ImgszOption = None,
    device: DeviceOption = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the export; a taken name gets a number; default: the run's."),
    ] = None,
    trust_checkpoint: TrustOption = False,
) -> None:
    """Write a detector in the format of other software, into a new folder; the file or folder written is printed on stdout."""
    from train.environment import trust_checkpoints

    if trust_checkpoint:
        trust_checkpoints()
    with data_on_stdout_only():
        from train.export import export as write_export
        from train.export import export_arguments

        extra = export_arguments(format_, arguments or ())
        with Reporter().stage("export", f"Exporting {weights} to {format_}"):
            written = write_export(weights, format_, name=name, imgsz=imgsz, device=device, extra=extra)
    sys.stdout.write(f"{written}\n")


def main() -> None:
    """Entry point: run a command, turn what it raises into one line and an exit code."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    started = datetime.now(UTC)
    try:
        code = app(args=arguments, standalone_mode=False)
    except typer.Exit as stop:
        code = stop.exit_code
    except InputError as error:
        code = complain(error, BAD_INPUT, debug=debug)
    except EnvironmentProblem as error:
        code = complain(error, ENVIRONMENT, debug=debug)
    except (KeyboardInterrupt, typer.Abort):
        again = (
            "add --resume RUN to continue"
            if arguments[:1] == ["train"]
            else "run the same command again to continue"
        )
        code = complain(f"interrupted; {again}", INTERRUPTED, debug=False)
    except (
        Exception
    ) as error:  # the last line of defence: usage errors of the command line, full disks, and our own bugs
        code = unexpected(error, debug=debug)
    if debug:
        sys.stderr.write(f"took {(datetime.now(UTC) - started).total_seconds():.1f} s\n")
    sys.exit(code or OK)


def unexpected(error: Exception, *, debug: bool) -> int:
    """Usage errors carry their own message and code; a full or read-only disk is the environment's; the rest is a bug of ours."""
    if debug:
        raise error
    if hasattr(error, "format_message"):
        return complain(
            f"{error.format_message()}; see 'shiftscope {' '.join(sys.argv[1:2])} --help'",
            BAD_INPUT,
            debug=debug,
        )
    if isinstance(error, OSError):
        cure = (
            f"; make room, or set SHIFTSCOPE_RUNS to a folder on another disk (now {runs_folder()})"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
            else ""
        )
        return complain(
            f"{error.filename or 'operating system'}: {error.strerror or error}{cure}",
            ENVIRONMENT,
            debug=debug,
        )
    return complain(
        f"internal error ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); run again with --debug and report it",
        ENVIRONMENT,
        debug=debug,
    )


def complain(error: object, code: int, *, debug: bool) -> int:
    """One line on stderr; with debug, the traceback first."""
    if debug and isinstance(error, BaseException):
        raise error
    sys.stderr.write(f"shiftscope: {error}\n")
    return code
