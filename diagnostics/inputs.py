"""What the diagnosis starts from: domains, the training history, and what the experiments gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from diagnostics import label_free, sweep
from diagnostics.counterfactuals import Recovery, ap50
from diagnostics.domain import Domain
from diagnostics.intervals import MIN_BOXES
from diagnostics.training_curve import CheckpointResult


@dataclass(frozen=True)
class Experiments:
    """What further inference gave; empty without weights.

    recoveries: what each intervention recovers of the real-world AP50, by its name
    corrected_domains: the domain in focus under every set of corrections, see `diagnostics.contributions`
    corrections: names of the corrections in these sets
    estimator: fitted on corrupted in-domain images, see `diagnostics.label_free`; None where it was not
        fitted
    squeezed: some images of each real-world domain with the detections in the squeezed images, by domain
    bursts: consecutive video frames and the detections in them, by domain, see `diagnostics.timeline`
    declined: the user turned the label-free estimate off
    """

    recoveries: dict[str, Recovery] = field(default_factory=dict)
    corrected_domains: dict[frozenset[str], Domain] = field(default_factory=dict)
    corrections: tuple[str, ...] = ()
    estimator: label_free.Estimator | None = None
    squeezed: dict[str, Domain] = field(default_factory=dict)
    bursts: dict[str, tuple[pd.DataFrame, pd.DataFrame]] = field(default_factory=dict)
    declined: bool = False


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
        """The confidence threshold in use: the given one, or the best in-domain; None where neither is known."""
        if self.conf is not None or self.in_domain.name not in self.sweeps:
            return self.conf
        return sweep.best_f_beta(self.sweeps[self.in_domain.name])[1]

    @property
    def shown_from(self) -> float:
        """The threshold in use, or the confidence from which detectors show detections by default."""
        return self.threshold if self.threshold is not None else label_free.SHOWN

    @property
    def embedded(self) -> bool:
        """Whether the images have embeddings."""
        return self.in_domain.image_embeddings.shape[1] > 0

    @cached_property
    def labelled_focus(self) -> Domain | None:
        """The labelled real-world domain in focus, see `focus_of`."""
        return focus_of(self.real_world)

    @property
    def focus(self) -> Domain | None:
        """The same, where the in-domain set has enough annotations to compare with."""
        return self.labelled_focus if len(self.in_domain.annotations) >= MIN_BOXES else None


def focus_of(real_world: Sequence[Domain]) -> Domain | None:
    """The real-world domain that the verdict is about: the lowest AP50 among those with enough annotations."""
    scored = [
        domain for domain in real_world if domain.labelled.any() and len(domain.annotations) >= MIN_BOXES
    ]
    return min(scored, key=ap50) if scored else None
