"""How a detector fared while it learned: does the real world go along with validation, or part from it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from diagnostics.comparison import Comparison
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_BOXES, Interval, ap_interval
from diagnostics.label_free import SHOWN, summarise_detections
from diagnostics.matching import Floats
from diagnostics.precision import accumulate, mean

# By how much AP50 must have fallen from its best to be called fallen: a curve of a hundred images wavers by a few points between two epochs. Both ends are medians of three looks,
# since the best of many looks is partly luck.
FALLEN = 0.05
SMOOTHED = 3
# Validation must have risen by this between two checkpoints, and not by chance, for what came of it elsewhere to be telling.
MIN_RISE = 0.1
# Fewer looks than this are no curve.
MIN_EMBEDDINGS = 3


@dataclass(frozen=True)
class TrainingCurve:
    """One domain watched while the detector learned. by_labels: whether AP50 is by labels, or what it would be if confidences meant what they mean in validation.

    best, last: AP50, smoothed, at best_epoch and at last_epoch; home_best, home_last: validation's at the same epochs. images, objects: that were looked at, and labelled in them.
    """

    domain: str
    by_labels: bool
    looks: int
    best_epoch: int
    last_epoch: int
    best: float
    last: float
    in_domain_best: float
    in_domain_last: float
    images: int
    annotations: int

    @property
    def diverged(self) -> bool:
        """Whether it fell while validation did not: more epochs made it worse in the real world."""
        enough = not self.by_labels or self.annotations >= MIN_BOXES
        return enough and self.best - self.last >= FALLEN and self.in_domain_last >= self.in_domain_best


def training_curves(watched: pd.DataFrame, in_domain: str) -> list[TrainingCurve]:
    """The course of every watched domain with an AP50 at MIN_LOOKS epochs or more. watched: see `train.run.Run`; home: the name of validation in it."""
    if watched.empty:
        return []
    at_in_domain = watched[watched["domain"] == in_domain].set_index("epoch")["ap50"]
    found = []
    for name, part in watched[watched["domain"] != in_domain].groupby("domain", sort=False):
        by_labels = bool(part["ap50"].notna().any())
        column = "ap50" if by_labels else "expected_ap50"
        part = part[part[column].notna() & part["epoch"].isin(at_in_domain.dropna().index)].sort_values(
            "epoch"
        )
        if len(part) < MIN_EMBEDDINGS:
            continue
        smooth = part[column].rolling(SMOOTHED, center=True, min_periods=1).median()
        values, epochs = smooth.to_numpy(float), part["epoch"].to_numpy(int)
        top = int(np.argmax(values))
        found.append(
            TrainingCurve(
                str(name),
                by_labels,
                len(part),
                int(epochs[top]),
                int(epochs[-1]),
                float(values[top]),
                float(values[-1]),
                float(at_in_domain.loc[epochs[top]]),
                float(at_in_domain.loc[epochs[-1]]),
                int(part["images"].iloc[-1]),
                int(part["annotations"].iloc[-1]),
            )
        )
    return found


@dataclass(frozen=True)
class CheckpointResult:
    """One checkpoint on one domain. epoch: 1 for the first; ap50 with its domain's labels, None without; precision, recall: of detections at or above SHOWN.

    speaking: share of images with such a detection; shown: how many an image; confidence: their mean. against_last: the last checkpoint compared with this one on
    the same images, None for the last itself and without labels.
    """

    epoch: int
    domain: str
    role: str
    images: int
    annotations: int
    ap50: float | None
    precision: float | None
    recall: float | None
    detection_rate: float
    shown: float
    confidence: float | None
    against_last: Comparison | None = None
    interval: Interval | None = None


def measure_checkpoint(epoch: int, domain: Domain, *, seed: int) -> CheckpointResult:
    """How a domain, as one checkpoint sees it, stands. interval: of AP50, 95 % by clips."""
    detection_rate, shown, confidence = summarise_detections(domain)
    ap50 = precision = recall = interval = None
    annotations = int((~domain.annotations["crowd"].to_numpy(bool)).sum())
    if domain.labelled.any() and annotations:
        ap50 = mean(accumulate(domain.table)[0][:, domain.table.bit(0.5)])
        interval = ap_interval(domain.table, domain.group_numbers, seed=seed)
        outcomes = domain.outcomes[domain.outcomes["confidence"] >= SHOWN]
        true_positives = int((outcomes["outcome"] == "true_positive").sum())
        recall = true_positives / annotations
        precision = true_positives / len(outcomes) if len(outcomes) else None
    return CheckpointResult(
        epoch,
        domain.name,
        domain.role,
        len(domain.images),
        annotations,
        ap50,
        precision,
        recall,
        detection_rate,
        shown,
        confidence,
        interval=interval,
    )


def most_telling_image(domains: list[Domain], images: pd.DataFrame) -> str | None:
    """The image on which checkpoints differ most in how much they show: what the change of mind looks like. domains: the same images, as each checkpoint sees them.

    Spread of the root of the number of shown detections, on which scale counts scatter alike (Bartlett 1936). None where all show alike.
    """
    counts: list[Floats] = []
    for domain in domains:
        shown = domain.detections[domain.detections["confidence"] >= SHOWN]
        numbers = shown.groupby("image").size().reindex(images["image"]).fillna(0.0)
        counts.append(np.sqrt(numbers.to_numpy(float)))
    spread = np.ptp(np.stack(counts), axis=0)
    return str(images["image"].iloc[int(np.argmax(spread))]) if spread.max() > 0 else None


@dataclass(frozen=True)
class CarriedOver:
    """How much of what training wins in-domain arrives in the real world, from two checkpoints on the same images. epochs: of both. home, away: AP50 at the first and the second of them.

    share: of the in-domain rise; low, high: its bounds, of the 95 % intervals by clips of both.
    """

    epochs: tuple[int, int]
    in_domain: tuple[float, float]
    real_world: tuple[float, float]
    share: float
    low: float
    high: float


def carried(
    checkpoint_results: Sequence[CheckpointResult], in_domain: str, real_world: str | None
) -> CarriedOver | None:
    """From the latest checkpoint since which validation has risen by MIN_RISE beyond chance; None where there is none, or no interval in the real world."""
    of = {(s.domain, s.epoch): s for s in checkpoint_results}
    last = max((s.epoch for s in checkpoint_results), default=0)
    for epoch in sorted({s.epoch for s in checkpoint_results if s.epoch < last}, reverse=True):
        at_in_domain, out_there = of.get((in_domain, epoch)), of.get((real_world or "", epoch))
        rise = at_in_domain.against_last if at_in_domain else None
        change = out_there.against_last if out_there else None
        if rise is None or change is None or rise.p is None or rise.p > 0.05 or rise.difference < MIN_RISE:
            continue
        low, high, least, most = (
            change.interval.low,
            change.interval.high,
            rise.interval.low,
            rise.interval.high,
        )
        if low is None or high is None or least is None or most is None or least <= 0:
            continue
        return CarriedOver(
            (epoch, last),
            (rise.second, rise.first),
            (change.second, change.first),
            change.difference / rise.difference,
            low / (most if low > 0 else least),
            high / (least if high > 0 else most),
        )
    return None
