"""What of two domains can be compared: the classes that both have, on images that training did not show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from diagnostics.domain import Domain
from diagnostics.intervals import MIN_BOXES
from diagnostics.leakage import Copies, find_copies
from diagnostics.matching import Ints
from diagnostics.shift import MIN_SAMPLES

# A class counts as much as any other in a mean over classes. With fewer annotations than this, one object
# more or less moves the AP50 of its class by a fifth.
MIN_CLASS_BOXES = 5
# Annotations that the in-domain set needs of the compared classes. Fewer than elsewhere (MIN_BOXES): they are
# what is left of a larger set, and the interval of the drop says how little that is.
MIN_SHARED_BOXES = 20


@dataclass(frozen=True)
class Pair:
    """The in-domain set and one real-world domain, made comparable.

    in_domain, real_world: with annotations and detections of the compared classes only, the latter without
        the images that training shows, where enough annotations are left without them
    training: the training images, with the same classes; None where they are not available
    classes: names of the compared classes; () where they are all that either set has
    copies: real-world images that training shows; None without training images
    """

    in_domain: Domain
    real_world: Domain
    training: Domain | None
    classes: tuple[str, ...]
    copies: Copies | None

    @property
    def usable(self) -> bool:
        """Whether both sides have enough annotations for a drop in AP50."""
        enough = MIN_SHARED_BOXES if self.classes else MIN_BOXES
        return len(self.in_domain.annotations) >= enough and len(self.real_world.annotations) >= MIN_BOXES


def make_pair(
    in_domain: Domain, real_world: Domain, training: Domain | None, total: int | None = None
) -> Pair:
    """Restrict two domains to what both can be compared on.

    Parameters
    ----------
    in_domain, real_world : Domain
        The two sets. Without labels on both sides their classes are left as they are.
    training : Domain or None
        The training images, or a sample of them.
    total : int or None
        Number of all training images, where training is a sample.

    Returns
    -------
    Pair
    """
    copies = find_copies(training, real_world, total) if training is not None else None
    fresh = real_world
    if copies is not None and copies.images:
        rest = real_world.subset(real_world.images.loc[~copies.mask, "image"])
        # Where hardly anything is left, the copies are all there is to look at; the report says what they
        # are.
        scored = len(real_world.annotations) >= MIN_BOXES
        enough = len(rest.annotations) >= MIN_BOXES if scored else len(rest.images) >= MIN_SAMPLES
        fresh = rest if enough else real_world
    labels = common_classes(in_domain, fresh)
    if labels is None:
        return Pair(in_domain, fresh, training, (), copies)
    return Pair(
        in_domain.only(labels),
        fresh.only(labels),
        training.only(labels) if training is not None else None,
        tuple(in_domain.classes[label] for label in labels),
        copies,
    )


def make_pairs(
    in_domain: Domain, real_world: Iterable[Domain], training: Domain | None, total: int | None = None
) -> dict[str, Pair]:
    """Each real-world domain beside the in-domain set, by its name; see `make_pair`."""
    return {domain.name: make_pair(in_domain, domain, training, total) for domain in real_world}


def common_classes(in_domain: Domain, real_world: Domain) -> list[int] | None:
    """The classes to compare two domains on; None where that is all classes of both, or where either has no
    annotations.

    Those that have MIN_CLASS_BOXES annotations on both sides; where there are none, those that have any.
    """
    counts = [_boxes_by_class(domain) for domain in (in_domain, real_world)]
    if not all(count.any() for count in counts):
        return None
    both = np.minimum(*counts)
    chosen = np.flatnonzero(both >= MIN_CLASS_BOXES if (both >= MIN_CLASS_BOXES).any() else both > 0)
    if all(np.array_equal(chosen, np.flatnonzero(count)) for count in counts):
        return None
    return [int(label) for label in chosen]


def _boxes_by_class(domain: Domain) -> Ints:
    """Counted annotations of each class, (K,)."""
    counted = domain.annotations.loc[~domain.annotations["crowd"].astype(bool), "label"].to_numpy(np.int64)
    return np.bincount(counted, minlength=len(domain.classes))
