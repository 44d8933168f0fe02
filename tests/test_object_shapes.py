"""AP of masks and key points: overlaps against pycocotools, AP against pycocotools and Ultralytics."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ultralytics import YOLO

from datasets.masks import decode_runs
from datasets.shapes import Mask, Shape, cut, mask_of, pack_mask, pack_points, unpack
from datasets.source import open_source
from diagnostics.domain import Domain
from diagnostics.intervals import ap_and_ap50_intervals
from diagnostics.object_shapes import score_shapes
from reports.page.outlines import Outline, outlines_of
from tests.conftest import run_in_process
from tests.test_architectures import lively

SIDE = 96


def random_mask(rng: np.random.Generator, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """An ellipse, sometimes with a hole."""
    canvas = np.zeros((height, width), np.uint8)
    centre = rng.integers(10, min(height, width) - 10, 2)
    axes = rng.integers(3, 25, 2)
    cv2.ellipse(
        canvas, tuple(map(int, centre)), tuple(map(int, axes)), float(rng.integers(180)), 0, 360, 1, -1
    )
    if rng.random() < 0.3:
        cv2.circle(canvas, tuple(map(int, centre)), 2, 0, -1)
    return canvas.astype(bool)


def runs_of(mask: np.ndarray) -> dict:
    """COCO's compressed runs, as pycocotools writes them."""
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def test_overlaps_of_masks_equal_those_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    masks = [random_mask(rng) for _ in range(30)]
    packed = [unpack(pack_mask(mask)) for mask in masks]
    encoded = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    expected = coco_mask.iou(encoded, encoded, [0] * len(masks))
    for i, one in enumerate(packed):
        assert isinstance(one, Mask)
        np.testing.assert_array_equal(decode_runs(runs_of(masks[i])).astype(bool), masks[i])
        for j, other in enumerate(packed):
            assert isinstance(other, Mask)
            shared = one.shared(other)
            assert shared / (one.area + other.area - shared) == pytest.approx(expected[i, j])


def test_an_empty_mask_and_key_points_are_packed_too() -> None:
    empty = unpack(pack_mask(np.zeros((4, 7), bool)))
    assert isinstance(empty, Mask)
    assert (empty.area, empty.size) == (0, (4, 7))
    assert empty.shared(cut(np.ones((4, 7), bool))) == 0
    points = np.array([[1.5, 2.0, 0.9], [3.0, 4.0, 0.1]])
    np.testing.assert_allclose(unpack(pack_points(points)), points[:, :2])


def test_a_polygon_covers_what_it_encloses_at_any_size() -> None:
    square = Shape("polygons", ((0.25, 0.25, 0.75, 0.25, 0.75, 0.75, 0.25, 0.75),))
    for side in (40, 200):
        assert mask_of(square, (0, 0, 1, 1), (side, side)).area / side**2 == pytest.approx(0.25, abs=0.03)
    # Without a shape, the box stands for it.
    assert mask_of(None, (0.25, 0.25, 0.75, 0.75), (200, 200)).area / 200**2 == pytest.approx(0.25, abs=0.01)


def mask_problem(rng: np.random.Generator, images: int) -> tuple[Domain, dict, list]:
    """A domain of masks, and the same as COCO's ground truth and results."""
    names = [f"{number}.jpg" for number in range(images)]
    truth: dict = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    annotations, detections, results = [], [], []
    for number, name in enumerate(names):
        truth["images"].append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
        for _ in range(int(rng.integers(0, 5))):
            mask, label, crowd = random_mask(rng), int(rng.integers(2)), bool(rng.random() < 0.1)
            part = cut(mask)
            box = [part.left, part.top, *part.part.shape[::-1]]
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": number,
                    "category_id": label + 1,
                    "segmentation": runs_of(mask),
                    "bbox": box,
                    "area": int(mask.sum()),
                    "iscrowd": int(crowd),
                }
            )
            corners = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
            annotations.append((name, label, *corners, crowd, Shape("runs", runs_of(mask))))
            for _ in range(int(rng.integers(0, 3))):
                moved = np.roll(mask, tuple(rng.integers(-4, 5, 2)), (0, 1))
                found, score = cut(moved), float(rng.random())
                guess = label if rng.random() < 0.9 else 1 - label
                results.append(
                    {
                        "image_id": number,
                        "category_id": guess + 1,
                        "segmentation": runs_of(moved),
                        "score": score,
                    }
                )
                height, width = found.part.shape
                corners = [found.left, found.top, found.left + width, found.top + height]
                detections.append((name, guess, *corners, score, pack_mask(moved)))
    columns = ["image", "label", "x1", "y1", "x2", "y2"]
    images_table = pd.DataFrame(
        {"image": names, "path": names, "width": SIDE, "height": SIDE, "labelled": True, "group": names}
    )
    domain = Domain(
        "masks",
        "real_world",
        images_table,
        pd.DataFrame(annotations, columns=[*columns, "crowd", "shape"]),
        pd.DataFrame(detections, columns=[*columns, "confidence", "shape"]),
        np.zeros((images, 0)),
        np.zeros((len(detections), 0)),
        SIDE,
        ("a", "b"),
    )
    return domain, truth, results


def coco_ap(truth: dict, results: list, kind: str) -> tuple[float, float]:
    """AP and AP50 by pycocotools."""
    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(results), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, -1]
    valid = precision > -1
    return float(precision[valid].mean()), float(precision[0][valid[0]].mean())


@pytest.mark.parametrize("seed", range(4))
def test_ap_of_masks_equals_pycocotools(seed: int) -> None:
    domain, truth, results = mask_problem(np.random.default_rng(seed), 25)
    scores = score_shapes(domain, "masks", seed=0)
    assert scores is not None
    assert (scores.ap, scores.ap50) == pytest.approx(coco_ap(truth, results, "segm"), abs=1e-9)
    assert scores.annotations == sum(not a["iscrowd"] for a in truth["annotations"])
    assert score_shapes(domain, "key points", seed=0) is None


def test_masks_that_fill_their_boxes_have_the_intervals_of_the_boxes() -> None:
    domain, *_ = mask_problem(np.random.default_rng(8), 40)

    def filled(row: pd.Series) -> np.ndarray:
        whole = np.zeros((SIDE, SIDE), bool)
        whole[row["y1"] : row["y2"], row["x1"] : row["x2"]] = True
        return whole

    annotations, detections = (
        table.assign(shape=pd.Series([write(filled(row)) for _, row in table.iterrows()], dtype=object))
        for table, write in (
            (domain.annotations, lambda mask: Shape("runs", runs_of(mask))),
            (domain.detections, pack_mask),
        )
    )
    boxes = replace(domain, annotations=annotations, detections=detections)
    scores = score_shapes(boxes, "masks", seed=3)
    assert scores is not None
    expected = ap_and_ap50_intervals(boxes.table, boxes.interval_units, seed=3)
    assert (scores.ap_interval, scores.ap50_interval) == expected
    assert scores.ap50_interval.low < scores.ap50 < scores.ap50_interval.high
    # Of other clips and other masks there is another one.
    assert score_shapes(domain, "masks", seed=3).ap50_interval != scores.ap50_interval


def point_problem(rng: np.random.Generator, images: int) -> tuple[Domain, dict, list]:
    """A domain of persons with 17 key points, and the same as COCO's ground truth and results."""
    names = [f"{number}.jpg" for number in range(images)]
    truth: dict = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    annotations, detections, results = [], [], []
    for number, name in enumerate(names):
        truth["images"].append({"id": number, "file_name": name, "width": 640, "height": 480})
        for _ in range(int(rng.integers(1, 4))):
            side = rng.uniform(40, 200)
            corner = rng.uniform(0, 250, 2)
            points = corner + rng.uniform(0, side, (17, 2))
            visible = rng.integers(0, 3, 17)
            visible[0] = 2
            box = [*corner, side, side]
            flat = np.column_stack([points, visible]).ravel()
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "keypoints": flat.tolist(),
                    "num_keypoints": int((visible > 0).sum()),
                    "bbox": box,
                    # As Ultralytics' validation takes it, where nobody annotated an area.
                    "area": 0.53 * side * side,
                    "iscrowd": 0,
                }
            )
            fractions = flat.reshape(17, 3) / (640, 480, 1)
            corners = [*corner, *(corner + side)]
            annotations.append((name, 0, *corners, False, Shape("points", tuple(fractions.ravel()))))
            for _ in range(int(rng.integers(0, 3))):
                guess = points + rng.normal(0, 0.06 * side * rng.random(), (17, 2))
                score = float(rng.random())
                results.append(
                    {
                        "image_id": number,
                        "category_id": 1,
                        "keypoints": np.column_stack([guess, np.ones(17)]).ravel().tolist(),
                        "score": score,
                    }
                )
                detections.append((name, 0, *corners, score, pack_points(guess)))
    columns = ["image", "label", "x1", "y1", "x2", "y2"]
    images_table = pd.DataFrame(
        {"image": names, "path": names, "width": 640, "height": 480, "labelled": True, "group": names}
    )
    domain = Domain(
        "points",
        "real_world",
        images_table,
        pd.DataFrame(annotations, columns=[*columns, "crowd", "shape"]),
        pd.DataFrame(detections, columns=[*columns, "confidence", "shape"]),
        np.zeros((images, 0)),
        np.zeros((len(detections), 0)),
        640,
        ("person",),
    )
    return domain, truth, results


@pytest.mark.parametrize("seed", range(3))
def test_ap_of_key_points_equals_pycocotools(seed: int) -> None:
    domain, truth, results = point_problem(np.random.default_rng(seed), 30)
    scores = score_shapes(domain, "key points", seed=0)
    assert scores is not None
    assert (scores.ap, scores.ap50) == pytest.approx(coco_ap(truth, results, "keypoints"), abs=1e-6)


def test_labels_with_another_number_of_key_points_are_not_scored() -> None:
    domain, *_ = point_problem(np.random.default_rng(0), 5)
    fewer = [Shape("points", shape.numbers[: 3 * 13]) for shape in domain.annotations["shape"]]
    changed = replace(domain, annotations=domain.annotations.assign(shape=pd.Series(fewer, dtype=object)))
    assert score_shapes(changed, "key points", seed=0) is None
    nothing = replace(domain, detections=domain.detections.head(0), detection_embeddings=np.zeros((0, 0)))
    scores = score_shapes(nothing, "key points", seed=0)
    assert scores is None or scores.ap50 == 0


def test_persons_without_an_annotated_point_count_neither_way() -> None:
    domain, truth, results = point_problem(np.random.default_rng(3), 30)
    for number in (0, 4, 9):
        shape = domain.annotations.loc[number, "shape"]
        bare = np.array(shape.numbers).reshape(-1, 3) * (1, 1, 0)
        domain.annotations["shape"] = domain.annotations["shape"].where(
            domain.annotations.index != number,
            pd.Series([Shape("points", tuple(bare.ravel()))] * len(domain.annotations)),
        )
        points = np.array(truth["annotations"][number]["keypoints"]).reshape(-1, 3) * (1, 1, 0)
        truth["annotations"][number] |= {
            "keypoints": points.ravel().tolist(),
            "num_keypoints": 0,
            "iscrowd": 0,
        }
    scores = score_shapes(domain, "key points", seed=0)
    assert scores is not None
    assert scores.without == 3
    _, expected = coco_ap(truth, results, "keypoints")
    # pycocotools forgives detections near the box by its own measure of distance, so that nearly all are
    # alike.
    assert scores.ap50 == pytest.approx(expected, abs=0.03)


def test_a_coco_file_with_masks_and_key_points_gives_what_is_wanted(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((50, 100, 3), np.uint8))
    outline = [10, 10, 60, 10, 60, 40]
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [10, 10, 50, 30],
        "iscrowd": 0,
        "area": 750,
    }
    annotation |= {"segmentation": [outline], "keypoints": [20, 20, 2, 0, 0, 0]}
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}],
        "annotations": [annotation],
    }
    truth["categories"] = [{"id": 1, "name": "person"}]
    (tmp_path / "coco.json").write_text(json.dumps(truth))
    given = {
        kind: open_source(str(tmp_path / "coco.json"), cache=tmp_path, shapes=kind)
        .annotations["shape"]
        .iloc[0]
        for kind in ("masks", "key points")
    }
    assert given["masks"] == Shape("polygons", ((0.1, 0.2, 0.6, 0.2, 0.6, 0.8),))
    assert given["key points"] == Shape("points", (0.2, 0.4, 2.0, 0.0, 0.0, 0.0))


def test_annotations_without_a_shape_count_neither_way() -> None:
    domain, truth, results = mask_problem(np.random.default_rng(7), 25)
    chosen = [number for number, a in enumerate(truth["annotations"]) if not a["iscrowd"]][:3]
    for number in chosen:
        domain.annotations.loc[number, "shape"] = None
        # What a crowd of the box's extent does.
        whole = np.zeros((SIDE, SIDE), bool)
        x, y, width, height = truth["annotations"][number]["bbox"]
        whole[y : y + height + 1, x : x + width + 1] = True
        truth["annotations"][number] |= {"segmentation": runs_of(whole), "iscrowd": 1}
    scores = score_shapes(domain, "masks", seed=0)
    assert scores is not None
    assert scores.without == 3
    assert (scores.ap, scores.ap50) == pytest.approx(coco_ap(truth, results, "segm"), abs=1e-9)


def drawn(outline: Outline) -> np.ndarray:
    """What the rings of a mask enclose, read from the SVG path that the page draws, without the box."""
    rings = [
        np.array([float(number) for number in re.findall(r"-?[\d.]+", ring)]).reshape(-1, 2)
        for ring in outline.path(0, 0, 1, SIDE).split("Z")[1:-1]
    ]
    canvas = np.zeros((8 * SIDE, 8 * SIDE), np.uint8)
    cv2.fillPoly(canvas, [np.round(8 * ring).astype(np.int32) for ring in rings], 1)
    return cv2.resize(canvas.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA) >= 0.5


def test_the_page_draws_masks_as_they_are() -> None:
    domain, *_ = mask_problem(np.random.default_rng(5), 12)
    measured = 0
    for boxes in (domain.annotations, domain.detections):
        for outline, shape in zip(outlines_of(domain, boxes), boxes["shape"], strict=True):
            mask = unpack(shape) if isinstance(shape, bytes) else cut(decode_runs(shape.numbers) > 0)
            assert isinstance(mask, Mask)
            # OpenCV's rings run through the middle of the border's pixels, which thin masks consist of.
            if mask.area < 60:
                continue
            seen = cut(drawn(outline))
            shared = mask.shared(seen)
            assert shared / (mask.area + seen.area - shared) > 0.7
            measured += 1
    assert measured > 20


def test_the_page_draws_key_points_where_they_are() -> None:
    domain, *_ = point_problem(np.random.default_rng(5), 4)
    for outline, shape in zip(
        outlines_of(domain, domain.annotations), domain.annotations["shape"], strict=True
    ):
        points = np.array(shape.numbers).reshape(17, 3)
        expected = points[points[:, 2] > 0, :2] * (640, 480)
        np.testing.assert_allclose(outline.points, expected)
        # One ring for the box, and a circle for each point, half of whose width is left of it.
        _, *circles = outline.path(0, 0, 1, 160).split("M")[1:]
        begins = [[float(number) for number in re.findall(r"-?[\d.]+", circle)[:2]] for circle in circles]
        np.testing.assert_allclose(begins, expected - (1, 0), atol=0.051)


@pytest.mark.parametrize("name", ["yolo11n-seg", "yolo11n-pose"])
def test_a_report_scores_the_shapes_of_a_models_own_detections(name: str, tmp_path: Path) -> None:
    weights = lively(name, tmp_path / "net.pt")
    model, rng, folder = YOLO(str(weights)), np.random.default_rng(0), tmp_path / "data"
    is_pose = name.endswith("pose")
    for part in ("images", "labels"):
        (folder / part / "val").mkdir(parents=True)
    results = []
    for number in range(6):
        # Wide and tall ones, so that there is something around the image in the network's input.
        shape = ((90, 128), (128, 100))[number % 2]
        pixels = cv2.GaussianBlur(rng.integers(0, 256, (*shape, 3), np.uint8), (0, 0), 3)
        path = folder / "images" / "val" / f"{number}.png"
        cv2.imwrite(str(path), cv2.normalize(pixels, pixels, 0, 255, cv2.NORM_MINMAX))
        results += model.predict(str(path), imgsz=128, conf=0.001, device="cpu", verbose=False)
    # Labelled is what is detected more confidently than all else, in any image.
    lowest = np.sort(np.concatenate([result.boxes.conf.numpy() for result in results]))[-40]
    for number, result in enumerate(results):
        rows = []
        for at in np.flatnonzero(result.boxes.conf.numpy() >= lowest).tolist():
            if is_pose:
                points = result.keypoints.xyn[at].numpy()
                values = [*result.boxes.xywhn[at].tolist(), *np.insert(points, 2, 2, axis=1).ravel()]
            else:
                values = list(result.masks.xyn[at].ravel())
            numbers = " ".join(f"{float(value):.5f}" for value in values)
            rows.append(f"{int(result.boxes.cls[at])} {numbers}")
        (folder / "labels" / "val" / f"{number}.txt").write_text("\n".join(rows) + "\n")
    card = {"path": str(folder), "val": "images/val", "names": dict(model.names)}
    card |= {"kpt_shape": [17, 3]} if is_pose else {}
    (folder / "data.yaml").write_text(yaml.safe_dump(card))
    arguments = [
        "report",
        "--weights",
        str(weights),
        "--in-domain",
        str(folder / "data.yaml"),
        "--imgsz",
        "128",
    ]
    told = run_in_process(*arguments, "--no-fiftyone", "--effort", "quick", "--out", "out", cwd=tmp_path)
    # What was kept for the page is in no table.
    assert "shape" not in pd.read_parquet(tmp_path / "out" / "tables" / "detections.parquet")
    assert told.code == 0, told.stderr
    (scores,) = json.loads((tmp_path / "out" / "report.json").read_text())["shapes"]
    assert scores["kind"] == ("key points" if is_pose else "masks")
    assert scores["annotations"] > 10
    assert scores["ap50"] > 0.9
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'data-test="shapes"' in page
    assert f"{scores['ap50']:.2f}" in page[page.index('data-test="shapes"') :][:3000]
    # The gallery draws more than the four corners of boxes: rings of masks, or circles of key points.
    views = json.loads(page.split('id="views-data">')[1].split("</script>")[0])
    drawn_paths = [path for view in views for _, path, *_ in view["boxes"]]
    assert drawn_paths
    assert sum(path.count("M") > 1 for path in drawn_paths) > len(drawn_paths) / 2
    assert any("a" in path for path in drawn_paths) == is_pose


def test_shapes_are_read_from_yolo_rows_and_from_coco_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.jpg"), np.zeros((50, 100, 3), np.uint8))
    (tmp_path / "labels" / "a.txt").write_text("0 0.1 0.2 0.5 0.2 0.5 0.8\n0 0.5 0.5 0.2 0.2\n")
    assert "shape" not in open_source(str(tmp_path), cache=tmp_path, classes=["a"]).annotations
    read = open_source(str(tmp_path), cache=tmp_path, classes=["a"], shapes="masks").annotations
    assert read["shape"].tolist() == [Shape("polygons", ((0.1, 0.2, 0.5, 0.2, 0.5, 0.8),)), None]
    (tmp_path / "data.yaml").write_text("path: .\nval: images\nnames: [a]\nkpt_shape: [2, 3]\n")
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.4 0.4 0.4 0.5 2 0.6 0.5 0\n")
    read = open_source(str(tmp_path / "data.yaml"), cache=tmp_path, shapes="key points").annotations
    assert read["shape"].tolist() == [Shape("points", (0.4, 0.5, 2.0, 0.6, 0.5, 0.0))]
