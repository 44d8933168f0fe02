"""Inference: every image of every domain through the detector once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from datasets.coco import annotations_by_image, read_results
from datasets.errors import InputError
from datasets.groups import GUESSED, INDEPENDENT, evenly, originals
from datasets.plausibility import (
    MOST_COMPARED,
    MOST_EMPTY,
    oddities,
    share_on_annotations,
)
from datasets.shapes import SHAPE
from datasets.source import locate, split_spec
from datasets.tables import CORNERS
from diagnostics import object_shapes
from diagnostics.class_ids import FEWEST_BOXES
from diagnostics.domain import Domain
from diagnostics.object_shapes import ShapeScores
from diagnostics.pairs import Pair, make_pairs
from diagnostics.recordings import are_recordings
from diagnostics.wording import count
from reports.options import ReportOptions
from reports.pipeline.runs import load_detector, open_earlier_run
from reports.pipeline.sources import (
    Opened,
    in_domain_source,
    open_domains,
    summary,
    with_attributes,
    with_corrections,
)
from reports.progress import Reporter
from train.environment import runs_folder
from train.history import history_of
from train.passes import describe
from train.prediction_folder import newer_images, read_boxes, resolve_domain
from train.predictions import Predictions, Settings, Store, predict_folder
from train.run import Run

if TYPE_CHECKING:
    from train.remembered import AnyDetector

# Training images used: enough for their AP, for finding copies and for the nearest examples.
MAX_TRAINING = 1000
# From this confidence on, gallery and App show detections.
DRAWN_FROM = 0.05
# Ultralytics' default, for predictions that come without weights.
DEFAULT_IMGSZ = 640


@dataclass(frozen=True)
class PredictedDomains:
    """Every domain after inference.

    run: the run under diagnosis; None where only predictions were given
    detector: its detector
    classes: class names by index
    settings: the inference settings
    opened: the domains before inference
    domains: the domains, by name
    failures: path, reason and domain of images that could not be decoded
    shapes: what was measured on masks or key points, by domain; {} for a model of boxes
    """

    run: Run | None
    detector: AnyDetector | None
    classes: tuple[str, ...]
    settings: Settings
    opened: tuple[Opened, ...]
    domains: dict[str, Domain]
    failures: tuple[pd.DataFrame, ...]
    shapes: dict[str, ShapeScores] = field(default_factory=dict)

    @property
    def in_domain(self) -> Domain:
        """The validation domain."""
        return next(domain for domain in self.domains.values() if domain.role == "in_domain")

    @property
    def real_world(self) -> list[Domain]:
        """The real-world domains."""
        return [domain for domain in self.domains.values() if domain.role == "real_world"]

    @property
    def training(self) -> Domain | None:
        """The training images, or a sample of them; None where they are not available."""
        return self.domains.get("training")

    @cached_property
    def pairs(self) -> dict[str, Pair]:
        """Each real-world domain beside the in-domain set, made comparable."""
        return make_pairs(self.in_domain, self.real_world, self.training, self.training_total)

    @property
    def training_total(self) -> int | None:
        """Number of training images; None where they are not available."""
        return next((len(o.source.images) for o in self.opened if o.role == "training"), None)


def predict_domains(
    options: ReportOptions, run: Run | None, reporter: Reporter, *, embed_detections: bool = True
) -> PredictedDomains:
    """Open all sources and run inference on every image once.

    Parameters
    ----------
    options : ReportOptions
        Sources and inference settings.
    run : Run or None
        The run under diagnosis; None where only predictions are given.
    reporter : Reporter
        Shows progress.
    embed_detections : bool
        Also read the embeddings of detections, which are most of what is stored.

    Raises
    ------
    InputError
        A source, the checkpoint or a file of predictions cannot be used.
    """
    supplied = dict(options.predictions)
    _check_first(options, run, reporter)
    detector, classes, opened = _open(options, run, reporter)
    if run is not None and detector is not None:
        run = _with_kept_history(run, detector, reporter)
    for domain in opened:
        reporter.say(f"  {domain.name}: {summary(domain)}")
    imgsz = options.imgsz or (run.imgsz if run else None) or (detector.imgsz if detector else DEFAULT_IMGSZ)
    settings = run.settings(imgsz) if run else Settings(imgsz)
    kind = object_shapes.KINDS.get(detector.task) if detector is not None else None
    first_pass = replace(settings, shapes=kind is not None)
    # One store for all domains: opening it lists every shard there is.
    store = Store(
        predict_folder(first_pass, run.sha256)
        if detector is not None and run is not None
        else runs_folder() / "predictions" / "statistics"
    )
    domains, failures = {}, []
    shapes: dict[str, ShapeScores] = {}
    for domain in opened:
        images = (
            evenly(domain.source.images, MAX_TRAINING) if domain.role == "training" else domain.source.images
        )
        title = f"Inference on {domain.name} ({len(images)} images)"
        with reporter.stage("predict", title, len(images)) as tick:
            predictions = (
                detector.predict(images, first_pass, store, tick=tick, embed_detections=embed_detections)
                if detector is not None
                else describe(images, store, tick=tick)
            )
        if predictions.images.empty:
            first = predictions.failures.iloc[0]
            raise InputError(
                f"{domain.source.spec}: none of {len(images)} images could be decoded, "
                f"first: {first['path']} ({first['reason']})"
            )
        if len(predictions.failures):
            first = predictions.failures.iloc[0]
            reporter.say(
                f"  {domain.name}: {count(len(predictions.failures), 'image')} cannot be decoded and left out, "
                f"first: {first['path']} ({first['reason']})"
            )
        if domain.name in supplied:
            predictions = _with_external_detections(
                domain, supplied[domain.name], predictions, classes, reporter.say
            )
        failures.append(predictions.failures.assign(domain=domain.name))
        built = build_domain(domain, images, predictions, imgsz, classes)
        if kind is not None:
            if domain.role != "training":
                scores = object_shapes.score_shapes(built, kind, seed=options.seed)
                shapes |= {domain.name: scores} if scores is not None else {}
            built = _with_drawn_shapes(built)
        domains[domain.name] = built
        _say_upright(domains[domain.name], reporter)
    if detector is not None and detector.backend.startswith("PyTorch ("):
        reporter.say(f"  forward passes are PyTorch's: {detector.backend.removeprefix('PyTorch (')[:-1]}")
    opened, domains = _with_checked_groups(opened, domains, options.seed, reporter)
    return PredictedDomains(run, detector, classes, settings, tuple(opened), domains, tuple(failures), shapes)


def _check_first(options: ReportOptions, run: Run | None, reporter: Reporter) -> None:
    """What costs nothing to check: that there is something to diagnose, and that every source and earlier run
    is there.

    Raises InputError.
    """
    if run is None and not options.predictions:
        raise InputError(
            "nothing to diagnose: give --run DIR, --weights FILE, --detector MODULE:FUNCTION, or "
            "--predictions NAME=FILE for every domain"
        )
    for _, spec in (in_domain_source(options, run), *options.real_world):
        for part in split_spec(spec):
            locate(part, reporter.say)
    if options.before is not None:
        open_earlier_run(options.before)


def _with_kept_history(run: Run, detector: AnyDetector, reporter: Reporter) -> Run:
    """The run with the training curve that Ultralytics keeps in the checkpoint, where no results.csv was
    given.
    """
    if not run.history.empty or not detector.training_curve:
        return run
    try:
        history = history_of(pd.DataFrame(dict(detector.training_curve)), run.weights)
    except (InputError, ValueError):
        # Columns of different lengths, or of another program: as if there were none.
        return run
    reporter.say(f"  training curve of {count(len(history), 'epoch')}, from {run.weights.name}")
    return replace(run, history=history)


def _with_drawn_shapes(domain: Domain) -> Domain:
    """The domain without the shapes of detections that nothing shows, which are most of them; everything but
    the table of shapes is measured on boxes.
    """
    if SHAPE not in domain.detections:
        return domain
    shown = domain.detections["confidence"] >= DRAWN_FROM
    shapes = domain.detections[SHAPE].where(shown, None)
    return replace(domain, detections=domain.detections.assign(**{SHAPE: shapes}))


def _say_upright(domain: Domain, reporter: Reporter) -> None:
    """Say where rotated detections meet upright labels, on which they hardly match."""
    if "angle" in domain.detections and len(domain.annotations) and "angle" not in domain.annotations:
        reporter.say(
            f"  {domain.name}: the detector gives rotated boxes and the labels are upright, so AP is low by "
            "that alone: give labels of four corners (YOLO OBB or DOTA)"
        )


def _with_checked_groups(
    opened: Sequence[Opened], domains: Mapping[str, Domain], seed: int, reporter: Reporter
) -> tuple[list[Opened], dict[str, Domain]]:
    """Where recordings were guessed from file names and the images contradict, each image by itself.

    Training and held-out images of one source are judged by the held-out ones.
    """
    checked, kept = dict(domains), list(opened)
    real: dict[str, bool] = {}
    for place, domain in enumerate(opened):
        if GUESSED not in domain.source.grouping:
            continue
        same = (o.name for o in opened if o.source.spec == domain.source.spec and o.role != "training")
        judge = domains[next(same, domain.name)]
        if judge.name not in real:
            still = judge.images["seconds"].isna()
            vectors = judge.descriptors
            real[judge.name] = vectors is None or are_recordings(
                judge.images[still].reset_index(drop=True), vectors[still.to_numpy()], seed=seed
            )
        if real[judge.name]:
            continue
        words = f"names suggest recordings, but neighbours are no more alike than other images: {INDEPENDENT}"
        reporter.say(f"  {domain.name}: {words}")
        own = checked[domain.name].images
        groups = own["group"].where(own["seconds"].notna(), originals(own["path"]))
        checked[domain.name] = replace(checked[domain.name], images=own.assign(group=groups.astype("str")))
        kept[place] = replace(domain, source=replace(domain.source, grouping=words))
    return kept, checked


def _open(
    options: ReportOptions, run: Run | None, reporter: Reporter
) -> tuple[AnyDetector | None, tuple[str, ...], list[Opened]]:
    """The detector, the classes, and the domains with corrections and attributes. Raises InputError."""
    with reporter.stage("open", "Opening weights and sources"):
        detector = None
        if run is not None:
            detector = load_detector(
                run.weights,
                function=run.function,
                device=options.device,
                batch=options.batch,
                trust=options.trust_checkpoint,
                ray=options.ray,
            )
        opened = open_domains(
            options,
            run,
            detector.classes if detector else (),
            reporter.say,
            shapes=object_shapes.KINDS.get(detector.task, "") if detector is not None else "",
        )
    # Without a detector, the first source that names any classes decides.
    classes = (
        tuple(detector.classes)
        if detector is not None
        else next((tuple(domain.source.classes) for domain in opened if domain.source.classes), ())
    )
    if options.corrections:
        opened = with_corrections(opened, classes, reporter)
    opened = with_attributes(opened, options.slices, reporter)
    _check_supplied(opened, dict(options.predictions), all_needed=detector is None)
    if detector is None:
        opened = [domain for domain in opened if domain.role != "training"]
    return detector, classes, opened


def _check_supplied(opened: Sequence[Opened], supplied: dict[str, Path], *, all_needed: bool) -> None:
    """Raise InputError for predictions of an unknown domain, and for a domain that needs them and
    has none.
    """
    names = [domain.name for domain in opened if domain.role != "training"]
    for name in supplied:
        if name not in names:
            raise InputError(
                f"--predictions {name}=...: no domain has this name; domains are {', '.join(names)}"
            )
    missing = [name for name in names if name not in supplied]
    if all_needed and missing:
        raise InputError(
            f"no weights, and no --predictions for {', '.join(missing)}; give --weights FILE or "
            f"--predictions {missing[0]}=FILE"
        )


def _with_external_detections(
    opened: Opened,
    path: Path,
    predictions: Predictions,
    classes: Sequence[str],
    say: Callable[[str], None],
) -> Predictions:
    """Replace detections by those of a COCO results file or of `shiftscope predict`, which have no
    embeddings.

    Images that `shiftscope predict` did not process are left out, and splits that a file has no detection of;
    say tells so, and how many images have none.
    """
    if path.suffix == ".parquet":
        detections, processed = read_boxes(path, opened.source, classes)
        newer = newer_images(path, opened.source)
        if newer:
            say(
                f"  {opened.name}: {count(newer, 'image')} changed after {path.name} was written: predict "
                "again if they differ"
            )
        rows = predictions.images["image"].isin(list(processed)).to_numpy()
        predictions = replace(
            predictions,
            images=predictions.images[rows].reset_index(drop=True),
            image_embeddings=predictions.image_embeddings[rows],
        )
    else:
        detections = read_results(path, opened.source, classes)
        predictions = _without_unpredicted(opened, path, predictions, detections, say)
        corners = detections[CORNERS].to_numpy(float)
        odd = oddities(
            detections["image"].factorize()[0],
            detections["label"].to_numpy(),
            np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]]),
            detections["confidence"].to_numpy(float),
        )
        for line in odd:
            say(f"  {opened.name}: {path.name}: {line}")
        if _lies_nowhere(opened, detections):
            say(
                f"  {opened.name}: no detection of {path.name} lies on an annotation (IoU 0.5): are its "
                "boxes left, top, width and height in pixels of the original images, and is it about these "
                "images?"
            )
    if detections.empty:
        say(f"  {opened.name}: {path.name} holds no detection; every object counts as missed")
    detections = detections[detections["image"].isin(predictions.images["image"])].reset_index(drop=True)
    no_embeddings = np.zeros((len(detections), 0), np.float32)
    return replace(predictions, detections=detections, detection_embeddings=no_embeddings)


def _lies_nowhere(opened: Opened, detections: pd.DataFrame) -> bool:
    """Whether not even one of the most confident detections lies on an annotation, where both are there."""
    if len(opened.source.annotations) < FEWEST_BOXES or detections.empty:
        return False
    sure = detections.nlargest(MOST_COMPARED, "confidence")
    corners = sure[CORNERS].to_numpy(float)
    xywh = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    return share_on_annotations(xywh, sure["image"].to_numpy(), annotations_by_image(opened.source)) == 0


def _without_unpredicted(
    opened: Opened,
    path: Path,
    predictions: Predictions,
    detections: pd.DataFrame,
    say: Callable[[str], None],
) -> Predictions:
    """Leave out the splits of a source that a file of predictions has nothing of, as where only val was
    predicted, and say how many of the other images have no detection.
    """
    splits = dict(zip(opened.source.images["image"], opened.source.images["split"], strict=True))
    split = predictions.images["image"].map(splits).fillna("")
    has = predictions.images["image"].isin(set(detections["image"]))
    share = has.groupby(split).mean()
    empty = share.index[share == 0].tolist()
    kept = ~split.isin(empty)
    if empty and (share > 0).any():
        say(
            f"  {opened.name}: {path.name} has no detection in {count(int((~kept).sum()), 'image')} of split "
            f"{', '.join(map(str, empty))}, which are left out"
        )
        predictions = replace(
            predictions,
            images=predictions.images[kept].reset_index(drop=True),
            image_embeddings=predictions.image_embeddings[kept.to_numpy()],
        )
    without = int((~has[kept]).sum())
    if without > MOST_EMPTY * kept.sum():
        say(
            f"  {opened.name}: {path.name} has no detection in {without} of "
            f"{count(int(kept.sum()), 'image')}; where these were not predicted, give the predicted ones "
            "alone"
        )
    return predictions


def build_domain(
    opened: Opened, images: pd.DataFrame, predictions: Predictions, imgsz: int, classes: tuple[str, ...]
) -> Domain:
    """Join a source's tables with its predictions; images that failed to decode are left out of
    every table.
    """
    joined = images.merge(predictions.images, on="image", how="inner", validate="one_to_one")
    annotations = opened.source.annotations
    return Domain(
        name=opened.name,
        role=opened.role,
        images=joined,
        annotations=annotations[annotations["image"].isin(joined["image"])].reset_index(drop=True),
        detections=predictions.detections,
        image_embeddings=predictions.image_embeddings,
        detection_embeddings=predictions.detection_embeddings,
        imgsz=imgsz,
        classes=classes,
    )


def resolve_prediction_folders(
    options: ReportOptions, run: Run | None, say: Callable[[str], None]
) -> ReportOptions:
    """Replace folders of `shiftscope predict` by the sources they were made from and, without weights, use
    their detections.

    Raises InputError.
    """
    sha256 = run.sha256 if run is not None else None
    predictions = list(options.predictions)
    real_world = []
    for domain in options.real_world:
        source, detections = resolve_domain(domain, sha256, say)
        real_world.append(source)
        predictions += [detections] if detections is not None else []
    in_domain = options.in_domain
    if in_domain is not None:
        in_domain, detections = resolve_domain(in_domain, sha256, say)
        predictions += [detections] if detections is not None else []
    return replace(options, in_domain=in_domain, real_world=tuple(real_world), predictions=tuple(predictions))
