"""Answers of a person who was shown labels one by one and said whether each is right, kept in a file of our
own.

A file holds the candidates in the order in which they are asked about, with what is needed to know how likely
each was to be asked about, and the answers so far. The answers are about these labels: once the labels
change, they say nothing any more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from datasets.errors import InputError, cause_of
from datasets.files import write_text

FORMAT = 1


@dataclass(frozen=True)
class Item:
    """A label that may be wrong, or a place where one may be missing.

    image: name of its image in its source
    path: where the image lies
    kind: "annotation", or "missing" for a detection that lies on no annotation
    name: its class
    box: x1, y1, x2, y2 in pixels
    suspicion: how likely it was thought to be wrong, 0 to 1
    size: its size in the drawing of the order
    """

    image: str
    path: str
    kind: str
    name: str
    box: tuple[float, float, float, float]
    suspicion: float
    size: float


@dataclass(frozen=True)
class LabelReview:
    """A review of the labels of one real-world domain.

    report: name of the report that it began with
    domain: name of the domain
    labels: digest of the labels that it is about
    items: all candidates, in the order in which they are asked about
    answers: whether a candidate is wrong (a wrong label, or an object that was left out), by its position
    """

    report: str
    domain: str
    labels: str
    items: tuple[Item, ...]
    answers: Mapping[int, bool]

    def answered(self, answers: Mapping[int, bool]) -> LabelReview:
        """The review with more answers, or others in their place."""
        return replace(self, answers={**self.answers, **answers})


def read_label_review(path: Path) -> LabelReview:
    """Read a review of labels. Raises InputError for a file that is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        items = tuple(
            Item(
                str(entry["image"]),
                str(entry["path"]),
                str(entry["kind"]),
                str(entry["name"]),
                _box(entry["box"]),
                float(entry["suspicion"]),
                float(entry["size"]),
            )
            for entry in content["items"]
        )
        answers = {int(number): _judgement(wrong) for number, wrong in content["answers"].items()}
        return LabelReview(
            str(content["report"]), str(content["domain"]), str(content["labels"]), items, answers
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a review of labels ({cause_of(error)}); move it elsewhere") from None


def write_label_review(path: Path, review: LabelReview) -> None:
    """Write a review of labels, whole or not at all."""
    content = {
        "format": FORMAT,
        "report": review.report,
        "domain": review.domain,
        "labels": review.labels,
        "items": [vars(item) for item in review.items],
        "answers": {str(number): wrong for number, wrong in sorted(review.answers.items())},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1, allow_nan=False))


def read_label_answers(path: Path) -> dict[int, bool]:
    """Read answers made by a script: `{"labels": [{"number": 0, "wrong": true}]}`, by number.

    Raises InputError that names the entry.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no JSON can be read there ({error})") from None
    entries = content.get("labels") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise InputError(f'{path}: expected {{"labels": [{{"number": 0, "wrong": true}}]}}')
    answers: dict[int, bool] = {}
    for place, entry in enumerate(entries):
        try:
            answers[int(entry["number"])] = _judgement(entry["wrong"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: labels[{place}]: {cause_of(error)}") from None
    return answers


def _judgement(value: object) -> bool:
    """An answer; raises ValueError where it is neither true nor false."""
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return value


def _box(values: list[float]) -> tuple[float, float, float, float]:
    """Four numbers of a box; raises ValueError for another number of them."""
    x1, y1, x2, y2 = (float(value) for value in values)
    return x1, y1, x2, y2
