"""Frames of a video or camera, predicted in segments so that an interrupted prediction resumes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import InputError
from diagnostics.matching import Floats
from reports.prediction.job import PARTS, PredictionJob
from reports.prediction.tables import BOXES_SUFFIX, PredictionTables, merge_parts, write_part
from reports.prediction.video import PART_SUFFIX, Video, VideoFrame, VideoWriter, join

# Frames per segment: an interruption loses at most about ten seconds of a video.
SEGMENT_FRAMES = 256

FrameBoxes = tuple[VideoFrame, Floats]


@dataclass(frozen=True)
class FrameSource:
    """A video or a camera as the tables record it.

    path: the video file, or the camera as it was requested (webcam:1)
    name: prefix of its images' names, followed by the time
    parts: folder of its segments
    """

    path: Path
    name: str
    parts: Path


def predict_video(job: PredictionJob, video: Video, name: str, out: str) -> PredictionTables:
    """Predict every stride-th frame of a video and write the annotated video with the original sound.

    Segments that an interrupted prediction has finished are not predicted again.

    Parameters
    ----------
    job
        Detector, settings and output.
    video
        The video.
    name
        Prefix of its images' names.
    out
        The annotated video, relative to the output folder.

    Returns
    -------
    PredictionTables
        Its frames and detections.

    Raises
    ------
    InputError
        No frame can be decoded.
    VideoError
        FFmpeg cannot write the annotated video.
    """
    parts = job.folder / PARTS / hashlib.sha256(os.fsencode(video.path)).hexdigest()[:16]
    source = FrameSource(video.path, name, parts)
    parts.mkdir(parents=True, exist_ok=True)
    finished = finished_segments(source)
    start = _next_frame(finished[-1]) if finished else 0
    remaining = max(0, video.frames - start) // job.stride or None
    title = f"Predicting {video.path.name}" + (f", resuming at frame {start}" if start else "")
    with job.reporter.stage("predict", title, remaining) as tick:
        write_segments(job, source, video.read(start, job.stride), tick)
    segments = finished_segments(source)
    if not segments:
        raise InputError(f"{video.path}: no frame could be decoded; re-encode it, for example with ffmpeg")
    return join_segments(job, segments, source, original=video.path, out=out)


def write_segments(
    job: PredictionJob, source: FrameSource, frames: Iterator[VideoFrame], tick: Callable[[], None]
) -> None:
    """Predict frames and write them in segments; tick is called once per frame."""
    pairs = _detect_frames(job, frames)
    for segment in _split_lazily(pairs, SEGMENT_FRAMES):
        _write_segment(job, source, segment, tick)


def finished_segments(source: FrameSource) -> list[Path]:
    """Boxes tables of the finished segments in order."""
    return sorted(source.parts.glob(f"*{BOXES_SUFFIX}"))


def join_segments(
    job: PredictionJob, segments: Sequence[Path], source: FrameSource, *, original: Path | None, out: str
) -> PredictionTables:
    """Join finished segments into one annotated video, with the original's sound, and one pair of tables."""
    stems = [segment.with_name(segment.name.removesuffix(BOXES_SUFFIX)) for segment in segments]
    path = job.folder / out
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        has_sound = join([stem.with_name(stem.name + PART_SUFFIX) for stem in stems], original, path)
        job.reporter.say(f"  {path}{' with sound' if has_sound else ''}")
    return merge_parts([PredictionTables.at(stem) for stem in stems], PredictionTables.at(source.parts))


def _next_frame(segment: Path) -> int:
    """Index of the frame after a segment, from its name (first frame-next frame)."""
    return int(segment.name.split(".")[0].split("-")[1])


def _detect_frames(job: PredictionJob, frames: Iterator[VideoFrame]) -> Iterator[FrameBoxes]:
    """Frames with their boxes (N, 6), predicted in batches of the detector's size."""
    batch: list[VideoFrame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == job.detector.batch:
            yield from _detect_batch(job, batch)
            batch = []
    if batch:
        yield from _detect_batch(job, batch)


def _detect_batch(job: PredictionJob, batch: Sequence[VideoFrame]) -> Iterator[FrameBoxes]:
    """Frames with their boxes from one forward call."""
    return zip(batch, job.detect([frame.pixels for frame in batch]), strict=True)


def _split_lazily(pairs: Iterator[FrameBoxes], size: int) -> Iterator[Iterator[FrameBoxes]]:
    """Split pairs into runs of a size without holding a run: its pixels would fill the memory."""
    for first in pairs:

        def run(first: FrameBoxes = first) -> Iterator[FrameBoxes]:
            yield first
            for _, pair in zip(range(size - 1), pairs, strict=False):
                yield pair

        yield run()


def _write_segment(
    job: PredictionJob, source: FrameSource, segment: Iterator[FrameBoxes], tick: Callable[[], None]
) -> None:
    """Draw and write one segment, named by its first frame and the frame after its last."""
    writer: VideoWriter | None = None
    draft = source.parts / f"draft{PART_SUFFIX}"
    rows, boxes = [], []
    first = end = 0
    try:
        for frame, frame_boxes in segment:
            if writer is None:
                writer, first = VideoWriter(draft, frame.unit), frame.index
            writer.add(job.draw(frame.pixels, frame_boxes), frame.time)
            height, width = frame.pixels.shape[:2]
            image = f"{source.name}#{frame.seconds:.3f}"
            rows.append((image, str(source.path), width, height, frame.index, frame.seconds))
            boxes.append(frame_boxes)
            end = frame.index + 1
            tick()
    finally:
        if writer is not None:
            writer.close()
    stem = source.parts / f"{first:09d}-{end:09d}"
    draft.replace(stem.with_name(stem.name + PART_SUFFIX))
    write_part(stem, rows, boxes, job.detector.classes)
