"""The FiftyOne dataset written as documents.

FiftyOne reads it as its own, ids stay the same, evaluations agree with FiftyOne's, and writing is fast.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated import make_domain
from datasets.shapes import Shape, pack_mask, pack_points
from diagnostics.domain import Domain
from diagnostics.findings import Findings, find
from diagnostics.inputs import Experiments, Inputs
from reports.commands.score import score
from reports.options import ScoreOptions
from reports.progress import Reporter
from reports.workbench import dataset as workbench
from reports.workbench.connection import database as connected
from reports.workbench.documents import SHOWN_FLOOR, boxes_of, evaluation_key


def score_files(ground_truth: Path, predictions: Path, **options: object) -> dict:
    return score(ScoreOptions(ground_truth=ground_truth, predictions=predictions, **options))


def with_sizes(domain: Domain) -> Domain:
    domain.images["width"], domain.images["height"] = 640, 480
    return domain


def with_localization_errors(domain: Domain) -> Domain:
    """With duplicate detections, and detections beside their annotation."""
    duplicates = domain.detections.iloc[:20].assign(confidence=lambda t: t["confidence"] * 0.9)
    beside = domain.detections.iloc[20:40].assign(confidence=lambda t: t["confidence"] * 0.95)
    beside[["x1", "x2"]] += 0.6 * (beside["x2"] - beside["x1"]).to_numpy()[:, None]
    return replace(
        domain,
        detections=pd.concat([domain.detections, duplicates, beside], ignore_index=True),
        detection_embeddings=np.vstack([domain.detection_embeddings, domain.detection_embeddings[:40]]),
    )


@pytest.fixture(scope="module")
def findings() -> Findings:
    in_domain = with_sizes(make_domain("in_domain", clips=8, frames=4, seed=1))
    real_world = with_sizes(
        make_domain(
            "over head", role="real_world", clips=8, frames=4, seed=2, recall=0.4, embedding_shift=3.0
        )
    )
    real_world = with_localization_errors(real_world)
    bare = with_sizes(
        make_domain("bare", role="real_world", clips=3, frames=4, seed=3, labelled=False, clip_names="b")
    )
    training = with_sizes(make_domain("training", role="training", clips=8, frames=4, seed=4, clip_names="t"))
    return find(
        Inputs(in_domain, [real_world, bare], training, pd.DataFrame(), Experiments(), conf=None, seed=0)
    )


@pytest.fixture(scope="module")
def published(
    database: str, findings: Findings, tmp_path_factory: pytest.TempPathFactory
) -> workbench.PublishedDataset:
    report = tmp_path_factory.mktemp("report")
    return workbench.publish(findings, report, {"seed": 0}, Reporter())


def test_fiftyone_reads_every_document_as_its_own(
    published: workbench.PublishedDataset, findings: Findings
) -> None:
    with connected() as fo:
        dataset = fo.load_dataset(published.dataset)
        assert len(dataset) == 32 + 32 + 12
        assert dataset.media_type == "image"
        boxes = 0
        for sample in dataset:
            assert sample.metadata.width == 640
            assert sample.created_at is not None
            for box in sample.predictions.detections:
                assert isinstance(box, fo.Detection)
                assert len(box.bounding_box) == 4
                boxes += 1
        expected = sum((d.detections["confidence"] >= SHOWN_FLOOR).sum() for d in findings.domains)
        assert boxes == expected > 0
        # Nothing undeclared: the schema that FiftyOne finds by reading is the one that was declared.
        declared = set(dataset.get_field_schema(flat=True))
        dataset.add_dynamic_sample_fields()
        assert set(dataset.get_field_schema(flat=True)) == declared
        assert dataset.distinct("domain") == ["bare", "in_domain", "over head"]
        assert set(dataset.list_indexes()) >= {"domain", "group", "label_next", "novelty"}


def test_unlabelled_images_have_no_results(published: workbench.PublishedDataset) -> None:
    with connected() as fo:
        view = fo.load_dataset(published.dataset).match(fo.ViewField("domain") == "bare")
        assert view.count("ground_truth.detections") == 0
        assert set(view.values("missed")) == {None}
        assert set(view.distinct("predictions.detections.outcome")) == set()


def test_ids_stay_the_same_when_a_report_is_written_again(
    published: workbench.PublishedDataset, findings: Findings, tmp_path: Path
) -> None:
    with connected() as fo:
        before = fo.load_dataset(published.dataset).values(["id", "predictions.detections.id"])
        again = workbench.publish(findings, tmp_path, {}, Reporter())
        dataset = fo.load_dataset(again.dataset)
        assert dataset.values(["id", "predictions.detections.id"]) == before
        dataset.delete()
    first, second = (
        {url.split("id=")[1] for url in dataset.app_urls.values()} for dataset in (published, again)
    )
    assert first == second


def with_shapes(domain: Domain, kind: str) -> Domain:
    """Diamonds in the boxes, annotated as polygons and detected as masks; or two key points, one of them not
    annotated.
    """
    images = domain.images.set_index("image")

    def annotated(row: pd.Series) -> Shape:
        width, height = images.loc[row["image"], ["width", "height"]]
        x, y = (row["x1"] + row["x2"]) / 2 / width, (row["y1"] + row["y2"]) / 2 / height
        left, top, right, bottom = (
            row["x1"] / width,
            row["y1"] / height,
            row["x2"] / width,
            row["y2"] / height,
        )
        if kind == "points":
            return Shape("points", (left, top, 2.0, right, bottom, 0.0))
        return Shape("polygons", ((x, top, right, y, x, bottom, left, y),))

    def detected(row: pd.Series) -> bytes:
        if kind == "points":
            return pack_points(np.array([[row["x1"], row["y1"]], [row["x2"], row["y2"]]]))
        down, across = np.mgrid[:480, :640]
        x, y = (row["x1"] + row["x2"]) / 2, (row["y1"] + row["y2"]) / 2
        width, height = row["x2"] - row["x1"], row["y2"] - row["y1"]
        return pack_mask(np.abs(across + 0.5 - x) / width + np.abs(down + 0.5 - y) / height <= 0.5)

    return replace(
        domain,
        annotations=domain.annotations.assign(shape=[annotated(r) for _, r in domain.annotations.iterrows()]),
        detections=domain.detections.assign(shape=[detected(r) for _, r in domain.detections.iterrows()]),
    )


@pytest.mark.parametrize("kind", ["masks", "points"])
def test_masks_and_key_points_are_fiftyones_own(database: str, tmp_path: Path, kind: str) -> None:
    in_domain, real_world = (
        with_shapes(with_sizes(make_domain(name, role=role, clips=2, frames=3, seed=seed)), kind)
        for name, role, seed in (("inside", "in_domain", 1), ("outside", "real_world", 2))
    )
    findings = find(Inputs(in_domain, [real_world], None, pd.DataFrame(), Experiments(), conf=None, seed=0))
    result = workbench.publish(findings, tmp_path / kind, {}, Reporter())
    with connected() as fo:
        dataset = fo.load_dataset(result.dataset)
        declared = set(dataset.get_field_schema(flat=True))
        dataset.add_dynamic_sample_fields()
        assert set(dataset.get_field_schema(flat=True)) == declared
        objects = 0
        for sample in dataset:
            boxes = [*sample.predictions.detections, *sample.ground_truth.detections]
            if kind == "masks":
                for box in boxes:
                    height, width = box.mask.shape
                    sides = np.array(box.bounding_box[2:]) * (640, 480)
                    assert (width, height) == pytest.approx(sides, abs=2)
                    # A diamond covers half of its box.
                    assert box.mask.sum() == pytest.approx(sides.prod() / 2, abs=2 * sides.sum())
                objects += len(boxes)
                continue
            for points, own, count in (
                (sample.predictions_points, sample.predictions, 2),
                (sample.ground_truth_points, sample.ground_truth, 1),
            ):
                assert (points is None) == (not own.detections)
                for found, box in zip(points.keypoints if points else [], own.detections, strict=True):
                    assert isinstance(found, fo.Keypoint)
                    assert len(found.points) == count
                    np.testing.assert_allclose(found.points[0], box.bounding_box[:2], atol=1e-6)
                    objects += 1
        assert objects > 30


def test_outcomes_agree_with_fiftyones_own_evaluation(
    published: workbench.PublishedDataset, findings: Findings
) -> None:
    real_world = findings.real_world[0]
    key = evaluation_key(real_world)
    with connected() as fo:
        copy = fo.load_dataset(published.dataset).match(fo.ViewField("domain") == real_world.name).clone()
        copy.evaluate_detections(
            "predictions",
            gt_field="ground_truth",
            eval_key="fiftyone",
            iou=0.5,
            classwise=True,
            progress=False,
        )
        for counts, expected in zip(
            copy.values([f"{key}_tp", f"{key}_fp", f"{key}_fn"]),
            copy.values(["fiftyone_tp", "fiftyone_fp", "fiftyone_fn"]),
            strict=True,
        ):
            assert counts == expected
        copy.delete()


def test_matches_name_boxes_of_the_dataset(published: workbench.PublishedDataset, findings: Findings) -> None:
    real_world = findings.real_world[0]
    with connected() as fo:
        view = fo.load_dataset(published.dataset).match(fo.ViewField("domain") == real_world.name)
        annotations, detections = (
            {i for ids in view.values(f"{field}.detections.id") for i in ids or ()}
            for field in ("ground_truth", "predictions")
        )
    matches = boxes_of(real_world, findings.cards).matches
    assert {m[4] for m in matches if m[4]} == annotations
    assert {m[5] for m in matches if m[5]} <= detections


def scored(domain: Domain, slices: dict[str, list[str]], folder: Path) -> dict[str, dict]:
    """Entries of `shiftscope score` for slices (name -> images), by name."""
    number = {image: i for i, image in enumerate(domain.labelled_images["image"], start=1)}

    def boxes(table: pd.DataFrame) -> list[dict]:
        return [
            {
                "image_id": number[r.image],
                "category_id": int(r.label) + 1,
                "bbox": [r.x1, r.y1, r.x2 - r.x1, r.y2 - r.y1],
                "area": (r.x2 - r.x1) * (r.y2 - r.y1),
                "score": getattr(r, "confidence", 1.0),
                "iscrowd": int(getattr(r, "crowd", 0)),
                "id": i,
            }
            for i, r in enumerate(table.itertuples(), start=1)
        ]

    truth = {
        "images": [{"id": i} for i in number.values()],
        "categories": [{"id": i} for i in range(1, len(domain.classes) + 1)],
        "annotations": boxes(domain.annotations),
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "detections.json").write_text(json.dumps(boxes(domain.scored_detections)))
    pairs = [f"{number[image]},{name}" for name, images in slices.items() for image in images]
    (folder / "slices.csv").write_text("\n".join(["image_id,slice", *pairs]))
    result = score_files(folder / "truth.json", folder / "detections.json", slices=folder / "slices.csv")
    return {entry["slice"]: entry for entry in result["slices"]}


def test_map_of_a_slice_is_its_own_and_fiftyones_is_that_of_the_dataset(
    published: workbench.PublishedDataset, findings: Findings, tmp_path: Path
) -> None:
    real_world = findings.real_world[0]
    key = evaluation_key(real_world)
    with connected() as fo:
        dataset = fo.load_dataset(published.dataset)
        view = dataset.match(fo.ViewField("domain") == real_world.name)
        fields = [f for f in dataset.get_field_schema() if f.startswith("slice_")]
        slices = {
            f"{field}={value}": (field, value, view.match(fo.ViewField(field) == value).values("image_id"))
            for field in fields
            for value in view.distinct(field)
        }
        assert len(slices) >= 4
        truth = scored(real_world, {name: images for name, (_, _, images) in slices.items()}, tmp_path)
        results = dataset.load_evaluation_results(key, cache=False)
        complete = results.mAP()
        for name, (field, value, _) in slices.items():
            with results.use_subset({"type": "field", "field": field, "value": value}):
                assert results.mAP() == pytest.approx(truth[name]["ap"], abs=1e-9), name
                assert results.mAR() == pytest.approx(truth[name]["ar_100"], abs=1e-9), name
            assert results.mAP() == complete
        assert len({round(entry["ap"], 6) for entry in truth.values()}) > 3
        # FiftyOne's own evaluation of the same boxes: every slice has the mAP of the dataset.
        # When this fails, FiftyOne has corrected it.
        copy = view.clone()
        reference = copy.evaluate_detections(
            "predictions", gt_field="ground_truth", eval_key="fiftyone", compute_mAP=True, progress=False
        )
        stale = reference.mAP()
        for field, value, _ in slices.values():
            with reference.use_subset({"type": "field", "field": field, "value": value}):
                assert reference.mAP() == stale
        copy.delete()


def test_map_of_annotations_of_one_size_is_that_of_the_report(
    published: workbench.PublishedDataset, findings: Findings
) -> None:
    real_world = findings.real_world[0]
    with connected() as fo:
        results = fo.load_dataset(published.dataset).load_evaluation_results(evaluation_key(real_world))
        sizes = findings.slices[
            (findings.slices["domain"] == real_world.name) & (findings.slices["attribute"] == "size")
        ]
        sizes = sizes[np.isfinite(sizes["ap"])]
        assert len(sizes)
        for row in sizes.itertuples():
            with results.use_subset({"type": "attribute", "field": "size", "value": row.slice}):
                assert results.mAP() == pytest.approx(row.ap, abs=1e-9)


def test_counts_at_a_threshold_are_those_of_the_reports_sweep(
    published: workbench.PublishedDataset, findings: Findings
) -> None:
    from reports.workbench.threshold import count_at_threshold, view_at_threshold

    with connected() as fo:
        dataset = fo.load_dataset(published.dataset)
        for domain in (findings.in_domain, findings.real_world[0]):
            points = findings.sweeps[domain.name].set_index("confidence")
            for confidence in (0.05, 0.25, 0.5, 0.8):
                counts, row = count_at_threshold(dataset, domain.name, confidence), points.loc[confidence]
                assert counts.recall == pytest.approx(row["recall"], abs=1e-12)
                assert counts.precision == pytest.approx(row["precision"], abs=1e-12)
                assert counts.true_positives + counts.missed == len(domain.annotations)
        real_world = findings.real_world[0].name
        for confidence in (0.25, 0.6):
            counts = count_at_threshold(dataset, real_world, confidence)
            wrong = view_at_threshold(dataset, [real_world], confidence, "false positives")
            assert wrong.count("predictions.detections") == counts.false_positives
            missed = view_at_threshold(dataset, [real_world], confidence, "missed")
            assert missed.count("ground_truth.detections") == counts.missed
            everything = view_at_threshold(dataset, [real_world], confidence, "all")
            outcomes = everything.count_values("ground_truth.detections.outcome")
            assert outcomes.get("missed", 0) == counts.missed
            assert (
                everything.count("predictions.detections") == counts.true_positives + counts.false_positives
            )


def test_saved_views_hold_what_their_names_promise(
    published: workbench.PublishedDataset, findings: Findings
) -> None:
    real_world = findings.real_world[0]
    with connected() as fo:
        dataset = fo.load_dataset(published.dataset)

        def outcomes(view: str, field: str) -> dict:
            return dataset.load_saved_view(view).count_values(f"{field}.detections.outcome")

        assert set(outcomes("localization errors", "predictions")) == {"location"}
        assert set(outcomes("duplicates", "predictions")) == {"duplicate"}
        assert set(outcomes("missed", "ground_truth")) == {"missed"}
        assert not set(outcomes("false positives", "predictions")) & {"true_positive", "ignored"}
        worst = [name for name in dataset.list_saved_views() if name.startswith("worst slice")]
        assert worst
        for name in worst:
            view = dataset.load_saved_view(name)
            assert len(view)
            assert view.distinct("domain") == [real_world.name]
        assert dataset.has_workspace("shift")
        groups = {g.name: g.paths for g in dataset.app_config.sidebar_groups}
        assert "domain" in groups["source"]
        assert "outcome" in groups["errors"]


def test_images_hold_their_novelty_and_shift_score(
    published: workbench.PublishedDataset, findings: Findings
) -> None:
    """The shift score separates the two domains better than chance; each image holds its own novelty."""
    with connected() as fo:
        dataset = fo.load_dataset(published.dataset)
        in_domain, real_world = (
            dataset.match(fo.ViewField("domain") == name) for name in ("in_domain", "over head")
        )
        scores = [view.values("shift_score") for view in (in_domain, real_world)]
        novelty = dict(zip(*real_world.values(["image_id", "novelty"]), strict=True))
    assert all(0 <= score <= 1 for values in scores for score in values)
    assert np.mean([high > low for high in scores[1] for low in scores[0]]) > 0.75
    images = findings.real_world[0].images["image"]
    assert novelty == dict(zip(images, findings.novelty["over head"].tolist(), strict=True))


def test_the_annotate_tab_is_set_up_for_ground_truth_only(
    published: workbench.PublishedDataset, findings: Findings
) -> None:
    with connected() as fo:
        dataset = fo.load_dataset(published.dataset)
        assert list(dataset.active_label_schemas) == ["ground_truth"]
        assert list(dataset.label_schemas["ground_truth"]["classes"]) == list(findings.in_domain.classes)


def test_other_datasets_stay_unchanged(findings: Findings, tmp_path: Path) -> None:
    with connected() as fo:
        other = fo.Dataset("other-dataset")
        other.persistent = True
        other.add_sample(fo.Sample(filepath=str(tmp_path / "a.jpg"), tags=["other"]))
        changed = other.last_modified_at
        result = workbench.publish(findings, tmp_path / "beside", {}, Reporter())
        again = fo.load_dataset("other-dataset")
        again.reload()
        assert again.values("tags") == [["other"]]
        assert again.last_modified_at == changed
        fo.delete_dataset(result.dataset)
        again.delete()


def test_a_gallery_link_shows_only_its_box(published: workbench.PublishedDataset, findings: Findings) -> None:
    with connected() as fo:
        dataset = fo.load_dataset(published.dataset)
        slugs = {fo.core.utils.to_slug(name): name for name in dataset.list_saved_views()}
        kinds = set()
        for number, card in enumerate(findings.cards.to_dict("records")):
            query = dict(part.split("=") for part in published.app_urls[number].split("?")[1].split("&"))
            view = dataset.load_saved_view(slugs[query["view"]]).match(
                fo.ViewField("image_id") == card["image"]
            )
            sample = view.match(fo.ViewField("domain") == card["domain"]).first()
            assert sample.id == query["id"]
            field = sample.predictions if card["detection"] >= 0 else sample.ground_truth
            assert len(field.detections) == 1
            left, top, width, height = field.detections[0].bounding_box
            corners = [left * 640, top * 480, (left + width) * 640, (top + height) * 480]
            assert corners == pytest.approx([card[c] for c in ("x1", "y1", "x2", "y2")], abs=1e-6)
            kinds.add(card["kind"])
        assert {"false_positive", "missed"} <= kinds


def test_another_run_is_added_beside_the_first(findings: Findings, tmp_path: Path) -> None:
    """The same detector without every second detection: its evaluation, its detections, and disagreements."""
    from reports.workbench.models import with_detections

    real_world = findings.real_world[0]
    fewer = with_detections(real_world, real_world.images["image"], real_world.detections.iloc[::2])
    result = workbench.publish(findings, tmp_path / "two runs", {}, Reporter(), {"last week": [fewer]})
    key = evaluation_key(real_world, "last week")
    with connected() as fo:
        dataset = fo.load_dataset(result.dataset)
        assert {"predictions", "predictions_last_week"} <= set(dataset.get_field_schema())
        declared = set(dataset.get_field_schema(flat=True))
        dataset.add_dynamic_sample_fields()
        assert set(dataset.get_field_schema(flat=True)) == declared
        results = dataset.load_evaluation_results(key)
        assert results.mAP() == pytest.approx(accumulated(fewer), abs=1e-9)
        assert results.mAP() != dataset.load_evaluation_results(evaluation_key(real_world)).mAP()
        view = dataset.load_saved_view("disagreements with last week")
        pairs = set(
            zip(
                view.values("ground_truth.detections.outcome", unwind=True),
                view.values("ground_truth.detections.outcome_last_week", unwind=True),
                strict=True,
            )
        )
        assert ("detected", "missed") in pairs
        assert all(first != second for first, second in pairs)
        assert sum(view.values("disagreement_last_week")) == view.count("ground_truth.detections")
        # FiftyOne's own evaluation of those boxes.
        copy = dataset.match(fo.ViewField("domain") == real_world.name).clone()
        copy.evaluate_detections(
            "predictions_last_week", gt_field="ground_truth", eval_key="fiftyone", iou=0.5, progress=False
        )
        expected = copy.count_values("predictions_last_week.detections.fiftyone")
        assert copy.count_values(f"predictions_last_week.detections.{key}") == expected
        copy.delete()
        dataset.delete()


def test_two_comparisons_do_not_affect_each_other(findings: Findings, tmp_path: Path) -> None:
    from reports.workbench.models import add_model, with_detections

    real_world = findings.real_world[0]
    result = workbench.publish(findings, tmp_path / "thrice", {}, Reporter())
    with connected() as fo:
        dataset = fo.load_dataset(result.dataset)
        counts = {}
        for model, step in (("one", 2), ("two", 3), ("one", 2)):
            other = with_detections(
                real_world, real_world.images["image"], real_world.detections.iloc[::step]
            )
            view = dataset.load_saved_view(add_model(fo, dataset, model, [other]))
            number = view.count("ground_truth.detections")
            assert number > 0
            assert counts.setdefault(model, number) == number
        for model in ("one", "two"):
            view = dataset.load_saved_view(f"disagreements with {model}")
            assert view.count("ground_truth.detections") == counts[model]
            key = evaluation_key(real_world, model)
            assert set(dataset.count_values(f"predictions_{model}.detections.{key}")) >= {"tp", "fp"}
        # Images that were not compared have no count, rather than 0.
        assert dataset.match(fo.ViewField("domain") != real_world.name).count("disagreement_one") == 0
        dataset.delete()


def test_domains_and_slices_with_similar_names_do_not_collide(findings: Findings, tmp_path: Path) -> None:
    from datasets.naming import unique_name
    from reports.workbench.documents import field_suffix, slice_field

    taken: set[str] = set()
    names = [
        unique_name(name, taken) for name in ("over head", "over-head", "Over.Head", "m²", "道路", "高架")
    ]
    assert len({field_suffix(name) for name in names}) == len(names)
    assert all(field_suffix(name).isascii() and field_suffix(name).isidentifier() for name in names[:3])
    assert all(f"eval_{field_suffix(name)}".isidentifier() for name in names)
    assert slice_field("brightness") != slice_field("own:brightness")
    # A model's evaluation key is never that of a domain.
    in_domain = findings.in_domain
    assert evaluation_key(replace(in_domain, name="a"), "b") != evaluation_key(replace(in_domain, name="a b"))


def test_ids_of_boxes_stay_the_same_when_others_change(findings: Findings) -> None:
    real_world = findings.real_world[0]
    box = real_world.annotations.iloc[[0]].assign(x1=1.0, y1=1.0, x2=9.0, y2=9.0)
    more = replace(real_world, annotations=pd.concat([box, real_world.annotations], ignore_index=True))
    before, after = (boxes_of(d, findings.cards) for d in (real_world, more))
    first, second = (
        {box["_id"]: box["bounding_box"] for image in boxes.annotations.values() for box in image}
        for boxes in (before, after)
    )
    assert len(second) == len(first) + 1
    assert all(second[key] == box for key, box in first.items())


def test_crowds_are_neither_detected_nor_missed(findings: Findings, tmp_path: Path) -> None:
    from reports.workbench.threshold import count_at_threshold, view_at_threshold

    real_world = findings.real_world[0]
    crowds = real_world.annotations["crowd"].copy()
    crowds.iloc[:5] = True
    fewer = replace(real_world, annotations=real_world.annotations.assign(crowd=crowds))
    crowded = find(
        Inputs(findings.in_domain, [fewer], None, pd.DataFrame(), Experiments(), conf=None, seed=0)
    )
    result = workbench.publish(crowded, tmp_path / "crowds", {}, Reporter())
    with connected() as fo:
        dataset = fo.load_dataset(result.dataset)
        points = crowded.sweeps[real_world.name].set_index("confidence")
        counts = count_at_threshold(dataset, real_world.name, 0.5)
        assert counts.true_positives + counts.missed == len(real_world.annotations) - 5
        assert counts.recall == pytest.approx(points.loc[0.5, "recall"], abs=1e-12)
        shown = view_at_threshold(dataset, [real_world.name], 0.99, "all")
        missed = shown.filter_labels("ground_truth", fo.ViewField("outcome") == "missed")
        assert (
            missed.filter_labels("ground_truth", fo.ViewField("iscrowd")).count("ground_truth.detections")
            == 0
        )
        # A user draws an annotation: it is missed.
        sample = dataset.match(fo.ViewField("domain") == real_world.name).first()
        sample.ground_truth.detections.append(fo.Detection(label="pothole", bounding_box=[0, 0, 0.1, 0.1]))
        sample.save()
        assert count_at_threshold(dataset, real_world.name, 0.5).missed == counts.missed + 1
        dataset.delete()


def test_a_failed_write_keeps_the_earlier_dataset(
    findings: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "half-way"
    result = workbench.publish(findings, report, {}, Reporter())
    with connected() as fo:
        fo.load_dataset(result.dataset).limit(2).tag_samples("mine")

        def fails(*_: object) -> None:
            raise ValueError("half-way")

        monkeypatch.setattr(workbench, "store_results", fails)
        with pytest.raises(ValueError, match="half-way"):
            workbench.publish(findings, report, {}, Reporter())
        monkeypatch.undo()
        dataset = fo.load_dataset(result.dataset)
        dataset.reload()
        assert dataset.count_sample_tags()["mine"] == 2
        assert len(dataset.list_evaluations()) == 2
        again = workbench.publish(findings, report, {}, Reporter())
        assert again.dataset == result.dataset
        assert [n for n in fo.list_datasets() if "half-way" in n] == [result.dataset]
        assert fo.load_dataset(result.dataset).count_sample_tags()["mine"] == 2
        fo.delete_dataset(result.dataset)


def accumulated(domain: Domain) -> float:
    from diagnostics.precision import headline

    return headline(domain.table)["ap"]


def test_user_edits_are_kept_when_the_report_is_written_again(findings: Findings, tmp_path: Path) -> None:
    report = tmp_path / "tagged"
    result = workbench.publish(findings, report, {}, Reporter())
    with connected() as fo:
        dataset = fo.load_dataset(result.dataset)
        real_world = dataset.match(fo.ViewField("domain") == findings.real_world[0].name)
        real_world.limit(3).tag_samples("shadow")
        real_world.limit(2).tag_labels("odd", "predictions")
        boxes = dataset.count_label_tags("predictions")["odd"]
        dataset.save_view("mine", real_world.limit(5))
        written = set(dataset.list_saved_views()) - {"mine"}
        workbench.publish(findings, report, {}, Reporter())
        dataset = fo.load_dataset(result.dataset)
        assert dataset.count_sample_tags()["shadow"] == 3
        assert dataset.count_label_tags("predictions") == {"odd": boxes}
        assert set(dataset.list_saved_views()) == written | {"mine"}
        assert len(dataset.load_saved_view("mine")) == 5
        dataset.delete()


def test_nothing_is_sent_until_the_host_is_typed(
    published: workbench.PublishedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected() as fo:
        import fiftyone.core.collections as foc

        from reports.workbench.operators import SendToAnnotation, annotation_hosts

        dataset = fo.load_dataset(published.dataset)
        sent = []
        monkeypatch.setattr(
            foc.SampleCollection, "annotate", lambda view, key, **kw: sent.append((len(view), key, kw))
        )
        assert annotation_hosts()["cvat"] == "app.cvat.ai"
        ctx = SimpleNamespace(
            dataset=dataset, view=dataset.limit(5), selected=[], selected_labels=[], params={}
        )
        operator = SendToAnnotation()
        for typed in ("", "cvat", "app.cvat.ai.example", None):
            ctx.params = {"backend": "cvat", "key": "round_1", "host": typed}
            assert operator.resolve_input(ctx).invalid
            assert operator.execute(ctx)["message"].startswith("Nothing was sent")
        assert sent == []
        ctx.params["host"] = "app.cvat.ai"
        assert not operator.resolve_input(ctx).invalid
        assert "5 images sent to app.cvat.ai" in operator.execute(ctx)["message"]
        ((images, key, options),) = sent
        assert (images, key) == (5, "round_1")
        assert options["backend"] == "cvat"
        assert options["label_field"] == "ground_truth"


def test_the_app_opens_the_report_of_this_folder_before_a_newer_one_of_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stored = {
        "ours": SimpleNamespace(created_at=1, info={"folder": str(tmp_path / "runs" / "report" / "a")}),
        "theirs": SimpleNamespace(created_at=2, info={"folder": "/elsewhere/report"}),
    }
    database = SimpleNamespace(load_dataset=stored.get)
    monkeypatch.setattr(workbench, "database", lambda: nullcontext(database))
    monkeypatch.setattr(workbench, "report_datasets", lambda fo: list(stored))
    assert workbench.newest_dataset([tmp_path]) == ("ours", str(tmp_path / "runs" / "report" / "a"))
    assert workbench.newest_dataset([tmp_path / "other"]) == ("theirs", "/elsewhere/report")
    stored.clear()
    assert workbench.newest_dataset([tmp_path]) == (None, "")
