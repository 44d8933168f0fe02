"""Numbers in the wrong unit, order or numbering are refused or read with a word; they never score 0
silently.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulated import make_domain
from datasets.coco import read_results
from datasets.errors import InputError
from datasets.plausibility import count_from_one, misread, misread_rows
from datasets.source import open_source
from diagnostics.class_ids import ap50_of_other_classes
from diagnostics.findings import find
from diagnostics.inputs import Inputs
from diagnostics.precision import weighted_coco_metrics
from reports.commands.score import score
from reports.export.coco import coco_results
from reports.options import ScoreOptions
from reports.page.headline import _warnings
from tests.test_formats import images
from tests.test_sources import image, label

SIZE = (640, 480)


def boxes(seed: int, count: int) -> np.ndarray:
    """Left, top, width, height of boxes that lie within SIZE."""
    rng = np.random.default_rng(seed)
    width, height = rng.uniform(8, 200, count), rng.uniform(8, 150, count)
    left, top = rng.uniform(0, SIZE[0] - width), rng.uniform(0, SIZE[1] - height)
    return np.column_stack([left, top, width, height])


def sizes(count: int) -> np.ndarray:
    return np.tile(np.array(SIZE, float), (count, 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60))
def test_boxes_within_their_images_are_plausible(seed: int, count: int) -> None:
    drawn = boxes(seed, count)
    corners = np.column_stack([drawn[:, :2], drawn[:, :2] + drawn[:, 2:]])
    assert misread(drawn, sizes(count), "xywh") == ""
    assert misread(corners, sizes(count), "xyxy") == ""
    centre = np.column_stack([drawn[:, :2] + drawn[:, 2:] / 2, drawn[:, 2:]])
    assert misread_rows(centre / np.array([*SIZE, *SIZE])) == ""


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(25, 80))
def test_every_other_reading_is_recognised(seed: int, count: int) -> None:
    drawn = boxes(seed, count)
    scale = np.array([*SIZE, *SIZE], float)
    corners = np.column_stack([drawn[:, :2], drawn[:, :2] + drawn[:, 2:]])
    assert misread(drawn / scale, sizes(count), "xywh").startswith("fractions")
    assert misread(corners / scale, sizes(count), "xyxy").startswith("fractions")
    assert misread(corners, sizes(count), "xywh").startswith("left, top, right, bottom")
    assert misread(drawn, sizes(count), "xyxy").startswith(("left, top, width, height", "centre"))
    assert misread_rows(corners / scale).startswith("left, top, right, bottom")


def test_percent_are_recognised_where_they_fill_their_range() -> None:
    percent = boxes(1, 60) / np.array([*SIZE, *SIZE]) * 100
    assert misread(percent, sizes(60), "xywh").startswith("percent")
    # Small images have small coordinates; objects in one corner do not fill the range.
    assert misread(percent, np.full((60, 2), 100.0), "xywh") == ""
    assert misread(percent * 0.5, sizes(60), "xywh") == ""


def test_unknown_sizes_and_no_boxes_are_not_judged() -> None:
    assert misread(np.zeros((0, 4)), np.zeros((0, 2)), "xywh") == ""
    assert misread(boxes(1, 9) / 640, np.zeros((9, 2)), "xywh") == ""
    assert misread(np.full((9, 4), np.nan), sizes(9), "xywh") == ""


@pytest.mark.parametrize(
    ("ids", "classes", "expected"),
    [([1, 2], 2, True), ([2], 2, True), ([0, 2], 2, False), ([1], 2, False), ([3], 2, False), ([], 2, False)],
)
def test_ids_from_one(ids: list[int], classes: int, expected: bool) -> None:
    assert count_from_one(ids, classes) is expected


def yolo_folder(root: Path, rows: list[str]) -> Path:
    for number in range(6):
        image(root / "images" / "val" / f"a_{number}.jpg", seed=number)
        label(root / "labels" / "val" / f"a_{number}.txt", "\n".join(rows))
    label(root / "data.yaml", "val: images/val\nnames: [pothole, crack]\n")
    return root


def test_label_rows_with_corners_are_refused(tmp_path: Path) -> None:
    rows = ["0 0.5 0.5 0.9 0.9", "0 0.6 0.2 0.95 0.4", "1 0.1 0.7 0.3 0.95", "0 0.2 0.2 0.3 0.3"]
    with pytest.raises(InputError, match=r"a_0\.txt: label rows look like left, top, right, bottom"):
        open_source(str(yolo_folder(tmp_path / "d", rows)), cache=tmp_path)


def test_label_ids_from_one_are_refused_and_a_stray_id_costs_its_row(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="class ids seem to count from 1"):
        open_source(
            str(yolo_folder(tmp_path / "d", ["1 0.5 0.5 0.2 0.2", "2 0.4 0.4 0.1 0.1"])), cache=tmp_path
        )
    source = open_source(
        str(yolo_folder(tmp_path / "e", ["0 0.5 0.5 0.2 0.2", "2 0.4 0.4 0.1 0.1"])), cache=tmp_path
    )
    assert len(source.annotations) == 6
    assert len(source.rows) == 6


def coco_files(root: Path, change=lambda entry: entry, *, count: int = 12) -> dict[str, Path]:
    """A ground truth of two categories numbered from 1, and detections equal to it but for a change."""
    drawn = boxes(3, count)
    entries = [
        {"image_id": 10 + i, "category_id": 1 + i % 2, "bbox": box.tolist()} for i, box in enumerate(drawn)
    ]
    listed = [
        {"id": 10 + i, "file_name": f"road/frame_{i:04d}.jpg", "width": SIZE[0], "height": SIZE[1]}
        for i in range(count)
    ]
    categories = [{"id": 1, "name": "pothole"}, {"id": 2, "name": "crack"}]
    root.mkdir(parents=True, exist_ok=True)
    truth = {
        "images": listed,
        "categories": categories,
        "annotations": [{**e, "id": i, "iscrowd": 0} for i, e in enumerate(entries)],
    }
    (root / "gt.json").write_text(json.dumps(truth))
    (root / "dt.json").write_text(json.dumps([change({**e, "score": 0.5}) for e in entries]))
    return {"ground_truth": root / "gt.json", "predictions": root / "dt.json"}


def ap50(files: dict[str, Path]) -> tuple[float, list[str]]:
    result = score(ScoreOptions(**files))
    return result["overall"]["ap50"], result["notes"]


def stem(entry: dict) -> dict:
    """As Ultralytics writes predictions of a dataset of one's own."""
    number = entry["image_id"] - 10
    return {**entry, "image_id": f"frame_{number:04d}", "file_name": f"frame_{number:04d}.jpg"}


def named_from_zero(entry: dict) -> dict:
    """As SAHI writes predictions."""
    number = entry["category_id"] - 1
    return {**entry, "category_id": number, "category_name": ["pothole", "crack"][number]}


def test_score_reads_ids_as_other_programs_write_them(tmp_path: Path) -> None:
    assert ap50(coco_files(tmp_path / "a")) == (1.0, [])
    assert ap50(coco_files(tmp_path / "b", stem)) == (1.0, [])
    # Ultralytics numbers classes from 0 in some versions.
    value, notes = ap50(
        coco_files(tmp_path / "d", lambda e: {**stem(e), "category_id": e["category_id"] - 1})
    )
    assert value == 1.0
    assert "count from 0, those of the ground truth from 1; read so" in notes[0]
    value, notes = ap50(coco_files(tmp_path / "c", named_from_zero))
    assert value == 1.0
    assert "the names are used" in notes[0]


def test_a_file_name_outweighs_a_number(tmp_path: Path) -> None:
    # Ultralytics writes the number that a stem spells: of 0002.jpg, 2, which is the id of another image.
    files = coco_files(
        tmp_path, lambda e: {**e, "image_id": e["image_id"] - 10 + 11, "file_name": stem(e)["file_name"]}
    )
    truth = json.loads(files["ground_truth"].read_text())
    truth["images"].append(
        {"id": 10 + 12, "file_name": "road/one_more.jpg", "width": SIZE[0], "height": SIZE[1]}
    )
    files["ground_truth"].write_text(json.dumps(truth))
    assert ap50(files)[0] == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: {**e, "bbox": [v / s for v, s in zip(e["bbox"], SIZE * 2, strict=True)]}, "fractions"),
        (
            lambda e: {
                **e,
                "bbox": [*e["bbox"][:2], e["bbox"][0] + e["bbox"][2], e["bbox"][1] + e["bbox"][3]],
            },
            "left, top, right, bottom",
        ),
        (
            lambda e: {**e, "category_id": e["category_id"] - 1},
            "count from 0, those of the ground truth from 1",
        ),
        (lambda e: {**e, "category_id": 3 - e["category_id"]}, r"AP50 is 1\.00 regardless of category"),
        (lambda e: {**e, "image_id": "elsewhere"}, r"first ids \['elsewhere'\]; use its ids"),
    ],
)
def test_score_refuses_what_would_give_nought(tmp_path: Path, change, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ap50(coco_files(tmp_path, change))


def test_a_ground_truth_of_masks_only_is_read_as_objects(tmp_path: Path) -> None:
    files = coco_files(tmp_path)
    truth = json.loads(files["ground_truth"].read_text())
    truth["annotations"] = [{**a, "iscrowd": 1} for a in truth["annotations"]]
    files["ground_truth"].write_text(json.dumps(truth))
    value, notes = ap50(files)
    assert value == 1.0
    assert "every annotation is marked iscrowd" in notes[0]


def test_predictions_of_a_report_are_checked_as_those_of_score(tmp_path: Path) -> None:
    images(tmp_path / "d", [f"frame_{i:04d}.jpg" for i in range(12)], SIZE)
    source = open_source(str(tmp_path / "d"), cache=tmp_path, classes=["pothole", "crack"])
    from_one = coco_files(tmp_path, stem)["predictions"]
    assert read_results(from_one, source, ["pothole", "crack"])["label"].tolist() == [0, 1] * 6
    named = coco_files(tmp_path, lambda e: named_from_zero(stem(e)))["predictions"]
    # The detector's order is another than the file's.
    assert read_results(named, source, ["crack", "pothole"])["label"].tolist() == [1, 0] * 6
    fractions = coco_files(tmp_path, lambda e: {**stem(e), "bbox": [v / 640 for v in e["bbox"]]})[
        "predictions"
    ]
    with pytest.raises(InputError, match="fractions of the image"):
        read_results(fractions, source, ["pothole", "crack"])


def test_a_report_says_that_classes_are_numbered_differently() -> None:
    in_domain = make_domain(clips=6, classes=("car", "bus"))
    real_world = make_domain("real_world", clips=6, seed=1, classes=("car", "bus"))
    swapped = replace(
        real_world, annotations=real_world.annotations.assign(label=1 - real_world.annotations["label"])
    )
    for domain, expected in ((real_world, []), (swapped, [swapped.name])):
        findings = find(Inputs(in_domain, [domain], None, __import__("pandas").DataFrame()))
        assert list(findings.ap50_of_other_classes) == expected
        assert sum("number their classes differently" in line for line in _warnings(findings)) == len(
            expected
        )
    assert (
        ap50_of_other_classes(
            swapped.annotation_arrays,
            swapped.detection_arrays,
            n_images=swapped.table.n_images,
            n_classes=2,
            ap50=float(
                weighted_coco_metrics(swapped.table, np.ones((1, swapped.table.n_images), bool))["ap50"][0]
            ),
        )
        is not None
    )


@pytest.mark.parametrize("first", [0, 1])
def test_own_predictions_are_scored_whatever_number_the_first_class_has(tmp_path: Path, first: int) -> None:
    domain = make_domain(clips=4, classes=("car", "bus"))
    detections = domain.detections.assign(label=np.arange(len(domain.detections)) % 2)
    (tmp_path / "dt.json").write_text(json.dumps(coco_results(detections, domain.classes)))
    boxes = detections[["x1", "y1", "x2", "y2"]].to_numpy()
    truth = {
        "images": [
            {"id": n, "file_name": name, "width": 9999, "height": 9999}
            for n, name in enumerate(domain.images["image"])
        ],
        "categories": [{"id": first, "name": "car"}, {"id": first + 1, "name": "bus"}],
    }
    numbers = {image["file_name"]: image["id"] for image in truth["images"]}
    truth["annotations"] = [
        {
            "id": n,
            "image_id": numbers[image],
            "category_id": int(label) + first,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
        }
        for n, (image, label, (x1, y1, x2, y2)) in enumerate(
            zip(detections["image"], detections["label"], boxes.tolist(), strict=True)
        )
    ]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    value, _ = ap50({"ground_truth": tmp_path / "gt.json", "predictions": tmp_path / "dt.json"})
    assert value > 0.99
