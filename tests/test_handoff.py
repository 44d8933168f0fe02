"""The hand-off says the same in every format: read back by our own reader, by pycocotools and by FiftyOne's CVAT reader."""

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

CLASSES = ('pot"hole', "<crack & more>")


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    made = make_domain(
        "real_world", role="real_world", clips=4, frames=3, seed=3, classes=CLASSES, labelled=False
    )
    paths = []
    for number, image in enumerate(made.images["image"]):
        path = tmp_path / "original" / f"{image} ü.jpg"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.full((480, 640, 3), 10 * number, np.uint8))
        paths.append(str(path))
    made.images["path"] = paths
    made.images[["width", "height"]] = 640, 480
    made.detections["label"] = np.arange(len(made.detections)) % 2
    return made


def chosen(domain: Domain, count: int) -> pd.DataFrame:
    return (
        domain.images[["image", "path"]]
        .head(count)
        .assign(rank=range(1, count + 1), domain=domain.name, group=domain.images["group"].head(count))
    )


@pytest.fixture
def folder(domain: Domain, tmp_path: Path) -> Path:
    return write_handoff(
        tmp_path / "hand-off", chosen(domain, 5), [domain], CLASSES, 0.25, None, tmp_path / "cache"
    ).parent


def drafts(domain: Domain, count: int) -> pd.DataFrame:
    kept = domain.detections[domain.detections["confidence"] >= 0.25]
    return kept[kept["image"].isin(domain.images["image"].head(count))]


def test_our_own_reader_finds_the_drafts(domain: Domain, folder: Path, tmp_path: Path) -> None:
    source = open_source(str(folder / "data.yaml"), cache=tmp_path / "cache")
    expected = drafts(domain, 5)
    assert source.classes == CLASSES
    assert len(source.images) == 5
    assert len(source.annotations) == len(expected) > 0
    assert np.sort(source.annotations["x1"]) == pytest.approx(np.sort(expected["x1"]), abs=0.01)
    assert (source.images["split"] == "train").all()


def test_pycocotools_reads_the_same(domain: Domain, folder: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "coco.json"))
    assert len(coco.getAnnIds()) == len(drafts(domain, 5))
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    for image in coco.loadImgs(coco.getImgIds()):
        assert (folder / image["file_name"]).is_file()


# Importing FiftyOne settles which database it talks to: the tests' own has to be there first.
@pytest.mark.usefixtures("database")
def test_fiftyones_cvat_reader_reads_the_same(domain: Domain, folder: Path) -> None:
    from fiftyone.utils.cvat import load_cvat_image_annotations

    _, _, images = load_cvat_image_annotations(str(folder / "cvat.xml"))
    boxes = (
        [box for image in images.values() for box in image.boxes]
        if isinstance(images, dict)
        else [box for image in images for box in image.boxes]
    )
    assert len(boxes) == len(drafts(domain, 5))
    assert {box.label for box in boxes} <= set(CLASSES)
    # It rounds to whole pixels.
    assert np.sort([box.xtl for box in boxes]) == pytest.approx(np.sort(drafts(domain, 5)["x1"]), abs=0.51)


def test_label_studio_gets_percentages_and_the_interface_that_knows_the_classes(
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
        f"away-{g}_{n:04d}.jpg" for n, g in enumerate(chosen(domain, 5)["group"], 1)
    ]
    assert not any(c.is_symlink() for c in copies)
    assert copies[0].read_bytes() == Path(domain.images["path"].iloc[0]).read_bytes()


def test_training_goes_on_with_the_old_images(domain: Domain, tmp_path: Path) -> None:
    old = tmp_path / "old"
    for split in ("train", "val"):
        (old / "images" / split).mkdir(parents=True)
        cv2.imwrite(str(old / "images" / split / "a.jpg"), np.zeros((48, 64, 3), np.uint8))
    (old / "data.yaml").write_text(
        yaml.safe_dump({"train": "images/train", "val": "images/val", "names": list(CLASSES)})
    )
    images = open_source(str(old / "data.yaml"), cache=tmp_path / "cache").images
    card = write_handoff(
        tmp_path / "hand-off", chosen(domain, 2), [domain], CLASSES, 0.25, images, tmp_path / "cache"
    )
    source = open_source(str(card), cache=tmp_path / "cache")
    assert source.images["split"].value_counts().to_dict() == {"train": 3, "val": 1}
    # Somebody else's hand-off may not name images around it: this machine has not written it.
    stranger = open_source(str(card), cache=tmp_path / "another")
    assert stranger.images["split"].value_counts().to_dict() == {"train": 2}
    assert stranger.ledger["reason"].str.startswith("leads out of the source").sum() == 2


def test_frames_of_a_clip_stay_a_clip(folder: Path, domain: Domain, tmp_path: Path) -> None:
    source = open_source(str(folder / "data.yaml"), cache=folder.parent / "cache")
    assert source.images["group"].nunique() == chosen(domain, 5)["group"].nunique()


def test_a_hand_off_in_which_labels_may_have_been_mended_is_never_written_over(
    domain: Domain, folder: Path
) -> None:
    with pytest.raises(FileExistsError):
        write_handoff(folder, chosen(domain, 2), [domain], CLASSES, 0.25, None, folder.parent / "cache")


def test_crowds_are_no_objects_to_teach(domain: Domain, tmp_path: Path) -> None:
    labelled = make_domain("real_world", role="real_world", clips=4, frames=3, seed=3, classes=CLASSES)
    labelled.images["path"] = domain.images["path"]
    labelled.images[["width", "height"]] = 640, 480
    labelled.annotations["crowd"] = True
    card = write_handoff(
        tmp_path / "hand-off", chosen(labelled, 3), [labelled], CLASSES, 0.25, None, tmp_path / "cache"
    )
    assert open_source(str(card), cache=tmp_path / "cache").annotations.empty


def test_labels_that_people_made_are_kept(tmp_path: Path, domain: Domain) -> None:
    labelled = make_domain("real_world", role="real_world", clips=4, frames=3, seed=3, classes=CLASSES)
    labelled.images["path"] = domain.images["path"]
    labelled.images[["width", "height"]] = 640, 480
    card = write_handoff(
        tmp_path / "hand-off", chosen(labelled, 3), [labelled], CLASSES, 0.25, None, tmp_path / "cache"
    )
    source = open_source(str(card), cache=tmp_path / "cache")
    expected = labelled.annotations[labelled.annotations["image"].isin(labelled.images["image"].head(3))]
    assert np.sort(source.annotations["y2"]) == pytest.approx(np.sort(expected["y2"]), abs=0.01)
