"""Drafts to be looked through in the App: the images of a prepared dataset with their labels, the least sure drafts first, and the way back that reports have too."""

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
from reports.workbench.dataset import REVIEW, offer_labels
from reports.workbench.documents import as_written, fractions, object_id
from reports.workbench.pull import pull_from
from reports.workbench.views import DRAFTS, slug


def _review_name(folder: Path) -> str:
    """Name of a prepared folder's dataset."""
    return f"{REVIEW}{slug(folder.name) or 'dataset'}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:6]}"


def publish_review(folder: Path, source: Source, drafts: Mapping[str, float]) -> str:
    """Write a prepared dataset for the App and return its name; what stood there under it goes. source: the folder, opened. drafts: image -> confidence of its least sure box.

    Labels that are drawn, moved or taken away there, and tags, come back by `shiftscope app --pull`. Raises EnvironmentProblem when the database does not answer.
    """
    with database() as fo:
        name = _review_name(folder)
        if name in fo.list_datasets():
            # What was repaired there and not fetched yet is kept.
            pull_from(fo.load_dataset(name))
            fo.delete_dataset(name)
        dataset = fo.Dataset(name)
        dataset.info = {"folder": str(folder), "created": datetime.now(UTC).isoformat()}
        dataset.default_classes = list(source.classes)
        dataset.add_sample_field("ground_truth", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
        dataset.add_sample_field("ground_truth.detections.iscrowd", fo.BooleanField)
        for field in ("labels_written", "tags_written"):
            dataset.add_sample_field(field, fo.ListField, subfield=fo.StringField)
        for field in ("image_id", "group", "split"):
            dataset.add_sample_field(field, fo.StringField)
        dataset.add_sample_field("least_sure", fo.FloatField)
        dataset.media_type = "image"
        parts = dict(iter(source.annotations.groupby("image")))
        dataset._sample_collection.insert_many(
            [
                _document(
                    row,
                    source,
                    parts.get(row["image"], source.annotations.iloc[:0]),
                    drafts,
                    dataset._doc.id,
                )
                for row in source.images.to_dict("records")
            ]
        )
        offer_labels(dataset, source.classes)
        view = dataset.exists("least_sure").sort_by("least_sure")
        dataset.save_view(
            DRAFTS, view, description="A detector's guesses: mend them in the Annotate tab of an image"
        )
        dataset.app_config.sidebar_groups = [
            fo.SidebarGroupDocument(name="tags", paths=[], expanded=True),
            fo.SidebarGroupDocument(name="labels", paths=["ground_truth"], expanded=True),
            fo.SidebarGroupDocument(name="drafts", paths=["least_sure", "group", "split"], expanded=True),
            fo.SidebarGroupDocument(
                name="kept for the way back",
                paths=["image_id", "labels_written", "tags_written", "metadata.width", "metadata.height"],
                expanded=False,
            ),
        ]
        dataset.persistent = True
        dataset.save()
        return name


def _document(
    row: Mapping[Any, Any], source: Source, boxes: pd.DataFrame, drafts: Mapping[str, float], dataset: Any
) -> dict[str, Any]:
    """One image with its boxes."""
    image, now = str(row["image"]), datetime.now(UTC)
    size = [[float(row["width"]), float(row["height"])]] * len(boxes)
    places = fractions(boxes[CORNERS].to_numpy(float), np.array(size).reshape(-1, 2))
    truths = [
        {
            "_id": object_id("review", image, number),
            "_cls": "Detection",
            "attributes": {},
            "tags": [],
            "label": source.classes[int(label)],
            "bounding_box": place,
            "iscrowd": bool(crowd),
        }
        for number, (label, crowd, place) in enumerate(
            zip(boxes["label"], boxes["crowd"], places, strict=True)
        )
    ]
    return {
        "_id": object_id("review", image),
        "_dataset_id": dataset,
        "_media_type": "image",
        "_rand": int(hashlib.sha256(image.encode("utf-8", "backslashreplace")).hexdigest()[:12], 16) / 2**48,
        "filepath": row["path"],
        "tags": [],
        "tags_written": [],
        "metadata": {
            "_cls": "ImageMetadata",
            "width": int(row["width"]),
            "height": int(row["height"]),
        },
        "created_at": now,
        "last_modified_at": now,
        "image_id": image,
        "group": row["group"],
        "split": row["split"] or None,
        "least_sure": drafts.get(image),
        "ground_truth": {"_cls": "Detections", "detections": truths},
        "labels_written": [as_written(truth) for truth in truths] if row["labelled"] else None,
    }
