"""The FiftyOne dataset written as documents: FiftyOne reads it as its own, ids stay, evaluation agrees with FiftyOne's, and writing is fast."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated import make_domain
from diagnostics.domain import Domain
from diagnostics.findings import Experiments, Findings, find
from reports.commands.score import score
from reports.progress import Reporter
from reports.workbench import dataset as workbench
from reports.workbench.connection import database as connected
from reports.workbench.documents import SHOWN_FLOOR, boxes_of, evaluation_key


def with_sizes(domain: Domain) -> Domain:
    domain.images["width"], domain.images["height"] = 640, 480
    return domain


def with_seconds(domain: Domain) -> Domain:
    """With second boxes where there is one already, and boxes that lie beside their object."""
    again = domain.detections.iloc[:20].assign(confidence=lambda t: t["confidence"] * 0.9)
    beside = domain.detections.iloc[20:40].assign(confidence=lambda t: t["confidence"] * 0.95)
    beside[["x1", "x2"]] += 0.6 * (beside["x2"] - beside["x1"]).to_numpy()[:, None]
    return replace(
        domain,
        detections=pd.concat([domain.detections, again, beside], ignore_index=True),
        detection_embeddings=np.vstack([domain.detection_embeddings, domain.detection_embeddings[:40]]),
    )


@pytest.fixture(scope="module")
def findings() -> Findings:
    in_domain = with_sizes(make_domain("in_domain", clips=8, frames=4, seed=1))
    real_world = with_sizes(
        make_domain(
            "over head", role="real_world", clips=8, frames=4, seed=2, hit_rate=0.4, embedding_shift=3.0
        )
    )
    real_world = with_seconds(real_world)
    bare = with_sizes(
        make_domain("bare", role="real_world", clips=3, frames=4, seed=3, labelled=False, clip_names="b")
    )
    training = with_sizes(make_domain("training", role="training", clips=8, frames=4, seed=4, clip_names="t"))
    return find(in_domain, [real_world, bare], training, pd.DataFrame(), Experiments(), conf=None, seed=0)


@pytest.fixture(scope="module")
def published(
    database: str, findings: Findings, tmp_path_factory: pytest.TempPathFactory
) -> workbench.Workbench:
    report = tmp_path_factory.mktemp("report")
    return workbench.publish(findings, report, {"seed": 0}, Reporter())


def test_fiftyone_reads_every_document_as_its_own(published: workbench.Workbench, findings: Findings) -> None:
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


def test_unlabelled_images_have_no_results(published: workbench.Workbench) -> None:
    with connected() as fo:
        view = fo.load_dataset(published.dataset).match(fo.ViewField("domain") == "bare")
        assert view.count("ground_truth.detections") == 0
        assert set(view.values("missed")) == {None}
        assert set(view.distinct("predictions.detections.outcome")) == set()


def test_ids_stay_when_a_report_is_written_again(
    published: workbench.Workbench, findings: Findings, tmp_path: Path
) -> None:
    with connected() as fo:
        before = fo.load_dataset(published.dataset).values(["id", "predictions.detections.id"])
        again = workbench.publish(findings, tmp_path, {}, Reporter())
        dataset = fo.load_dataset(again.dataset)
        assert dataset.values(["id", "predictions.detections.id"]) == before
        dataset.delete()
    ends = [{url.split("id=")[1] for url in w.app_urls.values()} for w in (published, again)]
    assert ends[0] == ends[1]


def test_outcomes_agree_with_fiftyones_own_evaluation(
    published: workbench.Workbench, findings: Findings
) -> None:
    real_world = findings.real_world[0]
    key = evaluation_key(real_world)
    with connected() as fo:
        copy = fo.load_dataset(published.dataset).match(fo.ViewField("domain") == real_world.name).clone()
        copy.evaluate_detections(
            "predictions", gt_field="ground_truth", eval_key="theirs", iou=0.5, classwise=True, progress=False
        )
        for ours, theirs in zip(
            copy.values([f"{key}_tp", f"{key}_fp", f"{key}_fn"]),
            copy.values(["theirs_tp", "theirs_fp", "theirs_fn"]),
            strict=True,
        ):
            assert ours == theirs
        copy.delete()


def test_the_matches_name_boxes_that_are_there(published: workbench.Workbench, findings: Findings) -> None:
    real_world = findings.real_world[0]
    with connected() as fo:
        view = fo.load_dataset(published.dataset).match(fo.ViewField("domain") == real_world.name)
        truths, predictions = (
            {i for ids in view.values(f"{field}.detections.id") for i in ids or ()}
            for field in ("ground_truth", "predictions")
        )
    named = boxes_of(real_world, findings.cards).matches
    assert {m[4] for m in named if m[4]} == truths
    assert {m[5] for m in named if m[5]} <= predictions


def scored(domain: Domain, slices: dict[str, list[str]], folder: Path) -> dict[str, dict]:
    """What `shiftscope score` says of slices (name -> images), by name."""
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
    (folder / "found.json").write_text(json.dumps(boxes(domain.scored_detections)))
    pairs = [f"{number[image]},{name}" for name, images in slices.items() for image in images]
    (folder / "slices.csv").write_text("\n".join(["image_id,slice", *pairs]))
    found = score(folder / "truth.json", folder / "found.json", slices=folder / "slices.csv")
    return {entry["slice"]: entry for entry in found["slices"]}


def test_map_of_a_slice_is_its_own_where_fiftyones_is_that_of_the_whole(
    published: workbench.Workbench, findings: Findings, tmp_path: Path
) -> None:
    real_world = findings.real_world[0]
    key = evaluation_key(real_world)
    with connected() as fo:
        dataset = fo.load_dataset(published.dataset)
        view = dataset.match(fo.ViewField("domain") == real_world.name)
        fields = [f for f in dataset.get_field_schema() if f.startswith("slice_")]
        named = {
            f"{field}={value}": (field, value, view.match(fo.ViewField(field) == value).values("image_id"))
            for field in fields
            for value in view.distinct(field)
        }
        assert len(named) >= 4
        truth = scored(real_world, {name: images for name, (_, _, images) in named.items()}, tmp_path)
        results = dataset.load_evaluation_results(key, cache=False)
        whole = results.mAP()
        for name, (field, value, _) in named.items():
            with results.use_subset({"type": "field", "field": field, "value": value}):
                assert results.mAP() == pytest.approx(truth[name]["ap"], abs=1e-9), name
                assert results.mAR() == pytest.approx(truth[name]["ar_100"], abs=1e-9), name
            assert results.mAP() == whole
        assert len({round(entry["ap"], 6) for entry in truth.values()}) > 3
        # FiftyOne's own evaluation of the same boxes: every slice has the value of the whole. When this fails, FiftyOne has repaired it.
        copy = view.clone()
        theirs = copy.evaluate_detections(
            "predictions", gt_field="ground_truth", eval_key="theirs", compute_mAP=True, progress=False
        )
        stuck = theirs.mAP()
        for field, value, _ in named.values():
            with theirs.use_subset({"type": "field", "field": field, "value": value}):
                assert theirs.mAP() == stuck
        copy.delete()


def test_map_of_objects_of_one_size_is_that_of_the_report(
    published: workbench.Workbench, findings: Findings
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


def test_a_threshold_tells_what_the_sweep_of_the_report_tells(
    published: workbench.Workbench, findings: Findings
) -> None:
    from reports.workbench.threshold import at_threshold, count_at_threshold

    with connected() as fo:
        dataset = fo.load_dataset(published.dataset)
        for domain in (findings.in_domain, findings.real_world[0]):
            points = findings.sweeps[domain.name].set_index("confidence")
            for confidence in (0.05, 0.25, 0.5, 0.8):
                told, row = count_at_threshold(dataset, domain.name, confidence), points.loc[confidence]
                assert told.recall == pytest.approx(row["recall"], abs=1e-12)
                assert told.precision == pytest.approx(row["precision"], abs=1e-12)
                assert told.true_positives + told.missed == len(domain.annotations)
        real_world = findings.real_world[0].name
        for confidence in (0.25, 0.6):
            told = count_at_threshold(dataset, real_world, confidence)
            wrong = at_threshold(dataset, [real_world], confidence, "false positives")
            assert wrong.count("predictions.detections") == told.false_positives
            missed = at_threshold(dataset, [real_world], confidence, "missed")
            assert missed.count("ground_truth.detections") == told.missed
            everything = at_threshold(dataset, [real_world], confidence, "all")
            outcomes = everything.count_values("ground_truth.detections.outcome")
            assert outcomes.get("missed", 0) == told.missed
            assert everything.count("predictions.detections") == told.true_positives + told.false_positives


def test_views_hold_what_their_names_say(published: workbench.Workbench, findings: Findings) -> None:
    real_world = findings.real_world[0]
    with connected() as fo:
        dataset = fo.load_dataset(published.dataset)

        def outcomes(view: str, field: str) -> dict:
            return dataset.load_saved_view(view).count_values(f"{field}.detections.outcome")

        assert set(outcomes("near misses", "predictions")) == {"location"}
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
        assert "domain" in groups["where from"]
        assert "outcome" in groups["what went wrong"]


def test_images_carry_how_new_they_are_and_how_like_the_real_world(
    published: workbench.Workbench, findings: Findings
) -> None:
    """The shift score sorts the two domains far better than chance; novelty stands at its own image."""
    with connected() as fo:
        dataset = fo.load_dataset(published.dataset)
        in_domain, real_world = (
            dataset.match(fo.ViewField("domain") == name) for name in ("in_domain", "over head")
        )
        scores = [view.values("shift_score") for view in (in_domain, real_world)]
        novelty = dict(zip(*real_world.values(["image_id", "novelty"]), strict=True))
    assert all(0 <= score <= 1 for side in scores for score in side)
    assert np.mean([a > h for a in scores[1] for h in scores[0]]) > 0.75
    images = findings.real_world[0].images["image"]
    assert novelty == dict(zip(images, findings.novelty["over head"].tolist(), strict=True))


def test_the_annotate_tab_is_ready_for_labels_and_nothing_else(
    published: workbench.Workbench, findings: Findings
) -> None:
    with connected() as fo:
        dataset = fo.load_dataset(published.dataset)
        assert list(dataset.active_label_schemas) == ["ground_truth"]
        assert list(dataset.label_schemas["ground_truth"]["classes"]) == list(findings.in_domain.classes)


def test_datasets_of_others_stay_as_they_are(findings: Findings, tmp_path: Path) -> None:
    with connected() as fo:
        other = fo.Dataset("somebody-elses")
        other.persistent = True
        other.add_sample(fo.Sample(filepath=str(tmp_path / "a.jpg"), tags=["theirs"]))
        changed = other.last_modified_at
        made = workbench.publish(findings, tmp_path / "beside", {}, Reporter())
        again = fo.load_dataset("somebody-elses")
        again.reload()
        assert again.values("tags") == [["theirs"]]
        assert again.last_modified_at == changed
        fo.delete_dataset(made.dataset)
        again.delete()


def test_a_gallery_link_shows_its_box_and_no_other(
    published: workbench.Workbench, findings: Findings
) -> None:
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


def test_another_run_stands_beside_the_first(findings: Findings, tmp_path: Path) -> None:
    """The same detector without every second detection: its evaluation, its boxes, and the objects that only one finds."""
    from reports.workbench.models import as_detected_by

    real_world = findings.real_world[0]
    fewer = as_detected_by(real_world, real_world.images["image"], real_world.detections.iloc[::2])
    made = workbench.publish(findings, tmp_path / "two runs", {}, Reporter(), {"last week": [fewer]})
    key = evaluation_key(real_world, "last week")
    with connected() as fo:
        dataset = fo.load_dataset(made.dataset)
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
        assert all(here != there for here, there in pairs)
        assert sum(view.values("disagreement_last_week")) == view.count("ground_truth.detections")
        # FiftyOne's own evaluation of those boxes.
        copy = dataset.match(fo.ViewField("domain") == real_world.name).clone()
        copy.evaluate_detections(
            "predictions_last_week", gt_field="ground_truth", eval_key="theirs", iou=0.5, progress=False
        )
        theirs = copy.count_values("predictions_last_week.detections.theirs")
        ours = copy.count_values(f"predictions_last_week.detections.{key}")
        assert ours == theirs
        copy.delete()
        dataset.delete()


def test_two_comparisons_do_not_disturb_each_other(findings: Findings, tmp_path: Path) -> None:
    from reports.workbench.models import add_model, as_detected_by

    real_world = findings.real_world[0]
    made = workbench.publish(findings, tmp_path / "thrice", {}, Reporter())
    with connected() as fo:
        dataset = fo.load_dataset(made.dataset)
        counts = {}
        for model, step in (("one", 2), ("two", 3), ("one", 2)):
            other = as_detected_by(real_world, real_world.images["image"], real_world.detections.iloc[::step])
            view = dataset.load_saved_view(add_model(fo, dataset, model, [other]))
            found = view.count("ground_truth.detections")
            assert found > 0
            assert counts.setdefault(model, found) == found
        for model in ("one", "two"):
            view = dataset.load_saved_view(f"disagreements with {model}")
            assert view.count("ground_truth.detections") == counts[model]
            key = evaluation_key(real_world, model)
            assert set(dataset.count_values(f"predictions_{model}.detections.{key}")) >= {"tp", "fp"}
        # Images that were not compared have no number, rather than none to tell.
        assert dataset.match(fo.ViewField("domain") != real_world.name).count("disagreement_one") == 0
        dataset.delete()


def test_domains_and_slices_whose_names_are_alike_do_not_collide(findings: Findings, tmp_path: Path) -> None:
    from datasets.naming import unique
    from reports.workbench.documents import part_of_name, slice_field

    taken: set[str] = set()
    names = [unique(name, taken) for name in ("over head", "over-head", "Over.Head", "m²", "道路", "高架")]
    assert len({part_of_name(name) for name in names}) == len(names)
    assert all(part_of_name(name).isascii() and part_of_name(name).isidentifier() for name in names[:3])
    assert all(f"eval_{part_of_name(name)}".isidentifier() for name in names)
    assert slice_field("brightness") != slice_field("own:brightness")
    # A model's evaluation is never that of a domain: the separator is no part of any name made here.
    in_domain = findings.in_domain
    assert evaluation_key(replace(in_domain, name="a"), "b") != evaluation_key(replace(in_domain, name="a b"))


def test_ids_of_boxes_stay_when_others_come_and_go(findings: Findings) -> None:
    real_world = findings.real_world[0]
    box = real_world.annotations.iloc[[0]].assign(x1=1.0, y1=1.0, x2=9.0, y2=9.0)
    more = replace(real_world, annotations=pd.concat([box, real_world.annotations], ignore_index=True))
    before, after = (boxes_of(d, findings.cards) for d in (real_world, more))
    places = [
        {b["_id"]: b["bounding_box"] for found in boxes.truths.values() for b in found}
        for boxes in (before, after)
    ]
    assert len(places[1]) == len(places[0]) + 1
    assert all(places[1][key] == place for key, place in places[0].items())


def test_crowds_are_neither_found_nor_missed(findings: Findings, tmp_path: Path) -> None:
    from reports.workbench.threshold import at_threshold, count_at_threshold

    real_world = findings.real_world[0]
    crowds = real_world.annotations["crowd"].copy()
    crowds.iloc[:5] = True
    fewer = replace(real_world, annotations=real_world.annotations.assign(crowd=crowds))
    found = find(findings.in_domain, [fewer], None, pd.DataFrame(), Experiments(), conf=None, seed=0)
    made = workbench.publish(found, tmp_path / "crowds", {}, Reporter())
    with connected() as fo:
        dataset = fo.load_dataset(made.dataset)
        points = found.sweeps[real_world.name].set_index("confidence")
        told = count_at_threshold(dataset, real_world.name, 0.5)
        assert told.true_positives + told.missed == len(real_world.annotations) - 5
        assert told.recall == pytest.approx(points.loc[0.5, "recall"], abs=1e-12)
        shown = at_threshold(dataset, [real_world.name], 0.99, "all")
        missed = shown.filter_labels("ground_truth", fo.ViewField("outcome") == "missed")
        assert (
            missed.filter_labels("ground_truth", fo.ViewField("iscrowd")).count("ground_truth.detections")
            == 0
        )
        # Somebody draws an object, and takes one away that was found: one more is missed, one less is found.
        sample = dataset.match(fo.ViewField("domain") == real_world.name).first()
        sample.ground_truth.detections.append(fo.Detection(label="pothole", bounding_box=[0, 0, 0.1, 0.1]))
        sample.save()
        assert count_at_threshold(dataset, real_world.name, 0.5).missed == told.missed + 1
        dataset.delete()


def test_a_writing_that_fails_leaves_the_dataset_before(
    findings: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "half-way"
    made = workbench.publish(findings, report, {}, Reporter())
    with connected() as fo:
        fo.load_dataset(made.dataset).limit(2).tag_samples("mine")

        def fails(*_: object) -> None:
            raise ValueError("half-way")

        monkeypatch.setattr(workbench, "register", fails)
        with pytest.raises(ValueError, match="half-way"):
            workbench.publish(findings, report, {}, Reporter())
        monkeypatch.undo()
        dataset = fo.load_dataset(made.dataset)
        dataset.reload()
        assert dataset.count_sample_tags()["mine"] == 2
        assert len(dataset.list_evaluations()) == 2
        again = workbench.publish(findings, report, {}, Reporter())
        assert again.dataset == made.dataset
        assert [n for n in fo.list_datasets() if "half-way" in n] == [made.dataset]
        assert fo.load_dataset(made.dataset).count_sample_tags()["mine"] == 2
        fo.delete_dataset(made.dataset)


def accumulated(domain: Domain) -> float:
    from diagnostics.precision import headline

    return headline(domain.table)["ap"]


def test_what_people_made_stays_when_the_report_is_written_again(findings: Findings, tmp_path: Path) -> None:
    report = tmp_path / "tagged"
    made = workbench.publish(findings, report, {}, Reporter())
    with connected() as fo:
        dataset = fo.load_dataset(made.dataset)
        real_world = dataset.match(fo.ViewField("domain") == findings.real_world[0].name)
        real_world.limit(3).tag_samples("shadow")
        real_world.limit(2).tag_labels("odd", "predictions")
        boxes = dataset.count_label_tags("predictions")["odd"]
        dataset.save_view("mine", real_world.limit(5))
        written = set(dataset.list_saved_views()) - {"mine"}
        workbench.publish(findings, report, {}, Reporter())
        dataset = fo.load_dataset(made.dataset)
        assert dataset.count_sample_tags()["shadow"] == 3
        assert dataset.count_label_tags("predictions") == {"odd": boxes}
        assert set(dataset.list_saved_views()) == written | {"mine"}
        assert len(dataset.load_saved_view("mine")) == 5
        dataset.delete()


def test_nothing_is_sent_anywhere_until_its_host_is_typed(
    published: workbench.Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connected() as fo:
        import fiftyone.core.collections as foc

        from reports.workbench.operators import SendToAnnotation, hosts

        dataset = fo.load_dataset(published.dataset)
        sent = []
        monkeypatch.setattr(
            foc.SampleCollection, "annotate", lambda view, key, **kw: sent.append((len(view), key, kw))
        )
        assert hosts()["cvat"] == "app.cvat.ai"
        ctx = SimpleNamespace(
            dataset=dataset, view=dataset.limit(5), selected=[], selected_labels=[], params={}
        )
        operator = SendToAnnotation()
        for typed in ("", "cvat", "app.cvat.ai.example", None):
            ctx.params = {"backend": "cvat", "key": "round_1", "host": typed}
            assert operator.resolve_input(ctx).invalid
            assert operator.execute(ctx)["words"].startswith("Nothing was sent")
        assert sent == []
        ctx.params["host"] = "app.cvat.ai"
        assert not operator.resolve_input(ctx).invalid
        assert "5 images sent to app.cvat.ai" in operator.execute(ctx)["words"]
        ((images, key, options),) = sent
        assert (images, key) == (5, "round_1")
        assert options["backend"] == "cvat"
        assert options["label_field"] == "ground_truth"


@pytest.mark.usefixtures("database")
def test_writing_takes_a_twentieth_of_adding_and_evaluating(tmp_path: Path) -> None:
    """CPU time an image, with about a hundred boxes each."""
    rng = np.random.default_rng(0)
    domain = with_sizes(make_domain("many", role="real_world", clips=20, frames=25, seed=5))
    many = pd.concat([domain.detections] * 40, ignore_index=True)
    many[["x1", "x2"]] += rng.uniform(-20, 20, (len(many), 1))
    many["confidence"] = rng.uniform(SHOWN_FLOOR, 1, len(many))
    domain = replace(
        domain, detections=many, detection_embeddings=np.tile(domain.detection_embeddings, (40, 1))
    )
    in_domain = with_sizes(make_domain("in_domain", clips=5, frames=2, seed=1))
    findings = find(in_domain, [domain], None, pd.DataFrame(), Experiments(), conf=None, seed=0)
    per_image = (domain.detections["confidence"] >= SHOWN_FLOOR).sum() / len(domain.images)
    assert per_image > 60
    started = time.process_time()
    ours = workbench.publish(findings, tmp_path, {}, Reporter())
    mine = (time.process_time() - started) / (len(domain.images) + len(in_domain.images))
    with connected() as fo:
        part = fo.load_dataset(ours.dataset).match(fo.ViewField("domain") == "many").limit(40)
        started = time.process_time()
        samples = [
            fo.Sample(
                filepath=sample.filepath,
                ground_truth=fo.Detections(
                    detections=[
                        fo.Detection(label=b.label, bounding_box=b.bounding_box)
                        for b in sample.ground_truth.detections
                    ]
                ),
                predictions=fo.Detections(
                    detections=[
                        fo.Detection(label=b.label, bounding_box=b.bounding_box, confidence=b.confidence)
                        for b in sample.predictions.detections
                    ]
                ),
            )
            for sample in part
        ]
        dataset = fo.Dataset()
        dataset.add_samples(samples, progress=False)
        dataset.evaluate_detections(
            "predictions", gt_field="ground_truth", eval_key="theirs", compute_mAP=True, progress=False
        )
        theirs = (time.process_time() - started) / len(part)
        dataset.delete()
        fo.delete_dataset(ours.dataset)
    assert mine < theirs / 20, f"{mine * 1e3:.2f} ms against {theirs * 1e3:.2f} ms an image"
