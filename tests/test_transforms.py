"""Transforms: moved boxes fit the moved pixels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from datasets.groups import evenly
from train.transforms import GREY, SEVERITIES, SQUEEZES, Corruption, Tile, about_centre, corruptions

WIDTH, HEIGHT = 320, 240
IMAGES = pd.DataFrame({"image": ["a"], "width": [WIDTH], "height": [HEIGHT]})
MOVES = [
    transform
    for transform in corruptions(SEVERITIES, mixed=True)
    if transform.matrix is not None and transform.tone is None
]


def table(*boxes: tuple[float, float, float, float]) -> pd.DataFrame:
    rows = [("a", 0, *box, False) for box in boxes]
    return pd.DataFrame(rows, columns=["image", "label", "x1", "y1", "x2", "y2", "crowd"])


@pytest.mark.parametrize("transform", MOVES, ids=lambda t: t.name)
def test_a_moved_box_encloses_its_moved_ellipse(transform) -> None:
    yy, xx = np.mgrid[:HEIGHT, :WIDTH]
    box = (130.0, 95.0, 190.0, 135.0)
    inside = ((xx + 0.5 - 160) / 30) ** 2 + ((yy + 0.5 - 115) / 20) ** 2 <= 1
    image = np.where(inside[..., None], 255, 0).astype(np.uint8) * np.ones(3, np.uint8)
    painted = np.argwhere(transform(image).min(2) > 160)
    moved = transform.boxes(table(box), IMAGES)
    assert len(moved) == 1
    assert not moved["crowd"].iloc[0]
    expected = [painted[:, 1].min(), painted[:, 0].min(), painted[:, 1].max() + 1, painted[:, 0].max() + 1]
    scale = max(1.0, *(moved[["x2", "y2"]].to_numpy() - moved[["x1", "y1"]].to_numpy()).ravel() / 40)
    assert np.abs(moved[["x1", "y1", "x2", "y2"]].to_numpy()[0] - expected).max() <= 1.5 * scale


def test_every_corruption_keeps_the_shape_and_has_its_own_name() -> None:
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    transforms = corruptions(SEVERITIES, mixed=True)
    assert len({transform.name for transform in transforms}) == len(transforms)
    # What a report makes is a part of that: every family by itself, at its highest severity.
    few = {(t.family, t.severity) for t in corruptions(SEVERITIES[-1:])}
    alone = {t.family for t in transforms if " and " not in t.family} - {"as it is"}
    assert few == {("as it is", 0)} | {(family, severity) for family in alone for severity in (3,)}
    for transform in transforms:
        changed = transform(image)
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8
        assert (changed == image).all() == (transform.family == "as it is")


def test_half_visible_boxes_are_ignored_and_lost_boxes_dropped() -> None:
    twice = next(t for t in corruptions(SEVERITIES, mixed=True) if t.name == "larger at 2.2")
    # Enlarged about the middle (160, 120): one box stays inside, one is cut by the border, one leaves.
    moved = twice.boxes(table((150, 110, 170, 130), (78, 110, 92, 130), (0, 0, 20, 20)), IMAGES)
    assert moved["crowd"].tolist() == [False, True]


def test_colour_changes_keep_boxes() -> None:
    boxes = table((10, 10, 20, 20))
    for transform in corruptions(SEVERITIES, mixed=True):
        if transform.matrix is None:
            assert transform.boxes(boxes, IMAGES).equals(boxes)


def test_the_area_beyond_the_border_is_letterbox_grey() -> None:
    smaller = next(t for t in corruptions(SEVERITIES, mixed=True) if t.name == "smaller at 0.25")
    changed = smaller(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    assert (changed[:20] == GREY).all()


@pytest.mark.parametrize("name", ["smaller at 0.25", "flatter at 0.35", "narrower at 0.35"])
def test_shrinking_averages_pixels(name: str) -> None:
    transform = next(t for t in corruptions(SEVERITIES, mixed=True) if t.name == name)
    # A checkerboard of single pixels: interpolation gives black and white, averaging gives grey.
    yy, xx = np.mgrid[:HEIGHT, :WIDTH]
    image = (255 * ((yy + xx) % 2)).astype(np.uint8)[..., None] * np.ones(3, np.uint8)
    middle = transform(image)[HEIGHT // 2 - 20 : HEIGHT // 2 + 20, WIDTH // 2 - 20 : WIDTH // 2 + 20]
    assert middle.min() > 75
    assert middle.max() < 180


def test_another_strength_has_another_name() -> None:
    moves = [about_centre(1, 0.5), about_centre(1, 0.6)]
    transforms = [
        Corruption("flatter", 2, f"{s:g}", matrix=m) for s, m in zip((0.5, 0.6), moves, strict=True)
    ]
    assert transforms[0].name != transforms[1].name


def test_a_subset_is_spread_over_clips_and_frames() -> None:
    images = pd.DataFrame({"image": [f"{g}{i:03}" for g in "ab" for i in range(100)]})
    images["group"] = images["image"].str[0]
    chosen = evenly(images, 10)
    assert chosen["group"].value_counts().to_dict() == {"a": 5, "b": 5}
    assert chosen["image"].tolist() == [f"{g}{i:03}" for g in "ab" for i in (10, 30, 50, 70, 90)]
    some = evenly(pd.concat([images, pd.DataFrame({"image": ["c000"], "group": ["c"]})]), 9)
    assert some["group"].value_counts().to_dict() == {"a": 4, "b": 4, "c": 1}
    assert evenly(images, 200) is images


def test_a_subset_of_single_images_is_spread_over_all_of_them() -> None:
    """File names often begin with a place, a date or a class: the first names are no sample."""
    images = pd.DataFrame(
        {"image": [f"i{i:03}" for i in range(250)], "group": [f"g{i:03}" for i in range(250)]}
    )
    places = evenly(images, 100)["image"].str[1:].astype(int)
    assert len(places) == 100
    assert places.between(0, 124).sum() == 50
    assert abs(places.mean() - 124.5) < 2


@pytest.mark.parametrize(("width", "height"), [(640, 480), (333, 97)])
def test_tiles_cover_the_image_and_overlap(width: int, height: int) -> None:
    covered = np.zeros((height, width), int)
    for x, y in ((0, 0), (1, 0), (0, 1), (1, 1)):
        left, top, right, bottom = Tile(x, y).bounds(width, height)
        covered[top:bottom, left:right] += 1
        part = Tile(x, y)(np.zeros((height, width, 3), np.uint8))
        assert part.shape == (bottom - top, right - left, 3)
    assert covered.min() == 1
    assert covered.max() == 4


@pytest.mark.parametrize("transform", SQUEEZES, ids=lambda t: t.name)
def test_boxes_of_a_squeezed_image_are_moved_back(transform) -> None:
    boxes = table((130, 95, 190, 135), (20, 10, 60, 200))
    squeezed = transform.boxes(boxes, IMAGES)
    assert transform.undo(squeezed, IMAGES)[["x1", "y1", "x2", "y2"]].to_numpy() == pytest.approx(
        boxes[["x1", "y1", "x2", "y2"]].to_numpy(), abs=1e-6
    )
    assert len(transform.undo(boxes.head(0), IMAGES)) == 0
