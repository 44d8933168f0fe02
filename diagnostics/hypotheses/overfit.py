"""The detector has memorised its training pictures; fewer epochs or more regularisation would help."""

from __future__ import annotations

from diagnostics.evidence import Clue, Evidence, Hypothesis, clip, judge
from diagnostics.learning import EARLY
from diagnostics.wording import fraction, percent, points

CODE, NAME = "overfit", "Overfitted"
# A train-validation gap of this size is common in healthy runs.
NORMAL_GAP = 0.05


def test(evidence: Evidence) -> Hypothesis:
    """Compares the fall from training to held-out pictures of the same domain with the fall to the real world.

    Memorising shows on held-out pictures from home. What is lost only out there was not lost to overfitting.
    """
    learning, home = evidence.learning, evidence.home_ap50
    train = evidence.ap50.get("training", float("nan"))
    clues: list[Clue] = []
    turned = (
        learning.best_loss_epoch is not None
        and learning.best_loss_epoch < EARLY
        and (learning.loss_rise or 0) > 0.02
    )
    if learning.best_loss_epoch is not None:
        clues.append(
            Clue(
                turned,
                f"Validation loss was lowest after {percent(learning.best_loss_epoch)} of the epochs"
                + (f" and rose by {percent(learning.loss_rise)} since." if turned else "."),
            )
        )
    if train != train or home != home:
        missing = "give the training pictures (the run's data.yaml) so that AP50 on them can be measured"
        if turned:
            return Hypothesis(
                CODE,
                NAME,
                "untested",
                None,
                "The validation loss turned up, but AP50 on the training pictures is not known.",
                tuple(clues),
                missing=missing,
            )
        if learning.best_loss_epoch is not None and home == home:
            return Hypothesis(
                CODE,
                NAME,
                "rejected",
                0.0,
                f"The validation loss never turned up and held-out in-domain AP50 is {fraction(home)}.",
                tuple(clues),
            )
        if evidence.gap is not None and evidence.gap_is_real:
            # No detector scores over 1 on its training pictures.
            most = max(0.0, 1 - home - NORMAL_GAP) / max(1 - evidence.away_ap50, 1e-9)
            if judge(most) == "rejected":
                statement = (
                    f"Even if it knew its training pictures perfectly, held-out in-domain AP50 is {fraction(home)}: "
                    f"memorising could account for at most {percent(most)} of the fall to {evidence.away}."
                )
                return Hypothesis(CODE, NAME, "rejected", clip(most), statement, tuple(clues))
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            "Training pictures and validation losses are not at hand.",
            tuple(clues),
            missing=missing,
        )
    own_gap = train - home
    clues.insert(
        0,
        Clue(
            own_gap > 2 * NORMAL_GAP,
            f"AP50 is {fraction(train)} on training pictures and {fraction(home)} on held-out ones: {points(own_gap)} apart.",
        ),
    )
    excess = max(0.0, own_gap - NORMAL_GAP)
    total = train - evidence.away_ap50
    if evidence.gap is None or not evidence.gap_is_real:
        if turned and own_gap > 2 * NORMAL_GAP:
            return Hypothesis(
                CODE,
                NAME,
                "supported",
                clip(excess / max(train, 1e-9)),
                f"AP50 falls by {points(own_gap)} from training to held-out pictures and the validation loss turned up.",
                tuple(clues),
            )
        if own_gap > 2 * NORMAL_GAP:
            statement = f"AP50 falls by {points(own_gap)} from training to held-out pictures, and the validation loss does not say that it turned up."
            return Hypothesis(
                CODE,
                NAME,
                "untested",
                None,
                statement,
                tuple(clues),
                missing="train with fewer epochs and compare",
            )
        return Hypothesis(
            CODE,
            NAME,
            "rejected",
            0.0,
            f"Held-out in-domain pictures score {fraction(home)}, training pictures {fraction(train)}.",
            tuple(clues),
        )
    share = excess / max(total, 1e-9)
    at_home = f"AP50 falls by {points(own_gap)}" if own_gap > 0 else "AP50 does not fall"
    statement = f"From training to held-out in-domain pictures {at_home}, from there to {evidence.away} it falls by {points(evidence.gap)}: memorising would show at home."
    if judge(share) == "supported" and not turned:
        return Hypothesis(
            CODE,
            NAME,
            "untested",
            None,
            f"AP50 falls by {points(own_gap)} from training to held-out pictures, but the validation loss never turned up.",
            tuple(clues),
            missing="train with fewer epochs and compare",
        )
    return Hypothesis(CODE, NAME, judge(share), clip(share), statement, tuple(clues))
