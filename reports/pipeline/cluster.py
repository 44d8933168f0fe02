"""Forward passes on a Ray cluster, whose machines see the same folders.

Ray Data hands the paths of images to tasks. The process that runs a task keeps the detector for the next one.
What a task gives is stored here, so that a killed machine costs the images in its hands, which Ray gives to
another one, and a second run predicts nothing again.

Tasks and not actors: an actor whose machine is gone waits for room on another, and with it the images it was
given.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pandas as pd

from datasets.errors import EnvironmentProblem, InputError
from datasets.pixels import UnreadableImage
from train.environment import trust_checkpoints
from train.forward import Detector
from train.passes import SHARD, Batch, Kept, read_into, remember_digest
from train.predictions import Predictions, Settings, Store
from train.transforms import Transform

# Fewer images than this are predicted here: a task takes seconds to load the detector. Experiments use fewer.
FEWEST = 2 * SHARD
# Images of one task: what a killed machine costs, and how often progress is shown.
TASK = SHARD // 2
# Images of one task on a GPU: Ray ends the process of such a task, and with it the detector.
GPU_TASK = 8 * SHARD
# The object store of a Ray that is started here, in bytes: what waits to be stored, some 0.2 MB an image.
OBJECT_STORE = 2**28
# Starts a Ray of its own on this machine.
LOCAL = "local"
# Seconds within which a cluster has to answer.
CONNECT = 10
# What workers read from their environment when they import Ultralytics.
HANDED_ON = ("YOLO", "ULTRALYTICS", "TORCH_FORCE", "SHIFTSCOPE_BACKEND", "GOMP", "OMP_WAIT", "PYTHONPATH")

Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class _Job:
    """What a task needs beside the paths.

    weights, device, batch: see `train.forward.Detector`
    trust: load a checkpoint that the restricted loader refuses
    settings, transform: see `Detector.predict`
    known: a Ray reference to the digests that are stored already
    """

    weights: str
    device: str
    batch: int
    trust: bool
    settings: Settings
    transform: Transform | None
    known: Any


class ClusterDetector(Detector):
    """A detector whose forward passes over many images run on a Ray cluster.

    Parameters
    ----------
    weights, device, batch
        See `train.forward.Detector`; the weights lie in a folder that every machine sees.
    address
        Of the cluster, as `ray.init` takes it; "local" starts one on this machine, "" takes the one that is
        running here or starts one.
    trust
        Load a checkpoint that the restricted loader refuses.

    Raises
    ------
    InputError
        The file is no detection checkpoint.
    EnvironmentProblem
        Ray is missing, or no cluster answers.
    """

    def __init__(
        self, weights: Path, *, address: str, device: str | None, batch: int | None, trust: bool
    ) -> None:
        _connect(address)
        super().__init__(weights, device=device, batch=batch)
        self.trust = trust
        self._backends: set[str] = set()

    @property
    def backend(self) -> str:
        """What computed the forward passes, see `Detector.backend`."""
        own = super().backend
        used = self._backends | ({own} - {"stored"})
        return next((name for name in sorted(used) if name.startswith("PyTorch")), min(used, default=own))

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
        """As `Detector.predict`, FEWEST images and more on the cluster."""
        if len(images) >= FEWEST:
            self._fill(images, settings, store, transform, tick)
            tick = _counted
        return super().predict(
            images, settings, store, transform=transform, tick=tick, embed_detections=embed_detections
        )

    def _fill(
        self,
        images: pd.DataFrame,
        settings: Settings,
        store: Store,
        transform: Transform | None,
        tick: Callable[[], None],
    ) -> None:
        """Predict what the store lacks; what cannot be read is left for the caller to find."""
        import ray

        paths = [str(Path(path).absolute()) for path in images["path"]]
        known, weights = ray.put(store.contents()), str(self.weights.absolute())
        job = _Job(weights, self.device, self.batch, self.trust, settings, transform, known)
        pending = Batch(store, _predict_nothing, 1)
        for columns in _run(paths, job):
            if columns["problem"][0]:
                raise InputError(str(columns["problem"][0]))
            rows = zip(columns["path"], columns["content"], columns["prediction"], strict=True)
            self._backends.update(name for name in map(str, columns["backend"]) if name != "stored")
            for path, content, prediction in rows:
                tick()
                if prediction:
                    pending.keep(pickle.loads(prediction))
                if content:
                    remember_digest(Path(path), str(content))
        pending.close()


def _counted() -> None:
    """Nothing: the image was counted when the cluster gave it back."""


def _predict_nothing(images: Sequence[Any]) -> list[Any]:
    """Stand for a forward call where only predictions are stored."""
    raise RuntimeError(f"{len(images)} images were handed over without a prediction")


def _connect(address: str) -> None:
    """Join or start a cluster, once a process. Raises EnvironmentProblem."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise EnvironmentProblem(
            "--ray needs Ray, which is not installed: install the extra, uv pip install -e '.[ray]'"
        ) from None
    if ray.is_initialized():
        return
    handed_on = {name: value for name, value in os.environ.items() if name.startswith(HANDED_ON)}
    options: dict[str, Any] = {
        "runtime_env": {"env_vars": handed_on},
        "log_to_driver": False,
        "logging_level": "ERROR",
    }
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        if address in ("", "auto"):
            try:
                ray.init("auto", **options)
            except ConnectionError:
                if address:
                    raise
                ray.init(LOCAL, **options, **own)
        elif address == LOCAL:
            ray.init(LOCAL, **options, **own)
        else:
            # Ray itself waits for minutes.
            place = urlsplit(address if "://" in address else f"//{address}")
            socket.create_connection((place.hostname or "", place.port or 0), CONNECT).close()
            ray.init(address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EnvironmentProblem(
            f"--ray {address}: no cluster answers there ({reason}); `ray status` on its head tells whether "
            "it runs, and --ray local starts one on this machine"
            if address not in ("", LOCAL)
            else f"--ray: Ray does not start on this machine ({reason}); leave out --ray to "
            "predict without it"
        ) from None


def _run(paths: Sequence[str], job: _Job) -> Iterator[Columns]:
    """What the tasks give, in the order in which they end."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    on_gpu = job.device.startswith("cuda")
    size = GPU_TASK if on_gpu else TASK
    resources: dict[str, Any] = {"num_gpus": 1} if on_gpu else {"num_cpus": 1}
    dataset = ray.data.from_items(
        [{"path": path} for path in paths],
        override_num_blocks=math.ceil(len(paths) / size),
    ).map_batches(
        _task,  # type: ignore[arg-type]  # ray's type has no room for fn_kwargs
        batch_size=size,
        fn_kwargs={"job": job},
        **resources,
    )
    yield from dataset.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0)


def _task(columns: Mapping[str, npt.NDArray[Any]], job: _Job) -> Columns:
    """`predict_task`, where Ray calls it."""
    return predict_task(columns, job, _known(job.known))


def predict_task(columns: Mapping[str, npt.NDArray[Any]], job: _Job, known: Set[str]) -> Columns:
    """Predict some images on a worker.

    Parameters
    ----------
    columns
        path, (n,).
    job
        How.
    known
        Digests of images that are stored already.

    Returns
    -------
    dict
        (n,) each: path; content, the digest of the file, "" where it cannot be read; prediction, a pickled
        `ImagePrediction`, b"" where it is stored already or stands beside a copy of the image; backend; and
        problem, why the detector cannot be used, "" where it can.
    """
    try:
        return _predicted(list(map(str, columns["path"])), job, known)
    except InputError as problem:
        empty = {"content": "", "prediction": b"", "backend": "stored", "problem": str(problem)}
        return {"path": columns["path"]} | {
            name: np.array([value] * len(columns["path"]), object) for name, value in empty.items()
        }


def _predicted(paths: Sequence[str], job: _Job, known: Set[str]) -> Columns:
    """See `predict_task`. Raises InputError where the detector cannot be used."""
    detector = _detector(job.weights, job.device, job.batch, job.trust)
    kept = Kept(known)

    def forward(images: Sequence[Any]) -> list[Any]:
        return detector.predict_pixels(
            [job.transform(pixels) for pixels in images] if job.transform else images, job.settings
        )

    pending = Batch(kept, forward, job.batch)
    contents = []
    for path in paths:
        content = ""
        with suppress(UnreadableImage, OSError):
            content = read_into(Path(path), pending)
        contents.append(content)
    pending.close()
    made = {prediction.content: pickle.dumps(prediction) for prediction in kept.predictions}
    return {
        "path": np.array(paths, object),
        "content": np.array(contents, object),
        "prediction": np.array([made.pop(content, b"") for content in contents], object),
        "backend": np.array([detector.backend] * len(contents), object),
        "problem": np.array([""] * len(contents), object),
    }


@lru_cache(1)
def _detector(weights: str, device: str, batch: int, trust: bool) -> Detector:
    """The detector of this worker."""
    if trust:
        trust_checkpoints()
    return Detector(Path(weights), device=device, batch=batch)


@lru_cache(2)
def _known(reference: Any) -> frozenset[str]:
    """The digests that are stored already."""
    import ray

    return frozenset(ray.get(reference))
