"""The words, rows and drawings about how the detector learned: its curve, the real world watched beside it, and the checkpoints that were kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from diagnostics.training_curve import FALLEN, Course, Standing, courses
from diagnostics.label_free import SHOWN
from diagnostics.wording import count, fraction, percent, points
from reports.page import figures
from reports.page import thumbnails as pictures
from reports.page.earlier_run import WORTH_IT
from reports.page.slices import number
from reports.pipeline.checkpoints import Checkpoints, Frame
from reports.pipeline.run import Result
from train.run import IN_DOMAIN

# Detections a picture at the last checkpoint under this share of an earlier one's: it went from everything to little.
QUIETER = 0.25


def learned(result: Result, palette: dict[str, str]) -> dict[str, Any] | None:
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
            "words": [course_words(course) for course in courses(watched, IN_DOMAIN)],
            "figure": Markup(
                figures.watched(
                    "AP50, detections a picture and pictures outside validation, by epoch",
                    watched,
                    {IN_DOMAIN: figures.HOME, **palette},
                    IN_DOMAIN,
                )
            ),
            "rows": [watched_row(row) for row in watched.to_dict("records")],
        },
        "checkpoints": checkpoints(result.checkpoints, palette),
    }


def course_words(course: Course) -> str:
    """One watched domain in one sentence."""
    what = (
        "AP50" if course.by_labels else "what AP50 would be if confidences meant what they mean in validation"
    )
    seen = count(course.pictures, "picture") + (
        f", {count(course.objects, 'object')}" if course.by_labels else ""
    )
    words = f"{course.domain} ({seen}): {what} was highest at epoch {course.best_epoch} ({fraction(course.best)}) and is {fraction(course.last)} at epoch {course.last_epoch}"
    if course.best_epoch == course.last_epoch:
        return (
            f"{words[: words.index(' and is ')]}, the last, with {fraction(course.home_last)} in validation."
        )
    home = f"while validation went from {fraction(course.home_best)} to {fraction(course.home_last)}"
    if course.parted and not course.by_labels:
        return f"{words}, {home}: a hint that what it learned since is of home only."
    if course.parted:
        return f"{words}, {home}: it fell by {points(course.best - course.last)} out there, and what it learned since helped at home only."
    return (
        f"{words}, {home}; less than {points(FALLEN)} is the wavering of such a curve."
        if course.best - course.last < FALLEN
        else f"{words}, {home}."
    )


def watched_row(row: dict[Any, Any]) -> list[str]:
    """One look as a row of the table."""
    share = [row.get("speaking"), row.get("outside")]
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
    """The table, a sentence for each domain, and one picture of each as every checkpoint sees it."""
    if not found.epochs:
        return None
    names = list(dict.fromkeys(s.domain for s in found.standings))
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
            if (sentence := standing_words([s for s in found.standings if s.domain == name]))
        ],
        "rows": [
            {
                "domain": s.domain,
                "colour": palette[s.domain],
                "epoch": s.epoch,
                "pictures": f"{s.pictures:,}",
                "objects": f"{s.objects:,}" if s.ap50 is not None else "–",
                "ap50": with_interval(s),
                "precision": number(s.precision),
                "recall": number(s.recall),
                "speaking": percent(s.speaking),
                "shown": f"{s.shown:.2f}",
                "confidence": number(s.confidence),
            }
            for name in names
            for s in found.standings
            if s.domain == name
        ],
        "frames": [frame_context(frame) for frame in found.frames],
    }


def with_interval(s: Standing) -> str:
    """AP50 with its 95 % interval where there is one."""
    low, high = (s.interval.low, s.interval.high) if s.interval is not None else (None, None)
    return number(s.ap50) + (f" ({number(low)} to {number(high)})" if low is not None else "")


def standing_words(part: list[Standing]) -> str:
    """One domain from the first checkpoint to the last."""
    first, last = part[0], part[-1]
    words = f"{last.domain}: {first.shown:.1f} detections a picture at epoch {first.epoch}, {last.shown:.1f} at epoch {last.epoch}"
    if last.shown < QUIETER * first.shown:
        words += ": from much to little"
    if first.ap50 is not None and last.ap50 is not None:
        words += f"; AP50 from {fraction(first.ap50)} to {fraction(last.ap50)}"
        better = max(part[:-1], key=lambda s: s.ap50 or 0.0)
        test = better.against_last
        # The best of several earlier ones is looked at: each of them might have been it (Bonferroni).
        p = min(1.0, test.p * (len(part) - 1)) if test is not None and test.p is not None else 1.0
        if test is not None and p <= 0.05 and test.difference <= -WORTH_IT:
            words += f". Epoch {better.epoch} is better here ({fraction(better.ap50)}, p {p:.3f} on the same pictures)"
    return words + "."


def frame_context(frame: Frame) -> dict[str, Any]:
    """A picture as each checkpoint sees it."""
    views = []
    for epoch, boxes, hits in frame.views:
        kinds = [
            "hit" if hit else "false_positive" if frame.labelled else "detection" for hit in hits.tolist()
        ]
        views.append(
            {
                "epoch": epoch,
                "count": count(len(boxes), "detection"),
                "src": pictures.whole(frame.path, boxes.tolist(), kinds, truth=frame.truth.tolist()),
            }
        )
    return {
        "domain": frame.domain,
        "image": Path(frame.image).name,
        "labelled": frame.labelled,
        "views": views,
    }
