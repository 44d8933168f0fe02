"""Section "Hypotheses": what each intervention recovers, and the tests that could not be run."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from diagnostics.contributions import Contribution, DropDecomposition
from diagnostics.wording import count, fraction, points, signed_points
from reports.page import figures
from reports.pipeline.interventions import SURROUNDINGS
from reports.pipeline.run import Result

# Smaller gains are noise of a hundred images.
NOTABLE = 0.02


def sentence(decomposition: DropDecomposition) -> str:
    """What the interventions recover, and what remains."""
    contributions = decomposition.contributions
    helped = [c for c in contributions if c.recovered >= NOTABLE]
    hurt = [c for c in contributions if not c.applied and c.alone <= -NOTABLE]
    words = (
        f"On {count(decomposition.images, 'real-world image')}, {decomposition.measure} is "
        f"{fraction(decomposition.start)}, "
        f"in-domain {fraction(decomposition.in_domain)}. "
    )
    if helped:
        together = " together" if len(helped) > 1 else ""
        words += f"Recovered without retraining{together}: {', '.join(map(_gain_words, helped))}. "
    else:
        words += f"No intervention recovers {points(NOTABLE)} or more. "
    if hurt:
        words += f"Worse with: {', '.join(f'{c.name} ({points(-c.alone)} lost)' for c in hurt)}. "
    if decomposition.in_domain <= decomposition.start or decomposition.left <= NOTABLE:
        return words + "No drop remains for new data to close."
    return (
        words
        + f"No combination of them recovers the other {points(decomposition.left)}: new data or corrected "
        "labels are "
        "needed."
    )


def _gain_words(contribution: Contribution) -> str:
    """A gain with its interval, and a remark where it may be chance."""
    gain = f"{contribution.name} {points(contribution.recovered)}"
    if contribution.low is None or contribution.high is None:
        return gain
    chance = "" if contribution.low > 0 else ", may be chance"
    return f"{gain} [{round(100 * contribution.low) + 0}, {round(100 * contribution.high) + 0}{chance}]"


def contribution_sections(result: Result) -> list[dict[str, Any]]:
    """One entry per measure: sentence, rows, and a waterfall figure."""
    sections = []
    for decomposition in result.findings.evidence.decompositions:
        applied = [c for c in decomposition.contributions if c.applied]
        frame = pd.DataFrame({"name": [c.name for c in applied], "recovered": [c.recovered for c in applied]})
        alt = (
            f"{decomposition.measure}, real-world to in-domain: what each intervention recovers and what "
            f"remains"
        )
        levels = (decomposition.start, decomposition.end, decomposition.in_domain)
        sections.append(
            {
                "measure": decomposition.measure,
                "sentence": sentence(decomposition),
                "rows": [_contribution_row(c) for c in decomposition.contributions],
                "figure": Markup(figures.decomposition(alt, decomposition.measure, frame, *levels)),
            }
        )
    return sections


def left_early(result: Result) -> str:
    """What was combined, and what was tried on a part of the images only."""
    evidence = result.findings.evidence
    whole = max((d.images for d in evidence.decompositions), default=0)
    left = [
        f"{name} ({signed_points(found.after - found.before)} points on {count(found.images, 'image')})"
        for name, found in evidence.recoveries.items()
        if name != SURROUNDINGS and found.images < whole
    ]
    combined = {c.name for d in evidence.decompositions for c in d.contributions}
    controls = [
        f"{name} ({signed_points(found.after - found.before)} points)"
        for name, found in evidence.recoveries.items()
        if name not in combined
        and name != SURROUNDINGS
        and found.images >= whole
        and found.after - found.before >= NOTABLE
    ]
    words = "Every combination of the interventions in these tables was tried."
    if left:
        words += f" Tried on a part of the images only, and not combined: {', '.join(left)}."
    if controls:
        words += (
            " Helps as well, though it undoes no difference between the domains, and is not combined: "
            f"{', '.join(controls)}."
        )
    return words


def _contribution_row(contribution: Contribution) -> dict[str, str]:
    """One intervention in points."""
    low, high = contribution.low, contribution.high
    return {
        "name": contribution.name,
        "recovered": signed_points(contribution.recovered, 1) if contribution.applied else "not applied",
        "interval": "–"
        if low is None or high is None
        else f"[{signed_points(low, 1)}, {signed_points(high, 1)}]",
        "alone": signed_points(contribution.alone, 1),
    }


def not_run(result: Result) -> list[dict[str, str]]:
    """Every test that this report could not run, with what it needs."""
    findings, evidence = result.findings, result.findings.evidence
    missing: list[tuple[str, str]] = []
    if result.run is None:
        missing += [
            ("shift of the detector's own embeddings", "give the weights"),
            ("interventions (image size, tiles, colours, foreshortening, surroundings)", "give the weights"),
            (
                "AP50 on training images, and leakage between training and held-out ones",
                "give the weights and a data.yaml with training images",
            ),
            ("ranking what to add next", "give the weights"),
        ]
    elif findings.training is None:
        missing.append(
            ("leakage, and AP50 on training images", "name training images in the in-domain data.yaml")
        )
    if result.run is None or result.run.history.empty:
        missing.append(("the training curve", "give --run, or --history results.csv"))
    if evidence.real_world is None and findings.real_world:
        where = "spread over this recording" if evidence.is_one_recording else "from at least 5 clips"
        missing.append(("AP, thresholds and errors on real-world images", f"label 25 to 50 frames {where}"))
    supplied = dict(result.options.predictions)
    if result.run is not None and supplied:
        missing.append(
            (f"interventions on {', '.join(supplied)}", "leave out --predictions and use the weights")
        )
    abstained = [estimate.domain for estimate in evidence.label_free.values() if estimate.abstained]
    if abstained:
        missing.append((f"AP50 without labels on {', '.join(abstained)}", "the reason is given there"))
    missing += [(left_out, "--effort thorough") for left_out in result.left_out]
    return [{"test": test, "missing": needed} for test, needed in missing]
