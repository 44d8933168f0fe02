"""Several runs in one dataset: another run's detections of the same images in a field of their own, and where the two disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pymongo import UpdateOne

from datasets.errors import InputError
from diagnostics.comparison import compare
from diagnostics.domain import Domain
from diagnostics.gallery import COLUMNS
from diagnostics.wording import count, fraction, points
from reports.page.reader import WrittenReport
from reports.workbench.documents import Boxes, box_fields, boxes_of, evaluation_key, part_of_name, sample_id
from reports.workbench.evaluation import store_evaluation

NO_GALLERY = pd.DataFrame(columns=list(COLUMNS))


def _field_of(model: str) -> str:
    """Name of another model's predictions field."""
    return f"predictions_{part_of_name(model)}"


def as_detected_by(domain: Domain, images: pd.Series, detections: pd.DataFrame) -> Domain:
    """Some of a domain's images with the detections of another run. Boxes keep their index."""
    mine = domain.images["image"].isin(images).to_numpy()
    found = detections[domain.detections.columns].reset_index(drop=True)
    return replace(
        domain,
        images=domain.images[mine].reset_index(drop=True),
        annotations=domain.annotations[domain.annotations["image"].isin(images)],
        detections=found,
        image_embeddings=domain.image_embeddings[mine],
        detection_embeddings=np.zeros((len(found), 0), np.float32),
    )


def add_model(fo: Any, dataset: Any, model: str, domains: Sequence[Domain]) -> str:
    """Write another run's detections, with their outcomes and an evaluation for each domain, and save a view of the disagreements, whose name is returned.

    domains: labelled ones with that run's detections; their images and boxes are the dataset's.
    """
    from fiftyone import ViewField as F

    field, outcome, name = (
        _field_of(model),
        f"outcome_{part_of_name(model)}",
        f"disagreements with {model}",
    )
    for key in (evaluation_key(domain, model) for domain in domains):
        if key in dataset.list_evaluations():
            dataset.delete_evaluation(key)
    differing = f"disagreement_{part_of_name(model)}"
    _declare(fo, dataset, field, outcome, differing, domains, model)
    for domain in domains:
        drawn = boxes_of(domain, NO_GALLERY, model)
        writes = [update(domain, image, drawn, field, outcome) for image in domain.images["image"]]
        dataset._sample_collection.bulk_write(writes, ordered=False)
        view = dataset.match(F("domain") == domain.name).exists(field)
        store_evaluation(view, domain, evaluation_key(domain, model), drawn, field)
    compared = {field: {"$exists": True}}
    dataset._sample_collection.update_many(compared, [{"$set": {differing: _disagreement(outcome)}}])
    dataset.reload()
    view = (
        dataset.match(F(differing) > 0)
        .filter_labels("ground_truth", (F(outcome) != None) & (F("outcome") != F(outcome)))  # noqa: E711
        .sort_by(differing, reverse=True)
    )
    words = f"Objects that one of the two runs finds and the other misses; boxes of {model} are in {field}"
    dataset.save_view(name, view, description=words, overwrite=True)
    # A view of ours, which a dataset written anew does not take over.
    dataset.info["views"] = [*dataset.info.get("views", ()), name]
    dataset.save()
    return name


def _declare(
    fo: Any, dataset: Any, field: str, outcome: str, differing: str, domains: Sequence[Domain], model: str
) -> None:
    """The fields that a further model brings."""
    dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    kinds = {"string": fo.StringField, "int": fo.IntField, "float": fo.FloatField}
    for name, kind in box_fields([evaluation_key(domain, model) for domain in domains]).items():
        dataset.add_sample_field(f"{field}.detections.{name}", kinds[kind])
    dataset.add_sample_field(f"ground_truth.detections.{outcome}", fo.StringField)
    dataset.add_sample_field(differing, fo.IntField)


def update(domain: Domain, image: str, drawn: Boxes, field: str, outcome: str) -> UpdateOne:
    """Set an image's boxes, and on each of its objects, found by id, whether they find it. What a person changed meanwhile stays."""
    values: dict[str, Any] = {field: {"_cls": "Detections", "detections": drawn.predictions.get(image, [])}}
    filters: list[Mapping[str, Any]] = []
    for kind in ("detected", "missed"):
        ids = [truth["_id"] for truth in drawn.truths.get(image, []) if truth["outcome"] == kind]
        if ids:
            values[f"ground_truth.detections.$[{kind}].{outcome}"] = kind
            filters.append({f"{kind}._id": {"$in": ids}})
    return UpdateOne({"_id": sample_id(domain.name, image)}, {"$set": values}, array_filters=filters or None)


def _disagreement(outcome: str) -> dict[str, Any]:
    """MongoDB's words for the number of objects that one run finds and the other misses."""
    known = {"$ne": [{"$type": f"$$this.{outcome}"}, "missing"]}
    differs = {"$ne": ["$$this.outcome", f"$$this.{outcome}"]}
    annotations = {"$ifNull": ["$ground_truth.detections", []]}
    return {"$size": {"$filter": {"input": annotations, "cond": {"$and": [known, differs]}}}}


def compare_with(fo: Any, dataset: Any, here: WrittenReport, other: WrittenReport) -> tuple[list[str], str]:
    """Bring another report's detections of the same images into a dataset. Returns what came of it in sentences, and the name of the view of the disagreements.

    The labels are those of here. Raises InputError when the classes differ or no labelled image is in both.
    """
    if here.record["run"]["classes"] != other.record["run"]["classes"]:
        raise InputError(
            f"the runs have different classes: {', '.join(here.record['run']['classes'])} here, {', '.join(other.record['run']['classes'])} in {other.folder.name}"
        )
    elsewhere = pd.concat([d.images.assign(domain=d.name) for d in other.domains], ignore_index=True)
    elsewhere = elsewhere.drop_duplicates("path").set_index("path")
    found = pd.concat([d.detections.assign(domain=d.name) for d in other.domains], ignore_index=True)
    lines, both = [], []
    for domain in here.domains:
        shared = domain.labelled & domain.images["path"].isin(elsewhere.index).to_numpy()
        if not shared.any() or not len(domain.annotations):
            continue
        mine = domain.images.loc[shared, ["image", "path"]]
        names = elsewhere.loc[mine["path"], ["domain", "image"]].reset_index(drop=True)
        names["here"] = mine["image"].to_numpy()
        theirs = (
            found.merge(names, on=["domain", "image"])
            .drop(columns=["image", "domain"])
            .rename(columns={"here": "image"})
        )
        then = as_detected_by(domain, mine["image"], theirs)
        part = domain.subset(mine["image"])
        result = compare(
            part.annotation_arrays,
            part.detection_arrays,
            then.detection_arrays,
            part.group_numbers,
            n_classes=len(part.classes),
            seed=0,
        )
        low, high = result.interval.low, result.interval.high
        span = (
            ""
            if low is None or high is None
            else f" (95 % interval {100 * low:+.0f} to {100 * high:+.0f} points)"
        )
        sure = "" if result.p is None else f", p {result.p:.3f}"
        lines.append(
            f"**{domain.name}** ({count(len(mine), 'image')}): AP50 {fraction(result.first)} here, {fraction(result.second)} in {other.folder.name}, "
            f"{points(abs(result.difference))} {'more' if result.difference >= 0 else 'less'}{span}{sure}."
        )
        both.append(then)
    if not both:
        raise InputError(
            f"{other.folder.name} shows none of the labelled images of {here.folder.name}: nothing to compare"
        )
    view = add_model(fo, dataset, other.folder.name, both)
    return lines, view
