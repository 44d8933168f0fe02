"""`python -m benchmarks.growth`: seconds, memory and page size as the footage grows; writes docs/scale.md.

The real-world images are written again and again, each time mirrored or not, darker or lighter and with other
noise, so that every file is another image and costs a forward pass of its own. Any weights and domains will
do.
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
MACHINES = Path(__file__).with_name("growth_machines.csv")
PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
# Images of one written recording, and their longest side in pixels: small, since what grows is counted in
# images.
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


def measure_machines(weights: Path, source: Source, imgsz: int, count: int, folder: Path) -> pd.DataFrame:
    """Seconds to predict so many images here, and on a Ray cluster of one and of two machines of one core
    each.

    Whole processes: each starts the workers of its cluster, which load the detector.
    """
    from ray.cluster_utils import Cluster

    footage = folder / "footage"
    write_footage(footage, source, count)
    shiftscope = str(Path(sys.executable).with_name("shiftscope"))
    predict = [
        shiftscope,
        "predict",
        str(footage),
        "--weights",
        str(weights),
        "--imgsz",
        str(imgsz),
        "--conf",
        "1",
    ]
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = [
        {
            "machines": 0,
            "images": count,
            "seconds": timed([*predict, "--out", str(folder / "0")], folder / "r0")[0],
        }
    ]
    for machines in (1, 2):
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        for _ in range(machines - 1):
            cluster.add_node(num_cpus=1)
        try:
            command = [*predict, "--ray", cluster.address, "--out", str(folder / str(machines))]
            seconds, _ = timed(command, folder / f"r{machines}")
        finally:
            cluster.shutdown()
        rows.append({"machines": machines, "images": count, "seconds": seconds})
    return pd.DataFrame(rows).round(1)


def page(rows: pd.DataFrame, machines: pd.DataFrame) -> str:
    """docs/scale.md."""
    small, large = rows.iloc[0], rows.iloc[-1]
    more = float(large["images"] - small["images"])
    seconds = float(large["first"] - small["first"]) / more
    memory = float(large["first_memory"] - small["first_memory"]) / more
    lines = [
        "# Large sets, and several machines",
        "",
        "## What grows",
        "",
        f"`python -m benchmarks.growth` writes this page; {os.cpu_count()} cores, no GPU. Labelled real-world images of {SIDE} pixels, written from",
        "those of a real set with other light and noise; whole processes, without a FiftyOne dataset (`--no-fiftyone`). Ranking is",
        "`shiftscope next --from-report` with the same images as pool.",
        "",
        "| images | first report (s) | GiB | second report (s) | GiB | ranking (s) | GiB | page (MiB) | stored bytes an image |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.images:,} | {row.first:,.0f} | {row.first_memory:.1f} | {row.second:,.0f} | "
        f"{row.second_memory:.1f} | {row.ranking:,.0f} | {row.ranking_memory:.1f} | {row.page:.1f} | "
        f"{row.stored:,} |"
        for row in rows.itertuples()
    ]
    lines += [
        "",
        "Seconds are upper bounds: 30,000 and 100,000 images were measured beside other work, 30,000 by an earlier version, and stored bytes are of a store that was a little larger. The page does not grow. What is stored is mostly embeddings of detections, of which those from confidence 0.01 on are",
        "kept; a detector of many classes, or larger images, store more. Memory grows with the number of detections: tables and",
        "embeddings of all images of a report are in memory at once.",
        "",
        "## On a Ray cluster",
        "",
        "With the extra `ray` installed (`make setup` has it):",
        "",
        "<!-- parsed, not run -->",
        "",
        "```sh",
        "shiftscope report --run runs/detect/train --real-world /shared/footage --ray auto",
        "```",
        "",
        "`--ray auto` joins the cluster that this machine belongs to, `--ray HOST:PORT` or `--ray ray://HOST:PORT` another,",
        "`--ray local` starts one here, and `--ray` alone joins one where there is one and starts one where there is not. `report`,",
        "`next` and `predict` have it. Every machine needs Shiftscope and the same folders under the same paths: images,",
        "weights. What a bucket (`s3://`) holds is fetched by the machine that was asked; `SHIFTSCOPE_S3` has to name a",
        "folder that all share.",
        "",
        "Ray Data hands 32 paths at a time to a task; each core predicts one image after the other and keeps the detector for its",
        "next task. On a GPU, which was not tried, a task has 512 and loads the detector anew. Results come back and are stored here, as without Ray, so that a run that was killed goes on",
        "where it stopped. A machine that dies costs the images in its hands: Ray gives them to another one. The predictions are",
        "byte for byte those of one machine with one thread a forward pass (`tests/test_cluster.py` kills a machine in the middle).",
        "Interventions, corruptions and measuring stay on the machine that was asked; fewer than 128 images and videos are",
        "predicted there too.",
        "",
    ]
    if len(machines):
        lines += [
            f"Predicting {int(machines['images'].iloc[0]):,} images, whole processes, start of workers included:",
            "",
            "| machines of one core | seconds |",
            "|---|---|",
            *(
                f"| {'without Ray, one thread' if row.machines == 0 else row.machines} | {row.seconds:.0f} |"
                for row in machines.itertuples()
            ),
            "",
        ]
    lines += [
        "## A plan for more",
        "",
        f"Beyond a first thousand images, one more cost {1000 * seconds:.0f} ms of these {os.cpu_count()} cores, {large['stored']:,.0f} bytes of disk and",
        f"{1024 * 1024 * memory:.0f} KiB of memory. Nothing below was run: it is this line continued.",
        "",
        "| images | hours on these cores | minutes on 100 such machines | disk (GB) | memory of one report (GiB) |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {count:,} | {count * seconds / 3600:,.0f} | {count * seconds / 6000:,.0f} | "
        f"{count * float(large['stored']) / 1e9:,.0f} | {small['first_memory'] + count * memory:,.0f} |"
        for count in (10**6, 10**7, 10**8)
    ]
    lines += [
        "",
        "A report over millions of images needs no million images: its intervals are set by the number of clips more than by that",
        "of images. Predict everything with `predict --ray` where the detections themselves are wanted; report on a sample that",
        "has every recording (`--real-world` takes a list of files); rank with `next` in parts of some 100,000 images, and then the",
        "winners of the parts. What such a sample loses was not measured.",
    ]
    return "\n".join(lines) + "\n"


def main(
    weights: Annotated[Path, typer.Option(help="A checkpoint.")],
    in_domain: Annotated[str, typer.Option(help="SOURCE of its validation images.")],
    real_world: Annotated[str, typer.Option(help="SOURCE with labels, multiplied.")],
    images: Annotated[list[int], typer.Option(help="How many real-world images; repeatable.")] = [],  # noqa: B006
    machines: Annotated[int, typer.Option(help="Images to predict on one and two machines; 0 for none.")] = 0,
    imgsz: Annotated[int, typer.Option(help="Network input size in pixels.")] = 96,
) -> None:
    """Measure each size, and write the tables and the page."""
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
    if machines:
        with tempfile.TemporaryDirectory() as name:
            source = open_source(real_world, cache=Path(name))
            measured = measure_machines(weights, source, imgsz, machines, Path(name))
        typer.echo(measured.to_string(index=False), err=True)
        measured.to_csv(MACHINES, index=False)
    known = pd.read_csv(MACHINES) if MACHINES.exists() else pd.DataFrame()
    PAGE.write_text(page(pd.read_csv(ROWS), known), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
