"""The road world: exact boxes, reproducible bytes, dials that change one factor each, and speed."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from datasets.source import open_source
from datasets.world import (
    CLASSES,
    DASHCAM,
    DRONE,
    Camera,
    ClassFault,
    Clip,
    Dials,
    Plan,
    build_world,
    write_flight,
)
from datasets.world.dials import HEIGHT_METRES
from datasets.world.ground import LENGTH, build_strip
from datasets.world.view import Ground

NAMES = [field.name for field in fields(Dials)]


def boxes_of(clip: Clip) -> np.ndarray:
    return np.concatenate([boxes for _, boxes, _ in clip.images()])


def mean_of(dials: Dials, quantity: str, seeds: range = range(3)) -> float:
    values = []
    for seed in seeds:
        for view, boxes, _ in Clip((seed,), dials, 4).images():
            grey = cv2.cvtColor(view.pixels, cv2.COLOR_BGR2GRAY).astype(float)
            sides = boxes[:, 2:] - boxes[:, :2]
            values.append(
                {
                    "brightness": grey.mean(),
                    "sharpness": cv2.Laplacian(grey, cv2.CV_64F).var(),
                    "count": len(boxes),
                    "side": np.sqrt(sides.prod(1)).mean() if len(boxes) else np.nan,
                    "aspect": (sides[:, 0] / sides[:, 1]).mean() if len(boxes) else np.nan,
                    "blue_share": (view.pixels[200:, :, 0].mean() + 1) / (view.pixels[200:, :, 2].mean() + 1),
                }[quantity]
            )
    return float(np.nanmean(values))


def test_ground_rays_invert_the_projection() -> None:
    camera = Camera(1.2, 3.0, 4.2, 50.0, yaw=17.0, roll=2.0, width=64, height_px=48)
    x, y, below = camera.ground_rays()
    pixels, depth = camera.project(np.column_stack([x[below], y[below], np.zeros(below.sum())]))
    rows, columns = np.nonzero(below)
    assert (depth > 0).all()
    np.testing.assert_allclose(pixels, np.column_stack([columns, rows]) + 0.5, atol=1e-2)


def test_a_vertical_camera_scales_by_focal_length_over_height() -> None:
    camera = Camera(0.0, 0.0, 10.0, 90.0, width=400, height_px=300)
    pixels, depth = camera.project(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]))
    np.testing.assert_allclose(depth, 10.0)
    np.testing.assert_allclose(pixels[0], [200, 150])
    np.testing.assert_allclose(pixels[1] - pixels[0], [camera.focal / 10, 0], atol=1e-9)
    np.testing.assert_allclose(pixels[2] - pixels[0], [0, -camera.focal / 10], atol=1e-9)


@pytest.mark.parametrize(
    "dials", [DASHCAM, Dials(pitch=3, height=3), DRONE], ids=["dashcam", "slanted", "drone"]
)
def test_boxes_bound_the_rendered_pixels(dials: Dials) -> None:
    """An independent measurement: render one hole's mask painted onto the road, and bound its pixels."""
    strip = build_strip(np.random.default_rng(4), dials)
    ground = Ground(strip)
    ground.max_depth = 0.0
    overlaps = []
    for hole in strip.holes:
        centre = hole.rim.mean(0)
        back = {0: 4.0, 3: 3.0, 5: 0.0}[dials.pitch]
        camera = Camera(
            float(centre[0]),
            float(centre[1]) - back,
            HEIGHT_METRES[dials.height],
            {0: 20.0, 3: 60.0, 5: 88.0}[dials.pitch],
            width=384,
            height_px=288,
        )
        painted = np.zeros((*strip.depth.shape, 3), np.uint8)
        texels = (hole.rim + [12.0, 0.0]) / 0.025 - 0.5
        for shift in (-1, 0, 1):
            cv2.fillPoly(
                painted,
                [np.round((texels + [0, shift * LENGTH / 0.025]) * 16).astype(np.int32)],
                (255, 255, 255),
                cv2.LINE_8,
                4,
            )
        ground.levels = [painted] * len(ground.levels)
        ground.levels = [
            cv2.resize(painted, (painted.shape[1] >> i, painted.shape[0] >> i), interpolation=cv2.INTER_AREA)
            for i in range(len(ground.levels))
        ]
        ground.water = np.zeros_like(ground.water)
        colour, _, below = ground.colour(camera)
        rows, columns = np.nonzero((colour[..., 0] > 0.5) & below)
        near = (np.abs(columns - 192) < 150) & (rows > 60)
        if near.sum() < 80:
            continue
        rows, columns = rows[near], columns[near]
        lit = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
        pixels, _ = camera.project(np.column_stack([hole.rim, np.zeros(len(hole.rim))]))
        box = np.concatenate([pixels.min(0), pixels.max(0)])
        if (box < [0, 60, 0, 60]).any() or (box > [384, 288, 384, 288]).any():
            continue
        inner = np.maximum(np.minimum(lit[2:], box[2:]) - np.maximum(lit[:2], box[:2]), 0).prod()
        overlaps.append(inner / ((lit[2:] - lit[:2]).prod() + (box[2:] - box[:2]).prod() - inner))
    assert len(overlaps) >= 3
    # Pixels are whole and boxes are not: one pixel on each side of a box of 40 by 12 pixels gives IoU 0.80.
    assert np.median(overlaps) > 0.85


def digest(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.mark.slow
def test_the_same_plan_gives_the_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    plan = Plan(Dials(pitch=2, label_noise=3), {"train": (2, 2), "val": (1, 3)}, seed=5)
    assert sum(build_world(tmp_path / "a", plan, workers=2)) == 7
    assert sum(build_world(tmp_path / "b", plan, workers=1)) == 7
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    other = Plan(Dials(pitch=2, label_noise=3), {"train": (2, 2), "val": (1, 3)}, seed=6)
    list(build_world(tmp_path / "c", other))
    assert digest(tmp_path / "a") != digest(tmp_path / "c")


def test_clips_are_groups_and_boxes_survive_the_reader(tmp_path: Path) -> None:
    list(build_world(tmp_path / "w", Plan(DASHCAM, {"train": (2, 3), "val": (2, 2)}, seed=1)))
    source = open_source(str(tmp_path / "w"), cache=tmp_path)
    assert source.images["group"].nunique() == 4
    assert source.images["labelled"].all()
    assert source.rows.empty
    for split, clips in (("train", (0, 1)), ("val", (2, 3))):
        expected = np.concatenate(
            [boxes_of(Clip((1, n), DASHCAM, 3 if split == "train" else 2)) for n in clips]
        )
        images = source.images.loc[source.images["split"] == split, "image"]
        boxes = source.annotations[source.annotations["image"].isin(images)][
            ["x1", "y1", "x2", "y2"]
        ].to_numpy()
        np.testing.assert_allclose(np.sort(boxes, 0), np.sort(expected, 0), atol=1e-3)


def test_a_killed_rendering_leaves_no_folder(tmp_path: Path) -> None:
    started = build_world(tmp_path / "w", Plan(DASHCAM, {"val": (3, 2)}), workers=1)
    next(started)
    started.close()
    assert not (tmp_path / "w").exists()
    assert sum(build_world(tmp_path / "w", Plan(DASHCAM, {"val": (3, 2)}), workers=1)) == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dial", "quantity", "rises"),
    [
        ("light", "brightness", False),
        ("blur", "sharpness", False),
        ("density", "count", True),
        ("height", "side", False),
        ("pitch", "aspect", False),
        ("soil", "blue_share", False),
        ("label_convention", "side", True),
    ],
)
def test_each_dial_changes_its_quantity(dial: str, quantity: str, rises: bool) -> None:
    base = {"pitch": 5} if dial == "height" else {}
    low, high = mean_of(Dials(**base), quantity), mean_of(Dials(**base, **{dial: 5}), quantity)
    assert (high > 1.15 * low) if rises else (high < 0.85 * low), (low, high)


@pytest.mark.slow
def test_more_distractors_do_not_mean_fewer_potholes() -> None:
    plain = [len(build_strip(np.random.default_rng(s), Dials()).holes) for s in range(6)]
    crowded = [len(build_strip(np.random.default_rng(s), Dials(distractors=5)).holes) for s in range(6)]
    assert plain == crowded


@pytest.mark.slow
def test_occlusion_hides_labels() -> None:
    free = sum(len(boxes_of(Clip((s,), Dials(pitch=5, height=4), 4))) for s in range(4))
    hidden = sum(len(boxes_of(Clip((s,), Dials(pitch=5, height=4, occlusion=5), 4))) for s in range(4))
    assert hidden < 0.85 * free


@pytest.mark.slow
def test_label_noise_changes_labels_and_not_pixels() -> None:
    changed = 0
    for seed in range(4):
        clean_clip, noisy_clip = (
            Clip((seed,), DRONE, 3),
            Clip((seed,), Dials(pitch=5, height=4, label_noise=5), 3),
        )
        for (clean, exact, _), (noisy, careless, _) in zip(
            clean_clip.images(), noisy_clip.images(), strict=True
        ):
            np.testing.assert_array_equal(clean.pixels, noisy.pixels)
            np.testing.assert_array_equal(exact, clean.boxes)
            changed += len(careless) != len(exact) or not np.allclose(careless, exact)
    assert changed >= 6


@pytest.mark.parametrize("dial", ["light", "blur", "label_noise", "label_convention"])
def test_other_dials_do_not_change_the_holes(dial: str) -> None:
    plain = [view.boxes for view, _, _ in Clip((3,), DRONE, 3).images()]
    changed = [view.boxes for view, _, _ in Clip((3,), Dials(pitch=5, height=4, **{dial: 2}), 3).images()]
    if dial == "label_convention":
        assert sum(map(len, changed)) > 0
        assert sum((b[:, 2] - b[:, 0]).sum() for b in changed) > sum((b[:, 2] - b[:, 0]).sum() for b in plain)
    else:
        for a, b in zip(plain, changed, strict=True):
            np.testing.assert_array_equal(a, b)


def test_dials_refuse_other_values_than_severities() -> None:
    with pytest.raises(ValueError, match="dial pitch is 6"):
        Dials(pitch=6)


@pytest.mark.slow
def test_the_drone_changes_the_viewpoint_and_keeps_the_object_size() -> None:
    in_domain = np.concatenate([boxes_of(Clip((s,), DASHCAM, 5)) for s in range(6)])
    real_world = np.concatenate([boxes_of(Clip((s,), DRONE, 5)) for s in range(6)])
    side = [np.median(np.sqrt((b[:, 2:] - b[:, :2]).prod(1))) for b in (in_domain, real_world)]
    aspect = [np.median((b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1])) for b in (in_domain, real_world)]
    assert 0.6 < side[1] / side[0] < 1.8
    assert aspect[0] > 2 * aspect[1]


def test_a_flight_is_a_video_without_labels(tmp_path: Path) -> None:
    write_flight(tmp_path / "f.mp4", Clip((9,), DRONE, 12), fps=10)
    with av.open(str(tmp_path / "f.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12
    source = open_source(str(tmp_path / "f.mp4"), cache=tmp_path / "cache")
    assert len(source.images) == 3
    assert source.images["group"].unique().tolist() == ["f"]
    assert not source.images["labelled"].any()


def classes_of(clip: Clip) -> np.ndarray:
    return np.bincount(np.concatenate([labels for _, _, labels in clip.images()]), minlength=len(CLASSES))


def several(fault: ClassFault | None = None) -> Clip:
    return Clip((4,), Dials(pitch=5, height=5, distractors=3), 6, classes=CLASSES, fault=fault)


def test_classes_leave_images_and_potholes_as_they_are() -> None:
    one = Clip((4,), Dials(pitch=5, height=5, distractors=3), 2)
    more = replace(one, classes=CLASSES)
    for (view, boxes, _), (same, all_boxes, labels) in zip(one.images(), more.images(), strict=True):
        np.testing.assert_array_equal(view.pixels, same.pixels)
        np.testing.assert_array_equal(boxes, all_boxes[labels == 0])
    assert (classes_of(several()) > 0).all()


def test_boxes_of_each_class_lie_on_what_they_name() -> None:
    # From straight above, an iron cover is darker than the road around it, and a square of its height and
    # width.
    for view, boxes, labels in several().images():
        for x1, y1, x2, y2 in boxes[labels == CLASSES.index("manhole")]:
            inside = min(x1, y1) > 6 and x2 < view.pixels.shape[1] - 6 and y2 < view.pixels.shape[0] - 6
            if inside:
                assert (x2 - x1) / (y2 - y1) == pytest.approx(1, abs=0.12)


def test_faults_of_one_class_leave_the_others_alone() -> None:
    plain = classes_of(several())
    left_out = classes_of(several(ClassFault("left_out", "patch")))
    renamed = classes_of(several(ClassFault("renamed", "patch", "puddle")))
    patch, puddle = CLASSES.index("patch"), CLASSES.index("puddle")
    others = [i for i in range(len(CLASSES)) if i != patch]
    np.testing.assert_array_equal(left_out[others], plain[others])
    assert 0.2 * plain[patch] < left_out[patch] < 0.6 * plain[patch]
    assert renamed[puddle] - plain[puddle] == plain[patch] - renamed[patch] > 0
    assert renamed.sum() == plain.sum()
    frequent = classes_of(several(ClassFault("frequent", "manhole", share=3.0)))
    manhole = CLASSES.index("manhole")
    assert frequent[manhole] > 1.5 * plain[manhole]


def test_another_look_of_manholes_changes_nothing_but_them() -> None:
    clips = several(), several(ClassFault("altered", "manhole"))
    for (plain, boxes, labels), (altered, _, _) in zip(*(clip.images() for clip in clips), strict=True):
        changed = np.abs(plain.pixels.astype(int) - altered.pixels).max(2) > 40
        for x1, y1, x2, y2 in boxes[labels == CLASSES.index("manhole")].round().astype(int):
            changed[max(y1 - 6, 0) : y2 + 6, max(x1 - 6, 0) : x2 + 6] = False
        assert changed.mean() < 1e-4


def test_a_fault_of_an_unknown_class_is_refused() -> None:
    with pytest.raises(ValueError, match="'cone' is no class of the road world"):
        ClassFault("left_out", "cone")
    with pytest.raises(ValueError, match="only a manhole has another look"):
        ClassFault("altered", "patch")


def test_what_is_written_of_potholes_alone_is_as_before() -> None:
    plan = Plan(DASHCAM, {"val": (1, 2)})
    assert set(plan.record()) == {"dials", "splits", "seed", "width", "height", "prefix"}
    assert replace(plan, classes=CLASSES).record()["classes"] == CLASSES
