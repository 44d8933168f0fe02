"""`python -m benchmarks.real_domains`: how wrong the label-free estimate is on real photographs with labels.

Corrupted images of a detector's own set are easier than another camera, country or season, so an interval
from them alone is too narrow there. This adds one row a real-world domain to the table that widens it, see
`diagnostics.label_free.Estimator`. The photographs need not be at hand to use the table; it holds two numbers
of each domain.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from diagnostics.counterfactuals import ap50
from diagnostics.domain import Domain
from diagnostics.label_free import estimate_ap50, fit_estimator
from reports.options import ReportOptions
from reports.pipeline.corruptions import (
    REAL_DOMAINS,
    corrupt_in_domain,
    development_sets,
    predict_squeezed_domains,
)
from reports.pipeline.effort import Budget
from reports.pipeline.inference import predict_domains
from reports.pipeline.interventions import DomainPredictor
from reports.pipeline.runs import load_run
from reports.progress import Reporter

# AP50 of a class with fewer annotations is noise.
MIN_ANNOTATIONS = 20
DECIMALS = 4


def labelled_ap50(domain: Domain) -> float:
    """Mean AP50 of the classes that have MIN_ANNOTATIONS; NaN without any. Other classes are not scored: a
    set with labels of cars says nothing about the persons in it.
    """
    counts = domain.annotations.loc[~domain.annotations["crowd"].astype(bool), "label"].value_counts()
    classes = [int(label) for label, number in counts.items() if number >= MIN_ANNOTATIONS]
    return float(np.mean([ap50(domain.only([label])) for label in classes])) if classes else float("nan")


def measure(options: ReportOptions, detector: str, reporter: Reporter) -> pd.DataFrame:
    """One row a labelled real-world domain: detector, domain, images, in_domain, estimate (NaN where
    refused), truth.
    """
    predicted = predict_domains(options, load_run(options), reporter)
    assert predicted.detector is not None
    assert predicted.run is not None
    predictor = DomainPredictor(predicted.detector, predicted.run, predicted.settings, reporter)
    in_domain = predicted.in_domain
    budget = Budget(options.effort, 0, predicted.settings.imgsz)
    squeezed = predict_squeezed_domains(predictor, predicted.real_world, budget)
    estimator = fit_estimator(in_domain, corrupt_in_domain(predictor, in_domain, budget), development_sets())
    rows: list[dict[str, Any]] = []
    for domain in predicted.real_world:
        estimate = estimate_ap50(in_domain, domain, estimator, squeezed[domain.name])
        rows.append(
            {
                "detector": detector,
                "domain": domain.name,
                "images": len(domain.images),
                "in_domain": ap50(in_domain),
                "estimate": np.nan if estimate.ap50 is None else estimate.ap50,
                "truth": labelled_ap50(domain),
            }
        )
    return pd.DataFrame(rows).dropna(subset=["truth"]).round(DECIMALS)


def add_rows(path: Path, detector: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Write the rows of a detector into a table of all, in place of its earlier ones; the whole table."""
    if path.exists():
        earlier = pd.read_csv(path)
        rows = pd.concat([earlier[earlier["detector"] != detector], rows], ignore_index=True)
    rows.to_csv(path, index=False)
    return rows


def main(
    detector: Annotated[str, typer.Argument(help="Name of the detector in the table.")],
    in_domain: Annotated[str, typer.Option(help="NAME=SOURCE of its validation images.")],
    real_world: Annotated[list[str], typer.Option(help="NAME=SOURCE with labels; repeatable.")],
    weights: Annotated[Path, typer.Option(help="Its checkpoint.")],
    imgsz: Annotated[int | None, typer.Option(help="Network input size in pixels.")] = None,
    out: Annotated[
        Path, typer.Option(help="Table to add to; rows of this detector are replaced.")
    ] = REAL_DOMAINS,
) -> None:
    """Predict, estimate, compare with the labels, and add the rows."""
    options = ReportOptions(
        weights=weights, in_domain=in_domain, real_world=tuple(real_world), imgsz=imgsz, seed=0
    )
    add_rows(out, detector, measure(options, detector, Reporter()))


if __name__ == "__main__":
    typer.run(main)
