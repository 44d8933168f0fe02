"""The road world: procedural roads rendered through a pinhole camera, with exact annotations.

Each cause of failure has a dial of its own.
"""

from datasets.world.build import CLASSES, Clip, Plan, build_world, preview, write_flight
from datasets.world.camera import Camera
from datasets.world.dials import DASHCAM, DRONE, Dials

__all__ = [
    "CLASSES",
    "DASHCAM",
    "DRONE",
    "Camera",
    "Clip",
    "Dials",
    "Plan",
    "build_world",
    "preview",
    "write_flight",
]
