"""The hypotheses, one file each. A hypothesis is a module with `test(evidence) -> Hypothesis`; adding one is adding a file to this list."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diagnostics.evidence import Evidence, Hypothesis
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

# Order of questioning: is the score in-domain honest, was it learned, is it only the threshold or the size, are the labels to blame,
# and what is left is the shift.
HYPOTHESES = (none, leakage, underfit, overfit, threshold, scale, label_protocol, label_error, domain_shift)


@dataclass(frozen=True)
class Verdict:
    """primary: code of the supported hypothesis with the highest score, None when nothing is supported ("cannot tell")."""

    primary: str | None
    hypotheses: tuple[Hypothesis, ...]

    def named(self, code: str) -> Hypothesis:
        """The hypothesis with a code. Raises KeyError when there is none."""
        for hypothesis in self.hypotheses:
            if hypothesis.code == code:
                return hypothesis
        raise KeyError(code)


def _withdraw_all_clear(answers: list[Hypothesis]) -> list[Hypothesis]:
    """The all-clear cannot stand beside a supported cause: a detector may do as well in the real world as in-domain, and yet be wrong in-domain."""
    others = [h.name for h in answers if h.status == "supported" and h.code != none.CODE]
    if not others:
        return answers
    return [
        replace(
            h,
            status="rejected",
            score=0.0,
            statement=f"Home and the real world score alike, but that is no all-clear: {', '.join(others)} is supported.",
        )
        if h.code == none.CODE and h.status == "supported"
        else h
        for h in answers
    ]


def _balance(hypothesis: Hypothesis) -> int:
    """Clues for a hypothesis minus clues against it."""
    return sum(
        1 if observation.favours else -1
        for observation in hypothesis.observations
        if observation.favours is not None
    )


def diagnose(evidence: Evidence) -> Verdict:
    """Ask every hypothesis; supported ones come first, by score, then what is open, then what is ruled out.

    Among the open ones, which have no score, those with more clues for them than against them come first.
    """
    answers = _withdraw_all_clear([hypothesis.assess(evidence) for hypothesis in HYPOTHESES])
    place = {"supported": 0, "untested": 1, "rejected": 2}
    ordered = sorted(answers, key=lambda h: (place[h.status], -(h.score or 0.0), -_balance(h)))
    primary = ordered[0].code if ordered[0].status == "supported" else None
    return Verdict(primary, tuple(ordered))
