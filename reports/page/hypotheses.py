"""Section "Hypotheses": one row each, with its state, its statement and the evidence."""

from __future__ import annotations

from typing import Any

from diagnostics.evidence import Hypothesis
from diagnostics.hypotheses import Verdict
from diagnostics.wording import STATUS_WORDS, percent


def hypothesis_rows(verdict: Verdict, *, leads: bool) -> list[dict[str, Any]]:
    """The rows of a verdict; leads: the one that it names is open. What decides several is told once."""
    rows, told = [], {"": ""}
    for hypothesis in verdict.hypotheses:
        row = hypothesis_row(hypothesis, primary=hypothesis.code == verdict.leading)
        row["primary"] = row["primary"] and leads
        if hypothesis.missing in told:
            row["missing"] = told[hypothesis.missing]
        else:
            told[hypothesis.missing] = f"the same as for “{hypothesis.name}”"
        rows.append(row)
    return rows


def hypothesis_row(hypothesis: Hypothesis, *, primary: bool) -> dict[str, Any]:
    """One row; primary: it is the verdict's, which is likely at most where its test is open."""
    observations = hypothesis.observations
    word = STATUS_WORDS[hypothesis.status]
    return {
        "code": hypothesis.code,
        "name": hypothesis.name,
        "status": hypothesis.status,
        "word": f"likely, {word}" if primary and hypothesis.status in ("inconclusive", "untested") else word,
        "statement": hypothesis.statement,
        "for": [observation.text for observation in observations if observation.favours is True],
        "against": [observation.text for observation in observations if observation.favours is False],
        "context": [observation.text for observation in observations if observation.favours is None],
        "missing": hypothesis.missing,
        "share": _share_words(hypothesis),
        "primary": primary,
    }


def _share_words(hypothesis: Hypothesis) -> str:
    """What the score of a supported hypothesis means: a measured share or, for a shift, what no other cause
    explains. Nothing where that is only bounded, as its statement says.
    """
    if hypothesis.score is None or hypothesis.status != "supported" or hypothesis.code == "none":
        return ""
    if hypothesis.is_bound:
        return ""
    if hypothesis.code == "domain_shift":
        share = percent(hypothesis.score)
        return f"The remaining {share} may include a different definition of what counts as an object."
    return f"Explains {percent(hypothesis.score)} of the drop."
