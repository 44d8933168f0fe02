"""Section "Failure gallery": crops of false positives, missed objects and localization errors."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from datasets.rotated import rotated_boxes
from datasets.tables import CORNERS
from diagnostics import slices
from diagnostics.domain import BOX_ATTRIBUTES, Domain, detections_of
from diagnostics.findings import Findings
from diagnostics.gallery import cards_per_kind
from diagnostics.matching import Floats
from diagnostics.wording import fraction
from reports.page import thumbnails
from reports.page.methods import short_path
from reports.page.outlines import Outline, outlines_of
from reports.page.slices import label as slice_label
from reports.page.views import domain_of
from train.passes import available_cores

KIND_WORDS = {
    "false_positive": (
        "False positives",
        "Detections on no annotation, or on one that is detected already; the most confident of each clip, "
        "grouped by appearance.",
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


def card_image(findings: Findings, card: pd.Series, *, side: int = thumbnails.SIDE) -> str | None:
    """The crop of a card with its box and the annotations drawn into it."""
    domain = domain_of(findings, card["domain"])
    box, annotations = _boxes_of_card(domain, card)
    return thumbnails.crop(_path_of(domain, card["image"]), box, card["kind"], truth=annotations, side=side)


def _path_of(domain: Domain, image: str) -> str:
    """The file of an image."""
    return str(domain.images.loc[domain.images["image"] == image, "path"].iloc[0])


def _boxes_of_card(domain: Domain, card: pd.Series) -> tuple[list[float], list[list[float]]]:
    """The box of a card and the annotations of its image, each upright (4 numbers) or with its rotated box
    behind (9).
    """
    box = [float(card[corner]) for corner in CORNERS]
    annotations = domain.annotations[domain.annotations["image"] == card["image"]]
    drawn = annotations[CORNERS].to_numpy(float)
    if "angle" in domain.detections:
        drawn = _with_rotated(annotations)
        box = _rotated(domain, int(card["detection"]), box, drawn)
    return box, drawn.tolist()


def _with_rotated(boxes: pd.DataFrame) -> Floats:
    """Corners of boxes, with the rotated boxes behind them where there are some: (n, 4) or (n, 9)."""
    corners, turned = boxes[CORNERS].to_numpy(float), rotated_boxes(boxes)
    return corners if turned is None else np.column_stack([corners, turned])


def _rotated(domain: Domain, row: int, box: list[float], annotations: Floats) -> list[float]:
    """The box of a card with its rotated box behind it: of the detection in a row, or of the annotation with
    the same extent where the row is -1. annotations: (n, 9), or (n, 4) where none is rotated.
    """
    if row >= 0:
        turned = rotated_boxes(domain.detections.loc[[row]])
        return box if turned is None else [*box, *turned[0].tolist()]
    same = np.isclose(annotations[:, :4], box).all(1)
    return annotations[same][0].tolist() if same.any() else box


def _outlines_of_card(domain: Domain, card: pd.Series) -> list[Outline]:
    """What is drawn over the crop of a card: the annotations of its image, then what the card is about."""
    annotations = domain.annotations[domain.annotations["image"] == card["image"]]
    drawn = outlines_of(domain, annotations)
    if card["detection"] >= 0:
        return [*drawn, *outlines_of(domain, domain.detections.loc[[int(card["detection"])]])]
    same = np.isclose(annotations[CORNERS].to_numpy(float), card[CORNERS].to_numpy(float)).all(1)
    return [*drawn, *(outline for outline, own in zip(drawn, same, strict=True) if own)]


@dataclass(frozen=True)
class Gallery:
    """The section's parts.

    groups: cards by domain and kind
    filters: what can be chosen, by name: (value, words) each
    per_kind: cards of one kind and domain, at most
    members: number and count of cards of each domain, slice and class, for links from the tables, see
        `_members`
    """

    groups: list[dict[str, Any]]
    filters: dict[str, list[tuple[str, str]]]
    per_kind: int
    members: dict[str, tuple[int, int]]


def gallery_section(
    findings: Findings, app_urls: dict[int, str], view_of: Mapping[tuple[str, str], int]
) -> Gallery:
    """Cards by domain and kind, real-world domains first.

    Parameters
    ----------
    findings : Findings
        The diagnosis; its `cards` are shown.
    app_urls : dict
        Links into the App by card number.
    view_of : dict
        Number of the whole image by domain and image.
    """
    cards = findings.cards
    training: dict[str, str] = {}
    if findings.training is not None:
        training = dict(zip(findings.training.images["image"], findings.training.images["path"], strict=True))
    in_slices = _slices_of_cards(findings)
    names: dict[str, list[str]] = {
        "recordings": sorted(set(cards["group"].astype(str))),
        "classes": sorted((set(cards["actual"]) | set(cards["predicted"])) - {""}),
        "slices": list(dict.fromkeys(name for chosen in in_slices.values() for name in chosen)),
    }
    index = {what: {name: i for i, name in enumerate(listed)} for what, listed in names.items()}
    shown: dict[int, dict[str, Any]] = {}
    # The cards of one image by one thread, so that it is decoded once.
    ordered_cards = list(cards.sort_values(["domain", "image"], kind="stable").iterrows())
    by_image = [
        list(rows) for _, rows in groupby(ordered_cards, key=lambda row: (row[1]["domain"], row[1]["image"]))
    ]
    with ThreadPoolExecutor(available_cores()) as pool:
        finished = pool.map(
            lambda rows: [
                _card(findings, card, app_urls.get(int(str(number)), ""), training) for number, card in rows
            ],
            by_image,
        )
        made_cards = [made for part in finished for made in part]
    for (number, card), made in zip(ordered_cards, made_cards, strict=True):
        key = int(str(number))
        named = sorted({card["actual"], card["predicted"]} - {""})
        shown[key] = made | {
            "recording": index["recordings"][str(card["group"])],
            "class_numbers": [index["classes"][name] for name in named],
            "slices": [index["slices"][name] for name in in_slices[key]],
            "view": view_of.get((card["domain"], card["image"]), -1),
        }
    groups = []
    for domain in (*findings.real_world, findings.in_domain):
        for kind, (title, words) in KIND_WORDS.items():
            rows = cards[(cards["domain"] == domain.name) & (cards["kind"] == kind)]
            if rows.empty:
                continue
            ordered = rows.sort_values("cluster", kind="stable").index
            groups.append(
                {
                    "domain": domain.name,
                    "kind": kind,
                    "title": title,
                    "words": words,
                    "cards": [shown[int(number)] for number in ordered],
                    "clusters": int(rows["cluster"].nunique()),
                }
            )
    return Gallery(
        groups,
        _filters(groups, names),
        cards_per_kind(len(findings.domains)),
        _members(groups, names),
    )


def _filters(groups: list[dict[str, Any]], names: dict[str, list[str]]) -> dict[str, list[tuple[str, str]]]:
    """What each filter of the gallery offers; a filter with one choice is left out."""
    choices = {
        "domain": [(name, name) for name in dict.fromkeys(group["domain"] for group in groups)],
        "kind": [
            (kind, KIND_WORDS[kind][0]) for kind in KIND_WORDS if any(g["kind"] == kind for g in groups)
        ],
        "class": [(str(i), name) for i, name in enumerate(names["classes"])],
        "slice": [(str(i), name) for i, name in enumerate(names["slices"])],
        "recording": [(str(i), name) for i, name in enumerate(names["recordings"])],
    }
    return {what: offered for what, offered in choices.items() if len(offered) > 1}


def _members(groups: list[dict[str, Any]], names: dict[str, list[str]]) -> dict[str, tuple[int, int]]:
    """What links from the tables filter by: number of the slice or class, and how many cards there are, by
    domain, "slice" or "class", and name, joined by line feeds.
    """
    counts: dict[str, tuple[int, int]] = {}
    for group in groups:
        for card in group["cards"]:
            keys = [("slice", i, names["slices"][i]) for i in card["slices"]]
            keys += [("class", i, names["classes"][i]) for i in card["class_numbers"]]
            for what, number, name in (*keys, ("domain", -1, "")):
                key = f"{group['domain']}\n{what}\n{name}"
                counts[key] = (number, counts.get(key, (0, 0))[1] + 1)
    return counts


def _slices_of_cards(findings: Findings) -> dict[int, list[str]]:
    """The slices that each card is in, as the page names them, by card number: of its image, and of its box
    by size, shape and place. Single clips are left out.
    """
    cuts = slices.edges(findings.domains)
    result: dict[int, list[str]] = {int(str(number)): [] for number in findings.cards.index}
    for domain in findings.domains:
        cards = findings.cards[findings.cards["domain"] == domain.name]
        if cards.empty or not domain.labelled.any():
            continue
        for attribute, name, mask in slices.masks(domain, cuts):
            if attribute in ("all", "clip"):
                continue
            inside = set(domain.labelled_images["image"][mask])
            for number in cards.index[cards["image"].isin(inside)]:
                result[int(number)].append(slice_label(attribute, name))
        boxes = detections_of(cards, domain.labelled_images["image"])
        for attribute in BOX_ATTRIBUTES:
            for number, name in zip(cards.index, domain.attribute_ranges(attribute, boxes), strict=True):
                result[int(number)].append(slice_label(attribute, str(name)))
    return result


def _card(findings: Findings, card: pd.Series, app_url: str, training: dict[str, str]) -> dict[str, Any]:
    """One card: crop, facts, and the nearest training images. training: paths of the training images."""
    domain = domain_of(findings, card["domain"])
    image = domain.images.loc[domain.images["image"] == card["image"]].iloc[0]
    gain = domain.imgsz / max(image["width"], image["height"])
    confidence = float(card["confidence"])
    seconds = f", {image['seconds']:.1f} s" if image["seconds"] == image["seconds"] else ""
    box, _ = _boxes_of_card(domain, card)
    return {
        "shot": thumbnails.shot(str(image["path"]), box, _outlines_of_card(domain, card)),
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
                "src": thumbnails.crop(
                    training[entry["image"]], entry["box"], "", side=thumbnails.SMALL_SIDE
                ),
                "image": short_path(entry["image"]),
            }
            for entry in card["nearest"]
            if entry["image"] in training
        ],
    }


def _class_words(kind: str, actual: str, predicted: str) -> str:
    """What a card says about classes."""
    if kind == "missed":
        return f"{actual}, predicted as {predicted}" if predicted else actual
    if not actual:
        return predicted if kind == "detection" else f"{predicted}, nothing labelled"
    return actual if actual == predicted else f"{actual}, predicted as {predicted}"
