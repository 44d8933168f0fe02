"""One domain under two detectors: AP50 on the images that both saw, by class and by slice, and the images
that changed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from datasets.tables import CORNERS
from diagnostics.comparison import Comparison, compare
from diagnostics.contributions import f1_counts
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_BOXES
from diagnostics.matching import Bools, Floats
from diagnostics.significance import benjamini_hochberg, holm
from diagnostics.slices import edges, masks

COLUMNS = ("kind", "name", "images", "boxes", "clips", "before", "now", "difference", "low", "high", "p", "q")
# A box that moved by less than this, in pixels, was rounded.
SAME_BOX = 1.0


class NotComparable(Exception):
    """Two domains that cannot be compared; the message says why."""


@dataclass(frozen=True)
class PairedDomain:
    """One domain before and now.

    name: name of the domain now
    images: number of labelled images compared
    clips: number of their groups
    only_before, only_now: labelled images that one of the two has alone
    relabelled: compared images whose annotations differ; those of now are used for both
    comparison: AP50 now (first) and before (second)
    parts: COLUMNS, one row a class or slice with enough annotations; q by Benjamini and Hochberg
    changes: image, path, clip, errors_before and errors_now (false positives and missed objects at each
        detector's own threshold), most changed first
    """

    name: str
    images: int
    clips: int
    only_before: int
    only_now: int
    relabelled: int
    comparison: Comparison
    parts: pd.DataFrame
    changes: pd.DataFrame


def pair_domains(
    now: Domain,
    before: Domain,
    confidence: tuple[float, float],
    *,
    seed: int,
    cuts: dict[str, Floats] | None = None,
) -> PairedDomain:
    """Compare a domain under two detectors on the images that both have, by the labels of now.

    Parameters
    ----------
    now, before : Domain
        The same domain, or versions of it.
    confidence : tuple of float
        The threshold in use now, and before.
    seed : int
        Of intervals and tests.
    cuts : dict, optional
        Limits of the slices, see `diagnostics.slices.edges`; where they are not given, those of the images of
        now.

    Raises
    ------
    NotComparable
        The classes differ, no labelled image is in both, or these hold no annotation.
    """
    if now.classes != before.classes:
        raise NotComparable(
            f"the classes differ: {', '.join(now.classes[:5])} now, {', '.join(before.classes[:5])} before"
        )
    common = _common_images(now, before)
    if common.empty:
        raise NotComparable("no labelled image is in both")
    ours = now.subset(common["image"])
    if ours.annotations["crowd"].astype(bool).all():
        raise NotComparable("the images that are in both hold no annotation")
    # Images are called as they are now; one that was renamed is the same.
    theirs = _renamed(
        before.subset(common["before"]), dict(zip(common["before"], common["image"], strict=True))
    )
    relabelled = _relabelled(ours, theirs)
    theirs = replace(theirs, images=ours.images, annotations=ours.annotations)
    return PairedDomain(
        now.name,
        len(ours.labelled_images),
        ours.labelled_images["group"].nunique(),
        int(before.labelled.sum()) - len(common),
        int(now.labelled.sum()) - len(common),
        relabelled,
        _compare(ours, theirs, seed),
        _parts(ours, theirs, edges([ours]) if cuts is None else cuts, seed),
        _changes(ours, theirs, confidence),
    )


def _common_images(now: Domain, before: Domain) -> pd.DataFrame:
    """Labelled images of one size and difference hash: image, and what it is called before. By their names
    first; of those that have another name, only images without copies.
    """
    content = [
        domain.labelled_images.assign(
            content=domain.labelled_images["fingerprint"].map(bytes)
            + domain.labelled_images[["width", "height"]].astype(str).agg("x".join, axis=1).map(str.encode)
        )[["image", "content"]]
        for domain in (now, before)
    ]
    by_name = content[0].merge(content[1], on=["image", "content"]).assign(before=lambda t: t["image"])
    # What has another name by now: copies of one image could be any of them, so that only single ones count.
    rest = [
        table[~table["image"].isin(by_name["image"])].drop_duplicates("content", keep=False)
        for table in content
    ]
    renamed = rest[0].merge(rest[1].rename(columns={"image": "before"}), on="content")
    return pd.concat([by_name, renamed], ignore_index=True)[["image", "before"]]


def _renamed(domain: Domain, names: dict[str, str]) -> Domain:
    """The domain with its images called otherwise."""
    return replace(
        domain,
        images=domain.images.assign(image=domain.images["image"].map(names)),
        annotations=domain.annotations.assign(image=domain.annotations["image"].map(names)),
        detections=domain.detections.assign(image=domain.detections["image"].map(names)),
    )


def _relabelled(now: Domain, before: Domain) -> int:
    """Number of images whose annotations differ."""
    boxes = [
        {
            image: sorted(map(tuple, np.round(rows[["label", *CORNERS]].to_numpy(float) / SAME_BOX).tolist()))
            for image, rows in domain.annotations.groupby("image")
        }
        for domain in (now, before)
    ]
    return sum(boxes[0].get(image) != boxes[1].get(image) for image in set(boxes[0]) | set(boxes[1]))


def _compare(now: Domain, before: Domain, seed: int) -> Comparison:
    """AP50 of the two on the same labelled images."""
    return compare(
        now.annotation_arrays,
        now.detection_arrays,
        before.detection_arrays,
        now.interval_units,
        n_classes=len(now.classes),
        seed=seed,
    )


def _parts(now: Domain, before: Domain, cuts: dict[str, Floats], seed: int) -> pd.DataFrame:
    """The comparison by class, where there are several, and by slice."""
    found = []
    if len(now.classes) > 1:
        counts = now.annotations.loc[~now.annotations["crowd"].astype(bool), "label"].value_counts()
        for label in counts[counts >= MIN_BOXES].index:
            pair = (now.only([int(label)]), before.only([int(label)]))
            found.append(_row("class", now.classes[int(label)], *pair, seed))
    images = now.labelled_images["image"].to_numpy()
    for attribute, name, mask in masks(now, cuts):
        if attribute != "all":
            part = now.subset(images[mask])
            if (~part.annotations["crowd"].to_numpy(bool)).sum() >= MIN_BOXES:
                found.append(_row(attribute, name, part, before.subset(images[mask]), seed))
    table = pd.DataFrame(found, columns=list(COLUMNS[:-1]))
    return table.assign(q=benjamini_hochberg(table["p"].to_numpy(float)))


def _row(kind: str, name: str, now: Domain, before: Domain, seed: int) -> dict[str, object]:
    """One row of `PairedDomain.parts`."""
    found = _compare(now, before, seed)
    return {
        "kind": kind,
        "name": name,
        "images": len(now.labelled_images),
        "boxes": int((~now.annotations["crowd"].to_numpy(bool)).sum()),
        "clips": now.labelled_images["group"].nunique(),
        "before": found.second,
        "now": found.first,
        "difference": found.difference,
        "low": found.interval.low,
        "high": found.interval.high,
        "p": np.nan if found.p is None else found.p,
    }


def _changes(now: Domain, before: Domain, confidence: tuple[float, float]) -> pd.DataFrame:
    """Errors of each image before and now, the most changed first."""
    errors = []
    for domain, threshold in zip((before, now), reversed(confidence), strict=True):
        twice_true, both = f1_counts(domain.table, np.full(domain.table.n_images, threshold))
        errors.append((both - twice_true).astype(int))
    images = now.labelled_images
    table = pd.DataFrame(
        {
            "image": images["image"],
            "path": images["path"],
            "clip": images["group"],
            "errors_before": errors[0],
            "errors_now": errors[1],
        }
    )
    change = (table["errors_now"] - table["errors_before"]).abs()
    return table.iloc[np.argsort(-change.to_numpy(), kind="stable")].reset_index(drop=True)


def regressions(pairs: list[PairedDomain], tolerance: float) -> Bools:
    """Which domains lost AP50, (n,): by more than a tolerance, a fraction, and by more than chance.

    Chance is judged by the swap test, with Holm's correction for the number of domains: of two equal
    detectors, at most one in twenty is said to have lost anywhere. Domains without a test are never said to
    have lost.
    """
    p = holm(np.array([np.nan if pair.comparison.p is None else pair.comparison.p for pair in pairs]))
    difference = np.array([pair.comparison.difference for pair in pairs])
    # A comparison with NaN is false.
    return np.asarray((difference <= -tolerance) & (difference < 0) & (p < 0.05))
