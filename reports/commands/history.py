"""`shiftscope history`: all reports of a folder over time, as one table and one page, with alarms."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from datasets.errors import InputError
from datasets.files import made_folder, write_text
from diagnostics.history import FALSE_ALARM, MIN_EARLIER, watch
from diagnostics.wording import count, fraction, percent
from reports.export.metrics import metrics_of
from reports.options import HistoryOptions
from reports.page.history import history_page
from reports.page.reader import read_report
from reports.page.writer import inert
from reports.plain import plain
from reports.progress import Reporter
from train.environment import runs_folder

PAGE, RECORD, TABLE = "history.html", "history.json", "history.csv"
MEASURED = ("ap50", "ap50_low", "ap50_high", "estimated_ap50", "shift")
COLUMNS = (
    "created",
    "report",
    "detector",
    "imgsz",
    "training_boxes",
    "domain",
    "role",
    "images",
    "ap50",
    "ap50_low",
    "ap50_high",
    "estimated_ap50",
    "estimated_low",
    "estimated_high",
    "shift",
    "verdict",
    "grade",
)


def run_history(options: HistoryOptions, reporter: Reporter) -> tuple[dict[str, Any], Path]:
    """Read every report below a folder and write table and page.

    Parameters
    ----------
    options : HistoryOptions
        Where the reports are, and where to write.
    reporter : Reporter
        Names reports that cannot be read.

    Returns
    -------
    dict
        The content of history.json: rows (one a domain of a report, in order of time), alarms, unreadable.
    Path
        history.html.

    Raises
    ------
    InputError
        There is no such folder, or no report in it.
    """
    root = (options.runs or runs_folder()).absolute()
    if not root.is_dir():
        what = "is a file" if root.exists() else "no such folder"
        raise InputError(f"{root}: {what}; give the folder that holds the reports")
    records, unreadable = [], []
    # A report that is being written lies in a hidden draft folder.
    written = [p for p in root.rglob("report.json") if not p.parent.name.startswith(".")]
    for path in sorted(written):
        try:
            records += _rows(path.parent, root)
        except InputError as problem:
            unreadable.append(str(path))
            reporter.say(f"  left out: {problem}")
    if not records:
        raise InputError(f"{root}: holds no report; write one with 'shiftscope report'")
    rows = pd.DataFrame(records, columns=list(COLUMNS))
    rows = rows.sort_values(["created", "report"], kind="stable").reset_index(drop=True)
    rows = rows.join(watch(rows))
    folder = (options.out or runs_folder() / "history").absolute()
    made_folder(folder)
    record = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "runs": str(root),
        "false_alarm": FALSE_ALARM,
        "reports_needed": MIN_EARLIER,
        "rows": plain(rows),
        "alarms": [sentence(row) for row in rows[rows["alarm"]].to_dict("records")],
        "unreadable": unreadable,
    }
    write_text(folder / RECORD, json.dumps(record, indent=1, allow_nan=False))
    write_text(folder / TABLE, rows.map(inert).to_csv(index=False))
    write_text(folder / PAGE, history_page(rows, record))
    return record, folder / PAGE


def _rows(folder: Path, root: Path) -> list[dict[str, Any]]:
    """One row a domain of a report. Raises InputError where it cannot be read."""
    record = read_report(folder).record
    run = record["run"]
    measured = metrics_of(record)
    estimates = {entry["domain"]: entry for entry in record.get("label_free", [])}
    weights = run.get("sha256") or run.get("detector") or "predictions"
    rows = []
    for domain in record["domains"]:
        name = domain["name"]
        numbers, verdict = measured[name], domain.get("verdict") or {}
        estimate = estimates.get(name, {}) if "estimated_ap50" in numbers else {}
        rows.append(
            {
                "created": record["created"],
                "report": str(folder.relative_to(root)) if folder != root else folder.name,
                "detector": str(weights)[:12],
                "imgsz": run.get("imgsz"),
                "training_boxes": run.get("training_boxes"),
                "domain": name,
                "role": domain["role"],
                "images": domain["images"],
                **{key: numbers.get(key) for key in MEASURED},
                "estimated_low": estimate.get("low"),
                "estimated_high": estimate.get("high"),
                "verdict": verdict.get("cause"),
                "grade": verdict.get("grade"),
            }
        )
    return rows


MEASURE_WORDS = {
    "ap50": "AP50 {value} is lower",
    "estimated_ap50": "AP50 estimated without labels, {value}, is lower",
    "shift": "the shift from the in-domain images, {value} times its reference, is larger",
}


def sentence(row: dict[str, Any]) -> str:
    """One alarm as text."""
    value = f"{row['value']:.1f}" if row["measure"] == "shift" else fraction(row["value"])
    words = MEASURE_WORDS[row["measure"]].format(value=value)
    among = percent(row["p"])
    return (
        f"{row['created'][:10]}, {row['domain']} ({row['report']}): {words} than in nearly all of the "
        f"{row['earlier']} reports before (among the most extreme {among})"
    )


def lines(record: dict[str, Any]) -> list[str]:
    """The history as text: the last report of every domain, and the alarms."""
    rows = record["rows"]
    last: dict[tuple[str, str], dict[str, Any]] = {}
    number: dict[tuple[str, str], int] = {}
    for row in rows:
        key = (row["domain"], row["role"])
        last[key] = row
        number[key] = number.get(key, 0) + 1
    text = [f"{count(len({row['report'] for row in rows}), 'report')} below {record['runs']}"]
    for key, row in last.items():
        if row["ap50"] is not None:
            value = f"AP50 {fraction(row['ap50'])}"
        elif row["estimated_ap50"] is not None:
            value = f"AP50 estimated {fraction(row['estimated_ap50'])}"
        else:
            value = "AP50 not measured"
        text.append(
            f"  {row['domain']}: {count(number[key], 'report')}, the last of {row['created'][:10]}: {value}"
        )
    if record["alarms"]:
        text.append(
            f"alarms ({percent(record['false_alarm'])} of a domain's reports give one by chance where "
            "nothing changes)"
        )
        text += [f"  {alarm}" for alarm in record["alarms"]]
    else:
        most = max((row["earlier"] for row in rows), default=0)
        text.append(
            "no alarm"
            if most >= record["reports_needed"]
            else f"no alarms yet: they take {record['reports_needed']} earlier reports of one detector on "
            "footage of one name, "
            f"{most} are there"
        )
    return text
