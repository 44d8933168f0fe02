"""What the App shows first: saved views, a workspace, groups of the sidebar and colours."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from datasets.tables import OWN
from diagnostics.domain import BOX_ATTRIBUTES, Domain
from diagnostics.findings import Findings
from diagnostics.label_free import SHOWN
from reports.page.slices import label
from reports.workbench.documents import (
    LOOKS,
    SHOWN_FLOOR,
    gallery_places,
    object_id,
    slice_field,
)

ADDRESS = "127.0.0.1"
PORT = 5151
FALSE_POSITIVES, WORKSPACE = "false positives", "shift"
DRAFTS = "drafts, least sure first"
PANEL, MAP_PANEL = "shiftscope_shift", "shiftscope_map"
EVALUATION_PANEL = "model_evaluation_panel_builtin"
# Slices shown as views of their own.
WORST_SLICES = 3

# Colours of outcomes: tell apart for colour-blind eyes by lightness as well.
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


def address(name: str, port: int = PORT) -> str:
    """Where the App shows a dataset."""
    return f"http://{ADDRESS}:{port}/datasets/{name}"


def slug(view: str) -> str:
    """A saved view's name in an address, as FiftyOne makes it."""
    return re.sub(r"[^a-z0-9]+", "-", view.lower()).strip("-")


def gallery_view(place: int) -> str:
    """Name of the view that shows the card of this number in each image."""
    return "gallery" if place == 1 else f"gallery {place}"


def save_views(fo: Any, dataset: Any, findings: Findings) -> None:
    """Everything that the App offers by name, saved with the dataset."""
    for name, (view, description) in _views_of(dataset, findings).items():
        if not any(slug(name) == slug(other) for other in dataset.list_saved_views()):
            dataset.save_view(name, view, description=description)
    dataset.save_workspace(
        WORKSPACE,
        _workspace(fo, dataset),
        description="Images beside the shift panel, the map and the numbers",
    )
    _save_scenarios(dataset, findings)
    dataset.app_config.sidebar_groups = _sidebar(fo, dataset)
    dataset.app_config.color_scheme = colours(fo)


def _views_of(dataset: Any, findings: Findings) -> dict[str, tuple[Any, str]]:
    """Name -> view, description."""
    from fiftyone import ViewField as F

    real_world = [domain.name for domain in findings.real_world]
    labelled = [domain.name for domain in findings.real_world if domain.labelled.any()]
    real = dataset.match(F("domain").is_in(labelled or real_world))
    confidences = F("predictions.detections").map(F("confidence"))
    # The most confident ones, as everywhere in the report; a detector that shows nothing there is looked at further down.
    floor = SHOWN if any(_shown_errors(d, SHOWN) for d in findings.real_world) else SHOWN_FLOOR
    wrong = F("confidence") >= floor
    if labelled:
        wrong &= ~F("outcome").is_in(["true_positive", "ignored"])
    made = {
        FALSE_POSITIVES: (
            real.filter_labels("predictions", wrong).sort_by(confidences.max(), reverse=True),
            f"Real-world detections of at least {floor} that hit no object, most confident first"
            if labelled
            else f"Everything detected in the real world at {floor} and above, most confident first: it has no labels",
        )
    }
    if labelled:
        made["missed"] = (
            real.filter_labels("ground_truth", F("outcome") == "missed")
            .filter_labels(
                "predictions",
                (F("confidence") >= SHOWN) & (F("outcome") != "true_positive"),
                only_matches=False,
            )
            .sort_by("missed", reverse=True),
            f"Real-world objects that no detection of at least {SHOWN} true positives, images with most of them first",
        )
        for name, outcome, words in (
            (
                "near misses",
                "location",
                "Real-world detections on an object, but not well enough: IoU 0.1 to 0.5",
            ),
            ("duplicates", "duplicate", "Real-world detections of an object that a surer one has already"),
        ):
            if not any(
                (d.outcomes["outcome"] == outcome).any() for d in findings.real_world if d.labelled.any()
            ):
                continue
            made[name] = (
                real.filter_labels("predictions", F("outcome") == outcome).sort_by(
                    confidences.max(), reverse=True
                ),
                words,
            )
    for field, value, title, domain, ap50 in _worst_slices(findings):
        made[f"worst slice: {title}, {domain}"] = (
            dataset.match((F("domain") == domain) & (F(field) == value)),
            f"AP50 {ap50:.3f}, among the lowest of {domain}",
        )
    made["both domains"] = (dataset.sort_by("domain"), "In-domain and real-world images side by side")
    if len(findings.next):
        made["label next"] = (
            dataset.exists("label_next").sort_by("label_next"),
            "Images to label next, best first",
        )
    for place in range(1, int(gallery_places(findings.cards).max()) + 1 if len(findings.cards) else 1):
        chosen = F("card") == place
        view = dataset.match(F("cards") >= place).filter_labels("predictions", chosen, only_matches=False)
        if dataset.has_field("ground_truth"):
            view = view.filter_labels("ground_truth", chosen, only_matches=False)
        made[gallery_view(place)] = (
            view,
            "The report's gallery: its links open images here, with the box that each is about",
        )
    return made


def _shown_errors(domain: Domain, confidence: float) -> bool:
    """Whether a domain shows any false positive at a confidence; without labels, any detection."""
    if not domain.labelled.any():
        return bool((domain.detections["confidence"] >= confidence).any())
    found = domain.outcomes[domain.outcomes["confidence"] >= confidence]
    return bool((found["outcome"] != "true_positive").any())


def _worst_slices(findings: Findings) -> list[tuple[str, str, str, str, float]]:
    """Field, value, title, domain and AP50 of the real-world slices of whole images that are lowest, one of each attribute."""
    table = findings.slices
    names = [domain.name for domain in findings.real_world]
    chosen = table[
        table["domain"].isin(names)
        & ~table["attribute"].isin(["all", *BOX_ATTRIBUTES])
        & np.isfinite(table["ap50_high"].astype(float))
    ].sort_values("ap50", kind="stable")
    chosen = chosen.drop_duplicates(["domain", "attribute"]).head(WORST_SLICES)
    return [
        (
            slice_field(str(row.attribute)),
            str(row.slice),
            label(str(row.attribute), str(row.slice)),
            str(row.domain),
            float(row.ap50),
        )
        for row in chosen.itertuples()
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
    """Our slices as scenarios of the Model Evaluation panel, which keeps them in a store of its own."""
    from fiftyone.operators.store import ExecutionStore

    chosen = [
        (slice_field(str(attribute)), str(attribute), part)
        for attribute, part in findings.slices.groupby("attribute", sort=False)
        if attribute not in ("all", "clip", "split")
    ]
    scenarios = {}
    for field, attribute, part in chosen:
        of_annotations = attribute in BOX_ATTRIBUTES
        key = str(object_id("scenario", field))
        scenarios[key] = {
            "id": key,
            "name": attribute.removeprefix(OWN),
            "type": "label_attribute" if of_annotations else "sample_field",
            "field": f"ground_truth.detections.{attribute}" if of_annotations else field,
            "subsets": list(dict.fromkeys(part["slice"].astype(str))),
        }
    if scenarios:
        ExecutionStore.create(EVALUATION_PANEL, dataset._doc.id).set("scenarios", scenarios)


def _sidebar(fo: Any, dataset: Any) -> list[Any]:
    """Fields in the order in which people ask: where from, what went wrong, which slice, how it looks; the rest folded."""
    fields = list(dataset.get_field_schema())
    wanted = {
        "tags": [],
        "labels": ["predictions", "ground_truth", *[f for f in fields if f.startswith("predictions_")]],
        "where from": ["domain", "group", "split", "seconds", "image_id"],
        "what went wrong": ["outcome", "false_positives", "missed", "detections_shown"]
        + [f for f in fields if f.startswith("disagreement_")],
        "what to do": ["label_next", "novelty", "shift_score", "nearest_training"],
        "slices": [f for f in fields if f.startswith("slice_")],
        "clusters": list(LOOKS),
    }
    placed = {name for names in wanted.values() for name in names}
    rest = [f for f in fields if f not in placed and f not in ("tags", "metadata")]
    groups = [
        fo.SidebarGroupDocument(
            name=name, paths=[p for p in paths if p in fields], expanded=name not in ("clusters",)
        )
        for name, paths in wanted.items()
        if name == "tags" or any(p in fields for p in paths)
    ]
    return [
        *groups,
        fo.SidebarGroupDocument(name="counts of the evaluation", paths=rest, expanded=False),
        fo.SidebarGroupDocument(name="metadata", paths=["metadata.width", "metadata.height"], expanded=False),
    ]


def colours(fo: Any) -> Any:
    """Boxes by what became of them; images by domain and outcome in fixed colours of the App."""
    values = [{"value": value, "color": colour} for value, colour in COLOURS.items()]
    return fo.ColorScheme(
        color_by="value",
        fields=[
            {"path": path, "colorByAttribute": "outcome", "valueColors": values}
            for path in ("predictions", "ground_truth")
        ],
    )
