"""The FiftyOne dataset of a report. It can be written again from our tables at any time."""

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
    BoxDocuments,
    boxes_of,
    evaluation_key,
    number_cards,
    own_tags,
    sample_id,
    samples_of,
    schema,
)
from reports.workbench.views import address, gallery_view, save_views, slug
from train.environment import corrections_path

# Documents sent to the database at a time.
CHUNK = 500
# Fields that users filter and sort by.
INDEXED = ("image_id", "domain", "group", "label_next", "novelty", "detections_shown")
EMBEDDING_MAP, SIMILARITY = "embedding_map", "similar_images"
PREFIX, DRAFT, KEPT = "shiftscope-", "-writing", "-kept-"
# Prefix of datasets that hold no report, see `reports.workbench.drafts`.
REVIEW = f"{PREFIX}review-"


@dataclass(frozen=True)
class PublishedDataset:
    """The dataset of a report.

    dataset: its name
    app_urls: number of a gallery card -> address of its image in a running App
    """

    dataset: str
    app_urls: dict[int, str]


def dataset_name(report: Path) -> str:
    """Name of a report folder's dataset.

    It ends with a hash of the path, because folder names repeat and the slugs of FiftyOne collide.
    """
    return f"{PREFIX}{slug(report.name) or 'report'}-{hashlib.sha256(os.fsencode(report)).hexdigest()[:6]}"


def publish(
    findings: Findings,
    report: Path,
    info: dict[str, Any],
    reporter: Reporter,
    others: Mapping[str, Sequence[Domain]] | None = None,
) -> PublishedDataset:
    """Write the dataset of a report.

    An earlier dataset of the same report is deleted once the new one is complete. Its tags, box tags, saved
    views and corrected labels that a user made are kept. Workspaces, fields of the user's own, and what
    "Compare runs" added are not.

    Parameters
    ----------
    findings : Findings
        The findings of the report.
    report : Path
        Its folder.
    info : dict
        Stored with the dataset.
    reporter : Reporter
        Prints progress.
    others : mapping, optional
        Further runs by name, each with the labelled domains and its detections.

    Returns
    -------
    PublishedDataset
        Name and addresses.

    Raises
    ------
    EnvironmentProblem
        The database does not answer.
    """
    with database() as fo:
        name = dataset_name(report)
        edits = _user_edits(fo.load_dataset(name), reporter) if name in fo.list_datasets() else None
        draft = f"{name}{DRAFT}"
        if draft in fo.list_datasets():
            fo.delete_dataset(draft)
        # Not persistent yet: FiftyOne itself deletes what a killed run left.
        dataset = fo.Dataset(draft)
        dataset.info = {**info, "folder": str(report), "created": datetime.now(UTC).isoformat()}
        with reporter.bar("Writing the FiftyOne dataset", None):
            _fill(fo, dataset, findings, others or {})
            if edits is not None:
                _restore_user_edits(fo, dataset, edits)
        dataset.persistent = True
        dataset.save()
        if edits is not None:
            _retire(fo, name, edits, reporter)
        dataset.name = name
        return PublishedDataset(name, _gallery_links(name, findings))


def _fill(fo: Any, dataset: Any, findings: Findings, others: Mapping[str, Sequence[Domain]]) -> None:
    """Write samples, evaluations, embeddings, views and further runs into an empty dataset."""
    from reports.workbench.models import add_model

    dataset.default_classes = list(findings.in_domain.classes)
    boxes = {domain.name: boxes_of(domain, findings.cards) for domain in findings.domains}
    _write_samples(fo, dataset, findings, boxes)
    store_results(fo, dataset, findings, boxes)
    save_views(fo, dataset, findings)
    enable_annotation(dataset, findings.in_domain.classes)
    for model, domains in others.items():
        add_model(fo, dataset, model, domains)
    dataset.info["views"] = dataset.list_saved_views()


@dataclass(frozen=True)
class UserEdits:
    """What users changed in a dataset.

    added: sample id -> tags added to the image
    removed: sample id -> tags removed from the image
    box_tags: label field -> label id -> tags of the box
    views: name -> stages and description of a saved view
    keep: why the dataset must not be deleted, "" where it may
    """

    added: dict[ObjectId, list[str]]
    removed: dict[ObjectId, list[str]]
    box_tags: dict[str, dict[ObjectId, list[str]]]
    views: dict[str, tuple[list[dict[str, Any]], str]]
    keep: str


def _user_edits(dataset: Any, reporter: Reporter) -> UserEdits:
    """Collect a user's edits. Corrected labels go to the file that `shiftscope app --pull` writes."""
    keep = _save_corrections(dataset, reporter)
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
    report_views = set((dataset.info or {}).get("views", ()))
    tags_now = {d["_id"]: set(own_tags(d.get("tags") or [])) for d in documents}
    return UserEdits(
        added={key: sorted(tags) for key, tags in tags_now.items() if tags},
        removed={
            d["_id"]: sorted(removed)
            for d in documents
            if (removed := set(d.get("tags_written") or ()) - tags_now[d["_id"]])
        },
        box_tags=box_tags,
        views={
            name: (
                dataset.load_saved_view(name)._serialize(),
                dataset.get_saved_view_info(name)["description"] or "",
            )
            for name in dataset.list_saved_views()
            if name not in report_views
        },
        keep=keep,
    )


def _save_corrections(dataset: Any, reporter: Reporter) -> str:
    """Save labels corrected in a dataset; return why it must not be deleted, "" where it may."""
    from reports.workbench.pull import pull_from

    keep = ""
    try:
        result = pull_from(dataset)
        if result.images:
            reporter.say(
                f"  corrected labels of {count(result.images, 'image')} from the App "
                f"are saved in {corrections_path()}"
            )
    except InputError as problem:
        keep = f"labels corrected in it cannot be read ({problem})"
    if dataset.list_annotation_runs():
        keep = "an annotation server holds images of it"
    return keep


def _restore_user_edits(fo: Any, dataset: Any, edits: UserEdits) -> None:
    """Apply a user's edits to a new dataset, where their images, boxes and fields still exist."""
    writes = []
    for key, tags in edits.removed.items():
        removed = {"$in": tags}
        writes.append(UpdateOne({"_id": key}, {"$pull": {"tags": removed, "tags_written": removed}}))
    for key, tags in edits.added.items():
        added = {"$each": tags}
        writes.append(UpdateOne({"_id": key}, {"$addToSet": {"tags": added, "tags_written": added}}))
    writes += [
        UpdateOne(
            {f"{name}.detections._id": key},
            {"$addToSet": {f"{name}.detections.$.tags": {"$each": tags}}},
        )
        for name, boxes in edits.box_tags.items()
        for key, tags in boxes.items()
    ]
    if writes:
        dataset._sample_collection.bulk_write(writes, ordered=False)
    taken = {slug(name) for name in dataset.list_saved_views()}
    for name, (stages, description) in edits.views.items():
        # A view of fields that no longer exist cannot be built.
        with contextlib.suppress(ValueError, KeyError):
            free_name = name if slug(name) not in taken else f"{name} (mine)"
            dataset.save_view(free_name, fo.DatasetView._build(dataset, stages), description=description)


def _retire(fo: Any, name: str, edits: UserEdits, reporter: Reporter) -> None:
    """Delete the earlier dataset of a report, or rename it where it must be kept."""
    if edits.keep:
        kept = _kept_name(name, fo.list_datasets())
        reporter.say(f"  the earlier dataset is kept as {kept}: {edits.keep}")
        fo.load_dataset(name).name = kept
    else:
        fo.delete_dataset(name)
    reporter.say("  an App that is open on this report shows the earlier dataset: start it again")


def _kept_name(name: str, taken: Sequence[str]) -> str:
    """A free name for a dataset that is kept."""
    number = 1
    while f"{name}{KEPT}{number}" in taken:
        number += 1
    return f"{name}{KEPT}{number}"


def _gallery_links(name: str, findings: Findings) -> dict[int, str]:
    """Number of a gallery card -> address of its image in a running App, with only the card's box drawn."""
    numbers = number_cards(findings.cards)
    return {
        card: f"{address(name)}?view={slug(gallery_view(number))}&id={sample_id(domain, image)}"
        for card, (number, domain, image) in enumerate(
            zip(numbers, findings.cards["domain"], findings.cards["image"], strict=True)
        )
    }


def _write_samples(fo: Any, dataset: Any, findings: Findings, boxes: dict[str, BoxDocuments]) -> None:
    """Declare the fields and insert the documents of all images.

    Directly into the collection: `add_samples` checks every box, which takes a hundred times as long, and
    gives ids that change each time.

    Parameters
    ----------
    fo : module
        The module fiftyone.
    dataset : Dataset
        An empty dataset.
    findings : Findings
        The findings of the report.
    boxes : dict
        Name of a domain -> its boxes.

    Raises
    ------
    EnvironmentProblem
        The database lost documents.
    """
    from fiftyone.core.odm import create_field

    types = {"string": fo.StringField, "int": fo.IntField, "float": fo.FloatField, "bool": fo.BooleanField}
    whole: dict[str, Any] = {}
    parts: dict[str, Any] = {}
    for path, kind in schema(findings).items():
        fields, name = (parts if "." in path else whole), path.rsplit(".", 1)[-1]
        if kind == "detections":
            fields[path] = create_field(name, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
        elif kind == "keypoints":
            fields[path] = create_field(name, fo.EmbeddedDocumentField, embedded_doc_type=fo.Keypoints)
        elif kind == "strings":
            fields[path] = create_field(name, fo.ListField, subfield=fo.StringField)
        else:
            fields[path] = create_field(name, types[kind])
    # All at once, those of boxes after the fields that hold them: `add_sample_field` reads and writes the
    # whole dataset document for each.
    dataset._merge_sample_field_schema(whole)
    dataset._merge_sample_field_schema(parts)
    dataset.media_type = "image"
    for domain in findings.domains:
        documents = samples_of(domain, boxes[domain.name], findings, dataset._doc.id)
        while chunk := list(islice(documents, CHUNK)):
            dataset._sample_collection.insert_many(chunk, ordered=False)
    # A database that is killed while it writes loses documents that it has confirmed.
    expected = sum(len(domain.images) for domain in findings.domains)
    written = dataset._sample_collection.count_documents({})
    if written != expected:
        raise EnvironmentProblem(
            f"FiftyOne's database holds {written} of {expected} images after writing; "
            "run the same command again"
        )
    for name in INDEXED:
        dataset.create_index(name)


def load_report(dataset: Any) -> WrittenReport:
    """Read the report of a dataset.

    Raises InputError when the dataset does not belong to a report, or the report's folder does not exist.
    """
    folder = (dataset.info or {}).get("folder")
    if not folder:
        raise InputError(
            f"{dataset.name} was not written by this version of Shiftscope; write its report again"
        )
    return read_report(Path(folder))


def enable_annotation(dataset: Any, classes: Sequence[str]) -> None:
    """Set up the App's Annotate tab for `ground_truth` only; without this it first requires a schema."""
    schema = {
        "type": "detections",
        "component": "dropdown",
        "classes": list(classes),
        "attributes": [{"name": "iscrowd", "type": "bool", "component": "toggle"}],
    }
    dataset.update_label_schema("ground_truth", schema)
    dataset.active_label_schemas = ["ground_truth"]


def _plain_fields(fo: Any, dataset: Any) -> list[str]:
    """Sample fields with a single value: strings, numbers, booleans, and labels of classifications."""
    plain = (fo.StringField, fo.IntField, fo.FloatField, fo.BooleanField)
    fields = []
    for name, kind in dataset.get_field_schema().items():
        if isinstance(kind, plain) and name != "filepath":
            fields.append(name)
        elif isinstance(kind, fo.EmbeddedDocumentField) and kind.document_type is fo.Classification:
            fields.append(f"{name}.label")
    return fields


def attributes_of(name: str) -> Attributes:
    """Read attributes to slice by from a FiftyOne dataset: tags and plain fields of its samples, by path.

    Of a report's own dataset only the tags that a user set: its fields are results.

    Parameters
    ----------
    name : str
        Name of the dataset.

    Returns
    -------
    attributes : Attributes
        One row per path.

    Raises
    ------
    InputError
        The dataset does not exist, or has neither tags nor plain fields.
    """
    with database() as fo:
        if name not in fo.list_datasets():
            names = ", ".join(fo.list_datasets()) or "none"
            raise InputError(f"fiftyone:{name}: no such dataset; existing datasets: {names}")
        dataset = fo.load_dataset(name)
        is_own = name.startswith(PREFIX)
        fields = [] if is_own else _plain_fields(fo, dataset)
        paths, sample_tags, *columns = dataset.values(["filepath", "tags", *fields])
    table = pd.DataFrame({"key": paths})
    used_tags = {tag for tags in sample_tags for tag in tags or ()}
    for tag in own_tags(used_tags) if is_own else sorted(used_tags):
        table[f"{OWN}tag {tag}"] = ["yes" if tag in (tags or ()) else None for tags in sample_tags]
    for field, values in zip(fields, columns, strict=True):
        if any(value is not None for value in values):
            table[OWN + field.removesuffix(".label")] = [str(v) if isinstance(v, bool) else v for v in values]
    if len(table.columns) == 1:
        raise InputError(f"fiftyone:{name}: its samples have no tags and no plain fields to slice by")
    return Attributes(f"fiftyone:{name}", table.drop_duplicates("key", ignore_index=True))


def store_results(fo: Any, dataset: Any, findings: Findings, boxes: dict[str, BoxDocuments]) -> None:
    """Store our matching as evaluation runs for the Model Evaluation panel, and our embeddings as brain runs.

    Parameters
    ----------
    fo : module
        The module fiftyone.
    dataset : Dataset
        The dataset with its samples.
    findings : Findings
        The findings of the report.
    boxes : dict
        Name of a domain -> its boxes.
    """
    import fiftyone.brain as fob
    from fiftyone import ViewField as F

    from reports.workbench.evaluation import store_evaluation

    for domain in findings.domains:
        if not domain.labelled.any() or not len(domain.annotations):
            continue
        view = dataset.match(F("domain") == domain.name)
        store_evaluation(view, domain, evaluation_key(domain), boxes[domain.name])
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
    """(domain, image) -> the first two principal components of its embedding; empty without embeddings."""
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


def newest_dataset(below: Sequence[Path]) -> tuple[str | None, str]:
    """Name of the newest dataset of a report that lies below one of these folders, else of any report, and
    where that report lies; None without any.

    A user's projects share one database.
    """
    with database() as fo:
        datasets = []
        for name in report_datasets(fo):
            dataset = fo.load_dataset(name)
            report = str((dataset.info or {}).get("folder", ""))
            own = any(Path(report).is_relative_to(folder) for folder in below)
            datasets.append((own, dataset.created_at, name, report))
    return max(datasets)[2:] if datasets else (None, "")


def report_datasets(fo: Any) -> list[str]:
    """Names of the datasets of reports, without kept earlier ones and one that is being written."""
    return [
        name
        for name in fo.list_datasets(f"{PREFIX}*")
        if KEPT not in name and not name.endswith(DRAFT) and not name.startswith(REVIEW)
    ]


def exists(name: str) -> bool:
    """Whether the database holds a dataset of this name."""
    with database() as fo:
        return name in fo.list_datasets()
