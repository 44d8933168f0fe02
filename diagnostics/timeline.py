"""A video as it runs: which seconds are unlike training, where the scene is cut, and whether detections last from frame to frame.

Detections that come and go are a warning; detections that last are no proof, for a detector can be wrong steadily (Zhang and Wang 2016 find stability
and accuracy hardly correlated). Blinking as in the model assertions of Kang et al. 2020: shown, gone, and shown again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.label_free import SHOWN, highest
from diagnostics.matching import Floats, Ints, iou_table

# Of the 256 bits of an image's fingerprint, unrelated images differ in 128 give or take 8. A cut is as much, and twice what is usual in the clip;
# where half of that is usual already, the camera moves too fast between two samples for a cut to stand out.
CUT_BITS = 96
# Two boxes of neighbouring frames that overlap as much are the same thing.
SAME = 0.3
# What a camera moves between neighbouring frames at most, as a share of the image's width.
MOVE = 0.05
# A thing gone for so many frames at most and then back has blinked.
GAP = 2
# Fewer shown detections in bursts than this say nothing about lasting.
MIN_SHOWN = 20
COLUMNS = ("image", "group", "seconds", "shown", "highest", "novelty", "change", "cut")


@dataclass(frozen=True)
class Steadiness:
    """Of detections shown in bursts of neighbouring frames. gone: share that the next frame no longer shows. blinked: share that is gone and back within
    GAP frames. fragments: tracks a thing is broken into, 1 if none is. Both None below MIN_SHOWN detections; pairs: of neighbouring frames.
    """

    domain: str
    pairs: int
    shown: int
    gone: float | None
    blinked: float | None
    fragments: float | None


def timeline(domain: Domain, novelty: Floats | None) -> pd.DataFrame:
    """One row a video frame in order: COLUMNS. novelty: (n,) of the domain's images. change: bits in which its fingerprint differs from the frame
    before, NaN for the first. cut: a new scene begins here.
    """
    images = domain.images
    frame = images[["image", "group", "seconds"]].copy()
    shown = domain.detections[domain.detections["confidence"] >= SHOWN]["image"].value_counts()
    frame["shown"] = frame["image"].map(shown).fillna(0).astype(int)
    frame["highest"] = highest(domain)
    frame["novelty"] = np.nan if novelty is None else novelty
    frame["print"] = images["fingerprint"]
    frame = frame[frame["seconds"].notna()].sort_values(["group", "seconds"], kind="stable")
    before = frame.groupby("group")["print"].shift()
    change = [
        float(_bits_between(old, new)) if isinstance(old, bytes) else np.nan
        for old, new in zip(before, frame["print"], strict=True)
    ]
    frame["change"] = np.array(change, float)
    usual = frame.groupby("group")["change"].transform("median")
    frame["cut"] = (frame["change"] >= np.maximum(CUT_BITS, 2 * usual)).to_numpy(bool)
    return frame[list(COLUMNS)].reset_index(drop=True)


def _bits_between(first: bytes, second: bytes) -> int:
    """Bits in which two fingerprints differ."""
    return int.from_bytes(
        np.bitwise_xor(*(np.frombuffer(f, np.uint8) for f in (first, second))).tobytes()
    ).bit_count()


def steadiness(name: str, frames: pd.DataFrame, detections: pd.DataFrame) -> Steadiness:
    """frames: image, group, width, burst, frame. detections: of those images."""
    shown = detections[detections["confidence"] >= SHOWN]
    of_image = dict(list(shown.groupby("image", sort=False)))
    pairs = total = gone = blinked = tracks = things = 0
    for _, burst in frames.groupby(["group", "burst"], sort=True):
        ordered = burst.sort_values("frame")
        boxes, labels = [], []
        for image in ordered["image"]:
            part = of_image.get(image)
            boxes.append(part[CORNERS].to_numpy(float) if part is not None else np.zeros((0, 4)))
            labels.append(part["label"].to_numpy() if part is not None else np.zeros(0, int))
        limit = MOVE * float(ordered["width"].iloc[0])
        links = {
            (a, a + step): link(boxes[a], boxes[a + step], labels[a], labels[a + step], step * limit)
            for step in range(1, GAP + 2)
            for a in range(len(boxes) - step)
        }
        for number in range(len(boxes) - 1):
            lost = links[number, number + 1] < 0
            back = np.zeros(len(lost), bool)
            for step in range(2, GAP + 2):
                if (number, number + step) in links:
                    back |= links[number, number + step] >= 0
            pairs, total, gone = pairs + 1, total + len(lost), gone + int(lost.sum())
            blinked += int((lost & back).sum())
        tracks += _begins(boxes, links, 1)
        things += _begins(boxes, links, GAP + 1)
    if total < MIN_SHOWN:
        return Steadiness(name, pairs, total, None, None, None)
    return Steadiness(name, pairs, total, gone / total, blinked / total, tracks / max(things, 1))


def _begins(boxes: list[Floats], links: dict[tuple[int, int], Ints], reach: int) -> int:
    """Tracks that begin in a burst: boxes that no box of the `reach` frames before leads to."""
    count = 0
    for number, here in enumerate(boxes):
        led = np.zeros(len(here), bool)
        for before in range(max(0, number - reach), number):
            to = links[before, number]
            led[to[to >= 0]] = True
        count += int((~led).sum())
    return count


def link(first: Floats, second: Floats, first_label: Ints, second_label: Ints, limit: float) -> Ints:
    """For each box of one frame the box of another that shows the same thing, (n,), -1 for none; boxes xyxy, limit: of the camera's move in pixels.

    The move is the displacement between two boxes of like size that brings most boxes to overlap.
    """
    partner = np.full(len(first), -1, np.int64)
    if not len(first) or not len(second):
        return partner
    centre = [(b[:, :2] + b[:, 2:]) / 2 for b in (first, second)]
    area = [np.prod(b[:, 2:] - b[:, :2], 1) for b in (first, second)]
    moves = (centre[1][None] - centre[0][:, None]).reshape(-1, 2)
    alike = (
        np.abs(np.log(np.maximum(area[1][None], 1e-9) / np.maximum(area[0][:, None], 1e-9))) < 0.5
    ).ravel()
    candidates = [np.zeros(2), *moves[alike & (np.linalg.norm(moves, axis=1) <= limit)]]
    same_label = first_label[:, None] == second_label[None]

    def overlaps(move: Floats) -> Floats:
        return np.where(same_label, iou_table(first + np.tile(move, 2), second), 0.0)

    found = max(
        (overlaps(move) for move in candidates), key=lambda o: (o.max(1) >= SAME).sum() + o.max(1).sum() / 1e6
    )
    for flat in np.argsort(-found, axis=None, kind="stable"):
        row, column = np.unravel_index(flat, found.shape)
        if found[row, column] < SAME:
            break
        if partner[row] < 0 and column not in partner:
            partner[row] = column
    return partner
