"""From images to stored passes: decode, look, keep. Needs no model and no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.pixels import Pixels, UnreadableImage, decode, descriptor, difference_hash, statistics
from train.predictions import Floats, ImagePrediction, Predictions, Store

# What is seen in one image: boxes (N, 6), embedding (D,), object embeddings (N, E).
ImageOutput = tuple[Floats, Floats, Floats]
Predict = Callable[[Sequence[Pixels]], list[ImageOutput]]

# Images a shard: small enough that a killed run loses seconds, large enough that reading many is quick.
SHARD = 64


class Batch:
    """Decoded images of one shape waiting for a forward call, and passes waiting for a shard."""

    def __init__(self, store: Store, predict: Predict, size: int) -> None:
        self.store, self.predict, self.size = store, predict, size
        self.waiting: dict[str, Pixels] = {}
        self.done: dict[str, ImagePrediction] = {}

    def __contains__(self, content: str) -> bool:
        return content in self.store or content in self.waiting or content in self.done

    def add(self, content: str, pixels: Pixels) -> None:
        """Take an image; looks when the batch is full or the shape changes, stores when a shard is full."""
        if self.waiting and next(iter(self.waiting.values())).shape != pixels.shape:
            self.flush()
        self.waiting[content] = pixels
        if len(self.waiting) == self.size:
            self.flush()
        if len(self.done) >= SHARD:
            self.close()

    def flush(self) -> None:
        """Look at what waits. Statistics and fingerprint are those of the image as it is on disk."""
        if self.waiting:
            for (content, pixels), (boxes, embedding, detection_embeddings) in zip(
                self.waiting.items(), self.predict(list(self.waiting.values())), strict=True
            ):
                self.done[content] = ImagePrediction(
                    content,
                    statistics(pixels),
                    descriptor(pixels),
                    difference_hash(pixels),
                    embedding,
                    boxes,
                    detection_embeddings,
                )
            self.waiting.clear()

    def close(self) -> None:
        """Look at the rest and store it."""
        self.flush()
        if self.done:
            self.store.add(list(self.done.values()))
            self.done.clear()


def collect(
    images: pd.DataFrame,
    store: Store,
    predict: Predict,
    tick: Callable[[], None],
    *,
    batch: int,
    embed_detections: bool = True,
) -> Predictions:
    """Pass every image whose content the store does not know, then read them all back in the order of images. embed_detections: see `Store.read`."""
    contents: dict[str, str] = {}
    failures: list[dict[str, str]] = []
    pending = Batch(store, predict, batch)
    for image, path in zip(images["image"], images["path"], strict=True):
        tick()
        try:
            content = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:32]
            if content not in pending:
                pending.add(content, decode(Path(path)))
        except (UnreadableImage, OSError) as reason:
            failures.append({"path": str(path), "reason": str(reason)})
            continue
        contents[image] = content
    pending.close()
    return replace(
        store.read(contents, embed_detections=embed_detections),
        failures=pd.DataFrame(failures, columns=["path", "reason"]),
    )


def describe(images: pd.DataFrame, store: Store, *, tick: Callable[[], None] = lambda: None) -> Predictions:
    """Statistics and fingerprints alone, for domains whose detections come from elsewhere; embeddings have no columns."""
    nothing = (np.zeros((0, 6), np.float32), np.zeros(1, np.float32), np.zeros((0, 1), np.float32))
    found = collect(images, store, lambda images: [nothing] * len(images), tick, batch=1)
    # The store holds one empty column, since Parquet has no vectors of length 0.
    return replace(
        found,
        image_embeddings=found.image_embeddings[:, :0],
        detection_embeddings=found.detection_embeddings[:, :0],
    )


def available_cores() -> int:
    """Cores this process may use; ultralytics leaves one of them idle on a CPU."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
