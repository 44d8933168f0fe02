"""The page of `shiftscope history`."""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup

from diagnostics.wording import fraction, percent
from reports.page import figures
from reports.page.domains import ROLE_WORDS
from reports.page.slices import number
from reports.page.writer import environment


def history_page(rows: pd.DataFrame, record: dict[str, Any]) -> str:
    """HTML that loads nothing from anywhere.

    rows: one a domain of a report in order of time, see `reports.commands.history`; record: history.json.
    """
    names = list(dict.fromkeys(rows["domain"]))
    roles = dict(zip(rows["domain"], rows["role"], strict=True))
    recent = list(dict.fromkeys(rows.sort_values("created", ascending=False)["domain"]))
    real_world = [name for name in recent if roles[name] == "real_world"][: len(figures.REAL_WORLD)]
    held_out = [name for name in recent if roles[name] == "in_domain"][:1]
    palette = figures.colours(names, roles, real_world)
    drawn = {name: palette[name] for name in (*held_out, *real_world)}
    frame = figures.of_drawn(rows, drawn)
    sizes = frame[frame["ap50"].notna() & frame["training_boxes"].notna()]
    context = {
        "runs": record["runs"],
        "reports": int(rows["report"].nunique()),
        "alarms": record["alarms"],
        "false_alarm": percent(record["false_alarm"]),
        "needed": record["reports_needed"],
        "most": int(rows["earlier"].max()),
        "over_time": Markup(figures.over_time("AP50 of each domain over time", frame, drawn)),
        "by_size": Markup(figures.by_training_size("AP50 by the size of the training set", sizes, drawn))
        if len(set(sizes["training_boxes"])) > 1
        else None,
        "hidden": len(names) - len(drawn),
        "rows": [_row(row) for row in rows.iloc[::-1].to_dict("records")],
        "unreadable": record["unreadable"],
    }
    return environment(escape=True).get_template("history.html.j2").render(context)


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """One line of the table."""
    grade = f" ({row['grade']})" if row["grade"] else ""
    return {
        "created": str(row["created"])[:16].replace("T", " "),
        "report": row["report"],
        "detector": row["detector"],
        "training_boxes": "–" if pd.isna(row["training_boxes"]) else f"{int(row['training_boxes']):,}",
        "domain": row["domain"],
        "role": ROLE_WORDS[row["role"]],
        "images": f"{int(row['images']):,}",
        "ap50": number(row["ap50"]),
        "interval": _interval(row["ap50_low"], row["ap50_high"]),
        "estimated": number(row["estimated_ap50"]),
        "estimated_interval": _interval(row["estimated_low"], row["estimated_high"]),
        "shift": "–" if pd.isna(row["shift"]) else f"{row['shift']:.1f}",
        "verdict": f"{row['verdict'] or ''}{grade}",
        "alarm": f"among the most extreme {percent(row['p'])} of {row['earlier'] + 1}"
        if row["alarm"]
        else "",
    }


def _interval(low: float | None, high: float | None) -> str:
    """Bounds as text; "" without any."""
    return "" if pd.isna(low) or pd.isna(high) else f"[{fraction(low)}, {fraction(high)}]"
