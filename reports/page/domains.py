"""Section "Performance": the domains side by side."""

from __future__ import annotations

from typing import Any

from datasets.tables import objects_in
from diagnostics.domain import Domain
from diagnostics.findings import Findings
from diagnostics.wording import interval
from reports.page import slices
from reports.page.figures import REAL_WORLD
from reports.pipeline.run import Result

ROLE_WORDS = {"in_domain": "in-domain", "real_world": "real-world", "training": "training"}


def drawn_domains(findings: Findings) -> list[str]:
    """The domains that figures show: the in-domain set, the one in focus, and of the others those with the
    lowest AP50, as many as there are colours that can be told apart.
    """
    ap50 = findings.evidence.ap50
    others = sorted(
        (domain.name for domain in findings.real_world),
        key=lambda name: (name != findings.focus, ap50.get(name) is None, ap50.get(name) or 0.0),
    )
    chosen = {findings.in_domain.name, *others[: len(REAL_WORLD)]}
    return [domain.name for domain in findings.domains if domain.name in chosen]


def domain_row(findings: Findings, domain: Domain, palette: dict[str, str]) -> dict[str, Any]:
    """One line of the table of domains."""
    table = findings.slices
    row = table[(table["domain"] == domain.name) & (table["attribute"] == "all")].iloc[0]
    low, high = (None if row[name] != row[name] else float(row[name]) for name in ("ap50_low", "ap50_high"))
    return {
        "name": domain.name,
        "colour": palette[domain.name],
        "role": ROLE_WORDS[domain.role],
        "images": f"{len(domain.images):,}",
        "labelled": _labelled_words(domain),
        "boxes": f"{objects_in(domain.annotations):,}",
        "groups": f"{domain.images['group'].nunique():,}",
        "ap50": slices.number(row["ap50"]),
        "interval": interval(low, high, row["note"]) if domain.labelled.any() else row["note"],
        "ap": slices.number(row["ap"]),
        "ap75": slices.number(row["ap75"]),
        "max_recall": slices.number(row["max_recall"]),
    }


def shape_rows(result: Result) -> list[dict[str, str]]:
    """Lines of the table of masks or key points, beside the boxes of the same domains."""
    table = result.findings.slices.set_index(["domain", "attribute"])
    rows = []
    for name, scores in result.shapes.items():
        boxes = table.loc[(name, "all")]
        rows.append(
            {
                "domain": name,
                "kind": scores.kind,
                "ap50": slices.number(scores.ap50),
                "interval": interval(
                    scores.ap50_interval.low, scores.ap50_interval.high, scores.ap50_interval.note
                ),
                "ap": slices.number(scores.ap),
                "box_ap50": slices.number(float(boxes["ap50"])),
                "box_ap": slices.number(float(boxes["ap"])),
                "annotations": f"{scores.annotations:,}",
                "without": f"{scores.without:,}" if scores.without else "",
            }
        )
    return rows


def _labelled_words(domain: Domain) -> str:
    """How many images are labelled, and how many of those hold no object."""
    background = int((~domain.labelled_images["image"].isin(domain.annotations["image"])).sum())
    return f"{int(domain.labelled.sum()):,}" + (f" ({background:,} background)" if background else "")
