"""The FiftyOne dataset as plain documents, made in one go from our tables. Ids come from what they name, so a link stays good when a report is written again.

Adding samples one by one and evaluating them in the database takes seconds for a hundred images; these documents are what that would leave behind.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from bson import ObjectId

from datasets.corrections import LABEL_NEXT, PICKED, TAGGED
from datasets.tables import CORNERS, OWN
from diagnostics import gallery, slices
from diagnostics.domain import BOX_ATTRIBUTES, Domain
from diagnostics.error_types import missed_annotations
from diagnostics.findings import Findings
from diagnostics.label_free import SHOWN
from diagnostics.matching import Floats

# Boxes below stay in our tables: they matter for AP and to nobody's eyes.
SHOWN_FLOOR = 0.05
LOOKS = ("brightness", "contrast", "saturation", "sharpness")
# IoU thresholds beyond 0.5 at which a detection is told as right or wrong: what "strict" means in COCO's tables, and where sloppy boxes end.
STRICT = (0.75, 0.9)
TRAINING_SHOWN = 3
# Attributes to slice by that are fields of an image anyway.
PLAIN_FIELDS = {"clip": "group", "split": "split"}
Document = dict[str, Any]


def object_id(*names: object) -> ObjectId:
    """An id that is always the same for the same names."""
    return ObjectId(
        hashlib.sha256("\0".join(map(str, names)).encode("utf-8", "backslashreplace")).digest()[:12]
    )


def sample_id(domain: str, image: str) -> ObjectId:
    """Id of an image."""
    return object_id("sample", domain, image)


def evaluation_key(domain: Domain, model: str = "") -> str:
    """A valid evaluation key for a domain, and for another model than the report's."""
    return f"eval_{part_of_name(domain.name)}" + (f"_vs_{part_of_name(model)}" if model else "")


def part_of_name(text: str) -> str:
    """Text as a part of a field's name, which takes letters of ASCII only; other ones are told apart by a hash."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    if plain and text.isascii():
        return plain
    return f"{plain}_{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:6]}".lstrip("_")


def slice_field(attribute: str) -> str:
    """The field of an image in which an attribute stands."""
    if attribute in PLAIN_FIELDS:
        return PLAIN_FIELDS[attribute]
    return ("slice_own_" if attribute.startswith(OWN) else "slice_") + part_of_name(
        attribute.removeprefix(OWN)
    )


@dataclass(frozen=True)
class Boxes:
    """Documents by image, the ids of a domain's boxes by row, and (truth label, predicted label, IoU, confidence, truth id, prediction id) of FiftyOne's evaluation."""

    truths: dict[str, list[Document]]
    predictions: dict[str, list[Document]]
    truth_ids: list[ObjectId]
    matches: list[tuple[Any, ...]]


def fractions(corners: Floats, sizes: Floats) -> list[list[float]]:
    """FiftyOne's boxes: left, top, width, height as fractions, from corners (n, 4) and image sizes (n, 2)."""
    relative = corners / np.tile(sizes, 2)
    relative[:, 2:] -= relative[:, :2]
    result: list[list[float]] = relative.tolist()
    return result


def _box_ids(kind: str, domain: str, boxes: pd.DataFrame, *more: str) -> list[ObjectId]:
    """An id for each box, from its image, class and place; the n-th of equal ones."""
    seen: Counter[tuple[object, ...]] = Counter()
    ids = []
    for image, label, *corners in boxes[["image", "label", *CORNERS]].itertuples(index=False, name=None):
        key = (image, label, *(round(c, 1) for c in corners))
        ids.append(object_id(kind, domain, *key, seen[key], *more))
        seen[key] += 1
    return ids


def as_written(truth: Document) -> str:
    """A label as it was written, for telling later what people changed: id, class, left, top, width, height, crowd."""
    return json.dumps([str(truth["_id"]), truth["label"], *truth["bounding_box"], truth["iscrowd"]])


def _strict_key(key: str, iou: float) -> str:
    """Field of a box that says whether it is right at a stricter IoU."""
    return f"{key}_{100 * iou:.0f}"


def _strict_true_positives(domain: Domain) -> dict[float, set[int]]:
    """Rows of detections that hit an object, for each IoU of STRICT."""
    table = domain.table
    rows = domain.scored_detections.index.to_numpy()
    return {iou: set(rows[table.row[table.flags(iou)[0]]].tolist()) for iou in STRICT}


def _found_at(domain: Domain) -> dict[int, float]:
    """Row of an object -> confidence of the detection that true positives it."""
    true_positives = domain.outcomes[domain.outcomes["outcome"] == "true_positive"]
    return dict(zip(true_positives["partner"].tolist(), true_positives["confidence"].tolist(), strict=True))


def gallery_places(cards: pd.DataFrame) -> pd.Series:
    """Number of each card among those of its image, from 1: a view of one number shows one box an image."""
    return cards.groupby(["domain", "image"], sort=False).cumcount() + 1


def _gallery_rows_of(domain: Domain, cards: pd.DataFrame) -> tuple[dict[int, int], dict[int, int]]:
    """Place in the gallery by row of detections, and by row of boxes. An object that a carded detection came near to goes with it."""
    mine = cards.assign(place=gallery_places(cards))
    mine = mine[mine["domain"] == domain.name]
    detected = mine[mine["detection"] >= 0]
    predictions = dict(zip(detected["detection"].tolist(), detected["place"].tolist(), strict=True))
    if not len(domain.annotations):
        return predictions, {}
    where = {
        (image, *corners): row
        for row, (image, *corners) in enumerate(
            domain.annotations[["image", *CORNERS]].itertuples(index=False, name=None)
        )
    }
    missed = mine[mine["detection"] < 0]
    truths = {
        where[key]: place
        for *key_, place in missed[["image", *CORNERS, "place"]].itertuples(index=False, name=None)
        if (key := tuple(key_)) in where
    }
    if domain.labelled.any():
        found = domain.outcomes
        rows = domain.scored_detections.index.to_numpy()[found["row"].to_numpy()]
        for row, partner in zip(rows.tolist(), found["partner"].tolist(), strict=True):
            if row in predictions and partner >= 0:
                truths.setdefault(partner, predictions[row])
    return predictions, truths


def boxes_of(domain: Domain, cards: pd.DataFrame, model: str = "") -> Boxes:
    """Everything drawn into a domain's images. cards: the gallery's. model: whose detections they are, if not the report's own run's.

    A box is named by what it is and where, so that what hangs on it stays with it when others come and go.
    """
    key = evaluation_key(domain, model)
    carded, carded_truths = _gallery_rows_of(domain, cards)
    if not domain.labelled.any():
        return Boxes({}, _predictions_of(domain, key, model, carded, {}), [], [])
    truth_ids = _box_ids("truth", domain.name, domain.annotations)
    found = domain.outcomes
    rows = domain.scored_detections.index.to_numpy()[found["row"].to_numpy()].tolist()
    columns = (found[name].tolist() for name in ("outcome", "nearest_iou", "partner"))
    outcomes = dict(zip(rows, zip(*columns, strict=True), strict=True))
    predictions = _predictions_of(domain, key, model, carded, outcomes)
    return Boxes(
        _truths_of(domain, key, truth_ids, carded_truths),
        predictions,
        truth_ids,
        _matches_of(domain, truth_ids, predictions, outcomes),
    )


def _truths_of(
    domain: Domain, key: str, ids: list[ObjectId], carded: dict[int, int]
) -> dict[str, list[Document]]:
    """A labelled domain's objects by image. carded: row -> place in the gallery."""
    drawn: dict[str, list[Document]] = defaultdict(list)
    boxes = domain.annotations
    if not len(boxes):
        return drawn
    missed, unfound = (
        set(missed_annotations(domain.table, domain.outcomes, confidence=c).tolist())
        for c in (SHOWN, SHOWN_FLOOR)
    )
    at = _found_at(domain)
    parts = zip(
        *(domain.parts(name, domain.annotation_arrays).tolist() for name in BOX_ATTRIBUTES), strict=True
    )
    columns = (boxes.index.tolist(), *(boxes[name].tolist() for name in ("image", "label", "crowd")))
    for row, (number, image, label, crowd, place, part) in enumerate(
        zip(*columns, _places_of(domain, boxes), parts, strict=True)
    ):
        drawn[image].append(
            {
                "_id": ids[row],
                "_cls": "Detection",
                "attributes": {},
                "tags": [],
                "label": domain.classes[label],
                "bounding_box": place,
                "iscrowd": bool(crowd),
                "outcome": "missed" if row in missed else "detected",
                "detected_at": at.get(row),
                key: "fn" if row in unfound else "tp",
                "row": number,
                "card": carded.get(row),
                **dict(zip(BOX_ATTRIBUTES, part, strict=True)),
            }
        )
    return drawn


def _predictions_of(
    domain: Domain, key: str, model: str, carded: dict[int, int], outcomes: dict[int, tuple[str, float, int]]
) -> dict[str, list[Document]]:
    """A domain's shown detections by image. outcomes: row -> outcome, IoU and partner; empty where nothing is labelled."""
    drawn: dict[str, list[Document]] = defaultdict(list)
    kept = domain.detections[domain.detections["confidence"] >= SHOWN_FLOOR]
    labelled = bool(domain.labelled.any())
    sizes = (
        dict(zip(domain.scored_detections.index.tolist(), _parts_of(domain), strict=True)) if labelled else {}
    )
    strict = _strict_true_positives(domain) if labelled else {}
    columns = (kept.index.tolist(), *(kept[name].tolist() for name in ("image", "label", "confidence")))
    for name, row, image, label, confidence, place in zip(
        _box_ids("prediction", domain.name, kept, *([model] if model else [])),
        *columns,
        _places_of(domain, kept),
        strict=True,
    ):
        box: Document = {
            "_id": name,
            "_cls": "Detection",
            "attributes": {},
            "tags": [],
            "label": domain.classes[label],
            "bounding_box": place,
            "confidence": confidence,
            "row": row,
            "card": carded.get(row),
        }
        if labelled:
            # A detection the matching left out (beyond the limit an image) counts as ignored, not as an error.
            what, iou, _ = outcomes.get(row, ("ignored", 0.0, -1))
            box |= {"outcome": what, "iou": iou}
            box |= dict(zip(BOX_ATTRIBUTES, sizes.get(row, ()), strict=False))
            if what != "ignored":
                box[key] = "tp" if what == "true_positive" else "fp"
                box |= {_strict_key(key, t): "tp" if row in rows else "fp" for t, rows in strict.items()}
        drawn[image].append(box)
    return drawn


def _matches_of(
    domain: Domain,
    truth_ids: list[ObjectId],
    predictions: dict[str, list[Document]],
    outcomes: dict[int, tuple[str, float, int]],
) -> list[tuple[Any, ...]]:
    """FiftyOne's pairs of labels: true positives, false positives, and objects that nothing shown true positives."""
    labels = [domain.classes[label] for label in domain.annotations["label"].tolist()]
    matches: list[tuple[Any, ...]] = []
    used: set[int] = set()
    for box in (box for boxes in predictions.values() for box in boxes):
        what, iou, partner = outcomes.get(box["row"], ("ignored", 0.0, -1))
        if what == "true_positive":
            used.add(partner)
            matches.append(
                (
                    labels[partner],
                    box["label"],
                    iou,
                    box["confidence"],
                    str(truth_ids[partner]),
                    str(box["_id"]),
                )
            )
        elif what != "ignored":
            matches.append((None, box["label"], None, box["confidence"], None, str(box["_id"])))
    return matches + [
        (labels[row], None, None, None, str(truth_ids[row]), None)
        for row, crowd in enumerate(domain.annotations["crowd"].tolist())
        if row not in used and not crowd
    ]


def _places_of(domain: Domain, boxes: pd.DataFrame) -> list[list[float]]:
    """FiftyOne's boxes of a table of this domain."""
    size = domain.images.set_index("image")[["width", "height"]]
    return fractions(boxes[CORNERS].to_numpy(float), size.loc[boxes["image"]].to_numpy(float))


def _parts_of(domain: Domain) -> Iterator[tuple[str, ...]]:
    """The ranges of OBJECT_ATTRIBUTES in which each scored detection lies."""
    return zip(
        *(domain.parts(name, domain.detection_arrays).tolist() for name in BOX_ATTRIBUTES), strict=True
    )


def samples_of(domain: Domain, boxes: Boxes, findings: Findings, dataset: ObjectId) -> Iterator[Document]:
    """One document an image."""
    key, now = evaluation_key(domain), datetime.now(UTC)
    attributes = _attributes_by_image(domain, findings)
    novelty = findings.novelty.get(domain.name, np.full(len(domain.images), np.nan))
    chances = findings.shift_scores.get(domain.name, np.full(len(domain.images), np.nan))
    like = _nearest_training(domain, findings)
    cards = findings.cards.loc[findings.cards["domain"] == domain.name, "image"].value_counts().to_dict()
    by_hand = {c: c.removeprefix(TAGGED) for c in domain.images.columns if c.startswith(TAGGED)}
    ranked = findings.next[findings.next["domain"] == domain.name]
    ranks = dict(zip(ranked["image"], ranked["rank"], strict=True))
    for place, row in enumerate(domain.images.to_dict("records")):
        image = row["image"]
        found = boxes.predictions.get(image, [])
        shown = [box for box in found if box["confidence"] >= SHOWN]
        tags = [tag for column, tag in by_hand.items() if row[column] == "yes"]
        tags += [LABEL_NEXT] * (row.get(PICKED) == "yes")
        sample: Document = {
            "_id": sample_id(domain.name, image),
            "_dataset_id": dataset,
            "_media_type": "image",
            # FiftyOne draws random subsets by it.
            "_rand": int.from_bytes(
                hashlib.sha256(image.encode("utf-8", "backslashreplace")).digest()[:6], "big"
            )
            / 2**48,
            "filepath": row["path"],
            "tags": [*(tag for tag in (domain.role, row["split"]) if tag), *tags],
            "tags_written": tags,
            "metadata": {
                "_cls": "ImageMetadata",
                "width": int(row["width"]),
                "height": int(row["height"]),
            },
            "created_at": now,
            "last_modified_at": now,
            "image_id": image,
            "domain": domain.name,
            "group": row["group"],
            "split": row["split"] or None,
            **{name: float(row[name]) for name in LOOKS if name in row},
            "detections_shown": len(shown),
            "predictions": {"_cls": "Detections", "detections": found},
            "nearest_training": like[place] if like else None,
            "cards": cards.get(image),
            "novelty": float(novelty[place]) if math.isfinite(novelty[place]) else None,
            "shift_score": float(chances[place]) if math.isfinite(chances[place]) else None,
            "seconds": float(row["seconds"]) if math.isfinite(row["seconds"]) else None,
            "label_next": int(ranks[image]) if image in ranks else None,
            **attributes.get(image, {}),
        }
        if row["labelled"]:
            annotations = boxes.truths.get(image, [])
            sample |= {
                "ground_truth": {"_cls": "Detections", "detections": annotations},
                "labels_written": [as_written(o) for o in annotations],
                "false_positives": sum(box["outcome"] not in ("true_positive", "ignored") for box in shown),
                "missed": sum(o["outcome"] == "missed" for o in annotations),
                "outcome": _image_outcome(shown, annotations),
                f"{key}_tp": sum(box["outcome"] == "true_positive" for box in found),
                f"{key}_fp": sum(box["outcome"] not in ("true_positive", "ignored") for box in found),
                f"{key}_fn": sum(o[key] == "fn" for o in annotations),
            }
        yield sample


def _image_outcome(shown: list[Document], annotations: list[Document]) -> str:
    """What goes wrong in an image, in one word or three."""
    wrong = any(box["outcome"] not in ("true_positive", "ignored") for box in shown)
    missed = any(o["outcome"] == "missed" for o in annotations)
    return {(False, False): "right", (True, False): "false positives", (False, True): "missed"}.get(
        (wrong, missed), "false positives and misses"
    )


def _attributes_by_image(domain: Domain, findings: Findings) -> dict[str, dict[str, str]]:
    """Slice fields of labelled images."""
    if not domain.labelled.any():
        return {}
    table = slices.attributes(domain, slices.edges(findings.domains)).set_index("image").drop(columns="clip")
    names = {attribute: slice_field(str(attribute)) for attribute in table.columns}
    return {
        str(image): {names[attribute]: str(value) for attribute, value in row.items() if value}
        for image, row in table.to_dict("index").items()
    }


def _nearest_training(domain: Domain, findings: Findings) -> list[list[str]]:
    """For each image the training images most like it; empty without training images."""
    if findings.training is None or not domain.image_embeddings.shape[1]:
        return []
    nearest = gallery.Nearest(findings.training)
    return [
        [str(entry["image"]) for entry in nearest.to_image(v, count=TRAINING_SHOWN)]
        for v in domain.image_embeddings
    ]


def schema(findings: Findings) -> dict[str, str]:
    """Name -> type ("string", "strings", "int", "float", "bool", "detections") of every field, those of boxes by their whole path, in the order they are declared."""
    fields = {
        **dict.fromkeys(("image_id", "domain", "group", "split"), "string"),
        **dict.fromkeys(("nearest_training", "tags_written", "labels_written"), "strings"),
        **dict.fromkeys((*LOOKS, "novelty", "shift_score", "seconds"), "float"),
        **dict.fromkeys(("detections_shown", "label_next", "cards"), "int"),
        "predictions": "detections",
        **_under(
            "predictions",
            box_fields([evaluation_key(domain) for domain in findings.domains if domain.labelled.any()]),
        ),
    }
    # Also where nothing is labelled: people draw there.
    fields |= {"ground_truth": "detections", "ground_truth.detections.iscrowd": "bool"}
    scored = [domain for domain in findings.domains if domain.labelled.any()]
    if scored:
        fields |= {
            **_under(
                "ground_truth",
                {
                    "outcome": "string",
                    "detected_at": "float",
                    "row": "int",
                    "card": "int",
                    **dict.fromkeys(BOX_ATTRIBUTES, "string"),
                    **{evaluation_key(domain): "string" for domain in scored},
                },
            ),
            "outcome": "string",
            "false_positives": "int",
            "missed": "int",
        }
    for domain in scored:
        key = evaluation_key(domain)
        fields |= dict.fromkeys((f"{key}_tp", f"{key}_fp", f"{key}_fn"), "int")
        table = slices.attributes(domain, slices.edges(findings.domains))
        fields |= {slice_field(str(name)): "string" for name in table.columns.drop(["image", "clip"])}
    return fields


def _under(field: str, boxes: dict[str, str]) -> dict[str, str]:
    """Fields of boxes by their whole path."""
    return {f"{field}.detections.{name}": kind for name, kind in boxes.items()}


def box_fields(keys: list[str]) -> dict[str, str]:
    """Name -> type of the fields of detections. keys: evaluation keys of the labelled domains."""
    fields = {"row": "int", "card": "int"}
    if keys:
        fields |= {"outcome": "string", "iou": "float", **dict.fromkeys(BOX_ATTRIBUTES, "string")}
    for key in keys:
        fields |= dict.fromkeys((key, *(_strict_key(key, iou) for iou in STRICT)), "string")
    return fields


def own_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags that a person set: not those that every report writes."""
    return tuple(sorted(set(tags) - WRITTEN_TAGS))


# Role and split of an image: what `samples_of` tags it with.
WRITTEN_TAGS = frozenset({"in_domain", "real_world", "training", "train", "val", "test"})
