"""Readable differences between domains: light, colour, sharpness, viewpoint, object size and density."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp, wasserstein_distance

from diagnostics.intervals import MIN_GROUPS
from diagnostics.significance import holm

# Factor -> the kind of shift it indicates, and its name in words.
FACTORS = {
    "brightness": ("appearance", "brightness"),
    "contrast": ("appearance", "contrast"),
    "saturation": ("appearance", "colour saturation"),
    "sharpness": ("appearance", "sharpness"),
    "top_light": ("viewpoint", "sky at the top of the image"),
    "texture_gradient": ("viewpoint", "texture squeezed towards a horizon"),
    "aspect": ("viewpoint", "shape of the objects (width over height)"),
    "position": ("viewpoint", "height of the objects in the image"),
    "size_px": ("scale", "object size in network pixels"),
    "density": ("context", "objects per image"),
}
IMAGE_FACTORS = ("brightness", "contrast", "saturation", "sharpness", "top_light", "texture_gradient")
# Medians and distances of fewer values than this are too noisy.
MIN_ANNOTATIONS = 20
# Effects are in in-domain standard deviations; two samples of one domain differ by up to this.
NOTABLE_EFFECT = 0.5


def box_factors(images: pd.DataFrame, boxes: pd.DataFrame, imgsz: int) -> pd.DataFrame:
    """Measure the factors of single boxes.

    Parameters
    ----------
    images
        Images with width and height in pixels.
    boxes
        Boxes of these images.
    imgsz
        Network input size in pixels.

    Returns
    -------
    DataFrame
        One row a box: image, size_px (side in network pixels), aspect (log2 of width over height), position
        (of the centre, 0 top to 1 bottom).
    """
    joined = boxes.merge(images[["image", "width", "height"]], on="image", how="left")
    width, height = joined["x2"] - joined["x1"], joined["y2"] - joined["y1"]
    scale = imgsz / joined[["width", "height"]].max(axis=1)
    return pd.DataFrame(
        {
            "image": joined["image"],
            "size_px": np.sqrt(np.maximum(width * height, 0)) * scale,
            "aspect": np.log2(np.maximum(width, 1e-6) / np.maximum(height, 1e-6)),
            "position": (joined["y1"] + joined["y2"]) / 2 / joined["height"],
        }
    )


def samples(
    images: pd.DataFrame, annotations: pd.DataFrame, *, empty: bool = True
) -> dict[str, pd.DataFrame]:
    """Collect the values of every factor with their groups.

    Parameters
    ----------
    images
        Images with statistics, group and labelled.
    annotations
        Annotations with the columns of `box_factors`.
    empty
        Images without an annotation count for the density. Where the annotations are those of some classes,
        such an image may be full of others.

    Returns
    -------
    dict of str to DataFrame
        Factor -> group, value.
    """
    result = {
        name: images[["group", name]].rename(columns={name: "value"})
        for name in IMAGE_FACTORS
        if name in images
    }
    # Unlabelled images of a partly labelled domain have no annotations, yet objects.
    counted = images[images["labelled"]] if images["labelled"].any() else images
    density = counted[["image", "group"]].assign(
        value=counted["image"].map(annotations["image"].value_counts()).fillna(0.0)
    )
    result["density"] = density.loc[empty | (density["value"] > 0), ["group", "value"]]
    grouped = annotations.merge(images[["image", "group"]], on="image", how="inner")
    for name in ("size_px", "aspect", "position"):
        result[name] = grouped[["group", name]].rename(columns={name: "value"})
    return result


def compare(in_domain: dict[str, pd.DataFrame], real_world: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Compare the factors of two domains.

    Parameters
    ----------
    in_domain, real_world
        Values of each factor, see `samples`.

    Returns
    -------
    DataFrame
        One row a factor that both domains have, largest effect first: name, kind, words, in_domain and
        real_world (medians), effect (Wasserstein distance in in-domain standard deviations) and p,
        Holm-adjusted over the factors. p is a Kolmogorov-Smirnov test on group medians, the only independent
        values; NaN below MIN_GROUPS groups on a side.
    """
    records = []
    for name, (kind, words) in FACTORS.items():
        first, second = in_domain.get(name), real_world.get(name)
        if first is None or second is None or min(len(first), len(second)) < MIN_ANNOTATIONS:
            continue
        spread = float(first["value"].std()) or float(pd.concat([first["value"], second["value"]]).std())
        if spread == 0:
            continue
        p = float("nan")
        medians = [part.groupby("group")["value"].median().to_numpy() for part in (first, second)]
        if min(map(len, medians)) >= MIN_GROUPS:
            p = float(ks_2samp(*medians).pvalue)
        records.append(
            {
                "name": name,
                "kind": kind,
                "words": words,
                "in_domain": float(first["value"].median()),
                "real_world": float(second["value"].median()),
                "effect": float(wasserstein_distance(first["value"], second["value"])) / spread,
                "p": p,
            }
        )
    table = pd.DataFrame(records, columns=["name", "kind", "words", "in_domain", "real_world", "effect", "p"])
    table["p"] = holm(table["p"].to_numpy(float))
    return table.sort_values("effect", ascending=False, ignore_index=True)
