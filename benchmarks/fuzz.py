"""Coverage-guided fuzzing of every reader of untrusted files.

`python -m benchmarks.fuzz TARGET --seconds 600 [--corpus DIR]`

A reader may refuse a file with the exception that it documents; any other exception is a bug and ends the run
with the input that caused it. Needs atheris (`uv pip install atheris`), which is not a dependency of the
project.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["datasets", "train.history", "yaml"], enable_loader_override=False):
    from datasets import archives, capture, coco, labels, pixels, results, voc, yolo
    from datasets import data_yaml as card
    from datasets.containment import Bounds
    from datasets.errors import EnvironmentProblem, InputError
    from datasets.formats.described import open_described
    from datasets.formats.registry import FORMATS
    from train import history

if TYPE_CHECKING:
    from datasets.formats.described import Format

Check = Callable[[bytes], None]
CLASSES = ("pothole", "crack")
# Inputs that the fuzzer mutates: well-formed files of each kind.
SEEDS = {
    "labels": [
        b"0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4\n",
        b"\xef\xbb\xbfcrack 0.5 0.5 1 1\r\n",
        b"0,0.5,0.5\n# no\n0 nan inf 1e999 -0\n",
    ],
    "yaml": [
        b"path: .\ntrain: images/train\nval: [images/val, list.txt]\nnc: 2\n"
        b"names: {0: a, 1: b}\nkpt_shape: [3, 2]\ndownload: |\n  x\n",
        b"names: [a]\nval: &a ../x\ntest: *a\n",
    ],
    "coco": [
        b'{"images":[{"id":1,"file_name":"a.png","width":20,"height":20}],'
        b'"annotations":[{"image_id":1,"category_id":1,"bbox":[1,2,3,4],"iscrowd":0},'
        b'{"image_id":1,"category_id":1,"segmentation":[[1,2,3,4,5,6]]}],'
        b'"categories":[{"id":1,"name":"a"}]}'
    ],
    "results": [
        b'[{"image_id":1,"category_id":1,"bbox":[1,2,3,4],"score":0.5},'
        b'{"image_id":"a","category_id":1,"bbox":[1,2,3,4],"score":1}]'
    ],
    "voc": [
        b"<annotation><size><width>20</width><height>20</height></size>"
        b"<object><name>a</name><difficult>1</difficult>"
        b"<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    ],
    "list": [b"a.png\n./b/../a.png\n/etc/passwd\n../../x\n"],
    "history": [b"epoch, metrics/mAP50(B), train/box_loss\n1, 0.1, 2\n2, nan, 1\n3,"],
    "archive": [],
    "image": [],
    "capture": [
        b"1\n00:00:01,000 --> 00:00:01,033\n2023-05-12 14:11:12\n[rel_alt: 1.3 abs_alt: 45.8] [gb_pitch: -89.9]\n",
        b"2\n00:00:02,5 --> x\nH 50.10m, H.S 3.70m/s\nBAROMETER:80.9\n",
        b'\xff\xd8\xff\xe1Exif x:xmpmeta drone-dji:RelativeAltitude="+12.5" drone-dji:FlightXSpeed="1"',
    ],
    "Ultralytics NDJSON": [
        b'{"type":"dataset","task":"detect","class_names":{"0":"a","1":"b"}}\n'
        b'{"type":"image","file":"a.png","split":"val","annotations":{"boxes":[[0,0.5,0.5,0.2,0.3]]}}\n'
        b'{"type":"image","file":"a.png","annotations":{"segments":[[1,0.1,0.1,0.3,0.1,0.3,0.4]]}}'
    ],
    "Hugging Face imagefolder": [b'{"file_name":"a.png","objects":{"bbox":[[1,2,3,4]],"categories":["a"]}}'],
    "CVAT XML": [
        b'<annotations><version>1.1</version><image name="a.png" width="20" height="20">'
        b'<box label="a" xtl="1" ytl="2" xbr="9" ybr="9"/><polygon label="a" points="1,2;3,4;5,6"/>'
        b'<mask label="a" left="1" top="2" width="3" height="4"/><ellipse label="a" cx="5" cy="5" rx="2" ry="2"/>'
        b'<cuboid label="a" xtl1="1" ytl1="2" xbr1="3" ybr1="4"/></image></annotations>'
    ],
    "VIA": [
        b'{"a.png1":{"filename":"a.png","regions":[{"shape_attributes":{"name":"rect","x":1,"y":2,"width":3,'
        b'"height":4},"region_attributes":{"class":"a"}},{"shape_attributes":{"name":"polygon",'
        b'"all_points_x":[1,2,5],"all_points_y":[1,4,2]},"region_attributes":{"type":{"b":true}}}]}}'
    ],
    "Label Studio": [
        b'[{"data":{"image":"/d/a.png"},"annotations":[{"result":[{"type":"rectanglelabels","original_width":20,'
        b'"original_height":20,"value":{"x":5,"y":5,"width":30,"height":20,"rotation":30,'
        b'"rectanglelabels":["a"]}},{"type":"polygonlabels","value":{"points":[[1,2],[9,9]],"polygonlabels":["b"]}}]}]}]'
    ],
    "LabelMe": [
        b'{"shapes":[{"label":"a","points":[[9,9],[1,2]],"shape_type":"rectangle"},{"label":"b",'
        b'"points":[[9,9],[12,9]],"shape_type":"circle"}],"imagePath":"a.png","imageWidth":20,"imageHeight":20}'
    ],
    "FiftyOne": [b'{"classes":["a"],"labels":{"a":[{"label":0,"bounding_box":[0.1,0.1,0.3,0.2]}],"b":null}}'],
    "CreateML": [
        b'[{"image":"a.png","annotations":[{"label":"a","coordinates":{"x":5,"y":6,"width":4,"height":5}}]}]'
    ],
    "BDD100K": [
        b'[{"name":"a.png","timestamp":1,"labels":[{"category":"a","box2d":{"x1":1,"y1":2,"x2":9,"y2":9}},'
        b'{"category":"b","poly2d":[{"vertices":[[1,2],[5,9]]}]}]}]',
        b'{"name":"a","frames":[{"objects":[{"category":"a","box2d":{"x1":1,"y1":2,"x2":9,"y2":9}}]}]}',
    ],
    "TensorFlow CSV": [b"filename,width,height,class,xmin,ymin,xmax,ymax\na.png,20,20,a,1,2,9,9\n"],
    "VisDrone": [b"1,2,9,9,1,4,0,1\n3,3,5,5,0,0,0,0\n2,2,4,4,1,11,0,0,\n"],
    "KITTI": [
        b"Car 0.00 0 -1.57 4.00 5.00 18.00 19.00 1.5 1.6 3.7 -2.0 1.7 20.0 -1.6\n"
        b"DontCare -1 -1 -10 1 1 9 9 -1 -1 -1 -1000 -1000 -1000 -10\n"
    ],
    "OIDv4": [b"Traffic light 1.0 2.5 9.0 9.0\nCar 3 3 8 8\n"],
    "DOTA": [b"imagesource:x\ngsd:0.1\n1 2 9 2 9 9 1 9 a 0\n2.5 2 9 2 9 9 1 9 b 1\n"],
}


class Readers:
    """One check for each target: it passes an input to a reader and fails if the reader breaks its contract.

    folder: where inputs are written and what the readers are confined to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bounds = Bounds.of([folder])

    def checks(self) -> dict[str, Check]:
        """Target -> check."""
        return {
            "labels": self.check_labels,
            "yaml": self.check_yaml,
            "coco": self.check_coco,
            "results": self.check_results,
            "voc": self.check_voc,
            "list": self.check_list,
            "history": self.check_history,
            "archive": self.check_archive,
            "image": self.check_image,
            "capture": self.check_capture,
            **{format_.name: partial(self.check_format, format_) for format_ in FORMATS},
        }

    def stored(self, content: bytes, name: str = "input") -> Path:
        """A file with this content."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    def check_labels(self, content: bytes) -> None:
        """Label rows are boxes within the image, of a known class; rejected rows have a line and a reason."""
        for pose in (0, 6):
            try:
                rows, notes = labels.read_labels(self.stored(content), CLASSES, pose)
            except ValueError:
                continue
            assert all(0 <= r.x1 < r.x2 <= 1 and 0 <= r.y1 < r.y2 <= 1 and r.label in (0, 1) for r in rows)
            assert all(note.reason and note.line > 0 for note in notes)

    def check_yaml(self, content: bytes) -> None:
        """A data.yaml has classes and leads nowhere outside the folder."""
        try:
            data_yaml = card.read_data_yaml(self.stored(content), self.bounds)
        except InputError:
            return
        assert data_yaml.classes
        assert all(self.bounds.contain(path) for paths in data_yaml.splits.values() for path in paths)

    def check_coco(self, content: bytes) -> None:
        """Boxes of a COCO json are positive and within the image; each file is in the ledger once."""
        try:
            source = coco.open_coco("x", self.stored(content, "input.json"), self.bounds)
        except InputError:
            return
        corners = source.annotations[["x1", "y1", "x2", "y2"]].to_numpy()
        assert (corners[:, 2:] > corners[:, :2]).all()
        assert (corners >= 0).all()
        assert (corners <= 20).all()
        assert not source.ledger["path"].duplicated().any()

    def check_format(self, format_: Format, content: bytes) -> None:
        """Boxes of another tool's labels are positive and within the image; each file is in the
        ledger once.
        """
        path = self.stored(content, f"a{min(format_.suffixes)}")
        format_.recognises(path, content[:1000])
        try:
            source = open_described(
                "x", self.folder, [(path, format_)], self.bounds, CLASSES, yolo.account_files
            )
        except InputError:
            return
        finally:
            path.unlink()
        corners = source.annotations[["x1", "y1", "x2", "y2"]].to_numpy()
        assert (corners[:, 2:] > corners[:, :2]).all()
        assert (corners >= 0).all()
        assert (corners <= 20).all()
        assert source.annotations["label"].between(0, len(source.classes) - 1).all()
        assert not source.ledger["path"].duplicated().any()

    def check_capture(self, content: bytes) -> None:
        """Metadata are read or ignored."""
        times, records = capture.read_subtitles(self.stored(content, "a.srt"))
        assert times == sorted(times)
        assert len(times) == len(records)
        capture.of_image(self.stored(content, "b.jpg"))

    def check_results(self, content: bytes) -> None:
        """COCO results are read or refused."""
        with contextlib.suppress(InputError):
            results.read_results(self.stored(content))

    def check_voc(self, content: bytes) -> None:
        """Pascal VOC annotations are read or refused."""
        with contextlib.suppress(ValueError):
            voc.read_xml(self.stored(content))

    def check_list(self, content: bytes) -> None:
        """A list of images leads nowhere outside the folder."""
        try:
            source = yolo.open_list("x", self.stored(content, "input.txt"), CLASSES, self.bounds, self.folder)
        except InputError:
            return
        assert all(self.bounds.contain(Path(path)) for path in source.images["path"])

    def check_history(self, content: bytes) -> None:
        """A results.csv that is accepted has epochs."""
        try:
            table = history.read_history(self.stored(content))
        except InputError:
            return
        assert len(table)

    def check_archive(self, content: bytes) -> None:
        """An archive is unpacked or refused."""
        with contextlib.suppress(InputError, EnvironmentProblem):
            archives.unpack(self.stored(content), self.folder / "out")

    def check_image(self, content: bytes) -> None:
        """An image has the size that was read from its header."""
        try:
            path = self.stored(content)
            size = pixels.probe(path)[:2]
            image = pixels.decode(path)
        except pixels.UnreadableImage:
            return
        assert image.shape[:2] == size[::-1], (image.shape, size)


def well_formed(target: str) -> list[bytes]:
    """Inputs that the fuzzer mutates."""
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

        image = (np.arange(1200).reshape(20, 20, 3) % 251).astype(np.uint8)
        return [
            cv2.imencode(suffix, image)[1].tobytes() for suffix in (".jpg", ".png", ".bmp", ".tif", ".webp")
        ]
    return SEEDS[target]


def main() -> None:
    """Fuzz one target until the time is up or an input breaks it, which atheris writes to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(SEEDS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, help="Folder for inputs that reach new code.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        scratch = Path(name)
        corpus = arguments.corpus or scratch / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(well_formed(arguments.target)):
            (corpus / f"well-formed-{number}").write_bytes(content)
        folder = scratch / "dataset"
        (folder / "images").mkdir(parents=True)
        (folder / "a.png").write_bytes(well_formed("image")[1])
        (folder / "list.txt").write_text("a.png\n")
        check = Readers(folder).checks()[arguments.target]
        count, begin = 0, time.monotonic()

        def check_and_count(content: bytes) -> None:
            nonlocal count
            count += 1
            check(content)

        # atheris ends the process itself; only an exit handler still runs.
        atexit.register(
            lambda: sys.stdout.write(
                f"{arguments.target}: {count:,} inputs in {time.monotonic() - begin:.0f} s\n"
            )
        )
        options = [
            f"-max_total_time={arguments.seconds}",
            "-timeout=20",
            "-rss_limit_mb=3000",
            "-max_len=4096",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], str(corpus), *options], check_and_count)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
