"""What to add next."""

from __future__ import annotations

from typing import Any

from diagnostics.findings import Findings
from diagnostics.wording import count, percent
from reports.page import thumbnails as images
from reports.page.gallery import domain_of
from reports.page.methods import short_path


def next_rows(findings: Findings) -> list[dict[str, Any]]:
    """The ranked list with small images, each beside the training image most like it."""
    known = findings.training or findings.in_domain
    path_of = dict(zip(known.images["image"], known.images["path"], strict=True))
    return [
        {
            "rank": r["rank"],
            "image": short_path(r["image"]),
            "domain": r["domain"],
            "reason": r["reason"],
            "labels": labels_words(findings, r["domain"], r["image"]),
            "covered": percent(r["covered"]),
            "src": images.crop(r["path"], None, "", side=images.SMALL_SIDE),
            "nearest": short_path(r["nearest"]),
            "nearest_src": images.crop(path_of[r["nearest"]], None, "", side=images.SMALL_SIDE)
            if r["nearest"] in path_of
            else None,
        }
        for r in findings.next.to_dict("records")
    ]


def labels_words(findings: Findings, name: str, image: str) -> str:
    """Whether an image is labelled already, and with how many objects."""
    domain = domain_of(findings, name)
    if not domain.images.loc[domain.images["image"] == image, "labelled"].any():
        return "to be labelled"
    annotations = int((domain.annotations["image"] == image).sum())
    return (
        f"labelled already, {count(annotations, 'object')}"
        if annotations
        else "labelled already, without an object"
    )
