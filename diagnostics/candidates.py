"""Which of several datasets to add: how much of the footage each would cover that training does not, and whether its labels mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from diagnostics import shift
from diagnostics.acquisition import (
    MAX_TARGET,
    MAX_TRAINING,
    clip_weights,
    footage,
    similarity,
    typical_distance,
)
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_GROUPS, draws
from diagnostics.label_free import SHOWN
from diagnostics.leakage import copied
from diagnostics.matching import Floats, Ints
from diagnostics.precision import Averager, mean_of_classes
from diagnostics.shift import pooled_components, thin
from diagnostics.wording import fraction, percent

# Every dataset is compared at one size, or the largest would win by its size: that of the smallest, within these.
FEWEST, MOST = 10, 100
# Random parts of that size, over which coverage is averaged.
DRAWS = 20
# Boxes drawn by this factor larger or smaller than in-domain overlap the in-domain by an IoU of 1 / 1.2 squared, 0.69: not yet a miss at 0.5, no longer a match at .75.
SAME_HAND = 1.2
MIN_PAIRS = 20
# A detector that is lost in a dataset overlaps its objects by chance, with boxes of any size: at least this share of its sure detections must lie on objects.
ON_ANNOTATIONS = 0.5
# Where there are no labels, or boxes drawn by another rule that have to be drawn anew, a set brings images only: it counts half.
WITHOUT_LABELS = 0.5
# Two sets that a shift test at this level cannot tell apart show the same.
ALIKE = 0.05
# On such sets a detector does differently by luck and by what their labels mean. Roads drawn anew by one rule changed AP50 by up to a third; half is beyond luck.
WORSE = 0.5
REPLICATES = 500
# AP50, and replicates of it.
Agreement = tuple[float, Floats | None]


@dataclass(frozen=True)
class Candidate:
    """One dataset. images, objects, groups: how large it is. covers: share of what the footage shows and training lacks that `compared` of its images
    would cover, with a 95 % interval (over the footage's clips and the draws).

    drawn: how many times as large its boxes are drawn around what the detector finds, against the in-domain, with a 95 % interval; None where too few were found.
    agrees: AP50 of the detector by its labels. twin: the set that looks the same and with whose labels the detector agrees at least twice as well; "" if there is none.
    by_view: another set that looks the same is drawn further off in the same direction, so the view draws it so, not another hand. probed: AP50 on probed_on labelled images of
    the footage after a short training with some of it, with a 95 % interval (`reports.commands.probe`). copies: images that are also among the held-out ones. rank: 1 is best.
    by_size: its place if the one with the most images were taken first; sets of one size share theirs. reason: why it stands where it stands.
    """

    name: str
    images: int
    annotations: int
    groups: int
    compared: int
    covers: float
    covers_low: float
    covers_high: float
    drawn: float | None = None
    drawn_low: float | None = None
    drawn_high: float | None = None
    copies: int = 0
    labelled: bool = True
    agrees: float | None = None
    twin: str = ""
    twin_agrees: float | None = None
    by_view: bool = False
    probed: float | None = None
    probed_low: float | None = None
    probed_high: float | None = None
    probed_on: int = 0
    rank: int = 0
    by_size: int = 0
    reason: str = ""

    @property
    def other_hand(self) -> bool:
        """Whether its boxes are drawn by another rule: the whole interval lies beyond SAME_HAND."""
        if self.drawn_low is None or self.drawn_high is None or self.by_view:
            return False
        return self.drawn_low > SAME_HAND or self.drawn_high < 1 / SAME_HAND

    @property
    def usable_labels(self) -> bool:
        """Whether it has labels, drawn by the rule used in-domain as far as is known."""
        return self.labelled and not self.other_hand and not self.twin


def sides(domain: Domain) -> tuple[Floats, Ints]:
    """Log of object side over detection side where a sure detection lies on an object, one an object, (n,), and the clip of each; none where most lie on no object."""
    sure = domain.outcomes[domain.outcomes["confidence"] >= SHOWN]
    near = sure[
        (sure["nearest_iou"] > 0.1)
        & (sure["partner"] >= 0)
        & sure["outcome"].isin(["true_positive", "location", "duplicate"])
    ]
    if len(near) < ON_ANNOTATIONS * len(sure):
        return np.zeros(0), np.zeros(0, np.int64)
    near = near.sort_values("confidence", ascending=False, kind="stable").drop_duplicates("partner")
    own = np.prod(domain.annotation_arrays.xywh[near["partner"].to_numpy(int), 2:], 1)
    seen = np.maximum(np.prod(domain.detection_arrays.xywh[near["row"].to_numpy(int), 2:], 1), 1e-9)
    return np.log(own / seen) / 2, domain.group_numbers[near["image"].to_numpy(int)]


def drawn(
    in_domain: Domain, candidate: Domain, rng: np.random.Generator
) -> tuple[float, float, float] | None:
    """How many times as large boxes are drawn as in-domain, around what the detector finds, and a 95 % interval by clips; None with fewer than MIN_PAIRS pairs."""
    medians, spreads = [], []
    for domain in (candidate, in_domain):
        if not domain.labelled.any():
            return None
        values, clips = sides(domain)
        names = np.unique(clips)
        if len(values) < MIN_PAIRS or len(names) < MIN_GROUPS:
            return None
        by_clip = [values[clips == name] for name in names]
        drawn_clips = rng.integers(0, len(names), (REPLICATES, len(names)))
        medians.append(float(np.median(values)))
        spreads.append(
            np.array([np.median(np.concatenate([by_clip[i] for i in row])) for row in drawn_clips])
        )
    low, high = np.quantile(spreads[0] - spreads[1], [0.025, 0.975])
    return float(np.exp(medians[0] - medians[1])), float(np.exp(low)), float(np.exp(high))


def copies(candidate: Domain, held_out: Sequence[bytes]) -> int:
    """Images of a candidate that are near-duplicates of held-out ones, by fingerprint."""
    return int(copied(candidate.images["fingerprint"].tolist(), held_out).sum())


def compare(
    candidates: Sequence[Domain],
    target: Sequence[Domain],
    training: Domain,
    in_domain: Domain,
    *,
    set_aside: Sequence[bytes] = (),
    seed: int,
) -> list[Candidate]:
    """Rank datasets by what they would add, best first. target: the footage, labelled or not. training: what is there already. home: held-out in-domain images.
    set_aside: fingerprints of footage that is to test.

    Datasets without labels, or whose boxes are drawn by another rule, count half (WITHOUT_LABELS). What "covers" means: see `_likeness`.
    """
    rng = np.random.default_rng(seed)
    held_out = [*in_domain.images["fingerprint"], *set_aside]
    groups = footage(target)[1]
    sample = np.sort(rng.permutation(len(groups))[:MAX_TARGET])
    kept = thin(rng, len(training.images), MAX_TRAINING)
    offered = [thin(rng, len(domain.images), DRAWS * MOST) for domain in candidates]
    have, *own = _likeness(target, sample, (training, *candidates), (kept, *offered))
    weights, clips = clip_weights(groups[sample]), np.unique(groups[sample], return_inverse=True)[1]
    covered = have.max(1, initial=0)
    size = int(np.clip(min(len(d.images) for d in candidates), FEWEST, MOST))
    found = []
    for domain, near in zip(candidates, own, strict=True):
        count = min(size, near.shape[1])
        gains = np.array(
            [
                np.maximum(near[:, chosen].max(1) - covered, 0)
                for chosen in (rng.permutation(near.shape[1])[:count] for _ in range(DRAWS))
            ]
        )
        share, low, high = _shares(gains, 1 - covered, weights, clips, rng)
        hand = drawn(in_domain, domain, rng)
        found.append(
            Candidate(
                domain.name,
                len(domain.images),
                len(domain.annotations),
                domain.images["group"].nunique(),
                count,
                share,
                low,
                high,
                copies=copies(domain, held_out),
                labelled=bool(domain.labelled.any()),
            )
        )
        if hand is not None:
            found[-1] = replace(found[-1], drawn=hand[0], drawn_low=hand[1], drawn_high=hand[2])
    return placed(_beside_each_other(found, candidates, rng, seed=seed))


def _likeness(
    target: Sequence[Domain], sample: Ints, others: Sequence[Domain], kept: Sequence[Ints]
) -> list[Floats]:
    """How alike sampled images of the footage (n,) are, between 0 and 1, to those that are kept of each other domain: (n, m) of each.

    The smaller of two: alike to the detector (its embeddings), and alike in light, colours and edges without a model (`datasets.pixels.descriptor`). Where the footage is so strange that the detector sees next
    to nothing in it, all else in which it sees nothing, smeared and dark images among it, is alike to the detector alone.
    """
    everything = (*target, *others)
    views = [[domain.image_embeddings for domain in everything]]
    without_a_model = [d for domain in everything if (d := domain.descriptors) is not None]
    if len(without_a_model) == len(everything):
        views.append(without_a_model)
    found: list[Floats] = []
    for view in views:
        wanted = np.concatenate(view[: len(target)])[sample]
        parts = [points[rows] for points, rows in zip(view[len(target) :], kept, strict=True)]
        reduced, points = pooled_components(np.concatenate(parts), wanted)
        bandwidth = typical_distance(points)
        near = [
            similarity(points, part, bandwidth)
            for part in np.split(reduced, np.cumsum([len(part) for part in parts])[:-1])
        ]
        found = [np.minimum(*pair) for pair in zip(found, near, strict=True)] if found else near
    return found


def placed(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates with rank, by_size and reason, best first: by what a short training gave where there was one, else by what they cover."""

    def key(c: Candidate) -> tuple[float, float, str]:
        covers = c.covers * (1.0 if c.usable_labels else WITHOUT_LABELS)
        return -(c.probed if c.probed is not None else -1.0), -covers, c.name

    sizes = {c.name: 1 + sum(other.images > c.images for other in candidates) for c in candidates}
    return [
        replace(c, rank=place, by_size=sizes[c.name], reason=reason(c))
        for place, c in enumerate(sorted(candidates, key=key), 1)
    ]


def _beside_each_other(
    found: Sequence[Candidate], domains: Sequence[Domain], rng: np.random.Generator, *, seed: int
) -> list[Candidate]:
    """Candidates with agrees, twin and by_view: sets that look the same, held against each other.

    What a strange view does to the detector it does to all sets that show it, so that their labels can be compared where the in-domain are too far away to.
    """
    scored = {
        domain.name: _agreement(domain, rng)
        for domain in domains
        if domain.labelled.any() and len(domain.annotations)
    }
    after = {c.name: replace(c, agrees=scored[c.name][0]) if c.name in scored else c for c in found}
    shown = {domain.name: footage([domain]) for domain in domains if domain.name in scored}
    for worse in scored:
        better = [name for name in scored if _outdoes(scored[name], scored[worse])]
        if not better:
            continue
        # A set that is outdone itself speaks for this one, and one that does as well for nothing.
        lesser = [name for name in scored if _outdoes(scored[worse], scored[name])]
        alike = []
        for name in (*better, *lesser):
            (points, groups), (others, other_groups) = shown[name], shown[worse]
            apart = shift.told_apart(points, others, groups, other_groups, seed=seed)
            if apart is not None and apart[1] > ALIKE:
                alike.append((apart[0], name))
        # With few clips several pass the test, a view of another kind among them: the nearest decides.
        twin = min(alike)[1] if alike else ""
        if twin not in better:
            continue
        after[worse] = replace(after[worse], twin=twin, twin_agrees=scored[twin][0])
        drawn, other = after[twin].drawn, after[worse].drawn
        if drawn is not None and other is not None and (1 < drawn < other or other < drawn < 1):
            after[twin] = replace(after[twin], by_view=True)
    return list(after.values())


def _outdoes(better: Agreement, worse: Agreement) -> bool:
    """Whether the detector agrees with one set's labels so much better than with another's that it is beyond luck; False where luck is not known."""
    (high, high_draws), (low, low_draws) = better, worse
    if high_draws is None or low_draws is None or not low < WORSE * high:
        return False
    return bool(np.quantile(high_draws - low_draws, 0.025) > 0)


def _agreement(domain: Domain, rng: np.random.Generator) -> Agreement:
    """AP50 of the detector by a set's labels, and REPLICATES of it by clips drawn anew; None for those with fewer than MIN_GROUPS clips."""
    names, number = np.unique(domain.group_numbers, return_inverse=True)
    if len(names) < MIN_GROUPS:
        return ap50(domain), None
    averager = Averager(domain.table, ious=(0.5,), unit=number)
    return ap50(domain), np.nan_to_num(
        mean_of_classes(averager(draws(rng, len(names), REPLICATES))[0]).reshape(-1)
    )


def _shares(
    gains: Floats, lacking: Floats, weights: Floats, clips: Ints, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Weighted share of what is lacking (n,) that gains (draws, n) make up, and its 95 % interval over clips and draws."""
    names = np.unique(clips)
    gained = np.array([(gains * weights)[:, clips == name].sum(1) for name in names])
    missing = np.array([(lacking * weights)[clips == name].sum() for name in names])
    whole = float(gained.mean(1).sum() / max(missing.sum(), 1e-9))
    rows = rng.integers(0, len(names), (REPLICATES, len(names)))
    columns = rng.integers(0, gains.shape[0], REPLICATES)
    replicates = gained[rows, columns[:, None]].sum(1) / np.maximum(missing[rows].sum(1), 1e-9)
    low, high = np.quantile(replicates, [0.025, 0.975])
    return whole, float(low), float(high)


def reason(candidate: Candidate) -> str:
    """Where it stands and why, for somebody who never heard of embeddings."""
    words = ""
    if candidate.probed is not None:
        words = f"after a short training with {candidate.compared} of its images, AP50 is {fraction(candidate.probed)} on the {candidate.probed_on} labelled images of the footage"
        if candidate.probed_low is not None and candidate.probed_high is not None:
            words += f" ({fraction(candidate.probed_low)} to {fraction(candidate.probed_high)})"
        words += "; "
    words += (
        f"{candidate.compared} of its images would cover {percent(candidate.covers)} of what the footage shows and training lacks "
        f"({percent(candidate.covers_low)} to {percent(candidate.covers_high)})"
    )
    if candidate.other_hand and candidate.drawn is not None:
        larger = candidate.drawn > 1
        factor = candidate.drawn if larger else 1 / candidate.drawn
        words += f"; its boxes are drawn {factor:.1f} times as {'large' if larger else 'small'} as in-domain around what the detector finds: redraw them before adding it"
    elif candidate.twin and candidate.agrees is not None and candidate.twin_agrees is not None:
        words += (
            f"; {candidate.twin} looks the same, and by its labels the detector reaches AP50 {fraction(candidate.twin_agrees)} against {fraction(candidate.agrees)} "
            "by these: they seem to follow another rule, so hold ten images of each beside each other before adding it"
        )
    elif not candidate.labelled:
        words += "; it has no labels"
    elif candidate.drawn is None and candidate.probed is None:
        words += "; whether its labels mean the same could not be checked"
    if candidate.copies:
        words += f"; {candidate.copies} of its images are also among the held-out ones: leave those out"
    return words
