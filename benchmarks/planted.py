"""Worlds with a planted cause: simulated detectors with a known cause of failure, and all report inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from benchmarks.simulated import make_domain
from diagnostics.counterfactuals import Recovery, ap50, recovery, size_factors
from diagnostics.domain import Domain

SEVERITIES = (1, 2, 3)
CLIPS, FRAMES = 20, 8
IMGSZ = 640
GOOD = {"recall": 0.85, "false_positive_rate": 0.4, "size_matters": True}


def converged_history(last: float) -> pd.DataFrame:
    """A training history that has levelled off at AP50 last, with a validation loss that falls to the end."""
    epochs = np.arange(1, 31)
    curve = last * (1 - np.exp(-epochs / 4))
    return pd.DataFrame({"epoch": epochs, "ap50": curve, "val_box_loss": 1 + 2 * np.exp(-epochs / 6)})


def rising_history(last: float) -> pd.DataFrame:
    """Six epochs of a training history that still rises steeply, up to AP50 last."""
    return pd.DataFrame(
        {"epoch": range(1, 7), "ap50": np.linspace(0.02, last, 6), "val_box_loss": np.linspace(3, 2, 6)}
    )


def overfitted_history(last: float) -> pd.DataFrame:
    """A training history whose validation loss is lowest after a third of the epochs and rises from there."""
    epochs = np.arange(1, 41)
    loss = 1 + np.abs(epochs - 13) / 13
    return pd.DataFrame({"epoch": epochs, "ap50": last * (1 - np.exp(-epochs / 4)), "val_box_loss": loss})


@dataclass(frozen=True)
class World:
    """The inputs of a report.

    causes: codes of the planted hypotheses; empty without a harmful one
    in_domain: the in-domain validation domain
    real_world: the real-world domain
    training: the training domain; None if it is withheld
    history: a row per epoch
    recoveries: intervention -> what it recovers of the real-world AP50
    """

    causes: tuple[str, ...]
    in_domain: Domain
    real_world: Domain
    training: Domain | None
    history: pd.DataFrame
    recoveries: dict[str, Recovery]


Plant = Callable[[dict[str, dict], int], None]


def plant_nothing(world: dict[str, dict], severity: int) -> None:
    """No difference but the random one."""


def plant_harmless_hue(world: dict[str, dict], severity: int) -> None:
    """Images and embeddings differ, the detector's results do not."""
    world["real_world"] |= {
        "embedding_shift": 1.5 * severity,
        "statistics": {"saturation": 0.3 + 0.1 * severity},
    }


def plant_underfit(world: dict[str, dict], severity: int) -> None:
    """The detector misses most objects even in its training images."""
    recall = (0.45, 0.35, 0.2)[severity - 1]
    for name in ("in_domain", "real_world", "training"):
        world[name]["recall"] = recall
    world["history"] = {"make": rising_history}


def plant_overfit(world: dict[str, dict], severity: int) -> None:
    """The detector finds every object in its training images and fewer elsewhere."""
    world["training"]["recall"] = 1.0
    for name in ("in_domain", "real_world"):
        world[name]["recall"] = (0.78, 0.6, 0.45)[severity - 1]
    world["history"] = {"make": overfitted_history}


def plant_threshold(world: dict[str, dict], severity: int) -> None:
    """Real-world confidences are lower; their ranking is the same."""
    world["real_world"]["confidence_shift"] = -(0.27, 0.36, 0.46)[severity - 1]


def plant_scale(world: dict[str, dict], severity: int) -> None:
    """Objects are smaller in the real world; nothing else differs."""
    factor = (0.65, 0.45, 0.28)[severity - 1]
    world["real_world"]["sides"] = (20 * factor, 60 * factor)


def plant_label_protocol(world: dict[str, dict], severity: int) -> None:
    """Real-world annotations are larger around the same objects."""
    world["real_world"]["label_margin"] = (1.45, 1.7, 2.0)[severity - 1]


def plant_label_error(world: dict[str, dict], severity: int) -> None:
    """Some real-world objects have no annotation, and some annotations have no object."""
    share = (0.15, 0.3, 0.5)[severity - 1]
    world["real_world"] |= {"label_drop": share, "label_extra": share / 2}


def plant_leakage(world: dict[str, dict], severity: int) -> None:
    """Most validation images are training images; on the others recall is as low as in the real world."""
    world["in_domain"]["copied"] = (0.5, 0.7, 0.9)[severity - 1]
    world["real_world"]["recall"] = world["in_domain"]["clean_rate"] = (0.65, 0.45, 0.25)[severity - 1]


def plant_viewpoint(world: dict[str, dict], severity: int) -> None:
    """A viewpoint that is not in the training images."""
    world["real_world"]["recall"] = world["real_world"].get("recall", 0.85) * (0.8, 0.55, 0.25)[severity - 1]
    world["real_world"]["embedding_shift"] = 2.0 * severity
    world["real_world"].setdefault("statistics", {})["texture_gradient"] = 0.5 - (0.3, 0.6, 1.0)[severity - 1]


def plant_appearance(world: dict[str, dict], severity: int) -> None:
    """Darker images; matching their tone to the in-domain images recovers a third of the loss."""
    kept = (0.8, 0.55, 0.25)[severity - 1]
    before = world["real_world"].get("recall", 0.85)
    world["real_world"]["recall"] = before * kept
    world["toned"] = {"recall": before * (kept + (1 - kept) / 3)}
    world["real_world"]["embedding_shift"] = 2.0 * severity
    world["real_world"].setdefault("statistics", {})["brightness"] = 0.5 - (0.1, 0.2, 0.3)[severity - 1]


PLANTS: dict[str, Plant] = {
    "none": plant_nothing,
    "harmless": plant_harmless_hue,
    "underfit": plant_underfit,
    "overfit": plant_overfit,
    "threshold": plant_threshold,
    "scale": plant_scale,
    "label_protocol": plant_label_protocol,
    "label_error": plant_label_error,
    "leakage": plant_leakage,
    "viewpoint": plant_viewpoint,
    "appearance": plant_appearance,
}
# The hypothesis that a report should name. A harmless difference is no failure; both kinds of shift are one
# hypothesis.
CODE = {name: name for name in PLANTS} | {
    "harmless": "none",
    "viewpoint": "domain_shift",
    "appearance": "domain_shift",
}
MIXED = (
    ("scale", "viewpoint"),
    ("threshold", "viewpoint"),
    ("label_protocol", "viewpoint"),
    ("underfit", "viewpoint"),
    ("leakage", "viewpoint"),
    ("scale", "threshold"),
)


def build(plants: tuple[str, ...], severity: int, seed: int, *, clips: int = CLIPS) -> World:
    """Simulate a world with planted causes, and the interventions of a report.

    Parameters
    ----------
    plants
        Keys of PLANTS.
    severity
        One of SEVERITIES, for all plants.
    seed
        Seed of everything random.
    clips
        Number of clips in each domain.

    Returns
    -------
    World
    """
    spec: dict[str, dict] = {name: dict(GOOD) for name in ("in_domain", "real_world", "training")}
    spec["history"] = {"make": converged_history}
    for name in plants:
        PLANTS[name](spec, severity)
    copied, clean = spec["in_domain"].pop("copied", 0.0), spec["in_domain"].pop("clean_rate", None)
    shape = {"clips": clips, "frames": FRAMES}
    seeds = np.random.SeedSequence(seed).generate_state(4)
    training = make_domain(
        "training", role="training", clip_names="t", seed=int(seeds[0]), **shape, **spec["training"]
    )
    in_domain = make_domain("in_domain", seed=int(seeds[1]), **shape, **spec["in_domain"])
    if copied:
        in_domain = with_copies(in_domain, training, copied, clean, int(seeds[3]))

    def real_world(**changes: object) -> Domain:
        return make_domain(
            "overhead",
            role="real_world",
            clip_names="w",
            seed=int(seeds[2]),
            **shape,
            **(spec["real_world"] | changes),
        )

    real, in_domain_ap50 = real_world(), ap50(in_domain)
    interventions = {
        f"imgsz {round(IMGSZ * factor)}": (real_world(zoom=factor), factor)
        for factor in size_factors(in_domain, real)
    } | {"colours": (real_world(**spec.get("toned", {})), 1.0)}
    recoveries = {
        name: recovery(name, real, after, in_domain_ap50, size_factor=factor, seed=seed)
        for name, (after, factor) in interventions.items()
    }
    history = spec["history"]["make"](in_domain_ap50)
    causes = tuple(dict.fromkeys(CODE[name] for name in plants if CODE[name] != "none"))
    return World(causes, in_domain, real, training, history, recoveries)


def with_copies(
    in_domain: Domain, training: Domain, share: float, clean_rate: float | None, seed: int
) -> Domain:
    """A copy of in_domain that shares images with training.

    A share of the images get the fingerprints of training images; in the others detections are removed at
    random until recall is clean_rate.
    """
    images = in_domain.images.copy()
    count = int(len(images) * share)
    images.loc[: count - 1, "fingerprint"] = training.images["fingerprint"].iloc[:count].to_numpy()
    clean = in_domain.detections["image"].isin(set(images["image"].iloc[count:])).to_numpy()
    drawn = np.random.default_rng(seed).random(len(clean)) < (clean_rate or 1.0) / GOOD["recall"]
    kept = ~clean | drawn
    return replace(
        in_domain,
        images=images,
        detections=in_domain.detections[kept].reset_index(drop=True),
        detection_embeddings=in_domain.detection_embeddings[kept],
    )
