"""Videos as images: frames sampled by presentation time, written once below Shiftscope's own folder."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from filelock import FileLock

from datasets.collector import VIDEO
from datasets.errors import InputError
from datasets.files import draft_folder
from datasets.pixels import Pixels, difference_hash
from datasets.tables import (
    BOX_COLUMNS,
    BURST_COLUMNS,
    IMAGE_COLUMNS,
    LEDGER_COLUMNS,
    ROW_COLUMNS,
    Source,
    frame,
)

SUFFIXES = frozenset(
    f".{name}"
    for name in [
        "mp4",
        "m4v",
        "mov",
        "qt",
        "3gp",
        "3g2",
        "mj2",
        "webm",
        "mkv",
        "avi",
        "divx",
        "flv",
        "f4v",
        "mpg",
        "mpeg",
        "mpe",
        "m2v",
        "vob",
        "ts",
        "mts",
        "m2ts",
        "m2t",
        "wmv",
        "asf",
        "ogv",
        "ogg",
        "mxf",
        "dv",
        "mjpeg",
        "mjpg",
        "mp4v",
        # Of cameras: Insta360's and Dahua's own, DJI's and GoPro's small copies.
        "insv",
        "dav",
        "lrf",
        "lrv",
    ]
)
# Two frames per second: at walking to driving speed consecutive samples overlap, so no object is passed over.
STEP_SECONDS = 0.5
# At most this many frames per video, spread evenly: they form one group, so that more add little.
MAX_FRAMES = 150
# Bursts of consecutive frames, because only these show whether a detection persists. Six bursts of eight give
# 42 pairs of frames, about as many as the samples of a clip of 20 seconds.
BURSTS, BURST_FRAMES = 6, 8
# Seconds between bursts in a video of unknown length.
BURST_SECONDS = 5.0
# A sample is dropped if at most SAME_BITS of the 256 bits of its difference hash differ from the last sample
# that was written. Measured: re-encoding changes up to 10 bits, a car below a hovering drone 5 to 19.
# At most MAX_THINNED samples in a row are dropped, so that gaps stay below 10 seconds at the usual step.
SAME_BITS, MAX_THINNED = 4, 19
# Seconds to the next needed frame above which seeking to the key frame before it is faster than decoding all
# frames up to it; key frames are usually 1 to 10 seconds apart.
SEEK_AHEAD = 5.0
# Containers, by FFmpeg's names, that hold their video themselves; playlists and lists name other files.
CONTAINERS = {
    "format_whitelist": "mov,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,m4v,asf,ogg,mxf,dv,mjpeg",
    "protocol_whitelist": "file",
}
# Characters of a video's name used in the name of its folder, which file systems limit to 255 bytes.
NAME = 40
MANIFEST = "frames.json"
# JPEG at this quality changes a detector's confidence by less than rescaling the image does.
JPEG_QUALITY = 95


def open_video(spec: str, path: Path, cache: Path, say: Callable[[str], None] = lambda line: None) -> Source:
    """Open a video as one unlabelled group of frames.

    Parameters
    ----------
    spec
        The source's specification.
    path
        The video.
    cache
        Shiftscope's own folder, which keeps the frames by content and sampling.
    say
        Receives a line that states what will be sampled, before decoding starts.

    Returns
    -------
    Source
        The sampled frames as images, and the bursts.

    Raises
    ------
    InputError
        If no frame can be decoded.
    """
    sampling = f"{STEP_SECONDS}-{MAX_FRAMES}-{BURSTS}x{BURST_FRAMES}-{SAME_BITS}"
    folder = cache / f"{path.stem[:NAME]}-{fingerprint(path)}-{sampling}"
    manifest = folder / MANIFEST
    cache.mkdir(parents=True, exist_ok=True)
    # If two runs open one video, the second waits for the frames of the first.
    with FileLock(cache / f".{folder.name}.lock"):
        if not manifest.exists():
            extract(path, folder, say)
    return _as_source(spec, path, folder, json.loads(manifest.read_text(encoding="utf-8")))


def _as_source(spec: str, path: Path, folder: Path, listed: dict[str, Any]) -> Source:
    """The frames that a manifest lists as a source."""

    def row(entry: dict[str, Any]) -> dict[str, object]:
        return {
            "image": f"{path.name}#{entry['seconds']:.3f}",
            "path": str(folder / entry["file"]),
            "split": "",
            "group": path.stem,
            "width": listed["width"],
            "height": listed["height"],
            "labelled": False,
            "unusable": False,
            "seconds": entry["seconds"],
        }

    images = [row(entry) for entry in listed["frames"]]
    bursts = [row(e) | {"burst": e["burst"], "frame": e["frame"]} for e in listed["bursts"]]
    decoded = f" of {listed['decoded']}" if listed["decoded"] else ""
    reason = f"{len(images)}{decoded} frames, one every {listed['step']:.2f} s"
    if listed["note"]:
        reason += f"; {listed['note']}"
    return Source(
        spec=spec,
        kind="video",
        classes=(),
        images=frame(images, IMAGE_COLUMNS),
        annotations=frame([], BOX_COLUMNS),
        ledger=frame([{"path": str(path), "bucket": "used", "reason": reason}], LEDGER_COLUMNS),
        rows=frame([], ROW_COLUMNS),
        grouping=f"the video {path.name} is one group",
        bursts=frame(bursts, BURST_COLUMNS),
    )


def without_frames(spec: str, path: Path) -> Source:
    """A video as a source without frames, for callers that decode it themselves."""
    return Source(
        spec=spec,
        kind="video",
        classes=(),
        images=frame([], IMAGE_COLUMNS),
        annotations=frame([], BOX_COLUMNS),
        ledger=frame([{"path": str(path), "bucket": "skipped", "reason": VIDEO}], LEDGER_COLUMNS),
        rows=frame([], ROW_COLUMNS),
    )


def fingerprint(path: Path) -> str:
    """Twelve hex digits over a video's size and its first and last megabyte."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as handle:
        digest.update(handle.read(1 << 20))
        handle.seek(max(0, size - (1 << 20)))
        digest.update(handle.read())
    return digest.hexdigest()[:12]


@dataclass
class Sampling:
    """The frames taken from a video while it is decoded.

    draft: the folder to write to.
    step: seconds between samples.
    burst_interval: seconds between bursts.
    frames, bursts: file and seconds of each frame written.
    due: time of the next sample, in seconds.
    size: width and height of the frames, in pixels.
    thinned: count of samples dropped because nothing changed.
    last_hash: difference hash of the last sample written.
    dropped_in_row: count of samples dropped since.
    """

    draft: Path
    step: float
    burst_interval: float
    frames: list[dict[str, object]] = field(default_factory=list)
    bursts: list[dict[str, object]] = field(default_factory=list)
    due: float = 0.0
    size: tuple[int, int] = (0, 0)
    thinned: int = 0
    last_hash: int | None = None
    dropped_in_row: int = 0

    @property
    def running(self) -> bool:
        """Whether a burst has begun and is not complete."""
        return len(self.bursts) % BURST_FRAMES > 0

    @property
    def next_burst(self) -> float:
        """Time at which the next burst begins, in seconds; infinite after the last.

        The first begins half an interval in, because videos often begin with fades and camera shake.
        """
        burst = len(self.bursts) // BURST_FRAMES
        return (burst + 0.5) * self.burst_interval if burst < BURSTS else math.inf

    @property
    def complete(self) -> bool:
        """Whether all planned samples and bursts are taken."""
        return (
            len(self.frames) + self.thinned >= MAX_FRAMES and not self.running and math.isinf(self.next_burst)
        )

    def needs(self, seconds: float) -> bool:
        """Whether a frame at this time is needed; others are decoded and discarded."""
        return self.running or seconds + 1e-6 >= min(self.due, self.next_burst)

    def next_needed(self) -> float:
        """Time of the next frame that is needed, in seconds."""
        return 0.0 if self.running else min(self.due, self.next_burst)

    def take(self, image: av.VideoFrame, seconds: float) -> bool:
        """Write a needed frame; False if its size differs from that of the frames before."""
        pixels = upright(image)
        if self.size not in ((0, 0), (pixels.shape[1], pixels.shape[0])):
            return False
        self.size = (pixels.shape[1], pixels.shape[0])
        if self.running or seconds >= self.next_burst:
            burst, position = divmod(len(self.bursts), BURST_FRAMES)
            name = f"burst-{burst}-{position}.jpg"
            _write_frame(self.draft / name, pixels)
            self.bursts.append(
                {"file": name, "seconds": round(seconds, 3), "burst": burst, "frame": position}
            )
        if seconds + 1e-6 >= self.due and len(self.frames) + self.thinned < MAX_FRAMES:
            self.sample(pixels, seconds)
        return True

    def sample(self, pixels: Pixels, seconds: float) -> None:
        """Write a sample, unless nothing has changed since the last one."""
        while self.due <= seconds + 1e-6:
            self.due += self.step
        if len(self.frames) + self.thinned + 1 == MAX_FRAMES:
            self.due = math.inf
        hash_bits = int.from_bytes(difference_hash(pixels), "big")
        same = self.last_hash is not None and (hash_bits ^ self.last_hash).bit_count() <= SAME_BITS
        if same and self.dropped_in_row < MAX_THINNED:
            self.thinned += 1
            self.dropped_in_row += 1
            return
        self.last_hash, self.dropped_in_row = hash_bits, 0
        name = f"{len(self.frames):05d}.jpg"
        _write_frame(self.draft / name, pixels)
        self.frames.append({"file": name, "seconds": round(seconds, 3)})


def extract(path: Path, folder: Path, say: Callable[[str], None]) -> None:
    """Decode a video once and write its sampled frames; one decoded frame is in memory at a time."""
    with draft_folder(folder, overwrite=True) as draft:
        _extract_into(draft, path, say)


def _extract_into(draft: Path, path: Path, say: Callable[[str], None]) -> None:
    """Write the frames and the manifest into a folder; raises InputError if nothing can be decoded."""
    try:
        with av.open(str(path), options=CONTAINERS) as container:
            if not container.streams.video:
                raise InputError(
                    f"{path}: has no video stream, or lacks its index; re-encode it, for example with ffmpeg"
                )
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            length = (
                float(stream.duration * stream.time_base)
                if stream.duration and stream.time_base
                else float((container.duration or 0) - _start(container)) / 1e6
            )
            sampling = Sampling(
                draft, max(STEP_SECONDS, length / MAX_FRAMES), length / BURSTS if length else BURST_SECONDS
            )
            say(_plan(path, stream, length, sampling.step))
            decoded, notes = _sample(container, stream, length, sampling)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: cannot be opened as a video ({error}); re-encode it, for example with ffmpeg"
        ) from None
    if not sampling.frames:
        raise InputError(f"{path}: no frame could be decoded; re-encode it, for example with ffmpeg")
    if sampling.thinned:
        notes.insert(0, f"{sampling.thinned} more left out as nearly identical to the frame before")
    listed = {
        "width": sampling.size[0],
        "height": sampling.size[1],
        "step": sampling.step,
        "decoded": decoded,
        "note": "; ".join(notes),
        "frames": sampling.frames,
        "bursts": sampling.bursts,
    }
    (draft / MANIFEST).write_text(json.dumps(listed), encoding="utf-8")


def _start(container: av.container.InputContainer) -> int:
    """Microseconds before the first frame that a container's duration counts in, as Matroska's does."""
    return int(container.start_time or 0) if "matroska" in container.format.name else 0


def _plan(path: Path, stream: av.VideoStream, length: float, step: float) -> str:
    """A line that states what will be sampled from a video."""
    size = f"{stream.width}x{stream.height}"
    if not length:
        frames = f"length unknown; one frame every {step:.2f} s, at most {MAX_FRAMES}"
    else:
        count = min(MAX_FRAMES, int(length / step) + 1)
        frames = f"{length:.0f} s; about {count} frames, one every {step:.2f} s"
    return f"  {path.name}: {size}, {frames}, and {BURSTS} bursts of {BURST_FRAMES} consecutive frames"


def _sample(
    container: av.container.InputContainer, stream: av.VideoStream, length: float, sampling: Sampling
) -> tuple[int | None, list[str]]:
    """Decode the needed frames of a video, seeking over long gaps.

    Returns the count of decoded frames (None if some were skipped) and remarks for the ledger.
    """
    start: float | None = None
    decoded, last, target, jumping = 0, 0.0, 0.0, length > SEEK_AHEAD
    jumped = landing = False
    again = True
    try:
        while again:
            again = False
            for image in container.decode(stream):
                if image.time is None:
                    decoded += 1
                    continue
                start = float(image.time) if start is None else start
                seconds = float(image.time) - start
                if landing and seconds <= last + 1e-6:
                    # The seek went back: key frames are farther apart than samples, so seeking gains nothing.
                    jumping = False
                landing = False
                if jumped and seconds <= last + 1e-6:
                    continue
                decoded += 1
                last = max(last, seconds)
                if sampling.needs(seconds) and not sampling.take(image, seconds):
                    return decoded, [f"frames from {seconds:.1f} s on have another size and were left out"]
                if sampling.complete:
                    return (None if jumped else decoded), _length_remarks(
                        stream, length, last, decoded, jumped, complete=True
                    )
                needed = min(sampling.next_needed(), length)
                if jumping and needed != target and needed - seconds > SEEK_AHEAD and stream.time_base:
                    target = needed
                    container.seek(int((start + target) / stream.time_base), stream=stream)
                    again = jumped = landing = True
                    break
    except av.error.FFmpegError as error:
        return (None if jumped else decoded), [f"decoding stopped at {last:.1f} s ({error.strerror})"]
    remarks = _length_remarks(stream, length, last, decoded, jumped, complete=False)
    return (None if jumped else decoded), remarks


def _length_remarks(
    stream: av.VideoStream, length: float, last: float, decoded: int, jumped: bool, *, complete: bool
) -> list[str]:
    """Remarks on a video that ends before its header states, or that was not decoded to its end."""
    if complete:
        return [] if length else [f"stopped after {MAX_FRAMES} frames, at {last:.0f} s"]
    # Any video may lack one or two frames at its end.
    if not jumped and stream.frames and decoded < 0.98 * stream.frames - 1:
        return [f"only {decoded} of {stream.frames} declared frames could be decoded"]
    if length and last < 0.95 * length - 2:
        return [f"ends at {last:.0f} s of {length:.0f} s declared"]
    return []


def _write_frame(path: Path, pixels: np.ndarray) -> None:
    """Write a frame as a JPEG."""
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def upright(image: av.VideoFrame) -> np.ndarray:
    """BGR pixels (H, W, 3) with the container's rotation applied."""
    pixels = image.to_ndarray(format="bgr24")
    turns = round((getattr(image, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))
