"""AP50 without labels: read off sets of known AP50, refused where it would be a guess, and never healthy for a silent detector."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated import make_domain
from diagnostics import label_free
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.label_free import CorruptedDomain, Estimator, Reference, estimate, fit
from reports.page.label_free import missed, truth_words
from reports.pipeline.corruptions import development_sets
from train import transforms as transforms

FAMILIES = ("dark", "blurred", "small", "tilted", "noisy", "hazy", "turned", "pale")


def shown(loss: float, seed: int, **options) -> Domain:
    """A set on which a share of the true positives is lost, and confidence and embeddings move along with it."""
    moved = {"hit_rate": 0.9 * (1 - loss), "confidence_shift": -0.25 * loss, "embedding_shift": 2 * loss}
    return make_domain("set", **{"clips": 10, "frames": 5, "seed": seed, **moved, **options})


def squeezed(domain: Domain, seed: int = 0, *, off: float = 0.05) -> Domain:
    """The same boxes found again, each corner off by a share of the side."""
    boxes = domain.detections
    corners = boxes[["x1", "y1", "x2", "y2"]].to_numpy(float)
    sides = np.tile(corners[:, 2:] - corners[:, :2], 2)
    corners = corners + off * sides * np.random.default_rng(seed).standard_normal(corners.shape)
    return replace(
        domain, detections=boxes.assign(**dict(zip(["x1", "y1", "x2", "y2"], corners.T, strict=True)))
    )


def unsteady(domain: Domain) -> Domain:
    """Boxes follow the worse, the less sure the detector is."""
    return squeezed(domain, off=0.05 + 0.2 * (1 - float(domain.detections["confidence"].max())))


def seen(family: str, severity: int, domain: Domain) -> CorruptedDomain:
    return CorruptedDomain(family, severity, domain, unsteady(domain))


def read(in_domain: Domain, domain: Domain, estimator: Estimator | None) -> label_free.LabelFree:
    return estimate(in_domain, domain, estimator, unsteady(domain))


@pytest.fixture(scope="module")
def in_domain() -> Domain:
    return make_domain("in_domain", clips=20, frames=5, seed=1, hit_rate=0.9)


@pytest.fixture(scope="module")
def corruptions() -> list[CorruptedDomain]:
    sets = [seen("as it is", 0, shown(0.0, 100))]
    for number, family in enumerate(FAMILIES):
        for severity in (1, 2, 3):
            loss = severity * (0.15 + 0.02 * number)
            sets.append(seen(family, severity, shown(loss, 101 + 10 * number + severity)))
    sets.append(seen("dark and blurred", 1, shown(0.5, 999)))
    return sets


@pytest.fixture(scope="module")
def estimator(in_domain: Domain, corruptions: list[CorruptedDomain]) -> Estimator:
    found = fit(in_domain, corruptions)
    assert found is not None
    return found


def unlabelled(domain: Domain) -> Domain:
    images = domain.images.assign(labelled=False)
    return replace(domain, images=images, annotations=domain.annotations.head(0))


@pytest.mark.parametrize("loss", [0.1, 0.45, 0.75])
def test_reads_what_labels_would_have_said(in_domain: Domain, estimator: Estimator, loss: float) -> None:
    domain = shown(loss, 5000, clips=20, clip_names="w")
    found = read(in_domain, unlabelled(domain), estimator)
    assert not found.abstained
    assert found.low <= ap50(domain) <= found.high
    assert found.error < 0.5 * found.naive_error
    assert set(found.naive) == {"as in-domain", "if confidences meant the same", "thresholded confidence"}
    assert found.truth is None


def test_labels_are_never_looked_at(in_domain: Domain, estimator: Estimator) -> None:
    domain = shown(0.4, 5000, clips=20)
    with_labels = read(in_domain, domain, estimator)
    assert with_labels.truth == pytest.approx(ap50(domain))
    assert with_labels.ap50 == pytest.approx(read(in_domain, unlabelled(domain), estimator).ap50)


def test_a_family_left_out_is_out_of_its_mixtures_too(estimator: Estimator) -> None:
    kept = estimator.without("blurred")
    names = {family for family, keep in zip(estimator.families, kept, strict=True) if keep}
    assert "dark and blurred" not in names
    assert "blurred" not in names
    assert "dark" in names
    assert set(estimator.errors["family"]) == set(FAMILIES)


def test_intervals_hold_families_never_seen(estimator: Estimator) -> None:
    found = estimator.coverage()
    assert len(found) == 3 * len(FAMILIES)
    # At 90 %, fewer than 17 of 24 would happen in 1 of 500.
    assert found["covered"].sum() >= 17
    assert found["half"].mean() < 0.3


def test_a_silent_detector_is_never_healthy(in_domain: Domain, estimator: Estimator) -> None:
    silent = replace(
        unlabelled(shown(0.0, 1, clip_names="w")),
        detections=shown(0.0, 1).detections.head(0),
        detection_embeddings=np.zeros((0, 12)),
    )
    found = read(in_domain, silent, estimator)
    assert found.abstained or found.ap50 <= 0.05
    assert "gone silent" in found.alarm


def test_what_is_like_nothing_shown_is_refused(in_domain: Domain, estimator: Estimator) -> None:
    # Three hundred sure boxes an image: no change of the in-domain images ever made it say that.
    domain = unlabelled(shown(0.0, 7, clip_names="w"))
    rows = pd.concat([domain.detections.assign(confidence=0.99)] * 60, ignore_index=True)
    mad = replace(domain, detections=rows, detection_embeddings=np.full((len(rows), 12), 40.0))
    found = read(in_domain, mad, estimator)
    assert found.abstained
    assert "unlike anything" in found.reason


def test_a_handful_of_images_is_refused(in_domain: Domain, estimator: Estimator) -> None:
    found = read(in_domain, unlabelled(shown(0.3, 3, clips=3, frames=5)), estimator)
    assert found.abstained
    assert "15 images" in found.reason


def test_fewer_images_give_wider_intervals(in_domain: Domain, estimator: Estimator) -> None:
    domain = unlabelled(shown(0.4, 5000, clips=20))
    some = domain.subset(domain.images["image"].head(20))
    half = [f.high - f.ap50 for f in (read(in_domain, d, estimator) for d in (domain, some))]
    assert half[1] > 1.2 * half[0]


def test_nothing_is_read_without_sets_or_objects(
    in_domain: Domain, corruptions: list[CorruptedDomain]
) -> None:
    assert read(in_domain, unlabelled(shown(0.3, 3)), None).abstained
    assert fit(in_domain, corruptions[:4]) is None
    assert fit(in_domain.subset(in_domain.images["image"].head(3)), corruptions) is None


def test_detections_without_embeddings_still_give_a_reading(
    in_domain: Domain, corruptions: list[CorruptedDomain]
) -> None:
    blind = replace(in_domain, detection_embeddings=np.zeros((len(in_domain.detections), 0)))
    assert Reference(blind).resemblance(in_domain) == 0.0


def test_the_floor_applies_to_everything(in_domain: Domain) -> None:
    domain = shown(0.3, 3)
    tail = domain.detections.head(40).assign(confidence=label_free.FLOOR / 2)
    longer = replace(
        domain,
        detections=pd.concat([domain.detections, tail], ignore_index=True),
        detection_embeddings=np.concatenate([domain.detection_embeddings, domain.detection_embeddings[:40]]),
    )
    reference = Reference(in_domain)
    assert reference.signals(longer, squeezed(domain)) == pytest.approx(
        reference.signals(domain, squeezed(domain))
    )


def test_a_change_that_empties_the_images_is_left_out(
    in_domain: Domain, corruptions: list[CorruptedDomain]
) -> None:
    empty = replace(corruptions[1].domain, annotations=corruptions[1].domain.annotations.assign(crowd=True))
    found = fit(in_domain, [*corruptions, seen("larger", 3, empty)])
    assert found is not None
    assert "larger" not in found.families


def test_another_detectors_boxes_are_not_read(in_domain: Domain, estimator: Estimator) -> None:
    domain = unlabelled(shown(0.3, 3, clips=20))
    foreign = replace(domain, detection_embeddings=np.zeros((len(domain.detections), 0)))
    assert read(in_domain, foreign, estimator).abstained


def test_in_domain_unchanged_is_no_nearer_than_in_domain_is_to_itself(in_domain: Domain) -> None:
    reference = Reference(in_domain)
    own, foreign = reference.novelty(in_domain, own=True), reference.novelty(in_domain)
    # An image's own clip is no company: half of home lies nearer than nineteen in twenty of it do, so below 0, but not by its own frames.
    assert foreign < own < 0
    fresh = make_domain("set", clips=20, frames=5, seed=77, hit_rate=0.9, clip_names="w")
    assert reference.novelty(fresh) == pytest.approx(own, abs=0.1)


def test_a_clip_of_the_same_name_elsewhere_is_company(in_domain: Domain) -> None:
    reference, domain = Reference(in_domain), shown(0.3, 5)
    assert reference.resemblance(domain, own=True) != reference.resemblance(domain)


def test_boxes_that_follow_a_squeeze_are_steady(in_domain: Domain) -> None:
    sure = int((in_domain.detections["confidence"] >= label_free.MIN_CONFIDENCE).sum())
    assert label_free.steadiness(in_domain, in_domain) == (pytest.approx(1.0), sure)
    (near, _), (far, _) = (
        label_free.steadiness(in_domain, squeezed(in_domain, off=off)) for off in (0.05, 0.3)
    )
    assert 0.8 < near < 1
    assert far < near - 0.2
    nothing = replace(
        in_domain,
        detections=in_domain.detections.head(0),
        detection_embeddings=in_domain.detection_embeddings[:0],
    )
    assert label_free.steadiness(in_domain, nothing) == (0.0, sure)
    assert label_free.steadiness(nothing, in_domain) == (0.0, 0)


def test_a_few_boxes_say_little_about_steadiness(estimator: Estimator) -> None:
    signals = estimator.signals.head(1).assign(steady=0.1, contested=0.3, sure=0)
    usual = estimator.usual["steady"]
    none, few, many = (estimator.settle(signals.assign(followed=n)).iloc[0] for n in (0, 5, 5000))
    assert none["steady"] == pytest.approx(usual)
    assert none["contested"] == pytest.approx(estimator.usual["contested"])
    assert few["steady"] > usual - 0.15
    assert many["steady"] < usual - 0.4


def test_weaker_boxes_across_a_sure_one_contest_it(in_domain: Domain) -> None:
    first = in_domain.detections.iloc[0]
    wide = float(first["x2"] - first["x1"])

    def with_boxes(*rows: tuple[float, float]) -> Domain:
        """The first detection, and others of (confidence, shift to the right as a share of its width) beside it."""
        found = pd.DataFrame(
            [
                {
                    **first,
                    "confidence": confidence,
                    "x1": first["x1"] + off * wide,
                    "x2": first["x2"] + off * wide,
                }
                for confidence, off in rows
            ]
        )
        return replace(
            in_domain, detections=found, detection_embeddings=in_domain.detection_embeddings[: len(found)]
        )

    assert label_free.contested(with_boxes((0.8, 0))) == (0.0, 1)
    # IoU of boxes shifted by half a width: 1 / 3; by 0.9: .05.
    assert label_free.contested(with_boxes((0.8, 0), (0.04, 0.5))) == (pytest.approx(0.05), 1)
    assert label_free.contested(with_boxes((0.8, 0), (0.04, 0.9))) == (0.0, 1)
    # The weaker of two sure ones contests the other, not the other way round; each lies across the third.
    assert label_free.contested(with_boxes((0.8, 0), (0.4, 0.5), (0.06, 0.25))) == (
        pytest.approx((0.4 + 0.06 + 0.06) / 1.2),
        2,
    )
    # Boxes of other images lie across nothing, and those of another class are another doubt.
    two = with_boxes((0.8, 0), (0.04, 0.5))
    other = two.detections.assign(label=["pothole", "puddle"])
    assert label_free.contested(replace(two, detections=other)) == (0.0, 1)
    apart = two.detections.assign(image=list(in_domain.images["image"].iloc[:2]))
    assert label_free.contested(replace(two, detections=apart)) == (0.0, 1)
    assert label_free.contested(
        replace(two, detections=two.detections.head(0), detection_embeddings=two.detection_embeddings[:0])
    ) == (
        0.0,
        0,
    )


def test_only_the_images_looked_at_again_are_asked(in_domain: Domain) -> None:
    some = squeezed(in_domain).subset(in_domain.images["image"].iloc[::3])
    assert label_free.steadiness(in_domain, some) == pytest.approx(
        label_free.steadiness(in_domain.subset(some.images["image"]), some)
    )


def test_footage_that_was_not_looked_at_again_is_not_read(in_domain: Domain, estimator: Estimator) -> None:
    assert estimate(in_domain, unlabelled(shown(0.3, 3, clips=20)), estimator).abstained


def test_labels_of_some_images_refute_no_reading_of_all(in_domain: Domain, estimator: Estimator) -> None:
    domain = shown(0.45, 5000, clips=20, clip_names="w")
    some = domain.images["image"].isin(domain.images["image"].iloc[::4])
    boxes = domain.annotations[domain.annotations["image"].isin(domain.images["image"][some])]
    part = replace(
        domain, images=domain.images.assign(labelled=some), annotations=boxes.reset_index(drop=True)
    )
    found = read(in_domain, part, estimator)
    assert found.unlabelled == (~some).sum()
    wrong = replace(found, ap50=0.9, low=0.85, high=0.95)
    assert not missed(wrong)
    assert "without a word about 75 images" in truth_words(wrong)
    assert missed(replace(wrong, unlabelled=0))


def elsewhere(signs: dict[str, float], families: tuple[str, ...] = FAMILIES) -> pd.DataFrame:
    """Sets of two other detectors whose AP50 follows some signals, exactly."""
    rng, rows = np.random.default_rng(0), []
    for detector in (1, 2):
        for family in families:
            for _ in range(6):
                signals = {name: float(rng.normal()) for name in label_free.SIGNAL_SETS[-1]}
                worth = 0.8 + sum(sign * signals[name] for name, sign in signs.items())
                rows.append({"detector": detector, "family": family, **signals, "truth": np.sin(worth) ** 2})
    return pd.DataFrame(rows)


def test_what_signals_were_worth_elsewhere_draws_the_weights(
    in_domain: Domain, corruptions: list[CorruptedDomain]
) -> None:
    others = elsewhere({"stated": 0.08, "novelty": -0.05})
    found = fit(in_domain, corruptions, others)
    assert found is not None
    names = label_free.SIGNAL_SETS[-1]
    weights = dict(
        zip(names, found.weights_elsewhere(names, frozenset(FAMILIES) | {"as it is"}), strict=True)
    )
    assert weights["stated"] == pytest.approx(0.08, rel=0.25)
    assert weights["novelty"] == pytest.approx(-0.05, rel=0.25)
    assert max(abs(weights[name]) for name in names if name not in ("stated", "novelty")) < 0.01
    alone = fit(in_domain, corruptions)
    assert alone is not None
    assert not np.allclose(alone.read(alone.signals), found.read(found.signals))


def test_a_family_left_out_is_left_out_elsewhere_too(
    in_domain: Domain, corruptions: list[CorruptedDomain]
) -> None:
    """Nothing that a tested family says of itself, here or elsewhere, may reach its reading."""
    others = elsewhere({"stated": 0.08})
    name = FAMILIES[0]
    spoiled = others.copy()
    mine = spoiled["family"] == name
    spoiled.loc[mine, "truth"] = np.random.default_rng(5).random(int(mine.sum()))
    mixed = others[mine].assign(family=f"{name} and {FAMILIES[1]}", truth=0.0)
    one, two = (fit(in_domain, corruptions, table) for table in (others, pd.concat([spoiled, mixed])))
    assert one is not None
    assert two is not None
    of_name = [(e.errors[e.errors["family"] == name])["estimate"].to_numpy() for e in (one, two)]
    assert np.array_equal(*of_name)
    assert not np.allclose(one.errors["estimate"], two.errors["estimate"])


def test_the_development_sets_speak_of_what_is_shown_today() -> None:
    table = development_sets()
    assert table["detector"].nunique() == 16
    assert set(table["family"]) == {transform.family for transform in transforms.corruptions()}
    assert list(table.columns) == ["detector", "family", "severity", *label_free.SIGNAL_SETS[-1], "truth"]
    assert table["truth"].between(0, 1).all()
    assert np.isfinite(table.drop(columns=["detector", "family"]).to_numpy(float)).all()
