"""The fault table: each fault is run through the command line; sources stay unchanged and no code runs."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser

from datasets.containment import register_roots
from datasets.errors import InputError
from datasets.pairing import enclosing_roots
from datasets.pixels import decode
from datasets.source import open_source
from datasets.video import MAX_FRAMES, extract, open_video
from reports import cli
from reports.page.thumbnails import crop
from tests.conftest import MainJob, Outcome, complaint, run_script
from tests.fault_table import FAULTS, ROOT, THREATS, Fault, encoded, page, pixels, video, write, yolo
from tests.test_sources import tree
from train.history import read_history
from train.passes import describe
from train.predictions import Settings, Store

BOMB = """
class Bomb:
    def __reduce__(self):
        import os
        return (os.system, ("touch {marker}",))
"""


def entries(root: Path) -> dict[str, tuple[str, int]]:
    """Hash of every regular file, and modification time of every entry below a folder."""
    return {
        str(path): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.lstat().st_mtime_ns,
        )
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    """The console script in this process, which saves the imports of all libraries per fault."""

    def call(*arguments: str) -> Outcome:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["shiftscope", *arguments])
        begin = time.monotonic()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err, time.monotonic() - begin)

    return call


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.build], ids=lambda fault: fault.id)
def test_fault(fault: Fault, command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "source"
    root.mkdir()
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    arguments = fault.build(root) or ["inspect", str(root)]
    before = entries(root)
    outcome = command(*arguments, *(["--json"] if arguments[0] in ("inspect", "triage") else []))
    assert outcome.code == fault.code, outcome.stderr
    assert entries(root) == before
    assert not list(tmp_path.rglob("pwned"))
    if fault.code:
        line = complaint(outcome)
        assert all(part in line for part in fault.message), line
        return
    assert outcome.stdout, outcome.stderr
    if arguments[0] != "inspect":
        return
    inspection = json.loads(outcome.stdout)
    source = open_source(arguments[1], cache=tmp_path / "runs" / "frames")
    ledger = source.ledger
    assert not ledger["path"].duplicated().any()
    assert sum(inspection["files"].values()) == len(ledger)
    outcomes = {}
    for path, bucket, reason in ledger.to_numpy():
        outcomes.setdefault(path.rsplit("/", 1)[1], (bucket, reason))
    for name, bucket, part in fault.ledger:
        assert name in outcomes, (name, outcomes)
        assert outcomes[name][0] == bucket, (name, outcomes[name])
        assert part in outcomes[name][1], (name, outcomes[name])
    rows = [(row["action"], row["reason"], row["first"]) for row in inspection["label_rows"]]
    for action, part in fault.rows:
        assert any(
            a == action and part in reason and first.endswith((".txt", ".json")) for a, reason, first in rows
        ), (part, rows)
    for key, value in fault.counts:
        assert inspection[key] == value, (key, inspection[key])
    # Every regular file that is not hidden is in the ledger, or a folder of it that is skipped as a whole.
    if fault.id != "F13":
        listed = set(ledger["path"])
        files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
        assert all(listed & {str(path), *map(str, path.parents)} for path in files)
    assert np.isfinite(source.annotations[["x1", "y1", "x2", "y2"]].to_numpy()).all()


def test_the_table_is_complete_and_lists_existing_tests() -> None:
    assert [fault.id for fault in FAULTS] == [f"F{number:02d}" for number in range(1, 114)]
    named = {name for row in (*FAULTS, *THREATS) for name in row.tests}
    for name in named:
        file, _, test = name.partition("::")
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), name
    assert all(fault.build or fault.tests or fault.untested for fault in FAULTS)
    assert sum(bool(fault.build or fault.tests) for fault in FAULTS) >= 60
    assert {threat.id for threat in THREATS} >= {
        "T1",
        "T2",
        "T3",
        "T4",
        "T5",
        "T6",
        "T11",
        "T13",
        "T14",
        "T15",
    }
    assert (ROOT / "docs" / "faults.md").read_text(encoding="utf-8") == page(), (
        "run python -m tests.fault_table"
    )


def described(root: Path, store: Path):
    """Decode every image of a folder, as a report does."""
    source = open_source(str(root), cache=store)
    return describe(source.images, Store(store / "passes"))


def test_an_image_deleted_during_a_run_only_costs_that_image(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "f" / f"{number}.jpg", encoded(seed=number))
    source = open_source(str(tmp_path / "f"), cache=tmp_path)
    (tmp_path / "f" / "1.jpg").rename(tmp_path / "elsewhere.jpg")
    description = describe(source.images, Store(tmp_path / "passes"))
    assert [Path(path).name for path in description.failures["path"]] == ["1.jpg"]
    assert "No such file" in description.failures["reason"].iloc[0]
    (tmp_path / "elsewhere.jpg").rename(tmp_path / "f" / "1.jpg")
    assert len(describe(source.images, Store(tmp_path / "passes")).images) == 3


def test_changes_are_recognised_by_content_not_by_time(tmp_path: Path) -> None:
    path = write(tmp_path / "f" / "a.png", encoded(".png", 1))
    modified = path.stat().st_mtime_ns
    first = described(tmp_path / "f", tmp_path).images["fingerprint"].iloc[0]
    write(path, encoded(".png", 2))
    os.utime(path, ns=(modified, modified))
    assert described(tmp_path / "f", tmp_path).images["fingerprint"].iloc[0] != first


def test_validation_images_within_training_are_reported(tmp_path: Path) -> None:
    """Images in both splits stay with training; images only in val are val."""
    yolo(tmp_path, yaml="train: images/val\nval: [images/val, images/more]\nnames: [pothole, crack]\n")
    write(tmp_path / "images" / "more" / "b.jpg", encoded(seed=8))
    source = open_source(str(tmp_path), cache=tmp_path / "cache")
    assert source.images["split"].tolist() == ["train", "val"]
    reason = source.ledger.set_index("path").loc[str(tmp_path / "data.yaml"), "reason"]
    assert "1 image of 'val' also in 'train'" in reason


def test_one_image_and_a_class_without_annotations(command, tmp_path: Path) -> None:
    write(tmp_path / "d" / "images" / "a.jpg", encoded())
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20]}],
        "categories": [{"id": 1, "name": "pothole"}, {"id": 2, "name": "crack"}],
    }
    write(tmp_path / "d" / "gt.json", json.dumps(truth))
    write(tmp_path / "d" / "dt.json", "[]")
    source = str(tmp_path / "d" / "gt.json")
    outcome = command(
        "report",
        "--in-domain",
        source,
        "--predictions",
        f"in-domain={tmp_path / 'd' / 'dt.json'}",
        "--no-fiftyone",
        "--out",
        str(tmp_path / "out"),
        "--json",
    )
    assert outcome.code == 0, outcome.stderr
    record = json.loads(outcome.stdout)
    overall = next(s for s in record["slices"] if s["slice"] == "all")
    assert overall["ap50"] in (0, None)
    assert overall["ap50_low"] is None
    assert -1 not in [overall[key] for key in ("ap", "ap50", "ap75", "max_recall")]


def test_a_truncated_history_keeps_its_complete_epochs(tmp_path: Path) -> None:
    fault = next(fault for fault in FAULTS if fault.id == "F39")
    fault.build(tmp_path)
    history = read_history(tmp_path / "results.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history["ap50"].tolist() == [0.1, 0.3, 0.4]


def test_an_address_is_not_opened(command) -> None:
    for spec in ("rtsp://camera.example/live", "https://example.org/a.zip", "HTTP://x/y.mp4"):
        outcome = command("inspect", spec)
        assert outcome.code == 2
        assert "addresses are not opened" in complaint(outcome)


@pytest.mark.slow
def test_the_locale_changes_nothing(tmp_path: Path) -> None:
    yolo(tmp_path / "d\u00e9j\u00e0", yaml="val: images/val\nnames: [pothole, crack\u00e9]\n")
    outcomes = [
        run_script("inspect", "d\u00e9j\u00e0", "--json", cwd=tmp_path, **environment)
        for environment in (
            {"LC_ALL": "C.UTF-8"},
            {"LC_ALL": "C", "LANG": "C", "TZ": "Pacific/Apia"},
        )
    ]
    assert [outcome.code for outcome in outcomes] == [0, 0], outcomes[1].stderr
    assert outcomes[0].stdout == outcomes[1].stdout


# Videos.


def test_frames_are_keyed_by_presentation_time(tmp_path: Path) -> None:
    """Frames at uneven times, stored out of order: the brightness of each frame encodes its time."""
    moments = [Fraction(n, 10) + Fraction(n % 3, 50) for n in range(60)]
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=50)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        stream.codec_context.max_b_frames = 2
        stream.codec_context.time_base = stream.time_base = Fraction(1, 50)
        for moment in moments:
            shade = np.full((48, 64, 3), round(float(moment) * 40), np.uint8)
            shade[:, :: 2 + int(moment * 7) % 5] //= 2
            shade[0:48, 32:64] = round(float(moment) * 40)
            image = av.VideoFrame.from_ndarray(shade, format="rgb24")
            image.pts, image.time_base = int(moment * 50), Fraction(1, 50)
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    source = open_source(str(tmp_path / "v.mp4"), cache=tmp_path / "cache")
    assert len(source.images) >= 8
    times = {round(float(moment), 3) for moment in moments}
    assert set(source.images["seconds"]) <= times
    brightness = [decode(Path(path))[:, 40:60].mean() for path in source.images["path"]]
    np.testing.assert_allclose(brightness, source.images["seconds"] * 40, atol=6)


def test_a_rotated_video_is_turned_upright(tmp_path: Path) -> None:
    """The matrix in the track header declares a quarter turn, as phones write it."""
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 2_000_000
        stored = np.zeros((48, 64, 3), np.uint8)
        stored[:24, :32] = 250
        for _ in range(12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode())
    raw = bytearray(path.read_bytes())
    offset = raw.index(b"tkhd") + 4 + 40
    one = 1 << 16
    # Turned by a quarter clockwise for display.
    raw[offset : offset + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(raw)
    upright = decode(Path(open_source(str(path), cache=tmp_path / "cache").images["path"].iloc[0]))
    assert upright.shape == (64, 48, 3)
    # The stored top left corner is at the top right of the upright frame.
    assert upright[4:28, 28:44].mean() > 200
    assert upright[4:28, 4:20].mean() < 60


def test_a_video_that_changes_its_size_is_used_until_then(tmp_path: Path) -> None:
    """Two concatenated MPEG streams, the second with another frame size."""
    parts = []
    for number, size in enumerate([(64, 48), (96, 64)]):
        parts.append(
            video(tmp_path / f"{number}.mpg", 40, codec="mpeg1video", size=size, rate=25).read_bytes()
        )
    write(tmp_path / "f" / "both.mpg", b"".join(parts))
    source = open_source(str(tmp_path / "f" / "both.mpg"), cache=tmp_path / "cache")
    assert set(zip(source.images["width"], source.images["height"], strict=True)) == {(64, 48)}
    assert "another size" in source.ledger["reason"].iloc[0]


@pytest.mark.slow
def test_two_hours_of_video_in_bounded_memory(tmp_path: Path) -> None:
    video(tmp_path / "long.mp4", 7200 * 4, rate=4, size=(64, 48))
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom datasets.video import open_video\n"
        "source = open_video('x', Path(sys.argv[1]), Path(sys.argv[2]), print)\n"
        "times = source.images['seconds']\n"
        "print(len(times), times.iloc[-1], source.bursts.groupby('burst').size().tolist())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)\n"
    )
    video(tmp_path / "short.mp4", 60 * 4, rate=4, size=(64, 48))
    lines = {}
    for name in ("long", "short"):
        command = [sys.executable, "-c", script, str(tmp_path / f"{name}.mp4"), str(tmp_path / "cache")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        lines[name] = done.stdout.splitlines()
    assert (
        lines["long"][0]
        == "  long.mp4: 64x48, 7200 s; about 150 frames, one every 48.00 s, and 6 bursts of 8 consecutive "
        "frames"
    )
    count, last, *bursts = lines["long"][1].split(maxsplit=2)
    assert int(count) + 20 >= MAX_FRAMES
    assert float(last) > 7000
    assert bursts == ["[8, 8, 8, 8, 8, 8]"]
    # 28,800 decoded frames would be 265 MB.
    assert int(lines["long"][2]) - int(lines["short"][2]) < 40


def test_jumping_and_decoding_everything_take_the_same_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video(tmp_path / "v.mp4", 900 * 5, rate=5)
    jumped = open_video("v", tmp_path / "v.mp4", tmp_path / "jumped")
    monkeypatch.setattr("datasets.video.SEEK_AHEAD", float("inf"))
    plain = open_video("v", tmp_path / "v.mp4", tmp_path / "plain")
    for kind in ("images", "bursts"):
        one, other = getattr(jumped, kind), getattr(plain, kind)
        assert one["seconds"].tolist() == other["seconds"].tolist()
        for a, b in zip(one["path"], other["path"], strict=True):
            assert Path(a).read_bytes() == Path(b).read_bytes()


def test_a_video_with_the_longest_possible_name(tmp_path: Path) -> None:
    name = "\u00e9" * 125 + ".mp4"
    video(tmp_path / "short.mp4", 20).rename(tmp_path / name)
    source = open_source(str(tmp_path / name), cache=tmp_path / "cache")
    assert len(source.images) == 4
    assert source.images["group"].unique().tolist() == [name.removesuffix(".mp4")]


def test_two_runs_on_one_video_decode_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video(tmp_path / "v.mp4", 60)
    calls: list[Path] = []

    def slow(path: Path, folder: Path, say: Callable[[str], None]) -> None:
        calls.append(folder)
        time.sleep(0.3)
        extract(path, folder, say)

    monkeypatch.setattr("datasets.video.extract", slow)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(open_video, "v", tmp_path / "v.mp4", tmp_path / "cache") for _ in range(2)]
    assert len(calls) == 1
    assert both[0].result().images.equals(both[1].result().images)


# Checkpoints.


def test_a_model_without_boxes_is_refused(tmp_path: Path) -> None:
    from ultralytics import YOLO

    from train.forward import Detector

    YOLO("yolo11n-cls.yaml").save(str(tmp_path / "cls.pt"))
    with pytest.raises(InputError, match=r"cls\.pt: .*classif"):
        Detector(tmp_path / "cls.pt")


@pytest.mark.slow
def test_a_model_that_computes_nan_is_refused(tmp_path: Path) -> None:
    """Such a model detects nothing, which would look like a domain shift."""
    from ultralytics import YOLO

    from train.forward import Detector

    model = YOLO("yolo11n.yaml")
    next(model.model.parameters()).data[0] = float("nan")
    model.save(str(tmp_path / "nan.pt"))
    with pytest.raises(InputError, match=r"nan\.pt: computes values that are not finite"):
        Detector(tmp_path / "nan.pt", device="cpu").predict_pixels([pixels()], Settings(imgsz=64))


def test_a_checkpoint_of_an_unknown_module_is_refused(tmp_path: Path) -> None:
    """ultralytics would install a package with the name in the file."""
    import torch

    module = type(sys)("not_on_this_machine")
    kind = type("Layer", (), {"__module__": "not_on_this_machine"})
    module.Layer = kind
    sys.modules["not_on_this_machine"] = module
    try:
        torch.save({"model": kind()}, tmp_path / "new.pt")
    finally:
        del sys.modules["not_on_this_machine"]
    from train.forward import Detector

    with pytest.raises(InputError, match=r"new\.pt: holds more than known layers.*--trust-checkpoint"):
        Detector(tmp_path / "new.pt")


@pytest.mark.slow
def test_a_checkpoint_with_code_needs_trust_checkpoint(tmp_path: Path) -> None:
    """The file is refused; with --trust-checkpoint it is loaded as a plain pickle, including its code."""
    script = f"""
import os, sys, torch
class Code:
    def __reduce__(self):
        return (os.mkdir, ({str(tmp_path / "ran")!r},))
torch.save({{"model": Code()}}, {str(tmp_path / "own.pt")!r})
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
    yolo(tmp_path / "d")
    command = ["report", "--weights", "own.pt", "--in-domain", "d", "--no-fiftyone"]
    outcome = run_script(*command, cwd=tmp_path)
    assert outcome.code == 2
    assert "--trust-checkpoint" in complaint(outcome)
    assert not (tmp_path / "ran").exists()
    outcome = run_script(*command, "--trust-checkpoint", cwd=tmp_path)
    assert outcome.code == 2
    assert (tmp_path / "ran").exists()


@pytest.mark.slow
def test_hardening_is_set_before_ultralytics_is_imported(tmp_path: Path) -> None:
    """Variables that the user has set are kept; the rest is set before ultralytics reads it."""
    script = (
        "import train.forward, ultralytics.utils as u, os; "
        "print(u.SAFE_LOAD, u.AUTOINSTALL, u.ONLINE, os.environ['YOLO_CONFIG_DIR'])"
    )
    clean = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("YOLO", "ULTRALYTICS", "TORCH_FORCE", "PYTEST"))
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**clean, "SHIFTSCOPE_RUNS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["True", "False", "False", str(tmp_path / ".ultralytics")]


@pytest.mark.parametrize(("policy", "spins"), [({}, "10000"), ({"OMP_WAIT_POLICY": "passive"}, "None")])
def test_waiting_threads_leave_their_core_to_others(policy: dict[str, str], spins: str) -> None:
    """OpenMP reads the variable when PyTorch is loaded, so it must be there before."""
    script = "import os, sys, train; print('torch' in sys.modules, os.environ.get('GOMP_SPINCOUNT'))"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP", "OMP", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=clean | policy,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", spins]


@pytest.mark.slow
def test_importing_ultralytics_first_is_refused(tmp_path: Path) -> None:
    script = (
        "import ultralytics\nfrom pathlib import Path\nfrom train.forward import Detector\n"
        "from datasets.errors import EnvironmentProblem\n"
        "try:\n    Detector(Path('x.pt'))\nexcept EnvironmentProblem as problem:\n    print(problem)\n"
    )
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("ULTRALYTICS", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**clean, "SHIFTSCOPE_RUNS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ultralytics was imported before shiftscope" in done.stdout


# Disks.


def test_a_full_disk_leaves_no_half_report(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The earlier report stays complete, no new one appears, and the exit code reports the environment."""
    yolo(tmp_path / "d")
    write(
        tmp_path / "dt.json",
        '[{"image_id": "good", "category_id": 0, "bbox": [20, 20, 16, 12], "score": 0.9}]',
    )
    arguments = [
        "report",
        "--in-domain",
        str(tmp_path / "d"),
        "--predictions",
        f"in-domain={tmp_path / 'dt.json'}",
        "--no-fiftyone",
        "--out",
        str(tmp_path / "out"),
    ]
    assert command(*arguments).code == 0
    before = tree(tmp_path / "out")
    written: list[str] = []

    def full(descriptor: int) -> None:
        written.append(str(descriptor))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    outcome = command(*arguments)
    assert outcome.code == 3
    line = complaint(outcome)
    assert "No space left on device" in line
    assert written
    assert tree(tmp_path / "out") == before
    assert "make room there, or give --out" in line


def test_an_output_folder_that_cannot_be_written(command, tmp_path: Path) -> None:
    yolo(tmp_path / "d")
    write(tmp_path / "file", "in the way")
    write(tmp_path / "dt.json", "[]")
    outcome = command(
        "report",
        "--in-domain",
        str(tmp_path / "d"),
        "--predictions",
        f"in-domain={tmp_path / 'dt.json'}",
        "--no-fiftyone",
        "--out",
        str(tmp_path / "file" / "out"),
    )
    assert outcome.code == 3
    assert str(tmp_path / "file") in complaint(outcome)


@pytest.mark.slow
def test_a_home_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """Only FiftyOne's database needs a home folder; `doctor` reports it."""
    yolo(tmp_path / "d")
    outcome = run_script("inspect", "d", cwd=tmp_path, HOME="/proc/nowhere", XDG_CACHE_HOME="/proc/nowhere")
    assert outcome.code == 0, outcome.stderr
    outcome = run_script("doctor", cwd=tmp_path, HOME="/proc/nowhere", FIFTYONE_DATABASE_URI="")
    assert outcome.code == 3
    assert any(
        line.startswith("WRONG mongod") and "/proc/nowhere" in line for line in outcome.stdout.splitlines()
    ), outcome.stdout


@pytest.mark.slow
def test_doctor_reports_a_shadowed_library(tmp_path: Path) -> None:
    write(tmp_path / "around" / "plugins" / "__init__.py", "")
    outcome = run_script("doctor", cwd=tmp_path, PYTHONPATH=str(tmp_path / "around"))
    assert outcome.code == 3
    assert any("hides the library plugins" in line for line in outcome.stdout.splitlines()), outcome.stdout


def test_doctor_reports_two_opencvs(monkeypatch: pytest.MonkeyPatch) -> None:
    from reports.commands import doctor

    class Installed:
        def __init__(self, name: str) -> None:
            self.metadata = {"Name": name}

    monkeypatch.setattr(
        doctor, "distributions", lambda: [Installed("opencv-python"), Installed("opencv-python-headless")]
    )
    check = doctor.check_opencv()
    assert not check.ok
    assert "pip uninstall -y opencv-python opencv-python-headless" in check.cure


# Trust nothing.


def secrets(tmp_path: Path) -> Path:
    """A dataset that points at images and labels outside it in every possible way."""
    root = tmp_path / "d"
    write(tmp_path / "private" / "images" / "secret.jpg", encoded(seed=9))
    write(tmp_path / "private" / "labels" / "secret.txt", "0 0.5 0.5 0.1 0.1\n")
    yolo(root, yaml="val: [images/val, list.txt]\nnames: [pothole, crack]\n")
    (root / "images" / "val" / "link.jpg").symlink_to(tmp_path / "private" / "images" / "secret.jpg")
    (root / "images" / "val" / "deeper").symlink_to(tmp_path / "private" / "images")
    write(root / "images" / "val" / "own.jpg", encoded(seed=2))
    (root / "labels" / "val" / "own.txt").symlink_to(tmp_path / "private" / "labels" / "secret.txt")
    write(
        root / "list.txt",
        f"../private/images/secret.jpg\n{tmp_path / 'private' / 'images' / 'secret.jpg'}\n"
        "images/val/good.jpg\n/etc/passwd\n",
    )
    return root


def test_paths_out_of_a_dataset_are_not_followed(tmp_path: Path) -> None:
    source = open_source(str(secrets(tmp_path)), cache=tmp_path / "cache")
    assert sorted(Path(path).name for path in source.images["path"]) == ["good.jpg", "own.jpg"]
    assert source.images.set_index("image")["labelled"].to_dict() == {
        "images/val/good.jpg": True,
        "images/val/own.jpg": False,
    }
    out = source.ledger[source.ledger["reason"].str.startswith("leads out of the source")]
    assert set(out["bucket"]) == {"skipped"}
    assert {"link.jpg", "deeper", "own.txt", "secret.jpg"} <= {Path(path).name for path in out["path"]}
    assert out["reason"].str.contains("--allow-root").all()


def test_a_folder_may_be_allowed(tmp_path: Path) -> None:
    source = open_source(str(secrets(tmp_path)), cache=tmp_path / "cache", allow=[tmp_path / "private"])
    assert {Path(path).name for path in source.images["path"]} >= {
        "good.jpg",
        "own.jpg",
        "link.jpg",
        "secret.jpg",
    }
    assert source.images["labelled"].sum() >= 3


@pytest.mark.parametrize(
    "entry", ["../private/images", "{tmp}/private/images", "deeper/../../private/images"]
)
def test_a_split_that_leads_out_is_refused(tmp_path: Path, entry: str) -> None:
    root = secrets(tmp_path)
    # Through a link inside the dataset, and up from its target.
    (root / "deep" / "a" / "b").mkdir(parents=True)
    (root / "deeper").symlink_to(root / "deep" / "a" / "b")
    write(root / "data.yaml", f"val: {entry.format(tmp=tmp_path)}\nnames: [pothole, crack]\n")
    with pytest.raises(
        InputError, match=r"data\.yaml: 'val: .*(leads out of the source.*--allow-root|does not exist)"
    ):
        open_source(str(root), cache=tmp_path / "cache")


def test_a_labels_folder_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "private" / "val" / "good.txt", "0 0.5 0.5 0.1 0.1\n")
    write(tmp_path / "d" / "images" / "val" / "good.jpg", encoded())
    write(tmp_path / "d" / "data.yaml", "val: images/val\nnames: [pothole]\n")
    (tmp_path / "d" / "labels").symlink_to(tmp_path / "private")
    source = open_source(str(tmp_path / "d"), cache=tmp_path / "cache")
    assert source.annotations.empty
    assert source.ledger["reason"].str.startswith("leads out of the source").any()


@pytest.mark.parametrize("kind", ["link", "list", "list in a link"])
def test_a_video_outside_is_not_decoded(tmp_path: Path, kind: str) -> None:
    """As a link, or in a list that FFmpeg would follow."""
    video(tmp_path / "private" / "secret.mp4", 30)
    write(tmp_path / "d" / "a.jpg", encoded())
    if kind == "link":
        (tmp_path / "d" / "x.mp4").symlink_to(tmp_path / "private" / "secret.mp4")
    else:
        (tmp_path / "d" / "sub").symlink_to(tmp_path / "private")
        video(tmp_path / "d" / "own" / "own.avi", 20)
        named = "own/own.avi" if kind == "list" else "sub/secret.mp4"
        write(tmp_path / "d" / "x.mp4", f"ffconcat version 1.0\nfile {named}\n")
    source = open_source(str(tmp_path / "d"), cache=tmp_path / "cache")
    assert not source.images["path"].str.contains("secret").any()
    bucket, reason = source.ledger.set_index("path").loc[str(tmp_path / "d" / "x.mp4")]
    assert (bucket, reason[:9]) == (("skipped", "leads out") if kind == "link" else ("failed", "cannot be"))


@pytest.mark.parametrize("name", ["data.yaml", "annotations.json"])
def test_descriptions_that_are_links_out_are_not_read(tmp_path: Path, name: str) -> None:
    write(tmp_path / "private" / "data.yaml", "val: images\nnames: [secret]\n")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [],
        "categories": [{"id": 1, "name": "secret"}],
    }
    write(tmp_path / "private" / "annotations.json", json.dumps(content))
    write(tmp_path / "d" / "images" / "a.jpg", encoded())
    (tmp_path / "d" / name).symlink_to(tmp_path / "private" / name)
    source = open_source(str(tmp_path / "d"), cache=tmp_path / "cache")
    assert source.kind == "folder"
    assert source.classes == ()
    assert source.ledger.set_index("path").loc[str(tmp_path / "d" / name), "bucket"] == "skipped"


def test_pipes_in_place_of_videos_and_lists_do_not_hang(command, tmp_path: Path) -> None:
    write(tmp_path / "d" / "a.jpg", encoded())
    os.mkfifo(tmp_path / "d" / "x.mp4")
    assert command("inspect", str(tmp_path / "d")).code == 0
    write(tmp_path / "e" / "a.jpg", encoded())
    os.mkfifo(tmp_path / "e" / "val.txt")
    write(tmp_path / "e" / "data.yaml", "val: val.txt\nnames: [a]\n")
    outcome = command("inspect", str(tmp_path / "e"))
    assert outcome.code == 2
    assert "val.txt" in complaint(outcome)
    os.mkfifo(tmp_path / "pipe.json")
    assert command("inspect", str(tmp_path / "pipe.json")).code == 2


@pytest.mark.timeout(900)
def test_oversized_files_are_not_read(command, tmp_path: Path) -> None:
    write(tmp_path / "d" / "a.jpg", encoded())
    for name in ("gt.json", "list.txt", "data.yaml"):
        with open(tmp_path / name, "wb") as handle:
            handle.truncate(200_000_000_000)
        outcome = command("inspect", str(tmp_path / name))
        assert outcome.code == 2
        assert name in complaint(outcome)


def test_the_permission_of_an_exported_dataset_ends_when_it_changes(tmp_path: Path) -> None:
    write(tmp_path / "old" / "images" / "a.jpg", encoded())
    write(tmp_path / "old" / "labels" / "a.txt", "0 0.5 0.5 0.1 0.1\n")
    write(tmp_path / "old" / "diary.jpg", encoded(seed=4))
    write(tmp_path / "private" / "b.jpg", encoded(seed=3))
    card = write(tmp_path / "h" / "data.yaml", "train: train.txt\nnames: [pothole]\n")
    write(tmp_path / "h" / "train.txt", f"{tmp_path / 'old' / 'images' / 'a.jpg'}\n")
    register_roots(card, enclosing_roots([tmp_path / "old" / "images"]), tmp_path / "cache")
    source = open_source(str(card), cache=tmp_path / "cache")
    assert source.images["labelled"].tolist() == [True]
    # Its list has been changed to other images.
    for name in ("private/b.jpg", "old/diary.jpg"):
        write(tmp_path / "h" / "train.txt", f"{tmp_path / name}\n")
        with pytest.raises(InputError, match="leads out of the source"):
            open_source(str(card), cache=tmp_path / "cache")


def test_a_mistyped_allowed_folder_is_reported(command, tmp_path: Path) -> None:
    yolo(tmp_path / "d")
    outcome = command("inspect", str(tmp_path / "d"), "--allow-root", str(tmp_path / "nowhere"))
    assert outcome.code == 2
    assert "nowhere: no such folder" in complaint(outcome)


def test_the_folder_to_allow_brings_the_labels_along(tmp_path: Path) -> None:
    """A data.yaml apart from its data: the folder that the message suggests is enough."""
    yolo(tmp_path / "storage")
    write(
        tmp_path / "project" / "data.yaml",
        f"path: {tmp_path / 'storage'}\nval: images/val\nnames: [pothole, crack]\n",
    )
    with pytest.raises(InputError) as refused:
        open_source(str(tmp_path / "project" / "data.yaml"), cache=tmp_path / "cache")
    allowed = Path(re.search(r"--allow-root (\S+)", str(refused.value))[1])
    source = open_source(str(tmp_path / "project" / "data.yaml"), cache=tmp_path / "cache", allow=[allowed])
    assert source.images["labelled"].tolist() == [True]


@pytest.mark.timeout(900)
def test_a_maze_of_links_is_read_once(tmp_path: Path) -> None:
    """Forty folders, each with two links to the next: 2 ** 39 paths to the last."""
    for number in range(40):
        write(tmp_path / "d" / f"f{number}" / "a.jpg", encoded(seed=number))
    for number in range(39):
        for name in ("x", "y"):
            (tmp_path / "d" / f"f{number}" / name).symlink_to(tmp_path / "d" / f"f{number + 1}")
    source = open_source(str(tmp_path / "d"), cache=tmp_path / "cache")
    assert len({os.path.realpath(path) for path in source.images["path"]}) == len(source.images) == 40


@pytest.mark.timeout(900)
def test_a_yaml_of_aliases_is_refused_at_once(command, tmp_path: Path) -> None:
    rows = ["a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    rows += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    yolo(tmp_path / "d", yaml="val: images/val\n" + "\n".join(rows) + "\nnames: *i\n")
    outcome = command("inspect", str(tmp_path / "d"))
    assert outcome.code == 2
    assert "data.yaml:3:" in complaint(outcome)
    assert "aliases" in complaint(outcome)


@pytest.mark.slow
def test_training_reads_no_cache_of_the_dataset(tmp_path: Path) -> None:
    """ultralytics unpickles labels.cache unchecked, prefers a.npy to a.jpg, and runs download:."""
    marker = tmp_path / "pwned"
    root = hostile(tmp_path / "d", marker)
    (root / "data.yaml").write_text(
        "train: images/train\nval: images/val\nnames: [pothole, crack]\n"
        f"download: |\n  open({str(marker)!r}, 'w').close()\n"
    )
    for number in range(4):
        write(root / "images" / "train" / f"t{number}.jpg", encoded(seed=40 + number, size=(160, 120)))
        write(root / "labels" / "train" / f"t{number}.txt", "0 0.5 0.5 0.3 0.3\n")
    for name in ("labels/train.cache", "labels/train/labels.cache", "images/train/t1.npy"):
        write(root / name, (root / "best.pt").read_bytes())
    before = entries(root)
    outcome = run_script("train", "d", "--epochs", "1", "--imgsz", "64", "--device", "cpu", cwd=tmp_path)
    assert outcome.code == 0, outcome.stderr
    assert not marker.exists()
    assert entries(root) == before
    run = Path(outcome.stdout.strip())
    # A report of this run opens the dataset itself, with its clips, and not the staged copy.
    assert json.loads((run / "shiftscope.json").read_text())["source"] == str(root)


def hostile(root: Path, marker: Path) -> Path:
    """A hostile dataset: code in every file that a library would load, and markup in names."""

    class Bomb:
        def __reduce__(self):
            return (os.system, (f"touch {marker}",))

    bomb = pickle.dumps(Bomb())
    yolo(
        root,
        yaml="val: images/val\nnames: ['<script>alert(1)</script>', crack]\n"
        f"download: |\n  open({str(marker)!r}, 'w').close()\n",
    )
    for number in range(4):
        name = "=HYPERLINK(1)" if number == 0 else f"c{number}"
        write(root / "images" / "val" / f"{name}.jpg", encoded(seed=20 + number, size=(160, 120)))
        write(root / "labels" / "val" / f"{name}.txt", "0 0.5 0.5 0.3 0.3\n")
    write(root / "labels" / "val.cache", bomb)
    write(root / "labels" / "val" / "labels.cache", bomb)
    write(root / "images" / "val" / "c1.npy", bomb)
    write(root / "best.pt", bomb)
    write(root.parent / "outside.txt", "0 0.5 0.5 0.9 0.9\n")
    write(root / "images" / "val" / "led.jpg", encoded(seed=30))
    (root / "labels" / "val" / "led.txt").symlink_to(root.parent / "outside.txt")
    return root


@pytest.mark.slow
def test_a_hostile_dataset_gives_a_report_and_nothing_else(tmp_path: Path, browser: Browser) -> None:
    marker = tmp_path / "pwned"
    root = hostile(tmp_path / "d", marker)
    results = [
        {"image_id": f"c{n}", "category_id": 0, "bbox": [50, 40, 50, 40], "score": 0.9 - n / 10}
        for n in range(1, 4)
    ] + [{"image_id": "=HYPERLINK(1)", "category_id": 1, "bbox": [5, 5, 30, 30], "score": 0.8}]
    write(tmp_path / "dt.json", json.dumps(results))
    before = entries(root)
    command = [
        "report",
        "--in-domain",
        "d",
        "--predictions",
        "in-domain=dt.json",
        "--no-fiftyone",
        "--out",
        "out",
        "--json",
    ]
    outcome = run_script(*command, cwd=tmp_path)
    assert outcome.code == 0, outcome.stderr
    refused = run_script(
        "report", "--weights", "d/best.pt", "--in-domain", "d", "--no-fiftyone", cwd=tmp_path
    )
    assert refused.code == 2, refused.stderr
    assert not marker.exists()
    assert entries(root) == before
    with (tmp_path / "out" / "ledger.csv").open() as handle:
        rows = list(csv.DictReader(handle))
    assert len({row["path"] for row in rows}) == len(rows)
    outcomes = {row["path"].rsplit("/", 1)[1]: (row["bucket"], row["reason"]) for row in rows}
    assert (
        outcomes["val.cache"][0]
        == outcomes["labels.cache"][0]
        == outcomes["c1.npy"][0]
        == outcomes["best.pt"][0]
        == "skipped"
    )
    assert outcomes["led.txt"][1].startswith("leads out of the source")
    assert "'download:' was not run" in outcomes["data.yaml"][1]
    record = json.loads(outcome.stdout)
    files = record["ledger"]["files"]
    assert sum(files.values()) == len(rows)
    # No cell of any CSV begins like a formula.
    for path in (tmp_path / "out").rglob("*.csv"):
        for row in csv.reader(path.open()):
            assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in row), (path, row)
    tab = browser.new_page()
    tab.add_init_script("window.alerted = 0; window.alert = () => { window.alerted += 1; };")
    requests: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto((tmp_path / "out" / "report.html").as_uri())
    assert tab.evaluate("window.alerted") == 0
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in html.replace("\\u003c", "<lt>")
    assert "HYPERLINK(1)" in html
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    tab.close()


def test_thumbnails_contain_only_pixels(tmp_path: Path) -> None:
    """A JPEG with a GPS position, a comment and a web page after its end: the crop has none of them."""
    exif = Image.Exif()
    exif[0x010E] = "SECRET-DESCRIPTION"
    exif.get_ifd(0x8825)[1] = "N"
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels(1, (200, 150))).save(path, exif=exif, comment=b"SECRET-COMMENT")
    path.write_bytes(path.read_bytes() + b"<html><script>alert('SECRET-TAIL')</script></html>")
    import base64

    uri = crop(str(path), (20, 20, 80, 80), "true_positive")
    assert uri is not None
    assert uri.startswith("data:image/jpeg;base64,")
    raw = base64.b64decode(uri.partition(",")[2])
    assert b"SECRET" not in raw
    assert b"Exif" not in raw
    assert b"<html" not in raw
    assert raw.endswith(b"\xff\xd9")


def test_the_page_names_no_folder_of_this_machine(main_job: MainJob) -> None:
    """Pages are shared, so they must not contain user names, host names or absolute paths."""
    for name in ("report.html", "report.md"):
        text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", (main_job.folder / name).read_text(encoding="utf-8"))
        for private in {
            re.escape(str(main_job.cwd)),
            re.escape(str(Path.home())) + "/",
            rf"\b{re.escape(os.uname().nodename)}\b",
        }:
            starts = [match.start() for match in re.finditer(private, text)]
            assert not starts, (name, private, text[max(0, starts[0] - 80) : starts[0] + 80])


def test_the_page_stays_small(main_job: MainJob) -> None:
    assert (main_job.folder / "report.html").stat().st_size < 20e6


def test_every_dependency_has_a_bound() -> None:
    """T7: no untested release is installed; requirements.lock pins each dependency."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for requirement in project["project"]["dependencies"]:
        name = re.match(r"[A-Za-z0-9_.-]+", requirement)[0]
        assert re.search(rf"^{re.escape(name.lower())}==", locked, re.MULTILINE), name
