"""The FiftyOne dataset as plain documents, made in one go from our tables. Ids come from what they name, so a link stays good when a report is written again.

Adding samples one by one and evaluating them in the database takes seconds for a hundred pictures; these documents are what that would leave behind.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from bson import ObjectId

from datasets.tables import CORNERS, OWN
from diagnostics import gallery, slices
from diagnostics.domain import Domain
from diagnostics.error_types import missed_objects
from diagnostics.label_free import SHOWN
from diagnostics.matching import Floats
from reports.findings import Findings

# Boxes below stay in our tables: they matter for AP and to nobody's eyes.
SHOWN_FLOOR = 0.05
LOOKS = ("brightness", "contrast", "saturation", "sharpness")
Document = dict[str, Any]


def object_id(*names: object) -> ObjectId:
    """An id that is always the same for the same names."""
    return ObjectId(
        hashlib.sha256("\0".join(map(str, names)).encode("utf-8", "backslashreplace")).digest()[:12]
    )


def sample_id(domain: str, image: str) -> ObjectId:
    """Id of a picture."""
    return object_id("sample", domain, image)


def evaluation_key(domain: Domain) -> str:
    """A valid evaluation key for a domain."""
    return "eval_" + (re.sub(r"\W+", "_", domain.name).strip("_").lower() or "domain")


def slice_field(attribute: str) -> str:
    """A valid field name for an attribute."""
    return "slice_" + re.sub(r"\W+", "_", attribute.removeprefix(OWN)).strip("_").lower()


@dataclass(frozen=True)
class Boxes:
    """Documents by image, the ids of rows, and (truth label, predicted label, IoU, confidence, truth id, prediction id) of FiftyOne's evaluation."""

    truths: dict[str, list[Document]]
    predictions: dict[str, list[Document]]
    matches: list[tuple[Any, ...]]


def fractions(corners: Floats, sizes: Floats) -> list[list[float]]:
    """FiftyOne's boxes: left, top, width, height as fractions, from corners (n, 4) and picture sizes (n, 2)."""
    relative = corners / np.tile(sizes, 2)
    relative[:, 2:] -= relative[:, :2]
    result: list[list[float]] = relative.tolist()
    return result


def boxes_of(domain: Domain) -> Boxes:
    """Everything drawn into a domain's pictures."""
    key, labelled = evaluation_key(domain), bool(domain.labelled.any())
    size = domain.pictures.set_index("image")[["width", "height"]]
    truths: dict[str, list[Document]] = defaultdict(list)
    predictions: dict[str, list[Document]] = defaultdict(list)
    matches: list[tuple[Any, ...]] = []
    truth_ids: list[ObjectId] = []
    if labelled and len(domain.boxes):
        missed, unfound = (
            set(missed_objects(domain.table, domain.outcomes, confidence=c).tolist())
            for c in (SHOWN, SHOWN_FLOOR)
        )
        places = fractions(
            domain.boxes[CORNERS].to_numpy(float), size.loc[domain.boxes["image"]].to_numpy(float)
        )
        for row, (image, label, crowd) in enumerate(
            zip(
                domain.boxes["image"].tolist(),
                domain.boxes["label"].tolist(),
                domain.boxes["crowd"].tolist(),
                strict=True,
            )
        ):
            truth_ids.append(object_id("truth", domain.name, image, row))
            truths[image].append(
                {
                    "_id": truth_ids[-1],
                    "_cls": "Detection",
                    "attributes": {},
                    "tags": [],
                    "label": domain.classes[label],
                    "bounding_box": places[row],
                    "iscrowd": bool(crowd),
                    "outcome": "missed" if row in missed else "found",
                    key: "fn" if row in unfound else "tp",
                    "row": row,
                }
            )
    outcome: dict[int, tuple[str, float, int]] = {}
    if labelled:
        found = domain.outcomes
        rows = domain.scored_detections.index.to_numpy()[found["row"].to_numpy()]
        outcome = dict(
            zip(
                rows.tolist(),
                zip(
                    found["outcome"].tolist(),
                    found["nearest_iou"].tolist(),
                    found["partner"].tolist(),
                    strict=True,
                ),
                strict=True,
            )
        )
    kept = domain.detections[domain.detections["confidence"] >= SHOWN_FLOOR]
    places = fractions(kept[CORNERS].to_numpy(float), size.loc[kept["image"]].to_numpy(float))
    used: set[int] = set()
    for row, image, label, confidence, place in zip(
        kept.index.tolist(),
        kept["image"].tolist(),
        kept["label"].tolist(),
        kept["confidence"].tolist(),
        places,
        strict=True,
    ):
        box: Document = {
            "_id": object_id("prediction", domain.name, image, row),
            "_cls": "Detection",
            "attributes": {},
            "tags": [],
            "label": domain.classes[label],
            "bounding_box": place,
            "confidence": confidence,
            "row": row,
        }
        if labelled:
            # A detection the matching left out (beyond the limit a picture) counts as ignored, not as an error.
            what, iou, partner = outcome.get(row, ("ignored", 0.0, -1))
            box |= {"outcome": what, "iou": iou}
            if what != "ignored":
                box[key] = "tp" if what == "hit" else "fp"
            if what == "hit":
                used.add(partner)
                truth = domain.classes[int(domain.boxes["label"].iat[partner])]
                matches.append(
                    (truth, box["label"], iou, confidence, str(truth_ids[partner]), str(box["_id"]))
                )
            elif what != "ignored":
                matches.append((None, box["label"], None, confidence, None, str(box["_id"])))
        predictions[image].append(box)
    matches += [
        (domain.classes[label], None, None, None, str(truth_ids[row]), None)
        for row, (label, crowd) in enumerate(
            zip(domain.boxes["label"].tolist(), domain.boxes["crowd"].tolist(), strict=True)
            if labelled
            else ()
        )
        if row not in used and not crowd
    ]
    return Boxes(truths, predictions, matches)


def samples_of(domain: Domain, boxes: Boxes, findings: Findings, dataset: ObjectId) -> Iterator[Document]:
    """One document a picture."""
    key, now = evaluation_key(domain), datetime.now(UTC)
    attributes = attributes_by_image(domain, findings)
    novelty = findings.novelty.get(domain.name, np.full(len(domain.pictures), np.nan))
    like = nearest_training(domain, findings)
    ranked = findings.next[findings.next["domain"] == domain.name]
    ranks = dict(zip(ranked["image"], ranked["rank"], strict=True))
    for place, picture in enumerate(domain.pictures.to_dict("records")):
        image = picture["image"]
        found = boxes.predictions.get(image, [])
        shown = [box for box in found if box["confidence"] >= SHOWN]
        sample: Document = {
            "_id": sample_id(domain.name, image),
            "_dataset_id": dataset,
            "_media_type": "image",
            # FiftyOne draws random subsets by it.
            "_rand": int.from_bytes(
                hashlib.sha256(image.encode("utf-8", "backslashreplace")).digest()[:6], "big"
            )
            / 2**48,
            "filepath": picture["path"],
            "tags": [tag for tag in (domain.role, picture["split"]) if tag],
            "metadata": {
                "_cls": "ImageMetadata",
                "width": int(picture["width"]),
                "height": int(picture["height"]),
            },
            "created_at": now,
            "last_modified_at": now,
            "image_id": image,
            "domain": domain.name,
            "group": picture["group"],
            "split": picture["split"] or None,
            **{name: float(picture[name]) for name in LOOKS if name in picture},
            "detections_shown": len(shown),
            "predictions": {"_cls": "Detections", "detections": found},
            "nearest_training": like[place] if like else None,
            "novelty": float(novelty[place]) if math.isfinite(novelty[place]) else None,
            "seconds": float(picture["seconds"]) if math.isfinite(picture["seconds"]) else None,
            "label_next": int(ranks[image]) if image in ranks else None,
            **attributes.get(image, {}),
        }
        if picture["labelled"]:
            objects = boxes.truths.get(image, [])
            sample |= {
                "ground_truth": {"_cls": "Detections", "detections": objects},
                "false_positives": sum(box["outcome"] not in ("hit", "ignored") for box in shown),
                "misses": sum(o["outcome"] == "missed" for o in objects),
                f"{key}_tp": sum(box["outcome"] == "hit" for box in found),
                f"{key}_fp": sum(box["outcome"] not in ("hit", "ignored") for box in found),
                f"{key}_fn": sum(o[key] == "fn" for o in objects),
            }
        yield sample


def attributes_by_image(domain: Domain, findings: Findings) -> dict[str, dict[str, str]]:
    """Slice fields of labelled pictures."""
    if not domain.labelled.any():
        return {}
    table = slices.attributes(domain, slices.edges(findings.domains)).set_index("image").drop(columns="clip")
    names = {attribute: slice_field(str(attribute)) for attribute in table.columns}
    return {
        str(image): {names[attribute]: str(value) for attribute, value in row.items() if value}
        for image, row in table.to_dict("index").items()
    }


def nearest_training(domain: Domain, findings: Findings) -> list[str]:
    """For each picture the training picture most like it; empty without training pictures."""
    if findings.training is None or not domain.embeddings.shape[1]:
        return []
    nearest = gallery.Nearest(findings.training)
    return [
        str(entry[0]["image"]) if (entry := nearest.to_picture(v, count=1)) else "" for v in domain.embeddings
    ]


def schema(findings: Findings) -> dict[str, str]:
    """Name -> type ("string", "int", "float", "bool", "detections") of every field, those of boxes by their whole path, in the order they are declared."""
    fields = {
        **dict.fromkeys(("image_id", "domain", "group", "split", "nearest_training"), "string"),
        **dict.fromkeys((*LOOKS, "novelty", "seconds"), "float"),
        **dict.fromkeys(("detections_shown", "label_next"), "int"),
        "predictions": "detections",
        "predictions.detections.row": "int",
    }
    scored = [domain for domain in findings.domains if domain.labelled.any()]
    if scored:
        fields |= {
            "predictions.detections.outcome": "string",
            "predictions.detections.iou": "float",
            "ground_truth": "detections",
            "ground_truth.detections.iscrowd": "bool",
            "ground_truth.detections.outcome": "string",
            "ground_truth.detections.row": "int",
            "false_positives": "int",
            "misses": "int",
        }
    for domain in scored:
        key = evaluation_key(domain)
        fields |= dict.fromkeys((f"predictions.detections.{key}", f"ground_truth.detections.{key}"), "string")
        fields |= dict.fromkeys((f"{key}_tp", f"{key}_fp", f"{key}_fn"), "int")
        table = slices.attributes(domain, slices.edges(findings.domains))
        fields |= {slice_field(str(name)): "string" for name in table.columns.drop(["image", "clip"])}
    return fields
