"""`python -m benchmarks.resized`: whether AP50 estimated without labels knows which image size helps.

Sets of real photographs are predicted at a detector's image size and twice as large. The change of AP50 that
`diagnostics.resized` estimates from a few of their images, without labels, is put beside the change by labels
on all of them. Each call adds its rows to benchmarks/resized.csv and writes docs/image-size.md. The
photographs are not part of the project: any labelled sets and their detector will do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from benchmarks.real_domains import DECIMALS, add_rows, labelled_ap50
from datasets.groups import evenly
from diagnostics.evidence import HARMLESS_GAP
from diagnostics.label_free import CORRUPTION_IMAGES, fit_estimator
from diagnostics.resized import MOST, Resized, estimate_recovery, is_worth_it, size_to_try
from reports.options import ReportOptions
from reports.pipeline.corruptions import corrupt_in_domain, development_sets
from reports.pipeline.effort import Budget
from reports.pipeline.inference import predict_domains
from reports.pipeline.interventions import DomainPredictor
from reports.pipeline.runs import load_run
from reports.progress import Reporter

ROWS = Path(__file__).with_suffix(".csv")
PAGE = Path(__file__).parents[1] / "docs" / "image-size.md"


def read_rows() -> pd.DataFrame:
    """The rows so far; none before the first call."""
    return pd.read_csv(ROWS) if ROWS.exists() else pd.DataFrame()


def measure(options: ReportOptions, detector: str, reporter: Reporter) -> pd.DataFrame:
    """One row a labelled real-world domain: detector, domain, images, imgsz, tried (how much larger a report
    would draw it; NaN where it keeps the size), advised (by these estimates, it would use the larger size),
    and AP50 at imgsz and at MOST times that: estimate_before and estimate_after on at most CORRUPTION_IMAGES
    images, before and after by the labels of all.
    """
    predicted = predict_domains(options, load_run(options), reporter)
    assert predicted.detector is not None
    assert predicted.run is not None
    predictor = DomainPredictor(predicted.detector, predicted.run, predicted.settings, reporter)
    in_domain, imgsz = predicted.in_domain, predicted.settings.imgsz
    budget = Budget(options.effort, 0, imgsz)
    estimator = fit_estimator(in_domain, corrupt_in_domain(predictor, in_domain, budget), development_sets())
    rows: list[dict[str, Any]] = []
    for domain in predicted.real_world:
        size = round(MOST * imgsz)
        with reporter.stage("interventions", f"{size} px on {domain.name}", len(domain.images)) as tick:
            larger = predictor.predict(domain, None, tick, imgsz=size, embed_detections=True)
        sample = evenly(domain.images, CORRUPTION_IMAGES)["image"]
        found = estimate_recovery(estimator, Resized(size, domain.subset(sample), larger.subset(sample)))
        is_drop = found is not None and estimator.reference.ap50 - found.before > HARMLESS_GAP
        rows.append(
            {
                "detector": detector,
                "domain": domain.name,
                "images": len(domain.images),
                "imgsz": imgsz,
                "tried": size_to_try(in_domain, domain) or np.nan,
                "advised": is_drop and found is not None and is_worth_it(found),
                "estimate_before": np.nan if found is None else found.before,
                "estimate_after": np.nan if found is None else found.after,
                "before": labelled_ap50(domain),
                "after": labelled_ap50(larger),
            }
        )
    return pd.DataFrame(rows).dropna(subset=["before", "after"]).round(DECIMALS)


def error(rows: pd.DataFrame) -> float:
    """Root mean square error of the estimated change of AP50, where there is an estimate."""
    off = (rows["estimate_after"] - rows["estimate_before"]) - (rows["after"] - rows["before"])
    return float(np.sqrt((off**2).mean()))


def summary(rows: pd.DataFrame) -> str:
    """What the rows show, in sentences."""
    gain, estimated = rows["after"] - rows["before"], rows["estimate_after"] - rows["estimate_before"]
    tried, rose = rows["tried"] > 1, estimated > HARMLESS_GAP
    advised = tried & rows["advised"].astype(bool)
    return (
        f"On {int(estimated.notna().sum())} sets of photographs, the estimated change of AP50 was off by\n"
        f"{error(rows):.2f} (root mean square). Where the estimate rose by more than five points, AP50 by\n"
        f"labels rose in {_share(gain > 0, rose)}. A report would draw {int(tried.sum())} of the sets larger, "
        f"and advise that size for {int(advised.sum())};\n"
        f"AP50 by labels rises in {_share(gain > 0, advised)} of these, by more than five points in "
        f"{_share(gain > HARMLESS_GAP, advised)}. Most sets are of one\n"
        "detector, so that they say less than as many independent ones."
    )


def _share(right: pd.Series, among: pd.Series) -> str:
    """How many of some rows."""
    return f"{int((right & among).sum())} of {int(among.sum())}"


def page(rows: pd.DataFrame) -> str:
    """docs/image-size.md."""
    lines = [
        "# Whether larger images help, without labels",
        "",
        "`python -m benchmarks.resized` writes this page. Where detections are smaller than in-domain, or too",
        f"few to tell, a report also predicts at most {CORRUPTION_IMAGES} images larger, at most "
        f"{MOST:.0f} times, and estimates AP50",
        "without labels at both sizes. Here all sets are predicted twice as large, and both estimates stand",
        "beside AP50 by the labels of all images, over the classes with 20 annotations or more.",
        "",
        summary(rows),
        "",
        "| detector | domain | images | size (px) | AP50 by labels | twice as large | estimated | twice as "
        "large | a report |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows.to_dict("records"):
        if row["tried"] > 1:
            what = "advises it" if row["advised"] else f"tries {row['tried']:.1f} times as large"
        else:
            what = "tries a smaller size" if row["tried"] < 1 else "keeps the size"
        values = [
            "refused" if row[name] != row[name] else f"{row[name]:.2f}"
            for name in ("before", "after", "estimate_before", "estimate_after")
        ]
        cells = [row["detector"], row["domain"], row["images"], row["imgsz"], *values, what]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main(
    detector: Annotated[str | None, typer.Argument(help="Name of the detector in the table.")] = None,
    in_domain: Annotated[str | None, typer.Option(help="NAME=SOURCE of its validation images.")] = None,
    real_world: Annotated[list[str] | None, typer.Option(help="NAME=SOURCE with labels; repeatable.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Its checkpoint.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="Network input size in pixels.")] = None,
) -> None:
    """Measure a detector's rows, and write the page; without a detector, the page only."""
    rows = read_rows()
    if detector is None and rows.empty:
        raise typer.BadParameter(f"there is no {ROWS}: name a detector and its sets first")
    if detector is not None:
        options = ReportOptions(
            weights=weights, in_domain=in_domain, real_world=tuple(real_world or ()), imgsz=imgsz, seed=0
        )
        rows = add_rows(ROWS, detector, measure(options, detector, Reporter()))
    PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
