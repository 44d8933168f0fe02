"""Several runs in one dataset: each run's detections in a field of its own, and where two runs disagree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from reports.workbench.documents import (
    BoxDocuments,
    box_fields,
    boxes_of,
    evaluation_key,
    field_suffix,
    sample_id,
)

NO_GALLERY = pd.DataFrame(columns=list(COLUMNS))


@dataclass(frozen=True)
class ModelFields:
    """Names of the fields of another model.

    detections: image field of its detections
    outcome: annotation field, "detected" or "missed" by that model
    disagreement: image field, number of annotations that only one of the two models detects
    """

    detections: str
    outcome: str
    disagreement: str

    @classmethod
    def of(cls, model: str) -> ModelFields:
        """The fields of a model by its name."""
        suffix = field_suffix(model)
        return cls(f"predictions_{suffix}", f"outcome_{suffix}", f"disagreement_{suffix}")


def with_detections(domain: Domain, images: pd.Series, detections: pd.DataFrame) -> Domain:
    """Some of a domain's images with the detections of another run. Annotations keep their index."""
    selected = domain.images["image"].isin(images).to_numpy()
    detections = detections[domain.detections.columns].reset_index(drop=True)
    return replace(
        domain,
        images=domain.images[selected].reset_index(drop=True),
        annotations=domain.annotations[domain.annotations["image"].isin(images)],
        detections=detections,
        image_embeddings=domain.image_embeddings[selected],
        detection_embeddings=np.zeros((len(detections), 0), np.float32),
    )


def add_model(fo: Any, dataset: Any, model: str, domains: Sequence[Domain]) -> str:
    """Write another model's detections with their outcomes, and an evaluation of each domain.

    Parameters
    ----------
    fo : module
        The module fiftyone.
    dataset : Dataset
        The report's dataset.
    model : str
        Name of the other model.
    domains : sequence of Domain
        Labelled domains with the other model's detections; images and annotations are the dataset's.

    Returns
    -------
    str
        Name of the saved view of the annotations that only one of the two models detects.
    """
    from fiftyone import ViewField as F

    from reports.workbench.evaluation import store_evaluation

    fields, name = ModelFields.of(model), f"disagreements with {model}"
    for key in (evaluation_key(domain, model) for domain in domains):
        if key in dataset.list_evaluations():
            dataset.delete_evaluation(key)
    _declare_fields(fo, dataset, fields, [evaluation_key(domain, model) for domain in domains])
    for domain in domains:
        boxes = boxes_of(domain, NO_GALLERY, model)
        writes = [_update(domain, image, boxes, fields) for image in domain.images["image"]]
        dataset._sample_collection.bulk_write(writes, ordered=False)
        view = dataset.match(F("domain") == domain.name).exists(fields.detections)
        store_evaluation(view, domain, evaluation_key(domain, model), boxes, fields.detections)
    compared = {fields.detections: {"$exists": True}}
    disagreement = [{"$set": {fields.disagreement: _count_disagreements(fields.outcome)}}]
    dataset._sample_collection.update_many(compared, disagreement)
    dataset.reload()
    outcome = F(fields.outcome)
    view = (
        dataset.match(F(fields.disagreement) > 0)
        .filter_labels("ground_truth", (outcome != None) & (F("outcome") != outcome))  # noqa: E711
        .sort_by(fields.disagreement, reverse=True)
    )
    description = (
        f"Objects that one run detects and the other misses; detections of {model} are in {fields.detections}"
    )
    dataset.save_view(name, view, description=description, overwrite=True)
    # Listed as one of ours, so that it is not carried over as a user's when the dataset is written again.
    dataset.info["views"] = [*dataset.info.get("views", ()), name]
    dataset.save()
    return name


def _declare_fields(fo: Any, dataset: Any, fields: ModelFields, keys: list[str]) -> None:
    """Declare the fields of a further model. keys: its evaluation keys."""
    dataset.add_sample_field(fields.detections, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    types = {"string": fo.StringField, "int": fo.IntField, "float": fo.FloatField}
    for name, kind in box_fields(keys).items():
        dataset.add_sample_field(f"{fields.detections}.detections.{name}", types[kind])
    dataset.add_sample_field(f"ground_truth.detections.{fields.outcome}", fo.StringField)
    dataset.add_sample_field(fields.disagreement, fo.IntField)


def _update(domain: Domain, image: str, boxes: BoxDocuments, fields: ModelFields) -> UpdateOne:
    """Set an image's detections, and the outcome of each of its annotations.

    Annotations are selected by id, so that a user's edits since the report stay.
    """
    detections = {"_cls": "Detections", "detections": boxes.detections.get(image, [])}
    values: dict[str, Any] = {fields.detections: detections}
    filters: list[Mapping[str, Any]] = []
    for outcome in ("detected", "missed"):
        ids = [box["_id"] for box in boxes.annotations.get(image, []) if box["outcome"] == outcome]
        if ids:
            values[f"ground_truth.detections.$[{outcome}].{fields.outcome}"] = outcome
            filters.append({f"{outcome}._id": {"$in": ids}})
    return UpdateOne({"_id": sample_id(domain.name, image)}, {"$set": values}, array_filters=filters or None)


def _count_disagreements(outcome: str) -> dict[str, Any]:
    """MongoDB's expression for the number of annotations that only one of the two models detects."""
    compared = {"$ne": [{"$type": f"$$this.{outcome}"}, "missing"]}
    differs = {"$ne": ["$$this.outcome", f"$$this.{outcome}"]}
    annotations = {"$ifNull": ["$ground_truth.detections", []]}
    return {"$size": {"$filter": {"input": annotations, "cond": {"$and": [compared, differs]}}}}


def compare_with(fo: Any, dataset: Any, report: WrittenReport, other: WrittenReport) -> tuple[list[str], str]:
    """Add another report's detections of the same images to a report's dataset.

    Parameters
    ----------
    fo : module
        The module fiftyone.
    dataset : Dataset
        The dataset of `report`.
    report : WrittenReport
        The report whose annotations count.
    other : WrittenReport
        The report whose detections are added.

    Returns
    -------
    tuple
        A sentence for each domain, and the name of the view of the disagreements.

    Raises
    ------
    InputError
        The classes differ, or no labelled image is in both reports.
    """
    classes, other_classes = (r.record["run"]["classes"] for r in (report, other))
    if classes != other_classes:
        raise InputError(
            f"the runs have different classes: {', '.join(classes)} in {report.folder.name}, "
            f"{', '.join(other_classes)} in {other.folder.name}"
        )
    other_images = pd.concat([d.images.assign(domain=d.name) for d in other.domains], ignore_index=True)
    other_images = other_images.drop_duplicates("path").set_index("path")
    other_detections = pd.concat(
        [d.detections.assign(domain=d.name) for d in other.domains], ignore_index=True
    )
    sentences, compared = [], []
    for domain in report.domains:
        shared = domain.labelled & domain.images["path"].isin(other_images.index).to_numpy()
        if not shared.any() or not len(domain.annotations):
            continue
        images = domain.images.loc[shared, ["image", "path"]]
        names = other_images.loc[images["path"], ["domain", "image"]].reset_index(drop=True)
        names["own_image"] = images["image"].to_numpy()
        detections = (
            other_detections.merge(names, on=["domain", "image"])
            .drop(columns=["image", "domain"])
            .rename(columns={"own_image": "image"})
        )
        with_other = with_detections(domain, images["image"], detections)
        sentences.append(_compare_domain(domain.subset(images["image"]), with_other, other.folder.name))
        compared.append(with_other)
    if not compared:
        raise InputError(
            f"{other.folder.name} has none of the labelled images of {report.folder.name}: nothing to compare"
        )
    view = add_model(fo, dataset, other.folder.name, compared)
    return sentences, view


def _compare_domain(first: Domain, second: Domain, other: str) -> str:
    """Compare the AP50 of two runs on the same images, in a sentence. other: name of the second run."""
    result = compare(
        first.annotation_arrays,
        first.detection_arrays,
        second.detection_arrays,
        first.group_numbers,
        n_classes=len(first.classes),
        seed=0,
    )
    low, high = result.interval.low, result.interval.high
    span = "" if low is None or high is None else f" [{100 * low:+.0f}, {100 * high:+.0f}]"
    p_value = "" if result.p is None else f", p = {result.p:.3f}"
    return (
        f"**{first.name}** ({count(len(first.images), 'image')}): "
        f"AP50 {fraction(result.first)} in this run and {fraction(result.second)} in {other}: "
        f"{points(abs(result.difference))} "
        f"{'higher' if result.difference >= 0 else 'lower'}{span}{p_value}."
    )
