"""docs/proof.md: the statistics and the text of `make prove`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks.planted import CODE, MIXED, PLANTS, SEVERITIES
from benchmarks.prove_cases import WITHHELD, Case
from benchmarks.rendered import Rendered
from diagnostics.intervals import wilson
from diagnostics.label_free import root_mean_square
from diagnostics.wording import fraction

# Level of the shift test.
ALPHA = 0.05
# A corruption that costs more AP50 than this is harmful.
HARM = 0.1


@dataclass(frozen=True)
class Simulated:
    """Results on all simulated worlds.

    worlds: number of worlds for each cause and severity
    first: first seed
    cases: diagnoses of worlds with one and with two planted causes
    undecided: (what is withheld, whether its cause is undecided) of each world with a withheld signal
    shifts: distance, p, mmd, auc of each pair of domains
    few_labels: count, ap50, f1 (whether the intervals contain the truth), worth, half of each partly labelled
        domain
    """

    worlds: int
    first: int
    cases: Sequence[Case]
    undecided: Sequence[tuple[str, bool]]
    shifts: pd.DataFrame
    few_labels: pd.DataFrame


def rate(count: int, total: int) -> str:
    """A rate with its 95 % Wilson interval and the number of cases: "0.93 [0.70, 0.99] of 15"."""
    low, high = wilson(count, total)
    return f"{count / max(total, 1):.2f} [{low:.2f}, {high:.2f}] of {total}"


def confusion_table(cases: Sequence[Case]) -> str:
    """Planted (rows) against named (columns) as Markdown, for worlds with one planted cause."""
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


def summarise(cases: Sequence[Case]) -> dict[str, Any]:
    """Figures over all cases.

    top1, top2: share of worlds whose planted cause is first, or among the first two, mean over the causes.
    healthy: rate of worlds without a failure in which none is named. both: rate of worlds with two causes
    that are both among the first three. by_severity: share of worlds whose planted cause is first.
    """
    single = [case for case in cases if len(case.plants) == 1]
    faults = [name for name in PLANTS if CODE[name] != "none"]

    def is_named(case: Case) -> bool:
        return case.primary == CODE[case.plants[0]]

    def is_among_first_two(case: Case) -> bool:
        return CODE[case.plants[0]] in case.ranked[:2]

    def mean_over_causes(is_right: Callable[[Case], bool]) -> float:
        shares = [np.mean([is_right(case) for case in single if case.plants == (name,)]) for name in faults]
        return float(np.mean(shares))

    healthy = [case for case in single if CODE[case.plants[0]] == "none"]
    without_alarm = sum(
        case.primary in ("none", None) and set(case.supported) <= {"none"} for case in healthy
    )
    mixed = [case for case in cases if len(case.plants) == 2]
    return {
        "top1": mean_over_causes(is_named),
        "top2": mean_over_causes(is_among_first_two),
        "healthy": rate(without_alarm, len(healthy)),
        "both": rate(sum(both_in_first_three(case) for case in mixed), len(mixed)),
        "by_severity": {
            s: float(np.mean([is_named(c) for c in single if c.severity == s and c.plants[0] in faults]))
            for s in SEVERITIES
        },
    }


def both_in_first_three(case: Case) -> bool:
    """Whether all planted causes are among the first three hypotheses."""
    return all(CODE[plant] in case.ranked[:3] for plant in case.plants)


def simulated_sections(results: Simulated) -> str:
    """The sections on simulated worlds."""
    figures = summarise(results.cases)
    moved = results.shifts[results.shifts["distance"] > 0]
    text = TEXT.format(
        date=datetime.now(UTC).strftime("%d %B %Y"),
        worlds=results.worlds,
        seeds=f"{results.first:,}",
        matrix=confusion_table(results.cases),
        top1=figures["top1"],
        top2=figures["top2"],
        healthy=figures["healthy"],
        both=figures["both"],
        severities=", ".join(f"severity {s}: {v:.2f}" for s, v in figures["by_severity"].items()),
        mixed="\n".join(mixed_rows(results.cases)),
        withheld="\n".join(withheld_rows(results.undecided)),
        power="\n".join(power_rows(results.shifts)),
        rank=float(spearmanr(moved["distance"], moved["mmd"]).statistic),
    )
    return text + FEW_TEXT.format(rows="\n".join(few_labels_rows(results.few_labels)))


def mixed_rows(cases: Sequence[Case]) -> list[str]:
    """Table rows of worlds with two planted causes."""
    rows = []
    for pair in MIXED:
        of_pair = [case for case in cases if case.plants == pair]
        named = Counter(case.primary or "cannot tell" for case in of_pair).most_common()
        both = sum(both_in_first_three(case) for case in of_pair)
        rows.append(
            f"| {' + '.join(pair)} | {rate(both, len(of_pair))} | {', '.join(f'{c} {n}' for c, n in named)} |"
        )
    return rows


def withheld_rows(undecided: Sequence[tuple[str, bool]]) -> list[str]:
    """Table rows of worlds with a withheld signal."""
    rows = []
    for name, (plant, _, _) in WITHHELD.items():
        right = [is_undecided for withheld, is_undecided in undecided if withheld == name]
        rows.append(f"| {name} | {plant} | {rate(sum(right), len(right))} |")
    return rows


def power_rows(shifts: pd.DataFrame) -> list[str]:
    """Table rows of the shift test."""
    rows = []
    for distance, pairs in shifts.groupby("distance"):
        significant = int((pairs["p"] <= ALPHA).sum())
        rows.append(
            f"| {distance:.1f} | {rate(significant, len(pairs))} "
            f"| {pairs['mmd'].median():.4f} | {pairs['auc'].median():.2f} |"
        )
    return rows


def few_labels_rows(few_labels: pd.DataFrame) -> list[str]:
    """Table rows of partly labelled domains."""
    return [
        f"| {count} | {rate(int(domains['ap50'].sum()), len(domains))} "
        f"| {rate(int(domains['f1'].sum()), len(domains))} "
        f"| {domains['half'].mean():.3f} | {domains['worth'].median():.1f} |"
        for count, domains in few_labels.groupby("count")
    ]


def real_detectors_section(results: Rendered, seed: int) -> str:
    """The sections on rendered worlds and on the estimated AP50."""
    text = RENDERED.format(
        seed=seed, rows="\n".join(results.lines), right=results.right, total=len(results.lines)
    )
    return text + label_free_section(results)


def label_free_section(results: Rendered) -> str:
    """The error of the estimated AP50, on left-out families of corruptions and on rendered worlds."""
    rows, errors = estimator_rows(results)
    off = errors["truth"] - errors["estimate"]
    families = ", ".join(
        f"{name} {root_mean_square(part):.2f}"
        for name, part in sorted(off.groupby(errors["family"]), key=lambda pair: root_mean_square(pair[1]))
    )
    harmful = errors["truth"] < errors["in_domain"] - HARM
    worlds = results.estimates[results.estimates["truth"].notna()]
    estimated = worlds[worlds["estimate"].notna()]
    covered = (estimated["low"] <= estimated["truth"]) & (estimated["truth"] <= estimated["high"])
    return LABEL_FREE.format(
        ways=len(next(iter(results.estimators.values())).families) - 1,
        rows="\n".join(rows),
        error=root_mean_square(off),
        assumed=root_mean_square(errors["truth"] - errors["in_domain"]),
        covered=rate(int(errors["covered"].sum()), len(errors)),
        families=families,
        families_count=errors["family"].nunique(),
        auroc=roc_auc_score(harmful, errors["in_domain"] - errors["estimate"]),
        worlds="\n".join(world_rows(worlds)),
        world_error=root_mean_square(estimated["truth"] - estimated["estimate"]),
        world_assumed=root_mean_square(estimated["truth"] - estimated["in_domain"]),
        world_covered=rate(int(covered.sum()), len(estimated)),
    )


def estimator_rows(results: Rendered) -> tuple[list[str], pd.DataFrame]:
    """A table row per detector, and the errors on left-out families of all detectors together."""
    rows, parts = [], []
    for name, estimator in results.estimators.items():
        coverage = estimator.coverage()
        naive = estimator.naive.iloc[coverage["row"]].reset_index(drop=True)
        in_domain = estimator.reference.ap50
        parts.append(coverage.assign(detector=name, in_domain=in_domain, **naive))
        error = root_mean_square(coverage["truth"] - coverage["estimate"])
        assumed = root_mean_square(coverage["truth"] - in_domain)
        others = " | ".join(
            f"{root_mean_square(coverage['truth'] - naive[key]):.3f}" for key in naive.columns[1:]
        )
        rows.append(
            f"| {name} | {in_domain:.2f} | **{error:.3f}** | {assumed:.3f} "
            f"| {100 * (1 - error / assumed):.0f} | {others} "
            f"| {rate(int(coverage['covered'].sum()), len(coverage))} | {coverage['half'].mean():.2f} |"
        )
    return rows, pd.concat(parts, ignore_index=True)


def world_rows(worlds: pd.DataFrame) -> list[str]:
    """A table row per label-free estimate on a rendered world."""
    rows = []
    for r in worlds.itertuples():
        has_estimate = pd.notna(r.estimate)
        interval = f"[{fraction(r.low)}, {fraction(r.high)}]"
        estimate = f"{fraction(r.estimate)} {interval}" if has_estimate else "none"
        rows.append(f"| {r.detector} | {r.world} | {r.in_domain:.2f} | {fraction(r.truth)} | {estimate} |")
    return rows


TEXT = """# How often the diagnosis is right

Written by `make prove` on {date}: {worlds} worlds for each cause and severity, seeds from {seeds}. The
detectors are simulated: recall, confidences, labels and embeddings are drawn from known distributions
(`benchmarks/planted.py`), 20 clips of 8 images in each domain. The rules and thresholds were written with
other seeds. A rate has its 95 % interval in brackets and the number of cases behind it.

## One planted cause

{matrix}

- Right cause first, mean over the causes: **{top1:.2f}**; among the first two: **{top2:.2f}** ({severities}).
- No failure planted and none named ("cannot tell" names none): **{healthy}**. "harmless" worlds differ in
  images and embeddings, not in results.

## Two planted causes

Both are among the first three hypotheses: **{both}**.

| planted | both among the first three | named first |
|---|---|---|
{mixed}

## The deciding signal withheld

How often the cause is not named, and is inconclusive or not tested, when the signal that decides it is
missing.

| withheld | planted | not named |
|---|---|---|
{withheld}

## The shift test

Permutation test of MMD over clips at 5 %, 12 clips of 6 images in each domain. Distances are in units in
which the scatter within a clip is 0.6. Planted severities 1, 2 and 3 are distances 2, 4 and 6.

| distance | shift detected | MMD (median) | domain AUC (median) |
|---|---|---|---|
{power}

Rank correlation of distance and MMD, distances above 0: **{rank:.2f}**.

## What this cannot show

Simulated detectors fail in simple ways: true positives are lost evenly, clips are of one kind, embeddings
move along one direction. Real failures are mixtures, and no simulation shows how often a real shift resembles
one of these. Wrong labels are named here only because nothing else differs between the domains; when the
images differ too, that hypothesis is not decided, and the labels have to be reviewed.
"""

FEW_TEXT = """
## A few labels

Simulated footage of 240 images in 20 clips, of which some images are labelled. The table shows how often the
95 % intervals cover the value from all labels, and how many times as many labels would give the same interval
without the unlabelled images.

| labelled | AP50 covered | F1 covered | half-width of AP50 | times as many labels (median) |
|---|---|---|---|---|
{rows}
"""

RENDERED = """
## Real detectors on rendered worlds

Three tiny YOLOs trained here (seed {seed}) are diagnosed by the whole pipeline on worlds in which one dial is
changed. In **{right} of {total}** an expected cause is named. A change that costs the detector less than five
points of AP50 is no failure, and "none" is expected. In tables written before 28 November 2026, "untested"
includes inconclusive.

| world | AP50 in-domain | AP50 real-world | expected | named (score) | others not ruled out |
|---|---|---|---|---|---|
{rows}
"""

LABEL_FREE = """
## Estimated AP50 without labels

Each detector is run on 40 of its own held-out images, corrupted in {ways} ways. A regression from signals
that need no labels, shrunk towards the coefficients of sixteen other detectors, estimates AP50. Each of
{families_count} families of corruptions, in three severities, is estimated by a regression that is fitted
without this family and without mixtures that contain it, for every detector. Errors are root mean squares in
AP50; intervals are 90 %. Beside the error are those of three naive estimates: the in-domain AP50 ("as
in-domain"), the AP50 expected if confidences meant what they mean in-domain ("expected"), and the share of
images whose highest confidence is above an in-domain threshold ("thresholded").

| detector | in-domain AP50 | error | as in-domain | less (%) | expected | thresholded | cover | half-width |
|---|---|---|---|---|---|---|---|---|
{rows}

All together: **{error:.3f}** against {assumed:.3f} for assuming the in-domain AP50; intervals cover
**{covered}**. By family: {families}. A corruption that costs more than ten points of AP50 is recognised with
an AUROC of {auroc:.2f}.

Corrupted images are not other footage. On the rendered worlds, which are not corruptions of an image, the
error is **{world_error:.3f}** against {world_assumed:.3f}, and intervals cover {world_covered}:

| detector | world | AP50 in-domain | AP50 real-world | estimated AP50 |
|---|---|---|---|---|
{worlds}

The estimate assumes that there are objects to detect and that the same things are annotated: worlds with
other labels are not in this table. It is too high if the detector is confident on things that are not
annotated in the real world.
"""
