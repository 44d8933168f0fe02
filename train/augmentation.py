"""Changed copies of training images, with what becomes of their boxes, by a recipe that is a small yaml.

Chance comes from the caller's generator alone, so that a seed gives the same copy whatever else is drawn in the process. The changes that `train.transforms` makes to
measure a detector are graded and always the same; these are random, to teach one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as change
from torchvision.tv_tensors import BoundingBoxes, Image, KeyPoints

from datasets.data_yaml import parse_yaml
from datasets.errors import InputError
from datasets.pixels import Pixels
from train.transforms import GREY, VISIBLE, Matrix

DEFAULT = Path(__file__).with_name("augment.yaml")
# Points on the rim of an ellipse: the outermost of them misses its edge by at most 0.0012 of the radius.
RIM = 64


@dataclass(frozen=True)
class Shown:
    """An image on its way through a recipe. image: (3, H, W) uint8 RGB. corners: (n, 4) x1, y1, x2, y2 in pixels, not clipped. changes: what was done, in words."""

    image: Any
    corners: Matrix
    changes: tuple[str, ...] = ()

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])


@dataclass(frozen=True)
class Copy:
    """A finished copy. pixels: (H, W, 3) uint8 BGR. corners: (n, 4) in pixels, clipped to the image. visible: (n,) whether half of the object or more is left inside. changes: in words."""

    pixels: Pixels
    corners: Matrix
    visible: np.ndarray[Any, np.dtype[np.bool_]]
    changes: str


Amounts = Mapping[str, float]
Make = Callable[[Shown, Amounts, np.random.Generator], Shown]


def _horizontal_flip(shown: Shown, amounts: Amounts, chance: np.random.Generator) -> Shown:
    """Left and right exchanged."""
    return _flipped(shown, change.horizontal_flip, "left and right exchanged")


def _vertical_flip(shown: Shown, amounts: Amounts, chance: np.random.Generator) -> Shown:
    """Upside down."""
    return _flipped(shown, change.vertical_flip, "upside down")


def _flipped(shown: Shown, flip: Callable[[Any], Any], words: str) -> Shown:
    """An image and its boxes, exactly."""
    boxes = BoundingBoxes(shown.corners, format="XYXY", canvas_size=shown.canvas)
    return Shown(flip(shown.image), flip(boxes).numpy(), (*shown.changes, words))


def _rotation(shown: Shown, amounts: Amounts, chance: np.random.Generator) -> Shown:
    """Turned about the middle. A box becomes the bounding box of its inscribed ellipse, as in `train.transforms.Distortion.boxes`."""
    degrees = chance.uniform(-amounts["degrees"], amounts["degrees"])
    image = change.rotate(
        shown.image, degrees, interpolation=InterpolationMode.BILINEAR, fill=[GREY, GREY, GREY]
    )
    angle = np.linspace(0, 2 * np.pi, RIM, endpoint=False)
    low, high = shown.corners[:, :2], shown.corners[:, 2:]
    centre, radius = (low + high) / 2, (high - low) / 2
    rim = centre[:, None] + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    moved = change.rotate(KeyPoints(rim, canvas_size=shown.canvas), degrees).numpy()
    corners = np.concatenate([moved.min(1), moved.max(1)], 1)
    return Shown(image, corners, (*shown.changes, f"turned by {degrees:.1f} degrees"))


def tone(shown: Shown, amounts: Amounts, chance: np.random.Generator) -> Shown:
    """Brighter or darker, flatter or harder."""
    brightness, contrast = _factor(amounts["brightness"], chance), _factor(amounts["contrast"], chance)
    image = change.adjust_contrast(change.adjust_brightness(shown.image, brightness), contrast)
    return Shown(
        image, shown.corners, (*shown.changes, f"brightness x{brightness:.2f}, contrast x{contrast:.2f}")
    )


def colour(shown: Shown, amounts: Amounts, chance: np.random.Generator) -> Shown:
    """Hue, saturation and value moved."""
    degrees = chance.uniform(-amounts["hue"], amounts["hue"])
    saturation, value = _factor(amounts["saturation"], chance), _factor(amounts["value"], chance)
    image = change.adjust_saturation(change.adjust_hue(shown.image, degrees / 360), saturation)
    words = f"hue {degrees:+.0f} degrees, saturation x{saturation:.2f}, value x{value:.2f}"
    return Shown(change.adjust_brightness(image, value), shown.corners, (*shown.changes, words))


def blur(shown: Shown, amounts: Amounts, chance: np.random.Generator) -> Shown:
    """Gaussian blur; the kernel reaches three standard deviations."""
    sigma = amounts["sigma"]
    # It mirrors the image at its edge, and an image has no more to mirror than its own side.
    size = min(2 * ceil(3 * sigma) + 1, 2 * min(shown.canvas) - 1)
    image = change.gaussian_blur(shown.image, [size, size], [sigma, sigma])
    return Shown(image, shown.corners, (*shown.changes, f"blurred by {sigma:g} px"))


def noise(shown: Shown, amounts: Amounts, chance: np.random.Generator) -> Shown:
    """Gaussian noise. torchvision's own draws from a generator of the whole process, and cuts digits off where this rounds, which makes weak noise weaker."""
    deviation = chance.uniform(amounts["least"], amounts["most"])
    values = shown.image.numpy()
    noisy = np.rint(values + deviation * chance.standard_normal(values.shape, np.float32))
    image = Image(np.clip(noisy, 0, 255).astype(np.uint8))
    return Shown(image, shown.corners, (*shown.changes, f"noise of {deviation:.1f}"))


def _factor(most: float, chance: np.random.Generator) -> float:
    """A number to multiply by, 1 plus or minus at most this."""
    return 1 + chance.uniform(-most, most)


# In this order: first where things are, then light, then lens and sensor. Each with its amounts: the least and the most that is understood.
PROBABILITY, SHARE = (0.0, 1.0), (0.0, 1.0)
CHANGES: dict[str, tuple[Make, dict[str, tuple[float, float]]]] = {
    "horizontal_flip": (_horizontal_flip, {}),
    "vertical_flip": (_vertical_flip, {}),
    "rotation": (_rotation, {"degrees": (0.0, 180.0)}),
    "tone": (tone, {"brightness": SHARE, "contrast": SHARE}),
    "colour": (colour, {"hue": (0.0, 180.0), "saturation": SHARE, "value": SHARE}),
    "blur": (blur, {"sigma": (0.1, 20.0)}),
    "noise": (noise, {"least": (0.0, 255.0), "most": (0.0, 255.0)}),
}


@dataclass(frozen=True)
class Recipe:
    """Changes by name, in the order of `CHANGES`, each with its probability and amounts; at least one has a chance."""

    changes: Mapping[str, Amounts]

    def copy(self, pixels: Pixels, corners: Matrix, chance: np.random.Generator) -> Copy:
        """A changed copy of an image (H, W, 3) uint8 BGR with boxes (n, 4) in pixels.

        What was beyond the image's edge is grey. An object of which less than half stays inside is no longer one to learn; what is left of it is still to be seen, as
        in every detector's own augmentation, so the caller says how many there were.
        """
        odds = np.array([amounts["probability"] for amounts in self.changes.values()])
        made = chance.random(len(odds)) < odds
        if not made.any():
            made[chance.choice(len(odds), p=odds / odds.sum())] = True
        shown = Shown(Image(np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1))), corners)
        for (name, amounts), chosen in zip(self.changes.items(), made, strict=True):
            if chosen:
                shown = CHANGES[name][0](shown, amounts, chance)
        height, width = shown.canvas
        inside = np.clip(shown.corners, 0, [width, height, width, height])
        left, whole = (np.prod(box[:, 2:] - box[:, :2], axis=1) for box in (inside, shown.corners))
        changed = np.ascontiguousarray(shown.image.numpy().transpose(1, 2, 0)[..., ::-1])
        return Copy(changed, inside, left >= VISIBLE * whole, ", ".join(shown.changes))


def read_recipe(path: Path) -> Recipe:
    """A recipe from a yaml. Raises InputError naming the file, the key and what is expected there."""
    if not path.is_file():
        raise InputError(f"{path}: no such recipe; give a yaml with keys such as those of {DEFAULT}")
    content = parse_yaml(path)
    for name in content:
        if name not in CHANGES:
            raise InputError(f"{path}: unknown change {str(name)[:40]!r}; expected {', '.join(CHANGES)}")
    changes = {name: _amounts_of(path, name, content[name]) for name in CHANGES if name in content}
    if not any(amounts["probability"] for amounts in changes.values()):
        raise InputError(f"{path}: no change has a probability above 0; a copy would be its original again")
    return Recipe(changes)


def _amounts_of(path: Path, name: str, given: Any) -> dict[str, float]:
    """Probability and amounts of one change. Raises InputError."""
    spans = {"probability": PROBABILITY, **CHANGES[name][1]}
    if not isinstance(given, dict):
        raise InputError(f"{path}: '{name}' must hold {' and '.join(spans)}, found {str(given)[:40]!r}")
    for key in given:
        if key not in spans:
            raise InputError(f"{path}: unknown key '{name}.{str(key)[:40]}'; expected {' and '.join(spans)}")
    amounts: dict[str, float] = {}
    for key, (least, most) in spans.items():
        value = given.get(key)
        # True is a number to Python.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            found = f"found {str(value)[:40]!r}" if key in given else "it is missing"
            raise InputError(f"{path}: '{name}.{key}' must be a number from {least:g} to {most:g}; {found}")
        amounts[key] = float(value)
    if name == "noise" and amounts["least"] > amounts["most"]:
        raise InputError(f"{path}: 'noise.least' must be at most 'noise.most', {amounts['most']:g}")
    return amounts
