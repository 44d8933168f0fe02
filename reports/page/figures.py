"""Figures: each takes a frame and returns an SVG that follows the page's theme. They never compute, show, or
touch global style.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

P = ParamSpec("P")

# Drawn with these and replaced by CSS variables afterwards, so that one SVG serves light and dark.
INK, LINE = "#010203", "#040506"
# Okabe and Ito's colours: distinct for all kinds of colour vision, readable on light and dark.
IN_DOMAIN, TRAINING = "#0072b2", "#8a8a8a"
REAL_WORLD = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "shiftscope",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "text.parse_math": False,
}

# Matplotlib's own, whatever a figure says.
SVG_DPI = 72
# Where the plots of the sweep end, so that a curve at 1 is whole.
SWEEP_TOP = 1.02


def colours(names: Sequence[str], roles: dict[str, str], drawn: Sequence[str]) -> dict[str, str]:
    """A colour for each domain by its role, the same in every figure; grey for those that are not drawn."""
    real_world = iter(REAL_WORLD)
    fixed = {"in_domain": IN_DOMAIN, "training": TRAINING}
    return {
        name: fixed.get(roles[name]) or (next(real_world) if name in drawn else TRAINING) for name in names
    }


def of_drawn(table: pd.DataFrame, palette: dict[str, str]) -> pd.DataFrame:
    """The rows of the domains that figures show."""
    return table[table["domain"].isin(list(palette))]


def _legend_label(name: str) -> str:
    """A name as matplotlib shows it: a leading underscore would hide it."""
    return "\u200b" + name if name.startswith("_") else name


def _bounds(figure: Figure) -> Bbox:
    """The part of a figure that is drawn on, in inches, with a margin. "tight" would draw the figure twice to
    find it.
    """
    # Of the size that the SVG has.
    figure.set_dpi(SVG_DPI)
    width, height = figure.get_size_inches() * SVG_DPI
    renderer = RendererSVG(width, height, io.StringIO())  # type: ignore[no-untyped-call]
    return figure.get_tightbbox(renderer).padded(float(mpl.rcParams["savefig.pad_inches"]))


@contextmanager
def style() -> Iterator[None]:
    """Our settings for one figure only."""
    settings: Any = STYLE
    with mpl.rc_context(settings):
        yield


def themed(draw: Callable[P, Figure]) -> Callable[Concatenate[str, P], str]:
    """Turn a function that draws into one that returns SVG text. The first argument becomes the figure's
    alternative text.
    """

    @wraps(draw)
    def to_svg(alt: str, /, *args: P.args, **kwargs: P.kwargs) -> str:
        with style():
            figure = draw(*args, **kwargs)
            buffer = io.StringIO()
            figure.savefig(
                buffer,
                format="svg",
                bbox_inches=_bounds(figure),
                metadata={"Date": None, "Creator": None, "Title": alt},
            )
            plt.close(figure)
        svg = buffer.getvalue()
        svg = svg[svg.index("<svg") :].replace(INK, "var(--ink)").replace(LINE, "var(--line)")
        # Let the page decide the size; ids are shared by all figures of a page and must differ.
        svg = re.sub(
            r'<svg [^>]*?viewBox="([^"]+)"[^>]*>',
            r'<svg viewBox="\1" role="img" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">',
            svg,
            count=1,
        )
        return re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)

    return to_svg


@themed
def sweep(curves: pd.DataFrame, palette: dict[str, str], start: float) -> Figure:
    """F1 (left), precision and recall (right) by confidence, with a line at the threshold start.

    curves: domain, confidence, f1, precision, recall. The lines of the n-th domain are named curve-f1-n,
    curve-precision-n and curve-recall-n, and its best F1 best-f1-n, for the script that redraws them for one
    class.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.1))
    for number, (domain, part) in enumerate(curves.groupby("domain", sort=False)):
        name = str(domain)
        left.plot(
            part["confidence"],
            part["f1"],
            color=palette[name],
            label=_legend_label(name),
            linewidth=2,
            gid=f"curve-f1-{number}",
        )
        if part["f1"].notna().any():
            top = part.loc[part["f1"].idxmax()]
            left.plot(top["confidence"], top["f1"], "o", color=palette[name], gid=f"best-f1-{number}")
        right.plot(
            part["confidence"],
            part["precision"],
            color=palette[name],
            linewidth=1.6,
            label=_legend_label(f"{name}: precision"),
            gid=f"curve-precision-{number}",
        )
        right.plot(
            part["confidence"],
            part["recall"],
            color=palette[name],
            linewidth=1.6,
            linestyle=(0, (4, 2)),
            label=_legend_label(f"{name}: recall"),
            gid=f"curve-recall-{number}",
        )
    # The script moves a line through both plots; the two at the ends tell it where they begin and end.
    for name, axes in (("f1", left), ("shares", right)):
        for place in (0, 1):
            axes.axvline(place, alpha=0, gid=f"sweep-{name}-{place}")
        axes.axvline(start, color=INK, linewidth=1, linestyle=(0, (2, 2)), gid=f"sweep-{name}-at")
    left.set(xlabel="confidence threshold", ylabel="F1", ylim=(0, SWEEP_TOP), xlim=(0, 1))
    right.set(xlabel="confidence threshold", ylabel="share", ylim=(0, SWEEP_TOP), xlim=(0, 1))
    left.legend()
    right.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncol=2)
    return figure


@themed
def learning(history: pd.DataFrame) -> Figure:
    """Losses (left) and AP (right) by epoch."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 2.9))
    kinds = {
        "train_box_loss": (TRAINING, "-"),
        "val_box_loss": (IN_DOMAIN, "-"),
        "train_cls_loss": (TRAINING, "--"),
        "val_cls_loss": (IN_DOMAIN, "--"),
    }
    for column, (colour, dash) in kinds.items():
        if column in history:
            # The first epochs of a fresh head are off any scale and hide the rest.
            values = history[column].clip(upper=float(history[column].quantile(0.9)) * 2)
            left.plot(history["epoch"], values, color=colour, linestyle=dash, label=column.replace("_", " "))
    for column, words, colour in (("ap50", "AP50", IN_DOMAIN), ("ap", "AP50-95", REAL_WORLD[1])):
        if column in history:
            right.plot(
                history["epoch"], history[column], color=colour, label=words, marker=".", linewidth=1.6
            )
    left.set(xlabel="epoch", ylabel="loss")
    right.set(xlabel="epoch", ylabel="validation (in-domain)", ylim=(0, 1))
    for axes in (left, right):
        _whole_epochs(axes)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    return figure


def _whole_epochs(axes: Any) -> None:
    """Ticks at whole epochs only."""
    axes.xaxis.get_major_locator().set_params(integer=True)


@themed
def watched(table: pd.DataFrame, palette: dict[str, str], in_domain: str) -> Figure:
    """AP50, detections per image, and the share of images outside the validation range, by epoch.

    table: see `reports.watch.COLUMNS`. in_domain: the name of validation in it.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.2, 2.7))
    spare = iter(REAL_WORLD)
    for domain, part in table.groupby("domain", sort=False):
        name = str(domain)
        colour = palette.get(name) or next(spare)
        if part["ap50"].notna().any():
            left.plot(part["epoch"], part["ap50"], color=colour, marker=".", label=_legend_label(name))
        else:
            left.plot(
                part["epoch"],
                part["expected_ap50"],
                color=colour,
                marker=".",
                linestyle=(0, (4, 2)),
                label=_legend_label(f"{name} (estimated)"),
            )
        middle.plot(part["epoch"], part["shown"], color=colour, marker=".")
        if name != in_domain:
            right.plot(part["epoch"], part["outside"], color=colour, marker=".")
    left.set(xlabel="epoch", ylabel="AP50", ylim=(0, 1))
    middle.set(xlabel="epoch", ylabel="detections per image", ylim=(0, None))
    right.set(xlabel="epoch", ylabel="share outside the validation range", ylim=(-0.02, 1.02))
    for axes in (left, middle, right):
        _whole_epochs(axes)
    figure.legend(*left.get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, 1.08), ncol=4)
    figure.tight_layout(w_pad=1.5)
    return figure


@themed
def slices(table: pd.DataFrame, palette: dict[str, str]) -> Figure:
    """AP50 with its interval, one row a slice; columns label, domain, ap50, ap50_low, ap50_high, boxes."""
    labels = list(dict.fromkeys(table["label"]))
    figure, axes = plt.subplots(figsize=(9.2, 0.8 + 0.30 * len(labels)))
    domains = list(dict.fromkeys(table["domain"]))
    for offset, domain in enumerate(domains):
        part = table[table["domain"] == domain]
        y = (
            np.array([labels.index(label) for label in part["label"]])
            + (offset - (len(domains) - 1) / 2) * 0.22
        )
        low, high = part["ap50_low"].fillna(part["ap50"]), part["ap50_high"].fillna(part["ap50"])
        axes.hlines(y, low, high, color=palette[domain], linewidth=2, alpha=0.75)
        sure = part["ap50_low"].notna().to_numpy()
        axes.scatter(
            part["ap50"][sure], y[sure], color=palette[domain], s=28, zorder=3, label=_legend_label(domain)
        )
        axes.scatter(
            part["ap50"][~sure], y[~sure], facecolors="none", edgecolors=palette[domain], s=28, zorder=3
        )
    axes.set(
        yticks=range(len(labels)),
        yticklabels=labels,
        xlim=(0, 1),
        xlabel="AP50 (hollow: too few clips for an interval)",
    )
    axes.invert_yaxis()
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncol=4, fontsize=8.5)
    return figure


@themed
def errors(table: pd.DataFrame, palette: dict[str, str]) -> Figure:
    """Errors per image by type and domain; columns type, domain, per_image."""
    figure, axes = plt.subplots(figsize=(6.0, 2.9))
    sns.barplot(table, x="type", y="per_image", hue="domain", palette=palette, ax=axes, saturation=1)
    axes.set(xlabel="", ylabel="errors per image")
    axes.grid(axis="x", visible=False)
    _tidy_legend(axes)
    return figure


@themed
def over_time(rows: pd.DataFrame, palette: dict[str, str]) -> Figure:
    """AP50 of domains over time, measured (filled) or estimated (open), with intervals and rings around
    alarms.

    rows: created (ISO 8601), domain, ap50, ap50_low, ap50_high, estimated_ap50, estimated_low,
        estimated_high, alarm
    """
    figure, axes = plt.subplots(figsize=(9.2, 3.4))
    for name, part in rows.groupby("domain", sort=False):
        when = pd.to_datetime(part["created"], utc=True).dt.tz_localize(None).to_numpy()
        measured = part["ap50"].notna().to_numpy()
        value = part["ap50"].fillna(part["estimated_ap50"]).to_numpy(float)
        low = part["ap50_low"].where(measured, part["estimated_low"]).to_numpy(float)
        high = part["ap50_high"].where(measured, part["estimated_high"]).to_numpy(float)
        colour = palette[str(name)]
        axes.plot(when, value, color=colour, linewidth=1.2, label=_legend_label(str(name)))
        axes.vlines(when, low, high, color=colour, alpha=0.45, linewidth=1.2)
        axes.plot(when[measured], value[measured], "o", color=colour, markersize=4.5)
        axes.plot(when[~measured], value[~measured], "o", color=colour, markersize=4.5, fillstyle="none")
        alarm = part["alarm"].to_numpy(bool)
        axes.plot(when[alarm], value[alarm], "o", color=INK, markersize=11, fillstyle="none")
    axes.set(ylabel="AP50", ylim=(0, 1))
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


@themed
def by_training_size(rows: pd.DataFrame, palette: dict[str, str]) -> Figure:
    """Measured AP50 of domains by annotations in training; rows: training_boxes, domain, ap50, ap50_low,
    ap50_high.
    """
    figure, axes = plt.subplots(figsize=(6.0, 3.2))
    for name, part in rows.groupby("domain", sort=False):
        colour = palette[str(name)]
        axes.vlines(part["training_boxes"], part["ap50_low"], part["ap50_high"], color=colour, alpha=0.45)
        axes.plot(part["training_boxes"], part["ap50"], "o", color=colour, label=_legend_label(str(name)))
    axes.set(xlabel="annotations in training", ylabel="AP50", ylim=(0, 1))
    axes.legend(fontsize=8)
    return figure


@themed
def factors(samples: dict[str, pd.DataFrame], palette: dict[str, str]) -> Figure:
    """Small paired histograms; samples maps a factor's words to a frame with domain and value."""
    count = len(samples)
    columns = min(3, max(1, count))
    rows = -(-count // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(9.2, 2.0 * rows), squeeze=False)
    for axes, (words, frame) in zip(grid.ravel(), samples.items(), strict=False):
        low, high = frame["value"].quantile([0.005, 0.995])
        bins = np.linspace(low, high if high > low else low + 1, 24)
        sns.histplot(
            frame,
            x="value",
            hue="domain",
            palette=palette,
            bins=bins,
            stat="density",
            common_norm=False,
            element="step",
            alpha=0.25,
            legend=False,
            ax=axes,
        )
        axes.set(xlabel=words, ylabel="", yticks=[])
        axes.grid(visible=False)
    for axes in grid.ravel()[count:]:
        axes.axis("off")
    figure.tight_layout()
    return figure


@themed
def reliability(table: pd.DataFrame, palette: dict[str, str]) -> Figure:
    """Precision against confidence; columns domain, confidence, precision."""
    figure, axes = plt.subplots(figsize=(4.2, 3.4))
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1)
    for domain, part in table.groupby("domain", sort=False):
        axes.plot(
            part["confidence"],
            part["precision"],
            "o-",
            color=palette[str(domain)],
            label=_legend_label(str(domain)),
            markersize=4,
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="precision")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    return figure


def _tidy_legend(axes: Axes) -> None:
    """Put the legend above the axes, where it hides nothing, without the title that repeats the column's
    name.
    """
    if axes.get_legend() is not None:
        sns.move_legend(axes, "lower left", bbox_to_anchor=(0, 1), ncol=4, title=None, fontsize=8.5)


@themed
def decomposition(
    measure: str, contributions: pd.DataFrame, start: float, end: float, in_domain: float
) -> Figure:
    """A waterfall from the real-world value to the in-domain one; contributions: name and recovered, best
    first.
    """
    figure, axes = plt.subplots(figsize=(7.2, 0.42 * (len(contributions) + 3) + 0.5))
    names = ["real-world", *contributions["name"], "not recovered", "in-domain"]
    level, bars = start, [(0.0, start, REAL_WORLD[0])]
    for recovered in contributions["recovered"]:
        bars.append((level, float(recovered), REAL_WORLD[1] if recovered >= 0 else REAL_WORLD[2]))
        level += float(recovered)
    bars += [(end, in_domain - end, TRAINING), (0.0, in_domain, IN_DOMAIN)]
    for place, (left, width, colour) in enumerate(bars):
        axes.barh(place, width, left=left, color=colour, height=0.62)
        text = f"{100 * width:+.0f}" if 0 < place < len(bars) - 1 else f"{width:.2f}"
        axes.annotate(text, (max(left, left + width), place), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(measure)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(
        min(0.0, *(left + width for left, width, _ in bars)), max(in_domain, start, end) * 1.12 + 0.02
    )
    return figure


@themed
def estimates(check: pd.DataFrame) -> Figure:
    """Estimated against true AP50 of each corrupted set, by an estimator not fitted on its family.

    check: truth, estimate, severity.
    """
    figure, axes = plt.subplots(figsize=(4.2, 3.8))
    axes.plot([0, 1], [0, 1], color=LINE, linewidth=1)
    for severity, part in check.groupby("severity"):
        axes.plot(
            part["truth"],
            part["estimate"],
            "o",
            color=REAL_WORLD[int(str(severity)) % len(REAL_WORLD)],
            markersize=4.5,
            label=f"severity {severity}",
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("AP50 with labels")
    axes.set_ylabel("estimated AP50 (label-free)")
    axes.legend(loc="upper left")
    return figure


@themed
def forecast(
    points: pd.DataFrame, curves: pd.DataFrame, goal: float, words: str, low: int | None, high: int | None
) -> Figure:
    """AP50 by training labels, the curves through it, the goal, and the range of labels that it takes.

    points: labels, ap50, ap50_low, ap50_high, one row a run. curves: family, labels, score.
    """
    figure, axes = plt.subplots(figsize=(7.2, 3.6))
    for number, (family, part) in enumerate(curves.groupby("family", sort=False)):
        axes.plot(
            part["labels"],
            part["score"],
            color=REAL_WORLD[1 + number % 4],
            linewidth=1.4,
            linestyle=(0, (4, 2)),
            label=str(family),
        )
    sure = points[points["ap50_low"].notna() & points["ap50_high"].notna()]
    axes.vlines(
        sure["labels"], sure["ap50_low"], sure["ap50_high"], color=IN_DOMAIN, linewidth=1.2, alpha=0.6
    )
    axes.plot(points["labels"], points["ap50"], "o", color=IN_DOMAIN, markersize=5, label="measured")
    axes.axhline(goal, color=INK, linewidth=0.9, linestyle=":", label="goal")
    if low is not None and high is not None:
        axes.axvspan(low, high, color=REAL_WORLD[0], alpha=0.25, linewidth=0)
        if low == high:
            axes.axvline(low, color=REAL_WORLD[0], linewidth=1.2)
    axes.set(xscale="log", xlabel=words, ylabel="AP50", ylim=(0, 1))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_formatter(minor_numbers)
    axes.legend(fontsize=8.5)
    return figure


def minor_numbers(value: float, _: float) -> str:
    """Label the ticks at 2 and 5 between powers of ten: a curve of a few sizes often lies between
    two powers.
    """
    return f"{value:,.0f}" if f"{value:e}"[0] in "25" else ""


def standalone(svg: str) -> str:
    """A figure as a file of its own, without a page that gives it colours: dark on white."""
    svg = svg.replace("var(--ink)", "#1b1d21").replace("var(--line)", "#d9dce1")
    return svg.replace("<svg ", '<svg style="background: #ffffff" ', 1)


@themed
def timeline(clips: dict[str, pd.DataFrame]) -> Figure:
    """For each clip two strips over its seconds: distance from training (1 is the edge of the in-domain
    range) and highest confidence.

    Dashed lines are scene cuts.
    """
    figure, axes = plt.subplots(
        2,
        len(clips),
        figsize=(max(4.6, 9.2 / 3 * len(clips)), 3.0),
        sharex="col",
        sharey="row",
        squeeze=False,
    )
    for column, (name, frames) in enumerate(clips.items()):
        upper, lower = axes[:, column]
        upper.plot(frames["seconds"], frames["novelty"], color=REAL_WORLD[0], linewidth=1.6)
        upper.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
        lower.plot(frames["seconds"], frames["highest"], color=IN_DOMAIN, linewidth=1.6)
        lower.set_ylim(0, 1)
        for second in frames.loc[frames["cut"], "seconds"]:
            for strip in (upper, lower):
                strip.axvline(second, color=INK, linewidth=0.9, linestyle="--")
        upper.set_title(_shorten(name), fontsize=9.5)
        lower.set_xlabel("seconds")
    axes[0, 0].set_ylabel("distance")
    axes[1, 0].set_ylabel("confidence")
    return figure


def _shorten(name: str, limit: int = 26) -> str:
    """A clip's name, its end kept, since names of one recording begin alike."""
    return name if len(name) <= limit else "\u2026" + name[1 - limit :]
