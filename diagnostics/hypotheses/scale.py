"""The objects are too small (or too large) at this network input size; the viewpoint and look are fine."""

from __future__ import annotations

import math

from diagnostics.counterfactuals import Recovery
from diagnostics.evidence import NO_LABELS, Evidence, Hypothesis, Observation, clip, status_from_share
from diagnostics.factors import NOTABLE_EFFECT
from diagnostics.wording import fraction, percent

CODE, NAME = "scale", "Object size"


def towards_in_domain(evidence: Evidence, found: Recovery) -> bool:
    """Whether an intervention brings the real world's median object size closer to the in-domain.

    Enlarging objects that are no smaller than the in-domain may help for another reason (more detail for an unfamiliar view); as evidence for
    size it counts only where size is what differs.
    """
    factors = evidence.factors.get(evidence.real_world or "")
    row = factors[factors["name"] == "size_px"] if factors is not None else None
    if row is None or not len(row):
        return True
    ratio = float(row["real_world"].iloc[0]) / max(float(row["in_domain"].iloc[0]), 1e-9)
    return abs(math.log(max(ratio, 1e-9) * found.size_factor)) < abs(math.log(max(ratio, 1e-9)))


def assess(evidence: Evidence) -> Hypothesis:
    """Two independent readings: recall in-domain re-weighted to the real world's sizes, and a second pass at another input size."""
    if evidence.gap is None or evidence.real_world is None:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "What size costs cannot be measured without labels in the real world.",
            missing=NO_LABELS,
        )
    if not evidence.gap_is_real:
        return Hypothesis(
            CODE, NAME, "rejected", 0.0, f"There is no gap for size to explain on {evidence.real_world}."
        )
    observations: list[Observation] = []
    estimates: list[tuple[float, float | None, float | None]] = []
    factors = evidence.factors.get(evidence.real_world)
    sizes = factors[factors["name"] == "size_px"] if factors is not None else None
    same_size = sizes is not None and len(sizes) == 1 and float(sizes["effect"].iloc[0]) < NOTABLE_EFFECT
    if sizes is not None and len(sizes):
        row = sizes.iloc[0]
        observations.append(
            Observation(
                not same_size,
                f"Median object side: {row['in_domain']:.0f} network pixels in-domain, {row['real_world']:.0f} on {evidence.real_world}.",
            )
        )
    size = evidence.size
    if size is not None and size.share is not None:
        estimates.append((size.share, None, None))
        observations.append(
            Observation(
                size.share >= 0.5,
                f"In-domain, objects of the real world's sizes are found with recall {fraction(size.matched_recall)} (all sizes: {fraction(size.in_domain_recall)}; in the real world: {fraction(size.real_world_recall)}): size explains {percent(clip(size.share))} of the fall.",
            )
        )
    elif size is not None:
        observations.append(
            Observation(
                None,
                f"Only {percent(size.support)} of the real world's objects have a size that home has examples of, so sizes cannot be matched.",
            )
        )
    for name, found in evidence.recoveries.items():
        if found.size_factor == 1:
            continue
        how = "in tiles" if name == "tiles" else f"at {name.removeprefix('imgsz ')} px"
        shown = (
            f"Shown {how}, AP50 on {found.images} of its images goes from "
            f"{fraction(found.before)} to {fraction(found.after)}: {percent(clip(found.share))} of the gap"
        )
        if towards_in_domain(evidence, found):
            estimates.append((found.share, found.low, found.high))
            observations.append(Observation(found.share >= 0.5, f"{shown}."))
        else:
            observations.append(
                Observation(
                    None,
                    f"{shown}; but that takes its objects further from the sizes in-domain, so size is not what it mends.",
                )
            )
    if not estimates:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "Sizes do not overlap and no second pass was possible."
            if size is not None
            else "Neither the objects' sizes nor a second pass are at hand.",
            tuple(observations),
            missing="give the weights, so that the images can be shown larger",
        )
    best = max(estimates, key=lambda reading: reading[0])
    status = status_from_share(*best)
    if status == "untested" and same_size and best[0] < 0.5:
        # Something else makes another input size help a little; sizes themselves are alike.
        status = "rejected"
    statement = f"Size accounts for at most {percent(clip(best[0]))} of the fall to {evidence.real_world}."
    missing = "train or predict at the size that helped, on more labelled clips"
    tried = [reading for reading in estimates if reading[2] is not None]
    if status == "supported" and tried and best not in tried:
        # Objects of a size are missed for what else comes with that size too; shown at another size, they would be found if size were all.
        furthest = max(tried, key=lambda reading: reading[0])
        if status_from_share(*furthest) == "rejected":
            status = "untested"
            missing = "label objects of that size and look again, or train on them"
            statement += f" But shown at another size, only {percent(clip(furthest[0]))} of it comes back."
    return Hypothesis(
        CODE,
        NAME,
        status,
        clip(best[0]) if status != "untested" else None,
        statement,
        tuple(observations),
        missing if status == "untested" else "",
    )
