"""Videos as pictures: frames sampled by presentation time and written once, below our own folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from datasets.errors import InputError
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
MANIFEST = "frames.json"
# JPEG at this quality moves a detector's confidence by less than a rescaled picture does.
JPEG_QUALITY = 95


def open_video(spec: str, path: Path, cache: Path) -> Source:
    """A video as one unlabelled group of frames; frames are kept in cache, keyed by content and sampling.

    Raises InputError when nothing can be decoded.
    """
    folder = cache / f"{path.stem}-{fingerprint(path)}-{STEP_SECONDS}-{MAX_FRAMES}-{BURSTS}x{BURST_FRAMES}"
    manifest = folder / MANIFEST
    if not manifest.exists():
        extract(path, folder)
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
    reason = f"{len(images)} of {listed['decoded']} frames, one every {listed['step']:.2f} s"
    if listed["note"]:
        reason += f"; {listed['note']}"
    return Source(
        spec=spec,
        kind="video",
        classes=(),
        images=frame(images, IMAGE_COLUMNS),
        boxes=frame([], BOX_COLUMNS),
        ledger=frame([{"path": str(path), "bucket": "used", "reason": reason}], LEDGER_COLUMNS),
        rows=frame([], ROW_COLUMNS),
        grouping=f"the video {path.name} is one group",
        bursts=frame(bursts, BURST_COLUMNS),
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


def extract(path: Path, folder: Path) -> None:
    """Decode once and write the sampled frames; the manifest comes last, so its presence means done."""
    draft = folder.with_name(folder.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    frames: list[dict[str, object]] = []
    bursts: list[dict[str, object]] = []
    size, decoded, due, note = (0, 0), 0, 0.0, ""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(
                    f"{path}: has no video stream; give a video, a folder of pictures or a data.yaml"
                )
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            length = (
                float(stream.duration * stream.time_base)
                if stream.duration and stream.time_base
                else float(container.duration or 0) / 1e6
            )
            step = max(STEP_SECONDS, length / MAX_FRAMES)
            apart = length / BURSTS if length else BURST_SECONDS
            start: float | None = None
            try:
                for picture in container.decode(stream):
                    decoded += 1
                    if picture.time is None:
                        continue
                    start = picture.time if start is None else start
                    seconds = float(picture.time - start)
                    burst, place = divmod(len(bursts), BURST_FRAMES)
                    # The first burst lies half a step in: videos begin with blends and shaking hands.
                    running = burst < BURSTS and (place > 0 or seconds >= (burst + 0.5) * apart)
                    if seconds + 1e-6 < due and not running:
                        continue
                    pixels = upright(picture)
                    if size not in ((0, 0), (pixels.shape[1], pixels.shape[0])):
                        note = f"frames from {seconds:.1f} s on have another size and were left out"
                        break
                    size = (pixels.shape[1], pixels.shape[0])
                    if running:
                        name = f"burst-{burst}-{place}.jpg"
                        write_frame(draft / name, pixels)
                        entry = {"file": name, "seconds": round(seconds, 3), "burst": burst, "frame": place}
                        bursts.append(entry)
                    if seconds + 1e-6 < due:
                        continue
                    name = f"{len(frames):05d}.jpg"
                    write_frame(draft / name, pixels)
                    frames.append({"file": name, "seconds": round(seconds, 3)})
                    while due <= seconds + 1e-6:
                        due += step
                    if len(frames) == MAX_FRAMES and decoded < (stream.frames or decoded + 1):
                        note = f"stopped after {MAX_FRAMES} frames, at {seconds:.0f} s"
                        break
            except av.error.FFmpegError as error:
                note = f"decoding stopped after {decoded} frames ({error.strerror})"
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: cannot be opened as a video ({error}); re-encode it, for example with ffmpeg"
        ) from None
    if not frames:
        raise InputError(f"{path}: no frame could be decoded; re-encode it, for example with ffmpeg")
    listed = {
        "width": size[0],
        "height": size[1],
        "step": step,
        "decoded": decoded,
        "note": note,
        "frames": frames,
        "bursts": bursts,
    }
    (draft / MANIFEST).write_text(json.dumps(listed), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def write_frame(path: Path, pixels: np.ndarray) -> None:
    """A frame as a JPEG."""
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])


def upright(picture: av.VideoFrame) -> np.ndarray:
    """BGR pixels (H, W, 3) with the container's rotation applied."""
    pixels = picture.to_ndarray(format="bgr24")
    turns = round((getattr(picture, "rotation", 0) or 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns))
