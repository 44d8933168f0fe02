"""Words and rows about what was tried: the ladder of corrections, and the tests that could not be run."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from diagnostics.contributions import Ladder, Rung
from diagnostics.wording import count, fraction, points
from reports.page import figures
from reports.pipeline.run import Result

# Ladders are told in this many words at most: smaller gains are noise of a hundred pictures.
NOTABLE = 0.02


def sentence(ladder: Ladder) -> str:
    """What the corrections win back, and what is left."""
    helped = [r for r in ladder.rungs if r.won >= NOTABLE]
    fall = ladder.home - ladder.start
    words = f"On {count(ladder.images, 'picture')} of it, {ladder.measure} is {fraction(ladder.start)} against {fraction(ladder.home)} in-domain. "
    if helped:
        together = " together" if len(helped) > 1 else ""
        words += f"Won back without retraining{together}: {', '.join(gain_words(r) for r in helped)}. "
    else:
        words += "None of the corrections that need no retraining wins back two points. "
    hurt = [r for r in ladder.rungs if not r.applied and r.alone <= -NOTABLE]
    if hurt:
        words += f"Making it worse: {', '.join(f'{r.name} {points(-r.alone)}' for r in hurt)}. "
    if fall <= 0 or ladder.left <= NOTABLE:
        return words + "That leaves nothing for new data to mend."
    return (
        words
        + f"{points(ladder.left)} are left that none of these wins back: that takes labelled data from there, or a look at the labels."
    )


def gain_words(rung: Rung) -> str:
    """A gain with its interval, or that it may be chance."""
    if rung.low is None or rung.high is None:
        return f"{rung.name} {points(rung.won)}"
    sure = "" if rung.low > 0 else ", which may be chance"
    return f"{rung.name} {points(rung.won)} (95 %: {100 * rung.low:.0f} to {100 * rung.high:.0f}{sure})"


def ladders(result: Result) -> list[dict[str, Any]]:
    """One entry a measure: sentence, rows, and the steps as a figure."""
    entries = []
    for ladder in result.findings.evidence.ladders:
        applied = [r for r in ladder.rungs if r.applied]
        frame = pd.DataFrame({"name": [r.name for r in applied], "won": [r.won for r in applied]})
        alt = f"{ladder.measure} from out there to in-domain: what each correction wins back and what is left"
        entries.append(
            {
                "measure": ladder.measure,
                "sentence": sentence(ladder),
                "rows": [
                    {
                        "name": r.name,
                        "won": f"{100 * r.won:+.1f}" if r.applied else "not applied",
                        "interval": "–"
                        if r.low is None or r.high is None
                        else f"{100 * r.low:+.1f} to {100 * r.high:+.1f}",
                        "alone": f"{100 * r.alone:+.1f}",
                    }
                    for r in ladder.rungs
                ],
                "figure": Markup(
                    figures.ladder(alt, ladder.measure, frame, ladder.start, ladder.end, ladder.home)
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
            ("second looks (image size, tiles, colours, foreshortening)", "give the weights"),
            (
                "whether it has learned its training pictures, and leakage between training and held-out ones",
                "give the weights and a data.yaml with training pictures",
            ),
            ("ranking what to add next", "give the weights"),
        ]
    elif findings.training is None:
        missing.append(
            (
                "leakage, and what it does on its training pictures",
                "name training pictures in the in-domain data.yaml",
            )
        )
    if result.run is None or result.run.history.empty:
        missing.append(("the learning curve", "give --run, or --history results.csv"))
    if evidence.away is None and findings.away:
        missing.append(
            ("AP, thresholds and errors in the real world", "label 25 to 50 frames from at least 5 clips")
        )
    supplied = dict(result.request.predictions)
    if result.run is not None and supplied:
        missing.append(
            (f"second looks at {', '.join(supplied)}", "leave out --predictions to let the weights look")
        )
    unread = [e.domain for e in evidence.label_free.values() if e.abstained]
    if unread:
        missing.append((f"AP50 without labels on {', '.join(unread)}", "see there for the reason"))
    return [{"test": test, "missing": cure} for test, cure in missing]
