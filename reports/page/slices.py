"""Section "Performance": slices, from the costliest to the cheapest."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from datasets.tables import OWN
from diagnostics.discovery import MIN_EFFECT, RATE
from diagnostics.domain import BOX_ATTRIBUTES
from diagnostics.findings import Findings
from diagnostics.intervals import MIN_GROUPS
from diagnostics.wording import count, fraction, percent, points
from reports.page import figures

# A slice is listed as worse when chance is an unlikely reason (Benjamini-Hochberg) and the difference is
# worth acting on.
MIN_DIFFERENCE = 0.05
MAX_WORST = 5


def number(value: Any) -> str:
    """A cell: fraction, or a dash for what cannot be measured."""
    return "–" if value is None or value != value else fraction(float(value))


def label(attribute: str, name: str, noun: str = "annotations") -> str:
    """The name of a slice on the page. noun: what a slice of boxes consists of."""
    if attribute.startswith(OWN):
        return attribute.removeprefix(OWN) if name == "yes" else f"{attribute.removeprefix(OWN)}: {name}"
    return {
        "all": "all images",
        "class": name,
        "size": f"{noun} {name}",
        "shape": f"{name} {noun}",
        "place": f"{noun} in the {name}",
        "clip": f"clip {name}",
        "split": f"split {name}",
        "density": name,
    }.get(attribute, f"{name} images")


def slice_rows(findings: Findings) -> list[dict[str, Any]]:
    """The slice table; slices of a domain by the AP50 it would gain if they were as good as the
    whole domain.
    """
    table = findings.slices
    order = {name: i for i, name in enumerate(dict.fromkeys(table["domain"]))}
    rows = []
    for row in table.to_dict("records"):
        rows.append(
            {
                "domain": row["domain"],
                "label": label(row["attribute"], row["slice"]),
                "images": f"{row['images']:,}",
                "boxes": f"{row['boxes']:,}",
                "groups": row["groups"],
                **{
                    key: number(row[column])
                    for key, column in (
                        ("ap50", "ap50"),
                        ("low", "ap50_low"),
                        ("high", "ap50_high"),
                        ("ap", "ap"),
                        ("ap75", "ap75"),
                        ("max_recall", "max_recall"),
                        ("f1", "best_f1"),
                        ("confidence", "best_confidence"),
                        ("q", "q"),
                    )
                },
                "note": row["note"],
                "small": row["ap50"] != row["ap50"],
                "first": row["attribute"] == "all",
                "key": (
                    order[row["domain"]],
                    row["attribute"] != "all",
                    -(row["recoverable"] if row["recoverable"] == row["recoverable"] else -1.0),
                ),
            }
        )
    return sorted(rows, key=lambda r: r["key"])


def slice_figure(findings: Findings, palette: dict[str, str]) -> Markup | None:
    """AP50 and its interval for the slices of all domains, single clips left out."""
    table = findings.slices[(findings.slices["attribute"] != "clip") & findings.slices["ap50"].notna()].copy()
    table = figures.of_drawn(table, palette)
    if table.empty:
        return None
    table["label"] = [label(row["attribute"], row["slice"]) for row in table.to_dict("records")]
    # Slices of one attribute stay together, also those that one domain lacks.
    order = {
        key: i
        for i, key in enumerate(
            dict.fromkeys(zip(findings.slices["attribute"], findings.slices["slice"], strict=True))
        )
    }
    first = {attribute: i for i, (attribute, _) in reversed(list(enumerate(order)))}
    rank = [(first[a], order[a, n]) for a, n in zip(table["attribute"], table["slice"], strict=True)]
    table = table.iloc[sorted(range(len(table)), key=lambda i: rank[i])]
    return Markup(figures.slices("AP50 of each slice with its 95 % interval, by domain", table, palette))


def worst(findings: Findings) -> list[str]:
    """The slices that are worse than the rest of their domain beyond chance, the costliest first, as
    sentences.
    """
    table = findings.slices
    weak = table[(table["q"] <= RATE) & (table["difference"] <= -MIN_DIFFERENCE)]
    weak = weak.sort_values("recoverable", ascending=False).head(MAX_WORST)
    return [
        f"{row['domain']}, {label(row['attribute'], row['slice'])}: AP50 {number(row['ap50'])}, "
        f"{points(-row['difference'])} below {_compared_with(row['attribute'])} "
        f"({count(row['boxes'], 'annotation')} in {count(row['groups'], 'clip')}, "
        f"q {'under 0.001' if row['q'] < 0.001 else number(row['q'])})"
        for row in weak.to_dict("records")
    ]


def _compared_with(attribute: str) -> str:
    """What the AP50 of a slice is compared with: slices of boxes lose the false positives of the others."""
    plural = {"size": "sizes", "shape": "shapes", "place": "positions"}
    return f"the mean over all {plural[attribute]}" if attribute in BOX_ATTRIBUTES else "the whole domain"


def weak_slices(findings: Findings) -> dict[str, Any]:
    """Weak slices found by search and confirmed on other clips, as sentences, and where the search was not
    possible.
    """
    table = findings.discovered
    confirmed = (
        [_weak_slice(row) for row in table[table["confirmed"].astype(bool)].to_dict("records")]
        if len(table)
        else []
    )
    few = [
        domain.name
        for domain in findings.domains
        if domain.labelled.any() and len(set(domain.group_numbers.tolist())) < 2 * MIN_GROUPS
    ]
    return {
        "confirmed": confirmed,
        "searched": len(table),
        "few": few,
        "needed": 2 * MIN_GROUPS,
        "effect": percent(MIN_EFFECT),
    }


def _weak_slice(row: dict[Any, Any]) -> str:
    """One confirmed weak slice as a sentence."""
    missed = row["kind"] == "missed"
    noun = "annotations" if missed else "detections"
    names = " and ".join(label(a, v, noun) for a, v in zip(row["attributes"], row["slice"], strict=True))
    elsewhere = "elsewhere" if len(row["slice"]) == 1 else "where only one of the two holds"
    return (
        f"{row['domain']}, {names}: {percent(row['rate'])} of {row['count']:,} {noun} are "
        f"{'missed' if missed else 'false positives'}, {percent(row['rest'])} {elsewhere} "
        f"({count(row['groups'], 'clip')}; {percent(row['share_of_errors'])} of all such errors are due to "
        f"the difference)"
    )
