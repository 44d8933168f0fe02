"""The published scores that the label-free estimate is compared with, on boxes whose scores are known by
hand.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.label_free_peers import (
    BASE,
    CENTRE,
    SIGNALS,
    SLOPE_CONSISTENCY,
    SLOPE_RELIABILITY,
    Candidates,
    consistency_and_reliability,
    covered,
    estimates,
    stability,
)


def candidates(*rows: tuple[float, float, float, float, float]) -> Candidates:
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    return Candidates(table[:, :4], table[:, 4], torch.zeros(len(table), dtype=torch.long))


def step(value: float, slope: float, base: float) -> float:
    return base + (1 - base) / (1 + np.exp(-slope * (value - CENTRE)))


def test_removed_boxes_that_equal_the_kept_one_agree_fully() -> None:
    one = candidates((10, 10, 50, 50, 0.3), (10, 10, 50, 50, 0.2), (10, 10, 50, 50, 0.1))
    consistency, reliability = consistency_and_reliability(one)
    assert consistency == pytest.approx(step(0.3, SLOPE_CONSISTENCY, 0.0), abs=1e-5)
    # Nothing that is kept is sure, so nothing that was removed counts.
    assert reliability == 0.0


def test_reliability_is_the_share_of_what_sure_boxes_removed() -> None:
    two = candidates(
        (10, 10, 50, 50, 0.9), (100, 100, 150, 150, 0.3), (10, 10, 50, 50, 0.6), (100, 100, 150, 150, 0.2)
    )
    weights = [step(0.6, SLOPE_RELIABILITY, BASE), step(0.2, SLOPE_RELIABILITY, BASE)]
    _, reliability = consistency_and_reliability(two)
    assert reliability == pytest.approx(weights[0] / sum(weights), abs=1e-5)


def test_images_without_boxes_have_no_scores() -> None:
    nothing = candidates()
    assert np.isnan(consistency_and_reliability(nothing)).all()
    assert np.isnan(stability(nothing, nothing))


def test_stability_pairs_boxes_one_to_one() -> None:
    before = candidates((0, 0, 10, 10, 0.9), (20, 20, 30, 30, 0.8))
    # One box moves by half of its width: two thirds of the union are not shared.
    after = candidates((25, 20, 35, 30, 0.9), (0, 0, 10, 10, 0.8))
    assert stability(before, after) == pytest.approx((1 + 1 / 3) / 2, abs=1e-5)


def test_estimates_are_those_of_the_corrupted_sets() -> None:
    rng = np.random.default_rng(0)
    names = sorted({name for chosen in SIGNALS.values() for name in chosen})
    rows = pd.DataFrame(rng.random((20, len(names))), columns=names)
    rows["truth"] = 0.1 + 0.5 * rows["stability"]
    rows["detector"], rows["name"] = "net", [str(k) for k in range(20)]
    rows["kind"] = ["corrupted"] * 17 + ["real"] * 3
    estimated = estimates(rows)
    np.testing.assert_allclose(estimated["BoS"], rows["truth"][17:], atol=1e-9)
    assert (estimated["domain"] == ["17", "18", "19"]).all()


def test_an_interval_comes_from_the_other_domains() -> None:
    table = pd.DataFrame({"truth": [0.5] * 12, "Shiftscope": [0.5] * 11 + [0.9]})
    table.loc[:10, "Shiftscope"] += np.linspace(-0.1, 0.1, 11)
    holds = covered(table)
    assert not holds[11]
    assert holds[:11].all()
