"""`make prove-next`: does choosing by `shiftscope next` beat choosing at random? Answered by retraining, and written to docs/next.md.

The same detector goes on learning from what each rule chose, as long for every rule, and is judged on recordings it has never seen. Runs
are kept: a killed call continues, and the tables are made anew from `results.parquet` by --tables.
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
    Case,
    Rule,
    candidate_folders,
    photographs,
    rendered_case,
)
from datasets.tables import Source
from diagnostics.candidates import compare
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from reports.commands.probe import mixture, probe, short_training
from reports.files import write_text
from reports.options import ReportOptions
from reports.page import figures
from reports.pipeline.inference import assemble, predict_domains
from reports.pipeline.sources import Opened
from reports.progress import Reporter
from train.environment import runs_folder
from train.forward import Detector
from train.passes import available_cores
from train.predictions import Settings, Store, predict_folder
from train.run import file_sha256
from train.training import Recipe, train

BUDGETS, MIXED_BUDGETS = (2, 4, 8, 16, 32), (4, 8, 16)
# The detectors of `benchmarks.rendered` take turns.
TURNS = ("good", "second", "third")
# What chooses in the first of two rounds.
FIRST_RULES = ("ours", "ours, where it is unsure")
AGAIN = "-again"
# Fewer sizes: real trainings take minutes each.
PHOTOGRAPH_BUDGETS = (10, 40, 160)


@dataclass(frozen=True)
class Job:
    """One retraining: a case, a rule, and the images it chose first."""

    case: Case
    rule: str
    chosen: tuple[str, ...]
    boxes: int
    folder: Path


def predict_source(case: Case, weights: Path, source: Source, role: str) -> Domain:
    """What a detector sees in a source."""
    detector, settings = Detector(weights, device="cpu"), Settings(imgsz=case.imgsz)
    store = Store(predict_folder(settings, file_sha256(weights)))
    found = detector.predict(source.images, settings, store)
    return assemble(Opened(role, role, source), source.images, found, case.imgsz, detector.classes)


def recipe_of(case: Case, images: int) -> Recipe:
    """A short training of a case; at one number of images all rules take as many steps."""
    return short_training(case.weights, images, case.imgsz, "cpu", case.seed % 1000)


def workers() -> ProcessPoolExecutor:
    """Processes with a core each."""
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    for core in sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else ():
        cores.put(core)
    return ProcessPoolExecutor(
        available_cores(), mp_context=context, initializer=take_core, initargs=(cores,)
    )


def take_core(cores: Any) -> None:
    """A worker's own core: two small trainings side by side are faster than two cores on one."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores.get()})


def key_of(job: Job) -> str:
    """Twelve hex digits over everything a result depends on, so that one of other images, weights or settings is not taken for it."""
    how = recipe_of(job.case, len(job.case.replay.images) + len(job.chosen))
    told = [
        file_sha256(job.case.weights),
        job.chosen,
        job.case.replay.images["image"].tolist(),
        job.case.test.images["image"].tolist(),
        job.case.test.spec,
        (how.epochs, how.imgsz, how.batch, how.seed, how.extra),
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def kept(job: Job) -> float | None:
    """A result that is there already, if it is of this job."""
    try:
        content = json.loads((job.folder / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return float(content["ap50"]) if content.get("key") == key_of(job) else None


def retrain(job: Job) -> dict[str, Any]:
    """Train, judge, and keep the result; a result that is there already is read."""
    value = kept(job)
    if value is None:
        # What was begun for other images, or was killed, starts anew: a training takes seconds.
        shutil.rmtree(job.folder, ignore_errors=True)
        weights = job.case.weights
        if job.chosen:
            case = job.case
            picked = case.pool.keep(case.pool.images["image"].isin(job.chosen))
            source = mixture(case.replay, picked, case.test, case.name)
            train(
                source,
                job.folder,
                recipe_of(case, int((source.images["split"] == "train").sum())),
                on_start=lambda batches: None,
                on_batch=lambda: None,
                on_epoch=lambda line: None,
            )
            weights = job.folder / "weights" / "last.pt"
        job.folder.mkdir(parents=True, exist_ok=True)
        value = ap50(predict_source(job.case, weights, job.case.test, "test"))
        write_text(job.folder / "result.json", json.dumps({"ap50": value, "key": key_of(job)}))
    return {
        "case": job.case.name,
        "rule": job.rule,
        "images": len(job.chosen),
        "boxes": job.boxes,
        "ap50": value,
    }


def jobs_of(case: Case, rules: Mapping[str, Rule], budgets: Sequence[int]) -> list[Job]:
    """Every retraining of a case: none chosen, and each rule's first images."""
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
            named = rule.replace(",", "").replace(" ", "-")
            jobs.append(Job(case, rule, chosen, boxes, folder / f"{named}-{budget}"))
    return jobs


def run(cases: Sequence[Case], rules: Sequence[str], budgets: Sequence[int]) -> pd.DataFrame:
    """case, rule, images, boxes, ap50 of every retraining."""
    chosen = {name: RULES[name] for name in rules}
    jobs = [job for case in cases for job in jobs_of(case, chosen, budgets)]
    rows = []
    with workers() as pool:
        for number, row in enumerate(pool.map(retrain, jobs), 1):
            rows.append(row)
            sys.stderr.write(
                f"  {number} of {len(jobs)}: {row['case']}, {row['rule']}, {row['images']} images with {row['boxes']} boxes: {row['ap50']:.3f}\n"
            )
    return pd.DataFrame(rows)


def second_rounds(cases: Sequence[Case], reporter: Reporter) -> pd.DataFrame:
    """case, round, rule, boxes, ap50: after ROUND images by `ours` and by where the detector is unsure; and, from the first of these on, after ROUND more by each of SECOND_RULES."""
    first = [
        job for case in cases for job in jobs_of(case, {n: SECOND_RULES[n] for n in FIRST_RULES}, (ROUND,))
    ]
    with workers() as pool:
        merge_overlapping = list(pool.map(retrain, first))
        reporter.say(f"  first round of {len(cases)} worlds: {len(merge_overlapping)} trainings")
        later = [
            job
            for job, row in zip(first, merge_overlapping, strict=True)
            if row["rule"] == "ours"
            for job in jobs_of(training_section(job), SECOND_RULES, (ROUND,))
            if job.chosen
        ]
        twice = list(pool.map(retrain, later))
        reporter.say(f"  second round: {len(twice)} trainings")
    found = pd.DataFrame(
        [{**row, "round": 1} for row in merge_overlapping] + [{**row, "round": 2} for row in twice]
    )
    return found.assign(case=found["case"].str.removesuffix(AGAIN))


def training_section(job: Job) -> Case:
    """The case as it stands after a retraining: its detector, what it learned from, and what is left of the pool."""
    case = job.case
    mine = case.pool.images["image"].isin(job.chosen)
    known = mixture(case.replay, case.pool.keep(mine), case.test, case.name)
    return replace(
        case,
        name=case.name + AGAIN,
        weights=job.folder / "weights" / "last.pt",
        replay=known.keep(known.images["split"] == "train"),
        pool=case.pool.keep(~mine),
    )


def candidate_rows(world: tuple[int, int]) -> list[dict[str, Any]]:
    """Candidate sets of one world (detectors' seed, number) ranked for footage, without and with short trainings: a row each, see `candidate_ranks`."""
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
    seen = predict_domains(options, reporter)
    found = [d for d in seen.domains.values() if d.role == "real_world"]
    ranked = compare(found[1:], found[:1], seen.domains["training"], seen.domains["in_domain"], seed=number)
    tried = {c.name: c for c in probe(ranked, seen, found[:1], number, reporter)}
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
            "probed": tried[c.name].probed,
            "probed_rank": tried[c.name].rank,
        }
        for c in ranked
    ]


def candidate_ranks(detectors: int, count: int, reporter: Reporter) -> pd.DataFrame:
    """world, rank, by_size (its place by size alone), name, covers, drawn, agrees, noticed (labels seen to follow another rule), probed (AP50 after a short training), probed_rank: candidate sets ranked for
    footage, in worlds of their own. No label of the footage is used but by the short trainings, which are judged by them.
    """
    for name in TURNS:
        rendered.detector(name, detectors, reporter)
    rows: list[dict[str, Any]] = []
    with workers() as pool:
        for found in pool.map(candidate_rows, [(detectors, number) for number in range(count)]):
            rows += found
            reporter.say(
                f"  candidates, world {found[0]['world'] + 1} of {count}: {', '.join(r['name'] for r in found)}"
            )
    return pd.DataFrame(rows)


def main(
    worlds: Annotated[int, typer.Option(help="Rendered worlds of either kind of pool.")] = 5,
    candidates: Annotated[int, typer.Option(help="Worlds in which datasets are ranked.")] = 10,
    rounds: Annotated[int, typer.Option(help="Worlds in which a second round is chosen.")] = 10,
    *,
    development: Annotated[bool, typer.Option(help="Use the seeds the rules were chosen with.")] = False,
    run_folder: Annotated[
        Path | None, typer.Option("--run", help="Also retrain this run on real photographs.")
    ] = None,
    in_domain: Annotated[str, typer.Option(help="The run's training data.")] = "",
    pool: Annotated[str, typer.Option(help="Photographs: 'train' is chosen from, 'val' judges.")] = "",
    seeds: Annotated[int, typer.Option(help="Seeds on photographs.")] = 3,
    tables: Annotated[bool, typer.Option(help="Only write the tables anew, from kept results.")] = False,
    out: Annotated[Path, typer.Option(help="Where the tables go.")] = Path("docs/next.md"),
) -> None:
    """Retrain, judge, print and write the tables. Of what none is asked for, what an earlier call found stands."""
    reporter = Reporter()
    first = rendered.DEVELOPMENT if development else rendered.REPORTED
    folder = runs_folder() / ("prove-next-development" if development else "prove-next")

    def rendered_pools() -> pd.DataFrame:
        return pd.concat(
            [
                run(
                    [rendered_case(first, number, reporter, mixed=mixed) for number in range(worlds)],
                    MIXED_RULES if mixed else list(RULES),
                    MIXED_BUDGETS if mixed else BUDGETS,
                )
                for mixed in (False, True)
            ],
            ignore_index=True,
        )

    def real_pools(trained: Path) -> pd.DataFrame:
        cases = [photographs(trained, in_domain, pool, number) for number in range(seeds)]
        return run(cases, list(RULES), PHOTOGRAPH_BUDGETS)

    def second() -> pd.DataFrame:
        return second_rounds(
            [rendered_case(first, n, reporter, mixed=False) for n in range(rounds)], reporter
        )

    results = kept_or_found(folder / "results.parquet", rendered_pools if worlds and not tables else None)
    photos = folder / "photographs.parquet"
    if run_folder is not None and not tables:
        results = pd.concat(
            [results, kept_or_found(photos, partial(real_pools, run_folder))], ignore_index=True
        )
    elif photos.is_file():
        results = pd.concat([results, pd.read_parquet(photos)], ignore_index=True)
    later = kept_or_found(folder / "rounds.parquet", second if rounds and not tables else None)
    offers = kept_or_found(
        folder / "candidates.parquet",
        partial(candidate_ranks, first, candidates, reporter) if candidates and not tables else None,
    )
    text = page(results, offers, later)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    words = "AP50 by boxes chosen, for every rule"
    out.with_suffix(".svg").write_text(figures.standalone(curves_figure(words, results)), encoding="utf-8")
    sys.stdout.write(text)


def kept_or_found(path: Path, find: Callable[[], pd.DataFrame] | None) -> pd.DataFrame:
    """A table found now and kept; without `find`, the kept one. Raises typer.BadParameter where none is kept."""
    if find is None:
        if not path.is_file():
            raise typer.BadParameter(f"{path}: no earlier call has found this; ask for some worlds of it")
        return pd.read_parquet(path)
    table = find()
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)
    return table


if __name__ == "__main__":
    typer.run(main)
