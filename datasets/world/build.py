"""Writing clips of the road world to disk: images with YOLO labels, or an mp4 without labels."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import yaml

from datasets.data_yaml import MANIFEST
from datasets.files import draft_folder
from datasets.world.bodies import CAR_COLOURS, Tree, Vehicle, tree
from datasets.world.camera import Camera
from datasets.world.dials import (
    BLUR_SIGMA_PX,
    DISTRACTOR_FACTOR,
    EXPOSURE_GAIN,
    HEIGHT_METRES,
    LABEL_MARGIN,
    LABEL_NOISE_SHARE,
    OCCLUDED_SHARE,
    PITCH_DEGREES,
    POTHOLES,
    PUDDLES_ARE_POTHOLES_FROM,
    ClassFault,
    Dials,
)
from datasets.world.ground import LENGTH, Strip, build_strip
from datasets.world.view import Appearance, Boxes, Ground, Scene, View, render_view

Labels = npt.NDArray[np.int64]

JPEG_QUALITY = 90
# Least distance of vehicles in a lane, centre to centre.
GAP_METRES = 5.5
# Skies of a clear noon, an overcast day and a low sun: BGR at the horizon and overhead.
SKIES = (
    ((0.88, 0.84, 0.80), (0.78, 0.58, 0.40)),
    ((0.84, 0.84, 0.84), (0.76, 0.75, 0.74)),
    ((0.66, 0.78, 0.92), (0.70, 0.56, 0.46)),
)


@dataclass(frozen=True)
class Clip:
    """One recording of one road.

    seed: fixes every random draw, so that the clip is reproducible to the byte.
    dials: severity of each cause of failure.
    frames: count of images.
    width, height: image size in pixels.
    metres_between_frames: distance that the camera moves per frame.
    seconds_between_frames: time that other vehicles move per frame.
    classes: what is annotated, see `CLASSES`
    fault: what is wrong with one class; None for nothing
    """

    seed: tuple[int, ...]
    dials: Dials
    frames: int
    width: int = 384
    height: int = 288
    metres_between_frames: float = 2.6
    seconds_between_frames: float = 0.4
    classes: tuple[str, ...] = POTHOLES
    fault: ClassFault | None = None

    def images(self) -> Iterator[tuple[View, Boxes, Labels]]:
        """Yield each frame's view, the boxes that its annotator drew, (N, 4) xyxy pixels, and their classes,
        (N,).
        """
        # Each part has its own random stream, so that changing one dial changes nothing else.
        road, appearances, traffic, plants, mounting, sways, sensor, annotator = (
            np.random.default_rng([*self.seed, stream]) for stream in range(8)
        )
        strip = build_strip(road, self.dials, self.fault)
        scene = Scene(
            Ground(strip),
            _draw_appearance(appearances, self.dials),
            _draw_traffic(traffic, strip, self.dials),
            _draw_trees(plants, strip),
            LABEL_MARGIN[self.dials.label_convention],
        )
        mount = _draw_mount(mounting, strip, self.dials)
        for index in range(self.frames):
            sway = sways.normal(0, [0.12, 0.5, 0.6, 0.4])
            camera = Camera(
                x=mount.x + float(sway[0]),
                y=mount.y + index * self.metres_between_frames,
                height=mount.height * (1 + 0.02 * float(sway[0])),
                pitch=min(mount.pitch + float(sway[1]), 90.0),
                yaw=mount.yaw + float(sway[2]),
                roll=mount.roll + float(sway[3]),
                width=self.width,
                height_px=self.height,
            )
            view = render_view(scene, camera, seconds=index * self.seconds_between_frames, rng=sensor)
            if self.classes == POTHOLES:
                boxes = annotate(annotator, view, self.dials, (self.width, self.height))
                yield view, boxes, np.zeros(len(boxes), np.int64)
            else:
                yield view, *_annotate_classes(annotator, view, self.classes, self.fault)


def _draw_trees(rng: np.random.Generator, strip: Strip) -> list[Tree]:
    """A few trees on either side of the road."""
    return [
        tree(rng, side * rng.uniform(strip.half_road + 3.2, 11.0), rng.uniform(0, LENGTH))
        for side in (-1, 1)
        for _ in range(int(rng.integers(1, 5)))
    ]


def _draw_appearance(rng: np.random.Generator, dials: Dials) -> Appearance:
    """The light, lens and sensor of a clip."""
    warm = rng.normal(0, 0.03)
    return Appearance(
        gain=float(rng.uniform(1.0, 1.3)) * EXPOSURE_GAIN[dials.light],
        gamma=float(rng.uniform(0.8, 1.0)),
        tint=(1 - warm, 1.0, 1 + warm),
        haze=float(rng.uniform(0.002, 0.010)),
        sky=SKIES[int(rng.integers(len(SKIES)))],
        noise=float(rng.uniform(0.006, 0.014)),
        blur=BLUR_SIGMA_PX[dials.blur] * float(rng.uniform(0.8, 1.2)),
    )


def _draw_mount(rng: np.random.Generator, strip: Strip, dials: Dials) -> Camera:
    """The camera at the first frame; the range of yaw grows with pitch, because drones turn freely."""
    swing = 3 + 9 * dials.pitch
    return Camera(
        x=float(strip.half_road / 2 + rng.normal(0, 0.25)) if dials.pitch < 3 else float(rng.normal(0, 1.0)),
        y=float(rng.uniform(0, LENGTH)),
        height=HEIGHT_METRES[dials.height] * float(rng.uniform(0.92, 1.08)),
        pitch=PITCH_DEGREES[dials.pitch] + float(rng.uniform(-2, 2)),
        yaw=float(rng.uniform(-swing, swing)),
        roll=float(rng.normal(0, 0.8)),
    )


def _draw_traffic(rng: np.random.Generator, strip: Strip, dials: Dials) -> list[Vehicle]:
    """Cars and motorcycles in their lanes, and vehicles parked over holes."""

    def vehicle(x: float, y: float, heading: float, speed: float) -> Vehicle:
        kind = "car" if rng.random() < 0.5 else "motorcycle"
        return Vehicle(kind, x, y, heading, speed, CAR_COLOURS[int(rng.integers(len(CAR_COLOURS)))])

    traffic: list[Vehicle] = []
    lane_speed = float(rng.uniform(0, 9))
    for _ in range(int(rng.poisson(2.0 * DISTRACTOR_FACTOR[dials.distractors]))):
        lane = 1 if rng.random() < 0.5 else -1
        x, y = lane * strip.half_road / 2 + rng.normal(0, 0.3), rng.uniform(0, LENGTH)
        # All vehicles of a lane have one speed, so that none drives through another.
        if all(
            abs((y - other.y + LENGTH / 2) % LENGTH - LENGTH / 2) > GAP_METRES or other.x * lane < 0
            for other in traffic
        ):
            traffic.append(
                vehicle(float(x), float(y), (0 if lane > 0 else 180) + rng.normal(0, 2), lane * lane_speed)
            )
    for hole in strip.holes:
        if rng.random() < OCCLUDED_SHARE[dials.occlusion]:
            x, y = hole.rim.mean(0) + rng.uniform(-0.6, 0.6, 2)
            traffic.append(vehicle(float(x), float(y), rng.normal(0, 3), 0.0))
    return traffic


def annotate(rng: np.random.Generator, view: View, dials: Dials, size: tuple[int, int]) -> Boxes:
    """The boxes of an annotator with the dials' convention and mistakes, (N, 4) xyxy pixels."""
    boxes = view.boxes
    if dials.label_convention >= PUDDLES_ARE_POTHOLES_FROM:
        boxes = np.concatenate([boxes, view.puddle_boxes])
    # Equal shares of the boxes are dropped, shifted and invented.
    share = LABEL_NOISE_SHARE[dials.label_noise] / 3
    if share == 0 or not len(boxes):
        return boxes
    draw = rng.random(len(boxes))
    drawn = boxes[draw >= share].copy()
    shifted = draw[draw >= share] < 2 * share
    sides = drawn[:, 2:] - drawn[:, :2]
    drawn[shifted] += np.tile(rng.normal(0, 0.35, (int(shifted.sum()), 2)) * sides[shifted], 2)
    invented = boxes[rng.random(len(boxes)) < share]
    offset = rng.uniform([0, 0], [size[0] * 0.5, size[1] * 0.2], (len(invented), 2))
    drawn = np.clip(np.concatenate([drawn, invented + np.tile(offset, 2)]), 0, [*size, *size])
    return drawn[(drawn[:, 2:] - drawn[:, :2]).min(1) > 1] if len(drawn) else drawn


def _annotate_classes(
    rng: np.random.Generator, view: View, classes: tuple[str, ...], fault: ClassFault | None
) -> tuple[Boxes, Labels]:
    """The boxes (N, 4) and classes (N,) of an annotator who makes the mistakes of a fault."""
    parts = [view.boxes_of(name) for name in classes]
    boxes = np.concatenate(parts)
    labels = np.repeat(np.arange(len(classes)), [len(part) for part in parts])
    if fault is None or fault.kind not in ("left_out", "renamed"):
        return boxes, labels
    wrong = (labels == classes.index(fault.name)) & (rng.random(len(boxes)) < fault.share)
    if fault.kind == "left_out":
        return boxes[~wrong], labels[~wrong]
    return boxes, np.where(wrong, classes.index(fault.other), labels)


def _yolo_rows(boxes: Boxes, labels: Labels, width: int, height: int) -> str:
    """YOLO label rows "class cx cy w h" of boxes (N, 4) in xyxy pixels."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 / [width, height]
    side = (boxes[:, 2:] - boxes[:, :2]) / [width, height]
    return "".join(
        f"{label} {cx:.6f} {cy:.6f} {w:.6f} {h:.6f}\n"
        for label, (cx, cy), (w, h) in zip(labels, centre, side, strict=True)
    )


def _write_clip(folder: Path, split: str, name: str, clip: Clip) -> int:
    """Write a clip's images and labels below folder; returns the count of images."""
    cv2.setNumThreads(1)
    for index, (view, boxes, labels) in enumerate(clip.images()):
        stem = f"{name}_{index:04d}"
        cv2.imwrite(
            str(folder / "images" / split / f"{stem}.jpg"),
            view.pixels,
            [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY],
        )
        (folder / "labels" / split / f"{stem}.txt").write_text(
            _yolo_rows(boxes, labels, clip.width, clip.height), encoding="utf-8"
        )
    return clip.frames


def write_flight(path: Path, clip: Clip, *, fps: int = 10) -> None:
    """Write a clip as an mp4 without labels."""
    # The format is explicit because the suffix of a draft does not give it.
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.bit_rate = 3_000_000
        for view, _, _ in clip.images():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view.pixels, format="bgr24")))
        container.mux(stream.encode())


@dataclass(frozen=True)
class Plan:
    """A rendered dataset.

    dials: severities of all its clips.
    splits: split -> count of clips, and of frames per clip.
    seed: fixes every random draw.
    width, height: image size in pixels.
    prefix: first part of the names of clips.
    classes: what is annotated, see `CLASSES`
    fault: what is wrong with one class; None for nothing
    """

    dials: Dials
    splits: dict[str, tuple[int, int]]
    seed: int = 0
    width: int = 384
    height: int = 288
    prefix: str = "clip"
    classes: tuple[str, ...] = POTHOLES
    fault: ClassFault | None = None

    def record(self) -> dict[str, Any]:
        """Everything that decides the bytes. Potholes without a fault are not written, so that datasets of
        before are found again.
        """
        usual = {"classes": POTHOLES, "fault": None}
        return {name: value for name, value in asdict(self).items() if (name, value) not in usual.items()}

    def clips(self) -> list[tuple[str, str, Clip]]:
        """(split, name, clip) in order; each clip has its own seed, so that none depends on the others."""
        listed: list[tuple[str, str, Clip]] = []
        for split, (count, frames) in self.splits.items():
            for _ in range(count):
                number = len(listed)
                clip = Clip(
                    (self.seed, number),
                    self.dials,
                    frames,
                    self.width,
                    self.height,
                    classes=self.classes,
                    fault=self.fault,
                )
                listed.append((split, f"{self.prefix}{number:03d}", clip))
        return listed


def build_world(folder: Path, plan: Plan, *, workers: int | None = None) -> Iterator[int]:
    """Render a plan as a YOLO dataset; the same plan gives the same bytes.

    The folder exists only once it is complete.

    Parameters
    ----------
    folder
        The folder to write.
    plan
        The clips of each split.
    workers
        Count of processes; None for one per CPU.

    Yields
    ------
    int
        Count of images of each clip, once it is written.
    """
    with draft_folder(folder) as draft:
        for split in plan.splits:
            for kind in ("images", "labels"):
                (draft / kind / split).mkdir(parents=True)
        # Spawned, not forked: OpenCV's threads do not survive a fork and would block the child forever.
        with ProcessPoolExecutor(workers or os.cpu_count(), get_context("spawn")) as pool:
            jobs = [
                pool.submit(partial(_write_clip, draft, split, name, clip))
                for split, name, clip in plan.clips()
            ]
            for job in jobs:
                yield job.result()
        data = {
            **{split: f"images/{split}" for split in plan.splits},
            "names": dict(enumerate(plan.classes)),
        }
        (draft / "data.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
        (draft / MANIFEST).write_text(json.dumps(plan.record(), indent=2), encoding="utf-8")


def preview(clip: Clip, count: int) -> npt.NDArray[np.uint8]:
    """The first count images of a clip side by side with their boxes, (H, W * count, 3) BGR."""
    tiles = []
    for _, (view, boxes, _) in zip(range(count), clip.images(), strict=False):
        tile = view.pixels.copy()
        for x1, y1, x2, y2 in np.round(boxes).astype(int):
            cv2.rectangle(tile, (x1, y1), (x2, y2), (0, 220, 255), 1)
        tiles.append(tile)
    return np.hstack(tiles)
