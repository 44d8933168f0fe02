"""Drafts to review in the App: the images of a prepared dataset with their labels.

The least confident drafts come first. Corrections are read back as those of reports are.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.tables import CORNERS, Source
from reports.workbench.connection import database
from reports.workbench.dataset import REVIEW, enable_annotation
from reports.workbench.documents import object_id, relative_boxes, serialize_label
from reports.workbench.pull import pull_from
from reports.workbench.views import DRAFTS, slug


def _review_name(folder: Path) -> str:
    """Name of a prepared folder's dataset."""
    return f"{REVIEW}{slug(folder.name) or 'dataset'}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:6]}"


def publish_drafts(folder: Path, source: Source, drafts: Mapping[str, float]) -> str:
    """Write a prepared dataset for the App, in place of an earlier one of the same folder.

    `shiftscope app --pull` reads back tags, and labels that are drawn, moved or deleted in it.

    Parameters
    ----------
    folder : Path
        The prepared dataset.
    source : Source
        The folder, opened.
    drafts : mapping
        Image with drafted labels -> confidence of its least confident box.

    Returns
    -------
    str
        Name of the dataset.

    Raises
    ------
    EnvironmentProblem
        The database does not answer.
    """
    with database() as fo:
        name = _review_name(folder)
        if name in fo.list_datasets():
            # Corrections that were not read back yet are kept.
            pull_from(fo.load_dataset(name))
            fo.delete_dataset(name)
        dataset = fo.Dataset(name)
        dataset.info = {"folder": str(folder), "created": datetime.now(UTC).isoformat()}
        dataset.default_classes = list(source.classes)
        _declare_fields(fo, dataset)
        _insert_samples(dataset, source, drafts)
        enable_annotation(dataset, source.classes)
        view = dataset.exists("draft_confidence").sort_by("draft_confidence")
        description = "Boxes drafted by a detector: correct them in the Annotate tab of an image"
        dataset.save_view(DRAFTS, view, description=description)
        dataset.app_config.sidebar_groups = _sidebar(fo)
        dataset.persistent = True
        dataset.save()
        return name


def _declare_fields(fo: Any, dataset: Any) -> None:
    """Declare the fields of the samples."""
    dataset.add_sample_field("ground_truth", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    dataset.add_sample_field("ground_truth.detections.iscrowd", fo.BooleanField)
    for field in ("labels_written", "tags_written"):
        dataset.add_sample_field(field, fo.ListField, subfield=fo.StringField)
    for field in ("image_id", "group", "split"):
        dataset.add_sample_field(field, fo.StringField)
    dataset.add_sample_field("draft_confidence", fo.FloatField)


def _insert_samples(dataset: Any, source: Source, drafts: Mapping[str, float]) -> None:
    """Insert a document for every image."""
    dataset.media_type = "image"
    annotations = dict(iter(source.annotations.groupby("image")))
    none = source.annotations.iloc[:0]
    dataset._sample_collection.insert_many(
        [
            {
                **_document(row, source, annotations.get(row["image"], none)),
                "_dataset_id": dataset._doc.id,
                "draft_confidence": drafts.get(str(row["image"])),
            }
            for row in source.images.to_dict("records")
        ]
    )


def _sidebar(fo: Any) -> list[Any]:
    """Labels and drafts; the fields that `--pull` needs are collapsed."""
    stored = ["image_id", "labels_written", "tags_written", "metadata.width", "metadata.height"]
    drafts = ["draft_confidence", "group", "split"]
    return [
        fo.SidebarGroupDocument(name="tags", paths=[], expanded=True),
        fo.SidebarGroupDocument(name="labels", paths=["ground_truth"], expanded=True),
        fo.SidebarGroupDocument(name="drafts", paths=drafts, expanded=True),
        fo.SidebarGroupDocument(name="bookkeeping", paths=stored, expanded=False),
    ]


def _document(row: Mapping[Any, Any], source: Source, annotations: pd.DataFrame) -> dict[str, Any]:
    """One image with its annotations."""
    image, now = str(row["image"]), datetime.now(UTC)
    digest = hashlib.sha256(image.encode("utf-8", "backslashreplace")).hexdigest()
    sizes = [[float(row["width"]), float(row["height"])]] * len(annotations)
    boxes = relative_boxes(annotations[CORNERS].to_numpy(float), np.array(sizes).reshape(-1, 2))
    labels = [
        {
            "_id": object_id("review", image, number),
            "_cls": "Detection",
            "attributes": {},
            "tags": [],
            "label": source.classes[int(label)],
            "bounding_box": box,
            "iscrowd": bool(crowd),
        }
        for number, (label, crowd, box) in enumerate(
            zip(annotations["label"], annotations["crowd"], boxes, strict=True)
        )
    ]
    return {
        "_id": object_id("review", image),
        "_media_type": "image",
        # FiftyOne draws random subsets by this number in [0, 1).
        "_rand": int(digest[:12], 16) / 2**48,
        "filepath": row["path"],
        "tags": [],
        "tags_written": [],
        "metadata": {"_cls": "ImageMetadata", "width": int(row["width"]), "height": int(row["height"])},
        "created_at": now,
        "last_modified_at": now,
        "image_id": image,
        "group": row["group"],
        "split": row["split"] or None,
        "ground_truth": {"_cls": "Detections", "detections": labels},
        "labels_written": [serialize_label(label) for label in labels] if row["labelled"] else None,
    }
