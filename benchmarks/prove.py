"""`make prove`: how often the diagnosis is right on worlds with a known cause; writes docs/proof.md and
docs/classes.md.

Simulated detectors with planted causes (see `planted`): planted against named cause, mixed causes, withheld
signals, false alarms and power of the shift test, coverage of intervals from a few labels. The rules and
their thresholds were written with worlds of the seeds DEVELOPMENT; the published tables come from the seeds
REPORTED, which no rule was written with.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from benchmarks import prove_classes, prove_photographs, rendered
from benchmarks.planted import MIXED, PLANTS, SEVERITIES
from benchmarks.prove_cases import WITHHELD, diagnose_withheld, diagnose_world, few_labels_of, shift_of
from benchmarks.prove_page import Simulated, real_detectors_section, simulated_sections
from reports.progress import Reporter

# First seeds of the two sets of worlds.
DEVELOPMENT, REPORTED = 0, 1_000_000
# Pairs of domains without a shift.
NULLS = 200
# Distances of the shift test, with a scatter within clips of 0.6; SEVERE are the planted severities 1, 2 and
# 3.
DISTANCES, SEVERE = (0.4, 0.8, 1.2, 1.6), (2.0, 4.0, 6.0)
# Labelled images of the 240 in a simulated domain, and domains for each number.
FEW, FEW_DOMAINS = (25, 50), 200


def main(
    worlds: Annotated[int, typer.Option(help="Worlds for each cause and severity.")] = 10,
    *,
    development: Annotated[bool, typer.Option(help="Use the seeds the rules were written with.")] = False,
    real: Annotated[
        bool,
        typer.Option(
            help="Also train real detectors on rendered worlds (half an hour); writes docs/classes.md too."
        ),
    ] = True,
    own: Annotated[
        Path | None, typer.Option("--run", help="A run of your own, for label-free estimates on real images.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File to write the tables to.")] = Path("docs/proof.md"),
) -> None:
    """Measure, print and write the tables."""
    text = simulated_sections(measure_simulated(worlds, DEVELOPMENT if development else REPORTED))
    if real:
        seed = rendered.DEVELOPMENT if development else rendered.REPORTED
        text += real_detectors_section(rendered.measure(seed, own), seed)
        for chosen in (seed,) if development else prove_classes.SEEDS:
            prove_classes.write(prove_classes.rendered_rows(chosen, Reporter()))
    text += prove_photographs.beside_simulated(prove_photographs.read_rows())
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def measure_simulated(worlds: int, first: int) -> Simulated:
    """Measure all simulated worlds, in one process per CPU.

    Parameters
    ----------
    worlds
        Number of worlds for each cause and severity.
    first
        First seed.

    Returns
    -------
    Simulated
    """
    single = [((name,), s, first + i) for name in PLANTS for s in SEVERITIES for i in range(worlds)]
    mixed = [
        (pair, s, first + 500_000 + i)
        for pair in MIXED
        for s in SEVERITIES
        for i in range(max(1, worlds // 2))
    ]
    withheld = [(name, first + 700_000 + i) for name in WITHHELD for i in range(worlds)]
    distances = [(0.0, first + i) for i in range(NULLS)]
    distances += [
        (d, first + 10_000 + 100 * k + i)
        for k, d in enumerate((*DISTANCES, *SEVERE), 1)
        for i in range(3 * worlds)
    ]
    few = [(count, first + 20_000 + i) for count in FEW for i in range(FEW_DOMAINS)]
    # Forked processes would inherit OpenCV's threads without the threads running, and hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as pool:
        cases = collect(
            "worlds", pool.map(diagnose_world, [*single, *mixed], chunksize=4), len(single + mixed)
        )
        undecided = collect(
            "withheld signals", pool.map(diagnose_withheld, withheld, chunksize=4), len(withheld)
        )
        shifts = collect("shift tests", pool.map(shift_of, distances, chunksize=8), len(distances))
        few_labels = collect("few labels", pool.map(few_labels_of, few, chunksize=8), len(few))
    return Simulated(
        worlds,
        first,
        cases,
        undecided,
        pd.DataFrame(shifts, columns=["distance", "p", "mmd", "auc"]),
        pd.DataFrame(few_labels, columns=["count", "ap50", "f1", "worth", "half"]),
    )


def collect(what: str, results: Any, total: int) -> list[Any]:
    """Collect results and report progress at every tenth."""
    collected = []
    for number, result in enumerate(results, 1):
        collected.append(result)
        if number % max(1, total // 10) == 0 or number == total:
            sys.stderr.write(f"  {what}: {number} of {total}\n")
    return collected


if __name__ == "__main__":
    typer.run(main)
