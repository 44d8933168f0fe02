"""Readers of sources: the same tables for every kind, bad rows rejected one by one, a complete ledger."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tracemalloc
from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.classes import with_classes
from datasets.coco import read_results
from datasets.collector import Collector
from datasets.containment import Bounds
from datasets.errors import InputError
from datasets.groups import recording
from datasets.labels import parse_plain_row, parse_row, read_labels
from datasets.pixels import UnreadableImage, decode, difference_hash, probe
from datasets.source import open_source
from reports.pipeline.sources import unusable_labels

CLASSES = ["pothole", "crack"]


def image(path: Path, *, size: tuple[int, int] = (64, 48), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (0, 0), 4))
    return path


def label(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def dataset(
    root: Path, yaml: str = "path: .\ntrain: images/train\nval: images/val\nnames: [pothole, crack]\n"
) -> Path:
    for split, names in (("train", ("a_001", "a_002", "b_001")), ("val", ("c_001", "c_002"))):
        for number, name in enumerate(names):
            image(root / "images" / split / f"{name}.jpg", seed=len(split) + number)
            label(root / "labels" / split / f"{name}.txt", "0 0.5 0.5 0.25 0.5\n")
    label(root / "data.yaml", yaml)
    return root


def opened(spec: Path, **options):
    return open_source(str(spec), cache=spec.parent / "cache", **options)


def tree(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2 0.5 0.5 0.1 0.1", "class 2 is not in 0..1"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 is not in 0..1"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 is not in 0..1"),
        ("hole 0.5 0.5 0.1 0.1", "neither a number nor one of the names"),
        ("0 nan 0.5 0.1 0.1", "not finite"),
        ("0 inf 0.5 0.1 0.1", "not finite"),
        ("0 0.5 0.5 0 0", "not positive"),
        ("0 0.5 0.5 -0.1 0.1", "not positive"),
        ("0 320 240 50 40", "look like pixels"),
        ("0 0.5 0.5 0.1", "4 columns"),
        ("0 0.5 0.5 0.1 0.1 0.9", "prediction with confidence"),
        ("0,0.5,0.5,0.1,0.1", "comma-separated"),
        ("# a comment", "comment"),
        ("0 a b c d", "not a number"),
        ("0 1.3 0.5 0.1 0.1", "outside the image"),
    ],
)
def test_bad_rows_are_rejected_with_a_reason(row: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_row(row, CLASSES)


@pytest.mark.parametrize(
    ("row", "repair"),
    [
        ("0 0.5 0.5 0.2 0.2", ""),
        ("0.0 0.5 0.5 0.2 0.2", ""),
        ("crack 0.5 0.5 0.2 0.2", ""),
        ("1 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4", "polygon"),
        ("0 0.95 0.5 0.2 0.2", "clipped"),
        ("0 1.005 0.5 0.2 0.2", "clipped"),
    ],
)
def test_valid_and_repairable_rows_are_accepted(row: str, repair: str) -> None:
    box, repaired = parse_row(row, CLASSES)
    assert 0 <= box.x1 < box.x2 <= 1
    assert repair in repaired
    assert bool(repair) == bool(repaired)


def test_encodings_and_duplicate_rows_of_a_label_file(tmp_path: Path) -> None:
    bom = tmp_path / "bom.txt"
    bom.write_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.2 0.2\r\n\r\n0 0.5 0.5 0.2 0.2\r\n")
    rows, notes = read_labels(bom, CLASSES)
    assert len(rows) == 1
    assert [(n.line, n.action) for n in notes] == [(3, "repaired")]
    wide = tmp_path / "wide.txt"
    wide.write_bytes("0 0.5 0.5 0.2 0.2".encode("utf-16"))
    with pytest.raises(ValueError, match="UTF-16"):
        read_labels(wide, CLASSES)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            *[st.floats(0.05, 0.95) for _ in range(2)],
            *[st.floats(0.01, 0.09) for _ in range(2)],
        ),
        max_size=8,
    )
)
def test_rows_round_trip(boxes: list[tuple]) -> None:
    for box in boxes:
        row, repair = parse_row("{} {:.6f} {:.6f} {:.6f} {:.6f}".format(*box), CLASSES)
        assert repair == ""
        np.testing.assert_allclose(
            [(row.x1 + row.x2) / 2, (row.y1 + row.y2) / 2, row.x2 - row.x1, row.y2 - row.y1],
            box[1:],
            atol=2e-6,
        )


@pytest.mark.slow
@given(st.text(max_size=80))
def test_the_row_reader_accepts_any_text(text: str) -> None:
    try:
        box, _ = parse_row(text or "x", CLASSES)
    except ValueError:
        return
    assert box.x1 < box.x2


NUMBERS = st.one_of(
    st.floats(-0.2, 1.2).map(lambda v: f"{v:.4f}"),
    st.sampled_from(["0", "1", "nan", "1e9", "x", "0.5", "2", ""]),
)


@given(st.sampled_from(["0", "1", "2", "1.0", "crack", "-1"]), st.lists(NUMBERS, min_size=3, max_size=7))
def test_plain_rows_parse_as_by_the_full_parser(first: str, rest: list[str]) -> None:
    fields = [first, *rest]
    row = parse_plain_row(fields, {"0": 0, "1": 1})
    if row is not None:
        assert (row, "") == parse_row(" ".join(fields), CLASSES)


@pytest.fixture(scope="module")
def fifty_thousand(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("many")
    draw = np.random.default_rng(0).uniform(0.3, 0.6, (50_000, 5, 4))
    for number, boxes in enumerate(draw):
        rows = "".join(f"{number % 2} {a:.6f} {b:.6f} {c:.6f} {d:.6f}\n" for a, b, c, d in boxes)
        (root / f"{number:05d}.txt").write_text(rows)
    return sorted(root.iterdir())


def collected(paths: list[Path]) -> Collector:
    """All label files read, for images of which only the name exists."""
    collector = Collector(paths[0].parent, CLASSES, Bounds.of([paths[0].parent]))
    for number, path in enumerate(paths):
        for column, value in zip(
            collector.images.values(), (path.stem, str(path), "train", 640, 480, False, False), strict=True
        ):
            column.append(value)
        collector.add_label_file(path, number)
    return collector


@pytest.mark.slow
def test_fifty_thousand_label_files_need_the_memory_of_their_tables(fifty_thousand: list[Path]) -> None:
    tracemalloc.start()
    source = collected(fifty_thousand).to_source("x", "folder")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(source.annotations) == 250_000
    tables = sum(
        int(table.memory_usage(deep=True).sum())
        for table in (source.images, source.annotations, source.ledger)
    )
    # While columns become frames, both are in memory, and Python's strings are larger than Arrow's.
    assert peak <= 3 * tables, (peak, tables)


def test_a_data_yaml_gives_splits_groups_and_boxes(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    before = tree(root)
    source = opened(root)
    assert source.classes == ("pothole", "crack")
    assert source.images.groupby("split").size().to_dict() == {"train": 3, "val": 2}
    assert source.images["group"].tolist() == ["a", "a", "b", "c", "c"]
    assert source.annotations.iloc[0][["x1", "y1", "x2", "y2"]].tolist() == [24, 12, 40, 36]
    assert source.ledger["bucket"].value_counts().to_dict() == {"used": 11}
    assert tree(root) == before


def test_a_bad_row_only_costs_that_row(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    label(root / "labels/val/c_001.txt", "0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.2 0.2\n")
    source = opened(root)
    assert len(source.images) == 5
    assert source.rows[["line", "action", "reason"]].to_numpy().tolist() == [
        [2, "rejected", "class 7 is not in 0..1"]
    ]


def test_unlabelled_is_not_background(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    (root / "labels/val/c_001.txt").unlink()
    label(root / "labels/val/c_002.txt", "")
    source = opened(root)
    labelled = dict(zip(source.images["image"], source.images["labelled"], strict=True))
    assert not labelled["images/val/c_001.jpg"]
    assert labelled["images/val/c_002.jpg"]


def test_every_file_is_in_the_ledger_once(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    (root / "images/train/empty.jpg").touch()
    (root / "images/train/page.jpg").write_text("<!doctype html><html>404</html>")
    (root / "images/train/tiny.png").write_bytes(
        cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    )
    (root / "images/train/notes.docx").write_text("x")
    label(root / "labels/train/orphan.txt", "0 0.5 0.5 0.1 0.1")
    ledger = opened(root).ledger
    assert not ledger["path"].duplicated().any()
    assert set(ledger["path"]) == {str(p) for p in root.rglob("*") if p.is_file()}
    reason = {Path(p).name: (b, r) for p, b, r in ledger.to_numpy()}
    assert reason["empty.jpg"] == ("failed", "empty file")
    assert reason["page.jpg"] == ("failed", "not an image (it is a web page)")
    assert reason["tiny.png"][1].startswith("too small")
    assert reason["notes.docx"] == ("skipped", "not an image or label file")
    assert reason["orphan.txt"] == ("skipped", "label without an image")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val: images/val\nnames: [a]\n\tx: 1", r"data\.yaml:3:1: not valid YAML"),
        ("- 1", "expected keys"),
        ("val: images/nowhere\nnames: [a]", "does not exist; tried"),
        ("val: images/val", "no class names"),
        ("val: images/val\nnames: {0: a, 2: b}", "without gaps"),
        ("val: images/val\nnames: [a, a]", "repeat"),
        ("val: images/val\nnc: 3\nnames: [a, b]", "nc is 3 but 2 names"),
        ("names: [a]", "no split"),
    ],
)
def test_a_broken_yaml_is_refused_with_position_and_cause(tmp_path: Path, text: str, message: str) -> None:
    root = dataset(tmp_path / "d", text)
    with pytest.raises(InputError, match=message):
        opened(root)


def test_download_in_a_yaml_is_never_run(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    marker = tmp_path / "ran"
    with (root / "data.yaml").open("a") as handle:
        handle.write(f"download: |\n  open({str(marker)!r}, 'w').close()\n")
    opened(root)
    assert not marker.exists()


def test_exported_yaml_with_dots_before_the_splits(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d", "train: ../images/train\nval: ../images/val\nnames: [pothole, crack]\n")
    assert len(opened(root).images) == 5


def test_a_folder_without_labels_is_unlabelled(tmp_path: Path) -> None:
    for i in range(3):
        image(tmp_path / "f" / f"{i}.png", seed=i)
    source = opened(tmp_path / "f", classes=CLASSES)
    assert not source.images["labelled"].any()
    assert source.annotations.empty


def test_a_folder_with_labels_beside_the_images(tmp_path: Path) -> None:
    image(tmp_path / "f" / "a.png")
    label(tmp_path / "f" / "a.txt", "1 0.5 0.5 0.5 0.5")
    source = opened(tmp_path / "f", classes=CLASSES)
    assert source.annotations["label"].tolist() == [1]


def test_coco_json(tmp_path: Path) -> None:
    image(tmp_path / "images" / "x.jpg")
    content = {
        "images": [{"id": 5, "file_name": "x.jpg"}, {"id": 6, "file_name": "gone.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 9, "bbox": [1, 2, 30, 20], "iscrowd": 0},
            {"id": 2, "image_id": 5, "category_id": 9, "bbox": [1, 2, 0, 20]},
        ],
        "categories": [{"id": 9, "name": "pothole"}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    source = opened(tmp_path / "gt.json")
    assert source.classes == ("pothole",)
    assert source.annotations[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[1, 2, 31, 22]]
    assert source.rows["reason"].tolist() == ["width or height is not positive"]
    assert source.ledger["bucket"].value_counts().to_dict() == {"used": 2, "failed": 1}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :30] = (255, 0, 0)
    upright[20:, 30:] = (0, 255, 0)
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"p{suffix}"
    options = {".jpg": {"quality": 95, "subsampling": 0}, ".webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    assert probe(path) == (60, 40, "")
    difference = np.abs(decode(path)[..., ::-1].astype(int) - upright)
    # JPEG blurs the edge between two colours; the other formats are exact.
    assert difference.mean() < 4 if suffix == ".jpg" else difference.max() == 0


def test_orthophotos_are_read_as_trainings_read_them_or_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, pixels in {
        "rgb16": rng.integers(0, 65535, (48, 64, 3)).astype(np.uint16),
        "rgbi8": rng.integers(0, 255, (48, 64, 4), dtype=np.uint8),
        "rgbi16": rng.integers(0, 65535, (48, 64, 4)).astype(np.uint16),
    }.items():
        path = tmp_path / f"{name}.tif"
        cv2.imwrite(str(path), pixels)
        # Ultralytics reads with OpenCV.
        np.testing.assert_allclose(decode(path).astype(int), cv2.imread(str(path)).astype(int), atol=1)
    cv2.imwrite(str(tmp_path / "height.tif"), rng.random((48, 64)).astype(np.float32))
    with pytest.raises(UnreadableImage, match="32-bit values"):
        probe(tmp_path / "height.tif")


def test_sixteen_bits_keep_their_upper_eight(tmp_path: Path) -> None:
    """Pillow alone turns everything above 255 white."""
    ramp = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    Image.fromarray(ramp).save(tmp_path / "p.png")
    np.testing.assert_array_equal(decode(tmp_path / "p.png")[..., 0], ramp >> 8)


def test_a_jpeg_without_its_end_marker_or_with_more_behind_it_is_used_as_it_is(tmp_path: Path) -> None:
    raw = image(tmp_path / "p.jpg", size=(320, 240)).read_bytes()
    expected = decode(tmp_path / "p.jpg")
    for name, content in (("open.jpg", raw[:-2]), ("more.jpg", raw + b"trailing" * 40)):
        (tmp_path / name).write_bytes(content)
        assert np.abs(decode(tmp_path / name).astype(int) - expected).max() <= 8
        assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16"])
def test_unusual_modes_decode(tmp_path: Path, mode: str) -> None:
    base = (
        Image.fromarray(np.full((20, 30), 30_000, np.uint16))
        if mode == "I;16"
        else Image.new("RGB", (30, 20), (200, 100, 50)).convert(mode)
    )
    path = tmp_path / ("p.jpg" if mode == "CMYK" else "p.png")
    base.save(path)
    assert decode(path).shape == (20, 30, 3)


def test_twelve_bits_in_sixteen_are_said(tmp_path: Path) -> None:
    ramp = np.linspace(0, 4095, 600).astype(np.uint16).reshape(20, 30)
    for name, values in (("dark", ramp), ("whole", ramp * 16)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    assert "end at 4095: dark" in probe(tmp_path / "dark.png")[2]
    assert "end at" not in probe(tmp_path / "whole.png")[2]


def test_a_truncated_jpeg_fails_and_one_without_its_end_marker_does_not(tmp_path: Path) -> None:
    raw = image(tmp_path / "p.jpg", size=(320, 240)).read_bytes()
    (tmp_path / "half.jpg").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(UnreadableImage, match="cut short"):
        decode(tmp_path / "half.jpg")


def test_difference_hashes_separate_copies_from_other_images(tmp_path: Path) -> None:
    first = decode(image(tmp_path / "a.png", size=(320, 240), seed=1))
    other = decode(image(tmp_path / "b.png", size=(320, 240), seed=2))
    copy = cv2.resize(
        cv2.imdecode(cv2.imencode(".jpg", first, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1), (200, 150)
    )
    bits = [np.unpackbits(np.frombuffer(difference_hash(p), np.uint8)) for p in (first, copy, other)]
    assert (bits[0] != bits[1]).sum() <= 20 < (bits[0] != bits[2]).sum()


def test_a_broken_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"\x00" * 5000)
    with pytest.raises(InputError, match="cannot be opened as a video"):
        opened(tmp_path / "v.mp4")


def video(path: Path, frames: int = 31, *, step: int = 8) -> Path:
    """A video at ten frames per second of moving stripes that become brighter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 2_000_000
        for i in range(frames):
            stripes = 12 * np.sin((np.arange(64) + 5 * i) / 3)
            shade = np.clip(i * step + np.tile(stripes[None, :, None], (48, 1, 3)), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("suffix", "container", "codec", "pixel_format"),
    [
        ("ts", "mpegts", "mpeg2video", "yuv420p"),
        ("MTS", "mpegts", "libx264", "yuv420p"),
        ("3gp", "3gp", "mpeg4", "yuv420p"),
        ("wmv", "asf", "wmv2", "yuv420p"),
        ("flv", "flv", "flv1", "yuv420p"),
        ("mxf", "mxf", "mpeg2video", "yuv420p"),
        ("vob", "dvd", "mpeg2video", "yuv420p"),
        ("mjpeg", "mjpeg", "mjpeg", "yuvj420p"),
        ("mp4", "mp4", "libx265", "yuv420p10le"),
    ],
)
def test_every_container_gives_the_same_times(
    tmp_path: Path, suffix: str, container: str, codec: str, pixel_format: str
) -> None:
    path = tmp_path / f"flight.{suffix}"
    with av.open(str(path), "w", format=container) as written:
        stream = written.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 352, 288, pixel_format
        for number in range(52):
            pixels = np.random.default_rng(number // 10).integers(0, 255, (18, 22, 3), dtype=np.uint8)
            picture = pixels.repeat(16, 0).repeat(16, 1)
            written.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        written.mux(stream.encode())
    seconds = opened(path).images["seconds"]
    np.testing.assert_allclose(seconds, [0, 0.52, 1.0, 1.52, 2.0], atol=0.05)


def test_bursts_are_neighbouring_frames_spread_over_the_video(tmp_path: Path) -> None:
    source = opened(video(tmp_path / "v.mp4", 120, step=2))
    bursts = source.bursts
    assert bursts.groupby("burst")["frame"].apply(list).tolist() == [list(range(8))] * 6
    # Twelve seconds in six parts; each burst begins in the middle of its part and lasts 0.7 s.
    starts = bursts.groupby("burst")["seconds"].min().to_numpy()
    np.testing.assert_allclose(starts, 1 + 2 * np.arange(6), atol=0.11)
    np.testing.assert_allclose(bursts.groupby("burst")["seconds"].max() - starts, 0.7, atol=1e-6)
    shown = [decode(Path(p)).mean() for p in bursts["path"]]
    np.testing.assert_allclose(shown, bursts["seconds"] * 20, atol=6)
    assert len(source.images) == 24


def test_a_folder_of_videos_is_a_group_each(tmp_path: Path) -> None:
    video(tmp_path / "x" / "one.mp4")
    video(tmp_path / "x" / "two.mp4", 21)
    video(tmp_path / "x" / "copy.mp4")
    (tmp_path / "x" / "broken.mp4").write_bytes(b"\x00" * 5000)
    (tmp_path / "x" / "notes.txt").write_text("hello")
    source = opened(tmp_path / "x")
    assert source.kind == "video"
    assert sorted(source.images["group"].unique()) == ["copy", "two"]
    assert source.images["image"].is_unique
    buckets = dict(
        zip(source.ledger["path"].map(lambda p: Path(p).name), source.ledger["bucket"], strict=True)
    )
    assert buckets == {
        "copy.mp4": "used",
        "one.mp4": "skipped",
        "two.mp4": "used",
        "broken.mp4": "failed",
        "notes.txt": "skipped",
    }
    assert set(source.bursts["group"]) == {"copy", "two"}


def test_videos_of_one_name_and_images_beside_them(tmp_path: Path) -> None:
    video(tmp_path / "x" / "monday" / "cam" / "flight.mp4")
    video(tmp_path / "x" / "tuesday" / "cam" / "flight.mp4", 21)
    video(tmp_path / "x" / "tuesday" / "cam" / "flight.mov", 11)
    image(tmp_path / "x" / "a.jpg")
    source = opened(tmp_path / "x")
    assert source.kind == "folder"
    assert source.images["group"].nunique() == 4
    assert source.images["image"].is_unique
    assert source.bursts["group"].nunique() == 3
    assert len(source.ledger) == 4


def test_frames_are_keyed_by_time_and_written_once(tmp_path: Path) -> None:
    video(tmp_path / "v.mp4")
    source = opened(tmp_path / "v.mp4")
    np.testing.assert_allclose(source.images["seconds"], np.arange(0, 3.1, 0.5), atol=1e-6)
    shown = [decode(Path(p)).mean() for p in source.images["path"]]
    np.testing.assert_allclose(shown, np.arange(0, 31, 5) * 8, atol=6)
    stamp = [Path(p).stat().st_mtime_ns for p in source.images["path"]]
    assert stamp == [Path(p).stat().st_mtime_ns for p in opened(tmp_path / "v.mp4").images["path"]]


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("clip03_0007", "clip03"),
        ("drive001_0000", "drive001"),
        ("image-13-1732_png.rf.b434d07fc9b2415b", "image-13"),
        ("DJI_frame_00012", "DJI"),
        ("0001", "0001"),
        ("img-122_jpg.rf.6ccf17bc01c46dfb", "img-122"),
    ],
)
def test_recordings_are_read_from_names(stem: str, expected: str) -> None:
    assert recording(stem) == expected


def test_group_by(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    assert opened(root, group_by=r"/(?P<group>[a-z]+)/[a-c]_").images["group"].unique().tolist() == [
        "train",
        "val",
    ]
    with pytest.raises(InputError, match="no named group"):
        opened(root, group_by="x")
    with pytest.raises(InputError, match="does not match"):
        opened(root, group_by="(?P<group>zzz)")
    with pytest.raises(InputError, match="not a regular expression"):
        opened(root, group_by="(")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere", "no such file or folder"),
        ("empty", "the folder is empty"),
        ("notes.txt", "not on disk"),
    ],
)
def test_paths_that_are_not_a_source(tmp_path: Path, spec: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=message):
        opened(tmp_path / spec)


def test_a_json_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    secret = image(tmp_path / "secret.jpg")
    (tmp_path / "d").mkdir()
    for name in (str(secret), "../secret.jpg"):
        content = {
            "images": [{"id": 1, "file_name": name}],
            "annotations": [],
            "categories": [{"id": 1, "name": "a"}],
        }
        (tmp_path / "d" / "gt.json").write_text(json.dumps(content))
        with pytest.raises(InputError, match="no usable image"):
            opened(tmp_path / "d" / "gt.json")


def test_results_use_the_ids_of_their_own_json(tmp_path: Path) -> None:
    """Image 12 has id 5 and image 5 has id 12; categories are numbered 7 and 3."""
    for number in (5, 12):
        image(tmp_path / "images" / f"{number}.jpg", seed=number)
    images = [{"id": 5, "file_name": "12.jpg"}, {"id": 12, "file_name": "5.jpg"}]
    content = {
        "images": images,
        "annotations": [],
        "categories": [{"id": 7, "name": "b"}, {"id": 3, "name": "a"}],
    }
    (tmp_path / "gt.json").write_text(json.dumps(content))
    source = opened(tmp_path / "gt.json")
    (tmp_path / "dt.json").write_text(
        json.dumps([{"image_id": 5, "category_id": 7, "bbox": [0, 0, 5, 5], "score": 0.5}])
    )
    detections = read_results(tmp_path / "dt.json", source, source.classes)
    assert detections[["image", "label"]].to_numpy().tolist() == [["images/12.jpg", 1]]
    (tmp_path / "dt.json").write_text(
        '[{"image_id": 5, "category_id": 7, "bbox": [0, 0, 5, 5], "score": NaN}]'
    )
    with pytest.raises(InputError, match="not finite"):
        read_results(tmp_path / "dt.json", source, source.classes)


def test_a_file_name_that_is_not_utf8_only_costs_that_file(tmp_path: Path) -> None:
    image(tmp_path / "f" / "good.png")
    bad = os.fsencode(tmp_path / "f") + b"/bad\xff.png"
    with open(bad, "wb") as handle:
        handle.write((tmp_path / "f" / "good.png").read_bytes())
    source = opened(tmp_path / "f")
    assert source.images["image"].tolist() == ["good.png"]
    assert source.ledger.loc[source.ledger["bucket"] == "failed", "reason"].tolist() == [
        "file name is not valid UTF-8; rename it"
    ]


# Layouts: names and positions of the parts of a dataset in common use.

LAYOUTS = {
    "split first": ("train/images", "train/labels", "valid/images", "valid/labels"),
    "one wrapper": ("holes/train/images", "holes/train/labels", "holes/valid/images", "holes/valid/labels"),
    "two wrappers": ("a/b/train/images", "a/b/train/labels", "a/b/valid/images", "a/b/valid/labels"),
    "validation": ("train/images", "train/labels", "validation/images", "validation/labels"),
    "kind first": ("images/train", "labels/train", "images/val", "labels/val"),
    "capitals": ("Train/Images", "Train/Labels", "Valid/Images", "Valid/Labels"),
    "three deep": ("a/b/c/train/images", "a/b/c/train/labels", "a/b/c/val/images", "a/b/c/val/labels"),
    "uneven": ("train/images", "train/labels", "more/valid/images", "more/valid/labels"),
    "siblings": ("one/train/images", "one/train/labels", "two/valid/images", "two/valid/labels"),
    "labels beside": ("train", "train", "val", "val"),
    "no images folder": ("train", "labels/train", "val", "labels/val"),
    "years": ("images/train2017", "labels/train2017", "images/val2017", "labels/val2017"),
    "imgs": ("train/imgs", "train/labels", "testing/imgs", "testing/labels"),
}


def lay_out(root: Path, layout: str) -> None:
    train_images, train_labels, other_images, other_labels = LAYOUTS[layout]
    for images, labels, names in ((train_images, train_labels, "ab"), (other_images, other_labels, "cde")):
        for number, name in enumerate(names):
            image(root / images / f"{name}.jpg", seed=ord(name))
            label(root / labels / f"{name}.txt", f"{number % 2} 0.5 0.5 0.25 0.5\n")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_without_a_yaml(tmp_path: Path, layout: str) -> None:
    lay_out(tmp_path / "d", layout)
    before = tree(tmp_path / "d")
    source = opened(tmp_path / "d", classes=CLASSES)
    other = "test" if layout == "imgs" else "val"
    assert source.images.groupby("split").size().to_dict() == {"train": 2, other: 3}
    assert source.images["labelled"].all()
    assert len(source.annotations) == 5
    assert source.ledger["bucket"].value_counts().to_dict() == {"used": 10}
    assert tree(tmp_path / "d") == before


def test_a_flat_folder_has_no_splits(tmp_path: Path) -> None:
    for name in "abc":
        image(tmp_path / "d" / "images" / f"{name}.jpg", seed=ord(name))
        label(tmp_path / "d" / "labels" / f"{name}.txt", "0 0.5 0.5 0.25 0.5\n")
    source = opened(tmp_path / "d", classes=CLASSES)
    assert set(source.images["split"]) == {""}
    assert len(source.annotations) == 3
    # The folder of images alone is the same dataset.
    part = opened(tmp_path / "d" / "images", classes=CLASSES)
    assert len(part.annotations) == 3
    assert len(part.ledger) == 6


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_yaml_is_found_where_exports_put_it(tmp_path: Path, depth: int) -> None:
    root = dataset(tmp_path.joinpath("d", *["w"] * depth))
    label(tmp_path / "d" / "readme.txt", "hello")
    source = opened(tmp_path / "d")
    assert source.kind == "yolo"
    assert len(source.images) == 5
    assert source.classes == ("pothole", "crack")
    assert (root / "data.yaml").is_file()


def test_two_datasets_in_one_folder_are_refused(tmp_path: Path) -> None:
    dataset(tmp_path / "d" / "one")
    dataset(tmp_path / "d" / "two")
    with pytest.raises(
        InputError, match=r"several datasets: one/data\.yaml, two/data\.yaml; name one, or several"
    ):
        opened(tmp_path / "d")
    both = open_source(f"{tmp_path / 'd' / 'one'},{tmp_path / 'd' / 'two'}", cache=tmp_path)
    assert len(both.images) == 10
    assert both.images["image"].is_unique
    assert both.annotations["image"].isin(both.images["image"]).all()
    assert len(both.ledger) == 22
    # Groups of the same name in two datasets are different groups.
    assert both.images["group"].nunique() == 6


def test_merged_sources_need_the_same_class_names(tmp_path: Path) -> None:
    dataset(tmp_path / "one")
    dataset(tmp_path / "two", "path: .\nval: images/val\nnames: [hole, crack]\n")
    with pytest.raises(InputError, match=r"two: its classes .* are not those of .*one"):
        open_source(f"{tmp_path / 'one'},{tmp_path / 'two'}", cache=tmp_path)
    # The same names in another order are matched by name.
    other_order = "path: .\nval: images/val\nnames: [crack, pothole]\n"
    (tmp_path / "two" / "data.yaml").write_text(other_order)
    alone = [open_source(str(tmp_path / name), cache=tmp_path) for name in ("one", "two")]
    both = open_source(f"{tmp_path / 'one'},{tmp_path / 'two'}", cache=tmp_path)
    assert both.classes == ("pothole", "crack")
    assert Counter(both.classes[label] for label in both.annotations["label"]) == sum(
        (Counter(source.classes[label] for label in source.annotations["label"]) for source in alone),
        Counter(),
    )
    # Its label files and its tables now number the classes differently.
    assert both.kind == "several"


def test_class_names_of_a_folder(tmp_path: Path) -> None:
    lay_out(tmp_path / "d", "kind first")
    label(tmp_path / "d" / "classes.txt", "hole\npatch\n")
    assert opened(tmp_path / "d").classes == ("hole", "patch")
    # The dataset defines the class numbers of its labels, not the model.
    source = opened(tmp_path / "d", classes=["patch", "hole", "crack"])
    assert source.classes == ("hole", "patch")
    mapped = with_classes(source, ["patch", "hole", "crack"], {})
    assert mapped.annotations["label"].value_counts().to_dict() == {1: 3, 0: 2}
    with pytest.raises(InputError, match="class names do not match"):
        with_classes(source, ["hole"], {})
    label(tmp_path / "d" / "images" / "classes.txt", "patch\nhole\n")
    with pytest.raises(InputError, match="name the classes differently"):
        opened(tmp_path / "d")


def test_unused_names_of_a_labelling_tool_are_ignored(tmp_path: Path) -> None:
    """LabelImg writes its fifteen predefined classes before the user's own."""
    image(tmp_path / "d" / "a.jpg")
    label(tmp_path / "d" / "a.txt", "15 0.5 0.5 0.25 0.5\n")
    label(tmp_path / "d" / "classes.txt", "".join(f"thing{i}\n" for i in range(15)) + "pothole\n")
    mapped = with_classes(opened(tmp_path / "d", classes=CLASSES), CLASSES, {})
    assert mapped.annotations["label"].tolist() == [0]


def test_a_list_of_images(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    label(root / "some.txt", "./images/val/c_001.jpg\nimages\\train\\a_001.jpg\n\nimages/val/gone.jpg\n")
    source = opened(root / "some.txt", classes=CLASSES)
    assert source.images[["image", "split", "labelled"]].to_numpy().tolist() == [
        ["images/val/c_001.jpg", "val", True],
        ["images/train/a_001.jpg", "train", True],
    ]
    failed = source.ledger[source.ledger["bucket"] == "failed"]
    assert failed["reason"].tolist() == ["listed in some.txt:4, but not on disk"]
    label(root / "data.yaml", "train: some.txt\nnames: [pothole, crack]\n")
    assert opened(root).images["split"].tolist() == ["train", "train"]


def voc_xml(size: tuple[int, int], *annotations: tuple[str, float, float, float, float, int]) -> str:
    rows = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin>"
        f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2, difficult in annotations
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{rows}</annotation>"


def voc(root: Path, images_in: str = "JPEGImages", labels_in: str = "Annotations") -> Path:
    for number, name in enumerate(("a_1", "a_2", "b_1")):
        image(root / images_in / f"{name}.jpg", seed=number)
        label(root / labels_in / f"{name}.xml", voc_xml((64, 48), ("pothole", 8, 4, 30, 20, 0)))
    return root


@pytest.mark.parametrize(
    "folders", [("JPEGImages", "Annotations"), ("images", "annotations"), (".", "."), ("train", "train")]
)
def test_pascal_voc(tmp_path: Path, folders: tuple[str, str]) -> None:
    root = voc(tmp_path / "VOC", *folders)
    source = opened(root)
    assert source.kind == "voc"
    assert source.classes == ("pothole",)
    assert (
        source.annotations[["label", "x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[0, 8, 4, 30, 20]] * 3
    )
    assert source.images["group"].tolist() == ["a", "a", "b"]
    assert source.ledger["bucket"].value_counts().to_dict() == {"used": 6}
    assert set(source.images["split"]) == ({"train"} if folders[0] == "train" else {""})


def test_voc_splits_difficult_boxes_and_rejected_boxes(tmp_path: Path) -> None:
    root = voc(tmp_path / "VOC")
    label(root / "ImageSets" / "Main" / "train.txt", "a_1\na_2\n")
    label(root / "ImageSets" / "Main" / "val.txt", "b_1\n")
    label(root / "ImageSets" / "Main" / "pothole_train.txt", "a_1 1\n")
    label(
        root / "Annotations" / "b_1.xml",
        voc_xml(
            (64, 48),
            ("pothole", 8, 4, 30, 20, 1),
            ("crack", 50, 4, 90, 20, 0),
            ("crack", 9, 9, 9, 20, 0),
            ("crack", 70, 4, 90, 20, 0),
            ("crack", "x", 0, 1, 1, 0),
        ),
    )
    source = opened(root)
    assert source.images["split"].tolist() == ["train", "train", "val"]
    assert source.classes == ("crack", "pothole")
    last = source.annotations[source.annotations["image"] == "JPEGImages/b_1.jpg"]
    assert last[["label", "x2", "crowd"]].to_numpy().tolist() == [[1, 30, True], [0, 64, False]]
    assert source.rows[["line", "action", "reason"]].to_numpy().tolist() == [
        [2, "repaired", "clipped at the edge"],
        [3, "rejected", "width or height is not positive"],
        [4, "rejected", "box lies outside the image"],
        [5, "rejected", "no usable bndbox"],
    ]
    # The model's order, where it has all the names.
    assert opened(root, classes=["pothole", "crack"]).classes == ("pothole", "crack")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<annotation>", "not valid XML"),
        ("<kml/>", "its root is <kml>"),
        (
            '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;</annotation>',
            "document type",
        ),
        (voc_xml((48, 64)), "before its EXIF rotation"),
        (voc_xml((640, 480)), "drawn on an image of 640x480; this one is 64x48"),
    ],
)
def test_a_voc_file_that_cannot_be_used_leaves_its_image_unlabelled(
    tmp_path: Path, content: str, reason: str
) -> None:
    root = voc(tmp_path / "VOC")
    label(root / "Annotations" / "b_1.xml", content)
    source = opened(root)
    assert source.images["labelled"].tolist() == [True, True, False]
    failed = source.ledger[source.ledger["bucket"] == "failed"]
    assert Path(failed["path"].iloc[0]).name == "b_1.xml"
    assert reason in failed["reason"].iloc[0]


@pytest.mark.slow
def test_voc_boxes_agree_with_fiftyone(tmp_path: Path, database: str) -> None:
    """FiftyOne is an independent reader."""
    import fiftyone as fo

    root = voc(tmp_path / "VOC")
    loaded = fo.Dataset.from_dir(
        dataset_type=fo.types.VOCDetectionDataset,
        data_path=str(root / "JPEGImages"),
        labels_path=str(root / "Annotations"),
    )
    fiftyone_boxes = sorted(
        [
            d.bounding_box[0] * 64,
            d.bounding_box[1] * 48,
            (d.bounding_box[0] + d.bounding_box[2]) * 64,
            (d.bounding_box[1] + d.bounding_box[3]) * 48,
        ]
        for sample in loaded
        for d in sample.ground_truth.detections
    )
    boxes = sorted(opened(root).annotations[["x1", "y1", "x2", "y2"]].to_numpy().tolist())
    np.testing.assert_allclose(fiftyone_boxes, boxes, atol=1e-6)
    loaded.delete()


def coco_content(*names: str, **image: object) -> dict:
    return {
        "images": [{"id": i, "file_name": name, **image} for i, name in enumerate(names, 1)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 3, "bbox": [4, 4, 20, 20]} for i, _ in enumerate(names, 1)
        ],
        "categories": [{"id": 3, "name": "pothole"}, {"id": 7, "name": "crack"}],
    }


def test_coco_in_its_own_layout(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        image(tmp_path / "coco" / split / "000001.jpg", seed=len(split))
        label(
            tmp_path / "coco" / "annotations" / f"instances_{split}.json",
            json.dumps(coco_content("000001.jpg")),
        )
    source = opened(tmp_path / "coco")
    assert source.kind == "coco"
    assert source.images["split"].tolist() == ["train", "val"]
    assert source.images["image"].is_unique
    assert source.annotations.groupby("image").size().tolist() == [1, 1]
    # One image id in two files means two images, so that results cannot refer to them by id.
    assert source.image_ids == {1: ""}
    one = opened(tmp_path / "coco" / "annotations" / "instances_val2017.json")
    assert one.images["split"].tolist() == ["val"]
    assert one.image_ids == {1: one.images["image"].iloc[0]}


def test_coco_with_a_json_in_each_split(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        image(tmp_path / "d" / split / "a.jpg", seed=len(split))
        label(tmp_path / "d" / split / "_annotations.coco.json", json.dumps(coco_content("a.jpg")))
    label(tmp_path / "d" / "readme.txt", "x")
    source = opened(tmp_path / "d")
    assert source.images["split"].tolist() == ["train", "val"]
    assert source.annotations.groupby("image").size().tolist() == [1, 1]


def test_coco_annotations_are_checked_one_by_one(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    content = coco_content("a.jpg", "a.jpg")
    content["annotations"] += [
        {"id": 3, "image_id": 1, "category_id": 3, "segmentation": [[2, 2, 30, 2, 30, 40]]},
        {"id": 4, "image_id": 1, "category_id": 3, "bbox": [50, 10, 30, 10]},
        {"id": 5, "image_id": 1, "category_id": 3, "bbox": [70, 10, 30, 10]},
        {"id": 6, "image_id": 1, "category_id": 3, "bbox": ["a", 1, 1, 1]},
        {"id": 7, "image_id": 1, "category_id": 4, "bbox": [1, 1, 5, 5]},
        {"id": 8, "image_id": 1, "category_id": 3, "segmentation": {"counts": "x", "size": [1, 1]}},
        "nothing",
    ]
    label(tmp_path / "gt.json", json.dumps(content))
    source = opened(tmp_path / "gt.json")
    # The image is listed twice: the boxes of both entries count, and one that both have counts once.
    assert len(source.annotations) == 3
    assert "listed more than once" in source.ledger["reason"].str.cat(sep=" ")
    assert source.rows[["line", "action", "reason"]].to_numpy().tolist() == [
        [1, "repaired", "duplicate annotation dropped"],
        [2, "repaired", "box taken from a polygon"],
        [3, "repaired", "clipped at the edge"],
        [4, "rejected", "box lies outside the image"],
        [5, "rejected", "annotation without a usable bbox or segmentation"],
        [6, "rejected", "category 4 is not in categories"],
        [7, "rejected", "annotation without a usable bbox or segmentation"],
        [8, "rejected", "annotation without a usable image_id or category_id"],
    ]


def test_coco_boxes_drawn_before_exif_rotation_are_left_out(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    label(tmp_path / "gt.json", json.dumps(coco_content("a.jpg", width=64, height=48)))
    source = opened(tmp_path / "gt.json")
    assert not source.images["labelled"].any()
    assert "before its EXIF rotation" in source.ledger["reason"].str.cat(sep=" ")


def test_classes_are_mapped_by_name(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d", "path: .\nval: images/val\nnames: [crack, Hole]\n")
    label(root / "labels/val/c_001.txt", "0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.2 0.2\n")
    source = opened(root)
    with pytest.raises(
        InputError, match=r"model has \{0: pothole\}, source has \{0: crack, 1: Hole\}; .*--class-map"
    ):
        with_classes(source, ["pothole"], {})
    with pytest.raises(InputError, match="class 'crack' is not one of the model's"):
        with_classes(source, ["pothole"], {"Hole": "pothole"})
    mapped = with_classes(source, ["pothole"], {"Hole": "pothole", "crack": ""})
    assert mapped.annotations[["image", "label"]].to_numpy().tolist() == [["images/val/c_001.jpg", 0]]
    assert mapped.rows["reason"].tolist() == ["class crack left out by --class-map"] * 2
    # COCO and VOC are matched by name.
    image(tmp_path / "c" / "a.jpg")
    label(tmp_path / "c" / "gt.json", json.dumps(coco_content("a.jpg")))
    named = with_classes(opened(tmp_path / "c" / "gt.json"), ["crack", "pothole", "patch"], {})
    assert named.annotations["label"].tolist() == [1]
    assert named.category_ids == {3: 1, 7: 0}


def test_poses_give_their_box(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d", "path: .\nval: images/val\nnames: [pothole, crack]\nkpt_shape: [2, 3]\n")
    label(root / "labels/val/c_001.txt", "0 0.5 0.5 0.25 0.5 0.4 0.4 0 0.6 0.6 1\n")
    source = opened(root)
    assert source.annotations[["x1", "y1", "x2", "y2"]].to_numpy().tolist() == [[24, 12, 40, 36]] * 2
    assert source.rows["reason"].tolist() == ["box taken from a pose"]


def test_splits_that_name_one_folder(tmp_path: Path) -> None:
    text = "train: images/train\nval: images/val\ntest: images/val\nnames: [pothole, crack]\n"
    source = opened(dataset(tmp_path / "d", text))
    assert source.images.groupby("split").size().to_dict() == {"train": 3, "val": 2}
    assert "2 images of 'test' also in 'val'" in source.ledger["reason"].str.cat(sep=" ")
    assert not source.trained_on
    same = opened(dataset(tmp_path / "e", "train: images\nval: images/val\nnames: [pothole, crack]\n"))
    assert same.trained_on
    assert set(same.images["split"]) == {"train"}
    assert "2 images of 'val' also in 'train'" in same.ledger["reason"].str.cat(sep=" ")
    repeated = opened(
        dataset(tmp_path / "f", "train: [images/train, images/train]\nnames: [pothole, crack]\n")
    )
    assert repeated.ledger["reason"].str.contains("also in").sum() == 0


def test_a_missing_test_split_is_reported(tmp_path: Path) -> None:
    text = "train: ../images/train\nval: ../images/val\ntest: ../test/images\nnames: [pothole, crack]\n"
    source = opened(dataset(tmp_path / "d", text))
    assert len(source.images) == 5
    assert "its test split ../test/images does not exist" in source.ledger["reason"].str.cat(sep=" ")


def test_every_file_enters_the_ledger_for_every_kind_of_source(tmp_path: Path) -> None:
    yolo = dataset(tmp_path / "yolo", "path: .\nval: images/val\nnames: [pothole, crack]\n")
    coco = tmp_path / "coco"
    image(coco / "val2017" / "1.jpg")
    image(coco / "test2017" / "2.jpg")
    label(coco / "annotations" / "instances_val2017.json", json.dumps(coco_content("1.jpg")))
    voc(tmp_path / "voc")
    image(tmp_path / "voc" / "SegmentationClass" / "a_1.png")
    lay_out(tmp_path / "plain", "kind first")
    for root in (yolo, coco, tmp_path / "voc", tmp_path / "plain"):
        label(root / "README.md", "hello")
        ledger = opened(root, classes=CLASSES).ledger
        assert not ledger["path"].duplicated().any()
        assert set(ledger["path"]) == {str(p) for p in root.rglob("*") if p.is_file()}, root
    buckets = opened(tmp_path / "voc").ledger.set_index("path")["reason"]
    assert buckets[str(tmp_path / "voc" / "SegmentationClass" / "a_1.png")] == "a mask, going by its folder"


def test_files_reached_through_a_link_are_listed_once(tmp_path: Path) -> None:
    for name in "ab":
        image(tmp_path / "d" / "store" / "tr" / f"{name}.jpg", seed=ord(name))
        label(tmp_path / "d" / "store" / "tr" / f"{name}.txt", "0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "d" / "train").symlink_to(tmp_path / "d" / "store" / "tr")
    label(tmp_path / "d" / "data.yaml", "train: train\nnames: [pothole]\n")
    source = opened(tmp_path / "d")
    assert source.images["image"].tolist() == ["train/a.jpg", "train/b.jpg"]
    assert len(source.ledger) == 5
    assert set(source.ledger["bucket"]) == {"used"}


@pytest.mark.parametrize("folders", [("train_images", "train_labels"), ("images_train", "labels_train")])
def test_kind_and_split_in_one_name(tmp_path: Path, folders: tuple[str, str]) -> None:
    image(tmp_path / "d" / folders[0] / "a.jpg")
    label(tmp_path / "d" / folders[1] / "a.txt", "0 0.5 0.5 0.2 0.2\n")
    source = opened(tmp_path / "d", classes=CLASSES)
    assert source.images[["split", "labelled"]].to_numpy().tolist() == [["train", True]]


@pytest.mark.parametrize("deep", ["", "Japan/", "x/y/z/VOCdevkit/"])
def test_voc_files_one_folder_further_down(tmp_path: Path, deep: str) -> None:
    """RDD2022 and the Oxford pets have annotations/xmls; archives add wrapper folders."""
    root = tmp_path / "d" / deep / "train"
    image(root / "images" / "a.jpg")
    label(root / "annotations" / "xmls" / "a.xml", voc_xml((64, 48), ("D40", 8, 4, 30, 20, 0)))
    source = opened(tmp_path / "d")
    assert source.kind == "voc"
    assert source.images[["split", "labelled"]].to_numpy().tolist() == [["train", True]]


def test_voc_files_in_their_declared_encoding(tmp_path: Path) -> None:
    root = voc(tmp_path / "VOC")
    text = '<?xml version="1.0" encoding="ISO-8859-1"?>' + voc_xml((64, 48), ("caf\u00e9", 8, 4, 30, 20, 0))
    (root / "Annotations" / "b_1.xml").write_bytes(text.encode("latin-1"))
    assert opened(root).classes == ("caf\u00e9", "pothole")


def test_a_yaml_of_any_name_is_found(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d", "val: images/val\nnames: [crack, pothole]\n")
    (root / "data.yaml").rename(root / "potholes.yaml")
    label(root / "hyp.yaml", "lr0: 0.01\n")
    assert opened(root, classes=CLASSES).classes == ("crack", "pothole")


@pytest.mark.parametrize(
    ("json_at", "images_at"), [("labels.json", "data"), ("result.json", "images"), ("train.json", "train")]
)
def test_coco_as_other_tools_write_it(tmp_path: Path, json_at: str, images_at: str) -> None:
    image(tmp_path / "d" / images_at / "a.jpg")
    label(tmp_path / "d" / json_at, json.dumps({"info": {"note": "x" * 500}, **coco_content("a.jpg")}))
    source = opened(tmp_path / "d")
    assert source.kind == "coco"
    assert len(source.annotations) == 1
    # An annotations.json of another tool is not a COCO file.
    label(tmp_path / "e" / "annotations.json", json.dumps({"a.jpg123": {"regions": []}}))
    image(tmp_path / "e" / "a.jpg")
    other = opened(tmp_path / "e", classes=CLASSES)
    assert other.kind == "folder"
    assert "neither COCO nor a known labelling tool's" in other.ledger["reason"].str.cat(sep=" ")


def test_categories_with_a_supercategory_of_the_same_name(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    content = coco_content("a.jpg")
    content["categories"] = [
        {"id": 0, "name": "potholes"},
        {"id": 1, "name": "pothole"},
        {"id": 3, "name": "pothole"},
    ]
    label(tmp_path / "gt.json", json.dumps(content))
    source = opened(tmp_path / "gt.json")
    assert source.classes == ("potholes", "pothole")
    assert with_classes(source, ["pothole"], {}).annotations["label"].tolist() == [0]


def test_coco_boxes_of_images_resized_later_are_left_out(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    label(tmp_path / "gt.json", json.dumps(coco_content("a.jpg", width=640, height=480)))
    source = opened(tmp_path / "gt.json")
    assert not source.images["labelled"].any()
    assert "drawn on an image of 640x480; this one is 64x48" in source.ledger["reason"].str.cat(sep=" ")


def test_coco_images_of_one_id_are_refused(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    content = coco_content("a.jpg")
    content["images"].append({"id": 1, "file_name": "b.jpg"})
    label(tmp_path / "gt.json", json.dumps(content))
    with pytest.raises(InputError, match=r"gt\.json: image 1 repeats the id 1"):
        opened(tmp_path / "gt.json")


def test_two_voc_folders_are_one_domain_by_name(tmp_path: Path) -> None:
    voc(tmp_path / "one")
    voc(tmp_path / "two")
    label(tmp_path / "two" / "Annotations" / "b_1.xml", voc_xml((64, 48), ("crack", 8, 4, 30, 20, 0)))
    both = open_source(f"{tmp_path / 'one'},{tmp_path / 'two'}", cache=tmp_path)
    assert both.classes == ("pothole", "crack")
    assert both.annotations["label"].tolist() == [0, 0, 0, 0, 0, 1]


def test_a_source_given_twice_counts_once(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    both = open_source(f"{root},{root}", cache=tmp_path)
    assert len(both.images) == 5
    assert len(both.annotations) == 5
    assert len(both.ledger) == 11


def test_a_darknet_list_is_relative_to_the_training_folder(tmp_path: Path) -> None:
    image(tmp_path / "d" / "obj_train_data" / "a.jpg")
    label(tmp_path / "d" / "obj_train_data" / "a.txt", "0 0.5 0.5 0.2 0.2\n")
    label(tmp_path / "d" / "train.txt", "data/obj_train_data/a.jpg\n")
    source = opened(tmp_path / "d" / "train.txt", classes=CLASSES)
    assert source.images["labelled"].tolist() == [True]


def test_an_image_whose_label_rows_are_all_rejected_is_unlabelled(tmp_path: Path) -> None:
    """All rows are in pixels: the image is not a background image, its labels are unknown."""
    root = dataset(tmp_path / "d")
    label(root / "labels/val/c_001.txt", "0 320 240 50 40\n0 32 24 50 40\n")
    source = opened(root)
    assert source.images.set_index("image")["labelled"].to_dict()["images/val/c_001.jpg"] is False
    failed = source.ledger[source.ledger["bucket"] == "failed"]
    assert failed["reason"].tolist() == ["none of its rows can be used; its image is kept as unlabelled"]
    assert len(source.rows) == 2


def test_labels_of_unknown_classes_are_said_with_their_ids(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    label(root / "labels/val/c_001.txt", "7 0.5 0.5 0.25 0.5\n8 0.5 0.5 0.25 0.5\n7 0.2 0.2 0.1 0.1\n")
    # One bad row beside a good one is no reason for this.
    label(root / "labels/val/c_002.txt", "0 0.5 0.5 0.25 0.5\n9 0.5 0.5 0.25 0.5\n")
    source = opened(root)
    assert source.images.loc[source.images["unusable"], "image"].tolist() == ["images/val/c_001.jpg"]
    line = unusable_labels(source)
    assert "no label row of 1 image can be used" in line
    assert "class 7 is not in 0..1 (2 rows)" in line
    assert "class 8 is not in 0..1 (1 row)" in line
    assert "class 9" not in line
    assert unusable_labels(opened(dataset(tmp_path / "whole"))) == ""


def test_videos_in_folders_of_splits_belong_to_them(tmp_path: Path) -> None:
    video(tmp_path / "d" / "train" / "a.mp4")
    video(tmp_path / "d" / "val" / "b.mp4", 21)
    source = opened(tmp_path / "d")
    assert source.images.groupby("group")["split"].unique().map(list).to_dict() == {
        "a": ["train"],
        "b": ["val"],
    }


@pytest.mark.parametrize(
    "text",
    [
        "x: " + "1:" * 200_000 + "1\nval: images/val\nnames: [pothole, crack]\n",
        "nc: 0x" + "f" * 5000 + "\nval: images/val\nnames: [pothole, crack]\n",
        "val: " + "n" * 5000 + "\nnames: [pothole, crack]\n",
        "path: ~nobody-of-this-name/x\nval: images/val\nnames: [pothole, crack]\n",
    ],
    ids=["base 60", "huge number", "long name", "no such user"],
)
@pytest.mark.timeout(900)
def test_a_hostile_yaml_neither_hangs_nor_crashes_the_reader(tmp_path: Path, text: str) -> None:
    message = ""
    try:
        assert len(opened(dataset(tmp_path / "d", text)).images) == 2
    except InputError as error:
        message = str(error)
    assert len(message) < 2000
    assert "data.yaml" in message or not message


def test_impossible_file_names_only_cost_their_line(tmp_path: Path) -> None:
    root = dataset(tmp_path / "d")
    label(root / "some.txt", "n" * 5000 + "\n~nobody/x.jpg\nimages/val/c_001.jpg\n")
    source = opened(root / "some.txt", classes=CLASSES)
    assert len(source.images) == 1
    # The list, its image and label file, and the data.yaml beside it, which names the classes.
    assert source.ledger["bucket"].value_counts().to_dict() == {"failed": 2, "used": 4}
    with pytest.raises(InputError, match="no such file or folder"):
        opened(tmp_path / ("n" * 5000))
    with pytest.raises(InputError, match="no such file or folder"):
        open_source("~nobody-of-this-name/x", cache=tmp_path)


def test_a_huge_class_number_only_costs_its_row(tmp_path: Path) -> None:
    image(tmp_path / "d" / "a.jpg")
    label(tmp_path / "d" / "a.txt", "1e30 0.5 0.5 0.1 0.1\n3 0.5 0.5 0.1 0.1\n")
    source = opened(tmp_path / "d")
    assert source.annotations["label"].tolist() == [3]
    assert source.rows["reason"].tolist() == ["class 1e30 is not a class number"]


@pytest.mark.slow
def test_fifteen_hundred_nested_folders(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    image(folder / "a.jpg")
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("f", dir_fd=descriptor)
        deeper = os.open("f", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = deeper
    os.close(descriptor)
    try:
        assert len(opened(tmp_path / "d").images) == 1
    finally:
        # pytest removes old folders recursively, which fails at this depth.
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)
