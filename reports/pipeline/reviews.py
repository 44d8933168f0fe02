"""Reviews of real-world domains: made from a report, kept in runs/review, and found again by their images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.answers import Frame, Review, read_review
from datasets.errors import InputError
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.point_measures import Answer, DomainReview, draw_order, sampling_sizes
from train.environment import reviews_folder


def _detections_key(domain: Domain) -> str:
    """Digest of a domain's detections: what was said of one of them holds for no others."""
    table = domain.detections[["image", "label", "confidence", *CORNERS]]
    table = table.astype(
        {"image": str, "label": "int64", **dict.fromkeys(("confidence", *CORNERS), "float64")}
    )
    rows = pd.util.hash_pandas_object(table.round(4), index=False).to_numpy()
    return hashlib.sha256(rows.tobytes()).hexdigest()[:16]


def domain_slug(domain: Domain) -> str:
    """A domain's name as a part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in domain.name)[:60]


def review_path(report: str, domain: Domain) -> Path:
    """The file of the review of a report's domain; other images, or another domain, have another."""
    images = "\n".join([domain.name, *sorted(domain.images["path"].astype(str))])
    return (
        reviews_folder()
        / report
        / f"{domain_slug(domain)}-{hashlib.sha256(images.encode()).hexdigest()[:8]}.json"
    )


def new_review(report: str, domain: Domain, *, seed: int) -> Review:
    """A review without answers: the order in which images are asked for."""
    sizes = sampling_sizes(domain)
    images, paths = (domain.images[column].astype(str).tolist() for column in ("image", "path"))
    frames = tuple(
        Frame(images[place], paths[place], float(sizes[place])) for place in draw_order(sizes, seed)
    )
    return Review(report, domain.name, _detections_key(domain), frames, {})


def domain_review(review: Review, domain: Domain) -> DomainReview:
    """What a review says about a domain: the answers that are a beginning of the order, because only those
    are a sample with known probabilities. Objects of classes that the detector lacks are left out, and so is
    what was said of the detections of another one.
    """
    index = {name: place for place, name in enumerate(domain.classes)}
    judged = review.detections == _detections_key(domain)
    answers = {}
    for image in beginning(review):
        clicks = review.answers[image]
        points = [point for point in clicks.points if point[2] in index]
        answers[image] = Answer(
            np.array([point[:2] for point in points], float).reshape(-1, 2),
            np.array([index[point[2]] for point in points], np.int64),
            dict(clicks.detections) if judged else {},
        )
    size = {frame.image: frame.size for frame in review.frames}
    return DomainReview(answers, domain.images["image"].map(size).to_numpy(float))


def beginning(review: Review) -> list[str]:
    """The answered images up to the first that is not."""
    return [f.image for f in takewhile(lambda frame: frame.image in review.answers, review.frames)]


def find_reviews(domains: Sequence[Domain], say: Callable[[str], None]) -> dict[str, DomainReview]:
    """The reviews of these real-world domains, by name: for each, the one of the same images with most
    answers.

    A review that cannot be read is said and left out.
    """
    reviews = []
    for path in sorted(reviews_folder().glob("*/*.json")):
        if path.name.endswith("-labels.json"):
            continue
        try:
            reviews.append(read_review(path))
        except InputError as problem:
            say(f"  {problem}")
    by_domain = {}
    for domain in domains:
        pairs = set(domain.images[["image", "path"]].astype(str).itertuples(index=False, name=None))
        matching = [r for r in reviews if r.answers and {(f.image, f.path) for f in r.frames} == pairs]
        if matching:
            review = max(matching, key=lambda review: len(review.answers))
            by_domain[domain.name] = domain_review(review, domain)
    return by_domain
