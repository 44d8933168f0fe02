"""The embedding map: one dot an image, drawn as SVG by the template; the script adds thumbnails and other
colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from diagnostics.findings import Findings
from diagnostics.matching import Floats, Ints
from reports.page import thumbnails
from reports.page.figures import TRAINING
from reports.page.methods import short_path

# Of the drawing, in its own units, with a margin for the dots at the edge.
WIDTH, HEIGHT, MARGIN = 640.0, 420.0, 12.0
# Dots with a thumbnail: all images to add next, then as many as make a sheet that a page can carry.
MAX_THUMBNAILS = 360
COLUMNS = 20
# What dots can be coloured by: column of the map, and its words.
COLOUR_BY = {"domain": "domain", "outcome": "outcome", "class": "class", "group": "recording"}


def embedding_map(
    findings: Findings, palette: dict[str, str], view_of: Mapping[tuple[str, str], int]
) -> dict[str, Any] | None:
    """Everything that the template and the script draw; None where no embeddings were measured.

    Parameters
    ----------
    findings : Findings
        The diagnosis; its `map` is drawn.
    palette : dict
        Colour of each domain.
    view_of : dict
        Number of the whole image by domain and image.

    Returns
    -------
    dict or None
        width, height; domains: (name, colour) in the legend's order; dots: x, y, colour, whether it is to be
        added next, and words for readers without a script; data: values of every dot for the script, and the
        thumbnails.
    """
    if not len(findings.map):
        return None
    picks = findings.next[["domain", "image", "rank"]]
    points = findings.map.merge(picks, on=["domain", "image"], how="left").reset_index(drop=True)
    x, y = _scaled(points["x"].to_numpy(float), WIDTH), _scaled(-points["y"].to_numpy(float), HEIGHT)
    chosen = _with_thumbnail(points)
    place = np.full(len(points), -1)
    place[chosen] = np.arange(len(chosen))
    values = {column: list(dict.fromkeys(points[column].astype(str))) for column in COLOUR_BY}
    codes = {
        column: points[column].astype(str).map({name: i for i, name in enumerate(listed)}).tolist()
        for column, listed in values.items()
    }
    domains = list(dict.fromkeys(points["domain"]))
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "domains": _legend(domains, palette),
        "colour_by": [(column, words) for column, words in COLOUR_BY.items() if len(values[column]) > 1],
        "dots": [
            {"x": f"{a:.1f}", "y": f"{b:.1f}", "colour": palette[domain], "next": rank == rank}
            for a, b, domain, rank in zip(x, y, points["domain"], points["rank"], strict=True)
        ],
        "data": {
            "names": [short_path(image) for image in points["image"]],
            "values": values,
            "codes": codes,
            "ranks": [None if rank != rank else int(rank) for rank in points["rank"]],
            "place": place.tolist(),
            "views": [view_of.get(key, -1) for key in zip(points["domain"], points["image"], strict=True)],
            "sheet": thumbnails.sheet([str(points["path"][i]) for i in chosen], COLUMNS),
            "columns": COLUMNS,
            "tile": thumbnails.TILE,
        },
    }


def _legend(domains: list[str], palette: dict[str, str]) -> list[tuple[str, str]]:
    """Domains with a colour of their own, and one entry for the others."""
    shared = [name for name in domains if palette[name] == TRAINING and name != "training"]
    entries = [(name, palette[name]) for name in domains if name not in shared]
    return entries + ([(f"{len(shared)} other domains", TRAINING)] if shared else [])


def _scaled(values: Floats, length: float) -> Floats:
    """Values as positions between the margins of a side."""
    low, high = float(values.min()), float(values.max())
    share = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
    return MARGIN + share * (length - 2 * MARGIN)


def _with_thumbnail(points: pd.DataFrame) -> Ints:
    """Rows of the images that get a thumbnail: those to add next, then the domains in turn, spread
    over each.
    """
    ranked = np.flatnonzero(points["rank"].notna())
    rest = points[points["rank"].isna()]
    # A stride through each domain in the order of the map, so that neighbouring frames are not all there is.
    turn = rest.groupby("domain", sort=False).cumcount()
    size = rest.groupby("domain", sort=False)["image"].transform("size")
    order = ((turn * 0.6180339887) % 1.0 * size).rank(method="first") / size
    spread = rest.index.to_numpy()[np.argsort(order.to_numpy(), kind="stable")]
    return np.concatenate([ranked, spread])[:MAX_THUMBNAILS].astype(np.int64)
