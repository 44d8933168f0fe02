"""Which detections and missed objects to show, spread over clips, with the most similar training images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

from diagnostics.domain import Domain
from diagnostics.error_types import missed_annotations
from diagnostics.label_free import SHOWN
from diagnostics.matching import Floats, Ints

# Cards of one kind: enough to show a pattern. With many domains fewer, so that all of them together stay
# below MAX_CARDS, which a page opens in a second; three still show whether a kind has one pattern or several.
PER_KIND, MIN_PER_KIND = 24, 3
MAX_CARDS = 360
# Clusters of similar cards.
CLUSTERS = 4
KINDS = ("false_positive", "wrong_class", "missed", "near_miss", "true_positive", "detection")
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
    "actual",
    "predicted",
    "cluster",
    "detection",
    "nearest",
)
CORNERS = ["x1", "y1", "x2", "y2"]


def _round_robin(frame: pd.DataFrame, by: str, limit: int) -> pd.DataFrame:
    """At most limit rows: the first row of every group, then the second of every group, and so on."""
    turn = frame.groupby(by, sort=False).cumcount()
    return frame.assign(_turn=turn).sort_values("_turn", kind="stable").drop(columns="_turn").head(limit)


def _cluster_by_appearance(vectors: Floats, seed: int) -> Ints:
    """Cluster number of each card by its embedding, (n,); 0 for all when there are few cards."""
    if len(vectors) < 3 * CLUSTERS or vectors.shape[1] == 0:
        return np.zeros(len(vectors), np.int64)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return np.asarray(KMeans(CLUSTERS, n_init=4, random_state=seed).fit_predict(unit), np.int64)


def _detections_of_outcome(domain: Domain, outcomes: Sequence[str], lowest: float) -> pd.DataFrame:
    """Detections of some outcomes at or above a confidence, most confident first.

    The column `detection` is their row in domain.detections; actual is the class of the annotation they lie
    on, "" for none.
    """
    chosen = domain.outcomes[
        domain.outcomes["outcome"].isin(outcomes) & (domain.outcomes["confidence"] >= lowest)
    ]
    detections = domain.scored_detections.iloc[chosen["row"].to_numpy()]
    names = np.array([*domain.classes, ""], object)
    labels = np.append(domain.annotation_arrays.label, -1)
    return detections.assign(
        detection=detections.index,
        actual=names[labels[chosen["partner"].to_numpy()]],
        predicted=names[detections["label"].to_numpy(np.int64)],
    ).sort_values("confidence", ascending=False, kind="stable")


def _missed_rows(domain: Domain) -> pd.DataFrame:
    """Annotations missed at the confidence SHOWN, largest first; predicted: the class of the most confident
    detection on each, "" for none.
    """
    rows = missed_annotations(domain.table, domain.outcomes, confidence=SHOWN)
    missed = domain.annotations.iloc[rows]
    area = (missed["x2"] - missed["x1"]) * (missed["y2"] - missed["y1"])
    wrong = domain.outcomes[
        (domain.outcomes["outcome"] == "class") & (domain.outcomes["confidence"] >= SHOWN)
    ]
    on = wrong.drop_duplicates("partner").set_index("partner")["label"]
    names = np.array([*domain.classes, ""], object)
    return missed.assign(
        confidence=float("nan"),
        detection=-1,
        area=area,
        actual=names[missed["label"].to_numpy(np.int64)],
        predicted=names[on.reindex(rows).fillna(-1).to_numpy(np.int64)],
    ).sort_values("area", ascending=False, kind="stable")


def _pair_numbers(cards: pd.DataFrame) -> Ints:
    """Number of each card's pair of classes, the most frequent pair first, (n,)."""
    pairs = cards["actual"] + "\0" + cards["predicted"]
    order = {pair: number for number, pair in enumerate(pairs.value_counts().index)}
    return np.array([order[pair] for pair in pairs], np.int64)


class Nearest:
    """The training detections, or images, most similar to a given one."""

    def __init__(self, training: Domain | None) -> None:
        self.training = training
        if training is None:
            return
        self.rows = np.flatnonzero(training.detections["confidence"].to_numpy() >= SHOWN)
        self.detection_embeddings = _unit(training.detection_embeddings[self.rows])
        self.image_embeddings = _unit(training.image_embeddings)

    def to_detection(self, vector: Floats, count: int = 2) -> list[dict[str, object]]:
        """Training images with the most similar detection: image and box of the detection, one per image."""
        if self.training is None or not len(self.rows) or len(vector) != self.detection_embeddings.shape[1]:
            return []
        nearest: list[dict[str, object]] = []
        for index in np.argsort(-(self.detection_embeddings @ _unit(vector[None])[0])):
            detection = self.training.detections.iloc[int(self.rows[index])]
            if all(entry["image"] != detection["image"] for entry in nearest):
                nearest.append({"image": detection["image"], "box": [float(detection[c]) for c in CORNERS]})
            if len(nearest) == count:
                break
        return nearest

    def to_image(self, vector: Floats, count: int = 2) -> list[dict[str, object]]:
        """Training images with the most similar image embedding."""
        if self.training is None or not len(self.image_embeddings):
            return []
        order = np.argsort(-(self.image_embeddings @ _unit(vector[None])[0]))[:count]
        return [{"image": str(self.training.images["image"].iloc[int(i)]), "box": None} for i in order]


def _unit(vectors: Floats) -> Floats:
    """Vectors scaled to length 1."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def cards_per_kind(domains: int) -> int:
    """Cards of one kind in each of so many domains; a labelled one has five kinds."""
    return min(PER_KIND, max(MIN_PER_KIND, MAX_CARDS // (5 * max(domains, 1))))


def choose_cards(domain: Domain, nearest: Nearest, *, per_kind: int = PER_KIND, seed: int) -> pd.DataFrame:
    """Cards of one domain.

    A labelled domain gives its errors and true positives, an unlabelled one its most confident detections.

    Parameters
    ----------
    domain
        The domain to show.
    nearest
        Where to find similar training images.
    per_kind
        Cards of one kind, at most.
    seed
        Seed of the clustering.

    Returns
    -------
    pandas.DataFrame
        COLUMNS, one row per card. `detection` is the row in domain.detections, -1 for a missed object;
        `nearest` is a list of {image, box} in training; `actual` and `predicted` are class names, "" for
        none.
    """
    group_of = domain.images.set_index("image")["group"]
    candidates = _candidates(domain)
    cards = []
    for kind in KINDS:
        part = candidates.get(kind)
        if part is None or part.empty:
            continue
        # One card per image: neighbouring frames show the same object.
        part = part.drop_duplicates("image")
        part = _round_robin(part.assign(group=part["image"].map(group_of)), "group", per_kind).assign(
            kind=kind, domain=domain.name
        )
        part["cluster"] = (
            _cluster_by_appearance(domain.detection_embeddings[part["detection"].to_numpy()], seed)
            if kind in ("false_positive", "detection")
            else _pair_numbers(part)
            if kind == "wrong_class"
            else 0
        )
        part["nearest"] = _nearest_of(part, domain, nearest)
        cards.append(part[list(COLUMNS)])
    return pd.concat(cards, ignore_index=True) if cards else pd.DataFrame(columns=list(COLUMNS))


def _candidates(domain: Domain) -> dict[str, pd.DataFrame]:
    """Possible cards of each kind, in the order in which they are shown."""
    if not domain.labelled.any():
        shown = domain.detections[domain.detections["confidence"] >= SHOWN / 5]
        names = np.array(domain.classes, object)[shown["label"].to_numpy(np.int64)]
        by_confidence = shown.assign(detection=shown.index, actual="", predicted=names).sort_values(
            "confidence", ascending=False, kind="stable"
        )
        return {"detection": by_confidence}
    return {
        "false_positive": _detections_of_outcome(domain, ["background", "duplicate", "both"], SHOWN / 5),
        "wrong_class": _detections_of_outcome(domain, ["class"], SHOWN / 5),
        "near_miss": _detections_of_outcome(domain, ["location"], SHOWN / 5),
        "true_positive": _detections_of_outcome(domain, ["true_positive"], SHOWN),
        "missed": _missed_rows(domain),
    }


def _nearest_of(cards: pd.DataFrame, domain: Domain, nearest: Nearest) -> list[list[dict[str, object]]]:
    """The most similar training images of each card: by detection, or by image for a missed object."""
    index_of = pd.Series(np.arange(len(domain.images)), index=domain.images["image"])
    return [
        nearest.to_detection(domain.detection_embeddings[row])
        if row >= 0
        else nearest.to_image(domain.image_embeddings[int(index_of[image])])
        for row, image in zip(cards["detection"].to_numpy(), cards["image"], strict=True)
    ]
