"""Coverage-guided fuzzing of every reader that meets strangers' files: `python -m benchmarks.fuzz TARGET --seconds 600 [--corpus DIR]`.

A reader may refuse a file in the one way it promises; anything else is a bug, and ends the run with the input that made it. Needs atheris
(`uv pip install atheris`), which is no dependency of the project.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["datasets", "train.history", "yaml"], enable_loader_override=False):
    from datasets import archives, coco, labels, pixels, results, voc, yolo
    from datasets import data_yaml as card
    from datasets.containment import Bounds
    from datasets.errors import EnvironmentProblem, InputError
    from train import history

Check = Callable[[bytes], None]
CLASSES = ("pothole", "crack")
# What a run starts from: one honest file of each kind, for the fuzzer to spoil.
SEEDS = {
    "labels": [
        b"0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4\n",
        b"\xef\xbb\xbfcrack 0.5 0.5 1 1\r\n",
        b"0,0.5,0.5\n# no\n0 nan inf 1e999 -0\n",
    ],
    "yaml": [
        b"path: .\ntrain: images/train\nval: [images/val, list.txt]\nnc: 2\nnames: {0: a, 1: b}\nkpt_shape: [3, 2]\ndownload: |\n  x\n",
        b"names: [a]\nval: &a ../x\ntest: *a\n",
    ],
    "coco": [
        b'{"images":[{"id":1,"file_name":"a.png","width":20,"height":20}],"annotations":[{"image_id":1,"category_id":1,"bbox":[1,2,3,4],"iscrowd":0},{"image_id":1,"category_id":1,"segmentation":[[1,2,3,4,5,6]]}],"categories":[{"id":1,"name":"a"}]}'
    ],
    "results": [
        b'[{"image_id":1,"category_id":1,"bbox":[1,2,3,4],"score":0.5},{"image_id":"a","category_id":1,"bbox":[1,2,3,4],"score":1}]'
    ],
    "voc": [
        b"<annotation><size><width>20</width><height>20</height></size><object><name>a</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    ],
    "list": [b"a.png\n./b/../a.png\n/etc/passwd\n../../x\n"],
    "history": [b"epoch, metrics/mAP50(B), train/box_loss\n1, 0.1, 2\n2, nan, 1\n3,"],
    "archive": [],
    "image": [],
}


def readers(folder: Path) -> dict[str, Check]:
    """Target -> a function that reads one input and raises what is not promised."""
    file = folder / "input"
    bounds = Bounds.of([folder])

    def stored(content: bytes, name: str = "input") -> Path:
        place = folder / name
        place.write_bytes(content)
        return place

    def read_labels(content: bytes) -> None:
        for pose in (0, 6):
            try:
                rows, notes = labels.read_labels(stored(content), CLASSES, pose)
            except ValueError:
                continue
            assert all(0 <= r.x1 < r.x2 <= 1 and 0 <= r.y1 < r.y2 <= 1 and r.label in (0, 1) for r in rows)
            assert all(note.reason and note.line > 0 for note in notes)

    def read_yaml(content: bytes) -> None:
        try:
            found = card.read_data_yaml(stored(content), bounds)
        except InputError:
            return
        assert found.classes
        assert all(bounds.hold(place) for places in found.splits.values() for place in places)

    def read_coco(content: bytes) -> None:
        try:
            source = coco.open_coco("x", stored(content, "input.json"), bounds)
        except InputError:
            return
        corners = source.annotations[["x1", "y1", "x2", "y2"]].to_numpy()
        assert (corners[:, 2:] > corners[:, :2]).all()
        assert (corners >= 0).all()
        assert (corners <= 20).all()
        assert not source.ledger["path"].duplicated().any()

    def read_results(content: bytes) -> None:
        try:
            results.read_results(stored(content))
        except InputError:
            return

    def read_voc(content: bytes) -> None:
        try:
            voc.read_annotation(stored(content))
        except ValueError:
            return

    def read_list(content: bytes) -> None:
        try:
            source = yolo.open_list("x", stored(content, "input.txt"), CLASSES, bounds)
        except InputError:
            return
        assert all(bounds.hold(Path(path)) for path in source.images["path"])

    def read_history(content: bytes) -> None:
        try:
            table = history.read_history(stored(content))
        except InputError:
            return
        assert len(table)

    def unpack(content: bytes) -> None:
        try:
            archives.unpack(stored(content), folder / "out")
        except (InputError, EnvironmentProblem):
            return

    def read_image(content: bytes) -> None:
        try:
            size = pixels.probe(stored(content))[:2]
            shown = pixels.decode(file)
        except pixels.UnreadableImage:
            return
        assert shown.shape[:2] == size[::-1], (shown.shape, size)

    return {
        "labels": read_labels,
        "yaml": read_yaml,
        "coco": read_coco,
        "results": read_results,
        "voc": read_voc,
        "list": read_list,
        "history": read_history,
        "archive": unpack,
        "image": read_image,
    }


def honest(target: str) -> list[bytes]:
    """What the fuzzer starts from."""
    if target == "archive":
        import io
        import tarfile
        import zipfile

        zipped, tarred = io.BytesIO(), io.BytesIO()
        with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/b.txt", "hello" * 20)
        with tarfile.open(fileobj=tarred, mode="w") as opened:
            info = tarfile.TarInfo("a/b.txt")
            info.size = 5
            opened.addfile(info, io.BytesIO(b"hello"))
        return [zipped.getvalue(), tarred.getvalue()]
    if target == "image":
        import cv2
        import numpy as np

        shown = (np.arange(1200).reshape(20, 20, 3) % 251).astype(np.uint8)
        return [
            cv2.imencode(suffix, shown)[1].tobytes() for suffix in (".jpg", ".png", ".bmp", ".tif", ".webp")
        ]
    return SEEDS[target]


def main() -> None:
    """Fuzz one target; ends with an exception and the file that made it, or after so many seconds with what was done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(SEEDS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, help="Folder where inputs that reach new code are kept.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        corpus = given.corpus or folder / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(honest(given.target)):
            (corpus / f"honest-{number}").write_bytes(content)
        place = folder / "place"
        (place / "images").mkdir(parents=True)
        seed = next(iter(honest("image")[1:2]))
        (place / "a.png").write_bytes(seed)
        (place / "list.txt").write_text("a.png\n")
        check = readers(place)[given.target]
        count, begin = 0, time.monotonic()

        def merge_overlapping(content: bytes) -> None:
            nonlocal count
            count += 1
            check(content)

        import atexit

        atexit.register(
            lambda: sys.stdout.write(
                f"{given.target}: {count:,} inputs in {time.monotonic() - begin:.0f} s\n"
            )
        )
        atheris.Setup(
            [
                sys.argv[0],
                str(corpus),
                f"-max_total_time={given.seconds}",
                "-timeout=20",
                "-rss_limit_mb=3000",
                "-max_len=4096",
                "-print_final_stats=1",
            ],
            merge_overlapping,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
