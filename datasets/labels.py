"""The only reader and the only writer of YOLO label files.

A row that cannot be used is rejected with a reason; the other rows and the image are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from datasets.plausibility import FEW
from datasets.shapes import Shape

# A label file is a few kilobytes; one over 16 MB is not a label file.
MAX_BYTES = 16_000_000
# The largest public detection vocabularies have about 20,000 names.
MAX_CLASSES = 100_000
# Exporters round: a coordinate up to this far beyond the edge is clipped.
EDGE = 1.01
POLYGON = "box taken from a polygon"
# Fewer rows of eight numbers than these are corners, whatever else they could be; and how exactly four
# rounded corners make a parallelogram, or a box ends at the edge, as a share of the image.
MANY, SLACK = 20, 0.005


def label_text(
    labels: Sequence[int],
    corners: npt.NDArray[np.float64],
    width: int,
    height: int,
    confidence: Sequence[float] | None = None,
) -> str:
    """Format a YOLO label file.

    Parameters
    ----------
    labels
        Class index of each box.
    corners
        Corners (N, 4) of the boxes: x1, y1, x2, y2 in pixels.
    width, height
        Size of the image in pixels.
    confidence
        Confidence of each box, written as a sixth column as Ultralytics writes detections; None for none.

    Returns
    -------
    str
        One row per box: class, centre, width and height as fractions of the image.
    """
    shares = corners / (width, height, width, height)
    centres, sides = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
    sixth = [""] * len(labels) if confidence is None else [f" {value:.5f}" for value in confidence]
    return "".join(
        f"{label} {c[0]:.6f} {c[1]:.6f} {s[0]:.6f} {s[1]:.6f}{last}\n"
        for label, c, s, last in zip(labels, centres, sides, sixth, strict=True)
    )


class Row(NamedTuple):
    """One accepted box: class index and corners as fractions of the image, in [0, 1].

    outline: the four corners of a rotated box, as fractions; () for others
    shape: the polygon or the key points of the row; None for a box
    """

    label: int
    x1: float
    y1: float
    x2: float
    y2: float
    outline: tuple[float, ...] = ()
    shape: Shape | None = None


@dataclass(frozen=True)
class Note:
    """A row not taken as written.

    line: number of the row, from 1.
    action: "rejected" or "repaired".
    reason: what is wrong with it.
    """

    line: int
    action: str
    reason: str


def read_labels(path: Path, classes: Sequence[str], pose: int = 0) -> tuple[list[Row], list[Note]]:
    """Read one YOLO label file.

    An empty file marks a background image: no rows and no notes. Polygons become their bounding box.

    Parameters
    ----------
    path
        The label file.
    classes
        Class names in order; empty if unknown.
    pose
        Count of keypoint values after each box (product of `kpt_shape` in the data.yaml), 0 for none.

    Returns
    -------
    tuple[list[Row], list[Note]]
        The accepted boxes, and a note for each row that was rejected or repaired.

    Raises
    ------
    ValueError
        If the file as a whole cannot be read; the message is the reason.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"label file over {MAX_BYTES // 1_000_000} MB")
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError("label file is UTF-16; save it as UTF-8")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("label file is not text (UTF-8)") from None
    rows: list[Row] = []
    notes: list[Note] = []
    accepted: set[tuple[object, ...]] = set()
    numbers = {str(index): index for index in range(len(classes))}
    for number, line in enumerate(text.splitlines(), start=1):
        repair = ""
        row = parse_plain_row(line.split(), numbers)
        if row is None:
            if not line.strip():
                continue
            try:
                row, repair = parse_row(line, classes, pose)
            except ValueError as error:
                notes.append(Note(number, "rejected", str(error)))
                continue
        # One box twice is one object, whatever else is drawn of it.
        if row[:6] in accepted:
            notes.append(Note(number, "repaired", "duplicate row dropped"))
            continue
        accepted.add(row[:6])
        rows.append(row)
        if repair:
            notes.append(Note(number, "repaired", repair))
    return rows, notes


def has_label_row(path: Path) -> bool:
    """Whether the first row of a file is a box of a YOLO label file."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as handle:
            fields = handle.readline(500).split()
        return (
            len(fields) == 5 and fields[0].isdecimal() and all(0 <= float(field) <= 1 for field in fields[1:])
        )
    except (OSError, ValueError):
        return False


def row_numbers(path: Path) -> list[list[float]]:
    """The numbers behind the class in each row of a label file that was read before, as written."""
    rows = []
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        try:
            rows.append([float(field) for field in line.split()[1:]])
        except ValueError:
            continue
    return [row for row in rows if row]


def are_poses(rows: Sequence[Sequence[float]]) -> int:
    """The number of columns of rows that are boxes with key points (x, y); 0 where they may be polygons.

    Polygons differ in their number of points, and the rest of one seldom lies in the box that its first two
    points would be. Eight numbers are the corners of a rotated box, unless they are no parallelograms and all
    of these boxes lie within their images, as those of corners do in fewer than half of the rows.
    """
    lengths = {len(row) for row in rows}
    if len(rows) < FEW or len(lengths) != 1 or min(lengths) < 8:
        return 0
    two_points = min(lengths) == 8
    if two_points and (len(rows) < MANY or sum(map(_is_parallelogram, rows)) > len(rows) / 2):
        return 0
    for row in rows:
        cx, cy, width, height = row[:4]
        if two_points and not (
            width / 2 <= cx + SLACK <= 1 + 2 * SLACK - width / 2
            and height / 2 <= cy + SLACK <= 1 + 2 * SLACK - height / 2
        ):
            return 0
        points = zip(row[4::2], row[5::2], strict=False)
        if not all(abs(x - cx) <= 0.6 * width and abs(y - cy) <= 0.6 * height for x, y in points if x or y):
            return 0
    return lengths.pop() + 1


def _is_parallelogram(row: Sequence[float]) -> bool:
    """Whether four points have one middle: a rotated box has, whatever its image's sides."""
    return all(abs(row[at] + row[at + 4] - row[at + 2] - row[at + 6]) <= 2 * SLACK for at in (0, 1))


def parse_plain_row(fields: list[str], numbers: dict[str, int]) -> Row | None:
    """The common row, fast: a known class and a box inside the image; None leaves it to `parse_row`."""
    if len(fields) != 5 or fields[0] not in numbers:
        return None
    try:
        cx, cy, width, height = float(fields[1]), float(fields[2]), float(fields[3]), float(fields[4])
    except ValueError:
        return None
    x1, y1, x2, y2 = cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2
    # Comparisons with NaN are false.
    if 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1:
        return Row(numbers[fields[0]], x1, y1, x2, y2)
    return None


def parse_row(line: str, classes: Sequence[str], pose: int = 0) -> tuple[Row, str]:
    """Parse a row to a box and its repair ("" if none); raises ValueError with the reason to reject it."""
    fields = line.split()
    if not fields:
        raise ValueError("empty row")
    if line.lstrip().startswith("#"):
        raise ValueError("comment; YOLO label files have none")
    if (len(fields) == 1 and "," in line) or (len(fields) > 1 and fields[0].endswith((",", ";"))):
        raise ValueError("comma-separated; YOLO rows are separated by spaces")
    label = _class_of(fields[0], classes)
    try:
        numbers = [float(field) for field in fields[1:]]
    except ValueError:
        hint = "; YOLO rows use a decimal point, not a decimal comma" if "," in line else ""
        raise ValueError(f"not a number in {' '.join(fields[1:6])[:60]!r}{hint}") from None
    if not all(map(math.isfinite, numbers)):
        raise ValueError("coordinate is not finite")
    repair, shape = "", None
    if (pose and len(numbers) == 4 + pose) or (not pose and _is_pose(numbers)):
        shape = Shape("points", tuple(numbers[4:]))
        numbers, repair = numbers[:4], "box taken from a pose"
    elif pose and len(numbers) > 5:
        raise ValueError(f"{len(fields)} columns; kpt_shape in the data.yaml asks for {5 + pose}")
    if len(numbers) == 5:
        what = "confidence" if 0 <= numbers[4] <= 1 else "a track id"
        raise ValueError(f"six columns: this is a prediction with {what}, not a label")
    if len(numbers) == 6 and _is_track(fields):
        raise ValueError("seven columns: this is a prediction with confidence and a track id, not a label")
    if len(numbers) == 4:
        cx, cy, width, height = numbers
        corners = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
        if width <= 0 or height <= 0:
            raise ValueError("width or height is not positive")
    elif len(numbers) >= 6 and len(numbers) % 2 == 0:
        xs, ys = numbers[::2], numbers[1::2]
        corners = (min(xs), min(ys), max(xs), max(ys))
        repair, shape = POLYGON, Shape("polygons", (tuple(numbers),))
    elif len(numbers) >= 7 and 0 <= numbers[-1] <= 1:
        raise ValueError(
            f"{len(fields)} columns: this looks like a predicted polygon with its confidence, not a label"
        )
    else:
        raise ValueError(f"{len(fields)} columns; expected 5 (box) or 1 + 2n (polygon)")
    if max(numbers) > 2:
        raise ValueError("coordinates look like pixels; YOLO rows are fractions of the image")
    if max(numbers) > EDGE or min(numbers) < 1 - EDGE:
        raise ValueError("coordinate outside the image")
    x1, y1, x2, y2 = (min(max(value, 0.0), 1.0) for value in corners)
    if x2 <= x1 or y2 <= y1:
        raise ValueError("box has no area inside the image")
    # Six decimals round by half a millionth, which does not count as clipping.
    if max(abs(a - b) for a, b in zip(corners, (x1, y1, x2, y2), strict=True)) > 2e-6:
        repair = "; ".join(filter(None, [repair, "clipped at the edge"]))
    return Row(label, x1, y1, x2, y2, tuple(numbers) if len(numbers) == 8 else (), shape), repair


def _is_track(fields: Sequence[str]) -> bool:
    """Whether the last of seven columns is a track id: a whole number behind numbers that are not."""
    return fields[6].isdecimal() and "." in fields[5] and not all(field.isdecimal() for field in fields[1:6])


def _is_pose(numbers: Sequence[float]) -> bool:
    """Whether numbers are a box and points x, y, visibility, as in a pose dataset: the points that are
    visible lie in the box.
    """
    points = numbers[4:]
    if len(points) < 6 or len(points) % 3 or not all(value in (0, 1, 2) for value in points[2::3]):
        return False
    cx, cy, width, height = numbers[:4]
    visible = [(x, y) for x, y, v in zip(points[::3], points[1::3], points[2::3], strict=True) if v]
    # Annotators draw boxes and points by themselves: a point may lie a little outside.
    return bool(visible) and all(
        abs(x - cx) <= 0.6 * width and abs(y - cy) <= 0.6 * height for x, y in visible
    )


def _class_of(field: str, classes: Sequence[str]) -> int:
    """Class index in the first column: "0", "0.0" or a unique class name; raises ValueError for others."""
    try:
        value = float(field)
    except ValueError:
        if list(classes).count(field) == 1:
            return list(classes).index(field)
        raise ValueError(f"class {field[:40]!r} is neither a number nor one of the names") from None
    if not value.is_integer() or not 0 <= value < (len(classes) or MAX_CLASSES):
        allowed = f"in 0..{len(classes) - 1}" if classes else "a class number"
        raise ValueError(f"class {field[:20]} is not {allowed}")
    return int(value)
