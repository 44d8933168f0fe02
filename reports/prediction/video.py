"""Videos frame by frame with their exact times, and annotated videos with the sound of the original."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from datasets.errors import InputError
from datasets.pixels import Pixels
from datasets.video import CONTAINERS, upright

VideoError = av.error.FFmpegError
# Where a video or a camera gives its frames no time.
FALLBACK_RATE = 30
# Of x264: what is drawn stays sharp, at about the size of the original.
QUALITY = {"crf": "21", "preset": "veryfast", "bf": "0"}
# Sound that an mp4 can hold as it is; other sound is encoded anew.
SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"})
# NUT keeps every time as it is, in whatever unit.
PART = ".nut"


@dataclass(frozen=True)
class VideoFrame:
    """One frame. pixels: (H, W, 3) BGR, upright. time: presentation time in units of `unit` seconds, as in the file where that rises; seconds: since its first frame."""

    index: int
    pixels: Pixels
    time: int
    unit: Fraction
    seconds: float


@dataclass(frozen=True)
class Video:
    """A video that can be read. frames: as its header declares or its length and rate say, 0 where it says neither."""

    path: Path
    frames: int

    @classmethod
    def open(cls, path: Path) -> Video:
        """Raises InputError when it cannot be opened or has no image."""
        try:
            with av.open(str(path), options=CONTAINERS) as container:
                if not container.streams.video:
                    raise InputError(f"{path}: has no video stream; re-encode it, for example with ffmpeg")
                stream = container.streams.video[0]
                length = float(container.duration or 0) / av.time_base
                return cls(path, int(stream.frames or length * float(stream.average_rate or 0)))
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(
                f"{path}: cannot be opened as a video ({error}); re-encode it, for example with ffmpeg"
            ) from None

    def read(self, start: int, stride: int) -> Iterator[VideoFrame]:
        """Every stride-th frame from index start on (indices count all frames). A video that breaks off ends there. Frames of another size than the first are left out."""
        with av.open(str(self.path), options=CONTAINERS) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            unit = Fraction(stream.time_base or Fraction(1, FALLBACK_RATE))
            rate = Fraction(stream.average_rate or FALLBACK_RATE)
            first: int | None = None
            last: int | None = None
            shape: tuple[int, ...] | None = None
            index = -1
            try:
                for image in container.decode(stream):
                    index += 1
                    time = round(index / rate / unit) if image.pts is None else int(image.pts)
                    # Files that were put together say the same time twice, or go back.
                    time = time if last is None else max(last + 1, time)
                    first, last = time if first is None else first, time
                    wanted = index >= start and index % stride == 0
                    if not wanted and shape is not None:
                        continue
                    pixels = upright(image)
                    shape = pixels.shape if shape is None else shape
                    if wanted and pixels.shape == shape:
                        yield VideoFrame(index, pixels, time, unit, round(float((time - first) * unit), 3))
            except av.error.FFmpegError:
                return


class Writer:
    """One part of an annotated video, frames with the times they are given; to be closed."""

    def __init__(self, path: Path, unit: Fraction, rate: Fraction | int = FALLBACK_RATE) -> None:
        self._container = av.open(str(path), "w", format=PART[1:])
        self._unit, self._rate = unit, rate
        self._stream: Any = None

    def add(self, pixels: Pixels, time: int) -> None:
        """pixels: (H, W, 3) BGR; an odd side gets one more row or column, as H.264 wants."""
        height, width = pixels.shape[:2]
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate, options=QUALITY)
            self._stream.width, self._stream.height = pixels.shape[1], pixels.shape[0]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = self._unit
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="bgr24")
        frame.pts, frame.time_base = time, self._unit
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Write what is left."""
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()


def join(parts: Sequence[Path], original: Path | None, out: Path) -> bool:
    """Parts in order as one mp4, with the sound of the original where it has any; whether it has. Nothing is there until it is whole."""
    draft = out.with_name(out.stem + ".partial.mp4")
    with av.open(str(parts[0])) as first:
        unit = Fraction(first.streams.video[0].time_base or Fraction(1, 1000))
    # Times are kept to the digit where the file's own unit can be the new file's.
    exact = {"video_track_timescale": str(unit.denominator)} if unit.numerator == 1 else {}
    with av.open(str(draft), "w", options={"movflags": "+faststart", **exact}) as target:
        with av.open(str(parts[0])) as first:
            stream = target.add_stream_from_template(first.streams.video[0])
        source = av.open(str(original), options=CONTAINERS) if original is not None else None
        try:
            sound = source.streams.audio[0] if source is not None and source.streams.audio else None
            feeds: list[Iterator[Any]] = [images(parts, stream)]
            if source is not None and sound is not None:
                feeds.append(_audible(source, sound, target))
            for packet in heapq.merge(*feeds, key=_moment):
                target.mux(packet)
        finally:
            if source is not None:
                source.close()
    draft.replace(out)
    return sound is not None


def _moment(packet: Any) -> float:
    """When a packet is due, in seconds."""
    time = packet.dts if packet.dts is not None else packet.pts
    return float((time or 0) * packet.time_base)


def images(parts: Sequence[Path], stream: Any) -> Iterator[Any]:
    """The packets of all parts."""
    for path in parts:
        with av.open(str(path)) as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    yield packet


def _audible(source: Any, sound: Any, target: Any) -> Iterator[Any]:
    """The sound of a video as packets for the target, as it is or, where an mp4 cannot hold it, as AAC. A track that breaks off ends there."""
    copied = sound.codec_context.name in SOUND
    # Raw sound often names no layout but a number of channels.
    layout = "mono" if sound.codec_context.channels == 1 else "stereo"
    stream = (
        target.add_stream_from_template(sound)
        if copied
        else target.add_stream("aac", rate=sound.codec_context.sample_rate, layout=layout)
    )
    try:
        if copied:
            for packet in source.demux(sound):
                if packet.dts is not None:
                    packet.stream = stream
                    yield packet
            return
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=stream.rate)
        for heard in source.decode(sound):
            for frame in resampler.resample(heard):
                yield from stream.encode(frame)
        yield from stream.encode()
    except av.error.FFmpegError:
        return
