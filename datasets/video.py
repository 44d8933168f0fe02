"""Videos as images: frames sampled by presentation time and written once, below our own folder."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
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

SUFFIXES = frozenset({".mp4", ".webm", ".avi", ".mov", ".mkv", ".flv", ".m4v", ".mpg", ".mpeg"})
# Two frames a second: at walking to driving speed neighbouring samples still overlap, so nothing on the road is missed ...
STEP_SECONDS = 0.5
# ... but no more than this many frames of one video, spread evenly: they are one clip, and more of them add little.
MAX_FRAMES = 150
# Besides, a few runs of consecutive frames: whether a detection lasts shows only between neighbours. Six runs of eight give some forty pairs of
# frames, as many as there are sampled frames in a clip of twenty seconds.
BURSTS, BURST_FRAMES = 6, 8
# Where a video does not say how long it is, a burst every so often.
BURST_SECONDS = 5.0
# A sample is left out where this many of its fingerprint's 256 bits at most differ from the last one kept: re-encoding moves up to ten, a car that crosses under a
# parked drone five to nineteen (measured), so that four says that nothing to speak of has happened. But no more than ten seconds go by unseen at the usual step.
SAME_BITS, MAX_THINNED = 4, 19
# Seconds to the next needed frame from which on jumping to a key frame before it beats decoding all between: key frames usually lie one to ten seconds apart.
SEEK_AHEAD = 5.0
# Containers that hold their video themselves: lists and playlists, which name other files, are no video. FFmpeg's names.
CONTAINERS = {
    "format_whitelist": "mov,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,m4v",
    "protocol_whitelist": "file",
}
# Of a name, so many characters go into the names of our folders, which file systems hold to 255 bytes.
NAME = 40
MANIFEST = "frames.json"
# JPEG at this quality moves a detector's confidence by less than a rescaled image does.
JPEG_QUALITY = 95


def open_video(spec: str, path: Path, cache: Path, say: Callable[[str], None] = lambda line: None) -> Source:
    """A video as one unlabelled group of frames; frames are kept in cache, keyed by content and sampling. say: told what will be taken, before it is.

    Raises InputError when nothing can be decoded.
    """
    folder = (
        cache
        / f"{path.stem[:NAME]}-{fingerprint(path)}-{STEP_SECONDS}-{MAX_FRAMES}-{BURSTS}x{BURST_FRAMES}-{SAME_BITS}"
    )
    manifest = folder / MANIFEST
    cache.mkdir(parents=True, exist_ok=True)
    # Of two runs that look at one video, the second waits for the first one's frames.
    with FileLock(cache / f".{folder.name}.lock"):
        if not manifest.exists():
            extract(path, folder, say)
    listed = json.loads(manifest.read_text(encoding="utf-8"))

    def row(entry: dict[str, Any]) -> dict[str, object]:
        return {
            "image": f"{path.name}#{entry['seconds']:.3f}",
            "path": str(folder / entry["file"]),
            "split": "",
            "group": path.stem,
            "width": listed["width"],
            "height": listed["height"],
            "labelled": False,
            "seconds": entry["seconds"],
        }

    images = [row(entry) for entry in listed["frames"]]
    bursts = [row(e) | {"burst": e["burst"], "frame": e["frame"]} for e in listed["bursts"]]
    of = f" of {listed['decoded']}" if listed["decoded"] else ""
    reason = f"{len(images)}{of} frames, one every {listed['step']:.2f} s"
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


def untouched(spec: str, path: Path) -> Source:
    """A video as a source without frames, for those who read it themselves."""
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
    """What is taken of a video while it is decoded. step: seconds between samples; apart: between runs of neighbouring frames."""

    draft: Path
    step: float
    apart: float
    frames: list[dict[str, object]] = field(default_factory=list)
    bursts: list[dict[str, object]] = field(default_factory=list)
    due: float = 0.0
    size: tuple[int, int] = (0, 0)
    thinned: int = 0
    print: int | None = None
    waited: int = 0

    @property
    def running(self) -> bool:
        """Whether a run of neighbouring frames has begun and is not complete."""
        return len(self.bursts) % BURST_FRAMES > 0

    @property
    def next_burst(self) -> float:
        """When the next run begins, in seconds; never once there are enough. The first lies half a step in: videos begin with blends and shaking hands."""
        burst = len(self.bursts) // BURST_FRAMES
        return (burst + 0.5) * self.apart if burst < BURSTS else math.inf

    @property
    def complete(self) -> bool:
        """Whether all that was planned is taken."""
        return (
            len(self.frames) + self.thinned >= MAX_FRAMES and not self.running and math.isinf(self.next_burst)
        )

    def wants(self, seconds: float) -> bool:
        """Whether a frame at this time is needed at all; the others are decoded and let go."""
        return self.running or seconds + 1e-6 >= min(self.due, self.next_burst)

    def skip_to(self) -> float:
        """Time of the next frame that is needed, in seconds."""
        return 0.0 if self.running else min(self.due, self.next_burst)

    def take(self, image: av.VideoFrame, seconds: float) -> bool:
        """Write a frame that is wanted; False when it has another size than those before."""
        pixels = upright(image)
        if self.size not in ((0, 0), (pixels.shape[1], pixels.shape[0])):
            return False
        self.size = (pixels.shape[1], pixels.shape[0])
        if self.running or seconds >= self.next_burst:
            burst, place = divmod(len(self.bursts), BURST_FRAMES)
            name = f"burst-{burst}-{place}.jpg"
            _write_frame(self.draft / name, pixels)
            self.bursts.append({"file": name, "seconds": round(seconds, 3), "burst": burst, "frame": place})
        if seconds + 1e-6 >= self.due and len(self.frames) + self.thinned < MAX_FRAMES:
            self.sample(pixels, seconds)
        return True

    def sample(self, pixels: Pixels, seconds: float) -> None:
        """Write a sample, unless it shows what the one before shows."""
        while self.due <= seconds + 1e-6:
            self.due += self.step
        if len(self.frames) + self.thinned + 1 == MAX_FRAMES:
            self.due = math.inf
        mark = int.from_bytes(difference_hash(pixels), "big")
        same = self.print is not None and (mark ^ self.print).bit_count() <= SAME_BITS
        if same and self.waited < MAX_THINNED:
            self.thinned += 1
            self.waited += 1
            return
        self.print, self.waited = mark, 0
        name = f"{len(self.frames):05d}.jpg"
        _write_frame(self.draft / name, pixels)
        self.frames.append({"file": name, "seconds": round(seconds, 3)})


def extract(path: Path, folder: Path, say: Callable[[str], None]) -> None:
    """Decode once and write the sampled frames; the manifest comes last, so its presence means done. One decoded frame is held at a time."""
    draft = folder.with_name(folder.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
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
                else float(container.duration or 0) / 1e6
            )
            taken = Sampling(
                draft, max(STEP_SECONDS, length / MAX_FRAMES), length / BURSTS if length else BURST_SECONDS
            )
            say(_plan(path, stream, length, taken.step))
            decoded, notes = _sample(container, stream, length, taken)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: cannot be opened as a video ({error}); re-encode it, for example with ffmpeg"
        ) from None
    if not taken.frames:
        raise InputError(f"{path}: no frame could be decoded; re-encode it, for example with ffmpeg")
    if taken.thinned:
        notes.insert(0, f"{taken.thinned} more show what the one before shows and were left out")
    listed = {
        "width": taken.size[0],
        "height": taken.size[1],
        "step": taken.step,
        "decoded": decoded,
        "note": "; ".join(notes),
        "frames": taken.frames,
        "bursts": taken.bursts,
    }
    (draft / MANIFEST).write_text(json.dumps(listed), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def _plan(path: Path, stream: av.VideoStream, length: float, step: float) -> str:
    """What will be taken of a video, said before it is decoded."""
    size = f"{stream.width}x{stream.height}"
    if not length:
        return f"  {path.name}: {size}, length unknown; a frame every {step:.2f} s, {MAX_FRAMES} at most, and {BURSTS} runs of {BURST_FRAMES} neighbours"
    return f"  {path.name}: {size}, {length:.0f} s; about {min(MAX_FRAMES, int(length / step) + 1)} frames, one every {step:.2f} s, and {BURSTS} runs of {BURST_FRAMES} neighbours"


def _sample(
    container: av.container.InputContainer, stream: av.VideoStream, length: float, taken: Sampling
) -> tuple[int | None, list[str]]:
    """Decode what is needed of a video; long gaps are jumped over. Returns how many frames were decoded, None where some were jumped over, and what there is to say."""
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
                    # The jump led back: key frames lie farther apart than samples, so that nothing is to be gained by more.
                    jumping = False
                landing = False
                if jumped and seconds <= last + 1e-6:
                    continue
                decoded += 1
                last = max(last, seconds)
                if taken.wants(seconds) and not taken.take(image, seconds):
                    return decoded, [f"frames from {seconds:.1f} s on have another size and were left out"]
                if taken.complete:
                    return (None if jumped else decoded), _short(
                        stream, length, last, decoded, jumped, complete=True
                    )
                wanted = min(taken.skip_to(), length)
                if jumping and wanted != target and wanted - seconds > SEEK_AHEAD and stream.time_base:
                    target = wanted
                    container.seek(int((start + target) / stream.time_base), stream=stream)
                    again = jumped = landing = True
                    break
    except av.error.FFmpegError as error:
        return (None if jumped else decoded), [f"decoding stopped at {last:.1f} s ({error.strerror})"]
    return (None if jumped else decoded), _short(stream, length, last, decoded, jumped, complete=False)


def _short(
    stream: av.VideoStream, length: float, last: float, decoded: int, jumped: bool, *, complete: bool
) -> list[str]:
    """Whether a video ended before its header says, or was left before its end, in words."""
    if complete:
        return [] if length else [f"stopped after {MAX_FRAMES} frames, at {last:.0f} s"]
    # A frame or two may be missing at the end of any video.
    if not jumped and stream.frames and decoded < 0.98 * stream.frames - 1:
        return [f"only {decoded} of {stream.frames} declared frames could be decoded"]
    if length and last < 0.95 * length - 2:
        return [f"ends at {last:.0f} s of {length:.0f} declared"]
    return []


def _write_frame(path: Path, pixels: np.ndarray) -> None:
    """A frame as a JPEG."""
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def upright(image: av.VideoFrame) -> np.ndarray:
    """BGR pixels (H, W, 3) with the container's rotation applied."""
    pixels = image.to_ndarray(format="bgr24")
    turns = round((getattr(image, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))
