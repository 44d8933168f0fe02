"""`shiftscope review`: from the plan to the answers, on the command line, on the page, and in the next
report.
"""

from __future__ import annotations

import json
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from datasets.answers import Clicks, parse_clicks, read_review, write_review
from datasets.errors import InputError
from datasets.tables import CORNERS
from reports.commands.review import lines, open_session
from reports.options import ReviewOptions
from reports.page.reader import read_report
from reports.pipeline.reviews import domain_review, find_reviews, new_review, review_path
from reports.review.server import create_server
from reports.review.session import Session
from tests.conftest import MainJob, complaint, run_in_process

PRESS_BOTH = (
    "for (const key of ['ArrowLeft', 'Enter'])"
    " document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }))"
)


@pytest.fixture
def place(small_job: MainJob, tmp_path: Path) -> Path:
    """A folder with a copy of the report: answers are kept beside it."""
    shutil.copytree(small_job.folder, tmp_path / "runs" / "report" / small_job.folder.name)
    return tmp_path


def folder_of(place: Path) -> Path:
    """The report's folder."""
    return next((place / "runs" / "report").glob("*/report.json")).parent


def review(place: Path, *arguments: str) -> dict:
    outcome = run_in_process("review", *arguments, cwd=place)
    assert outcome.code == 0, outcome.stderr
    return json.loads(outcome.stdout)


def answers_of(place: Path, images: list[str]) -> dict:
    """What somebody who sees every object clicks."""
    report = read_report(folder_of(place))
    drone = next(domain for domain in report.domains if domain.name == "drone")
    frames = []
    for image in images:
        corners = drone.annotations.loc[drone.annotations["image"] == image, CORNERS].to_numpy(float)
        centres = (corners[:, :2] + corners[:, 2:]) / 2
        frames.append({"image": image, "points": [[x, y, "pothole"] for x, y in centres]})
    return {"frames": frames}


def write_answers(place: Path, images: list[str]) -> str:
    path = place / "answers.json"
    path.write_text(json.dumps(answers_of(place, images)), encoding="utf-8")
    return str(path)


def test_plan_then_answers_then_numbers(place: Path) -> None:
    asked = review(place, "--plan", "--budget", "12")["frames"]
    assert len(asked) == len(set(asked)) == 12
    assert not (place / "runs" / "review").exists()  # a plan leaves nothing behind
    result = review(place, "--answers", write_answers(place, asked), "--budget", "12", "--json")
    assert (result["domain"], result["answers"], result["frames"]) == ("drone", 12, 18)
    assert result["ap50_points"] is None
    assert "at least 20 and 5 are needed" in result["note"]
    # Answers are kept: without new ones, the same result, and six more are added to them.
    assert review(place, "--answers", write_answers(place, []), "--json") == result
    every = review(place, "--plan", "--budget", "99")["frames"]
    assert every[:12] == asked
    whole = review(place, "--answers", write_answers(place, every[12:]), "--json")
    assert whole["answers"] == 18
    # All of it was answered: nothing is left to chance.
    assert whole["low"] == pytest.approx(whole["high"])
    assert whole["in_domain"]["domain"] == "dashcam"
    assert whole["drop"]["value"] == pytest.approx(whole["in_domain"]["ap50_points"] - whole["ap50_points"])


def test_answers_behind_a_frame_without_one_wait(place: Path) -> None:
    """Whoever picks frames by hand picks the interesting ones: those are no sample."""
    every = review(place, "--plan", "--budget", "99")["frames"]
    result = review(place, "--answers", write_answers(place, [*every[:3], *every[5:9]]), "--json")
    assert (result["answers"], result["waiting"]) == (3, 4)
    assert "4 more answers not counted" in lines(result)[0]
    assert review(place, "--answers", write_answers(place, every[3:5]), "--json")["answers"] == 9


def test_a_report_named_from_inside_its_folder_has_the_same_review(place: Path) -> None:
    """`shiftscope review .` and the full path are one review, which the next report finds."""
    folder = folder_of(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIFTSCOPE_RUNS", str(place / "runs"))
        patch.chdir(folder)
        paths = {
            open_session(ReviewOptions(report=Path(name))).path for name in (".", "report.json", str(folder))
        }
    assert len(paths) == 1
    assert paths.pop().parents[1] == place / "runs" / "review"


@pytest.mark.slow
def test_the_next_report_uses_the_answers_and_no_corrections_leaves_them_out(
    small_job: MainJob, tmp_path: Path
) -> None:
    report = read_report(small_job.folder)
    drone = next(domain for domain in report.domains if domain.name == "drone")
    made = new_review(small_job.folder.name, drone, seed=0)
    path = small_job.cwd / "runs" / "review" / small_job.folder.name / "drone.json"
    told = answers_of(small_job.cwd, [frame.image for frame in made.frames])
    for entry in told["frames"]:
        made = made.answered(entry["image"], parse_clicks(entry))
    write_review(path, made)
    try:
        for extra in ([], ["--no-corrections"]):
            outcome = run_in_process(
                "report", "--run", "run", "--in-domain", "dashcam=dashcam", "--real-world", "drone=drone",
                "--conf", "0.05", "--no-fiftyone", "--no-label-free", "--out", str(tmp_path / f"out{len(extra)}"),
                *extra, cwd=small_job.cwd,
            )  # fmt: skip
            assert outcome.code == 0, outcome.stderr[-2000:]
    finally:
        shutil.rmtree(path.parents[1])
    record = json.loads((tmp_path / "out0" / "report.json").read_text(encoding="utf-8"))
    (entry,) = record["review"]
    assert (entry["domain"], entry["answers"]) == ("drone", 18)
    assert "AP by points" in (tmp_path / "out0" / "report.html").read_text(encoding="utf-8")
    assert "From clicks" in (tmp_path / "out0" / "report.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out1" / "report.json").read_text(encoding="utf-8"))["review"] == []


def test_a_review_of_other_images_is_not_used(place: Path) -> None:
    report = read_report(folder_of(place))
    drone = next(domain for domain in report.domains if domain.name == "drone")
    other = drone.subset(drone.images["image"].head(10))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIFTSCOPE_RUNS", str(place / "runs"))
        made = new_review("r", other, seed=0)
        image = made.frames[0].image
        made = made.answered(image, Clicks(((1.0, 1.0, "pothole"),), {0: False}))
        write_review(review_path("r", other), made)
        said: list[str] = []
        assert find_reviews([drone], said.append) == {}
        kept = find_reviews([other], said.append)["drone"]
        assert not said
        assert kept.answers[image].judged == {0: False}
        # A click is true of the image; what was said of a detection belongs to the detector that made it.
        again = replace(other, detections=other.detections.assign(confidence=0.5))
        kept = domain_review(made, again)
        assert kept.answers[image].points.tolist() == [[1.0, 1.0]]
        assert kept.answers[image].judged == {}
        review_path("r", other).with_name("broken.json").write_text("{", encoding="utf-8")
        find_reviews([drone], said.append)
        assert "broken.json: not a review" in said[0]


def test_domains_of_similar_names_have_reviews_of_their_own(place: Path) -> None:
    report = read_report(folder_of(place))
    drone = next(domain for domain in report.domains if domain.name == "drone")
    names = ("a/b", "a_b", "ä", "n" * 300)
    paths = {review_path("r", replace(drone, name=name)) for name in names}
    assert len(paths) == len(names)
    assert all(len(path.name) < 100 for path in paths)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "no JSON can be read there"),
        ("[]", "expected"),
        ('{"frames": [{"points": []}]}', "frames[0]: 'image' is missing"),
        (
            '{"frames": [{"image": "a.jpg", "points": [[1, 2]]}]}',
            "frames[0]: point [1, 2]: expected [x, y, class]",
        ),
        ('{"frames": [{"image": "a.jpg", "points": [[1, NaN, "pothole"]]}]}', "x and y must be numbers"),
        ('{"frames": [{"image": "a.jpg", "points": [[1, 2, "pothole"]]}]}', "is not an image of drone"),
        (
            '{"frames": [{"image": "KNOWN", "points": [[1, 2, "dog"]]}]}',
            "class 'dog' is none of the detector's",
        ),
        ('{"frames": [{"image": "KNOWN", "detections": {"0": "yes"}}]}', "is neither true nor false"),
        ('{"frames": [{"image": "KNOWN", "detections": {"99999": true}}]}', "there is no detection 99999"),
        ('{"frames": [{"image": "KNOWN", "detections": {"-1": true}}]}', "there is no detection -1"),
        (
            '{"frames": [{"image": "KNOWN", "detections": []}]}',
            "detections: expected {number: true or false}, not []",
        ),
        ('{"frames": [{"image": "KNOWN", "points": [[5000, 2, "pothole"]]}]}', "outside of the image"),
        (
            '{"frames": [{"image": "KNOWN", "points": ['
            + ", ".join(f'[0.{n}, 0.5, "pothole"]' for n in range(1, 7))
            + "]}]}",
            "6 points look like fractions",
        ),
    ],
)
def test_answers_that_do_not_fit_are_one_line(place: Path, content: str, words: str) -> None:
    known = review(place, "--plan")["frames"][0]
    path = place / "answers.json"
    path.write_text(content.replace("KNOWN", known), encoding="utf-8")
    outcome = run_in_process("review", "--answers", str(path), cwd=place)
    assert outcome.code == 2
    assert words in complaint(outcome)
    assert str(path) in complaint(outcome)
    assert not (place / "runs" / "review").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: no such report; there are: "),
        (["--domain", "seaside"], "the report has no such real-world domain; it has drone"),
        (["--answers", "missing.json"], "there is no such file"),
        (["--budget", "0"], "budget"),
    ],
)
def test_wrong_requests_are_one_line(place: Path, arguments: list[str], words: str) -> None:
    outcome = run_in_process("review", *arguments, cwd=place)
    assert outcome.code == 2
    assert words in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_without_any_report(tmp_path: Path) -> None:
    outcome = run_in_process("review", cwd=tmp_path)
    assert outcome.code == 2
    assert "write one with 'shiftscope report'" in complaint(outcome)


@pytest.fixture
def served(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Session]]:
    """The page of a review of all frames."""
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(place / "runs"))
    session = open_session(ReviewOptions(report=folder_of(place), budget=18))
    server = create_server(session, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", session
    server.shutdown()
    server.server_close()


def click_all(page: Page, session: Session, place: Path) -> int:
    """Click the objects of the frame that is shown; the number of clicks."""
    number = int(page.locator("#title").inner_text().split("frame ")[1].split()[0]) - 1
    (entry,) = answers_of(place, [session.frames[number]])["frames"]
    for x, y, _ in entry["points"]:
        spot = page.evaluate(
            "([x, y]) => "
            "{ const p = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM()); return [p.x, p.y]; }",
            [x, y],
        )
        page.mouse.click(*spot)
    return len(entry["points"])


@pytest.mark.parametrize("width", [1280, pytest.param(390, marks=pytest.mark.slow)])
def test_a_person_answers_on_the_page(
    served: tuple[str, Session], place: Path, browser: Browser, width: int
) -> None:
    address, session = served
    page = browser.new_page(viewport={"width": width, "height": 800})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(address)
    page.locator("#close").click()
    for _ in range(18):
        before = page.locator("#title").inner_text()
        clicks = click_all(page, session, place)
        assert page.locator("circle").count() == clicks
        page.keyboard.press("Enter")
        page.wait_for_function(
            "before => title.textContent !== before || message.textContent !== ''", arg=before
        )
    assert "All frames are answered" in page.locator("#message").inner_text()
    assert page.locator("#estimate").inner_text().startswith("AP by points 0.")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()
    assert not problems
    told = {entry["image"]: entry["points"] for entry in answers_of(place, session.frames)["frames"]}
    kept = read_review(session.path).answers
    assert set(kept) == set(told)
    for image, clicks_kept in kept.items():
        at = np.array([point[:2] for point in clicks_kept.points]).reshape(-1, 2)
        # On a narrow screen one pixel of it is several of the image.
        assert np.abs(at - np.array([p[:2] for p in told[image]]).reshape(-1, 2)).max(initial=0) < 4


def test_undo_back_remove_and_judge(served: tuple[str, Session], browser: Browser) -> None:
    address, session = served
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(address)
    page.locator("#close").click()
    middle = page.locator("svg").bounding_box()
    x, y = middle["x"] + middle["width"] / 2, middle["y"] + middle["height"] / 2
    page.mouse.click(x, y)
    page.mouse.click(x + 60, y)
    assert page.locator("circle").count() == 2
    page.keyboard.press("u")
    assert page.locator("circle").count() == 1
    page.mouse.click(x, y)  # on the point itself
    assert page.locator("circle").count() == 0
    page.mouse.click(x, y)
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_contain_text("frame 2")
    page.keyboard.press("ArrowRight")  # looked at, and not answered
    expect(page.locator("#title")).to_contain_text("frame 3")
    # Both at once: nothing is saved while another frame is on its way.
    page.evaluate(PRESS_BOTH)
    expect(page.locator("#title")).to_contain_text("frame 2")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#title")).to_contain_text("frame 1")
    assert page.locator("circle").count() == 1
    (answer,) = session.review.answers.values()
    assert len(answer.points) == 1
    page.reload()
    expect(page.locator("#title")).to_contain_text("frame 2")
    assert "1 answered" in page.locator("#count").inner_text()
    page.close()


def test_the_page_is_for_this_machine_only(served: tuple[str, Session]) -> None:
    address, session = served

    def code(path: str, *, data: bytes | None = None, **headers: str) -> int:
        request = urllib.request.Request(address + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code

    right = {"Content-Type": "application/json"}
    assert code("/image/0") == 200
    assert code("/image/0", Host="evil.example") == 403
    assert code("/answer/0", data=b'{"points": []}', **{**right, "Origin": "http://evil.example"}) == 403
    assert code("/answer/0", data=b'{"points": []}', **{"Content-Type": "text/plain"}) == 403
    assert code("/answer/999", data=b'{"points": []}', **right) == 400
    for broken in (b"[", b"[]", b'{"detections": []}', '{"points": [[1, 1, "кошка"]]}'.encode()):
        assert code("/answer/0", data=broken, **right) == 400
    assert code("/../../etc/passwd") == 400
    assert not session.review.answers
    assert code("/answer/0", data=b'{"points": []}', **right) == 200
    assert list(session.review.answers) == session.frames[:1]


def test_a_result_without_numbers_says_why(place: Path) -> None:
    asked = review(place, "--plan")["frames"][:3]
    result = review(place, "--answers", write_answers(place, asked), "--json")
    assert result["ap50_points"] is None
    (line,) = lines(result)
    assert "No estimate: 3 frames answered" in line


def test_a_review_of_images_that_are_gone_is_refused(place: Path) -> None:
    asked = review(place, "--plan")["frames"]
    review(place, "--answers", write_answers(place, asked[:1]), "--json")
    path = next((place / "runs" / "review").rglob("*.json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    content["frames"] = content["frames"][1:]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(InputError, match="review of other images"):
        open_session_in(place)


def open_session_in(place: Path) -> Session:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHIFTSCOPE_RUNS", str(place / "runs"))
        return open_session(ReviewOptions(report=folder_of(place)))
