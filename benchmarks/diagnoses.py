"""`python -m benchmarks.diagnoses`: what reports said about real footage, beside what is known of it; writes
docs/diagnoses.md.

The footage is public and not part of the project, so each report is given as a folder that `shiftscope
report` wrote: `python -m benchmarks.diagnoses city=DIR flight=DIR nadir=DIR ...`. The page has their words
and figures, and no photograph.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import typer

from benchmarks.resized import ROWS as RESIZED
from diagnostics.wording import STATUS_WORDS, fraction
from shiftscope import open_report
from shiftscope.results import Report

PAGE = Path(__file__).parents[1] / "docs" / "diagnoses.md"
FIGURE = PAGE.with_suffix(".svg")


# What benchmarks/resized.py measured.
FOOTBALL = (
    pd.read_csv(RESIZED).set_index(["detector", "domain", "imgsz"]).loc[("coco", "football_pitch", 320)]
)


class Case(NamedTuple):
    """Footage of which something is known.

    title: what it is
    known: what is known of it, and from where
    judgement: how the verdict compares with that
    """

    title: str
    known: str
    judgement: str


CASES = {
    "city": Case(
        "A pothole detector on scans of lanes from above",
        "Trained for 20 epochs on 500 photographs taken from the roadside (ground664); these 400 images of "
        "whole lanes look straight down, and their potholes are labelled.",
        "Right: the camera's viewpoint is what differs. That cracks and shallow potholes may be labelled by "
        "another rule is said and not tested.",
    ),
    "flight": Case(
        "The same detector, and one unlabelled drone video",
        "A drone hovers over a road full of holes, and a car crosses. Nobody labelled it.",
        "The honest end of what images alone show: a likely shift, an estimate with a wide interval, and the "
        "five minutes of clicks that would measure it. Whether *appearance* is the right kind is not known.",
    ),
    "football": Case(
        "A COCO detector at 320 px on a football pitch, without labels",
        "Broadcast images; the players are small. Their labels were kept from the report: by these, AP50 over "
        f"players and balls is {fraction(FOOTBALL['before'])} at 320 px and {fraction(FOOTBALL['after'])} at "
        "the 640 px that `shiftscope predict --from-report` uses ([image-size.md](image-size.md)).",
        "Right, and from images alone: the players are too small at 320 px. The estimate is too high at 640 "
        "px, where the ball is still not found.",
    ),
    "nadir": Case(
        "A COCO detector on a road seen straight from above",
        "YOLO11n with 80 classes, of which this footage has one: 682 cars, seen as roofs.",
        "Right.",
    ),
    "thermal": Case(
        "A COCO detector on thermal images from a drone",
        "Infrared, from 60 to 130 m: persons, cars and bicycles, most of them tiny.",
        "Right that no image size mends it (three sizes were tried); a person would have named the height as well.",
    ),
    "fog": Case(
        "A COCO detector in fog",
        "Road-level photographs in fog, haze and mist; six classes are labelled.",
        "Right: fog is appearance, and matching brightness and colours does not lift it.",
    ),
    "animals": Case(
        "A COCO detector on photographs of elephants and bears",
        "Web photographs much like those it was trained on: nothing should fail.",
        "Right: no cause is invented. It says that the in-domain images hold other classes.",
    ),
}
# Shares of the drop beyond this are drawn at the edge.
EDGE = 0.6


def verdict_of(report: Report, name: str) -> dict[str, Any]:
    """A domain's entry in report.json. Raises SystemExit where the report has no verdict about it."""
    for domain in report.record["domains"]:
        if domain["name"] == name and domain["verdict"]:
            return dict(domain)
    raise SystemExit(f"{name}: {report.folder} has no verdict about a domain of that name")


def section(name: str, domain: dict[str, Any]) -> list[str]:
    """A case as Markdown."""
    case, verdict = CASES[name], domain["verdict"]
    rows = [
        f"| {STATUS_WORDS[h['status']]} | {h['name']} | {h['statement']} |" for h in verdict["hypotheses"]
    ]
    return [
        f"## {case.title}",
        "",
        f"*What is known*: {case.known}",
        "",
        f"> **{verdict['cause']}.** {verdict['statement']}",
        ">",
        f"> **Next step.** {verdict['next_step']}",
        "",
        f"*Beside what is known*: {case.judgement}",
        "",
        "| state | hypothesis | why |",
        "|---|---|---|",
        *rows,
        "",
    ]


def interventions(domains: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """One row a case and intervention: the share of the drop that it recovers, with its 95 % interval."""
    return pd.DataFrame(
        [
            {"case": name, **values}
            for name, domain in domains.items()
            for values in domain["verdict"]["interventions"].values()
        ]
    )


def draw(table: pd.DataFrame) -> str:
    """The interventions as a figure: which of them mends what, as SVG."""
    cases = table["case"].drop_duplicates().tolist()
    with plt.style.context(
        ["default", {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "diagnoses"}]
    ):
        figure, axes = plt.subplots(
            len(cases),
            1,
            figsize=(7, 0.5 + 0.28 * len(table) + 0.3 * len(cases)),
            height_ratios=[(table["case"] == case).sum() + 0.6 for case in cases],
            sharex=True,
            squeeze=False,
            layout="constrained",
        )
        for axis, case in zip(axes[:, 0], cases, strict=True):
            rows = table[table["case"] == case].reset_index(drop=True)
            low, share, high = (rows[c].clip(-EDGE, EDGE) for c in ("low", "share", "high"))
            axis.hlines(rows.index, low, high, color="#8a8f98", linewidth=2)
            axis.plot(share, rows.index, "o", color="#0072b2", markersize=6)
            axis.axvline(0, color="#333333", linewidth=0.8)
            axis.axvline(0.5, color="#b23a1d", linewidth=0.8, linestyle="--")
            axis.set(yticks=rows.index, yticklabels=rows["name"], xlim=(-EDGE, EDGE), title=case)
            axis.title.set(fontsize=9, fontweight="bold")
            axis.invert_yaxis()
            axis.spines[["top", "right"]].set_visible(False)
        axes[-1, 0].set_xlabel("share of the drop in AP50 that it recovers, with its 95 % interval")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        plt.close(figure)
    return text.getvalue()


def main(
    reports: Annotated[list[str], typer.Argument(help="NAME=DIR: a case and the folder of its report")],
) -> None:
    """Write docs/diagnoses.md and its figure from reports about the cases."""
    folders = dict(given.split("=", 1) for given in reports)
    unknown = sorted(set(folders) - set(CASES))
    if unknown or not folders:
        raise typer.BadParameter(f"{unknown}: the cases are {', '.join(CASES)}")
    domains = {name: verdict_of(open_report(folders[name]), name) for name in CASES if name in folders}
    lines = [
        "# Diagnoses of real footage",
        "",
        "`python -m benchmarks.diagnoses` writes this page from reports about public footage that nobody rendered. Each is what",
        "a report says, word for word, beside what is known of the footage. They were chosen for being different; how often such",
        "verdicts are right is measured in [photographs.md](photographs.md), with the cases that went wrong.",
        "",
        "![What each intervention recovers of the drop in AP50, by case](diagnoses.svg)",
        "",
        "Nothing right of the dashed line means that no such change mends half of the drop without new training images.",
        "",
    ]
    for name, domain in domains.items():
        lines += section(name, domain)
    FIGURE.write_text(draw(interventions(domains)), encoding="utf-8")
    PAGE.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
