"""Functions of the user's own and ONNX files: the same report, from boxes alone."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from ultralytics import YOLO

from datasets.errors import InputError
from datasets.pixels import decode
from datasets.source import open_source
from datasets.world import DASHCAM, DRONE, Plan, build_world
from reports.options import ReportOptions
from reports.pipeline.run import run_report
from reports.progress import Reporter
from tests.conftest import complaint, run_in_process
from train.forward import Detector
from train.other_detectors import FunctionDetector, OnnxDetector, open_function
from train.predictions import Settings, Store

SETTINGS = Settings(imgsz=256)
# A detector without a network: what is red is an object, the surer the redder.
RED = """
import cv2
import numpy as np

def detect(images, imgsz):
    results = []
    for image in images:
        assert image.dtype == np.uint8 and image.shape[2] == 3
        smooth = cv2.blur(image, (5, 5)).astype(int)
        red = smooth[..., 0] - smooth[..., 1:].max(2)
        _, _, stats, _ = cv2.connectedComponentsWithStats((red > 12).astype(np.uint8))
        boxes = [
            [x, y, x + w, y + h, float(np.clip(red[y : y + h, x : x + w].mean() / 150, 0.01, 0.99)), 0]
            for x, y, w, h, a in stats[1:]
            if a > 30
        ]
        results.append(np.array(boxes, np.float32).reshape(-1, 6))
    return results

detect.classes = ("pothole",)

def torchvision_detector(images, imgsz):
    import torch
    with torch.inference_mode():
        found = network([torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255 for image in images])
    return [
        torch.cat([f["boxes"], f["scores"][:, None], f["labels"][:, None].float() - 1], 1) for f in found
    ]

def load():
    global network
    import torch, torchvision
    torch.manual_seed(0)
    network = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3, box_score_thresh=0.0, box_detections_per_img=20
    ).eval()

torchvision_detector.classes = {0: "pothole", 1: "shadow"}
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module `red`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    monkeypatch.delitem(sys.modules, "red", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "red.py").write_text(RED)
    return tmp_path


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("worlds")
    for name, view, seed in (("dashcam", DASHCAM, 3), ("drone", DRONE, 4)):
        list(build_world(folder / name, Plan(view, {"val": (6, 3)}, seed=seed)))
    return {name: folder / name for name in ("dashcam", "drone")}


def red_squares(folder: Path, light: float, seed: int) -> None:
    """Forty images with red squares, which the detector finds, and pale ones, which it finds where light is
    good.
    """
    rng = np.random.default_rng(seed)
    for number in range(40):
        pixels = rng.normal(110, 12, (160, 200, 3))
        rows = []
        for column in range(3):
            side = int(rng.integers(16, 36))
            x, y = 5 + 65 * column, int(rng.integers(5, 120))
            pixels[y : y + side, x : x + side, 2] += rng.uniform(20, 130)
            rows.append(f"0 {(x + side / 2) / 200} {(y + side / 2) / 160} {side / 200} {side / 160}")
        for kind in ("images", "labels"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        image = np.clip(pixels * light, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "images" / f"{number}-{seed}.png"), image)
        (folder / "labels" / f"{number}-{seed}.txt").write_text("\n".join(rows))


@pytest.mark.slow
def test_a_function_gets_a_whole_report(module: Path) -> None:
    """Interventions and the label-free estimate included, from boxes alone."""
    red_squares(module / "day", 1.0, 1)
    red_squares(module / "night", 0.2, 2)
    options = ReportOptions(
        detector="red:detect",
        in_domain=(None, str(module / "day")),
        real_world=((None, str(module / "night")),),
        label_free=True,
        imgsz=256,
    )
    result = run_report(options, Reporter(quiet=True))
    findings = result.findings
    assert findings.evidence.ap50["in-domain"] > findings.evidence.ap50["night"] + 0.2
    assert findings.evidence.recoveries["colours"].share > 0.3
    assert findings.deployments["night"].change.colours is not None
    # The function finds the same at every size: nothing was tried, so nothing is said of the image size.
    assert not any(name.startswith("imgsz") for name in findings.evidence.recoveries)
    assert "Shown at another size" not in findings.verdict.named("scale").statement
    assert set(findings.evidence.label_free) == {"night"}
    assert findings.estimator is not None
    # What is measured without a network stands for its embeddings.
    assert findings.evidence.shift_image["night"].mmd_ratio is not None
    assert len(findings.next)
    assert len(findings.cards)


def test_other_code_or_weights_are_another_detector(module: Path) -> None:
    first = open_function("red:detect").sha256
    assert open_function("red:detect").sha256 == first
    (module / "red.py").write_text(RED + "\n# changed\n")
    assert open_function("red:detect").sha256 != first
    import red  # type: ignore[import-not-found]

    changed = open_function("red:detect").sha256
    red.detect.version = 2
    assert open_function("red:detect").sha256 != changed


def test_a_torchvision_detector_with_random_weights(module: Path, worlds: dict[str, Path]) -> None:
    detector = FunctionDetector("red:torchvision_detector")
    sys.modules["red"].load()
    assert detector.classes == ("pothole", "shadow")
    images = open_source(str(worlds["dashcam"]), cache=module).images.head(2)
    predicted = detector.predict(images, Settings(320, conf=0.0), Store(module / "store"))
    assert len(predicted.detections) == 40
    pixels = decode(Path(images["path"].iloc[0]))
    expected = sys.modules["red"].torchvision_detector([pixels[..., ::-1]], 320)[0].numpy()
    ours = predicted.detections[predicted.detections["image"] == images["image"].iloc[0]]
    np.testing.assert_allclose(
        ours[["x1", "y1", "x2", "y2", "confidence", "label"]].to_numpy(float), expected, atol=1e-4
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return [np.zeros((2, 5))] * len(images)", "expected one array (N, 6)"),
        ("return [np.array([[0, 0, 9, 9, 0.5, 7]])] * len(images)", "between 0 and 0"),
        ("return [np.array([[0, 0, 9, 9, 50, 0]])] * len(images)", "confidence outside of 0 to 1"),
        ("return []", "gave 0 results for 1 images"),
        ("raise RuntimeError('no weights')", "failed with RuntimeError: no weights (WRONG, line 3)"),
    ],
)
def test_a_wrong_result_is_refused(module: Path, body: str, words: str) -> None:
    code = f"import numpy as np\ndef detect(images, imgsz):\n    {body}\ndetect.classes = ('a',)\n"
    (module / "wrong.py").write_text(code)
    sys.modules.pop("wrong", None)
    words = words.replace("WRONG", str(module / "wrong.py"))
    with pytest.raises(InputError, match=re.escape(words)):
        FunctionDetector("wrong:detect").predict_pixels([np.zeros((64, 64, 3), np.uint8)], SETTINGS)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("red", "expected package.module:function"),
        ("nowhere:detect", "cannot be imported"),
        ("red:nothing", "has no function nothing"),
        ("red:load", "names no classes"),
    ],
)
def test_what_is_no_detector_is_told_in_one_line(module: Path, name: str, words: str) -> None:
    outcome = run_in_process("report", "--detector", name, "--in-domain", "x", cwd=module)
    assert outcome.code == 2
    assert words in complaint(outcome)


def test_an_onnx_file_gives_the_boxes_of_its_checkpoint(
    varied_weights: Path, worlds: dict[str, Path], tmp_path: Path
) -> None:
    exported = Path(YOLO(str(varied_weights)).export(format="onnx", imgsz=256, dynamic=True, verbose=False))
    exported = exported.rename(tmp_path / "model.onnx")
    images = open_source(str(worlds["dashcam"]), cache=tmp_path).images.head(3)
    from_onnx = OnnxDetector(exported).predict(images, SETTINGS, Store(tmp_path / "onnx"))
    from_torch = Detector(varied_weights).predict(images, SETTINGS, Store(tmp_path / "torch"))
    columns = ["x1", "y1", "x2", "y2", "confidence"]
    assert len(from_torch.detections) > 20
    for image in images["image"]:
        ours, theirs = (
            p.detections[p.detections["image"] == image][columns].to_numpy(float)
            for p in (from_onnx, from_torch)
        )
        assert len(ours) == len(theirs)
        # Equal confidences come in any order, and of them any may be suppressed.
        apart = np.abs(ours[:, None] - theirs[None]).max(2)
        assert (apart.min(1) < 0.05).mean() > 0.97
    assert from_onnx.image_embeddings.shape == (3, 84)
    assert from_onnx.detection_embeddings.shape == (len(from_onnx.detections), 0)


def test_an_onnx_file_of_others_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="not a usable ONNX file"):
        OnnxDetector(tmp_path / "bad.onnx")


def test_a_frame_of_images_keeps_its_order(module: Path, worlds: dict[str, Path]) -> None:
    images = open_source(str(worlds["drone"]), cache=module).images
    shuffled = images.sample(frac=1, random_state=0).reset_index(drop=True)
    predicted = FunctionDetector("red:detect").predict(shuffled, SETTINGS, Store(module / "store"))
    pd.testing.assert_series_equal(predicted.images["image"], shuffled["image"], check_names=False)
