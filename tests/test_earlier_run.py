"""The earlier run: a better detector is told from chance, what training shows by now is left out, and lineage leads to the parent."""

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
from train.run import LINEAGE, Run, file_sha256, open_run, parent_of, trained_at


class Earlier:
    """A detector that says what another simulated domain's did."""

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


def compared(now: Domain, then: Domain, training: Domain | None = None) -> earlier_run.RunComparison:
    (found,) = earlier_run.compare_runs(
        RUN,
        now.classes,
        [now],
        training,
        None,
        lambda weights: Earlier(then),
        Reporter(),
        training_total=len(training.images) if training is not None else 0,
        seed=0,
    )
    return found


def seen_with(hit_rate: float, seed: int = 5) -> Domain:
    """The same images and objects, found at another rate: the stream of randomness is drawn alike."""
    return make_domain("real_world", role="real_world", clips=16, frames=6, seed=seed, hit_rate=hit_rate)


def test_a_better_detector_is_told_from_chance() -> None:
    now, then = seen_with(0.9), seen_with(0.5)
    change = compared(now, replace(then, annotations=now.annotations))
    assert change.comparison.difference > 0.1
    assert "what was changed helped here" in words.sentence(change)
    back = compared(replace(then, annotations=now.annotations), now)
    assert "did harm here" in words.sentence(back)


def test_the_same_detector_makes_no_difference() -> None:
    now = seen_with(0.8)
    change = compared(now, now)
    assert change.comparison.difference == 0
    assert "made no difference here" in words.sentence(change)
    assert words.values(change)["p"] == 1.0


def test_images_that_training_shows_are_left_out() -> None:
    now = seen_with(0.8)
    # Ten images of two clips of six: both clips are left out whole.
    training = now.subset(now.images["image"].head(10))
    change = compared(now, now, replace(training, role="training"))
    assert (change.image_count, change.trained_on) == (len(now.images) - 12, 12)
    assert "12 images of clips that training shows by now are left out" in words.sentence(change)
    many = replace(change, unchecked=200)
    assert words.sentence(many).endswith("200 training images were not looked at for that.")


def test_five_clips_cannot_be_told_from_chance() -> None:
    now = seen_with(0.8)
    clips = now.images["group"].unique()[:5]
    few = now.subset(now.images.loc[now.images["group"].isin(clips), "image"])
    assert "cannot be told" in words.sentence(compared(few, few))


def test_other_classes_are_refused() -> None:
    now = seen_with(0.8)
    with pytest.raises(InputError, match="class names do not match"):
        compared(now, replace(now, classes=("crater",)))


def test_lineage_leads_to_the_run_before(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for number, folder in enumerate(folders):
        (folder / "weights").mkdir(parents=True)
        (folder / "weights" / "best.pt").write_bytes(bytes([number]))
        (folder / "args.yaml").write_text("imgsz: 256\n")
    parent = folders[0] / "weights" / "best.pt"
    (folders[1] / LINEAGE).write_text(
        json.dumps({"parent": str(parent), "model_sha256": file_sha256(parent)})
    )
    found = parent_of(open_run(folders[1]))
    assert found is not None
    assert found.folder == folders[0]
    assert parent_of(open_run(folders[0])) is None
    # Overwritten since: not the weights it went on from.
    parent.write_bytes(b"other")
    assert parent_of(open_run(folders[1])) is None
    (folders[1] / LINEAGE).write_text("{")
    assert parent_of(open_run(folders[1])) is None


def test_training_goes_on_at_the_size_of_the_run_before(tmp_path: Path) -> None:
    weights = tmp_path / "weights" / "best.pt"
    assert trained_at(weights) is None
    assert trained_at(None) is None
    (tmp_path / "args.yaml").write_text("imgsz: 320\n")
    assert trained_at(weights) == 320
