"""What every step of one prediction shares: detector, settings and output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.pixels import Pixels
from diagnostics.matching import Floats
from reports.prediction.overlay import draw
from reports.prediction.window import Window
from reports.progress import Reporter
from train.predictions import Settings

if TYPE_CHECKING:
    from train.forward import Detector

# Folder of finished segments in the output folder, deleted when the prediction is complete.
PARTS = ".parts"


@dataclass(frozen=True)
class PredictionJob:
    """One prediction and its output.

    detector: the loaded checkpoint
    sha256: hash of the checkpoint file
    settings: input size and thresholds of inference
    confidence: lowest confidence of a detection that is drawn
    stride: in a video, every stride-th frame is predicted
    blurred: labels of the classes that are blurred instead of outlined
    folder: output folder
    reporter: progress and messages
    window: live view in a browser, None without one
    """

    detector: Detector
    sha256: str
    settings: Settings
    confidence: float
    stride: int
    blurred: frozenset[int]
    folder: Path
    reporter: Reporter
    window: Window | None

    def draw(self, pixels: Pixels, boxes: Floats) -> Pixels:
        """Draw the boxes (N, 6) that reach the confidence on a copy of an image; show it in the live view."""
        shown = boxes[boxes[:, 4] >= self.confidence]
        drawn = draw(pixels, shown, self.detector.classes, self.blurred)
        if self.window is not None:
            self.window.put(drawn)
        return drawn
