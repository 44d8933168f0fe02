"""A detector that was loaded before is loaded again only where an image has to be predicted."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ultralytics import YOLO

from reports.options import ReportOptions
from reports.pipeline.inference import predict_domains
from reports.pipeline.runs import load_detector, load_run
from reports.progress import Reporter
from tests.conftest import untrained
from tests.test_cluster import write_images
from tests.test_sources import dataset
from train.forward import Detector
from train.predictions import Settings, Store
from train.remembered import RememberedDetector

SETTINGS = Settings(imgsz=96)
SECOND_TIME = """
import sys
from dataclasses import replace
from pathlib import Path
import pandas as pd
from reports.options import ReportOptions
from reports.pipeline.inference import predict_domains
from reports.pipeline.runs import load_detector, load_run
from reports.progress import Reporter
from train.predictions import Settings, Store
weights, images, store = map(Path, sys.argv[1:])
paths = sorted(images.iterdir())
table = pd.DataFrame({"image": [p.name for p in paths], "path": [str(p) for p in paths]})
detector = load_detector(weights)
predicted = detector.predict(table, Settings(imgsz=96), Store(store))
print(len(predicted.images), detector.backend, "torch" in sys.modules)
"""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def table_of(paths: list[Path]) -> pd.DataFrame:
    return pd.DataFrame({"image": [path.name for path in paths], "path": [str(path) for path in paths]})


def test_what_is_stored_is_read_without_pytorch(weights: Path, tmp_path: Path, runs: Path) -> None:
    paths = write_images(tmp_path / "images", 3)
    load_detector(weights).predict(table_of(paths), SETTINGS, Store(tmp_path / "store"))
    command = [
        sys.executable,
        "-c",
        SECOND_TIME,
        str(weights),
        str(tmp_path / "images"),
        str(tmp_path / "store"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "stored", "False"]


def test_it_is_loaded_for_the_first_image_that_is_not_stored(
    weights: Path, tmp_path: Path, runs: Path
) -> None:
    paths = write_images(tmp_path / "images", 5)
    first = load_detector(weights)
    assert isinstance(first, Detector)
    first.predict(table_of(paths[:3]), SETTINGS, Store(tmp_path / "store"))
    second = load_detector(weights)
    assert isinstance(second, RememberedDetector)
    assert (second.classes, second.imgsz) == (first.classes, first.imgsz)
    ticks = []
    predicted = second.predict(
        table_of(paths), SETTINGS, Store(tmp_path / "store"), tick=lambda: ticks.append(1)
    )
    assert second.is_loaded
    assert len(ticks) == len(predicted.images) == 5
    expected = first.predict(table_of(paths), SETTINGS, Store(tmp_path / "other"))
    pd.testing.assert_frame_equal(predicted.detections, expected.detections)
    np.testing.assert_array_equal(predicted.image_embeddings, expected.image_embeddings)


def test_only_the_same_bytes_and_device_are_remembered(tmp_path: Path, runs: Path) -> None:
    path = untrained(tmp_path / "best.pt", 4.0)
    load_detector(path)
    assert isinstance(load_detector(path, device="cpu"), Detector)
    assert isinstance(load_detector(path, device="cpu"), RememberedDetector)
    untrained(path, 1.0)
    assert isinstance(load_detector(path), Detector)
    for file in (runs / "predictions" / "detectors").iterdir():
        file.write_text("{")
    assert isinstance(load_detector(path), Detector)


def with_results(path: Path, kept: object) -> Path:
    """An untrained checkpoint that keeps something as its results.csv."""
    model = YOLO(str(untrained(path, 4.0)))
    model.ckpt = {**model.ckpt, "train_results": kept}
    model.save(str(path))
    return path


def test_the_training_curve_of_a_checkpoint_is_used_and_remembered(tmp_path: Path, runs: Path) -> None:
    rising = [0.1, 0.2, 0.3, 0.4]
    # As Ultralytics keeps results.csv in a checkpoint.
    kept = {"epoch": [1, 2, 3, 4], "metrics/mAP50(B)": rising, "train/box_loss": [4.0, 3, 2, 1]}
    path = with_results(tmp_path / "best.pt", kept)
    source = dataset(tmp_path / "data", "path: .\ntrain: images/train\nval: images/val\nnames: [pothole]\n")
    options = ReportOptions(weights=path, in_domain=("in-domain", str(source)), imgsz=64, fiftyone=False)
    said: list[str] = []
    reporter = Reporter()
    reporter.say = said.append  # type: ignore[method-assign]
    histories = [predict_domains(options, load_run(options), reporter).run.history for _ in range(2)]
    for history in histories:
        assert history["ap50"].tolist() == rising
        assert history["train_box_loss"].tolist() == [4, 3, 2, 1]
    assert sum("training curve of 4 epochs, from best.pt" in line for line in said) == 2
    # A results.csv that is given decides.
    (tmp_path / "results.csv").write_text("epoch,metrics/mAP50(B)\n1,0.5\n2,0.6\n")
    given = replace(options, history=tmp_path / "results.csv")
    assert predict_domains(given, load_run(given), reporter).run.history["ap50"].tolist() == [0.5, 0.6]


@pytest.mark.parametrize("kept", [None, [], {"epoch": "1"}, {"epoch": [1], "metrics/mAP50(B)": ["x"]}])
def test_what_is_no_training_curve_is_none(tmp_path: Path, runs: Path, kept: object) -> None:
    assert load_detector(with_results(tmp_path / "best.pt", kept)).training_curve == {}
