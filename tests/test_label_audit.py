"""Which labels are wrong: planted errors come first, and the share from a few answers holds."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, expect

from benchmarks.simulated import make_domain
from datasets.errors import InputError
from datasets.label_answers import read_label_review
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.hypotheses import label_error
from diagnostics.label_audit import (
    ANNOTATION,
    MISSING,
    DomainAudit,
    LabelAudit,
    find_candidates,
    judged_rows,
    measure_audit,
    sampling_sizes,
)
from diagnostics.matching import iou_table
from diagnostics.point_measures import draw_order
from reports.commands.review import lines, open_session
from reports.options import ReviewOptions
from reports.page.reader import read_report
from reports.pipeline.label_reviews import find_label_reviews, labels_key
from reports.review.labels import LabelSession
from reports.review.server import create_server
from tests.conftest import MainJob, complaint, run_in_process

# Images of the simulated domain are this large, see `benchmarks.simulated`.
SIZE = 640


def spoiled(seed: int, *, each: int = 8) -> tuple[Domain, dict[tuple[str, int], str], pd.DataFrame]:
    """A simulated domain with planted label errors: the domain, wrong annotations by row, and labels left
    out.
    """
    domain = make_domain("road", role="real_world", clips=30, frames=4, seed=seed, recall=0.85)
    rng = np.random.default_rng(seed)
    labels = domain.annotations.reset_index(drop=True)
    order = rng.permutation(len(labels))
    left_out, moved, invented = order[:each], order[each : 2 * each], order[2 * each : 3 * each]
    corners = labels[CORNERS].to_numpy(float)
    width = corners[moved, 2] - corners[moved, 0]
    shifted = corners[moved] + np.outer(rng.choice([-0.6, 0.6], each) * width, [1, 0, 1, 0])
    added = labels.iloc[invented].copy()
    added["image"] = rng.choice(domain.images["image"], each)
    added[CORNERS] = corners[rng.permutation(len(labels))[:each]]
    labels.loc[moved, CORNERS] = shifted
    kept = labels.drop(index=left_out)
    whole = pd.concat([kept, added], ignore_index=True)
    wrong = {(ANNOTATION, int(np.flatnonzero(kept.index == row)[0])): "moved" for row in moved}
    wrong |= {(ANNOTATION, len(kept) + number): "invented" for number in range(each)}
    return replace(domain, annotations=whole), wrong, domain.annotations.reset_index(drop=True).iloc[left_out]


def is_wrong(domain: Domain, candidates: pd.DataFrame, wrong: dict, left_out: pd.DataFrame) -> np.ndarray:
    """What a person would say about each candidate."""
    said = []
    for row in candidates.itertuples():
        if row.kind == ANNOTATION:
            said.append((row.kind, row.row) in wrong)
            continue
        there = left_out[left_out["image"] == row.image][CORNERS].to_numpy(float)
        box = np.array([[row.x1, row.y1, row.x2, row.y2]])
        said.append(bool(len(there)) and iou_table(box, there).max() >= 0.5)
    return np.array(said, bool)


@pytest.mark.slow
def test_planted_errors_come_first() -> None:
    domain, wrong, left_out = spoiled(1)
    candidates = find_candidates(domain, seed=0)
    assert set(candidates["kind"]) == {ANNOTATION, MISSING}
    assert len(candidates[candidates["kind"] == ANNOTATION]) == len(domain.annotations)
    assert candidates["suspicion"].is_monotonic_decreasing
    said = is_wrong(domain, candidates, wrong, left_out)
    # 24 of some 250: ten times as many among the first 24 as by chance would be two.
    assert said[:24].sum() >= 12
    assert said[: len(said) // 4].sum() >= 0.8 * said.sum()
    # The order is that of the seed, and of nothing else.
    pd.testing.assert_frame_equal(candidates, find_candidates(domain, seed=0))


def test_rows_name_the_annotation_and_the_detection_they_are_about() -> None:
    domain, *_ = spoiled(2)
    candidates = find_candidates(domain, seed=0)
    for kind, table in ((ANNOTATION, domain.annotations), (MISSING, domain.detections)):
        mine = candidates[candidates["kind"] == kind]
        there = table.loc[mine["row"]]
        np.testing.assert_array_equal(there[CORNERS].to_numpy(float), mine[CORNERS].to_numpy(float))
        assert there["image"].tolist() == mine["image"].tolist()


@pytest.mark.slow
def test_the_interval_of_the_share_holds() -> None:
    held, halves, found = [], [], []
    for seed in range(8):
        domain, wrong, left_out = spoiled(100 + seed)
        candidates = find_candidates(domain, seed=seed)
        said = is_wrong(domain, candidates, wrong, left_out)
        truth = said.sum() / len(domain.annotations)
        sizes = sampling_sizes(candidates["suspicion"].to_numpy())
        for draw in range(20):
            order = draw_order(sizes, draw)
            audit = DomainAudit(candidates.iloc[order].reset_index(drop=True), said[order[:60]], sizes[order])
            measured = measure_audit("road", audit)
            assert measured.share is not None
            _, low, high = measured.share
            held.append(low <= truth <= high)
            halves.append((high - low) / 2)
            found.append(measured.wrong / 60)
    assert np.mean(held) >= 0.92
    assert np.mean(halves) < 0.12
    # Suspicious ones are asked about sooner: more than their share among the candidates.
    assert np.mean(found) > 1.5 * truth / 2


@pytest.mark.slow
def test_judging_everything_leaves_nothing_to_chance() -> None:
    domain, wrong, left_out = spoiled(3)
    candidates = find_candidates(domain, seed=0)
    said = is_wrong(domain, candidates, wrong, left_out)
    measured = measure_audit("road", DomainAudit(candidates, said, np.ones(len(candidates))))
    assert measured.share == pytest.approx([said.sum() / len(domain.annotations)] * 3)
    few = measure_audit("road", DomainAudit(candidates, said[:5], np.ones(len(candidates))))
    assert few.share is None
    assert "at least 20" in few.note


def test_no_labels_and_few_labels_are_no_error() -> None:
    empty = make_domain("road", role="real_world", clips=3, labelled=False)
    assert find_candidates(empty, seed=0).empty
    for frames in (1, 2, 3):
        few = make_domain("road", role="real_world", clips=1, frames=frames)
        assert len(find_candidates(few, seed=0)) >= len(few.annotations)


@pytest.mark.parametrize(
    ("share", "status"),
    [((0.5, 0.4, 0.6), "supported"), ((0.01, 0.0, 0.04), "rejected"), ((0.2, 0.05, 0.4), "inconclusive")],
)
def test_the_share_decides_the_hypothesis(share: tuple[float, float, float], status: str) -> None:
    # A drop of half: a share of 0.5 could explain all of it, one of 0.04 no quarter.
    audit = LabelAudit("road", 400, 500, 60, 9, share, 0.0)
    assessment = label_error._assess_audit(audit, share, 0.5, [])
    assert assessment.status == status
    # Of several classes, all labels of a rare one may be wrong: nothing is ruled out.
    several = label_error._assess_audit(replace(audit, classes=3), share, 0.5, [])
    assert several.status == ("inconclusive" if status == "rejected" else status)
    assert "of the labels of road are wrong or left out" in assessment.statement


def test_only_a_beginning_of_the_order_counts() -> None:
    assert judged_rows({0: True, 1: False, 3: True}, np.arange(5)).tolist() == [True, False]


@pytest.fixture
def place(small_job: MainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a copy of the report: answers are kept beside it."""
    shutil.copytree(small_job.folder, tmp_path / "runs" / "report" / small_job.folder.name)
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    return tmp_path


def replace_folder_name(place: Path) -> Path:
    """The report under another name, as a second report of the same footage."""
    first = next((place / "runs" / "report").glob("*/report.json")).parent
    return Path(shutil.copytree(first, first.with_name("second")))


def ask(place: Path, *arguments: str) -> dict:
    outcome = run_in_process("review", "--labels", *arguments, cwd=place)
    assert outcome.code == 0, outcome.stderr
    return json.loads(outcome.stdout)


@pytest.mark.slow
def test_plan_then_answers_then_share(place: Path) -> None:
    plan = ask(place, "--plan", "--budget", "25")["labels"]
    assert [entry["number"] for entry in plan] == list(range(25))
    assert not (place / "runs" / "review").exists()
    answers = place / "answers.json"
    answers.write_text(json.dumps({"labels": [{"number": n, "wrong": n == 3} for n in range(25)]}))
    result = ask(place, "--answers", str(answers), "--json")
    assert (result["domain"], result["answers"], result["wrong"]) == ("drone", 25, 1)
    assert result["share"][1] <= result["share"][0] <= result["share"][2]
    assert "wrong or left out" in " ".join(lines(result))
    # The next report on these labels finds them; changed labels have no answers.
    report = read_report(next((place / "runs" / "report").glob("*/report.json")).parent)
    drone = next(domain for domain in report.domains if domain.name == "drone")
    assert list(find_label_reviews([drone], lambda line: None)) == ["drone"]
    # The review goes on, whatever report is read.
    other = replace_folder_name(place)
    again = ask(place, str(other), "--json", "--answers", str(answers))
    assert again["answers"] == 25
    moved = replace(drone, annotations=drone.annotations.assign(x1=drone.annotations["x1"] - 1))
    assert labels_key(moved) != labels_key(drone)
    assert find_label_reviews([moved], lambda line: None) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", 'expected {"labels"'),
        ('{"labels": [{"number": 0}]}', "labels[0]"),
        ('{"labels": [{"number": 0, "wrong": "no"}]}', "neither true nor false"),
        ('{"labels": [{"number": 99999, "wrong": true}]}', "there is no label 99999"),
    ],
)
def test_answers_that_do_not_fit_are_one_line(place: Path, content: str, words: str) -> None:
    (place / "answers.json").write_text(content)
    outcome = run_in_process("review", "--labels", "--answers", str(place / "answers.json"), cwd=place)
    assert outcome.code == 2
    assert words in complaint(outcome)


def test_a_domain_without_labels_and_a_file_that_is_none(place: Path) -> None:
    path = place / "x.json"
    path.write_text('{"format": 1}')
    with pytest.raises(InputError, match="not a review of labels"):
        read_label_review(path)
    report = read_report(next((place / "runs" / "report").glob("*/report.json")).parent)
    assert find_label_reviews([replace(report.domains[-1])], lambda line: None) == {}


@pytest.fixture
def served(place: Path) -> Iterator[tuple[str, LabelSession]]:
    session = open_session(ReviewOptions(labels=True, budget=4))
    assert isinstance(session, LabelSession)
    server = create_server(session, 0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", session
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("width", [pytest.param(1280, marks=pytest.mark.slow), 390])
def test_a_person_judges_labels_on_the_page(
    served: tuple[str, LabelSession], browser: Browser, width: int
) -> None:
    url, session = served
    page = browser.new_page(viewport={"width": width, "height": 800})
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    expect(page.locator("#about")).to_be_visible()
    expect(page.get_by_text("Is the label in the middle right?")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#title")).to_contain_text("label 1 of 4")
    expect(page.locator("#question")).to_contain_text("?")
    page.keyboard.press("n")
    expect(page.locator("#title")).to_contain_text("label 2 of 4")
    page.locator("#right").click()
    expect(page.locator("#title")).to_contain_text("label 3 of 4")
    assert dict(session.review.answers) == {0: True, 1: False}
    # An answer can be changed: back, and the other key.
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#question")).to_contain_text("You said:")
    page.keyboard.press("n")
    expect(page.locator("#title")).to_contain_text("label 3 of 4")
    page.keyboard.press("y")
    expect(page.locator("#title")).to_contain_text("label 4 of 4")
    page.keyboard.press("y")
    expect(page.locator("#message")).to_contain_text("All labels are answered")
    assert dict(read_label_review(session.path).answers) == {0: True, 1: True, 2: False, 3: False}
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert errors == []
    page.close()
