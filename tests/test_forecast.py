"""How many labels: curves of known shape are continued rightly, and what cannot be known is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datasets.errors import InputError
from diagnostics.forecast import FAMILIES, forecast
from reports.outlook import answer, line

SIZES = np.array([20, 40, 80, 160, 320.0])


@pytest.mark.parametrize(
    ("curve", "needed"),
    [
        (lambda n: 0.7 - 1.2 * n**-0.5, 576),
        (lambda n: 0.1 + 0.08 * np.log(n), 1000),
        (lambda n: 0.8 * 2 / np.pi * np.arctan(n / 200), 700),
    ],
)
def test_a_curve_without_noise_is_continued(curve, needed: int) -> None:
    found = forecast(SIZES, curve(SIZES), float(curve(np.array(float(needed)))))
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 1.02 * needed
    assert found.high >= 0.98 * needed
    assert found.middle <= 1.5 * needed


@pytest.mark.parametrize("seed", range(10))
def test_with_noise_and_three_seeds_the_middle_is_within_a_factor_of_two(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = np.repeat(SIZES, 3)
    scores = 0.75 - 1.5 * sizes**-0.5 + rng.normal(0, 0.01, len(sizes))
    found = forecast(sizes, scores, 0.75 - 1.5 * 600**-0.5)
    assert found.middle is None or 300 <= found.middle <= 1200


def test_a_goal_that_was_reached_needs_no_curve() -> None:
    found = forecast(SIZES, np.array([0.1, 0.2, 0.3, 0.4, 0.5]), 0.25)
    assert (found.low, found.high, found.reached) == (80, 80, True)


def test_too_few_sizes_and_too_far_a_goal_are_refused() -> None:
    assert "4 are needed" in forecast(SIZES[:3], np.array([0.1, 0.2, 0.3]), 0.5).note
    flat = forecast(SIZES, np.array([0.30, 0.301, 0.302, 0.3025, 0.303]), 0.9)
    assert flat.low is None
    assert "too far to tell" in flat.note
    assert "ask again" in flat.note


def test_a_curve_that_falls_or_wobbles_is_never_answered_below_what_was_tried() -> None:
    falling = forecast(np.array([10, 20, 40, 80.0]), np.array([0.5, 0.45, 0.4, 0.35]), 0.4)
    assert falling.reached or falling.low is None or falling.low >= 80
    wobbling = forecast(np.array([10, 20, 40, 80.0]), np.array([0.2, 0.3, 0.5, 0.48]), 0.49)
    assert wobbling.low is None or wobbling.low >= 80


def test_families_rise_and_stay_below_one_within_their_bounds() -> None:
    n = np.geomspace(0.01, 400, 200)
    for name, (curve, low, high) in FAMILIES.items():
        middle = [min(max((a + b) / 2, 0.1), 1.0) for a, b in zip(low, high, strict=True)]
        assert (np.diff(curve(n, *middle)) >= -1e-12).all(), name


def test_a_csv_is_answered_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "curve.csv"
    rows = [f"{n:.0f},{0.7 - 1.2 * n**-0.5:.4f}" for n in SIZES]
    path.write_text("\n".join(["labels,ap50", *rows]))
    # .7 - 1.2 / sqrt(40) is .51.
    assert line(answer(path, 0.5)) == "AP50 .50 was reached with 40 labels."
    # .64 takes 400 by the true law.
    found = answer(path, 0.64)
    assert found.low is not None
    # The goal was written with four digits.
    assert 320 <= found.low <= 405
    assert found.high >= 395
    assert line(found).startswith("AP50 .64")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels,score\n1,0.2", "lacks the column ap50"),
        ("labels,ap50\n10,0.2\n20,abc", ":3: labels"),
        ("labels,ap50\n10,20", ":2: labels"),
        ("", "cannot be read as CSV"),
        ("labels,ap50\ninf,0.2", ":2: labels"),
    ],
)
def test_a_wrong_csv_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"curve\.csv") as error:
        answer(path, 0.5)
    assert message in str(error.value)
