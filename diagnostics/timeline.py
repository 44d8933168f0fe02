"""Videos over time: which seconds are unlike training, where scenes are cut, and whether detections persist.

Detections that come and go are a warning. Detections that persist prove nothing, because a detector can be
wrong steadily (Zhang and Wang 2016 find stability and accuracy hardly correlated). Blinking is defined as in
the model assertions of Kang et al. 2020: shown, gone, and shown again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.label_free import SHOWN, highest_confidences
from diagnostics.matching import Floats, Ints, iou_table

# Unrelated images differ in 128 of the 256 bits of their fingerprints, with a standard deviation of 8. A cut
# changes at least this many bits, and twice the median of the clip; where the median is over half of this,
# the camera moves too far between two samples for a cut to be recognised.
CUT_BITS = 96
# Two boxes of neighbouring frames with this IoU are the same object.
SAME = 0.3
# How far a camera moves between neighbouring frames at most, as a share of the image's width.
MOVE = 0.05
# An object gone for at most this many frames and then back has blinked.
GAP = 2
# With fewer detections in bursts, persistence is not measured.
MIN_SHOWN = 20
COLUMNS = ("image", "group", "seconds", "shown", "highest", "novelty", "change", "cut")


@dataclass(frozen=True)
class Steadiness:
    """Persistence of detections in bursts of neighbouring frames; shares are None below MIN_SHOWN detections.

    domain: name of the domain
    pairs: pairs of neighbouring frames
    shown: detections at or above SHOWN that have a next frame
    gone: share of these that is missing in the next frame
    blinked: share that is missing in the next frame and back within GAP frames
    fragments: tracks per object, 1 if no track is interrupted
    """

    domain: str
    pairs: int
    shown: int
    gone: float | None
    blinked: float | None
    fragments: float | None


def build_timeline(domain: Domain, novelty: Floats | None) -> pd.DataFrame:
    """The frames of a domain's videos in order.

    Parameters
    ----------
    domain
        Images without a time are left out.
    novelty
        Novelty of each image of the domain, (n,), if measured.

    Returns
    -------
    pandas.DataFrame
        COLUMNS, one row per frame. `change` is the number of bits in which the fingerprint differs from that
        of the previous frame, NaN for the first; `cut` is whether a new scene begins.
    """
    images = domain.images
    frame = images[["image", "group", "seconds"]].copy()
    shown = domain.detections[domain.detections["confidence"] >= SHOWN]["image"].value_counts()
    frame["shown"] = frame["image"].map(shown).fillna(0).astype(int)
    frame["highest"] = highest_confidences(domain)
    frame["novelty"] = np.nan if novelty is None else novelty
    frame["fingerprint"] = images["fingerprint"]
    frame = frame[frame["seconds"].notna()].sort_values(["group", "seconds"], kind="stable")
    previous = frame.groupby("group")["fingerprint"].shift()
    change = [
        float(_bits_between(old, new)) if isinstance(old, bytes) else np.nan
        for old, new in zip(previous, frame["fingerprint"], strict=True)
    ]
    frame["change"] = np.array(change, float)
    usual = frame.groupby("group")["change"].transform("median")
    frame["cut"] = (frame["change"] >= np.maximum(CUT_BITS, 2 * usual)).to_numpy(bool)
    return frame[list(COLUMNS)].reset_index(drop=True)


def _bits_between(first: bytes, second: bytes) -> int:
    """Number of bits in which two fingerprints differ."""
    return int.from_bytes(
        np.bitwise_xor(*(np.frombuffer(f, np.uint8) for f in (first, second))).tobytes()
    ).bit_count()


@dataclass
class _Counts:
    """Counts over all bursts: pairs of frames, detections with a next frame, tracks and objects."""

    pairs: int = 0
    shown: int = 0
    gone: int = 0
    blinked: int = 0
    tracks: int = 0
    objects: int = 0


def measure_steadiness(name: str, frames: pd.DataFrame, detections: pd.DataFrame) -> Steadiness:
    """Measure whether detections persist from frame to frame.

    Parameters
    ----------
    name
        Name of the domain.
    frames
        image, group, width, burst and frame, one row per frame.
    detections
        Detections of those images.

    Returns
    -------
    Steadiness
        Shares are None below MIN_SHOWN detections.
    """
    shown = detections[detections["confidence"] >= SHOWN]
    of_image = dict(list(shown.groupby("image", sort=False)))
    counts = _Counts()
    for _, burst in frames.groupby(["group", "burst"], sort=True):
        ordered = burst.sort_values("frame")
        boxes, labels = [], []
        for image in ordered["image"]:
            part = of_image.get(image)
            boxes.append(part[CORNERS].to_numpy(float) if part is not None else np.zeros((0, 4)))
            labels.append(part["label"].to_numpy() if part is not None else np.zeros(0, int))
        _count_burst(counts, boxes, labels, MOVE * float(ordered["width"].iloc[0]))
    if counts.shown < MIN_SHOWN:
        return Steadiness(name, counts.pairs, counts.shown, None, None, None)
    return Steadiness(
        name,
        counts.pairs,
        counts.shown,
        counts.gone / counts.shown,
        counts.blinked / counts.shown,
        counts.tracks / max(counts.objects, 1),
    )


def _count_burst(counts: _Counts, boxes: list[Floats], labels: list[Ints], limit: float) -> None:
    """Add the counts of one burst. boxes, labels: of each frame. limit: largest move per frame, in pixels."""
    links = {
        (a, a + step): link(boxes[a], boxes[a + step], labels[a], labels[a + step], step * limit)
        for step in range(1, GAP + 2)
        for a in range(len(boxes) - step)
    }
    for number in range(len(boxes) - 1):
        gone = links[number, number + 1] < 0
        back = np.zeros(len(gone), bool)
        for step in range(2, GAP + 2):
            if (number, number + step) in links:
                back |= links[number, number + step] >= 0
        counts.pairs += 1
        counts.shown += len(gone)
        counts.gone += int(gone.sum())
        counts.blinked += int((gone & back).sum())
    counts.tracks += _count_beginnings(boxes, links, 1)
    counts.objects += _count_beginnings(boxes, links, GAP + 1)


def _count_beginnings(boxes: list[Floats], links: dict[tuple[int, int], Ints], reach: int) -> int:
    """Tracks that begin in a burst: boxes linked to no box of the previous `reach` frames."""
    count = 0
    for number, of_frame in enumerate(boxes):
        linked = np.zeros(len(of_frame), bool)
        for previous in range(max(0, number - reach), number):
            partner = links[previous, number]
            linked[partner[partner >= 0]] = True
        count += int((~linked).sum())
    return count


def link(first: Floats, second: Floats, first_label: Ints, second_label: Ints, limit: float) -> Ints:
    """For each box (xyxy) of one frame, the box of the same object in another frame, (n,), -1 for none.

    The camera's move is the displacement between two boxes of similar size that makes most boxes overlap.
    limit: its largest length, in pixels.
    """
    partner = np.full(len(first), -1, np.int64)
    if not len(first) or not len(second):
        return partner
    centre = [(b[:, :2] + b[:, 2:]) / 2 for b in (first, second)]
    area = [np.prod(b[:, 2:] - b[:, :2], 1) for b in (first, second)]
    moves = (centre[1][None] - centre[0][:, None]).reshape(-1, 2)
    similar = (
        np.abs(np.log(np.maximum(area[1][None], 1e-9) / np.maximum(area[0][:, None], 1e-9))) < 0.5
    ).ravel()
    candidates = [np.zeros(2), *moves[similar & (np.linalg.norm(moves, axis=1) <= limit)]]
    same_label = first_label[:, None] == second_label[None]

    def overlaps(move: Floats) -> Floats:
        return np.where(same_label, iou_table(first + np.tile(move, 2), second), 0.0)

    best = max(
        (overlaps(move) for move in candidates), key=lambda o: (o.max(1) >= SAME).sum() + o.max(1).sum() / 1e6
    )
    for flat in np.argsort(-best, axis=None, kind="stable"):
        row, column = np.unravel_index(flat, best.shape)
        if best[row, column] < SAME:
            break
        if partner[row] < 0 and column not in partner:
            partner[row] = column
    return partner
