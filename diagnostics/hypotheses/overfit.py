"""The detector has memorised its training images; fewer epochs or more regularisation would help."""

from __future__ import annotations

from diagnostics.evidence import Evidence, Hypothesis, Observation, clip, status_from_share
from diagnostics.learning import EARLY
from diagnostics.wording import fraction, percent, points

CODE, NAME = "overfit", "Overfitted"
# A train-validation gap of this size is common in healthy runs.
NORMAL_GAP = 0.05


def assess(evidence: Evidence) -> Hypothesis:
    """Compares the fall from training to held-out images of the same domain with the fall to the real world.

    Memorising shows on held-out images from home. What is lost only in the real world was not lost to overfitting.
    """
    learning, in_domain = evidence.learning, evidence.in_domain_ap50
    train = evidence.ap50.get("training", float("nan"))
    observations: list[Observation] = []
    turned = (
        learning.best_loss_epoch is not None
        and learning.best_loss_epoch < EARLY
        and (learning.loss_rise or 0) > 0.02
    )
    if learning.best_loss_epoch is not None:
        observations.append(
            Observation(
                turned,
                f"Validation loss was lowest after {percent(learning.best_loss_epoch)} of the epochs"
                + (f" and rose by {percent(learning.loss_rise)} since." if turned else "."),
            )
        )
    if train != train or in_domain != in_domain:
        missing = "give the training images (the run's data.yaml) so that AP50 on them can be measured"
        if turned:
            return Hypothesis(
                CODE,
                NAME,
                "untested",
                None,
                "The validation loss turned up, but AP50 on the training images is not known.",
                tuple(observations),
                missing=missing,
            )
        if learning.best_loss_epoch is not None and in_domain == in_domain:
            return Hypothesis(
                CODE,
                NAME,
                "rejected",
                0.0,
                f"The validation loss never turned up and held-out in-domain AP50 is {fraction(in_domain)}.",
                tuple(observations),
            )
        if evidence.gap is not None and evidence.gap_is_real:
            # No detector scores over 1 on its training images.
            most = max(0.0, 1 - in_domain - NORMAL_GAP) / max(1 - evidence.real_world_ap50, 1e-9)
            if status_from_share(most) == "rejected":
                statement = (
                    f"Even if it knew its training images perfectly, held-out in-domain AP50 is {fraction(in_domain)}: "
                    f"memorising could account for at most {percent(most)} of the fall to {evidence.real_world}."
                )
                return Hypothesis(CODE, NAME, "rejected", clip(most), statement, tuple(observations))
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "Training images and validation losses are not at hand.",
            tuple(observations),
            missing=missing,
        )
    own_gap = train - in_domain
    observations.insert(
        0,
        Observation(
            own_gap > 2 * NORMAL_GAP,
            f"AP50 is {fraction(train)} on training images and {fraction(in_domain)} on held-out ones: {points(own_gap)} apart.",
        ),
    )
    excess = max(0.0, own_gap - NORMAL_GAP)
    total = train - evidence.real_world_ap50
    if evidence.gap is None or not evidence.gap_is_real:
        if turned and own_gap > 2 * NORMAL_GAP:
            return Hypothesis(
                CODE,
                NAME,
                "supported",
                clip(excess / max(train, 1e-9)),
                f"AP50 falls by {points(own_gap)} from training to held-out images and the validation loss turned up.",
                tuple(observations),
            )
        if own_gap > 2 * NORMAL_GAP:
            statement = f"AP50 falls by {points(own_gap)} from training to held-out images, and the validation loss does not say that it turned up."
            return Hypothesis(
                CODE,
                NAME,
                "untested",
                None,
                statement,
                tuple(observations),
                missing="train with fewer epochs and compare",
            )
        return Hypothesis(
            CODE,
            NAME,
            "rejected",
            0.0,
            f"Held-out in-domain images score {fraction(in_domain)}, training images {fraction(train)}.",
            tuple(observations),
        )
    share = excess / max(total, 1e-9)
    at_in_domain = f"AP50 falls by {points(own_gap)}" if own_gap > 0 else "AP50 does not fall"
    statement = f"From training to held-out in-domain images {at_in_domain}, from there to {evidence.real_world} it falls by {points(evidence.gap)}: memorising would show in-domain."
    if status_from_share(share) == "supported" and not turned:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            f"AP50 falls by {points(own_gap)} from training to held-out images, but the validation loss never turned up.",
            tuple(observations),
            missing="train with fewer epochs and compare",
        )
    return Hypothesis(CODE, NAME, status_from_share(share), clip(share), statement, tuple(observations))
