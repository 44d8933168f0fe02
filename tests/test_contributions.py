"""Contributions of corrections: the credits equal the Shapley definition and add up to what is recovered."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from benchmarks.simulated import make_domain
from diagnostics.contributions import CONFIDENCE, decompose_drop, f1_counts, shapley
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.sweep import crossfitted_best_f1, f1_at, sweep

PLAYERS = ("size", "colours", "shape")


def all_sets(players: tuple[str, ...]) -> list[frozenset[str]]:
    return [frozenset(p for i, p in enumerate(players) if bits >> i & 1) for bits in range(2 ** len(players))]


def test_a_credit_is_the_mean_gain_over_all_orders() -> None:
    rng = np.random.default_rng(0)
    values = {applied: rng.random(4) for applied in all_sets(PLAYERS)}
    credit = shapley(values, PLAYERS)
    for player in PLAYERS:
        gains = []
        for order in permutations(PLAYERS):
            before = frozenset(order[: order.index(player)])
            gains.append(values[before | {player}] - values[before])
        assert credit[player] == pytest.approx(np.mean(gains, axis=0))
    total = values[frozenset(PLAYERS)] - values[frozenset()]
    assert sum(credit.values()) == pytest.approx(total)


def test_a_harmful_correction_is_not_applied() -> None:
    corrected = domains_under(size=0.3, colours=-0.2)
    of_ap50, _ = decompose_drop(
        corrected, ("size", "colours"), in_domain_ap50=0.8, in_domain_f1=0.75, confidence=0.3, seed=0
    )
    first, second = of_ap50.contributions
    assert (first.name, first.applied) == ("size", True)
    assert (second.name, second.applied, second.recovered) == ("colours", False, 0.0)
    assert second.high < 0
    assert of_ap50.end == pytest.approx(ap50(corrected[frozenset({"size"})]))
    of_ap50, _ = decompose_drop(
        domains_under(colours=-0.2),
        ("colours",),
        in_domain_ap50=0.8,
        in_domain_f1=0.75,
        confidence=0.3,
        seed=0,
    )
    assert of_ap50.end == of_ap50.start


def domains_under(**gains: float) -> dict[frozenset[str], Domain]:
    """The same domain under every set of corrections, each of which raises recall by its gain."""
    return {
        applied: make_domain(
            "real_world",
            clips=12,
            frames=8,
            seed=3,
            recall=0.3 + sum(gains[name] for name in applied),
            clip_names="w",
        )
        for applied in all_sets(tuple(gains))
    }


def test_planted_gains_are_credited() -> None:
    corrected = domains_under(size=0.35, colours=0.04)
    of_ap50, of_f1 = decompose_drop(
        corrected, ("size", "colours"), in_domain_ap50=0.8, in_domain_f1=0.75, confidence=0.3, seed=0
    )
    assert [c.name for c in of_ap50.contributions] == ["size", "colours"]
    assert of_ap50.start == pytest.approx(ap50(corrected[frozenset()]))
    assert of_ap50.end == pytest.approx(ap50(corrected[frozenset({"size", "colours"})]))
    assert sum(c.recovered for c in of_ap50.contributions) == pytest.approx(of_ap50.end - of_ap50.start)
    first, second = of_ap50.contributions
    assert first.low > 0.1
    assert 0 < second.recovered < 0.1
    assert of_ap50.left == pytest.approx(0.8 - of_ap50.end)
    assert {c.name for c in of_f1.contributions} == {"size", "colours", CONFIDENCE}


def test_an_unsuitable_threshold_is_credited_to_the_confidence_threshold() -> None:
    real_world = make_domain("real_world", clips=12, frames=8, seed=3, confidence_shift=-0.4, clip_names="w")
    (of_f1,) = decompose_drop(
        {frozenset(): real_world}, (), in_domain_ap50=0.8, in_domain_f1=0.75, confidence=0.5, seed=0
    )
    assert of_f1.measure == "F1"
    (contribution,) = of_f1.contributions
    assert contribution.name == CONFIDENCE
    assert of_f1.end == pytest.approx(
        crossfitted_best_f1(real_world.table, real_world.group_numbers, seed=0), abs=0.02
    )
    assert contribution.low > 0.2


@pytest.mark.parametrize("confidence", [0.1, 0.5, 0.83])
def test_f1_equals_that_of_the_sweep(confidence: float) -> None:
    domain = make_domain(clips=6, seed=2)
    numerator, denominator = f1_counts(domain.table, np.full(len(domain.labelled_images), confidence))
    assert numerator.sum() / denominator.sum() == pytest.approx(f1_at(sweep(domain.table), confidence))


def test_one_clip_has_no_interval_and_no_fitted_threshold() -> None:
    corrected = {
        applied: replace(domain, images=domain.images.assign(group="one"))
        for applied, domain in domains_under(size=0.3).items()
    }
    (of_ap50,) = decompose_drop(
        corrected, ("size",), in_domain_ap50=0.8, in_domain_f1=0.7, confidence=0.3, seed=0
    )
    assert of_ap50.measure == "AP50"
    assert of_ap50.contributions[0].low is None


def test_a_missing_set_is_refused() -> None:
    corrected = domains_under(size=0.1, colours=0.1)
    corrected.pop(frozenset({"size"}))
    with pytest.raises(ValueError, match="all sets"):
        decompose_drop(
            corrected, ("size", "colours"), in_domain_ap50=0.8, in_domain_f1=0.7, confidence=0.3, seed=0
        )


def test_images_without_annotations_have_no_decomposition() -> None:
    corrected = {
        applied: replace(domain, annotations=domain.annotations.head(0))
        for applied, domain in domains_under(size=0.1).items()
    }
    assert (
        decompose_drop(corrected, ("size",), in_domain_ap50=0.8, in_domain_f1=0.7, confidence=0.3, seed=0)
        == ()
    )
