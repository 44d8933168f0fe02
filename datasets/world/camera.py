"""The camera of every rendered image: a pinhole above a flat road.

World frame: X to the right of the road's axis, Y along it, Z up, in metres; the road surface is Z = 0.
Image frame: x to the right, y down, in pixels; the principal point is the centre of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Points closer than this to the image plane are treated as behind the camera (metres).
NEAR = 0.05


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    x, y, height: position in metres.
    pitch: degrees below the horizon (0 is horizontal, 90 straight down).
    yaw, roll: degrees.
    fov: horizontal field of view in degrees.
    width, height_px: image size in pixels.
    """

    x: float
    y: float
    height: float
    pitch: float
    yaw: float = 0.0
    roll: float = 0.0
    fov: float = 70.0
    width: int = 448
    height_px: int = 336

    @cached_property
    def focal(self) -> float:
        """Focal length in pixels."""
        return float(self.width / (2 * np.tan(np.radians(self.fov) / 2)))

    @cached_property
    def position(self) -> Floats:
        """Camera centre (3,), metres."""
        return np.array([self.x, self.y, self.height])

    @cached_property
    def centre(self) -> Floats:
        """Principal point (2,), pixels."""
        return np.array([self.width / 2, self.height_px / 2])

    @cached_property
    def axes(self) -> Floats:
        """Rows are the camera's right, down and forward unit vectors in world coordinates, (3, 3)."""
        pitch, yaw, roll = np.radians([self.pitch, self.yaw, self.roll])
        forward = np.array([np.sin(yaw) * np.cos(pitch), np.cos(yaw) * np.cos(pitch), -np.sin(pitch)])
        right = np.array([np.cos(yaw), -np.sin(yaw), 0.0])
        down = np.cross(forward, right)
        rolled_right = np.cos(roll) * right + np.sin(roll) * down
        rolled_down = -np.sin(roll) * right + np.cos(roll) * down
        return np.stack([rolled_right, rolled_down, forward])

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Project points.

        Parameters
        ----------
        points
            World points (N, 3) in metres.

        Returns
        -------
        tuple[Floats, Floats]
            Pixels (N, 2), and depth along the optical axis (N,) in metres. Pixels of points with a depth
            below `NEAR` are meaningless; callers must mask them.
        """
        local = (points - self.position) @ self.axes.T
        depth = local[:, 2]
        pixels = local[:, :2] * (self.focal / np.maximum(depth, NEAR))[:, None] + self.centre
        return pixels, depth

    def ground_rays(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Intersect the ray of each pixel with the road.

        Returns
        -------
        tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_]]
            X and Y in metres, (H, W) each, and a mask of the pixels below the horizon. Elsewhere coordinates
            have no meaning.
        """
        right, down, forward = self.axes
        u = (np.arange(self.width, dtype=np.float32) + 0.5 - self.width / 2) / np.float32(self.focal)
        v = (np.arange(self.height_px, dtype=np.float32) + 0.5 - self.height_px / 2) / np.float32(self.focal)

        def component(axis: int) -> npt.NDArray[np.float32]:
            return (u * right[axis]).astype(np.float32)[None, :] + (v * down[axis] + forward[axis]).astype(
                np.float32
            )[:, None]

        slope = component(2)
        below_horizon = slope < -1e-3
        scale = np.where(below_horizon, -self.height / np.where(below_horizon, slope, -1), 0).astype(
            np.float32
        )
        x, y = (np.float32(start) + scale * component(axis) for axis, start in ((0, self.x), (1, self.y)))
        return x, y, below_horizon
