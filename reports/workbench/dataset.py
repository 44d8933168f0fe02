"""The FiftyOne dataset: a view of our tables that can be rebuilt from them at any time."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bson import ObjectId
from pymongo import UpdateOne

from datasets.attributes import Attributes
from datasets.errors import EnvironmentProblem, InputError
from datasets.tables import OWN
from diagnostics.domain import Domain
from diagnostics.findings import Findings
from diagnostics.wording import count
from reports.page.reader import WrittenReport, read_report
from reports.progress import Reporter
from reports.workbench.connection import database
from reports.workbench.documents import (
    Boxes,
    boxes_of,
    evaluation_key,
    gallery_places,
    own_tags,
    sample_id,
    samples_of,
    schema,
)
from reports.workbench.views import address, gallery_view, save_views, slug
from train.environment import corrections_path

# Documents sent to the database at a time, and fields that people filter and sort by.
CHUNK = 500
INDEXED = ("image_id", "domain", "group", "label_next", "novelty", "detections_shown")
EMBEDDING_MAP, SIMILARITY = "embedding_map", "similar_images"
PREFIX, DRAFT, KEPT = "shiftscope-", "-writing", "-kept-"
# Of datasets that hold no report, see `reports.workbench.review`.
REVIEW = f"{PREFIX}review-"


@dataclass(frozen=True)
class Workbench:
    """Where the dataset is. app_urls: gallery card number -> link into a running App."""

    dataset: str
    app_urls: dict[int, str]


def dataset_name(report: Path) -> str:
    """Name of a report folder's dataset: prefixed, with a hash of the whole path because names repeat and FiftyOne's slugs collide."""
    return f"{PREFIX}{slug(report.name) or 'report'}-{hashlib.sha256(os.fsencode(report)).hexdigest()[:6]}"


def publish(
    findings: Findings,
    report: Path,
    info: dict[str, Any],
    reporter: Reporter,
    others: Mapping[str, Sequence[Domain]] | None = None,
) -> Workbench:
    """Write the dataset anew from the findings, beside the one before, which goes when the new one stands. Tags, box tags, views and corrected labels
    that people made stay; workspaces and fields of their own, and what "Compare runs" brought in, do not.

    others: further runs by name, each the labelled domains with its detections. Raises EnvironmentProblem when the database does not answer.
    """
    from reports.workbench.models import add_model

    with database() as fo:
        name = dataset_name(report)
        hand_made = _user_edits(fo.load_dataset(name), reporter) if name in fo.list_datasets() else None
        draft = f"{name}{DRAFT}"
        if draft in fo.list_datasets():
            fo.delete_dataset(draft)
        # Until it is persistent, FiftyOne itself takes away what a killed run left.
        dataset = fo.Dataset(draft)
        dataset.info = {**info, "folder": str(report), "created": datetime.now(UTC).isoformat()}
        dataset.default_classes = list(findings.in_domain.classes)
        with reporter.bar("Writing the FiftyOne dataset", None):
            drawn = {domain.name: boxes_of(domain, findings.cards) for domain in findings.domains}
            write(fo, dataset, findings, drawn)
            register(fo, dataset, findings, drawn)
            save_views(fo, dataset, findings)
            offer_labels(dataset, findings.in_domain.classes)
            for model, domains in (others or {}).items():
                add_model(fo, dataset, model, domains)
            dataset.info["views"] = dataset.list_saved_views()
            if hand_made is not None:
                _restore_user_edits(fo, dataset, hand_made)
        dataset.persistent = True
        dataset.save()
        if hand_made is not None and hand_made.keep:
            kept = _kept_name(name, fo.list_datasets())
            reporter.say(f"  the dataset before is kept as {kept}: {hand_made.keep}")
            fo.load_dataset(name).name = kept
        elif hand_made is not None:
            fo.delete_dataset(name)
        if hand_made is not None:
            reporter.say("  an App that is open on this report shows the old dataset: start it again")
        dataset.name = name
        return Workbench(name, _gallery_links(name, findings))


@dataclass(frozen=True)
class UserEdits:
    """What people made in a dataset: tags added to images and taken from them, and tags of boxes, by id; views (stages, description) by name.

    keep: why the dataset must not go, "" where it may.
    """

    added: dict[ObjectId, list[str]]
    removed: dict[ObjectId, list[str]]
    box_tags: dict[str, dict[ObjectId, list[str]]]
    views: dict[str, tuple[list[dict[str, Any]], str]]
    keep: str


def _user_edits(dataset: Any, reporter: Reporter) -> UserEdits:
    """Collect it before the dataset is written anew. Corrected labels go where `shiftscope app --pull` keeps them."""
    from reports.workbench.pull import pull_from

    keep = ""
    try:
        found = pull_from(dataset)
        if found.images:
            reporter.say(
                f"  labels that were corrected in the App, of {count(found.images, 'image')}, are kept in {corrections_path()}"
            )
    except InputError as problem:
        keep = f"labels corrected in it could not be read back ({problem})"
    if dataset.list_annotation_runs():
        keep = "images of it are at an annotation server"
    fields = ("tags", "tags_written", "predictions", "ground_truth")
    documents = list(dataset._sample_collection.find({}, dict.fromkeys(fields, 1)))
    box_tags = {
        name: {
            box["_id"]: box["tags"]
            for document in documents
            for box in (document.get(name) or {}).get("detections") or []
            if box.get("tags")
        }
        for name in ("predictions", "ground_truth")
    }
    ours = set((dataset.info or {}).get("views", ()))
    own = {d["_id"]: set(own_tags(d.get("tags") or [])) for d in documents}
    return UserEdits(
        {key: sorted(tags) for key, tags in own.items() if tags},
        {
            d["_id"]: sorted(gone)
            for d in documents
            if (gone := set(d.get("tags_written") or ()) - own[d["_id"]])
        },
        box_tags,
        {
            name: (
                dataset.load_saved_view(name)._serialize(),
                dataset.get_saved_view_info(name)["description"] or "",
            )
            for name in dataset.list_saved_views()
            if name not in ours
        },
        keep,
    )


def _restore_user_edits(fo: Any, dataset: Any, made: UserEdits) -> None:
    """What people made, in the dataset written anew; what it was about and is gone, goes."""
    writes = []
    for key, tags in made.removed.items():
        gone = {"$in": tags}
        writes.append(UpdateOne({"_id": key}, {"$pull": {"tags": gone, "tags_written": gone}}))
    for key, tags in made.added.items():
        each = {"$each": tags}
        writes.append(UpdateOne({"_id": key}, {"$addToSet": {"tags": each, "tags_written": each}}))
    writes += [
        UpdateOne(
            {f"{name}.detections._id": key},
            {"$addToSet": {f"{name}.detections.$.tags": {"$each": tags}}},
        )
        for name, boxes in made.box_tags.items()
        for key, tags in boxes.items()
    ]
    if writes:
        dataset._sample_collection.bulk_write(writes, ordered=False)
    taken = {slug(name) for name in dataset.list_saved_views()}
    for name, (stages, description) in made.views.items():
        # A view of fields that are no more is nobody's loss.
        with contextlib.suppress(ValueError, KeyError):
            free = name if slug(name) not in taken else f"{name} (mine)"
            dataset.save_view(free, fo.DatasetView._build(dataset, stages), description=description)


def _kept_name(name: str, taken: Sequence[str]) -> str:
    """A free name for a dataset that is kept."""
    number = 1
    while f"{name}{KEPT}{number}" in taken:
        number += 1
    return f"{name}{KEPT}{number}"


def _gallery_links(name: str, findings: Findings) -> dict[int, str]:
    """Gallery card number -> address of its image in a running App, with its box and nothing else drawn."""
    places = gallery_places(findings.cards)
    return {
        number: f"{address(name)}?view={slug(gallery_view(place))}&id={sample_id(domain, image)}"
        for number, (place, domain, image) in enumerate(
            zip(places, findings.cards["domain"], findings.cards["image"], strict=True)
        )
    }


def write(fo: Any, dataset: Any, findings: Findings, drawn: dict[str, Boxes]) -> None:
    """Declare the fields and insert the documents.

    Straight into the collection: `add_samples` spends a hundred times as long on checking each box, and gives ids that change with every writing.
    """
    kinds = {"string": fo.StringField, "int": fo.IntField, "float": fo.FloatField, "bool": fo.BooleanField}
    for name, kind in schema(findings).items():
        if kind == "detections":
            dataset.add_sample_field(name, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
        elif kind == "strings":
            dataset.add_sample_field(name, fo.ListField, subfield=fo.StringField)
        else:
            dataset.add_sample_field(name, kinds[kind])
    dataset.media_type = "image"
    for domain in findings.domains:
        documents = samples_of(domain, drawn[domain.name], findings, dataset._doc.id)
        while part := list(islice(documents, CHUNK)):
            dataset._sample_collection.insert_many(part, ordered=False)
    # A database that is killed while it writes loses what it had confirmed.
    expected, there = (
        sum(len(d.images) for d in findings.domains),
        dataset._sample_collection.count_documents({}),
    )
    if there != expected:
        raise EnvironmentProblem(
            f"FiftyOne's database holds {there} of {expected} images after writing; run the same command again"
        )
    for name in INDEXED:
        dataset.create_index(name)


def report_of(dataset: Any) -> WrittenReport:
    """The report that a dataset shows. Raises InputError when the dataset is not of a report, or its folder is gone."""
    folder = (dataset.info or {}).get("folder")
    if not folder:
        raise InputError(
            f"{dataset.name} was not written by this version of Shiftscope; write its report again"
        )
    return read_report(Path(folder))


def offer_labels(dataset: Any, classes: Sequence[str]) -> None:
    """Set the App's Annotate tab up for the labels, and for nothing else: it would ask for a schema first."""
    schema = {
        "type": "detections",
        "component": "dropdown",
        "classes": list(classes),
        "attributes": [{"name": "iscrowd", "type": "bool", "component": "toggle"}],
    }
    dataset.update_label_schema("ground_truth", schema)
    dataset.active_label_schemas = ["ground_truth"]


def _plain_fields(fo: Any, dataset: Any) -> list[str]:
    """Fields of a sample with one value: text, numbers, yes or no, and the label of a classification."""
    plain = (fo.StringField, fo.IntField, fo.FloatField, fo.BooleanField)
    fields = []
    for name, kind in dataset.get_field_schema().items():
        if isinstance(kind, plain) and name != "filepath":
            fields.append(name)
        elif isinstance(kind, fo.EmbeddedDocumentField) and kind.document_type is fo.Classification:
            fields.append(f"{name}.label")
    return fields


def attributes_of(name: str) -> Attributes:
    """Tags and plain fields of a FiftyOne dataset's samples, by path; of our own datasets only the tags that a person set, because the fields
    are results, and slices by results explain nothing. Raises InputError when there is no such dataset or nothing in it.
    """
    with database() as fo:
        if name not in fo.list_datasets():
            known = ", ".join(fo.list_datasets()) or "none"
            raise InputError(f"fiftyone:{name}: no such dataset; there are: {known}")
        dataset = fo.load_dataset(name)
        ours = name.startswith(PREFIX)
        fields = [] if ours else _plain_fields(fo, dataset)
        columns = dataset.values(["filepath", "tags", *fields])
        table = pd.DataFrame({"key": columns[0]})
        tags_in_use = {tag for tags in columns[1] for tag in tags or ()}
        for tag in own_tags(tags_in_use) if ours else sorted(tags_in_use):
            table[f"{OWN}tag {tag}"] = ["yes" if tag in (tags or ()) else None for tags in columns[1]]
        for field, values in zip(fields, columns[2:], strict=True):
            if any(value is not None for value in values):
                table[OWN + field.removesuffix(".label")] = [
                    str(v) if isinstance(v, bool) else v for v in values
                ]
    if len(table.columns) == 1:
        raise InputError(f"fiftyone:{name}: its samples have no tags and no plain fields to slice by")
    return Attributes(f"fiftyone:{name}", table.drop_duplicates("key", ignore_index=True))


def register(fo: Any, dataset: Any, findings: Findings, drawn: dict[str, Boxes]) -> None:
    """Store our matching as evaluation runs that the Model Evaluation panel lists, and our embeddings as brain runs."""
    import fiftyone.brain as fob
    from fiftyone import ViewField as F

    from reports.workbench.evaluation import store_evaluation

    for domain in findings.domains:
        if not domain.labelled.any() or not len(domain.annotations):
            continue
        view = dataset.match(F("domain") == domain.name)
        store_evaluation(view, domain, evaluation_key(domain), drawn[domain.name])
    points = _embedding_points(findings)
    if points:
        order = list(zip(*dataset.values(["domain", "image_id"]), strict=True))
        coordinates = np.array([points[pair] for pair in order])
        fob.compute_visualization(dataset, points=coordinates, brain_key=EMBEDDING_MAP, method="manual")
        vectors = {
            (domain.name, image): vector
            for domain in findings.domains
            for image, vector in zip(domain.images["image"], domain.image_embeddings, strict=True)
        }
        fob.compute_similarity(
            dataset,
            embeddings=np.array([vectors[pair] for pair in order]),
            brain_key=SIMILARITY,
            backend="sklearn",
        )


def _embedding_points(findings: Findings) -> dict[tuple[str, str], list[float]]:
    """Two principal components of every image, by domain and image."""
    from diagnostics.shift import pooled_components

    if not findings.in_domain.image_embeddings.shape[1] or sum(len(d.images) for d in findings.domains) < 3:
        return {}
    points, _ = pooled_components(
        np.concatenate([d.image_embeddings for d in findings.domains]),
        np.zeros((0, findings.in_domain.image_embeddings.shape[1]), np.float32),
    )
    names = [(d.name, image) for d in findings.domains for image in d.images["image"]]
    return {
        pair: [float(p[0]), float(p[1]) if len(p) > 1 else 0.0] for pair, p in zip(names, points, strict=True)
    }


def newest_dataset() -> str | None:
    """Name of the dataset written last by a report, if any."""
    with database() as fo:
        made = [(fo.load_dataset(name).created_at, name) for name in of_reports(fo)]
    return max(made)[1] if made else None


def of_reports(fo: Any) -> list[str]:
    """Names of the datasets of reports, without those kept of earlier writings and one that is being written."""
    return [
        name
        for name in fo.list_datasets(f"{PREFIX}*")
        if KEPT not in name and not name.endswith(DRAFT) and not name.startswith(REVIEW)
    ]


def exists(name: str) -> bool:
    """Whether the database holds a dataset of this name."""
    with database() as fo:
        return name in fo.list_datasets()
