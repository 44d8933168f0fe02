"""The one forward pass: boxes, an image embedding and an embedding per box, all from the same activations.

The only file that imports ultralytics for prediction.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from ultralytics import YOLO  # type: ignore[attr-defined]
from ultralytics.data.augment import LetterBox
from ultralytics.utils import SAFE_LOAD, nms

from datasets.errors import EnvironmentProblem, InputError
from datasets.pixels import Pixels, UnreadableImage, decode
from train.passes import ImageOutput, available_cores, collect
from train.predictions import Floats, Predictions, Settings, Store
from train.transforms import Transform

# A GPU idles on single images. On a CPU, prediction has them one by one; a look between two epochs (`Glance`) is a quarter quicker with four at a time,
# measured on the two cores and with the small sizes at which that matters.
GPU_BATCH = 8
CPU_BATCH = 4
# Sides of what enters a network are multiples of this many pixels.
STRIDE = 32


# What the restricted loader says of a checkpoint that holds more than known layers and weights.
_REFUSED = ("outside the supported", "weights_only", "Unsupported", "not an allowed")


def load_checkpoint(weights: Path, instead: str) -> Any:
    """A `YOLO` of a checkpoint or an architecture yaml. instead: what to give, for the message.

    Checkpoints are pickles, which can run code: unless `train.environment.trust_checkpoints` was called, ultralytics rebuilds known layers only. Raises InputError when the file
    cannot be used, EnvironmentProblem when somebody imported ultralytics before us, unrestricted.
    """
    if os.environ.get("ULTRALYTICS_SAFE_LOAD") != "0" and not SAFE_LOAD:
        raise EnvironmentProblem(
            "ultralytics was imported before shiftscope, and would load checkpoints unrestricted; import shiftscope's 'train' first, or set ULTRALYTICS_SAFE_LOAD=1"
        )
    if weights.suffix not in {".yaml", ".yml"} and not weights.is_file():
        raise InputError(f"{weights}: no such checkpoint, and none is downloaded; {instead}")
    try:
        model = YOLO(str(weights))
        _ = model.names
    except Exception as error:  # ultralytics raises whatever its many loaders raise
        reason = _first_line(error)
        if _holds_pickle(weights) and any(words in str(error) for words in _REFUSED):
            raise InputError(
                f"{weights}: holds more than known layers and weights, and could run code; if you made it yourself, load it with --trust-checkpoint ({reason})"
            ) from None
        raise InputError(f"{weights}: not a usable checkpoint ({reason}); {instead}") from None
    return model


def _holds_pickle(weights: Path) -> bool:
    """Whether a file is a pickle or a zip with one, going by its beginning: nothing else could run code."""
    with weights.open("rb") as handle:
        return handle.read(2).startswith((b"PK", b"\x80"))


def chosen_device(given: str | None) -> str:
    """What to compute on, as Ultralytics names devices: a GPU if there is one and nothing is given. Raises InputError for one that is not there."""
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if given is None:
        return "cuda:0" if gpus else "cpu"
    numbers = given.removeprefix("cuda:").split(",")
    there = (
        given == "cpu"
        or (given == "mps" and torch.backends.mps.is_available())
        or all(number.isdigit() and int(number) < gpus for number in numbers)
    )
    if not there:
        names = ["cpu", *(["mps"] if torch.backends.mps.is_available() else []), *map(str, range(gpus))]
        raise InputError(f"--device {given}: is not here; this machine has {', '.join(names)}")
    return given


class Detector:
    """A loaded checkpoint. Raises InputError when the file is no detection checkpoint."""

    def __init__(self, weights: Path, *, device: str | None = None, batch: int | None = None) -> None:
        self.weights = weights
        self.model: Any = load_checkpoint(weights, "give the best.pt of a training run")
        names = self.model.names
        if self.model.task != "detect":
            raise InputError(
                f"{weights}: is a '{self.model.task}' model; only detection models can be diagnosed"
            )
        self.classes = tuple(names[i] for i in sorted(names))
        arguments: dict[str, Any] = getattr(self.model.model, "args", None) or {}
        self.imgsz = int(arguments.get("imgsz", 640)) if isinstance(arguments, dict) else 640
        self.device = chosen_device(device)
        self.batch = batch or (1 if self.device == "cpu" else GPU_BATCH)
        self._maps: list[torch.Tensor] = []
        self._embedding: Floats | None = None
        self._hooked = False

    def predict_pixels(self, images: Sequence[Pixels], settings: Settings) -> list[ImageOutput]:
        """Images of one shape, (H, W, 3) BGR uint8 each, in one forward call.

        Gives per image: boxes (N, 6) xyxy pixels, confidence, class; its embedding (D,); object embeddings (N, E). The boxes are those
        of `ultralytics.YOLO.predict`, the image embedding is that of `ultralytics.YOLO.embed`: the globally averaged output of the layer
        before the head. An object embedding is the mean over the box (four samples) of every map that enters the head, concatenated.
        Raises ValueError for images of different shapes, which would be letterboxed differently than one by one, InputError for a model that computes NaN.
        """
        if len({image.shape for image in images}) != 1:
            raise ValueError("expected images of one shape")
        if not self._hooked:
            self._prepare(settings)
        results = self.model.predict(
            list(images),
            imgsz=settings.imgsz,
            conf=settings.conf,
            iou=settings.iou,
            max_det=settings.max_det,
            device=self.device,
            batch=len(images),
            verbose=False,
            save=False,
        )
        if self._embedding is None or len(results) != len(images) or len(self._embedding) != len(images):
            raise RuntimeError(
                "the forward hooks did not see every image; this version of ultralytics runs the head differently"
            )
        if not np.isfinite(self._embedding).all():
            # NaN is above no threshold: such a model would quietly find nothing.
            raise InputError(
                f"{self.weights}: computes values that are not finite; its training diverged or overflowed: give an earlier checkpoint"
            )
        outputs = []
        for index, result in enumerate(results):
            boxes = result.boxes.data.detach().float().cpu().numpy().reshape(-1, 6)
            boxes = boxes[np.isfinite(boxes).all(1)].astype(np.float32)
            outputs.append(
                (boxes, self._embedding[index], self._detection_embeddings(boxes, index, images[0].shape[:2]))
            )
        return outputs

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
        """Results for every image of the images table, computing only what the store does not hold yet.

        Images that cannot be decoded are returned as failures. tick is called once an image. embed_detections: see `Store.read`.
        """

        def forward(images: Sequence[Pixels]) -> list[ImageOutput]:
            return self.predict_pixels(
                [transform(pixels) for pixels in images] if transform else images, settings
            )

        return collect(images, store, forward, tick, batch=self.batch, embed_detections=embed_detections)

    def _prepare(self, settings: Settings) -> None:
        """Set the predictor up without running it, and listen at the head's input and the layer before it."""
        predictor_class = self.model._smart_load("predictor")
        self.model.predictor = predictor_class(
            overrides={
                **self.model.overrides,
                "mode": "predict",
                "imgsz": settings.imgsz,
                "device": self.device,
                "verbose": False,
                "save": False,
            }
        )
        self.model.predictor.setup_model(model=self.model.model, verbose=False)
        torch.set_num_threads(max(torch.get_num_threads(), available_cores()))
        layers = self.model.predictor.model.model.model
        layers[-1].register_forward_pre_hook(self._at_head)
        layers[-2].register_forward_hook(self._before_head)
        self._hooked = True

    def _at_head(self, module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        self._maps = [level.detach() for level in inputs[0]]

    def _before_head(self, module: torch.nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        self._embedding = output.detach().float().mean((2, 3)).cpu().numpy()

    def _detection_embeddings(self, boxes: Floats, index: int, shape: tuple[int, ...]) -> Floats:
        """RoI means of every head input, (N, sum of channels)."""
        finest = self._maps[0]
        stride = float(self.model.predictor.model.model.stride[0])
        rows, columns = finest.shape[2] * stride, finest.shape[3] * stride
        gain = min(rows / shape[0], columns / shape[1])
        # Letterboxing centres the image; scale and shift are those of ultralytics' LetterBox.
        shift = np.array([(columns - shape[1] * gain) / 2, (rows - shape[0] * gain) / 2], np.float32)
        corners = torch.from_numpy(boxes[:, :4] * np.float32(gain) + np.tile(shift, 2)).to(finest)
        # Four samples a box, at a quarter and three quarters of each side: RoIAlign with one bin and sampling ratio 2, spelled out because
        # importing torchvision for it takes as long as a hundred images.
        sides = corners[:, 2:] - corners[:, :2]
        quarters = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]).to(finest)
        points = corners[:, None, :2] + sides[:, None] * quarters
        grid = points / torch.tensor([columns, rows]).to(finest) * 2 - 1
        pooled = []
        for level in self._maps:
            sampled = torch.nn.functional.grid_sample(
                level[index : index + 1],
                grid[None],
                mode="bilinear",
                padding_mode="border",
                align_corners=False,
            )
            pooled.append(sampled[0].mean(2).T)
        return np.asarray(torch.cat(pooled, 1).float().cpu().numpy(), np.float32)


class EpochPredictor:
    """Images prepared once and shown to a network again and again, as it is between two epochs of its training.

    They are prepared as Ultralytics' validation prepares its own (the longer side to imgsz, then a grey border to half a stride more, in whole strides), so that what the
    network makes of both can be held against each other. paths: images; those that cannot be decoded are left out, see kept (indices into paths). imgsz: in pixels.
    """

    def __init__(self, paths: Sequence[str], imgsz: int) -> None:
        self.kept: list[int] = []
        # Of each: left, top, how many of its pixels one of the network's is, and its width and height.
        self._places: list[tuple[float, float, float, int, int]] = []
        self._shapes: dict[tuple[int, int], list[tuple[int, Pixels]]] = {}
        for index, path in enumerate(paths):
            try:
                pixels = decode(Path(path))
            except (UnreadableImage, OSError):
                continue
            size = pixels.shape[1], pixels.shape[0]
            gain = imgsz / max(size)
            height, width = (min(math.ceil(side * gain), imgsz) for side in pixels.shape[:2])
            if gain != 1:
                pixels = np.asarray(cv2.resize(pixels, (width, height)), np.uint8)
            columns, rows = (math.ceil(side / max(size) * imgsz / STRIDE + 0.5) * STRIDE for side in size)
            whole: Any = LetterBox((rows, columns), scaleup=False)(image=pixels)
            self._shapes.setdefault((rows, columns), []).append(
                (len(self.kept), np.ascontiguousarray(whole[..., ::-1].transpose(2, 0, 1)))
            )
            self.kept.append(index)
            # LetterBox rounds half the border so.
            left, top = round((columns - width) / 2 - 0.1), round((rows - height) / 2 - 0.1)
            self._places.append((left, top, 1 / gain, size[0], size[1]))

    def predict(
        self, network: Any, settings: Settings, *, half: bool = False, agnostic: bool = False
    ) -> tuple[list[Floats], Floats]:
        """Boxes of each kept image, (N, 6) xyxy in its pixels, confidence, class; and the images' embeddings (n, D), see `Detector.see`.

        network: a detection model in evaluation mode, whose weights, hooks and mode are as before afterwards. half: in half precision on a GPU, as validation is where the
        training is. agnostic: of boxes that overlap, one is kept whatever their classes. A box may stand under several classes, as in validation.
        """
        pooled: list[Floats] = []
        hook = network.model[-2].register_forward_hook(
            lambda module, inputs, output: pooled.append(output.float().mean((2, 3)).cpu().numpy())
        )
        device = next(network.parameters()).device
        batch = CPU_BATCH if device.type == "cpu" else GPU_BATCH
        boxes: dict[int, Floats] = {}
        embeddings: dict[int, Floats] = {}
        try:
            with torch.inference_mode(), torch.autocast(device.type, enabled=half and device.type == "cuda"):
                for images in self._shapes.values():
                    for start in range(0, len(images), batch):
                        part = images[start : start + batch]
                        tensor = torch.from_numpy(np.stack([pixels for _, pixels in part])).to(device)
                        found = nms.non_max_suppression(
                            network(tensor.float() / 255),
                            settings.conf,
                            settings.iou,
                            agnostic=agnostic,
                            multi_label=True,
                            max_det=settings.max_det,
                            end2end=getattr(network, "end2end", False),
                        )
                        for (index, _), rows, embedding in zip(part, found, pooled.pop(), strict=True):
                            left, top, scale, wide, high = self._places[index]
                            outputs = rows[:, :6].float().cpu().numpy()
                            corners = (outputs[:, :4] - (left, top, left, top)) * scale
                            outputs[:, :4] = np.clip(corners, 0, (wide, high, wide, high))
                            boxes[index], embeddings[index] = outputs, embedding
        finally:
            hook.remove()
        order = range(len(self.kept))
        return [boxes[i] for i in order], np.stack([embeddings[i] for i in order])


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
