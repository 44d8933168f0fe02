"""Images above 179 megapixels are looked at in tiles; most tests lower that limit, one has such an image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets import orthophotos, pixels
from datasets.coco import read_results
from datasets.errors import InputError
from datasets.shapes import Shape
from datasets.source import open_source
from datasets.tables import CORNERS, objects_in
from tests.fault_table import write

WIDTH, HEIGHT = 2600, 2300


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orthophotos, "MAX_PIXELS", 1_000_000)


def ground(path: Path, **options: object) -> np.ndarray:
    """An orthophoto of noise whose right edge has no data; gives its RGB pixels."""
    rng = np.random.default_rng(0)
    values = np.kron(rng.integers(0, 255, (HEIGHT // 4, WIDTH // 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    values[:, 1000:] = np.where(np.arange(1000, WIDTH)[:, None] < 1700, values[:, 1000:], 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)  # type: ignore[arg-type]
    return values


def labels(*boxes: tuple[float, float, float, float]) -> str:
    """YOLO rows of boxes in pixels."""
    return "\n".join(
        f"0 {(a + c) / 2 / WIDTH:.9f} {(b + d) / 2 / HEIGHT:.9f} {(c - a) / WIDTH:.9f} {(d - b) / HEIGHT:.9f}"
        for a, b, c, d in boxes
    )


@pytest.mark.usefixtures("low_limit")
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_tiles_are_the_pixels_of_the_image_and_blank_ones_are_left_out(tmp_path: Path, suffix: str) -> None:
    whole = ground(tmp_path / "site" / f"ortho.{suffix}")
    lines: list[str] = []
    source = open_source(str(tmp_path / "site"), cache=tmp_path / "cache", say=lines.append)
    assert any("cut once into 9 tiles" in line for line in lines)
    # Of three by three tiles the last column has one colour.
    assert len(source.images) == 6
    for row in source.images.itertuples():
        left, top = (int(number) for number in str(row.image).rsplit("#x", 1)[1].split("y"))
        tile = pixels.decode(Path(str(row.path)))[..., ::-1]
        assert np.array_equal(tile, whole[top : top + row.height, left : left + row.width])
        assert max(row.width, row.height) <= orthophotos.SIDE
    reason = source.ledger.set_index("path").loc[str(tmp_path / "site" / f"ortho.{suffix}"), "reason"]
    assert "cut into 6 tiles" in str(reason)
    assert "3 more of one colour are left out" in str(reason)
    again: list[str] = []
    open_source(str(tmp_path / "site"), cache=tmp_path / "cache", say=again.append)
    assert not again


@pytest.mark.slow
@pytest.mark.usefixtures("low_limit")
@settings(max_examples=30)
@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 2500), st.integers(0, 2200), st.integers(5, 1500), st.integers(5, 1500)).map(
            lambda b: (b[0], b[1], min(b[0] + b[2], WIDTH), min(b[1] + b[3], HEIGHT))
        ),
        min_size=1,
        max_size=6,
        unique=True,
    )
)
def test_every_object_counts_once_and_none_of_its_area_is_background(
    tmp_path_factory: pytest.TempPathFactory, boxes: list[tuple[int, int, int, int]]
) -> None:
    root = tmp_path_factory.getbasetemp() / "boxes"
    if not (root / "images" / "ortho.png").exists():
        ground(root / "images" / "ortho.png")
    write(root / "labels" / "ortho.txt", labels(*boxes))
    write(root / "classes.txt", "car\n")
    source = open_source(str(root), cache=root.parent / "cache-of-boxes")
    assert objects_in(source.annotations) == len(boxes)
    assert source.images["labelled"].all()
    corners = source.annotations[CORNERS].to_numpy(float)
    area = ((corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])).sum()
    assert area == pytest.approx(sum((c - a) * (d - b) for a, b, c, d in boxes), abs=0.5 * len(boxes))


@pytest.mark.usefixtures("low_limit")
def test_neighbouring_tiles_are_one_group_unless_the_user_names_groups(tmp_path: Path) -> None:
    for name in ("north", "south"):
        ground(tmp_path / "site" / f"{name}.png")
    source = open_source(str(tmp_path / "site"), cache=tmp_path / "cache")
    assert source.images["group"].nunique() == 2
    assert "4 by 4 are a group" in source.grouping
    named = open_source(str(tmp_path / "site"), cache=tmp_path / "cache", group_by=r"site/(?P<group>\w)")
    assert set(named.images["group"]) == {"n", "s"}


@pytest.mark.usefixtures("low_limit")
def test_blocks_of_tiles_are_groups_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orthophotos, "BLOCK", 2)
    ground(tmp_path / "ortho.png")
    source = open_source(str(tmp_path / "ortho.png"), cache=tmp_path / "cache")
    # Three rows and two columns that are not blank.
    assert sorted(source.images["group"].value_counts()) == [2, 4]


@pytest.mark.usefixtures("low_limit")
def test_a_full_disk_is_no_broken_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ground(tmp_path / "ortho.png")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        open_source(str(tmp_path / "ortho.png"), cache=tmp_path / "cache")


@pytest.mark.usefixtures("low_limit")
def test_a_large_image_that_is_cut_short_enters_the_ledger(tmp_path: Path) -> None:
    ground(tmp_path / "site" / "ortho.png")
    ground(tmp_path / "site" / "broken.png")
    broken = tmp_path / "site" / "broken.png"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    source = open_source(str(tmp_path / "site"), cache=tmp_path / "cache")
    outcome = source.ledger.set_index("path").loc[str(broken)]
    assert outcome["bucket"] == "failed"
    assert len(source.images) == 6


@pytest.mark.usefixtures("low_limit")
def test_detections_of_the_whole_image_are_told_what_to_give(tmp_path: Path) -> None:
    ground(tmp_path / "site" / "ortho.png")
    results = [{"image_id": "ortho", "category_id": 0, "bbox": [5, 5, 20, 20], "score": 0.9}]
    write(tmp_path / "results.json", json.dumps(results))
    source = open_source(str(tmp_path / "site"), cache=tmp_path / "cache")
    with pytest.raises(InputError, match=r"cut into tiles; give detections of those, .* ortho.png#x0y0"):
        read_results(tmp_path / "results.json", source, ["car"])


@pytest.mark.parametrize(
    ("bands", "kind", "outcome"),
    [
        (4, np.uint8, "RGBA"),
        (5, np.uint8, "first 3 of 5 bands"),
        (3, np.uint16, ""),
        (8, np.uint16, "more than five bands"),
    ],
)
def test_bands_of_a_tiff_are_read_or_named(tmp_path: Path, bands: int, kind: type, outcome: str) -> None:
    path = tmp_path / "site.tif"
    top = np.iinfo(kind).max  # type: ignore[type-var]
    values = np.random.default_rng(0).integers(0, top, (40, 40, bands)).astype(kind)
    tifffile.imwrite(path, values, photometric="rgb")
    if bands > 5:
        with pytest.raises(pixels.UnreadableImage, match=outcome):
            pixels.probe(path)
        return
    assert outcome in pixels.probe(path)[2]
    expected = values[..., :3] if kind is np.uint8 else (values[..., :3] >> 8).astype(np.uint8)
    assert np.array_equal(pixels.decode(path)[..., ::-1], expected)


@pytest.mark.usefixtures("low_limit")
def test_polygons_and_key_points_move_with_their_tile() -> None:
    row = {"path": "ortho.tif", "width": 2000, "height": 1000}
    tile = orthophotos.Tile(1000, 500, 1000, 500, "r001c001.png")
    outline = Shape("polygons", [[0.6, 0.6, 0.75, 0.6, 0.75, 0.75]])
    moved = orthophotos._shape_in(outline, tile, row)
    assert moved is not None
    assert np.allclose(moved.numbers[0], [0.2, 0.2, 0.5, 0.2, 0.5, 0.5])
    points = orthophotos._shape_in(Shape("points", [0.75, 0.75, 2, 0.25, 0.75, 2]), tile, row)
    assert points is not None
    # The second lies in another tile.
    assert np.allclose(points.numbers, [0.5, 0.5, 2, 0, 0, 0])


@pytest.mark.usefixtures("low_limit")
def test_tiles_of_a_turned_image_are_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    ground(tmp_path / "ortho.jpg", exif=exif, quality=95, subsampling=0)
    source = open_source(str(tmp_path / "ortho.jpg"), cache=tmp_path / "cache")
    upright = pixels.decode(tmp_path / "ortho.jpg")
    assert upright.shape == (WIDTH, HEIGHT, 3)
    for row in source.images.itertuples():
        left, top = (int(number) for number in str(row.image).rsplit("#x", 1)[1].split("y"))
        part = upright[top : top + row.height, left : left + row.width]
        # Two decoders of JPEG differ by a few levels.
        assert np.abs(pixels.decode(Path(str(row.path))).astype(int) - part).mean() < 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"suffix": "jpg", "quality": 20}, {"suffix": "tif", "compression": "tiff_lzw"}]
)
def test_a_real_one_is_cut(tmp_path: Path, options: dict[str, object]) -> None:
    side = 13_500
    part = np.random.default_rng(1).integers(0, 255, (side // 10, side // 10)).astype(np.uint8)
    path = tmp_path / f"ortho.{options.pop('suffix')}"
    Image.fromarray(np.tile(part, (10, 10))).save(path, **options)  # type: ignore[arg-type]
    source = open_source(str(path), cache=tmp_path / "cache")
    assert len(source.images) == 14 * 14
    assert (source.images["width"] * source.images["height"]).sum() == side * side
    assert Image.MAX_IMAGE_PIXELS is not None
