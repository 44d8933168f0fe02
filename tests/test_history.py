"""Reports over time: the stated rate of false alarms holds, a planted drop is named, and the page
shows both.
"""

from __future__ import annotations

import copy
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser

from diagnostics.history import FALSE_ALARM, MIN_EARLIER, WINDOW, rank_p, watch
from tests.conftest import MainJob, opened, run_script

START = datetime(2026, 9, 1, 6, tzinfo=UTC)


def test_false_alarms_are_as_rare_as_stated() -> None:
    rng = np.random.default_rng(0)
    # Of any distribution: skewed, with ties, with outliers.
    draws = (
        lambda n: rng.normal(size=n),
        lambda n: rng.integers(0, 12, n).astype(float),
        lambda n: rng.standard_cauchy(n),
    )
    for draw in draws:
        alarms = [
            p <= FALSE_ALARM
            for _ in range(400)
            for earlier, p in rank_p(draw(60).tolist(), 1)
            if earlier >= MIN_EARLIER
        ]
        # Values of one sequence share their past: the error of the mean is taken over sequences.
        spread = np.std(np.reshape(alarms, (400, -1)).mean(1)) / 20
        assert np.mean(alarms) <= FALSE_ALARM + 3 * spread
    normal = [
        p <= FALSE_ALARM for _ in range(400) for n, p in rank_p(rng.normal(size=60).tolist(), -1) if n >= 19
    ]
    assert np.mean(normal) > FALSE_ALARM / 2, "an alarm that never rings is none"


def test_the_rank_is_the_share_that_is_as_extreme() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 9, 150).astype(float).tolist()
    for sign in (1, -1):
        for i, (earlier, p) in enumerate(rank_p(values, sign)):
            before = values[max(0, i - WINDOW) : i]
            assert earlier == len(before)
            extreme = sum(sign * v >= sign * values[i] for v in [*before, values[i]])
            assert (p == extreme / (len(before) + 1)) if len(before) >= 19 else np.isnan(p)


def history_of(values: list[float], **columns: object) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "created": [(START + timedelta(days=i)).isoformat() for i in range(len(values))],
            "detector": "a",
            "imgsz": 640,
            "domain": "site",
            "ap50": values,
            "estimated_ap50": np.nan,
            "shift": 3.0,
        }
    )
    return frame.assign(**columns)


def test_another_detector_begins_anew() -> None:
    steady = [0.6 + 0.001 * (i * 7 % 20) for i in range(20)]
    assert watch(history_of([*steady, 0.3]))["alarm"].tolist() == [False] * 20 + [True]
    detectors = ["a"] * 20 + ["b"]
    assert not watch(history_of([*steady, 0.3], detector=detectors))["alarm"].any()
    # A rise is no alarm, and the order of the rows is not that of time.
    assert not watch(history_of([*steady, 0.9]))["alarm"].any()
    shuffled = history_of([*steady, 0.3]).sample(frac=1, random_state=0)
    found = watch(shuffled)
    assert shuffled.loc[found["alarm"], "ap50"].tolist() == [0.3]


def test_what_is_watched_is_the_best_that_there_is() -> None:
    rows = history_of([0.5, np.nan, np.nan], estimated_ap50=[0.4, 0.45, np.nan])
    assert watch(rows)["measure"].tolist() == ["ap50", "estimated_ap50", "shift"]
    assert watch(rows)["value"].tolist() == [0.5, 0.45, 3.0]


def write_days(job: MainJob, root: Path, values: list[float]) -> None:
    """A report a day with these AP50 of the drone; the in-domain set stays."""
    for day, value in enumerate(values):
        record = copy.deepcopy(job.record)
        record["created"] = (START + timedelta(days=day)).isoformat(timespec="seconds")
        record["run"]["training_boxes"] = 400 if day < 10 else 800
        for row in record["slices"]:
            if row["slice"] == "all" and row["domain"] == "drone":
                row.update(ap50=value, ap50_low=value - 0.05, ap50_high=value + 0.05)
        folder = root / "report" / f"day{day:02d}"
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(record), encoding="utf-8")


@pytest.mark.slow
def test_a_drop_after_three_weeks_is_named(browser: Browser, small_job: MainJob, tmp_path: Path) -> None:
    values = [0.6 + 0.002 * (i * 7 % 20) for i in range(22)] + [0.41]
    write_days(small_job, tmp_path / "runs", values)
    (tmp_path / "runs" / "report" / "broken").mkdir()
    # A report that another process is writing.
    shutil.copytree(
        tmp_path / "runs" / "report" / "day00", tmp_path / "runs" / "report" / "day00" / ".partial"
    )
    (tmp_path / "runs" / "report" / "broken" / "report.json").write_text("{", encoding="utf-8")
    outcome = run_script("history", "runs", "--out", "out", "--json", cwd=tmp_path)
    assert outcome.code == 0, outcome.stderr
    record = json.loads(outcome.stdout)
    assert len(record["alarms"]) == 1
    assert record["alarms"][0].startswith(
        "2026-09-23, drone (report/day22): AP50 0.41 is lower than in nearly all"
    )
    assert [Path(path).parent.name for path in record["unreadable"]] == ["broken"]
    assert "broken" in outcome.stderr
    drone = [row["ap50"] for row in record["rows"] if row["domain"] == "drone"]
    assert drone == values
    table = pd.read_csv(tmp_path / "out" / "history.csv")
    assert table.loc[table["alarm"], ["domain", "report"]].values.tolist() == [["drone", "report/day22"]]

    page, trouble = opened(browser, tmp_path / "out" / "history.html", width=390, height=844)
    assert trouble == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert "AP50 0.41 is lower" in page.locator("[data-test=alarms]").inner_text()
    assert page.locator("[data-test=history] tbody tr").count() == len(record["rows"])
    assert page.locator("#size").count() == 1, "two sizes of the training set"


@pytest.mark.slow
def test_few_reports_say_how_many_it_takes(small_job: MainJob, tmp_path: Path) -> None:
    write_days(small_job, tmp_path / "runs", [0.6, 0.2])
    outcome = run_script("history", "runs", cwd=tmp_path)
    assert outcome.code == 0
    assert "no alarms yet: they take 19 earlier reports" in outcome.stdout
    assert (tmp_path / "runs" / "history" / "history.html").is_file()
    (tmp_path / "empty").mkdir()
    for folder, words in (("empty", "holds no report"), ("nowhere", "no such folder")):
        outcome = run_script("history", folder, cwd=tmp_path)
        assert outcome.code == 2
        assert words in outcome.stderr
