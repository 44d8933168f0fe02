"""The earlier run: differences are tested against chance, clips in training are left out, lineage is read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.simulated import make_domain
from datasets.errors import InputError
from diagnostics.domain import Domain
from reports.page import earlier_run as words
from reports.pipeline import earlier_run
from reports.progress import Reporter
from train.predictions import Settings
from train.run import LINEAGE, Run, file_sha256, open_run, parent_of, training_imgsz


class EarlierDetector:
    """A detector with the detections of another simulated domain."""

    imgsz = 640

    def __init__(self, domain: Domain) -> None:
        self.domain, self.classes = domain, domain.classes

    def predict(self, images: pd.DataFrame, settings: Settings, store: object, *, tick) -> object:
        return replace(
            self.domain,
            detections=self.domain.detections[self.domain.detections["image"].isin(images["image"])],
        )


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))


RUN = Run(None, Path("first.pt"), "0" * 64, 640, None, pd.DataFrame(), {})


def compare_with(now: Domain, before: Domain, training: Domain | None = None) -> earlier_run.RunComparison:
    """The comparison of a domain as detected now and by an earlier run."""
    (comparison,) = earlier_run.compare_runs(
        earlier_run.EarlierRun(RUN, EarlierDetector(before)),
        [now],
        training,
        Reporter(quiet=True),
        training_total=len(training.images) if training is not None else 0,
        seed=0,
    )
    return comparison


def domain_at(recall: float, seed: int = 5) -> Domain:
    """The same images and annotations, detected at another recall: the random stream is the same."""
    return make_domain("real_world", role="real_world", clips=16, frames=6, seed=seed, recall=recall)


def test_a_better_detector_is_distinguished_from_chance() -> None:
    now, before = domain_at(0.9), domain_at(0.5)
    before = replace(before, annotations=now.annotations)
    comparison = compare_with(now, before)
    assert comparison.comparison.difference > 0.1
    assert "the change helped here" in words.sentence(comparison)
    assert "did harm here" in words.sentence(compare_with(before, now))


def test_the_same_detector_makes_no_difference() -> None:
    now = domain_at(0.8)
    comparison = compare_with(now, now)
    assert comparison.comparison.difference == 0
    assert "made no difference here" in words.sentence(comparison)
    assert words.values(comparison)["p"] == 1.0


def test_clips_that_are_in_training_are_left_out() -> None:
    now = domain_at(0.8)
    # Ten images of two clips of six images each: both clips are left out completely.
    training = now.subset(now.images["image"].head(10))
    comparison = compare_with(now, now, replace(training, role="training"))
    assert (comparison.image_count, comparison.trained_on) == (len(now.images) - 12, 12)
    assert "12 images of clips that are in training by now are left out" in words.sentence(comparison)
    unchecked = replace(comparison, unchecked=200)
    assert words.sentence(unchecked).endswith("200 training images were not checked for that.")


def test_five_clips_cannot_be_distinguished_from_chance() -> None:
    now = domain_at(0.8)
    clips = now.images["group"].unique()[:5]
    few = now.subset(now.images.loc[now.images["group"].isin(clips), "image"])
    assert "chance cannot be excluded" in words.sentence(compare_with(few, few))


def test_other_classes_are_refused() -> None:
    now = domain_at(0.8)
    with pytest.raises(InputError, match="class names do not match"):
        compare_with(now, replace(now, classes=("crater",)))


def test_lineage_leads_to_the_parent_run(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for number, folder in enumerate(folders):
        (folder / "weights").mkdir(parents=True)
        (folder / "weights" / "best.pt").write_bytes(bytes([number]))
        (folder / "args.yaml").write_text("imgsz: 256\n")
    parent = folders[0] / "weights" / "best.pt"
    (folders[1] / LINEAGE).write_text(
        json.dumps({"parent": str(parent), "model_sha256": file_sha256(parent)})
    )
    parent_run = parent_of(open_run(folders[1]))
    assert parent_run is not None
    assert parent_run.folder == folders[0]
    assert parent_of(open_run(folders[0])) is None
    # The checkpoint was overwritten since: the run did not continue from this one.
    parent.write_bytes(b"other")
    assert parent_of(open_run(folders[1])) is None
    (folders[1] / LINEAGE).write_text("{")
    assert parent_of(open_run(folders[1])) is None


def test_training_continues_at_the_image_size_of_the_parent_run(tmp_path: Path) -> None:
    weights = tmp_path / "weights" / "best.pt"
    assert training_imgsz(weights) is None
    assert training_imgsz(None) is None
    (tmp_path / "args.yaml").write_text("imgsz: 320\n")
    assert training_imgsz(weights) == 320
