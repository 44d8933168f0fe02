"""Detectors that are no checkpoint of Ultralytics: a function of the user's own, and an ONNX file.

They give boxes and no activations. What stands for an image's embedding then is what is measured of it
without a network (`datasets.pixels.descriptor`), unless the function returns an embedding too.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from datasets.errors import InputError
from datasets.pixels import Pixels, descriptor
from train.passes import ImageOutput, collect
from train.predictions import Floats, Predictions, Settings, Store
from train.run import Run, file_sha256

# Ultralytics' default, where nothing says another size.
IMGSZ = 640
EXPECTED = (
    "one array (N, 6) an image: x1, y1, x2, y2 in its pixels, confidence, class number; or a pair of that "
    "and the image's embedding (D,)"
)


class BoxDetector(ABC):
    """A detector that gives boxes only, with the methods of `train.forward.Detector`.

    name: what it is called in messages
    classes: class names by index
    imgsz: network input size in pixels, where none is asked for
    batch: images in one call
    backend: what computes the forward passes
    task: what it gives, as Ultralytics names tasks
    training_curve: see `train.forward.Detector`; none is known
    """

    name: str
    classes: tuple[str, ...]
    imgsz: int = IMGSZ
    batch: int = 1
    backend: str = "your own function"
    task: str = "detect"
    training_curve: Mapping[str, list[float]] = MappingProxyType({})

    @abstractmethod
    def detect(self, images: Sequence[Pixels], settings: Settings) -> list[tuple[Floats, Floats | None]]:
        """Boxes (N, 6) of each image as xyxy in pixels, confidence, class; and its embedding (D,), None for
        none.
        """

    def predict_pixels(self, images: Sequence[Pixels], settings: Settings) -> list[ImageOutput]:
        """See `train.forward.Detector.predict_pixels`; detections have no embeddings."""
        outputs = self.detect(images, settings)
        if len(outputs) != len(images):
            raise InputError(f"{self.name}: gave {len(outputs)} results for {len(images)} images")
        return [
            ImageOutput(
                _kept(boxes, settings),
                descriptor(pixels) if embedding is None else embedding,
                np.zeros((len(_kept(boxes, settings)), 1), np.float32),
            )
            for pixels, (boxes, embedding) in zip(images, outputs, strict=True)
        ]

    def predict(
        self,
        images: pd.DataFrame,
        settings: Settings,
        store: Store,
        *,
        transform: Callable[[Pixels], Pixels] | None = None,
        tick: Callable[[], None] = lambda: None,
        embed_detections: bool = True,
    ) -> Predictions:
        """See `train.forward.Detector.predict`."""

        def forward(batch: Sequence[Pixels]) -> list[ImageOutput]:
            return self.predict_pixels(
                [transform(pixels) for pixels in batch] if transform else batch, settings
            )

        predicted = collect(images, store, forward, tick, batch=self.batch, embed_detections=embed_detections)
        # The store holds one empty column, since Parquet has no vectors of length 0.
        return replace(predicted, detection_embeddings=np.zeros((len(predicted.detections), 0), np.float32))


def _kept(boxes: Floats, settings: Settings) -> Floats:
    """The boxes that the settings keep, most confident first."""
    chosen = boxes[:, 4] >= settings.conf
    if settings.classes:
        chosen &= np.isin(boxes[:, 5], settings.classes)
    kept = boxes[chosen]
    return kept[np.argsort(-kept[:, 4], kind="stable")][: settings.max_det]


class FunctionDetector(BoxDetector):
    """A function of the user's own, called with images (H, W, 3) RGB uint8 of one shape and `imgsz`.

    It returns EXPECTED. Its attribute `classes` names the classes; `imgsz`, `batch` and `weights` (a file or
    several) are optional. Suppressing overlapping boxes is its own business.

    Parameters
    ----------
    name
        "package.module:function"; the module is imported, which runs its code.

    Raises
    ------
    InputError
        There is no such function, or it names no classes.
    """

    def __init__(self, name: str, *, batch: int | None = None) -> None:
        self.name = name
        self.function = _named(name)
        classes = getattr(self.function, "classes", None)
        if isinstance(classes, dict):
            classes = [classes[number] for number in sorted(classes)]
        if not classes or isinstance(classes, str):
            raise InputError(
                f"--detector {name}: names no classes; set {name.partition(':')[2]}.classes = ('pothole', "
                "...) in its module"
            )
        self.classes = tuple(map(str, classes))
        self.imgsz = int(getattr(self.function, "imgsz", IMGSZ))
        self.batch = batch or int(getattr(self.function, "batch", 1))

    def detect(self, images: Sequence[Pixels], settings: Settings) -> list[tuple[Floats, Floats | None]]:
        """Call the function, and check what it returns. Raises InputError where it fails."""
        upright = [np.ascontiguousarray(pixels[..., ::-1]) for pixels in images]
        try:
            found = list(self.function(upright, settings.imgsz))
        except InputError:
            raise
        except Exception as error:  # whatever the user's function raises
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise InputError(
                f"--detector {self.name}: failed with {type(error).__name__}: "
                f"{next(iter(str(error).splitlines()), '')} "
                f"({place.filename}, line {place.lineno})"
            ) from error
        return [self._read(entry) for entry in found]

    def _read(self, entry: Any) -> tuple[Floats, Floats | None]:
        """One image's result. Raises InputError where it is not what EXPECTED says."""
        boxes, embedding = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, None)
        rows = np.asarray(_on_cpu(boxes), np.float32)
        if not rows.size:
            rows = rows.reshape(0, 6)
        if rows.ndim != 2 or rows.shape[1] != 6:
            raise InputError(f"--detector {self.name}: returned an array {rows.shape}; expected {EXPECTED}")
        rows = rows[np.isfinite(rows).all(1)]
        labels = rows[:, 5]
        if len(rows) and (
            (labels != labels.round()).any() or labels.min() < 0 or labels.max() >= len(self.classes)
        ):
            raise InputError(
                f"--detector {self.name}: returned a class number that is not between 0 and "
                f"{len(self.classes) - 1}; expected {EXPECTED}"
            )
        if len(rows) and (rows[:, 4].min() < 0 or rows[:, 4].max() > 1):
            raise InputError(
                f"--detector {self.name}: returned a confidence outside of 0 to 1; expected {EXPECTED}"
            )
        if embedding is None:
            return rows, None
        return rows, np.asarray(_on_cpu(embedding), np.float32).reshape(-1)


def _on_cpu(values: Any) -> Any:
    """A PyTorch tensor as an array; anything else as it is."""
    return values.detach().float().cpu().numpy() if hasattr(values, "detach") else values


def _named(name: str) -> Any:
    """The function that "package.module:function" names, also of a module in the current folder. Raises
    InputError.
    """
    module_name, mark, attribute = name.partition(":")
    if not mark or not module_name or not attribute:
        raise InputError(f"--detector {name}: expected package.module:function")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the user's module raises
        raise InputError(
            f"--detector {name}: {module_name} cannot be imported ({type(error).__name__}: {error}); "
            "run from the folder that holds it, or install it"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        raise InputError(f"--detector {name}: {module_name} has no function {attribute}")
    return function


def open_function(name: str) -> Run:
    """A run without a folder for a function; its digest is that of its module's file, of its attribute
    `version` and of the files in its attribute `weights`, so that predictions of other code or weights are
    not reused.

    Raises InputError.
    """
    function = FunctionDetector(name).function
    file = getattr(sys.modules[name.partition(":")[0]], "__file__", None)
    digest = hashlib.sha256(name.encode())
    digest.update(str(getattr(function, "version", "")).encode())
    stated = getattr(function, "weights", ())
    files = [Path(path) for path in ([stated] if isinstance(stated, (str, Path)) else stated)]
    for path in [*([Path(file)] if file else []), *files]:
        if not path.is_file():
            raise InputError(f"--detector {name}: its weights {path} are no file")
        digest.update(file_sha256(path).encode())
    return Run(
        None,
        Path(file or name),
        digest.hexdigest(),
        None,
        None,
        pd.DataFrame(),
        {},
        function=name,
    )


class OnnxDetector(BoxDetector):
    """An ONNX file that Ultralytics exported, run by ONNX Runtime.

    Parameters
    ----------
    weights
        The .onnx file.

    Raises
    ------
    InputError
        It does not name its task and classes, as exports of Ultralytics do, or is no detector.
    """

    backend = "ONNX Runtime"

    def __init__(self, weights: Path) -> None:
        from train.forward import load_export

        self.name = str(weights)
        metadata = _onnx_metadata(weights)
        if not {"names", "task", "imgsz"} <= set(metadata):
            raise InputError(
                f"{weights}: does not name its task and classes, as exports of Ultralytics do; "
                "call it in a function of your own and give that with --detector package.module:function"
            )
        self.task = str(metadata["task"])
        if self.task not in ("detect", "segment", "pose"):
            raise InputError(f"{weights}: is a '{self.task}' model; only detectors can be diagnosed")
        names: dict[int, str] = _literal(metadata["names"])
        self.classes = tuple(str(names[number]) for number in sorted(names))
        size = _literal(metadata["imgsz"])
        self.imgsz = int(max(size) if isinstance(size, (list, tuple)) else size)
        # Exported for one size, it takes no other.
        self.dynamic = (
            str(metadata.get("dynamic", _literal(metadata.get("args", "{}")).get("dynamic"))) == "True"
        )
        self.model: Any = load_export(weights, self.task)

    def detect(self, images: Sequence[Pixels], settings: Settings) -> list[tuple[Floats, Floats | None]]:
        """Ultralytics' prediction; at the size it was exported for, unless its size is dynamic."""
        results = self.model.predict(
            list(images),
            imgsz=settings.imgsz if self.dynamic else self.imgsz,
            conf=settings.conf,
            iou=settings.iou,
            max_det=settings.max_det,
            classes=list(settings.classes) or None,
            agnostic_nms=settings.agnostic_nms,
            device="cpu",
            verbose=False,
            save=False,
        )
        return [
            (result.boxes.data.detach().float().cpu().numpy().reshape(-1, 6).astype(np.float32), None)
            for result in results
        ]


def _onnx_metadata(weights: Path) -> dict[str, str]:
    """What an ONNX file says about itself. Raises InputError."""
    if not weights.is_file():
        raise InputError(f"{weights}: no such file")
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError:
        raise InputError(
            f"{weights}: needs ONNX Runtime: uv pip install 'onnxruntime>=1.20,<2', or give the .pt "
            "checkpoint"
        ) from None
    try:
        session = onnxruntime.InferenceSession(str(weights), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises types of its own
        raise InputError(f"{weights}: not a usable ONNX file ({str(error).splitlines()[0][:200]})") from None
    return dict(session.get_modelmeta().custom_metadata_map)


def _literal(text: Any) -> Any:
    """A Python literal in the metadata of an export."""
    return ast.literal_eval(str(text))
