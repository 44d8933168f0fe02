"""Drafts of a detector looked through in FiftyOne: what people mend there is what training and the next `prepare` see."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from datasets.source import open_source
from datasets.world import DASHCAM, DRONE, Plan, build_world
from reports.commands.prepare import Order, prepare_dataset
from reports.commands.train import Order as Training
from reports.commands.train import open_all
from reports.progress import Reporter

QUIET = Reporter(quiet=True)


@pytest.fixture
def drafted(
    database: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, dict]:
    """A dataset of which the training images got drafts."""
    monkeypatch.setenv("SHIFTSCOPE_RUNS", str(tmp_path / "runs"))
    in_domain = tmp_path / "in_domain"
    list(build_world(in_domain, Plan(DASHCAM, {"train": (1, 2), "val": (1, 2)}, seed=1)))
    list(build_world(tmp_path / "sky", Plan(DRONE, {"val": (1, 3)}, seed=2)))
    for image in (tmp_path / "sky" / "images" / "val").iterdir():
        shutil.copyfile(image, in_domain / "images" / "train" / f"sky-{image.name}")
    order = Order(str(in_domain), tmp_path / "out", weights=weights, conf=0.1, imgsz=128, device="cpu")
    return tmp_path, prepare_dataset(order, QUIET)


def test_drafts_are_shown_mended_and_used(drafted: tuple[Path, dict]) -> None:
    place, result = drafted
    import fiftyone as fo

    from reports.workbench.dataset import newest_dataset
    from reports.workbench.pull import pull
    from reports.workbench.views import DRAFTS

    ledger = pd.read_csv(place / "out" / "ledger.csv")
    drafts = ledger[ledger["action"] == "draft"]
    assert len(drafts) == 3
    assert newest_dataset() != result["review"], "a review is no report"
    dataset = fo.load_dataset(result["review"])
    assert len(dataset) == 7
    view = dataset.load_saved_view(DRAFTS)
    assert view.values("least_sure") == sorted(drafts["confidence"])
    source = open_source(str(place / "out"), cache=place / "cache")
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

    training = Training(
        data=result["data"], model=None, epochs=1, imgsz=64, batch=1, device=None, name="t", resume=None, classes=(),
        arguments=(), real_world=(), every=1, class_map=(), allow=(), trust=False, corrections=True, seed=0,
    )  # fmt: skip
    taught, _ = open_all(training, QUIET)
    mine = taught.annotations[taught.annotations["image"].str.endswith(name)]
    image = taught.images[taught.images["image"].str.endswith(name)].iloc[0]
    assert len(mine) == number
    drawn = mine.iloc[-1]
    assert [drawn["x1"], drawn["x2"]] == pytest.approx([image["width"] / 4, image["width"] * 3 / 4], abs=0.02)
    # Written for good: what was looked through is no draft any more, the others still are.
    again = prepare_dataset(Order(result["data"], place / "final", fiftyone=False), QUIET)
    assert again["splits"]["train"]["drafts"] == 2
    final = pd.read_csv(place / "final" / "ledger.csv")
    assert (final["action"] == "draft").sum() == 2
    assert again["review"] is None


def test_without_a_database_the_dataset_is_complete(
    drafted: tuple[Path, dict],
    weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from datasets.errors import EnvironmentProblem

    place, _ = drafted

    def gone(*_: object) -> str:
        raise EnvironmentProblem("no database")

    monkeypatch.setattr("reports.workbench.review.publish_review", gone)
    order = Order(
        str(place / "in_domain"), place / "other", weights=weights, conf=0.1, imgsz=128, device="cpu"
    )
    result = prepare_dataset(order, Reporter())
    assert result["review"] is None
    said = capsys.readouterr().err
    assert "no FiftyOne dataset: no database" in said
    assert "Mend the file of the same name" in said
    assert len(open_source(str(place / "other"), cache=place / "cache").images) == 7
