"""Which of several datasets to add: what each covers of the footage, and by which rule it is labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from diagnostics import shift
from diagnostics.acquisition import (
    MAX_TARGET,
    MAX_TRAINING,
    clip_weights,
    embeddings_and_clips,
    similarity,
    typical_distance,
)
from diagnostics.averaging import Averager
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_GROUPS, bootstrap_weights
from diagnostics.label_free import SHOWN
from diagnostics.leakage import near_duplicates
from diagnostics.matching import Floats, Ints
from diagnostics.precision import mean_of_classes
from diagnostics.shift import pooled_components, thin
from diagnostics.wording import fraction, interval, percent

# All datasets are compared at the size of the smallest one, within these limits: a larger sample covers more.
MIN_COMPARED, MAX_COMPARED = 10, 100
# Random samples of that size, over which coverage is averaged.
SAMPLES = 20
# Boxes drawn larger or smaller than in-domain by this factor overlap the in-domain ones by an IoU of 1 / 1.2
# squared, 0.69: still a match at 0.5, no longer one at 0.75.
MAX_BOX_FACTOR = 1.2
MIN_PAIRS = 20
# A detector that fails on a dataset overlaps its annotations by chance, with boxes of any size. At least this
# share of its confident detections must lie on annotations for their sizes to count.
MIN_ON_ANNOTATIONS = 0.5
# A dataset without labels, or with boxes that have to be drawn again, brings images only and counts half.
WITHOUT_LABELS = 0.5
# Two datasets show the same view if a shift test at this level does not separate them.
SAME_VIEW_LEVEL = 0.05
# On datasets of the same view, AP50 differs by chance and by how they are labelled. Rendered roads labelled
# by one rule differed by up to a third; less than half is beyond chance.
WORSE = 0.5
REPLICATES = 500
# AP50, and replicates of it; None with too few clips.
Agreement = tuple[float, Floats | None]


@dataclass(frozen=True)
class Candidate:
    """One dataset that may be added to training.

    name: name of the dataset
    images: number of images
    annotations: number of labelled boxes
    groups: number of clips
    compared: number of images in each sample that covers is measured on
    covers: share of what the footage shows and training lacks that a sample covers
    covers_low, covers_high: 95 % interval of covers, over the footage's clips and the samples
    drawn: size of its boxes against in-domain ones, relative to the detections on them; None with too few
        pairs
    drawn_low, drawn_high: 95 % interval of drawn, by clip
    copies: number of its images that are also among the held-out ones
    labelled: whether it has labels
    agrees: AP50 of the detector on it
    twin: dataset of the same view on which the detector has at least twice the AP50; "" where there is none
    twin_agrees: AP50 of the detector on the twin
    by_view: whether its box sizes are an effect of the view: a dataset of the same view deviates further in
        the same direction
    probed: AP50 on labelled images of the footage after a short training with it (`reports.commands.probe`)
    probed_low, probed_high: 95 % interval of probed, by clip
    probed_on: number of images that probed is measured on
    rank: 1 is best
    by_size: rank by number of images; datasets of one size share theirs
    reason: why it has this rank, in words
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
    def other_box_rule(self) -> bool:
        """Whether its boxes are drawn by another rule: the whole interval is beyond MAX_BOX_FACTOR."""
        if self.drawn_low is None or self.drawn_high is None or self.by_view:
            return False
        return self.drawn_low > MAX_BOX_FACTOR or self.drawn_high < 1 / MAX_BOX_FACTOR

    @property
    def usable_labels(self) -> bool:
        """Whether it has labels, and no sign that they follow another rule than in-domain."""
        return self.labelled and not self.other_box_rule and not self.twin


def _box_size_ratios(domain: Domain) -> tuple[Floats, Ints]:
    """Log ratio of annotation side to detection side, (n,), for each annotation with a confident detection.

    The second array holds the clip of each. Empty where most confident detections lie on no annotation.
    """
    confident = domain.outcomes[domain.outcomes["confidence"] >= SHOWN]
    on_annotations = confident[
        (confident["nearest_iou"] > 0.1)
        & (confident["partner"] >= 0)
        & confident["outcome"].isin(["true_positive", "location", "duplicate"])
    ]
    if len(on_annotations) < MIN_ON_ANNOTATIONS * len(confident):
        return np.zeros(0), np.zeros(0, np.int64)
    pairs = on_annotations.sort_values("confidence", ascending=False, kind="stable").drop_duplicates(
        "partner"
    )
    annotation_areas = np.prod(domain.annotation_arrays.xywh[pairs["partner"].to_numpy(int), 2:], 1)
    detection_areas = np.prod(domain.detection_arrays.xywh[pairs["row"].to_numpy(int), 2:], 1)
    ratios = np.log(annotation_areas / np.maximum(detection_areas, 1e-9)) / 2
    return ratios, domain.group_numbers[pairs["image"].to_numpy(int)]


def compare_box_sizes(
    in_domain: Domain, candidate: Domain, rng: np.random.Generator
) -> tuple[float, float, float] | None:
    """Size of a candidate's boxes against in-domain ones, relative to the detections on them.

    The other two values are its 95 % interval by clip. None with fewer than MIN_PAIRS pairs or MIN_GROUPS
    clips on a side.
    """
    medians, replicates = [], []
    for domain in (candidate, in_domain):
        if not domain.labelled.any():
            return None
        ratios, clips = _box_size_ratios(domain)
        names = np.unique(clips)
        if len(ratios) < MIN_PAIRS or len(names) < MIN_GROUPS:
            return None
        by_clip = [ratios[clips == name] for name in names]
        drawn_clips = rng.integers(0, len(names), (REPLICATES, len(names)))
        medians.append(float(np.median(ratios)))
        replicates.append(
            np.array([np.median(np.concatenate([by_clip[i] for i in row])) for row in drawn_clips])
        )
    low, high = np.quantile(replicates[0] - replicates[1], [0.025, 0.975])
    return float(np.exp(medians[0] - medians[1])), float(np.exp(low)), float(np.exp(high))


def _count_copies(candidate: Domain, held_out: Sequence[bytes]) -> int:
    """Number of images of a candidate that are near-duplicates of held-out ones, by fingerprint."""
    return int(near_duplicates(candidate.images["fingerprint"].tolist(), held_out).sum())


def compare_datasets(
    candidates: Sequence[Domain],
    target: Sequence[Domain],
    training: Domain,
    in_domain: Domain,
    *,
    set_aside: Sequence[bytes] = (),
    seed: int,
) -> list[Candidate]:
    """Rank datasets by how much of the footage they cover beyond training.

    Datasets without labels, or with boxes drawn by another rule, count half (WITHOUT_LABELS).

    Parameters
    ----------
    candidates
        The datasets.
    target
        The footage that the detector is for, labelled or not.
    training, in_domain
        The training images, and held-out in-domain images.
    set_aside
        Fingerprints of footage that is set aside as a test set.
    seed
        Seed of all samples.

    Returns
    -------
    list of Candidate
        Best first.
    """
    rng = np.random.default_rng(seed)
    held_out = [*in_domain.images["fingerprint"], *set_aside]
    groups = embeddings_and_clips(target)[1]
    sample = np.sort(rng.permutation(len(groups))[:MAX_TARGET])
    of_training = thin(rng, len(training.images), MAX_TRAINING)
    of_candidates = [thin(rng, len(domain.images), SAMPLES * MAX_COMPARED) for domain in candidates]
    to_training, *to_candidates = _likeness(
        target, sample, (training, *candidates), (of_training, *of_candidates)
    )
    weights, clips = clip_weights(groups[sample]), np.unique(groups[sample], return_inverse=True)[1]
    covered = to_training.max(1, initial=0)
    size = int(np.clip(min(len(d.images) for d in candidates), MIN_COMPARED, MAX_COMPARED))
    compared = []
    for domain, likeness in zip(candidates, to_candidates, strict=True):
        count = min(size, likeness.shape[1])
        samples = (rng.permutation(likeness.shape[1])[:count] for _ in range(SAMPLES))
        gains = np.array([np.maximum(likeness[:, rows].max(1) - covered, 0) for rows in samples])
        candidate = Candidate(
            domain.name,
            len(domain.images),
            len(domain.annotations),
            domain.images["group"].nunique(),
            count,
            *_covered_share(gains, 1 - covered, weights, clips, rng),
            copies=_count_copies(domain, held_out),
            labelled=bool(domain.labelled.any()),
        )
        compared.append(_with_box_sizes(candidate, domain, in_domain, rng))
    return order_candidates(_with_twins(compared, candidates, rng, seed=seed))


def _with_box_sizes(
    candidate: Candidate, domain: Domain, in_domain: Domain, rng: np.random.Generator
) -> Candidate:
    """The candidate with drawn and its interval, where they can be measured."""
    box_size = compare_box_sizes(in_domain, domain, rng)
    if box_size is None:
        return candidate
    return replace(candidate, drawn=box_size[0], drawn_low=box_size[1], drawn_high=box_size[2])


def _likeness(
    target: Sequence[Domain], sample: Ints, others: Sequence[Domain], rows: Sequence[Ints]
) -> list[Floats]:
    """Similarity in [0, 1] of sampled target images (n,) to chosen rows of each other domain, (n, m) each.

    It is the smaller of two similarities, that of the detector's embeddings and that of light, colours and
    edges (`datasets.pixels.descriptor`). In footage in which the detector finds next to nothing, the
    embeddings are similar to those of all images in which it finds nothing, blurred and dark ones included.
    The descriptors separate them.
    """
    domains = (*target, *others)
    representations = [[domain.image_embeddings for domain in domains]]
    descriptors = [d for domain in domains if (d := domain.descriptors) is not None]
    if len(descriptors) == len(domains):
        representations.append(descriptors)
    smallest: list[Floats] = []
    for vectors in representations:
        sampled = np.concatenate(vectors[: len(target)])[sample]
        parts = [points[chosen] for points, chosen in zip(vectors[len(target) :], rows, strict=True)]
        reduced, points = pooled_components(np.concatenate(parts), sampled)
        bandwidth = typical_distance(points)
        likeness = [
            similarity(points, part, bandwidth)
            for part in np.split(reduced, np.cumsum([len(part) for part in parts])[:-1])
        ]
        smallest = (
            [np.minimum(*pair) for pair in zip(smallest, likeness, strict=True)] if smallest else likeness
        )
    return smallest


def order_candidates(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates with rank, by_size and reason: ranked by probed where it was measured, else by covers."""

    def key(c: Candidate) -> tuple[float, float, str]:
        covers = c.covers * (1.0 if c.usable_labels else WITHOUT_LABELS)
        return -(c.probed if c.probed is not None else -1.0), -covers, c.name

    sizes = {c.name: 1 + sum(other.images > c.images for other in candidates) for c in candidates}
    return [
        replace(c, rank=rank, by_size=sizes[c.name], reason=_reason(c))
        for rank, c in enumerate(sorted(candidates, key=key), 1)
    ]


def _with_twins(
    candidates: Sequence[Candidate], domains: Sequence[Domain], rng: np.random.Generator, *, seed: int
) -> list[Candidate]:
    """Candidates with agrees, twin and by_view, from comparing datasets of the same view with each other.

    An unusual view affects the detector alike on all datasets that show it. Their labels can therefore be
    compared with each other where the view is too far from in-domain images to compare them with those.
    """
    agreements = {
        domain.name: _agreement(domain, rng)
        for domain in domains
        if domain.labelled.any() and len(domain.annotations)
    }
    compared = {
        c.name: replace(c, agrees=agreements[c.name][0]) if c.name in agreements else c for c in candidates
    }
    vectors = {domain.name: embeddings_and_clips([domain]) for domain in domains if domain.name in agreements}
    for worse in agreements:
        better = [name for name in agreements if _clearly_better(agreements[name], agreements[worse])]
        if not better:
            continue
        # A clearly worse dataset that is the nearest is no evidence against these labels, and neither is one
        # that is neither clearly better nor clearly worse.
        lesser = [name for name in agreements if _clearly_better(agreements[worse], agreements[name])]
        same_view = []
        for name in (*better, *lesser):
            (points, groups), (others, other_groups) = vectors[name], vectors[worse]
            distance = shift.permutation_test(points, others, groups, other_groups, seed=seed)
            if distance is not None and distance[1] > SAME_VIEW_LEVEL:
                same_view.append((distance[0], name))
        # With few clips several datasets pass the test, some of another view among them: the nearest decides.
        twin = min(same_view)[1] if same_view else ""
        if twin not in better:
            continue
        compared[worse] = replace(compared[worse], twin=twin, twin_agrees=agreements[twin][0])
        factor, other_factor = compared[twin].drawn, compared[worse].drawn
        if (
            factor is not None
            and other_factor is not None
            and (1 < factor < other_factor or other_factor < factor < 1)
        ):
            compared[twin] = replace(compared[twin], by_view=True)
    return list(compared.values())


def _clearly_better(better: Agreement, worse: Agreement) -> bool:
    """Whether AP50 is more than twice as high on one dataset as on another, beyond chance.

    False with too few clips to know.
    """
    (high, high_draws), (low, low_draws) = better, worse
    if high_draws is None or low_draws is None or not low < WORSE * high:
        return False
    return bool(np.quantile(high_draws - low_draws, 0.025) > 0)


def _agreement(domain: Domain, rng: np.random.Generator) -> Agreement:
    """AP50 on a dataset, and REPLICATES of it over draws of clips; None for those below MIN_GROUPS clips."""
    names, number = np.unique(domain.group_numbers, return_inverse=True)
    if len(names) < MIN_GROUPS:
        return ap50(domain), None
    averager = Averager(domain.table, ious=(0.5,), unit=number)
    replicates = mean_of_classes(averager(bootstrap_weights(rng, len(names), REPLICATES))[0])
    return ap50(domain), np.nan_to_num(replicates.reshape(-1))


def _covered_share(
    gains: Floats, lacking: Floats, weights: Floats, clips: Ints, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Weighted share of what is lacking (n,) that gains (samples, n) cover, and its 95 % interval."""
    names = np.unique(clips)
    gained = np.array([(gains * weights)[:, clips == name].sum(1) for name in names])
    missing = np.array([(lacking * weights)[clips == name].sum() for name in names])
    share = float(gained.mean(1).sum() / max(missing.sum(), 1e-9))
    rows = rng.integers(0, len(names), (REPLICATES, len(names)))
    columns = rng.integers(0, gains.shape[0], REPLICATES)
    replicates = gained[rows, columns[:, None]].sum(1) / np.maximum(missing[rows].sum(1), 1e-9)
    low, high = np.quantile(replicates, [0.025, 0.975])
    return share, float(low), float(high)


def _reason(candidate: Candidate) -> str:
    """Why a candidate has its rank, without the word "embedding"."""
    parts = []
    if candidate.probed is not None:
        span = ""
        if candidate.probed_low is not None and candidate.probed_high is not None:
            span = f" {interval(candidate.probed_low, candidate.probed_high)}"
        parts.append(
            f"after a short training with {candidate.compared} of its images, AP50 is "
            f"{fraction(candidate.probed)}{span} on the {candidate.probed_on} labelled images of the footage"
        )
    parts.append(
        f"{candidate.compared} of its images cover {percent(candidate.covers)} "
        f"[{percent(candidate.covers_low)}, {percent(candidate.covers_high)}] "
        "of what the footage shows and training lacks"
    )
    parts += _label_remarks(candidate)
    if candidate.copies:
        parts.append(f"{candidate.copies} of its images are also among the held-out ones: leave those out")
    return "; ".join(parts)


def _label_remarks(candidate: Candidate) -> list[str]:
    """What is known against the labels of a candidate, if anything."""
    if candidate.other_box_rule and candidate.drawn is not None:
        larger = candidate.drawn > 1
        factor = candidate.drawn if larger else 1 / candidate.drawn
        return [
            f"its boxes are drawn {factor:.1f} times as {'large' if larger else 'small'} as in-domain, "
            "relative to the detections on them: redraw them before adding it"
        ]
    if candidate.twin and candidate.agrees is not None and candidate.twin_agrees is not None:
        return [
            f"{candidate.twin} shows the same view, and AP50 by its labels is "
            f"{fraction(candidate.twin_agrees)} against {fraction(candidate.agrees)} by these: "
            "they seem to follow another rule, so "
            "compare ten labelled images of each before adding it"
        ]
    if not candidate.labelled:
        return ["it has no labels"]
    if candidate.drawn is None and candidate.probed is None:
        return ["there is too little data to check by which rule its boxes are drawn"]
    return []
