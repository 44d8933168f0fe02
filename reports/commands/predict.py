"""`shiftscope predict`: what a detector finds in images, videos or a camera, drawn and as tables; the result can be a domain of a report as it is."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from datasets.collector import VIDEO
from datasets.containment import vouch
from datasets.errors import EnvironmentProblem, InputError
from datasets.naming import name_of
from datasets.pixels import Pixels, decode
from datasets.source import open_source
from datasets.tables import CORNERS, LEDGER_COLUMNS, Source, frame
from diagnostics.matching import Floats
from diagnostics.wording import count
from reports.export.coco import as_coco, as_results
from reports.export.yolo import unique_path, write_labels
from reports.files import one_writer, write_text
from reports.options import whole
from reports.prediction.camera import CAMERA, camera_frames, is_camera, stop_on_interrupt
from reports.prediction.overlay import draw
from reports.prediction.tables import BOXES, IMAGES, PredictionTables, append, merged_parts
from reports.prediction.video import PART, Video, VideoError, VideoFrame, Writer, join
from reports.prediction.window import Window
from reports.progress import Reporter
from train.environment import frames_folder, runs_folder, trust_checkpoints
from train.prediction_folder import INFO, read_prediction_info
from train.predictions import Settings, Store, predict_folder
from train.run import file_sha256

if TYPE_CHECKING:
    from train.forward import Detector

# Where what a killed pass goes on from lies until it is done.
PARTS = ".parts"
# Frames that are kept at once: a killed pass over a video loses some ten seconds of it.
SEGMENT = 256


@dataclass(frozen=True)
class PredictOptions:
    """What `shiftscope predict` was asked for. source: a SOURCE, or webcam, webcam:1 ... conf: from where boxes are drawn. stride: of a video, every so many frames are looked at.

    blur: classes that are made unrecognisable instead of outlined. show: in a browser too, as it happens. out: None for a folder of its own in runs/predict.
    """

    source: str
    weights: Path
    conf: float = 0.25
    iou: float = 0.7
    imgsz: int | None = None
    device: str | None = None
    stride: int = 1
    blur: tuple[str, ...] = ()
    show: bool = False
    out: Path | None = None
    allow: tuple[Path, ...] = ()
    trust: bool = False


@dataclass
class PredictionJob:
    """One pass: what it is done with, and where to. window: None unless asked for."""

    options: PredictOptions
    detector: Detector
    settings: Settings
    sha256: str
    folder: Path
    blurred: frozenset[int]
    reporter: Reporter
    window: Window | None

    def show(self, pixels: Pixels, boxes: Floats) -> Pixels:
        """An image with its boxes from the asked confidence up, shown where somebody looks."""
        drawn = draw(pixels, boxes[boxes[:, 4] >= self.options.conf], self.detector.classes, self.blurred)
        if self.window is not None:
            self.window.put(drawn)
        return drawn


def predict(options: PredictOptions, reporter: Reporter) -> dict[str, Any]:
    """Look, draw and write; returns what was written, for JSON. A pass over files that was killed goes on where it stopped when the same is asked again.

    Raises InputError for a source, a checkpoint or a class that is not there, EnvironmentProblem for a camera that does not answer.
    """
    if options.trust:
        trust_checkpoints()
    from train.forward import Detector

    detector = Detector(options.weights, device=options.device)
    unknown = [name for name in options.blur if name not in detector.classes]
    if unknown:
        raise InputError(
            f"--blur {unknown[0]}: the model has no such class; it has {', '.join(detector.classes)}"
        )
    settings = Settings(imgsz=options.imgsz or detector.imgsz, iou=options.iou)
    source = (
        None if is_camera(options.source) else _open_prediction_source(options, detector.classes, reporter)
    )
    settings_record = {
        "source": options.source if source is None else whole(options.source),
        "content": None if source is None else _content_digest(source),
        "weights": str(options.weights.absolute()),
        "sha256": file_sha256(options.weights),
        "classes": list(detector.classes),
        "conf": options.conf,
        "stride": options.stride,
        "blur": list(options.blur),
        "settings": asdict(settings),
    }
    folder = _reserve_folder(options, settings_record, camera=source is None)
    info = read_prediction_info(folder)
    if info is not None and info.get("finished"):
        reporter.say(f"  {folder}: the same was asked before, and is there")
        return info
    with one_writer(folder):
        write_text(folder / INFO, json.dumps({"finished": False, **settings_record}, indent=1))
        return _run_prediction(options, detector, settings, source, folder, settings_record, reporter)


def _run_prediction(
    options: PredictOptions,
    detector: Detector,
    settings: Settings,
    source: Source | None,
    folder: Path,
    settings_record: dict[str, Any],
    reporter: Reporter,
) -> dict[str, Any]:
    """One pass into a folder of its own; source is None for a camera."""
    window = Window() if options.show else None
    if window is not None:
        reporter.say(f"  shown at {window.address}")
    blurred = frozenset(detector.classes.index(name) for name in options.blur)
    job = PredictionJob(
        options, detector, settings, str(settings_record["sha256"]), folder, blurred, reporter, window
    )
    try:
        if source is None:
            ledger, tables = frame([], LEDGER_COLUMNS), [_predict_camera(job)]
        else:
            ledger, tables = _predict_files(job, source)
    finally:
        if window is not None:
            window.close()
    with reporter.stage("write", "Writing tables"):
        written = _write_tables(job, tables, ledger)
    result = {"folder": str(folder), **written, "finished": True, **settings_record}
    result["versions"] = {package: version(package) for package in ("shiftscope", "ultralytics", "torch")}
    write_text(folder / INFO, json.dumps(result, indent=1))
    # Only what we wrote ourselves may lead a report to other folders.
    vouch(folder / INFO, [], frames_folder())
    shutil.rmtree(folder / PARTS)
    return result


def _content_digest(source: Source) -> str:
    """Hex digest over path, size and time of what is looked at: the same name with other content is asked anew."""
    paths = [*source.images["path"], *source.ledger.loc[source.ledger["reason"] == VIDEO, "path"]]
    stats = [(path, Path(path).stat()) for path in paths]
    text = json.dumps([(path, result.st_size, result.st_mtime_ns) for path, result in stats])
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _open_prediction_source(options: PredictOptions, classes: Sequence[str], reporter: Reporter) -> Source:
    """The images of a source, and its videos, which stand in its ledger. Raises InputError."""
    return open_source(
        options.source,
        cache=frames_folder(),
        classes=classes,
        allow=options.allow,
        say=reporter.say,
        frames=False,
    )


def _reserve_folder(options: PredictOptions, settings_record: dict[str, Any], *, camera: bool) -> Path:
    """The folder of this pass: the one where the same was asked before, to go on with, else a new one. Raises InputError where --out holds something else."""
    name = options.source.replace(":", "-") if camera else name_of(options.source.split(",")[0])
    folder = options.out.absolute() if options.out is not None else runs_folder() / "predict" / name
    number = 2
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder with --out")
    while (
        folder.exists()
        and any(folder.iterdir())
        and (camera or not _is_same_request(folder, settings_record))
    ):
        if options.out is not None:
            raise InputError(
                f"{folder}: holds something else already; give another --out, or none for a folder of its own"
            )
        folder, number = folder.with_name(f"{name}-{number}"), number + 1
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_same_request(folder: Path, settings_record: dict[str, Any]) -> bool:
    """Whether a folder is of a pass that asked for the same."""
    info = read_prediction_info(folder)
    return info is not None and {key: info.get(key) for key in settings_record} == settings_record


def _predict_files(job: PredictionJob, source: Source) -> tuple[pd.DataFrame, list[PredictionTables]]:
    """Look at the images and then at the videos of a source; the ledger says what became of each file. Raises InputError when nothing could be looked at."""
    tables = []
    ledger = source.ledger
    if len(source.images):
        result, failures = _predict_images(job, source)
        tables.append(result)
        ledger = _with_bucket(ledger, failures, "failed")
    videos = ledger.loc[ledger["reason"] == VIDEO, "path"].tolist()
    names = _video_names(videos)
    for path, name, out in zip(videos, names, _output_names(names), strict=True):
        try:
            tables.append(_predict_video(job, Video.open(Path(path)), name, out))
            frames = pq.read_metadata(tables[-1].images).num_rows
            ledger = _with_bucket(ledger, {path: f"{frames} frames"}, "used")
        except (InputError, VideoError) as error:
            ledger = _with_bucket(ledger, {path: str(error).removeprefix(f"{path}: ")}, "failed")
            job.reporter.say(f"  {path}: {str(error).removeprefix(f'{path}: ')}")
    if not any(pq.read_metadata(part.images).num_rows for part in tables):
        first = ledger[ledger["bucket"] == "failed"].head(1)
        why = f", first: {first['path'].iloc[0]} ({first['reason'].iloc[0]})" if len(first) else ""
        raise InputError(f"{source.spec}: nothing in it could be looked at{why}")
    return ledger, tables


def _with_bucket(ledger: pd.DataFrame, reasons: dict[str, str], bucket: str) -> pd.DataFrame:
    """The ledger with these files in this bucket."""
    known = ledger["path"].isin(list(reasons))
    return ledger.assign(
        bucket=ledger["bucket"].mask(known, bucket),
        reason=ledger["reason"].mask(known, ledger["path"].map(reasons)),
    )


def _predict_images(job: PredictionJob, source: Source) -> tuple[PredictionTables, dict[str, str]]:
    """Look at images, through the store that reports use too, and write each with its boxes; failures: path -> reason."""
    store = Store(predict_folder(job.settings, job.sha256))
    total = len(source.images)
    title = f"Looking at {count(total, 'image')}"
    with job.reporter.stage("predict", title, total) as tick:
        result = job.detector.predict(source.images, job.settings, store, tick=tick, embed_detections=False)
    images = source.images[source.images["image"].isin(result.images["image"])]
    parts = result.detections.groupby("image").indices
    columns = [*CORNERS, "confidence", "label"]
    numbers = result.detections[columns].to_numpy(np.float32)
    taken: set[str] = set()
    rows, boxes = [], []
    with job.reporter.stage("draw", "Drawing", len(images)) as tick:
        for image in images.itertuples():
            mine = numbers[parts.get(image.image, [])]
            place = unique_path(str(image.image), taken)
            out = job.folder / "images" / place
            if not out.is_file() or job.window is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                save(out, job.show(decode(Path(str(image.path))), mine))
            rows.append((image.image, image.path, image.width, image.height, 0, float(image.seconds)))
            boxes.append(mine)
            tick()
    stored = _store_part(job, job.folder / PARTS / "images", rows, boxes)
    return stored, dict(zip(result.failures["path"], result.failures["reason"], strict=True))


def save(path: Path, pixels: Pixels) -> None:
    """An image that is there whole or not at all. Raises OSError when it cannot be written."""
    done, encoded = cv2.imencode(path.suffix.lower(), pixels)
    if not done:
        raise OSError(f"{path}: cannot be encoded")
    draft = path.with_name(path.name + ".partial")
    draft.write_bytes(encoded.tobytes())
    draft.replace(path)


def _store_part(
    job: PredictionJob, stem: Path, rows: Sequence[tuple[Any, ...]], boxes: Iterable[Floats]
) -> PredictionTables:
    """Write one part's images (tuples in the order of IMAGES) and their boxes (N, 6: xyxy, confidence, class); the boxes last, so that their presence means done."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    columns = [[row[place] for row in rows] for place in range(len(IMAGES))]
    images = pa.table([pa.array(c, f.type) for c, f in zip(columns, IMAGES, strict=True)], schema=IMAGES)
    result = list(boxes)
    counts = [len(mine) for mine in result]
    numbers = np.concatenate(result) if result else np.zeros((0, 6), np.float32)
    of = np.repeat(np.arange(len(rows)), counts)
    labels = numbers[:, 5].astype(np.int64)
    names = np.array(job.detector.classes, object)
    table = pa.table(
        [
            images["image"].take(of),
            images["frame"].take(of),
            images["seconds"].take(of),
            pa.array(labels),
            pa.array(names[labels].tolist(), pa.string()),
            *(pa.array(numbers[:, i].astype(float)) for i in range(4)),
            pa.array(numbers[:, 4].astype(float)),
        ],
        schema=BOXES,
    )
    tables = PredictionTables(
        stem.with_name(stem.name + ".images.parquet"), stem.with_name(stem.name + ".boxes.parquet")
    )
    for part, path in ((images, tables.images), (table, tables.boxes)):
        draft = path.with_name(path.name + ".partial")
        pq.write_table(part, draft)
        draft.replace(path)
    return tables


def _detect_frames(job: PredictionJob, frames: Iterator[VideoFrame]) -> Iterator[tuple[VideoFrame, Floats]]:
    """Frames with their boxes, as many at once as the device likes."""
    group: list[VideoFrame] = []
    for one in frames:
        group.append(one)
        if len(group) == job.detector.batch:
            yield from _detect_batch(job, group)
            group = []
    if group:
        yield from _detect_batch(job, group)


def _detect_batch(job: PredictionJob, group: Sequence[VideoFrame]) -> Iterator[tuple[VideoFrame, Floats]]:
    """One forward call."""
    tables = job.detector.predict_pixels([one.pixels for one in group], job.settings)
    return zip(group, [boxes for boxes, _, _ in tables], strict=True)


def _video_names(videos: Sequence[str]) -> list[str]:
    """A name for each video, as reports have them: of those that share one, the path below what they have in common."""
    paths = [Path(video) for video in videos]
    if len({path.stem for path in paths}) == len(paths):
        return [path.name for path in paths]
    common = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(common).as_posix() for path in paths]


def _output_names(names: Sequence[str]) -> list[str]:
    """The annotated video of each name, relative to our folder; videos that differ in their suffix only keep it."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    return [
        f"{stem if stems.count(stem) == 1 else name}.mp4" for stem, name in zip(stems, names, strict=True)
    ]


def _predict_video(job: PredictionJob, video: Video, name: str, out: str) -> PredictionTables:
    """Look at every stride-th frame, in segments of which those that a killed pass finished are not looked at again; then join them with the sound. Raises InputError without a frame,
    FFmpeg's error where a video cannot be written.
    """
    parts_folder = job.folder / PARTS / hashlib.sha256(os.fsencode(video.path)).hexdigest()[:16]
    parts_folder.mkdir(parents=True, exist_ok=True)
    done = sorted(parts_folder.glob("*.boxes.parquet"))
    start = int(done[-1].name.split(".")[0].split("-")[1]) if done else 0
    left = max(0, video.frames - start) // job.options.stride or None
    title = f"Looking at {video.path.name}" + (f", going on at frame {start}" if start else "")
    with job.reporter.stage("predict", title, left) as tick:
        pairs = _detect_frames(job, video.read(start, job.options.stride))
        for segment in _batched_lazily(pairs, SEGMENT):
            _write_segment(job, parts_folder, video.path, name, segment, tick)
    parts = sorted(parts_folder.glob("*.boxes.parquet"))
    if not parts:
        raise InputError(f"{video.path}: no frame could be decoded; re-encode it, for example with ffmpeg")
    _finish_video(job, parts, video.path, out)
    return merged_parts(parts_folder, parts)


def _batched_lazily(
    pairs: Iterator[tuple[VideoFrame, Floats]], size: int
) -> Iterator[Iterator[tuple[VideoFrame, Floats]]]:
    """Runs of so many pairs, each pair handed on before the next is made: pixels of a whole segment would fill the memory."""
    for first in pairs:

        def run(first: tuple[VideoFrame, Floats] = first) -> Iterator[tuple[VideoFrame, Floats]]:
            yield first
            for _, pair in zip(range(size - 1), pairs, strict=False):
                yield pair

        yield run()


def _write_segment(
    job: PredictionJob,
    parts_folder: Path,
    path: Path,
    name: str,
    segment: Iterator[tuple[VideoFrame, Floats]],
    tick: Callable[[], None],
) -> None:
    """Draw and write one segment; its name says from which frame on it is and where the next one begins."""
    writer: Writer | None = None
    draft = parts_folder / f"draft{PART}"
    rows, boxes = [], []
    begin = end = 0
    try:
        for one, result in segment:
            if writer is None:
                writer, begin = Writer(draft, one.unit), one.index
            writer.add(job.show(one.pixels, result), one.time)
            height, width = one.pixels.shape[:2]
            image = f"{name}#{one.seconds:.3f}"
            rows.append((image, str(path), width, height, one.index, one.seconds))
            boxes.append(result)
            end = one.index + 1
            tick()
    finally:
        if writer is not None:
            writer.close()
    stem = parts_folder / f"{begin:09d}-{end:09d}"
    draft.replace(stem.with_name(stem.name + PART))
    _store_part(job, stem, rows, boxes)


def _finish_video(job: PredictionJob, parts: Sequence[Path], original: Path | None, name: str) -> None:
    """Join a video's segments, once they are all there, into a video of this name in our folder."""
    videos = [part.with_name(part.name.replace(".boxes.parquet", PART)) for part in parts]
    out = job.folder / name
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        has_sound = join(videos, original, out)
        job.reporter.say(f"  {out}{' with sound' if has_sound else ''}")


def _predict_camera(job: PredictionJob) -> PredictionTables:
    """Look at a camera until it ends or Ctrl-C is pressed, which is the usual end; what was seen is kept either way. Raises EnvironmentProblem when it gives no image."""
    number = int(job.options.source.partition(":")[2] or 0)
    parts_folder = job.folder / PARTS / CAMERA
    parts_folder.mkdir(parents=True, exist_ok=True)
    job.reporter.say("Ctrl-C ends it, and what was seen is kept")
    title = f"Looking through camera {number}"
    with job.reporter.stage("predict", title) as tick, stop_on_interrupt() as stop:
        pairs = _detect_frames(job, camera_frames(number, job.options.stride, stop))
        for segment in _batched_lazily(pairs, SEGMENT):
            _write_segment(job, parts_folder, Path(job.options.source), job.options.source, segment, tick)
    parts = sorted(parts_folder.glob("*.boxes.parquet"))
    if not parts:
        shutil.rmtree(job.folder)
        raise EnvironmentProblem(
            f"camera {number} gives no image; is it plugged in, allowed, and not in use? Others are {CAMERA}:1, {CAMERA}:2 ..."
        )
    _finish_video(job, parts, None, job.options.source.replace(":", "-") + ".mp4")
    return merged_parts(parts_folder, parts)


def _write_tables(
    job: PredictionJob, tables: Sequence[PredictionTables], ledger: pd.DataFrame
) -> dict[str, Any]:
    """Everything from confidence 0.001 as Parquet, which is what scoring needs; what is drawn as CSV, COCO json and YOLO txt, which is what people and annotation tools read."""
    folder = job.folder
    append([part.images for part in tables], folder / "images.parquet", IMAGES)
    append([part.boxes for part in tables], folder / "boxes.parquet", BOXES)
    ledger.to_csv(folder / "ledger.csv", index=False)
    images = pq.read_table(folder / "images.parquet").to_pandas()
    shown = pq.read_table(
        folder / "boxes.parquet", filters=[("confidence", ">=", job.options.conf)]
    ).to_pandas()
    write_text(folder / "boxes.csv", shown.to_csv(index=False, float_format="%.6g"))
    write_text(folder / "coco.json", json.dumps(as_coco(images, shown, job.detector.classes)))
    write_text(folder / "predictions.json", json.dumps(as_results(shown)))
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
    """What was found and where it lies, in words."""
    by_class = ", ".join(f"{count(n, name, name)}" for name, n in result["boxes_by_class"].items())
    looked_at = [
        count(result[key], noun) for key, noun in (("images", "image"), ("frames", "frame")) if result[key]
    ]
    drawn = ["in images/"] * (result["images"] > 0) + ["as .mp4"] * (result["frames"] > 0)
    said = [
        f"{count(result['boxes'], 'detection')} from confidence {result['conf']:g} in {result['images_with_boxes']:,} of {' and '.join(looked_at)}"
        + (f": {by_class}" if len(result["boxes_by_class"]) > 1 else ""),
        f"{result['folder']}: drawn {' and '.join(drawn)}; boxes.csv, coco.json, predictions.json and labels/ hold what is drawn, boxes.parquet everything from 0.001",
        f"as a domain of a report: shiftscope report ... --real-world {result['folder']}",
    ]
    unused = result["files"]["skipped"] + result["files"]["failed"]
    if unused:
        said.insert(1, f"{count(unused, 'file')} not looked at; see {result['folder']}/ledger.csv")
    return said
