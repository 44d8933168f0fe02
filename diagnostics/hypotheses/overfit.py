"""Overfitted: the detector has memorised its training images; fewer epochs or more regularisation
would help.
"""

from __future__ import annotations

from diagnostics.evidence import (
    Assessment,
    Evidence,
    NotTestable,
    Observation,
    clip,
    inconclusive,
    ruled_out,
    status_from_share,
    supported,
)
from diagnostics.learning import EARLY, Learning
from diagnostics.wording import at_most, fraction, percent, points

CODE, NAME = "overfit", "Overfitted"
# A train-validation gap of this size is common in healthy runs.
NORMAL_GAP = 0.05
FEWER_EPOCHS = "train with fewer epochs and compare"


def assess(evidence: Evidence) -> Assessment:
    """Compares the drop from training to held-out in-domain images with the drop to the real world.

    Memorising lowers AP50 on held-out in-domain images already; what is lost only on real-world images is not
    overfitting.
    """
    learning, in_domain = evidence.learning, evidence.in_domain_ap50
    train = evidence.ap50.get("training", float("nan"))
    rose = _loss_rose(learning)
    observations = _loss_observations(learning, rose)
    if train != train or in_domain != in_domain:
        return _without_training_ap50(evidence, rose, observations)
    own_gap = train - in_domain
    text = (
        f"AP50 is {fraction(train)} on training images and {fraction(in_domain)} on held-out ones: "
        f"{points(own_gap)} apart."
    )
    observations = [Observation(own_gap > 2 * NORMAL_GAP, text), *observations]
    if evidence.gap is None or not evidence.gap_is_real:
        return _without_a_drop(train, in_domain, rose, observations)
    share = max(0.0, own_gap - NORMAL_GAP) / max(train - evidence.real_world_ap50, 1e-9)
    dropped = f"AP50 drops by {points(own_gap)}"
    if status_from_share(share) == "supported" and not rose:
        return inconclusive(
            f"{dropped} from training to held-out images, but the validation loss never rose.",
            observations,
            missing=FEWER_EPOCHS,
        )
    statement = (
        f"{dropped if own_gap > 0 else 'AP50 does not drop'} from training to held-out in-domain images, "
        f"and by "
        f"{points(evidence.gap)} from there to {evidence.real_world}; memorising would lower the in-domain "
        f"score."
    )
    return Assessment(status_from_share(share), clip(share), statement, observations)


def _loss_rose(learning: Learning) -> bool:
    """Whether the validation loss reached its minimum early and rose since."""
    early = learning.best_loss_epoch is not None and learning.best_loss_epoch < EARLY
    return early and (learning.loss_rise or 0) > 0.02


def _loss_observations(learning: Learning, rose: bool) -> list[Observation]:
    """The course of the validation loss in one sentence; nothing without a history."""
    if learning.best_loss_epoch is None:
        return []
    since = f" and has risen by {percent(learning.loss_rise)} since." if rose else "."
    when = (
        "in the last epochs"
        if learning.best_loss_epoch > EARLY
        else f"after {percent(learning.best_loss_epoch)} of the epochs"
    )
    text = f"Validation loss was lowest {when}{since}"
    return [Observation(rose, text)]


def _without_training_ap50(evidence: Evidence, rose: bool, observations: list[Observation]) -> Assessment:
    """What the loss and the in-domain score say when AP50 on the training images is unknown."""
    in_domain = evidence.in_domain_ap50
    missing = "give the training images (the run's data.yaml) so that AP50 on them can be measured"
    if rose:
        return inconclusive(
            "The validation loss rose, but AP50 on the training images is unknown.",
            observations,
            missing=missing,
        )
    if evidence.learning.best_loss_epoch is not None and in_domain == in_domain:
        return ruled_out(
            f"The validation loss never rose, and held-out in-domain AP50 is {fraction(in_domain)}.",
            observations,
        )
    if evidence.gap is not None and evidence.gap_is_real:
        # AP50 on training images is at most 1.
        most = max(0.0, 1 - in_domain - NORMAL_GAP) / max(1 - evidence.real_world_ap50, 1e-9)
        if status_from_share(most) == "rejected":
            return ruled_out(
                f"Held-out in-domain AP50 is {fraction(in_domain)}: even with perfect training images, "
                f"memorising "
                f"would explain {at_most(most)} of the drop to {evidence.real_world}.",
                observations,
                score=clip(most),
            )
    raise NotTestable(
        "Training images and validation losses are not available.",
        missing=missing,
        observations=observations,
    )


def _without_a_drop(
    train: float, in_domain: float, rose: bool, observations: list[Observation]
) -> Assessment:
    """In-domain overfitting where no drop to the real world was measured."""
    own_gap = train - in_domain
    dropped = f"AP50 drops by {points(own_gap)} from training to held-out images"
    if rose and own_gap > 2 * NORMAL_GAP:
        score = clip(max(0.0, own_gap - NORMAL_GAP) / max(train, 1e-9))
        return supported(score, f"{dropped}, and the validation loss rose.", observations)
    if own_gap > 2 * NORMAL_GAP:
        return inconclusive(
            f"{dropped}, but no rise of the validation loss is recorded.", observations, missing=FEWER_EPOCHS
        )
    return ruled_out(
        f"AP50 is {fraction(in_domain)} on held-out in-domain images and {fraction(train)} on training "
        f"images.",
        observations,
    )
