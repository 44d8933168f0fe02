"""The dials of the road world: each has a severity from 0 to 5 and changes one cause of failure only."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

SEVERITIES = range(6)

# Severity 0 is a dashcam behind a windscreen, severity 5 a drone looking straight down.
PITCH_DEGREES = (20.0, 32.0, 45.0, 60.0, 75.0, 88.0)
# Severity 0 is the roof of a car. At 4 a pothole seen from above covers about as many pixels as one seen from
# the car, so that pitch=5, height=4 changes the viewpoint but not the object size. 5 makes objects small.
HEIGHT_METRES = (1.5, 2.4, 3.6, 5.0, 6.8, 18.0)
EXPOSURE_GAIN = (1.0, 0.82, 0.66, 0.52, 0.40, 0.30)
BLUR_SIGMA_PX = (0.0, 0.6, 1.0, 1.5, 2.2, 3.2)
# Share of the road surface that is bare earth instead of asphalt.
SOIL_SHARE = (0.0, 0.25, 0.45, 0.65, 0.85, 1.0)
HOLES_PER_100_SQUARE_METRES = (8.0, 11.0, 15.0, 21.0, 29.0, 40.0)
# Multiplies the number of puddles, patches, manholes and vehicles.
DISTRACTOR_FACTOR = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0)
# Share of potholes that a vehicle is parked over.
OCCLUDED_SHARE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
# Share of label rows that are dropped, shifted or invented (a third each).
LABEL_NOISE_SHARE = (0.0, 0.08, 0.16, 0.24, 0.32, 0.40)
# Factor by which annotators enlarge boxes; from severity 3 they also label puddles as potholes.
LABEL_MARGIN = (1.0, 1.15, 1.3, 1.5, 1.7, 2.0)
PUDDLES_ARE_POTHOLES_FROM = 3


@dataclass(frozen=True)
class Dials:
    """Severity of each cause, 0 to 5; raises ValueError for other values.

    pitch: camera angle below the horizon.
    height: camera height above the road.
    light: exposure.
    blur: lens blur.
    soil: share of bare earth.
    density: potholes per area.
    distractors: puddles, patches, manholes and vehicles.
    occlusion: potholes below parked vehicles.
    label_noise: missing, shifted and invented labels.
    label_convention: margin of boxes, and puddles labelled as potholes.
    """

    pitch: int = 0
    height: int = 0
    light: int = 0
    blur: int = 0
    soil: int = 0
    density: int = 0
    distractors: int = 0
    occlusion: int = 0
    label_noise: int = 0
    label_convention: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value not in SEVERITIES:
                raise ValueError(f"dial {field.name} is {value!r}; a severity is an integer from 0 to 5")


# What is flat on the road or sunk into it, in the order of class ids.
CLASSES = ("pothole", "patch", "manhole", "puddle")
# Only potholes: the demo's classes.
POTHOLES = CLASSES[:1]


@dataclass(frozen=True)
class ClassFault:
    """What is wrong with one class, and with nothing else.

    kind: "left_out" and "renamed" change labels, "altered" draws the class in another look, "frequent" draws
        it more often
    name: the class
    other: the name that "renamed" gives it
    share: of its labels that change; for "frequent", the factor on its number

    Raises ValueError for an unknown class, and for "altered" of another class than manhole.
    """

    kind: Literal["left_out", "renamed", "altered", "frequent"]
    name: str
    other: str = ""
    share: float = 0.6

    def __post_init__(self) -> None:
        for name in (self.name, self.other or self.name):
            if name not in CLASSES:
                raise ValueError(f"{name!r} is no class of the road world; classes: {', '.join(CLASSES)}")
        if self.kind == "altered" and self.name != "manhole":
            raise ValueError(f"only a manhole has another look, not a {self.name}")


DASHCAM = Dials()
DRONE = Dials(pitch=5, height=4)
