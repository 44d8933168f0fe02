"""A prepared dataset accounts for every file, its boxes fit its images, and the source is only read."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.errors import InputError
from datasets.source import open_source
from datasets.tables import BOX_COLUMNS, IMAGE_COLUMNS, LEDGER_COLUMNS, ROW_COLUMNS, Source, frame
from reports.commands.prepare import prepare_dataset
from reports.options import PrepareOptions
from reports.progress import Reporter
from tests.conftest import run_in_process, untrained
from tests.test_sources import label, tree
from train.augmentation import CHANGES, DEFAULT, Recipe, read_recipe
from train.preparation import PreparationSettings, prepare, remove_boxes
from train.recipe import ARCHITECTURE

CLASSES = ("pothole", "crack")
GEOMETRIC = ("horizontal_flip", "vertical_flip", "rotation")


def image(path: Path, seed: int = 0, size: tuple[int, int] = (64, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (0, 0), 4))
    return path


def messy(root: Path) -> Path:
    """A typical dataset: two drives for training and one held out, with every kind of fault."""
    for number, name in enumerate(("drive-a_001", "drive-a_002", "drive-b_001", "drive-b_002")):
        image(root / "images/train" / f"{name}.jpg", number)
    image(root / "images/train/drive-b_003.png", 7)
    for number, name in enumerate(("drive-c_001", "drive-c_002")):
        image(root / "images/val" / f"{name}.jpg", 10 + number)
    labels = root / "labels/train"
    label(labels / "drive-a_001.txt", "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4\n")
    # A wrong class, a close-up, and a box of a hundredth of a pixel.
    label(labels / "drive-a_002.txt", "7 0.5 0.5 0.1 0.1\n0 0.5 0.5 1 0.98\n0 0.5 0.5 0.0001 0.2\n")
    label(labels / "drive-b_001.txt", "")
    # Only a tiny box: without it the image would become a background image.
    label(labels / "drive-b_003.txt", "1 0.5 0.5 0.0001 0.0001\n")
    label(root / "labels/val/drive-c_001.txt", "1 0.25 0.5 0.25 0.5\n0 0.5 0.5 0.2\n")
    # Unlabelled: drive-b_002 and drive-c_002. Broken: a truncated image, and a file that is not an image.
    whole = image(root / "images/train/drive-a_003.jpg", 4, (320, 240)).read_bytes()
    (root / "images/train/drive-a_003.jpg").write_bytes(whole[: len(whole) // 2])
    label(labels / "drive-a_003.txt", "0 0.5 0.5 0.2 0.2\n")
    (root / "images/train/page.jpg").write_text("<!doctype html>")
    label(labels / "orphan.txt", "0 0.5 0.5 0.1 0.1\n")
    label(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames: [pothole, crack]\n")
    return root


def voc(root: Path) -> Path:
    for number in (1, 2):
        image(root / "JPEGImages" / f"a_{number}.jpg", number)
        hard = f"<difficult>{number - 1}</difficult>"
        label(
            root / "Annotations" / f"a_{number}.xml",
            "<annotation><size><width>64</width><height>48</height></size>"
            f"<object><name>crack</name>{hard}"
            "<bndbox><xmin>8</xmin><ymin>4</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
            "</object></annotation>",
        )
    return root


def coco(root: Path) -> Path:
    for split in ("train2017", "val2017"):
        image(root / split / "1.jpg", len(split))
        annotation = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [8, 4, 22, 16], "iscrowd": 0}
        crowd = {**annotation, "id": 2, "iscrowd": 1, "bbox": [0, 0, 40, 40]}
        content = {
            "images": [{"id": 1, "file_name": "1.jpg", "width": 64, "height": 48}],
            "annotations": [annotation, crowd],
            "categories": [{"id": 3, "name": "pothole"}],
        }
        label(root / "annotations" / f"instances_{split}.json", json.dumps(content))
    return root


def plain(root: Path) -> Path:
    """A folder without splits and class names."""
    for number in range(3):
        image(root / f"walk_{number}.jpg", number)
        label(root / f"walk_{number}.txt", "0 0.5 0.5 0.25 0.5\n")
    return root


def opened(root: Path) -> Source:
    return open_source(str(root), cache=root.parent / "cache", classes=CLASSES)


def prepared(root: Path, folder: Path, **options):
    return prepare(opened(root), folder, PreparationSettings(**options))


def only(**changes: dict[str, float]) -> Recipe:
    return Recipe({name: {"probability": 1.0, **amounts} for name, amounts in changes.items()})


# Boxes fit the image.


def ellipse(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """An image with one filled ellipse, from its equation."""
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    x1, y1, x2, y2 = box
    inside = ((x - (x1 + x2) / 2) / ((x2 - x1) / 2)) ** 2 + ((y - (y1 + y2) / 2) / ((y2 - y1) / 2)) ** 2 <= 1
    pixels = np.full((height, width, 3), 40, np.uint8)
    pixels[inside] = (20, 60, 250)
    return pixels


def outline(pixels: np.ndarray) -> tuple[np.ndarray, int]:
    """Bounding box and area of the pixels that are nearest to the ellipse's colour."""
    inside = pixels[..., 2].astype(int) - pixels[..., 0] > 115
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]), int(inside.sum())


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = np.prod(np.clip(high - low, 0, None))
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))


@pytest.mark.parametrize("degrees", [15.0, 90.0, 180.0])
@pytest.mark.parametrize("flips", [(), GEOMETRIC[:1], GEOMETRIC[1:2], GEOMETRIC[:2]])
def test_boxes_fit_the_image_after_every_geometric_change(degrees: float, flips: tuple[str, ...]) -> None:
    recipe = only(**{name: {} for name in flips}, rotation={"degrees": degrees})
    cut = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        width, height = rng.integers(24, 110, 2)
        x, y = rng.integers(0, 320 - width), rng.integers(0, 240 - height)
        box = (x, y, x + width, y + height)
        before = ellipse((240, 320), box)
        copy = recipe.copy(before, np.array([box], float), np.random.default_rng(seed))
        if (copy.pixels[..., 2].astype(int) - copy.pixels[..., 0] > 115).sum() < 30:
            assert not copy.visible[0]
            continue
        visible_box, area = outline(copy.pixels)
        share = area / outline(before)[1]
        if share > 0.98:
            assert copy.visible[0]
            assert overlap(copy.corners[0], visible_box) > 0.9
        elif share > 0.6:
            cut += 1
            assert copy.visible[0]
            assert overlap(copy.corners[0], visible_box) > 0.8
        elif share < 0.4:
            cut += 1
            assert not copy.visible[0]
        assert (copy.corners[0] >= 0).all()
        assert (copy.corners[0] <= [320, 240, 320, 240]).all()
    assert cut or degrees != 90


@given(st.integers(0, 20), st.integers(0, 20), st.integers(3, 40), st.integers(3, 25), st.booleans())
def test_flipped_boxes_are_exact(x: int, y: int, width: int, height: int, horizontal: bool) -> None:
    pixels = np.full((48, 64, 3), 40, np.uint8)
    pixels[y : y + height, x : x + width] = (20, 60, 250)
    recipe = only(**{"horizontal_flip" if horizontal else "vertical_flip": {}})
    box = np.array([[x, y, x + width, y + height]], float)
    copy = recipe.copy(pixels, box, np.random.default_rng(0))
    assert (copy.pixels == (pixels[:, ::-1] if horizontal else pixels[::-1])).all()
    assert copy.corners[0].tolist() == outline(copy.pixels)[0].tolist()


def test_the_corners_of_a_rotated_image_are_grey() -> None:
    copy = only(rotation={"degrees": 40}).copy(
        np.zeros((240, 320, 3), np.uint8), np.zeros((0, 4)), np.random.default_rng(0)
    )
    assert copy.pixels[0, 0].tolist() == [114] * 3
    assert copy.corners.shape == (0, 4)


@pytest.mark.parametrize("name", [name for name in CHANGES if name not in GEOMETRIC])
def test_photometric_changes_keep_boxes(name: str) -> None:
    pixels = ellipse((240, 320), (60, 40, 160, 120))
    box = np.array([[60, 40, 160, 120.0]])
    recipe = Recipe({name: {**read_recipe(DEFAULT).changes[name], "probability": 1.0}})
    copy = recipe.copy(pixels, box, np.random.default_rng(1))
    assert copy.pixels.shape == pixels.shape
    assert (copy.pixels != pixels).any()
    assert (copy.corners == box).all()
    assert np.abs(outline(copy.pixels)[0] - box[0]).max() <= 1


@pytest.mark.parametrize("deviation", [1.0, 5.0, 20.0])
def test_noise_has_the_standard_deviation_of_the_recipe(deviation: float) -> None:
    grey = np.full((300, 400, 3), 128, np.uint8)
    recipe = only(noise={"least": deviation, "most": deviation})
    noisy = recipe.copy(grey, np.zeros((0, 4)), np.random.default_rng(3)).pixels.astype(float)
    # Rounding to whole grey levels adds a twelfth to the variance.
    assert noisy.std() == pytest.approx(np.sqrt(deviation**2 + 1 / 12), rel=0.01)
    assert noisy.mean() == pytest.approx(128, abs=0.1)


def test_changes_have_the_probabilities_of_the_recipe_and_no_copy_is_unchanged() -> None:
    recipe, rounds = read_recipe(DEFAULT), 300
    small = np.full((16, 16, 3), 90, np.uint8)
    small[:8] = 160
    copies = [
        recipe.copy(small, np.zeros((0, 4)), np.random.default_rng(n)).changes.split(", ")
        for n in range(rounds)
    ]
    assert all(copies)
    rotated = sum(any(change.startswith("turned") for change in changes) for changes in copies) / rounds
    # 0.3, plus the rotation's share (0.3 / 1.6) of the 0.15 of copies that no change was drawn for.
    odds = [amounts["probability"] for amounts in recipe.changes.values()]
    expected = 0.3 + np.prod(1 - np.array(odds)) * 0.3 / sum(odds)
    assert rotated == pytest.approx(expected, abs=3 * np.sqrt(0.25 / rounds))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mosaic: {probability: 0.5}\n", "unknown change 'mosaic'; expected horizontal_flip, vertical_flip"),
        ("horizontal_flip: 0.5\n", "'horizontal_flip' must hold probability, found '0.5'"),
        (
            "horizontal_flip: {probability: 1.5}\n",
            "'horizontal_flip.probability' must be a number from 0 to 1",
        ),
        (
            "horizontal_flip: {probability: -0.1}\n",
            "'horizontal_flip.probability' must be a number from 0 to 1",
        ),
        ("horizontal_flip: {probability: true}\n", "must be a number from 0 to 1; found 'True'"),
        ("horizontal_flip: {probability: often}\n", "must be a number from 0 to 1; found 'often'"),
        (
            "rotation: {probability: 0.5}\n",
            "'rotation.degrees' must be a number from 0 to 180; it is missing",
        ),
        ("rotation: {probability: 0.5, degrees: .nan}\n", "'rotation.degrees' must be a number"),
        (
            "rotation: {probability: 0.5, angle: 3}\n",
            "unknown key 'rotation.angle'; expected probability and",
        ),
        ("noise: {probability: 1, least: 9, most: 3}\n", "'noise.least' must be at most 'noise.most', 3"),
        ("blur: {probability: 0, sigma: 1}\n", "no change has a probability above 0"),
        ("- 1\n", "expected keys"),
        ("a: [\n", "not valid YAML"),
    ],
)
def test_an_invalid_recipe_is_refused_with_the_names_of_file_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    file = label(tmp_path / "r.yaml", text)
    with pytest.raises(InputError) as refused:
        read_recipe(file)
    assert str(refused.value).startswith(str(file))
    assert message in str(refused.value)
    with pytest.raises(InputError, match="no such recipe"):
        read_recipe(tmp_path / "nowhere.yaml")


def test_the_default_recipe_is_in_the_package_and_commented() -> None:
    assert DEFAULT.parent == ARCHITECTURE.parent
    assert list(read_recipe(DEFAULT).changes) == list(CHANGES)
    amounts = [line for line in DEFAULT.read_text().splitlines() if line.startswith("  ")]
    assert all("#" in line or "probability" in line for line in amounts)


# The written dataset.


def test_every_file_and_box_of_a_faulty_dataset_is_kept_repaired_or_listed(tmp_path: Path) -> None:
    root = messy(tmp_path / "d")
    before = tree(root)
    done = prepared(root, tmp_path / "out")
    assert tree(root) == before
    ledger = done.ledger.assign(name=done.ledger["path"].map(lambda path: Path(path).name)).set_index("name")
    assert ledger.loc["drive-a_001.jpg", ["file", "split", "action", "boxes"]].tolist() == [
        "images/train/drive-a_000000.jpg",
        "train",
        "kept",
        2,
    ]
    # A close-up is kept, the tiny box beside it is removed, and the background image is kept.
    assert ledger.loc["drive-a_002.jpg", "boxes"] == 1
    assert ledger.loc["drive-b_001.jpg", ["action", "boxes"]].tolist() == ["kept", 0]
    left_out = ledger[ledger["action"] == "left out"]["reason"].to_dict()
    assert set(left_out) == {
        "drive-a_003.jpg", "drive-b_002.jpg", "drive-b_003.png", "drive-c_002.jpg", "page.jpg", "orphan.txt"
    }  # fmt: skip
    assert left_out["drive-a_003.jpg"] == "cut short"
    assert left_out["drive-b_002.jpg"] == left_out["drive-c_002.jpg"] == "unlabelled"
    assert "all of its boxes were removed" in left_out["drive-b_003.png"]
    assert "web page" in left_out["page.jpg"]
    assert ledger.loc["data.yaml", "action"] == "read"
    rows = done.rows.assign(name=done.rows["path"].map(lambda path: Path(path).name))
    assert sorted(rows[["name", "line", "action"]].itertuples(index=False, name=None)) == [
        ("drive-a_001.txt", 2, "repaired"),
        ("drive-a_002.jpg", 0, "removed"),
        ("drive-a_002.txt", 1, "rejected"),
        ("drive-b_003.png", 0, "removed"),
        ("drive-c_001.txt", 2, "rejected"),
    ]
    out = tmp_path / "out"
    for record in done.ledger[done.ledger["file"] != ""].itertuples():
        assert (out / record.file).read_bytes() == Path(record.path).read_bytes()
    # A polygon becomes its bounding box.
    text = (out / "labels/train/drive-a_000000.txt").read_text()
    assert text.splitlines()[1] == "1 0.200000 0.250000 0.200000 0.300000"
    assert pd.read_csv(out / "ledger.csv")["path"].tolist() == done.ledger["path"].tolist()
    assert pd.read_csv(out / "rows.csv")["reason"].tolist() == done.rows["reason"].tolist()


def test_close_ups_are_removed_only_on_request(tmp_path: Path) -> None:
    done = prepared(messy(tmp_path / "d"), tmp_path / "out", max_share=0.9, min_side=20)
    removed = done.rows.loc[done.rows["action"] == "removed", "reason"].tolist()
    assert "pothole: covers 0.980 of its image, over 0.9" in removed
    assert "crack: 12.8x14.4 px, a side below 20" in removed
    assert done.ledger["boxes"].sum() == 0 + 1 - 1 + 0


@pytest.mark.parametrize("make", [messy, voc, coco, plain])
@pytest.mark.parametrize("copies", [0, 2])
def test_the_ledger_adds_up_and_the_result_opens_everywhere(tmp_path: Path, make, copies: int) -> None:
    from ultralytics.data.utils import check_det_dataset

    root = make(tmp_path / "d")
    before, source = tree(root), opened(root)
    recipe = read_recipe(DEFAULT) if copies else None
    done = prepare(source, tmp_path / "out", PreparationSettings(copies=copies, recipe=recipe))
    assert tree(root) == before
    again = open_source(str(tmp_path / "out"), cache=tmp_path / "cache")
    ledger, written = done.ledger, done.ledger[done.ledger["file"] != ""]
    originals = ledger[(ledger["action"] != "augmented") & ~ledger["reason"].str.startswith("copy ")]
    assert sorted(originals["path"]) == sorted(source.ledger["path"])
    training_section = ledger[(ledger["action"] == "kept") & (ledger["split"] == "train")]
    assert len(ledger) == len(originals) + copies * len(training_section)
    assert not (written["split"] != "train")[written["action"] == "augmented"].any()
    # Images and boxes are as many as in the ledger, and the reader takes them without a remark.
    assert sorted(again.images["image"]) == sorted(written["file"])
    assert again.images["labelled"].all()
    assert again.annotations["image"].value_counts().to_dict() == {
        row.file: row.boxes for row in written.itertuples() if row.boxes
    }
    assert again.rows.empty
    assert again.classes == source.classes
    # Boxes of unchanged images are unchanged.
    kept = dict(zip(written["path"], written["file"], strict=True)) if not copies else {}
    for image, path in zip(source.images["image"], source.images["path"], strict=True):
        before = source.annotations[(source.annotations["image"] == image) & ~source.annotations["crowd"]]
        after = again.annotations[again.annotations["image"] == kept.get(path, "")]
        if len(after) and len(after) == len(before):
            np.testing.assert_allclose(after.iloc[:, 2:6], before.iloc[:, 2:6], atol=1e-3)
    # Copies belong to the clip of their original, and clips stay together if there is more than one.
    group = dict(zip(source.images["path"], source.images["group"], strict=True))
    new_group = dict(zip(again.images["image"], again.images["group"], strict=True))
    by_path = written.assign(group=written["file"].map(new_group)).groupby("path")["group"]
    assert all(len(set(groups)) == 1 for _, groups in by_path)
    pairs = {(group[row.path], new_group[row.file]) for row in written.itertuples()}
    if len({old for old, _ in pairs}) > 1:
        assert len(pairs) == len({old for old, _ in pairs}) == len({new for _, new in pairs})
    if (written["split"] == "val").any():
        content = check_det_dataset(str(done.data_yaml), autodownload=False)
        assert tuple(content["names"].values()) == source.classes
        assert Path(content["train"]).is_dir()


def test_images_without_a_split_join_their_clip_or_train(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for name in ("a_1", "a_2", "val/b_1", "b_2", "train/c_1"):
        image(root / f"{name}.jpg")
        label(root / f"{name}.txt", "0 0.5 0.5 0.25 0.5\n")
    ledger = prepared(root, tmp_path / "out").ledger
    images = ledger[ledger["file"] != ""]
    splits = dict(zip(images["path"].map(lambda path: Path(path).stem), images["split"], strict=True))
    assert splits == {"a_1": "train", "a_2": "train", "b_1": "val", "b_2": "val", "c_1": "train"}


def test_names_never_collide_and_clips_stay_apart(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for clip in ("one/a b", "two/a b", "one/a-b", "one/a-b_img", "one/ä", "one/ö"):
        for number in (1, 2):
            image(root / "train" / f"{clip}_{number}.jpg", number)
            label(root / "train" / f"{clip}_{number}.txt", "0 0.5 0.5 0.25 0.5\n")
    source = opened(root)
    prepare(source, tmp_path / "out")
    again = opened(tmp_path / "out")
    assert len(again.images) == 12
    assert again.images["group"].nunique() == source.images["group"].nunique()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    root, recipe = messy(tmp_path / "d"), read_recipe(DEFAULT)
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        # Other code in the process may draw from numpy's global generator.
        np.random.random(7)  # noqa: NPY002
        prepared(root, tmp_path / name, copies=3, recipe=recipe, seed=seed)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert tree(tmp_path / "one") != tree(tmp_path / "three")
    copies = [p.read_bytes() for p in (tmp_path / "one").rglob("*_aug*.jpg")]
    assert len(set(copies)) == len(copies) == 9
    # An additional image changes no copy of the others.
    image(root / "images/train/aaa_001.jpg", 50)
    label(root / "labels/train/aaa_001.txt", "")
    prepared(root, tmp_path / "more", copies=3, recipe=recipe, seed=3)
    assert set(copies) < {p.read_bytes() for p in (tmp_path / "more").rglob("*_aug*.jpg")}


def test_copies_of_copies_are_refused_and_cleaning_twice_is_not(tmp_path: Path) -> None:
    root, recipe = messy(tmp_path / "d"), read_recipe(DEFAULT)
    prepared(root, tmp_path / "once", copies=1, recipe=recipe)
    for options in ({"copies": 1, "recipe": recipe}, {}):
        with pytest.raises(
            InputError, match="3 of its images are augmented copies that 'shiftscope prepare'"
        ):
            prepared(tmp_path / "once", tmp_path / "twice", **options)
    assert not (tmp_path / "twice").exists()
    # A single folder of it is refused too.
    with pytest.raises(InputError, match="augmented copies"):
        prepared(tmp_path / "once/images/train", tmp_path / "twice")
    first = prepared(root, tmp_path / "clean")
    second = prepared(tmp_path / "clean", tmp_path / "again", copies=1, recipe=recipe)
    assert len(second.ledger[second.ledger["action"] == "kept"]) == len(
        first.ledger[first.ledger["action"] == "kept"]
    )


def test_a_copy_that_would_lose_all_of_its_boxes_is_not_written(tmp_path: Path) -> None:
    image(tmp_path / "d/train/a.jpg", size=(320, 64))
    label(tmp_path / "d/train/a.txt", "0 0.05 0.5 0.1 0.5\n")
    recipe = only(rotation={"degrees": 180})
    ledger = prepared(tmp_path / "d", tmp_path / "out", copies=6, recipe=recipe).ledger
    lost = ledger[ledger["reason"].str.contains("would show no object")]
    assert len(lost) > 0
    assert set(lost["action"]) == {"left out"}
    texts = [p.read_text() for p in (tmp_path / "out/labels").rglob("*.txt")]
    assert len(texts) == 7 - len(lost)
    assert all(texts)


CORNER = st.floats(0, 100, allow_nan=False)


@given(
    st.lists(st.tuples(CORNER, CORNER, CORNER, CORNER, st.booleans()), max_size=8),
    st.floats(0, 60),
    st.floats(0, 1),
)
def test_boxes_are_removed_as_the_options_define(boxes: list, min_side: float, max_share: float) -> None:
    images = frame(
        [
            {
                "image": "a",
                "path": "/a",
                "split": "",
                "group": "a",
                "width": 100,
                "height": 100,
                "labelled": True,
                "unusable": False,
            }
        ],
        IMAGE_COLUMNS,
    )
    table = frame(
        [
            {
                "image": "a",
                "label": 0,
                "x1": min(a, c),
                "y1": min(b, d),
                "x2": max(a, c),
                "y2": max(b, d),
                "crowd": crowd,
            }
            for a, b, c, d, crowd in boxes
        ],
        BOX_COLUMNS,
    )
    source = Source("x", "yolo", CLASSES, images, table, frame([], LEDGER_COLUMNS), frame([], ROW_COLUMNS))
    stays, removed = remove_boxes(table, source, min_side, max_share)
    width, height = table["x2"] - table["x1"], table["y2"] - table["y1"]
    fits = (width >= min_side) & (height >= min_side) & (width > 0) & (height > 0)
    fits &= (width * height / 10_000 <= max_share) & ~table["crowd"]
    pd.testing.assert_frame_equal(stays, table[fits].reset_index(drop=True))
    assert len(removed) == len(table) - len(stays)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: image(root / "a.jpg"), "no image is left to write; first: .*unlabelled"),
        (
            lambda root: label(root / "a.txt", "0 0.5 0.5 0.001 0.001\n") and image(root / "a.jpg"),
            "boxes were removed",
        ),
    ],
    ids=["unlabelled", "tiny boxes"],
)
def test_a_source_without_a_usable_image_is_refused(tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "d")
    with pytest.raises(InputError, match=message):
        prepared(tmp_path / "d", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="names no classes; give --names"):
        prepare(open_source(str(tmp_path / "d"), cache=tmp_path), tmp_path / "out")


# Drafts and the command.


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained checkpoint with meaningless boxes of high confidence."""
    return untrained(tmp_path_factory.mktemp("weights") / "best.pt", 11.0)


@pytest.fixture
def half_labelled(tmp_path: Path) -> Path:
    root = tmp_path / "d"
    for split, numbers in (("train", range(4)), ("val", range(2))):
        for number in numbers:
            image(root / "images" / split / f"{split}_{number}.jpg", number, (160, 120))
            if number % 2 == 0:
                label(root / "labels" / split / f"{split}_{number}.txt", "0 0.5 0.5 0.25 0.5\n")
    return label(root / "data.yaml", "train: images/train\nval: images/val\nnames: [pothole]\n").parent


def test_drafts_are_marked_detections_in_training_images_only(
    half_labelled: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from ultralytics import YOLO

    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    before, conf = tree(half_labelled), 0.5
    options = {"source": str(half_labelled), "weights": weights, "conf": conf, "imgsz": 160, "device": "cpu"}
    options |= {"fiftyone": False}
    result = prepare_dataset(PrepareOptions(out=tmp_path / "out", copies=1, **options), Reporter())
    assert tree(half_labelled) == before
    ledger = pd.read_csv(tmp_path / "out/ledger.csv").set_index("path")
    drafts = ledger[ledger["action"] == "draft"]
    unlabelled = [str(half_labelled / f"images/train/train_{number}.jpg") for number in (1, 3)]
    assert set(drafts.index) == set(unlabelled)
    assert result["splits"]["train"]["drafts"] == 2
    assert (tmp_path / "runs" / "predictions").is_dir()
    model = YOLO(str(weights))
    for path, row in drafts.iterrows():
        boxes = model.predict(path, imgsz=160, conf=0.001, iou=0.7, max_det=300, verbose=False, device="cpu")[
            0
        ].boxes
        confidence = boxes.conf.numpy()[boxes.conf.numpy() >= conf]
        written = np.loadtxt(
            (tmp_path / "out" / row["file"].replace("images", "labels")).with_suffix(".txt"), ndmin=2
        )
        sides = boxes.xywh.numpy()[boxes.conf.numpy() >= conf, 2:].min(1)
        assert row["boxes"] == len(written) == (sides >= 1).sum() > 0
        assert row["confidence"] >= confidence.min() - 1e-6
    # Drafts and held-out images are not augmented; an unlabelled held-out image gets no draft.
    augmented = ledger[ledger["action"] == "augmented"]
    assert set(augmented.index) == {
        str(half_labelled / f"images/train/train_{number}.jpg") for number in (0, 2)
    }
    held_out = ledger.loc[str(half_labelled / "images/val/val_1.jpg")]
    assert held_out["reason"] == "unlabelled, of split val: drafts are for training only"
    messages = capsys.readouterr().err
    assert "DRAFT labels in 2 images from " in messages
    assert "Review them before training" in messages
    # They are still drafts in a dataset that is prepared again.
    prepare_dataset(PrepareOptions(out=tmp_path / "plain", **options), Reporter())
    again = prepared(tmp_path / "plain", tmp_path / "again", copies=1, recipe=read_recipe(DEFAULT)).ledger
    assert (again["action"] == "draft").sum() == 2
    assert again.loc[again["action"] == "draft", "confidence"].notna().all()
    assert (again["action"] == "augmented").sum() == 2


def test_an_image_without_confident_detections_is_not_a_background_image(
    half_labelled: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    options = PrepareOptions(
        source=str(half_labelled),
        out=tmp_path / "out",
        weights=weights,
        conf=1.0,
        imgsz=160,
        device="cpu",
        fiftyone=False,
    )
    result = prepare_dataset(options, Reporter(quiet=True))
    assert result["splits"]["train"] == {"images": 2, "drafts": 0, "copies": 0, "annotations": 2}
    assert {"unlabelled, and the detector is not sure enough of any box"} < {
        r["reason"] for r in result["reasons"]
    }


def test_frames_of_a_video_get_drafts_and_the_video_is_in_the_ledger(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    writer = cv2.VideoWriter(str(tmp_path / "drive.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (160, 120))
    for seed in range(20):
        writer.write(cv2.imread(str(image(tmp_path / "frame.png", seed, (160, 120)))))
    writer.release()
    video = str(tmp_path / "drive.mp4")
    options = PrepareOptions(
        source=video,
        out=tmp_path / "out",
        weights=weights,
        conf=0.5,
        imgsz=160,
        device="cpu",
        fiftyone=False,
    )
    prepare_dataset(options, Reporter(quiet=True))
    ledger = pd.read_csv(tmp_path / "out/ledger.csv").set_index("path")
    assert ledger.loc[video, "action"] == "read"
    assert len(ledger) > 2
    assert set(ledger.drop(video)["action"]) == {"draft"}
    assert all((tmp_path / "out" / file).is_file() for file in ledger["file"].dropna())
    again = opened(tmp_path / "out")
    assert again.classes == ("pothole",)
    assert {Path(path).name.rsplit("_", 1)[0] for path in again.images["path"]} == {"drive"}


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    root = messy(tmp_path / "d")
    before = tree(root)
    done = run_in_process("prepare", "d", "--copies", "1", "--max-share", "0.9", cwd=tmp_path)
    assert done.code == 0, done.stderr
    data_yaml = tmp_path / "runs" / "prepare" / "d" / "data.yaml"
    assert done.stdout == f"{data_yaml}\n"
    assert "left out: " in done.stderr
    assert "removed; each listed in rows.csv" in done.stderr
    assert "1 augmented copy" in done.stderr or "augmented copies" in done.stderr
    assert tree(root) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": Path("x.yaml")}, "describes augmented copies; add --copies N"),
        ({"recipe": Path("x.yaml"), "copies": 1}, "x.yaml: no such recipe"),
        ({"weights": Path("x.pt")}, "x.pt: no such checkpoint"),
        ({"out": Path("d/images")}, "exists already; give a new folder with --out"),
        ({"out": Path("d/inside")}, "lies inside the source d, which is only read"),
    ],
)
def test_invalid_requests_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = tree(messy(tmp_path / "d"))
    request = PrepareOptions(**{"source": "d", "out": tmp_path / "out", **options})
    with pytest.raises(InputError, match=message):
        prepare_dataset(request, Reporter(quiet=True))
    assert tree(tmp_path / "d") == before
    assert not (tmp_path / "out").exists()
