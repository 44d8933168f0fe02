"""What the detector is asked again: real-world pictures with one or more things put right, and in-domain pictures with one thing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from math import log2
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

from datasets.groups import evenly
from datasets.tables import CORNERS
from diagnostics import factors
from diagnostics.counterfactuals import SAME_SIZE, Recovery, ap50, recovery, size_factors
from diagnostics.domain import Domain
from reports.pipeline.inference import predict_folder
from reports.progress import Reporter
from train.transforms import MAX_SIDE, Both, Change, Distortion, Photometric, Tile, about_centre
from train.predictions import Settings, Store
from train.run import Run

if TYPE_CHECKING:
    from train.forward import Detector

# Pictures each second look is taken at.
MAX_SECOND_LOOK = 100
MIN_SECOND_LOOK = 60
STRIDE = 32
# A part of two by two that overlap by a third of their side: an object smaller than that lies whole in one of them.
TILES = tuple(Tile(x, y) for y in (0, 1) for x in (0, 1))
# Boxes of two tiles that overlap as much show one object.
SAME_OBJECT = 0.5
# A box within this many pixels of a tile's inner edge is cut off there.
EDGE = 2
SIZE, COLOURS, SHAPE = "image size", "colours", "foreshortening"
# No view of a flat ground worth looking at is squeezed more than this.
MIN_SQUEEZE = 0.35


@dataclass(frozen=True)
class Eyes:
    """The detector with everything needed to look at a domain in another way."""

    detector: Detector
    run: Run
    settings: Settings
    reporter: Reporter

    def look(
        self,
        domain: Domain,
        change: Change | None,
        tick: Callable[[], None],
        *,
        imgsz: int | None = None,
        conf: float | None = None,
    ) -> Domain:
        """The domain as the detector sees it under a change; kept like all results. Pictures that cannot be decoded again are left out."""
        settings = replace(
            self.settings,
            imgsz=imgsz or self.settings.imgsz,
            conf=conf or self.settings.conf,
            transform=change.name if change else "none",
        )
        store = Store(predict_folder(settings, self.run.sha256))
        found = self.detector.predict(domain.pictures, settings, store, change=change, tick=tick)
        kept = domain.subset(found.pictures["image"])
        return replace(kept, detections=found.detections, image_embeddings=found.image_embeddings, detection_embeddings=found.detection_embeddings)


@dataclass(frozen=True)
class SecondLooks:
    """recoveries: what each change wins back by itself. looks: the same pictures under every set of corrections, see `diagnostics.contributions`."""

    recoveries: dict[str, Recovery]
    looks: dict[frozenset[str], Domain]
    corrections: tuple[str, ...]


def squeeze(home: Domain, away: Domain) -> Distortion | None:
    """The change of width or height that gives the real world's objects home's typical shape; None where shapes hardly differ.

    Seen at a flatter angle, everything on the ground is foreshortened in height by the same factor (weak perspective, Hartley and Zisserman
    2004, section 6.3), so a view from above squeezed in height is the nearest that a still picture comes to a view from a car.
    """
    medians = []
    for domain in (home, away):
        shapes = factors.object_factors(domain.pictures, domain.annotations, domain.imgsz)["aspect"]
        if len(shapes) < factors.MIN_OBJECTS:
            return None
        medians.append(float(shapes.median()))
    wider = medians[0] - medians[1]
    if abs(wider) < log2(SAME_SIZE):
        return None
    share = round(max(MIN_SQUEEZE, 2 ** -abs(wider)), 2)
    family = f"squeezed in {'height' if wider > 0 else 'width'} to {share}"
    return Distortion(family, 1, matrix=about_centre(1, share) if wider > 0 else about_centre(share, 1))


def second_looks(eyes: Eyes, home: Domain, focus: Domain, *, seed: int) -> SecondLooks:
    """Interventions on real-world pictures: shown larger and smaller, in home's colours, squeezed to home's shapes, in tiles, and several at once."""
    base = eyes.settings.imgsz
    larger, smaller = (
        max(STRIDE, round(base * factor / STRIDE) * STRIDE) for factor in size_factors(home, focus)
    )
    # Four times the size costs sixteen times the time: fewer pictures, so that no look costs more than twice the side does.
    affordable = max(MIN_SECOND_LOOK, int(MAX_SECOND_LOOK * min(1.0, (2 * base / larger) ** 2)))
    there = focus.labelled_pictures
    there = there[there[["width", "height"]].max(axis=1) <= MAX_SIDE]
    before = focus.subset(evenly(there, affordable)["image"])
    if len(before.annotations) < factors.MIN_OBJECTS:
        # Hardly an object among the pictures that could be looked at again: nothing could be won back visibly.
        return SecondLooks({}, {}, ())
    ratio = float(np.median(home.network_sides) / max(float(np.median(focus.network_sides)), 1e-9))
    size = larger if ratio > SAME_SIZE else smaller if ratio < 1 / SAME_SIZE else None
    tone, shape = Photometric.of(home.pictures), squeeze(home, focus)
    corrections = [COLOURS] + [SIZE] * (size is not None) + [SHAPE] * (shape is not None)
    home_ap50, recoveries = ap50(home), {}
    looks: dict[frozenset[str], Domain] = {frozenset(): before}

    def take(name: str, change: Change | None, imgsz: int) -> Domain:
        title = f"Second look at {focus.name}: {name}"
        with eyes.reporter.stage("second looks", title, len(before.pictures)) as tick:
            return eyes.look(before, change, tick, imgsz=imgsz)

    def record(name: str, after: Domain, factor: float = 1.0) -> None:
        recoveries[name] = recovery(name, before, after, home_ap50, size_factor=factor, seed=seed)

    for count in range(1, len(corrections) + 1):
        for chosen in combinations(corrections, count):
            change: Change | None = tone if COLOURS in chosen else None
            if SHAPE in chosen and shape is not None:
                change = Both(change, shape) if change else shape
            imgsz = size if SIZE in chosen and size is not None else base
            name = f"imgsz {imgsz}" if chosen == (SIZE,) else " and ".join(chosen)
            after = take(name, change, imgsz)
            if SHAPE in chosen and shape is not None:
                after = replace(after, annotations=shape.boxes(after.annotations, after.pictures))
            looks[frozenset(chosen)] = after
            if count == 1:
                record(name, after, imgsz / base)
    for imgsz in (larger, smaller):
        if imgsz != size:
            record(f"imgsz {imgsz}", take(f"imgsz {imgsz}", None, imgsz), imgsz / base)
    if size == larger:
        record("tiles", in_tiles(eyes, before), 1 / TILES[0].side)
    return SecondLooks(recoveries, looks, tuple(corrections))


def in_tiles(eyes: Eyes, domain: Domain) -> Domain:
    """The domain with the detections of overlapping parts beside those of whole pictures: small objects larger, at the same network input."""
    parts = [domain.detections]
    sizes = domain.pictures.set_index("image")[["width", "height"]]
    title = f"Second look at {domain.name}: tiles"
    with eyes.reporter.stage("second looks", title, len(TILES) * len(domain.pictures)) as tick:
        for tile in TILES:
            found = eyes.look(domain, tile, tick).detections
            widths, heights = sizes.loc[found["image"]].to_numpy().T
            corners = np.array([tile.corner(int(w), int(h)) for w, h in zip(widths, heights, strict=True)])
            corners = corners.reshape(-1, 4)
            box = found[CORNERS].to_numpy(float)
            inner = np.stack(
                [corners[:, 0] > 0, corners[:, 1] > 0, corners[:, 2] < widths, corners[:, 3] < heights], 1
            )
            part = corners[:, 2:] - corners[:, :2]
            touches = np.concatenate([box[:, :2] < EDGE, box[:, 2:] > part - EDGE], 1)
            moved = found.assign(**dict(zip(CORNERS, (box + np.tile(corners[:, :2], 2)).T, strict=True)))
            parts.append(moved[~(inner & touches).any(1)])
    merged = once(pd.concat(parts, ignore_index=True), eyes.settings.max_det)
    return replace(domain, detections=merged, detection_embeddings=np.zeros((len(merged), 0), np.float32))


def once(detections: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Non-maximum suppression by picture and class, at most limit boxes a picture."""
    kept: list[int] = []
    for rows in detections.groupby("image", sort=False).indices.values():
        part = detections.iloc[rows]
        boxes = part[CORNERS].to_numpy(float)
        boxes[:, 2:] -= boxes[:, :2]
        chosen = cv2.dnn.NMSBoxesBatched(
            boxes.tolist(), part["confidence"].tolist(), part["label"].tolist(), 0.0, SAME_OBJECT
        )
        kept += rows[np.asarray(chosen, int)[:limit]].tolist()
    return detections.iloc[sorted(kept)].reset_index(drop=True)
