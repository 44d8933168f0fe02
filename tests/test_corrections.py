"""Corrected labels and tags: merged with earlier corrections, stored, and applied when a source is opened."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from datasets.corrections import Correction, apply, as_text, read_corrections, same_boxes
from datasets.errors import InputError
from datasets.source import open_source
from datasets.tables import OWN, Source
from reports.workbench.pull import ImageEdits, combine, merge

HOLE, OTHER = ("hole", 10.0, 10.0, 50.0, 40.0, False), ("hole", 60.0, 10.0, 90.0, 40.0, False)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Two labelled images with one annotation each, and one without a label file."""
    import cv2
    import numpy as np

    for name in ("a", "b", "c"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "labels").mkdir(exist_ok=True)
        noise = np.random.default_rng(ord(name)).integers(0, 255, (100, 100, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), noise)
        if name != "c":
            (tmp_path / "labels" / f"{name}.txt").write_text("0 0.3 0.25 0.4 0.3\n")
    (tmp_path / "data.yaml").write_text(f"path: {tmp_path}\nval: images\nnames: [hole]\n")
    return open_source(str(tmp_path / "data.yaml"), cache=tmp_path / "cache")


def path_of(source: Source, stem: str) -> str:
    return next(p for p in source.images["path"] if Path(p).stem == stem)


def test_corrected_labels_replace_those_on_disk(source: Source) -> None:
    before = source.annotations.copy()
    corrections = {path_of(source, "a"): Correction((HOLE,), (HOLE, OTHER), ("shadow",))}
    changed, done = apply(source, corrections, ())
    assert (done.labels, done.stale, done.tagged, done.unknown) == (1, 0, 1, ())
    assert len(changed.annotations) == len(before) + 1
    assert changed.annotations["x2"].max() == 90
    assert changed.annotations.dtypes.equals(before.dtypes)
    assert changed.images[OWN + "tag shadow"].notna().sum() == 1
    assert source.annotations.equals(before)


def test_an_unlabelled_image_becomes_a_labelled_one(source: Source) -> None:
    bare = dataclasses.replace(
        source, images=source.images.assign(labelled=lambda t: t["labelled"] & (t["image"].str[-5] != "c"))
    )
    changed, done = apply(bare, {path_of(source, "c"): Correction(None, (OTHER,))}, ())
    assert done.labels == 1
    assert changed.images["labelled"].sum() == bare.images["labelled"].sum() + 1
    assert len(changed.annotations) == len(source.annotations) + 1


def test_labels_that_changed_on_disk_since_win(source: Source) -> None:
    moved = ("hole", 0.0, 0.0, 30.0, 30.0, False)
    for was in (moved,), (HOLE, OTHER), ():
        changed, done = apply(source, {path_of(source, "a"): Correction(was, (OTHER,))}, ())
        assert (done.labels, done.stale) == (0, 1)
        assert changed.annotations.equals(source.annotations)
    # Emptied on disk since: that is a change, too.
    emptied = dataclasses.replace(source, annotations=source.annotations.iloc[:0])
    assert apply(emptied, {path_of(source, "a"): Correction((HOLE,), (OTHER,))}, ())[1].stale == 1


def test_removing_every_label_leaves_a_background_image(source: Source) -> None:
    changed, done = apply(source, {path_of(source, "a"): Correction((HOLE,), ())}, ())
    assert done.labels == 1
    assert len(changed.annotations) == len(source.annotations) - 1
    assert changed.images["labelled"].sum() == source.images["labelled"].sum()


def test_boxes_of_unknown_classes_are_reported_and_left_out(source: Source) -> None:
    dog = ("dog", *HOLE[1:])
    changed, done = apply(source, {path_of(source, "a"): Correction((HOLE,), (HOLE, dog))}, ())
    assert done.unknown == ("dog",)
    assert len(changed.annotations) == len(source.annotations)


def edited(written: tuple | None, drawn: tuple | None, **tags: set[str]) -> ImageEdits:
    return ImageEdits(
        written, drawn, drawn != written, *(frozenset(tags.get(k, ())) for k in ("added", "removed"))
    )


def test_an_image_labelled_with_unknown_classes_only_stays_unlabelled(source: Source) -> None:
    bare = dataclasses.replace(
        source, images=source.images.assign(labelled=False), annotations=source.annotations.iloc[:0]
    )
    changed, done = apply(bare, {path_of(source, "c"): Correction(None, (("dog", *HOLE[1:]),))}, ())
    assert (done.labels, done.foreign) == (0, 1)
    assert not changed.images["labelled"].any()


def test_the_tag_label_next_gives_no_slice(source: Source) -> None:
    changed, done = apply(
        source, {path_of(source, "a"): Correction((HOLE,), None, ("label next", "wet"))}, ()
    )
    assert done.tagged == 1
    assert [c for c in changed.images if c.startswith(OWN)] == [OWN + "tag wet"]


def test_the_labels_of_the_source_are_kept_over_several_corrections() -> None:
    first = merge(None, edited((HOLE,), (OTHER,)), "a 1")
    assert first == Correction((HOLE,), (OTHER,), (), "a 1")
    # The dataset of the next report has OTHER, which is then removed.
    second = merge(first, edited((OTHER,), ()), "a 2")
    assert second == Correction((HOLE,), (), (), "a 2")
    # No change in that dataset, or in another one with the labels of the source: the correction stays.
    assert merge(second, edited((), ()), "a 3") == second
    assert merge(second, edited((HOLE,), (HOLE,)), "b 1") == second
    # Back to the labels of the source: no correction is left.
    assert merge(second, edited((), (HOLE,)), "a 3") is None


def test_a_correction_undone_in_its_own_dataset_is_removed() -> None:
    moved = merge(None, edited((HOLE,), (OTHER,)), "a 1")
    assert merge(moved, edited((HOLE,), (HOLE,)), "a 1") is None


def test_a_correction_restarts_from_labels_that_changed_on_disk() -> None:
    old = Correction((HOLE,), (OTHER,), (), "a 1")
    on_disk = ("hole", 1.0, 1.0, 9.0, 9.0, False)
    assert merge(old, edited((on_disk,), (HOLE,)), "a 2") == Correction((on_disk,), (HOLE,), (), "a 2")


def test_tags_are_added_and_removed_one_by_one() -> None:
    earlier = Correction((HOLE,), None, ("shadow",), "a 1")
    same = (HOLE,), (HOLE,)
    # A dataset that never had the tags removes none.
    assert merge(earlier, edited(*same), "b 1") == earlier
    more = merge(earlier, edited(*same, added={"wet"}), "b 1")
    assert more is not None
    assert more.tags == ("shadow", "wet")
    assert merge(earlier, edited(*same, removed={"shadow"}), "b 1") is None


def test_edits_of_one_image_in_two_domains_are_combined() -> None:
    changed, plain = edited((HOLE,), (OTHER,), added={"x"}), edited((HOLE,), (HOLE,), added={"y"})
    for pair in ((changed, plain), (plain, changed)):
        combined = combine(*pair)
        assert combined.changed
        assert combined.current == (OTHER,)
        assert combined.added == {"x", "y"}


def test_a_file_of_corrections_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "corrections.json"
    assert read_corrections(path) == {}
    content = {
        "/a b.png": Correction((HOLE,), (HOLE, OTHER), ("x",)),
        "/c.png": Correction(None, None, ("y",)),
    }
    path.write_text(as_text(content))
    assert read_corrections(path) == content


def test_a_file_of_format_1_is_read_and_rewritten_as_format_2(tmp_path: Path) -> None:
    entry = {"was": [list(HOLE)], "now": [list(HOLE), list(OTHER)], "tags": ["shadow"], "origin": "a 1"}
    path = tmp_path / "corrections.json"
    path.write_text(json.dumps({"format": 1, "pictures": {"/a b.png": entry}}))
    corrections = read_corrections(path)
    assert corrections == {"/a b.png": Correction((HOLE,), (HOLE, OTHER), ("shadow",), "a 1")}
    path.write_text(as_text(corrections))
    assert json.loads(path.read_text()) == {"format": 2, "images": {"/a b.png": entry}}
    assert read_corrections(path) == corrections


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 3, "images": {}}', '{"format": 1, "images": {"a": {"was": [[1]]}}}']
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "corrections.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"corrections\.json: not a file of corrections"):
        read_corrections(path)


def test_order_and_rounding_make_no_difference() -> None:
    near = ("hole", 10.01, 10.0, 50.0, 39.995, False)
    assert same_boxes((HOLE, OTHER), (OTHER, near))
    assert not same_boxes((HOLE, HOLE), (HOLE, OTHER))
    assert not same_boxes((HOLE,), (HOLE, OTHER))
