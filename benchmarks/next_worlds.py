"""The worlds of `make prove-next`, and the rules by which images are chosen.

A pool holds overhead recordings of unequal length, as is usual: a few long ones and many short ones, under
four conditions. The test recordings are others, all of one length.
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

# Conditions of recordings; each recording has one of them.
CONDITIONS = (DRONE, replace(DRONE, light=4), replace(DRONE, soil=4), Dials(pitch=4, height=3, soil=2))
# Frames of the recordings in the pool, by a rank-size rule: the longest has a third of all images.
LENGTHS = (80, 40, 27, 20, 16, 13, 11, 10, 9, 8, 7, 6, 6, 5, 5, 5)
# Detectors of `benchmarks.rendered`, which take turns.
TURNS = ("good", "second", "third")
TEST_CLIPS, TEST_FRAMES = 24, 5
TARGET_POOL_CLIPS = 12
# Every image has some detections below this confidence; they carry no information on uncertainty.
MIN_CONFIDENCE = 0.05


@dataclass(frozen=True)
class Recordings(Plan):
    """A plan whose clips differ.

    recordings: (split, dials, frames) of each clip
    """

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
    """What images are chosen from, and for which detector.

    name: kind of the case and its seed
    weights: checkpoint of the detector
    imgsz: its image size, pixels
    replay: old training images that stay in training
    pool: images to choose from
    test: the test recordings
    target: unlabelled footage of the kind of the test recordings; None if the pool is that
    seed: of everything random in the case
    """

    name: str
    weights: Path
    imgsz: int
    replay: Source
    pool: Source
    test: Source
    target: Source | None
    seed: int


def plan_footage(seed: int, *, mixed: bool) -> Recordings:
    """Plan the recordings of a rendered case.

    Parameters
    ----------
    seed
        Seed of the recordings.
    mixed
        Whether every other recording of the pool, on average, is from a car.

    Returns
    -------
    Recordings
        The pool is split "train", the test recordings "val", unlabelled footage "test".
    """
    rng = np.random.default_rng(seed)
    conditions = [CONDITIONS[int(rng.integers(len(CONDITIONS)))] for _ in LENGTHS]
    from_car = rng.random(len(LENGTHS)) < 0.5
    pool = [
        ("train", replace(dials, pitch=0, height=0) if mixed and car else dials, frames)
        for dials, car, frames in zip(conditions, from_car, LENGTHS, strict=True)
    ]
    test = [("val", CONDITIONS[number % len(CONDITIONS)], TEST_FRAMES) for number in range(TEST_CLIPS)]
    target = [
        ("test", CONDITIONS[number % len(CONDITIONS)], TEST_FRAMES) for number in range(TARGET_POOL_CLIPS)
    ]
    splits = {"train": (len(pool), 0), "val": (len(test), TEST_FRAMES), "test": (len(target), TEST_FRAMES)}
    return Recordings(DRONE, splits, seed=seed, prefix="r", recordings=(*pool, *test, *target))


def rendered_case(detectors: int, number: int, reporter: Reporter, *, mixed: bool) -> Case:
    """Render a case.

    Parameters
    ----------
    detectors
        Seed of the detectors of `benchmarks.rendered`, which take turns.
    number
        Number of the case, which determines its recordings and its detector.
    reporter
        Where progress goes.
    mixed
        See `plan_footage`; otherwise the pool is the footage.

    Returns
    -------
    Case
    """
    run, in_domain = detector(TURNS[number % len(TURNS)], detectors, reporter)
    seed = detectors + 1000 + number
    cache = frames_folder()
    source = open_source(str(render("prove-next", plan_footage(seed, mixed=mixed), reporter)), cache=cache)
    training = open_source(str(in_domain), cache=cache)
    training = training.keep(training.images["split"] == "train")
    replayed = evenly(training.images, REPLAY)["image"]
    return Case(
        f"{'mixed' if mixed else 'footage'}-{seed}",
        run / "weights" / "best.pt",
        256,
        training.keep(training.images["image"].isin(replayed)),
        source.keep(source.images["split"] == "train"),
        source.keep(source.images["split"] == "val"),
        source.keep(source.images["split"] == "test") if mixed else None,
        seed,
    )


# Candidate datasets for one target, by dials: the same kind of footage; the same with labels by another rule;
# a view halfway between car and drone; more dashcam images; and an irrelevant one, dark and blurred until a
# road is a smear.
CANDIDATES: dict[str, Dials] = {
    "same footage": DRONE,
    "same footage, other labels": replace(DRONE, label_convention=3),
    "half-way": Dials(pitch=3, height=2),
    "more of the same": Dials(),
    "irrelevant": Dials(light=5, blur=5),
}
TARGET_CLIPS = (12, 6)
# The size of a dataset is unrelated to its content: each has one of these numbers of clips, drawn for every
# world.
CANDIDATE_CLIPS, CANDIDATE_FRAMES = (10, 14, 20, 28), 6


def candidate_folders(seed: int, reporter: Reporter) -> tuple[str, dict[str, str]]:
    """Render unlabelled footage, and candidate datasets by name; each has its own roads."""
    target = render("prove-target", Plan(DRONE, {"val": TARGET_CLIPS}, seed=seed, prefix="t"), reporter)
    clips = np.random.default_rng(seed).choice(CANDIDATE_CLIPS, len(CANDIDATES))
    folders = {}
    for number, (name, dials) in enumerate(CANDIDATES.items()):
        split = {"train": (int(clips[number]), CANDIDATE_FRAMES)}
        plan = Plan(dials, split, seed=seed + 1 + number, prefix="c")
        folders[name] = str(render(f"prove-candidate-{number}", plan, reporter))
    return str(target), folders


def real_case(run: Path, training: str, pool: str, number: int) -> Case:
    """Real images: a run, its training data, and a dataset with a pool ("train") and test images ("val")."""
    cache = frames_folder()
    real_world, in_domain = open_source(pool, cache=cache), open_source(training, cache=cache)
    in_domain = in_domain.keep(in_domain.images["split"] == "train")
    replayed = evenly(in_domain.images, REPLAY)["image"]
    return Case(
        f"photographs-{number}",
        run / "weights" / "best.pt",
        320,
        in_domain.keep(in_domain.images["image"].isin(replayed)),
        real_world.keep(real_world.images["split"] == "train"),
        real_world.keep(real_world.images["split"] == "val"),
        None,
        number,
    )


# (pool, training images, unlabelled footage or None if the pool is that, seed) -> all images of the pool, as
# indices in the order in which they are chosen.
Rule = Callable[[Domain, Domain, Domain | None, int], Ints]


def choose_at_random(pool: Domain, training: Domain, target: Domain | None, seed: int) -> Ints:
    """Choose every image with the same probability."""
    return np.random.default_rng(seed).permutation(len(pool.images))


def choose_by_clip(pool: Domain, training: Domain, target: Domain | None, seed: int) -> Ints:
    """Choose from the recordings in turn, a random image of each."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pool.images))
    groups = pool.images["group"].iloc[order]
    turn = groups.groupby(groups).cumcount().to_numpy()
    clips = {name: number for number, name in enumerate(rng.permutation(groups.unique()))}
    return order[np.lexsort((groups.map(clips).to_numpy(), turn))]


def choose_k_center(pool: Domain, training: Domain, target: Domain | None, seed: int) -> Ints:
    """Choose the image furthest from training and from chosen images (core-set, Sener and Savarese 2018)."""
    learned, points = pooled_components(training.image_embeddings, pool.image_embeddings)
    distance = np.sqrt(((points[:, None] - learned[None]) ** 2).sum(-1)).min(1)
    order = []
    for _ in range(len(points)):
        index = int(distance.argmax())
        order.append(index)
        distance = np.minimum(distance, np.sqrt(((points - points[index]) ** 2).sum(-1)))
        distance[order] = -1
    return np.array(order)


def mean_entropy(domain: Domain) -> Floats:
    """Mean binary entropy of each image's detections, (n,); NaN without a detection of MIN_CONFIDENCE."""
    boxes = domain.detections[domain.detections["confidence"] >= MIN_CONFIDENCE]
    p = np.clip(boxes["confidence"].to_numpy(float), 1e-6, 1 - 1e-6)
    binary = boxes.assign(entropy=-p * np.log(p) - (1 - p) * np.log(1 - p))
    mean = binary.groupby("image")["entropy"].mean()
    return mean.reindex(domain.images["image"]).to_numpy(float)


def choose_by_entropy(pool: Domain, training: Domain, target: Domain | None, seed: int) -> Ints:
    """Choose the image whose detections are least certain on average."""
    score = np.nan_to_num(mean_entropy(pool))
    return np.lexsort((np.random.default_rng(seed).permutation(len(score)), -score))


def choose_next_by_uncertainty(pool: Domain, training: Domain, target: Domain | None, seed: int) -> Ints:
    """Choose by `shiftscope next`, with each image of the footage weighted by its mean entropy.

    An image without a detection has the mean weight.
    """
    footage = pool if target is None else target
    score = mean_entropy(footage)
    average = np.nanmean(score) if np.isfinite(score).any() else 1.0
    groups, points = footage.images["group"].to_numpy(str), footage.image_embeddings
    weights = acquisition.clip_weights(groups) * np.where(np.isfinite(score), score, average)
    others, offered = pooled_components(
        np.concatenate([training.image_embeddings, points]), pool.image_embeddings
    )
    learned, goal = np.split(others, [len(training.image_embeddings)])
    alike = acquisition.same_view(pool.images["fingerprint"].tolist(), pool.images["group"].to_numpy(str))
    coverage = acquisition.Coverage(goal, weights / weights.sum(), learned)
    picks = acquisition.select_by_coverage(coverage, offered, len(offered), is_same_view=alike)
    return followed_by_rest([index for index, _ in picks], len(offered))


def followed_by_rest(chosen: Sequence[int], size: int) -> Ints:
    """The chosen indices, then all others below size."""
    first = np.array(chosen, int)
    return np.concatenate([first, np.setdiff1d(np.arange(size), first)])


def choose_next(pool: Domain, training: Domain, target: Domain | None, seed: int) -> Ints:
    """Choose by `shiftscope next`; images that it leaves out come last.

    No clips are set aside for testing, because the test recordings are others.
    """
    images = pool.images.reset_index(drop=True).assign(domain=pool.name, novelty=np.nan, shown=0)
    table = acquisition.rank_images(
        acquisition.Pool(images, pool.image_embeddings, np.ones(len(images), bool)),
        training.image_embeddings,
        target=None if target is None else acquisition.embeddings_and_clips([target]),
        budget=len(images),
        seed=seed,
    )
    chosen = [int(images.index[images["image"] == image][0]) for image in table["image"]]
    return followed_by_rest(chosen, len(images))


RULES: dict[str, Rule] = {
    "ours": choose_next,
    "random": choose_at_random,
    "random by clip": choose_by_clip,
    "k-center": choose_k_center,
    "entropy": choose_by_entropy,
}
# Rules for a detector that is already trained on some of the footage.
SECOND_RULES: dict[str, Rule] = {
    "ours": choose_next,
    "ours, where it is unsure": choose_next_by_uncertainty,
    "random by clip": choose_by_clip,
    "entropy": choose_by_entropy,
}
