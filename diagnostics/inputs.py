"""What the diagnosis starts from: domains, the training history, and what the experiments gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from diagnostics import label_free, sweep
from diagnostics.counterfactuals import Recovery, ap50
from diagnostics.deployment import Changed
from diagnostics.domain import Domain
from diagnostics.error_types import decompose_errors
from diagnostics.label_audit import DomainAudit
from diagnostics.pairs import Pair, make_pairs
from diagnostics.point_measures import DomainReview
from diagnostics.resized import Resized
from diagnostics.training_curve import CheckpointResult


@dataclass(frozen=True)
class Interventions:
    """What the interventions on one real-world domain gave; empty where there were too few annotations.

    recoveries: what each intervention recovers of its AP50 alone, by its name
    corrected_domains: the same images under every set of corrections, see `diagnostics.contributions`
    corrections: names of the corrections in these sets
    plain: the images they were tried on, with the detections in them as they are; None without any
    changes: what each single intervention that a user can apply gave
    """

    recoveries: dict[str, Recovery] = field(default_factory=dict)
    corrected_domains: dict[frozenset[str], Domain] = field(default_factory=dict)
    corrections: tuple[str, ...] = ()
    plain: Domain | None = None
    changes: tuple[Changed, ...] = ()


# What is said to be left out where the estimate without labels is.
LABEL_FREE = "AP50 without labels"


@dataclass(frozen=True)
class Experiments:
    """What further inference gave; empty without weights.

    interventions: what the interventions gave, by real-world domain
    estimator: fitted on corrupted in-domain images, see `diagnostics.label_free`; None where it was not
        fitted
    squeezed: some images of each real-world domain with the detections in the squeezed images, by domain
    resized: some images of each unlabelled domain whose objects seem to have another size, at the image size
        that makes up for it
    bursts: consecutive video frames and the detections in them, by domain, see `diagnostics.timeline`
    declined: the user turned the label-free estimate off
    left_out: experiments that the effort had no forward passes left for, in words
    passes: forward passes that they took beyond the first over the images, in passes at its input size
    """

    interventions: dict[str, Interventions] = field(default_factory=dict)
    estimator: label_free.Estimator | None = None
    squeezed: dict[str, Domain] = field(default_factory=dict)
    resized: dict[str, Resized] = field(default_factory=dict)
    bursts: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = field(default_factory=dict)
    declined: bool = False
    left_out: tuple[str, ...] = ()
    passes: int = 0


@dataclass(frozen=True)
class Inputs:
    """Everything that is known before anything is measured.

    in_domain: the validation domain
    real_world: the real-world domains
    training: training images, or a sample of them; None where they are not available
    history: the training history, see `train.history.read_history`; empty without one
    experiments: what further inference gave
    conf: confidence threshold in use; None for the best in-domain
    checkpoint_results: of the checkpoints that the run kept
    training_total: number of training images, where training is a sample
    known_pairs: each real-world domain beside the in-domain set, where they were made before; else None
    reviews: what a person said about images of real-world domains, by domain
    audits: what a person said about labels of real-world domains, by domain
    seed: of everything random
    """

    in_domain: Domain
    real_world: Sequence[Domain]
    training: Domain | None
    history: pd.DataFrame
    experiments: Experiments = field(default_factory=Experiments)
    conf: float | None = None
    checkpoint_results: Sequence[CheckpointResult] = ()
    training_total: int | None = None
    known_pairs: dict[str, Pair] | None = None
    reviews: Mapping[str, DomainReview] = field(default_factory=dict)
    audits: Mapping[str, DomainAudit] = field(default_factory=dict)
    seed: int = 0

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The in-domain domain first, then the real-world ones."""
        return (self.in_domain, *self.real_world)

    @cached_property
    def labelled(self) -> tuple[Domain, ...]:
        """The domains with labelled images."""
        return tuple(domain for domain in self.domains if domain.labelled.any())

    @cached_property
    def sweeps(self) -> dict[str, pd.DataFrame]:
        """The confidence sweep of each labelled domain, see `diagnostics.sweep.sweep`."""
        return {domain.name: pd.DataFrame(sweep.sweep(domain.table)) for domain in self.labelled}

    @cached_property
    def threshold(self) -> float | None:
        """The confidence threshold in use: the given one, or the best in-domain; None where neither
        is known.
        """
        if self.conf is not None or self.in_domain.name not in self.sweeps:
            return self.conf
        return sweep.best_f_beta(self.sweeps[self.in_domain.name])[1]

    @property
    def shown_from(self) -> float:
        """The threshold in use, or the confidence from which detectors show detections by default."""
        return self.threshold if self.threshold is not None else label_free.SHOWN

    @cached_property
    def errors(self) -> pd.DataFrame:
        """Error types of all labelled domains, see `error_table`."""
        return error_table(self.labelled, self.shown_from)

    @property
    def embedded(self) -> bool:
        """Whether the images have embeddings."""
        return self.in_domain.image_embeddings.shape[1] > 0

    @cached_property
    def pairs(self) -> dict[str, Pair]:
        """Each real-world domain beside the in-domain set, made comparable, by its name."""
        if self.known_pairs is not None:
            return self.known_pairs
        return make_pairs(self.in_domain, self.real_world, self.training, self.training_total)

    @cached_property
    def focus(self) -> str | None:
        """The real-world domain that the first screen is about, see `focus_of`; None without one."""
        return focus_of(self.pairs)


def focus_of(pairs: Mapping[str, Pair]) -> str | None:
    """The domain with the largest drop in AP50, else the first that has none to measure; None without any."""
    scored = {name: pair for name, pair in pairs.items() if pair.usable}
    if not scored:
        return next(iter(pairs), None)
    return max(scored, key=lambda name: ap50(scored[name].in_domain) - ap50(scored[name].real_world))


def error_table(domains: Sequence[Domain], confidence: float) -> pd.DataFrame:
    """Error types of labelled domains at one confidence: domain, type, count, per_image, delta_ap50."""
    parts = []
    for domain in domains:
        part = decompose_errors(domain.table, domain.outcomes, confidence=confidence)
        part.insert(0, "domain", domain.name)
        part["per_image"] = part["count"] / max(len(domain.labelled_images), 1)
        parts.append(part)
    columns = ["domain", "type", "count", "delta_ap50", "per_image"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
