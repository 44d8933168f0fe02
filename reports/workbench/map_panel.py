"""The embedding map with its points coloured by domain or outcome.

FiftyOne's own panel has no setting for the initial colouring (1.22).
"""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from reports.workbench.dataset import EMBEDDING_MAP
from reports.workbench.views import MAP_PANEL

COLOURINGS = ("domain", "outcome", "split")
# Seaborn's colour-blind palette in its order. In-domain images, which come first, get the first colour.
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494")
LAYOUT = {
    "dragmode": "lasso",
    "uirevision": "map",
    "margin": {"l": 8, "r": 8, "t": 40, "b": 8},
    "xaxis": {"visible": False},
    "yaxis": {"visible": False, "scaleanchor": "x"},
    "showlegend": True,
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
}


class MapPanel(foo.Panel):  # type: ignore[misc]
    """Every image as a point; a lasso shows the images inside it."""

    @property
    def config(self) -> Any:
        """Name, label and icon in the App."""
        return foo.PanelConfig(
            name=MAP_PANEL,
            label="Map",
            icon="scatter_plot",
            help_markdown="Images by the first two principal components of their embeddings: "
            "close points are images that are similar to the detector.",
        )

    def on_load(self, ctx: Any) -> None:
        """Draw the map when the panel opens."""
        ctx.panel.set_state("colour", COLOURINGS[0])
        self.draw(ctx)

    def on_change_dataset(self, ctx: Any) -> None:
        """Draw the map of another dataset."""
        self.draw(ctx)

    def recolour(self, ctx: Any) -> None:
        """Draw with the selected colouring."""
        ctx.panel.set_state("colour", ctx.params["value"])
        self.draw(ctx)

    def draw(self, ctx: Any) -> None:
        """Draw the points, one trace per value of the colouring."""
        if EMBEDDING_MAP not in ctx.dataset.list_brain_runs():
            ctx.panel.set_state("missing", True)
            return
        ctx.panel.set_state("missing", False)
        colour = ctx.panel.get_state("colour") or COLOURINGS[0]
        ctx.panel.set_data("map", _traces(ctx.dataset, colour))

    def show_selected(self, ctx: Any) -> None:
        """Show the images that a lasso or a click selected."""
        ids = [point["id"] for point in ctx.params.get("data") or [] if point.get("id")]
        if ids:
            ctx.ops.set_view(view=ctx.dataset.select(ids))

    def show_all(self, ctx: Any) -> None:
        """Show all images."""
        ctx.ops.clear_view()

    def render(self, ctx: Any) -> Any:
        """Build the map and the choice of its colouring."""
        panel = types.Object()
        if ctx.panel.get_state("missing"):
            panel.md(
                "This dataset has no embeddings: its report was made from predictions alone.",
                name="missing_text",
            )
            return types.Property(panel)
        panel.enum(
            "colour",
            list(COLOURINGS),
            default=COLOURINGS[0],
            label="Colour by",
            view=types.DropdownView(),
            on_change=self.recolour,
        )
        panel.plot(
            "map",
            layout=LAYOUT,
            config={"displaylogo": False, "scrollZoom": True},
            on_selected=self.show_selected,
            height="620px",
            width="100%",
        )
        panel.btn("show_all", label="Show all images", variant="outlined", on_click=self.show_all)
        return types.Property(panel)


def _traces(dataset: Any, colour: str) -> list[dict[str, Any]]:
    """Plotly's traces of the embedding map. colour: name of the field that colours the points."""
    results = dataset.load_brain_results(EMBEDDING_MAP)
    ids, names, values = dataset.values(["id", "image_id", colour if dataset.has_field(colour) else "domain"])
    coordinates = dict(zip(results.sample_ids.tolist(), results.points.tolist(), strict=True))
    titles = ["unlabelled" if value is None else str(value) for value in values]
    traces = []
    for number, title in enumerate(dict.fromkeys(titles)):
        rows = [i for i, other in enumerate(titles) if other == title and ids[i] in coordinates]
        points = [coordinates[ids[i]] for i in rows]
        traces.append(
            {
                "type": "scattergl",
                "mode": "markers",
                "name": title,
                "x": [point[0] for point in points],
                "y": [point[1] for point in points],
                "ids": [ids[i] for i in rows],
                "text": [names[i] for i in rows],
                "hoverinfo": "text+name",
                "marker": {"size": 6, "opacity": 0.75, "color": PALETTE[number % len(PALETTE)]},
            }
        )
    return traces
