"""The words, rows and drawings about how the detector learned: its curve, the real world watched beside it, and the checkpoints that were kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from diagnostics.label_free import SHOWN
from diagnostics.training_curve import FALLEN, CheckpointResult, TrainingCurve, training_curves
from diagnostics.wording import count, fraction, percent, points
from reports.page import figures
from reports.page import thumbnails as images
from reports.page.earlier_run import WORTH_IT
from reports.page.slices import number
from reports.pipeline.checkpoints import CheckpointFrame, Checkpoints
from reports.pipeline.run import Result
from train.run import IN_DOMAIN

# Detections an image at the last checkpoint under this share of an earlier one's: it went from everything to little.
QUIETER = 0.25


def training_section(result: Result, palette: dict[str, str]) -> dict[str, Any] | None:
    """How it learned, or None where nothing is known of that."""
    if result.run is None:
        return None
    history, watched = result.run.history, result.run.watched
    if history.empty and watched.empty and not result.checkpoints.epochs:
        return None
    named = result.findings.verdict.named
    return {
        "statements": [] if history.empty else [named(code).statement for code in ("underfit", "overfit")],
        "figure": None
        if history.empty
        else Markup(figures.learning("Losses and validation AP by epoch", history)),
        "columns": list(history.columns),
        "rows": [
            [f"{v:.0f}" if c == "epoch" else f"{v:.3f}" for c, v in row.items()]
            for row in history.to_dict("records")
        ],
        "watched": None
        if watched.empty
        else {
            "words": [_curve_words(curve) for curve in training_curves(watched, IN_DOMAIN)],
            "figure": Markup(
                figures.watched(
                    "AP50, detections an image and images outside validation, by epoch",
                    watched,
                    {IN_DOMAIN: figures.IN_DOMAIN, **palette},
                    IN_DOMAIN,
                )
            ),
            "rows": [_watched_row(row) for row in watched.to_dict("records")],
        },
        "checkpoints": checkpoints(result.checkpoints, palette),
    }


def _curve_words(curve: TrainingCurve) -> str:
    """One watched domain in one sentence."""
    what = (
        "AP50" if curve.by_labels else "what AP50 would be if confidences meant what they mean in validation"
    )
    seen = count(curve.images, "image") + (
        f", {count(curve.annotations, 'object')}" if curve.by_labels else ""
    )
    words = f"{curve.domain} ({seen}): {what} was highest at epoch {curve.best_epoch} ({fraction(curve.best)}) and is {fraction(curve.last)} at epoch {curve.last_epoch}"
    if curve.best_epoch == curve.last_epoch:
        return f"{words[: words.index(' and is ')]}, the last, with {fraction(curve.in_domain_last)} in validation."
    in_domain = (
        f"while validation went from {fraction(curve.in_domain_best)} to {fraction(curve.in_domain_last)}"
    )
    if curve.diverged and not curve.by_labels:
        return f"{words}, {in_domain}: a hint that what it learned since is of home only."
    if curve.diverged:
        return f"{words}, {in_domain}: it fell by {points(curve.best - curve.last)} in the real world, and what it learned since helped in-domain only."
    return (
        f"{words}, {in_domain}; less than {points(FALLEN)} is the wavering of such a curve."
        if curve.best - curve.last < FALLEN
        else f"{words}, {in_domain}."
    )


def _watched_row(row: dict[Any, Any]) -> list[str]:
    """One look as a row of the table."""
    share = [row.get("detection_rate"), row.get("outside")]
    return [
        f"{row['epoch']:.0f}",
        str(row["domain"]),
        number(row.get("ap50")),
        number(row.get("expected_ap50")),
        *("–" if value is None or value != value else percent(float(value)) for value in share[:1]),
        "–" if row.get("shown") is None or row["shown"] != row["shown"] else f"{row['shown']:.2f}",
        *("–" if value is None or value != value else percent(float(value)) for value in share[1:]),
    ]


def checkpoints(found: Checkpoints, palette: dict[str, str]) -> dict[str, Any] | None:
    """The table, a sentence for each domain, and one image of each as every checkpoint sees it."""
    if not found.epochs:
        return None
    names = list(dict.fromkeys(s.domain for s in found.checkpoint_results))
    left = (
        f" {count(len(found.left), 'more checkpoint')} {'was' if len(found.left) == 1 else 'were'} kept and not looked at: --checkpoints {len(found.left) + len(found.epochs)} takes all."
        if found.left
        else ""
    )
    return {
        "epochs": found.epochs,
        "left": left,
        "shown": fraction(SHOWN),
        "words": [
            sentence
            for name in names
            if (sentence := _checkpoint_words([s for s in found.checkpoint_results if s.domain == name]))
        ],
        "rows": [
            {
                "domain": s.domain,
                "colour": palette[s.domain],
                "epoch": s.epoch,
                "images": f"{s.images:,}",
                "annotations": f"{s.annotations:,}" if s.ap50 is not None else "–",
                "ap50": _with_interval(s),
                "precision": number(s.precision),
                "recall": number(s.recall),
                "detection_rate": percent(s.detection_rate),
                "shown": f"{s.shown:.2f}",
                "confidence": number(s.confidence),
            }
            for name in names
            for s in found.checkpoint_results
            if s.domain == name
        ],
        "frames": [_frame_context(frame) for frame in found.frames],
    }


def _with_interval(s: CheckpointResult) -> str:
    """AP50 with its 95 % interval where there is one."""
    low, high = (s.interval.low, s.interval.high) if s.interval is not None else (None, None)
    return number(s.ap50) + (f" ({number(low)} to {number(high)})" if low is not None else "")


def _checkpoint_words(part: list[CheckpointResult]) -> str:
    """One domain from the first checkpoint to the last."""
    first, last = part[0], part[-1]
    words = f"{last.domain}: {first.shown:.1f} detections an image at epoch {first.epoch}, {last.shown:.1f} at epoch {last.epoch}"
    if last.shown < QUIETER * first.shown:
        words += ": from much to little"
    if first.ap50 is not None and last.ap50 is not None:
        words += f"; AP50 from {fraction(first.ap50)} to {fraction(last.ap50)}"
        better = max(part[:-1], key=lambda s: s.ap50 or 0.0)
        test = better.against_last
        # The best of several earlier ones is looked at: each of them might have been it (Bonferroni).
        p = min(1.0, test.p * (len(part) - 1)) if test is not None and test.p is not None else 1.0
        if test is not None and p <= 0.05 and test.difference <= -WORTH_IT:
            words += f". Epoch {better.epoch} is better here ({fraction(better.ap50)}, p {p:.3f} on the same images)"
    return words + "."


def _frame_context(frame: CheckpointFrame) -> dict[str, Any]:
    """An image as each checkpoint sees it."""
    views = []
    for epoch, boxes, true_positives in frame.views:
        kinds = [
            "true_positive" if true_positive else "false_positive" if frame.labelled else "detection"
            for true_positive in true_positives.tolist()
        ]
        views.append(
            {
                "epoch": epoch,
                "count": count(len(boxes), "detection"),
                "src": images.whole(frame.path, boxes.tolist(), kinds, truth=frame.truth.tolist()),
            }
        )
    return {
        "domain": frame.domain,
        "image": Path(frame.image).name,
        "labelled": frame.labelled,
        "views": views,
    }
