"""The embedding map with its points coloured by domain or outcome from the start, which FiftyOne's own panel cannot be told to do (1.22)."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
from fiftyone.operators import types

from reports.workbench.dataset import EMBEDDING_MAP
from reports.workbench.views import MAP_PANEL

COLOURINGS = ("domain", "outcome", "split")
# Seaborn's colour-blind palette, in its order; the in-domain images come first.
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494")


class MapPanel(foo.Panel):  # type: ignore[misc]
    """Every image as a point; a lasso shows the images it caught."""

    @property
    def config(self) -> Any:
        """How the App lists it."""
        return foo.PanelConfig(
            name=MAP_PANEL,
            label="Domain map",
            icon="scatter_plot",
            help_markdown="Images by their embeddings, on two principal components: near each other is alike to the detector.",
        )

    def on_load(self, ctx: Any) -> None:
        """Draw."""
        ctx.panel.set_state("colour", COLOURINGS[0])
        self.draw(ctx)

    def on_change_dataset(self, ctx: Any) -> None:
        """Another report."""
        self.draw(ctx)

    def recolour(self, ctx: Any) -> None:
        """Another colouring was chosen."""
        ctx.panel.set_state("colour", ctx.params["value"])
        self.draw(ctx)

    def draw(self, ctx: Any) -> None:
        """The points, one trace a value of the colouring."""
        if EMBEDDING_MAP not in ctx.dataset.list_brain_runs():
            ctx.panel.set_state("missing", True)
            return
        ctx.panel.set_state("missing", False)
        results = ctx.dataset.load_brain_results(EMBEDDING_MAP)
        colour = ctx.panel.get_state("colour") or COLOURINGS[0]
        ids, names, values = ctx.dataset.values(
            ["id", "image_id", colour if ctx.dataset.has_field(colour) else "domain"]
        )
        place = dict(zip(results.sample_ids.tolist(), results.points.tolist(), strict=True))
        words = ["unlabelled" if value is None else str(value) for value in values]
        traces = []
        for number, word in enumerate(dict.fromkeys(words)):
            mine = [i for i, w in enumerate(words) if w == word and ids[i] in place]
            points = [place[ids[i]] for i in mine]
            traces.append(
                {
                    "type": "scattergl",
                    "mode": "markers",
                    "name": word,
                    "x": [p[0] for p in points],
                    "y": [p[1] for p in points],
                    "ids": [ids[i] for i in mine],
                    "text": [names[i] for i in mine],
                    "hoverinfo": "text+name",
                    "marker": {"size": 6, "opacity": 0.75, "color": PALETTE[number % len(PALETTE)]},
                }
            )
        ctx.panel.set_data("map", traces)

    def caught(self, ctx: Any) -> None:
        """Show what a lasso, or a click, caught."""
        ids = [point["id"] for point in ctx.params.get("data") or [] if point.get("id")]
        if ids:
            ctx.ops.set_view(view=ctx.dataset.select(ids))

    def everything(self, ctx: Any) -> None:
        """All images again."""
        ctx.ops.clear_view()

    def render(self, ctx: Any) -> Any:
        """The map and what it is coloured by."""
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
            layout={
                "dragmode": "lasso",
                "uirevision": "map",
                "margin": {"l": 8, "r": 8, "t": 40, "b": 8},
                "xaxis": {"visible": False},
                "yaxis": {"visible": False, "scaleanchor": "x"},
                "showlegend": True,
                "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom"},
            },
            config={"displaylogo": False, "scrollZoom": True},
            on_selected=self.caught,
            height="620px",
            width="100%",
        )
        panel.btn("everything", label="All images", variant="outlined", on_click=self.everything)
        return types.Property(panel)
