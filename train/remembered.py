"""A detector that was loaded before: it is loaded again only once an image has to be predicted.

A second report has every prediction in its store, and loading PyTorch to look there takes longer than reading
it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import pandas as pd

from datasets.files import write_text
from datasets.pixels import Pixels
from train.passes import ImageOutput, collect
from train.predictions import Predictions, Settings, Store
from train.run import file_sha256
from train.transforms import Transform

if TYPE_CHECKING:
    from train.forward import Detector
    from train.other_detectors import BoxDetector

# Whatever predicts images.
AnyDetector = Union["Detector", "BoxDetector", "RememberedDetector"]


class RememberedDetector:
    """A checkpoint of which its classes and its size are known, with the methods of `train.forward.Detector`.

    Parameters
    ----------
    weights
        The checkpoint.
    facts
        What `recall` gave.
    load
        Loads the detector, and raises what that raises.
    """

    def __init__(self, weights: Path, facts: dict[str, Any], load: Callable[[], Detector]) -> None:
        self.weights, self._load = weights, load
        self.classes, self.imgsz = tuple(facts["classes"]), int(facts["imgsz"])
        self.task = str(facts["task"])
        self.training_curve: dict[str, list[float]] = facts["training_curve"]

    @cached_property
    def loaded(self) -> Detector:
        """The detector itself."""
        return self._load()

    @property
    def is_loaded(self) -> bool:
        """Whether an image had to be predicted."""
        return "loaded" in self.__dict__

    @property
    def backend(self) -> str:
        """What computed the forward passes, see `Detector.backend`."""
        return self.loaded.backend if self.is_loaded else "stored"

    @property
    def batch(self) -> int:
        """Images in one forward call."""
        return self.loaded.batch

    def predict_pixels(self, images: Sequence[Pixels], settings: Settings) -> list[ImageOutput]:
        """See `Detector.predict_pixels`."""
        return self.loaded.predict_pixels(images, settings)

    def predict(
        self,
        images: pd.DataFrame,
        settings: Settings,
        store: Store,
        *,
        transform: Transform | None = None,
        tick: Callable[[], None] = lambda: None,
        embed_detections: bool = True,
    ) -> Predictions:
        """See `Detector.predict`."""
        counted = 0

        def count() -> None:
            nonlocal counted
            counted += 1
            tick()

        if not self.is_loaded:
            try:
                return collect(images, store, _refuse, count, batch=1, embed_detections=embed_detections)
            except _NotStored:
                pass

        def tick_rest() -> None:
            nonlocal counted
            counted -= 1
            if counted < 0:
                tick()

        return self.loaded.predict(
            images,
            settings,
            store,
            transform=transform,
            tick=tick_rest,
            embed_detections=embed_detections,
        )


class _NotStored(Exception):
    """An image whose prediction is not stored."""


def _refuse(images: Sequence[Pixels]) -> list[ImageOutput]:
    """Stand for the forward call where everything is expected to be stored."""
    raise _NotStored


def remember(detector: Detector, device: str | None, folder: Path) -> None:
    """Write down what is known of a detector that was loaded, for `recall`."""
    file = _file_of(detector.weights, folder)
    facts = {
        "classes": list(detector.classes),
        "imgsz": detector.imgsz,
        "task": detector.task,
        "training_curve": detector.training_curve,
        "devices": [device],
    }
    earlier = _read(file)
    if earlier is not None:
        facts["devices"] = [*earlier["devices"], *([device] if device not in earlier["devices"] else [])]
    if facts != earlier:
        # Where nothing can be written, the detector is loaded next time as well.
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, json.dumps(facts))


def recall(weights: Path, device: str | None, folder: Path) -> dict[str, Any] | None:
    """What is known of a checkpoint that was loaded on this device before; None where it was not.

    folder: of everything that is written. Only the same bytes are the same checkpoint.
    """
    if not weights.is_file():
        return None
    facts = _read(_file_of(weights, folder))
    return facts if facts is not None and device in facts["devices"] else None


def _file_of(weights: Path, folder: Path) -> Path:
    return folder / "predictions" / "detectors" / f"{file_sha256(weights)[:32]}.json"


def _read(file: Path) -> dict[str, Any] | None:
    """The facts of a file; None where there are none."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        return {name: facts[name] for name in ("classes", "imgsz", "task", "training_curve", "devices")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
