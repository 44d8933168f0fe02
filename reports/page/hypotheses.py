"""Hypotheses: one row each."""

from __future__ import annotations

from typing import Any

from diagnostics.evidence import Hypothesis
from diagnostics.wording import percent

STATUS_WORDS = {"supported": "supported", "rejected": "ruled out", "untested": "open"}


def hypothesis_row(hypothesis: Hypothesis, primary: bool) -> dict[str, Any]:
    """One row of the line-up."""
    return {
        "code": hypothesis.code,
        "name": hypothesis.name,
        "status": hypothesis.status,
        "word": STATUS_WORDS[hypothesis.status],
        "statement": hypothesis.statement,
        "for": [c.text for c in hypothesis.observations if c.favours is True],
        "against": [c.text for c in hypothesis.observations if c.favours is False],
        "context": [c.text for c in hypothesis.observations if c.favours is None],
        "missing": hypothesis.missing,
        "share": _share_words(hypothesis),
        "primary": primary,
    }


def _share_words(hypothesis: Hypothesis) -> str:
    """What a supported hypothesis's score means: a share measured, or, for a shift, what nothing else explains."""
    if hypothesis.score is None or hypothesis.status != "supported" or hypothesis.code == "none":
        return ""
    if hypothesis.code == "domain_shift":
        return f"{percent(hypothesis.score)} of the failure is explained by no other hypothesis that could be measured; a different idea of what counts as an object would hide in it too."
    return f"Accounts for {percent(hypothesis.score)} of the failure."
