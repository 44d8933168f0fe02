"""`make bench`: CPU time of the measuring core relative to pycocotools, faster-coco-eval and hotcoco.

Three jobs on two workloads. From arrays: matching and 100 slices with twelve numbers each, against one global
run of each peer. Whole processes, from COCO json to numbers: 100 slices, a sweep and 1,000 replicates for
Shiftscope, one global run for each peer. Growth: four times the images. Shiftscope and the peer run
alternately; each ratio is the median over the pairs of runs.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.workload import Problem, make_problem, write_problem
from diagnostics.matching import match
from diagnostics.precision import COCO_METRICS, weighted_coco_metrics

ROUNDS = 5
REPLICATES = 1000
# Each peer's script reads truth and results and scores them once.
SCORE = 'e = E(t, detections, "bbox"); e.evaluate(); e.accumulate(); e.summarize(); stats = e.stats[:12]\n'
PEERS = {
    "faster-coco-eval": "from faster_coco_eval import COCO, COCOeval_faster as E\n"
    "t = COCO(truth); detections = t.loadRes(results)\n" + SCORE,
    "hotcoco": "from hotcoco import COCO, COCOeval as E\n"
    "t = COCO(truth); detections = t.load_res(results)\n" + SCORE,
    "pycocotools": "from pycocotools.coco import COCO; from pycocotools.cocoeval import COCOeval as E\n"
    "t = COCO(truth); detections = t.loadRes(results)\n" + SCORE,
}


def time_cpu(job: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of all threads of this process, and the job's result."""
    before = time.process_time()
    result = job()
    return time.process_time() - before, result


def measure_core(problem: Problem) -> dict[str, np.ndarray[Any, Any]]:
    """Matching, and the twelve COCO numbers of all images and of 100 slices."""
    table = match(
        problem.annotations, problem.detections, n_images=problem.n_images, n_classes=problem.shape.classes
    )
    everything = np.ones((1, problem.n_images), bool)
    return weighted_coco_metrics(table, np.concatenate([everything, problem.slices]))


def load_peer(name: str, truth: Path, results: Path) -> Callable[[], Any]:
    """One global run of a peer as a function; reading the files is done here and not timed."""
    module, read = {
        "faster-coco-eval": ("faster_coco_eval", "loadRes"),
        "hotcoco": ("hotcoco", "load_res"),
        "pycocotools": ("pycocotools.coco", "loadRes"),
    }[name]
    with suppress_stdout():
        coco = __import__(module, fromlist=["COCO"]).COCO(str(truth))
        detections = getattr(coco, read)(str(results))
    if name == "faster-coco-eval":
        from faster_coco_eval import COCOeval_faster as Evaluation
    elif name == "hotcoco":
        from hotcoco import COCOeval as Evaluation
    else:
        from pycocotools.cocoeval import COCOeval as Evaluation

    def run() -> Any:
        with suppress_stdout():
            evaluation = Evaluation(coco, detections, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return np.array(evaluation.stats[:12], float)

    return run


@contextlib.contextmanager
def suppress_stdout() -> Any:
    """Discard what evaluators print, also what one of them prints from C."""
    with open(os.devnull, "w") as devnull, contextlib.redirect_stdout(io.StringIO()):
        original = os.dup(1)
        os.dup2(devnull.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(original, 1)
            os.close(original)


def time_process(command: list[str]) -> tuple[float, float]:
    """CPU seconds and peak resident MiB of a command. Raises CalledProcessError when it fails."""
    code = (
        "import resource, subprocess, sys; result = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "usage = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss); sys.exit(result.returncode)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *command], check=True, capture_output=True, text=True
    )
    seconds, kibibytes = result.stdout.split()
    return float(seconds), float(kibibytes) / (1 if platform.system() != "Darwin" else 1024) / 1024


def score_command(folder: Path) -> list[str]:
    """`shiftscope score` on a written problem."""
    script = Path(sys.executable).with_name("shiftscope")
    return [
        str(script),
        "score",
        f"--ground-truth={folder / 'truth.json'}",
        f"--predictions={folder / 'results.json'}",
        f"--slices={folder / 'slices.csv'}",
        f"--bootstrap={REPLICATES}",
        f"--out={folder / 'score.json'}",
    ]


def peer_command(name: str, folder: Path) -> list[str]:
    """A peer's script on a written problem."""
    head = f"truth, results = {str(folder / 'truth.json')!r}, {str(folder / 'results.json')!r}\n"
    return [sys.executable, "-c", head + PEERS[name]]


def log(text: str) -> None:
    """Write progress to stderr; stdout is for the tables."""
    sys.stderr.write(text + "\n")


def peers_to_run(slow: bool) -> list[str]:
    """Names of the peers, without pycocotools unless slow."""
    return [name for name in PEERS if slow or name != "pycocotools"]


def time_from_arrays(name: str, folder: Path, rounds: int, slow: bool) -> list[str]:
    """Rows of the first table: one global run of a peer against matching and 100 slices."""
    problem = make_problem(name)
    truth, results, _ = write_problem(problem, folder)
    rows = []
    for peer in peers_to_run(slow):
        run = load_peer(peer, truth, results)
        pairs = []
        for _ in range(rounds if peer != "pycocotools" else 1):
            peer_seconds, stats = time_cpu(run)
            own_seconds, numbers = time_cpu(lambda: measure_core(problem))
            pairs.append((own_seconds, peer_seconds))
        difference = float(np.nanmax(np.abs(np.array([numbers[key][0] for key in COCO_METRICS]) - stats)))
        ratio = median(a / b for a, b in pairs)
        log(f"  {name}, {peer}: {ratio:.3f}")
        rows.append(
            f"| {name} | {peer} | {median(b for _, b in pairs):.2f} | {median(a for a, _ in pairs):.2f} "
            f"| **{ratio:.2f}** | {difference:.0e} |"
        )
    return rows


def time_processes(name: str, folder: Path, rounds: int, slow: bool) -> list[str]:
    """Rows of the second table: whole processes, CPU and memory."""
    rows = []
    for peer in peers_to_run(slow):
        pairs = [
            (time_process(score_command(folder)), time_process(peer_command(peer, folder)))
            for _ in range(max(1, rounds // 2) if peer != "pycocotools" else 1)
        ]
        seconds = median(a[0] / b[0] for a, b in pairs)
        memory = median(a[1] / b[1] for a, b in pairs)
        log(f"  {name}, whole process against {peer}: {seconds:.2f} of its time, {memory:.2f} of its memory")
        rows.append(
            f"| {name} | {peer} "
            f"| {median(b[0] for _, b in pairs):.1f} | {median(a[0] for a, _ in pairs):.1f} "
            f"| **{seconds:.2f}** "
            f"| {median(b[1] for _, b in pairs):.0f} | {median(a[1] for a, _ in pairs):.0f} "
            f"| **{memory:.2f}** |"
        )
    return rows


def time_growth(name: str, rounds: int) -> str:
    """A row of the third table: four times the images."""
    small, large = make_problem(name), make_problem(name, times=4)
    pairs = [
        (time_cpu(lambda: measure_core(small))[0], time_cpu(lambda: measure_core(large))[0])
        for _ in range(max(1, rounds // 2))
    ]
    ratio = median(b / a for a, b in pairs)
    log(f"  {name}, four times the images: {ratio:.2f} times the time")
    once, four_times = median(a for a, _ in pairs), median(b for _, b in pairs)
    return f"| {name} | {once:.2f} | {four_times:.2f} | **{ratio:.2f}** |"


def main(
    rounds: int = ROUNDS,
    *,
    slow: Annotated[bool, typer.Option(help="Also pycocotools, which takes a minute a run.")] = True,
    out: Annotated[Path, typer.Option(help="File to write the tables to.")] = Path("docs/benchmark.md"),
) -> None:
    """Measure, print and write the tables."""
    with tempfile.TemporaryDirectory() as scratch:
        arrays, processes, growth = [], [], []
        for name in ("coco", "pothole"):
            folder = Path(scratch) / name
            arrays += time_from_arrays(name, folder, rounds, slow)
            processes += time_processes(name, folder, rounds, slow)
            growth.append(time_growth(name, rounds))
    versions = ", ".join(f"{p} {version(p)}" for p in ("numpy", "scipy", "pyarrow", *PEERS))
    text = TEXT.format(
        date=datetime.now(UTC).strftime("%d %B %Y"),
        machine=f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}",
        versions=versions,
        arrays="\n".join(arrays),
        processes="\n".join(processes),
        growth="\n".join(growth),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


TEXT = """# Speed of the measuring core

Written by `make bench` on {date} ({machine}; {versions}). CPU seconds are of all threads; ratios are medians
over pairs of runs, and only ratios are comparable between machines. `coco` has the shape of COCO val 2017
(5,000 images, 80 classes, 37,705 annotations, 500,000 detections), `pothole` that of a road-damage set (2,700
images, one class, 81,000 detections); both are randomly generated.

## From arrays: matching and 100 slices with twelve numbers each, against one global run of the peer

| workload | peer | peer, one run (s) | Shiftscope (s) | ratio | largest difference of the twelve numbers |
|---|---|---|---|---|---|
{arrays}

## Whole processes: from COCO json to numbers

Shiftscope reads the json, scores all images and 100 slices, sweeps every class and draws 1,000 bootstrap
replicates of AP and AP50; the peer reads and scores once.

| workload | peer | peer (s) | Shiftscope (s) | ratio | peer (MiB) | Shiftscope (MiB) | ratio |
|---|---|---|---|---|---|---|---|
{processes}

## Four times the images

| workload | once (s) | four times (s) | ratio |
|---|---|---|---|
{growth}
"""

if __name__ == "__main__":
    typer.run(main)
