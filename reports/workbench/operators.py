"""What can be done from the App: mark images for labelling, compare with another run, hand images to whoever labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fiftyone as fo
import fiftyone.operators as foo
import pandas as pd
from fiftyone.operators import types

from datasets.corrections import LABEL_NEXT as TAG
from datasets.errors import InputError
from diagnostics.label_free import SHOWN
from diagnostics.wording import count
from reports.export.handoff import write_handoff
from reports.workbench.dataset import of_reports, report_of
from reports.workbench.models import compare_with
from train.environment import frames_folder


def chosen(ctx: Any) -> Any:
    """The selected images, or those of the selected boxes, or else every image of the view."""
    wanted = ctx.selected or sorted({label["sample_id"] for label in ctx.selected_labels})
    return ctx.dataset.select(wanted) if wanted else ctx.view


class Saying(foo.Operator):  # type: ignore[misc]
    """An operator whose result is a paragraph: {"words": markdown}."""

    def resolve_output(self, ctx: Any) -> Any:
        """Show it."""
        outputs = types.Object()
        outputs.md(ctx.results["words"])
        return types.Property(outputs)


class SendToLabelNext(Saying):
    """Tags images, so that they are read back by `shiftscope app --pull` and handed off."""

    @property
    def config(self) -> Any:
        """How the App lists it."""
        return foo.OperatorConfig(
            name="send_to_label_next", label="Send to label next", icon="label", dynamic=True
        )

    def resolve_input(self, ctx: Any) -> Any:
        """Say which images, before it is done."""
        inputs = types.Object()
        number = count(len(chosen(ctx)), "image")
        some = bool(ctx.selected or ctx.selected_labels)
        if some:
            inputs.md(f"{number} selected. Execute tags them “{TAG}”.", name="which")
        else:
            inputs.bool("all", label=f"Nothing is selected: tag all {number} of the view", default=False)
        inputs.bool("undo", label="Take the tag away instead", default=False)
        if some or ctx.params.get("all"):
            return types.Property(inputs)
        return types.Property(inputs, invalid=True, error_message="Select images, or agree to all of them.")

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Tag, or untag."""
        view = chosen(ctx)
        if ctx.params.get("undo"):
            view.untag_samples(TAG)
        else:
            view.tag_samples(TAG)
        ctx.ops.reload_dataset()
        return {
            "words": f"{count(len(view), 'image')} {'no longer ' if ctx.params.get('undo') else ''}tagged “{TAG}”; {count(len(ctx.dataset.match_tags(TAG)), 'image')} in all. Read back with `shiftscope app --pull`."
        }


class CompareRuns(Saying):
    """Brings another report's detections of the same images into this dataset, and shows where the two runs disagree."""

    @property
    def config(self) -> Any:
        """How the App lists it."""
        return foo.OperatorConfig(name="compare_runs", label="Compare runs", icon="compare_arrows")

    def resolve_input(self, ctx: Any) -> Any:
        """Offer the other reports."""
        inputs = types.Object()
        others = [name for name in of_reports(fo) if name != ctx.dataset.name]
        if not others:
            inputs.view(
                "none",
                types.Warning(
                    label="There is no other report: write one of another run on the same images first."
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


def _marked(ctx: Any) -> tuple[Any, str]:
    """The images tagged to be labelled next, or without any those chosen; and which of the two in words."""
    tagged = ctx.dataset.match_tags(TAG)
    if len(tagged):
        return tagged, f"tagged “{TAG}”"
    return chosen(ctx), "selected, or in the view"


class HandOff(Saying):
    """Copies images and drafts of their labels into a folder that annotation tools read. Nothing leaves the machine."""

    @property
    def config(self) -> Any:
        """How the App lists it."""
        return foo.OperatorConfig(
            name="hand_off", label="Hand off for labelling", icon="drive_file_move", dynamic=True
        )

    def resolve_input(self, ctx: Any) -> Any:
        """Say what and where to."""
        inputs = types.Object()
        view, which = _marked(ctx)
        inputs.md(
            f"{count(len(view), 'image')} {which}, with the detector's boxes as a draft, as YOLO, COCO, CVAT and Label Studio files in a new folder beside the report. Labelled images keep the labels that the report saw; for corrections made here since, run `shiftscope app --pull` and the report first. Nothing leaves this machine.",
            name="which",
        )
        return types.Property(inputs)

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Write the folder."""
        try:
            written = report_of(ctx.dataset)
            view, _ = _marked(ctx)
            names = ("domain", "group", "image_id", "filepath", "label_next")
            table = pd.DataFrame(
                dict(
                    zip(("domain", "group", "image", "path", "place"), view.values(list(names)), strict=True)
                )
            )
            table = table.sort_values("place", kind="stable", na_position="last").reset_index(drop=True)
            table["rank"] = table.index + 1
            folder = _free_folder(written.folder)
            write_handoff(
                folder,
                table,
                written.domains,
                written.record["run"]["classes"],
                SHOWN,
                None,
                frames_folder(),
            )
        except (InputError, OSError) as problem:
            return {"words": f"Not written: {problem}"}
        except (KeyError, IndexError):
            return {"words": "Not written: there are images that the report does not know; select others."}
        return {
            "words": f"{count(len(table), 'image')} in `{folder}`. It is a YOLO dataset; `coco.json`, `cvat.xml` and `label-studio.json` are for annotation tools."
        }


class SendToAnnotation(Saying):
    """Sends images to an annotation server by FiftyOne's `annotate`. They leave the machine, so the host has to be typed."""

    @property
    def config(self) -> Any:
        """How the App lists it."""
        return foo.OperatorConfig(
            name="send_to_annotation", label="Send to an annotation server", icon="cloud_upload", dynamic=True
        )

    def resolve_input(self, ctx: Any) -> Any:
        """Ask which server, and for its name."""
        inputs = types.Object()
        inputs.enum("backend", sorted(hosts()), label="Server", required=True)
        host = hosts().get(ctx.params.get("backend"))
        if host is None:
            return types.Property(inputs)
        view, which = _marked(ctx)
        inputs.md(
            f"{count(len(view), 'image')} {which} would **leave this machine** and be uploaded to **{host}**, with their labels. Addresses and credentials are those of FiftyOne's annotation config.",
            name="warning",
        )
        inputs.str("host", label=f"Type {host} to agree", required=True)
        inputs.str("key", label="Name of this round of labelling", default="round_1", required=True)
        if ctx.params.get("host") == host:
            return types.Property(inputs)
        return types.Property(inputs, invalid=True, error_message="Nothing is sent until the host is typed.")

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Upload, if the host was typed."""
        host = hosts().get(ctx.params.get("backend"))
        if host is None or ctx.params.get("host") != host:
            return {"words": "Nothing was sent: the host was not typed."}
        view, _ = _marked(ctx)
        view.annotate(
            ctx.params["key"],
            backend=ctx.params["backend"],
            label_field="ground_truth",
            label_type="detections",
            classes=list(ctx.dataset.default_classes),
            launch_editor=False,
        )
        return {
            "words": f"{count(len(view), 'image')} sent to {host}. When they are labelled, “Fetch annotations” brings the labels here, and `shiftscope app --pull` reads them back."
        }


class FetchAnnotations(Saying):
    """Brings labels back from an annotation server."""

    @property
    def config(self) -> Any:
        """How the App lists it."""
        return foo.OperatorConfig(name="fetch_annotations", label="Fetch annotations", icon="cloud_download")

    def resolve_input(self, ctx: Any) -> Any:
        """Ask which round."""
        inputs = types.Object()
        rounds = ctx.dataset.list_annotation_runs()
        if not rounds:
            inputs.view("none", types.Warning(label="Nothing was sent to an annotation server from here."))
            return types.Property(inputs, invalid=True)
        inputs.enum("key", rounds, label="Round of labelling", required=True)
        return types.Property(inputs)

    def execute(self, ctx: Any) -> dict[str, Any]:
        """Merge the labels."""
        # Labels of kinds that were not asked for would be asked about on the server's own terminal.
        ctx.dataset.load_annotations(ctx.params["key"], unexpected="ignore")
        ctx.ops.reload_dataset()
        return {
            "words": f"Labels of {ctx.params['key']} are here; `shiftscope app --pull` reads them back for the next report."
        }


def hosts() -> dict[str, str]:
    """Annotation servers that FiftyOne is set up for: name -> host."""
    found = {
        name: urlsplit(str(given.get("url", ""))).hostname
        for name, given in (fo.annotation_config.backends or {}).items()
    }
    return {name: host for name, host in found.items() if host}


def _free_folder(report: Path) -> Path:
    """hand-off, or hand-off-2, -3 ...: somebody may have repaired labels in an earlier one."""
    folder, number = report / "hand-off", 2
    while folder.exists():
        folder, number = report / f"hand-off-{number}", number + 1
    return folder
