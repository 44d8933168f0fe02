"""No failure: the detector does as well on the real-world images as in-domain."""

from __future__ import annotations

from diagnostics.evidence import (
    HARMLESS_GAP,
    SUPPORTED_SHARE,
    Assessment,
    Evidence,
    NotTestable,
    Observation,
    ask_for_labels,
    estimated_drop,
    inconclusive,
    ruled_out,
    supported,
    takes_labels,
)
from diagnostics.hypotheses.underfit import unlearned
from diagnostics.shift import is_alike
from diagnostics.wording import fraction, interval, joined, points, points_interval

CODE, NAME = "none", "No failure"


def assess(evidence: Evidence) -> Assessment:
    """Supported when the drop is harmless up to the end of its interval and the detector has learned its own
    domain.
    """
    gap, bounds = evidence.gap, evidence.gap_interval
    if gap is None:
        drop = estimated_drop(evidence)
        if drop is not None and drop[0] > HARMLESS_GAP and evidence.reviewed_drop is not None:
            return ruled_out(_without_comparison(evidence))
        # An estimate alone can make it likely, no more: it does not see labels by another rule. So can images
        # and detections that nothing tells from the in-domain ones, unless the estimate says otherwise.
        harmless = drop is not None and (
            drop[1] <= HARMLESS_GAP or (drop[0] <= HARMLESS_GAP and _is_the_same(evidence))
        )
        score = SUPPORTED_SHARE if harmless and not unlearned(evidence) else None
        raise NotTestable(
            _without_comparison(evidence),
            missing=ask_for_labels(evidence),
            score=score,
        )
    scores = (
        f"AP50 is {fraction(evidence.in_domain_ap50)} in-domain and {fraction(evidence.real_world_ap50)} "
        f"on {evidence.real_world}"
    )
    width = f", {points_interval(bounds.low, bounds.high, bounds.note)}" if bounds else ""
    observations = [Observation(None, f"Drop: {points(gap)}{width}.")]
    if evidence.gap_is_real:
        return ruled_out(f"The drop is real: {scores}.", observations)
    hit = [cause for cause in evidence.class_causes if cause.hit]
    if hit:
        observations += [Observation(False, cause.statement) for cause in hit]
        names, verb = joined([cause.name for cause in hit]), "fails" if len(hit) == 1 else "fail"
        return ruled_out(f"{scores} over all classes, but {names} alone {verb}.", observations)
    threshold = evidence.threshold
    if (
        threshold is not None
        and threshold.crossfitted_f1 is not None
        and threshold.crossfitted_f1 - threshold.real_world_f1 > HARMLESS_GAP
    ):
        return ruled_out(
            f"AP50 holds, but at threshold {fraction(threshold.confidence)} F1 is "
            f"{fraction(threshold.real_world_f1)} where {fraction(threshold.crossfitted_f1)} is possible.",
            observations,
        )
    if unlearned(evidence):
        return ruled_out(f"The detector fails in-domain too: {scores}.", observations)
    high = bounds.high if bounds is not None else None
    if high is not None and high <= HARMLESS_GAP:
        return supported(1.0, f"No failure: {scores}, a harmless difference.", observations)
    if high is not None and gap <= HARMLESS_GAP:
        score = 1 - max(0.0, gap) / HARMLESS_GAP * 0.5
        missing = "more labelled clips would narrow the interval"
        return supported(score, f"No failure shown: {scores}.", observations, missing=missing)
    return inconclusive(
        f"The difference is not resolved: {scores}.",
        observations,
        missing="label more clips, at least 5 in each domain",
    )


def _is_the_same(evidence: Evidence) -> bool:
    """Whether images and detections are those of the in-domain set, with enough clips to show a
    difference.
    """
    domain = evidence.domain or ""
    return is_alike(evidence.shift_image.get(domain)) and is_alike(evidence.shift_detections.get(domain))


def _without_comparison(evidence: Evidence) -> str:
    """What is known of a failure where AP50 cannot be compared, in one sentence."""
    domain = evidence.domain or ""
    reviewed, estimate = evidence.reviewed.get(domain), evidence.label_free.get(domain)
    in_domain = fraction(evidence.in_domain_ap50)
    if reviewed is not None and reviewed.drop is not None:
        return f"By clicks, AP drops by {points(reviewed.drop[0])} ({points_interval(*reviewed.drop[1:])})."
    if domain in evidence.ap50:
        own = fraction(evidence.ap50[domain])
        return f"AP50 is {own} on the classes labelled on {domain}, and {in_domain} in-domain on others."
    if estimate is not None and estimate.ap50 is not None:
        bounds = interval(estimate.low, estimate.high)
        same = "; its images and detections are like the in-domain ones" if _is_the_same(evidence) else ""
        return (
            f"Estimated AP50 (label-free) on {domain} is {fraction(estimate.ap50)} {bounds}, in-domain "
            f"{in_domain}{same}."
        )
    return takes_labels("A drop", evidence)
