"""Words and rows about what was tried: the ladder of corrections, and the tests that could not be run."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from diagnostics.contributions import Contribution, DropDecomposition
from diagnostics.wording import count, fraction, points
from reports.page import figures
from reports.pipeline.run import Result

# Ladders are told in this many words at most: smaller gains are noise of a hundred images.
NOTABLE = 0.02


def sentence(decomposition: DropDecomposition) -> str:
    """What the corrections recover, and what is left."""
    helped = [r for r in decomposition.contributions if r.recovered >= NOTABLE]
    fall = decomposition.in_domain - decomposition.start
    words = f"On {count(decomposition.images, 'image')} of it, {decomposition.measure} is {fraction(decomposition.start)} against {fraction(decomposition.in_domain)} in-domain. "
    if helped:
        together = " together" if len(helped) > 1 else ""
        words += f"Won back without retraining{together}: {', '.join(_gain_words(r) for r in helped)}. "
    else:
        words += "None of the corrections that need no retraining recovers two points. "
    hurt = [r for r in decomposition.contributions if not r.applied and r.alone <= -NOTABLE]
    if hurt:
        words += f"Making it worse: {', '.join(f'{r.name} {points(-r.alone)}' for r in hurt)}. "
    if fall <= 0 or decomposition.left <= NOTABLE:
        return words + "That leaves nothing for new data to mend."
    return (
        words
        + f"{points(decomposition.left)} are left that none of these recovers: that takes labelled data from there, or a look at the labels."
    )


def _gain_words(contribution: Contribution) -> str:
    """A gain with its interval, or that it may be chance."""
    if contribution.low is None or contribution.high is None:
        return f"{contribution.name} {points(contribution.recovered)}"
    sure = "" if contribution.low > 0 else ", which may be chance"
    return f"{contribution.name} {points(contribution.recovered)} (95 %: {100 * contribution.low:.0f} to {100 * contribution.high:.0f}{sure})"


def decompositions(result: Result) -> list[dict[str, Any]]:
    """One entry a measure: sentence, rows, and the steps as a figure."""
    entries = []
    for decomposition in result.findings.evidence.decompositions:
        applied = [r for r in decomposition.contributions if r.applied]
        frame = pd.DataFrame({"name": [r.name for r in applied], "recovered": [r.recovered for r in applied]})
        alt = f"{decomposition.measure} from in the real world to in-domain: what each correction recovers and what is left"
        entries.append(
            {
                "measure": decomposition.measure,
                "sentence": sentence(decomposition),
                "rows": [
                    {
                        "name": r.name,
                        "recovered": f"{100 * r.recovered:+.1f}" if r.applied else "not applied",
                        "interval": "–"
                        if r.low is None or r.high is None
                        else f"{100 * r.low:+.1f} to {100 * r.high:+.1f}",
                        "alone": f"{100 * r.alone:+.1f}",
                    }
                    for r in decomposition.contributions
                ],
                "figure": Markup(
                    figures.decomposition(
                        alt,
                        decomposition.measure,
                        frame,
                        decomposition.start,
                        decomposition.end,
                        decomposition.in_domain,
                    )
                ),
            }
        )
    return entries


def not_run(result: Result) -> list[dict[str, str]]:
    """Every test that this report could not run, with what it takes."""
    findings = result.findings
    evidence = findings.evidence
    missing: list[tuple[str, str]] = []
    if result.run is None:
        missing += [
            ("shift in the detector's own features", "give the weights"),
            ("interventions (image size, tiles, colours, foreshortening)", "give the weights"),
            (
                "whether it has learned its training images, and leakage between training and held-out ones",
                "give the weights and a data.yaml with training images",
            ),
            ("ranking what to add next", "give the weights"),
        ]
    elif findings.training is None:
        missing.append(
            (
                "leakage, and what it does on its training images",
                "name training images in the in-domain data.yaml",
            )
        )
    if result.run is None or result.run.history.empty:
        missing.append(("the learning curve", "give --run, or --history results.csv"))
    if evidence.real_world is None and findings.real_world:
        missing.append(
            ("AP, thresholds and errors in the real world", "label 25 to 50 frames from at least 5 clips")
        )
    supplied = dict(result.options.predictions)
    if result.run is not None and supplied:
        missing.append(
            (f"interventions at {', '.join(supplied)}", "leave out --predictions to let the weights look")
        )
    unread = [e.domain for e in evidence.label_free.values() if e.abstained]
    if unread:
        missing.append((f"AP50 without labels on {', '.join(unread)}", "see there for the reason"))
    return [{"test": test, "missing": cure} for test, cure in missing]
