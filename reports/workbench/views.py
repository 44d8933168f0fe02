"""What the App shows first: saved views, a workspace, sidebar groups and colours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets.tables import OWN
from diagnostics.domain import BOX_ATTRIBUTES, Domain
from diagnostics.findings import Findings
from diagnostics.label_free import SHOWN
from reports.page.slices import label
from reports.workbench.documents import (
    IMAGE_PROPERTIES,
    SHOWN_FLOOR,
    number_cards,
    object_id,
    slice_field,
)

ADDRESS = "127.0.0.1"
PORT = 5151
FALSE_POSITIVES, WORKSPACE = "false positives", "shift"
DRAFTS = "drafts, least confident first"
PANEL, MAP_PANEL = "shiftscope_shift", "shiftscope_map"
EVALUATION_PANEL = "model_evaluation_panel_builtin"
# Slices that get a view of their own.
WORST_SLICES = 3

# Colours of outcomes. They differ in lightness as well, for colour-blind readers.
COLOURS = {
    "true_positive": "#2ca02c",
    "detected": "#2ca02c",
    "background": "#d62728",
    "missed": "#ffee00",
    "location": "#c77cff",
    "duplicate": "#e69f00",
    "class": "#56b4e9",
    "both": "#f781bf",
    "ignored": "#999999",
}
# A view of the dataset and its description.
View = tuple[Any, str]


def address(name: str, port: int = PORT) -> str:
    """Address at which the App shows a dataset."""
    return f"http://{ADDRESS}:{port}/datasets/{name}"


def slug(view: str) -> str:
    """The name of a saved view in an address, as FiftyOne forms it."""
    return re.sub(r"[^a-z0-9]+", "-", view.lower()).strip("-")


def gallery_view(number: int) -> str:
    """Name of the view that shows the gallery card of this number in each image."""
    return "gallery" if number == 1 else f"gallery {number}"


def save_views(fo: Any, dataset: Any, findings: Findings) -> None:
    """Save with the dataset all views, the workspace, the scenarios, the sidebar and the colours.

    Parameters
    ----------
    fo : module
        The module fiftyone.
    dataset : Dataset
        The report's dataset, with samples, evaluations and brain runs.
    findings : Findings
        The findings of the report.
    """
    for name, (view, description) in _saved_views(dataset, findings).items():
        if not any(slug(name) == slug(other) for other in dataset.list_saved_views()):
            dataset.save_view(name, view, description=description)
    dataset.save_workspace(
        WORKSPACE,
        _workspace(fo, dataset),
        description="Images on the left; shift panel, map, histograms and evaluations on the right",
    )
    _save_scenarios(dataset, findings)
    dataset.app_config.sidebar_groups = _sidebar(fo, dataset)
    dataset.app_config.color_scheme = _color_scheme(fo)


def _saved_views(dataset: Any, findings: Findings) -> dict[str, View]:
    """Name -> view and description, in the order of the App's menu."""
    from fiftyone import ViewField as F

    views = _error_views(dataset, findings)
    for worst in _worst_slices(findings):
        views[f"worst slice: {worst.title}, {worst.domain}"] = (
            dataset.match((F("domain") == worst.domain) & (F(worst.field) == worst.value)),
            f"AP50 {worst.ap50:.3f}, one of the lowest in {worst.domain}",
        )
    views["all domains"] = (
        dataset.sort_by("domain"),
        "All images, sorted by domain, with all of their boxes",
    )
    if len(findings.next):
        views["label next"] = (
            dataset.exists("label_next").sort_by("label_next"),
            "Images to label next, highest rank first",
        )
    return views | _gallery_views(dataset, findings)


def _error_views(dataset: Any, findings: Findings) -> dict[str, View]:
    """Views of real-world errors; without labels, of all detections."""
    from fiftyone import ViewField as F

    labelled = [domain for domain in findings.real_world if domain.labelled.any()]
    names = [domain.name for domain in labelled or findings.real_world]
    real_world = dataset.match(F("domain").is_in(names))
    highest_confidence = F("predictions.detections").map(F("confidence")).max()
    # SHOWN, as everywhere in the report; lower for a detector without false positives at SHOWN.
    floor = SHOWN if any(_has_false_positives(d, SHOWN) for d in findings.real_world) else SHOWN_FLOOR
    selected = F("confidence") >= floor
    description = f"Real-world detections with confidence {floor} or more, highest first; there are no labels"
    if labelled:
        selected &= ~F("outcome").is_in(["true_positive", "ignored"])
        description = f"Real-world false positives with confidence {floor} or more, highest first"
    views = {
        FALSE_POSITIVES: (
            real_world.filter_labels("predictions", selected).sort_by(highest_confidence, reverse=True),
            description,
        )
    }
    if not labelled:
        return views
    shown_errors = (F("confidence") >= SHOWN) & (F("outcome") != "true_positive")
    views["missed"] = (
        real_world.filter_labels("ground_truth", F("outcome") == "missed")
        .filter_labels("predictions", shown_errors, only_matches=False)
        .sort_by("missed", reverse=True),
        f"Real-world objects without a true positive of confidence {SHOWN} or more, "
        "images with most of them first",
    )
    for name, outcome, description in (
        ("localization errors", "location", "Real-world detections with IoU 0.1 to 0.5 with an annotation"),
        ("duplicates", "duplicate", "Real-world detections of an object with a more confident true positive"),
    ):
        if any((domain.outcomes["outcome"] == outcome).any() for domain in labelled):
            view = real_world.filter_labels("predictions", F("outcome") == outcome)
            views[name] = (view.sort_by(highest_confidence, reverse=True), description)
    return views


def _gallery_views(dataset: Any, findings: Findings) -> dict[str, View]:
    """A view for each card number: every image with the one box of its card."""
    from fiftyone import ViewField as F

    views = {}
    largest = int(number_cards(findings.cards).max()) if len(findings.cards) else 0
    for number in range(1, largest + 1):
        is_card = F("card") == number
        view = dataset.match(F("cards") >= number).filter_labels("predictions", is_card, only_matches=False)
        if dataset.has_field("ground_truth"):
            view = view.filter_labels("ground_truth", is_card, only_matches=False)
        views[gallery_view(number)] = (
            view,
            "Images of the report's gallery, each with the one box of its card; the gallery links here",
        )
    return views


def _has_false_positives(domain: Domain, confidence: float) -> bool:
    """Whether a domain has a false positive at a confidence; without labels, a detection."""
    if not domain.labelled.any():
        return bool((domain.detections["confidence"] >= confidence).any())
    shown = domain.outcomes[domain.outcomes["confidence"] >= confidence]
    return bool((shown["outcome"] != "true_positive").any())


@dataclass(frozen=True)
class WorstSlice:
    """A slice with one of the lowest AP50.

    field: name of the image field
    value: value of the field in the slice's images
    title: the slice in words
    domain: name of the domain
    ap50: AP50 of the slice in that domain
    """

    field: str
    value: str
    title: str
    domain: str
    ap50: float


def _worst_slices(findings: Findings) -> list[WorstSlice]:
    """The real-world image slices with the lowest AP50, one of each attribute and domain."""
    table = findings.slices
    names = [domain.name for domain in findings.real_world]
    rows = table[
        table["domain"].isin(names)
        & ~table["attribute"].isin(["all", *BOX_ATTRIBUTES])
        & np.isfinite(table["ap50_high"].astype(float))
    ].sort_values("ap50", kind="stable")
    rows = rows.drop_duplicates(["domain", "attribute"]).head(WORST_SLICES)
    return [
        WorstSlice(
            field=slice_field(str(row.attribute)),
            value=str(row.slice),
            title=label(str(row.attribute), str(row.slice)),
            domain=str(row.domain),
            ap50=float(row.ap50),
        )
        for row in rows.itertuples()
    ]


def _workspace(fo: Any, dataset: Any) -> Any:
    """Images on the left; on the right the shift panel, the map, histograms and the evaluations."""
    samples, panels = fo.Panel(type="Samples", pinned=True), [fo.Panel(type=PANEL)]
    if "embedding_map" in dataset.list_brain_runs():
        panels.append(fo.Panel(type=MAP_PANEL))
    panels.append(fo.Panel(type="Histograms", state={"plot": "Other fields"}))
    if dataset.list_evaluations():
        panels.append(fo.Panel(type=EVALUATION_PANEL))
    return fo.Space(
        children=[
            fo.Space(children=[samples], active_child=samples.component_id),
            fo.Space(children=panels, active_child=panels[0].component_id),
        ],
        orientation="horizontal",
        sizes=[0.47, 0.53],
    )


def _save_scenarios(dataset: Any, findings: Findings) -> None:
    """Save our slices as scenarios of the Model Evaluation panel, which has a store of its own."""
    from fiftyone.operators.store import ExecutionStore

    scenarios = {}
    for attribute, rows in findings.slices.groupby("attribute", sort=False):
        name = str(attribute)
        if name in ("all", "clip", "split"):
            continue
        field = slice_field(name)
        of_annotations = name in BOX_ATTRIBUTES
        key = str(object_id("scenario", field))
        scenarios[key] = {
            "id": key,
            "name": name.removeprefix(OWN),
            "type": "label_attribute" if of_annotations else "sample_field",
            "field": f"ground_truth.detections.{name}" if of_annotations else field,
            "subsets": list(dict.fromkeys(rows["slice"].astype(str))),
        }
    if scenarios:
        ExecutionStore.create(EVALUATION_PANEL, dataset._doc.id).set("scenarios", scenarios)


def _sidebar(fo: Any, dataset: Any) -> list[Any]:
    """Fields in groups: source, errors, what to label, slices, image properties; the rest collapsed."""
    fields = list(dataset.get_field_schema())
    paths = {
        "tags": [],
        "labels": ["predictions", "ground_truth", *[f for f in fields if f.startswith("predictions_")]],
        "source": ["domain", "group", "split", "seconds", "image_id"],
        "errors": ["outcome", "false_positives", "missed", "detections_shown"]
        + [f for f in fields if f.startswith("disagreement_")],
        "what to label": ["label_next", "novelty", "shift_score", "nearest_training"],
        "slices": [f for f in fields if f.startswith("slice_")],
        "image properties": list(IMAGE_PROPERTIES),
    }
    grouped = {name for names in paths.values() for name in names}
    rest = [f for f in fields if f not in grouped and f not in ("tags", "metadata")]
    groups = [
        fo.SidebarGroupDocument(
            name=name, paths=[p for p in names if p in fields], expanded=name != "image properties"
        )
        for name, names in paths.items()
        if name == "tags" or any(p in fields for p in names)
    ]
    metadata = ["metadata.width", "metadata.height"]
    return [
        *groups,
        fo.SidebarGroupDocument(name="evaluation counts and bookkeeping", paths=rest, expanded=False),
        fo.SidebarGroupDocument(name="metadata", paths=metadata, expanded=False),
    ]


def _color_scheme(fo: Any) -> Any:
    """Colour boxes by outcome; images by value, in fixed colours of the App."""
    values = [{"value": value, "color": colour} for value, colour in COLOURS.items()]
    return fo.ColorScheme(
        color_by="value",
        fields=[
            {"path": path, "colorByAttribute": "outcome", "valueColors": values}
            for path in ("predictions", "ground_truth")
        ],
    )
