"""Domains made from numbers alone: a simulated detector of known behaviour on clips that share a look.

Every random number is drawn whether it is needed or not, so that two domains of one seed show the same images and objects, and differ
only in what was asked to differ: an intervention at the same images is the same call with another zoom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from datasets.tables import BOX_COLUMNS, frame
from diagnostics.domain import Domain

WIDTH, HEIGHT, IMGSZ = 640, 480, 640
# Side in network pixels from which on an object is found at the full rate; below, in proportion.
EASY_SIDE = 40
STATISTICS = {
    "brightness": 0.5,
    "contrast": 0.2,
    "saturation": 0.3,
    "sharpness": -2.0,
    "top_light": 0.1,
    "texture_gradient": 0.5,
}


@dataclass(frozen=True)
class Appearance:
    """How a simulated detector does on a domain, and what the domain is like.

    hit_rate: of objects, with size_matters in proportion to their side below EASY_SIDE. false_rate: false boxes an image. sides: pixels, drawn
    evenly between. zoom: how much larger the network sees it all. label_margin: how much larger annotators draw. label_drop, label_extra:
    shares of objects left out and of things boxed that are none. confidence_shift: added to every confidence. embedding_shift: of images and
    objects along one direction, in standard deviations within clips of about 0.6 and 1. statistics: of images, beside STATISTICS.
    """

    hit_rate: float = 0.8
    false_rate: float = 0.5
    sides: tuple[float, float] = (20, 60)
    size_matters: bool = False
    zoom: float = 1.0
    label_margin: float = 1.0
    label_drop: float = 0.0
    label_extra: float = 0.0
    confidence_shift: float = 0.0
    embedding_shift: float = 0.0
    statistics: dict[str, float] | None = None


def make_domain(
    name: str = "in_domain",
    *,
    role: str = "in_domain",
    clips: int = 8,
    frames: int = 6,
    seed: int = 0,
    labelled: bool = True,
    clip_names: str = "c",
    classes: tuple[str, ...] = ("pothole",),
    images: Sequence[tuple[list, list]] | None = None,
    images_table: pd.DataFrame | None = None,
    **appearance: object,
) -> Domain:
    """A domain with a Look given field by field; with images, exactly those: (truth boxes xyxy, detections as (box, confidence[, class]))."""
    rng = np.random.default_rng(seed)
    how = Appearance(**appearance)  # type: ignore[arg-type]
    if images is not None:
        rows, boxes, found = drawn_by_hand(rng, images)
    else:
        rows, boxes, found = simulate(rng, how, clips, frames, clip_names, labelled)
    table = images_table if images_table is not None else pd.DataFrame(rows)
    detections = pd.DataFrame(found, columns=["image", "label", "x1", "y1", "x2", "y2", "confidence"])
    centres = {g: rng.normal(0, 0.6, 12) for g in table["group"].unique()}
    embeddings = np.stack([centres[g] for g in table["group"]]) + rng.normal(0, 0.6, (len(table), 12))
    embeddings[:, 0] += how.embedding_shift
    annotations = rng.normal(0, 1, (len(detections), 12))
    annotations[:, 0] += how.embedding_shift
    truth = frame(boxes, BOX_COLUMNS) if labelled else frame([], BOX_COLUMNS)
    return Domain(name, role, table, truth, detections, embeddings, annotations, IMGSZ, classes)


def drawn_by_hand(rng: np.random.Generator, images: Sequence[tuple[list, list]]) -> tuple[list, list, list]:
    """Rows of images, boxes and detections as given."""
    rows, boxes, found = [], [], []
    for number, (truth, detections) in enumerate(images):
        image = f"p{number}"
        rows.append(row_of(rng, image, "g0", {}, True))
        boxes += [box_row(image, box) for box in truth]
        found += [(image, (*d, 0)[2] if len(d) == 2 else d[2], *d[0], d[1]) for d in detections]
    return rows, boxes, found


def simulate(
    rng: np.random.Generator, how: Appearance, clips: int, frames: int, clip_names: str, labelled: bool
) -> tuple[list, list, list]:
    """Rows of images, boxes and detections of clips that share a look and a hit rate."""
    rows, boxes, found = [], [], []
    for clip in range(clips):
        appearance = {k: v + rng.normal(0, 0.03) for k, v in {**STATISTICS, **(how.statistics or {})}.items()}
        rate = float(np.clip(how.hit_rate + rng.normal(0, 0.05) * (how.hit_rate > 0), 0, 1))
        for index in range(frames):
            image = f"{clip_names}{clip}_{index}"
            rows.append(row_of(rng, image, f"{clip_names}{clip}", appearance, labelled))
            for k in range(int(rng.integers(1, 4))):
                side = how.sides[0] + (how.sides[1] - how.sides[0]) * float(rng.random())
                corner = np.array([30 + 200 * k + rng.uniform(0, 60), rng.uniform(50, 250)])
                box = np.concatenate([corner, corner + [side * 1.3, side]])
                centre = (box[:2] + box[2:]) / 2
                drawn = np.concatenate(
                    [
                        centre - (centre - box[:2]) * how.label_margin,
                        centre + (box[2:] - centre) * how.label_margin,
                    ]
                )
                if rng.random() >= how.label_drop:
                    boxes.append(box_row(image, drawn))
                seen = rate * (min(1.0, side * how.zoom / EASY_SIDE) if how.size_matters else 1.0)
                chance, moved, confidence = rng.random(), rng.normal(0, 0.04 * side, 4), rng.beta(5, 2)
                if chance < seen:
                    found.append((image, 0, *(box + moved), shifted(confidence, how)))
            corner, sides = np.array([rng.uniform(0, 500), rng.uniform(320, 420)]), rng.uniform(20, 60, 2)
            chance, confidence = rng.random(), rng.beta(2, 5)
            if chance < how.false_rate:
                found.append((image, 0, *corner, *(corner + sides), shifted(confidence, how)))
            corner, chance = np.array([rng.uniform(0, 500), rng.uniform(260, 310)]), rng.random()
            if chance < how.label_extra:
                boxes.append(box_row(image, np.concatenate([corner, corner + 40])))
    return rows, boxes, found


def shifted(confidence: float, how: Appearance) -> float:
    """A confidence as this detector states it there."""
    return float(np.clip(confidence + how.confidence_shift, 0.002, 0.999))


def row_of(
    rng: np.random.Generator, image: str, group: str, appearance: dict[str, float], labelled: bool
) -> dict[str, object]:
    """A row of the images table with its image statistics."""
    values = {k: v + rng.normal(0, 0.03) for k, v in (appearance or STATISTICS).items()}
    return {
        "image": image,
        "path": f"/nowhere/{image}.jpg",
        "split": "val",
        "group": group,
        "width": WIDTH,
        "height": HEIGHT,
        "labelled": labelled,
        "seconds": float("nan"),
        "fingerprint": rng.bytes(32),
        **values,
    }


def box_row(image: str, box: Sequence[float]) -> dict[str, object]:
    """A row of the boxes table."""
    return {
        "image": image,
        "label": 0,
        "x1": box[0],
        "y1": box[1],
        "x2": box[2],
        "y2": box[3],
        "crowd": False,
    }
