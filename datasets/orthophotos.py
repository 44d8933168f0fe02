"""Images too large to be looked at as one, such as orthophotos and scans: tiles of them, written once below
Shiftscope's own folder, as the frames of a video are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from filelock import FileLock
from PIL import Image, ImageOps

from datasets.errors import InputError
from datasets.files import draft_folder
from datasets.pixels import FORMATS, MAX_PIXELS, UnreadableImage, as_colour, without_limit
from datasets.rotated import ROTATED
from datasets.shapes import SHAPE, Shape, annotated
from datasets.tables import BOX_COLUMNS, CORNERS, IMAGE_COLUMNS, Source, concatenate
from datasets.video import NAME, fingerprint

# Pixels a side, as DOTA's own tools and Ultralytics' `split_trainval` cut aerial images. Tiles do not
# overlap, so that no object counts twice: one that an edge cuts belongs to the tile that has its middle.
SIDE = 1024
# Tiles a side of a block, which is one group: neighbouring tiles show the same ground.
BLOCK = 4
MANIFEST = "tiles.json"


class Tile(NamedTuple):
    """A part of a large image; left, top, width, height: pixels of the upright image; file: its name."""

    left: int
    top: int
    width: int
    height: int
    file: str


def cut_large_images(
    source: Source, cache: Path, say: Callable[[str], None], *, keep_groups: bool = False
) -> Source:
    """Replace every image of more than 179 megapixels by tiles of it, with the annotations of each.

    Parameters
    ----------
    source
        Any source, with its groups.
    cache
        Shiftscope's own folder, which keeps the tiles by content.
    say
        Receives a line before an image is cut.
    keep_groups
        Whether tiles stay in the group of their image, which the user named, in place of blocks of it.

    Returns
    -------
    Source
        The source, the same where no image is so large.

    Raises
    ------
    InputError
        Masks of an image are runs of pixels, which are not cut.
    """
    large = source.images["width"] * source.images["height"] > MAX_PIXELS
    if not large.any():
        return source
    images = [source.images[~large]]
    is_whole = source.annotations["image"].isin(source.images.loc[~large, "image"])
    annotations = [source.annotations[is_whole]]
    boxes = dict(iter(source.annotations[~is_whole].groupby("image")))
    ledger = source.ledger.copy()
    for row in source.images[large].to_dict("records"):
        path = Path(str(row["path"]))
        is_it = ledger["path"] == row["path"]
        try:
            tiles, blank, folder = _tiles_of(path, cache, say)
        except UnreadableImage as reason:
            ledger.loc[is_it, ["bucket", "reason"]] = "failed", str(reason)
            continue
        own = boxes.get(row["image"], source.annotations.iloc[:0])
        kept = [tile for tile in tiles if tile.file not in blank or _touching(own, tile).any()]
        rows = _image_rows(row, kept, folder)
        images.append(rows.assign(group=row["group"]).astype({"group": "str"}) if keep_groups else rows)
        annotations += [_annotations_in(own, tile, row) for tile in kept]
        remark = f"cut into {len(kept)} tiles of at most {SIDE} pixels a side"
        if len(kept) < len(tiles):
            remark += f"; {len(tiles) - len(kept)} more of one colour are left out"
        ledger.loc[is_it, "reason"] = [
            "; ".join(filter(None, [reason, remark])) for reason in ledger.loc[is_it, "reason"]
        ]
    count = int(large.sum())
    how = f"{count} large {'image was' if count == 1 else 'images were'} cut into tiles"
    if not keep_groups:
        how += f", of which {BLOCK} by {BLOCK} are a group"
    return replace(
        source,
        # Its label files no longer belong to its images.
        kind="tiles",
        images=concatenate(images, IMAGE_COLUMNS),
        annotations=concatenate(annotations, BOX_COLUMNS),
        ledger=ledger,
        grouping=how if large.all() and not keep_groups else "; ".join(filter(None, [source.grouping, how])),
    )


def _tile_name(image: str, tile: Tile) -> str:
    """The id of a tile, from which its detections can be placed in the whole image again."""
    return f"{image}#x{tile.left}y{tile.top}"


def whole_image_of(image: str) -> str:
    """The id of the image that a tile was cut from; empty for any other image."""
    match = re.fullmatch(r"(.+)#x\d+y\d+", image)
    return match[1] if match else ""


def _tiles_of(path: Path, cache: Path, say: Callable[[str], None]) -> tuple[list[Tile], set[str], Path]:
    """Tiles of an image, the files of those of a single colour, and their folder; they are written where they
    are not.
    """
    folder = cache / f"{path.stem[:NAME]}-{fingerprint(path)}-{SIDE}"
    manifest = folder / MANIFEST
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{folder.name}.lock"):
        if not manifest.exists():
            with draft_folder(folder, overwrite=True) as draft:
                content = _cut(path, draft, say)
                (draft / MANIFEST).write_text(json.dumps(content), encoding="utf-8")
    content = json.loads(manifest.read_text(encoding="utf-8"))
    return [Tile(*tile) for tile in content["tiles"]], set(content["blank"]), folder


def _cut(path: Path, draft: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Write the tiles of an image; gives the content of the manifest. Raises UnreadableImage for a broken
    image.
    """
    blank = []
    with without_limit(), _opened(path) as image:
        width, height = image.size
        say(
            f"  {path.name}: {width:,} x {height:,} pixels, cut once into {len(list(_grid(width, height)))} "
            f"tiles; takes about {width * height * 4 / 1e9:.1f} GB of memory and "
            f"{max(1, round(width * height / 2e7))} s"
        )
        _load(image)
        tiles = list(_grid(*image.size))
        # Not within the reading: what fails from here on is no fault of the image, such as a full disk.
        for tile in tiles:
            part = image.crop((tile.left, tile.top, tile.left + tile.width, tile.top + tile.height))
            colour = as_colour(part)
            if all(low == high for low, high in colour.getextrema()):  # type: ignore[misc]
                blank.append(tile.file)
            # Lossless, at the level that takes least time.
            colour.save(draft / tile.file, compress_level=1)
    return {"tiles": tiles, "blank": blank}


def _opened(path: Path) -> Image.Image:
    """An image, of which nothing is decoded yet."""
    try:
        return Image.open(path, formats=FORMATS)
    except Exception as error:  # as in `pixels.probe`
        raise UnreadableImage(f"broken ({error})") from None


def _load(image: Image.Image) -> None:
    """Decode an image and turn it upright. Raises UnreadableImage for a broken one."""
    try:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise UnreadableImage(
            "too large for this machine's memory; cut it into tiles (gdal_retile does)"
        ) from None
    except Exception as error:  # as in `pixels.probe`
        raise UnreadableImage(f"broken ({error})") from None


def _grid(width: int, height: int) -> Iterator[Tile]:
    """Tiles of nearly equal sides, none above SIDE, row by row."""
    across, down = (
        np.linspace(0, side, -(-side // SIDE) + 1).round().astype(int) for side in (width, height)
    )
    for r, (top, bottom) in enumerate(pairwise(down)):
        for c, (left, right) in enumerate(pairwise(across)):
            yield Tile(int(left), int(top), int(right - left), int(bottom - top), f"r{r:03d}c{c:03d}.png")


def _image_rows(row: dict[Any, Any], tiles: list[Tile], folder: Path) -> pd.DataFrame:
    """Rows of the images table of the tiles of an image."""

    def block(tile: Tile) -> str:
        # Of the file's name, which counts rows and columns.
        r, c = (int(number) // BLOCK for number in tile.file[1:-4].split("c"))
        return f"{row['group']}#{r}.{c}"

    return pd.DataFrame(
        [
            {
                **row,
                "image": _tile_name(row["image"], tile),
                "path": str(folder / tile.file),
                "group": block(tile),
                "width": tile.width,
                "height": tile.height,
            }
            for tile in tiles
        ],
        columns=list(row),
    ).astype(IMAGE_COLUMNS)


def _touching(boxes: pd.DataFrame, tile: Tile) -> pd.Series:
    """Which boxes share more than an edge with a tile."""
    return (
        (boxes["x1"] < tile.left + tile.width)
        & (boxes["x2"] > tile.left)
        & (boxes["y1"] < tile.top + tile.height)
        & (boxes["y2"] > tile.top)
    )


def _annotations_in(boxes: pd.DataFrame, tile: Tile, row: dict[Any, Any]) -> pd.DataFrame:
    """Annotations of an image within one tile, in pixels of the tile; one whose middle lies in another tile
    is a crowd.
    """
    part = boxes[_touching(boxes, tile)].copy()
    corners = part[CORNERS].to_numpy(float) - (tile.left, tile.top, tile.left, tile.top)
    middle = (corners[:, :2] + corners[:, 2:]) / 2
    is_own = ((middle >= 0) & (middle < (tile.width, tile.height))).all(1)
    part[CORNERS] = corners.clip(0, (tile.width, tile.height, tile.width, tile.height))
    part["crowd"] = part["crowd"].to_numpy(bool) | ~is_own
    part["image"] = _tile_name(row["image"], tile)
    if ROTATED[0] in part:
        part[ROTATED[:2]] = part[ROTATED[:2]].to_numpy(float) - (tile.left, tile.top)
    if SHAPE in part:
        shapes = [_shape_in(shape, tile, row) for shape in part[SHAPE]]
        part[SHAPE] = pd.Series(shapes, index=part.index, dtype=object)
    return part


def _shape_in(shape: Shape | None, tile: Tile, row: dict[Any, Any]) -> Shape | None:
    """A shape in fractions of a tile; key points outside it are those that nobody annotated."""
    if not isinstance(shape, Shape):
        return None
    if shape.kind == "runs":
        raise InputError(
            f"{row['path']}: masks of runs of pixels are not cut into tiles; give polygons, or tiles with "
            "masks of their own"
        )
    scale = np.array([row["width"] / tile.width, row["height"] / tile.height])
    offset = np.array([tile.left / tile.width, tile.top / tile.height])
    if shape.kind == "polygons":
        moved = [
            (np.reshape(outline, (-1, 2)) * scale - offset).ravel().tolist() for outline in shape.numbers
        ]
        return Shape("polygons", moved)
    points, was = annotated(shape)
    points[:, :2] = points[:, :2] * scale - offset
    points[~was | (points[:, :2] < 0).any(1) | (points[:, :2] >= 1).any(1)] = 0
    return Shape("points", points.ravel().tolist())
