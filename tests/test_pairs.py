"""Two domains are compared on the classes that both have, each class alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated import make_domain
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.gather import gather
from diagnostics.inputs import Experiments, Inputs
from diagnostics.pairs import MIN_CLASS_BOXES, common_classes, make_pair

CLASSES = ("car", "bus", "person")


def of_classes(domain: Domain, labels: list[int]) -> Domain:
    """The domain with boxes of several classes, image by image in turn."""
    number = {image: labels[i % len(labels)] for i, image in enumerate(domain.images["image"])}
    return replace(
        domain,
        classes=CLASSES,
        annotations=domain.annotations.assign(label=domain.annotations["image"].map(number).astype(np.int64)),
        detections=domain.detections.assign(label=domain.detections["image"].map(number).astype(np.int64)),
    )


def test_a_mean_over_other_classes_is_no_drop() -> None:
    """A class that only one side has says nothing about the other side, however badly it is detected."""
    in_domain = of_classes(make_domain("in", clips=12, seed=1, recall=0.8), [0, 1, 2])
    of_bus = in_domain.detections["label"] == 1
    in_domain = replace(
        in_domain,
        detections=in_domain.detections[~of_bus].reset_index(drop=True),
        detection_embeddings=in_domain.detection_embeddings[~of_bus.to_numpy()],
    )
    real_world = of_classes(make_domain("out", role="real_world", clips=12, seed=1, recall=0.8), [0, 2])
    pair = make_pair(in_domain, real_world, None)
    assert pair.classes == ("car", "person")
    assert ap50(in_domain) < ap50(pair.in_domain) - 0.15
    assert ap50(pair.in_domain) == pytest.approx(ap50(pair.real_world), abs=0.15)
    # An independent count: the mean of the two classes, each scored alone.
    alone = [ap50(in_domain.only([label])) for label in (0, 2)]
    assert ap50(pair.in_domain) == pytest.approx(np.mean(alone))


def test_classes_with_hardly_any_boxes_do_not_decide() -> None:
    in_domain = of_classes(make_domain("in", clips=12, seed=1), [0, 1, 2])
    real_world = of_classes(make_domain("out", role="real_world", clips=12, seed=2), [0, 2])
    rare = real_world.annotations["label"].to_numpy().copy()
    rare[: MIN_CLASS_BOXES - 1] = 1
    with_rare = replace(real_world, annotations=real_world.annotations.assign(label=rare))
    assert common_classes(in_domain, with_rare) == [0, 2]
    rare[: 4 * MIN_CLASS_BOXES] = 1
    assert (
        common_classes(in_domain, replace(real_world, annotations=with_rare.annotations.assign(label=rare)))
        is None
    )


def test_the_same_classes_change_nothing() -> None:
    in_domain = make_domain("in", clips=6, seed=1)
    real_world = make_domain("out", role="real_world", clips=6, seed=2)
    pair = make_pair(in_domain, real_world, None)
    assert pair.in_domain is in_domain
    assert pair.real_world is real_world


def test_detections_of_other_classes_are_not_scored() -> None:
    domain = of_classes(make_domain("in", clips=6, seed=1), [0, 1])
    only = domain.only([0])
    assert set(only.annotations["label"]) == {0}
    assert set(only.scored_detections["label"]) == {0}
    assert len(only.detections) == len(domain.detections)
    assert only.subset(only.images["image"].head(4)).compared == {0}


def test_a_handful_of_training_boxes_is_no_training_score() -> None:
    """AP50 of one box, or over classes that are not compared, says nothing about what was learned."""
    in_domain = of_classes(make_domain("in", clips=12, seed=1), [0, 1, 2])
    real_world = of_classes(make_domain("out", role="real_world", clips=12, seed=2, recall=0.2), [0])
    training = of_classes(make_domain("training", role="training", clips=12, seed=3), [1, 2])
    labels = training.annotations["label"].to_numpy().copy()
    labels[0] = 0
    training = replace(training, annotations=training.annotations.assign(label=labels))
    inputs = Inputs(in_domain, [real_world], training, pd.DataFrame(), Experiments(), conf=None, seed=0)
    evidence = gather(inputs)["out"]
    assert evidence.classes == ("car",)
    assert "training" not in evidence.ap50
