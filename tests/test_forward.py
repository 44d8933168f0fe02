"""One forward pass gives what predict and embed give in two, once an image, and the store gives it back without another."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from ultralytics import YOLO

from datasets.classes import check_classes
from datasets.errors import InputError
from datasets.pixels import decode, descriptor
from datasets.source import open_source
from datasets.world import DASHCAM, Plan, build_world
from train.forward import Detector
from train.passes import describe
from train.predictions import Settings, Store
from train.run import file_sha256, open_run, open_weights
from train.transforms import Photometric

SETTINGS = Settings(imgsz=256)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("images") / "w"
    list(build_world(folder, Plan(DASHCAM, {"val": (3, 2)}, seed=3)))
    # Other shapes, so that letterboxing has something to do.
    tall = cv2.imread(str(next((folder / "images" / "val").glob("*0000.jpg"))))
    cv2.imwrite(str(folder / "images" / "val" / "tall_0000.png"), tall[:, 90:250])
    cv2.imwrite(str(folder / "images" / "val" / "wide_0000.png"), tall[60:180])
    return open_source(str(folder), cache=folder).images


@pytest.fixture(scope="module")
def seen(weights: Path, images: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory):
    return Detector(weights).predict(images, SETTINGS, Store(tmp_path_factory.mktemp("store")))


def test_boxes_are_those_of_predict(weights: Path, images: pd.DataFrame, seen) -> None:
    model = YOLO(str(weights))
    total = 0
    for image, path in zip(images["image"], images["path"], strict=True):
        expected = model.predict(path, imgsz=256, conf=0.001, iou=0.7, max_det=300, verbose=False)[
            0
        ].boxes.data.numpy()
        mine = seen.detections[seen.detections["image"] == image]
        np.testing.assert_allclose(
            mine[["x1", "y1", "x2", "y2", "confidence", "label"]].to_numpy(), expected, atol=1e-3
        )
        total += len(expected)
    assert total > 100


def test_image_embeddings_are_those_of_embed(weights: Path, images: pd.DataFrame, seen) -> None:
    model = YOLO(str(weights))
    for row, path in enumerate(images["path"]):
        expected = model.embed(path, imgsz=256, verbose=False)[0].numpy()
        mine = seen.image_embeddings[row]
        assert expected @ mine / np.linalg.norm(expected) / np.linalg.norm(mine) > 0.9999


def test_every_box_has_an_embedding_of_its_own_place(weights: Path, seen) -> None:
    """On maps that hold their own coordinates, a box's mean must be its centre, letterboxing undone."""
    assert len(seen.detection_embeddings) == len(seen.detections)
    assert np.isfinite(seen.detection_embeddings).all()
    detector = Detector(weights)
    detector._prepare(SETTINGS)
    # An image 400 wide and 200 high becomes 256 by 128: strides 8 and 16 see it as 32 by 16 and 16 by 8 cells.
    for columns, rows in ((32, 16), (16, 8)):
        y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
        detector._maps.append(torch.stack([x * 400 / columns, y * 200 / rows])[None].float())
    boxes = np.array([[100, 50, 180, 90, 0.9, 0], [300, 100, 380, 190, 0.8, 0]], np.float32)
    found = detector._detection_embeddings(boxes, 0, (200, 400))
    centres = (boxes[:, :2] + boxes[:, 2:4]) / 2
    np.testing.assert_allclose(found, np.hstack([centres, centres]), atol=0.5)


def test_one_forward_call_a_image_and_none_the_second_time(
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


def test_a_batch_sees_what_single_images_see(
    weights: Path, images: pd.DataFrame, seen, tmp_path: Path
) -> None:
    batched = Detector(weights, batch=4).predict(images, SETTINGS, Store(tmp_path))
    assert len(batched.detections) == len(seen.detections)
    np.testing.assert_allclose(batched.image_embeddings, seen.image_embeddings, atol=1e-4)


def test_an_interrupted_pass_goes_on_where_it_stopped(
    weights: Path, images: pd.DataFrame, seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    # What a kill during a write leaves behind is not read.
    (tmp_path / "shard-zzz.partial").mkdir()
    resumed = Detector(weights).predict(images, SETTINGS, Store(tmp_path))
    pd.testing.assert_frame_equal(resumed.detections, seen.detections)
    np.testing.assert_array_equal(resumed.image_embeddings, seen.image_embeddings)


def test_order_of_images_is_kept_and_copies_share_a_pass(
    weights: Path, images: pd.DataFrame, seen, tmp_path: Path
) -> None:
    doubled = pd.concat([images.iloc[::-1], images.head(1).assign(image="copy")], ignore_index=True)
    found = Detector(weights).predict(doubled, SETTINGS, Store(tmp_path))
    assert found.images["image"].tolist() == doubled["image"].tolist()
    np.testing.assert_array_equal(found.image_embeddings[-1], found.image_embeddings[-2])
    first = images["image"].iloc[0]
    counts = found.detections["image"].value_counts()
    assert counts["copy"] == counts[first]
    for image in images["image"]:
        np.testing.assert_array_equal(
            found.detections.loc[found.detections["image"] == image, "confidence"].to_numpy(),
            seen.detections.loc[seen.detections["image"] == image, "confidence"].to_numpy(),
        )


def test_other_settings_are_another_key(weights: Path) -> None:
    sha = file_sha256(weights)
    tone = Photometric((100.0, 100.0, 100.0), (40.0, 40.0, 40.0))
    keys = {
        Settings(256).key(sha),
        Settings(512).key(sha),
        Settings(256, transform=tone.name).key(sha),
        Settings(256).key("0" * 64),
    }
    assert len(keys) == 4


def test_a_broken_image_is_a_failure_and_no_row(weights: Path, images: pd.DataFrame, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(images["path"].iloc[0]).read_bytes()[:3000])
    table = pd.concat([images, images.head(1).assign(image="broken", path=str(broken))], ignore_index=True)
    found = Detector(weights).predict(table, SETTINGS, Store(tmp_path / "s"))
    assert found.failures[["path", "reason"]].to_numpy().tolist() == [[str(broken), "cut short"]]
    assert "broken" not in set(found.images["image"])
    assert len(found.images) == len(images)


def test_photometric_match_moves_colours_only(images: pd.DataFrame) -> None:
    pixels = cv2.imread(images["path"].iloc[0])
    matched = Photometric((90.0, 100.0, 110.0), (30.0, 30.0, 30.0))(pixels)
    np.testing.assert_allclose(matched.mean((0, 1)), [90, 100, 110], atol=4)
    np.testing.assert_allclose(matched.std((0, 1)), [30, 30, 30], atol=4)


def test_without_a_detector_images_are_still_described(images: pd.DataFrame, tmp_path: Path) -> None:
    found = describe(images, Store(tmp_path))
    assert len(found.images) == len(images)
    assert found.detections.empty
    assert found.images["brightness"].between(0, 1).all()


def test_the_descriptor_sees_light_and_direction(images: pd.DataFrame, tmp_path: Path) -> None:
    found = describe(images.head(1), Store(tmp_path))
    pixels = cv2.imread(images["path"].iloc[0])
    own = descriptor(decode(Path(images["path"].iloc[0])))
    assert own.shape == (84,)
    np.testing.assert_array_equal(found.images["descriptor"].iloc[0], own)
    # Half the light halves the lightness, a third of the 48 colour entries; edges keep their shares.
    darker = descriptor(pixels // 2)
    assert (darker[:48:3] < 0.7 * own[:48:3]).all()
    np.testing.assert_allclose(darker[48:], own[48:], atol=0.25)
    # Mirroring swaps left and right quarters and turns every direction about.
    mirrored = descriptor(np.ascontiguousarray(pixels[:, ::-1]))
    quarters, others = own[48:].reshape(4, 9), mirrored[48:].reshape(4, 9)
    np.testing.assert_allclose(others[[1, 0, 3, 2], ::-1], quarters, atol=0.35)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken"])
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "best.pt").write_bytes(content)
    with pytest.raises(InputError, match="not a usable checkpoint"):
        Detector(tmp_path / "best.pt")


def test_a_checkpoint_that_runs_code_does_not(tmp_path: Path) -> None:
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


def test_run_folders(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(InputError, match="no such run folder"):
        open_run(tmp_path / "nowhere")
    (tmp_path / "run" / "weights").mkdir(parents=True)
    with pytest.raises(InputError, match=r"has no weights/best\.pt"):
        open_run(tmp_path / "run")
    (tmp_path / "run" / "weights" / "best.pt").write_bytes(weights.read_bytes())
    (tmp_path / "run" / "args.yaml").write_text("imgsz: 256\ndata: data.yaml\n")
    # Padded names, a repeated epoch, and a last line cut short by a kill.
    (tmp_path / "run" / "results.csv").write_text("  epoch , metrics/mAP50(B)\n1,0.1\n2,0.2\n2,0.3\n3,")
    run = open_run(tmp_path / "run")
    assert run.history.to_dict("list") == {"epoch": [1, 2], "ap50": [0.1, 0.3]}
    assert run.imgsz == 256
    with pytest.raises(InputError, match=r"data\.yaml is not found; tried"):
        run.data_source()
    with pytest.raises(InputError, match="no such checkpoint"):
        open_weights(tmp_path / "x.pt", None)


def test_two_racing_runs_do_not_double_the_boxes(
    weights: Path, images: pd.DataFrame, seen, tmp_path: Path
) -> None:
    """Each had not seen the other's shards when it began, and both stored the first image."""
    detector = Detector(weights)
    first, second = Store(tmp_path), Store(tmp_path)
    detector.predict(images.head(2), SETTINGS, first)
    detector.predict(images.head(3), SETTINGS, second)
    found = detector.predict(images, SETTINGS, Store(tmp_path))
    pd.testing.assert_frame_equal(found.detections, seen.detections)
    np.testing.assert_array_equal(found.image_embeddings, seen.image_embeddings)


def test_reading_nothing_gives_empty_tables(tmp_path: Path) -> None:
    found = Store(tmp_path).read({})
    assert found.images.empty
    assert found.detections.empty


def test_everything_but_the_embeddings_of_boxes_can_be_read_alone(
    weights: Path, images: pd.DataFrame, seen, tmp_path: Path
) -> None:
    found = Detector(weights).predict(images, SETTINGS, Store(tmp_path), embed_detections=False)
    pd.testing.assert_frame_equal(found.detections, seen.detections)
    np.testing.assert_array_equal(found.image_embeddings, seen.image_embeddings)
    assert found.detection_embeddings.shape == (len(seen.detections), 0)
