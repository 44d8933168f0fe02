"""Classes by themselves: against pycocotools and Ultralytics, and on classes with planted drops."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from ultralytics.utils.metrics import ConfusionMatrix

from benchmarks.planted import converged_history, rising_history
from benchmarks.simulated import make_domain
from diagnostics.class_causes import ClassCause
from diagnostics.classes import (
    ClassAp,
    bootstrap_classes,
    class_table,
    class_thresholds,
    classes_hit,
    compare_classes,
    find_classes,
    shrink,
)
from diagnostics.confusion import BACKGROUND, confusion, confusion_differences
from diagnostics.domain import Domain
from diagnostics.findings import find
from diagnostics.gallery import Nearest, choose_cards
from diagnostics.inputs import Experiments, Inputs
from diagnostics.pairs import make_pairs
from diagnostics.sweep import best_f_beta, sweep
from reports.page.classes import classes_section, hit_sentence
from tests.oracles import Problem, pycocotools_metrics, random_problem

NAMES = tuple("abcdefgh")


def domain_of(problem: Problem, name: str = "in_domain") -> Domain:
    """A domain with exactly these boxes."""
    classes, count, annotations, detections = problem
    domain = make_domain(name, images=[([], []) for _ in range(count)], classes=NAMES[:classes])

    def corners(box: list) -> list[float]:
        return [box[0], box[1], box[0] + box[2], box[1] + box[3]]

    columns = ["x1", "y1", "x2", "y2"]
    truth = [(f"p{i}", k, *corners(b), c) for i, k, b, _, c in annotations]
    found = [(f"p{i}", k, *corners(b), s) for i, k, b, s in detections]
    return Domain(
        name,
        "in_domain",
        domain.images,
        pd.DataFrame(truth, columns=["image", "label", *columns, "crowd"]),
        pd.DataFrame(found, columns=["image", "label", *columns, "confidence"]),
        domain.image_embeddings,
        np.zeros((len(found), 4)),
        domain.imgsz,
        NAMES[:classes],
    )


def without_area(problem: Problem) -> Problem:
    """Areas as a domain measures them: of the box."""
    classes, count, annotations, detections = problem
    return classes, count, [(i, k, b, b[2] * b[3], c) for i, k, b, _, c in annotations], detections


@pytest.mark.parametrize("seed", range(25))
def test_ap_of_each_class_equals_pycocotools(seed: int) -> None:
    problem = without_area(random_problem(np.random.default_rng(seed)))
    domain = domain_of(problem)
    table = class_table(domain, bootstrap_classes(domain, seed=0), 0.3).set_index("class")
    classes, count, annotations, detections = problem
    for label in range(classes):
        alone = (
            1,
            count,
            [(i, 0, b, a, c) for i, k, b, a, c in annotations if k == label],
            [(i, 0, b, s) for i, k, b, s in detections if k == label],
        )
        ap, ap50 = pycocotools_metrics(alone)[:2]
        counted = sum(not c for _, k, _, _, c in annotations if k == label)
        if counted:
            row = table.loc[NAMES[label]]
            assert row["annotations"] == counted
            assert row["ap"] == pytest.approx(ap, abs=1e-9)
            assert row["ap50"] == pytest.approx(ap50, abs=1e-9)
        else:
            assert NAMES[label] not in table.index or np.isnan(table.loc[NAMES[label], "ap50"])
    assert not table.loc[table["annotations"] > 0, ["ap", "ap50", "recall", "f1"]].isna().any().any()


@pytest.mark.parametrize("seed", range(25))
def test_confusion_equals_ultralytics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, count, annotations, detections = without_area(random_problem(rng, crowds=0, decimals=9))
    domain = domain_of((classes, count, annotations, detections))
    matrix = ConfusionMatrix(names=dict(enumerate(NAMES[:classes])))
    for image in range(count):
        truth = np.array([[*b, k] for i, k, b, _, _ in annotations if i == image]).reshape(-1, 5)
        found = np.array([[*b, s, k] for i, k, b, s in detections if i == image]).reshape(-1, 6)
        for boxes in (truth, found):
            boxes[:, 2:4] += boxes[:, :2]
        matrix.process_batch(
            {
                "bboxes": torch.tensor(found[:, :4]),
                "conf": torch.tensor(found[:, 4]),
                "cls": torch.tensor(found[:, 5]),
            },
            {"bboxes": torch.tensor(truth[:, :4]), "cls": torch.tensor(truth[:, 4])},
            conf=0.4,
        )
    names = [*NAMES[:classes], BACKGROUND]
    ours = confusion(domain, 0.4).pivot_table(
        index="predicted", columns="actual", values="count", fill_value=0
    )
    np.testing.assert_array_equal(ours.reindex(index=names, columns=names, fill_value=0), matrix.matrix)


def test_confusions_that_grew_come_first() -> None:
    table = pd.DataFrame(
        [
            ("home", "a", "a", 90),
            ("home", "a", "b", 10),
            ("away", "a", "a", 40),
            ("away", "a", "b", 60),
            ("away", BACKGROUND, "b", 20),
            ("away", "b", "b", 20),
            ("away", "b", BACKGROUND, 5),
        ],
        columns=["domain", "actual", "predicted", "count"],
    )
    grown = confusion_differences(table, "home", "away")
    assert list(zip(grown["actual"], grown["predicted"], strict=True)) == [("a", "b"), (BACKGROUND, "b")]
    assert grown["share"].tolist() == pytest.approx([0.6, 0.2])
    assert grown["more"].tolist() == pytest.approx([0.5, 0.2])


def test_shrinking_keeps_what_is_sure_and_draws_in_what_is_not() -> None:
    values = np.array([0.0, 0.1, 0.5, 0.5])
    sure = np.array([1e-4, 1e-4, 1e-4, 0.3])
    shrunk = shrink(values, sure)
    assert shrunk[:3] == pytest.approx(values[:3], abs=0.01)
    assert 0.15 < shrunk[3] < 0.35
    # Differences within chance are no differences.
    assert np.ptp(shrink(values, np.full(4, 1.0))) == 0


def classes_of(rng: np.random.Generator, drop: np.ndarray, spread: float, groups: int = 20) -> tuple:
    """ClassAp of two sets whose AP50 varies with a known spread, part of it common to the classes."""

    def side(truth: np.ndarray) -> ClassAp:
        common = rng.normal(0, spread)
        point = truth + rng.normal(0, spread, len(truth)) + common
        noise = rng.normal(0, spread, (len(truth), 400)) + rng.normal(0, spread, 400)
        jack = np.repeat(point[:, None], groups, 1) + rng.normal(0, spread / groups, (len(truth), groups))
        return ClassAp(point, np.full(len(truth), 10_000), point[:, None] + noise, jack, groups)

    return side(np.full(len(drop), 0.7)), side(0.7 - drop)


@pytest.mark.slow
def test_a_class_is_named_by_chance_in_one_report_of_twenty_at_most() -> None:
    rng = np.random.default_rng(5)
    named = 0
    for _ in range(200):
        compared = compare_classes(*classes_of(rng, np.full(6, 0.2), 0.04), seed=0)
        named += bool(compared["hit"].any())
    # 5 % of 200, and three standard deviations of such a count.
    assert named <= 19


def test_the_class_that_loses_more_is_named() -> None:
    rng = np.random.default_rng(6)
    right = 0
    for _ in range(50):
        compared = compare_classes(*classes_of(rng, np.array([0.02, 0.02, 0.45, 0.02]), 0.04), seed=0)
        compared = compared.assign(**{"class": [NAMES[i] for i in compared.index]})
        right += classes_hit(compared) == ["c"]
        assert compared.index[0] == 2
    assert right >= 45


def several_classes(name: str, seed: int, faults: dict[int, dict] | None = None, clips: int = 12) -> Domain:
    """Three classes that share images, each with a simulation of its own."""
    parts = [
        make_domain(
            name,
            role="in_domain" if name == "in_domain" else "real_world",
            clips=clips,
            seed=seed * 10 + label,
            clip_names=f"{name}_",
            classes=NAMES[:3],
            **(faults or {}).get(label, {}),
        )
        for label in range(3)
    ]
    # Side by side, so that no box of one class overlaps one of another.
    annotations = [
        p.annotations.assign(label=k, x1=p.annotations["x1"] + 700 * k, x2=p.annotations["x2"] + 700 * k)
        for k, p in enumerate(parts)
    ]
    detections = [
        p.detections.assign(label=k, x1=p.detections["x1"] + 700 * k, x2=p.detections["x2"] + 700 * k)
        for k, p in enumerate(parts)
    ]
    return Domain(
        name,
        parts[0].role,
        parts[0].images.assign(width=2100),
        pd.concat(annotations, ignore_index=True),
        pd.concat(detections, ignore_index=True),
        parts[0].image_embeddings,
        np.concatenate([p.detection_embeddings for p in parts]),
        640,
        NAMES[:3],
    )


def test_a_drop_of_one_class_is_found_in_whole_domains() -> None:
    in_domain = several_classes("in_domain", 1)
    real = several_classes("real", 2, {1: {"recall": 0.25}})
    found = find_classes([in_domain, real], in_domain, make_pairs(in_domain, [real], None), 0.3, seed=0)
    assert found.hit("real") == ["b"]
    assert found.drops["class"].iloc[0] == "b"
    alike = several_classes("real", 3)
    found = find_classes([in_domain, alike], in_domain, make_pairs(in_domain, [alike], None), 0.3, seed=0)
    assert found.hit("real") == []


def spoiled(domain: Domain, label: int, rename_to: int | None, share: float = 0.6) -> Domain:
    """Labels of one class left out, or given another class's name."""
    annotations = domain.annotations
    rng = np.random.default_rng(0)
    wrong = (annotations["label"] == label).to_numpy() & (rng.random(len(annotations)) < share)
    if rename_to is None:
        return replace(domain, annotations=annotations[~wrong].reset_index(drop=True))
    return replace(
        domain, annotations=annotations.assign(label=annotations["label"].where(~wrong, rename_to))
    )


def moved(domain: Domain, rows: np.ndarray, distance: float) -> Domain:
    """Detections that look otherwise to the detector."""
    embeddings = domain.detection_embeddings.copy()
    embeddings[rows, 0] += distance
    return replace(domain, detection_embeddings=embeddings)


def first_cause(in_domain: Domain, real: Domain) -> ClassCause:
    found = find_classes([in_domain, real], in_domain, make_pairs(in_domain, [real], None), 0.3, seed=0)
    return found.causes["real"][0]


def test_labels_left_out_of_one_class_are_told_from_background() -> None:
    in_domain, real = several_classes("in_domain", 1), several_classes("real", 2)
    left_out = spoiled(real, 1, None)
    cause = first_cause(in_domain, left_out)
    assert (cause.name, cause.cause, cause.code) == ("b", "left_out", "label_error")
    assert cause.alike is not None
    assert cause.alike < 0.65
    assert cause.share > 0.3 > cause.in_domain_share
    # The same detections, where they look otherwise than those on labels.
    outcomes = left_out.outcomes
    nothing = outcomes[(outcomes["outcome"] == "background") & (outcomes["label"] == 1)]["row"].to_numpy(int)
    rows = left_out.scored_detections.index.to_numpy()[nothing]
    cause = first_cause(in_domain, moved(left_out, rows, 4.0))
    assert (cause.name, cause.cause, cause.code) == ("b", "background", "domain_shift")
    assert cause.alike is not None
    assert cause.alike > 0.9


def test_in_domain_detections_stand_in_where_hardly_any_label_is_left() -> None:
    in_domain, real = several_classes("in_domain", 1), several_classes("real", 2)
    cause = first_cause(in_domain, spoiled(real, 1, None, share=0.975))
    assert (cause.name, cause.cause) == ("b", "left_out")
    # Sets whose detections all look otherwise show nothing about labels.
    apart = moved(spoiled(real, 1, None, share=0.975), np.arange(len(real.detections)), 6.0)
    cause = first_cause(in_domain, apart)
    assert (cause.name, cause.cause, cause.alike, cause.code) == ("b", "background", None, "")
    assert "too few to tell" in cause.statement


def test_labels_under_another_name_are_told_from_a_confusion() -> None:
    in_domain, real = several_classes("in_domain", 1), several_classes("real", 2)
    renamed = spoiled(real, 1, 2)
    cause = first_cause(in_domain, renamed)
    assert {cause.name, cause.other} == {"b", "c"}
    assert (cause.cause, cause.code) == ("other_name", "label_error")
    outcomes = renamed.outcomes
    confused = outcomes[(outcomes["outcome"] == "class") & (outcomes["label"] == 1)]["row"].to_numpy(int)
    rows = renamed.scored_detections.index.to_numpy()[confused]
    cause = first_cause(in_domain, moved(renamed, rows, 4.0))
    assert {cause.name, cause.other} == {"b", "c"}
    assert (cause.cause, cause.code) == ("confusion", "domain_shift")


def test_a_class_that_is_not_detected_is_called_missed() -> None:
    in_domain, real = several_classes("in_domain", 1), several_classes("real", 2, {1: {"recall": 0.25}})
    cause = first_cause(in_domain, real)
    assert (cause.name, cause.cause, cause.other) == ("b", "missed", "")
    assert cause.share > 0.6
    assert "b is not found" in cause.statement


@pytest.mark.slow
def test_labels_of_one_class_left_out_lead_to_a_look_at_the_labels() -> None:
    in_domain, real = several_classes("in_domain", 1), spoiled(several_classes("real", 2), 1, None)
    inputs = Inputs(in_domain, [real], None, converged_history(0.8), Experiments(), conf=None, seed=0)
    findings = find(inputs)
    assert findings.evidences["real"].class_causes[0].name == "b"
    labels = findings.verdicts["real"].named("label_error")
    assert labels.status in ("supported", "inconclusive")
    assert (labels.score or 0) > 0.5
    assert any("labels of b are probably left out" in o.text for o in labels.observations)
    # Also where every class is touched, so that none is hit more than the others.
    everywhere = spoiled(spoiled(real, 0, None), 2, None)
    findings = find(replace(inputs, real_world=[everywhere]))
    assert findings.classes.hit("real") == []
    assert (findings.verdicts["real"].named("label_error").score or 0) > 0.5
    # A class that the detector does not find says nothing about labels.
    missed = several_classes("real", 2, {1: {"recall": 0.25}})
    findings = find(replace(inputs, real_world=[missed]))
    labels = findings.verdicts["real"].named("label_error")
    assert not any("left out" in o.text for o in labels.observations)
    shift = findings.verdicts["real"].named("domain_shift")
    assert any("b is not found" in o.text for o in shift.observations)


@pytest.mark.parametrize("left_out", [True, False])
def test_a_class_that_fails_alone_is_no_all_clear(left_out: bool) -> None:
    """Over all classes AP50 holds, since others gain."""
    in_domain = several_classes("in_domain", 1, {0: {"recall": 0.45}, 2: {"recall": 0.45}})
    real = several_classes("real", 2, {} if left_out else {1: {"recall": 0.3}})
    real = spoiled(real, 1, None) if left_out else real
    findings = find(Inputs(in_domain, [real], None, converged_history(0.8), Experiments(), conf=None, seed=0))
    evidence, verdict = findings.evidences["real"], findings.verdicts["real"]
    assert not evidence.gap_is_real
    assert findings.classes.hit("real") == ["b"]
    table = findings.classes.table.set_index(["domain", "class"])
    known = int(table.loc[("in_domain", "b"), "annotations"])
    assert re.search(
        rf"^It hits b \(AP50 0\.\d+ in-domain, of {known} objects, ", hit_sentence(findings, "real")
    )
    assert verdict.named("none").status == "rejected"
    cause = verdict.named("label_error" if left_out else "domain_shift")
    assert cause.status == "inconclusive"
    assert "b alone fails" in cause.statement
    assert verdict.leading == cause.code
    # How often such a verdict is right was measured on other scores.
    assert verdict.probability is None
    other = verdict.named("domain_shift" if left_out else "label_error")
    assert other.status == "rejected"


@pytest.mark.slow
def test_a_class_that_looks_otherwise_alone_is_a_shift_though_images_are_alike() -> None:
    in_domain, real = several_classes("in_domain", 1), several_classes("real", 2, {1: {"recall": 0.1}})
    findings = find(Inputs(in_domain, [real], None, converged_history(0.8), Experiments(), conf=None, seed=0))
    assert findings.evidences["real"].gap_is_real
    shift = findings.verdicts["real"].named("domain_shift")
    assert shift.status == "inconclusive"
    assert "as a whole differ no more" in shift.statement
    assert (shift.score or 0) > 0.8


@pytest.mark.slow
def test_a_training_cut_short_is_not_blamed_for_one_class() -> None:
    in_domain, real = several_classes("in_domain", 1), spoiled(several_classes("real", 2), 1, None)
    history = rising_history(0.8)
    findings = find(Inputs(in_domain, [real], None, history, Experiments(), conf=None, seed=0))
    verdict = findings.verdicts["real"]
    assert verdict.named("underfit").status == "inconclusive"
    assert any("more than in the other classes" in o.text for o in verdict.named("underfit").observations)
    assert verdict.leading == "label_error"
    # All classes lose alike: there it may be.
    everywhere = several_classes("real", 2, {label: {"recall": 0.3} for label in range(3)})
    findings = find(Inputs(in_domain, [everywhere], None, history, Experiments(), conf=None, seed=0))
    told = findings.verdicts["real"].named("underfit").observations
    assert not any("more than in the other classes" in o.text for o in told)


def test_two_classes_taken_for_each_other_are_told_once() -> None:
    in_domain, real = several_classes("in_domain", 1), spoiled(several_classes("real", 2), 1, 2)
    findings = find(Inputs(in_domain, [real], None, converged_history(0.8), Experiments(), conf=None, seed=0))
    assert {cause.name for cause in findings.classes.causes["real"]} == {"b", "c"}
    section = classes_section(findings)
    assert section is not None
    (told,) = section["domains"][0]["causes"]
    assert "taken for each other" in told


def test_a_rare_class_takes_the_common_threshold_and_a_frequent_one_its_own() -> None:
    rng = np.random.default_rng(0)
    box, far = [10.0, 10.0, 50.0, 50.0], [200.0, 200.0, 250.0, 250.0]
    # Class 0: right above 0.6, wrong below; class 1: right above 0.2 already; class 2: two objects only.
    images = []
    for n in range(200):
        label = 0 if n < 100 else 1
        low = 0.6 if label == 0 else 0.2
        right = (box, float(rng.uniform(low, 0.95)), label)
        wrong = (far, float(rng.uniform(0.01, low)), label)
        images.append(([box], [right, wrong]))
    images += [([box], [(box, 0.05, 2)]), ([box], [(box, 0.9, 2)])]
    domain = make_domain(images=images, classes=NAMES[:3])
    labels = [0] * 100 + [1] * 100 + [2, 2]
    domain.annotations["label"] = labels
    thresholds = class_thresholds(domain).confidence
    _, common = best_f_beta(sweep(domain.table))
    assert thresholds[0] == pytest.approx(0.6, abs=0.03)
    assert thresholds[1] == pytest.approx(0.2, abs=0.03)
    assert abs(thresholds[2] - common) <= 0.05
    assert thresholds[2] > 0.1


def test_cards_name_what_was_predicted_and_what_is_labelled() -> None:
    box, other, far = [10.0, 10.0, 60.0, 60.0], [100.0, 100.0, 160.0, 160.0], [300.0, 300.0, 340.0, 340.0]
    domain = make_domain(
        images=[([box], [(box, 0.9, 1)]), ([other], [(other, 0.8, 0), (far, 0.7, 1)]), ([box], [])],
        classes=NAMES[:2],
    )
    cards = choose_cards(domain, Nearest(None), seed=0)
    named = {
        (row.kind, row.actual, row.predicted) for row in cards[["kind", "actual", "predicted"]].itertuples()
    }
    assert named == {
        ("wrong_class", "a", "b"),
        ("true_positive", "a", "a"),
        ("false_positive", "", "b"),
        ("missed", "a", "b"),
        ("missed", "a", ""),
    }
