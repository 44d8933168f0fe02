"""The hypotheses, one file each: a module with CODE, NAME and `assess(evidence) -> Assessment`, which may
raise `NotTestable`.

A new hypothesis is a new file and an entry in HYPOTHESES.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Literal

from diagnostics.evidence import HARMLESS_GAP, REJECTED_SHARE, Assessment, Evidence, Hypothesis, NotTestable
from diagnostics.hypotheses import (
    domain_shift,
    label_error,
    label_protocol,
    leakage,
    none,
    overfit,
    scale,
    threshold,
    underfit,
)
from diagnostics.hypotheses.probability import right_at
from diagnostics.shift import is_alike

# established: supported, and every other hypothesis that a report can test is ruled out. likely: it leads,
# and at least one other is not ruled out. undecided: nothing measured favours one of them.
Grade = Literal["established", "likely", "undecided"]
# A cause is named without a real drop only where it is right more often than not.
EVEN = 0.5
# Only a person who looks at the labels can rule these out: they do not keep a verdict from being established.
NEEDS_REVIEW = ("label_error",)

# In this order: is the in-domain score sound, was it learned, is it only the threshold or the size, are the
# labels to blame; what remains is the shift.
HYPOTHESES = (none, leakage, underfit, overfit, threshold, scale, label_protocol, label_error, domain_shift)


@dataclass(frozen=True)
class Verdict:
    """All hypotheses after assessment.

    primary: code of the supported hypothesis with the highest score; None when none is supported
    hypotheses: supported ones first, ruled-out ones last
    grade: how sure, see `Grade`
    leading: code of the primary hypothesis or, where none is supported, of the likely one; None when
        undecided
    rival: code of the hypothesis that comes second, where it is not ruled out
    """

    primary: str | None
    hypotheses: tuple[Hypothesis, ...]
    grade: Grade = "undecided"
    leading: str | None = None
    rival: str | None = None

    @property
    def probability(self) -> float | None:
        """Probability that the leading hypothesis is the cause, see `probability.right_at`; None where
        undecided, and where its score was not calibrated: without labels, from why classes lose, and from
        bounds.
        """
        leading = self.named(self.leading) if self.leading is not None else None
        if leading is None or leading.score is None:
            return None
        calibrated = leading.status != "untested" and not leading.by_class and not leading.is_bound
        return right_at(leading.score) if calibrated else None

    def named(self, code: str) -> Hypothesis:
        """The hypothesis with this code. Raises KeyError when there is none."""
        for hypothesis in self.hypotheses:
            if hypothesis.code == code:
                return hypothesis
        raise KeyError(code)


def assess(module: ModuleType, evidence: Evidence) -> Hypothesis:
    """Assess one hypothesis; one that cannot be tested says what is missing."""
    try:
        result: Assessment = module.assess(evidence)
    except NotTestable as reason:
        result = Assessment(
            "untested", reason.score, reason.statement, reason.observations, reason.missing, reason.kind
        )
    return Hypothesis(
        module.CODE,
        f"{module.NAME} ({result.kind})" if result.kind else module.NAME,
        result.status,
        result.score,
        result.statement,
        tuple(result.observations),
        result.missing,
        result.kind,
        result.by_class,
        result.is_bound,
    )


def _withdraw_all_clear(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    """Rule out "no failure" beside a supported cause: equal scores on both domains can both be wrong."""
    causes = [h.name for h in hypotheses if h.status == "supported" and h.code != none.CODE]
    if not causes:
        return hypotheses
    return [
        replace(
            h,
            status="rejected",
            score=0.0,
            statement=f"In-domain and real-world scores are alike, but {', '.join(causes)} is supported.",
        )
        if h.code == none.CODE and h.status == "supported"
        else h
        for h in hypotheses
    ]


def _balance(hypothesis: Hypothesis) -> int:
    """Observations for a hypothesis minus observations against it."""
    return sum(
        1 if observation.favours else -1
        for observation in hypothesis.observations
        if observation.favours is not None
    )


def diagnose(evidence: Evidence) -> Verdict:
    """Assess every hypothesis and rank them.

    Parameters
    ----------
    evidence : Evidence
        What was measured; parts that were not are None or empty.

    Returns
    -------
    Verdict
        Supported hypotheses first, by score, then the undecided ones (inconclusive and untested), by the
        balance of their
        observations, then the ruled-out ones.
    """
    hypotheses = _withdraw_all_clear([assess(module, evidence) for module in HYPOTHESES])
    place = {"supported": 0, "inconclusive": 1, "untested": 1, "rejected": 2}
    # Whether there is a drop comes before any cause of it.
    ranked = sorted(
        hypotheses,
        key=lambda h: (place[h.status], -(h.score or 0.0), h.code != none.CODE, -_balance(h)),
    )
    primary = ranked[0].code if ranked[0].status == "supported" else None
    leading = primary or _likely(ranked, evidence)
    others = [h for h in ranked if h.code != leading and h.status != "rejected"]
    rival = next((h.code for h in sorted(others, key=lambda h: -(h.score or 0.0)) if h.score), None)
    open_questions = [h for h in others if h.code not in NEEDS_REVIEW]
    # What names its own deciding test is not established, and what is ruled out only because no drop was
    # shown rules nothing out.
    unsure = primary == none.CODE and bool(ranked[0].missing)
    established = primary is not None and not open_questions and not unsure
    grade: Grade = "established" if established else "undecided" if leading is None else "likely"
    return Verdict(primary, tuple(ranked), grade, leading, rival)


def _likely(ranked: Sequence[Hypothesis], evidence: Evidence) -> str | None:
    """Code of the undecided hypothesis with the highest score, where that is worth naming.

    A drop that is shown has a cause, and a quarter of an explanation is the best one there is, provided that
    the images could be compared: where they could not, as without weights, what was not tested is as good an
    explanation, unless light, colours and edges are those of the in-domain images; a shift that is seen in
    the images alone, and labels where nothing else is seen, lead where they are the best one. Without a drop
    that is shown, what was measured must be right more often than not, and what was not measured is not named
    where AP50 is estimated as good as in-domain.
    """
    best = max((h for h in ranked if h.status != "rejected"), key=lambda h: h.score or 0.0, default=None)
    if best is None or (best.score or 0.0) < REJECTED_SHARE:
        return None
    # A class that fails alone is a drop that is shown, though the mean hides it.
    if best.by_class:
        return best.code
    if best.status == "untested":
        doubtful = best.code != none.CODE and not evidence.gap_is_real and _estimated_harmless(evidence)
        return None if doubtful else best.code
    if evidence.gap_is_real:
        shift = next(h for h in ranked if h.code == domain_shift.CODE)
        compared = shift.status != "untested" or is_alike(
            evidence.shift_descriptors.get(evidence.domain or "")
        )
        return best.code if compared else None
    return best.code if (right_at(best.score or 0.0) or 0.0) >= EVEN else None


def _estimated_harmless(evidence: Evidence) -> bool:
    """Whether AP50 estimated without labels is as good as in-domain."""
    estimate = evidence.label_free.get(evidence.domain or "")
    if estimate is None or estimate.ap50 is None or evidence.in_domain_ap50 != evidence.in_domain_ap50:
        return False
    return evidence.in_domain_ap50 - estimate.ap50 <= HARMLESS_GAP
