"""The objects are too small (or too large) at this network input size; the viewpoint and look are fine."""

from __future__ import annotations

import math

from diagnostics.counterfactuals import Recovery
from diagnostics.evidence import NO_LABELS, Clue, Evidence, Hypothesis, clip, judge
from diagnostics.factors import NOTABLE_EFFECT
from diagnostics.wording import fraction, percent

CODE, NAME = "scale", "Object size"


def towards_home(evidence: Evidence, found: Recovery) -> bool:
    """Whether a second look brings the real world's median object size closer to home's.

    Enlarging objects that are no smaller than home's may help for another reason (more detail for an unfamiliar view); as evidence for
    size it counts only where size is what differs.
    """
    factors = evidence.factors.get(evidence.away or "")
    row = factors[factors["name"] == "size_px"] if factors is not None else None
    if row is None or not len(row):
        return True
    ratio = float(row["away"].iloc[0]) / max(float(row["home"].iloc[0]), 1e-9)
    return abs(math.log(max(ratio, 1e-9) * found.size_factor)) < abs(math.log(max(ratio, 1e-9)))


def test(evidence: Evidence) -> Hypothesis:
    """Two independent readings: recall at home re-weighted to the real world's sizes, and a second pass at another input size."""
    if evidence.gap is None or evidence.away is None:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "What size costs cannot be measured without labels out there.",
            missing=NO_LABELS,
        )
    if not evidence.gap_is_real:
        return Hypothesis(
            CODE, NAME, "rejected", 0.0, f"There is no gap for size to explain on {evidence.away}."
        )
    clues: list[Clue] = []
    readings: list[tuple[float, float | None, float | None]] = []
    factors = evidence.factors.get(evidence.away)
    sizes = factors[factors["name"] == "size_px"] if factors is not None else None
    same_size = sizes is not None and len(sizes) == 1 and float(sizes["effect"].iloc[0]) < NOTABLE_EFFECT
    if sizes is not None and len(sizes):
        row = sizes.iloc[0]
        clues.append(
            Clue(
                not same_size,
                f"Median object side: {row['home']:.0f} network pixels at home, {row['away']:.0f} on {evidence.away}.",
            )
        )
    size = evidence.size
    if size is not None and size.share is not None:
        readings.append((size.share, None, None))
        clues.append(
            Clue(
                size.share >= 0.5,
                f"At home, objects of the real world's sizes are found with recall {fraction(size.matched_recall)} (all sizes: {fraction(size.home_recall)}; out there: {fraction(size.away_recall)}): size explains {percent(clip(size.share))} of the fall.",
            )
        )
    elif size is not None:
        clues.append(
            Clue(
                None,
                f"Only {percent(size.support)} of the real world's objects have a size that home has examples of, so sizes cannot be matched.",
            )
        )
    for name, found in evidence.recoveries.items():
        if found.size_factor == 1:
            continue
        how = "in tiles" if name == "tiles" else f"at {name.removeprefix('imgsz ')} px"
        shown = (
            f"Shown {how}, AP50 on {found.images} of its pictures goes from "
            f"{fraction(found.before)} to {fraction(found.after)}: {percent(clip(found.share))} of the gap"
        )
        if towards_home(evidence, found):
            readings.append((found.share, found.low, found.high))
            clues.append(Clue(found.share >= 0.5, f"{shown}."))
        else:
            clues.append(
                Clue(
                    None,
                    f"{shown}; but that takes its objects further from the sizes at home, so size is not what it mends.",
                )
            )
    if not readings:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "Sizes do not overlap and no second pass was possible."
            if size is not None
            else "Neither the objects' sizes nor a second pass are at hand.",
            tuple(clues),
            missing="give the weights, so that the pictures can be shown larger",
        )
    best = max(readings, key=lambda reading: reading[0])
    status = judge(*best)
    if status == "untested" and same_size and best[0] < 0.5:
        # Something else makes another input size help a little; sizes themselves are alike.
        status = "rejected"
    statement = f"Size accounts for at most {percent(clip(best[0]))} of the fall to {evidence.away}."
    missing = "train or predict at the size that helped, on more labelled clips"
    tried = [reading for reading in readings if reading[2] is not None]
    if status == "supported" and tried and best not in tried:
        # Objects of a size are missed for what else comes with that size too; shown at another size, they would be found if size were all.
        furthest = max(tried, key=lambda reading: reading[0])
        if judge(*furthest) == "rejected":
            status = "untested"
            missing = "label objects of that size and look again, or train on them"
            statement += f" But shown at another size, only {percent(clip(furthest[0]))} of it comes back."
    return Hypothesis(
        CODE,
        NAME,
        status,
        clip(best[0]) if status != "untested" else None,
        statement,
        tuple(clues),
        missing if status == "untested" else "",
    )
