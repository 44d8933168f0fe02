"""Faults of data, downloads and machines, with their tests.

`python -m tests.fault_table` writes docs/faults.md.
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
GOOD = "0 0.5 0.5 0.25 0.25\n"


@dataclass(frozen=True)
class Fault:
    """One row of the table.

    id: F and a number.
    title: the fault.
    expected: what Shiftscope does with it.
    build: creates the fault below a folder and returns the command line, or None for `inspect FOLDER`.
    code: expected exit code.
    message: parts of the one-line error message, for a code other than 0.
    ledger: expected file name, bucket and part of the reason.
    rows: expected action and part of the reason of label rows.
    counts: expected values of the inspection.
    tests: other tests that cover it.
    untested: why it, or a part of it, is not tested.
    """

    id: str
    title: str
    expected: str
    build: Callable[[Path], list[str] | None] | None = None
    code: int = 0
    message: tuple[str, ...] = ()
    ledger: tuple[tuple[str, str, str], ...] = ()
    rows: tuple[tuple[str, str], ...] = ()
    counts: tuple[tuple[str, object], ...] = ()
    tests: tuple[str, ...] = ()
    untested: str = ""


def pixels(seed: int = 0, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def encoded(suffix: str = ".jpg", seed: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    return cv2.imencode(suffix, pixels(seed, size))[1].tobytes()


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def yolo(
    root: Path, labels: str | None = GOOD, yaml: str = "val: images/val\nnames: [pothole, crack]\n"
) -> None:
    """A dataset of one good image, and its yaml."""
    write(root / "images" / "val" / "good.jpg", encoded())
    if labels is not None:
        write(root / "labels" / "val" / "good.txt", labels)
    write(root / "data.yaml", yaml)


def with_image(name: str, content: bytes) -> Callable[[Path], None]:
    """A good dataset with one more file among the images."""

    def build(root: Path) -> None:
        yolo(root)
        write(root / "images" / "val" / name, content)

    return build


def with_labels(content: bytes | str) -> Callable[[Path], None]:
    """A dataset with this label file."""

    def build(root: Path) -> None:
        yolo(root)
        write(root / "labels" / "val" / "good.txt", content)

    return build


def with_yaml(text: str) -> Callable[[Path], None]:
    """A dataset with this data.yaml."""

    def build(root: Path) -> None:
        yolo(root, yaml=text)

    return build


def fractions(root: Path) -> None:
    """A COCO file whose boxes are fractions."""
    write(root / "good.jpg", encoded())
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0.2, 0.3, 0.4, 0.5]}
    listed = [{"id": 1, "file_name": "good.jpg", "width": 64, "height": 48}]
    content = {"images": listed, "annotations": [annotation], "categories": [{"id": 1, "name": "pothole"}]}
    write(root / "gt.json", json.dumps(content))


def masks(root: Path) -> None:
    """A COCO file of masks marked iscrowd: one readable, one not."""
    listed = [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 48} for n in (1, 2)]
    for n in (1, 2):
        write(root / f"{n}.jpg", encoded(seed=n))
    # Column 10, rows 4 to 13.
    runs = {"size": [48, 64], "counts": [10 * 48 + 4, 10, 48 * 53 + 34]}
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": runs, "iscrowd": 1},
        {"id": 2, "image_id": 2, "category_id": 1, "segmentation": {"size": [48, 64]}, "iscrowd": 1},
    ]
    content = {"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "pothole"}]}
    write(root / "gt.json", json.dumps(content))


def ids_from_one(root: Path) -> None:
    """A YOLO dataset whose ids count from 1."""
    yolo(root, "".join(f"{1 + n % 2} 0.{n + 2} 0.5 0.1 0.2\n" for n in range(6)))


def sequences(root: Path) -> None:
    """Frames by number in a folder a flight."""
    for flight in ("M0101", "M0202"):
        for n in range(3):
            write(root / "images" / flight / f"img{n:06d}.jpg", encoded(seed=n))


def foreign_paths(root: Path) -> None:
    """A data.yaml from another machine, with what a training left beside it."""
    yolo(root, yaml="path: /content/road\nval: /content/road/images/val\nnames: [pothole, crack]\n")
    write(root / "runs" / "detect" / "train" / "train_batch0.jpg", encoded(seed=9))


def odd_modes(root: Path) -> None:
    yolo(root)
    base = Image.new("RGB", (30, 20), (200, 100, 50))
    folder = root / "images" / "val"
    base.convert("CMYK").save(folder / "cmyk.jpg")
    base.convert("L").save(folder / "grey.png")
    base.convert("RGBA").save(folder / "alpha.png")
    base.convert("P").save(folder / "palette.png")
    Image.fromarray(np.full((20, 30), 30_000, np.uint16)).save(folder / "deep.png")
    base.save(folder / "pages.tif", save_all=True, append_images=[base, base])


def bomb_png(side: int = 30_000) -> bytes:
    """A PNG of a few hundred bytes whose header declares 900 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


def irregular(root: Path) -> None:
    yolo(root)
    folder = root / "images" / "val"
    (folder / "loop").symlink_to(folder)
    (folder / "dangling.jpg").symlink_to(root / "nowhere.jpg")
    (folder / "device.jpg").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(root / "labels" / "val" / "pipe.txt")
    (folder / "folder.jpg").mkdir()


STRANGE = (
    "with space.jpg",
    "per%cent.jpg",
    "ha#sh.jpg",
    "quest?ion.jpg",
    "quo'te\".jpg",
    "new\nline.jpg",
    "e\u0301.jpg",
    "\u00e9.jpg",
    "x" * 251 + ".jpg",
)


def strange_names(root: Path) -> None:
    yolo(root)
    for number, name in enumerate(STRANGE):
        write(root / "images" / "val" / name, encoded(seed=number))
        write(root / "labels" / "val" / (name.removesuffix(".jpg") + ".txt"), GOOD)
    with open(os.fsencode(root / "images" / "val") + b"/bad\xff.jpg", "wb") as handle:
        handle.write(encoded())


def case_twins(root: Path) -> None:
    yolo(root)
    write(root / "images" / "val" / "GOOD.jpg", encoded(seed=5))
    write(root / "labels" / "val" / "GOOD.txt", "")


def shared_label(root: Path) -> None:
    yolo(root)
    write(root / "images" / "val" / "good.png", encoded(".png", 3))
    write(root / "images" / "val" / "deeper" / "good.jpg", encoded(seed=4))


def missing_and_empty(root: Path) -> None:
    yolo(root)
    write(root / "images" / "val" / "unlabelled.jpg", encoded(seed=1))
    write(root / "images" / "val" / "background.jpg", encoded(seed=2))
    write(root / "labels" / "val" / "background.txt", "\n \n")


def unlabelled(root: Path) -> None:
    for number in range(3):
        write(root / f"{number}.jpg", encoded(seed=number))


def dangerous(root: Path) -> None:
    yolo(root)
    bomb = b"cos\nsystem\n(S'touch pwned'\ntR."
    write(root / "labels" / "val.cache", bomb)
    write(root / "labels" / "val" / "good.npy", bomb)
    write(root / "images" / "val" / "good.npy", bomb)
    write(root / "weights.pt", bomb)


def reversed_splits(root: Path) -> None:
    yolo(root, yaml="train: images/val\nval: images/val\nnames: [pothole]\n")


def video(
    path: Path, frames: int, *, codec: str = "mpeg4", size: tuple[int, int] = (64, 48), rate: int = 10
) -> Path:
    """A video of moving noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = pixels(3, (size[0] * 2, size[1] * 2))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            x = (2 * number + 5 * (number // 37)) % size[0]
            view = np.ascontiguousarray(base[: size[1], x : x + size[0]])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="bgr24")))
        container.mux(stream.encode())
    return path


def without_index(root: Path) -> None:
    one_image(root)
    raw = video(root / "cut.mp4", 30).read_bytes()
    (root / "cut.mp4").write_bytes(raw[: len(raw) // 2])


def one_image(root: Path) -> None:
    write(root / "good.jpg", encoded())


def broken_tail(root: Path) -> list[str]:
    raw = video(root / "tail.avi", 60).read_bytes()
    (root / "tail.avi").write_bytes(raw[: int(len(raw) * 0.8)])
    return ["inspect", str(root / "tail.avi")]


def other_media(root: Path) -> None:
    one_image(root)
    with av.open(str(root / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    Image.new("P", (20, 20)).save(root / "moving.gif")


def hostile_names(root: Path) -> None:
    yolo(root)
    for number, name in enumerate(
        ("<script>alert(1)<", "=HYPERLINK(1)", "$\\frac$", "_x", "\u202egpj", "a`b|c")
    ):
        write(root / "images" / "val" / f"{name}.jpg", encoded(seed=number))


def windows_paths(root: Path) -> None:
    yolo(root, yaml="path: C:\\data\\holes\nval: images\\val\nnames: [pothole, crack]\n")


def decimal_commas(root: Path) -> None:
    yolo(root, labels="0 0,5 0,5 0,25 0,25\n")


def typo(root: Path) -> list[str]:
    return ["report", "--cofn", "0.3"]


def coco(root: Path, **change: object) -> None:
    """A COCO dataset of one image."""
    write(root / "images" / "a.jpg", encoded())
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20]}],
        "categories": [{"id": 1, "name": "pothole"}],
        **change,
    }
    write(root / "gt.json", json.dumps(content))


def no_images(root: Path) -> None:
    (root / "empty").mkdir(parents=True)


def bad_checkpoint(content: bytes) -> Callable[[Path], list[str]]:
    def build(root: Path) -> list[str]:
        yolo(root)
        write(root / "best.pt", content)
        return ["report", "--weights", str(root / "best.pt"), "--in-domain", str(root), "--no-fiftyone"]

    return build


def incomplete_run(root: Path) -> list[str]:
    (root / "run" / "weights").mkdir(parents=True)
    write(root / "run" / "args.yaml", "imgsz: 64\n")
    return ["report", "--run", str(root / "run"), "--no-fiftyone"]


def missing_weights(root: Path) -> list[str]:
    yolo(root, yaml="train: images/val\nval: images/val2\nnames: [pothole, crack]\n")
    write(root / "images" / "val2" / "b.jpg", encoded(seed=2))
    write(root / "labels" / "val2" / "b.txt", GOOD)
    return ["train", str(root), "--model", "yolo26n.pt", "--epochs", "1"]


def unknown_image(root: Path) -> list[str]:
    coco(root)
    write(
        root / "dt.json", json.dumps([{"image_id": 99, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}])
    )
    return [
        "report",
        "--in-domain",
        str(root / "gt.json"),
        "--predictions",
        f"in-domain={root / 'dt.json'}",
        "--no-fiftyone",
    ]


def not_finite(root: Path) -> list[str]:
    coco(root)
    write(root / "dt.json", '[{"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": NaN}]')
    return [
        "report",
        "--in-domain",
        str(root / "gt.json"),
        "--predictions",
        f"in-domain={root / 'dt.json'}",
        "--no-fiftyone",
    ]


def truncated_history(root: Path) -> list[str]:
    write(
        root / "results.csv",
        "  epoch ,  metrics/mAP50(B), metrics/mAP50-95(B)\n"
        "1, 0.1, 0.05\n2, 0.2, 0.1\n2, 0.3, 0.15\n3, 0.4, 0.2\n4, .",
    )
    return ["triage", "--history", str(root / "results.csv"), "--real-world-ap50", "0.1"]


FAULTS: tuple[Fault, ...] = (
    Fault(
        "F01",
        "zero-byte image",
        "failed: empty file",
        with_image("empty.jpg", b""),
        ledger=(("empty.jpg", "failed", "empty file"),),
    ),
    Fault(
        "F02",
        "web page saved as .jpg",
        "failed; the reason says what it is",
        with_image("page.jpg", b"<!DOCTYPE html><html>404"),
        ledger=(("page.jpg", "failed", "it is a web page"),),
    ),
    Fault(
        "F03",
        "JPEG cut short",
        "failed when decoded; in the ledger, and exit code 4",
        tests=(
            "test_command_line.py::test_a_report_with_untrained_weights_says_undertrained",
            "test_sources.py::test_a_truncated_jpeg_fails_and_one_without_its_end_marker_does_not",
        ),
    ),
    Fault(
        "F04",
        "JPEG without end marker, or with bytes after it",
        "used; the file is not changed",
        tests=(
            "test_sources.py::test_a_jpeg_without_its_end_marker_or_with_more_behind_it_is_used_as_it_is",
        ),
    ),
    Fault(
        "F05",
        "PNG named .jpg",
        "used; the ledger notes it",
        with_image("png.jpg", encoded(".png")),
        ledger=(("png.jpg", "used", "content is PNG"),),
    ),
    Fault(
        "F06",
        "EXIF orientation 1 to 8",
        "turned upright, compared pixel by pixel",
        tests=("test_sources.py::test_images_are_turned_upright",),
    ),
    Fault(
        "F07",
        "CMYK, 16 bit, grey, alpha, palette, several pages",
        "used; the ledger notes the conversion",
        odd_modes,
        ledger=(
            ("cmyk.jpg", "used", "mode CMYK, converted"),
            ("alpha.png", "used", "mode RGBA"),
            ("palette.png", "used", "mode P"),
            ("deep.png", "used", "mode I;16"),
            ("grey.png", "used", ""),
            ("pages.tif", "used", "the first of 3 pages"),
        ),
        tests=(
            "test_sources.py::test_unusual_modes_decode",
            "test_sources.py::test_sixteen_bits_keep_their_upper_eight",
        ),
    ),
    Fault(
        "F08",
        "image with a side under 10 pixels",
        "failed: too small",
        with_image("tiny.png", encoded(".png", size=(9, 40))),
        ledger=(("tiny.png", "failed", "too small (9x40"),),
    ),
    Fault(
        "F09",
        "900 megapixels in a few hundred bytes",
        "failed, never decoded",
        with_image("bomb.png", bomb_png()),
        ledger=(("bomb.png", "failed", "900 megapixels in"),),
    ),
    Fault(
        "F10",
        "HEIC, also under another name",
        "skipped; the reason says how to convert it",
        lambda root: (
            with_image("a.heic", b"\0\0\0\x18ftypheic")(root),
            write(root / "images/val/b.jpg", b"\0\0\0\x18ftypheic"),
        )[0],
        ledger=(("a.heic", "skipped", "convert it to JPEG"), ("b.jpg", "failed", "HEIC")),
    ),
    Fault(
        "F11",
        "image unreadable, or deleted during a run",
        "failed; the next run uses it",
        tests=("test_faults.py::test_an_image_deleted_during_a_run_only_costs_that_image",),
    ),
    Fault(
        "F12",
        "cyclic and dangling links, pipes, devices",
        "skipped; nothing hangs",
        irregular,
        ledger=(
            ("loop", "skipped", "already read"),
            ("dangling.jpg", "skipped", "link to nowhere"),
            ("device.jpg", "skipped", "leads out"),
            ("pipe.jpg", "skipped", "not a regular file"),
        ),
    ),
    Fault(
        "F13",
        "file names with spaces, %, #, ?, quotes, line breaks, 255 bytes, NFC and NFD, invalid UTF-8",
        "used; invalid UTF-8 failed",
        strange_names,
        ledger=(*((name, "used", "") for name in STRANGE), ("bad\\xff.jpg", "failed", "not valid UTF-8")),
        counts=(("boxes", 1 + len(STRANGE)),),
    ),
    Fault(
        "F14",
        "file names that differ only in case",
        "two images",
        case_twins,
        counts=(("images", 2), ("labelled_images", 2), ("background_images", 1)),
    ),
    Fault(
        "F15",
        "a.jpg and a.png share a.txt; one file name in two folders",
        "the second is unlabelled and noted; ids are paths",
        shared_label,
        ledger=(("good.png", "used", "unlabelled: good.txt is also the label file of good.jpg"),),
        counts=(("images", 3), ("labelled_images", 1)),
    ),
    Fault(
        "F16",
        "copies across train and val",
        "counted; AP with and without them",
        tests=("test_diagnostics.py::test_only_planted_copies_are_reported_as_duplicates",),
    ),
    Fault(
        "F17",
        "label file missing or empty",
        "unlabelled or background, counted separately",
        missing_and_empty,
        ledger=(("unlabelled.jpg", "used", "not as background"),),
        counts=(("labelled_images", 2), ("background_images", 1)),
    ),
    Fault(
        "F18",
        "label without an image",
        "skipped",
        lambda root: (yolo(root), write(root / "labels/val/orphan.txt", GOOD))[0],
        ledger=(("orphan.txt", "skipped", "label without an image"),),
    ),
    Fault(
        "F19",
        "no labels at all",
        "unlabelled: an estimated AP50, no AP",
        unlabelled,
        counts=(("labelled_images", 0), ("images", 3)),
        tests=("test_main_job.py::test_the_video_has_no_ap_but_an_estimate_without_labels",),
    ),
    Fault(
        "F20",
        "class out of range, negative, fractional, or a name",
        "row rejected; a known class name is accepted",
        with_labels(
            "2 0.5 0.5 0.1 0.1\n-1 0.5 0.5 0.1 0.1\n0.5 0.5 0.5 0.1 0.1\n"
            "crater 0.5 0.5 0.1 0.1\ncrack 0.5 0.5 0.1 0.1\n"
        ),
        rows=(
            ("rejected", "class 2 is not in 0..1"),
            ("rejected", "class -1"),
            ("rejected", "class 0.5"),
            ("rejected", "neither a number nor one of the names"),
        ),
        counts=(("boxes", 1), ("labelled_images", 1)),
    ),
    Fault(
        "F21",
        "columns missing, commas, pixels",
        "row rejected; the reason names the likely cause",
        with_labels("0 0.5 0.5 0.1\n0,0.5,0.5,0.1,0.1\n0 320 240 50 40\n0 0.5 0.5 0.1 0.1 0.9\n"),
        rows=(
            ("rejected", "4 columns"),
            ("rejected", "comma-separated"),
            ("rejected", "look like pixels"),
            ("rejected", "prediction with confidence"),
        ),
    ),
    Fault(
        "F22",
        "not finite, no area, negative, beyond the edge",
        "rejected or clipped",
        with_labels(
            "0 nan 0.5 0.1 0.1\n0 inf 0.5 0.1 0.1\n0 0.5 0.5 0 0\n0 0.5 0.5 -0.1 0.1\n"
            "0 0.98 0.5 0.1 0.1\n0 3 0.5 0.1 0.1\n"
        ),
        rows=(
            ("rejected", "not finite"),
            ("rejected", "not positive"),
            ("repaired", "clipped at the edge"),
            ("rejected", "look like pixels"),
        ),
        counts=(("boxes", 1),),
    ),
    Fault(
        "F23",
        "predictions that are not finite",
        "refused; the message gives the position",
        not_finite,
        code=2,
        message=("dt.json", "detection 0", "not finite"),
        tests=("test_faults.py::test_a_model_that_computes_nan_is_refused",),
    ),
    Fault(
        "F24",
        "a row twice",
        "counted once; the ledger notes it",
        with_labels(GOOD * 2),
        rows=(("repaired", "duplicate row dropped"),),
        counts=(("boxes", 1),),
    ),
    Fault(
        "F25",
        "BOM, UTF-16, binary, 100 MB",
        "read, or failed; the reason names the encoding",
        lambda root: (
            with_labels(b"\xef\xbb\xbf" + GOOD.encode())(root),
            *(write(root / f"images/val/{n}.jpg", encoded(seed=i)) for i, n in enumerate("abc", 3)),
            write(root / "labels/val/a.txt", GOOD.encode("utf-16")),
            write(root / "labels/val/b.txt", bytes(range(128, 256))),
            write(root / "labels/val/c.txt", b"0 0.5 0.5 0.1 0.1\n" * 1_300_000),
        )[0],
        ledger=(
            ("good.txt", "used", ""),
            ("a.txt", "failed", "UTF-16"),
            ("b.txt", "failed", "not text"),
            ("c.txt", "failed", "over 16 MB"),
        ),
        counts=(("boxes", 1), ("labelled_images", 1)),
    ),
    Fault(
        "F26",
        "polygons, rotated boxes, poses",
        "polygons become boxes and are counted; poses are rejected; models without boxes are refused",
        with_labels(
            "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n0 0.1 0.2 0.3 0.2 0.2 0.4\n"
            "0 0.5 0.5 0.1 0.1 0.2 0.2 2 0.3 0.3 2 0.4 0.4 1\n"
        ),
        rows=(("repaired", "box taken from a polygon"), ("rejected", "columns")),
        counts=(("boxes", 2),),
        tests=("test_faults.py::test_a_model_without_boxes_is_refused",),
    ),
    Fault(
        "F27",
        "yaml broken, with tabs, with a repeated key, or not a mapping",
        "refused with line and column",
        with_yaml("val: images/val\nnames: [a]\nnames: [b]\n"),
        code=2,
        message=("data.yaml:3:1", "occurs twice"),
        tests=("test_sources.py::test_a_broken_yaml_is_refused_with_position_and_cause",),
    ),
    Fault(
        "F28",
        "paths wrong, ../train, stale path:, backslashes",
        "resolved, or refused with every path that was tried",
        windows_paths,
        counts=(("images", 1), ("boxes", 1)),
        tests=(
            "test_sources.py::test_exported_yaml_with_dots_before_the_splits",
            "test_sources.py::test_a_broken_yaml_is_refused_with_position_and_cause",
        ),
    ),
    Fault(
        "F29",
        "class names missing, with gaps, repeated, in another order",
        "refused with both lists; --class-map maps the names",
        with_yaml("val: images/val\nnames: {0: a, 2: b}\n"),
        code=2,
        message=("data.yaml", "without gaps"),
        tests=(
            "test_sources.py::test_a_broken_yaml_is_refused_with_position_and_cause",
            "test_sources.py::test_classes_are_mapped_by_name",
        ),
    ),
    Fault(
        "F30",
        "data.yaml with download:",
        "not run; the ledger notes it",
        with_yaml("val: images/val\nnames: [pothole, crack]\ndownload: |\n  open('pwned', 'w').close()\n"),
        ledger=(("data.yaml", "used", "'download:' was not run"),),
    ),
    Fault(
        "F31",
        "val is train, or overlaps with it",
        "noted in the ledger; a report says that its in-domain images are training images",
        reversed_splits,
        ledger=(("data.yaml", "used", "also in 'train'"),),
        tests=("test_faults.py::test_validation_images_within_training_are_reported",),
    ),
    Fault(
        "F32",
        "no image, no prediction, no annotation, a class without annotations",
        "refused, or the reason in place of a number",
        no_images,
        code=2,
        message=("no usable image found",),
        tests=(
            "test_scoring.py::test_an_empty_ground_truth_has_no_metrics",
            "test_faults.py::test_one_image_and_a_class_without_annotations",
        ),
    ),
    Fault(
        "F33",
        "slice with few annotations",
        "no number, or greyed out with its interval",
        tests=(
            "test_main_job.py::test_slices_equal_pycocotools",
            "test_slices.py::test_too_few_clips_are_not_searched",
        ),
    ),
    Fault(
        "F34",
        "detection on an unknown image",
        "refused; the message gives the first ids",
        unknown_image,
        code=2,
        message=("dt.json", "first ids [99]"),
    ),
    Fault(
        "F35",
        "labels.cache, .npy and .pt beside the data",
        "never read; the ledger notes it",
        dangerous,
        ledger=(
            ("val.cache", "skipped", "could run code"),
            ("good.npy", "skipped", "could run code"),
            ("weights.pt", "skipped", "could run code"),
        ),
    ),
    Fault(
        "F36",
        "checkpoint empty, truncated, of another kind or task",
        "refused before any work",
        bad_checkpoint(b""),
        code=2,
        message=("best.pt", "not a usable checkpoint"),
        tests=(
            "test_forward.py::test_a_file_that_is_no_checkpoint_is_refused",
            "test_faults.py::test_a_model_without_boxes_is_refused",
        ),
    ),
    Fault(
        "F37",
        "checkpoint that needs an unknown module",
        "refused; nothing is installed",
        tests=("test_faults.py::test_a_checkpoint_of_an_unknown_module_is_refused",),
    ),
    Fault(
        "F38",
        "run folder without weights or args.yaml, or with a truncated results.csv",
        "refused, or the complete epochs are used",
        incomplete_run,
        code=2,
        message=("weights/best.pt",),
        tests=("test_forward.py::test_a_run_folder_is_read_and_its_problems_are_reported",),
    ),
    Fault(
        "F39",
        "results.csv padded, with repeated epochs, truncated",
        "last row of each complete epoch",
        truncated_history,
        tests=("test_faults.py::test_a_truncated_history_keeps_its_complete_epochs",),
    ),
    Fault(
        "F40",
        "video without index",
        "failed; the reason says how to repair it",
        without_index,
        ledger=(("cut.mp4", "failed", "re-encode it"),),
    ),
    Fault(
        "F41",
        "video with a broken tail",
        "used up to there; the ledger notes it",
        broken_tail,
        ledger=(("tail.avi", "used", "declared"),),
    ),
    Fault(
        "F42",
        "variable frame rate, frames out of order, rotation",
        "frames by presentation time, upright",
        tests=(
            "test_faults.py::test_frames_are_keyed_by_presentation_time",
            "test_faults.py::test_a_rotated_video_is_turned_upright",
        ),
    ),
    Fault(
        "F43",
        "sound only, GIF, change of frame size, addresses",
        "skipped or failed with a reason; addresses refused",
        other_media,
        ledger=(("sound.mp4", "failed", "no video stream"), ("moving.gif", "skipped", "not a photograph")),
        tests=(
            "test_faults.py::test_an_address_is_not_opened",
            "test_faults.py::test_a_video_that_changes_its_size_is_used_until_then",
        ),
    ),
    Fault(
        "F44",
        "video of two hours",
        "plan printed first; memory bounded",
        tests=("test_faults.py::test_two_hours_of_video_in_bounded_memory",),
    ),
    Fault(
        "F45",
        "mongod of another folder is running",
        "not used",
        tests=("test_database.py::test_the_database_of_another_folder_is_not_joined",),
    ),
    Fault(
        "F46",
        "several runs start at once",
        "each gets its database",
        tests=("test_database.py::test_three_processes_that_start_at_once_all_get_the_database",),
    ),
    Fault(
        "F47",
        "mongod left running",
        "reported with its process number within seconds",
        tests=("test_database.py::test_an_orphaned_mongod_is_named",),
    ),
    Fault(
        "F48",
        "mongod killed in use",
        "reported within seconds; the next use works",
        tests=(
            "test_database.py::test_a_mongod_killed_in_use_ends_the_command_and_the_next_one_works",
            "test_app.py::test_a_dataset_that_the_database_lost_is_written_again",
        ),
    ),
    Fault(
        "F49",
        "killed at any stage",
        "the next run gives the same result",
        tests=(
            "test_command_line.py::test_killed_at_every_stage_the_next_run_ends_the_same",
            "test_training.py::test_a_killed_training_is_resumed",
        ),
    ),
    Fault(
        "F50",
        "disk of the database full",
        "reported before the database is started",
        tests=("test_database.py::test_a_full_disk_is_reported_before_anything_is_started",),
    ),
    Fault(
        "F51",
        "disk of the report full or read-only",
        "no partial file; exit code 3",
        tests=(
            "test_faults.py::test_a_full_disk_leaves_no_half_report",
            "test_faults.py::test_an_output_folder_that_cannot_be_written",
        ),
    ),
    Fault(
        "F52",
        "database of a newer FiftyOne",
        "not changed; both versions are reported",
        tests=("test_database.py::test_a_database_of_a_newer_fiftyone_is_not_changed",),
    ),
    Fault(
        "F53",
        "mongod not available for this system",
        "the report is written without it",
        tests=(
            "test_main_job.py::test_a_report_works_without_a_database",
            "test_database.py::test_a_mongod_that_cannot_run_is_reported",
        ),
    ),
    Fault(
        "F54",
        "colliding names of datasets and fields",
        "kept distinct; other datasets are not changed",
        tests=(
            "test_workbench.py::test_domains_and_slices_with_similar_names_do_not_collide",
            "test_workbench.py::test_other_datasets_stay_unchanged",
        ),
    ),
    Fault(
        "F55",
        "port of the App taken",
        "another port is used and reported",
        tests=("test_database.py::test_an_occupied_port_is_not_joined",),
    ),
    Fault(
        "F56",
        "home folder not writable",
        "reported with the variable to set",
        tests=(
            "test_database.py::test_a_folder_that_cannot_be_written_is_reported",
            "test_faults.py::test_a_home_folder_that_cannot_be_written",
        ),
    ),
    Fault(
        "F57",
        "modules that shadow a library",
        "`doctor` names the file and the library",
        tests=("test_faults.py::test_doctor_reports_a_shadowed_library",),
    ),
    Fault(
        "F58",
        "two OpenCVs; no GPU; GPU out of memory",
        "`doctor` gives the command that fixes it",
        tests=("test_faults.py::test_doctor_reports_two_opencvs",),
        untested="GPU out of memory, because tests run without a GPU",
    ),
    Fault(
        "F59",
        "no network, and a checkpoint to download",
        "refused; nothing hangs",
        missing_weights,
        code=2,
        message=("yolo26n.pt", "could not be fetched"),
    ),
    Fault(
        "F60",
        "Kaggle: credentials, 401, 403, 404, 429, terms, versions",
        "a message of its own for each; versions are pinned",
        tests=(
            "test_kaggle.py::test_kaggle_http_errors_are_explained",
            "test_kaggle.py::test_a_handle_opens_as_a_dataset_and_is_pinned",
        ),
    ),
    Fault(
        "F61",
        "Kaggle: interrupted, corrupt, files missing after completion",
        "resumed, refused, downloaded again",
        tests=(
            "test_kaggle.py::test_a_broken_download_resumes",
            "test_kaggle.py::test_a_corrupt_download_is_deleted",
            "test_kaggle.py::test_missing_and_changed_files_are_downloaded_again",
        ),
    ),
    Fault(
        "F62",
        "archive with ../, absolute names, links, decompression bombs, a million files",
        "refused; the message gives the limit; links are skipped",
        tests=(
            "test_kaggle.py::test_hostile_archives_are_refused_and_leave_nothing",
            "test_kaggle.py::test_links_and_devices_are_skipped",
            "test_kaggle.py::test_a_million_files_are_too_many",
        ),
    ),
    Fault(
        "F63",
        "hostile file and class names",
        "inert on the page, in CSV and in figures",
        hostile_names,
        counts=(("images", 7),),
        tests=(
            "test_main_job.py::test_hostile_names_stay_text",
            "test_faults.py::test_a_hostile_dataset_gives_a_report_and_nothing_else",
        ),
    ),
    Fault(
        "F64",
        "wrong clocks, modification times kept by unpacking",
        "content decides, not time",
        tests=("test_faults.py::test_changes_are_recognised_by_content_not_by_time",),
    ),
    Fault(
        "F65",
        "locale C, decimal commas, other time zones",
        "UTF-8, decimal points, UTC",
        decimal_commas,
        rows=(("rejected", "decimal comma"),),
        tests=("test_faults.py::test_the_locale_changes_nothing",),
    ),
    Fault(
        "F66",
        "Colab and Jupyter: kernels restarted, folders deleted",
        "a killed run resumes",
        untested="tests run no notebook server; a kernel restart kills the process, which F49 tests",
    ),
    Fault(
        "F67",
        "other batches, orders, processes",
        "the same numbers",
        tests=(
            "test_forward.py::test_a_batch_gives_the_results_of_single_images",
            "test_forward.py::test_image_order_is_kept_and_equal_files_are_predicted_once",
            "test_command_line.py::test_killed_at_every_stage_the_next_run_ends_the_same",
        ),
        untested="GPU against CPU",
    ),
    Fault(
        "F68",
        "report too large for a browser",
        "one page under 20 MB that opens from disk",
        tests=(
            "test_main_job.py::test_the_page_opens_offline_and_answers_first",
            "test_faults.py::test_the_page_stays_small",
        ),
    ),
    Fault(
        "F69",
        "mistyped option",
        "refused; the correct option is suggested",
        typo,
        code=2,
        message=("--cofn", "--conf"),
    ),
    Fault(
        "F70",
        "two runs write to one folder",
        "the second is refused; a dead run's lock is free",
        tests=("test_command_line.py::test_two_runs_do_not_write_one_report",),
    ),
    Fault(
        "F71",
        "boxes as fractions, percent or corners where pixels or sizes belong",
        "refused; the message says what they look like",
        fractions,
        code=2,
        message=("gt.json", "look like fractions of the image"),
        tests=(
            "test_plausibility.py::test_every_other_reading_is_recognised",
            "test_formats.py::test_fractions_where_pixels_belong_are_refused",
            "test_plausibility.py::test_score_refuses_what_would_give_nought",
        ),
    ),
    Fault(
        "F72",
        "class ids that count from 1, or mean other classes",
        "refused, or said on the first screen",
        ids_from_one,
        code=2,
        message=("good.txt", "count from 1"),
        tests=(
            "test_plausibility.py::test_label_ids_from_one_are_refused_and_a_stray_id_costs_its_row",
            "test_plausibility.py::test_a_report_says_that_classes_are_numbered_differently",
        ),
    ),
    Fault(
        "F73",
        "masks without boxes; every annotation marked iscrowd; none that can be used",
        "read by their extent, as objects; the image is unlabelled",
        masks,
        rows=(("repaired", "box taken from a mask"), ("rejected", "without a usable bbox or segmentation")),
        counts=(("boxes", 1), ("labelled_images", 1), ("background_images", 0)),
        tests=(
            "test_formats.py::test_every_format_gives_the_same_tables",
            "test_formats.py::test_extents_of_masks_equal_pycocotools",
            "test_formats.py::test_an_image_whose_objects_are_all_rejected_is_unlabelled",
        ),
    ),
    Fault(
        "F74",
        "classes, single_cls, fraction, iou or max_det in args.yaml",
        "honoured; conf and split are named",
        tests=(
            "test_everyday_sources.py::test_classes_and_fraction_of_a_run_are_honoured",
            "test_everyday_sources.py::test_single_class_runs_take_every_class_for_theirs",
            "test_everyday_sources.py::test_a_run_is_measured_as_it_says_it_validated",
        ),
    ),
    Fault(
        "F75",
        "predictions.json of Ultralytics and SAHI: stems as ids, ids from 0, names beside them",
        "scored as from the images, or refused",
        tests=(
            "test_plausibility.py::test_score_reads_ids_as_other_programs_write_them",
            "test_plausibility.py::test_predictions_of_a_report_are_checked_as_those_of_score",
        ),
    ),
    Fault(
        "F76",
        "frames 000001.jpg in one folder a sequence; folders of one weather or class",
        "a recording each; no recording",
        sequences,
        counts=(("groups", 2),),
        tests=(
            "test_everyday_sources.py::test_a_folder_of_numbered_frames_is_a_recording",
            "test_everyday_sources.py::test_splits_weather_and_classes_are_no_recordings",
        ),
    ),
    Fault(
        "F77",
        "paths of another machine in a data.yaml; an archive as it was downloaded; runs/ below the images",
        "found beside the yaml; unpacked once; left out",
        foreign_paths,
        counts=(("images", 1), ("labelled_images", 1)),
        tests=(
            "test_everyday_sources.py::test_paths_of_another_machine_are_found_beside_the_yaml",
            "test_everyday_sources.py::test_an_archive_as_it_was_downloaded_is_a_source",
            "test_everyday_sources.py::test_what_trainings_and_reports_wrote_below_a_source_is_no_data",
        ),
    ),
    Fault(
        "F78",
        "labels of CVAT, LabelMe, Label Studio, VIA, BDD100K, VisDrone, DOTA and others; rows of trackers",
        "the same tables as from YOLO; trackers are named",
        tests=(
            "test_formats.py::test_every_format_gives_the_same_tables",
            "test_formats.py::test_visdrone_leaves_ignored_regions_out_of_every_class",
            "test_formats.py::test_yolo_files_are_no_visdrone_and_tracker_rows_are_named",
        ),
    ),
    Fault(
        "F79",
        "checkpoints of YOLOv5's repository, and local files with the name of a published one",
        "named for what they are; loaded, not exchanged",
        tests=(
            "test_forward.py::test_a_checkpoint_of_the_yolov5_repository_is_named",
            "test_forward.py::test_a_local_file_is_loaded_whatever_its_name",
        ),
    ),
    Fault(
        "F80",
        "ids that count from another number: annotations of a COCO json against its images or categories; ids "
        "that repeat",
        "refused by every command, with both numbers",
        tests=(
            "test_wrong_numbers.py::test_annotations_that_count_from_another_number_are_refused",
            "test_wrong_numbers.py::test_ids_that_repeat_are_refused_by_score",
        ),
    ),
    Fault(
        "F81",
        "numbers in predictions that are ids of the json and numbers of file names",
        "one reading for all, that of the ids; refused where the boxes lie on annotations by the other only",
        tests=("test_wrong_numbers.py::test_ids_of_a_json_and_numbers_of_file_names_are_never_mixed",),
    ),
    Fault(
        "F82",
        "corners, pixels, percent or fractions where a tool's format has something else; labels of larger "
        "images",
        "refused in every format, with what the numbers look like",
        tests=(
            "test_wrong_numbers.py::test_corners_where_another_layout_belongs_are_refused_in_every_format",
            "test_wrong_numbers.py::test_label_studio_in_another_unit_is_refused",
            "test_wrong_numbers.py::test_labels_of_larger_images_are_refused",
        ),
    ),
    Fault(
        "F83",
        "predictions with confidences in percent, in another scale or axis, of no image, or of one split "
        "only",
        "refused; said, with the images or splits that have none, which are left out where a whole split has "
        "none",
        tests=(
            "test_wrong_numbers.py::test_confidences_in_percent_are_refused",
            "test_wrong_numbers.py::test_predictions_that_lie_nowhere_are_said",
            "test_wrong_numbers.py::test_an_empty_list_of_predictions_is_said",
            "test_wrong_numbers.py::test_splits_that_were_not_predicted_are_left_out_and_said",
        ),
    ),
    Fault(
        "F84",
        "classes exchanged between labels and detections; names in another case",
        "said before any other number; read as one name",
        tests=(
            "test_wrong_numbers.py::test_exchanged_classes_are_named_and_confused_ones_are_not",
            "test_wrong_numbers.py::test_a_category_name_in_another_case_is_a_name",
            "test_wrong_numbers.py::test_names_of_one_folder_that_differ_in_case_only_are_one",
        ),
    ),
    Fault(
        "F85",
        "a folder or list that is a part of a dataset, whose class names stand beside it or above",
        "read by these names",
        tests=(
            "test_wrong_numbers.py::test_a_part_of_a_dataset_takes_the_names_of_the_dataset",
            "test_wrong_numbers.py::test_a_data_yaml_of_something_else_names_no_classes",
        ),
    ),
    Fault(
        "F86",
        "one image in two domains; part of the label rows rejected",
        "said, with the number",
        tests=(
            "test_wrong_numbers.py::test_images_of_two_domains_are_said",
            "test_wrong_numbers.py::test_rejected_rows_are_said",
        ),
    ),
    Fault(
        "F87",
        "names with accents written in two ways, in another case, or without their folders",
        "found, where only one image fits",
        tests=(
            "test_wrong_numbers.py::test_names_with_accents_written_in_two_ways_and_in_another_case_meet",
            "test_wrong_numbers.py::test_a_json_whose_file_names_lack_their_folder_is_read",
        ),
    ),
    Fault(
        "F88",
        "one image annotated by several people, or frames of one name in two tasks",
        "the ground truth, else the newest annotation, said; found by the subset's folder",
        tests=(
            "test_wrong_numbers.py::test_of_several_annotators_the_ground_truth_counts_else_the_newest",
            "test_wrong_numbers.py::test_frames_of_one_name_in_two_subsets_of_cvat_are_two_images",
        ),
    ),
    Fault(
        "F89",
        "files as Excel and PowerShell write them: semicolons, quotes, UTF-16, a byte order mark",
        "read",
        tests=(
            "test_wrong_numbers.py::test_csv_as_excel_writes_it_is_read",
            "test_wrong_numbers.py::test_a_json_with_a_byte_order_mark_is_found_in_its_folder",
        ),
    ),
    Fault(
        "F90",
        "names of recorders: DJI with date and time, GoPro chapters, Label Studio's uploads, seconds, a "
        "frame's number before its clip's",
        "one recording a flight's day, a recording or a clip",
        tests=(
            "test_wrong_numbers.py::test_names_of_recorders_give_their_recordings",
            "test_wrong_numbers.py::test_times_of_one_day_are_one_recording",
            "test_wrong_numbers.py::test_exported_frames_are_one_recording_whatever_their_suffix",
        ),
    ),
    Fault(
        "F91",
        "--group-by whose named group matches nothing",
        "refused, with the image",
        tests=("test_wrong_numbers.py::test_a_pattern_that_gives_no_group_is_refused",),
    ),
    Fault(
        "F92",
        "a list of images that lies elsewhere",
        "read by the class names of its images' dataset",
        tests=("test_wrong_numbers.py::test_a_list_that_lies_elsewhere_takes_the_names_of_its_images",),
    ),
    Fault(
        "F93",
        "--weights of a checkpoint in its run folder",
        "predicted as the run says: classes, iou, max_det",
        tests=("test_wrong_numbers.py::test_a_checkpoint_in_its_run_folder_is_predicted_as_its_run",),
    ),
    Fault(
        "F94",
        "two trainings in one results.csv, shares below 0",
        "the last one counts; refused",
        tests=("test_wrong_numbers.py::test_of_two_trainings_in_one_history_the_last_counts",),
    ),
    Fault(
        "F95",
        "a video whose times begin late",
        "as many frames as from the start",
        tests=("test_wrong_numbers.py::test_a_video_whose_times_begin_late_is_as_long_as_it_is",),
    ),
    Fault(
        "F96",
        "predictions that lie on annotations under another reading only (y before x, centres, another scale, "
        "the network's input, before EXIF's rotation)",
        "refused with the reading and both shares",
        tests=(
            "test_wrong_numbers.py::test_predictions_that_lie_on_annotations_under_another_reading_are_refused",
            "test_wrong_numbers.py::test_a_poor_detector_is_not_refused",
            "test_misread_files.py::test_boxes_from_before_exifs_rotation_are_refused",
        ),
    ),
    Fault(
        "F97",
        "several files about the same images",
        "joined where they agree; where they differ, those images are unlabelled, and refused where that is "
        "half",
        tests=(
            "test_misread_files.py::test_a_json_for_each_class_is_one_dataset",
            "test_misread_files.py::test_two_versions_of_the_labels_are_refused",
            "test_misread_files.py::test_of_two_overlapping_jobs_only_the_shared_images_are_in_doubt",
        ),
    ),
    Fault(
        "F98",
        "image ids that two jsons give to different images",
        "refused; file names are read",
        tests=("test_misread_files.py::test_ids_that_two_files_give_to_different_images_are_refused",),
    ),
    Fault(
        "F99",
        "class numbers that are shifted, or leave numbers out",
        "named, with what is detected as what",
        tests=(
            "test_misread_files.py::test_numberings_that_are_shifted_are_named",
            "test_misread_files.py::test_a_shift_is_told_from_confusion",
        ),
    ),
    Fault(
        "F100",
        "a baseline in another unit, of other classes, of some images only",
        "judged as the predictions are",
        tests=("test_misread_files.py::test_a_baseline_is_judged_as_the_predictions_are",),
    ),
    Fault(
        "F101",
        "polygons, turned boxes and masks in another unit or of another size",
        "refused; rejected row by row",
        tests=(
            "test_misread_files.py::test_polygons_in_another_unit_are_refused",
            "test_misread_files.py::test_a_mask_of_another_size_than_its_image_is_rejected",
        ),
    ),
    Fault(
        "F102",
        "paths of another machine in a json or a task, two cameras with the same names",
        "found by the folders that agree; a task of several images is not read",
        tests=(
            "test_misread_files.py::test_a_json_finds_images_whose_paths_are_another_machines",
            "test_misread_files.py::test_of_two_cameras_of_which_one_is_here_each_entry_finds_its_own",
            "test_misread_files.py::test_a_task_of_several_images_is_not_put_on_the_first",
        ),
    ),
    Fault(
        "F103",
        "rows of results.csv without a validation, or with a loss that is no number",
        "no measurement; named as a training that broke down",
        tests=(
            "test_misread_files.py::test_rows_without_validation_are_no_measurement",
            "test_command_line.py::test_a_loss_that_is_no_number_is_a_training_that_broke_down",
        ),
    ),
    Fault(
        "F104",
        "detections written twice, the output of Ultralytics' predict as a dataset",
        "said; refused",
        tests=(
            "test_misread_files.py::test_detections_that_repeat_are_counted",
            "test_misread_files.py::test_the_output_of_ultralytics_predict_is_no_dataset",
        ),
    ),
    Fault(
        "F105",
        "numbers in a CSV of attributes that are ids of a json and also names of files",
        "one reading for all rows; refused where both find as many",
        tests=("test_misread_files.py::test_ids_of_a_json_and_names_of_files_are_never_mixed_in_attributes",),
    ),
    Fault(
        "F106",
        "rows of a history or a forecast with more fields than the header; blanks, capitals, semicolons",
        "refused with their number; read",
        tests=(
            "test_misread_files.py::test_columns_that_nobody_named_are_refused",
            "test_misread_files.py::test_sheets_are_read_as_people_write_them",
        ),
    ),
    Fault(
        "F107",
        "detections that are none, have no area, or end at a confidence",
        "said before the AP",
        tests=(
            "test_misread_files.py::test_no_detection_at_all_is_said_by_a_report",
            "test_misread_files.py::test_odd_detections_are_said",
        ),
    ),
    Fault(
        "F108",
        "boxes of `predict` whose images changed since",
        "refused where the size changed; said where files are newer",
        tests=("test_misread_files.py::test_boxes_of_images_that_changed_are_refused",),
    ),
    Fault(
        "F109",
        "answers of a review in several entries an image, under another key, or as fractions",
        "refused",
        tests=("test_misread_files.py::test_answers_that_would_be_lost_are_refused",),
    ),
    Fault(
        "F110",
        "absolute splits that exist, lists of another machine",
        "taken as they are; found",
        tests=(
            "test_misread_files.py::test_absolute_splits_that_exist_are_taken_as_they_are",
            "test_misread_files.py::test_a_list_from_another_machine_finds_its_images",
        ),
    ),
    Fault(
        "F111",
        "images that a new version of a dataset labels or no longer labels",
        "listed",
        tests=("test_misread_files.py::test_images_that_become_background_are_a_difference",),
    ),
    Fault(
        "F112",
        "orthophoto or scan above 179 megapixels",
        "looked at in tiles; an object on an edge counts once; above 1,000 megapixels: failed",
        tests=(
            "test_orthophotos.py::test_tiles_are_the_pixels_of_the_image_and_blank_ones_are_left_out",
            "test_orthophotos.py::test_every_object_counts_once_and_none_of_its_area_is_background",
            "test_orthophotos.py::test_a_real_one_is_cut",
        ),
    ),
    Fault(
        "F113",
        "S3: credentials, no such bucket or folder, interrupted, changed or deleted files, no connection, a "
        "key with ../",
        "a message of its own for each; fetched again, deleted, what was fetched before is used, left out",
        tests=(
            "test_buckets.py::test_what_cannot_be_fetched_is_one_line_with_a_next_step",
            "test_buckets.py::test_a_broken_download_leaves_no_half_file_and_goes_on",
            "test_buckets.py::test_only_what_changed_is_fetched_again_and_what_is_gone_goes",
            "test_buckets.py::test_without_a_connection_what_was_fetched_is_used",
            "test_buckets.py::test_a_key_that_leads_out_of_its_folder_is_left_out",
            "test_buckets.py::test_keys_in_an_address_are_refused_and_not_repeated",
        ),
    ),
)


@dataclass(frozen=True)
class Threat:
    """A row of SECURITY.md and its tests.

    id: T and a number.
    title: the threat.
    tests: the tests that cover it.
    """

    id: str
    title: str
    tests: tuple[str, ...]


THREATS = (
    Threat(
        "T1",
        "code in a checkpoint",
        (
            "test_forward.py::test_a_checkpoint_with_code_is_refused_and_does_not_run",
            "test_faults.py::test_a_checkpoint_with_code_needs_trust_checkpoint",
            "test_faults.py::test_a_hostile_dataset_gives_a_report_and_nothing_else",
        ),
    ),
    Threat(
        "T2",
        "code in labels.cache and .npy",
        (
            "test_faults.py::test_a_hostile_dataset_gives_a_report_and_nothing_else",
            "test_faults.py::test_training_reads_no_cache_of_the_dataset",
        ),
    ),
    Threat(
        "T3",
        "code in download:",
        (
            "test_sources.py::test_download_in_a_yaml_is_never_run",
            "test_faults.py::test_training_reads_no_cache_of_the_dataset",
        ),
    ),
    Threat(
        "T4",
        "paths out of the dataset",
        (
            "test_faults.py::test_paths_out_of_a_dataset_are_not_followed",
            "test_faults.py::test_a_folder_may_be_allowed",
            "test_sources.py::test_a_json_cannot_lead_out_of_its_folder",
        ),
    ),
    Threat(
        "T5",
        "archives with paths out of the folder, or that expand",
        (
            "test_kaggle.py::test_hostile_archives_are_refused_and_leave_nothing",
            "test_kaggle.py::test_links_and_devices_are_skipped",
        ),
    ),
    Threat(
        "T6",
        "packages installed at run time",
        (
            "test_faults.py::test_a_checkpoint_of_an_unknown_module_is_refused",
            "test_faults.py::test_hardening_is_set_before_ultralytics_is_imported",
        ),
    ),
    Threat(
        "T11",
        "markup in names",
        (
            "test_main_job.py::test_hostile_names_stay_text",
            "test_faults.py::test_a_hostile_dataset_gives_a_report_and_nothing_else",
            "test_architecture.py::test_templates_escape_everything",
        ),
    ),
    Threat(
        "T13",
        "images with other content",
        ("test_faults.py::test_thumbnails_contain_only_pixels",),
    ),
    Threat(
        "T14",
        "private information in a shared report",
        (
            "test_faults.py::test_thumbnails_contain_only_pixels",
            "test_faults.py::test_the_page_names_no_folder_of_this_machine",
        ),
    ),
    Threat(
        "T15",
        "formulas in CSV",
        (
            "test_main_job.py::test_hostile_names_stay_text",
            "test_faults.py::test_a_hostile_dataset_gives_a_report_and_nothing_else",
        ),
    ),
)


def page() -> str:
    """Content of docs/faults.md."""
    out = io.StringIO()
    tested = [fault for fault in FAULTS if fault.build or fault.tests]
    out.write("# Faults\n\n")
    out.write(
        "Faults of data, downloads and machines, and what Shiftscope does with each. "
        f"{len(tested)} of {len(FAULTS)} are tested: `tests/fault_table.py` creates each fault, and "
        "`python -m tests.fault_table` writes this page. Faults of sources are tested through the command "
        "line: the exit code, the file's entry in the ledger, its name in the message, and that no byte "
        "below the source has changed.\n\n"
    )
    out.write("| | fault | result | tested by |\n|---|---|---|---|\n")
    for fault in FAULTS:
        covering = [
            *([f"`test_faults.py` [{fault.id}]"] if fault.build else []),
            *(f"`{name}`" for name in fault.tests),
        ]
        gap = [f"**not tested:** {fault.untested}"] if fault.untested else []
        cell = "; ".join([*covering, *gap])
        out.write(f"| {fault.id} | {escape(fault.title)} | {escape(fault.expected)} | {cell} |\n")
    out.write(
        "\n# Threats\n\n[SECURITY.md](../SECURITY.md) describes the protection. These threats are tested:\n\n"
        "| | threat | tested by |\n|---|---|---|\n"
    )
    for threat in THREATS:
        out.write(f"| {threat.id} | {threat.title} | {'; '.join(f'`{name}`' for name in threat.tests)} |\n")
    return out.getvalue()


def escape(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    (ROOT / "docs" / "faults.md").write_text(page(), encoding="utf-8")
