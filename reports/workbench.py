"""The FiftyOne dataset: a view of our tables that can be rebuilt from them at any time. The only file that imports fiftyone.

Boxes below SHOWN_FLOOR stay in our tables: they matter for AP and to nobody's eyes, and the database slows down by their square.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import re
import sys
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from datasets.attributes import Attributes
from datasets.errors import EnvironmentProblem, InputError
from datasets.tables import OWN
from diagnostics import slices
from diagnostics.domain import Domain
from diagnostics.error_types import missed_objects
from diagnostics.label_free import SHOWN
from diagnostics.matching import COCO_IOUS
from diagnostics.precision import RECALL_POINTS, curves
from reports.findings import Findings
from reports.progress import Reporter
from train.environment import runs_folder

SHOWN_FLOOR = 0.05
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
        sample_of: dict[tuple[str, str], str] = {}
        cuts = slices.edges(findings.domains)
        ranks = dict(
            zip(
                zip(findings.next["domain"], findings.next["image"], strict=True),
                findings.next["rank"],
                strict=True,
            )
        )
        with reporter.bar("Writing the FiftyOne dataset", None):
            for domain in findings.domains:
                samples = build_samples(fo, domain, findings, cuts, ranks)
                dataset.add_samples(list(samples.values()), dynamic=True)
                sample_of.update({(domain.name, image): sample.id for image, sample in samples.items()})
            register(fo, dataset, findings)
            save_views(fo, dataset, findings)
        # Last, so that a run killed half-way leaves nothing that outlives it.
        dataset.persistent = True
        dataset.save()
        links = {}
        for number, card in enumerate(findings.cards[["domain", "image"]].itertuples(index=False)):
            links[number] = (
                f"http://{ADDRESS}:{PORT}/datasets/{name}?id={sample_of[(card.domain, card.image)]}"
            )
        return Workbench(name, links)


def build_samples(
    fo: Any, domain: Domain, findings: Findings, cuts: dict[str, Any], ranks: dict[tuple[str, str], int]
) -> dict[str, Any]:
    """One sample a picture, keyed by image."""
    attributes = slices.attributes(domain, cuts).set_index("image") if domain.labelled.any() else None
    truths = ground_truth(fo, domain)
    predicted = predictions(fo, domain)
    novelty = findings.novelty.get(domain.name, np.full(len(domain.pictures), np.nan))
    key = evaluation_key(domain)
    result = {}
    for place, picture in enumerate(domain.pictures.to_dict("records")):
        image = picture["image"]
        boxes = predicted.get(image, [])
        sample = fo.Sample(
            filepath=picture["path"],
            tags=[tag for tag in (domain.role, picture["split"]) if tag],
            metadata=fo.ImageMetadata(width=picture["width"], height=picture["height"]),
            image_id=image,
            domain=domain.name,
            group=picture["group"],
            split=picture["split"] or None,
            **{
                name: float(picture[name])
                for name in ("brightness", "contrast", "saturation", "sharpness")
                if name in picture
            },
            detections_shown=sum(box.confidence >= SHOWN for box in boxes),
            predictions=fo.Detections(detections=boxes),
        )
        if math.isfinite(picture["seconds"]):
            sample["seconds"] = picture["seconds"]
        if math.isfinite(novelty[place]):
            sample["novelty"] = float(novelty[place])
        if (domain.name, image) in ranks:
            sample["label_next"] = int(ranks[(domain.name, image)])
        if picture["labelled"]:
            objects = truths.get(image, [])
            sample["ground_truth"] = fo.Detections(detections=objects)
            shown = [box for box in boxes if box.confidence >= SHOWN]
            sample["false_positives"] = sum(box["outcome"] != "hit" for box in shown)
            sample["misses"] = sum(o["outcome"] == "missed" for o in objects)
            sample[f"{key}_tp"] = sum(box["outcome"] == "hit" for box in boxes)
            sample[f"{key}_fp"] = sum(box["outcome"] != "hit" for box in boxes)
            sample[f"{key}_fn"] = sum(o[key] == "fn" for o in objects)
            if attributes is not None:
                for attribute in attributes.columns.drop("clip"):
                    field = "slice_" + re.sub(r"\W+", "_", attribute.removeprefix(OWN)).strip("_").lower()
                    if attributes.loc[image, attribute]:
                        sample[field] = str(attributes.loc[image, attribute])
        result[image] = sample
    return result


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


def evaluation_key(domain: Domain) -> str:
    """A valid evaluation key for a domain."""
    return "eval_" + (re.sub(r"\W+", "_", domain.name).strip("_").lower() or "domain")


def relative(box: dict[str, Any], width: float, height: float) -> list[float]:
    """FiftyOne's box: left, top, width, height as fractions."""
    return [
        box["x1"] / width,
        box["y1"] / height,
        (box["x2"] - box["x1"]) / width,
        (box["y2"] - box["y1"]) / height,
    ]


def ground_truth(fo: Any, domain: Domain) -> dict[str, list[Any]]:
    """Annotated objects by picture: outcome ("found" or "missed" at SHOWN), and their place in the evaluation."""
    if not domain.labelled.any():
        return {}
    at_shown = set(missed_objects(domain.table, domain.outcomes, confidence=SHOWN).tolist())
    at_floor = set(missed_objects(domain.table, domain.outcomes, confidence=SHOWN_FLOOR).tolist())
    size = domain.pictures.set_index("image")[["width", "height"]]
    key = evaluation_key(domain)
    result: dict[str, list[Any]] = {}
    for row, box in enumerate(domain.boxes.to_dict("records")):
        width, height = size.loc[box["image"]]
        detection = fo.Detection(
            label=domain.classes[box["label"]],
            bounding_box=relative(box, width, height),
            iscrowd=bool(box["crowd"]),
        )
        detection["outcome"] = "missed" if row in at_shown else "found"
        detection[key] = "fn" if row in at_floor else "tp"
        detection["row"] = row
        result.setdefault(box["image"], []).append(detection)
    return result


def predictions(fo: Any, domain: Domain) -> dict[str, list[Any]]:
    """Detections at or above SHOWN_FLOOR by picture, with their outcome where the picture is labelled."""
    size = domain.pictures.set_index("image")[["width", "height"]]
    key = evaluation_key(domain)
    outcome: dict[int, tuple[str, float]] = {}
    if domain.labelled.any():
        index = domain.scored_detections.index.to_numpy()
        found = domain.outcomes
        outcome = {
            int(i): (o, float(v))
            for i, o, v in zip(index[found["row"]], found["outcome"], found["nearest_iou"], strict=True)
        }
    result: dict[str, list[Any]] = {}
    kept = domain.detections[domain.detections["confidence"] >= SHOWN_FLOOR]
    for row, box in zip(kept.index, kept.to_dict("records"), strict=True):
        width, height = size.loc[box["image"]]
        detection = fo.Detection(
            label=domain.classes[box["label"]],
            bounding_box=relative(box, width, height),
            confidence=box["confidence"],
        )
        if outcome:
            # A detection the matching left out (beyond the limit a picture) counts as ignored, not as an error.
            detection["outcome"], detection["iou"] = outcome.get(int(row), ("ignored", 0.0))
            detection[key] = "tp" if detection["outcome"] == "hit" else "fp"
        detection["row"] = int(row)
        result.setdefault(box["image"], []).append(detection)
    return result


def register(fo: Any, dataset: Any, findings: Findings) -> None:
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
        matches = match_list(view, domain, key)
        results = foec.COCODetectionResults(
            view,
            config,
            key,
            matches,
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


def match_list(view: Any, domain: Domain, key: str) -> list[tuple[Any, ...]]:
    """FiftyOne's list of matches (truth, prediction, IoU, confidence, ids) from our outcomes."""
    truth_ids = dict(
        zip(
            flat(view.values("ground_truth.detections.row")),
            flat(view.values("ground_truth.detections.id")),
            strict=True,
        )
    )
    found = domain.outcomes
    partner = dict(
        zip(
            domain.scored_detections.index.to_numpy()[found["row"]].tolist(),
            found["partner"].tolist(),
            strict=True,
        )
    )
    matches: list[tuple[Any, ...]] = []
    used: set[int] = set()
    names = ("row", "id", "label", "confidence", "outcome", "iou")
    for row, label_id, label, confidence, outcome, iou in zip(
        *(flat(view.values(f"predictions.detections.{n}")) for n in names), strict=True
    ):
        if outcome == "hit":
            object_row = partner[row]
            used.add(object_row)
            matches.append(
                (
                    domain.classes[int(domain.boxes["label"].iloc[object_row])],
                    label,
                    iou,
                    confidence,
                    truth_ids[object_row],
                    label_id,
                )
            )
        elif outcome != "ignored":
            matches.append((None, label, None, confidence, None, label_id))
    matches += [
        (domain.classes[int(domain.boxes["label"].iloc[row])], None, None, None, label_id, None)
        for row, label_id in truth_ids.items()
        if row not in used
    ]
    return matches


def flat(nested: list[Any]) -> list[Any]:
    """Values of a list field over samples, in one list."""
    return [value for values in nested for value in (values or [])]


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
