"""Training: a new folder each time, unchanged user data, and killed runs that are resumed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from filelock import FileLock
from rich.console import Console

from datasets.errors import EnvironmentProblem, InputError
from datasets.source import open_source
from datasets.world import CLASSES, DASHCAM, Plan, build_world
from reports.progress import Reporter
from tests.conftest import SCRIPT, run_in_process, run_script
from train.forward import load_checkpoint
from train.history import read_history
from train.pretrained import resolve_model
from train.recipe import ARCHITECTURE, START, Recipe, road_world_recipe
from train.run import open_run
from train.staging import stage
from train.training import TrainingCallbacks, data_sha256, read_interrupted_recipe, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "in_domain"
    list(build_world(folder, Plan(DASHCAM, {"train": (4, 8), "val": (2, 4)}, seed=1)))
    return folder


def test_staging_links_each_image_and_writes_its_own_labels(data: Path, tmp_path: Path) -> None:
    source = open_source(str(data), cache=tmp_path)
    card = stage(source, tmp_path / "staged", tmp_path)
    again = open_source(str(card), cache=tmp_path)
    assert len(again.images) == len(source.images)
    assert len(again.annotations) == len(source.annotations)
    images = list((tmp_path / "staged" / "images").rglob("*.jpg"))
    assert all(p.is_symlink() for p in images)
    assert not any(p.is_symlink() for p in (tmp_path / "staged").rglob("*") if p.is_dir())
    assert Path(yaml.safe_load(card.read_text())["path"]).is_absolute()


def test_staging_needs_train_and_val(data: Path, tmp_path: Path) -> None:
    source = open_source(str(data), cache=tmp_path)
    with pytest.raises(InputError, match="both 'train' and 'val'"):
        stage(source.keep(source.images["split"] == "val"), tmp_path / "s", tmp_path)


TRAINER_WITH_ITS_CALLBACKS = """
from train.environment import harden
harden()
from train.training import TRACKERS, call_no_trackers
call_no_trackers()
import sys
from collections import defaultdict
from ultralytics.utils.callbacks import add_integration_callbacks
class Trainer:
    callbacks = defaultdict(list)
add_integration_callbacks(Trainer())
modules = {"comet": "comet_ml", "raytune": "ray", "dvc": "dvclive"}
print(sum(modules.get(name, name) in sys.modules for name in TRACKERS))
"""


@pytest.mark.slow
def test_a_training_calls_no_tracker_unless_the_users_own_settings_do(tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    for name in ("clearml", "comet_ml", "dvclive", "mlflow", "ray", "wandb"):
        (installed / name).mkdir(parents=True)
        (installed / name / "__init__.py").write_text("__version__ = '1'\n")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("YOLO", "PYTEST"))}
    environment |= {
        "PYTHONPATH": f"{installed}:{Path(__file__).parents[1]}",
        "SHIFTSCOPE_RUNS": str(tmp_path / "runs"),
    }

    def imported(**more: str) -> int:
        command = [sys.executable, "-c", TRAINER_WITH_ITS_CALLBACKS]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment | more, capture_output=True, text=True, check=True
        )
        return int(done.stdout.split()[-1])

    assert imported() == 0
    assert imported(YOLO_CONFIG_DIR=str(tmp_path / "own")) > 0


@pytest.mark.slow
def test_a_killed_training_is_resumed(data: Path, tmp_path: Path) -> None:
    before = {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in data.rglob("*") if p.is_file()}
    runs = tmp_path / "runs"
    arguments = ["train", str(data), "--epochs", "4", "--imgsz", "128", "--device", "cpu", "--name", "t"]
    arguments += ["--model", str(ARCHITECTURE), "--real-world", str(data)]
    victim = subprocess.Popen(
        [SCRIPT, *arguments],
        cwd=tmp_path,
        env={**os.environ, "SHIFTSCOPE_RUNS": str(runs)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 900
    results = runs / "train" / "t" / "results.csv"
    while time.monotonic() < deadline and not (
        (runs / "train" / "t" / "weights" / "resume.pt").is_file() and results.is_file()
    ):
        time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert 1 <= len(read_history(results)) < 4
    # As if the process had been killed while Ultralytics was writing its own checkpoint.
    last = runs / "train" / "t" / "weights" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])

    # Without the options of the first start, whose values are kept.
    again = [
        "train",
        str(data),
        "--device",
        "cpu",
        "--real-world",
        str(data),
        "--resume",
        str(runs / "train" / "t"),
    ]
    resumed = run_script(*again, cwd=tmp_path, SHIFTSCOPE_RUNS=str(runs))
    assert resumed.code == 0, resumed.stderr
    folder = Path(resumed.stdout.strip())
    assert read_history(folder / "results.csv")["epoch"].tolist() == [1, 2, 3, 4]
    lineage = json.loads((folder / "shiftscope.json").read_text())
    assert lineage["images"] == {"train": 32, "val": 8}
    assert lineage["model"] == ARCHITECTURE.name
    assert open_run(folder).imgsz == 128
    assert open_run(folder).arguments["batch"] == lineage["batch"] == 16
    # Results from before the kill are kept.
    assert sorted(set(open_run(folder).watched["epoch"])) == [1, 2, 3, 4]

    second = run_script(*arguments[:3], "1", *arguments[4:], cwd=tmp_path, SHIFTSCOPE_RUNS=str(runs))
    assert Path(second.stdout.strip()).name == "t-2"
    assert {
        str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in data.rglob("*") if p.is_file()
    } == before


@pytest.mark.slow
def test_two_trainings_started_together_get_different_folders(data: Path, tmp_path: Path) -> None:
    command = [SCRIPT, "train", str(data), "--epochs", "1", "--imgsz", "64", "--device", "cpu", "--name", "t"]
    command += ["--model", str(ARCHITECTURE)]
    environment = {**os.environ, "SHIFTSCOPE_RUNS": str(tmp_path / "runs")}
    both = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    folders = [process.communicate(timeout=1700)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert {Path(folder).name for folder in folders} == {"t", "t-2"}
    assert all((Path(folder) / "weights" / "best.pt").is_file() for folder in folders)


def test_an_unusable_model_leaves_no_run_folder(data: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    outcome = run_in_process("train", str(data), "--model", "bad.pt", "--epochs", "1", cwd=tmp_path)
    assert outcome.code == 2
    assert not (tmp_path / "runs" / "train").exists()


def test_the_second_of_two_demos_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from reports.commands import demo

    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path))
    (tmp_path / "demo").mkdir()
    locked = threading.Event()

    def first() -> None:
        with FileLock(tmp_path / "demo" / ".lock"):
            locked.set()
            time.sleep(1)

    threading.Thread(target=first).start()
    locked.wait()
    begin = time.monotonic()
    monkeypatch.setattr(demo, "_build_demo", lambda seed, reporter: "built")
    assert demo.prepare_demo(0, Reporter()) == "built"
    assert time.monotonic() - begin > 0.5
    assert "waiting for it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["CUDA out of memory. Tried to allocate 2 GiB", "DefaultCPUAllocator: can't allocate memory"]
)
@pytest.mark.slow
def test_the_batch_is_halved_when_memory_runs_out(data: Path, tmp_path: Path, words: str) -> None:
    lines: list[str] = []

    def limit_memory(model) -> None:
        def fail_above_four(trainer) -> None:
            if trainer.batch_size > 4 and trainer.epoch == 1:
                raise RuntimeError(words)

        model.add_callback("on_train_batch_start", fail_above_four)

    folder = train(
        open_source(str(data), cache=tmp_path),
        tmp_path / "run",
        Recipe(ARCHITECTURE, epochs=2, imgsz=64, batch=16, device="cpu"),
        TrainingCallbacks(on_epoch=lines.append, on_model=limit_memory),
    )
    assert [line for line in lines if "out of memory" in line] == [
        "out of memory; continuing with batch=8",
        "out of memory; continuing with batch=4",
    ]
    assert json.loads((folder / "shiftscope.json").read_text())["batch"] == 4
    # The complete epoch is not trained again.
    assert read_history(folder / "results.csv")["epoch"].tolist() == [1, 2]


@pytest.mark.slow
def test_other_training_errors_are_raised(data: Path, tmp_path: Path) -> None:
    def divide_by_zero(model) -> None:
        model.add_callback("on_train_batch_start", lambda trainer: 1 / 0)

    source = open_source(str(data), cache=tmp_path)
    recipe = Recipe(ARCHITECTURE, epochs=1, imgsz=64, batch=16, device="cpu")
    with pytest.raises(ZeroDivisionError):
        train(source, tmp_path / "run", recipe, TrainingCallbacks(on_model=divide_by_zero))

    def exhaust_memory(model) -> None:
        model.add_callback("on_train_batch_start", lambda trainer: (_ for _ in ()).throw(MemoryError()))

    with pytest.raises(EnvironmentProblem, match="even with one image a batch"):
        train(source, tmp_path / "other", recipe, TrainingCallbacks(on_model=exhaust_memory))


def test_the_data_digest_depends_on_content_only(data: Path, tmp_path: Path) -> None:
    source = open_source(str(data), cache=tmp_path)
    digest = data_sha256(source)
    shutil.copytree(data, tmp_path / "moved")
    moved = tmp_path / "moved"
    assert data_sha256(open_source(str(moved), cache=tmp_path)) == digest
    label = next(path for path in sorted((moved / "labels" / "train").iterdir()) if path.stat().st_size)
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    assert data_sha256(open_source(str(moved), cache=tmp_path)) != digest


def test_a_pretrained_checkpoint_is_fetched_once_with_an_offline_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    fetched: list[Path] = []
    lines: list[str] = []

    def fetch(path: Path, **_: object) -> None:
        fetched.append(Path.cwd() / path)
        shutil.copyfile(weights, path)

    monkeypatch.setattr("train.pretrained.attempt_download_asset", fetch)
    model = resolve_model(None, lines.append)
    assert model == tmp_path / "data" / "weights" / "yolo11n.pt"
    assert resolve_model(Path("yolo11n.pt"), lines.append) == model
    assert fetched == [model]

    def fail(path: Path, **_: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("train.pretrained.attempt_download_asset", fail)
    model.unlink()
    lines.clear()
    assert resolve_model(None, lines.append) == ARCHITECTURE
    assert any("small architecture from scratch" in line for line in lines)
    with pytest.raises(InputError, match="could not be fetched"):
        resolve_model(Path("yolo11s.pt"), lines.append)
    assert resolve_model(Path("yolo11n.yaml"), lines.append) == Path("yolo11n.yaml")
    (tmp_path / "run" / "weights").mkdir(parents=True)
    shutil.copyfile(weights, tmp_path / "run" / "weights" / "last.pt")
    assert resolve_model(tmp_path / "run", lines.append) == tmp_path / "run" / "weights" / "last.pt"


def test_a_run_of_another_program_is_never_resumed(data: Path, tmp_path: Path, weights: Path) -> None:
    run = tmp_path / "detect" / "train"
    (run / "weights").mkdir(parents=True)
    shutil.copyfile(weights, run / "weights" / "last.pt")
    (run / "results.csv").write_text("epoch\n1\n")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="no complete epoch of a Shiftscope training"):
        read_interrupted_recipe(run)
    recipe = Recipe(ARCHITECTURE, epochs=1, imgsz=64, device="cpu")
    with pytest.raises(InputError, match="holds"):
        train(open_source(str(data), cache=tmp_path), run, recipe)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_changed_recipe_or_watch_trains_the_demo_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from reports.commands import demo

    plans, recipe = demo._demo_plans(0), road_world_recipe(0)
    plan = plans["dashcam"]
    key = demo._run_key(plans, recipe)
    assert demo._run_key(demo._demo_plans(0), road_world_recipe(0)) == key
    others = [
        demo._run_key({**plans, "dashcam": replace(plan, seed=plan.seed + 1)}, recipe),
        demo._run_key({**plans, "drone": replace(plans["drone"], seed=plans["drone"].seed + 1)}, recipe),
        demo._run_key(plans, replace(recipe, epochs=recipe.epochs + 1)),
        demo._run_key(plans, replace(recipe, extra={**recipe.extra, "lr0": 0.001})),
    ]
    for name in ("WATCH_EVERY", "WATCHED_IMAGES", "FLIGHT_FRAMES"):
        with monkeypatch.context() as patch:
            patch.setattr(demo, name, getattr(demo, name) + 1)
            others.append(demo._run_key(plans, recipe))
    assert len({key, *others}) == 1 + len(others)
    # The rendered data depends on its plan only, so that it is not rendered again.
    assert demo._key_of(plan.record()) == demo._key_of(demo._demo_plans(0)["dashcam"].record())


def test_the_demo_starts_from_a_checkpoint_of_this_project_with_no_trace_of_a_machine() -> None:
    content = START.read_bytes()
    assert len(content) < 2_000_000
    with zipfile.ZipFile(START) as archive:
        parts = b"".join(archive.read(name) for name in archive.namelist())
    assert not re.search(rb"/(home|root|work|tmp|Users)/", parts)
    model = load_checkpoint(START, "")
    assert set(model.names.values()) == set(CLASSES)
    # Its architecture is the one of the tool that makes it.
    described = yaml.safe_load(
        (Path(__file__).parents[1] / "tools" / "roads.yaml").read_text(encoding="utf-8")
    )
    assert {key: model.model.yaml[key] for key in ("backbone", "head")} == {
        key: described[key] for key in ("backbone", "head")
    }


def test_a_changed_architecture_trains_the_demo_anew(tmp_path: Path) -> None:
    from reports.commands import demo

    other = tmp_path / ARCHITECTURE.name
    other.write_text(ARCHITECTURE.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    plans, recipe = demo._demo_plans(0), road_world_recipe(0)
    assert demo._run_key(plans, replace(recipe, model=other)) != demo._run_key(plans, recipe)


def test_a_demo_trained_with_another_recipe_is_not_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reports.commands import demo

    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path))
    monkeypatch.setattr(demo, "render", lambda name, plan, reporter: tmp_path / name)
    monkeypatch.setattr(demo, "_render_flight", lambda plan, reporter: tmp_path / "flight.mp4")
    trained: list[Path] = []

    def finish(spec: str, run: Path, *_: object) -> None:
        run.mkdir(parents=True)
        (run / "shiftscope.json").write_text("{}", encoding="utf-8")
        trained.append(run)

    monkeypatch.setattr(demo, "_train_run", finish)
    first = demo.prepare_demo(0, Reporter(quiet=True)).run
    assert demo.prepare_demo(0, Reporter(quiet=True)).run == first
    assert trained == [first]
    monkeypatch.setattr(demo, "road_world_recipe", lambda seed: replace(road_world_recipe(seed), epochs=19))
    assert demo.prepare_demo(0, Reporter(quiet=True)).run == trained[1] != first


def test_a_bar_leaves_stdout_as_it_was() -> None:
    """On a terminal and in a notebook: the bar begins while Ultralytics' prints are silenced, and
    ends later.
    """
    reporter = Reporter()
    reporter.console = Console(file=io.StringIO(), force_terminal=True)
    before = sys.stdout
    with contextlib.ExitStack() as until_later:
        started, advance, say = until_later.enter_context(reporter.training("Training"))
        with open(os.devnull, "w") as silence, contextlib.redirect_stdout(silence):
            started(2)
            advance()
            say("epoch 1 of 1")
    assert sys.stdout is before
