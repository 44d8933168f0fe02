"""`shiftscope predict`: detections in images, videos or a camera, drawn on copies and written as tables.

The output folder can be a domain of a report.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from datasets.collector import VIDEO
from datasets.containment import register_roots
from datasets.errors import InputError
from datasets.files import write_text
from datasets.naming import domain_name
from datasets.source import open_source
from datasets.tables import CORNERS, LEDGER_COLUMNS, Source, frame
from diagnostics.deployment import Change
from diagnostics.wording import count
from reports.export.coco import coco_dataset, coco_results
from reports.export.inference import InferenceSettings, read_inference
from reports.export.yolo import write_labels
from reports.files import one_writer
from reports.options import PredictOptions, absolute
from reports.pipeline.runs import load_detector
from reports.prediction.camera import is_camera, predict_camera
from reports.prediction.images import predict_images
from reports.prediction.job import PARTS, PredictionJob
from reports.prediction.segments import predict_video
from reports.prediction.tables import PredictionTables, merge_parts
from reports.prediction.video import Video, VideoError
from reports.prediction.window import Window
from reports.progress import Reporter
from train.environment import frames_folder, runs_folder
from train.other_detectors import open_function
from train.prediction_folder import INFO, read_prediction_info
from train.predictions import Settings
from train.run import Run, open_weights
from train.transforms import Photometric

# Confidence from which detections are drawn, Ultralytics' default.
CONF = 0.25


def predict(options: PredictOptions, reporter: Reporter) -> dict[str, Any]:
    """Predict a source, draw its detections on copies and write tables.

    An interrupted prediction of files resumes when the same one is requested again.

    Parameters
    ----------
    options
        The request.
    reporter
        Progress and messages.

    Returns
    -------
    dict
        What was written, as JSON values.

    Raises
    ------
    InputError
        The source, the checkpoint or a class to blur does not exist, or the output folder holds other files.
    EnvironmentProblem
        The camera gives no image.
    """
    advised = read_inference(options.from_report, options.domain) if options.from_report is not None else None
    run = _open_run(options, advised)
    detector = load_detector(
        run.weights,
        function=run.function,
        device=options.device,
        trust=options.trust_checkpoint,
        ray=options.ray,
    )
    _check_blurred(options.blur, detector.classes)
    change = advised.change if advised is not None else None
    settings = Settings(
        imgsz=options.imgsz or (change.imgsz if change is not None else detector.imgsz), iou=options.iou
    )
    thresholds = _thresholds(options, advised, detector.classes)
    if advised is not None:
        reporter.say(_advised_words(options, advised))
    source = None if is_camera(options.source) else _open_source(options, detector.classes, reporter)
    request = _request_record(options, run, detector.classes, settings, source)
    request |= _advised_record(change, thresholds, detector.classes, plain=advised is None)
    folder = _reserve_folder(options, request, camera=source is None)
    info = read_prediction_info(folder)
    if info is not None and info.get("finished"):
        reporter.say(f"  {folder}: holds this prediction already")
        return info
    with one_writer(folder):
        write_text(folder / INFO, json.dumps({"finished": False, **request}, indent=1))
        with _live_view(options.show, reporter) as window:
            job = PredictionJob(
                detector=detector,
                sha256=request["sha256"],
                settings=settings,
                thresholds=thresholds,
                stride=options.stride,
                blurred=frozenset(detector.classes.index(name) for name in options.blur),
                folder=folder,
                reporter=reporter,
                window=window,
                transform=Photometric(*change.colours) if change is not None and change.colours else None,
                tiles=change is not None and change.tiles,
            )
            if source is None:
                ledger, tables = frame([], LEDGER_COLUMNS), [predict_camera(job, options.source)]
            else:
                ledger, tables = _predict_files(job, source)
        return _write_result(job, tables, ledger, request)


def _check_blurred(blurred: Sequence[str], classes: Sequence[str]) -> None:
    """Raise InputError if the detector lacks a class to blur."""
    unknown = [name for name in blurred if name not in classes]
    if unknown:
        raise InputError(f"--blur {unknown[0]}: the model has no such class; it has {', '.join(classes)}")


def _open_source(options: PredictOptions, classes: Sequence[str], reporter: Reporter) -> Source:
    """The images of a source; its videos are listed in its ledger. Raises InputError."""
    return open_source(
        options.source,
        cache=frames_folder(),
        classes=classes,
        allow=options.allow_root,
        say=reporter.say,
        frames=False,
    )


def _open_run(options: PredictOptions, advised: InferenceSettings | None) -> Run:
    """The detector that is asked for, else that of the report. Raises InputError without one."""
    named = [name for name in ("weights", "detector") if getattr(options, name) is not None]
    if len(named) > 1:
        raise InputError("--detector stands in the place of --weights; give one of them")
    function = options.detector or (advised.function if advised is not None and not named else None)
    if function is not None:
        return open_function(function)
    weights = options.weights or (advised.weights if advised is not None else None)
    if weights is None:
        raise InputError(
            "no detector: give --weights FILE, --detector MODULE:FUNCTION, or --from-report FOLDER"
        )
    return open_weights(weights, None)


def _thresholds(
    options: PredictOptions, advised: InferenceSettings | None, classes: Sequence[str]
) -> npt.NDArray[np.float64]:
    """The threshold of each class, (K,): --conf, else the report's, else CONF."""
    if options.conf is not None or advised is None:
        return np.full(len(classes), CONF if options.conf is None else options.conf)
    unknown = [name for name in advised.thresholds if name not in classes]
    if unknown:
        raise InputError(
            f"{options.from_report}: has a threshold for {unknown[0]}, which the model has not; "
            f"it has {', '.join(classes)}"
        )
    # A class that was neither annotated nor predicted has none of its own.
    common = float(np.median(list(advised.thresholds.values()))) if advised.thresholds else CONF
    return np.array([advised.thresholds.get(name, common) for name in classes])


def _advised_words(options: PredictOptions, advised: InferenceSettings) -> str:
    """What is taken from the report, and what is expected from it."""
    change = advised.change
    parts = [f"image size {options.imgsz or change.imgsz}"]
    parts += ["tiles"] * change.tiles + ["colours matched to the in-domain images"] * (
        change.colours is not None
    )
    if options.conf is None:
        values = sorted(advised.thresholds.values())
        parts.append(
            f"thresholds from {values[0]:g} to {values[-1]:g} by class"
            if len(set(values)) > 1
            else f"threshold {values[0]:g}"
            if values
            else f"threshold {CONF:g}"
        )
    expected = ""
    if advised.expected_f1 is not None and advised.f1_before is not None:
        expected = (
            f"; F1 {advised.expected_f1:.2f} expected on such footage, {advised.f1_before:.2f} with images "
            "and threshold as they were"
        )
    return f"  from the report, for {advised.domain}: {', '.join(parts)}{expected}"


def _advised_record(
    change: Change | None, thresholds: npt.NDArray[np.float64], classes: Sequence[str], *, plain: bool
) -> dict[str, Any]:
    """What of the request comes from a report, as JSON values; nothing without one."""
    if plain or change is None:
        return {}
    return {
        "thresholds": dict(zip(classes, map(float, thresholds), strict=True)),
        "tiles": change.tiles,
        "match_colours": None if change.colours is None else [list(part) for part in change.colours],
    }


# Five parameters: what is asked for, and what it was made into.
def _request_record(
    options: PredictOptions, run: Run, classes: Sequence[str], settings: Settings, source: Source | None
) -> dict[str, Any]:
    """Everything that the result depends on, as JSON values; source is None for a camera."""
    return {
        "source": options.source if source is None else absolute(options.source),
        "content": None if source is None else _content_digest(source),
        "weights": str(run.weights.absolute()),
        "sha256": run.sha256,
        "classes": list(classes),
        "conf": CONF if options.conf is None else options.conf,
        "stride": options.stride,
        "blur": list(options.blur),
        "settings": settings.record(),
    }


def _content_digest(source: Source) -> str:
    """Hash over path, size and time of every file: changed content under the same name is a new request."""
    paths = [*source.images["path"], *source.ledger.loc[source.ledger["reason"] == VIDEO, "path"]]
    stats = [(path, Path(path).stat()) for path in paths]
    text = json.dumps([(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _reserve_folder(options: PredictOptions, request: dict[str, Any], *, camera: bool) -> Path:
    """The output folder: that of the same request, to resume it, else a new one.

    Raises InputError if --out holds other files.
    """
    name = options.source.replace(":", "-") if camera else domain_name(options.source.split(",")[0])
    folder = options.out.absolute() if options.out is not None else runs_folder() / "predict" / name
    number = 2
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder with --out")
    while folder.exists() and any(folder.iterdir()) and (camera or not _is_same_request(folder, request)):
        if options.out is not None:
            raise InputError(f"{folder}: holds other files; give another --out, or none for a new folder")
        folder, number = folder.with_name(f"{name}-{number}"), number + 1
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_same_request(folder: Path, request: dict[str, Any]) -> bool:
    """Whether a folder belongs to the same request."""
    info = read_prediction_info(folder)
    return info is not None and {key: info.get(key) for key in request} == request


@contextlib.contextmanager
def _live_view(show: bool, reporter: Reporter) -> Iterator[Window | None]:
    """Yield a live view, or None if show is false; it closes with the block."""
    window = Window() if show else None
    if window is not None:
        reporter.say(f"  live view at {window.address}")
    try:
        yield window
    finally:
        if window is not None:
            window.close()


def _predict_files(job: PredictionJob, source: Source) -> tuple[pd.DataFrame, list[PredictionTables]]:
    """Predict the images of a source, then its videos; returns the ledger with the outcome of each file.

    Raises InputError if no image and no frame was predicted.
    """
    tables = []
    ledger = source.ledger
    if len(source.images):
        image_tables, failures = predict_images(job, source)
        tables.append(image_tables)
        ledger = _with_outcome(ledger, failures, "failed")
    videos = ledger.loc[ledger["reason"] == VIDEO, "path"].tolist()
    names = _video_names(videos)
    for path, name, out in zip(videos, names, _output_names(names), strict=True):
        try:
            tables.append(predict_video(job, Video.open(Path(path)), name, out))
            frames = pq.read_metadata(tables[-1].images).num_rows
            ledger = _with_outcome(ledger, {path: f"{frames} frames"}, "used")
        except (InputError, VideoError) as error:
            reason = str(error).removeprefix(f"{path}: ")
            ledger = _with_outcome(ledger, {path: reason}, "failed")
            job.reporter.say(f"  {path}: {reason}")
    if not any(pq.read_metadata(part.images).num_rows for part in tables):
        first = ledger[ledger["bucket"] == "failed"].head(1)
        why = f"; first failure: {first['path'].iloc[0]} ({first['reason'].iloc[0]})" if len(first) else ""
        raise InputError(f"{source.spec}: contains no readable image or video{why}")
    return ledger, tables


def _with_outcome(ledger: pd.DataFrame, reasons: dict[str, str], bucket: str) -> pd.DataFrame:
    """The ledger with some files (path -> reason) moved to a bucket."""
    is_moved = ledger["path"].isin(list(reasons))
    return ledger.assign(
        bucket=ledger["bucket"].mask(is_moved, bucket),
        reason=ledger["reason"].mask(is_moved, ledger["path"].map(reasons)),
    )


def _video_names(videos: Sequence[str]) -> list[str]:
    """Name each video as reports do: by its file name, or by its path below the common folder.

    Paths are used if two videos share a stem.
    """
    paths = [Path(video) for video in videos]
    if len({path.stem for path in paths}) == len(paths):
        return [path.name for path in paths]
    common = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(common).as_posix() for path in paths]


def _output_names(names: Sequence[str]) -> list[str]:
    """Relative path of each annotated video; videos that differ only in their suffix keep it."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    return [
        f"{stem if stems.count(stem) == 1 else name}.mp4" for stem, name in zip(stems, names, strict=True)
    ]


def _write_result(
    job: PredictionJob, tables: Sequence[PredictionTables], ledger: pd.DataFrame, request: dict[str, Any]
) -> dict[str, Any]:
    """Write the tables and the record that marks the prediction as finished; returns the record."""
    with job.reporter.stage("write", "Writing tables"):
        counts = _write_tables(job, tables, ledger)
    info = {"folder": str(job.folder), **counts, "finished": True, **request}
    info["versions"] = {package: version(package) for package in ("shiftscope", "ultralytics", "torch")}
    write_text(job.folder / INFO, json.dumps(info, indent=1))
    # The record names a source; reports follow it only if it is registered as written here.
    register_roots(job.folder / INFO, [], frames_folder())
    shutil.rmtree(job.folder / PARTS)
    return info


def _write_tables(
    job: PredictionJob, tables: Sequence[PredictionTables], ledger: pd.DataFrame
) -> dict[str, Any]:
    """Write all detections as Parquet, for scoring, and the drawn ones as CSV, COCO JSON and YOLO text files.

    Returns their counts as JSON values.
    """
    folder = job.folder
    merged = merge_parts(tables, PredictionTables(folder / "images.parquet", folder / "boxes.parquet"))
    ledger.to_csv(folder / "ledger.csv", index=False)
    images = pq.read_table(merged.images).to_pandas()
    lowest = float(job.thresholds.min(initial=1.0))
    shown = pq.read_table(merged.boxes, filters=[("confidence", ">=", lowest)]).to_pandas()
    shown = shown[job.is_shown(shown[[*CORNERS, "confidence", "label"]].to_numpy(float))]
    write_text(folder / "boxes.csv", shown.to_csv(index=False, float_format="%.6g"))
    write_text(folder / "coco.json", json.dumps(coco_dataset(images, shown, job.detector.classes)))
    write_text(folder / "predictions.json", json.dumps(coco_results(shown, job.detector.classes)))
    write_labels(folder / "labels", images, shown)
    return {
        "images": int(images["seconds"].isna().sum()),
        "frames": int(images["seconds"].notna().sum()),
        "boxes": len(shown),
        "images_with_boxes": int(shown["image"].nunique()),
        "boxes_by_class": {str(name): int(n) for name, n in shown["name"].value_counts().items()},
        "files": {
            bucket: int((ledger["bucket"] == bucket).sum()) for bucket in ("used", "skipped", "failed")
        },
    }


def lines(result: dict[str, Any]) -> list[str]:
    """The result as lines of text."""
    folder = result["folder"]
    by_class = ", ".join(f"{count(n, name, name)}" for name, n in result["boxes_by_class"].items())
    inputs = " and ".join(
        count(result[key], noun) for key, noun in (("images", "image"), ("frames", "frame")) if result[key]
    )
    drawn = ["in images/"] * (result["images"] > 0) + ["as .mp4"] * (result["frames"] > 0)
    unused = result["files"]["skipped"] + result["files"]["failed"]
    return [
        f"{count(result['boxes'], 'detection')} at {_threshold_words(result)} or above "
        f"in {result['images_with_boxes']:,} of {inputs}"
        + (f": {by_class}" if len(result["boxes_by_class"]) > 1 else ""),
        *([f"{count(unused, 'file')} not used; see {folder}/ledger.csv"] if unused else []),
        f"{folder}: drawn {' and '.join(drawn)}; boxes.csv, coco.json, predictions.json and labels/ "
        "hold the drawn detections, boxes.parquet all from confidence 0.001",
        f"As a domain of a report: shiftscope report ... --real-world {folder}",
    ]


def _threshold_words(result: dict[str, Any]) -> str:
    """The threshold, or where there are several, that each class has its own."""
    values = set(result.get("thresholds", {}).values())
    if len(values) > 1:
        return "the threshold of its class"
    return f"confidence {next(iter(values), result['conf']):g}"
