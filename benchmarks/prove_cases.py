"""The measurements of `make prove` on simulated worlds, one world a call, for worker processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.planted import World, build
from benchmarks.simulated import make_domain
from diagnostics import shift
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.few_labels import estimate_from_few_labels
from diagnostics.gather import gather
from diagnostics.hypotheses import Verdict, diagnose
from diagnostics.inputs import Experiments, Inputs, Interventions
from diagnostics.sweep import f1_at, sweep

FEW_CONFIDENCE = 0.3


@dataclass(frozen=True)
class Case:
    """The diagnosis of one world.

    plants: planted causes
    severity: of all of them
    primary: code of the named hypothesis; None for "cannot tell"
    ranked: codes of all hypotheses in the order of the verdict
    supported: codes of the supported ones
    """

    plants: tuple[str, ...]
    severity: int
    primary: str | None
    ranked: tuple[str, ...]
    supported: tuple[str, ...]


def verdict_of(world: World, seed: int) -> Verdict:
    """The verdict of a report on a world."""
    inputs = Inputs(
        world.in_domain,
        [world.real_world],
        world.training,
        world.history,
        Experiments(interventions={world.real_world.name: Interventions(world.recoveries)}),
        conf=None,
        seed=seed,
    )
    return diagnose(gather(inputs)[world.real_world.name])


def diagnose_world(job: tuple[tuple[str, ...], int, int]) -> Case:
    """Simulate a world (plants, severity, seed) and diagnose it."""
    plants, severity, seed = job
    verdict = verdict_of(build(plants, severity, seed), seed)
    supported = tuple(h.code for h in verdict.hypotheses if h.status == "supported")
    return Case(plants, severity, verdict.primary, tuple(h.code for h in verdict.hypotheses), supported)


def without_labels(world: World) -> World:
    """The real world is unlabelled."""
    images = world.real_world.images.assign(labelled=False)
    return replace(
        world,
        real_world=replace(world.real_world, images=images, annotations=world.real_world.annotations.head(0)),
    )


def without_embeddings(world: World) -> World:
    """Predictions of an external detector: no embeddings, no training images, no interventions."""

    def boxes_only(domain: Domain) -> Domain:
        return replace(
            domain,
            image_embeddings=np.zeros((len(domain.images), 0)),
            detection_embeddings=np.zeros((len(domain.detections), 0)),
        )

    return replace(
        world,
        in_domain=boxes_only(world.in_domain),
        real_world=boxes_only(world.real_world),
        training=None,
        recoveries={},
    )


def without_training(world: World) -> World:
    """No training images and no losses."""
    return replace(world, training=None, history=world.history[["epoch", "ap50"]])


def without_interventions(world: World) -> World:
    """No weights, hence no interventions."""
    return replace(world, recoveries={})


# What is withheld -> the planted cause, how, and the hypothesis that must not be named: that would be a
# guess.
WITHHELD: dict[str, tuple[str, Callable[[World], World], str]] = {
    "labels in the real world": ("viewpoint", without_labels, "domain_shift"),
    "labels in the real world (threshold)": ("threshold", without_labels, "threshold"),
    "embeddings": ("viewpoint", without_embeddings, "domain_shift"),
    "training images and losses": ("overfit", without_training, "overfit"),
    "training images": ("leakage", without_training, "leakage"),
    "interventions, at sizes that in-domain lacks": ("scale", without_interventions, "scale"),
}


def diagnose_withheld(job: tuple[str, int]) -> tuple[str, bool]:
    """(What is withheld, seed) -> (what is withheld, whether its cause is undecided and not named)."""
    name, seed = job
    plant, withhold, code = WITHHELD[name]
    verdict = verdict_of(withhold(build((plant,), 3, seed)), seed)
    undecided = verdict.named(code).status in ("inconclusive", "untested")
    return name, undecided and verdict.primary != code


def shift_of(job: tuple[float, int]) -> tuple[float, float, float, float]:
    """(Distance, seed) -> distance, and p, MMD and AUC of the image shift between two such domains."""
    distance, seed = job
    seeds = np.random.SeedSequence(seed).generate_state(2)
    in_domain = make_domain(clips=12, frames=6, seed=int(seeds[0]))
    real_world = make_domain(
        "real_world", clips=12, frames=6, seed=int(seeds[1]), clip_names="w", embedding_shift=distance
    )
    measured = shift.measure_shift(
        in_domain.image_embeddings,
        real_world.image_embeddings,
        in_domain.images["group"].to_numpy(str),
        real_world.images["group"].to_numpy(str),
        seed=seed,
    )
    p = measured.p if measured.p is not None else float("nan")
    return distance, p, measured.mmd or 0.0, measured.auc or 0.5


def few_labels_of(job: tuple[int, int]) -> tuple[int, bool, bool, float, float]:
    """Estimate AP50 and F1 of a domain from some labelled images.

    Parameters
    ----------
    job
        Number of labelled images, seed.

    Returns
    -------
    tuple
        That number; whether the intervals of AP50 and of F1 contain the value from all labels; the factor on
        the number of labels that the unlabelled images are worth; half-width of the interval of AP50.
    """
    count, seed = job
    seeds = np.random.SeedSequence(seed).generate_state(2)
    domain = make_domain(clips=20, frames=12, seed=int(seeds[0]), recall=0.6, size_matters=True)
    drawn = np.random.default_rng(int(seeds[1])).choice(len(domain.images), count, replace=False)
    labelled = np.isin(np.arange(len(domain.images)), drawn)
    is_labelled = domain.annotations["image"].isin(domain.images["image"][labelled])
    partly_labelled = replace(
        domain,
        images=domain.images.assign(labelled=labelled),
        annotations=domain.annotations[is_labelled].reset_index(drop=True),
    )
    estimates = estimate_from_few_labels(partly_labelled, FEW_CONFIDENCE)
    assert estimates is not None
    by_name = {measure.name: measure for measure in estimates.measures}
    ap, f1 = by_name["AP50"], by_name["F1"]
    true_f1 = f1_at(sweep(domain.table), FEW_CONFIDENCE)
    return (
        count,
        ap.low <= ap50(domain) <= ap.high,
        f1.low <= true_f1 <= f1.high,
        ap.worth,
        (ap.high - ap.low) / 2,
    )
