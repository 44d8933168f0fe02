"""The one forward pass: boxes, an image embedding and an embedding per box, all from the same activations.

The only file that imports ultralytics for prediction.
"""

from __future__ import annotations

import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch
from ultralytics import YOLO  # type: ignore[attr-defined]
from ultralytics.data.augment import LetterBox
from ultralytics.utils import SAFE_LOAD, nms
from ultralytics.utils.checks import check_yolov5u_filename

from datasets.errors import EnvironmentProblem, InputError
from datasets.pixels import Pixels, UnreadableImage, decode
from datasets.rotated import extents_of
from datasets.shapes import pack_mask, pack_points
from train.passes import ImageOutput, collect, network_threads
from train.predictions import Floats, Predictions, Settings, Store
from train.quick import QuickNetwork, can_compile
from train.transforms import Transform

# A GPU idles on single images. On a CPU, `Detector` predicts one image at a time; `EpochPredictor` is faster
# by a quarter with four, measured on two cores with the small images of short trainings.
GPU_BATCH = 8
CPU_BATCH = 4
# Passes beside each other at most, and up to which network input size: each keeps its own activations, 0.3 GB
# at 640 pixels and 1 GB at 2,144, where one pass keeps all cores busy by itself.
LANES = 4
LANE_IMGSZ = 1280
# Tasks whose models give boxes; those of obb are rotated.
BOX_TASKS = ("detect", "segment", "pose", "obb")
# Why models of other tasks cannot be diagnosed.
NO_BOXES = {
    "classify": (
        "is a 'classify' model, which names what a whole image shows; there are no boxes to compare: train a "
        "detection model"
    ),
    "": "is a model of a task without boxes; train a detection model",
}
# The sides of a network's input are multiples of this many pixels.
STRIDE = 32
# Bytes of a checkpoint's pickle that name its model's class: it comes first.
PICKLE_HEAD = 1 << 16
# Messages of the restricted loader about a checkpoint that holds more than known layers and weights.
_REFUSED = ("outside the supported", "weights_only", "Unsupported", "not an allowed")


def load_checkpoint(weights: Path, instead: str) -> Any:
    """Load a checkpoint or an architecture yaml.

    Checkpoints are pickles, which can run code: unless `train.environment.trust_checkpoints` was called,
    Ultralytics rebuilds known layers only.

    Parameters
    ----------
    weights
        A .pt checkpoint or an architecture yaml.
    instead
        What the user should give, for the error message.

    Returns
    -------
    ultralytics.YOLO
        The model.

    Raises
    ------
    InputError
        The file cannot be used.
    EnvironmentProblem
        Ultralytics was imported before Shiftscope, without restricted loading.
    """
    if os.environ.get("ULTRALYTICS_SAFE_LOAD") != "0" and not SAFE_LOAD:
        raise EnvironmentProblem(
            "ultralytics was imported before shiftscope, and would load checkpoints unrestricted; "
            "import shiftscope's 'train' first, or set ULTRALYTICS_SAFE_LOAD=1"
        )
    if weights.is_dir():
        raise InputError(
            f"{weights}: is a folder; give its checkpoint, such as {weights / 'weights' / 'best.pt'}"
        )
    if weights.suffix not in {".yaml", ".yml"} and not weights.is_file():
        raise InputError(f"{weights}: no such checkpoint, and none is downloaded; {instead}")
    if _is_of_yolov5(weights):
        raise InputError(
            f"{weights}: is a checkpoint of the YOLOv5 or YOLOv7 repository, which Ultralytics' package "
            "cannot load: let its val.py write --save-json and give that with --predictions NAME=FILE, or "
            "train a model of Ultralytics' package"
        )
    try:
        model = _load(weights)
        _ = model.names
    except Exception as error:  # ultralytics raises whatever its many loaders raise
        reason = first_line(error)
        if _holds_pickle(weights) and any(words in str(error) for words in _REFUSED):
            raise InputError(
                f"{weights}: holds more than known layers and weights, and could run code; "
                f"if you made it yourself, load it with --trust-checkpoint ({reason})"
            ) from None
        raise InputError(f"{weights}: not a usable checkpoint ({reason}); {instead}") from None
    return model


def _load(weights: Path) -> Any:
    """Load with Ultralytics, which takes yolov5s.pt for its own yolov5su.pt, and strips quotes from paths:
    such a file is loaded under another name.
    """
    if weights.suffix != ".pt" or check_yolov5u_filename(str(weights), verbose=False).replace("'", "") == str(
        weights
    ):
        return YOLO(str(weights))
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "checkpoint.pt"
        link.symlink_to(weights.resolve())
        model = YOLO(str(link))
    model.overrides["model"] = str(weights)
    return model


def load_export(weights: Path, task: str) -> Any:
    """A detector in the format of other software, as `shiftscope export` writes it; an `ultralytics.YOLO`."""
    return YOLO(str(weights), task=task)


def _is_of_yolov5(weights: Path) -> bool:
    """Whether a checkpoint refers to the modules of the YOLOv5 repository, which YOLOv7 shares."""
    try:
        with zipfile.ZipFile(weights) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            return any(b"models.yolo" in archive.open(name).read(PICKLE_HEAD) for name in pickles)
    # Not a zip, or a broken one: the loader says what is wrong with it.
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error):
        return False


def _holds_pickle(weights: Path) -> bool:
    """Whether a file starts like a pickle or like a zip, which may hold one; no other file could run code."""
    with weights.open("rb") as handle:
        return handle.read(2).startswith((b"PK", b"\x80"))


def choose_device(requested: str | None) -> str:
    """The requested device, as Ultralytics names devices; None takes a GPU if there is one.

    Raises InputError for a device that this machine does not have.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if requested is None:
        return "cuda:0" if gpus else "cpu"
    numbers = requested.removeprefix("cuda:").split(",")
    is_available = (
        requested == "cpu"
        or (requested == "mps" and torch.backends.mps.is_available())
        or all(number.isdigit() and int(number) < gpus for number in numbers)
    )
    if not is_available:
        names = ["cpu", *(["mps"] if torch.backends.mps.is_available() else []), *map(str, range(gpus))]
        raise InputError(f"--device {requested}: not available; this machine has {', '.join(names)}")
    return requested


def _training_curve(model: Any) -> dict[str, list[float]]:
    """The columns of results.csv that Ultralytics keeps in a checkpoint, up to the end of its training; {}
    without any.
    """
    kept = (getattr(model, "ckpt", None) or {}).get("train_results")
    if not isinstance(kept, dict) or not all(isinstance(column, list) for column in kept.values()):
        return {}
    try:
        return {str(name): [float(value) for value in column] for name, column in kept.items()}
    except (TypeError, ValueError):
        return {}


class Detector:
    """A loaded checkpoint.

    Parameters
    ----------
    weights
        A .pt checkpoint.
    device
        As Ultralytics names devices, None for `choose_device`'s default.
    batch
        Images in one forward call, None for one on a CPU and GPU_BATCH elsewhere.

    Raises
    ------
    InputError
        The file is no detection checkpoint.
    """

    def __init__(self, weights: Path, *, device: str | None = None, batch: int | None = None) -> None:
        self.weights = weights
        self.model: Any = load_checkpoint(weights, "give the best.pt of a training run")
        names = self.model.names
        if self.model.task not in BOX_TASKS:
            raise InputError(f"{weights}: {NO_BOXES.get(self.model.task, NO_BOXES[''])}")
        self.classes = tuple(names[i] for i in sorted(names))
        self.task: str = self.model.task
        arguments: dict[str, Any] = getattr(self.model.model, "args", None) or {}
        self.imgsz = int(arguments.get("imgsz", 640)) if isinstance(arguments, dict) else 640
        self.training_curve = _training_curve(self.model)
        self.device = choose_device(device)
        self.batch = batch or (1 if self.device == "cpu" else GPU_BATCH)
        self._maps: list[torch.Tensor] = []
        self._embedding: Floats | None = None
        self._hooked = self._stretches = False
        self._passes, self._threads = 0, network_threads()
        self._quick: QuickNetwork | None = None
        self._lanes: list[Detector] = []

    @property
    def backend(self) -> str:
        """What computed the forward passes: "OpenVINO" or "PyTorch", with the reason where OpenVINO was
        tried; "stored" where none was needed.
        """
        used = [lane for lane in (*self._lanes, self) if lane._passes]
        if not used:
            return "stored"
        problem = next((lane._quick.problem for lane in used if lane._quick and lane._quick.problem), "")
        if problem:
            return f"PyTorch ({problem})"
        return "OpenVINO" if all(lane._quick for lane in used) else "PyTorch"

    def predict_pixels(self, images: Sequence[Pixels], settings: Settings) -> list[ImageOutput]:
        """Predict images of one shape in one forward call.

        Parameters
        ----------
        images
            (H, W, 3) BGR uint8 each.
        settings
            Network input size and thresholds.

        Returns
        -------
        list of tuple
            Per image: boxes (N, 6) as xyxy in pixels, confidence, class, as `ultralytics.YOLO.predict` gives
            them, (N, 11) with `datasets.rotated.ROTATED` behind them where they are rotated; the image
            embedding (D,) of `ultralytics.YOLO.embed`, the globally averaged output of the layer before the
            head; and detection embeddings (N, E), each the mean over the box (four samples) of every map that
            enters the head, concatenated; and, where the settings ask for them, shapes.

        Raises
        ------
        ValueError
            The images differ in shape, so they would be letterboxed differently than one by one.
        InputError
            The model computes values that are not finite.
        """
        if len({image.shape for image in images}) != 1:
            raise ValueError("expected images of one shape")
        if not self._hooked:
            self._prepare(settings)
        self._passes += len(images)
        results = self.model.predict(
            list(images),
            imgsz=settings.imgsz,
            conf=settings.conf,
            iou=settings.iou,
            max_det=settings.max_det,
            classes=list(settings.classes) or None,
            agnostic_nms=settings.agnostic_nms,
            device=self.device,
            batch=len(images),
            verbose=False,
            save=False,
        )
        if self._embedding is None or len(results) != len(images) or len(self._embedding) != len(images):
            raise RuntimeError(
                "the forward hooks did not run for every image; "
                "this version of ultralytics runs the head differently"
            )
        if not np.isfinite(self._embedding).all():
            # NaN is above no threshold: such a model would give no detections and no error.
            raise InputError(
                f"{self.weights}: computes values that are not finite; its training diverged or overflowed: "
                "give an earlier checkpoint"
            )
        outputs = []
        for index, result in enumerate(results):
            boxes = _boxes_of(result)
            is_finite = np.isfinite(boxes).all(1)
            boxes = boxes[is_finite].astype(np.float32)
            embeddings = self._detection_embeddings(boxes, index, images[0].shape[:2])
            shapes = _shapes_of(result, np.flatnonzero(is_finite).tolist()) if settings.shapes else None
            outputs.append(ImageOutput(boxes, self._embedding[index], embeddings, shapes))
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
        """Predict every image of a table, computing only what the store does not hold yet.

        Parameters
        ----------
        images
            Columns image and path.
        settings
            Network input size, thresholds and the name of the transform.
        store
            Where results are read and kept.
        transform
            Applied to each image before the forward call.
        tick
            Called once per image.
        embed_detections
            See `Store.read`.

        Returns
        -------
        Predictions
            Results in the order of the table; images that cannot be decoded are in its failures.
        """

        def forward(images: Sequence[Pixels]) -> list[ImageOutput]:
            return self.predict_pixels(
                [transform(pixels) for pixels in images] if transform else images, settings
            )

        def lanes() -> list[Callable[[Sequence[Pixels]], list[ImageOutput]]]:
            return [
                lambda images, lane=lane: lane.predict_pixels(  # type: ignore[misc]  # a default argument has no type
                    [transform(pixels) for pixels in images] if transform else images, settings
                )
                for lane in self._open_lanes(settings)
            ]

        try:
            return collect(
                images, store, forward, tick, batch=self.batch, embed_detections=embed_detections, lanes=lanes
            )
        finally:
            if self._lanes:
                torch.set_num_threads(self._threads)

    def _open_lanes(self, settings: Settings) -> list[Detector]:
        """Copies of this detector that predict at the same time; none where a pass takes all cores.

        On two cores, two passes of OpenVINO with a thread each and all that is done around them take 18 ms an
        image at 320 pixels, where one pass with two threads takes 28. PyTorch has one setting of threads for
        all, and passes beside each other keep each other waiting.
        """
        together = self._can_be_quick and self.batch == 1 and self._threads > 1
        if not together or settings.imgsz > LANE_IMGSZ or any(lane._failed for lane in self._lanes):
            return []
        if not self._lanes:
            self._lanes = [self._lane(settings) for _ in range(min(self._threads, LANES))]
        torch.set_num_threads(1)
        return self._lanes

    def _lane(self, settings: Settings) -> Detector:
        """A copy with its share of the threads, ready to predict."""
        lane = Detector(self.weights, device=self.device, batch=1)
        lane._threads = self._threads // min(self._threads, LANES)
        lane._prepare(settings)
        return lane

    @property
    def _can_be_quick(self) -> bool:
        """Whether OpenVINO may compute the forward passes. An RT-DETR goes on from its best queries, and
        which of two nearly equal ones is better differs with the last digit.
        """
        network = self.model.model
        return self.device == "cpu" and not is_transformer(network) and can_compile(network)

    @property
    def _failed(self) -> bool:
        """Whether OpenVINO was tried and does not do."""
        return self._quick is not None and bool(self._quick.problem)

    def _prepare(self, settings: Settings) -> None:
        """Set up the predictor without running it; hook the head's input and the layer before the head."""
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
        torch.set_num_threads(self._threads)
        layers = self.model.predictor.model.model.model
        layers[-1].register_forward_pre_hook(self._keep_maps)
        layers[-2].register_forward_hook(self._keep_embedding)
        network = self.model.predictor.model.model
        self._stretches = is_transformer(network)
        if self._can_be_quick:
            self._quick = QuickNetwork(network, self._set_embedding, self._threads)
        self._hooked = True

    def _keep_maps(self, module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        """Forward hook: keep the feature maps that enter the head, into which YOLOE gives its names'
        embeddings too.
        """
        self._maps = [level.detach() for level in inputs[0] if level.ndim == 4]

    def _keep_embedding(self, module: torch.nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """Forward hook: keep the image embeddings."""
        self._set_embedding(output.detach().float().mean((2, 3)))

    def _set_embedding(self, embedding: torch.Tensor) -> None:
        """Keep the image embeddings (N, D)."""
        self._embedding = embedding.cpu().numpy()

    def _detection_embeddings(self, boxes: Floats, index: int, shape: tuple[int, ...]) -> Floats:
        """RoI means of every head input, (N, sum of channels)."""
        finest = self._maps[0]
        stride = float(self.model.predictor.model.model.stride[0])
        rows, columns = finest.shape[2] * stride, finest.shape[3] * stride
        gains = np.array([columns / shape[1], rows / shape[0]], np.float32)
        # Letterboxing keeps the proportions and centres the image, as ultralytics' LetterBox; RT-DETR's
        # predictor stretches the image to the whole input.
        gain = gains if self._stretches else np.full(2, gains.min())
        shift = (np.array([columns, rows], np.float32) - gain * np.array(shape[1::-1], np.float32)) / 2
        corners = torch.from_numpy(boxes[:, :4] * np.tile(gain, 2) + np.tile(shift, 2)).to(finest)
        # Four samples a box, at a quarter and three quarters of each side: RoIAlign with one bin and sampling
        # ratio 2. It is written out because importing torchvision takes as long as a hundred images.
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


class _Placement(NamedTuple):
    """Where an image lies in the network's input.

    left, top: border in input pixels
    across, down: pixels of the image per input pixel
    width, height: of the image, in its own pixels
    """

    left: float
    top: float
    across: float
    down: float
    width: int
    height: int


class EpochPredictor:
    """Images prepared once and predicted repeatedly, by a network as it is after each epoch of its training.

    They are prepared as Ultralytics' validation prepares its images (the longer side to imgsz, then a grey
    border to half a stride more, in whole strides), so that embeddings of both can be compared.

    Parameters
    ----------
    paths
        Images; those that cannot be decoded are left out, see the attribute decoded (indices into paths).
    imgsz
        Network input size in pixels.
    stretched
        Images are stretched to a square, as RT-DETR's are.
    """

    def __init__(self, paths: Sequence[str], imgsz: int, *, stretched: bool = False) -> None:
        self.decoded: list[int] = []
        self._placements: list[_Placement] = []
        # By the shape of the input: index into decoded, and input (3, H, W).
        self._inputs: dict[tuple[int, int], list[tuple[int, Pixels]]] = {}
        for index, path in enumerate(paths):
            try:
                pixels = decode(Path(path))
            except (UnreadableImage, OSError):
                continue
            if stretched:
                self._stretch(pixels, imgsz)
            else:
                self._add(pixels, imgsz)
            self.decoded.append(index)

    def _add(self, pixels: Pixels, imgsz: int) -> None:
        """Prepare one image."""
        size = pixels.shape[1], pixels.shape[0]
        gain = imgsz / max(size)
        height, width = (min(math.ceil(side * gain), imgsz) for side in pixels.shape[:2])
        if gain != 1:
            pixels = np.asarray(cv2.resize(pixels, (width, height)), np.uint8)
        columns, rows = (math.ceil(side / max(size) * imgsz / STRIDE + 0.5) * STRIDE for side in size)
        letterboxed: Any = LetterBox((rows, columns), scaleup=False)(image=pixels)
        self._inputs.setdefault((rows, columns), []).append(
            (len(self.decoded), np.ascontiguousarray(letterboxed[..., ::-1].transpose(2, 0, 1)))
        )
        # LetterBox rounds half the border this way.
        left, top = round((columns - width) / 2 - 0.1), round((rows - height) / 2 - 0.1)
        self._placements.append(_Placement(left, top, 1 / gain, 1 / gain, *size))

    def _stretch(self, pixels: Pixels, imgsz: int) -> None:
        """Prepare one image without keeping its proportions."""
        height, width = pixels.shape[:2]
        square = cv2.resize(pixels, (imgsz, imgsz))
        self._inputs.setdefault((imgsz, imgsz), []).append(
            (len(self.decoded), np.ascontiguousarray(square[..., ::-1].transpose(2, 0, 1)))
        )
        self._placements.append(_Placement(0, 0, width / imgsz, height / imgsz, width, height))

    def predict(
        self, network: Any, settings: Settings, *, half: bool = False, agnostic: bool = False
    ) -> tuple[list[Floats], Floats]:
        """Predict every decoded image.

        Parameters
        ----------
        network
            A detection model in evaluation mode; its weights, hooks and mode are unchanged afterwards.
        settings
            Thresholds.
        half
            Compute in half precision on a GPU, as validation does if the training does.
        agnostic
            Suppress overlapping boxes of different classes too.

        Returns
        -------
        tuple
            Boxes of each image, (N, 6) xyxy in its pixels, confidence, class; a box may have several classes,
            as in validation. And the image embeddings (n, D), see `Detector.predict_pixels`.
        """
        pooled: list[Floats] = []
        hook = network.model[-2].register_forward_hook(
            lambda module, inputs, output: pooled.append(output.float().mean((2, 3)).cpu().numpy())
        )
        device = next(network.parameters()).device
        boxes: dict[int, Floats] = {}
        embeddings: dict[int, Floats] = {}
        try:
            with torch.inference_mode(), torch.autocast(device.type, enabled=half and device.type == "cuda"):
                for part in self._batches(CPU_BATCH if device.type == "cpu" else GPU_BATCH):
                    tensor = torch.from_numpy(np.stack([pixels for _, pixels in part])).to(device)
                    detections = _suppressed(network, network(tensor.float() / 255), settings, agnostic)
                    for (index, _), rows, embedding in zip(part, detections, pooled.pop(), strict=True):
                        boxes[index], embeddings[index] = self._in_pixels(rows, index), embedding
        finally:
            hook.remove()
        order = range(len(self.decoded))
        return [boxes[i] for i in order], np.stack([embeddings[i] for i in order])

    def _batches(self, size: int) -> Iterator[list[tuple[int, Pixels]]]:
        """Inputs of one shape, at most size at a time."""
        for inputs in self._inputs.values():
            for start in range(0, len(inputs), size):
                yield inputs[start : start + size]

    def _in_pixels(self, rows: torch.Tensor, index: int) -> Floats:
        """Rows of non-maximum suppression as boxes (N, 6) in the pixels of an image."""
        left, top, across, down, width, height = self._placements[index]
        boxes: Floats = rows[:, :6].float().cpu().numpy()
        corners = (boxes[:, :4] - (left, top, left, top)) * (across, down, across, down)
        boxes[:, :4] = np.clip(corners, 0, (width, height, width, height))
        return boxes


def _boxes_of(result: Any) -> Floats:
    """Boxes of one image's result: (N, 6) xyxy, confidence, class; (N, 11) with the rotated boxes behind
    them.
    """
    if result.obb is None:
        return np.asarray(result.boxes.data.detach().float().cpu().numpy().reshape(-1, 6), np.float32)
    # xywh and angle, confidence, class.
    rows = result.obb.data.detach().double().cpu().numpy().reshape(-1, 7)
    turned = rows[:, :5]
    return np.column_stack([extents_of(turned), rows[:, 5:], turned]).astype(np.float32)


def _shapes_of(result: Any, rows: Sequence[int]) -> tuple[bytes, ...]:
    """Masks, in pixels of the scaled image without the letterbox around it, or key points of some rows of a
    result.
    """
    if result.masks is None:
        if result.keypoints is None:
            return (b"",) * len(rows)
        points = result.keypoints.data.detach().float().cpu().numpy()
        return tuple(pack_points(points[row]) for row in rows)
    masks = result.masks.data.detach().cpu().numpy() > 0.5
    height, width = result.orig_shape
    gain = min(masks.shape[1] / height, masks.shape[2] / width)
    inner = round(height * gain), round(width * gain)
    # As Ultralytics' LetterBox rounds.
    top, left = (
        max(0, round((outer - inside) / 2 - 0.1))
        for outer, inside in zip(masks.shape[1:], inner, strict=True)
    )
    return tuple(pack_mask(masks[row, top : top + inner[0], left : left + inner[1]]) for row in rows)


def is_transformer(network: Any) -> bool:
    """Whether a network is an RT-DETR, which takes images stretched to a square and gives boxes in fractions
    of it.
    """
    return type(network.model[-1]).__name__ == "RTDETRDecoder"


def _suppressed(network: Any, output: Any, settings: Settings, agnostic: bool) -> list[torch.Tensor]:
    """Rows (N, 6) of each image, xyxy in input pixels, confidence, class, of a network's output, as
    validation does.
    """
    if not is_transformer(network):
        kept: list[torch.Tensor] = nms.non_max_suppression(
            output,
            settings.conf,
            settings.iou,
            agnostic=agnostic,
            multi_label=True,
            max_det=settings.max_det,
            end2end=getattr(network, "end2end", False),
        )
        return kept
    rows = (output[0] if isinstance(output, list | tuple) else output).clone()
    centre, half = rows[..., :2].clone(), rows[..., 2:4] / 2
    rows[..., :4] = torch.cat([centre - half, centre + half], -1) * settings.imgsz
    return [image[image[:, 4] > settings.conf][: settings.max_det] for image in rows]


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the error's type if the message is empty."""
    text = str(error).strip().removeprefix("ERROR ❌️ ")
    return text.splitlines()[0][:300] if text else type(error).__name__
