"""Inference: every image of every domain through the detector once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from datasets.coco import read_results
from datasets.errors import InputError
from datasets.groups import evenly
from datasets.source import locate, parts_of
from diagnostics.domain import Domain
from reports.options import ReportOptions
from reports.pipeline.earlier_run import open_earlier_run
from reports.pipeline.sources import (
    Opened,
    in_domain_source,
    open_domains,
    summary,
    with_attributes,
    with_corrections,
)
from reports.progress import Reporter
from train.environment import runs_folder, trust_checkpoints
from train.history import read_history
from train.passes import describe
from train.prediction_folder import read_boxes, resolve_domain
from train.predictions import Predictions, Settings, Store, predict_folder
from train.run import Run, open_run, open_weights

if TYPE_CHECKING:
    from train.forward import Detector

if TYPE_CHECKING:
    from train.forward import Detector


# Training images looked at: enough for its AP, for finding copies and for the nearest examples.
MAX_TRAINING = 1000


# Ultralytics' default, for predictions that come without weights.
DEFAULT_IMGSZ = 640


def build_domain(
    opened: Opened, images: pd.DataFrame, predictions: Predictions, imgsz: int, classes: tuple[str, ...]
) -> Domain:
    """Join a source's tables with what was seen; images that failed to decode are left out of every table."""
    merged = images.merge(predictions.images, on="image", how="inner", validate="one_to_one")
    boxes = opened.source.annotations
    return Domain(
        name=opened.name,
        role=opened.role,
        images=merged,
        annotations=boxes[boxes["image"].isin(merged["image"])].reset_index(drop=True),
        detections=predictions.detections,
        image_embeddings=predictions.image_embeddings,
        detection_embeddings=predictions.detection_embeddings,
        imgsz=imgsz,
        classes=classes,
    )


def _with_external_detections(
    opened: Opened, path: Path, predictions: Predictions, classes: Sequence[str]
) -> Predictions:
    """Replace detections by those of a COCO results file or of `shiftscope predict`, whose boxes have no embeddings; images that the latter did not look at are left out."""
    if path.suffix == ".parquet":
        found, predicted = read_boxes(path, opened.source, classes)
        there = predictions.images["image"].isin(list(predicted)).to_numpy()
        predictions = replace(
            predictions,
            images=predictions.images[there].reset_index(drop=True),
            image_embeddings=predictions.image_embeddings[there],
        )
    else:
        found = read_results(path, opened.source, classes)
    found = found[found["image"].isin(predictions.images["image"])].reset_index(drop=True)
    return replace(predictions, detections=found, detection_embeddings=np.zeros((len(found), 0), np.float32))


@dataclass(frozen=True)
class PredictedDomains:
    """Every domain after its images were looked at. failures: path, reason, domain of images that could not be decoded."""

    run: Run | None
    detector: Detector | None
    classes: tuple[str, ...]
    settings: Settings
    opened: tuple[Opened, ...]
    domains: dict[str, Domain]
    failures: tuple[pd.DataFrame, ...]


def _load_run(options: ReportOptions) -> Run | None:
    """The run or the bare weights of a request; None where only predictions are given."""
    if options.run is not None:
        run = open_run(options.run)
        return replace(run, history=read_history(options.history)) if options.history is not None else run
    return open_weights(options.weights, options.history) if options.weights is not None else None


def _classes_of(detector: Detector | None, opened: Sequence[Opened]) -> tuple[str, ...]:
    """The detector's classes; without one, those of the first source that names any."""
    if detector is not None:
        return tuple(detector.classes)
    return tuple(next((o.source.classes for o in opened if o.source.classes), ()))


def _check_supplied(opened: Sequence[Opened], supplied: dict[str, Path], *, all_needed: bool) -> None:
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


def load_detector(weights: Path, options: ReportOptions) -> Detector:
    """The checkpoint, ready to look. Its libraries take seconds to import, so nothing imports them before there is need."""
    if options.trust:
        trust_checkpoints()
    from train.forward import Detector

    return Detector(weights, device=options.device, batch=options.batch)


def predict_domains(
    options: ReportOptions, reporter: Reporter, *, embed_detections: bool = True
) -> PredictedDomains:
    """Open all sources and look at every image once. objects: with the embeddings of boxes. Raises InputError."""
    run, supplied = _load_run(options), dict(options.predictions)
    if run is None and not supplied:
        raise InputError(
            "nothing to diagnose: give --run DIR, --weights FILE, or --predictions NAME=FILE for every domain"
        )
    for _, spec in (in_domain_source(options, run), *options.real_world):
        for part in parts_of(spec):
            locate(part, reporter.say)
    if options.before is not None:
        open_earlier_run(options.before)
    with reporter.stage("open", "Opening weights and sources"):
        detector = load_detector(run.weights, options) if run is not None else None
        opened = open_domains(options, run, detector.classes if detector else (), reporter.say)
    if options.corrections:
        opened = with_corrections(opened, _classes_of(detector, opened), reporter)
    opened = with_attributes(opened, options.slices, reporter)
    _check_supplied(opened, supplied, all_needed=detector is None)
    classes = _classes_of(detector, opened)
    if detector is None:
        opened = [o for o in opened if o.role != "training"]
    for o in opened:
        reporter.say(f"  {o.name}: {summary(o)}")
    settings = Settings(
        imgsz=options.imgsz or (run.imgsz if run else None) or (detector.imgsz if detector else DEFAULT_IMGSZ)
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
        with reporter.stage("predict", f"Looking at {o.name} ({len(images)} images)", len(images)) as tick:
            if detector is not None:
                found = detector.predict(
                    images, settings, store, tick=tick, embed_detections=embed_detections
                )
            else:
                found = describe(images, store, tick=tick)
        if found.images.empty:
            first = found.failures.iloc[0]
            raise InputError(
                f"{o.source.spec}: none of {len(images)} images could be decoded, first: {first['path']} ({first['reason']})"
            )
        if o.name in supplied:
            found = _with_external_detections(o, supplied[o.name], found, classes)
        failures.append(found.failures.assign(domain=o.name))
        domains[o.name] = build_domain(o, images, found, settings.imgsz, tuple(classes))
    return PredictedDomains(run, detector, tuple(classes), settings, tuple(opened), domains, tuple(failures))


def resolve_prediction_folders(options: ReportOptions, say: Callable[[str], None]) -> ReportOptions:
    """The request with folders of `shiftscope predict` replaced by what those looked at, and their boxes where there are no weights. Raises InputError."""
    run = _load_run(options)
    sha256 = run.sha256 if run is not None else None
    real_world, predictions = [], list(options.predictions)
    for domain in options.real_world:
        known, boxes = resolve_domain(domain, sha256, say)
        real_world.append(known)
        predictions += [boxes] if boxes is not None else []
    in_domain = options.in_domain
    if in_domain is not None:
        in_domain, boxes = resolve_domain(in_domain, sha256, say)
        predictions += [boxes] if boxes is not None else []
    return replace(options, in_domain=in_domain, real_world=tuple(real_world), predictions=tuple(predictions))
