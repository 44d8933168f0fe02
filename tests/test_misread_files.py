"""Files that disagree with one another, or with their images: joined where they say the same, else refused or
said.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from datasets.answers import read_answers
from datasets.attributes import Attributes, join
from datasets.coco import read_results
from datasets.errors import InputError
from datasets.groups import assign
from datasets.plausibility import oddities, repeated_boxes, share_on_annotations, upright
from datasets.sheets import read_sheet
from datasets.source import open_source
from datasets.tables import CORNERS, Source, objects_in
from diagnostics.class_ids import exchanged_classes
from diagnostics.learning import summarise_history
from diagnostics.matching import Annotations, Detections
from tests.conftest import Outcome, run_in_process
from tests.label_writers import (
    LabelledImage,
    coco,
    coco_masks,
    cvat,
    dump,
    kitti,
    label_studio,
    labelme,
    text,
    yolo,
)
from tests.test_wrong_numbers import content_of, drawn, opened, predicted, results_of, with_images
from train.history import read_history
from train.prediction_folder import newer_images, read_boxes
from train.preparation import remove_boxes

SIZE = (320, 240)


def boxes_of(source: Source) -> set[tuple[str, str, float, ...]]:
    """(image, class, corners) of every annotation."""
    return {
        (image, source.classes[label], *corners)
        for image, label, *corners in source.annotations[["image", "label", *CORNERS]].itertuples(index=False)
    }


def scored(tmp_path: Path, truth: Path, results: list[dict], *arguments: str) -> Outcome:
    dump(tmp_path / "dt.json", results)
    return run_in_process(
        "score", "--ground-truth", str(truth), "--predictions", "dt.json", *arguments, cwd=tmp_path
    )


def notes_of(outcome: Outcome) -> str:
    return " ".join(json.loads(outcome.stdout)["notes"])


def truth_of(
    root: Path, labelled_images: list[LabelledImage], change: Callable[[dict], None] = lambda content: None
) -> Path:
    coco(root, labelled_images)
    content = content_of(root / "annotations.json")
    change(content)
    dump(root / "annotations.json", content)
    return root / "annotations.json"


def detections_of(truth: Path, shift: int = 0) -> list[dict]:
    """Perfect predictions of a json; shift: added to every category id."""
    annotations = content_of(truth)["annotations"]
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"] + shift, "bbox": a["bbox"], "score": 0.9}
        for a in annotations
    ]


# --- several files about the same images


def split_json(
    root: Path, labelled_images: list[LabelledImage], parts: dict[str, Callable[[dict], bool]]
) -> None:
    """One json a part, each with those annotations for which its function says so."""
    truth = truth_of(root, labelled_images)
    content = content_of(truth)
    truth.unlink()
    for name, belongs in parts.items():
        kept = [a for a in content["annotations"] if belongs(a)]
        named = {a["category_id"] for a in kept}
        categories = [c for c in content["categories"] if c["id"] in named]
        dump(root / name, {**content, "annotations": kept, "categories": categories})


def test_a_json_for_each_class_is_one_dataset(tmp_path: Path) -> None:
    labelled_images = drawn(1)
    whole = with_images(tmp_path / "whole", labelled_images)
    coco(whole, labelled_images)
    parts = with_images(tmp_path / "parts", labelled_images)
    by_class = {f"{n}.json": lambda a, n=n: a["category_id"] == n for n in (1, 2, 3)}
    split_json(parts, labelled_images, by_class)
    assert boxes_of(opened(parts)) == boxes_of(opened(whole))
    files = ",".join(str(parts / name) for name in by_class)
    assert boxes_of(open_source(files, cache=tmp_path / "cache")) == boxes_of(opened(whole))


def test_ids_lead_to_images_under_the_names_that_they_got(tmp_path: Path) -> None:
    """Two jsons about the same images, and a third about others of the same names."""
    labelled_images = drawn(1, count=4)
    a, b = (with_images(tmp_path / name, labelled_images) for name in "ab")
    split_json(
        a,
        labelled_images,
        {"car.json": lambda e: e["category_id"] == 2, "rest.json": lambda e: e["category_id"] != 2},
    )
    truth_of(b, labelled_images, lambda c: [e.update(id=e["id"] + 100) for e in c["images"]])
    content = content_of(b / "annotations.json")
    for annotation in content["annotations"]:
        annotation["image_id"] += 100
    dump(b / "annotations.json", content)
    files = f"{a}/car.json,{a}/rest.json,{b}/annotations.json"
    source = open_source(files, cache=tmp_path / "cache")
    assert len(source.images) == 8
    assert set(source.image_ids.values()) == set(source.images["image"])


def test_a_json_that_repeats_a_part_of_another_adds_nothing(tmp_path: Path) -> None:
    """As person_keypoints beside instances."""
    labelled_images = drawn(1)
    root = with_images(tmp_path, labelled_images)
    split_json(root, labelled_images, {"a.json": lambda a: True, "b.json": lambda a: a["category_id"] == 1})
    assert len(opened(root).annotations) == sum(len(p.objects) for p in labelled_images)


def moved(labelled_images: list[LabelledImage], count: int) -> list[LabelledImage]:
    """The first images with every box five pixels further to the left, as somebody corrected it."""
    return [
        replace(p, objects=[(n, (max(b[0] - 5, 0), *b[1:])) for n, b in p.objects]) if k < count else p
        for k, p in enumerate(labelled_images)
    ]


@pytest.mark.parametrize("writer", [coco, cvat, label_studio], ids=["coco", "cvat", "label studio"])
def test_two_versions_of_the_labels_are_refused(
    tmp_path: Path, writer: Callable[[Path, list[LabelledImage]], None]
) -> None:
    labelled_images = drawn(1)
    root = with_images(tmp_path / "d", labelled_images)
    for number, version in enumerate((labelled_images, moved(labelled_images, 12)), start=1):
        writer(tmp_path / f"v{number}", version)
        (file,) = (f for f in (tmp_path / f"v{number}").rglob("*") if f.is_file())
        file.rename(root / f"v{number}_{file.name}")
    with pytest.raises(InputError, match=r"annotates? 12 images.*differently"):
        opened(root)


@pytest.mark.parametrize("writer", [coco, cvat], ids=["coco", "cvat"])
def test_of_two_overlapping_jobs_only_the_shared_images_are_in_doubt(
    tmp_path: Path, writer: Callable[[Path, list[LabelledImage]], None]
) -> None:
    labelled_images = drawn(1)
    root = with_images(tmp_path / "d", labelled_images)
    for number, part in enumerate((labelled_images[:7], moved(labelled_images, 7)[6:]), start=1):
        writer(tmp_path / f"job{number}", part)
        (file,) = (f for f in (tmp_path / f"job{number}").rglob("*") if f.is_file())
        (root / f"job{number}").mkdir()
        file.rename(root / f"job{number}" / file.name)
    source = opened(root)
    assert source.images.loc[~source.images["labelled"], "image"].str.endswith("000006.jpg").tolist() == [
        True
    ]
    assert source.ledger["reason"].str.contains("two files annotate it differently").sum() == 1
    assert len(source.annotations) == 4 * 11


def test_ids_that_two_files_give_to_different_images_are_refused(tmp_path: Path) -> None:
    labelled_images = drawn(1, count=10)
    for split, part in (("train", labelled_images[:5]), ("valid", labelled_images[5:])):
        folder = with_images(tmp_path / "d" / split, part, ".")
        coco(folder, part)
    source = opened(tmp_path / "d")
    results = detections_of(tmp_path / "d" / "valid" / "annotations.json")
    dump(tmp_path / "dt.json", results)
    with pytest.raises(InputError, match="those of different images in the files"):
        read_results(tmp_path / "dt.json", source, source.classes)
    names = [{**r, "image_id": labelled_images[5 + r["image_id"]].name} for r in results]
    dump(tmp_path / "dt.json", names)
    assert len(read_results(tmp_path / "dt.json", source, source.classes)) == len(results)


# --- classes


@pytest.mark.parametrize("shift", [-1, 1])
def test_numberings_that_are_shifted_are_named(tmp_path: Path, shift: int) -> None:
    """Where the class that would betray them is never detected, and a box or two are right by chance."""
    truth = truth_of(tmp_path, drawn(3))
    lucky = {**detections_of(truth)[0], "score": 0.1}
    results = [lucky, *(r for r in detections_of(truth, shift) if 1 <= r["category_id"] <= 3)]
    assert "nearly all objects are detected" in notes_of(scored(tmp_path, truth, results))


def arrays(actual: list[int], predicted: list[int]) -> tuple[Annotations, Detections]:
    """Objects of some classes, one an image, each detected as another class."""
    n = len(actual)
    boxes = np.tile([10.0, 10, 40, 40], (n, 1))
    image = np.arange(n)
    annotations = Annotations(image, np.array(actual), boxes, np.full(n, 1600.0), np.zeros(n, bool))
    return annotations, Detections(image, np.array(predicted), boxes, np.full(n, 0.9))


@pytest.mark.parametrize(
    ("taken", "named"),
    [
        ({0: 0, 1: 0}, False),  # a poor detector takes one class for another
        ({0: 0, 1: 0, 2: 0, 3: 0}, False),  # or all for the most frequent
        ({0: 1, 1: 2, 2: 3}, True),
        ({0: 0, 1: 1, 2: 3, 3: 4, 4: 5}, True),  # numbers left out from the third on
        ({0: 0, 1: 2}, False),
        ({0: 1, 1: 0, 2: 2}, True),
    ],
)
def test_a_shift_is_told_from_confusion(taken: dict[int, int], named: bool) -> None:
    actual = [label for label in taken for _ in range(10)]
    annotations, detections = arrays(actual, [taken[label] for label in actual])
    found = exchanged_classes(annotations, detections, n_images=len(actual), n_classes=6)
    assert bool(found) == named
    assert not named or found == {label: other for label, other in taken.items() if label != other}


def test_classes_txt_in_another_order_than_the_data_yaml_is_said(tmp_path: Path) -> None:
    labelled_images = drawn(3)
    with_images(tmp_path / "d", labelled_images)
    text(tmp_path / "d" / "labels" / "classes.txt", "bus\ncar\ntruck\n")
    text(tmp_path / "d" / "data.yaml", "train: images\nval: images\nnames: [car, bus, truck]\n")
    text(tmp_path / "d" / "labels" / "000000.txt", "0 0.5 0.5 0.1 0.1\n")
    ledger = opened(tmp_path / "d" / "data.yaml").ledger
    (reason,) = ledger.loc[ledger["path"].str.endswith("classes.txt"), "reason"]
    assert "in another order" in reason


def test_numbered_classes_take_the_names_that_are_given(tmp_path: Path) -> None:
    with_images(tmp_path, drawn(3, count=2))
    rows = [
        {"file_name": f"00000{n}.jpg", "objects": {"bbox": [[10, 10, 40, 40]], "categories": [n + 1]}}
        for n in range(2)
    ]
    text(tmp_path / "images" / "metadata.jsonl", "\n".join(map(json.dumps, rows)))
    source = opened(tmp_path, classes=("bus", "car", "truck"))
    assert {name for _, name, *_ in boxes_of(source)} == {"car", "truck"}


# --- a comparison is judged as the predictions are


def test_a_baseline_is_judged_as_the_predictions_are(tmp_path: Path) -> None:
    truth = truth_of(tmp_path, drawn(3, count=20))
    good = detections_of(truth)
    other = {1: 2, 2: 1, 3: 3}
    baselines = {
        "15 of 20 images have no detection": [r for r in good if r["image_id"] < 5],
        "mean different classes": [{**r, "category_id": other[r["category_id"]]} for r in good],
        "repeat the box of another one": good + good,
    }
    for words, baseline in baselines.items():
        dump(tmp_path / "b.json", baseline)
        outcome = scored(tmp_path, truth, good, "--baseline", "b.json")
        assert f"b.json: {words}" in notes_of(outcome) or words in notes_of(outcome), words
    dump(tmp_path / "b.json", [{**r, "bbox": [v / 2 for v in r["bbox"]]} for r in good])
    outcome = scored(tmp_path, truth, good, "--baseline", "b.json")
    assert outcome.code == 2
    assert "b.json: its 80 boxes look like pixels of images half as large" in outcome.stderr


def test_detections_that_repeat_are_counted() -> None:
    rng = np.random.default_rng(0)
    boxes, images = rng.uniform(0, 100, (50, 4)), np.arange(50) % 7
    labels = np.arange(50) % 3
    twice = [np.concatenate([values, values[:20]]) for values in (images, labels, boxes)]
    assert repeated_boxes(images, labels, boxes) == 0
    assert repeated_boxes(*twice) == 20
    # The same box of another class is what a detector of several labels a box writes.
    assert repeated_boxes(twice[0], np.concatenate([labels, labels[:20] + 1]), twice[2]) == 0


def test_what_a_ground_truth_leaves_to_others_is_said(tmp_path: Path) -> None:
    def of_lvis(content: dict) -> None:
        content["images"][0] |= {"neg_category_ids": [1], "not_exhaustive_category_ids": [2]}

    def ignored(content: dict) -> None:
        content["annotations"][0]["ignore"] = 1

    def flat(content: dict) -> None:
        content["annotations"][0]["bbox"][2] = 0

    for change, words in ((of_lvis, "LVIS"), (ignored, "marked ignore"), (flat, "have no area")):
        truth = truth_of(tmp_path, drawn(3), change)
        assert words in notes_of(scored(tmp_path, truth, detections_of(truth)))


# --- coordinates


def test_what_has_no_area_under_a_reading_is_no_hit() -> None:
    box, other = np.array([[200.0, 10, -190, 90]]), {0: np.array([[100.0, 20, 140, 60]])}
    assert share_on_annotations(box, np.array([0]), other) == 0


@pytest.mark.parametrize("unit", ["fractions", "larger images"])
@pytest.mark.parametrize("tool", ["coco", "labelme"])
def test_polygons_in_another_unit_are_refused(tmp_path: Path, tool: str, unit: str) -> None:
    labelled_images = drawn(5)
    root = with_images(tmp_path, labelled_images)
    scale = (1 / SIZE[0], 1 / SIZE[1]) if unit == "fractions" else (2, 2)

    def corners(box: tuple[int, int, int, int]) -> list[list[float]]:
        x1, y1, x2, y2 = box
        return [[x * scale[0], y * scale[1]] for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]

    if tool == "coco":
        coco(root, labelled_images)
        content = content_of(root / "annotations.json")
        for annotation in content["annotations"]:
            x, y, w, h = annotation.pop("bbox")
            annotation["segmentation"] = [[v for point in corners((x, y, x + w, y + h)) for v in point]]
        dump(root / "annotations.json", content)
    else:
        labelme(root, labelled_images)
        for labelled_image, file in zip(
            labelled_images, sorted((root / "images").glob("*.json")), strict=True
        ):
            content = content_of(file)
            content["shapes"] = [
                {"label": n, "points": corners(b), "shape_type": "polygon"} for n, b in labelled_image.objects
            ]
            dump(file, content)
    with pytest.raises(InputError, match=unit):
        opened(root)


def test_a_mask_of_another_size_than_its_image_is_rejected(tmp_path: Path) -> None:
    labelled_images = drawn(5, count=2)
    root = with_images(tmp_path, labelled_images)
    half = [
        replace(
            p,
            size=(SIZE[0] // 2, SIZE[1] // 2),
            objects=[(n, tuple(v // 2 for v in b)) for n, b in p.objects],
        )
        for p in labelled_images
    ]
    coco_masks(root, half)
    content = content_of(root / "annotations.json")
    for entry in content["images"]:
        entry |= {"width": SIZE[0], "height": SIZE[1]}
    dump(root / "annotations.json", content)
    source = opened(root)
    assert not source.images["labelled"].any()
    assert source.rows["reason"].str.contains("its mask is of 160x120 pixels, the image of 320x240").all()


@pytest.mark.parametrize("turn", [3, 6, 8])
def test_boxes_from_before_exifs_rotation_are_refused(tmp_path: Path, turn: int) -> None:
    """Half of the images are turned, and the detector never looked at EXIF."""
    rng = np.random.default_rng(turn)
    labelled_images = drawn(6, count=20)
    root = with_images(tmp_path / "d", labelled_images)
    turned = {n for n in range(20) if n % 2}
    for number in turned:
        # As a camera stores it: on its side, with a mark.
        stored = Image.fromarray(rng.integers(0, 255, (240, 320, 3), dtype=np.uint8))
        if turn != 3:
            stored = stored.transpose(Image.Transpose.TRANSPOSE)
        exif = Image.Exif()
        exif[0x0112] = turn
        stored.save(root / "images" / labelled_images[number].name, exif=exif)
    coco(root, labelled_images)
    source = opened(root)
    assert source.images[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[320, 240]]

    def before(box: list[float]) -> list[float]:
        """Where a box of the upright image is in the stored one, from a point to a point."""
        x, y, w, h = box
        corners = np.array([[x, y], [x + w, y + h]], float)
        stored = {
            3: np.column_stack([320 - corners[:, 0], 240 - corners[:, 1]]),
            6: np.column_stack([corners[:, 1], 320 - corners[:, 0]]),
            8: np.column_stack([240 - corners[:, 1], corners[:, 0]]),
        }[turn]
        return [*stored.min(0), *np.ptp(stored, axis=0)]

    results = results_of(labelled_images)
    names = sorted({name for p in labelled_images for name, _ in p.objects})
    for result in results:
        result["category_id"] = names.index(("bus", "car", "truck")[result["category_id"]]) + 1
        if int(result["image_id"]) in turned:
            result["bbox"] = before(result["bbox"])
    dump(tmp_path / "dt.json", results)
    with pytest.raises(InputError, match="in 10 images that EXIF turns"):
        read_results(tmp_path / "dt.json", source, source.classes)
    box = np.array([[30.0, 20, 50, 10]])
    there = np.array([before(box[0].tolist())])
    assert upright(there, np.array([[320.0, 240]]), np.array([turn])).tolist() == box.tolist()


# --- images


def test_of_two_cameras_of_which_one_is_here_each_entry_finds_its_own(tmp_path: Path) -> None:
    labelled_images = drawn(7, count=4)
    for camera in ("cam1", "cam2"):
        with_images(tmp_path / "d", labelled_images, camera)
    label_studio(tmp_path / "d", labelled_images)
    (file,) = (tmp_path / "d").glob("*.json")
    tasks = content_of(file)
    both = [
        {**task, "data": {"image": f"/data/local-files/?d=footage/{camera}/{labelled_image.name}"}}
        for camera in ("cam1", "cam2")
        for task, labelled_image in zip(tasks, labelled_images, strict=True)
    ]
    dump(file, both)
    source = opened(tmp_path / "d")
    assert source.images["labelled"].all()
    assert len(source.annotations) == 2 * sum(len(p.objects) for p in labelled_images)
    for image in (tmp_path / "d" / "cam2").iterdir():
        image.unlink()
    alone = opened(tmp_path / "d")
    assert alone.images["labelled"].all()
    assert len(alone.annotations) == sum(len(p.objects) for p in labelled_images)


def test_a_task_of_several_images_is_not_put_on_the_first(tmp_path: Path) -> None:
    labelled_images = drawn(7, count=2)
    with_images(tmp_path, labelled_images, ".")
    label_studio(tmp_path, labelled_images[:1])
    (file,) = tmp_path.glob("*.json")
    (task,) = content_of(file)
    task["data"] = {"first": labelled_images[0].name, "second": labelled_images[1].name}
    for number, result in enumerate(task["annotations"][0]["result"]):
        result["to_name"] = f"img-{number % 2}"
        result |= {"original_width": SIZE[0], "original_height": SIZE[1]}
    dump(file, [task])
    source = opened(tmp_path)
    assert not source.images["labelled"].any()
    assert source.ledger["reason"].str.contains("several images each").any()


@pytest.mark.parametrize(
    "written",
    ["C:\\Users\\me\\d\\images\\{}", "/content/d/images/{}", "d/images/{}", "{}"],
    ids=["windows", "another machine", "own folder first", "another suffix"],
)
def test_a_json_finds_images_whose_paths_are_another_machines(tmp_path: Path, written: str) -> None:
    labelled_images = drawn(8, count=4)
    root = with_images(tmp_path / "d", labelled_images)
    coco(root, labelled_images)
    content = content_of(root / "annotations.json")
    suffix = ".png" if written == "{}" else ".jpg"
    for entry in content["images"]:
        entry["file_name"] = written.format(entry["file_name"]).replace(".jpg", suffix)
    dump(root / "annotations.json", content)
    source = opened(root)
    assert source.images["labelled"].all()
    assert len(source.images) == 4


def test_the_output_of_ultralytics_predict_is_no_dataset(tmp_path: Path) -> None:
    folder = with_images(tmp_path / "runs" / "detect" / "predict2", drawn(1, count=2), ".")
    text(folder / "labels" / "000000.txt", "0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(InputError, match="written by Ultralytics' predict"):
        opened(folder)


@pytest.mark.parametrize("names", ["wheat_crop_{:03d}", "asphalt-patch-{}", "broken_tile_{:03d}"])
def test_photographs_of_tiles_and_patches_are_no_tiles(names: str) -> None:
    groups, _ = assign(pd.Series([f"/d/{names.format(n)}.jpg" for n in range(12)]), None, ())
    assert groups.nunique() == 12


# --- regions, crowds and histories


def test_regions_of_no_class_are_no_annotations(tmp_path: Path) -> None:
    labelled_images = drawn(9, count=3)
    root = with_images(tmp_path, labelled_images)
    kitti(root, labelled_images)
    for file in root.rglob("*.txt"):
        text(file, file.read_text() + "\nDontCare -1 -1 -10 0 0 30 30 -1 -1 -1 -1000 -1000 -1000 -10\n")
    source = opened(root)
    assert source.annotations["crowd"].sum() == 3 * len(source.classes)
    assert objects_in(source.annotations) == sum(len(p.objects) for p in labelled_images)
    _, removed = remove_boxes(source.annotations, source, 0, 1)
    assert len(removed) == 3


def test_bdds_crowds_and_videos_are_read(tmp_path: Path) -> None:
    with_images(tmp_path, drawn(9, count=1), "images/a")
    with_images(tmp_path, drawn(9, count=1), "images/b")
    box = {"x1": 10, "y1": 10, "x2": 60, "y2": 60}
    labels = [
        {"category": "car", "box2d": box},
        {"category": "car", "box2d": {**box, "x2": 90}, "attributes": {"crowd": True}},
    ]
    frames = [{"name": "000000.jpg", "videoName": name, "labels": labels} for name in ("a", "b")]
    dump(tmp_path / "det.json", frames)
    source = opened(tmp_path)
    assert source.images["labelled"].all()
    assert source.annotations.groupby("image")["crowd"].sum().tolist() == [1, 1]


def test_kitti_rows_with_scores_and_names_with_digits(tmp_path: Path) -> None:
    labelled_images = [
        replace(p, objects=[("traffic-light2", b) for _, b in p.objects]) for p in drawn(9, count=2)
    ]
    root = with_images(tmp_path, labelled_images)
    kitti(root, labelled_images)
    assert opened(root).classes == ("traffic-light2",)
    for file in root.rglob("*.txt"):
        text(file, "\n".join(f"{line} 0.87" for line in file.read_text().splitlines()))
    assert opened(root).ledger["reason"].str.contains("have a score").any()


def test_coco_annotations_with_scores_are_said(tmp_path: Path) -> None:
    root = with_images(tmp_path, drawn(1, count=2))
    truth_of(root, drawn(1, count=2), lambda content: [a.update(score=0.9) for a in content["annotations"]])
    assert opened(root).ledger["reason"].str.contains("8 have a score").any()


def test_labelme_parts_and_rectangles_of_two_labels_are_said(tmp_path: Path) -> None:
    labelled_images = drawn(9, count=1)
    root = with_images(tmp_path / "a", labelled_images)
    labelme(root, labelled_images)
    (file,) = root.rglob("*.json")
    content = content_of(file)
    for shape in content["shapes"][:2]:
        shape["group_id"] = 1
    dump(file, content)
    assert opened(root).ledger["reason"].str.contains("1 shapes share a group_id").any()
    root = with_images(tmp_path / "b", labelled_images)
    label_studio(root, labelled_images)
    (file,) = root.rglob("*.json")
    tasks = content_of(file)
    tasks[0]["annotations"][0]["result"][0]["value"]["rectanglelabels"] = ["car", "taxi"]
    dump(file, tasks)
    assert opened(root).rows["reason"].str.contains("2 labels: car, taxi").any()


def test_rows_without_validation_are_no_measurement(tmp_path: Path) -> None:
    """With val=False, Ultralytics writes zeros until the last epoch."""
    header = "epoch,train/box_loss,metrics/mAP50(B),metrics/mAP50-95(B),val/box_loss,val/cls_loss"
    rows = [f"{e},{2 / e:.3f},0,0,0,0" for e in range(1, 20)]
    text(tmp_path / "killed.csv", "\n".join([header, *rows]))
    text(tmp_path / "whole.csv", "\n".join([header, *rows, "20,0.1,0.7,0.4,0.9,0.8"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learning = summarise_history(read_history(tmp_path / "whole.csv"))
        assert learning.last_ap50 == 0.7
        assert learning.best_loss_epoch is None
        assert summarise_history(read_history(tmp_path / "killed.csv")).last_ap50 is None
    outcome = run_in_process("triage", "--history", "killed.csv", "--real-world-ap50", "0.1", cwd=tmp_path)
    assert outcome.code == 2
    assert "no in-domain AP50" in outcome.stderr


# --- tables, answers and files of detections


def test_ids_of_a_json_and_names_of_files_are_never_mixed_in_attributes() -> None:
    """1.jpg has the id 0, and so on."""
    images = pd.DataFrame(
        {"image": [f"{n}.jpg" for n in range(1, 21)], "path": [f"/d/{n}.jpg" for n in range(1, 21)]}
    )
    ids = {n - 1: f"{n}.jpg" for n in range(1, 21)}
    table = pd.DataFrame({"key": [str(n) for n in range(20)], "own:even": [n % 2 == 0 for n in range(20)]})
    joined, found = join(images, Attributes("s.csv", table), ids)
    assert found == 20
    assert joined["own:even"].tolist() == [n % 2 == 0 for n in range(20)]
    # By names where these find more.
    table["key"] = [str(n) for n in range(1, 21)]
    joined, found = join(images, Attributes("s.csv", table), ids)
    assert (found, joined["own:even"].tolist()) == (20, [n % 2 == 0 for n in range(20)])
    # And not at all where both find all.
    turned = {n: f"{21 - n}.jpg" for n in range(1, 21)}
    with pytest.raises(InputError, match="ids of a json and also names of files"):
        join(images, Attributes("s.csv", table), turned)


@pytest.mark.parametrize(
    "written",
    [
        "labels,ap50\n100,0.3\n200,0.55\n",
        "labels, ap50\n100, 0.3\n200, 0.55\n",
        "\ufefflabels;ap50\r\n100;0,3\r\n200;0,55\r\n",
        "labels,ap50,\n100,0.3,\n200,0.55,\n",
        "labels,ap50\n100,0.3,\n200,0.55,\n\n",
    ],
)
def test_sheets_are_read_as_people_write_them(tmp_path: Path, written: str) -> None:
    (tmp_path / "f.csv").write_bytes(written.encode())
    sheet = read_sheet(tmp_path / "f.csv")
    assert sheet.columns.tolist() == ["labels", "ap50"]
    assert sheet.astype(float).to_numpy().tolist() == [[100, 0.3], [200, 0.55]]


def test_columns_that_nobody_named_are_refused(tmp_path: Path) -> None:
    """As where a training goes on with another version; a line or two that were cut are not."""
    rows = [f"{e},{0.01 * e}" for e in range(1, 61)]
    text(
        tmp_path / "f.csv", "\n".join(["epoch,metrics/mAP50(B)", *rows[:15], *(f"{r},7" for r in rows[15:])])
    )
    with pytest.raises(InputError, match="45 of 60 rows have more fields"):
        read_history(tmp_path / "f.csv")
    text(tmp_path / "f.csv", "\n".join(["epoch,metrics/mAP50(B)", *rows, "61,0.6162,0.62"]))
    assert len(read_history(tmp_path / "f.csv")) == 60
    text(tmp_path / "f.csv", "epoch,score\n1,0.2\n")
    with pytest.raises(InputError, match="none of the columns that are read"):
        read_history(tmp_path / "f.csv")


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([{"image": "a", "points": [[1, 2, "x"]]}, {"image": "a", "points": []}], "has an entry already"),
        ([{"image": "a", "clicks": [[1, 2, "x"]]}], "beside image, an entry has points and detections"),
        ([{"image": "a"}], "beside image, an entry has points and detections"),
    ],
)
def test_answers_that_would_be_lost_are_refused(tmp_path: Path, frames: list[dict], words: str) -> None:
    dump(tmp_path / "a.json", {"frames": frames})
    with pytest.raises(InputError, match=words):
        read_answers(tmp_path / "a.json")


def test_odd_detections_are_said() -> None:
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(0, 100, (40, 2)), rng.uniform(5, 20, (40, 2))])
    images, labels = np.arange(40) // 4, np.zeros(40, int)
    whole = rng.uniform(0.001, 0.9, 40)
    assert oddities(images, labels, boxes, whole) == []
    (flat,) = oddities(images, labels, boxes * [1, 1, -1, 1], whole)
    assert "40 of 40 detections have no area" in flat
    (cut,) = oddities(images, labels, boxes, np.maximum(whole, 0.25 + whole / 10))
    assert "no detection has a confidence below 0.25" in cut


def test_no_detection_at_all_is_said_by_a_report(tmp_path: Path) -> None:
    labelled_images = drawn(1)
    roots = {}
    for name in ("lab", "road"):
        roots[name] = with_images(tmp_path / name, labelled_images)
        yolo(roots[name], labelled_images)
    said: list[str] = []
    predicted(tmp_path, roots, {"lab": results_of(labelled_images), "road": []}, said.append)
    assert any("road.json holds no detection" in line for line in said)


def test_boxes_of_images_that_changed_are_refused(tmp_path: Path) -> None:
    labelled_images = drawn(1, count=3)
    root = with_images(tmp_path / "d", labelled_images)
    yolo(root, labelled_images)
    source = opened(root)
    folder = tmp_path / "predicted"
    folder.mkdir()
    row = {
        "image": source.images["image"][0],
        "label": 0,
        "name": "bus",
        "x1": 1.0,
        "y1": 1.0,
        "x2": 9.0,
        "y2": 9.0,
    }
    pd.DataFrame([{**row, "confidence": 0.9}]).to_parquet(folder / "boxes.parquet")
    table = source.images[["image", "path", "width", "height", "seconds"]]
    table.to_parquet(folder / "images.parquet")
    assert len(read_boxes(folder / "boxes.parquet", source, source.classes)[0]) == 1
    assert newer_images(folder / "boxes.parquet", source) == 0
    (root / "images" / labelled_images[0].name).touch()
    os.utime(folder / "boxes.parquet", (0, 0))
    assert newer_images(folder / "boxes.parquet", source) == 3
    table.assign(width=640).to_parquet(folder / "images.parquet")
    with pytest.raises(InputError, match=r"3 images have another size .*320x240, before 640x240"):
        read_boxes(folder / "boxes.parquet", source, source.classes)


def test_absolute_splits_that_exist_are_taken_as_they_are(tmp_path: Path) -> None:
    root = with_images(tmp_path / "d", drawn(1, count=3), "images/val")
    text(root / "data.yaml", f"train: images/val\nval: {root}/images/val/\nnames: [bus, car, truck]\n")
    source = opened(root / "data.yaml")
    assert len(source.images) == 3
    assert not source.ledger["reason"].str.contains("does not exist").any()


def test_a_list_from_another_machine_finds_its_images(tmp_path: Path) -> None:
    labelled_images = drawn(1, count=3)
    root = with_images(tmp_path / "d", labelled_images, "images/val")
    text(root / "val.txt", "\n".join(f"/home/me/data/road/d/images/val/{p.name}" for p in labelled_images))
    assert len(opened(root / "val.txt").images) == 3


def test_images_that_become_background_are_a_difference(tmp_path: Path) -> None:
    labelled_images = drawn(1, count=4)
    for version in ("before", "now"):
        root = with_images(tmp_path / version, labelled_images)
        yolo(root, labelled_images)
        (root / "labels" / "000000.txt").unlink()
    text(tmp_path / "now" / "labels" / "000000.txt", "")
    outcome = run_in_process("inspect", "now", "--against", "before", cwd=tmp_path)
    assert "labelled now and not before" in outcome.stdout
    assert "unchanged\n" not in outcome.stdout.split("annotations by class")[0].split("removed")[-1]
    outcome = run_in_process("inspect", "before", "--against", "now", cwd=tmp_path)
    assert "labelled before and not now" in outcome.stdout
