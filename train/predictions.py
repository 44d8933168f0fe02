"""What one forward pass says about images, and where it is kept so that nobody has to ask twice.

Parquet in shards, keyed by the weights, the settings and each image's content. A shard is a folder that appears whole (written
beside, then renamed), so a killed run leaves only whole shards behind and the next one continues after them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datasets.tables import CORNERS
from train.environment import runs_folder

if TYPE_CHECKING:
    pass
if TYPE_CHECKING:
    pass

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """How an image was shown to the detector. transform names a change made to the pixels first ("none", or a photometric match).

    conf: lowest confidence kept. iou: of the non-maximum suppression. max_det: boxes kept an image.
    """

    imgsz: int
    conf: float = 0.001
    iou: float = 0.7
    max_det: int = 300
    transform: str = "none"

    def key(self, weights_sha256: str) -> str:
        """Folder name of everything predicted with these weights and settings."""
        text = json.dumps([weights_sha256, FORMAT, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


# Raised whenever what is stored changes, so that older shards are not read.
FORMAT = 3


@dataclass(frozen=True)
class ImagePrediction:
    """One image's result. statistics, descriptor: see `datasets.pixels`. embedding: (D,). boxes: (N, 6) xyxy pixels, confidence, class.

    detection_embeddings: (N, E), one row a box.
    """

    content: str
    statistics: dict[str, float]
    descriptor: Floats
    fingerprint: bytes
    embedding: Floats
    boxes: Floats
    detection_embeddings: Floats


@dataclass(frozen=True)
class Predictions:
    """A domain's results, aligned with its images.

    images: one row an image (image, statistics, descriptor as an array, fingerprint). embeddings: (n, D) float32 in the same order.
    detections: image, label, x1, y1, x2, y2, confidence. objects: (m, E) float32, aligned with detections.
    failures: path, reason of images that could not be decoded; they are in no other table.
    """

    images: pd.DataFrame
    image_embeddings: Floats
    detections: pd.DataFrame
    detection_embeddings: Floats
    failures: pd.DataFrame


class Store:
    """Shards of passes made with one checkpoint and one set of settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, Path] = {}
        for shard in sorted(self.folder.glob("shard-*")):
            if shard.suffix != ".partial":
                with pq.ParquetFile(shard / "images.parquet") as file:
                    contents = file.read(columns=["content"])["content"].to_pylist()
                self._known.update(dict.fromkeys(contents, shard))

    def __contains__(self, content: str) -> bool:
        return content in self._known

    def add(self, predictions: Sequence[ImagePrediction]) -> None:
        """Append a shard. Two processes may store the same images; each writes beside, and the first to rename wins."""
        name = hashlib.sha256("".join(p.content for p in predictions).encode()).hexdigest()[:12]
        shard = self.folder / f"shard-{name}"
        if not shard.exists():
            draft = self.folder / f"shard-{name}-{os.getpid()}.partial"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            pq.write_table(_images_table(predictions), draft / "images.parquet")
            pq.write_table(_detections_table(predictions), draft / "detections.parquet")
            try:
                draft.rename(shard)
            except OSError:
                if not shard.exists():
                    raise
                shutil.rmtree(draft, ignore_errors=True)
        self._known.update({p.content: shard for p in predictions})

    def read(self, contents: dict[str, str], *, embed_detections: bool = True) -> Predictions:
        """Results of the images image -> content, in that order. Two images of equal content share one pass.

        embed_detections: read the embeddings of boxes too, which are most of what is stored; without them they have no columns.

        A content that stands in two shards (two runs raced) is read from one of them, boxes included.
        """
        # By shard, once: to ask of every content for every shard whether it lies there would grow with the square of the pool.
        wanted: dict[Path, dict[str, None]] = {}
        for content in contents.values():
            wanted.setdefault(self._known[content], {})[content] = None
        number: dict[str, int] = {}
        images: list[pa.Table] = []
        detections: list[pa.Table] = []
        # The number of the image that each row is about: as text it would take more memory than the boxes.
        of_images, of_boxes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for shard in sorted(wanted):
            mine = pa.array(list(wanted[shard]), pa.string())
            for name, tables, owners in (
                ("images", images, of_images),
                ("detections", detections, of_boxes),
            ):
                table = load(shard / f"{name}.parquet", embedding=embed_detections or name == "images")
                place = pc.index_in(table["content"], value_set=mine)
                owners.append(place.drop_null().to_numpy().astype(np.int64) + len(number))
                tables.append(table.drop_columns(["content"]).filter(place.is_valid()))
            number.update({content: len(number) + at for at, content in enumerate(wanted[shard])})
        outputs = pa.concat_tables(images) if images else _images_table([]).drop_columns(["content"])
        boxes = pa.concat_tables(detections) if detections else _detections_table([])
        asked = np.array([number[content] for content in contents.values()], np.int64)
        chosen = outputs.take(np.argsort(np.concatenate(of_images))[asked])
        names = pd.Series(list(contents), dtype="str")
        table = chosen.drop_columns(["embedding"]).to_pandas()
        table.insert(0, "image", names)
        owner, rows = spread(np.concatenate(of_boxes), asked)
        found = {"image": names.take(owner).array}
        found |= {name: boxes[name].to_numpy()[rows] for name in ("label", *CORNERS, "confidence")}
        return Predictions(
            images=table,
            image_embeddings=matrix(chosen["embedding"]),
            detections=pd.DataFrame(found),
            detection_embeddings=matrix(boxes["embedding"])[rows]
            if "embedding" in boxes.column_names
            else np.zeros((len(rows), 0), np.float32),
            failures=pd.DataFrame(columns=["path", "reason"]),
        )


def load(path: Path, *, embedding: bool) -> pa.Table:
    """A table of a shard, with or without its column of embeddings."""
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        return file.read(columns=[name for name in names if embedding or name != "embedding"])


def spread(
    numbers: npt.NDArray[np.int64], asked: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each of asked (n,), in that order, the rows whose number it is, in their order: position in asked, and row, (m,) and (m,)."""
    by_number = np.argsort(numbers, kind="stable")
    counts = np.bincount(numbers, minlength=int(asked.max(initial=-1)) + 1)
    starts = (np.cumsum(counts) - counts)[asked]
    sizes = counts[asked]
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(np.arange(len(asked)), sizes), by_number[np.repeat(starts, sizes) + within]


def matrix(column: pa.ChunkedArray) -> Floats:
    """A column of fixed-size lists -> (n, width) float32."""
    width = column.type.list_size
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(-1, width)


def _vectors(rows: Sequence[Floats], width: int, kind: pa.DataType) -> pa.Array:
    """Stacked vectors as a fixed-size list array."""
    numbers = np.concatenate(rows).ravel() if rows else np.zeros(0, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.astype(kind.to_pandas_dtype()), kind), width)


def _images_table(predictions: Sequence[ImagePrediction]) -> pa.Table:
    """One row an image."""
    width = len(predictions[0].embedding) if predictions else 1
    columns: dict[str, object] = {"content": pa.array([p.content for p in predictions], pa.string())}
    for name in predictions[0].statistics if predictions else ():
        columns[name] = [p.statistics[name] for p in predictions]
    columns["descriptor"] = _vectors([p.descriptor for p in predictions], 84, pa.float32())
    columns["fingerprint"] = pa.array([p.fingerprint for p in predictions], pa.binary())
    columns["embedding"] = _vectors([p.embedding for p in predictions], width, pa.float32())
    return pa.table(columns)


def _detections_table(predictions: Sequence[ImagePrediction]) -> pa.Table:
    """One row a box; object embeddings in half precision, whose rounding is far below what any distance here resolves."""
    width = predictions[0].detection_embeddings.shape[1] if predictions else 1
    boxes = np.concatenate([p.boxes for p in predictions]) if predictions else np.zeros((0, 6), np.float32)
    columns: dict[str, object] = {
        "content": pa.array([p.content for p in predictions for _ in range(len(p.boxes))], pa.string())
    }
    columns["label"] = boxes[:, 5].astype(np.int64)
    columns.update({name: boxes[:, i].astype(np.float64) for i, name in enumerate([*CORNERS, "confidence"])})
    columns["embedding"] = _vectors([p.detection_embeddings for p in predictions], width, pa.float16())
    return pa.table(columns)


def predict_folder(settings: Settings, weights_sha256: str) -> Path:
    """Where results with these weights and settings are kept."""
    return runs_folder() / "predictions" / settings.key(weights_sha256)
