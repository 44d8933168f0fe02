"""`shiftscope inspect A --against B`: planted changes between two versions of a dataset are found, and no
others.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.world import DASHCAM, Plan, build_world
from tests.conftest import run_script


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of a rendered dataset: before, now."""
    list(build_world(tmp_path / "before", Plan(DASHCAM, {"train": (4, 3), "val": (2, 3)}, seed=5)))
    shutil.copytree(tmp_path / "before", tmp_path / "now")
    data = tmp_path / "now" / "data.yaml"
    data.write_text(data.read_text().replace(str(tmp_path / "before"), str(tmp_path / "now")))
    return tmp_path / "before", tmp_path / "now"


def difference(before: Path, now: Path) -> dict:
    outcome = run_script("inspect", str(now), "--against", str(before), "--json", cwd=now.parent)
    assert outcome.code == 0, outcome.stderr
    found: dict = json.loads(outcome.stdout)["difference"]
    return found


def labels_of(image: Path) -> Path:
    return Path(str(image).replace("images", "labels")).with_suffix(".txt")


def test_a_copy_is_unchanged(versions: tuple[Path, Path]) -> None:
    found = difference(*versions)
    assert found["unchanged"] == 18
    nothing = ("added", "removed", "renamed", "other_pixels", "near_copies", "moved_split", "relabelled")
    assert {name: found[name] for name in nothing} == {name: [] for name in nothing}
    assert all(row["before"] == row["now"] for row in found["classes"] + found["sizes"])


def test_every_planted_change_is_found(versions: tuple[Path, Path]) -> None:
    before, now = versions
    train = sorted((now / "images" / "train").glob("*.jpg"))
    labelled = [image for image in train if len(labels_of(image).read_text().splitlines()) >= 1]
    # Removed with its labels; renamed; encoded anew; moved to validation; labels removed, added, shrunk.
    removed, renamed, encoded, moved = train[0], train[3], train[6], train[9]
    free = [image for image in labelled if image not in (removed, renamed, encoded, moved)]
    emptied, more, shrunk = free[:3]
    removed.unlink()
    labels_of(removed).unlink()
    new_name = renamed.with_name("another_name.jpg")
    renamed.rename(new_name)
    labels_of(renamed).rename(labels_of(new_name))
    pixels = cv2.imread(str(encoded))
    cv2.imwrite(str(encoded), cv2.convertScaleAbs(pixels, alpha=0.9), [cv2.IMWRITE_JPEG_QUALITY, 60])
    for file in (moved, labels_of(moved)):
        file.rename(str(file).replace("/train/", "/val/"))
    gone = len(labels_of(emptied).read_text().splitlines())
    labels_of(emptied).write_text("")
    with labels_of(more).open("a") as file:
        file.write("0 0.06 0.06 0.05 0.05\n")
    rows = [line.split() for line in labels_of(shrunk).read_text().splitlines()]
    labels_of(shrunk).write_text(
        "".join(f"{c} {x} {y} {float(w) * 0.85} {float(h) * 0.85}\n" for c, x, y, w, h in rows)
    )
    # A new image, and one that is a near-copy of a kept one.
    rng = np.random.default_rng(0)
    noise = cv2.resize(rng.integers(0, 255, (9, 12, 3)).astype(np.uint8), (384, 288))
    cv2.imwrite(str(train[0].with_name("new.jpg")), noise)
    labels_of(train[0].with_name("new.jpg")).write_text("")
    kept = cv2.imread(str(free[3]))
    cv2.imwrite(str(train[0].with_name("copy.jpg")), cv2.GaussianBlur(kept, (3, 3), 0))
    labels_of(train[0].with_name("copy.jpg")).write_text("")

    found = difference(before, now)
    assert [Path(name).name for name in found["removed"]] == [removed.name]
    assert [[Path(name).name for name in pair] for pair in found["renamed"] if "another" in pair[1]] == [
        [renamed.name, "another_name.jpg"]
    ]
    assert [Path(name).name for name in found["other_pixels"]] == [encoded.name]
    assert [(Path(image).name, old, new) for image, old, new in found["moved_split"]] == [
        (moved.name, "train", "val")
    ]
    assert sorted(Path(name).name for name in found["added"]) == ["copy.jpg", "new.jpg"]
    assert [[Path(name).name for name in pair] for pair in found["added_copies"]] == [
        ["copy.jpg", free[3].name]
    ]
    by_image = {Path(row["image_now"]).name: row for row in found["relabelled"]}
    assert set(by_image) == {emptied.name, more.name, shrunk.name}
    assert by_image[emptied.name]["removed"] == gone
    assert by_image[more.name]["added"] == 1
    assert by_image[shrunk.name]["redrawn"] == len(rows)
    lost = len(labels_of(before / removed.relative_to(now)).read_text().splitlines())
    total = {row["class"]: row["now"] - row["before"] for row in found["classes"]}
    assert total == {"pothole": 1 - gone - lost}


def test_classes_belong_to_each_other_by_name(versions: tuple[Path, Path]) -> None:
    before, now = versions
    data = now / "data.yaml"
    data.write_text(data.read_text().replace("pothole", "hole"))
    found = difference(before, now)
    boxes = sum(row["before"] for row in found["classes"])
    assert found["boxes"] == {"added": 0, "removed": 0, "redrawn": 0, "renamed": boxes}
    assert {row["class"] for row in found["classes"]} == {"hole", "pothole"}


@pytest.mark.slow
def test_it_reads_well(versions: tuple[Path, Path]) -> None:
    before, now = versions
    sorted((now / "images" / "val").glob("*.jpg"))[0].unlink()
    outcome = run_script("inspect", str(now), "--against", str(before), cwd=now.parent)
    assert outcome.code == 0
    assert f"against {before}" in outcome.stdout
    assert "17 unchanged (0 of them under another name), 0 added, 1 removed" in outcome.stdout
    missing = run_script("inspect", str(now), "--against", str(now / "nowhere"), cwd=now.parent)
    assert missing.code == 2
    assert "nowhere" in missing.stderr
