"""One forward pass gives the results of `predict` and `embed`, and the store returns them without another."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from ultralytics import YOLO

from datasets.classes import check_classes
from datasets.errors import InputError
from datasets.pixels import decode, descriptor
from datasets.source import open_source
from datasets.world import DASHCAM, Plan, build_world
from train import environment
from train.forward import Detector
from train.passes import available_cores, describe
from train.predictions import EMBEDDED, ImagePrediction, Settings, Store
from train.run import file_sha256, open_run, open_weights
from train.transforms import Photometric

SETTINGS = Settings(imgsz=256)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("images") / "w"
    list(build_world(folder, Plan(DASHCAM, {"val": (3, 2)}, seed=3)))
    # Other shapes, which are letterboxed differently.
    tall = cv2.imread(str(next((folder / "images" / "val").glob("*0000.jpg"))))
    cv2.imwrite(str(folder / "images" / "val" / "tall_0000.png"), tall[:, 90:250])
    cv2.imwrite(str(folder / "images" / "val" / "wide_0000.png"), tall[60:180])
    return open_source(str(folder), cache=folder).images


@pytest.fixture(scope="module")
def predicted(weights: Path, images: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory):
    return Detector(weights).predict(images, SETTINGS, Store(tmp_path_factory.mktemp("store")))


def test_boxes_equal_those_of_predict(weights: Path, images: pd.DataFrame, predicted) -> None:
    model = YOLO(str(weights))
    total = 0
    for image, path in zip(images["image"], images["path"], strict=True):
        expected = model.predict(path, imgsz=256, conf=0.001, iou=0.7, max_det=300, verbose=False)[
            0
        ].boxes.data.numpy()
        ours = predicted.detections[predicted.detections["image"] == image]
        np.testing.assert_allclose(
            ours[["x1", "y1", "x2", "y2", "confidence", "label"]].to_numpy(), expected, atol=1e-3
        )
        total += len(expected)
    assert total > 100


@pytest.mark.slow
def test_who_asks_for_no_number_of_threads_has_one_a_core() -> None:
    """Ultralytics sets OMP_NUM_THREADS=1 while it is imported: that is nobody's wish."""
    script = "import train.forward, train.passes as p; print(p.network_threads() == p.available_cores())"
    clean = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    for stated, expected in (({}, "True"), ({"OMP_NUM_THREADS": "1"}, str(available_cores() == 1))):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=Path(__file__).parents[1],
            env=clean | stated,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [expected]


@pytest.mark.parametrize(("stated", "threads"), [("1", 1), ("many", None), (None, None)])
def test_the_network_has_the_threads_that_were_asked_for(
    weights: Path, images: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stated, threads
) -> None:
    """Ultralytics sets its own number while it loads."""
    monkeypatch.setattr(environment, "STATED_THREADS", stated)
    before = torch.get_num_threads()
    try:
        Detector(weights).predict(images.head(1), SETTINGS, Store(tmp_path))
        assert torch.get_num_threads() == (threads or available_cores())
    finally:
        torch.set_num_threads(before)


def test_image_embeddings_equal_those_of_embed(weights: Path, images: pd.DataFrame, predicted) -> None:
    model = YOLO(str(weights))
    for row, path in enumerate(images["path"]):
        expected = model.embed(path, imgsz=256, verbose=False)[0].numpy()
        ours = predicted.image_embeddings[row]
        assert expected @ ours / np.linalg.norm(expected) / np.linalg.norm(ours) > 0.9999


def test_a_detection_embedding_comes_from_its_box(weights: Path, predicted) -> None:
    """On feature maps that hold their own coordinates, the mean over a box is the centre of the box."""
    assert len(predicted.detection_embeddings) == len(predicted.detections)
    assert np.isfinite(predicted.detection_embeddings.values).all()
    detector = Detector(weights)
    detector._prepare(SETTINGS)
    # An image of 400 x 200 becomes 256 x 128, which is 32 x 16 cells at stride 8 and 16 x 8 at stride 16.
    for columns, rows in ((32, 16), (16, 8)):
        y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
        detector._maps.append(torch.stack([x * 400 / columns, y * 200 / rows])[None].float())
    boxes = np.array([[100, 50, 180, 90, 0.9, 0], [300, 100, 380, 190, 0.8, 0]], np.float32)
    embeddings = detector._detection_embeddings(boxes, 0, (200, 400))
    centres = (boxes[:, :2] + boxes[:, 2:4]) / 2
    np.testing.assert_allclose(embeddings, np.hstack([centres, centres]), atol=0.5)


@pytest.mark.slow
def test_each_image_takes_one_forward_call_and_none_the_second_time(
    weights: Path, images: pd.DataFrame, tmp_path: Path
) -> None:
    detector = Detector(weights)
    calls = []
    detector._prepare(SETTINGS)
    detector.model.predictor.model.model.model[0].register_forward_hook(lambda *_: calls.append(1))
    first = detector.predict(images, SETTINGS, Store(tmp_path))
    assert len(calls) == len(images)
    again = detector.predict(images, SETTINGS, Store(tmp_path))
    assert len(calls) == len(images)
    pd.testing.assert_frame_equal(first.detections, again.detections)
    np.testing.assert_array_equal(first.image_embeddings, again.image_embeddings)


@pytest.mark.slow
def test_a_batch_gives_the_results_of_single_images(
    weights: Path, images: pd.DataFrame, predicted, tmp_path: Path
) -> None:
    batched = Detector(weights, batch=4).predict(images, SETTINGS, Store(tmp_path))
    assert len(batched.detections) == len(predicted.detections)
    np.testing.assert_allclose(batched.image_embeddings, predicted.image_embeddings, atol=1e-4)


def test_an_interrupted_prediction_continues(
    weights: Path, images: pd.DataFrame, predicted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.passes.SHARD", 2)

    def stop() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    left = 5
    with pytest.raises(KeyboardInterrupt):
        Detector(weights).predict(images, SETTINGS, Store(tmp_path), tick=stop)
    assert len(list(tmp_path.glob("shard-*"))) == 2
    # The draft of a process that was killed is not read.
    (tmp_path / "shard-zzz.partial").mkdir()
    resumed = Detector(weights).predict(images, SETTINGS, Store(tmp_path))
    pd.testing.assert_frame_equal(resumed.detections, predicted.detections)
    np.testing.assert_array_equal(resumed.image_embeddings, predicted.image_embeddings)


def test_image_order_is_kept_and_equal_files_are_predicted_once(
    weights: Path, images: pd.DataFrame, predicted, tmp_path: Path
) -> None:
    doubled = pd.concat([images.iloc[::-1], images.head(1).assign(image="copy")], ignore_index=True)
    result = Detector(weights).predict(doubled, SETTINGS, Store(tmp_path))
    assert result.images["image"].tolist() == doubled["image"].tolist()
    np.testing.assert_array_equal(result.image_embeddings[-1], result.image_embeddings[-2])
    first = images["image"].iloc[0]
    counts = result.detections["image"].value_counts()
    assert counts["copy"] == counts[first]
    for image in images["image"]:
        np.testing.assert_array_equal(
            result.detections.loc[result.detections["image"] == image, "confidence"].to_numpy(),
            predicted.detections.loc[predicted.detections["image"] == image, "confidence"].to_numpy(),
        )


def test_other_settings_give_another_key(weights: Path) -> None:
    sha = file_sha256(weights)
    tone = Photometric((100.0, 100.0, 100.0), (40.0, 40.0, 40.0))
    keys = {
        Settings(256).key(sha),
        Settings(512).key(sha),
        Settings(256, transform=tone.name).key(sha),
        Settings(256).key("0" * 64),
    }
    assert len(keys) == 4


@pytest.mark.slow
def test_a_broken_image_is_reported_as_a_failure(weights: Path, images: pd.DataFrame, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(images["path"].iloc[0]).read_bytes()[:3000])
    table = pd.concat([images, images.head(1).assign(image="broken", path=str(broken))], ignore_index=True)
    result = Detector(weights).predict(table, SETTINGS, Store(tmp_path / "s"))
    assert result.failures[["path", "reason"]].to_numpy().tolist() == [[str(broken), "cut short"]]
    assert "broken" not in set(result.images["image"])
    assert len(result.images) == len(images)


def test_a_photometric_match_sets_mean_and_spread(images: pd.DataFrame) -> None:
    pixels = cv2.imread(images["path"].iloc[0])
    matched = Photometric((90.0, 100.0, 110.0), (30.0, 30.0, 30.0))(pixels)
    np.testing.assert_allclose(matched.mean((0, 1)), [90, 100, 110], atol=4)
    np.testing.assert_allclose(matched.std((0, 1)), [30, 30, 30], atol=4)


def test_without_a_detector_images_are_still_described(images: pd.DataFrame, tmp_path: Path) -> None:
    result = describe(images, Store(tmp_path))
    assert len(result.images) == len(images)
    assert result.detections.empty
    assert result.images["brightness"].between(0, 1).all()


def test_the_descriptor_responds_to_light_and_direction(images: pd.DataFrame, tmp_path: Path) -> None:
    result = describe(images.head(1), Store(tmp_path))
    pixels = cv2.imread(images["path"].iloc[0])
    own = descriptor(decode(Path(images["path"].iloc[0])))
    assert own.shape == (84,)
    np.testing.assert_array_equal(result.images["descriptor"].iloc[0], own)
    # Half the light halves the lightness, a third of the 48 colour entries; edges keep their shares.
    darker = descriptor(pixels // 2)
    assert (darker[:48:3] < 0.7 * own[:48:3]).all()
    np.testing.assert_allclose(darker[48:], own[48:], atol=0.25)
    # Mirroring swaps left and right quarters and turns every direction about.
    mirrored = descriptor(np.ascontiguousarray(pixels[:, ::-1]))
    quarters, others = own[48:].reshape(4, 9), mirrored[48:].reshape(4, 9)
    np.testing.assert_allclose(others[[1, 0, 3, 2], ::-1], quarters, atol=0.35)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "best.pt").write_bytes(content)
    with pytest.raises(InputError, match="not a usable checkpoint"):
        Detector(tmp_path / "best.pt")


def test_a_checkpoint_with_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    import pickle

    marker = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    torch.save({"model": Bomb()}, tmp_path / "best.pt", pickle_module=pickle)
    with pytest.raises(InputError, match="holds more than known layers and weights, and could run code"):
        Detector(tmp_path / "best.pt")
    assert not marker.exists()


def test_class_names_must_match() -> None:
    check_classes(("pothole",), ("pothole",), "x")
    check_classes(("pothole",), (), "x")
    with pytest.raises(InputError, match=r"model has \{0: pothole\}, source has \{0: hole\}"):
        check_classes(("pothole",), ("hole",), "x")


def test_a_run_folder_is_read_and_its_problems_are_reported(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        open_run(tmp_path / "nowhere")
    (tmp_path / "run" / "weights").mkdir(parents=True)
    with pytest.raises(InputError, match=r"has no weights/best\.pt"):
        open_run(tmp_path / "run")
    (tmp_path / "run" / "weights" / "best.pt").write_bytes(weights.read_bytes())
    (tmp_path / "run" / "args.yaml").write_text("imgsz: 256\ndata: data.yaml\n")
    # Padded names, a repeated epoch, and a last line that a kill cut short.
    (tmp_path / "run" / "results.csv").write_text("  epoch , metrics/mAP50(B)\n1,0.1\n2,0.2\n2,0.3\n3,")
    run = open_run(tmp_path / "run")
    assert run.history.to_dict("list") == {"epoch": [1, 2], "ap50": [0.1, 0.3]}
    assert run.imgsz == 256
    with pytest.raises(InputError, match=r"data\.yaml is not found; tried"):
        run.data_source()
    with pytest.raises(InputError, match="no such checkpoint"):
        open_weights(tmp_path / "x.pt", None)


def test_two_racing_runs_do_not_duplicate_boxes(
    weights: Path, images: pd.DataFrame, predicted, tmp_path: Path
) -> None:
    """Both started before the other wrote a shard, and both stored the first image."""
    detector = Detector(weights)
    first, second = Store(tmp_path), Store(tmp_path)
    detector.predict(images.head(2), SETTINGS, first)
    detector.predict(images.head(3), SETTINGS, second)
    result = detector.predict(images, SETTINGS, Store(tmp_path))
    pd.testing.assert_frame_equal(result.detections, predicted.detections)
    np.testing.assert_array_equal(result.image_embeddings, predicted.image_embeddings)


def test_reading_nothing_gives_empty_tables(tmp_path: Path) -> None:
    result = Store(tmp_path).read({})
    assert result.images.empty
    assert result.detections.empty


def test_detection_embeddings_can_be_left_unread(
    weights: Path, images: pd.DataFrame, predicted, tmp_path: Path
) -> None:
    result = Detector(weights).predict(images, SETTINGS, Store(tmp_path), embed_detections=False)
    pd.testing.assert_frame_equal(result.detections, predicted.detections)
    np.testing.assert_array_equal(result.image_embeddings, predicted.image_embeddings)
    assert result.detection_embeddings.shape == (len(predicted.detections), 0)


@pytest.mark.parametrize("earlier", ["all", "kept"])
def test_embeddings_of_unsure_detections_are_not_kept_and_earlier_shards_are_read(
    earlier: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)

    def prediction(content: str, confidences: list[float]) -> ImagePrediction:
        boxes = rng.random((len(confidences), 6), np.float32)
        boxes[:, 4] = confidences
        vectors = rng.random((len(confidences), 3), np.float32)
        return ImagePrediction(
            content, {"grey": 1.0}, np.zeros(84, np.float32), b"", np.ones(2, np.float32), boxes, vectors
        )

    first, second = prediction("a", [0.9, 0.002, 0.5]), prediction("b", [0.001, 0.3])
    store = Store(tmp_path)
    store.add([first])
    store.add([second])
    # As shards were written before: as lists of numbers, and before that with the embeddings of all boxes.
    shard = next(tmp_path.glob("shard-*/detections.parquet"))
    table = pq.read_table(shard)
    written = first if len(table) == 3 else second
    every = pa.FixedSizeListArray.from_arrays(
        pa.array(written.detection_embeddings.ravel().astype(np.float16), pa.float16()),
        3,
        mask=pa.array(written.boxes[:, 4] < EMBEDDED) if earlier == "kept" else None,
    )
    pq.write_table(table.set_column(table.column_names.index("embedding"), "embedding", every), shard)

    read = store.read({"second": "b", "first": "a"})
    embeddings = read.detection_embeddings
    assert embeddings.shape == (5, 3)
    assert read.detections["image"].tolist() == ["second"] * 2 + ["first"] * 3
    expected = np.concatenate([second.detection_embeddings[1:], first.detection_embeddings[[0, 2]]])
    np.testing.assert_allclose(embeddings[np.array([1, 2, 4])], expected, atol=1e-3)
    sure = (read.detections["confidence"] >= 0.4).to_numpy()
    np.testing.assert_allclose(embeddings[sure][np.array([0, 1])], expected[1:], atol=1e-3)
    with pytest.raises(ValueError, match="not kept"):
        embeddings[np.array([0, 1])]
    with pytest.raises(TypeError):
        np.asarray(embeddings)


def test_detections_of_other_classes_are_left_out(weights: Path) -> None:
    detector = Detector(weights)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    settings = replace(SETTINGS, imgsz=64, conf=0.0001)
    ((boxes, *_),) = detector.predict_pixels([pixels], settings)
    assert len(boxes)
    kept = int(boxes[0, 5])
    ((some, *_),) = detector.predict_pixels([pixels], replace(settings, classes=(kept,)))
    assert set(some[:, 5].astype(int)) == {kept}
    ((none, *_),) = detector.predict_pixels([pixels], replace(settings, classes=(99,)))
    assert len(none) == 0
    # The setting of one call does not stay for the next.
    ((again, *_),) = detector.predict_pixels([pixels], settings)
    np.testing.assert_allclose(again, boxes)


@pytest.mark.parametrize("name", ["yolov5s.pt", "yolov3-tiny.pt", "it's mine.pt"])
def test_a_local_file_is_loaded_whatever_its_name(weights: Path, tmp_path: Path, name: str) -> None:
    # Ultralytics would download yolov5su.pt in place of yolov5s.pt, and look for "its mine.pt".
    (tmp_path / name).write_bytes(weights.read_bytes())
    assert Detector(tmp_path / name).classes == Detector(weights).classes


def test_a_checkpoint_of_the_yolov5_repository_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, module = types.ModuleType("models"), types.ModuleType("models.yolo")
    monkeypatch.setitem(sys.modules, "models", package)
    monkeypatch.setitem(sys.modules, "models.yolo", module)
    kind = type("DetectionModel", (torch.nn.Module,), {"__module__": "models.yolo"})
    module.DetectionModel = kind  # type: ignore[attr-defined]
    torch.save({"epoch": -1, "model": kind(), "ema": None}, tmp_path / "best.pt")
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"YOLOv5 or YOLOv7 repository.*--predictions"):
        Detector(tmp_path / "best.pt")
