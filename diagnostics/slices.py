"""Where it fails: the same AP for every part of a domain, each with its count and interval, and with how sure it differs from the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtr

from datasets.tables import OWN
from diagnostics.domain import BOX_ATTRIBUTES, Domain
from diagnostics.intervals import (
    MIN_BOXES,
    MIN_GROUPS,
    ApBootstrap,
    Interval,
    bca,
    draws,
    left_out,
    note_for,
    too_few,
)
from diagnostics.matching import Bools, Floats, Ints, MatchTable
from diagnostics.precision import Averager, mean_of_classes
from diagnostics.significance import benjamini_hochberg
from diagnostics.sweep import best, sweep

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
# Image attributes that are cut into thirds, with what their ends are called.
THIRDS = {
    "brightness": ("dark", "middling light", "bright"),
    "contrast": ("flat", "middling contrast", "contrasty"),
    "saturation": ("pale", "middling colour", "colourful"),
    "sharpness": ("blurred", "middling sharp", "sharp"),
}
OWN_THIRDS = ("low", "middle", "high")
# A column of numbers with more values than this is cut into thirds, with fewer each value is a slice.
MAX_VALUES = 8
DENSITIES = (
    (0, 1, "at most 1 object"),
    (2, 3, "2 or 3 objects"),
    (4, 9, "4 to 9 objects"),
    (10, 10**9, "10 objects or more"),
)
# The largest clips are listed one by one; more would fill the page without adding a pattern.
MAX_CLIPS = 12
# Objects' worth of "no different" that a slice's difference is drawn towards before slices are ranked: from 30 objects it is half noise.
SHRINKAGE = 30


def edges(domains: Sequence[Domain]) -> dict[str, Floats]:
    """Thirds of the first domain (home) that knows a number, used for every domain so that a slice means the same everywhere."""
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


def attributes(domain: Domain, cuts: dict[str, Floats]) -> pd.DataFrame:
    """One row a labelled image, one column an attribute; the cell is the slice's name, empty where unknown."""
    images = domain.labelled_images
    table = pd.DataFrame({"image": images["image"]})
    for name, limits in cuts.items():
        values = images[name].to_numpy(float) if name in images else np.full(len(images), np.nan)
        words = np.array(THIRDS.get(name, OWN_THIRDS))[np.searchsorted(limits, values)]
        table[name] = np.where(np.isfinite(values), words, "")
    for name in images:
        if name.startswith(OWN) and name not in cuts:
            # A whole number is written alike whether or not some images lack it.
            words = images[name].map(lambda v: f"{v:g}" if isinstance(v, float) else str(v))
            table[name] = words.where(images[name].notna(), "")
    count = images["image"].map(domain.annotations["image"].value_counts()).fillna(0).to_numpy()
    table["density"] = ""
    for low, high, name in DENSITIES:
        table.loc[(count >= low) & (count <= high), "density"] = name
    table["clip"] = images["group"]
    return table


def masks(domain: Domain, cuts: dict[str, Floats]) -> list[tuple[str, str, Bools]]:
    """(attribute, slice, mask over labelled images) of every image slice; the whole domain first."""
    found = [("all", "all", np.ones(len(domain.labelled_images), bool))]
    table = attributes(domain, cuts)
    splits = sorted(domain.labelled_images["split"].unique())
    if len(splits) > 1:
        found += [("split", split, (domain.labelled_images["split"] == split).to_numpy()) for split in splits]
    order = {**THIRDS, "density": tuple(words for _, _, words in DENSITIES)}
    for attribute in table.columns.drop(["image", "clip"]):
        common = table[attribute].value_counts().drop("", errors="ignore").index[:MAX_CLIPS]
        names = order.get(attribute, OWN_THIRDS if attribute in cuts else sorted(common))
        found += [(attribute, name, (table[attribute] == name).to_numpy()) for name in names]
    boxes = domain.labelled_images["image"].map(domain.annotations["image"].value_counts()).fillna(0)
    weight = boxes.groupby(table["clip"].to_numpy()).sum().sort_values(ascending=False)
    for clip in weight[weight >= MIN_BOXES].index[:MAX_CLIPS]:
        found.append(("clip", str(clip), (table["clip"] == clip).to_numpy()))
    return [entry for entry in found if entry[2].any()]


def score(domain: Domain, cuts: dict[str, Floats], *, seed: int) -> pd.DataFrame:
    """Every slice of a domain: COLUMNS.

    ap, ap50, ap75, max_recall and the interval ap50_low, ap50_high; best_f1 and the threshold that reaches it. difference is AP50 minus that
    of the whole domain (of the mean over ranges, for slices of objects), p and q (Benjamini-Hochberg over the domain's slices) say how
    sure it is; recoverable is what the domain would gain, by share of objects, if the slice were no worse, drawn towards none for small
    slices. A slice below MIN_BOXES objects has no AP (NaN and a note). A domain without labels has one row, without AP.
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
    # The difference of a small slice is drawn towards none before it is weighed by the slice's share of the objects.
    shrunk = table["difference"] * boxes / (boxes + SHRINKAGE)
    table["recoverable"] = (boxes / max(boxes[0], 1)) * np.maximum(0, -shrunk)
    table["q"] = benjamini_hochberg(table["p"].to_numpy(float))
    return table


class Resampled:
    """One set of draws of a domain's groups, shared by all its slices, so that a slice can be compared with the whole draw by draw."""

    def __init__(self, domain: Domain, seed: int) -> None:
        self.group: Ints = domain.group_numbers
        count = int(self.group.max(initial=-1)) + 1
        self.count = count
        self.drawn = draws(np.random.default_rng(seed), count)
        self.jackknife = left_out(count, seed)
        self.ones = np.ones((1, count), np.int32)
        self.whole = self.resample(ApBootstrap(domain.table, self.group))

    def resample(self, curve: ApBootstrap) -> Sample:
        """AP50 of a slice as it is, in every draw, and in every jackknife."""
        groups = curve.groups
        point = float(curve(self.ones[:, groups])[0]) if len(groups) else float("nan")
        if len(groups) < MIN_GROUPS:
            return Sample(len(groups), point, np.full(len(self.drawn), np.nan), np.zeros(0))
        return Sample(len(groups), point, curve(self.drawn[:, groups]), curve(self.jackknife[:, groups]))


@dataclass(frozen=True)
class Sample:
    """AP50 of a slice: its point, draws (R,) and jackknife (J,); the draws are NaN and the jackknife empty below MIN_GROUPS groups."""

    groups: int
    point: float
    drawn: Floats
    jackknife: Floats

    def interval(self) -> Interval:
        """The 95 % interval of AP50, or why there is none."""
        if not len(self.jackknife):
            return too_few(self.groups)
        low, high = bca(self.drawn, self.point, self.jackknife, self.groups)
        return Interval(low, high, self.groups, note_for(self.groups))

    def against(self, reference: Sample) -> tuple[float, float]:
        """Difference to a reference drawn together with it, and its p (NaN below MIN_GROUPS groups)."""
        difference = self.point - reference.point
        if not len(self.jackknife):
            return difference, float("nan")
        spread = float(np.nanstd(self.drawn - reference.drawn)) * (self.groups / (self.groups - 1)) ** 0.5
        # Student's t with the slice's own groups: a bootstrap from few groups is too narrow (see `intervals.bca`).
        p = 2 * float(stdtr(self.groups - 1, -abs(difference) / spread)) if spread > 0 else float("nan")
        return difference, p


def _image_slices(
    domain: Domain, slices: Sequence[tuple[str, str, Bools]], resampled: Resampled
) -> list[dict[str, object]]:
    """Slices made of whole images."""
    table = domain.table
    chosen = np.stack([mask for _, _, mask in slices])
    numbers = _headlines(table, "all", chosen)
    counted = ~table.annotation_ignored[:, table.areas.index("all")]
    boxes = chosen[:, table.annotation_image[counted]].sum(1)
    records = []
    for i, (attribute, name, mask) in enumerate(slices):
        groups = len(np.unique(domain.group_numbers[mask]))
        sample = Sample(groups, float(numbers["ap50"][i]), np.full(1, np.nan), np.zeros(0))
        if boxes[i] >= MIN_BOXES:
            sample = resampled.resample(ApBootstrap(table, resampled.group, images=mask))
        difference, p = sample.against(resampled.whole)
        top, confidence = best(sweep(table, images=mask))
        values = {key: float(column[i]) for key, column in numbers.items()}
        values |= {"best_f1": _none_to_nan(top), "best_confidence": _none_to_nan(confidence)}
        # With as many false boxes an image, AP is lower where there is less to find: that a density differs is no finding.
        values |= {"difference": difference, "p": float("nan") if attribute in ("all", "density") else p}
        records.append(
            record(domain, attribute, name, int(mask.sum()), int(boxes[i]), groups, values, sample.interval())
        )
    return records


def _annotation_slices(
    domain: Domain, attribute: str, names: Sequence[str], resampled: Resampled
) -> list[dict[str, object]]:
    """Slices made of the objects in a range; detections outside it that match nothing are left out, as in COCO's area ranges.

    With them goes most of what is false, so a range is compared not with the whole domain but with the mean of the ranges, by objects.
    """
    table = domain.attribute_table(attribute)
    everything = np.ones((1, table.n_images), bool)
    counted = {name: ~table.annotation_ignored[:, table.areas.index(name)] for name in names}
    weight = {name: int(mask.sum()) for name, mask in counted.items() if mask.sum() >= MIN_BOXES}
    samples = {name: resampled.resample(ApBootstrap(table, resampled.group, area=name)) for name in weight}
    reference = _mean_of(list(samples.values()), list(weight.values()))
    records = []
    for name, mask in counted.items():
        owners = np.unique(table.annotation_image[mask])
        if not len(owners):
            continue
        groups = len(np.unique(domain.group_numbers[owners]))
        numbers = _headlines(table, name, everything)
        values = {key: float(column[0]) for key, column in numbers.items()}
        # A threshold for objects of one size cannot be set: which size a false positive belongs to is unknown.
        values |= {"best_f1": float("nan"), "best_confidence": float("nan")}
        interval, difference, p = Interval(None, None, groups), float("nan"), float("nan")
        if name in samples:
            interval = samples[name].interval()
            if len(samples) > 1:
                difference, p = samples[name].against(reference)
        values |= {"difference": difference, "p": p}
        records.append(
            record(domain, attribute, name, len(owners), int(mask.sum()), groups, values, interval)
        )
    return records


def _mean_of(samples: Sequence[Sample], weights: Sequence[int]) -> Sample:
    """The weighted mean of slices drawn together; those without draws have no say."""
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
    """AP, AP50, AP75 and the recall that the lowest confidence reaches at IoU 0.5, (S,) each, of slices (S, n_images)."""
    average, recall = Averager(table, area=area)(chosen)
    half, strict = table.bit(0.5), table.bit(0.75)
    return {
        "ap": mean_of_classes(average),
        "ap50": mean_of_classes(average[:, half : half + 1]),
        "ap75": mean_of_classes(average[:, strict : strict + 1]),
        "max_recall": mean_of_classes(recall[:, half : half + 1]),
    }


def _none_to_nan(value: float | None) -> float:
    """A frame's column of numbers holds NaN where there is none."""
    return float("nan") if value is None else value


def record(
    domain: Domain,
    attribute: str,
    name: str,
    images: int,
    boxes: int,
    groups: int,
    numbers: dict[str, float],
    interval: Interval,
) -> dict[str, object]:
    """One line of the slice table, without the columns that need all lines."""
    few = boxes < MIN_BOXES
    bounds = {"ap50_low": _none_to_nan(interval.low), "ap50_high": _none_to_nan(interval.high)}
    shown = {key: float("nan") if few else value for key, value in {**numbers, **bounds}.items()}
    note = f"only {boxes} labelled objects, {MIN_BOXES} are needed" if few else interval.note
    return {
        "slice": name,
        "attribute": attribute,
        "domain": domain.name,
        "images": images,
        "boxes": boxes,
        "groups": groups,
        **shown,
        "q": float("nan"),
        "recoverable": float("nan"),
        "note": note,
    }
