"""What one forward pass says about pictures, and where it is kept so that nobody has to ask twice.

Parquet in shards, keyed by the weights, the settings and each picture's content. A shard is a folder that appears whole (written
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

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datasets.tables import CORNERS

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Settings:
    """How a picture was shown to the detector. transform names a change made to the pixels first ("none", or a photometric match).

    conf: lowest confidence kept. iou: of the non-maximum suppression. max_det: boxes kept a picture.
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
FORMAT = 2


@dataclass(frozen=True)
class Pass:
    """One picture's result. statistics, descriptor: see `datasets.pixels`. embedding: (D,). boxes: (N, 6) xyxy pixels, confidence, class.

    objects: (N, E), one row a box.
    """

    content: str
    statistics: dict[str, float]
    descriptor: Floats
    fingerprint: bytes
    embedding: Floats
    boxes: Floats
    objects: Floats


@dataclass(frozen=True)
class Predictions:
    """A domain's results, aligned with its pictures.

    pictures: one row a picture (image, statistics, descriptor as an array, fingerprint). embeddings: (n, D) float32 in the same order.
    detections: image, label, x1, y1, x2, y2, confidence. objects: (m, E) float32, aligned with detections.
    failures: path, reason of pictures that could not be decoded; they are in no other table.
    """

    pictures: pd.DataFrame
    embeddings: Floats
    detections: pd.DataFrame
    objects: Floats
    failures: pd.DataFrame


class Store:
    """Shards of passes made with one checkpoint and one set of settings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, Path] = {}
        for shard in sorted(self.folder.glob("shard-*")):
            if shard.suffix != ".partial":
                for content in pq.read_table(shard / "pictures.parquet", columns=["content"])[
                    "content"
                ].to_pylist():
                    self._known[content] = shard

    def __contains__(self, content: str) -> bool:
        return content in self._known

    def add(self, passes: Sequence[Pass]) -> None:
        """Append a shard. Two processes may store the same pictures; each writes beside, and the first to rename wins."""
        name = hashlib.sha256("".join(p.content for p in passes).encode()).hexdigest()[:12]
        shard = self.folder / f"shard-{name}"
        if not shard.exists():
            draft = self.folder / f"shard-{name}-{os.getpid()}.partial"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            pq.write_table(pictures_table(passes), draft / "pictures.parquet")
            pq.write_table(detections_table(passes), draft / "detections.parquet")
            try:
                draft.rename(shard)
            except OSError:
                if not shard.exists():
                    raise
                shutil.rmtree(draft, ignore_errors=True)
        self._known.update({p.content: shard for p in passes})

    def read(self, contents: dict[str, str], *, objects: bool = True) -> Predictions:
        """Results of the pictures image -> content, in that order. Two images of equal content share one pass.

        objects: read the embeddings of boxes too, which are most of what is stored; without them they have no columns.

        A content that stands in two shards (two runs raced) is read from one of them, boxes included.
        """
        order = pd.DataFrame({"image": list(contents), "content": list(contents.values())}, dtype="str")
        shards = sorted({self._known[content] for content in order["content"]})
        pictures: list[pa.Table] = []
        detections: list[pa.Table] = []
        for shard in shards:
            mine = pa.array([content for content, home in self._known.items() if home == shard])
            for tables, name in ((pictures, "pictures"), (detections, "detections")):
                path = shard / f"{name}.parquet"
                columns = [
                    c
                    for c in pq.read_schema(path).names
                    if objects or (name, c) != ("detections", "embedding")
                ]
                table = pq.read_table(path, columns=columns)
                tables.append(table.filter(pc.is_in(table["content"], mine)))
        seen = pa.concat_tables(pictures) if pictures else pictures_table([])
        boxes = pa.concat_tables(detections) if detections else detections_table([])
        of_boxes = (
            matrix(boxes["embedding"])
            if "embedding" in boxes.column_names
            else np.zeros((len(boxes), 0), np.float32)
        )
        row_of = pd.Series(np.arange(seen.num_rows), index=seen["content"].to_pylist(), dtype="int64")
        chosen = seen.take(row_of.reindex(order["content"]).to_numpy(dtype=np.int64))
        table = chosen.drop_columns(["embedding", "content"]).to_pandas()
        table.insert(0, "image", order["image"])
        flat = (
            boxes.select(["content", "label", *CORNERS, "confidence"]).to_pandas().astype({"content": "str"})
        )
        flat["row"] = np.arange(len(flat))
        joined = order.merge(flat, on="content", how="inner")
        return Predictions(
            pictures=table,
            embeddings=matrix(chosen["embedding"]),
            detections=joined[["image", "label", *CORNERS, "confidence"]].reset_index(drop=True),
            objects=of_boxes[joined["row"].to_numpy(dtype=np.int64)],
            failures=pd.DataFrame(columns=["path", "reason"]),
        )


def matrix(column: pa.ChunkedArray) -> Floats:
    """A column of fixed-size lists -> (n, width) float32."""
    width = column.type.list_size
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(-1, width)


def vectors(rows: Sequence[Floats], width: int, kind: pa.DataType) -> pa.Array:
    """Stacked vectors as a fixed-size list array."""
    numbers = np.concatenate(rows).ravel() if rows else np.zeros(0, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.astype(kind.to_pandas_dtype()), kind), width)


def pictures_table(passes: Sequence[Pass]) -> pa.Table:
    """One row a picture."""
    width = len(passes[0].embedding) if passes else 1
    columns: dict[str, object] = {"content": pa.array([p.content for p in passes], pa.string())}
    for name in passes[0].statistics if passes else ():
        columns[name] = [p.statistics[name] for p in passes]
    columns["descriptor"] = vectors([p.descriptor for p in passes], 84, pa.float32())
    columns["fingerprint"] = pa.array([p.fingerprint for p in passes], pa.binary())
    columns["embedding"] = vectors([p.embedding for p in passes], width, pa.float32())
    return pa.table(columns)


def detections_table(passes: Sequence[Pass]) -> pa.Table:
    """One row a box; object embeddings in half precision, whose rounding is far below what any distance here resolves."""
    width = passes[0].objects.shape[1] if passes else 1
    boxes = np.concatenate([p.boxes for p in passes]) if passes else np.zeros((0, 6), np.float32)
    columns: dict[str, object] = {
        "content": pa.array([p.content for p in passes for _ in range(len(p.boxes))], pa.string())
    }
    columns["label"] = boxes[:, 5].astype(np.int64)
    columns.update({name: boxes[:, i].astype(np.float64) for i, name in enumerate([*CORNERS, "confidence"])})
    columns["embedding"] = vectors([p.objects for p in passes], width, pa.float16())
    return pa.table(columns)
