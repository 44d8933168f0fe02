"""The main job in order: open the sources, look at every picture once, find, write. Every stage can be killed and taken up again."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from datasets.attributes import join, read_attributes
from datasets.classes import with_classes
from datasets.coco import read_results
from datasets.corrections import Applied, apply, read_corrections
from datasets.errors import InputError
from datasets.source import locate, open_source, open_training, parts_of
from datasets.tables import LEDGER_COLUMNS, ROW_COLUMNS, Source, concatenate
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_BOXES
from diagnostics.label_free import LEAST_AP50, fit
from diagnostics.wording import count
from reports.before import Change, changes, open_before
from reports.checkpoints import MOST as MOST_CHECKPOINTS
from reports.checkpoints import Checkpoints, compare_checkpoints
from reports.findings import Experiments, Findings, find, focus_of
from reports.looks import (
    Eyes,
    development_sets,
    evenly,
    footage_squeezed,
    graded_looks,
    predict_folder,
    second_looks,
)
from reports.predicted import behind, read_boxes
from reports.progress import Reporter
from train.environment import corrections_path, frames_folder, runs_folder, trust_checkpoints
from train.history import read_history
from train.passes import describe
from train.predictions import Predictions, Settings, Store
from train.run import Run, open_run, open_weights, parent_of

if TYPE_CHECKING:
    from train.forward import Detector

# Training pictures looked at: enough for its AP, for finding copies and for the nearest examples.
MAX_TRAINING = 1000
# Ultralytics' default, for predictions that come without weights.
DEFAULT_IMGSZ = 640


@dataclass(frozen=True)
class Request:
    """What `shiftscope report` was asked for. in_domain and real_world: (name or None, source). predictions: domain name -> COCO results.

    slices: attributes of pictures, each a CSV or fiftyone:DATASET. label_free: show the detector changed in-domain pictures, to read AP50 without labels; None
    where a domain has none. before: an earlier run to compare with, None for the one this run went on from, if its lineage names it. conf: the confidence
    threshold in use, None for the one that is best in-domain. corrections: use labels and tags read back from the App. class_map: (a source's class, the model's).
    allow: folders outside of sources that they may lead to. trust: load checkpoints that the restricted loader refuses. checkpoints: of those that
    the run kept, at most so many are compared.
    """

    run: Path | None = None
    weights: Path | None = None
    in_domain: tuple[str | None, str] | None = None
    real_world: tuple[tuple[str | None, str], ...] = ()
    predictions: tuple[tuple[str, Path], ...] = ()
    slices: tuple[str, ...] = ()
    history: Path | None = None
    group_by: str | None = None
    imgsz: int | None = None
    device: str | None = None
    batch: int | None = None
    conf: float | None = None
    label_free: bool | None = None
    before: Path | None = None
    corrections: bool = True
    class_map: tuple[tuple[str, str], ...] = ()
    allow: tuple[Path, ...] = ()
    trust: bool = False
    checkpoints: int = MOST_CHECKPOINTS
    seed: int = 0

    def as_record(self) -> dict[str, Any]:
        """As JSON values, with whole paths, so that it can be asked again from anywhere."""
        record = asdict(self)
        for name in ("run", "weights", "history", "before"):
            record[name] = whole(record[name])
        record["in_domain"] = (
            None if self.in_domain is None else [self.in_domain[0], whole(self.in_domain[1])]
        )
        record["real_world"] = [[name, whole(source)] for name, source in self.real_world]
        record["predictions"] = [[name, whole(file)] for name, file in self.predictions]
        record["slices"] = [whole(spec) for spec in self.slices]
        record["class_map"] = [list(pair) for pair in self.class_map]
        record["allow"] = [whole(root) for root in self.allow]
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Request:
        """What `as_record` gave. Raises InputError when it is none."""
        try:
            # What reports of earlier versions do not mention was not there to be asked for.
            later: dict[str, Any] = {
                "class_map": (),
                "allow": (),
                "trust": False,
                "checkpoints": MOST_CHECKPOINTS,
            }
            values: dict[str, Any] = {key.name: (later | dict(record))[key.name] for key in fields(cls)}
            for name in ("run", "weights", "history", "before"):
                values[name] = None if values[name] is None else Path(values[name])
            values["in_domain"] = None if values["in_domain"] is None else tuple(values["in_domain"])
            values["real_world"] = tuple((name, source) for name, source in values["real_world"])
            values["predictions"] = tuple((name, Path(file)) for name, file in values["predictions"])
            values["slices"] = tuple(values["slices"])
            values["class_map"] = tuple((theirs, ours) for theirs, ours in values["class_map"])
            values["allow"] = tuple(map(Path, values["allow"]))
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the report does not say what it was asked for ({type(error).__name__}: {error}); write it again with 'shiftscope report'"
            ) from None


def whole(path: Path | str | None) -> str | None:
    """A path that exists as an absolute one, also within a list with commas; anything else (a Kaggle handle, a FiftyOne dataset) as it is."""
    if path is None:
        return None
    found = [Path(part).expanduser() for part in parts_of(str(path))]
    return ",".join(str(part.absolute()) if part.exists() else str(part) for part in found)


@dataclass(frozen=True)
class Opened:
    """A domain before anyone has looked at its pictures."""

    name: str
    role: str
    source: Source
    corrected: Applied = field(default_factory=Applied)


@dataclass(frozen=True)
class Result:
    """What the writers need. ledger: every file of every source, with its domain. rows: label rows not taken as written.

    changes: what differs from the run before, by domain. checkpoints: those that the run kept, compared.
    """

    request: Request
    run: Run | None
    classes: tuple[str, ...]
    settings: Settings
    findings: Findings
    opened: tuple[Opened, ...]
    ledger: pd.DataFrame
    rows: pd.DataFrame
    changes: tuple[Change, ...] = ()
    checkpoints: Checkpoints = field(default_factory=Checkpoints)


def in_domain_of(request: Request, run: Run | None) -> tuple[str | None, str]:
    """(name or None, source) of the in-domain pictures. Raises InputError when nothing names them."""
    if request.in_domain is not None:
        return request.in_domain
    if run is None or run.folder is None:
        raise InputError(
            "no in-domain pictures: give --in-domain SOURCE, or --run with a run folder that names its data.yaml"
        )
    return None, run.data_source()


def open_everything(
    request: Request, run: Run | None, classes: Sequence[str], say: Callable[[str], None]
) -> list[Opened]:
    """The in-domain source as "training" and held-out pictures, then the real-world sources. Raises InputError."""
    cache = frames_folder()
    name, spec = in_domain_of(request, run)
    mapping = dict(request.class_map)
    given: dict[str, Any] = {"cache": cache, "group_by": request.group_by, "allow": request.allow, "say": say}
    # What the run says itself that it was trained on is opened as it was for that.
    home = open_training if request.in_domain is None else open_source
    source = home(spec, classes=classes, **given)
    spoken = set(source.classes)
    source = with_classes(source, classes, mapping)
    # Without a model, the in-domain source says what the classes are and in which order.
    classes = classes or source.classes
    taken = {"training"}
    home_name = unique(name or "in-domain", taken)
    opened = []
    training = source.images["split"] == "train"
    held_out = source.images["split"].isin(["val", "test"])
    if not held_out.any():
        if training.any():
            raise InputError(
                f"{spec}: holds training pictures only; in-domain scores need held-out ones: add 'val:' to the data.yaml, or a folder val/"
            )
        held_out = ~training
    if training.any():
        opened.append(Opened("training", "training", source.keep(training)))
    opened.append(Opened(home_name, "in_domain", source.keep(held_out)))
    for name, real in request.real_world:
        away = open_source(real, classes=classes, **given)
        spoken |= set(away.classes)
        away = with_classes(away, classes, mapping)
        opened.append(Opened(unique(name or name_of(real), taken), "real_world", away))
    unheard = sorted(set(mapping) - spoken)
    if unheard:
        raise InputError(
            f"--class-map {unheard[0]}=...: no source has this class; they have {', '.join(sorted(spoken)) or 'none'}"
        )
    return opened


def name_of(spec: str) -> str:
    """A domain's name from its source: the folder or file, without generic endings."""
    path = Path(os.path.abspath(spec))
    stem = path.stem if path.suffix and not path.is_dir() else path.name
    return path.parent.name if stem.lower() in {"images", "data", "dataset"} else stem


def unique(name: str, taken: set[str]) -> str:
    """name, or name-2, -3 ... if taken; and takes it. Names that differ only in marks and case count as one: they would be one in the names of fields."""
    candidate, number = name, 2
    while (plain := re.sub(r"\W+", "_", candidate).lower()) in taken:
        candidate, number = f"{name}-{number}", number + 1
    taken.add(plain)
    return candidate


def assemble(
    opened: Opened, images: pd.DataFrame, predictions: Predictions, imgsz: int, classes: tuple[str, ...]
) -> Domain:
    """Join a source's tables with what was seen; pictures that failed to decode are left out of every table."""
    pictures = images.merge(predictions.pictures, on="image", how="inner", validate="one_to_one")
    boxes = opened.source.boxes
    return Domain(
        name=opened.name,
        role=opened.role,
        pictures=pictures,
        boxes=boxes[boxes["image"].isin(pictures["image"])].reset_index(drop=True),
        detections=predictions.detections,
        embeddings=predictions.embeddings,
        objects=predictions.objects,
        imgsz=imgsz,
        classes=classes,
    )


def external(opened: Opened, path: Path, predictions: Predictions, classes: Sequence[str]) -> Predictions:
    """Replace detections by those of a COCO results file or of `shiftscope predict`, whose boxes have no embeddings; pictures that the latter did not look at are left out."""
    if path.suffix == ".parquet":
        found, seen = read_boxes(path, opened.source, classes)
        there = predictions.pictures["image"].isin(list(seen)).to_numpy()
        predictions = replace(
            predictions,
            pictures=predictions.pictures[there].reset_index(drop=True),
            embeddings=predictions.embeddings[there],
        )
    else:
        found = read_results(path, opened.source, classes)
    found = found[found["image"].isin(predictions.pictures["image"])].reset_index(drop=True)
    return replace(predictions, detections=found, objects=np.zeros((len(found), 0), np.float32))


@dataclass(frozen=True)
class Seen:
    """Every domain after its pictures were looked at. failures: path, reason, domain of pictures that could not be decoded."""

    run: Run | None
    detector: Detector | None
    classes: tuple[str, ...]
    settings: Settings
    opened: tuple[Opened, ...]
    domains: dict[str, Domain]
    failures: tuple[pd.DataFrame, ...]


def load_run(request: Request) -> Run | None:
    """The run or the bare weights of a request; None where only predictions are given."""
    if request.run is not None:
        run = open_run(request.run)
        return replace(run, history=read_history(request.history)) if request.history is not None else run
    return open_weights(request.weights, request.history) if request.weights is not None else None


def classes_of(detector: Detector | None, opened: Sequence[Opened]) -> tuple[str, ...]:
    """The detector's classes; without one, those of the first source that names any."""
    if detector is not None:
        return tuple(detector.classes)
    return tuple(next((o.source.classes for o in opened if o.source.classes), ()))


def with_corrections(opened: Sequence[Opened], classes: Sequence[str], reporter: Reporter) -> list[Opened]:
    """Put labels and tags that were read back from the App in the place of the sources' own. Raises InputError when their file is broken."""
    corrections = read_corrections(corrections_path())
    result = []
    for o in opened:
        source, done = apply(o.source, corrections, classes)
        result.append(replace(o, source=source, corrected=done))
        for line in correction_lines(done):
            reporter.say(f"  {o.name}: {line}")
    return result


def correction_lines(done: Applied) -> list[str]:
    """What became of corrections, in words."""
    said = []
    if done.labels:
        said.append(f"labels of {count(done.labels, 'picture')} as corrected in the App")
    if done.tagged:
        said.append(f"{count(done.tagged, 'picture')} tagged in the App")
    if done.stale:
        said.append(
            f"{count(done.stale, 'picture')} corrected in the App, whose labels have changed on disk since: as on disk"
        )
    if done.foreign:
        said.append(
            f"{count(done.foreign, 'picture')} labelled in the App with unknown classes only: unlabelled, as before"
        )
    if done.unknown:
        said.append(f"corrected boxes of unknown classes are left out: {', '.join(done.unknown)}")
    return said


def with_attributes(opened: list[Opened], specs: Sequence[str], reporter: Reporter) -> list[Opened]:
    """Join what people know about their pictures. Raises InputError when a file names no picture of any domain."""
    for spec in specs:
        kind, _, rest = spec.partition(":")
        if kind == "fiftyone":
            from reports.workbench.dataset import attributes_of

            attributes = attributes_of(rest)
        else:
            attributes = read_attributes(Path(spec))
        joined, total = [], 0
        for o in opened:
            images, count = join(o.source.images, attributes, o.source.image_ids)
            joined.append(replace(o, source=replace(o.source, images=images)))
            total += count
        if not total:
            raise InputError(
                f"{spec}: names no picture of any domain, first {attributes.table['key'].head(3).tolist()}; use file names, stems or paths"
            )
        reporter.say(f"  {spec}: attributes of {total} pictures")
        opened = joined
    return opened


def check_supplied(opened: Sequence[Opened], supplied: dict[str, Path], *, all_needed: bool) -> None:
    """Raise InputError for predictions of an unknown domain, and for a domain without any where there are no weights."""
    names = [o.name for o in opened if o.role != "training"]
    for name in supplied:
        if name not in names:
            raise InputError(
                f"--predictions {name}=...: no domain has this name; domains are {', '.join(names)}"
            )
    missing = [name for name in names if name not in supplied]
    if all_needed and missing:
        raise InputError(
            f"no weights, and no --predictions for {', '.join(missing)}; give --weights FILE or --predictions {missing[0]}=FILE"
        )


def load_detector(weights: Path, request: Request) -> Detector:
    """The checkpoint, ready to look. Its libraries take seconds to import, so nothing imports them before there is need."""
    if request.trust:
        trust_checkpoints()
    from train.forward import Detector

    return Detector(weights, device=request.device, batch=request.batch)


def look_at_everything(request: Request, reporter: Reporter, *, objects: bool = True) -> Seen:
    """Open all sources and look at every picture once. objects: with the embeddings of boxes. Raises InputError."""
    run, supplied = load_run(request), dict(request.predictions)
    if run is None and not supplied:
        raise InputError(
            "nothing to diagnose: give --run DIR, --weights FILE, or --predictions NAME=FILE for every domain"
        )
    for _, spec in (in_domain_of(request, run), *request.real_world):
        for part in parts_of(spec):
            locate(part, reporter.say)
    if request.before is not None:
        open_before(request.before)
    with reporter.stage("open", "Opening weights and sources"):
        detector = load_detector(run.weights, request) if run is not None else None
        opened = open_everything(request, run, detector.classes if detector else (), reporter.say)
    if request.corrections:
        opened = with_corrections(opened, classes_of(detector, opened), reporter)
    opened = with_attributes(opened, request.slices, reporter)
    check_supplied(opened, supplied, all_needed=detector is None)
    classes = classes_of(detector, opened)
    if detector is None:
        opened = [o for o in opened if o.role != "training"]
    for o in opened:
        reporter.say(f"  {o.name}: {summary(o)}")
    settings = Settings(
        imgsz=request.imgsz or (run.imgsz if run else None) or (detector.imgsz if detector else DEFAULT_IMGSZ)
    )
    domains: dict[str, Domain] = {}
    failures = []
    # One for all of them: what it knows is read from every shard there is.
    store = Store(
        predict_folder(settings, run.sha256)
        if detector is not None and run is not None
        else runs_folder() / "predictions" / "statistics"
    )
    for o in opened:
        images = evenly(o.source.images, MAX_TRAINING) if o.role == "training" else o.source.images
        with reporter.stage("predict", f"Looking at {o.name} ({len(images)} pictures)", len(images)) as tick:
            if detector is not None:
                found = detector.predict(images, settings, store, tick=tick, objects=objects)
            else:
                found = describe(images, store, tick=tick)
        if found.pictures.empty:
            first = found.failures.iloc[0]
            raise InputError(
                f"{o.source.spec}: none of {len(images)} pictures could be decoded, first: {first['path']} ({first['reason']})"
            )
        if o.name in supplied:
            found = external(o, supplied[o.name], found, classes)
        failures.append(found.failures.assign(domain=o.name))
        domains[o.name] = assemble(o, images, found, settings.imgsz, tuple(classes))
    return Seen(run, detector, tuple(classes), settings, tuple(opened), domains, tuple(failures))


def with_predicted(request: Request, say: Callable[[str], None]) -> Request:
    """The request with folders of `shiftscope predict` replaced by what those looked at, and their boxes where there are no weights. Raises InputError."""
    run = load_run(request)
    sha256 = run.sha256 if run is not None else None
    real_world, predictions = [], list(request.predictions)
    for domain in request.real_world:
        known, boxes = behind(domain, sha256, say)
        real_world.append(known)
        predictions += [boxes] if boxes is not None else []
    home = request.in_domain
    if home is not None:
        home, boxes = behind(home, sha256, say)
        predictions += [boxes] if boxes is not None else []
    return replace(request, in_domain=home, real_world=tuple(real_world), predictions=tuple(predictions))


def run_report(request: Request, reporter: Reporter) -> Result:
    """Everything up to the findings. Raises InputError."""
    request = with_predicted(request, reporter.say)
    seen = look_at_everything(request, reporter)
    home = next(d for d in seen.domains.values() if d.role == "in_domain")
    away = [d for d in seen.domains.values() if d.role == "real_world"]
    experiments = look_again(request, seen, home, away, reporter)
    compared = beside_each_other(request, seen, (home, *away), reporter)
    with reporter.stage("diagnose", "Measuring, and questioning the suspects"):
        history = seen.run.history if seen.run else pd.DataFrame()
        findings = find(
            home,
            away,
            seen.domains.get("training"),
            history,
            experiments,
            conf=request.conf,
            standings=compared.standings,
            training_total=next((len(o.source.images) for o in seen.opened if o.role == "training"), None),
            seed=request.seed,
        )
    return Result(
        request,
        seen.run,
        seen.classes,
        seen.settings,
        findings,
        seen.opened,
        full_ledger(seen.opened, seen.failures),
        all_rows(seen.opened),
        compare_with_before(request, seen, (home, *away), reporter),
        compared,
    )


def beside_each_other(
    request: Request, seen: Seen, domains: Sequence[Domain], reporter: Reporter
) -> Checkpoints:
    """The checkpoints that the run kept; nothing for domains whose detections come from elsewhere. A checkpoint that cannot be used costs the comparison only."""
    supplied = dict(request.predictions)
    own = [domain for domain in domains if domain.name not in supplied]
    if seen.run is None or not own:
        return Checkpoints()
    try:
        return compare_checkpoints(
            seen.run,
            own,
            request.checkpoints,
            seen.settings,
            lambda weights: load_detector(weights, request),
            reporter,
            seed=request.seed,
        )
    except InputError as problem:
        reporter.say(f"  checkpoints are not compared: {problem}")
        return Checkpoints()


def compare_with_before(
    request: Request, seen: Seen, domains: Sequence[Domain], reporter: Reporter
) -> tuple[Change, ...]:
    """What differs from the run before; nothing where there is none. Domains whose detections come from elsewhere are left out. Raises InputError."""
    if seen.run is None:
        return ()
    before = open_before(request.before) if request.before is not None else parent_of(seen.run)
    if before is None:
        return ()
    supplied = dict(request.predictions)
    own = [domain for domain in domains if domain.name not in supplied]
    try:
        return changes(
            before,
            seen.classes,
            own,
            seen.domains.get("training"),
            request.imgsz,
            lambda weights: load_detector(weights, request),
            reporter,
            training_total=sum(len(o.source.images) for o in seen.opened if o.role == "training"),
            seed=request.seed,
        )
    except InputError as problem:
        if request.before is not None:
            raise
        # What a run was trained on from is often a checkpoint of other classes: nothing to compare with, and nobody asked for it.
        reporter.say(f"  not compared with what it was trained on from: {problem}")
        return ()


def look_again(
    request: Request, seen: Seen, home: Domain, away: Sequence[Domain], reporter: Reporter
) -> Experiments:
    """Everything that takes further passes; nothing without weights, or for domains whose detections come from elsewhere."""
    if seen.detector is None or seen.run is None:
        return Experiments()
    eyes = Eyes(seen.detector, seen.run, seen.settings, reporter)
    supplied, focus = dict(request.predictions), focus_of(away)
    scored = home.labelled.any() and len(home.boxes) > 0 and home.name not in supplied
    found = Experiments(
        bursts=looks_at_bursts(eyes, [o for o in seen.opened if o.name not in supplied]),
        declined=request.label_free is False,
    )
    if scored and focus is not None and focus.name not in supplied:
        second = second_looks(eyes, home, focus, seed=request.seed)
        found = replace(
            found, recoveries=second.recoveries, looks=second.looks, corrections=second.corrections
        )
    wanted = request.label_free
    if wanted is None:
        wanted = any(len(domain.boxes) < MIN_BOXES for domain in away)
    # Without enough objects, or hits among them, at home there is nothing to learn from: spare the passes.
    if scored and wanted and len(home.boxes) >= MIN_BOXES and ap50(home) >= LEAST_AP50:
        looked_at = [domain for domain in away if domain.name not in supplied]
        found = replace(
            found,
            estimator=fit(home, graded_looks(eyes, home), development_sets()),
            squeezed=footage_squeezed(eyes, looked_at),
        )
    return found


def looks_at_bursts(eyes: Eyes, opened: Sequence[Opened]) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """The bursts of every video, and the detections in them."""
    found = {}
    for o in opened:
        frames = o.source.bursts
        if len(frames):
            title = f"Looking at neighbouring frames of {o.name}"
            with eyes.reporter.stage("predict", title, len(frames)) as tick:
                store = Store(predict_folder(eyes.settings, eyes.run.sha256))
                found[o.name] = (
                    frames,
                    eyes.detector.predict(frames, eyes.settings, store, tick=tick).detections,
                )
    return found


def summary(opened: Opened) -> str:
    """One line about a source before looking at its pictures."""
    images = opened.source.images
    labelled = int(images["labelled"].sum())
    skipped = int((opened.source.ledger["bucket"] != "used").sum())
    words = f"{len(images)} pictures, {labelled} labelled, {len(opened.source.boxes)} objects, {images['group'].nunique()} clips"
    return words + (f", {skipped} files not used (see ledger.csv)" if skipped else "")


def full_ledger(opened: Sequence[Opened], failures: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Every file once per source: path, bucket, reason, domain. A picture that failed to decode moves from used to failed."""
    failed = (
        pd.concat([f for f in failures if len(f)], ignore_index=True)
        if any(map(len, failures))
        else pd.DataFrame(columns=["path", "reason"])
    )
    reasons = dict(zip(failed["path"], failed["reason"], strict=True))
    parts = []
    for name, source in {o.source.spec: o.source for o in opened}.items():
        part = source.ledger.copy()
        broken = part["path"].isin(list(reasons))
        part.loc[broken, "bucket"] = "failed"
        part.loc[broken, "reason"] = part.loc[broken, "path"].map(reasons)
        parts.append(part.assign(source=name))
    return concatenate(parts, {**LEDGER_COLUMNS, "source": "str"})


def all_rows(opened: Sequence[Opened]) -> pd.DataFrame:
    """Label rows of all sources that were not taken as written."""
    unique_sources = {o.source.spec: o.source for o in opened}
    return concatenate([source.rows for source in unique_sources.values()], ROW_COLUMNS)
