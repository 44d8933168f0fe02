"""One training from several sources: classes by their names, splits where only one of them has any, and nothing left behind in silence."""

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
from reports.commands.train import Order, open_all
from reports.export.handoff import write_handoff
from reports.options import ReportOptions
from reports.pipeline.sources import open_domains
from reports.progress import Reporter
from tests.conftest import complaint, run_script
from train.environment import frames_folder
from train.pretrained import ARCHITECTURE
from train.run import open_run
from train.staging import boxes_shown, stage

NAMES = ("pothole", "puddle")


def relabel(folder: Path, names: tuple[str, ...]) -> Path:
    """A rendered world in which every second pothole of a file is a puddle, numbered as names say."""
    for file in sorted((folder / "labels").rglob("*.txt")):
        rows = [row.split(" ", 1)[1] for row in file.read_text().splitlines()]
        numbers = [names.index(NAMES[place % 2]) for place in range(len(rows))]
        file.write_text("".join(f"{number} {row}\n" for number, row in zip(numbers, rows, strict=True)))
    card = yaml.safe_load((folder / "data.yaml").read_text())
    (folder / "data.yaml").write_text(yaml.safe_dump({**card, "names": list(names)}))
    return folder


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """home: two splits. turned: the other order, no val, file names of the in-domain. plain: images and labels of another flight in one folder. bare: no labels."""
    root = tmp_path_factory.mktemp("places")
    list(build_world(root / "in_domain", Plan(DASHCAM, {"train": (2, 4), "val": (2, 3)}, seed=1)))
    list(build_world(root / "turned", Plan(DRONE, {"train": (2, 4)}, seed=2)))
    list(build_world(root / "flown", Plan(DRONE, {"train": (1, 4)}, seed=3)))
    relabel(root / "in_domain", NAMES)
    relabel(root / "turned", NAMES[::-1])
    relabel(root / "flown", NAMES)
    for kind, into in (("images", ("plain", "bare")), ("labels", ("plain",))):
        for place in into:
            shutil.copytree(root / "flown" / kind / "train", root / place, dirs_exist_ok=True)
    assert {file.name for file in (root / "in_domain" / "images" / "train").iterdir()} == {
        file.name for file in (root / "turned" / "images" / "train").iterdir()
    }
    return root


def order(places: Path, *names: str) -> Order:
    return Order(
        data=",".join(str(places / name) for name in names), model=ARCHITECTURE, epochs=1, imgsz=64, batch=8, device="cpu",
        name="t", resume=None, classes=(), arguments=(), real_world=(), every=1, class_map=(), allow=(), trust=False,
        corrections=False, seed=0,
    )  # fmt: skip


def drawn(folder: Path, names: tuple[str, ...], split: str = "") -> Counter[str]:
    """Objects by name, as the label files say."""
    files = [*folder.rglob(f"{split}/*.txt")] if split else [*folder.rglob("*.txt")]
    return Counter(names[int(row.split()[0])] for file in files for row in file.read_text().splitlines())


def test_classes_in_another_order_a_missing_val_and_shared_names_are_one_dataset(
    places: Path, tmp_path: Path
) -> None:
    source, _ = open_all(order(places, "in_domain", "turned"), Reporter(quiet=True))
    assert source.classes == NAMES
    assert source.images["split"].value_counts().to_dict() == {"train": 16, "val": 6}
    assert source.images["image"].is_unique
    staged = stage(source, tmp_path / "staged", tmp_path).parent
    known = drawn(places / "in_domain", NAMES, "train") + drawn(places / "turned", NAMES[::-1], "train")
    assert drawn(staged, NAMES, "train") == known
    # Each image kept the labels that lie beside it.
    for image in (staged / "images" / "train").iterdir():
        original = Path(os.path.realpath(image))
        beside = Path(str(original).replace("/images/", "/labels/")).with_suffix(".txt")
        names = NAMES if original.is_relative_to(places / "in_domain") else NAMES[::-1]
        own = [names[int(row.split()[0])] for row in beside.read_text().splitlines()]
        label = staged / "labels" / "train" / f"{image.stem}.txt"
        assert sorted(own) == sorted(NAMES[int(row.split()[0])] for row in label.read_text().splitlines())
    # What was renumbered is not passed on as if its files said so.
    assert source.kind == "several"
    assert boxes_shown(source, {}) == {
        "train": known.total(),
        "val": drawn(places / "in_domain", NAMES, "val").total(),
    }


def test_a_plain_folder_is_training_in_the_other_sources_numbers(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for names in (("in_domain", "plain"), ("plain", "in_domain")):
        source, _ = open_all(order(places, *names), Reporter())
        assert source.classes == NAMES
        assert source.images["split"].value_counts().to_dict() == {"train": 12, "val": 6}
        said = capsys.readouterr().err
        assert "plain: names no splits; all of it is for training" in said
        assert "plain: names no classes" in said
        # The hand-off may name its label files: they say what the tables say.
        assert source.kind == "yolo"
    shown = boxes_shown(source, {})["train"]
    assert (
        shown
        == (drawn(places / "in_domain", NAMES, "train") + drawn(places / "flown", NAMES, "train")).total()
    )


def test_what_adds_nothing_or_speaks_of_other_things_is_refused(places: Path, tmp_path: Path) -> None:
    for names, words in (
        (("in_domain", "bare"), r"bare: has no labelled image in 'train' or 'val'"),
        (("turned", "plain"), r"training needs labelled images in both"),
    ):
        with pytest.raises(InputError, match=words):
            open_all(order(places, *names), Reporter(quiet=True))
    other = shutil.copytree(places / "in_domain", tmp_path / "other")
    relabel(other, NAMES)
    (other / "data.yaml").write_text((other / "data.yaml").read_text().replace("puddle", "crack"))
    with pytest.raises(
        InputError, match=r"other: its classes .*crack.* are not those of .*home.*in any order"
    ):
        open_all(
            replace(order(places, "in_domain"), data=f"{places / 'in_domain'},{other}"), Reporter(quiet=True)
        )


def test_a_hand_off_and_what_it_names_count_once(places: Path) -> None:
    in_domain = open_source(str(places / "in_domain"), cache=frames_folder())
    flown = open_source(str(places / "flown"), cache=frames_folder())
    domain = Domain(
        "flown", "real_world", flown.images, flown.annotations, pd.DataFrame(), None, None, 64, NAMES
    )  # fmt: skip
    chosen = flown.images[["image", "path", "group"]].assign(rank=range(1, 5), domain="flown")
    card = write_handoff(
        places / "hand-off", chosen, [domain], NAMES, 0.25, in_domain.images, frames_folder()
    )
    given = replace(order(places), data=f"{places / 'in_domain'},{card}")
    both, _ = open_all(given, Reporter(quiet=True))
    alone, _ = open_all(replace(given, data=str(card)), Reporter(quiet=True))
    for source in (both, alone):
        assert source.images["split"].value_counts().to_dict() == {"train": 12, "val": 6}
        assert source.images["path"].is_unique
    assert boxes_shown(both, {}) == boxes_shown(alone, {})


def test_boxes_are_counted_as_ultralytics_takes_them(places: Path) -> None:
    source = open_source(str(places / "in_domain"), cache=frames_folder())
    files = sorted((places / "in_domain" / "labels" / "train").iterdir())
    counts = [len(file.read_text().splitlines()) for file in files]
    assert boxes_shown(source, {})["train"] == sum(counts)
    assert boxes_shown(source, {"fraction": 0.5})["train"] == sum(counts[:4])
    assert boxes_shown(source, {"fraction": 3})["train"] == sum(counts[:3])
    assert boxes_shown(source, {"fraction": 1})["train"] == sum(counts)
    assert boxes_shown(source, {"fraction": [0.25, 0.5]})["train"] == sum(counts[:2])
    puddles = drawn(places / "in_domain", NAMES, "train")["puddle"]
    assert boxes_shown(source, {"classes": [1]})["train"] == puddles > 0


def test_the_command_trains_on_several_and_the_run_names_each(places: Path, tmp_path: Path) -> None:
    more = ["--epochs", "1", "--imgsz", "64", "--device", "cpu", "--model", str(ARCHITECTURE), "fraction=0.5"]
    outcome = run_script("train", "home,turned", *more, cwd=places, SHIFTSCOPE_RUNS=str(tmp_path / "runs"))
    assert outcome.code == 0, outcome.stderr
    folder = Path(outcome.stdout.strip())
    lineage = json.loads((folder / "shiftscope.json").read_text())
    assert lineage["sources"] == [str(places / "in_domain"), str(places / "turned")]
    source = open_training(lineage["source"], cache=frames_folder())
    assert lineage["boxes"] == boxes_shown(source, {"fraction": 0.5})
    assert lineage["boxes"]["train"] < boxes_shown(source, {})["train"]
    # A report opens the sources themselves, with their clips, and not the staged copy.
    run = open_run(folder)
    assert run.data_source() == lineage["source"]
    opened = open_domains(ReportOptions(run=folder), run, NAMES, lambda line: None)
    training = next(o.source for o in opened if o.role == "training")
    assert training.images["group"].nunique() == 4
    assert set(training.images["path"]) == set(source.images.loc[source.images["split"] == "train", "path"])


def test_a_second_source_without_a_comma_is_told_how(places: Path) -> None:
    outcome = run_script("train", "in_domain", "turned", cwd=places)
    assert outcome.code == 2
    assert "shiftscope train home,turned" in complaint(outcome)
    assert "nowhere: no such file" in complaint(run_script("train", "home,nowhere", cwd=places))
