"""The ladder of corrections: credits are those of the definition, and add up."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from benchmarks.simulated import make_domain
from diagnostics.contributions import CONFIDENCE, decompositions, f1_counts, shapley
from diagnostics.counterfactuals import ap50
from diagnostics.sweep import crossfitted_best_f1, f1_at, sweep

PLAYERS = ("size", "colours", "shape")


def all_sets(players: tuple[str, ...]) -> list[frozenset[str]]:
    return [frozenset(p for i, p in enumerate(players) if bits >> i & 1) for bits in range(2 ** len(players))]


def test_credit_is_the_mean_gain_over_all_orders() -> None:
    rng = np.random.default_rng(0)
    values = {chosen: rng.random(4) for chosen in all_sets(PLAYERS)}
    credit = shapley(values, PLAYERS)
    for player in PLAYERS:
        gains = []
        for order in permutations(PLAYERS):
            before = frozenset(order[: order.index(player)])
            gains.append(values[before | {player}] - values[before])
        assert credit[player] == pytest.approx(np.mean(gains, axis=0))
    total = values[frozenset(PLAYERS)] - values[frozenset()]
    assert sum(credit.values()) == pytest.approx(total)


def test_what_hurts_is_not_applied() -> None:
    looks = looked_at(size=0.3, colours=-0.2)
    found, _ = decompositions(
        looks, ("size", "colours"), in_domain_ap50=0.8, in_domain_f1=0.75, confidence=0.3, seed=0
    )
    first, second = found.contributions
    assert (first.name, first.applied) == ("size", True)
    assert (second.name, second.applied, second.recovered) == ("colours", False, 0.0)
    assert second.high < 0
    assert found.end == pytest.approx(ap50(looks[frozenset({"size"})]))
    nothing = {chosen: replace(domain) for chosen, domain in looked_at(colours=-0.2).items()}
    found, _ = decompositions(
        nothing, ("colours",), in_domain_ap50=0.8, in_domain_f1=0.75, confidence=0.3, seed=0
    )
    assert found.end == found.start


def looked_at(**gains: float) -> dict[frozenset[str], object]:
    """Domains whose hit rate rises by each correction's gain."""
    return {
        chosen: make_domain(
            "real_world",
            clips=12,
            frames=8,
            seed=3,
            hit_rate=0.3 + sum(gains[p] for p in chosen),
            clip_names="w",
        )
        for chosen in all_sets(tuple(gains))
    }


def test_what_was_planted_is_credited() -> None:
    looks = looked_at(size=0.35, colours=0.04)
    found, scores = decompositions(
        looks, ("size", "colours"), in_domain_ap50=0.8, in_domain_f1=0.75, confidence=0.3, seed=0
    )
    assert [r.name for r in found.contributions] == ["size", "colours"]
    assert found.start == pytest.approx(ap50(looks[frozenset()]))
    assert found.end == pytest.approx(ap50(looks[frozenset({"size", "colours"})]))
    assert sum(r.recovered for r in found.contributions) == pytest.approx(found.end - found.start)
    first, second = found.contributions
    assert first.low > 0.1
    assert 0 < second.recovered < 0.1
    assert found.left == pytest.approx(0.8 - found.end)
    assert {r.name for r in scores.contributions} == {"size", "colours", CONFIDENCE}


def test_a_threshold_that_does_not_fit_is_credited_to_the_threshold() -> None:
    real_world = make_domain("real_world", clips=12, frames=8, seed=3, confidence_shift=-0.4, clip_names="w")
    (scores,) = decompositions(
        {frozenset(): real_world}, (), in_domain_ap50=0.8, in_domain_f1=0.75, confidence=0.5, seed=0
    )
    assert scores.measure == "F1"
    (contribution,) = scores.contributions
    assert contribution.name == CONFIDENCE
    assert scores.end == pytest.approx(
        crossfitted_best_f1(real_world.table, real_world.group_numbers, seed=0), abs=0.02
    )
    assert contribution.low > 0.2


@pytest.mark.parametrize("confidence", [0.1, 0.5, 0.83])
def test_f1_is_that_of_the_sweep(confidence: float) -> None:
    domain = make_domain(clips=6, seed=2)
    top, bottom = f1_counts(domain.table, np.full(len(domain.labelled_images), confidence))
    assert top.sum() / bottom.sum() == pytest.approx(f1_at(sweep(domain.table), confidence))


def test_one_clip_has_no_interval_and_no_fitted_threshold() -> None:
    looks = {
        chosen: replace(domain, images=domain.images.assign(group="one"))
        for chosen, domain in looked_at(size=0.3).items()
    }
    (found,) = decompositions(looks, ("size",), in_domain_ap50=0.8, in_domain_f1=0.7, confidence=0.3, seed=0)
    assert found.measure == "AP50"
    assert found.contributions[0].low is None


def test_a_missing_set_is_refused() -> None:
    looks = looked_at(size=0.1, colours=0.1)
    looks.pop(frozenset({"size"}))
    with pytest.raises(ValueError, match="all sets"):
        decompositions(
            looks, ("size", "colours"), in_domain_ap50=0.8, in_domain_f1=0.7, confidence=0.3, seed=0
        )


def test_images_without_objects_have_no_ladder() -> None:
    looks = {c: replace(d, annotations=d.annotations.head(0)) for c, d in looked_at(size=0.1).items()}
    assert (
        decompositions(looks, ("size",), in_domain_ap50=0.8, in_domain_f1=0.7, confidence=0.3, seed=0) == ()
    )
