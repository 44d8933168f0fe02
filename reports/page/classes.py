"""Section "Classes": each class in-domain beside the real world, and what is confused with what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from diagnostics.confusion import BACKGROUND, confusion_differences
from diagnostics.evidence import HARMLESS_GAP
from diagnostics.findings import Findings
from diagnostics.wording import count, fraction, interval, percent, points, points_interval, signed_points
from reports.page.slices import number

# Classes of a confusion matrix: as many columns as a screen shows.
MAX_MATRIX = 12
# Confusions told in sentences, and those that are worth one: as many objects, and as many points more than
# in-domain.
MAX_SENTENCES, MIN_COUNT = 5, 5
# Classes that a sentence names one by one.
MAX_NAMED = 8


def classes_section(findings: Findings) -> dict[str, Any] | None:
    """One block a real-world domain, the one in focus first; None where there is one class, or no labels."""
    table = findings.classes.table
    if len(findings.in_domain.classes) < 2 or table.empty or not (table["annotations"] > 0).any():
        return None
    named = [name for name in findings.classes.missing if name in set(table["domain"])]
    order = sorted(named, key=lambda name: name != findings.focus)
    in_domain = findings.in_domain.name
    return {
        "confidence": fraction(findings.shown_from),
        "domains": [_block(findings, name) for name in order],
        "in_domain": {
            "name": in_domain,
            "rows": _rows(findings, in_domain, None),
            "matrix": _matrix(findings, in_domain, _matrix_classes(findings, in_domain)),
        },
    }


def hit_sentence(findings: Findings, name: str) -> str:
    """Which classes a drop hits; "" where it is common to them, or nobody can tell."""
    hit = findings.classes.hit(name)
    if not hit:
        return ""
    drops = findings.classes.drops
    drops = drops[drops["domain"] == name]
    table = findings.classes.table
    known = table[table["domain"] == findings.in_domain.name].set_index("class")["annotations"]
    parts = []
    for row in drops[drops["class"].isin(hit)].to_dict("records"):
        # Of few objects, AP50 in-domain may be high by luck, or because they chose the epoch.
        parts.append(
            f"{row['class']} (AP50 {fraction(row['in_domain_ap50'])} in-domain, of "
            f"{count(int(known[row['class']]), 'object')}, {fraction(row['real_world_ap50'])} here)"
        )
    others = drops[~drops["class"].isin(hit)]
    lost = float(others["drop"].mean())
    rest = (
        f"the other {count(len(others), 'class', 'classes')}"
        if len(others) > 1
        else str(others["class"].iloc[0])
    )
    verb = "lose" if len(others) > 1 else "loses"
    words = f"{verb} {points(lost)}" if lost >= HARMLESS_GAP / 5 else f"{verb} nothing"
    average = " on average" if len(others) > 1 and lost >= HARMLESS_GAP / 5 else ""
    return f"It hits {' and '.join(parts)}; {rest} {words}{average}."


def _block(findings: Findings, name: str) -> dict[str, Any]:
    """One real-world domain beside the in-domain set."""
    drops = findings.classes.drops
    drops = drops[drops["domain"] == name]
    chosen = _matrix_classes(findings, name)
    return {
        "domain": name,
        "focus": name == findings.focus,
        "hit": hit_sentence(findings, name) or _no_hit(drops),
        "causes": _causes(findings, name),
        "missing": _missing(findings, name),
        "rows": _rows(findings, name, drops),
        "confusions": _confusions(findings, name),
        "matrix": _matrix(findings, name, chosen),
        "reference": _matrix(findings, findings.in_domain.name, chosen),
        "difference": _difference(findings, name, chosen),
    }


def _causes(findings: Findings, name: str) -> list[str]:
    """Why classes lose, as sentences; two classes that are taken for each other are one matter."""
    told: dict[frozenset[str], str] = {}
    for cause in findings.classes.causes.get(name, ()):
        told.setdefault(frozenset((cause.name, cause.other or cause.name)), cause.statement)
    return list(told.values())[:MAX_SENTENCES]


def _no_hit(drops: pd.DataFrame) -> str:
    """Why no class is named."""
    if len(drops) < 2 or drops["excess"].isna().all():
        return ""
    return "No class loses more than the others beyond chance." if not drops["hit"].any() else ""


def _missing(findings: Findings, name: str) -> str:
    """Classes that only one of the two sets annotates."""
    only_in_domain, only_here = findings.classes.missing[name]
    parts = [
        f"Annotated {where} only: {_listed(names)}."
        for where, names in (("in-domain", only_in_domain), (f"in {name}", only_here))
        if names
    ]
    return " ".join(parts)


def _listed(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _rows(findings: Findings, name: str, drops: pd.DataFrame | None) -> list[dict[str, Any]]:
    """The classes annotated in a domain, the costliest first."""
    table = findings.classes.table
    rows = table[(table["domain"] == name) & (table["annotations"] > 0)].set_index("class")
    reference = table[table["domain"] == findings.in_domain.name].set_index("class")
    compared = {} if drops is None else {str(row["class"]): row for row in drops.to_dict("records")}
    costs = [compared.get(str(label), {}).get("cost", float("-inf")) for label in rows.index]
    lost = [compared.get(str(label), {}).get("drop", float("-inf")) for label in rows.index]
    # Classes that cost alike, because chance explains their differences, by what they lose themselves.
    rows = rows.assign(cost=np.round(costs, 4), lost=lost)
    rows = rows.sort_values(["cost", "lost", "annotations"], ascending=False, kind="stable")
    result = []
    for label, row in rows.iterrows():
        drop = compared.get(str(label))
        other = reference.loc[label] if label in reference.index else None
        result.append(
            {
                "class": str(label),
                "annotations": f"{int(row['annotations']):,}",
                "reference_annotations": "–" if other is None else f"{int(other['annotations']):,}",
                "reference_ap50": "–" if other is None else number(other["ap50"]),
                "ap": number(row["ap"]),
                "ap50": number(row["ap50"]),
                "interval": ""
                if row["ap50_low"] != row["ap50_low"]
                else interval(row["ap50_low"], row["ap50_high"]),
                "drop": "–" if drop is None else signed_points(-drop["drop"]),
                "drop_interval": ""
                if drop is None or drop["low"] != drop["low"]
                else points_interval(-drop["high"], -drop["low"]).removeprefix("95 % interval "),
                "cost": "–" if drop is None else signed_points(-drop["cost"], 1),
                "hit": drop is not None and bool(drop["hit"]),
                "precision": number(row["precision"]),
                "recall": number(row["recall"]),
                "f1": number(row["f1"]),
                "best_f1": number(row["best_f1"]),
                "confidence": number(row["best_confidence"]),
                "note": row["note"],
                "small": bool(row["ap50_low"] != row["ap50_low"]),
            }
        )
    return result


def _confusions(findings: Findings, name: str) -> list[str]:
    """The confusions that grew most, and what is predicted where nothing is labelled, as sentences."""
    differences = confusion_differences(findings.classes.confusion, findings.in_domain.name, name)
    grown = differences[(differences["count"] >= MIN_COUNT) & (differences["more"] >= HARMLESS_GAP)]
    unlabelled = grown["actual"] == BACKGROUND
    sentences = [
        _confusion_sentence(row) for row in grown[~unlabelled].head(MAX_SENTENCES).to_dict("records")
    ]
    table = findings.classes.table
    annotated = set(table[(table["domain"] == name) & (table["annotations"] > 0)]["class"])
    known = grown["predicted"].isin(annotated)
    ours = grown[unlabelled & known].head(MAX_NAMED).to_dict("records")
    if ours:
        parts = ", ".join(
            f"{row['count']:,} {row['predicted']} ({percent(row['share'])} of its detections; in-domain "
            f"{percent(row['in_domain_share'])})"
            for row in ours
        )
        sentences.append(
            f"Predicted where nothing is labelled: {parts}. Objects that look alike and that nobody "
            "labelled, or background: the gallery shows which."
        )
    others = grown[unlabelled & ~known].sort_values("count", ascending=False).head(MAX_NAMED)
    if len(others):
        parts = ", ".join(f"{row['count']:,} {row['predicted']}" for row in others.to_dict("records"))
        sentences.append(f"Predicted, and labelled nowhere in {name}: {parts}.")
    return sentences


def _confusion_sentence(row: dict[str, Any]) -> str:
    """One pair of classes."""
    return (
        f"{row['actual']} labelled, {row['predicted']} predicted: {row['count']:,} objects, "
        f"{percent(row['share'])} of all {row['actual']} (in-domain {percent(row['in_domain_share'])})."
    )


def _matrix_classes(findings: Findings, name: str) -> list[str]:
    """The classes of a matrix: those annotated, the most frequent first, then those most predicted."""
    table = findings.classes.table
    rows = table[table["domain"] == name].sort_values(["annotations", "detections"], ascending=False)
    return [str(label) for label in rows["class"].head(MAX_MATRIX)]


def _shares(findings: Findings, name: str, chosen: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts, and shares of each row, of the chosen classes and background."""
    table = findings.classes.confusion
    table = table[table["domain"] == name]
    counts = table.pivot_table(
        index="actual", columns="predicted", values="count", aggfunc="sum", fill_value=0
    )
    totals = counts.sum(axis=1)
    order = [*chosen, BACKGROUND]
    counts = counts.reindex(index=order, columns=order, fill_value=0)
    shares = counts.div(totals.reindex(order).fillna(0).clip(lower=1), axis=0)
    return counts, shares


def _matrix(findings: Findings, name: str, chosen: list[str]) -> dict[str, Any]:
    """The confusion matrix of a domain; each row is what its annotations were predicted as."""
    counts, shares = _shares(findings, name, chosen)
    return {
        "title": f"{name}: predicted",
        "columns": list(counts.columns),
        "rows": [
            (
                actual,
                [
                    _cell(f"{counts.loc[actual, p]:,}", float(shares.loc[actual, p]), actual == p)
                    if not actual == p == BACKGROUND
                    else {"text": "", "style": ""}
                    for p in counts.columns
                ],
            )
            for actual in counts.index
            if actual == BACKGROUND or counts.loc[actual].any()
        ],
    }


def _difference(findings: Findings, name: str, chosen: list[str]) -> dict[str, Any]:
    """How many points more of a row are predicted as a class than in-domain."""
    counts, here = _shares(findings, name, chosen)
    reference_counts, there = _shares(findings, findings.in_domain.name, chosen)
    more = here - there
    rows = []
    for actual in more.index:
        measured = counts.loc[actual].sum() and reference_counts.loc[actual].sum() and actual != BACKGROUND
        cells = []
        for predicted in more.columns:
            value = float(more.loc[actual, predicted])
            worse = value if actual != predicted else -value
            cells.append(
                _cell(signed_points(value), max(worse, 0.0), good=False)
                if measured
                else {"text": "", "style": ""}
            )
        if actual != BACKGROUND:
            rows.append((actual, cells))
    return {
        "title": "Difference in points of each row: predicted",
        "columns": list(more.columns),
        "rows": rows,
    }


def _cell(text: str, share: float, good: bool) -> dict[str, str]:
    """A cell, the darker the larger its share of the row."""
    colour = "0, 158, 115" if good else "213, 94, 0"
    style = f"background: rgba({colour}, {min(1.0, share) * 0.75:.2f})" if share >= 0.005 else ""
    return {"text": "" if text == "0" else text, "style": style}
