"""Failure gallery."""

from __future__ import annotations

from typing import Any

import pandas as pd

from diagnostics.domain import Domain
from diagnostics.findings import Findings
from diagnostics.wording import fraction
from reports.page import thumbnails as images
from reports.page.methods import short_path

KIND_WORDS = {
    "false_positive": (
        "Confident false positives",
        "Detections that hit no object of their own (nothing there, or found already), most confident first, grouped by what they look like.",
    ),
    "missed": (
        "Misses",
        "Labelled objects that no detection at confidence 0.25 or above true positives, largest first.",
    ),
    "near_miss": ("Near misses", "Detections that touch an object without covering it (IoU 0.1 to 0.5)."),
    "true_positive": ("True positives", "What it does find, for comparison."),
    "detection": (
        "What it claims",
        "The most confident detections on unlabelled footage: right or wrong is for you to say.",
    ),
}


def domain_of(findings: Findings, name: str) -> Domain:
    """Domain by name."""
    return next(d for d in findings.domains if d.name == name)


def card_image(findings: Findings, card: pd.Series, *, side: int = images.SIDE) -> str | None:
    """Crop of a card with the annotated objects in it."""
    domain = domain_of(findings, card["domain"])
    path = domain.images.loc[domain.images["image"] == card["image"], "path"].iloc[0]
    truth = (
        domain.annotations.loc[domain.annotations["image"] == card["image"], ["x1", "y1", "x2", "y2"]]
        .to_numpy(float)
        .tolist()
    )
    return images.crop(
        path, [float(card[c]) for c in ("x1", "y1", "x2", "y2")], card["kind"], truth=truth, side=side
    )


def gallery_section(findings: Findings, app_urls: dict[int, str]) -> list[dict[str, Any]]:
    """Cards by domain and kind, real world first."""
    path_of: dict[str, str] = {}
    if findings.training is not None:
        path_of = dict(zip(findings.training.images["image"], findings.training.images["path"], strict=True))
    sections = []
    for domain in (*findings.real_world, findings.in_domain):
        for kind, (title, words) in KIND_WORDS.items():
            part = findings.cards[
                (findings.cards["domain"] == domain.name) & (findings.cards["kind"] == kind)
            ]
            if part.empty:
                continue
            cards = [
                _card_context(findings, row, number_, app_urls, path_of)
                for number_, row in part.sort_values("cluster", kind="stable").iterrows()
            ]
            sections.append(
                {
                    "domain": domain.name,
                    "kind": kind,
                    "title": title,
                    "words": words,
                    "cards": cards,
                    "clusters": int(part["cluster"].nunique()),
                }
            )
    return sections


def _card_context(
    findings: Findings, card: pd.Series, position: Any, app_urls: dict[int, str], path_of: dict[str, str]
) -> dict[str, Any]:
    """One card: crop, facts, and the training images most like it."""
    domain = domain_of(findings, card["domain"])
    image = domain.images.loc[domain.images["image"] == card["image"]].iloc[0]
    gain = domain.imgsz / max(image["width"], image["height"])
    confidence = float(card["confidence"])
    seconds = f", {image['seconds']:.1f} s" if image["seconds"] == image["seconds"] else ""
    return {
        "src": card_image(findings, card),
        "image": short_path(card["image"]),
        "group": f"{card['group']}{seconds}",
        "confidence": "" if confidence != confidence else fraction(confidence),
        "raw_confidence": "" if confidence != confidence else f"{confidence:.4f}",
        "size": f"{(card['x2'] - card['x1']) * gain:.0f}\u00d7{(card['y2'] - card['y1']) * gain:.0f} px",
        "cluster": int(card["cluster"]),
        "app_url": app_urls.get(int(position), ""),
        "nearest": [
            {
                "src": images.crop(path_of[entry["image"]], entry["box"], "", side=images.SMALL_SIDE),
                "image": short_path(entry["image"]),
            }
            for entry in card["nearest"]
            if entry["image"] in path_of
        ],
    }
