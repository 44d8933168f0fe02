"""What retrainings say about the advice on what to add next: the statistics, docs/next.md and its figure, from the tables of `benchmarks.prove_next`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import t as student

from benchmarks.next_worlds import RULES, SECOND_RULES
from diagnostics.forecast import forecast
from diagnostics.intervals import wilson
from diagnostics.matching import Floats
from diagnostics.wording import fraction
from reports.page import figures

REPLICATES = 2000
# The other rules do not look at the footage: nothing in them could find it in a pool.
MIXED_RULES = ["ours", "random", "random by clip"]
# Images of each of two rounds.
ROUND = 8
# First words of cases, and what stands over their panel.
KINDS = {
    "footage": "the pool is the footage",
    "mixed": "footage is to be found in the pool",
    "photographs": "photographs",
}


def curve(results: pd.DataFrame, case: str, rule: str) -> tuple[Floats, Floats]:
    """Boxes (log2 of 1 + n) and AP50 of a rule in a case, from nothing chosen on."""
    mine = results[(results["case"] == case) & results["rule"].isin(["start", rule])].sort_values("boxes")
    return np.log2(1 + mine["boxes"].to_numpy(float)), mine["ap50"].to_numpy(float)


def area(results: pd.DataFrame, case: str, rule: str, low: float, high: float) -> float:
    """Mean AP50 over log boxes between two numbers of boxes that every rule of the case reached."""
    x, y = curve(results, case, rule)
    grid = np.linspace(np.log2(1 + low), np.log2(1 + high), 50)
    return float(np.interp(grid, x, y).mean())


def reached(x: Floats, y: Floats, goal: float) -> float:
    """Log boxes at which a curve first stands as high as a goal; where it never does, at which it would if it went on as its last doubling did."""
    best = np.maximum.accumulate(y)
    if best[-1] >= goal:
        at = int(np.argmax(best >= goal))
        if at == 0:
            return float(x[0])
        return float(x[at - 1] + (goal - best[at - 1]) / (best[at] - best[at - 1]) * (x[at] - x[at - 1]))
    slope = max((best[-1] - best[-2]) / max(x[-1] - x[-2], 1e-9), 1e-6)
    return float(x[-1] + (goal - best[-1]) / slope)


def efficiency(results: pd.DataFrame, case: str, rule: str) -> float:
    """How many times as many boxes random choice needs to stand where it ends; at most 4 times, at least a quarter."""
    chance = curve(results, case, "random")
    goal = float(chance[1][-1])
    return float(
        np.clip(2 ** (reached(*chance, goal) - reached(*curve(results, case, rule), goal)), 0.25, 4.0)
    )


def summary(results: pd.DataFrame, rules: Sequence[str]) -> pd.DataFrame:
    """One row a rule: mean area and label efficiency with 95 % intervals over cases (drawn anew), and how often it beats random."""
    rng = np.random.default_rng(0)
    cases = sorted(results["case"].unique())
    picked = results[results["rule"] != "start"]
    ends = picked.groupby(["case", "rule"])["boxes"].agg(["min", "max"])
    rows = []
    areas = {
        (case, rule): area(results, case, rule, ends.loc[case]["min"].max(), ends.loc[case]["max"].min())
        for case in cases
        for rule in {*rules, "random"}
    }
    for rule in rules:
        gained = np.array([areas[case, rule] - areas[case, "random"] for case in cases])
        times = np.log([efficiency(results, case, rule) for case in cases])
        draws = rng.integers(0, len(cases), (REPLICATES, len(cases)))
        low, high = np.quantile(gained[draws].mean(1), [0.025, 0.975])
        few, many = np.exp(np.quantile(times[draws].mean(1), [0.025, 0.975]))
        rows.append(
            {
                "rule": rule,
                "area": float(np.mean([areas[case, rule] for case in cases])),
                "gained": float(gained.mean()),
                "gained_low": float(low),
                "gained_high": float(high),
                "times": float(np.exp(times.mean())),
                "times_low": float(few),
                "times_high": float(many),
                "wins": int((gained > 0).sum()),
                "cases": len(cases),
            }
        )
    return pd.DataFrame(rows)


def forecasts(results: pd.DataFrame, rules: Sequence[str]) -> pd.DataFrame:
    """case, rule, needed, middle, note: the last size's score as the goal, and how many boxes the sizes before it say that takes.

    Curves whose last size is no better than an earlier one are left out: their goal stood there already.
    """
    rows = []
    for case in sorted(results["case"].unique()):
        for rule in rules:
            mine = results[(results["case"] == case) & (results["rule"] == rule)].sort_values("images")
            *before, last = mine.itertuples()
            goal = float(last.ap50)
            if goal <= max(float(row.ap50) for row in before):
                continue
            found = forecast(
                np.array([row.boxes for row in before], float), np.array([row.ap50 for row in before]), goal
            )
            rows.append(
                {
                    "case": case,
                    "rule": rule,
                    "needed": int(last.boxes),
                    "middle": found.middle,
                    "note": found.note,
                }
            )
    return pd.DataFrame(rows, columns=["case", "rule", "needed", "middle", "note"])


def interval(values: pd.Series) -> tuple[float, float]:
    """Mean of a few cases (n,), and the half-width of its 95 % interval by Student's t; nan for a single one."""
    return float(values.mean()), float(student.ppf(0.975, max(len(values) - 1, 1)) * values.sem())


@figures.themed
def curves_figure(results: pd.DataFrame) -> Figure:
    """AP50 by boxes chosen for every rule, with 95 % intervals over cases, a panel for each kind of pool."""
    kinds = [(kind, words) for kind, words in KINDS.items() if results["case"].str.startswith(kind).any()]
    figure, panels = plt.subplots(1, len(kinds), figsize=(3.6 * len(kinds), 3.4), squeeze=False)
    rules = dict(zip(RULES, (figures.IN_DOMAIN, figures.TRAINING, *figures.REAL_WORLD), strict=False))
    for axes, (kind, words) in zip(panels[0], kinds, strict=True):
        mine = results[results["case"].str.startswith(kind)]
        for rule, colour in rules.items():
            part = mine[mine["rule"] == rule].groupby("images")
            if not part.ngroups:
                continue
            middle, half = np.array([interval(scores) for _, scores in part["ap50"]]).T
            boxes = part["boxes"].mean()
            axes.plot(boxes, middle, "o-", color=colour, markersize=3.5, linewidth=1.6, label=rule)
            axes.fill_between(boxes, middle - half, middle + half, color=colour, alpha=0.1, linewidth=0)
        start = float(mine.loc[mine["rule"] == "start", "ap50"].mean())
        axes.axhline(start, color=figures.INK, linewidth=0.9, linestyle=":", label="none chosen")
        axes.set(xscale="log", xlabel="boxes in the chosen images", title=words)
        axes.set_ylim(0, None)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter(figures.minor_numbers)
    panels[0, 0].set_ylabel("AP50 on footage never seen")
    panels[0, 0].legend(fontsize=8, loc="upper left")
    figure.tight_layout()
    return figure


def table_of(results: pd.DataFrame, rules: Sequence[str]) -> str:
    """The summary as Markdown."""
    rows = [
        f"| {r.rule} | {r.area:.3f} | {100 * r.gained:+.1f} ({100 * r.gained_low:+.1f} to {100 * r.gained_high:+.1f}) | {r.times:.2f} ({r.times_low:.2f} to {r.times_high:.2f}) "
        f"| {r.wins} of {r.cases} |"
        for r in summary(results, rules).itertuples()
    ]
    return "\n".join(
        [
            "| rule | mean AP50 | points above random | boxes random needs for the same | above random |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def verdict(results: pd.DataFrame) -> str:
    """What the table says about our rule, in one sentence."""
    mine = next(r for r in summary(results, ["ours"]).itertuples())
    worth = f"{mine.times:.1f} times the labels ({mine.times_low:.1f} to {mine.times_high:.1f})"
    if mine.times_low > 1:
        return f"Choosing by `shiftscope next` is worth **{worth}** that random choice takes."
    if mine.times_high < 1:
        return f"Choosing by `shiftscope next` does **harm** here: random choice is worth more, {worth}."
    return f"Choosing by `shiftscope next` is **no better than random** here, as far as {mine.cases} tries can tell: worth {worth}."


def tried(results: pd.DataFrame, rules: Sequence[str]) -> str:
    """Which rules beat random choice with an interval above 1, in a sentence or two."""
    found = summary(results, rules).set_index("rule")
    better = [rule for rule in rules if rule != "random" and found.loc[rule, "times_low"] > 1]
    others = [rule for rule in rules if rule != "random" and rule not in better]
    words = f"Tried: {', '.join(rule for rule in rules if rule != 'random')}. "
    if not better:
        return words + "None of them is worth more labels than random choice with an interval above 1."
    said = words + f"With an interval above 1: {', '.join(better)}"
    return said + (f"; not so: {', '.join(others)}." if others else ".")


def curves_of(results: pd.DataFrame, rules: Sequence[str]) -> str:
    """Mean boxes and AP50 by images chosen, with a 95 % interval over cases, as Markdown."""
    start = results.loc[results["rule"] == "start", "ap50"]
    chosen = results[results["rule"] != "start"]
    budgets = sorted(chosen["images"].unique())
    head = "| rule | none | " + " | ".join(f"{b} images" for b in budgets) + " |"
    rows = []
    for rule in rules:
        cells = [of_cases(start)]
        for budget in budgets:
            mine = chosen[(chosen["rule"] == rule) & (chosen["images"] == budget)]
            cells.append(f"{of_cases(mine['ap50'])}, {mine['boxes'].mean():.0f} boxes")
        rows.append(f"| {rule} | {' | '.join(cells)} |")
    return "\n".join([head, "|---" * (len(budgets) + 2) + "|", *rows])


def of_cases(values: pd.Series) -> str:
    """The mean of a few cases with its 95 % t-interval, as far as scores go."""
    mean, half = interval(values)
    if np.isnan(half):
        return f"{mean:.3f}"
    return f"{mean:.3f} ({max(mean - half, 0):.3f} to {min(mean + half, 1):.3f})"


def share(true_positives: int, total: int) -> str:
    """A share with its Wilson interval."""
    low, high = wilson(true_positives, total)
    return f"{true_positives} of {total} ({low:.2f} to {high:.2f})"


def candidates_part(offers: pd.DataFrame) -> str:
    """The part about datasets."""
    places = pd.crosstab(offers["name"], offers["rank"])
    names = offers.groupby("name")["rank"].mean().sort_values().index
    ranks = sorted(offers["rank"].unique())
    lines = [
        f"| {name} | "
        + " | ".join(str(places.loc[name].get(rank, 0) or "") for rank in ranks)
        + "".join(
            f" | {offers.loc[offers['name'] == name, column].median():.2f}"
            for column in ("covers", "drawn", "agrees", "probed")
        )
        + " |"
        for name in names
    ]
    total = offers["world"].nunique()
    same = offers[offers["name"] == "same footage"]
    useless = offers[offers["name"] == "irrelevant"]
    flagged = offers.groupby("name")["noticed"].sum()
    return CANDIDATES_TEXT.format(
        total=total,
        right=share(int((same["rank"] == 1).sum()), total),
        probed_right=share(int((same["probed_rank"] == 1).sum()), total),
        beside=int((useless["rank"] <= 2).sum()),
        sized_right=expected_share(offers, "same footage", 1),
        sized_beside=expected_share(offers, "irrelevant", 2),
        random_right=fraction(1 / len(names)),
        random_beside=fraction(2 / len(names)),
        probed_beside=int((useless["probed_rank"] <= 2).sum()),
        flagged=share(int(flagged["same footage, other labels"]), total),
        falsely=share(int(flagged.drop("same footage, other labels").sum()), total * (len(flagged) - 1)),
        head="| dataset | "
        + " | ".join(f"place {rank}" for rank in ranks)
        + " | covers | boxes drawn | AP50 by its labels | AP50 on footage after a short training |",
        line="|---" * (len(ranks) + 5) + "|",
        rows="\n".join(lines),
    )


def expected_share(offers: pd.DataFrame, name: str, places: int) -> str:
    """The share of worlds in which a set stands among the first so many by size, where sets of one size stand in any order."""
    there = []
    for _, world in offers.groupby("world"):
        mine = world.loc[world["name"] == name, "by_size"].item()
        same = int((world["by_size"] == mine).sum())
        there.append(np.clip((places - (mine - 1)) / same, 0, 1))
    return fraction(float(np.mean(there)))


def forecast_part(results: pd.DataFrame) -> str:
    """The part about how many labels."""
    found = forecasts(results, list(RULES))
    promised = found[found["middle"].notna()]
    off = np.abs(np.log2(promised["middle"].to_numpy(float) / promised["needed"].to_numpy(float)))
    return FORECAST_TEXT.format(
        curves=len(found),
        promised=len(promised),
        within=share(int((off <= 1).sum()), len(promised)) if len(promised) else "none",
        refused=int(found["middle"].isna().sum()),
    )


def rounds_part(later: pd.DataFrame) -> str:
    """The part about being unsure, and about a second round."""
    lines = []
    for number, mine in later.groupby("round"):
        scores = mine.pivot_table(index="case", columns="rule", values="ap50")
        for rule in [name for name in SECOND_RULES if name in scores]:
            beside = "" if rule == "ours" else points_of(scores[rule] - scores["ours"])
            boxes = mine.loc[mine["rule"] == rule, "boxes"].mean()
            lines.append(f"| {number} | {rule} | {boxes:.0f} | {of_cases(scores[rule])} | {beside} |")
    return ROUNDS_TEXT.format(total=later["case"].nunique(), images=ROUND, rows="\n".join(lines))


def points_of(differences: pd.Series) -> str:
    """The mean of a few differences of scores in points, with its 95 % t-interval."""
    mean, half = interval(100 * differences)
    if np.isnan(half):
        return f"{mean:+.1f}"
    return f"{mean:+.1f} ({mean - half:+.1f} to {mean + half:+.1f})"


def page(results: pd.DataFrame, offers: pd.DataFrame, later: pd.DataFrame) -> str:
    """docs/next.md."""
    photo = results["case"].str.startswith("photographs")
    mixed = results["case"].str.startswith("mixed")
    plain = results[~photo & ~mixed]
    text = TEXT.format(
        date=datetime.now(UTC).strftime("%d %B %Y"),
        worlds=plain["case"].nunique(),
        verdict=verdict(plain),
        mixed_verdict=verdict(results[mixed]),
        tried=tried(plain, list(RULES)),
        table=table_of(plain, list(RULES)),
        curves=curves_of(plain, list(RULES)),
        mixed_table=table_of(results[mixed], MIXED_RULES),
        mixed_curves=curves_of(results[mixed], MIXED_RULES),
    )
    if photo.any():
        text += PHOTOGRAPHS.format(
            seeds=results.loc[photo, "case"].nunique(),
            verdict=verdict(results[photo]),
            table=table_of(results[photo], list(RULES)),
            curves=curves_of(results[photo], list(RULES)),
        )
    return text + rounds_part(later) + candidates_part(offers) + forecast_part(plain)


TEXT = """# Whether the advice on what to add next is good

Written by `make prove-next` on {date}. A detector trained on dashcam images goes on learning from images that a rule has chosen out of a pool of 16
recordings (the longest of 80 images, the shortest of 5, four kinds of road and light), beside 48 of its old training images, for at least 60 steps of 16
images (up to 80 with the fewest). It is judged on 24 recordings from above that it has never seen. {worlds} worlds of either kind, none of which a rule was chosen with; in each, every rule starts
from the same detector and seed. Labels are counted in boxes. Intervals are 95 %, over worlds.

![AP50 by boxes chosen, for every rule, on each kind of pool](next.svg)

## A pool that is the footage itself

Every recording of the pool is from above, as what judges is. {verdict}

{table}

{tried}

Mean AP50 after so many images, and the boxes in them:

{curves}

## A pool in which the footage has to be found

Every other recording of the pool, on average, is from a car. The rules see 60 unlabelled images from above beside it, which are neither in the pool nor what judges.
{mixed_verdict}

{mixed_table}

{mixed_curves}
"""
PHOTOGRAPHS = """
## Photographs

The same with real images: a detector trained on images from the ground goes on learning from images taken from above, {seeds} seeds. {verdict}

{table}

{curves}
"""
ROUNDS_TEXT = """
## Where the detector is unsure, and a second round

{total} worlds in which the pool is the footage: {images} images, and from the detector that learned from those of `ours` on, {images} more. "Where it is unsure" lets images of the footage
count the more, the less sure the detector is of its boxes in them (mean binary entropy); "entropy" takes those images themselves.

| round | rule | boxes | AP50 | points above ours |
|---|---|---|---|---|
{rows}

`shiftscope next` does not look at how sure the detector is, in either round.
"""
CANDIDATES_TEXT = """
## Which dataset to add

{total} worlds: unlabelled footage from a drone, and five datasets on roads of their own: the same kind of footage; the same, with boxes drawn half as large again and
puddles labelled as potholes; from half-way up; more images from the car; and dark, smeared ones. Places are those without a training. The same footage stands first in
**{right}**; the smeared images stand among the first two in **{beside}** of {total}. By size alone (60 to 168 images, drawn at random; sets of
one size in any order) the same footage would stand first in a share of {sized_right} and the smeared images among the first two in {sized_beside}; in an order drawn at random, in {random_right} and
{random_beside}. Other labels are noticed in {flagged}, and seen where there are none in {falsely} datasets.

{head}
{line}
{rows}

Numbers beside the places are medians. With `--probe`, which tries every dataset with a short training and judges by 72 labelled images of the footage, the same footage stands first in
**{probed_right}** and the smeared images among the first two in **{probed_beside}**. What "covers" means, and which datasets' labels are held against each other, was settled on 36 other worlds; sets by
the same other rule speaking for each other was ruled out by simulation, after a first look at these ten.
"""
FORECAST_TEXT = """
## How many labels

Of every curve of the first table, the sizes but the last say how many boxes the last one's AP50 would take. Of {curves} curves that still rose at the end, {promised} were answered with a
range, whose middle is within a factor of two of the truth in **{within}**; {refused} were refused, because the curves that can be laid through so few trainings do not agree
whether the goal is ever reached. That such curves are let compete by how well they fit was decided after a first look at these trainings.
"""
