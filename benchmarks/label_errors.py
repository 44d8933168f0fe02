"""How well label errors are found: planted into a labelled set by a recipe of their own, ranked, and
estimated.

`python -m benchmarks.label_errors SOURCE --weights FILE [--imgsz 640] [--rate 0.025] [--seeds 3]`

Each seed plants errors of four kinds into a copy of the labels: boxes left out, moved by a third to two
thirds of their size, of another class, and boxes anywhere at random. Candidates are ranked by
`diagnostics.label_audit` and, where cleanlab is installed (it is no dependency of the project), by its object
detection scores. Reported: the share of errors among the first 50, the share of all errors in as many
candidates as a tenth of the boxes, and how often the interval of the share holds from 60 answers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.classes import with_classes
from datasets.source import open_source
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.label_audit import (
    ANNOTATION,
    MISSING,
    DomainAudit,
    find_candidates,
    measure_audit,
    sampling_sizes,
)
from diagnostics.matching import Bools, iou_table
from diagnostics.point_measures import draw_order
from train.environment import frames_folder, harden

FIRST, TENTH, ANSWERS, DRAWS = 50, 0.1, 60, 40


@dataclass(frozen=True)
class Spoiled:
    """A domain with planted errors.

    domain: the domain with the spoiled labels
    wrong: rows of its annotations that are wrong
    left_out: the annotations that were left out
    """

    domain: Domain
    wrong: frozenset[int]
    left_out: pd.DataFrame

    @property
    def errors(self) -> int:
        """Number of planted errors."""
        return len(self.wrong) + len(self.left_out)


def spoil(domain: Domain, rate: float, rng: np.random.Generator) -> Spoiled:
    """Plant errors of each kind, each into this share of the labels."""
    labels = domain.annotations[~domain.annotations["crowd"]].reset_index(drop=True)
    images, classes = domain.labelled_images, labels["label"].unique()
    sizes = images.set_index("image")[["width", "height"]]
    each = max(3, round(rate * len(labels)))
    order = rng.permutation(len(labels))
    left_out, moved = order[:each], order[each : 2 * each]
    swapped = order[2 * each : 3 * each] if len(classes) > 1 else order[:0]
    spoiled, wrong = labels.copy(), set()
    for row in moved:
        box = labels.loc[row, CORNERS].to_numpy(float)
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.7)
        step = np.array([np.cos(angle), np.sin(angle)]) * distance * (box[2:] - box[:2])
        limit = np.tile(sizes.loc[labels.loc[row, "image"]].to_numpy(float), 2)
        after = np.clip(box + np.tile(step, 2), 0, limit)
        if (after[2:] - after[:2] > 2).all():
            spoiled.loc[row, CORNERS] = after
            wrong.add(int(row))
    for row in swapped:
        spoiled.loc[row, "label"] = rng.choice(classes[classes != labels.loc[row, "label"]])
        wrong.add(int(row))
    invented = []
    for _ in range(each):
        image, like = images.iloc[rng.integers(len(images))], labels.iloc[rng.integers(len(labels))]
        width, height = min(like.x2 - like.x1, image.width - 1), min(like.y2 - like.y1, image.height - 1)
        x, y = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
        box = dict(zip(CORNERS, (x, y, x + width, y + height), strict=True))
        invented.append({"image": image.image, "label": rng.choice(classes), "crowd": False, **box})
    kept = spoiled.drop(index=left_out)
    whole = pd.concat([kept, pd.DataFrame(invented)], ignore_index=True)
    places = {int(row): place for place, row in enumerate(kept.index)}
    rows = {places[row] for row in wrong if row in places} | set(range(len(kept), len(whole)))
    changed = Domain(**{**vars_of(domain), "annotations": whole})
    return Spoiled(changed, frozenset(rows), labels.loc[left_out])


def vars_of(domain: Domain) -> Mapping[str, Any]:
    """The fields of a domain, without what it computed from them."""
    return {name: getattr(domain, name) for name in Domain.__dataclass_fields__}


def truth_of(ranked: pd.DataFrame, spoiled: Spoiled) -> Bools:
    """Whether each ranked candidate is a planted error; a label that was left out counts once."""
    left_out = dict(spoiled.left_out.groupby("image"))
    seen: set[int] = set()
    truth = np.zeros(len(ranked), bool)
    for place, row in enumerate(ranked.itertuples()):
        if row.kind == ANNOTATION:
            truth[place] = row.row in spoiled.wrong
        elif row.image in left_out:
            there = left_out[row.image]
            overlap = iou_table(np.array([[row.x1, row.y1, row.x2, row.y2]]), there[CORNERS].to_numpy(float))[
                0
            ]
            index = int(there.index[overlap.argmax()])
            truth[place] = overlap.max() >= 0.5 and index not in seen
            seen |= {index} if truth[place] else set()
    return truth


def by_cleanlab(domain: Domain) -> pd.DataFrame | None:
    """The candidates by cleanlab's scores, the worst first; None where it is not installed."""
    try:
        from cleanlab.object_detection import rank  # type: ignore[import-not-found]
    except ImportError:
        return None
    detections = domain.detections[domain.detections["confidence"] >= 0.01].reset_index()
    labels: list[dict[str, Any]] = []
    predictions, label_rows, detection_rows = [], [], []
    for image in domain.labelled_images["image"]:
        mine = domain.annotations[domain.annotations["image"] == image]
        found = detections[detections["image"] == image]
        labels.append({"bboxes": mine[CORNERS].to_numpy(float), "labels": mine["label"].to_numpy()})
        parts = [found[found["label"] == number] for number in range(len(domain.classes))]
        packed = np.empty(len(parts), object)
        for number, part in enumerate(parts):
            packed[number] = part[[*CORNERS, "confidence"]].to_numpy(float)
        predictions.append(packed)
        label_rows.append(mine.index.to_numpy())
        detection_rows.append(pd.concat(parts)["index"].to_numpy())
    scores = {
        name: getattr(rank, f"compute_{name}_box_scores")(labels=labels, predictions=predictions)
        for name in ("badloc", "swap", "overlooked")
    }
    rows = []
    for place, (mine_rows, found_rows) in enumerate(zip(label_rows, detection_rows, strict=True)):
        worst = np.fmin(scores["badloc"][place], scores["swap"][place]) if len(mine_rows) else []
        rows += [(ANNOTATION, row, score) for row, score in zip(mine_rows, worst, strict=True)]
        overlooked = scores["overlooked"][place]
        rows += [(MISSING, r, s) for r, s in zip(found_rows, overlooked, strict=True) if s == s]
    table = pd.DataFrame(rows, columns=["kind", "row", "score"]).sort_values("score", kind="stable")
    sources = {ANNOTATION: domain.annotations, MISSING: domain.detections}
    boxes = [
        sources[kind].loc[row, ["image", *CORNERS]]
        for kind, row in zip(table["kind"], table["row"], strict=True)
    ]
    return table.reset_index(drop=True).join(pd.DataFrame(boxes).reset_index(drop=True))


def figures(truth: Bools, spoiled: Spoiled) -> tuple[float, float]:
    """Share of errors among the first, and of all errors in a tenth of the boxes."""
    tenth = max(1, round(TENTH * len(spoiled.domain.annotations)))
    return float(truth[:FIRST].mean()), float(truth[:tenth].sum() / spoiled.errors)


def held(candidates: pd.DataFrame, truth: Bools, annotations: int) -> float:
    """How often the interval of the share holds."""
    sizes, share = sampling_sizes(candidates["suspicion"].to_numpy(float)), truth.sum() / annotations
    inside = []
    for draw in range(DRAWS):
        order = draw_order(sizes, draw)
        audit = DomainAudit(
            candidates.iloc[order].reset_index(drop=True), truth[order[:ANSWERS]], sizes[order]
        )
        measured = measure_audit("", audit).share
        inside.append(measured is not None and measured[1] <= share <= measured[2])
    return float(np.mean(inside))


def main() -> None:
    """Measure one set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--rate", type=float, default=0.025)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    harden()
    from train.forward import Detector
    from train.predictions import Settings, Store, predict_folder
    from train.run import file_sha256

    detector, settings = Detector(arguments.weights), Settings(arguments.imgsz)
    source = open_source(arguments.source, cache=frames_folder(), classes=detector.classes)
    source = with_classes(source, detector.classes, {})
    images = source.images[source.images["labelled"] & (source.images["split"] != "train")].reset_index(
        drop=True
    )
    store = Store(predict_folder(settings, file_sha256(arguments.weights)))
    predicted = detector.predict(images, settings, store, embed_detections=False)
    labels = source.annotations[source.annotations["image"].isin(images["image"])].reset_index(drop=True)
    detections = predicted.detections[predicted.detections["label"].isin(labels["label"].unique())]
    empty = np.zeros((len(images), 0), np.float32)
    domain = Domain(
        "set",
        "real_world",
        images,
        labels,
        detections.reset_index(drop=True),
        empty,
        np.zeros((len(detections), 0), np.float32),
        arguments.imgsz,
        detector.classes,
    )
    for seed in range(arguments.seeds):
        spoiled = spoil(domain, arguments.rate, np.random.default_rng(seed))
        candidates = find_candidates(spoiled.domain, seed=seed)
        truth = truth_of(candidates, spoiled)
        first, tenth = figures(truth, spoiled)
        interval = held(candidates, truth, len(spoiled.domain.annotations))
        line = f"seed {seed}: {spoiled.errors} errors; first {FIRST} {first:.2f}, tenth {tenth:.2f}, held {interval:.2f}"
        other = by_cleanlab(spoiled.domain)
        if other is not None:
            line += "; cleanlab first {:.2f}, tenth {:.2f}".format(
                *figures(truth_of(other, spoiled), spoiled)
            )
        sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
