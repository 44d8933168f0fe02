"""Domains made from numbers alone: a simulated detector of known behaviour on clips that share a look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from datasets.tables import BOX_COLUMNS, frame
from diagnostics.domain import Domain

WIDTH, HEIGHT, IMGSZ = 640, 480, 640
STATISTICS = {
    "brightness": 0.5,
    "contrast": 0.2,
    "saturation": 0.3,
    "sharpness": -2.0,
    "top_light": 0.1,
    "texture_gradient": 0.5,
}


def make_domain(
    name: str = "home",
    *,
    role: str = "in_domain",
    clips: int = 8,
    frames: int = 6,
    seed: int = 0,
    hit_rate: float = 0.8,
    false_rate: float = 0.5,
    sides: tuple[float, float] = (20, 60),
    size_matters: bool = False,
    label_margin: float = 1.0,
    confidence_shift: float = 0.0,
    embedding_shift: float = 0.0,
    statistics: dict[str, float] | None = None,
    labelled: bool = True,
    clip_names: str = "c",
    classes: tuple[str, ...] = ("pothole",),
    pictures: Sequence[tuple[list, list]] | None = None,
    pictures_table: pd.DataFrame | None = None,
) -> Domain:
    """A domain; with pictures, exactly those: (truth boxes xyxy, detections as (box, confidence[, class]))."""
    rng = np.random.default_rng(seed)
    rows, boxes, found = [], [], []
    if pictures is not None:
        for number, (truth, detections) in enumerate(pictures):
            image = f"p{number}"
            rows.append(row_of(rng, image, "g0", {}, True))
            boxes += [box_row(image, box) for box in truth]
            found += [(image, (*d, 0)[2] if len(d) == 2 else d[2], *d[0], d[1]) for d in detections]
    else:
        for clip in range(clips):
            look = {k: v + rng.normal(0, 0.03) for k, v in {**STATISTICS, **(statistics or {})}.items()}
            rate = float(np.clip(hit_rate + rng.normal(0, 0.05) * (hit_rate > 0), 0, 1))
            for index in range(frames):
                image = f"{clip_names}{clip}_{index}"
                rows.append(row_of(rng, image, f"{clip_names}{clip}", look, labelled))
                for k in range(int(rng.integers(1, 4))):
                    side = float(rng.uniform(*sides))
                    corner = np.array([30 + 200 * k + rng.uniform(0, 60), rng.uniform(50, 250)])
                    box = np.concatenate([corner, corner + [side * 1.3, side]])
                    centre = (box[:2] + box[2:]) / 2
                    drawn = np.concatenate(
                        [
                            centre - (centre - box[:2]) * label_margin,
                            centre + (box[2:] - centre) * label_margin,
                        ]
                    )
                    boxes.append(box_row(image, drawn))
                    seen = min(1.0, side / 40) * rate if size_matters else rate
                    if rng.random() < seen:
                        moved = box + rng.normal(0, 0.04 * side, 4)
                        found.append(
                            (
                                image,
                                0,
                                *moved,
                                float(np.clip(rng.beta(5, 2) + confidence_shift, 0.002, 0.999)),
                            )
                        )
                if rng.random() < false_rate:
                    corner = np.array([rng.uniform(0, 500), rng.uniform(320, 420)])
                    found.append(
                        (
                            image,
                            0,
                            *corner,
                            *(corner + rng.uniform(20, 60, 2)),
                            float(np.clip(rng.beta(2, 5) + confidence_shift, 0.002, 0.999)),
                        )
                    )
    table = pictures_table if pictures_table is not None else pd.DataFrame(rows)
    detections = pd.DataFrame(found, columns=["image", "label", "x1", "y1", "x2", "y2", "confidence"])
    centres = {g: rng.normal(0, 0.6, 12) for g in table["group"].unique()}
    embeddings = np.stack([centres[g] for g in table["group"]]) + rng.normal(0, 0.6, (len(table), 12))
    embeddings[:, 0] += embedding_shift
    objects = rng.normal(0, 1, (len(detections), 12))
    objects[:, 0] += embedding_shift
    truth = frame(boxes, BOX_COLUMNS) if labelled else frame([], BOX_COLUMNS)
    return Domain(name, role, table, truth, detections, embeddings, objects, IMGSZ, classes)


def row_of(
    rng: np.random.Generator, image: str, group: str, look: dict[str, float], labelled: bool
) -> dict[str, object]:
    values = {k: v + rng.normal(0, 0.03) for k, v in (look or STATISTICS).items()}
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
    return {
        "image": image,
        "label": 0,
        "x1": box[0],
        "y1": box[1],
        "x2": box[2],
        "y2": box[3],
        "crowd": False,
    }
