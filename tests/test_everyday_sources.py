"""Sources as people have them: paths of another machine, archives, odd names, frames in folders."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.classes import same_but_spelling, with_classes
from datasets.containment import register_roots
from datasets.errors import InputError
from datasets.groups import assign
from datasets.labels import Row, are_poses, parse_row
from datasets.naming import domain_name
from datasets.pairing import enclosing_roots
from datasets.results import load_json
from datasets.shapes import Shape
from datasets.source import open_source
from reports.options import ReportOptions
from reports.pipeline.sources import open_domains
from tests.test_sources import dataset, image, label, tree
from train.history import read_history
from train.predictions import Settings
from train.run import Run, open_run, open_weights

CLASSES = ["pothole", "crack"]


def opened(spec: Path, **options):
    return open_source(str(spec), cache=spec.parent / "cache", **options)


def groups(*paths: str, classes: tuple[str, ...] = ()) -> list[list[str]]:
    """Paths by group, in order."""
    assigned, _ = assign(pd.Series(list(paths)), None, classes)
    return [list(part) for _, part in pd.Series(list(paths)).groupby(assigned.to_numpy(), sort=False)]


def numbered(*folders: str) -> list[list[str]]:
    return [[f"/data/{folder}/{number:06d}.jpg" for number in range(1, 5)] for folder in folders]


@pytest.mark.parametrize(
    "folders",
    [
        ("images/M0101", "images/M0202"),
        ("MOT17-02/img1", "MOT17-04/img1"),
        ("sequences/uav0000086_00000_v", "sequences/uav0000117_02622_v"),
        ("cam1", "cam2"),
        ("north", "south"),
    ],
)
def test_a_folder_of_numbered_frames_is_a_recording(folders: tuple[str, ...]) -> None:
    parts = numbered(*folders)
    assert groups(*[path for part in parts for path in part]) == parts


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (("train", "val"), ()),
        (("train/images", "valid/images"), ()),
        (("rain", "fog"), ()),
        (("rainy night", "clear_day"), ()),
        (("pothole", "crack"), ("pothole", "crack")),
        (("images",), ()),
    ],
)
def test_splits_weather_and_classes_are_no_recordings(
    folders: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    paths = [path for part in numbered(*folders) for path in part]
    assert groups(*paths, classes=classes) == [[path] for path in paths]


def test_names_that_repeat_across_folders_need_their_folder() -> None:
    there = [f"/d/{flight}/DJI_{n:04d}.jpg" for flight in ("flight 1", "flight 2") for n in range(3)]
    assert groups(*there) == [there[:3], there[3:]]
    # Splits hold frames of the same recordings, and copies of one original.
    split = [f"/d/{name}/clipA_{n}.jpg" for name in ("train", "val") for n in range(3)]
    assert groups(*split, "/d/val/clipB_1.jpg") == [split, ["/d/val/clipB_1.jpg"]]
    copies = [f"/d/{name}/a_jpg.rf.0123456789abcdef{n}.jpg" for name in ("train", "test") for n in range(2)]
    assert groups(*copies) == [copies]


def test_group_names_hold_no_folder_of_this_machine() -> None:
    paths = [path for part in numbered("train", "val") for path in part]
    assert not assign(pd.Series(paths), None)[0].str.contains("data").any()


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/content/drive/MyDrive/road/images/{}", None),
        ("C:\\Users\\me\\road\\images\\{}", None),
        ("/home/other/road/images/{}", "/home/other/road"),
        ("../images/{}", None),
    ],
)
def test_paths_of_another_machine_are_found_beside_the_yaml(
    tmp_path: Path, written: str, path: str | None
) -> None:
    root = dataset(tmp_path / "d")
    lines = [f"{key}: {written.format(folder)!s}" for key, folder in (("train", "train"), ("val", "val"))]
    lines += [f"path: {path}"] if path else []
    label(root / "data.yaml", "\n".join([*lines, "names: [pothole, crack]\n"]))
    source = opened(root)
    assert source.images.groupby("split").size().to_dict() == {"train": 3, "val": 2}


def test_two_paths_of_another_machine_are_not_taken_for_one_folder(tmp_path: Path) -> None:
    image(tmp_path / "d" / "images" / "a.jpg")
    label(
        tmp_path / "d" / "data.yaml", "train: /content/a/images\nval: /content/b/images\nnames: [pothole]\n"
    )
    with pytest.raises(InputError, match="could be either"):
        opened(tmp_path / "d")


def test_a_path_that_exists_elsewhere_is_not_replaced_by_one_here(tmp_path: Path) -> None:
    image(tmp_path / "private" / "images" / "secret.jpg")
    image(tmp_path / "d" / "images" / "a.jpg")
    label(tmp_path / "d" / "data.yaml", f"val: {tmp_path}/private/images\nnames: [pothole]\n")
    with pytest.raises(InputError, match="leads out of the source"):
        opened(tmp_path / "d")


def test_class_names_in_another_spelling_are_taken_and_said(tmp_path: Path) -> None:
    text = "train: images/train\nval: images/val\nnames: [Potholes, CRACK]\n"
    source = opened(dataset(tmp_path / "d", text))
    assert same_but_spelling(source, CLASSES) == {"Potholes": "pothole", "CRACK": "crack"}
    assert with_classes(source, CLASSES, {}).classes == ("pothole", "crack")
    lines: list[str] = []
    open_domains(ReportOptions(in_domain=(None, str(tmp_path / "d"))), None, CLASSES, lines.append)
    assert any("differ in spelling only: Potholes is pothole, CRACK is crack" in line for line in lines)
    # Two names that would be one are not guessed.
    both = replace(source, classes=("pothole", "Potholes"))
    assert same_but_spelling(both, CLASSES) == {}


def test_ids_without_names_are_said_with_the_models_names(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    (root / "data.yaml").unlink()
    lines: list[str] = []
    open_domains(ReportOptions(in_domain=(None, str(root))), None, CLASSES, lines.append)
    assert any("its ids are taken as the model's: 0 is pothole" in line for line in lines)
    label(root / "road.names", "crack\npothole\n")
    lines.clear()
    domains = open_domains(ReportOptions(in_domain=(None, str(root))), None, CLASSES, lines.append)
    assert not any("ids are taken" in line for line in lines)
    assert set(domains[0].source.annotations["label"]) == {1}


def test_one_folder_for_train_and_val_is_read_and_its_scores_are_of_training_images(tmp_path: Path) -> None:
    text = "train: images/train\nval: images/train\nnames: [pothole, crack]\n"
    root = dataset(tmp_path / "d", text)
    options = ReportOptions(in_domain=(None, str(root)), real_world=((None, str(root)),))
    training, in_domain, real_world = open_domains(options, None, CLASSES, lambda line: None)
    assert [len(d.source.images) for d in (training, in_domain, real_world)] == [3, 3, 3]
    assert in_domain.source.images["path"].tolist() == training.source.images["path"].tolist()


@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_an_archive_as_it_was_downloaded_is_a_source(tmp_path: Path, kind: str) -> None:
    root = dataset(tmp_path / "road")
    archive = Path(shutil.make_archive(str(tmp_path / "export"), kind, tmp_path, "road"))
    said: list[str] = []
    for _ in range(2):
        source = opened(archive, say=said.append)
        assert len(source.images) == 5
        assert len(source.annotations) == len(opened(root).annotations)
        assert "unpacked from" in source.origin
    assert sum("unpacking" in line for line in said) == 1
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as evil:
        evil.writestr("../out.txt", "x")
    with pytest.raises(InputError, match="leads out of its folder"):
        opened(tmp_path / "evil.zip")


def test_what_trainings_and_reports_wrote_below_a_source_is_no_data(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    before = len(opened(root).images)
    image(root / "runs" / "frames" / "flight-1" / "0001.jpg")
    image(root / "old training" / "train_batch0.jpg")
    label(root / "old training" / "args.yaml", "task: detect\n")
    label(root / "old training" / "data.yaml", "val: .\nnames: [x]\n")
    (root / "data.yaml").unlink()
    content = tree(root)
    source = opened(root, classes=CLASSES)
    assert len(source.images) == before
    skipped = source.ledger.loc[source.ledger["bucket"] == "skipped"].set_index("path")["reason"].to_dict()
    assert skipped[str(root / "runs")] == skipped[str(root / "old training")]
    assert tree(root) == content
    # A folder of that name that holds images is data.
    image(root / "runs" / "frames" / "x.jpg")
    shutil.rmtree(root / "runs")
    image(root / "runs" / "a.jpg")
    assert len(opened(root, classes=CLASSES).images) == before + 1


def test_label_studios_yolo_export_is_read(tmp_path: Path) -> None:
    image(tmp_path / "d" / "images" / "0a1b2c3d-a.jpg")
    label(tmp_path / "d" / "labels" / "0a1b2c3d-a.txt", "1 0.5 0.5 0.2 0.2\n")
    label(tmp_path / "d" / "classes.txt", "crack\npothole\n")
    label(tmp_path / "d" / "notes.json", json.dumps({"categories": [{"id": 0, "name": "crack"}], "info": {}}))
    source = opened(tmp_path / "d")
    assert source.classes == ("crack", "pothole")
    assert len(source.annotations) == 1


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("site_b/images/val", "site_b"),
        ("site_b/valid/images", "site_b"),
        ("site_b/data.yaml", "site_b"),
        ("flight.mp4", "flight"),
        ("overhead", "overhead"),
        ("road/annotations/val.json", "road"),
    ],
)
def test_domains_are_named_after_the_first_name_that_says_something(
    tmp_path: Path, spec: str, name: str
) -> None:
    path = tmp_path / spec
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.touch()
    else:
        path.mkdir()
    assert domain_name(str(path)) == name


YOLOV5 = """               epoch,      train/box_loss,      train/obj_loss,   metrics/precision,     metrics/mAP_0.5,metrics/mAP_0.5:0.95,        val/box_loss
                   0,                 0.1,                0.03,                0.05,                0.1,                0.05,                0.08
                   1,                0.09,                0.03,                0.15,                0.4,                0.20,                0.07
"""
RTDETR = "epoch,time,train/giou_loss,train/cls_loss,train/l1_loss,metrics/mAP50(B),val/giou_loss\n1,9,2,1,1,0.3,2\n2,9,1,1,1,0.5,1\n"


@pytest.mark.parametrize(("text", "ap50", "box_loss"), [(YOLOV5, 0.4, 0.09), (RTDETR, 0.5, 1.0)])
def test_histories_of_other_trainers(tmp_path: Path, text: str, ap50: float, box_loss: float) -> None:
    label(tmp_path / "results.csv", text)
    history = read_history(tmp_path / "results.csv")
    assert history["ap50"].iloc[-1] == ap50
    assert history["train_box_loss"].iloc[-1] == box_loss
    assert history["val_box_loss"].notna().all()


def run(**arguments: object) -> Run:
    return Run(None, Path("best.pt"), "0" * 64, 640, None, pd.DataFrame(), arguments)


def test_a_run_is_measured_as_it_says_it_validated() -> None:
    assert run().settings(320) == Settings(320)
    assert run(classes=None, iou=0.7, max_det=300, agnostic_nms=False).settings(320) == Settings(320)
    changed = run(classes=[0, 2], iou=0.6, max_det=50, agnostic_nms=True).settings(320)
    assert changed == Settings(320, iou=0.6, max_det=50, classes=(0, 2), agnostic_nms=True)
    # What was stored before these were settings stays valid.
    assert Settings(320).key("a") == Settings(320, classes=(), agnostic_nms=False).key("a")
    assert len({Settings(320).key("a"), changed.key("a"), Settings(320, classes=(0,)).key("a")}) == 3
    assert run().remarks == run(conf=0.001, split="val").remarks == []
    assert "conf: 0.25" in run(conf=0.25).remarks[0]
    assert "split: test" in run(split="test").remarks[0]
    assert "iou: 0.6" in run(iou=0.6).remarks[0]


def test_classes_and_fraction_of_a_run_are_honoured(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    label(root / "labels" / "val" / "c_001.txt", "0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.1 0.1\n")
    options = ReportOptions(in_domain=(None, str(root)), real_world=((None, str(root)),))
    said: list[str] = []
    training, in_domain, real_world = open_domains(
        options, run(classes=[0], fraction=0.34), CLASSES, said.append
    )
    assert sorted(Path(path).name for path in training.source.images["path"]) == ["a_001.jpg"]
    assert set(in_domain.source.annotations["label"]) == set(real_world.source.annotations["label"]) == {0}
    assert any("classes: [0]; 1 annotation of crack left out" in line for line in said)
    assert any("fraction: 0.34; 1 of 3 training images" in line for line in said)
    for fraction, kept in ((2, 2), ([0.67, 1.0], 2), (1, 3), (1.0, 3), (99, 3)):
        domains = open_domains(options, run(fraction=fraction), CLASSES, said.append)
        assert len(domains[0].source.images) == kept, fraction


def test_some_of_a_models_classes_are_matched_by_name(tmp_path: Path) -> None:
    """A detector of eighty classes on a set of two, numbered by itself."""
    root = dataset(tmp_path / "d")
    names = open_source(str(root), cache=tmp_path / "c").classes
    model = ["person", *reversed(names), "kite"]
    said: list[str] = []
    source = open_source(str(root), cache=tmp_path / "c")
    domains = open_domains(ReportOptions(in_domain=(None, str(root))), run(), model, said.append)
    mapped = domains[-1].source
    before = source.annotations[source.annotations["image"].isin(mapped.images["image"])]
    assert [source.classes[label] for label in before["label"]] == [
        model[label] for label in mapped.annotations["label"]
    ]
    assert len(mapped.annotations)
    assert any(f"names {len(names)} of the model's {len(model)} classes" in line for line in said)
    with pytest.raises(InputError, match="class names do not match"):
        with_classes(source, list(reversed(names)), {})


def test_single_class_runs_take_every_class_for_theirs(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    label(root / "labels" / "val" / "c_001.txt", "0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.1 0.1\n")
    said: list[str] = []
    options = ReportOptions(in_domain=(None, str(root)))
    domains = open_domains(options, run(single_cls=True), ["item"], said.append)
    assert len(domains[1].source.annotations) == 3
    assert set(domains[1].source.annotations["label"]) == {0}
    assert any("single_cls; its 2 classes are item" in line for line in said)
    with pytest.raises(InputError, match="class names do not match"):
        open_domains(options, run(), ["item"], said.append)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("0 0.5 0.5 0.2 0.2 0.87 1", "seven columns: this is a prediction with confidence and a track id"),
        ("0 0.5 0.5 0.2 0.2 17", "six columns: this is a prediction with a track id"),
        ("0 0.5 0.5 0.2 0.2 0.9", "six columns: this is a prediction with confidence"),
    ],
)
def test_rows_of_trackers_and_predictions_are_named(row: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_row(row, CLASSES)


def test_poses_are_told_from_polygons(tmp_path: Path) -> None:
    pose = "0 0.5 0.5 0.2 0.2 0.45 0.45 2 0.55 0.55 1"
    points = Shape("points", (0.45, 0.45, 2.0, 0.55, 0.55, 1.0))
    expected = Row(0, 0.4, 0.4, 0.6, 0.6, shape=points)
    assert parse_row(pose, CLASSES) == (expected, "box taken from a pose")
    triangle = "0 0.2 0.2 0.4 0.2 0.3 0.4"
    assert parse_row(triangle, CLASSES)[1] == "box taken from a polygon"
    with pytest.raises(ValueError, match=r"11 columns; kpt_shape in the data\.yaml asks for 9"):
        parse_row(pose, CLASSES, 4)
    # Points without visibility look like polygons row by row, and not together.
    for number in range(6):
        image(tmp_path / "d" / "images" / f"{number}.jpg", seed=number)
        at = 0.3 + number / 20
        label(
            tmp_path / "d" / "labels" / f"{number}.txt",
            f"0 {at} {at} 0.1 0.2 {at} {at} {at + 0.02} {at - 0.02} {at} {at + 0.05}\n",
        )
    with pytest.raises(InputError, match="box and its key points"):
        opened(tmp_path / "d")


@settings(max_examples=50)
@given(st.lists(st.lists(st.floats(0, 1), min_size=8, max_size=8), min_size=5, max_size=8))
def test_quadrangles_are_seldom_poses(rows: list[list[float]]) -> None:
    # Corners of rotated boxes: each row's points around their own middle.
    rng = np.random.default_rng(len(rows))
    quads = []
    for _ in rows:
        middle, angle, half = rng.uniform(0.2, 0.8, 2), rng.uniform(0, np.pi), rng.uniform(0.02, 0.2, 2)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
        quads.append((corners @ turn.T + middle).ravel().tolist())
    assert are_poses(quads) == 0


def test_boxes_with_two_key_points_are_not_read_as_corners(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)

    def written(rows: list[np.ndarray], folder: str) -> Path:
        for number, row in enumerate(rows):
            image(tmp_path / folder / "images" / f"{number}.jpg", seed=number)
            label(tmp_path / folder / "labels" / f"{number}.txt", f"0 {' '.join(f'{v:.6f}' for v in row)}\n")
        return tmp_path / folder

    boxes = np.column_stack([rng.uniform(0.25, 0.75, (24, 2)), rng.uniform(0.1, 0.5, (24, 2))])
    points = [boxes[:, :2] + boxes[:, 2:] * rng.uniform(-0.5, 0.5, (24, 2)) for _ in range(2)]
    with pytest.raises(InputError, match="9 columns and looks like a box and its key points"):
        opened(written(list(np.column_stack([boxes, *points])), "poses"))
    # Quadrangles that somebody drew freely are corners, and so are turned boxes.
    middles = rng.uniform(0.2, 0.8, (24, 1, 2))
    free = middles + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * rng.uniform(0.02, 0.2, (24, 4, 2))
    assert len(opened(written(list(free.reshape(24, 8)), "free")).annotations) == 24


def test_class_files_keep_their_ids(tmp_path: Path) -> None:
    for number in range(2):
        image(tmp_path / "d" / f"{number}.jpg", seed=number)
        label(tmp_path / "d" / f"{number}.txt", "2 0.5 0.5 0.2 0.2\n")
    label(tmp_path / "d" / "classes.txt", "car\n\nbus\n\n")
    assert opened(tmp_path / "d").classes == ("car", "class 1 (blank line)", "bus")
    (tmp_path / "d" / "classes.txt").write_bytes("vélo\ncar\nbus".encode("cp1252"))
    assert opened(tmp_path / "d").classes == ("vélo", "car", "bus")
    label(tmp_path / "d" / "classes.txt", "car\ncar\nbus")
    repeated = (
        opened(tmp_path / "d").ledger.set_index("path").loc[str(tmp_path / "d" / "classes.txt"), "reason"]
    )
    assert repeated == "class names repeat: car"


def test_tiles_of_one_image_are_one_group() -> None:
    tiles = [f"/d/Pa_{x}_{y}_{x + 320}_{y + 240}.png" for x in (0, 256) for y in (0, 192)]
    assert groups(*tiles, "/d/other_1.png") == [tiles, ["/d/other_1.png"]]
    dota = [f"/d/P0001__1__{x}___{y}.png" for x in (0, 824) for y in (0, 824)]
    assert groups(*dota, "/d/P0002__1__0___0.png") == [dota, ["/d/P0002__1__0___0.png"]]
    # Times of day look like coordinates, and begin in no corner.
    times = [f"/d/cam_2021_05_0{day}_08_15_{n:02d}.jpg" for day in (3, 4) for n in range(20, 40)]
    assert len(groups(*times)) > 1
    assert not any(len({p[12:22] for p in group}) > 1 for group in groups(*times))


def test_labels_in_a_folder_named_for_split_and_labels(tmp_path: Path) -> None:
    image(tmp_path / "d" / "images" / "train" / "a.jpg")
    label(tmp_path / "d" / "labels" / "train_labels" / "a.txt", "0 0.5 0.5 0.2 0.2\n")
    assert len(opened(tmp_path / "d").annotations) == 1


def test_a_spreadsheets_history_and_other_files_in_place_of_a_json(tmp_path: Path) -> None:
    label(tmp_path / "results.csv", "epoch;metrics/mAP50(B)\n1;0,25\n2;0,5\n")
    assert read_history(tmp_path / "results.csv")["ap50"].tolist() == [0.25, 0.5]
    (tmp_path / "a.json").write_bytes(gzip.compress(b"[]"))
    with pytest.raises(InputError, match="compressed"):
        load_json(tmp_path / "a.json")
    label(tmp_path / "b.json", '{"image_id": 1}\n{"image_id": 2}\n')
    with pytest.raises(InputError, match="one JSON object a line"):
        load_json(tmp_path / "b.json")


def test_labels_in_a_folder_of_any_name_are_found_where_nothing_else_is(tmp_path: Path) -> None:
    for number in range(3):
        image(tmp_path / "d" / "imgs" / f"{number}.jpg", seed=number)
        label(tmp_path / "d" / "annos" / f"{number}.txt", "0 0.5 0.5 0.2 0.2\n")
    source = opened(tmp_path / "d")
    assert source.images["labelled"].all()
    assert (
        "going by their names" in source.ledger.set_index("path").loc[str(tmp_path / "d" / "annos"), "reason"]
    )
    # With labels in the usual place, or images of one name, nothing is guessed.
    label(tmp_path / "d" / "labels" / "0.txt", "0 0.5 0.5 0.2 0.2\n")
    assert opened(tmp_path / "d").images["labelled"].sum() == 1
    image(tmp_path / "e" / "b" / "0.jpg", seed=5)
    image(tmp_path / "e" / "c" / "0.jpg", seed=6)
    label(tmp_path / "e" / "annos" / "0.txt", "0 0.5 0.5 0.2 0.2\n")
    assert not opened(tmp_path / "e").images["labelled"].any()


def test_numbered_images_with_gaps_are_no_recording() -> None:
    chosen = sorted(np.random.default_rng(0).permutation(600)[:450].tolist())
    there = [f"/d/site/img-{n}.jpg" for n in chosen]
    assert len(groups(*there, "/d/other/x_1.jpg")) == 451
    steady = [f"/d/flight/{n:05d}.jpg" for n in range(0, 500, 10) if n != 200]
    assert groups(*steady, "/d/other/x_1.jpg") == [steady, ["/d/other/x_1.jpg"]]


def test_a_list_that_shiftscope_wrote_leads_to_its_images(tmp_path: Path) -> None:
    first = image(tmp_path / "footage" / "images" / "a.jpg")
    label(tmp_path / "footage" / "labels" / "a.txt", "0 0.5 0.5 0.2 0.2\n")
    out = tmp_path / "out" / "test.txt"
    label(out, f"{first}\n")
    with pytest.raises(InputError, match="leads out of the source"):
        opened(out)
    register_roots(out, enclosing_roots([first.parent]), out.parent / "cache")
    source = opened(out)
    assert source.images["labelled"].tolist() == [True]
    # Somebody who changes the list has not Shiftscope's word for it.
    label(out, f"{first}\n{tmp_path}/secret.jpg\n")
    image(tmp_path / "secret.jpg")
    with pytest.raises(InputError, match="leads out of the source"):
        opened(out)


def test_folders_and_checkpoints_in_each_others_place_are_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    label(tmp_path / "best.pt", "x")
    with pytest.raises(InputError, match="is a checkpoint, not a run folder; give it as --weights"):
        open_run(tmp_path / "best.pt")
    with pytest.raises(InputError, match="is a folder; give --run"):
        open_weights(tmp_path / "run", None)
    label(tmp_path / "run" / "args.yaml", "imgsz: 320\n")
    label(tmp_path / "run" / "weights" / "best.pt", "x")
    with pytest.raises(InputError, match=f"give its run, {tmp_path / 'run'}$"):
        open_run(tmp_path / "run" / "weights" / "best.pt")


def test_a_path_that_is_nearly_right_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "overhead").mkdir()
    with pytest.raises(InputError, match=f"no such file or folder; did you mean {tmp_path / 'overhead'}"):
        opened(tmp_path / "overhaed")
    with pytest.raises(InputError, match="no such file or folder; give a data"):
        opened(tmp_path / "nothing")
    with pytest.raises(InputError, match="the folder is empty"):
        opened(tmp_path / "overhead")


def test_a_history_in_percent_is_refused(tmp_path: Path) -> None:
    label(tmp_path / "results.csv", "epoch,metrics/mAP50(B)\n1,25.0\n2,61.5\n")
    with pytest.raises(InputError, match=r"metrics/mAP50\(B\) reaches 61\.5; shares are from 0 to 1"):
        read_history(tmp_path / "results.csv")
