"""`make prove-next`: whether `shiftscope next` beats random choice, by retraining; writes docs/next.md.

The same detector continues training on the images that each rule chose, for as many steps with every rule,
and is evaluated on recordings that are neither in the pool nor in training. Results are stored: an
interrupted call continues, and --tables writes the page from stored results.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from benchmarks import rendered
from benchmarks.next_page import MIXED_RULES, ROUND, curves_figure, page
from benchmarks.next_worlds import (
    RULES,
    SECOND_RULES,
    TURNS,
    Case,
    Rule,
    candidate_folders,
    real_case,
    rendered_case,
)
from datasets.files import write_text
from datasets.tables import Source
from diagnostics.candidates import compare_datasets
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from reports.commands.probe import mixture, probe, short_training
from reports.options import ReportOptions
from reports.page import figures
from reports.pipeline.inference import build_domain, predict_domains
from reports.pipeline.runs import load_run
from reports.pipeline.sources import Opened
from reports.progress import Reporter
from train.environment import runs_folder
from train.forward import Detector
from train.passes import available_cores
from train.predictions import Settings, Store, predict_folder
from train.recipe import Recipe
from train.run import file_sha256
from train.training import train

BUDGETS, MIXED_BUDGETS = (2, 4, 8, 16, 32), (4, 8, 16)
# Rules of the first of two rounds.
FIRST_RULES = ("ours", "ours, where it is unsure")
# Marks a case after its first round.
AGAIN = "-again"
# Fewer sizes on real images, where a training takes minutes.
REAL_BUDGETS = (10, 40, 160)


@dataclass(frozen=True)
class Job:
    """One retraining.

    case: where the images come from
    rule: that chose them; "start" before any choice
    chosen: names of the chosen images
    boxes: number of annotations in them
    folder: of the training and its result
    """

    case: Case
    rule: str
    chosen: tuple[str, ...]
    boxes: int
    folder: Path


def predict_source(case: Case, weights: Path, source: Source, role: str) -> Domain:
    """Predict a source's images; the domain has the role as its name."""
    detector, settings = Detector(weights, device="cpu"), Settings(imgsz=case.imgsz)
    store = Store(predict_folder(settings, file_sha256(weights)))
    predictions = detector.predict(source.images, settings, store)
    return build_domain(Opened(role, role, source), source.images, predictions, case.imgsz, detector.classes)


def recipe_of(case: Case, images: int) -> Recipe:
    """A short training of a case; its number of steps depends on the number of images only."""
    return short_training(case.weights, images, case.imgsz, "cpu", case.seed % 1000)


def worker_pool() -> ProcessPoolExecutor:
    """Processes with a core each: small trainings side by side are faster than one training on all cores."""
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    for core in sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else ():
        cores.put(core)
    return ProcessPoolExecutor(
        available_cores(), mp_context=context, initializer=pin_to_core, initargs=(cores,)
    )


def pin_to_core(cores: Any) -> None:
    """Pin this worker to the next free core."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores.get()})


def key_of(job: Job) -> str:
    """Twelve hex digits over everything that a result depends on: weights, images, settings."""
    recipe = recipe_of(job.case, len(job.case.replay.images) + len(job.chosen))
    dependencies = [
        file_sha256(job.case.weights),
        job.chosen,
        job.case.replay.images["image"].tolist(),
        job.case.test.images["image"].tolist(),
        job.case.test.spec,
        (recipe.epochs, recipe.imgsz, recipe.batch, recipe.seed, recipe.extra),
    ]
    return hashlib.sha256(json.dumps(dependencies, sort_keys=True).encode()).hexdigest()[:12]


def stored_ap50(job: Job) -> float | None:
    """The stored result of a job; None if there is none, or if it has other dependencies."""
    try:
        content = json.loads((job.folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return float(content["ap50"]) if content.get("key") == key_of(job) else None


def retrain(job: Job) -> dict[str, Any]:
    """Train, evaluate and store the result, or read a stored one.

    Parameters
    ----------
    job
        What to train on.

    Returns
    -------
    dict
        case, rule, images, boxes, ap50.
    """
    score = stored_ap50(job)
    if score is None:
        # An interrupted training, or one on other images, starts again: it takes seconds.
        shutil.rmtree(job.folder, ignore_errors=True)
        weights = train_on_chosen(job) if job.chosen else job.case.weights
        job.folder.mkdir(parents=True, exist_ok=True)
        score = ap50(predict_source(job.case, weights, job.case.test, "test"))
        write_text(job.folder / "result.json", json.dumps({"ap50": score, "key": key_of(job)}))
    return {
        "case": job.case.name,
        "rule": job.rule,
        "images": len(job.chosen),
        "boxes": job.boxes,
        "ap50": score,
    }


def train_on_chosen(job: Job) -> Path:
    """Train on the chosen and the old images; the path of the weights."""
    case = job.case
    chosen = case.pool.keep(case.pool.images["image"].isin(job.chosen))
    source = mixture(case.replay, chosen, case.test, case.name)
    train(
        source,
        job.folder,
        recipe_of(case, int((source.images["split"] == "train").sum())),
    )
    return job.folder / "weights" / "last.pt"


def jobs_of(case: Case, rules: Mapping[str, Rule], budgets: Sequence[int]) -> list[Job]:
    """Every training of a case: none chosen, and the first images by each rule."""
    pool = predict_source(case, case.weights, case.pool, "pool")
    training = predict_source(case, case.weights, case.replay, "training")
    target = None if case.target is None else predict_source(case, case.weights, case.target, "target")
    annotations = pool.annotations["image"].value_counts()
    names = pool.images["image"].to_numpy(str)
    folder = runs_folder() / "prove-next" / case.name
    jobs = [Job(case, "start", (), 0, folder / "start")]
    for rule, choose in rules.items():
        order = names[choose(pool, training, target, case.seed)]
        for budget in budgets:
            chosen = tuple(order[:budget])
            boxes = int(annotations.reindex(chosen).fillna(0).sum())
            name = rule.replace(",", "").replace(" ", "-")
            jobs.append(Job(case, rule, chosen, boxes, folder / f"{name}-{budget}"))
    return jobs


def retrain_cases(cases: Sequence[Case], rules: Sequence[str], budgets: Sequence[int]) -> pd.DataFrame:
    """case, rule, images, boxes, ap50 of every training."""
    by_name = {name: RULES[name] for name in rules}
    jobs = [job for case in cases for job in jobs_of(case, by_name, budgets)]
    rows = []
    with worker_pool() as pool:
        for number, row in enumerate(pool.map(retrain, jobs), 1):
            rows.append(row)
            sys.stderr.write(
                f"  {number} of {len(jobs)}: {row['case']}, {row['rule']}, "
                f"{row['images']} images with {row['boxes']} boxes: {row['ap50']:.3f}\n"
            )
    return pd.DataFrame(rows)


def retrain_rendered(first: int, worlds: int, reporter: Reporter) -> pd.DataFrame:
    """case, rule, images, boxes, ap50 of every training on rendered pools of either kind."""
    tables = []
    for mixed in (False, True):
        cases = [rendered_case(first, number, reporter, mixed=mixed) for number in range(worlds)]
        rules, budgets = (MIXED_RULES, MIXED_BUDGETS) if mixed else (list(RULES), BUDGETS)
        tables.append(retrain_cases(cases, rules, budgets))
    return pd.concat(tables, ignore_index=True)


def second_rounds(first: int, worlds: int, reporter: Reporter) -> pd.DataFrame:
    """Choose in two rounds, the second with the detector of the first.

    Parameters
    ----------
    first
        Seed of the detectors.
    worlds
        Number of cases.
    reporter
        Where progress goes.

    Returns
    -------
    DataFrame
        case, round, rule, boxes, ap50: after ROUND images by each of FIRST_RULES; and, from the detector of
        `ours` on, after ROUND more by each of SECOND_RULES.
    """
    cases = [rendered_case(first, number, reporter, mixed=False) for number in range(worlds)]
    first_rules = {name: SECOND_RULES[name] for name in FIRST_RULES}
    first_jobs = [job for case in cases for job in jobs_of(case, first_rules, (ROUND,))]
    with worker_pool() as pool:
        first_rows = list(pool.map(retrain, first_jobs))
        reporter.say(f"  first round of {len(cases)} worlds: {len(first_rows)} trainings")
        second_jobs = [
            job
            for done, row in zip(first_jobs, first_rows, strict=True)
            if row["rule"] == "ours"
            for job in jobs_of(case_after(done), SECOND_RULES, (ROUND,))
            if job.chosen
        ]
        second_rows = list(pool.map(retrain, second_jobs))
        reporter.say(f"  second round: {len(second_rows)} trainings")
    rows = [{**row, "round": 1} for row in first_rows] + [{**row, "round": 2} for row in second_rows]
    table = pd.DataFrame(rows)
    return table.assign(case=table["case"].str.removesuffix(AGAIN))


def case_after(job: Job) -> Case:
    """The case after a training: its detector, all images it was trained on, and the rest of the pool."""
    case = job.case
    is_chosen = case.pool.images["image"].isin(job.chosen)
    trained_on = mixture(case.replay, case.pool.keep(is_chosen), case.test, case.name)
    return replace(
        case,
        name=case.name + AGAIN,
        weights=job.folder / "weights" / "last.pt",
        replay=trained_on.keep(trained_on.images["split"] == "train"),
        pool=case.pool.keep(~is_chosen),
    )


def rank_in_world(world: tuple[int, int]) -> list[dict[str, Any]]:
    """(Seed of the detectors, number) -> a row per candidate dataset, see `rank_candidates`."""
    detectors, number = world
    reporter = Reporter(quiet=True)
    run, in_domain = rendered.detector(TURNS[number % len(TURNS)], detectors, reporter)
    target, folders = candidate_folders(detectors + 5000 + 20 * number, reporter)
    options = ReportOptions(
        run=run,
        in_domain=("in_domain", str(in_domain)),
        real_world=(("footage", target), *folders.items()),
        device="cpu",
        seed=number,
    )
    predicted = predict_domains(options, load_run(options), reporter)
    domains = predicted.domains
    footage, *candidates = [d for d in domains.values() if d.role == "real_world"]
    ranked = compare_datasets(candidates, [footage], domains["training"], domains["in_domain"], seed=number)
    probed = {c.name: c for c in probe(ranked, predicted, [footage], number, reporter)}
    return [
        {
            "world": number,
            "rank": c.rank,
            "by_size": c.by_size,
            "name": c.name,
            "covers": c.covers,
            "drawn": c.drawn,
            "agrees": c.agrees,
            "noticed": not c.usable_labels,
            "probed": probed[c.name].probed,
            "probed_rank": probed[c.name].rank,
        }
        for c in ranked
    ]


def rank_candidates(detectors: int, count: int, reporter: Reporter) -> pd.DataFrame:
    """Rank candidate datasets for footage, each time in another world.

    Only the short trainings use the footage's labels, for evaluation.

    Parameters
    ----------
    detectors
        Seed of the detectors.
    count
        Number of worlds.
    reporter
        Where progress goes.

    Returns
    -------
    DataFrame
        A row per world and dataset: world, name; rank, and by_size, the rank by size alone; covers, drawn,
        agrees, see `Candidate`; noticed, whether its labels are reported to follow another rule; probed, AP50
        after a short training, and probed_rank.
    """
    for name in TURNS:
        rendered.detector(name, detectors, reporter)
    rows: list[dict[str, Any]] = []
    with worker_pool() as pool:
        for ranked in pool.map(rank_in_world, [(detectors, number) for number in range(count)]):
            rows += ranked
            names = ", ".join(row["name"] for row in ranked)
            reporter.say(f"  candidates, world {ranked[0]['world'] + 1} of {count}: {names}")
    return pd.DataFrame(rows)


# Ten parameters: each is an option of the command.
def main(
    worlds: Annotated[int, typer.Option(help="Rendered worlds for each kind of pool.")] = 5,
    candidates: Annotated[int, typer.Option(help="Worlds in which datasets are ranked.")] = 10,
    rounds: Annotated[int, typer.Option(help="Worlds with a second round.")] = 10,
    *,
    development: Annotated[bool, typer.Option(help="Use the seeds the rules were chosen with.")] = False,
    run_folder: Annotated[
        Path | None, typer.Option("--run", help="Also retrain this run on real images.")
    ] = None,
    in_domain: Annotated[str, typer.Option(help="The run's training data.")] = "",
    pool: Annotated[str, typer.Option(help="Real images: 'train' is the pool, 'val' the test images.")] = "",
    seeds: Annotated[int, typer.Option(help="Seeds on real images.")] = 3,
    tables: Annotated[bool, typer.Option(help="Write the tables from stored results.")] = False,
    out: Annotated[Path, typer.Option(help="File to write the tables to.")] = Path("docs/next.md"),
) -> None:
    """Retrain, evaluate, print and write the tables; with 0 worlds of a kind, its stored results are used."""
    reporter = Reporter()
    first = rendered.DEVELOPMENT if development else rendered.REPORTED
    folder = runs_folder() / ("prove-next-development" if development else "prove-next")

    def retrain_real() -> pd.DataFrame:
        assert run_folder is not None
        cases = [real_case(run_folder, in_domain, pool, number) for number in range(seeds)]
        return retrain_cases(cases, list(RULES), REAL_BUDGETS)

    results = load_or_measure(
        folder / "results.parquet",
        partial(retrain_rendered, first, worlds, reporter) if worlds and not tables else None,
    )
    stored_real = folder / "photographs.parquet"
    if run_folder is not None and not tables:
        results = pd.concat([results, load_or_measure(stored_real, retrain_real)], ignore_index=True)
    elif stored_real.is_file():
        results = pd.concat([results, pd.read_parquet(stored_real)], ignore_index=True)
    second = load_or_measure(
        folder / "rounds.parquet",
        partial(second_rounds, first, rounds, reporter) if rounds and not tables else None,
    )
    ranked = load_or_measure(
        folder / "candidates.parquet",
        partial(rank_candidates, first, candidates, reporter) if candidates and not tables else None,
    )
    text = page(results, ranked, second)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    figure = curves_figure("AP50 by boxes chosen, for every rule", results)
    out.with_suffix(".svg").write_text(figures.standalone(figure), encoding="utf-8")
    sys.stdout.write(text)


def load_or_measure(path: Path, measure: Callable[[], pd.DataFrame] | None) -> pd.DataFrame:
    """Measure and store a table, or load the stored one.

    Parameters
    ----------
    path
        Where the table is stored.
    measure
        How to measure it; None to load the stored one.

    Returns
    -------
    DataFrame

    Raises
    ------
    typer.BadParameter
        If it is to be loaded and none is stored.
    """
    if measure is None:
        if not path.is_file():
            raise typer.BadParameter(
                f"{path}: no earlier call has measured this; leave out --tables or the 0"
            )
        return pd.read_parquet(path)
    table = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    return table


if __name__ == "__main__":
    typer.run(main)
