"""The FiftyOne App in a real browser, on the dataset of the main job.

Workspace, panel, links, and edits that are read back.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from bson import ObjectId
from playwright.sync_api import Browser, Page, expect

from tests.conftest import SCRIPT, MainJob, free_port, run_script

# Milliseconds. The App loads megabytes of script, which is slow on a busy machine.
PATIENCE = 60_000
# A click that nothing has answered by then is lost.
LOST_CLICK = 10_000


@dataclass(frozen=True)
class App:
    """A running App.

    job: the main job
    dataset: name of its dataset
    port: port of the App
    url: the address printed on stderr
    """

    job: MainJob
    dataset: str
    port: int
    url: str


@pytest.fixture(scope="module")
def app(main_job: MainJob) -> Iterator[App]:
    """`shiftscope app` as users start it."""
    port = free_port()
    process = subprocess.Popen(
        [SCRIPT, "app", main_job.record["fiftyone"]["dataset"], "--port", str(port)],
        cwd=main_job.cwd,
        env={**os.environ, "SHIFTSCOPE_RUNS": str(main_job.cwd / "runs")},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    url = ""
    for line in process.stderr:
        if address := re.search(r"FiftyOne App: (\S+)", line):
            url = address[1]
            break
    yield App(main_job, main_job.record["fiftyone"]["dataset"], port, url)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=300) == 0


@contextmanager
def opened(browser: Browser, url: str, width: int = 1600) -> Iterator[tuple[Page, list[str]]]:
    """A page of the App without its vendor's banner, and the addresses of the images that it requests."""
    context = browser.new_context(viewport={"width": width, "height": 1400})
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    images: list[str] = []
    page.on("request", lambda r: images.append(unquote(r.url)) if "media?filepath" in r.url else None)
    page.add_locator_handler(
        page.get_by_role("button", name="Dismiss").first,
        lambda button: button.evaluate("e => e.click()"),
        times=3,
    )
    page.goto(url)
    yield page, images
    context.close()


@contextmanager
def loaded(app: App) -> Iterator[Any]:
    """The dataset as the database holds it now."""
    from reports.workbench.connection import database

    with database() as fo:
        dataset = fo.load_dataset(app.dataset)
        dataset.reload()
        yield dataset


def execute(page: Page) -> None:
    """Press Execute in an operator's dialog, again where the App lost the click while it laid the dialog out."""
    button = page.get_by_role("button", name="Execute")
    for _ in range(PATIENCE // LOST_CLICK):
        button.click()
        try:
            expect(button).to_be_hidden(timeout=LOST_CLICK)
        except AssertionError:
            continue
        return
    expect(button).to_be_hidden()


def rows_of(page: Page, first_column: str) -> list[list[str]]:
    """Cells of the table that has a column of this title."""
    table = (
        page.locator("table")
        .filter(has=page.get_by_role("columnheader", name=first_column, exact=True))
        .first
    )
    table.locator("tbody tr").first.wait_for()
    return [row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()]


def test_the_app_opens_on_the_false_positives_at_the_loopback_address(app: App) -> None:
    assert (
        app.url == f"http://127.0.0.1:{app.port}/datasets/{app.dataset}?view=false-positives&workspace=shift"
    )


def test_the_workspace_opens_and_the_view_holds_the_false_positives(app: App, browser: Browser) -> None:
    tables = app.job.folder / "tables"
    detections = pd.read_parquet(tables / "detections.parquet")
    false_positives = detections[
        (detections["domain"] == "drone")
        & (detections["confidence"] >= 0.25)
        & detections["outcome"].notna()
        & (detections["outcome"] != "true_positive")
    ]
    with opened(browser, app.url) as (page, images):
        for tab in ("Samples", "Shift", "Map", "Histograms", "Model Evaluation"):
            expect(page.get_by_text(tab, exact=True).first).to_be_visible()
        expect(page.locator("[data-cy=entry-counts]")).to_have_text(
            f"{false_positives['image'].nunique()} samples"
        )
        page.wait_for_function("document.querySelectorAll('canvas[canvas-loaded]').length > 3")
        assert images
        names = {
            Path(p).name
            for p in pd.read_parquet(tables / "images.parquet").query("domain == 'drone'")["path"]
        }
        assert {Path(p.split("filepath=")[1].split("&")[0]).name for p in images} <= names


def test_the_panel_shows_the_numbers_of_the_report(app: App, browser: Browser) -> None:
    from diagnostics.wording import fraction, interval

    record = app.job.record
    primary = next(h for h in record["verdict"]["hypotheses"] if h["code"] == record["verdict"]["primary"])
    scores = {s["domain"]: s for s in record["slices"] if s["slice"] == "all"}
    with opened(browser, app.url) as (page, _):
        expect(page.get_by_text(primary["statement"])).to_be_visible()
        shown = {row[0]: row for row in rows_of(page, "Clips")}
        for entry in record["domains"]:
            row = shown[entry["name"]]
            assert row[1:3] == [f"{entry['images']:,}", f"{entry['groups']:,}"]
            score = scores.get(entry["name"], {})
            if score.get("ap50") is not None:
                brackets = interval(score["ap50_low"], score["ap50_high"])
                assert row[3] == f"{fraction(score['ap50'])} {brackets}"
        points = {entry["domain"]: {p["confidence"]: p for p in entry["points"]} for entry in record["sweep"]}
        for name, *counts, precision, recall in rows_of(page, "Missed"):
            point = points[name][0.25]
            assert (precision, recall) == (fraction(point["precision"]), fraction(point["recall"]))
            assert sum(map(int, (counts[0], counts[2]))) == next(
                d["boxes"] for d in record["domains"] if d["name"] == name
            )
        # At another threshold, every count changes.
        slider = page.locator(".MuiSlider-root").last.bounding_box()
        assert slider is not None
        page.mouse.click(slider["x"] + slider["width"] / 2, slider["y"] + slider["height"] / 2)
        expect(page.get_by_text("Detections with confidence 0.50 or more").first).to_be_visible()
        page.wait_for_function(
            "text => [...document.querySelectorAll('td')].some(e => e.innerText === text)",
            arg=fraction(points["drone"][0.5]["recall"]),
        )
        for name, *_, precision, recall in rows_of(page, "Missed"):
            point = points[name][0.5]
            assert (precision, recall) == (fraction(point["precision"]), fraction(point["recall"]))
        page.get_by_role("button", name="Show missed").click()
        missed = next(row for row in rows_of(page, "Missed") if row[0] == "drone")[3]
        with loaded(app) as dataset:
            from reports.workbench.threshold import view_at_threshold

            view = view_at_threshold(dataset, ["drone"], 0.5, "missed")
            assert view.count("ground_truth.detections") == int(missed)
            expect(page.locator("[data-cy=entry-counts]")).to_have_text(f"{len(view)} samples")


def test_the_panel_fits_its_column_at_1440_pixels(app: App, browser: Browser) -> None:
    """No part of the panel is wider than its column, and none scrolls sideways."""
    with opened(browser, app.url, width=1440) as (page, _):
        rows_of(page, "Clips")
        rows_of(page, "Missed")
        rows_of(page, "Slice")
        panel = page.locator("[data-cy=panel-content-shiftscope_shift]")
        column = panel.bounding_box()
        assert column is not None
        assert column["width"] < 700
        too_wide = panel.evaluate(
            """panel => {
                const right = panel.getBoundingClientRect().right + 1;
                return [panel, ...panel.querySelectorAll("*")]
                    .filter(e => e.getBoundingClientRect().right > right
                        || (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX !== "visible"))
                    .map(e => `${e.tagName} ${e.className} ${e.innerText?.slice(0, 40)}`);
            }"""
        )
        assert too_wide == []


def test_a_click_on_a_slice_shows_its_images(app: App, browser: Browser) -> None:
    with opened(browser, app.url) as (page, _):
        name, domain, images, _ = rows_of(page, "Slice")[0]
        page.get_by_role("cell", name=name, exact=True).first.click()
        expect(page.locator("[data-cy=entry-counts]")).to_have_text(f"{images} samples")
        assert domain == "drone"


def test_the_model_evaluation_panel_shows_the_map_of_each_slice(app: App, browser: Browser) -> None:
    ap_by_slice = {
        s["slice"]: s["ap"]
        for s in app.job.record["slices"]
        if s["domain"] == "drone" and s["attribute"] == "brightness"
    }
    with loaded(app) as dataset:
        results = dataset.load_evaluation_results("eval_drone", cache=False)
        for name, ap in ap_by_slice.items():
            with results.use_subset({"type": "field", "field": "slice_brightness", "value": name}):
                assert results.mAP() == pytest.approx(ap, abs=1e-9) if ap is not None else True
        complete = f"{results.mAP():.3f}"
    with opened(browser, app.url) as (page, _):
        page.get_by_text("Model Evaluation", exact=True).first.click()
        page.get_by_text("eval_drone", exact=True).last.click()
        row = page.get_by_role("row").filter(has=page.get_by_text("mAP", exact=True)).first
        expect(row).to_contain_text(complete)
        page.get_by_text("Scenario Analysis").click()
        expect(page.get_by_text("Prediction Statistics")).to_be_visible()
        expect(page.get_by_text("brightness", exact=True).first).to_be_visible()


def test_images_are_tagged_as_label_next_and_handed_off(app: App, browser: Browser) -> None:
    try:
        with opened(browser, app.url) as (page, _):
            page.wait_for_function("document.querySelectorAll('[data-cy=looker]').length > 3")
            for number in (0, 1):
                tile = page.locator("[data-cy=looker]").nth(number)
                tile.hover()
                # Images move below the pointer while the grid is laid out: the event goes to the checkbox itself.
                tile.locator("[data-cy=looker-checkbox-]").dispatch_event("click")
            page.get_by_role("button", name="Tag as label next").click()
            expect(page.get_by_text("2 images selected. Execute tags them")).to_be_visible()
            execute(page)
            expect(page.get_by_text("2 images tagged “label next”")).to_be_visible()
            page.get_by_role("button", name="Close").click()
            with loaded(app) as dataset:
                tagged = dataset.match_tags("label next")
                chosen = set(tagged.values("filepath"))
                assert len(chosen) == 2
                assert set(tagged.distinct("domain")) == {"drone"}
            page.get_by_role("button", name="Hand off for labelling").click()
            expect(
                page.get_by_text("2 images tagged “label next”, with the detections as draft labels")
            ).to_be_visible()
            execute(page)
            expect(page.get_by_text("It is a YOLO dataset")).to_be_visible()
    finally:
        with loaded(app) as dataset:
            dataset.untag_samples("label next")
    folder = app.job.folder / "hand-off"
    assert len(list((folder / "images").iterdir())) == 2
    assert {"coco.json", "cvat.xml", "label-studio.json", "data.yaml"} <= {p.name for p in folder.iterdir()}


def test_edits_in_the_app_are_read_back_and_used(app: App) -> None:
    """One box added, one deleted, one moved, and a tag; then a report with and one without these edits."""
    import fiftyone as fo

    job = app.job
    before = {d["name"]: d["boxes"] for d in job.record["domains"]}
    corrections = job.cwd / "runs" / "corrections.json"
    with loaded(app) as dataset:
        view = dataset.match(fo.ViewField("domain") == "drone").match(
            fo.ViewField("ground_truth.detections").length() > 1
        )
        first, second = view.limit(2)
        ids = [ObjectId(sample.id) for sample in (first, second)]
        originals = list(dataset._sample_collection.find({"_id": {"$in": ids}}))
        first.ground_truth.detections.append(fo.Detection(label="pothole", bounding_box=[0.4, 0.4, 0.1, 0.1]))
        first.tags.append("shadow")
        first.save()
        box = second.ground_truth.detections[0]
        left, top, width, height = box.bounding_box
        box.bounding_box = [left, top, width / 2, height]
        del second.ground_truth.detections[1]
        second.save()
    try:
        pulled = run_script("app", app.dataset, "--pull", cwd=job.cwd)
        assert pulled.code == 0, pulled.stderr
        assert "Labels of 2 images changed; annotations: 1 added, 1 deleted, 1 moved." in pulled.stdout
        assert "1 image tagged “shadow”." in pulled.stdout
        again = json.loads(run_script("app", app.dataset, "--pull", "--json", cwd=job.cwd).stdout)
        assert again["annotations"] == {"added": 1, "moved": 1, "deleted": 1}
        assert len(json.loads(corrections.read_text())["images"]) == 2
        report = ("report", "--json", "--no-fiftyone", "--out", str(job.cwd / "corrected"))
        used = run_script(*report, cwd=job.cwd)
        assert used.code == 0, used.stderr[-2000:]
        assert "labels of 2 images as corrected in the App" in used.stderr
        record = json.loads(used.stdout)
        drone = next(d for d in record["domains"] if d["name"] == "drone")
        assert drone["corrected"]["labels"] == 2
        assert drone["boxes"] == before["drone"]
        assert next(d for d in record["domains"] if d["name"] == "dashcam")["boxes"] == before["dashcam"]
        assert any(s["attribute"] == "own:tag shadow" for s in record["slices"])
        boxes = pd.read_parquet(job.cwd / "corrected" / "tables" / "annotations.parquet")
        uncorrected = pd.read_parquet(job.folder / "tables" / "annotations.parquet")
        changed = {first.image_id, second.image_id}
        assert (
            not boxes[boxes["image"].isin(changed)]
            .reset_index(drop=True)
            .equals(uncorrected[uncorrected["image"].isin(changed)].reset_index(drop=True))
        )
        others = [t[~t["image"].isin(changed)].reset_index(drop=True) for t in (boxes, uncorrected)]
        assert others[0].equals(others[1])
        page = (job.cwd / "corrected" / "report.html").read_text(encoding="utf-8")
        assert "labels of 2 images as corrected in the App" in page
        plain = run_script(*report, "--no-corrections", cwd=job.cwd)
        assert json.loads(plain.stdout)["slices"] == job.record["slices"]
    finally:
        with loaded(app) as dataset:
            for document in originals:
                dataset._sample_collection.replace_one({"_id": document["_id"]}, document)
        corrections.unlink(missing_ok=True)


def test_two_runs_are_compared_in_one_dataset(app: App, browser: Browser) -> None:
    """The demo's run at two image sizes: the operator adds detections and shows the disagreements."""
    job = app.job
    run = next((job.cwd / "runs" / "train").glob("demo-*"))
    dashcam, drone = (next((job.cwd / "runs" / "demo").glob(f"{name}-*")) for name in ("dashcam", "drone"))
    other = run_script(
        "report", "--weights", str(run / "weights" / "best.pt"), "--in-domain", f"dashcam={dashcam}",
        "--real-world", f"drone={drone}", "--no-label-free", "--imgsz", "192", "--json",
        "--out", str(job.cwd / "runs" / "report" / "smaller"), cwd=job.cwd,
    )  # fmt: skip
    assert other.code == 0, other.stderr[-2000:]
    record = json.loads(other.stdout)
    with opened(browser, app.url) as (page, _):
        page.get_by_role("button", name="Compare runs").click()
        page.get_by_role("combobox").last.click()
        page.get_by_role("option", name=record["fiftyone"]["dataset"], exact=True).click()
        execute(page)
        expect(page.get_by_text("in smaller:").first).to_be_visible()
        message = page.locator("[role=dialog], [role=presentation]").last.inner_text()
    from diagnostics.wording import fraction

    first = next(s for s in job.record["slices"] if (s["domain"], s["slice"]) == ("drone", "all"))
    second = next(s for s in record["slices"] if (s["domain"], s["slice"]) == ("drone", "all"))
    sentence = f"AP50 {fraction(first['ap50'])} in this run and {fraction(second['ap50'])} in smaller"
    assert sentence in message
    with loaded(app) as dataset:
        assert "predictions_smaller" in dataset.get_field_schema()
        assert dataset.load_evaluation_results("eval_drone_vs_smaller", cache=False).mAP() == pytest.approx(
            second["ap"], abs=1e-9
        )
        view = dataset.load_saved_view("disagreements with smaller")
        outcomes = zip(
            view.values("ground_truth.detections.outcome", unwind=True),
            view.values("ground_truth.detections.outcome_smaller", unwind=True),
            strict=True,
        )
        pairs = list(outcomes)
        assert pairs
        assert all(a != b for a, b in pairs)


def test_a_gallery_link_opens_its_image(app: App, browser: Browser) -> None:
    # After the other tests of the App: the server keeps the image open for the next client.
    cards = {card["kind"]: card for card in reversed(app.job.record["gallery"]) if card["domain"] == "drone"}
    paths = pd.read_parquet(app.job.folder / "tables" / "images.parquet").set_index(["domain", "image"])[
        "path"
    ]
    for kind in ("false_positive", "missed"):
        card = cards[kind]
        url = card["app_url"].replace(":5151/", f":{app.port}/")
        with opened(browser, url) as (page, images):
            modal = page.locator("[data-cy=modal]")
            expect(modal).to_be_visible()
            expect(modal).to_contain_text(card["image"][:30])
            name = Path(paths[("drone", card["image"])]).name
            page.wait_for_function("() => document.querySelector('[data-cy=modal] canvas') !== null")
            assert any(Path(p).name.startswith(name) for p in images)


def test_a_dataset_that_the_database_lost_is_written_again(main_job: MainJob) -> None:
    """With its tags, which were read back before."""
    from reports.workbench.connection import database

    name = main_job.record["fiftyone"]["dataset"]
    with database() as fo:
        dataset = fo.load_dataset(name)
        dataset.match(fo.ViewField("domain") == "drone").limit(3).tag_samples("shadow")
        dataset.limit(1).tag_samples("label next")
        assert run_script("app", name, "--pull", cwd=main_job.cwd).code == 0
        before = dataset.values(["id", "predictions.detections.id", "ground_truth.detections.id"])
        fo.delete_dataset(name)
    refused = run_script("app", name, "--pull", cwd=main_job.cwd)
    assert refused.code == 2
    assert "--rebuild" in refused.stderr
    rebuilt = run_script("app", name, "--rebuild", "--pull", cwd=main_job.cwd)
    assert rebuilt.code == 0, rebuilt.stderr[-2000:]
    assert "3 images tagged “shadow”" in rebuilt.stdout
    with database() as fo:
        again = fo.load_dataset(name)
        assert again.count_sample_tags()["shadow"] == 3
        assert again.count_sample_tags()["label next"] == 1
        again.untag_samples(["shadow", "label next"])
        assert run_script("app", name, "--pull", cwd=main_job.cwd).stdout.startswith("Nothing was changed")
        assert json.loads((main_job.cwd / "runs" / "corrections.json").read_text())["images"] == {}
        assert again.values(["id", "predictions.detections.id", "ground_truth.detections.id"]) == before
        assert set(again.list_evaluations()) == {"eval_dashcam", "eval_drone"}
