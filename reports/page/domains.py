"""Domains side by side."""

from __future__ import annotations

from typing import Any

from diagnostics.domain import Domain
from diagnostics.findings import Findings
from diagnostics.wording import interval
from reports.page import slices as where

ROLE_WORDS = {"in_domain": "in-domain", "real_world": "real world", "training": "training"}


def domain_row(findings: Findings, domain: Domain, palette: dict[str, str]) -> dict[str, Any]:
    """One line of the table of domains."""
    whole = findings.slices[
        (findings.slices["domain"] == domain.name) & (findings.slices["attribute"] == "all")
    ].iloc[0]
    return {
        "name": domain.name,
        "colour": palette[domain.name],
        "role": ROLE_WORDS[domain.role],
        "images": f"{len(domain.images):,}",
        "labelled": _labelled_words(domain),
        "boxes": f"{len(domain.annotations):,}",
        "groups": f"{domain.images['group'].nunique():,}",
        "ap50": where.number(whole["ap50"]),
        "interval": interval(_or_none(whole["ap50_low"]), _or_none(whole["ap50_high"]), whole["note"])
        if domain.labelled.any()
        else whole["note"],
        "ap": where.number(whole["ap"]),
        "ap75": where.number(whole["ap75"]),
        "max_recall": where.number(whole["max_recall"]),
    }


def _labelled_words(domain: Domain) -> str:
    """How many images are labelled, and how many of those as holding no object."""
    empty = int((~domain.labelled_images["image"].isin(domain.annotations["image"])).sum())
    return f"{int(domain.labelled.sum()):,}" + (f" ({empty:,} without an object)" if empty else "")


def _or_none(value: float) -> float | None:
    return None if value != value else float(value)
