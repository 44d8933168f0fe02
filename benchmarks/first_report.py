"""`python -m benchmarks.first_report`: what a report costs beside plain inference; adds rows to docs/cost.md.

Whole processes, one after the other on an idle machine: `ultralytics.YOLO.predict` over the images of all
domains, a first report with nothing stored, the same report again, and with --busy a first report beside as
many busy loops as there are cores. Any weights and domains will do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from datasets.source import open_source
from diagnostics.label_free import root_mean_square
from reports.options import Effort
from reports.pipeline.corruptions import REAL_DOMAINS

ROWS = Path(__file__).with_name("first_report.csv")
PAGE = Path(__file__).parents[1] / "docs" / "cost.md"
# Plain prediction by Ultralytics, one image at a time, which is its fastest on a CPU.
PLAIN = """
import sys
import train
from ultralytics import YOLO
model = YOLO(sys.argv[1])
for _ in model.predict(sys.argv[2], imgsz=int(sys.argv[3]), conf=0.001, batch=1, stream=True, verbose=False, save=False):
    pass
"""


def timed(command: list[str], folder: Path) -> float:
    """Seconds of a command that keeps everything in a folder. Raises CalledProcessError with what it
    printed.
    """
    environment = {**os.environ, "SHIFTSCOPE_RUNS": str(folder)}
    begin = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:3])} ...: exit {done.returncode}\n{done.stderr[-2000:]}")
    return time.perf_counter() - begin


def timed_beside_loops(command: list[str], folder: Path) -> float:
    """The same while as many loops as there are cores do nothing but count."""
    loops: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(os.cpu_count() or 1):
            loops.append(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
        return timed(command, folder)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


# Seven parameters: what the options of this command say.
def measure(
    weights: Path, in_domain: str, real_world: str, imgsz: int, effort: Effort, labels: bool, busy: bool
) -> dict[str, Any]:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [
            path
            for spec in (in_domain, real_world)
            for path in open_source(spec, cache=folder).images["path"]
        ]
        (folder / "images.txt").write_text("\n".join(paths))
        plain = timed(
            [sys.executable, "-c", PLAIN, str(weights), str(folder / "images.txt"), str(imgsz)], folder
        )
        command = [
            str(Path(sys.executable).with_name("shiftscope")),
            "report",
            "--weights",
            str(weights),
            "--in-domain",
            in_domain,
        ]
        command += ["--real-world", real_world, "--imgsz", str(imgsz), "--effort", effort.value]
        command += ["--out", str(folder / "report")] + ([] if labels else ["--label-free"])
        first = timed(command, folder / "runs")
        record = json.loads((folder / "report" / "report.json").read_text())
        second = timed(command, folder / "runs")
        beside = timed_beside_loops(command, folder / "beside") if busy else float("nan")
        shutil.rmtree(folder / "runs", ignore_errors=True)
    return {
        "weights": weights.parent.parent.name if weights.parent.name == "weights" else weights.stem,
        "imgsz": imgsz,
        "images": len(paths),
        "effort": effort.value,
        "label_free": not labels,
        "backend": record["protocol"]["backend"].split(" ")[0],
        "passes": record["protocol"]["experiment_passes"],
        "plain": round(plain, 1),
        "first": round(first, 1),
        "second": round(second, 1),
        "busy": round(beside, 1),
    }


def page(rows: pd.DataFrame) -> str:
    """docs/cost.md."""
    real = pd.read_csv(REAL_DOMAINS).dropna(subset=["estimate", "truth"])
    error = root_mean_square(real["estimate"] - real["truth"])
    lines = [
        "# What a report costs",
        "",
        "A report runs the detector over every image once and keeps the results; beyond that come experiments:",
        "interventions on labelled real-world images, the corruptions that the estimate without labels is fitted on, and",
        "unlabelled images at another size where detections are smaller or larger than in-domain, or too few to tell.",
        "",
        "| `--effort` | forward passes of experiments | what is left out |",
        "|---|---|---|",
        "| `quick` | at most half as many as there are images (or 750) | the estimate without labels; interventions use 30 images |",
        "| `standard` | at most as many again (or 1,500, and 120 for each further domain without labels) | what recovers next to nothing on 20 images is not tried on 100, nor combined |",
        "| `thorough` | all, several times as many | nothing: 100 images an intervention, every combination, two severities |",
        "",
        "The report says beforehand what the experiments may cost, and names on the page and in `report.json`",
        "(`protocol.left_out`) what did not fit. Passes are counted at the plain input size: one at twice the side counts as",
        "four. Everything is stored by the content of the images, so a second report predicts nothing again.",
        "",
        "On a CPU, OpenVINO computes the forward passes where it is installed (`make setup` has it) and its values agree with",
        "PyTorch's, which is checked on the first image of every shape; several images are predicted beside each other.",
        "`SHIFTSCOPE_BACKEND=torch` leaves everything to PyTorch. Which of the two it was stands under Methods.",
        "",
        "## Measured",
        "",
        f"`python -m benchmarks.first_report`, the row measured last on {datetime.now(UTC):%d %B %Y}, {os.cpu_count()} cores of a virtual machine whose speed",
        "varies by half: only ratios within a row are comparable. Whole processes, imports included; plain is",
        "`YOLO.predict` over the same images, one at a time; busy is a first report beside as many busy loops as cores.",
        "",
        "| weights | px | images | effort | estimate without labels | passes | backend | plain (s) | first report (s) | over plain | second (s) | busy (s) | over first |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.weights} | {row.imgsz} | {row.images:,} | {row.effort} | "
        f"{'yes' if row.label_free else 'no'} | {row.passes:,} | {row.backend} | {row.plain:.0f} | "
        f"{row.first:.0f} | **{row.first / row.plain:.1f}** | {row.second:.0f} | "
        + (f"{row.busy:.0f} | **{row.busy / row.first:.1f}** |" if row.busy > 0 else "| |")
        for row in rows.itertuples()
    ]
    lines += [
        "",
        "## What the cheaper plan loses",
        "",
        f"The estimate without labels is off by {error:.3f} (root mean square) on {len(real)} real domains with the one",
        "severity that standard predicts (`benchmarks/real_domains.py`); it was off by 0.143 with two. In 60 simulated cases,",
        "an intervention that recovers half of the drop is left early at most once (`tests/test_effort.py`); on photographs,",
        "the causes named are those of the dearer plan ([photographs.md](photographs.md)).",
    ]
    return "\n".join(lines) + "\n"


def main(
    weights: Annotated[Path, typer.Option(help="A checkpoint.")],
    in_domain: Annotated[str, typer.Option(help="SOURCE of its validation images.")],
    real_world: Annotated[str, typer.Option(help="SOURCE with labels.")],
    imgsz: Annotated[int, typer.Option(help="Network input size in pixels.")] = 640,
    effort: Annotated[Effort, typer.Option(help="As of `shiftscope report`.")] = Effort.STANDARD,
    labels: Annotated[
        bool, typer.Option("--labels/--label-free", help="Whether to go by the labels.")
    ] = True,
    busy: Annotated[bool, typer.Option("--busy", help="Also a first report beside busy loops.")] = False,
) -> None:
    """Measure, add the row, and write the page."""
    row = pd.DataFrame([measure(weights, in_domain, real_world, imgsz, effort, labels, busy)])
    earlier = pd.read_csv(ROWS) if ROWS.exists() else row.head(0)
    same = ["weights", "imgsz", "effort", "label_free"]
    kept = (
        earlier[~earlier[same].apply(tuple, axis=1).isin([tuple(row.iloc[0][same])])]
        if len(earlier)
        else earlier
    )
    rows = pd.concat([kept, row], ignore_index=True).sort_values(same)
    rows.to_csv(ROWS, index=False)
    PAGE.write_text(page(rows), encoding="utf-8")
    typer.echo(row.to_string(index=False), err=True)


if __name__ == "__main__":
    typer.run(main)
