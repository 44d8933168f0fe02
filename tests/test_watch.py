"""Watching the real world while a detector trains: results agree with the report, training is unchanged."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import ultralytics

import reports.watch as watching
from datasets.errors import InputError
from datasets.groups import evenly
from datasets.source import open_source
from datasets.tables import CORNERS
from datasets.world import DASHCAM, DRONE, Plan, build_world
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.training_curve import training_curves
from reports.commands.train import train_run
from reports.options import TrainOptions
from reports.progress import Reporter
from reports.watch import COLUMNS, attach
from tests.conftest import MainJob, complaint, run_script
from train.forward import Detector, EpochPredictor, load_checkpoint
from train.predictions import Settings, Store
from train.recipe import ARCHITECTURE, Recipe, road_world_recipe
from train.run import IN_DOMAIN, Run, open_run, read_watched
from train.training import TrainingCallbacks, train

# The last epoch of the demo.
LAST = road_world_recipe(0).epochs
EXTRA = {
    "nbs": 8,
    "optimizer": "AdamW",
    "lr0": 0.004,
    "cos_lr": True,
    "warmup_epochs": 0.0,
    "mosaic": 0.0,
    "cache": "ram",
    "pretrained": False,
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("worlds")
    list(build_world(root / "small", Plan(DASHCAM, {"train": (2, 4), "val": (4, 6)}, seed=7)))
    list(build_world(root / "drone", Plan(DRONE, {"val": (4, 6)}, seed=6)))
    return root


def fit(in_domain: Path, folder: Path, epochs: int, on_model=lambda model: None, imgsz: int = 64) -> Path:
    return train(
        open_source(str(in_domain), cache=folder.parent / "cache"),
        folder,
        Recipe(ARCHITECTURE, epochs=epochs, imgsz=imgsz, batch=8, device="cpu", extra=EXTRA),
        TrainingCallbacks(on_model=on_model),
    )


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "weights" / "last.pt", "").model.float().state_dict()


def demo_run(main_job: MainJob) -> Run:
    return open_run(next((main_job.cwd / "runs" / "train").glob("demo-*")))


def test_the_table_has_every_domain_at_every_watched_epoch(main_job: MainJob) -> None:
    table = demo_run(main_job).watched
    assert tuple(table.columns) == COLUMNS
    for name in (IN_DOMAIN, "drone", "flight"):
        assert table.loc[table["domain"] == name, "epoch"].tolist() == [1, 2, 4, LAST]
    flight = table[table["domain"] == "flight"]
    assert flight["ap50"].isna().all()
    assert (flight["labelled"] == 0).all()
    assert flight["outside"].notna().all()
    assert sum("drone: AP50" in line for line in main_job.trained.splitlines()) >= 4


def test_watched_ap50_agrees_with_the_report(main_job: MainJob) -> None:
    table = demo_run(main_job).watched
    ends = table[table["epoch"] == LAST].set_index("domain")
    scored = {s["domain"]: s for s in main_job.record["slices"] if s["slice"] == "all"}
    assert ends.loc["drone", "ap50"] < ends.loc[IN_DOMAIN, "ap50"] - 0.1
    # Sixty of the drone's images were watched; their AP50 is inside the interval of all images.
    assert scored["drone"]["ap50_low"] <= ends.loc["drone", "ap50"] <= scored["drone"]["ap50_high"]
    assert ends.loc["drone", "outside"] > 0.5
    history = pd.DataFrame(main_job.record["run"]["history"])
    assert ends.loc[IN_DOMAIN, "ap50"] == pytest.approx(history["ap50"].iloc[-1], abs=1e-5)
    assert len(main_job.record["run"]["watched"]) == len(table)


def test_a_watched_epoch_equals_a_prediction_with_its_checkpoint(main_job: MainJob) -> None:
    """The last watched epoch equals predictions with its checkpoint, by `EpochPredictor` and `Detector`."""
    run = demo_run(main_job)
    assert run.folder is not None
    folder = next((main_job.cwd / "runs" / "demo").glob("drone-*"))
    drone = open_source(str(folder), cache=main_job.cwd / "cache")
    chosen = evenly(drone.images, 60)
    last = run.folder / "weights" / "last.pt"
    settings = Settings(256)
    per_image, _ = EpochPredictor(chosen["path"].tolist(), 256).predict(
        load_checkpoint(last, "").model.float().eval(), settings
    )
    predicted = Detector(last, device="cpu").predict(chosen, settings, Store(main_job.cwd / "watched"))
    rows = [
        (image, *box)
        for image, boxes in zip(chosen["image"], per_image, strict=True)
        for box in boxes.tolist()
    ]
    watched = pd.DataFrame(rows, columns=["image", *CORNERS, "confidence", "label"]).astype({"label": int})

    def score(detections: pd.DataFrame) -> float:
        annotations = drone.annotations[drone.annotations["image"].isin(chosen["image"])]
        return ap50(
            Domain(
                "drone",
                "real_world",
                chosen.reset_index(drop=True),
                annotations.reset_index(drop=True),
                detections,
                np.zeros((len(chosen), 0), np.float32),
                np.zeros((len(detections), 0), np.float32),
                256,
                drone.classes,
            )
        )

    row = run.watched[(run.watched["domain"] == "drone") & (run.watched["epoch"] == LAST)].iloc[0]
    # Only the half precision of the file differs: confidences by a thousandth, their mean also by a box that
    # crosses 0.25, and AP50 of 272 annotations by one or two boxes with an IoU near 0.5.
    shown = watched["confidence"] >= 0.25
    assert shown.sum() / 60 == pytest.approx(row["shown"], abs=0.02)
    assert watched.loc[shown, "confidence"].mean() == pytest.approx(row["confidence"], abs=5e-3)
    assert score(watched) == pytest.approx(row["ap50"], abs=0.02)
    # `Detector` adds no grey border of half a stride, so objects lie elsewhere on the network's grid: as if
    # 60 other images had been drawn. AP50 of 268 annotations has a standard error of about 0.05.
    assert score(watched) == pytest.approx(score(predicted.detections), abs=0.1)


def test_the_report_compares_checkpoints(main_job: MainJob) -> None:
    table = pd.DataFrame(main_job.record["run"]["checkpoints"])
    assert sorted(table["epoch"].unique()) == [1, 3, LAST]
    assert set(table["domain"]) == {"dashcam", "drone", "flight"}
    ends = table[table["epoch"] == LAST].set_index("domain")
    # Sixty images each, spread over all clips, give nearly the AP50 of all images.
    for domain in ("dashcam", "drone"):
        scored = next(s for s in main_job.record["slices"] if s["slice"] == "all" and s["domain"] == domain)
        assert ends.loc[domain, "ap50"] == pytest.approx(scored["ap50"], abs=0.08)
    assert ends.loc["flight", "ap50"] is None or np.isnan(ends.loc["flight", "ap50"])
    first = table[(table["epoch"] == 1) & (table["domain"] == "dashcam")].iloc[0]
    assert first["against_last"]["p"] <= 0.05
    page = (main_job.folder / "report.html").read_text(encoding="utf-8")
    # One image of each domain in which a checkpoint detected anything, under each of three checkpoints.
    detecting = table.loc[table["shown"] > 0, "domain"].nunique()
    assert detecting >= 2
    assert page.count('data-test="view"') == 3 * detecting
    assert page.count('data-test="training-curve"') == 2


@pytest.mark.slow
def test_validation_embeddings_equal_those_of_a_separate_prediction(worlds: Path, tmp_path: Path) -> None:
    """The hook on the validation gives the embeddings of a forward pass with the same network."""
    results: list[tuple[list[str], np.ndarray, np.ndarray]] = []

    def spy(model) -> None:
        watch = attach(model, str(worlds / "drone"), say=lambda line: None)
        original = watch.on_fit_epoch_end

        def predict_validation(trainer) -> None:
            paths = list(trainer.validator.dataloader.dataset.im_files)
            _, embeddings = EpochPredictor(paths, 96).predict(trainer.ema.ema, Settings(96))
            if watch._validation is not None:
                results.append((paths, watch._validation.embeddings, embeddings))
            original(trainer)

        watch.on_fit_epoch_end = predict_validation

    fit(worlds / "small", tmp_path / "run", 1, spy, imgsz=96)
    paths, hooked, predicted = results[0]
    assert len(paths) == len(hooked) == 24
    np.testing.assert_allclose(predicted, hooked, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_watch_does_not_change_the_training(worlds: Path, tmp_path: Path) -> None:
    def failing(model) -> None:
        watch = attach(model, str(worlds / "drone"), say=lines.append)
        watch.on_fit_epoch_end = lambda trainer: 1 / 0

    lines: list[str] = []
    plain = fit(worlds / "small", tmp_path / "plain", 2)
    watched = fit(
        worlds / "small",
        tmp_path / "watched",
        2,
        lambda model: attach(model, str(worlds / "drone"), say=lambda line: None),
    )
    broken = fit(worlds / "small", tmp_path / "broken", 2, failing)
    for other in (watched, broken):
        first, second = weights_of(plain), weights_of(other)
        assert all(torch.equal(first[key], second[key]) for key in first)
        columns = [c for c in pd.read_csv(plain / "results.csv").columns if c.strip() != "time"]
        pd.testing.assert_frame_equal(
            pd.read_csv(plain / "results.csv")[columns], pd.read_csv(other / "results.csv")[columns]
        )
    assert (watched / "real_world.csv").is_file()
    assert len(lines) == 1
    assert "no longer watched (ZeroDivisionError" in lines[0]
    assert not (broken / "real_world.csv").exists()


@pytest.mark.parametrize("event", ["on_train_start", "on_val_start", "on_val_batch_end", "on_val_end"])
@pytest.mark.slow
def test_a_failing_watch_does_not_stop_the_training(
    worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    monkeypatch.setattr(watching.Watch, event, lambda self, trainer: {}["gone"])
    lines: list[str] = []
    folder = fit(
        worlds / "small",
        tmp_path / "run",
        1,
        lambda model: attach(model, str(worlds / "drone"), say=lines.append),
        imgsz=64,
    )
    assert (folder / "weights" / "best.pt").is_file()
    assert len(lines) == 1
    # No hook is saved with the network.
    network = load_checkpoint(folder / "weights" / "best.pt", "").model
    assert not any(module._forward_hooks for module in network.modules())


def test_no_hook_is_saved_with_the_network(main_job: MainJob) -> None:
    run = demo_run(main_job)
    network = load_checkpoint(run.weights, "").model
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.slow
def test_a_watch_can_be_pickled_while_training(worlds: Path, tmp_path: Path) -> None:
    copies: list[bytes] = []

    def spy(model) -> None:
        attach(model, str(worlds / "drone"))
        model.add_callback(
            "on_train_epoch_end",
            lambda trainer: copies.extend(
                pickle.dumps(callback)
                for callback in trainer.callbacks["on_fit_epoch_end"]
                if isinstance(callback, watching.GuardedCallback)
            ),
        )

    fit(worlds / "small", tmp_path / "run", 1, spy, imgsz=64)
    again = pickle.loads(copies[0])
    assert again.event == "on_fit_epoch_end"
    assert list(again.watch.sources) == ["drone"]


def test_unusable_footage_is_reported_at_once(tmp_path: Path) -> None:
    model = ultralytics.YOLO(str(ARCHITECTURE))
    with pytest.raises(InputError, match="no such file"):
        attach(model, str(tmp_path / "gone"))
    with pytest.raises(InputError, match="the images that the training validates on"):
        attach(model, {IN_DOMAIN: "flight.mp4"})


def test_an_edited_table_is_read_where_it_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "real_world.csv"
    assert read_watched(path).empty
    path.write_text("epoch,domain,speaking\n1,drone,0.5\n")
    assert read_watched(path).empty
    rows = pd.DataFrame([[1, "drone"], [1, "drone"], ["x", "drone"], [2, None]], columns=["epoch", "domain"])
    rows.reindex(columns=list(COLUMNS)).to_csv(path, index=False)
    table = read_watched(path)
    assert table[["epoch", "domain"]].to_numpy().tolist() == [[1, "drone"]]
    assert training_curves(table, IN_DOMAIN) == []


def test_results_of_the_first_version_are_readable(tmp_path: Path) -> None:
    """Its columns pictures, objects and speaking are images, annotations and detection_rate today."""
    path = tmp_path / "real_world.csv"
    path.write_text(
        "epoch,domain,pictures,labelled,objects,ap50,ap,speaking,shown,confidence,"
        "expected_ap50,distance,outside,seconds\n"
        "1,validation,96,96,431,0.2,0.1,0.5,1.5,0.4,,,,\n"
        "1,drone,60,60,272,0.1,0.05,0.25,0.5,0.3,0.15,1.2,0.7,0.8\n",
        encoding="utf-8",
    )
    table = read_watched(path)
    assert list(table.columns) == list(COLUMNS)
    assert table["images"].tolist() == [96, 60]
    assert table["annotations"].tolist() == [431, 272]
    assert table["detection_rate"].tolist() == [0.5, 0.25]
    assert table["domain"].tolist() == [IN_DOMAIN, "drone"]


def test_divergence_is_reported_only_above_noise() -> None:
    def table(real_world: list[float], annotations: int) -> pd.DataFrame:
        in_domain = {"domain": IN_DOMAIN, "ap50": np.linspace(0.2, 0.8, len(real_world))}
        drone = {"domain": "drone", "ap50": real_world}
        parts = [
            pd.DataFrame(
                {**part, "epoch": range(1, len(real_world) + 1), "images": 60, "annotations": annotations}
            )
            for part in (in_domain, drone)
        ]
        return pd.concat(parts, ignore_index=True)

    fall = [0.1, 0.3, 0.31, 0.3, 0.2, 0.19, 0.2]
    assert training_curves(table(fall, 200), IN_DOMAIN)[0].diverged
    assert not training_curves(table(fall, 10), IN_DOMAIN)[0].diverged, "ten annotations"
    assert not training_curves(table([0.2, 0.2, 0.5, 0.2, 0.21, 0.2, 0.2], 200), IN_DOMAIN)[0].diverged, (
        "one high value"
    )
    assert not training_curves(table([0.1, 0.2, 0.3, 0.3, 0.31, 0.3, 0.3], 200), IN_DOMAIN)[0].diverged


@pytest.mark.slow
def test_footage_of_other_classes_is_watched_without_its_labels(worlds: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    list(build_world(other, Plan(DRONE, {"val": (1, 3)}, seed=8)))
    card = other / "data.yaml"
    card.write_text(card.read_text().replace("pothole", "crater"))
    lines: list[str] = []
    folder = fit(
        worlds / "small",
        tmp_path / "run",
        1,
        lambda model: attach(model, str(other), say=lines.append),
        imgsz=64,
    )
    assert "without its labels" in lines[0]
    table = open_run(folder).watched
    assert table[table["domain"] == "other"]["labelled"].tolist() == [0]


OWN_SCRIPT = """
from ultralytics import YOLO
from reports.watch import attach
model = YOLO({architecture!r})
attach(model, real_world={drone!r})
model.train(data={data!r}, epochs=1, imgsz=64, device="cpu", project={project!r}, name="mine", plots=False,
            workers=0)
print(model.trainer.save_dir)
"""


@pytest.mark.slow
def test_one_line_watches_in_any_script(worlds: Path, tmp_path: Path) -> None:
    """A script that imports Ultralytics first keeps loading its own checkpoints without restriction."""
    import os

    script = tmp_path / "own.py"
    script.write_text(
        OWN_SCRIPT.format(
            architecture=str(ARCHITECTURE),
            drone=str(worlds / "drone"),
            data=str(worlds / "small" / "data.yaml"),
            project=str(tmp_path),
        )
    )
    clean = {
        key: value
        for key, value in os.environ.items()
        if key not in ("ULTRALYTICS_SAFE_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD")
        and not key.startswith("PYTEST")
    }
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "epoch 1, drone" in done.stderr
    assert len(open_run(tmp_path / "mine").watched) == 2


@pytest.mark.slow
def test_the_command_watches_and_refuses_wrong_requests(worlds: Path, tmp_path: Path) -> None:
    common = ["--model", str(ARCHITECTURE), "--imgsz", "64", "--device", "cpu"]
    done = run_script(
        "train", str(worlds / "small"), *common, "--epochs", "2",
        "--real-world", f"sky={worlds / 'drone'}", "save_period=1", "lr0=0.002", "optimizer=AdamW",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    folder = Path(done.stdout.strip())
    run = open_run(folder)
    assert run.arguments["lr0"] == 0.002
    assert sorted(p.name for p in (folder / "weights").glob("epoch*")) == ["epoch0.pt", "epoch1.pt"]
    assert set(run.watched["domain"]) == {IN_DOMAIN, "sky"}
    assert len(run.lineage["data_sha256"]) == 64
    files = sorted((worlds / "small").rglob("*"))
    before = hashlib.sha256("".join(map(str, files)).encode()).hexdigest()
    assert hashlib.sha256("".join(map(str, files)).encode()).hexdigest() == before
    refused = run_script("train", str(worlds / "small"), *common, "lr=0.1", cwd=tmp_path)
    assert refused.code == 2
    assert "did you mean lr" in complaint(refused)
    assert [p.name for p in (tmp_path / "runs" / "train").iterdir() if p.name[0] != "."] == [folder.name]
    refused = run_script("train", str(worlds / "small"), *common, "--resume", str(folder), cwd=tmp_path)
    assert "already finished" in complaint(refused)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"arguments": ("epochs=3",)}, "give --epochs instead"),
        ({"arguments": ("project=x",)}, "cannot be chosen"),
        ({"arguments": ("mosaic=often",)}, "mosaic"),
        ({"arguments": ("lr0",)}, "KEY=VALUE"),
        ({"arguments": ("lr0=0.01",)}, "ignored by Ultralytics unless an optimizer"),
        ({"real_world": ((None, "gone.mp4"),)}, "no such file"),
        ({"data": "gone"}, "no such file"),
        ({"device": "7"}, "this machine has cpu"),
        ({"model": Path("yolo99z.pt")}, "no such checkpoint"),
        ({"model": Path("yolo99z.yaml")}, "no such architecture"),
    ],
)
def test_options_are_checked_before_a_source_is_opened(
    worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict, message: str
) -> None:
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(
        "reports.commands.train.open_training_sources", lambda *_: pytest.fail("opened a source first")
    )
    options = TrainOptions(
        data=str(worlds / "small"), model=ARCHITECTURE, epochs=1, imgsz=64, batch=8, device="cpu", name="t",
    )  # fmt: skip
    with pytest.raises(InputError, match=message):
        train_run(replace(options, **wrong), Reporter(quiet=True))
    assert not (tmp_path / "runs" / "train").exists()


def test_a_late_error_of_ultralytics_is_one_line_and_leaves_no_run(
    worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    options = TrainOptions(
        data=str(worlds / "small"), model=ARCHITECTURE, epochs=1, imgsz=64, batch=8, device="cpu", name="t",
        arguments=("optimizer=Foo",),
    )  # fmt: skip
    with pytest.raises(InputError, match="rejects these arguments: NotImplementedError: Optimizer 'Foo'"):
        train_run(options, Reporter(quiet=True))
    assert [path.name for path in (tmp_path / "runs" / "train").iterdir() if path.name[0] != "."] == []
