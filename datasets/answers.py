"""Answers of a person who was shown images and clicked their objects, kept in a file of our own.

A review is one file: the images in the order in which they are asked for, with what is needed to know how
likely each was to be asked for, and the answers so far. Answers are true of the images, whatever detector is
asked about; only what was said of single detections belongs to the detector that made them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets.errors import InputError, cause_of
from datasets.files import write_text

FORMAT = 1


@dataclass(frozen=True)
class Clicks:
    """What a person said about one image.

    points: x and y in pixels of the upright image, and the class, of every object
    detections: right or wrong, by the position of a detection among those of its image
    """

    points: tuple[tuple[float, float, str], ...]
    detections: Mapping[int, bool]


@dataclass(frozen=True)
class Frame:
    """An image that may be asked about.

    image: its name in its source
    path: where it lies
    size: its size in the drawing of the order
    """

    image: str
    path: str
    size: float


@dataclass(frozen=True)
class Review:
    """A review of one real-world domain.

    report: name of the report that it began with
    domain: name of the domain
    detections: digest of the detections that were shown
    frames: all images of the domain, in the order in which they are asked for
    answers: by the name of an image
    """

    report: str
    domain: str
    detections: str
    frames: tuple[Frame, ...]
    answers: Mapping[str, Clicks]

    def answered(self, image: str, clicks: Clicks) -> Review:
        """The review with one answer more, or another in its place."""
        return replace(self, answers={**self.answers, image: clicks})


def read_review(path: Path) -> Review:
    """Read a review. Raises InputError for a file that is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        frames = tuple(Frame(str(f["image"]), str(f["path"]), float(f["size"])) for f in content["frames"])
        answers = {str(image): _clicks_from(entry) for image, entry in content["answers"].items()}
        return Review(
            str(content["report"]), str(content["domain"]), str(content["detections"]), frames, answers
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a review ({cause_of(error)}); move it elsewhere") from None


def write_review(path: Path, review: Review) -> None:
    """Write a review, whole or not at all."""
    content = {
        "format": FORMAT,
        "report": review.report,
        "domain": review.domain,
        "detections": review.detections,
        "frames": [vars(frame) for frame in review.frames],
        "answers": {image: _as_entry(clicks) for image, clicks in review.answers.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1, allow_nan=False))


# What an answer is about; points are those of an image without objects where there are none.
KEYS = ("points", "detections")


def read_answers(path: Path) -> dict[str, Clicks]:
    """Read answers made by a script: `{"frames": [{"image", "points", "detections"}]}`, by image.

    Raises
    ------
    InputError
        It is no such file; the message names the entry.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no JSON can be read there ({error})") from None
    entries = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise InputError(f'{path}: expected {{"frames": [{{"image": NAME, "points": [[x, y, "class"]]}}]}}')
    answers: dict[str, Clicks] = {}
    for place, entry in enumerate(entries):
        try:
            image = str(entry["image"])
            if image in answers:
                raise ValueError(f"{image} has an entry already; one has all its points")
            if set(entry) - {"image", *KEYS} or not set(entry) & set(KEYS):
                raise ValueError(
                    f"{image} has {', '.join(map(str, entry))}; beside image, an entry has "
                    f"{' and '.join(KEYS)}"
                )
            answers[image] = parse_clicks(entry)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: frames[{place}]: {cause_of(error)}") from None
    return answers


def parse_clicks(entry: Mapping[str, Any]) -> Clicks:
    """An answer from JSON. Raises ValueError, KeyError or TypeError where it is none."""
    if not isinstance(entry.get("points", []), list):
        raise ValueError("points: expected a list of [x, y, class]")
    points = []
    for point in entry.get("points", []):
        if not isinstance(point, list) or len(point) != 3:
            raise ValueError(f"point {point}: expected [x, y, class]")
        x, y, name = point
        if not (math.isfinite(float(x)) and math.isfinite(float(y))):
            raise ValueError(f"point {point}: x and y must be numbers")
        points.append((float(x), float(y), str(name)))
    judged = entry.get("detections", {})
    if not isinstance(judged, dict):
        raise ValueError(f"detections: expected {{number: true or false}}, not {judged}")
    wrong = [value for value in judged.values() if not isinstance(value, bool)]
    if wrong:
        raise ValueError(f"detections: {wrong[0]!r} is neither true nor false")
    return Clicks(tuple(points), {int(row): value for row, value in judged.items()})


def _clicks_from(entry: Mapping[str, Any]) -> Clicks:
    return parse_clicks({"points": list(entry["points"]), "detections": entry["detections"]})


def _as_entry(clicks: Clicks) -> dict[str, Any]:
    return {
        "points": [list(point) for point in clicks.points],
        "detections": {str(row): value for row, value in clicks.detections.items()},
    }


def without_judgements(review: Review, detections: str) -> Review:
    """The review with other detections: what was said of the former ones is forgotten."""
    answers = {image: Clicks(clicks.points, {}) for image, clicks in review.answers.items()}
    return replace(review, detections=detections, answers=answers)


def unknown_classes(answers: Mapping[str, Clicks], classes: Sequence[str]) -> list[str]:
    """Classes of clicked objects that a detector does not have."""
    return sorted({name for clicks in answers.values() for _, _, name in clicks.points} - set(classes))
