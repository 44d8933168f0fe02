"""Training on several sources: classes are matched by name, missing splits and classes are completed."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from datasets.errors import InputError
from datasets.source import open_source, open_training
from datasets.world import DASHCAM, DRONE, Plan, build_world
from diagnostics.domain import Domain
from reports.commands.train import open_training_sources
from reports.export.handoff import write_handoff
from reports.options import ReportOptions, TrainOptions
from reports.pipeline.sources import open_domains
from reports.progress import Reporter
from tests.conftest import complaint, run_in_process, run_script
from train.environment import frames_folder
from train.recipe import ARCHITECTURE
from train.run import open_run
from train.staging import count_boxes_by_split, stage

NAMES = ("pothole", "puddle")


def relabel(folder: Path, names: tuple[str, ...]) -> Path:
    """A rendered world in which every second pothole of a file becomes a puddle, with these class numbers."""
    for file in sorted((folder / "labels").rglob("*.txt")):
        rows = [row.split(" ", 1)[1] for row in file.read_text().splitlines()]
        numbers = [names.index(NAMES[number % 2]) for number in range(len(rows))]
        file.write_text("".join(f"{number} {row}\n" for number, row in zip(numbers, rows, strict=True)))
    card = yaml.safe_load((folder / "data.yaml").read_text())
    (folder / "data.yaml").write_text(yaml.safe_dump({**card, "names": list(names)}))
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several sources in one folder.

    in_domain: two splits.
    turned: classes in the other order, no val, the file names of in_domain.
    plain: images and labels of another flight in one folder.
    bare: the same without labels.
    """
    root = tmp_path_factory.mktemp("sources")
    list(build_world(root / "in_domain", Plan(DASHCAM, {"train": (2, 4), "val": (2, 3)}, seed=1)))
    list(build_world(root / "turned", Plan(DRONE, {"train": (2, 4)}, seed=2)))
    list(build_world(root / "flown", Plan(DRONE, {"train": (1, 4)}, seed=3)))
    relabel(root / "in_domain", NAMES)
    relabel(root / "turned", NAMES[::-1])
    relabel(root / "flown", NAMES)
    for kind, into in (("images", ("plain", "bare")), ("labels", ("plain",))):
        for name in into:
            shutil.copytree(root / "flown" / kind / "train", root / name, dirs_exist_ok=True)
    assert {file.name for file in (root / "in_domain" / "images" / "train").iterdir()} == {
        file.name for file in (root / "turned" / "images" / "train").iterdir()
    }
    return root


def order(sources: Path, *names: str) -> TrainOptions:
    return TrainOptions(
        data=",".join(str(sources / name) for name in names), model=ARCHITECTURE, epochs=1, imgsz=64, batch=8,
        device="cpu", name="t", corrections=False,
    )  # fmt: skip


def drawn(folder: Path, names: tuple[str, ...], split: str = "") -> Counter[str]:
    """Count of annotations per class name in the label files."""
    files = [*folder.rglob(f"{split}/*.txt")] if split else [*folder.rglob("*.txt")]
    return Counter(names[int(row.split()[0])] for file in files for row in file.read_text().splitlines())


def test_classes_in_another_order_a_missing_val_and_shared_names_are_one_dataset(
    sources: Path, tmp_path: Path
) -> None:
    source, _ = open_training_sources(order(sources, "in_domain", "turned"), Reporter(quiet=True))
    assert source.classes == NAMES
    assert source.images["split"].value_counts().to_dict() == {"train": 16, "val": 6}
    assert source.images["image"].is_unique
    staged = stage(source, tmp_path / "staged", tmp_path).parent
    expected = drawn(sources / "in_domain", NAMES, "train") + drawn(sources / "turned", NAMES[::-1], "train")
    assert drawn(staged, NAMES, "train") == expected
    # Each image keeps its own labels.
    for image in (staged / "images" / "train").iterdir():
        original = Path(os.path.realpath(image))
        beside = Path(str(original).replace("/images/", "/labels/")).with_suffix(".txt")
        names = NAMES if original.is_relative_to(sources / "in_domain") else NAMES[::-1]
        original_names = [names[int(row.split()[0])] for row in beside.read_text().splitlines()]
        label = staged / "labels" / "train" / f"{image.stem}.txt"
        assert sorted(original_names) == sorted(
            NAMES[int(row.split()[0])] for row in label.read_text().splitlines()
        )
    # A renumbered source does not count as one whose label files agree with its tables.
    assert source.kind == "several"
    assert count_boxes_by_split(source, {}) == {
        "train": expected.total(),
        "val": drawn(sources / "in_domain", NAMES, "val").total(),
    }


def test_a_plain_folder_is_training_in_the_other_sources_numbers(
    sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for names in (("in_domain", "plain"), ("plain", "in_domain")):
        source, _ = open_training_sources(order(sources, *names), Reporter())
        assert source.classes == NAMES
        assert source.images["split"].value_counts().to_dict() == {"train": 12, "val": 6}
        output = capsys.readouterr().err
        assert "plain: names no splits; all its images are training images" in output
        assert "plain: names no classes" in output
        # The label files agree with the tables, so that an export may refer to them.
        assert source.kind == "yolo"
    shown = count_boxes_by_split(source, {})["train"]
    assert (
        shown
        == (drawn(sources / "in_domain", NAMES, "train") + drawn(sources / "flown", NAMES, "train")).total()
    )


def test_sources_without_labels_or_with_other_classes_are_refused(sources: Path, tmp_path: Path) -> None:
    for names, message in (
        (("in_domain", "bare"), r"bare: has no labelled image in 'train' or 'val'"),
        (("turned", "plain"), r"training needs labelled images in both"),
    ):
        with pytest.raises(InputError, match=message):
            open_training_sources(order(sources, *names), Reporter(quiet=True))
    other = shutil.copytree(sources / "in_domain", tmp_path / "other")
    relabel(other, NAMES)
    (other / "data.yaml").write_text((other / "data.yaml").read_text().replace("puddle", "crack"))
    with pytest.raises(
        InputError, match=r"other: its classes .*crack.* are not those of .*in_domain.*in any order"
    ):
        open_training_sources(
            replace(order(sources, "in_domain"), data=f"{sources / 'in_domain'},{other}"),
            Reporter(quiet=True),
        )


def test_an_export_and_the_images_it_refers_to_count_once(sources: Path) -> None:
    in_domain = open_source(str(sources / "in_domain"), cache=frames_folder())
    flown = open_source(str(sources / "flown"), cache=frames_folder())
    domain = Domain(
        "flown", "real_world", flown.images, flown.annotations, pd.DataFrame(), None, None, 64, NAMES
    )  # fmt: skip
    chosen = flown.images[["image", "path", "group"]].assign(rank=range(1, 5), domain="flown")
    card = write_handoff(
        sources / "hand-off",
        chosen,
        [domain],
        classes=NAMES,
        confidence=0.25,
        training_images=in_domain.images,
    )
    both_order = replace(order(sources), data=f"{sources / 'in_domain'},{card}")
    both, _ = open_training_sources(both_order, Reporter(quiet=True))
    alone, _ = open_training_sources(replace(both_order, data=str(card)), Reporter(quiet=True))
    for source in (both, alone):
        assert source.images["split"].value_counts().to_dict() == {"train": 12, "val": 6}
        assert source.images["path"].is_unique
    assert count_boxes_by_split(both, {}) == count_boxes_by_split(alone, {})


def test_boxes_are_counted_as_ultralytics_counts_them(sources: Path) -> None:
    source = open_source(str(sources / "in_domain"), cache=frames_folder())
    files = sorted((sources / "in_domain" / "labels" / "train").iterdir())
    counts = [len(file.read_text().splitlines()) for file in files]
    assert count_boxes_by_split(source, {})["train"] == sum(counts)
    assert count_boxes_by_split(source, {"fraction": 0.5})["train"] == sum(counts[:4])
    assert count_boxes_by_split(source, {"fraction": 3})["train"] == sum(counts[:3])
    assert count_boxes_by_split(source, {"fraction": 1})["train"] == sum(counts)
    assert count_boxes_by_split(source, {"fraction": [0.25, 0.5]})["train"] == sum(counts[:2])
    puddles = drawn(sources / "in_domain", NAMES, "train")["puddle"]
    assert count_boxes_by_split(source, {"classes": [1]})["train"] == puddles > 0


@pytest.mark.slow
def test_train_takes_several_sources_and_the_run_records_each(sources: Path, tmp_path: Path) -> None:
    more = ["--epochs", "1", "--imgsz", "64", "--device", "cpu", "--model", str(ARCHITECTURE), "fraction=0.5"]
    outcome = run_script(
        "train", "in_domain,turned", *more, cwd=sources, SHIFTSCOPE_RUNS=str(tmp_path / "runs")
    )
    assert outcome.code == 0, outcome.stderr
    folder = Path(outcome.stdout.strip())
    lineage = json.loads((folder / "shiftscope.json").read_text())
    assert lineage["sources"] == [str(sources / "in_domain"), str(sources / "turned")]
    source = open_training(lineage["source"], cache=frames_folder())
    assert lineage["boxes"] == count_boxes_by_split(source, {"fraction": 0.5})
    assert lineage["boxes"]["train"] < count_boxes_by_split(source, {})["train"]
    # A report opens the sources themselves, with their groups, and not the staged copy.
    run = open_run(folder)
    assert run.data_source() == lineage["source"]
    opened = open_domains(ReportOptions(run=folder), run, NAMES, lambda line: None)
    training = next(o.source for o in opened if o.role == "training")
    # Of these the training used the first half, as it numbered them.
    numbered = source.images[(source.images["split"] == "train") & source.images["labelled"]]
    assert training.images["path"].tolist() == numbered["path"].tolist()[: round(len(numbered) / 2)]
    assert training.images["group"].nunique() == 2


@pytest.mark.slow
def test_a_second_source_without_a_comma_is_corrected_by_the_message(sources: Path) -> None:
    outcome = run_in_process("train", "in_domain", "turned", cwd=sources)
    assert outcome.code == 2
    assert "shiftscope train in_domain,turned" in complaint(outcome)
    assert "nowhere: no such file" in complaint(run_in_process("train", "in_domain,nowhere", cwd=sources))
