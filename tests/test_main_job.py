"""The main job end to end: `shiftscope report` without arguments, its report in a real browser, its dataset
in FiftyOne.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Browser

import shiftscope
from datasets.world import DRONE, Plan, build_world
from diagnostics.wording import fraction
from tests.conftest import MainJob, opened, run_script
from tests.oracles import pycocotools_metrics

KEYS = {
    "schema_version", "created", "seed", "versions", "run", "protocol", "domains", "slices", "sweep", "transfer", "errors", "calibration",
    "shift", "label_free", "verdict", "next", "gallery", "timings",
}  # fmt: skip


def slice_of(job: MainJob, domain: str, name: str = "all") -> dict:
    return next(s for s in job.record["slices"] if (s["domain"], s["slice"]) == (domain, name))


def verdicts_of(job: MainJob) -> dict[str, dict]:
    """The verdict of each real-world domain."""
    return {d["name"]: d["verdict"] for d in job.record["domains"] if d["role"] == "real_world"}


@pytest.mark.slow
def test_it_finds_the_cause_that_was_built_in_and_no_other(main_job: MainJob) -> None:
    in_domain, real_world = slice_of(main_job, "dashcam"), slice_of(main_job, "drone")
    assert in_domain["ap50"] >= 0.70
    assert real_world["ap50"] <= in_domain["ap50"] - 0.25
    verdict = main_job.record["verdict"]
    assert verdict["primary"] == "domain_shift"
    assert [h["code"] for h in verdict["hypotheses"] if h["status"] == "supported"] == ["domain_shift"]
    assert next(h for h in verdict["hypotheses"] if h["code"] == "domain_shift")["kind"] == "viewpoint"
    # Each real-world domain has a verdict of its own, the unlabelled flight as well.
    verdicts = verdicts_of(main_job)
    assert set(verdicts) == {"drone", "flight"}
    assert (verdict["domain"], verdict["leading"]) == ("drone", "domain_shift")
    assert verdicts["flight"]["primary"] is None
    assert verdicts["flight"]["next_step"]
    assert "flight: " in main_job.outcome.stderr


@pytest.mark.slow
def test_a_second_report_runs_no_inference_and_says_the_same(main_job: MainJob) -> None:
    again = run_script("report", "--json", "--out", str(main_job.cwd / "again"), cwd=main_job.cwd)
    assert again.code == 0
    assert "Rendering" not in again.stderr
    assert "epoch 1 of" not in again.stderr
    second = json.loads(again.stdout)
    for key in ("slices", "sweep", "errors", "shift", "verdict", "next"):
        assert second[key] == main_job.record[key], key


@pytest.mark.slow
def test_it_shows_progress_on_stderr_and_keeps_stdout_for_data(main_job: MainJob) -> None:
    assert main_job.outcome.stdout == ""
    for words in ("Rendering dashcam", "epoch 1 of"):
        assert words in main_job.trained
    for words in ("Inference on drone", "Report: "):
        assert words in main_job.outcome.stderr
    assert "Traceback" not in main_job.outcome.stderr


def test_report_json_keeps_the_contract(job: MainJob) -> None:
    record = job.record
    assert set(record) >= KEYS
    assert {d["role"] for d in record["domains"]} == {"in_domain", "real_world"}
    assert all(
        {"name", "role", "images", "labelled_images", "boxes", "groups", "skipped"} <= set(d)
        for d in record["domains"]
    )
    names = {
        "slice",
        "domain",
        "images",
        "boxes",
        "groups",
        "ap",
        "ap50",
        "ap75",
        "ap50_low",
        "ap50_high",
        "max_recall",
        "note",
    }
    assert all(names <= set(s) for s in record["slices"])
    for entry in record["sweep"]:
        assert {"confidence", "precision", "recall", "f1", "false_positives_per_image"} <= set(
            entry["points"][0]
        )
    assert all(
        {"code", "name", "status", "score", "statement", "evidence", "missing"} <= set(h)
        for h in record["verdict"]["hypotheses"]
    )
    statuses = {h["status"] for h in record["verdict"]["hypotheses"]}
    assert statuses <= {"supported", "rejected", "inconclusive", "untested"}
    assert record["schema_version"] == 2
    assert "NaN" not in (job.folder / "report.json").read_text()


@pytest.mark.slow
def test_the_video_has_no_ap_but_an_estimate_without_labels(main_job: MainJob) -> None:
    flight = slice_of(main_job, "flight")
    assert flight["ap50"] is None
    assert "no labels" in flight["note"]
    estimates = {entry["domain"]: entry for entry in main_job.record["label_free"]}
    assert set(estimates) == {"drone", "flight"}
    for estimate in estimates.values():
        assert estimate["abstained"] == (estimate["ap50"] is None)
        assert estimate["error"] < 0.6 * estimate["naive_error"]
    # The drone has labels, which the estimate does not use and is compared with.
    drone = estimates["drone"]
    assert drone["truth"] == pytest.approx(slice_of(main_job, "drone")["ap50"])
    in_domain = slice_of(main_job, "dashcam")["ap50"]
    assert abs(drone["ap50"] - drone["truth"]) < 0.5 * (in_domain - drone["truth"])
    # Seventeen families in two severities.
    assert len(main_job.record["label_free_check"]) == 17


@pytest.mark.slow
def test_corrections_that_recover_something_are_tried_in_every_combination(main_job: MainJob) -> None:
    record = main_job.record
    by_measure = {decomposition["measure"]: decomposition for decomposition in record["contributions"]}
    recoveries = record["evidence"]["interventions"]
    most = max(recovery["images"] for recovery in recoveries.values())
    # What was left early is in none of them; where all was, there is nothing to combine but the threshold.
    left = {name for name, recovery in recoveries.items() if recovery["images"] < most}
    assert "F1" in by_measure
    if "AP50" not in by_measure:
        assert {"colours", "foreshortening"} <= left
        return
    for decomposition in by_measure.values():
        recovered = sum(contribution["recovered"] for contribution in decomposition["contributions"])
        assert recovered == pytest.approx(decomposition["end"] - decomposition["start"])
        assert decomposition["left"] == pytest.approx(decomposition["in_domain"] - decomposition["end"])
        assert decomposition["end"] >= decomposition["start"]
    single = {
        contribution["name"]: contribution["alone"] for contribution in by_measure["AP50"]["contributions"]
    }
    assert set(single) & set(recoveries)
    for name in set(single) & set(recoveries):
        assert single[name] == pytest.approx(recoveries[name]["after"] - recoveries[name]["before"])
    assert not left & set(single)
    assert "confidence threshold" in {
        contribution["name"] for contribution in by_measure["F1"]["contributions"]
    }


@pytest.mark.slow
def test_the_video_is_described_over_time(main_job: MainJob) -> None:
    (steady,) = main_job.record["videos"]
    # Six bursts of eight frames have seven pairs of neighbours each.
    assert (steady["domain"], steady["pairs"]) == ("flight", 6 * 7)
    page = (main_job.folder / "report.html").read_text(encoding="utf-8")
    assert "Over time: flight" in page


def test_slices_equal_pycocotools(job: MainJob) -> None:
    """The report's own tables, scored by somebody else."""
    tables = {
        name: pd.read_parquet(job.folder / "tables" / f"{name}.parquet")
        for name in ("images", "annotations", "detections")
    }
    for domain in ("dashcam", "drone"):
        part = {name: t[t["domain"] == domain] for name, t in tables.items()}
        number = {image: i for i, image in enumerate(part["images"]["image"])}
        boxes = [
            (number[b.image], 0, [b.x1, b.y1, b.x2 - b.x1, b.y2 - b.y1], (b.x2 - b.x1) * (b.y2 - b.y1), False)
            for b in part["annotations"].itertuples()
        ]
        found = [
            (number[d.image], 0, [d.x1, d.y1, d.x2 - d.x1, d.y2 - d.y1], d.confidence)
            for d in part["detections"].itertuples()
        ]
        for name, only in [
            ("all", None),
            *((clip, [number[i] for i in g["image"]]) for clip, g in part["images"].groupby("group")),
        ]:
            entry = next(
                (s for s in job.record["slices"] if (s["domain"], s["slice"]) == (domain, name)), None
            )
            if entry is None or entry["ap"] is None:
                continue
            expected = pycocotools_metrics((1, len(number), boxes, found), only)
            np.testing.assert_allclose([entry["ap"], entry["ap50"], entry["ap75"]], expected[:3], atol=1e-9)


@pytest.mark.slow
def test_files_add_up(main_job: MainJob) -> None:
    with (main_job.folder / "ledger.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len({r["path"] for r in rows}) == len(rows)
    assert sum(main_job.record["ledger"]["files"].values()) == len(rows)
    rendered = main_job.cwd / "runs" / "demo"
    on_disk = {str(p) for p in rendered.rglob("*") if p.is_file() and not p.name.startswith(".")}
    assert on_disk == {r["path"] for r in rows}


def test_markdown_says_the_same(job: MainJob) -> None:
    text = (job.folder / "report.md").read_text()
    about = job.record["verdict"]["domain"]
    cause = verdicts_of(job)[about]["cause"]
    assert text.startswith(f"# {cause}")
    assert re.search(r"\| dashcam \| in-domain \|", text)
    # Every table is one where Markdown is shown, and no line is drawn into the one above it.
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert sum(token.type == "table_open" for token in tokens) == text.count("\n|---|") >= 3
    assert not [token.content for token in tokens if token.type == "inline" and "\n" in token.content]


def test_python_reads_the_verdict_of_each_domain(job: MainJob) -> None:
    report = shiftscope.open_report(job.folder)
    frame = report.verdicts.set_index("domain")
    for name, verdict in verdicts_of(job).items():
        row = frame.loc[name]
        assert (row["grade"], row["cause"], row["next_step"]) == (
            verdict["grade"], verdict["cause"], verdict["next_step"],
        )  # fmt: skip
        assert row["grade"] in ("established", "likely", "undecided")
    assert "verdict" not in report.domains


def test_the_page_opens_offline_and_answers_first(browser: Browser, job: MainJob) -> None:
    page, trouble = opened(browser, job, width=1280)
    assert trouble == []
    assert page.title().startswith(
        f"Shiftscope: {(job.folder / 'report.md').read_text().splitlines()[0][2:]}"
    )
    verdict = page.locator("[data-test=verdict]")
    box = verdict.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 800, "the answer does not fit the first screen"
    shown = verdict.locator("[data-test=ap50]").all_inner_texts()
    assert shown == [fraction(slice_of(job, d)["ap50"]) for d in ("dashcam", "drone")]
    rows = page.locator("main > .of-focus > [data-test=hypothesis]")
    assert rows.count() == 9
    statuses = {e.get_attribute("data-code"): e.get_attribute("data-status") for e in rows.all()}
    others = [e.get_attribute("data-domain") for e in page.locator("[data-test=other-verdict]").all()]
    assert others == [name for name in verdicts_of(job) if name != job.record["verdict"]["domain"]]
    assert statuses == {h["code"]: h["status"] for h in job.record["verdict"]["hypotheses"]}


def test_every_card_is_there_and_every_image_loads(browser: Browser, job: MainJob) -> None:
    page, _ = opened(browser, job, width=1280)
    assert page.locator("[data-test=card]").count() == len(job.record["gallery"])
    assert page.locator("[data-test=pick]").count() == len(job.record["next"])
    page.evaluate("document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
    page.wait_for_function("Array.from(document.images).every(i => i.complete)")
    assert (
        page.evaluate("Array.from(document.images).filter(i => i.naturalWidth === 0 || !i.alt).length") == 0
    )
    assert (job.folder / "report.html").stat().st_size < 15_000_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone_width_has_no_sideways_scrolling(browser: Browser, job: MainJob, scheme: str) -> None:
    page, trouble = opened(browser, job, width=390, height=844, scheme=scheme)
    assert trouble == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_dark_text_is_light(browser: Browser, job: MainJob) -> None:
    page, _ = opened(browser, job, width=1000, scheme="dark")
    ink, paper = (
        page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor")
    )
    assert min(map(int, re.findall(r"\d+", ink))) > 200
    assert max(map(int, re.findall(r"\d+", paper))) < 60
    assert page.evaluate("getComputedStyle(document.querySelector('svg text')).fill") == ink


def test_the_dataset_holds_what_the_report_says(job: MainJob) -> None:
    from reports.workbench.connection import database
    from reports.workbench.documents import SHOWN_FLOOR

    name = job.record["fiftyone"]["dataset"]
    with database() as fo:
        dataset = fo.load_dataset(name)
        assert dataset.persistent
        assert len(dataset) == sum(d["images"] for d in job.record["domains"])
        views = {
            "false positives",
            "missed",
            "localization errors",
            "all domains",
            "label next",
            "gallery",
        }
        detections = pd.read_parquet(job.folder / "tables" / "detections.parquet")
        duplicates = detections.loc[detections["domain"] == "drone", "outcome"].eq("duplicate")
        assert views <= set(dataset.list_saved_views())
        assert dataset.has_saved_view("duplicates") == duplicates.any()
        assert dataset.list_workspaces() == ["shift"]
        assert set(dataset.list_evaluations()) == {"eval_dashcam", "eval_drone"}
        assert dataset.list_brain_runs() == ["embedding_map", "similar_images"]
        mine = detections[(detections["domain"] == "drone") & (detections["confidence"] >= SHOWN_FLOOR)]
        wrong = mine[mine["outcome"].notna() & (mine["outcome"] != "true_positive")]
        # The view begins at confidence 0.25, and shows all where an untrained detector reaches that nowhere.
        if (wrong["confidence"] >= 0.25).any():
            wrong = wrong[wrong["confidence"] >= 0.25]
        view = dataset.load_saved_view("false positives")
        assert view.count("predictions.detections") == len(wrong)
        assert set(view.distinct("domain")) == {"drone"}
        confidences = [max(c) for c in view.values("predictions.detections.confidence")]
        assert confidences == sorted(confidences, reverse=True)
        assert dataset.load_saved_view("label next").values("label_next") == [
            p["rank"] for p in job.record["next"]
        ]
        results = dataset.load_evaluation_results("eval_drone")
        assert results.mAP() == pytest.approx(slice_of(job, "drone")["ap"], abs=1e-9)
        assert int((results.ypred == results.ytrue).sum()) == int((mine["outcome"] == "true_positive").sum())
        card = job.record["gallery"][0]
        assert dataset[card["app_url"].split("id=")[1]]["image_id"] == card["image"]


@pytest.mark.slow
def test_tags_set_in_the_app_can_be_sliced_by(main_job: MainJob) -> None:
    from datasets.attributes import join
    from datasets.tables import OWN
    from reports.workbench.connection import database
    from reports.workbench.dataset import attributes_of

    name = main_job.record["fiftyone"]["dataset"]
    images = pd.read_parquet(main_job.folder / "tables" / "images.parquet")
    drone = images[images["domain"] == "drone"].reset_index(drop=True)
    with database() as fo:
        dataset = fo.load_dataset(name)
        view = dataset.match(fo.ViewField("domain") == "drone").limit(7)
        view.tag_samples("shadow")
        tagged = set(view.values("image_id"))
        found = attributes_of(name)
        view.untag_samples("shadow")
        other = fo.Dataset("slices-of-anybody")
        other.add_sample(
            fo.Sample(filepath=drone.loc[0, "path"], weather=fo.Classification(label="fog"), speed=30)
        )
        foreign = attributes_of("slices-of-anybody")
        other.delete()
    # Of our own dataset, only what a person set: its fields are results.
    assert set(found.table.columns) == {"key", OWN + "tag shadow"}
    image_rows, count = join(drone, found)
    assert count == len(drone)
    assert set(image_rows.loc[image_rows[OWN + "tag shadow"] == "yes", "image"]) == tagged
    assert foreign.table[[OWN + "weather", OWN + "speed"]].to_numpy().tolist() == [["fog", 30]]


@pytest.mark.slow
def test_ones_own_attributes_become_slices(main_job: MainJob, tmp_path: Path) -> None:
    images = pd.read_parquet(main_job.folder / "tables" / "images.parquet")
    images = images[images["domain"].isin(["dashcam", "drone"])].reset_index(drop=True)
    rows = pd.DataFrame({"image": images["path"], "half": np.where(images.index % 2, "odd", "even")})
    rows.to_csv(tmp_path / "half.csv", index=False)
    run = next((main_job.cwd / "runs" / "train").glob("demo-*"))
    dashcam, drone = (
        next((main_job.cwd / "runs" / "demo").glob(f"{name}-*")) for name in ("dashcam", "drone")
    )
    outcome = run_script(
        "report", "--run", str(run), "--in-domain", f"dashcam={dashcam}", "--real-world", f"drone={drone}", "--slices", str(tmp_path / "half.csv"),
        "--no-fiftyone", "--json", "--out", str(tmp_path / "out"), cwd=main_job.cwd,
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr[-2000:]
    record = json.loads(outcome.stdout)
    found = {(s["domain"], s["slice"]): s for s in record["slices"] if s["attribute"] == "own:half"}
    assert set(found) == {(d, n) for d in ("dashcam", "drone") for n in ("odd", "even")}
    assert "half: odd" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    refused = run_script(
        "report", "--run", str(run), "--real-world", str(drone), "--slices", "nowhere.csv", cwd=main_job.cwd
    )
    assert refused.code == 2
    assert "nowhere.csv: cannot be read" in refused.stderr


@pytest.mark.slow
def test_a_report_works_without_a_database(main_job: MainJob) -> None:
    """An address where nothing answers: the report is written, and says that there is no dataset."""
    outcome = run_script(
        "report",
        "--json",
        "--out",
        str(main_job.cwd / "bare"),
        cwd=main_job.cwd,
        FIFTYONE_DATABASE_URI="mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=1500",
    )
    assert outcome.code == 0, outcome.stderr
    record = json.loads(outcome.stdout)
    assert record["fiftyone"]["dataset"] is None
    assert "no database answers at 127.0.0.1:9" in record["fiftyone"]["note"]
    assert record["verdict"] == main_job.record["verdict"]


@pytest.mark.slow
def test_hostile_names_stay_text(browser: Browser, main_job: MainJob, tmp_path: Path) -> None:
    """A folder, an image and a class named like attacks: shown as text, and a spreadsheet sees no formula."""
    source = next((main_job.cwd / "runs" / "demo").glob("drone-*"))
    hostile = tmp_path / "x<img src=q onerror=alert(1)>"
    (hostile / "images").mkdir(parents=True)
    (hostile / "labels").mkdir()
    for i, image in enumerate(sorted((source / "images" / "val").glob("*.jpg"))[:30]):
        stem = f"=cmd|'<script>alert(1)<script>$\\frac{i}"
        shutil.copy(image, hostile / "images" / f"{stem}.jpg")
        shutil.copy(source / "labels" / "val" / f"{image.stem}.txt", hostile / "labels" / f"{stem}.txt")
    run = next((main_job.cwd / "runs" / "train").glob("demo-*"))
    outcome = run_script(
        "report",
        "--run",
        str(run),
        "--in-domain",
        str(next((main_job.cwd / "runs" / "demo").glob("dashcam-*"))),
        "--real-world",
        f"_bad $\\frac$={hostile}",
        "--no-fiftyone",
        "--out",
        str(tmp_path / "out"),
        cwd=main_job.cwd,
    )
    assert outcome.code == 0, outcome.stderr
    job = MainJob(main_job.cwd, tmp_path / "out", outcome, {})
    page, trouble = opened(browser, job, width=1000)
    assert trouble == []
    assert page.locator("text=<script>").count() > 0
    assert page.evaluate("document.querySelectorAll('main script:not([type])').length") == 0
    assert page.evaluate("document.querySelectorAll('img[src=q]').length") == 0


@pytest.mark.slow
def test_candidate_datasets_are_tried_out(main_job: MainJob, tmp_path: Path) -> None:
    """More images from the car teach nothing about the view from above; images from above do. A budget may be
    boxes.
    """
    run = next((main_job.cwd / "runs" / "train").glob("demo-*"))
    ground, drone = (
        next((main_job.cwd / "runs" / "demo").glob(f"{name}-*")) for name in ("dashcam", "drone")
    )
    aerial = tmp_path / "aerial"
    list(build_world(aerial, Plan(DRONE, {"train": (10, 4)}, seed=77, prefix="more")))
    asked = (
        *("next", "--run", str(run), "--real-world", f"drone={drone}", "--probe", "--boxes", "9", "--json"),
        *(
            "--candidate",
            f"ground={ground}",
            "--candidate",
            f"aerial={aerial}",
            "--out",
            str(tmp_path / "next"),
        ),
    )
    outcome = run_script(*asked, cwd=main_job.cwd)
    assert outcome.code == 0, outcome.stderr
    result = json.loads(outcome.stdout)
    best, other = result["candidates"]
    assert (best["name"], other["name"]) == ("aerial", "ground")
    assert best["probed_low"] > other["probed"]
    assert "after a short training with 40 of its images, AP50 is" in best["reason"]
    assert "Probing aerial" in outcome.stderr
    annotations = [max(pick["annotations"], 1) for pick in result["next"]]
    assert sum(annotations[:-1]) < 9 <= sum(annotations)
    assert (best["by_size"], other["by_size"]) == (2, 1)
    # Trainings are kept: the second time nothing is trained, and nothing changes.
    again = run_script(*asked, cwd=main_job.cwd)
    assert json.loads(again.stdout)["candidates"] == result["candidates"]
    assert "epoch" not in again.stderr
    assert (
        "By size alone the order would be ground, aerial; a random order has the best one first 1 time in 2."
        in again.stderr
    )


def test_libraries_do_not_complain_when_the_command_ends(main_job: MainJob) -> None:
    """OpenVINO does, where its objects are left to the end of the process."""
    assert "nanobind" not in main_job.outcome.stderr
