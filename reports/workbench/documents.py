"""The FiftyOne dataset as plain documents, built in one pass from our tables.

Ids derive from what they identify, so that a link stays valid when a report is written again. Adding samples
one by one and evaluating them in the database takes seconds for 100 images and leaves the same documents.
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
from reports.workbench.shapes import has_points, mask_fields, points_by_image

# Detections of lower confidence stay in our tables: they count for AP and would clutter the images.
SHOWN_FLOOR = 0.05
IMAGE_PROPERTIES = ("brightness", "contrast", "saturation", "sharpness")
# Further IoU thresholds at which a detection is a true or false positive: COCO's "strict", and one that only
# tight boxes pass.
STRICT_IOUS = (0.75, 0.9)
TRAINING_SHOWN = 3
# Fields of key points, beside those of boxes.
PREDICTED_POINTS, ANNOTATED_POINTS = "predictions_points", "ground_truth_points"
# Attributes to slice by that have a field of their own.
PLAIN_FIELDS = {"clip": "group", "split": "split"}
# Role and split of an image, which `samples_of` writes as tags.
WRITTEN_TAGS = frozenset({"in_domain", "real_world", "training", "train", "val", "test"})
Document = dict[str, Any]
# Outcome of a detection, its IoU with the nearest annotation, and that annotation's row (-1: none).
Outcome = tuple[str, float, int]
# A detection that the matching left out (beyond its limit per image) is no error.
NOT_MATCHED: Outcome = ("ignored", 0.0, -1)


def object_id(*names: object) -> ObjectId:
    """The same id whenever the names are the same."""
    return ObjectId(
        hashlib.sha256("\0".join(map(str, names)).encode("utf-8", "backslashreplace")).digest()[:12]
    )


def sample_id(domain: str, image: str) -> ObjectId:
    """Id of an image."""
    return object_id("sample", domain, image)


def evaluation_key(domain: Domain, model: str = "") -> str:
    """A valid evaluation key for a domain's detections by this report's run, or by another model."""
    return f"eval_{field_suffix(domain.name)}" + (f"_vs_{field_suffix(model)}" if model else "")


def field_suffix(text: str) -> str:
    """Text as part of a field name, which takes ASCII letters only; a hash keeps other texts distinct."""
    plain = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    if plain and text.isascii():
        return plain
    return f"{plain}_{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:6]}".lstrip("_")


def slice_field(attribute: str) -> str:
    """Name of the image field that holds an attribute."""
    if attribute in PLAIN_FIELDS:
        return PLAIN_FIELDS[attribute]
    prefix = "slice_own_" if attribute.startswith(OWN) else "slice_"
    return prefix + field_suffix(attribute.removeprefix(OWN))


@dataclass(frozen=True)
class BoxDocuments:
    """The boxes in a domain's images as FiftyOne stores them.

    annotations: documents of `ground_truth`, by image
    detections: documents of `predictions`, by image
    annotation_ids: id of each annotation, in the order of the domain's table
    matches: FiftyOne's pairs (annotation class, detection class, IoU, confidence, annotation id,
        detection id), with None for the side that has no partner
    """

    annotations: dict[str, list[Document]]
    detections: dict[str, list[Document]]
    annotation_ids: list[ObjectId]
    matches: list[tuple[Any, ...]]


def relative_boxes(corners: Floats, sizes: Floats) -> list[list[float]]:
    """FiftyOne's boxes (left, top, width, height in [0, 1]) of corners (n, 4) in images of sizes (n, 2)."""
    relative = corners / np.tile(sizes, 2)
    relative[:, 2:] -= relative[:, :2]
    result: list[list[float]] = relative.tolist()
    return result


def _box_ids(kind: str, domain: str, boxes: pd.DataFrame, *more: str) -> list[ObjectId]:
    """An id for each box, from its image, class and corners; equal boxes are numbered."""
    counts: Counter[tuple[object, ...]] = Counter()
    ids = []
    for image, label, *corners in boxes[["image", "label", *CORNERS]].itertuples(index=False, name=None):
        key = (image, label, *(round(c, 1) for c in corners))
        ids.append(object_id(kind, domain, *key, counts[key], *more))
        counts[key] += 1
    return ids


def serialize_label(annotation: Document) -> str:
    """A label as the report wrote it (id, class, left, top, width, height, crowd), to detect later edits."""
    box = annotation["bounding_box"]
    return json.dumps([str(annotation["_id"]), annotation["label"], *box, annotation["iscrowd"]])


def _strict_key(key: str, iou: float) -> str:
    """Field of a detection that holds "tp" or "fp" at a stricter IoU."""
    return f"{key}_{100 * iou:.0f}"


def _strict_true_positives(domain: Domain) -> dict[float, set[int]]:
    """Rows of the detections that are true positives, for each IoU of STRICT_IOUS."""
    table = domain.table
    rows = domain.scored_detections.index.to_numpy()
    return {iou: set(rows[table.row[table.flags(iou)[0]]].tolist()) for iou in STRICT_IOUS}


def _confidence_by_annotation(domain: Domain) -> dict[int, float]:
    """Row of each detected annotation -> confidence of its true positive."""
    true_positives = domain.outcomes[domain.outcomes["outcome"] == "true_positive"]
    return dict(zip(true_positives["partner"].tolist(), true_positives["confidence"].tolist(), strict=True))


def number_cards(cards: pd.DataFrame) -> pd.Series:
    """Number each gallery card within its image, from 1: a view of one number shows one box per image."""
    return cards.groupby(["domain", "image"], sort=False).cumcount() + 1


def _card_numbers(domain: Domain, cards: pd.DataFrame) -> tuple[dict[int, int], dict[int, int]]:
    """Card number by row of the detections, and by row of the annotations.

    The annotation nearest to a card's detection has the same number.
    """
    own = cards.assign(number=number_cards(cards))
    own = own[own["domain"] == domain.name]
    detected = own[own["detection"] >= 0]
    by_detection = dict(zip(detected["detection"].tolist(), detected["number"].tolist(), strict=True))
    if not len(domain.annotations):
        return by_detection, {}
    annotation_rows = {
        (image, *corners): row
        for row, (image, *corners) in enumerate(
            domain.annotations[["image", *CORNERS]].itertuples(index=False, name=None)
        )
    }
    missed = own[own["detection"] < 0]
    by_annotation = {
        annotation_rows[key]: number
        for *parts, number in missed[["image", *CORNERS, "number"]].itertuples(index=False, name=None)
        if (key := tuple(parts)) in annotation_rows
    }
    if domain.labelled.any():
        outcomes = domain.outcomes
        rows = domain.scored_detections.index.to_numpy()[outcomes["row"].to_numpy()]
        for row, partner in zip(rows.tolist(), outcomes["partner"].tolist(), strict=True):
            if row in by_detection and partner >= 0:
                by_annotation.setdefault(partner, by_detection[row])
    return by_detection, by_annotation


def boxes_of(domain: Domain, cards: pd.DataFrame, model: str = "") -> BoxDocuments:
    """Build the documents of all boxes in a domain's images.

    The id of a box derives from its class and corners, so that its tags stay with it when other boxes change.

    Parameters
    ----------
    domain : Domain
        Images, annotations and detections.
    cards : DataFrame
        The gallery's cards.
    model : str
        The model that made the detections, where it is not the report's own run.

    Returns
    -------
    BoxDocuments
        Without annotations and matches where the domain has no labelled images.
    """
    key = evaluation_key(domain, model)
    by_detection, by_annotation = _card_numbers(domain, cards)
    if not domain.labelled.any():
        return BoxDocuments({}, _detection_documents(domain, model, by_detection, {}), [], [])
    annotation_ids = _box_ids("truth", domain.name, domain.annotations)
    table = domain.outcomes
    rows = domain.scored_detections.index.to_numpy()[table["row"].to_numpy()].tolist()
    columns = (table[name].tolist() for name in ("outcome", "nearest_iou", "partner"))
    outcomes = dict(zip(rows, zip(*columns, strict=True), strict=True))
    detections = _detection_documents(domain, model, by_detection, outcomes)
    return BoxDocuments(
        _annotation_documents(domain, key, annotation_ids, by_annotation),
        detections,
        annotation_ids,
        _matches(domain, annotation_ids, detections, outcomes),
    )


def _annotation_documents(
    domain: Domain, key: str, ids: list[ObjectId], card_numbers: dict[int, int]
) -> dict[str, list[Document]]:
    """A labelled domain's annotations by image."""
    documents: dict[str, list[Document]] = defaultdict(list)
    annotations = domain.annotations
    if not len(annotations):
        return documents
    missed, missed_at_floor = (
        set(missed_annotations(domain.table, domain.outcomes, confidence=c).tolist())
        for c in (SHOWN, SHOWN_FLOOR)
    )
    confidences = _confidence_by_annotation(domain)
    ranges = zip(
        *(domain.attribute_ranges(name, domain.annotation_arrays).tolist() for name in BOX_ATTRIBUTES),
        strict=True,
    )
    masks = mask_fields(domain, annotations)
    columns = (
        annotations.index.tolist(),
        *(annotations[name].tolist() for name in ("image", "label", "crowd")),
    )
    for row, (number, image, label, crowd, box, values) in enumerate(
        zip(*columns, _bounding_boxes(domain, annotations), ranges, strict=True)
    ):
        documents[image].append(
            {
                "_id": ids[row],
                "_cls": "Detection",
                "attributes": {},
                "tags": [],
                "label": domain.classes[label],
                "bounding_box": box,
                "iscrowd": bool(crowd),
                "outcome": "missed" if row in missed else "detected",
                "detected_at": confidences.get(row),
                key: "fn" if row in missed_at_floor else "tp",
                "row": number,
                "card": card_numbers.get(row),
                **dict(zip(BOX_ATTRIBUTES, values, strict=True)),
                **masks[row],
            }
        )
    return documents


def _detection_documents(
    domain: Domain, model: str, card_numbers: dict[int, int], outcomes: dict[int, Outcome]
) -> dict[str, list[Document]]:
    """A domain's detections from SHOWN_FLOOR up, by image. outcomes: by row, empty without labels."""
    documents: dict[str, list[Document]] = defaultdict(list)
    key = evaluation_key(domain, model)
    shown = domain.detections[domain.detections["confidence"] >= SHOWN_FLOOR]
    labelled = bool(domain.labelled.any())
    ranges = _detection_ranges(domain) if labelled else {}
    strict = _strict_true_positives(domain) if labelled else {}
    columns = (shown.index.tolist(), *(shown[name].tolist() for name in ("image", "label", "confidence")))
    for id_, row, image, label, confidence, box, mask in zip(
        _box_ids("prediction", domain.name, shown, *([model] if model else [])),
        *columns,
        _bounding_boxes(domain, shown),
        mask_fields(domain, shown),
        strict=True,
    ):
        document: Document = {
            "_id": id_,
            "_cls": "Detection",
            "attributes": {},
            "tags": [],
            "label": domain.classes[label],
            "bounding_box": box,
            "confidence": confidence,
            "row": row,
            "card": card_numbers.get(row),
            **mask,
        }
        if labelled:
            outcome, iou, _ = outcomes.get(row, NOT_MATCHED)
            document |= {"outcome": outcome, "iou": iou}
            document |= dict(zip(BOX_ATTRIBUTES, ranges.get(row, ()), strict=False))
            if outcome != "ignored":
                document[key] = "tp" if outcome == "true_positive" else "fp"
                document |= {
                    _strict_key(key, iou): "tp" if row in rows else "fp" for iou, rows in strict.items()
                }
        documents[image].append(document)
    return documents


def _matches(
    domain: Domain,
    annotation_ids: list[ObjectId],
    detections: dict[str, list[Document]],
    outcomes: dict[int, Outcome],
) -> list[tuple[Any, ...]]:
    """FiftyOne's pairs: true positives, detections on annotations of another class, false positives, and
    annotations without any of these.
    """
    labels = [domain.classes[label] for label in domain.annotations["label"].tolist()]
    matches: list[tuple[Any, ...]] = []
    matched: set[int] = set()
    # True positives first: a detection of another class takes an annotation only where no true positive does.
    boxes = sorted(
        ((outcomes.get(box["row"], NOT_MATCHED), box) for boxes in detections.values() for box in boxes),
        key=lambda pair: (pair[0][0] != "true_positive", -pair[1]["confidence"]),
    )
    for (outcome, iou, partner), box in boxes:
        detection_id = str(box["_id"])
        if outcome == "true_positive" or (outcome == "class" and partner not in matched):
            matched.add(partner)
            annotation_id = str(annotation_ids[partner])
            matches.append(
                (labels[partner], box["label"], iou, box["confidence"], annotation_id, detection_id)
            )
        elif outcome != "ignored":
            matches.append((None, box["label"], None, box["confidence"], None, detection_id))
    return matches + [
        (labels[row], None, None, None, str(annotation_ids[row]), None)
        for row, crowd in enumerate(domain.annotations["crowd"].tolist())
        if row not in matched and not crowd
    ]


def _bounding_boxes(domain: Domain, boxes: pd.DataFrame) -> list[list[float]]:
    """FiftyOne's boxes for a table of annotations or detections of this domain."""
    size = domain.images.set_index("image")[["width", "height"]]
    return relative_boxes(boxes[CORNERS].to_numpy(float), size.loc[boxes["image"]].to_numpy(float))


def _detection_ranges(domain: Domain) -> dict[int, tuple[str, ...]]:
    """Row of each scored detection -> its range of every attribute in BOX_ATTRIBUTES."""
    ranges = zip(
        *(domain.attribute_ranges(name, domain.detection_arrays).tolist() for name in BOX_ATTRIBUTES),
        strict=True,
    )
    return dict(zip(domain.scored_detections.index.tolist(), ranges, strict=True))


def samples_of(
    domain: Domain, boxes: BoxDocuments, findings: Findings, dataset: ObjectId
) -> Iterator[Document]:
    """Build one document per image.

    Parameters
    ----------
    domain : Domain
        The images.
    boxes : BoxDocuments
        The boxes in them.
    findings : Findings
        Slices, novelty, shift scores, gallery and images to label next.
    dataset : ObjectId
        Id of the FiftyOne dataset.

    Yields
    ------
    dict
        A document of the dataset's collection of samples, in the order of the domain's images.
    """
    now = datetime.now(UTC)
    attributes = _attributes_by_image(domain, findings)
    missing = np.full(len(domain.images), np.nan)
    novelty = findings.novelty.get(domain.name, missing)
    shift_scores = findings.shift_scores.get(domain.name, missing)
    nearest = _nearest_training(domain, findings)
    cards = findings.cards.loc[findings.cards["domain"] == domain.name, "image"].value_counts().to_dict()
    ranked = findings.next[findings.next["domain"] == domain.name]
    ranks = dict(zip(ranked["image"], ranked["rank"], strict=True))
    shown = domain.detections[domain.detections["confidence"] >= SHOWN_FLOOR]
    points = {
        PREDICTED_POINTS: points_by_image(domain, shown),
        ANNOTATED_POINTS: points_by_image(domain, domain.annotations),
    }
    for position, row in enumerate(domain.images.to_dict("records")):
        image = row["image"]
        detections = boxes.detections.get(image, [])
        sample = {
            **_image_fields(domain, row, dataset, now),
            "detections_shown": sum(box["confidence"] >= SHOWN for box in detections),
            "predictions": {"_cls": "Detections", "detections": detections},
            "nearest_training": nearest[position] if nearest else None,
            "cards": cards.get(image),
            "novelty": _finite(novelty[position]),
            "shift_score": _finite(shift_scores[position]),
            "seconds": _finite(row["seconds"]),
            "label_next": int(ranks[image]) if image in ranks else None,
            **attributes.get(image, {}),
            **{
                field: _keypoints(domain, image, field, of_image[image])
                for field, of_image in points.items()
                if image in of_image
            },
        }
        if row["labelled"]:
            annotations = boxes.annotations.get(image, [])
            sample |= _evaluation_fields(evaluation_key(domain), annotations, detections)
        yield sample


def _keypoints(domain: Domain, image: str, field: str, objects: list[tuple[int, Floats]]) -> Document:
    """The key points of an image's objects. field: where they will stand; objects: class and points
    of each.
    """
    return {
        "_cls": "Keypoints",
        "keypoints": [
            {
                "_id": object_id(field, domain.name, image, number),
                "_cls": "Keypoint",
                "attributes": {},
                "tags": [],
                "label": domain.classes[label],
                "points": points.tolist(),
            }
            for number, (label, points) in enumerate(objects)
        ],
    }


def _image_fields(domain: Domain, row: dict[Any, Any], dataset: ObjectId, now: datetime) -> Document:
    """The fields that FiftyOne needs, and those that name and describe the image."""
    image = row["image"]
    digest = hashlib.sha256(image.encode("utf-8", "backslashreplace")).digest()
    tags = [
        column.removeprefix(TAGGED) for column in row if column.startswith(TAGGED) and row[column] == "yes"
    ]
    tags += [LABEL_NEXT] * (row.get(PICKED) == "yes")
    return {
        "_id": sample_id(domain.name, image),
        "_dataset_id": dataset,
        "_media_type": "image",
        # FiftyOne draws random subsets by this number in [0, 1).
        "_rand": int.from_bytes(digest[:6], "big") / 2**48,
        "filepath": row["path"],
        "tags": [*(tag for tag in (domain.role, row["split"]) if tag), *tags],
        "tags_written": tags,
        "metadata": {"_cls": "ImageMetadata", "width": int(row["width"]), "height": int(row["height"])},
        "created_at": now,
        "last_modified_at": now,
        "image_id": image,
        "domain": domain.name,
        "group": row["group"],
        "split": row["split"] or None,
        **{name: float(row[name]) for name in IMAGE_PROPERTIES if name in row},
    }


def _evaluation_fields(key: str, annotations: list[Document], detections: list[Document]) -> Document:
    """The annotations of a labelled image, and its counts of true positives, false positives and missed."""
    false_positives = [box for box in detections if box["outcome"] not in ("true_positive", "ignored")]
    shown = sum(box["confidence"] >= SHOWN for box in false_positives)
    missed = sum(box["outcome"] == "missed" for box in annotations)
    return {
        "ground_truth": {"_cls": "Detections", "detections": annotations},
        "labels_written": [serialize_label(annotation) for annotation in annotations],
        "false_positives": shown,
        "missed": missed,
        "outcome": _image_outcome(shown, missed),
        f"{key}_tp": sum(box["outcome"] == "true_positive" for box in detections),
        f"{key}_fp": len(false_positives),
        f"{key}_fn": sum(annotation[key] == "fn" for annotation in annotations),
    }


def _image_outcome(false_positives: int, missed: int) -> str:
    """The kinds of errors in an image."""
    kinds = ["false positives"] * (false_positives > 0) + ["missed"] * (missed > 0)
    return " and ".join(kinds) or "correct"


def _finite(value: float) -> float | None:
    """A number for the database, None for NaN."""
    return float(value) if math.isfinite(value) else None


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
    """The most similar training images of each image; empty without training images."""
    if findings.training is None or not domain.image_embeddings.shape[1]:
        return []
    nearest = gallery.Nearest(findings.training)
    return [
        [str(entry["image"]) for entry in nearest.to_image(v, count=TRAINING_SHOWN)]
        for v in domain.image_embeddings
    ]


def schema(findings: Findings) -> dict[str, str]:
    """Type of every field by its full path, in the order in which they are declared.

    Types are "string", "strings", "int", "float", "bool", "detections" and "keypoints".
    """
    labelled = [domain for domain in findings.domains if domain.labelled.any()]
    keys = [evaluation_key(domain) for domain in labelled]
    fields = {
        **dict.fromkeys(("image_id", "domain", "group", "split"), "string"),
        **dict.fromkeys(("nearest_training", "tags_written", "labels_written"), "strings"),
        **dict.fromkeys((*IMAGE_PROPERTIES, "novelty", "shift_score", "seconds"), "float"),
        **dict.fromkeys(("detections_shown", "label_next", "cards"), "int"),
        "predictions": "detections",
        **_box_paths("predictions", box_fields(keys)),
        # Also without labels: users draw annotations in the App.
        "ground_truth": "detections",
        "ground_truth.detections.iscrowd": "bool",
        **{
            field: "keypoints"
            for field, has in (
                (PREDICTED_POINTS, any(has_points(domain.detections) for domain in findings.domains)),
                (ANNOTATED_POINTS, any(has_points(domain.annotations) for domain in findings.domains)),
            )
            if has
        },
    }
    if labelled:
        annotation_fields = {
            "outcome": "string",
            "detected_at": "float",
            "row": "int",
            "card": "int",
            **dict.fromkeys((*BOX_ATTRIBUTES, *keys), "string"),
        }
        fields |= _box_paths("ground_truth", annotation_fields)
        fields |= {"outcome": "string", "false_positives": "int", "missed": "int"}
    for domain, key in zip(labelled, keys, strict=True):
        fields |= dict.fromkeys((f"{key}_tp", f"{key}_fp", f"{key}_fn"), "int")
        table = slices.attributes(domain, slices.edges(findings.domains))
        fields |= {slice_field(str(name)): "string" for name in table.columns.drop(["image", "clip"])}
    return fields


def _box_paths(field: str, types: dict[str, str]) -> dict[str, str]:
    """Types of box fields by their full path."""
    return {f"{field}.detections.{name}": kind for name, kind in types.items()}


def box_fields(keys: list[str]) -> dict[str, str]:
    """Type of each field of a detection. keys: evaluation keys of the labelled domains."""
    fields = {"row": "int", "card": "int"}
    if keys:
        fields |= {"outcome": "string", "iou": "float", **dict.fromkeys(BOX_ATTRIBUTES, "string")}
    for key in keys:
        fields |= dict.fromkeys((key, *(_strict_key(key, iou) for iou in STRICT_IOUS)), "string")
    return fields


def own_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags that a user set, without those that every report writes."""
    return tuple(sorted(set(tags) - WRITTEN_TAGS))
