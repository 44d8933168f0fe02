"""A detector's drafts reviewed in FiftyOne: training and the next `prepare` use the corrections."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from datasets.source import open_source
from datasets.tables import Source
from datasets.world import DASHCAM, DRONE, Plan, build_world
from reports.commands.prepare import prepare_dataset
from reports.commands.train import open_training_sources
from reports.options import PrepareOptions, TrainOptions
from reports.progress import Reporter

QUIET = Reporter(quiet=True)


@pytest.fixture
def drafted(
    database: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, dict]:
    """A dataset whose training images have drafts: its folder, and the result of `prepare`."""
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    in_domain = tmp_path / "in_domain"
    list(build_world(in_domain, Plan(DASHCAM, {"train": (1, 2), "val": (1, 2)}, seed=1)))
    list(build_world(tmp_path / "sky", Plan(DRONE, {"val": (1, 3)}, seed=2)))
    for image in (tmp_path / "sky" / "images" / "val").iterdir():
        shutil.copyfile(image, in_domain / "images" / "train" / f"sky-{image.name}")
    options = PrepareOptions(
        source=str(in_domain), out=tmp_path / "out", weights=weights, conf=0.1, imgsz=128, device="cpu"
    )
    return tmp_path, prepare_dataset(options, QUIET)


def open_training(data: str) -> Source:
    """The source that training on a dataset opens."""
    options = TrainOptions(data=data, epochs=1, imgsz=64, batch=1, name="t")
    return open_training_sources(options, QUIET)[0]


@pytest.mark.slow
def test_drafts_are_shown_corrected_and_used(drafted: tuple[Path, dict]) -> None:
    folder, result = drafted
    import fiftyone as fo

    from reports.workbench.dataset import newest_dataset
    from reports.workbench.pull import pull
    from reports.workbench.views import DRAFTS

    ledger = pd.read_csv(folder / "out" / "ledger.csv")
    drafts = ledger[ledger["action"] == "draft"]
    assert len(drafts) == 3
    assert newest_dataset([folder])[0] != result["review"], "a review is no report"
    dataset = fo.load_dataset(result["review"])
    assert len(dataset) == 7
    view = dataset.load_saved_view(DRAFTS)
    assert view.values("draft_confidence") == sorted(drafts["confidence"])
    source = open_source(str(folder / "out"), cache=folder / "cache")
    assert sum(len(d.detections) for d in dataset.values("ground_truth")) == len(source.annotations)

    sample = view.first()
    name = Path(sample.filepath).name
    number = len(sample.ground_truth.detections)
    assert number >= 2
    sample.ground_truth.detections = [
        *sample.ground_truth.detections[1:],
        fo.Detection(label="pothole", bounding_box=[0.25, 0.25, 0.5, 0.25], iscrowd=False),
    ]
    sample.save()
    assert pull(result["review"]).images == 1

    training = open_training(result["data"])
    annotations = training.annotations[training.annotations["image"].str.endswith(name)]
    image = training.images[training.images["image"].str.endswith(name)].iloc[0]
    assert len(annotations) == number
    drawn = annotations.iloc[-1]
    assert [drawn["x1"], drawn["x2"]] == pytest.approx([image["width"] / 4, image["width"] * 3 / 4], abs=0.02)
    # A reviewed draft is written as a label; the others are still drafts.
    again = prepare_dataset(
        PrepareOptions(source=result["data"], out=folder / "final", fiftyone=False), QUIET
    )
    assert again["splits"]["train"]["drafts"] == 2
    final = pd.read_csv(folder / "final" / "ledger.csv")
    assert (final["action"] == "draft").sum() == 2
    assert again["review"] is None


@pytest.mark.slow
def test_without_a_database_the_dataset_is_complete(
    drafted: tuple[Path, dict],
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from datasets.errors import EnvironmentProblem

    folder, _ = drafted

    def no_database(*_: object) -> str:
        raise EnvironmentProblem("no database")

    monkeypatch.setattr("reports.workbench.drafts.publish_drafts", no_database)
    options = PrepareOptions(
        source=str(folder / "in_domain"),
        out=folder / "other",
        weights=weights,
        conf=0.1,
        imgsz=128,
        device="cpu",
    )
    result = prepare_dataset(options, Reporter())
    assert result["review"] is None
    messages = capsys.readouterr().err
    assert "no FiftyOne dataset: no database" in messages
    assert "Correct the file of the same name" in messages
    assert len(open_source(str(folder / "other"), cache=folder / "cache").images) == 7
