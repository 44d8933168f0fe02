"""Everything measured, in one frozen object that every hypothesis reads, and the form of its assessment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from shlex import quote
from typing import Literal

import pandas as pd

from diagnostics.class_causes import ClassCause
from diagnostics.contributions import DropDecomposition
from diagnostics.counterfactuals import Recovery, Redrawn, SizeMatch
from diagnostics.intervals import MIN_BOXES, Interval
from diagnostics.label_audit import LabelAudit
from diagnostics.label_free import LabelFreeEstimate
from diagnostics.leakage import Copies, Leak
from diagnostics.learning import Learning
from diagnostics.point_measures import Reviewed, Share
from diagnostics.shift import Shift
from diagnostics.training_curve import CarriedOver
from diagnostics.wording import joined, points, points_interval

# rejected: ruled out. inconclusive: measured, and mixed. untested: not measurable with what is available.
Status = Literal["supported", "rejected", "inconclusive", "untested"]

# A cause that explains at least half of the drop is the larger part of the failure; one that explains less
# than a quarter cannot
# be what a reader should fix first. Between the two, the numbers do not decide.
SUPPORTED_SHARE = 0.5
REJECTED_SHARE = 0.25
# A drop in AP50 below this is within what another training seed gives (repeats of one configuration differ by
# about a point), and
# within what a few hundred images can resolve.
HARMLESS_GAP = 0.05


@dataclass(frozen=True)
class Threshold:
    """What carrying the confidence threshold in use over to the real world costs.

    confidence: the threshold in use (the best in-domain unless given)
    best_confidence: the threshold with the best F1 on the real-world domain
    in_domain_f1: F1 in-domain at the threshold in use
    real_world_f1: F1 on the real-world domain at the threshold in use
    best_f1: F1 on the real-world domain at its best threshold
    crossfitted_f1: F1 that a threshold chosen on half of the real-world clips gives on the other half; None
        with one clip
    given: the threshold was given by the user
    """

    confidence: float
    best_confidence: float
    in_domain_f1: float
    real_world_f1: float
    best_f1: float
    crossfitted_f1: float | None
    given: bool = False


@dataclass(frozen=True)
class Evidence:
    """Everything the hypotheses are assessed on. AP values are fractions, by domain name ("training"
    included).

    in_domain: name of the in-domain domain
    domain: name of the real-world domain that this is about; None without one
    real_world: the same where a drop in AP50 can be measured on it, which takes labels; else None
    ap50: AP50; of in_domain, real_world and training on the compared classes
    max_recall: recall with every detection down to the confidence floor
    loose: AP at IoU 0.1
    intervals: 95 % interval of AP50
    gap_interval: 95 % interval of the drop in AP50
    learning: the training curve
    threshold: what carrying the confidence threshold over costs
    size: recall in-domain re-weighted to the real-world object sizes
    recoveries: what each intervention recovers, by its name
    redrawn: AP50 with every detection stretched to the annotators' habit
    leak: copies and recordings shared between training and validation
    shift_image, shift_detections: shift of image and of detection embeddings, by real-world domain
    factors: readable factors compared, by real-world domain
    shift_descriptors: shift of light, colours and edges, measured without a model
    shift_boxes: shift of what is detected in each image (how much of each class, how surely, how large), of
        domain where it is labelled and detections have no embeddings
    decompositions: contributions of the interventions to AP50 and F1
    label_free: AP50 estimated without labels, by domain
    resized: what another image size recovers by that estimate, by domain, see `diagnostics.resized`
    errors: error types of all labelled domains
    carried: share of an in-domain gain during training that carried over; None without kept checkpoints
    copies: real-world images that training shows, by domain
    reviewed: precision, recall and AP by points, from the answers of a person, by domain
    audits: the share of wrong labels, from the answers of a person, by domain
    classes: names of the compared classes; () where both sets have the same ones
    class_causes: why classes lose, see `classes.ClassFindings.causes_of_drop`; () where no drop of a class is
        sure
    is_one_recording: whether all images of the real-world domain are of one clip
    annotations: how many the real-world domain has; None where it is not labelled
    """

    in_domain: str
    domain: str | None
    real_world: str | None
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
    shift_boxes: dict[str, Shift] = field(default_factory=dict)
    decompositions: tuple[DropDecomposition, ...] = ()
    label_free: dict[str, LabelFreeEstimate] = field(default_factory=dict)
    resized: dict[str, Recovery] = field(default_factory=dict)
    errors: pd.DataFrame = field(default_factory=pd.DataFrame)
    carried: CarriedOver | None = None
    copies: dict[str, Copies] = field(default_factory=dict)
    reviewed: dict[str, Reviewed] = field(default_factory=dict)
    audits: dict[str, LabelAudit] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    class_causes: tuple[ClassCause, ...] = ()
    is_one_recording: bool = False
    annotations: int | None = None

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
        """Drop in AP50 from in-domain to the real world; None when either cannot be measured."""
        gap = self.in_domain_ap50 - self.real_world_ap50
        return gap if gap == gap else None

    @property
    def gap_is_real(self) -> bool:
        """Whether the drop is larger than what is harmless, and its interval, if there is one, excludes 0."""
        if self.gap is None:
            return False
        low = self.gap_interval.low if self.gap_interval else None
        return self.gap > HARMLESS_GAP and (low is None or low > 0)

    @property
    def gap_is_unresolved(self) -> bool:
        """Whether AP50 is lower by more than what is harmless, and chance would do as much."""
        return self.gap is not None and self.gap > HARMLESS_GAP and not self.gap_is_real

    @property
    def reviewed_drop(self) -> Share | None:
        """Drop of AP by the clicks of a person, with its interval; None without enough answers."""
        reviewed = self.reviewed.get(self.domain or "")
        return reviewed.drop if reviewed is not None else None


@dataclass(frozen=True)
class Observation:
    """One sentence of evidence.

    favours: True for the hypothesis, False against it, None for context
    text: the sentence
    """

    favours: bool | None
    text: str


@dataclass(frozen=True)
class Hypothesis:
    """A possible cause and what the evidence says about it.

    code: its name in report.json
    name: its name on the page
    status: supported, rejected (ruled out), inconclusive (measured, and mixed) or untested
    score: share of the failure it accounts for, in [0, 1]; None where none was measured
    statement: the result in one sentence
    observations: the evidence, sentence by sentence
    missing: the test that would decide it; "" if none is needed
    kind: a finer name, such as the kind of a domain shift
    by_class: whether the score comes from why classes lose, on which the probability of a verdict was not
        calibrated
    is_bound: whether it rests on a share that is only bounded, on which it was not calibrated either
    """

    code: str
    name: str
    status: Status
    score: float | None
    statement: str
    observations: tuple[Observation, ...] = ()
    missing: str = ""
    kind: str = ""
    by_class: bool = False
    is_bound: bool = False


@dataclass(frozen=True)
class Assessment:
    """What testing one hypothesis gave: the fields of `Hypothesis` without its code and name."""

    status: Status
    score: float | None
    statement: str
    observations: Sequence[Observation] = ()
    missing: str = ""
    kind: str = ""
    by_class: bool = False
    is_bound: bool = False


class NotTestable(Exception):
    """A hypothesis cannot be tested with the evidence available.

    statement: why, in one sentence
    missing: what would make it testable
    observations: what was measured all the same
    kind, score: see `Hypothesis`
    """

    def __init__(
        self,
        statement: str,
        *,
        missing: str,
        observations: Sequence[Observation] = (),
        kind: str = "",
        score: float | None = None,
    ) -> None:
        super().__init__(statement)
        self.statement, self.missing, self.observations, self.kind = statement, missing, observations, kind
        self.score = score


def supported(
    score: float, statement: str, observations: Sequence[Observation] = (), *, missing: str = ""
) -> Assessment:
    """The hypothesis explains the failure, or the larger part of it."""
    return Assessment("supported", score, statement, observations, missing)


def ruled_out(
    statement: str,
    observations: Sequence[Observation] = (),
    *,
    score: float = 0.0,
    missing: str = "",
    kind: str = "",
) -> Assessment:
    """The hypothesis explains nothing, or less than a quarter of the failure."""
    return Assessment("rejected", score, statement, observations, missing, kind)


# How the sentence about a class that fails alone begins, where the mean hides it.
HOLDS = "AP50 over all classes holds, and"


def class_alone(evidence: Evidence, code: str, lead: str, missing: str) -> Assessment | None:
    """A hypothesis about a class that loses more than the others; None where none does for that cause.

    It is never supported: how much it costs was not tested, only that the class loses, and how. lead: what
    else holds, the start of its sentence. missing: what would decide; {names} are those of the classes.
    """
    causes = [cause for cause in evidence.class_causes if cause.hit and cause.code == code]
    if not causes:
        return None
    names = joined([cause.name for cause in causes])
    verb = "fails" if len(causes) == 1 else "fail"
    return Assessment(
        "inconclusive",
        clip(sum(cause.drop_share for cause in causes)),
        f"{lead} {names} alone {verb}. {causes[0].statement}",
        [Observation(True, cause.statement) for cause in causes],
        missing.format(names=names),
        by_class=True,
    )


def without_a_drop(
    evidence: Evidence, what: str, observations: Sequence[Observation] = (), *, kind: str = ""
) -> Assessment:
    """A hypothesis about a drop in AP50 that is not there, or not shown. Raises NotTestable where labels do
    not decide whether there is one. what: the hypothesis, as in "no drop for object size to explain".
    """
    if not evidence.gap_is_unresolved:
        return ruled_out(
            f"There is no drop on {evidence.real_world} for {what} to explain.", observations, kind=kind
        )
    bounds = evidence.gap_interval
    width = points_interval(bounds.low, bounds.high, bounds.note) if bounds is not None else "no interval"
    raise NotTestable(
        f"Whether there is a drop for {what} to explain is not resolved: {points(evidence.gap or 0.0)}, "
        f"{width}.",
        missing="label more clips, at least 5 in each domain",
        observations=observations,
        kind=kind,
    )


def inconclusive(
    statement: str,
    observations: Sequence[Observation] = (),
    *,
    missing: str,
    score: float | None = None,
    kind: str = "",
) -> Assessment:
    """The hypothesis was measured, and the numbers do not decide; missing names the test that would."""
    return Assessment("inconclusive", score, statement, observations, missing, kind)


def status_from_share(share: float, low: float | None = None, high: float | None = None) -> Status:
    """Status from the share of the drop that a hypothesis explains, with its interval where there is one."""
    if share >= SUPPORTED_SHARE and (low is None or low >= REJECTED_SHARE):
        return "supported"
    if share < REJECTED_SHARE and (high is None or high < SUPPORTED_SHARE):
        return "rejected"
    return "inconclusive"


def status_from_bounds(least: float, most: float) -> Status:
    """Status from the least and the most that a hypothesis explains of the drop."""
    if least >= SUPPORTED_SHARE:
        return "supported"
    return "rejected" if most < REJECTED_SHARE else "inconclusive"


def estimated_drop(evidence: Evidence) -> tuple[float, float] | None:
    """The least and the most that AP drops where AP50 cannot be compared: by the answers of a person, from
    the 95 % interval; by labels of other classes than the in-domain ones, from the interval of their AP50;
    else by the label-free estimate, from its 90 % interval. None without any.
    """
    if evidence.reviewed_drop is not None:
        return evidence.reviewed_drop[1:]
    in_domain = evidence.in_domain_ap50
    own = evidence.intervals.get(evidence.domain or "")
    if own is not None and own.low is not None and own.high is not None and in_domain == in_domain:
        return in_domain - own.high, in_domain - own.low
    estimate = evidence.label_free.get(evidence.domain or "")
    if estimate is None or estimate.low is None or estimate.high is None or in_domain != in_domain:
        return None
    return in_domain - estimate.high, in_domain - estimate.low


def score_without_labels(evidence: Evidence) -> float | None:
    """Score of what would explain all of a drop that cannot be measured; None where AP is as good.

    Half where AP is lower, by clicks or by the label-free estimate, up to the end of its interval: the larger
    part of an explanation, whose cost other causes may share. A quarter where it may be, or nothing says.
    """
    drop = estimated_drop(evidence)
    if drop is None:
        return REJECTED_SHARE
    return SUPPORTED_SHARE if drop[0] > HARMLESS_GAP else REJECTED_SHARE if drop[1] > HARMLESS_GAP else None


def clip(share: float) -> float:
    """A share as a score in [0, 1]."""
    return min(1.0, max(0.0, share))


def has_few_annotations(evidence: Evidence) -> bool:
    """Whether the real-world domain is labelled, with fewer annotations than an AP50 takes."""
    return evidence.annotations is not None and evidence.annotations < MIN_BOXES


def takes_labels(what: str, evidence: Evidence) -> str:
    """That something takes labels, or more of them, as a sentence."""
    if has_few_annotations(evidence):
        return f"{what} takes at least {MIN_BOXES} annotations; {evidence.domain} has {evidence.annotations}."
    return f"{what} takes labels of the same classes on both sides."


def ask_for_labels(evidence: Evidence) -> str:
    """What to label where the real world has too few labels. One recording is not asked for others: a verdict
    about it needs frames of it.
    """
    if evidence.domain is None:
        return "give real-world images: shiftscope report with --real-world SOURCE"
    if evidence.in_domain not in evidence.ap50:
        return (
            f"give in-domain images with labels (--in-domain; AP50 needs at least {MIN_BOXES} annotations), "
            "which any drop is measured against, and run the report again"
        )
    if evidence.domain in evidence.ap50:
        # Labelled well enough: what is missing is something to compare with.
        return (
            "add labelled in-domain images with the classes of the real-world set (20 annotations or more) "
            "and run the report again"
        )
    if has_few_annotations(evidence):
        frames = "frames of this recording" if evidence.is_one_recording else "images from at least 5 clips"
        return (
            f"label more {frames} that show objects ({evidence.domain} has "
            f"{evidence.annotations} of the {MIN_BOXES} annotations that AP50 needs), and run the report again"
        )
    few = f"(AP50 needs at least {MIN_BOXES} annotations)"
    clicks = ""
    if evidence.reviewed_drop is None:
        clicks = (
            f"run shiftscope review --domain {quote(evidence.domain)} (a click on every object in up to 60 "
            "frames, at most five minutes), or "
        )
    if evidence.is_one_recording:
        return (
            f"{clicks}label 25 to 50 frames spread over this recording {few} and run the report again; the "
            "answer then holds for this recording"
        )
    return f"{clicks}label 25 to 50 real-world frames from at least 5 clips {few} and run the report again"
