"""The FiftyOne dataset: a view of our tables that can be rebuilt from them at any time. The only file that imports fiftyone."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import sys
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from datasets.attributes import Attributes
from datasets.errors import EnvironmentProblem, InputError
from datasets.tables import OWN
from diagnostics.matching import COCO_IOUS
from diagnostics.precision import RECALL_POINTS, curves
from reports.documents import SHOWN_FLOOR, Boxes, boxes_of, evaluation_key, sample_id, samples_of, schema
from reports.findings import Findings
from reports.progress import Reporter
from train.environment import runs_folder

# Documents sent to the database at a time, and fields that people filter and sort by.
CHUNK = 500
INDEXED = ("image_id", "domain", "group", "label_next", "novelty", "detections_shown")
ADDRESS = "127.0.0.1"
PORT = 5151
VIEWS = {
    "false positives": "Real-world detections that hit no object, most confident first",
    "misses": "Real-world pictures with objects that no shown detection hits, most misses first",
    "both domains": "In-domain and real-world pictures side by side",
    "label next": "Pictures to label next, best first",
}


@dataclass(frozen=True)
class Workbench:
    """Where the dataset is. app_urls: gallery card number -> link into a running App."""

    dataset: str
    app_urls: dict[int, str]


@contextlib.contextmanager
def database() -> Iterator[Any]:
    """FiftyOne with a database that answers; one process starts it at a time.

    Raises EnvironmentProblem with the cure when it does not start.
    """
    runs_folder().mkdir(parents=True, exist_ok=True)
    # FiftyOne speaks on stdout, which is for data.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            with FileLock(runs_folder() / ".fiftyone.lock", timeout=120):
                import fiftyone as fo

                fo.config.show_progress_bars = False
                logging.getLogger("fiftyone").setLevel(logging.WARNING)
                # Its notice that MongoDB 6 is the oldest supported version is expected: make setup installs that one where no other is to be had.
                logging.getLogger("fiftyone.core.odm.database").setLevel(logging.ERROR)
                fo.list_datasets()
        except Exception as error:  # its start-up raises many kinds, some of them bare
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise EnvironmentProblem(
                f"FiftyOne's database does not start ({reason}); run 'shiftscope doctor', or use --no-fiftyone"
            ) from None
        yield fo


def dataset_name(report: Path) -> str:
    """Name of a report folder's dataset: prefixed, with a hash of the whole path because names repeat and FiftyOne's slugs collide."""
    slug = re.sub(r"[^a-z0-9]+", "-", report.name.lower()).strip("-") or "report"
    return f"shiftscope-{slug}-{hashlib.sha256(os.fsencode(report)).hexdigest()[:6]}"


def publish(findings: Findings, report: Path, info: dict[str, Any], reporter: Reporter) -> Workbench:
    """Write the dataset anew from the findings. Raises EnvironmentProblem when the database does not answer."""
    with database() as fo:
        name = dataset_name(report)
        if name in fo.list_datasets():
            fo.delete_dataset(name)
        dataset = fo.Dataset(name)
        dataset.info = info
        dataset.default_classes = list(findings.home.classes)
        with reporter.bar("Writing the FiftyOne dataset", None):
            drawn = {domain.name: boxes_of(domain) for domain in findings.domains}
            write(fo, dataset, findings, drawn)
            register(fo, dataset, findings, drawn)
            save_views(fo, dataset, findings)
        # Last, so that a run killed half-way leaves nothing that outlives it.
        dataset.persistent = True
        dataset.save()
        address = f"http://{ADDRESS}:{PORT}/datasets/{name}?id="
        return Workbench(
            name,
            {
                number: f"{address}{sample_id(card.domain, card.image)}"
                for number, card in enumerate(findings.cards[["domain", "image"]].itertuples(index=False))
            },
        )


def write(fo: Any, dataset: Any, findings: Findings, drawn: dict[str, Boxes]) -> None:
    """Declare the fields and insert the documents.

    Straight into the collection: `add_samples` spends a hundred times as long on checking each box, and gives ids that change with every writing.
    """
    kinds = {"string": fo.StringField, "int": fo.IntField, "float": fo.FloatField, "bool": fo.BooleanField}
    for name, kind in schema(findings).items():
        if kind == "detections":
            dataset.add_sample_field(name, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
        else:
            dataset.add_sample_field(name, kinds[kind])
    dataset.media_type = "image"
    for domain in findings.domains:
        documents = samples_of(domain, drawn[domain.name], findings, dataset._doc.id)
        while part := list(islice(documents, CHUNK)):
            dataset._sample_collection.insert_many(part, ordered=False)
    for name in INDEXED:
        dataset.create_index(name)


def plain_fields(fo: Any, dataset: Any) -> list[str]:
    """Fields of a sample with one value: text, numbers, yes or no, and the label of a classification."""
    plain = (fo.StringField, fo.IntField, fo.FloatField, fo.BooleanField)
    fields = []
    for field, kind in dataset.get_field_schema().items():
        if isinstance(kind, plain) and field != "filepath":
            fields.append(field)
        elif isinstance(kind, fo.EmbeddedDocumentField) and kind.document_type is fo.Classification:
            fields.append(f"{field}.label")
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
        ours = name.startswith("shiftscope-")
        fields = [] if ours else plain_fields(fo, dataset)
        columns = dataset.values(["filepath", "tags", *fields])
        table = pd.DataFrame({"key": columns[0]})
        written = {"in_domain", "real_world", "training", *(dataset.distinct("split") if ours else ())}
        for tag in sorted({tag for tags in columns[1] for tag in tags or ()} - (written if ours else set())):
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
    """Store our matching as evaluation runs that the Model Evaluation panel lists, and our embeddings as a brain run."""
    import fiftyone.brain as fob
    import fiftyone.utils.eval.coco as foec
    from fiftyone import ViewField as F

    for domain in findings.domains:
        if not domain.labelled.any() or not len(domain.boxes):
            continue
        key = evaluation_key(domain)
        view = dataset.match(F("domain") == domain.name)
        config = foec.COCOEvaluationConfig(
            "predictions",
            "ground_truth",
            iou=0.5,
            classwise=True,
            compute_mAP=True,
            iou_threshs=list(COCO_IOUS),
        )
        method = config.build()
        method.register_run(view, key)
        precision, recall = curves(domain.table)
        results = foec.COCODetectionResults(
            view,
            config,
            key,
            drawn[domain.name].matches,
            precision,
            RECALL_POINTS,
            list(COCO_IOUS),
            list(domain.classes),
            recall_sweep=recall,
            backend=method,
        )
        method.save_run_results(view, key, results)
    points = embedding_points(findings)
    if points:
        order = dataset.values(["domain", "image_id"])
        coordinates = np.array([points[pair] for pair in zip(*order, strict=True)])
        fob.compute_visualization(dataset, points=coordinates, brain_key="embedding_map", method="manual")


def embedding_points(findings: Findings) -> dict[tuple[str, str], list[float]]:
    """Two principal components of every picture, by domain and image."""
    from diagnostics.shift import pooled_components

    if not findings.home.embeddings.shape[1] or sum(len(d.pictures) for d in findings.domains) < 3:
        return {}
    points, _ = pooled_components(
        np.concatenate([d.embeddings for d in findings.domains]),
        np.zeros((0, findings.home.embeddings.shape[1]), np.float32),
    )
    names = [(d.name, image) for d in findings.domains for image in d.pictures["image"]]
    return {
        pair: [float(p[0]), float(p[1]) if len(p) > 1 else 0.0] for pair, p in zip(names, points, strict=True)
    }


def save_views(fo: Any, dataset: Any, findings: Findings) -> None:
    """The views people start from, and the colour scheme."""
    from fiftyone import ViewField as F

    away = [domain.name for domain in findings.away]
    labelled = [domain.name for domain in findings.away if domain.labelled.any()]
    real = dataset.match(F("domain").is_in(labelled or away))
    wrong = (
        (F("confidence") >= SHOWN_FLOOR)
        if not labelled
        else (F("outcome") != "hit") & (F("outcome") != "ignored")
    )
    made = {
        "false positives": real.filter_labels("predictions", wrong).sort_by(
            F("predictions.detections").map(F("confidence")).max(), reverse=True
        ),
        "both domains": dataset.sort_by("domain"),
    }
    if labelled:
        made["misses"] = real.match(F("misses") > 0).sort_by("misses", reverse=True)
    if len(findings.next):
        made["label next"] = dataset.exists("label_next").sort_by("label_next")
    for name, view in made.items():
        dataset.save_view(name, view, description=VIEWS[name])
    dataset.app_config.color_scheme = fo.ColorScheme(
        color_by="value",
        fields=[
            {
                "path": "predictions",
                "colorByAttribute": "outcome",
                "valueColors": [
                    {"value": "hit", "color": "#2ca02c"},
                    {"value": "background", "color": "#d62728"},
                    {"value": "location", "color": "#c77cff"},
                    {"value": "duplicate", "color": "#e69f00"},
                ],
            }
        ],
    )


def newest_dataset() -> str | None:
    """Name of the dataset written last by a report, if any."""
    with database() as fo:
        made = [(fo.load_dataset(name).last_modified_at, name) for name in fo.list_datasets("shiftscope-*")]
    return max(made)[1] if made else None


def open_app(name: str, reporter: Reporter, *, port: int, wait: bool) -> str:
    """Open the App on a dataset's false positives and return its address; with wait, until the user interrupts.

    Bound to the loopback address, because the App has no login. Raises EnvironmentProblem when the database does not answer.
    """
    with database() as fo:
        dataset = fo.load_dataset(name)
        view = (
            dataset.load_saved_view("false positives")
            if "false positives" in dataset.list_saved_views()
            else dataset.view()
        )
        session = fo.launch_app(view, address=ADDRESS, port=port, auto=False)
        url = f"http://{ADDRESS}:{port}/datasets/{name}?view=false-positives"
        if os.environ.get("DISPLAY") or sys.platform in ("darwin", "win32"):
            webbrowser.open(url)
        reporter.say(f"FiftyOne App: {url}  (Ctrl-C ends it)")
        if wait:
            with contextlib.suppress(KeyboardInterrupt):
                session.wait(-1)
    return url


def exists(name: str) -> bool:
    """Whether the database holds a dataset of this name."""
    with database() as fo:
        return name in fo.list_datasets()
