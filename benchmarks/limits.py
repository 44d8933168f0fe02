"""`make limits`: what must stay fast, measured against its limit.

A timing depends on what else the machine does, so none of these is a test. Each limit is a ratio to other
work in the same process where there is such work, and CPU time otherwise. Exits with 1 when a limit is
exceeded.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import typer

from benchmarks.simulated import make_domain
from datasets.collector import Collector
from datasets.containment import Bounds
from datasets.source import open_source
from datasets.world import DASHCAM, DRONE, Clip, Plan, build_world
from diagnostics import acquisition
from diagnostics.findings import find
from diagnostics.inputs import Experiments, Inputs
from reports.progress import Reporter
from reports.watch import attach
from reports.workbench import dataset as workbench
from reports.workbench.connection import database
from reports.workbench.documents import SHOWN_FLOOR
from train.predictions import SHARD, ImagePrediction, Store
from train.recipe import ARCHITECTURE, Recipe
from train.run import open_run
from train.training import TrainingCallbacks, train

ROUNDS = 3


@dataclass(frozen=True)
class Limit:
    """One measurement.

    what: what was measured, with its unit
    measured: the value; lower is better
    limit: the largest value that is acceptable
    """

    what: str
    measured: float
    limit: float


def cpu_seconds(job: Callable[[], object], rounds: int = ROUNDS) -> float:
    """CPU seconds of a job, the least of some rounds."""
    took = []
    for _ in range(rounds):
        started = time.process_time()
        job()
        took.append(time.process_time() - started)
    return min(took)


def rank_twenty_thousand_images(folder: Path) -> Limit:
    """Rank a pool of 20,000 images against 2,000 of the real world."""
    rng = np.random.default_rng(0)
    count = 20_000
    images = pd.DataFrame(
        {
            "domain": "pool",
            "image": [f"i{n}" for n in range(count)],
            "path": "p",
            "group": [f"clip{n // 100}" for n in range(count)],
            "novelty": 3.0,
            "shown": 0,
            "fingerprint": [rng.bytes(32) for _ in range(count)],
        }
    )
    points = rng.normal(0, 1, (count, 256)).astype(np.float32)
    pool = acquisition.Pool(images, points, np.ones(count, bool))
    footage = rng.normal(0, 1, (2_000, 256)).astype(np.float32)
    seconds = cpu_seconds(lambda: acquisition.rank_images(pool, footage, budget=50, seed=0), rounds=1)
    return Limit("rank 20,000 images to label (CPU seconds)", seconds, 20)


def read_label_files(folder: Path) -> Limit:
    """Read 10,000 label files of five boxes each."""
    root = folder / "labels"
    root.mkdir()
    for number, boxes in enumerate(np.random.default_rng(0).uniform(0.3, 0.6, (10_000, 5, 4))):
        rows = "".join(f"{number % 2} {a:.6f} {b:.6f} {c:.6f} {d:.6f}\n" for a, b, c, d in boxes)
        (root / f"{number:05d}.txt").write_text(rows)
    paths = sorted(root.iterdir())

    def bare() -> None:
        for path in paths:
            with path.open(encoding="utf-8") as handle:
                _ = [line.split() for line in handle.read().splitlines()]

    def collected() -> None:
        collector = Collector(root, ["pothole", "crack"], Bounds.of([root]))
        for number, path in enumerate(paths):
            values = path.stem, str(path), "train", 640, 480, False
            for column, value in zip(collector.images.values(), values, strict=True):
                column.append(value)
            collector.add_label_file(path, number)

    bare()
    return Limit(
        "read label files, against bare reading (ratio)", cpu_seconds(collected) / cpu_seconds(bare), 3
    )


def read_stored_predictions(folder: Path) -> Limit:
    """Read four times as many stored predictions; comparing every shard with every image takes nine times."""

    def stored(size: int) -> Callable[[], object]:
        store = Store(folder / f"store{size}")
        nothing = np.zeros((1, 6), np.float32), np.zeros((1, 1), np.float32)
        predictions = [
            ImagePrediction(
                f"{n:032}", {"brightness": 0.5}, np.zeros(84, np.float32), b"", nothing[1][0], *nothing
            )
            for n in range(size)
        ]
        for start in range(0, size, SHARD):
            store.add(predictions[start : start + SHARD])
        contents = {f"i{n}": f"{n:032}" for n in range(size)}
        return lambda: store.read(contents)

    growth = cpu_seconds(stored(32_000)) / cpu_seconds(stored(8_000))
    return Limit("read four times the stored predictions (ratio)", growth, 6)


def render(folder: Path) -> Limit:
    """Render the road world at the demo's size on one thread."""
    cv2.setNumThreads(1)
    try:
        per_image = min(
            cpu_seconds(lambda seed=seed: list(Clip((seed,), DASHCAM, 12).images()), rounds=1) / 12
            for seed in range(ROUNDS)
        )
    finally:
        cv2.setNumThreads(-1)
    return Limit("render an image of the road world (CPU seconds)", per_image, 1 / 25)


def watch(folder: Path) -> Limit:
    """Measure the real world after an epoch, against Ultralytics' validation of as many images.

    Two timings of the same work differ by a tenth; a second forward pass, or decoding the images again, takes
    much longer.
    """
    list(build_world(folder / "dashcam", Plan(DASHCAM, {"train": (2, 4), "val": (4, 6)}, seed=7)))
    list(build_world(folder / "drone", Plan(DRONE, {"val": (4, 6)}, seed=6)))
    spent: list[float] = []

    def timed(model: Any) -> None:
        begin = [0.0]
        model.add_callback("on_val_start", lambda validator: begin.__setitem__(0, time.perf_counter()))
        model.add_callback("on_val_end", lambda validator: spent.append(time.perf_counter() - begin[0]))
        attach(model, {"drone": str(folder / "drone")}, say=lambda line: None)

    extra = {"nbs": 8, "optimizer": "AdamW", "warmup_epochs": 0.0, "mosaic": 0.0, "pretrained": False}
    run = train(
        open_source(str(folder / "dashcam"), cache=folder / "cache"),
        folder / "run",
        Recipe(ARCHITECTURE, epochs=5, imgsz=320, batch=8, device="cpu", extra=extra),
        TrainingCallbacks(on_model=timed),
    )
    table = open_run(run).watched
    ratio = table.loc[table["domain"] == "drone", "seconds"].min() / min(spent[:5])
    return Limit("watch a domain, against validating as many images (ratio)", ratio, 1.1)


def publish(folder: Path) -> Limit:
    """Write an image of about 100 detections to FiftyOne, against adding and evaluating it by FiftyOne."""
    rng = np.random.default_rng(0)
    domain = make_domain("many", role="real_world", clips=20, frames=25, seed=5)
    many = pd.concat([domain.detections] * 40, ignore_index=True)
    many[["x1", "x2"]] += rng.uniform(-20, 20, (len(many), 1))
    many["confidence"] = rng.uniform(SHOWN_FLOOR, 1, len(many))
    embeddings = np.tile(domain.detection_embeddings, (40, 1))
    domain = replace(domain, detections=many, detection_embeddings=embeddings)
    in_domain = make_domain("in_domain", clips=5, frames=2, seed=1)
    for each in (domain, in_domain):
        each.images["width"], each.images["height"] = 640, 480
    findings = find(Inputs(in_domain, [domain], None, pd.DataFrame(), Experiments(), conf=None, seed=0))
    started = time.process_time()
    written = workbench.publish(findings, folder, {}, Reporter())
    writing = (time.process_time() - started) / (len(domain.images) + len(in_domain.images))
    with database() as fo:
        part = fo.load_dataset(written.dataset).match(fo.ViewField("domain") == "many").limit(40)
        adding = cpu_seconds(lambda: _add_and_evaluate(fo, part), rounds=1) / len(part)
        fo.delete_dataset(written.dataset)
    return Limit("write an image to FiftyOne, against FiftyOne's own way (ratio)", writing / adding, 1 / 20)


def _add_and_evaluate(fo: Any, part: Any) -> None:
    samples = []
    for sample in part:
        fields = {
            field: fo.Detections(
                detections=[
                    fo.Detection(label=b.label, bounding_box=b.bounding_box, confidence=b.confidence)
                    for b in sample[field].detections
                ]
            )
            for field in ("ground_truth", "predictions")
        }
        samples.append(fo.Sample(filepath=sample.filepath, **fields))
    dataset = fo.Dataset()
    dataset.add_samples(samples, progress=False)
    dataset.evaluate_detections(
        "predictions", gt_field="ground_truth", eval_key="fiftyone", compute_mAP=True, progress=False
    )
    dataset.delete()


MEASUREMENTS = (
    rank_twenty_thousand_images,
    read_label_files,
    read_stored_predictions,
    render,
    watch,
    publish,
)


def measured() -> Iterator[Limit]:
    """Each measurement in a temporary folder of its own."""
    for measure in MEASUREMENTS:
        with tempfile.TemporaryDirectory(prefix="shiftscope-limits-") as folder:
            yield measure(Path(folder))


def main() -> None:
    """Print one line a measurement."""
    exceeded = False
    for limit in measured():
        within = limit.measured <= limit.limit
        exceeded |= not within
        mark = "ok  " if within else "SLOW"
        sys.stdout.write(f"{mark} {limit.what}: {limit.measured:.3g}, limit {limit.limit:.3g}\n")
    raise SystemExit(exceeded)


if __name__ == "__main__":
    typer.run(main)
