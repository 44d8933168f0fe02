"""Section "Training": loss and AP by epoch, the real-world curve beside it, and the kept checkpoints
compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from diagnostics.label_free import SHOWN
from diagnostics.training_curve import FALLEN, CheckpointResult, TrainingCurve, training_curves
from diagnostics.wording import count, fraction, interval, percent, points
from reports.page import figures, thumbnails
from reports.page.earlier_run import ALPHA, WORTH_IT
from reports.page.slices import number
from reports.pipeline.checkpoints import CheckpointFrame, Checkpoints
from reports.pipeline.run import Result
from train.run import IN_DOMAIN

# Where the last checkpoint gives less than this share of the first one's detections per image, the sentence
# says so.
FAR_FEWER = 0.25


def training_section(result: Result, palette: dict[str, str]) -> dict[str, Any] | None:
    """The training, or None where nothing is known of it."""
    if result.run is None:
        return None
    history, watched = result.run.history, result.run.watched
    if history.empty and watched.empty and not result.checkpoints.epochs:
        return None
    verdict = result.findings.verdict
    alt = "Losses and validation AP by epoch"
    return {
        "statements": []
        if history.empty
        else [verdict.named(code).statement for code in ("underfit", "overfit")],
        "figure": None if history.empty else Markup(figures.learning(alt, history)),
        "columns": list(history.columns),
        "rows": [
            [f"{value:.0f}" if column == "epoch" else f"{value:.3f}" for column, value in row.items()]
            for row in history.to_dict("records")
        ],
        "watched": None if watched.empty else _watched(result, palette),
        "checkpoints": _checkpoints(result.checkpoints, palette),
    }


def _watched(result: Result, palette: dict[str, str]) -> dict[str, Any]:
    """The real-world curve: a sentence per domain, the figure and the table."""
    watched = result.run.watched if result.run is not None else None
    assert watched is not None  # the caller checked
    alt = "AP50, detections per image and images outside the validation range, by epoch"
    colours = {IN_DOMAIN: figures.IN_DOMAIN, **palette}
    return {
        "words": [_curve_words(curve) for curve in training_curves(watched, IN_DOMAIN)],
        "figure": Markup(figures.watched(alt, watched, colours, IN_DOMAIN)),
        "rows": [_watched_row(row) for row in watched.to_dict("records")],
    }


def _curve_words(curve: TrainingCurve) -> str:
    """One watched domain in one sentence."""
    size = count(curve.images, "image")
    if curve.by_labels:
        size += f", {count(curve.annotations, 'annotation')}"
    measure = "AP50" if curve.by_labels else "estimated AP50"
    best = (
        f"{curve.domain} ({size}): {measure} was highest at epoch {curve.best_epoch} ({fraction(curve.best)})"
    )
    if curve.best_epoch == curve.last_epoch:
        return f"{best}, the last epoch; validation AP50 is {fraction(curve.in_domain_last)}."
    words = (
        f"{best} and is {fraction(curve.last)} at epoch {curve.last_epoch}, while validation AP50 went from "
        f"{fraction(curve.in_domain_best)} to {fraction(curve.in_domain_last)}"
    )
    if curve.diverged and not curve.by_labels:
        return f"{words}: a hint that later epochs helped in-domain only."
    if curve.diverged:
        return f"{words}: later epochs helped in-domain only and cost {points(curve.best - curve.last)} here."
    if curve.best - curve.last < FALLEN:
        return f"{words}; a difference below {points(FALLEN)} is noise of such a curve."
    return f"{words}."


def _watched_row(row: dict[Any, Any]) -> list[str]:
    """One epoch and domain as a row of the table."""

    def cell(name: str, form: str) -> str:
        value = row.get(name)
        if value is None or value != value:
            return "–"
        return percent(float(value)) if form == "share" else f"{value:{form}}"

    return [
        f"{row['epoch']:.0f}",
        str(row["domain"]),
        number(row.get("ap50")),
        number(row.get("expected_ap50")),
        cell("detection_rate", "share"),
        cell("shown", ".2f"),
        cell("outside", "share"),
    ]


def _checkpoints(checkpoints: Checkpoints, palette: dict[str, str]) -> dict[str, Any] | None:
    """The checkpoint comparison: a table, a sentence per domain, and one image of each under every
    checkpoint.
    """
    if not checkpoints.epochs:
        return None
    results = checkpoints.checkpoint_results
    by_domain = {
        name: [r for r in results if r.domain == name] for name in dict.fromkeys(r.domain for r in results)
    }
    left = ""
    if checkpoints.left:
        verb = "was" if len(checkpoints.left) == 1 else "were"
        left = (
            f" {count(len(checkpoints.left), 'more checkpoint')} {verb} kept and not compared: "
            f"--checkpoints {len(checkpoints.left) + len(checkpoints.epochs)} compares all."
        )
    return {
        "epochs": checkpoints.epochs,
        "left": left,
        "shown": fraction(SHOWN),
        "words": [words for part in by_domain.values() if (words := _checkpoint_words(part))],
        "rows": [_checkpoint_row(r, palette) for part in by_domain.values() for r in part],
        "frames": [_frame(frame) for frame in checkpoints.frames],
    }


def _checkpoint_row(result: CheckpointResult, palette: dict[str, str]) -> dict[str, str | int]:
    """One checkpoint on one domain."""
    bounds = result.interval
    width = f" {interval(bounds.low, bounds.high)}" if bounds is not None and bounds.low is not None else ""
    return {
        "domain": result.domain,
        "colour": palette[result.domain],
        "epoch": result.epoch,
        "images": f"{result.images:,}",
        "annotations": f"{result.annotations:,}" if result.ap50 is not None else "–",
        "ap50": f"{number(result.ap50)}{width}",
        "precision": number(result.precision),
        "recall": number(result.recall),
        "detection_rate": percent(result.detection_rate),
        "shown": f"{result.shown:.2f}",
        "confidence": number(result.confidence),
    }


def _checkpoint_words(results: list[CheckpointResult]) -> str:
    """One domain from the first checkpoint to the last."""
    first, last = results[0], results[-1]
    words = (
        f"{last.domain}: {first.shown:.1f} detections per image at epoch {first.epoch}, "
        f"{last.shown:.1f} at epoch {last.epoch}"
    )
    if last.shown < FAR_FEWER * first.shown:
        words += ", far fewer"
    if first.ap50 is None or last.ap50 is None:
        return words + "."
    words += f"; AP50 from {fraction(first.ap50)} to {fraction(last.ap50)}"
    best = max(results[:-1], key=lambda result: result.ap50 or 0.0)
    test = best.against_last
    # The best of several earlier checkpoints is tested: each of them might have been it (Bonferroni).
    p = min(1.0, test.p * (len(results) - 1)) if test is not None and test.p is not None else 1.0
    if test is not None and p <= ALPHA and test.difference <= -WORTH_IT:
        words += f". Epoch {best.epoch} is better here ({fraction(best.ap50)}, p {p:.3f} on the same images)"
    return words + "."


def _frame(frame: CheckpointFrame) -> dict[str, Any]:
    """One image with the detections of every checkpoint."""
    views = []
    for epoch, boxes, true_positives in frame.views:
        kinds = [
            "true_positive" if correct else "false_positive" if frame.labelled else "detection"
            for correct in true_positives.tolist()
        ]
        truth = frame.truth.tolist()
        views.append(
            {
                "epoch": epoch,
                "count": count(len(boxes), "detection"),
                "src": thumbnails.whole(frame.path, boxes.tolist(), kinds, truth=truth),
            }
        )
    return {
        "domain": frame.domain,
        "image": Path(frame.image).name,
        "labelled": frame.labelled,
        "views": views,
    }
