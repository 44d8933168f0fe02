"""An exported detector gives the checkpoint's boxes; exporting changes no other file and installs nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ultralytics import YOLO
from ultralytics.engine.exporter import export_formats
from ultralytics.utils import checks

from datasets.errors import EnvironmentProblem, InputError
from datasets.world import DASHCAM, Plan, build_world
from reports import cli
from tests.conftest import run_script
from tests.test_faults import entries
from train.export import export, export_arguments, formats, install_command
from train.recipe import ARCHITECTURE

pytestmark = pytest.mark.slow  # each needs a trained detector and a converter

PACKAGES = ("onnx", "onnxruntime", "onnxruntime-gpu", "onnxslim", "pnnx")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "in_domain"
    list(build_world(folder, Plan(DASHCAM, {"train": (1, 2), "val": (1, 4)}, seed=1)))
    return folder


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of an untrained checkpoint whose layers are normalised on images, so that boxes vary."""
    torch.manual_seed(0)
    model = YOLO(str(ARCHITECTURE))
    model.model.names = {0: "pothole"}
    model.ckpt = {"train_args": {"imgsz": 256}}
    images = [cv2.resize(cv2.imread(str(path)), (256, 256)) for path in sorted(world.rglob("*.jpg"))]
    for layer in model.model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    model.model.train()
    with torch.no_grad():
        model.model(torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()).float() / 255)
    for branch in model.model.model[-1].cv3:
        branch[-1].weight.data *= 3
    for branch in model.model.model[-1].cv2:
        branch[-1].weight.data *= 5
    folder = tmp_path_factory.mktemp("runs") / "mine"
    (folder / "weights").mkdir(parents=True)
    model.save(str(folder / "weights" / "best.pt"))
    return folder


def boxes(model: Path, image: Path) -> np.ndarray:
    """Boxes (N, 6) as xyxy, confidence, class, letterboxed to a square as in an exported network."""
    results = YOLO(str(model), task="detect").predict(
        image, imgsz=256, conf=0.01, rect=False, device="cpu", verbose=False
    )
    return results[0].boxes.data.numpy()


@pytest.mark.parametrize(("target", "result"), [("onnx", "best.onnx"), ("ncnn", "best_ncnn_model")])
def test_the_exported_detector_gives_the_same_boxes(
    run: Path, world: Path, tmp_path: Path, target: str, result: str
) -> None:
    before = entries(run)
    outcome = run_script("export", str(run), "--format", target, cwd=tmp_path)
    assert outcome.code == 0, outcome.stderr
    written = Path(outcome.stdout.strip())
    assert written == tmp_path / "runs" / "export" / "mine" / result
    assert list(written.parent.iterdir()) == [written]
    assert list(written.parent.parent.iterdir()) == [written.parent]
    assert entries(run) == before
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    image = next((world / "images" / "val").glob("*.jpg"))
    original, exported = boxes(run / "weights" / "best.pt", image), boxes(written, image)
    for some, others in ((original, exported), (exported, original)):
        # A box just above the threshold may be just below it in the other format.
        above = some[some[:, 4] > 0.011]
        assert len(above) > 10
        for box in above:
            difference = np.abs(others[:, :5] - box[:5])
            assert (difference.max(1) < 0.05).any(), (box, difference.min(0))


def test_quantization_reads_any_source_and_leaves_it_unchanged(
    run: Path, world: Path, tmp_path: Path
) -> None:
    before = entries(world)
    first = run_script("export", str(run), "quantize=8", f"data={world}", cwd=tmp_path)
    assert first.code == 0, first.stderr
    assert entries(world) == before
    written = Path(first.stdout.strip())
    assert written.name == "best_int8.onnx"
    assert len(boxes(written, next((world / "images" / "val").glob("*.jpg")))) > 10


def test_an_export_never_overwrites_another(run: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "runs" / "export" / "mine" / "best.torchscript"
    earlier.parent.mkdir(parents=True)
    earlier.write_bytes(b"earlier")
    outcome = run_script("export", str(run), "--format", "torchscript", cwd=tmp_path)
    assert Path(outcome.stdout.strip()) == earlier.parent.with_name("mine-2") / "best.torchscript"
    assert earlier.read_bytes() == b"earlier"


@pytest.mark.parametrize(
    ("target", "messages"),
    [
        ("onnx", ("needs onnx>=1.12.0,<2.0.0 and onnxruntime and onnxslim", "'onnx>=1.12.0,<2.0.0'")),
        ("ncnn", ("needs pnnx==20260526", "pnnx==20260526")),
    ],
)
def test_a_missing_package_is_reported_and_not_installed(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: str,
    messages: tuple[str, str],
) -> None:
    """Also if Ultralytics is allowed to install packages."""

    def installed_version(name: str) -> str:
        if name in PACKAGES:
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(checks.metadata, "version", installed_version)
    monkeypatch.setattr(checks, "AUTOINSTALL", True)
    monkeypatch.setattr(subprocess, "check_output", lambda *_, **__: pytest.fail("something was installed"))
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    for name in ("onnx", "pnnx"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys, "argv", ["shiftscope", "export", str(run), "--format", target])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == cli.ENVIRONMENT
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"shiftscope: --format {target}: {messages[0]}")
    assert "which this environment lacks; run " in line
    assert messages[1] in line.partition("; run ")[2]
    assert sys.executable in line
    assert list((tmp_path / "runs" / "export").iterdir()) == []


def test_the_install_command_fits_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv creates environments without pip, also a uv that `make setup` installed; Colab has pip and no uv."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setattr("train.export.find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert install_command(["onnx>=1"]) == f"uv pip install --python {sys.executable} 'onnx>=1'"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert install_command(["onnx>=1"]) == f"uv pip install --python {sys.executable} 'onnx>=1'"
    own = tmp_path / ".uv" / "bin" / "uv"
    own.parent.mkdir(parents=True)
    own.touch()
    assert install_command(["onnx>=1"]) == f"{own} pip install --python {sys.executable} 'onnx>=1'"
    monkeypatch.setattr("train.export.find_spec", lambda name: name)
    assert install_command(["onnx>=1"]) == f"{sys.executable} -m pip install 'onnx>=1'"


def test_every_format_of_ultralytics_is_offered_with_its_arguments() -> None:
    table = export_formats()
    assert list(formats()) == [name for name in table["Argument"] if name != "-"]
    assert set(formats()["ncnn"]) == {"batch", "quantize"}


@pytest.mark.parametrize(
    ("target", "text", "message"),
    [
        ("onxx", "batch=1", "--format onxx: expected one of torchscript, onnx, openvino"),
        ("onnx", "epochs=3", "epochs=3: export to onnx takes no 'epochs'; it takes batch"),
        ("ncnn", "dynamic=True", "dynamic=True: export to ncnn takes no 'dynamic'"),
        ("ncnn", "quantize=8", "format='ncnn' supports quantize=16"),
        ("onnx", "opset=1.5", "'opset' must be an int"),
        ("onnx", "imgsz=320", "give --imgsz 320 instead"),
        ("onnx", "dynamic", "'dynamic': expected an argument of Ultralytics as KEY=VALUE"),
        ("onnx", "quantize=8", "add data=SOURCE"),
    ],
)
def test_arguments_are_checked_before_anything_is_loaded(target: str, text: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        export_arguments(target, [text])
    assert message in str(refused.value)


def test_older_names_of_a_precision_are_accepted() -> None:
    assert export_arguments("onnx", ["half=True", "dynamic=True"]) == {"quantize": 16, "dynamic": True}
    assert export_arguments("onnx", ["nms=True", "conf=0.1"]) == {"nms": True, "conf": 0.1}


def test_a_file_that_is_no_detection_checkpoint_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    YOLO("yolo11n-cls.yaml").save(str(tmp_path / "cls.pt"))
    (tmp_path / "torn.pt").write_bytes((run / "weights" / "best.pt").read_bytes()[:1000])
    for weights, message in (
        (ARCHITECTURE, "is no .pt checkpoint"),
        (tmp_path / "cls.pt", "is a 'classify' model"),
        (tmp_path / "torn.pt", "not a usable checkpoint"),
        (tmp_path / "none.pt", "no such checkpoint"),
        (tmp_path, "has no weights/best.pt"),
    ):
        with pytest.raises(InputError) as refused:
            export(weights, "onnx")
        assert message in str(refused.value)
    assert not (tmp_path / "runs").exists()


def test_a_failing_converter_leaves_its_log_and_no_export(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Converters are separate programs whose output must not reach stdout either."""

    def convert(*_: object, **__: object) -> str:
        subprocess.run(["echo", "output of a converter"], check=True)
        raise RuntimeError("exit code 1\nand more")

    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("ultralytics.engine.model.Model.export", convert)
    log = tmp_path / "runs" / "export" / "onnx.log"
    with pytest.raises(EnvironmentProblem, match=f"exit code 1; the full output is in {log}"):
        export(run, "onnx")
    assert log.read_text(encoding="utf-8") == "output of a converter\n"
    assert list(log.parent.iterdir()) == [log]


def test_a_result_outside_the_draft_folder_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version of Ultralytics that writes elsewhere is reported."""
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("ultralytics.engine.model.Model.export", lambda *_, **__: str(run / "best.onnx"))
    with pytest.raises(EnvironmentProblem, match="not beside the checkpoint"):
        export(run, "onnx")
