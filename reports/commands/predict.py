"""`shiftscope predict`: what a detector finds in pictures, films or a camera, drawn and as tables; the result can be a domain of a report as it is."""

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
from reports.export.yolo import place_of, write_labels
from reports.files import one_writer, write_text
from reports.options import whole
from reports.pipeline.inference import predict_folder
from reports.prediction.camera import CAMERA, camera_frames, is_camera, told_to_stop
from reports.prediction.overlay import draw
from reports.prediction.tables import BOXES, IMAGES, Seen, append, merged_parts
from reports.prediction.video import PART, Film, FilmError, FilmFrame, Writer, join
from reports.prediction.window import Window
from reports.progress import Reporter
from train.environment import frames_folder, runs_folder, trust_checkpoints
from train.prediction_folder import CARD, read_card
from train.predictions import Settings, Store
from train.run import file_sha256

if TYPE_CHECKING:
    from train.forward import Detector

# Where what a killed pass goes on from lies until it is done.
PARTS = ".parts"
# Frames that are kept at once: a killed pass over a film loses some ten seconds of it.
SEGMENT = 256


@dataclass(frozen=True)
class Task:
    """What `shiftscope predict` was asked for. source: a SOURCE, or webcam, webcam:1 ... conf: from where boxes are drawn. stride: of a film, every so many frames are looked at.

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
class Work:
    """One pass: what it is done with, and where to. window: None unless asked for."""

    task: Task
    detector: Detector
    settings: Settings
    sha256: str
    folder: Path
    blurred: frozenset[int]
    reporter: Reporter
    window: Window | None

    def show(self, pixels: Pixels, boxes: Floats) -> Pixels:
        """A picture with its boxes from the asked confidence up, shown where somebody looks."""
        drawn = draw(pixels, boxes[boxes[:, 4] >= self.task.conf], self.detector.classes, self.blurred)
        if self.window is not None:
            self.window.put(drawn)
        return drawn


def predict(task: Task, reporter: Reporter) -> dict[str, Any]:
    """Look, draw and write; returns what was written, for JSON. A pass over files that was killed goes on where it stopped when the same is asked again.

    Raises InputError for a source, a checkpoint or a class that is not there, EnvironmentProblem for a camera that does not answer.
    """
    if task.trust:
        trust_checkpoints()
    from train.forward import Detector

    detector = Detector(task.weights, device=task.device)
    unknown = [name for name in task.blur if name not in detector.classes]
    if unknown:
        raise InputError(
            f"--blur {unknown[0]}: the model has no such class; it has {', '.join(detector.classes)}"
        )
    settings = Settings(imgsz=task.imgsz or detector.imgsz, iou=task.iou)
    source = None if is_camera(task.source) else open_for(task, detector.classes, reporter)
    asked = {
        "source": task.source if source is None else whole(task.source),
        "content": None if source is None else content_of(source),
        "weights": str(task.weights.absolute()),
        "sha256": file_sha256(task.weights),
        "classes": list(detector.classes),
        "conf": task.conf,
        "stride": task.stride,
        "blur": list(task.blur),
        "settings": asdict(settings),
    }
    folder = claim(task, asked, camera=source is None)
    card = read_card(folder)
    if card is not None and card.get("finished"):
        reporter.say(f"  {folder}: the same was asked before, and is there")
        return card
    with one_writer(folder):
        write_text(folder / CARD, json.dumps({"finished": False, **asked}, indent=1))
        return look(task, detector, settings, source, folder, asked, reporter)


def look(
    task: Task,
    detector: Detector,
    settings: Settings,
    source: Source | None,
    folder: Path,
    asked: dict[str, Any],
    reporter: Reporter,
) -> dict[str, Any]:
    """One pass into a folder of its own; source is None for a camera."""
    window = Window() if task.show else None
    if window is not None:
        reporter.say(f"  shown at {window.address}")
    blurred = frozenset(detector.classes.index(name) for name in task.blur)
    work = Work(task, detector, settings, str(asked["sha256"]), folder, blurred, reporter, window)
    try:
        if source is None:
            ledger, seen = frame([], LEDGER_COLUMNS), [from_camera(work)]
        else:
            ledger, seen = from_files(work, source)
    finally:
        if window is not None:
            window.close()
    with reporter.stage("write", "Writing tables"):
        written = write_tables(work, seen, ledger)
    found = {"folder": str(folder), **written, "finished": True, **asked}
    found["versions"] = {package: version(package) for package in ("shiftscope", "ultralytics", "torch")}
    write_text(folder / CARD, json.dumps(found, indent=1))
    # Only what we wrote ourselves may lead a report to other folders.
    vouch(folder / CARD, [], frames_folder())
    shutil.rmtree(folder / PARTS)
    return found


def content_of(source: Source) -> str:
    """Hex digest over path, size and time of what is looked at: the same name with other content is asked anew."""
    paths = [*source.images["path"], *source.ledger.loc[source.ledger["reason"] == VIDEO, "path"]]
    stats = [(path, Path(path).stat()) for path in paths]
    text = json.dumps([(path, found.st_size, found.st_mtime_ns) for path, found in stats])
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def open_for(task: Task, classes: Sequence[str], reporter: Reporter) -> Source:
    """The pictures of a source, and its films, which stand in its ledger. Raises InputError."""
    return open_source(
        task.source,
        cache=frames_folder(),
        classes=classes,
        allow=task.allow,
        say=reporter.say,
        frames=False,
    )


def claim(task: Task, asked: dict[str, Any], *, camera: bool) -> Path:
    """The folder of this pass: the one where the same was asked before, to go on with, else a new one. Raises InputError where --out holds something else."""
    name = task.source.replace(":", "-") if camera else name_of(task.source.split(",")[0])
    folder = task.out.absolute() if task.out is not None else runs_folder() / "predict" / name
    number = 2
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder with --out")
    while folder.exists() and any(folder.iterdir()) and (camera or not same_asked(folder, asked)):
        if task.out is not None:
            raise InputError(
                f"{folder}: holds something else already; give another --out, or none for a folder of its own"
            )
        folder, number = folder.with_name(f"{name}-{number}"), number + 1
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def same_asked(folder: Path, asked: dict[str, Any]) -> bool:
    """Whether a folder is of a pass that asked for the same."""
    card = read_card(folder)
    return card is not None and {key: card.get(key) for key in asked} == asked


def from_files(work: Work, source: Source) -> tuple[pd.DataFrame, list[Seen]]:
    """Look at the pictures and then at the films of a source; the ledger says what became of each file. Raises InputError when nothing could be looked at."""
    seen = []
    ledger = source.ledger
    if len(source.images):
        found, failures = from_pictures(work, source)
        seen.append(found)
        ledger = settled(ledger, failures, "failed")
    films = ledger.loc[ledger["reason"] == VIDEO, "path"].tolist()
    names = names_of(films)
    for path, name, out in zip(films, names, outs_of(names), strict=True):
        try:
            seen.append(from_film(work, Film.open(Path(path)), name, out))
            frames = pq.read_metadata(seen[-1].images).num_rows
            ledger = settled(ledger, {path: f"{frames} frames"}, "used")
        except (InputError, FilmError) as error:
            ledger = settled(ledger, {path: str(error).removeprefix(f"{path}: ")}, "failed")
            work.reporter.say(f"  {path}: {str(error).removeprefix(f'{path}: ')}")
    if not any(pq.read_metadata(part.images).num_rows for part in seen):
        first = ledger[ledger["bucket"] == "failed"].head(1)
        why = f", first: {first['path'].iloc[0]} ({first['reason'].iloc[0]})" if len(first) else ""
        raise InputError(f"{source.spec}: nothing in it could be looked at{why}")
    return ledger, seen


def settled(ledger: pd.DataFrame, reasons: dict[str, str], bucket: str) -> pd.DataFrame:
    """The ledger with these files in this bucket."""
    known = ledger["path"].isin(list(reasons))
    return ledger.assign(
        bucket=ledger["bucket"].mask(known, bucket),
        reason=ledger["reason"].mask(known, ledger["path"].map(reasons)),
    )


def from_pictures(work: Work, source: Source) -> tuple[Seen, dict[str, str]]:
    """Look at pictures, through the store that reports use too, and write each with its boxes; failures: path -> reason."""
    store = Store(predict_folder(work.settings, work.sha256))
    total = len(source.images)
    title = f"Looking at {count(total, 'picture')}"
    with work.reporter.stage("predict", title, total) as tick:
        found = work.detector.predict(source.images, work.settings, store, tick=tick, embed_detections=False)
    images = source.images[source.images["image"].isin(found.pictures["image"])]
    parts = found.detections.groupby("image").indices
    columns = [*CORNERS, "confidence", "label"]
    numbers = found.detections[columns].to_numpy(np.float32)
    taken: set[str] = set()
    rows, boxes = [], []
    with work.reporter.stage("draw", "Drawing", len(images)) as tick:
        for picture in images.itertuples():
            mine = numbers[parts.get(picture.image, [])]
            place = place_of(str(picture.image), taken)
            out = work.folder / "pictures" / place
            if not out.is_file() or work.window is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                save(out, work.show(decode(Path(str(picture.path))), mine))
            rows.append(
                (picture.image, picture.path, picture.width, picture.height, 0, float(picture.seconds))
            )
            boxes.append(mine)
            tick()
    stored = store_part(work, work.folder / PARTS / "pictures", rows, boxes)
    return stored, dict(zip(found.failures["path"], found.failures["reason"], strict=True))


def save(path: Path, pixels: Pixels) -> None:
    """A picture that is there whole or not at all. Raises OSError when it cannot be written."""
    done, encoded = cv2.imencode(path.suffix.lower(), pixels)
    if not done:
        raise OSError(f"{path}: cannot be encoded")
    draft = path.with_name(path.name + ".partial")
    draft.write_bytes(encoded.tobytes())
    draft.replace(path)


def store_part(work: Work, stem: Path, rows: Sequence[tuple[Any, ...]], boxes: Iterable[Floats]) -> Seen:
    """Write one part's images (tuples in the order of IMAGES) and their boxes (N, 6: xyxy, confidence, class); the boxes last, so that their presence means done."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    columns = [[row[place] for row in rows] for place in range(len(IMAGES))]
    images = pa.table([pa.array(c, f.type) for c, f in zip(columns, IMAGES, strict=True)], schema=IMAGES)
    found = list(boxes)
    counts = [len(mine) for mine in found]
    numbers = np.concatenate(found) if found else np.zeros((0, 6), np.float32)
    of = np.repeat(np.arange(len(rows)), counts)
    labels = numbers[:, 5].astype(np.int64)
    names = np.array(work.detector.classes, object)
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
    seen = Seen(stem.with_name(stem.name + ".images.parquet"), stem.with_name(stem.name + ".boxes.parquet"))
    for part, path in ((images, seen.images), (table, seen.boxes)):
        draft = path.with_name(path.name + ".partial")
        pq.write_table(part, draft)
        draft.replace(path)
    return seen


def looked(work: Work, frames: Iterator[FilmFrame]) -> Iterator[tuple[FilmFrame, Floats]]:
    """Frames with their boxes, as many at once as the device likes."""
    group: list[FilmFrame] = []
    for one in frames:
        group.append(one)
        if len(group) == work.detector.batch:
            yield from seen_in(work, group)
            group = []
    if group:
        yield from seen_in(work, group)


def seen_in(work: Work, group: Sequence[FilmFrame]) -> Iterator[tuple[FilmFrame, Floats]]:
    """One forward call."""
    seen = work.detector.see([one.pixels for one in group], work.settings)
    return zip(group, [boxes for boxes, _, _ in seen], strict=True)


def names_of(films: Sequence[str]) -> list[str]:
    """A name for each film, as reports have them: of those that share one, the path below what they have in common."""
    paths = [Path(film) for film in films]
    if len({path.stem for path in paths}) == len(paths):
        return [path.name for path in paths]
    common = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(common).as_posix() for path in paths]


def outs_of(names: Sequence[str]) -> list[str]:
    """The annotated film of each name, relative to our folder; films that differ in their suffix only keep it."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    return [
        f"{stem if stems.count(stem) == 1 else name}.mp4" for stem, name in zip(stems, names, strict=True)
    ]


def from_film(work: Work, film: Film, name: str, out: str) -> Seen:
    """Look at every stride-th frame, in segments of which those that a killed pass finished are not looked at again; then join them with the sound. Raises InputError without a frame,
    FFmpeg's error where a film cannot be written.
    """
    home = work.folder / PARTS / hashlib.sha256(os.fsencode(film.path)).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    done = sorted(home.glob("*.boxes.parquet"))
    start = int(done[-1].name.split(".")[0].split("-")[1]) if done else 0
    left = max(0, film.frames - start) // work.task.stride or None
    title = f"Looking at {film.path.name}" + (f", going on at frame {start}" if start else "")
    with work.reporter.stage("predict", title, left) as tick:
        pairs = looked(work, film.read(start, work.task.stride))
        for segment in batched_lazily(pairs, SEGMENT):
            write_segment(work, home, film.path, name, segment, tick)
    parts = sorted(home.glob("*.boxes.parquet"))
    if not parts:
        raise InputError(f"{film.path}: no frame could be decoded; re-encode it, for example with ffmpeg")
    finish_film(work, parts, film.path, out)
    return merged_parts(home, parts)


def batched_lazily(
    pairs: Iterator[tuple[FilmFrame, Floats]], size: int
) -> Iterator[Iterator[tuple[FilmFrame, Floats]]]:
    """Runs of so many pairs, each pair handed on before the next is made: pixels of a whole segment would fill the memory."""
    for first in pairs:

        def run(first: tuple[FilmFrame, Floats] = first) -> Iterator[tuple[FilmFrame, Floats]]:
            yield first
            for _, pair in zip(range(size - 1), pairs, strict=False):
                yield pair

        yield run()


def write_segment(
    work: Work,
    home: Path,
    path: Path,
    name: str,
    segment: Iterator[tuple[FilmFrame, Floats]],
    tick: Callable[[], None],
) -> None:
    """Draw and write one segment; its name says from which frame on it is and where the next one begins."""
    writer: Writer | None = None
    draft = home / f"draft{PART}"
    rows, boxes = [], []
    begin = end = 0
    try:
        for one, found in segment:
            if writer is None:
                writer, begin = Writer(draft, one.unit), one.index
            writer.add(work.show(one.pixels, found), one.time)
            height, width = one.pixels.shape[:2]
            image = f"{name}#{one.seconds:.3f}"
            rows.append((image, str(path), width, height, one.index, one.seconds))
            boxes.append(found)
            end = one.index + 1
            tick()
    finally:
        if writer is not None:
            writer.close()
    stem = home / f"{begin:09d}-{end:09d}"
    draft.replace(stem.with_name(stem.name + PART))
    store_part(work, stem, rows, boxes)


def finish_film(work: Work, parts: Sequence[Path], original: Path | None, name: str) -> None:
    """Join a film's segments, once they are all there, into a film of this name in our folder."""
    films = [part.with_name(part.name.replace(".boxes.parquet", PART)) for part in parts]
    out = work.folder / name
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        heard = join(films, original, out)
        work.reporter.say(f"  {out}{' with sound' if heard else ''}")


def from_camera(work: Work) -> Seen:
    """Look at a camera until it ends or Ctrl-C is pressed, which is the usual end; what was seen is kept either way. Raises EnvironmentProblem when it gives no picture."""
    number = int(work.task.source.partition(":")[2] or 0)
    home = work.folder / PARTS / CAMERA
    home.mkdir(parents=True, exist_ok=True)
    work.reporter.say("Ctrl-C ends it, and what was seen is kept")
    title = f"Looking through camera {number}"
    with work.reporter.stage("predict", title) as tick, told_to_stop() as stop:
        pairs = looked(work, camera_frames(number, work.task.stride, stop))
        for segment in batched_lazily(pairs, SEGMENT):
            write_segment(work, home, Path(work.task.source), work.task.source, segment, tick)
    parts = sorted(home.glob("*.boxes.parquet"))
    if not parts:
        shutil.rmtree(work.folder)
        raise EnvironmentProblem(
            f"camera {number} gives no picture; is it plugged in, allowed, and not in use? Others are {CAMERA}:1, {CAMERA}:2 ..."
        )
    finish_film(work, parts, None, work.task.source.replace(":", "-") + ".mp4")
    return merged_parts(home, parts)


def write_tables(work: Work, seen: Sequence[Seen], ledger: pd.DataFrame) -> dict[str, Any]:
    """Everything from confidence .001 as Parquet, which is what scoring needs; what is drawn as CSV, COCO json and YOLO txt, which is what people and annotation tools read."""
    folder = work.folder
    append([part.images for part in seen], folder / "images.parquet", IMAGES)
    append([part.boxes for part in seen], folder / "boxes.parquet", BOXES)
    ledger.to_csv(folder / "ledger.csv", index=False)
    images = pq.read_table(folder / "images.parquet").to_pandas()
    shown = pq.read_table(
        folder / "boxes.parquet", filters=[("confidence", ">=", work.task.conf)]
    ).to_pandas()
    write_text(folder / "boxes.csv", shown.to_csv(index=False, float_format="%.6g"))
    write_text(folder / "coco.json", json.dumps(as_coco(images, shown, work.detector.classes)))
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


def lines(found: dict[str, Any]) -> list[str]:
    """What was found and where it lies, in words."""
    by_class = ", ".join(f"{count(n, name, name)}" for name, n in found["boxes_by_class"].items())
    looked_at = [
        count(found[key], noun) for key, noun in (("images", "picture"), ("frames", "frame")) if found[key]
    ]
    drawn = ["in pictures/"] * (found["images"] > 0) + ["as .mp4"] * (found["frames"] > 0)
    said = [
        f"{count(found['boxes'], 'detection')} from confidence {found['conf']:g} in {found['images_with_boxes']:,} of {' and '.join(looked_at)}"
        + (f": {by_class}" if len(found["boxes_by_class"]) > 1 else ""),
        f"{found['folder']}: drawn {' and '.join(drawn)}; boxes.csv, coco.json, predictions.json and labels/ hold what is drawn, boxes.parquet everything from .001",
        f"as a domain of a report: shiftscope report ... --real-world {found['folder']}",
    ]
    unused = found["files"]["skipped"] + found["files"]["failed"]
    if unused:
        said.insert(1, f"{count(unused, 'file')} not looked at; see {found['folder']}/ledger.csv")
    return said
