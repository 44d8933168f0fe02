"""`make prove`: how often the diagnosis is right, measured on worlds whose cause is known.

Simulated detectors with planted causes (see `planted`): a confusion matrix of planted against named cause, mixed causes, withheld signals, false
alarms and power of the shift tests. The rules and their thresholds were written with worlds of the seeds DEVELOPMENT; what is reported
comes from the seeds REPORTED, which nobody looked at before.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks import rendered
from benchmarks.planted import CODE, MIXED, PLANTS, SEVERITIES, World, build
from benchmarks.simulated import make_domain
from diagnostics import shift
from diagnostics.counterfactuals import ap50
from diagnostics.few_labels import few_labels
from diagnostics.findings import Experiments, gather
from diagnostics.hypotheses import Verdict, diagnose
from diagnostics.intervals import wilson
from diagnostics.label_free import root_mean_square
from diagnostics.sweep import f1_at, sweep
from diagnostics.wording import fraction

# First seeds of the two sets of worlds.
DEVELOPMENT, REPORTED = 0, 1_000_000
NULLS = 200
# Distances of the shift tests in units of the scatter within a clip being 0.6; planted severity 1, 2 and 3 are SEVERE.
DISTANCES, SEVERE = (0.4, 0.8, 1.2, 1.6), (2.0, 4.0, 6.0)
# Labelled images of the 240 in each simulated footage, and footages each.
FEW, FOOTAGES, FEW_CONFIDENCE = (25, 50), 200, 0.3
ALPHA = 0.05
# A change that costs more AP50 than this is harmful.
HARM = 0.1


@dataclass(frozen=True)
class Case:
    """One world and what was said about it. primary is None for "cannot tell"; ranked: all codes in the order of the verdict."""

    plants: tuple[str, ...]
    severity: int
    primary: str | None
    ranked: tuple[str, ...]
    supported: tuple[str, ...]


def verdict_of(world: World, seed: int) -> Verdict:
    """What a report would say."""
    return diagnose(
        gather(
            world.in_domain,
            [world.real_world],
            world.training,
            world.history,
            Experiments(recoveries=world.recoveries),
            conf=None,
            seed=seed,
        )
    )


def diagnose_world(job: tuple[tuple[str, ...], int, int]) -> Case:
    """Build a world and question the hypotheses."""
    plants, severity, seed = job
    found = verdict_of(build(plants, severity, seed), seed)
    supported = tuple(h.code for h in found.hypotheses if h.status == "supported")
    return Case(plants, severity, found.primary, tuple(h.code for h in found.hypotheses), supported)


def without_labels(world: World) -> World:
    """Nobody has labelled the real world."""
    images = world.real_world.images.assign(labelled=False)
    return replace(
        world,
        real_world=replace(world.real_world, images=images, annotations=world.real_world.annotations.head(0)),
    )


def without_embeddings(world: World) -> World:
    """Predictions of another detector: boxes, and nothing else."""

    def blind(domain: Any) -> Any:
        return replace(
            domain,
            image_embeddings=np.zeros((len(domain.images), 0)),
            detection_embeddings=np.zeros((len(domain.detections), 0)),
        )

    return replace(
        world,
        in_domain=blind(world.in_domain),
        real_world=blind(world.real_world),
        training=None,
        recoveries={},
    )


def without_training(world: World) -> World:
    """No training images and no losses."""
    return replace(world, training=None, history=world.history[["epoch", "ap50"]])


def without_interventions(world: World) -> World:
    """No weights to look again with."""
    return replace(world, recoveries={})


# The signal that decides each cause, taken away: naming the cause all the same would be guessing.
WITHHELD: dict[str, tuple[str, Callable[[World], World], str]] = {
    "labels in the real world": ("viewpoint", without_labels, "domain_shift"),
    "labels in the real world (threshold)": ("threshold", without_labels, "threshold"),
    "image_embeddings": ("viewpoint", without_embeddings, "domain_shift"),
    "training images and losses": ("overfit", without_training, "overfit"),
    "training images": ("leakage", without_training, "leakage"),
    "interventions, at sizes home lacks": ("scale", without_interventions, "scale"),
}


def diagnose_withheld(job: tuple[str, int]) -> tuple[str, bool]:
    """Whether the cause was left open when its signal was missing."""
    name, seed = job
    plant, withhold, code = WITHHELD[name]
    found = verdict_of(withhold(build((plant,), 3, seed)), seed)
    return name, found.named(code).status == "untested" and found.primary != code


def shift_of(job: tuple[float, int]) -> tuple[float, float, float, float]:
    """p, MMD, AUC and the p-value of the object shift for one pair of domains at one distance."""
    distance, seed = job
    seeds = np.random.SeedSequence(seed).generate_state(2)
    in_domain = make_domain(clips=12, frames=6, seed=int(seeds[0]))
    real_world = make_domain(
        "real_world", clips=12, frames=6, seed=int(seeds[1]), clip_names="w", embedding_shift=distance
    )
    found = shift.measure(
        in_domain.image_embeddings,
        real_world.image_embeddings,
        in_domain.images["group"].to_numpy(str),
        real_world.images["group"].to_numpy(str),
        seed=seed,
    )
    return distance, found.p if found.p is not None else float("nan"), found.mmd or 0.0, found.auc or 0.5


def few_labels_of(job: tuple[int, int]) -> tuple[int, bool, bool, float, float]:
    """Whether the intervals of AP50 and F1 from so many labelled images hold what all labels say, what the unlabelled are worth, and the half-width."""
    count, seed = job
    seeds = np.random.SeedSequence(seed).generate_state(2)
    whole = make_domain(clips=20, frames=12, seed=int(seeds[0]), hit_rate=0.6, size_matters=True)
    chosen = np.random.default_rng(int(seeds[1])).choice(len(whole.images), count, replace=False)
    mask = np.isin(np.arange(len(whole.images)), chosen)
    boxes = whole.annotations[whole.annotations["image"].isin(whole.images["image"][mask])].reset_index(
        drop=True
    )
    part = replace(whole, images=whole.images.assign(labelled=mask), annotations=boxes)
    found = few_labels(part, FEW_CONFIDENCE)
    assert found is not None
    by_name = {measure.name: measure for measure in found.measures}
    ap, f1 = by_name["AP50"], by_name["F1"]
    true_f1 = f1_at(sweep(whole.table), FEW_CONFIDENCE)
    return (
        count,
        ap.low <= ap50(whole) <= ap.high,
        f1.low <= true_f1 <= f1.high,
        ap.worth,
        (ap.high - ap.low) / 2,
    )


def share(true_positives: int, total: int) -> str:
    """A share with its Wilson interval."""
    low, high = wilson(true_positives, total)
    return f"{true_positives / max(total, 1):.2f} ({low:.2f} to {high:.2f}, {total})"


def confusion(cases: Sequence[Case]) -> str:
    """Planted (rows) against named (columns) as a Markdown table."""
    codes = [*dict.fromkeys(CODE[name] for name in PLANTS), None]
    rows = [
        "| planted | " + " | ".join(str(c or "cannot tell") for c in codes) + " |",
        "|---" * (len(codes) + 1) + "|",
    ]
    for name in PLANTS:
        counts = Counter(case.primary for case in cases if case.plants == (name,))
        cells = [f"**{counts[c]}**" if c == CODE[name] else str(counts[c] or "") for c in codes]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def summary(cases: Sequence[Case]) -> dict[str, Any]:
    """The figures asked for: macro top-1 and top-2 over causes, specificity, both of two causes among the first three."""
    single = [case for case in cases if len(case.plants) == 1]
    faults = [name for name in PLANTS if CODE[name] != "none"]

    def rate(name: str, first: int) -> float:
        mine = [case for case in single if case.plants == (name,)]
        if first == 1:
            return float(np.mean([case.primary == CODE[name] for case in mine]))
        return float(np.mean([CODE[name] in case.ranked[:first] for case in mine]))

    healthy = [case for case in single if CODE[case.plants[0]] == "none"]
    kept = sum(case.primary in ("none", None) and set(case.supported) <= {"none"} for case in healthy)
    mixed = [case for case in cases if len(case.plants) == 2]
    both = sum(all(CODE[p] in case.ranked[:3] for p in case.plants) for case in mixed)
    return {
        "top1": float(np.mean([rate(name, 1) for name in faults])),
        "top2": float(np.mean([rate(name, 2) for name in faults])),
        "kept": share(kept, len(healthy)),
        "both": share(both, len(mixed)),
        "by_severity": {
            s: float(
                np.mean(
                    [
                        c.primary == CODE[c.plants[0]]
                        for c in single
                        if c.severity == s and c.plants[0] in faults
                    ]
                )
            )
            for s in SEVERITIES
        },
    }


def main(
    worlds: Annotated[int, typer.Option(help="Worlds for each cause and severity.")] = 10,
    *,
    development: Annotated[bool, typer.Option(help="Use the seeds the rules were written with.")] = False,
    real: Annotated[
        bool, typer.Option(help="Also train real detectors on rendered worlds (ten minutes).")
    ] = True,
    own: Annotated[
        Path | None, typer.Option("--run", help="A run of your own, whose readings are measured too.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the tables go.")] = Path("docs/proof.md"),
) -> None:
    """Measure, print and write the tables."""
    first = DEVELOPMENT if development else REPORTED
    jobs = [((name,), s, first + i) for name in PLANTS for s in SEVERITIES for i in range(worlds)]
    jobs += [
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
    few = [(count, first + 20_000 + i) for count in FEW for i in range(FOOTAGES)]
    # Fork would copy OpenCV's threads, which then never wake.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        cases = progress("worlds", pool.map(diagnose_world, jobs, chunksize=4), len(jobs))
        open_ = progress(
            "withheld signals", pool.map(diagnose_withheld, withheld, chunksize=4), len(withheld)
        )
        shifts = progress("shift tests", pool.map(shift_of, distances, chunksize=8), len(distances))
        footages = progress("few labels", pool.map(few_labels_of, few, chunksize=8), len(few))
    text = report(cases, open_, pd.DataFrame(shifts, columns=["distance", "p", "mmd", "auc"]), worlds, first)
    text += few_labels_part(pd.DataFrame(footages, columns=["count", "ap50", "f1", "worth", "half"]))
    text += real_detectors(rendered.DEVELOPMENT if development else rendered.REPORTED, own) if real else ""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def few_labels_part(footages: pd.DataFrame) -> str:
    """The part about a few labels."""
    rows = [
        f"| {count} | {share(int(part['ap50'].sum()), len(part))} | {share(int(part['f1'].sum()), len(part))} "
        f"| {part['half'].mean():.3f} | {part['worth'].median():.1f} |"
        for count, part in footages.groupby("count")
    ]
    return FEW_TEXT.format(rows="\n".join(rows))


def real_detectors(seed: int, own: Path | None) -> str:
    """The parts about rendered worlds and about AP50 without labels. own: see `rendered.measure`."""
    found = rendered.measure(seed, own)
    text = RENDERED.format(seed=seed, rows="\n".join(found.lines), right=found.right, total=len(found.lines))
    return text + label_free_part(found)


def label_free_part(found: rendered.Rendered) -> str:
    """How far off AP50 read without labels is: families left out, and worlds that are no change of an image."""
    rows, parts = [], []
    for name, estimator in found.estimators.items():
        checked = estimator.coverage()
        naive = estimator.naive.iloc[checked["row"]].reset_index(drop=True)
        in_domain = estimator.reference.ap50
        parts.append(checked.assign(detector=name, in_domain=in_domain, **naive))
        error, assumed = (
            root_mean_square(checked["truth"] - checked["estimate"]),
            root_mean_square(checked["truth"] - in_domain),
        )
        others = " | ".join(
            f"{root_mean_square(checked['truth'] - naive[key]):.3f}" for key in naive.columns[1:]
        )
        rows.append(
            f"| {name} | {in_domain:.2f} | **{error:.3f}** | {assumed:.3f} | {1 - error / assumed:0.0%} | {others} "
            f"| {share(int(checked['covered'].sum()), len(checked))} | {checked['half'].mean():.2f} |"
        )
    pooled = pd.concat(parts, ignore_index=True)
    off = pooled["truth"] - pooled["estimate"]
    families = ", ".join(
        f"{name} {root_mean_square(part):.2f}"
        for name, part in sorted(off.groupby(pooled["family"]), key=lambda pair: root_mean_square(pair[1]))
    )
    harmful = pooled["truth"] < pooled["in_domain"] - HARM
    worlds = found.estimates[found.estimates["truth"].notna()]
    read = worlds[worlds["estimate"].notna()]
    lines = [
        f"| {r.detector} | {r.world} | {r.in_domain:.2f} | {fraction(r.truth)} "
        + (
            f"| {fraction(r.reading)} ({fraction(r.low)} to {fraction(r.high)}) |"
            if r.reading == r.reading
            else "| refused |"
        )
        for r in worlds.itertuples()
    ]
    inside = (read["low"] <= read["truth"]) & (read["truth"] <= read["high"])
    return LABEL_FREE.format(
        ways=len(next(iter(found.estimators.values())).families) - 1,
        rows="\n".join(rows),
        error=root_mean_square(off),
        assumed=root_mean_square(pooled["truth"] - pooled["in_domain"]),
        covered=share(int(pooled["covered"].sum()), len(pooled)),
        families=families,
        families_count=pooled["family"].nunique(),
        auroc=roc_auc_score(harmful, pooled["in_domain"] - pooled["estimate"]),
        worlds="\n".join(lines),
        world_error=root_mean_square(read["truth"] - read["estimate"]),
        world_assumed=root_mean_square(read["truth"] - read["in_domain"]),
        world_covered=share(int(inside.sum()), len(read)),
    )


def progress(what: str, results: Any, total: int) -> list[Any]:
    """Collect results, and say how far it is at every tenth."""
    collected = []
    for number, result in enumerate(results, 1):
        collected.append(result)
        if number % max(1, total // 10) == 0 or number == total:
            sys.stderr.write(f"  {what}: {number} of {total}\n")
    return collected


def report(
    cases: Sequence[Case], open_: Sequence[tuple[str, bool]], shifts: pd.DataFrame, worlds: int, first: int
) -> str:
    """The page."""
    figures = summary(cases)
    mixed = []
    for pair in MIXED:
        mine = [case for case in cases if case.plants == pair]
        named = Counter(case.primary or "cannot tell" for case in mine).most_common()
        both = sum(all(CODE[p] in case.ranked[:3] for p in pair) for case in mine)
        mixed.append(
            f"| {' + '.join(pair)} | {share(both, len(mine))} | {', '.join(f'{c} {n}' for c, n in named)} |"
        )
    left_open = []
    for name, (plant, _, _) in WITHHELD.items():
        mine = [ok for which, ok in open_ if which == name]
        left_open.append(f"| {name} | {plant} | {share(sum(mine), len(mine))} |")
    power = []
    for distance, part in shifts.groupby("distance"):
        found = int((part["p"] <= ALPHA).sum())
        power.append(
            f"| {distance:.1f} | {share(found, len(part))} | {part['mmd'].median():.4f} | {part['auc'].median():.2f} |"
        )
    moved = shifts[shifts["distance"] > 0]
    rank = float(spearmanr(moved["distance"], moved["mmd"]).statistic)
    return TEXT.format(
        date=datetime.now(UTC).strftime("%d %B %Y"),
        worlds=worlds,
        seeds=f"{first:,}",
        matrix=confusion(cases),
        top1=figures["top1"],
        top2=figures["top2"],
        kept=figures["kept"],
        both=figures["both"],
        severities=", ".join(f"severity {s}: {v:.2f}" for s, v in figures["by_severity"].items()),
        mixed="\n".join(mixed),
        withheld="\n".join(left_open),
        power="\n".join(power),
        rank=rank,
    )


TEXT = """# How often the diagnosis is right

Written by `make prove` on {date}: {worlds} worlds for each cause and severity, seeds from {seeds}. The detectors are simulated: their hit rates,
confidences, labels and embeddings are drawn from known distributions (`benchmarks/planted.py`), 20 clips of 8 images in each domain. The
rules and thresholds were written while looking at other seeds. A share stands with its 95 % interval and its number of cases.

## One planted cause

{matrix}

- Right cause first, mean over the causes: **{top1:.2f}**; among the first two: **{top2:.2f}** ({severities}).
- No failure planted and none named ("cannot tell" names none): **{kept}**. "harmless" worlds differ in images and embeddings, not in results.

## Two planted causes

Both among the first three hypotheses: **{both}**.

| planted | both among the first three | named first |
|---|---|---|
{mixed}

## The deciding signal withheld

How often the cause was left open, and not named, when what decides it was missing.

| withheld | planted | left open |
|---|---|---|
{withheld}

## The shift test

Permutation test of MMD over clips at 5 %, 12 clips of 6 images a side; distance in units of the scatter within a clip being .6. Planted
severities 1, 2 and 3 are distances 2, 4 and 6.

| distance | called a shift | MMD (median) | domain AUC (median) |
|---|---|---|---|
{power}

Rank correlation of distance and MMD, distances above 0: **{rank:.2f}**.

## What this cannot show

Simulated detectors fail in the way they are told to: true positives are lost evenly, clips are alike in kind, embeddings move along one direction. Real
failures are mixtures, and no simulation says how often a real shift looks like one of these. Wrong labels are named here only because
nothing else differs between the domains; as soon as images differ too, that hypothesis stays open and an audit by eye decides.
"""

RENDERED = """
## Real detectors on rendered worlds

Three tiny YOLOs trained here (seed {seed}) look at worlds in which one dial was turned, through the whole pipeline. **{right} of {total}** are
named as planted; a dial that costs this detector under five points of AP50 is no failure, and "none" is right.

| world | AP50 in-domain | AP50 there | right | named first (score) | left open beside it |
|---|---|---|---|---|---|
{rows}
"""

FEW_TEXT = """
## A few labels

Simulated footage of 240 images in 20 clips, of which some images are labelled: do 95 % intervals hold what all labels would say, and how many
times as many labels are the unlabelled images worth?

| labelled | AP50 held | F1 held | half-width of AP50 | worth (median) |
|---|---|---|---|---|
{rows}
"""

LABEL_FREE = """
## AP50 without labels

Each detector was shown 40 of its own held-out images changed in {ways} ways; a regression from signals that need no labels, drawn towards what these were worth to sixteen
other detectors, reads AP50. Each of {families_count} families of
changes in three grades was read by a regression that had seen neither it nor a mixture with it, from no detector. Errors are root mean squares in AP50; intervals are 90 %.

| detector | AP50 in-domain | error | assuming AP50 in-domain | less by | if confidences meant the same | thresholded confidence | interval held | half-width |
|---|---|---|---|---|---|---|---|---|
{rows}

All together: **{error:.3f}** against {assumed:.3f} for assuming the AP50 in-domain; intervals held **{covered}**. By family: {families}.
Whether a change costs more than ten points of AP50 is told with an AUROC of {auroc:.2f}.

Changed images are not other footage. On the rendered worlds, which are no change of an image, the error is **{world_error:.3f}** against {world_assumed:.3f}, and intervals held
{world_covered}:

| detector | world | AP50 in-domain | AP50 there | read without labels |
|---|---|---|---|---|
{worlds}

A reading supposes that there are objects to find, and that the same things count as objects: worlds with other labels are not in this table. Where a
detector is sure of what nobody labelled there, it reads too high.
"""

if __name__ == "__main__":
    typer.run(main)
