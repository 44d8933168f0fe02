"""AP50 without labels: estimated from sets of known AP50, and refused where it would be a guess."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated import make_domain
from diagnostics import label_free
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.label_free import CorruptedDomain, Estimator, Reference, estimate_ap50, fit_estimator
from reports.page.label_free import _contradicted, _truth_words
from reports.pipeline.corruptions import development_sets, real_domains
from train import transforms

FAMILIES = ("dark", "blurred", "small", "tilted", "noisy", "hazy", "turned", "pale")


def make_set(loss: float, seed: int, **options) -> Domain:
    """A set in which a share of the true positives is lost, and confidence and embeddings shift with it."""
    moved = {"recall": 0.9 * (1 - loss), "confidence_shift": -0.25 * loss, "embedding_shift": 2 * loss}
    return make_domain("set", **{"clips": 10, "frames": 5, "seed": seed, **moved, **options})


def squeezed(domain: Domain, seed: int = 0, *, off: float = 0.05) -> Domain:
    """The same boxes, with each corner displaced by a share of the side."""
    boxes = domain.detections
    corners = boxes[["x1", "y1", "x2", "y2"]].to_numpy(float)
    sides = np.tile(corners[:, 2:] - corners[:, :2], 2)
    corners = corners + off * sides * np.random.default_rng(seed).standard_normal(corners.shape)
    return replace(
        domain, detections=boxes.assign(**dict(zip(["x1", "y1", "x2", "y2"], corners.T, strict=True)))
    )


def unsteady(domain: Domain) -> Domain:
    """Boxes follow a squeeze less, the less confident the detector is."""
    return squeezed(domain, off=0.05 + 0.2 * (1 - float(domain.detections["confidence"].max())))


def corrupted(family: str, severity: int, domain: Domain) -> CorruptedDomain:
    return CorruptedDomain(family, severity, domain, unsteady(domain))


def estimate(in_domain: Domain, domain: Domain, estimator: Estimator | None) -> label_free.LabelFreeEstimate:
    return estimate_ap50(in_domain, domain, estimator, unsteady(domain))


@pytest.fixture(scope="module")
def in_domain() -> Domain:
    return make_domain("in_domain", clips=20, frames=5, seed=1, recall=0.9)


@pytest.fixture(scope="module")
def corruptions() -> list[CorruptedDomain]:
    sets = [corrupted("as it is", 0, make_set(0.0, 100))]
    for number, family in enumerate(FAMILIES):
        for severity in (1, 2, 3):
            loss = severity * (0.15 + 0.02 * number)
            sets.append(corrupted(family, severity, make_set(loss, 101 + 10 * number + severity)))
    sets.append(corrupted("dark and blurred", 1, make_set(0.5, 999)))
    return sets


@pytest.fixture(scope="module")
def estimator(in_domain: Domain, corruptions: list[CorruptedDomain]) -> Estimator:
    fitted = fit_estimator(in_domain, corruptions)
    assert fitted is not None
    return fitted


def unlabelled(domain: Domain) -> Domain:
    images = domain.images.assign(labelled=False)
    return replace(domain, images=images, annotations=domain.annotations.head(0))


@pytest.mark.parametrize("loss", [0.1, 0.45, 0.75])
def test_the_interval_covers_ap50_by_labels(in_domain: Domain, estimator: Estimator, loss: float) -> None:
    domain = make_set(loss, 5000, clips=20, clip_names="w")
    result = estimate(in_domain, unlabelled(domain), estimator)
    assert not result.abstained
    assert result.low <= ap50(domain) <= result.high
    assert result.error < 0.5 * result.naive_error
    assert set(result.naive) == {"as in-domain", "if confidences meant the same", "thresholded confidence"}
    assert result.truth is None


def test_the_estimate_does_not_depend_on_labels(in_domain: Domain, estimator: Estimator) -> None:
    domain = make_set(0.4, 5000, clips=20)
    with_labels = estimate(in_domain, domain, estimator)
    assert with_labels.truth == pytest.approx(ap50(domain))
    assert with_labels.ap50 == pytest.approx(estimate(in_domain, unlabelled(domain), estimator).ap50)


def test_a_family_left_out_leaves_out_its_mixtures(estimator: Estimator) -> None:
    without = estimator.without("blurred")
    families = {family for family, used in zip(estimator.families, without, strict=True) if used}
    assert "dark and blurred" not in families
    assert "blurred" not in families
    assert "dark" in families
    assert set(estimator.errors["family"]) == set(FAMILIES)


def test_intervals_cover_families_left_out(estimator: Estimator) -> None:
    coverage = estimator.coverage()
    assert len(coverage) == 3 * len(FAMILIES)
    # At 90 %, fewer than 17 of 24 has a probability of 1 in 500.
    assert coverage["covered"].sum() >= 17
    assert coverage["half"].mean() < 0.3


def test_real_domains_widen_the_interval(
    in_domain: Domain, corruptions: list[CorruptedDomain], estimator: Estimator
) -> None:
    domain = unlabelled(make_set(0.4, 5000, clips=20))
    narrow = estimate(in_domain, domain, estimator)
    # Ten domains, each half of the largest possible error off: at 90 %, the largest of ten decides.
    domains = pd.DataFrame({"estimate": [0.5] * 10, "truth": [0.5 + 0.025 * k for k in range(1, 11)]})
    fitted = fit_estimator(in_domain, corruptions, domains=domains)
    wide = estimate(in_domain, domain, fitted)
    assert wide.ap50 == pytest.approx(narrow.ap50)
    scale = (wide.ap50 * (1 - wide.ap50)) ** 0.5 / 0.5
    assert wide.high - wide.ap50 == pytest.approx(min(0.25 * scale, 1 - wide.ap50), rel=0.02)
    harmless = fit_estimator(in_domain, corruptions, domains=domains.assign(truth=0.5))
    assert estimate(in_domain, domain, harmless).high == pytest.approx(narrow.high)
    refused = pd.concat([domains, pd.DataFrame({"estimate": [np.nan], "truth": [0.9]})])
    same = fit_estimator(in_domain, corruptions, domains=refused)
    assert estimate(in_domain, domain, same).high == pytest.approx(wide.high)


def test_an_interval_from_the_other_real_domains_holds(estimator: Estimator) -> None:
    """Photographs, each domain left out in turn: the share that the interval claims, less what 14
    can show.
    """
    table = real_domains().dropna()
    held = []
    for row in range(len(table)):
        estimated, truth = table.iloc[row][["estimate", "truth"]].astype(float)
        half = estimator.half_width(table.drop(index=table.index[row]), estimated)
        held.append(abs(truth - estimated) <= half)
    # At 90 %, fewer than 11 of 14 has a probability of 1 in 25.
    assert np.mean(held) >= 11 / 14
    error = np.sqrt(((table["estimate"] - table["truth"]) ** 2).mean())
    assert error < 0.7 * np.sqrt(((table["in_domain"] - table["truth"]) ** 2).mean())


def test_a_detector_without_detections_raises_the_alarm(in_domain: Domain, estimator: Estimator) -> None:
    silent = replace(
        unlabelled(make_set(0.0, 1, clip_names="w")),
        detections=make_set(0.0, 1).detections.head(0),
        detection_embeddings=np.zeros((0, 12)),
    )
    result = estimate(in_domain, silent, estimator)
    assert result.abstained or result.ap50 <= 0.05
    assert "the detector misses them" in result.alarm


def test_detections_unlike_any_corruption_are_refused(in_domain: Domain, estimator: Estimator) -> None:
    # Three hundred confident boxes per image: no corruption of the in-domain images gives that.
    domain = unlabelled(make_set(0.0, 7, clip_names="w"))
    rows = pd.concat([domain.detections.assign(confidence=0.99)] * 60, ignore_index=True)
    extreme = replace(domain, detections=rows, detection_embeddings=np.full((len(rows), 12), 40.0))
    result = estimate(in_domain, extreme, estimator)
    assert result.abstained
    assert "unlike those on in-domain images" in result.reason


def test_too_few_images_are_refused(in_domain: Domain, estimator: Estimator) -> None:
    result = estimate(in_domain, unlabelled(make_set(0.3, 3, clips=3, frames=5)), estimator)
    assert result.abstained
    assert "15 images" in result.reason


def test_fewer_images_give_wider_intervals(in_domain: Domain, estimator: Estimator) -> None:
    domain = unlabelled(make_set(0.4, 5000, clips=20))
    some = domain.subset(domain.images["image"].head(20))
    half = [
        result.high - result.ap50 for result in (estimate(in_domain, d, estimator) for d in (domain, some))
    ]
    assert half[1] > 1.2 * half[0]


def test_no_estimate_without_corruptions_or_annotations(
    in_domain: Domain, corruptions: list[CorruptedDomain]
) -> None:
    assert estimate(in_domain, unlabelled(make_set(0.3, 3)), None).abstained
    assert fit_estimator(in_domain, corruptions[:4]) is None
    assert fit_estimator(in_domain.subset(in_domain.images["image"].head(3)), corruptions) is None


def test_without_embeddings_resemblance_is_zero(
    in_domain: Domain, corruptions: list[CorruptedDomain]
) -> None:
    no_embeddings = replace(in_domain, detection_embeddings=np.zeros((len(in_domain.detections), 0)))
    assert Reference(no_embeddings).resemblance(in_domain) == 0.0


def test_signals_ignore_detections_below_the_floor(in_domain: Domain) -> None:
    domain = make_set(0.3, 3)
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


def test_a_corruption_that_empties_the_images_is_left_out(
    in_domain: Domain, corruptions: list[CorruptedDomain]
) -> None:
    empty = replace(corruptions[1].domain, annotations=corruptions[1].domain.annotations.assign(crowd=True))
    fitted = fit_estimator(in_domain, [*corruptions, corrupted("larger", 3, empty)])
    assert fitted is not None
    assert "larger" not in fitted.families


def test_no_estimate_for_detections_of_another_detector(in_domain: Domain, estimator: Estimator) -> None:
    domain = unlabelled(make_set(0.3, 3, clips=20))
    foreign = replace(domain, detection_embeddings=np.zeros((len(domain.detections), 0)))
    assert estimate(in_domain, foreign, estimator).abstained


def test_novelty_of_the_in_domain_images_equals_that_of_new_ones(in_domain: Domain) -> None:
    reference = Reference(in_domain)
    own, foreign = reference.novelty(in_domain, own=True), reference.novelty(in_domain)
    # The outer distance exceeds the median, so both are below 0; frames of the own clip do not count.
    assert foreign < own < 0
    fresh = make_domain("set", clips=20, frames=5, seed=77, recall=0.9, clip_names="w")
    assert reference.novelty(fresh) == pytest.approx(own, abs=0.1)


def test_groups_are_excluded_only_for_own_images(in_domain: Domain) -> None:
    reference, domain = Reference(in_domain), make_set(0.3, 5)
    assert reference.resemblance(domain, own=True) != reference.resemblance(domain)


def test_boxes_that_follow_a_squeeze_agree(in_domain: Domain) -> None:
    boxes = int((in_domain.detections["confidence"] >= label_free.MIN_CONFIDENCE).sum())
    assert label_free.squeeze_agreement(in_domain, in_domain) == (pytest.approx(1.0), boxes)
    (near, _), (far, _) = (
        label_free.squeeze_agreement(in_domain, squeezed(in_domain, off=off)) for off in (0.05, 0.3)
    )
    assert 0.8 < near < 1
    assert far < near - 0.2
    nothing = replace(
        in_domain,
        detections=in_domain.detections.head(0),
        detection_embeddings=in_domain.detection_embeddings[:0],
    )
    assert label_free.squeeze_agreement(in_domain, nothing) == (0.0, boxes)
    assert label_free.squeeze_agreement(nothing, in_domain) == (0.0, 0)


def test_signals_of_few_boxes_shrink_to_their_prior_means(estimator: Estimator) -> None:
    signals = estimator.signals.head(1).assign(steady=0.1, contested=0.3, sure=0)
    usual = estimator.prior_means["steady"]
    none, few, many = (estimator.shrink(signals.assign(followed=n)).iloc[0] for n in (0, 5, 5000))
    assert none["steady"] == pytest.approx(usual)
    assert none["contested"] == pytest.approx(estimator.prior_means["contested"])
    assert few["steady"] > usual - 0.15
    assert many["steady"] < usual - 0.4


def test_weaker_boxes_across_a_confident_one_contest_it(in_domain: Domain) -> None:
    first = in_domain.detections.iloc[0]
    wide = float(first["x2"] - first["x1"])

    def with_boxes(*rows: tuple[float, float]) -> Domain:
        """Copies of the first detection with (confidence, shift to the right as a share of its width)."""
        detections = pd.DataFrame(
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
            in_domain,
            detections=detections,
            detection_embeddings=in_domain.detection_embeddings[: len(detections)],
        )

    assert label_free.contested_confidence(with_boxes((0.8, 0))) == (0.0, 1)
    # The IoU of boxes shifted by half a width is 1 / 3; by 0.9 of it, 0.05.
    assert label_free.contested_confidence(with_boxes((0.8, 0), (0.04, 0.5))) == (pytest.approx(0.05), 1)
    assert label_free.contested_confidence(with_boxes((0.8, 0), (0.04, 0.9))) == (0.0, 1)
    # Of two confident boxes, only the weaker contests the other; the third box contests both.
    assert label_free.contested_confidence(with_boxes((0.8, 0), (0.4, 0.5), (0.06, 0.25))) == (
        pytest.approx((0.4 + 0.06 + 0.06) / 1.2),
        2,
    )
    # Boxes of other images or of another class do not count.
    two = with_boxes((0.8, 0), (0.04, 0.5))
    other = two.detections.assign(label=["pothole", "puddle"])
    assert label_free.contested_confidence(replace(two, detections=other)) == (0.0, 1)
    in_two_images = two.detections.assign(image=list(in_domain.images["image"].iloc[:2]))
    assert label_free.contested_confidence(replace(two, detections=in_two_images)) == (0.0, 1)
    assert label_free.contested_confidence(
        replace(two, detections=two.detections.head(0), detection_embeddings=two.detection_embeddings[:0])
    ) == (
        0.0,
        0,
    )


def test_only_squeezed_images_are_compared(in_domain: Domain) -> None:
    some = squeezed(in_domain).subset(in_domain.images["image"].iloc[::3])
    assert label_free.squeeze_agreement(in_domain, some) == pytest.approx(
        label_free.squeeze_agreement(in_domain.subset(some.images["image"]), some)
    )


def test_no_estimate_without_squeezed_images(in_domain: Domain, estimator: Estimator) -> None:
    assert estimate_ap50(in_domain, unlabelled(make_set(0.3, 3, clips=20)), estimator).abstained


def test_labels_of_some_images_do_not_refute_an_estimate_of_all(
    in_domain: Domain, estimator: Estimator
) -> None:
    domain = make_set(0.45, 5000, clips=20, clip_names="w")
    some = domain.images["image"].isin(domain.images["image"].iloc[::4])
    boxes = domain.annotations[domain.annotations["image"].isin(domain.images["image"][some])]
    part = replace(
        domain, images=domain.images.assign(labelled=some), annotations=boxes.reset_index(drop=True)
    )
    result = estimate(in_domain, part, estimator)
    assert result.unlabelled == (~some).sum()
    wrong = replace(result, ap50=0.9, low=0.85, high=0.95)
    assert not _contradicted(wrong)
    assert "without the 75 unlabelled images" in _truth_words(wrong)
    assert _contradicted(replace(wrong, unlabelled=0))


def sets_of_other_detectors(signs: dict[str, float], families: tuple[str, ...] = FAMILIES) -> pd.DataFrame:
    """Sets of two other detectors whose AP50 is an exact function of some signals."""
    rng, rows = np.random.default_rng(0), []
    for detector in (1, 2):
        for family in families:
            for _ in range(6):
                signals = {name: float(rng.normal()) for name in label_free.SIGNAL_SETS[-1]}
                angle = 0.8 + sum(sign * signals[name] for name, sign in signs.items())
                rows.append({"detector": detector, "family": family, **signals, "truth": np.sin(angle) ** 2})
    return pd.DataFrame(rows)


def test_prior_weights_are_those_of_other_detectors(
    in_domain: Domain, corruptions: list[CorruptedDomain]
) -> None:
    others = sets_of_other_detectors({"stated": 0.08, "novelty": -0.05})
    fitted = fit_estimator(in_domain, corruptions, others)
    assert fitted is not None
    names = label_free.SIGNAL_SETS[-1]
    weights = dict(zip(names, fitted.prior_weights(names, frozenset(FAMILIES) | {"as it is"}), strict=True))
    assert weights["stated"] == pytest.approx(0.08, rel=0.25)
    assert weights["novelty"] == pytest.approx(-0.05, rel=0.25)
    assert max(abs(weights[name]) for name in names if name not in ("stated", "novelty")) < 0.01
    alone = fit_estimator(in_domain, corruptions)
    assert alone is not None
    assert not np.allclose(alone.estimate(alone.signals), fitted.estimate(fitted.signals))


def test_a_family_left_out_is_left_out_of_other_detectors(
    in_domain: Domain, corruptions: list[CorruptedDomain]
) -> None:
    """Sets of the tested family, of this or of other detectors, do not influence its estimate."""
    others = sets_of_other_detectors({"stated": 0.08})
    name = FAMILIES[0]
    spoiled = others.copy()
    of_family = spoiled["family"] == name
    spoiled.loc[of_family, "truth"] = np.random.default_rng(5).random(int(of_family.sum()))
    mixed = others[of_family].assign(family=f"{name} and {FAMILIES[1]}", truth=0.0)
    one, two = (
        fit_estimator(in_domain, corruptions, table) for table in (others, pd.concat([spoiled, mixed]))
    )
    assert one is not None
    assert two is not None
    estimates = [(e.errors[e.errors["family"] == name])["estimate"].to_numpy() for e in (one, two)]
    assert np.array_equal(*estimates)
    assert not np.allclose(one.errors["estimate"], two.errors["estimate"])


def test_the_development_sets_have_todays_corruptions_and_signals() -> None:
    table = development_sets()
    assert table["detector"].nunique() == 16
    assert set(table["family"]) == {
        transform.family for transform in transforms.corruptions(transforms.SEVERITIES, mixed=True)
    }
    assert list(table.columns) == ["detector", "family", "severity", *label_free.SIGNAL_SETS[-1], "truth"]
    assert table["truth"].between(0, 1).all()
    assert np.isfinite(table.drop(columns=["detector", "family"]).to_numpy(float)).all()
