"""Section "What to add next": the ranked images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diagnostics.findings import Findings
from diagnostics.wording import count, percent
from reports.page import thumbnails
from reports.page.methods import short_path
from reports.page.views import domain_of

# Clips set aside that the page names.
MAX_RESERVED = 8


def next_rows(findings: Findings, view_of: Mapping[tuple[str, str], int]) -> list[dict[str, Any]]:
    """The ranked list with thumbnails, each beside the nearest training image. view_of: number of the whole
    image by domain and image.
    """
    training = findings.training or findings.in_domain
    paths = dict(zip(training.images["image"], training.images["path"], strict=True))
    return [
        {
            "rank": row["rank"],
            "image": short_path(row["image"]),
            "domain": row["domain"],
            "reason": row["reason"],
            "labels": label_state(findings, row["domain"], row["image"]),
            "covered": percent(row["covered"]),
            "src": thumbnails.crop(row["path"], None, "", side=thumbnails.SMALL_SIDE),
            "view": view_of.get((row["domain"], row["image"]), -1),
            "nearest": short_path(row["nearest"]),
            "nearest_src": thumbnails.crop(paths[row["nearest"]], None, "", side=thumbnails.SMALL_SIDE)
            if row["nearest"] in paths
            else None,
        }
        for row in findings.next.to_dict("records")
    ]


def label_state(findings: Findings, domain_name: str, image: str) -> str:
    """Whether an image is labelled already, and with how many annotations."""
    domain = domain_of(findings, domain_name)
    if not domain.images.loc[domain.images["image"] == image, "labelled"].any():
        return "to be labelled"
    annotations = int((domain.annotations["image"] == image).sum())
    return (
        f"labelled already, {count(annotations, 'annotation')}"
        if annotations
        else "labelled already, background"
    )


def reserved_words(clips: Sequence[str]) -> str:
    """The clips set aside for testing, the first few by name; "" without any."""
    more = len(clips) - MAX_RESERVED
    return ", ".join(clips[:MAX_RESERVED]) + (
        f" and {more} more (report.json names them)" if more > 0 else ""
    )
