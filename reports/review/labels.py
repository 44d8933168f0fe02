"""One review of labels while it goes on: what to ask next, the answers so far, and what they say."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.errors import InputError
from datasets.label_answers import LabelReview, write_label_review
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.label_audit import measure_audit
from reports.pipeline.label_reviews import domain_audit
from reports.plain import plain


@dataclass
class LabelSession:
    """A review of labels, its file, and the domain that it is about.

    domain: the domain whose labels are reviewed
    budget: candidates that are asked about
    path: where the answers are kept
    review: the answers so far
    """

    domain: Domain
    budget: int
    path: Path
    review: LabelReview
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        """Number of candidates that are asked about."""
        return min(self.budget, len(self.review.items))

    @property
    def answered(self) -> int:
        """Number of answers."""
        return len(self.review.answers)

    def add(self, answers: Mapping[int, bool]) -> None:
        """Keep answers, also on disk. Raises InputError for a number that is not asked about."""
        unknown = [number for number in answers if not 0 <= number < len(self.review.items)]
        if unknown:
            raise InputError(f"there is no label {unknown[0]}; there are {len(self.review.items)}, from 0")
        with self._lock:
            review = self.review.answered(answers)
            write_label_review(self.path, review)
            self.review = review

    def answer(self, number: int, entry: Mapping[str, Any]) -> None:
        """Keep one answer as the page sends it. Raises InputError or ValueError where it is none."""
        if not isinstance(entry.get("wrong"), bool):
            raise ValueError("wrong: expected true or false")
        self.add({number: entry["wrong"]})

    def result(self) -> dict[str, Any]:
        """What the answers so far say, as in report.json; waiting: answers behind a label without one."""
        audit = domain_audit(self.review)
        record: dict[str, Any] = plain(measure_audit(self.domain.name, audit))
        return {**record, "waiting": self.answered - len(audit.wrong)}

    def plan(self) -> dict[str, Any]:
        """The candidates that are asked about, in order."""
        items = self.review.items[: self.count]
        return {
            "labels": [
                {
                    "number": number,
                    "image": item.image,
                    "kind": item.kind,
                    "class": item.name,
                    "box": list(item.box),
                    "suspicion": item.suspicion,
                }
                for number, item in enumerate(items)
            ]
        }

    def state(self) -> dict[str, Any]:
        """What the page needs before it shows a label."""
        return {
            "mode": "labels",
            "domain": self.domain.name,
            "classes": [],
            "keys": 0,
            "frames": [number in self.review.answers for number in range(self.count)],
        }

    def frame(self, number: int) -> dict[str, Any]:
        """One candidate: its image, its box and the other labels of the image, and the answer if there is
        one.
        """
        item = self.review.items[number]
        row = self.domain.images.loc[self.domain.images["image"] == item.image].iloc[0]
        labels = self.domain.annotations[self.domain.annotations["image"] == item.image]
        return {
            "image": item.image,
            "width": int(row["width"]),
            "height": int(row["height"]),
            "item": {"kind": item.kind, "class": item.name, "box": list(item.box)},
            "others": [
                {
                    "box": [float(value) for value in label[CORNERS]],
                    "class": self.domain.classes[int(label["label"])],
                }
                for _, label in labels.iterrows()
            ],
            "answer": self.review.answers.get(number),
        }

    def path_of(self, number: int) -> Path:
        """Where the pixels of a candidate's image lie."""
        return Path(self.review.items[number].path)
