"""Objects on and beside the road: cars, motorcycles with riders, trees. They are never annotated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from datasets.world.camera import NEAR, Camera

Points = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
Colour = tuple[float, float, float]

CAR_COLOURS: tuple[Colour, ...] = (
    (0.82, 0.82, 0.82),
    (0.12, 0.12, 0.13),
    (0.45, 0.45, 0.46),
    (0.35, 0.12, 0.10),
    (0.12, 0.14, 0.55),
    (0.62, 0.60, 0.52),
)
GLASS: Colour = (0.20, 0.16, 0.13)
RUBBER: Colour = (0.07, 0.07, 0.07)


@dataclass(frozen=True)
class Vehicle:
    """A car or a motorcycle.

    kind: "car" or "motorcycle".
    x, y: position in metres.
    heading: degrees from +Y.
    speed: metres per second along the road.
    colour: BGR in [0, 1].
    """

    kind: str
    x: float
    y: float
    heading: float
    speed: float
    colour: Colour

    def at(self, seconds: float, shift: float) -> Vehicle:
        """The vehicle after some seconds, displaced by shift metres along the periodic road."""
        return Vehicle(
            self.kind, self.x, self.y + self.speed * seconds + shift, self.heading, self.speed, self.colour
        )


@dataclass(frozen=True)
class Tree:
    """A tree as puffs of leaves.

    puffs: x, y, z and radius in metres, (N, 4).
    tones: brightness of each puff, (N,).
    """

    puffs: Points
    tones: Points


@dataclass(frozen=True)
class Face:
    """A flat polygon.

    corners: (N, 3) in metres.
    colour: BGR in [0, 1].
    """

    corners: Points
    colour: Colour


def _prism(
    base: Points, low: float, high: float, top_scale: float, colour: Colour, *, shift: float = 0.0
) -> list[Face]:
    """Upright prism over a convex base (N, 2); its top is scaled by top_scale and shifted along the body."""
    bottom = np.column_stack([base, np.full(len(base), low)])
    top = np.column_stack(
        [base * [0.5 + 0.5 * top_scale, top_scale] + [0.0, shift], np.full(len(base), high)]
    )
    sides = [
        Face(np.array([bottom[i], bottom[j], top[j], top[i]]), colour)
        for i, j in zip(range(len(base)), np.roll(range(len(base)), -1), strict=True)
    ]
    return [*sides, Face(top, colour)]


def rectangle(length: float, width: float, *, centre: float = 0.0) -> Points:
    """Corners (4, 2) of a rectangle with its length along Y."""
    return np.array(
        [
            [-width / 2, -length / 2],
            [width / 2, -length / 2],
            [width / 2, length / 2],
            [-width / 2, length / 2],
        ]
    ) + [0.0, centre]


def _wheel(x: float, y: float, radius: float, width: float) -> list[Face]:
    """A wheel: an upright disc with two faces and a tread."""
    angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    rim = np.stack([np.zeros(14), y + radius * np.cos(angle), radius + radius * np.sin(angle)], 1)
    left, right = rim + [x - width / 2, 0, 0], rim + [x + width / 2, 0, 0]
    tread = [Face(np.array([left[i], left[i - 1], right[i - 1], right[i]]), RUBBER) for i in range(14)]
    return [*tread, Face(left, RUBBER), Face(right, RUBBER)]


@dataclass(frozen=True)
class Mesh:
    """The faces of a body, concatenated. Parts are drawn in order, lowest first.

    corners: corners of all faces, (N, 3) metres.
    starts: index of each face's first corner, (F + 1,).
    part: part of each face, (F,).
    colours: BGR of each face in [0, 1], (F, 3).
    centres: centre of each face, (F, 3) metres.
    normals: outward unit normal of each face, (F, 3).
    """

    corners: Points
    starts: npt.NDArray[np.intp]
    part: npt.NDArray[np.intp]
    colours: Points
    centres: Points
    normals: Points


def _mesh(parts: list[list[Face]]) -> Mesh:
    """Concatenate the faces of convex parts; each normal points away from the centre of its part."""
    faces = [face for part in parts for face in part]
    normals = []
    for part in parts:
        centre = np.concatenate([face.corners for face in part]).mean(0)
        for face in part:
            normal = np.cross(face.corners[1] - face.corners[0], face.corners[-1] - face.corners[0])
            outward = normal @ (face.corners.mean(0) - centre)
            normals.append(normal / (np.linalg.norm(normal) + 1e-9) * (1.0 if outward >= 0 else -1.0))
    return Mesh(
        corners=np.concatenate([face.corners for face in faces]),
        starts=np.cumsum([0, *(len(face.corners) for face in faces)]),
        part=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        colours=np.array([face.colour for face in faces]),
        centres=np.array([face.corners.mean(0) for face in faces]),
        normals=np.array(normals),
    )


@cache
def body(kind: str, colour: Colour) -> Mesh:
    """The mesh of a "car" or a "motorcycle" in body coordinates: Y forward, Z up, on the ground."""
    return _mesh(_car(colour) if kind == "car" else _motorcycle(colour))


def _car(colour: Colour) -> list[list[Face]]:
    """Parts of a car, each a convex body, lowest first."""
    lamps = [
        Face(
            np.array(
                [[x - 0.2, -2.13, 0.6], [x + 0.2, -2.13, 0.6], [x + 0.2, -2.13, 0.75], [x - 0.2, -2.13, 0.75]]
            ),
            (0.1, 0.1, 0.7),
        )
        for x in (-0.62, 0.62)
    ]
    wheels = [part for x in (-0.8, 0.8) for y in (-1.3, 1.35) for part in _wheel(x, y, 0.32, 0.22)]
    body = _prism(rectangle(4.25, 1.78), 0.28, 0.92, 0.97, colour)
    glass = _prism(rectangle(2.5, 1.6, centre=-0.25), 0.92, 1.36, 0.84, GLASS, shift=-0.05)
    roof = _prism(rectangle(1.95, 1.36, centre=-0.32), 1.36, 1.44, 0.94, colour)
    return [wheels, [*body, *lamps], glass, roof]


def _motorcycle(colour: Colour) -> list[list[Face]]:
    """Parts of a motorcycle and its rider, lowest first."""
    wheels = [*_wheel(0, -0.72, 0.31, 0.14), *_wheel(0, 0.72, 0.31, 0.11)]
    frame = _prism(rectangle(1.25, 0.30), 0.35, 0.82, 0.8, colour)
    bars = _prism(rectangle(0.09, 0.78, centre=0.45), 0.92, 1.0, 1.0, RUBBER)
    legs = _prism(rectangle(0.55, 0.58, centre=-0.08), 0.45, 0.85, 0.8, (0.16, 0.13, 0.12))
    torso = _prism(rectangle(0.42, 0.50, centre=-0.15), 0.85, 1.42, 0.75, (0.14, 0.14, 0.16), shift=0.18)
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    helmet = _prism(0.15 * np.stack([np.cos(turn), np.sin(turn)], 1) + [0.0, 0.08], 1.42, 1.68, 0.7, colour)
    return [wheels, frame, legs, bars, torso, helmet]


def _turned(heading: float) -> Points:
    """Rotation (3, 3) about the vertical by heading degrees."""
    turn = np.radians(heading)
    return np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])


def footprint(vehicle: Vehicle) -> Points:
    """The rectangle of road under a vehicle, (4, 2) metres."""
    size = (4.25, 1.78) if vehicle.kind == "car" else (1.9, 0.6)
    return np.asarray(rectangle(*size) @ _turned(vehicle.heading)[:2, :2].T + [vehicle.x, vehicle.y])


def draw_vehicle(image: Pixels, mask: Pixels, camera: Camera, vehicle: Vehicle, sun: Points) -> None:
    """Draw a vehicle into image (H, W, 3) and mask (H, W), both uint8, in place.

    Within each part, far faces are drawn first.
    """
    shape = body(vehicle.kind, vehicle.colour)
    rotation = _turned(vehicle.heading)
    pixels, depth = camera.project(shape.corners @ rotation.T + [vehicle.x, vehicle.y, 0])
    if depth.min() <= NEAR or (pixels.max(0) < 0).any() or (pixels.min(0) > 2 * camera.centre).any():
        return
    normals = shape.normals @ rotation.T
    to_camera = camera.position - (shape.centres @ rotation.T + [vehicle.x, vehicle.y, 0])
    facing = (normals * to_camera).sum(1) > 0
    light = np.array([sun[0], sun[1], 1.3]) / np.hypot(1.0, 1.3)
    lit = 0.55 + 0.5 * np.maximum(normals @ light, 0)
    shades = np.clip(255 * shape.colours * lit[:, None], 0, 255)
    corners = np.round(np.clip(pixels, -4000, 8000) * 16).astype(np.int32)
    squared_distance = (to_camera**2).sum(1)
    for face in np.lexsort((-squared_distance, shape.part)):
        if facing[face]:
            outline = [corners[shape.starts[face] : shape.starts[face + 1]]]
            cv2.fillPoly(image, outline, shades[face].tolist(), cv2.LINE_AA, 4)
            cv2.fillPoly(mask, outline, 255, cv2.LINE_8, 4)


def tree(rng: np.random.Generator, x: float, y: float) -> Tree:
    """A tree at (x, y) metres: a crown of leaf puffs."""
    size = rng.uniform(0.8, 1.7)
    offsets = np.clip(rng.normal(0, 0.75, (46, 3)), -1.3, 1.3) * size
    puffs = np.column_stack([offsets + [x, y, 1.2 + 2.0 * size], rng.uniform(0.18, 0.45, 46) * size])
    puffs[:, 2] = np.maximum(puffs[:, 2], 0.7)
    return Tree(puffs, np.maximum(0.22 + 0.09 * (offsets[:, 2] / size) + rng.uniform(-0.05, 0.05, 46), 0.10))


def draw_tree(image: Pixels, mask: Pixels, camera: Camera, crown: Tree, shift: float) -> None:
    """Draw a tree as overlapping discs, far ones first."""
    centres, depth = camera.project(crown.puffs[:, :3] + [0, shift, 0])
    for i in np.argsort(-depth):
        radius = camera.focal * crown.puffs[i, 3] / max(float(depth[i]), NEAR)
        if depth[i] <= 1.0 or radius < 0.7 or radius > 400:
            continue
        centre = (int(centres[i, 0] * 16), int(centres[i, 1] * 16))
        if abs(centre[0]) > 60_000 or abs(centre[1]) > 60_000:
            continue
        tone = float(crown.tones[i])
        cv2.circle(
            image,
            centre,
            int(radius * 16),
            [255 * tone * 0.55, 255 * tone * 1.15, 255 * tone * 0.8],
            -1,
            cv2.LINE_AA,
            4,
        )
        cv2.circle(mask, centre, int(radius * 16), 255, -1, cv2.LINE_8, 4)
