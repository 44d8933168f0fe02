"""Training: new folder each time, the user's data untouched, a killed run taken up where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from datasets.errors import EnvironmentProblem, InputError
from datasets.source import open_source
from datasets.world import DASHCAM, Plan, build_world
from tests.conftest import SCRIPT, run_script
from train.history import read_history
from train.pretrained import ARCHITECTURE, starting_point
from train.run import open_run
from train.staging import stage
from train.training import Recipe, data_sha256, interrupted, train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "in_domain"
    list(build_world(folder, Plan(DASHCAM, {"train": (4, 8), "val": (2, 4)}, seed=1)))
    return folder


def test_staging_links_images_one_by_one_and_writes_our_labels(data: Path, tmp_path: Path) -> None:
    source = open_source(str(data), cache=tmp_path)
    card = stage(source, tmp_path / "staged", tmp_path)
    again = open_source(str(card), cache=tmp_path)
    assert len(again.images) == len(source.images)
    assert len(again.annotations) == len(source.annotations)
    links = list((tmp_path / "staged" / "images").rglob("*.jpg"))
    assert all(p.is_symlink() for p in links)
    assert not any(p.is_symlink() for p in (tmp_path / "staged").rglob("*") if p.is_dir())
    assert Path(yaml.safe_load(card.read_text())["path"]).is_absolute()


def test_staging_needs_train_and_val(data: Path, tmp_path: Path) -> None:
    source = open_source(str(data), cache=tmp_path)
    with pytest.raises(InputError, match="both 'train' and 'val'"):
        stage(source.keep(source.images["split"] == "val"), tmp_path / "s", tmp_path)


def test_train_killed_and_resumed(data: Path, tmp_path: Path) -> None:
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
    deadline = time.monotonic() + 120
    results = runs / "train" / "t" / "results.csv"
    while time.monotonic() < deadline and not (
        (runs / "train" / "t" / "weights" / "resume.pt").is_file() and results.is_file()
    ):
        time.sleep(0.05)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert 1 <= len(read_history(results)) < 4
    # As if the kill had come while ultralytics was writing its own checkpoint.
    last = runs / "train" / "t" / "weights" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])

    # As it was started, whatever this command's defaults are.
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
    # What was seen before the kill stays.
    assert sorted(set(open_run(folder).watched["epoch"])) == [1, 2, 3, 4]

    second = run_script(*arguments[:3], "1", *arguments[4:], cwd=tmp_path, SHIFTSCOPE_RUNS=str(runs))
    assert Path(second.stdout.strip()).name == "t-2"
    assert {
        str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in data.rglob("*") if p.is_file()
    } == before


def test_two_trainings_that_start_at_once_have_a_folder_each(data: Path, tmp_path: Path) -> None:
    command = [SCRIPT, "train", str(data), "--epochs", "1", "--imgsz", "64", "--device", "cpu", "--name", "t"]
    command += ["--model", str(ARCHITECTURE)]
    environment = {**os.environ, "SHIFTSCOPE_RUNS": str(tmp_path / "runs")}
    both = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    folders = [process.communicate(timeout=240)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert {Path(folder).name for folder in folders} == {"t", "t-2"}
    assert all((Path(folder) / "weights" / "best.pt").is_file() for folder in folders)


def test_what_cannot_be_trained_from_leaves_no_run(data: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    outcome = run_script("train", str(data), "--model", "bad.pt", "--epochs", "1", cwd=tmp_path)
    assert outcome.code == 2
    assert not (tmp_path / "runs" / "train").exists()


def test_of_two_demos_the_second_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from reports.commands import demo
    from reports.progress import Reporter

    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path))
    (tmp_path / "demo").mkdir()
    held = threading.Event()

    def first() -> None:
        with FileLock(tmp_path / "demo" / ".lock"):
            held.set()
            time.sleep(1)

    threading.Thread(target=first).start()
    held.wait()
    begin = time.monotonic()
    monkeypatch.setattr(demo, "made", lambda seed, reporter: "made")
    assert demo.prepare(0, Reporter()) == "made"
    assert time.monotonic() - begin > 0.5
    assert "waiting for it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["CUDA out of memory. Tried to allocate 2 GiB", "DefaultCPUAllocator: can't allocate memory"]
)
def test_where_memory_runs_out_the_batch_is_halved(data: Path, tmp_path: Path, words: str) -> None:
    said: list[str] = []

    def narrow(model) -> None:
        def strain(trainer) -> None:
            if trainer.batch_size > 4 and trainer.epoch == 1:
                raise RuntimeError(words)

        model.add_callback("on_train_batch_start", strain)

    folder = train(
        open_source(str(data), cache=tmp_path), tmp_path / "run", Recipe(ARCHITECTURE, epochs=2, imgsz=64, batch=16, device="cpu"),
        on_start=lambda _: None, on_batch=lambda: None, on_epoch=said.append, on_model=narrow,
    )  # fmt: skip
    assert [line for line in said if "out of memory" in line] == [
        "out of memory; going on with batch=8",
        "out of memory; going on with batch=4",
    ]
    assert json.loads((folder / "shiftscope.json").read_text())["batch"] == 4
    # The epoch that was whole is not trained again.
    assert read_history(folder / "results.csv")["epoch"].tolist() == [1, 2]


def test_other_errors_of_a_training_are_not_taken_for_it(data: Path, tmp_path: Path) -> None:
    def broken(model) -> None:
        model.add_callback("on_train_batch_start", lambda trainer: 1 / 0)

    nothing = {"on_start": lambda _: None, "on_batch": lambda: None, "on_epoch": lambda _: None}
    recipe = Recipe(ARCHITECTURE, epochs=1, imgsz=64, batch=16, device="cpu")
    with pytest.raises(ZeroDivisionError):
        train(open_source(str(data), cache=tmp_path), tmp_path / "run", recipe, on_model=broken, **nothing)

    def never(model) -> None:
        model.add_callback("on_train_batch_start", lambda trainer: (_ for _ in ()).throw(MemoryError()))

    with pytest.raises(EnvironmentProblem, match="even with one image a batch"):
        train(open_source(str(data), cache=tmp_path), tmp_path / "other", recipe, on_model=never, **nothing)


def test_what_a_run_was_taught_is_told_by_its_content(data: Path, tmp_path: Path) -> None:
    source = open_source(str(data), cache=tmp_path)
    known = data_sha256(source)
    shutil.copytree(data, tmp_path / "moved")
    moved = tmp_path / "moved"
    assert data_sha256(open_source(str(moved), cache=tmp_path)) == known
    label = next(path for path in sorted((moved / "labels" / "train").iterdir()) if path.stat().st_size)
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    assert data_sha256(open_source(str(moved), cache=tmp_path)) != known


def test_a_pretrained_checkpoint_is_fetched_once_and_without_a_network_the_small_network_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[Path] = []
    said: list[str] = []

    def fetch(place: Path, **_: object) -> None:
        asked.append(Path.cwd() / place)
        shutil.copyfile(weights, place)

    monkeypatch.setattr("train.pretrained.attempt_download_asset", fetch)
    found = starting_point(None, said.append)
    assert found == tmp_path / "data" / "weights" / "yolo11n.pt"
    assert starting_point(Path("yolo11n.pt"), said.append) == found
    assert asked == [found]

    def fail(place: Path, **_: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr("train.pretrained.attempt_download_asset", fail)
    found.unlink()
    said.clear()
    assert starting_point(None, said.append) == ARCHITECTURE
    assert any("small architecture from scratch" in line for line in said)
    with pytest.raises(InputError, match="could not be fetched"):
        starting_point(Path("yolo11s.pt"), said.append)
    assert starting_point(Path("yolo11n.yaml"), said.append) == Path("yolo11n.yaml")
    (tmp_path / "run" / "weights").mkdir(parents=True)
    shutil.copyfile(weights, tmp_path / "run" / "weights" / "last.pt")
    assert starting_point(tmp_path / "run", said.append) == tmp_path / "run" / "weights" / "last.pt"


def test_a_run_of_somebody_else_is_never_taken_for_one_of_ours(
    data: Path, tmp_path: Path, weights: Path
) -> None:
    theirs = tmp_path / "detect" / "train"
    (theirs / "weights").mkdir(parents=True)
    shutil.copyfile(weights, theirs / "weights" / "last.pt")
    (theirs / "results.csv").write_text("epoch\n1\n")
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="no epoch of a training of Shiftscope's"):
        interrupted(theirs)
    nothing = {"on_start": lambda _: None, "on_batch": lambda: None, "on_epoch": lambda _: None}
    with pytest.raises(InputError, match="holds"):
        train(
            open_source(str(data), cache=tmp_path),
            theirs,
            Recipe(ARCHITECTURE, epochs=1, imgsz=64, device="cpu"),
            **nothing,
        )
    assert {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()} == before
