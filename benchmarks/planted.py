"""Worlds with a planted cause: simulated detectors whose failure is known, with everything a report would have measured about them."""

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
GOOD = {"hit_rate": 0.85, "false_rate": 0.4, "size_matters": True}


def levelled(last: float) -> pd.DataFrame:
    """A learning curve that has levelled off, with losses that fell to the end."""
    epochs = np.arange(1, 31)
    curve = last * (1 - np.exp(-epochs / 4))
    return pd.DataFrame({"epoch": epochs, "ap50": curve, "val_box_loss": 1 + 2 * np.exp(-epochs / 6)})


def rising(last: float) -> pd.DataFrame:
    """Six epochs of a curve in its steep part."""
    return pd.DataFrame(
        {"epoch": range(1, 7), "ap50": np.linspace(0.02, last, 6), "val_box_loss": np.linspace(3, 2, 6)}
    )


def turned(last: float) -> pd.DataFrame:
    """A curve whose validation loss was lowest at a third and rose since."""
    epochs = np.arange(1, 41)
    loss = 1 + np.abs(epochs - 13) / 13
    return pd.DataFrame({"epoch": epochs, "ap50": last * (1 - np.exp(-epochs / 4)), "val_box_loss": loss})


@dataclass(frozen=True)
class World:
    """What a report starts from. causes: codes of what was planted, () where nothing harmful was."""

    causes: tuple[str, ...]
    in_domain: Domain
    real_world: Domain
    training: Domain | None
    history: pd.DataFrame
    recoveries: dict[str, Recovery]


Plant = Callable[[dict[str, dict], int], None]


def plant_nothing(world: dict[str, dict], severity: int) -> None:
    """Not even another look."""


def plant_harmless_hue(world: dict[str, dict], severity: int) -> None:
    """Images and embeddings differ, results do not."""
    world["real_world"] |= {
        "embedding_shift": 1.5 * severity,
        "statistics": {"saturation": 0.3 + 0.1 * severity},
    }


def plant_underfit(world: dict[str, dict], severity: int) -> None:
    """It has not learned its own training images."""
    rate = (0.45, 0.35, 0.2)[severity - 1]
    for name in ("in_domain", "real_world", "training"):
        world[name]["hit_rate"] = rate
    world["history"] = {"make": rising}


def plant_overfit(world: dict[str, dict], severity: int) -> None:
    """It knows its training images by heart and nothing else."""
    world["training"]["hit_rate"] = 1.0
    for name in ("in_domain", "real_world"):
        world[name]["hit_rate"] = (0.78, 0.6, 0.45)[severity - 1]
    world["history"] = {"make": turned}


def plant_threshold(world: dict[str, dict], severity: int) -> None:
    """It ranks as well in the real world, but states lower confidences."""
    world["real_world"]["confidence_shift"] = -(0.27, 0.36, 0.46)[severity - 1]


def plant_scale(world: dict[str, dict], severity: int) -> None:
    """Objects are smaller in the real world, and nothing else is different."""
    factor = (0.65, 0.45, 0.28)[severity - 1]
    world["real_world"]["sides"] = (20 * factor, 60 * factor)


def plant_label_protocol(world: dict[str, dict], severity: int) -> None:
    """Annotators in the real world draw larger boxes around the same objects."""
    world["real_world"]["label_margin"] = (1.45, 1.7, 2.0)[severity - 1]


def plant_label_error(world: dict[str, dict], severity: int) -> None:
    """Annotators in the real world leave objects out and box things that are none."""
    share = (0.15, 0.3, 0.5)[severity - 1]
    world["real_world"] |= {"label_drop": share, "label_extra": share / 2}


def plant_leakage(world: dict[str, dict], severity: int) -> None:
    """Most validation images also stand in training; on new ones it is as weak in-domain as in the real world."""
    world["in_domain"]["copied"] = (0.5, 0.7, 0.9)[severity - 1]
    world["real_world"]["hit_rate"] = world["in_domain"]["clean_rate"] = (0.65, 0.45, 0.25)[severity - 1]


def plant_viewpoint(world: dict[str, dict], severity: int) -> None:
    """Another viewpoint that it has never seen."""
    world["real_world"]["hit_rate"] = (
        world["real_world"].get("hit_rate", 0.85) * (0.8, 0.55, 0.25)[severity - 1]
    )
    world["real_world"]["embedding_shift"] = 2.0 * severity
    world["real_world"].setdefault("statistics", {})["texture_gradient"] = 0.5 - (0.3, 0.6, 1.0)[severity - 1]


def plant_appearance(world: dict[str, dict], severity: int) -> None:
    """Darker images; matching their tone to home recovers a third of what is lost."""
    lost = (0.8, 0.55, 0.25)[severity - 1]
    before = world["real_world"].get("hit_rate", 0.85)
    world["real_world"]["hit_rate"] = before * lost
    world["toned"] = {"hit_rate": before * (lost + (1 - lost) / 3)}
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
# What a report should name. A harmless difference is no failure; a shift is one hypothesis, whatever its kind.
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
    """A world with these plants at one severity, and the interventions that a report would take."""
    spec: dict[str, dict] = {name: dict(GOOD) for name in ("in_domain", "real_world", "training")}
    spec["history"] = {"make": levelled}
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
    looks = {
        f"imgsz {round(IMGSZ * factor)}": (real_world(zoom=factor), factor)
        for factor in size_factors(in_domain, real)
    } | {"colours": (real_world(**spec.get("toned", {})), 1.0)}
    recoveries = {
        name: recovery(name, real, seen, in_domain_ap50, size_factor=factor, seed=seed)
        for name, (seen, factor) in looks.items()
    }
    history = spec["history"]["make"](in_domain_ap50)
    causes = tuple(dict.fromkeys(CODE[name] for name in plants if CODE[name] != "none"))
    return World(causes, in_domain, real, training, history, recoveries)


def with_copies(
    in_domain: Domain, training: Domain, share: float, clean_rate: float | None, seed: int
) -> Domain:
    """Home with a share of its images copied from training; on the others true positives are thinned to clean_rate."""
    images = in_domain.images.copy()
    count = int(len(images) * share)
    images.loc[: count - 1, "fingerprint"] = training.images["fingerprint"].iloc[:count].to_numpy()
    rest = in_domain.detections["image"].isin(set(images["image"].iloc[count:])).to_numpy()
    keep = np.random.default_rng(seed).random(len(rest)) < (clean_rate or 1.0) / GOOD["hit_rate"]
    kept = ~rest | keep
    return replace(
        in_domain,
        images=images,
        detections=in_domain.detections[kept].reset_index(drop=True),
        detection_embeddings=in_domain.detection_embeddings[kept],
    )
