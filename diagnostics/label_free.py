"""AP50 of footage that nobody has labelled, read off what the detector says there, and how far off such a reading is.

The detector is first shown its own labelled images again, changed in ways whose cost can be measured: darker, blurred, smaller, from higher up, and so
on, each in three grades (`train.distortions`). A regression from signals that need no labels to the AP50 of those changed sets then reads the AP50 of
footage without labels. The idea of a meta-set is that of Deng and Zheng 2021 (AutoEval); geometric families are added because they are
what overhead footage is. The error is measured by leaving out one whole family at a time, since what is at hand is none of them.

What a signal is worth differs little from one detector to the next, so the regression is drawn towards what it was worth to sixteen others (rendered roads; trained
well and for too long): with as few sets as one detector gives, its own weights are half noise. That took another half to one point off the error, measured on
detectors and on photographs that are not among them.

One signal needs an intervention: the image is squeezed a little, and boxes should follow. Where they do not, the detector is sure of something it cannot place,
which is what lowers AP50 when shapes are new while confidence stays. It took two points off the error with families left out.

Another says the same without an intervention: what non-maximum suppression leaves across a box does not agree with it where the object ends. Images drawn wider, in which
detectors stay sure with boxes that are too short, were read with an error of 0.19 before and 0.11 with it. It took another one and a half points off the whole.

Measured and left out, because family-left-out error stayed the same within half a point: agreement of boxes before non-maximum suppression (Yang et
al. 2025, PCR: those that agree are what it removes), boxes with those of the mirrored image and of the image shown larger, shape and size of boxes, and the spread of the distribution from which
YOLO reads each side (Li et al. 2021, GFLv2). Whether detections last from frame to frame is told for
videos (`diagnostics.timeline`), but still images cannot teach what it says about AP50.
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

# The confidence at which people look at a detector's output by default.
SHOWN = 0.25
# Home speaks on this share of images or more; an unlabelled domain far below it has either no objects or a detector gone silent.
SILENT_SHARE = 0.25
# Detections below this are not kept of the changed images, so they count nowhere here; AP50 hardly moves with them.
FLOOR = 0.01
# Detections whose looks are compared: below, the in-domain own true positives thin out.
MIN_CONFIDENCE = 0.1
# Fewer embeddings of true positives or of false detections in-domain than this describe neither.
MIN_EMBEDDINGS = 20
# Images each change is shown on, and fewest images of footage: the error was measured on sets of the first size, and grows as its root.
CORRUPTION_IMAGES = 40
MIN_IMAGES = 20
# Fewer families than this, and leaving one out says little about a family nobody thought of.
MIN_FAMILIES = 6
# AP50 of fewer objects than this is noise.
MIN_ANNOTATIONS = 10
LEVEL = 0.9
# On standardised signals: about the weight of ten of the seventy or so sets, so that nine correlated signals cannot fit their noise. What other detectors say weighs as much.
PENALTY = 10.0
# A detector that hardly finds its own objects has nothing to lose to a change, so there is nothing to learn from.
LEAST_AP50 = 0.05
# Boxes that a mean over boxes must come from to count as much as the mean over all sets: IoUs of one set scatter by 0.25 or so and the means of sets by 0.04, and
# (0.25 / 0.04) squared is 40 (empirical Bayes, Efron and Morris 1973). What lies across boxes scatters by 0.7, means of sets by 0.1 to 0.4, which gives 3 to 50; between 10 and 80 the error does not change.
PRIOR_BOXES = 40
CONFIDENCE_SIGNALS = ("highest", "expected", "stated", "detection_rate", "count", "steady", "contested")
# Means over boxes, each with the signal that says over how many.
MEANS = {"steady": "followed", "contested": "sure"}
# The mean of both is better than either: what looks new is often, but not always, what it fails on.
SIGNAL_SETS = (CONFIDENCE_SIGNALS, (*CONFIDENCE_SIGNALS, "novelty", "resemblance"))


@dataclass(frozen=True)
class CorruptedDomain:
    """In-domain images after one change, with their moved boxes. family: "as it is" for no change; "a and b" is a mixture of two families.

    squeezed: the same images seen squeezed, see `steadiness`.
    """

    family: str
    severity: int
    domain: Domain
    squeezed: Domain


@dataclass(frozen=True)
class LabelFree:
    """ap50 with its 90 % interval, or None while abstained; reason says why.

    naive: what three simpler readings would say (see `Reference.naive`). error: family-left-out root mean square error in AP50; naive_error: that of
    assuming AP50 in-domain. with_box, home_with_box: share of images with a detection at or above SHOWN. alarm: the detector is silent where in-domain
    it speaks ("nothing is a pothole" must never pass for healthy). truth: AP50 by labels where there are some, and unlabelled:
    how many of the images read it says nothing about.
    """

    domain: str
    ap50: float | None
    low: float | None
    high: float | None
    abstained: bool
    reason: str
    with_box: float
    in_domain_with_box: float
    boxes_per_image: float
    mean_confidence: float | None
    alarm: str
    naive: dict[str, float]
    error: float | None = None
    naive_error: float | None = None
    truth: float | None = None
    unlabelled: int = 0


def angle(share: Floats | float) -> Floats:
    """Arc sine of the square root: the scale on which a share scatters alike wherever it lies (Bartlett 1947), with no infinite ends."""
    return np.asarray(np.arcsin(np.sqrt(np.clip(share, 0.0, 1.0))))


def _share_of(angles: Floats) -> Floats:
    """The inverse of angle; beyond its ends, 0 and 1."""
    return np.asarray(np.sin(np.clip(angles, 0.0, np.pi / 2)) ** 2)


def summarise_detections(domain: Domain) -> tuple[float, float, float | None]:
    """Share of images with a shown detection, shown detections an image, and their mean confidence."""
    shown = domain.detections[domain.detections["confidence"] >= SHOWN]
    count = max(len(domain.images), 1)
    mean = float(shown["confidence"].mean()) if len(shown) else None
    return shown["image"].nunique() / count, len(shown) / count, mean


def highest(domain: Domain) -> Floats:
    """Highest confidence in each image, (n,), 0 where there is no box."""
    top = domain.detections.groupby("image")["confidence"].max()
    return top.reindex(domain.images["image"]).fillna(0.0).to_numpy(float)


def steadiness(domain: Domain, squeezed: Domain) -> tuple[float, int]:
    """How well boxes follow when images are squeezed: the mean IoU of each box with the nearest found then, weighted by confidence; and of how many boxes.

    squeezed: some or all of domain's images, with the boxes found in the squeezed image laid back into the image as it is. 0 of 0 boxes where none of these
    images' boxes reaches LOOKED_AT.
    """
    asked = domain.subset(squeezed.images["image"]).detections
    asked = asked[asked["confidence"] >= MIN_CONFIDENCE]
    if not len(asked):
        return 0.0, 0
    again = squeezed.detections.groupby("image").indices
    boxes, others = asked[CORNERS].to_numpy(float), squeezed.detections[CORNERS].to_numpy(float)
    best = np.zeros(len(asked))
    for image, rows in asked.reset_index(drop=True).groupby("image").indices.items():
        if image in again:
            best[rows] = iou_table(boxes[rows], others[again[image]]).max(1)
    return float(np.average(best, weights=asked["confidence"])), len(asked)


def contested(domain: Domain) -> tuple[float, int]:
    """Confidence of the weaker boxes of a class that lie across boxes at or above LOOKED_AT (IoU above BACKGROUND: about the same object), over the confidence of those; and how
    many those are. 0 of 0 boxes where there is none.

    A box counts once for each surer one that it lies across, so this can be more than 1.
    """
    across = stated = 0.0
    sure = 0
    labels = domain.detections["label"].to_numpy()
    boxes, confidences = (
        domain.detections[CORNERS].to_numpy(float),
        domain.detections["confidence"].to_numpy(float),
    )
    for rows in domain.detections.reset_index(drop=True).groupby("image").indices.values():
        mine, confidence = boxes[rows], confidences[rows]
        asked = confidence >= MIN_CONFIDENCE
        overlap = iou_table(mine[asked], mine) > BACKGROUND
        weaker = confidence[None] < confidence[asked][:, None]
        # Non-maximum suppression works class by class; another class at the same place is another doubt.
        weaker &= labels[rows][None] == labels[rows][asked][:, None]
        across += float(((overlap & weaker) * confidence[None]).sum())
        stated += float(confidence[asked].sum())
        sure += int(asked.sum())
    return across / stated if sure else 0.0, sure


def meaning_of(confidence: Floats, true_positive: Bools) -> IsotonicRegression:
    """What confidences mean: the share of detections that are true positives, as a rising function of their confidence."""
    return IsotonicRegression(out_of_bounds="clip").fit(confidence, true_positive.astype(float))


def expected_ap50(meaning: IsotonicRegression, confidence: Floats, annotations: float) -> float:
    """AP50 of detections (n,) if confidences meant what `meaning` says, and there were as many objects."""
    if not len(confidence):
        return 0.0
    true_positives = np.cumsum(meaning.predict(np.sort(confidence)[::-1]))
    precision = np.maximum.accumulate((true_positives / np.arange(1, len(true_positives) + 1))[::-1])[::-1]
    recall = np.minimum(true_positives / max(annotations, 1e-9), 1.0)
    return float(np.trapezoid(np.r_[precision[0], precision], np.r_[0.0, recall]))


class Reference:
    """The in-domain images as what others are held against: what confidences mean there, and what true positives, false detections and images look like.

    home: labelled, with at least one object.
    """

    def __init__(self, in_domain: Domain) -> None:
        self.in_domain = in_domain
        self.ap50 = ap50(in_domain)
        outcomes = in_domain.outcomes
        true_positive = (outcomes["outcome"] == "true_positive").to_numpy()
        confidence = outcomes["confidence"].to_numpy(float)
        self.meaning = meaning_of(confidence, true_positive)
        self.annotations_per_image = len(in_domain.annotations) / max(len(in_domain.labelled_images), 1)
        rows = in_domain.scored_detections.index.to_numpy()[outcomes["row"].to_numpy()]
        wrong = (outcomes["outcome"] == "background").to_numpy()
        # False detections are fewer and less sure, so they are looked for further down.
        self._fit_appearance(
            rows[true_positive & (confidence >= MIN_CONFIDENCE)],
            rows[wrong & (confidence >= MIN_CONFIDENCE / 3)],
        )

    def _fit_appearance(self, right: Ints, wrong: Ints) -> None:
        """The embeddings of true positives and of false detections in the components of both, each with the groups they come from."""
        self.looks: tuple[Callable[[Floats], Floats], tuple[tuple[Floats, Strings], ...]] | None = None
        if min(len(right), len(wrong)) < MIN_EMBEDDINGS or not self.in_domain.detection_embeddings.shape[1]:
            return
        both = self.in_domain.detection_embeddings[np.concatenate([right, wrong])].astype(float)
        centre, spread = both[: len(right)].mean(0), both[: len(right)].std(0) + 1e-2
        width = min(COMPONENTS, both.shape[1], len(both) - 1)
        components = PCA(width, svd_solver="full").fit((both - centre) / spread)

        def reduce(annotations: Floats) -> Floats:
            return np.asarray(components.transform((annotations.astype(float) - centre) / spread))

        points, groups = reduce(both), _groups_of(self.in_domain)[np.concatenate([right, wrong])]
        parts = slice(None, len(right)), slice(len(right), None)
        self.looks = reduce, tuple((points[part], groups[part]) for part in parts)

    @cached_property
    def _standardised_images(self) -> tuple[Floats, Floats, Floats, float]:
        """Mean and spread of the in-domain image embeddings, the standardised embeddings, and the distance that one in twenty of them exceeds."""
        points = self.in_domain.image_embeddings.astype(float)
        mean, spread = points.mean(0), points.std(0) + 1e-3
        points = (points - mean) / spread
        return mean, spread, points, outer_distance(points, self.in_domain.images["group"].to_numpy(str))

    def expected(self, domain: Domain) -> float:
        """AP50 if a confidence meant there what it means in-domain, and objects were as many an image."""
        annotations = self.annotations_per_image * len(domain.images)
        return expected_ap50(self.meaning, domain.detections["confidence"].to_numpy(float), annotations)

    def resemblance(self, domain: Domain, *, own: bool = False) -> float:
        """Mean log ratio of how far detections lie from the in-domain true positives and from the in-domain false detections; 0 where looks are unknown.

        own: the images are the in-domain, changed; what was detected in the same group is no company then, as footage has none in-domain.
        """
        shown = (domain.detections["confidence"] >= MIN_CONFIDENCE).to_numpy()
        if self.looks is None or not shown.any() or not domain.detection_embeddings.shape[1]:
            return 0.0
        reduce, known = self.looks
        points = reduce(domain.detection_embeddings[shown])
        groups = _groups_of(domain)[shown] if own else None
        to_right, to_wrong = (np.maximum(neighbour_distance(*those, points, groups), 1e-9) for those in known)
        ratio = np.log(to_right / to_wrong)
        return float(np.nanmean(ratio)) if np.isfinite(ratio).any() else 0.0

    def novelty(self, domain: Domain, *, own: bool = False) -> float:
        """Log of the median distance of images to the in-domain, over the distance that one in twenty of the in-domain own exceeds. own: see `resemblance`."""
        mean, spread, points, limit = self._standardised_images
        if not np.isfinite(limit) or limit <= 0:
            return 0.0
        groups = self.in_domain.images["group"].to_numpy(str)
        distance = neighbour_distance(
            points,
            groups,
            (domain.image_embeddings - mean) / spread,
            domain.images["group"].to_numpy(str) if own else None,
        )
        known = distance[np.isfinite(distance)]
        return float(np.log(max(float(np.median(known)), 1e-9) / limit)) if len(known) else 0.0

    def signals(self, domain: Domain, squeezed: Domain, *, own: bool = False) -> dict[str, float]:
        """Everything the regression reads, shares as angles; followed, sure: boxes that steady and contested are of. squeezed: see `steadiness`. own: see `resemblance`."""
        domain = _above_floor(domain)
        steady, followed = steadiness(domain, _above_floor(squeezed))
        across, sure = contested(domain)
        share, per_image, stated = summarise_detections(domain)
        return {
            "highest": float(angle(highest(domain).mean())),
            "expected": float(angle(self.expected(domain))),
            "stated": float(angle(SHOWN if stated is None else stated)),
            "detection_rate": float(angle(share)),
            "count": float(np.log1p(per_image)),
            "steady": steady,
            "followed": followed,
            "contested": across,
            "sure": sure,
            "novelty": self.novelty(domain, own=own),
            "resemblance": self.resemblance(domain, own=own),
        }

    def naive(self, domain: Domain) -> dict[str, float]:
        """Readings that need no changed images: as in-domain; confidences mean what they mean in-domain; and the share of images whose highest
        confidence is over the value that AP50 of the in-domain images exceed (ATC, Garg et al. 2022, with images in the place of samples).
        """
        over = np.quantile(highest(self.in_domain), 1 - self.ap50)
        return {
            "as in-domain": self.ap50,
            "if confidences meant the same": self.expected(_above_floor(domain)),
            "thresholded confidence": float((highest(domain) > over).mean()),
        }


def _groups_of(domain: Domain) -> Strings:
    """The group of each detection's image, (n_detections,)."""
    named = domain.images.set_index("image")["group"]
    return named.loc[domain.detections["image"]].to_numpy(str)


def _above_floor(domain: Domain) -> Domain:
    """The domain without the detections that changed images are not asked for."""
    keep = (domain.detections["confidence"] >= FLOOR).to_numpy()
    return replace(
        domain,
        detections=domain.detections[keep].reset_index(drop=True),
        detection_embeddings=domain.detection_embeddings[keep],
    )


def _involves(family: str, name: str) -> bool:
    """Whether a set's family is `name` or a mixture with it."""
    return name in family.split(" and ")


class Estimator:
    """The regression, with its family-left-out errors. graded: sets of known AP50, at least MIN_FAMILIES families.

    others: such sets of other detectors, one row each with detector, family, the settled signals and truth; without rows the regression stands alone.
    """

    def __init__(
        self, reference: Reference, corruptions: Sequence[CorruptedDomain], others: pd.DataFrame
    ) -> None:
        self.reference, self.others = reference, others
        self._elsewhere: dict[tuple[tuple[str, ...], frozenset[str]], Floats] = {}
        self.families = [g.family for g in corruptions]
        self.severities = [g.severity for g in corruptions]
        signals = pd.DataFrame([reference.signals(g.domain, g.squeezed, own=True) for g in corruptions])
        counts = {name: signals[boxes].to_numpy(float) for name, boxes in MEANS.items()}
        self.usual = {
            name: float(np.average(signals[name], weights=count)) if count.any() else 0.0
            for name, count in counts.items()
        }
        self.most = {name: float(count.max()) for name, count in counts.items()}
        self.signals = self.settle(signals)
        self.truth = np.array([ap50(g.domain) for g in corruptions])
        self.naive = pd.DataFrame([reference.naive(g.domain) for g in corruptions])
        self.names = [f for f in dict.fromkeys(self.families) if " and " not in f and f != "as it is"]

    def settle(self, signals: pd.DataFrame) -> pd.DataFrame:
        """Signals with MEANS drawn to the usual where few boxes speak, in the order of the last of SIGNAL_SETS; where a detector is silent, nothing speaks for or against it."""
        drawn = {}
        for name, boxes in MEANS.items():
            # No more than the sets have, or long footage would be drawn less than anything the regression knows.
            count = signals[boxes].clip(upper=self.most[name])
            drawn[name] = (count * signals[name] + PRIOR_BOXES * self.usual[name]) / (count + PRIOR_BOXES)
        return signals.assign(**drawn)[list(SIGNAL_SETS[-1])]

    def read(self, signals: pd.DataFrame, rows: Bools | None = None) -> Floats:
        """AP50 by the sets in rows (all of them by default), (n,). signals: settled.

        Families that are not in rows are left out of what other detectors say too.
        """
        chosen = np.ones(len(self.truth), bool) if rows is None else rows
        goal = angle(self.truth[chosen])
        there = {part for name in np.array(self.families)[chosen] for part in name.split(" and ")}
        estimates = []
        for names in SIGNAL_SETS:
            scaler = StandardScaler().fit(self.signals.loc[chosen, list(names)].to_numpy())
            known, asked = (
                scaler.transform(table[list(names)].to_numpy()) for table in (self.signals[chosen], signals)
            )
            usual = self.weights_elsewhere(names, frozenset(there))
            own = Ridge(PENALTY).fit(known, goal - known @ usual)
            estimates.append(own.predict(asked) + asked @ usual)
        return _share_of(np.mean(estimates, axis=0))

    def weights_elsewhere(self, names: tuple[str, ...], families: frozenset[str]) -> Floats:
        """What each signal is worth to other detectors on average, (len(names),): the ridge regression of their AP50 (as angles) on their signals, both standardised as one
        detector's are. families: those whose sets, and the mixtures of which, count.
        """
        if (names, families) not in self._elsewhere:
            counts = self.others["family"].map(lambda family: families.issuperset(family.split(" and ")))
            signals, goals = [np.zeros((0, len(names)))], [np.zeros(0)]
            for _, mine in self.others[counts.to_numpy(bool)].groupby("detector"):
                signals.append(StandardScaler().fit_transform(mine[list(names)].to_numpy(float)))
                goal = angle(mine["truth"].to_numpy(float))
                goals.append(goal - goal.mean())
            known = np.concatenate(signals)
            # The normal equations: no rows give no weights.
            self._elsewhere[names, families] = np.linalg.solve(
                known.T @ known + PENALTY * np.eye(len(names)), known.T @ np.concatenate(goals)
            )
        return self._elsewhere[names, families]

    def without(self, name: str) -> Bools:
        """Sets that do not involve a family."""
        return np.array([not _involves(family, name) for family in self.families])

    def left_out(self, among: Bools | None = None) -> pd.DataFrame:
        """Each pure family read by a regression that never saw it: row, family, severity, truth, reading. among: sets there are at all."""
        there = np.ones(len(self.truth), bool) if among is None else among
        parts = []
        for name in self.names:
            tested = np.flatnonzero(there & np.array([family == name for family in self.families]))
            if len(tested):
                estimates = self.read(self.signals.iloc[tested], there & self.without(name))
                parts += [
                    (row, name, self.severities[row], self.truth[row], reading)
                    for row, reading in zip(tested, estimates, strict=True)
                ]
        return pd.DataFrame(parts, columns=["row", "family", "severity", "truth", "estimate"])

    @cached_property
    def errors(self) -> pd.DataFrame:
        """`left_out` of all sets."""
        return self.left_out()

    def reach(self, errors: pd.DataFrame, reading: Floats | float) -> Floats:
        """Half-width of the interval around a reading: the LEVEL quantile of errors, which grow towards the middle as those of a share do.

        The quantile is that of split conformal prediction (Vovk et al. 2005), with families in the place of samples; jackknife+ (Barber et al. 2021)
        is the same idea.
        """
        size = (errors["truth"] - errors["estimate"]).abs() / spread(errors["estimate"].to_numpy(float))
        level = min(1.0, LEVEL * (1 + 1 / len(size)))
        return np.asarray(float(np.quantile(size, level)) * spread(reading))

    def coverage(self) -> pd.DataFrame:
        """`errors` with whether the truth lies in the interval made by a regression and from errors that never saw the family."""
        parts = []
        for name, mine in self.errors.groupby("family", sort=False):
            others = self.left_out(self.without(str(name)))
            half = self.reach(others, mine["estimate"].to_numpy(float))
            parts.append(mine.assign(half=half, covered=(mine["truth"] - mine["estimate"]).abs() <= half))
        return pd.concat(parts, ignore_index=True)

    def extrapolates(self, signals: pd.DataFrame) -> bool:
        """Whether signals lie further from the sets than any family lies from the others (leverage in the ridge regression)."""

        def leverage(points: pd.DataFrame, rows: Bools) -> Floats:
            scaler = StandardScaler().fit(self.signals[rows])
            known, asked = scaler.transform(self.signals[rows]), scaler.transform(points)
            inverse = np.linalg.inv(known.T @ known + PENALTY * np.eye(known.shape[1]))
            return np.asarray(np.einsum("ij,jk,ik->i", asked, inverse, asked))

        furthest = max(
            float(leverage(self.signals[~self.without(name)], self.without(name)).max())
            for name in self.names
        )
        return float(leverage(signals, np.ones(len(self.truth), bool))[0]) > furthest


def spread(reading: Floats | float) -> Floats:
    """How errors scale with a reading: as the standard deviation of a share, floored where it would vanish."""
    return np.asarray(np.sqrt(np.maximum(np.asarray(reading) * (1 - np.asarray(reading)), 0.02)))


def _no_others() -> pd.DataFrame:
    """No sets of other detectors, see `Estimator`."""
    return pd.DataFrame(columns=["detector", "family", *SIGNAL_SETS[-1], "truth"])


def fit(
    in_domain: Domain, corruptions: Sequence[CorruptedDomain], others: pd.DataFrame | None = None
) -> Estimator | None:
    """The regression, or None where in-domain objects are too few, hardly any of them is found, or too few families were looked at. others: see `Estimator`."""
    # A change that left hardly an object in the images teaches nothing.
    corruptions = [
        g for g in corruptions if (~g.domain.annotations["crowd"].to_numpy(bool)).sum() >= MIN_ANNOTATIONS
    ]
    families = {g.family for g in corruptions if " and " not in g.family}
    if (
        len(in_domain.annotations) < MIN_BOXES
        or len(families) < MIN_FAMILIES
        or not ap50(in_domain) >= LEAST_AP50
    ):
        return None
    return Estimator(Reference(in_domain), corruptions, _no_others() if others is None else others)


def estimate(
    in_domain: Domain, real_world: Domain, estimator: Estimator | None, squeezed: Domain | None = None
) -> LabelFree:
    """Describe a domain without its labels; AP50 only where the regression holds. squeezed: images of away seen squeezed, see `steadiness`."""
    share, per_image, confidence = summarise_detections(real_world)
    in_domain_share = summarise_detections(in_domain)[0]
    alarm = ""
    if share < SILENT_SHARE * in_domain_share:
        alarm = f"detections on {percent(share)} of the images against {percent(in_domain_share)} in-domain: no objects there, or a detector gone silent; say yes or no for 20 images to tell which"
    said = LabelFree(
        real_world.name, None, None, None, True, "", share, in_domain_share, per_image, confidence, alarm, {}
    )
    if len(real_world.annotations) >= MIN_BOXES:
        said = replace(said, truth=ap50(real_world), unlabelled=int((~real_world.labelled).sum()))
    label = "label 25 to 50 frames from at least 5 clips"
    if (
        estimator is None
        or squeezed is None
        or real_world.detection_embeddings.shape[1] != in_domain.detection_embeddings.shape[1]
    ):
        # Detections from elsewhere carry no embeddings, and their confidences are not this detector's.
        why = "reading AP50 takes the weights, 30 labelled in-domain objects, and a detector that finds some of them"
        return replace(said, reason=f"{why}; {label}")
    reference = estimator.reference
    signals = estimator.settle(pd.DataFrame([reference.signals(real_world, squeezed)]))
    reading = float(estimator.read(signals)[0])
    said = replace(
        said,
        naive=reference.naive(real_world),
        error=root_mean_square(estimator.errors["truth"] - estimator.errors["estimate"]),
        naive_error=root_mean_square(estimator.errors["truth"] - reference.ap50),
    )
    if len(real_world.images) < MIN_IMAGES:
        return replace(said, reason=f"{len(real_world.images)} images, {MIN_IMAGES} are needed; {label}")
    if estimator.extrapolates(signals):
        why = "what the detector says here is unlike anything it said about in-domain images, however they were changed"
        return replace(said, reason=f"{why}; {label}")
    half = (
        float(estimator.reach(estimator.errors, reading))
        * max(1.0, CORRUPTION_IMAGES / len(real_world.images)) ** 0.5
    )
    return replace(
        said, ap50=reading, low=max(0.0, reading - half), high=min(1.0, reading + half), abstained=False
    )


def root_mean_square(values: pd.Series) -> float:
    """Of errors in AP50."""
    return float(np.sqrt(np.square(values.to_numpy(float)).mean()))
