"""Labels of other tools: the same tables from every format, and a reason for every row that is not used."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.errors import InputError
from datasets.formats.described import ImageIndex
from datasets.formats.registry import FORMATS, format_of
from datasets.masks import extent_of
from datasets.source import open_source
from datasets.tables import CORNERS, Source
from tests.label_writers import WITHOUT_BACKGROUND, WRITERS, LabelledImage, dump, text

SIZE = (64, 48)


def images(root: Path, names: list[str], size: tuple[int, int] = SIZE) -> None:
    (root / "images").mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        cv2.imwrite(str(root / "images" / name), cv2.GaussianBlur(noise, (0, 0), 4))


def opened(root: Path, **options) -> Source:
    return open_source(str(root), cache=root.parent / "cache", **options)


def objects_of(source: Source) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """Image name -> its objects, from the tables."""
    found: dict[str, list] = {
        Path(image).name: [] for image in source.images.loc[source.images["labelled"], "image"]
    }
    for row in source.annotations.to_dict("records"):
        corners = tuple(round(row[column], 3) for column in CORNERS)
        found[Path(row["image"]).name].append((source.classes[row["label"]], corners))
    return {name: sorted(rows) for name, rows in found.items()}


@st.composite
def labelled_images(draw: st.DrawFn) -> list[LabelledImage]:
    drawn = []
    for number in range(draw(st.integers(2, 4))):
        objects = []
        for _ in range(draw(st.integers(0, 3))):
            x1, y1 = draw(st.integers(0, 50)), draw(st.integers(0, 36))
            x2, y2 = draw(st.integers(x1 + 2, SIZE[0])), draw(st.integers(y1 + 2, SIZE[1]))
            name = draw(st.sampled_from(["pothole", "crack", "traffic cone"]))
            if (name, (x1, y1, x2, y2)) not in objects:
                objects.append((name, (x1, y1, x2, y2)))
        drawn.append(LabelledImage(f"clip{number % 2}_{number:04d}.jpg", SIZE, objects))
    # Something to tell a format by, and away from the first pixel.
    drawn[0].objects.append(("crack", (5, 6, 33, 41)))
    drawn[1].objects.append(("pothole", (7, 9, 60, 47)))
    return drawn


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=12, deadline=None)
@given(drawn=labelled_images())
def test_every_format_gives_the_same_tables(name: str, drawn: list[LabelledImage]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "road"
        images(root, [labelled_image.name for labelled_image in drawn])
        if name in ("dota", "kitti"):
            # Names there have no spaces.
            drawn = [
                LabelledImage(p.name, p.size, [(n.replace(" ", ""), b) for n, b in p.objects]) for p in drawn
            ]
        WRITERS[name](root, drawn)
        source = opened(root)
        expected = {
            p.name: sorted((n, tuple(map(float, b))) for n, b in p.objects)
            for p in drawn
            if p.objects or name not in WITHOUT_BACKGROUND
        }
        found = objects_of(source)
        assert found.keys() == expected.keys()
        for image, rows in expected.items():
            assert [n for n, _ in found[image]] == [n for n, _ in rows]
            np.testing.assert_allclose(
                [corners for _, corners in found[image]], [corners for _, corners in rows], atol=2e-3
            )
        assert not source.ledger["path"].duplicated().any()
        assert (source.ledger["bucket"] == "used").all()
        assert not source.annotations["crowd"].any()


def test_every_registered_format_is_written_by_a_test_and_told_apart(tmp_path: Path) -> None:
    drawn = [
        LabelledImage("a_1.jpg", SIZE, [("car", (5, 6, 33, 41))]),
        LabelledImage("b_1.jpg", SIZE, [("bus", (1, 2, 30, 40))]),
    ]
    told = set()
    for name, writer in WRITERS.items():
        root = tmp_path / name
        images(root, [p.name for p in drawn])
        writer(root, drawn)
        formats = {f.name for path in root.rglob("*") if path.is_file() and (f := format_of(path))}
        assert len(formats) <= 1, (name, formats)
        told |= formats
    assert told == {format_.name for format_ in FORMATS} - {"VisDrone"}


def test_visdrone_leaves_ignored_regions_out_of_every_class(tmp_path: Path) -> None:
    images(tmp_path / "d", ["0000001_01.jpg", "0000002_01.jpg", "0000003_01.jpg"])
    text(
        tmp_path / "d" / "annotations" / "0000001_01.txt",
        "4,5,20,30,1,4,0,1\n1,1,10,10,0,0,0,0\n2,2,12,12,0,11,0,0,\n",
    )
    text(tmp_path / "d" / "annotations" / "0000002_01.txt", "4,5,20,30,1,1,0,1\nbroken\n1,2,3,4,1,99,0,0\n")
    text(tmp_path / "d" / "annotations" / "0000003_01.txt", "")
    source = opened(tmp_path / "d")
    assert len(source.classes) == 10
    counted = source.annotations[~source.annotations["crowd"]]
    assert [source.classes[label] for label in counted["label"]] == ["car", "pedestrian"]
    assert counted[CORNERS].to_numpy().tolist()[0] == [4, 5, 24, 35]
    # Two regions, each ignored for ten classes.
    assert source.annotations["crowd"].sum() == 20
    assert sorted(source.rows["reason"]) == [
        "category 99 is not one of VisDrone's",
        "expected eight integers separated by commas",
    ]
    assert source.images["labelled"].all()


def test_yolo_files_are_no_visdrone_and_tracker_rows_are_named(tmp_path: Path) -> None:
    images(tmp_path / "d", ["000001.jpg", "000002.jpg"])
    text(tmp_path / "d" / "gt" / "gt.txt", "1,1,10,10,20,20,1,1,1\n2,1,11,10,20,20,1,1,1\n")
    source = opened(tmp_path / "d")
    assert not source.images["labelled"].any()
    reason = source.ledger.loc[source.ledger["path"].str.endswith("gt.txt"), "reason"].item()
    assert "tracker" in reason
    assert "COCO" in reason


@pytest.mark.parametrize("name", ["labelme", "cvat", "bdd", "createml", "via_json", "coco", "voc"])
def test_an_image_whose_objects_are_all_rejected_is_unlabelled(tmp_path: Path, name: str) -> None:
    drawn = [
        LabelledImage("a_1.jpg", SIZE, [("car", (5, 6, 33, 41))]),
        # Beyond the edge of the image.
        LabelledImage("b_1.jpg", SIZE, [("car", (100, 100, 130, 140))]),
        LabelledImage("c_1.jpg", SIZE, []),
    ]
    images(tmp_path / "d", [p.name for p in drawn])
    WRITERS[name](tmp_path / "d", drawn)
    source = opened(tmp_path / "d")
    by_name = source.images.assign(name=source.images["path"].map(lambda path: Path(path).name)).set_index(
        "name"
    )
    assert by_name["labelled"].to_dict() == {"a_1.jpg": True, "b_1.jpg": False, "c_1.jpg": True}
    assert by_name["unusable"].to_dict() == {"a_1.jpg": False, "b_1.jpg": True, "c_1.jpg": False}


@pytest.mark.parametrize(
    "name", ["labelme", "cvat", "bdd", "createml", "via_json", "tensorflow_csv", "voc", "coco"]
)
def test_fractions_where_pixels_belong_are_refused(tmp_path: Path, name: str) -> None:
    boxes = [(0.1, 0.2, 0.4, 0.6), (0.3, 0.3, 0.9, 0.8)]
    drawn = [LabelledImage(f"{n}_1.jpg", SIZE, [("car", box) for box in boxes]) for n in "ab"]  # type: ignore[list-item]
    images(tmp_path / "d", [p.name for p in drawn])
    WRITERS[name](tmp_path / "d", drawn)
    with pytest.raises(InputError, match="look like fractions of the image"):
        opened(tmp_path / "d")


def test_images_in_folders_of_one_name_belong_to_their_labels(tmp_path: Path) -> None:
    for folder in ("day", "night"):
        images(tmp_path / "d" / folder, ["1.jpg"])
        text(tmp_path / "d" / folder / "labelTxt" / "1.txt", f"1 1 9 1 9 9 1 9 {folder}-car 0\n")
    found = opened(tmp_path / "d")
    named = {row["image"]: found.classes[row["label"]] for row in found.annotations.to_dict("records")}
    assert named == {"day/images/1.jpg": "day-car", "night/images/1.jpg": "night-car"}


def test_tasks_that_nobody_has_annotated_are_unlabelled(tmp_path: Path) -> None:
    images(tmp_path / "d", ["a.jpg", "b.jpg", "c.jpg"])
    turned = {"x": 50, "y": 25, "width": 25, "height": 25, "rotation": 90, "rectanglelabels": ["car"]}
    result = {"type": "rectanglelabels", "original_width": 64, "original_height": 48, "value": turned}
    dump(
        tmp_path / "d" / "tasks.json",
        [
            {"data": {"image": "/data/upload/1/a.jpg"}, "annotations": [{"result": [result]}]},
            {"data": {"image": "s3://bucket/b.jpg"}, "annotations": []},
            {
                "data": {"image": "/data/local-files/?d=x/c.jpg"},
                "annotations": [{"was_cancelled": True, "result": []}],
            },
        ],
    )
    source = opened(tmp_path / "d")
    assert source.images.set_index("image")["labelled"].to_dict() == {
        "images/a.jpg": True,
        "images/b.jpg": False,
        "images/c.jpg": False,
    }
    # A quarter turn clockwise about the upper left corner (32, 12): 16 wide, 12 high.
    np.testing.assert_allclose(source.annotations[CORNERS].to_numpy(), [[20, 12, 32, 28]], atol=1e-6)


@given(
    st.integers(1, 30).flatmap(
        lambda height: st.integers(1, 30).flatmap(
            lambda width: st.lists(st.booleans(), min_size=height * width, max_size=height * width).map(
                lambda bits: np.array(bits, np.uint8).reshape(height, width)
            )
        )
    )
)
def test_extents_of_masks_equal_pycocotools(mask: np.ndarray) -> None:
    from pycocotools import mask as oracle

    compressed = oracle.encode(np.asfortranarray(mask))
    encoded = {"size": compressed["size"], "counts": compressed["counts"].decode()}
    if not mask.any():
        with pytest.raises(ValueError, match="empty"):
            extent_of(encoded)
        return
    x, y, w, h = oracle.toBbox(compressed)
    assert extent_of(encoded) == (x, y, x + w, y + h)


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [4, 4], "counts": [0, 99]},
        {"size": [4, 4], "counts": [1, -1]},
        {"size": [0, 4], "counts": [0, 1]},
        {"size": [4, 4], "counts": "~~~"},
        {"size": [4, 4], "counts": "k" * 40},
        {"size": [4, 4], "counts": [2**62] * 4},
        {"size": [4, 4], "counts": "b''," + "-" * 1000 + "1,''"},
    ],
)
def test_broken_masks_are_refused(mask: dict) -> None:
    with pytest.raises(ValueError, match=r"."):
        extent_of(mask)


def test_an_unreadable_label_file_costs_its_image_only(tmp_path: Path) -> None:
    drawn = [LabelledImage(f"{n}_1.jpg", SIZE, [("car", (5, 6, 33, 41))]) for n in "ab"]
    images(tmp_path / "d", [p.name for p in drawn])
    WRITERS["labelme"](tmp_path / "d", drawn)
    content = json.loads((tmp_path / "d" / "images" / "b_1.json").read_text())
    (tmp_path / "d" / "images" / "b_1.json").write_text(json.dumps({**content, "shapes": {}}))
    source = opened(tmp_path / "d")
    assert source.images.set_index("image")["labelled"].to_dict() == {
        "images/a_1.jpg": True,
        "images/b_1.jpg": False,
    }
    failed = source.ledger[source.ledger["bucket"] == "failed"]
    assert failed["reason"].tolist() == ["LabelMe: has no list of shapes"]


def test_regions_that_kitti_does_not_care_about_count_for_no_class(tmp_path: Path) -> None:
    images(tmp_path / "d" / "training", ["000000.png"])
    (tmp_path / "d" / "training" / "images").rename(tmp_path / "d" / "training" / "image_2")
    rows = "Car 0 0 1 4 5 20 30 1 1 1 1 1 1 1\nDontCare -1 -1 -10 1 1 9 9 -1 -1 -1 -1000 -1000 -1000 -10\n"
    text(tmp_path / "d" / "training" / "label_2" / "000000.txt", rows)
    source = opened(tmp_path / "d")
    assert source.classes == ("Car",)
    assert source.annotations["crowd"].tolist() == [False, True]


def test_masks_beside_images_are_no_images(tmp_path: Path) -> None:
    images(tmp_path / "d", ["a.jpg", "b.jpg", "a_mask.png", "seg_b.png"])
    (tmp_path / "d" / "labels").mkdir()
    (tmp_path / "d" / "images" / "seg_b.png").rename(tmp_path / "d" / "labels" / "b.png")
    source = opened(tmp_path / "d")
    assert [Path(path).name for path in source.images["path"]] == ["a.jpg", "b.jpg"]
    assert (source.ledger["bucket"] == "skipped").sum() == 2


def coco(root: Path, names: list[str], **changes: object) -> Source:
    """A COCO file with one box an image, some of it changed, opened."""
    content: dict = {
        "images": [{"id": n, "file_name": name, "width": 64, "height": 48} for n, name in enumerate(names)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 3, "bbox": [5, 6, 20, 30], "iscrowd": 0}
            for n in range(len(names))
        ],
        "categories": [{"id": 3, "name": "car"}],
    }
    dump(root / "annotations.json", {**content, **{k: f(content[k]) for k, f in changes.items()}})  # type: ignore[operator]
    return opened(root)


def test_coco_ids_as_text_and_numbers_are_the_same(tmp_path: Path) -> None:
    images(tmp_path / "d", ["a.jpg", "b.jpg"])
    source = coco(
        tmp_path / "d",
        ["a.jpg", "b.jpg"],
        annotations=lambda rows: [{**r, "image_id": str(r["image_id"]), "category_id": 3.0} for r in rows],
        categories=lambda rows: [{**r, "id": "3"} for r in rows],
    )
    assert source.annotations.groupby("image").size().tolist() == [1, 1]
    with pytest.raises(InputError, match=r"no annotation has the image_id of one of its images.*'x0'"):
        coco(
            tmp_path / "d",
            ["a.jpg", "b.jpg"],
            annotations=lambda rows: [{**r, "image_id": f"x{r['image_id']}"} for r in rows],
        )


def test_coco_annotations_given_twice_count_once_and_marks_may_be_text(tmp_path: Path) -> None:
    images(tmp_path / "d", ["a.jpg", "b.jpg"])
    source = coco(
        tmp_path / "d",
        ["a.jpg", "b.jpg"],
        annotations=lambda rows: [{**r, "iscrowd": str(r["image_id"])} for r in rows * 2],
    )
    assert source.annotations["crowd"].tolist() == [False, True]
    assert source.rows["reason"].tolist() == ["duplicate annotation dropped"] * 2


def test_coco_names_as_addresses_in_another_case_and_shared(tmp_path: Path) -> None:
    images(tmp_path / "d", ["a b.jpg", "c.JPG", "0001.jpg"])
    names = ["https://x.invalid/a%20b.jpg?sig=1", "c.jpg", "camA/0001.jpg", "camB/0001.jpg"]
    source = coco(tmp_path / "d", names)
    labelled = source.images.set_index("image")["labelled"].to_dict()
    assert labelled == {"images/a b.jpg": True, "images/c.JPG": True, "images/0001.jpg": False}
    assert len(source.annotations) == 2
    assert "under several names" in source.ledger["reason"].str.cat(sep=" ")


def test_captions_beside_instances_are_skipped(tmp_path: Path) -> None:
    images(tmp_path / "d", ["a.jpg"])
    dump(tmp_path / "d" / "captions.json", {"images": [], "annotations": [{"caption": "a road"}], "info": {}})
    source = coco(tmp_path / "d", ["a.jpg"])
    assert len(source.annotations) == 1
    assert "captions" in source.ledger.set_index("path").loc[str(tmp_path / "d" / "captions.json"), "reason"]


def test_voc_corners_drawn_from_the_other_end_are_put_in_order(tmp_path: Path) -> None:
    drawn = [
        LabelledImage(f"{n}_1.jpg", SIZE, [("car", (33, 6, 5, 41)), ("car", (5, 6, 33, 41))]) for n in "ab"
    ]
    images(tmp_path / "d", [p.name for p in drawn])
    WRITERS["voc"](tmp_path / "d", drawn)
    source = opened(tmp_path / "d")
    assert source.annotations[CORNERS].to_numpy().tolist() == [[5, 6, 33, 41]] * 4
    assert source.rows["reason"].tolist() == ["corners exchanged: put in order"] * 2


def test_an_image_that_two_names_lead_to_is_not_labelled(tmp_path: Path) -> None:
    images(tmp_path / "d", ["1.jpg", "2.jpg"])
    node = (
        '<image name="{}" width="64" height="48"><box label="car" xtl="5" ytl="6" xbr="33" ybr="41"/></image>'
    )
    names = ["camA/1.jpg", "camB/1.jpg", "2.jpg"]
    xml = "".join(node.format(name) for name in names)
    text(tmp_path / "d" / "annotations.xml", f"<annotations><version>1.1</version>{xml}</annotations>")
    source = opened(tmp_path / "d")
    assert source.images.set_index("image")["labelled"].to_dict() == {
        "images/1.jpg": False,
        "images/2.jpg": True,
    }
    # The same of files with one image each: only the training image of KITTI is there.
    images(tmp_path / "k" / "training", ["000001.png"])
    row = "Car 0 0 1 4 5 20 30 1 1 1 1 1 1 1\n"
    for part in ("training", "testing"):
        text(tmp_path / "k" / part / "label_2" / "000001.txt", row)
    assert not opened(tmp_path / "k").images["labelled"].any()


def test_one_annotation_in_two_files_counts_once(tmp_path: Path) -> None:
    drawn = [LabelledImage(f"{n}_1.jpg", SIZE, [("car", (5, 6, 33, 41))]) for n in "ab"]
    images(tmp_path / "d", [p.name for p in drawn])
    WRITERS["via_json"](tmp_path / "d", drawn)
    shutil.copy(tmp_path / "d" / "via_project.json", tmp_path / "d" / "backup.json")
    source = opened(tmp_path / "d")
    assert len(source.annotations) == 2
    assert source.rows["reason"].tolist() == ["duplicate annotation dropped"] * 2


def test_one_stray_file_does_not_hide_the_labels(tmp_path: Path) -> None:
    images(tmp_path / "d", [f"{n}.jpg" for n in range(8)])
    for n in range(3):
        text(tmp_path / "d" / "labels" / f"{n}.txt", "0 0.5 0.5 0.2 0.2\n")
    one = [LabelledImage("7.jpg", SIZE, [("car", (5, 6, 33, 41))])]
    WRITERS["labelme"](tmp_path / "d", one)
    source = opened(tmp_path / "d")
    assert source.images["labelled"].sum() == 3
    reason = source.ledger.set_index("path").loc[str(tmp_path / "d" / "images" / "7.json"), "reason"]
    assert reason == "LabelMe annotations: not read, since other labels here are"
    # Other jsons that come first by name hide none either.
    for n in range(6):
        dump(tmp_path / "e" / "images" / f"a{n}.json", {"camera": n})
    images(tmp_path / "e", ["x.jpg"])
    WRITERS["labelme"](tmp_path / "e", [LabelledImage("x.jpg", SIZE, [("car", (5, 6, 33, 41))])])
    assert opened(tmp_path / "e").images["labelled"].all()


def test_a_renamed_labelme_file_belongs_to_the_image_beside_it(tmp_path: Path) -> None:
    drawn = [LabelledImage(f"{n}.jpg", SIZE, [(f"class{n}", (5, 6, 33, 41))]) for n in (1, 2)]
    images(tmp_path / "d", [p.name for p in drawn])
    WRITERS["labelme"](tmp_path / "d", drawn)
    first, second = (tmp_path / "d" / "images" / f"{n}.json" for n in (1, 2))
    content = json.loads(first.read_text()), json.loads(second.read_text())
    first.write_text(json.dumps({**content[0], "imagePath": "2.jpg"}))
    second.write_text(json.dumps({**content[1], "imagePath": "1.jpg"}))
    source = opened(tmp_path / "d")
    named = {row["image"]: source.classes[row["label"]] for row in source.annotations.to_dict("records")}
    assert named == {"images/1.jpg": "class1", "images/2.jpg": "class2"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "a.csv",
            "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,64,48,,1,2,9,9\na.jpg,64,48,car,1,2,30,40\n",
        ),
        (
            "a.json",
            '[{"image":"a.jpg","annotations":[{"label":"car","coordinates":{"x":1'
            + "0" * 400
            + ',"y":6,"width":4,"height":5}},{"label":"car","coordinates":{"x":9,"y":9,"width":9,"height":9}}]}]',
        ),
        (
            "a.json",
            '[{"image":"\\ud800.jpg","annotations":[]},{"image":"a.jpg","annotations":[{"label":"*","coordinates":{"x":9,"y":9,"width":9,"height":9}}]}]',
        ),
    ],
)
def test_odd_content_costs_its_row_or_its_file_only(tmp_path: Path, name: str, content: str) -> None:
    images(tmp_path / "d", ["a.jpg", "b.jpg"])
    text(tmp_path / "d" / name, content)
    text(
        tmp_path / "d" / "b.json",
        json.dumps(
            {
                "shapes": [{"label": "car", "points": [[1, 2], [30, 40]], "shape_type": "rectangle"}],
                "imagePath": "b.jpg",
            }
        ),
    )
    source = opened(tmp_path / "d")
    assert source.images.set_index("image")["labelled"]["images/b.jpg"]
    assert not source.annotations["crowd"].any()


def test_a_stray_click_is_no_file_in_fractions(tmp_path: Path) -> None:
    drawn = [LabelledImage(f"{n}.jpg", SIZE, [("car", (5, 6, 33, 41))]) for n in range(3)]
    drawn[1].objects[0] = ("car", (0, 0, 1, 1))
    images(tmp_path / "d", [p.name for p in drawn])
    WRITERS["labelme"](tmp_path / "d", drawn)
    assert opened(tmp_path / "d").images["labelled"].all()


def test_turned_boxes_and_ellipses_of_cvat_are_read_by_their_extent(tmp_path: Path) -> None:
    images(tmp_path / "d", ["a.jpg"])
    shapes = (
        '<box label="car" xtl="20" ytl="20" xbr="40" ybr="24" rotation="90"/>'
        '<ellipse label="car" cx="30" cy="22" rx="12" ry="2" rotation="90"/>'
    )
    xml = f'<annotations><version>1.1</version><image name="a.jpg" width="64" height="48">{shapes}</image></annotations>'
    text(tmp_path / "d" / "annotations" / "val.xml", xml)
    # Given alone, its images are searched beside its folder, as those of a COCO json.
    for spec in (tmp_path / "d", tmp_path / "d" / "annotations" / "val.xml"):
        source = open_source(str(spec), cache=tmp_path / "cache")
        expected = [[28, 12, 32, 32], [28, 10, 32, 34]]
        np.testing.assert_allclose(source.annotations[CORNERS], expected, atol=1e-6)
    assert source.rows["reason"].tolist() == ["box taken from a rotated box", "box taken from a ellipse"]


def test_many_recordings_with_images_of_one_name_are_found_quickly(tmp_path: Path) -> None:
    paths = [tmp_path / f"clip{n}" / "images" / f"{k:06d}.jpg" for n in range(3000) for k in (1, 2)]
    index = ImageIndex(paths)
    begin = time.perf_counter()
    for n in range(3000):
        assert index.find(f"clip{n}/images/000001.jpg", tmp_path / "labels.json") == paths[2 * n]
    assert time.perf_counter() - begin < 20


def test_masks_in_a_folder_of_their_own_are_no_images_and_masked_faces_are(tmp_path: Path) -> None:
    drawn = [LabelledImage("0.jpg", SIZE, [("car", (5, 6, 33, 41))])]
    images(tmp_path / "d", ["0.jpg"])
    WRITERS["labelme"](tmp_path / "d", drawn)
    cv2.imwrite(str(tmp_path / "d" / "m.png"), np.zeros((48, 64), np.uint8))
    (tmp_path / "d" / "masks").mkdir()
    (tmp_path / "d" / "m.png").rename(tmp_path / "d" / "masks" / "0.png")
    assert opened(tmp_path / "d").images["image"].tolist() == ["images/0.jpg"]
    images(tmp_path / "faces", ["a.jpg"])
    (tmp_path / "faces" / "images").rename(tmp_path / "faces" / "mask")
    assert len(opened(tmp_path / "faces").images) == 1


def test_lvis_names_images_by_their_addresses(tmp_path: Path) -> None:
    images(tmp_path / "d", ["000000000139.jpg"])
    address = "https://x.invalid/val2017/000000000139.jpg"
    source = coco(
        tmp_path / "d",
        ["000000000139.jpg"],
        images=lambda rows: [{"id": r["id"], "coco_url": address, "width": 64, "height": 48} for r in rows],
    )
    assert len(source.annotations) == 1
