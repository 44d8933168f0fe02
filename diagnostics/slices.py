"""AP of every slice of a domain, with its size, interval and difference from the whole domain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtr

from datasets.tables import OWN
from diagnostics.averaging import Averager
from diagnostics.domain import BOX_ATTRIBUTES, Domain
from diagnostics.intervals import (
    MIN_BOXES,
    MIN_GROUPS,
    ApBootstrap,
    Interval,
    bca,
    bootstrap_weights,
    interval_note,
    jackknife_weights,
    no_interval,
)
from diagnostics.matching import Bools, Floats, Ints, MatchTable
from diagnostics.precision import mean_of_classes
from diagnostics.significance import benjamini_hochberg
from diagnostics.sweep import best_f_beta, sweep

COLUMNS = (
    "slice",
    "attribute",
    "domain",
    "images",
    "boxes",
    "groups",
    "ap",
    "ap50",
    "ap75",
    "ap50_low",
    "ap50_high",
    "max_recall",
    "best_f1",
    "best_confidence",
    "difference",
    "p",
    "q",
    "recoverable",
    "note",
)
NUMBERS = COLUMNS[6:18]
# Image attributes that are cut into thirds, with the names of the thirds.
THIRDS = {
    "brightness": ("dark", "medium brightness", "bright"),
    "contrast": ("low contrast", "medium contrast", "high contrast"),
    "saturation": ("low saturation", "medium saturation", "high saturation"),
    "sharpness": ("blurred", "medium sharpness", "sharp"),
}
# A column of numbers with more values than this is cut into thirds; otherwise each value is a slice.
MAX_VALUES = 8
DENSITIES = (
    (0, 1, "at most 1 object"),
    (2, 3, "2 or 3 objects"),
    (4, 9, "4 to 9 objects"),
    (10, 10**9, "10 objects or more"),
)
# The largest clips are slices of their own; more would fill the page without adding a pattern.
MAX_CLIPS = 12
# Before slices are ranked, their difference shrinks towards zero by this many annotations: at 30 it is half
# noise.
SHRINKAGE = 30


def edges(domains: Sequence[Domain]) -> dict[str, Floats]:
    """Thirds of each number in the first domain that has it, used for all so that slices are comparable."""
    cuts: dict[str, Floats] = {}
    for domain in domains:
        for name, values in domain.images.items():
            own = str(name).startswith(OWN) and pd.api.types.is_numeric_dtype(values)
            if (
                name not in cuts
                and values.notna().any()
                and (name in THIRDS or (own and values.nunique() > MAX_VALUES))
            ):
                cuts[str(name)] = np.nanquantile(values, [1 / 3, 2 / 3])
    return cuts


def _words_of(name: str, limits: Floats) -> tuple[str, ...]:
    """Names of the thirds of a number: words for the image statistics, the numbers themselves for others."""
    low, high = (f"{limit:.3g}" for limit in limits)
    return THIRDS.get(name, (f"up to {low}", f"{low} to {high}", f"above {high}"))


def _as_number(value: str) -> tuple[float, str]:
    """Order of values: numbers by size, then words."""
    try:
        return float(value), value
    except ValueError:
        return math.inf, value


def attributes(domain: Domain, cuts: dict[str, Floats]) -> pd.DataFrame:
    """One row per labelled image, one column per attribute: the name of the slice, empty where unknown."""
    images = domain.labelled_images
    table = pd.DataFrame({"image": images["image"]})
    for name, limits in cuts.items():
        values = images[name].to_numpy(float) if name in images else np.full(len(images), np.nan)
        words = np.array(_words_of(name, limits))[np.searchsorted(limits, values)]
        table[name] = np.where(np.isfinite(values), words, "")
    for name in images:
        if name.startswith(OWN) and name not in cuts:
            # A whole number has one name whether or not some images lack it (which makes it a float).
            words = images[name].map(lambda v: f"{v:g}" if isinstance(v, float) else str(v))
            table[name] = words.where(images[name].notna(), "")
    count = images["image"].map(domain.annotations["image"].value_counts()).fillna(0).to_numpy()
    table["density"] = ""
    for low, high, name in DENSITIES:
        table.loc[(count >= low) & (count <= high), "density"] = name
    table["clip"] = images["group"]
    return table


def masks(domain: Domain, cuts: dict[str, Floats]) -> list[tuple[str, str, Bools]]:
    """Attribute, name and mask over labelled images of every image slice; the whole domain first."""
    image_slices = [("all", "all", np.ones(len(domain.labelled_images), bool))]
    table = attributes(domain, cuts)
    splits = sorted(domain.labelled_images["split"].unique())
    if len(splits) > 1:
        image_slices += [
            ("split", split, (domain.labelled_images["split"] == split).to_numpy()) for split in splits
        ]
    order = {**THIRDS, "density": tuple(words for _, _, words in DENSITIES)}
    for attribute in table.columns.drop(["image", "clip"]):
        common = table[attribute].value_counts().drop("", errors="ignore").index[:MAX_CLIPS]
        by_value = sorted(common, key=_as_number)
        names = order.get(attribute, _words_of(attribute, cuts[attribute]) if attribute in cuts else by_value)
        image_slices += [(attribute, name, (table[attribute] == name).to_numpy()) for name in names]
    boxes = domain.labelled_images["image"].map(domain.annotations["image"].value_counts()).fillna(0)
    weight = boxes.groupby(table["clip"].to_numpy()).sum().sort_values(ascending=False)
    for clip in weight[weight >= MIN_BOXES].index[:MAX_CLIPS]:
        image_slices.append(("clip", str(clip), (table["clip"] == clip).to_numpy()))
    return [entry for entry in image_slices if entry[2].any()]


def score(domain: Domain, cuts: dict[str, Floats], *, seed: int) -> pd.DataFrame:
    """Measure every slice of a domain.

    Parameters
    ----------
    domain
        The domain; without labels it has one row, without AP.
    cuts
        Thirds of numeric attributes, see `edges`.
    seed
        Seed of the draws.

    Returns
    -------
    pandas.DataFrame
        COLUMNS, one row per slice. `difference` is AP50 minus that of the whole domain (for ranges of a box
        attribute, minus the mean over its ranges), with its p and its q (Benjamini-Hochberg over the domain's
        slices). `recoverable` is the AP50 that the domain would gain, by share of annotations, if the slice
        were no worse; it is shrunk for small slices. A slice with fewer than MIN_BOXES annotations has NaN
        and a note.
    """
    if not domain.labelled.any():
        row = {
            "slice": "all",
            "attribute": "all",
            "domain": domain.name,
            "images": 0,
            "boxes": 0,
            "groups": 0,
        }
        row |= dict.fromkeys(NUMBERS, float("nan")) | {"note": "no labels: AP cannot be measured"}
        return pd.DataFrame([row], columns=list(COLUMNS))
    resampled = Resampled(domain, seed)
    records = _image_slices(domain, masks(domain, cuts), resampled)
    for attribute, (_, names) in BOX_ATTRIBUTES.items():
        records += _annotation_slices(domain, attribute, names, resampled)
    table = pd.DataFrame(records, columns=list(COLUMNS))
    boxes = table["boxes"].to_numpy(float)
    # The difference of a small slice is shrunk before it is weighted by the slice's share of the annotations.
    shrunk = table["difference"] * boxes / (boxes + SHRINKAGE)
    table["recoverable"] = (boxes / max(boxes[0], 1)) * np.maximum(0, -shrunk)
    table["q"] = benjamini_hochberg(table["p"].to_numpy(float))
    return table


class Resampled:
    """Draws of a domain's groups, shared by its slices: each is compared with the whole in every draw."""

    def __init__(self, domain: Domain, seed: int) -> None:
        self.group: Ints = domain.group_numbers
        count = int(self.group.max(initial=-1)) + 1
        self.count = count
        self.drawn = bootstrap_weights(np.random.default_rng(seed), count)
        self.jackknife = jackknife_weights(count, seed)
        self.ones = np.ones((1, count), np.int32)
        self.whole = self.resample(ApBootstrap(domain.table, self.group))

    def resample(self, bootstrap: ApBootstrap) -> Sample:
        """AP50 of a slice: the point, every draw and every jackknife replicate."""
        groups = bootstrap.groups
        point = float(bootstrap(self.ones[:, groups])[0]) if len(groups) else float("nan")
        if len(groups) < MIN_GROUPS:
            return Sample(len(groups), point, np.full(len(self.drawn), np.nan), np.zeros(0))
        return Sample(
            len(groups), point, bootstrap(self.drawn[:, groups]), bootstrap(self.jackknife[:, groups])
        )


@dataclass(frozen=True)
class Sample:
    """AP50 of a slice; draws are NaN and the jackknife is empty below MIN_GROUPS groups.

    groups: number of groups in the slice
    point: AP50
    drawn: AP50 in each draw, (R,)
    jackknife: AP50 in each jackknife replicate, (J,)
    """

    groups: int
    point: float
    drawn: Floats
    jackknife: Floats

    def interval(self) -> Interval:
        """The 95 % interval of AP50, or the reason why there is none."""
        if not len(self.jackknife):
            return no_interval(self.groups)
        low, high = bca(self.drawn, self.point, self.jackknife, self.groups)
        return Interval(low, high, self.groups, interval_note(self.groups))

    def against(self, reference: Sample) -> tuple[float, float]:
        """Difference from a reference with the same draws, and its p (NaN below MIN_GROUPS groups)."""
        difference = self.point - reference.point
        if not len(self.jackknife):
            return difference, float("nan")
        spread = float(np.nanstd(self.drawn - reference.drawn)) * (self.groups / (self.groups - 1)) ** 0.5
        # Student's t with the slice's own groups: a bootstrap from few groups is too narrow (see
        # `intervals.bca`).
        p = 2 * float(stdtr(self.groups - 1, -abs(difference) / spread)) if spread > 0 else float("nan")
        return difference, p


@dataclass(frozen=True)
class SliceSize:
    """Size of a slice.

    images: number of labelled images
    boxes: number of annotations that count
    groups: number of groups of images
    """

    images: int
    boxes: int
    groups: int


def _image_slices(
    domain: Domain, slices: Sequence[tuple[str, str, Bools]], resampled: Resampled
) -> list[dict[str, object]]:
    """Records of slices of images."""
    table = domain.table
    chosen = np.stack([mask for _, _, mask in slices])
    numbers = _headlines(table, "all", chosen)
    counted = ~table.annotation_ignored[:, table.areas.index("all")]
    boxes = chosen[:, table.annotation_image[counted]].sum(1)
    records = []
    for i, (attribute, name, mask) in enumerate(slices):
        size = SliceSize(int(mask.sum()), int(boxes[i]), len(np.unique(domain.group_numbers[mask])))
        sample = Sample(size.groups, float(numbers["ap50"][i]), np.full(1, np.nan), np.zeros(0))
        if size.boxes >= MIN_BOXES:
            sample = resampled.resample(ApBootstrap(table, resampled.group, images=mask))
        difference, p = sample.against(resampled.whole)
        top, confidence = best_f_beta(sweep(table, images=mask))
        values = {key: float(column[i]) for key, column in numbers.items()}
        values |= {"best_f1": _none_to_nan(top), "best_confidence": _none_to_nan(confidence)}
        # With equally many false positives per image, AP is lower where there are fewer objects: a difference
        # between densities is no finding.
        values |= {"difference": difference, "p": float("nan") if attribute in ("all", "density") else p}
        records.append(_record(domain.name, attribute, name, size, values, sample.interval()))
    return records


def _annotation_slices(
    domain: Domain, attribute: str, names: Sequence[str], resampled: Resampled
) -> list[dict[str, object]]:
    """Records of the ranges of a box attribute.

    As in COCO, unmatched detections outside a range are left out. That leaves out most false positives, so a
    range is compared with the mean of the ranges, weighted by annotations, and not with the whole domain.
    """
    table = domain.attribute_table(attribute)
    all_images = np.ones((1, table.n_images), bool)
    counted = {name: ~table.annotation_ignored[:, table.areas.index(name)] for name in names}
    weight = {name: int(mask.sum()) for name, mask in counted.items() if mask.sum() >= MIN_BOXES}
    samples = {name: resampled.resample(ApBootstrap(table, resampled.group, area=name)) for name in weight}
    reference = _mean_of(list(samples.values()), list(weight.values()))
    records = []
    for name, mask in counted.items():
        images = np.unique(table.annotation_image[mask])
        if not len(images):
            continue
        size = SliceSize(len(images), int(mask.sum()), len(np.unique(domain.group_numbers[images])))
        numbers = _headlines(table, name, all_images)
        values = {key: float(column[0]) for key, column in numbers.items()}
        # A threshold for objects of one size cannot be set: the size to which a false positive belongs is
        # unknown.
        values |= {"best_f1": float("nan"), "best_confidence": float("nan")}
        interval, difference, p = Interval(None, None, size.groups), float("nan"), float("nan")
        if name in samples:
            interval = samples[name].interval()
            if len(samples) > 1:
                difference, p = samples[name].against(reference)
        values |= {"difference": difference, "p": p}
        records.append(_record(domain.name, attribute, name, size, values, interval))
    return records


def _mean_of(samples: Sequence[Sample], weights: Sequence[int]) -> Sample:
    """The weighted mean of slices with the same draws; slices without draws do not count."""
    used = [
        (sample, weight) for sample, weight in zip(samples, weights, strict=True) if len(sample.jackknife)
    ]
    if not used:
        return Sample(0, float("nan"), np.full(1, np.nan), np.zeros(0))
    share = np.array([weight for _, weight in used], float) / sum(weight for _, weight in used)
    point = float(sum(s * sample.point for s, (sample, _) in zip(share, used, strict=True)))
    drawn = sum(s * sample.drawn for s, (sample, _) in zip(share, used, strict=True))
    return Sample(0, point, np.asarray(drawn), np.zeros(0))


def _headlines(table: MatchTable, area: str, chosen: Bools) -> dict[str, Floats]:
    """AP, AP50, AP75 and the recall at the lowest confidence and IoU 0.5, (S,) each, of S slices."""
    average, recall = Averager(table, area=area)(chosen)
    half, strict = table.bit(0.5), table.bit(0.75)
    return {
        "ap": mean_of_classes(average),
        "ap50": mean_of_classes(average[:, half : half + 1]),
        "ap75": mean_of_classes(average[:, strict : strict + 1]),
        "max_recall": mean_of_classes(recall[:, half : half + 1]),
    }


def _none_to_nan(value: float | None) -> float:
    """The value, NaN in place of None, as columns of a frame hold it."""
    return float("nan") if value is None else value


def _record(
    domain: str,
    attribute: str,
    name: str,
    size: SliceSize,
    numbers: dict[str, float],
    interval: Interval,
) -> dict[str, object]:
    """One row of the slice table, without the columns that need all rows."""
    few = size.boxes < MIN_BOXES
    bounds = {"ap50_low": _none_to_nan(interval.low), "ap50_high": _none_to_nan(interval.high)}
    shown = {key: float("nan") if few else value for key, value in {**numbers, **bounds}.items()}
    note = f"only {size.boxes} annotations, {MIN_BOXES} are needed" if few else interval.note
    return {
        "slice": name,
        "attribute": attribute,
        "domain": domain,
        "images": size.images,
        "boxes": size.boxes,
        "groups": size.groups,
        **shown,
        "q": float("nan"),
        "recoverable": float("nan"),
        "note": note,
    }
