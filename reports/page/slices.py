"""The words and figures about slices: where it fails, and how sure that is."""

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

# A slice is listed as a weak spot when chance is an unlikely reason (Benjamini-Hochberg) and the difference is worth acting on.
MIN_DIFFERENCE = 0.05
MAX_WORST = 5


def number(value: Any) -> str:
    """A cell: fraction, or a dash for what cannot be measured."""
    return "–" if value is None or value != value else fraction(float(value))


def label(attribute: str, name: str, noun: str = "annotations") -> str:
    """A slice's name as a reader meets it. noun: what slices of boxes are made of."""
    if attribute.startswith(OWN):
        return attribute.removeprefix(OWN) if name == "yes" else f"{attribute.removeprefix(OWN)}: {name}"
    return {
        "all": "all images",
        "size": f"{noun} {name}",
        "shape": f"{name} {noun}",
        "place": f"{noun} in the {name}",
        "clip": f"clip {name}",
        "split": f"split {name}",
        "density": name,
    }.get(attribute, f"{name} images")


def slice_rows(findings: Findings) -> list[dict[str, Any]]:
    """The slice table; slices of one domain by the AP50 that the domain would gain if they were as good as the whole of it."""
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
    """Dots and intervals of the slices of all domains but single clips."""
    table = findings.slices[(findings.slices["attribute"] != "clip") & findings.slices["ap50"].notna()].copy()
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
    """The slices that are worse beyond chance than the rest of their domain, the costliest first, as sentences."""
    table = findings.slices
    weak = table[(table["q"] <= RATE) & (table["difference"] <= -MIN_DIFFERENCE)]
    weak = weak.sort_values("recoverable", ascending=False).head(MAX_WORST)
    return [
        f"{row['domain']}, {label(row['attribute'], row['slice'])}: AP50 {number(row['ap50'])}, {points(-row['difference'])} below "
        f"{'the mean over its ' + row['attribute'] + 's' if row['attribute'] in BOX_ATTRIBUTES else 'all of it'} "
        f"({count(row['boxes'], 'object')} in {count(row['groups'], 'clip')}, q {'under 0.001' if row['q'] < 0.001 else number(row['q'])})"
        for row in weak.to_dict("records")
    ]


def combinations(findings: Findings) -> dict[str, Any]:
    """What the search for weak combinations found, as sentences, and what it could not do."""
    table = findings.discovered
    found = (
        [_combination(row) for row in table[table["confirmed"].astype(bool)].to_dict("records")]
        if len(table)
        else []
    )
    few = [
        domain.name
        for domain in findings.domains
        if domain.labelled.any() and len(set(domain.group_numbers.tolist())) < 2 * MIN_GROUPS
    ]
    return {
        "found": found,
        "searched": len(table),
        "few": few,
        "needed": 2 * MIN_GROUPS,
        "effect": percent(MIN_EFFECT),
    }


def _combination(row: dict[Any, Any]) -> str:
    """One confirmed combination as a sentence."""
    missed = row["kind"] == "missed"
    noun = "annotations" if missed else "detections"
    names = " and ".join(label(a, v, noun) for a, v in zip(row["attributes"], row["slice"], strict=True))
    elsewhere = "elsewhere" if len(row["slice"]) == 1 else "where only one of the two holds"
    return (
        f"{row['domain']}, {names}: {percent(row['rate'])} of {row['count']:,} {noun} are {'missed' if missed else 'false'}, "
        f"{percent(row['rest'])} {elsewhere} ({count(row['groups'], 'clip')}; without the difference {percent(row['share_of_errors'])} of all such errors would go)"
    )
