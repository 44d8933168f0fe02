"""Reviews of real-world domains: made from a report, kept in runs/review, and found again by their images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from datasets.answers import Clicks, Frame, Review, read_review
from datasets.errors import InputError
from diagnostics.domain import Domain
from diagnostics.matching import Floats
from diagnostics.point_measures import Answer, DomainReview, draw_order, sampling_sizes
from train.environment import reviews_folder


def detector_key(sha256: str | None, imgsz: int) -> str:
    """What detections depend on, for `datasets.answers.Review.detector`."""
    return f"{sha256}-{imgsz}" if sha256 else ""


def review_path(report: str, domain: str) -> Path:
    """The file of the review of a report's domain."""
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in domain)
    return reviews_folder() / report / f"{name}.json"


def new_review(report: str, domain: Domain, detector: str, *, seed: int) -> Review:
    """A review without answers: the order in which images are asked for."""
    sizes = sampling_sizes(domain)
    images, paths = (domain.images[column].astype(str).tolist() for column in ("image", "path"))
    frames = tuple(
        Frame(images[place], paths[place], float(sizes[place])) for place in draw_order(sizes, seed)
    )
    return Review(report, domain.name, detector, frames, {})


def as_answers(answers: Mapping[str, Clicks], classes: Sequence[str], *, judged: bool) -> dict[str, Answer]:
    """Answers with classes by index; objects of other classes are left out.

    judged: whether what was said of single detections holds for the detections at hand
    """
    index = {name: place for place, name in enumerate(classes)}
    return {
        image: Answer(
            np.array([point[:2] for point in clicks.points if point[2] in index], float).reshape(-1, 2),
            np.array([index[point[2]] for point in clicks.points if point[2] in index], np.int64),
            dict(clicks.detections) if judged else {},
        )
        for image, clicks in answers.items()
    }


def sizes_of(review: Review, domain: Domain) -> Floats:
    """The size of each image of a domain when the order was drawn, (n,)."""
    size = {frame.image: frame.size for frame in review.frames}
    return domain.images["image"].map(size).to_numpy(float)


def find_reviews(
    domains: Sequence[Domain], detector: str, say: Callable[[str], None]
) -> dict[str, DomainReview]:
    """The reviews of these real-world domains, by name: for each, the one of the same images with most answers.

    A review that cannot be read is said and left out.
    """
    reviews = []
    for path in sorted(reviews_folder().glob("*/*.json")):
        try:
            reviews.append(read_review(path))
        except InputError as problem:
            say(f"  {problem}")
    found = {}
    for domain in domains:
        pairs = set(domain.images[["image", "path"]].astype(str).itertuples(index=False, name=None))
        of_it = [r for r in reviews if r.answers and {(f.image, f.path) for f in r.frames} == pairs]
        if of_it:
            review = max(of_it, key=lambda review: len(review.answers))
            answers = as_answers(review.answers, domain.classes, judged=review.detector == detector)
            found[domain.name] = DomainReview(answers, sizes_of(review, domain))
    return found
