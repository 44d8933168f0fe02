"""One review while it goes on: what to ask next, the answers so far, and what they say."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datasets.answers import Clicks, Review, parse_clicks, unknown_classes, write_review
from datasets.errors import InputError
from datasets.plausibility import FEW
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.label_free import SHOWN
from diagnostics.point_measures import measure_review
from reports.pipeline.reviews import domain_review
from reports.plain import review_record

# Classes that have a key each; more are in a list.
KEYS = 9


@dataclass
class Session:
    """A review, its file, and the domain that it is about.

    in_domain: the in-domain domain, which the answers are compared with
    domain: the domain that is reviewed
    confidence: threshold of precision and recall
    budget: frames that are asked for
    path: where the answers are kept
    review: the answers so far
    """

    in_domain: Domain
    domain: Domain
    confidence: float
    budget: int
    path: Path
    review: Review
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def frames(self) -> list[str]:
        """Names of the images that are asked for, in order."""
        return [frame.image for frame in self.review.frames[: self.budget]]

    @property
    def count(self) -> int:
        """Number of images that are asked for."""
        return len(self.frames)

    @property
    def answered(self) -> int:
        """Number of answers."""
        return len(self.review.answers)

    def plan(self) -> dict[str, Any]:
        """The images that are asked for, in order."""
        return {"frames": self.frames}

    def answer(self, number: int, entry: Mapping[str, Any]) -> None:
        """Keep one answer as the page sends it. Raises InputError, ValueError, KeyError or TypeError where it
        is none.
        """
        self.add({self.frames[number]: parse_clicks(entry)})

    def add(self, answers: Mapping[str, Clicks]) -> None:
        """Keep answers, also on disk. Raises InputError for an image, class or detection that is not
        there.
        """
        known = set(self.domain.images["image"].astype(str))
        unknown = next((image for image in answers if image not in known), None)
        if unknown is not None:
            raise InputError(
                f"{unknown!r} is not an image of {self.domain.name}; --plan prints those asked for"
            )
        classes = unknown_classes(answers, self.domain.classes)
        if classes:
            raise InputError(
                f"class {classes[0]!r} is none of the detector's: {', '.join(self.domain.classes[:20])}"
            )
        points = np.array(
            [point[:2] for clicks in answers.values() for point in clicks.points], float
        ).reshape(-1, 2)
        if len(points) >= FEW and points.max() <= 1 and (points % 1 != 0).any():
            raise InputError(
                f"the {len(points)} points look like fractions of the image, where pixels belong"
            )
        sizes = self.domain.images.set_index("image")[["width", "height"]]
        per_image = self.domain.detections["image"].value_counts()
        for image, clicks in answers.items():
            width, height = (int(side) for side in sizes.loc[image])
            outside = [
                point for point in clicks.points if not (0 <= point[0] <= width and 0 <= point[1] <= height)
            ]
            if outside:
                raise InputError(
                    f"{image}: the point ({outside[0][0]:g}, {outside[0][1]:g}) is outside of the image, "
                    f"which has {width}x{height} pixels"
                )
            count = int(per_image.get(image, 0))
            unknown_rows = [row for row in clicks.detections if not 0 <= row < count]
            if unknown_rows:
                raise InputError(f"{image}: there is no detection {unknown_rows[0]}; it has {count}, from 0")
        with self._lock:
            review = self.review
            for image, clicks in answers.items():
                review = review.answered(image, clicks)
            write_review(self.path, review)
            self.review = review

    def result(self) -> dict[str, Any]:
        """What the answers so far say, as in report.json; waiting: answers behind a frame without one."""
        review = domain_review(self.review, self.domain)
        record = review_record(measure_review(self.in_domain, self.domain, review, self.confidence))
        return {**record, "waiting": len(self.review.answers) - len(review.answers)}

    def state(self) -> dict[str, Any]:
        """What the page needs before it shows a frame."""
        names = self.domain.classes
        shown = self.domain.detections[self.domain.detections["confidence"] >= SHOWN]["label"]
        frequent = [int(label) for label in shown.value_counts().index]
        frequent += [label for label in range(len(names)) if label not in set(frequent)]
        return {
            "mode": "frames",
            "domain": self.domain.name,
            "in_domain": self.in_domain.name,
            "classes": [names[label] for label in frequent],
            "keys": KEYS,
            "frames": [image in self.review.answers for image in self.frames],
        }

    def frame(self, number: int) -> dict[str, Any]:
        """One frame: its size, the detections that people get to see, and the answer if there is one."""
        image = self.frames[number]
        row = self.domain.images.loc[self.domain.images["image"] == image].iloc[0]
        rows = self.domain.detections[self.domain.detections["image"] == image].reset_index(drop=True)
        clicks = self.review.answers.get(image)
        return {
            "image": image,
            "width": int(row["width"]),
            "height": int(row["height"]),
            "detections": [
                {
                    "row": int(place),
                    "box": [float(value) for value in detection[CORNERS]],
                    "confidence": float(detection["confidence"]),
                    "class": self.domain.classes[int(detection["label"])],
                }
                for place, detection in rows[rows["confidence"] >= SHOWN].iterrows()
            ],
            "answer": None
            if clicks is None
            else {"points": clicks.points, "detections": {str(k): v for k, v in clicks.detections.items()}},
        }

    def path_of(self, number: int) -> Path:
        """Where the pixels of a frame lie."""
        return Path(self.review.frames[number].path)
