"""The road world: procedural roads rendered through a pinhole camera, with exact annotations.

Each cause of failure has a dial of its own.
"""

from datasets.world.build import Clip, Plan, build_world, preview, write_flight
from datasets.world.camera import Camera
from datasets.world.dials import CLASSES, DASHCAM, DRONE, ClassFault, Dials

__all__ = [
    "CLASSES",
    "DASHCAM",
    "DRONE",
    "Camera",
    "ClassFault",
    "Clip",
    "Dials",
    "Plan",
    "build_world",
    "preview",
    "write_flight",
]
