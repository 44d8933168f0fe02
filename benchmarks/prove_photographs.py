"""`python -m benchmarks.prove_photographs`: how often the cause is named right on real photographs.

Every case is diagnosed three times: with everything; by predictions and labels alone, as where there are no
weights; and by weights without the footage's labels. Half of a detector's validation images stay as they are;
into the other half, causes are planted (see `photographs`). Real pairs of domains are diagnosed as they are.
Each call adds its rows to benchmarks/photographs.csv and writes docs/photographs.md from all of them. The
photographs are not part of the
project: any labelled set and its detector will do.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import typer
from sklearn.linear_model import LogisticRegression

from benchmarks.photographs import CASES, POWER, TEMPERED, halves, recipe_key, write_dataset
from benchmarks.prove_page import rate
from datasets.source import open_source
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.evidence import HARMLESS_GAP
from diagnostics.findings import Findings, find
from diagnostics.inputs import Experiments, Inputs
from diagnostics.intervals import wilson
from reports.options import ReportOptions
from reports.pipeline.experiments import run_experiments
from reports.pipeline.inference import PredictedDomains, predict_domains
from reports.pipeline.runs import load_run
from reports.progress import Reporter
from train.environment import frames_folder, runs_folder

ROWS = Path(__file__).with_name("photographs.csv")
PAGE = Path(__file__).parents[1] / "docs" / "photographs.md"
FIGURE = PAGE.with_suffix(".svg")
COLUMNS = (
    "detector", "case", "planted", "cause", "kind", "leading", "grade", "score", "leading_kind", "rival",
    "ap50_in_domain", "ap50_real_world", "unresolved", "images", "by_predictions", "without_labels",
)  # fmt: skip
SEED = 0
BINS = (0.0, 0.6, 0.7, 0.8, 0.9, 1.0)
# Detectors whose rows were looked at while rules were written. The last is another training on the photographs
# of the one before.
LOOKED_AT = ("ground664", "coco", "traffic", "traffic12")
# Causes that footage without labels cannot have.
OF_LABELS = ("label_protocol", "label_error")


def read_rows() -> pd.DataFrame:
    """The rows so far; none before the first call."""
    if not ROWS.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    rows = pd.read_csv(ROWS)
    texts = rows.select_dtypes(exclude=["number", "bool"]).columns
    return rows.assign(**{column: rows[column].fillna("") for column in texts})


@dataclass(frozen=True)
class Diagnoses:
    """One diagnosis for each kind of evidence.

    full: with weights and labels
    by_predictions: from the same detections and labels, without weights
    without_labels: with weights, none of the footage labelled; None where the detections are not the
        detector's own
    """

    full: Findings
    by_predictions: Findings
    without_labels: Findings | None


def diagnose(options: ReportOptions, reporter: Reporter) -> Diagnoses:
    """Diagnose the domains of a report with each kind of evidence."""
    predicted = predict_domains(options, load_run(options), reporter)
    given = _inputs(options, predicted, reporter)
    bare = Inputs(
        _without_embeddings(predicted.in_domain),
        [_without_embeddings(domain) for domain in predicted.real_world],
        None,
        pd.DataFrame(),
        Experiments(),
        conf=None,
        seed=SEED,
    )
    without_labels = None
    if not options.predictions:
        footage = {
            name: _without_labels(domain) if domain.role == "real_world" else domain
            for name, domain in predicted.domains.items()
        }
        unlabelled = replace(predicted, domains=footage)
        without_labels = find(_inputs(replace(options, label_free=True), unlabelled, reporter))
    return Diagnoses(find(given), find(bare), without_labels)


def _inputs(options: ReportOptions, predicted: PredictedDomains, reporter: Reporter) -> Inputs:
    """What a report would be found from, with the experiments that its domains allow."""
    assert predicted.run is not None
    return Inputs(
        predicted.in_domain,
        predicted.real_world,
        predicted.training,
        predicted.run.history,
        run_experiments(options, predicted, reporter),
        conf=None,
        training_total=predicted.training_total,
        known_pairs=predicted.pairs,
        seed=SEED,
    )


def _without_embeddings(domain: Domain) -> Domain:
    """What a file of predictions gives."""
    return replace(
        domain,
        image_embeddings=np.zeros((len(domain.images), 0), np.float32),
        detection_embeddings=np.zeros((len(domain.detections), 0), np.float32),
    )


def _without_labels(domain: Domain) -> Domain:
    """The footage before anybody labels it."""
    return replace(
        domain, images=domain.images.assign(labelled=False), annotations=domain.annotations.head(0)
    )


def _named(findings: Findings | None, name: str) -> str:
    """The cause that is named for a domain, or "undecided"; "" where it was not diagnosed."""
    return "" if findings is None else findings.verdicts[name].leading or "undecided"


def rows_of(
    diagnoses: Diagnoses, detector: str, truth: dict[str, tuple[str, str, str, bool]]
) -> pd.DataFrame:
    """One row a domain. truth: domain -> name of the case, right cause, right kind, whether it was
    planted.
    """
    findings = diagnoses.full
    rows: list[dict[str, Any]] = []
    for name, (case, cause, kind, planted) in truth.items():
        verdict, evidence = findings.verdicts[name], findings.evidences[name]
        if cause != TEMPERED.cause and evidence.gap is not None and evidence.gap <= HARMLESS_GAP:
            # The detector does not mind: there is no failure to explain.
            cause, kind = "none", ""
        leading = verdict.named(verdict.leading) if verdict.leading else None
        domain = next(domain for domain in findings.real_world if domain.name == name)
        rows.append(
            {
                "detector": detector,
                "case": case,
                "planted": planted,
                "cause": cause,
                "kind": kind,
                "leading": leading.code if leading else "",
                "grade": verdict.grade,
                "score": round(leading.score, 4) if leading and leading.score is not None else np.nan,
                "leading_kind": leading.kind if leading else "",
                "rival": verdict.rival or "",
                "ap50_in_domain": round(evidence.in_domain_ap50, 4),
                "ap50_real_world": round(evidence.real_world_ap50, 4),
                "unresolved": float(evidence.gap_is_unresolved),
                "images": len(domain.images),
                "by_predictions": _named(diagnoses.by_predictions, name),
                "without_labels": _named(diagnoses.without_labels, name),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def planted_rows(
    detector: str, weights: Path, in_domain: str, imgsz: int | None, reporter: Reporter
) -> pd.DataFrame:
    """The cases of `photographs` on one detector's validation images."""
    source = open_source(in_domain, cache=frames_folder())
    known, footage = halves(source, SEED)
    folder = runs_folder() / "photographs" / f"{detector}-{recipe_key(in_domain, SEED)}"
    base = write_dataset(folder / "in_domain", source, known, CASES[0], SEED)
    real_world, truth = [], {}
    for number, case in enumerate(CASES):
        place = write_dataset(folder / f"case{number}", source, footage, case, SEED)
        real_world.append((f"case{number}", str(place)))
        truth[f"case{number}"] = (case.name, case.cause, case.kind, True)
    options = ReportOptions(
        weights=weights, in_domain=("in-domain", str(base)), real_world=tuple(real_world), imgsz=imgsz,
        label_free=False, checkpoints=0, seed=SEED,
    )  # fmt: skip
    diagnoses = diagnose(options, reporter)
    table = rows_of(diagnoses, detector, truth)
    tempered = _tempered(diagnoses.full, folder / "tempered.json")
    options = ReportOptions(
        weights=weights, in_domain=("in-domain", str(base)), real_world=(("tempered", str(folder / "case0")),),
        predictions=(("tempered", tempered),), imgsz=imgsz, label_free=False, checkpoints=0, seed=SEED,
    )  # fmt: skip
    truth = {"tempered": (TEMPERED.name, TEMPERED.cause, "", True)}
    return pd.concat([table, rows_of(diagnose(options, reporter), detector, truth)], ignore_index=True)


def _tempered(findings: Findings, path: Path) -> Path:
    """The detections of the unchanged half with their confidences to a power, as COCO results."""
    domain = next(domain for domain in findings.real_world if domain.name == "case0")
    results = [
        {
            "image_id": Path(str(image)).stem,
            "category_id": int(label),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": float(confidence) ** POWER,
        }
        for image, label, confidence, x1, y1, x2, y2 in domain.detections[
            ["image", "label", "confidence", *CORNERS]
        ].itertuples(index=False, name=None)
    ]
    path.write_text(json.dumps(results), encoding="utf-8")
    return path


def pair_rows(
    detector: str, weights: Path, in_domain: str, pairs: list[str], imgsz: int | None, reporter: Reporter
) -> pd.DataFrame:
    """Real domains as they are, each in a report of its own, so that none depends on what the others cost.
    pairs: NAME=SOURCE=CAUSE or NAME=SOURCE=CAUSE:KIND.
    """
    parts = []
    for text in pairs:
        name, spec, right = text.split("=")
        cause, _, kind = right.partition(":")
        options = ReportOptions(
            weights=weights, in_domain=("in-domain", in_domain), real_world=((name, spec),), imgsz=imgsz,
            label_free=False, checkpoints=0, seed=SEED,
        )  # fmt: skip
        parts.append(rows_of(diagnose(options, reporter), detector, {name: (name, cause, kind, False)}))
    return pd.concat(parts, ignore_index=True)


def fit(rows: pd.DataFrame) -> tuple[float, float]:
    """Intercept and slope of the probability that a named cause is right, by its score; see
    `diagnostics.hypotheses.probability`. The slope is drawn to 0 by one unit of ridge on the standardised
    score, as a few dozen rows ask for.
    """
    named = scored(rows)
    if named["right"].nunique() < 2:
        # All right, or all wrong: one more half of each (Jeffreys).
        count, right = len(named), int(named["right"].sum())
        return round(float(np.log((right + 0.5) / (count - right + 0.5))), 2), 0.0
    middle, spread = float(named["score"].mean()), float(named["score"].std()) or 1.0
    standardised = ((named["score"] - middle) / spread).to_numpy(float)[:, None]
    model = LogisticRegression(C=1.0).fit(standardised, named["right"].to_numpy(bool))
    slope = float(model.coef_[0, 0]) / spread
    return round(float(model.intercept_[0]) - slope * middle, 2), round(slope, 2)


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that name a cause which was tested, with a column right."""
    numbers = rows[["score", "ap50_real_world"]].apply(pd.to_numeric, errors="coerce")
    named = rows[(rows["leading"] != "") & numbers.notna().all(axis=1)]
    return named.assign(score=named["score"].astype(float), right=named["leading"] == named["cause"])


def left_out(rows: pd.DataFrame) -> pd.DataFrame:
    """`scored` with a column stated: the probability by the rows of the other detectors."""
    parts = []
    for detector, part in scored(rows).groupby("detector"):
        intercept, slope = fit(rows[rows["detector"] != detector])
        parts.append(part.assign(stated=1 / (1 + np.exp(-(intercept + slope * part["score"])))))
    return pd.concat(parts, ignore_index=True)


def reliability(stated: pd.DataFrame) -> tuple[list[str], float]:
    """Rows of a reliability table, and the expected calibration error over its bins."""
    bins = pd.cut(stated["stated"], BINS, include_lowest=True)
    lines, error = [], 0.0
    for edges, part in stated.groupby(bins, observed=True):
        mean, share = float(part["stated"].mean()), float(part["right"].mean())
        error += len(part) / len(stated) * abs(mean - share)
        span = f"{max(edges.left, 0.0):.1f} to {edges.right:.1f}"
        lines.append(f"| {span} | {mean:.2f} | {rate(int(part['right'].sum()), len(part))} |")
    return lines, error


def summary(rows: pd.DataFrame) -> list[str]:
    """Shares of right diagnoses as a table in Markdown."""
    # Where there is no failure, "cannot tell" names none either.
    right = (rows["leading"] == rows["cause"]) | ((rows["cause"] == "none") & (rows["leading"] == ""))
    named = rows["leading"] != ""
    established = rows["grade"] == "established"
    failures, fine = rows["cause"] != "none", rows["cause"] == "none"
    shifts = right & (rows["kind"] != "")
    fresh = ~rows["detector"].isin(LOOKED_AT)
    return [
        "| | share right |",
        "|---|---|",
        *(
            f"| {words} | {rate(int((mask & right).sum()), int(mask.sum()))} |"
            for words, mask in (
                ("right cause first, planted", rows["planted"].astype(bool) & failures),
                ("right cause first, pairs as they are", ~rows["planted"].astype(bool) & failures),
                ("right cause first, where chance does not explain the drop", failures & ~_unresolved(rows)),
                ("no failure kept", fine),
                ("right where a cause is named at all", named),
                ("right where the cause is established", established),
                ("right cause first, detectors not looked at", fresh & failures),
                ("no failure kept, detectors not looked at", fresh & fine),
            )
            if mask.any()
        ),
        *_by_evidence(rows),
        f"| right kind of a shift | {rate(int((rows['kind'] == rows['leading_kind'])[shifts].sum()), int(shifts.sum()))} |",
    ]


def beside_simulated(rows: pd.DataFrame) -> str:
    """The section of docs/proof.md about photographs."""
    looked_at = ", ".join(f"`{name}`" for name in LOOKED_AT)
    lines = [
        "",
        "## Beside photographs",
        "",
        "Simulated worlds are a hint; photographs decide. The same rules on real detectors and real images, with causes planted",
        f"and as they are ({len(rows)} cases, [photographs.md](photographs.md)); rules were changed after looking at rows of",
        f"{looked_at}.",
        "",
        *summary(rows),
        "",
        "![Stated probabilities beside the share that was right](photographs.svg)",
    ]
    return "\n".join(lines) + "\n"


def draw_reliability(stated: pd.DataFrame) -> str:
    """Stated probabilities beside the share that was right, with 95 % Wilson intervals, as SVG."""
    with plt.style.context(
        ["default", {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "photographs"}]
    ):
        figure, axis = plt.subplots(figsize=(4.4, 4), layout="constrained")
        axis.plot([0, 1], [0, 1], color="#8a8f98", linewidth=1, linestyle="--")
        bins = pd.cut(stated["stated"], BINS, include_lowest=True)
        for _, part in stated.groupby(bins, observed=True):
            low, high = wilson(int(part["right"].sum()), len(part))
            mean = float(part["stated"].mean())
            axis.vlines(mean, low, high, color="#8a8f98", linewidth=2)
            axis.plot(mean, float(part["right"].mean()), "o", color="#0072b2")
            axis.annotate(f"{len(part)}", (mean, low), (0, -10), textcoords="offset points", ha="center")
        # Each case as a tick, right ones above and wrong ones below.
        for is_right, height in ((True, 1.04), (False, -0.04)):
            cases = stated.loc[stated["right"] == is_right, "stated"]
            axis.plot(
                cases, [height] * len(cases), "|", color="#0072b2" if is_right else "#b23a1d", markersize=7
            )
        axis.set(xlim=(0, 1.02), ylim=(-0.08, 1.08), xlabel="stated probability", ylabel="share right")
        axis.spines[["top", "right"]].set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        plt.close(figure)
    return text.getvalue()


def page(rows: pd.DataFrame) -> str:
    """docs/photographs.md."""
    lines = [
        "# How often the diagnosis is right on real photographs",
        "",
        "`python -m benchmarks.prove_photographs` writes this page. Causes were planted into the validation images of",
        "real detectors, and real pairs of domains were diagnosed as they are. What lowers AP50 by no more than",
        "five points is no failure; where nothing failed, naming no cause is right too. Where the 95 % interval of a drop",
        "has 0, as on sets of 30 images, chance explains it, and a report names no cause; these cases count as failures, and",
        "two lines leave them out. The codes of causes are those of `verdict` in `report.json`.",
        "",
        f"Rules were changed after looking at rows of {', '.join(f'`{name}`' for name in LOOKED_AT)}: only the lines",
        "marked *detectors not looked at* are of rows that nobody had looked at. A 12 behind a name is another training, of",
        "12 epochs, on the same photographs.",
        "",
        *summary(rows),
        "",
        *_probability_section(rows),
        "| detector | case | right | named | grade | not ruled out | AP50 in-domain | AP50 real world | images |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows.astype(object).fillna("").itertuples():
        cause = f"{row.cause} ({row.kind})" if row.kind else row.cause
        leading = f"{row.leading} ({row.leading_kind})" if row.leading_kind else row.leading or "undecided"
        mark = f"**{leading}**" if row.leading == row.cause else leading
        values = (
            row.detector,
            row.case,
            cause,
            mark,
            row.grade,
            row.rival,
            row.ap50_in_domain,
            row.ap50_real_world,
        )
        lines.append(f"| {' | '.join(map(str, values))} | {row.images} |")
    return "\n".join(lines) + "\n"


def _unresolved(rows: pd.DataFrame) -> pd.Series:
    """Whether labels leave open that there is a drop: its 95 % interval has 0. Not known of earlier rows."""
    return pd.to_numeric(rows["unresolved"], errors="coerce") == 1


def _by_evidence(rows: pd.DataFrame) -> list[str]:
    """Rows of the first table about less evidence: right of the failures, of what is named, and where nothing
    failed. Without labels, nothing can be wrong with them: those cases are images that others count already.
    """
    lines = []
    for column, words in (
        ("by_predictions", "by predictions and labels, without weights"),
        ("without_labels", "by weights, without labels of the footage"),
    ):
        diagnosed = rows[rows[column] != ""] if column in rows else rows.head(0)
        if column == "without_labels":
            diagnosed = diagnosed[~diagnosed["cause"].isin(OF_LABELS)]
        failed, fine = diagnosed[diagnosed["cause"] != "none"], diagnosed[diagnosed["cause"] == "none"]
        named = diagnosed[diagnosed[column] != "undecided"]
        fresh = failed[~failed["detector"].isin(LOOKED_AT)]
        right = diagnosed[column] == diagnosed["cause"]
        # What labels leave open is no matter where there are none.
        shown = failed[~_unresolved(failed)] if column == "by_predictions" else failed.head(0)
        for what, part, kept in (
            ("right cause first", failed, right),
            ("right cause first, detectors not looked at", fresh, right),
            (
                "right cause first, where chance does not explain the drop",
                shown,
                right,
            ),
            ("right where one is named", named, right),
            ("no failure kept", fine, right | (diagnosed[column] == "undecided")),
        ):
            if len(part):
                lines.append(f"| {words}: {what} | {rate(int(kept[part.index].sum()), len(part))} |")
    return lines


def _probability_section(rows: pd.DataFrame) -> list[str]:
    """The reliability of the stated probability; nothing with one detector."""
    if rows["detector"].nunique() < 2 or scored(rows)["right"].nunique() < 2:
        return []
    lines, error = reliability(left_out(rows))
    intercept, slope = fit(rows)
    return [
        "## The stated probability",
        "",
        f"A named cause is right with probability 1 / (1 + exp(-({intercept} + {slope} score))). Below, each",
        f"detector by a curve fitted on the others: expected calibration error **{error:.2f}**.",
        "",
        "| stated | mean | share right |",
        "|---|---|---|",
        *lines,
        "",
        "![Stated probabilities beside the share that was right: each tick is a case, right above and wrong "
        "below](photographs.svg)",
        "",
        "## Every case",
        "",
    ]


def main(
    detector: Annotated[str, typer.Argument(help="Name of the detector in the tables.")],
    weights: Annotated[Path, typer.Option(help="Its checkpoint.")],
    in_domain: Annotated[str, typer.Option(help="SOURCE of its validation images.")],
    pair: Annotated[list[str], typer.Option(help="NAME=SOURCE=CAUSE or NAME=SOURCE=domain_shift:KIND.")] = [],  # noqa: B006
    imgsz: Annotated[int | None, typer.Option(help="Network input size in pixels.")] = None,
    planted: Annotated[bool, typer.Option(help="Also plant causes into the validation images.")] = True,
) -> None:
    """Diagnose, add the rows, and write the page."""
    reporter = Reporter()
    earlier = read_rows()
    parts = [earlier[earlier["detector"] != detector]]
    if planted:
        parts.append(planted_rows(detector, weights, in_domain, imgsz, reporter))
    if pair:
        parts.append(pair_rows(detector, weights, in_domain, pair, imgsz, reporter))
    pd.concat(parts, ignore_index=True).to_csv(ROWS, index=False)
    rows = read_rows()
    PAGE.write_text(page(rows), encoding="utf-8")
    FIGURE.write_text(draw_reliability(left_out(rows)), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
