"""Which failures to show: the telling ones, spread over clips, each with the training images most like it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

from diagnostics.domain import Domain
from diagnostics.error_types import missed_annotations
from diagnostics.label_free import SHOWN
from diagnostics.matching import Floats, Ints

# Cards of a kind: enough to see a pattern.
PER_KIND = 24
# Cards from one clip before every other clip has had its turn.
CLUSTERS = 4
KINDS = ("false_positive", "missed", "near_miss", "true_positive", "detection")
COLUMNS = (
    "kind",
    "domain",
    "image",
    "group",
    "label",
    "x1",
    "y1",
    "x2",
    "y2",
    "confidence",
    "cluster",
    "detection",
    "nearest",
)
CORNERS = ["x1", "y1", "x2", "y2"]


def spread(frame: pd.DataFrame, by: str, limit: int) -> pd.DataFrame:
    """The first rows of each group in turn: best of every clip, then second best, until limit."""
    turn = frame.groupby(by, sort=False).cumcount()
    return frame.assign(_turn=turn).sort_values("_turn", kind="stable").drop(columns="_turn").head(limit)


def _cluster_by_appearance(vectors: Floats, seed: int) -> Ints:
    """Cluster number of each card by what it looks like; 0 for all when there are few."""
    if len(vectors) < 3 * CLUSTERS or vectors.shape[1] == 0:
        return np.zeros(len(vectors), np.int64)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return np.asarray(KMeans(CLUSTERS, n_init=4, random_state=seed).fit_predict(unit), np.int64)


def _detections_of_outcome(domain: Domain, outcomes: Sequence[str], lowest: float) -> pd.DataFrame:
    """Detections of some outcomes at or above a confidence, most confident first, with their row in domain.detections."""
    found = domain.outcomes[
        domain.outcomes["outcome"].isin(outcomes) & (domain.outcomes["confidence"] >= lowest)
    ]
    chosen = domain.scored_detections.iloc[found["row"].to_numpy()]
    return chosen.assign(detection=chosen.index).sort_values("confidence", ascending=False, kind="stable")


def _missed_rows(domain: Domain) -> pd.DataFrame:
    """Objects that nothing true positives at the shown confidence, largest first."""
    rows = missed_annotations(domain.table, domain.outcomes, confidence=SHOWN)
    missed = domain.annotations.iloc[rows]
    area = (missed["x2"] - missed["x1"]) * (missed["y2"] - missed["y1"])
    return missed.assign(confidence=float("nan"), detection=-1, area=area).sort_values(
        "area", ascending=False, kind="stable"
    )


class Nearest:
    """Finds the training detections, or images, most like a given one."""

    def __init__(self, training: Domain | None) -> None:
        self.training = training
        if training is None:
            return
        sure = np.flatnonzero(training.detections["confidence"].to_numpy() >= SHOWN)
        self.rows = sure
        self.annotations = _unit(training.detection_embeddings[sure])
        self.images = _unit(training.image_embeddings)

    def to_detection(self, vector: Floats, count: int = 2) -> list[dict[str, object]]:
        """Training images with the most similar detection: image and its box, at most one an image."""
        if self.training is None or not len(self.rows) or len(vector) != self.annotations.shape[1]:
            return []
        result: list[dict[str, object]] = []
        for place in np.argsort(-(self.annotations @ _unit(vector[None])[0])):
            row = self.training.detections.iloc[int(self.rows[place])]
            if all(entry["image"] != row["image"] for entry in result):
                result.append({"image": row["image"], "box": [float(row[c]) for c in CORNERS]})
            if len(result) == count:
                break
        return result

    def to_image(self, vector: Floats, count: int = 2) -> list[dict[str, object]]:
        """Training images most similar as a whole."""
        if self.training is None or not len(self.images):
            return []
        order = np.argsort(-(self.images @ _unit(vector[None])[0]))[:count]
        return [{"image": str(self.training.images["image"].iloc[int(i)]), "box": None} for i in order]


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def choose(domain: Domain, nearest: Nearest, *, seed: int) -> pd.DataFrame:
    """Cards of one domain: COLUMNS. A labelled domain gives errors (and true positives); an unlabelled one its most confident detections.

    detection: row in domain.detections, -1 for a missed object. nearest: list of {image, box} in training.
    """
    group_of = domain.images.set_index("image")["group"]
    place_of = pd.Series(np.arange(len(domain.images)), index=domain.images["image"])
    parts: dict[str, pd.DataFrame] = {}
    if domain.labelled.any():
        parts["false_positive"] = _detections_of_outcome(
            domain, ["background", "duplicate", "class", "both"], SHOWN / 5
        )
        parts["near_miss"] = _detections_of_outcome(domain, ["location"], SHOWN / 5)
        parts["true_positive"] = _detections_of_outcome(domain, ["true_positive"], SHOWN)
        parts["missed"] = _missed_rows(domain)
    else:
        shown = domain.detections[domain.detections["confidence"] >= SHOWN / 5]
        parts["detection"] = shown.assign(detection=shown.index).sort_values(
            "confidence", ascending=False, kind="stable"
        )
    cards = []
    for kind in KINDS:
        part = parts.get(kind)
        if part is None or part.empty:
            continue
        # One card an image: frames next to each other show the same thing.
        part = part.drop_duplicates("image")
        part = spread(part.assign(group=part["image"].map(group_of)), "group", PER_KIND).assign(
            kind=kind, domain=domain.name
        )
        rows = part["detection"].to_numpy()
        part["cluster"] = (
            _cluster_by_appearance(domain.detection_embeddings[rows], seed)
            if kind in ("false_positive", "detection")
            else 0
        )
        part["nearest"] = [
            nearest.to_detection(domain.detection_embeddings[row])
            if row >= 0
            else nearest.to_image(domain.image_embeddings[int(place_of[image])])
            for row, image in zip(rows, part["image"], strict=True)
        ]
        cards.append(part[list(COLUMNS)])
    return pd.concat(cards, ignore_index=True) if cards else pd.DataFrame(columns=list(COLUMNS))
