"""AP50 of each domain during training, and the kept checkpoints compared on the same images."""

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

# A drop of AP50 from its best that counts as a fall: on a hundred images it varies by a few points between
# two epochs. Both ends are medians of three epochs, since the best of many epochs is partly luck.
FALLEN = 0.05
SMOOTHED = 3
# Validation AP50 must rise by this between two checkpoints, and significantly, for the share that carries
# over to be meaningful.
MIN_RISE = 0.1
# Fewer measured epochs make no curve.
MIN_EPOCHS = 3


@dataclass(frozen=True)
class TrainingCurve:
    """AP50 of one domain during training.

    domain: name of the domain
    by_labels: whether AP50 is measured with labels; otherwise it is estimated from confidences, as if they
        meant what they mean in validation
    measured_epochs: number of epochs with an AP50
    best_epoch: epoch of the highest smoothed AP50
    last_epoch: last epoch with an AP50
    best: smoothed AP50 at best_epoch
    last: smoothed AP50 at last_epoch
    in_domain_best: validation AP50 at best_epoch
    in_domain_last: validation AP50 at last_epoch
    images: number of images predicted at an epoch
    annotations: number of annotations in them
    """

    domain: str
    by_labels: bool
    measured_epochs: int
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
        """Whether AP50 fell while validation did not: more epochs made it worse in the real world."""
        enough = not self.by_labels or self.annotations >= MIN_BOXES
        return enough and self.best - self.last >= FALLEN and self.in_domain_last >= self.in_domain_best


def training_curves(watched: pd.DataFrame, in_domain: str) -> list[TrainingCurve]:
    """The training curve of every domain with an AP50 at MIN_EPOCHS epochs or more.

    Parameters
    ----------
    watched
        One row per epoch and domain (see `train.run.Run`).
    in_domain
        Name of the validation images in it.

    Returns
    -------
    list
        Curves in the order of the domains.
    """
    if watched.empty:
        return []
    in_domain_ap50 = watched[watched["domain"] == in_domain].set_index("epoch")["ap50"]
    curves = []
    for name, part in watched[watched["domain"] != in_domain].groupby("domain", sort=False):
        by_labels = bool(part["ap50"].notna().any())
        column = "ap50" if by_labels else "expected_ap50"
        part = part[part[column].notna() & part["epoch"].isin(in_domain_ap50.dropna().index)].sort_values(
            "epoch"
        )
        if len(part) < MIN_EPOCHS:
            continue
        smooth = part[column].rolling(SMOOTHED, center=True, min_periods=1).median()
        values, epochs = smooth.to_numpy(float), part["epoch"].to_numpy(int)
        top = int(np.argmax(values))
        curves.append(
            TrainingCurve(
                domain=str(name),
                by_labels=by_labels,
                measured_epochs=len(part),
                best_epoch=int(epochs[top]),
                last_epoch=int(epochs[-1]),
                best=float(values[top]),
                last=float(values[-1]),
                in_domain_best=float(in_domain_ap50.loc[epochs[top]]),
                in_domain_last=float(in_domain_ap50.loc[epochs[-1]]),
                images=int(part["images"].iloc[-1]),
                annotations=int(part["annotations"].iloc[-1]),
            )
        )
    return curves


@dataclass(frozen=True)
class CheckpointResult:
    """One checkpoint on one domain.

    epoch: epoch of the checkpoint, from 1
    domain: name of the domain
    role: "in_domain" or "real_world"
    images: number of images
    annotations: number of annotations that are no crowds
    ap50: AP50, None without labels
    precision: precision of detections at or above SHOWN, None without labels
    recall: recall of these, None without labels
    detection_rate: share of images with a detection at or above SHOWN
    shown: detections at or above SHOWN per image
    confidence: mean confidence of these, None without any
    against_last: the last checkpoint compared with this one on the same images; None for the last itself and
        without labels
    interval: 95 % interval of AP50 by clip, None without labels
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
    """Measure one checkpoint on one domain.

    Parameters
    ----------
    epoch
        Epoch of the checkpoint, from 1.
    domain
        The domain with the checkpoint's detections.
    seed
        Seed of the interval.

    Returns
    -------
    CheckpointResult
        Not yet compared with the last checkpoint.
    """
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


def most_changed_image(domains: Sequence[Domain], images: pd.DataFrame) -> str | None:
    """The image on which checkpoints differ most in the number of detections; None where they do not differ.

    The spread is that of the root of the number, on which scale counts scatter alike (Bartlett 1936).
    domains: the same images with the detections of each checkpoint.
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
    """How much of an in-domain gain carries over to the real world, from two checkpoints on the same images.

    epochs: epochs of the two checkpoints
    in_domain: AP50 at the first and at the second
    real_world: AP50 at the first and at the second
    share: real-world gain over in-domain gain
    low: lower bound of the share, from the 95 % intervals of both gains
    high: upper bound of the share
    """

    epochs: tuple[int, int]
    in_domain: tuple[float, float]
    real_world: tuple[float, float]
    share: float
    low: float
    high: float


def measure_carry_over(
    checkpoint_results: Sequence[CheckpointResult], in_domain: str, real_world: str | None
) -> CarriedOver | None:
    """How much of an in-domain gain carries over to the real world.

    Parameters
    ----------
    checkpoint_results
        Results of the kept checkpoints on all domains.
    in_domain, real_world
        Names of the two domains.

    Returns
    -------
    CarriedOver or None
        From the latest checkpoint since which validation AP50 rose significantly by MIN_RISE or more. None
        where there is no such checkpoint, or no interval in the real world.
    """
    by_key = {(result.domain, result.epoch): result for result in checkpoint_results}
    last = max((result.epoch for result in checkpoint_results), default=0)
    earlier = {result.epoch for result in checkpoint_results if result.epoch < last}
    for epoch in sorted(earlier, reverse=True):
        in_domain_result = by_key.get((in_domain, epoch))
        real_world_result = by_key.get((real_world or "", epoch))
        rise = in_domain_result.against_last if in_domain_result else None
        change = real_world_result.against_last if real_world_result else None
        if rise is None or change is None or rise.p is None or rise.p > 0.05 or rise.difference < MIN_RISE:
            continue
        low, high = change.interval.low, change.interval.high
        least, most = rise.interval.low, rise.interval.high
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
