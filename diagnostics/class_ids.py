"""Whether detections and annotations number their classes alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diagnostics.matching import Annotations, Detections, match
from diagnostics.precision import weighted_coco_metrics

# Below this AP50 regardless of class a detector finds nothing anyway, and with fewer annotations than this
# confusing every one can be chance.
FEWEST_AP50, FEWEST_BOXES = 0.1, 5
# Share of a class's objects that are detected as one other class. A poor detector takes many trucks for cars,
# but not nearly all of them and nearly all cars for trucks.
EXCHANGED = 0.8
# A detector may take buses for cars; three classes that are each taken for a class of their own are numbers.
MOVED_ANYWAY = 3
# The most confident detections, which tell as much as all of them.
MOST_COMPARED = 20_000


def ap50_of_other_classes(
    annotations: Annotations, detections: Detections, *, n_images: int, n_classes: int, ap50: float
) -> float | None:
    """AP50 regardless of class, where by class it is 0: no detector confuses every class of every object.

    Parameters
    ----------
    annotations, detections
        Of labelled images.
    n_images, n_classes
        Numbers of images and classes.
    ap50
        AP50 by class.

    Returns
    -------
    float or None
        At least FEWEST_AP50: the class ids of the two mean different classes. None where nothing says so.
    """
    if not (ap50 == 0 and n_classes > 1 and len(annotations.image) >= FEWEST_BOXES and len(detections.image)):
        return None
    table = match(
        replace(annotations, label=np.zeros_like(annotations.label)),
        replace(detections, label=np.zeros_like(detections.label)),
        n_images=n_images,
        n_classes=1,
    )
    found = float(weighted_coco_metrics(table, np.ones((1, n_images), bool))["ap50"][0])
    return found if found >= FEWEST_AP50 else None


def exchanged_classes(
    annotations: Annotations, detections: Detections, *, n_images: int, n_classes: int
) -> dict[int, int]:
    """Classes that labels and detections seem to number in another order: annotated -> detected class; empty
    for none.

    Nearly all objects of each, by the most confident detection with an IoU of 0.5, are detected as another
    class. They are the same classes in another order, or each has another class of its own, as where one of
    two numberings begins elsewhere or leaves numbers out: no class at all is detected as itself, or three or
    more are not.
    """
    if n_classes < 2 or not len(annotations.image) or not len(detections.image):
        return {}
    if len(detections.image) > MOST_COMPARED:
        detections = detections.take(np.argpartition(-detections.confidence, MOST_COMPARED)[:MOST_COMPARED])
    table = match(
        replace(annotations, label=np.zeros_like(annotations.label)),
        replace(detections, label=np.zeros_like(detections.label)),
        n_images=n_images,
        n_classes=1,
        ious=(0.5,),
    )
    found = (table.true_positive[:, 0] > 0) & (table.partner >= 0)
    actual = annotations.label[table.partner[found]]
    predicted = detections.label[table.row[table.matched[found]]]
    taken: dict[int, int] = {}
    for label in np.unique(actual).tolist():
        classes, counts = np.unique(predicted[actual == label], return_counts=True)
        if counts.sum() >= FEWEST_BOXES and counts.max() >= EXCHANGED * counts.sum():
            taken[label] = int(classes[counts.argmax()])
    moved = {label: other for label, other in taken.items() if label != other}
    others = set(moved.values())
    is_order = others == set(moved)
    is_shift = len(others) == len(moved) and (len(moved) == len(taken) or len(moved) >= MOVED_ANYWAY)
    return moved if len(moved) > 1 and (is_order or is_shift) else {}
