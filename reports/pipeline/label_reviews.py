"""Reviews of the labels of real-world domains: made from a report, kept in runs/review, found again by the
labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.errors import InputError
from datasets.label_answers import Item, LabelReview, read_label_review
from datasets.tables import CORNERS
from diagnostics.domain import Domain
from diagnostics.label_audit import DomainAudit, find_candidates, judged_rows, sampling_sizes
from diagnostics.point_measures import draw_order
from reports.pipeline.reviews import domain_slug
from train.environment import reviews_folder

SUFFIX = "-labels.json"
FOLDER = "labels"


def labels_key(domain: Domain) -> str:
    """Digest of a domain's labels and of the images that have them."""
    table = domain.annotations[["image", "label", *CORNERS]].astype(
        {"image": str, "label": "int64", **dict.fromkeys(CORNERS, "float64")}
    )
    rows = np.sort(pd.util.hash_pandas_object(table.round(2), index=False).to_numpy())
    images = "\n".join([*domain.classes, *sorted(domain.labelled_images["path"].astype(str))])
    return hashlib.sha256(rows.tobytes() + images.encode()).hexdigest()[:16]


def label_review_path(domain: Domain) -> Path:
    """The file of the review of a domain's labels, whatever report it began with; changed labels have
    another.
    """
    return reviews_folder() / FOLDER / f"{domain_slug(domain)}-{labels_key(domain)[:8]}{SUFFIX}"


def new_label_review(report: str, domain: Domain, *, seed: int) -> LabelReview:
    """A review of labels without answers: the order in which they are asked about."""
    candidates = find_candidates(domain, seed=seed)
    sizes = sampling_sizes(candidates["suspicion"].to_numpy(float))
    paths = dict(zip(domain.images["image"], domain.images["path"].astype(str), strict=True))
    order = draw_order(sizes, seed)
    items = tuple(
        Item(
            str(row.image),
            paths[row.image],
            str(row.kind),
            domain.classes[int(row.label)],
            (float(row.x1), float(row.y1), float(row.x2), float(row.y2)),
            float(row.suspicion),
            float(sizes[place]),
        )
        for place, row in zip(order, candidates.iloc[order].itertuples(), strict=True)
    )
    return LabelReview(report, domain.name, labels_key(domain), items, {})


def domain_audit(review: LabelReview) -> DomainAudit:
    """What a review says about labels: the answers that are a beginning of the order, because only those are
    a sample with known probabilities.
    """
    candidates = pd.DataFrame(
        {
            "kind": [item.kind for item in review.items],
            "label": [item.name for item in review.items],
            "suspicion": [item.suspicion for item in review.items],
        }
    )
    sizes = np.array([item.size for item in review.items])
    return DomainAudit(candidates, judged_rows(review.answers, np.arange(len(review.items))), sizes)


def find_label_reviews(domains: Sequence[Domain], say: Callable[[str], None]) -> dict[str, DomainAudit]:
    """The reviews of the labels that these domains have, by name: for each the one with most answers.

    A review that cannot be read is said and left out.
    """
    reviews = []
    for path in sorted(reviews_folder().glob(f"*/*{SUFFIX}")):
        try:
            reviews.append(read_label_review(path))
        except InputError as problem:
            say(f"  {problem}")
    found = {}
    for domain in domains:
        key = labels_key(domain) if reviews and domain.labelled.any() else ""
        matching = [review for review in reviews if review.answers and review.labels == key]
        if matching:
            audits = [domain_audit(review) for review in matching]
            found[domain.name] = max(audits, key=lambda audit: len(audit.wrong))
    return found
