"""The shift panel: what the report says, beside the images it speaks of."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import fiftyone.operators as foo
from fiftyone.operators import types

from datasets.errors import InputError
from diagnostics.label_free import SHOWN
from diagnostics.wording import fraction
from reports.page.slices import label
from reports.workbench.dataset import report_of
from reports.workbench.documents import SHOWN_FLOOR, slice_field
from reports.workbench.threshold import at_threshold, count_at_threshold
from reports.workbench.views import PANEL

# Colours of `views.COLOURS`, in words.
LEGEND = (
    "Boxes: green true positives and objects found, red on nothing, violet on an object but badly placed, orange a second one on the same object, "
    "blue of another class, yellow objects missed. The Model Evaluation panel counts every box from 0.05 up, whatever the threshold here."
)


def interval(low: float | None, high: float | None) -> str:
    """An interval beside its number in a table's cell."""
    return "" if low is None or high is None else f" ({fraction(low)} to {fraction(high)})"


def _domain_rows(record: dict[str, Any]) -> list[dict[str, str]]:
    """One row a domain: its size and its AP50."""
    whole = {s["domain"]: s for s in record["slices"] if s["slice"] == "all" and s["attribute"] == "all"}
    estimates = {entry["domain"]: entry for entry in record["label_free"] if entry.get("ap50") is not None}
    rows = []
    for entry in record["domains"]:
        scored = whole.get(entry["name"], {})
        read = estimates.get(entry["name"])
        ap50, low, high = (scored.get(key) for key in ("ap50", "ap50_low", "ap50_high"))
        value = fraction(ap50) if ap50 is not None else ""
        if ap50 is None and read is not None:
            value, low, high = f"read as {fraction(read['ap50'])}", read["low"], read["high"]
        rows.append(
            {
                "domain": entry["name"],
                "images": f"{entry['images']:,}",
                "clips": f"{entry['groups']:,}",
                "ap50": f"{value}{interval(low, high)}" if value else "not measured",
            }
        )
    return rows


def slice_rows(record: dict[str, Any]) -> list[dict[str, str]]:
    """One row a slice of whole real-world images with an AP50, lowest first, those without an interval (too few clips) last. field and value find its images."""
    real_world = {entry["name"] for entry in record["domains"] if entry["role"] == "real_world"}
    chosen = [
        s
        for s in record["slices"]
        if s["domain"] in real_world
        and s["ap50"] is not None
        and s["attribute"] not in ("all", "size", "shape", "place")
    ]
    return [
        {
            "slice": label(s["attribute"], s["slice"]),
            "value": s["slice"],
            "domain": s["domain"],
            "images": str(s["images"]),
            "ap50": fraction(s["ap50"]) + interval(s["ap50_low"], s["ap50_high"]),
            "field": slice_field(s["attribute"]),
        }
        for s in sorted(chosen, key=lambda s: (s["ap50_low"] is None, s["ap50"]))
    ]


class ShiftPanel(foo.Panel):  # type: ignore[misc]
    """Verdict, domains, a threshold to move, and the slices, each a click away from its images."""

    @property
    def config(self) -> Any:
        """How the App lists it."""
        return foo.PanelConfig(
            name=PANEL,
            label="Shift",
            icon="compare",
            help_markdown="What Shiftscope's report says of this dataset.",
        )

    def on_load(self, ctx: Any) -> None:
        """Read the report once."""
        ctx.panel.set_state("confidence", SHOWN)
        self.load(ctx)

    def on_change_dataset(self, ctx: Any) -> None:
        """Another report."""
        self.load(ctx)

    def load(self, ctx: Any) -> None:
        """Everything but the threshold's numbers."""
        try:
            written = report_of(ctx.dataset)
        except InputError as problem:
            ctx.panel.set_state("problem", str(problem))
            return
        record = written.record
        verdict = record["verdict"]
        named = next((h for h in verdict["hypotheses"] if h["code"] == verdict["primary"]), None)
        labelled = [d["name"] for d in record["domains"] if d["labelled_images"]]
        real_world = [
            d["name"] for d in record["domains"] if d["role"] == "real_world" and d["name"] in labelled
        ]
        ctx.panel.set_state("problem", "")
        ctx.panel.set_state(
            "verdict", {"name": named["name"], "statement": named["statement"]} if named else None
        )
        ctx.panel.set_state("labelled", labelled)
        ctx.panel.set_state("real_world", real_world)
        ctx.panel.set_state("report", f"/media?filepath={quote(str(written.folder / 'report.html'))}")
        ctx.panel.set_state("domains", _domain_rows(record))
        ctx.panel.set_state("slices", slice_rows(record))
        self.count_at_threshold(ctx)

    def count_at_threshold(self, ctx: Any) -> None:
        """Count anew at the threshold."""
        confidence = float(ctx.panel.get_state("confidence") or SHOWN)
        told = [
            count_at_threshold(ctx.dataset, name, confidence)
            for name in ctx.panel.get_state("labelled") or []
        ]
        ctx.panel.set_state(
            "told",
            [
                {
                    "domain": t.domain,
                    "true_positives": str(t.true_positives),
                    "false_positives": str(t.false_positives),
                    "missed": str(t.missed),
                    "precision": "" if t.precision is None else fraction(t.precision),
                    "recall": "" if t.recall is None else fraction(t.recall),
                }
                for t in told
            ],
        )

    def move(self, ctx: Any) -> None:
        """The threshold was moved."""
        ctx.panel.set_state("confidence", round(float(ctx.params["value"]), 2))
        self.count_at_threshold(ctx)

    def show(self, ctx: Any) -> None:
        """The images as they look at the threshold."""
        confidence = float(ctx.panel.get_state("confidence") or SHOWN)
        view = at_threshold(ctx.dataset, ctx.panel.get_state("real_world"), confidence, ctx.params["errors"])
        ctx.ops.set_view(view=view)

    def show_slice(self, ctx: Any) -> None:
        """The images of a slice."""
        from fiftyone import ViewField as F

        row = ctx.panel.get_state("slices")[int(ctx.params["row"])]
        ctx.ops.set_view(
            view=ctx.dataset.match((F("domain") == row["domain"]) & (F(row["field"]) == row["value"]))
        )

    def render(self, ctx: Any) -> Any:
        """The panel's content, from its state alone."""
        panel = types.Object()
        state = ctx.panel.get_state
        if state("problem"):
            panel.md(state("problem"), name="problem")
            return types.Property(panel, view=types.VStackView(gap=2))
        verdict = state("verdict")
        if verdict:
            panel.md(f"**{verdict['name']}.** {verdict['statement']}", name="verdict_text")
        table(
            panel,
            "domains",
            {"domain": "Domain", "images": "Images", "clips": "Clips", "ap50": "AP50 (95 % interval)"},
        )
        panel.btn(
            "open_report",
            label="Open the report",
            icon="open_in_new",
            variant="outlined",
            href=state("report"),
        )
        if state("labelled"):
            confidence = state("confidence") or SHOWN
            panel.md(
                f"**At confidence {confidence:.2f} and above** (the buttons below show the images so)",
                name="threshold_title",
            )
            panel.float(
                "confidence",
                default=SHOWN,
                min=SHOWN_FLOOR,
                max=0.95,
                view=types.SliderView(value_precision=2),
                on_change=self.move,
            )
            table(
                panel,
                "told",
                {
                    "domain": "Domain",
                    "true_positives": "True positives",
                    "false_positives": "False positives",
                    "missed": "Missed",
                    "precision": "Precision",
                    "recall": "Recall",
                },
            )
        if state("real_world"):
            row = panel.h_stack("show", gap=1)
            for errors in ("false positives", "missed", "all"):
                label = "Everything at this threshold" if errors == "all" else f"Show {errors}"
                row.btn(
                    errors.replace(" ", "_"),
                    label=label,
                    variant="outlined",
                    on_click=self.show,
                    params={"errors": errors},
                )
        if state("slices"):
            panel.md(
                "**Real-world slices, lowest first;** those of too few clips for an interval come last. A click shows a slice's images.",
                name="slices_title",
            )
            columns = {
                "slice": "Slice",
                "domain": "Domain",
                "images": "Images",
                "ap50": "AP50 (95 % interval)",
            }
            table(panel, "slices", columns, on_click_row=self.show_slice)
        panel.md(LEGEND, name="legend")
        actions = panel.h_stack("actions", gap=1)
        for operator, label in (
            ("send_to_label_next", "Send to label next"),
            ("compare_runs", "Compare runs"),
            ("hand_off", "Hand off for labelling"),
            ("send_to_annotation", "Send to a server"),
        ):
            actions.btn(
                operator,
                label=label,
                variant="outlined",
                on_click=f"@shiftscope/shift/{operator}",
                prompt=True,
            )
        return types.Property(panel, view=types.VStackView(gap=2))


def table(panel: Any, name: str, columns: dict[str, str], **actions: Any) -> None:
    """A table of rows that stand in the panel's state under name."""
    view = types.TableView(**actions)
    for key, title in columns.items():
        view.add_column(key, label=title)
    panel.list(name, types.Object(), view=view)
