"""Randomly augmented copies of training images, with their boxes, by a recipe that is a small yaml.

Random numbers come from the caller's generator only, so a seed gives the same copy whatever else the process
draws. `train.transforms` differs: its corruptions have fixed severities and measure a detector; these copies
train one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from torchvision.transforms.v2 import InterpolationMode, functional
from torchvision.tv_tensors import BoundingBoxes, Image, KeyPoints

from datasets.data_yaml import parse_yaml
from datasets.errors import InputError
from datasets.pixels import Pixels
from train.transforms import GREY, VISIBLE, Matrix

DEFAULT = Path(__file__).with_name("augment.yaml")
# Points on an ellipse: its bounding box is too small by at most 0.0012 of the radius.
RIM = 64


@dataclass(frozen=True)
class AugmentedImage:
    """An image between two changes of a recipe.

    image: (3, H, W) uint8 RGB
    corners: boxes (n, 4) as x1, y1, x2, y2 in pixels, not clipped
    changes: the changes so far, in words
    """

    image: Any
    corners: Matrix
    changes: tuple[str, ...] = ()

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])


@dataclass(frozen=True)
class Copy:
    """A finished copy.

    pixels: (H, W, 3) uint8 BGR
    corners: boxes (n, 4) in pixels, clipped to the image
    visible: (n,) whether half of the box or more is inside the image
    changes: the changes, in words
    """

    pixels: Pixels
    corners: Matrix
    visible: np.ndarray[Any, np.dtype[np.bool_]]
    changes: str


Amounts = Mapping[str, float]
Change = Callable[[AugmentedImage, Amounts, np.random.Generator], AugmentedImage]


def _horizontal_flip(original: AugmentedImage, amounts: Amounts, rng: np.random.Generator) -> AugmentedImage:
    """Exchange left and right."""
    return _flip(original, functional.horizontal_flip, "left and right exchanged")


def _vertical_flip(original: AugmentedImage, amounts: Amounts, rng: np.random.Generator) -> AugmentedImage:
    """Turn upside down."""
    return _flip(original, functional.vertical_flip, "upside down")


def _flip(original: AugmentedImage, flip: Callable[[Any], Any], words: str) -> AugmentedImage:
    """Flip an image and its boxes, which is exact."""
    boxes = BoundingBoxes(original.corners, format="XYXY", canvas_size=original.canvas)
    return AugmentedImage(flip(original.image), flip(boxes).numpy(), (*original.changes, words))


def _rotation(original: AugmentedImage, amounts: Amounts, rng: np.random.Generator) -> AugmentedImage:
    """Rotate about the middle.

    A box becomes the bounding box of its inscribed ellipse, as in `train.transforms.Corruption.boxes`.
    """
    degrees = rng.uniform(-amounts["degrees"], amounts["degrees"])
    image = functional.rotate(
        original.image, degrees, interpolation=InterpolationMode.BILINEAR, fill=[GREY, GREY, GREY]
    )
    angle = np.linspace(0, 2 * np.pi, RIM, endpoint=False)
    low, high = original.corners[:, :2], original.corners[:, 2:]
    centre, radius = (low + high) / 2, (high - low) / 2
    rim = centre[:, None] + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    moved = functional.rotate(KeyPoints(rim, canvas_size=original.canvas), degrees).numpy()
    corners = np.concatenate([moved.min(1), moved.max(1)], 1)
    return AugmentedImage(image, corners, (*original.changes, f"turned by {degrees:.1f} degrees"))


def _tone(original: AugmentedImage, amounts: Amounts, rng: np.random.Generator) -> AugmentedImage:
    """Change brightness and contrast."""
    brightness, contrast = _factor(amounts["brightness"], rng), _factor(amounts["contrast"], rng)
    image = functional.adjust_contrast(functional.adjust_brightness(original.image, brightness), contrast)
    words = f"brightness x{brightness:.2f}, contrast x{contrast:.2f}"
    return AugmentedImage(image, original.corners, (*original.changes, words))


def _colour(original: AugmentedImage, amounts: Amounts, rng: np.random.Generator) -> AugmentedImage:
    """Change hue, saturation and value."""
    degrees = rng.uniform(-amounts["hue"], amounts["hue"])
    saturation, value = _factor(amounts["saturation"], rng), _factor(amounts["value"], rng)
    image = functional.adjust_saturation(functional.adjust_hue(original.image, degrees / 360), saturation)
    image = functional.adjust_brightness(image, value)
    words = f"hue {degrees:+.0f} degrees, saturation x{saturation:.2f}, value x{value:.2f}"
    return AugmentedImage(image, original.corners, (*original.changes, words))


def _blur(original: AugmentedImage, amounts: Amounts, rng: np.random.Generator) -> AugmentedImage:
    """Blur by a Gaussian whose kernel reaches three standard deviations."""
    sigma = amounts["sigma"]
    # The image is mirrored at its edges, which limits the kernel to the image's own sides.
    size = min(2 * ceil(3 * sigma) + 1, 2 * min(original.canvas) - 1)
    image = functional.gaussian_blur(original.image, [size, size], [sigma, sigma])
    return AugmentedImage(image, original.corners, (*original.changes, f"blurred by {sigma:g} px"))


def _noise(original: AugmentedImage, amounts: Amounts, rng: np.random.Generator) -> AugmentedImage:
    """Add Gaussian noise.

    torchvision's own noise draws from the generator of the whole process, and truncates where this rounds,
    which weakens weak noise.
    """
    deviation = rng.uniform(amounts["least"], amounts["most"])
    values = original.image.numpy()
    noisy = np.rint(values + deviation * rng.standard_normal(values.shape, np.float32))
    image = Image(np.clip(noisy, 0, 255).astype(np.uint8))
    return AugmentedImage(image, original.corners, (*original.changes, f"noise of {deviation:.1f}"))


def _factor(most: float, rng: np.random.Generator) -> float:
    """A random factor in [1 - most, 1 + most]."""
    return 1 + rng.uniform(-most, most)


# Applied in this order: geometry, then light, then lens and sensor. Each amount has its lowest and highest
# value.
PROBABILITY, SHARE = (0.0, 1.0), (0.0, 1.0)
CHANGES: dict[str, tuple[Change, dict[str, tuple[float, float]]]] = {
    "horizontal_flip": (_horizontal_flip, {}),
    "vertical_flip": (_vertical_flip, {}),
    "rotation": (_rotation, {"degrees": (0.0, 180.0)}),
    "tone": (_tone, {"brightness": SHARE, "contrast": SHARE}),
    "colour": (_colour, {"hue": (0.0, 180.0), "saturation": SHARE, "value": SHARE}),
    "blur": (_blur, {"sigma": (0.1, 20.0)}),
    "noise": (_noise, {"least": (0.0, 255.0), "most": (0.0, 255.0)}),
}


@dataclass(frozen=True)
class Recipe:
    """Which changes a copy gets.

    changes: name to probability and amounts, in the order of `CHANGES`; at least one probability is above 0
    """

    changes: Mapping[str, Amounts]

    def copy(self, pixels: Pixels, corners: Matrix, rng: np.random.Generator) -> Copy:
        """Make an augmented copy.

        The area beyond the image's edge is grey. An object of which less than half stays inside is marked as
        not visible, but its rest is still in the copy, as in every detector's augmentation.

        Parameters
        ----------
        pixels
            (H, W, 3) uint8 BGR.
        corners
            Boxes (n, 4) in pixels.
        rng
            Source of every random number.

        Returns
        -------
        Copy
            The copy and its boxes.
        """
        odds = np.array([amounts["probability"] for amounts in self.changes.values()])
        chosen = rng.random(len(odds)) < odds
        if not chosen.any():
            chosen[rng.choice(len(odds), p=odds / odds.sum())] = True
        augmented = AugmentedImage(Image(np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1))), corners)
        for (name, amounts), is_chosen in zip(self.changes.items(), chosen, strict=True):
            if is_chosen:
                augmented = CHANGES[name][0](augmented, amounts, rng)
        height, width = augmented.canvas
        clipped = np.clip(augmented.corners, 0, [width, height, width, height])
        visible_area, area = (
            np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (clipped, augmented.corners)
        )
        image = np.ascontiguousarray(augmented.image.numpy().transpose(1, 2, 0)[..., ::-1])
        return Copy(image, clipped, visible_area >= VISIBLE * area, ", ".join(augmented.changes))


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Parameters
    ----------
    path
        A yaml with keys such as those of DEFAULT.

    Returns
    -------
    Recipe
        The recipe.

    Raises
    ------
    InputError
        The file is missing, or a key or value is not as expected; the message names both.
    """
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


def _amounts_of(path: Path, name: str, content: Any) -> dict[str, float]:
    """Probability and amounts of one change. Raises InputError."""
    spans = {"probability": PROBABILITY, **CHANGES[name][1]}
    if not isinstance(content, dict):
        raise InputError(f"{path}: '{name}' must hold {' and '.join(spans)}, found {str(content)[:40]!r}")
    for key in content:
        if key not in spans:
            raise InputError(f"{path}: unknown key '{name}.{str(key)[:40]}'; expected {' and '.join(spans)}")
    amounts: dict[str, float] = {}
    for key, (least, most) in spans.items():
        value = content.get(key)
        # True is a number to Python.
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            problem = f"found {str(value)[:40]!r}" if key in content else "it is missing"
            raise InputError(f"{path}: '{name}.{key}' must be a number from {least:g} to {most:g}; {problem}")
        amounts[key] = float(value)
    if name == "noise" and amounts["least"] > amounts["most"]:
        raise InputError(f"{path}: 'noise.least' must be at most 'noise.most', {amounts['most']:g}")
    return amounts
