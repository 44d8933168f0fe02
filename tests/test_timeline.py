"""Videos over time: linking under a moving camera, blinking counted by hand, cuts between scenes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated import make_domain
from diagnostics.timeline import build_timeline, link, measure_steadiness
from reports.page.videos import clip_words


def boxes(*corners: tuple[float, float]) -> np.ndarray:
    return np.array([(x, y, x + 20, y + 20) for x, y in corners], float).reshape(-1, 4)


def labels(count: int) -> np.ndarray:
    return np.zeros(count, int)


def test_links_follow_a_moving_camera() -> None:
    first, second = boxes((100, 100), (200, 120), (300, 50)), boxes((318, 50), (118, 100), (218, 120))
    assert link(first, second, labels(3), labels(3), limit=30).tolist() == [1, 2, 0]
    # The boxes moved further than the limit.
    assert link(first, second, labels(3), labels(3), limit=10).tolist() == [-1, -1, -1]


def test_boxes_of_different_classes_are_not_linked() -> None:
    assert link(boxes((0, 0)), boxes((0, 0)), labels(1), labels(1) + 1, limit=10).tolist() == [-1]


def burst(shown: list[list[tuple[float, float]]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Frames of one burst with a detection of confidence 0.9 at each corner."""
    frames = pd.DataFrame(
        {
            "image": [f"f{k}" for k in range(len(shown))],
            "group": "v",
            "width": 640,
            "burst": 0,
            "frame": range(len(shown)),
        }
    )
    rows = [(f"f{k}", 0, *box, 0.9) for k, corners in enumerate(shown) for box in boxes(*corners)]
    return frames, pd.DataFrame(rows, columns=["image", "label", "x1", "y1", "x2", "y2", "confidence"])


def test_blinks_and_fragments_counted_by_hand() -> None:
    steady, blinking = (50.0, 50.0), (300.0, 200.0)
    # The second object is gone in frame 2 and back in frame 3; both run over eight frames.
    shown = [[steady] if k == 2 else [steady, blinking] for k in range(8)]
    result = measure_steadiness("v", *burst(shown))
    assert result.shown == 13
    assert result.gone is None
    frames, detections = burst(shown)
    twice = pd.concat([frames, frames.assign(image="g" + frames["image"], burst=1)], ignore_index=True)
    both = pd.concat([detections, detections.assign(image="g" + detections["image"])], ignore_index=True)
    result = measure_steadiness("v", twice, both)
    # Per burst: 8 - 1 steady boxes and 6 blinking ones before the last frame, of which one is gone in the
    # next.
    assert (result.pairs, result.shown) == (14, 26)
    assert result.gone == pytest.approx(2 / 26)
    assert result.blinked == pytest.approx(2 / 26)
    assert result.fragments == pytest.approx(3 / 2)


def test_a_cut_is_where_the_fingerprint_changes() -> None:
    domain = make_domain("v", clips=1, frames=10, seed=0, labelled=False)
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 256, 32, np.uint8) for _ in range(2)]
    prints = []
    for k in range(10):
        bits = scenes[k >= 6].copy()
        # Within a scene an eighth of the bits change.
        flips = rng.random(256) < 0.125
        prints.append(np.bitwise_xor(bits, np.packbits(flips)).tobytes())
    images = domain.images.assign(seconds=np.arange(10) * 0.5, fingerprint=prints)
    frames = build_timeline(type(domain)(**{**vars(domain), "images": images}), np.linspace(0, 2, 10))
    assert frames.loc[frames["cut"], "seconds"].tolist() == [3.0]
    assert frames["novelty"].is_monotonic_increasing


def test_a_fast_camera_has_no_cuts() -> None:
    domain = make_domain("v", clips=1, frames=10, seed=0, labelled=False)
    rng = np.random.default_rng(1)
    prints = [rng.integers(0, 256, 32, np.uint8).tobytes() for _ in range(10)]
    images = domain.images.assign(seconds=np.arange(10) * 0.5, fingerprint=prints)
    frames = build_timeline(type(domain)(**{**vars(domain), "images": images}), None)
    assert not frames["cut"].any()
    assert "too far between two samples" in clip_words(frames)


def test_images_without_time_have_no_timeline() -> None:
    domain = make_domain(clips=1, frames=4)
    assert build_timeline(
        type(domain)(**{**vars(domain), "images": domain.images.assign(seconds=np.nan)}), None
    ).empty


def test_an_empty_timeline_keeps_the_type_of_cuts() -> None:
    still = make_domain(clips=1, frames=4)
    still = type(still)(**{**vars(still), "images": still.images.assign(seconds=np.nan)})
    moving = make_domain("v", clips=1, frames=4)
    seconds = moving.images.assign(seconds=np.arange(4.0))
    moving = type(moving)(**{**vars(moving), "images": seconds})
    both = pd.concat([build_timeline(still, None), build_timeline(moving, None)], ignore_index=True)
    assert len(both) == 4
    assert both["cut"].dtype == bool
