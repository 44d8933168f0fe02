"""Detections in COCO results format, as columns.

Half a million detections are read in half a second; errors name the position of the detection.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import json as arrow_json

from datasets.errors import InputError
from datasets.plausibility import ids_are_off

# Bytes that Arrow parses at a time: a piece and its columns fit a cache, 8 GB are 4,000 pieces to join, and no
# detection is as long.
BLOCK = 1 << 21
# The largest public ground truths have one or two gigabytes.
MAX_BYTES = 8_000_000_000


# Digits of the largest id that fits 64 bits.
LONGEST_NUMBER = 18
# Ultralytics writes the file's name beside each detection, SAHI the category's.
TEXTS = ("category_name", "file_name")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Results:
    """Detections as columns of length N.

    image_id: integers, or names as objects.
    category_id: integers.
    texts: columns of text that some programs add, by name (TEXTS), each None where it is missing.
    xywh: left, top, width and height (N, 4) in pixels.
    score: confidence.
    """

    image_id: npt.NDArray[Any]
    category_id: npt.NDArray[np.int64]
    xywh: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]
    texts: Mapping[str, pa.ChunkedArray | pa.Array] = field(default_factory=dict)

    def pairs(self, column: str) -> dict[int, set[str]]:
        """The names that `texts` gives beside each category id; empty unless every detection has one."""
        names = self.texts.get(column)
        if names is None or not len(self.category_id) or names.null_count:
            return {}
        encoded = names.dictionary_encode()
        words = encoded.dictionary.to_pylist()
        ids, places = np.unique(self.category_id, return_inverse=True)
        numbers = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        found: dict[int, set[str]] = {}
        for pair in np.unique(places * len(words) + numbers).tolist():
            found.setdefault(int(ids[pair // len(words)]), set()).add(words[pair % len(words)])
        return found

    def file_names(self) -> tuple[list[str], npt.NDArray[np.int64]] | None:
        """The distinct file names beside the detections, and the number of each detection's (N,); None unless
        every detection has one.
        """
        names = self.texts.get("file_name")
        if names is None or not len(self.category_id) or names.null_count:
            return None
        encoded = names.dictionary_encode()
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)

    def numbered(self, column: str, number_of: Mapping[str, int]) -> npt.NDArray[np.int64]:
        """The number of each text (N,), -1 for an unknown or missing one."""
        encoded = self.texts[column].dictionary_encode()
        numbers = np.array(
            [number_of.get(word, -1) for word in encoded.dictionary.to_pylist()] + [-1], np.int64
        )
        return numbers[encoded.indices.fill_null(len(numbers) - 1).to_numpy(zero_copy_only=False)]


def load_json(path: Path) -> Any:
    """Parse a json; raises InputError with line and column."""
    return _parse(path, _content(path))


def read_results(path: Path) -> Results:
    """Read a COCO results file; raises InputError at the first detection that is incomplete or not finite."""
    content = _content(path)
    results = _fast(content) or _slow(path, _parse(path, content))
    invalid = np.flatnonzero(~(np.isfinite(results.xywh).all(1) & np.isfinite(results.score)))
    if len(invalid):
        raise InputError(f"{path}: detection {invalid[0]} has a coordinate or score that is not finite")
    return results


def _content(path: Path) -> bytes:
    """Bytes of a regular file; raises InputError if there is none or it is too large."""
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            raise InputError(
                f"{path}: not a regular file of at most {MAX_BYTES // 10**9} GB; give a json file"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a json file") from None


def _parse(path: Path, content: bytes) -> Any:
    """Parsed json; raises InputError with line and column."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        if content[:2] == b"\x1f\x8b":
            raise InputError(f"{path}: is compressed (gzip); unpack it first") from None
        if content.lstrip()[:1] == b"{" and "Extra data" in str(error):
            raise InputError(
                f"{path}: has one JSON object a line; put all into one list: [{{...}}, {{...}}]"
            ) from None
        where = f":{error.lineno}:{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"{path}{where}: not valid JSON ({error})") from None


def _fast(content: bytes) -> Results | None:
    """Read the columns with Arrow, which needs one object per line; None unless the file is a flat list.

    A comma between braces can also occur inside a name: the line then ends within a string, Arrow rejects
    it, and `_slow` reads the file.
    """
    content = content.strip()
    if not (content.startswith(b"[{") and content.endswith(b"}]")):
        return None
    # Each replacement of the first kind takes a byte away.
    split = content.replace(b"}, {", b"}\n{")
    tight = split.count(b"},{")
    commas = len(content) - len(split) + tight
    lines = pa.py_buffer(memoryview(split.replace(b"},{", b"}\n{") if tight else split)[1:-1])
    for id_type in (pa.int64(), pa.string()):
        schema = pa.schema(
            [
                ("image_id", id_type),
                ("category_id", pa.int64()),
                ("bbox", pa.list_(pa.float64())),
                ("score", pa.float64()),
                *((name, pa.string()) for name in TEXTS),
            ]
        )
        options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        try:
            table = arrow_json.read_json(
                pa.BufferReader(lines), arrow_json.ReadOptions(use_threads=False, block_size=BLOCK), options
            ).combine_chunks()
        except pa.ArrowInvalid:
            continue
        if table.num_rows != commas + 1:
            # The objects are separated by something other than commas.
            return None
        box = table["bbox"].chunk(0)
        if (
            any(table[name].null_count for name in ("image_id", "category_id", "bbox", "score"))
            or box.flatten().null_count
        ):
            return None
        if not (np.diff(_buffer(box.offsets, np.int32)) == 4).all():
            return None
        ids = table["image_id"].chunk(0)
        try:
            names = _buffer(ids, np.int64) if id_type == pa.int64() else np.array(ids.to_pylist(), object)
        except UnicodeDecodeError:
            return None
        return Results(
            names,
            _buffer(table["category_id"].chunk(0), np.int64),
            _buffer(box.flatten(), np.float64).reshape(-1, 4),
            _buffer(table["score"].chunk(0), np.float64),
            {name: table[name].chunk(0) for name in TEXTS},
        )
    return None


def _buffer(array: Any, kind: type) -> npt.NDArray[Any]:
    """A column without nulls as an array (Arrow's to_numpy imports pandas, slower than reading)."""
    return np.frombuffer(array.buffers()[1], kind)[array.offset : array.offset + len(array)]


def _slow(path: Path, content: Any) -> Results:
    """Read the columns entry by entry; raises InputError at the first that is incomplete."""
    if not isinstance(content, list):
        raise InputError(f"{path}: a COCO results file is a list of detections; found {describe(content)}")
    images, categories, boxes, scores = [], [], [], []
    texts: dict[str, list[str | None]] = {name: [] for name in TEXTS}
    for position, entry in enumerate(content):
        try:
            x, y, width, height = (float(v) for v in entry["bbox"])
            category, score, image = int(entry["category_id"]), float(entry["score"]), entry["image_id"]
            if float(entry["category_id"]) != category:
                raise ValueError(f"category_id {entry['category_id']} is no whole number")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{path}: detection {position} lacks a usable image_id, category_id, bbox or score ({error})"
            ) from None
        if isinstance(image, bool) or not isinstance(image, (int, str, float)):
            raise InputError(
                f"{path}: detection {position} has the image_id {image!r}; expected a number or a name"
            )
        if isinstance(image, float):
            image = int(image) if math.isfinite(image) and image == int(image) else image
        images.append(image)
        categories.append(category)
        boxes.append((x, y, width, height))
        scores.append(score)
        for name, column in texts.items():
            column.append(entry[name] if isinstance(entry.get(name), str) else None)
    integers = all(isinstance(image, int) and abs(image) < 2**63 for image in images)
    try:
        return Results(
            np.array(images, np.int64) if integers else np.array([*images, None], object)[:-1],
            np.array(categories, np.int64),
            np.array(boxes, float).reshape(-1, 4),
            np.array(scores, float),
            {name: pa.array(column, pa.string()) for name, column in texts.items()},
        )
    except OverflowError as error:
        raise InputError(f"{path}: a category_id is out of range ({error})") from None


def plain_id(value: Any) -> Any:
    """An id as it compares across files: 1, 1.0 and "1" are one id, while "001" is a name."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value == int(value) else value
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) <= LONGEST_NUMBER:
        return int(value) if str(int(value)) == value else value
    return value


def miscounted(content: Mapping[str, Any]) -> str:
    """What is wrong with the ids of a COCO ground truth, where its annotations count images or categories
    from another number than its lists; "" where they do not. content: with the three lists, whose entries
    have ids.
    """
    for what, key in (("images", "image_id"), ("categories", "category_id")):
        listed = {plain_id(entry["id"]) for entry in content[what]}
        used = {
            plain_id(a[key])
            for a in content["annotations"]
            if isinstance(a, dict) and isinstance(a.get(key), (int, float, str))
        }
        by = ids_are_off(used, listed)
        if by:
            return (
                f"its annotations number {what} from {min(used)}, its list of {what} from {min(listed)}: "
                f"each {key} seems to be {abs(by)} too {'low' if by > 0 else 'high'}"
            )
    return ""


def images_by_key(names: Iterable[tuple[Key, str]]) -> dict[Any, Key]:
    """Everything that identifies exactly one image: its path, file name, stem, or the number its stem spells.

    names: (image, path) pairs.
    """
    images: dict[Any, Key] = {}
    ambiguous: set[Any] = set()
    for image, name in names:
        path = Path(name.replace("\\", "/"))
        stem = path.stem
        number = [int(stem)] if stem.isdecimal() and len(stem) <= LONGEST_NUMBER else []
        for key in {name, path.name, stem, *number}:
            if images.setdefault(key, image) != image:
                ambiguous.add(key)
    return {key: image for key, image in images.items() if key not in ambiguous}


def describe(content: Any) -> str:
    """The content of a json in a few words, for a message."""
    if isinstance(content, dict):
        return f"an object with {', '.join(sorted(map(str, content))[:6]) or 'no keys'}"
    return f"a {type(content).__name__}"
