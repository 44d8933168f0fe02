"""inference.yaml: how to predict each real-world domain, for `shiftscope predict --from-report` and for
scripts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datasets.data_yaml import parse_yaml
from datasets.errors import InputError, cause_of
from diagnostics.deployment import Change, Deployment

FILE = "inference.yaml"
HEADER = """# How to predict each real-world domain with the detector of this report. Apply it with
#   shiftscope predict SOURCE --from-report {folder}
# or by hand: predict at imgsz with the lowest threshold of "classes", and drop what is below its class's own.
"""


@dataclass(frozen=True)
class InferenceSettings:
    """What inference.yaml says about one domain.

    domain: its name
    weights: the checkpoint; None where the report had none
    function: "package.module:function" where that is the detector; None otherwise
    change: image size, tiles, colours
    thresholds: confidence threshold by class name
    expected_f1, f1_before: see `Deployment`
    """

    domain: str
    weights: Path | None
    function: str | None
    change: Change
    thresholds: dict[str, float]
    expected_f1: float | None
    f1_before: float | None


def inference_text(
    folder: Path, weights: str | None, function: str | None, deployments: Iterable[Deployment]
) -> str:
    """The content of inference.yaml."""
    content = {
        "weights": weights,
        "detector": function,
        "domains": {deployment.domain: _entry(deployment) for deployment in deployments},
    }
    return HEADER.format(folder=folder) + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _entry(deployment: Deployment) -> dict[str, Any]:
    """One domain."""
    colours = deployment.change.colours
    return {
        "imgsz": deployment.change.imgsz,
        "tiles": deployment.change.tiles,
        "match_colours": None
        if colours is None
        else {"mean_bgr": list(colours[0]), "spread_bgr": list(colours[1])},
        "classes": dict(deployment.thresholds),
        "threshold_before": deployment.confidence,
        "f1_before": _rounded(deployment.f1_before),
        "f1_expected": _rounded(deployment.f1),
        "chosen_on": deployment.note or f"{deployment.images} images of {deployment.clips} clips",
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or value != value else round(value, 4)


def read_inference(folder: Path, domain: str | None) -> InferenceSettings:
    """Read inference.yaml of a report.

    Parameters
    ----------
    folder
        The report's folder.
    domain
        Which of its real-world domains; None where it has one only.

    Raises
    ------
    InputError
        The report has no such file or domain, or several domains and none is named.
    """
    path = folder / FILE
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give that of a report, with report.html and {FILE}")
    if not path.is_file():
        raise InputError(
            f"{folder}: has no {FILE}; give the folder of a report with a real-world domain, or make the "
            "report again"
        )
    content = parse_yaml(path)
    domains = content.get("domains")
    if not isinstance(domains, dict) or not domains:
        raise InputError(f"{path}: names no real-world domain; give a report with --real-world SOURCE")
    if domain is None and len(domains) > 1:
        raise InputError(
            f"{path}: has several domains: give --domain {' or --domain '.join(map(str, domains))}"
        )
    name = next(iter(domains)) if domain is None else domain
    if name not in domains:
        raise InputError(f"{path}: has no domain {name}; it has {', '.join(map(str, domains))}")
    try:
        return _read_entry(str(name), domains[name], content)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: domain {name}: {cause_of(error)}; make the report again") from None


def _read_entry(name: str, entry: dict[str, Any], content: dict[str, Any]) -> InferenceSettings:
    """One domain. Raises KeyError, TypeError or ValueError where something is missing."""
    colours = entry["match_colours"]
    matched = None
    if colours is not None:
        mean, spread = ([float(value) for value in colours[key]] for key in ("mean_bgr", "spread_bgr"))
        matched = (mean[0], mean[1], mean[2]), (spread[0], spread[1], spread[2])
    weights = content.get("weights")
    return InferenceSettings(
        name,
        Path(weights) if weights else None,
        content.get("detector"),
        Change(int(entry["imgsz"]), bool(entry["tiles"]), matched),
        {str(label): float(value) for label, value in entry["classes"].items()},
        entry["f1_expected"],
        entry["f1_before"],
    )
