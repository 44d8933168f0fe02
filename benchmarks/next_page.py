"""docs/next.md and its figure: the statistics and the text of `make prove-next`.

Results are tables with a row per training: case (kind and seed of a world), rule ("start" before any choice),
images (number chosen), boxes (annotations in them) and ap50 (on the test recordings).
"""

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
# The other rules take no account of the footage, so they cannot find it in a mixed pool.
MIXED_RULES = ["ours", "random", "random by clip"]
# Images chosen in each of two rounds.
ROUND = 8
# Kinds of cases -> title of their panel.
KINDS = {
    "footage": "pool of the footage",
    "mixed": "pool with other recordings",
    "photographs": "real images",
}
# Rules -> their names on the page, where they differ.
TITLES = {
    "ours": "shiftscope next",
    "ours, where it is unsure": "shiftscope next, weighted by uncertainty",
}


def title(rule: str) -> str:
    """A rule's name on the page."""
    return TITLES.get(rule, rule)


def learning_curve(results: pd.DataFrame, case: str, rule: str) -> tuple[Floats, Floats]:
    """log2(1 + boxes) and AP50 of a rule in a case, beginning with nothing chosen."""
    rows = results[(results["case"] == case) & results["rule"].isin(["start", rule])].sort_values("boxes")
    return np.log2(1 + rows["boxes"].to_numpy(float)), rows["ap50"].to_numpy(float)


def mean_ap50(results: pd.DataFrame, case: str, rule: str, low: float, high: float) -> float:
    """Mean AP50 over log boxes between two numbers of boxes that every rule of the case reached."""
    x, y = learning_curve(results, case, rule)
    grid = np.linspace(np.log2(1 + low), np.log2(1 + high), 50)
    return float(np.interp(grid, x, y).mean())


def log_boxes_at(x: Floats, y: Floats, goal: float) -> float:
    """Log boxes at which a curve first reaches a goal; beyond its end, its last segment is extrapolated."""
    best = np.maximum.accumulate(y)
    if best[-1] >= goal:
        first = int(np.argmax(best >= goal))
        if first == 0:
            return float(x[0])
        share = (goal - best[first - 1]) / (best[first] - best[first - 1])
        return float(x[first - 1] + share * (x[first] - x[first - 1]))
    slope = max((best[-1] - best[-2]) / max(x[-1] - x[-2], 1e-9), 1e-6)
    return float(x[-1] + (goal - best[-1]) / slope)


def label_efficiency(results: pd.DataFrame, case: str, rule: str) -> float:
    """Boxes that random choice needs for its final AP50, over those that a rule needs; between 0.25 and 4."""
    chance = learning_curve(results, case, "random")
    goal = float(chance[1][-1])
    doublings = log_boxes_at(*chance, goal) - log_boxes_at(*learning_curve(results, case, rule), goal)
    return float(np.clip(2**doublings, 0.25, 4.0))


def summarise(results: pd.DataFrame, rules: Sequence[str]) -> pd.DataFrame:
    """Compare rules with random choice.

    Parameters
    ----------
    results
        A row per training, see the module.
    rules
        Keys of RULES.

    Returns
    -------
    DataFrame
        One row a rule: rule; ap50, mean over log boxes and cases; gain over random; efficiency, see
        `label_efficiency`; gain_low, gain_high, efficiency_low, efficiency_high, 95 % bootstrap intervals
        over cases; better, number of cases in which the rule beats random; cases.
    """
    rng = np.random.default_rng(0)
    cases = sorted(results["case"].unique())
    chosen = results[results["rule"] != "start"]
    ends = chosen.groupby(["case", "rule"])["boxes"].agg(["min", "max"])
    scores = {
        (case, rule): mean_ap50(results, case, rule, ends.loc[case]["min"].max(), ends.loc[case]["max"].min())
        for case in cases
        for rule in {*rules, "random"}
    }
    rows = []
    for rule in rules:
        gains = np.array([scores[case, rule] - scores[case, "random"] for case in cases])
        logs = np.log([label_efficiency(results, case, rule) for case in cases])
        draws = rng.integers(0, len(cases), (REPLICATES, len(cases)))
        gain_low, gain_high = np.quantile(gains[draws].mean(1), [0.025, 0.975])
        efficiency_low, efficiency_high = np.exp(np.quantile(logs[draws].mean(1), [0.025, 0.975]))
        rows.append(
            {
                "rule": rule,
                "ap50": float(np.mean([scores[case, rule] for case in cases])),
                "gain": float(gains.mean()),
                "gain_low": float(gain_low),
                "gain_high": float(gain_high),
                "efficiency": float(np.exp(logs.mean())),
                "efficiency_low": float(efficiency_low),
                "efficiency_high": float(efficiency_high),
                "better": int((gains > 0).sum()),
                "cases": len(cases),
            }
        )
    return pd.DataFrame(rows)


def forecast_last_sizes(results: pd.DataFrame, rules: Sequence[str]) -> pd.DataFrame:
    """Forecast the boxes needed for the AP50 at the last size from the sizes before it.

    Curves whose last size is no better than an earlier one are left out: they had reached that AP50 already.

    Parameters
    ----------
    results
        A row per training, see the module.
    rules
        Keys of RULES.

    Returns
    -------
    DataFrame
        case, rule, needed (boxes at the last size), middle (of the forecast range; NaN without one), note.
    """
    rows = []
    for case in sorted(results["case"].unique()):
        for rule in rules:
            curve = results[(results["case"] == case) & (results["rule"] == rule)].sort_values("images")
            *earlier, last = curve.itertuples()
            goal = float(last.ap50)
            if goal <= max(float(row.ap50) for row in earlier):
                continue
            sizes = np.array([row.boxes for row in earlier], float)
            needed = forecast(sizes, np.array([row.ap50 for row in earlier]), goal)
            rows.append(
                {
                    "case": case,
                    "rule": rule,
                    "needed": int(last.boxes),
                    "middle": needed.middle,
                    "note": needed.note,
                }
            )
    return pd.DataFrame(rows, columns=["case", "rule", "needed", "middle", "note"])


def t_interval(values: pd.Series) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval by Student's t; NaN half-width for a single value."""
    return float(values.mean()), float(student.ppf(0.975, max(len(values) - 1, 1)) * values.sem())


@figures.themed
def curves_figure(results: pd.DataFrame) -> Figure:
    """AP50 by boxes chosen for every rule, with 95 % intervals over cases; a panel for each kind of case."""
    kinds = [(kind, words) for kind, words in KINDS.items() if results["case"].str.startswith(kind).any()]
    figure, panels = plt.subplots(1, len(kinds), figsize=(3.6 * len(kinds), 3.4), squeeze=False)
    colours = dict(zip(RULES, (figures.IN_DOMAIN, figures.TRAINING, *figures.REAL_WORLD), strict=False))
    for axes, (kind, words) in zip(panels[0], kinds, strict=True):
        of_kind = results[results["case"].str.startswith(kind)]
        for rule, colour in colours.items():
            sizes = of_kind[of_kind["rule"] == rule].groupby("images")
            if not sizes.ngroups:
                continue
            middle, half = np.array([t_interval(scores) for _, scores in sizes["ap50"]]).T
            boxes = sizes["boxes"].mean()
            axes.plot(boxes, middle, "o-", color=colour, markersize=3.5, linewidth=1.6, label=title(rule))
            axes.fill_between(boxes, middle - half, middle + half, color=colour, alpha=0.1, linewidth=0)
        start = float(of_kind.loc[of_kind["rule"] == "start", "ap50"].mean())
        axes.axhline(start, color=figures.INK, linewidth=0.9, linestyle=":", label="none chosen")
        axes.set(xscale="log", xlabel="boxes in the chosen images", title=words)
        axes.set_ylim(0, None)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter(figures.minor_numbers)
    panels[0, 0].set_ylabel("AP50 on the test recordings")
    panels[0, 0].legend(fontsize=8, loc="upper left")
    figure.tight_layout()
    return figure


def summary_table(results: pd.DataFrame, rules: Sequence[str]) -> str:
    """`summarise` as Markdown."""
    rows = [
        f"| {title(r.rule)} | {r.ap50:.3f} "
        f"| {100 * r.gain:+.1f} [{100 * r.gain_low:+.1f}, {100 * r.gain_high:+.1f}] "
        f"| {r.efficiency:.2f} [{r.efficiency_low:.2f}, {r.efficiency_high:.2f}] "
        f"| {r.better} of {r.cases} |"
        for r in summarise(results, rules).itertuples()
    ]
    return "\n".join(
        [
            "| rule | mean AP50 | points above random | times the labels | better than random |",
            "|---|---|---|---|---|",
            *rows,
        ]
    )


def conclusion(results: pd.DataFrame) -> str:
    """Whether `shiftscope next` beats random choice, in one sentence."""
    row = next(r for r in summarise(results, ["ours"]).itertuples())
    worth = f"{row.efficiency:.1f} times the labels [{row.efficiency_low:.1f}, {row.efficiency_high:.1f}]"
    if row.efficiency_low > 1:
        return f"Choosing by `shiftscope next` is worth **{worth}** of random choice."
    if row.efficiency_high < 1:
        return f"Choosing by `shiftscope next` is **worse than random** here: worth {worth}."
    tries = f"in these {row.cases} tries"
    return f"Choosing by `shiftscope next` is **no better than random** {tries}: worth {worth}."


def rules_above_one(results: pd.DataFrame, rules: Sequence[str]) -> str:
    """Which rules beat random choice with an interval above 1, in a sentence or two."""
    low = summarise(results, rules).set_index("rule")["efficiency_low"]
    compared = [rule for rule in rules if rule != "random"]
    above = [title(rule) for rule in compared if low[rule] > 1]
    others = [title(rule) for rule in compared if low[rule] <= 1]
    text = f"Rules tried: {', '.join(title(rule) for rule in compared)}. "
    if not above:
        return text + "None is worth more labels than random choice with an interval above 1."
    text += f"Interval above 1: {', '.join(above)}"
    return text + (f"; not above 1: {', '.join(others)}." if others else ".")


def curves_table(results: pd.DataFrame, rules: Sequence[str]) -> str:
    """AP50 and boxes by number of images chosen, means over cases with 95 % intervals, as Markdown."""
    start = results.loc[results["rule"] == "start", "ap50"]
    chosen = results[results["rule"] != "start"]
    budgets = sorted(chosen["images"].unique())
    head = "| rule | none | " + " | ".join(f"{b} images" for b in budgets) + " |"
    rows = []
    for rule in rules:
        cells = [score_with_interval(start)]
        for budget in budgets:
            trainings = chosen[(chosen["rule"] == rule) & (chosen["images"] == budget)]
            cells.append(f"{score_with_interval(trainings['ap50'])}, {trainings['boxes'].mean():.0f} boxes")
        rows.append(f"| {title(rule)} | {' | '.join(cells)} |")
    return "\n".join([head, "|---" * (len(budgets) + 2) + "|", *rows])


def score_with_interval(values: pd.Series) -> str:
    """The mean of a few scores with its 95 % t-interval, within [0, 1]."""
    mean, half = t_interval(values)
    if np.isnan(half):
        return f"{mean:.3f}"
    return f"{mean:.3f} [{max(mean - half, 0):.3f}, {min(mean + half, 1):.3f}]"


def points_with_interval(differences: pd.Series) -> str:
    """The mean of a few differences of scores in points, with its 95 % t-interval."""
    mean, half = t_interval(100 * differences)
    if np.isnan(half):
        return f"{mean:+.1f}"
    return f"{mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}]"


def count_with_interval(count: int, total: int) -> str:
    """A count with the Wilson interval of its rate: "9 of 10 [0.60, 0.98]"."""
    low, high = wilson(count, total)
    return f"{count} of {total} [{low:.2f}, {high:.2f}]"


def rounds_section(rounds: pd.DataFrame) -> str:
    """The section on uncertainty and on a second round; rounds: case, round, rule, boxes, ap50."""
    lines = []
    for number, trainings in rounds.groupby("round"):
        scores = trainings.pivot_table(index="case", columns="rule", values="ap50")
        for rule in [name for name in SECOND_RULES if name in scores]:
            gain = "" if rule == "ours" else points_with_interval(scores[rule] - scores["ours"])
            boxes = trainings.loc[trainings["rule"] == rule, "boxes"].mean()
            lines.append(
                f"| {number} | {title(rule)} | {boxes:.0f} | {score_with_interval(scores[rule])} | {gain} |"
            )
    return ROUNDS_TEXT.format(total=rounds["case"].nunique(), images=ROUND, rows="\n".join(lines))


def candidates_section(candidates: pd.DataFrame) -> str:
    """The section on datasets; candidates: a row per dataset and world, see `prove_next.rank_candidates`."""
    names = candidates.groupby("name")["rank"].mean().sort_values().index
    ranks = sorted(candidates["rank"].unique())
    total = candidates["world"].nunique()
    same = candidates[candidates["name"] == "same footage"]
    irrelevant = candidates[candidates["name"] == "irrelevant"]
    flagged = candidates.groupby("name")["noticed"].sum()
    falsely = flagged.drop("same footage, other labels")
    return CANDIDATES_TEXT.format(
        total=total,
        right=count_with_interval(int((same["rank"] == 1).sum()), total),
        probed_right=count_with_interval(int((same["probed_rank"] == 1).sum()), total),
        wrong=int((irrelevant["rank"] <= 2).sum()),
        probed_wrong=int((irrelevant["probed_rank"] <= 2).sum()),
        sized_right=expected_share(candidates, "same footage", 1),
        sized_wrong=expected_share(candidates, "irrelevant", 2),
        random_right=fraction(1 / len(names)),
        random_wrong=fraction(2 / len(names)),
        flagged=count_with_interval(int(flagged["same footage, other labels"]), total),
        falsely=count_with_interval(int(falsely.sum()), total * len(falsely)),
        head="| dataset | "
        + " | ".join(f"rank {rank}" for rank in ranks)
        + " | covers | box size | AP50 on its labels | AP50 on footage after a short training |",
        line="|---" * (len(ranks) + 5) + "|",
        rows="\n".join(candidate_rows(candidates, names, ranks)),
    )


def candidate_rows(candidates: pd.DataFrame, names: Sequence[str], ranks: Sequence[int]) -> list[str]:
    """A table row per dataset: how often it has each rank, and medians over worlds."""
    counts = pd.crosstab(candidates["name"], candidates["rank"])
    rows = []
    for name in names:
        cells = [str(counts.loc[name].get(rank, 0) or "") for rank in ranks]
        worlds = candidates[candidates["name"] == name]
        cells += [f"{worlds[column].median():.2f}" for column in ("covers", "drawn", "agrees", "probed")]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def expected_share(candidates: pd.DataFrame, name: str, ranks: int) -> str:
    """Share of worlds in which a dataset is among the first so many by size; ties are in random order."""
    shares = []
    for _, world in candidates.groupby("world"):
        rank = world.loc[world["name"] == name, "by_size"].item()
        tied = int((world["by_size"] == rank).sum())
        shares.append(np.clip((ranks - (rank - 1)) / tied, 0, 1))
    return fraction(float(np.mean(shares)))


def forecast_section(results: pd.DataFrame) -> str:
    """The section on how many labels are needed."""
    forecasts = forecast_last_sizes(results, list(RULES))
    answered = forecasts[forecasts["middle"].notna()]
    off = np.abs(np.log2(answered["middle"].to_numpy(float) / answered["needed"].to_numpy(float)))
    return FORECAST_TEXT.format(
        curves=len(forecasts),
        answered=len(answered),
        within=count_with_interval(int((off <= 1).sum()), len(answered)) if len(answered) else "none",
        refused=int(forecasts["middle"].isna().sum()),
    )


def page(results: pd.DataFrame, candidates: pd.DataFrame, rounds: pd.DataFrame) -> str:
    """docs/next.md.

    Parameters
    ----------
    results
        A row per training, see the module.
    candidates
        A row per dataset and world, see `prove_next.rank_candidates`.
    rounds
        case, round, rule, boxes, ap50, see `prove_next.second_rounds`.

    Returns
    -------
    str
        Markdown.
    """
    is_real = results["case"].str.startswith("photographs")
    is_mixed = results["case"].str.startswith("mixed")
    footage, mixed, real = results[~is_real & ~is_mixed], results[is_mixed], results[is_real]
    text = TEXT.format(
        date=datetime.now(UTC).strftime("%d %B %Y"),
        worlds=footage["case"].nunique(),
        conclusion=conclusion(footage),
        table=summary_table(footage, list(RULES)),
        tried=rules_above_one(footage, list(RULES)),
        curves=curves_table(footage, list(RULES)),
        mixed_conclusion=conclusion(mixed),
        mixed_table=summary_table(mixed, MIXED_RULES),
        mixed_curves=curves_table(mixed, MIXED_RULES),
    )
    if len(real):
        text += REAL_TEXT.format(
            seeds=real["case"].nunique(),
            conclusion=conclusion(real),
            table=summary_table(real, list(RULES)),
            curves=curves_table(real, list(RULES)),
        )
    return text + rounds_section(rounds) + candidates_section(candidates) + forecast_section(footage)


TEXT = """# What the advice on new data is worth

Written by `make prove-next` on {date}. A detector trained on dashcam images continues training on images that
a rule has chosen from a pool of 16 recordings (80 images in the longest, 5 in the shortest, four kinds of
road and light), together with 48 of its old training images, for at least 60 steps of 16 images (up to 80
with the fewest images). It is evaluated on 24 overhead recordings that are neither in the pool nor in
training. {worlds} worlds of each kind, none of which was used to choose a rule; in each, every rule starts
from the same detector and seed. Labels are counted in boxes; "times the labels" is how many times as many
boxes random choice needs for the same AP50. Intervals are 95 %, over worlds.

![AP50 by boxes chosen, for every rule and kind of pool](next.svg)

## A pool of the footage itself

Every recording of the pool is overhead, as the test recordings are. {conclusion}

{table}

{tried}

Mean AP50 by number of images chosen, and the boxes in them:

{curves}

## A pool with other recordings

On average every other recording of the pool is from a car. The rules also receive 60 unlabelled overhead
images, which are neither in the pool nor in the test recordings. {mixed_conclusion}

{mixed_table}

{mixed_curves}
"""

REAL_TEXT = """
## Real images

The same with real images: a detector trained on images from the ground continues training on images from
above, {seeds} seeds. {conclusion}

{table}

{curves}
"""

ROUNDS_TEXT = """
## Weighting by uncertainty, and a second round

{total} worlds in which the pool is the footage: {images} images are chosen, then, with the detector trained
on those of `shiftscope next`, {images} more. "Weighted by uncertainty" gives an image of the footage more
weight the less certain the detector is of its boxes in it (mean binary entropy); "entropy" chooses the least
certain images.

| round | rule | boxes | AP50 | points above shiftscope next |
|---|---|---|---|---|
{rows}

`shiftscope next` does not use the detector's uncertainty, in either round.
"""

CANDIDATES_TEXT = """
## Which dataset to add

{total} worlds: unlabelled footage from a drone, and five datasets of other roads: the same kind of footage;
the same, with boxes half as large again and puddles labelled as potholes; a view halfway between car and
drone; more dashcam images; and dark, blurred images. Ranks are those without a short training. The same kind
of footage ranks first in **{right}**; the blurred images rank among the first two in **{wrong}** of {total}.
By size alone (60 to 168 images, drawn at random; datasets of one size in any order) the same kind of footage
would rank first in a share of {sized_right} and the blurred images among the first two in {sized_wrong}; in a
random order, in {random_right} and {random_wrong}. Other labels are reported in {flagged}, and reported
wrongly for {falsely} datasets.

{head}
{line}
{rows}

Numbers beside the ranks are medians; box size is relative to in-domain boxes. With `--probe`, which
gives every dataset a short training and ranks by AP50 on 72 labelled images of the footage, the same kind of
footage ranks first in **{probed_right}** and the blurred images among the first two in **{probed_wrong}**.
How "covers" is computed, and which datasets' labels are compared, was settled on 36 other worlds. That
datasets with the same deviating labels do not confirm each other was added, and tested by simulation, after a
first evaluation on these worlds.
"""

FORECAST_TEXT = """
## How many labels

For every curve of the first table, the number of boxes at the last size is forecast from the AP50 there and
the earlier sizes. Of {curves} curves that still rise at the end, {answered} get a range, whose middle is
within a factor of two of the truth in **{within}**; {refused} get none, because the curves that fit so few
trainings disagree on whether the goal is reached at all. To let such curves compete by their fit was decided
after a first evaluation on these trainings.
"""
