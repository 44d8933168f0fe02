"""Videos frame by frame with exact times, and annotated videos with the sound of the original."""

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
from datasets.files import draft_file
from datasets.pixels import Pixels
from datasets.video import CONTAINERS, upright

VideoError = av.error.FFmpegError
# Frames per second of a file or camera that declares no rate.
FALLBACK_RATE = 30
# Lines stay sharp at about the file size of the original; without B-frames packets stay in order.
X264_OPTIONS = {"crf": "21", "preset": "veryfast", "bf": "0"}
# Audio codecs that an mp4 can hold; other sound is re-encoded as AAC.
MP4_AUDIO_CODECS = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus"})
# The NUT container keeps every presentation time in any unit.
PART_SUFFIX = ".nut"


@dataclass(frozen=True)
class VideoFrame:
    """One frame.

    index: position among all frames of the video
    pixels: (H, W, 3) BGR, upright
    time: presentation time in units; at least one unit after the previous frame's
    unit: length of a time unit, seconds
    seconds: time since the first frame
    """

    index: int
    pixels: Pixels
    time: int
    unit: Fraction
    seconds: float


@dataclass(frozen=True)
class Video:
    """A video that can be read.

    path: the file
    frames: number of frames from the header, else from length and rate; 0 without either
    """

    path: Path
    frames: int

    @classmethod
    def open(cls, path: Path) -> Video:
        """Read the header. Raises InputError if the file cannot be opened or has no video stream."""
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
        """Read every stride-th frame from index start on; indices count all frames.

        A broken video ends at its last readable frame. Frames of another size than the first are left out.
        """
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
                    # Concatenated files repeat a time or go back in time.
                    time = time if last is None else max(last + 1, time)
                    first, last = time if first is None else first, time
                    is_selected = index >= start and index % stride == 0
                    if not is_selected and shape is not None:
                        continue
                    pixels = upright(image)
                    shape = pixels.shape if shape is None else shape
                    if is_selected and pixels.shape == shape:
                        yield VideoFrame(index, pixels, time, unit, round(float((time - first) * unit), 3))
            except av.error.FFmpegError:
                return


class VideoWriter:
    """Writes one segment of an annotated video with exact frame times; call close at the end."""

    def __init__(self, path: Path, unit: Fraction, rate: Fraction | int = FALLBACK_RATE) -> None:
        self._container = av.open(str(path), "w", format=PART_SUFFIX[1:])
        self._unit, self._rate = unit, rate
        self._stream: Any = None

    def add(self, pixels: Pixels, time: int) -> None:
        """Append a frame (H, W, 3) BGR; an odd side gets one more row or column, as H.264 requires."""
        height, width = pixels.shape[:2]
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate, options=X264_OPTIONS)
            self._stream.width, self._stream.height = pixels.shape[1], pixels.shape[0]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = self._unit
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="bgr24")
        frame.pts, frame.time_base = time, self._unit
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Write the frames still in the encoder and close the file."""
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()


def join(parts: Sequence[Path], original: Path | None, out: Path) -> bool:
    """Join segments in order into one mp4, which appears complete.

    Parameters
    ----------
    parts
        Files of `VideoWriter`.
    original
        Video whose sound is added, None without one.
    out
        The mp4.

    Returns
    -------
    bool
        Whether it has sound.
    """
    with av.open(str(parts[0])) as first:
        unit = Fraction(first.streams.video[0].time_base or Fraction(1, 1000))
    # Times stay exact if the mp4 can count in the same unit.
    exact = {"video_track_timescale": str(unit.denominator)} if unit.numerator == 1 else {}
    options = {"movflags": "+faststart", **exact}
    # The suffix of a draft file does not reveal the format.
    with draft_file(out) as draft, av.open(str(draft), "w", format="mp4", options=options) as target:
        with av.open(str(parts[0])) as first:
            stream = target.add_stream_from_template(first.streams.video[0])
        source = av.open(str(original), options=CONTAINERS) if original is not None else None
        try:
            sound = source.streams.audio[0] if source is not None and source.streams.audio else None
            feeds: list[Iterator[Any]] = [_video_packets(parts, stream)]
            if source is not None and sound is not None:
                feeds.append(_audio_packets(source, sound, target))
            for packet in heapq.merge(*feeds, key=_packet_seconds):
                target.mux(packet)
        finally:
            if source is not None:
                source.close()
    return sound is not None


def _packet_seconds(packet: Any) -> float:
    """Decoding time of a packet."""
    time = packet.dts if packet.dts is not None else packet.pts
    return float((time or 0) * packet.time_base)


def _video_packets(parts: Sequence[Path], stream: Any) -> Iterator[Any]:
    """The packets of all segments, assigned to a stream of the target."""
    for path in parts:
        with av.open(str(path)) as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    yield packet


def _audio_packets(source: Any, sound: Any, target: Any) -> Iterator[Any]:
    """The sound of a video as packets of the target, copied, or re-encoded as AAC if an mp4 cannot hold it.

    A broken track ends at its last readable packet.
    """
    is_copied = sound.codec_context.name in MP4_AUDIO_CODECS
    # Raw sound often declares a number of channels without a layout.
    layout = "mono" if sound.codec_context.channels == 1 else "stereo"
    stream = (
        target.add_stream_from_template(sound)
        if is_copied
        else target.add_stream("aac", rate=sound.codec_context.sample_rate, layout=layout)
    )
    try:
        if is_copied:
            for packet in source.demux(sound):
                if packet.dts is not None:
                    packet.stream = stream
                    yield packet
            return
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=stream.rate)
        for decoded in source.decode(sound):
            for frame in resampler.resample(decoded):
                yield from stream.encode(frame)
        yield from stream.encode()
    except av.error.FFmpegError:
        return
