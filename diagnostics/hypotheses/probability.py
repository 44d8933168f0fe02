"""How likely the leading hypothesis is right: its score, calibrated on real photographs whose cause is known.

A score is a share of the failure, not a probability. On the rows of benchmarks/photographs.csv (causes
planted into photographs, and real pairs of domains) a logistic curve through the scores gives the share of
verdicts that were right. `python -m benchmarks.prove_photographs` fits it and measures how far it is off on
detectors that it was not fitted on; a test holds these two numbers to the fit.
"""

from __future__ import annotations

from math import exp

INTERCEPT, SLOPE = -4.7, 8.35
# The lowest score of those rows: below it, nothing is known. And no more is claimed than a few dozen rows can
# show. CASES is their number.
CASES = 54
LOWEST, HIGHEST = 0.52, 0.95


def right_at(score: float) -> float | None:
    """Probability that a leading hypothesis with this score is the cause; None below the scores that were
    seen.
    """
    if score < LOWEST:
        return None
    return min(HIGHEST, 1 / (1 + exp(-(INTERCEPT + SLOPE * score))))
