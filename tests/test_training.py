"""Training: new folder each time, the user's data untouched, a killed run taken up where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from datasets.errors import InputError
from datasets.source import open_source
from datasets.world import DASHCAM, Plan, build_world
from tests.conftest import SCRIPT, run_script
from train.history import read_history
from train.staging import stage


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "home"
    list(build_world(folder, Plan(DASHCAM, {"train": (4, 8), "val": (2, 4)}, seed=1)))
    return folder


def test_staging_links_pictures_one_by_one_and_writes_our_labels(data: Path, tmp_path: Path) -> None:
    source = open_source(str(data), cache=tmp_path)
    card = stage(source, tmp_path / "staged", tmp_path)
    again = open_source(str(card), cache=tmp_path)
    assert len(again.images) == len(source.images)
    assert len(again.boxes) == len(source.boxes)
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

    resumed = run_script(
        *arguments, "--resume", str(runs / "train" / "t"), cwd=tmp_path, SHIFTSCOPE_RUNS=str(runs)
    )
    assert resumed.code == 0, resumed.stderr
    folder = Path(resumed.stdout.strip())
    assert read_history(folder / "results.csv")["epoch"].tolist() == [1, 2, 3, 4]
    lineage = json.loads((folder / "shiftscope.json").read_text())
    assert lineage["images"] == {"train": 32, "val": 8}

    second = run_script(*arguments[:3], "1", *arguments[4:], cwd=tmp_path, SHIFTSCOPE_RUNS=str(runs))
    assert Path(second.stdout.strip()).name == "t-2"
    assert {
        str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in data.rglob("*") if p.is_file()
    } == before


def test_two_trainings_that_start_at_once_have_a_folder_each(data: Path, tmp_path: Path) -> None:
    command = [SCRIPT, "train", str(data), "--epochs", "1", "--imgsz", "64", "--device", "cpu", "--name", "t"]
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
    assert [
        path.name for path in (tmp_path / "runs" / "train").iterdir() if not path.name.startswith(".")
    ] == []


def test_of_two_demos_the_second_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from reports import demo
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
