"""Section "Domain shift": videos over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from diagnostics.findings import Findings
from diagnostics.label_free import SHOWN
from diagnostics.timeline import CUT_BITS, MIN_SHOWN, Steadiness
from diagnostics.wording import count, fraction, percent
from reports.page import figures

# Clips drawn and described; tables/ has all.
MAX_CLIPS = 3
# The seconds named of a clip, those furthest from training, at least so many seconds apart.
MOMENTS, SECONDS_APART = 3, 2.0
MAX_SECONDS_LISTED = 6


def videos(findings: Findings) -> list[dict[str, Any]]:
    """Every domain with a time axis: a sentence for its first clips, whether detections persist, and a
    figure.
    """
    steadiness = {result.domain: result for result in findings.steadiness}
    entries = []
    for domain, frames in findings.timeline.groupby("domain", sort=False):
        clips = [(str(name), part) for name, part in frames.groupby("group", sort=False) if len(part) > 2]
        if not clips:
            continue
        shown = dict(clips[:MAX_CLIPS])
        alt = f"Distance of each second of {domain} from the training images, and its highest confidence"
        entries.append(
            {
                "domain": domain,
                "clips": [(name, clip_words(part)) for name, part in shown.items()],
                "steady": _steadiness_words(steadiness[domain]) if domain in steadiness else "",
                "figure": Markup(figures.timeline(alt, shown)),
            }
        )
    return entries


def clip_words(clip: pd.DataFrame) -> str:
    """One sentence about a clip."""
    cuts = clip.loc[clip["cut"], "seconds"]
    if clip["change"].median() > CUT_BITS / 2:
        words = "the camera moves too far between two samples to detect scene cuts"
    else:
        words = "no scene cut" if cuts.empty else f"{count(len(cuts), 'scene cut')} ({_seconds(cuts)})"
    unlike = _furthest_seconds(clip)
    if unlike:
        outside = float((clip["novelty"] > 1).mean())
        words += f"; furthest from the training images at {_seconds(pd.Series(unlike))}"
        words += f"; {percent(outside)} of its frames lie outside the in-domain range"
    return words + "."


def _furthest_seconds(clip: pd.DataFrame) -> list[float]:
    """The seconds furthest from the training images, SECONDS_APART from each other."""
    seconds: list[float] = []
    for row in clip.sort_values("novelty", ascending=False, kind="stable").itertuples():
        if np.isfinite(row.novelty) and all(abs(row.seconds - s) >= SECONDS_APART for s in seconds):
            seconds.append(float(row.seconds))
        if len(seconds) == MOMENTS:
            break
    return seconds


def _seconds(values: pd.Series) -> str:
    """Such as "3.5, 8.0 and 11.5 s"; long lists are cut."""
    texts = [f"{value:.1f}" for value in values.head(MAX_SECONDS_LISTED)]
    text = texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
    return f"{text} s" + (" ..." if len(values) > len(texts) else "")


def _steadiness_words(result: Steadiness) -> str:
    """Whether detections persist from frame to frame."""
    detections = f"{count(result.shown, 'detection')} at confidence {fraction(SHOWN)}"
    if result.gone is None or result.blinked is None or result.fragments is None:
        return (
            f"{detections} in neighbouring frames: too few to measure whether they persist ({MIN_SHOWN} are "
            f"needed)."
        )
    return (
        f"Of {detections}, {percent(result.gone)} are gone in the next frame and {percent(result.blinked)} "
        f"are back soon "
        f"after; a track breaks into {result.fragments:.1f} pieces on average."
    )
