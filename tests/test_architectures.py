"""Heads of all kinds: boxes as Ultralytics predicts them, one forward pass an image, embeddings of image and
boxes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from ultralytics import YOLO

from datasets.errors import InputError
from datasets.source import open_source
from train.forward import Detector, EpochPredictor, load_checkpoint
from train.predictions import Settings, Store

SIDE = 128
# Detection without and with suppression, transformers, names as text, masks and key points.
NETWORKS = (
    "yolov3-tiny",
    "yolov5n",
    "yolov6n",
    "yolov8n",
    "yolov9t",
    "yolov10n",
    "yolo11n",
    "yolo12n",
    "yolo26n",
    "yolov8n-rtdetr",
    "yolov8n-worldv2",
    "yoloe-11n",
    "yolo11n-seg",
    "yolo26n-seg",
    "yolo11n-pose",
    "yolo26n-pose",
)
# What most people train, with and without suppression, masks and key points: the fast tests have these.
COMMON = {"yolo11n", "yolo26n", "yolo11n-seg", "yolo11n-pose"}


def slow_unless_common(names: Iterable[str], common: Collection[str] = frozenset(COMMON)) -> list[object]:
    """The names as parameters of a test, all but the common ones of them slow."""
    return [name if name in common else pytest.param(name, marks=pytest.mark.slow) for name in names]


def lively(name: str, path: Path) -> Path:
    """An untrained checkpoint whose boxes have varied confidences."""
    torch.manual_seed(0)
    model = YOLO(f"{name}.yaml", task="detect" if name.endswith("rtdetr") else None)
    head = model.model.model[-1]
    for part, branches in head.named_children():
        if part in ("cv3", "one2one_cv3"):
            for branch in branches:
                branch[-1].weight.data.normal_(0, 1.0)
                branch[-1].bias.data[:] = -4
        if part in ("dec_score_head", "enc_score_head"):
            for layer in branches if isinstance(branches, torch.nn.ModuleList) else [branches]:
                layer.weight.data.normal_(0, 0.3)
                layer.bias.data[:] = -2
        if part == "cv4" and hasattr(branches[0], "logit_scale"):
            for branch in branches:
                branch.logit_scale.data.fill_(0.0)
                branch.bias.data.fill_(-4)
    if "world" in name or "yoloe" in name:
        # In place of the embeddings of their names by CLIP, which would be downloaded.
        words = torch.nn.functional.normalize(torch.randn(1, len(model.names), 512), dim=-1)
        if "yoloe" in name:
            model.model.set_classes(list(model.names.values()), words)
        else:
            model.model.txt_feats = words
    model.save(str(path))
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    # A wide, a tall and a square one, smaller and larger than the input.
    for number, shape in enumerate(((90, 128), (200, 140), (128, 128))):
        pixels = cv2.GaussianBlur(rng.integers(0, 256, (*shape, 3), np.uint8), (0, 0), 3)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.normalize(pixels, pixels, 0, 255, cv2.NORM_MINMAX))
    return open_source(str(folder), cache=folder / "cache").images


@pytest.mark.parametrize("name", slow_unless_common(NETWORKS))
def test_each_head_gives_the_boxes_of_predict_in_one_pass(
    name: str, images: pd.DataFrame, tmp_path: Path
) -> None:
    weights = lively(name, tmp_path / "net.pt")
    detector = Detector(weights, device="cpu")
    passed: list[int] = []
    detector.model.model.register_forward_pre_hook(lambda module, inputs: passed.append(len(inputs[0])))
    predicted = detector.predict(images, Settings(SIDE), Store(tmp_path / "store"))
    assert sum(passed) == len(images)
    model = YOLO(str(weights))
    total = 0
    for image, path in zip(images["image"], images["path"], strict=True):
        theirs = model.predict(
            path, imgsz=SIDE, conf=0.001, iou=0.7, max_det=300, device="cpu", verbose=False
        )
        expected = theirs[0].boxes.data.numpy()
        ours = predicted.detections[predicted.detections["image"] == image]
        np.testing.assert_allclose(
            ours[["x1", "y1", "x2", "y2", "confidence", "label"]].to_numpy(), expected, atol=2e-3
        )
        total += len(expected)
    assert total > 50
    assert np.isfinite(predicted.image_embeddings).all()
    assert np.isfinite(predicted.detection_embeddings.values).all()
    assert len(predicted.detection_embeddings) == total
    assert predicted.detection_embeddings.values.astype(float).std(0).max() > 0


def test_an_embedding_comes_from_its_box_where_images_are_stretched(
    images: pd.DataFrame, tmp_path: Path
) -> None:
    """A change of the pixels in one corner changes the embeddings of boxes there more than of those
    elsewhere.
    """
    detector = Detector(lively("yolov8n-rtdetr", tmp_path / "net.pt"), device="cpu")
    pixels = np.full((300, 100, 3), 127, np.uint8)
    changed = pixels.copy()
    changed[250:, 70:] = 255
    settings = Settings(SIDE)
    detector.predict_pixels([pixels], settings)
    boxes = np.array([[70, 250, 100, 300, 0.5, 0], [0, 0, 30, 50, 0.5, 0]], np.float32)
    before = detector._detection_embeddings(boxes, 0, pixels.shape[:2])
    detector.predict_pixels([changed], settings)
    moved = np.abs(detector._detection_embeddings(boxes, 0, pixels.shape[:2]) - before)[:, :64].mean(1)
    assert moved[0] > 1.5 * moved[1]


def test_a_transformer_is_watched_as_it_is_predicted(images: pd.DataFrame, tmp_path: Path) -> None:
    """Its images are stretched and its boxes are fractions, which suppression of boxes would take
    for pixels.
    """
    weights = lively("yolov8n-rtdetr", tmp_path / "net.pt")
    predicted = Detector(weights, device="cpu").predict(images, Settings(SIDE), Store(tmp_path / "store"))
    network = load_checkpoint(weights, "").model.float().eval()
    watched, _ = EpochPredictor(images["path"].tolist(), SIDE, stretched=True).predict(
        network, Settings(SIDE)
    )
    for image, boxes in zip(images["image"], watched, strict=True):
        ours = predicted.detections[predicted.detections["image"] == image]
        columns = ours[["x1", "y1", "x2", "y2", "confidence", "label"]].to_numpy()
        assert len(boxes) > 10
        clipped = boxes[:, :4].max(0)
        assert (
            clipped <= [*images.loc[images["image"] == image, ["width", "height"]].to_numpy()[0]] * 2
        ).all()
        np.testing.assert_allclose(np.sort(boxes[:, 4]), np.sort(columns[:, 4]), atol=2e-3)


def test_a_classifier_is_refused_in_one_line(tmp_path: Path) -> None:
    YOLO("yolo11n-cls.yaml").save(str(tmp_path / "cls.pt"))
    with pytest.raises(InputError, match=r"cls\.pt: is a 'classify' model, .* train a detection model"):
        Detector(tmp_path / "cls.pt")
