"""`shiftscope compare` and `check`: paired differences on shared images, and rules with an exit code."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

import shiftscope
from benchmarks.simulated import make_domain
from datasets.errors import InputError
from diagnostics import comparison
from diagnostics.domain import Domain
from diagnostics.paired import NotComparable, pair_domains, regressions
from reports.commands.check import check_rule, run_check
from reports.commands.compare import lines, pair_reports, run_compare, sentence, what_differs
from reports.options import CheckOptions, CompareOptions
from reports.page.comparison import TOGETHER, _part_rows
from reports.page.reader import WrittenReport, read_report
from reports.progress import Reporter
from tests.conftest import MainJob, run_script

THRESHOLDS = (0.3, 0.3)


def domain_at(recall: float, seed: int = 5, **options) -> Domain:
    """A domain whose every image has a fingerprint of its own."""
    domain = make_domain("street", role="real_world", clips=16, frames=5, seed=seed, recall=recall, **options)
    prints = [number.to_bytes(32, "big") for number in range(len(domain.images))]
    return replace(domain, images=domain.images.assign(fingerprint=prints))


def same_objects(domain: Domain, other: Domain) -> Domain:
    """The detections of other on the images and annotations of domain."""
    return replace(domain, detections=other.detections, detection_embeddings=other.detection_embeddings)


def test_the_same_detector_gives_no_difference() -> None:
    domain = domain_at(0.8)
    pair = pair_domains(domain, domain, THRESHOLDS, seed=0)
    assert pair.comparison.difference == 0
    assert (pair.images, pair.only_before, pair.only_now, pair.relabelled) == (80, 0, 0, 0)
    assert pair.parts["difference"].abs().max() < 1e-12
    assert (pair.changes["errors_now"] == pair.changes["errors_before"]).all()
    assert not regressions([pair], 0.0).any()


def test_a_worse_detector_is_told_from_chance_by_slice_and_image() -> None:
    before = domain_at(0.9)
    # It misses everything in dark images, and nothing elsewhere.
    dark = before.images["brightness"] < before.images["brightness"].quantile(1 / 3)
    lost = before.detections["image"].isin(before.images.loc[dark, "image"])
    now = replace(
        before,
        detections=before.detections[~lost].reset_index(drop=True),
        detection_embeddings=before.detection_embeddings[~lost.to_numpy()],
    )
    pair = pair_domains(now, before, THRESHOLDS, seed=0)
    assert pair.comparison.difference < -0.1
    assert regressions([pair], 0.02).tolist() == [True]
    parts = pair.parts.set_index("name")
    assert parts.loc["dark", "now"] == 0
    assert parts.loc["dark", "q"] <= 0.1
    assert abs(parts.loc["bright", "difference"]) < 1e-12
    # Dark images lost all of it, and come first; bright ones nothing; single clips lie between.
    rows = _part_rows(pair.parts, pair.comparison.difference)
    beside = {row["name"]: row["beside"] for row in rows}
    assert (beside["dark"], beside["bright"]) == ("worse than all", "better than all")
    assert rows[0]["beside"] == "worse than all"
    together = [row["beside"] == TOGETHER for row in rows]
    assert together == sorted(together)
    # Where every image lost the same share, no slice stands out.
    weaker = replace(
        before,
        detections=before.detections.iloc[::2].reset_index(drop=True),
        detection_embeddings=before.detection_embeddings[::2],
    )
    even = pair_domains(weaker, before, THRESHOLDS, seed=0)
    rows = _part_rows(even.parts, even.comparison.difference)
    assert sum(row["beside"] == TOGETHER for row in rows) > 0.8 * len(rows)
    worst = pair.changes.head(5)
    assert worst["image"].isin(before.images.loc[dark, "image"]).all()
    # An error less each false positive that is gone, one more each object: by hand.
    row = worst.iloc[0]
    boxes = now.annotations[now.annotations["image"] == row["image"]]
    assert row["errors_now"] == len(boxes)


def test_only_shared_images_are_compared_whatever_they_are_called_by_now() -> None:
    now = domain_at(0.8)
    old = now.subset(now.images["image"].iloc[10:])
    names = {image: f"old/{image}" for image in old.images["image"].iloc[:4]}
    renamed = [
        table.assign(image=table["image"].map(lambda image: names.get(image, image)))
        for table in (old.images, old.annotations, old.detections)
    ]
    before = replace(old, images=renamed[0], annotations=renamed[1], detections=renamed[2])
    moved = before.annotations.copy()
    moved.loc[moved.index[-1], ["x1", "x2"]] += 9.0
    pair = pair_domains(now, replace(before, annotations=moved), THRESHOLDS, seed=0)
    assert (pair.images, pair.only_now, pair.only_before, pair.relabelled) == (70, 10, 0, 1)
    # By the labels of now, the detector is the same.
    assert pair.comparison.difference == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("crater",)}, "the classes differ: pothole now, crater before"),
        ({"images": None}, "no labelled image is in both"),
    ],
)
def test_what_cannot_be_compared_says_why(change: dict, message: str) -> None:
    now = domain_at(0.8)
    if "images" in change:
        change = {"images": now.images.assign(fingerprint=[b"\xff" * 32] * len(now.images))}
    with pytest.raises(NotComparable, match=message):
        pair_domains(now, replace(now, **change), THRESHOLDS, seed=0)


@pytest.mark.slow
def test_two_equal_detectors_rarely_break_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each detector is half blind in the images that the other sees well, drawn at random: at most 2.5 false
    alarms are expected of 50, with two domains each; with probability below 0.001 there are more than 8.
    """
    monkeypatch.setattr(comparison, "REPLICATES", 200)
    alarms = []
    for seed in range(50):
        pairs = []
        for part in range(2):
            now = domain_at(0.7, 1000 + 4 * seed + 2 * part, clip_names=f"c{part}")
            swap = np.random.default_rng(seed).integers(0, 2, len(now.images)).astype(bool)
            names = now.images["image"].to_numpy()
            first, second = _half_blind(now, names[swap]), _half_blind(now, names[~swap])
            pairs.append(pair_domains(first, second, THRESHOLDS, seed=seed))
        alarms.append(regressions(pairs, 0.0).any())
    assert sum(alarms) <= 8


def _half_blind(domain: Domain, names: np.ndarray) -> Domain:
    """A domain in whose images of these names every other detection is gone."""
    gone = domain.detections["image"].isin(names) & (domain.detections.index % 2 == 0)
    return replace(
        domain,
        detections=domain.detections[~gone].reset_index(drop=True),
        detection_embeddings=domain.detection_embeddings[~gone.to_numpy()],
    )


@pytest.fixture
def good(small_job: MainJob, tmp_path: Path) -> Path:
    """The report as if its detector found exactly what is labelled, and every image were a clip of its own:
    six clips in two domains reach no significance.
    """
    folder = tmp_path / "good"
    shutil.copytree(small_job.folder, folder)
    images = pd.read_parquet(folder / "tables" / "images.parquet")
    images.assign(group=images["image"]).to_parquet(folder / "tables" / "images.parquet", index=False)
    annotations = pd.read_parquet(folder / "tables" / "annotations.parquet")
    found = annotations.drop(columns="crowd").assign(confidence=0.9, outcome="true_positive")
    found.to_parquet(folder / "tables" / "detections.parquet", index=False)
    return folder


@pytest.fixture
def worse(good: Path, tmp_path: Path) -> Path:
    """A detector that misses every other object."""
    folder = tmp_path / "worse"
    shutil.copytree(good, folder)
    path = folder / "tables" / "detections.parquet"
    pd.read_parquet(path).iloc[::2].to_parquet(path, index=False)
    return folder


def test_compare_writes_a_page_that_loads_nothing(good: Path, worse: Path, tmp_path: Path) -> None:
    record, page = run_compare(
        CompareOptions(reports=(good, worse), out=tmp_path / "out"), Reporter(quiet=True)
    )
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == record
    assert record["baseline"] == "good"
    domains = record["comparisons"][0]["domains"]
    names = [domain["name"] for domain in read_report(worse).record["domains"]]
    labelled = [
        domain["name"] for domain in read_report(worse).record["domains"] if domain["labelled_images"]
    ]
    assert [domain["domain"] for domain in domains] == labelled
    assert set(record["comparisons"][0]["not_compared"]) == set(names) - set(labelled)
    held_out = domains[0]
    assert held_out["ap50_before"] == 1
    assert 0.4 < held_out["ap50_now"] < 0.6
    html = page.read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", html)
    assert 'data-test="compared"' in html
    assert "Worse now" in html
    assert any("AP50" in line and "beyond chance" in line for line in lines(record))
    assert lines(record)[0] == f"worse against good ({record['comparisons'][0]['differs']})"
    assert record["comparisons"][0]["differs"].startswith("the same weights, image size ")
    # A slice has the images that it has in the report.
    sizes = {(row["slice"], row["domain"]): row["images"] for row in read_report(worse).record["slices"]}
    compared = [(part, domain["domain"]) for domain in domains for part in domain["parts"]]
    sliced = [(part, name) for part, name in compared if (part["name"], name) in sizes]
    assert sliced
    for part, name in sliced:
        assert part["images"] == sizes[part["name"], name]


def test_what_differs_is_said() -> None:
    report = {"sha256": "a", "imgsz": 320}
    assert what_differs(report, report) == "the same weights, image size 320 px"
    assert what_differs(report | {"imgsz": 448}, report) == "the same weights, image size 320 to 448 px"
    assert what_differs(report | {"sha256": "b"}, report) == "other weights, image size 320 px"
    assert what_differs({"sha256": None, "imgsz": None}, report) == "weights not known"


def test_an_interval_and_a_test_that_disagree_are_both_named() -> None:
    domain = {
        "ap50_before": 0.73, "ap50_now": 0.69, "images": 164, "clips": 164, "difference": -0.038, "low": -0.087,
        "high": -0.0055, "p": 0.068, "note": "", "relabelled": 0, "only_before": 0, "only_now": 0,
    }  # fmt: skip
    assert "on the edge of chance: the interval leaves out 0, the test (p 0.068) does not" in sentence(domain)
    assert "no more than chance" in sentence(domain | {"high": 0.01})
    assert "beyond chance" in sentence(domain | {"p": 0.01})


def test_a_domain_that_is_gone_is_said(good: Path) -> None:
    before = read_report(good)
    kept = [entry for entry in before.record["domains"] if entry["role"] == "in_domain"]
    now = replace(before, record={**before.record, "domains": kept})
    gone = [domain.name for domain in before.domains if domain.role != "in_domain"]
    pair = pair_reports(now, before, "now", Reporter(), seed=0)
    assert list(pair.refused) == gone
    assert all("has no domain of this name" in why for why in pair.refused.values())


def test_fewer_than_two_reports_are_refused(small_job: MainJob) -> None:
    with pytest.raises(InputError, match="two reports or more"):
        run_compare(CompareOptions(reports=(small_job.folder,)), Reporter(quiet=True))


@pytest.mark.slow
def test_check_fails_for_a_broken_rule_and_a_regression(good: Path, worse: Path, tmp_path: Path) -> None:
    record = read_report(good).record
    held_out = record["domains"][0]["name"]
    # What a rule asks for is in report.json, which says the same of both.
    stated = record["evidence"]["ap50"][held_out]
    rules = [f"in-domain ap50 >= {max(stated - 0.01, 0):.3f}", f"in-domain ap50 > {stated + 0.01:.3f}"]
    done = run_script(
        "check", str(worse), "--baseline", str(good), "--no-regression", "2",
        "--require", rules[0], "--require", rules[1],
        "--junit", str(tmp_path / "junit.xml"), "--summary", str(tmp_path / "summary.md"), cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 1
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    cases = {(case.get("name"), case.get("classname")): case for case in suite.iter("testcase")}
    assert int(suite.get("tests", 0)) == len(cases)
    assert int(suite.get("failures", 0)) == sum(case.find("failure") is not None for case in cases.values())
    assert cases[rules[0], held_out].find("failure") is None
    regression = cases["no regression of more than 2 points", held_out].find("failure")
    assert regression is not None
    assert "beyond chance" in regression.get("message", "")
    assert done.stdout.splitlines()[0].startswith("failed")
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("### Shiftscope worse: ")
    assert text.count("| failed |") == int(suite.get("failures", 0))
    passed = run_script("check", str(good), "--require", rules[0], cwd=tmp_path)
    assert passed.code == 0
    same = run_check(
        CheckOptions(report=good, baseline=good, no_regression=0.0),
        Reporter(quiet=True),
    )
    assert {check.state for check in same} <= {"passed", "not tested"}
    # A detector that gets better breaks nothing.
    better = run_check(CheckOptions(report=good, baseline=worse, no_regression=0.0), Reporter(quiet=True))
    assert not any(check.state == "failed" for check in better)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("ap50 > 0.5", "expected DOMAIN MEASURE >= NUMBER"),
        ("in-domain map > 0.5", "no measure 'map'; measures are ap50"),
        ("moon ap50 > 0.5", "no domain 'moon'; domains are "),
        ("in-domain ap50 > 50", "a fraction from 0 to 1; did you mean 0.5?"),
        ("in-domain ap50 > 5e", "'5e' is not a number"),
    ],
)
def test_a_rule_that_cannot_be_read_says_why(small_job: MainJob, rule: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        check_rule(rule, read_report(small_job.folder))


def test_a_gate_without_rules_is_refused(small_job: MainJob) -> None:
    with pytest.raises(InputError, match="no rule"):
        run_check(CheckOptions(report=small_job.folder), Reporter(quiet=True))
    with pytest.raises(InputError, match="belong together"):
        run_check(CheckOptions(report=small_job.folder, no_regression=2.0), Reporter(quiet=True))


def test_each_measure_is_that_of_the_report(tmp_path: Path) -> None:
    points = [
        {"confidence": c, "precision": p, "recall": 1 - c, "f1": 0.5, "false_positives_per_image": 3 - 3 * c}
        for c, p in ((0.1, 0.4), (0.3, None), (0.5, 0.8))
    ]
    record = {
        "domains": [{"name": "val", "role": "in_domain"}, {"name": "street 1", "role": "real_world"}],
        "slices": [
            {"domain": "val", "attribute": "all", "ap50": 0.7, "ap": 0.4, "ap75": 0.3, "max_recall": 0.9}
        ],
        "sweep": [{"domain": "val", "points": points}],
        "transfer": {"confidence": 0.5},
    }
    report = WrittenReport(tmp_path, record)
    expected = {
        "ap50": 0.7, "ap": 0.4, "ap75": 0.3, "recall_at_any_threshold": 0.9,
        "precision": 0.8, "recall": 0.5, "f1": 0.5, "false_positives": 1.5,
    }  # fmt: skip
    for measure, value in expected.items():
        states = [
            check_rule(f"val {measure} {sign} {value}", report)[0].state for sign in ("<=", "<", ">=", ">")
        ]
        assert states == ["passed", "failed", "passed", "failed"], measure
    # A domain may have spaces in its name; without labels, nothing is decided.
    assert [check.state for check in check_rule("street 1 ap50 > 0.1", report)] == ["not tested"]
    assert [check.domain for check in check_rule("real-world recall > 0.1", report)] == ["street 1"]
    record["transfer"] = {"confidence": 0.3}
    assert check_rule("in-domain precision > 0.1", report)[0].state == "not tested"


@pytest.mark.slow
def test_the_package_does_what_the_commands_do(good: Path, worse: Path, tmp_path: Path) -> None:
    comparison = shiftscope.compare(reports=[str(good), str(worse)], out=str(tmp_path / "compared"))
    record = json.loads((tmp_path / "compared" / "compare.json").read_text(encoding="utf-8"))
    (pair,) = record["comparisons"]
    assert comparison.domains["domain"].tolist() == [domain["domain"] for domain in pair["domains"]]
    assert comparison.domains["difference"].tolist() == [domain["difference"] for domain in pair["domains"]]
    assert len(comparison.parts) == sum(len(domain["parts"]) for domain in pair["domains"])
    assert comparison._repr_html_().startswith("<iframe")
    rules = shiftscope.check(report=str(worse), baseline=str(good), no_regression=2.0)
    outcome = run_script(
        "check", str(worse), "--baseline", str(good), "--no-regression", "2", "--json", cwd=tmp_path
    )
    assert rules["state"].tolist() == [check["state"] for check in json.loads(outcome.stdout)["checks"]]
    history = shiftscope.history(runs=str(good.parent), out=str(tmp_path / "history"))
    assert set(history.rows["report"]) >= {good.name, worse.name}
    assert history.alarms == []
    with pytest.raises(shiftscope.InputError, match="options are"):
        shiftscope.compare(report=[str(good)])
