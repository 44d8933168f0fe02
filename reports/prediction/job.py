"""What every step of one prediction shares: detector, settings and output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.pixels import Pixels
from diagnostics.matching import Bools, Floats
from reports.prediction.overlay import draw
from reports.prediction.window import Window
from reports.progress import Reporter
from train.predictions import Settings
from train.tiling import predict_pixels_tiled
from train.transforms import Transform

if TYPE_CHECKING:
    from train.remembered import AnyDetector

# Folder of finished segments in the output folder, deleted when the prediction is complete.
PARTS = ".parts"


@dataclass(frozen=True)
class PredictionJob:
    """One prediction and its output.

    detector: the loaded checkpoint
    sha256: hash of the checkpoint file
    settings: input size and thresholds of inference
    thresholds: lowest confidence of a detection that is drawn, by class, (K,)
    stride: in a video, every stride-th frame is predicted
    blurred: labels of the classes that are blurred instead of outlined
    folder: output folder
    reporter: progress and messages
    window: live view in a browser, None without one
    transform: applied to images before they are predicted; None for none
    tiles: predict in overlapping tiles beside the whole image, see `train.tiling`
    """

    detector: AnyDetector
    sha256: str
    settings: Settings
    thresholds: Floats
    stride: int
    blurred: frozenset[int]
    folder: Path
    reporter: Reporter
    window: Window | None
    transform: Transform | None = None
    tiles: bool = False

    def is_shown(self, boxes: Floats) -> Bools:
        """Which boxes (N, 6) reach the threshold of their class, (N,)."""
        return np.asarray(boxes[:, 4] >= self.thresholds[boxes[:, 5].astype(np.int64)])

    def detect(self, images: Sequence[Pixels]) -> list[Floats]:
        """Boxes (N, 6) of images of one shape."""
        changed = [self.transform(pixels) for pixels in images] if self.transform is not None else images
        if self.tiles:
            return predict_pixels_tiled(self.detector, changed, self.settings)
        return [output.boxes for output in self.detector.predict_pixels(changed, self.settings)]

    def draw(self, pixels: Pixels, boxes: Floats) -> Pixels:
        """Draw the boxes (N, 6) that reach their threshold on a copy of an image; show it in the
        live view.
        """
        shown = boxes[self.is_shown(boxes)]
        drawn = draw(pixels, shown, self.detector.classes, self.blurred)
        if self.window is not None:
            self.window.put(drawn)
        return drawn
