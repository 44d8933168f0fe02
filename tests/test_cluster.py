"""Forward passes on a Ray cluster give what they give here, also when a machine is killed in the middle."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from datasets.errors import InputError
from reports.pipeline.cluster import FEWEST, _Job, _run, predict_task
from reports.pipeline.runs import load_detector
from tests.conftest import SCRIPT, complaint, run_in_process, run_script
from train.forward import Detector
from train.passes import SHARD
from train.predictions import Predictions, Settings, Store

SETTINGS = Settings(imgsz=96)


def write_images(folder: Path, count: int) -> list[Path]:
    """Images of noise, of two shapes."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    paths = [folder / f"{number:04d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), rng.integers(0, 255, (64 + 32 * (number % 2), 96, 3), np.uint8))
    return paths


def job(weights: Path) -> _Job:
    """As `ClusterDetector` makes it."""
    return _Job(str(weights), "cpu", 1, False, SETTINGS, None, None)


def test_a_task_gives_each_content_once_and_leaves_out_what_is_known_or_broken(
    weights: Path, tmp_path: Path
) -> None:
    first, second, third, copy, broken, gone = write_images(tmp_path / "images", 6)
    copy.write_bytes(first.read_bytes())
    broken.write_bytes(b"no image")
    gone.unlink()
    paths = [first, second, third, copy, broken, gone]
    columns = {"path": np.array([str(path) for path in paths], object)}
    alone = predict_task({"path": columns["path"][1:2]}, job(weights), frozenset())
    known = frozenset(alone["content"])
    given = predict_task(columns, job(weights), known)
    assert [bool(content) for content in given["content"]] == [True, True, True, True, False, False]
    assert given["content"][3] == given["content"][0]
    assert [bool(prediction) for prediction in given["prediction"]] == [
        True,
        False,
        True,
        False,
        False,
        False,
    ]
    assert set(given["problem"]) == {""}


def test_a_checkpoint_that_no_worker_can_use_is_a_problem_and_no_retry(tmp_path: Path) -> None:
    (path,) = write_images(tmp_path / "images", 1)
    given = predict_task({"path": np.array([str(path)], object)}, job(tmp_path / "gone.pt"), frozenset())
    assert "no such checkpoint" in given["problem"][0]


def test_another_detector_is_not_distributed() -> None:
    with pytest.raises(InputError, match="--ray distributes checkpoints"):
        load_detector(Path("detector.onnx"), ray="local")


def test_without_ray_one_line_says_how_it_is_installed(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    write_images(tmp_path / "images", 1)
    told = run_in_process("predict", "images", "--weights", str(weights), "--ray", cwd=tmp_path)
    assert told.code == 3
    assert "install the extra" in complaint(told)


@pytest.mark.slow
def test_an_address_without_a_cluster_is_one_line(weights: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "images", 1)
    told = run_script("predict", "images", "--weights", str(weights), "--ray", "127.0.0.1:1", cwd=tmp_path)
    assert told.code == 3
    assert "no cluster answers there" in complaint(told)


@pytest.mark.slow
def test_ray_takes_the_tasks_of_a_gpu(weights: Path, tmp_path: Path) -> None:
    import ray

    paths = [str(path) for path in write_images(tmp_path / "images", 2)]
    ray.init("local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        # There is none: the task says so, which it can only where Ray has started it.
        on_gpu = replace(job(weights), device="cuda:0", known=ray.put(frozenset()))
        parts = list(_run(paths, on_gpu))
    finally:
        ray.shutdown()
    assert [str(path) for part in parts for path in part["path"]] == paths
    assert all("--device cuda:0: not available" in text for part in parts for text in part["problem"])


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head and a second machine, one core each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    made.shutdown()


@pytest.mark.slow
def test_a_killed_machine_costs_nothing_but_time(cluster: Any, weights: Path, tmp_path: Path) -> None:
    second = cluster.add_node(num_cpus=1)
    paths = write_images(tmp_path / "images", 8 * FEWEST)
    # A file that is no image, and copies, which are one prediction.
    paths[7].write_bytes(b"no image")
    paths[9].write_bytes(paths[8].read_bytes())
    runs, here = tmp_path / "runs", tmp_path / "here"
    arguments = ["predict", "images", "--weights", str(weights), "--imgsz", "96", "--conf", "1"]
    process = subprocess.Popen(
        [SCRIPT, *arguments, "--ray", cluster.address],
        cwd=tmp_path,
        env={**os.environ, "SHIFTSCOPE_RUNS": str(runs), "SHIFTSCOPE_BACKEND": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 600
    while not (stored := list(runs.glob("predictions/*/shard-*/images.parquet"))):
        assert process.poll() is None, process.stderr
        assert time.monotonic() < deadline
        time.sleep(0.05)
    cluster.remove_node(second)
    _, said = process.communicate(timeout=1200)
    assert process.returncode == 0, said
    assert "1 file not used" in said
    assert len(stored) * SHARD < len(paths) / 2, "the machine was killed when most was done"
    # As here with one thread a forward pass, which each core of a cluster has.
    alone = {"SHIFTSCOPE_RUNS": str(here), "SHIFTSCOPE_BACKEND": "", "OMP_NUM_THREADS": "1"}
    assert run_script(*arguments, cwd=tmp_path, **alone).code == 0
    table = pd.DataFrame({"image": [path.name for path in paths], "path": [str(path) for path in paths]})
    on_cluster, on_one = (predictions_in(folder, weights, table) for folder in (runs, here))
    for name in ("images", "detections", "failures"):
        pd.testing.assert_frame_equal(getattr(on_cluster, name), getattr(on_one, name), check_exact=True)
    np.testing.assert_array_equal(on_cluster.image_embeddings, on_one.image_embeddings)
    ours, theirs = on_cluster.detection_embeddings, on_one.detection_embeddings
    kept = np.flatnonzero(ours.place >= 0)
    np.testing.assert_array_equal(kept, np.flatnonzero(theirs.place >= 0))
    # By row: where a row is kept depends on the order in which images were predicted.
    np.testing.assert_array_equal(ours[kept], theirs[kept])


def predictions_in(runs: Path, weights: Path, images: pd.DataFrame) -> Predictions:
    """What is stored, without a forward pass."""
    (folder,) = {shard.parent for shard in runs.glob("predictions/*/shard-*")}
    detector = Detector(weights)
    predictions = detector.predict(images, SETTINGS, Store(folder))
    assert detector.backend == "stored"
    assert len(predictions.images) == len(images) - 1
    return predictions
