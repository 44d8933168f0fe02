"""Whether detections and annotations number their classes alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diagnostics.matching import Annotations, Detections, match
from diagnostics.precision import weighted_coco_metrics

# Below this AP50 regardless of class a detector finds nothing anyway, and with fewer annotations than this
# confusing every one can be chance.
FEWEST_AP50, FEWEST_BOXES = 0.1, 5


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
