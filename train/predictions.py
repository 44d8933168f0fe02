"""Results of forward passes, and the store that keeps them so that no image is predicted twice.

The store is Parquet in shards, keyed by the weights, the settings and each image's content. A shard is a
folder that is written as a draft and then renamed, so a killed run leaves only complete shards, and the next
run continues after them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from datasets.files import SUFFIX
from datasets.rotated import ROTATED
from datasets.shapes import SHAPE
from datasets.tables import CORNERS, SparseRows
from train.environment import runs_folder

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """How images are predicted.

    imgsz: network input size in pixels
    conf: lowest confidence of a detection
    iou: threshold of the non-maximum suppression
    max_det: most detections per image
    transform: name of the change applied to the pixels first, "none" for none
    classes: class numbers that are detected, () for all
    agnostic_nms: whether boxes of different classes suppress each other
    shapes: keep masks and key points beside boxes
    """

    imgsz: int
    conf: float = 0.001
    iou: float = 0.7
    max_det: int = 300
    transform: str = "none"
    classes: tuple[int, ...] = ()
    agnostic_nms: bool = False
    shapes: bool = False

    def record(self) -> dict[str, Any]:
        """The settings as JSON values, without those that change nothing: what was stored before they were
        settings stays valid.
        """
        unset = {name for name in ("classes", "agnostic_nms", "shapes") if not getattr(self, name)}
        values = {name: value for name, value in asdict(self).items() if name not in unset}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def key(self, weights_sha256: str) -> str:
        """Name of the folder for everything predicted with these weights and settings."""
        text = json.dumps([weights_sha256, FORMAT, self.record()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# Lowest confidence of a detection whose embedding is kept: nothing compares the embeddings of less sure ones,
# which are most of what a detector gives (`diagnostics.label_free` looks at detections from 0.03 on, all
# others at more).
EMBEDDED = 0.01
# Increased whenever the content of a shard changes, so that older shards are not read. Embeddings of detections
# were lists of numbers once: such shards are still read, and an earlier version cannot read today's.
FORMAT = 3
# Half precision, whose rounding is below what any distance resolves; its bytes as they are stored.
HALF = np.dtype("<f2")


@dataclass(frozen=True)
class ImagePrediction:
    """The result for one image.

    content: digest of the file
    statistics, descriptor: see `datasets.pixels`
    fingerprint: difference hash of the image
    embedding: of the image, (D,)
    boxes: (N, 6) xyxy in pixels, confidence, class; (N, 11) with ROTATED behind them where they are rotated
    detection_embeddings: (N, E), one row per box
    shapes: one a box, see `datasets.shapes.unpack`; None where they are not kept
    """

    content: str
    statistics: dict[str, float]
    descriptor: Floats
    fingerprint: bytes
    embedding: Floats
    boxes: Floats
    detection_embeddings: Floats
    shapes: tuple[bytes, ...] | None = None


@dataclass(frozen=True)
class Predictions:
    """A domain's results, aligned with its images.

    images: one row per image (image, statistics, descriptor as an array, fingerprint)
    image_embeddings: (n, D) float32, aligned with images
    detections: image, label, x1, y1, x2, y2, confidence; ROTATED where they are rotated, SHAPE where shapes
        are kept
    detection_embeddings: (m, E), aligned with detections; those below EMBEDDED are not kept
    failures: path and reason of images that could not be decoded; they are in no other table
    """

    images: pd.DataFrame
    image_embeddings: Floats
    detections: pd.DataFrame
    detection_embeddings: Floats | SparseRows
    failures: pd.DataFrame


class Store:
    """Shards of predictions made with one checkpoint and one set of settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._shard_of: dict[str, Path] = {}
        for shard in sorted(self.folder.glob("shard-*")):
            if shard.suffix != SUFFIX:
                with pq.ParquetFile(shard / "images.parquet") as file:
                    contents = file.read(columns=["content"])["content"].to_pylist()
                self._shard_of.update(dict.fromkeys(contents, shard))

    def __contains__(self, content: str) -> bool:
        return content in self._shard_of

    def contents(self) -> frozenset[str]:
        """Digests of all images whose predictions are stored."""
        return frozenset(self._shard_of)

    def add(self, predictions: Sequence[ImagePrediction]) -> None:
        """Append a shard. Of two processes that store the same images, the first keeps its shard."""
        name = hashlib.sha256("".join(p.content for p in predictions).encode()).hexdigest()[:12]
        shard = self.folder / f"shard-{name}"
        if not shard.exists():
            # Each process has a draft of its own, unlike those of `datasets.files`.
            draft = self.folder / f"shard-{name}-{os.getpid()}{SUFFIX}"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            # Digests and labels repeat, numbers hardly ever.
            pq.write_table(_images_table(predictions), draft / "images.parquet", use_dictionary=False)
            pq.write_table(
                _detections_table(predictions),
                draft / "detections.parquet",
                use_dictionary=["content", "label"],
            )
            try:
                draft.rename(shard)
            except OSError:
                if not shard.exists():
                    raise
                shutil.rmtree(draft, ignore_errors=True)
        self._shard_of.update({p.content: shard for p in predictions})

    def read(self, contents: dict[str, str], *, embed_detections: bool = True) -> Predictions:
        """Read the results of images.

        A content that is in two shards, because two runs raced, is read from one of them, boxes included.

        Parameters
        ----------
        contents
            Image to digest of its file; all are in the store. Images of equal content share one prediction.
        embed_detections
            Whether to read the detection embeddings, which are most of what is stored; without them they have
            no columns.

        Returns
        -------
        Predictions
            Results in the order of contents.
        """
        # Grouped by shard once: to test every content against every shard takes quadratic time.
        by_shard: dict[Path, dict[str, None]] = {}
        for content in contents.values():
            by_shard.setdefault(self._shard_of[content], {})[content] = None
        numbers: dict[str, int] = {}
        image_tables: list[pa.Table] = []
        detection_tables: list[pa.Table] = []
        # Kept rows of the embeddings, and of each box the row there.
        embeddings: list[tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]] = []
        # The number of each row's image: as text it would take more memory than the boxes.
        image_numbers, box_numbers = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for shard in sorted(by_shard):
            place = {content: at for at, content in enumerate(by_shard[shard])}
            for name, tables, owners in (
                ("images", image_tables, image_numbers),
                ("detections", detection_tables, box_numbers),
            ):
                table = _read_shard(shard / f"{name}.parquet", embedding=embed_detections or name == "images")
                at = _places(table["content"], place)
                table = table.drop_columns(["content"])
                if (at < 0).any():
                    table = table.filter(pa.array(at >= 0))
                owners.append(at[at >= 0] + len(numbers))
                if name == "detections" and embed_detections:
                    embeddings.append(_kept_embeddings(table))
                    table = table.drop_columns(["embedding"])
                tables.append(table)
            numbers.update({content: len(numbers) + at for content, at in place.items()})
        images = (
            pa.concat_tables(image_tables) if image_tables else _images_table([]).drop_columns(["content"])
        )
        boxes = pa.concat_tables(detection_tables) if detection_tables else _detections_table([])
        requested = np.array([numbers[content] for content in contents.values()], np.int64)
        images = images.take(np.argsort(np.concatenate(image_numbers))[requested])
        names = pd.Series(list(contents), dtype="str")
        table = images.drop_columns(["embedding"]).to_pandas()
        table.insert(0, "image", names)
        positions, rows = _rows_of(requested, np.concatenate(box_numbers))
        columns = {"image": names.take(positions).array}
        columns |= {
            name: boxes[name].to_numpy()[rows]
            for name in ("label", *CORNERS, "confidence", *ROTATED)
            if name in boxes.column_names
        }
        if SHAPE in boxes.column_names:
            columns[SHAPE] = boxes[SHAPE].to_numpy()[rows]
        return Predictions(
            images=table,
            image_embeddings=_as_matrix(images["embedding"]),
            detections=pd.DataFrame(columns),
            detection_embeddings=_sparse(embeddings, rows)
            if embed_detections
            else np.zeros((len(rows), 0), np.float32),
            failures=pd.DataFrame(columns=["path", "reason"]),
        )


def _read_shard(path: Path, *, embedding: bool) -> pa.Table:
    """A table of a shard, with or without its column of embeddings; the digests are numbered."""
    with pq.ParquetFile(path, read_dictionary=["content"]) as file:
        names = file.schema_arrow.names
        return file.read(columns=[name for name in names if embedding or name != "embedding"])


def _places(column: pa.ChunkedArray, place: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """The place of each digest, (n,), -1 for one that has none. column: numbered digests."""
    parts = [np.zeros(0, np.int64)]
    for chunk in column.chunks:
        known = np.array([place.get(content, -1) for content in chunk.dictionary.to_pylist()], np.int64)
        parts.append(known[chunk.indices.to_numpy()])
    return np.concatenate(parts)


def _rows_of(
    requested: npt.NDArray[np.int64], numbers: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of each requested image (n,), given each row's image: position in requested (m,) and row (m,)."""
    by_number = np.argsort(numbers, kind="stable")
    counts = np.bincount(numbers, minlength=int(requested.max(initial=-1)) + 1)
    starts = (np.cumsum(counts) - counts)[requested]
    sizes = counts[requested]
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(np.arange(len(requested)), sizes), by_number[np.repeat(starts, sizes) + within]


def _kept_embeddings(table: pa.Table) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]:
    """The embeddings of a shard's boxes that are kept, and which boxes these are.

    Earlier shards hold those of all boxes, or hold them as lists of numbers.
    """
    column, confidence = table["embedding"].combine_chunks(), table["confidence"].to_numpy()
    is_kept = column.is_valid().to_numpy(zero_copy_only=False) & (confidence >= EMBEDDED)
    if pa.types.is_fixed_size_binary(column.type):
        width = column.type.byte_width // HALF.itemsize
        begin = column.offset * width
        flat = np.frombuffer(column.buffers()[1], HALF)[begin : begin + len(column) * width]
        return flat.reshape(-1, width)[is_kept], is_kept
    flat = column.filter(pa.array(is_kept)).flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float16, copy=False).reshape(-1, column.type.list_size), is_kept


def _sparse(
    parts: Sequence[tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_]]], rows: npt.NDArray[np.int64]
) -> SparseRows:
    """The embeddings of all shards, for boxes in the order of rows."""
    is_kept = np.concatenate([mask for _, mask in parts]) if parts else np.zeros(0, bool)
    place = np.where(is_kept, np.cumsum(is_kept) - 1, -1)
    width = parts[0][0].shape[1] if parts else 1
    values = np.empty((int(is_kept.sum()), width), np.float16)
    begin = 0
    for part, _ in parts:
        values[begin : begin + len(part)] = part
        begin += len(part)
    return SparseRows(values, place[rows])


def _as_matrix(column: pa.ChunkedArray) -> Floats:
    """A column of fixed-size lists -> (n, width) float32."""
    width = column.type.list_size
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(-1, width)


def _vectors(rows: Sequence[Floats], width: int) -> pa.Array:
    """Stacked vectors as an array of lists of single-precision numbers."""
    numbers = np.concatenate(rows).ravel() if rows else np.zeros(0, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.astype(np.float32)), width)


def _packed_vectors(rows: Floats, is_kept: npt.NDArray[np.bool_]) -> pa.Array:
    """Vectors (n, width) in half precision.

    Each is one value of 2 x width bytes, which Parquet writes and reads ten times faster than as many
    numbers.
    is_kept: rows that have a vector, (n,).
    """
    packed = np.where(is_kept[:, None], rows, 0).astype(HALF)
    kind = pa.binary(packed.dtype.itemsize * packed.shape[1])
    buffers = [pa.array(is_kept).buffers()[1], pa.py_buffer(packed)]
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(packed), buffers)


def _images_table(predictions: Sequence[ImagePrediction]) -> pa.Table:
    """One row per image."""
    width = len(predictions[0].embedding) if predictions else 1
    columns: dict[str, object] = {"content": pa.array([p.content for p in predictions], pa.string())}
    for name in predictions[0].statistics if predictions else ():
        columns[name] = [p.statistics[name] for p in predictions]
    columns["descriptor"] = _vectors([p.descriptor for p in predictions], 84)
    columns["fingerprint"] = pa.array([p.fingerprint for p in predictions], pa.binary())
    columns["embedding"] = _vectors([p.embedding for p in predictions], width)
    return pa.table(columns)


def _detections_table(predictions: Sequence[ImagePrediction]) -> pa.Table:
    """One row per box; embeddings from EMBEDDED on."""
    width = predictions[0].detection_embeddings.shape[1] if predictions else 1
    boxes = np.concatenate([p.boxes for p in predictions]) if predictions else np.zeros((0, 6), np.float32)
    columns: dict[str, object] = {
        "content": pa.array([p.content for p in predictions for _ in range(len(p.boxes))], pa.string())
    }
    columns["label"] = boxes[:, 5].astype(np.int64)
    columns.update({name: boxes[:, i].astype(np.float64) for i, name in enumerate([*CORNERS, "confidence"])})
    columns.update(
        {name: boxes[:, 6 + i].astype(np.float64) for i, name in enumerate(ROTATED[: boxes.shape[1] - 6])}
    )
    if predictions and predictions[0].shapes is not None:
        packed = [shape for p in predictions for shape in p.shapes or ()]
        columns[SHAPE] = pa.array(packed, pa.binary())
    vectors = [np.zeros((0, width), np.float32), *(p.detection_embeddings for p in predictions)]
    columns["embedding"] = _packed_vectors(np.concatenate(vectors), boxes[:, 4] >= EMBEDDED)
    return pa.table(columns)


def predict_folder(settings: Settings, weights_sha256: str) -> Path:
    """The folder of the store for these weights and settings."""
    return runs_folder() / "predictions" / settings.key(weights_sha256)
