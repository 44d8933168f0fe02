"""The faults that people's data, machines and downloads have, and where each is tested. `python -m tests.fault_table` writes docs/faults.md."""

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
    """One row. build lays the fault out below a folder and returns the command line, of which "ROOT" is that folder; None for `inspect ROOT`.

    code: exit code. said: words of the one line of complaint, with the file's name, where the code is not 0. ledger: (file name, bucket, words of the reason).
    rows: (action, words) of label rows. counts: values of the inspection. elsewhere: tests that show it instead. left: why none does.
    """

    id: str
    title: str
    expected: str
    build: Callable[[Path], list[str] | None] | None = None
    code: int = 0
    said: tuple[str, ...] = ()
    ledger: tuple[tuple[str, str, str], ...] = ()
    rows: tuple[tuple[str, str], ...] = ()
    counts: tuple[tuple[str, object], ...] = ()
    elsewhere: tuple[str, ...] = ()
    left: str = ""


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
    """A dataset whose one label file says this."""

    def build(root: Path) -> None:
        yolo(root)
        write(root / "labels" / "val" / "good.txt", content)

    return build


def with_yaml(text: str) -> Callable[[Path], None]:
    """A dataset whose yaml says this."""

    def build(root: Path) -> None:
        yolo(root, yaml=text)

    return build


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
    """A PNG whose header says 900 megapixels, in a few hundred bytes."""

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


def val_inside_train(root: Path) -> None:
    yolo(root, yaml="train: images\nval: images/val\nnames: [pothole]\n")
    write(root / "images" / "other" / "b.jpg", encoded(seed=8))


def video(
    path: Path, frames: int, *, codec: str = "mpeg4", size: tuple[int, int] = (64, 48), rate: int = 10
) -> Path:
    """A video of wandering noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = pixels(3, (size[0] * 2, size[1] * 2))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            x = (2 * number + 5 * (number // 37)) % size[0]
            shown = np.ascontiguousarray(base[: size[1], x : x + size[0]])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="bgr24")))
        container.mux(stream.encode())
    return path


def no_moov(root: Path) -> None:
    yolo_folder(root)
    raw = video(root / "cut.mp4", 30).read_bytes()
    (root / "cut.mp4").write_bytes(raw[: len(raw) // 2])


def yolo_folder(root: Path) -> None:
    write(root / "good.jpg", encoded())


def broken_tail(root: Path) -> list[str]:
    raw = video(root / "tail.avi", 60).read_bytes()
    (root / "tail.avi").write_bytes(raw[: int(len(raw) * 0.8)])
    return ["inspect", str(root / "tail.avi")]


def other_media(root: Path) -> None:
    yolo_folder(root)
    with av.open(str(root / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    Image.new("P", (20, 20)).save(root / "moving.gif")


def address(root: Path) -> list[str]:
    return ["inspect", "rtsp://camera.example/live"]


def hostile_names(root: Path) -> None:
    yolo(root)
    for number, name in enumerate(
        ("<script>alert(1)<", "=HYPERLINK(1)", "$\\frac$", "_x", "\u202egpj", "a`b|c")
    ):
        write(root / "images" / "val" / f"{name}.jpg", encoded(seed=number))


def wrong_windows(root: Path) -> list[str]:
    yolo(root, yaml="path: C:\\data\\holes\nval: images\\val\nnames: [pothole, crack]\n")
    return None


def comma(root: Path) -> list[str]:
    yolo(root, labels="0 0,5 0,5 0,25 0,25\n")
    return None


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


def torn_history(root: Path) -> list[str]:
    write(
        root / "results.csv",
        "  epoch ,  metrics/mAP50(B), metrics/mAP50-95(B)\n1, 0.1, 0.05\n2, 0.2, 0.1\n2, 0.3, 0.15\n3, 0.4, 0.2\n4, .",
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
        "failed, says what it is",
        with_image("page.jpg", b"<!DOCTYPE html><html>404"),
        ledger=(("page.jpg", "failed", "it is a web page"),),
    ),
    Fault(
        "F03",
        "JPEG cut short",
        "failed when decoded, in ledger and exit code 4",
        elsewhere=(
            "test_command_line.py::test_a_report_with_untrained_weights_says_undertrained",
            "test_sources.py::test_a_truncated_jpeg_fails_and_one_without_its_end_marker_does_not",
        ),
    ),
    Fault(
        "F04",
        "JPEG without end marker, or with bytes behind it",
        "used; the file stays as it is",
        elsewhere=(
            "test_sources.py::test_a_jpeg_without_its_end_marker_or_with_more_behind_it_is_used_as_it_is",
        ),
    ),
    Fault(
        "F05",
        "PNG named .jpg",
        "used, and said",
        with_image("png.jpg", encoded(".png")),
        ledger=(("png.jpg", "used", "content is PNG"),),
    ),
    Fault(
        "F06",
        "EXIF orientation 1 to 8",
        "upright, pixel by pixel",
        elsewhere=("test_sources.py::test_pictures_are_turned_upright",),
    ),
    Fault(
        "F07",
        "CMYK, 16 bit, grey, alpha, palette, several pages",
        "used, conversion said",
        odd_modes,
        ledger=(
            ("cmyk.jpg", "used", "mode CMYK, converted"),
            ("alpha.png", "used", "mode RGBA"),
            ("palette.png", "used", "mode P"),
            ("deep.png", "used", "mode I;16"),
            ("grey.png", "used", ""),
            ("pages.tif", "used", "the first of 3 pages"),
        ),
        elsewhere=(
            "test_sources.py::test_unusual_modes_decode",
            "test_sources.py::test_sixteen_bits_keep_their_upper_eight",
        ),
    ),
    Fault(
        "F08",
        "image under ten pixels",
        "failed: too small",
        with_image("tiny.png", encoded(".png", size=(9, 40))),
        ledger=(("tiny.png", "failed", "too small (9x40"),),
    ),
    Fault(
        "F09",
        "900 megapixels in a few hundred bytes",
        "failed: too large, never decoded",
        with_image("bomb.png", bomb_png()),
        ledger=(("bomb.png", "failed", "too large"),),
    ),
    Fault(
        "F10",
        "HEIC, also under another name",
        "passed over with the cure",
        lambda root: (
            with_image("a.heic", b"\0\0\0\x18ftypheic")(root),
            write(root / "images/val/b.jpg", b"\0\0\0\x18ftypheic"),
        )[0],
        ledger=(("a.heic", "skipped", "convert it to JPEG"), ("b.jpg", "failed", "HEIC")),
    ),
    Fault(
        "F11",
        "image unreadable, or gone while running",
        "failed; the next run takes it",
        elsewhere=("test_faults.py::test_a_picture_that_vanishes_fails_alone",),
    ),
    Fault(
        "F12",
        "loops and dead ends of links, pipes, devices",
        "skipped; nothing hangs",
        irregular,
        ledger=(
            ("loop", "skipped", "read already"),
            ("dangling.jpg", "skipped", "link to nowhere"),
            ("device.jpg", "skipped", "leads out"),
            ("pipe.jpg", "skipped", "not a regular file"),
        ),
    ),
    Fault(
        "F13",
        "spaces, %, #, ?, quotes, line breaks, 255 bytes, NFC and NFD, no UTF-8",
        "used; what is no UTF-8 failed",
        strange_names,
        ledger=(*((name, "used", "") for name in STRANGE), ("bad\\xff.jpg", "failed", "not valid UTF-8")),
        counts=(("boxes", 1 + len(STRANGE)),),
    ),
    Fault(
        "F14",
        "names that differ in case alone",
        "two images",
        case_twins,
        counts=(("images", 2), ("labelled_images", 2), ("background_images", 1)),
    ),
    Fault(
        "F15",
        "a.jpg and a.png share a.txt; one name in two folders",
        "the second is unlabelled, and said; ids are paths",
        shared_label,
        ledger=(("good.png", "used", "unlabelled: good.txt is the label file of good.jpg too"),),
        counts=(("images", 3), ("labelled_images", 1)),
    ),
    Fault(
        "F16",
        "copies across train and val",
        "counted, AP with and without",
        elsewhere=("test_diagnostics.py::test_planted_copies_are_found_and_nothing_else",),
    ),
    Fault(
        "F17",
        "label file missing or empty",
        "unlabelled or background, counted apart",
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
        "unlabelled: a reading, no AP",
        unlabelled,
        counts=(("labelled_images", 0), ("images", 3)),
        elsewhere=("test_main_job.py::test_the_video_has_no_ap_but_a_reading_without_labels",),
    ),
    Fault(
        "F20",
        "class out of range, negative, half, or by name",
        "row rejected; a name that fits is taken",
        with_labels(
            "2 0.5 0.5 0.1 0.1\n-1 0.5 0.5 0.1 0.1\n0.5 0.5 0.5 0.1 0.1\ncrater 0.5 0.5 0.1 0.1\ncrack 0.5 0.5 0.1 0.1\n"
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
        "row rejected with a guess",
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
            "0 nan 0.5 0.1 0.1\n0 inf 0.5 0.1 0.1\n0 0.5 0.5 0 0\n0 0.5 0.5 -0.1 0.1\n0 0.98 0.5 0.1 0.1\n0 3 0.5 0.1 0.1\n"
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
        "refused by position",
        not_finite,
        code=2,
        said=("dt.json", "detection 0", "not finite"),
        elsewhere=("test_faults.py::test_a_model_that_computes_nan_is_refused",),
    ),
    Fault(
        "F24",
        "a row twice",
        "once, counted",
        with_labels(GOOD * 2),
        rows=(("repaired", "duplicate row dropped"),),
        counts=(("boxes", 1),),
    ),
    Fault(
        "F25",
        "BOM, UTF-16, binary, 100 MB",
        "read, or failed with the encoding",
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
        "box of the polygon, counted; poses rejected; other tasks' models refused",
        with_labels(
            "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n0 0.1 0.2 0.3 0.2 0.2 0.4\n0 0.5 0.5 0.1 0.1 0.2 0.2 2 0.3 0.3 2 0.4 0.4 1\n"
        ),
        rows=(("repaired", "box taken from a polygon"), ("rejected", "columns")),
        counts=(("boxes", 2),),
        elsewhere=("test_faults.py::test_a_model_of_another_task_is_refused",),
    ),
    Fault(
        "F27",
        "yaml broken, with tabs, with a key twice, no mapping",
        "refused with line and column",
        with_yaml("val: images/val\nnames: [a]\nnames: [b]\n"),
        code=2,
        said=("data.yaml:3:1", "stands twice"),
        elsewhere=("test_sources.py::test_a_broken_yaml_says_where_and_what",),
    ),
    Fault(
        "F28",
        "paths wrong, ../train, stale path:, backslashes",
        "found, or refused with every path tried",
        wrong_windows,
        counts=(("images", 1), ("boxes", 1)),
        elsewhere=(
            "test_sources.py::test_exported_yaml_with_dots_before_the_splits",
            "test_sources.py::test_a_broken_yaml_says_where_and_what",
        ),
    ),
    Fault(
        "F29",
        "names missing, with gaps, twice, in another order",
        "refused with both lists; --class-map",
        with_yaml("val: images/val\nnames: {0: a, 2: b}\n"),
        code=2,
        said=("data.yaml", "without gaps"),
        elsewhere=(
            "test_sources.py::test_a_broken_yaml_says_where_and_what",
            "test_sources.py::test_classes_are_mapped_by_name",
        ),
    ),
    Fault(
        "F30",
        "data.yaml with download:",
        "not run, and said",
        with_yaml("val: images/val\nnames: [pothole, crack]\ndownload: |\n  open('pwned', 'w').close()\n"),
        ledger=(("data.yaml", "used", "'download:' was not run"),),
    ),
    Fault(
        "F31",
        "val is train, or part of it",
        "refused, or said",
        reversed_splits,
        code=2,
        said=("data.yaml", "every image of 'val' is one of 'train' too"),
        elsewhere=("test_faults.py::test_a_validation_set_within_training_is_said",),
    ),
    Fault(
        "F32",
        "no image, no prediction, no object, a class never seen",
        "refused, or no number and the reason",
        no_images,
        code=2,
        said=("no usable image found",),
        elsewhere=(
            "test_scoring.py::test_nothing_to_score_is_no_accident",
            "test_faults.py::test_one_picture_and_a_class_never_seen",
        ),
    ),
    Fault(
        "F33",
        "slice with few objects",
        "no number, or greyed with its interval",
        elsewhere=(
            "test_main_job.py::test_slices_equal_pycocotools",
            "test_slices.py::test_too_few_clips_are_not_searched",
        ),
    ),
    Fault(
        "F34",
        "prediction for an unknown image",
        "refused with the first ids",
        unknown_image,
        code=2,
        said=("dt.json", "first ids [99]"),
    ),
    Fault(
        "F35",
        "labels.cache, .npy and .pt beside the data",
        "never read, and said",
        dangerous,
        ledger=(
            ("val.cache", "skipped", "could run code"),
            ("good.npy", "skipped", "could run code"),
            ("weights.pt", "skipped", "could run code"),
        ),
    ),
    Fault(
        "F36",
        "checkpoint empty, cut, of another kind or task",
        "refused before any work",
        bad_checkpoint(b""),
        code=2,
        said=("best.pt", "not a usable checkpoint"),
        elsewhere=(
            "test_forward.py::test_what_is_no_checkpoint",
            "test_faults.py::test_a_model_of_another_task_is_refused",
        ),
    ),
    Fault(
        "F37",
        "checkpoint that needs an unknown module",
        "refused, nothing is installed",
        elsewhere=("test_faults.py::test_a_checkpoint_of_an_unknown_module_is_refused",),
    ),
    Fault(
        "F38",
        "run folder without weights, without args.yaml, with half a line of results",
        "refused, or the whole epochs used",
        incomplete_run,
        code=2,
        said=("weights/best.pt",),
        elsewhere=("test_forward.py::test_run_folders",),
    ),
    Fault(
        "F39",
        "results.csv padded, with epochs twice, torn",
        "last of each whole epoch",
        torn_history,
        elsewhere=("test_faults.py::test_a_torn_history_keeps_its_whole_epochs",),
    ),
    Fault(
        "F40",
        "video without index",
        "failed with the cure",
        no_moov,
        ledger=(("cut.mp4", "failed", "re-encode it"),),
    ),
    Fault(
        "F41",
        "video with a broken tail",
        "used as far as it goes, and said",
        broken_tail,
        ledger=(("tail.avi", "used", "declared"),),
    ),
    Fault(
        "F42",
        "variable frame rate, frames out of order, rotation",
        "by presentation time, upright",
        elsewhere=(
            "test_faults.py::test_frames_are_keyed_by_presentation_time",
            "test_faults.py::test_a_rotated_film_is_turned_upright",
        ),
    ),
    Fault(
        "F43",
        "sound only, GIF, another size half-way, addresses",
        "passed over with the reason; addresses refused",
        other_media,
        ledger=(("sound.mp4", "failed", "no video stream"), ("moving.gif", "skipped", "not a photograph")),
        elsewhere=(
            "test_faults.py::test_an_address_is_not_opened",
            "test_faults.py::test_a_film_that_changes_its_size_is_used_until_then",
        ),
    ),
    Fault(
        "F44",
        "video of two hours",
        "plan said first, memory bounded",
        elsewhere=("test_faults.py::test_two_hours_of_film_in_bounded_memory",),
    ),
    Fault(
        "F45",
        "another folder's mongod is running",
        "not joined",
        elsewhere=("test_database.py::test_another_folders_database_is_not_joined",),
    ),
    Fault(
        "F46",
        "several start at once",
        "all get their database",
        elsewhere=("test_database.py::test_three_that_start_at_once_all_get_their_database",),
    ),
    Fault(
        "F47",
        "mongod left behind",
        "named with its number in seconds",
        elsewhere=("test_database.py::test_a_mongod_left_behind_is_named",),
    ),
    Fault(
        "F48",
        "mongod killed in use",
        "said in seconds; the next use works",
        elsewhere=(
            "test_database.py::test_a_mongod_killed_in_use_ends_the_use_and_the_next_one_works",
            "test_app.py::test_a_dataset_that_the_database_lost_is_written_again",
        ),
    ),
    Fault(
        "F49",
        "killed at any stage",
        "the next run ends the same",
        elsewhere=(
            "test_command_line.py::test_killed_at_every_stage_the_next_run_ends_the_same",
            "test_training.py::test_train_killed_and_resumed",
        ),
    ),
    Fault(
        "F50",
        "disk full where the database lies",
        "said before it is started",
        elsewhere=("test_database.py::test_a_full_disk_is_told_before_anything_is_started",),
    ),
    Fault(
        "F51",
        "disk full or read-only where the report lies",
        "no half file; exit code 3",
        elsewhere=(
            "test_faults.py::test_a_full_disk_leaves_no_half_report",
            "test_faults.py::test_a_place_that_cannot_be_written",
        ),
    ),
    Fault(
        "F52",
        "database of a newer FiftyOne",
        "left alone, both versions said",
        elsewhere=("test_database.py::test_a_database_of_a_newer_fiftyone_is_left_alone",),
    ),
    Fault(
        "F53",
        "no mongod for this system",
        "the report is written without",
        elsewhere=(
            "test_main_job.py::test_a_report_works_without_a_database",
            "test_database.py::test_a_mongod_that_cannot_run_says_so",
        ),
    ),
    Fault(
        "F54",
        "names of datasets and fields that collide",
        "told apart; others' datasets stay",
        elsewhere=(
            "test_workbench.py::test_domains_and_slices_whose_names_are_alike_do_not_collide",
            "test_workbench.py::test_datasets_of_others_stay_as_they_are",
        ),
    ),
    Fault(
        "F55",
        "port of the App taken",
        "another one, and said",
        elsewhere=("test_database.py::test_a_taken_port_is_not_joined",),
    ),
    Fault(
        "F56",
        "home folder that cannot be written",
        "said with what to set",
        elsewhere=(
            "test_database.py::test_a_folder_that_cannot_be_written",
            "test_faults.py::test_a_home_that_cannot_be_written",
        ),
    ),
    Fault(
        "F57",
        "modules of the same names around",
        "doctor says which file hides which library",
        elsewhere=("test_faults.py::test_doctor_sees_a_hidden_library",),
    ),
    Fault(
        "F58",
        "two OpenCVs; no GPU; GPU out of memory",
        "doctor says the cure",
        elsewhere=("test_faults.py::test_doctor_sees_two_opencvs",),
        left="GPU memory running out is not tested: no GPU can be counted on",
    ),
    Fault(
        "F59",
        "no network, a checkpoint to be downloaded",
        "refused, nothing hangs",
        missing_weights,
        code=2,
        said=("yolo26n.pt", "could not be fetched"),
    ),
    Fault(
        "F60",
        "Kaggle: credentials, 401, 403, 404, 429, terms, versions",
        "each in its own words; versions pinned",
        elsewhere=(
            "test_kaggle.py::test_what_kaggle_answers",
            "test_kaggle.py::test_a_handle_opens_as_a_dataset_and_is_pinned",
        ),
    ),
    Fault(
        "F61",
        "Kaggle: broken off, corrupt, files gone after completion",
        "resumed, refused, fetched again",
        elsewhere=(
            "test_kaggle.py::test_a_broken_download_goes_on_where_it_stopped",
            "test_kaggle.py::test_what_arrives_broken_is_not_kept",
            "test_kaggle.py::test_files_that_went_missing_are_noticed",
        ),
    ),
    Fault(
        "F62",
        "archive with ../, absolute names, links, bombs, a million files",
        "refused with the limit; links passed over",
        elsewhere=(
            "test_kaggle.py::test_hostile_archives_leave_nothing",
            "test_kaggle.py::test_links_and_devices_are_passed_over",
            "test_kaggle.py::test_a_million_files_are_too_many",
        ),
    ),
    Fault(
        "F63",
        "hostile file and class names",
        "inert on the page, in CSV and in figures",
        hostile_names,
        counts=(("images", 7),),
        elsewhere=(
            "test_main_job.py::test_hostile_names_stay_text",
            "test_faults.py::test_a_hostile_dataset_gives_a_report_and_nothing_else",
        ),
    ),
    Fault(
        "F64",
        "clocks wrong, times of change kept by unpacking",
        "content decides",
        elsewhere=("test_faults.py::test_content_decides_and_not_the_clock",),
    ),
    Fault(
        "F65",
        "locale C, decimal commas, other time zones",
        "UTF-8, points, UTC",
        comma,
        rows=(("rejected", "decimal comma"),),
        elsewhere=("test_faults.py::test_the_locale_changes_nothing",),
    ),
    Fault(
        "F66",
        "Colab and Jupyter: kernels restarted, folders wiped",
        "a killed run goes on",
        left="no notebook server is run in tests; what a kernel does is a kill, which F49 tests",
    ),
    Fault(
        "F67",
        "other batches, orders, processes",
        "the same numbers",
        elsewhere=(
            "test_forward.py::test_a_batch_sees_what_single_pictures_see",
            "test_forward.py::test_order_of_pictures_is_kept_and_copies_share_a_pass",
            "test_command_line.py::test_killed_at_every_stage_the_next_run_ends_the_same",
        ),
        left="GPU against CPU is not tested",
    ),
    Fault(
        "F68",
        "report too large for a browser",
        "one page under 20 MB that opens from disk",
        elsewhere=(
            "test_main_job.py::test_the_page_opens_offline_and_answers_first",
            "test_faults.py::test_the_page_stays_small",
        ),
    ),
    Fault(
        "F69", "option mistyped", "refused, the right one suggested", typo, code=2, said=("--cofn", "--conf")
    ),
    Fault(
        "F70",
        "two runs write one folder",
        "the second is refused; a dead run's lock is free",
        elsewhere=("test_command_line.py::test_two_runs_do_not_write_one_report",),
    ),
)


@dataclass(frozen=True)
class Threat:
    """A row of SECURITY.md that tests show."""

    id: str
    title: str
    tests: tuple[str, ...]


THREATS = (
    Threat(
        "T1",
        "code in a checkpoint",
        (
            "test_forward.py::test_a_checkpoint_that_runs_code_does_not",
            "test_faults.py::test_trusting_a_checkpoint_is_a_choice",
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
        "paths that lead out",
        (
            "test_faults.py::test_nothing_leads_out_of_a_dataset",
            "test_faults.py::test_a_folder_may_be_allowed",
            "test_sources.py::test_a_json_cannot_lead_out_of_its_folder",
        ),
    ),
    Threat(
        "T5",
        "archives that lead out or unfold",
        (
            "test_kaggle.py::test_hostile_archives_leave_nothing",
            "test_kaggle.py::test_links_and_devices_are_passed_over",
        ),
    ),
    Threat(
        "T6",
        "packages installed at run time",
        (
            "test_faults.py::test_a_checkpoint_of_an_unknown_module_is_refused",
            "test_faults.py::test_hardening_comes_before_the_libraries",
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
        "images that are something else",
        ("test_faults.py::test_thumbnails_carry_nothing_but_pixels",),
    ),
    Threat(
        "T14",
        "private things in a shared report",
        (
            "test_faults.py::test_thumbnails_carry_nothing_but_pixels",
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
    """docs/faults.md."""
    out = io.StringIO()
    tested = [fault for fault in FAULTS if fault.build or fault.elsewhere]
    out.write("# Faults\n\n")
    out.write(
        f"What people's data, downloads and machines do wrong, and what Shiftscope makes of it. {len(tested)} of {len(FAULTS)} are tested"
        " (`tests/fault_table.py` makes each fault anew; `python -m tests.fault_table` writes this page). Those of sources run through the command line and check the exit code,"
        " the file's place in the ledger, its name in the message, and that no byte below the source changed.\n\n"
    )
    out.write("| | fault | what happens | shown by |\n|---|---|---|---|\n")
    for fault in FAULTS:
        shown = [
            *([f"`test_faults.py` [{fault.id}]"] if fault.build else []),
            *(f"`{name}`" for name in fault.elsewhere),
        ]
        words = "; ".join([*shown, *([f"**left:** {fault.left}"] if fault.left else [])])
        out.write(f"| {fault.id} | {escape(fault.title)} | {escape(fault.expected)} | {words} |\n")
    out.write(
        "\n# Threats\n\n[SECURITY.md](../SECURITY.md) says what is promised. These are tested:\n\n| | threat | shown by |\n|---|---|---|\n"
    )
    for threat in THREATS:
        out.write(f"| {threat.id} | {threat.title} | {'; '.join(f'`{name}`' for name in threat.tests)} |\n")
    return out.getvalue()


def escape(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    (ROOT / "docs" / "faults.md").write_text(page(), encoding="utf-8")
