"""Images that share a name are one recording only where they look like one."""

from __future__ import annotations

import numpy as np
import pandas as pd

from diagnostics.recordings import are_recordings


def images(groups: int, frames: int, *, flips: float, seed: int = 0) -> pd.DataFrame:
    """Groups of frames. flips: share of the fingerprint's bits that change from frame to frame."""
    rng = np.random.default_rng(seed)
    rows = []
    for group in range(groups):
        bits = rng.random(256) < 0.5
        for frame in range(frames):
            bits = bits ^ (rng.random(256) < flips)
            name, stamp = f"g{group}_{frame}.jpg", float("nan")
            rows.append(
                {
                    "image": name,
                    "group": f"g{group}",
                    "seconds": stamp,
                    "fingerprint": np.packbits(bits).tobytes(),
                }
            )
    return pd.DataFrame(rows)


def walk(groups: int, frames: int, seed: int) -> np.ndarray:
    """Vectors that drift from frame to frame, as in a flight."""
    steps = np.random.default_rng(seed).normal(size=(groups, frames, 84))
    return steps.cumsum(1).reshape(-1, 84)


def test_a_fixed_camera_is_a_recording_in_any_order() -> None:
    noise = np.random.default_rng(0).normal(size=(60, 84))
    assert are_recordings(images(3, 20, flips=0.05), noise, seed=0)


def test_a_flight_is_a_recording_though_no_two_frames_share_a_scene() -> None:
    assert are_recordings(images(3, 20, flips=0.5), walk(3, 20, 1), seed=0)


def test_web_images_of_one_weather_are_no_recording() -> None:
    """Each group has a look of its own; within it, the order means nothing."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(60, 84)) + np.repeat(rng.normal(size=(3, 84)) * 5, 20, axis=0)
    assert not are_recordings(images(3, 20, flips=0.5), vectors, seed=0)


def test_noise_is_believed_as_rarely_as_the_test_says() -> None:
    """A test at 5 %: more than three of twenty would happen once in sixty series."""
    believed = [
        are_recordings(
            images(3, 20, flips=0.5, seed=seed),
            np.random.default_rng(100 + seed).normal(size=(60, 84)),
            seed=seed,
        )
        for seed in range(20)
    ]
    assert sum(believed) <= 3


def test_few_images_decide_nothing() -> None:
    noise = np.random.default_rng(0).normal(size=(6, 84))
    assert are_recordings(images(2, 3, flips=0.5), noise, seed=0)


def test_pairs_decide_nothing() -> None:
    """Two frames of a clip have no order to break: forty such clips are believed."""
    vectors = np.repeat(np.random.default_rng(0).normal(size=(40, 84)), 2, axis=0)
    assert are_recordings(images(40, 2, flips=0.5), vectors, seed=0)


def test_the_order_of_the_file_does_not_matter() -> None:
    """A COCO json lists images in any order, and frame_10 comes before frame_2 in a folder."""
    frames, vectors = images(3, 20, flips=0.5), walk(3, 20, 1)
    shuffled = np.random.default_rng(3).permutation(len(frames))
    assert are_recordings(frames.iloc[shuffled].reset_index(drop=True), vectors[shuffled], seed=0)
