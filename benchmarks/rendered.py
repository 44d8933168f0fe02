"""The second half of `make prove`: real detectors, trained here, on rendered worlds with one dial changed.

Tiny YOLOs with the demo's recipe: one trained as usual, one for two epochs, one for far too long on a handful
of images. Each is diagnosed by the whole pipeline, interventions included, on worlds that differ from its own
in one dial. Two more, trained as usual on other roads, serve to measure the error of the estimated AP50. Runs
and results are stored, so a second call takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from datasets.source import open_source
from datasets.world import DASHCAM, DRONE, Dials, Plan
from diagnostics.evidence import HARMLESS_GAP
from diagnostics.findings import Findings
from diagnostics.label_free import Estimator
from diagnostics.wording import fraction, percent
from reports.commands.demo import render
from reports.options import ReportOptions
from reports.pipeline.run import run_report
from reports.progress import Reporter
from train.environment import frames_folder, runs_folder
from train.recipe import Recipe, is_finished, scratch_recipe
from train.training import TrainingCallbacks, train

# First seeds: of the worlds that the rules were written with, and of those that are reported.
DEVELOPMENT, REPORTED = 4711, 314159
# Twice the in-domain clips: with twelve, a drop of up to twenty points was not certain, and without a certain
# drop no cause is named.
CLIPS = {"val": (24, 8)}


@dataclass(frozen=True)
class RenderedWorld:
    """A world and what should be named for it.

    name: as it is in the table
    detector: name of the detector that is diagnosed on it
    dials: how it is rendered
    expected: codes of hypotheses of which one should be named first, if the change does any harm
    """

    name: str
    detector: str
    dials: Dials
    expected: tuple[str, ...]


# A change that costs the detector less than HARMLESS_GAP is no failure, and "none" is the right answer.
WORLDS = (
    RenderedWorld("the same road, other clips", "good", DASHCAM, ("none",)),
    RenderedWorld("darker (light 5)", "good", replace(DASHCAM, light=5), ("domain_shift",)),
    RenderedWorld("blurred (blur 5)", "good", replace(DASHCAM, blur=5), ("domain_shift",)),
    RenderedWorld("earth road (soil 5)", "good", replace(DASHCAM, soil=5), ("domain_shift",)),
    RenderedWorld("from a drone (pitch 5, height 4)", "good", DRONE, ("domain_shift",)),
    RenderedWorld(
        "from high above (pitch 5, height 5)", "good", Dials(pitch=5, height=5), ("domain_shift", "scale")
    ),
    RenderedWorld(
        "larger boxes (label convention 2)", "good", replace(DASHCAM, label_convention=2), ("label_protocol",)
    ),
    RenderedWorld(
        "careless labels (label noise 5)", "good", replace(DASHCAM, label_noise=5), ("label_error",)
    ),
    RenderedWorld("the same road, after 2 epochs", "early", DASHCAM, ("underfit",)),
    RenderedWorld("the same road, after 80 epochs on 18 images", "late", DASHCAM, ("overfit",)),
)


def plans(seed: int) -> dict[str, Plan]:
    """The in-domain data of each detector."""
    usual = Plan(DASHCAM, {"train": (28, 12), "val": (12, 8)}, seed=seed, prefix="drive")
    handful = Plan(DASHCAM, {"train": (3, 6), "val": (12, 8)}, seed=seed + 1, prefix="drive")
    others = {
        name: Plan(DASHCAM, {"train": (28, 12), "val": (12, 8)}, seed=seed + number, prefix="drive")
        for name, number in (("second", 2), ("third", 3))
    }
    return {"good": usual, "early": usual, "late": handful, **others}


def detector(name: str, seed: int, reporter: Reporter) -> tuple[Path, Path]:
    """Train a detector, or continue a training that was interrupted.

    Parameters
    ----------
    name
        A key of `plans`.
    seed
        Seed of the roads and of the training.
    reporter
        Where progress goes.

    Returns
    -------
    tuple of Path
        The run folder and the folder of in-domain data.
    """
    road = {"early": "dashcam", "good": "dashcam", "late": "handful"}.get(name, name)
    folder = render(f"prove-{road}", plans(seed)[name], reporter)
    recipe = scratch_recipe(seed)
    recipes: dict[str, Recipe] = {
        "good": recipe,
        "second": recipe,
        "third": recipe,
        "early": replace(recipe, epochs=2),
        # Small batches, so that eighteen images give as many steps as the usual training.
        "late": replace(recipe, epochs=80, batch=4, extra={**recipe.extra, "nbs": 4}),
    }
    run = runs_folder() / "train" / f"prove-{name}-{seed}"
    if not is_finished(run):
        source = open_source(str(folder), cache=frames_folder())
        with reporter.training(f"Training the detector '{name}'") as progress:
            train(source, run, recipes[name], TrainingCallbacks(*progress))
    return run, folder


def is_relabelled(dials: Dials) -> bool:
    """Whether labels follow another protocol or are careless, which the estimated AP50 cannot reflect."""
    return dials.label_convention > 0 or dials.label_noise > 0


@dataclass(frozen=True)
class Rendered:
    """Results on all worlds.

    lines: a table row per world
    right: number of worlds for which an expected cause is named
    estimates: detector, world, in_domain, truth, estimate, low, high (AP50) of each label-free estimate
    estimators: detector -> its estimator, of those that have one
    """

    lines: list[str]
    right: int
    estimates: pd.DataFrame
    estimators: dict[str, Estimator]


class LabelFreeResults:
    """Collects the label-free estimates of several reports.

    estimates: a row per estimate, see `Rendered`
    estimators: detector -> its estimator
    """

    def __init__(self) -> None:
        self.estimates: list[dict[str, object]] = []
        self.estimators: dict[str, Estimator] = {}

    def add(self, detector: str, findings: Findings, world: str | None = None) -> None:
        """Add a report's estimates; world: its one world, None if the domains have the names of theirs."""
        if findings.estimator is not None:
            self.estimators[detector] = findings.estimator
        for estimate in findings.evidence.label_free.values():
            self.estimates.append(
                {
                    "detector": detector,
                    "world": world or estimate.domain,
                    "in_domain": findings.evidence.in_domain_ap50,
                    "truth": estimate.truth,
                    "estimate": estimate.ap50,
                    "low": estimate.low,
                    "high": estimate.high,
                }
            )


def measure(seed: int, run: Path | None = None) -> Rendered:
    """Train, render and diagnose everything.

    Parameters
    ----------
    seed
        DEVELOPMENT or REPORTED.
    run
        A run on real images whose label-free estimates are measured too, on its own data.

    Returns
    -------
    Rendered
    """
    reporter, lines, right = Reporter(), [], 0
    results = LabelFreeResults()
    for number, world in enumerate(WORLDS):
        findings = run_report(report_options(world.detector, seed, [number], reporter), reporter).findings
        if not is_relabelled(world.dials):
            results.add(world.detector, findings, world.name)
        line, is_right = table_row(world, findings)
        lines.append(line)
        right += is_right
        reporter.say(line)
    unrelabelled = [
        number
        for number, world in enumerate(WORLDS)
        if world.detector == "good" and not is_relabelled(world.dials)
    ]
    for name in ("second", "third"):
        options = report_options(name, seed, unrelabelled, reporter)
        results.add(name, run_report(options, reporter).findings)
    if run is not None:
        results.add(run.name, run_report(ReportOptions(run=run, label_free=True, seed=0), reporter).findings)
    return Rendered(lines, right, pd.DataFrame(results.estimates), results.estimators)


def report_options(name: str, seed: int, numbers: list[int], reporter: Reporter) -> ReportOptions:
    """Options of a report on a detector and some worlds; trains and renders what is missing."""
    run, in_domain = detector(name, seed, reporter)
    real_world = [
        (
            WORLDS[number].name if len(numbers) > 1 else None,
            str(
                render(
                    f"prove-world-{number}",
                    Plan(WORLDS[number].dials, CLIPS, seed=seed + 100 + number, prefix="w"),
                    reporter,
                )
            ),
        )
        for number in numbers
    ]
    return ReportOptions(
        run=run,
        in_domain=("in_domain", str(in_domain)),
        real_world=tuple(real_world),
        label_free=True,
        seed=0,
    )


def table_row(world: RenderedWorld, findings: Findings) -> tuple[str, bool]:
    """The table row of a world, and whether an expected cause is named."""
    verdict, evidence = findings.verdict, findings.evidence
    harmless = evidence.gap is not None and evidence.gap <= HARMLESS_GAP and world.detector == "good"
    expected = ("none",) if harmless else world.expected
    named = verdict.primary or "cannot tell"
    first = next((h for h in verdict.hypotheses if h.code == verdict.primary), None)
    score = "" if first is None or first.score is None else f" ({percent(first.score)})"
    bold = "**" if named in expected else ""
    others = ", ".join(
        f"{h.code} {h.status}"
        for h in verdict.hypotheses
        if h.code != verdict.primary and h.status != "rejected"
    )
    line = (
        f"| {world.name} | {fraction(evidence.in_domain_ap50)} | {fraction(evidence.real_world_ap50)} "
        f"| {' or '.join(expected)} | {bold}{named}{score}{bold} | {others} |"
    )
    return line, named in expected
