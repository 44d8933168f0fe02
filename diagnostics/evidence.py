"""Everything measured, in one frozen object that every hypothesis reads, and the form in which a hypothesis answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from diagnostics.contributions import DropDecomposition
from diagnostics.counterfactuals import Recovery, Redrawn, SizeMatch
from diagnostics.intervals import Interval
from diagnostics.label_free import LabelFree
from diagnostics.leakage import Leak
from diagnostics.learning import Learning
from diagnostics.shift import Shift
from diagnostics.training_curve import CarriedOver

Status = Literal["supported", "rejected", "untested"]

# A hypothesis that explains at least half of the gap is the larger part of the failure; one that explains less than a quarter cannot
# be what a reader should mend first. Between the two, the numbers do not decide.
SUPPORTED_SHARE = 0.5
REJECTED_SHARE = 0.25
# A drop in AP50 below this is within what another training seed gives (repeats of one configuration differ by about a point), and
# within what a few hundred images can resolve.
HARMLESS_GAP = 0.05


@dataclass(frozen=True)
class Threshold:
    """confidence: the threshold in use (the in-domain best unless given). home, carried: F1 at it, in-domain and in the real world.

    away, away_confidence: best F1 in the real world and its threshold.
    crossfitted: F1 that a threshold chosen on half of the real world's clips earns on the other half. given: by the user.
    """

    confidence: float
    real_world_confidence: float
    in_domain: float
    real_world: float
    carried: float
    crossfitted: float | None
    given: bool = False


@dataclass(frozen=True)
class Evidence:
    """home, away: names of the in-domain and the labelled real-world domain in focus (None without labels in the real world).

    ap50, max_recall, loose: by domain name ("training" included); loose is AP at IoU .1. interval, gap_interval: of AP50. shift_look: of images by
    a descriptor without a model. ladders: what corrections recover of AP50 and F1. label_free: AP50 read without labels, by domain name.
    carried: how much of what training wins in-domain arrives in the domain in focus, None where no checkpoints tell.
    """

    in_domain: str
    real_world: str | None
    unlabelled: tuple[str, ...]
    ap50: dict[str, float]
    max_recall: dict[str, float]
    loose: dict[str, float]
    intervals: dict[str, Interval]
    gap_interval: Interval | None
    learning: Learning
    threshold: Threshold | None
    size: SizeMatch | None
    recoveries: dict[str, Recovery]
    redrawn: Redrawn | None
    leak: Leak | None
    shift_image: dict[str, Shift]
    shift_detections: dict[str, Shift]
    factors: dict[str, pd.DataFrame]
    shift_descriptors: dict[str, Shift] = field(default_factory=dict)
    decompositions: tuple[DropDecomposition, ...] = ()
    label_free: dict[str, LabelFree] = field(default_factory=dict)
    errors: pd.DataFrame = field(default_factory=pd.DataFrame)
    carried: CarriedOver | None = None

    @property
    def in_domain_ap50(self) -> float:
        """AP50 of the in-domain validation images; NaN if unlabelled."""
        return self.ap50.get(self.in_domain, float("nan"))

    @property
    def real_world_ap50(self) -> float:
        """AP50 of the real-world domain in focus; NaN without labels."""
        return self.ap50.get(self.real_world, float("nan")) if self.real_world else float("nan")

    @property
    def gap(self) -> float | None:
        """How far AP50 falls from home to the real world; None when either cannot be measured."""
        gap = self.in_domain_ap50 - self.real_world_ap50
        return gap if gap == gap else None

    @property
    def gap_is_real(self) -> bool:
        """Whether the fall is larger than what is harmless, beyond its interval where there is one."""
        if self.gap is None:
            return False
        low = self.gap_interval.low if self.gap_interval else None
        return self.gap > HARMLESS_GAP and (low is None or low > 0)


@dataclass(frozen=True)
class Observation:
    """One sentence of evidence; favours is True for, False against, None for context."""

    favours: bool | None
    text: str


@dataclass(frozen=True)
class Hypothesis:
    """A hypothesis after questioning. score in [0, 1] is the share of the failure it accounts for; None when untested.

    missing: the test that would settle it, "" if none is needed. kind: a finer name (of a domain shift, say).
    """

    code: str
    name: str
    status: Status
    score: float | None
    statement: str
    observations: tuple[Observation, ...] = ()
    missing: str = ""
    kind: str = ""


def status_from_share(share: float | None, low: float | None = None, high: float | None = None) -> Status:
    """Status from the share of the gap a hypothesis explains, with its interval where there is one."""
    if share is None or share != share:
        return "untested"
    if share >= SUPPORTED_SHARE and (low is None or low >= REJECTED_SHARE):
        return "supported"
    if share < REJECTED_SHARE and (high is None or high < SUPPORTED_SHARE):
        return "rejected"
    return "untested"


def clip(share: float) -> float:
    """A share as a score in [0, 1]."""
    return min(1.0, max(0.0, share))


NO_LABELS = "label 25 to 50 frames in the real world from at least 5 clips (fewer than 30 labelled objects are at hand) and run the report again"
