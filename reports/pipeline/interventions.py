"""What the detector is asked again: real-world images with one or more things put right, and in-domain images with one thing changed."""

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
from reports.progress import Reporter
from train.predictions import Settings, Store, predict_folder
from train.run import Run
from train.transforms import MAX_SIDE, Distortion, Photometric, Sequential, Tile, Transform, about_centre

if TYPE_CHECKING:
    from train.forward import Detector

# Images each intervention is taken at.
MAX_INTERVENTION_IMAGES = 100
MIN_INTERVENTION_IMAGES = 60
STRIDE = 32
# A part of two by two that overlap by a third of their side: an object smaller than that lies whole in one of them.
TILES = tuple(Tile(x, y) for y in (0, 1) for x in (0, 1))
# Boxes of two tiles that overlap as much show one object.
SAME_BOX_IOU = 0.5
# A box within this many pixels of a tile's inner edge is cut off there.
EDGE = 2
SIZE, COLOURS, SHAPE = "image size", "colours", "foreshortening"
# No view of a flat ground worth looking at is squeezed more than this.
MIN_SQUEEZE = 0.35


@dataclass(frozen=True)
class DomainPredictor:
    """The detector with everything needed to look at a domain in another way."""

    detector: Detector
    run: Run
    settings: Settings
    reporter: Reporter

    def predict(
        self,
        domain: Domain,
        transform: Transform | None,
        tick: Callable[[], None],
        *,
        imgsz: int | None = None,
        conf: float | None = None,
    ) -> Domain:
        """The domain as the detector sees it under a change; kept like all results. Images that cannot be decoded again are left out."""
        settings = replace(
            self.settings,
            imgsz=imgsz or self.settings.imgsz,
            conf=conf or self.settings.conf,
            transform=transform.name if transform else "none",
        )
        store = Store(predict_folder(settings, self.run.sha256))
        found = self.detector.predict(domain.images, settings, store, transform=transform, tick=tick)
        kept = domain.subset(found.images["image"])
        return replace(
            kept,
            detections=found.detections,
            image_embeddings=found.image_embeddings,
            detection_embeddings=found.detection_embeddings,
        )


@dataclass(frozen=True)
class Interventions:
    """recoveries: what each change recovers by itself. looks: the same images under every set of corrections, see `diagnostics.contributions`."""

    recoveries: dict[str, Recovery]
    corrected_domains: dict[frozenset[str], Domain]
    corrections: tuple[str, ...]


def _squeeze(in_domain: Domain, real_world: Domain) -> Distortion | None:
    """The change of width or height that gives the real world's objects the in-domain typical shape; None where shapes hardly differ.

    Seen at a flatter angle, everything on the ground is foreshortened in height by the same factor (weak perspective, Hartley and Zisserman
    2004, section 6.3), so a view from above squeezed in height is the nearest that a still image comes to a view from a car.
    """
    medians = []
    for domain in (in_domain, real_world):
        shapes = factors.box_factors(domain.images, domain.annotations, domain.imgsz)["aspect"]
        if len(shapes) < factors.MIN_ANNOTATIONS:
            return None
        medians.append(float(shapes.median()))
    wider = medians[0] - medians[1]
    if abs(wider) < log2(SAME_SIZE):
        return None
    share = round(max(MIN_SQUEEZE, 2 ** -abs(wider)), 2)
    family = f"squeezed in {'height' if wider > 0 else 'width'} to {share}"
    return Distortion(family, 1, matrix=about_centre(1, share) if wider > 0 else about_centre(share, 1))


def run_interventions(
    predictor: DomainPredictor, in_domain: Domain, focus: Domain, *, seed: int
) -> Interventions:
    """Interventions on real-world images: shown larger and smaller, in the in-domain colours, squeezed to the in-domain shapes, in tiles, and several at once."""
    base = predictor.settings.imgsz
    larger, smaller = (
        max(STRIDE, round(base * factor / STRIDE) * STRIDE) for factor in size_factors(in_domain, focus)
    )
    # Four times the size costs sixteen times the time: fewer images, so that no look costs more than twice the side does.
    affordable = max(
        MIN_INTERVENTION_IMAGES, int(MAX_INTERVENTION_IMAGES * min(1.0, (2 * base / larger) ** 2))
    )
    there = focus.labelled_images
    there = there[there[["width", "height"]].max(axis=1) <= MAX_SIDE]
    before = focus.subset(evenly(there, affordable)["image"])
    if len(before.annotations) < factors.MIN_ANNOTATIONS:
        # Hardly an object among the images that could be looked at again: nothing could be recovered visibly.
        return Interventions({}, {}, ())
    ratio = float(np.median(in_domain.network_sides) / max(float(np.median(focus.network_sides)), 1e-9))
    size = larger if ratio > SAME_SIZE else smaller if ratio < 1 / SAME_SIZE else None
    tone, shape = Photometric.of(in_domain.images), _squeeze(in_domain, focus)
    corrections = [COLOURS] + [SIZE] * (size is not None) + [SHAPE] * (shape is not None)
    in_domain_ap50, recoveries = ap50(in_domain), {}
    corrected: dict[frozenset[str], Domain] = {frozenset(): before}

    def predict_with(name: str, transform: Transform | None, imgsz: int) -> Domain:
        title = f"Intervention at {focus.name}: {name}"
        with predictor.reporter.stage("interventions", title, len(before.images)) as tick:
            return predictor.predict(before, transform, tick, imgsz=imgsz)

    def record(name: str, after: Domain, factor: float = 1.0) -> None:
        recoveries[name] = recovery(name, before, after, in_domain_ap50, size_factor=factor, seed=seed)

    for count in range(1, len(corrections) + 1):
        for chosen in combinations(corrections, count):
            transform: Transform | None = tone if COLOURS in chosen else None
            if SHAPE in chosen and shape is not None:
                transform = Sequential(transform, shape) if transform else shape
            imgsz = size if SIZE in chosen and size is not None else base
            name = f"imgsz {imgsz}" if chosen == (SIZE,) else " and ".join(chosen)
            after = predict_with(name, transform, imgsz)
            if SHAPE in chosen and shape is not None:
                after = replace(after, annotations=shape.boxes(after.annotations, after.images))
            corrected[frozenset(chosen)] = after
            if count == 1:
                record(name, after, imgsz / base)
    for imgsz in (larger, smaller):
        if imgsz != size:
            record(f"imgsz {imgsz}", predict_with(f"imgsz {imgsz}", None, imgsz), imgsz / base)
    if size == larger:
        record("tiles", _predict_tiles(predictor, before), 1 / TILES[0].side)
    return Interventions(recoveries, corrected, tuple(corrections))


def _predict_tiles(predictor: DomainPredictor, domain: Domain) -> Domain:
    """The domain with the detections of overlapping parts beside those of whole images: small objects larger, at the same network input."""
    parts = [domain.detections]
    sizes = domain.images.set_index("image")[["width", "height"]]
    title = f"Intervention at {domain.name}: tiles"
    with predictor.reporter.stage("interventions", title, len(TILES) * len(domain.images)) as tick:
        for tile in TILES:
            found = predictor.predict(domain, tile, tick).detections
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
    merged = _merge_overlapping(pd.concat(parts, ignore_index=True), predictor.settings.max_det)
    return replace(domain, detections=merged, detection_embeddings=np.zeros((len(merged), 0), np.float32))


def _merge_overlapping(detections: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Non-maximum suppression by image and class, at most limit boxes an image."""
    kept: list[int] = []
    for rows in detections.groupby("image", sort=False).indices.values():
        part = detections.iloc[rows]
        boxes = part[CORNERS].to_numpy(float)
        boxes[:, 2:] -= boxes[:, :2]
        chosen = cv2.dnn.NMSBoxesBatched(
            boxes.tolist(), part["confidence"].tolist(), part["label"].tolist(), 0.0, SAME_BOX_IOU
        )
        kept += rows[np.asarray(chosen, int)[:limit]].tolist()
    return detections.iloc[sorted(kept)].reset_index(drop=True)
