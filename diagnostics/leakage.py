"""Whether the validation set measures generalisation: images or recordings that it shares with training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from diagnostics.domain import Domain
from diagnostics.intervals import MIN_BOXES
from diagnostics.precision import accumulate, mean

# Of 256 gradient bits. Re-encoding and resizing change fewer than 10; unrelated images of one road rarely
# differ in fewer than 60 (measured on photographs and on the rendered world), so 20 leaves a margin on both
# sides.
NEAR_DUPLICATE_BITS = 20
# Fingerprints compared at once, to bound memory.
CHUNK = 2048


@dataclass(frozen=True)
class Leak:
    """What a validation set shares with training.

    train: training images compared
    val: validation images compared
    duplicates: validation images with a near-duplicate in training
    shared_groups: validation images whose recording is also in training
    clean_ap50: AP50 on the other validation images; None without leaks or below MIN_BOXES annotations
    pairs: near-duplicates, as (validation image, training image)
    train_total: number of all training images
    clips_known: whether any two validation images are known to belong together
    """

    train: int
    val: int
    duplicates: int
    shared_groups: int
    clean_ap50: float | None
    pairs: tuple[tuple[str, str], ...]
    train_total: int
    clips_known: bool = True


@dataclass(frozen=True)
class Copies:
    """Real-world images that training shows.

    mask: which images of the domain are near-duplicates of a training image, (n,)
    pairs: those images, as (real-world image, training image)
    compared, total: training images that were compared, and all there are
    ap50: AP50 of all its images; None without labels
    ap50_without: AP50 of the other images; None below MIN_BOXES annotations
    """

    mask: npt.NDArray[np.bool_] = field(repr=False)
    pairs: tuple[tuple[str, str], ...]
    compared: int
    total: int
    ap50: float | None = None
    ap50_without: float | None = None

    @property
    def images(self) -> int:
        """Number of copies."""
        return int(self.mask.sum())

    @property
    def share(self) -> float:
        """Share of the domain's images."""
        return self.images / max(len(self.mask), 1)


def unpack(fingerprints: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """Fingerprints as bits, (n, 256)."""
    if not len(fingerprints):
        return np.zeros((0, 256), np.float32)
    raw = np.frombuffer(b"".join(fingerprints), np.uint8).reshape(len(fingerprints), -1)
    return np.unpackbits(raw, axis=1).astype(np.float32)


def nearest_fingerprint(
    queries: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each query, the closest reference and the number of differing bits, (n,) each."""
    index, distance = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    ones = reference.sum(1)
    for start in range(0, len(queries), CHUNK):
        part = queries[start : start + CHUNK]
        bits = part.sum(1)[:, None] + ones[None, :] - 2 * part @ reference.T
        index.append(bits.argmin(1))
        distance.append(np.rint(bits.min(1)).astype(np.int64))
    return np.concatenate(index), np.concatenate(distance)


def near_duplicates(fingerprints: Sequence[bytes], references: Sequence[bytes]) -> npt.NDArray[np.bool_]:
    """Which images are near-duplicates of a reference image, (n,)."""
    if not len(fingerprints) or not len(references):
        return np.zeros(len(fingerprints), bool)
    _, bits = nearest_fingerprint(unpack(fingerprints), unpack(references))
    return bits <= NEAR_DUPLICATE_BITS


def _near_copies(
    domain: Domain, training: Domain
) -> tuple[npt.NDArray[np.bool_], tuple[tuple[str, str], ...]]:
    """Which images are near-duplicates of a training image, (n,), and of which, as (image, training
    image).
    """
    nearest, bits = nearest_fingerprint(
        unpack(domain.images["fingerprint"].tolist()), unpack(training.images["fingerprint"].tolist())
    )
    copied = bits <= NEAR_DUPLICATE_BITS
    names = training.images["image"].to_numpy(str)[nearest[copied]]
    images = domain.images["image"].to_numpy(str)[copied]
    return copied, tuple((str(image), str(name)) for image, name in zip(images, names, strict=True))


def find_leaks(training: Domain, in_domain: Domain, total: int | None = None) -> Leak:
    """Compare the validation images with the training images.

    Parameters
    ----------
    training
        The training images, or a sample of them.
    in_domain
        The validation images.
    total
        Number of all training images, if `training` is a sample.

    Returns
    -------
    Leak
        Shared images and recordings, and AP50 without them.
    """
    total = total or len(training.images)
    if training.images.empty or in_domain.images.empty:
        return Leak(len(training.images), len(in_domain.images), 0, 0, None, (), total)
    duplicate, pairs = _near_copies(in_domain, training)
    shared = in_domain.images["group"].isin(training.images["group"]).to_numpy()
    leaky = (duplicate | shared)[in_domain.labelled]
    clean = None
    if leaky.any():
        counted = ~in_domain.table.annotation_ignored[:, 0] & ~leaky[in_domain.table.annotation_image]
        if counted.sum() >= MIN_BOXES:
            clean = mean(accumulate(in_domain.table, images=~leaky)[0][:, in_domain.table.bit(0.5)])
    return Leak(
        train=len(training.images),
        val=len(in_domain.images),
        duplicates=int(duplicate.sum()),
        shared_groups=int(shared.sum()),
        clean_ap50=clean,
        pairs=pairs,
        train_total=total,
        clips_known=in_domain.images["group"].nunique() < len(in_domain.images),
    )


def find_copies(training: Domain, real_world: Domain, total: int | None = None) -> Copies:
    """Compare real-world images with the training images.

    Parameters
    ----------
    training
        The training images, or a sample of them.
    real_world
        A real-world domain, labelled or not.
    total
        Number of all training images, if `training` is a sample.

    Returns
    -------
    Copies
        Which images are near-duplicates, and AP50 with and without them.
    """
    size = (len(training.images), total or len(training.images))
    if training.images.empty or real_world.images.empty:
        return Copies(np.zeros(len(real_world.images), bool), (), *size)
    mask, pairs = _near_copies(real_world, training)
    if not mask.any() or not real_world.labelled.any():
        return Copies(mask, pairs, *size)
    table, known = real_world.table, mask[real_world.labelled]
    others = ~table.annotation_ignored[:, 0] & ~known[table.annotation_image]
    without = mean(accumulate(table, images=~known)[0][:, table.bit(0.5)])
    return Copies(
        mask,
        pairs,
        *size,
        ap50=mean(accumulate(table)[0][:, table.bit(0.5)]),
        ap50_without=without if others.sum() >= MIN_BOXES else None,
    )
