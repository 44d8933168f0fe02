"""How to predict a domain: a change only where it helps beyond chance, thresholds measured on other clips,
and the same boxes from `predict --from-report` as from the report.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulated import make_domain
from datasets.errors import InputError
from datasets.pixels import decode
from datasets.source import open_source
from datasets.world import DRONE, Plan, build_world
from diagnostics.counterfactuals import Recovery, ap50, recovery
from diagnostics.deployment import Change, Changed, choose_deployment, crossfitted_f1, f1_at
from diagnostics.sweep import best_f_beta, sweep
from reports.commands.predict import lines, predict
from reports.export.inference import FILE, inference_text, read_inference
from reports.options import PredictOptions
from reports.progress import Reporter
from tests.conftest import complaint, run_in_process
from train.forward import Detector
from train.predictions import Settings, Store
from train.tiling import merge_boxes, place_boxes, predict_pixels_tiled, predict_tiled
from train.transforms import Tile

IN_DOMAIN = make_domain(clips=10, seed=1)


def deployment_of(real, changed: dict[str, tuple[Change, object]]):
    """The choice among changes: name to what it takes and the domain under it."""
    recoveries = {n: recovery(n, real, d, ap50(IN_DOMAIN), seed=0) for n, (_, d) in changed.items()}
    tried = [Changed(n, c, d) for n, (c, d) in changed.items()]
    return choose_deployment(real, IN_DOMAIN, real, tried, recoveries, 0.3, seed=0), recoveries


def test_a_change_that_helps_is_taken_and_one_that_does_not_is_left() -> None:
    small = {"sides": (10, 25), "size_matters": True, "clips": 12, "role": "real_world", "seed": 2}
    real = make_domain("real", **small)
    larger = make_domain("real", zoom=3.0, **small)
    chosen, recoveries = deployment_of(
        real, {"imgsz 1920": (Change(1920), larger), "colours": (Change(640, colours=((1,) * 3,) * 2), real)}
    )
    assert recoveries["imgsz 1920"].low > 0
    assert chosen.change == Change(1920)
    assert chosen.intervention == "imgsz 1920"
    assert chosen.f1 > chosen.f1_before + 0.1
    same, _ = deployment_of(real, {"colours": (Change(640, colours=((1,) * 3,) * 2), real)})
    assert same.change == Change(640)
    assert same.intervention == ""


def test_a_recovery_without_an_interval_is_no_reason() -> None:
    real = make_domain("real", role="real_world", clips=3, frames=20, seed=3)
    found = {"tiles": Recovery("tiles", 0.2, 0.6, 0.8, None, None, 60)}
    tried = [Changed("tiles", Change(640, tiles=True), real)]
    assert not choose_deployment(real, IN_DOMAIN, real, tried, found, 0.3, seed=0).change.tiles


def test_the_expected_f1_is_what_other_clips_give() -> None:
    """Over many worlds: not what the best threshold gives on the images it was chosen on."""
    expected, fresh, optimistic = [], [], []
    for seed in range(30):
        real = make_domain("real", clips=4, frames=2, seed=seed, confidence_shift=-0.35)
        other = make_domain("real", clips=40, frames=4, seed=1000 + seed, confidence_shift=-0.35)
        value = crossfitted_f1(real, seed=0)
        chosen = (
            choose_deployment(real, IN_DOMAIN, None, [], {}, 0.3, seed=0)
            if len(real.annotations) >= 30
            else None
        )
        best, confidence = best_f_beta(sweep(real.table))
        if value is None or confidence is None:
            continue
        expected.append(value)
        optimistic.append(best)
        threshold = np.full(1, confidence if chosen is None else chosen.thresholds["pothole"])
        fresh.append(f1_at(other, threshold, np.ones(other.table.n_images, bool)))
    assert len(expected) >= 25
    assert abs(np.mean(expected) - np.mean(fresh)) < 0.03
    assert np.mean(optimistic) > np.mean(expected)


def test_without_labels_thresholds_are_the_in_domain_ones() -> None:
    real = make_domain("real", role="real_world", labelled=False, seed=4)
    chosen = choose_deployment(real, IN_DOMAIN, None, [], {}, 0.3, seed=0)
    _, best = best_f_beta(sweep(IN_DOMAIN.table))
    assert chosen.thresholds["pothole"] == pytest.approx(best, abs=0.02)
    assert "too few labels" in chosen.note
    assert chosen.f1 is None


def written(folder: Path, weights: Path, change: Change, thresholds: dict[str, float]) -> Path:
    """A report's folder with inference.yaml."""
    real = make_domain("drone", role="real_world", clips=8, seed=5)
    chosen = choose_deployment(real, IN_DOMAIN, None, [], {}, 0.3, seed=0)
    chosen = replace(chosen, change=change, thresholds=thresholds)
    folder.mkdir()
    (folder / FILE).write_text(inference_text(folder, str(weights), None, [chosen]))
    return folder


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    change = Change(960, tiles=True, colours=((1.5, 2.5, 3.5), (4.5, 5.5, 6.5)))
    folder = written(tmp_path / "report", tmp_path / "best.pt", change, {"pothole": 0.11, "on": 0.5})
    found = read_inference(folder, None)
    assert found.change == change
    assert found.thresholds == {"pothole": 0.11, "on": 0.5}
    assert found.weights == tmp_path / "best.pt"
    with pytest.raises(InputError, match="has no domain night; it has drone"):
        read_inference(folder, "night")
    with pytest.raises(InputError, match=r"has no inference\.yaml"):
        read_inference(tmp_path, None)
    with pytest.raises(InputError, match="nowhere: no such folder"):
        read_inference(tmp_path / "nowhere", None)
    (folder / FILE).write_text("domains: {drone: {imgsz: 3}}")
    with pytest.raises(InputError, match="make the report again"):
        read_inference(folder, None)


@pytest.fixture(scope="module")
def drone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drone") / "drone"
    list(build_world(folder, Plan(DRONE, {"val": (2, 2)}, seed=3)))
    return folder


def test_predict_takes_size_tiles_and_thresholds_from_the_report(
    varied_weights: Path, drone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    report = written(tmp_path / "report", varied_weights, Change(192, tiles=True), {"pothole": 0.1})
    said: list[str] = []
    reporter = Reporter(quiet=True)
    monkeypatch.setattr(Reporter, "say", lambda self, line: said.append(line))
    options = PredictOptions(source=str(drone), from_report=report, out=tmp_path / "out")
    result = predict(options, reporter)
    assert result["settings"]["imgsz"] == 192
    assert result["tiles"]
    assert result["thresholds"] == {"pothole": 0.1}
    assert any("tiles" in line and "expected" in line for line in said)
    images = open_source(str(drone), cache=tmp_path).images
    detector = Detector(varied_weights)
    expected = 0
    for path in images["path"]:
        boxes = predict_pixels_tiled(detector, [decode(Path(path))], Settings(192))[0]
        expected += int((boxes[:, 4] >= 0.1).sum())
    assert result["boxes"] == expected > 0
    assert "at confidence 0.1 or above" in lines(result)[0]


def test_a_class_that_the_model_lacks_is_told(weights: Path, drone: Path, tmp_path: Path) -> None:
    report = written(tmp_path / "report", weights, Change(192), {"zebra": 0.1})
    outcome = run_in_process("predict", str(drone), "--from-report", str(report), cwd=tmp_path)
    assert outcome.code == 2
    assert "has a threshold for zebra" in complaint(outcome)
    outcome = run_in_process("predict", str(drone), cwd=tmp_path)
    assert "no detector" in complaint(outcome)


def test_frames_and_images_are_tiled_alike(varied_weights: Path, drone: Path, tmp_path: Path) -> None:
    """Pixel by pixel, as for videos, and through the store, as for images and interventions."""
    images = open_source(str(drone), cache=tmp_path).images
    detector, settings = Detector(varied_weights), Settings(192)

    def through_store(tile: Tile | None):
        named = replace(settings, transform=tile.name if tile else "none")
        store = Store(tmp_path / (named.transform.replace(" ", "_")))
        return detector.predict(images, named, store, transform=tile).detections

    tiled = predict_tiled(through_store(None), images, through_store, limit=settings.max_det)
    for image, path in zip(images["image"], images["path"], strict=True):
        ours = tiled[tiled["image"] == image][["x1", "y1", "x2", "y2", "confidence"]].to_numpy(float)
        direct = predict_pixels_tiled(detector, [decode(Path(path))], settings)[0][:, :5]
        assert len(ours) == len(direct) > 0
        apart = np.abs(ours[:, None] - direct[None]).max(2)
        assert (apart.min(1) < 0.01).all()


def test_boxes_that_a_tile_cuts_off_are_left_to_the_others() -> None:
    tile = Tile(0, 0)
    left, top, right, bottom = tile.bounds(1000, 500)
    inside = [10, 10, 50, 50, 0.9, 0]
    cut = [right - left - 30, 10, right - left, 50, 0.9, 0]
    at_the_border = [0, 0, 40, 40, 0.8, 0]
    placed = place_boxes(np.array([inside, cut, at_the_border], float), tile, 1000, 500)
    np.testing.assert_allclose(placed, [inside, at_the_border])
    np.testing.assert_allclose(
        place_boxes(np.array([inside], float), Tile(1, 1), 1000, 500)[:, :2], [[400 + 10, 200 + 10]]
    )
    assert (left, top, bottom) == (0, 0, 300)
    twice = np.array([inside, [12, 10, 52, 50, 0.7, 0], [12, 10, 52, 50, 0.6, 1]], float)
    assert sorted(merge_boxes(twice, 10).tolist()) == [0, 2]
