"""Whole images behind the cards of the gallery, with every annotation and detection in them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd

from diagnostics.domain import Domain
from diagnostics.error_types import missed_annotations
from diagnostics.findings import Findings
from diagnostics.wording import fraction
from reports.page import thumbnails
from reports.page.methods import short_path
from reports.page.outlines import Outline, outlines_of
from train.passes import available_cores

# All views together take at most this many bytes of a page, and each is as large as that allows.
VIEW_BYTES = 6_000_000
VIEW_SIDES = (960, 800, 640, 512, 400)
# Bytes of a data URI that a pixel of a photograph takes at VIEW_QUALITY, about.
BYTES_A_PIXEL = 0.2
VIEW_QUALITY = 72
# Detections below this confidence are left out of a view, as they are of the gallery; of an image full of
# objects, the most confident are shown.
MIN_CONFIDENCE = 0.05
MAX_BOXES = 100
# Outcome of a detection -> kind of card.
KIND_OF = {
    "true_positive": "true_positive",
    "class": "wrong_class",
    "location": "near_miss",
    "background": "false_positive",
    "duplicate": "false_positive",
    "both": "false_positive",
}


def domain_of(findings: Findings, name: str) -> Domain:
    """The domain with this name."""
    return next(domain for domain in findings.domains if domain.name == name)


def image_views(findings: Findings) -> dict[tuple[str, str], dict[str, Any]]:
    """The images of the cards, those of the first cards first, then those to add next, until VIEW_BYTES are
    used up; none without cards.

    By domain and image, each has domain, name, src, width and height (of the JPEG, in pixels), and boxes:
    kind ("annotation", "missed", or that of a card), SVG path data, words and confidence (null for
    annotations).
    """
    images = findings.cards[["domain", "image"]]
    if len(images):
        images = pd.concat([images, findings.next[["domain", "image"]]]).drop_duplicates()
    side = _side(len(images))
    views: dict[tuple[str, str], dict[str, Any]] = {}
    used = 0
    for name, part in images.groupby("domain", sort=False):
        domain = domain_of(findings, str(name))
        paths = dict(zip(domain.images["image"], domain.images["path"], strict=True))
        boxes = _boxes_by_image(domain, set(part["image"]), findings.shown_from)
        names = list(part["image"])
        with ThreadPoolExecutor(available_cores()) as pool:
            shots = pool.map(
                lambda image, paths=paths, boxes=boxes: thumbnails.shot(
                    str(paths[image]),
                    None,
                    [outline for *_, outline in boxes[image][1]],
                    side=side,
                    quality=VIEW_QUALITY,
                ),
                names,
            )
        for image, shot in zip(names, shots, strict=True):
            kinds, drawn = boxes[image]
            if shot is None:
                continue
            size = len(shot.src) + sum(map(len, shot.outlines))
            if used + size > VIEW_BYTES:
                continue
            used += size
            views[domain.name, str(image)] = {
                "domain": domain.name,
                "name": short_path(image),
                "src": shot.src,
                "width": shot.width,
                "height": shot.height,
                "boxes": [
                    [kind, path, words, confidence]
                    for kind, path, (words, confidence, _) in zip(kinds, shot.outlines, drawn, strict=True)
                ],
            }
    return views


def _side(images: int) -> int:
    """The longer side of so many views, in pixels."""
    fits = [side for side in VIEW_SIDES if images * 0.75 * side**2 * BYTES_A_PIXEL <= VIEW_BYTES]
    return fits[0] if fits else VIEW_SIDES[-1]


_Drawn = tuple[str, float | None, Outline]


def _missed(domain: Domain, confidence: float) -> set[int]:
    """Rows of the annotations that no detection at or above a confidence matches."""
    if not domain.labelled.any():
        return set()
    rows = missed_annotations(domain.table, domain.outcomes, confidence=confidence)
    return set(domain.annotations.index[rows].tolist())


def _boxes_by_image(
    domain: Domain, images: set[str], confidence: float
) -> dict[str, tuple[list[str], list[_Drawn]]]:
    """Kinds, and words, confidence and outlines of the objects of each image: annotations first, then
    detections.

    confidence: from which on a detection counts as one of the object that it lies on
    """
    names = domain.classes
    result: dict[str, tuple[list[str], list[_Drawn]]] = {image: ([], []) for image in images}
    annotations = domain.annotations[domain.annotations["image"].isin(images)]
    missed = _missed(domain, confidence)
    for row, image, label, outline in zip(
        annotations.index,
        annotations["image"],
        annotations["label"],
        outlines_of(domain, annotations),
        strict=True,
    ):
        kinds, drawn = result[image]
        kinds.append("missed" if row in missed else "annotation")
        drawn.append((names[int(label)], None, outline))
    chosen = domain.detections["image"].isin(images) & (domain.detections["confidence"] >= MIN_CONFIDENCE)
    detections = domain.detections[chosen].assign(kind="detection")
    if domain.labelled.any():
        row = domain.scored_detections.index.to_numpy()[domain.outcomes["row"].to_numpy()]
        outcome = pd.Series(domain.outcomes["outcome"].to_numpy(), index=row).reindex(detections.index)
        detections["kind"] = outcome.map(KIND_OF).fillna("detection")
    detections = detections.sort_values("confidence", ascending=False, kind="stable")
    detections = detections[detections.groupby("image").cumcount() < MAX_BOXES]
    for image, kind, label, confidence, outline in zip(
        detections["image"],
        detections["kind"],
        detections["label"],
        detections["confidence"],
        outlines_of(domain, detections),
        strict=True,
    ):
        kinds, drawn = result[image]
        kinds.append(kind)
        value = float(confidence)
        drawn.append((f"{names[int(label)]} {fraction(value)}", round(value, 4), outline))
    return result
