"""The page of `shiftscope compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.paired import PairedDomain
from diagnostics.wording import count, fraction, points_interval, signed_points
from reports.page import thumbnails
from reports.page.reader import WrittenReport
from reports.page.writer import environment

# Images shown of those that got better and of those that got worse, each under both detectors.
SHOWN = 3
SIDE = 300
# Of the rows that are not grey, about one in ten is there by chance.
NOTABLE_Q = 0.1
# Of a class or slice whose interval holds the difference of all images.
TOGETHER = "as all images"


@dataclass(frozen=True)
class ReportPair:
    """A report beside the one before.

    name: of the report now
    domains: what could be compared
    refused: domain -> why it could not
    """

    name: str
    domains: tuple[PairedDomain, ...]
    refused: dict[str, str]


def comparison_page(
    record: dict[str, Any], reports: Sequence[WrittenReport], pairs: Sequence[ReportPair]
) -> str:
    """HTML that loads nothing from anywhere. record: compare.json; reports: the first is the one before."""
    thresholds = [report["confidence"] for report in record["reports"]]
    sections = [
        _section(entry, pair, (now, reports[0]), (threshold, thresholds[0]))
        for entry, pair, now, threshold in zip(
            record["comparisons"], pairs, reports[1:], thresholds[1:], strict=True
        )
    ]
    context = {
        "names": [report["name"] for report in record["reports"]],
        "rows": _side_by_side(record),
        "baseline": record["baseline"],
        "sections": sections,
    }
    return environment(escape=True).get_template("compare.html.j2").render(context)


def _side_by_side(record: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a domain: AP50 and verdict under each report."""
    names: dict[str, None] = {}
    for report in record["reports"]:
        names.update(dict.fromkeys(_row_name(domain) for domain in report["domains"]))
    rows = []
    for name in names:
        cells = []
        for report in record["reports"]:
            domain = next((d for d in report["domains"] if _row_name(d) == name), None)
            if domain is None:
                cells.append({"ap50": "–", "verdict": ""})
                continue
            grade = f" ({domain['grade']})" if domain["grade"] else ""
            cells.append({"ap50": fraction(domain["ap50"]), "verdict": f"{domain['cause'] or ''}{grade}"})
        rows.append({"name": name, "cells": cells})
    return rows


def _row_name(domain: dict[str, Any]) -> str:
    """In-domain sets belong to each other, whatever they are called."""
    return "in-domain" if domain["role"] == "in_domain" else str(domain["name"])


def _section(
    entry: dict[str, Any],
    pair: ReportPair,
    reports: tuple[WrittenReport, WrittenReport],
    thresholds: tuple[float, float],
) -> dict[str, Any]:
    """One report against the first; reports, thresholds: of now and of before."""
    by_name = [{domain.name: domain for domain in report.domains} for report in reports]
    held_out = next(domain for domain in reports[1].domains if domain.role == "in_domain")
    domains = []
    for found, paired in zip(entry["domains"], pair.domains, strict=True):
        now = by_name[0][paired.name]
        before = held_out if now.role == "in_domain" else by_name[1][paired.name]
        domains.append(
            {
                **found,
                "state": _state(found),
                "difference_words": signed_points(found["difference"] or 0.0, 1),
                "interval": points_interval(found["low"], found["high"], found["note"]),
                "before": fraction(found["ap50_before"]),
                "now": fraction(found["ap50_now"]),
                "size": f"{count(found['images'], 'image')}, {count(found['clips'], 'clip')}",
                "rows": _part_rows(paired.parts, paired.comparison.difference),
                "resolved": bool((paired.parts["q"] <= NOTABLE_Q).any()),
                "worse_cards": _cards(paired.changes, (now, before), thresholds, worse=True),
                "better_cards": _cards(paired.changes, (now, before), thresholds, worse=False),
            }
        )
    return {
        "name": entry["report"],
        "differs": entry["differs"],
        "domains": domains,
        "refused": entry["not_compared"],
    }


def _state(found: dict[str, Any]) -> str:
    """Better, worse or no difference beyond chance, in a word."""
    if found["p"] is None:
        return "not tested"
    if found["p"] >= 0.05:
        return "no difference beyond chance"
    return "better" if found["difference"] > 0 else "worse"


def _part_rows(parts: pd.DataFrame, whole: float) -> list[dict[str, Any]]:
    """Classes and slices, those first that did not only move with all images (by whole, in AP50), the largest
    loss first.
    """
    beside = [_beside(part, whole) for part in parts.itertuples(index=False)]
    ordered = parts.assign(beside=beside, together=[words == TOGETHER for words in beside])
    ordered = ordered.sort_values(["together", "difference"], kind="stable")
    return [
        {
            "kind": part.kind,
            "name": part.name,
            "images": f"{part.images:,}",
            "boxes": f"{part.boxes:,}",
            "before": fraction(part.before),
            "now": fraction(part.now),
            "difference": signed_points(part.difference, 1),
            "interval": "–"
            if pd.isna(part.low) or pd.isna(part.high)
            else f"[{signed_points(part.low)}, {signed_points(part.high)}]",
            "beside": part.beside,
            "resolved": bool(part.q <= NOTABLE_Q),
        }
        for part in ordered.itertuples(index=False)
    ]


def _beside(part: Any, whole: float) -> str:
    """How a class or slice changed beside all images, whose difference its interval holds or not."""
    if pd.isna(part.low) or pd.isna(part.high) or pd.isna(whole):
        return "–"
    if part.low <= whole <= part.high:
        return TOGETHER
    return "better than all" if part.low > whole else "worse than all"


def _cards(
    changes: pd.DataFrame, domains: tuple[Domain, Domain], thresholds: tuple[float, float], *, worse: bool
) -> list[dict[str, Any]]:
    """The images that changed most in one direction, under both detectors; one a clip, so that neighbours do
    not fill the row.
    """
    change = changes["errors_now"] - changes["errors_before"]
    chosen = changes[change > 0 if worse else change < 0].drop_duplicates("clip").head(SHOWN)
    cards = []
    for row in chosen.itertuples():
        now, before = (
            _with_boxes(domain, domains[0], str(row.image), str(row.path), threshold)
            for domain, threshold in zip(domains, thresholds, strict=True)
        )
        if now and before:
            cards.append(
                {
                    "now": now,
                    "before": before,
                    "image": row.image,
                    "words": f"{row.errors_before} errors before, {row.errors_now} now",
                }
            )
    return cards


def _with_boxes(domain: Domain, labelled: Domain, image: str, path: str, threshold: float) -> str | None:
    """An image with a detector's boxes at its threshold, and the annotations in white."""
    boxes = domain.detections[
        (domain.detections["image"] == image) & (domain.detections["confidence"] >= threshold)
    ]
    truth = labelled.annotations[labelled.annotations["image"] == image]
    return thumbnails.whole(
        path,
        boxes[CORNERS].to_numpy(float).tolist(),
        ["detection"] * len(boxes),
        truth=truth[CORNERS].to_numpy(float).tolist(),
        side=SIDE,
    )
