"""A report of many domains and classes without a detector: simulated detections on rendered images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.simulated import HEIGHT, WIDTH, make_domain
from datasets.pixels import Pixels
from diagnostics.domain import Domain
from diagnostics.findings import find
from diagnostics.inputs import Experiments, Inputs
from reports.options import ReportOptions
from reports.page.assembly import Place, build_context
from reports.page.writer import write_report
from reports.pipeline.run import Result
from train.predictions import Settings

FILES = 30
LEDGER = ("path", "bucket", "reason", "source")
ROWS = ("path", "line", "action", "reason")


def write_large_report(folder: Path, *, domains: int, classes: int, annotated: int = 6) -> Path:
    """Write a report of so many real-world domains of a detector of so many classes, some of which are
    annotated; returns its page.
    """
    import cv2

    rng = np.random.default_rng(0)
    files = []
    for number in range(FILES):
        path = folder / "images" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), synthetic_image(rng))
        files.append(str(path))
    names = tuple(f"class {k}" for k in range(classes))
    inside = _domain("in_domain", 0, names, annotated, files, role="in_domain")
    outside = [
        _domain(f"site {d:02d}", d + 1, names, annotated, files, role="real_world", recall=0.75 - 0.02 * d)
        for d in range(domains)
    ]
    findings = find(Inputs(inside, outside, None, pd.DataFrame(), Experiments(), conf=None, seed=0))
    empty = {"ledger": pd.DataFrame(columns=list(LEDGER)), "rows": pd.DataFrame(columns=list(ROWS))}
    result = Result(ReportOptions(), None, names, Settings(inside.imgsz), findings, (), **empty)
    context = build_context(result, Place("large", "runs/report/large", None, {}), {}, "today")
    return write_report(folder / "report", findings, result.ledger, {}, context, {})


def synthetic_image(rng: np.random.Generator) -> Pixels:
    """As hard to compress as a photograph: smooth shapes under a little noise."""
    import cv2

    coarse = rng.integers(0, 255, (HEIGHT // 40, WIDTH // 40, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    noisy = smooth.astype(float) + rng.normal(0, 6, smooth.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _domain(
    name: str, seed: int, names: tuple[str, ...], annotated: int, files: list[str], **options: object
) -> Domain:
    """A simulated domain, whose images show one class each."""
    made = make_domain(name, seed=seed, clips=10, frames=4, classes=names, **options)  # type: ignore[arg-type]
    images = made.images["image"]
    label = pd.Series(np.arange(len(images)) % annotated, index=images)
    paths = [files[(i + seed) % len(files)] for i in range(len(images))]
    return replace(
        made,
        images=made.images.assign(path=paths),
        annotations=made.annotations.assign(label=made.annotations["image"].map(label).astype(int)),
        detections=made.detections.assign(label=made.detections["image"].map(label).astype(int)),
    )
