"""Object size: the objects are too small (or too large) at this network input size; viewpoint and appearance
are fine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from diagnostics.counterfactuals import Recovery
from diagnostics.evidence import (
    HARMLESS_GAP,
    REJECTED_SHARE,
    SUPPORTED_SHARE,
    Assessment,
    Evidence,
    NotTestable,
    Observation,
    ask_for_labels,
    clip,
    score_without_labels,
    status_from_share,
    takes_labels,
    without_a_drop,
)
from diagnostics.factors import NOTABLE_EFFECT
from diagnostics.hypotheses.underfit import unlearned
from diagnostics.resized import is_worth_it
from diagnostics.wording import at_most, fraction, percent

CODE, NAME = "scale", "Object size"


@dataclass(frozen=True)
class Share:
    """A measured share of the drop that size explains.

    share: as a fraction of the drop
    low, high: its 95 % interval; None where there is none
    is_bound: it is re-weighted rather than measured by an intervention: what size explains at most, about
    """

    share: float
    low: float | None = None
    high: float | None = None
    is_bound: bool = False

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the most that size explains, in [0, 1]."""
        most = clip(self.share)
        return (0.0 if self.is_bound else most), most


def _brings_sizes_closer(evidence: Evidence, recovery: Recovery) -> bool:
    """Whether an intervention brings the median real-world object size closer to the in-domain one.

    Enlarging objects that are no smaller than in-domain may help for another reason (more detail for an
    unfamiliar view); it
    counts as evidence for size only where size is what differs.
    """
    sizes = _size_factor(evidence)
    if sizes is None:
        return True
    ratio = float(sizes["real_world"]) / max(float(sizes["in_domain"]), 1e-9)
    return abs(math.log(max(ratio, 1e-9) * recovery.size_factor)) < abs(math.log(max(ratio, 1e-9)))


def assess(evidence: Evidence) -> Assessment:
    """Two independent measurements: in-domain recall re-weighted to the real-world sizes, and inference at
    another input size.
    """
    if evidence.gap is None or evidence.real_world is None:
        raise _without_labels(evidence)
    if not evidence.gap_is_real:
        return without_a_drop(evidence, "size")
    observations, shares = _by_standardisation(evidence)
    experiments, measured = _by_intervention(evidence)
    observations, shares = observations + experiments, shares + measured
    if not shares:
        raise NotTestable(
            "Sizes do not overlap, and the images could not be shown at another size."
            if evidence.size is not None
            else "Neither object sizes nor inference at another size are available.",
            missing="give the weights, so that the images can be shown larger",
            observations=observations,
        )
    # An experiment outranks a re-weighting: objects of a size are missed for what else comes with that size
    # too; shown at another size, they would be detected if size were all.
    best = max(measured or shares, key=lambda measurement: measurement.share)
    status = status_from_share(best.share, best.low, best.high)
    if status == "supported" and not measured:
        # Re-weighted, it is what size explains at most.
        status = "inconclusive"
    sizes = _size_factor(evidence)
    same_size = sizes is not None and float(sizes["effect"]) < NOTABLE_EFFECT
    if status == "inconclusive" and same_size and best.share < SUPPORTED_SHARE:
        # Something else makes another input size help a little; the sizes themselves are alike.
        status = "rejected"
    # Of a bound the middle counts, a convention: size may explain all of it, and may explain nothing.
    score = sum(best.bounds) / 2
    how = "Shown at another size, the images recover" if measured else "Size explains"
    statement = f"{how} {at_most(clip(best.share))} of the drop to {evidence.real_world}."
    if status == "inconclusive":
        missing = (
            "train or predict at the size that helped, on more labelled clips"
            if measured
            else "give the weights, so that the images can be shown at another size"
        )
        return Assessment(status, score, statement, observations, missing, is_bound=best.is_bound)
    return Assessment(status, score, statement, observations, is_bound=best.is_bound)


def _without_labels(evidence: Evidence) -> NotTestable:
    """What another image size does to AP50 estimated without labels: a hint, which rules nothing out."""
    found = evidence.resized.get(evidence.domain or "")
    if found is None:
        return NotTestable(
            takes_labels("The cost of object size", evidence),
            missing=ask_for_labels(evidence),
        )
    imgsz = found.name.removeprefix("imgsz ")
    text = (
        f"At {imgsz} px, AP50 estimated without labels goes from {fraction(found.before)} to "
        f"{fraction(found.after)} on {found.images} images of {evidence.domain}, in-domain "
        f"{fraction(evidence.in_domain_ap50)}"
    )
    share, score = estimated_share(evidence), score_without_labels(evidence)
    helps = is_likely_without_labels(evidence)
    end = (
        f": objects are too {'small' if found.size_factor > 1 else 'large'} for the image size in use. "
        "It is surer that AP50 rises than by how much"
        if helps
        else f": that recovers {percent(share)} of the estimated drop, too little to use it"
        if evidence.in_domain_ap50 - found.before > HARMLESS_GAP
        else ": no drop is estimated that size could explain"
    )
    labels = ask_for_labels(evidence)
    return NotTestable(
        f"{text}{end}.",
        missing=f"predict at {imgsz} px and look at the detections; to be sure, {labels}"
        if helps
        else labels,
        observations=[Observation(helps or (None if share >= REJECTED_SHARE else False), f"{text}.")],
        score=None if score is None or unlearned(evidence) else score if helps else score * share,
    )


def is_likely_without_labels(evidence: Evidence) -> bool:
    """Whether another image size, which `predict --from-report` then uses, makes up for half of a drop
    estimated without labels.
    """
    found = evidence.resized.get(evidence.domain or "")
    return found is not None and is_worth_it(found) and estimated_share(evidence) >= SUPPORTED_SHARE


def estimated_share(evidence: Evidence) -> float:
    """Share of a drop estimated without labels that another image size recovers, by the same estimate; 0
    where none was tried, and where no drop is estimated.
    """
    found = evidence.resized.get(evidence.domain or "")
    if found is None or not evidence.in_domain_ap50 - found.before > HARMLESS_GAP:
        return 0.0
    return clip(found.share)


def explained_by_size(evidence: Evidence) -> tuple[float, float]:
    """The least and the most of the drop that object size explains: by experiment, else by re-weighting; 0
    where neither was possible.
    """
    bounds = [measurement.bounds for measurement in _shares(evidence)]
    return max((low for low, _ in bounds), default=0.0), max((high for _, high in bounds), default=0.0)


def _shares(evidence: Evidence) -> list[Share]:
    """What was measured of the share that size explains; an experiment outranks a re-weighting."""
    return _by_intervention(evidence)[1] or _by_standardisation(evidence)[1]


def was_measured(evidence: Evidence) -> bool:
    """Whether it was measured what object size explains."""
    return bool(_shares(evidence))


def is_unmeasured(evidence: Evidence) -> bool:
    """Whether objects are of another size, and what that costs could not be measured: it may be all."""
    sizes = _size_factor(evidence)
    return sizes is not None and float(sizes["effect"]) >= NOTABLE_EFFECT and not _shares(evidence)


def _size_factor(evidence: Evidence) -> pd.Series | None:
    """The row of the object size among the readable factors; None where it was not measured."""
    factors = evidence.factors.get(evidence.real_world or "")
    rows = factors[factors["name"] == "size_px"] if factors is not None else None
    return rows.iloc[0] if rows is not None and len(rows) else None


def _by_standardisation(evidence: Evidence) -> tuple[list[Observation], list[Share]]:
    """Recall that the in-domain set would have with the real-world sizes."""
    observations: list[Observation] = []
    sizes, size = _size_factor(evidence), evidence.size
    if sizes is not None:
        text = (
            f"Median object side: {sizes['in_domain']:.0f} network pixels in-domain, "
            f"{sizes['real_world']:.0f} on "
            f"{evidence.real_world}."
        )
        observations.append(Observation(not float(sizes["effect"]) < NOTABLE_EFFECT, text))
    if size is None:
        return observations, []
    if size.share is None:
        text = (
            f"Only {percent(size.support)} of the real-world objects have a size with in-domain examples, "
            "so sizes cannot be matched."
        )
        return [*observations, Observation(None, text)], []
    text = (
        f"In-domain recall re-weighted to the real-world sizes is {fraction(size.matched_recall)} (all sizes "
        f"{fraction(size.in_domain_recall)}, {evidence.real_world} {fraction(size.real_world_recall)}): "
        f"size explains {percent(clip(size.share))} of the drop in recall."
    )
    return [*observations, Observation(size.share >= SUPPORTED_SHARE, text)], [
        Share(size.share, is_bound=True)
    ]


def _by_intervention(evidence: Evidence) -> tuple[list[Observation], list[Share]]:
    """What inference at other input sizes recovers."""
    observations, shares = [], []
    for name, recovery in evidence.recoveries.items():
        if recovery.size_factor == 1:
            continue
        how = "In tiles" if name == "tiles" else f"At {name.removeprefix('imgsz ')} px"
        text = (
            f"{how}, AP50 on {recovery.images} images goes from {fraction(recovery.before)} to "
            f"{fraction(recovery.after)}, {percent(clip(recovery.share))} of the drop"
        )
        if _brings_sizes_closer(evidence, recovery):
            shares.append(Share(recovery.share, recovery.low, recovery.high))
            observations.append(Observation(recovery.share >= SUPPORTED_SHARE, f"{text}."))
        else:
            text += (
                "; but that takes object sizes further from the in-domain ones, so size is not the reason."
            )
            observations.append(Observation(None, text))
    return observations, shares
