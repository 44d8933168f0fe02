"""Section "Failure gallery": crops of false positives, missed objects and localization errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from datasets.rotated import rotated_boxes
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.findings import Findings
from diagnostics.matching import Floats
from diagnostics.wording import fraction
from reports.page import thumbnails
from reports.page.methods import short_path

KIND_WORDS = {
    "false_positive": (
        "Confident false positives",
        "Detections on no annotation, or on one that is detected already; most confident first, grouped "
        "by appearance.",
    ),
    "wrong_class": (
        "Wrong classes",
        "Detections on an annotation of another class (IoU 0.5 or above), grouped by the pair of classes.",
    ),
    "missed": (
        "Missed objects",
        "Annotations without a matching detection at confidence 0.25 or above, largest first.",
    ),
    "near_miss": (
        "Localization errors",
        "Detections that overlap an annotation too little to match it (IoU 0.1 to 0.5).",
    ),
    "true_positive": ("True positives", "Correct detections, for comparison."),
    "detection": (
        "Detections on unlabelled images",
        "The most confident detections; without labels, only a person can tell which are correct.",
    ),
}


def domain_of(findings: Findings, name: str) -> Domain:
    """The domain with this name."""
    return next(domain for domain in findings.domains if domain.name == name)


def card_image(findings: Findings, card: pd.Series, *, side: int = thumbnails.SIDE) -> str | None:
    """The crop of a card with the annotations in it."""
    domain = domain_of(findings, card["domain"])
    path = domain.images.loc[domain.images["image"] == card["image"], "path"].iloc[0]
    box = [float(card[corner]) for corner in CORNERS]
    annotations = domain.annotations[domain.annotations["image"] == card["image"]]
    drawn = annotations[CORNERS].to_numpy(float)
    if "angle" in domain.detections:
        turned = rotated_boxes(annotations)
        drawn = drawn if turned is None else np.column_stack([drawn, turned])
        box = _rotated(domain, int(card["detection"]), box, drawn)
    return thumbnails.crop(path, box, card["kind"], truth=drawn.tolist(), side=side)


def _rotated(domain: Domain, row: int, box: list[float], annotations: Floats) -> list[float]:
    """The box of a card with its rotated box behind it: of the detection in a row, or of the annotation with the same
    extent where the row is -1. annotations: (n, 9), or (n, 4) where none is rotated.
    """
    if row >= 0:
        turned = rotated_boxes(domain.detections.loc[[row]])
        return box if turned is None else [*box, *turned[0].tolist()]
    same = np.isclose(annotations[:, :4], box).all(1)
    return annotations[same][0].tolist() if same.any() else box


def gallery_section(findings: Findings, app_urls: dict[int, str]) -> list[dict[str, Any]]:
    """Cards by domain and kind, real-world domains first. app_urls: links into the App by card number."""
    paths: dict[str, str] = {}
    if findings.training is not None:
        paths = dict(zip(findings.training.images["image"], findings.training.images["path"], strict=True))
    cards = findings.cards
    sections = []
    for domain in (*findings.real_world, findings.in_domain):
        for kind, (title, words) in KIND_WORDS.items():
            rows = cards[(cards["domain"] == domain.name) & (cards["kind"] == kind)]
            if rows.empty:
                continue
            sections.append(
                {
                    "domain": domain.name,
                    "kind": kind,
                    "title": title,
                    "words": words,
                    "cards": [
                        _card(findings, card, app_urls.get(int(str(number)), ""), paths)
                        for number, card in rows.sort_values("cluster", kind="stable").iterrows()
                    ],
                    "clusters": int(rows["cluster"].nunique()),
                }
            )
    return sections


def _card(findings: Findings, card: pd.Series, app_url: str, paths: dict[str, str]) -> dict[str, Any]:
    """One card: crop, facts, and the nearest training images. paths: of the training images."""
    domain = domain_of(findings, card["domain"])
    image = domain.images.loc[domain.images["image"] == card["image"]].iloc[0]
    gain = domain.imgsz / max(image["width"], image["height"])
    confidence = float(card["confidence"])
    seconds = f", {image['seconds']:.1f} s" if image["seconds"] == image["seconds"] else ""
    return {
        "src": card_image(findings, card),
        "image": short_path(card["image"]),
        "classes": _class_words(card["kind"], card["actual"], card["predicted"])
        if len(domain.classes) > 1
        else "",
        "group": f"{card['group']}{seconds}",
        "confidence": "" if confidence != confidence else fraction(confidence),
        "raw_confidence": "" if confidence != confidence else f"{confidence:.4f}",
        "size": f"{(card['x2'] - card['x1']) * gain:.0f}\u00d7{(card['y2'] - card['y1']) * gain:.0f} px",
        "cluster": int(card["cluster"]),
        "app_url": app_url,
        "nearest": [
            {
                "src": thumbnails.crop(paths[entry["image"]], entry["box"], "", side=thumbnails.SMALL_SIDE),
                "image": short_path(entry["image"]),
            }
            for entry in card["nearest"]
            if entry["image"] in paths
        ],
    }


def _class_words(kind: str, actual: str, predicted: str) -> str:
    """What a card says about classes."""
    if kind == "missed":
        return f"{actual}, predicted as {predicted}" if predicted else actual
    if not actual:
        return predicted if kind == "detection" else f"{predicted}, nothing labelled"
    return actual if actual == predicted else f"{actual}, predicted as {predicted}"
