"""Where it fails: the same AP for every part of a domain, each with its count and interval."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from diagnostics.domain import SIZE_NAMES, Domain
from diagnostics.intervals import MIN_BOXES, Interval, ap_interval
from diagnostics.matching import Bools, Floats
from diagnostics.precision import accumulate, headline, mean

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
    "note",
)
# Picture attributes that are cut into thirds, with what their ends are called.
THIRDS = {
    "brightness": ("dark", "middling light", "bright"),
    "sharpness": ("blurred", "middling sharp", "sharp"),
}
DENSITIES = (
    (0, 1, "at most 1 object"),
    (2, 3, "2 or 3 objects"),
    (4, 9, "4 to 9 objects"),
    (10, 10**9, "10 objects or more"),
)
# The largest clips are listed one by one; more would fill the page without adding a pattern.
MAX_CLIPS = 12


def edges(home: Domain) -> dict[str, Floats]:
    """Thirds of the home domain's pictures, used for every domain so that a slice means the same everywhere."""
    return {
        name: np.quantile(home.pictures[name], [1 / 3, 2 / 3]) for name in THIRDS if name in home.pictures
    }


def attributes(domain: Domain, cuts: dict[str, Floats]) -> pd.DataFrame:
    """One row a labelled picture, one column an attribute; the cell is the slice's name."""
    pictures = domain.labelled_pictures
    table = pd.DataFrame({"image": pictures["image"]})
    for name, limits in cuts.items():
        table[name] = np.array(THIRDS[name])[np.searchsorted(limits, pictures[name].to_numpy(float))]
    count = pictures["image"].map(domain.boxes["image"].value_counts()).fillna(0).to_numpy()
    table["density"] = ""
    for low, high, words in DENSITIES:
        table.loc[(count >= low) & (count <= high), "density"] = words
    table["clip"] = pictures["group"]
    return table


def masks(domain: Domain, cuts: dict[str, Floats]) -> Iterator[tuple[str, str, Bools]]:
    """(attribute, slice, mask over labelled pictures) of every picture slice."""
    yield "all", "all", np.ones(len(domain.labelled_pictures), bool)
    table = attributes(domain, cuts)
    boxes = domain.labelled_pictures["image"].map(domain.boxes["image"].value_counts()).fillna(0).to_numpy()
    splits = sorted(domain.labelled_pictures["split"].unique())
    if len(splits) > 1:
        for split in splits:
            yield "split", str(split), (domain.labelled_pictures["split"] == split).to_numpy()
    names = {**THIRDS, "density": tuple(words for _, _, words in DENSITIES)}
    for attribute in (*cuts, "density"):
        for name in names[attribute]:
            mask = (table[attribute] == name).to_numpy()
            if mask.any():
                yield attribute, name, mask
    weight = pd.Series(boxes).groupby(table["clip"]).sum().sort_values(ascending=False)
    for clip in weight[weight >= MIN_BOXES].index[:MAX_CLIPS]:
        yield "clip", str(clip), (table["clip"] == clip).to_numpy()


def score(domain: Domain, cuts: dict[str, Floats], *, seed: int) -> pd.DataFrame:
    """AP, AP50, AP75, maximum recall and the AP50 interval of every slice of a domain: COLUMNS.

    A slice below MIN_BOXES objects has no AP (NaN and a note). A domain without labels has one row, without AP.
    """
    if not domain.labelled.any():
        blank = dict.fromkeys(("ap", "ap50", "ap75", "ap50_low", "ap50_high", "max_recall"), float("nan"))
        row = {
            "slice": "all",
            "attribute": "all",
            "domain": domain.name,
            "images": 0,
            "boxes": 0,
            "groups": 0,
            **blank,
            "note": "no labels: AP cannot be measured",
        }
        return pd.DataFrame([row], columns=list(COLUMNS))
    records = [
        picture_slice(domain, attribute, name, mask, seed=seed)
        for attribute, name, mask in masks(domain, cuts)
    ]
    records += [size_slice(domain, name, seed=seed) for name in SIZE_NAMES]
    return pd.DataFrame([r for r in records if r["attribute"] != "size" or r["boxes"]], columns=list(COLUMNS))


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
    """One line of the slice table."""
    few = boxes < MIN_BOXES
    shown = {key: float("nan") if few else value for key, value in numbers.items()}
    low = float("nan") if few or interval.low is None else interval.low
    high = float("nan") if few or interval.high is None else interval.high
    note = f"only {boxes} labelled objects, {MIN_BOXES} are needed" if few else interval.note
    return {
        "slice": name,
        "attribute": attribute,
        "domain": domain.name,
        "images": images,
        "boxes": boxes,
        "groups": groups,
        **shown,
        "ap50_low": low,
        "ap50_high": high,
        "note": note,
    }


def picture_slice(domain: Domain, attribute: str, name: str, mask: Bools, *, seed: int) -> dict[str, object]:
    """A slice made of whole pictures."""
    boxes = int(mask[domain.table.object_image][~domain.table.object_ignored[:, 0]].sum())
    groups = len(np.unique(domain.group_numbers[mask]))
    interval = (
        ap_interval(domain.table, domain.group_numbers, seed=seed, images=mask)
        if boxes >= MIN_BOXES
        else Interval(None, None, groups)
    )
    return record(
        domain, attribute, name, int(mask.sum()), boxes, groups, headline(domain.table, mask), interval
    )


def size_slice(domain: Domain, name: str, *, seed: int) -> dict[str, object]:
    """A slice made of the objects in a range of sizes; detections outside the range that match nothing are left out, as in COCO."""
    table = domain.size_table
    counted = ~table.object_ignored[:, table.areas.index(name)]
    boxes = int(counted.sum())
    owners = np.unique(table.object_image[counted])
    groups = len(np.unique(domain.group_numbers[owners]))
    average, recall = accumulate(table, area=name)
    half = table.bit(0.5)
    numbers = {
        "ap": mean(average),
        "ap50": mean(average[:, half]),
        "ap75": mean(average[:, table.bit(0.75)]),
        "max_recall": mean(recall[:, half]),
    }
    interval = (
        ap_interval(table, domain.group_numbers, seed=seed, area=name)
        if boxes >= MIN_BOXES
        else Interval(None, None, groups)
    )
    return record(domain, "size", name, len(owners), boxes, groups, numbers, interval)
