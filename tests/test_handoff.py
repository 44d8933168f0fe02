"""Exported labels agree in every format: read by Shiftscope, by pycocotools and by FiftyOne's CVAT reader."""

from __future__ import annotations

import contextlib
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from pycocotools.coco import COCO

from benchmarks.simulated import make_domain
from datasets.source import open_source
from diagnostics.domain import Domain
from reports.export.handoff import write_handoff
from train.environment import frames_folder

CLASSES = ('pot"hole', "<crack & more>")


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    unlabelled = make_domain(
        "real_world", role="real_world", clips=4, frames=3, seed=3, classes=CLASSES, labelled=False
    )
    paths = []
    for number, image in enumerate(unlabelled.images["image"]):
        path = tmp_path / "original" / f"{image} ü.jpg"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((480, 640, 3), 10 * number, np.uint8))
        paths.append(str(path))
    unlabelled.images["path"] = paths
    unlabelled.images[["width", "height"]] = 640, 480
    unlabelled.detections["label"] = np.arange(len(unlabelled.detections)) % 2
    return unlabelled


def chosen(domain: Domain, count: int) -> pd.DataFrame:
    return (
        domain.images[["image", "path"]]
        .head(count)
        .assign(rank=range(1, count + 1), domain=domain.name, group=domain.images["group"].head(count))
    )


def export(folder: Path, domain: Domain, count: int, training_images: pd.DataFrame | None = None) -> Path:
    """Export the first images of a domain; returns the data.yaml."""
    return write_handoff(
        folder,
        chosen(domain, count),
        [domain],
        classes=CLASSES,
        confidence=0.25,
        training_images=training_images,
    )


@pytest.fixture
def folder(domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    return export(tmp_path / "hand-off", domain, 5).parent


def drafts(domain: Domain, count: int) -> pd.DataFrame:
    drafts = domain.detections[domain.detections["confidence"] >= 0.25]
    return drafts[drafts["image"].isin(domain.images["image"].head(count))]


def test_the_folder_opens_as_a_yolo_dataset_with_the_drafts(
    domain: Domain, folder: Path, tmp_path: Path
) -> None:
    source = open_source(str(folder / "data.yaml"), cache=tmp_path / "cache")
    expected = drafts(domain, 5)
    assert source.classes == CLASSES
    assert len(source.images) == 5
    assert len(source.annotations) == len(expected) > 0
    assert np.sort(source.annotations["x1"]) == pytest.approx(np.sort(expected["x1"]), abs=0.01)
    assert (source.images["split"] == "train").all()


def test_pycocotools_reads_the_same_boxes(domain: Domain, folder: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "coco.json"))
    assert len(coco.getAnnIds()) == len(drafts(domain, 5))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    for image in coco.loadImgs(coco.getImgIds()):
        assert (folder / image["file_name"]).is_file()


@pytest.mark.slow
# FiftyOne chooses its database when it is imported, so the tests' database must be running before.
@pytest.mark.usefixtures("database")
def test_the_cvat_reader_of_fiftyone_reads_the_same_boxes(domain: Domain, folder: Path) -> None:
    from fiftyone.utils.cvat import load_cvat_image_annotations

    _, _, images = load_cvat_image_annotations(str(folder / "cvat.xml"))
    boxes = (
        [box for image in images.values() for box in image.boxes]
        if isinstance(images, dict)
        else [box for image in images for box in image.boxes]
    )
    assert len(boxes) == len(drafts(domain, 5))
    assert {box.label for box in boxes} <= set(CLASSES)
    # The reader rounds to whole pixels.
    assert np.sort([box.xtl for box in boxes]) == pytest.approx(np.sort(drafts(domain, 5)["x1"]), abs=0.51)


def test_label_studio_gets_percentages_and_an_interface_with_the_classes(
    domain: Domain, folder: Path
) -> None:
    tasks = json.loads((folder / "label-studio.json").read_text())
    values = [r["value"] for task in tasks for r in task["predictions"][0]["result"]]
    expected = drafts(domain, 5)
    assert np.sort([v["x"] * 6.4 for v in values]) == pytest.approx(np.sort(expected["x1"]), abs=0.01)
    assert np.sort([v["width"] * 6.4 for v in values]) == pytest.approx(
        np.sort(expected["x2"] - expected["x1"]), abs=0.01
    )
    view = ET.fromstring((folder / "label-studio.xml").read_text())
    assert [label.get("value") for label in view.iter("Label")] == list(CLASSES)


def test_images_are_copies_and_the_originals_are_untouched(domain: Domain, folder: Path) -> None:
    copies = sorted((folder / "images").iterdir())
    assert [c.name for c in copies] == [
        f"real-world-{g}_{n:04d}.jpg" for n, g in enumerate(chosen(domain, 5)["group"], 1)
    ]
    assert not any(c.is_symlink() for c in copies)
    assert copies[0].read_bytes() == Path(domain.images["path"].iloc[0]).read_bytes()


def test_training_continues_with_the_earlier_images(
    domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    earlier = tmp_path / "old"
    for split in ("train", "val"):
        (earlier / "images" / split).mkdir(parents=True)
        cv2.imwrite(str(earlier / "images" / split / "a.jpg"), np.zeros((48, 64, 3), np.uint8))
    (earlier / "data.yaml").write_text(
        yaml.safe_dump({"train": "images/train", "val": "images/val", "names": list(CLASSES)})
    )
    training_images = open_source(str(earlier / "data.yaml"), cache=frames_folder()).images
    data_yaml = export(tmp_path / "hand-off", domain, 2, training_images)
    source = open_source(str(data_yaml), cache=frames_folder())
    assert source.images["split"].value_counts().to_dict() == {"train": 3, "val": 1}
    # An export from another machine may not name images outside its folder.
    unregistered = open_source(str(data_yaml), cache=tmp_path / "another")
    assert unregistered.images["split"].value_counts().to_dict() == {"train": 2}
    assert unregistered.ledger["reason"].str.startswith("leads out of the source").sum() == 2


def test_frames_of_a_clip_keep_a_common_group(folder: Path, domain: Domain, tmp_path: Path) -> None:
    source = open_source(str(folder / "data.yaml"), cache=folder.parent / "cache")
    assert source.images["group"].nunique() == chosen(domain, 5)["group"].nunique()


def test_an_existing_folder_is_never_overwritten(domain: Domain, folder: Path) -> None:
    with pytest.raises(FileExistsError):
        export(folder, domain, 2)


def test_crowd_annotations_are_left_out(domain: Domain, tmp_path: Path) -> None:
    labelled = make_domain("real_world", role="real_world", clips=4, frames=3, seed=3, classes=CLASSES)
    labelled.images["path"] = domain.images["path"]
    labelled.images[["width", "height"]] = 640, 480
    labelled.annotations["crowd"] = True
    data_yaml = export(tmp_path / "hand-off", labelled, 3)
    assert open_source(str(data_yaml), cache=tmp_path / "cache").annotations.empty


def test_annotations_are_kept(tmp_path: Path, domain: Domain) -> None:
    labelled = make_domain("real_world", role="real_world", clips=4, frames=3, seed=3, classes=CLASSES)
    labelled.images["path"] = domain.images["path"]
    labelled.images[["width", "height"]] = 640, 480
    data_yaml = export(tmp_path / "hand-off", labelled, 3)
    source = open_source(str(data_yaml), cache=tmp_path / "cache")
    expected = labelled.annotations[labelled.annotations["image"].isin(labelled.images["image"].head(3))]
    assert np.sort(source.annotations["y2"]) == pytest.approx(np.sort(expected["y2"]), abs=0.01)
