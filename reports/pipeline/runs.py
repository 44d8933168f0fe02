"""Loading runs and their detectors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.errors import InputError
from datasets.naming import domain_name
from reports.options import NextOptions, ReportOptions
from train.environment import runs_folder, trust_checkpoints
from train.history import read_history
from train.other_detectors import FunctionDetector, OnnxDetector, open_function
from train.remembered import RememberedDetector, recall, remember
from train.run import Run, open_run, open_weights

if TYPE_CHECKING:
    from train.forward import Detector
    from train.remembered import AnyDetector


def load_run(options: ReportOptions) -> Run | None:
    """The run or the bare weights that the options name; None where only predictions are given. Raises
    InputError.
    """
    if options.detector is not None:
        if options.run is not None or options.weights is not None:
            raise InputError("--detector stands in the place of --run and --weights; give one of them")
        return open_function(options.detector)
    if options.run is not None:
        run = open_run(options.run)
        return replace(run, history=read_history(options.history)) if options.history is not None else run
    return open_weights(options.weights, options.history) if options.weights is not None else None


def open_earlier_run(place: Path) -> Run:
    """A run folder or a checkpoint. Raises InputError."""
    return open_weights(place, None) if place.is_file() else open_run(place)


# Six parameters: what to load, and how; all but the first have a default.
def load_detector(
    weights: Path,
    *,
    function: str | None = None,
    device: str | None = None,
    batch: int | None = None,
    trust: bool = False,
    ray: str | None = None,
) -> AnyDetector:
    """A detector, ready for inference.

    function: "package.module:function" instead of weights. device, batch: see `train.forward.Detector`.
    trust: load a checkpoint that the restricted loader refuses. ray: address of a cluster that predicts, see
    `reports.pipeline.cluster.ClusterDetector`.
    """
    if ray is not None and (function is not None or weights.suffix == ".onnx"):
        raise InputError("--ray distributes checkpoints of Ultralytics; leave it out for another detector")
    if function is not None:
        return FunctionDetector(function, batch=batch)
    if weights.suffix == ".onnx":
        return OnnxDetector(weights)
    if trust:
        trust_checkpoints()
    if ray is None and batch is None and (facts := recall(weights, device, runs_folder())) is not None:
        return RememberedDetector(weights, facts, lambda: _load(weights, device, batch))
    if ray is not None:
        from reports.pipeline.cluster import ClusterDetector

        return ClusterDetector(weights, address=ray, device=device, batch=batch, trust=trust)
    return _load(weights, device, batch)


def _load(weights: Path, device: str | None, batch: int | None) -> Detector:
    """The checkpoint itself. Its libraries take seconds to import, so they are imported here."""
    from train.forward import Detector

    detector = Detector(weights, device=device, batch=batch)
    remember(detector, device, runs_folder())
    return detector


MAX_NAME = 120


def report_name(options: ReportOptions | NextOptions) -> str:
    """Name of a report's folder: the run and the real-world domains."""
    named = options.run.name if options.run else options.weights.stem if options.weights else ""
    subject = named or (options.detector.replace(":", ".") if options.detector else "predictions")
    domains = [name or domain_name(source) for name, source in options.real_world]
    return "-".join([subject, *(["vs", *domains] if domains else [])])[:MAX_NAME]
