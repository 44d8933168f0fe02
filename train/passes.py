"""From images to stored predictions: decode, predict, store. Needs neither a model nor PyTorch."""

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
from train import environment
from train.predictions import Floats, ImagePrediction, Predictions, Store

# Result for one image: boxes (N, 6), image embedding (D,), detection embeddings (N, E).
ImageOutput = tuple[Floats, Floats, Floats]
Predict = Callable[[Sequence[Pixels]], list[ImageOutput]]

# Images per shard: few enough that a killed run loses seconds, enough that reading many shards is fast.
SHARD = 64


class Batch:
    """Decoded images of one shape waiting for a forward call, and predictions waiting for a shard.

    store: where predictions are kept
    predict: forward call on images of one shape
    size: images in one forward call
    """

    def __init__(self, store: Store, predict: Predict, size: int) -> None:
        self.store, self.predict, self.size = store, predict, size
        self.waiting: dict[str, Pixels] = {}
        self.done: dict[str, ImagePrediction] = {}

    def __contains__(self, content: str) -> bool:
        return content in self.store or content in self.waiting or content in self.done

    def add(self, content: str, pixels: Pixels) -> None:
        """Add an image; predict when the batch is full or the shape changes, store when a shard is full."""
        if self.waiting and next(iter(self.waiting.values())).shape != pixels.shape:
            self.flush()
        self.waiting[content] = pixels
        if len(self.waiting) == self.size:
            self.flush()
        if len(self.done) >= SHARD:
            self.close()

    def flush(self) -> None:
        """Predict the waiting images. Statistics and fingerprint are those of the image as it is on disk."""
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
        """Predict and store the rest."""
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
    """Predict the images whose content the store does not hold yet, and read the results of all.

    Parameters
    ----------
    images
        Columns image and path.
    store
        Where results are read and kept.
    predict
        Forward call on images of one shape.
    tick
        Called once per image.
    batch
        Images in one forward call.
    embed_detections
        See `Store.read`.

    Returns
    -------
    Predictions
        Results in the order of images; images that cannot be decoded are in its failures.
    """
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
    """Measure statistics and fingerprints only, for domains whose detections come from a file.

    Parameters
    ----------
    images
        Columns image and path.
    store
        Where results are read and kept.
    tick
        Called once per image.

    Returns
    -------
    Predictions
        No detections; embeddings have no columns.
    """
    no_output = (np.zeros((0, 6), np.float32), np.zeros(1, np.float32), np.zeros((0, 1), np.float32))
    described = collect(images, store, lambda batch: [no_output] * len(batch), tick, batch=1)
    # The store holds one empty column, since Parquet has no vectors of length 0.
    return replace(
        described,
        image_embeddings=described.image_embeddings[:, :0],
        detection_embeddings=described.detection_embeddings[:, :0],
    )


def available_cores() -> int:
    """Cores that this process may use."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def network_threads() -> int:
    """Threads of a network on a CPU: as many as OMP_NUM_THREADS said at the start, else one a core.

    Two processes that each start a thread a core take ten times as long as with one thread each: threads that
    wait for the others keep the cores busy.
    """
    stated = environment.STATED_THREADS
    return int(stated) if stated is not None and stated.isdigit() and int(stated) > 0 else available_cores()
