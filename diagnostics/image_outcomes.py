"""What a detector made of each image, in a word: for maps and lists of whole images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from diagnostics.domain import Domain
from diagnostics.error_types import missed_annotations

# (any missed object, any wrong detection) -> the outcome of a labelled image.
OUTCOMES = {
    (False, False): "all right",
    (True, False): "missed objects",
    (False, True): "false positives",
    (True, True): "missed objects and false positives",
}
UNLABELLED = "not labelled"
NOTHING = "no object"


def image_outcomes(domain: Domain, confidence: float) -> pd.DataFrame:
    """The outcome and the most frequent class of every image of a domain.

    Parameters
    ----------
    domain
        The domain, labelled or not.
    confidence
        Detections at or above it count.

    Returns
    -------
    pandas.DataFrame
        One row an image, in the order of domain.images: image; outcome (one of OUTCOMES, or UNLABELLED);
        class, the one with most annotations, or with most detections where the image has no labels, NOTHING
        without any.
    """
    images = domain.images["image"]
    shown = domain.detections[domain.detections["confidence"] >= confidence]
    outcome = np.full(len(images), UNLABELLED, object)
    if domain.labelled.any():
        missed, wrong = _errors(domain, confidence)
        outcome[domain.labelled] = [
            OUTCOMES[pair] for pair in zip(missed.tolist(), wrong.tolist(), strict=True)
        ]
    annotated = _most_frequent(domain.annotations)
    predicted = _most_frequent(shown)
    names = dict(enumerate(domain.classes))
    label = images.map(annotated).where(domain.labelled, images.map(predicted))
    return pd.DataFrame({"image": images, "outcome": outcome, "class": label.map(names).fillna(NOTHING)})


def _errors(domain: Domain, confidence: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which labelled images have a missed object, and which a detection that is no true positive,
    (n,) each.
    """
    count = len(domain.labelled_images)
    missed, wrong = np.zeros(count, bool), np.zeros(count, bool)
    rows = missed_annotations(domain.table, domain.outcomes, confidence=confidence)
    missed[domain.table.annotation_image[rows]] = True
    outcomes = domain.outcomes
    errors = (outcomes["confidence"] >= confidence) & (outcomes["outcome"] != "true_positive")
    wrong[outcomes["image"][errors].to_numpy()] = True
    return missed, wrong


def _most_frequent(boxes: pd.DataFrame) -> dict[str, int]:
    """The label that most boxes of each image have; the lower one where two are equally frequent."""
    counts = boxes.groupby(["image", "label"], sort=True).size()
    if counts.empty:
        return {}
    best = counts.groupby(level="image").idxmax()
    return {str(image): int(label) for image, label in best}
