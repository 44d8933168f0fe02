"""OpenVINO in PyTorch's place: the same boxes and embeddings from every head, and PyTorch where the two
differ.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.test_architectures import NETWORKS, SIDE, lively, slow_unless_common
from train import forward, quick
from train.forward import Detector
from train.predictions import Settings, Store

# Left to PyTorch: one goes on from its best queries, two pass more than maps between their layers.
NOT_QUICK = ("yolov8n-rtdetr", "yolov8n-worldv2", "yoloe-11n")
# Untrained, yolov3-tiny is equally sure of everything, and the order of equals is nobody's.
COMPARED = [name for name in NETWORKS if name != "yolov3-tiny"]


def written_images(folder: Path, count: int) -> pd.DataFrame:
    """Images of three shapes in turn, and a broken one."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        shape = ((90, 128), (200, 140), (128, 128))[number % 3]
        pixels = cv2.GaussianBlur(rng.integers(0, 256, (*shape, 3), np.uint8), (0, 0), 3)
        path = folder / f"{number:02d}.png"
        cv2.imwrite(str(path), cv2.normalize(pixels, pixels, 0, 255, cv2.NORM_MINMAX))
        rows.append((path.name, str(path)))
    (folder / "broken.png").write_bytes((folder / "00.png").read_bytes()[:500])
    rows.insert(count // 2, ("broken.png", str(folder / "broken.png")))
    return pd.DataFrame(rows, columns=["image", "path"])


@pytest.fixture
def two_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO, two images at a time, whatever this machine has."""
    monkeypatch.delenv(quick.SWITCH)
    monkeypatch.setattr(forward, "network_threads", lambda: 2)


def predicted(detector: Detector, images: pd.DataFrame, folder: Path):
    return detector.predict(images, Settings(SIDE), Store(folder))


@pytest.mark.parametrize("name", slow_unless_common(COMPARED, {"yolo26n"}))
def test_each_head_gives_the_same_as_with_pytorch(
    name: str, tmp_path: Path, two_lanes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = lively(name, tmp_path / "net.pt")
    images = written_images(tmp_path, 6)
    detector = Detector(weights, device="cpu")
    ours = predicted(detector, images, tmp_path / "quick")
    assert detector.backend == ("PyTorch" if name in NOT_QUICK else "OpenVINO")
    assert len(detector._lanes) == (0 if name in NOT_QUICK else 2)
    assert not any(lane._failed for lane in detector._lanes)
    monkeypatch.setenv(quick.SWITCH, "torch")
    plain = Detector(weights, device="cpu")
    theirs = predicted(plain, images, tmp_path / "plain")
    assert plain.backend == "PyTorch"
    assert ours.failures["path"].tolist() == [str(tmp_path / "broken.png")]
    assert ours.images["image"].tolist() == theirs.images["image"].tolist()
    assert len(theirs.detections) > 50
    assert ours.detections[["image", "label"]].equals(theirs.detections[["image", "label"]])
    columns = ["x1", "y1", "x2", "y2", "confidence"]
    np.testing.assert_allclose(
        ours.detections[columns].to_numpy(), theirs.detections[columns].to_numpy(), atol=2e-3
    )
    np.testing.assert_allclose(ours.image_embeddings, theirs.image_embeddings, atol=1e-3)
    # Stored in half precision.
    same = (ours.detection_embeddings.place >= 0) & (theirs.detection_embeddings.place >= 0)
    kept = np.flatnonzero(same)
    assert len(kept)
    np.testing.assert_allclose(
        ours.detection_embeddings[kept], theirs.detection_embeddings[kept], atol=2e-3, rtol=2e-3
    )


def test_pytorch_takes_over_where_values_differ(
    weights: Path, tmp_path: Path, two_lanes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = written_images(tmp_path, 6)
    compiled: list[quick.QuickNetwork] = []
    compile_it = quick.QuickNetwork._compile

    def wrong(self: quick.QuickNetwork, pixels: object) -> None:
        compile_it(self, pixels)
        compiled.append(self)
        infer = self._request

        class Half:
            """Outputs in half precision, as OpenVINO chooses on some CPUs."""

            def infer(self, inputs: list[np.ndarray]) -> dict[int, np.ndarray]:
                return {i: v * 1.05 + 0.05 for i, v in enumerate(infer.infer(inputs).values())}

        self._request = Half()

    monkeypatch.setattr(quick.QuickNetwork, "_compile", wrong)
    detector = Detector(weights, device="cpu")
    ours = predicted(detector, images, tmp_path / "quick")
    assert compiled
    assert detector.backend.startswith("PyTorch (OpenVINO's values differ from PyTorch's by 0")
    monkeypatch.setenv(quick.SWITCH, "torch")
    theirs = predicted(Detector(weights, device="cpu"), images, tmp_path / "plain")
    pd.testing.assert_frame_equal(ours.detections, theirs.detections)


def test_pytorch_takes_over_where_openvino_fails(
    weights: Path, tmp_path: Path, two_lanes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: quick.QuickNetwork, pixels: object) -> None:
        raise RuntimeError("no such operation\nand a long trace")

    monkeypatch.setattr(quick.QuickNetwork, "_compile", refuse)
    detector = Detector(weights, device="cpu")
    ours = predicted(detector, written_images(tmp_path, 4), tmp_path / "quick")
    assert len(ours.images) == 4
    assert detector.backend == "PyTorch (OpenVINO cannot run this network (no such operation))"


def test_without_openvino_nothing_is_said(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(quick.SWITCH)
    monkeypatch.setitem(sys.modules, "openvino", None)
    detector = Detector(weights, device="cpu")
    detector.predict_pixels([np.zeros((64, 64, 3), np.uint8)], Settings(SIDE))
    assert detector._quick is None
    assert detector.backend == "PyTorch"


def test_stored_results_open_nothing(weights: Path, tmp_path: Path, two_lanes: None) -> None:
    images = written_images(tmp_path, 5)
    first, second = Detector(weights, device="cpu"), Detector(weights, device="cpu")
    predicted(first, images, tmp_path / "store")
    again = predicted(second, images, tmp_path / "store")
    assert len(again.images) == 5
    assert (second._lanes, second.backend) == ([], "stored")


@pytest.mark.slow
def test_where_a_run_was_interrupted_makes_no_difference(
    weights: Path, tmp_path: Path, two_lanes: None
) -> None:
    images = written_images(tmp_path, 9)
    whole = predicted(Detector(weights, device="cpu"), images, tmp_path / "whole")
    predicted(Detector(weights, device="cpu"), images.iloc[:4], tmp_path / "parts")
    parts = predicted(Detector(weights, device="cpu"), images, tmp_path / "parts")
    pd.testing.assert_frame_equal(parts.detections, whole.detections, check_exact=True)
    assert (parts.image_embeddings == whole.image_embeddings).all()
    kept = np.flatnonzero(whole.detection_embeddings.place >= 0)
    assert (np.flatnonzero(parts.detection_embeddings.place >= 0) == kept).all()
    assert (parts.detection_embeddings[kept] == whole.detection_embeddings[kept]).all()


def test_an_error_in_a_lane_reaches_the_caller(
    weights: Path, tmp_path: Path, two_lanes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Detector(weights, device="cpu")
    calls: list[int] = []
    pass_on = Detector.predict_pixels

    def stop(self: Detector, images: list[np.ndarray], settings: Settings):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return pass_on(self, images, settings)

    monkeypatch.setattr(Detector, "predict_pixels", stop)
    with pytest.raises(KeyboardInterrupt):
        predicted(detector, written_images(tmp_path, 30), tmp_path / "store")
    # What was asked for ahead is dropped, and no thread goes on through the other images.
    assert len(calls) < 12
