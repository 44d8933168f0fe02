"""How a detector fared while it learned: does the real world go along with validation, or part from it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from diagnostics.comparison import Comparison
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_BOXES, Interval, ap_interval
from diagnostics.label_free import SHOWN, speak
from diagnostics.matching import Floats
from diagnostics.precision import accumulate, mean

# By how much AP50 must have fallen from its best to be called fallen: a curve of a hundred pictures wavers by a few points between two epochs. Both ends are medians of three looks,
# since the best of many looks is partly luck.
FALLEN = 0.05
SMOOTHED = 3
# Validation must have risen by this between two checkpoints, and not by chance, for what came of it elsewhere to be telling.
MIN_RISE = 0.1
# Fewer looks than this are no curve.
MIN_LOOKS = 3


@dataclass(frozen=True)
class Course:
    """One domain watched while the detector learned. by_labels: whether AP50 is by labels, or what it would be if confidences meant what they mean in validation.

    best, last: AP50, smoothed, at best_epoch and at last_epoch; home_best, home_last: validation's at the same epochs. pictures, objects: that were looked at, and labelled in them.
    """

    domain: str
    by_labels: bool
    looks: int
    best_epoch: int
    last_epoch: int
    best: float
    last: float
    home_best: float
    home_last: float
    pictures: int
    objects: int

    @property
    def parted(self) -> bool:
        """Whether it fell while validation did not: more epochs made it worse out there."""
        enough = not self.by_labels or self.objects >= MIN_BOXES
        return enough and self.best - self.last >= FALLEN and self.home_last >= self.home_best


def courses(watched: pd.DataFrame, home: str) -> list[Course]:
    """The course of every watched domain with an AP50 at MIN_LOOKS epochs or more. watched: see `train.run.Run`; home: the name of validation in it."""
    if watched.empty:
        return []
    at_home = watched[watched["domain"] == home].set_index("epoch")["ap50"]
    found = []
    for name, part in watched[watched["domain"] != home].groupby("domain", sort=False):
        by_labels = bool(part["ap50"].notna().any())
        column = "ap50" if by_labels else "expected_ap50"
        part = part[part[column].notna() & part["epoch"].isin(at_home.dropna().index)].sort_values("epoch")
        if len(part) < MIN_LOOKS:
            continue
        smooth = part[column].rolling(SMOOTHED, center=True, min_periods=1).median()
        values, epochs = smooth.to_numpy(float), part["epoch"].to_numpy(int)
        top = int(np.argmax(values))
        found.append(
            Course(
                str(name),
                by_labels,
                len(part),
                int(epochs[top]),
                int(epochs[-1]),
                float(values[top]),
                float(values[-1]),
                float(at_home.loc[epochs[top]]),
                float(at_home.loc[epochs[-1]]),
                int(part["pictures"].iloc[-1]),
                int(part["objects"].iloc[-1]),
            )
        )
    return found


@dataclass(frozen=True)
class Standing:
    """One checkpoint on one domain. epoch: 1 for the first; ap50 with its domain's labels, None without; precision, recall: of detections at or above SHOWN.

    speaking: share of pictures with such a detection; shown: how many a picture; confidence: their mean. against_last: the last checkpoint compared with this one on
    the same pictures, None for the last itself and without labels.
    """

    epoch: int
    domain: str
    role: str
    pictures: int
    objects: int
    ap50: float | None
    precision: float | None
    recall: float | None
    speaking: float
    shown: float
    confidence: float | None
    against_last: Comparison | None = None
    interval: Interval | None = None


def standing(epoch: int, domain: Domain, *, seed: int) -> Standing:
    """How a domain, as one checkpoint sees it, stands. interval: of AP50, 95 % by clips."""
    speaking, shown, confidence = speak(domain)
    ap50 = precision = recall = interval = None
    objects = int((~domain.annotations["crowd"].to_numpy(bool)).sum())
    if domain.labelled.any() and objects:
        ap50 = mean(accumulate(domain.table)[0][:, domain.table.bit(0.5)])
        interval = ap_interval(domain.table, domain.group_numbers, seed=seed)
        outcomes = domain.outcomes[domain.outcomes["confidence"] >= SHOWN]
        hits = int((outcomes["outcome"] == "hit").sum())
        recall = hits / objects
        precision = hits / len(outcomes) if len(outcomes) else None
    return Standing(
        epoch,
        domain.name,
        domain.role,
        len(domain.pictures),
        objects,
        ap50,
        precision,
        recall,
        speaking,
        shown,
        confidence,
        interval=interval,
    )


def telling(domains: list[Domain], images: pd.DataFrame) -> str | None:
    """The picture on which checkpoints differ most in how much they show: what the change of mind looks like. domains: the same pictures, as each checkpoint sees them.

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
class Carried:
    """How much of what training wins at home arrives out there, from two checkpoints on the same pictures. epochs: of both. home, away: AP50 at the first and the second of them.

    share: of home's rise; low, high: its bounds, of the 95 % intervals by clips of both.
    """

    epochs: tuple[int, int]
    home: tuple[float, float]
    away: tuple[float, float]
    share: float
    low: float
    high: float


def carried(standings: Sequence[Standing], home: str, away: str | None) -> Carried | None:
    """From the latest checkpoint since which validation has risen by MIN_RISE beyond chance; None where there is none, or no interval out there."""
    of = {(s.domain, s.epoch): s for s in standings}
    last = max((s.epoch for s in standings), default=0)
    for epoch in sorted({s.epoch for s in standings if s.epoch < last}, reverse=True):
        at_home, out_there = of.get((home, epoch)), of.get((away or "", epoch))
        rise = at_home.against_last if at_home else None
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
        return Carried(
            (epoch, last),
            (rise.second, rise.first),
            (change.second, change.first),
            change.difference / rise.difference,
            low / (most if low > 0 else least),
            high / (least if high > 0 else most),
        )
    return None
