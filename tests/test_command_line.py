"""The console script: the contract's commands and exit codes, and one clear line for everything a user can
get wrong.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer.main

from datasets.world import DASHCAM, DRONE, Plan, build_world
from reports.cli import app
from tests.conftest import SCRIPT, complaint, run_in_process, run_script


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    """A folder with two small rendered sources and an untrained run on the first."""
    folder = tmp_path_factory.mktemp("place")
    list(build_world(folder / "in_domain", Plan(DASHCAM, {"train": (2, 3), "val": (6, 5)}, seed=1)))
    list(build_world(folder / "real_world", Plan(DRONE, {"val": (6, 5)}, seed=2)))
    (folder / "run" / "weights").mkdir(parents=True)
    shutil.copyfile(weights, folder / "run" / "weights" / "best.pt")
    (folder / "run" / "args.yaml").write_text(f"imgsz: 256\ndata: {folder / 'in_domain' / 'data.yaml'}\n")
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "--run", "nowhere"], "nowhere: no such run folder"),
        (["report", "--weights", "nowhere.pt", "--in-domain", "in_domain"], "no such checkpoint"),
        (["report", "--run", "run", "--real-world", "nowhere"], "nowhere: no such file or folder"),
        (["report", "--run", "run", "--real-world", "void"], "void: the folder is empty"),
        (["report", "--run", "run", "--real-world", "junk"], "failed, first"),
        (["report", "--run", "run", "--real-world", "other"], "class names do not match the model"),
        (["report", "--weights", "junk/a.jpg", "--in-domain", "in_domain"], "not a usable checkpoint"),
        (["report", "--weights", "run/weights/best.pt", "--real-world", "real_world"], "no in-domain images"),
        (["report", "--real-world", "real_world"], "nothing to diagnose"),
        (["report", "--run", "run", "--predictions", "mars=x.json"], "no domain has this name"),
        (["report", "--run", "run", "--history", "in_domain/data.yaml"], "has no column 'epoch'"),
        (["report", "--run", "run", "--conf", "7"], "Invalid value"),
        (["report", "--rum", "run"], "No such option"),
        (["train", "real_world"], "needs labelled images in both"),
        (["score", "--ground-truth", "x.json", "--predictions", "y.json"], "x.json: no such file"),
        (["world", "real_world"], "exists already"),
        (["world", "w", "--dial", "pitch=9"], "a severity is an integer from 0 to 5"),
        (["world", "w", "--dial", "tilt=1"], "NAME is one of pitch"),
        (["next", "--real-world", "real_world"], "give --run DIR or --weights FILE"),
        (["triage", "--real-world-ap50", "0.1"], "no in-domain AP50"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_what_a_user_gets_wrong(place: Path, arguments: list[str], message: str) -> None:
    (place / "void").mkdir(exist_ok=True)
    (place / "junk").mkdir(exist_ok=True)
    (place / "junk" / "a.jpg").write_bytes(b"<html>")
    if not (place / "other").exists():
        (place / "other" / "images").mkdir(parents=True)
        cv2.imwrite(str(place / "other" / "images" / "a.jpg"), np.zeros((60, 60, 3), np.uint8))
        (place / "other" / "data.yaml").write_text("val: images\nnames: [crater]\n")
    outcome = run_in_process(*arguments, cwd=place)
    assert outcome.code == 2, outcome.stderr
    assert message in complaint(outcome)
    assert outcome.stdout == ""


@pytest.mark.slow
def test_debug_shows_where(place: Path) -> None:
    outcome = run_script("report", "--run", "nowhere", "--debug", cwd=place)
    assert "Traceback" in outcome.stderr


def test_help_names_every_command(place: Path) -> None:
    outcome = run_in_process("--help", cwd=place)
    assert outcome.code == 0
    commands = typer.main.get_command(app).commands
    assert {"report", "train", "predict", "next", "score", "doctor"} <= set(commands)
    for command in commands:
        assert command in outcome.stdout
        assert run_in_process(command, "--help", cwd=place).code == 0


@pytest.mark.slow
def test_doctor(place: Path) -> None:
    outcome = run_script("doctor", cwd=place)
    assert outcome.code == 0, outcome.stdout
    assert all(line.startswith("ok ") for line in outcome.stdout.splitlines())


@pytest.mark.slow
def test_a_report_with_untrained_weights_says_undertrained(place: Path) -> None:
    before = {
        str(p): hashlib.sha256(p.read_bytes()).hexdigest()
        for d in ("in_domain", "real_world", "run")
        for p in (place / d).rglob("*")
        if p.is_file()
    }
    broken = place / "real_world" / "images" / "val" / "broken_0001.jpg"
    broken.write_bytes(next((place / "real_world" / "images" / "val").glob("*.jpg")).read_bytes()[:4000])
    outcome = run_script(
        "report",
        "--run",
        "run",
        "--real-world",
        "sky=real_world",
        "--no-fiftyone",
        "--json",
        "--out",
        "out",
        "--max-skipped",
        "0",
        cwd=place,
    )
    broken.unlink()
    assert outcome.code == 4, outcome.stderr
    record = json.loads(outcome.stdout)
    assert record == json.loads((place / "out" / "report.json").read_text())
    assert record["verdict"]["primary"] == "underfit"
    assert [d["name"] for d in record["domains"]] == ["in-domain", "sky"]
    assert record["domains"][1]["skipped"] == 1
    # world.json, in which a rendered world says how it was made, is none of the skipped files.
    assert record["ledger"]["reasons"] == {"cut short": 1}
    with (place / "out" / "ledger.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert [r["reason"] for r in rows if r["path"].endswith("broken_0001.jpg")] == ["cut short"]
    after = {
        str(p): hashlib.sha256(p.read_bytes()).hexdigest()
        for d in ("in_domain", "real_world", "run")
        for p in (place / d).rglob("*")
        if p.is_file()
    }
    assert before == after


@pytest.mark.slow
def test_a_report_from_predictions_alone(place: Path) -> None:
    """Any detector's output: perfect in-domain, blind in the real world; no weights anywhere."""
    from datasets.source import open_source

    for name, keep in (("in_domain", 1.0), ("real_world", 0.0)):
        source = open_source(str(place / name), cache=place)
        images = source.images.loc[source.images["split"] == "val", "image"]
        boxes = source.annotations[source.annotations["image"].isin(images)]
        results = [
            {
                "image_id": Path(b.image).stem,
                "category_id": 0,
                "bbox": [b.x1, b.y1, b.x2 - b.x1, b.y2 - b.y1] if keep else [0, 0, 9, 9],
                "score": 0.9,
            }
            for b in boxes.itertuples()
        ]
        (place / f"{name}.json").write_text(json.dumps(results))
    outcome = run_script(
        "report",
        "--in-domain",
        "in_domain",
        "--real-world",
        "real_world",
        "--predictions",
        "in-domain=in_domain.json",
        "--predictions",
        "real_world=real_world.json",
        "--no-fiftyone",
        "--json",
        "--out",
        "blind",
        cwd=place,
    )
    assert outcome.code == 0, outcome.stderr
    record = json.loads(outcome.stdout)
    scores = {s["domain"]: s["ap50"] for s in record["slices"] if s["slice"] == "all"}
    assert scores["in-domain"] == pytest.approx(1.0)
    assert scores["real_world"] == pytest.approx(0.0)
    assert record["shift"]["image"] == {}
    # Light, colours and edges need no model.
    assert record["shift"]["descriptors"]["real_world"]["mmd_ratio"] > 1
    assert record["contributions"] == []
    missing = {entry["test"]: entry["missing"] for entry in record["not_run"]}
    assert any("interventions" in test for test in missing)
    assert any("own embeddings" in test for test in missing)
    assert "the training curve" in missing
    assert "Tests that could not be run" in (place / "blind" / "report.html").read_text(encoding="utf-8")
    # The drop is shown and the images differ: likely the shift, with how to find out and without a probability.
    verdict = record["verdict"]
    assert (verdict["primary"], verdict["leading"], verdict["grade"]) == (None, "domain_shift", "likely")
    assert verdict["probability"] is None
    shift = next(h for h in verdict["hypotheses"] if h["code"] == "domain_shift")
    assert shift["missing"].startswith("give the weights")


# A training curve as people publish it: rises fast, levels off near 0.75, under names of their own.
PUBLISHED = "Epoch,box_loss,P,R,mAP50,mAP50-95\n" + "".join(
    f"{e},{2 - 0.03 * e:.3f},0.7,0.6,{0.76 * (1 - 2.718 ** (-e / 4)):.4f},{0.3:.3f}\n" for e in range(1, 21)
)


@pytest.mark.parametrize("score", ["0.0361", "0.0042"])
def test_numbers_alone_suggest_a_domain_shift(place: Path, score: str) -> None:
    (place / "published.csv").write_text(PUBLISHED)
    outcome = run_in_process(
        "triage", "--history", "published.csv", "--real-world-ap50", score, "--json", cwd=place
    )
    assert outcome.code == 0, outcome.stderr
    record = json.loads(outcome.stdout)
    status = {h["code"]: h["status"] for h in record["hypotheses"]}
    assert record["primary"] is None
    assert record["hypotheses"][0]["code"] == "domain_shift"
    assert {c for c, s in status.items() if s == "rejected"} == {"none", "underfit", "overfit", "threshold"}
    assert status["label_protocol"] == status["scale"] == "untested"


def test_one_epoch_alone_says_undertrained(place: Path) -> None:
    (place / "first.csv").write_text("\n".join(PUBLISHED.splitlines()[:2]).replace("0.1680", "0.0205") + "\n")
    outcome = run_in_process("triage", "--history", "first.csv", cwd=place)
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.startswith("Undertrained\n")
    assert "after 1 epoch" in outcome.stdout


def test_a_loss_that_is_no_number_is_a_training_that_broke_down(place: Path) -> None:
    """Ultralytics writes nan and an AP of 0 from then on."""
    rows = [f"{e},{1.5 if e < 7 else 'nan'},{0.1 * e if e < 7 else 0}" for e in range(1, 13)]
    (place / "broken.csv").write_text("\n".join(["epoch,train/box_loss,metrics/mAP50(B)", *rows]))
    outcome = run_in_process("triage", "--history", "broken.csv", cwd=place)
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.startswith("Undertrained\n")
    assert "broke down in epoch 7" in outcome.stdout
    # A last line that is cut short is no such training.
    (place / "cut.csv").write_text("\n".join(["epoch,train/box_loss,metrics/mAP50(B)", *rows[:6], "7,"]))
    assert "broke down" not in run_in_process("triage", "--history", "cut.csv", cwd=place).stdout


@pytest.mark.slow
def test_next_ranks_a_pool_and_datasets(place: Path) -> None:
    outcome = run_script(
        "next",
        *(
            "--run",
            "run",
            "--pool",
            "real_world",
            "--real-world",
            "real_world",
            "--budget",
            "5",
            "--out",
            "picks",
            "--json",
        ),
        *("--candidate", "aerial=real_world", "--candidate", "ground=in_domain/images/val"),
        cwd=place,
    )
    assert outcome.code == 0, outcome.stderr
    result = json.loads(outcome.stdout)
    assert [p["rank"] for p in result["next"]] == [1, 2, 3, 4, 5]
    assert [c["rank"] for c in result["candidates"]] == [1, 2]
    assert json.loads((place / "picks" / "next.json").read_text()) == result
    for table, count in (("next.csv", 5), ("candidates.csv", 2)):
        with (place / "picks" / table).open() as handle:
            assert len(list(csv.DictReader(handle))) == count
    # The footage has labels: nothing is left to draw.
    assert "all labelled already" in outcome.stderr
    assert "Then: shiftscope train" in outcome.stderr
    assert "run/weights/best.pt" in outcome.stderr
    assert (place / "picks" / "test.txt").exists()
    # The old training images and the chosen ones; what validates stays what it was.
    from datasets.source import open_source

    mixed = open_source(result["hand_off"], cache=place / "runs" / "frames")
    assert mixed.images["split"].value_counts().to_dict() == {"val": 30, "train": 11}
    # Labels that were repaired in it stay: the next call writes beside it.
    again = run_script(
        "next", "--run", "run", "--real-world", "real_world", "--budget", "2", "--out", "picks", cwd=place
    )
    assert again.code == 0, again.stderr
    assert Path(result["hand_off"]).is_file()
    assert (place / "picks" / "hand-off-2" / "data.yaml").is_file()
    assert not (place / "picks" / "candidates.csv").exists()


@pytest.mark.slow
def test_a_probe_needs_labels(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "real_world" / "images", tmp_path / "bare")
    asked = ("next", "--run", "run", "--real-world", f"bare={tmp_path / 'bare'}", "--probe")
    outcome = run_script(*asked, "--candidate", "aerial=real_world", cwd=place)
    assert outcome.code == 2
    assert "0 annotations, 30 are needed" in complaint(outcome)
    outcome = run_script("next", "--run", "run", "--real-world", "real_world", "--probe", cwd=place)
    assert outcome.code == 2
    assert "give --candidate SOURCE" in complaint(outcome)


@pytest.mark.slow
def test_candidates_need_footage_to_be_compared_with(place: Path) -> None:
    outcome = run_script(
        "next", "--run", "run", "--pool", "real_world", "--candidate", "in_domain", cwd=place
    )
    assert outcome.code == 2
    assert "give --real-world SOURCE" in complaint(outcome)


@pytest.mark.slow
def test_a_report_compares_with_an_earlier_run(place: Path) -> None:
    outcome = run_script(
        *("report", "--run", "run", "--real-world", "real_world", "--before", "run"),
        *("--no-fiftyone", "--no-label-free", "--json", "--out", "again"),
        cwd=place,
    )
    assert outcome.code == 0, outcome.stderr
    found = json.loads(outcome.stdout)["earlier_run"]
    assert [entry["domain"] for entry in found] == ["in-domain", "real_world"]
    assert all(entry["difference"] == 0 for entry in found)
    assert "Compared with an earlier run" in (place / "again" / "report.html").read_text()


@pytest.mark.slow
def test_forecast_answers_or_refuses(place: Path) -> None:
    rows = [f"{n},{0.7 - 1.2 * n**-0.5:.4f}" for n in (20, 40, 80, 160, 320)]
    (place / "curve.csv").write_text("\n".join(["labels,ap50", *rows]))
    reached = run_script("forecast", "curve.csv", "--goal", "0.5", cwd=place)
    assert reached.stdout == "AP50 0.50 was reached with 40 labels.\n"
    wrong = run_script("forecast", "run/args.yaml", "--goal", "0.5", cwd=place)
    assert wrong.code == 2
    assert "lacks the columns labels, ap50" in complaint(wrong)


@pytest.mark.slow
def test_world_renders_what_its_dials_say(tmp_path: Path) -> None:
    assert (
        run_script(
            "world",
            "w",
            "--view",
            "drone",
            "--dial",
            "soil=5",
            "--val-clips",
            "1",
            "--frames",
            "2",
            cwd=tmp_path,
        ).code
        == 0
    )
    plan = json.loads((tmp_path / "w" / "world.json").read_text())
    assert (plan["dials"]["soil"], plan["dials"]["pitch"]) == (5, 5)
    assert len(list((tmp_path / "w" / "images").rglob("*.jpg"))) == 2


@pytest.mark.slow
def test_two_runs_do_not_write_one_report(place: Path) -> None:
    """The second is told to wait, at once."""
    from filelock import FileLock

    with FileLock(place / ".locked.lock"):
        outcome = run_script("report", "--run", "run", "--no-fiftyone", "--out", "locked", cwd=place)
    assert outcome.code == 3
    assert "another command is writing there" in complaint(outcome)


STAGES = ("Inference on in-domain", "Intervention", "Writing the report")


@pytest.mark.slow
def test_killed_at_every_stage_the_next_run_ends_the_same(place: Path, tmp_path: Path) -> None:
    """One run folder, killed in each stage in turn, then let through; its tables equal those of a run nobody
    disturbed.
    """

    def tables(folder: Path) -> dict[str, str]:
        return {
            p.name: hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted((folder / "tables").glob("*.parquet"))
        }

    arguments = [
        "report",
        "--run",
        str(place / "run"),
        "--real-world",
        str(place / "real_world"),
        "--no-fiftyone",
        "--out",
    ]
    assert (
        run_script(
            *arguments,
            str(tmp_path / "clean"),
            cwd=tmp_path,
            SHIFTSCOPE_RUNS=str(tmp_path / "r1"),
            SHIFTSCOPE_BACKEND="",
        ).code
        == 0
    )
    environment = {**os.environ, "SHIFTSCOPE_RUNS": str(tmp_path / "r2"), "SHIFTSCOPE_BACKEND": ""}
    for stage in STAGES:
        victim = subprocess.Popen(
            [SCRIPT, *arguments, str(tmp_path / "again")], env=environment, stderr=subprocess.PIPE, text=True
        )
        assert victim.stderr is not None
        assert any(line.startswith(stage) for line in victim.stderr), f"never reached {stage!r}"
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        victim.stderr.close()
        assert not (tmp_path / "again" / "report.html").exists()
    assert (
        run_script(
            *arguments,
            str(tmp_path / "again"),
            cwd=tmp_path,
            SHIFTSCOPE_RUNS=str(tmp_path / "r2"),
            SHIFTSCOPE_BACKEND="",
        ).code
        == 0
    )
    assert tables(tmp_path / "clean") == tables(tmp_path / "again")


def test_options_are_read_back_from_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets.errors import InputError
    from reports.options import ReportOptions

    monkeypatch.chdir(tmp_path)
    (tmp_path / "flight").mkdir()
    request = ReportOptions(
        weights=Path("flight"),
        in_domain=("in_domain", "kaggle:a/b/versions/3"),
        real_world=((None, "flight"), ("far", "nowhere.mp4")),
        predictions=(("far", Path("found.json")),),
        slices=("fiftyone:mine",),
        conf=0.3,
        label_free=False,
        seed=7,
    )
    again = ReportOptions.from_record(json.loads(json.dumps(request.as_record())))
    # Paths that exist are whole, whatever folder it is asked from; everything else is as it was.
    assert again.weights == tmp_path / "flight"
    assert again.real_world == ((None, str(tmp_path / "flight")), ("far", "nowhere.mp4"))
    assert dataclasses.replace(again, weights=request.weights, real_world=request.real_world) == request
    with pytest.raises(InputError, match="does not say with which options it was made"):
        ReportOptions.from_record({"seed": 3})
