"""What to add next."""

from __future__ import annotations

from typing import Any

from diagnostics.findings import Findings
from diagnostics.wording import count, percent
from reports.page import thumbnails as pictures
from reports.page.gallery import domain_of
from reports.page.methods import short


def next_rows(findings: Findings) -> list[dict[str, Any]]:
    """The ranked list with small pictures, each beside the training picture most like it."""
    known = findings.training or findings.home
    path_of = dict(zip(known.pictures["image"], known.pictures["path"], strict=True))
    return [
        {
            "rank": r["rank"],
            "image": short(r["image"]),
            "domain": r["domain"],
            "reason": r["reason"],
            "labels": labels_words(findings, r["domain"], r["image"]),
            "covered": percent(r["covered"]),
            "src": pictures.crop(r["path"], None, "", side=pictures.SMALL_SIDE),
            "nearest": short(r["nearest"]),
            "nearest_src": pictures.crop(path_of[r["nearest"]], None, "", side=pictures.SMALL_SIDE)
            if r["nearest"] in path_of
            else None,
        }
        for r in findings.next.to_dict("records")
    ]


def labels_words(findings: Findings, name: str, image: str) -> str:
    """Whether a picture is labelled already, and with how many objects."""
    domain = domain_of(findings, name)
    if not domain.pictures.loc[domain.pictures["image"] == image, "labelled"].any():
        return "to be labelled"
    objects = int((domain.annotations["image"] == image).sum())
    return (
        f"labelled already, {count(objects, 'object')}" if objects else "labelled already, without an object"
    )
