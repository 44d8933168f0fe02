"""`python -m benchmarks.growth`: seconds, memory and page size as the footage grows; writes docs/scale.md.

The real-world images are written again and again, each time mirrored or not, darker or lighter and with other noise,
so that every file is another image and costs a forward pass of its own. Any weights and domains will do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import pandas as pd
import typer
import yaml

from datasets.pixels import decode
from datasets.source import open_source
from datasets.tables import Source

ROWS = Path(__file__).with_name("growth.csv")
# Images of one written recording, and their longest side in pixels: small, since what grows is counted in images.
PER_RECORDING = 100
SIDE = 160


def write_variant(folder: Path, number: int, path: str, rows: np.ndarray) -> None:
    """One image and its annotations, changed as its number says.

    folder: of the dataset. rows: class, centre and size in fractions of the image, (n, 5).
    """
    rng = np.random.default_rng(number)
    pixels = decode(Path(path))
    scale = SIDE / max(pixels.shape[:2])
    pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.float32)
    pixels = pixels * rng.uniform(0.8, 1.2) + rng.normal(0, 3, pixels.shape)
    boxes = rows.copy()
    if number % 2:
        pixels, boxes[:, 1] = pixels[:, ::-1], 1 - boxes[:, 1]
    name = f"recording_{number // PER_RECORDING:04d}/frame_{number % PER_RECORDING:04d}"
    image, labels = folder / "images" / f"{name}.jpg", folder / "labels" / f"{name}.txt"
    for file in (image, labels):
        file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(image), np.clip(pixels, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 85])
    labels.write_text("".join(f"{int(c)} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for c, x, y, w, h in boxes))


def _write_part(folder: Path, source: Source, numbers: Sequence[int]) -> None:
    """Write the variants of some numbers."""
    rows_of = dict(iter(source.annotations.groupby("image")))
    images = source.images
    for number in numbers:
        row = images.iloc[number % len(images)]
        part = rows_of.get(row["image"], source.annotations.iloc[:0])
        width, height = float(row["width"]), float(row["height"])
        corners = part[["x1", "y1", "x2", "y2"]].to_numpy(float) / [width, height, width, height]
        boxes = np.column_stack(
            [
                part["label"].to_numpy(float),
                (corners[:, :2] + corners[:, 2:]) / 2,
                corners[:, 2:] - corners[:, :2],
            ]
        )
        write_variant(folder, number, str(row["path"]), boxes)


def write_footage(folder: Path, source: Source, count: int) -> None:
    """A YOLO dataset of so many images, made of those of a source."""
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers) as pool:
        for done in [
            pool.submit(_write_part, folder, source, range(part, count, workers)) for part in range(workers)
        ]:
            done.result()
    names = dict(enumerate(source.classes))
    card = {"path": str(folder), "train": "images", "val": "images", "names": names}
    (folder / "data.yaml").write_text(yaml.safe_dump(card))


def timed(command: list[str], runs: Path) -> tuple[float, float]:
    """Seconds and peak memory in GiB of a command. Raises SystemExit with what it printed."""
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(
            command, env={**os.environ, "SHIFTSCOPE_RUNS": str(runs)}, stdout=printed, stderr=printed
        )
        _, status, usage = os.wait4(process.pid, 0)
        printed.seek(0)
        if status:
            raise SystemExit(f"{' '.join(command[:3])} ...: exit {status}\n{printed.read()[-3000:]}")
    return time.perf_counter() - begin, usage.ru_maxrss / 2**20


def measure(
    weights: Path, in_domain: str, source: Source, imgsz: int, count: int, folder: Path
) -> dict[str, Any]:
    """One row of the table."""
    footage, runs = folder / "footage", folder / "runs"
    write_footage(footage, source, count)
    shiftscope = str(Path(sys.executable).with_name("shiftscope"))
    report = [shiftscope, "report", "--weights", str(weights), "--in-domain", in_domain, "--real-world"]
    report += [f"footage={footage}", "--imgsz", str(imgsz), "--no-fiftyone", "--out", str(folder / "report")]
    rank = [shiftscope, "next", "--from-report", str(folder / "report"), "--pool", str(footage)]
    first, first_memory = timed(report, runs)
    second, second_memory = timed(report, runs)
    ranking, ranking_memory = timed([*rank, "--out", str(folder / "next")], runs)
    page = folder / "report" / "report.html"
    stored = sum(file.stat().st_size for file in (runs / "predictions").rglob("*.parquet"))
    row = {
        "weights": weights.parent.parent.name if weights.parent.name == "weights" else weights.stem,
        "imgsz": imgsz,
        "images": count,
        "first": round(first, 1),
        "first_memory": round(first_memory, 2),
        "second": round(second, 1),
        "second_memory": round(second_memory, 2),
        "ranking": round(ranking, 1),
        "ranking_memory": round(ranking_memory, 2),
        "page": round(page.stat().st_size / 2**20, 1),
        "stored": round(stored / count),
    }
    for part in (footage, runs, folder / "report", folder / "next"):
        shutil.rmtree(part, ignore_errors=True)
    return row


def main(
    weights: Annotated[Path, typer.Option(help="A checkpoint.")],
    in_domain: Annotated[str, typer.Option(help="SOURCE of its validation images.")],
    real_world: Annotated[str, typer.Option(help="SOURCE with labels, multiplied.")],
    images: Annotated[list[int], typer.Option(help="How many real-world images; repeatable.")],
    imgsz: Annotated[int, typer.Option(help="Network input size in pixels.")] = 96,
) -> None:
    """Measure each size and write the table."""
    for count in images:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            source = open_source(real_world, cache=folder)
            row = pd.DataFrame([measure(weights, in_domain, source, imgsz, count, folder)])
        typer.echo(row.to_string(index=False), err=True)
        rows = pd.concat([pd.read_csv(ROWS), row]) if ROWS.exists() else row
        rows.drop_duplicates(["weights", "imgsz", "images"], keep="last").sort_values("images").to_csv(
            ROWS, index=False
        )


if __name__ == "__main__":
    typer.run(main)
