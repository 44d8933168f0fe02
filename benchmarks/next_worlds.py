"""Footage to choose from and footage to be judged on, for `make prove-next`, and the rules by which images are chosen.

Overhead recordings of unequal length, as people have them: a few long ones and many short ones, under four conditions. New recordings, all of one
length, say how well the detector does after it has learned from what was chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.rendered import detector
from datasets.groups import evenly
from datasets.source import open_source
from datasets.tables import Source
from datasets.world import DRONE, Clip, Dials, Plan
from diagnostics import acquisition
from diagnostics.domain import Domain
from diagnostics.matching import Floats, Ints
from diagnostics.shift import pooled_components
from reports.commands.demo import render
from reports.commands.probe import REPLAY
from reports.progress import Reporter
from train.environment import frames_folder

# Conditions under which recordings are made; each recording is of one of them.
CONDITIONS = (DRONE, replace(DRONE, light=4), replace(DRONE, soil=4), Dials(pitch=4, height=3, soil=2))
# Frames of the recordings in the pool: the longest holds a third of all images, as a rank-size rule has it.
LENGTHS = (80, 40, 27, 20, 16, 13, 11, 10, 9, 8, 7, 6, 6, 5, 5, 5)
TEST_CLIPS, TEST_FRAMES = 24, 5
TARGET_OF_POOL = 12
# Boxes less sure than this are the tail that any image has.
SURE_ENOUGH = 0.05


@dataclass(frozen=True)
class Recordings(Plan):
    """A plan whose clips differ. recordings: (split, dials, frames) of each."""

    recordings: tuple[tuple[str, Dials, int], ...] = ()

    def clips(self) -> list[tuple[str, str, Clip]]:
        """(split, name, clip) in order."""
        return [
            (
                split,
                f"{self.prefix}{number:03d}",
                Clip((self.seed, number), dials, frames, self.width, self.height),
            )
            for number, (split, dials, frames) in enumerate(self.recordings)
        ]


@dataclass(frozen=True)
class Case:
    """What is chosen from, and what chooses. replay: training images that stay. target: unlabelled footage of the kind that judges, None where the pool is
    that. seed: of everything random in it.
    """

    name: str
    weights: Path
    imgsz: int
    replay: Source
    pool: Source
    test: Source
    target: Source | None
    seed: int


def footage(seed: int, *, mixed: bool) -> Recordings:
    """The pool as split "train", what judges as "val", unlabelled footage as "test". mixed: every other recording of the pool is from a car, on average."""
    rng = np.random.default_rng(seed)
    above = [CONDITIONS[int(rng.integers(len(CONDITIONS)))] for _ in LENGTHS]
    from_car = rng.random(len(LENGTHS)) < 0.5
    pool = [
        ("train", replace(dials, pitch=0, height=0) if mixed and car else dials, frames)
        for dials, car, frames in zip(above, from_car, LENGTHS, strict=True)
    ]
    test = [("val", CONDITIONS[number % len(CONDITIONS)], TEST_FRAMES) for number in range(TEST_CLIPS)]
    target = [("test", CONDITIONS[number % len(CONDITIONS)], TEST_FRAMES) for number in range(TARGET_OF_POOL)]
    splits = {"train": (len(pool), 0), "val": (len(test), TEST_FRAMES), "test": (len(target), TEST_FRAMES)}
    return Recordings(DRONE, splits, seed=seed, prefix="r", recordings=(*pool, *test, *target))


def rendered_case(detectors: int, number: int, reporter: Reporter, *, mixed: bool) -> Case:
    """One world. mixed: see `footage`; without it the pool is the footage. detectors: the seed that the detectors of `benchmarks.rendered` come from; they take turns."""
    which = ("good", "second", "third")[number % 3]
    run, in_domain = detector(which, detectors, reporter)
    seed = detectors + 1000 + number
    cache = frames_folder()
    source = open_source(str(render("prove-next", footage(seed, mixed=mixed), reporter)), cache=cache)
    training = open_source(str(in_domain), cache=cache)
    training = training.keep(training.images["split"] == "train")
    some = evenly(training.images, REPLAY)["image"]
    return Case(
        f"{'mixed' if mixed else 'footage'}-{seed}",
        run / "weights" / "best.pt",
        256,
        training.keep(training.images["image"].isin(some)),
        source.keep(source.images["split"] == "train"),
        source.keep(source.images["split"] == "val"),
        source.keep(source.images["split"] == "test") if mixed else None,
        seed,
    )


# Candidate sets for one target, by dials: the same footage, labelled or by another rule; half-way there; more of what there is; and what has nothing to do with
# it (a lens so blurred in the dark that a road is a smear).
CANDIDATES: dict[str, Dials] = {
    "same footage": DRONE,
    "same footage, other labels": replace(DRONE, label_convention=3),
    "half-way": Dials(pitch=3, height=2),
    "more of the same": Dials(),
    "irrelevant": Dials(light=5, blur=5),
}
TARGET_CLIPS = (12, 6)
# Datasets differ in size for reasons that have nothing to do with what they show: each has one of these numbers of clips, drawn anew in every world.
CANDIDATE_CLIPS, CANDIDATE_FRAMES = (10, 14, 20, 28), 6


def candidate_folders(seed: int, reporter: Reporter) -> tuple[str, dict[str, str]]:
    """Unlabelled footage, and candidate sets by name; every one with roads of its own."""
    target = render("prove-target", Plan(DRONE, {"val": TARGET_CLIPS}, seed=seed, prefix="t"), reporter)
    clips = np.random.default_rng(seed).choice(CANDIDATE_CLIPS, len(CANDIDATES))
    folders = {
        name: str(
            render(
                f"prove-candidate-{number}",
                Plan(
                    dials,
                    {"train": (int(clips[number]), CANDIDATE_FRAMES)},
                    seed=seed + 1 + number,
                    prefix="c",
                ),
                reporter,
            )
        )
        for number, (name, dials) in enumerate(CANDIDATES.items())
    }
    return str(target), folders


def photographs(run: Path, training: str, pool: str, number: int) -> Case:
    """Real images: a run, its training data, and a dataset whose "train" is chosen from and whose "val" judges."""
    cache = frames_folder()
    real_world, in_domain = open_source(pool, cache=cache), open_source(training, cache=cache)
    in_domain = in_domain.keep(in_domain.images["split"] == "train")
    some = evenly(in_domain.images, REPLAY)["image"]
    return Case(
        f"photographs-{number}",
        run / "weights" / "best.pt",
        320,
        in_domain.keep(in_domain.images["image"].isin(some)),
        real_world.keep(real_world.images["split"] == "train"),
        real_world.keep(real_world.images["split"] == "val"),
        None,
        number,
    )


# Pool, training images and unlabelled footage (None: the pool is that) as the detector saw them, and a seed -> every pool image, first choice first.
Rule = Callable[[Domain, Domain, Domain | None, int], Ints]


def at_random(pool: Domain, training: Domain, target: Domain | None, seed: int) -> Ints:
    """Any image as likely as any other."""
    return np.random.default_rng(seed).permutation(len(pool.images))


def by_clip(pool: Domain, training: Domain, target: Domain | None, seed: int) -> Ints:
    """Recordings in turn, a random image of each."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pool.images))
    groups = pool.images["group"].iloc[order]
    turn = groups.groupby(groups).cumcount().to_numpy()
    clips = {name: place for place, name in enumerate(rng.permutation(groups.unique()))}
    return order[np.lexsort((groups.map(clips).to_numpy(), turn))]


def k_center(pool: Domain, training: Domain, target: Domain | None, seed: int) -> Ints:
    """The image furthest from all that is in training or was chosen (core-set, Sener and Savarese 2018)."""
    have, points = pooled_components(training.image_embeddings, pool.image_embeddings)
    distance = np.sqrt(((points[:, None] - have[None]) ** 2).sum(-1)).min(1)
    order = []
    for _ in range(len(points)):
        index = int(distance.argmax())
        order.append(index)
        distance = np.minimum(distance, np.sqrt(((points - points[index]) ** 2).sum(-1)))
        distance[order] = -1
    return np.array(order)


def unsure(domain: Domain) -> Floats:
    """Mean binary entropy of each image's boxes, (n,); nan where no box reaches SURE_ENOUGH."""
    boxes = domain.detections[domain.detections["confidence"] >= SURE_ENOUGH]
    p = np.clip(boxes["confidence"].to_numpy(float), 1e-6, 1 - 1e-6)
    mean = boxes.assign(unsure=-p * np.log(p) - (1 - p) * np.log(1 - p)).groupby("image")["unsure"].mean()
    return mean.reindex(domain.images["image"]).to_numpy(float)


def entropy(pool: Domain, training: Domain, target: Domain | None, seed: int) -> Ints:
    """The image whose boxes are least sure on average."""
    score = np.nan_to_num(unsure(pool))
    return np.lexsort((np.random.default_rng(seed).permutation(len(score)), -score))


def where_unsure(pool: Domain, training: Domain, target: Domain | None, seed: int) -> Ints:
    """`ours`, with footage counting the more, the less sure the detector is of it; where it sees nothing, as much as on average."""
    wanted = pool if target is None else target
    score = unsure(wanted)
    usual = np.nanmean(score) if np.isfinite(score).any() else 1.0
    groups, points = wanted.images["group"].to_numpy(str), wanted.image_embeddings
    weights = acquisition.clip_weights(groups) * np.where(np.isfinite(score), score, usual)
    others, offered = pooled_components(
        np.concatenate([training.image_embeddings, points]), pool.image_embeddings
    )
    have, goal = np.split(others, [len(training.image_embeddings)])
    alike = acquisition.same_view(pool.images["fingerprint"].tolist(), pool.images["group"].to_numpy(str))
    picks = acquisition.herd(goal, weights / weights.sum(), have, offered, len(offered), alike=alike)
    return with_the_rest([index for index, _ in picks], len(offered))


def with_the_rest(chosen: Sequence[int], size: int) -> Ints:
    """The chosen ones, then all others."""
    first = np.array(chosen, int)
    return np.concatenate([first, np.setdiff1d(np.arange(size), first)])


def ours(pool: Domain, training: Domain, target: Domain | None, seed: int) -> Ints:
    """`shiftscope next`, with nothing set aside because what judges is other footage; images it passes over come last."""
    images = pool.images.reset_index(drop=True).assign(domain=pool.name, novelty=np.nan, shown=0)
    table = acquisition.rank(
        images,
        pool.image_embeddings,
        training.image_embeddings,
        np.ones(len(images), bool),
        target=None if target is None else acquisition.footage([target]),
        budget=len(images),
        seed=seed,
    )
    chosen = [int(images.index[images["image"] == image][0]) for image in table["image"]]
    return with_the_rest(chosen, len(images))


RULES: dict[str, Rule] = {
    "ours": ours,
    "random": at_random,
    "random by clip": by_clip,
    "k-center": k_center,
    "entropy": entropy,
}
# What is compared where a detector has learned from some of the footage already.
SECOND_RULES: dict[str, Rule] = {
    "ours": ours,
    "ours, where it is unsure": where_unsure,
    "random by clip": by_clip,
    "entropy": entropy,
}
