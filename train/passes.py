"""From images to stored predictions: decode, predict, store. Needs neither a model nor PyTorch."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue
from threading import Lock
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd

from datasets.pixels import Pixels, UnreadableImage, decode, descriptor, difference_hash, statistics
from train import environment
from train.predictions import Floats, ImagePrediction, Predictions, Store


class ImageOutput(NamedTuple):
    """The result for one image.

    boxes: (N, 6) or, rotated, (N, 11)
    embedding: of the image, (D,)
    detection_embeddings: (N, E)
    shapes: one a box, see `datasets.shapes`; None where they are not kept
    """

    boxes: Floats
    embedding: Floats
    detection_embeddings: Floats
    shapes: tuple[bytes, ...] | None = None


Predict = Callable[[Sequence[Pixels]], list[ImageOutput]]

# Images per shard: few enough that a killed run loses seconds, enough that reading many shards is fast.
SHARD = 64
# Images a lane that may be predicted before they are asked for.
AHEAD = 2
# Of decoded images that are kept for the next experiment: forty of two megapixels.
MOST_BYTES = 2**28


@dataclass(frozen=True)
class Described:
    """An image in memory, and what is measured of it without a network.

    content: digest of the file
    pixels: (H, W, 3) uint8 BGR
    statistics, descriptor: see `datasets.pixels`
    fingerprint: its difference hash
    """

    content: str
    pixels: Pixels
    statistics: dict[str, float]
    descriptor: Floats
    fingerprint: bytes


# A file's path, time of change in nanoseconds, and size in bytes.
FileKey = tuple[str, int, int]


class _Recent:
    """The images that were decoded last, as many as MOST_BYTES hold: experiments predict the same ones in
    turn.
    """

    def __init__(self) -> None:
        self._images: OrderedDict[FileKey, Described] = OrderedDict()
        self._digests: dict[FileKey, str] = {}
        self._bytes = 0
        self._lock = Lock()

    def remember(self, path: Path, content: str) -> None:
        """Keep a digest that was computed elsewhere, so that the file is not read for it. Raises OSError."""
        self._digests[_file_key(path)] = content

    def open(self, path: Path, is_known: Callable[[str], bool]) -> tuple[str, Described | None]:
        """The digest of a file, and the image unless its digest is known. Raises UnreadableImage, OSError."""
        key = _file_key(path)
        with self._lock:
            found = self._images.get(key)
            if found is not None:
                self._images.move_to_end(key)
        if found is not None:
            return found.content, None if is_known(found.content) else found
        content = self._digests.get(key) or hashlib.sha256(path.read_bytes()).hexdigest()[:32]
        if is_known(content):
            return content, None
        pixels = decode(path)
        described = Described(
            content, pixels, statistics(pixels), descriptor(pixels), difference_hash(pixels)
        )
        with self._lock:
            if key not in self._images:
                self._images[key] = described
                self._bytes += pixels.nbytes
            while self._bytes > MOST_BYTES:
                _, oldest = self._images.popitem(last=False)
                self._bytes -= oldest.pixels.nbytes
        return content, described


_RECENT = _Recent()


def _file_key(path: Path) -> FileKey:
    """What changes when a file does. Raises OSError."""
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


def remember_digest(path: Path, content: str) -> None:
    """Keep the digest of a file that another process read; one that is gone since is left to the caller to
    find.
    """
    with suppress(OSError):
        _RECENT.remember(path, content)


class Shards(Protocol):
    """Where predictions are kept: a `Store`, or `Kept`."""

    def __contains__(self, content: str) -> bool: ...

    def add(self, predictions: Sequence[ImagePrediction]) -> None:
        """Keep predictions."""


class Kept:
    """Predictions in memory, beside the digests of those that are stored elsewhere."""

    def __init__(self, known: Set[str]) -> None:
        self.known = known
        self._made: dict[str, ImagePrediction] = {}

    @property
    def predictions(self) -> list[ImagePrediction]:
        """What was kept, in the order in which it came."""
        return list(self._made.values())

    def __contains__(self, content: str) -> bool:
        return content in self.known or content in self._made

    def add(self, predictions: Sequence[ImagePrediction]) -> None:
        """Keep predictions."""
        self._made |= {prediction.content: prediction for prediction in predictions}


class Batch:
    """Decoded images of one shape waiting for a forward call, and predictions waiting for a shard.

    store: where predictions are kept
    predict: forward call on images of one shape
    size: images in one forward call
    """

    def __init__(self, store: Shards, predict: Predict, size: int) -> None:
        self.store, self.predict, self.size = store, predict, size
        self.waiting: dict[str, Described] = {}
        self.done: dict[str, ImagePrediction] = {}

    def __contains__(self, content: str) -> bool:
        return content in self.store or content in self.waiting or content in self.done

    def add(self, image: Described) -> None:
        """Add an image; predict when the batch is full or the shape changes."""
        if self.waiting and next(iter(self.waiting.values())).pixels.shape != image.pixels.shape:
            self.flush()
        self.waiting[image.content] = image
        if len(self.waiting) == self.size:
            self.flush()

    def flush(self) -> None:
        """Predict the waiting images."""
        if self.waiting:
            outputs = self.predict([image.pixels for image in self.waiting.values()])
            for image, output in zip(self.waiting.values(), outputs, strict=True):
                self.keep(_prediction(image, output))
            self.waiting.clear()

    def keep(self, prediction: ImagePrediction) -> None:
        """Keep a prediction once; store when a shard is full."""
        if prediction.content not in self.store:
            self.done[prediction.content] = prediction
        if len(self.done) >= SHARD:
            self.store.add(list(self.done.values()))
            self.done.clear()

    def close(self) -> None:
        """Predict and store the rest."""
        self.flush()
        if self.done:
            self.store.add(list(self.done.values()))
            self.done.clear()


def read_into(path: Path, pending: Batch) -> str:
    """Add an image to a batch unless its prediction is known; its digest. Raises UnreadableImage, OSError."""
    content, image = _RECENT.open(path, pending.__contains__)
    if image is not None:
        pending.add(image)
    return content


def collect(
    images: pd.DataFrame,
    store: Store,
    predict: Predict,
    tick: Callable[[], None],
    *,
    batch: int,
    embed_detections: bool = True,
    lanes: Callable[[], Sequence[Predict]] = tuple,
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
    lanes
        Asked where an image has to be predicted, for forward calls that can run at the same time, each in a
        thread of its own. Where there are any, they take the place of predict.

    Returns
    -------
    Predictions
        Results in the order of images; images that cannot be decoded are in its failures.
    """
    contents: dict[str, str] = {}
    failures: list[dict[str, str]] = []
    pending = Batch(store, predict, batch)
    names, paths = list(images["image"]), [Path(path) for path in images["path"]]
    for at, (image, path) in enumerate(zip(names, paths, strict=True)):
        tick()
        try:
            contents[image], described = _RECENT.open(path, pending.__contains__)
        except (UnreadableImage, OSError) as reason:
            failures.append({"path": str(path), "reason": str(reason)})
            continue
        if described is None:
            continue
        parallel = lanes()
        if not parallel:
            pending.add(described)
            continue
        results = _predict_in_lanes(paths[at:], pending, parallel)
        for place, (image, path, result) in enumerate(zip(names[at:], paths[at:], results, strict=True)):
            if place:
                tick()
            if isinstance(result, str):
                contents[image] = result
            else:
                failures.append({"path": str(path), "reason": str(result)})
        break
    pending.close()
    return replace(
        store.read(contents, embed_detections=embed_detections),
        failures=pd.DataFrame(failures, columns=["path", "reason"]),
    )


def _predict_in_lanes(
    paths: Sequence[Path], pending: Batch, lanes: Sequence[Predict]
) -> Iterator[str | UnreadableImage | OSError]:
    """The digest of each file, or why it cannot be read, in order; its prediction is stored, or waits in
    pending.

    Every image is read and predicted by the same thread, one image at a time.
    """
    free: Queue[Predict] = Queue()
    for lane in lanes:
        free.put(lane)

    def predict(path: Path) -> tuple[str, ImagePrediction | None] | UnreadableImage | OSError:
        lane = free.get()
        try:
            content, image = _RECENT.open(path, pending.__contains__)
            return content, None if image is None else _prediction(image, lane([image.pixels])[0])
        except (UnreadableImage, OSError) as reason:
            return reason
        finally:
            free.put(lane)

    with ThreadPoolExecutor(len(lanes), thread_name_prefix="lane") as threads:
        ahead: deque[Future[Any]] = deque()
        try:
            for path in paths:
                ahead.append(threads.submit(predict, path))
                if len(ahead) > AHEAD * len(lanes):
                    yield _stored(ahead.popleft().result(), pending)
            while ahead:
                yield _stored(ahead.popleft().result(), pending)
        finally:
            # Left early, by Ctrl+C or an error: nothing more is read.
            for waiting in ahead:
                waiting.cancel()


def _stored(
    result: tuple[str, ImagePrediction | None] | UnreadableImage | OSError, pending: Batch
) -> str | UnreadableImage | OSError:
    """Keep what a lane gives; the digest of its file, or why there is none."""
    if not isinstance(result, tuple):
        return result
    content, prediction = result
    if prediction is not None:
        pending.keep(prediction)
    return content


def _prediction(image: Described, output: ImageOutput) -> ImagePrediction:
    """The result for one image. Statistics and fingerprint are those of the image as it is on disk."""
    return ImagePrediction(
        image.content,
        image.statistics,
        image.descriptor,
        image.fingerprint,
        output.embedding,
        output.boxes,
        output.detection_embeddings,
        output.shapes,
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
    no_output = ImageOutput(
        np.zeros((0, 6), np.float32), np.zeros(1, np.float32), np.zeros((0, 1), np.float32)
    )
    described = collect(images, store, lambda batch: [no_output] * len(batch), tick, batch=1)
    # The store holds one empty column, since Parquet has no vectors of length 0.
    return replace(
        described,
        image_embeddings=described.image_embeddings[:, :0],
        detection_embeddings=np.zeros((len(described.detections), 0), np.float32),
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
