"""The shift panel: the result of the report beside the images."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import fiftyone.operators as foo
from fiftyone.operators import types

from datasets.errors import InputError
from diagnostics.domain import BOX_ATTRIBUTES
from diagnostics.label_free import SHOWN
from diagnostics.wording import fraction, interval
from reports.page.slices import label
from reports.workbench.dataset import load_report
from reports.workbench.documents import SHOWN_FLOOR, slice_field
from reports.workbench.operators import LABELS
from reports.workbench.threshold import count_at_threshold, view_at_threshold
from reports.workbench.views import PANEL

# Names the colours of `views.COLOURS`.
LEGEND = (
    "**Colours of boxes:** green true positive or detected object, yellow missed object; false positives are "
    "red on background, violet with IoU 0.1 to 0.5, orange duplicate, blue wrong class, pink wrong class and "
    "low IoU. "
    f"The Model Evaluation panel counts all detections with confidence {SHOWN_FLOOR} or more."
)
BUTTONS = ("tag_label_next", "compare_runs", "hand_off", "send_to_annotation")
AP50_COLUMN = "AP50 [95 % interval]"
# FiftyOne's tables are at least 650 px wide, more than the panel's share of a window 1440 px wide. Long names
# wrap at any character rather than widen a column.
CELL = {"sx": {"padding": "4px 8px", "fontSize": "0.875rem", "overflowWrap": "anywhere"}}
TABLE_PROPS = {
    "table": {"sx": {"minWidth": 0}},
    "tableHeadCell": CELL,
    "tableBodyCell": CELL,
}
# In a grid that wraps, every item takes the full width by default.
BUTTON_PROPS = {"item": {"sx": {"width": "auto"}}}


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    """A table cell such as "0.42 [0.33, 0.49]"; the number alone without an interval."""
    return fraction(value) if low is None or high is None else f"{fraction(value)} {interval(low, high)}"


def _domain_rows(record: dict[str, Any]) -> list[dict[str, str]]:
    """One row per domain: its size and its AP50, which is estimated without labels."""
    measured = {s["domain"]: s for s in record["slices"] if s["slice"] == "all" and s["attribute"] == "all"}
    estimates = {entry["domain"]: entry for entry in record["label_free"] if entry.get("ap50") is not None}
    rows = []
    for entry in record["domains"]:
        scores = measured.get(entry["name"], {})
        estimate = estimates.get(entry["name"])
        ap50 = "not measured"
        if scores.get("ap50") is not None:
            ap50 = _with_interval(scores["ap50"], scores["ap50_low"], scores["ap50_high"])
        elif estimate is not None:
            ap50 = f"{_with_interval(estimate['ap50'], estimate['low'], estimate['high'])}, estimated"
        rows.append(
            {
                "domain": entry["name"],
                "images": f"{entry['images']:,}",
                "clips": f"{entry['groups']:,}",
                "ap50": ap50,
            }
        )
    return rows


def _slice_rows(record: dict[str, Any]) -> list[dict[str, str]]:
    """One row per slice of real-world images with an AP50, lowest first.

    "field" and "value" select the slice's images. Slices without an interval, which have too few clips, come
    last.
    """
    real_world = {entry["name"] for entry in record["domains"] if entry["role"] == "real_world"}
    rows = [
        row
        for row in record["slices"]
        if row["domain"] in real_world
        and row["ap50"] is not None
        and row["attribute"] not in ("all", *BOX_ATTRIBUTES)
    ]
    return [
        {
            "slice": label(row["attribute"], row["slice"]),
            "value": row["slice"],
            "domain": row["domain"],
            "images": str(row["images"]),
            "ap50": _with_interval(row["ap50"], row["ap50_low"], row["ap50_high"]),
            "field": slice_field(row["attribute"]),
        }
        for row in sorted(rows, key=lambda row: (row["ap50_low"] is None, row["ap50"]))
    ]


class ShiftPanel(foo.Panel):  # type: ignore[misc]
    """Primary cause, domains, an adjustable threshold, and slices; a click shows the images."""

    @property
    def config(self) -> Any:
        """Name, label and icon in the App."""
        return foo.PanelConfig(
            name=PANEL,
            label="Shift",
            icon="compare",
            help_markdown="The result of Shiftscope's report on this dataset.",
        )

    def on_load(self, ctx: Any) -> None:
        """Load the report when the panel opens."""
        ctx.panel.set_state("confidence", SHOWN)
        self.load(ctx)

    def on_change_dataset(self, ctx: Any) -> None:
        """Load the report of another dataset."""
        self.load(ctx)

    def load(self, ctx: Any) -> None:
        """Put the report's result into the panel's state."""
        try:
            report = load_report(ctx.dataset)
        except InputError as problem:
            ctx.panel.set_state("problem", str(problem))
            return
        record = report.record
        verdict = record["verdict"]
        # Reports of before have no verdict that is likely only.
        leading = verdict.get("leading", verdict["primary"])
        likely = "Likely: " if verdict.get("grade") == "likely" else ""
        cause = next((h for h in verdict["hypotheses"] if h["code"] == leading), None)
        labelled = [entry["name"] for entry in record["domains"] if entry["labelled_images"]]
        real_world = [
            entry["name"]
            for entry in record["domains"]
            if entry["role"] == "real_world" and entry["name"] in labelled
        ]
        ctx.panel.set_state("problem", "")
        ctx.panel.set_state(
            "cause", {"name": likely + cause["name"], "statement": cause["statement"]} if cause else None
        )
        ctx.panel.set_state("labelled", labelled)
        ctx.panel.set_state("real_world", real_world)
        ctx.panel.set_state("report", f"/media?filepath={quote(str(report.folder / 'report.html'))}")
        ctx.panel.set_state("domains", _domain_rows(record))
        ctx.panel.set_state("slices", _slice_rows(record))
        self.count_outcomes(ctx)

    def count_outcomes(self, ctx: Any) -> None:
        """Count the outcomes of every labelled domain at the threshold."""
        confidence = float(ctx.panel.get_state("confidence") or SHOWN)
        counts = [
            count_at_threshold(ctx.dataset, name, confidence)
            for name in ctx.panel.get_state("labelled") or []
        ]
        ctx.panel.set_state(
            "counts",
            [
                {
                    "domain": row.domain,
                    "true_positives": str(row.true_positives),
                    "false_positives": str(row.false_positives),
                    "missed": str(row.missed),
                    "precision": "" if row.precision is None else fraction(row.precision),
                    "recall": "" if row.recall is None else fraction(row.recall),
                }
                for row in counts
            ],
        )

    def set_threshold(self, ctx: Any) -> None:
        """Count at the slider's threshold."""
        ctx.panel.set_state("confidence", round(float(ctx.params["value"]), 2))
        self.count_outcomes(ctx)

    def show_errors(self, ctx: Any) -> None:
        """Show the images with errors of a kind at the threshold."""
        confidence = float(ctx.panel.get_state("confidence") or SHOWN)
        domains = ctx.panel.get_state("real_world")
        ctx.ops.set_view(view=view_at_threshold(ctx.dataset, domains, confidence, ctx.params["errors"]))

    def show_slice(self, ctx: Any) -> None:
        """Show the images of a slice."""
        from fiftyone import ViewField as F

        row = ctx.panel.get_state("slices")[int(ctx.params["row"])]
        ctx.ops.set_view(
            view=ctx.dataset.match((F("domain") == row["domain"]) & (F(row["field"]) == row["value"]))
        )

    def render(self, ctx: Any) -> Any:
        """Build the panel from its state alone."""
        panel = types.Object()
        state = ctx.panel.get_state
        if state("problem"):
            panel.md(state("problem"), name="problem")
            return types.Property(panel, view=types.VStackView(gap=2, pad=2))
        if cause := state("cause"):
            panel.md(f"**{cause['name']}.** {cause['statement']}", name="cause_text")
        columns = {"domain": "Domain", "images": "Images", "clips": "Clips", "ap50": AP50_COLUMN}
        _add_table(panel, "domains", columns)
        panel.btn(
            "open_report",
            label="Open the report",
            icon="open_in_new",
            variant="outlined",
            href=state("report"),
        )
        if state("labelled"):
            self._add_threshold(panel, state("confidence") or SHOWN)
        if state("real_world"):
            self._add_error_buttons(panel)
        if state("slices"):
            self._add_slices(panel)
        panel.md(LEGEND, name="legend")
        _add_operator_buttons(panel)
        return types.Property(panel, view=types.VStackView(gap=2, pad=2))

    def _add_threshold(self, panel: Any, confidence: float) -> None:
        """Add the threshold's slider and the counts at it."""
        panel.md(f"**Detections with confidence {confidence:.2f} or more**", name="threshold_title")
        panel.float(
            "confidence",
            default=SHOWN,
            min=SHOWN_FLOOR,
            max=0.95,
            view=types.SliderView(value_precision=2),
            on_change=self.set_threshold,
        )
        columns = {
            "domain": "Domain",
            "true_positives": "True positives",
            "false_positives": "False positives",
            "missed": "Missed",
            "precision": "Precision",
            "recall": "Recall",
        }
        _add_table(panel, "counts", columns)

    def _add_error_buttons(self, panel: Any) -> None:
        """Add the buttons that show real-world images at the threshold."""
        buttons = panel.grid("show", gap=1)
        for errors, title in (
            ("false positives", "Show false positives"),
            ("missed", "Show missed"),
            ("all", "Show all images"),
        ):
            buttons.btn(
                errors.replace(" ", "_"),
                label=title,
                variant="outlined",
                componentsProps=BUTTON_PROPS,
                on_click=self.show_errors,
                params={"errors": errors},
            )

    def _add_slices(self, panel: Any) -> None:
        """Add the table of slices."""
        panel.md(
            "**Real-world slices, lowest AP50 first.** Slices with too few clips for an interval come last. "
            "Click a row to show its images.",
            name="slices_title",
        )
        columns = {"slice": "Slice", "domain": "Domain", "images": "Images", "ap50": AP50_COLUMN}
        _add_table(panel, "slices", columns, on_click_row=self.show_slice)


def _add_table(panel: Any, name: str, columns: dict[str, str], **actions: Any) -> None:
    """Add a table of the rows that the panel's state holds under a name. columns: key -> title."""
    view = types.TableView(componentsProps=TABLE_PROPS, **actions)
    for key, title in columns.items():
        view.add_column(key, label=title)
    panel.list(name, types.Object(), view=view)


def _add_operator_buttons(panel: Any) -> None:
    """Add the buttons that run operators."""
    buttons = panel.grid("actions", gap=1)
    for operator in BUTTONS:
        buttons.btn(
            operator,
            label=LABELS[operator],
            variant="outlined",
            componentsProps=BUTTON_PROPS,
            on_click=f"@shiftscope/shift/{operator}",
            prompt=True,
        )
