"""What can be done from the App: mark pictures for labelling, compare with another run, hand pictures to whoever labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pandas as pd
from fiftyone.operators import types

from datasets.errors import InputError
from diagnostics.label_free import SHOWN
from diagnostics.wording import count
from reports.handoff import write_handoff
from reports.workbench.dataset import PREFIX, report_of
from reports.workbench.models import compare_with

TAG = "label next"


def chosen(ctx: Any) -> Any:
    """The selected pictures, or those of the selected boxes, or else every picture of the view."""
    wanted = ctx.selected or sorted({label["sample_id"] for label in ctx.selected_labels})
    return ctx.dataset.select(wanted) if wanted else ctx.view


def told(outputs: Any, words: str) -> Any:
    """The outcome as a paragraph."""
    outputs.md(words)
    return types.Property(outputs)


class SendToLabelNext(foo.Operator):  # type: ignore[misc]
    """Tags pictures, so that they are read back by `shiftscope app --pull` and handed off."""

    @property
    def config(self) -> Any:
        """How the App lists it."""
        return foo.OperatorConfig(
            name="send_to_label_next", label="Send to label next", icon="label", dynamic=True
        )

    def resolve_input(self, ctx: Any) -> Any:
        """Say which pictures, before it is done."""
        inputs = types.Object()
        where = "selected" if ctx.selected or ctx.selected_labels else "in the view: select some for fewer"
        inputs.md(f"{count(len(chosen(ctx)), 'picture')} {where}.", name="which")
        inputs.bool("undo", label="Take the tag away instead", default=False)
        return types.Property(inputs)

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Tag, or untag."""
        view = chosen(ctx)
        if ctx.params.get("undo"):
            view.untag_samples(TAG)
        else:
            view.tag_samples(TAG)
        ctx.ops.reload_dataset()
        return {
            "words": f"{count(len(view), 'picture')} {'no longer ' if ctx.params.get('undo') else ''}tagged “{TAG}”; {count(len(ctx.dataset.match_tags(TAG)), 'picture')} in all. Read back with `shiftscope app --pull`."
        }

    def resolve_output(self, ctx: Any) -> Any:
        """What was done."""
        return told(types.Object(), ctx.results["words"])


class CompareRuns(foo.Operator):  # type: ignore[misc]
    """Brings another report's detections of the same pictures into this dataset, and shows where the two runs disagree."""

    @property
    def config(self) -> Any:
        """How the App lists it."""
        return foo.OperatorConfig(name="compare_runs", label="Compare runs", icon="compare_arrows")

    def resolve_input(self, ctx: Any) -> Any:
        """Offer the other reports."""
        inputs = types.Object()
        others = [name for name in fo.list_datasets(f"{PREFIX}*") if name != ctx.dataset.name]
        if not others:
            inputs.view(
                "none",
                types.Warning(
                    label="There is no other report: write one of another run on the same pictures first."
                ),
            )
            return types.Property(inputs, invalid=True)
        inputs.enum("other", others, label="Compare with", required=True)
        return types.Property(inputs)

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Compare, and show the disagreements."""
        try:
            lines, view = compare_with(
                fo, ctx.dataset, report_of(ctx.dataset), report_of(fo.load_dataset(ctx.params["other"]))
            )
        except InputError as problem:
            return {"words": str(problem)}
        ctx.ops.reload_dataset()
        ctx.ops.set_view(name=view)
        return {"words": "\n\n".join(lines)}

    def resolve_output(self, ctx: Any) -> Any:
        """The comparison in words."""
        return told(types.Object(), ctx.results["words"])


class HandOff(foo.Operator):  # type: ignore[misc]
    """Copies pictures and drafts of their labels into a folder that annotation tools read. Nothing leaves the machine."""

    @property
    def config(self) -> Any:
        """How the App lists it."""
        return foo.OperatorConfig(
            name="hand_off", label="Hand off for labelling", icon="drive_file_move", dynamic=True
        )

    def pictures(self, ctx: Any) -> Any:
        """Those tagged; without any, what is chosen."""
        tagged = ctx.dataset.match_tags(TAG)
        return tagged if len(tagged) else chosen(ctx)

    def resolve_input(self, ctx: Any) -> Any:
        """Say what and where to."""
        inputs = types.Object()
        which = f"tagged “{TAG}”" if len(ctx.dataset.match_tags(TAG)) else "selected, or in the view"
        inputs.md(
            f"{count(len(self.pictures(ctx)), 'picture')} {which}, with the detector's boxes as a draft, as YOLO, COCO, CVAT and Label Studio files in a new folder beside the report. Nothing leaves this machine.",
            name="which",
        )
        return types.Property(inputs)

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Write the folder."""
        try:
            written = report_of(ctx.dataset)
            view = self.pictures(ctx)
            names = ("domain", "group", "image_id", "filepath", "label_next")
            table = pd.DataFrame(
                dict(
                    zip(("domain", "group", "image", "path", "place"), view.values(list(names)), strict=True)
                )
            )
            table = table.sort_values("place", kind="stable", na_position="last").reset_index(drop=True)
            table["rank"] = table.index + 1
            folder = free_folder(written.folder)
            write_handoff(folder, table, written.domains, written.record["run"]["classes"], SHOWN, None)
        except (InputError, OSError) as problem:
            return {"words": f"Not written: {problem}"}
        return {
            "words": f"{count(len(table), 'picture')} in `{folder}`. It is a YOLO dataset; `coco.json`, `cvat.xml` and `label-studio.json` are for annotation tools."
        }

    def resolve_output(self, ctx: Any) -> Any:
        """Where it is."""
        return told(types.Object(), ctx.results["words"])


def free_folder(report: Path) -> Path:
    """hand-off, or hand-off-2, -3 ...: somebody may have mended labels in an earlier one."""
    folder, number = report / "hand-off", 2
    while folder.exists():
        folder, number = report / f"hand-off-{number}", number + 1
    return folder
