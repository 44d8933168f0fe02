"""AP50 without labels: a regression from label-free signals, with the error that it makes.

The detector predicts its own labelled images again under corruptions of known severity: darker, blurred,
smaller, from higher up, and so on (`train.transforms`). A regression from signals that need no labels to the
AP50 of these corrupted sets then estimates the AP50 of images without labels. The meta-set is the idea of
Deng and Zheng 2021 (AutoEval); geometric families are added because overhead images need them. The error is
measured by leaving out one whole family at a time, since the real-world images belong to none of them.

Another camera, country or season is harder than any corruption: on 13 sets of photographs (a detector of 80
classes) the error is 0.14, against 0.25 for assuming the in-domain AP50, and an interval from families left
out holds in 9 of them. So the interval is at least as wide as the errors on real sets ask for.

The weight of a signal differs little between detectors, so the regression is drawn towards its weights for
sixteen other detectors (rendered roads; trained well and for too long). With the few sets of one detector,
its own weights are half noise. This takes another half to one point off the error, measured on detectors and
on photographs that are not among them.

The signal "steady" needs an intervention: images are squeezed a little, and boxes should follow. Where they
do not, the detector is confident but cannot localise, which lowers AP50 on new shapes while confidence stays.
It takes two points off the error on families left out.

The signal "contested" measures the same without an intervention: boxes across a detection that non-maximum
suppression has kept do not agree with it on where the object ends. On images drawn wider, where detectors
stay confident with boxes that are too short, the error falls from 0.19 to 0.11 with it; over all families, by
another one and a half points.

Measured and left out, because the error on families left out stays the same within half a point: agreement of
boxes before non-maximum suppression (Yoo et al. 2025, PCR: boxes that agree are what it removes), agreement
with boxes of the mirrored image and of the image shown larger, shape and size of boxes, and the spread of the
distribution from which YOLO reads each side (Li et al. 2021, GFLv2). Whether detections persist from frame to
frame is measured for videos (`diagnostics.timeline`), but its relation to AP50 cannot be learnt from still
images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from datasets.tables import CORNERS
from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.error_types import BACKGROUND
from diagnostics.intervals import MIN_BOXES
from diagnostics.matching import Bools, Floats, Ints, iou_table
from diagnostics.shift import COMPONENTS, Strings, neighbour_distance, outer_distance
from diagnostics.wording import percent

# Ultralytics' default confidence: the detections that people get to see.
SHOWN = 0.25
# Below this share of the in-domain detection rate, there are few objects or the detector misses them.
SILENT_SHARE = 0.25
# Detections of corrupted images are not kept below this, so they count nowhere; AP50 hardly depends on them.
FLOOR = 0.01
# Detections whose embeddings are compared: below, true positives are rare even in-domain.
MIN_CONFIDENCE = 0.1
# With fewer embeddings of true positives or of false positives in-domain, their appearance is not described.
MIN_EMBEDDINGS = 20
# Images that are corrupted, and fewest images to estimate for. The error was measured on sets of the first
# size; with fewer images it grows as the root of their ratio.
# With 20, the estimates move with the images that happen to be drawn by up to a quarter.
CORRUPTION_IMAGES = 40
MIN_IMAGES = 20
# With fewer families, the error on one left out says little about an unknown family.
MIN_FAMILIES = 6
# AP50 of fewer annotations than this is noise.
MIN_ANNOTATIONS = 10
LEVEL = 0.9
# On standardised signals: about the weight of ten of the seventy or so sets, so that nine correlated signals
# cannot fit their noise. The weights of other detectors count as much.
PENALTY = 10.0
# A detector that hardly finds its own objects cannot lose AP50 under corruptions: there is nothing to learn.
LEAST_AP50 = 0.05
# Boxes from which a mean over boxes counts as much as the mean over all sets: IoUs of one set scatter by
# about 0.25 and the means of sets by 0.04, and (0.25 / 0.04) squared is 40 (empirical Bayes, Efron and Morris
# 1973). The contested confidence scatters by 0.7 and its means by 0.1 to 0.4, which gives 3 to 50; between 10
# and 80 the error does not change.
PRIOR_BOXES = 40
CONFIDENCE_SIGNALS = ("highest", "expected", "stated", "detection_rate", "count", "steady", "contested")
# Signals that are means over boxes, each with the column of the number of boxes.
MEANS = {"steady": "followed", "contested": "sure"}
# The mean of two regressions is better than either: a detector often, but not always, fails on what is new to
# it.
SIGNAL_SETS = (CONFIDENCE_SIGNALS, (*CONFIDENCE_SIGNALS, "novelty", "resemblance"))
UNCHANGED = "as it is"


@dataclass(frozen=True)
class CorruptedDomain:
    """In-domain images under one corruption.

    family: family of the corruption; "as it is" for none, "a and b" for a mixture of two families
    severity: severity of the corruption
    domain: the corrupted images with their transformed annotations
    squeezed: the same images predicted squeezed, see `squeeze_agreement`
    """

    family: str
    severity: int
    domain: Domain
    squeezed: Domain


@dataclass(frozen=True)
class LabelFreeEstimate:
    """AP50 of a domain, estimated without its labels.

    domain: name of the domain
    ap50: the estimate, None when abstained
    low: lower end of its 90 % interval, None when abstained
    high: upper end of its 90 % interval, None when abstained
    abstained: whether no estimate is given
    reason: why not, "" otherwise
    detection_rate: share of images with a detection at or above SHOWN
    in_domain_detection_rate: the same share in-domain
    detections_per_image: detections at or above SHOWN per image
    mean_confidence: their mean confidence, None without any
    alarm: a warning where the detection rate is far below the in-domain one, "" otherwise
    naive: three simpler estimates by name (see `Reference.naive`)
    error: root mean square error in AP50 on families left out
    naive_error: the same error of assuming the in-domain AP50
    truth: AP50 by labels, None without enough annotations
    unlabelled: images that the estimate covers and these labels do not
    """

    domain: str
    ap50: float | None
    low: float | None
    high: float | None
    abstained: bool
    reason: str
    detection_rate: float
    in_domain_detection_rate: float
    detections_per_image: float
    mean_confidence: float | None
    alarm: str
    naive: dict[str, float]
    error: float | None = None
    naive_error: float | None = None
    truth: float | None = None
    unlabelled: int = 0


def angle(share: Floats | float) -> Floats:
    """Arc sine of the square root: the scale on which a share scatters equally everywhere (Bartlett 1947)."""
    return np.asarray(np.arcsin(np.sqrt(np.clip(share, 0.0, 1.0))))


def _share_of(angles: Floats) -> Floats:
    """The inverse of angle; beyond its ends, 0 and 1."""
    return np.asarray(np.sin(np.clip(angles, 0.0, np.pi / 2)) ** 2)


def summarise_detections(domain: Domain) -> tuple[float, float, float | None]:
    """Detection rate, detections per image, and mean confidence, of detections at or above SHOWN."""
    shown = domain.detections[domain.detections["confidence"] >= SHOWN]
    count = max(len(domain.images), 1)
    mean = float(shown["confidence"].mean()) if len(shown) else None
    return shown["image"].nunique() / count, len(shown) / count, mean


def highest_confidences(domain: Domain) -> Floats:
    """Highest confidence in each image, (n,), 0 without a detection."""
    top = domain.detections.groupby("image")["confidence"].max()
    return top.reindex(domain.images["image"]).fillna(0.0).to_numpy(float)


def squeeze_agreement(domain: Domain, squeezed: Domain) -> tuple[float, int]:
    """How well boxes follow when images are squeezed, and the number of boxes: the signal "steady".

    The value is the mean, weighted by confidence, of the highest IoU of each box with a box of the squeezed
    image; 0 of 0 boxes where no box reaches MIN_CONFIDENCE. squeezed: some or all of domain's images, with
    the boxes detected in the squeezed image transformed back.
    """
    detections = domain.subset(squeezed.images["image"]).detections
    detections = detections[detections["confidence"] >= MIN_CONFIDENCE]
    if not len(detections):
        return 0.0, 0
    squeezed_rows = squeezed.detections.groupby("image").indices
    boxes, others = detections[CORNERS].to_numpy(float), squeezed.detections[CORNERS].to_numpy(float)
    best = np.zeros(len(detections))
    for image, rows in detections.reset_index(drop=True).groupby("image").indices.items():
        if image in squeezed_rows:
            best[rows] = iou_table(boxes[rows], others[squeezed_rows[image]]).max(1)
    return float(np.average(best, weights=detections["confidence"])), len(detections)


def contested_confidence(domain: Domain) -> tuple[float, int]:
    """Confidence of weaker boxes across confident ones, and the number of the latter: the signal "contested".

    The value is the summed confidence of weaker boxes of the same class that overlap a box at or above
    MIN_CONFIDENCE by an IoU over BACKGROUND, which is about the same object, over the summed confidence of
    the latter; 0 of 0 boxes where there is none. A box counts once for each more confident box that it
    overlaps, so the value can exceed 1.
    """
    across = stated = 0.0
    sure = 0
    labels = domain.detections["label"].to_numpy()
    boxes, confidences = (
        domain.detections[CORNERS].to_numpy(float),
        domain.detections["confidence"].to_numpy(float),
    )
    for rows in domain.detections.reset_index(drop=True).groupby("image").indices.values():
        of_image, confidence = boxes[rows], confidences[rows]
        confident = confidence >= MIN_CONFIDENCE
        overlap = iou_table(of_image[confident], of_image) > BACKGROUND
        weaker = confidence[None] < confidence[confident][:, None]
        # Non-maximum suppression works class by class; a box of another class means another kind of doubt.
        weaker &= labels[rows][None] == labels[rows][confident][:, None]
        across += float(((overlap & weaker) * confidence[None]).sum())
        stated += float(confidence[confident].sum())
        sure += int(confident.sum())
    return across / stated if sure else 0.0, sure


def fit_calibration(confidence: Floats, true_positive: Bools) -> IsotonicRegression:
    """The share of detections that are true positives, as a rising function of their confidence."""
    return IsotonicRegression(out_of_bounds="clip").fit(confidence, true_positive.astype(float))


def expected_ap50(calibration: IsotonicRegression, confidence: Floats, annotations: float) -> float:
    """AP50 of detections (n,) if confidences are calibrated like this and there are as many annotations."""
    if not len(confidence):
        return 0.0
    true_positives = np.cumsum(calibration.predict(np.sort(confidence)[::-1]))
    precision = np.maximum.accumulate((true_positives / np.arange(1, len(true_positives) + 1))[::-1])[::-1]
    recall = np.minimum(true_positives / max(annotations, 1e-9), 1.0)
    return float(np.trapezoid(np.r_[precision[0], precision], np.r_[0.0, recall]))


@dataclass(frozen=True)
class _Appearance:
    """Embeddings of in-domain true positives and false positives in their common components.

    reduce: from embeddings to the components
    true_positives: points and their groups
    false_positives: points and their groups
    """

    reduce: Callable[[Floats], Floats]
    true_positives: tuple[Floats, Strings]
    false_positives: tuple[Floats, Strings]


class Reference:
    """The in-domain images, with which others are compared: their calibration and their embeddings.

    Parameters
    ----------
    in_domain
        A labelled domain with at least one annotation.
    """

    def __init__(self, in_domain: Domain) -> None:
        self.in_domain = in_domain
        self.ap50 = ap50(in_domain)
        outcomes = in_domain.outcomes
        true_positive = (outcomes["outcome"] == "true_positive").to_numpy()
        confidence = outcomes["confidence"].to_numpy(float)
        self.calibration = fit_calibration(confidence, true_positive)
        self.annotations_per_image = len(in_domain.annotations) / max(len(in_domain.labelled_images), 1)
        rows = in_domain.scored_detections.index.to_numpy()[outcomes["row"].to_numpy()]
        background = (outcomes["outcome"] == "background").to_numpy()
        # False positives are fewer and less confident, so their limit is lower.
        self._appearance = self._fit_appearance(
            rows[true_positive & (confidence >= MIN_CONFIDENCE)],
            rows[background & (confidence >= MIN_CONFIDENCE / 3)],
        )

    def _fit_appearance(self, true_positives: Ints, false_positives: Ints) -> _Appearance | None:
        """The appearance of detections, given by row; None where embeddings are missing or too few."""
        fewest = min(len(true_positives), len(false_positives))
        if fewest < MIN_EMBEDDINGS or not self.in_domain.detection_embeddings.shape[1]:
            return None
        rows, count = np.concatenate([true_positives, false_positives]), len(true_positives)
        both = self.in_domain.detection_embeddings[rows].astype(float)
        centre, scale = both[:count].mean(0), both[:count].std(0) + 1e-2
        width = min(COMPONENTS, both.shape[1], len(both) - 1)
        components = PCA(width, svd_solver="full").fit((both - centre) / scale)

        def reduce(embeddings: Floats) -> Floats:
            return np.asarray(components.transform((embeddings.astype(float) - centre) / scale))

        points, groups = reduce(both), _groups_of(self.in_domain)[rows]
        return _Appearance(reduce, (points[:count], groups[:count]), (points[count:], groups[count:]))

    @cached_property
    def _standardised_images(self) -> tuple[Floats, Floats, Floats, float]:
        """Mean and scale of the in-domain image embeddings, these standardised, and their outer distance."""
        points = self.in_domain.image_embeddings.astype(float)
        mean, scale = points.mean(0), points.std(0) + 1e-3
        points = (points - mean) / scale
        return mean, scale, points, outer_distance(points, self.in_domain.images["group"].to_numpy(str))

    def expected(self, domain: Domain) -> float:
        """AP50 if confidences are calibrated as in-domain and there are as many annotations per image."""
        annotations = self.annotations_per_image * len(domain.images)
        return expected_ap50(self.calibration, domain.detections["confidence"].to_numpy(float), annotations)

    def resemblance(self, domain: Domain, *, own: bool = False) -> float:
        """Mean log ratio of the distances of detections from in-domain true positives and false positives.

        0 where either cannot be described. own: the images are the in-domain images, corrupted; neighbours of
        the same group then do not count, as real-world images have none in-domain.
        """
        shown = (domain.detections["confidence"] >= MIN_CONFIDENCE).to_numpy()
        appearance = self._appearance
        if appearance is None or not shown.any() or not domain.detection_embeddings.shape[1]:
            return 0.0
        points = appearance.reduce(domain.detection_embeddings[np.flatnonzero(shown)])
        groups = _groups_of(domain)[shown] if own else None
        to_true, to_false = (
            np.maximum(neighbour_distance(*references, points, groups), 1e-9)
            for references in (appearance.true_positives, appearance.false_positives)
        )
        ratio = np.log(to_true / to_false)
        return float(np.nanmean(ratio)) if np.isfinite(ratio).any() else 0.0

    def novelty(self, domain: Domain, *, own: bool = False) -> float:
        """Log of the median distance of images from the in-domain images, over the in-domain outer distance.

        own: see `resemblance`.
        """
        mean, scale, points, limit = self._standardised_images
        if not np.isfinite(limit) or limit <= 0:
            return 0.0
        groups = self.in_domain.images["group"].to_numpy(str)
        distance = neighbour_distance(
            points,
            groups,
            (domain.image_embeddings - mean) / scale,
            domain.images["group"].to_numpy(str) if own else None,
        )
        measured = distance[np.isfinite(distance)]
        return float(np.log(max(float(np.median(measured)), 1e-9) / limit)) if len(measured) else 0.0

    def signals(self, domain: Domain, squeezed: Domain, *, own: bool = False) -> dict[str, float]:
        """All signals of a domain, shares as angles, with the number of boxes of the MEANS.

        squeezed: see `squeeze_agreement`. own: see `resemblance`.
        """
        domain = _above_floor(domain)
        steady, followed = squeeze_agreement(domain, _above_floor(squeezed))
        contested, sure = contested_confidence(domain)
        detection_rate, per_image, stated = summarise_detections(domain)
        return {
            "highest": float(angle(highest_confidences(domain).mean())),
            "expected": float(angle(self.expected(domain))),
            "stated": float(angle(SHOWN if stated is None else stated)),
            "detection_rate": float(angle(detection_rate)),
            "count": float(np.log1p(per_image)),
            "steady": steady,
            "followed": followed,
            "contested": contested,
            "sure": sure,
            "novelty": self.novelty(domain, own=own),
            "resemblance": self.resemblance(domain, own=own),
        }

    def naive(self, domain: Domain) -> dict[str, float]:
        """Estimates that need no corrupted images.

        They are the in-domain AP50; the AP50 expected from the in-domain calibration; and the share of images
        whose highest confidence is over the value that a share of AP50 of the in-domain images exceeds (ATC,
        Garg et al. 2022, with images in place of samples).
        """
        over = np.quantile(highest_confidences(self.in_domain), 1 - self.ap50)
        return {
            "as in-domain": self.ap50,
            "if confidences meant the same": self.expected(_above_floor(domain)),
            "thresholded confidence": float((highest_confidences(domain) > over).mean()),
        }


def _groups_of(domain: Domain) -> Strings:
    """The group of each detection's image, (n_detections,)."""
    group_of = domain.images.set_index("image")["group"]
    return group_of.loc[domain.detections["image"]].to_numpy(str)


def _above_floor(domain: Domain) -> Domain:
    """The domain without detections below FLOOR, which corrupted images do not have."""
    keep = (domain.detections["confidence"] >= FLOOR).to_numpy()
    return replace(
        domain,
        detections=domain.detections[keep].reset_index(drop=True),
        detection_embeddings=domain.detection_embeddings[keep],
    )


def _families_in(family: str) -> list[str]:
    """The families of a set: one, or the two of a mixture."""
    return family.split(" and ")


class Estimator:
    """The regression, with its errors on families left out.

    Parameters
    ----------
    reference
        The in-domain images.
    corruptions
        Corrupted sets of known AP50, of at least MIN_FAMILIES families.
    others
        Such sets of other detectors, one row each with detector, family, the shrunk signals and truth.
        Without rows the regression has only its own sets.
    domains
        Real-world domains of other detectors, one row each with estimate and truth. Their errors widen the
        interval: corrupted images are easier than another camera. Without rows, nothing is widened.
    """

    def __init__(
        self,
        reference: Reference,
        corruptions: Sequence[CorruptedDomain],
        others: pd.DataFrame,
        domains: pd.DataFrame,
    ) -> None:
        self.reference, self.others, self.domains = reference, others, domains
        self._prior_weights: dict[tuple[tuple[str, ...], frozenset[str]], Floats] = {}
        self.families = [corruption.family for corruption in corruptions]
        self.severities = [corruption.severity for corruption in corruptions]
        signals = pd.DataFrame([reference.signals(c.domain, c.squeezed, own=True) for c in corruptions])
        counts = {name: signals[boxes].to_numpy(float) for name, boxes in MEANS.items()}
        self.prior_means = {
            name: float(np.average(signals[name], weights=count)) if count.any() else 0.0
            for name, count in counts.items()
        }
        self.most_boxes = {name: float(count.max()) for name, count in counts.items()}
        self.signals = self.shrink(signals)
        self.truth = np.array([ap50(corruption.domain) for corruption in corruptions])
        self.naive = pd.DataFrame([reference.naive(corruption.domain) for corruption in corruptions])
        self.pure_families = [
            family
            for family in dict.fromkeys(self.families)
            if len(_families_in(family)) == 1 and family != UNCHANGED
        ]

    def shrink(self, signals: pd.DataFrame) -> pd.DataFrame:
        """Signals as in the last of SIGNAL_SETS, with MEANS of few boxes drawn to their prior means."""
        shrunk = {}
        for name, boxes in MEANS.items():
            # Capped, or long videos would shrink less than any set that the regression is fitted to.
            count = signals[boxes].clip(upper=self.most_boxes[name])
            total = count * signals[name] + PRIOR_BOXES * self.prior_means[name]
            shrunk[name] = total / (count + PRIOR_BOXES)
        return signals.assign(**shrunk)[list(SIGNAL_SETS[-1])]

    def estimate(self, signals: pd.DataFrame, rows: Bools | None = None) -> Floats:
        """AP50 by the sets in rows (all of them by default), (n,). signals: shrunk.

        Sets of other detectors count only if their families are in rows too.
        """
        chosen = np.ones(len(self.truth), bool) if rows is None else rows
        target = angle(self.truth[chosen])
        families = {part for name in np.array(self.families)[chosen] for part in _families_in(name)}
        estimates = []
        for names in SIGNAL_SETS:
            scaler = StandardScaler().fit(self.signals.loc[chosen, list(names)].to_numpy())
            fitted, new = (
                scaler.transform(table[list(names)].to_numpy()) for table in (self.signals[chosen], signals)
            )
            prior = self.prior_weights(names, frozenset(families))
            own = Ridge(PENALTY).fit(fitted, target - fitted @ prior)
            estimates.append(own.predict(new) + new @ prior)
        return _share_of(np.mean(estimates, axis=0))

    def prior_weights(self, names: tuple[str, ...], families: frozenset[str]) -> Floats:
        """Weight of each signal for other detectors, (len(names),).

        It is from a ridge regression of their AP50 (as angles) on their signals, both standardised for each
        detector.
        families: those whose sets, and the mixtures of which, count.
        """
        if (names, families) not in self._prior_weights:
            signals, targets = [np.zeros((0, len(names)))], [np.zeros(0)]
            columns = [SIGNAL_SETS[-1].index(name) for name in names]
            for of_families, values, truth in self._others:
                counts = np.array([families.issuperset(parts) for parts in of_families])
                if counts.any():
                    chosen = values[counts][:, columns]
                    spread = chosen.std(0)
                    signals.append((chosen - chosen.mean(0)) / np.where(spread > 0, spread, 1.0))
                    target = angle(truth[counts])
                    targets.append(target - target.mean())
            x = np.concatenate(signals)
            # The normal equations: without rows the weights are 0.
            self._prior_weights[names, families] = np.linalg.solve(
                x.T @ x + PENALTY * np.eye(len(names)), x.T @ np.concatenate(targets)
            )
        return self._prior_weights[names, families]

    @cached_property
    def _others(self) -> list[tuple[list[list[str]], Floats, Floats]]:
        """For each other detector: the families of its sets, their signals as in the last of SIGNAL_SETS, and
        AP50.
        """
        return [
            (
                [_families_in(family) for family in sets["family"]],
                sets[list(SIGNAL_SETS[-1])].to_numpy(float),
                sets["truth"].to_numpy(float),
            )
            for _, sets in self.others.groupby("detector")
        ]

    def without(self, name: str) -> Bools:
        """Sets that do not involve a family."""
        return np.array([name not in _families_in(family) for family in self.families])

    def leave_families_out(self, rows: Bools | None = None) -> pd.DataFrame:
        """Each pure family, estimated by a regression on sets without it.

        Columns: row, family, severity, truth, estimate. rows: the sets to use, all by default.
        """
        used = np.ones(len(self.truth), bool) if rows is None else rows
        parts = []
        for name in self.pure_families:
            tested = np.flatnonzero(used & np.array([family == name for family in self.families]))
            if len(tested):
                estimates = self.estimate(self.signals.iloc[tested], used & self.without(name))
                parts += [
                    (row, name, self.severities[row], self.truth[row], estimate)
                    for row, estimate in zip(tested, estimates, strict=True)
                ]
        return pd.DataFrame(parts, columns=["row", "family", "severity", "truth", "estimate"])

    @cached_property
    def errors(self) -> pd.DataFrame:
        """`leave_families_out` of all sets."""
        return self.leave_families_out()

    def half_width(self, errors: pd.DataFrame, estimate: Floats | float) -> Floats:
        """Half-width of the interval around an estimate.

        It is the LEVEL quantile of errors over their `error_scale`, times that of the estimate. The quantile
        is that of split conformal prediction (Vovk et al. 2005), with families in place of samples;
        jackknife+ (Barber et al. 2021) is the same idea.
        """
        size = (errors["truth"] - errors["estimate"]).abs() / error_scale(errors["estimate"].to_numpy(float))
        level = min(1.0, LEVEL * (1 + 1 / len(size)))
        return np.asarray(float(np.quantile(size, level)) * error_scale(estimate))

    def real_half_width(self, estimate: float) -> float:
        """Half-width of the interval around the estimate of a real-world domain: by families left out or by
        real domains, whichever is wider.
        """
        samples = [self.errors, *([self.domains] if len(self.domains) else [])]
        return max(float(self.half_width(sample, estimate)) for sample in samples)

    def coverage(self) -> pd.DataFrame:
        """`errors` with the half-width of an interval without the family, and whether it covers the truth."""
        parts = []
        for name, tested in self.errors.groupby("family", sort=False):
            others = self.leave_families_out(self.without(str(name)))
            half = self.half_width(others, tested["estimate"].to_numpy(float))
            parts.append(
                tested.assign(half=half, covered=(tested["truth"] - tested["estimate"]).abs() <= half)
            )
        return pd.concat(parts, ignore_index=True)

    def extrapolates(self, signals: pd.DataFrame) -> bool:
        """Whether signals lie further from the sets than any family from the others, by leverage."""

        def leverage(points: pd.DataFrame, rows: Bools) -> Floats:
            scaler = StandardScaler().fit(self.signals[rows])
            fitted, new = scaler.transform(self.signals[rows]), scaler.transform(points)
            inverse = np.linalg.inv(fitted.T @ fitted + PENALTY * np.eye(fitted.shape[1]))
            return np.asarray(np.einsum("ij,jk,ik->i", new, inverse, new))

        furthest = max(
            float(leverage(self.signals[~self.without(name)], self.without(name)).max())
            for name in self.pure_families
        )
        return float(leverage(signals, np.ones(len(self.truth), bool))[0]) > furthest


def error_scale(estimate: Floats | float) -> Floats:
    """How errors scale with an estimate: as the standard deviation of a share, with a floor near 0 and 1."""
    share = np.asarray(estimate)
    return np.asarray(np.sqrt(np.maximum(share * (1 - share), 0.02)))


def _no_others() -> pd.DataFrame:
    """No sets of other detectors, see `Estimator`."""
    return pd.DataFrame(columns=["detector", "family", *SIGNAL_SETS[-1], "truth"])


def _no_domains() -> pd.DataFrame:
    """No real-world domains of other detectors, see `Estimator`."""
    return pd.DataFrame(columns=["estimate", "truth"])


def fit_estimator(
    in_domain: Domain,
    corruptions: Sequence[CorruptedDomain],
    others: pd.DataFrame | None = None,
    domains: pd.DataFrame | None = None,
) -> Estimator | None:
    """Fit the regression.

    Parameters
    ----------
    in_domain
        The labelled in-domain images.
    corruptions
        The same images under corruptions.
    others
        Sets of other detectors, see `Estimator`.
    domains
        Real-world domains of other detectors, see `Estimator`; those without an estimate are left out.

    Returns
    -------
    Estimator or None
        None where in-domain annotations are too few, hardly any is detected, or there are too few families.
    """
    # A corruption that leaves hardly an object in the images teaches nothing.
    corruptions = [
        corruption
        for corruption in corruptions
        if (~corruption.domain.annotations["crowd"].to_numpy(bool)).sum() >= MIN_ANNOTATIONS
    ]
    families = {c.family for c in corruptions if len(_families_in(c.family)) == 1}
    if (
        len(in_domain.annotations) < MIN_BOXES
        or len(families) < MIN_FAMILIES
        or not ap50(in_domain) >= LEAST_AP50
    ):
        return None
    return Estimator(
        Reference(in_domain),
        corruptions,
        _no_others() if others is None else others,
        _no_domains() if domains is None else domains.dropna(subset=["estimate", "truth"]),
    )


def estimate_ap50(
    in_domain: Domain, real_world: Domain, estimator: Estimator | None, squeezed: Domain | None = None
) -> LabelFreeEstimate:
    """Estimate AP50 of a domain without its labels, where the regression holds.

    Parameters
    ----------
    in_domain
        The in-domain images.
    real_world
        The domain; its labels are only compared with the estimate.
    estimator
        The fitted regression, None where it could not be fitted.
    squeezed
        Some of the domain's images predicted squeezed, see `squeeze_agreement`.

    Returns
    -------
    LabelFreeEstimate
        Without AP50, and with a reason, where the regression does not hold.
    """
    result = _describe(in_domain, real_world)
    where = "spread over this recording" if real_world.is_one_recording else "from at least 5 clips"
    label = f"label 25 to 50 frames {where}"
    if (
        estimator is None
        or squeezed is None
        or real_world.detection_embeddings.shape[1] != in_domain.detection_embeddings.shape[1]
    ):
        # Imported detections have no embeddings, and their confidences are not this detector's.
        why = (
            "an estimate of AP50 needs the weights, 30 in-domain annotations, and a detector that finds "
            "some of them"
        )
        return replace(result, reason=f"{why}; {label}")
    reference = estimator.reference
    signals = estimator.shrink(pd.DataFrame([reference.signals(real_world, squeezed)]))
    estimate = float(estimator.estimate(signals)[0])
    result = replace(
        result,
        naive=reference.naive(real_world),
        error=root_mean_square(estimator.errors["truth"] - estimator.errors["estimate"]),
        naive_error=root_mean_square(estimator.errors["truth"] - reference.ap50),
    )
    if len(real_world.images) < MIN_IMAGES:
        return replace(result, reason=f"{len(real_world.images)} images, {MIN_IMAGES} are needed; {label}")
    if estimator.extrapolates(signals):
        why = "the detections are unlike those on in-domain images under any corruption"
        return replace(result, reason=f"{why}; {label}")
    half = estimator.real_half_width(estimate) * max(1.0, CORRUPTION_IMAGES / len(real_world.images)) ** 0.5
    return replace(
        result,
        ap50=estimate,
        low=max(0.0, estimate - half),
        high=min(1.0, estimate + half),
        abstained=False,
    )


def _describe(in_domain: Domain, real_world: Domain) -> LabelFreeEstimate:
    """A domain's detections, and its AP50 by labels where there are enough, without an estimate."""
    detection_rate, per_image, confidence = summarise_detections(real_world)
    in_domain_rate = summarise_detections(in_domain)[0]
    alarm = ""
    if detection_rate < SILENT_SHARE * in_domain_rate:
        alarm = (
            f"detections on {percent(detection_rate)} of the images, against {percent(in_domain_rate)} "
            "in-domain: there are few objects, or the detector misses them; check 20 images to decide"
        )
    labelled = len(real_world.annotations) >= MIN_BOXES
    return LabelFreeEstimate(
        domain=real_world.name,
        ap50=None,
        low=None,
        high=None,
        abstained=True,
        reason="",
        detection_rate=detection_rate,
        in_domain_detection_rate=in_domain_rate,
        detections_per_image=per_image,
        mean_confidence=confidence,
        alarm=alarm,
        naive={},
        truth=ap50(real_world) if labelled else None,
        unlabelled=int((~real_world.labelled).sum()) if labelled else 0,
    )


def root_mean_square(values: pd.Series) -> float:
    """Root mean square of errors in AP50."""
    return float(np.sqrt(np.square(values.to_numpy(float)).mean()))
