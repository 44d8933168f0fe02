"""`shiftscope next` takes run and sources from a report, and refuses where there is nothing to rank for."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.options import NextOptions, ReportOptions
from tests.conftest import run_script

REPORT = ReportOptions(
    run=Path("run"),
    in_domain=("dashcam", "here"),
    real_world=(("drone", "there"),),
    imgsz=320,
    seed=7,
    json=True,
)


def test_what_is_not_asked_for_comes_from_the_report() -> None:
    filled = NextOptions(budget=5).filled_from(REPORT)
    assert (filled.run, filled.in_domain, filled.real_world, filled.imgsz, filled.budget) == (
        REPORT.run, REPORT.in_domain, REPORT.real_world, 320, 5
    )  # fmt: skip
    # Where and how it is written is a matter of the ranking.
    assert (filled.out, filled.seed, filled.json) == (None, 0, False)


def test_what_is_asked_for_stays() -> None:
    own = NextOptions(weights=Path("other.pt"), real_world=(("flight", "f.mp4"),), imgsz=640)
    filled = own.filled_from(REPORT)
    assert (filled.weights, filled.run) == (own.weights, None), "one detector, not two"
    assert (filled.real_world, filled.imgsz, filled.in_domain) == (own.real_world, 640, REPORT.in_domain)


@pytest.mark.slow
def test_nothing_to_rank_for_is_one_line(tmp_path: Path) -> None:
    outcome = run_script("next", cwd=tmp_path)
    assert outcome.code == 2
    assert "run 'shiftscope report' first" in outcome.stderr
    outcome = run_script("next", "--from-report", "nowhere", cwd=tmp_path)
    assert outcome.code == 2
    assert "nowhere/report.json: no report can be read there (No such file or directory)" in outcome.stderr
