"""How a camera took an image, as attributes: from EXIF and XMP in the file, and from the .srt beside a
drone's video.

Positions are not read: a report is passed on.
"""

from __future__ import annotations

import math
import os
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from datasets.tables import OWN, Source
from datasets.video import SUFFIXES

# Metadata stand before the pixels; a segment has at most 64 KB, and DJI writes EXIF, XMP and a preview.
HEAD = 1 << 18
MAX_SUBTITLES = 50_000_000
# Attribute -> names that makers give it in XMP (DJI, Autel and Parrot; Pix4D's Camera: names).
XMP = {
    "altitude_m": ("drone-dji:RelativeAltitude", "Camera:AboveGroundAltitude", "drone:RelativeAltitude"),
    "gimbal_pitch_deg": ("drone-dji:GimbalPitchDegree", "Camera:Pitch", "drone:GimbalPitchDegree"),
}
SPEEDS = ("drone-dji:FlightXSpeed", "drone-dji:FlightYSpeed")
NAMES = tuple(f"{OWN}{name}" for name in (*XMP, "speed_m_s", "hour", "camera"))
_NUMBER = r"([-+]?\d{1,7}(?:\.\d{1,9})?)"
# Attribute -> patterns of DJI's subtitles, of several generations of drones.
SUBTITLE = {
    "altitude_m": (
        rf"rel_alt\s*:\s*{_NUMBER}",
        rf"\bH\s+{_NUMBER}\s*m\b",
        rf"BAROMETER\s*:\s*{_NUMBER}",
    ),
    "gimbal_pitch_deg": (rf"gb_pitch\s*:\s*{_NUMBER}", rf"\bgimbal_pitch\s*:\s*{_NUMBER}"),
    "speed_m_s": (rf"\bH\.S\s+{_NUMBER}\s*m/s",),
}
_TIME = re.compile(r"(?<!\d)(\d{1,3}):(\d\d):(\d\d)[,.](\d{1,3})\s{0,9}-->")
_CLOCK = re.compile(r"\b\d{4}[-.:/]\d{2}[-.:/]\d{2}[ T](\d{2}):\d{2}:\d{2}")
_EXIF_IFD, _MAKE, _MODEL, _TAKEN = 0x8769, 0x010F, 0x0110, 0x9003


def with_capture(source: Source) -> Source:
    """A source whose images have what their files say about how they were taken.

    Columns `own:altitude_m` (above the start), `own:gimbal_pitch_deg` (-90 is straight down), `own:speed_m_s`
    (horizontal), `own:hour` (of the local day) and `own:camera`; each only where at least one image has it.
    """
    images = source.images
    still = images["seconds"].isna()
    values: dict[Any, dict[str, Any]] = {
        row: of_image(Path(path)) for row, path in images.loc[still, "path"].items()
    }
    values |= dict(_of_frames(source))
    records = pd.DataFrame.from_dict(values, orient="index").reindex(images.index)
    known = {f"{OWN}{name}": records[name] for name in records if records[name].notna().any()}
    return replace(source, images=images.assign(**known)) if known else source


def of_image(path: Path) -> dict[str, Any]:
    """Attributes of one image file; without those that it does not give."""
    try:
        with path.open("rb") as handle:
            head = handle.read(HEAD)
        if b"Exif" not in head and b"http://ns.adobe.com/xap" not in head and b"x:xmpmeta" not in head:
            return {}
        with Image.open(path) as image:
            exif = image.getexif()
            taken = exif.get_ifd(_EXIF_IFD).get(_TAKEN, "")
            make, model = (str(exif.get(tag, "")).strip("\0 ") for tag in (_MAKE, _MODEL))
    # Whatever Pillow raises on broken metadata: the image itself was read before.
    except Exception:
        return {}
    found: dict[str, Any] = {}
    camera = model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()
    if camera:
        found["camera"] = camera[:60]
    # A clock that was never set writes zeros.
    clock = re.match(r"(?!0000)\d{4}:\d\d:\d\d (\d\d):\d\d", str(taken))
    if clock and int(clock[1]) < 24:
        found["hour"] = float(clock[1])
    text = head.decode("latin-1")
    for name, keys in XMP.items():
        number = next((n for key in keys if (n := _xmp_number(text, key)) is not None), None)
        if number is not None:
            found[name] = number
    speeds = [_xmp_number(text, key) for key in SPEEDS]
    if all(speed is not None for speed in speeds):
        found["speed_m_s"] = round(math.hypot(*(speed or 0.0 for speed in speeds)), 2)
    return found


def _xmp_number(text: str, key: str) -> float | None:
    """A number in XMP, written as an attribute or as an element, also as a fraction (3020/100)."""
    match = re.search(rf"{re.escape(key)}\s*(?:=\s*[\"']|>\s*){_NUMBER}(?:/(\d{{1,9}}))?", text)
    if not match:
        return None
    below = float(match[2] or 1)
    return float(match[1]) / below if below else None


def _of_frames(source: Source) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Row of each frame of a video with subtitles, and its attributes."""
    frames = source.images[source.images["seconds"].notna()]
    if frames.empty:
        return
    used = source.ledger.loc[source.ledger["bucket"] == "used", "path"]
    videos = [Path(path) for path in used if Path(path).suffix.lower() in SUFFIXES]
    # Merged sources number their images: 1/flight.mp4#12.
    owners = frames["image"].str.rsplit("#", n=1).str[0]
    rows_of = frames.groupby(owners.str.rsplit("/", n=1).str[-1]).indices
    for video in videos:
        subtitles = next((p for s in (".srt", ".SRT") if (p := video.with_suffix(s)).is_file()), None)
        if subtitles is None:
            continue
        own = frames.iloc[rows_of.get(video.name, [])]
        # Videos of one name in several folders are named by their paths.
        if own.empty or len(set(own["path"].map(os.path.dirname))) > 1:
            own = frames[owners.map(lambda owner, video=video: video.as_posix().endswith(f"/{owner}"))]
        times, records = read_subtitles(subtitles)
        for row, seconds in own["seconds"].items():
            place = bisect_right(times, seconds + 1e-3) - 1
            if place >= 0:
                yield row, records[place]


def read_subtitles(path: Path) -> tuple[list[float], list[dict[str, Any]]]:
    """Start of each subtitle of a drone's video in seconds, and the attributes it gives; empty if
    unreadable.
    """
    try:
        if path.stat().st_size > MAX_SUBTITLES:
            return [], []
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError:
        return [], []
    starts = list(_TIME.finditer(text))
    rows = []
    for start, following in zip_longest(starts, starts[1:]):
        block = text[start.end() : following.start() if following else len(text)]
        hours, minutes, seconds, fraction = start.groups()
        record: dict[str, Any] = {}
        for name, patterns in SUBTITLE.items():
            match = next((m for pattern in patterns if (m := re.search(pattern, block))), None)
            if match:
                record[name] = float(match[1])
        clock = _CLOCK.search(block)
        if clock and int(clock[1]) < 24:
            record["hour"] = float(clock[1])
        time = int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction.ljust(3, "0")) / 1000
        rows.append((time, record))
    rows.sort(key=lambda row: row[0])
    return [time for time, _ in rows], [record for _, record in rows]
