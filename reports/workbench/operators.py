"""Actions in the App: tag images for labelling, compare with another run, hand images off for labelling."""

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
from reports.workbench.dataset import load_report, report_datasets
from reports.workbench.models import compare_with

# Labels of the operators, which the buttons of the shift panel share.
LABELS = {
    "tag_label_next": "Tag as label next",
    "compare_runs": "Compare runs",
    "hand_off": "Hand off for labelling",
    "send_to_annotation": "Send to an annotation server",
    "fetch_annotations": "Fetch annotations",
}
Message = dict[str, str]


def _selected_view(ctx: Any) -> Any:
    """The selected images, or the images of the selected boxes, or else every image of the view."""
    ids = ctx.selected or sorted({label["sample_id"] for label in ctx.selected_labels})
    return ctx.dataset.select(ids) if ids else ctx.view


def _tagged_view(ctx: Any) -> tuple[Any, str]:
    """The images tagged "label next", or else the selected ones; and which of the two, in words."""
    tagged = ctx.dataset.match_tags(TAG)
    if len(tagged):
        return tagged, f"tagged “{TAG}”"
    return _selected_view(ctx), "selected, or in the view"


class MessageOperator(foo.Operator):  # type: ignore[misc]
    """An operator whose result is a paragraph: {"message": Markdown}."""

    def resolve_output(self, ctx: Any) -> Any:
        """Show the message."""
        outputs = types.Object()
        outputs.md(ctx.results["message"])
        return types.Property(outputs)


class TagLabelNext(MessageOperator):
    """Tag images "label next": `shiftscope app --pull` reads the tag, and "Hand off" exports the images."""

    @property
    def config(self) -> Any:
        """Name, label and icon in the App."""
        name = "tag_label_next"
        return foo.OperatorConfig(name=name, label=LABELS[name], icon="label", dynamic=True)

    def resolve_input(self, ctx: Any) -> Any:
        """Show which images are tagged; without a selection, require consent to tag the view."""
        inputs = types.Object()
        number = count(len(_selected_view(ctx)), "image")
        has_selection = bool(ctx.selected or ctx.selected_labels)
        if has_selection:
            inputs.md(f"{number} selected. Execute tags them “{TAG}”.", name="which")
        else:
            inputs.bool("all", label=f"Nothing is selected: tag all {number} of the view", default=False)
        inputs.bool("undo", label="Remove the tag instead", default=False)
        if has_selection or ctx.params.get("all"):
            return types.Property(inputs)
        return types.Property(inputs, invalid=True, error_message="Select images, or agree to all of them.")

    def execute(self, ctx: Any) -> Message:
        """Add or remove the tag."""
        view, undo = _selected_view(ctx), bool(ctx.params.get("undo"))
        if undo:
            view.untag_samples(TAG)
        else:
            view.tag_samples(TAG)
        ctx.ops.reload_dataset()
        total = count(len(ctx.dataset.match_tags(TAG)), "image")
        return {
            "message": f"{count(len(view), 'image')} {'no longer ' if undo else ''}tagged “{TAG}”; "
            f"{total} in total. `shiftscope app --pull` reads the tags back."
        }


class CompareRuns(MessageOperator):
    """Add another report's detections of the same images, and show where the two runs disagree."""

    @property
    def config(self) -> Any:
        """Name, label and icon in the App."""
        name = "compare_runs"
        return foo.OperatorConfig(name=name, label=LABELS[name], icon="compare_arrows")

    def resolve_input(self, ctx: Any) -> Any:
        """List the other reports."""
        inputs = types.Object()
        others = [name for name in report_datasets(fo) if name != ctx.dataset.name]
        if not others:
            label = "There is no other report. First write one of another run on the same images."
            inputs.view("none", types.Warning(label=label))
            return types.Property(inputs, invalid=True)
        inputs.enum("other", others, label="Compare with", required=True)
        return types.Property(inputs)

    def execute(self, ctx: Any) -> Message:
        """Compare, and show the disagreements."""
        try:
            sentences, view = compare_with(
                fo, ctx.dataset, load_report(ctx.dataset), load_report(fo.load_dataset(ctx.params["other"]))
            )
        except InputError as problem:
            return {"message": str(problem)}
        ctx.ops.reload_dataset()
        ctx.ops.set_view(name=view)
        return {"message": "\n\n".join(sentences)}


class HandOff(MessageOperator):
    """Copy images with draft labels into a folder that annotation tools read. Nothing leaves the machine."""

    @property
    def config(self) -> Any:
        """Name, label and icon in the App."""
        name = "hand_off"
        return foo.OperatorConfig(name=name, label=LABELS[name], icon="drive_file_move", dynamic=True)

    def resolve_input(self, ctx: Any) -> Any:
        """Show which images are exported, and how."""
        inputs = types.Object()
        view, which = _tagged_view(ctx)
        inputs.md(
            f"{count(len(view), 'image')} {which}, with the detections as draft labels: YOLO, COCO, CVAT and "
            "Label Studio files in a new folder in the report's. Labelled images keep the labels of the "
            "report. To export later corrections, run `shiftscope app --pull` and write the report first. "
            "Nothing leaves this machine.",
            name="which",
        )
        return types.Property(inputs)

    def execute(self, ctx: Any) -> Message:
        """Write the folder."""
        try:
            report = load_report(ctx.dataset)
            view, _ = _tagged_view(ctx)
            fields = ["domain", "group", "image_id", "filepath", "label_next"]
            columns = ("domain", "group", "image", "path", "rank")
            images = pd.DataFrame(dict(zip(columns, view.values(fields), strict=True)))
            images = images.sort_values("rank", kind="stable", na_position="last").reset_index(drop=True)
            images["rank"] = images.index + 1
            folder = _free_folder(report.folder)
            write_handoff(
                folder,
                images,
                report.domains,
                classes=report.record["run"]["classes"],
                confidence=SHOWN,
                training_images=None,
            )
        except (InputError, OSError) as problem:
            return {"message": f"Not written: {problem}"}
        except (KeyError, IndexError):
            return {"message": "Not written: some of these images are not in the report; select others."}
        return {
            "message": f"{count(len(images), 'image')} in `{folder}`. It is a YOLO dataset; `coco.json`, "
            "`cvat.xml` and `label-studio.json` are for annotation tools."
        }


class SendToAnnotation(MessageOperator):
    """Upload images to an annotation server with FiftyOne's `annotate`.

    They leave the machine, so the user has to type the host to agree.
    """

    @property
    def config(self) -> Any:
        """Name, label and icon in the App."""
        name = "send_to_annotation"
        return foo.OperatorConfig(name=name, label=LABELS[name], icon="cloud_upload", dynamic=True)

    def resolve_input(self, ctx: Any) -> Any:
        """Require a server, and its host typed."""
        inputs = types.Object()
        hosts = annotation_hosts()
        inputs.enum("backend", sorted(hosts), label="Server", required=True)
        host = hosts.get(ctx.params.get("backend"))
        if host is None:
            return types.Property(inputs)
        view, which = _tagged_view(ctx)
        inputs.md(
            f"{count(len(view), 'image')} {which} would **leave this machine** "
            f"and be uploaded to **{host}**, with their labels. "
            "FiftyOne's annotation config holds addresses and credentials.",
            name="warning",
        )
        inputs.str("host", label=f"Type {host} to agree", required=True)
        inputs.str("key", label="Name of this round of labelling", default="round_1", required=True)
        if ctx.params.get("host") == host:
            return types.Property(inputs)
        return types.Property(inputs, invalid=True, error_message="Nothing is sent until the host is typed.")

    def execute(self, ctx: Any) -> Message:
        """Upload, if the host was typed."""
        host = annotation_hosts().get(ctx.params.get("backend"))
        if host is None or ctx.params.get("host") != host:
            return {"message": "Nothing was sent: the host was not typed."}
        view, _ = _tagged_view(ctx)
        view.annotate(
            ctx.params["key"],
            backend=ctx.params["backend"],
            label_field="ground_truth",
            label_type="detections",
            classes=list(ctx.dataset.default_classes),
            launch_editor=False,
        )
        return {
            "message": f"{count(len(view), 'image')} sent to {host}. Once they are labelled, "
            f"“{LABELS['fetch_annotations']}” loads the labels into this dataset, and "
            "`shiftscope app --pull` reads them back."
        }


class FetchAnnotations(MessageOperator):
    """Load labels from an annotation server."""

    @property
    def config(self) -> Any:
        """Name, label and icon in the App."""
        name = "fetch_annotations"
        return foo.OperatorConfig(name=name, label=LABELS[name], icon="cloud_download")

    def resolve_input(self, ctx: Any) -> Any:
        """List the rounds of labelling."""
        inputs = types.Object()
        rounds = ctx.dataset.list_annotation_runs()
        if not rounds:
            label = "No images of this dataset were sent to an annotation server."
            inputs.view("none", types.Warning(label=label))
            return types.Property(inputs, invalid=True)
        inputs.enum("key", rounds, label="Round of labelling", required=True)
        return types.Property(inputs)

    def execute(self, ctx: Any) -> Message:
        """Merge the labels into the dataset."""
        # By default, FiftyOne prompts on the terminal of the server for labels of unexpected types.
        ctx.dataset.load_annotations(ctx.params["key"], unexpected="ignore")
        ctx.ops.reload_dataset()
        return {
            "message": f"Labels of {ctx.params['key']} are loaded; `shiftscope app --pull` reads them back "
            "for the next report."
        }


def annotation_hosts() -> dict[str, str]:
    """Annotation servers that FiftyOne is configured for: name -> host."""
    hosts = {
        name: urlsplit(str(config.get("url", ""))).hostname
        for name, config in (fo.annotation_config.backends or {}).items()
    }
    return {name: host for name, host in hosts.items() if host}


def _free_folder(report: Path) -> Path:
    """hand-off, or hand-off-2, -3 ...: an earlier one may hold corrected labels."""
    folder, number = report / "hand-off", 2
    while folder.exists():
        folder, number = report / f"hand-off-{number}", number + 1
    return folder
