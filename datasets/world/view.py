"""Rendering one image of the road and the exact boxes of its potholes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from datasets.world.bodies import Tree, Vehicle, draw_tree, draw_vehicle, footprint
from datasets.world.camera import NEAR, Camera
from datasets.world.ground import COLUMNS, HALF_WIDTH, LENGTH, METRES_PER_TEXEL, ROWS, Hole, Strip

Maps = npt.NDArray[np.float32]
Boxes = npt.NDArray[np.float64]

# Steps of the ray march into the holes, and bisections that then locate the wall to a fraction of a texel.
RELIEF_STEPS = 5
BISECTIONS = 3
# Rays advance at most this far along the ground per metre of depth.
MAX_SLANT = 6.0
FOLD = 256
# Potholes are not annotated if the shorter side is below this many pixels ...
MIN_SIDE_PX = 6.0
# ... or less than this share of the object is inside the frame and not hidden.
MIN_VISIBLE = 0.4
# Objects are drawn up to this many metres along the road.
SIGHT = 60.0


@dataclass(frozen=True)
class Appearance:
    """Light, lens and sensor of a clip.

    gain: exposure.
    gamma: exponent of the tone curve.
    tint: BGR multipliers.
    haze: extinction per metre.
    sky: BGR at the horizon and overhead.
    noise: sensor noise as a share of full scale.
    blur: Gaussian sigma in pixels.
    """

    gain: float
    gamma: float
    tint: tuple[float, float, float]
    haze: float
    sky: tuple[tuple[float, float, float], tuple[float, float, float]]
    noise: float
    blur: float


@dataclass(frozen=True)
class View:
    """A rendered image.

    pixels: (H, W, 3) uint8 BGR.
    boxes: boxes of the potholes, (N, 4) xyxy pixels.
    puddle_boxes, patch_boxes, manhole_boxes: boxes of what else is on the road, (N, 4) xyxy pixels.
    """

    pixels: npt.NDArray[np.uint8]
    boxes: Boxes
    puddle_boxes: Boxes
    patch_boxes: Boxes
    manhole_boxes: Boxes

    def boxes_of(self, name: str) -> Boxes:
        """Boxes of one of `CLASSES`, (N, 4) xyxy pixels."""
        return {
            "pothole": self.boxes,
            "patch": self.patch_boxes,
            "manhole": self.manhole_boxes,
            "puddle": self.puddle_boxes,
        }[name]


def sample(texture: npt.NDArray[np.float32], column: Maps, row: Maps) -> npt.NDArray[np.float32]:
    """Bilinear interpolation in a strip array, periodic along rows."""
    return np.asarray(
        cv2.remap(texture, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), np.float32
    )


class Ground:
    """A strip prepared for many views.

    strip: the strip.
    levels: its colours as an 8-bit image pyramid, from which distant road is read.
    depth, water: as in `Strip`, at half resolution.
    max_depth: greatest depth, in metres.
    near_holes: mask, at an eighth of the resolution, of where a ray may enter a hole.
    """

    def __init__(self, strip: Strip) -> None:
        self.strip = strip
        self.levels = [np.round(strip.colour * 255).astype(np.uint8)]
        while self.levels[-1].shape[0] > ROWS // 16:
            previous = self.levels[-1]
            self.levels.append(
                np.asarray(
                    cv2.resize(
                        previous,
                        (previous.shape[1] // 2, previous.shape[0] // 2),
                        interpolation=cv2.INTER_AREA,
                    ),
                    np.uint8,
                )
            )
        # Half resolution is enough for the ray march, which needs the shape of a hole but not its gravel.
        self.depth = np.asarray(
            cv2.resize(strip.depth, (COLUMNS // 2, ROWS // 2), interpolation=cv2.INTER_AREA), np.float32
        )
        self.water = np.asarray(
            cv2.resize(strip.water, (COLUMNS // 2, ROWS // 2), interpolation=cv2.INTER_AREA), np.float32
        )
        self.max_depth = float(strip.depth.max())
        # Holes widened by the greatest distance that a ray covers below the road.
        coarse = np.asarray(
            cv2.resize(self.depth, (COLUMNS // 8, ROWS // 8), interpolation=cv2.INTER_AREA) > 0, np.uint8
        )
        reach = int(np.ceil(self.max_depth * MAX_SLANT / (8 * METRES_PER_TEXEL))) + 1
        wrapped = np.concatenate([coarse[-reach:], coarse, coarse[:reach]])
        self.near_holes = np.asarray(
            cv2.dilate(wrapped, np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))[reach:-reach], np.uint8
        )

    def colour(self, camera: Camera) -> tuple[npt.NDArray[np.float32], Maps, npt.NDArray[np.bool_]]:
        """Render the road without objects.

        Parameters
        ----------
        camera
            The camera.

        Returns
        -------
        tuple[npt.NDArray[np.float32], Maps, npt.NDArray[np.bool_]]
            BGR (H, W, 3) in [0, 1], distance (H, W) in metres, and the mask of pixels below the horizon.
        """
        x, y, below_horizon = camera.ground_rays()
        # Positions stay within one period: remap works in 1/32 pixel and loses precision at large values.
        flat_distance = np.sqrt(
            (x - np.float32(camera.x)) ** 2 + (y - np.float32(camera.y)) ** 2 + np.float32(camera.height**2)
        )
        y = np.mod(y, np.float32(LENGTH)).astype(np.float32)
        if self.max_depth > 0:
            x, y = self.march(camera, x, y)
        column = (x + np.float32(HALF_WIDTH)) / np.float32(METRES_PER_TEXEL) - np.float32(0.5)
        row = y / np.float32(METRES_PER_TEXEL) - np.float32(0.5)
        column = np.clip(column, 0, COLUMNS - 1)
        footprint_m = (
            flat_distance * np.sqrt(flat_distance / np.float32(camera.height)) / np.float32(camera.focal)
        )
        level = np.clip(
            np.log2(np.maximum(footprint_m / np.float32(METRES_PER_TEXEL), 1e-3)) + 0.35,
            0,
            len(self.levels) - 1,
        ).astype(np.int8)
        texture = np.zeros((*x.shape, 3), np.uint8)
        for index in range(len(self.levels)):
            chosen = (level == index) & below_horizon
            band = np.flatnonzero(chosen.any(1))
            if not len(band):
                continue
            rows = slice(int(band[0]), int(band[-1]) + 1)
            scale = np.float32(0.5**index)
            piece = cv2.remap(
                self.levels[index],
                (column[rows] + 0.5) * scale - 0.5,
                (row[rows] + 0.5) * scale - 0.5,
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_WRAP,
            )
            np.copyto(texture[rows], piece, where=chosen[rows][..., None])
        colour = texture.astype(np.float32) / 255
        half = np.float32(0.5)
        shine = sample(self.water, (column - half) * half, (row - half) * half)
        grazing = 1 - np.float32(camera.height) / np.maximum(flat_distance, np.float32(camera.height))
        reflect = (shine * (0.10 + 0.8 * grazing**4))[..., None]
        return (
            np.asarray(colour * (1 - reflect) + reflect * np.array([0.80, 0.76, 0.72]), np.float32),
            flat_distance,
            below_horizon,
        )

    def march(self, camera: Camera, x: Maps, y: Maps) -> tuple[Maps, Maps]:
        """Follow the rays into holes to the floor or wall, by relief mapping: steps, then bisection."""
        row = y / np.float32(LENGTH) * np.float32(self.near_holes.shape[0]) - np.float32(0.5)
        column = (x + np.float32(HALF_WIDTH)) / np.float32(2 * HALF_WIDTH) * np.float32(
            self.near_holes.shape[1]
        ) - np.float32(0.5)
        near = cv2.remap(self.near_holes, column, row, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP) > 0
        count = int(np.count_nonzero(near))
        if not count:
            return x, y
        # remap accepts at most 32,767 values per row: fold the rays into rows.
        px, py = (np.resize(values[near], (-(-count // FOLD), FOLD)) for values in (x, y))
        # Per metre of depth a ray advances by (ground point - camera) / height, at most MAX_SLANT: at flatter
        # angles a hole is only a line.
        along_x = np.clip((px - np.float32(camera.x)) / np.float32(camera.height), -MAX_SLANT, MAX_SLANT)
        ahead = np.mod(
            py - np.float32(camera.y % LENGTH) + np.float32(LENGTH / 2), np.float32(LENGTH)
        ) - np.float32(LENGTH / 2)
        along_y = np.clip(ahead / np.float32(camera.height), -MAX_SLANT, MAX_SLANT)
        per_metre = np.float32(1 / (2 * METRES_PER_TEXEL))
        column = (px + np.float32(HALF_WIDTH)) * per_metre - np.float32(0.5)
        row = py * per_metre - np.float32(0.5)

        def above_floor(depth: Maps) -> npt.NDArray[np.bool_]:
            return np.asarray(
                sample(self.depth, column + along_x * per_metre * depth, row + along_y * per_metre * depth)
                >= depth
            )

        step = np.float32(self.max_depth / RELIEF_STEPS)
        travelled = np.zeros_like(px)
        in_air = np.ones(px.shape, bool)
        for index in range(1, RELIEF_STEPS + 1):
            depth = np.full_like(px, step * index)
            in_air &= above_floor(depth)
            travelled[in_air] = depth[in_air]
        for _ in range(BISECTIONS):
            step = np.float32(step / 2)
            further = above_floor(travelled + step)
            travelled[further] += step
        x, y = x.copy(), y.copy()
        x[near] = (px + along_x * travelled).ravel()[:count]
        y[near] = np.mod(py + along_y * travelled, np.float32(LENGTH)).ravel()[:count]
        return x, y


@dataclass(frozen=True)
class Scene:
    """What the images of a clip share.

    ground: the road.
    appearance: light, lens and sensor.
    vehicles, trees: objects at the start of the clip.
    label_margin: factor by which annotators enlarge boxes.
    """

    ground: Ground
    appearance: Appearance
    vehicles: list[Vehicle]
    trees: list[Tree]
    label_margin: float


def _sky(camera: Camera, appearance: Appearance, rows: int) -> npt.NDArray[np.float32]:
    """Sky above a line of distant trees, for the top rows of the image, (rows, W, 3) in [0, 1]."""
    forward = camera.axes[2]
    horizon_px = camera.height_px / 2 - camera.focal * np.tan(-np.arcsin(forward[2]))
    v = np.arange(rows, dtype=np.float32)[:, None]
    u = np.arange(camera.width, dtype=np.float32)[None, :]
    height = np.clip((horizon_px - v) / camera.focal, 0, 1)
    low, high = (np.array(colour, np.float32) for colour in appearance.sky)
    mix = np.clip(height * 2.2, 0, 1)[..., None]
    bearing = u / camera.focal + np.radians(camera.yaw)
    skyline = (
        0.030
        + 0.012 * np.sin(bearing * 9)
        + 0.008 * np.sin(bearing * 23 + 1)
        + 0.005 * np.sin(bearing * 61 + 2)
    )
    trees = (height < skyline)[..., None]
    return np.where(
        trees, low * 0.35 + np.array([0.10, 0.16, 0.13], np.float32), low * (1 - mix) + high * mix
    ).astype(np.float32)


def _boxes_of(
    outlines: list[npt.NDArray[np.float64]], camera: Camera, hidden: npt.NDArray[np.uint8]
) -> Boxes:
    """Exact boxes (N, 4) xyxy of ground outlines, without those too small, cut off or covered."""
    boxes = []
    for outline in outlines:
        centre = outline.mean(0)
        first = np.ceil((camera.y - SIGHT - centre[1]) / LENGTH)
        last = np.floor((camera.y + SIGHT - centre[1]) / LENGTH)
        for turn in np.arange(first, last + 1):
            points = np.column_stack([outline + [0, turn * LENGTH], np.zeros(len(outline))])
            pixels, depth = camera.project(points)
            if depth.min() <= NEAR:
                continue
            full = np.concatenate([pixels.min(0), pixels.max(0)])
            box = np.clip(full, 0, [camera.width, camera.height_px] * 2)
            size, full_size = box[2:] - box[:2], full[2:] - full[:2]
            if size.min() < MIN_SIDE_PX or size.prod() < MIN_VISIBLE * full_size.prod():
                continue
            if _covered_share(pixels, box, hidden) > 1 - MIN_VISIBLE:
                continue
            boxes.append(box)
    return np.array(boxes).reshape(-1, 4)


def _covered_share(
    pixels: npt.NDArray[np.float64], box: npt.NDArray[np.float64], hidden: npt.NDArray[np.uint8]
) -> float:
    """Share of a projected outline that vehicles and trees hide."""
    x1, y1, x2, y2 = int(box[0]), int(box[1]), int(np.ceil(box[2])), int(np.ceil(box[3]))
    window = hidden[y1:y2, x1:x2]
    if not window.any():
        return 0.0
    inside = np.zeros(window.shape, np.uint8)
    cv2.fillPoly(inside, [np.round(pixels - [x1, y1]).astype(np.int32)], 1)
    return float((window > 0)[inside > 0].mean()) if inside.any() else 1.0


def _grow(hole: Hole, margin: float) -> npt.NDArray[np.float64]:
    """A hole's outline, enlarged by an annotator's margin."""
    centre = hole.rim.mean(0)
    return centre + (hole.rim - centre) * margin


def render_view(scene: Scene, camera: Camera, *, seconds: float, rng: np.random.Generator) -> View:
    """Render one image and its boxes.

    Parameters
    ----------
    scene
        What the images of the clip share.
    camera
        The camera.
    seconds
        Time since the start of the clip, which moves the vehicles.
    rng
        Draws the sensor noise.

    Returns
    -------
    View
        The image and its boxes.
    """
    strip, appearance = scene.ground.strip, scene.appearance
    colour, distance, below_horizon = scene.ground.colour(camera)
    turns = [
        turn * LENGTH
        for turn in range(int((camera.y - SIGHT) // LENGTH), int((camera.y + SIGHT) // LENGTH) + 1)
    ]
    present = [vehicle.at(seconds, shift) for vehicle in scene.vehicles for shift in turns]
    present = [vehicle for vehicle in present if abs(vehicle.y - camera.y) < SIGHT]
    _cast_shadows(colour, camera, present, strip)
    fog = np.exp(-np.float32(appearance.haze) * distance)[..., None]
    colour = colour * fog + np.array(appearance.sky[0], np.float32) * 0.8 * (1 - fog)
    above = int(np.count_nonzero(~below_horizon.all(1)))
    if above:
        sky = _sky(camera, appearance, above)
        colour[:above] = np.where(below_horizon[:above, :, None], colour[:above], sky)
    image = np.clip(colour * 255, 0, 255).astype(np.uint8)
    hidden = np.zeros(image.shape[:2], np.uint8)
    bodies: list[tuple[float, Vehicle | Tree, float]] = [
        (np.hypot(v.x - camera.x, v.y - camera.y), v, 0.0) for v in present
    ]
    bodies += [
        (np.hypot(t.puffs[0, 0] - camera.x, t.puffs[0, 1] + shift - camera.y), t, shift)
        for t in scene.trees
        for shift in turns
    ]
    # Far bodies first, so that near ones cover them.
    for ground_distance, body, shift in sorted(bodies, key=lambda item: -item[0]):
        if ground_distance > SIGHT:
            continue
        if isinstance(body, Vehicle):
            draw_vehicle(image, hidden, camera, body, strip.sun)
        else:
            draw_tree(image, hidden, camera, body, shift)
    boxes = _boxes_of([_grow(hole, scene.label_margin) for hole in strip.holes], camera, hidden)
    others = [
        _boxes_of(list(outlines), camera, hidden)
        for outlines in (strip.puddles, strip.patches, strip.manholes)
    ]
    return View(_expose(image, appearance, rng), boxes, *others)


def _cast_shadows(
    colour: npt.NDArray[np.float32], camera: Camera, vehicles: list[Vehicle], strip: Strip
) -> None:
    """Darken the road, in place, in the shadow of vehicles."""
    for vehicle in vehicles:
        base = footprint(vehicle)
        offset = -strip.sun * (0.9 if vehicle.kind == "car" else 0.8)
        hull = np.asarray(
            cv2.convexHull(np.concatenate([base, base + offset]).astype(np.float32))[:, 0], float
        )
        pixels, depth = camera.project(np.column_stack([hull, np.zeros(len(hull))]))
        if (
            depth.min() <= NEAR
            or (pixels.max(0) < 0).any()
            or (pixels.min(0) > [camera.width, camera.height_px]).any()
        ):
            continue
        low = np.clip(np.floor(pixels.min(0)).astype(int) - 4, 0, [camera.width, camera.height_px])
        high = np.clip(np.ceil(pixels.max(0)).astype(int) + 4, 0, [camera.width, camera.height_px])
        window = colour[low[1] : high[1], low[0] : high[0]]
        if not window.size:
            continue
        shadow = np.zeros(window.shape[:2], np.uint8)
        cv2.fillPoly(
            shadow,
            [np.round((np.clip(pixels, -4000, 8000) - low) * 16).astype(np.int32)],
            255,
            cv2.LINE_AA,
            4,
        )
        window *= 1 - 0.55 * np.asarray(cv2.GaussianBlur(shadow, (0, 0), 1.5), np.float32)[..., None] / 255


def _expose(
    image: npt.NDArray[np.uint8], appearance: Appearance, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Apply lens blur, then the tone curve, then sensor noise."""
    if appearance.blur > 0:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), appearance.blur), np.uint8)
    ramp = np.linspace(0, 1, 256)[:, None]
    table = np.clip(
        255 * (ramp * appearance.gain * np.array(appearance.tint)) ** appearance.gamma, 0, 255
    ).astype(np.uint8)
    toned = cv2.LUT(image, table.reshape(1, 256, 3))
    if appearance.noise > 0:
        # One tile of noise, shifted per band of rows: a full field per image would take longer than the road.
        tile = rng.normal(0, 255 * appearance.noise, (64, image.shape[1] + 64, 3)).astype(np.int8)
        offsets = rng.integers(0, 64, image.shape[0] // 64 + 1)
        field = np.concatenate([tile[:, o : o + image.shape[1]] for o in offsets])[: image.shape[0]]
        toned = cv2.add(toned, field.astype(np.int16), dtype=cv2.CV_8U)
    return np.asarray(toned, np.uint8)
