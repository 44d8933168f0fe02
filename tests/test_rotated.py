"""Rotated boxes: geometry against OpenCV and Ultralytics, labels, predictions, and interventions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from ultralytics import YOLO
from ultralytics.utils.metrics import probiou as theirs
from ultralytics.utils.ops import xywhr2xyxyxyxy

from benchmarks.simulated import make_domain
from datasets.rotated import ROTATED, corners_of, extents_of, probiou, rotated_boxes, rotated_of
from datasets.source import open_source
from diagnostics.confusion import confusion
from diagnostics.counterfactuals import ap50, redraw
from diagnostics.domain import Domain
from reports.pipeline.inference import _say_upright
from reports.progress import Reporter
from tests.test_architectures import lively
from train.forward import Detector
from train.predictions import Settings, Store
from train.tiling import merge_boxes, place_boxes
from train.transforms import Corruption, Tile


def some_boxes(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.column_stack(
        [rng.uniform(50, 250, (count, 2)), rng.uniform(8, 80, (count, 2)), rng.uniform(-1.5, 1.5, count)]
    )


def test_overlap_and_corners_equal_ultralytics() -> None:
    first, second = some_boxes(300), some_boxes(300, 1)
    second[:150, :2] = first[:150, :2] + np.random.default_rng(2).normal(0, 8, (150, 2))
    expected = theirs(torch.tensor(first), torch.tensor(second)).numpy().reshape(-1)
    np.testing.assert_allclose(probiou(first, second), expected, atol=1e-6)
    assert probiou(first, first) == pytest.approx(1, abs=1e-3)
    points = xywhr2xyxyxyxy(torch.tensor(first)).numpy()
    for ours, other in zip(corners_of(first), points, strict=True):
        np.testing.assert_allclose(
            sorted(map(tuple, ours.round(6))), sorted(map(tuple, other.round(6))), atol=1e-5
        )


def test_overlap_is_near_the_share_of_areas() -> None:
    """OpenCV's polygons are the oracle: the order is the same, and equal boxes overlap by 1."""
    first = some_boxes(200)
    second = first + np.random.default_rng(3).normal(0, [4, 4, 3, 3, 0.1], first.shape)
    exact = []
    for a, b in zip(corners_of(first).astype(np.float32), corners_of(second).astype(np.float32), strict=True):
        shared = cv2.intersectConvexConvex(a, b)[0]
        exact.append(shared / (cv2.contourArea(a) + cv2.contourArea(b) - shared))
    assert np.corrcoef(probiou(first, second), exact)[0, 1] > 0.9


def test_a_rotated_box_survives_its_corners() -> None:
    boxes = some_boxes(100)
    again = rotated_of(corners_of(boxes))
    np.testing.assert_allclose(probiou(boxes, again), 1, atol=1e-3)
    np.testing.assert_allclose(extents_of(boxes), extents_of(again), atol=1e-3)


def write_labels(folder: Path, boxes: np.ndarray, side: int = 300) -> Path:
    for part in ("images", "labels"):
        (folder / part / "val").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "val" / "a.png"), np.full((side, side, 3), 90, np.uint8))
    rows = [" ".join(f"{value:.6f}" for value in points.ravel() / side) for points in corners_of(boxes)]
    (folder / "labels" / "val" / "a.txt").write_text("".join(f"0 {row}\n" for row in rows))
    (folder / "data.yaml").write_text(f"path: {folder}\nval: images/val\nnames: [ship]\n")
    return folder


def test_labels_of_four_corners_keep_their_angle(tmp_path: Path) -> None:
    boxes = some_boxes(6)
    source = open_source(str(write_labels(tmp_path / "obb", boxes)), cache=tmp_path)
    turned = rotated_boxes(source.annotations)
    assert turned is not None
    np.testing.assert_allclose(probiou(turned, boxes), 1, atol=2e-3)
    np.testing.assert_allclose(
        source.annotations[["x1", "y1", "x2", "y2"]], extents_of(boxes).clip(0, 300), atol=1e-2
    )


def rotated_domain(detected: np.ndarray, labelled: np.ndarray) -> Domain:
    """One image with these boxes, detections with falling confidence."""
    domain = make_domain(images=[([], [])], classes=("ship",))

    def table(boxes: np.ndarray) -> pd.DataFrame:
        frame = pd.DataFrame(extents_of(boxes), columns=["x1", "y1", "x2", "y2"])
        frame[ROTATED] = boxes
        return frame.assign(image=domain.images["image"].iloc[0], label=0)

    return replace(
        domain,
        annotations=table(labelled).assign(crowd=False),
        detections=table(detected).assign(confidence=np.linspace(0.9, 0.5, len(detected))),
        detection_embeddings=np.zeros((len(detected), 4)),
    )


def test_matching_goes_by_the_rotated_overlap() -> None:
    """Two bars that cross have one extent: upright they would match."""
    bar = np.array([[100.0, 100, 120, 10, np.pi / 4]])
    crossing = np.array([[100.0, 100, 120, 10, -np.pi / 4]])
    assert ap50(rotated_domain(bar, bar)) == 1
    assert ap50(rotated_domain(crossing, bar)) == 0
    upright = rotated_domain(crossing, bar)
    assert ap50(replace(upright, detections=upright.detections.drop(columns=ROTATED))) == 1
    assert set(rotated_domain(crossing, bar).outcomes["outcome"]) <= {"background", "location"}
    found = confusion(rotated_domain(crossing, bar), 0.3)
    assert set(zip(found["actual"], found["predicted"], strict=True)) == {
        ("ship", "background"),
        ("background", "ship"),
    }


def test_sizes_are_those_of_the_rotated_box() -> None:
    bar = np.array([[100.0, 100, 120, 10, np.pi / 4]])
    domain = rotated_domain(bar, bar)
    assert domain.annotation_arrays.area == pytest.approx([1200])
    assert domain.detection_arrays.area == pytest.approx([1200])


def test_a_rule_for_upright_boxes_is_not_fitted_to_rotated_ones() -> None:
    boxes = some_boxes(60)
    assert redraw(rotated_domain(boxes, boxes), seed=0) is None


def test_a_checkpoint_gives_the_rotated_boxes_of_predict(tmp_path: Path) -> None:
    weights = lively("yolo11n-obb", tmp_path / "net.pt")
    rng = np.random.default_rng(0)
    for name, shape in (("a", (90, 128)), ("b", (200, 140))):
        pixels = cv2.GaussianBlur(rng.integers(0, 256, (*shape, 3), np.uint8), (0, 0), 3)
        cv2.imwrite(str(tmp_path / f"{name}.png"), pixels)
    images = open_source(str(tmp_path / "a.png") + "," + str(tmp_path / "b.png"), cache=tmp_path / "c").images
    predicted = Detector(weights, device="cpu").predict(images, Settings(128), Store(tmp_path / "store"))
    model = YOLO(str(weights))
    total = 0
    for image, path in zip(images["image"], images["path"], strict=True):
        expected = model.predict(
            path, imgsz=128, conf=0.001, iou=0.7, max_det=300, device="cpu", verbose=False
        )[0]
        ours = predicted.detections[predicted.detections["image"] == image]
        rows = expected.obb.data.numpy()
        np.testing.assert_allclose(ours[[*ROTATED, "confidence", "label"]].to_numpy(), rows, atol=2e-3)
        np.testing.assert_allclose(ours[["x1", "y1", "x2", "y2"]], expected.obb.xyxy.numpy(), atol=0.05)
        total += len(rows)
    assert total > 20


def test_changes_of_the_image_move_rotated_boxes_there_and_back() -> None:
    boxes = some_boxes(20)
    images = pd.DataFrame({"image": ["a"], "width": [300], "height": [300]})
    table = pd.DataFrame(extents_of(boxes), columns=["x1", "y1", "x2", "y2"]).assign(image="a", crowd=False)
    table[ROTATED] = boxes
    shrink = Corruption("shrink", 1, matrix=lambda w, h: np.array([[0.5, 0, 20], [0, 0.5, 10], [0, 0, 1.0]]))
    moved = shrink.boxes(table, images)
    np.testing.assert_allclose(moved[["cx", "cy"]], boxes[:, :2] * 0.5 + [20, 10], atol=1e-3)
    back = rotated_boxes(shrink.undo(moved, images))
    assert back is not None
    np.testing.assert_allclose(probiou(back, boxes), 1, atol=2e-3)


def test_tiles_place_and_merge_rotated_boxes() -> None:
    bar = np.array([[60.0, 60, 80, 8, np.pi / 4]])
    crossing = np.array([[60.0, 60, 80, 8, -np.pi / 4]])
    rows = np.column_stack(
        [
            extents_of(np.vstack([bar, crossing, bar])),
            [0.9, 0.8, 0.7],
            np.zeros(3),
            np.vstack([bar, crossing, bar]),
        ]
    )
    # The second bar crosses the first, the third is it again.
    assert merge_boxes(rows, 10).tolist() == [0, 1]
    placed = place_boxes(rows[:1], Tile(1, 1), 300, 300)
    left, top, _, _ = Tile(1, 1).bounds(300, 300)
    np.testing.assert_allclose(placed[0, 6:8], [60 + left, 60 + top])


def test_tables_of_upright_and_rotated_boxes_mix() -> None:
    """Pandas hands out views that cannot be written to, of columns of one type that were read from a file."""
    table = pd.DataFrame(
        {"x1": [0.0, 10], "y1": [0.0, 20], "x2": [4.0, 30], "y2": [8.0, 40]}
        | {name: [np.nan, value] for name, value in zip(ROTATED, (20.0, 30, 25, 10, 0.3), strict=True)}
    )
    boxes = rotated_boxes(table[["x1", "y1", "x2", "y2", *ROTATED]])
    assert boxes is not None
    np.testing.assert_allclose(boxes, [[2, 4, 4, 8, 0], [20, 30, 25, 10, 0.3]])
    assert rotated_boxes(table.drop(columns=ROTATED)) is None


def test_corners_that_are_no_numbers_make_an_upright_box() -> None:
    corners = np.array(
        [
            [[0, 0], [4, 0], [4, 2], [0, 2]],
            [[0, 0], [np.nan, 0], [4, 2], [0, 2]],
            [[0, 0], [1e300, 0], [4, 2], [0, 2]],
        ]
    )
    found = rotated_of(corners)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1:]).all()


def test_upright_labels_under_rotated_boxes_are_said() -> None:
    bar = np.array([[100.0, 100, 120, 10, np.pi / 4]])
    domain = rotated_domain(bar, bar)
    said: list[str] = []

    class Listener(Reporter):
        def say(self, line: str) -> None:
            said.append(line)

    _say_upright(domain, Listener())
    assert not said
    _say_upright(replace(domain, annotations=domain.annotations.drop(columns=ROTATED)), Listener())
    assert len(said) == 1
    assert "in_domain: the detector gives rotated boxes and the labels are upright" in said[0]
