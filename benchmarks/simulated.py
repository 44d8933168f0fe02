"""Simulated domains: a detector of known behaviour on clips of random images.

Every random number is drawn whether it is needed or not. Two domains of one seed therefore hold the same
images and objects and differ only in the fields that differ: an intervention on the same images is the same
call with another zoom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from datasets.tables import BOX_COLUMNS, frame
from diagnostics.domain import Domain

WIDTH, HEIGHT, IMGSZ = 640, 480, 640
# Side in network pixels above which objects are detected at the full rate; below, the rate falls in
# proportion.
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
class Simulation:
    """How a simulated detector behaves on a domain, and what the domain is like.

    recall: probability that an object is detected
    false_positive_rate: probability of a false positive, one per image
    sides: smallest and largest side of objects, pixels, uniform between
    size_matters: recall falls in proportion to the side below EASY_SIDE
    zoom: factor on the size at which the network receives the images
    label_margin: factor on the size of annotations, 1 for boxes that fit
    label_drop: share of objects without an annotation
    label_extra: probability of an annotation without an object, one per image
    confidence_shift: added to every confidence
    embedding_shift: offset of image and detection embeddings along one direction; the standard deviation
        within a clip
        is 0.6 for images and 1 for detections
    statistics: image statistics that differ from STATISTICS
    """

    recall: float = 0.8
    false_positive_rate: float = 0.5
    sides: tuple[float, float] = (20, 60)
    size_matters: bool = False
    zoom: float = 1.0
    label_margin: float = 1.0
    label_drop: float = 0.0
    label_extra: float = 0.0
    confidence_shift: float = 0.0
    embedding_shift: float = 0.0
    statistics: dict[str, float] | None = None


# Ten parameters: one call in a test describes a whole domain, and each test names only what matters to it.
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
    **simulation: object,
) -> Domain:
    """Simulate a domain, or build one from listed boxes.

    Parameters
    ----------
    name, role, classes
        Of the domain.
    clips, frames
        Number of clips, and of images in each.
    seed
        Seed of everything random.
    labelled
        Whether the images have annotations.
    clip_names
        Prefix of the names of clips.
    images
        Exactly these images instead of simulated ones: (annotations as xyxy boxes, detections as (box,
        confidence) or (box, confidence, class)).
    images_table
        The images table to use instead of the simulated one; it has the same images.
    **simulation
        Fields of `Simulation`.

    Returns
    -------
    Domain
    """
    rng = np.random.default_rng(seed)
    settings = Simulation(**simulation)  # type: ignore[arg-type]
    if images is not None:
        rows, boxes, detection_rows = tabulate(rng, images)
    else:
        rows, boxes, detection_rows = simulate(rng, settings, clips, frames, clip_names, labelled)
    table = images_table if images_table is not None else pd.DataFrame(rows)
    detections = pd.DataFrame(
        detection_rows, columns=["image", "label", "x1", "y1", "x2", "y2", "confidence"]
    )
    centres = {g: rng.normal(0, 0.6, 12) for g in table["group"].unique()}
    image_embeddings = np.stack([centres[g] for g in table["group"]]) + rng.normal(0, 0.6, (len(table), 12))
    image_embeddings[:, 0] += settings.embedding_shift
    detection_embeddings = rng.normal(0, 1, (len(detections), 12))
    detection_embeddings[:, 0] += settings.embedding_shift
    annotations = frame(boxes, BOX_COLUMNS) if labelled else frame([], BOX_COLUMNS)
    return Domain(
        name, role, table, annotations, detections, image_embeddings, detection_embeddings, IMGSZ, classes
    )


def tabulate(rng: np.random.Generator, images: Sequence[tuple[list, list]]) -> tuple[list, list, list]:
    """Rows of images, annotations and detections for listed boxes; all images are of one clip."""
    rows, boxes, detection_rows = [], [], []
    for number, (annotated, detections) in enumerate(images):
        image = f"p{number}"
        rows.append(image_row(rng, image, "g0", {}, True))
        boxes += [annotation_row(image, box) for box in annotated]
        detection_rows += [(image, d[2] if len(d) > 2 else 0, *d[0], d[1]) for d in detections]
    return rows, boxes, detection_rows


def simulate(
    rng: np.random.Generator, settings: Simulation, clips: int, frames: int, clip_names: str, labelled: bool
) -> tuple[list, list, list]:
    """Rows of images, annotations and detections; the images of a clip share statistics and recall."""
    rows, boxes, detection_rows = [], [], []
    for clip in range(clips):
        statistics = {**STATISTICS, **(settings.statistics or {})}
        statistics = {k: v + rng.normal(0, 0.03) for k, v in statistics.items()}
        recall = float(np.clip(settings.recall + rng.normal(0, 0.05) * (settings.recall > 0), 0, 1))
        for index in range(frames):
            image = f"{clip_names}{clip}_{index}"
            rows.append(image_row(rng, image, f"{clip_names}{clip}", statistics, labelled))
            for k in range(int(rng.integers(1, 4))):
                annotation, detection = simulate_object(rng, settings, image, k, recall)
                boxes += annotation
                detection_rows += detection
            corner, sides = np.array([rng.uniform(0, 500), rng.uniform(320, 420)]), rng.uniform(20, 60, 2)
            chance, confidence = rng.random(), rng.beta(2, 5)
            if chance < settings.false_positive_rate:
                false_positive = (*corner, *(corner + sides))
                detection_rows.append((image, 0, *false_positive, shifted(confidence, settings)))
            corner, chance = np.array([rng.uniform(0, 500), rng.uniform(260, 310)]), rng.random()
            if chance < settings.label_extra:
                boxes.append(annotation_row(image, np.concatenate([corner, corner + 40])))
    return rows, boxes, detection_rows


def simulate_object(
    rng: np.random.Generator, settings: Simulation, image: str, number: int, recall: float
) -> tuple[list, list]:
    """Annotation rows and detection rows, none or one each, of an object; number: its column in the image."""
    side = settings.sides[0] + (settings.sides[1] - settings.sides[0]) * float(rng.random())
    corner = np.array([30 + 200 * number + rng.uniform(0, 60), rng.uniform(50, 250)])
    box = np.concatenate([corner, corner + [side * 1.3, side]])
    centre = (box[:2] + box[2:]) / 2
    margin = settings.label_margin
    annotated = np.concatenate([centre - (centre - box[:2]) * margin, centre + (box[2:] - centre) * margin])
    annotations = [annotation_row(image, annotated)] if rng.random() >= settings.label_drop else []
    probability = recall * (min(1.0, side * settings.zoom / EASY_SIDE) if settings.size_matters else 1.0)
    chance, offset, confidence = rng.random(), rng.normal(0, 0.04 * side, 4), rng.beta(5, 2)
    if chance >= probability:
        return annotations, []
    return annotations, [(image, 0, *(box + offset), shifted(confidence, settings))]


def shifted(confidence: float, settings: Simulation) -> float:
    """A confidence with this simulation's offset."""
    return float(np.clip(confidence + settings.confidence_shift, 0.002, 0.999))


def image_row(
    rng: np.random.Generator, image: str, group: str, statistics: dict[str, float], labelled: bool
) -> dict[str, object]:
    """A row of the images table with its image statistics, scattered about those of its clip."""
    values = {k: v + rng.normal(0, 0.03) for k, v in (statistics or STATISTICS).items()}
    return {
        "image": image,
        "path": f"/nowhere/{image}.jpg",
        "split": "val",
        "group": group,
        "width": WIDTH,
        "height": HEIGHT,
        "labelled": labelled,
        "unusable": False,
        "seconds": float("nan"),
        "fingerprint": rng.bytes(32),
        **values,
    }


def annotation_row(image: str, box: Sequence[float]) -> dict[str, object]:
    """A row of the annotations table."""
    return {
        "image": image,
        "label": 0,
        "x1": box[0],
        "y1": box[1],
        "x2": box[2],
        "y2": box[3],
        "crowd": False,
    }
