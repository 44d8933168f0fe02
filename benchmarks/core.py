"""`make bench`: the measuring core against pycocotools, faster-coco-eval and hotcoco, in one run, as ratios of CPU time.

Three jobs on two workloads: from arrays, matching and 100 slices with twelve numbers each, against one global run of each peer; whole
processes, from COCO json to numbers, with 100 slices, sweep and 1,000 replicates on our side and one global run on theirs; and growth to four
times the images. Each pair of runs stands side by side, the ratio is the median over the pairs.
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

from benchmarks.workload import Problem, make, write
from diagnostics.matching import match
from diagnostics.precision import TWELVE, twelve_of

ROUNDS = 5
REPLICATES = 1000
PEERS = {
    "faster-coco-eval": """
from faster_coco_eval import COCO, COCOeval_faster as E
t = COCO(truth); e = E(t, t.loadRes(results), "bbox"); e.evaluate(); e.accumulate(); e.summarize(); stats = e.stats[:12]
""",
    "hotcoco": """
from hotcoco import COCO, COCOeval as E
t = COCO(truth); e = E(t, t.load_res(results), "bbox"); e.evaluate(); e.accumulate(); e.summarize(); stats = e.stats
""",
    "pycocotools": """
from pycocotools.coco import COCO; from pycocotools.cocoeval import COCOeval as E
t = COCO(truth); e = E(t, t.loadRes(results), "bbox"); e.evaluate(); e.accumulate(); e.summarize(); stats = e.stats
""",
}


def cpu(job: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of all threads of this process, and what the job gave."""
    before = time.process_time()
    result = job()
    return time.process_time() - before, result


def ours(problem: Problem) -> dict[str, np.ndarray[Any, Any]]:
    """Matching, and twelve numbers of the whole and of 100 slices."""
    table = match(
        problem.annotations, problem.detections, n_images=problem.n_images, n_classes=problem.shape.classes
    )
    everything = np.ones((1, problem.n_images), bool)
    return twelve_of(table, np.concatenate([everything, problem.slices]))


def peer_from_memory(name: str, truth: Path, results: Path) -> Callable[[], Any]:
    """One global run of a peer; reading is done beforehand and not counted."""
    module, read = {
        "faster-coco-eval": ("faster_coco_eval", "loadRes"),
        "hotcoco": ("hotcoco", "load_res"),
        "pycocotools": ("pycocotools.coco", "loadRes"),
    }[name]
    with silence():
        coco = __import__(module, fromlist=["COCO"]).COCO(str(truth))
        found = getattr(coco, read)(str(results))
    if name == "faster-coco-eval":
        from faster_coco_eval import COCOeval_faster as Evaluation
    elif name == "hotcoco":
        from hotcoco import COCOeval as Evaluation
    else:
        from pycocotools.cocoeval import COCOeval as Evaluation

    def run() -> Any:
        with silence():
            evaluation = Evaluation(coco, found, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return np.array(evaluation.stats[:12], float)

    return run


@contextlib.contextmanager
def silence() -> Any:
    """Evaluators print their numbers, one of them past Python."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(io.StringIO()):
        kept = os.dup(1)
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def process(command: list[str]) -> tuple[float, float]:
    """CPU seconds and peak resident MiB of a command. Raises CalledProcessError when it fails."""
    code = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL); "
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss); sys.exit(done.returncode)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    seconds, kibibytes = done.stdout.split()
    return float(seconds), float(kibibytes) / (1 if platform.system() != "Darwin" else 1024) / 1024


def score_command(folder: Path) -> list[str]:
    """Our whole process."""
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
    """A peer's whole process."""
    head = f"truth, results = {str(folder / 'truth.json')!r}, {str(folder / 'results.json')!r}\n"
    return [sys.executable, "-c", head + PEERS[name]]


def say(text: str) -> None:
    """Progress goes to stderr, the tables to stdout."""
    sys.stderr.write(text + "\n")


def from_arrays(name: str, folder: Path, rounds: int, slow: bool) -> list[str]:
    """Rows of the first table: one peer's global run against our matching and 100 slices."""
    problem = make(name)
    truth, results, _ = write(problem, folder)
    rows = []
    for peer in PEERS:
        if peer == "pycocotools" and not slow:
            continue
        run = peer_from_memory(peer, truth, results)
        pairs = []
        for _ in range(rounds if peer != "pycocotools" else 1):
            theirs, stats = cpu(run)
            mine, found = cpu(lambda: ours(problem))
            pairs.append((mine, theirs))
        apart = float(np.nanmax(np.abs(np.array([found[key][0] for key in TWELVE]) - stats)))
        ratio = median(a / b for a, b in pairs)
        say(f"  {name}, {peer}: {ratio:.3f}")
        rows.append(
            f"| {name} | {peer} | {median(b for _, b in pairs):.2f} | {median(a for a, _ in pairs):.2f} | **{ratio:.2f}** | {apart:.0e} |"
        )
    return rows


def whole_processes(name: str, folder: Path, rounds: int, slow: bool) -> list[str]:
    """Rows of the second table: whole processes, CPU and memory."""
    rows = []
    for peer in PEERS:
        if peer == "pycocotools" and not slow:
            continue
        pairs = [
            (process(score_command(folder)), process(peer_command(peer, folder)))
            for _ in range(max(1, rounds // 2) if peer != "pycocotools" else 1)
        ]
        seconds = median(a[0] / b[0] for a, b in pairs)
        memory = median(a[1] / b[1] for a, b in pairs)
        say(f"  {name}, whole process against {peer}: {seconds:.2f} of its time, {memory:.2f} of its memory")
        rows.append(
            f"| {name} | {peer} | {median(b[0] for _, b in pairs):.1f} | {median(a[0] for a, _ in pairs):.1f} | **{seconds:.2f}** "
            f"| {median(b[1] for _, b in pairs):.0f} | {median(a[1] for a, _ in pairs):.0f} | **{memory:.2f}** |"
        )
    return rows


def growth(name: str, rounds: int) -> str:
    """A row of the third table: four times the images."""
    small, large = make(name), make(name, times=4)
    pairs = [(cpu(lambda: ours(small))[0], cpu(lambda: ours(large))[0]) for _ in range(max(1, rounds // 2))]
    ratio = median(b / a for a, b in pairs)
    say(f"  {name}, four times the images: {ratio:.2f} times the time")
    return f"| {name} | {median(a for a, _ in pairs):.2f} | {median(b for _, b in pairs):.2f} | **{ratio:.2f}** |"


def main(
    rounds: int = ROUNDS,
    *,
    slow: Annotated[bool, typer.Option(help="Also pycocotools, which takes a minute a run.")] = True,
    out: Annotated[Path, typer.Option(help="Where the tables go.")] = Path("docs/benchmark.md"),
) -> None:
    """Measure, print and write the tables."""
    with tempfile.TemporaryDirectory() as scratch:
        arrays, whole, grown = [], [], []
        for name in ("coco", "pothole"):
            folder = Path(scratch) / name
            arrays += from_arrays(name, folder, rounds, slow)
            whole += whole_processes(name, folder, rounds, slow)
            grown.append(growth(name, rounds))
    versions = ", ".join(f"{p} {version(p)}" for p in ("numpy", "scipy", "pyarrow", *PEERS))
    text = TEXT.format(
        date=datetime.now(UTC).strftime("%d %B %Y"),
        machine=f"{os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}",
        versions=versions,
        arrays="\n".join(arrays),
        whole="\n".join(whole),
        growth="\n".join(grown),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


TEXT = """# How fast the measuring core is

Written by `make bench` on {date} ({machine}; {versions}). CPU seconds of all threads; ratios are medians over runs side by side, and the
only figures worth comparing between machines. `coco` has the shape of COCO val 2017 (5,000 images, 80 classes, 37,705 objects, 500,000
detections), `pothole` that of a road-damage set (2,700 images, one class, 81,000 detections); both are made from random numbers.

## From arrays: matching and 100 slices with twelve numbers each, against one global run of the peer

| workload | peer | its global run (s) | ours, whole and 100 slices (s) | ratio | largest difference of the whole's twelve numbers |
|---|---|---|---|---|---|
{arrays}

## Whole processes: from COCO json to numbers

Ours reads the json, scores the whole and 100 slices, sweeps every class and draws 1,000 bootstrap replicates of AP and AP50; the peer reads and
scores once.

| workload | peer | its time (s) | ours (s) | ratio | its memory (MiB) | ours (MiB) | ratio |
|---|---|---|---|---|---|---|---|
{whole}

## Four times the images

| workload | once (s) | four times (s) | ratio |
|---|---|---|---|
{growth}
"""

if __name__ == "__main__":
    typer.run(main)
