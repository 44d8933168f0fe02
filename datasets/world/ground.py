"""The road from above: a strip of surface with everything that is flat on it or sunk into it.

The strip is periodic along Y, so that a clip can be of any length. The images of a clip share one strip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from datasets.world.dials import DISTRACTOR_FACTOR, HOLES_PER_100_SQUARE_METRES, SOIL_SHARE, ClassFault, Dials

Image = npt.NDArray[np.floating[Any]]
Polygon = npt.NDArray[np.float64]

METRES_PER_TEXEL = 0.025
HALF_WIDTH = 12.0
LENGTH = 32.0
ROWS, COLUMNS = int(LENGTH / METRES_PER_TEXEL), int(2 * HALF_WIDTH / METRES_PER_TEXEL)
# Metres around a hole's rim that its drawing covers: crumbs and the stain.
MARGIN = 1.6 * 0.35


@dataclass(frozen=True)
class Hole:
    """One pothole.

    rim: outline (N, 2) in metres on the road surface.
    depth: metres.
    wet: whether it holds water.
    """

    rim: Polygon
    depth: float
    wet: bool


@dataclass(frozen=True)
class Strip:
    """A stretch of road.

    colour: (ROWS, COLUMNS, 3) BGR in [0, 1].
    depth: (ROWS, COLUMNS) metres below the surface.
    water: (ROWS, COLUMNS) share of standing water.
    holes: the potholes, which are annotated.
    puddles, patches, manholes: outlines (N, 2) in metres.
    half_road: half the width of the carriageway, in metres.
    sun: unit vector (2,) on the ground towards the sun.
    """

    colour: Image
    depth: Image
    water: Image
    holes: tuple[Hole, ...]
    puddles: tuple[Polygon, ...]
    patches: tuple[Polygon, ...]
    manholes: tuple[Polygon, ...]
    half_road: float
    sun: npt.NDArray[np.float64]


def noise(rng: np.random.Generator, cell: int, *, rows: int = ROWS, columns: int = COLUMNS) -> Image:
    """Smooth noise in [0, 1], (rows, columns), periodic along rows; cell is the feature size in texels."""
    grid = rng.random((rows // cell, columns // cell + 4), dtype=np.float32)
    grid = np.concatenate([grid[-2:], grid, grid[:2]])
    large = cv2.resize(grid, (grid.shape[1] * cell, grid.shape[0] * cell), interpolation=cv2.INTER_CUBIC)
    return np.asarray(large[2 * cell : 2 * cell + rows, cell : cell + columns], dtype=np.float32)


def _smoothstep(low: float, high: float, values: Image) -> Image:
    """Hermite step from 0 below low to 1 above high."""
    t = (values - np.float32(low)) * np.float32(1 / (high - low))
    np.clip(t, 0, 1, out=t)
    step = t * -2
    step += 3
    step *= t
    step *= t
    return np.asarray(step, dtype=np.float32)


def _blob(rng: np.random.Generator, radius: float, *, ragged: float, points: int = 56) -> Polygon:
    """An irregular closed outline (points, 2) around the origin, in metres."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    shape = np.ones(points)
    for harmonic in range(2, 9):
        shape += ragged * rng.normal() / harmonic * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
    stretch = rng.uniform(0.85, 1.3)
    outline = (
        radius
        * np.clip(shape, 0.45, 1.6)[:, None]
        * np.stack([np.cos(angle) / stretch**0.5, np.sin(angle) * stretch**0.5], 1)
    )
    turn = rng.uniform(0, np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(outline @ rotation.T)


def _to_texels(points: Polygon) -> Polygon:
    """Metres (N, 2) -> fractional texel positions (N, 2) as (column, row)."""
    return (points + [HALF_WIDTH, 0.0]) / METRES_PER_TEXEL - 0.5


class Painter:
    """Draws local features into the strip's arrays; windows wrap along Y because the strip is periodic.

    rng: the strip's random stream.
    colour, depth, water, sun: as in `Strip`.
    """

    def __init__(self, rng: np.random.Generator, colour: Image, sun: npt.NDArray[np.float64]) -> None:
        self.rng = rng
        self.colour = colour
        self.depth = np.zeros((ROWS, COLUMNS), np.float32)
        self.water = np.zeros((ROWS, COLUMNS), np.float32)
        self.sun = sun

    def window(self, outline: Polygon, margin: float) -> tuple[npt.NDArray[np.intp], slice, Image]:
        """Row indices (wrapped), column slice and anti-aliased mask of an outline plus a margin in metres."""
        texels = _to_texels(outline)
        pad = margin / METRES_PER_TEXEL
        low = np.floor(texels.min(0) - pad).astype(int)
        high = np.ceil(texels.max(0) + pad).astype(int)
        low[0], high[0] = max(low[0], 0), min(high[0], COLUMNS)
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(
            mask, [np.round((texels - low) * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4
        )
        rows = np.arange(low[1], high[1]) % ROWS
        return rows, slice(low[0], high[0]), np.asarray(mask.astype(np.float32) / 255, np.float32)

    def grain(self, shape: tuple[int, ...], cell: int) -> Image:
        """Noise in [0, 1] for a local window."""
        small = self.rng.random((shape[0] // cell + 2, shape[1] // cell + 2), dtype=np.float32)
        return np.asarray(cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR))

    def hole(self, hole: Hole) -> None:
        """Draw a pothole: gravel floor, bright rim, wall shaded by the sun, crumbs and stain around it."""
        rows, columns, mask = self.window(hole.rim, MARGIN)
        inside = (
            np.asarray(cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3), np.float32)
            * METRES_PER_TEXEL
        )
        outside = (
            np.asarray(cv2.distanceTransform((mask <= 0.5).astype(np.uint8), cv2.DIST_L2, 3), np.float32)
            * METRES_PER_TEXEL
        )
        reach = max(float(inside.max()), 0.05)
        rough = self.grain(mask.shape, 4) * 0.6 + self.grain(mask.shape, 2) * 0.4
        # Steep walls and a flat floor: from a car the far wall is visible, from above the floor.
        sunk = hole.depth * _smoothstep(0, min(0.22 * reach, 0.09), inside) * (0.86 + 0.28 * rough)
        slope_y, slope_x = np.gradient(
            np.asarray(cv2.GaussianBlur(sunk, (0, 0), 1.0), np.float32), METRES_PER_TEXEL
        )
        steep = _smoothstep(0.25, 1.1, np.hypot(slope_x, slope_y))
        lit = np.clip(1 + 0.55 * (slope_x * self.sun[0] + slope_y * self.sun[1]), 0.45, 1.5)
        patch = self.colour[rows, columns]
        # Gravel in the road's own colour on the floor; damp base layers in the walls.
        gravel = (
            (0.62 + 0.52 * rough[..., None])
            * (0.30 * patch + 0.70 * patch.mean((0, 1)))
            * np.array([0.95, 1.0, 1.04], np.float32)
        )
        earth = (0.22 + 0.20 * rough[..., None]) * patch.mean((0, 1))
        wall = (gravel * (1 - steep[..., None]) + earth * steep[..., None]) * lit[..., None]
        blend = _smoothstep(0.25, 0.75, mask)[..., None]
        stain = 1 - 0.12 * np.exp(-outside / 0.10) * (0.5 + 0.5 * self.grain(mask.shape, 6))
        crumbs = ((self.rng.random(mask.shape, dtype=np.float32) > 0.965) * np.exp(-outside / 0.14) * 0.18)[
            ..., None
        ]
        rim = (
            np.exp(-(((outside - 0.015) / 0.022) ** 2))
            * _smoothstep(0.35, 0.6, self.grain(mask.shape, 7))
            * 0.12
        )[..., None]
        around = patch * stain[..., None] + crumbs + rim
        painted = around * (1 - blend) + wall * blend
        if hole.wet:
            level = _smoothstep(0.55 * hole.depth, 0.75 * hole.depth, sunk.astype(np.float32)) * blend[..., 0]
            painted = painted * (1 - 0.55 * level[..., None]) + 0.04 * level[..., None]
            self.water[rows, columns] = np.maximum(self.water[rows, columns], level)
        self.colour[rows, columns] = painted
        self.depth[rows, columns] = np.maximum(self.depth[rows, columns], sunk)

    def puddle(self, outline: Polygon) -> None:
        """Draw a puddle: flat water, darker and reflecting, without rim or walls."""
        rows, columns, mask = self.window(outline, 0.3)
        soft = np.asarray(cv2.GaussianBlur(mask, (0, 0), 3), np.float32)
        patch = self.colour[rows, columns]
        wet = patch * 0.62
        damp = np.asarray(cv2.GaussianBlur(mask, (0, 0), 9), np.float32)[..., None]
        self.colour[rows, columns] = (patch * (1 - 0.25 * damp)) * (1 - soft[..., None]) + wet * soft[
            ..., None
        ]
        self.water[rows, columns] = np.maximum(self.water[rows, columns], soft)

    def patch(self, centre: Polygon, size: tuple[float, float], tone: float) -> Polygon:
        """Draw a rectangular repair with a tar seam; returns its outline."""
        half = np.array(size) / 2
        corners = (
            centre + np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + self.rng.normal(0, 0.04, (4, 2))
        )
        rows, columns, mask = self.window(corners, 0.15)
        seam = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        patch = self.colour[rows, columns]
        level = patch.mean((0, 1)) * tone * (0.93 + 0.14 * self.grain(mask.shape, 2)[..., None])
        mixed = patch * (1 - 0.85 * mask[..., None]) + level * 0.85 * mask[..., None]
        self.colour[rows, columns] = mixed * (1 - 0.45 * np.asarray(seam, np.float32)[..., None])
        return corners

    def manhole(self, centre: Polygon, radius: float) -> Polygon:
        """Draw an iron cover: a sharp circle with a ring and a chequered plate; returns its outline."""
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        circle = centre + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
        rows, columns, mask = self.window(circle, 0.12)
        grid_y, grid_x = np.mgrid[: mask.shape[0], : mask.shape[1]]
        half = np.array(mask.shape) / 2
        distance = np.hypot(grid_y - half[0], grid_x - half[1]) * METRES_PER_TEXEL
        plate = (
            0.30
            + 0.07 * np.sign(np.sin(grid_x * 0.9) * np.sin(grid_y * 0.9))
            + 0.05 * self.grain(mask.shape, 3)
        )
        plate = np.where(np.abs(distance - 0.86 * radius) < 0.025, 0.14, plate)
        self.colour[rows, columns] = self.colour[rows, columns] * (1 - mask[..., None]) + (plate * mask)[
            ..., None
        ].astype(np.float32)
        return circle

    def square_manhole(self, centre: Polygon, radius: float) -> Polygon:
        """Draw a cover as another country has it: a square, its concrete as light as the road, in an iron
        frame; returns its outline.
        """
        # It lies over an iron cover, so that as much is drawn from the strip's stream as for one.
        self.manhole(centre, radius)
        square = centre + 1.05 * radius * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        rows, columns, mask = self.window(square, 0.12)
        frame = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        patch = self.colour[rows, columns]
        road = np.median(patch[mask < 0.5], axis=0)
        speckle = np.random.default_rng(int(1000 * np.abs(centre).sum())).random(mask.shape, dtype=np.float32)
        concrete = road * (0.98 + 0.12 * speckle[..., None])
        laid = patch * (1 - mask[..., None]) + concrete * mask[..., None]
        self.colour[rows, columns] = laid * (1 - 0.6 * np.asarray(frame, np.float32)[..., None])
        return square

    def crack(self, start: Polygon, steps: int) -> None:
        """Draw a crack: a wandering dark line of one or two texels."""
        heading = self.rng.uniform(0, 2 * np.pi)
        path = [start]
        for _ in range(steps):
            heading += self.rng.normal(0, 0.45)
            path.append(path[-1] + 0.16 * np.array([np.cos(heading), np.sin(heading)]))
        line = np.stack(path)
        texels = _to_texels(line)
        low, high = np.floor(texels.min(0) - 3).astype(int), np.ceil(texels.max(0) + 3).astype(int)
        low[0], high[0] = max(low[0], 0), min(high[0], COLUMNS)
        if high[0] - low[0] < 2:
            return
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.polylines(
            mask,
            [np.round((texels - low) * 16).astype(np.int32)],
            False,
            255,
            int(self.rng.integers(1, 3)),
            cv2.LINE_AA,
            4,
        )
        rows, columns = np.arange(low[1], high[1]) % ROWS, slice(low[0], high[0])
        self.colour[rows, columns] *= 1 - 0.5 * (mask.astype(np.float32) / 255)[..., None]


def _surface(rng: np.random.Generator, half_road: float, soil: int, sun: npt.NDArray[np.float64]) -> Image:
    """The bare strip: asphalt or earth, verge, grass, wheel tracks, paint, shadows of trees.

    Returns BGR (ROWS, COLUMNS, 3) in [0, 1].
    """
    x = ((np.arange(COLUMNS, dtype=np.float32) + 0.5) * METRES_PER_TEXEL - HALF_WIDTH)[None, :]
    y = ((np.arange(ROWS, dtype=np.float32) + 0.5) * METRES_PER_TEXEL)[:, None]
    coarse, middle, fine = noise(rng, 100), noise(rng, 20), noise(rng, 4)
    speckle = rng.random((ROWS, COLUMNS), dtype=np.float32)
    edge = np.abs(x) + 0.5 * (middle - 0.5)
    on_road = 1 - _smoothstep(half_road - 0.08, half_road + 0.08, edge)
    on_grass = _smoothstep(half_road + 0.7, half_road + 1.5, edge + 0.8 * (coarse - 0.5))
    tracks = np.exp(-(((np.abs(np.abs(x) - half_road / 2) - 0.8) / 0.35) ** 2))
    seam = 1 - 0.25 * (np.abs(x - rng.uniform(-0.3, 0.3)) < 0.03)
    period = rng.choice([LENGTH / 4, LENGTH])
    dashes = (np.abs(x) < 0.06) & ((y % period) < period / 3)
    edges = np.abs(np.abs(x) - (half_road - 0.25)) < 0.06
    relief = coarse + middle + speckle
    # Brightness of each material, before its tint.
    earth = (relief * 0.13 + fine * 0.10 + 0.27) * (1 - 0.14 * tracks)
    grass = on_grass * (0.15 * (relief + fine) + 0.06)
    paint = (
        on_road
        * (dashes | edges)
        * _smoothstep(0.30, 0.55, fine * 0.5 + middle * 0.5 + rng.uniform(0.0, 0.15))
    )
    asphalt = (relief * 0.15 + fine * 0.12 + 0.70) * (rng.uniform(0.34, 0.50) * (1 - 0.10 * tracks) * seam)
    share = SOIL_SHARE[soil]
    if share > 0:
        bare = _smoothstep(-0.12, 0.12, np.asarray(share * 1.3 - 0.15 - coarse, np.float32))
        paint *= 1 - bare
    paint *= 0.85
    shadow = _tree_shadows(rng, half_road, sun)
    road = on_road * shadow
    asphalt *= road - paint
    verge = earth * (1 - on_road) * (1 - on_grass) * shadow
    grass *= shadow
    white = 0.82 * paint * shadow
    tints = {
        "asphalt": np.array([1.03, 1.0, 0.97]) + rng.normal(0, 0.02, 3),
        "earth": np.array([0.62, 0.85, 1.08]) + rng.normal(0, 0.04, 3),
        "grass": np.array([0.50, 1.15, 0.85]) + rng.normal(0, 0.05, 3),
        "verge": np.array([0.80, 0.95, 1.05]),
    }
    layers = [(verge, tints["verge"]), (grass, tints["grass"])]
    if share > 0:
        layers.append((earth * bare * road, tints["earth"]))
        asphalt *= 1 - bare
    colour = np.empty((ROWS, COLUMNS, 3), np.float32)
    for channel in range(3):
        plane = asphalt * np.float32(tints["asphalt"][channel])
        for layer, tint in layers:
            plane += layer * np.float32(tint[channel])
        plane += white
        colour[..., channel] = plane
    return colour


def _tree_shadows(rng: np.random.Generator, half_road: float, sun: npt.NDArray[np.float64]) -> Image:
    """Multiplier (ROWS, COLUMNS) of the soft shadows that trees beside the road cast onto it."""
    shadow = np.ones((ROWS // 4, COLUMNS // 4), np.float32)
    scale = 4 * METRES_PER_TEXEL
    for _ in range(int(rng.integers(0, 5))):
        side = -np.sign(sun[0]) if rng.random() < 0.85 else np.sign(sun[0])
        centre = np.array([-side * (half_road + rng.uniform(0.5, 3.0)), rng.uniform(0, LENGTH)])
        for _ in range(26):
            spot = centre - sun * rng.uniform(0.5, 4.0) + rng.normal(0, 0.8, 2)
            texel = np.round((spot + [HALF_WIDTH, 0]) / scale).astype(int)
            cv2.circle(
                shadow,
                (int(texel[0]), int(texel[1] % shadow.shape[0])),
                int(rng.uniform(0.15, 0.55) / scale),
                0.52,
                -1,
                cv2.LINE_AA,
            )
    shadow = np.asarray(cv2.GaussianBlur(shadow, (0, 0), 1.4), np.float32)
    return np.asarray(cv2.resize(shadow, (COLUMNS, ROWS), interpolation=cv2.INTER_LINEAR), np.float32)


class Spots:
    """Draws positions on the carriageway that do not overlap.

    rng: the strip's random stream.
    half_road: half the width of the carriageway, in metres.
    taken: x, y and radius of each position drawn, in metres.
    """

    def __init__(self, rng: np.random.Generator, half_road: float) -> None:
        self.rng = rng
        self.half_road = half_road
        self.taken: list[tuple[float, float, float]] = []

    def draw(self, radius: float) -> Polygon | None:
        """A centre (2,) in metres for a disc of this radius; None if 30 attempts find no free one."""
        for _ in range(30):
            x = self.rng.uniform(-self.half_road + radius + 0.3, self.half_road - radius - 0.3)
            y = self.rng.uniform(0, LENGTH)
            clear = all(
                np.hypot(x - a, (y - b + LENGTH / 2) % LENGTH - LENGTH / 2) > radius + r + 0.12
                for a, b, r in self.taken
            )
            if clear:
                self.taken.append((x, y, radius))
                return np.array([x, y])
        return None


def build_strip(rng: np.random.Generator, dials: Dials, fault: ClassFault | None = None) -> Strip:
    """Draw one road; the same generator state, dials and fault give identical arrays."""
    half_road = float(rng.uniform(3.2, 3.8))
    azimuth = rng.uniform(0, 2 * np.pi)
    sun = np.array([np.cos(azimuth), np.sin(azimuth)])
    painter = Painter(rng, _surface(rng, half_road, dials.soil, sun), sun)
    spots = Spots(rng, half_road)
    area = 2 * half_road * LENGTH
    factor = DISTRACTOR_FACTOR[dials.distractors]
    frequent = fault.name if fault is not None and fault.kind == "frequent" else ""
    often = {frequent: fault.share} if fault is not None else {}

    def centres(count: float, low: float, high: float) -> list[tuple[Polygon, float]]:
        radii = rng.uniform(low, high, rng.poisson(count))
        placed = [(spots.draw(float(r)), float(r)) for r in radii]
        return [(centre, r) for centre, r in placed if centre is not None]

    # Holes are placed first, so that more distractors do not mean fewer holes.
    holes_wanted = HOLES_PER_100_SQUARE_METRES[dials.density] * area / 100
    sites = centres(holes_wanted * often.get("pothole", 1), 0.20, 0.62)
    for _ in range(int(rng.poisson(34))):
        painter.crack(
            np.array([rng.uniform(-half_road, half_road), rng.uniform(0, LENGTH)]), int(rng.integers(6, 30))
        )
    patches = [
        painter.patch(centre, (radius * 1.3, radius * rng.uniform(1.0, 2.2)), rng.choice([0.62, 0.75, 1.22]))
        for centre, radius in centres(4 * factor * often.get("patch", 1), 0.5, 1.1)
    ]
    puddles = [
        centre + _blob(rng, radius, ragged=0.28)
        for centre, radius in centres(3 * factor * often.get("puddle", 1), 0.25, 0.7)
    ]
    for outline in puddles:
        painter.puddle(outline)
    cover = painter.square_manhole if fault is not None and fault.kind == "altered" else painter.manhole
    manholes = [cover(centre, 0.31) for centre, _ in centres(2 * factor * often.get("manhole", 1), 0.3, 0.35)]
    holes = []
    for centre, radius in sites:
        hole = Hole(
            centre + _blob(rng, radius, ragged=0.32),
            depth=float(rng.uniform(0.07, 0.15)) * min(1.0, radius / 0.4 + 0.3),
            wet=bool(rng.random() < 0.1),
        )
        painter.hole(hole)
        holes.append(hole)
    return Strip(
        np.clip(painter.colour, 0, 1),
        painter.depth,
        painter.water,
        tuple(holes),
        tuple(puddles),
        tuple(patches),
        tuple(manholes),
        half_road,
        sun,
    )
