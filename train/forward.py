"""The one forward pass: boxes, a picture embedding and an embedding per box, all from the same activations.

The only file that imports ultralytics for prediction.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torchvision.ops import roi_align
from ultralytics import YOLO  # type: ignore[attr-defined]

from datasets.errors import InputError
from datasets.pixels import Pixels, UnreadablePicture, decode, difference_hash, statistics
from train.predictions import Floats, Pass, Predictions, Settings, Store

# What is seen in one picture: boxes (N, 6), embedding (D,), object embeddings (N, E).
Seen = tuple[Floats, Floats, Floats]
Look = Callable[[Sequence[Pixels]], list[Seen]]

# A GPU idles on single pictures; a CPU is fastest with them.
GPU_BATCH = 8
# Pictures a shard: small enough that a killed run loses seconds, large enough that reading many is quick.
SHARD = 64


@dataclass(frozen=True)
class Photometric:
    """A change of colours only: each channel moved to a mean and spread (3,), BGR in [0, 255]."""

    mean: tuple[float, float, float]
    spread: tuple[float, float, float]

    @classmethod
    def of(cls, pictures: pd.DataFrame) -> Photometric:
        """The mean tone of a table of pictures with statistics."""
        mean, spread = (
            [float(pictures[f"{what}_{channel}"].mean()) for channel in "bgr"] for what in ("mean", "spread")
        )
        return cls((mean[0], mean[1], mean[2]), (spread[0], spread[1], spread[2]))

    @property
    def name(self) -> str:
        """What stands in the settings, and so in the key of the store."""
        return "match " + " ".join(f"{value:.2f}" for value in (*self.mean, *self.spread))

    def __call__(self, pixels: Pixels) -> Pixels:
        """(H, W, 3) uint8 -> the same with the channels' mean and spread matched."""
        values = pixels.astype(np.float32)
        own_mean, own_spread = values.mean((0, 1)), values.std((0, 1)) + 1e-3
        matched = (values - own_mean) / own_spread * np.array(self.spread, np.float32) + np.array(
            self.mean, np.float32
        )
        return np.asarray(np.clip(np.rint(matched), 0, 255), np.uint8)


class Detector:
    """A loaded checkpoint. Raises InputError when the file is no detection checkpoint."""

    def __init__(self, weights: Path, *, device: str | None = None, batch: int | None = None) -> None:
        try:
            self.model: Any = YOLO(str(weights))
            names = self.model.names
        except Exception as error:  # ultralytics raises whatever its many loaders raise
            raise InputError(
                f"{weights}: not a usable checkpoint ({_first_line(error)}); give the best.pt of a training run"
            ) from None
        if self.model.task != "detect":
            raise InputError(
                f"{weights}: is a '{self.model.task}' model; only detection models can be diagnosed"
            )
        self.classes = tuple(names[i] for i in sorted(names))
        arguments: dict[str, Any] = getattr(self.model.model, "args", None) or {}
        self.imgsz = int(arguments.get("imgsz", 640)) if isinstance(arguments, dict) else 640
        self.device = device or ("cuda:0" if torch.cuda.is_available() else "cpu")
        self.batch = batch or (1 if self.device == "cpu" else GPU_BATCH)
        self._maps: list[torch.Tensor] = []
        self._embedding: Floats | None = None
        self._hooked = False

    def see(self, pictures: Sequence[Pixels], settings: Settings) -> list[Seen]:
        """Pictures of one shape, (H, W, 3) BGR uint8 each, in one forward call.

        Gives per picture: boxes (N, 6) xyxy pixels, confidence, class; its embedding (D,); object embeddings (N, E). The boxes are those
        of `ultralytics.YOLO.predict`, the picture embedding is that of `ultralytics.YOLO.embed`: the globally averaged output of the layer
        before the head. An object embedding is the mean over the box (RoIAlign, one bin) of every map that enters the head, concatenated.
        Raises ValueError for pictures of different shapes, which would be letterboxed differently than one by one.
        """
        if len({picture.shape for picture in pictures}) != 1:
            raise ValueError("expected pictures of one shape")
        if not self._hooked:
            self._prepare(settings)
        results = self.model.predict(
            list(pictures),
            imgsz=settings.imgsz,
            conf=settings.conf,
            iou=settings.iou,
            max_det=settings.max_det,
            device=self.device,
            batch=len(pictures),
            verbose=False,
            save=False,
        )
        if self._embedding is None or len(results) != len(pictures) or len(self._embedding) != len(pictures):
            raise RuntimeError(
                "the forward hooks did not see every picture; this version of ultralytics runs the head differently"
            )
        seen = []
        for index, result in enumerate(results):
            boxes = result.boxes.data.detach().float().cpu().numpy().reshape(-1, 6)
            boxes = boxes[np.isfinite(boxes).all(1)].astype(np.float32)
            seen.append((boxes, self._embedding[index], self._objects(boxes, index, pictures[0].shape[:2])))
        return seen

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

    def _objects(self, boxes: Floats, index: int, shape: tuple[int, ...]) -> Floats:
        """RoI means of every head input, (N, sum of channels)."""
        finest = self._maps[0]
        stride = float(self.model.predictor.model.model.stride[0])
        rows, columns = finest.shape[2] * stride, finest.shape[3] * stride
        gain = min(rows / shape[0], columns / shape[1])
        # Letterboxing centres the picture; scale and shift are those of ultralytics' LetterBox.
        shift = np.array([(columns - shape[1] * gain) / 2, (rows - shape[0] * gain) / 2], np.float32)
        corners = torch.from_numpy(boxes[:, :4] * np.float32(gain) + np.tile(shift, 2)).to(finest)
        pooled = []
        for level in self._maps:
            scale = level.shape[3] / columns
            pooled.append(
                roi_align(
                    level[index : index + 1],
                    [corners],
                    output_size=1,
                    spatial_scale=scale,
                    sampling_ratio=2,
                    aligned=True,
                )[:, :, 0, 0]
            )
        return np.asarray(torch.cat(pooled, 1).float().cpu().numpy(), np.float32)


def available_cores() -> int:
    """Cores this process may use; ultralytics leaves one of them idle on a CPU."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def predict(
    detector: Detector,
    images: pd.DataFrame,
    settings: Settings,
    store: Store,
    *,
    transform: Photometric | None = None,
    tick: Callable[[], None] = lambda: None,
) -> Predictions:
    """Results for every picture of the images table, computing only what the store does not hold yet.

    Pictures that cannot be decoded are returned as failures. tick is called once a picture.
    """

    def look(pictures: Sequence[Pixels]) -> list[Seen]:
        return detector.see([transform(pixels) for pixels in pictures] if transform else pictures, settings)

    return collect(images, store, look, tick, batch=detector.batch)


def describe(images: pd.DataFrame, store: Store, *, tick: Callable[[], None] = lambda: None) -> Predictions:
    """Statistics and fingerprints alone, for domains whose detections come from elsewhere; embeddings have one empty column."""
    nothing = (np.zeros((0, 6), np.float32), np.zeros(1, np.float32), np.zeros((0, 1), np.float32))
    return collect(images, store, lambda pictures: [nothing] * len(pictures), tick, batch=1)


class Batch:
    """Decoded pictures of one shape waiting for a forward call, and passes waiting for a shard."""

    def __init__(self, store: Store, look: Look, size: int) -> None:
        self.store, self.look, self.size = store, look, size
        self.waiting: dict[str, Pixels] = {}
        self.done: dict[str, Pass] = {}

    def __contains__(self, content: str) -> bool:
        return content in self.store or content in self.waiting or content in self.done

    def add(self, content: str, pixels: Pixels) -> None:
        """Take a picture; looks when the batch is full or the shape changes, stores when a shard is full."""
        if self.waiting and next(iter(self.waiting.values())).shape != pixels.shape:
            self.flush()
        self.waiting[content] = pixels
        if len(self.waiting) == self.size:
            self.flush()
        if len(self.done) >= SHARD:
            self.close()

    def flush(self) -> None:
        """Look at what waits. Statistics and fingerprint are those of the picture as it is on disk."""
        if self.waiting:
            for (content, pixels), (boxes, embedding, objects) in zip(
                self.waiting.items(), self.look(list(self.waiting.values())), strict=True
            ):
                self.done[content] = Pass(
                    content, statistics(pixels), difference_hash(pixels), embedding, boxes, objects
                )
            self.waiting.clear()

    def close(self) -> None:
        """Look at the rest and store it."""
        self.flush()
        if self.done:
            self.store.add(list(self.done.values()))
            self.done.clear()


def collect(
    images: pd.DataFrame, store: Store, look: Look, tick: Callable[[], None], *, batch: int
) -> Predictions:
    """Pass every picture whose content the store does not know, then read them all back in the order of images."""
    contents: dict[str, str] = {}
    failures: list[dict[str, str]] = []
    pending = Batch(store, look, batch)
    for image, path in zip(images["image"], images["path"], strict=True):
        tick()
        try:
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:32]
            if content not in pending:
                pending.add(content, decode(Path(path)))
        except (UnreadablePicture, OSError) as reason:
            failures.append({"path": str(path), "reason": str(reason)})
            continue
        contents[image] = content
    pending.close()
    return replace(store.read(contents), failures=pd.DataFrame(failures, columns=["path", "reason"]))


def check_classes(detector_classes: Sequence[str], source_classes: Sequence[str], spec: str) -> None:
    """Raise InputError with both lists when a source's class names are not the model's, in the model's order."""
    if source_classes and tuple(source_classes) != tuple(detector_classes):
        ours = ", ".join(f"{i}: {name}" for i, name in enumerate(detector_classes))
        theirs = ", ".join(f"{i}: {name}" for i, name in enumerate(source_classes))
        raise InputError(
            f"{spec}: class names do not match the model; model has {{{ours}}}, source has {{{theirs}}}; rename or reorder 'names' in the data.yaml"
        )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
