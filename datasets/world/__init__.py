"""The road world: one procedural road seen by one real camera model, with exact boxes and a dial for every cause of failure."""

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
